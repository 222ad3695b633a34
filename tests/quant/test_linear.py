"""The layers: every backend gives the same product, gives the weight back, and survives being copied."""

import copy

import pytest
import torch
from torch.nn import functional as F

from tinyphi.errors import InputError
from tinyphi.kernels import native
from tinyphi.quant.backends import BACKENDS, pack_nibbles, unpack_nibbles
from tinyphi.quant.groupwise import quantize_int4, quantize_int8
from tinyphi.quant.linear import GroupedLinear, QuantizedEmbedding

needs_compiler = pytest.mark.skipif(native.problem() is not None, reason=str(native.problem()))
TOLERANCE = {"reference": 1e-6, "torch": 6e-3, "native": 0.02}  # native rounds the activations to 8 bits


def weights():
    numbers = torch.randn(64, 256, generator=torch.Generator().manual_seed(0))
    yield quantize_int4(numbers)
    yield quantize_int4(numbers, 64, symmetric=False)
    yield quantize_int8(numbers)


def relative(found, wanted):
    return float((found.float() - wanted).norm() / wanted.norm())


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(
    "weight", [*weights()], ids=lambda weight: f"{weight.bits} bits, {weight.group_size}"
)
def test_every_backend_multiplies_and_gives_the_weight_back(weight, backend):
    problem = BACKENDS[backend].refuses(weight)
    if problem:
        pytest.skip(f"{backend} cannot take this weight: {problem}")
    layer = GroupedLinear(weight, backend)
    x = torch.randn(2, 5, 256, generator=torch.Generator().manual_seed(1))
    assert relative(layer(x), F.linear(x, weight.dequantize())) < TOLERANCE[backend]
    assert layer(x[0].bfloat16()).dtype == torch.bfloat16
    back = layer.grouped()
    assert torch.equal(back.codes, weight.codes)
    assert torch.equal(back.scales, weight.scales)
    ids = torch.tensor([[3, 63], [0, 3]])
    assert torch.equal(layer.rows(ids), weight.dequantize()[ids])
    assert torch.equal(QuantizedEmbedding(layer, torch.bfloat16)(ids), weight.dequantize()[ids].bfloat16())


@pytest.mark.parametrize("backend", BACKENDS)
def test_conversions_copies_and_files_leave_the_weight_alone(backend):
    weight = quantize_int4(torch.randn(32, 64), symmetric=False)
    if problem := BACKENDS[backend].refuses(weight):
        pytest.skip(f"{backend} cannot take this weight: {problem}")
    layer, x = GroupedLinear(weight, backend), torch.randn(1, 64)
    before = layer(x)
    twin = copy.deepcopy(layer)
    assert torch.equal(torch.nn.Sequential(layer).bfloat16()[0](x), before)
    del layer
    assert torch.equal(twin(x), before)
    again = GroupedLinear.from_stored(twin.stored())
    again.use(backend)
    assert torch.equal(again(x), before)


def test_what_is_stored_does_not_depend_on_the_backend():
    weight = quantize_int4(torch.randn(32, 64))
    possible = [name for name, kind in BACKENDS.items() if kind.refuses(weight) is None]
    first, *others = (GroupedLinear(weight, name).stored() for name in possible)
    assert first["codes"].shape == (32, 32)
    for other in others:
        assert all(torch.equal(first[name], other[name]) for name in first)


def test_backends_are_chosen_and_refused_with_a_reason():
    odd = quantize_int4(torch.randn(24, 48), 16)
    assert GroupedLinear(odd).backend.name == "reference"
    with pytest.raises(InputError, match="groups of 32, 64, 96"):
        GroupedLinear(odd, "native")
    with pytest.raises(InputError, match="torch's 4-bit kernels take groups of"):
        GroupedLinear(odd, "torch")
    with pytest.raises(InputError, match="no backend 'fast'"):
        GroupedLinear(odd).use("fast")


@pytest.mark.parametrize("backend", BACKENDS)
def test_gradients_flow_to_the_inputs_and_training_is_exact(backend):
    weight = quantize_int4(torch.randn(32, 64))
    if problem := BACKENDS[backend].refuses(weight):
        pytest.skip(f"{backend} cannot take this weight: {problem}")
    layer, x = GroupedLinear(weight, backend), torch.randn(3, 64, requires_grad=True)
    layer(x).sum().backward()
    assert torch.allclose(x.grad, weight.dequantize().sum(0).expand(3, -1), atol=1e-5)
    exact, kernels = F.linear(x.detach(), weight.dequantize()), layer(x.detach())
    assert torch.equal(layer.train()(x.detach()), exact)
    assert torch.equal(layer.eval()(x.detach()), kernels)


@needs_compiler
def test_float64_and_float16_are_converted_and_back():
    layer = GroupedLinear(quantize_int4(torch.randn(32, 64)), "native")
    x = torch.randn(2, 64)
    for dtype in (torch.float64, torch.float16):
        assert layer(x.to(dtype)).dtype == dtype


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_moving_to_cuda_changes_the_backend():
    weight = quantize_int4(torch.randn(64, 1024))
    layer = GroupedLinear(weight).to("cuda")
    assert layer.backend.name == "torch"
    x = torch.randn(2, 1024, device="cuda")
    assert relative(layer(x).cpu(), F.linear(x.cpu(), weight.dequantize())) < 0.02


def test_nibbles():
    codes = torch.arange(16, dtype=torch.uint8).view(2, 8)
    assert pack_nibbles(codes)[0].tolist() == [0x10, 0x32, 0x54, 0x76]
    assert torch.equal(unpack_nibbles(pack_nibbles(codes)), codes)
