"""SwiGLU against its formula."""

import torch

from tinyphi.model.trace import NO_TRACE, Trace


def test_equals_the_formula(make_model):
    mlp, x = make_model().layers[0].mlp, torch.randn(2, 3, 48)
    gate, up = mlp.gate_up_proj.weight[:64], mlp.gate_up_proj.weight[64:]
    hidden = (x @ up.T) * torch.nn.functional.silu(x @ gate.T)
    torch.testing.assert_close(mlp(x, NO_TRACE), hidden @ mlp.down_proj.weight.T)


def test_swapping_the_halves_changes_the_result(make_model):
    mlp, x = make_model().layers[0].mlp, torch.randn(2, 3, 48)
    before = mlp(x, NO_TRACE)
    with torch.no_grad():
        mlp.gate_up_proj.weight.copy_(mlp.gate_up_proj.weight.roll(64, 0))
    assert (mlp(x, NO_TRACE) - before).abs().max() > 0.1


def test_the_trace_holds_the_parts(make_model):
    trace = Trace()
    make_model().layers[0].mlp(torch.randn(2, 3, 48), trace)
    assert list(trace) == ["gate", "up", "hidden", "output"]
    torch.testing.assert_close(trace["hidden"], trace["up"] * torch.nn.functional.silu(trace["gate"]))
