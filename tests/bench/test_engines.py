"""Every engine reads the tokens it is given, and its footprint is that of a process of its own."""

import sys

import pytest
import torch

from tinyphi.bench import engines
from tinyphi.bench.bandwidth import Weights
from tinyphi.bench.engines import LlamaCpp, Tinyphi, Transformers
from tinyphi.bench.fresh import footprint, peak_memory

ENGINES = [
    Tinyphi("tinyphi"),
    Tinyphi("tinyphi, bfloat16", torch.bfloat16),
    Tinyphi("tinyphi, quantized", quantized=True, cache_bits=8),
    LlamaCpp("llama.cpp"),
    Transformers("transformers"),
]


def tokens_read(session):
    """How many tokens the session's cache holds."""
    if hasattr(session, "_cache"):
        cache = session._cache
        return cache.tokens if hasattr(cache, "tokens") else cache.get_seq_length()
    return session._model.n_tokens


@pytest.mark.parametrize("engine", ENGINES, ids=lambda engine: engine.name)
def test_prefill_starts_anew_and_decode_goes_on(engine, path):
    if engine.problem is not None:
        pytest.skip(f"{engine.name} cannot run here: {engine.problem}")
    engine.prepare()
    session = engine.open(path, 32)
    for _ in range(2):
        session.prefill(list(range(5, 15)))
        assert tokens_read(session) == 10
        session.decode([3, 4, 5])
        assert tokens_read(session) == 13


def test_bytes_read_for_a_token():
    weights = Weights(1000, 600)
    assert Tinyphi("x", torch.bfloat16).reads(weights) == 2000
    assert Tinyphi("x", quantized=True).reads(weights) == LlamaCpp("x").reads(weights) == 600
    assert Transformers("x", torch.float32).reads(weights) == 4000


def test_a_missing_library_is_named_with_what_brings_it(monkeypatch):
    monkeypatch.setattr(engines, "find_spec", lambda name: None)
    assert LlamaCpp("x").problem == 'not installed, pip install "tinyphi[llamacpp]"'
    assert Transformers("x").problem == 'not installed, pip install "tinyphi[reference]"'


def test_the_footprint_is_not_that_of_this_process(path):
    ballast = torch.ones(1 << 28, dtype=torch.uint8)
    mine = peak_memory()
    found = footprint(Tinyphi("tinyphi"), path, list(range(5, 69)))
    assert ballast.nbytes <= mine
    assert found.seconds > 0
    assert 0 < found.before < found.after <= found.peak
    if sys.platform == "linux":
        assert found.peak - found.before < ballast.nbytes
