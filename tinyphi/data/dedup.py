"""Duplicates: exact ones by a hash, near ones by MinHash and locality-sensitive hashing.

Two pages are alike as far as they share *shingles*, runs of five words; their Jaccard similarity is
|A ∩ B| / |A ∪ B|. Number all shingles at random: the smallest number in A and in B is the same one exactly
if that shingle is in both, which has that probability. So of 128 numberings, the share where two *signatures*
of minima agree estimates the similarity, with the error of so many coin tosses (Broder 1997).

Nobody can compare all pairs. So a signature is cut into b bands of r minima, and only pages with a whole band
in common are compared: pages of similarity s with probability 1 − (1 − s^r)^b, a curve that is steep near
(1/b)^(1/r) (Leskovec, Rajaraman, Ullman: Mining of Massive Datasets, sec. 3.4).

A signature takes 512 bytes whatever the page's length. The signatures of a data set may lie in a file, and
only one band of them, 8 bytes a page, is in memory at a time.
"""

import hashlib
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from tinyphi.data.pages import Keys, Pages, Whole, mix, ngrams
from tinyphi.errors import InputError

Signatures = NDArray[np.uint32]
"""Of each page the minimum under each numbering: (pages, numberings)."""

SHINGLE = 5  # words
BANDS, ROWS = 16, 8
THRESHOLD = 0.7  # of a signature has to agree

_PAIRS = 1 << 14  # pages or pairs of which signatures are in memory


def digest(text: str) -> bytes:
    """16 bytes that are equal for equal texts, and for no others that anyone will ever find (BLAKE2b)."""
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest()


def signatures(pages: Pages, numberings: int = BANDS * ROWS, seed: int = 0) -> Signatures:
    """The signature of each page: (pages, numberings).

    A numbering sends a shingle's key k to the upper half of mix(k)·a + b modulo 2³²; a is odd. A page of less
    than five words is one shingle as a whole, signs included.
    """
    page, keys = _shingles(pages)
    chance = np.random.Generator(np.random.PCG64(seed))
    factors = chance.integers(0, 1 << 32, numberings, np.uint32) | np.uint32(1)
    offsets = chance.integers(0, 1 << 32, numberings, np.uint32)
    start = np.searchsorted(page, np.arange(pages.count))
    minima = np.empty((numberings, pages.count), np.uint32)
    numbers = np.empty_like(keys)
    for row, factor, offset in zip(minima, factors, offsets, strict=True):
        np.multiply(keys, factor, out=numbers)
        np.add(numbers, offset, out=numbers)
        np.minimum.reduceat(numbers, start, out=row)
    return np.ascontiguousarray(minima.T)


def similarity(one: Signatures, other: Signatures) -> NDArray[np.float64]:
    """The estimated Jaccard similarity of signatures (… numberings), pair by pair: (…)."""
    return np.asarray(np.mean(one == other, axis=-1), np.float64)


def candidate_probability(
    similarity: float | NDArray[np.float64], bands: int = BANDS, rows: int = ROWS
) -> NDArray[np.float64]:
    """The probability that two pages of that similarity have a band in common: 1 − (1 − s^r)^b."""
    return np.asarray(1 - (1 - np.asarray(similarity, np.float64) ** rows) ** bands, np.float64)


def clusters(
    found: Signatures,
    among: Whole | None = None,
    bands: int = BANDS,
    rows: int = ROWS,
    threshold: float = THRESHOLD,
) -> Whole:
    """For each page the first page of its cluster, itself if it is the first, as places in `among`: (among).

    Pages with a band in common are joined if at least `threshold` of their signatures agree with those of the
    band's first page; clusters that share a page become one. found: may be a memory map. among: the pages to
    compare; all by default. Raises InputError if the bands need more than a signature has.
    """
    if bands * rows > found.shape[1]:
        raise InputError(
            f"{bands} bands of {rows} minima need {bands * rows}; a signature has {found.shape[1]}."
        )
    among = np.arange(len(found)) if among is None else among
    root = np.arange(len(among))
    for band in range(bands):
        keys = _band_keys(found[:, band * rows : (band + 1) * rows], among)
        for first, later in _pairs(keys):
            alike = similarity(found[among[first]], found[among[later]]) >= threshold
            for one, other in zip(first[alike].tolist(), later[alike].tolist(), strict=True):
                _join(root, one, other)
    for page in np.flatnonzero(root != np.arange(len(root))).tolist():
        root[page] = _find(root, page)
    return root


def _shingles(pages: Pages) -> tuple[Whole, NDArray[np.uint32]]:
    """Page and 32-bit key of all shingles, sorted by page; every page has at least one."""
    found = ngrams(pages.words, SHINGLE)
    without = np.flatnonzero(np.bincount(found.page, minlength=pages.count) == 0)
    page = np.concatenate([found.page, without])
    keys = np.concatenate([found.key, pages.keys[without]])
    if len(without):
        order = np.argsort(page, kind="stable")
        page, keys = page[order], keys[order]
    return page, (keys >> np.uint64(32)).astype(np.uint32)


def _band_keys(band: Signatures, among: Whole) -> Keys:
    """A key for those rows of a band (pages, rows)."""
    keys = np.zeros(len(among), np.uint64)
    for start in range(0, len(among), _PAIRS):
        some = slice(start, start + _PAIRS)
        for column in band[among[some]].T:
            keys[some] = mix(keys[some] ^ column.astype(np.uint64))
    return keys


def _pairs(keys: Keys) -> Iterator[tuple[Whole, Whole]]:
    """The first page with each key, and each later page with it, some pairs at a time."""
    order = np.argsort(keys, kind="stable")
    again = np.zeros(len(keys), np.bool_)
    again[1:] = keys[order][1:] == keys[order][:-1]
    place = np.arange(len(keys))
    first = np.maximum.accumulate(np.where(again, 0, place))
    later = np.flatnonzero(again)
    for start in range(0, len(later), _PAIRS):
        some = later[start : start + _PAIRS]
        yield order[first[some]], order[some]


def _find(root: Whole, page: int) -> int:
    """The first page of a cluster; on the way every second page is led nearer to it (path halving)."""
    while root[page] != page:
        root[page] = root[root[page]]
        page = int(root[page])
    return page


def _join(root: Whole, one: int, other: int) -> None:
    """Make two clusters one, led by the page that came first."""
    one, other = _find(root, one), _find(root, other)
    root[max(one, other)] = min(one, other)
