"""One in the last digit is the same result; anything else is not. Also inside nbval itself."""

import subprocess
import sys
from pathlib import Path

import nbformat
import pytest

from tinyphi.course.last_digit import settled

SAME = [
    ("0.538", "0.537"),
    ("-0.00", "0.00"),
    ("loss 3.15, 24 %", "loss 3.14, 25 %"),
    ("2.001e-05 | 37%", "2.002e-05 | 36%"),
    ("1,234.5 of 12", "1,234.4 of 12"),
    ("<b>9.99</b>", "<b>9.98</b>"),
    ("9.99", "10.00"),
]
DIFFERENT = [
    ("0.539", "0.537"),
    ("0.5380", "0.537"),
    ("id 504", "id 503"),
    ("(1, 5)", "(1, 6)"),
    ("0.537 Paris", "0.537 London"),
    ("0.537 0.1", "0.537"),
    ("version 2.13.1", "version 2.13.0"),
    ("1e-5", "1e-6"),
    ("x2.5", "x2.4"),
    ("nan", "0.5"),
]


@pytest.mark.parametrize(("new", "stored"), SAME)
def test_one_last_digit_is_the_same(new: str, stored: str) -> None:
    assert settled(new, stored) == stored and settled(stored, new) == new


@pytest.mark.parametrize(("new", "stored"), DIFFERENT)
def test_anything_else_stays_different(new: str, stored: str) -> None:
    assert settled(new, stored) != stored


@pytest.mark.parametrize(
    ("printed", "outcome"),
    [("0.538 Paris 7042", 0), ("0.539 Paris 7042", 1), ("0.538 London 7042", 1), ("0.538 Paris 7043", 1)],
)
def test_nbval_sees_what_is_wrong(tmp_path: Path, printed: str, outcome: int) -> None:
    cell = nbformat.v4.new_code_cell(f"print({printed!r})", execution_count=1)
    cell.outputs = [nbformat.v4.new_output("stream", name="stdout", text="0.537 Paris 7042\n")]
    nbformat.write(nbformat.v4.new_notebook(cells=[cell]), tmp_path / "a.ipynb")
    command = [
        sys.executable,
        "-m",
        "pytest",
        "--nbval",
        "--nbval-current-env",
        "-q",
        "-p",
        "no:cacheprovider",
    ]
    command += ["-p", "tinyphi.course.last_digit", "-c", "/dev/null", f"--rootdir={tmp_path}", "a.ipynb"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == outcome, done.stdout + done.stderr
