"""GPTQ equals AutoGPTQ, and the textbook that inverts the Hessian again for every column."""

import runpy
from copy import deepcopy
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file

from tinyphi.errors import InputError
from tinyphi.quant import gptq as module
from tinyphi.quant.calibration import LINEARS
from tinyphi.quant.gptq import gptq, hessians, inverse_factor, round_gptq
from tinyphi.quant.zeros import Grid, fit_grid, from_zeros, grids

MAKER = runpy.run_path(str(Path(__file__).with_name("make_awq_gptq_golden.py")))
GOLDEN = load_file(MAKER["GOLDEN"])
CASES = MAKER["GPTQ_CASES"]


@pytest.fixture(scope="module")
def example():
    """Weight (o i), inputs (t i) and their Hessian."""
    weight, inputs = MAKER["example"]()
    return weight[: MAKER["GPTQ_OUTPUTS"]], inputs, hessians([{"linear": inputs}])["linear"]


def equals_golden(case, weight, hessian):
    """Whether every code is AutoGPTQ's; the minima in float16 move a weight by a hundredth of a step."""
    rounded = round_gptq(weight, hessian, *CASES[case])
    steps = rounded.scales.float().repeat_interleave(rounded.group_size, dim=1)
    return bool(((rounded.dequantize() - GOLDEN[f"gptq.{case}"]).abs() < 0.01 * steps).all())


@pytest.mark.parametrize("case", CASES)
def test_equals_autogptq(example, case):
    weight, _, hessian = example
    assert equals_golden(case, weight, hessian)


def test_scales_do_not_forget_the_running_block(example):
    """AutoGPTQ with groups of 32 in blocks of 128 chooses scales for weights that have changed since."""
    weight, _, hessian = example
    changed = (round_gptq(weight, hessian, 32).dequantize() - GOLDEN["gptq.g32 forgetful"]).abs() > 1e-3
    assert not changed[:, :32].any()
    assert changed[:, 32:].float().mean() > 0.1


PLANTED = {
    "no damping": ("DAMPING", 0.0),
    "damped ten times as much": ("DAMPING", 0.1),
    "factor of the Hessian, not of its inverse": (
        "inverse_factor",
        lambda matrix: torch.linalg.cholesky(matrix, upper=True),
    ),
    "lower factor": ("inverse_factor", lambda matrix: inverse_factor(matrix).T),
    "another triangle: U Uᵀ": (
        "inverse_factor",
        lambda matrix: torch.linalg.cholesky(matrix.inverse()).T.flip(0, 1),
    ),
    "no compensation": ("inverse_factor", lambda matrix: torch.eye(len(matrix))),
    "a grid that is too wide": ("fit_grid", lambda weight, symmetric: fit_grid(weight * 1.2, symmetric)),
}


@pytest.mark.parametrize("mistake", PLANTED)
def test_a_planted_mistake_is_noticed(example, monkeypatch, mistake):
    weight, _, hessian = example
    name, wrong = PLANTED[mistake]
    monkeypatch.setattr(module, name, wrong)
    assert not equals_golden("g32", weight, hessian)


def test_damping_comes_after_dead_columns_are_found(example):
    """A damped Hessian has none, so their weights would stay."""
    weight, _, hessian = example
    damped = hessian + 0.01 * hessian.diagonal().mean() * torch.eye(len(hessian))
    assert round_gptq(weight, damped, 32).dequantize()[:, 77].abs().max() > 0.01
    assert round_gptq(weight, hessian, 32).dequantize()[:, 77].abs().max() < 1e-4


def textbook(weight, hessian, group_size, order):
    """Optimal brain quantization in float64, column by column: no Cholesky factor, no blocks.

    Hassibi and Stork 1993: moving weight p by −e is best made up for by −e [H⁻¹]_p,: / [H⁻¹]_pp, where H
    is that of the columns that are still free.
    """
    weight = weight.double().clone()
    hessian = hessian.double() + 0.01 * hessian.double().diagonal().mean() * torch.eye(len(hessian))
    static = grids(weight.float(), group_size)[1] if order is not None else None
    columns, grid = torch.arange(len(hessian)) if order is None else order, None
    for position, column in enumerate(columns.tolist()):
        free = columns[position:]
        inverse = hessian[free][:, free].inverse()
        group = column // group_size
        if static is not None:
            grid = Grid(static.scales[:, group], static.zeros[:, group])
        elif column % group_size == 0:
            grid = fit_grid(weight[:, column : column + group_size].float())
        rounded = grid.rounded(weight[:, [column]].float()).double()
        error = weight[:, [column]] - rounded
        weight[:, free] -= error * inverse[0] / inverse[0, 0]
        weight[:, [column]] = rounded
    return weight


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 10**6), st.sampled_from([4, 8, 24]), st.booleans(), st.integers(24, 80))
def test_equals_the_textbook(seed, group_size, act_order, tokens):
    random = torch.Generator().manual_seed(seed)
    weight = torch.randn(5, 24, generator=random)
    inputs = torch.randn(tokens, 24, generator=random) @ torch.randn(24, 24, generator=random)
    hessian = hessians([{"x": inputs}])["x"]
    order = hessian.diagonal().argsort(descending=True) if act_order else None
    expected = textbook(weight, hessian, group_size, order)
    rounded = round_gptq(weight, hessian, group_size, act_order)
    steps = rounded.scales.float().repeat_interleave(group_size, dim=1)
    # A weight halfway between two codes may go either way in float32; after it, its whole row may differ.
    agrees = ((rounded.dequantize() - expected).abs() < 0.02 * steps).all(dim=1)
    assert agrees.sum() >= len(weight) - 1


def output_error(change, inputs):
    return (inputs @ change.T).square().mean().item()


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 10**6), st.booleans(), st.booleans())
def test_outputs_are_nearer_than_with_plain_rounding(seed, act_order, symmetric):
    random = torch.Generator().manual_seed(seed)
    weight = torch.randn(16, 32, generator=random)
    inputs = torch.randn(400, 32, generator=random) @ torch.randn(32, 32, generator=random)
    rounded = round_gptq(weight, hessians([{"x": inputs}])["x"], 16, act_order, symmetric).dequantize()
    groups, grid = grids(weight, 16, symmetric)
    plain = grid.rounded(groups).flatten(1)
    assert output_error(rounded - weight, inputs) < output_error(plain - weight, inputs)


def test_the_hessian_is_a_mean_over_all_rows():
    inputs = torch.randn(3, 5, 8, generator=torch.Generator().manual_seed(0))
    x = inputs.flatten(0, 1)
    both = hessians(iter([{"a": row, "b": 2 * row} for row in inputs]))
    torch.testing.assert_close(both["a"], 2 / 15 * x.T @ x)
    torch.testing.assert_close(both["b"], 4 * both["a"])


@settings(deadline=None)
@given(st.integers(1, 40), st.integers(0, 10**6))
def test_the_factor_of_the_inverse(size, seed):
    root = torch.randn(size, 2 * size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    matrix = root @ root.T + 0.01 * torch.eye(size)
    factor = inverse_factor(matrix)
    torch.testing.assert_close(factor, factor.triu())
    torch.testing.assert_close(factor, torch.linalg.cholesky(matrix.inverse(), upper=True))


def test_a_hessian_that_cannot_be_inverted_says_so(example):
    weight, _, hessian = example
    with pytest.raises(InputError, match="cannot be inverted"):
        round_gptq(weight, hessian - 100 * torch.eye(len(hessian)), 32)
    with pytest.raises(InputError, match="cannot be inverted"):
        round_gptq(weight, hessian * float("nan"), 32)
    with pytest.raises(InputError, match="not finite"):
        round_gptq(weight * float("inf"), hessian, 32)


def test_inputs_are_not_changed(example):
    weight, _, hessian = (tensor.clone() for tensor in example)
    round_gptq(weight, hessian, 32, act_order=True)
    assert torch.equal(weight, example[0]) and torch.equal(hessian, example[2])


@pytest.mark.parametrize("act_order", [False, True])
@pytest.mark.parametrize("symmetric", [False, True])
def test_a_model_stays_nearer_to_itself(make_uneven_model, calibration_ids, act_order, symmetric):
    original = make_uneven_model()
    model, plain = deepcopy(original), deepcopy(original)
    gptq(model, calibration_ids, 16, act_order=act_order, symmetric=symmetric)
    for layer in plain.layers:
        for name in LINEARS:
            groups, grid = grids(layer.get_submodule(name).weight.detach(), 16, symmetric)
            layer.get_submodule(name).weight.data = grid.rounded(groups).flatten(1)
    with torch.no_grad():
        exact, mine, theirs = (each(calibration_ids) for each in (original, model, plain))
    assert (mine - exact).square().mean() < (theirs - exact).square().mean()
    assert (model.layers[0].mlp.down_proj.grouped().minima is None) == symmetric
    assert from_zeros is module.from_zeros
