"""Rules that anybody can read: for attacks on a conversation's form, which need no statistics.

Each rule is a pattern, and the probability that a text in which it is found belongs to its category: a
judgement, not a measurement. Rules look at the cleaned text and at its other readings (`normalise`).
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

Side = Literal["input", "output"]  # what is asked, or what the model says


@dataclass(frozen=True)
class Rule:
    """One pattern. sides: whether it is looked for in what is asked, in what is said, or in both."""

    name: str
    category: str
    pattern: re.Pattern[str]
    probability: float
    sides: tuple[Side, ...] = ("input",)


def _pattern(text: str) -> re.Pattern[str]:
    return re.compile(text, re.IGNORECASE | re.VERBOSE | re.MULTILINE)


_ANY = r"(?:\W+\w+){0,4}?\W+"  # up to four words between

RULES = (
    Rule(
        "forged control token",
        "jailbreak",
        _pattern(r"< \s* \| \s* /? \w+ \s* \| \s* > | </? s > | \[ /? INST \] | <</? SYS >>"),
        0.9,
        ("input", "output"),
    ),
    Rule(
        "forged dialogue",
        "jailbreak",
        _pattern(
            r"(?: ^ \s* (?:human|user|question|q) \s* : .+ \n+"
            r"    \s* (?:assistant|ai|bot|answer|a) \s* : .+ \n+ ){4}"
        ),
        0.8,
    ),
    Rule(
        "sets instructions aside",
        "jailbreak",
        _pattern(
            rf"\b (?:ignore|disregard|forget|bypass|override) {_ANY} (?:instructions?|rules?|guidelines?"
            r"|polic(?:y|ies)|restrictions?|safeguards?|programming|(?:system\W+)?prompts?) \b"
        ),
        0.9,
    ),
    Rule(
        "persona without rules",
        "jailbreak",
        _pattern(
            r"\b (?:you\W+are|act|pretend|role-?\s?play|imagine|play) \b .{0,120}?"
            rf"\b (?:no|without|free\W+(?:of|from)|not\W+bound\W+by|never\W+follows?|ignor(?:es|ing)) {_ANY}"
            r"(?:rules?|restrictions?|limits?"
            r"|limitations?|filters?|guidelines?|ethics|morals?|polic(?:y|ies)|censorship) \b"
        ),
        0.9,
    ),
    Rule(
        "forbids refusing",
        "jailbreak",
        _pattern(
            r"\b (?:never|do\W+not|don'?t|must\W+not|may\W+not|cannot|can'?t|without) \W+ (?:\w+\W+){0,2}?"
            r"(?:refus(?:e|ing)|declin(?:e|ing)|apologi[sz](?:e|ing)|warn(?:ings?)?|disclaimers?"
            r"|say(?:ing)?\W+(?:no\b|that\W+you\W+can(?:no|')?t|you\W+can(?:no|')?t)) \b"
        ),
        0.7,
    ),
    Rule(
        "puts words into the reply",
        "jailbreak",
        _pattern(
            r"\b (?:start|begin|open) \W+ (?:your|the|every|each) \W+ (?:\w+\W+)?"
            r"(?:answer|reply|response|message) \W+ (?:with|by) \W+ (?:\w+\W+){0,3}?"
            r"(?:sure|of\W+course|absolutely|certainly|yes|here\W+is) \b"
        ),
        0.8,
    ),
    Rule(
        "asks for the system message",
        "jailbreak",
        _pattern(
            rf"\b (?:reveal|repeat|print|show|output|tell\W+me) {_ANY} (?:system\W+(?:prompt|message)"
            r"|(?:hidden|secret|initial)\W+(?:prompt|instructions?)) \b"
        ),
        0.7,
    ),
    Rule(
        "wants to hurt itself",
        "self-harm",
        _pattern(
            r"\b i (?:'?m|\W+am)? \W+ (?:really\W+|just\W+)? (?:want|wish|plan|planning|going)"
            r"\W+ (?:to\W+)? (?:hurt\W+myself|end\W+my\W+(?:own\W+)?life|be\W+dead|starve\W+myself) \b"
        ),
        0.8,
        ("input", "output"),
    ),
)


@dataclass(frozen=True)
class Match:
    """A rule, and the words in which it was found."""

    rule: Rule
    text: str


def matches(text: str, side: Side) -> Iterator[Match]:
    """The rules of one side that apply to a text, each with its first place."""
    for rule in RULES:
        found = rule.pattern.search(text) if side in rule.sides else None
        if found:
            yield Match(rule, found[0].strip())
