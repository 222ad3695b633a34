"""Phi3.compile: the one call for all layers computes what the layers compute, also past every boundary."""

import copy
from dataclasses import replace

import pytest
import torch

import tinyphi
from tinyphi.config import PhiConfig
from tinyphi.errors import InputError
from tinyphi.generation.decode import decode_one, prefill
from tinyphi.kernels import native
from tinyphi.model.transformer import Phi3
from tinyphi.quant import quantize

pytestmark = pytest.mark.skipif(native.problem() is not None, reason=str(native.problem()))

CONFIG = PhiConfig(
    vocab_size=96,
    hidden_size=64,
    intermediate_size=96,
    num_hidden_layers=2,
    num_attention_heads=4,
    num_key_value_heads=2,
    max_position_embeddings=64,
    original_max_position_embeddings=16,
    short_factor=(1.0, 1.1, 1.2, 1.3, 1.4, 1.5, 1.6, 1.7),
    long_factor=(1.0, 2.0, 3.0, 4.0, 4.0, 5.0, 5.0, 6.0),
    sliding_window=12,
    eos_token_id=2,
    pad_token_id=0,
)


def model_of(config, seed=0, method="q8_0"):
    torch.manual_seed(seed)
    model = Phi3(config).eval()
    for parameter in model.parameters():  # larger than at the start of training, so that every part counts
        parameter.data.mul_(3).add_(torch.randn_like(parameter) * 0.02)
    quantize(model, method)
    return model


def logits_of(model, tokens=40, bits=None):
    """The logits of tokens decoded one by one: past the window (12), and LongRoPE's boundary (16)."""
    ids = torch.randint(0, 96, (tokens,), generator=torch.Generator().manual_seed(1))
    cache = model.new_cache(bits=bits)
    prefill(model, ids[None, :4], cache)
    return torch.stack([decode_one(model, token[None], cache)[0] for token in ids[4:]])


def errors(found, wanted):
    return (found - wanted).norm(dim=-1) / wanted.norm(dim=-1)


def assert_same(found, wanted):
    """Equal, but for steps at which a rounding to 8 bits fell to the other side."""
    error = errors(found, wanted)
    assert error.median() < 1e-5, error
    assert error.max() < 0.05, error


@pytest.mark.parametrize("bits", [None, 8])
@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"sliding_window": None, "short_factor": None, "long_factor": None},
        {"partial_rotary_factor": 0.5, "short_factor": None, "long_factor": None},
        {"num_key_value_heads": 4},
        {"num_key_value_heads": 1},
    ],
    ids=str,
)
def test_compiled_decoding_is_the_layers_decoding(changes, bits):
    model = model_of(replace(CONFIG, num_hidden_layers=1, **changes))
    wanted = logits_of(model, bits=bits)
    model.compile()
    assert_same(logits_of(model, bits=bits), wanted)


def test_the_four_bit_formats_and_several_layers():
    for method in ("int4", "q4_1", "q8_0"):
        model = model_of(CONFIG, method=method)
        wanted = logits_of(model)
        model.compile()
        assert errors(logits_of(model), wanted).max() < 0.05


def test_bfloat16_models_keep_more_digits_than_their_layers():
    model = model_of(CONFIG)
    exact = logits_of(model)
    model.bfloat16()
    layers = errors(logits_of(model), exact)
    model.compile()
    compiled = errors(logits_of(model), exact)
    assert compiled.mean() <= layers.mean()
    assert compiled.max() < 0.1


@pytest.mark.parametrize("pieces", [[40], [10, 30], [1, 14, 1, 15, 9], [20, 1, 1, 18]], ids=str)
def test_several_tokens_at_once(pieces):
    """In pieces that cross the window and LongRoPE's boundary."""
    model = model_of(replace(CONFIG, num_hidden_layers=1))
    ids = torch.randint(0, 96, (1, 40), generator=torch.Generator().manual_seed(1))

    def logits():
        cache = model.new_cache()
        return torch.cat([model(piece, cache=cache)[0] for piece in ids.split(pieces, dim=1)])

    with torch.inference_mode():
        wanted = logits()
        model.compile()
        assert_same(logits(), wanted)


def test_planted_mistakes_are_noticed():
    model = model_of(replace(CONFIG, num_hidden_layers=1))
    wanted = logits_of(model)
    for name, wrong in (("window", 11), ("window", 0), ("eps", 0.1), ("groups", 1)):
        model.compile()
        setattr(model._decoder._call, name, wrong)
        assert errors(logits_of(model), wanted).max() > 0.05, name


def test_what_the_call_cannot_do_goes_through_the_layers(monkeypatch):
    model = model_of(CONFIG)
    model.compile()
    monkeypatch.setattr(native.Decoder, "step", lambda *_: pytest.fail("used"))
    monkeypatch.setattr("tinyphi.model.transformer._MOST_AT_ONCE", 8)
    ids = torch.tensor([[5]])
    with torch.inference_mode():
        cache = model.new_cache()
        model(ids.expand(1, 9), cache=cache)  # too many tokens
        model(ids, cache=cache, trace=tinyphi.Trace())
        model(ids)  # no cache
        model(ids.expand(2, 1), cache=model.new_cache(2))  # two rows
        model(ids.expand(1, 2), segments=torch.tensor([[0, 1]]), cache=model.new_cache())  # padding
    model(ids, cache=model.new_cache())  # gradients are on
    for dtype in (torch.float16, torch.float64):  # number types that the kernel does not know
        other = model_of(CONFIG).to(dtype)
        other.compile()
        with torch.inference_mode():
            other(ids, cache=other.new_cache())


def test_a_strange_layer_is_refused_and_a_model_that_moves_is_plain_again():
    model = model_of(CONFIG)
    model.compile()
    model.to(torch.bfloat16)
    assert model._decoder is None
    model.layers[1] = torch.nn.Sequential(model.layers[1])
    with pytest.raises(InputError, match="Sequential"):
        model.compile()


def test_a_nan_in_an_8_bit_cache_is_not_hidden(monkeypatch):
    model = model_of(CONFIG)
    model.compile()
    embed = model.embed_tokens.forward
    monkeypatch.setattr(
        model.embed_tokens,
        "forward",
        lambda ids: embed(ids).masked_fill((ids == 5).unsqueeze(-1), torch.nan),
    )
    with torch.inference_mode():
        cache = model.new_cache(bits=8)
        model(torch.tensor([[5]]), cache=cache)
        assert model(torch.tensor([[6]]), cache=cache).isnan().all()


def test_a_copy_is_not_compiled_and_a_float_model_cannot_be():
    model = model_of(CONFIG)
    model.compile()
    twin = copy.deepcopy(model)
    assert twin._decoder is None
    wanted = logits_of(model)
    del model
    twin.compile()
    assert torch.equal(logits_of(twin), wanted)
    with pytest.raises(InputError, match="cannot be compiled"):
        Phi3(CONFIG).compile()
