"""A quantized model comes back from its directory bit for bit; a damaged directory is one clear error."""

import json
import shutil

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

import tinyphi
from tinyphi.config import PhiConfig
from tinyphi.errors import ConfigError, TinyphiError, WeightsError
from tinyphi.model.norm import RMSNorm
from tinyphi.model.transformer import Phi3
from tinyphi.quant import quantize
from tinyphi.quant.checkpoints import ReorderedLinear
from tinyphi.quant.groupwise import quantize_int4
from tinyphi.quant.linear import QuantizedEmbedding, QuantizedLinear
from tinyphi.quant.nf4 import NF4Linear, quantize_nf4
from tinyphi.quant.quantize import linears, put

SIZES = {
    "vocab_size": 160,
    "hidden_size": 256,
    "intermediate_size": 256,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
    "eos_token_id": 2,
    "pad_token_id": 2,
}
IDS = torch.randint(160, (2, 20), generator=torch.Generator().manual_seed(0))


def random_model(**changes):
    torch.manual_seed(7)
    model = Phi3(PhiConfig(**{**SIZES, **changes})).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(0.2 * torch.randn_like(parameter))
        for part in model.modules():
            if isinstance(part, RMSNorm):
                part.weight.uniform_(0.5, 1.5)
    return model


def stored(model):
    """Every tensor of the quantized layers, by the module's name, and all parameters."""
    found = dict(model.named_parameters())
    for name, part in linears(model):
        part = part.table if isinstance(part, QuantizedEmbedding) else part
        if isinstance(part, QuantizedLinear):
            found |= {f"{name} {part.format} {end}": tensor for end, tensor in part.stored().items()}
    return found


def comes_back(model, path, **options):
    """Whether a model, saved and loaded, is the same to the last bit."""
    tinyphi.save(model, None, path, **options)
    again = tinyphi.load_model(path, dtype=model.norm.weight.dtype)
    mine, theirs = stored(model), stored(again)
    assert mine.keys() == theirs.keys()
    assert again.config == model.config
    assert not again.training
    with torch.no_grad():
        same = torch.equal(model(IDS), again(IDS))
    return same and all(
        torch.equal(mine[name], theirs[name]) and mine[name].dtype == theirs[name].dtype for name in mine
    )


METHODS = {
    "int8": {},
    "int4": {},
    "int4, 64, with minima": {"method": "int4", "group_size": 64, "symmetric": False},
    "int4, one group a row": {"method": "int4", "group_size": 256},
    "nf4": {},
    "q8_0": {},
    "q4_0": {},
    "q4_1": {},
    "q4_k": {},
    "q6_k": {},
    "several": {
        "method": "int4",
        "keep": {"embed_tokens": "full", "lm_head": "q6_k", "*.down_proj": "nf4", "*.o_proj": "full"},
    },
}


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("name", METHODS)
def test_every_format_comes_back(tmp_path, name, tied):
    model = random_model(tie_word_embeddings=tied)
    quantize(model, **{"method": name, **METHODS[name]})
    assert comes_back(model, tmp_path / "saved")
    assert comes_back(model, tmp_path / "saved", max_shard_bytes=50_000)
    assert (tmp_path / "saved" / "model.safetensors.index.json").exists()
    again = tinyphi.load_model(tmp_path / "saved")
    if tied and isinstance(again.embed_tokens, QuantizedEmbedding):
        assert again.embed_tokens.table is again.lm_head
    assert [path.name for path in tmp_path.iterdir()] == ["saved"]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_the_dtype_of_the_rest_is_kept(tmp_path, dtype):
    model = random_model().to(dtype)
    quantize(model, "int4", keep={"lm_head": "full"})
    assert comes_back(model, tmp_path / "saved")
    assert tinyphi.load_model(tmp_path / "saved", dtype=dtype).lm_head.weight.dtype == dtype


def test_layers_that_are_no_method_of_quantize(tmp_path):
    """Columns in another order come from GPTQ files; NF4 also without double quantization, of odd sizes."""
    model = random_model(hidden_size=36, intermediate_size=25, num_attention_heads=3, num_key_value_heads=1)
    order = torch.randperm(36, generator=torch.Generator().manual_seed(1))
    put(model, "lm_head", ReorderedLinear(quantize_int4(torch.randn(160, 36), 4), order))
    put(model, "embed_tokens", NF4Linear(quantize_nf4(torch.randn(160, 36))))
    put(model, "layers.0.mlp.down_proj", NF4Linear(quantize_nf4(torch.randn(36, 25).half())))
    put(model, "layers.1.mlp.down_proj", NF4Linear(quantize_nf4(torch.randn(36, 25), double=True)))
    assert comes_back(model, tmp_path / "saved")


def test_a_planted_mistake_is_noticed(tmp_path, monkeypatch):
    model = random_model()
    quantize(model, "int4")
    monkeypatch.setattr(
        "tinyphi.quant.linear.unpack_nibbles",
        lambda codes: torch.stack((codes >> 4, codes & 15), dim=-1).flatten(1),
    )
    assert not comes_back(model, tmp_path / "saved")


def test_transformers_refuses_what_it_cannot_compute(tmp_path):
    model = random_model()
    quantize(model, "int4")
    tinyphi.save(model, None, tmp_path / "saved")
    with pytest.raises(ValueError, match="quantization config"):
        AutoModelForCausalLM.from_pretrained(tmp_path / "saved")


def test_the_file_is_as_small_as_the_model(tmp_path):
    model = random_model()
    report = quantize(model, "int4", keep={})
    tinyphi.save(model, None, tmp_path / "saved")
    header = 20_000
    assert (tmp_path / "saved" / "model.safetensors").stat().st_size < report.bytes + header


class Odd(QuantizedLinear):
    """A layer that no file can describe."""

    format = "odd"

    def dequantize(self, dtype=torch.float32):
        return torch.zeros(self.out_features, self.in_features, dtype=dtype)

    def stored(self):
        return {}


def test_a_layer_of_an_unknown_class_is_not_saved(tmp_path):
    model = random_model()
    put(model, "layers.1.mlp.down_proj", Odd(256, 256))
    with pytest.raises(WeightsError, match=r"model\.layers\.1\.mlp\.down_proj is a Odd.*no format"):
        tinyphi.save(model, None, tmp_path / "saved")
    assert list(tmp_path.iterdir()) == []


# Damaged directories


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    """One matrix of each class, and all others in int4."""
    model = random_model(hidden_size=32, intermediate_size=64)
    wide = {"layers.1.mlp.down_proj": "q8_0", "layers.1.mlp.gate_up_proj": "nf4", "lm_head": "full"}
    quantize(model, "int4", symmetric=False, keep={**wide, "embed_tokens": "int8"})
    order = torch.randperm(32, generator=torch.Generator().manual_seed(1))
    put(model, "layers.1.attention.o_proj", ReorderedLinear(quantize_int4(torch.randn(32, 32)), order))
    small = random_model(num_hidden_layers=1)
    quantize(small, "q4_k")
    path = tmp_path_factory.mktemp("saved")
    tinyphi.save(model, None, path / "small groups")
    tinyphi.save(small, None, path / "blocks")
    return path


def tensors(change):
    def apply(path):
        found = load_file(path / "model.safetensors")
        change(found)
        save_file({name: tensor.contiguous() for name, tensor in found.items()}, path / "model.safetensors")

    return apply


def config(change):
    def apply(path):
        content = json.loads((path / "config.json").read_text())
        change(content["quantization_config"], content["quantization_config"]["matrices"])
        (path / "config.json").write_text(json.dumps(content))

    return apply


def description(change):
    """Change the JSON that describes an NF4 matrix."""

    def apply(found):
        name = f"{NF4}.weight.quant_state.bitsandbytes__nf4"
        content = json.loads(bytes(found[name].tolist()))
        change(content)
        found[name] = torch.tensor(list(json.dumps(content).encode()), dtype=torch.uint8)

    return tensors(apply)


QKV = "model.layers.0.self_attn.qkv_proj"
NF4 = "model.layers.1.mlp.gate_up_proj"
ORDERED = "model.layers.1.self_attn.o_proj"
BLOCKS = "model.layers.0.mlp.down_proj"  # of the second directory
DAMAGE = {
    "no scales": (tensors(lambda t: t.pop(f"{QKV}.scales")), f"'{QKV}' lacks its tensor 'scales'"),
    "no codes": (tensors(lambda t: t.pop(f"{QKV}.codes")), f"'{QKV}' lacks its tensor 'codes'"),
    "no minima": (tensors(lambda t: t.pop(f"{QKV}.minima")), "its tensors are int4, a scale per row, but"),
    "fewer codes": (
        tensors(lambda t: t.update({f"{QKV}.codes": t[f"{QKV}.codes"][:5]})),
        r"qkv_proj.codes' is U8 \(5, 16\); by config.json it must be U8 \(\d+, 16\)",
    ),
    "codes of another type": (
        tensors(lambda t: t.update({f"{QKV}.codes": t[f"{QKV}.codes"].int()})),
        r"is I32 .* must be U8",
    ),
    "fewer scales": (
        tensors(lambda t: t.update({f"{QKV}.scales": t[f"{QKV}.scales"][:5]})),
        r"scales' is F16 \(5, 1\)",
    ),
    "more scales": (
        tensors(lambda t: t.update({f"{QKV}.scales": t[f"{QKV}.scales"].repeat(1, 3)})),
        f"'{QKV}' has 3 scales for a row of 32 weights",
    ),
    "no row of scales": (
        tensors(lambda t: t.update({f"{QKV}.scales": torch.tensor(1.0).half()})),
        f"'{QKV}' has 0 scales",
    ),
    "scales in float32": (
        tensors(lambda t: t.update({f"{QKV}.scales": t[f"{QKV}.scales"].float()})),
        "is F32 .* must be F16",
    ),
    "a tensor more": (tensors(lambda t: t.update({f"{QKV}.order": torch.arange(32)})), "1 unexpected"),
    "not in config.json": (config(lambda c, m: m.pop(QKV)), f"1 missing: '{QKV}.weight'; 3 unexpected"),
    "a matrix more": (config(lambda c, m: m.update(more=m[QKV])), "'more' lacks its tensor 'scales'"),
    "twice": (
        tensors(lambda t: t.update({f"{QKV}.weight": torch.ones(128, 32)})),
        f"'{QKV}' is there twice",
    ),
    "another shape": (
        config(lambda c, m: m[QKV].update(shape=[128, 32])),
        r"by config.json it must be U8 \(128, 16\)",
    ),
    "a shape that is not the model's": (
        tensors(lambda t: t.update({f"{BLOCKS}.codes": t[f"{BLOCKS}.codes"].repeat(2, 1)})),
        r"must be U8 \(32, 32\)",
    ),
    "another format": (config(lambda c, m: m[QKV].update(format="int3")), "config.json says 'int3'"),
    "an unknown class": (config(lambda c, m: m[QKV].update({"class": "Odd"})), "of '.*' which class"),
    "no class": (config(lambda c, m: m[QKV].pop("class")), "which class, format and shape"),
    "a negative size": (config(lambda c, m: m[QKV].update(shape=[-128, -32])), "which class, format and"),
    "a side more": (config(lambda c, m: m[QKV].update(shape=[1, 128, 32])), "which class, format and"),
    "no entry": (config(lambda c, m: m.update({QKV: None})), "which class, format and"),
    "no entries": (config(lambda c, m: c.pop("matrices")), "has no 'matrices'"),
    "an order that is none": (
        tensors(lambda t: t[f"{ORDERED}.order"].fill_(3)),
        f"'{ORDERED}' cannot be read: its order does not name every column once",
    ),
    "no order": (tensors(lambda t: t.pop(f"{ORDERED}.order")), f"'{ORDERED}' lacks its tensor 'order'"),
    "another NF4 table": (
        tensors(lambda t: t[f"{NF4}.weight.quant_map"].add_(1)),
        f"'{NF4}' cannot be read: This NF4 matrix has another weight.quant_map",
    ),
    "no NF4 description": (
        tensors(lambda t: t.pop(f"{NF4}.weight.quant_state.bitsandbytes__nf4")),
        f"'{NF4}' lacks its tensor 'weight.quant_state.bitsandbytes__nf4'",
    ),
    "no JSON": (
        tensors(lambda t: t[f"{NF4}.weight.quant_state.bitsandbytes__nf4"].fill_(91)),
        f"'{NF4}' cannot be read: The description of an NF4 matrix is damaged",
    ),
    "another block size": (description(lambda d: d.update(blocksize=128)), "has another weight.quant_state"),
    "FP4": (description(lambda d: d.update(quant_type="fp4")), "has another weight.quant_state"),
    "no mean": (description(lambda d: d.pop("nested_offset")), "NF4 matrix is damaged"),
    "a huge mean": (description(lambda d: d.update(nested_offset=10**400)), "NF4 matrix is damaged"),
    "a dtype that is none": (description(lambda d: d.update(dtype="nn")), "has another weight.quant_state"),
    "another shape in NF4": (description(lambda d: d.update(shape=[64, 64])), "is 64 × 64, not"),
    "fewer maxima": (
        tensors(lambda t: t.update({f"{NF4}.weight.absmax": t[f"{NF4}.weight.absmax"][:-1]})),
        r"absmax' is U8 \(\d+,\); by config.json it must be U8",
    ),
}
DAMAGE_TO_BLOCKS = {
    "fewer blocks": (
        tensors(lambda t: t.update({f"{BLOCKS}.blocks": t[f"{BLOCKS}.blocks"][:-1]})),
        r"is U8 \(255, 144\); by config.json it must be U8 \(256, 144\)",
    ),
    "another kind": (config(lambda c, m: m[BLOCKS].update(format="Q6_K")), r"must be U8 \(256, 210\)"),
    "an unknown kind": (config(lambda c, m: m[BLOCKS].update(format="Q9")), "gives '.*' the format 'Q9'"),
    "a row of half a block": (
        config(lambda c, m: m[BLOCKS].update(shape=[512, 128])),
        rf"1 of another shape: {BLOCKS}\.weight is \(512, 128\), expected \(256, 256\)",
    ),
}


def check(source, tmp_path, damage, message):
    path = tmp_path / "copy"
    shutil.copytree(source, path)
    tinyphi.load_model(path)
    damage(path)
    with pytest.raises((WeightsError, ConfigError), match=message) as caught:
        tinyphi.load_model(path)
    assert len(str(caught.value)) < 1000


@pytest.mark.parametrize("case", DAMAGE)
def test_damaged_directories(good, tmp_path, case):
    check(good / "small groups", tmp_path, *DAMAGE[case])


@pytest.mark.parametrize("case", DAMAGE_TO_BLOCKS)
def test_damaged_blocks(good, tmp_path, case):
    check(good / "blocks", tmp_path, *DAMAGE_TO_BLOCKS[case])


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.just(10**400),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
KEYS = st.sampled_from(["method", "matrices", QKV, "class", "format", "shape"])
FUZZ = settings(
    max_examples=200,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


@FUZZ
@given(key=KEYS, value=JSON)
def test_any_value_in_the_config_is_an_error_or_nothing(good, tmp_path, key, value):
    path = tmp_path / "copy"
    shutil.copytree(good / "small groups", path, dirs_exist_ok=True)

    def change(content, matrices):
        target = content if key in content else matrices if key in matrices else matrices[QKV]
        target[key] = value

    config(change)(path)
    try:
        tinyphi.load_model(path)
    except TinyphiError as error:
        assert len(str(error)) < 2000
