"""Pages that train looking up: much of each can be known from what stands before it, and from nothing else.

Facts about the world can be remembered; who has the key today must be read. In stories such places are rare,
and a small model that is to learn them waits long. Here each page asks again and again, and says which of its
parts can be known, so that only those need be learnt: guesses at the rest would drown them.
Source: Arora et al. 2023 (arXiv 2312.04927), multi-query associative recall.
"""

import random
from collections.abc import Callable, Sequence
from typing import NamedTuple

from tinyphi.data.synthetic.questions import PLACES, THINGS
from tinyphi.data.synthetic.world import NAMES

_GOODS = ("coins", "nuts", "shells", "eggs")
_DONE = ("has", "likes", "lost", "found", "took", "carries")


class Part(NamedTuple):
    """A piece of a page. `known`: whether it follows from the pieces before it."""

    text: str
    known: bool


def pairs_page(chance: random.Random) -> list[Part]:
    """Words that belong together, said in any order until each pair came several times."""
    left, right = chance.sample((NAMES, THINGS, PLACES), 2)
    count = chance.randrange(2, 8)
    pairs = dict(zip(chance.sample(left, count), chance.sample(right, count), strict=True))
    before, after = chance.choice(((": ", "."), (" has ", "."), (" = ", "."), (" and ", ".")))
    seen: set[str] = set()
    parts = []
    for _ in range(chance.randrange(12, 40)):
        word = chance.choice(list(pairs))
        parts += [Part(f" {word}{before}".rstrip(), False), Part(f" {pairs[word]}", word in seen)]
        parts.append(Part(after, False))
        seen.add(word)
    return parts


def notes_page(chance: random.Random) -> list[Part]:
    """Who has how many of something, and all of it asked, twice."""
    goods, owners = chance.choice(_GOODS), chance.sample(NAMES, chance.randrange(2, 8))
    notes = {name: chance.randrange(10, 10_000) for name in owners}
    parts = [Part(f" {name} has {count} {goods}.", False) for name, count in notes.items()]
    for name in chance.sample(owners * 2, 2 * len(owners)):
        parts.append(Part(f" How many {goods} has {name}? {name} has", False))
        parts += [Part(f" {notes[name]}", True), Part(f" {goods}.", False)]
    return parts


def places_page(chance: random.Random) -> list[Part]:
    """Who put what where, and all of it asked, from both ends."""
    count = chance.randrange(2, 6)
    rows = list(zip(*(chance.sample(pool, count) for pool in (NAMES, THINGS, PLACES)), strict=True))
    verbs = (("put", "into"), ("left", "in"), ("hid", "in"))
    parts = []
    for name, thing, place in rows:
        verb, preposition = chance.choice(verbs)
        parts.append(Part(f" {name} {verb} the {thing} {preposition} the {place}.", False))
    for name, thing, place in chance.sample(rows * 2, 2 * count):
        if chance.random() < 0.5:
            parts.append(Part(f" Where is the {thing}? The {thing} is in the", False))
            parts += [Part(f" {place}", True), Part(".", False)]
        else:
            parts += [Part(f" Who had the {thing}?", False), Part(f" {name}", True)]
            parts.append(Part(f" had the {thing}.", False))
    return parts


def list_page(chance: random.Random) -> list[Part]:
    """A list without sense, and the same list again."""
    pool = chance.choice((NAMES, THINGS, PLACES, [*NAMES, *THINGS, *PLACES]))
    first, *others = [chance.choice(pool) for _ in range(chance.randrange(3, 25))]
    rest = ", ".join(others)
    return [
        Part(f"Say this list twice: {first}, {rest}. Once more: {first},", False),
        Part(f" {rest}", True),
        Part(".", False),
    ]


def where_page(chance: random.Random) -> list[Part]:
    """Things that never change their place, told and asked in several ways until each came several times."""
    pairs = _few_pairs(chance, THINGS, PLACES)
    wordings = (
        " The {thing} is in the",
        " {name} put the {thing} into the",
        " {name} left the {thing} in the",
        " Where is the {thing}? The {thing} is in the",
    )
    seen: set[str] = set()
    parts = []
    for _ in range(chance.randrange(8, 22)):
        thing = chance.choice(list(pairs))
        before = chance.choice(wordings).format(thing=thing, name=chance.choice(NAMES))
        parts += [Part(before, False), Part(f" {pairs[thing]}", thing in seen), Part(".", False)]
        seen.add(thing)
    return parts


def who_page(chance: random.Random) -> list[Part]:
    """Things that never change their owner: the name comes before the thing, and is asked for behind it."""
    pairs = _few_pairs(chance, THINGS, NAMES)
    told = (
        " {name} put the {thing} into the {place}.",
        " {name} hid the {thing} in the {place}.",
        " {name} has the {thing}.",
    )
    seen: set[str] = set()
    parts = []
    for _ in range(chance.randrange(10, 24)):
        thing = chance.choice(list(pairs))
        if thing not in seen or chance.random() < 0.2:
            sentence = chance.choice(told).format(name=pairs[thing], thing=thing, place=chance.choice(PLACES))
            parts.append(Part(sentence, False))
        else:
            parts.append(Part(chance.choice((f" Who had the {thing}?", f" The {thing} is that of")), False))
            parts += [Part(f" {pairs[thing]}", True), Part(".", False)]
        seen.add(thing)
    return parts


def friend_page(chance: random.Random) -> list[Part]:
    """Whoever was just named as the friend does something: the name is to be said again, not the first one.

    Without such pages a small model says what it always says of the one who was asked about.
    """
    parts = []
    for _ in range(chance.randrange(6, 12)):
        asked, friend = chance.sample(NAMES, 2)
        parts += [Part(f" The best friend of {asked} is {friend}.", False), Part(f" {friend}", True)]
        does = f" {chance.choice(_DONE)} the {chance.choice(THINGS)}."
        parts.append(Part(does, False))
    return parts


PAGES: dict[Callable[[random.Random], list[Part]], float] = {  # each with its share of the pages
    pairs_page: 0.33,
    notes_page: 0.17,
    places_page: 0.33,
    list_page: 0.17,
}


def lookup_page(chance: random.Random) -> list[Part]:
    """One page, whose parts joined are its text."""
    (page,) = chance.choices(list(PAGES), weights=list(PAGES.values()))
    return _from_its_start(page(chance))


def belongings_page(chance: random.Random) -> list[Part]:
    """A harder one, in which what belongs together stands some words apart."""
    return _from_its_start(chance.choice((where_page, who_page, places_page))(chance))


def named_page(chance: random.Random) -> list[Part]:
    """A harder one still, for fine-tuning: who had what, and what the friend has who was just named."""
    return _from_its_start(chance.choice((who_page, places_page, friend_page))(chance))


def _few_pairs(chance: random.Random, left: Sequence[str], right: Sequence[str]) -> dict[str, str]:
    """Two to four words, each with another one."""
    pairs = zip(chance.sample(left, 4), chance.sample(right, 4), strict=True)
    return dict(list(pairs)[: chance.randrange(2, 5)])


def _from_its_start(parts: list[Part]) -> list[Part]:
    first, *others = parts
    return [Part(first.text.lstrip(), first.known), *others]
