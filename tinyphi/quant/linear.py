"""Linear layers whose weight is stored in a few bits, in place of `tinyphi.model.linear.Linear`."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tinyphi.kernels import native
from tinyphi.quant.backends import Native, make_backend, pack_nibbles, unpack_nibbles
from tinyphi.quant.groupwise import Grouped


class QuantizedLinear(nn.Module, ABC):
    """x W^T, (… i) → (… o), where W is dequantized when it is needed: the lesson in one line.

    Phi-3-small's linears add a bias too, (o), which is not quantized. A subclass says how W is stored. What
    is on disk is what `stored` returns, whatever a backend made of it.

    W is never trained, but gradients flow through it to x. After `model.train()` products are exact, with or
    without a gradient: a kernel that rounds x would make of one model two, the one that learns and the one
    that it is compared with. A new layer is in evaluation mode.
    """

    bias: nn.Parameter | None

    def __init__(self, outputs: int, inputs: int) -> None:
        super().__init__()
        self.training = False
        self.out_features, self.in_features = outputs, inputs
        self.register_parameter("bias", None)

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

    def multiply(self, x: Tensor) -> Tensor:
        """x W^T, exactly."""
        y: Tensor = _Product.apply(x, self)  # type: ignore[no-untyped-call]
        return y

    def forward(self, x: Tensor) -> Tensor:
        y = self.multiply(x)
        return y if self.bias is None else y + self.bias

    def extra_repr(self) -> str:
        return f"{self.in_features} → {self.out_features}, {self.format}"

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> "QuantizedLinear":
        """Only move to another device: codes and scales keep their types when the model is converted."""
        for module in self.modules():
            for name, buffer in module._buffers.items():
                if buffer is not None:
                    module._buffers[name] = buffer.to(fn(buffer).device)
        return self._bias_applied(fn)

    def _bias_applied(self, fn: Callable[[Tensor], Tensor]) -> "QuantizedLinear":
        """The bias, unlike the codes, takes the model's dtype."""
        if self.bias is not None:
            self.bias = nn.Parameter(fn(self.bias.detach()), self.bias.requires_grad)
        return self


class _Product(torch.autograd.Function):
    """x W^T that decodes W again for the gradient: from one pass to the other only the codes are kept.

    torch itself would keep every decoded matrix until the backward pass, and the memory that four bits save
    would be lost. Source: QLoRA (arXiv 2305.14314), sec. 3; `MatMul4Bit` in bitsandbytes.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, linear: QuantizedLinear) -> Tensor:
        ctx.linear = linear
        return F.linear(x, linear.dequantize(x.dtype))

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return gradient @ ctx.linear.dequantize(gradient.dtype), None


class QuantizedEmbedding(nn.Module):
    """An embedding that reads rows of a quantized matrix; with a tied head, of the head's own."""

    example: Tensor

    def __init__(self, table: QuantizedLinear, dtype: torch.dtype) -> None:
        super().__init__()
        self.table = table
        # Empty, but it follows model.to(dtype), which leaves the table alone.
        self.register_buffer("example", torch.empty(0, dtype=dtype), persistent=False)

    def forward(self, ids: Tensor) -> Tensor:
        """(b t) → (b t d)."""
        return self.table.rows(ids).to(self.example.dtype)


class GroupedLinear(QuantizedLinear):
    """4-bit or 8-bit codes with a scale per group, and a choice of backends that multiply with them.

    backend: "native", "torch" or "reference"; None takes the first of these that is possible here.
    Raises InputError for one that is not.
    """

    def __init__(self, weight: Grouped, backend: str | None = None) -> None:
        super().__init__(*weight.shape)
        self.bits, self.group_size, self.symmetric = weight.bits, weight.group_size, weight.minima is None
        self.backend = make_backend(weight, backend)

    @property
    def format(self) -> str:
        groups = "a scale per row" if self.group_size == self.in_features else f"groups of {self.group_size}"
        return f"int{self.bits}, {groups}{'' if self.symmetric else ' with minima'}"

    @property
    def nbytes(self) -> int:
        groups = self.in_features // self.group_size * (1 if self.symmetric else 2)
        return self.out_features * (self.in_features * self.bits // 8 + 2 * groups)

    def use(self, backend: str | None) -> None:
        """Change the backend; see the class."""
        self.backend = make_backend(self.grouped(), backend)

    def grouped(self) -> Grouped:
        """The weight as plain codes, scales and minima."""
        return self.backend.grouped()

    def dequantize(self, dtype: torch.dtype = torch.float32) -> Tensor:
        return self.grouped().dequantize(dtype)

    def rows(self, ids: Tensor) -> Tensor:
        return self.backend.rows(ids.flatten()).view(*ids.shape, -1)

    def stored(self) -> dict[str, Tensor]:
        weight = self.grouped()
        codes = pack_nibbles(weight.codes) if weight.bits == 4 else weight.codes
        tensors = {"codes": codes, "scales": weight.scales, "minima": weight.minima}
        return {name: tensor for name, tensor in tensors.items() if tensor is not None}

    @classmethod
    def from_stored(cls, tensors: Mapping[str, Tensor]) -> "GroupedLinear":
        """The layer from what `stored` returned."""
        codes = tensors["codes"]
        plain = unpack_nibbles(codes) if codes.dtype == torch.uint8 else codes
        return cls(Grouped(plain, tensors["scales"], tensors.get("minima")))

    @property
    def native_matrix(self) -> native.Matrix | None:
        """The weight as the C kernel sees it; None with another backend."""
        return self.backend.matrix() if isinstance(self.backend, Native) else None

    def multiply(self, x: Tensor) -> Tensor:
        if self.training or (torch.is_grad_enabled() and x.requires_grad):
            return super().multiply(x)
        y: Tensor = self.backend(x)
        return y

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> "QuantizedLinear":
        device = fn(torch.empty(0, device=next(self.backend.buffers()).device)).device
        if device != next(self.backend.buffers()).device:
            weight = self.grouped()
            minima = None if weight.minima is None else weight.minima.to(device)
            self.backend = make_backend(Grouped(weight.codes.to(device), weight.scales.to(device), minima))
        return self._bias_applied(fn)
