"""The filter over files of any size: rules, educational value, benchmarks, duplicates; it can be interrupted.

Two passes. The first one judges each document by itself and writes down a record of fixed size: where it
stands, which rule it broke, its score, its digest and its MinHash signature. Then duplicates are found among
the records. The second pass reads the files again and writes what is kept. Texts are never all in memory.

A record is everything that the first pass knows, so the file of records is its own checkpoint: after an
interruption it is cut to whole records, and the last one says where to go on.

    kept.jsonl             text, file, start, and score of each document that stays, in the order of reading
    contaminated.jsonl     which document shares which words with which benchmark item
    samples.jsonl          a few documents dropped for each reason, drawn by their digest
    report.json            how many documents and bytes were kept, or dropped for which reason
"""

import json
import multiprocessing
import os
import signal
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from tinyphi.data import rules
from tinyphi.data.decontaminate import Benchmarks, benchmark_items
from tinyphi.data.dedup import BANDS, ROWS, clusters, digest, signatures
from tinyphi.data.educational import EducationalFilter
from tinyphi.data.pages import Pages, Whole
from tinyphi.data.reading import Document, documents, text_files
from tinyphi.errors import InputError
from tinyphi.files import noted, write_text

OWN_REASONS = ("educational", "contaminated", "duplicate", "near_duplicate")
REASONS = ("", *(rule.name for rule in rules.RULES), *OWN_REASONS)
RECORD = np.dtype(
    [
        ("file", "<u4"),
        ("start", "<u8"),
        ("end", "<u8"),
        ("reason", "u1"),  # its place in REASONS
        ("value", "<f4"),  # that was measured for the reason
        ("score", "<f4"),
        ("digest", "<u8", 2),
        ("signature", "<u4", BANDS * ROWS),
    ]
)
Records = NDArray[np.void]

_BATCH = 150_000  # characters that are judged at once: the arrays of a batch fit a processor's cache
_SAMPLES = 20


@dataclass(frozen=True)
class Settings:
    """What is kept.

    least_score: educational value, from 0 to 1; 0 keeps all. benchmarks: .jsonl files whose items must not be
    in the data. run: words that a document may share with an item, less one. duplicates: whether they are
    dropped.
    """

    least_score: float = 0.5
    benchmarks: tuple[str, ...] = ()
    run: int = 13
    duplicates: bool = True


class Judge:
    """All that can be said of a document without looking at the others."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._educational = EducationalFilter.load()
        items = [item for path in settings.benchmarks for item in benchmark_items(path)]
        self.benchmarks = Benchmarks(items, settings.run) if items else None

    def __call__(self, texts: Sequence[str]) -> Records:
        """A record of each text, without its place."""
        pages, records = Pages(texts), np.zeros(len(texts), RECORD)
        for record, verdict in zip(records, rules.judge(pages), strict=True):
            record["reason"], record["value"] = REASONS.index(verdict.rule), verdict.value
        records["score"] = self._educational.scores(pages)
        _drop(records, records["score"] < self._settings.least_score, "educational", records["score"])
        if self.benchmarks is not None:
            runs = np.zeros(len(texts))
            for hit in self.benchmarks.hits(pages):
                runs[hit.page] += hit.runs
            _drop(records, runs > 0, "contaminated", runs)
        records["digest"] = np.frombuffer(b"".join(map(digest, texts)), "<u8").reshape(-1, 2)
        kept = np.flatnonzero(records["reason"] == 0).tolist()
        if self._settings.duplicates and kept:
            records["signature"][kept] = signatures(Pages([texts[place] for place in kept]))
        return records


def run(
    paths: Sequence[str | Path], to: str | Path, settings: Settings | None = None, workers: int = 1
) -> dict[str, Any]:
    """Filter files into a folder; the report. Run it again with the same arguments after an interruption.

    workers: processes that judge. Raises InputError if the folder holds the work of other settings or files.
    """
    settings, files, to = settings or Settings(), text_files(paths), Path(to)
    _agree(to, settings, files)
    if not (to / "report.json").exists():
        _judge_all(files, to, settings, workers)
        records: Records = np.memmap(to / "records.bin", RECORD, "r") if _size(to) else np.zeros(0, RECORD)
        reasons, values = duplicates(records, settings)
        _write(files, to, settings, records, reasons, values)
    report: dict[str, Any] = json.loads((to / "report.json").read_text(encoding="utf-8"))
    return report


def batches(found: Iterator[tuple[int, Document]]) -> Iterator[list[tuple[int, Document]]]:
    """Documents with the number of their file, some at a time."""
    batch, size = [], 0
    for entry in found:
        batch.append(entry)
        size += len(entry[1].text)
        if size >= _BATCH:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def _drop(records: Records, where: NDArray[np.bool_], reason: str, values: NDArray[Any]) -> None:
    """Give a reason to those that have none yet."""
    where = where & (records["reason"] == 0)
    records["reason"][where], records["value"][where] = REASONS.index(reason), values[where]


def _agree(to: Path, settings: Settings, files: Sequence[Path]) -> None:
    """Note what this folder is for, or check that it is for the same."""
    listed = [[str(file), file.stat().st_size] for file in files]
    meant = json.dumps({"settings": asdict(settings), "files": listed}, indent=1)
    if not noted(to / "settings.json", meant):
        raise InputError(
            f"{to} holds the work of other settings or files; name another folder, or remove it."
        )


def _judge_all(files: Sequence[Path], to: Path, settings: Settings, workers: int) -> None:
    """The first pass: append a record for each document that has none."""
    whole = _size(to) // RECORD.itemsize * RECORD.itemsize
    with (to / "records.bin").open("ab") as out:
        out.truncate(whole)
        file, start = 0, 0
        if whole:
            last = np.memmap(to / "records.bin", RECORD, "r")[-1]
            file, start = int(last["file"]), int(last["end"])
        sizes = [path.stat().st_size for path in files]
        done = sum(sizes[:file]) + (start if files[file].suffix != ".gz" else 0)
        with tqdm(
            total=sum(sizes), initial=done, unit="B", unit_scale=True, desc="judged", disable=None
        ) as bar:
            for batch, records in _judged(batches(_all(files, file, start)), settings, workers):
                records["file"] = [number for number, _ in batch]
                records["start"] = [document.start for _, document in batch]
                records["end"] = [document.end for _, document in batch]
                out.write(records.tobytes())
                bar.update(sum(document.end - document.start for _, document in batch))


def _all(files: Sequence[Path], first: int, start: int) -> Iterator[tuple[int, Document]]:
    for number in range(first, len(files)):
        for document in documents(files[number], start if number == first else 0):
            yield number, document


def _judged(
    found: Iterator[list[tuple[int, Document]]], settings: Settings, workers: int
) -> Iterator[tuple[list[tuple[int, Document]], Records]]:
    """Each batch with its records, in order; some batches are under way at a time."""
    if workers == 1:
        judge = Judge(settings)
        for batch in found:
            yield batch, judge([document.text for _, document in batch])
        return
    spawn = multiprocessing.get_context("spawn")  # a fork would copy the threads that torch may have
    with ProcessPoolExecutor(workers, spawn, _start, (settings,)) as pool:
        waiting: deque[Any] = deque()
        try:
            for batch in found:
                waiting.append((batch, pool.submit(_work, [document.text for _, document in batch])))
                if len(waiting) > 2 * workers:
                    done, records = waiting.popleft()
                    yield done, records.result()
            while waiting:
                done, records = waiting.popleft()
                yield done, records.result()
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


_JUDGE: Judge | None = None  # of a worker process


def _start(settings: Settings) -> None:
    global _JUDGE
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the process that waits
    _JUDGE = Judge(settings)


def _work(texts: Sequence[str]) -> Records:
    assert _JUDGE is not None
    return _JUDGE(texts)


def duplicates(records: Records, settings: Settings) -> tuple[NDArray[np.uint8], NDArray[np.float64]]:
    """Reason and value of each document, once duplicates are known; of a cluster the first one stays.

    The value of a duplicate is the number of that first document, from 0 in the order of reading.
    """
    reasons, values = np.array(records["reason"]), np.array(records["value"], np.float64)
    if settings.duplicates:
        for reason, find in (("duplicate", _same), ("near_duplicate", _alike)):
            kept = np.flatnonzero(reasons == 0)
            first = find(records, kept)
            later = first != np.arange(len(kept))
            reasons[kept[later]] = REASONS.index(reason)
            values[kept[later]] = kept[first[later]]
    return reasons, values


def _same(records: Records, among: Whole) -> Whole:
    """For each of those documents the place of the first one with its text."""
    if not len(among):
        return among
    digests = records["digest"][among]
    _, first, group = np.unique(digests, axis=0, return_index=True, return_inverse=True)
    return np.asarray(first[group.reshape(-1)], np.int64)


def _alike(records: Records, among: Whole) -> Whole:
    """For each of those documents the place of the first one in its cluster."""
    return clusters(records["signature"], among)


def _write(
    files: Sequence[Path],
    to: Path,
    settings: Settings,
    records: Records,
    reasons: NDArray[np.uint8],
    values: NDArray[np.float64],
) -> None:
    """The second pass: kept texts, samples of the others, and at last the report."""
    sampled = _sampled(records, reasons)
    contaminated = Judge(settings).benchmarks
    documents_of, bytes_of = Counter[str](), Counter[str]()
    names = ("kept.jsonl", "samples.jsonl", "contaminated.jsonl")
    kept, samples, hits = outs = [(to / f"{name}.partial").open("w", encoding="utf-8") for name in names]
    try:
        every = tqdm(_all(files, 0, 0), total=len(records), desc="written", disable=None)
        for place, (_, document) in enumerate(every):
            reason = REASONS[reasons[place]]
            documents_of[reason] += 1
            bytes_of[reason] += document.end - document.start
            row = {"text": document.text, "file": document.file, "start": document.start}
            if not reason:
                _line(kept, row | {"score": round(float(records[place]["score"]), 4)})
            elif place in sampled:
                _line(samples, row | {"reason": reason, "value": float(values[place])})
            if reason == "contaminated" and contaminated is not None:
                for hit in contaminated.hits(Pages([document.text])):
                    _line(hits, {**row, "text": hit.words, "item": hit.item, "runs": hit.runs})
    finally:
        for out in outs:
            out.close()
    for name in names:
        os.replace(to / f"{name}.partial", to / name)
    unchecked = contaminated.unchecked if contaminated else []
    write_text(to / "report.json", json.dumps(_report(documents_of, bytes_of, unchecked), indent=1))


def _report(documents_of: Counter[str], bytes_of: Counter[str], unchecked: Sequence[str]) -> dict[str, Any]:
    dropped = {
        reason: {"documents": documents_of[reason], "bytes": bytes_of[reason]}
        for reason in REASONS[1:]
        if documents_of[reason]
    }
    return {
        "documents": documents_of.total(),
        "bytes": bytes_of.total(),
        "kept": {"documents": documents_of[""], "bytes": bytes_of[""]},
        "dropped": dropped,
        "benchmark items too short to look for": len(unchecked),
    }


def _sampled(records: Records, reasons: NDArray[np.uint8]) -> set[int]:
    """Up to twenty documents of each reason, with the smallest digests: at random, but always the same."""
    chosen: set[int] = set()
    for reason in np.unique(reasons[reasons > 0]):
        places = np.flatnonzero(reasons == reason)
        order = np.argsort(records["digest"][places, 0], kind="stable")
        chosen |= set(places[order[:_SAMPLES]].tolist())
    return chosen


def _line(out: Any, row: dict[str, Any]) -> None:
    out.write(json.dumps(row, ensure_ascii=False) + "\n")


def _size(to: Path) -> int:
    path = to / "records.bin"
    return path.stat().st_size if path.exists() else 0
