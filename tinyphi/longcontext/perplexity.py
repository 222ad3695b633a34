"""Perplexity by position: does a model still gain from what it read 8,000 tokens ago, or does it get lost?

Perplexity is exp of the mean surprise. With more text to go by, surprise falls, until the model stands at
positions that it was not trained on: there it rises, or jumps.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor
from torch.nn import functional as F
from tqdm import tqdm

from tinyphi.errors import InputError
from tinyphi.model.transformer import Phi3

_MOST_LOGITS = 1 << 24  # at once: 64 MB of float32
_WORTH_A_BAR = 10_000  # tokens from which a progress bar is shown


@dataclass(frozen=True)
class Band:
    """The tokens at the positions start … end − 1 of all texts. `show.perplexity` draws a list of them."""

    start: int
    end: int
    tokens: int  # that were predicted there; 0 if no text came that far
    surprise: float  # the mean over them, in nats; NaN without tokens

    @property
    def perplexity(self) -> float:
        return math.inf if self.surprise > 700 else math.exp(self.surprise)


@torch.no_grad()
def surprise(model: Phi3, ids: Tensor, segments: Tensor | None = None) -> Tensor:
    """How little each token was expected: ids (b t) → −log P(token | those before it), (b t), in nats.

    NaN stands where nothing comes before: at the first token of a document and at padding (segments as in
    `Phi3.forward`). The logits (b t v) of a long text would fill the memory (128k tokens of Phi-3: 16 GB), so
    they are computed for a few tokens at a time. The layers read the text in one pass, for LongRoPE chooses
    its factors by the length of the whole.
    Raises InputError as `Phi3.forward` does. Source: `loss` of a causal model in transformers is the mean.
    """
    hidden = model.hidden(ids, segments)
    batch, last = ids.shape[0], ids.shape[1] - 1
    found = hidden.new_full(ids.shape, math.nan, dtype=torch.float32)
    step = max(1, _MOST_LOGITS // (batch * model.config.vocab_size))
    for start in range(0, last, step):
        end = min(start + step, last)
        logits, following = model.logits(hidden[:, start:end]), ids[:, start + 1 : end + 1]
        losses = F.cross_entropy(logits.flatten(0, 1), following.flatten(), reduction="none")
        if bool(losses.isnan().any()):
            raise InputError("The model's logits are not numbers (NaN): its weights or its code are broken.")
        found[:, start + 1 : end + 1] = losses.view_as(following)
    if segments is not None:
        continues = (segments[:, 1:] == segments[:, :-1]) & (segments[:, 1:] > 0)
        found[:, 1:].masked_fill_(~continues, math.nan)
    return found


def perplexity(model: Phi3, ids: Tensor, segments: Tensor | None = None) -> float:
    """exp of the mean surprise about all tokens that something comes before: (b t) → a number.

    NaN if that is none, as for a single token.
    """
    return _band([surprise(model, ids, segments).flatten()], 0, ids.numel()).perplexity


def perplexity_by_position(model: Phi3, texts: Sequence[Sequence[int]], edges: Sequence[int]) -> list[Band]:
    """Perplexity in bands of positions, over several texts of ids.

    edges: rising, such as (0, 1024, 2048, 4096, 8192) for four bands. Texts are cut at the last edge.
    Each text is read from its first token on, and every token is predicted with all the text before it.
    Passages of equal length (`texts.passages`) make bands comparable: a band that only some texts reach also
    differs because it holds other texts. Ctrl-C ends early, with the bands of the texts that were done.
    Raises InputError for edges that do not rise, and where no text reaches into the last band.
    """
    if (
        not all(isinstance(edge, int) for edge in edges)
        or len(edges) < 2
        or any(low >= high for low, high in pairwise((-1, *edges)))
    ):
        raise InputError(f"edges={list(edges)}: give two or more whole numbers that rise, from 0 on.")
    cut = [list(text[: edges[-1]]) for text in texts]
    longest = max(map(len, cut), default=0)
    if longest <= max(edges[-2], 1):
        raise InputError(
            f"The longest text has {longest} tokens, so none is in the band {edges[-2]} … {edges[-1]}. "
            "Give longer texts, or fewer edges."
        )
    device = model.norm.weight.device
    found: list[Tensor] = []
    total = sum(map(len, cut))
    with tqdm(total=total, desc="perplexity", unit="token", leave=False, disable=total < _WORTH_A_BAR) as bar:
        try:
            for text in filter(None, cut):
                found.append(surprise(model, torch.tensor([text], device=device))[0].cpu())
                bar.update(len(text))
        except KeyboardInterrupt:
            if not found:
                raise
    return [_band(found, start, end) for start, end in pairwise(edges)]


def _band(found: Sequence[Tensor], start: int, end: int) -> Band:
    """The mean, in float64, of the surprises (t) of each text at the positions start … end − 1."""
    surprises = torch.cat([text[start:end] for text in found])
    known = surprises[~surprises.isnan()].double()
    return Band(start, end, known.numel(), float(known.mean()))
