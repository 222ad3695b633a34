"""The small world's texts in the form in which a model's are kept: id, text, provenance, one line each.

What reads the one reads the other. But where a model's text can only be checked for form, these are true by
construction, a question comes with its answer, and none of the exam is among them.
"""

import random
from collections.abc import Callable, Iterator
from typing import Any

import tinyphi
from tinyphi.data.synthetic.lessons import lesson
from tinyphi.data.synthetic.questions import question
from tinyphi.data.synthetic.stories import story
from tinyphi.data.synthetic.world import World
from tinyphi.errors import InputError


def ruled(kind: str, count: int, seed: int = 0, world: World | None = None) -> Iterator[dict[str, Any]]:
    """So many rows of a kind, one of `KINDS`; each draws from a seed of its own, so any can be made again.

    Raises InputError for a kind that there is not.
    """
    if kind not in KINDS:
        raise InputError(f"There are no texts of kind {kind!r}; the kinds are {', '.join(KINDS)}.")
    world = world or World()
    for number in range(count):
        made = KINDS[kind](world, random.Random(f"{kind} {seed} {number}"))
        provenance = {
            "rules": f"tinyphi.data.synthetic.{kind}",
            "tinyphi": tinyphi.__version__,
            "world": world.seed,
            "seed": seed,
            "number": number,
        }
        yield {"id": f"{kind} / {seed} / {number}", **made, "provenance": provenance}


def _question(world: World, chance: random.Random) -> dict[str, Any]:
    made = question(world, chance)
    return {"text": f"Question: {made.text}\nAnswer: {made.reply}", "answer": made.answer}


KINDS: dict[str, Callable[[World, random.Random], dict[str, Any]]] = {  # each named like its module
    "lessons": lambda world, chance: {"text": lesson(world, chance)},
    "stories": lambda world, chance: {"text": story(world, chance)},
    "questions": _question,
}
