"""Who may look at whom: one rule for causality, padding, packing and the sliding window.

`segments` gives each token the number of its document: 0 is padding, 1, 2, … are the documents of a row. A
token sees itself and the earlier tokens of its own segment, the nearest `window` of them. Padding is thus a
segment that no real token sees, and no row is ever left with nothing to attend to.
"""

import torch
from torch import Tensor


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
    distance = positions[:, :, None] - key_positions[:, None, :]
    seen = (segments[:, :, None] == key_segments[:, None, :]) & (distance >= 0)
    return seen if window is None else seen & (distance < window)


def is_one_document(segments: Tensor) -> bool:
    """Whether no token is padding and no row holds two documents, so that no mask needs to be built."""
    return bool((segments == segments[:, :1]).all()) and bool((segments[:, 0] > 0).all())
