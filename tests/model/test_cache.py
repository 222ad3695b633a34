"""Cached and uncached logits agree, whatever the chunks, rollbacks, padding, window and LongRoPE regime."""

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import tinyphi
from tinyphi.errors import FetchError, InputError
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


def back_and_forth(model, calls, padding=(0,), bits=None):
    """Feed (positive) and roll back (negative) random tokens; compare with a fresh run after every feeding.

    Returns the cache and a trace of what it computed again.
    """
    ids, segments = left_pad([list(range(1, 1 + max(padding) - pad)) for pad in padding])
    cache, trace, draw = model.new_cache(len(padding), bits=bits), Trace(), torch.Generator().manual_seed(2)
    for size in calls:
        if size < 0:
            cache.rollback(min(-size, cache.tokens))
            kept = cache.tokens
            ids, segments = ids[:, :kept], segments[:, :kept]
            assert torch.equal(cache.ids, ids)
            continue
        new = torch.randint(0, 61, (len(padding), size), generator=draw)
        shown = torch.ones_like(new)
        if cache.tokens == 0:
            new, shown = torch.cat((ids, new), 1), torch.cat((segments, shown), 1)
            ids, segments = ids[:, :0], segments[:, :0]
        ids, segments = torch.cat((ids, new), 1), torch.cat((segments, shown), 1)
        fresh = None if bits is None else model.new_cache(len(padding), bits=bits)
        with torch.no_grad():
            # Not in 8 bits: with a trace the softmax is taken in float32, which decides over codes.
            looking = trace if bits is None else None
            mine = model(new, segments=shown, cache=cache, trace=looking)[shown > 0]
            theirs = model(ids, segments=segments, cache=fresh)[:, -new.shape[1] :][shown > 0]
        # In 8 bits, sums in another order can fall to the other side of a rounding.
        tolerance = 1e-5 if bits is None else 5e-3
        assert (mine - theirs).abs().max() <= tolerance * theirs.abs().max()
    return cache, trace


CALLS = st.lists(st.integers(-7, 7).filter(bool), min_size=3, max_size=12)
PADDING = st.sampled_from([(0,), (0, 0), (0, 3), (2, 1)])


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(CALLS, PADDING, st.sampled_from([None, 1, 2, 5, 40]), st.booleans())
def test_after_a_rollback_all_is_as_if_the_tokens_had_never_been_seen(
    make_model, calls, padding, window, longrope
):
    model = make_model(sliding_window=window, **(from_longrope if longrope else {}))
    back_and_forth(model, calls, padding)


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(CALLS, PADDING, st.sampled_from([None, 2, 5]), st.booleans())
def test_rollback_of_8_bits(make_model, calls, padding, window, longrope):
    # In float64, so that no key lies so close to the middle of two codes that rounding decides.
    model = make_model(sliding_window=window, **(from_longrope if longrope else {})).double()
    back_and_forth(model, calls, padding, bits=8)


def test_rolling_back_over_the_longrope_boundary_returns_to_the_short_factors(make_model):
    cache, trace = back_and_forth(make_model(**from_longrope), [7, 4, -3, -1, 1, 1, -1, 4])
    assert ["long factors" in event for event in trace.events] == [True, False, True]
    assert cache.long_factors


def test_tokens_of_the_last_pass_are_taken_back_without_computing_anything_again(make_model, monkeypatch):
    calls = [9, *[1, 3, -2, 4, -3] * 6]
    assert back_and_forth(make_model(sliding_window=5), calls)[1].events == []
    monkeypatch.setattr(cache_module.KeyValueCache, "_kept", lambda self, new: 4)  # what a window needs
    assert back_and_forth(make_model(sliding_window=5), calls)[1].events != []


def test_a_deep_rollback_behind_a_window_computes_all_again_once(make_model):
    _, trace = back_and_forth(make_model(sliding_window=5), [1] * 20 + [-9] + [1] * 5)
    assert len(trace.events) == 1
    assert "11 tokens again after an interrupted call or a rollback" in trace.events[0]


def test_forgetting_that_a_window_has_dropped_tokens_would_be_noticed(make_model, monkeypatch):
    monkeypatch.setattr(
        cache_module.KeyValueCache,
        "is_stale",
        lambda self, long_factors: self.tokens > 0 and self.long_factors != long_factors,
    )
    with pytest.raises((AssertionError, RuntimeError)):
        back_and_forth(make_model(sliding_window=5), [1] * 20 + [-9] + [1] * 5)


def test_a_rollback_after_an_interruption(make_model, monkeypatch):
    model, ids = make_model(), torch.arange(12)[None]
    cache = model.new_cache()
    with torch.no_grad():
        model(ids[:, :8], cache=cache)
        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(Attention, "forward", lambda *given: (_ for _ in ()).throw(KeyboardInterrupt))
            model(ids[:, 8:], cache=cache)
        cache.rollback(3)
        logits = model(ids[:, 5:9], cache=cache)
        torch.testing.assert_close(logits, model(ids[:, :9])[:, 5:], atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("tokens", [-1, 4, 1.0, None])
def test_an_impossible_rollback_is_refused(make_model, tokens):
    model = make_model()
    cache = model.new_cache()
    model(torch.tensor([[1, 2, 3]]), cache=cache)
    with pytest.raises(InputError, match="holds 3"):
        cache.rollback(tokens)
    cache.rollback(3)
    assert cache.tokens == 0


@given(
    shape=st.lists(st.integers(1, 9), min_size=1, max_size=4),
    power=st.integers(-44, 37),
    seed=st.integers(0, 999),
    zeros=st.booleans(),
    dtype=st.sampled_from([torch.float32, torch.bfloat16, torch.float64]),
)
def test_8_bits_are_off_by_half_a_scale_at_most(shape, power, seed, zeros, dtype):
    x = 10.0**power * torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    x[..., ::2] *= 0.0 if zeros else 1.0
    x = x.to(dtype)
    codes, scales = cache_module.to_int8(x)
    assert (codes.dtype, codes.shape, scales.shape) == (torch.int8, x.shape, (*x.shape[:-1], 1))
    assert int(codes.min()) >= -127
    back = cache_module.from_int8(codes, scales, torch.float64)
    assert ((back - x.double()).abs() <= 0.5001 * scales).all()
    if power > -30:  # below, a scale is as small as float32 allows, and the codes are smaller
        largest = codes.abs().amax(-1, keepdim=True).squeeze(-1)
        assert torch.equal(largest == 127, (x != 0).any(-1))


@pytest.mark.parametrize("window", [None, 5])
def test_8_bits_change_nothing_but_the_rounding(make_model, monkeypatch, window):
    """The same text, in calls of all sizes: an 8-bit cache, and a plain one that is given rounded numbers."""
    model, ids = make_model(sliding_window=window), torch.arange(48).view(2, 24)
    update = cache_module.KeyValueCache.update

    def rounded(x):
        codes, scales = cache_module.to_int8(x)
        return cache_module.from_int8(codes, scales, x.dtype)

    def run(bits):
        cache = model.new_cache(2, bits=bits)
        with torch.no_grad():
            return torch.cat([model(part, cache=cache) for part in ids.split([6, 1, 1, 4, 1, 9, 2], 1)], 1)

    mine = run(8)
    with torch.no_grad():
        assert 1e-4 < (mine - model(ids)).abs().max() / mine.abs().max() < 0.1  # rounding shows, but hardly
    monkeypatch.setattr(
        cache_module.KeyValueCache,
        "update",
        lambda self, layer, keys, values: update(self, layer, rounded(keys), rounded(values)),
    )
    torch.testing.assert_close(mine, run(None), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_bytes_of_8_bits_are_exact(make_model, dtype):
    model = make_model().to(dtype)
    cache = model.new_cache(3, max_tokens=10, bits=8)
    assert cache.bytes == cache.snapshot().bytes == 3 * 10 * 2 * 2 * 2 * (8 + 4)
    with torch.inference_mode():
        assert model(torch.ones(3, 10, dtype=torch.int64), cache=cache).isfinite().all()
        with pytest.raises(InputError, match="made for 10"):
            model(torch.ones(3, 1, dtype=torch.int64), cache=cache)


@pytest.mark.parametrize("bits", [4, 16, "8", True])
def test_other_bits_are_refused(make_model, bits):
    with pytest.raises(InputError, match="bits"):
        make_model().new_cache(bits=bits)


def test_8_bits_hardly_change_what_a_real_model_says():
    try:
        model, tokenizer = tinyphi.load("smollm2-135m")
    except FetchError as error:
        pytest.skip(f"the real model cannot be fetched here: {error}")
    ids = torch.tensor([tokenizer.encode(cache_module.__doc__ + cache_module.KeyValueCache.__doc__)])
    with torch.inference_mode():
        wanted, found = (
            model(ids, cache=model.new_cache(bits=bits))[0].log_softmax(-1) for bits in (None, 8)
        )
    divergence = (wanted.exp() * (wanted - found)).sum(-1)
    assert 0 < divergence.mean() < 3e-3
