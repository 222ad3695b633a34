"""The command line of `tinyphi bench`."""

import argparse
import os
import platform
import re
from collections.abc import Iterator, Sequence
from datetime import date
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from tinyphi.bench.data import bench_data
from tinyphi.bench.formats import bench_formats
from tinyphi.bench.kernels import bench_kernels
from tinyphi.bench.long import Reach, bench_layer, bench_long
from tinyphi.bench.models import Amount, bench_decode, bench_phi3, bench_quantized
from tinyphi.bench.report import section, write
from tinyphi.bench.sparse import bench_sparse
from tinyphi.bench.train import bench_train

_MODELS = {  # what is measured, and how many tokens of prompt and of decoding
    "decode": (bench_decode, "SmolLM2-135M in float32 and bfloat16, beside transformers", 200, 32),
    "quantized": (bench_quantized, "SmolLM2-135M in 4 bits, beside llama.cpp and transformers", 200, 64),
    "phi3": (bench_phi3, "the shape of Phi-3-mini in 4 bits, beside llama.cpp", 128, 16),
}
_PROMPTS = {  # what is measured, rounds, and the longest prompt
    "long": (bench_long, "SmolLM2-135M reading long prompts, beside transformers", 3, 8192),
    "sparse": (bench_sparse, "block-sparse attention of Phi-3-small beside dense", 5, 8192),
    "layer": (bench_layer, "one layer of Phi-3-mini-128k reading long prompts", 1, 16384),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one benchmark, print its tables as they come, and paste them into a file if asked to."""
    options = vars(_parser().parse_args(arguments))
    name, file = options.pop("name"), options.pop("write")
    amounts = [f"--{option} {value}" for option, value in options.items() if value is not None]
    if threads := options.pop("threads"):
        torch.set_num_threads(threads)
    lines = []
    for line in _lines(name, options):
        print(line, flush=True)
        lines.append(line)
    if file is not None:
        write(file, name, section(" ".join(["tinyphi bench", name, *amounts]), "\n".join(lines)))
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="tinyphi bench", description="Measure tinyphi beside others.")
    commands = parser.add_subparsers(required=True, metavar="BENCHMARK", dest="name")
    for name, (_, help, prompt, new) in _MODELS.items():
        command = commands.add_parser(name, help=help)
        _add_count(command, "runs", 5, "alternating runs")
        _add_count(command, "prompt", prompt, "tokens of the prompt")
        _add_count(command, "new", new, "tokens decoded in each run")
    for name, (_, help, runs, longest) in _PROMPTS.items():
        command = commands.add_parser(name, help=help)
        _add_count(command, "runs", runs, "alternating runs")
        _add_count(command, "longest", longest, "tokens of the longest prompt; the others double up to it")
    kernels = commands.add_parser("kernels", help="single matrices in 4 bits, with every backend")
    _add_count(kernels, "runs", 5, "alternating runs")
    formats = commands.add_parser("formats", help="what each format costs in perplexity")
    _add_count(formats, "rows", 8, "rows of 512 tokens to read")
    data = commands.add_parser("data", help="the data filter, and MinHash beside datasketch")
    _add_count(data, "runs", 5, "alternating runs")
    _add_count(data, "megabytes", 10, "of text")
    _add_count(data, "processes", 2, "that filter side by side")
    data.add_argument("--text", type=Path, help="a file to read (default: Python's manual and library)")
    train = commands.add_parser("train", help="training beside transformers, DPO beside TRL")
    _add_count(train, "runs", 5, "alternating runs")
    train.add_argument("--device", choices=("cpu", "cuda"), default="cpu", help="where (default cpu)")
    for command in commands.choices.values():
        command.add_argument("--threads", type=_count, help="threads of all sides (default: torch's)")
        command.add_argument(
            "--write", type=Path, metavar="FILE", help="paste the tables into this Markdown file, too"
        )
    return parser


def _add_count(parser: argparse.ArgumentParser, name: str, default: int, help: str) -> None:
    parser.add_argument(f"--{name}", type=_count, default=default, help=f"{help} (default {default})")


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of at least 1")
    return int(text)


def _lines(name: str, options: dict[str, Any]) -> Iterator[str]:
    """The machine, then the lines of the benchmark."""
    yield f"{_software()}; {_machine()}, {torch.get_num_threads()} threads; {date.today():%d %B %Y}.\n"
    if name in _MODELS:
        yield from _MODELS[name][0](Amount(**options))
    elif name in _PROMPTS:
        yield from _PROMPTS[name][0](Reach(**options))
    elif name == "kernels":
        yield from bench_kernels(options["runs"])
    elif name == "data":
        yield from bench_data(options["runs"], options["megabytes"], options["processes"], options["text"])
    elif name == "train":
        yield from bench_train(options["runs"], options["device"])
    else:
        yield from bench_formats(options["rows"])


def _software() -> str:
    """What is compared, with versions."""
    found = []
    for package in ("torch", "transformers", "llama-cpp-python", "datasketch"):
        try:
            found.append(f"{package} {version(package)}")
        except PackageNotFoundError:
            continue
    return ", ".join(found)


def _machine() -> str:
    """The processor, and (from Linux) whether it has instructions for bfloat16, which else is slow."""
    parts = [f"{platform.system()} {platform.machine()}", torch.backends.cpu.get_cpu_capability()]
    described = Path("/proc/cpuinfo")
    if described.exists():
        text = described.read_text(encoding="utf-8", errors="replace")
        parts += re.findall(r"^model name\s*: (.+)$", text, flags=re.MULTILINE)[:1]
        known = re.search(r"\b(avx512_bf16|amx_bf16|bf16)\b", text) is not None
        parts.append("bfloat16 in hardware" if known else "bfloat16 emulated")
    return ", ".join([*parts, f"{os.cpu_count()} cores"])
