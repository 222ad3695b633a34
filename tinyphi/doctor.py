"""`tinyphi doctor`: does this machine compute what it should, and is there room for a model?

The heart of it is a forward pass whose result is known. The weights follow a formula instead of a random
generator, so they are the same everywhere; what can differ between machines is the arithmetic.
"""

import os
import platform
import shutil
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from typing import NamedTuple

import psutil
import torch
from torch import Tensor

from tinyphi.config import PhiConfig
from tinyphi.model.trace import Trace
from tinyphi.model.transformer import Phi3
from tinyphi.weights.catalog import CATALOG
from tinyphi.weights.fetch import cache_directory, is_fetched
from tinyphi.weights.load import free_memory

_CONFIG = PhiConfig(
    vocab_size=64,
    hidden_size=48,
    intermediate_size=96,
    num_hidden_layers=2,
    num_attention_heads=6,
    num_key_value_heads=2,
    max_position_embeddings=64,
    original_max_position_embeddings=16,
    short_factor=(1.0, 1.1, 1.2, 1.3),
    long_factor=(1.0, 2.0, 3.0, 4.0),
    sliding_window=12,
    eos_token_id=2,
    pad_token_id=0,
)
# The last token's first logits in the known pass. Made by
#     python -c "from tinyphi import doctor; print(doctor.known_pass()[-1, :6].tolist())"
_KNOWN = (1.852345, -1.569611, 1.92437, -0.612377, -0.570523, -0.127952)
_TOLERANCE = 1e-3  # of the largest logit; another order of summation in float32 stays far below


class Check(NamedTuple):
    """One thing that was looked at."""

    name: str
    found: str
    advice: str = ""  # what to do; empty if all is well
    wrong: bool = False  # whether results cannot be trusted


def examine() -> int:
    """Print every check and the advice; return 1 if this installation computes wrong results, else 0."""
    checks = [*_versions(), *_machine(), *_models(), *_arithmetic()]
    for check in checks:
        print(f"{check.name:20} {check.found}")
        if check.advice:
            print(f"{'':20} → {check.advice}")
    wrong = any(check.wrong for check in checks)
    print(
        "\nThis installation computes WRONG RESULTS." if wrong else "\nThis installation computes correctly."
    )
    return int(wrong)


def known_model() -> Phi3:
    """A small model with grouped heads, a window and LongRoPE, whose weights follow a formula."""
    model = Phi3(_CONFIG).eval()
    with torch.no_grad():
        for number, parameter in enumerate(model.parameters(), start=1):
            place = torch.arange(parameter.numel(), dtype=torch.int64)
            # Whole numbers from -16 to 16, scrambled, over a power of two: exact in float32 and bfloat16.
            values = ((place * 7919 + number * 104729) % 33 - 16) / 64
            parameter.copy_(values.view_as(parameter) + (1.0 if parameter.ndim == 1 else 0.0))
    return model


def known_pass(trace: Trace | None = None) -> Tensor:
    """Logits of 24 tokens, (24 v): more tokens than the window and than the original context."""
    with torch.no_grad():
        logits: Tensor = known_model()(_ids(), trace=trace)
    return logits[0]


def _ids() -> Tensor:
    return (torch.arange(24) * 5 + 3)[None] % _CONFIG.vocab_size


def _arithmetic() -> Iterator[Check]:
    """The known pass in several ways that must agree."""
    fused = known_pass()
    scale = float(fused.abs().max())
    known = torch.tensor(_KNOWN)
    yield _compared("known forward pass", float((fused[-1, : len(_KNOWN)] - known).abs().max()) / scale)
    yield _compared("step by step", float((known_pass(Trace()) - fused).abs().max()) / scale)
    yield _compared("with a cache", float((_cached_pass() - fused[-1]).abs().max()) / scale)
    halved = _rounded_pass()
    yield _compared("in bfloat16", float((halved - fused).abs().max()) / scale, tolerance=0.1)


def _cached_pass() -> Tensor:
    """The last logits when the tokens are read one at a time."""
    model = known_model()
    cache = model.new_cache()
    with torch.no_grad():
        for token in _ids()[0]:
            logits: Tensor = model(token.view(1, 1), cache=cache)
    return logits[0, -1]


def _rounded_pass() -> Tensor:
    with torch.no_grad():
        logits: Tensor = known_model().bfloat16()(_ids())
    return logits[0]


def _compared(name: str, difference: float, tolerance: float = _TOLERANCE) -> Check:
    if difference <= tolerance:
        return Check(name, f"right (off by {difference:.0e} of the scale)")
    return Check(
        name,
        f"WRONG: off by {difference:.1g} of the scale",
        "Reinstall torch; if that does not help, try another version, and report these lines.",
        wrong=True,
    )


def _versions() -> Iterator[Check]:
    yield Check("python", f"{platform.python_version()} on {platform.system()} {platform.machine()}")
    for name in (
        "tinyphi",
        "torch",
        "numpy",
        "sentencepiece",
        "safetensors",
        "huggingface_hub",
        "transformers",
    ):
        try:
            yield Check(name, version(name))
        except PackageNotFoundError:
            yield Check(name, "not installed", 'pip install "tinyphi[reference]" brings it, for comparisons.')


def _machine() -> Iterator[Check]:
    threads, cores = torch.get_num_threads(), os.cpu_count() or 1
    advice = f"Only 1 of {cores} cores is used; unset OMP_NUM_THREADS." if threads == 1 < cores else ""
    capability = torch.backends.cpu.get_cpu_capability()
    yield Check("processor", f"{capability}, {threads} threads on {cores} cores", advice)
    cuda = torch.cuda.get_device_name() if torch.cuda.is_available() else "none; everything runs on the CPU"
    yield Check("GPU", cuda)
    free, total = free_memory(), psutil.virtual_memory().total
    advice = "Close other programs: SmolLM2 in float32 needs about 1 GB." if free < 10**9 else ""
    yield Check("memory", f"{free / 1e9:.1f} GB free of {total / 1e9:.1f} GB", advice)


def _models() -> Iterator[Check]:
    folder = cache_directory()
    existing = next(place for place in (folder, *folder.parents) if place.exists())
    free = shutil.disk_usage(existing).free
    offline = ", offline" if os.environ.get("TINYPHI_OFFLINE", "") not in ("", "0") else ""
    advice = "Free some space, or choose another place with TINYPHI_CACHE." if free < 10**9 else ""
    yield Check("cache", f"{folder} ({free / 1e9:.1f} GB free{offline})", advice)
    here = [entry.name for entry in CATALOG.values() if is_fetched(entry)]
    yield Check(
        "models here", ", ".join(here) or "none", "" if here else "`tinyphi get` fetches SmolLM2-135M."
    )
