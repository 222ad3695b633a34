"""Matrices that are quantized in their files, and the layers that keep them so.

    a matrix in            consists of                               and becomes
    an AWQ directory       .qweight .qzeros .scales                  GroupedLinear
    a GPTQ directory       the same and .g_idx                       GroupedLinear or ReorderedLinear
    one of `tinyphi.save`  see `tinyphi.weights.saved`               what it was
    a GGUF file            one tensor, in blocks                     GroupedLinear or BlockLinear

`fold` makes one entry of the tensors of a matrix; after that, a quantized directory is like any other.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import torch

from tinyphi.errors import ConfigError, WeightsError
from tinyphi.quant import checkpoints
from tinyphi.quant.checkpoints import ReorderedLinear
from tinyphi.quant.gguf_blocks import BLOCK_FORMATS, BlockLinear, to_grouped
from tinyphi.quant.groupwise import stacked
from tinyphi.quant.linear import GroupedLinear, QuantizedLinear
from tinyphi.weights import saved
from tinyphi.weights.names import Place
from tinyphi.weights.storage import QuantizedTensor, TensorInfo, brief

Stored = TensorInfo | QuantizedTensor


class Part(NamedTuple):
    """A tensor of a file, and where it belongs."""

    stored: Stored
    place: Place

    @property
    def is_quantized(self) -> bool:
        """Whether the file holds codes rather than plain numbers."""
        return isinstance(self.stored, QuantizedTensor) or self.stored.type.numbers > 1


@dataclass(frozen=True)
class Parameter:
    """A matrix or vector of the model, and all that the file holds of it."""

    name: str  # of its module, and ".bias" for one; "lm_head" where that is the embedding as well
    tied: bool  # whether it is that
    parts: tuple[Part, ...]  # one below the other

    @property
    def shape(self) -> tuple[int, ...]:
        return (sum(part.place.shape[0] for part in self.parts), *self.parts[0].place.shape[1:])

    @property
    def is_bias(self) -> bool:
        return self.name.endswith(".bias")

    @property
    def stored_bytes(self) -> int:
        return sum(part.stored.nbytes for part in self.parts)

    @property
    def can_stay(self) -> bool:
        """Whether all parts are quantized, and in the same way as far as their headers tell."""
        kinds = {part.stored.type if isinstance(part.stored, TensorInfo) else None for part in self.parts}
        return len(kinds) == 1 and all(part.is_quantized for part in self.parts)


def fold(tensors: Mapping[str, TensorInfo], settings: Any) -> dict[str, Stored]:
    """The tensors of a directory, with all those of a quantized matrix as one, called `name.weight`.

    settings: the quantization_config of config.json.
    Raises ConfigError for another way to quantize, WeightsError for tensors that are missing or misshapen.
    """
    settings = settings if isinstance(settings, dict) else {}
    method = settings.get("quant_method")
    if settings.get("method") == saved.METHOD:
        matrices = list(saved.matrices(tensors, settings))
    elif method in ("awq", "gptq"):
        matrices = list(_checkpoint(tensors, checkpoints.Layout.of(settings)))
    else:
        raise ConfigError(
            f"config.json describes weights that are quantized by the method {brief(str(method))}; tinyphi "
            "reads 'awq', 'gptq' and what it saved itself. Load the model from before that."
        )
    used = {info.name for matrix in matrices for info in matrix.tensors.values()}
    folded: dict[str, Stored] = {name: info for name, info in tensors.items() if name not in used}
    for matrix in matrices:
        if f"{matrix.name}.weight" in folded:
            raise WeightsError(f"The matrix {brief(matrix.name)} is there twice, quantized and as it was.")
        folded[f"{matrix.name}.weight"] = matrix
    return folded


def _checkpoint(tensors: Mapping[str, TensorInfo], layout: checkpoints.Layout) -> Iterator[QuantizedTensor]:
    """The quantized matrices of an AWQ or GPTQ directory."""
    for full, info in tensors.items():
        name, _, ending = full.rpartition(".")
        if ending != "qweight":
            continue
        ends = [end for end in (*layout.tensors, "bias") if f"{name}.{end}" in tensors]
        missing = [end for end in layout.tensors if end not in ends]
        if missing:
            raise WeightsError(
                f"The quantized matrix {brief(name)} lacks its tensors {', '.join(missing)}. Fetch the "
                "directory again."
            )
        if len(info.shape) != 2:
            raise WeightsError(f"The tensor {brief(full)} has the shape {info.shape}; it must have two axes.")
        rows, columns = info.shape
        shape = (columns * 8, rows) if layout is checkpoints.Layout.AWQ else (columns, rows * 8)
        found = {end: tensors[f"{name}.{end}"] for end in ends}
        yield QuantizedTensor(name, shape, found, partial(checkpoints.read, layout=layout))


def keep(parameter: Parameter, device: torch.device) -> QuantizedLinear | None:
    """The layer with the codes of the file, unchanged; None where they do not make one matrix."""
    if not parameter.can_stay:
        return None
    if isinstance(parameter.parts[0].stored, TensorInfo):
        return _from_blocks(parameter, str(parameter.parts[0].stored.type).lower(), device)
    matrices = [part.stored for part in parameter.parts if isinstance(part.stored, QuantizedTensor)]
    layers = [matrix.read(device) for matrix in matrices]
    return layers[0] if len(layers) == 1 else _joined(layers)


def _from_blocks(parameter: Parameter, kind: str, device: torch.device) -> QuantizedLinear:
    """The rows of blocks of all parts, each where it belongs: they are moved as rows of numbers are."""
    block = BLOCK_FORMATS[kind]
    outputs, inputs = parameter.shape
    raw = torch.empty(outputs, inputs // block.numbers * block.nbytes, dtype=torch.uint8, device=device)
    for stored, place in parameter.parts:
        assert isinstance(stored, TensorInfo)
        stored.raw.copy_into(place.of(raw))
    blocks = raw.view(-1, block.nbytes)
    if block.numbers == 32:
        return GroupedLinear(to_grouped(blocks, kind, (outputs, inputs)))
    return BlockLinear(blocks, kind, (outputs, inputs))


def _joined(layers: Sequence[QuantizedLinear]) -> QuantizedLinear | None:
    """One layer for matrices (o i) below each other, or None if they differ in format or order of columns."""
    orders = [layer.order for layer in layers if isinstance(layer, ReorderedLinear)]
    if len(orders) not in (0, len(layers)) or any(not torch.equal(order, orders[0]) for order in orders):
        return None
    plain = [layer.sorted if isinstance(layer, ReorderedLinear) else layer for layer in layers]
    parts = [layer.grouped() for layer in plain if isinstance(layer, GroupedLinear)]
    if len(parts) < len(layers) or len({(part.bits, part.group_size) for part in parts}) > 1:
        return None
    weight = stacked(parts)
    return ReorderedLinear(weight, orders[0]) if orders else GroupedLinear(weight)
