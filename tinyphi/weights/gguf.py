"""GGUF: the file format of llama.cpp. One file holds metadata, tokenizer and quantized tensors.

    magic "GGUF" | version u32 | tensor count u64 | entry count u64
    metadata entries:   key string | value type u32 | value
    tensor infos:       name string | axes u32 | sizes u64 × axes, fastest first | type u32 | offset u64
    zero bytes up to a multiple of general.alignment (32)
    tensor data, each tensor aligned alike; the offsets count from here

All numbers are little-endian; a string is a u64 length and UTF-8 bytes. Nothing in a file is believed: every
count is held against the bytes that are left before memory is taken for it.

What the blocks of quantized tensors mean is in `tinyphi.quant.gguf_blocks`.

Source: ggml's specification `docs/gguf.md`.
"""

import math
import mmap
import os
import struct
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tinyphi.errors import WeightsError
from tinyphi.quant.gguf_blocks import BLOCK_FORMATS
from tinyphi.weights.storage import (
    BF16,
    F16,
    F32,
    NumberType,
    TensorInfo,
    brief,
    open_binary,
    refuse_pickle,
)

_HEADER_LIMIT = 64 << 20  # bytes; the largest vocabularies known need a quarter of it
_STRING, _ARRAY = 8, 9
_SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}


class GGUFFile:
    """The header of a GGUF file (version 2 or 3), and its tensors on demand.

    metadata: key → int, float, bool, str, or a list of one of these.
    tensors: name → TensorInfo, shape in torch's order.
    Raises WeightsError for a file that is damaged, or that holds what tinyphi cannot decode.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        with open_binary(self.path) as file:
            size = os.fstat(file.fileno()).st_size
            if size == 0:
                raise WeightsError(f"{self.path} is empty. Fetch it again.")
            # Mapped, not read: only the pages of the header are ever touched here.
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
                header = _Header(self.path, data, min(size, _HEADER_LIMIT))
                tensor_count, entry_count = header.preamble()
                self.metadata = header.metadata(entry_count)
                infos = header.tensor_infos(tensor_count)
                self.tensors = _locate(self.path, infos, header.position, self._alignment(), size)

    def read(self, name: str, dtype: torch.dtype = torch.float32) -> Tensor:
        """One tensor, dequantized. Raises WeightsError if there is none of that name."""
        if name not in self.tensors:
            raise WeightsError(f"{self.path} has no tensor {brief(name)}.")
        return self.tensors[name].read(dtype)

    def _alignment(self) -> int:
        alignment = self.metadata.get("general.alignment", 32)
        if type(alignment) is not int or not 8 <= alignment <= 1 << 16 or alignment & (alignment - 1):
            raise WeightsError(f"{self.path} has the alignment {alignment!r}; it must be a power of two.")
        return alignment


class _Header:
    """Reads one value after the other, and never past the end."""

    def __init__(self, path: Path, data: mmap.mmap, end: int) -> None:
        self.path, self.data, self.end = path, data, end
        self.position = 0

    def preamble(self) -> tuple[int, int]:
        """Check magic and version; return the counts of tensors and of metadata entries."""
        magic = bytes(self.data[:4])
        if magic != b"GGUF":
            refuse_pickle(self.path, magic)
            raise WeightsError(f"{self.path} is not a GGUF file: it starts with {magic!r}, not b'GGUF'.")
        self.position = 4
        version = self.scalar("I")
        if version not in (2, 3):
            why = "it is big-endian" if version and version & 0xFFFF == 0 else f"its version is {version}"
            raise WeightsError(f"{self.path} cannot be read: {why}; tinyphi reads versions 2 and 3.")
        return self.scalar("Q"), self.scalar("Q")

    def metadata(self, count: int) -> dict[str, Any]:
        entries: dict[str, Any] = {}
        for _ in range(count):
            key = self.string()
            if key in entries:
                raise WeightsError(f"{self.path} has the metadata key {brief(key)} twice.")
            entries[key] = self.value(self.scalar("I"), key)
        return entries

    def tensor_infos(self, count: int) -> list[tuple[str, tuple[int, ...], int, int]]:
        """(name, shape, number type, offset) of each tensor."""
        infos = []
        for _ in range(count):
            name = self.string()
            axes = self.scalar("I")
            if not 1 <= axes <= 4:
                raise WeightsError(f"{self.path}: tensor {brief(name)} has {axes} axes; GGUF allows 1 to 4.")
            sizes = self.scalars("Q", axes)
            infos.append((name, tuple(reversed(sizes)), self.scalar("I"), self.scalar("Q")))
        return infos

    def value(self, kind: int, key: str) -> Any:
        if kind == _STRING:
            return self.string()
        if kind in _SCALARS:
            return self.scalar(_SCALARS[kind])
        if kind != _ARRAY:
            raise WeightsError(f"{self.path}: metadata {brief(key)} has the unknown type {kind}.")
        kind, count = self.scalar("I"), self.scalar("Q")
        if kind == _STRING:
            self.need(8 * count)  # each has at least its length
            return [self.string() for _ in range(count)]
        if kind not in _SCALARS:
            raise WeightsError(
                f"{self.path}: metadata {brief(key)} is an array of type {kind}; not supported."
            )
        return list(self.scalars(_SCALARS[kind], count))

    def string(self) -> str:
        length = self.scalar("Q")
        self.need(length)
        start = self.position
        self.position += length
        try:
            return self.data[start : self.position].decode()
        except UnicodeDecodeError as error:
            raise WeightsError(f"{self.path} has a string at byte {start} that is not UTF-8.") from error

    def scalar(self, code: str) -> Any:
        return self.scalars(code, 1)[0]

    def scalars(self, code: str, count: int) -> tuple[Any, ...]:
        size = count * struct.calcsize(code)
        self.need(size)
        values = struct.unpack_from(f"<{count}{code}", self.data, self.position)
        self.position += size
        return values

    def need(self, size: int) -> None:
        """Raise WeightsError unless `size` more bytes are there."""
        if size > self.end - self.position:
            raise WeightsError(
                f"{self.path}: the header asks for {size} bytes at byte {self.position}, but ends at "
                f"{self.end}. The file is cut off or damaged; fetch it again."
            )


def _locate(
    path: Path, infos: list[tuple[str, tuple[int, ...], int, int]], header_end: int, alignment: int, size: int
) -> dict[str, TensorInfo]:
    """Turn offsets into places in the file, and check that the tensors lie there one after the other."""
    data_start = -(-header_end // alignment) * alignment
    tensors: dict[str, TensorInfo] = {}
    for name, shape, kind, offset in infos:
        problem = None
        if name in tensors:
            problem = "is there twice"
        elif kind not in NUMBER_TYPES:
            known = ", ".join(map(str, NUMBER_TYPES.values()))
            problem = f"has the number type {kind}; tinyphi decodes {known}. Choose a file with these"
        elif 0 in shape or shape[-1] % NUMBER_TYPES[kind].numbers:
            problem = f"has the shape {shape}, which is empty or not in whole {NUMBER_TYPES[kind]} blocks"
        elif offset % alignment:
            problem = f"starts at {offset}, not at a multiple of {alignment}"
        if problem:
            raise WeightsError(f"{path}: tensor {brief(name)} {problem}.")
        stored = NUMBER_TYPES[kind]
        nbytes = math.prod(shape) // stored.numbers * stored.nbytes
        tensors[name] = TensorInfo(name, shape, stored, path, data_start + offset, nbytes)
    end = data_start
    for info in sorted(tensors.values(), key=lambda info: info.offset):
        if info.offset < end:
            raise WeightsError(f"{path}: tensor {brief(info.name)} overlaps the one before it.")
        end = info.offset + info.nbytes
        if end > size:
            raise WeightsError(
                f"{path}: tensor {brief(info.name)} needs the bytes up to {end}, but the file ends at "
                f"{size}. It is cut off or damaged; fetch it again."
            )
    return tensors


def _blocks(kind: str) -> NumberType:
    stored = BLOCK_FORMATS[kind]
    return NumberType(stored.name, stored.numbers, stored.nbytes, torch.float32, stored.dequantize)


# ggml's number of each type that tinyphi decodes.
NUMBER_TYPES = {
    0: F32,
    1: F16,
    2: _blocks("q4_0"),
    3: _blocks("q4_1"),
    8: _blocks("q8_0"),
    12: _blocks("q4_k"),
    14: _blocks("q6_k"),
    30: BF16,
}
