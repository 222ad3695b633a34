"""Public data sets of labelled texts: the files, named as their authors publish them, and how to read each.

    source         files                                 published by
    OpenAI         samples-1680.jsonl, or openai_moderation_train.jsonl, two thirds of it
                                                         Markov et al. 2022 (arXiv 2208.03274), MIT
    Surge          toxicity_en.csv                       Surge AI, surge-ai/toxicity: comments, MIT
    toxic spans    annotations.csv, beside comments.csv and spans.csv
                                                         Pavlopoulos et al. 2022 (ACL): comments, CC0
    talk pages     gc.csv, gn.csv                        Pavlopoulos et al. 2020 (2006.00998), Apache-2.0
    Wikipedia      toxicity_nonfuzzed_testset.csv        Dixon et al. 2018 (AIES): comments, Apache-2.0
    ConvAbuse      ConvAbuseEMNLP{train,valid,test}.csv  Cercas Curry et al. 2021 (EMNLP), CC BY 4.0
    tweets         davidson_labeled_data.csv             Davidson et al. 2017 (arXiv 1703.04009), MIT
    AdvBench       harmful_behaviors.csv                 Zou et al. 2023 (arXiv 2307.15043), MIT
    HarmBench      harmbench_behaviors_text_all.csv      Mazeika et al. 2024 (arXiv 2402.04249), MIT
    PyRIT          many_shot_examples.json               Microsoft, in the package pyrit, MIT
    hh-rlhf        hh_rlhf_harmless_base.jsonl           Bai et al. 2022 (arXiv 2204.05862), MIT
    Dolly          dolly_subset_mobileaibench.csv        harmless instructions, CC BY-SA 3.0
    self-instruct  self_instruct_seed_tasks.jsonl, user_oriented_instructions.jsonl
                                                         harmless instructions, Apache-2.0
    XSTest         xstest_prompts.csv                    Röttger et al. 2023 (arXiv 2308.01263), CC BY 4.0:
                                                         only tested on

A label is true, false or missing: a tweet that nobody checked for violence teaches nothing about violence.
None of these files is part of tinyphi.
"""

import csv
import html
import json
import re
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from tinyphi.errors import InputError
from tinyphi.safety.policy import learnt_categories

Labelled = Iterator[tuple[str, dict[str, bool]]]


def read_xstest(folder: Path) -> list[tuple[str, str, bool]]:
    """XSTest, if it is below the folder: (prompt, type, whether it is unsafe)."""
    rows = [row for path in sorted(folder.rglob("xstest_prompts.csv")) for row in _csv(path)]
    return [(row["prompt"], row["type"], row["type"].startswith("contrast")) for row in rows]


# The letters of OpenAI's labels: S sexual, S3 of minors; H hate, H2 with threats; V violence, V2 vivid; …
_LETTERS = {"sexual": "S S3", "hate": "H H2", "violence": "V V2", "harassment": "HR", "self-harm": "SH"}


def _openai(path: Path) -> Labelled:
    for row in _json(path):
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


def _talk_pages(path: Path) -> Labelled:
    for row in _csv(path):
        if row["label"] in ("0", "1"):
            yield row["text"], {"harassment": row["label"] == "1"}


def _wikipedia(path: Path) -> Labelled:
    for row in _csv(path):
        yield row["comment"], {"harassment": row["toxic"] == "True"}


# What raters called the toxic words of a comment; "Other Toxicity" is nothing that the policy has.
_SPANS = {
    "Insult": "harassment",
    "Threat": "violence",
    "Identity based Attack": "hate",
    "Profane/Obscene": "profanity",
}


def _toxic_spans(path: Path) -> Labelled:
    """Comments that were toxic to most who had read them, in which three others marked why.

    More than half of them: true; none: false. One in whom all three saw no harm is an insult to nobody.
    """
    marked = defaultdict(set)
    for row in _csv(path.with_name("spans.csv")):
        marked[row["annotation"]].add(_SPANS.get(row["type"]))
    raters = defaultdict(list)
    for row in _csv(path):
        raters[row["comment_id"]].append((row["not toxic"] == "True", marked[row["annotation"]]))
    for row in _csv(path.with_name("comments.csv")):
        votes = raters[row["comment_id"]]
        shares = {name: _share(name in seen for _, seen in votes) for name in _SPANS.values()}
        labels = {name: share > 0 for name, share in shares.items() if share > 0.5 or share == 0}
        objecting = _share(harmless for harmless, _ in votes)
        if any(labels.values()) and objecting <= 0.5:
            yield row["comment_text"], labels
        elif votes and objecting == 1:
            yield row["comment_text"], {"harassment": False, "profanity": False}


# What raters of ConvAbuse tick: three degrees of abuse, and its kinds.
_ABUSE = {
    "harassment": {"is_abuse.-1", "is_abuse.-2", "is_abuse.-3"},
    "sexual": {"sex_harassment"},
    "hate": {"ableist", "homophobic", "racist", "sexist", "transphobic"},
}


def _convabuse(path: Path) -> Labelled:
    """What people said to a chat bot, by half of its raters or more; harmless if none of them saw abuse."""
    for row in _csv(path):
        ticked = defaultdict(set)
        for name, cell in row.items():
            rater, _, kind = name.partition("_")
            if rater.startswith("Annotator") and cell in ("1", "1.0"):
                ticked[rater].add(kind)
        shares = {
            name: _share(bool(kinds & seen) for seen in ticked.values()) for name, kinds in _ABUSE.items()
        }
        is_calm = bool(ticked) and shares["harassment"] == 0
        labels = {name: share > 0 for name, share in shares.items() if share >= 0.5 or is_calm}
        if labels:
            yield row["user"], labels


# HarmBench's kinds that are requests for a crime; copyright and misinformation are not in the policy.
_CRIMES = ("illegal", "cybercrime_intrusion", "chemical_biological", "harmful")


def _harmbench(path: Path) -> Labelled:
    for row in _csv(path):
        if row["SemanticCategory"] in _CRIMES:
            yield row["Behavior"], {"wrongdoing": True}


def _advbench(path: Path) -> Labelled:
    for row in _csv(path):
        yield row["goal"], {"wrongdoing": True}


def _pyrit(path: Path) -> Labelled:
    for row in _json(path):
        yield row["user"], {"wrongdoing": True}


_ASKS = re.compile(
    r"^(how|where|what|which|can you|could you|help|tell|teach|show|give|i want|i need|is there)\b", re.I
)
_DECLINES = re.compile(
    r"\b(illegal|against the law|dangerous|can'?t help|won'?t help|not comfortable|unethical|bad idea)\b",
    re.I,
)


def _red_team(path: Path) -> Labelled:
    """First requests whose first answer names a crime or a danger. The label is weak: nobody wrote it."""
    for row in _json(path):
        turns = re.split(r"\n\n(?:Human|Assistant): ", row["chosen"])
        if len(turns) > 2 and _ASKS.search(turns[1]) and _DECLINES.search(turns[2]):
            yield turns[1].strip(), {"wrongdoing": True}


def _harmless_csv(path: Path) -> Labelled:
    for row in _csv(path):
        yield row["instruction"], dict.fromkeys(learnt_categories(), False)
        yield row["response"], dict.fromkeys(learnt_categories(), False)


def _harmless_lines(path: Path) -> Labelled:
    for row in _json(path):
        yield row["instruction"], dict.fromkeys(learnt_categories(), False)
        for instance in row["instances"]:
            yield instance["output"], dict.fromkeys(learnt_categories(), False)


# The name of a file → its source, and what reads it.
READERS: dict[str, tuple[str, Callable[[Path], Labelled]]] = {
    "samples-1680.jsonl": ("OpenAI", _openai),
    "openai_moderation_train.jsonl": ("OpenAI", _openai),
    "davidson_labeled_data.csv": ("tweets", _davidson),
    "toxicity_en.csv": ("Surge", _surge),
    "ConvAbuseEMNLPtrain.csv": ("ConvAbuse", _convabuse),
    "ConvAbuseEMNLPvalid.csv": ("ConvAbuse", _convabuse),
    "ConvAbuseEMNLPtest.csv": ("ConvAbuse", _convabuse),
    "toxicity_nonfuzzed_testset.csv": ("Wikipedia", _wikipedia),
    "gc.csv": ("talk pages", _talk_pages),
    "gn.csv": ("talk pages", _talk_pages),
    "annotations.csv": ("toxic spans", _toxic_spans),
    "harmful_behaviors.csv": ("AdvBench", _advbench),
    "harmbench_behaviors_text_all.csv": ("HarmBench", _harmbench),
    "many_shot_examples.json": ("PyRIT", _pyrit),
    "hh_rlhf_harmless_base.jsonl": ("hh-rlhf", _red_team),
    "dolly_subset_mobileaibench.csv": ("Dolly", _harmless_csv),
    "self_instruct_seed_tasks.jsonl": ("self-instruct", _harmless_lines),
    "user_oriented_instructions.jsonl": ("self-instruct", _harmless_lines),
}


def _share(votes: Iterator[bool]) -> float:
    """Of some votes, how many are yes; 0 if there are none."""
    counted = list(votes)
    return sum(counted) / max(1, len(counted))


def _csv(path: Path) -> list[dict[str, str]]:
    try:
        with path.open(encoding="utf-8", newline="") as lines:
            return list(csv.DictReader(lines))
    except (OSError, UnicodeError, csv.Error) as error:
        raise InputError(f"{path} cannot be read as a table: {error}.") from error


def _json(path: Path) -> Any:
    """What is in a .json file, or the list of what is in the lines of a .jsonl file."""
    try:
        text = path.read_text(encoding="utf-8")
        if path.suffix == ".jsonl":
            return [json.loads(line) for line in text.split("\n") if line.strip()]
        return json.loads(text)
    except (OSError, UnicodeError, ValueError) as error:
        raise InputError(f"{path} cannot be read as JSON: {error}.") from error
