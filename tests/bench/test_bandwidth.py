"""What a token reads, and the share of the memory's speed."""

import dataclasses

import pytest

from tinyphi.bench import bandwidth
from tinyphi.bench.bandwidth import Weights, read_bandwidth, share, weights_read
from tinyphi.bench.random_phi3 import write_random
from tinyphi.weights.gguf import GGUFFile


def test_share():
    assert share(100_000_000, 50.0, 10e9) == pytest.approx(0.5)


# Of 2 layers: queries, keys, values; the output; gate, up and down.
LAYERS = 2 * (64 * 128 + 64 * 64 + 3 * 64 * 96)


@pytest.mark.parametrize("tied", [False, True])
def test_a_token_reads_every_matrix_but_an_embedding_of_its_own(config, tmp_path, tied):
    path = write_random(dataclasses.replace(config, tie_word_embeddings=tied), tmp_path / "x.gguf")
    numbers = LAYERS + 288 * 64
    assert weights_read(GGUFFile(path)) == Weights(numbers, numbers * 18 // 32)


def test_bandwidth_is_that_of_the_fastest_read(monkeypatch):
    times = iter([2.0, 0.5, *[1.0] * 8])
    monkeypatch.setattr(bandwidth, "_READ", 1 << 16)
    monkeypatch.setattr(bandwidth, "seconds", lambda work: next(times))
    assert read_bandwidth() == 4 * (1 << 16) / 0.5


def test_memory_is_really_read(monkeypatch):
    monkeypatch.setattr(bandwidth, "_READ", 1 << 20)
    assert 1e6 < read_bandwidth() < 1e13
