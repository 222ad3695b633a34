"""Autoregressive decoding: read the prompt once, then one token after another.

`prefill` and `decode_one` are the two halves; `stream` and `generate` put them into a loop.
"""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

from tinyphi.errors import InputError
from tinyphi.generation.sampling import Choice, Greedy, Sampler
from tinyphi.generation.speculative import Draft, Lookahead, check_draft
from tinyphi.model.cache import KeyValueCache
from tinyphi.model.trace import NO_TRACE, Trace
from tinyphi.model.transformer import Phi3

Prompt = Sequence[int] | Sequence[Sequence[int]] | Tensor


class TextStream(Protocol):
    """Turns ids into text one at a time; see `tinyphi.tokenizer`."""

    def push(self, token: int) -> str: ...

    def finish(self) -> str: ...


class TextDecoder(Protocol):
    """What decoding needs of a tokenizer."""

    @property
    def stop_ids(self) -> tuple[int, ...]: ...

    def stream(self, after: Sequence[int] = ()) -> TextStream: ...


class Lens(NamedTuple):
    """What each layer would have answered: the final norm and the head, applied to its output.

    Source: nostalgebraist 2020, "interpreting GPT: the logit lens".
    """

    ids: Tensor  # (l k) the most probable tokens of each layer, best first
    probabilities: Tensor  # (l k) float32


@dataclass(frozen=True)
class Step:
    """One new token of one row, and what led to it."""

    id: int  # the token chosen; may be a stop id
    text: str  # text that became complete with it, "" while a character or a stop string is unfinished
    before_temperature: Tensor  # (v) float32, the model's logits after the repetition penalty
    logits: Tensor  # (v) float32, as the sampler shaped them: divided by the temperature too
    kept: Tensor  # (v) bool, the tokens that could be drawn
    cuts: dict[str, Tensor]  # by the cut's name: (v) bool, the tokens it removed
    cache_bytes: int  # of the whole batch, after this step
    seconds: float  # spent on this step, sampling included; the first one holds the prefill
    lens: Lens | None = None  # recorded when the `GenerationTrace` asks for it
    proposed: bool = False  # whether a draft had proposed it, so that it cost no pass of its own

    @property
    def probabilities(self) -> Tensor:
        """(v) the distribution before the cuts."""
        return self.logits.softmax(dim=-1)

    @property
    def entropy(self) -> float:
        """Of the distribution before the cuts, in bits: 0 is certainty, log2(v) is no idea."""
        return float(torch.special.entr(self.probabilities.double()).sum() / torch.log(torch.tensor(2.0)))


@dataclass
class GenerationTrace:
    """Everything that happened while generating, to look at afterwards.

    lens: how many of the most probable tokens of each layer to record at every step; 0 records none. It costs
        one more product with the output head for each layer, and changes nothing of the text.
    """

    prompts: list[list[int]] = field(default_factory=list)
    rows: list[list[Step]] = field(default_factory=list)
    sampler: Greedy | Sampler | None = None  # the one that chose
    lens: int = 0
    proposed: int = 0  # tokens that a draft proposed; the steps tell which were accepted

    def __post_init__(self) -> None:
        if type(self.lens) is not int or self.lens < 0:
            raise InputError(
                f"lens is {self.lens!r}; it must be how many tokens of each layer to record, 0 for none."
            )

    @property
    def steps(self) -> list[Step]:
        """The steps of the first row."""
        return self.rows[0] if self.rows else []


@dataclass(frozen=True)
class Generated:
    """New tokens of each row, without prompt and stop id, and their text where a tokenizer was given.

    A stop string is not in the text; the tokens that spell it are in the ids.
    """

    ids: list[list[int]]
    texts: list[str]


def prefill(
    model: Phi3,
    ids: Tensor,
    cache: KeyValueCache,
    segments: Tensor | None = None,
    trace: Trace | None = None,
) -> Tensor:
    """Read a prompt: ids (b t) → logits (b v) of the token that follows it. The cache takes it in.

    However long it is, hardly more memory is needed than for weights and cache, unless there is a `Trace`.
    """
    with torch.inference_mode():
        logits = model.logits(model.hidden(ids, segments, cache, trace, last=1))[:, 0]
    return logits.clone()  # a normal tensor again, which may be changed


def decode_one(
    model: Phi3,
    ids: Tensor,
    cache: KeyValueCache,
    segments: Tensor | None = None,
    trace: Trace | None = None,
) -> Tensor:
    """Read one token of each row: ids (b) → logits (b v) of the token that follows it."""
    return prefill(model, ids[:, None], cache, segments, trace)


def stream(
    model: Phi3,
    ids: Sequence[int] | Tensor,
    *,
    tokenizer: TextDecoder | None = None,
    max_new_tokens: int = 64,
    sampler: Greedy | Sampler = Greedy(),
    stop_ids: Sequence[int] | None = None,
    stop_strings: Sequence[str] = (),
    draft: Draft | None = None,
    cache_bits: int | None = None,
    trace: GenerationTrace | None = None,
) -> Iterator[Step]:
    """Generate for one prompt and yield each `Step` as it comes.

    ids: the prompt. tokenizer: needed for text and for stop strings; its stop ids count unless `stop_ids`
    are given. Ends after a stop id, a stop string or `max_new_tokens` tokens. draft: proposes tokens, which
    makes it faster and not different; see `tinyphi.generation.speculative`. cache_bits: 8 for keys and values
    of a byte a number; None keeps them in the model's dtype.
    Raises InputError for an empty prompt, for several, or for arguments that do not fit together.
    """
    rows = _prepare(ids, tokenizer, max_new_tokens, stop_ids, stop_strings)
    if len(rows) != 1:
        raise InputError(f"stream follows one prompt, and these are {len(rows)}; use generate for several.")
    check_draft(draft, model, len(rows))
    steps = _decode(model, rows, max_new_tokens, sampler, draft, cache_bits, trace)
    return (step for step, *_ in steps if step)


def generate(
    model: Phi3,
    ids: Prompt,
    *,
    tokenizer: TextDecoder | None = None,
    max_new_tokens: int = 64,
    sampler: Greedy | Sampler = Greedy(),
    stop_ids: Sequence[int] | None = None,
    stop_strings: Sequence[str] = (),
    draft: Draft | None = None,
    cache_bits: int | None = None,
    trace: GenerationTrace | None = None,
) -> Generated:
    """Generate for one prompt or for a batch of prompts of any lengths. Arguments as for `stream`."""
    rows = _prepare(ids, tokenizer, max_new_tokens, stop_ids, stop_strings)
    check_draft(draft, model, len(rows))
    for _ in _decode(model, rows, max_new_tokens, sampler, draft, cache_bits, trace):
        pass
    return Generated([row.ids for row in rows], [row.text for row in rows] if tokenizer else [])


def _prepare(
    prompt: Prompt,
    tokenizer: TextDecoder | None,
    max_new_tokens: int,
    stop_ids: Sequence[int] | None,
    stop_strings: Sequence[str],
) -> list["_Row"]:
    """Check the arguments and make a row for each prompt."""
    if type(max_new_tokens) is not int or max_new_tokens < 1:
        raise InputError(f"max_new_tokens is {max_new_tokens!r}; it must be a whole number of at least 1.")
    if stop_ids is None:
        stop_ids = () if tokenizer is None else tokenizer.stop_ids
    for name, stops, kind in (("stop_ids", stop_ids, int), ("stop_strings", stop_strings, str)):
        if isinstance(stops, str) or not all(
            isinstance(stop, kind) and stop != ""
            for stop in (stops if isinstance(stops, Sequence) else [None])
        ):
            raise InputError(
                f"{name} is {stops!r}; it must be a list of {kind.__name__}, none of them empty."
            )
    if stop_strings and tokenizer is None:
        raise InputError("Stop strings need text: pass tokenizer=… as well.")
    return [_Row(ids, tokenizer, frozenset(stop_ids), stop_strings) for ids in _rows(prompt)]


def _decode(
    model: Phi3,
    rows: list["_Row"],
    max_new_tokens: int,
    sampler: Greedy | Sampler,
    draft: Draft | None,
    cache_bits: int | None,
    trace: GenerationTrace | None,
) -> Iterator[list[Step | None]]:
    """The loop: one list of steps per new token, None for rows that have already ended."""
    device = model.norm.weight.device
    ids, segments = left_pad([row.prompt for row in rows], device)
    cache = model.new_cache(len(rows), bits=cache_bits)
    generator = torch.Generator(device)
    generator.manual_seed(sampler.seed) if sampler.seed is not None else generator.seed()
    ahead = None if draft is None else Lookahead(model, cache, draft, sampler, generator)
    previous = ids.masked_fill(segments == 0, -1)
    layers = None
    if trace is not None:
        trace.prompts, trace.rows = [row.prompt for row in rows], [[] for _ in rows]
        trace.sampler, trace.proposed = sampler, 0
        layers = _LayerOutputs(model, trace.lens, draft) if trace.lens else None
    started = time.perf_counter()
    logits = prefill(model, ids, cache, segments, layers)
    for count in range(1, max_new_tokens + 1):
        if bool(logits.isnan().any()):
            raise InputError("The model's logits are not numbers (NaN): its weights or its code are broken.")
        choice = sampler.choose(logits, previous, generator)
        choice, proposed = (choice, False) if ahead is None else ahead.judge(choice)
        alive = torch.tensor([[not row.ended] for row in rows], device=device)
        seconds = time.perf_counter() - started
        lenses = None if layers is None else layers.lenses(0 if ahead is None else ahead.waiting)
        steps = _take(rows, choice, proposed, lenses, cache.bytes, seconds, count == max_new_tokens)
        if trace is not None:
            trace.proposed = 0 if ahead is None else ahead.proposed
            for recorded, step in zip(trace.rows, steps, strict=True):
                recorded += [] if step is None else [step]
        yield steps
        if all(row.ended for row in rows):
            return
        previous = torch.cat((previous, choice.ids[:, None].where(alive, -1)), dim=1)
        started = time.perf_counter()
        if ahead is None:
            logits = decode_one(model, choice.ids, cache, alive.long(), layers)
        else:
            logits = ahead.decode_one(previous, max_new_tokens - count - 1, layers)


class _LayerOutputs(Trace):
    """Keeps the residual stream of each row's last token, and of proposed ones, after every layer.

    Like `NO_TRACE` it is false, so attention stays fused and looking changes no bit of the logits.
    """

    def __init__(self, model: Phi3, top: int, draft: Draft | None) -> None:
        super().__init__()
        self._model, self._top = model, top
        self._tokens = 1 if draft is None else 1 + draft.tokens
        self._states: dict[str, Tensor] = {}  # by layer
        self._layer = ""

    def record(self, name: str, tensor: Tensor, axes: str) -> None:
        if name == "output":  # of all tokens of a pass, or of some that follow those before
            before = self._states.get(self._layer, tensor[:, :0])
            self._states[self._layer] = torch.cat((before, tensor), dim=1)[:, -self._tokens :].clone()

    def at(self, place: str) -> Trace:
        if not place.startswith("layers."):
            return NO_TRACE
        self._layer = place
        return self

    def __bool__(self) -> bool:
        return False

    def lenses(self, after: int) -> list[Lens]:
        """The lens of each row's token that has `after` others behind it."""
        states = torch.stack([state[:, -1 - after] for state in self._states.values()], dim=1)  # b l d
        with torch.no_grad():
            probabilities = self._model.logits(self._model.norm(states)).softmax(dim=-1)
        best = probabilities.topk(min(self._top, probabilities.shape[-1]), dim=-1)
        return [Lens(ids, values) for ids, values in zip(best.indices, best.values, strict=True)]


def left_pad(rows: Sequence[Sequence[int]], device: torch.device | None = None) -> tuple[Tensor, Tensor]:
    """Rows of different lengths → ids and segments (b t), padded on the left, where segments are 0.

    On the left, because then the last column holds the last token of every row.
    """
    longest = max(len(row) for row in rows)
    ids = torch.zeros(len(rows), longest, dtype=torch.int64)
    segments = torch.zeros_like(ids)
    for number, row in enumerate(rows):
        ids[number, longest - len(row) :] = torch.tensor(row, dtype=torch.int64)
        segments[number, longest - len(row) :] = 1
    return ids.to(device), segments.to(device)


class _Row:
    """One prompt and what follows it: ends at a stop id or string, and holds back what may become one."""

    def __init__(
        self,
        prompt: list[int],
        tokenizer: TextDecoder | None,
        stop_ids: frozenset[int],
        stop_strings: Sequence[str],
    ) -> None:
        self.prompt = prompt
        self.ids: list[int] = []  # new ones, without the stop id
        self.text = ""  # of the new ones, without a stop string
        self.ended = False
        self._stream = None if tokenizer is None else tokenizer.stream(prompt)
        self._stop_ids, self._stop_strings = stop_ids, stop_strings
        self._held = ""

    def take(self, token: int, last: bool) -> str:
        """Take in a token and return the text that is now certain. `last`: no more tokens will come."""
        stopped = token in self._stop_ids
        self.ended = stopped or last
        self.ids += [] if stopped else [token]
        released = self._release(token, stopped)
        self.text += released
        return released

    def _release(self, token: int, stopped: bool) -> str:
        if self._stream is None:
            return ""
        self._held += "" if stopped else self._stream.push(token)
        self._held += self._stream.finish() if self.ended else ""
        found = [self._held.find(stop) for stop in self._stop_strings if stop in self._held]
        if found:
            self.ended = True
            return self._held[: min(found)]
        keep = 0 if self.ended else max(map(self._overlap, self._stop_strings), default=0)
        released = self._held[: len(self._held) - keep]
        self._held = self._held[len(released) :]
        return released

    def _overlap(self, stop: str) -> int:
        """How many of the last characters could be the beginning of `stop`."""
        sizes = range(min(len(stop), len(self._held)), 0, -1)
        return next((size for size in sizes if self._held.endswith(stop[:size])), 0)


def _take(
    rows: list[_Row],
    choice: Choice,
    proposed: bool,
    lenses: list[Lens] | None,
    cache_bytes: int,
    seconds: float,
    last: bool,
) -> list[Step | None]:
    steps: list[Step | None] = []
    for number, (row, token) in enumerate(zip(rows, choice.ids.tolist(), strict=True)):
        if row.ended:
            steps.append(None)
            continue
        cuts = {name: removed[number] for name, removed in choice.cuts.items()}
        text = row.take(token, last)
        scores = (choice.before_temperature[number], choice.logits[number], choice.kept[number])
        lens = None if lenses is None else lenses[number]
        steps.append(Step(token, text, *scores, cuts, cache_bytes, seconds, lens, proposed))
    return steps


def _rows(prompt: Prompt) -> list[list[int]]:
    """A prompt in any of its forms as a list of rows of ids."""
    if isinstance(prompt, Tensor):
        prompt = prompt.tolist()
    several = isinstance(prompt, Sequence) and prompt and isinstance(prompt[0], Sequence)
    rows: Sequence[Any] = prompt if several else [prompt]
    if not all(
        isinstance(row, Sequence) and row and all(isinstance(token, int) for token in row) for row in rows
    ):
        raise InputError(
            "A prompt is a list of ids, a list of such lists or a (b t) tensor, and no row may be empty; "
            "tokenizer.encode(text) makes one."
        )
    return [list(row) for row in rows]
