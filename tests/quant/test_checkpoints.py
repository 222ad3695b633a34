"""Packed tensors equal those of AutoAWQ and AutoGPTQ bit for bit, and those of a loop over single bits."""

import runpy
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file

from tinyphi.errors import ConfigError, InputError, WeightsError
from tinyphi.quant import checkpoints as module
from tinyphi.quant.checkpoints import Layout, ReorderedLinear, read, write
from tinyphi.quant.gptq import round_gptq
from tinyphi.quant.groupwise import quantize_int4, quantize_int8
from tinyphi.quant.linear import GroupedLinear
from tinyphi.quant.zeros import from_zeros, to_zeros

MAKER = runpy.run_path(str(Path(__file__).with_name("make_awq_gptq_golden.py")))
GOLDEN = load_file(MAKER["GOLDEN"])
PACKED = {"awq packed": Layout.AWQ, "gptq packed": Layout.GPTQ_V1, "gptq scattered": Layout.GPTQ_V1}


def stored(part):
    """The tensors of one golden linear, and the matrix that its reference reads from them."""
    tensors = {key.split(".")[1]: value for key, value in GOLDEN.items() if key.startswith(part)}
    return tensors, tensors.pop("weight")


def reads_as_the_reference(part):
    tensors, expected = stored(part)
    weight = read(tensors, PACKED[part]).dequantize()
    steps = tensors["scales"].float().amax()
    return bool(((weight - expected).abs() < 0.01 * steps).all())


@pytest.mark.parametrize("part", PACKED)
def test_reading_equals_the_reference(part):
    assert reads_as_the_reference(part)
    layer = read(stored(part)[0], PACKED[part])
    assert isinstance(layer, ReorderedLinear if part == "gptq scattered" else GroupedLinear)


@pytest.mark.parametrize("part", ["awq packed", "gptq packed"])
def test_writing_equals_the_reference_bit_for_bit(part):
    tensors, _ = stored(part)
    written = write(read(tensors, PACKED[part]).grouped(), PACKED[part])
    assert written.keys() == set(PACKED[part].tensors) == tensors.keys()
    for name, tensor in tensors.items():
        assert torch.equal(written[name], tensor) and written[name].dtype == tensor.dtype, name
        assert written[name].is_contiguous()


PLANTED = {
    "AWQ in plain order": ("AWQ_ORDER", tuple(range(8)), ["awq packed"]),
    "AWQ in the order that undoes it": ("AWQ_ORDER", (0, 4, 1, 5, 2, 6, 3, 7), ["awq packed"]),
    "GPTQ in AWQ's order": ("PLAIN_ORDER", (0, 2, 4, 6, 1, 3, 5, 7), ["gptq packed", "gptq scattered"]),
    "zero points one too low": (
        "from_zeros",
        lambda codes, scales, zeros: from_zeros(codes, scales, zeros - 1),
        list(PACKED),
    ),
    "columns left as they lie": (
        "ReorderedLinear",
        lambda weight, order: GroupedLinear(weight),
        ["gptq scattered"],
    ),
    "columns put back the wrong way": (
        "ReorderedLinear",
        lambda weight, order: ReorderedLinear(weight, order.argsort()),
        ["gptq scattered"],
    ),
}


@pytest.mark.parametrize("mistake", PLANTED)
def test_a_planted_mistake_is_noticed(monkeypatch, mistake):
    name, wrong, parts = PLANTED[mistake]
    monkeypatch.setattr(module, name, wrong)
    for part in parts:
        assert not reads_as_the_reference(part), part


# Below: the layouts once more, as loops over single numbers.


def grouped(outputs, groups, group_size, lowest_zero, seed):
    random = torch.Generator().manual_seed(seed)
    codes = torch.randint(0, 16, (outputs, groups * group_size), generator=random)
    zeros = torch.randint(lowest_zero, 16, (outputs, groups), generator=random)
    return from_zeros(codes, torch.rand(outputs, groups, generator=random) + 0.01, zeros)


def word(numbers):
    """Eight numbers as one int32, the first in the lowest bits."""
    value = sum(int(number) * 16**place for place, number in enumerate(numbers))
    return value - 2**32 if value >= 2**31 else value


def packed_by_loops(weight, layout):
    codes, zeros = weight.codes.numpy(), to_zeros(weight).numpy()
    outputs, inputs = codes.shape
    order = [0, 2, 4, 6, 1, 3, 5, 7] if layout is Layout.AWQ else range(8)
    taken_off = 1 if layout is Layout.GPTQ_V1 else 0
    qzeros = [
        [word([zeros[o + k, n] - taken_off for k in order]) for o in range(0, outputs, 8)]
        for n in range(zeros.shape[1])
    ]
    if layout is Layout.AWQ:
        qweight = [
            [word([codes[o + k, i] for k in order]) for o in range(0, outputs, 8)] for i in range(inputs)
        ]
    else:
        qweight = [
            [word([codes[o, i + k] for k in order]) for o in range(outputs)] for i in range(0, inputs, 8)
        ]
    tensors = {"qweight": np.array(qweight), "qzeros": np.array(qzeros), "scales": weight.scales.numpy().T}
    if layout is not Layout.AWQ:
        tensors["g_idx"] = np.array([i // weight.group_size for i in range(inputs)])
    return tensors


@settings(deadline=None, max_examples=40)
@given(
    st.sampled_from(list(Layout)),
    st.integers(1, 3),
    st.integers(1, 3),
    st.integers(1, 3),
    st.integers(0, 10**6),
)
def test_packing_equals_loops_and_comes_back(layout, outputs, groups, group_size, seed):
    weight = grouped(8 * outputs, groups, 8 * group_size, 1 if layout is Layout.GPTQ_V1 else 0, seed)
    tensors = write(weight, layout)
    for name, expected in packed_by_loops(weight, layout).items():
        assert np.array_equal(tensors[name].numpy(), expected), name
    back = read(tensors, layout).grouped()
    assert torch.equal(back.codes, weight.codes)
    assert torch.equal(back.scales, weight.scales)
    assert torch.equal(to_zeros(back), to_zeros(weight))


@pytest.mark.parametrize("layout", list(Layout))
def test_symmetric_weights_need_no_minima_when_read(layout):
    weight = quantize_int4(torch.randn(16, 64, generator=torch.Generator().manual_seed(0)), 32)
    tensors = write(weight, layout)
    assert (tensors["qzeros"] == (0x77777777 if layout is Layout.GPTQ_V1 else 0x88888888 - 2**32)).all()
    back = read(tensors, layout).grouped()
    assert back.minima is None
    assert torch.equal(back.dequantize(), weight.dequantize())


def test_what_gptq_rounds_can_be_written():
    weight, inputs = MAKER["example"]()
    hessian = 2 * inputs.T @ inputs / len(inputs)
    for symmetric in (False, True):
        rounded = round_gptq(weight, hessian, 32, act_order=True, symmetric=symmetric)
        layer = read(write(rounded, Layout.GPTQ_V1), Layout.GPTQ_V1)
        assert torch.equal(layer.dequantize(), rounded.dequantize())


@pytest.mark.parametrize("part", PACKED)
def test_a_layer_multiplies_with_what_it_dequantizes(part):
    layer = read(stored(part)[0], PACKED[part])
    x = torch.randn(2, 3, 128, generator=torch.Generator().manual_seed(0))
    expected = x @ layer.dequantize().T
    torch.testing.assert_close(layer(x), expected, rtol=0, atol=0.02 * expected.abs().max().item())
    ids = torch.tensor([[5, 0], [31, 5]])
    torch.testing.assert_close(layer.rows(ids), layer.dequantize()[ids], rtol=0, atol=1e-6)
    assert layer.nbytes == sum(tensor.nbytes for tensor in layer.stored().values())


def test_a_reordered_layer_keeps_its_types():
    tensors, _ = stored("gptq scattered")
    layer = read(tensors, Layout.GPTQ_V1)
    before = layer.dequantize()
    layer.to(torch.bfloat16)
    assert torch.equal(layer.dequantize(), before)
    assert layer(torch.ones(1, 128, dtype=torch.bfloat16)).dtype == torch.bfloat16
    assert layer.stored()["order"].sort().values.tolist() == list(range(128))
    assert layer.format == "int4, groups of 32 with minima, columns reordered"


# Traps


def test_a_zero_point_of_zero_has_no_place_in_the_first_gptq_layout():
    weight = grouped(8, 2, 16, 0, seed=1)
    zeros = to_zeros(weight)
    zeros[0, 1], zeros[0, 0] = 0, 1
    weight = from_zeros(weight.codes, weight.scales, zeros)
    with pytest.raises(InputError, match=r"groups have the zero point 0\. .* 'gptq_v2'"):
        write(weight, Layout.GPTQ_V1)
    for layout in (Layout.AWQ, Layout.GPTQ_V2):
        assert torch.equal(to_zeros(read(write(weight, layout), layout).grouped()), zeros)


def test_a_stored_15_is_the_zero_point_0():
    tensors = write(grouped(8, 1, 16, 1, seed=2), Layout.GPTQ_V1)
    tensors["qzeros"].fill_(-1)
    assert not to_zeros(read(tensors, Layout.GPTQ_V1).grouped()).any()


@pytest.mark.parametrize("layout", list(Layout))
def test_weights_that_do_not_fit_say_so(layout):
    random = torch.randn(12, 64, generator=torch.Generator().manual_seed(0))
    with pytest.raises(InputError, match="12 × 64 weights do not fit"):
        write(quantize_int4(random, 32), layout)
    with pytest.raises(InputError, match="8 × 4 weights"):
        write(quantize_int4(random[:8, :4], 4), layout)
    with pytest.raises(InputError, match="8 bits"):
        write(quantize_int8(random[:8]), layout)
    with pytest.raises(InputError, match="no whole number of steps"):
        write(quantize_int4(random[:8], 32, symmetric=False), layout)


AWQ = {"quant_method": "awq", "bits": 4, "group_size": 128, "zero_point": True, "version": "gemm"}
GPTQ = {"quant_method": "gptq", "bits": 4, "group_size": 128, "desc_act": True, "sym": True, "lm_head": False}


@pytest.mark.parametrize(
    ("quantization_config", "layout"),
    [
        (AWQ, Layout.AWQ),
        (AWQ | {"version": "GEMM", "modules_to_not_convert": None}, Layout.AWQ),
        (GPTQ, Layout.GPTQ_V1),
        (GPTQ | {"checkpoint_format": "gptq", "meta": {"quantizer": ["gptqmodel:1.4.5"]}}, Layout.GPTQ_V1),
        (GPTQ | {"checkpoint_format": "gptq_v2", "pack_dtype": "int32"}, Layout.GPTQ_V2),
    ],
)
def test_the_layout_of_a_config(quantization_config, layout):
    assert Layout.of(quantization_config) is layout


@pytest.mark.parametrize(
    ("quantization_config", "message"),
    [
        ({}, "quant_method is None"),
        ({"quant_method": "bitsandbytes"}, "'bitsandbytes'; tinyphi reads 'awq' and 'gptq'"),
        (AWQ | {"version": "gemv"}, "version is 'gemv'.*only 'gemm'"),
        (AWQ | {"bits": 8}, "bits is 8 .*only 4"),
        (AWQ | {"zero_point": False}, "zero_point is False"),
        (GPTQ | {"bits": 3}, "bits is 3"),
        (GPTQ | {"checkpoint_format": "marlin"}, "checkpoint_format is 'marlin'.*'gptq' or 'gptq_v2'"),
        (GPTQ | {"is_marlin_format": True}, "is_marlin_format is True"),
        (GPTQ | {"lm_head": True}, "lm_head is True"),
        (GPTQ | {"dynamic": {"-:.*": {}}}, "dynamic is"),
    ],
)
def test_a_config_of_another_layout_says_so(quantization_config, message):
    with pytest.raises(ConfigError, match=message):
        Layout.of(quantization_config)


def damaged(**changes):
    tensors = write(grouped(16, 2, 16, 1, seed=3), Layout.GPTQ_V1) | changes
    return {name: tensor for name, tensor in tensors.items() if tensor is not None}


INT, HALF = torch.int32, torch.float16


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"qzeros": None, "g_idx": None}, "has no qzeros, g_idx"),
        ({"bias": torch.ones(16)}, "has a bias"),
        ({"qweight": torch.zeros(4, 16)}, "must be int32"),
        ({"scales": torch.zeros(2, 16, dtype=INT)}, "must be int32 and scales float16"),
        ({"qweight": torch.zeros(4, dtype=INT)}, "must be matrices"),
        ({"scales": torch.zeros(0, 16, dtype=HALF)}, "none of them empty"),
        ({"qweight": torch.zeros(4, 8, dtype=INT)}, r"\(4, 8\).* are not of one gptq matrix"),
        ({"qzeros": torch.zeros(2, 3, dtype=INT)}, "are not of one gptq matrix"),
        ({"scales": torch.zeros(3, 16, dtype=HALF), "qzeros": torch.zeros(3, 2, dtype=INT)}, "not of one"),
        ({"scales": torch.full((2, 16), float("nan"), dtype=HALF)}, "scales are not finite"),
        ({"scales": torch.full((2, 16), 6e4, dtype=HALF)}, "scales are not finite, or too large"),
        ({"g_idx": torch.zeros(32, dtype=INT)}, "g_idx must put 16 of the 32 columns into each of 2 groups"),
        ({"g_idx": torch.arange(30, dtype=INT) // 15}, "g_idx must"),
        ({"g_idx": torch.arange(32, dtype=INT) // 16 - 1}, "g_idx must"),
        ({"g_idx": torch.arange(32, dtype=INT)[None] // 16}, "g_idx must"),
        ({"g_idx": torch.arange(32) / 16}, "g_idx must"),
    ],
)
def test_damaged_tensors_say_so(changes, message):
    with pytest.raises(WeightsError, match=message):
        read(damaged(**changes), Layout.GPTQ_V1)


def test_a_bias_of_zeros_is_none():
    read(damaged(bias=torch.zeros(16)), Layout.GPTQ_V1)


def test_scales_in_bfloat16_are_taken():
    tensors = damaged()
    layer = read(tensors | {"scales": tensors["scales"].bfloat16()}, Layout.GPTQ_V1)
    assert layer.grouped().scales.dtype == torch.float16
