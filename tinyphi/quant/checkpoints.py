"""The tensors of AWQ and GPTQ checkpoints: eight 4-bit numbers in an int32, laid out by three conventions.

                AutoAWQ, version "gemm"           AutoGPTQ (checkpoint format "gptq"; "gptq_v2")
    qweight     (i o/8), along the outputs        (i/8 o), along the inputs
    qzeros      (n o/8), the zero points          (n o/8), the zero points − 1; v2: the zero points
    scales      (n o) float16                     (n o) float16
    g_idx       –                                 (i), the group of each column
    the lowest four bits first, number            0 1 2 3 4 5 6 7
                0 2 4 6 1 3 5 7

The weight is scales · (code − zero point), with n = i/g groups in a row. Stored under the linear's name, as
`model.layers.0.mlp.down_proj.qweight`.

Source: `WQLinear_GEMM` of AutoAWQ 0.2.8; `QuantLinear.pack` of AutoGPTQ 0.7.1.
"""

from collections.abc import Callable, Mapping
from enum import Enum
from typing import Any

import torch
from einops import rearrange
from torch import Tensor

from tinyphi.errors import ConfigError, InputError, WeightsError
from tinyphi.quant.backends import pack_nibbles, unpack_nibbles
from tinyphi.quant.groupwise import Grouped
from tinyphi.quant.linear import GroupedLinear, QuantizedLinear
from tinyphi.quant.zeros import from_zeros, to_zeros

AWQ_ORDER = (0, 2, 4, 6, 1, 3, 5, 7)  # which of eight numbers lies in the first, second, … four bits
PLAIN_ORDER = (0, 1, 2, 3, 4, 5, 6, 7)


class Layout(Enum):
    """The convention by which a checkpoint stores its linears."""

    AWQ = "awq"
    GPTQ_V1 = "gptq"
    GPTQ_V2 = "gptq_v2"

    @classmethod
    def of(cls, quantization_config: Mapping[str, Any]) -> "Layout":
        """The layout that the `quantization_config` of a config.json speaks of.

        Raises ConfigError for another method, other than 4 bits, or a variant that lies in another way.
        """
        method = quantization_config.get("quant_method")
        if method not in ("awq", "gptq"):
            raise ConfigError(f"quant_method is {method!r}; tinyphi reads 'awq' and 'gptq' checkpoints.")
        for key, allowed in _ALLOWED[method].items():
            value = quantization_config.get(key, allowed[0])
            if (value.lower() if isinstance(value, str) else value) not in allowed:
                raise ConfigError(
                    f"{key} is {value!r} in the quantization_config of this {method} checkpoint; tinyphi "
                    f"reads only {' or '.join(map(repr, allowed))}."
                )
        return cls.AWQ if method == "awq" else cls(quantization_config.get("checkpoint_format", "gptq"))

    @property
    def tensors(self) -> tuple[str, ...]:
        """What is stored of a linear: `name.qweight` and so on."""
        return ("qweight", "qzeros", "scales") + (() if self is Layout.AWQ else ("g_idx",))


# The values of quantization_config that tinyphi knows, first the one that holds where none is given.
_ALLOWED: dict[str, dict[str, tuple[Any, ...]]] = {
    "awq": {"bits": (4,), "version": ("gemm",), "zero_point": (True,)},
    "gptq": {
        "bits": (4,),
        "checkpoint_format": ("gptq", "gptq_v2"),
        "is_marlin_format": (False, None),
        "pack_dtype": ("int32",),
        "lm_head": (False, None),
        "dynamic": (None, {}),
    },
}


class ReorderedLinear(QuantizedLinear):
    """A linear whose columns were sorted into groups: x is sorted in the same way before it is multiplied.

    Made from GPTQ checkpoints with act-order, where the columns of a group lie all over the matrix.
    """

    order: Tensor  # (i): where each sorted column was

    def __init__(self, weight: Grouped, order: Tensor) -> None:
        super().__init__(*weight.codes.shape)
        self.sorted = GroupedLinear(weight)
        self.register_buffer("order", order, persistent=False)

    @property
    def format(self) -> str:
        return f"{self.sorted.format}, columns reordered"

    def dequantize(self, dtype: torch.dtype = torch.float32) -> Tensor:
        return self.sorted.dequantize(dtype)[:, self.order.argsort()]

    def rows(self, ids: Tensor) -> Tensor:
        return self.sorted.rows(ids)[..., self.order.argsort()]

    def stored(self) -> dict[str, Tensor]:
        return {**self.sorted.stored(), "order": self.order}

    def multiply(self, x: Tensor) -> Tensor:
        y: Tensor = self.sorted(x[..., self.order])
        return y

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> QuantizedLinear:
        self.sorted._apply(fn, recurse)
        return super()._apply(fn, recurse)


def read(tensors: Mapping[str, Tensor], layout: Layout) -> QuantizedLinear:
    """A linear from what a checkpoint stores of it: "qweight", "qzeros", … → its tensor.

    A `GroupedLinear`; a `ReorderedLinear` where g_idx scatters the columns of a group.
    Raises WeightsError for tensors that are missing or do not fit each other.
    """
    missing = [name for name in layout.tensors if name not in tensors]
    if missing:
        raise WeightsError(f"This {layout.value} linear has no {', '.join(missing)}.")
    if "bias" in tensors and tensors["bias"].any():
        raise WeightsError("This linear has a bias, which no linear of this architecture adds.")
    qweight, qzeros, scales = (tensors[name] for name in ("qweight", "qzeros", "scales"))
    _check(qweight, qzeros, scales, layout)
    if layout is Layout.AWQ:
        return GroupedLinear(from_awq(qweight, qzeros, scales))
    weight, order = from_gptq(qweight, qzeros, scales, tensors["g_idx"], layout)
    return GroupedLinear(weight) if order is None else ReorderedLinear(weight, order)


def write(weight: Grouped, layout: Layout) -> dict[str, Tensor]:
    """What a checkpoint stores of a 4-bit matrix (o i): "qweight", "qzeros", … → its tensor.

    Raises InputError where inputs or outputs are no multiple of 8, for minima that are not whole zero points,
    and in the first GPTQ layout for a zero point of 0.
    """
    outputs, inputs = weight.codes.shape
    if outputs % 8 or inputs % 8:
        raise InputError(f"Eight numbers share an int32, so {outputs} × {inputs} weights do not fit evenly.")
    return to_awq(weight) if layout is Layout.AWQ else to_gptq(weight, layout)


def to_awq(weight: Grouped) -> dict[str, Tensor]:
    """The tensors of AutoAWQ; see `write`."""
    return {
        "qweight": pack(weight.codes.T, AWQ_ORDER),
        "qzeros": pack(to_zeros(weight).T, AWQ_ORDER),
        "scales": weight.scales.T.contiguous(),
    }


def from_awq(qweight: Tensor, qzeros: Tensor, scales: Tensor) -> Grouped:
    """The matrix (o i) of AutoAWQ's tensors; shapes as in the table above."""
    return from_zeros(unpack(qweight, AWQ_ORDER).T.contiguous(), scales.T, unpack(qzeros, AWQ_ORDER).T)


def to_gptq(weight: Grouped, layout: Layout) -> dict[str, Tensor]:
    """The tensors of AutoGPTQ; see `write`."""
    zeros = to_zeros(weight)
    if layout is Layout.GPTQ_V1:
        if not zeros.all():
            raise InputError(
                f"{int((zeros == 0).sum())} groups have the zero point 0. This layout stores the zero point "
                "− 1 in four bits and cannot hold −1. Write 'gptq_v2', or round symmetrically."
            )
        zeros = zeros - 1
    columns = torch.arange(weight.codes.shape[1], dtype=torch.int32, device=zeros.device)
    return {
        "qweight": pack(weight.codes, PLAIN_ORDER).T.contiguous(),
        "qzeros": pack(zeros.T, PLAIN_ORDER),
        "scales": weight.scales.T.contiguous(),
        "g_idx": columns // weight.group_size,
    }


def from_gptq(
    qweight: Tensor, qzeros: Tensor, scales: Tensor, g_idx: Tensor, layout: Layout
) -> tuple[Grouped, Tensor | None]:
    """The matrix (o i) of AutoGPTQ's tensors, and the order (i) in which its columns lie, None if their own.

    In the first layout a stored 15 is read as the zero point 0, which is what it was before 1 was taken off.
    Raises WeightsError unless g_idx puts as many columns into every group.
    """
    codes, zeros = unpack(qweight.T.contiguous(), PLAIN_ORDER), unpack(qzeros, PLAIN_ORDER).T
    if layout is Layout.GPTQ_V1:
        zeros = zeros + 1 & 15
    groups, columns = len(scales), codes.shape[1]
    order = g_idx.argsort(stable=True)
    expected = (torch.arange(columns, device=g_idx.device) // (columns // groups)).to(g_idx.dtype)
    if g_idx.shape != (columns,) or not torch.equal(g_idx[order], expected):
        raise WeightsError(
            f"g_idx must put {columns // groups} of the {columns} columns into each of {groups} groups."
        )
    if torch.equal(g_idx, expected):
        return from_zeros(codes, scales.T, zeros), None
    return from_zeros(codes[:, order], scales.T, zeros), order


def pack(numbers: Tensor, order: tuple[int, ...]) -> Tensor:
    """Eight 4-bit numbers an int32, number order[0] in the lowest bits: (r k) uint8 → (r k/8) int32."""
    eights = rearrange(numbers, "r (w e) -> r w e", e=8)[..., order]
    return pack_nibbles(eights.flatten(1)).contiguous().view(torch.int32)


def unpack(words: Tensor, order: tuple[int, ...]) -> Tensor:
    """The inverse of `pack`: (r k) int32 → (r 8k) uint8."""
    eights = rearrange(unpack_nibbles(words.view(torch.uint8)), "r (w e) -> r w e", e=8)
    return eights[..., [order.index(number) for number in range(8)]].flatten(1)


def _check(qweight: Tensor, qzeros: Tensor, scales: Tensor, layout: Layout) -> None:
    """Raise WeightsError unless types and shapes fit each other."""
    if not all(tensor.ndim == 2 and tensor.numel() for tensor in (qweight, qzeros, scales)):
        raise WeightsError("qweight, qzeros and scales must be matrices, none of them empty.")
    if qweight.dtype != torch.int32 or qzeros.dtype != torch.int32 or not scales.is_floating_point():
        raise WeightsError(
            f"qweight and qzeros must be int32 and scales float16; these are {qweight.dtype}, {qzeros.dtype} "
            f"and {scales.dtype}."
        )
    groups, outputs = scales.shape
    rows, columns = qweight.shape
    inputs, stored_outputs = (rows, columns * 8) if layout is Layout.AWQ else (rows * 8, columns)
    if stored_outputs != outputs or inputs % groups or qzeros.shape != (groups, outputs // 8) or outputs % 8:
        raise WeightsError(
            f"qweight {tuple(qweight.shape)}, qzeros {tuple(qzeros.shape)} and scales {tuple(scales.shape)} "
            f"are not of one {layout.value} matrix."
        )
    if not (scales.half().float() * 15).half().isfinite().all():
        raise WeightsError("Some scales are not finite, or too large for float16.")
