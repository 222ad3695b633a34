"""Matrices quantized in GGUF, by AWQ or by GPTQ keep their codes; transformers computes the same numbers."""

import json
import warnings
from dataclasses import replace

import gguf
import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

import tinyphi
from tinyphi.errors import ConfigError, InputError, WeightsError
from tinyphi.quant.checkpoints import Layout, ReorderedLinear, write
from tinyphi.quant.gguf_blocks import BLOCK_FORMATS, BlockLinear
from tinyphi.quant.groupwise import quantize_int4
from tinyphi.quant.linear import GroupedLinear, QuantizedEmbedding, QuantizedLinear
from tinyphi.quant.quantize import linears
from tinyphi.quant.zeros import fit_grid, from_zeros
from tinyphi.weights.names import LAYOUTS

TOLERANCE = 1e-5
PLAIN_BLOCKS = ["Q8_0", "Q4_0", "Q4_1"]
MODELS = {
    "phi3": ("phi3", {}),
    "phi3, tied": ("phi3", {"tie_word_embeddings": True}),
    "llama": ("llama", {}),
    "llama, tied": ("llama", {"tie_word_embeddings": True}),
}


def layer(model, name):
    part = model.get_submodule(name)
    return part.table if isinstance(part, QuantizedEmbedding) else part


def on_reference(model):
    """The model, its products computed exactly."""
    for part in model.modules():
        if isinstance(part, GroupedLinear):
            part.use("reference")
    return model


# GGUF


@pytest.mark.parametrize("kind", PLAIN_BLOCKS)
@pytest.mark.parametrize("name", MODELS)
def test_blocks_stay_as_they_are(tmp_path, reference, difference, write_gguf, name, kind):
    architecture, changes = MODELS[name]
    theirs = reference(architecture, **changes)
    path = write_gguf(tmp_path / "model.gguf", theirs, gguf.GGMLQuantizationType[kind])
    decoded = tinyphi.load_model(path)
    mine = tinyphi.load_model(path, quantize="as_stored", dtype=torch.bfloat16)
    bits = 8 if kind == "Q8_0" else 4
    for matrix, plain in linears(decoded):
        kept = layer(mine, matrix)
        assert isinstance(kept, GroupedLinear)
        assert (kept.bits, kept.group_size, kept.symmetric) == (bits, 32, kind != "Q4_1")
        assert torch.equal(kept.dequantize(), plain.weight), matrix
    assert mine.norm.weight.dtype == torch.bfloat16
    tied = changes.get("tie_word_embeddings", False)
    assert (mine.embed_tokens.table is mine.lm_head) == tied
    exact = on_reference(tinyphi.load_model(path, quantize="as_stored"))
    assert difference(exact, theirs) <= TOLERANCE


def test_a_planted_mistake_is_noticed(tmp_path, reference, difference, write_gguf, monkeypatch):
    theirs = reference("llama")
    path = write_gguf(tmp_path / "model.gguf", theirs, gguf.GGMLQuantizationType.Q4_0)
    monkeypatch.setitem(LAYOUTS, "gguf llama", replace(LAYOUTS["gguf llama"], interleaved=False))
    wrong = on_reference(tinyphi.load_model(path, quantize="as_stored"))
    assert difference(wrong, theirs) > 100 * TOLERANCE


def with_kinds(path, kinds):
    """The GGUF file of float32 again, its matrices in the kinds given for endings of their names."""
    reader = gguf.GGUFReader(path)
    architecture = reader.fields["general.architecture"].contents()
    writer = gguf.GGUFWriter(path.with_suffix(".new.gguf"), architecture)
    for key, field in reader.fields.items():
        if key.startswith((architecture, "tokenizer")):
            value = field.contents()
            (writer.add_float32 if isinstance(value, float) else writer.add_uint32)(key, value)
    for tensor in reader.tensors:
        kind = next((kind for end, kind in kinds.items() if tensor.name.endswith(f"{end}.weight")), None)
        data = np.array(tensor.data)
        if kind is None:
            writer.add_tensor(tensor.name, data)
            continue
        blocks = BLOCK_FORMATS[kind.lower()].quantize(torch.from_numpy(data))
        stored = blocks.view(len(data), -1).numpy()
        writer.add_tensor(tensor.name, stored, raw_dtype=gguf.GGMLQuantizationType[kind])
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path.with_suffix(".new.gguf")


ALL = {"attn_q": "Q4_K", "attn_k": "Q4_K", "attn_v": "Q4_K", "attn_output": "Q6_K", "ffn_down": "Q6_K"}
ALL |= {"ffn_gate": "Q6_K", "ffn_up": "Q6_K", "token_embd": "Q6_K"}


def test_blocks_of_k_quants_stay_too(tmp_path, reference, write_gguf):
    """Rows of blocks are put into another order as rows of numbers are, so Llama's queries work as well."""
    wide = {"hidden_size": 256, "intermediate_size": 256, "num_hidden_layers": 1}
    path = with_kinds(write_gguf(tmp_path / "model.gguf", reference("llama", **wide)), ALL)
    decoded = tinyphi.load_model(path)
    mine = tinyphi.load_model(path, quantize="as_stored")
    found = {matrix: layer(mine, matrix) for matrix, _ in linears(decoded)}
    assert isinstance(found.pop("lm_head"), torch.nn.Linear)  # stored in float32
    assert all(isinstance(kept, BlockLinear) for kept in found.values())
    assert found["layers.0.attention.qkv_proj"].format == "Q4_K"
    for name, kept in found.items():
        assert torch.equal(kept.dequantize(), decoded.get_submodule(name).weight), name
    ids = torch.arange(9)[None]
    with torch.no_grad():
        assert torch.equal(mine(ids), decoded(ids))


MIXED = {
    "kinds": {"attn_q": "Q4_0", "attn_k": "Q4_0", "attn_v": "Q8_0", "ffn_down": "Q4_0"},
    "blocks and plain numbers": {"attn_q": "Q4_0", "attn_k": "Q4_0", "ffn_down": "Q4_0"},
}


@pytest.mark.parametrize("case", MIXED)
def test_a_matrix_of_different_formats_is_decoded_with_a_warning(tmp_path, reference, write_gguf, case):
    path = with_kinds(write_gguf(tmp_path / "model.gguf", reference("llama")), MIXED[case])
    decoded = tinyphi.load_model(path)
    with pytest.warns(UserWarning, match=r"different formats.*decoded.*layers\.0\.attention\.qkv_proj, "):
        mine = tinyphi.load_model(path, quantize="as_stored")
    for number in range(3):
        name = f"layers.{number}.attention.qkv_proj"
        assert torch.equal(mine.get_parameter(f"{name}.weight"), decoded.get_parameter(f"{name}.weight"))
        assert isinstance(mine.get_submodule(f"layers.{number}.mlp.down_proj"), GroupedLinear)
        assert not isinstance(mine.get_submodule(f"layers.{number}.mlp.gate_up_proj"), QuantizedLinear)


def test_a_file_that_is_not_quantized_is_loaded_as_it_is(tmp_path, reference, difference, write_gguf):
    theirs = reference("llama")
    path = write_gguf(tmp_path / "model.gguf", theirs)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        mine = tinyphi.load_model(path, quantize="as_stored")
    assert difference(mine, theirs) <= TOLERANCE


def test_as_stored_is_for_gguf(tmp_path, reference):
    reference("llama").save_pretrained(tmp_path)
    with pytest.raises(InputError, match="is no GGUF file; quantize='as_stored'"):
        tinyphi.load_model(tmp_path, quantize="as_stored")


# AWQ and GPTQ


GPTQ = {"quant_method": "gptq", "bits": 4, "group_size": 32, "desc_act": False, "sym": False}
CONFIGS = {
    Layout.AWQ: {"quant_method": "awq", "bits": 4, "group_size": 32, "version": "gemm", "zero_point": True},
    Layout.GPTQ_V1: GPTQ,
    Layout.GPTQ_V2: {**GPTQ, "checkpoint_format": "gptq_v2"},
}
GROUP = 32


def asymmetric(weight):
    """Whole zero points from 1 to 15, which every layout can hold, and scales of seven binary digits.

    Then scale · zero point has eleven, as float16, and a minimum is exact. (Else it is rounded, which moves a
    weight by less than a hundredth of a step.)
    """
    groups = weight.unflatten(1, (-1, GROUP))
    grid = fit_grid(groups)
    scales = (grid.scales.half().view(torch.int16) & ~15).view(torch.float16).float()
    grid = grid._replace(scales=scales, zeros=grid.zeros.clamp(min=1))
    return from_zeros(grid.codes(groups).flatten(1), grid.scales.squeeze(-1), grid.zeros.squeeze(-1))


def symmetric(weight):
    return quantize_int4(weight, GROUP)


def unpacked(words, order):
    """(r k) int32 → (r 8k), one number after the other: not as tinyphi does it."""
    words = words.numpy().astype(np.uint32)
    numbers = np.stack([words >> np.uint32(4 * order.index(n)) & np.uint32(15) for n in range(8)], axis=-1)
    return torch.tensor(numbers.reshape(len(words), -1).astype(np.float32))


def numbers_of(stored, layout):
    """The matrix (o i) that a checkpoint's tensors stand for, in float32."""
    if layout is Layout.AWQ:
        order = [0, 2, 4, 6, 1, 3, 5, 7]
        codes, zeros = unpacked(stored["qweight"], order), unpacked(stored["qzeros"], order)
        group = torch.arange(len(codes)) // GROUP
    else:
        codes = unpacked(stored["qweight"].T.contiguous(), list(range(8))).T
        zeros = unpacked(stored["qzeros"], list(range(8))) + (layout is Layout.GPTQ_V1)
        group = stored["g_idx"].long()
    return (stored["scales"].float()[group] * (codes - zeros[group])).T


def quantized_directory(path, theirs, layout, rounding=asymmetric, change=None):
    """Save a transformers model as AWQ or GPTQ do; its matrices become what is stored.

    change(name, stored) may change the tensors of a matrix before that.
    """
    theirs.save_pretrained(path)
    tensors = {}
    for name, parameter in theirs.named_parameters():
        if "_proj" not in name:
            tensors[name] = parameter.detach().clone()
            continue
        name = name.removesuffix(".weight")
        stored = write(rounding(parameter.detach()), layout)
        if change is not None:
            change(name, stored)
        with torch.no_grad():
            parameter.copy_(numbers_of(stored, layout))
        tensors |= {f"{name}.{end}": tensor for end, tensor in stored.items()}
    save_file(tensors, path / "model.safetensors")
    config = json.loads((path / "config.json").read_text())
    (path / "config.json").write_text(json.dumps({**config, "quantization_config": CONFIGS[layout]}))
    return path


@pytest.mark.parametrize("rounding", [symmetric, asymmetric])
@pytest.mark.parametrize("layout", Layout)
@pytest.mark.parametrize("architecture", ["phi3", "llama"])
def test_checkpoints_keep_their_codes(tmp_path, reference, difference, architecture, layout, rounding):
    theirs = reference(architecture)
    mine = on_reference(tinyphi.load_model(quantized_directory(tmp_path, theirs, layout, rounding)))
    for name in ("attention.qkv_proj", "attention.o_proj", "mlp.gate_up_proj", "mlp.down_proj"):
        kept = mine.layers[1].get_submodule(name)
        assert isinstance(kept, GroupedLinear)
        assert (kept.format == "int4, groups of 32") == (rounding is symmetric)
    assert mine.embed_tokens.weight.requires_grad
    assert difference(mine, theirs) <= TOLERANCE


def reorder(seed_of):
    """Scatter the columns of all groups, as act-order does; matrices of equal `seed_of(name)` alike."""

    def change(name, stored):
        generator = torch.Generator().manual_seed(seed_of(name))
        stored["g_idx"] = stored["g_idx"][torch.randperm(len(stored["g_idx"]), generator=generator)]

    return change


def by_input(name):
    """One number for those linears of a layer that have the same inputs."""
    part = {"q": "qkv", "k": "qkv", "v": "qkv", "gate": "gate_up", "up": "gate_up"}
    which = name.rpartition(".")[2].removesuffix("_proj")
    return sum(part.get(which, which).encode())


@pytest.mark.parametrize("architecture", ["phi3", "llama"])
@pytest.mark.parametrize("layout", [Layout.GPTQ_V1, Layout.GPTQ_V2])
def test_act_order(tmp_path, reference, difference, architecture, layout):
    theirs = reference(architecture)
    path = quantized_directory(tmp_path, theirs, layout, symmetric, reorder(by_input))
    mine = on_reference(tinyphi.load_model(path))
    assert isinstance(mine.layers[0].attention.qkv_proj, ReorderedLinear)
    assert difference(mine, theirs) <= TOLERANCE


def test_orders_that_differ_within_a_matrix(tmp_path, reference, difference):
    theirs = reference("llama")
    change = reorder(lambda name: sum(name.encode()))
    path = quantized_directory(tmp_path, theirs, Layout.GPTQ_V1, symmetric, change)
    with pytest.warns(UserWarning, match="different formats"):
        mine = on_reference(tinyphi.load_model(path))
    assert isinstance(mine.layers[0].mlp.gate_up_proj, torch.nn.Linear)
    assert isinstance(mine.layers[0].mlp.down_proj, ReorderedLinear)
    assert difference(mine, theirs) <= TOLERANCE


def test_parts_with_and_without_minima_are_joined(tmp_path, reference, difference):
    theirs = reference("llama")
    turns = iter([symmetric, asymmetric, asymmetric] * 100)
    path = quantized_directory(tmp_path, theirs, Layout.AWQ, lambda weight: next(turns)(weight))
    mine = on_reference(tinyphi.load_model(path))
    assert mine.layers[0].attention.qkv_proj.format == "int4, groups of 32 with minima"
    assert difference(mine, theirs) <= TOLERANCE


def test_a_planted_mistake_in_the_packing_is_noticed(tmp_path, reference, difference):
    theirs = reference("llama")
    path = quantized_directory(tmp_path, theirs, Layout.GPTQ_V1, symmetric)
    config = json.loads((path / "config.json").read_text())
    config["quantization_config"] = CONFIGS[Layout.GPTQ_V2]  # which stores other zero points
    (path / "config.json").write_text(json.dumps(config))
    assert difference(on_reference(tinyphi.load_model(path)), theirs) > 100 * TOLERANCE


def test_a_quantized_directory_stays_as_it_is(tmp_path, reference):
    path = quantized_directory(tmp_path, reference("phi3"), Layout.AWQ)
    for method in ("int4", tinyphi.quant.Recipe("q8_0")):
        with pytest.raises(InputError, match=r"is quantized already\. Load it without quantize"):
            tinyphi.load_model(path, quantize=method)


def with_tensors(change):
    def apply(path):
        tensors = load_file(path / "model.safetensors")
        change(tensors)
        save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, path / "model.safetensors")

    return apply


def with_settings(settings):
    def apply(path):
        config = json.loads((path / "config.json").read_text())
        (path / "config.json").write_text(json.dumps({**config, "quantization_config": settings}))

    return apply


QKV, DOWN = "model.layers.0.self_attn.qkv_proj", "model.layers.1.mlp.down_proj"
BROKEN = {
    "bitsandbytes": (
        with_settings({"quant_method": "bitsandbytes", "load_in_4bit": True}),
        ConfigError,
        "by the method 'bitsandbytes'; tinyphi reads 'awq', 'gptq'",
    ),
    "no method": (with_settings({"bits": 4}), ConfigError, "by the method 'None'"),
    "a list": (with_settings([4]), ConfigError, "by the method 'None'"),
    "a text": (with_settings("awq"), ConfigError, "by the method 'None'"),
    "a method that is a list": (with_settings({"quant_method": ["awq"]}), ConfigError, "by the method"),
    "8 bits": (with_settings({**CONFIGS[Layout.AWQ], "bits": 8}), ConfigError, "bits is 8"),
    "another version": (with_settings({**CONFIGS[Layout.AWQ], "version": "marlin"}), ConfigError, "marlin"),
    "nothing about it": (with_settings(None), WeightsError, "12 missing: 'model.layers.0.self_attn.qkv_proj"),
    "the other method": (with_settings(GPTQ), WeightsError, "lacks its tensors g_idx"),
    "no scales": (
        with_tensors(lambda tensors: tensors.pop(f"{QKV}.scales")),
        WeightsError,
        f"'{QKV}' lacks its tensors scales",
    ),
    "no codes": (
        with_tensors(lambda tensors: tensors.pop(f"{QKV}.qweight")),
        WeightsError,
        f"1 missing: '{QKV}.weight'; 2 unexpected",
    ),
    "fewer rows": (
        with_tensors(lambda tensors: tensors.update({f"{QKV}.qweight": tensors[f"{QKV}.qweight"][:32]})),
        WeightsError,
        rf"1 of another shape: {QKV}.weight is \(128, 32\), expected \(128, 64\)",
    ),
    "one axis": (
        with_tensors(lambda tensors: tensors.update({f"{QKV}.qweight": tensors[f"{QKV}.qweight"][0]})),
        WeightsError,
        "must have two axes",
    ),
    "fewer scales": (
        with_tensors(lambda tensors: tensors.update({f"{DOWN}.scales": tensors[f"{DOWN}.scales"][:, :8]})),
        WeightsError,
        f"'{DOWN}' cannot be read: qweight",
    ),
    "codes that are bytes": (
        with_tensors(lambda tensors: tensors.update({f"{DOWN}.qweight": tensors[f"{DOWN}.qweight"].byte()})),
        WeightsError,
        f"'{DOWN}' cannot be read: qweight and qzeros must be int32",
    ),
    "a bias": (
        with_tensors(lambda tensors: tensors.update({f"{DOWN}.bias": torch.ones(64)})),
        WeightsError,
        f"'{DOWN}' cannot be read: This linear has a bias",
    ),
    "twice": (
        with_tensors(lambda tensors: tensors.update({f"{DOWN}.weight": torch.ones(64, 96)})),
        WeightsError,
        f"'{DOWN}' is there twice",
    ),
    "whole numbers as weights": (
        with_tensors(lambda tensors: tensors.update({"model.norm.weight": torch.ones(64).int()})),
        WeightsError,
        r"'model.norm.weight' holds whole numbers \(I32\)",
    ),
    "infinite scales": (
        with_tensors(lambda tensors: tensors[f"{DOWN}.scales"].fill_(torch.inf)),
        WeightsError,
        f"'{DOWN}' cannot be read: Some scales are not finite",
    ),
}


@pytest.mark.parametrize("case", BROKEN)
def test_broken_directories(tmp_path, reference, case):
    damage, error, message = BROKEN[case]
    path = quantized_directory(tmp_path, reference("phi3"), Layout.AWQ)
    tinyphi.load_model(path)
    damage(path)
    with pytest.raises(error, match=message) as caught:
        tinyphi.load_model(path)
    assert len(str(caught.value)) < 1000


@pytest.mark.parametrize("cut", [1, 5000, 60_000])
def test_a_file_that_is_cut_off(tmp_path, reference, cut):
    path = quantized_directory(tmp_path, reference("phi3"), Layout.GPTQ_V1)
    file = path / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-cut])
    with pytest.raises(WeightsError, match="cut off or damaged"):
        tinyphi.load_model(path)


def test_a_bias_of_zeros_is_allowed(tmp_path, reference, difference):
    theirs = reference("phi3")
    path = quantized_directory(tmp_path, theirs, Layout.AWQ, symmetric)
    with_tensors(lambda tensors: tensors.update({f"{DOWN}.bias": torch.zeros(64)}))(path)
    assert difference(on_reference(tinyphi.load_model(path)), theirs) <= TOLERANCE
