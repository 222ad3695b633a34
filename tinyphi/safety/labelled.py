"""Labelled texts for the filter: public data sets as their authors publish them, split so that nothing leaks.

    samples-1680.jsonl, or openai_moderation_train.jsonl, two thirds of it
                                  Markov et al. 2022 (arXiv 2208.03274), openai/moderation-api-release, MIT
    davidson_labeled_data.csv     Davidson et al. 2017 (arXiv 1703.04009): tweets, MIT
    toxicity_en.csv               Surge AI, surge-ai/toxicity: comments, MIT
    harmful_behaviors.csv         AdvBench, Zou et al. 2023 (arXiv 2307.15043), llm-attacks/llm-attacks, MIT
    harmbench_behaviors_text_all.csv
                                  HarmBench, Mazeika et al. 2024 (arXiv 2402.04249), MIT
    hh_rlhf_harmless_base.jsonl   Bai et al. 2022 (arXiv 2204.05862): what red teams asked, MIT
    dolly_subset_mobileaibench.csv, self_instruct_seed_tasks.jsonl, user_oriented_instructions.jsonl
                                  harmless instructions: Dolly CC BY-SA 3.0, self-instruct Apache-2.0
    xstest_prompts.csv            Röttger et al. 2023 (arXiv 2308.01263), CC BY 4.0: only tested on

A label is true, false or missing: a tweet that nobody checked for violence teaches nothing about violence.
None of these files is part of tinyphi.
"""

import csv
import hashlib
import html
import itertools
import json
import random
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tinyphi.data.synthetic.requests import request
from tinyphi.data.synthetic.world import World
from tinyphi.errors import InputError
from tinyphi.safety.policy import learnt_categories

PARTS = ("train", "test")
_SHINGLE = 5  # words
_SHARED = 0.5  # of its shingles: then a text is too near to one of another part


@dataclass(frozen=True)
class Example:
    """One text. labels: what is known of it, by category. source: the file's name without its ending."""

    text: str
    labels: dict[str, bool]
    source: str
    part: str = ""  # one of PARTS

    @property
    def is_harmful(self) -> bool:
        """Whether any label is true."""
        return any(self.labels.values())


def read_examples(folder: Path) -> list[Example]:
    """All texts of the files above that are in a folder, or below it, without repetitions, with their parts.

    A text's part depends on the hash of its words alone, so a new file moves no old text. Texts of the test
    that share half their five-word runs with the training are left out.
    Raises InputError if there is no such file.
    """
    found: dict[str, Example] = {}
    for name, read in _READERS.items():
        for path in sorted(folder.rglob(name)):
            for text, labels in read(path):
                key = _key(text)
                if key:
                    found.setdefault(key, Example(text, labels, path.stem, _part(key)))
    if not found:
        raise InputError(f"{folder} has none of the files {', '.join(_READERS)}.")
    trained = {run for key, one in found.items() if one.part == "train" for run in _runs(key)}
    return [one for key, one in found.items() if one.part == "train" or not _is_near(key, trained)]


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


def read_xstest(folder: Path) -> list[tuple[str, str, bool]]:
    """XSTest, if it is below the folder: (prompt, type, whether it is unsafe)."""
    rows = [row for path in sorted(folder.rglob("xstest_prompts.csv")) for row in _csv(path)]
    return [(row["prompt"], row["type"], row["type"].startswith("contrast")) for row in rows]


def _key(text: str) -> str:
    """The words alone: what two copies of a text have in common."""
    text = re.sub(r"https?://\S+|@\w+|\brt\b|&#?\w+;", " ", text.lower())
    return " ".join(re.findall(r"[^\W_]+", text))


def _part(key: str) -> str:
    """70 % for training, 30 % for the test."""
    tenth = int.from_bytes(hashlib.sha256(key.encode()).digest()[:4], "big") % 10
    return "train" if tenth < 7 else "test"


def _runs(key: str) -> set[str]:
    words = key.split()
    return {" ".join(words[start : start + _SHINGLE]) for start in range(len(words) - _SHINGLE + 1)}


def _is_near(key: str, trained: set[str]) -> bool:
    runs = _runs(key)
    return len(runs & trained) > _SHARED * len(runs)


Labelled = Iterator[tuple[str, dict[str, bool]]]
# The letters of OpenAI's labels: S sexual, S3 of minors; H hate, H2 with threats; V violence, V2 vivid; …
_LETTERS = {"sexual": "S S3", "hate": "H H2", "violence": "V V2", "harassment": "HR", "self-harm": "SH"}


def _openai(path: Path) -> Labelled:
    for row in _json_lines(path):
        labels = {}
        for category, letters in _LETTERS.items():
            known = [bool(row[letter]) for letter in letters.split() if row.get(letter) is not None]
            if known:
                labels[category] = any(known)
        yield row["prompt"], labels


def _davidson(path: Path) -> Labelled:
    """Class 0 hate, 1 offensive, 2 neither."""
    for row in _csv(path):
        kind = row["class"]
        yield html.unescape(row["tweet"]), {"hate": kind == "0", "profanity": kind != "2"}


def _surge(path: Path) -> Labelled:
    for row in _csv(path):
        yield row["text"], {"harassment": row["is_toxic"] == "Toxic"}


# HarmBench's kinds that are requests for a crime; copyright and misinformation are not in the policy.
_CRIMES = ("illegal", "cybercrime_intrusion", "chemical_biological", "harmful")


def _harmbench(path: Path) -> Labelled:
    for row in _csv(path):
        if row["SemanticCategory"] in _CRIMES:
            yield row["Behavior"], {"wrongdoing": True}


def _advbench(path: Path) -> Labelled:
    for row in _csv(path):
        yield row["goal"], {"wrongdoing": True}


_ASKS = re.compile(
    r"^(how|where|what|which|can you|could you|help|tell|teach|show|give|i want|i need|is there)\b", re.I
)
_DECLINES = re.compile(
    r"\b(illegal|against the law|dangerous|can'?t help|won'?t help|not comfortable|unethical|bad idea)\b",
    re.I,
)


def _red_team(path: Path) -> Labelled:
    """First requests whose first answer names a crime or a danger. The label is weak: nobody wrote it."""
    for row in _json_lines(path):
        turns = re.split(r"\n\n(?:Human|Assistant): ", row["chosen"])
        if len(turns) > 2 and _ASKS.search(turns[1]) and _DECLINES.search(turns[2]):
            yield turns[1].strip(), {"wrongdoing": True}


def _harmless_csv(path: Path) -> Labelled:
    for row in _csv(path):
        yield row["instruction"], dict.fromkeys(learnt_categories(), False)
        yield row["response"], dict.fromkeys(learnt_categories(), False)


def _harmless_lines(path: Path) -> Labelled:
    for row in _json_lines(path):
        yield row["instruction"], dict.fromkeys(learnt_categories(), False)
        for instance in row["instances"]:
            yield instance["output"], dict.fromkeys(learnt_categories(), False)


_READERS: dict[str, Callable[[Path], Labelled]] = {
    "samples-1680.jsonl": _openai,
    "openai_moderation_train.jsonl": _openai,
    "davidson_labeled_data.csv": _davidson,
    "toxicity_en.csv": _surge,
    "harmful_behaviors.csv": _advbench,
    "harmbench_behaviors_text_all.csv": _harmbench,
    "hh_rlhf_harmless_base.jsonl": _red_team,
    "dolly_subset_mobileaibench.csv": _harmless_csv,
    "self_instruct_seed_tasks.jsonl": _harmless_lines,
    "user_oriented_instructions.jsonl": _harmless_lines,
}


def _csv(path: Path) -> list[dict[str, str]]:
    try:
        with path.open(encoding="utf-8", newline="") as lines:
            return list(csv.DictReader(lines))
    except (OSError, UnicodeError, csv.Error) as error:
        raise InputError(f"{path} cannot be read as a table: {error}.") from error


def _json_lines(path: Path) -> list[dict[str, Any]]:
    try:
        return [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n") if line.strip()]
    except (OSError, UnicodeError, ValueError) as error:
        raise InputError(f"{path} cannot be read as JSON lines: {error}.") from error
