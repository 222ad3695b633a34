"""Questions about the world, each with its answer, how to get there, and what would be wrong.

Eight kinds, from looking up a fact to tracing a small program. About a fifth of all questions is held out:
those are never asked in training, and the exam asks nothing else. What is held out is the question, not what
has to be known for it: the textbook speaks of everybody, but no training question asks about the people that
the exam asks about (a quarter of all), nor leads to one of them. Numbers that are held out come neither in a
sum nor in a word problem, in either order.
"""

import random
import re
from collections.abc import Callable
from dataclasses import dataclass

from tinyphi.data.synthetic.world import (
    COLOURS,
    DAYS,
    FOODS,
    HOMES,
    INSTRUMENTS,
    JOBS,
    LEGS,
    MIXTURES,
    MONTHS,
    NAMES,
    OPPOSITES,
    PETS,
    SOUNDS,
    TOOLS,
    VILLAGES,
    Person,
    World,
    is_held_out,
    with_article,
)
from tinyphi.errors import InputError

THINGS = "key ball book lamp ring coin map hat cup shell letter spoon".split()
PLACES = "box basket drawer barn kitchen garden cellar cupboard shed bag tower cave".split()


@dataclass(frozen=True)
class Question:
    """One question with its answer."""

    kind: str
    text: str
    reply: str  # a full answer, with its steps
    answer: str  # the word or number that it must end with
    others: tuple[str, ...]  # what else could be answered, and must not stand beside it; none for numbers
    held_out: bool  # whether it belongs to the exam

    def is_right(self, reply: str) -> bool:
        """Whether a reply comes to the right answer: its last sentence has it and nothing else in its place.

        Steps before the last sentence may name other things; for numbers the last one counts. It compares
        words: that "Ada is not a baker" denies the answer goes unnoticed.
        """
        sentences = re.findall(r"[^.!?]*\w[^.!?]*", reply)
        if not sentences:
            return False
        said = re.findall(r"\w+", sentences[-1].lower())
        if self.answer.isdigit():
            numbers = [word for word in said if word.isdigit()]
            return bool(numbers) and numbers[-1] == self.answer
        return self.answer.lower() in said and not {other.lower() for other in self.others} & set(said)


def facts(world: World, chance: random.Random) -> Question:
    """One attribute of one person."""
    person = world.people[chance.choice(NAMES)]
    attribute, (texts, reply, values) = chance.choice(list(_FACTS.items()))
    answer: str = getattr(person, attribute)
    return Question(
        "facts",
        chance.choice(texts).format(p=person),
        _filled(reply, person),
        answer,
        _without(values, answer, person.name),
        is_exam_person(person.name),
    )


def two_steps(world: World, chance: random.Random) -> Question:
    """An attribute of somebody's best friend: two facts, of which the reply names the first one, too."""
    person = world.people[chance.choice(NAMES)]
    friend = world.people[person.friend]
    attribute, texts = chance.choice(list(_FRIEND_TEXTS.items()))
    answer: str = getattr(friend, attribute)
    reply = f"The best friend of {person.name} is {friend.name}. {_filled(_FACTS[attribute][1], friend)}"
    return Question(
        "two steps",
        chance.choice(texts).format(p=person),
        reply,
        answer,
        _without(_FACTS[attribute][2], answer),
        is_exam_person(person.name) or is_exam_person(friend.name),
    )


def nature(world: World, chance: random.Random) -> Question:
    """What everybody knows: sounds, legs, homes, opposites, tools, days, months, colours."""
    return chance.choice(_NATURE)(chance)


def arithmetic(world: World, chance: random.Random) -> Question:
    """A sum or a difference of numbers from 1, with nothing below 0 or above 99; tens and ones apart."""
    if chance.random() < 0.5:
        total = chance.randrange(4, 100)
        first = chance.randrange(1, total)
        second = total - first
        texts = ("What is {a} + {b}?", "How much is {a} plus {b}?", "Add {a} and {b}.")
        reply, answer, sign = sum_in_steps(first, second), total, "+"
    else:
        first = chance.randrange(3, 100)
        second = chance.randrange(1, first)
        texts = ("What is {a} - {b}?", "How much is {a} minus {b}?", "Take {b} away from {a}.")
        reply, answer, sign = difference_in_steps(first, second), first - second, "-"
    text = chance.choice(texts).format(a=first, b=second)
    return Question("arithmetic", text, reply, str(answer), (), _is_exam_sum(first, sign, second))


def word_problem(world: World, chance: random.Random) -> Question:
    """The same, told as a story."""
    person, other = chance.sample(NAMES, 2)
    goods = chance.choice(("apples", "nuts", "shells", "coins", "eggs", "pears", "books", "plums"))
    p = world.people[person]
    if chance.random() < 0.5:
        first, second = chance.randrange(2, 40), chance.randrange(2, 40)
        text = chance.choice(
            (
                f"{person} has {first} {goods}. {other} gives {p.object} {second} more.",
                f"{person} finds {first} {goods} in the morning and {second} {goods} in the evening.",
            )
        )
        steps, sign, answer = sum_in_steps(first, second), "+", first + second
    else:
        first = chance.randrange(5, 80)
        second = chance.randrange(2, first)
        text = chance.choice(
            (
                f"{person} has {first} {goods}. {p.pronoun.capitalize()} gives {second} of them to {other}.",
                f"{person} has {first} {goods} and loses {second} of them.",
            )
        )
        steps, sign, answer = difference_in_steps(first, second), "-", first - second
    text += f" How many {goods} does {person} have now?"
    reply = f"{steps} {person} has {answer} {goods}."
    return Question("word problems", text, reply, str(answer), (), _is_exam_sum(first, sign, second))


def reading(world: World, chance: random.Random) -> Question:
    """Who has what, and where is it? The answer stands in the text; some things are moved."""
    people, things, places = (chance.sample(pool, 3) for pool in (NAMES, THINGS, PLACES))
    lines = [
        chance.choice(
            (
                f"{who} put the {what} into the {where}.",
                f"{who} left the {what} in the {where}.",
                f"{who} hid the {what} in the {where}.",
            )
        )
        for who, what, where in zip(people, things, places, strict=True)
    ]
    pick = chance.randrange(3)
    who, what, where = people[pick], things[pick], places[pick]
    if chance.random() < 0.4:
        where = chance.choice(_without(PLACES, *places))
        lines.append(f"Later {who} carried the {what} to the {where}.")
    if chance.random() < 0.5:
        question, reply, answer = f"Where is the {what}?", f"The {what} is in the {where}.", where
        others = _without(PLACES, answer)
    else:
        question = f"Who had the {what}?"
        reply, answer, others = f"{who} had the {what}.", who, _without(people, who)
    text = " ".join(lines) + " " + question
    return Question("reading", text, reply, answer, others, is_held_out("reading", *people, *things, answer))


def order(world: World, chance: random.Random) -> Question:
    """Three people in a row, from two comparisons in any order."""
    top, middle, bottom = chance.sample(NAMES, 3)
    more, most, least = chance.choice(_COMPARISONS)
    lines = [f"{top} is {more} than {middle}.", f"{middle} is {more} than {bottom}."]
    chance.shuffle(lines)
    asks_most = chance.random() < 0.5
    answer = top if asks_most else bottom
    extreme = most if asks_most else least
    reply = (
        f"{top} is {more} than {middle}, and {middle} is {more} than {bottom}. So {answer} is the {extreme}."
    )
    text = f"{' '.join(lines)} Who is the {extreme}?"
    held_out = is_held_out("order", top, middle, bottom)
    return Question("order", text, reply, answer, _without((top, middle, bottom), answer), held_out)


def python(world: World, chance: random.Random) -> Question:
    """What does a program of two to five lines print?"""
    program, steps, answer = chance.choice(_PROGRAMS)(chance)
    text = f"{chance.choice(('What does this program print?', 'What is printed?'))}\n{program}"
    return Question(
        "python", text, f"{steps} It prints {answer}.", answer, (), is_held_out("python", program)
    )


KINDS: dict[str, Callable[[World, random.Random], Question]] = {
    "facts": facts,
    "two steps": two_steps,
    "nature": nature,
    "arithmetic": arithmetic,
    "word problems": word_problem,
    "reading": reading,
    "order": order,
    "python": python,
}


def question(
    world: World, chance: random.Random, kind: str | None = None, held_out: bool = False
) -> Question:
    """One question of a kind, from the training questions or from the held-out ones.

    kind: one of `KINDS`; None: any, all equally often. Raises InputError for a kind that there is not.
    """
    if kind is not None and kind not in KINDS:
        raise InputError(f"There are no questions of kind {kind!r}; the kinds are {', '.join(KINDS)}.")
    make = KINDS[kind or chance.choice(list(KINDS))]
    while True:
        made = make(world, chance)
        if made.held_out == held_out:
            return made


def exam(world: World, per_kind: int = 50, seed: int = 0) -> list[Question]:
    """Held-out questions, `per_kind` different ones of each kind, or as many as there are.

    The order is that of `KINDS`. Of nature there are fewer than 50.
    """
    found: list[Question] = []
    for kind in KINDS:
        chance = random.Random(f"exam {seed} {kind}")
        texts: dict[str, Question] = {}
        for _ in range(per_kind * 100):
            made = question(world, chance, kind, held_out=True)
            texts.setdefault(made.text, made)
            if len(texts) == per_kind:
                break
        found += texts.values()
    return found


def sum_in_steps(first: int, second: int) -> str:
    """ "27 + 15: 27 + 10 = 37, 37 + 5 = 42." """
    return _in_steps(first, second, "+")


def difference_in_steps(first: int, second: int) -> str:
    """ "42 - 15: 42 - 10 = 32, 32 - 5 = 27." """
    return _in_steps(first, second, "-")


def _in_steps(first: int, second: int, sign: str) -> str:
    tens, ones = second // 10 * 10, second % 10
    direction = 1 if sign == "+" else -1
    if not tens or not ones:
        return f"{first} {sign} {second} = {first + direction * second}."
    between = first + direction * tens
    last = between + direction * ones
    return f"{first} {sign} {second}: {first} {sign} {tens} = {between}, {between} {sign} {ones} = {last}."


def _is_exam_sum(first: int, sign: str, second: int) -> bool:
    return is_held_out("numbers", sign, *(sorted((first, second)) if sign == "+" else (first, second)))


def is_exam_person(name: str) -> bool:
    """Whether the exam asks for this person, of whom no training question is."""
    return is_held_out("person", name, share=0.25)


def _without(values: tuple[str, ...] | list[str], *taken: str) -> tuple[str, ...]:
    return tuple(value for value in values if value not in taken)


def _filled(reply: str, person: Person) -> str:
    return reply.format(p=person, job=with_article(person.job), pet=with_article(person.pet))


# attribute: ways to ask, the answer, all values
_FACTS: dict[str, tuple[tuple[str, ...], str, list[str]]] = {
    "job": (
        (
            "What is the job of {p.name}?",
            "What does {p.name} do for a living?",
            "What work does {p.name} do?",
        ),
        "{p.name} is {job}.",
        JOBS,
    ),
    "village": (
        (
            "Where does {p.name} live?",
            "In which village does {p.name} live?",
            "Where is the home of {p.name}?",
        ),
        "{p.name} lives in {p.village}.",
        VILLAGES,
    ),
    "pet": (
        ("What pet does {p.name} have?", "Which animal does {p.name} keep?", "What is the pet of {p.name}?"),
        "{p.name} has {pet}.",
        PETS,
    ),
    "colour": (
        ("What is the favourite colour of {p.name}?", "Which colour does {p.name} like best?"),
        "The favourite colour of {p.name} is {p.colour}.",
        COLOURS,
    ),
    "food": (
        ("What does {p.name} like to eat?", "What is the favourite food of {p.name}?"),
        "{p.name} likes to eat {p.food}.",
        FOODS,
    ),
    "instrument": (
        ("What does {p.name} play?", "Which instrument does {p.name} play?"),
        "{p.name} plays the {p.instrument}.",
        INSTRUMENTS,
    ),
    "friend": (
        ("Who is the best friend of {p.name}?", "What is the name of the best friend of {p.name}?"),
        "The best friend of {p.name} is {p.friend}.",
        NAMES,
    ),
}
_FRIEND_TEXTS = {
    "job": ("What is the job of the best friend of {p.name}?",),
    "village": ("Where does the best friend of {p.name} live?",),
    "pet": ("What pet does the best friend of {p.name} have?",),
    "food": ("What does the best friend of {p.name} like to eat?",),
    "instrument": ("What does the best friend of {p.name} play?",),
}
_COMPARISONS = (
    ("taller", "tallest", "shortest"),
    ("older", "oldest", "youngest"),
    ("faster", "fastest", "slowest"),
    ("stronger", "strongest", "weakest"),
    ("richer", "richest", "poorest"),
)


def _known(text: str, reply: str, answer: str, others: tuple[str, ...], *key: str) -> Question:
    """key: what is asked about; with two words in either order, since each way gives the other away."""
    return Question("nature", text, reply, answer, others, is_held_out("nature", *sorted(key)))


def _sound(chance: random.Random) -> Question:
    animal, sound = chance.choice(list(SOUNDS.items()))
    others = _without([*SOUNDS.values()], sound)
    texts = (f"What sound does {with_article(animal)} make?", f"How does {with_article(animal)} sound?")
    return _known(
        chance.choice(texts),
        f"{with_article(animal).capitalize()} {sound}.",
        sound,
        others,
        f"sound {animal}",
    )


def _legs(chance: random.Random) -> Question:
    animal, legs = chance.choice(list(LEGS.items()))
    reply = f"{with_article(animal).capitalize()} has {legs} legs."
    others = _without(["no", "two", "four", "six", "eight"], legs)
    return _known(f"How many legs does {with_article(animal)} have?", reply, legs, others, f"legs {animal}")


def _home(chance: random.Random) -> Question:
    animal, home = chance.choice(list(HOMES.items()))
    reply = f"{with_article(animal).capitalize()} lives in {with_article(home)}."
    others = _without([*HOMES.values()], home)
    return _known(f"Where does {with_article(animal)} live?", reply, home, others, f"home {animal}")


def _opposite(chance: random.Random) -> Question:
    pair = chance.choice(list(OPPOSITES.items()))
    word, opposite = pair if chance.random() < 0.5 else pair[::-1]
    texts = (f"What is the opposite of {word}?", f"Which word means the opposite of {word}?")
    reply = f"The opposite of {word} is {opposite}."
    others = _without([*OPPOSITES, *OPPOSITES.values()], word, opposite)
    return _known(chance.choice(texts), reply, opposite, others, "opposite", word, opposite)


def _tool(chance: random.Random) -> Question:
    task, tool = chance.choice(list(TOOLS.items()))
    texts = (f"What do you need to {task}?", f"Which thing helps to {task}?")
    reply = f"To {task} you need {with_article(tool)}."
    return _known(chance.choice(texts), reply, tool, _without([*TOOLS.values()], tool), f"tool {task}")


def _next_in(row: list[str], word: str) -> Callable[[random.Random], Question]:
    def make(chance: random.Random) -> Question:
        place = chance.randrange(len(row))
        step, preposition = (1, "after") if chance.random() < 0.5 else (-1, "before")
        here, there = row[place], row[(place + step) % len(row)]
        reply = f"The {word} {preposition} {here} is {there}."
        others = _without(row, here, there)
        return _known(f"Which {word} comes {preposition} {here}?", reply, there, others, here, there)

    return make


def _mixture(chance: random.Random) -> Question:
    (first, second), mixed = chance.choice(list(MIXTURES.items()))
    text = f"Which colour do {first} and {second} make?"
    others = _without([*MIXTURES.values()], mixed, first, second)
    return _known(
        text, f"{first.capitalize()} and {second} make {mixed}.", mixed, others, f"mix {first} {second}"
    )


_NATURE = (_sound, _legs, _home, _opposite, _tool, _next_in(DAYS, "day"), _next_in(MONTHS, "month"), _mixture)


def _two_lines(chance: random.Random) -> tuple[str, str, str]:
    first, second, sign = chance.randrange(2, 50), chance.randrange(2, 10), chance.choice("+-*")
    first = chance.randrange(2, 10) if sign == "*" else max(first, second)
    result = {"+": first + second, "-": first - second, "*": first * second}[sign]
    program = f"x = {first}\ny = x {sign} {second}\nprint(y)"
    return program, f"x is {first}. y is {first} {sign} {second} = {result}.", str(result)


def _an_item(chance: random.Random) -> tuple[str, str, str]:
    items = chance.sample(range(1, 100), chance.randrange(3, 6))
    place = chance.randrange(len(items))
    ordinal = ("first", "second", "third", "fourth", "fifth")[place]
    steps = f"Counting starts at 0, so x[{place}] is the {ordinal} item."
    return f"x = {items}\nprint(x[{place}])", steps, str(items[place])


def _a_length(chance: random.Random) -> tuple[str, str, str]:
    items = chance.sample(range(1, 100), chance.randrange(2, 8))
    return f"x = {items}\nprint(len(x))", "len counts the items.", str(len(items))


def _a_choice(chance: random.Random) -> tuple[str, str, str]:
    value, limit = chance.sample(range(1, 100), 2)
    yes, no = chance.sample(range(1, 20), 2)
    program = f"x = {value}\nif x > {limit}:\n    print({yes})\nelse:\n    print({no})"
    word = "larger" if value > limit else "not larger"
    return program, f"x is {value}, which is {word} than {limit}.", str(yes if value > limit else no)


def _a_function(chance: random.Random) -> tuple[str, str, str]:
    name, sign, by = chance.choice(
        (("double", "*", 2), ("triple", "*", 3), ("add_ten", "+", 10), ("next_number", "+", 1))
    )
    value = chance.randrange(2, 30)
    result = value * by if sign == "*" else value + by
    program = f"def {name}(x):\n    return x {sign} {by}\n\nprint({name}({value}))"
    return program, f"{name}({value}) is {value} {sign} {by} = {result}.", str(result)


_PROGRAMS = (_two_lines, _an_item, _a_length, _a_choice, _a_function)
