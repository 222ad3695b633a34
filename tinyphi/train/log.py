"""The log of a training run: one row a step, in memory, as JSON lines and as CSV."""

import csv
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TypeAlias

from tinyphi.files import write_text

LogRow: TypeAlias = dict[str, float | int | str]


class Log:
    """Rows with at least a "step". With a folder, log.jsonl and log.csv there always hold the same rows.

    Numbers in log.jsonl are exact; log.csv is for a spreadsheet. A number that not every step has, such as a
    loss on held-out texts, is a column with empty cells.
    """

    def __init__(self, folder: Path | None) -> None:
        self.rows: list[LogRow] = []
        self.folder = folder
        self._columns: list[str] = []

    def append(self, row: LogRow) -> None:
        """Add a row, and hand it to the operating system before returning."""
        self.rows.append(row)
        if self.folder is None:
            return
        with (self.folder / "log.jsonl").open("a", encoding="utf-8") as file:
            file.write(_line(row))
        if row.keys() <= set(self._columns):
            with (self.folder / "log.csv").open("a", encoding="utf-8", newline="") as file:
                csv.DictWriter(file, self._columns).writerow(row)
        else:  # a new column: the earlier rows get an empty cell
            self._write_csv()

    def go_back(self, step: int) -> None:
        """Forget what comes after a step: read the rows up to it from the folder, and cut the files there.

        Rows after it were written after the last checkpoint, and the last one perhaps only in part.
        """
        if self.folder is not None:
            self.rows = _read(self.folder / "log.jsonl")
        self.rows = [row for row in self.rows if int(row["step"]) <= step]
        if self.folder is not None:
            write_text(self.folder / "log.jsonl", "".join(map(_line, self.rows)))
            self._write_csv()

    def _write_csv(self) -> None:
        assert self.folder is not None
        self._columns = list(dict.fromkeys(name for row in self.rows for name in row))
        beside = self.folder / "log.csv.partial"
        with beside.open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, self._columns)
            writer.writeheader()
            writer.writerows(self.rows)
        os.replace(beside, self.folder / "log.csv")


def _line(row: Mapping[str, object]) -> str:
    return json.dumps(row, ensure_ascii=False) + "\n"


def _read(path: Path) -> list[LogRow]:
    """The rows of a file of JSON lines, up to one that was cut off."""
    rows: list[LogRow] = []
    if path.is_file():
        for line in path.read_bytes().splitlines():  # bytes: a cut may fall within a character
            try:
                rows.append(json.loads(line))
            except ValueError:
                break
    return rows
