"""Five ways to run a model on longer texts than it was trained on. All of them slow RoPE's rotations down.

A model trained on L tokens has never met the angles that larger distances turn to. For texts s times as long,
each frequency is divided by a factor λ of its own, and the methods differ in how they choose these:

    position interpolation   λ = s for all pairs: no angle is new, but neighbours move together
    NTK-aware                from 1 for the fastest pair to s for the slowest, by a larger base
    dynamic NTK              the same, for as long as the text is now
    YaRN                     1 for pairs that turn often within L, s for those that do not turn once
    LongRoPE                 found by search, see tinyphi.longcontext.search

Every method is a function of a configuration and a length in tokens, and returns an `Extension`.
"""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from tinyphi.config import PhiConfig
from tinyphi.errors import InputError
from tinyphi.model import rope
from tinyphi.model.transformer import Phi3

_FAST, _SLOW = 32, 1  # YaRN: turns within the original context, from which pairs stay, or are interpolated


@dataclass(frozen=True)
class Extension:
    """What an extension method decides: how each pair is slowed down, and what else changes."""

    factors: tuple[float, ...]  # λ (r), one for each pair; divides its frequency
    attention_factor: float = 1.0  # multiplies cosines and sines
    start_tokens: int = 0  # n̂: the first tokens, which keep the original rotation

    def __post_init__(self) -> None:
        if not isinstance(self.start_tokens, int) or self.start_tokens < 0:
            raise InputError(f"start_tokens is {self.start_tokens!r}; it must be a whole number from 0.")

    def config(self, config: PhiConfig) -> PhiConfig:
        """`config` with this extension, short texts included, in place of its own factors; n̂ is left out.

        Raises ConfigError unless there is one factor above 0 for each pair.
        """
        factors, stretch = self.factors, self.attention_factor
        return replace(
            config, short_factor=factors, long_factor=factors, short_mscale=stretch, long_mscale=stretch
        )

    def rotation(
        self, config: PhiConfig, positions: Tensor, longest: int, dtype: torch.dtype
    ) -> tuple[Tensor, Tensor]:
        """As `tinyphi.model.rope.rotation`, by these factors: positions (b t) → cosine, sine (b t r).

        Source: LongRoPE (arXiv 2402.13753), eq. 3. As in its published code, the first n̂ tokens are without
        attention factor, too.
        """
        cos, sin = rope.rotation(self.config(config), positions, longest, dtype)
        if not self.start_tokens:
            return cos, sin
        original = Extension((1.0,) * len(self.factors)).config(config)
        first = positions[..., None] < self.start_tokens  # b t 1
        original_cos, original_sin = rope.rotation(original, positions, longest, dtype)
        return torch.where(first, original_cos, cos), torch.where(first, original_sin, sin)


def position_interpolation(config: PhiConfig, length: int) -> Extension:
    """All pairs turn s = length / L times slower, so that no angle is larger than in training.

    length: of the longest text, in tokens; L is the original context of `config`, and up to it nothing
    changes. Neighbouring tokens come to stand 1/s apart, closer than the model has ever seen.
    Source: Chen et al. 2023 (arXiv 2306.15595), eq. 3; `_compute_linear_scaling_rope_parameters` in
    transformers. Raises InputError for a length that is not a whole number above 0.
    """
    return Extension((_scale(config, length),) * _pairs(config))


def ntk_aware(config: PhiConfig, length: int) -> Extension:
    """A larger base: the fastest pair keeps its speed, the slowest turns s times slower, as in interpolation.

    The base is multiplied by s^(d / (d - 2)) for d rotated channels. Arguments: `position_interpolation`.
    Source: bloc97 2023, "NTK-aware scaled RoPE"; YaRN (arXiv 2309.00071), def. 1.
    """
    return Extension(_larger_base(config, _scale(config, length)))


def dynamic_ntk(config: PhiConfig, length: int) -> Extension:
    """NTK-aware for the text as it is now: nothing changes up to L tokens, and ever more beyond them.

    length: of the longest text in the call, in tokens. How fast it grows depends on the f = max / L that
    `config` is made for: the base is that for f · length / L - (f - 1); with f = 1 that is length / L.
    While a text grows token by token the factors change at every step: keys in a cache, turned by older
    ones, no longer fit. Source: emozilla 2023, "Dynamically scaled RoPE"; `_compute_dynamic_ntk_parameters`
    in transformers. Raises InputError for a length that is not a whole number above 0.
    """
    full = config.max_position_embeddings / config.original_max_position_embeddings
    return Extension(_larger_base(config, full * _scale(config, length) - (full - 1)))


def yarn(config: PhiConfig, length: int) -> Extension:
    """Interpolate only the pairs that do not turn around in training; sharpen attention.

    A pair that turns 32 times or more within L tokens has shown the model all of its angles: it keeps its
    speed. One that does not turn once is slowed s times; in between, frequencies are mixed. The attention
    factor is 0.1 ln(s) + 1. Arguments and errors: `position_interpolation`.
    Source: Peng et al. 2023 (arXiv 2309.00071), def. 2 and eq. 22; `_compute_yarn_parameters` in
    transformers.
    """
    scale = _scale(config, length)
    if config.rope_theta <= 1:
        raise InputError(f"rope_theta is {config.rope_theta}; YaRN takes a base above 1.")
    low = max(math.floor(_pair_with_turns(config, _FAST)), 0)
    high = min(math.ceil(_pair_with_turns(config, _SLOW)), config.rotary_dim - 1)
    pairs = torch.arange(_pairs(config), dtype=torch.float64)
    slowed = ((pairs - low) / max(high - low, 0.001)).clamp(0, 1)  # share of interpolation
    factors = 1 / (slowed / scale + (1 - slowed))
    return Extension(tuple(factors.tolist()), 0.1 * math.log(scale) + 1)


def longrope(config: PhiConfig, length: int) -> Extension:
    """The factors that `config` brings: the short ones for up to L tokens, else the long ones.

    length: of the longest text in the call, in tokens. The attention factor is on in both cases.
    Source: Ding et al. 2024 (arXiv 2402.13753), sec. 3; `_compute_longrope_parameters` in transformers.
    Raises InputError for a configuration without factors; `tinyphi.longcontext.search` finds some.
    """
    _scale(config, length)
    long = rope.uses_long_factors(config, length)
    factors = config.long_factor if long else config.short_factor
    if factors is None:
        raise InputError("This model has no LongRoPE factors. tinyphi.longcontext.search finds them.")
    return Extension(factors, config.attention_factor_of(long))


METHODS: dict[str, Callable[[PhiConfig, int], Extension]] = {
    "PI": position_interpolation,
    "NTK": ntk_aware,
    "dynamic NTK": dynamic_ntk,
    "YaRN": yarn,
    "LongRoPE": longrope,
}


@contextmanager
def extended(model: Phi3, extension: Extension) -> Iterator[Phi3]:
    """Let a model turn queries and keys by `extension` within a `with` block, and as before after it.

    A cache belongs to the rotation it was made under: one from outside of the block is refused inside, and
    the other way round. The factors stay the same for all calls in the block, however long.
    Raises ConfigError unless the extension has one factor above 0 for each pair of the model.
    """
    extension.config(model.config)
    before, model.rotation = model.rotation, extension.rotation
    try:
        yield model
    finally:
        model.rotation = before


def _pairs(config: PhiConfig) -> int:
    return config.rotary_dim // 2


def _scale(config: PhiConfig, length: int) -> float:
    """s: how many times longer than the original context, at least 1."""
    if not isinstance(length, int) or length < 1:
        raise InputError(f"length is {length!r}; give the tokens of the longest text, at least 1.")
    return max(1.0, length / config.original_max_position_embeddings)


def _larger_base(config: PhiConfig, scale: float) -> tuple[float, ...]:
    """What a base larger by scale^(d / (d - 2)) divides the frequencies by: from 1 to `scale`."""
    last = max(_pairs(config) - 1, 1)
    return tuple(scale ** (pair / last) for pair in range(_pairs(config)))


def _pair_with_turns(config: PhiConfig, turns: float) -> float:
    """The pair, as a fraction between two, that turns so many times within the original context."""
    tokens = config.original_max_position_embeddings / turns  # in which it is to turn once
    return config.rotary_dim * math.log(tokens / (2 * math.pi)) / (2 * math.log(config.rope_theta))
