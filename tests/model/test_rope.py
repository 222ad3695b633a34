"""RoPE's properties, and LongRoPE's frequencies against transformers."""

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from transformers import Phi3Config
from transformers.models.phi3.modeling_phi3 import Phi3RotaryEmbedding

from tinyphi.config import PRESETS
from tinyphi.model.rope import inverse_frequencies, rotate, rotation, uses_long_factors

GOLDEN = Path(__file__).parents[3] / "shared" / "golden" / "rope.json"
LENGTHS = [1, 7, 4095, 4096, 4097, 5000]


def reference_rotation(config, length):
    keys = config.to_hugging_face() | {"rope_theta": config.rope_theta}  # Phi-3-small has another name for it
    rope = Phi3RotaryEmbedding(Phi3Config(**keys))
    pairs = config.rotary_dim // 2
    cos, sin = rope(torch.zeros(1), torch.arange(length)[None])
    return cos[..., :pairs], sin[..., :pairs]


@pytest.mark.parametrize("name", PRESETS)
@pytest.mark.parametrize("length", LENGTHS)
def test_every_preset_rotates_as_the_reference(name, length):
    mine = rotation(PRESETS[name], torch.arange(length)[None], length, torch.float32)
    for ours, theirs in zip(mine, reference_rotation(PRESETS[name], length), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-6)


def test_a_checkpoint_may_state_its_attention_factors():
    """As vLLM reads them: transformers' rotation, but for the stretch."""
    config = replace(PRESETS["phi-3-mini-128k"], short_mscale=1.1, long_mscale=1.3)
    for length, stated in ((9, 1.1), (4096, 1.1), (4097, 1.3)):
        mine = rotation(config, torch.arange(length)[None], length, torch.float32)
        theirs = reference_rotation(PRESETS["phi-3-mini-128k"], length)
        for ours, other in zip(mine, theirs, strict=True):
            torch.testing.assert_close(ours, other * (stated / 1.1902380714238083), rtol=0, atol=1e-6)


def test_the_comparison_notices_a_forgotten_factor():
    config = replace(PRESETS["phi-3-mini-128k"], max_position_embeddings=4096)  # attention factor 1
    mine, _ = rotation(config, torch.arange(9)[None], 9, torch.float32)
    theirs, _ = reference_rotation(PRESETS["phi-3-mini-128k"], 9)
    assert (mine - theirs).abs().max() > 0.1


def test_the_factors_switch_after_the_original_context():
    config = PRESETS["phi-3-mini-128k"]
    assert not uses_long_factors(config, 4096)
    assert uses_long_factors(config, 4097)
    short, long = inverse_frequencies(config, 4096), inverse_frequencies(config, 4097)
    assert (short[-1] / long[-1]).item() == pytest.approx(config.long_factor[-1] / config.short_factor[-1])


def test_scores_depend_on_the_distance_alone():
    config = PRESETS["phi-3-mini-4k"]
    query, key = torch.randn(2, 1, 1, 1, 96).double()
    scores = []
    for start in (0, 10, 1000):
        cos, sin = rotation(config, torch.tensor([[start, start + 7]]), start + 8, torch.float64)
        turned_key, turned_query = rotate(key, cos[:, :1], sin[:, :1]), rotate(query, cos[:, 1:], sin[:, 1:])
        scores.append((turned_query * turned_key).sum().item())
    assert scores == pytest.approx([scores[0]] * 3, rel=1e-4)


def test_rotation_keeps_lengths_and_leaves_the_rest_alone():
    config = replace(PRESETS["phi-3-mini-4k"], partial_rotary_factor=0.75)
    cos, sin = rotation(config, torch.arange(5)[None], 5, torch.float32)
    assert cos.shape == (1, 5, 36)
    x = torch.randn(1, 2, 5, 96)
    turned = rotate(x, cos, sin)
    torch.testing.assert_close(turned.norm(dim=-1), x.norm(dim=-1))
    assert torch.equal(turned[..., 72:], x[..., 72:])
    assert torch.equal(turned[:, :, 0], x[:, :, 0])  # position 0 does not turn


def test_the_first_pair_turns_by_one_radian_per_position():
    cos, sin = rotation(PRESETS["phi-3-mini-4k"], torch.arange(4)[None], 4, torch.float32)
    x = torch.zeros(1, 1, 4, 96)
    x[..., 0] = 1.0
    turned = rotate(x, cos, sin)[0, 0]
    assert turned[3, 0].item() == pytest.approx(math.cos(3))
    assert turned[3, 48].item() == pytest.approx(math.sin(3))


@pytest.mark.skipif(not GOLDEN.exists(), reason="the golden numbers are not beside this checkout")
def test_attention_factors_of_the_golden_table():
    text = json.dumps(json.loads(GOLDEN.read_text()))
    assert "1.1902380714238083" in text
    assert PRESETS["phi-3-mini-128k"].attention_factor == 1.1902380714238083
