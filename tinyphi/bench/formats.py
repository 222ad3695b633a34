"""What each format of tinyphi.quant costs in quality: perplexity of SmolLM2 on real text, beside its size."""

import importlib
import inspect
import pkgutil
import unittest
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

import tinyphi
from tinyphi.quant import quantize
from tinyphi.quant.linear import GroupedLinear
from tinyphi.quant.quantize import CALIBRATED, compare, predictions
from tinyphi.tokenizer import Tokenizer

MODEL = "smollm2-135m"
ROW = 512  # tokens that the model sees at once
# Keywords of quantize; SmolLM2's rows of 576 do not divide into groups of 128.
FORMATS: dict[str, dict[str, Any]] = {
    "int8, a scale per row": {"method": "int8"},
    "q8_0": {"method": "q8_0"},
    "q6_k (rows of 576: q8_0)": {"method": "q6_k"},
    "int4, groups of 32": {"method": "int4"},
    "int4, groups of 64": {"method": "int4", "group_size": 64},
    "int4, groups of 32, minima": {"method": "int4", "symmetric": False},
    "int4, groups of 64, minima": {"method": "int4", "group_size": 64, "symmetric": False},
    "nf4, double quantized": {"method": "nf4"},
    "q4_0": {"method": "q4_0"},
    "q4_1": {"method": "q4_1"},
    "q4_k (rows of 576: q4_1)": {"method": "q4_k"},
    "awq, groups of 64": {"method": "awq", "group_size": 64},
    "gptq, groups of 64": {"method": "gptq", "group_size": 64},
}


def bench_formats(rows: int) -> Iterator[str]:
    """Yield the lines of a Markdown table. rows: of 512 tokens, that perplexity is measured on."""
    _, tokenizer = tinyphi.load(MODEL)
    ids = _rows(tokenizer, unittest, rows)
    calibration = _rows(tokenizer, importlib.import_module("email"), 16)
    text = f"Docstrings of Python's `unittest`, {ids.numel()} tokens"
    yield f"{text}; AWQ and GPTQ calibrate on those of `email`.\n"
    yield "| format | bits per weight | perplexity | KL, nats | choices that stay |"
    yield "|---|---:|---:|---:|---:|"
    unquantized = tinyphi.load_model(MODEL)
    before, count = predictions(unquantized, ids), unquantized.config.parameter_count()
    yield f"| float32 | 32.00 | {compare(unquantized, ids, *before).perplexity:.2f} | | |"
    del unquantized
    for name, keywords in tqdm(FORMATS.items(), desc="formats", leave=False, disable=None):
        model = tinyphi.load_model(MODEL)
        calibrated: dict[str, Any] = {"ids": calibration} if keywords["method"] in CALIBRATED else {}
        report = quantize(model, **keywords, **calibrated)
        for module in model.modules():
            if isinstance(module, GroupedLinear):
                module.use("reference")  # the format's own error, without that of rounded activations
        change = compare(model, ids, *before)
        bits, stay = 8 * report.bytes / count, change.same_choice
        yield f"| {name} | {bits:.2f} | {change.perplexity:.2f} | {change.divergence:.4f} | {stay:.1%} |"


def _rows(tokenizer: Tokenizer, package: ModuleType, rows: int) -> Tensor:
    """The docstrings of a package of the standard library as ids (rows 512)."""
    ids = tokenizer.encode("\n\n".join(_docstrings(package)))
    return torch.tensor(ids[: len(ids) // ROW * ROW]).view(-1, ROW)[:rows]


def _docstrings(package: ModuleType) -> Iterator[str]:
    for info in sorted(pkgutil.iter_modules(package.__path__), key=lambda info: info.name):
        if info.name == "__main__":
            continue
        module = importlib.import_module(f"{package.__name__}.{info.name}")
        for _, thing in sorted(vars(module).items()):
            if getattr(thing, "__module__", None) == module.__name__ and inspect.getdoc(thing):
                yield str(inspect.getdoc(thing))
                yield from _of_methods(thing)


def _of_methods(thing: object) -> Iterator[str]:
    if isinstance(thing, type):
        for _, method in sorted(vars(thing).items()):
            if inspect.isfunction(method) and method.__doc__:
                yield str(inspect.getdoc(method))
