"""From documents to batches: which tokens are targets, and how documents share a row.

Documents have all lengths, and a batch is a rectangle. *Padding* gives each document a row and fills it up:

    A A A A A A A A      segments 1 1 1 1 1 1 1 1
    B B B . . . . .               1 1 1 0 0 0 0 0
    C C . . . . . .               1 1 0 0 0 0 0 0

*Packing* puts several into one row, and almost no work is wasted:

    A A A A A A A A      segments 1 1 1 1 1 1 1 1
    B B B C C D D D               1 1 1 2 2 3 3 3

`segments` tells the model which tokens belong together: it lets no document see another one, and counts
positions anew in each. So packed documents get the very logits that they get alone. Labels stand unshifted,
as in Hugging Face's libraries: the label of a token is the token itself, and the loss compares it with the
prediction made one token earlier. That is why a document's first token is never a target: the prediction
before it was made by another document.
"""

from bisect import bisect_left, insort
from collections import defaultdict, deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tinyphi.errors import InputError, TokenizerError
from tinyphi.tokenizer.base import Tokenizer

NO_TARGET = -100  # the label of a token that is not a target, in torch and in Hugging Face's libraries


@dataclass(frozen=True)
class Example:
    """One document: its ids, and for each whether the model is to learn to say it.

    Raises InputError for an empty document, or where `counted` has another length than `ids`.
    """

    ids: Sequence[int]
    counted: Sequence[bool]

    def __post_init__(self) -> None:
        if not len(self.ids) or len(self.ids) != len(self.counted):
            raise InputError(
                f"An example has at least one token, and for each says whether it is counted; this one has "
                f"{len(self.ids)} ids and {len(self.counted)} of those."
            )


@dataclass(frozen=True)
class Batch:
    """Rows of equal length, ready for the model: each (b t) int64.

    ids: pad_id on padding. labels: the ids of targets; -100 on tokens that are not counted, on padding, and
    on the first token of every document. segments: 1, 2, … number the documents of a row; 0 is padding.
    """

    ids: Tensor
    labels: Tensor
    segments: Tensor

    @cached_property
    def count(self) -> int:
        """The number of targets, over which the loss is a mean."""
        return int((self.labels != NO_TARGET).sum())

    @cached_property
    def tokens(self) -> int:
        """The number of tokens that are not padding."""
        return int((self.segments > 0).sum())

    def to(self, device: torch.device | str) -> "Batch":
        """The same batch on another device."""
        return Batch(self.ids.to(device), self.labels.to(device), self.segments.to(device))


class Row(NamedTuple):
    """One row of a batch without padding, kept small: 12 bytes a token. Each array is (t) int32."""

    ids: NDArray[np.int32]
    labels: NDArray[np.int32]
    segments: NDArray[np.int32]


def text_example(tokenizer: Tokenizer, text: str) -> Example:
    """A document to pretrain on: BOS, the text, `<|endoftext|>`. All tokens are counted.

    The end is a token like any other, so that the model learns where documents end. A tokenizer without BOS
    starts with the text; one without `<|endoftext|>` ends with its EOS.
    Raises TokenizerError if it has neither, InputError for a text that cannot be encoded.
    """
    ids = tokenizer.encode(text)
    if tokenizer.bos_id is not None and not tokenizer.adds_bos:
        ids.insert(0, tokenizer.bos_id)
    end = tokenizer.special_tokens.get("<|endoftext|>", tokenizer.eos_id)
    if end is None:
        raise TokenizerError("The tokenizer has no <|endoftext|> and no EOS token to end a document with.")
    ids.append(end)
    return Example(ids, [True] * len(ids))


def chat_example(tokenizer: Tokenizer, messages: Sequence[Mapping[str, str]]) -> Example:
    """A conversation to fine-tune on: only what the assistant says is counted, and the token that ends it.

    The ids are those of `encode_chat` for the whole conversation. An answer begins where the conversation
    before it, with the assistant's header, ends; it goes to the next stop token, which no text can imitate.
    Raises InputError for messages of another form, or if none is the assistant's; TokenizerError for a chat
    format that is not known.
    Source: `assistant_only_loss` in TRL. Its template for Phi-3 also counts the EOS after the last answer.
    """
    ids = tokenizer.encode_chat(messages, add_generation_prompt=False)
    counted = [False] * len(ids)
    for number, message in enumerate(messages):
        if message["role"] != "assistant":
            continue
        if number == 0:
            raise InputError(
                "The assistant speaks first. Put what it answers to before it, as a user message."
            )
        before = tokenizer.encode_chat(messages[:number], add_generation_prompt=True)
        start = _common_prefix(before, ids)
        stop = next(place for place in range(start, len(ids)) if ids[place] in tokenizer.stop_ids) + 1
        counted[start:stop] = [True] * (stop - start)
    if not any(counted):
        raise InputError(
            "No message is the assistant's, so there is nothing to learn from this conversation."
        )
    return Example(ids, counted)


def partly_example(tokenizer: Tokenizer, parts: Sequence[tuple[str, bool]]) -> Example:
    """A document of which only some parts are counted: BOS, the text of all parts, `<|endoftext|>`.

    parts: texts, and whether each is counted; the end is. Each begins where a token does: with a space, say.
    Errors as in `text_example`.
    """
    whole = "".join(text for text, _ in parts)
    ids = text_example(tokenizer, whole).ids
    start = len(ids) - 1 - len(tokenizer.encode(whole))  # 1 if BOS was put before what the tokenizer gives
    counted: list[bool] = []
    before = ""
    for text, known in parts:
        before += text
        counted += [known] * (start + len(tokenizer.encode(before)) - len(counted))
    return Example(ids, [*counted, True])


def _common_prefix(first: Sequence[int], second: Sequence[int]) -> int:
    pairs = zip(first, second, strict=False)
    return next((place for place, (one, other) in enumerate(pairs) if one != other), len(first))


def best_fit(lengths: Sequence[int], capacity: int) -> list[list[int]]:
    """Put documents into rows of at most `capacity` tokens, with little waste: places in `lengths`, by row.

    Best-fit decreasing: take the documents from the longest to the shortest, and put each into the row where
    the least space would be left; where none has room, open a new one. Longer documents count as `capacity`
    tokens: whoever packs them cuts them.
    Source: Ding et al. 2024 (arXiv 2404.10830), sec. 3; TRL's packing strategy "bfd", with the same rows.
    Raises InputError for a length or capacity below 1.
    """
    _check_capacity(capacity)
    if len(lengths) and min(lengths) < 1:
        raise InputError("A document has no token; leave out those of length 0.")
    rows: list[list[int]] = []
    with_space: dict[int, deque[int]] = defaultdict(deque)  # space left → rows, the oldest first
    spaces: list[int] = []  # the keys of those that have rows, ascending
    for place in sorted(range(len(lengths)), key=lambda place: -lengths[place]):
        length = min(lengths[place], capacity)
        tightest = bisect_left(spaces, length)
        if tightest < len(spaces):
            space = spaces[tightest]
            row = with_space[space].popleft()
            if not with_space[space]:
                del spaces[tightest]
        else:
            space, row = capacity, len(rows)
            rows.append([])
        rows[row].append(place)
        left = space - length
        if not with_space[left] and left:
            insort(spaces, left)
        with_space[left].append(row)
    return rows


def packed(examples: Iterable[Example], capacity: int) -> list[Row]:
    """Whole documents in rows of at most `capacity` tokens, by `best_fit`. For fine-tuning.

    A longer document is cut to its first `capacity` tokens, as in TRL.
    """
    _check_capacity(capacity)
    parts = [_Part.of(example).cut(0, capacity) for example in examples]
    rows = best_fit([len(part.ids) for part in parts], capacity)
    return [_row([parts[place] for place in row]) for row in rows]


def wrapped(examples: Iterable[Example], capacity: int) -> list[Row]:
    """All documents one after another, cut every `capacity` tokens. For pretraining.

    Every row but the last is full, and nothing is left out. The rest of a document that was cut begins the
    next row, as a document of its own: it does not see its beginning.
    Source: TRL's packing strategy "wrapped", which lets the documents of a row see each other.
    """
    _check_capacity(capacity)
    rows: list[list[_Part]] = [[]]
    space = capacity
    for example in examples:
        part = _Part.of(example)
        while len(part.ids):
            if not space:
                rows.append([])
                space = capacity
            piece = part.cut(0, space)
            rows[-1].append(piece)
            space -= len(piece.ids)
            part = part.cut(len(piece.ids), len(part.ids))
    return [_row(parts) for parts in rows if parts]


class _Part(NamedTuple):
    """A document or a piece of one, as arrays: 5 bytes a token, where a list takes 16 and more."""

    ids: NDArray[np.int32]
    counted: NDArray[np.bool_]

    @classmethod
    def of(cls, example: Example) -> "_Part":
        return cls(np.asarray(example.ids, np.int32), np.asarray(example.counted, np.bool_))

    def cut(self, start: int, stop: int) -> "_Part":
        return _Part(self.ids[start:stop], self.counted[start:stop])


def _row(parts: Sequence[_Part]) -> Row:
    """Documents one after another."""
    ids = np.concatenate([part.ids for part in parts])
    targets = np.concatenate([part.counted for part in parts])
    lengths = [len(part.ids) for part in parts]
    targets[np.cumsum([0, *lengths[:-1]])] = False  # what precedes a first token is another document
    segments = np.repeat(np.arange(1, len(parts) + 1, dtype=np.int32), lengths)
    return Row(ids, np.where(targets, ids, np.int32(NO_TARGET)), segments)


def collate(rows: Sequence[Row], pad_id: int) -> Batch:
    """Rows → a batch as long as the longest of them; shorter ones are padded on the right.

    Raises InputError if there are none.
    """
    if not rows:
        raise InputError("A batch needs at least one row.")
    longest = max(len(row.ids) for row in rows)
    filled = [np.full((len(rows), longest), fill, np.int64) for fill in (pad_id, NO_TARGET, 0)]
    for number, row in enumerate(rows):
        for matrix, values in zip(filled, row, strict=True):
            matrix[number, : len(values)] = values
    return Batch(*map(torch.from_numpy, filled))


def padded(examples: Iterable[Example], pad_id: int) -> Batch:
    """One document a row, padded on the right. Raises InputError if there are none."""
    return collate([_row([_Part.of(example)]) for example in examples], pad_id)


class Rows:
    """Rows → the batches of each step, `rows(step)`, for `tinyphi.train.loop.Trainer`.

    The rows are shuffled anew for each epoch, by nothing but `seed` and the epoch, and the epochs follow one
    another without a gap. So a step's batches depend on its number alone, and training that was interrupted
    goes on with the very same ones.
    """

    def __init__(
        self, rows: Sequence[Row], batch_size: int, pad_id: int, accumulate: int = 1, seed: int = 0
    ) -> None:
        """batch_size: rows of a micro-batch. accumulate: micro-batches of a step.

        Raises InputError for numbers below 1, or no rows.
        """
        if not rows or batch_size < 1 or accumulate < 1:
            raise InputError(
                f"Batches need rows, and a batch_size and accumulate from 1; these are {len(rows)} rows, "
                f"{batch_size} and {accumulate}."
            )
        self.rows, self.batch_size, self.pad_id = rows, batch_size, pad_id
        self.accumulate, self.seed = accumulate, seed
        self._order = lru_cache(maxsize=2)(self._shuffled)  # a step may reach into the next epoch

    @property
    def steps_per_epoch(self) -> float:
        """Steps after which every row was seen once."""
        return len(self.rows) / (self.batch_size * self.accumulate)

    def __call__(self, step: int) -> list[Batch]:
        """The micro-batches of a step; steps count from 1. Raises InputError for a step below 1."""
        if step < 1:
            raise InputError(f"Steps count from 1; there is no step {step}.")
        size = self.batch_size
        first = (step - 1) * size * self.accumulate
        starts = range(first, first + size * self.accumulate, size)
        return [collate([self._row(start + place) for place in range(size)], self.pad_id) for start in starts]

    def _row(self, number: int) -> Row:
        """The row that comes after so many others, over all epochs."""
        epoch, place = divmod(number, len(self.rows))
        return self.rows[int(self._order(epoch)[place])]

    def _shuffled(self, epoch: int) -> NDArray[Any]:
        return np.random.default_rng([self.seed, epoch]).permutation(len(self.rows))


def _check_capacity(capacity: int) -> None:
    if capacity < 1:
        raise InputError(f"capacity is {capacity}; a row holds at least 1 token.")
