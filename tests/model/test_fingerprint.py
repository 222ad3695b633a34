"""A name for a model's weights and code: the same for the same, another for any other."""

import torch

from tinyphi.model.fingerprint import fingerprint


def test_other_weights_have_another_name(make_model):
    model = make_model()
    before = fingerprint(model)
    assert fingerprint(make_model()) == before
    with torch.no_grad():
        model.layers[1].mlp.down_proj.weight[3, 5] += 0.5
    assert fingerprint(model) != before


def test_changed_code_has_another_name(make_model, monkeypatch):
    """A learner who changes a line must not be shown what the old line answered."""
    model = make_model()
    before = fingerprint(model)
    monkeypatch.setattr(
        "tinyphi.model.transformer.rotation",
        lambda config, positions, longest, dtype: tuple(
            torch.ones(*positions.shape, config.head_dim // 2, dtype=dtype) for _ in range(2)
        ),
    )
    assert fingerprint(model) != before
