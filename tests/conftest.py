"""What all tests share: a progress file of their own, a place for views, and each notebook's seconds."""

import os
import tempfile
from collections import defaultdict
from pathlib import Path, PurePosixPath

import pytest

GOAL = (
    60  # seconds for a notebook on two cores. Shared machines are slow, so only the cell timeout is enforced.
)

# For this process and for the kernels that nbval starts. What tests try is nobody's progress; the views of
# the notebooks are kept for the pages of the documentation, which are built without running anything again.
os.environ["TINYPHI_PROGRESS"] = str(Path(tempfile.mkdtemp(prefix="tinyphi-")) / "progress.json")
os.environ["TINYPHI_KEEP_VIEWS"] = str(Path(__file__).parents[1] / "docs" / "_build" / "views")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    seconds: dict[str, float] = defaultdict(float)
    for reports in terminalreporter.stats.values():
        for report in reports:
            if isinstance(report, pytest.TestReport) and report.fspath.endswith(".ipynb"):
                seconds[PurePosixPath(report.fspath).name] += report.duration
    if seconds:
        terminalreporter.section("seconds per notebook")
    for name, spent in sorted(seconds.items()):
        note = f"  longer than the goal of {GOAL} s on two free cores" if spent > GOAL else ""
        terminalreporter.write_line(f"{spent:7.1f}  {name}{note}")
