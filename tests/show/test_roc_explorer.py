"""roc_explorer: curves, areas and rates as tinyphi.safety.metrics has them, precision by the base rate."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as some

from tinyphi.errors import InputError
from tinyphi.safety import metrics
from tinyphi.show import roc_explorer
from tinyphi.show.roc_explorer import _Case

SCORES = torch.tensor([0.9, 0.8, 0.8, 0.6, 0.3, 0.2, 0.1, 0.0])
LABELS = torch.tensor([1, 1, 0, 1, 0, 0, 0, 0])


def test_the_digest_has_rates_and_both_precisions():
    view = roc_explorer({"hate": SCORES}, {"hate": LABELS}, 0.7, 0.1)
    assert view.text.splitlines() == [
        "               texts harmful   AUC threshold   hits false alarms precision   at 10%",
        "hate               8       3  0.90      0.70  66.7%        20.0%     66.7%    27.0%",
    ]
    assert view.alt == "ROC curves with the area below each: hate 0.90."


def test_at_a_small_base_rate_few_of_the_flagged_are_harmful():
    lines = roc_explorer({"x": SCORES}, {"x": LABELS}, 0.7, 0.001).text.splitlines()
    assert lines[1].endswith(f"{0.001 * 2 / 3 / (0.001 * 2 / 3 + 0.999 / 5):.1%}")
    nothing = roc_explorer({"x": SCORES}, {"x": LABELS}, 2.0).text.splitlines()[1]
    assert nothing.split()[5:] == ["0.0%", "0.0%", "100.0%", "100.0%"]


texts = some.lists(some.tuples(some.integers(0, 6), some.booleans()), min_size=2, max_size=30).filter(
    lambda rows: len({truth for _, truth in rows}) == 2
)


@given(texts, some.integers(-1, 7))
@settings(deadline=None)
def test_curve_area_and_rates_are_those_of_the_metrics(rows, threshold):
    scores, truth = torch.tensor([row[0] for row in rows]).double(), torch.tensor([row[1] for row in rows])
    case = _Case("x", scores, truth, threshold)
    alarms, hits, _ = metrics.roc(truth, scores)
    torch.testing.assert_close(
        torch.stack(case.curve()), torch.tensor([alarms.tolist(), hits.tolist()]).double()
    )
    assert case.area() == pytest.approx(metrics.roc_auc(truth, scores))
    counted = metrics.counts(truth, scores >= threshold)
    assert case.rates() == pytest.approx((counted.recall, counted.false_positive_rate))


def test_faces(examine):
    examine(lambda: roc_explorer({"hate": SCORES}, {"hate": LABELS}))
    torch.manual_seed(0)
    labels = {f"$x$ <b>&'\" {n}\n": (torch.rand(5000) < 0.2) for n in range(8)}
    scores = {name: torch.randn(5000) + truth for name, truth in labels.items()}
    thresholds = {name: n / 4 for n, name in enumerate(labels)}
    view = examine(lambda: roc_explorer(scores, labels, thresholds, 1e-4))
    assert len(view.text.splitlines()) == 9
    same = torch.ones(4)
    examine(lambda: roc_explorer({"": same}, {"": torch.tensor([True, False, False, True])}, 1.0, 0.5))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (({"a": SCORES}, {"b": LABELS}), "the same categories"),
        ((SCORES, LABELS), "by category"),
        (({}, {}), "1 to 8 categories; these are 0"),
        (({"a": SCORES}, {"a": LABELS[:4]}), "they are 8, 4"),
        (({"a": torch.zeros(5001)}, {"a": torch.zeros(5001)}), "at most 5000"),
        (({"a": SCORES * math.nan}, {"a": LABELS}), "finite real numbers"),
        (({"a": SCORES}, {"a": 2 * LABELS}), "must be 0 and 1"),
        (({"a": SCORES}, {"a": torch.zeros(8)}), "both must occur"),
        (({"a": SCORES}, {"a": LABELS}, {"b": 0.5}), "threshold of 'a' is None"),
        (({"a": SCORES}, {"a": LABELS}, math.inf), "threshold of 'a' is inf"),
        (({"a": SCORES}, {"a": LABELS}, 0.5, 0), "base_rate is 0"),
        (({"a": [0.1, 0.2]}, {"a": LABELS}), "each .texts."),
    ],
)
def test_what_cannot_be_shown(arguments, message):
    with pytest.raises(InputError, match=message):
        roc_explorer(*arguments)
