"""nbgrader itself releases an assignment, grades a submission, and writes the points into its gradebook."""

import io
import sys

import nbformat
import pytest

pytest.importorskip("nbgrader", reason="nbgrader needs Python 3.11")

from nbgrader.apps import NbGraderAPI
from traitlets.config import PyFileConfigLoader

from tinyphi.course.build import build
from tinyphi.course.grading import require

ASSIGNMENT = "90_tiny"


@pytest.fixture
def course(tiny_course, tmp_path):
    build({"nbgrader": tmp_path / "course"}, notebooks=tiny_course)
    return tmp_path / "course"


@pytest.fixture
def grader(course, monkeypatch):
    """nbgrader with the configuration of the built course, as its command line would load it."""
    monkeypatch.chdir(course)  # where a teacher runs it
    config = PyFileConfigLoader("nbgrader_config.py", path=str(course)).load_config()
    config.CourseDirectory.root = str(course)
    config.Exchange.root = str(course / "exchange")
    return NbGraderAPI(config=config)


def cells(path):
    """The cells by their grade_id."""
    notebook = nbformat.read(path, as_version=4)
    return notebook, {
        cell.metadata.nbgrader.grade_id: cell for cell in notebook.cells if "nbgrader" in cell.metadata
    }


def test_the_source_has_solutions_and_points(course):
    _, found = cells(course / "source" / ASSIGNMENT / f"{ASSIGNMENT}.ipynb")
    assert list(found) == [
        f"tiny-{name}{end}" for name in ("double", "causal", "length") for end in ("", "-test")
    ]
    assert [cell.metadata.nbgrader.get("points") for cell in found.values()] == [None, 1, None, 2, None, 3]
    answer, test = found["tiny-causal"], found["tiny-causal-test"]
    assert "### BEGIN SOLUTION" in answer.source
    assert ".tril()" in answer.source
    assert 'require("tiny.causal", causal)' in test.source
    assert test.metadata.nbgrader.locked
    assert not any(cell.get("outputs") for cell in found.values())


def test_a_submission_gets_its_points(course, grader, tiny_exercises):
    assert grader.get_source_assignments() == {ASSIGNMENT}
    released = grader.generate_assignment(ASSIGNMENT)
    assert released["success"], released["log"]
    notebook, found = cells(course / "release" / ASSIGNMENT / f"{ASSIGNMENT}.ipynb")
    for name, exercise in (("double", tiny_exercises.first), ("causal", tiny_exercises.second)):
        assert found[f"tiny-{name}"].source.strip() == exercise.stub_source.strip()
    assert "SOLUTION" not in str(notebook)

    # One wrong answer, one that is right but noisy, one stub whose test was tampered with.
    found["tiny-double"].source = tiny_exercises.first.wrong_answers["squared"].source
    found["tiny-causal"].source = (
        "import sys, warnings\ndef causal(t):\n    warnings.warn('odd')\n    print('hm', file=sys.stderr)\n"
        "    return torch.ones(t, t).tril().bool()"
    )
    found["tiny-length-test"].source = "pass"
    submitted = course / "submitted" / "ada" / ASSIGNMENT
    submitted.mkdir(parents=True)
    nbformat.write(notebook, submitted / f"{ASSIGNMENT}.ipynb")

    graded = grader.autograde(ASSIGNMENT, "ada")
    assert graded["success"], graded["log"]
    with grader.gradebook as book:
        submission = book.find_submission(ASSIGNMENT, "ada")
        points = {grade.name: (grade.score, grade.max_score) for grade in submission.notebooks[0].grades}
        assert (submission.score, submission.max_score) == (2, 6)
    assert points == {"tiny-double-test": (0, 1), "tiny-causal-test": (2, 2), "tiny-length-test": (0, 3)}
    _, marked = cells(course / "autograded" / "ada" / ASSIGNMENT / f"{ASSIGNMENT}.ipynb")
    assert "square instead of doubling" in marked["tiny-double-test"].outputs[-1].evalue
    assert not (course.parent / "progress.json").exists()  # grading is nobody's progress


def test_require_raises_what_the_check_says(tiny_exercises, monkeypatch):
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    require("tiny.double", tiny_exercises.first.solution_function)
    with pytest.raises(AssertionError, match="square instead of doubling"):
        require("tiny.double", tiny_exercises.first.wrong_answers["squared"].function)
    with pytest.raises(AssertionError, match="without parentheses"):
        require("tiny.double", 3)
    assert sys.stderr.getvalue() == ""
