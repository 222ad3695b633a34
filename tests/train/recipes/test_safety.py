"""The fit is at its minimum, calibration repairs bold odds, and a trained filter knows what it never saw."""

import numpy as np
import pytest
import torch

from tinyphi.errors import InputError
from tinyphi.safety.labelled import Example
from tinyphi.safety.metrics import calibration
from tinyphi.train.recipes import safety
from tinyphi.train.recipes.safety import best_threshold, calibrate, fit, train_filter


def cloud(count=400, seed=0):
    chance = np.random.default_rng(seed)
    rows = (chance.normal(size=(count, 6)) * (chance.random((count, 6)) < 0.5)).astype(np.float32)
    truth = (
        rows @ np.array([[3.0, 0], [-2, 1], [0, 1], [1, -1], [0, 0], [0, 2]]) + chance.normal(size=(count, 2))
        > 0
    )
    return torch.from_numpy(rows), torch.from_numpy(truth.astype(np.float32))


def test_the_fit_is_at_the_minimum_of_the_loss_that_is_meant(monkeypatch):
    monkeypatch.setattr(safety, "_STEPS", 400)
    rows, truth = cloud()
    counted = torch.ones_like(truth)
    counted[:50, 1] = 0
    weights, bias = (part.requires_grad_() for part in fit(rows.to_sparse_csr(), truth, counted))
    share = counted * (1 + truth * ((counted.sum(0) / (truth * counted).sum(0)).sqrt() - 1))
    odds = rows @ weights + bias
    losses = (odds.exp() + 1).log() - truth * odds  # -log of the probability of the truth
    losses = losses * share / share.sum(0)
    (losses.sum() + 0.5e-5 * weights.square().sum()).backward()
    assert weights.grad.abs().max() < 2e-4 and bias.grad.abs().max() < 2e-4


def test_unknown_labels_change_nothing():
    rows, truth = cloud()
    counted = torch.ones_like(truth)
    counted[:100] = 0
    wrong = truth.clone()
    wrong[:100] = 1 - wrong[:100]
    for one, other in zip(
        fit(rows.to_sparse_csr(), truth, counted), fit(rows.to_sparse_csr(), wrong, counted), strict=True
    ):
        torch.testing.assert_close(one, other)


def test_calibration_repairs_bold_odds():
    chance = torch.Generator().manual_seed(0)
    real = torch.randn(4000, 2, generator=chance) * 1.5
    truth = (torch.rand(4000, 2, generator=chance) < real.sigmoid()).float()
    bold = 4 * real + 3
    mix, shift = calibrate(bold, truth, torch.ones_like(truth))
    repaired = (bold @ mix.T + shift).sigmoid()
    for number in range(2):
        assert calibration(truth[:, number], bold[:, number].sigmoid())[0] > 0.1
        assert calibration(truth[:, number], repaired[:, number])[0] < 0.03


def test_a_category_learns_from_its_neighbour():
    chance = torch.Generator().manual_seed(1)
    sign = torch.randn(2000, generator=chance)
    truth = torch.stack((sign > 0, sign > 0.5), 1).float()
    scores = torch.stack((3 * sign, torch.randn(2000, generator=chance)), 1)  # the second one knows nothing
    mix, _ = calibrate(scores, truth, torch.ones_like(truth))
    assert mix[1, 0] > 5 * mix[1, 1].abs()


def test_a_category_learns_from_a_score_that_is_no_category():
    chance = torch.Generator().manual_seed(2)
    sign = torch.randn(2000, generator=chance)
    truth = (sign > 0.5).float()[:, None]
    scores = torch.stack((torch.randn(2000, generator=chance), 3 * sign), 1)  # any harm knows it
    mix, shift = calibrate(scores, truth, torch.ones_like(truth))
    assert (mix.shape, shift.shape) == ((1, 2), (1,)) and mix[0, 1] > 5 * mix[0, 0].abs()


def test_too_little_data_is_refused():
    with pytest.raises(InputError, match="'hate' takes ten harmful"):
        train_filter([Example("x", {"hate": True}, "s", "train")], tell=lambda _: None)


def test_the_best_threshold_is_the_one_of_the_highest_f1():
    truth = torch.tensor([0, 0, 0, 1, 0, 1, 1.0])
    chances = torch.tensor([0.1, 0.2, 0.3, 0.42, 0.5, 0.6, 0.9])  # from 0.35 on 3 hits, 1 false alarm
    assert best_threshold(truth, chances) == "best F1 0.86 from 0.35 on: precision 0.75, recall 1.00"
