"""A tensor in a file: where its bytes stand, what they mean, and how they get into a model's memory.

Both file formats, safetensors and GGUF, are a header followed by plain bytes, so this part is theirs in
common. The bytes go a piece at a time straight into the parameter they belong to; no model is held twice.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from io import BufferedReader
from pathlib import Path

import torch
from torch import Tensor

from tinyphi.errors import TinyphiError, WeightsError
from tinyphi.quant.linear import QuantizedLinear

_PIECE = 1 << 19  # numbers decoded at a time: 2 MB in float32, which stays in the processor's cache


@dataclass(frozen=True)
class NumberType:
    """How numbers are stored: in blocks of `numbers`, each of `nbytes` bytes."""

    name: str
    numbers: int
    nbytes: int
    dtype: torch.dtype  # that `decode` returns
    decode: Callable[[Tensor], Tensor]  # uint8 (blocks, nbytes) → dtype (blocks, numbers)

    def __str__(self) -> str:
        return self.name


def _plain(name: str, dtype: torch.dtype) -> NumberType:
    return NumberType(name, 1, dtype.itemsize, dtype, lambda raw: raw.view(dtype))


F64, F32 = _plain("F64", torch.float64), _plain("F32", torch.float32)
F16, BF16 = _plain("F16", torch.float16), _plain("BF16", torch.bfloat16)
# Whole numbers: the codes of quantized weights, never weights themselves.
U8, I8 = _plain("U8", torch.uint8), _plain("I8", torch.int8)
I32, I64 = _plain("I32", torch.int32), _plain("I64", torch.int64)


@dataclass(frozen=True)
class TensorInfo:
    """One tensor of a file, not yet read."""

    name: str
    shape: tuple[int, ...]  # row-major: numbers along the last axis are neighbours
    type: NumberType
    path: Path
    offset: int  # of the first byte, from the start of the file
    nbytes: int

    @property
    def raw(self) -> "TensorInfo":
        """The same bytes, not decoded: a row of bytes for each row of the matrix."""
        rows = self.shape[0]
        return replace(self, shape=(rows, self.nbytes // rows), type=U8)

    def read(self, dtype: torch.dtype = torch.float32) -> Tensor:
        """The tensor in memory, its blocks decoded. Raises WeightsError if the file cannot be read."""
        tensor = torch.empty(self.shape, dtype=dtype)
        self.copy_into(tensor)
        return tensor

    def copy_into(self, target: Tensor) -> None:
        """Fill `target` with the numbers in the order of the file, converted to its dtype and device.

        target: any shape with as many numbers, and whole blocks in each item of its first axis; it may be a
            view with reordered axes.
        Raises WeightsError if the file cannot be read, or has whole numbers where weights should be.
        """
        if target.is_floating_point() and not self.type.dtype.is_floating_point:
            raise WeightsError(
                f"{self.path}: tensor {brief(self.name)} holds whole numbers ({self.type}), which are no "
                "weights. If these are quantized, config.json must say how. Fetch both from the same place."
            )
        with open_binary(self.path) as file:
            file.seek(self.offset)
            if self.type.dtype == target.dtype and self.type.numbers == 1 and _is_plain_memory(target):
                self._read(file, target.flatten().view(torch.uint8))
            elif target.numel():
                self._decode_into(file, target if target.ndim else target.view(1))

    def _decode_into(self, file: BufferedReader, target: Tensor) -> None:
        items = max(1, _PIECE // target[0].numel())
        buffer = torch.empty(0, dtype=torch.uint8)
        for start in range(0, len(target), items):
            part = target[start : start + items]
            blocks = part.numel() // self.type.numbers
            if len(buffer) != blocks * self.type.nbytes:
                buffer = torch.empty(blocks * self.type.nbytes, dtype=torch.uint8)
            self._read(file, buffer)
            part.copy_(self.type.decode(buffer.view(blocks, self.type.nbytes)).view(part.shape))

    def _read(self, file: BufferedReader, memory: Tensor) -> None:
        """Fill a one-dimensional uint8 tensor from the file."""
        if file.readinto(memory.numpy().data) < len(memory):
            raise WeightsError(
                f"{self.path} ends inside the tensor {brief(self.name)}; it is cut off. Fetch it again."
            )


@dataclass(frozen=True)
class QuantizedTensor:
    """A quantized matrix that is several tensors of a directory, none of them read yet."""

    name: str  # of the matrix, without an ending
    shape: tuple[int, ...]  # (o i), of the matrix
    tensors: Mapping[str, TensorInfo]  # by the endings of their names
    make: Callable[[Mapping[str, Tensor]], QuantizedLinear]

    @property
    def nbytes(self) -> int:
        return sum(info.nbytes for info in self.tensors.values())

    def read(self, device: torch.device) -> QuantizedLinear:
        """The layer. Raises WeightsError if a file cannot be read, or what it holds is no such matrix."""
        tensors = {end: info.read(info.type.dtype).to(device) for end, info in self.tensors.items()}
        try:
            layer = self.make(tensors)
        except TinyphiError as error:
            raise WeightsError(f"The quantized matrix {brief(self.name)} cannot be read: {error}") from error
        if (layer.out_features, layer.in_features) != self.shape:
            found = f"{layer.out_features} × {layer.in_features}"
            raise WeightsError(f"The quantized matrix {brief(self.name)} is {found}, not {self.shape}.")
        return layer

    def copy_into(self, target: Tensor) -> None:
        """Fill `target` (o i) with what the codes stand for."""
        target.copy_(self.read(target.device).dequantize(target.dtype))


def same_bytes(one: TensorInfo, other: TensorInfo) -> bool:
    """Whether two stored tensors are equal, bit for bit."""
    if (one.shape, one.type, one.nbytes) != (other.shape, other.type, other.nbytes):
        return False
    with open_binary(one.path) as first, open_binary(other.path) as second:
        first.seek(one.offset)
        second.seek(other.offset)
        for start in range(0, one.nbytes, _PIECE):
            size = min(_PIECE, one.nbytes - start)
            if first.read(size) != second.read(size):
                return False
    return True


@contextmanager
def open_binary(path: Path) -> Iterator[BufferedReader]:
    """Open a file for reading; whatever the system refuses becomes a WeightsError."""
    try:
        with open(path, "rb") as file:
            yield file
    except OSError as error:
        raise WeightsError(f"{path} cannot be read: {error.strerror or error}.") from error


def refuse_pickle(path: Path, start: bytes) -> None:
    """Raise WeightsError if a file's first bytes are those of a pickle."""
    if start.startswith((b"PK\x03\x04", b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")):
        raise WeightsError(f"{path} is a pickle, whatever its name says. {HOW_TO_CONVERT}")


HOW_TO_CONVERT = (
    "A pickle can run any code when it is opened, so tinyphi never opens one. Convert it where you trust it: "
    "open the model with transformers and call model.save_pretrained(directory), which writes safetensors."
)


def brief(name: str) -> str:
    """A name from a file, quoted and shortened for an error message."""
    return repr(name if len(name) <= 80 else name[:77] + "…")


def _is_plain_memory(target: Tensor) -> bool:
    return target.device.type == "cpu" and target.is_contiguous()
