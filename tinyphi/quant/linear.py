"""Linear layers whose weight is stored in a few bits. They stand where `tinyphi.model.linear.Linear` stood."""

from abc import ABC, abstractmethod

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F

from tinyphi.quant.groupwise import Grouped


class QuantizedLinear(nn.Module, ABC):
    """x W^T without a bias, (… i) → (… o), where W is dequantized when it is needed: the lesson in one line.

    A subclass says how W is stored. What is on disk is what `stored` returns, whatever a backend made of it.
    """

    def __init__(self, outputs: int, inputs: int) -> None:
        super().__init__()
        self.out_features, self.in_features = outputs, inputs

    @property
    @abstractmethod
    def format(self) -> str:
        """What reports and files call it, for example "int4, groups of 32"."""

    @abstractmethod
    def dequantize(self, dtype: torch.dtype = torch.float32) -> Tensor:
        """The whole matrix (o i)."""

    def rows(self, ids: Tensor) -> Tensor:
        """Some rows of the matrix, for an embedding: ids (…) → (… i) float32."""
        return self.dequantize()[ids]

    @abstractmethod
    def stored(self) -> dict[str, Tensor]:
        """The tensors that a file holds, the same on every machine."""

    @property
    def nbytes(self) -> int:
        return sum(tensor.nbytes for tensor in self.stored().values())

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.dequantize(x.dtype))

    def extra_repr(self) -> str:
        return f"{self.in_features} → {self.out_features}, {self.format}"


class QuantizedEmbedding(nn.Module):
    """An embedding that reads rows of a quantized matrix; with a tied head, of the head's own."""

    def __init__(self, table: QuantizedLinear, dtype: torch.dtype) -> None:
        super().__init__()
        self.table = table
        self.dtype = dtype

    def forward(self, ids: Tensor) -> Tensor:
        """(b t) → (b t d)."""
        return self.table.rows(ids).to(self.dtype)


class GroupedLinear(QuantizedLinear):
    """4-bit or 8-bit codes with a scale per group, and a choice of kernels that multiply with them."""

    def __init__(self, weight: Grouped) -> None:
        super().__init__(*weight.codes.shape)
        self.bits, self.group_size = weight.bits, weight.group_size
        codes = pack_nibbles(weight.codes) if weight.bits == 4 else weight.codes
        self.register_buffer("codes", codes, persistent=False)
        self.register_buffer("scales", weight.scales, persistent=False)
        self.register_buffer("minima", weight.minima, persistent=False)

    @property
    def format(self) -> str:
        zero = "" if self.minima is None else ", with minima"
        return f"int{self.bits}, groups of {self.group_size}{zero}"

    def grouped(self) -> Grouped:
        """The weight as plain codes, scales and minima."""
        codes = unpack_nibbles(self.codes) if self.bits == 4 else self.codes
        return Grouped(codes, self.scales, self.minima)

    def dequantize(self, dtype: torch.dtype = torch.float32) -> Tensor:
        return self.grouped().dequantize(dtype)

    def stored(self) -> dict[str, Tensor]:
        tensors = {"codes": self.codes, "scales": self.scales, "minima": self.minima}
        return {name: tensor for name, tensor in tensors.items() if tensor is not None}


def pack_nibbles(codes: Tensor) -> Tensor:
    """Two 4-bit codes a byte, the even column in the low half: (o i) → (o i/2) uint8."""
    even, odd = rearrange(codes, "o (i two) -> two o i", two=2)
    return even | odd << 4


def unpack_nibbles(packed: Tensor) -> Tensor:
    """The inverse of `pack_nibbles`: (o i/2) → (o i) uint8."""
    return torch.stack((packed & 15, packed >> 4), dim=-1).flatten(1)
