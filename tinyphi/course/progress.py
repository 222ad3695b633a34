"""What a learner has done so far, in one small file on their own machine."""

import json
import os
from dataclasses import asdict, dataclass
from datetime import date
from pathlib import Path

from filelock import FileLock
from platformdirs import user_data_path

from tinyphi.errors import TinyphiError


@dataclass
class Record:
    """One exercise: how often it was tried, and the days of the last try and of the first success."""

    tries: int = 0
    last: str = ""
    passed: str = ""


def file() -> Path:
    """Where progress is kept: the data folder of the system, or the file that TINYPHI_PROGRESS names."""
    named = os.environ.get("TINYPHI_PROGRESS")
    return Path(named) if named else user_data_path("tinyphi", appauthor=False) / "progress.json"


def read() -> dict[str, Record]:
    """All records by the exercise's name.

    Raises TinyphiError for a file that cannot be read, and leaves it as it is.
    """
    path = file()
    if not path.exists():
        return {}
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        return {name: Record(**record) for name, record in found.items()}
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise TinyphiError(
            f"The record of your progress, {path}, cannot be read ({error}). Move it away to begin a new one."
        ) from error


def note(name: str, passed: bool) -> None:
    """Count one try at an exercise. Written to a temporary name first, so that nothing is lost half-way.

    Raises OSError where it cannot be written, or where another process holds the file for ten seconds.
    """
    path, today = file(), date.today().isoformat()
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{path}.lock", timeout=10):
        records = read()
        record = records.setdefault(name, Record())
        record.tries += 1
        record.last = today
        record.passed = record.passed or (today if passed else "")
        temporary = path.with_suffix(".tmp")
        text = json.dumps({key: asdict(value) for key, value in records.items()}, indent=1)
        temporary.write_text(text, encoding="utf-8")
        temporary.replace(path)
