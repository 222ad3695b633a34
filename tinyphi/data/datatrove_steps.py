"""The same filter as steps for `datatrove`, whose executors run on many machines (pip install datatrove).

`pipeline.run` is for one machine. Here each task reads some of the files, and three stages follow each other,
since duplicates can only be found when all documents have been judged:

    1  Read → Judged      documents that pass, with their digest and signature, as one file a task
    2  Duplicates         one task reads the digests and signatures, and notes which documents to drop
    3  Unique → Write     each task reads its documents again and writes those that stay

Which of two equal documents is the first depends on the order of the files, not on the number of tasks; so
the documents kept are those of `pipeline.run`. The steps are made for datatrove's `LocalPipelineExecutor` and
take the place of its readers and filters in any of its executors.
"""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tinyphi.data.pipeline import REASONS, RECORD, Judge, Settings, batches, duplicates
from tinyphi.data.reading import documents, text_files
from tinyphi.errors import InputError

try:
    from datatrove.data import Document
    from datatrove.pipeline.base import PipelineStep
except ImportError as error:
    raise InputError("datatrove is not installed: pip install datatrove brings it.") from error


class Read(PipelineStep):  # type: ignore[misc]
    """Documents of files; of n tasks, each reads every n-th file. metadata: file (its number) and start."""

    name, type = "tinyphi files", "📖 - READER"

    def __init__(self, paths: Sequence[str | Path]) -> None:
        super().__init__()
        self.files = text_files(paths)

    def run(self, data: Any = None, rank: int = 0, world_size: int = 1) -> Iterator[Document]:
        """Yield the documents of this task's files."""
        yield from data or ()
        for number in range(rank, len(self.files), world_size):
            for found in documents(self.files[number]):
                place = {"file": number, "start": found.start, "end": found.end}
                yield Document(found.text, f"{found.file}@{found.start}", metadata=place)


class Judged(PipelineStep):  # type: ignore[misc]
    """Drops what `pipeline.Judge` drops, and writes what it knows of the others to a folder.

    The statistics count documents by reason, as datatrove's own filters do.
    """

    name, type = "tinyphi rules, educational value, benchmarks", "🔻 - FILTER"

    def __init__(self, to: str | Path, settings: Settings) -> None:
        super().__init__()
        self.to, self.settings = Path(to), settings

    def run(self, data: Any = None, rank: int = 0, world_size: int = 1) -> Iterator[Document]:
        """Yield the documents that pass, and write them and their records."""
        judge = Judge(self.settings)
        self.to.mkdir(parents=True, exist_ok=True)
        with (
            (self.to / f"{rank:05}.bin").open("wb") as out,
            (self.to / f"{rank:05}.jsonl").open("w", encoding="utf-8") as texts,
        ):
            for batch in batches((0, document) for document in data):
                found: list[Any] = [document for _, document in batch]
                with self.track_time("batch"):
                    records = judge([document.text for document in found])
                for document, record in zip(found, records, strict=True):
                    reason = REASONS[record["reason"]]
                    self.stat_update("total", f"dropped_{reason}" if reason else "forwarded")
                    if not reason:
                        for name in ("file", "start", "end"):
                            record[name] = document.metadata[name]
                        document.metadata["score"] = float(record["score"])
                        out.write(record.tobytes())
                        row = {"text": document.text, "id": document.id, "metadata": document.metadata}
                        texts.write(json.dumps(row) + "\n")
                        yield document


class Duplicates(PipelineStep):  # type: ignore[misc]
    """Finds duplicates among the records of all tasks; for one task, between the other stages."""

    name, type = "tinyphi duplicates", "🫂 - DEDUP"

    def __init__(self, folder: str | Path, settings: Settings) -> None:
        super().__init__()
        self.folder, self.settings = Path(folder), settings

    def run(self, data: Any = None, rank: int = 0, world_size: int = 1) -> Iterator[Document]:
        """Write the places of the documents to drop; yields nothing."""
        yield from data or ()
        tasks = sorted(self.folder.glob("*.bin"))
        records = np.concatenate([np.zeros(0, RECORD), *(np.fromfile(task, RECORD) for task in tasks)])
        records = records[np.lexsort((records["start"], records["file"]))]
        reasons, _ = duplicates(records, self.settings)
        dropped = records[reasons > 0]
        places = np.stack([dropped["file"].astype(np.uint64), dropped["start"]], 1)
        np.save(self.folder / "dropped.npy", places)
        self.stat_update("dropped_duplicate", value=len(places))


class Unique(PipelineStep):  # type: ignore[misc]
    """The documents that a task wrote in the first stage, without the duplicates found in the second."""

    name, type = "tinyphi unique documents", "📖 - READER"

    def __init__(self, folder: str | Path) -> None:
        super().__init__()
        self.folder = Path(folder)

    def run(self, data: Any = None, rank: int = 0, world_size: int = 1) -> Iterator[Document]:
        """Yield the documents that stay."""
        yield from data or ()
        dropped = set(map(tuple, np.load(self.folder / "dropped.npy").tolist()))
        with (self.folder / f"{rank:05}.jsonl").open(encoding="utf-8") as lines:
            for line in lines:
                row = json.loads(line)
                if (row["metadata"]["file"], row["metadata"]["start"]) not in dropped:
                    self.stat_update("forwarded")
                    yield Document(row["text"], row["id"], metadata=row["metadata"])


class Write(PipelineStep):  # type: ignore[misc]
    """Writes documents as .jsonl, one file a task; passes them on."""

    name, type = "tinyphi jsonl", "💽 - WRITER"

    def __init__(self, to: str | Path) -> None:
        super().__init__()
        self.to = Path(to)

    def run(self, data: Any = None, rank: int = 0, world_size: int = 1) -> Iterator[Document]:
        """Write and yield each document."""
        self.to.mkdir(parents=True, exist_ok=True)
        with (self.to / f"{rank:05}.jsonl").open("w", encoding="utf-8") as out:
            for document in data:
                row = {"text": document.text, "id": document.id, "metadata": document.metadata}
                out.write(json.dumps(row, ensure_ascii=False) + "\n")
                yield document


def stages(
    paths: Sequence[str | Path], to: str | Path, settings: Settings | None = None
) -> list[list[PipelineStep]]:
    """The three stages, each for an executor of its own; the second one for a single task."""
    settings, work = settings or Settings(), Path(to) / "work"
    return [
        [Read(paths), Judged(work, settings)],
        [Duplicates(work, settings)],
        [Unique(work), Write(to)],
    ]
