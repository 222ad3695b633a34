"""The number formats of GGUF: blocks of 32 or 256 neighbouring numbers in a few bytes, both ways.

    format   numbers   bytes   bits a number   a number is      what a block holds
    Q8_0        32       34        8.5         d·q              d, 32 codes of 8 bits
    Q4_0        32       18        4.5         d·(q - 8)        d, 32 codes of 4 bits
    Q4_1        32       20        5           d·q + m          d, m, 32 codes of 4 bits
    Q4_K       256      144        4.5         d·s·q - e·m      d, e, 8 × (s, m) of 6 bits, 256 codes of 4
    Q6_K       256      210        6.5625      d·s·(q - 32)     d, 16 × s of 8 bits, 256 codes of 6

d, e and Q4_1's m are float16. The *K-quants* quantize the scales a second time: each group of 32 or 16
numbers has a small whole number s as its scale, in units of the block's d.

Decoding is fixed by the format, to the last bit. Encoding is a choice. For Q8_0, Q4_0 and Q4_1 it is simple,
and here as in llama.cpp, bit for bit; for the K-quants it is a search, and this one is not llama.cpp's.

Source: `ggml-common.h` and `ggml-quants.c` in llama.cpp.
"""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import product

import torch
from einops import rearrange
from torch import Tensor

from tinyphi.errors import InputError
from tinyphi.quant.groupwise import Grouped, Halves
from tinyphi.quant.linear import QuantizedLinear

_PIECE = 1 << 18  # numbers worked on at a time: 1 MB in float32, which stays in the processor's cache
_LARGEST = 65504.0  # the largest float16


@dataclass(frozen=True)
class BlockFormat:
    """One row of the table above."""

    name: str
    numbers: int  # in a block
    nbytes: int  # of a block
    quantize: Callable[[Tensor], Tensor]  # float32 (… k) → uint8 (blocks, nbytes)
    dequantize: Callable[[Tensor], Tensor]  # uint8 (blocks, nbytes) → float32 (blocks, numbers)

    def __str__(self) -> str:
        return self.name


def block_format(kind: str) -> BlockFormat:
    """The format called "q8_0", "q4_0", "q4_1", "q4_k" or "q6_k". Raises InputError for another name."""
    if kind not in BLOCK_FORMATS:
        raise InputError(f"There is no block format {kind!r}; choose one of {', '.join(BLOCK_FORMATS)}.")
    return BLOCK_FORMATS[kind]


# Numbers → blocks. Each public function takes numbers (… k), k a multiple of the block's, and returns uint8
# (blocks, bytes). Raises InputError for another k, and for NaN, infinities and numbers beyond float16.


def quantize_q8_0(x: Tensor) -> Tensor:
    """Eight bits: the largest magnitude of 32 numbers becomes ±127. `quantize_row_q8_0_ref` in ggml."""
    return _encoded(x, 32, 34, _encode_q8_0)


def quantize_q4_0(x: Tensor) -> Tensor:
    """Four bits: the number of largest magnitude becomes -8, its sign is the scale's; the rest fall into
    -8 … 7. `quantize_row_q4_0_ref` in ggml."""
    return _encoded(x, 32, 18, _encode_q4_0)


def quantize_q4_1(x: Tensor) -> Tensor:
    """Four bits between the smallest (0) and the largest (15) number. `quantize_row_q4_1_ref` in ggml."""
    return _encoded(x, 32, 20, _encode_q4_1)


def quantize_q4_k(x: Tensor) -> Tensor:
    """Four bits, with a scale and a minimum of 6 bits for every 32 numbers, found by search."""
    return _encoded(x, 256, 144, _encode_q4_k)


def quantize_q6_k(x: Tensor) -> Tensor:
    """Six bits, with a scale of 8 bits for every 16 numbers, found by search."""
    return _encoded(x, 256, 210, _encode_q6_k)


def _encoded(x: Tensor, numbers: int, nbytes: int, encode: Callable[[Tensor], Tensor]) -> Tensor:
    """Cut x (… k) into blocks and encode them a piece at a time, so that intermediate tensors stay small."""
    if not x.is_floating_point() or x.ndim == 0 or x.shape[-1] % numbers:
        raise InputError(
            f"Blocks hold {numbers} neighbouring numbers, so the last axis must be a multiple of that; this "
            f"is {x.dtype} {tuple(x.shape)}. Keep it in float16, or choose a format of smaller blocks."
        )
    blocks = x.detach().reshape(-1, numbers)
    result = torch.empty(len(blocks), nbytes, dtype=torch.uint8, device=x.device)
    for start in range(0, len(blocks), _PIECE // numbers):
        piece = blocks[start : start + _PIECE // numbers].float()
        if not bool((piece.abs() <= _LARGEST).all()):  # false for NaN as well
            raise InputError(
                f"The numbers include NaN, an infinity or one beyond ±{_LARGEST:.0f}, which no float16 scale "
                "can express. Look for the layer in which the weights went wrong."
            )
        result[start : start + len(piece)] = encode(piece)
    return result


# In the three simple formats the codes are computed with the exact scale, and only then is the scale rounded
# to float16. The other order would be a little more accurate, but this is how all files are made.


def _encode_q8_0(x: Tensor) -> Tensor:
    scale = x.abs().amax(dim=1, keepdim=True) / 127
    steps = x * _inverse(scale)
    # Halves are rounded away from zero, as C's roundf does; torch.round goes to the even neighbour.
    whole = steps.abs().floor()
    whole += (steps.abs() - whole >= 0.5).float()
    codes = (whole * steps.sign()).to(torch.int8)
    return torch.cat((_half_bytes(scale), codes.view(torch.uint8)), dim=1)


def _encode_q4_0(x: Tensor) -> Tensor:
    peak = x.gather(1, x.abs().argmax(dim=1, keepdim=True))
    scale = (peak + 0.0) / -8  # + 0.0 makes +0 of -0, from which ggml starts its search for the peak
    codes = (x * _inverse(scale) + 8.5).clamp(max=15).to(torch.uint8)
    return torch.cat((_half_bytes(scale), _pack(codes)), dim=1)


def _encode_q4_1(x: Tensor) -> Tensor:
    # Gathered rather than amin: among +0 and -0 the first one counts.
    low, high = x.gather(1, x.argmin(dim=1, keepdim=True)), x.gather(1, x.argmax(dim=1, keepdim=True))
    scale = (high - low) / 15
    codes = ((x - low) * _inverse(scale) + 0.5).clamp(max=15).to(torch.uint8)
    return torch.cat((_half_bytes(scale), _half_bytes(low), _pack(codes)), dim=1)


def _inverse(scale: Tensor) -> Tensor:
    """1/scale; 0 for a block of zeros, or of numbers so small that float16 makes zeros of them."""
    inverse = 1 / scale
    return torch.where(inverse.isfinite(), inverse, 0)


def _half_bytes(numbers: Tensor) -> Tensor:
    """(blocks, n) → the bytes of float16, (blocks, 2n)."""
    return numbers.half().view(torch.uint8)


def _pack(codes: Tensor) -> Tensor:
    """Two codes of 4 bits a byte, the first half of them in the low bits: (… 2k) → (… k)."""
    low, high = codes.chunk(2, dim=-1)
    return low | high << 4


# The K-quants. Wanted are a whole number s (and m) for each group and a float16 d (and e) for the block, such
# that the sum of the squared errors is small. There are far too many combinations to try, so three steps:
#
# 1. each group for itself finds the best scale (and minimum) among the real numbers;
# 2. d (and e) are set so that the largest of these is the largest whole number, and each group takes the best
#    whole numbers near its own optimum;
# 3. all whole numbers stand, which makes the best d (and e) a matter of least squares; then the codes again.


def _encode_q4_k(x: Tensor) -> Tensor:
    groups = rearrange(x, "n (g k) -> n g k", k=32)
    scales, minima = _fit_line(groups)  # n g 1, as all that belongs to a group
    d, e = ((part.amax(1, keepdim=True) / 63).half().float() for part in (scales, minima))
    s, m = _whole_line(groups, scales, minima, d, e)
    steps = s * _round_to(groups + e * m, d * s, 0, 15)
    everything = [rearrange(part, "n g k -> n 1 (g k)") for part in (groups, steps, m.expand_as(groups))]
    best = _Best(d, e)
    best.offer(_line_error(groups, d * s, e * m).sum(1, keepdim=True), d, e)
    d, e = (part.half().float() for part in _least_squares(*everything))
    best.offer(_line_error(groups, d * s, e * m).sum(1, keepdim=True), d, e)
    d, e = best.values
    codes = _round_to(groups + e * m, d * s, 0, 15).to(torch.uint8)
    halves = _half_bytes(torch.cat((d, e), dim=2).flatten(1))
    return torch.cat((halves, _pack_six_bits(s, m), _pack(codes.view(-1, 4, 64)).flatten(1)), dim=1)


def _fit_line(groups: Tensor) -> tuple[Tensor, Tensor]:
    """The scale and minimum of each group for which scale·q - minimum comes closest to it, q in 0 … 15:
    (n g k) → two of (n g 1), minimum ≥ 0.

    The best codes for a given scale are found by rounding, the best scale for given codes by least squares;
    taking turns, the error only falls. Where that ends depends on the start, so there are several: a range of
    fewer than 15 steps covers all numbers but the outermost, and those the more finely.
    """
    low = groups.amin(-1, keepdim=True).clamp(max=0)
    span = groups.amax(-1, keepdim=True) - low
    best = _Best(span, low)
    for steps in range(22, 33):
        scale, minimum = span / (steps / 2), -low  # 11, 11.5, …, 16 steps
        for _ in range(3):
            codes = _round_to(groups + minimum, scale, 0, 15)
            best.offer(_line_error(groups, scale, minimum), scale, minimum)
            scale, minimum = _least_squares(groups, codes, torch.ones_like(codes))
    scale, minimum = best.values
    return scale, minimum


def _whole_line(
    groups: Tensor, scales: Tensor, minima: Tensor, d: Tensor, e: Tensor
) -> tuple[Tensor, Tensor]:
    """Whole numbers s and m in 0 … 63 with which d·s and e·m serve each group best: two of (n g 1)."""
    nearest_s, nearest_m = _round_to(scales, d, 0, 63), _round_to(minima, e, 0, 63)
    best = _Best(nearest_s, nearest_m)
    for change_s, change_m in product((0, -1, 1), repeat=2):
        s, m = (nearest_s + change_s).clamp(0, 63), (nearest_m + change_m).clamp(0, 63)
        best.offer(_line_error(groups, d * s, e * m), s, m)
    s, m = best.values
    return s, m


def _line_error(groups: Tensor, scale: Tensor, minimum: Tensor) -> Tensor:
    """The sum of squared errors of each group, with the best codes in 0 … 15: (n g k) → (n g 1)."""
    codes = _round_to(groups + minimum, scale, 0, 15)
    return (scale * codes - minimum - groups).square().sum(-1, keepdim=True)


def _least_squares(x: Tensor, a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """The u and the v ≥ 0 for which u·a - v·b is closest to x along the last axis: (… k) → two of (… 1)."""
    aa, ab, bb, ax, bx = ((p * q).sum(-1, keepdim=True) for p, q in ((a, a), (a, b), (b, b), (a, x), (b, x)))
    determinant = aa * bb - ab * ab
    u, v = (bb * ax - ab * bx) / determinant, (ab * ax - aa * bx) / determinant
    without_b = ~(v >= 0)  # true for NaN as well: a and b are parallel, or one of them is zero
    u, v = torch.where(without_b, ax / aa, u), torch.where(without_b, 0, v)
    return u.nan_to_num(), v


def _pack_six_bits(s: Tensor, m: Tensor) -> Tensor:
    """The inverse of `_six_bits`: two of (n 8 1), whole numbers below 64 → (n 12)."""
    s, m = s.flatten(1).to(torch.uint8), m.flatten(1).to(torch.uint8)
    first, second = s[:, :4] | s[:, 4:] >> 4 << 6, m[:, :4] | m[:, 4:] >> 4 << 6
    return torch.cat((first, second, (s[:, 4:] & 15) | m[:, 4:] << 4), dim=1)


def _encode_q6_k(x: Tensor) -> Tensor:
    groups = rearrange(x, "n (g k) -> n g k", k=16)
    scales = _fit_scale(groups)
    d = (scales.gather(1, scales.abs().argmax(1, keepdim=True)) / -128).half().float()
    s = _whole_scale(groups, scales, d)
    best = _Best(d)
    best.offer(_scale_error(groups, d * s).sum(1, keepdim=True), d)
    steps = s * _round_to(groups, d * s, -32, 31)
    d = _nearest_multiple(groups.flatten(1), steps.flatten(1)).unsqueeze(-1).half().float()
    best.offer(_scale_error(groups, d * s).sum(1, keepdim=True), d)
    (d,) = best.values
    codes = (_round_to(groups, d * s, -32, 31) + 32).to(torch.uint8).view(-1, 2, 128)
    low = _pack(codes & 15).flatten(1)
    first, second, third, fourth = (codes >> 4).chunk(4, dim=-1)
    high = (first | second << 2 | third << 4 | fourth << 6).flatten(1)
    s_bytes = s.flatten(1).to(torch.int8).view(torch.uint8)
    return torch.cat((low, high, s_bytes, _half_bytes(d.flatten(1))), dim=1)


def _fit_scale(groups: Tensor) -> Tensor:
    """The scale of each group for which scale·q comes closest to it, q in -32 … 31: (n g k) → (n g 1)."""
    peak = groups.gather(-1, groups.abs().argmax(-1, keepdim=True))
    best = _Best(peak)
    for steps in range(56, 67):
        scale = peak / (steps / -2)  # the peak becomes -28, -28.5, …, -33
        for _ in range(3):
            codes = _round_to(groups, scale, -32, 31)
            best.offer(_scale_error(groups, scale), scale)
            scale = _nearest_multiple(groups, codes)
    return best.values[0]


def _nearest_multiple(x: Tensor, a: Tensor) -> Tensor:
    """The u for which u·a is closest to x along the last axis: (… k) → (… 1); 0 where a is zero."""
    return ((a * x).sum(-1, keepdim=True) / (a * a).sum(-1, keepdim=True)).nan_to_num()


def _whole_scale(groups: Tensor, scales: Tensor, d: Tensor) -> Tensor:
    """The whole number s in -128 … 127 with which d·s serves each group best: (n g 1)."""
    nearest = _round_to(scales, d, -128, 127)
    best = _Best(nearest)
    for change in (0, -1, 1):
        s = (nearest + change).clamp(-128, 127)
        best.offer(_scale_error(groups, d * s), s)
    return best.values[0]


def _scale_error(groups: Tensor, scale: Tensor) -> Tensor:
    """The sum of squared errors of each group, with the best codes in -32 … 31: (n g k) → (n g 1)."""
    return (scale * _round_to(groups, scale, -32, 31) - groups).square().sum(-1, keepdim=True)


def _round_to(x: Tensor, scale: Tensor, low: int, high: int) -> Tensor:
    """x in whole steps of the scale, within the bounds; 0 where the scale is 0."""
    return torch.where(scale == 0, 0, x / scale).round().clamp(low, high)


class _Best:
    """Of all that was offered, the values with the smallest error, for each group or block on its own."""

    def __init__(self, *start: Tensor) -> None:
        self.values = start
        self.error = torch.full_like(start[0], torch.inf)

    def offer(self, error: Tensor, *values: Tensor) -> None:
        better = error < self.error
        self.error = torch.where(better, error, self.error)
        self.values = tuple(
            torch.where(better, new, old) for new, old in zip(values, self.values, strict=True)
        )


# Blocks → numbers. Each public function takes uint8 (blocks, bytes) and returns float32 (blocks, numbers).
# The order of operations is ggml's, so the results are equal bit for bit. Raises InputError for other shapes.


def dequantize_q8_0(raw: Tensor) -> Tensor:
    """32 numbers: scale f16 | 32 × int8."""
    _check_blocks(raw, 34)
    return raw[:, 2:].view(torch.int8).float().mul_(_half(raw, 0))


def dequantize_q4_0(raw: Tensor) -> Tensor:
    """32 numbers: scale f16 | 16 bytes of 4-bit numbers, 8 stands for zero."""
    _check_blocks(raw, 18)
    return _nibbles(raw[:, 2:]).float().sub_(8).mul_(_half(raw, 0))


def dequantize_q4_1(raw: Tensor) -> Tensor:
    """32 numbers: scale f16 | smallest f16 | 16 bytes of 4-bit numbers."""
    _check_blocks(raw, 20)
    return _nibbles(raw[:, 4:]).float().mul_(_half(raw, 0)).add_(_half(raw, 2))


def dequantize_q4_k(raw: Tensor) -> Tensor:
    """256 numbers in 8 groups: scale f16 | scale of minima f16 | 12 bytes of scales, minima | 128 bytes."""
    _check_blocks(raw, 144)
    group_scales, group_minima = _six_bits(raw[:, 4:16])
    scales = (_half(raw, 0) * group_scales).unsqueeze(-1)
    minima = (_half(raw, 2) * group_minima).unsqueeze(-1)
    # 32 bytes hold two groups: the low halves are the first, the high halves the second.
    numbers = _nibbles(raw[:, 16:].view(-1, 4, 32)).view(-1, 8, 32)
    return numbers.float().mul_(scales).sub_(minima).flatten(1)


def dequantize_q6_k(raw: Tensor) -> Tensor:
    """256 numbers in 16 groups: 128 bytes of lower 4 bits | 64 of upper 2 | 16 × int8 scales | scale f16."""
    _check_blocks(raw, 210)
    low = _nibbles(raw[:, :128].view(-1, 2, 64))
    upper = raw[:, 128:192].view(-1, 2, 32)
    high = torch.cat([upper >> shift & 3 for shift in (0, 2, 4, 6)], dim=-1)
    numbers = (low | high << 4).view(-1, 16, 16)
    scales = _half(raw, 208) * raw[:, 192:208].view(torch.int8)
    return numbers.float().sub_(32).mul_(scales.unsqueeze(-1)).flatten(1)


def _check_blocks(raw: Tensor, nbytes: int) -> None:
    if raw.dtype != torch.uint8 or raw.ndim != 2 or raw.shape[1] != nbytes:
        raise InputError(
            f"Blocks are a uint8 tensor with the axes (blocks, {nbytes} bytes); this is {raw.dtype} "
            f"{tuple(raw.shape)}."
        )


def _half(raw: Tensor, start: int) -> Tensor:
    """The two bytes from `start` on as a float16 scale, (blocks, 1)."""
    return raw[:, start : start + 2].view(torch.float16).float()


def _nibbles(packed: Tensor) -> Tensor:
    """Two numbers of 4 bits a byte, all the low halves before the high ones: (… k) → (… 2k)."""
    return torch.cat((packed & 15, packed >> 4), dim=-1)


def _six_bits(packed: Tensor) -> tuple[Tensor, Tensor]:
    """Eight scales and eight minima of 6 bits from 12 bytes: (blocks, 12) → two of (blocks, 8).

    Four bytes hold scales 0-3, four minima 0-3, four the lower bits of scales and minima 4-7, whose two upper
    bits are on top of the first eight bytes.
    """
    first, second, third = packed[:, :4], packed[:, 4:8], packed[:, 8:]
    scales = torch.cat((first & 63, (third & 15) | (first >> 6 << 4)), dim=1)
    minima = torch.cat((second & 63, (third >> 4) | (second >> 6 << 4)), dim=1)
    return scales, minima


BLOCK_FORMATS = {
    "q8_0": BlockFormat("Q8_0", 32, 34, quantize_q8_0, dequantize_q8_0),
    "q4_0": BlockFormat("Q4_0", 32, 18, quantize_q4_0, dequantize_q4_0),
    "q4_1": BlockFormat("Q4_1", 32, 20, quantize_q4_1, dequantize_q4_1),
    "q4_k": BlockFormat("Q4_K", 256, 144, quantize_q4_k, dequantize_q4_k),
    "q6_k": BlockFormat("Q6_K", 256, 210, quantize_q6_k, dequantize_q6_k),
}


# Blocks ↔ `Grouped`. Q8_0, Q4_0 and Q4_1 are int8 and int4 in groups of 32 under other names: the same codes
# and float16 numbers, only lying elsewhere.


def to_grouped(blocks: Tensor, kind: str, shape: tuple[int, int]) -> Grouped:
    """The matrix (o i) of that shape whose rows are blocks of "q8_0", "q4_0" or "q4_1", unchanged.

    blocks: uint8 (o·i/32, bytes). Raises InputError for another kind, or blocks that are not so many.
    """
    outputs, inputs = shape
    if kind not in ("q8_0", "q4_0", "q4_1"):
        raise InputError(f"Blocks of {kind!r} are not plain groups; only q8_0, q4_0 and q4_1 are.")
    _check_blocks(blocks, BLOCK_FORMATS[kind].nbytes)
    if inputs % 32 or len(blocks) * 32 != outputs * inputs:
        raise InputError(f"A matrix {shape} does not consist of {len(blocks)} blocks of 32 numbers.")
    halves = blocks[:, :4].contiguous().view(torch.float16)
    scales, minima = (half.contiguous().view(outputs, -1) for half in halves.unbind(dim=1))
    if kind == "q8_0":
        return Grouped(blocks[:, 2:].view(torch.int8).reshape(shape), scales)
    halves = blocks[:, 2 if kind == "q4_0" else 4 :].reshape(*scales.shape, 16)
    return Halves(halves, scales, minima if kind == "q4_1" else None)


def grouped_kind(weight: Grouped) -> str | None:
    """The kind of block that can hold this matrix unchanged: "q8_0", "q4_0", "q4_1", or None."""
    if weight.group_size != 32:
        return None
    if weight.bits == 8:
        return "q8_0"
    return "q4_0" if weight.minima is None else "q4_1"


def from_grouped(weight: Grouped) -> Tensor:
    """The blocks, uint8 (o·i/32, bytes), of the kind `grouped_kind(weight)`: the inverse of `to_grouped`.

    Raises InputError unless the groups have 32 numbers.
    """
    kind = grouped_kind(weight)
    if kind is None:
        raise InputError(
            f"GGUF's blocks hold 32 numbers, but the groups of this matrix {weight.group_size}. Quantize "
            "with group_size=32 to store the very same numbers."
        )
    codes = weight.codes.reshape(-1, 32)
    codes = codes.view(torch.uint8) if kind == "q8_0" else _pack(codes)
    parts = [part.flatten() for part in (weight.scales, weight.minima) if part is not None]
    return torch.cat((torch.stack(parts, dim=1).view(torch.uint8), codes), dim=1)


class BlockLinear(QuantizedLinear):
    """A linear layer that keeps the blocks of a GGUF file and decodes them at every call."""

    blocks: Tensor

    def __init__(self, blocks: Tensor, kind: str, shape: tuple[int, int]) -> None:
        """blocks: uint8 (o·i/numbers, bytes) of the kind, row after row; shape: (o, i). Raises InputError if
        these do not fit together."""
        super().__init__(*shape)
        self.kind = kind
        self.block_format = block_format(kind)
        _check_blocks(blocks, self.block_format.nbytes)
        numbers = self.block_format.numbers
        if shape[1] % numbers or len(blocks) * numbers != shape[0] * shape[1]:
            raise InputError(
                f"A matrix {shape} does not consist of {len(blocks)} blocks of {numbers} numbers."
            )
        self.register_buffer("blocks", blocks, persistent=False)

    @property
    def format(self) -> str:
        return self.block_format.name

    def dequantize(self, dtype: torch.dtype = torch.float32) -> Tensor:
        return self._decoded(self.blocks, dtype).view(self.out_features, self.in_features)

    def rows(self, ids: Tensor) -> Tensor:
        chosen = self.blocks.view(self.out_features, -1, self.block_format.nbytes)[ids]
        return self._decoded(chosen.flatten(0, -2), torch.float32).view(*ids.shape, self.in_features)

    def stored(self) -> dict[str, Tensor]:
        return {"blocks": self.blocks}

    def _decoded(self, blocks: Tensor, dtype: torch.dtype) -> Tensor:
        """(blocks, bytes) → (blocks, numbers), a piece at a time."""
        numbers = self.block_format.numbers
        result = torch.empty(len(blocks), numbers, dtype=dtype, device=blocks.device)
        for start in range(0, len(blocks), _PIECE // numbers):
            piece = blocks[start : start + _PIECE // numbers]
            result[start : start + len(piece)] = self.block_format.dequantize(piece)
        return result
