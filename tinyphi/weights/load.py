"""From a source (catalog name, directory, file or hub id) to a model that runs and its tokenizer.

The model is made empty in the wanted dtype and its parameters are filled from the file piece by piece, so
that loading takes the memory of the model and hardly any more.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import torch
from torch.overrides import TorchFunctionMode
from tqdm import tqdm

from tinyphi import tokenizer as tokenizers
from tinyphi.config import PhiConfig
from tinyphi.errors import InputError, MemoryShortage, WeightsError
from tinyphi.model.transformer import Phi3
from tinyphi.tokenizer import Tokenizer
from tinyphi.weights.directory import Directory
from tinyphi.weights.fetch import resolve
from tinyphi.weights.gguf import GGUFFile
from tinyphi.weights.gguf_config import config_from_gguf
from tinyphi.weights.names import LAYOUTS, Layout, match
from tinyphi.weights.storage import same_bytes

_CONTROL_GROUP = Path("/sys/fs/cgroup")
_DTYPES = (torch.float32, torch.bfloat16, torch.float16, torch.float64)
_WORTH_A_BAR = 1_000_000_000  # bytes of weights from which a progress bar is shown

Source = str | os.PathLike[str]


def load(
    source: Source, dtype: torch.dtype = torch.float32, device: str | torch.device = "cpu"
) -> tuple[Phi3, Tokenizer]:
    """The model and the tokenizer of a source: a catalog name, a local directory, a .gguf file, or a hub id.

    Arguments and errors: see `load_model`; TokenizerError for tokenizer files that are missing or damaged.
    """
    files = _open(resolve(source))
    return _model(files, dtype, device), _tokenizer(files)


def load_model(
    source: Source, dtype: torch.dtype = torch.float32, device: str | torch.device = "cpu"
) -> Phi3:
    """The model of a source, in evaluation mode, its parameters trainable.

    dtype: of the parameters and of the computation, float32, bfloat16, float16 or float64; quantized weights
        are decoded to it.
    Raises WeightsError for files that are missing, damaged or do not fit their configuration, ConfigError for
    an architecture that tinyphi does not have, MemoryShortage when the model would not fit.
    """
    return _model(_open(resolve(source)), dtype, device)


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


def _model(files: GGUFFile | Directory, dtype: torch.dtype, device: str | torch.device) -> Phi3:
    device = _checked_device(device)
    if dtype not in _DTYPES:
        raise InputError(f"A model cannot compute in {dtype}; choose one of {', '.join(map(str, _DTYPES))}.")
    config, layout = read_config(files)
    wanted = match(config, layout, files.tensors)
    _check_tie(files, config, layout)
    needed = config.memory(dtype).weights
    _check_memory(needed, dtype, device)
    with _empty_parameters(dtype, device):
        model = Phi3(config).eval()
    parameters = dict(model.named_parameters())
    quiet = None if needed >= _WORTH_A_BAR else True  # None: only where someone watches
    with tqdm(total=needed, unit="B", unit_scale=True, desc=files.path.name, disable=quiet) as bar:
        for name, place in wanted.items():
            target = place.of(parameters[place.parameter])
            files.tensors[name].copy_into(target)
            bar.update(target.nbytes)
    return model


def _check_tie(files: GGUFFile | Directory, config: PhiConfig, layout: Layout) -> None:
    """A tied head need not be stored; if it is, it must be the embedding."""
    head = files.tensors.get(f"{layout.head}.weight")
    if head is None or not config.tie_word_embeddings:
        return
    if not same_bytes(head, files.tensors[f"{layout.embedding}.weight"]):
        raise WeightsError(
            f"{files.path} has a head that differs from the embedding, but its configuration ties the two. "
            "If the head is right, load a copy of the directory with tie_word_embeddings set to false."
        )


def read_config(files: GGUFFile | Directory) -> tuple[PhiConfig, Layout]:
    """The configuration of opened files, and the layout of their tensors."""
    if isinstance(files, GGUFFile):
        return config_from_gguf(files), LAYOUTS[f"gguf {files.metadata['general.architecture']}"]
    return PhiConfig.from_hugging_face(files.config), LAYOUTS[files.config["model_type"]]


class _SkipInitialisation(TorchFunctionMode):
    """Leaves new parameters as they are: random numbers that the file will replace are wasted time."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if getattr(func, "__module__", None) == "torch.nn.init":
            return kwargs["tensor"] if "tensor" in kwargs else args[0]
        return func(*args, **kwargs)


@contextmanager
def _empty_parameters(dtype: torch.dtype, device: torch.device) -> Iterator[None]:
    """Modules made inside have parameters of this dtype on this device, whose memory is not yet touched."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        with device, _SkipInitialisation():
            yield
    finally:
        torch.set_default_dtype(before)


def _checked_device(device: str | torch.device) -> torch.device:
    try:
        return torch.empty(0, device=device).device
    except (RuntimeError, AssertionError) as error:  # an unknown name; torch built without it
        reason = str(error).splitlines()[0]
        raise InputError(f"The device {device!r} cannot be used here: {reason} Try device='cpu'.") from error


def _check_memory(needed: int, dtype: torch.dtype, device: torch.device) -> None:
    free = torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else free_memory()
    if needed > free:
        hint = "dtype=torch.bfloat16 needs half of that" if dtype.itemsize > 2 else "choose a smaller model"
        raise MemoryShortage(
            f"The model needs {needed / 1e9:.1f} GB in {str(dtype).removeprefix('torch.')}, but only "
            f"{free / 1e9:.1f} GB are free on {device}. Close other programs; {hint}."
        )


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
