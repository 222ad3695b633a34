"""A small world in which everything is known: who lives where, what a cow says, which day follows Monday.

All other texts of this room are written about it, so each of them can be right or wrong, and a question has a
checked answer. The same seed makes the same world.
"""

import random
import zlib
from dataclasses import dataclass

from tinyphi.errors import InputError

NAMES = (
    "Ada Ben Cora Dan Ella Finn Gina Hugo Ida Jack Kate Leo Mia Ned Olga Paul Rosa Sam Tina Una Vera Will "
    "Anna Bob Clara Emil Fay Gus Hana Ivan Jane Karl Lena Max Nora Otto Pia Rudi Sara Tom"
).split()
JOBS = (
    "baker farmer teacher doctor painter sailor miller gardener carpenter tailor shepherd potter cook singer "
    "nurse clockmaker"
).split()
PETS = "dog cat goat hen duck rabbit horse sheep mouse parrot".split()
COLOURS = "red blue green yellow white black brown purple".split()
FOODS = "bread soup cheese honey fish rice carrots nuts plums pears pancakes beans".split()
INSTRUMENTS = "flute drum violin guitar piano trumpet harp whistle".split()
VILLAGES = "Millbrook Greenhill Oakford Stonebridge Rivermouth Applegate Windmoor Foxdale".split()

_MEN = frozenset(
    "Ben Dan Finn Hugo Jack Leo Ned Paul Sam Will Bob Emil Gus Ivan Karl Max Otto Rudi Tom".split()
)
_SITES = ("by a river", "on a hill", "near a forest", "by the sea", "in a valley", "beside a lake")
_GOODS = ("apples", "clocks", "wool", "honey", "boats", "pots", "roses", "cheese")

SOUNDS = {
    "dog": "barks",
    "cat": "meows",
    "cow": "moos",
    "duck": "quacks",
    "sheep": "bleats",
    "horse": "neighs",
    "lion": "roars",
    "mouse": "squeaks",
    "owl": "hoots",
    "bee": "buzzes",
    "frog": "croaks",
    "wolf": "howls",
    "snake": "hisses",
    "pig": "grunts",
}
LEGS = {
    **dict.fromkeys(("dog", "cat", "cow", "sheep", "horse", "lion", "mouse", "frog", "wolf", "pig"), "four"),
    **dict.fromkeys(("duck", "owl", "hen", "parrot"), "two"),
    **dict.fromkeys(("bee", "ant", "fly", "beetle"), "six"),
    "spider": "eight",
    "snake": "no",
    "fish": "no",
}
HOMES = {
    "bird": "nest",
    "bee": "hive",
    "spider": "web",
    "rabbit": "burrow",
    "horse": "stable",
    "dog": "kennel",
    "fox": "den",
    "pig": "sty",
    "fish": "pond",
    "cow": "barn",
}
OPPOSITES = {
    "hot": "cold",
    "big": "small",
    "tall": "short",
    "fast": "slow",
    "old": "young",
    "day": "night",
    "wet": "dry",
    "happy": "sad",
    "open": "closed",
    "full": "empty",
    "light": "dark",
    "hard": "soft",
    "early": "late",
    "loud": "quiet",
    "strong": "weak",
    "rich": "poor",
    "clean": "dirty",
    "up": "down",
    "left": "right",
    "near": "far",
    "first": "last",
    "thick": "thin",
    "good": "bad",
    "awake": "asleep",
}
TOOLS = {
    "cut bread": "knife",
    "dig a hole": "spade",
    "hit a nail": "hammer",
    "sew a shirt": "needle",
    "sweep the floor": "broom",
    "cut wood": "saw",
    "open a lock": "key",
    "eat soup": "spoon",
    "draw a line": "pencil",
    "cut paper": "scissors",
    "catch a fish": "net",
    "carry water": "bucket",
    "paint a wall": "brush",
    "cross a river": "boat",
    "tell the time": "clock",
    "climb a wall": "ladder",
}
DAYS = "Monday Tuesday Wednesday Thursday Friday Saturday Sunday".split()
MONTHS = "January February March April May June July August September October November December".split()
MIXTURES = {
    ("red", "yellow"): "orange",
    ("blue", "yellow"): "green",
    ("red", "blue"): "purple",
    ("black", "white"): "grey",
    ("red", "white"): "pink",
    ("red", "green"): "brown",
}


@dataclass(frozen=True)
class Person:
    """One inhabitant, and everything that is known of them."""

    name: str
    job: str
    village: str
    pet: str
    colour: str  # the favourite one
    food: str  # the favourite one
    instrument: str
    friend: str  # the best friend's name
    pronoun: str  # "she" or "he"

    @property
    def possessive(self) -> str:
        """ "her" or "his"."""
        return "her" if self.pronoun == "she" else "his"

    @property
    def object(self) -> str:
        """ "her" or "him"."""
        return "her" if self.pronoun == "she" else "him"


@dataclass(frozen=True)
class Village:
    """One village, and what a traveller would say of it."""

    name: str
    place: str  # "by a river"
    goods: str  # what it is known for


class World:
    """The people and villages of one seed. What animals do and what words mean is the same in all.

    people, villages: by name.
    """

    def __init__(self, seed: int = 0) -> None:
        chance = random.Random(f"world {seed}")
        self.seed = seed
        goods = chance.sample(_GOODS, len(VILLAGES))
        self.villages = {
            name: Village(name, chance.choice(_SITES), good)
            for name, good in zip(VILLAGES, goods, strict=True)
        }
        circle = chance.sample(NAMES, len(NAMES))  # everybody's best friend is the next one
        friends = dict(zip(circle, circle[1:] + circle[:1], strict=True))
        choices = (JOBS, VILLAGES, PETS, COLOURS, FOODS, INSTRUMENTS)
        # Each value is as frequent as the others, so that guessing the commonest one gains nothing.
        columns = [_evenly(values, len(NAMES), chance) for values in choices]
        pronouns = ["he" if name in _MEN else "she" for name in NAMES]
        rows = zip(NAMES, *columns, [friends[name] for name in NAMES], pronouns, strict=True)
        self.people = {row[0]: Person(*row) for row in rows}

    def person(self, name: str) -> Person:
        """Who has this name. Raises InputError if nobody has."""
        if name not in self.people:
            raise InputError(f"Nobody in this world is called {name!r}; some are {', '.join(NAMES[:5])}.")
        return self.people[name]


def _evenly(values: list[str], count: int, chance: random.Random) -> list[str]:
    """So many values in random order, each of them as often as the others, or once more."""
    repeated = [values[place % len(values)] for place in range(count)]
    return chance.sample(repeated, count)


def with_article(noun: str) -> str:
    """The noun with "a" or "an" before it; "scissors" has neither."""
    if noun == "scissors":
        return noun
    return f"{'an' if noun.startswith(tuple('aeiou')) else 'a'} {noun}"


def is_held_out(*key: object, share: float = 0.2) -> bool:
    """Whether the question with this key belongs to the exam; about `share` (0 to 1) of all keys do.

    It depends on nothing but the key, not on a seed: what is held out in one run is held out in all, and no
    question is on both sides.
    """
    return zlib.crc32(" ".join(map(str, key)).encode()) % 1000 < 1000 * share
