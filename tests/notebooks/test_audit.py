"""Every committed notebook passes the audit, and so does what nbval is told to overlook."""

from pathlib import Path

import pytest

from tinyphi.course.audit import audit, audit_sanitize, with_table

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("path", sorted((ROOT / "notebooks").glob("**/*.ipynb")), ids=lambda path: path.stem)
def test_notebook(path: Path) -> None:
    if ".ipynb_checkpoints" in path.parts:
        pytest.skip("a copy that JupyterLab made while editing")
    assert audit(path) == []


def test_the_readme_says_how_much_of_each_notebook_is_compared() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    made = with_table(readme, ROOT / "notebooks")
    assert made == readme, "run: python -m tinyphi.course.audit --write README.md"


def test_sanitize_rules() -> None:
    assert audit_sanitize(Path(__file__).with_name("sanitize.cfg")) == []


def test_plain_pytest_runs_every_notebook_strictly(pytestconfig: pytest.Config) -> None:
    assert "notebooks" in pytestconfig.getini("testpaths")
    assert {"--nbval", "--nbval-current-env"} <= set(pytestconfig.getini("addopts"))
    assert not pytestconfig.getoption("nbval_lax")
