"""Write a model as one GGUF file, which llama.cpp and `tinyphi.load` open. The format is explained in `gguf`.

Whatever a model was loaded from, it is written as the architecture `phi3`: that is what tinyphi computes, and
llama.cpp computes it too, with grouped heads and a tied head as well. Two things it does otherwise: it knows
no sliding window for Phi-3; and it chooses LongRoPE's long factors by the length of the context that it is
opened for, where tinyphi goes by the tokens that there are.

Source: ggml's specification `docs/gguf.md`; `gguf/constants.py` and `convert_hf_to_gguf.py` in llama.cpp.
"""

import math
import os
import struct
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor
from tqdm import tqdm

from tinyphi.config import PhiConfig
from tinyphi.errors import ConfigError, InputError, WeightsError
from tinyphi.model.transformer import Phi3
from tinyphi.quant.gguf_blocks import BLOCK_FORMATS, BlockLinear, from_grouped, grouped_kind
from tinyphi.quant.linear import GroupedLinear, QuantizedEmbedding, QuantizedLinear
from tinyphi.tokenizer import Tokenizer, to_gguf
from tinyphi.weights.gguf import NUMBER_TYPES
from tinyphi.weights.names import LAYOUTS, ROPE_FACTORS, places

_ALIGNMENT = 32  # bytes, GGUF's default
_PIECE = 1 << 22  # numbers encoded and written at a time
_WORTH_A_BAR = 50_000_000  # parameters from which a progress bar is shown
_NUMBER_OF = {str(stored).lower(): number for number, stored in NUMBER_TYPES.items()}  # "q4_0" → 2
_PLAIN = {"f32": torch.float32, "f16": torch.float16, "bf16": torch.bfloat16}
# For rows that are not whole blocks: a kind with smaller blocks that loses less, in the end none at all.
_FALLBACK = {"q4_k": "q4_1", "q6_k": "q8_0", "q4_0": "f16", "q4_1": "f16", "q8_0": "f16"}


@dataclass(frozen=True)
class Exported:
    """What became of the tensors, by their names in the file."""

    types: dict[str, str]  # of each tensor: "Q4_0", "F32", …
    unchanged: list[str]  # quantized in this format before, and copied code by code
    fallbacks: list[str]  # of another type than was asked for, because their rows are not whole blocks


class _Planned(NamedTuple):
    """A tensor of the file to be."""

    name: str
    shape: tuple[int, ...]
    kind: str
    weight: Tensor | QuantizedLinear

    @property
    def nbytes(self) -> int:
        stored = NUMBER_TYPES[_NUMBER_OF[self.kind]]
        return math.prod(self.shape) // stored.numbers * stored.nbytes


def export_gguf(
    model: Phi3, tokenizer: Tokenizer, path: str | os.PathLike[str], kind: str = "q4_0"
) -> Exported:
    """Write model and tokenizer to a .gguf file: matrices in the number type `kind`, norms in float32.

    kind: f32, f16, bf16, q8_0, q4_0, q4_1, q4_k or q6_k. A layer that is quantized in that very format is
        copied without a change; other quantized layers are dequantized first. A matrix whose rows are not
        whole blocks gets another type, which the report names.
    The ids that begin, end and pad a text are the tokenizer's; a tied head is stored once. One matrix after
    the other goes into a file of another name, which is renamed when complete: a failure leaves what was
    there.
    Raises InputError for an unknown kind or weights it cannot express, TokenizerError for a tokenizer that
    does not fit the model or that GGUF cannot describe, WeightsError if the file cannot be written.
    """
    target = Path(path).expanduser()
    if kind not in _NUMBER_OF:
        raise InputError(f"There is no number type {kind!r}; choose one of {', '.join(_NUMBER_OF)}.")
    if target.suffix != ".gguf":
        raise WeightsError(f"{target} must end in .gguf, by which `tinyphi.load` knows such a file.")
    entries = _metadata(model.config) | to_gguf(tokenizer, model.config.vocab_size)
    tensors = _plan(model, kind)
    scratch = target.with_name(f".{target.name}.{uuid.uuid4().hex[:8]}.partial")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        unchanged = _write(scratch, _header(entries, tensors), tensors)
        scratch.replace(target)
    except OSError as error:
        raise WeightsError(f"The model cannot be exported to {target}: {error}.") from error
    finally:
        scratch.unlink(missing_ok=True)
    types = {tensor.name: tensor.kind.upper() for tensor in tensors}
    fallbacks = [tensor.name for tensor in tensors if len(tensor.shape) == 2 and tensor.kind != kind]
    return Exported(types, unchanged, fallbacks)


def _metadata(config: PhiConfig) -> dict[str, Any]:
    """The hyperparameters under GGUF's names; `config_from_gguf` reads them back."""
    if config.short_mscale is not None or config.long_mscale is not None:
        raise ConfigError("GGUF has one attention factor for all lengths, but this model states its own two.")
    if config.model_type == "phi3small":
        raise ConfigError("llama.cpp has no architecture for Phi-3-small, so it cannot be exported to GGUF.")
    float32 = torch.finfo(torch.float32)
    for name in ("rms_norm_eps", "rope_theta"):
        if not float32.tiny <= getattr(config, name) <= float32.max:
            raise ConfigError(f"{name} is {getattr(config, name)}, which GGUF's float32 cannot express.")
    values = {
        "context_length": config.max_position_embeddings,
        "embedding_length": config.hidden_size,
        "feed_forward_length": config.intermediate_size,
        "block_count": config.num_hidden_layers,
        "attention.head_count": config.num_attention_heads,
        "attention.head_count_kv": config.num_key_value_heads,
        "attention.layer_norm_rms_epsilon": float(config.rms_norm_eps),
        "attention.sliding_window": config.sliding_window or 0,
        "rope.dimension_count": config.rotary_dim,
        "rope.freq_base": float(config.rope_theta),
        "rope.scaling.original_context_length": config.original_max_position_embeddings,
        "rope.scaling.attn_factor": config.attention_factor,
    }
    general = {"general.architecture": "phi3", "general.quantization_version": 2}
    return general | {f"phi3.{key}": value for key, value in values.items()}


def _plan(model: Phi3, kind: str) -> list[_Planned]:
    """Every tensor of the file, in its order."""
    tensors = []
    for name, factors in zip(
        ROPE_FACTORS, (model.config.short_factor, model.config.long_factor), strict=True
    ):
        if factors is not None:
            tensors.append(_Planned(name, (len(factors),), "f32", torch.tensor(factors)))
    for name, place in places(model.config, LAYOUTS["gguf phi3"]).items():
        part = model.get_submodule(place.parameter.removesuffix(".weight"))
        if isinstance(part, QuantizedEmbedding):
            part = part.table
        weight = part if isinstance(part, QuantizedLinear) else model.get_parameter(place.parameter)
        tensors.append(_Planned(name, place.shape, _fitting(kind, place.shape), weight))
    return tensors


def _fitting(kind: str, shape: tuple[int, ...]) -> str:
    """The number type for a tensor of that shape, if `kind` is wished for."""
    if len(shape) == 1:
        return "f32"
    while shape[1] % NUMBER_TYPES[_NUMBER_OF[kind]].numbers:
        kind = _FALLBACK[kind]
    return kind


def _header(entries: dict[str, Any], tensors: list[_Planned]) -> bytes:
    """All that stands before the numbers, filled up to the alignment."""
    header = bytearray(b"GGUF" + struct.pack("<IQQ", 3, len(tensors), len(entries)))
    for key, value in entries.items():
        header += _string(key) + _value(value)
    offset = 0
    for tensor in tensors:
        axes = len(tensor.shape)
        header += _string(tensor.name) + struct.pack(f"<I{axes}Q", axes, *reversed(tensor.shape))
        header += struct.pack("<IQ", _NUMBER_OF[tensor.kind], offset)
        offset += tensor.nbytes + _gap(tensor.nbytes)
    return bytes(header) + bytes(_gap(len(header)))


def _value(value: Any) -> bytes:
    """A metadata value behind its type: bool, u32, f32, string, or an array of strings, i32 or f32."""
    match value:
        case bool():
            return struct.pack("<I?", 7, value)
        case int():
            return struct.pack("<II", 4, value)
        case float():
            return struct.pack("<If", 6, value)
        case str():
            return struct.pack("<I", 8) + _string(value)
        case [str(), *_]:
            return struct.pack("<IIQ", 9, 8, len(value)) + b"".join(map(_string, value))
        case [int(), *_]:
            return struct.pack(f"<IIQ{len(value)}i", 9, 5, len(value), *value)
        case _:
            return struct.pack(f"<IIQ{len(value)}f", 9, 6, len(value), *value)


def _string(text: str) -> bytes:
    encoded = text.encode()
    return struct.pack("<Q", len(encoded)) + encoded


def _gap(size: int) -> int:
    """Bytes from there to the next multiple of the alignment."""
    return -size % _ALIGNMENT


def _write(path: Path, header: bytes, tensors: list[_Planned]) -> list[str]:
    """Write the whole file; return the names of the tensors that were copied unchanged."""
    unchanged = []
    large = sum(math.prod(tensor.shape) for tensor in tensors) >= _WORTH_A_BAR
    total = sum(tensor.nbytes for tensor in tensors)
    quiet = None if large else True  # None: only where someone watches
    with open(path, "wb") as file, tqdm(total=total, unit="B", unit_scale=True, disable=quiet) as bar:
        file.write(header)
        for tensor in tensors:
            blocks = _kept(tensor)
            if blocks is not None:
                unchanged.append(tensor.name)
            for piece in _encoded(tensor) if blocks is None else (blocks,):
                file.write(piece.cpu().contiguous().numpy().data)
                bar.update(piece.nbytes)
            file.write(bytes(_gap(tensor.nbytes)))
    return unchanged


def _kept(tensor: _Planned) -> Tensor | None:
    """The blocks of a layer that is quantized in the format of the file; None for every other weight."""
    layer = tensor.weight
    if isinstance(layer, BlockLinear) and layer.kind == tensor.kind:
        return layer.blocks
    if isinstance(layer, GroupedLinear) and grouped_kind(weight := layer.grouped()) == tensor.kind:
        return from_grouped(weight)
    return None


def _encoded(tensor: _Planned) -> Iterator[Tensor]:
    """The tensor's bytes, some rows at a time. Raises InputError for numbers that its type cannot express."""
    weight = tensor.weight
    numbers = weight.dequantize() if isinstance(weight, QuantizedLinear) else weight.detach()
    step = max(1, _PIECE // numbers[0].numel())
    for start in range(0, len(numbers), step):
        try:
            yield _as_bytes(numbers[start : start + step], tensor.kind)
        except InputError as error:
            raise InputError(f"{tensor.name} cannot be stored as {tensor.kind}. {error}") from error


def _as_bytes(rows: Tensor, kind: str) -> Tensor:
    if kind in BLOCK_FORMATS:
        return BLOCK_FORMATS[kind].quantize(rows)
    plain = rows.to(_PLAIN[kind])
    if not bool(plain.isfinite().all()):
        raise InputError(f"It has NaN, infinities or numbers beyond {torch.finfo(plain.dtype).max:.3g}.")
    return plain.contiguous().view(torch.uint8)
