"""Rotary position embedding (RoPE), and LongRoPE, which stretches it from 4k to 128k tokens.

Each head's channels are taken in pairs, and the token at position p turns pair i by the angle p · w_i. The
product of a query turned by p and a key turned by q depends on p - q alone: that is how attention learns of
distance. The frequencies w_i fall geometrically, so some pairs count single tokens and others whole chapters.
"""

from collections.abc import Callable
from typing import TypeAlias

import torch
from torch import Tensor

from tinyphi.config import PhiConfig

# What `rotation` is: config, positions (b t), longest sequence of the call, dtype → cosine, sine (b t r).
Rotation: TypeAlias = Callable[[PhiConfig, Tensor, int, torch.dtype], tuple[Tensor, Tensor]]


def inverse_frequencies(config: PhiConfig, longest: int) -> Tensor:
    """The angle by which each pair turns per position: (r), float32, in radians.

    LongRoPE divides each frequency by a factor of its own, found by search: one list while the longest
    sequence of the call fits the original context, another beyond it. The choice is one for the whole call.

    Source: Su et al. 2021 (arXiv 2104.09864), sec. 3.2.2; LongRoPE (arXiv 2402.13753), eq. 3 with n̂ = 0;
    `_compute_longrope_parameters` and `longrope_frequency_update` in transformers.
    """
    pairs = torch.arange(0, config.rotary_dim, 2, dtype=torch.float32)
    stretch = config.rope_theta ** (pairs / config.rotary_dim)
    factors = config.long_factor if uses_long_factors(config, longest) else config.short_factor
    if factors is not None:
        stretch = torch.tensor(factors, dtype=torch.float32) * stretch
    return 1.0 / stretch


def uses_long_factors(config: PhiConfig, longest: int) -> bool:
    """Whether a call whose longest sequence has `longest` tokens uses LongRoPE's long factors."""
    return config.long_factor is not None and longest > config.original_max_position_embeddings


def rotation(config: PhiConfig, positions: Tensor, longest: int, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Cosine and sine of every angle: positions (b t) → two of (b t r), computed in float32, then `dtype`.

    LongRoPE's attention factor multiplies both, so it enters every query-key product squared.
    """
    frequencies = inverse_frequencies(config, longest).to(positions.device)
    angles = positions[..., None].float() * frequencies
    stretch = config.attention_factor_of(uses_long_factors(config, longest))
    return (angles.cos() * stretch).to(dtype), (angles.sin() * stretch).to(dtype)


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Turn the pairs of each head: x (b heads t c), cos and sin (b t r) → (b heads t c).

    Pair i is made of channels i and i + r, two halves rather than neighbours ("NeoX" order). Channels
    beyond 2r have no pair: a partial rotary factor leaves them as they are.
    """
    pairs = cos.shape[-1]
    first, second, rest = x[..., :pairs], x[..., pairs : 2 * pairs], x[..., 2 * pairs :]
    cos, sin = cos.unsqueeze(1), sin.unsqueeze(1)  # b 1 t r: the same for every head
    return torch.cat((first * cos - second * sin, second * cos + first * sin, rest), dim=-1)
