"""RMSNorm and LayerNorm against their formulas and against torch's own."""

import torch

from tinyphi.model.norm import LayerNorm, RMSNorm


def norm(width=32, eps=1e-5):
    layer = RMSNorm(width, eps)
    with torch.no_grad():
        layer.weight.copy_(torch.linspace(0.5, 2.0, width))
    return layer


def test_equals_torch_s_rms_norm():
    layer, x = norm(), 3 * torch.randn(2, 5, 32)
    torch.testing.assert_close(layer(x), torch.nn.functional.rms_norm(x, (32,), layer.weight, 1e-5))


def test_without_a_weight_the_root_mean_square_is_one():
    x = 100 * torch.randn(4, 32)
    torch.testing.assert_close(RMSNorm(32, 1e-12)(x).square().mean(-1), torch.ones(4))


def test_a_zero_vector_stays_zero():
    assert torch.equal(norm()(torch.zeros(1, 32)), torch.zeros(1, 32))


def test_the_scale_of_the_input_does_not_matter():
    layer, x = norm(eps=1e-12), torch.randn(3, 32)
    torch.testing.assert_close(layer(1000 * x), layer(x))


def test_bfloat16_squares_in_float32_and_rounds_before_the_weight():
    layer = norm().bfloat16()
    x = (50 * torch.randn(2, 32)).bfloat16()
    full = x.float()
    normed = (full * torch.rsqrt(full.square().mean(-1, keepdim=True) + 1e-5)).bfloat16()
    assert torch.equal(layer(x), layer.weight * normed)
    rounded_late = (normed.float() * layer.weight.float() * 1.0).bfloat16()
    assert layer(x).dtype == torch.bfloat16
    assert rounded_late.dtype == torch.bfloat16


def test_layer_norm_equals_its_formula():
    layer, x = LayerNorm(32, 1e-5), 3 + 2 * torch.randn(2, 5, 32)
    with torch.no_grad():
        layer.weight.copy_(torch.linspace(0.5, 2.0, 32))
        layer.bias.copy_(torch.linspace(-1.0, 1.0, 32))
    centred = x - x.mean(-1, keepdim=True)
    scaled = centred / (centred.square().mean(-1, keepdim=True) + 1e-5).sqrt()
    torch.testing.assert_close(layer(x), scaled * layer.weight + layer.bias)
    assert layer.bfloat16()(x.bfloat16()).dtype == torch.bfloat16


def test_the_norm_that_a_model_has(make_model):
    assert isinstance(make_model().norm, RMSNorm)
    model = make_model(layer_norm_epsilon=1e-3)
    assert isinstance(model.norm, LayerNorm) and model.norm.eps == 1e-3
    assert sum(parameter.numel() for parameter in model.parameters()) == model.config.parameter_count()
