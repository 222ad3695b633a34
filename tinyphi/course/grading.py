"""Notebooks as assignments of nbgrader (https://nbgrader.readthedocs.io), the usual grader in Jupyter.

Each notebook becomes one assignment. An exercise becomes a cell for the answer, in which nbgrader finds the
solution that it takes out, and a locked cell that judges it; the points are the difficulty.
"""

import contextlib
import io
from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

from tinyphi.course.author import exercise_of, sync
from tinyphi.course.check import judge
from tinyphi.course.editions import forget_output, without_solutions
from tinyphi.course.exercise import Exercise, load
from tinyphi.errors import InputError

CONFIG = """\
# A course of nbgrader, made by `tinyphi course build --nbgrader`. Run nbgrader in this folder.
c = get_config()
c.CourseDirectory.course_id = "tinyphi"
c.ClearSolutions.code_stub = {"python": ""}  # the stub stands above the solution already
c.Execute.timeout = 240  # seconds for one cell: the first one of a notebook loads a model
"""


def require(name: str, answer: Callable[..., Any]) -> None:
    """Raise AssertionError with what is wrong if `answer` does not solve the exercise `name`.

    For grading: notes no progress, and keeps what the answer writes to stderr, a harmless warning perhaps, to
    itself, because nbgrader gives no points to a cell that writes there.
    """
    with contextlib.redirect_stderr(io.StringIO()):
        feedback = judge(load(name), answer)
    assert feedback.passed, feedback.message


def assignment(notebook: Any) -> bool:
    """Turn the notebook into an assignment; False if there is nothing to grade in it."""
    if find_spec("nbgrader") is None:
        raise InputError(
            'nbgrader is not installed: pip install "tinyphi[teach]" brings it, for Python 3.11 or newer.'
        )
    from nbgrader.nbgraderformat import MetadataValidator

    sync(notebook)
    cells: list[Any] = []
    for cell in notebook.cells:
        name = exercise_of(cell)
        if cell.cell_type == "code" and name is not None:
            cells += _graded(load(name))
        elif cell.cell_type == "code":
            forget_output(cell)
            cells.append(cell)
        else:
            cell.source = without_solutions(cell.source)
            cells.append(cell)
    notebook.cells = cells
    MetadataValidator().validate_nb(notebook)
    return any("nbgrader" in cell.metadata for cell in cells)


def _graded(exercise: Exercise) -> list[Any]:
    """The cell for the answer, and the one that judges it."""
    from nbformat.v4 import new_code_cell

    identity = exercise.name.replace(".", "-")
    answer = f"{exercise.stub_source}\n### BEGIN SOLUTION\n{exercise.solution_source}### END SOLUTION"
    test = (
        f"# {exercise.title}: {exercise.difficulty} of 3 stars, as many points\n"
        "from tinyphi.course.grading import require\n\n"
        f'require("{exercise.name}", {exercise.stub_function.__name__})'
    )
    return [
        new_code_cell(answer, metadata=_role(identity, graded=False)),
        new_code_cell(test, metadata=_role(f"{identity}-test", graded=True, points=exercise.difficulty)),
    ]


def _role(identity: str, graded: bool, **points: int) -> dict[str, Any]:
    """What nbgrader reads in a cell's metadata: an answer, which is open, or a test, which is locked."""
    facts = {"schema_version": 3, "task": False, "grade_id": identity}
    return {"nbgrader": {**facts, "solution": not graded, "grade": graded, "locked": graded, **points}}
