"""What a learner's function may do to `check`: anything. It is told, and nothing hangs or breaks."""

import functools
import json
import math
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import tinyphi
from tinyphi.course import exercise as exercises
from tinyphi.course import progress
from tinyphi.course.check import Feedback, judge
from tinyphi.course.exercise import Exercise, Misconception, fail_if, near, number_of, tensor_of
from tinyphi.errors import InputError, TinyphiError


@pytest.fixture
def double(own_exercises: None) -> Exercise:
    """An exercise that is there for one test: double a tensor."""
    made = Exercise(
        "test.double", notebook="00", title="Double", difficulty=1, minutes=1, task="`double(x)`", hints=["2"]
    )

    @made.judge
    def judge_double(f: Callable[..., Any]) -> None:
        x = torch.tensor([1.0, 2.0, 3.0])
        got = tensor_of(f(x), shape=(3,), dtype=torch.float32)
        fail_if(near(got, x), "Nothing was doubled.")
        fail_if(not near(got, 2 * x), "Not the double.")

    @made.stub
    def double(x):  # type: ignore[no-untyped-def]
        """Twice x."""
        ...  # noqa: PIE790

    @made.solution
    def double(x):  # type: ignore[no-untyped-def]  # noqa: F811
        return 2 * x

    return made


def message(exercise: Exercise, answer: Callable[..., Any], limit: float = 5.0) -> str:
    feedback = judge(exercise, answer, limit)
    assert not feedback
    return feedback.message


def test_right(double: Exercise) -> None:
    assert judge(double, double.solution_function) == Feedback("test.double", True, "Double: right.")
    assert double.solution_source.startswith("def double(x):")
    assert double.solution_source.endswith("\n    return 2 * x\n")


def test_the_stub_is_recognised(double: Exercise) -> None:
    def again(x: Any) -> Any:
        """Twice x."""
        ...  # noqa: PIE790

    assert "nothing written yet" in message(double, again)


def test_another_method_than_the_stubs_is_no_stub(double: Exercise) -> None:
    double.stub(lambda x: x.sum())
    assert "nothing written" in message(double, lambda x: x.sum())
    assert "nothing written" not in message(double, lambda x: x.mean())


def test_wrong_is_named(double: Exercise) -> None:
    assert message(double, lambda x: x + 0) == "Nothing was doubled."


def test_an_exception_shows_the_learners_own_line(double: Exercise) -> None:
    def answer(x: Any) -> Any:
        x = x + 1
        return x.reshape(2, 2)

    said = message(double, answer)
    assert said.startswith("RuntimeError in line ") and "return x.reshape(2, 2)" in said
    assert "shape '[2, 2]' is invalid" in said and "tinyphi" not in said


def test_an_exception_in_torch_called_by_a_lambda(double: Exercise) -> None:
    assert "KeyError" in message(double, lambda x: {}["a"])


class Halves:
    def __init__(self, x: Any) -> None:
        self.x = x.reshape(2, 2)


@torch.no_grad()
def halves(x: Any) -> Any:
    return x.reshape(2, 2)


@pytest.mark.parametrize("answer", [Halves, halves])
def test_the_learners_own_line_in_a_class_and_below_a_decorator(
    double: Exercise, answer: Callable[..., Any]
) -> None:
    assert "x.reshape(2, 2)\n" in message(double, answer)


def test_a_line_of_another_library_is_not_called_the_learners(double: Exercise) -> None:
    said = message(double, functools.partial(json.loads))
    assert said.startswith("TypeError: ") and "of your cell" not in said


def test_an_exception_in_code_without_a_file(double: Exercise) -> None:
    space: dict[str, Any] = {}
    exec("def answer(x):\n    return {}['a']", space)
    assert message(double, space["answer"]) == "KeyError: 'a'"


def test_wrong_number_of_arguments(double: Exercise) -> None:
    assert "cannot be called as the task says" in message(double, lambda x, y: x)


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (lambda x: print(end=""), "is None"),
        (lambda x: [2.0, 4.0, 6.0], "of type list"),
        (lambda x: (2 * x)[None], "yours has (1, 3)"),
        (lambda x: (2 * x)[:2], "differ along axis 0"),
        (lambda x: (2 * x).double(), "should be float32; yours is float64"),
        (lambda x: x.mul_(2), "changes a tensor that it was given"),
        (lambda x: 2 * x.log_(), "changes a tensor that it was given"),
        (lambda x: sys.exit(3), "calls exit"),
    ],
)
def test_what_came_back_instead(double: Exercise, answer: Callable[..., Any], says: str) -> None:
    assert says in message(double, answer)


def test_not_a_function(double: Exercise) -> None:
    feedback = judge(double, torch.zeros(3))  # type: ignore[arg-type]
    assert not feedback and "Pass the function itself" in feedback.message


def loops(x: Any) -> Any:
    while True:
        pass


def loops_stubbornly(x: Any) -> Any:
    end = time.monotonic() + 20  # so that the test's process can end
    while time.monotonic() < end:
        try:
            while True:
                time.sleep(0.01)
        except:  # noqa: E722
            pass


def recurses(x: Any) -> Any:
    return recurses(x)


@pytest.mark.parametrize(
    ("answer", "end"), [(loops, "so it was stopped"), (loops_stubbornly, "restart the kernel")]
)
def test_an_endless_loop_ends(double: Exercise, answer: Callable[..., Any], end: str) -> None:
    started = time.monotonic()
    said = message(double, answer, limit=0.5)
    assert "Still running after 0.5 seconds" in said and end in said
    assert time.monotonic() - started < 15


def test_endless_recursion_ends(double: Exercise) -> None:
    assert "calls itself without end" in message(double, recurses)


def test_random_numbers_of_the_notebook_are_left_alone(double: Exercise) -> None:
    torch.manual_seed(5)
    wanted = torch.rand(3)
    torch.manual_seed(5)
    judge(double, lambda x: torch.rand(3))
    assert torch.equal(torch.rand(3), wanted)


def test_the_notebooks_dtype_and_modes_change_nothing(double: Exercise) -> None:
    torch.set_default_dtype(torch.float64)
    try:
        with torch.inference_mode():
            assert judge(double, lambda x: 2 * x + torch.zeros(3))
        assert torch.get_default_dtype() == torch.float64
    finally:
        torch.set_default_dtype(torch.float32)


def test_what_a_judge_says_from_inside_a_lent_function_arrives(double: Exercise) -> None:
    def lent(x: Any) -> None:
        fail_if(True, "You ask this model twice.")

    double.judge(lambda f: f(lent))
    assert message(double, lambda model: model(1)) == "You ask this model twice."


def test_arguments_are_copies(double: Exercise) -> None:
    given = []
    judge(double, lambda x: given.append(x) or 2 * x)  # type: ignore[func-returns-value]
    assert given


def test_feedback_shows_itself() -> None:
    feedback = Feedback("a.b", False, "x < y")
    assert repr(feedback) == "✗ a.b: x < y"
    bundle = feedback._repr_mimebundle_()
    assert "x &lt; y" in bundle["text/html"] and bundle["text/plain"] == repr(feedback)


def test_check_counts_tries_but_not_stubs_and_keeps_the_first_success(
    double: Exercise, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("TINYPHI_PROGRESS", str(tmp_path / "folder" / "progress.json"))
    monkeypatch.setattr("tinyphi.course.exercise._import_all", lambda: None)
    for answer in (double.stub_function, lambda x: x + 0, lambda x: 2 * x, lambda x: x + 0):
        tinyphi.course.check("test.double", answer)
    record = progress.read()["test.double"]
    assert record.tries == 3 and record.passed == record.last != ""
    assert sorted(path.name for path in (tmp_path / "folder").iterdir()) == [
        "progress.json",
        "progress.json.lock",
    ]


def test_a_broken_progress_file_is_told_and_kept(
    double: Exercise, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "progress.json"
    file.write_text("{not json")
    monkeypatch.setenv("TINYPHI_PROGRESS", str(file))
    with pytest.raises(TinyphiError, match="cannot be read"):
        progress.read()
    assert tinyphi.course.check("test.double", lambda x: 2 * x)
    assert "could not be saved" in capsys.readouterr().err
    assert file.read_text() == "{not json"


def test_progress_survives_many_at_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TINYPHI_PROGRESS", str(tmp_path / "progress.json"))
    threads = [threading.Thread(target=progress.note, args=(f"a.{i % 4}", True)) for i in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (
        sum(record["tries"] for record in json.loads((tmp_path / "progress.json").read_text()).values()) == 16
    )


def test_an_unknown_exercise_names_similar_ones(double: Exercise) -> None:
    with pytest.raises(InputError, match=r"test\.double"):
        tinyphi.course.check("test.duoble", lambda x: x)


def test_a_module_that_failed_half_way_may_be_imported_again(
    own_exercises: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("tinyphi.course.exercises.__path__", [str(tmp_path)])
    exercises._import_all.cache_clear()
    text = (
        "from tinyphi.course.exercise import Exercise\n"
        "Exercise('half.way', notebook='00', title='A', difficulty=1, minutes=1, task='', hints=[])\n"
    )
    (tmp_path / "half_way.py").write_text(text + "1 / 0\n")
    with pytest.raises(ZeroDivisionError):
        exercises.load("half.way")
    (tmp_path / "half_way.py").write_text(text)
    assert exercises.load("half.way").title == "A"
    monkeypatch.delitem(sys.modules, "tinyphi.course.exercises.half_way")


def test_near() -> None:
    ones = torch.ones(3)
    assert near(ones, ones + 1e-7) and not near(ones, ones + 1e-3) and not near(ones, torch.ones(4))
    infinite = torch.tensor([1.0, -math.inf])
    assert near(infinite, infinite) and not near(torch.tensor([1.0, 0.0]), infinite)
    nan = torch.tensor([1.0, math.nan])
    assert not near(nan, ones[:2]) and not near(torch.tensor([1.0, 0.0]), nan) and near(nan, nan)


def test_number_of() -> None:
    assert number_of(torch.tensor([3.0])) == 3.0 and number_of(2) == 2.0
    for value in (None, "3", True, torch.ones(2)):
        with pytest.raises(Misconception):
            number_of(value)
