"""Which documents hold questions of a benchmark? Runs of words that both have, named one by one.

A model that has read the test tells nothing by passing it. GPT-3's makers looked for runs of 13 words (arXiv
2005.14165, appendix C); 8 words find more, and more by chance. As there, words are compared without case and
signs. Differences: there the length was from 8 to 13 by benchmark, here an item that is shorter than the run
is looked for as a whole if it has at least 8 words; there 200 characters around a hit were cut out, and runs
found in more than 10 documents were ignored; here the document is reported, and dropped by the pipeline.
"""

import gzip
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from tinyphi.data.pages import Pages, ngrams
from tinyphi.errors import InputError

SHORTEST = 8
_AT_ONCE = 1000  # items


class Item(NamedTuple):
    """A text that must not be trained on, such as a question, and a name to report it by."""

    name: str
    text: str


class Hit(NamedTuple):
    """Page number, the item, the first words in common, and how many runs of the page are in that item."""

    page: int
    item: str
    words: str
    runs: int


class Benchmarks:
    """Items by their runs of `length` words: 13 as for GPT-3, or stricter 8.

    A run that several items share is reported as the first one's. `unchecked` names items of less than 8
    words. Raises InputError for a length below 8, or if there is no item to look for.
    """

    def __init__(self, items: Sequence[Item], length: int = 13) -> None:
        if length < SHORTEST:
            raise InputError(f"length={length}: runs of less than {SHORTEST} words are shared by chance.")
        self.names = [item.name for item in items]
        self.unchecked: list[str] = []
        keys: dict[int, list[np.ndarray[Any, Any]]] = {}
        owners: dict[int, list[np.ndarray[Any, Any]]] = {}
        for first in range(0, len(items), _AT_ONCE):
            pages = Pages([item.text for item in items[first : first + _AT_ONCE]])
            words = pages.per_page(pages.words.page).astype(np.int64)
            self.unchecked += [self.names[first + page] for page in np.flatnonzero(words < SHORTEST)]
            for n in np.unique(np.minimum(words[words >= SHORTEST], length)).tolist():
                runs = ngrams(pages.words, n)
                whole = np.minimum(words, length)[runs.page] == n
                keys.setdefault(n, []).append(runs.key[whole])
                owners.setdefault(n, []).append(runs.page[whole] + first)
        if not keys:
            raise InputError(
                f"No benchmark item has {SHORTEST} words or more, so there is nothing to look for."
            )
        self._index = {}
        for n in sorted(keys):
            unique, place = np.unique(np.concatenate(keys[n]), return_index=True)
            self._index[n] = (unique, np.concatenate(owners[n])[place])

    def hits(self, pages: Pages) -> list[Hit]:
        """What the pages of a batch share with items, by page and item."""
        found: dict[tuple[int, int], list[int]] = {}  # page, item → first byte, last byte, runs
        for n, (keys, owners) in self._index.items():
            runs = ngrams(pages.words, n)
            place = np.minimum(np.searchsorted(keys, runs.key), len(keys) - 1)
            for at in np.flatnonzero(keys[place] == runs.key).tolist():
                word = runs.first[at]
                start, end = int(pages.words.start[word]), int(pages.words.end[word + n - 1])
                hit = found.setdefault((int(runs.page[at]), int(owners[place[at]])), [start, end, 0])
                hit[2] += 1
        return [
            Hit(page, self.names[item], pages.between(start, end), runs)
            for (page, item), (start, end, runs) in sorted(found.items())
        ]


def benchmark_items(path: str | Path) -> Iterator[Item]:
    """The items of a .jsonl file (or .jsonl.gz): every text in every line, named file:line:field.

    Raises InputError for a file that cannot be read.
    """
    path = Path(path)
    try:
        with gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb") as lines:
            for number, line in enumerate(lines, start=1):
                if line.strip():
                    for field, text in _texts(json.loads(line), ""):
                        yield Item(f"{path.name}:{number}{field}", text)
    except (OSError, EOFError, ValueError) as error:
        raise InputError(f"{path} is no .jsonl file of benchmark items: {error}.") from error


def _texts(value: Any, field: str) -> Iterator[tuple[str, str]]:
    if isinstance(value, str):
        yield field, value
    elif isinstance(value, dict):
        for name, part in value.items():
            yield from _texts(part, f"{field}:{name}")
    elif isinstance(value, list):
        for part in value:
            yield from _texts(part, field)
