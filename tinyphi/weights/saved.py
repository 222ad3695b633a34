"""How `tinyphi.save` stores quantized matrices, and what it takes to read them back.

config.json names each of them in its `quantization_config`, with a class of layers, its format and its shape.
The tensors are what the layer's `stored` returns, named after the matrix:

    GroupedLinear      .codes .scales, perhaps .minima
    ReorderedLinear    the same and .order
    NF4Linear          .weight .weight.absmax …, as bitsandbytes has them
    BlockLinear        .blocks

What types and shapes they must have follows from the entry. It is checked by the header of the file, before
memory is taken for numbers.
"""

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor

from tinyphi.errors import ConfigError, WeightsError
from tinyphi.quant.checkpoints import ReorderedLinear
from tinyphi.quant.gguf_blocks import BLOCK_FORMATS, BlockLinear
from tinyphi.quant.linear import GroupedLinear, QuantizedLinear
from tinyphi.quant.nf4 import ABSMAX_BLOCK, BLOCK, CODEBOOK, DESCRIPTION, DYNAMIC_MAP, NF4Linear
from tinyphi.weights.storage import QuantizedTensor, TensorInfo, brief

METHOD = "tinyphi"


class Entry(NamedTuple):
    """What config.json says of a matrix."""

    kind: str  # a class of layers
    format: str  # what this class calls it
    shape: tuple[int, int]  # (o i)


class Found(dict[str, TensorInfo]):
    """The tensors of a matrix by their endings. One that is not there is a WeightsError."""

    def __init__(self, name: str, tensors: Mapping[str, TensorInfo]) -> None:
        super().__init__({end: tensors[full] for end in _ENDINGS if (full := f"{name}.{end}") in tensors})
        self.name = name

    def __missing__(self, ending: str) -> TensorInfo:
        raise WeightsError(
            f"The quantized matrix {brief(self.name)} lacks its tensor {ending!r}. Fetch or save it again."
        )


Expected = dict[str, tuple[str, tuple[int, ...]]]  # the ending of a tensor → its number type and shape


def describe(layers: Mapping[str, QuantizedLinear]) -> dict[str, Any]:
    """The quantization_config for layers by their names in the file. WeightsError for a class not known."""
    matrices = {}
    for name, layer in layers.items():
        kind = type(layer).__name__
        if kind not in _KINDS:
            raise WeightsError(f"{name} is a {kind}, and for that there is no format. Known: {_names()}.")
        shape = [layer.out_features, layer.in_features]
        matrices[name] = {"class": kind, "format": layer.format, "shape": shape}
    # Not "quant_method", the key of all others: if transformers finds one that it does not know, it draws
    # random weights; if it finds none, it refuses.
    return {"method": METHOD, "matrices": matrices}


def matrices(tensors: Mapping[str, TensorInfo], settings: Mapping[str, Any]) -> Iterator[QuantizedTensor]:
    """The quantized matrices of a directory.

    Raises ConfigError for a quantization_config that is damaged, WeightsError for tensors that do not fit it.
    """
    entries = settings.get("matrices")
    if not isinstance(entries, dict):
        raise ConfigError("The quantization_config in config.json has no 'matrices'. Save the model again.")
    for name, content in entries.items():
        entry = _entry(name, content)
        found = Found(name, tensors)
        expected = _KINDS[entry.kind].expected(entry, found)
        for end, (kind, shape) in expected.items():
            _check(found[end], kind, shape)
        yield QuantizedTensor(name, entry.shape, {end: found[end] for end in expected}, partial(_make, entry))


def _entry(name: str, content: Any) -> Entry:
    """The entry of a matrix in config.json, checked."""
    match content:
        case {"class": str(kind), "format": str(form), "shape": [int(outputs), int(inputs)]}:
            if kind in _KINDS and 0 < outputs < 1 << 31 and 0 < inputs < 1 << 31:
                return Entry(kind, form, (outputs, inputs))
    raise ConfigError(
        f"The quantization_config in config.json does not say of {brief(name)} which class, format and shape "
        f"it has; the classes are {_names()}. Save the model again."
    )


def _check(info: TensorInfo, kind: str, shape: tuple[int, ...]) -> None:
    if (str(info.type), info.shape) != (kind, shape):
        raise WeightsError(
            f"{info.path}: tensor {brief(info.name)} is {info.type} {info.shape}; by config.json it must be "
            f"{kind} {shape}. Fetch or save both again."
        )


def _make(entry: Entry, tensors: Mapping[str, Tensor]) -> QuantizedLinear:
    layer = _KINDS[entry.kind].make(entry, tensors)
    if layer.format != entry.format:
        raise WeightsError(f"its tensors are {layer.format}, but config.json says {brief(entry.format)}.")
    return layer


def _grouped_tensors(entry: Entry, found: Found) -> Expected:
    outputs, inputs = entry.shape
    groups = found["scales"].shape[-1] if found["scales"].shape else 0
    if groups == 0 or inputs % groups:
        raise WeightsError(f"{brief(found.name)} has {groups} scales for a row of {inputs} weights.")
    if str(found["codes"].type) == "I8":
        return {"codes": ("I8", (outputs, inputs)), "scales": ("F16", (outputs, groups))}
    expected: Expected = {"codes": ("U8", (outputs, inputs // 2)), "scales": ("F16", (outputs, groups))}
    return expected | ({"minima": expected["scales"]} if "minima" in found else {})


def _reordered_tensors(entry: Entry, found: Found) -> Expected:
    return _grouped_tensors(entry, found) | {"order": ("I64", (entry.shape[1],))}


def _nf4_tensors(entry: Entry, found: Found) -> Expected:
    numbers = entry.shape[0] * entry.shape[1]
    blocks = -(-numbers // BLOCK)  # rounded up
    expected: Expected = {
        "weight": ("U8", (-(-numbers // 2), 1)),
        "weight.absmax": ("F32", (blocks,)),
        "weight.quant_map": ("F32", (len(CODEBOOK),)),
        DESCRIPTION: ("U8", found[DESCRIPTION].shape),
    }
    if "weight.nested_absmax" in found:  # double quantization
        expected["weight.absmax"] = ("U8", (blocks,))
        expected["weight.nested_absmax"] = ("F32", (-(-blocks // ABSMAX_BLOCK),))
        expected["weight.nested_quant_map"] = ("F32", (len(DYNAMIC_MAP),))
    return expected


def _block_tensors(entry: Entry, found: Found) -> Expected:
    block = BLOCK_FORMATS.get(entry.format.lower())
    if block is None:
        raise ConfigError(f"config.json gives {brief(found.name)} the format {brief(entry.format)}.")
    return {"blocks": ("U8", (entry.shape[0] * entry.shape[1] // block.numbers, block.nbytes))}


def _reordered(entry: Entry, tensors: Mapping[str, Tensor]) -> ReorderedLinear:
    order = tensors["order"]
    if not torch.equal(order.sort().values, torch.arange(len(order), device=order.device)):
        raise WeightsError("its order does not name every column once.")
    return ReorderedLinear(GroupedLinear.from_stored(tensors).grouped(), order)


class _Kind(NamedTuple):
    """How a class of layers is stored, and made again."""

    expected: Callable[[Entry, Found], Expected]
    make: Callable[[Entry, Mapping[str, Tensor]], QuantizedLinear]


_ENDINGS = (
    "codes scales minima order blocks weight weight.absmax weight.quant_map weight.nested_absmax "
    f"weight.nested_quant_map {DESCRIPTION}"
).split()
_KINDS = {
    "GroupedLinear": _Kind(_grouped_tensors, lambda entry, tensors: GroupedLinear.from_stored(tensors)),
    "ReorderedLinear": _Kind(_reordered_tensors, _reordered),
    "NF4Linear": _Kind(_nf4_tensors, lambda entry, tensors: NF4Linear.from_stored(tensors)),
    "BlockLinear": _Kind(
        _block_tensors,
        lambda entry, tensors: BlockLinear(tensors["blocks"], entry.format.lower(), entry.shape),
    ),
}


def _names() -> str:
    return ", ".join(_KINDS)
