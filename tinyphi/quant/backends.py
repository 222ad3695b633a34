"""Three ways to multiply with a group-wise quantized weight, behind one interface.

    reference   dequantize, then multiply: what the others must equal; for any shape and device
    torch       torch's own 4-bit and 8-bit kernels in bfloat16, on a CPU or a CUDA device
    native      the C kernel of tinyphi.kernels, on a CPU

Each is a module that keeps the weight in the order it likes best, and gives it back plainly. None of them
computes gradients; `QuantizedLinear` does.
"""

from abc import ABC, abstractmethod
from typing import Any

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F

from tinyphi.errors import InputError
from tinyphi.kernels import layout, native
from tinyphi.quant.groupwise import Grouped, Halves


class Backend(nn.Module, ABC):
    """Made from a weight (o i); called with x (… i), returns (… o) in the dtype of x."""

    name: str

    @classmethod
    @abstractmethod
    def refuses(cls, weight: Grouped) -> str | None:
        """Why this backend cannot take a weight, or None."""

    @abstractmethod
    def grouped(self) -> Grouped:
        """The weight as plain codes, scales and minima."""

    @abstractmethod
    def rows(self, ids: Tensor) -> Tensor:
        """Some rows of the weight: ids (k) → (k i) float32."""


class Reference(Backend):
    """Dequantize the whole matrix for every product: little memory, much time."""

    name = "reference"
    codes: Tensor
    scales: Tensor
    minima: Tensor | None

    def __init__(self, weight: Grouped) -> None:
        super().__init__()
        codes = pack_nibbles(weight.codes) if weight.bits == 4 else weight.codes
        for name, tensor in (("codes", codes), ("scales", weight.scales), ("minima", weight.minima)):
            self.register_buffer(name, tensor, persistent=False)

    @classmethod
    def refuses(cls, weight: Grouped) -> str | None:
        return None

    def grouped(self) -> Grouped:
        return self._unpacked(self.codes, self.scales, self.minima)

    def rows(self, ids: Tensor) -> Tensor:
        minima = None if self.minima is None else self.minima[ids]
        return self._unpacked(self.codes[ids], self.scales[ids], minima).dequantize()

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.grouped().dequantize(x.dtype))

    @staticmethod
    def _unpacked(codes: Tensor, scales: Tensor, minima: Tensor | None) -> Grouped:
        return Grouped(unpack_nibbles(codes) if codes.dtype == torch.uint8 else codes, scales, minima)


class TorchKernels(Backend):
    """ATen's kernels. Their packing differs by processor and cannot be undone, so plain codes stay too."""

    name = "torch"
    packed: Tensor
    scales: Tensor

    def __init__(self, weight: Grouped) -> None:
        super().__init__()
        self.plain = Reference(weight)
        self.group_size = weight.group_size
        scales = weight.scales.float()
        if weight.bits == 8:
            self.register_buffer("packed", weight.codes.contiguous(), persistent=False)
            self.register_buffer("scales", scales.flatten().bfloat16(), persistent=False)
            return
        # ATen's value is (code − 8) · scale + zero.
        zeros = torch.zeros_like(scales) if weight.minima is None else weight.minima.float() + 8 * scales
        pairs = rearrange([scales, zeros], "two o n -> n o two").bfloat16().contiguous()
        codes = weight.codes
        if codes.is_cuda:
            packed = torch.ops.aten._convert_weight_to_int4pack(codes[:, ::2] << 4 | codes[:, 1::2], 8)
        else:
            packed = torch.ops.aten._convert_weight_to_int4pack_for_cpu(codes.int(), 1)
        self.register_buffer("packed", packed, persistent=False)
        self.register_buffer("scales", pairs, persistent=False)

    @classmethod
    def refuses(cls, weight: Grouped) -> str | None:
        outputs, inputs = weight.shape
        if weight.scales.device.type not in ("cpu", "cuda"):
            return "torch's kernels run on a CPU or a CUDA device"
        if weight.bits == 8:
            if weight.scales.is_cuda or weight.group_size != inputs:
                return "torch has an 8-bit kernel only for a CPU and one scale a row"
        elif weight.group_size not in (32, 64, 128, 256):
            return f"torch's 4-bit kernels take groups of 32, 64, 128 or 256, not {weight.group_size}"
        elif outputs % 16 or (weight.scales.is_cuda and inputs % 1024):
            return f"torch's 4-bit kernels do not take {outputs} × {inputs}"
        return None

    def grouped(self) -> Grouped:
        return self.plain.grouped()

    def rows(self, ids: Tensor) -> Tensor:
        return self.plain.rows(ids)

    def forward(self, x: Tensor) -> Tensor:
        tokens = x.flatten(0, -2).bfloat16()  # with float32 they are 10 to 70 times slower on a CPU
        y: Tensor
        if self.packed.dtype == torch.int8:
            y = torch.ops.aten._weight_int8pack_mm(tokens, self.packed, self.scales)
        elif x.is_cuda:
            y = torch.ops.aten._weight_int4pack_mm(tokens, self.packed, self.group_size, self.scales)
        else:
            y = torch.ops.aten._weight_int4pack_mm_for_cpu(tokens, self.packed, self.group_size, self.scales)
        return y.to(x.dtype).view(*x.shape[:-1], -1)


class Native(Backend):
    """The C kernel. It rounds activations to 8 bits as well, which the others do not."""

    name = "native"
    codes: Tensor
    scales: Tensor
    minima: Tensor | None

    def __init__(self, weight: Grouped) -> None:
        super().__init__()
        self.outputs, self.group_size = weight.shape[0], weight.group_size
        if isinstance(weight, Halves):
            codes = layout.blocks_to_tiles(weight.halves)
        else:
            codes = layout.to_tiles(weight.codes)
        minima = None if weight.minima is None else layout.scales_to_tiles(weight.minima)
        self.register_buffer("codes", codes, persistent=False)
        self.register_buffer("scales", layout.scales_to_tiles(weight.scales), persistent=False)
        self.register_buffer("minima", minima, persistent=False)
        self._matrix: native.Matrix | None = None

    @classmethod
    def refuses(cls, weight: Grouped) -> str | None:
        if weight.scales.device.type != "cpu":
            return "the C kernel runs on a CPU"
        if weight.group_size % layout.COLUMNS:
            return f"the C kernel takes groups of 32, 64, 96 and so on, not {weight.group_size}"
        return native.problem()

    def matrix(self) -> native.Matrix:
        """The weight as the kernel sees it."""
        if self._matrix is None or not self._matrix.holds(self.codes):
            self._matrix = native.Matrix(self.codes, self.scales, self.minima, self.outputs, self.group_size)
        return self._matrix

    def grouped(self) -> Grouped:
        minima = None if self.minima is None else layout.scales_from_tiles(self.minima, self.outputs)
        scales = layout.scales_from_tiles(self.scales, self.outputs)
        return Grouped(layout.from_tiles(self.codes, self.outputs), scales, minima)

    def rows(self, ids: Tensor) -> Tensor:
        minima = None if self.minima is None else layout.scale_rows(self.minima, ids)
        return Grouped(layout.rows(self.codes, ids), layout.scale_rows(self.scales, ids), minima).dequantize()

    def forward(self, x: Tensor) -> Tensor:
        known = x if x.dtype in (torch.float32, torch.bfloat16) else x.float()
        if torch.compiler.is_compiling():
            y: Tensor = torch.ops.tinyphi.linear(
                known, self.codes, self.scales, self.minima, self.outputs, self.group_size
            )
        else:  # the same without torch's dispatcher, which can take as long as the product
            y = self.matrix().times(known)
        return y.to(x.dtype)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_matrix": None}  # addresses mean nothing in a copy


BACKENDS: dict[str, type[Backend]] = {kind.name: kind for kind in (Native, TorchKernels, Reference)}


def make_backend(weight: Grouped, name: str | None = None) -> Backend:
    """The named backend, or the first of native, torch and reference that takes this weight."""
    if name is None:
        if weight.scales.device.type == "cpu":
            native.usable()  # says once if there is no compiler
        return next(kind for kind in BACKENDS.values() if kind.refuses(weight) is None)(weight)
    if name not in BACKENDS:
        raise InputError(f"There is no backend {name!r}. There are: {', '.join(BACKENDS)}.")
    problem = BACKENDS[name].refuses(weight)
    if problem is not None:
        raise InputError(f"The backend {name!r} cannot take this weight: {problem}. Choose another one.")
    return BACKENDS[name](weight)


def pack_nibbles(codes: Tensor) -> Tensor:
    """Two 4-bit codes a byte, the even column in the low half: (o i) → (o i/2) uint8."""
    even, odd = rearrange(codes, "o (i two) -> two o i", two=2)
    packed: Tensor = even | odd << 4
    return packed.contiguous()


def unpack_nibbles(packed: Tensor) -> Tensor:
    """The inverse of `pack_nibbles`: (o i/2) → (o i) uint8."""
    codes: Tensor = torch.stack((packed & 15, packed >> 4), dim=-1).flatten(1)
    return codes
