"""The log: two files with the same rows, whatever happens in between."""

import csv
import json

import pytest

from tinyphi.train.log import Log

ROWS = [
    {"step": 1, "loss": 0.1 + 0.2},
    {"step": 2, "loss": 1e-17, "eval_loss": 3.0},
    {"step": 3, "loss": 2.0, "sample": 'a "quoted",\nlong 🦙 text'},
    {"step": 4, "loss": 1.0},
]


def table(folder):
    with (folder / "log.csv").open(encoding="utf-8", newline="") as file:
        return [{name: cell for name, cell in row.items() if cell} for row in csv.DictReader(file)]


def text(rows):
    return [{name: str(value) for name, value in row.items()} for row in rows]


def test_both_files_hold_every_row_at_any_time(tmp_path):
    log = Log(tmp_path)
    for number, row in enumerate(ROWS, 1):
        log.append(row)
        lines = (tmp_path / "log.jsonl").read_text(encoding="utf-8").splitlines()
        assert [json.loads(line) for line in lines] == ROWS[:number] == log.rows
        assert table(tmp_path) == text(ROWS[:number])


@pytest.mark.parametrize("step", [0, 2, 4])
def test_going_back_forgets_the_rows_after_a_step(tmp_path, step):
    first = Log(tmp_path)
    for row in ROWS:
        first.append(row)
    log = Log(tmp_path)
    log.go_back(step)
    assert log.rows == ROWS[:step] and table(tmp_path) == text(ROWS[:step])
    for row in ROWS[step:]:
        log.append(row)
    assert log.rows == ROWS and table(tmp_path) == text(ROWS)
    assert not list(tmp_path.glob("*.partial"))


@pytest.mark.parametrize("cut", [1, 20, 27, 30])
def test_a_line_that_was_cut_off_is_no_row(tmp_path, cut):
    """Even where the cut goes through a character."""
    first = Log(tmp_path)
    for row in ROWS[:3]:
        first.append(row)
    path = tmp_path / "log.jsonl"
    path.write_bytes(path.read_bytes()[:-cut])
    log = Log(tmp_path)
    log.go_back(9)
    assert log.rows == (ROWS[:3] if cut == 1 else ROWS[:2])  # a line without its end is whole


def test_without_a_folder_rows_stay_in_memory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    log = Log(None)
    for row in ROWS:
        log.append(row)
    log.go_back(2)
    assert log.rows == ROWS[:2] and not list(tmp_path.iterdir())
