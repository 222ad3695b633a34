"""Every exercise: its stub fails, its solution passes, and each wrong answer gets its own message."""

import time

import pytest

from tinyphi.course.check import judge
from tinyphi.course.exercise import Exercise, all_exercises

EXERCISES = all_exercises()
WRONG = [(exercise, name) for exercise in EXERCISES for name in exercise.wrong_answers]


def ids(value: object) -> str:
    return value.name if isinstance(value, Exercise) else str(value)


@pytest.mark.parametrize("exercise", EXERCISES, ids=ids)
def test_it_is_complete(exercise: Exercise) -> None:
    assert exercise.difficulty in (1, 2, 3) and 1 <= exercise.minutes <= 60
    assert exercise.task and exercise.title and len(exercise.hints) >= 2
    assert len(exercise.wrong_answers) >= 3
    assert f"`{exercise.stub_function.__name__}" in exercise.task  # the task names the function
    says = [wrong.says for wrong in exercise.wrong_answers.values()]
    assert len(set(says)) == len(says)


@pytest.mark.parametrize("exercise", EXERCISES, ids=ids)
def test_the_stub_fails(exercise: Exercise) -> None:
    assert not judge(exercise, exercise.stub_function)


@pytest.mark.parametrize("exercise", EXERCISES, ids=ids)
def test_the_solution_passes(exercise: Exercise) -> None:
    feedback = judge(exercise, exercise.solution_function)
    assert feedback, feedback


@pytest.mark.parametrize(("exercise", "name"), WRONG, ids=ids)
def test_a_wrong_answer_gets_its_own_message(exercise: Exercise, name: str) -> None:
    wrong = exercise.wrong_answers[name]
    feedback = judge(exercise, wrong.function)
    assert not feedback
    assert wrong.says in feedback.message
    others = [other for key, other in exercise.wrong_answers.items() if key != name]
    assert not [other.says for other in others if other.says in feedback.message]


NONSENSE = {
    "nothing": lambda *given, **named: None,
    "a text": lambda *given, **named: "no",
    "a list": lambda *given, **named: [],
    "itself": lambda *given, **named: NONSENSE,
    "what it is given": lambda *given, **named: given[0] if given else None,
}


@pytest.mark.parametrize("kind", NONSENSE)
@pytest.mark.parametrize("exercise", EXERCISES, ids=ids)
def test_nonsense_is_no_answer_and_no_accident(exercise: Exercise, kind: str) -> None:
    started = time.monotonic()
    feedback = judge(exercise, NONSENSE[kind])
    assert not feedback
    assert "does not know what to make" not in feedback.message or kind == "itself", feedback.message
    assert time.monotonic() - started < 60
