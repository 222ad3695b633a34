"""Quantizing a whole model: what is replaced by what, and whether the report says the truth about it."""

import copy
from dataclasses import replace

import pytest
import torch

import tinyphi
from tinyphi.config import PhiConfig
from tinyphi.errors import InputError
from tinyphi.model.transformer import Phi3
from tinyphi.quant import Recipe, quantize
from tinyphi.quant.linear import GroupedLinear, QuantizedEmbedding, QuantizedLinear
from tinyphi.quant.quantize import linears

CONFIG = PhiConfig(
    vocab_size=80,
    hidden_size=64,
    intermediate_size=160,
    num_hidden_layers=2,
    num_attention_heads=4,
    num_key_value_heads=2,
    max_position_embeddings=128,
    eos_token_id=2,
    pad_token_id=0,
)
IDS = torch.randint(0, 80, (2, 40), generator=torch.Generator().manual_seed(0))


def model_of(seed=0, **changes):
    torch.manual_seed(seed)
    model = Phi3(replace(CONFIG, **changes)).eval()
    for parameter in model.parameters():
        parameter.data.mul_(3)
    return model


def use_reference(model):
    """Exact arithmetic on both sides of a comparison."""
    for module in model.modules():
        if isinstance(module, GroupedLinear):
            module.use("reference")


@pytest.mark.parametrize("method", ["int8", "int4", "nf4", "q8_0", "q4_0", "q4_1"])
def test_every_matrix_is_replaced_by_what_its_format_makes_of_it(method):
    model, original = model_of(), model_of()
    report = quantize(model, method, ids=IDS)
    assert [layer.name for layer in report.layers] == [name for name, _ in linears(original)]
    for layer in report.layers:
        new, old = model.get_submodule(layer.name), original.get_submodule(layer.name)
        if isinstance(new, QuantizedEmbedding):
            new = new.table
        assert isinstance(new, QuantizedLinear)
        assert layer.format == new.format
        difference = (new.dequantize() - old.weight).norm() / old.weight.norm()
        assert layer.weight_error == pytest.approx(float(difference.detach()), rel=1e-4)
        assert layer.weight_error < (0.02 if method in ("int8", "q8_0") else 0.2)
        assert layer.bytes == new.nbytes < layer.bytes_before / 3
        assert layer.reason == ""
        if layer.name != "embed_tokens":
            assert 0 < layer.output_error < 0.25
    norms = sum(parameter.nbytes for parameter in model.parameters())
    assert report.bytes == norms + sum(layer.bytes for layer in report.layers)
    assert report.bytes_before == sum(parameter.nbytes for parameter in original.parameters())


def test_the_change_of_the_predictions_is_what_one_measures_oneself():
    model, original = model_of(), model_of()
    report = quantize(model, "int4", ids=IDS)
    with torch.no_grad():
        before, after = original(IDS).log_softmax(-1), model(IDS).log_softmax(-1)
    divergence = (before.exp() * (before - after)).sum(-1).mean()
    assert report.change.divergence == pytest.approx(float(divergence), rel=1e-3)
    targets = IDS[:, 1:, None]
    for name, logs in (("perplexity_before", before), ("perplexity", after)):
        wanted = (-logs[:, :-1].gather(-1, targets)).mean().exp()
        assert getattr(report.change, name) == pytest.approx(float(wanted), rel=1e-4)
    assert 0 < report.change.same_choice < 1
    assert f"KL {report.change.divergence:.4f}" in str(report)


def test_the_first_difference_is_where_greedy_texts_part():
    parted = 0
    for seed in range(6):
        model, original = model_of(seed), model_of(seed)
        report = quantize(model, "int4", ids=IDS[:1])
        texts = [
            tinyphi.generate(m, IDS[0], max_new_tokens=32, stop_ids=[]).ids[0] for m in (original, model)
        ]
        differing = [number for number, pair in enumerate(zip(*texts, strict=True)) if pair[0] != pair[1]]
        if differing:
            number = differing[0]
            assert report.change.first_difference == (number, texts[0][number], texts[1][number])
            parted += 1
        else:
            assert report.change.first_difference is None
    assert parted >= 3


def test_a_tied_head_and_the_embedding_share_one_matrix_in_eight_bits():
    model = model_of(tie_word_embeddings=True)
    original = copy.deepcopy(model)
    report = quantize(model, "int4")
    assert model.embed_tokens.table is model.lm_head
    assert model.lm_head.bits == 8
    head = report.layers[-1]
    assert (head.name, head.reason) == ("lm_head", "tied: embedding and head at once")
    assert report.bytes_before == sum(parameter.nbytes for parameter in original.parameters())
    assert torch.allclose(model.embed_tokens(IDS), original.embed_tokens(IDS), atol=2e-3)
    bare = model_of(tie_word_embeddings=True)
    quantize(bare, "int4", keep={})
    assert bare.lm_head.bits == 4


def test_patterns_keep_matrices_and_the_report_says_so():
    model = model_of()
    report = quantize(model, "int4", keep={"layers.1.*": "full", "*down_proj": "int8"})
    found = {layer.name: layer for layer in report.layers}
    assert found["layers.1.mlp.down_proj"].format == "float32"  # the first pattern counts
    assert found["layers.1.mlp.down_proj"].weight_error == 0
    assert found["layers.0.mlp.down_proj"].format == "int8, a scale per row"
    assert found["layers.0.mlp.down_proj"].reason == "kept: *down_proj"
    assert not isinstance(model.layers[1].attention.qkv_proj, QuantizedLinear)


def test_sensitive_matrices_get_eight_bits_with_the_reason():
    free = quantize(model_of(), "int4", ids=IDS)
    errors = sorted(layer.output_error for layer in free.layers if layer.output_error)
    limit = (errors[4] + errors[5]) / 2
    report = quantize(model_of(), "int4", max_error=limit, ids=IDS)
    kept = {layer.name for layer in report.layers if layer.reason}
    assert kept == {layer.name for layer in free.layers if (layer.output_error or 0) > limit}
    for layer in report.layers:
        if layer.reason:
            assert layer.reason.startswith("sensitive: error ")
            assert layer.format.startswith("int8")
            assert layer.output_error < limit
    assert free.bytes < report.bytes


def test_rows_that_do_not_divide_fall_back_with_the_reason():
    report = quantize(model_of(), "int4", group_size=128)  # rows of 64 and 160
    assert {layer.format for layer in report.layers} == {"int4, a scale per row", "int4, groups of 32"}
    assert all("do not divide by 128" in layer.reason for layer in report.layers)
    for method, other in (("q4_k", "int4, groups of 32 with minima"), ("q6_k", "int8, groups of 32")):
        report = quantize(model_of(), method)
        assert {layer.format for layer in report.layers} == {other}
        assert all("do not divide by 256" in layer.reason for layer in report.layers)
    odd = quantize(model_of(hidden_size=40, num_attention_heads=4, intermediate_size=72), "q4_0")
    assert {layer.format for layer in odd.layers} == {"float32"}
    assert odd.bytes == odd.bytes_before


def test_a_damaged_format_shows_in_the_report(monkeypatch):
    good = quantize(model_of(), "int4", ids=IDS)
    from tinyphi.quant import recipe

    def careless(weight, group_size, symmetric):
        groups = real(weight, group_size, symmetric)
        return replace(groups, scales=groups.scales.roll(1, 0))

    real = recipe.quantize_int4
    monkeypatch.setattr(recipe, "quantize_int4", careless)
    bad = quantize(model_of(), "int4", ids=IDS)
    assert bad.layers[1].weight_error > 1.5 * good.layers[1].weight_error
    assert bad.change.divergence > 1.5 * good.change.divergence


@pytest.mark.parametrize("method", ["awq", "gptq"])
def test_calibrated_methods_go_through_the_same_door(method):
    ids = torch.randint(0, 80, (4, 64), generator=torch.Generator().manual_seed(0))
    model = model_of()
    report = quantize(model, method, group_size=32, ids=ids)
    assert len(report.layers) == 2 * 4 + 2
    assert {layer.format for layer in report.layers} == {
        "int4, groups of 32 with minima",
        "int8, groups of 32",
    }
    assert report.change.divergence > 0
    with pytest.raises(InputError, match="calibrates with a text"):
        quantize(model_of(), method)


def test_wrong_requests():
    with pytest.raises(InputError, match=r"no method 'int5'.*int8, int4, nf4"):
        quantize(model_of(), "int5")
    with pytest.raises(InputError, match="no method 'half'"):
        Recipe("int4", keep={"lm_head": "half"})
    with pytest.raises(InputError, match="no method 'full'"):
        Recipe("full")
    model = model_of()
    quantize(model, "int8")
    with pytest.raises(InputError, match="quantized already"):
        quantize(model, "int4")
