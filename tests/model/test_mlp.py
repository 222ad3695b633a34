"""SwiGLU and GEGLU against their formulas."""

import math

import pytest
import torch

from tinyphi.model.mlp import gegelu
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


def test_gegelu_within_and_beyond_its_limit():
    """Each pair by hand; the last ones pass the limit of 20, above and below, or are infinite."""
    pairs = [(-3.0, 0.5), (0.3, -0.7), (1.0, 1.0), (25.0, -25.0), (30.0, 22.0), (-50.0, 19.5)]
    gate, up = torch.tensor(pairs, dtype=torch.float64).unbind(-1)
    held = [(min(a, 20), max(-20, min(b, 20))) for a, b in pairs]
    expected = [a / (1 + math.exp(-1.702 * a)) * (b + 1) for a, b in held]
    mine = gegelu(gate, up, 20.0)
    torch.testing.assert_close(mine, torch.tensor(expected, dtype=torch.float64), rtol=1e-12, atol=0)
    assert mine[3] == pytest.approx(-380) and mine[4] == pytest.approx(420)
    infinite = torch.tensor([math.inf, 1.0]), torch.tensor([1.0, math.inf])
    assert gegelu(*infinite, 20.0).tolist() == [math.inf, math.inf]


def test_a_geglu_in_the_mlp(make_model):
    trace = Trace()
    make_model(gegelu_limit=1.0).layers[0].mlp(torch.randn(2, 3, 48), trace)
    torch.testing.assert_close(trace["hidden"], gegelu(trace["gate"], trace["up"], 1.0))
