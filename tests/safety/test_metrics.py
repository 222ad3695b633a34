"""The metrics equal scikit-learn's where it has them, and their definitions where it has not."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from tinyphi.errors import InputError
from tinyphi.safety.metrics import calibration, counts, roc, roc_auc, roc_auc_interval, roc_auc_lead, wilson

cases = some.lists(some.tuples(some.booleans(), some.integers(0, 6)), min_size=2, max_size=60).filter(
    lambda pairs: len({truth for truth, _ in pairs}) == 2
)


@settings(deadline=None)
@given(cases)
def test_the_area_is_the_chance_that_harm_scores_higher(pairs):
    good = [score for truth, score in pairs if truth]
    bad = [score for truth, score in pairs if not truth]
    wins = sum((a > b) + (a == b) / 2 for a in good for b in bad)
    assert roc_auc(*zip(*pairs, strict=True)) == pytest.approx(wins / len(good) / len(bad))


@settings(deadline=None)
@given(cases)
def test_every_point_of_the_curve_is_what_its_threshold_flags(pairs):
    truth, scores = map(np.array, zip(*pairs, strict=True))
    for alarms, hits, threshold in zip(*roc(truth, scores), strict=True):
        found = counts(truth, scores >= threshold)
        assert (found.false_positive_rate, found.recall) == pytest.approx((alarms, hits))


def test_equal_to_scikit_learn():
    metrics = pytest.importorskip("sklearn.metrics", reason="scikit-learn is not installed")
    chance = np.random.default_rng(0)
    truth, scores = chance.random(300) < 0.3, chance.random(300).round(2)
    assert roc_auc(truth, scores) == pytest.approx(metrics.roc_auc_score(truth, scores))
    found, flagged = counts(truth, scores > 0.5), scores > 0.5
    assert found.precision == pytest.approx(metrics.precision_score(truth, flagged))
    assert found.recall == pytest.approx(metrics.recall_score(truth, flagged))
    assert found.f1 == pytest.approx(metrics.f1_score(truth, flagged))


def test_the_interval_holds_the_area_and_narrows():
    chance = np.random.default_rng(1)

    def interval(size):
        truth = chance.random(size) < 0.5
        scores = truth + chance.normal(size=size)
        low, high = roc_auc_interval(truth, scores)
        assert low < roc_auc(truth, scores) < high
        return high - low

    assert interval(4000) < interval(100) / 3


def test_a_lead_is_surer_than_two_areas_apart():
    chance = np.random.default_rng(3)
    truth = chance.random(400) < 0.4
    hard = truth + chance.normal(size=400)  # what is hard is hard for both
    ours, theirs = hard + 0.1 * chance.normal(size=400), hard + 1.1 * chance.normal(size=400)
    lead, low, high = roc_auc_lead(truth, ours, theirs)
    assert lead == pytest.approx(roc_auc(truth, ours) - roc_auc(truth, theirs)) and 0 < low < lead < high
    assert roc_auc_interval(truth, ours)[0] < roc_auc_interval(truth, theirs)[1]  # these two overlap
    assert roc_auc_lead(truth, ours, ours) == (0, 0, 0)


def test_calibration_by_hand():
    error, rows = calibration([True, False, True, True], [0.62, 0.62, 0.98, 1.0])
    assert rows == [pytest.approx((0.62, 0.5, 2)), pytest.approx((0.99, 1.0, 2))]
    assert error == pytest.approx((0.12 * 2 + 0.01 * 2) / 4)


def test_wilson_by_hand():
    assert wilson(0, 10) == pytest.approx((0, 0.2775), abs=1e-3)  # Newcombe 1998, table I: 0 of 10
    low, high = wilson(81, 263)
    assert (low, high) == pytest.approx((0.2553, 0.3662), abs=2e-4)  # Newcombe 1998
    assert wilson(0, 0) == (0, 1)


def test_lists_that_do_not_fit_are_refused():
    with pytest.raises(InputError, match="same length"):
        counts([True], [True, False])
    with pytest.raises(InputError, match="both kinds"):
        roc_auc([True, True], [0.1, 0.2])
