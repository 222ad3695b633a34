"""`tinyphi course` as it is typed."""

import nbformat
import pytest

from tinyphi import cli
from tinyphi.course import build, check, exercise


@pytest.fixture
def only_tiny(tiny_exercises, monkeypatch):
    """As if the course had the three tiny exercises only."""
    known = {name: found for name, found in exercise._KNOWN.items() if name.startswith("tiny.")}
    monkeypatch.setattr(exercise, "_KNOWN", known)
    return tiny_exercises


def lines(capsys):
    return [line.split() for line in capsys.readouterr().out.splitlines()]


def test_list_shows_difficulty_and_minutes(only_tiny, capsys):
    assert cli.main(["course", "list"]) == 0
    assert lines(capsys) == [
        ["notebook", "exercise", "difficulty", "minutes", "title"],
        ["90_tiny", "tiny.double", "★☆☆", "2", "Twice", "as", "much"],
        ["tiny.causal", "★★☆", "5", "Hide", "the", "future"],
        ["tiny.length", "★★★", "8", "How", "long"],
    ]


def test_status_before_and_after(only_tiny, capsys):
    assert cli.main(["course", "status"]) == 0
    assert lines(capsys)[-1] == "0 of 3 passed, 15 minutes left".split()
    check("tiny.double", lambda x: x * x)
    check("tiny.double", lambda x: x + x)
    check("tiny.causal", lambda t: None)
    assert cli.main(["course", "status"]) == 0
    double, causal, length, _, last = lines(capsys)[1:]
    assert double[:2] == ["90_tiny", "tiny.double"]
    assert double[2] == double[4]  # passed on the day of the last try
    assert double[3] == "2"
    assert double[5] == "–"
    assert (causal[1], causal[2], causal[4]) == ("–", "1", "5")
    assert length[1:] == ["–", "–", "–", "8"]
    assert last == "1 of 3 passed, 13 minutes left".split()


def test_a_broken_record_is_one_line(only_tiny, tmp_path, capsys):
    (tmp_path / "progress.json").write_text("{")
    assert cli.main(["course", "status"]) == 2
    assert "progress.json" in capsys.readouterr().err


def test_solution_prints_one_and_suggests_names(only_tiny, capsys):
    assert cli.main(["course", "solution", "tiny.double"]) == 0
    assert capsys.readouterr().out == only_tiny.first.solution_source
    assert cli.main(["course", "solution", "tiny.duoble"]) == 2
    assert "tiny.double" in capsys.readouterr().err


def test_build_makes_what_is_asked_for(tiny_course, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(build, "source_notebooks", lambda: tiny_course)
    folders = [tmp_path / "s", tmp_path / "i"]
    assert cli.main(["course", "build", "--student", str(folders[0]), "--instructor", str(folders[1])]) == 0
    assert capsys.readouterr().out.splitlines() == [
        f"student: 1 notebooks in {folders[0]}",
        f"instructor: 1 notebooks in {folders[1]}",
    ]
    for folder in folders:
        nbformat.validate(nbformat.read(folder / "90_tiny.ipynb", as_version=4))
    (folders[0] / "mine.txt").write_text("mine")
    assert cli.main(["course", "build", "--student", str(folders[0])]) == 2
    error = capsys.readouterr().err
    assert error.startswith("tinyphi: ")
    assert "mine.txt" in error
    assert error.count("\n") == 1


def test_build_without_a_folder_says_what_there_is(capsys):
    assert cli.main(["course", "build"]) == 2
    assert "--nbgrader DIR" in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [[], ["nonsense"], ["list", "more"], ["build", "--studnet", "x"]])
def test_unknown_arguments_are_refused(arguments, capsys):
    with pytest.raises(SystemExit) as end:
        cli.main(["course", *arguments])
    assert end.value.code == 2
    assert "tinyphi course" in capsys.readouterr().err


def test_help_names_every_folder(capsys):
    with pytest.raises(SystemExit) as end:
        cli.main(["course", "build", "--help"])
    assert end.value.code == 0
    shown = capsys.readouterr().out
    assert all(f"--{kind} DIR" in shown for kind in ("student", "instructor", "nbgrader", "slides", "colab"))
