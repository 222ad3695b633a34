"""Rounding in groups: no weight is further than half a step from its code, whatever the weights are."""

import pytest
import torch
from hypothesis import HealthCheck, assume, example, given, settings
from hypothesis import strategies as st

from tinyphi.errors import InputError
from tinyphi.quant import groupwise
from tinyphi.quant.groupwise import Grouped, quantize_int4, quantize_int8

DTYPES = [torch.float32, torch.bfloat16, torch.float16, torch.float64]
SEEDS = st.integers(0, 2**32 - 1)
FLOAT32 = 2.0**-24  # the largest relative error of one operation in float32
METHODS = {
    "int8": lambda weight, group_size: quantize_int8(weight),
    "int4": quantize_int4,
    "int4 with minima": lambda weight, group_size: quantize_int4(weight, group_size, symmetric=False),
}


@st.composite
def matrices(draw):
    """(o i) and a group size. Groups tiny and large: zeros, equal weights, far from zero, with an outlier."""
    random = torch.Generator().manual_seed(draw(SEEDS))
    outputs, groups = draw(st.integers(1, 4)), draw(st.integers(1, 4))
    size = draw(st.sampled_from([1, 3, 32, 64]))
    weight = torch.randn(outputs, groups, size, generator=random, dtype=torch.float64)
    for row in weight:
        for group in row:
            kind = draw(st.sampled_from(["normal", "zeros", "equal", "far from zero", "outlier"]))
            if kind == "zeros":
                group.zero_()
            elif kind == "equal":
                group.fill_(group[0].item())
            elif kind == "far from zero":
                group.div_(1000).add_(draw(st.sampled_from([-1, 1])))
            elif kind == "outlier":
                group[0] = 1000 * group[0]
            group.mul_(10.0 ** draw(st.integers(-12, 3)))
    weight = weight.flatten(1).clamp(-65000, 65000)  # in reach of float16
    return weight.to(draw(st.sampled_from(DTYPES))), size


def within_half_a_step(weight: torch.Tensor, quantized: Grouped) -> bool:
    """Whether |W − dequantized| is at most half a stored step, or what float16 took from a minimum."""
    exact = weight.float().double()
    groups = exact.view(*quantized.scales.shape, -1)
    allowed = quantized.scales.double() / 2
    if quantized.minima is not None:
        lost = (quantized.minima.double() - groups.amin(-1)).clamp(min=0)
        # Rounding to float16 moves a number by half a unit of its 11th bit, or of 2^-24 if it is very small.
        assert (lost <= groups.amin(-1).abs() * 2.0**-11 + 2.0**-25).all()
        allowed = torch.maximum(allowed, lost)
    # Subtraction, division and the sum of dequantization are rounded to float32.
    slack = 4 * FLOAT32 * groups.abs().amax(-1)
    error = (quantized.dequantize().double() - exact).view(groups.shape).abs().amax(-1)
    return bool((error <= allowed + slack).all())


@pytest.mark.parametrize("method", METHODS)
@settings(max_examples=150, deadline=None)
@given(matrices())
def test_no_weight_is_further_than_half_a_step_from_its_code(method, matrix):
    weight, size = matrix
    before = weight.clone()
    quantized = METHODS[method](weight, size)
    assert torch.equal(weight, before)
    assert within_half_a_step(weight, quantized)
    assert quantized.group_size == (weight.shape[1] if method == "int8" else size)
    assert quantized.codes.dtype == (torch.int8 if method == "int8" else torch.uint8)
    assert quantized.scales.dtype == torch.float16 and quantized.scales.isfinite().all()
    low, high = {"int8": (-127, 127), "int4": (1, 15), "int4 with minima": (0, 15)}[method]
    assert low <= quantized.codes.min() and quantized.codes.max() <= high


@pytest.mark.parametrize("method", METHODS)
@settings(max_examples=50, deadline=None)
@given(matrices())
def test_steps_are_no_longer_than_needed(method, matrix):
    weight, size = matrix
    quantized = METHODS[method](weight, size)
    groups = weight.float().double().view(*quantized.scales.shape, -1)
    if quantized.minima is None:
        needed = groups.abs().amax(-1) / (127 if method == "int8" else 7)
    else:
        needed = (groups.amax(-1) - quantized.minima.double()).clamp(min=0) / 15
    assert (quantized.scales.double() <= needed * (1 + 2.0**-11 + 2 * FLOAT32) + 2.0**-24).all()


@pytest.mark.parametrize("method", METHODS)
@settings(max_examples=50, deadline=None)
@given(matrices())
def test_all_dtypes_compute_in_float32(method, matrix):
    weight, size = matrix
    mine, full = METHODS[method](weight, size), METHODS[method](weight.float(), size)
    assert torch.equal(mine.codes, full.codes) and torch.equal(mine.scales, full.scales)


@settings(max_examples=50, deadline=None)
@given(matrices())
def test_symmetric_grids_treat_both_signs_alike(matrix):
    weight, size = matrix
    assert torch.equal(quantize_int8(-weight).codes, -quantize_int8(weight).codes)
    assert torch.equal(quantize_int4(-weight, size).codes, 16 - quantize_int4(weight, size).codes)


@settings(  # matrices of very small numbers, of which some runs draw many, are left out below
    max_examples=50, deadline=None, suppress_health_check=[HealthCheck.filter_too_much]
)
@given(matrices())
def test_what_was_rounded_is_not_rounded_again(matrix):
    weight, size = matrix
    for once, again in (
        (quantize_int8(weight), quantize_int8),
        (quantize_int4(weight, size), lambda rounded: quantize_int4(rounded, size)),
    ):
        # Where float16 is coarse, the largest weight need not be at the end of the grid.
        assume((once.scales == 0).logical_or(once.scales >= 2.0**-14).all())
        assert torch.equal(again(once.dequantize()).codes, once.codes)


def test_by_hand():
    weight = torch.tensor([[3.5, -3.5, 0.3, 0.2, -0.25, 0.25, 0.75, 0.0]])
    symmetric = quantize_int4(weight, group_size=4)
    assert symmetric.scales[0, 0] == 0.5
    assert symmetric.codes[0, :4].tolist() == [15, 1, 9, 8]
    rows = quantize_int8(torch.tensor([[127.0, -127.0, 2.5, 3.5, -0.4], [254.0, 1.1, -3, 0, 0]]))
    assert rows.scales.tolist() == [[1], [2]]
    assert rows.codes.tolist() == [[127, -127, 2, 4, 0], [127, 1, -2, 0, 0]]  # ties go to the even number
    minima = quantize_int4(torch.tensor([[10.0, 25, 11.4, 11.6]]), group_size=4, symmetric=False)
    assert (minima.minima.item(), minima.scales.item()) == (10, 1)
    assert minima.codes.tolist() == [[0, 15, 1, 2]]


def test_zeros_and_equal_weights():
    for quantized in (quantize_int8(torch.zeros(2, 64)), quantize_int4(torch.zeros(2, 64))):
        assert (quantized.scales == 0).all() and (quantized.dequantize() == 0).all()
    for value in (0.1, -0.1, 3e-7, -1000.1, 2.0):
        weight = torch.full((2, 64), value)
        rounded = quantize_int4(weight, symmetric=False).dequantize()
        torch.testing.assert_close(rounded, weight, rtol=2.0**-11, atol=2.0**-25)
        torch.testing.assert_close(quantize_int4(weight).dequantize(), weight, rtol=2.0**-11, atol=2.0**-25)


@pytest.mark.parametrize("method", METHODS)
def test_scales_too_small_for_float16(method):
    """A scale that float16 would make zero, or a third smaller than it is, still reaches every weight."""
    for largest in (1e-45, 1e-9, 7 * 2.0**-26, 7 * 1.49 * 2.0**-24, 127 * 1.49 * 2.0**-24, 1e-5):
        weight = torch.linspace(-largest, largest, 32).unsqueeze(0)
        quantized = METHODS[method](weight, 32)
        assert within_half_a_step(weight, quantized)
        assert quantized.scales.item() > 0


def test_the_largest_weights_and_beyond():
    weight = torch.zeros(2, 64)
    weight[1, 40] = -65504 * 7
    assert quantize_int4(weight).dequantize()[1, 40] == -65504 * 7
    with pytest.raises(InputError, match=r"would be 9\.36e\+05, but float16 ends at 65504.*look for damage"):
        quantize_int4(weight * 100 / 7)
    with pytest.raises(InputError, match=r"minimum would be 4\.59e"):
        quantize_int4(weight, symmetric=False)
    with pytest.raises(InputError, match="float16 ends"):
        quantize_int8(weight * 20)


@pytest.mark.parametrize("value", ["nan", "inf", "-inf"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_infinities(value, dtype):
    weight = torch.ones(3, 32, dtype=dtype)
    weight[1, 7] = weight[2, 0] = float(value)
    for method in METHODS.values():
        with pytest.raises(InputError, match=f"in 2 of .* 96 .* first is {value} at row 1, column 7"):
            method(weight, 32)


def test_float64_beyond_float32():
    with pytest.raises(InputError, match=r"first is 1e\+300 at row 0, column 0"):
        quantize_int8(torch.full((1, 2), 1e300, dtype=torch.float64))


@settings(max_examples=200, deadline=None)
@given(st.integers(1, 600), st.integers(-2, 300))
@example(100, 32)
@example(97, 32)
def test_groups_that_do_not_divide(inputs, size):
    weight = torch.ones(1, inputs)
    if size > 0 and inputs % size == 0:
        assert quantize_int4(weight, size).scales.shape == (1, inputs // size)
        return
    with pytest.raises(
        InputError, match=f"Groups of {size} do not divide a row of {inputs} weights"
    ) as raised:
        quantize_int4(weight, size)
    offered = str(raised.value).split("does: ")[1].rstrip(".").split(", ")
    for choice in map(int, offered):
        assert quantize_int4(weight, choice).group_size == choice


@pytest.mark.parametrize(
    "weight", [torch.ones(4), torch.ones(2, 3, 4), torch.ones(0, 4), torch.ones(4, 0), torch.ones(2, 4).int()]
)
def test_what_is_no_matrix(weight):
    with pytest.raises(InputError, match="takes a matrix"):
        quantize_int8(weight)


def test_parameters_leave_no_gradient_behind():
    quantized = quantize_int4(torch.nn.Parameter(torch.randn(2, 64)), symmetric=False)
    assert not (quantized.scales.requires_grad or quantized.minima.requires_grad)


PLANTED = {
    # the mistake → a function to replace, its replacement
    "too small scales are left as they are": ("_scales", lambda reach, steps: (reach / steps).half()),
    "steps are cut off, not rounded": (
        "_steps",
        lambda distances, scales: (distances / scales.float().unsqueeze(-1).clamp(min=1e-9)).trunc(),
    ),
    "the grid ends before the largest weight": (
        "_scales",
        lambda reach, steps, right=groupwise._scales: right(reach, steps + 1),
    ),
    "codes are computed with another scale than is stored": (
        "_steps",
        lambda distances, scales, right=groupwise._steps: right(distances, scales * 1.02),
    ),
}


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("mistake", PLANTED)
def test_a_planted_mistake_is_noticed(method, mistake, monkeypatch):
    monkeypatch.setattr(groupwise, *PLANTED[mistake])
    torch.manual_seed(0)
    weight = torch.randn(64, 64) * 10.0 ** torch.linspace(-7, 0, 64).unsqueeze(1)
    assert not within_half_a_step(weight, METHODS[method](weight, 32))
