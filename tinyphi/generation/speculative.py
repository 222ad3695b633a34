"""Speculative decoding: guess several tokens cheaply, then check all of them in one pass of the model.

    the text so far           the old man
    a draft proposes                      and the sea was
    the model, in one pass                and the sun …      what it would write after "man", "and", "the"
    accepted                              and the            "sea" and "was" are forgotten
    and one token more                            sun

Decoding waits for the weights: a pass over one token reads all of them, and a pass over five reads them no
more often. So guesses cost little, and each right one saves a pass. The text stays the model's own. With
`Greedy` it is the same text, as far as rounding goes: the sums for five tokens are added up in another order
than those for one, which can decide between two tokens that are equally probable up to the last digits (of
few digits in bfloat16, and where a kernel rounds what it multiplies). With a `Sampler` it follows the same
distribution; `accept_or_redraw` is the rule that brings this about.

Source: Leviathan et al. 2023 (arXiv 2211.17192), sec. 2; Chen et al. 2023 (arXiv 2302.01318).
"""

from dataclasses import dataclass
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from tinyphi.errors import InputError
from tinyphi.generation.sampling import Choice, Greedy, Sampler
from tinyphi.model.cache import KeyValueCache
from tinyphi.model.rope import uses_long_factors
from tinyphi.model.trace import Trace
from tinyphi.model.transformer import Phi3


class Proposal(NamedTuple):
    """Tokens that may come next, and how they were found."""

    ids: Tensor  # (t) int64
    chances: Tensor | None  # (t v) float32, the distributions they were drawn from; None: not drawn at all


class Draft(Protocol):
    """What proposes tokens: `PromptLookup`, `DraftModel`, or an idea of your own."""

    @property
    def tokens(self) -> int:
        """The most that is proposed at a time."""

    def propose(
        self, ids: Tensor, count: int, sampler: Greedy | Sampler, generator: torch.Generator
    ) -> Proposal:
        """Up to `count` tokens that may follow the text ids (s)."""


@dataclass(frozen=True)
class PromptLookup:
    """Copies what followed the last time that the text stood at these words.

    ngram: how many tokens must be the same. tokens: how many are copied at a time. This helps where texts
    repeat themselves: summaries, corrections, code.

    Source: Saxena 2023, "Prompt Lookup Decoding"; `PromptLookupCandidateGenerator` in transformers.
    """

    ngram: int = 3
    tokens: int = 10

    def __post_init__(self) -> None:
        _check_count("ngram", self.ngram)
        _check_count("tokens", self.tokens)

    def propose(
        self, ids: Tensor, count: int, sampler: Greedy | Sampler, generator: torch.Generator
    ) -> Proposal:
        """Up to `count` tokens that may follow the text ids (s); none where the n-gram is new."""
        if len(ids) <= self.ngram:
            return _NOTHING
        same = (ids.unfold(0, self.ngram, 1)[:-1] == ids[-self.ngram :]).all(dim=1).nonzero()
        if len(same) == 0:
            return _NOTHING
        source = ids[int(same[-1]) + self.ngram :]
        # Where the source ends the copy goes on with itself, as if the text had begun to repeat.
        return Proposal(source[torch.arange(count, device=ids.device) % len(source)], None)


class DraftModel:
    """A smaller model that writes ahead, with the same sampler and a cache of its own.

    Its vocabulary must have the size of the large model's. If its ids mean other texts, no text comes out
    wrong, but hardly any proposal is accepted.
    """

    def __init__(self, model: Phi3, tokens: int = 4) -> None:
        _check_count("tokens", tokens)
        self.model, self.tokens = model, tokens
        self._cache = model.new_cache()

    def propose(
        self, ids: Tensor, count: int, sampler: Greedy | Sampler, generator: torch.Generator
    ) -> Proposal:
        """The `count` tokens that the smaller model writes after the text ids (s)."""
        self._forget_other_texts(ids)
        written, chances = ids, []
        for _ in range(count):
            choice = sampler.choose(self._read(written).to(ids.device), written[None], generator)
            written = torch.cat((written, choice.ids))
            chances.append(final_distribution(choice))
        return Proposal(written[len(ids) :], torch.stack(chances))

    def _forget_other_texts(self, ids: Tensor) -> None:
        """Keep of the cache what this text begins with, but let at least one token be read."""
        known = self._cache.ids[0, : len(ids) - 1]
        common = int((known == ids[: len(known)].to(known.device)).cumprod(0).sum())
        self._cache.rollback(self._cache.tokens - common)

    def _read(self, ids: Tensor) -> Tensor:
        """Read what the cache lacks of ids (s); return the logits (1 v) of the token that follows."""
        new = ids[None, self._cache.tokens :].to(self._cache.ids.device)
        with torch.inference_mode():
            logits = self.model.logits(self.model.hidden(new, cache=self._cache, last=1))[:, 0]
        if bool(logits.isnan().any()):
            raise InputError("The draft model's logits are not numbers (NaN): its weights are broken.")
        return logits.clone()


def final_distribution(choice: Choice) -> Tensor:
    """What the sampler drew one row's token from: (v) float32, temperature, penalty and cuts included."""
    return choice.logits[0].masked_fill(~choice.kept[0], float("-inf")).softmax(dim=-1)


def accept_or_redraw(wanted: Tensor, given: Tensor, proposed: int, generator: torch.Generator) -> int:
    """Turn a token drawn from `given` into one drawn from `wanted`, by keeping it as often as possible.

    wanted, given: (v), the distributions p of the model and q of the draft. A token that the draft proposes
    too often, q > p, is kept with probability p/q. A rejected one is replaced by one of those that the draft
    proposes too seldom, drawn in proportion to what they lack, p - q.

    Source: Leviathan et al. 2023 (arXiv 2211.17192), algorithm 1; appendix A.1 proves it.
    """
    luck = torch.rand((), generator=generator, device=wanted.device)
    if bool(luck * given[proposed] < wanted[proposed]):
        return proposed
    lacking = (wanted - given).clamp(min=0)
    # Nothing lacks only where both are the same up to rounding.
    return int(torch.multinomial(lacking if bool(lacking.any()) else wanted, 1, generator=generator))


class Lookahead:
    """Reads proposals ahead of one text and hands out the logits one place after another."""

    def __init__(
        self,
        model: Phi3,
        cache: KeyValueCache,
        draft: Draft,
        sampler: Greedy | Sampler,
        generator: torch.Generator,
    ) -> None:
        self.proposed = 0  # tokens, in all
        self._model, self._cache, self._draft = model, cache, draft
        self._sampler, self._generator = sampler, generator
        self._proposal, self._logits, self._place = _NOTHING, torch.empty(0), 0

    @property
    def waiting(self) -> int:
        """Proposed tokens that the cache has read, but nobody has accepted."""
        return len(self._proposal.ids) - self._place

    def judge(self, choice: Choice) -> tuple[Choice, bool]:
        """The choice that counts at this place, and whether it is the proposed token.

        The sampler has drawn from the model's distribution p. To compare that with a token that was not drawn
        itself is the rule of `accept_or_redraw` with q = 1: accepted with p, otherwise another one from p.
        """
        if not self.waiting:
            return choice, False
        proposed = int(self._proposal.ids[self._place])
        if self._proposal.chances is not None:
            given = self._proposal.chances[self._place]
            token = accept_or_redraw(final_distribution(choice), given, proposed, self._generator)
            choice = choice._replace(ids=torch.full_like(choice.ids, token))
        return choice, int(choice.ids) == proposed

    def decode_one(self, ids: Tensor, most: int, trace: Trace | None) -> Tensor:
        """Logits (1 v) of the token after ids (1 s), whose last one was just chosen.

        Only if that is not the next proposal there is a pass of the model; it reads up to `most` new ones.
        """
        if self.waiting and bool(ids[0, -1] == self._proposal.ids[self._place]):
            self._place += 1
        else:
            self._cache.rollback(self.waiting)
            self._proposal, self._place = self._propose(ids[0], most), 0
            self.proposed += self.waiting
            with torch.inference_mode():
                read = torch.cat((ids[0, -1:], self._proposal.ids.to(ids.device)))
                hidden = self._model.hidden(read[None], cache=self._cache, trace=trace)
                self._logits = self._model.logits(hidden)[0]
        return self._logits[self._place, None].clone()  # a normal tensor, as from `decode.prefill`

    def _propose(self, ids: Tensor, most: int) -> Proposal:
        config, known, count = self._model.config, len(ids), min(self._draft.tokens, most)
        # One pass turns all its keys by the same LongRoPE factors, so it must not cross the boundary.
        while count > 0 and uses_long_factors(config, known + count) != uses_long_factors(config, known):
            count -= 1
        if count < 1:
            return _NOTHING
        return self._draft.propose(ids, count, self._sampler, self._generator)


def check_draft(draft: Draft | None, model: Phi3, rows: int) -> None:
    """Raise InputError for a draft that cannot propose tokens to that model, or to so many prompts."""
    if draft is None:
        return
    if isinstance(draft, type) or not hasattr(draft, "propose"):
        given = getattr(draft, "__name__", type(draft).__name__)
        raise InputError(f"draft is {given}; it must be PromptLookup(), DraftModel(model) or the like.")
    if rows != 1:
        raise InputError(f"A draft follows one prompt, and these are {rows}; generate them one by one.")
    if isinstance(draft, DraftModel) and draft.model.config.vocab_size != model.config.vocab_size:
        raise InputError(
            f"The draft model knows {draft.model.config.vocab_size} tokens and the model "
            f"{model.config.vocab_size}; the draft must be a smaller model of the same family."
        )


def _check_count(name: str, value: object) -> None:
    if type(value) is not int or value < 1:
        raise InputError(f"A draft's {name} is {value!r}; it must be a whole number of at least 1.")


_NOTHING = Proposal(torch.empty(0, dtype=torch.int64), None)
