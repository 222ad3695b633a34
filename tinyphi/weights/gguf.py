"""GGUF: the file format of llama.cpp. One file holds metadata, tokenizer and quantized tensors.

    magic "GGUF" | version u32 | tensor count u64 | entry count u64
    metadata entries:   key string | value type u32 | value
    tensor infos:       name string | axes u32 | sizes u64 × axes, fastest first | type u32 | offset u64
    zero bytes up to a multiple of general.alignment (32)
    tensor data, each tensor aligned alike; the offsets count from here

All numbers are little-endian; a string is a u64 length and UTF-8 bytes. Nothing in a file is believed: every
count is held against the bytes that are left before memory is taken for it.

Source: ggml's specification `docs/gguf.md`; block formats as in `ggml-common.h`.
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


# Below: blocks of bytes → numbers. Each function takes uint8 (blocks, bytes) and returns float32
# (blocks, numbers). The order of operations is ggml's, so the results are equal bit for bit.


def _half(raw: Tensor, start: int) -> Tensor:
    """The two bytes from `start` on as a float16 scale, (blocks, 1)."""
    return raw[:, start : start + 2].view(torch.float16).float()


def _nibbles(packed: Tensor) -> Tensor:
    """Two numbers of 4 bits a byte, all the low halves before the high ones: (… k) → (… 2k)."""
    return torch.cat((packed & 15, packed >> 4), dim=-1)


def _q8_0(raw: Tensor) -> Tensor:
    """32 numbers: scale f16 | 32 × int8."""
    return raw[:, 2:].view(torch.int8).float().mul_(_half(raw, 0))


def _q4_0(raw: Tensor) -> Tensor:
    """32 numbers: scale f16 | 16 bytes of 4-bit numbers, 8 stands for zero."""
    return _nibbles(raw[:, 2:]).float().sub_(8).mul_(_half(raw, 0))


def _q4_1(raw: Tensor) -> Tensor:
    """32 numbers: scale f16 | smallest f16 | 16 bytes of 4-bit numbers."""
    return _nibbles(raw[:, 4:]).float().mul_(_half(raw, 0)).add_(_half(raw, 2))


def _q4_k(raw: Tensor) -> Tensor:
    """256 numbers in 8 groups: scale f16 | scale of minima f16 | 12 bytes of scales, minima | 128 bytes."""
    group_scales, group_minima = _six_bits(raw[:, 4:16])
    scales = (_half(raw, 0) * group_scales).unsqueeze(-1)
    minima = (_half(raw, 2) * group_minima).unsqueeze(-1)
    # 32 bytes hold two groups: the low halves are the first, the high halves the second.
    numbers = _nibbles(raw[:, 16:].view(-1, 4, 32)).view(-1, 8, 32)
    return numbers.float().mul_(scales).sub_(minima).flatten(1)


def _six_bits(packed: Tensor) -> tuple[Tensor, Tensor]:
    """Eight scales and eight minima of 6 bits from 12 bytes: (blocks, 12) → two of (blocks, 8).

    Four bytes hold scales 0-3, four minima 0-3, four the lower bits of scales and minima 4-7, whose two upper
    bits are on top of the first eight bytes.
    """
    first, second, third = packed[:, :4], packed[:, 4:8], packed[:, 8:]
    scales = torch.cat((first & 63, (third & 15) | (first >> 6 << 4)), dim=1)
    minima = torch.cat((second & 63, (third >> 4) | (second >> 6 << 4)), dim=1)
    return scales, minima


def _q6_k(raw: Tensor) -> Tensor:
    """256 numbers in 16 groups: 128 bytes of lower 4 bits | 64 of upper 2 | 16 × int8 scales | scale f16."""
    low = _nibbles(raw[:, :128].view(-1, 2, 64))
    upper = raw[:, 128:192].view(-1, 2, 32)
    high = torch.cat([upper >> shift & 3 for shift in (0, 2, 4, 6)], dim=-1)
    numbers = (low | high << 4).view(-1, 16, 16)
    scales = _half(raw, 208) * raw[:, 192:208].view(torch.int8)
    return numbers.float().sub_(32).mul_(scales.unsqueeze(-1)).flatten(1)


# ggml's number of each type that tinyphi decodes.
NUMBER_TYPES = {
    0: F32,
    1: F16,
    2: NumberType("Q4_0", 32, 18, torch.float32, _q4_0),
    3: NumberType("Q4_1", 32, 20, torch.float32, _q4_1),
    8: NumberType("Q8_0", 32, 34, torch.float32, _q8_0),
    12: NumberType("Q4_K", 256, 144, torch.float32, _q4_k),
    14: NumberType("Q6_K", 256, 210, torch.float32, _q6_k),
    30: BF16,
}
