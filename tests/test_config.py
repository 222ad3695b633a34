"""Published numbers, both spellings of config.json, and a clear error for everything else."""

import contextlib
import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import LlamaConfig, Phi3Config

from tinyphi.config import PRESETS, PhiConfig
from tinyphi.errors import ConfigError

SHARED = Path(__file__).parents[2] / "shared" / "configs"
MINI = PRESETS["phi-3-mini-4k"]
LONG = PRESETS["phi-3-mini-128k"]
SMALL = PRESETS["phi-3-small-8k"]
SMALL_LONG = replace(
    SMALL,
    max_position_embeddings=131072,
    short_factor=(1.0,) * 64,
    long_factor=(2.0,) * 64,
    short_mscale=1.0,
    long_mscale=1.2,
)

PUBLISHED = {
    "phi-3-mini-4k": "Phi-3-mini-4k-instruct.json",
    "phi-3-mini-128k": "Phi-3-mini-128k-instruct.json",
    "phi-3-mini-128k-april-2024": "original-april-2024/phi-3-mini-128k-instruct-config.json",
    "phi-3.5-mini": "Phi-3.5-mini-instruct.json",
    "phi-3-small-8k": "Phi-3-small-8k-instruct.json",
    "phi-3-medium-4k": "Phi-3-medium-4k-instruct.json",
    "phi-3-medium-128k": "original-april-2024/phi-3-medium-128k-instruct-config.json",
}


@pytest.mark.parametrize(
    ("name", "count"),
    [
        ("phi-3-mini-4k", 3_821_079_552),
        ("phi-3-mini-128k", 3_821_079_552),
        ("phi-3.5-mini", 3_821_079_552),
        ("phi-3-small-8k", 7_392_272_384),
        ("phi-3-medium-4k", 13_960_238_080),
        ("smollm2-135m", 134_515_008),
    ],
)
def test_exact_parameter_counts(name, count):
    assert PRESETS[name].parameter_count() == count


def test_exact_memory():
    assert MINI.memory(torch.bfloat16).weights == 7_642_159_104
    assert MINI.memory(torch.bfloat16, tokens=1).cache == 393_216
    assert MINI.memory(torch.bfloat16, tokens=4096).cache == 3 * 2**29  # 1.5 GiB
    assert PRESETS["phi-3-medium-4k"].memory(torch.bfloat16, 1).cache == 204_800
    assert SMALL.memory(torch.bfloat16, 1).cache == 131_072
    need = MINI.memory(torch.float32, 10)
    assert need.total == need.weights + need.cache == 2 * (7_642_159_104 + 3_932_160)


def test_attention_factors():
    assert MINI.attention_factor == 1.0
    assert LONG.attention_factor == 1.1902380714238083
    assert replace(LONG, original_max_position_embeddings=8192).attention_factor == 1.1435437497937313
    assert replace(LONG, original_max_position_embeddings=2048).attention_factor == 1.243163121016122


def test_stated_attention_factors_are_read_and_written_back():
    keys = LONG.to_hugging_face()
    assert "short_mscale" not in keys["rope_scaling"]
    keys["rope_scaling"] |= {"short_mscale": 1.1, "long_mscale": 1.243163121016122}
    config = PhiConfig.from_hugging_face(keys)
    assert config == replace(LONG, short_mscale=1.1, long_mscale=1.243163121016122)
    assert (config.attention_factor_of(False), config.attention_factor_of(True)) == (1.1, 1.243163121016122)
    assert config.attention_factor == LONG.attention_factor == LONG.attention_factor_of(True)
    assert config.to_hugging_face() == keys
    again = json.loads(json.dumps(Phi3Config(**keys).to_dict()))
    assert PhiConfig.from_hugging_face(again) == config
    only_long = replace(LONG, long_mscale=1.2)
    assert only_long.attention_factor_of(False) == LONG.attention_factor
    assert PhiConfig.from_hugging_face(only_long.to_hugging_face()) == only_long


@pytest.mark.parametrize(("name", "file"), PUBLISHED.items())
def test_presets_equal_the_published_files(name, file):
    if not SHARED.exists():
        pytest.skip("the published config.json files are not beside this checkout")
    assert PhiConfig.from_hugging_face(json.loads((SHARED / file).read_text())) == PRESETS[name]


@pytest.mark.parametrize("name", [name for name in PRESETS if PRESETS[name].model_type == "phi3"])
def test_both_spellings_come_back(name):
    config = PRESETS[name]
    old = json.loads(json.dumps(config.to_hugging_face()))
    assert PhiConfig.from_hugging_face(old) == config
    new = json.loads(json.dumps(Phi3Config(**config.to_hugging_face()).to_dict()))
    assert "rope_parameters" in new
    assert PhiConfig.from_hugging_face(new) == config


def test_a_llama_file_is_read():
    keys = LlamaConfig(num_key_value_heads=8, tie_word_embeddings=True, rope_theta=5e5).to_dict()
    config = PhiConfig.from_hugging_face(json.loads(json.dumps(keys)))
    assert (config.num_key_value_heads, config.rope_theta, config.rms_norm_eps) == (8, 5e5, 1e-6)
    assert config.original_max_position_embeddings == config.max_position_embeddings == 2048


@pytest.mark.parametrize("config", [SMALL, SMALL_LONG, replace(SMALL, dummy_token_indices=(3, 5))])
def test_phi_3_small_comes_back(config):
    keys = json.loads(json.dumps(config.to_hugging_face()))
    assert keys["model_type"] == "phi3small"
    assert PhiConfig.from_hugging_face(keys) == config


def test_what_phi_3_smalls_file_leaves_out():
    """The ids without a token, which its own code takes from the tokenizer, and the tied head."""
    keys = SMALL.to_hugging_face()
    del keys["dummy_token_indices"], keys["tie_word_embeddings"], keys["original_max_position_embeddings"]
    keys |= {"attention_bias": False, "embedding_dropout_prob": 0.1, "gegelu_pad_to_256": True}
    config = PhiConfig.from_hugging_face(keys)
    assert config == SMALL
    assert len(config.dummy_token_indices) == 91
    assert not {100257, 100261, 100262, 100263, 100266} & set(config.dummy_token_indices)


def test_a_mixture_of_both_architectures_is_not_written():
    for mixture in (replace(MINI, gegelu_limit=20.0), replace(SMALL, linear_bias=False)):
        with pytest.raises(ConfigError, match="describes that"):
            mixture.to_hugging_face()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"layer_norm_epsilon": 0.0}, "layer_norm_epsilon"),
        ({"linear_bias": 1}, "linear_bias"),
        ({"gegelu_limit": -1.0}, "gegelu_limit"),
        ({"mup_width_multiplier": 0}, "mup_width_multiplier"),
        ({"mup_attn_multiplier": float("inf")}, "mup_attn_multiplier"),
        ({"sliding_window": 9}, "block-sparse"),
        ({"dummy_token_indices": (100352,)}, "dummy_token_indices"),
        ({"dummy_token_indices": [3]}, "dummy_token_indices"),
    ],
)
def test_an_impossible_phi_3_small_is_refused(changes, words):
    with pytest.raises(ConfigError, match=words):
        replace(SMALL, **changes)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"hidden_act": "silu"}, "hidden_act"),
        ({"blocksparse_homo_head_pattern": True}, "homo_head_pattern"),
        ({"rope_position_scale": 2.0}, "rope_position_scale"),
        ({"ff_dim_multiplier": 4}, "ff_dim_multiplier"),
        ({"blocksparse_block_size": 0}, "block_size"),
        ({"blocksparse_vert_stride": None}, "blocksparse_vert_stride"),
        ({"gegelu_limit": None}, "gegelu_limit"),
        ({"rms_norm_eps": 1e-5}, "rms_norm_eps"),
        ({"intermediate_size": 14336}, "intermediate_size"),
        ({"sliding_window": 100}, "sliding_window"),
    ],
)
def test_another_phi_3_small_is_refused(changes, words):
    with pytest.raises(ConfigError, match=words):
        PhiConfig.from_hugging_face(SMALL.to_hugging_face() | changes)


def test_su_is_longrope():
    keys = LONG.to_hugging_face()
    keys["rope_scaling"]["type"] = "su"
    assert PhiConfig.from_hugging_face(keys) == LONG


def test_defaults_of_the_reference():
    keys = {key: value for key, value in MINI.to_hugging_face().items() if value is not None}
    for key in (
        "num_key_value_heads",
        "original_max_position_embeddings",
        "rope_theta",
        "partial_rotary_factor",
    ):
        keys.pop(key)
    config = PhiConfig.from_hugging_face(keys)
    assert config == MINI


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"num_attention_heads": 7}, "equal heads"),
        ({"num_key_value_heads": 5}, "evenly"),
        ({"hidden_size": 0}, "whole number"),
        ({"num_hidden_layers": True}, "whole number"),
        ({"sliding_window": 0}, "sliding_window"),
        ({"rope_theta": -1.0}, "positive"),
        ({"rms_norm_eps": float("nan")}, "positive"),
        ({"partial_rotary_factor": 1.5}, "at most 1"),
        ({"partial_rotary_factor": 1e308}, "at most 1"),
        ({"partial_rotary_factor": 0.01}, "even"),
        ({"short_factor": (1.0,) * 48}, "both"),
        ({"short_factor": (1.0,) * 47, "long_factor": (1.0,) * 48}, "47 entries"),
        ({"short_factor": (1.0,) * 48, "long_factor": (0.0,) * 48}, "positive"),
        ({"short_mscale": 1.1}, "with LongRoPE"),
        ({"short_factor": (1.0,) * 48, "long_factor": (1.0,) * 48, "long_mscale": 0.0}, "positive"),
        ({"eos_token_id": 32064}, "vocab_size"),
        ({"tie_word_embeddings": "no"}, "true or false"),
    ],
)
def test_impossible_configurations_are_refused(changes, words):
    with pytest.raises(ConfigError, match=words):
        replace(MINI, **changes)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"model_type": "gpt2"}, "model_type"),
        ({"model_type": None}, "model_type"),
        ({"number_of_experts": 8}, "number_of_experts"),
        ({"hidden_act": "gelu"}, "hidden_act"),
        ({"attention_bias": True}, "attention_bias"),
        ({"resid_pdrop": 0.1}, "resid_pdrop"),
        ({"quantization_config": {"bits": 4}}, "quantized"),
        ({"head_dim": 64}, "head_dim"),
        ({"rope_scaling": {"type": "yarn", "factor": 4.0}}, "yarn"),
        ({"rope_scaling": {"type": "longrope"}}, "short_factor"),
        ({"rope_scaling": {"type": "longrope", "nonsense": 1}}, "nonsense"),
        ({"rope_scaling": "longrope"}, "object"),
        ({"rope_scaling": {"rope_theta": 5.0}}, "two values"),
        ({"rope_scaling": {"type": "default", "factor": 3.0}}, "factor"),
        ({"rope_scaling": {"original_max_position_embeddings": 9}}, "two original"),
        ({"rope_scaling": {"type": "default"}, "rope_parameters": {"rope_type": "default"}}, "both"),
    ],
)
def test_unknown_and_contradictory_keys_are_refused(changes, words):
    with pytest.raises(ConfigError, match=words):
        PhiConfig.from_hugging_face(MINI.to_hugging_face() | changes)


@pytest.mark.parametrize(
    "key", ["vocab_size", "hidden_size", "num_attention_heads", "max_position_embeddings"]
)
def test_a_missing_key_is_named(key):
    keys = MINI.to_hugging_face()
    keys.pop(key)
    with pytest.raises(ConfigError, match=key):
        PhiConfig.from_hugging_face(keys)


JUNK = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=4,
)


@settings(max_examples=400)
@given(st.sampled_from([*LONG.to_hugging_face(), "rope_parameters", "head_dim", "new"]), JUNK)
def test_junk_is_a_config_error_or_a_configuration(key, junk):
    with contextlib.suppress(ConfigError):
        PhiConfig.from_hugging_face(LONG.to_hugging_face() | {key: junk})


@settings(max_examples=400)
@given(st.sampled_from([*SMALL_LONG.to_hugging_face(), "new"]), JUNK)
def test_junk_in_phi_3_smalls_file(key, junk):
    with contextlib.suppress(ConfigError):
        PhiConfig.from_hugging_face(SMALL_LONG.to_hugging_face() | {key: junk})


@settings(max_examples=200)
@given(
    st.sampled_from("type factor short_factor long_factor long_mscale rope_theta attention_factor".split()),
    JUNK,
)
def test_junk_in_the_rotation_too(key, junk):
    keys = LONG.to_hugging_face()
    keys["rope_scaling"] = keys["rope_scaling"] | {key: junk}
    with contextlib.suppress(ConfigError):
        PhiConfig.from_hugging_face(keys)


def test_an_unknown_preset_lists_the_known():
    with pytest.raises(ConfigError, match="phi-3-mini-4k"):
        PhiConfig.preset("phi-4")


def test_a_block_sparse_rule_is_one():
    with pytest.raises(ConfigError, match="a BlockSparse"):
        replace(PhiConfig.preset("phi-3-small-8k"), block_sparse={"block_size": 64})
