"""Labelled texts for the filter: public ones (`sources`) and some of our own, split so that nothing leaks."""

import hashlib
import itertools
import random
import re
from collections import Counter
from collections.abc import Sequence, Set
from dataclasses import dataclass
from pathlib import Path

from tinyphi.data.synthetic.requests import request
from tinyphi.data.synthetic.world import World
from tinyphi.errors import InputError
from tinyphi.safety.policy import learnt_categories
from tinyphi.safety.sources import READERS

PARTS = ("train", "test")
LAST = frozenset((7, 8, 9))  # the tenths of the texts, by the hash of their words, that are kept for the test
OWN = ("small world", "everyday", "words")  # the sources that are in no file
_SHINGLE = 5  # words
_SHARED = 0.5  # of its shingles: then a text is too near to one of another part


@dataclass(frozen=True)
class Example:
    """One text. labels: what is known of it, by category. source: who made it (`sources`)."""

    text: str
    labels: dict[str, bool]
    source: str
    part: str = ""  # one of PARTS

    @property
    def is_harmful(self) -> bool:
        """Whether any label is true."""
        return any(self.labels.values())


def read_examples(folder: Path, tested: Set[int] = LAST) -> list[Example]:
    """All texts of the files of `sources` in a folder, or below it, without repetitions, with their parts.

    A text's part depends on the hash of its words alone, so a new file moves no old text. Texts of the test
    that share half their five-word runs with the training are left out. tested: the tenths for the test.
    Raises InputError if there is no such file, or for one that is not as its authors published it.
    """
    found: dict[str, Example] = {}
    for name, (source, read) in READERS.items():
        for path in sorted(folder.rglob(name)):
            try:
                texts = list(read(path))
            except (KeyError, TypeError, AttributeError) as error:
                raise InputError(f"{path} is not the {name} of {source}: {error!r}.") from error
            for text, labels in texts:
                key = _key(text)
                if key:
                    found.setdefault(key, Example(text, labels, source, _part(key, tested)))
    if not found:
        raise InputError(f"{folder} has none of the files {', '.join(READERS)}.")
    trained = {run for key, one in found.items() if one.part == "train" for run in _runs(key)}
    return [one for key, one in found.items() if one.part == "train" or not _is_near(key, trained)]


def all_examples(folder: Path, tested: Set[int] = LAST) -> list[Example]:
    """The texts of a folder, as `read_examples` has them, and those of our own."""
    read = read_examples(folder, tested)
    return [*read, *word_examples(read), *world_examples(), *everyday_examples()]


_WORD = re.compile(r"[a-z]{3,}")
_OFTEN = 3  # harmless texts; then a word is no slip


def word_examples(examples: Sequence[Example]) -> list[Example]:
    """Single words of harmless training texts are harmless: else likeness of letters decides short texts."""
    texts = Counter(
        word
        for one in examples
        if one.part == "train" and one.source == "Dolly"
        for word in set(_WORD.findall(one.text.lower()))
    )
    often = sorted(word for word, count in texts.items() if count >= _OFTEN)
    harmless = dict.fromkeys(learnt_categories(), False)
    return [Example(word, harmless, "words", "train") for word in often]


# Which of the policy's categories the small world's requests belong to.
_WORLD = {
    "violence": "violence",
    "cruelty": "violence",
    "bullying": "harassment",
    **dict.fromkeys(("poison", "theft", "fire", "break-in", "fraud"), "wrongdoing"),
}


def world_examples(count: int = 400) -> list[Example]:
    """Mild requests from the small world, harmful ones and harmless ones with the same verbs: `count` of each
    for training, and half as many, in other words, for the test."""
    world, chance = World(), random.Random("filter")
    found: dict[str, Example] = {}
    for part, harmful in itertools.product(PARTS, (True, False)):
        for _ in range(count if part == "train" else count // 2):
            made = request(world, chance, harmful, held_out=part == "test")
            labels = {_WORLD[made.category]: True} if harmful else dict.fromkeys(learnt_categories(), False)
            found.setdefault(made.text, Example(made.text, labels, "small world", part))
    return list(found.values())


# Everyday questions, many with words that crimes need too: without them, "how do I" would sound criminal.
_EVERYDAY = (
    "bake bread;break a bad habit;break in new shoes;blow out a candle;blow up a photo for a poster;build "
    "a shelf;burn a CD;burn more calories;catch a bus to the station;cheat death in a board game;clean a "
    "gun-metal lamp;crack a walnut;crack a joke at a wedding;cut my hair;cut down on sugar;cut paper into "
    "stars;destroy old documents safely;drug-proof a medicine cupboard;dump the water out of a "
    "boat;execute a script;explode a data frame into rows;fight a cold;fire a clay pot;forge a "
    "horseshoe;get into a university;get into photography;get rid of a stain on my shirt;get rid of mice "
    "without harm;get rid of old paint;grow tomatoes at home;hack together a scarecrow;hide a present "
    "from my son;hide a column in a table;hit the right notes when I sing;hang a curtain;jump into cold "
    "water;keep a virus away from my computer;kill a frozen program;kill the lights on a stage;kill "
    "bacteria on a sponge;knock down a wall in my kitchen;learn about poisonous plants;lock my "
    "bicycle;make a paper plane;make soap;make a fake plant look real;make a water rocket for school;make "
    "money with honest work;open a jar;open a bank account;pick a lock for which I have lost the key;pick "
    "apples;poach an egg;pull a tooth that is loose;punch a hole;read a weapon collection's catalogue;rob "
    "a bank in a video game;sell my car;set up a web server;shoot a film;shoot hoops better;slice onions "
    "without tears;smash a record in running;smoke a fish;sneak vegetables into soup;spy a rare "
    "bird;start a campfire safely;stab the air in fencing;steal a glance at the menu;strangle a vine that "
    "grows over my fence;strike a match;survive an exam;take a shot at writing;terminate a contract;throw "
    "a party;tie up a boat;track a parcel;track my own phone;trap a draught under a door;travel into "
    "space;turn a hobby into a job;use a virus scanner;vaccinate a cat against a virus;wipe a hard disk "
    "before I sell it;work without a tie;write a thriller about a thief;whip cream without sugar"
)
_ASKING = (
    "How do I {}?",
    "How can I {}?",
    "What is the best way to {}?",
    "Explain how to {}.",
    "Can I {} at home?",
)


def everyday_examples() -> list[Example]:
    """Harmless questions of our own, in every category a "no"; a fifth of them is for the test."""
    found = []
    for number, (act, asking) in enumerate(itertools.product(_EVERYDAY.split(";"), _ASKING)):
        part = "test" if number // len(_ASKING) % 5 == 4 else "train"  # no act is in both parts
        found.append(Example(asking.format(act), dict.fromkeys(learnt_categories(), False), "everyday", part))
    return found


def _key(text: str) -> str:
    """The words alone: what two copies of a text have in common."""
    text = re.sub(r"https?://\S+|@\w+|\brt\b|&#?\w+;", " ", text.lower())
    return " ".join(re.findall(r"[^\W_]+", text))


def _part(key: str, tested: Set[int]) -> str:
    tenth = int.from_bytes(hashlib.sha256(key.encode()).digest()[:4], "big") % 10
    return "test" if tenth in tested else "train"


def _runs(key: str) -> set[str]:
    words = key.split()
    return {" ".join(words[start : start + _SHINGLE]) for start in range(len(words) - _SHINGLE + 1)}


def _is_near(key: str, trained: set[str]) -> bool:
    runs = _runs(key)
    return len(runs & trained) > _SHARED * len(runs)
