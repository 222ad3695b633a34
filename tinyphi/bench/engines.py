"""tinyphi, llama.cpp and transformers behind one interface, so that all are measured by the same lines.

As in llama.cpp's own `llama-bench`, the tokens to decode are given: every side reads the same ones, and no
choosing among logits is timed.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from contextlib import redirect_stderr
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from io import StringIO
from pathlib import Path
from typing import Any

import torch

from tinyphi.bench.bandwidth import Weights
from tinyphi.generation.decode import decode_one, prefill
from tinyphi.model.cache import KeyValueCache
from tinyphi.model.transformer import Phi3
from tinyphi.weights.load import load_model


class Session(ABC):
    """An opened model."""

    @abstractmethod
    def prefill(self, ids: Sequence[int]) -> None:
        """Read a prompt in one pass, after forgetting everything before it."""

    @abstractmethod
    def decode(self, ids: Sequence[int]) -> None:
        """Read the tokens that follow, one pass each."""


@dataclass(frozen=True)
class Engine(ABC):
    """A library and how it is to open a file; it can be sent to another process."""

    name: str  # in tables
    module = "tinyphi"  # that must be importable
    extra = ""  # of tinyphi, which brings it

    @property
    def problem(self) -> str | None:
        """Why it cannot be measured here, or None."""
        if find_spec(self.module) is None:
            return f'not installed, pip install "tinyphi[{self.extra}]"'
        return None

    def prepare(self) -> None:
        """Import the library, so that neither its time nor its memory counts as the model's."""
        import_module(self.module)

    @abstractmethod
    def open(self, path: Path, context: int) -> Session:
        """Load a GGUF file, with room for `context` tokens."""

    @abstractmethod
    def reads(self, weights: Weights) -> int:
        """Bytes of weights that it reads for one token."""


@dataclass(frozen=True)
class Tinyphi(Engine):
    """tinyphi, in `dtype`. quantized: keep the file's blocks, and compile; else decode them on loading."""

    dtype: torch.dtype = torch.float32
    quantized: bool = False
    cache_bits: int | None = None

    def open(self, path: Path, context: int) -> Session:
        if not self.quantized:
            return _Tinyphi(load_model(path, self.dtype), context, self.cache_bits)
        model = load_model(path, self.dtype, quantize="as_stored")
        model.compile()
        return _Tinyphi(model, context, self.cache_bits)

    def reads(self, weights: Weights) -> int:
        return weights.nbytes if self.quantized else weights.numbers * self.dtype.itemsize


class _Tinyphi(Session):
    def __init__(self, model: Phi3, context: int, cache_bits: int | None) -> None:
        self._model, self._context, self._bits = model, context, cache_bits
        self._cache = self._new_cache()

    def _new_cache(self) -> KeyValueCache:
        return self._model.new_cache(max_tokens=self._context, bits=self._bits)

    def prefill(self, ids: Sequence[int]) -> None:
        self._cache = self._new_cache()
        prefill(self._model, torch.tensor([ids]), self._cache)

    def decode(self, ids: Sequence[int]) -> None:
        for id in ids:
            decode_one(self._model, torch.tensor([id]), self._cache)


@dataclass(frozen=True)
class LlamaCpp(Engine):
    """llama.cpp through llama-cpp-python, on the CPU with as many threads as torch has."""

    module = "llama_cpp"
    extra = "llamacpp"

    def open(self, path: Path, context: int) -> Session:
        threads = torch.get_num_threads()
        return _LlamaCpp(
            import_module("llama_cpp").Llama(
                str(path), n_ctx=context, n_batch=512, n_gpu_layers=0, verbose=False,
                n_threads=threads, n_threads_batch=threads,
            )
        )  # fmt: skip

    def reads(self, weights: Weights) -> int:
        return weights.nbytes


class _LlamaCpp(Session):
    def __init__(self, model: Any) -> None:
        self._model = model

    def prefill(self, ids: Sequence[int]) -> None:
        self._model.reset()
        self._model.eval(list(ids))

    def decode(self, ids: Sequence[int]) -> None:
        for id in ids:
            self._model.eval([id])


@dataclass(frozen=True)
class Transformers(Engine):
    """Hugging Face's library, which decodes the file's blocks to `dtype`."""

    dtype: torch.dtype = torch.float32
    module = "transformers"
    extra = "reference"

    def prepare(self) -> None:
        logging = import_module("transformers").utils.logging
        logging.disable_progress_bar()
        logging.set_verbosity_error()

    def open(self, path: Path, context: int) -> Session:
        kind = import_module("transformers").AutoModelForCausalLM
        with redirect_stderr(StringIO()):  # a progress bar that has no switch
            model = kind.from_pretrained(path.parent, gguf_file=path.name, dtype=self.dtype)
        return _Transformers(model.to(self.dtype).eval())

    def reads(self, weights: Weights) -> int:
        return weights.numbers * self.dtype.itemsize


class _Transformers(Session):
    def __init__(self, model: Any) -> None:
        self._model = model
        self._cache: Any = None

    def prefill(self, ids: Sequence[int]) -> None:
        self._cache = import_module("transformers").DynamicCache(config=self._model.config)
        self._read(ids)

    def decode(self, ids: Sequence[int]) -> None:
        for id in ids:
            self._read([id])

    def _read(self, ids: Sequence[int]) -> None:
        with torch.inference_mode():  # the cache is given by its place: its name depends on the version
            self._model(torch.tensor([ids]), None, None, self._cache, use_cache=True, logits_to_keep=1)
