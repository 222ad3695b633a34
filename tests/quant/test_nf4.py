"""NF4 equals bitsandbytes bit for bit: codes, maxima in 32 and 8 bits, checkpoints, dequantized weights."""

import json
from statistics import NormalDist

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from tinyphi.errors import InputError
from tinyphi.quant import nf4
from tinyphi.quant.nf4 import CODEBOOK, DYNAMIC_MAP, NF4Linear, quantize_nf4

DTYPES = [torch.float32, torch.bfloat16, torch.float16]  # what bitsandbytes takes
SEEDS = st.integers(0, 2**32 - 1)
NORMAL = NormalDist()


@pytest.fixture(scope="module")
def bnb():
    """bitsandbytes, without its compiler for matrices of odd width."""
    reference = pytest.importorskip("bitsandbytes", reason="pip install tinyphi[test] has bitsandbytes")
    torch.compiler.set_stance("force_eager")
    yield reference
    torch.compiler.set_stance("default")


@st.composite
def matrices(draw):
    """(o i) of any size, in which there may be zeros, equal weights and outliers, from tiny to large."""
    random = torch.Generator().manual_seed(draw(SEEDS))
    # bitsandbytes returns a matrix that fits in one byte transposed: so at least three weights.
    weight = torch.randn(draw(st.integers(1, 40)), draw(st.integers(3, 400)), generator=random)
    flat = weight.flatten()
    for kind in draw(st.lists(st.sampled_from(["zeros", "equal", "outlier", "small"]), max_size=4)):
        start = draw(st.integers(0, len(flat) - 1))
        piece = flat[start : start + draw(st.integers(1, 300))]
        if kind == "zeros":
            piece.zero_()
        elif kind == "equal":
            piece.fill_(piece[0].item())
        elif kind == "outlier":
            piece[0] *= 100
        else:
            piece /= 1000
    dtype = draw(st.sampled_from(DTYPES))
    exponent = draw(st.integers(-3, 2) if dtype == torch.float16 else st.integers(-25, 25))
    largest = torch.finfo(dtype).max
    return (weight * 10.0**exponent).clamp(-largest, largest).to(dtype)


def equals_reference(bnb, weight, double):
    """Whether every bit of the stored tensors, and of the dequantized weight, is the same."""
    mine = quantize_nf4(weight, double)
    # In one long row: with AVX-512, bitsandbytes 0.50 misreads a block that reaches into the next one.
    row = weight.flatten()
    packed, state = bnb.functional.quantize_4bit(row, quant_type="nf4", compress_statistics=double)
    theirs = bnb.functional.dequantize_4bit(packed, state).view(weight.shape)
    pairs = [(mine.packed, packed), (mine.dequantize(weight.dtype), theirs)]
    if double:
        pairs += [(mine.absmax.codes, state.absmax), (mine.absmax.largest, state.state2.absmax)]
        pairs += [(mine.absmax.mean, state.offset)]
    else:
        pairs += [(mine.absmax, state.absmax)]
    return all(ours.dtype == theirs.dtype and torch.equal(ours, theirs) for ours, theirs in pairs)


@pytest.mark.parametrize("double", [False, True])
@settings(max_examples=200, deadline=None)
@given(weight=matrices())
def test_every_bit_equals_bitsandbytes(bnb, double, weight):
    before = weight.clone()
    assert equals_reference(bnb, weight, double)
    assert torch.equal(weight, before)


def large():
    """Blocks whose maxima differ: half a million weights, so that rare roundings occur."""
    random = torch.Generator().manual_seed(0)
    return torch.randn(1024, 512, generator=random) * torch.rand(1024, 1, generator=random)


def ties():
    """A block for each midpoint between two codes, with the numbers below and above it."""
    midpoints = (CODEBOOK[:-1] + CODEBOOK[1:]) / 2
    near = [
        midpoints,
        torch.nextafter(midpoints, torch.ones(())),
        torch.nextafter(midpoints, -torch.ones(())),
    ]
    return F.pad(torch.stack(near, 1), (1, 60), value=1.0)


@pytest.mark.parametrize("double", [False, True])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("make", [large, ties])
def test_rare_roundings_and_ties_equal_bitsandbytes(bnb, make, dtype, double):
    assert equals_reference(bnb, make().to(dtype), double)


PLANTED = {
    # the mistake → what to replace, its replacement, single and double: what must notice
    "first code in the low half": (
        "pack",
        lambda codes: (codes[1::2] << 4 | codes[::2]).unsqueeze(1),
        (0, 1),
    ),
    "halves exchanged in reading": (
        "look_up",
        lambda packed, right=nf4.look_up: right(packed).view(-1, 2).flip(1).flatten(),
        (0, 1),
    ),
    "ties to the higher code": (
        "nearest",
        lambda fractions, values: torch.bucketize(
            fractions, (values[:-1] + values[1:]) / 2, right=True
        ).byte(),
        (0, 1),
    ),
    "one bit of the codebook": ("CODEBOOK", CODEBOOK.nextafter(torch.ones(16)), (0, 1)),
    "blocks of 128": ("BLOCK", 128, (0, 1)),
    "maxima in blocks of 128": ("ABSMAX_BLOCK", 128, (1,)),
    "no table of fractions": ("_in_sixteen_bits", lambda fractions: fractions, (1,)),
    "another map for the maxima": ("DYNAMIC_MAP", torch.linspace(-1, 1, 256), (1,)),
}


@pytest.mark.parametrize("mistake", PLANTED)
def test_a_planted_mistake_is_noticed(bnb, mistake, monkeypatch):
    name, wrong, noticed = PLANTED[mistake]
    monkeypatch.setattr(nf4, name, wrong)
    for double in noticed:
        assert not (
            equals_reference(bnb, large(), bool(double)) and equals_reference(bnb, ties(), bool(double))
        )


def test_tables_equal_bitsandbytes(bnb):
    assert torch.equal(CODEBOOK, bnb.functional.get_4bit_type("nf4", device="cpu"))
    assert torch.equal(DYNAMIC_MAP, bnb.functional.create_dynamic_map())


def test_the_codebook_is_made_of_quantiles():
    """On each side of zero the codes are evenly spaced in probability, up to the outermost."""
    outermost = (29 / 30 + 31 / 32) / 2
    for codes, count in ((CODEBOOK[7:], 8), (-CODEBOOK[:8].flip(0), 7)):
        for place, code in enumerate(codes.tolist()):
            probability = 0.5 + (outermost - 0.5) * place / count
            assert code == pytest.approx(NORMAL.inv_cdf(probability) / NORMAL.inv_cdf(outermost), abs=1e-6)
    assert CODEBOOK[7] == 0


@settings(max_examples=100, deadline=None)
@given(matrices())
def test_every_weight_has_its_nearest_code(weight):
    quantized = quantize_nf4(weight)
    exact = weight.double()
    absmax = quantized.absmax.double().repeat_interleave(64)[: weight.numel()].view(weight.shape)
    distance = (exact.unsqueeze(-1) - absmax.unsqueeze(-1) * CODEBOOK.double()).abs().amin(-1)
    error = (quantized.dequantize().double() - exact).abs()
    assert (error <= distance + 2.0**-22 * absmax).all()
    # The widest gap is between the first two codes; no weight is further than half of it.
    assert (error <= (CODEBOOK[1] - CODEBOOK[0]).item() / 2 * absmax + 2.0**-22 * absmax).all()


@settings(max_examples=100, deadline=None)
@given(matrices())
def test_what_double_quantization_loses(weight):
    """A maximum is off by half the widest gap of the map, by its table, and no more."""
    single, double = quantize_nf4(weight).absmax, quantize_nf4(weight, double=True).absmax
    largest = double.largest.double().repeat_interleave(256)[: len(single)]
    allowed = DYNAMIC_MAP.diff().max().item() / 2 + 1 / 65535
    error = (double.dequantize().double() - single.double()).abs()
    assert (error <= largest * allowed + 2.0**-22 * (single.double() + double.mean.double())).all()


def test_bits_per_weight():
    weight = torch.randn(256, 4096)
    tables = 4 * 16, 4 * (16 + 256) + 4  # bytes, and the mean
    for double, bits, table in (
        (False, 4 + 32 / 64, tables[0]),
        (True, 4 + 8 / 64 + 32 / 64 / 256, tables[1]),
    ):
        layer = NF4Linear(quantize_nf4(weight, double))
        description = layer.stored()["weight.quant_state.bitsandbytes__nf4"].nbytes
        assert layer.nbytes - description - table == pytest.approx(weight.numel() * bits / 8, abs=4)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("double", [False, True])
def test_the_layer_has_the_checkpoint_of_bitsandbytes(bnb, dtype, double):
    torch.manual_seed(0)
    weight = torch.randn(96, 320, dtype=dtype)
    theirs = bnb.nn.Linear4bit(320, 96, bias=False, quant_type="nf4", compress_statistics=double)
    theirs.weight = bnb.nn.Params4bit(weight, quant_type="nf4", compress_statistics=double)
    expected = theirs.to("cpu").state_dict()
    stored = NF4Linear(quantize_nf4(weight, double)).stored()
    assert stored.keys() == expected.keys()
    described = "weight.quant_state.bitsandbytes__nf4"
    for name in stored.keys() - {described}:
        assert stored[name].dtype == expected[name].dtype and torch.equal(stored[name], expected[name]), name
    assert json.loads(bytes(stored[described].tolist())) == json.loads(bytes(expected[described].tolist()))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("double", [False, True])
def test_bitsandbytes_reads_what_the_layer_stores(bnb, dtype, double):
    torch.manual_seed(0)
    layer = NF4Linear(quantize_nf4(torch.randn(48, 100, dtype=dtype), double))
    stored = layer.stored()
    packed = stored.pop("weight")
    theirs = bnb.nn.Params4bit.from_prequantized(packed, stored, device="cpu")
    weight = bnb.functional.dequantize_4bit(theirs.data, theirs.quant_state)
    assert torch.equal(weight, layer.dequantize(dtype))
    x = torch.randn(2, 3, 100, dtype=dtype)
    assert torch.equal(layer(x), F.linear(x, weight))


@pytest.mark.parametrize("double", [False, True])
def test_the_layer(double):
    weight = torch.randn(6, 32, dtype=torch.float64)
    layer = NF4Linear(quantize_nf4(weight, double))
    assert layer.format == ("nf4, blocks of 64, double quantized" if double else "nf4, blocks of 64")
    assert torch.equal(layer.dequantize(), quantize_nf4(weight.float(), double).dequantize())
    ids = torch.tensor([[5, 0], [2, 5]])
    assert torch.equal(layer.rows(ids), layer.dequantize()[ids])
    assert not list(layer.parameters()) and not layer.state_dict()
    assert b'"dtype": "float32"' in bytes(layer.stored()["weight.quant_state.bitsandbytes__nf4"].tolist())


@pytest.mark.parametrize("double", [False, True])
def test_zeros_stay_zero(double):
    for shape in ((4, 64), (3, 5), (1, 1)):
        assert (quantize_nf4(torch.zeros(shape), double).dequantize() == 0).all()
    weight = torch.randn(8, 64)
    weight[2], weight[3, 5] = 0, 0
    dequantized = quantize_nf4(weight, double).dequantize()
    assert (dequantized[2] == 0).all() and dequantized[3, 5] == 0


@pytest.mark.parametrize("value", ["nan", "inf", "-inf"])
def test_infinities(value):
    weight = torch.ones(3, 32)
    weight[1, 7] = float(value)
    with pytest.raises(InputError, match=f"first is {value} at row 1, column 7"):
        quantize_nf4(weight)


def test_maxima_that_float32_cannot_sum():
    weight = torch.full((4, 64), 3e38)
    assert torch.equal(quantize_nf4(weight).dequantize(), weight)
    with pytest.raises(InputError, match=r"reaches 3e\+38, too much"):
        quantize_nf4(weight, double=True)
