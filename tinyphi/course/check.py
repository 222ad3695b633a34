"""`check`: judge a learner's function, and say what is wrong with it rather than that it is wrong.

The function runs in a thread of its own with a time limit, on copies of the tensors it is given. Whatever it
does (endless loops, exceptions, calls of `exit`), the notebook goes on and the learner is told.
"""

import copy
import ctypes
import html
import inspect
import sys
import threading
import traceback
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from tinyphi.course import progress
from tinyphi.course.exercise import Exercise, Misconception, identical, load
from tinyphi.errors import TinyphiError

LIMIT = 10.0  # seconds


@dataclass(frozen=True)
class Feedback:
    """What came of a check: shown as one paragraph, in a notebook with a coloured edge."""

    exercise: str
    passed: bool
    message: str

    def __repr__(self) -> str:
        return f"{'✓' if self.passed else '✗'} {self.exercise}: {self.message}"

    def __bool__(self) -> bool:
        return self.passed

    def _repr_mimebundle_(
        self, include: Collection[str] | None = None, exclude: Collection[str] | None = None
    ) -> dict[str, str]:
        edge, sign = ("#009E73", "✓ passed") if self.passed else ("#D55E00", "✗ not yet")
        return {
            "text/plain": repr(self),
            "text/html": (
                f'<div style="background:#fff;color:#222;border-left:4px solid {edge};padding:6px 10px">'
                f"<b>{sign}</b> · {html.escape(self.exercise)}"
                f'<div style="white-space:pre-wrap">{html.escape(self.message)}</div></div>'
            ),
        }


def check(name: str, answer: Callable[..., Any]) -> Feedback:
    """Judge `answer`, your function for the exercise `name`, and note the result in your progress.

    Returns a `Feedback`, which shows itself and is true when passed. A stub that nobody touched is no try
    and is not noted. Raises InputError for an unknown exercise; what the function does is never raised.
    """
    exercise = load(name)
    feedback = judge(exercise, answer)
    if _is_stub(exercise, answer):
        return feedback
    try:
        progress.note(name, feedback.passed)
    except (TinyphiError, OSError) as error:
        print(f"Your progress could not be saved: {error}", file=sys.stderr)
    return feedback


def solution(name: str) -> None:
    """Print the solution of an exercise. Better try all the hints first."""
    print(load(name).solution_source, end="")


def judge(exercise: Exercise, answer: Callable[..., Any], limit: float = LIMIT) -> Feedback:
    """What `check` says, without noting it."""
    if not callable(answer):
        return Feedback(
            exercise.name,
            False,
            f"This is of type {type(answer).__name__}. Pass the function itself, without parentheses.",
        )
    if _is_stub(exercise, answer):
        return Feedback(exercise.name, False, "nothing written yet. Put your code where the … stand.")
    message = _Run(exercise, answer).message(limit)
    return Feedback(
        exercise.name, message is None, f"{exercise.title}: right." if message is None else message
    )


def _is_stub(exercise: Exercise, answer: Callable[..., Any]) -> bool:
    """Whether the answer is still the stub, word for word."""
    mine, stub = (getattr(f, "__code__", None) for f in (answer, exercise.stub_function))
    return (
        mine is not None
        and stub is not None
        and mine.co_code == stub.co_code
        and mine.co_consts == stub.co_consts
        and mine.co_names == stub.co_names  # `x.sum()` and `x.mean()` differ only there
    )


class _AnswerError(Exception):
    """The learner's function raised; carries what to show of it."""


class _Stop(BaseException):
    """Thrown into the thread when its time is over. No `except Exception` catches it."""


class _Run:
    """One judging, in a thread of its own."""

    def __init__(self, exercise: Exercise, answer: Callable[..., Any]) -> None:
        self._exercise, self._answer = exercise, answer
        self._message: str | None = None

    def message(self, limit: float) -> str | None:
        """What is wrong, or None."""
        thread = threading.Thread(target=self._judge, daemon=True)
        with _numbers_of_the_judge():
            thread.start()
            try:
                thread.join(limit)
            finally:  # also when the learner interrupts the kernel
                stuck = thread.is_alive()
                for _ in range(20):
                    if not thread.is_alive():
                        break
                    _throw(thread, _Stop)
                    thread.join(0.1)
        if stuck:
            end = "and it cannot be stopped: restart the kernel" if thread.is_alive() else "so it was stopped"
            return (
                f"Still running after {limit:g} seconds, {end}. Is there a loop that never ends, "
                "or a loop over numbers where one operation on whole tensors would do?"
            )
        return self._message

    def _judge(self) -> None:
        try:
            self._exercise.judge_function(self._call)
        except (Misconception, _AnswerError) as found:
            self._message = str(found)
        except _Stop:
            pass
        except BaseException as error:  # the judge stumbled over an answer it did not expect
            self._message = (
                f"The check does not know what to make of this answer ({type(error).__name__}: {error}). "
                "Compare what it returns with what the task asks for: type, shape, dtype."
            )

    def _call(self, *given: Any, **named: Any) -> Any:
        """The learner's function on copies of its arguments; says so if it changes them."""
        mine, mine_named = _copied(given), _copied(named)
        try:
            result = self._answer(*mine, **mine_named)
        except (_Stop, Misconception):  # a judge may speak up from inside, in a model that it lends
            raise
        except BaseException as error:
            raise _AnswerError(_explained(error, self._answer)) from None
        for before, after in zip(_tensors((given, named)), _tensors((mine, mine_named)), strict=False):
            if not identical(before, after):
                raise Misconception(
                    "Your function changes a tensor that it was given. Operations that end in _ and "
                    "assignments to x[…] write into the caller's tensor; work on a new one."
                )
        return result


@contextmanager
def _numbers_of_the_judge() -> Iterator[None]:
    """The seed and the default dtype that every judge counts on. Those of the notebook come back."""
    state, dtype = torch.get_rng_state(), torch.get_default_dtype()
    torch.default_generator.manual_seed(0)  # the CPU's alone: torch.manual_seed would reset a GPU's for good
    torch.set_default_dtype(torch.float32)
    try:
        yield
    finally:
        torch.set_rng_state(state)
        torch.set_default_dtype(dtype)


def _copied(given: Any) -> Any:
    """Tensors are cloned, containers copied; models and functions stay what they are."""
    if isinstance(given, Tensor):
        return given.detach().clone().requires_grad_(given.requires_grad)
    if type(given) in (list, tuple):
        return type(given)(map(_copied, given))
    if type(given) is dict:
        return {key: _copied(value) for key, value in given.items()}
    return copy.copy(given) if type(given) is set else given


def _tensors(given: Any) -> list[Tensor]:
    if isinstance(given, Tensor):
        return [given]
    if type(given) is dict:
        given = list(given.values())
    return [tensor for part in given for tensor in _tensors(part)] if type(given) in (list, tuple) else []


def _explained(error: BaseException, answer: Callable[..., Any]) -> str:
    """The exception with the learner's own line, rather than a traceback through two libraries."""
    home = _home(answer)
    frames = traceback.extract_tb(error.__traceback__)
    mine = [frame for frame in frames if frame.filename == home and frame.line]
    where = f" in line {mine[-1].lineno} of your cell:\n    {mine[-1].line}\n" if mine else ""
    kind = type(error).__name__
    if isinstance(error, SystemExit):
        return f"Your function calls exit{where or ' '}and would end the notebook; `return` a value instead."
    if isinstance(error, RecursionError):
        return f"Your function calls itself without end{where}".rstrip()
    if isinstance(error, TypeError) and len(frames) == 1:
        return f"It cannot be called as the task says: {error}"
    return f"{kind}{where or ': '}{kind + ': ' if where else ''}{error}"


def _home(answer: Callable[..., Any]) -> str | None:
    """The cell in which the answer is written: below its decorators, and of a class that of its methods."""
    answer = inspect.unwrap(answer)
    parts = vars(answer).values() if isinstance(answer, type) else [answer]
    return next((part.__code__.co_filename for part in parts if hasattr(part, "__code__")), None)


def _throw(thread: threading.Thread, error: type[BaseException]) -> None:
    """Raise an exception in another thread, as soon as it runs Python again."""
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread.ident or 0), ctypes.py_object(error))
