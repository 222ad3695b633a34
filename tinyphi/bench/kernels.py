"""One matrix times a few tokens, in 4 bits on each backend and unquantized: the command kernels."""

import math
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from copy import deepcopy
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from tinyphi.bench.bandwidth import read_bandwidth
from tinyphi.bench.timing import in_turn, seconds
from tinyphi.quant.backends import BACKENDS
from tinyphi.quant.groupwise import quantize_int4

SHAPES = ((3072, 576), (3072, 3072), (3072, 8192))  # (o, i): SmolLM2's gate_up, Phi-3-mini's o and down
TOKENS = (1, 8, 200)
# Bytes of copies that take turns, more than caches hold: a model finds no weight there either. That is for
# one token; with several, arithmetic takes longer than reading, and one copy is enough.
COLD = 1 << 28


class Way(NamedTuple):
    """One way to multiply with a matrix."""

    copies: Sequence[Callable[[Tensor], Tensor]]
    dtype: torch.dtype  # of the activations
    nbytes: int  # of one copy of the weight


def bench_kernels(runs: int) -> Iterator[str]:
    """Yield the table: weights read, in GB/s, and multiplications with addition, in billions (GMAC) a second.

    spread: the slowest run over the fastest, of the numbers of tokens where it is largest.
    """
    yield f"4 bits: groups of 32, no minima. Memory is read at {read_bandwidth() / 1e9:.1f} GB/s.\n"
    columns = " | ".join(f"{tokens} token{'s' * (tokens > 1)}: GB/s | GMAC/s" for tokens in TOKENS)
    yield f"| matrix | by | {columns} | spread |\n|---|---|{'---:|' * (2 * len(TOKENS) + 1)}"
    for shape in SHAPES:
        ways, refusals = ways_to_multiply(torch.randn(shape, generator=torch.Generator().manual_seed(0)))
        found = {tokens: _measure(ways, shape, tokens, runs) for tokens in TOKENS}
        for name, way in ways.items():
            times = {tokens: seconds[name] for tokens, seconds in found.items()}
            yield f"| {shape[0]} × {shape[1]} | {name} | {cells(times, way.nbytes, math.prod(shape))} |"
        for refusal in refusals:
            yield f"| {shape[0]} × {shape[1]} | {refusal} |{' |' * (2 * len(TOKENS) + 1)}"


def ways_to_multiply(weight: Tensor) -> tuple[dict[str, Way], list[str]]:
    """Every way to multiply with a weight (o i), and why a backend is none here."""
    grouped = quantize_int4(weight)
    nbytes = grouped.codes.numel() // 2 + grouped.scales.nbytes
    ways, refusals = {}, []
    for name, kind in BACKENDS.items():
        refusal = kind.refuses(grouped)
        if refusal is None:
            ways[f"{name}, 4 bits"] = Way(_copies(kind(grouped), nbytes), torch.float32, nbytes)
        else:
            refusals.append(f"{name}: {refusal}")
    for dtype in (torch.float32, torch.bfloat16):
        plain = weight.to(dtype)
        name = f"F.linear, {str(dtype).removeprefix('torch.')}"
        ways[name] = Way(_copies(partial(F.linear, weight=plain), plain.nbytes), dtype, plain.nbytes)
    return ways, refusals


def _copies(way: Callable[[Tensor], Tensor], nbytes: int) -> list[Callable[[Tensor], Tensor]]:
    return [way, *(deepcopy(way) for _ in range(COLD // nbytes))]


def _measure(
    ways: Mapping[str, Way], shape: tuple[int, int], tokens: int, runs: int
) -> dict[str, list[float]]:
    """Seconds of one product with each way, averaged over its copies, `runs` times."""
    sides = {}
    for name, way in ways.items():
        copies = way.copies if tokens == 1 else way.copies[:1]
        sides[name] = partial(_product, copies, torch.randn(tokens, shape[1]).to(way.dtype))
    return in_turn(sides, runs, f"{shape[0]} × {shape[1]}, {tokens}")


@torch.inference_mode()
def _product(copies: Sequence[Callable[[Tensor], Tensor]], x: Tensor) -> float:
    return seconds(lambda: [copy(x) for copy in copies]) / len(copies)


def cells(times: Mapping[int, Sequence[float]], nbytes: int, weights: int) -> str:
    """GB/s and GMAC/s for each number of tokens, and the spread. times: tokens → seconds of each run."""
    found = []
    for tokens, runs in times.items():
        median = statistics.median(runs)
        rates = (nbytes / median, weights * tokens / median)
        found += [f"{rate / 1e9:.1f}" if rate >= 1e9 else f"{rate / 1e9:.3f}" for rate in rates]
    spread = max(max(runs) / min(runs) for runs in times.values())
    return " | ".join([*found, f"{spread:.2f}"])
