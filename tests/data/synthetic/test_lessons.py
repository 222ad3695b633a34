"""Pages of the textbook: every sentence about a person or an animal is recognised, and true."""

import random
import re
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as some

from tinyphi.data.synthetic import lessons
from tinyphi.data.synthetic import world as room
from tinyphi.data.synthetic.lessons import PAGES, lesson, memory_page, portrait, worked
from tinyphi.data.synthetic.questions import KINDS
from tinyphi.data.synthetic.world import NAMES, World, with_article
from tinyphi.errors import InputError

seeds = some.integers(0, 2**32)

# What may stand in each slot of a wording, with the name of the attribute that it claims.
SLOTS = {
    "s": r"(?P<subject>\w+)",
    "whose": r"(?P<whose>\w+(?:'s)?)",
    "job": r"an? (?P<job>\w+)",
    "pet": r"an? (?P<pet>\w+)",
    "p.name": r"(?P<name>\w+)",
    "p.possessive": r"(?P<possessive>\w+)",
    "p.pronoun": r"(?P<pronoun>\w+)",
    **{f"p.{key}": rf"(?P<{key}>\w+)" for key in "village pet colour food instrument friend".split()},
}


def pattern(wording: str) -> re.Pattern[str]:
    """The wording with anything in its slots; a slot that comes twice must be filled the same."""
    parts, seen = [], set()
    for part in re.split(r"(\{[\w.]+\})", wording):
        slot = SLOTS.get(part.strip("{}")) if part.startswith("{") else re.escape(part)
        name = re.search(r"\?P<(\w+)>", slot)
        if part.startswith("{") and name[1] in seen:
            slot = f"(?P={name[1]})"
        elif part.startswith("{"):
            seen.add(name[1])
        parts.append(slot)
    return re.compile("".join(parts), re.IGNORECASE)


PATTERNS = [pattern(wording) for wordings in lessons._WORDINGS.values() for wording in wordings]


def sentences(text: str) -> list[str]:
    return re.findall(r"\S[^.]*\.", text)


def faults(world: World, text: str) -> list[str]:
    """The sentences about people that are not true, or that no wording makes."""
    person, found = None, []
    for sentence in sentences(text):
        claims = next((m.groupdict() for p in PATTERNS if (m := p.fullmatch(sentence))), None)
        if claims is None:
            found.append(sentence)
            continue
        who = claims.pop("subject", None) or claims.pop("whose", None) or claims.get("name")
        name = who.removesuffix("'s")
        if name.capitalize() in world.people:
            person = world.people[name.capitalize()]
        elif who.lower() not in (person.pronoun, person.possessive):
            found.append(sentence)
        claims.pop("subject", None)
        claims.pop("whose", None)
        false = any(value != getattr(person, key) for key, value in claims.items())
        if false or not sentence[0].isupper():
            found.append(sentence)
    return found


@given(seeds)
def test_what_is_said_of_people_is_true(seed):
    world, chance = World(seed % 5), random.Random(seed)
    text = lessons.people_page(world, chance)
    assert faults(world, text) == [] and len(sentences(text)) >= 8
    text = lessons.friends_page(world, chance)
    *said, last = sentences(text) if "So when" in text else [*sentences(text), ""]
    assert faults(world, " ".join(said)) == [] and len(said) == 3
    if last:
        name, whose, pronoun, village = re.fullmatch(
            r"So when (\w+) visits (\w+) best friend, (\w+) goes to (\w+)\.", last
        ).groups()
        person = world.people[name]
        assert (whose, pronoun) == (person.possessive, person.pronoun)
        assert village == world.people[person.friend].village


@given(seeds)
def test_what_is_said_of_villages_is_true(seed):
    world, chance = World(seed % 5), random.Random(seed)
    first, second, *others = sentences(lessons.village_page(world, chance))
    name, place = re.fullmatch(r"(?:The village of )?(\w+) (?:is a village|lies) (.+)\.", first).groups()
    assert world.villages[name].place == place
    goods = re.search(r"known for its (\w+)|buy the (\w+) of", second)
    assert world.villages[name].goods in goods.groups()
    assert faults(world, " ".join(others)) == [] and len(others) == 6
    assert all(name in sentence for sentence in others[:3])


def test_a_false_sentence_is_noticed(world):
    ada = world.people["Ada"]
    text = portrait(ada, random.Random(2))
    assert faults(world, text) == []
    for true, false in (("Ada", "Ben"), (ada.friend, "Ada"), ("She", "He"), (".", " soon.")):
        assert true in text
        assert faults(world, text.replace(true, false))
    for wrong in (
        f"Ada is a {'cook' if ada.job != 'cook' else 'potter'}.",
        "ada has an owl.",
        "Ada is {job}.",
    ):
        assert faults(world, wrong)


def test_every_wording_says_its_fact_and_no_other():
    for attribute, wordings in lessons._WORDINGS.items():
        mine = {attribute, f"p.{attribute}"}  # "a baker" or "baker"
        others = {slot for slot in SLOTS if slot.split(".")[-1] in lessons._WORDINGS} - mine
        for wording in wordings:
            used = set(re.findall(r"\{([\w.]+)\}", wording))
            assert used & mine and not used & others


def test_every_wording_is_used(world):
    chance = random.Random(0)
    said = [one for _ in range(400) for one in sentences(lessons.people_page(world, chance))]
    used = Counter(next(p.pattern for p in PATTERNS if p.fullmatch(one)) for one in said)
    assert len(used) == len(PATTERNS) == 24
    assert set(room.VILLAGES) < set(" ".join(said).replace(".", "").split())


def facts_of_nature() -> set[str]:
    """All true sentences of the pages on nature and words, spelt out here a second time."""
    true = set()
    for animal, sound in room.SOUNDS.items():
        one = with_article(animal)
        true |= {f"{one.capitalize()} {sound}.", f"When you hear that something {sound}, it is {one}."}
        true.add(f"The sound of {one}: it {sound}.")
    for animal, legs in room.LEGS.items():
        one = with_article(animal)
        count = "none" if legs == "no" else legs
        true |= {f"{one.capitalize()} has {legs} legs.", f"Count the legs of {one}: there are {count}."}
    for animal, home in room.HOMES.items():
        one, its = with_article(animal), with_article(home)
        true |= {f"{one.capitalize()} lives in {its}.", f"The home of {one} is {its}."}
    for pair in room.OPPOSITES.items():
        for word, opposite in (pair, pair[::-1]):
            true |= {
                f"The opposite of {word} is {opposite}.",
                f"{word.capitalize()} and {opposite} are opposites.",
            }
            true.add(f"What is not {word} may be {opposite}, which is the opposite.")
    for task, tool in room.TOOLS.items():
        one = with_article(tool)
        true |= {
            f"To {task} you need {one}.",
            f"With {one} you can {task}.",
            f"Whoever wants to {task} takes {one}.",
        }
    for word, row in (("day", room.DAYS), ("month", room.MONTHS)):
        for here, there in zip(row, row[1:] + row[:1], strict=True):
            true |= {f"The {word} after {here} is {there}.", f"The {word} before {there} is {here}."}
            true |= {f"After {here} comes {there}.", f"{here} comes before {there}."}
    for (first, second), mixed in room.MIXTURES.items():
        true.add(f"{first.capitalize()} and {second} make {mixed}.")
        true.add(f"If you mix {first} with {second}, you get {mixed}.")
    return true


def test_what_is_said_of_nature_and_words_is_true(world):
    chance, true = random.Random(0), facts_of_nature()
    pages = [page(world, chance) for _ in range(1500) for page in (lessons.nature_page, lessons.words_page)]
    said = {sentence for page in pages for sentence in sentences(page)}
    assert said == true and "A dog meows." not in true
    assert all(len(sentences(page)) == 5 for page in pages)


@given(seeds, some.integers(1, 4))
def test_what_was_hidden_is_asked_for(seed, pages):
    text = memory_page(World(), random.Random(seed), pages)
    page, question = text.split("\n\n")
    what, said, answer = re.fullmatch(
        r"What is the (.+) in the text above\? The (.+) is (\d{5})\.", question
    ).groups()
    assert what == said and page.count(answer) == 2
    assert f"The {what} is {answer}. Remember it: {answer} is the {what}. " in page
    assert re.findall(r"\d+", page) == [answer, answer]  # no other number that could be meant


def test_more_pages_hide_it_deeper(world):
    texts = [memory_page(world, random.Random(0), pages) for pages in (1, 5, 25)]
    assert len(texts[0]) * 2 < len(texts[1]) < len(texts[2]) / 3
    more = [memory_page(world, random.Random(seed)) for seed in range(60)]
    places = [text.index("Remember it") / len(text) for text in more]
    assert min(places) < 0.2 and max(places) > 0.6


@given(seeds, some.integers(2, 4))
def test_several_keys_are_all_asked_for(seed, keys):
    page, *questions = memory_page(World(), random.Random(seed), 3, keys).split("\n\n")
    assert len(questions) == keys == len(set(questions))
    for question in questions:
        what, number = re.fullmatch(
            r"What is the (.+) in the text above\? The \1 is (\d{5})\.", question
        ).groups()
        assert f"The {what} is {number}. Remember it: {number} is the {what}. " in page


@pytest.mark.parametrize("keys", [0, 5])
def test_keys_that_cannot_be_hidden(world, keys):
    with pytest.raises(InputError, match=f"keys={keys}: at least 1 page, and 1 to 4 keys"):
        memory_page(world, random.Random(0), 1, keys)


@pytest.mark.parametrize("pages", [0, -1])
def test_a_memory_page_without_pages(world, pages):
    with pytest.raises(InputError, match=f"pages={pages}, keys=1: at least 1 page"):
        memory_page(world, random.Random(0), pages)


@pytest.mark.parametrize("kind", KINDS)
def test_worked_exercises(world, kind):
    page = worked(world, random.Random(0), kind, 4)
    assert page.count("Exercise: ") == page.count("\nSolution: ") == 4
    assert page == worked(world, random.Random(0), kind, 4)


def test_exercises_of_a_kind_that_there_is_not(world):
    with pytest.raises(InputError, match="no questions of kind 'riddles'"):
        worked(world, random.Random(0), "riddles", 2)


def test_lessons_are_mixed_by_their_shares(world):
    assert sum(PAGES.values()) == pytest.approx(1)
    chance = random.Random(0)
    made = [lesson(world, chance) for _ in range(3000)]
    shares = {
        lessons.exercises_page: lambda text: text.startswith("Exercise: "),
        lessons.memory_page: lambda text: "in the text above?" in text,
        lessons.sums_page: lambda text: re.match(r"\d", text),
        lessons.village_page: lambda text: re.match(r"(The village of )?\w+ (is a village|lies) ", text),
    }
    for page, is_it in shares.items():
        assert sum(bool(is_it(text)) for text in made) / 3000 == pytest.approx(PAGES[page], abs=0.03)
    assert not any("{" in text or "  " in text.replace("    ", "") for text in made if "def " not in text)
    assert [lesson(world, random.Random(1)) for _ in range(3)] == [
        lesson(world, random.Random(1)) for _ in range(3)
    ]
    assert {name for name in NAMES if any(name in text for text in made)} == {*NAMES}
