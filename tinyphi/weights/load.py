"""From a source (catalog name, directory, file or hub id) to a model that runs and its tokenizer.

The model is made without memory for its parameters. One after the other is then read from the file, a piece
at a time, and quantized where that is wished; so loading takes the memory of the model and hardly any more.
"""

import ctypes
import math
import os
import sys
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import psutil
import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from tqdm import tqdm

from tinyphi import tokenizer as tokenizers
from tinyphi.config import PhiConfig
from tinyphi.errors import InputError, MemoryShortage, WeightsError
from tinyphi.model.transformer import Phi3
from tinyphi.quant.linear import QuantizedLinear
from tinyphi.quant.quantize import CALIBRATED, put
from tinyphi.quant.recipe import METHODS, Recipe
from tinyphi.tokenizer import Tokenizer
from tinyphi.weights.directory import Directory
from tinyphi.weights.fetch import resolve
from tinyphi.weights.gguf import GGUFFile
from tinyphi.weights.gguf_config import config_from_gguf
from tinyphi.weights.names import LAYOUTS, Layout, Place, match
from tinyphi.weights.quantized import Parameter, Part, Stored, fold, keep
from tinyphi.weights.storage import TensorInfo, same_bytes

AS_STORED = "as_stored"  # for `quantize`: keep the blocks of a GGUF file
_CONTROL_GROUP = Path("/sys/fs/cgroup")
_DTYPES = (torch.float32, torch.bfloat16, torch.float16, torch.float64)
_WORTH_A_BAR = 1_000_000_000  # bytes of weights from which a progress bar is shown
_SAMPLE = 16  # rows that are quantized to know what a matrix will take

Source = str | os.PathLike[str]


def load(
    source: Source,
    dtype: torch.dtype = torch.float32,
    device: str | torch.device = "cpu",
    quantize: str | Recipe | None = None,
) -> tuple[Phi3, Tokenizer]:
    """The model and the tokenizer of a source: a catalog name, a local directory, a .gguf file, or a hub id.

    Arguments and errors: see `load_model`; TokenizerError for tokenizer files that are missing or damaged.
    """
    how = _checked(dtype, device, quantize)
    files = _open(resolve(source))
    return _model(files, how), _tokenizer(files)


def load_model(
    source: Source,
    dtype: torch.dtype = torch.float32,
    device: str | torch.device = "cpu",
    quantize: str | Recipe | None = None,
) -> Phi3:
    """The model of a source, in evaluation mode, its parameters trainable.

    dtype: of the parameters and of the computation, float32, bfloat16, float16 or float64.
    quantize: None decodes the quantized weights of a GGUF file to `dtype`. A `tinyphi.quant.Recipe` or the
        name of its method quantizes one matrix after the other while loading, so that the whole model is
        never there unquantized. "as_stored" keeps the blocks of a GGUF file as they are; a matrix whose parts
        are stored in different formats is decoded, and a warning says so. A directory that is quantized
        already, by `tinyphi.save`, AWQ or GPTQ, stays as it is, and takes only None.
    Raises WeightsError for files that are missing, damaged or do not fit their configuration, ConfigError for
    an architecture or a quantization that tinyphi does not have, InputError for a `quantize` that does not
    fit, MemoryShortage when the model would not fit.
    """
    how = _checked(dtype, device, quantize)
    return _model(_open(resolve(source)), how)


def load_tokenizer(source: Source) -> Tokenizer:
    """The tokenizer of a source. Raises TokenizerError for files that are missing or damaged."""
    path = resolve(source)
    if path.suffix == ".gguf":
        return _tokenizer(GGUFFile(path))
    return tokenizers.from_directory(path if path.is_dir() else path.parent)


def _open(path: Path) -> GGUFFile | Directory:
    return GGUFFile(path) if path.suffix == ".gguf" else Directory(path)


def _tokenizer(files: GGUFFile | Directory) -> Tokenizer:
    if isinstance(files, GGUFFile):
        return tokenizers.from_gguf(files.metadata)
    return tokenizers.from_directory(files.path)


@dataclass(frozen=True)
class _How:
    """How the numbers of a file become those of a model."""

    dtype: torch.dtype
    device: torch.device
    recipe: Recipe | None
    as_stored: bool

    def __str__(self) -> str:
        if self.recipe is not None:
            return f"as {self.recipe.method}"
        return "as stored" if self.as_stored else f"in {str(self.dtype).removeprefix('torch.')}"

    def matrix(self, parameter: Parameter) -> QuantizedLinear | Tensor:
        """The numbers of a parameter, quantized if they shall be."""
        linear = keep(parameter, self.device) if self.as_stored else None
        if linear is not None:
            return linear
        weight = torch.empty(parameter.shape, dtype=self.dtype, device=self.device)
        for stored, place in parameter.parts:
            place.fill(weight, stored)
        if self.recipe is None or weight.ndim == 1:
            return weight
        try:
            linear = self.recipe.layer(parameter.name, weight, parameter.tied).linear
        except InputError as error:
            raise WeightsError(f"{parameter.name} cannot be quantized. {error}") from error
        return weight if linear is None else linear

    def memory(self, parameter: Parameter) -> int:
        """Bytes that the result of `matrix` will take."""
        rows, *columns = parameter.shape
        if self.as_stored and parameter.can_stay:
            return parameter.stored_bytes
        if self.recipe is not None and columns:
            sample = torch.zeros(_SAMPLE, *columns, dtype=self.dtype, device=self.device)
            linear = self.recipe.layer(parameter.name, sample, parameter.tied).linear
            if linear is not None:
                return sum(buffer.nbytes for buffer in linear.buffers()) * rows // _SAMPLE
        return self.unquantized(parameter)

    def unquantized(self, parameter: Parameter) -> int:
        """Bytes of a parameter as plain numbers."""
        return math.prod(parameter.shape) * self.dtype.itemsize


def _checked(dtype: torch.dtype, device: str | torch.device, quantize: str | Recipe | None) -> _How:
    """The arguments of `load_model`, before anything is fetched or read."""
    if dtype not in _DTYPES:
        raise InputError(f"A model cannot compute in {dtype}; choose one of {', '.join(map(str, _DTYPES))}.")
    if isinstance(quantize, str) and quantize in CALIBRATED:
        raise InputError(
            f"{quantize} calibrates with the whole model, which is not there while loading. Load it first, "
            f"then call tinyphi.quant.quantize(model, {quantize!r}, ids=…)."
        )
    if isinstance(quantize, str) and quantize in METHODS:
        quantize = Recipe(quantize)
    if not (quantize is None or quantize == AS_STORED or isinstance(quantize, Recipe)):
        raise InputError(
            f"quantize is {quantize!r}; choose one of {', '.join(METHODS)}, a Recipe, or {AS_STORED!r}."
        )
    recipe = quantize if isinstance(quantize, Recipe) else None
    return _How(dtype, _checked_device(device), recipe, quantize == AS_STORED)


def _model(files: GGUFFile | Directory, how: _How) -> Phi3:
    config, layout = read_config(files)
    tensors, how = _tensors(files, how)
    parameters = _parameters(config, match(config, layout, tensors), tensors)
    _check_tie(files.path, tensors, config, layout)
    _check_memory(parameters, how)
    model = _without_memory(config, how.dtype)
    total = sum(parameter.stored_bytes for parameter in parameters)
    quiet = None if total >= _WORTH_A_BAR else True  # None: only where someone watches
    decoded = []
    with tqdm(total=total, unit="B", unit_scale=True, desc=files.path.name, disable=quiet) as bar:
        for parameter in parameters:
            matrix = how.matrix(parameter)
            _put(model, parameter, matrix)
            if how.as_stored and isinstance(matrix, Tensor) and any(p.is_quantized for p in parameter.parts):
                decoded.append(parameter.name)
            bar.update(parameter.stored_bytes)
    if decoded:
        warnings.warn(
            f"{files.path}: the parts of a matrix are stored in different formats, so it was decoded. This "
            f"concerns {', '.join(decoded[:3])}{', …' if len(decoded) > 3 else ''}.",
            stacklevel=3,
        )
    return model


def _tensors(files: GGUFFile | Directory, how: _How) -> tuple[Mapping[str, Stored], _How]:
    """What the files hold, and how to load it: what a directory holds quantized stays so."""
    if isinstance(files, GGUFFile):
        return files.tensors, how
    if how.as_stored:
        raise InputError(f"{files.path} is no GGUF file; quantize={AS_STORED!r} keeps the blocks of one.")
    settings = files.config.get("quantization_config")
    if not settings:
        return files.tensors, how
    if how.recipe is not None:
        raise InputError(
            f"{files.path} is quantized already. Load it without quantize, or give the unquantized model."
        )
    return fold(files.tensors, settings), replace(how, as_stored=True)


def _parameters(
    config: PhiConfig, wanted: Mapping[str, Place], tensors: Mapping[str, Stored]
) -> list[Parameter]:
    """The parameters of the model, largest first.

    What is quantized needs memory for its original too, and at the beginning there is most.
    """
    tied = config.tie_word_embeddings
    parts: dict[str, list[Part]] = {}
    for stored, place in wanted.items():
        name = place.parameter.removesuffix(".weight")
        if tied and name == "embed_tokens":
            name = "lm_head"
        parts.setdefault(name, []).append(Part(tensors[stored], place))
    found = [Parameter(name, tied and name == "lm_head", tuple(parts[name])) for name in parts]
    return sorted(found, key=lambda parameter: -math.prod(parameter.shape))


def _put(model: Phi3, parameter: Parameter, matrix: QuantizedLinear | Tensor) -> None:
    """Give a model the numbers of a parameter."""
    if isinstance(matrix, QuantizedLinear):
        put(model, parameter.name, matrix)
        _return_memory()
        return
    numbers = nn.Parameter(matrix)
    module, kind = parameter.name.removesuffix(".bias"), "bias" if parameter.is_bias else "weight"
    for name in {module, "embed_tokens"} if parameter.tied else {module}:
        setattr(model.get_submodule(name), kind, numbers)


def _check_tie(path: Path, tensors: Mapping[str, Stored], config: PhiConfig, layout: Layout) -> None:
    """A tied head need not be stored; if it is, it must be the embedding."""
    head, embedding = (tensors.get(f"{name}.weight") for name in (layout.head, layout.embedding))
    if head is None or not config.tie_word_embeddings:
        return
    if not (
        isinstance(head, TensorInfo) and isinstance(embedding, TensorInfo) and same_bytes(head, embedding)
    ):
        raise WeightsError(
            f"{path} has a head that differs from the embedding, but its configuration ties the two. "
            "If the head is right, load a copy of the directory with tie_word_embeddings set to false."
        )


def read_config(files: GGUFFile | Directory) -> tuple[PhiConfig, Layout]:
    """The configuration of opened files, and the layout of their tensors."""
    if isinstance(files, GGUFFile):
        return config_from_gguf(files), LAYOUTS[f"gguf {files.metadata['general.architecture']}"]
    keys = {key: value for key, value in files.config.items() if key != "quantization_config"}  # see `fold`
    return PhiConfig.from_hugging_face(keys), LAYOUTS[keys["model_type"]]


class _SkipInitialisation(TorchFunctionMode):
    """Leaves new parameters as they are: drawing random numbers for them would only take time."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if getattr(func, "__module__", None) == "torch.nn.init":
            return kwargs["tensor"] if "tensor" in kwargs else args[0]
        return func(*args, **kwargs)


def _without_memory(config: PhiConfig, dtype: torch.dtype) -> Phi3:
    """A model whose parameters have shape and dtype, but no memory and no numbers."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        with torch.device("meta"), _SkipInitialisation():
            return Phi3(config).eval()
    finally:
        torch.set_default_dtype(before)


def _checked_device(device: str | torch.device) -> torch.device:
    try:
        return torch.empty(0, device=device).device
    except (RuntimeError, AssertionError) as error:  # an unknown name; torch built without it
        reason = str(error).splitlines()[0]
        raise InputError(f"The device {device!r} cannot be used here: {reason} Try device='cpu'.") from error


def _check_memory(parameters: Sequence[Parameter], how: _How) -> None:
    """Raise MemoryShortage if the model, and the largest matrix before it is quantized, are not free."""
    needed = sum(map(how.memory, parameters))
    if how.recipe is not None:
        needed += max(map(how.unquantized, parameters))
    free = torch.cuda.mem_get_info(how.device)[0] if how.device.type == "cuda" else free_memory()
    if needed > free:
        half = "dtype=torch.bfloat16 needs half of that, " if how.dtype.itemsize > 2 else ""
        plain = how.recipe is None and not how.as_stored
        hint = f"{half}quantize='int4' even less" if plain else "choose a smaller model"
        raise MemoryShortage(
            f"The model needs {needed / 1e9:.1f} GB {how}, but only {free / 1e9:.1f} GB are free on "
            f"{how.device}. Close other programs; {hint}."
        )


def _return_memory() -> None:
    """Return memory that is no longer used to the system.

    The C library of Linux holds some back. After matrices of many sizes that was a fifth of the model.
    """
    if sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # only the GNU library has it, and the need
        if trim is not None:
            trim(0)


def free_memory() -> int:
    """Bytes that this process can still take: what the machine has free, or what its container allows."""
    free = int(psutil.virtual_memory().available)
    for limit, usage in (
        ("memory.max", "memory.current"),  # control groups of Linux, version 2
        ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes"),  # and version 1
    ):
        try:
            allowed = int((_CONTROL_GROUP / limit).read_text()) - int((_CONTROL_GROUP / usage).read_text())
            statistics = (_CONTROL_GROUP / usage).with_name("memory.stat").read_text().split()
        except (OSError, ValueError):  # no such group, or no limit ("max")
            continue
        values = dict(zip(statistics[::2], statistics[1::2], strict=False))
        cached = int(values.get("active_file", 0)) + int(values.get("inactive_file", 0))
        free = min(free, allowed + cached)  # cached files count as used, but make room when asked
    return free
