"""How the next token is chosen from the logits.

A sampler reshapes the distribution (repetition penalty, temperature), cuts away what it will not risk (top-k,
top-p, min-p, in this order), and draws from the rest. Every step of that is kept in a `Choice`, so that it
can be looked at. The definitions are those of the logits processors in transformers.
"""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from tinyphi.errors import InputError

_COLDEST = 1e-4  # below, float32 runs out of range, and the draw is the best token anyway


class Choice(NamedTuple):
    """What a sampler did to one step's logits, for each row."""

    ids: Tensor  # (b) the tokens chosen
    before_temperature: Tensor  # (b v) after the repetition penalty
    logits: Tensor  # (b v) after the temperature too
    kept: Tensor  # (b v) bool, what could still be drawn
    cuts: dict[str, Tensor]  # by the cut's name: (b v) bool, what it removed from what was left


@dataclass(frozen=True)
class Greedy:
    """Always the most probable token; of equals the one with the lower id."""

    seed: None = None

    def choose(self, logits: Tensor, previous: Tensor, generator: torch.Generator) -> Choice:
        """logits (b v), previous (b s) ids (unused) → a `Choice`. Nothing is random."""
        ids = logits.argmax(dim=-1)
        kept = torch.zeros_like(logits, dtype=torch.bool).scatter_(1, ids[:, None], True)
        return Choice(ids, logits, logits, kept, {"greedy": ~kept})


@dataclass(frozen=True)
class Sampler:
    """Draw at random. The same seed, model and prompt give the same text on the same machine.

    temperature: divides the logits; below 1 sharpens the distribution, above 1 flattens it.
    top_k: keep the k most probable tokens (and what is equal to the last of them).
    top_p: keep the smallest set of most probable tokens whose probabilities add up to at least p.
    min_p: keep tokens at least min_p times as probable as the most probable one.
    repetition_penalty: divides the positive and multiplies the negative logits of tokens that already
        occurred (prompt included).
    """

    temperature: float = 1.0
    top_k: int | None = None
    top_p: float | None = None
    min_p: float | None = None
    repetition_penalty: float = 1.0
    seed: int | None = None

    def __post_init__(self) -> None:
        if not _is_number(self.temperature) or not self.temperature >= _COLDEST:
            raise InputError(
                f"temperature is {self.temperature!r}; it must be at least {_COLDEST}. For 0 use Greedy()."
            )
        if self.top_k is not None and not (type(self.top_k) is int and self.top_k >= 1):
            raise InputError(f"top_k is {self.top_k!r}; it must be None or a whole number of at least 1.")
        for name, value in (("top_p", self.top_p), ("min_p", self.min_p)):
            if value is not None and not (_is_number(value) and 0 < value <= 1):
                raise InputError(f"{name} is {value!r}; it must be None, or above 0 and at most 1.")
        if not _is_number(self.repetition_penalty) or not 0.01 <= self.repetition_penalty <= 100:
            raise InputError(
                f"repetition_penalty is {self.repetition_penalty!r}; it must be from 0.01 to 100."
            )
        if self.seed is not None and not (isinstance(self.seed, int) and abs(self.seed) < 2**63):
            raise InputError(f"seed is {self.seed!r}; it must be None or a whole number of at most 63 bits.")

    def choose(self, logits: Tensor, previous: Tensor, generator: torch.Generator) -> Choice:
        """logits (b v) float32, previous (b s) the ids so far (-1: padding) → a `Choice`."""
        penalised = penalise_repetition(logits, previous, self.repetition_penalty)
        shaped = penalised / self.temperature
        remaining, cuts = shaped, {}
        for name, value, cut in (
            ("top_k", self.top_k, cut_top_k),
            ("top_p", self.top_p, cut_top_p),
            ("min_p", self.min_p, cut_min_p),
        ):
            if value is not None:
                before = remaining
                remaining = cut(remaining, value)
                cuts[name] = remaining.isneginf() & ~before.isneginf()
        ids = torch.multinomial(remaining.softmax(dim=-1), 1, generator=generator)[:, 0]
        return Choice(ids, penalised, shaped, ~remaining.isneginf(), cuts)


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def penalise_repetition(logits: Tensor, previous: Tensor, penalty: float) -> Tensor:
    """Make tokens that occurred less likely, whatever the sign of their logit: (b v), (b s) → (b v).

    Source: Keskar et al. 2019 (arXiv 1909.05858), sec. 4.1; `RepetitionPenaltyLogitsProcessor`.
    """
    if penalty == 1.0:
        return logits
    occurred = torch.zeros_like(logits, dtype=torch.bool)
    for row, ids in enumerate(previous):
        occurred[row, ids[ids >= 0]] = True
    penalised = torch.where(logits > 0, logits / penalty, logits * penalty)
    return torch.where(occurred, penalised, logits)


def cut_top_k(logits: Tensor, k: float) -> Tensor:
    """Everything below the k-th largest logit becomes -inf: (b v) → (b v)."""
    kth = logits.topk(min(int(k), logits.shape[-1])).values[:, -1:]
    return logits.masked_fill(logits < kth, float("-inf"))


def cut_top_p(logits: Tensor, p: float) -> Tensor:
    """Keep the nucleus: a token goes if the more probable ones already reach p. (b v) → (b v).

    Source: Holtzman et al. 2019 (arXiv 1904.09751), sec. 3.1.
    """
    probabilities, order = logits.softmax(dim=-1).sort(descending=True, stable=True)
    # What this token and all less probable ones hold, added up from the smallest, where float32 is exact.
    rest = probabilities.flip(-1).cumsum(dim=-1).flip(-1)
    beyond = rest <= 1 - p
    beyond[:, 0] = False
    return logits.masked_fill(beyond.gather(1, order.argsort(1)), float("-inf"))


def cut_min_p(logits: Tensor, min_p: float) -> Tensor:
    """Keep what is at least min_p times as probable as the best: (b v) → (b v).

    Source: Nguyen et al. 2024 (arXiv 2407.01082), sec. 3.
    """
    probabilities = logits.softmax(dim=-1)
    return logits.masked_fill(probabilities < min_p * probabilities.amax(-1, keepdim=True), float("-inf"))
