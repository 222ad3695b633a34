"""LoRA beside PEFT's: the same logits, gradients and files; and QLoRA through every quantized format."""

import copy
import json
import math
from contextlib import suppress

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from torch.nn import functional as F
from transformers import LlamaConfig, LlamaForCausalLM, Phi3ForCausalLM

import tinyphi
from tinyphi.config import PRESETS
from tinyphi.errors import ConfigError, InputError, WeightsError
from tinyphi.kernels import native
from tinyphi.model.linear import Linear
from tinyphi.model.transformer import Phi3
from tinyphi.quant import quantize
from tinyphi.quant.awq import awq
from tinyphi.quant.gptq import gptq
from tinyphi.quant.linear import QuantizedLinear
from tinyphi.quant.recipe import METHODS
from tinyphi.train import lora
from tinyphi.train.lora import (
    TARGETS,
    LoRALinear,
    add_lora,
    load_lora,
    lora_layers,
    lora_parameters,
    merge_lora,
    remove_lora,
    save_lora,
    without_lora,
)
from tinyphi.weights import export

CHOICES = [TARGETS, ("qkv_proj",), ("down_proj", "o_proj")]
IDS = torch.randint(0, 61, (2, 11), generator=torch.Generator().manual_seed(2))
TOLERANCE = {torch.float32: 5e-6, torch.bfloat16: 0.02}


def fill(model, seed=4):
    """Make B anything but zero, as training does."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in lora_parameters(model):
            parameter.copy_(0.3 * torch.randn(parameter.shape, generator=generator))


def difference(mine, theirs):
    mine, theirs = mine.detach().double(), theirs.detach().double()
    return float((mine - theirs).abs().max() / theirs.abs().max())


@pytest.fixture
def saved(make_model, tmp_path):
    """Makes a model with LoRA inside, saves both, and returns it with what transformers and PEFT open."""

    def make(targets=TARGETS, dtype=torch.float32, **changes):
        model = make_model(**changes).to(dtype)
        tinyphi.save(model, None, tmp_path / "model")
        add_lora(model, 4, 6, targets)
        fill(model)
        save_lora(model, tmp_path / "adapter")
        reference = Phi3ForCausalLM.from_pretrained(tmp_path / "model", dtype=dtype)
        return model, PeftModel.from_pretrained(reference, tmp_path / "adapter", is_trainable=True).eval()

    return make


@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize("targets", CHOICES, ids=str)
def test_peft_opens_our_adapter(saved, targets, dtype):
    model, theirs = saved(targets, dtype)
    before = model(IDS)
    assert difference(before, theirs(IDS).logits) < TOLERANCE[dtype]
    with theirs.disable_adapter(), without_lora(model):
        assert difference(model(IDS), theirs(IDS).logits) < TOLERANCE[dtype]
    assert difference(before, theirs.base_model.model(IDS).logits) < TOLERANCE[dtype]


def forget_scale(model):
    for layer in lora_layers(model).values():
        layer.scale = 1.0


def swap(model):
    for layer in lora_layers(model).values():
        layer.A.data, layer.B.data = layer.B.data.T, layer.A.data.T


@pytest.mark.parametrize("mistake", [forget_scale, swap])
def test_the_comparison_notices(saved, mistake):
    model, theirs = saved(("o_proj",))  # whose A and B can be swapped, since it is square
    mistake(model)
    assert difference(model(IDS), theirs(IDS).logits) > 0.01


@pytest.mark.parametrize("targets", CHOICES, ids=str)
def test_we_open_an_adapter_of_peft(make_model, tmp_path, targets):
    model = make_model()
    tinyphi.save(model, None, tmp_path / "model")
    reference = Phi3ForCausalLM.from_pretrained(tmp_path / "model")
    theirs = get_peft_model(
        reference, LoraConfig(r=3, lora_alpha=7, target_modules=list(targets), lora_dropout=0.1)
    ).eval()
    for name, parameter in theirs.named_parameters():
        if "lora_" in name:
            parameter.data = 0.3 * torch.randn_like(parameter)
    theirs.save_pretrained(tmp_path / "adapter")
    report = load_lora(model, tmp_path / "adapter")
    assert difference(model(IDS), theirs(IDS).logits) < 2e-6
    assert report.trainable == sum(p.numel() for n, p in theirs.named_parameters() if "lora_" in n)


def test_gradients_are_those_of_peft(saved):
    model, theirs = saved()
    assert all(layer.enabled for layer in lora_layers(model).values())
    F.cross_entropy(model(IDS)[:, :-1].flatten(0, 1), IDS[:, 1:].flatten()).backward()
    theirs(IDS, labels=IDS).loss.backward()
    found = dict(theirs.named_parameters())
    for name, layer in lora_layers(model).items():
        stem = "base_model.model.model." + name.replace("attention.", "self_attn.")
        for part in ("A", "B"):
            wanted = found[f"{stem}.lora_{part}.default.weight"].grad
            assert difference(getattr(layer, part).grad, wanted) < 1e-5
    trained = [parameter for parameter in model.parameters() if parameter.grad is not None]
    assert {*map(id, trained)} == {*map(id, lora_parameters(model))}


def test_it_starts_as_the_model_was_with_pefts_a(make_model):
    model = make_model()
    before = model(IDS)
    add_lora(model, seed=5)
    assert torch.equal(model(IDS), before)
    theirs = torch.nn.Linear(48, 8, bias=False)
    torch.manual_seed(5)
    torch.nn.init.kaiming_uniform_(theirs.weight, a=math.sqrt(5))  # `reset_lora_parameters` of PEFT
    assert torch.equal(lora_layers(model)["layers.0.attention.qkv_proj"].A, theirs.weight)
    again = make_model()
    add_lora(again, seed=6)
    assert not torch.equal(lora_parameters(again)[0], lora_parameters(model)[0])


def test_the_report_counts_as_peft_does(saved):
    model, theirs = saved()
    remove_lora(model)
    report = add_lora(model, 4, 6)
    assert (report.trainable, report.parameters) == theirs.get_nb_trainable_parameters()
    assert str(report) == "LoRA beside 8 matrices: 4,096 of 40,912 parameters are trained (10.01%)"


@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
def test_merging_keeps_the_model_and_removing_restores_it(make_model, tmp_path, dtype):
    model = make_model().to(dtype)
    original = copy.deepcopy(model)
    add_lora(model, 4, 6)
    fill(model)
    adapted, removed = model(IDS), copy.deepcopy(model)
    remove_lora(removed)
    merge_lora(model)
    assert difference(model(IDS), adapted) < 4 * TOLERANCE[dtype]  # the sums are rounded, too
    assert torch.equal(removed(IDS), original(IDS))
    for plain in (model, removed):
        assert {type(layer) for layer in plain.modules()} == {type(layer) for layer in original.modules()}
        assert all(p.requires_grad and p.dtype == dtype for p in plain.parameters())
    tinyphi.save(model, None, tmp_path / "merged")
    reference = Phi3ForCausalLM.from_pretrained(tmp_path / "merged", dtype=dtype)
    assert difference(model(IDS), reference(IDS).logits) < TOLERANCE[dtype]


def train(model, steps=12):
    """Loss before each step; a text of 20 tokens learnt by heart."""
    ids = torch.randint(0, 61, (1, 20), generator=torch.Generator().manual_seed(7))
    optimizer, losses = torch.optim.AdamW(lora_parameters(model), lr=0.02), []
    for _ in range(steps):
        loss = F.cross_entropy(model(ids)[0, :-1], ids[0, 1:])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss))
    return losses


@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
def test_training_moves_the_adapter_alone(make_model, dtype):
    model = make_model().to(dtype).train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    add_lora(model)
    losses = train(model)
    assert losses[-1] < 0.7 * losses[0], losses
    assert all(parameter.dtype == torch.float32 for parameter in lora_parameters(model))
    remove_lora(model)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


# QLoRA


@pytest.fixture
def quantized(make_model):
    """Makes a quantized model whose rows divide into every format's blocks, and the same decoded."""

    def make(method):
        model = make_model(hidden_size=256, intermediate_size=256, num_attention_heads=8)
        decoded = copy.deepcopy(model)
        quantize(model, method)
        for name, layer in model.named_modules():
            if isinstance(layer, QuantizedLinear) and name.startswith(("layers", "lm_head")):
                decoded.get_submodule(name).weight.data = layer.dequantize()
        decoded.embed_tokens.weight.data = model.embed_tokens(torch.arange(61))
        return model, decoded

    return make


@pytest.mark.parametrize("method", METHODS)
def test_gradients_flow_through_every_format(quantized, method):
    model, decoded = quantized(method)
    for one in (model, decoded):
        one.train()
        add_lora(one)
        fill(one)
        F.cross_entropy(one(IDS)[:, :-1].flatten(0, 1), IDS[:, 1:].flatten()).backward()
    assert all(isinstance(layer.base, QuantizedLinear) for layer in lora_layers(model).values())
    assert difference(model(IDS), decoded(IDS)) < 1e-5
    for mine, wanted in zip(lora_parameters(model), lora_parameters(decoded), strict=True):
        assert difference(mine.grad, wanted.grad) < 1e-4
    losses = train(model, 8)
    assert losses[-1] < 0.8 * losses[0], losses


@pytest.mark.parametrize("method", ["int4", "nf4"])
def test_between_the_passes_only_codes_are_kept(quantized, method):
    model, decoded = quantized(method)
    kept = []
    for one in (model, decoded):
        add_lora(one)
        seen = []
        with torch.autograd.graph.saved_tensors_hooks(
            lambda tensor, seen=seen: seen.append(tensor) or tensor, lambda tensor: tensor
        ):
            one.train()(IDS)
        kept.append(max(tensor.numel() for tensor in seen))
    assert kept[0] < 2 * 11 * 512 + 1 < kept[1] == 512 * 256  # activations; in the plain model its weights


def test_a_policy_in_training_differs_from_its_reference_by_the_adapter_alone(quantized):
    model, decoded = quantized("int4")
    with torch.no_grad():
        fast = model(IDS)
    add_lora(model)
    model.train()
    with torch.no_grad(), without_lora(model):
        reference = model(IDS)
    assert torch.equal(model(IDS), reference)
    assert difference(reference, decoded(IDS)) < 1e-5
    if native.problem() is None:
        assert difference(fast, decoded(IDS)) > 1e-3  # the kernel rounds activations
        with torch.no_grad():
            assert torch.equal(model.eval()(IDS), fast)


@pytest.mark.parametrize("method", ["int4", "nf4", "q4_k"])
def test_merging_decodes_quantized_matrices(quantized, method):
    model, decoded = quantized(method)
    for one in (model, decoded):
        add_lora(one)
        fill(one)
        merge_lora(one)
    layers = dict(decoded.named_modules())
    for name, layer in model.layers.named_modules():
        assert not isinstance(layer, (LoRALinear, QuantizedLinear))
        if isinstance(layer, Linear):
            assert difference(layer.weight, layers[f"layers.{name}"].weight) < 1e-6
    assert isinstance(model.lm_head, QuantizedLinear)


def test_quantized_layers_work_under_autocast(quantized):
    model, decoded = quantized("nf4")
    for one in (model, decoded):
        add_lora(one)
        fill(one)
        with torch.autocast("cpu", torch.bfloat16):
            loss = F.cross_entropy(one(IDS)[:, :-1].flatten(0, 1), IDS[:, 1:].flatten())
        loss.backward()
    for mine, wanted in zip(lora_parameters(model), lora_parameters(decoded), strict=True):
        assert mine.grad.dtype == torch.float32
        assert difference(mine.grad, wanted.grad) < 0.05


# The model around it


def test_without_lora_can_be_nested_and_survives_errors(make_model):
    model = make_model()
    before = model(IDS)
    add_lora(model)
    fill(model)
    adapted = model(IDS)
    with suppress(KeyError), without_lora(model) as same:
        with without_lora(model):
            pass
        assert same is model
        assert torch.equal(model(IDS), before)
        raise KeyError
    assert torch.equal(model(IDS), adapted)


def test_a_copy_has_its_own_adapter(make_model):
    model = make_model()
    add_lora(model)
    twin = copy.deepcopy(model)
    fill(twin)
    assert not any(layer.B.any() for layer in lora_layers(model).values())


@pytest.mark.parametrize("method", [None, "q8_0"], ids=["plain", "quantized"])
@pytest.mark.parametrize(
    "use",
    [
        lambda model, path: model.compile(),
        lambda model, path: tinyphi.save(model, None, path / "model"),
        lambda model, path: export._plan(model, "q8_0"),
        lambda model, path: quantize(model),
        lambda model, path: quantize(model, "awq", ids=IDS.repeat(8, 2)),
    ],
    ids=["compile", "save", "export_gguf", "quantize", "awq"],
)
def test_what_would_leave_the_adapter_out_says_merge_first(make_model, tmp_path, use, method):
    model = make_model(hidden_size=96, intermediate_size=96)
    if method is not None:
        quantize(model, method, keep={"embed_tokens": "full", "lm_head": "full"})
    before = {name: type(module) for name, module in model.named_modules()}
    add_lora(model)
    with pytest.raises(InputError, match="merge_lora"):
        use(model, tmp_path)
    assert list(tmp_path.iterdir()) == []
    remove_lora(model)
    assert {name: type(module) for name, module in model.named_modules()} == before


@pytest.mark.parametrize("calibrated", [awq, gptq])
def test_calibration_refuses_adapters(make_model, calibrated):
    model = make_model()
    add_lora(model)
    with pytest.raises(InputError, match="LoRALinear"):
        calibrated(model, IDS.repeat(12, 2), 16)


@pytest.mark.skipif(native.problem() is not None, reason=str(native.problem()))
def test_a_compiled_model_does_not_decode_past_its_adapter(make_model):
    model = make_model(hidden_size=96, intermediate_size=96)
    quantize(model, "q8_0")
    model.compile()
    add_lora(model)
    fill(model)
    with torch.no_grad():
        cache = model.new_cache()
        model(IDS[:1, :-1], cache=cache)
        last = model(IDS[:1, -1:], cache=cache)
        assert difference(last[0, 0], model(IDS[:1])[0, -1]) < 0.05
        with without_lora(model):
            assert difference(last[0, 0], model(IDS[:1])[0, -1]) > 0.2


# Files


def test_an_adapter_beside_phi3_small_lies_in_its_order_of_rows(tmp_path):
    """Phi-3-small's files have the rows of joined matrices in groups, and so B's."""
    from dataclasses import replace

    config = replace(
        PRESETS["phi-3-small-8k"],
        vocab_size=61,
        hidden_size=64,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        dummy_token_indices=(),
        bos_token_id=None,
        eos_token_id=None,
        pad_token_id=None,
    )
    torch.manual_seed(0)
    model = Phi3(config).eval()
    tinyphi.save(model, None, tmp_path / "before")
    add_lora(model, 4, 6)
    fill(model)
    save_lora(model, tmp_path / "adapter")
    again = tinyphi.load_model(tmp_path / "before")
    load_lora(again, tmp_path / "adapter")
    assert torch.equal(again(IDS), model(IDS))
    merge_lora(model)
    tinyphi.save(model, None, tmp_path / "after")
    before, after, adapter = (
        load_file(next((tmp_path / name).glob("*.safetensors"))) for name in ("before", "after", "adapter")
    )
    changed = [name for name in before if not torch.equal(before[name], after[name])]
    assert len(changed) == 8
    for name in changed:
        a, b = (adapter[f"base_model.model.{name.replace('weight', f'lora_{part}.weight')}"] for part in "AB")
        assert torch.allclose(after[name] - before[name], 1.5 * b @ a, atol=1e-6)


def test_a_llama_becomes_a_phi3_and_so_does_its_adapter(tmp_path):
    config = LlamaConfig(
        vocab_size=61,
        hidden_size=48,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=6,
        num_key_value_heads=2,
        initializer_range=0.3,
        bos_token_id=None,
        eos_token_id=None,
        pad_token_id=None,
    )
    LlamaForCausalLM(config).save_pretrained(tmp_path / "llama")
    model = tinyphi.load_model(tmp_path / "llama")
    tinyphi.save(model, None, tmp_path / "phi3")
    add_lora(model)
    fill(model)
    save_lora(model, tmp_path / "adapter")
    theirs = PeftModel.from_pretrained(
        Phi3ForCausalLM.from_pretrained(tmp_path / "phi3"), tmp_path / "adapter"
    )
    assert difference(model(IDS), theirs.eval()(IDS).logits) < 5e-6


def test_an_adapter_of_a_llama_is_refused_with_the_way_out(make_model, tmp_path):
    config = LlamaConfig(
        vocab_size=61, hidden_size=48, intermediate_size=64, num_hidden_layers=2, num_attention_heads=6
    )
    theirs = get_peft_model(LlamaForCausalLM(config), LoraConfig(target_modules=["q_proj", "down_proj"]))
    theirs.save_pretrained(tmp_path)
    with pytest.raises(ConfigError, match=r"'q_proj'.*merge it with PEFT"):
        load_lora(make_model(), tmp_path)


def test_saving_replaces_an_adapter_and_a_failure_leaves_it(make_model, tmp_path, monkeypatch):
    model, target = make_model(), tmp_path / "deep" / "adapter"
    add_lora(model)
    save_lora(model, target)
    fill(model)
    save_lora(model, target)
    first = (target / lora.WEIGHTS).read_bytes()
    fill(model, seed=9)

    def fail(tensors, path, metadata):
        path.write_bytes(b"half")
        raise OSError("no space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(lora, "save_file", fail)
        with pytest.raises(WeightsError, match="no space left"):
            save_lora(model, target)
    assert (target / lora.WEIGHTS).read_bytes() == first
    assert [path.name for path in target.parent.iterdir()] == ["adapter"]
    (target / "notes.txt").touch()
    with pytest.raises(WeightsError, match=r"notes\.txt"):
        save_lora(model, target)
    with pytest.raises(WeightsError, match="is a file"):
        save_lora(model, target / "notes.txt")


@pytest.fixture
def adapter(make_model, tmp_path):
    """The directory of an adapter with all targets, rank 8."""
    model = make_model()
    add_lora(model)
    save_lora(model, tmp_path / "adapter")
    return tmp_path / "adapter"


QKV = "base_model.model.model.layers.1.self_attn.qkv_proj.lora_B.weight"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda tensors: tensors.pop(QKV), "1 missing: .*layers.1.self_attn.qkv_proj.lora_B"),
        (lambda tensors: tensors.update(extra=torch.zeros(2)), "1 unexpected: 'extra'"),
        (lambda tensors: tensors.update({QKV: torch.zeros(8, 80)}), r"is \(8, 80\), expected \(80, 8\)"),
    ],
    ids=["missing", "extra", "misshapen"],
)
def test_tensors_that_do_not_fit(make_model, adapter, change, message):
    tensors = load_file(adapter / lora.WEIGHTS)
    change(tensors)
    save_file(tensors, adapter / lora.WEIGHTS)
    model = make_model()
    with pytest.raises(WeightsError, match=message):
        load_lora(model, adapter)
    with pytest.raises(InputError, match="no LoRA inside"):
        lora_layers(model)
    assert all(parameter.requires_grad for parameter in model.parameters())


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("use_rslora", True),
        ("use_dora", True),
        ("bias", "all"),
        ("lora_bias", True),
        ("modules_to_save", ["lm_head"]),
        ("rank_pattern", {"o_proj": 2}),
        ("alpha_pattern", {"o_proj": 2}),
        ("layers_to_transform", [0]),
        ("fan_in_fan_out", True),
        ("trainable_token_indices", [3]),
        ("init_lora_weights", "pissa"),
        ("something_of_next_year", 3),
        ("peft_type", "LOHA"),
        ("target_modules", ["qkv_proj", "lm_head"]),
        ("target_modules", "all-linear"),
        ("target_modules", []),
        ("r", None),
        ("lora_alpha", "16"),
    ],
)
def test_settings_that_are_not_plain_lora(make_model, adapter, key, value):
    path = adapter / lora.CONFIG
    path.write_text(json.dumps(json.loads(path.read_text()) | {key: value}))
    with pytest.raises(ConfigError, match=key):
        load_lora(make_model(), adapter)


def test_files_that_are_missing_or_damaged(make_model, adapter):
    (adapter / lora.WEIGHTS).write_bytes(b"\x80\x02pickle")
    with pytest.raises(WeightsError, match="cannot be read"):
        load_lora(make_model(), adapter)
    (adapter / lora.WEIGHTS).unlink()
    with pytest.raises(WeightsError, match="cannot be read"):
        load_lora(make_model(), adapter)
    for text in ("{", "[]", "null"):
        (adapter / lora.CONFIG).write_text(text)
        with pytest.raises((WeightsError, ConfigError)):
            load_lora(make_model(), adapter)
    with pytest.raises(WeightsError, match="directory of an adapter"):
        load_lora(make_model(), adapter / "nothing")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"rank": 0}, "rank is 0"),
        ({"rank": 2.5}, "rank is 2.5"),
        ({"alpha": 0}, "alpha is 0"),
        ({"alpha": float("nan")}, "alpha is nan"),
        ({"targets": ("q_proj",)}, "give some of qkv_proj"),
        ({"targets": "qkv_proj"}, "in a tuple"),
        ({"targets": ()}, "give some of"),
    ],
)
def test_arguments_that_make_no_sense(make_model, arguments, message):
    model = make_model()
    with pytest.raises(InputError, match=message):
        add_lora(model, **arguments)
    assert all(parameter.requires_grad for parameter in model.parameters())


def test_twice_and_never(make_model, adapter):
    model = make_model()
    for use in (lora_parameters, merge_lora, remove_lora, lambda model: save_lora(model, adapter)):
        with pytest.raises(InputError, match="no LoRA inside"):
            use(model)
    with pytest.raises(InputError, match="no LoRA inside"), without_lora(model):
        pass
    add_lora(model)
    with pytest.raises(InputError, match="already"):
        load_lora(model, adapter)
    with pytest.raises(InputError, match="linear layer"):
        LoRALinear(model.norm, 2, 2, torch.Generator())
