"""`tinyphi doctor`: does this machine compute what it should, and is there room for a model?

The heart of it is a forward pass whose result is known. The weights follow a formula instead of a random
generator, so they are the same everywhere; what can differ between machines is the arithmetic.
"""

import os
import platform
import shutil
from collections.abc import Callable, Iterator
from importlib.metadata import PackageNotFoundError, version
from math import inf
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


class Summary(NamedTuple):
    """What is remembered of a pass."""

    logits: tuple[float, ...]  # of the last token, the first six of the vocabulary
    tokens: tuple[int, ...]  # the most probable one after each token


_REQUIRED = ("tinyphi", "torch", "numpy", "sentencepiece", "safetensors", "huggingface_hub")
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
_SHORT, _LONG = 12, 24  # tokens; LongRoPE's factors change, and the window begins to hide, between the two
# What transformers computes too (tests/test_doctor.py). Made again by
#     python -c "from tinyphi import doctor; print(doctor.summary(12), doctor.summary(24), sep='\n')"
_KNOWN = {
    _SHORT: Summary(
        (-2.13, -0.033, 0.126, 1.423, 0.069, 1.234), (11, 49, 32, 3, 54, 8, 8, 49, 29, 46, 22, 8)
    ),
    _LONG: Summary(
        (-0.703, -0.629, 0.159, 0.681, 1.626, 0.086),
        (11, 49, 32, 3, 54, 8, 8, 49, 29, 9, 22, 8, 3, 50, 31, 8, 8, 3, 53, 31, 34, 3, 24, 49),
    ),
}
_TOLERANCE = 1e-3  # of the largest logit; another order of summation in float32 stays far below
_COARSE = 0.1  # the same in bfloat16, which has 8 significant bits
_OLDEST_TORCH = (2, 6)  # as in pyproject.toml
_REPAIR = "Results cannot be trusted. Reinstall torch; if that does not help, try another version of it."


class Check(NamedTuple):
    """One thing that was looked at."""

    name: str
    found: str
    advice: str = ""  # what to do; empty if all is well
    wrong: bool = False  # whether results cannot be trusted


def examine() -> int:
    """Print every check and the advice; return 1 if this installation computes wrong results, else 0."""
    wrong = False
    for check in (*_versions(), *_machine(), *_models(), *_arithmetic()):
        wrong |= check.wrong
        print(f"{check.name:20} {check.found}")
        if check.advice:
            print(f"{'':20} → {check.advice}")
    verdict = "WRONG RESULTS: see the arrows above" if wrong else "correct results"
    print(f"\nThis installation computes {verdict}.")
    return int(wrong)


def known_model() -> Phi3:
    """A small model with grouped heads, a window and LongRoPE, whose weights follow a formula."""
    model = Phi3(_CONFIG).eval()
    with torch.no_grad():
        for number, parameter in enumerate(model.parameters(), start=1):
            place = torch.arange(parameter.numel(), dtype=torch.int64)
            # Whole numbers from -16 to 16 over a power of two: exact in float32 and bfloat16. Squares
            # modulo a prime look random enough that no two rows are alike.
            values = ((place * (place + 7919 * number)) % 65537 % 33 - 16) / 64
            parameter.copy_(values.view_as(parameter) + (1.0 if parameter.ndim == 1 else 0.0))
    return model


def known_pass(tokens: int = _LONG, trace: Trace | None = None, device: str = "cpu") -> Tensor:
    """Logits of a fixed text: (t v) float32, on the CPU."""
    with torch.no_grad():
        logits: Tensor = known_model().to(device)(_ids(tokens).to(device), trace=trace)
    return logits[0].cpu()


def summary(tokens: int) -> Summary:
    """What this machine computes for the first tokens of the fixed text."""
    logits = known_pass(tokens)
    rounded = tuple(round(value, 3) for value in logits[-1, :6].tolist())
    return Summary(rounded, tuple(logits.argmax(dim=-1).tolist()))


def _ids(tokens: int) -> Tensor:
    return (torch.arange(tokens) * 5 + 3)[None] % _CONFIG.vocab_size


def _arithmetic() -> Iterator[Check]:
    """The known pass in several ways that must agree. A way that fails outright is wrong as well."""
    ways: list[tuple[str, Callable[[], float], float]] = [
        ("short forward pass", lambda: _off_known(_SHORT), _TOLERANCE),
        ("long forward pass", lambda: _off_known(_LONG), _TOLERANCE),
        ("step by step", lambda: _off(known_pass(trace=Trace()), known_pass()), _TOLERANCE),
        ("with a cache", lambda: _off(_cached_pass(), known_pass()[-1]), _TOLERANCE),
        ("in bfloat16", lambda: _off(_rounded_pass(), known_pass()), _COARSE),
    ]
    if torch.accelerator.is_available():
        device = str(torch.accelerator.current_accelerator())
        ways.append((f"on {device}", lambda: _off(known_pass(device=device), known_pass()), _TOLERANCE))
    for name, measure, tolerance in ways:
        try:
            difference = measure()
        except Exception as error:  # torch's kernels fail in many ways, and all of them are findings
            yield Check(name, f"FAILED: {type(error).__name__}: {error}", _REPAIR, wrong=True)
            continue
        if difference <= tolerance:  # not so if it is nan
            yield Check(name, f"right (off by {difference:.0e} of the largest logit)")
        else:
            yield Check(name, f"WRONG (off by {difference:.1g} of the largest logit)", _REPAIR, wrong=True)


def _off_known(tokens: int) -> float:
    """How far the pass is from what is known of it; infinitely if another token is the most probable."""
    found, known = summary(tokens), _KNOWN[tokens]
    return (
        _off(torch.tensor(found.logits), torch.tensor(known.logits)) if found.tokens == known.tokens else inf
    )


def _off(found: Tensor, right: Tensor) -> float:
    return float((found - right).abs().max() / right.abs().max())


def _cached_pass() -> Tensor:
    """The last logits when the tokens are read one at a time, across the change of LongRoPE's factors."""
    model = known_model()
    cache = model.new_cache()
    with torch.no_grad():
        for token in _ids(_LONG)[0]:
            logits: Tensor = model(token.view(1, 1), cache=cache)
    return logits[0, -1]


def _rounded_pass() -> Tensor:
    with torch.no_grad():
        logits: Tensor = known_model().bfloat16()(_ids(_LONG))
    return logits[0]


def _versions() -> Iterator[Check]:
    yield Check("python", f"{platform.python_version()} on {platform.system()} {platform.machine()}")
    for name in (*_REQUIRED, "transformers"):
        extra = "[reference]" if name == "transformers" else ""
        try:
            yield Check(name, version(name), _advice_on_torch() if name == "torch" else "")
        except PackageNotFoundError:
            yield Check(name, "not installed", f'pip install "tinyphi{extra}" brings it.')


def _advice_on_torch() -> str:
    numbers = tuple(int(number) for number in torch.__version__.split("+")[0].split(".")[:2])
    if numbers >= _OLDEST_TORCH:
        return ""
    return f"Too old; tinyphi needs {'.'.join(map(str, _OLDEST_TORCH))}: pip install --upgrade torch"


def _machine() -> Iterator[Check]:
    threads, cores = torch.get_num_threads(), os.cpu_count() or 1
    advice = ""
    if threads == 1 < cores:
        advice = f"Only 1 of {cores} cores is used. Is OMP_NUM_THREADS set? Without it, torch uses them all."
    capability = torch.backends.cpu.get_cpu_capability()
    yield Check("processor", f"{capability}; {threads} threads on {cores} cores", advice)
    cuda = torch.cuda.get_device_name() if torch.cuda.is_available() else "none; the CPU is enough"
    yield Check("CUDA", cuda)
    free, total = free_memory(), psutil.virtual_memory().total
    advice = "Close other programs: SmolLM2 in float32 needs about 1 GB." if free < 10**9 else ""
    yield Check("memory", f"{free / 1e9:.1f} GB free of {total / 1e9:.1f} GB", advice)


def _models() -> Iterator[Check]:
    folder = cache_directory()
    existing = next(place for place in (folder.absolute(), *folder.absolute().parents) if place.exists())
    free = shutil.disk_usage(existing).free
    advice = "Free some space, or choose another place with TINYPHI_CACHE." if free < 10**9 else ""
    yield Check("cache", f"{folder} ({free / 1e9:.1f} GB free)", advice)
    offline = os.environ.get("TINYPHI_OFFLINE", "") not in ("", "0")
    yield Check("TINYPHI_OFFLINE", "set: nothing is downloaded" if offline else "not set")
    here = [name for name, entry in CATALOG.items() if is_fetched(entry)]
    missing = "smollm2-135m" not in here
    advice = "`tinyphi get smollm2-135m` fetches the model of the notebooks (0.1 GB)." if missing else ""
    yield Check("models here", ", ".join(here) or "none", advice)
