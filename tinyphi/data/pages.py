"""Many pages at once, as arrays: bytes, words, lines, runs of words, each with a number that stands for it.

A filter that looks at every word in Python reads about a megabyte a second. So the pages of a batch are
joined into one array of bytes, and numpy finds where words begin and end. A word's *key* is a 64-bit number,
equal for equal words: a polynomial in its bytes, modulo 2⁶⁴, as in Rabin and Karp's search (1987). Because a
power of an odd number can be divided out again, all keys come from one running sum over the whole batch:

    sum[i] = Σ_{j<i} value[byte_j] · P^j          key of the bytes from a to b = (sum[b] − sum[a]) · P^(−a)

A and a have the same value, so keys do not tell case. Other words get the same key about once in 2⁶⁴ pairs;
nobody who wants to cheat is kept from it.
"""

from collections.abc import Sequence
from functools import cache, cached_property, lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Keys = NDArray[np.uint64]
Whole = NDArray[np.int64]
Mask = NDArray[np.bool_]

_P = 0x9E3779B97F4A7C15  # odd, so it has an inverse modulo 2⁶⁴
_INVERSE = pow(_P, -1, 1 << 64)
_SPACES = b" \t\n\r\x0b\x0c\x1c\x1d\x1e\x1f"  # what str.split() takes for space, of ASCII
_SYMBOL_LEADS = b"\xc2\xe2\xef\xf0"  # characters that begin with these bytes are quotes, dashes, signs, emoji
_PAGE_END = b"\n\n"


class Runs(NamedTuple):
    """Stretches of bytes, such as words: where each begins and ends, its page, and its key; all (n)."""

    start: Whole
    end: Whole
    page: Whole
    key: Keys


class Pages:
    """A batch of texts as arrays. Carriage returns and no-break spaces count as what they look like."""

    def __init__(self, texts: Sequence[str]) -> None:
        self.texts = texts
        parts = [_plain(text).encode("utf-8", "replace") + _PAGE_END for text in texts]
        self.count = len(parts)
        self.bytes = np.frombuffer(b"".join(parts), np.uint8)
        ends = np.cumsum([0, *map(len, parts)], dtype=np.int64)
        self.starts, self.ends = ends[:-1], ends[1:] - len(_PAGE_END)

    @cached_property
    def tokens(self) -> Runs:
        """What stands between spaces, signs included."""
        return self._runs(_NO_SPACE.take(self.bytes))

    @cached_property
    def words(self) -> Runs:
        """Letters and digits without anything between them. "Don’t" is two words, as is "don't".

        A letter is any character outside ASCII, except those that UTF-8 begins with C2, E2, EF or F0: nearly
        all of these are typographic signs.
        """
        return self._runs(self.lettered)

    @cached_property
    def shapes(self) -> Keys:
        """The keys of `words`, but equal for words of one length that begin with a digit, such as years."""
        start, end, _, key = self.words
        numbers = np.flatnonzero(self.bytes[start] <= ord("9"))
        key = key.copy()
        key[numbers] = mix((end - start)[numbers].astype(np.uint64))
        return key

    @cached_property
    def lines(self) -> Runs:
        """What stands between line breaks, unless it is empty."""
        return self._runs(self.bytes != ord("\n"))

    @cached_property
    def paragraphs(self) -> Runs:
        """Lines that follow one another without an empty line between."""
        lines = self.lines
        first = np.ones(len(lines.start), np.bool_)
        first[1:] = (lines.start[1:] - lines.end[:-1] > 1) | (lines.page[1:] != lines.page[:-1])
        start, end = lines.start[first], lines.end[np.roll(first, -1)]
        return Runs(start, end, lines.page[first], self._keyed.keys(start, end))

    @cached_property
    def keys(self) -> Keys:
        """A key of each page as a whole; 0 if it is empty: (pages)."""
        keys = np.zeros(self.count, np.uint64)
        full = self.ends > self.starts
        keys[full] = self._keyed.keys(self.starts[full], self.ends[full])
        return keys

    @cached_property
    def characters(self) -> Whole:
        """How many characters begin before each byte, and in all: (bytes + 1). One may take four bytes."""
        return _running(self.bytes & 0xC0 != 0x80)

    @cached_property
    def lengths(self) -> Whole:
        """The characters of each page."""
        return self.characters[self.ends] - self.characters[self.starts]

    def _runs(self, inside: Mask) -> Runs:
        """Stretches of bytes where `inside` holds."""
        edges = np.flatnonzero(inside[1:] != inside[:-1]) + 1
        if inside[:1].any():  # the end needs no care: no run goes beyond the line breaks there
            edges = np.concatenate([np.zeros(1, np.int64), edges])
        start, end = edges[::2], edges[1::2]
        first = np.searchsorted(start, self.starts)  # the first run of each page
        page = np.repeat(np.arange(self.count), np.diff(first, append=len(start)))
        return Runs(start, end, page, self._keyed.keys(start, end))

    def per_page(self, page: Whole, weights: NDArray[np.generic] | None = None) -> NDArray[np.float64]:
        """The sum of weights (default 1) over the entries of each page."""
        sums = np.zeros(self.count)
        sums += np.bincount(page, weights, self.count)
        return sums

    @cached_property
    def lettered(self) -> Mask:
        """Whether each byte belongs to a letter or digit."""
        letters = _LETTERS.take(self.bytes)
        sign = np.flatnonzero(_table(_SYMBOL_LEADS).take(self.bytes))
        for _ in range(3):  # the later bytes of a sign are no letters either
            sign = sign[sign + 1 < len(self.bytes)] + 1
            sign = sign[self.bytes[sign] & 0xC0 == 0x80]
            letters[sign] = False
        return letters

    def bytes_in(self, signs: bytes) -> NDArray[np.float64]:
        """How many bytes of each page are among `signs`."""
        places = np.flatnonzero(_table(signs).take(self.bytes))
        first, last = np.searchsorted(places, self.starts), np.searchsorted(places, self.ends)
        return (last - first).astype(np.float64)

    def between(self, start: int, end: int) -> str:
        """The text of some bytes."""
        return self.bytes[start:end].tobytes().decode("utf-8", "replace")

    @cached_property
    def _keyed(self) -> "_Keyed":
        return _Keyed(self.bytes)


class _Keyed:
    """The running sum that gives any stretch of bytes its key."""

    def __init__(self, data: NDArray[np.uint8]) -> None:
        powers, self._inverses = _powers(len(data))
        self._terms = _VALUES[data]
        self._terms *= powers[: len(data)]
        self._sum = np.cumsum(self._terms)

    def keys(self, start: Whole, end: Whole) -> Keys:
        """The key of the bytes from start to end, which are at least one."""
        return mix((self._sum[end - 1] - self._sum[start] + self._terms[start]) * self._inverses[start])


class Ngrams(NamedTuple):
    """Runs of n neighbouring words of a page: the first word's number, the page, and a key; all (m)."""

    first: Whole
    page: Whole
    key: Keys


def ngrams(words: Runs, n: int, keys: Keys | None = None) -> Ngrams:
    """All runs of n words, whatever stands between them. keys: of the words, if not their own."""
    keys = words.key if keys is None else keys
    count = max(len(keys) - n + 1, 0)
    together = keys[:count].copy()
    for later in range(1, n):
        together = together * np.uint64(_P) + keys[later : later + count]
    first = np.flatnonzero(words.page[:count] == words.page[n - 1 : n - 1 + count])
    return Ngrams(first, words.page[first], mix(together[first]))


class Groups(NamedTuple):
    """Equal entries brought together: `order` sorts the entries, groups begin at `start` in it; and sizes."""

    order: Whole
    start: Whole
    size: Whole


def grouped(page: Whole, key: Keys) -> Groups:
    """Entries of the same page with the same key; within a group they keep their order."""
    both = _on_page(page, key)
    order = np.argsort(both, kind="stable")
    sorted_keys = both[order]
    new = np.ones(len(order), np.bool_)
    new[1:] = sorted_keys[1:] != sorted_keys[:-1]
    start = np.flatnonzero(new)
    return Groups(order, start, np.diff(start, append=len(order)))


def said_before(page: Whole, key: Keys) -> Mask:
    """Whether the same entry stands earlier on its page: (n)."""
    groups = grouped(page, key)
    before = np.ones(len(key), np.bool_)
    before[groups.order[groups.start]] = False
    return before


def perhaps_twice(page: Whole, key: Keys) -> Whole:
    """The places of all entries that have an equal on their page, and of a few others.

    Keys are counted by their upper bits, which is quicker than to sort them; most keys of a text are alone.
    """
    bits = len(key).bit_length() + 2
    part = (_on_page(page, key) >> np.uint64(64 - bits)).view(np.int64)
    return np.flatnonzero(np.bincount(part, minlength=1 << bits)[part] > 1)


def _on_page(page: Whole, key: Keys) -> Keys:
    """Keys that are equal for the same key on the same page."""
    return key ^ mix(page.astype(np.uint64))


def mix(keys: Keys) -> Keys:
    """Every bit of the result depends on every bit of the argument: the end of splitmix64 (Steele, 2014)."""
    keys = (keys ^ (keys >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    keys = (keys ^ (keys >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return keys ^ (keys >> np.uint64(31))


class Lexicon:
    """Runs of words to be found again, such as "the" or "privacy policy": all of one length."""

    def __init__(self, phrases: Sequence[str], n: int = 1) -> None:
        pages = Pages(phrases)
        keys = ngrams(pages.words, n).key if n > 1 else pages.words.key
        self._order = np.argsort(keys)
        self._sorted = keys[self._order]
        self._possible = np.zeros(1 << 16, np.bool_)
        self._possible[keys >> np.uint64(48)] = True

    def find(self, keys: Keys) -> Whole:
        """The number of the phrase with each key, or −1: (n)."""
        found = np.full(len(keys), -1)
        maybe = np.flatnonzero(self._possible.take((keys >> np.uint64(48)).view(np.int64)))
        place = np.searchsorted(self._sorted[:-1], keys[maybe])
        right = self._sorted[place] == keys[maybe]
        found[maybe[right]] = self._order[place[right]]
        return found


def _plain(text: str) -> str:
    if not text.isascii():
        text = text.replace("\u00a0", " ")
    return text.replace("\r\n", "\n")


def _running(counted: Mask) -> Whole:
    total = np.zeros(len(counted) + 1, np.int64)
    np.cumsum(counted, out=total[1:])
    return total


@cache
def _table(signs: bytes) -> Mask:
    table = np.zeros(256, np.bool_)
    table[list(signs)] = True
    return table


def _powers(count: int) -> tuple[Keys, Keys]:
    """P⁰, P¹, … and P⁰, P⁻¹, …: at least `count` of each."""
    return _power_table(1 << max(count - 1, 1).bit_length())


@lru_cache(maxsize=2)
def _power_table(count: int) -> tuple[Keys, Keys]:
    tables = []
    for base in (_P, _INVERSE):
        powers = np.full(count, base, np.uint64)
        powers[0] = 1
        tables.append(np.cumprod(powers, dtype=np.uint64))
    return tables[0], tables[1]


def _values() -> Keys:
    """The value of each byte: (256)."""
    values = mix(np.arange(1, 257, dtype=np.uint64) * np.uint64(_P))
    values[ord("A") : ord("Z") + 1] = values[ord("a") : ord("z") + 1]
    return values


_VALUES = _values()
_NO_SPACE = ~_table(_SPACES)
_LETTERS = np.array(
    [chr(byte).isalnum() if byte < 128 else byte not in _SYMBOL_LEADS for byte in range(256)], np.bool_
)
