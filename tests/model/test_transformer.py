"""What the whole model refuses, and what it must not depend on. Parity with the reference: tests/parity."""

import pytest
import torch

from tinyphi.errors import InputError


@pytest.mark.parametrize(
    "ids",
    [
        [[1, 2]],
        torch.tensor([1, 2]),
        torch.tensor([[1.0]]),
        torch.zeros(1, 0, dtype=torch.int64),
        torch.tensor([[1]], dtype=torch.int32),
    ],
)
def test_wrong_ids_are_refused(make_model, ids):
    with pytest.raises(InputError, match="int64 tensor with axes"):
        make_model()(ids)


@pytest.mark.parametrize("last", [0, -1])
def test_no_last_tokens_are_refused(make_model, last):
    with pytest.raises(InputError, match="at least 1"):
        make_model().hidden(torch.tensor([[3, 4]]), last=last)


@pytest.mark.parametrize("token", [-1, 61])
def test_ids_outside_the_vocabulary_are_refused(make_model, token):
    with pytest.raises(InputError, match="0 … 60"):
        make_model()(torch.tensor([[3, token]]))


@pytest.mark.parametrize(
    "segments", [torch.ones(1, 2), torch.ones(1, 3, dtype=torch.int64), [[1, 1]], torch.tensor([[1, -1]])]
)
def test_wrong_segments_are_refused(make_model, segments):
    with pytest.raises(InputError, match="segments must be"):
        make_model()(torch.tensor([[3, 4]]), segments=segments)


def test_the_future_does_not_change_the_past(make_model):
    model, ids = make_model(), torch.randint(0, 61, (2, 12))
    changed = ids.clone()
    changed[:, 7:] = (changed[:, 7:] + 1) % 61
    with torch.no_grad():
        torch.testing.assert_close(model(ids)[:, :7], model(changed)[:, :7])


def test_right_padding_changes_nothing_either(make_model):
    model, ids = make_model(), torch.randint(1, 61, (1, 6))
    padded = torch.cat((ids, torch.zeros(1, 3, dtype=torch.int64)), dim=1)
    with torch.no_grad():
        logits = model(padded, segments=(padded > 0).long())[:, :6]
        torch.testing.assert_close(logits, model(ids), atol=1e-5, rtol=1e-5)


def test_a_tied_head_is_the_embedding(make_model):
    model = make_model(tie_word_embeddings=True)
    assert model.lm_head.weight is model.embed_tokens.weight
    assert sum(parameter.numel() for parameter in model.parameters()) == model.config.parameter_count()


def test_the_parameter_count_is_exact(make_model):
    model = make_model(partial_rotary_factor=0.5)
    assert sum(parameter.numel() for parameter in model.parameters()) == model.config.parameter_count()
