"""A model that starts alike looks for tokens like the present one, and passes them on."""

import pytest
import torch

import tinyphi
from tinyphi.config import PhiConfig
from tinyphi.model.transformer import Phi3
from tinyphi.train.initial import start_alike


def config(tied):
    return PhiConfig(
        vocab_size=400,
        max_position_embeddings=64,
        bos_token_id=1,
        eos_token_id=2,
        pad_token_id=0,
        hidden_size=96,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=6,
        num_key_value_heads=2,
        tie_word_embeddings=tied,
    )


def started(tied=True, seed=0):
    torch.manual_seed(seed)
    model = Phi3(config(tied))
    start_alike(model)
    return model


def to_the_same(model):
    """How much of the second half's attention goes to the same token in the first half, of 20 + 20 tokens."""
    ids = torch.randperm(400, generator=torch.Generator().manual_seed(1))[:20].repeat(2)[None]
    trace = tinyphi.Trace()
    with torch.no_grad():
        model(ids, trace=trace)
    weights = trace["layers.0.attention.weights"][0]  # (h, t, s)
    return weights[:, range(20, 40), range(20)].mean().item()


def test_attention_looks_for_the_same_token():
    torch.manual_seed(0)
    usual = to_the_same(Phi3(config(True)))
    assert usual == pytest.approx(1 / 30, rel=0.2)  # about as much as to any other
    assert to_the_same(started()) > 1.5 * usual


def test_each_group_shares_queries_and_keys():
    joined = started().layers[0].attention.qkv_proj.weight.view(-1, 16, 96)
    likeness = torch.nn.functional.cosine_similarity(joined.flatten(1)[:, None], joined.flatten(1)[None], -1)
    assert likeness[[0, 0, 1, 3, 4], [1, 6, 6, 7, 7]].min() > 0.8  # heads 0 to 2 and key 6; 3 to 5 and key 7
    assert likeness[[0, 6, 6], [3, 7, 8]].abs().max() < 0.2


def test_the_output_undoes_the_values():
    attention = started().layers[1].attention
    values = attention.qkv_proj.weight.view(-1, 16, 96)[8:]
    output = attention.o_proj.weight.view(96, 6, 16)
    torch.testing.assert_close(output[:, 4], values[1].T / 3)


@pytest.mark.parametrize("tied", [True, False])
def test_the_head_starts_as_the_embedding(tied):
    model = started(tied)
    torch.testing.assert_close(model.lm_head.weight, model.embed_tokens.weight)
    # 0.1 of its own, 0.1 in common
    assert model.embed_tokens.weight.detach().std() == pytest.approx(0.14, rel=0.1)


def test_the_same_random_numbers_make_the_same_start():
    same, other = started(), started(seed=1)
    for name, weight in started().state_dict().items():
        torch.testing.assert_close(weight, same.state_dict()[name])
    assert not torch.equal(same.embed_tokens.weight, other.embed_tokens.weight)
