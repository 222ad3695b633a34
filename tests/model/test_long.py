"""Long inputs go through the model in pieces: the same numbers, in bounded memory. Here a piece is tiny."""

import subprocess
import sys

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import tinyphi
from tinyphi.generation.decode import left_pad, prefill
from tinyphi.generation.speculative import DraftModel, PromptLookup
from tinyphi.model import cache as cache_module
from tinyphi.model import transformer
from tinyphi.model.attention import Attention
from tinyphi.model.mask import first_seen, positions_within, visible
from tinyphi.model.trace import Trace

LONGROPE = {
    "original_max_position_embeddings": 8,
    "short_factor": (1.0, 1.1, 1.2, 1.3),
    "long_factor": (1.0, 2.0, 4.0, 8.0),
}
WINDOWS = st.sampled_from([None, 1, 2, 5, 40])
ANY_MODEL = settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def in_pieces(monkeypatch, size):
    monkeypatch.setattr(transformer, "_PIECE", size)


@pytest.fixture(autouse=True)
def small(monkeypatch):
    """Texts of 20 tokens are long, and a windowed cache is soon full."""
    in_pieces(monkeypatch, 4)
    monkeypatch.setattr(cache_module, "_SLACK", 3)
    monkeypatch.setattr(cache_module, "_SMALLEST", 2)


def tokens(*shape, seed=0):
    return torch.randint(0, 61, shape, generator=torch.Generator().manual_seed(seed))


def same(mine, theirs, tolerance=1e-12):
    assert mine.shape == theirs.shape
    assert (mine - theirs).abs().max() <= tolerance * theirs.abs().max()


# --- the same numbers ---


@ANY_MODEL
@given(
    rows=st.lists(st.lists(st.integers(0, 3), min_size=17, max_size=17), min_size=1, max_size=3),
    ordered=st.booleans(),
    window=WINDOWS,
    size=st.integers(1, 9),
)
def test_padding_packing_and_windows_in_pieces_equal_one_mask_for_all(
    make_model, monkeypatch, rows, ordered, window, size
):
    segments = torch.tensor([[*(sorted(row) if ordered else row), 3] for row in rows])
    model, ids = make_model(sliding_window=window).double(), tokens(*segments.shape)
    with torch.no_grad():
        in_pieces(monkeypatch, 99)
        whole = model.hidden(ids, segments)
        in_pieces(monkeypatch, size)
        parts = model.hidden(ids, segments)
    same(parts[segments > 0], whole[segments > 0])


@ANY_MODEL
@given(
    chunks=st.lists(st.integers(1, 15), min_size=1, max_size=3),
    padding=st.sampled_from([(0,), (0, 3), (7, 0, 2)]),
    window=WINDOWS,
    longrope=st.booleans(),
    size=st.integers(1, 9),
)
def test_a_cache_filled_in_pieces_gives_what_no_cache_gives(
    make_model, monkeypatch, chunks, padding, window, longrope, size
):
    model = make_model(sliding_window=window, **(LONGROPE if longrope else {})).double()
    ids, segments = left_pad([tokens(sum(chunks) + 7 - pad).tolist() for pad in padding])
    cache, done = model.new_cache(len(padding)), 0
    for chunk in (chunks[0] + 7, *chunks[1:]):
        part = slice(done, done := done + chunk)
        with torch.no_grad():
            in_pieces(monkeypatch, size)
            mine = model(ids[:, part], segments[:, part], cache)
            in_pieces(monkeypatch, 99)
            theirs = model(ids[:, :done], segments[:, :done])[:, part]
        same(
            mine.double()[segments[:, part] > 0], theirs.double()[segments[:, part] > 0], 1e-6
        )  # logits: float32


@pytest.mark.parametrize("groups", [1, 2, 6])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_grouped_heads_and_float32(make_model, monkeypatch, groups, dtype):
    model, ids = make_model(num_key_value_heads=groups, sliding_window=7).to(dtype), tokens(2, 23)
    with torch.no_grad():
        parts = model.hidden(ids), model.hidden(ids, cache=model.new_cache(2))
        in_pieces(monkeypatch, 99)
        for hidden in parts:
            same(hidden, model.hidden(ids), 1e-5 if dtype == torch.float32 else 1e-12)


def test_gradients_are_the_same(make_model, monkeypatch):
    def gradients():
        model, ids = make_model(sliding_window=5).double(), tokens(2, 19)
        model.hidden(ids, torch.tensor([[0] * 3 + [1] * 16, [1] * 9 + [2] * 10])).square().sum().backward()
        return torch.cat([weight.grad.flatten() for weight in model.layers.parameters()])

    mine = gradients()
    in_pieces(monkeypatch, 99)
    same(mine, gradients(), 1e-10)


def test_a_plain_text_without_a_cache_is_one_fused_call(make_model, monkeypatch):
    calls = []
    original = transformer.visible
    monkeypatch.setattr(transformer, "visible", lambda *given: calls.append(given) or original(*given))
    with torch.no_grad():
        make_model().hidden(tokens(2, 20))
        assert calls == []
        make_model(sliding_window=5).hidden(tokens(1, 20))
    assert len(calls) == 2 * 5  # layers, pieces
    assert max(query.shape[1] * key.shape[1] for query, _, key, *_ in calls) == 4 * (4 + 4)


@ANY_MODEL
@given(st.lists(st.lists(st.integers(0, 3), min_size=9, max_size=9), min_size=1, max_size=3), WINDOWS)
def test_nothing_before_the_first_key_is_seen(rows, window):
    segments = torch.tensor(rows)
    positions = positions_within(segments)
    seen = visible(segments, positions, segments, positions, window) & (segments > 0)[:, :, None]
    for column in range(9):
        assert not seen[:, column:, : first_seen(segments, positions, column, window)].any()


def test_the_first_key_is_no_earlier_than_needed():
    segments = torch.tensor([[0, 0, 0, 1, 1, 1, 1, 2, 2]])
    positions = positions_within(segments)
    assert [first_seen(segments, positions, column, None) for column in range(9)] == [
        0,
        1,
        2,
        3,
        3,
        3,
        3,
        7,
        7,
    ]
    assert [first_seen(segments, positions, column, 2) for column in range(9)] == [0, 1, 2, 3, 3, 4, 5, 7, 7]


@pytest.mark.parametrize("last", [1, 3, 4, 5, 11, 12, 99])
@pytest.mark.parametrize("cached", [True, False])
def test_only_the_last_tokens_come_back(make_model, last, cached):
    model, ids = make_model(), tokens(2, 12)
    with torch.no_grad():
        part = model.hidden(ids, cache=model.new_cache(2) if cached else None, last=last)
        same(part, model.hidden(ids)[:, -last:], 1e-5)


def test_a_trace_sees_everything_at_once(make_model):
    model, ids, trace = make_model(sliding_window=5), tokens(1, 11), Trace()
    cache = model.new_cache()
    with torch.no_grad():
        model(ids, cache=cache, trace=trace)
    assert trace["mask"].shape == (1, 11, 11)
    assert trace["layers.1.attention.weights"].shape == (1, 6, 11, 11)
    assert trace["layers.1.mlp.gate"].shape == (1, 11, 64)


# --- LongRoPE ---


def test_a_long_prompt_uses_the_long_factors_from_its_first_piece_on(make_model, monkeypatch):
    """Nothing is read twice: 4 tokens at a time of 20, of which 8 are the original context."""
    model, ids, given = make_model(**LONGROPE), tokens(1, 20), []
    original = transformer.rotation

    def rotation(config, positions, longest, dtype):
        given.append((positions[0, 0].item(), longest))
        return original(config, positions, longest, dtype)

    monkeypatch.setattr(transformer, "rotation", rotation)
    prefill(model, ids, cache := model.new_cache())
    assert given == [(start, 20) for start in range(0, 20, 4)]
    assert cache.long_factors


@pytest.mark.parametrize("bits", [None, 8])
@pytest.mark.parametrize("lengths", [(11,), (11, 5), (8, 3)])
def test_decoding_across_the_boundary_in_pieces(make_model, bits, lengths):
    """Each step equals a fresh run: the longest row decides, all is read again once, and in pieces."""
    model = make_model(**LONGROPE).double()
    ids, segments = left_pad([tokens(length).tolist() for length in lengths])
    cache, new = model.new_cache(len(lengths), bits=bits), tokens(len(lengths), 9, seed=1)
    feed = [(ids[:, :6], segments[:, :6]), (ids[:, 6:], segments[:, 6:])]
    feed += [(column, torch.ones_like(column)) for column in new.split(1, dim=1)]
    for part, shown in feed:
        with torch.no_grad():
            mine = model.hidden(part, shown, cache)[shown > 0]
            fresh = model.new_cache(len(lengths), bits=bits)
            theirs = model.hidden(cache.ids, cache.segments, fresh)[:, -part.shape[1] :][shown > 0]
        same(mine, theirs, 1e-12 if bits is None else 5e-3)
    assert cache.long_factors


def test_forgetting_the_length_of_the_whole_would_be_noticed(make_model, monkeypatch):
    """The planted mistake: each piece chooses the factors by how far it reaches itself."""
    model, ids = make_model(**LONGROPE), tokens(1, 20)
    with torch.no_grad():
        right = model.hidden(ids)[:, -1:]
        original = transformer.rotation
        monkeypatch.setattr(
            transformer,
            "rotation",
            lambda config, positions, _, dtype: original(config, positions, int(positions.max()) + 1, dtype),
        )
        wrong = model.hidden(ids, cache=model.new_cache(), last=1)
    assert (wrong - right).abs().max() > 1e-2 * right.abs().max()


# --- the cache between the pieces ---


@pytest.mark.parametrize("window", [None, 5])
@pytest.mark.parametrize("at", [0, 1, 3])
def test_after_an_interruption_between_pieces_the_next_call_is_right(make_model, monkeypatch, window, at):
    model, ids = make_model(sliding_window=window), tokens(1, 26)
    cache, calls, original = model.new_cache(), [], Attention.forward

    def interrupted(self, *arguments):
        calls.append(self.layer)
        if len(calls) == 2 * at + 2:  # in the second layer of a piece
            raise KeyboardInterrupt
        return original(self, *arguments)

    with torch.no_grad():
        model(ids[:, :6], cache=cache)
        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(Attention, "forward", interrupted)
            model(ids[:, 6:22], cache=cache)
        assert cache.tokens == 6
        logits = model(ids[:, 6:], cache=cache)
        same(logits, model(ids)[:, 6:], 1e-5)


def test_after_a_long_prompt_a_window_can_be_rolled_back(make_model):
    """Its last piece is a full one. Cut the other way round, it would be a single token."""
    model, ids, trace = make_model(sliding_window=5), tokens(1, 21), Trace()
    cache = model.new_cache()
    prefill(model, ids, cache)
    cache.rollback(3)
    with torch.no_grad():
        same(model(ids[:, 18:], cache=cache, trace=trace), model(ids)[:, 18:], 1e-5)
    assert trace.events == []


@pytest.mark.parametrize("window", [None, 6])
def test_generating_in_pieces_writes_the_same(make_model, monkeypatch, window):
    model = make_model(sliding_window=window, max_position_embeddings=999).double()
    prompts = [tokens(23).tolist(), tokens(9, seed=1).tolist()]
    arguments = [{}, {"cache_bits": 8}]
    single = [{"draft": PromptLookup(2, 6)}, {"draft": DraftModel(model, 3)}]

    def everything():
        for chosen in arguments:
            yield tinyphi.generate(model, prompts, max_new_tokens=12, **chosen).ids
        for chosen in single:
            lenses = tinyphi.GenerationTrace(lens=2)
            yield tinyphi.generate(model, prompts[0], max_new_tokens=12, trace=lenses, **chosen).ids
            yield [step.lens.ids.tolist() for step in lenses.steps]

    mine = list(everything())
    in_pieces(monkeypatch, 99)
    assert mine == list(everything())


# --- memory, each time in a process of its own ---

LENGTH = 8192
MEASURE = """
import sys, torch
from pathlib import Path
from tinyphi.config import PhiConfig
from tinyphi.generation.decode import prefill
from tinyphi.model import transformer

def peak():
    status = Path("/proc/self/status").read_text()
    return 1024 * int(status.split("VmHWM:")[1].split()[0])

def read(length):
    ids = torch.randint(64, (1, length))
    if how in ("window", "padding", "packing"):
        segments = torch.ones_like(ids)
        segments[:, :100] = 0 if how == "padding" else 1
        segments[:, 100:] += how == "packing"
        with torch.no_grad():
            model.hidden(ids, segments)
        return
    cache = model.new_cache()
    if how == "chunk after a cache":
        prefill(model, ids[:, :100], cache)
    prefill(model, ids[:, cache.tokens :], cache)

how, length = sys.argv[1], int(sys.argv[2])
config = PhiConfig(
    vocab_size=64, hidden_size=32, intermediate_size=2048 if how == "prompt" else 32, num_hidden_layers=1,
    num_attention_heads=2, num_key_value_heads=1, max_position_embeddings=length,
    sliding_window=256 if how == "window" else None, bos_token_id=None, eos_token_id=None, pad_token_id=None,
)
model = transformer.Phi3(config)
read(600)
before = peak()
for transformer._PIECE in (512, 10**9):
    read(length)
    print(peak() - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads the peak memory from /proc")
@pytest.mark.parametrize("how", ["window", "padding", "packing", "chunk after a cache", "prompt"])
def test_memory_does_not_grow_with_the_square_of_the_text(how):
    """Beyond that for a short text. The planted mistake, everything in one piece, has a mask of 8192 × 8192
    bytes, which torch makes floats of, or numbers of a wide MLP for all tokens.
    """
    command = [sys.executable, "-c", MEASURE, how, str(LENGTH)]
    found = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
    pieces, planted = (int(size) / 1e6 for size in found)
    assert pieces < 100
    assert planted > 2 * pieces
    assert planted > 200
