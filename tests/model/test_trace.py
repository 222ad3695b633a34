"""Names, axes and order of what a trace records."""

import pytest
import torch

from tinyphi.model.trace import NO_TRACE, Trace


@pytest.fixture(scope="module")
def traced(make_model):
    model, trace = make_model(sliding_window=5), Trace()
    with torch.no_grad():
        logits = model(torch.arange(24).view(2, 12), trace=trace)
    return model, trace, logits


def test_every_axis_has_its_size(traced):
    _, trace, _ = traced
    sizes = {"b": 2, "t": 12, "s": 12, "d": 48, "h": 6, "n": 2, "c": 8, "r": 4, "f": 64, "v": 61}
    for name in trace:
        assert trace[name].shape == tuple(sizes[axis] for axis in trace.axes(name).split()), name


def test_the_names_come_in_the_order_of_computation(traced):
    _, trace, _ = traced
    names = list(trace)
    assert names[:4] == ["embedding", "rope.cos", "rope.sin", "mask"]
    assert names[-2:] == ["norm", "logits"]
    assert names.index("layers.0.output") < names.index("layers.1.attention.queries")
    assert len(names) == len(set(names)) == 4 + 2 * 17 + 2


def test_a_trace_changes_nothing(traced):
    model, trace, logits = traced
    with torch.no_grad():
        torch.testing.assert_close(model(torch.arange(24).view(2, 12)), logits, atol=1e-4, rtol=1e-5)
    assert trace["logits"] is logits


def test_the_stream_is_the_sum_of_its_parts(traced):
    _, trace, _ = traced
    before = trace["embedding"]
    for layer in ("layers.0.", "layers.1."):
        after = before + trace[layer + "attention.output"]
        torch.testing.assert_close(trace[layer + "after_attention"], after)
        before = after + trace[layer + "mlp.output"]
        torch.testing.assert_close(trace[layer + "output"], before)


def test_an_unknown_name_is_answered_with_similar_ones(traced):
    _, trace, _ = traced
    with pytest.raises(KeyError, match=r"layers\.0\.attention\.weights"):
        trace["layers.9.attention.weights"]


def test_an_empty_trace_is_true_and_no_trace_is_false():
    assert Trace()
    assert not NO_TRACE
    NO_TRACE.at("layers.0").record("x", torch.zeros(1), "b")
    assert len(NO_TRACE) == 0
