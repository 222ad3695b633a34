"""tinyphi: Microsoft's Phi-3, every part written from scratch to be read.

The names below are the whole public API of the top level. They are imported when first used, so that
`import tinyphi` costs almost nothing on top of `import torch`.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from tinyphi import course as course
    from tinyphi import quant as quant
    from tinyphi import safety as safety
    from tinyphi import show as show
    from tinyphi import train as train
    from tinyphi.config import PhiConfig
    from tinyphi.errors import TinyphiError
    from tinyphi.generation.chat import chat
    from tinyphi.generation.decode import GenerationTrace, generate, stream
    from tinyphi.generation.sampling import Greedy, Sampler
    from tinyphi.model.trace import Trace
    from tinyphi.model.transformer import Phi3
    from tinyphi.weights.load import load, load_model, load_tokenizer
    from tinyphi.weights.save import save

_HOME = {
    "PhiConfig": "config",
    "TinyphiError": "errors",
    "chat": "generation.chat",
    "GenerationTrace": "generation.decode",
    "generate": "generation.decode",
    "stream": "generation.decode",
    "Greedy": "generation.sampling",
    "Sampler": "generation.sampling",
    "Trace": "model.trace",
    "Phi3": "model.transformer",
    "load": "weights.load",
    "load_model": "weights.load",
    "load_tokenizer": "weights.load",
    "save": "weights.save",
}

__all__ = [
    "GenerationTrace",
    "Greedy",
    "Phi3",
    "PhiConfig",
    "Sampler",
    "TinyphiError",
    "Trace",
    "chat",
    "generate",
    "load",
    "load_model",
    "load_tokenizer",
    "save",
    "stream",
]


_ROOMS = {"course", "quant", "safety", "show", "train"}  # `import tinyphi` alone gives `tinyphi.quant`


def __getattr__(name: str) -> Any:
    if name in _ROOMS:
        return import_module(f"tinyphi.{name}")
    if name not in _HOME:
        raise AttributeError(f"module 'tinyphi' has no attribute {name!r}")
    value = getattr(import_module(f"tinyphi.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, *_ROOMS})
