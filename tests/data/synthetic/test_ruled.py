"""The world's texts in the same form: made again from their provenance alone, and nothing of the exam."""

import json
import random

import pytest

import tinyphi
from tinyphi.data import command
from tinyphi.data.reading import documents
from tinyphi.data.synthetic import lessons
from tinyphi.data.synthetic.questions import Question, exam
from tinyphi.data.synthetic.ruled import KINDS, ruled
from tinyphi.errors import InputError


@pytest.mark.parametrize("kind", KINDS)
def test_rows_are_the_same_again_and_name_where_they_come_from(kind, world):
    rows = list(ruled(kind, 20, seed=4, world=world))
    assert rows == list(ruled(kind, 20, seed=4, world=world))
    assert rows[:5] == list(ruled(kind, 5, seed=4, world=world))  # more rows change none
    assert rows != list(ruled(kind, 20, seed=5, world=world))
    assert len({row["id"] for row in rows}) == 20
    assert rows[3]["provenance"] == {
        "rules": f"tinyphi.data.synthetic.{kind}",
        "tinyphi": tinyphi.__version__,
        "world": world.seed,
        "seed": 4,
        "number": 3,
    }


def test_a_row_can_be_made_again_from_its_provenance(world):
    row = list(ruled("lessons", 8, seed=2, world=world))[7]
    assert row["text"] == lessons.lesson(world, random.Random("lessons 2 7"))


def test_questions_have_their_answer_and_none_is_of_the_exam(world):
    asked = {question.text for question in exam(world, 50)}
    for row in ruled("questions", 300, world=world):
        text, _, reply = row["text"].removeprefix("Question: ").partition("\nAnswer: ")
        assert text not in asked
        assert Question("", text, "", row["answer"], (), False).is_right(reply)


def test_the_command_writes_what_the_filter_reads(tmp_path, capsys):
    path = tmp_path / "texts.jsonl"
    assert command.main(["world", "questions", "--count", "7", "--seed", "1", "--to", str(path)]) == 0
    assert "7 texts" in capsys.readouterr().out
    rows = list(ruled("questions", 7, seed=1))
    assert [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] == rows
    assert [document.text for document in documents(path)] == [row["text"] for row in rows]
    with pytest.raises(InputError, match="Name another file"):
        command.main(["world", "questions", "--to", str(tmp_path / "nowhere" / "texts.jsonl")])


def test_an_unknown_kind_names_those_there_are():
    with pytest.raises(
        InputError, match="no texts of kind 'poems'; the kinds are lessons, stories, questions"
    ):
        list(ruled("poems", 1))
