"""The extension methods beside transformers, and a model that runs with one."""

import copy
import math
import pickle
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import LlamaConfig, Phi3Config
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

import tinyphi
from tinyphi.config import PRESETS, PhiConfig
from tinyphi.errors import ConfigError, InputError
from tinyphi.kernels import native
from tinyphi.longcontext import extension as extensions
from tinyphi.longcontext.extension import METHODS, Extension, extended, longrope
from tinyphi.model import rope
from tinyphi.quant import quantize

ORIGINAL = 64  # tokens
LENGTHS = (1, 63, 64, 65, 100, 128, 1000)


def small(head_dim=16, theta=1e4, share=1.0, **changes):
    keys = {
        "vocab_size": 61,
        "hidden_size": 4 * head_dim,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": ORIGINAL,
        "original_max_position_embeddings": ORIGINAL,
        "rope_theta": theta,
        "partial_rotary_factor": share,
        "bos_token_id": None,
        "eos_token_id": None,
        "pad_token_id": None,
    }
    return PhiConfig(**keys | changes)


SHAPES = [
    small(),
    small(head_dim=64, theta=1e5),
    small(head_dim=96, share=0.75, original_max_position_embeddings=4096, max_position_embeddings=4096),
    small(head_dim=128, theta=1e6, original_max_position_embeddings=8192, max_position_embeddings=8192),
    PRESETS["smollm2-135m"],
]


def frequencies(config, extension):
    """(r), divided by the factors, in float64."""
    pairs = torch.arange(0, config.rotary_dim, 2, dtype=torch.float64)
    plain = config.rope_theta ** -(pairs / config.rotary_dim)
    return plain / torch.tensor(extension.factors, dtype=torch.float64)


def reference(config, kind, scale, length=None):
    """transformers' frequencies (r) and attention factor."""
    parameters = {
        "rope_type": kind,
        "rope_theta": config.rope_theta,
        "partial_rotary_factor": config.partial_rotary_factor,
        "factor": scale,
        "original_max_position_embeddings": config.original_max_position_embeddings,
    }
    theirs = LlamaConfig(
        hidden_size=config.hidden_size,
        num_attention_heads=config.num_attention_heads,
        max_position_embeddings=config.original_max_position_embeddings,
        rope_parameters=parameters,
    )
    return ROPE_INIT_FUNCTIONS[kind](theirs, "cpu", seq_len=length)


def compare(config, extension, theirs):
    inverse, stretch = theirs
    torch.testing.assert_close(frequencies(config, extension).float(), inverse, rtol=2e-6, atol=0)
    assert extension.attention_factor == pytest.approx(stretch, rel=1e-12)


@pytest.mark.parametrize("times", [1, 1.5, 2, 16])
@pytest.mark.parametrize("config", SHAPES, ids=lambda config: f"{config.rotary_dim}-{config.rope_theta:g}")
@pytest.mark.parametrize(("method", "kind"), [("PI", "linear"), ("YaRN", "yarn")])
def test_equal_to_transformers(method, kind, config, times):
    length = int(times * config.original_max_position_embeddings)
    compare(config, METHODS[method](config, length), reference(config, kind, times))


@pytest.mark.parametrize("full", [1, 2, 4])
@pytest.mark.parametrize("config", SHAPES, ids=lambda config: f"{config.rotary_dim}-{config.rope_theta:g}")
def test_dynamic_ntk_is_that_of_transformers_at_every_length(config, full):
    original = config.original_max_position_embeddings
    made = replace(config, max_position_embeddings=full * original)
    for length in (1, original - 1, original, original + 1, 2 * original, 9 * original + 7):
        theirs = reference(config, "dynamic", full, length)
        compare(made, METHODS["dynamic NTK"](made, length), theirs)


@pytest.mark.parametrize("name", ["phi-3-mini-128k", "phi-3.5-mini", "phi-3-medium-128k"])
def test_longrope_is_that_of_transformers_on_both_sides_of_the_boundary(name):
    config = PRESETS[name]
    theirs = Phi3Config(**config.to_hugging_face())
    for length in (1, 4095, 4096, 4097, 131072):
        compare(config, longrope(config, length), ROPE_INIT_FUNCTIONS["longrope"](theirs, "cpu", length))
    assert longrope(config, 4096) != longrope(config, 4097)


def test_a_planted_mistake_in_yarn_is_noticed(monkeypatch):
    config = SHAPES[-1]
    monkeypatch.setattr(extensions, "_FAST", 16)
    with pytest.raises(AssertionError):
        compare(config, extensions.yarn(config, 16384), reference(config, "yarn", 2))


HEADS = st.sampled_from([4, 8, 64, 80, 96, 128, 256])
SHARES = st.sampled_from([0.5, 1.0])


@settings(max_examples=60, deadline=None)
@given(HEADS, SHARES, st.floats(100, 1e7), st.integers(64, 100_000), st.floats(1, 64))
def test_every_method_lies_between_leaving_alone_and_interpolating(head_dim, share, theta, original, times):
    config = small(
        head_dim, theta, share, original_max_position_embeddings=original, max_position_embeddings=original
    )
    length = int(times * original)
    scale = length / original
    for name in ("PI", "NTK", "dynamic NTK", "YaRN"):
        factors = METHODS[name](config, length).factors
        assert len(factors) == config.rotary_dim // 2
        assert list(factors) == sorted(factors)  # what LongRoPE's search demands of its candidates
        assert all(1 - 1e-9 <= factor <= scale * (1 + 1e-9) for factor in factors)
        if name != "PI" and len(factors) > 1:
            assert factors[0] == pytest.approx(1)
    if config.rotary_dim > 2:
        assert METHODS["NTK"](config, length).factors[-1] == pytest.approx(scale)
    assert METHODS["NTK"](config, length) == METHODS["dynamic NTK"](config, length)  # max = original: f = 1
    compare(config, METHODS["YaRN"](config, length), reference(config, "yarn", scale))


@pytest.mark.parametrize("name", ["PI", "NTK", "dynamic NTK", "YaRN"])
def test_nothing_changes_within_the_original_context(name):
    assert METHODS[name](small(), ORIGINAL) == Extension((1.0,) * 8)


@pytest.mark.parametrize("length", [0, -1, 2.0, "12"])
@pytest.mark.parametrize("name", METHODS)
def test_an_impossible_length_is_refused(name, length):
    with pytest.raises(InputError, match="length is"):
        METHODS[name](small(), length)


def test_yarn_needs_speeds_that_fall():
    with pytest.raises(InputError, match="base above 1"):
        METHODS["YaRN"](replace(small(), rope_theta=1.0), 2 * ORIGINAL)


def test_longrope_needs_factors():
    with pytest.raises(InputError, match="no LongRoPE factors"):
        longrope(small(), 100)


# --- a model that runs with an extension ---


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(3)
    made = tinyphi.Phi3(small()).eval()
    for parameter in made.parameters():
        parameter.data.normal_(std=0.3)
    return made


IDS = torch.arange(200).remainder(61)[None]


@torch.no_grad()
def test_extended_runs_as_the_configuration_that_has_the_factors(model):
    extension = METHODS["YaRN"](model.config, 200)
    twin = tinyphi.Phi3(extension.config(model.config)).eval()
    twin.load_state_dict(model.state_dict())
    plain = model(IDS)
    with extended(model, extension) as same:
        assert same is model
        torch.testing.assert_close(model(IDS), twin(IDS), rtol=0, atol=0)
    assert torch.equal(model(IDS), plain)
    assert (twin(IDS) - plain).abs().max() > 0.1


@torch.no_grad()
def test_the_model_is_restored_after_an_error_and_blocks_can_be_nested(model):
    plain = model(IDS)
    with pytest.raises(ZeroDivisionError), extended(model, METHODS["PI"](model.config, 200)):
        outer = model(IDS)
        with extended(model, METHODS["NTK"](model.config, 200)):
            assert not torch.equal(model(IDS), outer)
        assert torch.equal(model(IDS), outer)
        _ = 1 / 0
    assert model.rotation is None
    assert torch.equal(model(IDS), plain)


def test_the_first_tokens_keep_the_original_rotation():
    config = small()
    positions = torch.tensor([[0, 1, 2, 3, 4, 5], [3, 4, 5, 6, 7, 8]])
    kept = Extension((2.0,) * 8, 1.5, start_tokens=4).rotation(config, positions, 6, torch.float32)
    original = rope.rotation(config, positions, 6, torch.float32)
    slow = rope.rotation(config, positions / 2, 6, torch.float32)  # eq. 3: n / λ
    for mine, before, after in zip(kept, original, slow, strict=True):
        torch.testing.assert_close(mine[0, :4], before[0, :4], rtol=0, atol=0)
        torch.testing.assert_close(mine[0, 4:], 1.5 * after[0, 4:])
        torch.testing.assert_close(mine[1, :1], before[1, :1], rtol=0, atol=0)
        torch.testing.assert_close(mine[1, 1:], 1.5 * after[1, 1:])


@torch.no_grad()
@pytest.mark.parametrize("start_tokens", [0, 16])
def test_a_cache_made_inside_gives_what_a_whole_pass_gives(model, start_tokens):
    extension = replace(METHODS["YaRN"](model.config, 200), start_tokens=start_tokens)
    with extended(model, extension):
        whole, cache = model(IDS), model.new_cache()
        parts = [model(IDS[:, :10], cache=cache), model(IDS[:, 10:150], cache=cache)]
        parts += [model(IDS[:, place : place + 1], cache=cache) for place in range(150, 200)]
    torch.testing.assert_close(torch.cat(parts, dim=1), whole, rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_a_cache_from_the_other_side_of_the_block_is_refused(model):
    outside = model.new_cache()
    model(IDS[:, :5], cache=outside)
    extension = METHODS["PI"](model.config, 200)
    with extended(model, extension):
        with pytest.raises(InputError, match="rotation was changed"):
            model(IDS[:, 5:6], cache=outside)
        inside = model.new_cache()
        model(IDS[:, :5], cache=inside)
    with pytest.raises(InputError, match="rotation was changed"):
        model(IDS[:, 5:6], cache=inside)
    with extended(model, extension):  # the same extension again
        model(IDS[:, 5:6], cache=inside)
    model(IDS[:, 5:6], cache=outside)


@torch.no_grad()
def test_an_extended_model_can_be_copied_and_generates(model):
    with extended(model, METHODS["PI"](model.config, 200)):
        expected = model(IDS)
        for twin in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
            assert torch.equal(twin(IDS), expected)
        out = tinyphi.generate(model, IDS[0, :100].tolist(), max_new_tokens=3)
        assert len(out.ids[0]) == 3


@torch.inference_mode()
@pytest.mark.skipif(native.problem() is not None, reason=str(native.problem()))
def test_compiled_decoding_uses_the_extension():
    torch.manual_seed(3)
    model = tinyphi.Phi3(small(head_dim=16, intermediate_size=64)).eval()
    for parameter in model.parameters():
        parameter.data.mul_(3).add_(torch.randn_like(parameter) * 0.02)
    quantize(model, "q8_0")

    def decoded():
        cache = model.new_cache()
        return torch.cat([model(IDS[:, place : place + 1], cache=cache) for place in range(100)], dim=1)

    plain = decoded()
    with extended(model, METHODS["YaRN"](model.config, 200)):
        wanted = decoded()
        model.compile()
        found = decoded()
    assert (found - wanted).norm(dim=-1).median() < 1e-4 * wanted.norm(dim=-1).median()
    assert (plain - wanted).abs().max() > 0.1


def test_an_extension_for_another_model_is_refused(model):
    with pytest.raises(ConfigError, match="7 entries"), extended(model, Extension((1.0,) * 7)):
        pass
    assert model.rotation is None
    with pytest.raises(InputError, match="start_tokens"):
        Extension((1.0,), start_tokens=-1)


def test_yarn_of_the_paper():
    """Two pairs by hand: the fastest of SmolLM2 turns 8192 / 2π times, the slowest not once."""
    factors = METHODS["YaRN"](PRESETS["smollm2-135m"], 16384).factors
    assert factors[0] == 1 and factors[-1] == 2
    assert METHODS["YaRN"](PRESETS["smollm2-135m"], 16384).attention_factor == 0.1 * math.log(2) + 1
