"""Says after a test run how long each notebook took."""

from collections import defaultdict
from pathlib import PurePosixPath

import pytest

GOAL = (
    60  # seconds for a notebook on two cores. Shared machines are slow, so only the cell timeout is enforced.
)


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
