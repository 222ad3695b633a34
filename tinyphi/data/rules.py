"""Rules that drop a page, each with the number it measured: too short, too repetitive, not English, a menu.

Most are those of MassiveText (arXiv 2112.11446, appendix A1.1 and table A1), which is what `datatrove` calls
the Gopher filters. The tests hold the verdicts equal to datatrove's where both define the same thing. These
differences are meant:

- Words are what stands between spaces (of ASCII, and no-break spaces); datatrove takes spaCy's words.
- An n-gram that occurs once repeats nothing: datatrove lets any page of a few words fail by its "top" n-gram.
- Words in repeated 5- to 10-grams count once however the n-grams overlap, as the paper has it; datatrove
  skips to the end of a repeated n-gram and may miss some. So these shares are at least datatrove's.
- Lines are those that are not empty; datatrove counts empty ones in the rules about bullets and "…".
- A word of signs only, such as "•", is none in the first two rules; datatrove's list of signs lacks "•".
- Case makes no difference, in repetition and in stop words.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tinyphi.data.pages import (
    Lexicon,
    Mask,
    Ngrams,
    Pages,
    Runs,
    Whole,
    grouped,
    mix,
    ngrams,
    perhaps_twice,
    said_before,
)

Values = NDArray[np.float64]
"""A number for each page of a batch: (pages)."""


class Verdict(NamedTuple):
    """What became of a page: the first rule that it broke, with the value measured; "" if it broke none."""

    rule: str
    value: float

    @property
    def kept(self) -> bool:
        return not self.rule


KEPT = Verdict("", 0.0)


@dataclass(frozen=True)
class Rule:
    """A page is kept if the measured value is between `least` and `most`, both included."""

    name: str
    measure: Callable[[Pages], Values]
    least: float = -np.inf
    most: float = np.inf

    def broken(self, values: Values) -> Mask:
        return (values < self.least) | (values > self.most)


def judge(pages: Pages, rules: Sequence[Rule] | None = None) -> list[Verdict]:
    """The verdict on each page of a batch. rules: `RULES` by default, tried in that order."""
    verdicts = [KEPT] * pages.count
    open_cases = np.ones(pages.count, np.bool_)
    for rule in RULES if rules is None else rules:
        values = rule.measure(pages)
        for page in np.flatnonzero(open_cases & rule.broken(values)):
            verdicts[page] = Verdict(rule.name, float(values[page]))
            open_cases[page] = False
    return verdicts


# How much there is, and what kind of words.


def words(pages: Pages) -> Values:
    """Words with a letter or digit."""
    return pages.per_page(pages.tokens.page[_holding(pages, digits=True)])


def word_length(pages: Pages) -> Values:
    """The mean length of those words, in characters."""
    tokens, wordy = pages.tokens, _holding(pages, digits=True)
    lengths = _characters(pages, tokens)[wordy]
    return _share(pages.per_page(tokens.page[wordy], lengths), words(pages))


def alphabetic_words(pages: Pages) -> Values:
    """The share of words with a letter; signs that stand alone are words here."""
    tokens = pages.tokens
    lettered = pages.per_page(tokens.page[_holding(pages, digits=False)])
    return _share(lettered, pages.per_page(tokens.page))


def stop_words(pages: Pages) -> Values:
    """How many of "the be to of and that have with" there are."""
    found = _STOP_WORDS.find(pages.words.key)
    places = pages.words.page * len(STOP_WORDS) + found
    seen = np.zeros(pages.count * len(STOP_WORDS), np.bool_)
    seen[places[found >= 0]] = True
    return np.asarray(seen.reshape(pages.count, -1).sum(1), np.float64)


# Signs and lines.


def hashes(pages: Pages) -> Values:
    """Hash signs for each word."""
    return _share(pages.bytes_in(b"#"), pages.per_page(pages.tokens.page))


def ellipses(pages: Pages) -> Values:
    """ "..." and "…" for each word."""
    counts = [text.count("...") + text.count("…") for text in pages.texts]
    return _share(np.array(counts, np.float64), pages.per_page(pages.tokens.page))


def bullet_lines(pages: Pages) -> Values:
    """The share of lines that begin with "•" or "-"."""
    start = _edge_tokens(pages)[0]
    begins = pages.bytes[start] == ord("-")
    begins |= _bytes_at(pages, start, "•")
    return _share(pages.per_page(pages.lines.page, begins), pages.per_page(pages.lines.page))


def ellipsis_lines(pages: Pages) -> Values:
    """The share of lines that end with "..." or "…"."""
    end = _edge_tokens(pages)[1]
    ends = _bytes_at(pages, end - 3, "...") | _bytes_at(pages, end - 3, "…")
    return _share(pages.per_page(pages.lines.page, ends), pages.per_page(pages.lines.page))


def ended_lines(pages: Pages) -> Values:
    """The share of lines that end like a sentence, as FineWeb asks (arXiv 2406.17557, sec. 3.6)."""
    end = _edge_tokens(pages)[1]
    ends = _SENTENCE_ENDS[pages.bytes[end - 1]] | _bytes_at(pages, end - 3, "”")
    ends |= _bytes_at(pages, end - 3, "’") | _bytes_at(pages, end - 3, "…")
    return _share(pages.per_page(pages.lines.page, ends), pages.per_page(pages.lines.page))


# Repetition: table A1 of the paper.


def repeated_paragraphs(pages: Pages) -> Values:
    """The share of paragraphs that stand earlier on the page."""
    return _repeated(pages, "paragraphs")[0]


def repeated_paragraph_characters(pages: Pages) -> Values:
    """The share of the page's characters that are in them."""
    return _repeated(pages, "paragraphs")[1]


def repeated_lines(pages: Pages) -> Values:
    """The share of lines that stand earlier on the page."""
    return _repeated(pages, "lines")[0]


def repeated_line_characters(pages: Pages) -> Values:
    """The share of the page's characters that are in them."""
    return _repeated(pages, "lines")[1]


def top_ngram(n: int) -> Callable[[Pages], Values]:
    """The share of characters in the commonest run of n words, if it occurs twice; of several, the first."""
    return lambda pages: _repetition(pages)[n]


def repeated_ngrams(n: int) -> Callable[[Pages], Values]:
    """The share of characters in runs of n words that stand earlier on the page, each counted once."""
    return lambda pages: _repetition(pages)[n]


# Language and boilerplate.


def english(pages: Pages) -> Values:
    """The share of English function words, less that of the best of six other languages.

    Counting function words is an old and simple way (for example Dunning, 1994). It needs a few dozen words,
    and says nothing of languages that it does not know; those have a share near 0.
    """
    found = _LANGUAGE_OF[_FUNCTION_WORDS.find(pages.words.key)]  # −1 finds the last entry: no language
    places = pages.words.page * (len(FUNCTION_WORDS) + 1) + found
    counts = np.bincount(places, minlength=pages.count * (len(FUNCTION_WORDS) + 1))
    shares = _share(counts.reshape(pages.count, -1), pages.per_page(pages.words.page)[:, None])
    best_other = shares[:, 1:-1].max(1, initial=0)
    lead: Values = shares[:, 0] - best_other
    return lead


def other_scripts(pages: Pages) -> Values:
    """The share of letters and digits that are not Latin, by the first byte of each in UTF-8."""
    lettered = pages.per_page(pages.words.page, _characters(pages, pages.words))
    return _share(pages.bytes_in(_OTHER_LEADS), lettered)


def boilerplate(pages: Pages) -> Values:
    """The share of words in phrases such as "privacy policy"."""
    pairs = ngrams(pages.words, 2)
    found = pairs.page[_BOILERPLATE.find(pairs.key) >= 0]
    return _share(2 * pages.per_page(found), pages.per_page(pages.words.page))


STOP_WORDS = ["the", "be", "to", "of", "and", "that", "have", "with"]
FUNCTION_WORDS = {
    "English": "the of and to is that it for was with as are this by be from at have or they which but not",
    "German": "der die und das ist nicht ein eine zu den mit von auf für sich dem auch es werden wird sind",
    "French": "le les et des est une dans pour qui pas sur au avec ce il sont par plus nous vous être",
    "Spanish": "el los y que una las por con para del como más pero sus su este lo fue son está",
    "Italian": "il di che è per un della sono non gli alla nel dei delle con anche questo dal più ed",
    "Portuguese": "o os do da em um uma não para com dos das ao pela foi mais são você pelo também",
    "Dutch": "het een van en niet dat zijn voor met op te aan ook wordt naar deze bij maar hij worden",
}
BOILERPLATE = [
    "privacy policy", "cookie policy", "use cookies", "rights reserved", "terms of", "click here", "sign up",
    "log in", "sign in", "your cart", "to cart", "wish list", "newsletter subscribe", "our newsletter",
    "read more", "learn more", "contact us", "about us", "skip to", "main content", "share this", "follow us",
    "leave a", "post comment", "powered by", "enable javascript", "your browser", "lorem ipsum",
    "email address", "forgot password", "my account", "site map", "free shipping", "add to",
    "next post", "previous post",
]  # fmt: skip


def _gopher_repetition() -> list[Rule]:
    top = [Rule(f"top_{n}_gram", top_ngram(n), most=most) for n, most in ((2, 0.20), (3, 0.18), (4, 0.16))]
    shares = {5: 0.15, 6: 0.14, 7: 0.13, 8: 0.12, 9: 0.11, 10: 0.10}
    return [
        Rule("repeated_paragraphs", repeated_paragraphs, most=0.3),
        Rule("repeated_paragraph_characters", repeated_paragraph_characters, most=0.2),
        Rule("repeated_lines", repeated_lines, most=0.3),
        Rule("repeated_line_characters", repeated_line_characters, most=0.2),
        *top,
        *(Rule(f"repeated_{n}_grams", repeated_ngrams(n), most=most) for n, most in shares.items()),
    ]


REPETITION = tuple(_gopher_repetition())
QUALITY = (
    Rule("words", words, least=50, most=100_000),
    Rule("word_length", word_length, least=3, most=10),
    Rule("hashes", hashes, most=0.1),
    Rule("ellipses", ellipses, most=0.1),
    Rule("bullet_lines", bullet_lines, most=0.9),
    Rule("ellipsis_lines", ellipsis_lines, most=0.3),
    Rule("alphabetic_words", alphabetic_words, least=0.8),
    Rule("stop_words", stop_words, least=2),
)
OURS = (
    Rule("other_scripts", other_scripts, most=0.2),
    Rule("english", english, least=0.05),
    Rule("boilerplate", boilerplate, most=0.03),
    Rule("ended_lines", ended_lines, least=0.12),
)
RULES = (*QUALITY, *REPETITION, *OURS)


@lru_cache(maxsize=1)
def _repetition(pages: Pages) -> dict[int, Values]:
    """For runs of n words, from 2 to 4 the share of the commonest, from 5 to 10 the share said before.

    A run can only occur twice where its first n − 1 words do. So after the pairs there is little left.
    """
    tokens, found = pages.tokens, {}
    lengths = _characters(pages, tokens)
    until = np.concatenate([[0], np.cumsum(lengths)])
    runs = ngrams(tokens, 2)
    places = perhaps_twice(runs.page, runs.key)
    runs = Ngrams(runs.first[places], runs.page[places], runs.key[places])
    for n in range(2, 11):
        groups = grouped(runs.page, runs.key)
        several = groups.size > 1
        first, size = groups.order[groups.start[several]], groups.size[several]
        inside = np.repeat(several, groups.size)  # of the sorted runs, those that occur twice
        if n < 5:
            word = runs.first[first]
            characters = size * (until[word + n] - until[word] + n - 1)  # with a space between two words
            inner = _top(pages.count, runs.page[first], first, size, characters)
        else:
            later = inside.copy()
            later[groups.start] = False
            covered = np.zeros(len(lengths), np.bool_)
            covered[runs.first[groups.order[later]][:, None] + np.arange(n)] = True
            inner = pages.per_page(tokens.page[covered], lengths[covered])
        found[n] = inner / np.maximum(pages.lengths, 1)
        runs = _longer(tokens, runs, np.sort(groups.order[inside]), n)
    return found


def _longer(tokens: Runs, runs: Ngrams, chosen: Whole, n: int) -> Ngrams:
    """The chosen runs of n words with the word after each, where the page has one."""
    after = runs.first[chosen] + n
    chosen = chosen[(after < len(tokens.page)) & (tokens.page.take(after, mode="clip") == runs.page[chosen])]
    keys = mix(runs.key[chosen] + tokens.key[runs.first[chosen] + n])
    return Ngrams(runs.first[chosen], runs.page[chosen], keys)


def _top(count: int, page: Whole, first: Whole, size: Whole, characters: Whole) -> Values:
    """Characters in each page's largest group of equal runs; of several groups the one that begins first."""
    order = np.lexsort((-first, size, page))  # the last entry of a page is its top
    last = order[np.flatnonzero(np.diff(page[order], append=-1))]
    top = np.zeros(count)
    top[page[last]] = characters[last]
    return top


@lru_cache(maxsize=2)
def _repeated(pages: Pages, kind: str) -> tuple[Values, Values]:
    """The share of "lines" or "paragraphs" that stand earlier, and of the page's characters in them."""
    runs: Runs = getattr(pages, kind)
    before = said_before(runs.page, runs.key)
    page = runs.page[before]
    lengths = _characters(pages, runs)[before]
    count = _share(pages.per_page(page), pages.per_page(runs.page))
    return count, _share(pages.per_page(page, lengths), pages.lengths)


@lru_cache(maxsize=2)
def _holding(pages: Pages, digits: bool) -> Mask:
    """Which words hold a letter, or with `digits` a letter or digit."""
    wanted = pages.lettered
    if not digits:
        wanted = wanted & ((pages.bytes < ord("0")) | (pages.bytes > ord("9")))
    return np.logical_or.reduceat(wanted, pages.tokens.start) if len(pages.tokens.start) else wanted[:0]


@lru_cache(maxsize=1)
def _edge_tokens(pages: Pages) -> tuple[Whole, Whole]:
    """Where the first word of each line begins and the last ends; a line of spaces keeps its edges."""
    tokens, lines = pages.tokens, pages.lines
    start = np.append(tokens.start, len(pages.bytes))[np.searchsorted(tokens.start, lines.start)]
    end = np.insert(tokens.end, 0, 0)[np.searchsorted(tokens.end, lines.end, side="right")]
    empty = start >= lines.end
    return np.where(empty, lines.start, start), np.where(empty, lines.end, end)


def _bytes_at(pages: Pages, place: Whole, sign: str) -> Mask:
    """Whether a sign's three bytes stand at each place."""
    found = np.ones(len(place), np.bool_)
    for step, byte in enumerate(sign.encode()):
        found &= pages.bytes[np.clip(place + step, 0, len(pages.bytes) - 1)] == byte
    return found


def _characters(pages: Pages, runs: Runs) -> Whole:
    return pages.characters[runs.end] - pages.characters[runs.start]


def _share(part: NDArray[np.generic], whole: NDArray[np.generic]) -> Values:
    shares: Values = part / np.maximum(whole, 1)
    return shares


_STOP_WORDS = Lexicon(STOP_WORDS)
_FUNCTION_WORDS = Lexicon(" ".join(FUNCTION_WORDS.values()).split())
_LANGUAGE_OF = np.array(
    [number for number, listed in enumerate(FUNCTION_WORDS.values()) for _ in listed.split()]
    + [len(FUNCTION_WORDS)]
)
_BOILERPLATE = Lexicon(BOILERPLATE, 2)
_SENTENCE_ENDS = np.isin(np.arange(256), list(b".!?:;\"')"))
_OTHER_LEADS = bytes(byte for byte in range(0xCA, 0xF5) if byte not in b"\xe2\xef\xf0")
