"""What calibration gives to AWQ and GPTQ is what the linears really get; and nothing is left half done."""

from copy import deepcopy

import pytest
import torch
from einops import rearrange

from tinyphi.errors import InputError
from tinyphi.model.trace import Trace
from tinyphi.quant.awq import awq
from tinyphi.quant.calibration import LINEARS, check, convert_blocks, weight_of, widest
from tinyphi.quant.gptq import gptq
from tinyphi.quant.groupwise import quantize_int4
from tinyphi.quant.linear import GroupedLinear


def kept_inputs(model, ids, stop=None):
    """Round plainly, and keep what is given: block by block, the inputs of each linear (b t i)."""
    kept = []

    def convert(block, rows):
        if len(kept) == stop:
            raise KeyboardInterrupt
        rows = [dict(row) for row in rows]
        kept.append({name: torch.stack([row[name] for row in rows]) for name in LINEARS})
        return {name: quantize_int4(weight_of(block, name), 16) for name in LINEARS}

    with torch.no_grad():
        convert_blocks(model, ids, convert, "test")
    return kept


def traced_inputs(model, ids, number):
    """The same from a trace."""
    trace, place = Trace(), f"layers.{number}."
    with torch.no_grad():
        model(ids, trace=trace)
    return {
        "attention.qkv_proj": trace[place + "attention_norm"],
        "attention.o_proj": rearrange(trace[place + "attention.mixed"], "b h t c -> b t (h c)"),
        "mlp.gate_up_proj": trace[place + "mlp_norm"],
        "mlp.down_proj": trace[place + "mlp.hidden"],
    }


@pytest.mark.parametrize("changes", [{}, {"sliding_window": 7}, {"num_key_value_heads": 6}])
def test_each_block_is_given_what_the_rounded_blocks_before_it_put_out(
    make_uneven_model, calibration_ids, changes
):
    original = make_uneven_model(**changes)
    model = deepcopy(original)
    kept = kept_inputs(model, calibration_ids)
    half = deepcopy(model)
    half.layers[1] = original.layers[1]
    for number, reference in enumerate((original, half)):
        for name, expected in traced_inputs(reference, calibration_ids, number).items():
            torch.testing.assert_close(kept[number][name], expected, rtol=1e-4, atol=1e-3)
    # Inputs from before any rounding are others: the comparison would notice.
    unrounded = traced_inputs(original, calibration_ids, 1)["attention.qkv_proj"]
    assert (kept[1]["attention.qkv_proj"] - unrounded).abs().max() > 0.1


@pytest.mark.parametrize("method", [awq, gptq])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_every_linear_of_every_block_is_replaced_and_nothing_else(
    make_uneven_model, calibration_ids, method, dtype
):
    model = make_uneven_model(dtype)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    assert method(model, calibration_ids, group_size=16) is None
    for layer in model.layers:
        for name in LINEARS:
            linear = layer.get_submodule(name)
            assert isinstance(linear, GroupedLinear) and (linear.bits, linear.group_size) == (4, 16)
    norms = ("attention_norm", "mlp_norm") if method is awq else ()
    for name, tensor in model.state_dict().items():
        assert tensor.dtype == dtype
        assert torch.equal(tensor, before[name]) or any(norm in name for norm in norms), name
    assert model(calibration_ids).isfinite().all()
    assert not any(module._forward_pre_hooks for module in model.modules())


def test_an_interruption_leaves_finished_blocks_rounded_and_others_alone(make_uneven_model, calibration_ids):
    model = make_uneven_model()
    second, before = model.layers[1], deepcopy(model.layers[1].state_dict())
    with pytest.raises(KeyboardInterrupt):
        kept_inputs(model, calibration_ids, stop=1)
    assert isinstance(model.layers[0].attention.qkv_proj, GroupedLinear)
    assert model.layers[1] is second
    assert all(torch.equal(tensor, before[name]) for name, tensor in second.state_dict().items())
    assert not any(module._forward_pre_hooks for module in model.modules())
    assert model(calibration_ids).isfinite().all()


@pytest.mark.parametrize("method", [awq, gptq])
def test_an_error_within_a_block_leaves_it_as_it_was(make_uneven_model, calibration_ids, method, monkeypatch):
    """Even after AWQ has folded scales into it."""
    model = make_uneven_model()
    before = model(calibration_ids)

    def fail(*_):
        raise MemoryError

    monkeypatch.setattr(f"tinyphi.quant.{method.__name__}.from_zeros", fail)
    with pytest.raises(MemoryError):
        method(model, calibration_ids, group_size=16)
    assert torch.equal(model(calibration_ids), before)


@pytest.mark.parametrize("method", [awq, gptq])
def test_what_cannot_be_calibrated_says_so(make_uneven_model, calibration_ids, method):
    model = make_uneven_model()
    for ids, group_size, message in [
        (calibration_ids[0], 16, r"axes \(batch, tokens\)"),
        ([[1, 2]], 16, r"axes \(batch, tokens\)"),
        (calibration_ids[:1, :9], 16, r"holds 9 tokens; .* at least"),
        (calibration_ids, 128, "Groups of 128 do not fit: .* divide 16"),
        (calibration_ids, 0, "Groups of 0 do not fit"),
        (calibration_ids + 1000, 16, "ids must lie in"),
        (calibration_ids.float(), 16, "int64"),
    ]:
        with pytest.raises(InputError, match=message):
            method(model, ids, group_size=group_size)
    model.layers[1].mlp.down_proj = GroupedLinear(quantize_int4(model.layers[1].mlp.down_proj.weight, 16))
    with pytest.raises(InputError, match=r"layers\.1\.mlp\.down_proj is quantized already, a GroupedLinear"):
        method(model, calibration_ids, group_size=16)


@pytest.mark.parametrize("method", [awq, gptq])
def test_inputs_that_tell_nothing_say_so(make_uneven_model, calibration_ids, method):
    silent, broken = make_uneven_model(), make_uneven_model()
    silent.layers[1].mlp_norm.weight.data.zero_()
    with pytest.raises(InputError, match=r"layers\.1\.mlp\.\w+ are zero for every token"):
        method(silent, calibration_ids, group_size=16)
    broken.layers[0].attention.qkv_proj.weight.data[-1, 3] = float("nan")
    with pytest.raises(InputError, match=r"layers\.0\.attention\.o_proj are not finite"):
        method(broken, calibration_ids, group_size=16)
    assert not any(module._forward_pre_hooks for module in broken.modules())


def test_gptq_needs_as_many_tokens_as_inputs(make_uneven_model, calibration_ids):
    model = make_uneven_model()
    assert widest(model) == 64
    check(model, calibration_ids[:2, :32], 16, widest(model))
    with pytest.raises(InputError, match="holds 62 tokens; this model needs at least 64"):
        check(model, calibration_ids[:2, :31], 16, widest(model))
