"""Prompts that double in length: time, memory, and bytes of the cache. The commands long and layer."""

import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import torch

from tinyphi.bench.engines import Engine, Tinyphi, Transformers
from tinyphi.bench.fresh import Reading, readings
from tinyphi.bench.models import MODEL, missing, random_ids
from tinyphi.bench.random_phi3 import write_random
from tinyphi.bench.timing import faster, in_turn
from tinyphi.config import PhiConfig
from tinyphi.model.transformer import Phi3
from tinyphi.weights.fetch import resolve
from tinyphi.weights.gguf import GGUFFile
from tinyphi.weights.load import read_config

SHORTEST = 1024  # tokens of the first prompt
PHI3_128K = PhiConfig.preset("phi-3-mini-128k")
WINDOW = PhiConfig.preset("phi-3-mini-4k").sliding_window
_READINGS = """\
| tokens | by | s | tokens/s | the first is faster by | spread | MB at most, beyond the loaded model |
|---:|---|---:|---:|---:|---|---:|"""


class Reach(NamedTuple):
    """How much is measured."""

    runs: int  # rounds in which all sides take turns
    longest: int  # tokens; the lengths double up to it


def bench_long(reach: Reach) -> Iterator[str]:
    """Yield the tables of SmolLM2 reading prompts, beside transformers, and of what caches take."""
    path = resolve(MODEL)
    yield f"`{path.name}` reads prompts of random tokens into a cache.\n"
    engines = [Tinyphi("tinyphi, float32"), Transformers("transformers, float32")]
    yield from _readings(path, engines, reach)
    yield from cache_rows("SmolLM2-135M", read_config(GGUFFile(path))[0], reach.longest)
    yield from cache_rows("Phi-3-mini", PHI3_128K, max(reach.longest, PHI3_128K.max_position_embeddings))


def bench_layer(reach: Reach) -> Iterator[str]:
    """Yield the table of a single layer of Phi-3-mini-128k's shape, random numbers in bfloat16.

    Raises WeightsError if there is no room for its file of 65 MB in the system's directory for such files.
    """
    config = replace(
        PHI3_128K, num_hidden_layers=1, vocab_size=288, bos_token_id=None, eos_token_id=257, pad_token_id=257
    )
    with TemporaryDirectory(prefix="tinyphi-") as folder:
        path = write_random(config, Path(folder) / "layer.gguf")
        yield f"One layer of Phi-3-mini-128k's shape, {config.parameter_count() / 1e6:.0f} million weights.\n"
        yield from _readings(path, [Tinyphi("tinyphi, bfloat16", torch.bfloat16)], reach)
    yield from cache_rows("this layer", config, reach.longest)


def lengths(longest: int) -> list[int]:
    """1,024 tokens, twice as many and so on; the longest is the last."""
    return [SHORTEST << power for power in range(64) if SHORTEST << power < longest] + [longest]


def cache_rows(name: str, config: PhiConfig, longest: int) -> Iterator[str]:
    """A table of what the keys and values of texts take, in MB: all or those of a window, by format.

    Counted in caches that the model makes, but on torch's device without memory.
    """
    forms = (
        ("float32", torch.float32, None),
        ("bfloat16", torch.bfloat16, None),
        ("8 bits", torch.bfloat16, 8),
    )
    kinds = [
        (f"{tokens}, {form}", window, dtype, bits)
        for tokens, window in (("all tokens", None), (f"a window of {WINDOW:,}", WINDOW))
        for form, dtype, bits in forms
    ]
    yield f"\n| MB in the cache of {name} | {' | '.join(kind[0] for kind in kinds)} |"
    yield f"|---:|{'---:|' * len(kinds)}"
    with torch.device("meta"):
        models = [
            Phi3(replace(config, sliding_window=window)).to(dtype=dtype) for _, window, dtype, _ in kinds
        ]
    for tokens in lengths(longest):
        sizes = [
            model.new_cache(max_tokens=tokens, bits=bits).bytes
            for model, (*_, bits) in zip(models, kinds, strict=True)
        ]
        yield f"| {tokens:,} | {' | '.join(f'{size / 1e6:,.0f}' for size in sizes)} |"


def _readings(path: Path, engines: Sequence[Engine], reach: Reach) -> Iterator[str]:
    """A row for each length and side; the first side is what the others are compared with."""
    ids, steps = random_ids(path, reach.longest), lengths(reach.longest)
    present = [engine for engine in engines if engine.problem is None]
    sides = {engine.name: partial(readings, engine, path, ids, steps) for engine in present}
    found = in_turn(sides, reach.runs, path.stem, warm_up=False)
    yield _READINGS
    for number, tokens in enumerate(steps):
        at_length = {name: [rounds[number] for rounds in results] for name, results in found.items()}
        yield from _rows(tokens, at_length)
    yield from missing(engines, _READINGS)


def _rows(tokens: int, found: Mapping[str, Sequence[Reading]]) -> Iterator[str]:
    times = {name: [reading.seconds for reading in results] for name, results in found.items()}
    first = next(iter(found))
    for name, results in found.items():
        spent, memory = statistics.median(times[name]), max(reading.memory for reading in results)
        compared = "|" if name == first else faster(times[first], times[name])
        label = f"{tokens:,}" if name == first else ""
        yield f"| {label} | {name} | {spent:.2f} | {tokens / spent:,.0f} | {compared} | {memory / 1e6:,.0f} |"
