"""NF4, the format of QLoRA: four bits choose one of sixteen quantiles of a normal distribution.

    W[k] = absmax[k // 64] · CODEBOOK[codes[k]]        k counts through the matrix, row after row

Trained weights are roughly normal, many near zero and few far out. Evenly spaced codes stand where hardly any
weight is; quantiles are close together where the weights are. With a float32 for each 64 weights: 4.5 bits.

Double quantization stores the maxima of the blocks in eight bits, which makes 4.127 bits a weight:

    absmax[n] = mean + largest[n // 256] · DYNAMIC_MAP[codes[n]]

Source: Dettmers et al. 2023 (arXiv 2305.14314), section 3; every bit as bitsandbytes 0.50 has it on a CPU.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from tinyphi.errors import InputError, WeightsError
from tinyphi.quant.groupwise import finite_matrix
from tinyphi.quant.linear import QuantizedLinear

BLOCK = 64  # weights that share a maximum
ABSMAX_BLOCK = 256  # maxima that share one when they are quantized too
DESCRIPTION = "weight.quant_state.bitsandbytes__nf4"  # JSON in bytes, among the tensors of a file


def normal_quantiles() -> Tensor:
    """(16): quantiles of the normal distribution by the largest of them: seven below zero, zero, eight above.

    Each side has its own evenly spaced probabilities, from 0.5 outwards, and they meet at zero. Sixteen codes
    alike on both sides would leave zero out, but what is zero, because it was pruned or padded, has to stay.
    """
    outermost = 0.9677083  # the mean of 1 - 1/30 and 1 - 1/32, with as many digits as the authors gave it
    above, below = (torch.linspace(outermost, 0.5, steps).double()[:-1] for steps in (9, 8))
    values = torch.cat((-torch.special.ndtri(below), torch.zeros(1), torch.special.ndtri(above).flip(0)))
    return values.float() / values.float().max()


def dynamic_map() -> Tensor:
    """(256): numbers −1 < x ≤ 1, ascending: 2, 4, 8 … 128 in seven decades, and 0 and 1.

    The larger the numbers of a decade, the more codes it has. It is cut into equal pieces, and their centres,
    with either sign, are the codes.
    Source: Dettmers 2016 (arXiv 1511.04561); `create_dynamic_map` in bitsandbytes.
    """
    parts = [torch.tensor([0.0, 1.0])]
    for decade in range(7):
        edges = torch.linspace(0.1, 1, 2**decade + 1)
        centres = (edges[:-1] + edges[1:]) / 2 * 10.0 ** (decade - 6)
        parts += [centres, -centres]
    return torch.cat(parts).sort().values


CODEBOOK = normal_quantiles()
DYNAMIC_MAP = dynamic_map()


@dataclass(frozen=True)
class QuantizedAbsmax:
    """The maxima of n blocks in eight bits."""

    codes: Tensor  # (n): uint8, places in DYNAMIC_MAP
    largest: Tensor  # (n/256, rounded up): float32, the largest distance from the mean
    mean: Tensor  # (): float32. Maxima are all positive, and only around their mean are both signs of use

    def dequantize(self) -> Tensor:
        """(n) float32."""
        distances = in_blocks(DYNAMIC_MAP.to(self.codes.device)[self.codes.int()], ABSMAX_BLOCK)
        return (distances * self.largest.unsqueeze(1)).flatten()[: len(self.codes)] + self.mean


@dataclass(frozen=True)
class NF4:
    """A matrix (o i) in NF4. Blocks do not stop at the end of a row, and the last may be shorter."""

    packed: Tensor  # (o·i/2, rounded up; 1): uint8, two codes a byte
    absmax: Tensor | QuantizedAbsmax  # (n): float32, the largest magnitude of each block
    shape: tuple[int, int]
    dtype: torch.dtype  # what the weight was; to this bitsandbytes dequantizes it

    def dequantize(self, dtype: torch.dtype = torch.float32) -> Tensor:
        """The matrix (o i) that the codes stand for, computed in float32."""
        values = in_blocks(look_up(self.packed), BLOCK)
        absmax = self.absmax if isinstance(self.absmax, Tensor) else self.absmax.dequantize()
        outputs, inputs = self.shape
        return values.mul_(absmax.unsqueeze(1)).flatten()[: outputs * inputs].view(self.shape).to(dtype)


def quantize_nf4(weight: Tensor, double: bool = False) -> NF4:
    """Take the nearest code for each weight of a matrix (o i); `double` quantizes the blocks' maxima too.

    Raises InputError for a weight that is no finite matrix.
    """
    matrix = finite_matrix(weight)
    blocks = in_blocks(matrix.flatten(), BLOCK)
    absmax = blocks.abs().amax(1)
    largest = absmax.clamp(min=1e-38)  # never divide by zero
    fractions = blocks * (1 / largest).unsqueeze(1)
    if matrix.numel() % BLOCK:
        # In a short block bitsandbytes divides, and a quotient can round otherwise than the product above.
        fractions[-1], absmax[-1] = blocks[-1] / largest[-1], largest[-1]
    outputs, inputs = matrix.shape
    even = outputs * inputs + outputs * inputs % 2
    codes = nearest(fractions, CODEBOOK).flatten()[:even]
    dtype = torch.float32 if weight.dtype == torch.float64 else weight.dtype  # bitsandbytes has no float64
    return NF4(pack(codes), quantize_absmax(absmax) if double else absmax, (outputs, inputs), dtype)


def quantize_absmax(absmax: Tensor) -> QuantizedAbsmax:
    """Double quantization: maxima of n blocks in eight bits. Raises InputError if float32 cannot sum them."""
    mean = absmax.mean()
    if not mean.isfinite():
        raise InputError(
            f"The weight reaches {absmax.max():.3g}, too much for double quantization to take a mean. "
            "Trained weights are small: look for damage in this one, or leave its layer as it is."
        )
    blocks = in_blocks(absmax - mean, ABSMAX_BLOCK)
    largest = blocks.abs().amax(1)
    fractions = (blocks * (1 / largest.where(largest > 0, 1)).unsqueeze(1)).clamp_(-1, 1)
    codes = nearest(_in_sixteen_bits(fractions), DYNAMIC_MAP)
    codes *= (largest > 0).unsqueeze(1)  # any code would do for a block of zeros; bitsandbytes writes 0
    return QuantizedAbsmax(codes.flatten()[: len(absmax)], largest, mean)


def _in_sixteen_bits(fractions: Tensor) -> Tensor:
    """The nearest of 65,536 evenly spaced numbers from −1 to 1.

    On a CPU bitsandbytes has a table of the nearest codes for these, so as not to search. (On a GPU it takes
    the code nearest to the fraction itself; about one in a thousand differs.)
    """
    return ((fractions + 1) * 0.5 * 65535 + 0.5).floor_() * 2 / 65535 - 1


def nearest(fractions: Tensor, values: Tensor) -> Tensor:
    """The place in `values`, ascending, that is nearest to each fraction; in a tie the lower. → uint8."""
    midpoints = (values[:-1] + values[1:]) / 2
    return torch.bucketize(fractions, midpoints.to(fractions.device), out_int32=True).to(torch.uint8)


def pack(codes: Tensor) -> Tensor:
    """Two 4-bit codes a byte, (k) → (k/2 1). The first is in the high half (in `GroupedLinear`, the low)."""
    return (codes[::2] << 4 | codes[1::2]).unsqueeze(1)


def look_up(packed: Tensor) -> Tensor:
    """What packed codes stand for, (k/2 1) → (k) float32. A byte is looked up as a pair of values."""
    codebook = CODEBOOK.to(packed.device)
    return torch.cartesian_prod(codebook, codebook)[packed.flatten().int()].flatten()


def in_blocks(numbers: Tensor, size: int) -> Tensor:
    """(k) → (k/size, rounded up; size), the last block filled up with zeros."""
    missing = -len(numbers) % size
    return (F.pad(numbers, (0, missing)) if missing else numbers).view(-1, size)


class NF4Linear(QuantizedLinear):
    """A linear layer whose weight is stored in NF4, under the names that bitsandbytes gives it."""

    packed: Tensor
    absmax: Tensor  # float32, or the uint8 codes of double quantization
    largest: Tensor | None
    mean: Tensor | None

    def __init__(self, weight: NF4) -> None:
        super().__init__(*weight.shape)
        self.original_dtype = weight.dtype
        buffers: dict[str, Tensor | None] = {"packed": weight.packed, "largest": None, "mean": None}
        if isinstance(weight.absmax, QuantizedAbsmax):
            double = weight.absmax
            buffers |= {"absmax": double.codes, "largest": double.largest, "mean": double.mean}
        else:
            buffers["absmax"] = weight.absmax
        for name, tensor in buffers.items():
            self.register_buffer(name, tensor, persistent=False)

    @property
    def format(self) -> str:
        return f"nf4, blocks of {BLOCK}" + ("" if self.largest is None else ", double quantized")

    def nf4(self) -> NF4:
        """The weight as plain codes and maxima."""
        absmax: Tensor | QuantizedAbsmax = self.absmax
        if self.largest is not None and self.mean is not None:
            absmax = QuantizedAbsmax(self.absmax, self.largest, self.mean)
        return NF4(self.packed, absmax, (self.out_features, self.in_features), self.original_dtype)

    def dequantize(self, dtype: torch.dtype = torch.float32) -> Tensor:
        return self.nf4().dequantize(dtype)

    def stored(self) -> dict[str, Tensor]:
        """What `Linear4bit` of bitsandbytes has in its state_dict: also both tables, and JSON in bytes."""
        tensors = {"weight": self.packed, "weight.absmax": self.absmax, "weight.quant_map": CODEBOOK.clone()}
        description: dict[str, Any] = {
            "quant_type": "nf4",
            "blocksize": BLOCK,
            "dtype": str(self.original_dtype).removeprefix("torch."),
            "shape": [self.out_features, self.in_features],
        }
        if self.largest is not None and self.mean is not None:
            tensors["weight.nested_absmax"] = self.largest
            tensors["weight.nested_quant_map"] = DYNAMIC_MAP.clone()
            description["nested_blocksize"] = ABSMAX_BLOCK
            description["nested_dtype"] = "float32"
            description["nested_offset"] = self.mean.item()
        text = torch.tensor(list(json.dumps(description).encode()), dtype=torch.uint8)
        return {**tensors, DESCRIPTION: text}

    @classmethod
    def from_stored(cls, tensors: Mapping[str, Tensor]) -> "NF4Linear":
        """The layer from what `stored` returned.

        Raises WeightsError where the tables or the description are not those of such a layer.
        """
        absmax: Tensor | QuantizedAbsmax = tensors["weight.absmax"]
        try:
            description = json.loads(bytes(tensors[DESCRIPTION].tolist()))
            if "weight.nested_absmax" in tensors:
                mean = torch.tensor(float(description["nested_offset"]), device=tensors["weight"].device)
                absmax = QuantizedAbsmax(tensors["weight.absmax"], tensors["weight.nested_absmax"], mean)
            dtype = getattr(torch, description["dtype"])
            layer = cls(NF4(tensors["weight"], absmax, tuple(description["shape"]), dtype))
            expected = layer.stored()
        except (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError) as error:
            raise WeightsError(
                "The description of an NF4 matrix is damaged; fetch or save it again."
            ) from error
        for name in (DESCRIPTION, "weight.quant_map", "weight.nested_quant_map"):
            if name in tensors and not torch.equal(tensors[name].cpu(), expected[name]):
                raise WeightsError(f"This NF4 matrix has another {name} than tinyphi and bitsandbytes know.")
        return layer
