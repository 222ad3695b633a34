"""The search for LongRoPE's factors: candidates evolve, and the perplexity on long texts selects.

How much each pair should be slowed down, no formula says. So LongRoPE tries: it starts from what the formulas
say and from random changes of it, keeps the best, changes and mixes them, and goes on. A candidate is one
factor λ for each pair, in steps of 0.01 from 1 to 1.25 s for a text s times the original context, never
falling from one pair to the next: slow pairs are stretched at least as much as fast ones. That rule makes the
space small enough to be searched.

The same search extends a model that was extended before, starting from its factors, and finds the short
factors of a model that has long ones. These are the steps from 4k to 2048k:

    search for 256k → fine-tune → search for 2048k, from there → search for 4k: the short factors

Source: Ding et al. 2024, LongRoPE (arXiv 2402.13753), sec. 3.2, 3.3 and alg. 1;
`evolution/algorithms/dim_mono.py` of its published code.
"""

import hashlib
import json
import math
import os
import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import accumulate
from pathlib import Path
from typing import Any, NamedTuple

import torch
from tqdm import tqdm

from tinyphi.config import PhiConfig
from tinyphi.errors import InputError
from tinyphi.files import write_text
from tinyphi.longcontext.extension import METHODS, Extension, extended
from tinyphi.longcontext.perplexity import surprise
from tinyphi.model.transformer import Phi3

START_TOKENS = (0, 1, 2, 4, 8, 12, 16, 20, 24, 28, 32, 64, 128, 256)  # the paper's choices for n̂
BASELINES = ("PI", "NTK", "YaRN")  # what the population starts from, and what it has to beat
SHORT_BASELINES = {"as trained": 0.0, "halfway": 0.5, "long": 1.0}  # the same for short factors: powers of λ
# The state of a real search, for `replay`; docs/long_context.md has the command that made it.
SMOLLM2_12K = Path(__file__).with_name("smollm2_12k.json")
_STEPS = 100  # in which 1 is divided: factors are searched in hundredths
_WIDEST = 1.25  # factors go up to so many times s
_TRIES = 100  # to make a candidate that is new

Fitness = Callable[[Extension], float]  # less is better


@dataclass(frozen=True)
class Sizes:
    """How large the search is; the defaults are the paper's, 1344 candidates in all."""

    population: int = 64  # candidates of the first generation
    generations: int = 40  # after the first
    parents: int = 32  # the best ones, which stay and from which the next are made
    mutations: int = 16  # new candidates in each generation: a parent, changed at random
    crossovers: int = 16  # and two parents, mixed
    probability: float = 0.3  # with which each factor is changed, or taken from the other parent
    start_tokens: tuple[int, ...] = START_TOKENS  # choices for n̂; (0,) for a model to be saved

    def __post_init__(self) -> None:
        least = {"population": 2, "parents": 2, "generations": 0, "mutations": 0, "crossovers": 0}
        for name, fewest in least.items():
            count = getattr(self, name)
            if not isinstance(count, int) or count < fewest:
                raise InputError(f"{name} is {count!r}; it must be a whole number of at least {fewest}.")
        if not isinstance(self.probability, int | float) or not 0 < self.probability <= 1:
            raise InputError(f"probability is {self.probability!r}; it must be above 0 and at most 1.")
        if not self.start_tokens or not all(isinstance(n, int) and n >= 0 for n in self.start_tokens):
            raise InputError(
                f"start_tokens is {self.start_tokens!r}; give one or more whole numbers from 0, such as (0,)."
            )


class Judged(NamedTuple):
    """An extension and what the fitness said of it."""

    extension: Extension
    perplexity: float


@dataclass(frozen=True)
class SearchResult:
    """What a search found. Print it for a table; `show.longrope_search` draws it."""

    config: PhiConfig  # that was extended
    length: int  # tokens it was extended to
    baselines: dict[str, Judged]  # what the search starts from, as it is defined, attention factor included
    generations: list[list[Judged]]  # the new candidates of each

    @property
    def best(self) -> Judged:
        """The best candidate of all generations; of equal ones, the first."""
        everyone = (judged for generation in self.generations for judged in generation)
        return min(everyone, key=lambda judged: judged.perplexity)

    def config_with(self, config: PhiConfig) -> PhiConfig:
        """`config` with what was found as its long or short factors; saved, it opens in transformers.

        With long factors only, it turns as it did up to the original context. But the attention factor is on
        there too, as in all LongRoPE models: short texts change a little.
        Raises InputError if the best candidate has start tokens, which no config.json can express.
        """
        if self.best.extension.start_tokens:
            raise InputError(
                f"The best candidate keeps {self.best.extension.start_tokens} start tokens, which a "
                "config.json cannot say. Search with Sizes(start_tokens=(0,)), as Phi-3's makers did."
            )
        if self.length <= self.config.original_max_position_embeddings:
            return replace(config, short_factor=self.best.extension.factors)
        original = self.config.original_max_position_embeddings
        return _deployed(config, original, self.length, self.best.extension.factors)

    def __str__(self) -> str:
        lines = [f"{name:14}{judged.perplexity:10.4f}" for name, judged in self.baselines.items()]
        for number, generation in enumerate(self.generations):
            best = min(judged.perplexity for judged in generation) if generation else math.nan
            lines.append(f"generation {number:<3}{best:10.4f}  the best of {len(generation)} new candidates")
        return "\n".join([*lines, f"{'found':14}{self.best.perplexity:10.4f}"])


class PerplexityFitness:
    """The perplexity of a model that runs with an extension, on the first `length` tokens of some texts.

    texts: ids of each, none shorter than `length`. They are read one by one, each in a single pass.
    Raises InputError for no text, or a short one.
    """

    def __init__(self, model: Phi3, texts: Sequence[Sequence[int]], length: int) -> None:
        shortest = min(map(len, texts), default=0)
        if shortest < max(length, 2):
            raise InputError(
                f"{len(texts)} texts, the shortest of {shortest} tokens: give at least one, each of {length} "
                "tokens or more."
            )
        self._model = model
        self._rows = [torch.tensor([text[:length]], device=model.norm.weight.device) for text in texts]

    def __call__(self, extension: Extension) -> float:
        with extended(self._model, extension):
            surprises = torch.cat([surprise(self._model, row)[0, 1:] for row in self._rows])
        return math.exp(min(float(surprises.double().mean()), 700.0))

    @property
    def fingerprint(self) -> str:
        """Names the model and the texts, so that a search is not resumed with others."""
        known = [repr(self._model.config), str(self._model)]  # formats of quantized matrices, too
        for name, weight in self._model.named_parameters():
            known.append(f"{name} {weight.dtype} {weight.detach().flatten()[:8].tolist()}")
        known += [str(row.tolist()) for row in self._rows]
        return hashlib.sha256("\n".join(known).encode()).hexdigest()[:16]


def search(
    config: PhiConfig,
    length: int,
    fitness: Fitness,
    sizes: Sizes | None = None,
    seed: int = 0,
    state: str | os.PathLike[str] | None = None,
) -> SearchResult:
    """Find factors for texts of `length` tokens, by evolution.

    config: of the model; s is `length` divided by its original context. If it has long factors already, the
        search goes on from there: to a `length` beyond its context for new long factors, or to one within its
        original context for short ones.
    fitness: of an `Extension`, less is better; asked once for each candidate. The real one is
        `PerplexityFitness`. Candidates have LongRoPE's attention factor for this length.
    state: a JSON file with all that was asked so far, written after each answer. Where it is there already,
        the search is led through it and goes on, to the same result as without a break. So Ctrl-C loses only
        the running evaluation, and more generations can be added later.
    Raises InputError for a length that the model reads as it is, for a fitness that is not a finite number,
    and for a state file of another search.
    """
    starts = _starting_points(config, length)
    sizes = sizes or Sizes()
    total = len(starts) + sizes.population + sizes.generations * (sizes.mutations + sizes.crossovers)
    with tqdm(total=total, desc="search", unit="candidate", leave=False) as bar:
        judge = _Judge(config, length, fitness, sizes, seed, None if state is None else Path(state), bar)
        baselines = {name: judge.baseline(name, extension) for name, extension in starts.items()}
        nursery = _Nursery(config, length, sizes, seed)
        population = [(one, judge.candidate(one)) for one in nursery.first(list(starts.values()))]
        generations = [[judged for _, judged in population]]
        for _ in range(sizes.generations):
            ranked = sorted(population, key=lambda member: member[1].perplexity)[: sizes.parents]
            children = [(one, judge.candidate(one)) for one in nursery.next([one for one, _ in ranked])]
            population = [*ranked, *children]
            generations.append([judged for _, judged in children])
    return SearchResult(config, length, baselines, generations)


def replay(state: str | os.PathLike[str]) -> SearchResult:
    """The result of a finished search from its state file, without a model.

    Raises InputError for a file that is missing, damaged or of a search that is not finished.
    """
    header = _read(Path(state))["search"]

    def unfinished(extension: Extension) -> float:
        raise InputError(f"The search in {state} is not finished; run it again with the same arguments.")

    try:
        unfinished.fingerprint = header["fitness"]  # type: ignore[attr-defined]
        config = PhiConfig.from_hugging_face(header["config"])
        sizes = Sizes(**header["sizes"] | {"start_tokens": tuple(header["sizes"]["start_tokens"])})
        return search(config, header["length"], unfinished, sizes, header["seed"], state)
    except (KeyError, TypeError) as error:
        raise _damaged(Path(state), error) from error


def _starting_points(config: PhiConfig, length: int) -> dict[str, Extension]:
    """What the population starts from, by name."""
    original, before = config.original_max_position_embeddings, config.long_factor
    reach = original if before is None else config.max_position_embeddings
    if isinstance(length, int) and length > reach:
        goal = {name: METHODS[name](config, length) for name in BASELINES}
        if before is None:
            return goal
        longer = replace(config, original_max_position_embeddings=reach)
        more = {name: METHODS[name](longer, length).factors for name in BASELINES}
        products = {name: tuple(a * b for a, b in zip(before, more[name], strict=True)) for name in BASELINES}
        return {name: replace(goal[name], factors=products[name]) for name in BASELINES}
    if isinstance(length, int) and before is not None and 2 <= length <= original:
        stretch = config.attention_factor_of(long_factors=False)
        powers = SHORT_BASELINES.items()
        return {name: Extension(tuple(f**power for f in before), stretch) for name, power in powers}
    short = "" if before is None else f", or one of at most {original} to find short factors"
    raise InputError(
        f"length is {length!r}, but the model reads {reach} tokens as it is; give a larger number{short}."
    )


class _Candidate(NamedTuple):
    factors: tuple[int, ...]  # λ (r) in hundredths, never falling
    start_tokens: int


class _Nursery:
    """Makes candidates, none twice. It depends on the seed and on the parents alone."""

    def __init__(self, config: PhiConfig, length: int, sizes: Sizes, seed: int) -> None:
        self._sizes = sizes
        longest = length if config.long_factor is None else max(length, config.max_position_embeddings)
        self._largest = int(_WIDEST * _STEPS * longest / config.original_max_position_embeddings)
        self._random = random.Random(seed)
        self._made: set[_Candidate] = set()

    def first(self, starts: list[Extension]) -> list[_Candidate]:
        """The starting points, and mutations of them in turn."""
        sources = list(dict.fromkeys(map(self._rounded, starts)))[: self._sizes.population]
        self._made.update(sources)
        left = self._sizes.population - len(sources)
        return sources + self._known(self._mutated(sources[place % len(sources)]) for place in range(left))

    def next(self, parents: list[_Candidate]) -> list[_Candidate]:
        """Mutations and crossovers of the parents, which are ranked: the best first."""
        draw, sizes = self._random, self._sizes
        mutated = self._known(self._mutated(draw.choice(parents)) for _ in range(sizes.mutations))
        couples = sizes.crossovers if len(parents) > 1 else 0
        pairs = (sorted(draw.sample(range(len(parents)), 2)) for _ in range(couples))
        return mutated + self._known(self._crossed(parents[one], parents[two]) for one, two in pairs)

    def _rounded(self, extension: Extension) -> _Candidate:
        """The nearest candidate. (Factors of a model need not keep the rules.)"""
        rounded = (round(_STEPS * factor) for factor in extension.factors)
        allowed = (min(max(_STEPS, factor), self._largest) for factor in rounded)
        return _Candidate(tuple(accumulate(allowed, max)), self._sizes.start_tokens[0])

    def _mutated(self, parent: _Candidate) -> _Candidate | None:
        """Each factor is, with the probability, drawn anew between those of its neighbours."""
        for _ in range(_TRIES):
            factors, start_tokens = [_STEPS, *parent.factors, self._largest], parent.start_tokens
            for pair in range(1, len(factors) - 1):
                if self._random.random() < self._sizes.probability:
                    factors[pair] = self._random.randint(factors[pair - 1], factors[pair + 1])
            if self._random.random() < self._sizes.probability:
                start_tokens = self._random.choice(self._sizes.start_tokens)
            if (child := self._new(factors[1:-1], start_tokens)) is not None:
                return child
        return None

    def _crossed(self, better: _Candidate, other: _Candidate) -> _Candidate | None:
        """The better parent, with some factors of the other; or a mutation of it, where all mixtures fall."""
        for _ in range(_TRIES):
            taken = [self._random.random() < self._sizes.probability for _ in range(len(better.factors) + 1)]
            pairs = zip(taken, better.factors, other.factors, strict=False)
            factors = [theirs if take else mine for take, mine, theirs in pairs]
            start_tokens = other.start_tokens if taken[-1] else better.start_tokens
            if (child := self._new(factors, start_tokens)) is not None:
                return child
        return self._mutated(better)

    def _new(self, factors: list[int], start_tokens: int) -> _Candidate | None:
        child = _Candidate(tuple(factors), start_tokens)
        if child in self._made or factors != sorted(factors):
            return None
        self._made.add(child)
        return child

    @staticmethod
    def _known(children: Iterable[_Candidate | None]) -> list[_Candidate]:
        return [child for child in children if child is not None]  # None: nothing new was found any more


class _Judge:
    """Asks the fitness, and remembers every answer, in the state file too."""

    def __init__(
        self,
        config: PhiConfig,
        length: int,
        fitness: Fitness,
        sizes: Sizes,
        seed: int,
        path: Path | None,
        bar: "tqdm[Any]",
    ) -> None:
        self._fitness, self._path, self._bar = fitness, path, bar
        self._attention_factor = _attention_factor(config, length)
        self._header = {
            "fitness": getattr(fitness, "fingerprint", ""),
            "config": config.to_hugging_face(),
            "length": length,
            "sizes": asdict(sizes) | {"start_tokens": list(sizes.start_tokens)},
            "seed": seed,
        }
        self._baselines: dict[str, float] = {}
        self._answers: dict[_Candidate, float] = {}
        if path is not None and path.exists():
            self._load(path)
        self._save()  # so that a file that cannot be written is noticed before the work

    def baseline(self, name: str, extension: Extension) -> Judged:
        if name not in self._baselines:
            self._baselines[name] = self._ask(extension)
            self._save()
        self._bar.update()
        return Judged(extension, self._baselines[name])

    def candidate(self, candidate: _Candidate) -> Judged:
        factors = tuple(factor / _STEPS for factor in candidate.factors)
        extension = Extension(factors, self._attention_factor, candidate.start_tokens)
        if candidate not in self._answers:
            self._answers[candidate] = self._ask(extension)
            self._save()
        self._bar.update()
        self._bar.set_postfix(best=f"{min(self._answers.values()):.4f}", refresh=False)
        return Judged(extension, self._answers[candidate])

    def _ask(self, extension: Extension) -> float:
        answer = self._fitness(extension)
        if not math.isfinite(answer):
            raise InputError(f"The fitness of {extension} is {answer}; it must be a finite number.")
        return float(answer)

    def _load(self, path: Path) -> None:
        content = _read(path)
        try:
            for name in ("fitness", "config", "length"):
                if content["search"][name] != self._header[name]:
                    raise InputError(
                        f"{path} holds a search with another {name}. Name another state file, or delete it."
                    )
            self._baselines = {name: float(answer) for name, answer in content["baselines"].items()}
            self._answers = {
                _Candidate(tuple(factors), start_tokens): float(answer)
                for factors, start_tokens, answer in content["evaluated"]
            }
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise _damaged(path, error) from error

    def _save(self) -> None:
        if self._path is None:
            return
        lines = ",\n".join(
            json.dumps([one.factors, one.start_tokens, answer]) for one, answer in self._answers.items()
        )
        head, baselines = json.dumps(self._header), json.dumps(self._baselines)
        text = f'{{"search": {head},\n"baselines": {baselines},\n"evaluated": [\n{lines}\n]}}\n'
        try:
            write_text(self._path, text)
        except OSError as error:
            raise InputError(
                f"The state of the search cannot be written to {self._path}: {error}."
            ) from error


def _attention_factor(config: PhiConfig, length: int) -> float:
    """That of all candidates: LongRoPE's for the length, or what the model has for short texts."""
    original = config.original_max_position_embeddings
    if length <= original:
        return config.attention_factor_of(long_factors=False)
    return _deployed(config, original, length, (1.0,) * (config.rotary_dim // 2)).attention_factor


def _deployed(config: PhiConfig, original: int, length: int, factors: tuple[float, ...]) -> PhiConfig:
    """The configuration that has `factors` beyond the original context."""
    return replace(
        config,
        original_max_position_embeddings=original,
        max_position_embeddings=length,
        short_factor=config.short_factor or (1.0,) * len(factors),
        long_factor=factors,
        short_mscale=None,
        long_mscale=None,
    )


def _read(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise _damaged(path, error) from error
    if not isinstance(content, dict) or not isinstance(content.get("search"), dict):
        raise _damaged(path, "not a search")
    return content


def _damaged(path: Path, error: object) -> InputError:
    return InputError(f"{path} is not the state of a search ({error}). Name another file, or delete it.")
