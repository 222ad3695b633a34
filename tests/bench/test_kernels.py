"""The table of single matrices."""

import pytest
import torch
from torch.nn import functional as F

from tinyphi.bench import kernels
from tinyphi.bench.kernels import bench_kernels, cells, ways_to_multiply
from tinyphi.quant.backends import BACKENDS


def test_rates_are_those_of_the_median_and_the_spread_is_the_largest():
    times = {1: [1.0, 2.0, 4.0], 10: [2.0, 2.0, 3.0]}
    assert cells(times, nbytes=3_000_000_000, weights=4_000_000_000) == "1.5 | 2.0 | 1.5 | 20.0 | 4.00"
    assert cells({1: [1.0]}, nbytes=5_000_000, weights=1) == "0.005 | 0.000 | 1.00"


def test_all_ways_compute_the_product(monkeypatch):
    monkeypatch.setattr(kernels, "COLD", 4 * 64 * 96)  # at least two of each
    weight, x = torch.randn(64, 96), torch.randn(5, 96)
    ways, refused = ways_to_multiply(weight)
    assert len(ways) + len(refused) == len(BACKENDS) + 2
    wanted = F.linear(x, weight)
    for name, way in ways.items():
        assert len(way.copies) > 1
        for copy in way.copies:
            error = (copy(x.to(way.dtype)).float() - wanted).norm() / wanted.norm()
            assert error < (0.01 if name.startswith("F.linear") else 0.2), name


def test_every_way_has_a_row_and_a_refusal_too(monkeypatch):
    monkeypatch.setattr(kernels, "SHAPES", ((64, 96),))
    monkeypatch.setattr(kernels, "COLD", 1 << 12)
    monkeypatch.setattr(kernels, "read_bandwidth", lambda: 12.34e9)
    monkeypatch.setattr(BACKENDS["torch"], "refuses", classmethod(lambda kind, weight: "not today"))
    introduction, *lines = list(bench_kernels(1))
    table = "\n".join(lines).splitlines()
    assert "12.3 GB/s" in introduction
    assert len({line.count("|") for line in table}) == 1
    assert sum(line.startswith("| 64 × 96 |") for line in table) == len(BACKENDS) + 2
    assert any("torch: not today" in line for line in table)


@pytest.mark.parametrize("tokens", [1, 2])
def test_copies_take_turns_for_a_single_token_only(tokens):
    calls = []
    way = kernels.Way([lambda x: calls.append("a"), lambda x: calls.append("b")], torch.float32, 1)
    kernels._measure({"x": way}, (4, 4), tokens, runs=1)
    assert calls == (["a", "b"] * 2 if tokens == 1 else ["a"] * 2)
