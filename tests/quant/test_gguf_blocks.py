"""Blocks of GGUF: the simple formats equal ggml's bit for bit, the K-quants lose no more than ggml's own."""

import json
import os
import runpy
from pathlib import Path

import gguf
import numpy as np
import pytest
import torch
from gguf import GGMLQuantizationType as Kind
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from tinyphi.errors import InputError
from tinyphi.quant import gguf_blocks as module
from tinyphi.quant.gguf_blocks import (
    BLOCK_FORMATS,
    BlockLinear,
    block_format,
    from_grouped,
    grouped_kind,
    to_grouped,
)
from tinyphi.quant.groupwise import Grouped
from tinyphi.quant.linear import GroupedLinear

maker = runpy.run_path(str(Path(__file__).with_name("make_gguf_golden.py")))
SIMPLE, K_QUANTS = ("q8_0", "q4_0", "q4_1"), ("q4_k", "q6_k")
KINDS = (*SIMPLE, *K_QUANTS)


@pytest.fixture(scope="module")
def ggml():
    """ggml's reference quantizers in C. Without them: skipped, but an error where they are promised."""
    try:
        maker["quantize_by_ggml"]("q4_0", np.zeros(32))
    except (ImportError, OSError, IndexError, AttributeError) as error:
        reason = f"llama.cpp's C library is not here ({error}); pip install llama-cpp-python"
        if os.environ.get("TINYPHI_NEED_LLAMACPP"):
            pytest.fail(reason)
        pytest.skip(reason)
    return maker["quantize_by_ggml"]


def quantized(kind, numbers):
    return BLOCK_FORMATS[kind].quantize(torch.from_numpy(numbers)).numpy()


def by_gguf(kind, numbers):
    with np.errstate(all="ignore"):
        blocks = gguf.quants.quantize(numbers, Kind[kind.upper()])
    return blocks.reshape(-1, BLOCK_FORMATS[kind].nbytes)


def decoded(kind, blocks):
    return BLOCK_FORMATS[kind].dequantize(torch.from_numpy(blocks)).numpy()


def differing(kind, numbers, reference):
    """How many blocks differ from the reference's.

    Not counted: blocks of numbers so small that 1/scale overflows. C leaves open which codes that gives; in
    float16 their scale is 0, so the numbers that they stand for must be equal.
    """
    mine, theirs = quantized(kind, numbers), reference(kind, numbers)
    rows = numbers.reshape(-1, 32)
    reach = np.ptp(rows, axis=1) / 15 if kind == "q4_1" else np.abs(rows).max(axis=1) / 127
    defined = (reach == 0) | (reach > 1e-37)
    np.testing.assert_array_equal(decoded(kind, mine)[~defined], decoded(kind, theirs)[~defined])
    return int((mine != theirs)[defined].any(axis=1).sum())


@st.composite
def arrays(draw, numbers=32):
    """Blocks of every temper, from float32's subnormals to the largest that float16 allows."""
    random = np.random.default_rng(draw(st.integers(0, 2**32)))
    shape = draw(st.tuples(st.integers(1, 3), st.integers(1, 3)))
    shape = (shape[0], shape[1] * numbers)
    temper = draw(
        st.sampled_from(["normal", "whole", "halves", "one", "equal", "zero", "outlier", "positive"])
    )
    rows = {
        "normal": lambda: random.normal(size=shape),
        "whole": lambda: random.integers(-8, 9, shape),  # ties: several largest, several smallest
        "halves": lambda: random.integers(-254, 255, shape) / 2,  # exactly between two codes
        "one": lambda: np.eye(1, shape[1], random.integers(shape[1])).repeat(shape[0], 0) * random.normal(),
        "equal": lambda: np.full(shape, random.normal()),
        "zero": lambda: np.zeros(shape),
        "outlier": lambda: random.normal(size=shape) * np.where(random.random(shape) < 0.05, 100, 1),
        "positive": lambda: random.random(shape) + 3,
    }[temper]()
    scale = 10.0 ** draw(st.one_of(st.integers(-30, 1), st.just(-40), st.just(2)))
    return (rows * scale).astype(np.float32) + np.float32(0)  # + 0: no negative zeros


@pytest.mark.parametrize("kind", SIMPLE)
@given(numbers=arrays())
@settings(deadline=None, max_examples=80)
def test_simple_formats_equal_gguf_bit_for_bit(kind, numbers):
    assert differing(kind, numbers, by_gguf) == 0


@pytest.mark.parametrize("kind", SIMPLE)
@given(numbers=arrays(), signs=st.integers(0, 2**32))
@settings(deadline=None, max_examples=40)
def test_simple_formats_equal_c_bit_for_bit(ggml, kind, numbers, signs):
    signed = np.random.default_rng(signs).choice([-1, 1], numbers.shape)
    numbers = np.where(numbers == 0, signed * np.float32(0), numbers)  # here with negative zeros
    assert differing(kind, numbers, ggml) == 0


def half_to_even(x):
    scale = x.abs().amax(dim=1, keepdim=True) / 127
    codes = (x * module._inverse(scale)).round().to(torch.int8)
    return torch.cat((module._half_bytes(scale), codes.view(torch.uint8)), dim=1)


PLANTED = {
    # the mistake → a function to replace, its replacement, the formats that must notice
    "scale rounded before the codes": (
        "_inverse",
        lambda scale, right=module._inverse: right(scale.half().float()),
        SIMPLE,
    ),
    "high half first": (
        "_pack",
        lambda codes, right=module._pack: right(codes.roll(codes.shape[-1] // 2, -1)),
        ("q4_0", "q4_1"),
    ),
    "half to even": ("_encode_q8_0", half_to_even, ("q8_0",)),
}


@pytest.mark.parametrize("mistake", PLANTED)
def test_a_planted_mistake_is_noticed(monkeypatch, mistake):
    function, wrong, kinds = PLANTED[mistake]
    random = np.random.default_rng(2)
    halves = random.integers(-254, 255, (8, 32)) / 2
    halves[:, 0] = 127
    numbers = np.concatenate((random.normal(size=(500, 32)), halves)).astype(np.float32)
    monkeypatch.setattr(module, function, wrong)
    for kind in kinds:
        assert differing(kind, numbers, by_gguf) > 0, kind


# K-quants


def error(kind, numbers):
    return maker["root_mean_square_error"](kind, quantized(kind, numbers), numbers)


@pytest.fixture(scope="module")
def golden():
    return json.loads(maker["GOLDEN"].read_text(encoding="utf-8"))


@pytest.mark.parametrize("name", maker["matrices"]())
@pytest.mark.parametrize("kind", K_QUANTS)
def test_k_quants_lose_no_more_than_llama_cpp(kind, name, golden):
    assert error(kind, maker["matrices"]()[name]) <= golden[kind][name]


def test_the_golden_errors_are_those_of_llama_cpp(ggml, golden):
    for kind, errors in maker["measure"]().items():
        assert errors == pytest.approx(golden[kind], rel=1e-6)


@pytest.mark.parametrize("kind", K_QUANTS)
def test_k_quants_lose_no_more_than_llama_cpp_on_other_numbers(ggml, kind):
    for seed in range(3):
        random = np.random.default_rng(seed)
        numbers = random.laplace(size=(300, 768)) * np.exp(random.normal(size=(300, 1)))
        numbers = numbers.astype(np.float32)
        theirs = maker["root_mean_square_error"](kind, ggml(kind, numbers), numbers)
        assert error(kind, numbers) <= theirs


PLANTED_SEARCH = {
    "no search for the scale": ("_fit_line", lambda x: (x.amax(-1, True) / 15, -x.amin(-1, True)), "q4_k"),
    "scales and minima swapped": (
        "_pack_six_bits",
        lambda s, m, right=module._pack_six_bits: right(m, s),
        "q4_k",
    ),
    "no search among whole numbers": (
        "_whole_scale",
        lambda groups, scales, d: module._round_to(scales, d, -128, 127),
        "q6_k",
    ),
    "codes not clamped from below": (
        "_round_to",
        lambda x, scale, low, high, right=module._round_to: right(x, scale, max(low, -31), high),
        "q6_k",
    ),
}


@pytest.mark.parametrize("mistake", PLANTED_SEARCH)
def test_a_planted_mistake_in_the_search_is_noticed(monkeypatch, mistake):
    function, wrong, kind = PLANTED_SEARCH[mistake]
    before = {name: error(kind, numbers) for name, numbers in maker["matrices"]().items()}
    monkeypatch.setattr(module, function, wrong)
    after = {name: error(kind, numbers) for name, numbers in maker["matrices"]().items()}
    assert sum(after[name] > before[name] * 1.0005 for name in before) >= len(before) / 2


@pytest.mark.parametrize("kind", K_QUANTS)
@given(numbers=arrays(256))
@settings(deadline=None, max_examples=40)
def test_k_quants_are_never_worse_than_zeros(kind, numbers):
    blocks = quantized(kind, numbers)
    values = decoded(kind, blocks)
    theirs = gguf.quants.dequantize(blocks, Kind[kind.upper()])
    np.testing.assert_array_equal(values.view(np.int32), theirs.view(np.int32))
    rows = numbers.reshape(-1, 256).astype(np.float64)
    assert (((values - rows) ** 2).sum(1) <= (rows**2).sum(1) * (1 + 1e-6)).all()


@pytest.mark.parametrize("kind", K_QUANTS)
@pytest.mark.parametrize("value", [0.0, 0.37, -2.5])
def test_k_quants_of_equal_numbers(kind, value):
    values = decoded(kind, quantized(kind, np.full((2, 256), value, np.float32)))
    np.testing.assert_allclose(values, value, rtol=1e-3)


# All formats


@pytest.mark.parametrize("kind", KINDS)
def test_pieces_and_other_memory_change_nothing(monkeypatch, kind):
    x = torch.randn(6, 768, generator=torch.Generator().manual_seed(1))
    whole = BLOCK_FORMATS[kind].quantize(x)
    assert whole.shape == (6 * 768 // BLOCK_FORMATS[kind].numbers, BLOCK_FORMATS[kind].nbytes)
    monkeypatch.setattr(module, "_PIECE", 512)
    assert torch.equal(BLOCK_FORMATS[kind].quantize(x), whole)
    assert torch.equal(BLOCK_FORMATS[kind].quantize(x.view(2, 3, 768)), whole)
    assert torch.equal(BLOCK_FORMATS[kind].quantize(x.T.contiguous().T), whole)
    assert torch.equal(BLOCK_FORMATS[kind].quantize(x.double().requires_grad_()), whole)
    rounded = x.bfloat16()
    assert torch.equal(BLOCK_FORMATS[kind].quantize(rounded), BLOCK_FORMATS[kind].quantize(rounded.float()))
    assert BLOCK_FORMATS[kind].quantize(x[:0]).shape == (0, BLOCK_FORMATS[kind].nbytes)


@pytest.mark.parametrize("kind", KINDS)
def test_numbers_that_have_no_blocks_are_refused(kind):
    form = BLOCK_FORMATS[kind]
    for wrong in (torch.zeros(2, form.numbers + 16), torch.zeros(()), torch.zeros(form.numbers).long()):
        with pytest.raises(InputError, match=f"hold {form.numbers} neighbouring"):
            form.quantize(wrong)
    for bad in (torch.nan, torch.inf, -torch.inf, 1e30, -65505.0):
        x = torch.ones(3, form.numbers)
        x[1, 7] = bad
        with pytest.raises(InputError, match="NaN, an infinity or one beyond ±65504"):
            form.quantize(x)
    for raw in (torch.zeros(2, 5), torch.zeros(2, 5).byte(), torch.zeros(form.nbytes).byte()):
        with pytest.raises(InputError, match=f"{form.nbytes} bytes"):
            form.dequantize(raw)


def test_the_largest_numbers_have_blocks():
    x = torch.full((1, 256), 65504.0)
    x[0, ::3] *= -1
    for kind in KINDS:
        values = decoded(kind, quantized(kind, x.numpy()))
        assert np.isfinite(values).all()
        assert np.abs(values.reshape(-1) - x.numpy()[0]).max() < 65504 / 6


def test_formats_go_by_their_names():
    assert [str(form) for form in BLOCK_FORMATS.values()] == ["Q8_0", "Q4_0", "Q4_1", "Q4_K", "Q6_K"]
    for kind, form in BLOCK_FORMATS.items():
        assert (form.numbers, form.nbytes) == gguf.GGML_QUANT_SIZES[Kind[kind.upper()]]
        assert block_format(kind) is form
    with pytest.raises(InputError, match="no block format 'q5_0'"):
        block_format("q5_0")


# Blocks as `Grouped`


@pytest.mark.parametrize("kind", SIMPLE)
@given(rows=st.integers(1, 4), width=st.integers(1, 4), seed=st.integers(0, 2**32))
@settings(deadline=None, max_examples=30)
def test_any_blocks_survive_as_groups(kind, rows, width, seed):
    random = np.random.default_rng(seed)  # any bytes: code -128 and scales that are NaN among them
    blocks = random.integers(0, 256, (rows * width, BLOCK_FORMATS[kind].nbytes), dtype=np.uint8)
    weight = to_grouped(torch.from_numpy(blocks), kind, (rows, 32 * width))
    assert (weight.group_size, weight.codes.shape, grouped_kind(weight)) == (32, (rows, 32 * width), kind)
    assert weight.bits == (8 if kind == "q8_0" else 4)
    np.testing.assert_array_equal(from_grouped(weight).numpy(), blocks)
    np.testing.assert_array_equal(from_grouped(GroupedLinear(weight).grouped()).numpy(), blocks)
    values = decoded(kind, blocks).reshape(rows, -1)
    np.testing.assert_array_equal(weight.dequantize().numpy(), values)


def test_what_does_not_fit_is_refused():
    blocks = torch.zeros(6, 18, dtype=torch.uint8)
    with pytest.raises(InputError, match="only q8_0, q4_0 and q4_1"):
        to_grouped(blocks, "q4_k", (1, 192))
    with pytest.raises(InputError, match="20 bytes"):
        to_grouped(blocks, "q4_1", (1, 192))
    for shape in ((1, 160), (12, 16)):
        with pytest.raises(InputError, match="does not consist of 6 blocks"):
            to_grouped(blocks, "q4_0", shape)
    wide = Grouped(torch.zeros(2, 64, dtype=torch.uint8), torch.ones(2, 1, dtype=torch.float16))
    assert grouped_kind(wide) is None
    with pytest.raises(InputError, match="of this matrix 64"):
        from_grouped(wide)


# The layer


@pytest.mark.parametrize("kind", K_QUANTS)
def test_a_layer_of_blocks(monkeypatch, kind):
    torch.manual_seed(4)
    form = BLOCK_FORMATS[kind]
    blocks = form.quantize(torch.randn(10, 512))
    layer = BlockLinear(blocks, kind, (10, 512))
    weight = form.dequantize(blocks).view(10, 512)
    x = torch.randn(2, 3, 512)
    monkeypatch.setattr(module, "_PIECE", 1024)
    assert torch.equal(layer.dequantize(), weight)
    assert torch.equal(layer(x), F.linear(x, weight))
    assert torch.equal(layer.dequantize(torch.bfloat16), weight.bfloat16())
    assert layer(x.bfloat16()).dtype == torch.bfloat16
    ids = torch.tensor([[3, 0], [9, 3]])
    assert torch.equal(layer.rows(ids), weight[ids])
    assert layer.stored().keys() == {"blocks"}
    assert torch.equal(layer.stored()["blocks"], blocks)
    assert layer.nbytes == blocks.nbytes
    assert repr(layer) == f"BlockLinear(512 → 10, {form.name})"


def test_a_layer_of_other_blocks_is_refused():
    blocks = torch.zeros(4, 144, dtype=torch.uint8)
    with pytest.raises(InputError, match="no block format 'q9'"):
        BlockLinear(blocks, "q9", (2, 512))
    with pytest.raises(InputError, match="210 bytes"):
        BlockLinear(blocks, "q6_k", (2, 512))
    with pytest.raises(InputError, match="does not consist of 4 blocks of 256"):
        BlockLinear(blocks, "q4_k", (8, 128))
