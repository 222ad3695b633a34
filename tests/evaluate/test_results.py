"""The bootstrap against theory and scipy, values by group, the comparison of wordings."""

import json
import math

import numpy as np
import pytest

from tinyphi.errors import InputError
from tinyphi.evaluate.results import Answer, Result, Sensitivity, save, table
from tinyphi.evaluate.tasks.base import Score


def result(marks, task="task", groups=None, wording="lm-eval"):
    groups = groups or [None] * len(marks)
    rows = enumerate(zip(groups, marks, strict=True))
    return Result(
        task,
        wording,
        0,
        tuple(Answer(row, group, (float(row),), {"acc": Score(mark)}) for row, (group, mark) in rows),
    )


def test_an_interval_is_as_wide_as_theory_says():
    found = result([1.0] * 300 + [0.0] * 100).interval("acc", samples=4000)
    half = 1.96 * math.sqrt(0.75 * 0.25 / 400)
    assert found.value == 0.75
    assert found.low == pytest.approx(0.75 - half, abs=0.006) and found.high == pytest.approx(
        0.75 + half, abs=0.006
    )


def test_an_interval_equals_scipys():
    stats = pytest.importorskip("scipy.stats", reason="scipy is not installed; lm-eval brings it")
    marks = np.random.default_rng(1).random(80)
    theirs = stats.bootstrap((marks,), np.mean, method="percentile", n_resamples=9999, rng=0)
    found = result(marks.tolist()).interval("acc", samples=9999)
    limits = theirs.confidence_interval
    assert (found.low, found.high) == pytest.approx((limits.low, limits.high), abs=0.004)


def test_a_narrower_level_gives_a_narrower_interval_and_certainty_none():
    marks = result([1.0, 0.0] * 50)
    wide, narrow = (marks.interval("acc", level) for level in (0.95, 0.5))
    assert wide.low < narrow.low < 0.5 < narrow.high < wide.high
    certain = result([1.0] * 9).interval("acc")
    assert certain.low == certain.high == 1.0


def test_many_items_are_drawn_in_parts(monkeypatch):
    marks = result([1.0, 0.0, 1.0] * 30)
    whole = marks.interval("acc")
    monkeypatch.setattr("tinyphi.evaluate.results._AT_ONCE", 1000)
    parts = marks.interval("acc")
    assert (parts.low, parts.high) == pytest.approx((whole.low, whole.high), abs=0.03)


@pytest.mark.parametrize("level", [0.0, 1.0, 95])
def test_a_level_that_is_none_is_refused(level):
    with pytest.raises(InputError, match="level"):
        result([1.0]).interval("acc", level)


def test_a_perplexity_weighs_texts_by_their_length():
    scores = [{"word_perplexity": Score(-10.0, 5)}, {"word_perplexity": Score(-2.0, 1)}]
    found = Result("t", "w", 0, tuple(Answer(row, None, "", one) for row, one in enumerate(scores)))
    assert found.value("word_perplexity") == pytest.approx(math.exp(12 / 6))
    interval = found.interval("word_perplexity")
    assert interval.low <= found.value("word_perplexity") <= interval.high


def test_groups():
    found = result([1.0, 0.0, 1.0, 1.0], groups=["a", "a", "b", "b"])
    assert found.by_group("acc") == {"a": 0.5, "b": 1.0}
    assert result([1.0]).by_group("acc") == {}


def test_an_unknown_metric_is_said():
    with pytest.raises(InputError, match="it has acc"):
        result([1.0]).value("f1")


def test_wordings_are_compared_question_by_question():
    both = Sensitivity({"a": result([1.0, 1.0, 0.0, 0.0]), "b": result([1.0, 0.0, 1.0, 1.0])})
    assert both.spread("acc") == pytest.approx(0.25) and both.changed("acc") == 0.75


def test_answers_are_written_whole(tmp_path):
    path = tmp_path / "answers.jsonl"
    save([result([1.0, 0.0])], path)
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert [line["scores"]["acc"][0] for line in lines] == [1.0, 0.0] and len(list(tmp_path.iterdir())) == 1
    with pytest.raises(InputError, match="Name another file"):
        save([], tmp_path / "none" / "x.jsonl")


def test_the_table_has_a_line_for_each_metric():
    lines = table([result([1.0, 0.0, 1.0, 0.0])]).splitlines()
    assert len(lines) == 2 and "0.5000" in lines[1]
