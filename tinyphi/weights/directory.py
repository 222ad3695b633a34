"""A model's directory as Hugging Face lays it out: config.json and one or several safetensors files.

    header length u64, little-endian
    header: JSON {name: {"dtype": "BF16", "shape": [rows, columns], "data_offsets": [start, end]}, …}
    tensor data; the offsets count from here

A model in several files ("shards") has a `model.safetensors.index.json`, whose `weight_map` says which file
holds which tensor.

Source: the specification in the README of huggingface/safetensors.
"""

import json
import math
import os
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tinyphi.errors import WeightsError
from tinyphi.weights.storage import (
    BF16,
    F16,
    F32,
    F64,
    HOW_TO_CONVERT,
    I8,
    I32,
    I64,
    U8,
    TensorInfo,
    brief,
    open_binary,
    refuse_pickle,
)

WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"
_NUMBER_TYPES = {str(stored): stored for stored in (F64, F32, F16, BF16, U8, I8, I32, I64)}
_HEADER_LIMIT = 100_000_000  # bytes, as in the safetensors library
_JSON_LIMIT = 32 << 20  # bytes of config.json or of an index


class Directory:
    """A directory with a config.json and safetensors, or one safetensors file beside its config.json.

    path: the directory. config: the content of config.json. tensors: name → TensorInfo.
    Raises WeightsError for files that are missing, damaged or unsafe.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        given = Path(path)
        self.path = given if given.is_dir() else given.parent
        self.config = read_json(self.path / "config.json")
        self.tensors = read_safetensors(given) if given != self.path else _read_all(self.path)

    def read(self, name: str, dtype: torch.dtype = torch.float32) -> Tensor:
        """One tensor. Raises WeightsError if there is none of that name."""
        if name not in self.tensors:
            raise WeightsError(f"{self.path} has no tensor {brief(name)}.")
        return self.tensors[name].read(dtype)


def read_safetensors(path: Path) -> dict[str, TensorInfo]:
    """The checked header of one safetensors file, as name → TensorInfo."""
    with open_binary(path) as file:
        size = os.fstat(file.fileno()).st_size
        start = file.read(8)
        length = int.from_bytes(start, "little")
        if file.read(1) != b"{":  # else it is a header whose length only looks like the start of a pickle
            refuse_pickle(path, start)
        if len(start) < 8 or length > min(size - 8, _HEADER_LIMIT):
            raise WeightsError(
                f"{path} is no safetensors file, or is cut off: it states a header of {length} bytes, and "
                f"has {size}. Fetch it again."
            )
        file.seek(8)
        header = _parse_json(file.read(length), path)
    header.pop("__metadata__", None)  # free text about the file
    data_start = 8 + length
    tensors = {name: _tensor_info(path, name, entry, data_start) for name, entry in header.items()}
    _check_order(path, tensors, data_start, size)
    return tensors


def read_json(path: Path) -> dict[str, Any]:
    """A JSON file that holds an object. Raises WeightsError for anything else."""
    with open_binary(path) as file:
        if os.fstat(file.fileno()).st_size > _JSON_LIMIT:
            raise WeightsError(f"{path} is larger than {_JSON_LIMIT} bytes; that is no such file.")
        return _parse_json(file.read(), path)


def _parse_json(data: bytes, path: Path) -> dict[str, Any]:
    try:
        content = json.loads(data, object_pairs_hook=_without_duplicates)
    except (ValueError, RecursionError) as error:  # bad UTF-8, bad JSON, a key twice; nested too deeply
        raise WeightsError(f"{path} holds no valid JSON: {error}. Fetch it again.") from error
    if not isinstance(content, dict):
        raise WeightsError(f"{path} holds a JSON {type(content).__name__}; expected an object.")
    return content


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in content if names.count(name) > 1)
        raise ValueError(f"the key {brief(twice)} is there twice")
    return content


def _tensor_info(path: Path, name: str, entry: Any, data_start: int) -> TensorInfo:
    """Check one entry of a header: known type, a shape of whole numbers, as many bytes as these need."""

    def wrong(problem: str) -> WeightsError:
        return WeightsError(f"{path}: tensor {brief(name)} {problem}.")

    if not isinstance(entry, dict) or not {"dtype", "shape", "data_offsets"} <= entry.keys():
        raise wrong("lacks its dtype, shape or data_offsets")
    shape, offsets = entry["shape"], entry["data_offsets"]
    if not _is_counts(shape) or len(shape) > 8:
        raise wrong("has a shape that is not a short list of whole numbers")
    if not _is_counts(offsets) or len(offsets) != 2:
        raise wrong("has data_offsets that are not two whole numbers")
    if entry["dtype"] not in list(_NUMBER_TYPES):
        raise wrong(
            f"is stored as {brief(str(entry['dtype']))}; tinyphi reads {', '.join(_NUMBER_TYPES)}. Fetch the "
            "model in one of these, or convert it with transformers"
        )
    stored = _NUMBER_TYPES[entry["dtype"]]
    begin, end = offsets
    if end - begin != math.prod(shape) * stored.nbytes:
        raise wrong(f"has the shape {tuple(shape)} in {stored}, but {end - begin} bytes")
    return TensorInfo(name, tuple(shape), stored, path, data_start + begin, end - begin)


def _is_counts(value: Any) -> bool:
    return isinstance(value, list) and all(type(count) is int and 0 <= count < 1 << 63 for count in value)


def _check_order(path: Path, tensors: dict[str, TensorInfo], data_start: int, size: int) -> None:
    """The tensors must fill the file without holes and without overlap; the format demands it."""
    end = data_start
    for info in sorted(tensors.values(), key=lambda info: (info.offset, info.nbytes)):
        if info.offset != end:
            problem = "overlaps the one before it" if info.offset < end else "leaves a hole before it"
            raise WeightsError(f"{path}: tensor {brief(info.name)} {problem}. Fetch the file again.")
        end += info.nbytes
    if end != size:
        raise WeightsError(
            f"{path} should have {end} bytes by its header, but has {size}. It is cut off or damaged; "
            "fetch it again."
        )


def _read_all(directory: Path) -> dict[str, TensorInfo]:
    """The tensors of a directory, from its one file or from its shards."""
    if (directory / INDEX).exists():
        return _read_shards(directory)
    if (directory / WEIGHTS).exists():
        return read_safetensors(directory / WEIGHTS)
    pickles = sorted(file.name for file in directory.iterdir() if file.suffix in (".bin", ".pt", ".pth"))
    if pickles:
        raise WeightsError(f"{directory} has its weights only as a pickle ({pickles[0]}). {HOW_TO_CONVERT}")
    raise WeightsError(
        f"{directory} has neither {WEIGHTS} nor {INDEX}; fetch the weights, or name a .gguf file."
    )


def _read_shards(directory: Path) -> dict[str, TensorInfo]:
    index = directory / INDEX
    weight_map = read_json(index).get("weight_map")
    if not isinstance(weight_map, dict):
        raise WeightsError(f"{index} has no weight_map; fetch it again.")
    shards: dict[str, dict[str, TensorInfo]] = {}
    tensors = {}
    for name, file in weight_map.items():
        # A plain file name: an index must not be able to point outside its directory.
        if not isinstance(file, str) or not file.endswith(".safetensors") or set(file) & set("/\\:\0"):
            raise WeightsError(f"{index} names the file {brief(str(file))}; it must be beside the index.")
        if file not in shards:
            shards[file] = read_safetensors(directory / file)
        if name not in shards[file]:
            raise WeightsError(f"{directory / file} lacks the tensor {brief(name)} that the index promises.")
        tensors[name] = shards[file][name]
    return tensors
