"""What an exercise is: a task, a stub, a solution, a judge, and the wrong answers that the judge must know.

    ex = Exercise("attention.causal_mask", notebook="04_attention_one_head", title="Hide the future", …)

    @ex.stub          what the learner begins with
    @ex.solution      a right answer
    @ex.judge         calls the learner's function and explains what is wrong
    @ex.wrong(…)      a named wrong answer, and a part of what the judge must say to it (at least three)

`tests/course/test_exercises.py` holds every exercise to that.
"""

import ast
import difflib
import inspect
import pkgutil
import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from typing import Any, NoReturn

import torch
from torch import Tensor

from tinyphi.errors import InputError

Function = Callable[..., Any]


class Misconception(Exception):
    """What a judge found wrong with an answer, in words for the learner."""


@dataclass(frozen=True)
class Wrong:
    """A wrong answer, and a part of the message that it must get."""

    function: Function
    says: str

    @property
    def source(self) -> str:
        return _source(self.function)


class Exercise:
    """One exercise of a notebook. `difficulty` is 1 to 3; `hints` lead step by step; `task` is Markdown."""

    def __init__(
        self,
        name: str,
        *,
        notebook: str,
        title: str,
        difficulty: int,
        minutes: int,
        task: str,
        hints: Sequence[str],
    ) -> None:
        self.name = name
        self.notebook = notebook
        self.title = title
        self.difficulty = difficulty
        self.minutes = minutes
        self.task = textwrap.dedent(task).strip()
        self.hints = tuple(textwrap.dedent(hint).strip() for hint in hints)
        self.wrong_answers: dict[str, Wrong] = {}
        self._stub: Function | None = None
        self._solution: Function | None = None
        self._judge: Callable[[Function], None] | None = None
        if name in _KNOWN:
            raise ValueError(f"two exercises are named {name}")
        _KNOWN[name] = self

    def stub(self, function: Function) -> Function:
        self._stub = function
        return function

    def solution(self, function: Function) -> Function:
        self._solution = function
        return function

    def judge(self, function: Callable[[Function], None]) -> Callable[[Function], None]:
        self._judge = function
        return function

    def wrong(self, name: str, says: str) -> Callable[[Function], Function]:
        def enter(function: Function) -> Function:
            self.wrong_answers[name] = Wrong(function, says)
            return function

        return enter

    @property
    def stub_function(self) -> Function:
        return self._whole(self._stub, "stub")

    @property
    def solution_function(self) -> Function:
        return self._whole(self._solution, "solution")

    @property
    def judge_function(self) -> Callable[[Function], None]:
        return self._whole(self._judge, "judge")

    @property
    def stars(self) -> str:
        """The difficulty as it is shown: ★★☆."""
        return "★" * self.difficulty + "☆" * (3 - self.difficulty)

    @property
    def stub_source(self) -> str:
        """The stub's code, as it stands in the notebook."""
        return _source(self.stub_function)

    @property
    def solution_source(self) -> str:
        return _source(self.solution_function)

    def _whole(self, function: Function | None, part: str) -> Function:
        if function is None:
            raise ValueError(f"the exercise {self.name} has no {part}")
        return function


_KNOWN: dict[str, Exercise] = {}


def _source(function: Function) -> str:
    """A function's code without its decorators."""
    text = textwrap.dedent(inspect.getsource(function))
    node = ast.parse(text).body[0]
    assert isinstance(node, (ast.FunctionDef, ast.ClassDef))
    return "\n".join(text.splitlines()[node.lineno - 1 :]) + "\n"


@cache
def _import_all() -> None:
    package = import_module("tinyphi.course.exercises")
    for module in pkgutil.iter_modules(package.__path__):
        before = set(_KNOWN)
        try:
            import_module(f"tinyphi.course.exercises.{module.name}")
        except BaseException:
            for name in set(_KNOWN) - before:  # the next try runs the module again, so its names must be free
                del _KNOWN[name]
            raise


def all_exercises() -> list[Exercise]:
    """Every exercise, in the order of the notebooks, then as they stand in their file."""
    _import_all()
    return sorted(_KNOWN.values(), key=lambda exercise: exercise.notebook)


def load(name: str) -> Exercise:
    """The exercise of that name. Raises InputError with similar names for an unknown one."""
    _import_all()
    if name not in _KNOWN:
        similar = difflib.get_close_matches(str(name), _KNOWN, n=3, cutoff=0.4)
        hint = (
            f"Did you mean {', '.join(similar)}?" if similar else "`tinyphi course list` shows all of them."
        )
        raise InputError(f"There is no exercise {name!r}. {hint}")
    return _KNOWN[name]


def misconception(message: str) -> NoReturn:
    """End the judging: this is what is wrong."""
    raise Misconception(textwrap.dedent(message).strip())


def fail_if(condition: object, message: str) -> None:
    """`misconception(message)` if the condition holds."""
    if condition:
        misconception(message)


def tensor_of(
    value: Any, *, shape: Sequence[int] | None = None, dtype: torch.dtype | None = None, name: str = "result"
) -> Tensor:
    """`value` if it is a tensor of that shape and dtype; otherwise say what it is instead."""
    _refuse_none(value, name)
    if not isinstance(value, Tensor):
        misconception(f"The {name} should be a tensor; yours is of type {type(value).__name__}.")
    if shape is not None and tuple(value.shape) != tuple(shape):
        misconception(
            f"The {name} should have the shape {tuple(shape)}; yours has {tuple(value.shape)}. "
            + _about_shapes(tuple(value.shape), tuple(shape))
        )
    if dtype is not None and value.dtype != dtype:
        kinds = [str(kind).removeprefix("torch.") for kind in (dtype, value.dtype)]
        misconception(f"The {name} should be {kinds[0]}; yours is {kinds[1]}.")
    return value


def _about_shapes(mine: tuple[int, ...], wanted: tuple[int, ...]) -> str:
    if sorted(mine) == sorted(wanted):
        return "The axes are the right ones in another order."
    if len(mine) != len(wanted):
        return f"It has {len(mine)} {'axis' if len(mine) == 1 else 'axes'} instead of {len(wanted)}."
    differing = [axis for axis, (a, b) in enumerate(zip(mine, wanted, strict=True)) if a != b]
    return f"They differ along axis {', '.join(map(str, differing))}."


def number_of(value: Any, *, name: str = "result") -> float:
    """`value` as a float if it is a number or a tensor of one number; otherwise say what it is instead."""
    _refuse_none(value, name)
    if isinstance(value, Tensor) and value.numel() == 1:
        return float(value)
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        misconception(f"The {name} should be a number; yours is of type {type(value).__name__}.")
    return float(value)


def _refuse_none(value: Any, name: str) -> None:
    if value is None:
        misconception(f"There is no {name}: it is None. Does every path through your function `return` one?")


def near(got: Tensor | float, wanted: Tensor | float, tolerance: float = 1e-5) -> bool:
    """Whether all numbers are equal up to `tolerance` of the largest; infinities and NaN must agree."""
    got, wanted = torch.as_tensor(got).double(), torch.as_tensor(wanted).double()
    if got.shape != wanted.shape:
        return False
    finite = wanted.isfinite()
    if not identical(got[~finite], wanted[~finite]):
        return False
    if not finite.any():
        return True
    scale = wanted[finite].abs().max().clamp(min=1e-12)
    return bool((got[finite] - wanted[finite]).abs().max() <= tolerance * scale)


def identical(a: Tensor, b: Tensor) -> bool:
    """Whether two tensors have the same shape and numbers, of which a NaN is one."""
    return a.shape == b.shape and torch.allclose(a.detach(), b.detach(), rtol=0, atol=0, equal_nan=True)
