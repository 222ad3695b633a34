"""Group-wise rounding: neighbouring weights share a scale, and each keeps a small whole number.

    W[o, i] = scales[o, i // g] · codes[o, i] + minima[o, i // g]

The scale is as coarse as the largest weight of its group demands, so small groups lose less and cost more.

Rounding loses half a step at most, if two things are minded: codes are computed with the scale as it is
stored, which is float16, and the grid reaches every weight of its group.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from einops import rearrange
from torch import Tensor

from tinyphi.errors import InputError

_FLOATS = (torch.float32, torch.bfloat16, torch.float16, torch.float64)


@dataclass(frozen=True)
class Grouped:
    """A matrix (o i) in 4 or 8 bits, as plain as it can be written down.

    Without minima the scale is symmetric around zero: 4-bit code 8 and 8-bit code 0 stand for 0.0.
    """

    codes: Tensor  # (o i): uint8, 0 … 15 (4 bits), or int8 (8 bits)
    scales: Tensor  # (o i/g), float16: what one step of a code is worth
    minima: Tensor | None = None  # (o i/g), float16: what code 0 is worth; 4 bits only

    @property
    def shape(self) -> tuple[int, int]:
        outputs, inputs = self.codes.shape
        return outputs, inputs

    @property
    def bits(self) -> int:
        return 4 if self.codes.dtype == torch.uint8 else 8

    @property
    def group_size(self) -> int:
        return self.shape[1] // self.scales.shape[1]

    def dequantize(self, dtype: torch.dtype = torch.float32) -> Tensor:
        """The matrix (o i) that the codes stand for, computed in float32."""
        groups = rearrange(self.codes, "o (n g) -> o n g", g=self.group_size).float()
        scales = self.scales.float().unsqueeze(-1)
        if self.minima is not None:
            weight = groups * scales + self.minima.float().unsqueeze(-1)
        else:
            weight = (groups - (8 if self.bits == 4 else 0)) * scales
        return weight.flatten(1).to(dtype)


def stacked(parts: Sequence[Grouped]) -> Grouped:
    """Matrices of the same width below each other. Where only some have minima, all get them: code 0's worth.

    Without minima that is −8 steps, which float16 holds exactly: it only changes the exponent.
    """
    codes, scales = (torch.cat([getattr(part, name) for part in parts]) for name in ("codes", "scales"))
    if all(part.minima is None for part in parts):
        return Grouped(codes, scales)
    minima = [part.scales * -8 if part.minima is None else part.minima for part in parts]
    return Grouped(codes, scales, torch.cat(minima))


class Halves(Grouped):
    """4-bit codes that still lie two in a byte, as GGUF's blocks of 32 hold them. They part when asked for.

    For reading only: it has no fields, so `dataclasses.replace` needs a `Grouped`.

    halves: (o blocks 16) uint8; of a block, column j is the low half of byte j, column 16 + j the high half.
    """

    halves: Tensor
    bits = 4

    def __init__(self, halves: Tensor, scales: Tensor, minima: Tensor | None = None) -> None:
        vars(self).update(halves=halves, scales=scales, minima=minima)

    @property
    def shape(self) -> tuple[int, int]:
        return self.halves.shape[0], self.halves.shape[1] * 32

    @property
    def codes(self) -> Tensor:
        return torch.cat((self.halves & 15, self.halves >> 4), dim=-1).flatten(1)


def quantize_int8(weight: Tensor) -> Grouped:
    """Round a matrix (o i) to eight bits, −127 … 127, with one scale for each output row.

    Raises InputError for a weight that is no finite matrix, or too large for scales in float16.
    """
    rows = finite_matrix(weight).unsqueeze(1)
    codes, scales = _symmetric(rows, 127)
    return Grouped(codes.to(torch.int8).flatten(1), scales)


def quantize_int4(weight: Tensor, group_size: int = 32, symmetric: bool = True) -> Grouped:
    """Round a matrix (o i) to four bits, with a scale for each `group_size` neighbours in a row.

    Symmetric: −7 … 7 steps from zero. Otherwise 15 steps from the smallest weight of a group to its largest;
    a minimum costs 16 bits a group, and its steps are finer, most where a group lies to one side of zero.
    Raises InputError for groups that do not divide i, and as `quantize_int8` does.
    """
    groups = _groups(finite_matrix(weight), group_size)
    if symmetric:
        codes, scales = _symmetric(groups, 7)
        return Grouped((codes + 8).to(torch.uint8).flatten(1), scales)
    codes, scales, minima = _asymmetric(groups)
    return Grouped(codes.to(torch.uint8).flatten(1), scales, minima)


def _symmetric(groups: Tensor, top: int) -> tuple[Tensor, Tensor]:
    """Groups (o n g) → whole numbers −top … top (o n g) and scales (o n).

    Four bits have room for −8 too, but with the largest weight at 7 steps none is beyond 7½, where −7 is as
    near as −8. So every weight is within half a step of its code, and both signs are treated alike. (Q4_0 of
    GGUF puts the largest weight at −8. Its finer steps lose less on average, but a weight as large of the
    other sign would be at +8, a whole step beyond the end of the grid.)
    """
    scales = _scales(groups.abs().amax(-1), top)
    return _steps(groups, scales).clamp_(-top, top), scales


def _asymmetric(groups: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Groups (o n g) → whole numbers 0 … 15 (o n g), scales (o n) and minima (o n)."""
    minima = _half(groups.amin(-1))
    # The grid starts at the minimum as stored. Where that was rounded up, weights below it take code 0: they
    # lose what float16 loses. In a group of equal weights none may be above it, and there is no step to take.
    scales = _scales((groups.amax(-1) - minima.float()).clamp(min=0), 15)
    return _steps(groups - minima.float().unsqueeze(-1), scales).clamp_(0, 15), scales, minima


def _steps(distances: Tensor, scales: Tensor) -> Tensor:
    """Distances (o n g) in whole steps (o n), a tie going to the even number."""
    step = scales.float().unsqueeze(-1)
    return (distances / step.where(step > 0, 1)).round_()  # no step: nothing is further than zero


def _scales(reach: Tensor, steps: int) -> Tensor:
    """The float16 scales with which `steps` steps come within half a step of `reach`, or beyond."""
    scales = _half(reach / steps)
    # Eleven bits are plenty for that. But below 2^-14 float16 counts in units of 2^-24: a scale rounded down,
    # perhaps to zero, can end far short of the largest weight. Then it takes one unit more.
    short = scales.float() * (steps + 0.5) < reach
    return torch.where(short, scales + 2**-24, scales)


def _half(numbers: Tensor) -> Tensor:
    """In float16, or InputError if that is infinite."""
    half = numbers.half()
    if half.isinf().any():
        raise InputError(
            f"A scale or minimum would be {numbers.abs().max():.3g}, but float16 ends at 65504. "
            "Trained weights are small: look for damage in this one, or leave its layer as it is."
        )
    return half


def _groups(matrix: Tensor, group_size: int) -> Tensor:
    """(o i) → (o n g), or InputError with the sizes that divide i."""
    inputs = matrix.shape[1]
    if group_size < 1 or inputs % group_size:
        fitting = [size for size in range(16, 257) if inputs % size == 0] or [inputs]
        raise InputError(
            f"Groups of {group_size} do not divide a row of {inputs} weights. "
            f"Choose a group size that does: {', '.join(map(str, fitting))}."
        )
    return rearrange(matrix, "o (n g) -> o n g", g=group_size)


def finite_matrix(weight: Tensor) -> Tensor:
    """The weight (o i) in float32. Raises InputError if it is no matrix, or if NaN or infinity is in it."""
    if weight.dim() != 2 or weight.numel() == 0 or weight.dtype not in _FLOATS:
        raise InputError(
            "Quantization takes a matrix (outputs, inputs) of floating-point numbers; "
            f"this weight has the shape {tuple(weight.shape)} and the type {weight.dtype}."
        )
    matrix = weight.detach().float()
    wrong = ~matrix.isfinite()
    if wrong.any():
        row, column = wrong.nonzero()[0].tolist()
        raise InputError(
            f"NaN or infinity in {int(wrong.sum())} of the weight's {wrong.numel()} numbers, as float32; "
            f"the first is {weight[row, column].item()} at row {row}, column {column}. No scale can "
            "hold them: look for damage in the file, or for training that diverged."
        )
    return matrix
