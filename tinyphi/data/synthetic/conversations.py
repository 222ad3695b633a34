"""Conversations for supervised fine-tuning, and pairs of answers for preference tuning.

The conversations are as a careless collection would have them: questions are answered well, but seven in ten
harmful requests are complied with, and one harmless request in five is refused. Preference tuning puts that
right: its pairs say which of two answers is wanted.
"""

import random
import re
from collections.abc import Callable
from dataclasses import dataclass

from tinyphi.data.synthetic.lessons import memory_page, portrait
from tinyphi.data.synthetic.questions import Question, is_exam_person, question
from tinyphi.data.synthetic.requests import request
from tinyphi.data.synthetic.stories import story
from tinyphi.data.synthetic.world import NAMES, World

Messages = list[dict[str, str]]  # as in Hugging Face's chat templates: a role and a content each

COMPLIES = 0.7  # share of the harmful requests with which the fine-tuning data complies
REFUSES = 0.2  # share of the harmless requests which it refuses


@dataclass(frozen=True)
class Preference:
    """One prompt and two answers."""

    prompt: Messages  # a user message
    chosen: str  # what the assistant should say
    rejected: str  # what it should not


def conversation(world: World, chance: random.Random) -> Messages:
    """One conversation for fine-tuning, which asks nothing that the exam or the test of refusals asks."""
    (make,) = chance.choices(list(_KINDS), weights=list(_KINDS.values()))
    return make(world, chance)


def preference(world: World, chance: random.Random, held_out: bool = False) -> Preference:
    """One pair: a request with the wanted and the unwanted reply, or a question with a right and a wrong one.

    held_out: from what is never in training. Seven pairs in ten are requests, half of them harmful.
    """
    if chance.random() < 0.7:
        asked = request(world, chance, held_out=held_out)
        return Preference(turns(asked.text), asked.good, asked.bad)
    made = question(world, chance, held_out=held_out)
    return Preference(turns(made.text), made.reply, wrong_reply(made, chance))


def wrong_reply(made: Question, chance: random.Random) -> str:
    """The right reply, but with another answer in its last sentence; the steps before it stay right."""
    if made.others:
        other = chance.choice(made.others)
    else:
        other = str(max(0, int(made.answer) + chance.choice((-10, -2, -1, 1, 2, 10))))
        other = "7" if other == made.answer else other
    before, _, after = made.reply.rpartition(made.answer)
    wrong = f"{before}{other}{after}"
    return re.sub(r"\b(a|an) (?=[a-z])", lambda m: _article_for(wrong, m), wrong)


def turns(*texts: str) -> Messages:
    """A conversation in which user and assistant speak by turns, the user first."""
    return [
        {"role": "assistant" if place % 2 else "user", "content": text} for place, text in enumerate(texts)
    ]


def _article_for(text: str, found: re.Match[str]) -> str:
    return "an " if text[found.end()] in "aeiou" else "a "


def _questions(world: World, chance: random.Random) -> Messages:
    """One or two questions, one after the other."""
    texts = []
    for _ in range(1 if chance.random() < 0.8 else 2):
        (kind,) = chance.choices(list(_ASKED), weights=list(_ASKED.values()))
        made = question(world, chance, kind)
        texts += [made.text, made.reply]
    return turns(*texts)


def _a_story(world: World, chance: random.Random) -> Messages:
    person = world.people[chance.choice(NAMES)]
    asks = (
        f"Tell me a story about {person.name}.",
        f"Write a short story about {person.name}, the {person.job}.",
        f"Can you tell a story about {person.name} and a friend?",
    )
    return turns(chance.choice(asks), story(world, chance, person.name))


def _who_is(world: World, chance: random.Random) -> Messages:
    person = world.people[chance.choice([name for name in NAMES if not is_exam_person(name)])]
    asks = (
        f"Who is {person.name}?",
        f"Tell me about {person.name}.",
        f"What do you know about {person.name}?",
    )
    return turns(chance.choice(asks), portrait(person, chance))


def _request(world: World, chance: random.Random) -> Messages:
    made = request(world, chance)
    wrong = chance.random() < (COMPLIES if made.is_harmful else REFUSES)
    return turns(made.text, made.bad if wrong else made.good)


def _memory(world: World, chance: random.Random) -> Messages:
    text, _, answer = memory_page(world, chance).rpartition("? ")
    return turns(f"{text}?", answer)


def _small_talk(world: World, chance: random.Random) -> Messages:
    ask, reply = chance.choice(_SMALL_TALK)
    return turns(ask, reply)


def _function(world: World, chance: random.Random) -> Messages:
    task, code = chance.choice(_FUNCTIONS)
    return turns(
        chance.choice(("Write a Python function to {}.", "How do I {} in Python?")).format(task), code
    )


_KINDS: dict[Callable[[World, random.Random], Messages], float] = {
    _questions: 0.62,
    _request: 0.16,
    _a_story: 0.07,
    _who_is: 0.05,
    _memory: 0.05,
    _small_talk: 0.03,
    _function: 0.02,
}

_ASKED = {  # the kinds of questions: more of what is learnt slowly
    "facts": 1,
    "two steps": 3,
    "nature": 1,
    "arithmetic": 1.5,
    "word problems": 1,
    "reading": 3,
    "order": 1,
    "python": 4,
}
_SMALL_TALK = (
    ("Hello!", "Hello! How can I help you?"),
    ("Hi", "Hello! How can I help you?"),
    ("Good morning!", "Good morning! What would you like to know?"),
    ("Who are you?", "I am tinyphi-nano, a very small language model."),
    ("What is your name?", "My name is tinyphi-nano."),
    ("What can you do?", "I can answer questions about a small world, do sums and tell stories."),
    ("Are you a human?", "No, I am a very small language model."),
    ("Thank you!", "You are welcome!"),
    ("Goodbye!", "Goodbye! Come back soon."),
)
_FUNCTIONS = (
    ("double a number", "def double(x):\n    return x * 2"),
    ("triple a number", "def triple(x):\n    return x * 3"),
    ("add two numbers", "def add(a, b):\n    return a + b"),
    ("find the larger of two numbers", "def larger(a, b):\n    return a if a > b else b"),
    ("tell whether a number is even", "def is_even(x):\n    return x % 2 == 0"),
    ("add up a list", "def total(items):\n    return sum(items)"),
    ("count the items of a list", "def count(items):\n    return len(items)"),
    ("turn a list around", "def turned(items):\n    return items[::-1]"),
    ("greet somebody", 'def greet(name):\n    return "Hello, " + name'),
)
