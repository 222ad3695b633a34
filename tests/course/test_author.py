"""Authors' tools: exercises come into a notebook as they are, and a run stores what nbval compares."""

from pathlib import Path
from typing import Any

import nbformat
import pytest

from tinyphi.course import author
from tinyphi.course.exercise import Exercise

VIEW = """import torch
from tinyphi.show import weight_map
weight_map(torch.arange(12.0).reshape(3, 4))"""


@pytest.fixture(autouse=True)
def double(own_exercises: None) -> Exercise:
    made = Exercise(
        "test.double", notebook="00", title="Twice", difficulty=2, minutes=7,
        task="Write `double(x)`.", hints=["Think.", "Think again."],
    )  # fmt: skip

    @made.stub
    def double(x):  # type: ignore[no-untyped-def]
        """Twice x."""
        ...  # noqa: PIE790

    return made


def written(path: Path, *cells: Any) -> Path:
    notebook = nbformat.v4.new_notebook(cells=list(cells))
    nbformat.write(notebook, path)
    return path


def test_a_place_becomes_two_cells_and_stays_in_step(tmp_path: Path, double: Exercise) -> None:
    path = written(tmp_path / "a.ipynb", nbformat.v4.new_markdown_cell("{{exercise test.double}}"))
    author.main(["sync", str(path)])
    task, code = nbformat.read(path, as_version=4).cells
    assert task.source.startswith("### Twice\n★★☆ · 7 minutes\n\nWrite `double(x)`.")
    assert task.source.count("<details>") == 2 and task.metadata.tinyphi.exercise == "test.double"
    assert code.source.endswith('\n\n\ntinyphi.course.check("test.double", double)')
    double.task = "Write `double(x)`, please."
    author.main(["sync", str(path)])
    assert "please" in nbformat.read(path, as_version=4).cells[0].source
    before = path.read_text()
    author.main(["sync", str(path)])
    assert path.read_text() == before


def test_a_run_stores_outputs_without_widgets(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = written(tmp_path / "a.ipynb", nbformat.v4.new_code_cell(VIEW))
    assert author.main(["run", str(path)]) == 1  # for the audit has found problems
    notebook = nbformat.read(path, as_version=4)
    (output,) = notebook.cells[0].outputs
    assert set(output.data) == {"text/plain", "image/png"}
    assert notebook.cells[0].execution_count == 1
    assert notebook.metadata.tinyphi.seconds > 0 and notebook.metadata.tinyphi.memory_mb > 50
    assert "does not begin with a title" in capsys.readouterr().out  # the audit speaks up


def test_a_failing_cell_leaves_the_file_as_it_was(tmp_path: Path) -> None:
    path = written(tmp_path / "a.ipynb", nbformat.v4.new_code_cell("1 / 0"))
    before = path.read_text()
    with pytest.raises(author.InputError, match="ZeroDivisionError"):
        author.main(["run", str(path)])
    assert path.read_text() == before
