"""tinyphi-nano, from nothing to an aligned model, by the stages of the Phi-3 report.

    tokenizer   2,037 pieces from the texts below, and Phi-3's special tokens
    phase1      general text, filtered web, pages to look things up in: words, grammar, looking back
    phase2      a textbook of one small world, stories, more such pages: knowledge and skills
    long        LongRoPE factors by search, then long texts: 256 → 2,048 tokens
    sft         conversations: questions get answers, and answers end
    dpo         pairs of answers: refuse what harms, and only that

Each stage is a directory which `tinyphi.load` opens, and starts where the one before it ended. Sources:
Phi-3 technical report (arXiv 2404.14219), sec. 2 and 3; LongRoPE (arXiv 2402.13753); DPO (arXiv 2305.18290).
"""

import json
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

import tinyphi
from tinyphi.config import PhiConfig
from tinyphi.data.general import easiest, general_passages
from tinyphi.data.packing import (
    Batch,
    Example,
    Row,
    Rows,
    chat_example,
    packed,
    padded,
    partly_example,
    text_example,
    wrapped,
)
from tinyphi.data.synthetic.conversations import conversation, preference, turns
from tinyphi.data.synthetic.lessons import lesson, memory_page
from tinyphi.data.synthetic.lookup import Part, belongings_page, lookup_page, named_page
from tinyphi.data.synthetic.stories import story
from tinyphi.data.synthetic.web import web_page
from tinyphi.data.synthetic.world import World
from tinyphi.files import write_text
from tinyphi.longcontext.search import PerplexityFitness, Sizes, search
from tinyphi.model.transformer import Phi3
from tinyphi.quant.quantize import quantize
from tinyphi.tokenizer import Tokenizer
from tinyphi.tokenizer.train import train_sentencepiece
from tinyphi.train.initial import start_alike
from tinyphi.train.log import LogRow
from tinyphi.train.loop import Batches, Objective, Plan, Trainer, TrainingBatch
from tinyphi.train.losses import (
    PairBatch,
    next_token_objective,
    preference_objective,
    reference_log_probabilities,
)

SHORT, LONG = 256, 2048  # tokens: the context of the first phases, and that of the finished model
PIECES = 2037  # and 11 special tokens make 2,048 rows
ROWS = 8  # of 256 tokens in a batch: 2,048 tokens a step
CURVES = "tinyphi-nano-curves.json"
STAGES = ("phase1", "phase2", "long", "sft", "dpo")
CONFIG = PhiConfig(
    vocab_size=2048,
    hidden_size=128,
    intermediate_size=384,
    num_hidden_layers=6,
    num_attention_heads=4,
    num_key_value_heads=2,
    max_position_embeddings=SHORT,
    original_max_position_embeddings=SHORT,
    bos_token_id=1,
    eos_token_id=PIECES,
    pad_token_id=PIECES,
    tie_word_embeddings=True,
)


@dataclass(frozen=True)
class Budget:
    """Steps of each stage; the defaults make the model that ships."""

    phase1: int = 800
    phase2: int = 9000
    long: int = 900
    sft: int = 2500
    dpo: int = 320

    def scaled(self, by: float) -> "Budget":
        """All stages shorter by the same factor, for a trial; none below 2 steps."""
        return Budget(**{name: max(2, round(steps * by)) for name, steps in vars(self).items()})


class Nano:
    """The recipe. `run` goes through all stages, and after an interruption goes on where it was.

    folder: for the stages and, in `work`, what training needs in between. texts: a folder of general text;
    None: Python's manual. The same seed, machine and number of threads give the same model.
    """

    def __init__(
        self,
        folder: str | Path,
        texts: str | Path | None = None,
        budget: Budget = Budget(),
        device: str = "cpu",
        seed: int = 0,
        watchers: Sequence[Callable[[LogRow], object]] = (),
    ) -> None:
        self.folder, self.texts, self.budget, self.device, self.seed = (
            Path(folder),
            texts,
            budget,
            device,
            seed,
        )
        self.watchers = watchers
        self.world = World()

    def run(self) -> bool:
        """Train all stages that are not done; whether it came to the end (False: it was interrupted)."""
        stages = (self._phase1, self._phase2, self._long, self._sft, self._dpo)
        for name, train in zip(STAGES, stages, strict=True):
            if not self._is_done(name) and not train(name):
                return False
        return True

    def _phase1(self, name: str) -> bool:
        tokenizer = self._tokenizer()
        torch.manual_seed(self.seed)
        model = Phi3(CONFIG)
        start_alike(model)
        tokens = self.budget.phase1 * ROWS * SHORT
        web = (web_page(self.world, chance) for chance in _forever(f"web {self.seed}"))
        filtered = (page.text for page in web if page.educational)
        examples = [
            *until(0.5 * tokens, _examples(tokenizer, _again(self._general(), self.seed))),
            *until(0.2 * tokens, _examples(tokenizer, filtered)),
            *until(0.3 * tokens, self._lookups(tokenizer, name)),
        ]
        rows = self._rows(wrapped(examples, SHORT))
        return self._train(name, model, tokenizer, rows, next_token_objective, 2e-3)

    def _phase2(self, name: str) -> bool:
        model, tokenizer = self._load("phase1")
        tokens = self.budget.phase2 * ROWS * SHORT
        lessons = (lesson(self.world, chance) for chance in _forever(f"lessons {self.seed}"))
        stories = (story(self.world, chance) for chance in _forever(f"stories {self.seed}"))
        examples = [
            *until(0.06 * tokens, _examples(tokenizer, _again(self._general(), self.seed + 1))),
            *until(0.65 * tokens, _examples(tokenizer, lessons)),
            *until(0.12 * tokens, _examples(tokenizer, stories)),
            *until(0.17 * tokens, self._lookups(tokenizer, name)),
        ]
        rows = self._rows(wrapped(examples, SHORT))
        return self._train(name, model, tokenizer, rows, next_token_objective, 2e-3)

    def _long(self, name: str) -> bool:
        model, tokenizer = self._load("phase2")
        chapters = [chapter(self.world, chance, tokenizer) for chance in _some(f"search {self.seed}", 3)]
        fitness = PerplexityFitness(model, [tokenizer.encode(text) for text in chapters], LONG)
        sizes = Sizes(16, 3, parents=6, mutations=4, crossovers=4, start_tokens=(0,))
        self._work(name).mkdir(parents=True, exist_ok=True)
        found = search(model.config, LONG, fitness, sizes, self.seed, self._work(name) / "search.json")
        longer = Phi3(found.config_with(model.config)).to(self.device)
        longer.load_state_dict(model.state_dict())
        steps = self.budget.long
        texts = (
            long_memory(self.world, chance, tokenizer, keys=chance.randrange(1, 5))
            for chance in _some(f"long {self.seed}", 2 * steps // 3 + 2)
        )
        memories = packed((partly_example(tokenizer, text) for text in texts), LONG)
        pages = self._pages(tokenizer, name, 2 / 3 * steps, belongings_page)
        in_turn = _cycle(pages, pages, self._rows(memories, 2))
        return self._train(name, longer, tokenizer, in_turn, next_token_objective, 1e-3)

    def _sft(self, name: str) -> bool:
        model, tokenizer = self._load("long")
        steps = self.budget.sft
        made = (conversation(self.world, chance) for chance in _forever(f"chats {self.seed}"))
        examples = until(steps / 2 * ROWS * SHORT, (chat_example(tokenizer, one) for one in made))
        texts, long_chats = [], []
        for chance in _some(f"long chats {self.seed}", steps // 4 + 2):
            texts.append(partly_example(tokenizer, long_memory(self.world, chance, tokenizer)))
            (before, _), (asked, _) = long_memory(self.world, chance, tokenizer)
            ask, _, answer = asked.rpartition("? ")
            long_chats.append(chat_example(tokenizer, turns(f"{before}{ask}?", answer)))
        book = self._pages(tokenizer, name, steps / 4, named_page)
        chats = self._rows(packed(examples, SHORT))
        far, memories = (self._rows(packed(some, LONG), 2) for some in (long_chats, texts))
        # Half of the steps go on as before: who only answers forgets what nobody asks for.
        in_turn = _cycle(chats, book, chats, far, chats, book, chats, memories)
        return self._train(name, model, tokenizer, in_turn, next_token_objective, 6e-4)

    def _dpo(self, name: str) -> bool:
        model, tokenizer = self._load("sft")
        steps = []
        for chance in _some(f"pairs {self.seed}", self.budget.dpo):
            batch = pair_batch(self.world, chance, tokenizer, 16).to(self.device)
            steps.append(PairBatch(batch, reference_log_probabilities(model, batch)))
        objective = preference_objective(beta=0.1, sft_weight=1.0)
        return self._train(name, model, tokenizer, lambda step: [steps[step - 1]], objective, 8e-5)

    def _train(
        self,
        name: str,
        model: Phi3,
        tokenizer: Tokenizer,
        batches: Batches,
        objective: Objective,
        learning_rate: float,
    ) -> bool:
        """One stage: train, save the model; whether it came to its end."""
        steps = getattr(self.budget, name)
        plan = Plan(steps, learning_rate, warmup_steps=min(steps // 10, 100), save_every=100, seed=self.seed)
        trainer = Trainer(
            model.to(self.device), plan, batches, objective, self._work(name), watchers=self.watchers
        )
        trainer.run()
        if trainer.step < steps:
            return False
        tinyphi.save(model.to("cpu"), tokenizer, self.folder / name)
        return True

    def _tokenizer(self) -> Tokenizer:
        """The vocabulary, from general text and the world's in equal parts."""
        passages = list(self._general())
        size, pages = 2_000_000, []
        for chance in _forever("tokenizer"):
            pages.append(chance.choice((lesson, lesson, story))(self.world, chance))
            size -= len(pages[-1])
            if size < 0:
                break
        chosen = random.Random("passages").sample(passages, min(len(passages), 2_000_000 // 700))
        return train_sentencepiece([*chosen, *pages], PIECES)

    def _general(self) -> list[str]:
        return easiest(general_passages(self.texts))

    def _lookups(self, tokenizer: Tokenizer, name: str) -> Iterator[Example]:
        """Exercises in looking up, half in words, half in tokens without sense."""
        for chance in _forever(f"lookups {name} {self.seed}"):
            yield partly_example(tokenizer, lookup_page(chance))
            yield rote(chance)

    def _pages(
        self, tokenizer: Tokenizer, name: str, steps: float, page: Callable[[random.Random], list[Part]]
    ) -> Rows:
        """For so many steps: half lessons, half exercises in looking up what stands apart."""
        half = 0.5 * steps * ROWS * SHORT
        lessons = (lesson(self.world, chance) for chance in _forever(f"lessons {name} {self.seed}"))
        belongings = (page(chance) for chance in _forever(f"belongings {name} {self.seed}"))
        examples = [
            *until(half, _examples(tokenizer, lessons)),
            *until(half, (partly_example(tokenizer, page) for page in belongings)),
        ]
        return self._rows(wrapped(examples, SHORT))

    def _rows(self, rows: Sequence[Row], count: int = ROWS) -> Rows:
        return Rows(rows, count, CONFIG.pad_token_id or 0, seed=self.seed)

    def _load(self, stage: str) -> tuple[Phi3, Tokenizer]:
        return tinyphi.load(self.folder / stage, device=self.device)

    def _work(self, stage: str) -> Path:
        return self.folder / "work" / stage

    def _is_done(self, stage: str) -> bool:
        return (self.folder / stage / "config.json").exists()


def ship(folder: Path) -> Path:
    """What goes into the package: the last two stages in bfloat16, the others in 8 bits, and the curves.

    Each is a directory that `tinyphi.load` opens. Returns the directory of all.
    """
    target = folder / "ship"
    for stage in STAGES:
        model, tokenizer = tinyphi.load(folder / stage)
        if stage in ("sft", "dpo"):
            model = model.bfloat16()
        else:
            quantize(model, "int8")
        name = "tinyphi-nano" if stage == STAGES[-1] else f"tinyphi-nano-{stage}"
        tinyphi.save(model, tokenizer, target / name)
    write_text(target / CURVES, json.dumps(_curves(folder)) + "\n")
    return target


def minutes(folder: Path) -> dict[str, float]:
    """How long the steps of each stage took, by its log; saving and pauses are left out."""
    found = {}
    for stage in STAGES:
        rows = _log(folder, stage)
        before = [0.0, *(row["tokens"] for row in rows)]
        steps = zip(rows, before, strict=False)
        found[stage] = sum((row["tokens"] - read) / row["tokens_per_second"] for row, read in steps) / 60
    return found


def _curves(folder: Path) -> dict[str, list[dict[str, float]]]:
    """Of each stage about 200 rows of the log, the last among them, with a few digits."""
    curves = {}
    for stage in STAGES:
        rows = _log(folder, stage)
        every = max(1, len(rows) // 200)
        kept = [row for row in rows if row["step"] % every == 0 or row is rows[-1]]
        curves[stage] = [
            {name: float(f"{row[name]:.5g}") for name in row if isinstance(row[name], int | float)}
            for row in kept
        ]
    return curves


def _log(folder: Path, stage: str) -> list[dict[str, float]]:
    lines = (folder / "work" / stage / "log.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


def chapter(world: World, chance: random.Random, tokenizer: Tokenizer) -> str:
    """Stories and pages about the world, of a little more than 2,048 tokens."""
    parts, tokens = [], 0
    while tokens < LONG + 64:
        parts.append(chance.choice((story, lesson))(world, chance))
        tokens += len(tokenizer.encode(parts[-1]))
    return "\n\n".join(parts)


def long_memory(world: World, chance: random.Random, tokenizer: Tokenizer, keys: int = 1) -> list[Part]:
    """So many numbers to remember, hidden in a text of up to 2,048 tokens, and what is asked at its end."""
    while True:
        text = memory_page(world, chance, pages=chance.randrange(2, 26), keys=keys)
        if len(tokenizer.encode(text)) < LONG - 24:  # room for the chat format
            start = text.index("\n\nWhat is the ")
            return [Part(text[:start], False), Part(text[start:], True)]


def pair_batch(
    world: World, chance: random.Random, tokenizer: Tokenizer, pairs: int, held_out: bool = False
) -> Batch:
    """So many pairs in one batch: first the chosen answers, then the rejected ones."""
    made = [preference(world, chance, held_out) for _ in range(pairs)]
    rows = [pair.prompt + turns("", pair.chosen)[1:] for pair in made]
    rows += [pair.prompt + turns("", pair.rejected)[1:] for pair in made]
    return padded([chat_example(tokenizer, row) for row in rows], CONFIG.pad_token_id or 0)


def _forever(name: str) -> Iterator[random.Random]:
    """One source of chance that never ends; each text draws from it what it needs."""
    chance = random.Random(name)
    while True:
        yield chance


def _some(name: str, count: int) -> Iterator[random.Random]:
    chance = random.Random(name)
    return (chance for _ in range(count))


def _again(passages: Sequence[str], seed: int) -> Iterator[str]:
    """All passages in a random order, over and over."""
    chance = random.Random(f"order {seed}")
    while True:
        yield from chance.sample(passages, len(passages))


def rote(chance: random.Random) -> Example:
    """Random tokens over and over, or pairs of them in any order; what was said before is to be learnt.

    It teaches to look back, which finding anything in a text needs. Source: Olsson et al. 2022 (arXiv
    2209.11895), on induction heads.
    """
    first = 3 + 256  # after the control tokens and the bytes
    if chance.random() < 0.5:
        ids = chance.choices(range(first, PIECES), k=chance.randrange(3, 40))
        whole = (ids * chance.randrange(2, 6))[: SHORT - 1]
        return Example([1, *whole], [place > len(ids) + 1 for place in range(len(whole) + 1)])
    count = chance.randrange(2, 8)
    words = chance.sample(range(first, PIECES), 2 * count)
    said = chance.choices(range(count), k=chance.randrange(20, 100))
    whole = [token for place in said for token in (words[place], words[count + place])]
    known = [flag for number, place in enumerate(said) for flag in (False, place in said[:number])]
    return Example([1, *whole], [False, *known])


def _examples(tokenizer: Tokenizer, texts: Iterator[str]) -> Iterator[Example]:
    return (text_example(tokenizer, text) for text in texts)


def until(tokens: float, examples: Iterator[Example]) -> list[Example]:
    """Examples until they have so many tokens together."""
    taken: list[Example] = []
    for example in examples:
        if tokens <= 0:
            break
        taken.append(example)
        tokens -= len(example.ids)
    return taken


def _cycle(*sources: Batches) -> Batches:
    """Step after step from another source, and again from the first; a source may stand there several times.

    Apart, since one long text makes a whole batch use LongRoPE's long factors.
    """

    def batches(step: int) -> Sequence[TrainingBatch]:
        rounds, place = divmod(step - 1, len(sources))
        source = sources[place]
        return source(rounds * sources.count(source) + sources[:place].count(source) + 1)

    return batches
