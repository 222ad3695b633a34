"""mlp_gates: shares, strongest channels, and the arithmetic silu(gate) · up."""

import pytest
import torch
from torch.nn.functional import silu

from tinyphi.errors import InputError
from tinyphi.model.mlp import gegelu
from tinyphi.model.trace import Trace
from tinyphi.show import mlp_gates


def random_trace(layers=(0, 1, 2), tokens=8, channels=40):
    trace, generator = Trace(), torch.Generator().manual_seed(0)
    for layer in layers:
        gate, up = (2 * torch.randn(2, tokens, channels, generator=generator) for _ in range(2))
        trace.record(f"layers.{layer}.mlp.gate", gate, "b t f")
        trace.record(f"layers.{layer}.mlp.up", up, "b t f")
    return trace


@pytest.mark.parametrize(
    ("layers", "tokens", "channels"), [((0, 1, 2), 8, 40), ((5,), 1, 1), (range(40), 512, 90)]
)
def test_faces(examine, layers, tokens, channels, strange):
    labels = [strange(i) for i in range(tokens)]
    view = examine(lambda: mlp_gates(random_trace(layers, tokens, channels), labels, layer=layers[0], row=1))
    assert view.live is not None
    assert len(layers) * len(view.live.data["labels"]) <= 2048
    assert view.live.data["counts"]["shape"][:2] == view.live.data["channel"]["shape"][:2]


def test_the_digest_says_shares_and_the_strongest_channels():
    trace = Trace()
    trace.record("layers.7.mlp.gate", torch.tensor([[[-9.0, 3.0, -1.0, 0.01]]]), "b t f")
    trace.record("layers.7.mlp.up", torch.tensor([[[5.0, 2.0, -30.0, 1.0]]]), "b t f")
    lines = mlp_gates(trace, [" hi"], layer=7).text.splitlines()
    assert lines[0] == "mlp of layer 7, 1 tokens, 4 channels"
    assert lines[2].split(maxsplit=3) == ["·hi", "50%", "50%", "2: 8.07, 1: 5.72, 0: -0.01"]


def test_the_live_face_holds_what_the_trace_has():
    import base64

    import numpy as np

    trace = random_trace()
    data = mlp_gates(trace, layer=1, row=1).live.data
    channel, gate, up = (
        np.frombuffer(base64.b64decode(data[name]["base64"]), kind).reshape(data[name]["shape"])
        for name, kind in (("channel", "<i4"), ("gate", "<f4"), ("up", "<f4"))
    )
    hidden = silu(trace["layers.2.mlp.gate"][1, 3]) * trace["layers.2.mlp.up"][1, 3]
    assert channel[2, 3, 0] == hidden.abs().argmax()
    shown = silu(torch.tensor(gate[2, 3])) * torch.tensor(up[2, 3])
    torch.testing.assert_close(shown, hidden[channel[2, 3].tolist()], rtol=1e-5, atol=1e-6)


def test_another_gate_is_refused():
    trace = random_trace((0,))
    gate, up = trace["layers.0.mlp.gate"], trace["layers.0.mlp.up"]
    trace.record("layers.0.mlp.hidden", (silu(gate) * up).bfloat16(), "b t f")
    assert mlp_gates(trace, layer=0).text
    other = random_trace((0,))
    other.record("layers.0.mlp.hidden", gegelu(gate, up, 20.0), "b t f")
    with pytest.raises(InputError, match="GEGLU"):
        mlp_gates(other, layer=0)


def test_only_the_layers_that_are_there():
    assert mlp_gates(random_trace((3, 8)), layer=8).live.data["layers"] == [3, 8]
    with pytest.raises(InputError, match="it has 3 … 8"):
        mlp_gates(random_trace((3, 8)), layer=0)


@pytest.mark.parametrize("more", [{"row": 2}, {"row": -1}, {"labels": ["a"]}, {"layer": 99}])
def test_bad_input(more):
    with pytest.raises(InputError):
        mlp_gates(random_trace(), **more)


def test_an_empty_trace_and_infinite_gates():
    with pytest.raises(InputError, match=r"run model\(ids, trace=trace\) first"):
        mlp_gates(Trace())
    trace = random_trace()
    trace["layers.0.mlp.up"][0, 0, 0] = torch.nan
    with pytest.raises(InputError, match="finite"):
        mlp_gates(trace)
