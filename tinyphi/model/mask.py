"""Who may look at whom: one rule for causality, padding, packing and the sliding window.

`segments` gives each token the number of its document: 0 is padding, 1, 2, … are the documents of a row. A
token sees itself and the earlier tokens of its own segment, the nearest `window` of them. Padding is thus a
segment that no real token sees, and no row is ever left with nothing to attend to.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor


class Sight(NamedTuple):
    """Some tokens of a pass, and the keys that they may see."""

    tokens: slice | Tensor
    keys: slice | Tensor  # others are seen by none of them
    mask: Callable[[], Tensor] | None  # makes it, (b t s); None: causal, or a single token that sees them all
    rows: slice = slice(None)  # of the batch


def positions_within(segments: Tensor) -> Tensor:
    """Each token's position in its own segment, from 0: (b t) → (b t) int64. Padding stays at 0."""
    positions = torch.zeros_like(segments)
    for number in torch.unique(segments[segments > 0]):
        members = segments == number
        positions += members * (members.cumsum(1) - 1)
    return positions


def visible(
    segments: Tensor, positions: Tensor, key_segments: Tensor, key_positions: Tensor, window: int | None
) -> Tensor:
    """True where a query may see a key: (b t), (b t), (b s), (b s) → (b t s) bool.

    `window` counts the token itself: with 2047, as in Phi-3-mini-4k, a token sees 2046 others. That is the
    convention of transformers; FlashAttention's and litgpt's readings of the same number allow one more.
    """
    here, there = positions[:, :, None], key_positions[:, None, :]
    seen = (segments[:, :, None] == key_segments[:, None, :]) & (there <= here)
    return seen if window is None else seen & (there > here - window)


def is_one_document(segments: Tensor) -> bool:
    """Whether no token is padding and no row holds two documents, so that no mask needs to be built."""
    return bool((segments == segments[:, :1]).all()) and bool((segments[:, 0] > 0).all())


def first_seen(segments: Tensor, positions: Tensor, column: int, window: int | None) -> int:
    """The first column that the token in `column` of any row, or one behind it, may see; (b s), (b s)."""
    changes = segments[:, 1:] != segments[:, :-1]
    if bool((changes & (positions[:, 1:] > 0)).any()):
        return 0  # a document that goes on after another one: it may reach back however far
    back = int(positions[:, column].max())
    return column - (back if window is None else min(back, window - 1))
