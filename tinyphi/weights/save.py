"""Write a model as a Hugging Face directory, which transformers and `tinyphi.load` open.

A quantized model is written as it is, and then only `tinyphi.load` can open it; `tinyphi.weights.saved` says
how it is stored.
"""

import fnmatch
import json
import os
import shutil
import uuid
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from tinyphi.errors import WeightsError
from tinyphi.model.transformer import Phi3
from tinyphi.quant.linear import QuantizedEmbedding, QuantizedLinear
from tinyphi.tokenizer import Tokenizer
from tinyphi.weights import saved
from tinyphi.weights.directory import INDEX, WEIGHTS
from tinyphi.weights.names import LAYOUTS, Place, places

_SAVED = (  # the files of a saved model; a directory with any other file is not replaced
    "config.json generation_config.json model.safetensors model-*-of-*.safetensors "
    "model.safetensors.index.json tokenizer.json tokenizer_config.json tokenizer.model added_tokens.json "
    "special_tokens_map.json chat_template.jinja vocab.json merges.txt"
).split()


def save(
    model: Phi3,
    tokenizer: Tokenizer | None,
    directory: str | os.PathLike[str],
    max_shard_bytes: int = 2_000_000_000,
) -> None:
    """Write config.json, generation_config.json, the weights and the tokenizer's files to a directory.

    The weights keep their dtype and get Hugging Face's names for `phi3`, whatever they were loaded from;
    Phi-3-small's get the published ones, which transformers opens only with the code published beside them.
    More than `max_shard_bytes` of them are cut into several files with an index. Quantized matrices keep
    their codes and tinyphi's order of rows, so that they come back exactly; for other programs, save the
    model before it is quantized, or use `tinyphi.weights.export.export_gguf`. To gather them takes memory, up
    to twice `max_shard_bytes`.
    All is written beside the directory first and moved there when complete, so a failure leaves what was
    there. A model saved there before is replaced.
    Raises WeightsError if the directory holds other files or cannot be written, or for a quantized layer of a
    class that it has no format for.
    """
    target = Path(directory).expanduser().resolve()
    check_target(target)
    scratch = target.with_name(f".{target.name}.{uuid.uuid4().hex[:8]}.partial")
    weights = _weights(model)
    try:
        scratch.mkdir(parents=True)
        _write_configs(model, weights, tokenizer, scratch)
        _write_weights(weights, scratch, max_shard_bytes)
        if tokenizer is not None:
            tokenizer.save(scratch)
        move_into_place(scratch, target)
    except (OSError, SafetensorError) as error:
        raise WeightsError(f"The model cannot be saved to {target}: {error}.") from error
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def check_target(target: Path) -> None:
    """Raise WeightsError unless a model may be saved in this directory."""
    if not target.exists():
        return
    if not target.is_dir():
        raise WeightsError(f"{target} is a file; give the name of a directory.")
    names = sorted(file.name for file in target.iterdir())
    foreign = [name for name in names if not any(fnmatch.fnmatchcase(name, known) for known in _SAVED)]
    if foreign or (names and "config.json" not in names):
        shown = ", ".join((foreign or names)[:3])
        raise WeightsError(
            f"{target} holds files that are not of a saved model ({shown}), and saving replaces the whole "
            "directory. Choose a new or empty one."
        )


class _Weight(NamedTuple):
    """What is to be stored, and how its rows lie in the file."""

    numbers: Tensor | QuantizedLinear
    place: Place


Weights = Mapping[str, _Weight]  # by their names in the file; quantized ones without the ending


def _weights(model: Phi3) -> Weights:
    found: dict[str, _Weight] = {}
    for name, place in places(model.config, LAYOUTS[model.config.model_type]).items():
        part = model.get_submodule(place.parameter.rpartition(".")[0])
        if isinstance(part, QuantizedEmbedding):
            part = part.table
        if isinstance(part, QuantizedLinear) and name.endswith(".weight"):
            found[name.removesuffix(".weight")] = _Weight(part, place)
        else:
            found[name] = _Weight(model.get_parameter(place.parameter), place)
    return found


def _write_configs(model: Phi3, weights: Weights, tokenizer: Tokenizer | None, directory: Path) -> None:
    config = model.config
    content = config.to_hugging_face()
    content["torch_dtype"] = str(model.norm.weight.dtype).removeprefix("torch.")
    quantized = {name: part for name, (part, _) in weights.items() if isinstance(part, QuantizedLinear)}
    if quantized:
        content["quantization_config"] = saved.describe(quantized)
    _write_json(directory / "config.json", content)
    ids: dict[str, Any] = {
        "bos_token_id": config.bos_token_id,
        # Of the tokens that end a reply, `PhiConfig` holds only one.
        "eos_token_id": list(tokenizer.stop_ids) if tokenizer else config.eos_token_id,
        "pad_token_id": config.pad_token_id,
    }
    _write_json(
        directory / "generation_config.json", {name: id for name, id in ids.items() if id is not None}
    )


def _write_weights(weights: Weights, directory: Path, max_shard_bytes: int) -> None:
    sizes = {name: weight.nbytes for name, (weight, _) in weights.items()}
    shards = _shards(sizes, max_shard_bytes)
    if len(shards) == 1:
        _write_tensors(weights, shards[0], directory / WEIGHTS)
        return
    weight_map: dict[str, str] = {}
    for number, names in enumerate(shards, start=1):
        file = f"model-{number:05d}-of-{len(shards):05d}.safetensors"
        weight_map |= dict.fromkeys(_write_tensors(weights, names, directory / file), file)
    total = sum(sizes.values())
    _write_json(directory / INDEX, {"metadata": {"total_size": total}, "weight_map": weight_map})


def _shards(sizes: Mapping[str, int], max_bytes: int) -> list[list[str]]:
    """Names cut into runs of at most `max_bytes`, or of one weight where that is larger."""
    shards: list[list[str]] = [[]]
    size = 0
    for name, nbytes in sizes.items():
        if shards[-1] and size + nbytes > max_bytes:
            shards.append([])
            size = 0
        shards[-1].append(name)
        size += nbytes
    return shards


def _write_tensors(weights: Weights, names: Iterable[str], path: Path) -> list[str]:
    """Write some of the weights to a file; return the names of its tensors."""
    tensors: dict[str, Tensor] = {}
    for name in names:
        weight, place = weights[name]
        if isinstance(weight, QuantizedLinear):
            tensors |= {f"{name}.{end}": tensor.cpu().contiguous() for end, tensor in weight.stored().items()}
        else:
            tensors[name] = place.take(weight).cpu().contiguous()
    save_file(tensors, path, metadata={"format": "pt"})
    return list(tensors)


def _write_json(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def move_into_place(complete: Path, target: Path) -> None:
    """Two renames at most, so that at every moment the old or the new model lies complete on the disk."""
    if not target.exists():
        complete.rename(target)
        return
    old = complete.with_suffix(".old")
    target.rename(old)
    try:
        complete.rename(target)
    except BaseException:
        old.rename(target)
        raise
    shutil.rmtree(old, ignore_errors=True)
