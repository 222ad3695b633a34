"""Perplexity: equal to transformers' loss and to the naive way, with little memory, beyond every boundary."""

import math

import pytest
import torch
from torch.nn import functional as F
from transformers import Phi3Config, Phi3ForCausalLM

from tinyphi.errors import InputError
from tinyphi.longcontext import perplexity as module
from tinyphi.longcontext.perplexity import Band, perplexity, perplexity_by_position, surprise

CASES = {
    "plain": {},
    "window": {"sliding_window": 6},
    "longrope": {
        "original_max_position_embeddings": 24,
        "short_factor": (1.0, 1.1, 1.2, 1.3),
        "long_factor": (1.0, 2.0, 4.0, 8.0),
    },
}


@pytest.fixture(params=[1 << 24, 61 * 5], ids=["at once", "in pieces"], autouse=True)
def most_logits(request, monkeypatch):
    monkeypatch.setattr(module, "_MOST_LOGITS", request.param)
    return request.param


def ids_of(*shape, seed=0):
    return torch.randint(61, shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("tokens", [2, 24, 25, 60])
def test_equal_to_the_loss_of_transformers(make_model, case, tokens):
    model = make_model(**CASES[case])
    reference = Phi3ForCausalLM(Phi3Config(**model.config.to_hugging_face())).eval()
    reference.load_state_dict(in_their_names(model))
    ids = ids_of(1, tokens)
    with torch.no_grad():
        loss = reference(ids, labels=ids, use_cache=False).loss
    assert math.isclose(perplexity(model, ids), math.exp(loss), rel_tol=2e-5)


def in_their_names(model):
    """Our tensors under transformers' names."""
    found = {}
    for name, tensor in model.state_dict().items():
        name = name.replace("attention_norm", "input_layernorm").replace(
            "mlp_norm", "post_attention_layernorm"
        )
        name = name.replace(".attention.", ".self_attn.")
        found[name if name.startswith("lm_head") else f"model.{name}"] = tensor
    return found


def test_packed_and_padded_rows_are_their_documents(make_model):
    model = make_model()
    ids = ids_of(2, 30)
    segments = torch.tensor([[1] * 11 + [2] * 19, [0] * 4 + [1] * 1 + [2] * 25])
    found = surprise(model, ids, segments)
    for row, start, end in ((0, 0, 11), (0, 11, 30), (1, 5, 30)):
        alone = surprise(model, ids[row : row + 1, start:end])[0]
        torch.testing.assert_close(found[row, start:end], alone, equal_nan=True, rtol=1e-4, atol=1e-5)
    nowhere = torch.zeros(2, 30, dtype=torch.bool)
    nowhere[0, [0, 11]] = nowhere[1, :6] = True
    assert torch.equal(found.isnan(), nowhere)


@pytest.mark.parametrize("case", CASES)
def test_bands_are_means_over_all_texts(make_model, case):
    model, texts = make_model(**CASES[case]), [ids_of(40).tolist(), ids_of(64, seed=1).tolist(), [3], []]
    bands = perplexity_by_position(model, texts, (0, 10, 30, 60))
    losses = []  # the naive way: all logits
    for text in (texts[0], texts[1][:60]):
        with torch.no_grad():
            losses.append(
                F.cross_entropy(model(torch.tensor([text]))[0, :-1], torch.tensor(text[1:]), reduction="none")
            )
    expected = [
        torch.cat([loss[max(0, start - 1) : end - 1] for loss in losses])
        for start, end in ((0, 10), (10, 30), (30, 60))
    ]
    assert [band.tokens for band in bands] == [18, 40, 40] == [len(part) for part in expected]
    assert [(band.start, band.end) for band in bands] == [(0, 10), (10, 30), (30, 60)]
    for band, part in zip(bands, expected, strict=True):
        assert math.isclose(band.surprise, float(part.mean()), rel_tol=1e-5)
        assert math.isclose(band.perplexity, math.exp(band.surprise))
    later = perplexity_by_position(model, texts[1:2], (30, 60))
    assert math.isclose(later[0].surprise, float(losses[1][29:].mean()), rel_tol=1e-5)


def test_ctrl_c_keeps_the_texts_that_are_done(make_model, monkeypatch):
    model, texts = make_model(), [ids_of(40).tolist(), ids_of(60, seed=1).tolist()]
    first = perplexity_by_position(model, texts[:1], (0, 30, 40))
    hidden, calls = model.hidden, []

    def interrupted(*given, **more):
        calls.append(None)
        if len(calls) > 1:
            raise KeyboardInterrupt
        return hidden(*given, **more)

    monkeypatch.setattr(model, "hidden", interrupted)
    assert perplexity_by_position(model, texts, (0, 30, 40)) == first
    with pytest.raises(KeyboardInterrupt):
        perplexity_by_position(model, texts, (0, 30, 40))


def test_logits_are_never_there_all_at_once(make_model, most_logits, monkeypatch):
    model, largest = make_model(), []
    logits = model.logits
    monkeypatch.setattr(
        model, "logits", lambda hidden: largest.append(hidden.numel() // 48) or logits(hidden)
    )
    perplexity(model, ids_of(1, 64))
    assert sum(largest) == 63 and max(largest) == min(63, most_logits // 61)


def test_bad_input(make_model):
    model = make_model()
    for edges in ((), (5,), (0, 5, 5), (3, 2), (-1, 4), (0, 2.5, 5)):
        with pytest.raises(InputError, match="whole numbers that rise"):
            perplexity_by_position(model, [[1, 2, 3]], edges)
    with pytest.raises(InputError, match="longest text has 3 tokens, so none is in the band 4 … 8"):
        perplexity_by_position(model, [[1, 2, 3]], (0, 4, 8))
    with pytest.raises(InputError, match="longest text has 0 tokens"):
        perplexity_by_position(model, [], (0, 4))
    with torch.no_grad():
        model.norm.weight[0] = math.nan
    with pytest.raises(InputError, match=r"not numbers \(NaN\)"):
        perplexity(model, ids_of(1, 8))


def test_an_absurd_surprise_is_an_infinite_perplexity():
    assert Band(0, 1, 1, 1e9).perplexity == math.inf
    assert math.isnan(Band(0, 1, 0, math.nan).perplexity)
