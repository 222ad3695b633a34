"""Compile native.c with the system's C compiler, keep the result, and call it with tensors.

The first use takes a few seconds; after that the library lies in the cache, under a name made of the source,
the compiler and the processor's abilities. Without a compiler, `problem()` says what is missing.

The library leaves OpenMP's functions undefined and finds them in the runtime that torch has loaded. With a
runtime of its own there would be two teams of threads, each spinning on the cores that the other needs.
"""

import ctypes
import hashlib
import os
import platform
import shlex
import shutil
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import platformdirs
import torch
from torch import Tensor

from tinyphi.errors import InputError, MemoryShortage
from tinyphi.kernels.layout import COLUMNS

SOURCE = Path(__file__).with_name("native.c")
FLAGS = ("-O3", "-fPIC", "-fno-math-errno", "-fno-trapping-math")
_TYPES = {torch.float32: 0, torch.bfloat16: 1, torch.int8: 2}


class _Loaded(NamedTuple):
    library: Any  # ctypes.CDLL, or None
    problem: str | None


def problem() -> str | None:
    """Why the kernels cannot be used here, or None when they can. Compiles them when first asked."""
    return _load().problem


def usable() -> bool:
    """Whether the kernels can be used; where not, it is said once why."""
    found = problem()
    if found is not None:
        _say_once(found)
    return found is None


@cache
def _say_once(found: str) -> None:
    warnings.warn(f"The fast kernels are not used: {found} torch computes instead.", stacklevel=3)


@cache
def _load() -> _Loaded:
    compiler = (
        shlex.split(os.environ.get("CC", ""))
        or [found for name in ("cc", "gcc", "clang") if (found := shutil.which(name))][:1]
    )
    if not compiler:
        return _Loaded(None, "no C compiler was found; install gcc, or clang on a Mac, or set CC.")
    try:
        library = ctypes.CDLL(str(_compiled(compiler)))
    except (OSError, subprocess.SubprocessError) as error:
        said = str(getattr(error, "stderr", None) or "").splitlines()
        reason = next((line for line in said if "error" in line), str(error)).strip()
        return _Loaded(None, f"{' '.join(compiler)} could not build them ({reason}).")
    pointer, size = ctypes.c_void_p, ctypes.c_int64
    library.tinyphi_linear.argtypes = [ctypes.POINTER(_Matrix), pointer, pointer, ctypes.c_int, size]
    library.tinyphi_decode.argtypes = [ctypes.POINTER(_Decoder), pointer]
    return _Loaded(library, None)


def _compiled(compiler: Sequence[str]) -> Path:
    """The compiled library, from the cache or fresh."""
    tune = "-mcpu=native" if platform.machine() in ("arm64", "aarch64") else "-march=native"
    flags = [*FLAGS, tune]
    # Every macro that the compiler defines for this processor: its version and instruction sets among them.
    macros = _run([*compiler, *flags, "-dM", "-E", "-x", "c", os.devnull])
    key = hashlib.sha256("\0".join([SOURCE.read_text(encoding="utf-8"), macros, *flags]).encode()).hexdigest()
    chosen = os.environ.get("TINYPHI_CACHE")
    folder = Path(chosen) if chosen else Path(platformdirs.user_cache_dir("tinyphi", appauthor=False))
    target = folder / "kernels" / f"native-{key[:16]}.so"
    if not target.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        build(compiler, flags, target)
    return target


def build(compiler: Sequence[str], flags: Sequence[str], target: Path) -> None:
    """Compile and link to a file beside the target first, so that no one ever loads half a library."""
    mac = sys.platform == "darwin"
    threads = ["-Xpreprocessor", "-fopenmp"] if mac else ["-fopenmp"]
    with tempfile.TemporaryDirectory(dir=target.parent) as scratch:
        object_file, library = f"{scratch}/native.o", f"{scratch}/native.so"
        _run([*compiler, *flags, *threads, "-c", str(SOURCE), "-o", object_file])
        linked = [*compiler, "-shared", object_file, "-o", library, "-lm"]
        _run([*linked, "-undefined", "dynamic_lookup"] if mac else linked)
        os.replace(library, target)


def _run(command: list[str]) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=300).stdout


class _Matrix(ctypes.Structure):
    _fields_ = [
        *((name, ctypes.c_void_p) for name in ("codes", "scales", "minima")),
        *((name, ctypes.c_int64) for name in ("outputs", "inputs", "group", "bits")),
    ]


class _Layer(ctypes.Structure):
    _fields_ = [
        *((name, ctypes.c_void_p) for name in ("attention_norm", "mlp_norm")),
        *((name, _Matrix) for name in ("qkv", "out", "gate_up", "down")),
        *((name, ctypes.c_void_p) for name in ("keys", "values", "key_scales", "value_scales")),
    ]


class _Decoder(ctypes.Structure):
    _fields_ = [
        ("layers", ctypes.POINTER(_Layer)),
        *((name, ctypes.c_void_p) for name in ("cos", "sin")),
        *(
            (name, ctypes.c_int64)
            for name in ("count", "width", "hidden", "heads", "groups", "channels", "pairs", "window")
        ),
        *((name, ctypes.c_int64) for name in ("tokens", "type", "room", "stored")),
        ("eps", ctypes.c_float),
    ]


class Matrix:
    """A quantized weight (o i) that lies as layout.py says, ready to be multiplied with."""

    def __init__(
        self, codes: Tensor, scales: Tensor, minima: Tensor | None, outputs: int, group_size: int
    ) -> None:
        self._kept = (codes, scales, minima)  # the addresses below are theirs
        self.outputs, self.inputs = outputs, codes.shape[1] * COLUMNS
        self._call = _Matrix(
            codes.data_ptr(), scales.data_ptr(), None if minima is None else minima.data_ptr(),
            outputs, self.inputs, group_size, 8 if codes.dtype == torch.int8 else 4,
        )  # fmt: skip

    def holds(self, codes: Tensor) -> bool:
        """Whether it was made of these codes, and they still lie where they lay."""
        return bool(self._call.codes == codes.data_ptr())

    def times(self, x: Tensor) -> Tensor:
        """x W^T: x (… i) float32 or bfloat16 → (… o), same dtype.

        The activations are rounded to 8 bits, 32 with a scale, which adds an error of about half a percent.
        Raises InputError for another shape, type or device, MemoryShortage if the rounded copy finds no room.
        """
        if x.shape[-1] != self.inputs or x.dtype not in (torch.float32, torch.bfloat16) or not x.is_cpu:
            raise InputError(
                f"The kernel multiplies (… {self.inputs}) in float32 or bfloat16 on a CPU; this is {x.dtype} "
                f"{tuple(x.shape)} on {x.device}."
            )
        x = x.contiguous()
        y = x.new_empty((*x.shape[:-1], self.outputs))
        tokens = x.numel() // self.inputs
        if _load().library.tinyphi_linear(self._call, x.data_ptr(), y.data_ptr(), _TYPES[x.dtype], tokens):
            raise MemoryShortage("There is no memory left to round the activations in; pass fewer tokens.")
        return y


def _linear(
    x: Tensor, codes: Tensor, scales: Tensor, minima: Tensor | None, outputs: int, group_size: int
) -> Tensor:
    return Matrix(codes, scales, minima, outputs, group_size).times(x)


def _linear_shape(
    x: Tensor, codes: Tensor, scales: Tensor, minima: Tensor | None, outputs: int, group_size: int
) -> Tensor:
    return x.new_empty((*x.shape[:-1], outputs))


# For torch.compile, which must know the shape of what it cannot look into.
torch.library.define(
    "tinyphi::linear",
    "(Tensor x, Tensor codes, Tensor scales, Tensor? minima, int outputs, int group_size) -> Tensor",
)
torch.library.impl("tinyphi::linear", "cpu", _linear)
torch.library.register_fake("tinyphi::linear", _linear_shape)


class LayerWeights(NamedTuple):
    """What one layer multiplies with."""

    attention_norm: Tensor  # (d)
    qkv: Matrix
    out: Matrix
    mlp_norm: Tensor  # (d)
    gate_up: Matrix
    down: Matrix


class Decoder:
    """Tokens of one row through all layers of a model, in one call.

    window: how many tokens one sees, itself included; None: all.
    """

    def __init__(
        self, layers: Sequence[LayerWeights], heads: int, groups: int, window: int | None, eps: float
    ) -> None:
        self._kept = layers  # the addresses below are theirs
        self._norms = [[layer.attention_norm.float(), layer.mlp_norm.float()] for layer in layers]
        self._layers = (_Layer * len(layers))()
        for place, layer, norms in zip(self._layers, layers, self._norms, strict=True):
            place.attention_norm, place.mlp_norm = (norm.data_ptr() for norm in norms)
            place.qkv, place.out = layer.qkv._call, layer.out._call
            place.gate_up, place.down = layer.gate_up._call, layer.down._call
        first = layers[0]
        self._call = _Decoder(
            layers=self._layers, count=len(layers), width=first.out.outputs, hidden=first.down.inputs,
            heads=heads, groups=groups, channels=first.out.inputs // heads, window=window or 0, eps=eps,
        )  # fmt: skip

    def step(
        self,
        x: Tensor,
        cos: Tensor,
        sin: Tensor,
        keys: Sequence[Tensor],
        values: Sequence[Tensor],
        stored: int,
    ) -> Tensor:
        """The residual stream after the last layer: x (1 t d), cos and sin (1 t r) → (1 t d).

        keys, values: the cache, (layers 1 n room c), or 8-bit codes and their scales (layers 1 n room 1). It
        holds `stored` tokens; the new ones are written behind them.
        """
        stream = x.float().clone(memory_format=torch.contiguous_format)
        cos, sin = cos.float().contiguous(), sin.float().contiguous()
        call = self._call
        call.cos, call.sin, call.pairs = cos.data_ptr(), sin.data_ptr(), cos.shape[-1]
        call.tokens, call.type, call.room, call.stored = (
            x.shape[1], _TYPES[keys[0].dtype], keys[0].shape[-2], stored,
        )  # fmt: skip
        stores = (keys[0], values[0], *keys[1:], *values[1:])
        for name, store in zip(("keys", "values", "key_scales", "value_scales"), stores, strict=False):
            start, stride = store.data_ptr(), store.stride(0) * store.element_size()
            for number, place in enumerate(self._layers):
                setattr(place, name, start + number * stride)
        if _load().library.tinyphi_decode(call, stream.data_ptr()):
            raise MemoryShortage("There is no memory left for this many tokens; pass fewer at once.")
        return stream.to(x.dtype)
