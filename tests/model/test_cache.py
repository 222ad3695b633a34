"""Cached and uncached logits agree, whatever the chunks, padding, window and LongRoPE regime."""

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tinyphi.errors import InputError
from tinyphi.generation.decode import left_pad
from tinyphi.model import cache as cache_module
from tinyphi.model.attention import Attention
from tinyphi.model.trace import Trace

from_longrope = {
    "original_max_position_embeddings": 8,
    "short_factor": (1.0, 1.1, 1.2, 1.3),
    "long_factor": (1.0, 2.0, 4.0, 8.0),
}


@pytest.fixture(autouse=True)
def little_slack(monkeypatch):
    """So that even short texts make a windowed cache drop old tokens, again and again."""
    monkeypatch.setattr(cache_module, "_SLACK", 3)
    monkeypatch.setattr(cache_module, "_SMALLEST", 2)


def agree(model, ids, segments, chunks, max_tokens=None):
    """Compare a cached run in chunks with uncached runs, after every chunk; return the cache."""
    cache, done = model.new_cache(ids.shape[0], max_tokens), 0
    for size in chunks:
        part = slice(done, done + size)
        with torch.no_grad():
            cached = model(ids[:, part], segments=segments[:, part], cache=cache)
            whole = model(ids[:, : done + size], segments=segments[:, : done + size])
        real = segments[:, part] > 0
        mine, theirs = cached[real], whole[:, part][real]
        assert (mine - theirs).abs().max() <= 1e-5 * theirs.abs().max()
        done += size
    return cache


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    chunks=st.lists(st.integers(1, 9), min_size=2, max_size=7),
    padding=st.lists(st.integers(0, 4), min_size=1, max_size=3),
    window=st.sampled_from([None, 1, 2, 5, 40]),
    preallocated=st.booleans(),
)
def test_cached_equals_uncached(make_model, chunks, padding, window, preallocated):
    model, tokens = make_model(sliding_window=window), sum(chunks)
    rows = [torch.randint(1, 61, (max(1, tokens - pad),)).tolist() for pad in padding]
    ids, segments = left_pad(rows)
    chunks = [chunks[0] + ids.shape[1] - tokens, *chunks[1:]] if ids.shape[1] != tokens else chunks
    if chunks[0] < 1:
        return
    agree(model, ids, segments, chunks, tokens if preallocated else None)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(chunks=st.lists(st.integers(1, 6), min_size=3, max_size=6), pad=st.integers(0, 3))
def test_crossing_the_longrope_boundary(make_model, chunks, pad):
    tokens = sum(chunks)
    ids, segments = left_pad([list(range(1, 1 + tokens)), list(range(1, 1 + max(1, tokens - pad)))])
    # The uncached run of the first tokens alone is in the short regime, as transformers' generate is.
    agree(make_model(**from_longrope), ids, segments, chunks)


def test_the_recomputation_is_told_once(make_model):
    model, trace = make_model(**from_longrope), Trace()
    cache = model.new_cache()
    with torch.no_grad():
        model(torch.arange(8)[None], cache=cache, trace=trace)
        assert trace.events == []
        model(torch.tensor([[9]]), cache=cache, trace=trace)
        model(torch.tensor([[10]]), cache=cache, trace=trace)
    assert len(trace.events) == 1
    assert "8 tokens again with LongRoPE's long factors" in trace.events[0]
    assert cache.tokens == 10


def test_keeping_stale_keys_would_be_noticed(make_model, monkeypatch):
    monkeypatch.setattr(cache_module.KeyValueCache, "is_stale", lambda self, long_factors: False)
    ids = torch.arange(12)[None]
    with pytest.raises(AssertionError):
        agree(make_model(**from_longrope), ids, torch.ones_like(ids), [7, 5])


def test_an_off_by_one_in_the_window_would_be_noticed(make_model, monkeypatch):
    original = cache_module.KeyValueCache.visible_before
    monkeypatch.setattr(cache_module.KeyValueCache, "visible_before", lambda self: max(0, original(self) - 1))
    ids = torch.arange(12)[None]
    with pytest.raises((AssertionError, RuntimeError)):
        agree(make_model(sliding_window=5), ids, torch.ones_like(ids), [7, 1, 1, 1])


def test_bytes_are_exact(make_model):
    per_token = 2 * 2 * 2 * 8 * 4  # keys and values, layers, heads, channels, bytes
    assert make_model().new_cache(3, max_tokens=10).bytes == 3 * 10 * per_token
    assert make_model().bfloat16().new_cache(1, max_tokens=10).bytes == 10 * per_token // 2
    assert make_model().config.memory(torch.float32, 10).cache == 10 * per_token


def test_a_growing_cache_grows_and_a_window_bounds_it(make_model):
    model = make_model()
    cache = model.new_cache()
    sizes = []
    with torch.no_grad():
        for _ in range(9):
            model(torch.tensor([[1]]), cache=cache)
            sizes.append(cache.bytes)
        assert sizes == sorted(sizes)
        assert sizes[-1] > sizes[0]
        windowed = make_model(sliding_window=5)
        bounded = windowed.new_cache(max_tokens=10**9)
        for _ in range(40):
            windowed(torch.tensor([[1]]), cache=bounded)
    assert bounded.bytes == (5 + 3) * 2 * 2 * 2 * 8 * 4
    assert bounded.tokens == 40


def test_a_snapshot_tells_how_full_the_cache_is_and_stays(make_model):
    def seen(cache):
        now = cache.snapshot()
        return now.tokens, now.stored, now.room

    model, windowed = make_model(), make_model(sliding_window=4)
    cache, bounded = model.new_cache(), windowed.new_cache()
    first = cache.snapshot()
    assert (first.window, first.long_factors, bounded.snapshot().window) == (None, False, 4)
    growing, sliding = [], []
    with torch.no_grad():
        for _ in range(9):
            model(torch.tensor([[1]]), cache=cache)
            windowed(torch.tensor([[1]]), cache=bounded)
            growing.append(seen(cache))
            sliding.append(seen(bounded))
            assert cache.snapshot().bytes == cache.bytes
    assert growing[:5] == [(1, 1, 2), (2, 2, 2), (3, 3, 4), (4, 4, 4), (5, 5, 8)]
    # Room for the window and three more; when it is full, all but what the next token sees is dropped.
    assert sliding[-3:] == [(7, 7, 7), (8, 3, 7), (9, 4, 7)]
    assert (first.tokens, first.stored, first.room) == (0, 0, 2)


def test_a_full_cache_is_an_error_and_stays_usable(make_model):
    model = make_model()
    cache = model.new_cache(max_tokens=4)
    with torch.no_grad():
        model(torch.arange(3)[None], cache=cache)
        with pytest.raises(InputError, match="made for 4"):
            model(torch.arange(2)[None], cache=cache)
        logits = model(torch.tensor([[3]]), cache=cache)
        torch.testing.assert_close(logits, model(torch.arange(4)[None])[:, 3:], atol=1e-5, rtol=1e-5)


def test_wrong_uses_are_refused(make_model):
    model = make_model()
    with pytest.raises(InputError, match="for 2 rows"):
        model(torch.tensor([[1]]), cache=model.new_cache(batch=2))
    for arguments in ({"batch": 0}, {"max_tokens": 0}, {"max_tokens": 2.5}):
        with pytest.raises(InputError, match="whole number"):
            model.new_cache(**arguments)
    with pytest.raises(InputError, match="left"):
        model(torch.tensor([[1, 0, 1]]), segments=torch.tensor([[1, 0, 1]]), cache=model.new_cache())


@pytest.mark.parametrize("window", [None, 5])
def test_after_an_interruption_the_next_call_is_right(make_model, monkeypatch, window):
    model, ids = make_model(sliding_window=window), torch.arange(20)[None]
    cache = model.new_cache()
    with torch.no_grad():
        model(ids[:, :10], cache=cache)
        original = Attention.forward

        def interrupted(self, *arguments):
            if self.layer == 1:
                raise KeyboardInterrupt
            return original(self, *arguments)

        monkeypatch.setattr(Attention, "forward", interrupted)
        with pytest.raises(KeyboardInterrupt):
            model(ids[:, 10:15], cache=cache)
        monkeypatch.setattr(Attention, "forward", original)
        trace = Trace()
        logits = model(ids[:, 10:16], cache=cache, trace=trace)
        torch.testing.assert_close(logits, model(ids[:, :16])[:, 10:], atol=1e-4, rtol=1e-4)
    assert "interrupted" in trace.events[0]


def test_a_cache_serves_in_and_outside_of_inference_mode(make_model):
    model, ids = make_model(), torch.arange(6)[None]
    cache = model.new_cache()
    with torch.inference_mode():
        model(ids[:, :3], cache=cache)
    logits = model(ids[:, 3:], cache=cache)
    torch.testing.assert_close(logits, model(ids)[:, 3:], atol=1e-5, rtol=1e-5)
