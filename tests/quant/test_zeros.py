"""Sixteen numbers with a whole zero point: how near they come, and that nothing is lost in a Grouped."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from tinyphi.errors import InputError
from tinyphi.quant.groupwise import Grouped, quantize_int4, quantize_int8
from tinyphi.quant.zeros import LEAST_SCALE, fit_grid, from_zeros, grids, to_zeros

GROUPS = arrays.arrays("float32", (3, 2, 16), elements=st.floats(-1e4, 1e4, width=32))


@settings(deadline=None)
@given(GROUPS, st.booleans())
def test_rounding_is_to_the_nearest(weights, symmetric):
    weight = torch.from_numpy(weights)
    grid = fit_grid(weight, symmetric)
    assert ((grid.zeros == 8) if symmetric else (grid.zeros % 1 == 0)).all()
    assert ((grid.zeros >= 0) & (grid.zeros <= 15)).all()
    every = grid.numbers(torch.arange(16.0).view(-1, 1, 1, 1))
    nearest = (every - weight).abs().amin(0)
    error = (grid.rounded(weight) - weight).abs()
    torch.testing.assert_close(error, nearest, rtol=1e-3, atol=1e-6 * float(weight.abs().max()))
    # Half a step, and half a one for the zero point, itself rounded, or for the number missing above.
    assert (error <= grid.scales * 1.02).all()


@settings(deadline=None)
@given(GROUPS, st.booleans())
def test_zero_is_exact(weights, symmetric):
    weight = torch.from_numpy(weights)
    weight[:, :, 0] = 0
    assert (fit_grid(weight, symmetric).rounded(weight)[:, :, 0] == 0).all()


def test_groups_far_from_zero_are_reached():
    """AutoAWQ covers only smallest to largest, and with a zero point of at most 15 cuts [1, 1.1] to 0.1."""
    weight = torch.linspace(1, 1.1, 16)
    assert (fit_grid(weight).rounded(weight) - weight).abs().max() < 1.1 / 15
    assert (fit_grid(-weight).rounded(-weight) + weight).abs().max() < 1.1 / 15


def test_nothing_but_zeros():
    grid = fit_grid(torch.zeros(2, 16))
    assert (grid.scales == LEAST_SCALE).all() and (grid.zeros == 8).all()
    assert (grid.rounded(torch.zeros(2, 16)) == 0).all()


@settings(deadline=None)
@given(GROUPS, st.booleans())
def test_a_grouped_keeps_codes_scales_and_zeros(weights, symmetric):
    weight = torch.from_numpy(weights).flatten(1)
    groups, grid = grids(weight, 16, symmetric)
    scales, zeros = (part.squeeze(-1) for part in grid)
    grouped = from_zeros(grid.codes(groups).flatten(1), scales, zeros)
    assert torch.equal(grouped.scales.float(), scales)
    assert torch.equal(to_zeros(grouped).float(), zeros)
    moved = (grouped.dequantize().view_as(groups) - grid.rounded(groups)).abs()
    assert (moved <= 0.01 * grid.scales).all()
    if symmetric:
        assert grouped.minima is None and not moved.any()


def test_an_unused_group_has_any_zero_point():
    weight = Grouped(
        torch.zeros(1, 16, dtype=torch.uint8), torch.zeros(1, 1).half(), torch.zeros(1, 1).half()
    )
    assert to_zeros(weight).tolist() == [[8]]


@pytest.mark.parametrize("wrong", [float("nan"), float("inf"), -float("inf"), 3e38])
def test_weights_that_no_scale_covers(wrong):
    weight = torch.ones(2, 16)
    weight[1, 3] = wrong
    with pytest.raises(InputError, match="not finite, or too large"):
        fit_grid(weight)


def test_what_has_no_zero_point_says_so():
    weight = torch.randn(4, 32, generator=torch.Generator().manual_seed(0))
    with pytest.raises(InputError, match="8 bits"):
        to_zeros(quantize_int8(weight))
    with pytest.raises(InputError, match="of 4 groups have a minimum that is no whole number"):
        to_zeros(quantize_int4(weight, 32, symmetric=False))
    above = Grouped(torch.zeros(1, 16, dtype=torch.uint8), torch.ones(1, 1).half(), torch.ones(1, 1).half())
    with pytest.raises(InputError, match="1 of 1"):  # a minimum above zero
        to_zeros(above)
