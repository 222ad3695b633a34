"""AWQ's searches equal AutoAWQ's, and folding the scales changes nothing that the model computes."""

import runpy
from copy import deepcopy
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file

from tinyphi.errors import InputError
from tinyphi.model.trace import Trace
from tinyphi.quant import awq as module
from tinyphi.quant.awq import awq, best_scale, clip, fold, observe, share
from tinyphi.quant.calibration import LINEARS
from tinyphi.quant.zeros import grids

MAKER = runpy.run_path(str(Path(__file__).with_name("make_awq_gptq_golden.py")))
GOLDEN = load_file(MAKER["GOLDEN"])
HEADS = {"multi-head": 6, "grouped-query": 2, "multi-query": 1}


@pytest.fixture(scope="module")
def example():
    return MAKER["example"]()


def finds_the_scale(weight, inputs):
    """Whether the best scale is AutoAWQ's, with the scales of the paper (`duo_scaling=False`)."""
    found = best_scale(weight, inputs.abs().mean(0), inputs, 32)
    return torch.allclose(found, GOLDEN["awq.scale"], rtol=1e-5)


def test_the_best_scale_equals_autoawq(example):
    assert finds_the_scale(*example)


def test_the_best_limits_equal_autoawq(example):
    """The same, or as good: AutoAWQ judges with float32 scales, and two limits may be worth the same."""
    weight, inputs = example
    weight, inputs = weight * GOLDEN["awq.scale"], inputs / GOLDEN["awq.scale"]
    limits = clip(weight, inputs, 32).view(64, -1, 32).abs().amax(-1)
    same = torch.isclose(limits, GOLDEN["awq.limits"], rtol=1e-5)
    assert same.float().mean() > 0.95
    errors = [
        group_errors(weight, weight.view(64, -1, 32).clamp(-limit[..., None], limit[..., None]), inputs)
        for limit in (limits, GOLDEN["awq.limits"])
    ]
    assert (errors[0] <= errors[1] * 1.001).all()


def group_errors(weight, clipped, inputs):
    """Σ over tokens of the squared error of each group's share of the output, step by step."""
    _, grid = grids(clipped.flatten(1), 32)
    change = grid.rounded(clipped) - weight.view(64, -1, 32)
    shares = (inputs.view(len(inputs), 1, -1, 32) * change).sum(-1)
    return shares.square().sum(0)


PLANTED = {
    "only plain rounding tried": ("STEPS", 1),
    "other steps": ("STEPS", 7),
    "grid of other groups": ("grids", lambda weight, group_size: grids(weight, 2 * group_size)),
    "symmetric grid": ("grids", lambda weight, group_size: grids(weight, group_size, symmetric=True)),
}


@pytest.mark.parametrize("mistake", PLANTED)
def test_a_planted_mistake_is_noticed(example, monkeypatch, mistake):
    name, wrong = PLANTED[mistake]
    monkeypatch.setattr(module, name, wrong)
    assert not finds_the_scale(*example)


def unequal(name, model, generator):
    """A scale (i) between 1/4 and 4 for a linear of the model, shared where it has to be."""
    layer = model.layers[0]
    scale = torch.exp2(4 * torch.rand(layer.get_submodule(name).in_features, generator=generator) - 2)
    return module.share(scale, layer.attention) if name == "attention.o_proj" else scale


def change_by_folding(model, ids):
    """How much logits change, at most, when every linear of the first block gets a scale."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        before = model(ids)
        for name in LINEARS:
            fold(model.layers[0], name, unequal(name, model, generator))
        return ((model(ids) - before).abs().max() / before.abs().max()).item()


@pytest.mark.parametrize("heads", HEADS)
def test_folding_changes_nothing(make_uneven_model, calibration_ids, heads):
    model = make_uneven_model(num_key_value_heads=HEADS[heads])
    weights = deepcopy(model.state_dict())
    assert change_by_folding(model, calibration_ids) < 1e-4
    changed = {name for name, tensor in model.state_dict().items() if not torch.equal(tensor, weights[name])}
    parts = [f"{name}.weight" for name in (*LINEARS, "attention_norm", "mlp_norm")]
    assert changed == {f"layers.0.{part}" for part in parts}


@pytest.mark.parametrize("heads", HEADS)
def test_heads_that_share_values_must_share_scales(make_uneven_model, calibration_ids, monkeypatch, heads):
    """What AutoAWQ gets wrong with grouped-query attention in a fused matrix."""
    monkeypatch.setattr(module, "share", lambda mean, attention: mean)
    change = change_by_folding(make_uneven_model(num_key_value_heads=HEADS[heads]), calibration_ids)
    assert (change > 0.01) == (HEADS[heads] < 6)


def test_the_gate_must_not_take_the_scale(make_uneven_model, calibration_ids):
    """Only up · silu(gate) is linear in up: with gate and up swapped for a moment, the comparison notices."""
    model = make_uneven_model()
    weight = model.layers[0].mlp.gate_up_proj.weight
    with torch.no_grad():
        before = model(calibration_ids)
        weight.copy_(weight.roll(64, 0))
        fold(model.layers[0], "mlp.down_proj", torch.linspace(0.5, 2, 64))
        weight.copy_(weight.roll(64, 0))
        assert (model(calibration_ids) - before).abs().max() > 0.01 * before.abs().max()


def test_a_shared_mean_is_that_of_the_group(make_uneven_model):
    attention = make_uneven_model().layers[0].attention  # 6 query heads of 8 channels, 2 value heads
    mean = torch.arange(48.0)
    shared = share(mean, attention)
    assert shared[:8].tolist() == [8.0 + channel for channel in range(8)]  # of 0, 8 and 16
    assert torch.equal(shared[:8].repeat(3), shared[:24])
    assert torch.equal(shared[24:], shared[:24] + 24)
    alone = make_uneven_model(num_key_value_heads=6).layers[0].attention
    assert torch.equal(share(mean, alone), mean)


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 10**6), st.floats(0, 2.5))
def test_neither_search_makes_it_worse(seed, unevenness):
    random = torch.Generator().manual_seed(seed)
    weight = torch.randn(8, 32, generator=random)
    inputs = torch.randn(50, 32, generator=random) * torch.exp(unevenness * torch.randn(32, generator=random))

    def error(weight, scale):
        groups, grid = grids(weight * scale, 16)
        return (inputs @ (grid.rounded(groups).flatten(1) / scale - weight).T).square().mean()

    scale = best_scale(weight, inputs.abs().mean(0), inputs, 16)
    assert scale.isfinite().all() and (scale > 0).all()
    assert error(weight, scale) <= error(weight, torch.ones(32)) * 1.0001
    clipped, scaled = clip(weight * scale, inputs / scale, 16), inputs / scale
    for part in (slice(0, 16), slice(16, 32)):  # the limits are chosen for each group on its own
        before = rounding_error(weight * scale, weight * scale, scaled, part)
        assert rounding_error(clipped, weight * scale, scaled, part) <= before * 1.0001 + 1e-9


def rounding_error(weight, target, inputs, part):
    groups, grid = grids(weight[:, part], 16)
    return (inputs[:, part] @ (grid.rounded(groups).flatten(1) - target[:, part]).T).square().sum()


def test_unused_channels_are_harmless(example):
    weight, inputs = example  # column 77 is always zero
    scale = best_scale(weight, inputs.abs().mean(0), inputs, 32)
    assert scale.isfinite().all() and scale[77] == scale.min() > 0


def test_observing_rows(make_uneven_model):
    rows = torch.randn(4, 10, 6, generator=torch.Generator().manual_seed(0))
    mean, sample = observe(iter([{"x": row} for row in rows]), every=4)["x"]
    torch.testing.assert_close(mean, rows.abs().flatten(0, 1).mean(0))
    assert torch.equal(sample, rows[:, ::4].flatten(0, 1))


def distance(model, original, ids):
    with torch.no_grad():
        return (model(ids) - original(ids)).square().mean().item()


@pytest.mark.parametrize("heads", HEADS)
def test_a_model_stays_nearer_to_itself(make_uneven_model, calibration_ids, monkeypatch, heads):
    original = make_uneven_model(num_key_value_heads=HEADS[heads])
    model, plain, unshared = deepcopy(original), deepcopy(original), deepcopy(original)
    awq(model, calibration_ids, 16)
    for layer in plain.layers:
        for name in LINEARS:
            groups, grid = grids(layer.get_submodule(name).weight.detach(), 16)
            layer.get_submodule(name).weight.data = grid.rounded(groups).flatten(1)
    mine = distance(model, original, calibration_ids)
    assert mine < distance(plain, original, calibration_ids)
    monkeypatch.setattr(module, "share", lambda mean, attention: mean)
    awq(unshared, calibration_ids, 16)
    if HEADS[heads] < 6:
        assert mine < distance(unshared, original, calibration_ids)


def test_the_scales_went_into_norms_and_value_and_up_rows(make_uneven_model, calibration_ids):
    """What qkv_proj and gate_up_proj put out is the same, but for rounding and the rows that take scales."""
    original = make_uneven_model()
    model = deepcopy(original)
    awq(model, calibration_ids, 16)
    traces = Trace(), Trace()
    with torch.no_grad():
        for each, trace in zip((original, model), traces, strict=True):
            each(calibration_ids, trace=trace)
    assert not torch.equal(model.layers[0].attention_norm.weight, original.layers[0].attention_norm.weight)
    for name in ("attention.queries", "mlp.gate"):
        before, after = (trace[f"layers.0.{name}"] for trace in traces)
        assert (after - before).norm() < 0.2 * before.norm()
    assert not torch.equal(model.layers[0].mlp_norm.weight, original.layers[0].mlp_norm.weight)


def test_128_tokens_are_the_least(make_uneven_model, calibration_ids):
    with pytest.raises(InputError, match="holds 127 tokens; this model needs at least 128"):
        awq(make_uneven_model(), calibration_ids.flatten()[None, :127].clamp(max=60), 16)
