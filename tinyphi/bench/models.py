"""Whole models, side by side: the commands decode, quantized and phi3."""

import statistics
from collections.abc import Generator, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import torch

from tinyphi.bench.bandwidth import read_bandwidth, share, weights_read
from tinyphi.bench.engines import Engine, LlamaCpp, Session, Tinyphi, Transformers
from tinyphi.bench.fresh import Footprint, footprint
from tinyphi.bench.random_phi3 import write_random
from tinyphi.bench.timing import SPEEDS, faster, in_turn, seconds, speed_rows
from tinyphi.config import PhiConfig
from tinyphi.weights.fetch import resolve
from tinyphi.weights.gguf import GGUFFile
from tinyphi.weights.load import read_config

MODEL = "smollm2-135m"
PHI3 = PhiConfig.preset("phi-3-mini-4k")
CONTEXT = 512  # tokens in the cache when memory is measured
_LOADS = 3  # at most: transformers takes long
_FOOTPRINTS = f"""\
| loading, then {CONTEXT} tokens | s | the first is faster by | spread | MB before | MB after | MB at most |
|---|---:|---:|---|---:|---:|---:|"""


class Amount(NamedTuple):
    """How much is measured."""

    runs: int  # rounds in which all sides take turns
    prompt: int  # tokens
    new: int  # tokens decoded


class Spent(NamedTuple):
    """Seconds of one run."""

    prefill: float
    decode: float


def bench_decode(amount: Amount) -> Iterator[str]:
    """Yield the tables of SmolLM2 decoded to float32 and bfloat16, beside transformers."""
    path = resolve(MODEL)
    bandwidth = yield from _introduction(path)
    yield SPEEDS
    engines: list[Engine] = []
    for dtype in (torch.float32, torch.bfloat16):
        pair = [Tinyphi(_name("tinyphi", dtype), dtype), Transformers(_name("transformers", dtype), dtype)]
        yield from _speeds(path, pair, amount, bandwidth)
        engines += pair
    yield from _footprints(path, engines, amount.runs)


def bench_quantized(amount: Amount) -> Iterator[str]:
    """Yield the tables of SmolLM2 in the file's own 4 bits, beside llama.cpp, and transformers without."""
    path = resolve(MODEL)
    engines: list[Engine] = [Tinyphi("tinyphi, 4 bits", quantized=True), LlamaCpp("llama.cpp, 4 bits")]
    engines += [
        Transformers(_name("transformers", dtype), dtype) for dtype in (torch.float32, torch.bfloat16)
    ]
    bandwidth = yield from _introduction(path)
    yield SPEEDS
    yield from _speeds(path, engines, amount, bandwidth)
    yield from _footprints(path, engines, amount.runs)


def bench_phi3(amount: Amount) -> Iterator[str]:
    """Yield the tables of a file of Phi-3-mini's shape: random numbers in Q4_0.

    The file of 2.1 GB lies in the system's directory for temporary files until the end.
    Raises WeightsError if there is no room for it.
    """
    # In bfloat16 it is the cache that counts: as many bytes as llama.cpp's, which is in float16.
    tinyphi, llama_cpp = (
        Tinyphi("tinyphi, 4 bits", torch.bfloat16, quantized=True),
        LlamaCpp("llama.cpp, 4 bits"),
    )
    caches = [
        replace(tinyphi, name="tinyphi, cache in float32", dtype=torch.float32),
        replace(tinyphi, name="tinyphi, cache in bfloat16"),
        replace(tinyphi, name="tinyphi, cache in 8 bits", cache_bits=8),
        replace(llama_cpp, name="llama.cpp, cache in float16"),
    ]
    with TemporaryDirectory(prefix="tinyphi-") as folder:
        path = write_random(PHI3, Path(folder) / "phi-3-mini-random.Q4_0.gguf")
        bandwidth = yield from _introduction(path)
        yield SPEEDS
        yield from _speeds(path, [tinyphi, llama_cpp], amount, bandwidth)
        yield from _footprints(path, caches, amount.runs)


def _name(library: str, dtype: torch.dtype) -> str:
    return f"{library}, {str(dtype).removeprefix('torch.')}"


def _introduction(path: Path) -> Generator[str, None, float]:
    """Say what is measured; return how fast memory is read, in bytes/s."""
    bandwidth, weights = read_bandwidth(), weights_read(GGUFFile(path))
    yield (
        f"`{path.name}`: each new token reads {weights.numbers / 1e6:,.0f} million weights, "
        f"{weights.nbytes / 1e6:,.0f} MB as stored. Memory is read at {bandwidth / 1e9:.1f} GB/s.\n"
    )
    return bandwidth


def _speeds(path: Path, engines: Sequence[Engine], amount: Amount, bandwidth: float) -> Iterator[str]:
    """Rows for prefill and decode, all engines loaded at once; and for those that are missing."""
    present = {engine.name: engine for engine in engines if engine.problem is None}
    ids = random_ids(path, amount.prompt + amount.new)
    sides = {}
    for name, engine in present.items():
        engine.prepare()
        sides[name] = partial(_run, engine.open(path, len(ids)), ids, amount.prompt)
    found = in_turn(sides, amount.runs, path.stem)
    weights = weights_read(GGUFFile(path))

    def of_bandwidth(name: str, speed: float) -> str:
        return f"{share(present[name].reads(weights), speed, bandwidth):.0%}"

    prefill = {name: [run.prefill for run in runs] for name, runs in found.items()}
    decode = {name: [run.decode for run in runs] for name, runs in found.items()}
    yield from speed_rows(f"prefill {amount.prompt} tokens", amount.prompt, prefill)
    yield from speed_rows(f"decode {amount.new} tokens", amount.new, decode, of_bandwidth)
    yield from missing(engines, SPEEDS)


def _run(session: Session, ids: list[int], prompt: int) -> Spent:
    return Spent(
        seconds(lambda: session.prefill(ids[:prompt])), seconds(lambda: session.decode(ids[prompt:]))
    )


def _footprints(path: Path, engines: Sequence[Engine], runs: int) -> Iterator[str]:
    """The table of load times and memory."""
    ids = random_ids(path, CONTEXT)
    sides = {
        engine.name: partial(footprint, engine, path, ids) for engine in engines if engine.problem is None
    }
    found = in_turn(sides, min(runs, _LOADS), "load")
    yield f"\n{_FOOTPRINTS}"
    first = next(iter(found))
    for name, results in found.items():
        spent, *memory = (statistics.median(column) for column in zip(*results, strict=True))
        compared = "|" if name == first else faster(_loads(found[first]), _loads(results))
        before, after, peak = (f"{size / 1e6:,.0f}" for size in memory)
        yield f"| {name} | {spent:.2f} | {compared} | {before} | {after} | {peak} |"
    yield from missing(engines, _FOOTPRINTS)


def _loads(results: Sequence[Footprint]) -> list[float]:
    return [result.seconds for result in results]


def missing(engines: Sequence[Engine], header: str) -> Iterator[str]:
    """A row that names each engine that could not be measured."""
    columns = header.splitlines()[0].count("|") - 1
    for engine in engines:
        if engine.problem is not None:
            yield f"| {engine.name}: {engine.problem} {columns * '| '}".rstrip()


def random_ids(path: Path, count: int) -> list[int]:
    """Random tokens: speed does not depend on their sense."""
    config, _ = read_config(GGUFFile(path))
    generator = torch.Generator().manual_seed(0)
    ids: list[int] = torch.randint(config.vocab_size, (count,), generator=generator).tolist()
    return ids
