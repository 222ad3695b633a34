"""What a model answered, kept on disk: a run that was interrupted goes on, and one that is repeated is quick.

An answer is found again only if everything is the same that could change it: the tokens of the question, what
was asked, and the model itself, weights and code. The file is an SQLite database, so an answer is in it whole
or not at all, and two runs may use it at once.
"""

import hashlib
import json
import sqlite3
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from tinyphi.errors import InputError
from tinyphi.model.fingerprint import fingerprint
from tinyphi.model.transformer import Phi3


class AnswerStore:
    """Answers of one model. path: the file, made if need be; None keeps them in memory.

    Raises InputError for a file that is not such a database.
    """

    def __init__(self, path: Path | None, model: Phi3) -> None:
        self._model = fingerprint(model)
        try:
            if path is not None:
                path.parent.mkdir(parents=True, exist_ok=True)
            self._file = sqlite3.connect(":memory:" if path is None else path, timeout=60)
            with self._file:
                self._file.execute(
                    "CREATE TABLE IF NOT EXISTS answers (question TEXT PRIMARY KEY, answer TEXT)"
                )
        except (OSError, sqlite3.Error) as error:
            raise InputError(
                f"The answers cannot be kept in {path} ({error}). Name another file, or delete this one."
            ) from error

    def key(self, *question: Any) -> str:
        """A name for a question to this model: anything that JSON can write."""
        return hashlib.sha256(json.dumps((self._model, *question)).encode()).hexdigest()

    def known(self, keys: Sequence[str]) -> dict[str, Any]:
        """Those that were answered, by key."""
        found = {}
        for key in keys:
            row = self._file.execute("SELECT answer FROM answers WHERE question = ?", (key,)).fetchone()
            if row is not None:
                found[key] = json.loads(row[0])
        return found

    def keep(self, answers: Iterable[tuple[str, Any]]) -> None:
        """Write some answers, all or none."""
        rows = [(key, json.dumps(answer)) for key, answer in answers]
        with self._file:
            self._file.executemany("INSERT OR REPLACE INTO answers VALUES (?, ?)", rows)
