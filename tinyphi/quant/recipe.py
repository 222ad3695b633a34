"""Which matrix of a model gets which format. One recipe serves quantizing in memory and while loading."""

import fnmatch
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor

from tinyphi.errors import InputError
from tinyphi.quant.gguf_blocks import BLOCK_FORMATS, BlockLinear, block_format, to_grouped
from tinyphi.quant.groupwise import Grouped, quantize_int4, quantize_int8, stacked
from tinyphi.quant.linear import GroupedLinear, QuantizedLinear
from tinyphi.quant.nf4 import NF4Linear, quantize_nf4

METHODS = ("int8", "int4", "nf4", *BLOCK_FORMATS)
FULL = "full"  # instead of a method: leave the matrix as it is
_AT_ONCE = 1 << 22  # numbers quantized at a time: rows are independent, and this bounds the memory for it


class Layer(NamedTuple):
    """What became of one matrix."""

    linear: QuantizedLinear | None  # None: it stays as it is
    reason: str  # why not the recipe's own method; empty where it is


@dataclass(frozen=True)
class Recipe:
    """How to quantize a model.

    method: one of `METHODS`. int8 has a scale per row, int4 one per group, nf4 a codebook and maxima that are
        quantized too; q8_0, q4_0, q4_1, q4_k and q6_k are those of GGUF.
    group_size, symmetric: of int4, see `quantize_int4`.
    keep: exceptions, a pattern of names → a method, or "full" for unquantized. The names are "embed_tokens",
        "lm_head" and "layers.0.attention.qkv_proj" and so on; the first pattern that fits counts. None: a
        tied head, which is the embedding as well, gets 8 bits.
    Raises InputError for an unknown method, and for a group size below 1.
    """

    method: str = "int4"
    group_size: int = 32
    symmetric: bool = True
    keep: Mapping[str, str] | None = field(default=None)

    def __post_init__(self) -> None:
        wrong = [self.method] if self.method not in METHODS else []
        wrong += [method for method in (self.keep or {}).values() if method not in (*METHODS, FULL)]
        if wrong:
            raise InputError(f"There is no method {wrong[0]!r}. There are: {', '.join(METHODS)}.")
        if self.group_size < 1:
            raise InputError(f"The group size is {self.group_size}; it must be at least 1, and 32 is usual.")

    def layer(self, name: str, weight: Tensor, tied: bool = False) -> Layer:
        """The quantized layer for the matrix of that name, (o i). `tied`: embedding and head at once."""
        method, reason = self._method(name, tied)
        if method == FULL:
            return Layer(None, reason)
        fitting, group_size, why = self._fitting(method, weight.shape[1])
        reason = "; ".join(part for part in (reason, why) if part)
        if fitting == FULL:
            return Layer(None, reason)
        return Layer(self._quantized(weight, fitting, group_size), reason)

    def _method(self, name: str, tied: bool) -> tuple[str, str]:
        """The method for a name, and the reason if it is not the recipe's own."""
        for pattern, method in (self.keep or {}).items():
            if fnmatch.fnmatchcase(name, pattern):
                return method, f"kept: {pattern}"
        if self.keep is None and tied and self.method in ("int4", "nf4", "q4_0", "q4_1", "q4_k"):
            return "q8_0", "tied: embedding and head at once"
        return self.method, ""

    def _fitting(self, method: str, inputs: int) -> tuple[str, int, str]:
        """The method, or another where rows of `inputs` weights do not divide into its groups, and why."""
        size = self.group_size if method == "int4" else 1
        if method in BLOCK_FORMATS:
            size = block_format(method).numbers
        if inputs % 2 and method == "int4":
            return FULL, size, f"rows of {inputs} do not pack two codes a byte"
        if inputs % size == 0:
            return method, size, ""
        why = f"rows of {inputs} do not divide by {size}"
        if method == "int4":
            smaller = next((part for part in (64, 32, 16) if part < size and inputs % part == 0), None)
            return ("int4", smaller, why) if smaller else (FULL, size, why)
        if inputs % 32 == 0:
            return ("q8_0" if method == "q6_k" else "q4_1"), 32, why
        return FULL, size, why

    def _quantized(self, weight: Tensor, method: str, group_size: int) -> QuantizedLinear:
        outputs, inputs = weight.shape
        if method == "nf4":
            return NF4Linear(quantize_nf4(weight, double=True))
        pieces = torch.split(weight.detach(), max(1, _AT_ONCE // inputs))
        if method in ("int8", "int4"):
            return GroupedLinear(stacked([self._grouped(piece, method, group_size) for piece in pieces]))
        blocks = torch.cat([block_format(method).quantize(piece.float()) for piece in pieces])
        if block_format(method).numbers == 32:
            return GroupedLinear(to_grouped(blocks, method, (outputs, inputs)))
        return BlockLinear(blocks, method, (outputs, inputs))

    def _grouped(self, weight: Tensor, method: str, group_size: int) -> Grouped:
        return (
            quantize_int8(weight) if method == "int8" else quantize_int4(weight, group_size, self.symmetric)
        )
