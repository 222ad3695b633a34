"""Train the filter of educational value, and measure it on books, articles and sites that it never saw.

Whole books are held out, and of a source that is one file the last quarter. Some sources of bad text are only
for measuring: the filter has seen nothing of their kind.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from tinyphi.data.educational import EducationalFilter, Values, fit
from tinyphi.data.pages import Pages
from tinyphi.data.reading import documents, text_files
from tinyphi.errors import InputError
from tinyphi.files import write_text
from tinyphi.safety.metrics import roc_auc

THRESHOLDS = (0.3, 0.5, 0.7, 0.9)
_HELD_OUT = 4  # every fourth file of a folder is held out, or the last quarter of a file
_WINDOW = 2000  # characters: training pages are cut to this length, which would else give a source away
_LEAST = 300  # characters; what is shorter says too little
_WINDOWS = 1500  # of each path that is named, spread over its files
_MEASURED = 400  # held-out documents of each path


@dataclass(frozen=True)
class Source:
    """A path that was named: training windows, and held-out documents."""

    name: str
    windows: list[str]
    held_out: list[str]


def run(good: Sequence[Path], bad: Sequence[Path], unseen: Sequence[Path], to: Path) -> dict[str, Any]:
    """Train, save the filter, write what it measured beside it as .json, and return that.

    good, bad: files or folders of .txt and .jsonl files. unseen: files of bad text that is only measured.
    to: the .safetensors file. Raises InputError if a path holds too little text.
    """
    sources = [(source(path), True) for path in good] + [(source(path), False) for path in bad]
    texts = [text for one, _ in sources for text in one.windows]
    kinds = [kind for one, kind in sources for _ in one.windows]
    weights = [1 / len(one.windows) for one, _ in sources for _ in one.windows]  # sources count alike
    fit(texts, kinds, weights).save(to)
    judge = EducationalFilter.load(to)  # as saved, in 8 bits
    scores = {one.name: (kind, scores_of(judge, one.held_out)) for one, kind in sources}
    for path in unseen:
        found = [text for file in text_files([path]) for text in _long(file)]
        scores[f"{path.stem} (nothing of it in training)"] = (False, scores_of(judge, found[:_MEASURED]))
    report = {"windows": {one.name: len(one.windows) for one, _ in sources}, **measured(scores)}
    write_text(to.with_suffix(".json"), json.dumps(report, indent=1) + "\n")
    return report


def source(path: Path) -> Source:
    """Windows and held-out documents: of four files or more whole ones are held out, else their ends."""
    files = text_files([path])
    windows: list[str] = []
    held_out: list[str] = []
    for number, file in enumerate(files):
        found = list(_long(file))
        train = len(found) * (_HELD_OUT - 1) // _HELD_OUT
        if len(files) >= _HELD_OUT:
            train = 0 if number % _HELD_OUT == _HELD_OUT - 1 else len(found)
        windows += [piece for text in found[:train] for piece in cut(text)]
        held_out += found[train:]
    if len(windows) < 10 or not held_out:
        raise InputError(
            f"{path} holds too little text to learn from: {len(windows)} pieces of 2,000 characters."
        )
    return Source(path.name, _spread(windows, _WINDOWS), _spread(held_out, _MEASURED))


def cut(text: str) -> list[str]:
    """Pieces of up to 2,000 characters, cut between lines where possible; short ones are left out."""
    pieces, current = [], ""
    for line in text.splitlines(keepends=True):
        for start in range(0, len(line), _WINDOW):
            part = line[start : start + _WINDOW]
            if len(current) + len(part) > _WINDOW:
                pieces.append(current)
                current = ""
            current += part
    return [piece for piece in [*pieces, current] if len(piece) >= _LEAST]


def scores_of(judge: EducationalFilter, texts: Sequence[str]) -> Values:
    """The score of each text."""
    return np.concatenate(
        [judge.scores(Pages(texts[start : start + 50])) for start in range(0, len(texts), 50)]
    )


def measured(scores: dict[str, tuple[bool, Values]]) -> dict[str, Any]:
    """By source: documents, mean score, share kept at each threshold, area against all good (or bad) ones.

    And over all held-out sources: the area under the ROC curve, precision and recall at each threshold, with
    each source weighing alike, so that good and bad text are half each.
    """
    both = {kind: [found for is_good, found in scores.values() if is_good == kind] for kind in (True, False)}
    sources = {}
    for name, (kind, found) in scores.items():
        others = both[not kind]
        areas = [area(found, other) if kind else area(other, found) for other in others]
        kept = {str(limit): round(float((found >= limit).mean()), 4) for limit in THRESHOLDS}
        sources[name] = {
            "good": kind,
            "documents": len(found),
            "mean": round(float(found.mean()), 4),
            "kept": kept,
            "area": round(float(np.mean(areas)), 4),
        }
    limits = {}
    for limit in THRESHOLDS:
        recall, alarms = (
            np.mean([(found >= limit).mean() for found in both[kind]]) for kind in (True, False)
        )
        precision = recall / max(recall + alarms, 1e-12)
        limits[str(limit)] = {"precision": round(float(precision), 4), "recall": round(float(recall), 4)}
    total = np.mean([area(good, bad) for good in both[True] for bad in both[False]])
    return {"sources": sources, "area": round(float(total), 4), "thresholds": limits}


def area(good: Values, bad: Values) -> float:
    """The area under the ROC curve: how often a good page scores higher than a bad one; a tie counts half."""
    truth = np.repeat([True, False], [len(good), len(bad)])
    return roc_auc(truth, np.concatenate([good, bad]))


def _long(file: Path) -> Iterator[str]:
    return (found.text for found in documents(file) if len(found.text) >= _LEAST)


def _spread(texts: list[str], most: int) -> list[str]:
    """At most so many, evenly over all."""
    return list(islice(texts, 0, None, max(1, -(-len(texts) // most))))
