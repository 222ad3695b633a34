"""Four bits with a whole zero point: the rounding of AWQ and GPTQ, and what their files store.

    W[o, i] = scales[o, n] · (codes[o, i] − zeros[o, n]),   n = i // g

Sixteen numbers, equally far apart, cover a group from its smallest weight to its largest. They are shifted so
that one of them, the zero point, is exactly 0.0. Symmetric rounding always puts it at 8.
"""

from typing import NamedTuple

import torch
from einops import rearrange
from torch import Tensor

from tinyphi.errors import InputError
from tinyphi.quant.groupwise import Grouped

LEAST_SCALE = 2**-14  # the smallest float16 with all its digits
MIDDLE = 8  # the zero point of symmetric rounding


class Grid(NamedTuple):
    """The sixteen numbers that the weights of a group may become; both tensors broadcast against weights."""

    scales: Tensor  # float32, but rounded to float16, as they will be stored
    zeros: Tensor  # float32, whole numbers from 0 to 15

    def codes(self, weight: Tensor) -> Tensor:
        """Where in the grid each weight belongs: float32, whole numbers from 0 to 15, in the same shape."""
        return ((weight / self.scales).round() + self.zeros).clamp(0, 15)

    def numbers(self, codes: Tensor) -> Tensor:
        """The weights that codes stand for."""
        return (codes - self.zeros) * self.scales

    def rounded(self, weight: Tensor) -> Tensor:
        """Each weight, moved to the nearest number of the grid."""
        return self.numbers(self.codes(weight))


def fit_grid(weight: Tensor, symmetric: bool = False) -> Grid:
    """Cover groups of weights (… g) from their smallest to their largest, and 0: scales and zeros (… 1).

    Source: `Quantizer.find_params` of AutoGPTQ 0.7.1.
    Raises InputError for weights that are not finite, or too large for a float16 scale.
    """
    reach = 7.5 * LEAST_SCALE  # a group of nothing but zeros gets a grid too, with 0 in its middle
    low, high = (
        weight.amin(-1, keepdim=True).clamp(max=-reach),
        weight.amax(-1, keepdim=True).clamp(min=reach),
    )
    if symmetric:
        high = torch.maximum(-low, high)
        low = -high
    scales = ((high - low) / 15).half().float()
    if not scales.isfinite().all():
        raise InputError("A weight is not finite, or too large for a scale in float16. Is the model damaged?")
    zeros = torch.full_like(scales, MIDDLE) if symmetric else (-low / scales).round().clamp(0, 15)
    return Grid(scales, zeros)


def grids(weight: Tensor, group_size: int, symmetric: bool = False) -> tuple[Tensor, Grid]:
    """A matrix (o i) cut into groups (o n g), and the grid of each group (o n 1)."""
    groups = rearrange(weight, "o (n g) -> o n g", g=group_size)
    return groups, fit_grid(groups, symmetric)


def from_zeros(codes: Tensor, scales: Tensor, zeros: Tensor) -> Grouped:
    """A `Grouped` from whole zero points: codes (o i), scales (o n), zeros (o n).

    The minima −scale · zero are rounded to float16, which moves a weight by less than a hundredth of a step.
    Where all zeros are 8 no minima are needed, and nothing is rounded.
    """
    codes, scales = codes.to(torch.uint8), scales.half()
    if bool((zeros == MIDDLE).all()):
        return Grouped(codes, scales)
    return Grouped(codes, scales, (-scales.float() * zeros).half())


def to_zeros(weight: Grouped) -> Tensor:
    """The zero points (o n) of a 4-bit `Grouped`, uint8.

    Raises InputError for 8 bits, and for minima that no whole zero point gives: those of Q4_1, for example.
    """
    if weight.bits != 4:
        raise InputError(f"Zero points are for 4-bit codes; these have {weight.bits} bits.")
    if weight.minima is None:
        return torch.full_like(weight.scales, MIDDLE, dtype=torch.uint8)
    scales = weight.scales.float()
    zeros = (-weight.minima.float() / scales).round().nan_to_num(MIDDLE)  # 0 / 0: any zero point will do
    exact = ((-scales * zeros).half() == weight.minima) & (zeros >= 0) & (zeros <= 15)
    if not exact.all():
        raise InputError(
            f"{int((~exact).sum())} of {exact.numel()} groups have a minimum that is no whole number of "
            "steps below 0, up to 15. Round with `awq` or `gptq`, or symmetrically."
        )
    return zeros.to(torch.uint8)
