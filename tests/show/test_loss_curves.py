"""loss_curves: rows of a log, all at once or one by one; what is not finite, resumed, or long."""

import math
from functools import partial

import pytest

from tinyphi.errors import InputError
from tinyphi.show import live as living
from tinyphi.show import loss_curves


def rows(count, seed=0, every=10):
    for step in range(1, count + 1):
        row = {"step": step, "loss": 1 + 5 / step + 0.01 * (step * 7 % 5), "learning_rate": 1e-3 / step}
        row |= {"gradient_norm": 0.5 + seed, "tokens": 512 * step, "tokens_per_second": 9.5, "sample": "x"}
        if step % every == 0:
            row |= {"eval_loss": 1.1 + 5 / step, "eval_accuracy": 0.25}
        yield row


TWO = {"filtered": list(rows(40)), "raw": list(rows(3, 1))}


def test_the_digest_has_steps_and_losses():
    view = loss_curves(TWO)
    assert view.text.splitlines() == [
        "training, 2 runs: loss by step",
        "filtered: 40 rows, 20480 tokens",
        "      step        1        7       14       21       27       33       40",
        "      loss     6.02     1.75     1.39     1.26     1.23     1.16     1.12",
        "      step       10       20       30       40",
        "  held out     1.60     1.35     1.27     1.23",
        "raw: 3 rows, 1536 tokens",
        "      step        1        2        3",
        "      loss     6.02     3.54     2.68",
    ]
    assert view.alt == "Loss by step: filtered from 6.02 to 1.12 in step 40; raw from 6.02 to 2.68 in step 3."
    assert loss_curves(TWO["raw"]).text.splitlines()[1] == "training: 3 rows, 1536 tokens"
    assert loss_curves().text == "training, 0 runs: loss by step"


def test_faces(examine, strange):
    examine(lambda: loss_curves(TWO))
    examine(lambda: loss_curves())
    examine(lambda: loss_curves({"only a name": []}))
    examine(lambda: loss_curves({strange(n) + str(n): list(rows(200, n)) for n in range(6)}))
    odd = [{"step": 1, "loss": math.nan, "gradient_norm": math.inf}, {"step": 2, "loss": 2}]
    view = examine(lambda: loss_curves({"odd": odd, "none": [{"step": 1, "loss": math.inf}]}))
    assert view.live.data["runs"][0]["loss"] == [None, 2] and "–" in view.text


def test_a_long_run_is_thinned_and_keeps_its_evaluations(examine):
    view = examine(lambda: loss_curves({str(n): list(rows(4321, n)) for n in range(6)}))
    run = view.live.data["runs"][0]
    assert run["rows"] == 4321 and 500 < len(run["loss"]) <= 1000 and run["step"][-1] == 4321
    assert run["loss"][1] == pytest.approx(sum(row["loss"] for row in list(rows(10))[5:]) / 5, abs=1e-5)
    assert len(run["evaluations"]) == 200 and run["evaluations"][-1]["step"] == 4320
    assert run["evaluations"][0] == {"step": 10, "tokens": 5120, "loss": 1.6, "accuracy": 0.25}


def test_rows_come_one_by_one_and_a_resumed_run_goes_back():
    view = loss_curves()
    for row in rows(12):
        view.add(row)
    for row in rows(3, 1):
        view.add(row, "other")
    assert view.text == loss_curves({"training": list(rows(12)), "other": list(rows(3, 1))}).text
    view.add({"step": 9, "loss": 0.5})
    assert [point["step"] for point in view.runs["training"]] == [*range(1, 10)]


def test_a_widget_follows_at_most_twice_a_second(monkeypatch):
    view, now, sent = loss_curves(), [0.0], []
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    monkeypatch.setattr(living, "renew", lambda widget, live: sent.append(live.data["runs"][0]["rows"]))
    view.widget()
    for row in rows(100):
        now[0] += 0.11
        view.add(row)
    assert sent == [*range(1, 101, 5)]
    view._renew()  # what the end of a cell calls
    view._renew()
    assert sent[-1] == 100 and len(sent) == 21


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ([{"loss": 1.0}], "'step' and 'loss'"),
        ([3], "'step' and 'loss'"),
        ([{"step": 1, "loss": "low"}], "'loss' of a row of the log must be a number"),
        ([{"step": math.nan, "loss": 1}], "'step' of a row"),
        ([{"step": 1, "loss": 1, "eval_loss": None}], "'eval_loss' of a row"),
        ({str(n): [] for n in range(7)}, "at most 6 runs; '6' is one more"),
    ],
)
def test_bad_input(given, message):
    with pytest.raises(InputError, match=message):
        loss_curves(given)


def test_it_is_a_watcher():
    view = loss_curves()
    partial(view.add, run="a")({"step": 1, "loss": 1.0})
    with pytest.raises(InputError, match="'g' is one more"):
        for name in "bcdefg":
            view.add({"step": 1, "loss": 1.0}, name)
