"""The published scores hold together: ranges, printed averages, numbers that stand in two places."""

import pytest

from tinyphi.config import PRESETS
from tinyphi.evaluate.published import (
    APRIL,
    CARD_35,
    CARDS,
    JUNE,
    MEDIUM,
    MINI_35,
    MINI_128K_APRIL,
    MINI_128K_JUNE,
    REPORT,
    REPORT_35,
    RULER,
    RULER_35,
    SMALL,
    TABLES,
    UPDATE,
    Row,
    Source,
    Table,
)

ROUNDING = 0.0501  # averages are printed with one decimal
# Where a publication's average is not the mean of its own rows: what the mean is.
ELSEWISE = {("report", SMALL): 73.685, ("report", MEDIUM): 77.19}


@pytest.mark.parametrize("name", TABLES)
def test_a_table_is_whole(name):
    table = TABLES[name]
    assert table.rows and len(set(table.models)) == len(table.models)
    assert all(len(row.scores) == len(table.models) for row in table.rows.values())
    assert table.outside <= table.rows.keys()
    assert len(table.averages) in (0, len(table.models))
    for row in table.rows.values():
        assert any(score is not None for score in row.scores)
        assert all(score is None or 0 < score < table.highest for score in row.scores)
        assert row.shots is None or 0 <= row.shots <= 10


@pytest.mark.parametrize("name", TABLES)
def test_every_number_says_where_it_is_from(name):
    source = TABLES[name].source
    assert source.publication and source.place and source.read
    assert source.date is None or source.date in ("2024-04", "2024-06")


@pytest.mark.parametrize(
    ("name", "model"),
    [(name, model) for name in TABLES for model in TABLES[name].models if TABLES[name].averages],
)
def test_a_printed_average_is_the_mean_of_its_rows(name, model):
    table = TABLES[name]
    place = table.models.index(model)
    mean, printed = table.means()[place], table.averages[place]
    if (name, model) in ELSEWISE:
        assert mean == pytest.approx(ELSEWISE[name, model]) and abs(mean - printed) > ROUNDING
    else:
        assert mean == pytest.approx(printed, abs=ROUNDING)


def test_a_wrong_digit_would_be_noticed():
    """Digits exchanged in one of the 20 rows move an average further than rounding does."""
    rows = REPORT.rows | {"MMLU": Row((86.8, 75.7, 78.0), 5)}
    means = Table(REPORT.source, REPORT.models, rows, outside=REPORT.outside).means()
    assert abs(means[0] - REPORT.averages[0]) > ROUNDING


def test_every_member_has_scores():
    models = {model for table in TABLES.values() for model in table.models}
    assert {APRIL, JUNE, MINI_128K_APRIL, MINI_128K_JUNE, MINI_35, SMALL, MEDIUM} <= models
    members = {name.removesuffix("-4k").removesuffix("-8k") for name in PRESETS if name.startswith("phi")}
    named = {model.split(" ")[0] for model in models}
    assert {name for name in members if "april" not in name} - named == {
        "phi-3-medium-128k"
    }  # none published here


def test_numbers_in_two_tables_agree():
    """The June mini stands in two tables; the card's four scores make the report's 3.5 the card's."""
    for benchmark in ("MMLU", "GPQA"):
        assert UPDATE.scores()[benchmark][JUNE] == CARDS.scores()[benchmark][JUNE]
    exchanged = Table(REPORT_35.source, REPORT_35.models, {**REPORT_35.rows, **CARD_35.rows})
    assert exchanged.means()[0] == pytest.approx(61.4, abs=ROUNDING)


def test_the_same_weights_have_two_scores_if_they_are_asked_in_two_ways():
    assert REPORT.scores()["GPQA"][APRIL] == 32.8 and UPDATE.scores()["GPQA"][APRIL] == 23.7
    assert REPORT.scores()["MMLU"][APRIL] == UPDATE.scores()["MMLU"][APRIL] == 68.8


def test_longer_texts_are_harder():
    for table in (RULER, RULER_35):
        for model in table.models:
            row = [scores[model] for scores in table.scores().values()]
            assert list(table.rows) == ["4k", "8k", "16k", "32k", "64k", "128k"]
            assert row[0] == max(row) and row[-1] == min(row)


def test_what_is_unknown_stays_unknown():
    rows = {"a": Row((50.0, None), 1), "b": Row((60.0, 70.0), 0, True), "c": Row((1.0, 2.0))}
    table = Table(Source("p", "t", None, "r"), ("x", "y"), rows, outside=frozenset({"c"}))
    assert table.means() == (55.0, None)
    assert table.scores()["a"] == {"x": 50.0, "y": None}
    assert table.notes() == {"a": "1 shot", "b": "0 shots, chain of thought"}
