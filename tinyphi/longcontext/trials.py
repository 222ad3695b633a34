"""Ask a model about something that is hidden in a long text, and judge the answer.

A prompt is put together from ids, not from text, so that it has exactly as many tokens as it should.
"""

import hashlib
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import torch
from tqdm import tqdm

from tinyphi.errors import InputError
from tinyphi.model.transformer import Phi3

FILLER = (
    "The road went on over the hills. Rain came and went. A dog slept in the shade of a tree. "
    "Nobody was in a hurry that day. The river was as slow as ever. "
)
_NEAR = 64  # tokens within which a needle moves to the end of a sentence


class TaskTokenizer(Protocol):
    """What the tests need of a `tinyphi.tokenizer.Tokenizer`."""

    @property
    def vocab_size(self) -> int: ...
    @property
    def stop_ids(self) -> tuple[int, ...]: ...
    @property
    def adds_bos(self) -> bool: ...
    def encode(self, text: str) -> list[int]: ...
    def decode(self, ids: Iterable[int]) -> str: ...
    def token_bytes(self, id: int) -> bytes: ...


class Needle(NamedTuple):
    """What is hidden, and where."""

    text: str
    depth: float  # per cent of the haystack that comes before it


@dataclass(frozen=True)
class Prompt:
    """One question about one long text."""

    task: str
    ids: list[int]  # all of it; the answer follows
    depth: float | None  # of the needle; None where there are several, or none
    repeat: int  # its number among those of the same task, length and depth
    question: str  # the last line, which the model goes on with
    truth: tuple[str, ...]  # all that should be in the answer

    @property
    def fingerprint(self) -> str:
        return hashlib.sha256(repr(self.ids).encode()).hexdigest()[:16]


@dataclass(frozen=True)
class Trial:
    """What a model made of a prompt."""

    task: str
    tokens: int  # of the prompt
    depth: float | None
    repeat: int
    question: str
    truth: tuple[str, ...]
    answer: str
    score: float  # 0 … 1
    prompt: str  # its fingerprint


class Haystack:
    """A text to hide things in. It starts again where it ends, so it has any number of tokens.

    ids: of a long text; None: a few sentences, over and over.
    """

    def __init__(self, tokenizer: TaskTokenizer, ids: Sequence[int] | None = None) -> None:
        self.ids = plain(tokenizer, FILLER) if ids is None else list(ids)
        if not self.ids:
            raise InputError("The haystack is empty. Give the ids of a long text, or None for a plain one.")
        data = {id: tokenizer.token_bytes(id) for id in set(self.ids)}
        after = [*self.ids[1:], self.ids[0]]
        self._last = [_ends_sentence(data[id], data[next]) for id, next in zip(self.ids, after, strict=True)]

    def cut(self, start: int, tokens: int) -> tuple[list[int], list[int]]:
        """`tokens` tokens from the sentence that begins at or after `start`, and where sentences end in them.

        Such a place is the number of tokens before it; the first is 0 and the last `tokens`.
        """
        first = self._sentence(start)
        places = [place % len(self.ids) for place in range(first, first + tokens)]
        ends = [number for number in range(1, tokens) if self._last[places[number - 1]]]
        return [self.ids[place] for place in places], [0, *ends, tokens]

    def _sentence(self, start: int) -> int:
        """The first place from `start` on that a sentence ends before; `start` where there is none."""
        size = len(self.ids)
        ahead = (place for place in range(start, start + size) if self._last[(place - 1) % size])
        return next(ahead, start)


def _ends_sentence(token: bytes, following: bytes) -> bool:
    """Whether a sentence or a line ends with a token."""
    return token.endswith(b"\n") or (token.endswith((b".", b"!", b"?")) and following[:1].isspace())


def plain(tokenizer: TaskTokenizer, text: str) -> list[int]:
    """The ids of a text that stands within another: without BOS."""
    ids = tokenizer.encode(text)
    return ids[1:] if tokenizer.adds_bos else ids


def assemble(
    tokenizer: TaskTokenizer,
    tokens: int,
    head: str,
    haystack: Haystack,
    start: int,
    needles: Sequence[Needle],
    question: str,
) -> list[int]:
    """Exactly `tokens` ids: `head`, the haystack with the needles in it, and the question.

    A needle stands at its depth, but moves to the nearest end of a sentence if that is within 64 tokens.
    Raises InputError where so many tokens cannot hold all but the haystack.
    """
    first, last = tokenizer.encode(head), plain(tokenizer, question)
    hidden = [plain(tokenizer, needle.text) for needle in needles]
    room = tokens - len(first) - len(last) - sum(map(len, hidden))
    if room < 0:
        raise InputError(
            f"A prompt of {tokens} tokens is too short for this test: give {tokens - room} or more."
        )
    straw, ends = haystack.cut(start, room)
    places = [_near(ends, round(needle.depth / 100 * room)) for needle in needles]
    ids, done = first, 0
    for place, needle in sorted(zip(places, hidden, strict=True), key=lambda pair: pair[0]):
        ids = ids + straw[done:place] + needle
        done = place
    return ids + straw[done:] + last


def _near(ends: Sequence[int], wanted: int) -> int:
    above = bisect_left(ends, wanted)
    nearest = min(ends[max(0, above - 1) : above + 1], key=lambda end: abs(end - wanted))
    return nearest if abs(nearest - wanted) <= _NEAR else wanted


class Reader:
    """Answers prompts greedily. What a prompt begins with in common with the last one is not read again."""

    def __init__(self, model: Phi3) -> None:
        self.model = model
        self.cache = model.new_cache()

    @torch.inference_mode()
    def answer(self, ids: Sequence[int], most: int, stop_ids: Sequence[int]) -> list[int]:
        """Up to `most` ids that follow a prompt, without the stop id that ends them."""
        prompt = torch.tensor([ids], device=self.cache.ids.device)
        shared = self._shared(prompt)
        self.cache.rollback(self.cache.tokens - shared)
        # In one call: the model cuts it itself, and LongRoPE chooses its factors by the length of the whole.
        hidden = self.model.hidden(prompt[:, shared:], cache=self.cache, last=1)
        found: list[int] = []
        for count in range(1, most + 1):
            chosen = self.model.logits(hidden)[0, -1].argmax()
            if int(chosen) in stop_ids:
                break
            found.append(int(chosen))
            if count < most:
                hidden = self.model.hidden(chosen.view(1, 1), cache=self.cache)
        return found

    def _shared(self, prompt: torch.Tensor) -> int:
        """How many tokens of the prompt the cache holds, one less at most than all."""
        config = self.model.config
        if config.sliding_window is not None or config.long_factor is not None:
            return 0  # going back would cost another pass over everything
        length = min(prompt.shape[1] - 1, self.cache.tokens)
        same = (prompt[0, :length] == self.cache.ids[0, :length]).long()
        return int(same.cumprod(0).sum())


def ask(
    model: Phi3,
    tokenizer: TaskTokenizer,
    prompts: Sequence[Prompt],
    judge: Callable[[str, tuple[str, ...]], float],
    before: Sequence[Trial],
) -> list[Trial]:
    """Let the model answer every prompt; judge: (answer, truth) → a score. Ctrl-C returns what is known.

    before: trials of the same model, which are not made again.
    """
    keys = [(prompt.task, prompt.depth, prompt.repeat, prompt.fingerprint) for prompt in prompts]
    known = {(trial.task, trial.depth, trial.repeat, trial.prompt): trial for trial in before}
    reader, total = Reader(model), sum(len(prompt.ids) for prompt in prompts)
    with tqdm(total=total, desc="asking", unit="token", leave=False, disable=None) as bar:
        try:
            for key, prompt in zip(keys, prompts, strict=True):
                if key not in known:
                    known[key] = _try(reader, tokenizer, prompt, judge)
                bar.update(len(prompt.ids))
        except KeyboardInterrupt:
            pass
    return [known[key] for key in keys if key in known]


def _try(
    reader: Reader, tokenizer: TaskTokenizer, prompt: Prompt, judge: Callable[[str, tuple[str, ...]], float]
) -> Trial:
    most = len(plain(tokenizer, " " + ", ".join(prompt.truth))) + 8
    answer = tokenizer.decode(reader.answer(prompt.ids, most, tokenizer.stop_ids))
    place = (prompt.task, len(prompt.ids), prompt.depth, prompt.repeat)
    score = judge(answer, prompt.truth)
    return Trial(*place, prompt.question, prompt.truth, answer, score, prompt.fingerprint)


def check_whole(what: str, **given: Sequence[int]) -> None:
    """Raise InputError unless each is a list of one or more whole numbers above 0."""
    for name, numbers in given.items():
        if not numbers or not all(isinstance(number, int) and number > 0 for number in numbers):
            raise InputError(f"{what} takes {name} as whole numbers above 0; {list(numbers)} are not.")


def score_table(
    head: str, names: Sequence[str], lengths: Sequence[int], score: Callable[[int, int], float | None]
) -> str:
    """Scores by name and length as text. score: (number of the name, length) → 0 … 1, or None.

    head and names: the first column, padded.
    """
    lines = [head + "".join(f"{length:>8}" for length in lengths)]
    for number, name in enumerate(names):
        scores = (score(number, length) for length in lengths)
        cells = "".join(f"{'–':>8}" if found is None else f"{found:>8.0%}" for found in scores)
        lines.append(name + cells)
    return "\n".join(lines)


def mean_score(trials: Iterator[Trial]) -> float | None:
    """The mean, None of none."""
    scores = [trial.score for trial in trials]
    return sum(scores) / len(scores) if scores else None
