"""benchmarks: differences, averages of common rows, missing scores, and what it refuses."""

import pytest

from tinyphi.errors import InputError
from tinyphi.show import benchmarks

SCORES = {
    "MMLU": {"mini": 68.8, "small": 75.7, "medium": 78.0},
    "MATH": {"mini": 41.3, "small": 34.6, "medium": 53.1},
    "GPQA": {"mini": 32.8, "small": 34.3, "medium": None},
    "same": {"mini": 50, "small": 50.0, "medium": 50},
}
NOTES = {"MMLU": "5 shots", "MATH": "0 shots, chain of thought"}


def test_faces(examine, strange):
    view = examine(lambda: benchmarks(SCORES, NOTES))
    assert "medium has more than mini" in view.alt and "+7.0 on average" in view.alt
    examine(
        lambda: benchmarks(
            {
                strange(i) + str(i): {strange(m) + str(m): (i * 7 + m) % 101 for m in range(6)}
                for i in range(40)
            },
            {strange(0) + "0": strange(4)},
        )
    )
    examine(lambda: benchmarks({"one": {"a": None}}))
    examine(lambda: benchmarks({"one": {"a": 0.0, "b": 100.0}}))


def test_the_digest_has_all_scores_in_their_order():
    assert benchmarks(SCORES, NOTES).text.splitlines() == [
        "benchmarks, 4 × 3 models; the last column: their gain",
        "  (1) mini",
        "  (2) small",
        "  (3) medium",
        "benchmark               (1)    (2)    (3)  (3)−(1)  how it was asked",
        "MMLU                   68.8   75.7   78.0     +9.2  5 shots",
        "MATH                   41.3   34.6   53.1    +11.8  0 shots, chain of thought",
        "GPQA                   32.8   34.3      –        –",
        "same                   50.0   50.0   50.0      0.0",
        "medium against mini: +7.0 on average of 3 common benchmarks, ahead in 2, behind in 0.",
    ]


def test_the_average_is_of_what_both_models_have():
    text = benchmarks(SCORES, pair=("mini", "small")).text
    # (6.9 − 6.7 + 1.5 + 0) / 4
    assert text.endswith(
        "small against mini: +0.4 on average of 4 common benchmarks, ahead in 2, behind in 1."
    )
    assert "−6.7" in text and "(2)−(1)" in text
    backwards = benchmarks(SCORES, pair=("medium", "small")).text
    assert backwards.endswith(
        "small against medium: −6.9 on average of 3 common benchmarks, ahead in 0, behind in 2."
    )
    apart = benchmarks({"one": {"a": 1.0}, "two": {"b": 2.0}})
    assert apart.text.endswith("a and b have no benchmark in common.")


def test_the_figure_is_sorted_by_gain_and_keeps_unknown_rows_last():
    axes = benchmarks(SCORES, NOTES).figure().axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["MATH", "MMLU", "same", "GPQA"]
    assert [text.get_text() for text in axes.texts] == ["+11.8", "+9.2", "0.0", "–"]


MEASURED = {
    "ARC": {"ours": (41.0, 34.5, 47.5), "card": 37.3},
    "PIQA": {"ours": (60.0, 52.0, 65.0), "card": 66.3},
    "MMLU": {"ours": (30.0, 25.0, 36.0), "card": (35.0, 33.0, 37.0)},
    "BoolQ": {"ours": None, "card": 55},
}
SOURCES = {"ours": "measured here", "card": "model card"}


def test_intervals_and_sources_are_told(examine, strange):
    view = examine(lambda: benchmarks(MEASURED, {"ARC": "0 shots"}, sources=SOURCES))
    assert view.text.splitlines() == [
        "benchmarks, 4 × 2 models; the last column: their gain",
        "  (1) ours: measured here",
        "  (2) card: model card",
        "benchmark                           (1)                (2)  (2)−(1)  how it was asked",
        "ARC                   41.0 [34.5, 47.5]               37.3   −3.7 ~  0 shots",
        "PIQA                  60.0 [52.0, 65.0]               66.3     +6.3",
        "MMLU                  30.0 [25.0, 36.0]  35.0 [33.0, 37.0]   +5.0 ~",
        "BoolQ                                 –               55.0        –",
        "card against ours: +2.5 on average of 3 common benchmarks, ahead in 2, behind in 1; "
        "in 2 the intervals meet.",
    ]
    assert "intervals as bars" in view.alt
    many = {str(i): {str(m): (50.0, 50.0 - i, 50.0 + i) for m in range(6)} for i in range(40)}
    examine(lambda: benchmarks(many, sources={str(m): strange(m) for m in range(6)}))


def test_the_figure_draws_a_bar_for_each_interval():
    axes = benchmarks(MEASURED).figure().axes[0]
    bars = [line for line in axes.lines if line.get_linestyle() == "-"]
    assert sorted(tuple(bar.get_xdata()) for bar in bars) == [(25, 36), (33, 37), (34.5, 47.5), (52, 65)]


def test_limits_that_touch_settle_nothing_and_scores_without_limits_are_exact():
    def last(one, other):
        return benchmarks({"x": {"a": one, "b": other}}).text.splitlines()[-2].split()[-1]

    assert last((50.0, 40.0, 55.0), (60.0, 55.0, 65.0)) == "~"
    assert last((50.0, 40.0, 54.9), (60.0, 55.0, 65.0)) == "+10.0"
    assert last((50.0, 40.0, 55.0), 55.0) == "~"
    assert last(50.0, 50.0) == "0.0"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (({},), "1 to 40 benchmarks and 1 to 6 models; these are 0"),
        (({str(i): {"a": 1} for i in range(41)},), "these are 41"),
        (({"x": {str(i): 1 for i in range(7)}},), "and 7"),
        (({"x": {"a": 101}},), "'a' has 101 on 'x'; give a number from 0 to 100"),
        (({"x": {"a": -1}},), "has -1 on"),
        (({"x": {"a": float("nan")}},), "has nan on"),
        (({"x": {"a": "68"}},), "has '68' on"),
        (({"x": {"a": True}},), "has True on"),
        (({"x": {"a": (5.0, 6.0, 7.0)}},), "must lie between low and high"),
        (({"x": {"a": (5.0, 4.0)}},), "three of them"),
        (({"x": {"a": (5.0, 4.0, 101.0)}},), "three of them"),
        ((SCORES, None, None, {"tiny": "here"}), "a source for 'tiny', but no such model"),
        ((SCORES, {"MMLX": "5 shots"}), "a note on 'MMLX', but no such benchmark"),
        ((SCORES, None, ("mini", "large")), "name two of the models: 'mini', 'small', 'medium'"),
        ((SCORES, None, ("mini",)), "name two of the models"),
    ],
)
def test_bad_input(arguments, message):
    with pytest.raises(InputError, match=message):
        benchmarks(*arguments)
