"""The full-size directory of every member of the family, name by name and shape by shape, without weights.

The sizes stand here once more, apart from the presets; no tensor of them is allocated.
"""

import math

import pytest
import torch
from torch import nn

from tinyphi.config import PRESETS, PhiConfig
from tinyphi.errors import WeightsError
from tinyphi.model.transformer import Phi3
from tinyphi.weights.names import LAYOUTS, match
from tinyphi.weights.storage import BF16, TensorInfo

MINI = {
    "top": {
        "model.embed_tokens.weight": (32064, 3072),
        "model.norm.weight": (3072,),
        "lm_head.weight": (32064, 3072),
    },
    "layers": 32,
    "layer": {
        "input_layernorm.weight": (3072,),
        "self_attn.qkv_proj.weight": (9216, 3072),
        "self_attn.o_proj.weight": (3072, 3072),
        "post_attention_layernorm.weight": (3072,),
        "mlp.gate_up_proj.weight": (16384, 3072),
        "mlp.down_proj.weight": (3072, 8192),
    },
    "parameters": 3_821_079_552,
}
MEDIUM = {
    "top": {
        "model.embed_tokens.weight": (32064, 5120),
        "model.norm.weight": (5120,),
        "lm_head.weight": (32064, 5120),
    },
    "layers": 40,
    "layer": {
        "input_layernorm.weight": (5120,),
        "self_attn.qkv_proj.weight": (7680, 5120),
        "self_attn.o_proj.weight": (5120, 5120),
        "post_attention_layernorm.weight": (5120,),
        "mlp.gate_up_proj.weight": (35840, 5120),
        "mlp.down_proj.weight": (5120, 17920),
    },
    "parameters": 13_960_238_080,
}
PHI_4_MINI = {
    "top": {"model.embed_tokens.weight": (200064, 3072), "model.norm.weight": (3072,)},
    "layers": 32,
    "layer": {**MINI["layer"], "self_attn.qkv_proj.weight": (5120, 3072)},
    "parameters": 3_836_021_760,
}
SMALL = {
    "top": {
        "model.embed_tokens.weight": (100352, 4096),
        "model.final_layernorm.weight": (4096,),
        "model.final_layernorm.bias": (4096,),
    },
    "layers": 32,
    "layer": {
        "input_layernorm.weight": (4096,),
        "input_layernorm.bias": (4096,),
        "self_attn.query_key_value.weight": (6144, 4096),
        "self_attn.query_key_value.bias": (6144,),
        "self_attn.dense.weight": (4096, 4096),
        "self_attn.dense.bias": (4096,),
        "post_attention_layernorm.weight": (4096,),
        "post_attention_layernorm.bias": (4096,),
        "mlp.up_proj.weight": (28672, 4096),
        "mlp.up_proj.bias": (28672,),
        "mlp.down_proj.weight": (4096, 14336),
        "mlp.down_proj.bias": (4096,),
    },
    "parameters": 7_392_272_384,
}
# Microsoft's file but for the LongRoPE factors, of which only the number matters here.
PHI_4_MINI_KEYS = {
    "model_type": "phi3",
    "vocab_size": 200064,
    "hidden_size": 3072,
    "intermediate_size": 8192,
    "num_hidden_layers": 32,
    "num_attention_heads": 24,
    "num_key_value_heads": 8,
    "max_position_embeddings": 131072,
    "original_max_position_embeddings": 4096,
    "partial_rotary_factor": 0.75,
    "rope_scaling": {"type": "longrope", "short_factor": [1.0] * 48, "long_factor": [1.0] * 48},
    "sliding_window": 262144,
    "tie_word_embeddings": True,
    "bos_token_id": 199999,
    "eos_token_id": 199999,
    "pad_token_id": 199999,
}
MEMBERS = {
    "phi-3-mini-4k": (PRESETS["phi-3-mini-4k"], MINI),
    "phi-3-mini-128k": (PRESETS["phi-3-mini-128k"], MINI),
    "phi-3.5-mini": (PRESETS["phi-3.5-mini"], MINI),
    "phi-3-small-8k": (PRESETS["phi-3-small-8k"], SMALL),
    "phi-3-medium-4k": (PRESETS["phi-3-medium-4k"], MEDIUM),
    "phi-3-medium-128k": (PRESETS["phi-3-medium-128k"], MEDIUM),
    "phi-4-mini": (PhiConfig.from_hugging_face(PHI_4_MINI_KEYS), PHI_4_MINI),
}


def listing(table):
    """Name → shape of every tensor in the directory."""
    layers = {
        f"model.layers.{layer}.{name}": shape
        for layer in range(table["layers"])
        for name, shape in table["layer"].items()
    }
    return table["top"] | layers


def headers(shapes):
    return {name: TensorInfo(name, shape, BF16, None, 0, 0) for name, shape in shapes.items()}


@pytest.mark.parametrize("member", MEMBERS)
def test_names_shapes_and_parameters(member):
    config, table = MEMBERS[member]
    shapes = listing(table)
    found = match(config, LAYOUTS[config.model_type], headers(shapes))
    assert {name: place.shape for name, place in found.items()} == shapes
    assert config.parameter_count() == table["parameters"] == sum(map(math.prod, shapes.values()))
    with torch.device("meta"):
        parameters = dict(Phi3(config).named_parameters())
    assert {place.parameter for place in found.values()} == parameters.keys()
    assert all(parameters[place.parameter].shape == place.shape for place in found.values())
    assert all(isinstance(parameter, nn.Parameter) and parameter.is_meta for parameter in parameters.values())


@pytest.mark.parametrize("member", MEMBERS)
def test_another_members_directory_is_refused(member):
    config, table = MEMBERS[member]
    others = {"mini": MINI, "medium": MEDIUM, "phi-4-mini": PHI_4_MINI, "small": SMALL}
    for other in others.values():
        if other is not table:
            with pytest.raises(WeightsError, match="not those of the configuration"):
                match(config, LAYOUTS[config.model_type], headers(listing(other)))


def test_the_cache_per_token():
    """Bytes in bfloat16: grouped heads are what makes Phi-3-small's a third of Phi-3-mini's."""
    sizes = {"phi-3-mini-4k": 393_216, "phi-3-small-8k": 131_072, "phi-3-medium-4k": 204_800}
    for member, size in sizes.items():
        assert PRESETS[member].memory(torch.bfloat16, tokens=1).cache == size
