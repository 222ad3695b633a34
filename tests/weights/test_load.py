"""Loaded models compute the logits of transformers, within the memory of the model itself."""

import json
import math
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import gguf
import psutil
import pytest
import torch
from transformers import LlamaForCausalLM

import tinyphi
from tinyphi.config import PhiConfig
from tinyphi.errors import ConfigError, FetchError, InputError, MemoryShortage, WeightsError
from tinyphi.quant import Recipe
from tinyphi.quant.linear import QuantizedEmbedding, QuantizedLinear
from tinyphi.quant.quantize import linears
from tinyphi.weights import load
from tinyphi.weights.directory import Directory
from tinyphi.weights.fetch import resolve
from tinyphi.weights.gguf import GGUFFile
from tinyphi.weights.gguf_config import config_from_gguf
from tinyphi.weights.names import LAYOUTS

LONGROPE = {
    "original_max_position_embeddings": 16,
    "rope_scaling": {
        "type": "longrope",
        "short_factor": [1.0, 1.05, 1.1, 1.15, 1.2, 1.25, 1.3, 1.35],
        "long_factor": [1.0, 1.7, 2.4, 3.1, 4.8, 5.5, 6.2, 7.9],
    },
}
MODELS = {
    "phi3": ("phi3", {}),
    "phi3, one head a group": ("phi3", {"num_key_value_heads": 4}),
    "phi3, tied": ("phi3", {"tie_word_embeddings": True}),
    "phi3, half rotated, window": ("phi3", {"partial_rotary_factor": 0.5, "sliding_window": 9}),
    "phi3, longrope": ("phi3", LONGROPE),
    "llama": ("llama", {"rms_norm_eps": 1e-5}),
    "llama, tied": ("llama", {"tie_word_embeddings": True, "rope_theta": 1e5}),
}
TOLERANCE = 1e-5
GOLDEN = Path(__file__).parents[2] / "../shared/golden/hf_tiny"


@pytest.mark.parametrize("shard_size", ["1GB", "40KB"])
@pytest.mark.parametrize("name", MODELS)
def test_a_directory_equals_transformers(tmp_path, reference, difference, name, shard_size):
    architecture, changes = MODELS[name]
    theirs = reference(architecture, **changes)
    theirs.save_pretrained(tmp_path, max_shard_size=shard_size)
    assert (tmp_path / "model.safetensors.index.json").exists() == (shard_size == "40KB")
    mine = tinyphi.load_model(tmp_path)
    assert difference(mine, theirs) <= TOLERANCE
    assert not mine.training
    assert all(parameter.requires_grad for parameter in mine.parameters())
    assert (mine.lm_head.weight is mine.embed_tokens.weight) == theirs.config.tie_word_embeddings


@pytest.mark.parametrize("stored", [torch.bfloat16, torch.float16])
def test_dtypes(tmp_path, reference, difference, stored):
    reference("llama").to(stored).save_pretrained(tmp_path)
    theirs = LlamaForCausalLM.from_pretrained(tmp_path, dtype=torch.float32)
    before = torch.get_default_dtype()
    same, full = tinyphi.load_model(tmp_path, dtype=stored), tinyphi.load_model(tmp_path)
    double = tinyphi.load_model(tmp_path / "model.safetensors", dtype=torch.float64)
    assert torch.get_default_dtype() == before
    for name, parameter in full.named_parameters():
        assert parameter.dtype == torch.float32
        assert torch.equal(parameter, same.get_parameter(name).float())
        assert torch.equal(parameter.double(), double.get_parameter(name))
    assert all(parameter.dtype == stored for parameter in same.parameters())
    assert difference(full, theirs) <= TOLERANCE


@pytest.mark.parametrize("kind", ["F32", "F16", "Q8_0", "Q4_1"])
@pytest.mark.parametrize("name", MODELS)
def test_a_gguf_file_equals_transformers(tmp_path, reference, difference, write_gguf, name, kind):
    architecture, changes = MODELS[name]
    theirs = reference(architecture, **changes)
    path = write_gguf(tmp_path / "model.gguf", theirs, gguf.GGMLQuantizationType[kind])
    mine = tinyphi.load_model(path)
    assert difference(mine, theirs) <= TOLERANCE
    theirs.save_pretrained(tmp_path)
    from_directory = tinyphi.load_model(tmp_path).config
    if mine.config.long_factor is None:  # else it decides nothing, and a Llama file does not have it
        from_directory = replace(
            from_directory, original_max_position_embeddings=mine.config.original_max_position_embeddings
        )
    assert mine.config == from_directory


PLANTED = {
    "gate and up swapped": ("llama", {"gate_up": ("mlp.up_proj", "mlp.gate_proj")}),
    "keys and values swapped": (
        "llama",
        {"qkv": ("self_attn.q_proj", "self_attn.v_proj", "self_attn.k_proj")},
    ),
    "norms swapped": ("phi3", {"attention_norm": "post_attention_layernorm", "mlp_norm": "input_layernorm"}),
    "queries and keys left interleaved": ("gguf llama", {"interleaved": False}),
    "gate and up swapped in GGUF": ("gguf llama", {"gate_up": ("ffn_up", "ffn_gate")}),
}


@pytest.mark.parametrize("mistake", PLANTED)
def test_a_planted_mistake_is_noticed(tmp_path, reference, difference, write_gguf, monkeypatch, mistake):
    layout, wrong = PLANTED[mistake]
    theirs = reference(layout.removeprefix("gguf "))
    if layout.startswith("gguf"):
        source = write_gguf(tmp_path / "model.gguf", theirs)
    else:
        theirs.save_pretrained(tmp_path)
        source = tmp_path
    monkeypatch.setitem(LAYOUTS, layout, replace(LAYOUTS[layout], **wrong))
    assert difference(tinyphi.load_model(source), theirs) > 100 * TOLERANCE


@pytest.mark.skipif(not GOLDEN.exists(), reason="the shared golden files are not on this machine")
@pytest.mark.parametrize("name", ["mha", "longrope"])
def test_golden_logits(name):
    expected = json.loads((GOLDEN / name / "expected.json").read_text())
    ids, theirs = torch.tensor(expected["ids"]), torch.tensor(expected["logits_f64_params_full"])
    with torch.no_grad():
        logits = tinyphi.load_model(GOLDEN / name)(ids)
    assert (logits - theirs).abs().max() <= TOLERANCE * theirs.abs().max()


def test_a_tied_head_may_be_stored_if_it_is_the_embedding(tmp_path, reference, difference):
    theirs = reference("llama")
    with torch.no_grad():
        theirs.lm_head.weight.copy_(theirs.model.embed_tokens.weight)
    theirs.save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, "tie_word_embeddings": True}))
    assert difference(tinyphi.load_model(tmp_path), theirs) <= TOLERANCE
    with torch.no_grad():
        theirs.lm_head.weight[3, 5] += 1
    theirs.save_pretrained(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({**config, "tie_word_embeddings": True}))
    with pytest.raises(WeightsError, match="head that differs from the embedding"):
        tinyphi.load_model(tmp_path)


def rewritten(path, change):
    """The metadata and tensors of a GGUF file, written again after `change(metadata, tensors)`."""
    reader = gguf.GGUFReader(path)
    metadata = {key: field.contents() for key, field in reader.fields.items() if "." in key}
    metadata = {key: value for key, value in metadata.items() if not key.startswith("GGUF.")}
    tensors = {tensor.name: tensor.data.copy() for tensor in reader.tensors}
    change(metadata, tensors)
    writer = gguf.GGUFWriter(path.with_suffix(".new.gguf"), metadata.pop("general.architecture"))
    for key, value in metadata.items():
        add = {int: writer.add_uint32, float: writer.add_float32, str: writer.add_string}[type(value)]
        add(key, value)
    for name, data in tensors.items():
        writer.add_tensor(name, data)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path.with_suffix(".new.gguf")


FACTOR = torch.ones(8).numpy()
BAD_GGUF = {
    # what is changed → architecture, change, error, message
    "architecture": (
        "llama",
        lambda m, t: m.update({"general.architecture": "gemma"}),
        ConfigError,
        "'gemma'; tinyphi reads",
    ),
    "no layers": ("llama", lambda m, t: m.pop("llama.block_count"), WeightsError, "block_count is None"),
    "a text": (
        "llama",
        lambda m, t: m.update({"llama.context_length": "long"}),
        WeightsError,
        "context_length is 'long'",
    ),
    "a fraction of heads": (
        "llama",
        lambda m, t: m.update({"llama.attention.head_count": 4.5}),
        ConfigError,
        "num_attention_heads is 4.5",
    ),
    "very many layers": (
        "llama",
        lambda m, t: m.update({"llama.block_count": 2**31}),
        WeightsError,
        "there are only 30 tensors",
    ),
    "no embedding": ("llama", lambda m, t: t.pop("token_embd.weight"), WeightsError, "no tensor 'token_embd"),
    "linear scaling": (
        "llama",
        lambda m, t: m.update({"llama.rope.scaling.type": "linear"}),
        ConfigError,
        "scales its rotation",
    ),
    "Llama 3's factors": (
        "llama",
        lambda m, t: t.update({"rope_freqs.weight": FACTOR}),
        ConfigError,
        "RoPE's frequencies by 'rope_freqs",
    ),
    "too few factors": (
        "phi3",
        lambda m, t: t.update({f"rope_factors_{x}.weight": FACTOR[:5] for x in ("short", "long")}),
        WeightsError,
        r"is \(5,\), expected \(8,\)",
    ),
    "one kind of factors": (
        "phi3",
        lambda m, t: t.update({"rope_factors_long.weight": FACTOR}),
        ConfigError,
        "needs both",
    ),
    "attention factor": (
        "phi3",
        lambda m, t: m.update({"phi3.rope.scaling.attn_factor": 1.5}),
        ConfigError,
        "attention factor of 1.5",
    ),
    "a layer less": ("phi3", lambda m, t: m.update({"phi3.block_count": 2}), WeightsError, "6 unexpected"),
    "wider": (
        "phi3",
        lambda m, t: m.update({"phi3.embedding_length": 128}),
        WeightsError,
        "of another shape",
    ),
}


@pytest.mark.parametrize("case", BAD_GGUF)
def test_gguf_files_that_contradict_themselves(tmp_path, reference, write_gguf, case):
    architecture, change, error, message = BAD_GGUF[case]
    path = write_gguf(tmp_path / "model.gguf", reference(architecture))
    with pytest.raises(error, match=message):
        tinyphi.load_model(rewritten(path, change))


@pytest.mark.parametrize("rotated", range(2, 98, 2))
def test_any_number_of_rotated_channels(tmp_path, rotated):
    """Division rounds: int(94 × (6 / 94)) is 5."""
    writer = gguf.GGUFWriter(tmp_path / "model.gguf", "phi3")
    for key, value in {
        "context_length": 8,
        "embedding_length": 98,
        "feed_forward_length": 8,
        "block_count": 1,
        "attention.head_count": 1,
        "rope.dimension_count": rotated,
    }.items():
        writer.add_uint32(f"phi3.{key}", value)
    writer.add_layer_norm_rms_eps(1e-6)
    writer.add_tensor("token_embd.weight", torch.ones(4, 98).numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    config = config_from_gguf(GGUFFile(tmp_path / "model.gguf"))
    assert config.rotary_dim == rotated
    assert config.rms_norm_eps == 1e-6


def test_arguments_that_cannot_be(tmp_path, reference):
    reference("llama").save_pretrained(tmp_path)
    with pytest.raises(InputError, match=r"cannot compute in torch\.int8"):
        tinyphi.load_model(tmp_path, dtype=torch.int8)
    with pytest.raises(InputError, match="'quantum' cannot be used here"):
        tinyphi.load_model(tmp_path, device="quantum")


def test_a_model_that_would_not_fit_is_not_begun(tmp_path, reference, monkeypatch):
    reference("llama").save_pretrained(tmp_path)
    needed = Directory(tmp_path).config["vocab_size"] * 64 * 4
    monkeypatch.setattr(load, "free_memory", lambda: needed)
    with pytest.raises(MemoryShortage, match=r"needs 0.0 GB in float32, but only .* dtype=torch.bfloat16"):
        tinyphi.load_model(tmp_path)


def test_free_memory_is_that_of_the_container(tmp_path, monkeypatch):
    monkeypatch.setattr(load, "_CONTROL_GROUP", tmp_path)
    machine = psutil.virtual_memory().available
    assert math.isclose(load.free_memory(), machine, rel_tol=0.2)
    (tmp_path / "memory.max").write_text("max\n")
    (tmp_path / "memory.current").write_text("900000\n")
    (tmp_path / "memory.stat").write_text("anon 500000\ninactive_file 300000\nactive_file 100000\n")
    assert math.isclose(load.free_memory(), machine, rel_tol=0.2)
    (tmp_path / "memory.max").write_text("1000000\n")
    assert load.free_memory() == 1_000_000 - 900_000 + 400_000


MEASURE = """
import sys, psutil, torch
from pathlib import Path
import tinyphi
from tinyphi.weights.load import load_model

def peak():
    status = Path("/proc/self/status").read_text()
    return 1024 * int(status.split("VmHWM:")[1].split()[0])

directory, dtype, how = sys.argv[1:]
dtype = getattr(torch, dtype)
before = psutil.Process().memory_info().rss
assert peak() - before < 8e6
if how == "tinyphi":
    model = load_model(directory, dtype=dtype)
elif how == "int4":
    model = load_model(directory, dtype=dtype, quantize=how)
elif how == "int4 afterwards":
    model = load_model(directory, dtype=dtype)
    tinyphi.quant.quantize(model, "int4")
else:
    import json
    from safetensors.torch import load_file
    from tinyphi.config import PhiConfig
    from tinyphi.model.transformer import Phi3
    config = PhiConfig.from_hugging_face(json.loads(Path(directory, "config.json").read_text()))
    tensors = {}
    for shard in Path(directory).glob("*.safetensors"):
        tensors |= load_file(shard)
    model = Phi3(config).to(dtype)
    for mine, theirs in zip(model.parameters(), tensors.values()):
        mine.data = theirs.to(dtype).clone()
print((peak() - before) / sum(tensor.nbytes for tensor in [*model.parameters(), *model.buffers()]))
"""


@pytest.fixture(scope="module")
def medium_model(tmp_path_factory):
    """240 MB in bfloat16, in two shards, written by the script for Phi-3-mini's layout."""
    directory = tmp_path_factory.mktemp("medium")
    script = Path(__file__).with_name("make_phi3_mini_layout.py")
    config = "vocab_size=8000, hidden_size=1024, intermediate_size=2816, num_hidden_layers=8, "
    config += "num_attention_heads=16, num_key_value_heads=16, eos_token_id=2, pad_token_id=2"
    program = f"""
import runpy, pathlib, dataclasses, tinyphi
from tinyphi.config import PhiConfig
config = dataclasses.replace(PhiConfig.preset("phi-3-mini-4k"), {config})
runpy.run_path({str(script)!r})["write_layout"](pathlib.Path({str(directory)!r}), config)
"""
    subprocess.run([sys.executable, "-c", program], check=True)
    return directory


def peak_memory(directory, dtype, how) -> float:
    """Peak memory of loading in a process of its own, as a multiple of the model's bytes."""
    command = [sys.executable, "-c", MEASURE, str(directory), dtype, how]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


needs_proc = pytest.mark.skipif(sys.platform != "linux", reason="reads the peak memory from /proc")


@needs_proc
@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
def test_loading_takes_hardly_more_than_the_model(medium_model, dtype):
    assert peak_memory(medium_model, dtype, "tinyphi") <= 1.15


@needs_proc
def test_a_second_copy_would_be_noticed(medium_model):
    assert peak_memory(medium_model, "bfloat16", "with a copy") > 1.5


@needs_proc
def test_the_whole_model_is_never_there_unquantized(medium_model):
    quantized, whole = 68e6, 240e6  # bytes
    assert peak_memory(medium_model, "bfloat16", "int4") * quantized < 0.9 * whole
    assert peak_memory(medium_model, "bfloat16", "int4 afterwards") * quantized > 1.1 * whole


def test_the_layout_of_phi_3_mini(tmp_path):
    """One layer of the script's directory: the published names, shapes and shards, loaded and run."""
    script = Path(__file__).with_name("make_phi3_mini_layout.py")
    subprocess.run([sys.executable, str(script), str(tmp_path), "--layers", "1"], check=True)
    index = json.loads((tmp_path / "model.safetensors.index.json").read_text())
    assert len(set(index["weight_map"].values())) == 2
    assert len(index["weight_map"]) == 9
    model = tinyphi.load_model(tmp_path, dtype=torch.bfloat16)
    assert model.config == replace(PhiConfig.preset("phi-3-mini-4k"), num_hidden_layers=1)
    with torch.no_grad():
        logits = model(torch.tensor([[1, 15043, 32007]]))
    assert logits.shape == (1, 3, 32064)
    assert bool(logits.isfinite().all())
    assert logits.std() > 0.1


def test_smollm2():
    """The real file: its configuration is the preset, and a few tensors of each kind are those of gguf."""
    try:
        path = resolve("smollm2-135m")
    except FetchError as error:
        pytest.skip(f"the weights are not here and cannot be fetched: {error}")
    model, tokenizer = tinyphi.load(path)
    assert model.config == PhiConfig.preset("smollm2-135m")
    assert tokenizer.vocab_size == model.config.vocab_size
    parameters = dict(model.named_parameters())
    tensors = {tensor.name: tensor for tensor in gguf.GGUFReader(path).tensors}
    for name, parameter in {
        "token_embd": "embed_tokens",
        "blk.29.ffn_down": "layers.29.mlp.down_proj",
        "blk.7.attn_norm": "layers.7.attention_norm",
    }.items():
        stored = tensors[f"{name}.weight"]
        values = torch.tensor(gguf.quants.dequantize(stored.data, stored.tensor_type))
        assert torch.equal(parameters[f"{parameter}.weight"], values)


METHODS = ["int8", "int4", "nf4", "q8_0", "q4_0", "q4_1"]


def codes(model):
    """Every tensor of the quantized matrices, and all parameters."""
    found = dict(model.named_parameters())
    for name, part in linears(model):
        part = part.table if isinstance(part, QuantizedEmbedding) else part
        if isinstance(part, QuantizedLinear):
            found |= {f"{name}.{end}": tensor for end, tensor in part.stored().items()}
    return found


def equal(mine, theirs):
    mine, theirs = codes(mine), codes(theirs)
    return mine.keys() == theirs.keys() and all(torch.equal(mine[name], theirs[name]) for name in mine)


@pytest.mark.parametrize("quantize", METHODS)
@pytest.mark.parametrize("name", ["phi3", "phi3, tied", "llama", "llama, tied"])
def test_quantizing_while_loading_is_quantizing_after_it(tmp_path, reference, write_gguf, name, quantize):
    architecture, changes = MODELS[name]
    theirs = reference(architecture, **changes)
    theirs.save_pretrained(tmp_path)
    for source in (tmp_path, write_gguf(tmp_path / "model.gguf", theirs)):
        afterwards = tinyphi.load_model(source, dtype=torch.bfloat16)
        tinyphi.quant.quantize(afterwards, quantize)
        mine = tinyphi.load_model(source, dtype=torch.bfloat16, quantize=quantize)
        assert equal(mine, afterwards)
        tied = theirs.config.tie_word_embeddings
        assert (mine.embed_tokens.table is mine.lm_head) == tied
        assert mine.norm.weight.dtype == torch.bfloat16
        assert not mine.training


def test_a_recipe_is_kept_to(tmp_path, reference):
    reference("llama").save_pretrained(tmp_path)
    keep = {"lm_head": "full", "*.o_proj": "nf4", "embed_tokens": "q8_0"}
    recipe = Recipe("int4", group_size=16, symmetric=False, keep=keep)
    mine, afterwards = tinyphi.load_model(tmp_path, quantize=recipe), tinyphi.load_model(tmp_path)
    tinyphi.quant.quantize(afterwards, "int4", group_size=16, symmetric=False, keep=keep)
    assert equal(mine, afterwards)
    assert not isinstance(mine.lm_head, QuantizedLinear)
    assert not equal(tinyphi.load_model(tmp_path, quantize=Recipe("int4", group_size=16)), afterwards)


def test_a_quantize_that_is_none(tmp_path, monkeypatch):
    """Refused before anything is fetched."""
    monkeypatch.setattr(load, "resolve", lambda source: pytest.fail("fetched"))
    for method in ("awq", "gptq"):
        with pytest.raises(InputError, match=rf"Load it first.*quantize\(model, '{method}', ids=…\)"):
            tinyphi.load_model("smollm2-135m", quantize=method)
    for wrong in ("int3", 4, "full", ["int4"]):
        with pytest.raises(InputError, match="choose one of int8, int4, nf4, q8_0"):
            tinyphi.load("smollm2-135m", quantize=wrong)


def test_weights_that_cannot_be_quantized(tmp_path, reference):
    theirs = reference("llama")
    with torch.no_grad():
        theirs.model.layers[1].mlp.down_proj.weight[3, 5] = torch.nan
    theirs.save_pretrained(tmp_path)
    with pytest.raises(WeightsError, match=r"layers\.1\.mlp\.down_proj cannot be quantized.*row 3, column 5"):
        tinyphi.load_model(tmp_path, quantize="int4")


def test_a_quantized_model_needs_less(tmp_path, reference, monkeypatch):
    """What is free would do for the quantized model and its largest matrix, but not for the model."""
    reference("llama").save_pretrained(tmp_path)
    mine = tinyphi.load_model(tmp_path, quantize="int4")
    held = sum(tensor.nbytes for tensor in [*mine.parameters(), *mine.buffers()])
    largest = 2 * 96 * 64 * 4  # gate and up in float32
    monkeypatch.setattr(load, "free_memory", lambda: held + largest)
    tinyphi.load_model(tmp_path, quantize="int4")
    with pytest.raises(MemoryShortage, match=r"in float32.*bfloat16 needs half of that, quantize='int4'"):
        tinyphi.load_model(tmp_path)
    monkeypatch.setattr(load, "free_memory", lambda: held + largest - 1)
    with pytest.raises(MemoryShortage, match=r"as int4, but only .*choose a smaller model"):
        tinyphi.load_model(tmp_path, quantize="int4")


def test_loading_leaves_random_numbers_alone(tmp_path, reference):
    reference("llama").save_pretrained(tmp_path)
    torch.manual_seed(0)
    expected = torch.rand(1)
    torch.manual_seed(0)
    tinyphi.load_model(tmp_path, quantize="int4")
    assert torch.rand(1) == expected
