"""residual: norms of the stream, and how much attention and the MLP of each layer add to it."""

import pytest
import torch

from tinyphi.errors import InputError
from tinyphi.model.trace import Trace
from tinyphi.show import residual

STRANGE = [" the", "\n", "$x$", "<b>&'\"", "日本", "🙂", "a" * 60, ""]


def random_trace(layers=3, tokens=5):
    trace, generator = Trace(), torch.Generator().manual_seed(0)
    state = torch.randn(2, tokens, 8, generator=generator)
    trace.record("embedding", state, "b t d")
    for layer in range(layers):
        for part, name in (("attention", "after_attention"), ("mlp", "output")):
            more = torch.randn(2, tokens, 8, generator=generator)
            state = state + more
            trace.record(f"layers.{layer}.{part}.output", more, "b t d")
            trace.record(f"layers.{layer}.{name}", state, "b t d")
    return trace


@pytest.mark.parametrize(("layers", "tokens"), [(3, 5), (1, 1), (40, 1), (40, 600)])
def test_faces(examine, layers, tokens):
    labels = [STRANGE[i % len(STRANGE)] for i in range(tokens)]
    view = examine(lambda: residual(random_trace(layers, tokens), labels, row=1))
    assert view.live is not None
    assert view.live.data["norms"]["shape"] == [layers + 1, min(tokens, 64)]


@pytest.mark.parametrize("row", [0, 1])
def test_the_digest_is_what_the_trace_says(row):
    trace = random_trace()
    lines = residual(trace, row=row).text.splitlines()
    assert len(lines) == 2 + 4 + 1
    shown = torch.tensor([float(number) for number in lines[5].split()[1:]])
    stream = trace["layers.1.output"][row]
    norms = trace["layers.2.output"][row].norm(dim=-1)
    torch.testing.assert_close(
        shown[:3], torch.stack([norms[0], norms[1:].median(), norms[1:].max()]), rtol=1e-3, atol=0
    )
    added = trace["layers.2.attention.output"][row]
    size = (added.norm(dim=-1) / stream.norm(dim=-1))[1:].median()
    cosine = torch.cosine_similarity(added, stream, dim=-1)[1:].median()
    torch.testing.assert_close(shown[3:5], torch.stack([size, cosine]), rtol=0, atol=0.0051)
    before_mlp, by_mlp = trace["layers.2.after_attention"][row], trace["layers.2.mlp.output"][row]
    cosine = torch.cosine_similarity(by_mlp, before_mlp, dim=-1)[1:].median()
    torch.testing.assert_close(shown[6], cosine, rtol=0, atol=0.0051)


def test_what_takes_the_stream_away_has_cosine_minus_one():
    trace = Trace()
    x = torch.tensor([[[3.0, 4.0]]])
    trace.record("embedding", x, "b t d")
    trace.record("layers.0.attention.output", -x / 2, "b t d")
    trace.record("layers.0.after_attention", x / 2, "b t d")
    trace.record("layers.0.mlp.output", torch.zeros(1, 1, 2), "b t d")
    trace.record("layers.0.output", x / 2, "b t d")
    assert residual(trace).text.splitlines()[3].split()[1:] == [
        "2.500", "2.500", "2.500", "0.50", "-1.00", "0.00", "0.00",
    ]  # fmt: skip


def test_bad_input():
    with pytest.raises(InputError, match=r"run model\(ids, trace=trace\) first"):
        residual(Trace())
    for more in ({"row": 2}, {"row": -1}, {"labels": ["a"]}):
        with pytest.raises(InputError):
            residual(random_trace(), **more)
    trace = random_trace()
    del trace._tensors["layers.1.after_attention"]
    with pytest.raises(InputError, match=r"lacks 'layers\.1\.after_attention'"):
        residual(trace)
    trace = random_trace()
    trace["layers.0.output"][0, 0, 0] = torch.inf
    with pytest.raises(InputError, match="not finite"):
        residual(trace)
