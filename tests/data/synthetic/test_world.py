"""The world: the same for the same seed, a circle of friends, no value that it pays to guess."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as some

from tinyphi.data.synthetic import world as room
from tinyphi.data.synthetic.world import NAMES, World, is_held_out, with_article
from tinyphi.errors import InputError

VALUES = {
    "job": room.JOBS,
    "village": room.VILLAGES,
    "pet": room.PETS,
    "colour": room.COLOURS,
    "food": room.FOODS,
    "instrument": room.INSTRUMENTS,
}


def test_the_same_seed_makes_the_same_world():
    one, same, other = World(5), World(5), World(6)
    assert (one.people, one.villages) == (same.people, same.villages)
    assert one.people != other.people and one.villages != other.villages
    assert [*one.people] == NAMES and [*one.villages] == room.VILLAGES


@given(some.integers())
def test_friends_form_one_circle(seed):
    world = World(seed)
    name, met = NAMES[0], []
    for _ in NAMES:
        name = world.people[name].friend
        met.append(name)
    assert sorted(met) == sorted(NAMES) and met[-1] == NAMES[0]


@given(some.integers())
def test_values_are_equally_frequent(seed):
    people = World(seed).people.values()
    for attribute, values in VALUES.items():
        counts = Counter(getattr(person, attribute) for person in people)
        assert set(counts) == set(values)
        assert max(counts.values()) - min(counts.values()) <= 1


def test_one_attribute_tells_nothing_of_another():
    """Columns are shuffled apart: over many worlds a baker has every pet."""
    pets = {p.pet for seed in range(20) for p in World(seed).people.values() if p.job == "baker"}
    assert pets == set(room.PETS)


def test_villages_have_goods_of_their_own(world):
    goods = [village.goods for village in world.villages.values()]
    assert len(set(goods)) == len(goods)


def test_pronouns(world):
    assert set(NAMES) >= room._MEN and len(set(NAMES)) == len(NAMES)
    forms = {(p.pronoun, p.possessive, p.object) for p in world.people.values()}
    assert forms == {("she", "her", "her"), ("he", "his", "him")}
    assert (world.person("Tom").pronoun, world.person("Ada").pronoun) == ("he", "she")


@pytest.mark.parametrize("name", ["ada", "", "Zoe"])
def test_nobody_has_this_name(world, name):
    with pytest.raises(InputError, match=f"called '{name}'; some are Ada, Ben"):
        world.person(name)
    assert world.person("Ada") is world.people["Ada"]


def test_what_is_known_has_one_answer():
    """No word is the opposite of two, no two animals make the same sound, no mixture is made of itself."""
    words = [*room.OPPOSITES, *room.OPPOSITES.values()]
    for values in (words, [*room.SOUNDS.values()], [*room.HOMES.values()], [*room.TOOLS.values()]):
        assert len(set(values)) == len(values)
    assert all(mixed not in pair for pair, mixed in room.MIXTURES.items())
    assert (len(room.DAYS), len(room.MONTHS)) == (7, 12)


@pytest.mark.parametrize(
    ("noun", "expected"),
    [("dog", "a dog"), ("owl", "an owl"), ("ant", "an ant"), ("scissors", "scissors"), ("", "a ")],
)
def test_with_article(noun, expected):
    assert with_article(noun) == expected


def test_what_is_held_out_stays_so():
    """The exam must stay the same in later versions: a model would have been trained on its questions."""
    assert is_held_out("arithmetic", 3, "+", 5) == is_held_out("arithmetic 3 + 5")
    held_out = [number for number in range(40) if is_held_out("order", number)]
    assert held_out == [9, 13, 20, 21, 28, 31, 38]
    people = [name for name in NAMES if is_held_out("person", name, share=0.25)]
    assert people == "Cora Mia Olga Sam Vera Jane Max Nora Otto Sara Tom".split()


@pytest.mark.parametrize("share", [0.0, 0.2, 0.25, 0.7, 1.0])
def test_the_share_of_what_is_held_out(share):
    count = sum(is_held_out("some key", number, share=share) for number in range(5000))
    assert count / 5000 == pytest.approx(share, abs=0.02)
