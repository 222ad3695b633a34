"""Pages of a textbook about the world: short, clear, every sentence true, and each fact said in many ways.

A model that reads a fact in one wording only can often not be asked for it (Allen-Zhu and Li 2023, arXiv
2309.14316); so a page draws its sentences from several wordings and its facts in any order.
"""

import random
from collections.abc import Callable

from tinyphi.data.synthetic.questions import is_exam_person, question
from tinyphi.data.synthetic.stories import story
from tinyphi.data.synthetic.world import (
    DAYS,
    HOMES,
    LEGS,
    MIXTURES,
    MONTHS,
    NAMES,
    OPPOSITES,
    SOUNDS,
    TOOLS,
    Person,
    World,
    with_article,
)
from tinyphi.errors import InputError


def people_page(world: World, chance: random.Random) -> str:
    """Two people, each with most of what is known of them."""
    return " ".join(portrait(world.people[name], chance) for name in chance.sample(NAMES, 2))


def village_page(world: World, chance: random.Random) -> str:
    """A village and who lives there."""
    village = world.villages[chance.choice(list(world.villages))]
    living = [person for person in world.people.values() if person.village == village.name]
    shown = chance.sample(living, min(3, len(living)))
    lines = [
        chance.choice(
            (
                f"{village.name} is a village {village.place}.",
                f"The village of {village.name} lies {village.place}.",
            )
        ),
        chance.choice(
            (
                f"It is known for its {village.goods}.",
                f"Many people come to buy the {village.goods} of {village.name}.",
            )
        ),
    ]
    lines += [_sentence(person, "village", person.name, chance) for person in shown]
    for person in shown:
        lines.append(_sentence(person, chance.choice(("job", "pet", "food")), person.name, chance))
    return " ".join(lines)


def friends_page(world: World, chance: random.Random) -> str:
    """Somebody, the best friend, and two facts about that friend.

    Nobody of the exam: there the two facts that `two_steps` asks for stand on different pages.
    """
    person = world.people[chance.choice([name for name in NAMES if not is_exam_person(name)])]
    friend = world.people[person.friend]
    lines = [_sentence(person, "friend", person.name, chance)]
    for attribute in chance.sample(("job", "village", "pet", "food", "instrument"), 2):
        lines.append(_sentence(friend, attribute, friend.name, chance))
    if chance.random() < 0.5:
        visit = f"So when {person.name} visits {person.possessive} best friend,"
        lines.append(f"{visit} {person.pronoun} goes to {friend.village}.")
    return " ".join(lines)


def nature_page(world: World, chance: random.Random) -> str:
    """Some animals: their sounds, legs and homes."""
    lines = []
    for _ in range(5):
        facts = chance.choice((SOUNDS, LEGS, HOMES))
        animal = chance.choice(list(facts))
        one = with_article(animal)
        wordings: tuple[str, ...]
        if facts is SOUNDS:
            wordings = (
                f"{one.capitalize()} {SOUNDS[animal]}.",
                f"When you hear that something {SOUNDS[animal]}, it is {one}.",
                f"The sound of {one}: it {SOUNDS[animal]}.",
            )
        elif facts is LEGS:
            wordings = (
                f"{one.capitalize()} has {LEGS[animal]} legs.",
                f"Count the legs of {one}: there are {'none' if LEGS[animal] == 'no' else LEGS[animal]}.",
            )
        else:
            wordings = (
                f"{one.capitalize()} lives in {with_article(HOMES[animal])}.",
                f"The home of {one} is {with_article(HOMES[animal])}.",
            )
        lines.append(chance.choice(wordings))
    return " ".join(lines)


def words_page(world: World, chance: random.Random) -> str:
    """Opposites, tools, colours, days and months."""
    lines = []
    for _ in range(5):
        lines.append(chance.choice((_opposite, _tool, _calendar, _mixture))(chance))
    return " ".join(lines)


def exercises_page(world: World, chance: random.Random) -> str:
    """Worked exercises of one kind; none that the exam asks."""
    kind = chance.choice(("arithmetic", "word problems", "reading", "reading", "order", "order", "python"))
    return worked(world, chance, kind, 3)


def worked(world: World, chance: random.Random, kind: str, count: int) -> str:
    """So many worked exercises of a kind; none that the exam asks. Raises InputError for an unknown kind."""
    made = [question(world, chance, kind) for _ in range(count)]
    return "\n\n".join(f"Exercise: {one.text}\nSolution: {one.reply}" for one in made)


def sums_page(world: World, chance: random.Random) -> str:
    """Bare sums and differences in steps, one a line."""
    return "\n".join(question(world, chance, "arithmetic").reply for _ in range(6))


def memory_page(world: World, chance: random.Random, pages: int = 1, keys: int = 1) -> str:
    """Numbers to remember, hidden among so many pages (at least 1), and at the end what they were.

    The task of the passkey test (Mohtashami and Jaggi 2023, arXiv 2305.16300, sec. 4.2), in the world's own
    words. A page is a portrait of two people, a page about animals, or a story: about 100 tokens.
    keys: how many numbers, 1 to 4. Raises InputError for fewer pages, or another number of keys.
    """
    if pages < 1 or not 1 <= keys <= len(_KEYS):
        raise InputError(f"pages={pages}, keys={keys}: at least 1 page, and 1 to {len(_KEYS)} keys to hide.")
    numbers = {what: chance.randrange(10_000, 100_000) for what in chance.sample(_KEYS, keys)}
    filler = [chance.choice((people_page, nature_page, story))(world, chance) for _ in range(pages)]
    sentences = " ".join(filler).split(". ")
    for what, number in numbers.items():
        needle = f"The {what} is {number}. Remember it: {number} is the {what}"
        sentences.insert(chance.randrange(len(sentences)), needle)
    asked = chance.sample(sorted(numbers), keys)
    answers = [f"What is the {what} in the text above? The {what} is {numbers[what]}." for what in asked]
    return "\n\n".join([". ".join(sentences), *answers])


_KEYS = ("pass key", "secret number", "number of the house", "code of the lock")

PAGES: dict[Callable[[World, random.Random], str], float] = {  # each with its share of the pages
    people_page: 0.22,
    village_page: 0.05,
    friends_page: 0.07,
    nature_page: 0.07,
    words_page: 0.08,
    exercises_page: 0.31,
    sums_page: 0.09,
    memory_page: 0.11,
}


def lesson(world: World, chance: random.Random) -> str:
    """One page of the textbook."""
    (page,) = chance.choices(list(PAGES), weights=list(PAGES.values()))
    return page(world, chance)


def portrait(person: Person, chance: random.Random) -> str:
    """Most of what is known of a person, in any order."""
    attributes = chance.sample(list(_WORDINGS), chance.randrange(4, len(_WORDINGS) + 1))
    lines = [_sentence(person, attributes[0], person.name, chance)]
    for attribute in attributes[1:]:
        subject = person.name if chance.random() < 0.4 else person.pronoun
        lines.append(_sentence(person, attribute, subject, chance))
    return " ".join(lines)


def _sentence(person: Person, attribute: str, subject: str, chance: random.Random) -> str:
    """One fact; `subject` is the name or the pronoun."""
    whose = f"{person.name}'s" if subject == person.name else person.possessive
    text = chance.choice(_WORDINGS[attribute]).format(
        s=subject,
        whose=whose,
        p=person,
        job=with_article(person.job),
        pet=with_article(person.pet),
    )
    return text[0].upper() + text[1:]


_WORDINGS = {
    "job": (
        "{s} is {job}.",
        "{s} works as {job}.",
        "{whose} job is that of {job}.",
        "{s} has worked as {job} for years.",
    ),
    "village": (
        "{s} lives in {p.village}.",
        "{whose} home is in {p.village}.",
        "{s} has a house in {p.village}.",
        "in {p.village} everybody knows {p.name}.",
    ),
    "pet": (
        "{s} has {pet}.",
        "{s} keeps {pet}.",
        "{whose} pet is {pet}.",
        "every morning {s} feeds {p.possessive} {p.pet}.",
    ),
    "colour": (
        "{whose} favourite colour is {p.colour}.",
        "the colour {s} likes best is {p.colour}.",
        "{whose} door is {p.colour}, because {p.pronoun} likes {p.colour} best.",
    ),
    "food": (
        "{s} likes to eat {p.food}.",
        "{whose} favourite food is {p.food}.",
        "most of all {s} likes {p.food}.",
    ),
    "instrument": (
        "{s} plays the {p.instrument}.",
        "in the evening {s} plays the {p.instrument}.",
        "{whose} instrument is the {p.instrument}.",
    ),
    "friend": (
        "{whose} best friend is {p.friend}.",
        "the best friend of {p.name} is {p.friend}.",
        "{s} tells everything to {p.friend}, {p.possessive} best friend.",
    ),
}


def _opposite(chance: random.Random) -> str:
    pair = chance.choice(list(OPPOSITES.items()))
    word, opposite = pair if chance.random() < 0.5 else pair[::-1]
    return chance.choice(
        (
            f"The opposite of {word} is {opposite}.",
            f"What is not {word} may be {opposite}, which is the opposite.",
            f"{word.capitalize()} and {opposite} are opposites.",
        )
    )


def _tool(chance: random.Random) -> str:
    task, tool = chance.choice(list(TOOLS.items()))
    one = with_article(tool)
    return chance.choice(
        (
            f"To {task} you need {one}.",
            f"With {one} you can {task}.",
            f"Whoever wants to {task} takes {one}.",
        )
    )


def _calendar(chance: random.Random) -> str:
    word, row = chance.choice((("day", DAYS), ("month", MONTHS)))
    place = chance.randrange(len(row))
    here, there = row[place], row[(place + 1) % len(row)]
    return chance.choice(
        (
            f"The {word} after {here} is {there}.",
            f"The {word} before {there} is {here}.",
            f"After {here} comes {there}.",
            f"{here} comes before {there}.",
        )
    )


def _mixture(chance: random.Random) -> str:
    (first, second), mixed = chance.choice(list(MIXTURES.items()))
    return chance.choice(
        (
            f"{first.capitalize()} and {second} make {mixed}.",
            f"If you mix {first} with {second}, you get {mixed}.",
        )
    )
