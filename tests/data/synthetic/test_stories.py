"""Stories: what they say of people is true of them, pronouns agree, and sentences are whole."""

import random
import re
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from tinyphi.data.synthetic import stories
from tinyphi.data.synthetic.stories import story
from tinyphi.data.synthetic.world import INSTRUMENTS, JOBS, NAMES, PETS, VILLAGES, World
from tinyphi.errors import InputError

seeds = some.integers(0, 2**32)
PRONOUNS = {"he": {"she", "her", "hers"}, "she": {"he", "his", "him"}}  # and those of the others
SWAPPED = {"he": "she", "she": "he", "He": "She", "She": "He"}

# Wordings that say something of a person, with what they say: h is the hero, k the helper.
CLAIMS = (
    r"there was an? (?P<h_job>\w+) in (?P<h_village>\w+), whose name was (?P<h_name>\w+)",
    r"(?P<h_name>\w+) was an? (?P<h_job>\w+) and lived in (?P<h_village>\w+)\.",
    r"In (?P<h_village>\w+) lived (?P<h_name>\w+), an? (?P<h_job>\w+)\.",
    r"One day (?P<h_name>\w+), the (?P<h_job>\w+) of (?P<h_village>\w+), got up",
    r"the village of (?P<h_village>\w+), there lived an? (?P<h_job>\w+) called (?P<h_name>\w+)\.",
    r"(?P<h_pronoun>\w+) had an? (?P<h_pet>\w+) and liked to eat (?P<h_food>\w+)",
    r"With (?P<h_object>\w+) lived an? (?P<h_pet>\w+)",
    r"played the (?P<h_instrument>\w+)",
    r"told (?P<k_object>\w+) everything",
    r"(?P<h_pronoun>\w+) walked to the house of (?P<k_name>\w+) in (?P<k_village>\w+)\.",
    r"(?P<h_pronoun>\w+) asked (?P<k_name>\w+), the (?P<k_job>\w+), what",
    r"Then they ate (?P<h_food>\w+) together",
    r"(?P<h_name>\w+) gave (?P<k_name>\w+) some (?P<k_food>\w+), because (?P=k_name) liked",
    r"put it into a (?P<h_colour>\w+) box and carried it to the house of (?P<k_name>\w+)\.",
    r"tied a (?P<h_colour>\w+) ribbon around it and went to (?P<k_name>\w+)",
    r"asked (?P<k_name>\w+), and (?P<k_possessive>\w+) eyes grew big",
    r"the (?P<h_pet>\w+) of (?P<h_name>\w+) ran away",
    r"On the road (?P<h_pronoun>\w+) met (?P<k_name>\w+)\.",
    r"(?P<h_name>\w+) had never left (?P<h_village>\w+), and one day (?P<h_pronoun>\w+) wanted",
    r"took some (?P<h_food>\w+) and .* and set out with (?P<h_possessive>\w+) (?P<h_pet>\w+)",
    r"packed a (?P<h_colour>\w+) bag, and the (?P<h_pet>\w+) came along",
    r'"Follow me," said (?P<k_pronoun>\w+)\.',
    r"saw the lights of (?P<h_village>\w+) far below",
    r"And the (?P<h_pet>\w+) was happy, too",
)


def cast(world, text):
    """The hero and the helper, if one is named: the first two people of a story."""
    names = [word for word in re.findall(r"\w+", text) if word in world.people]
    return world.people[names[0]], [world.people[name] for name in dict.fromkeys(names)][1:]


def faults(world, text):
    """What a story says wrongly of its people, or not in whole sentences."""
    hero, others = cast(world, text)
    found = ["people"] if len(others) > 1 else []
    known = {"h": hero, "k": others[0] if others else hero}
    for claim in CLAIMS:
        for match in re.finditer(claim, text):
            for slot, value in match.groupdict().items():
                who, _, attribute = slot.partition("_")
                true = getattr(known[who], attribute)
                if value not in (true, true.capitalize()):
                    found.append(match[0])
    words = set(re.findall(r"\w+", text))
    if {one.pronoun for one in known.values()} == {hero.pronoun}:
        found += PRONOUNS[hero.pronoun] & {word.lower() for word in words}
    found += words & {*PETS} - {hero.pet, "sheep" if hero.job == "shepherd" else hero.pet}
    found += words & {*VILLAGES} - {one.village for one in known.values()}
    found += words & {*JOBS} - {one.job for one in known.values()}
    found += words & {*INSTRUMENTS} - {hero.instrument}
    found += re.findall(r'(?:^|[.] "?|[.]" "?)(?=[^A-Z"])\S+', text) + re.findall(r"[{}]|  | [.,!?]", text)
    return found if re.search(r"[.!?]\"?$", text) and text.count('"') % 2 == 0 else [*found, "end"]


@settings(max_examples=500)
@given(seeds)
def test_stories_agree_with_the_world(seed):
    world = World(seed % 5)
    text = story(world, random.Random(seed))
    assert faults(world, text) == []
    assert 60 <= len(text.split()) <= 140


def test_a_false_story_is_noticed(world):
    chance = random.Random(0)
    texts = [story(world, chance) for _ in range(200)]
    said = Counter(claim for claim in CLAIMS for text in texts if re.search(claim, text))
    assert len(said) == len(CLAIMS)  # every claim is made somewhere, so every pattern is in use
    noticed = 0
    for text in texts:
        hero, others = cast(world, text)
        known = [hero, *others]
        strange = next(name for name in VILLAGES if name not in {one.village for one in known})
        assert faults(world, text.replace(hero.village, strange))
        assert faults(world, re.sub(r"([.!] )([A-Z])", lambda m: m[1] + m[2].lower(), text, count=1))
        assert faults(world, text.replace(hero.job, "{job}"))
        if all(one.pronoun == hero.pronoun for one in known):
            noticed += bool(faults(world, re.sub(r"\b[Ss]?[Hh]e\b", lambda m: SWAPPED[m[0]], text)))
    assert noticed > 50


def test_the_hero_can_be_chosen(world):
    for name in NAMES:
        text = story(world, random.Random(name), name)
        assert cast(world, text)[0].name == name and faults(world, text) == []
    assert story(world, random.Random(3), "Ada") == story(world, random.Random(3), "Ada")


@pytest.mark.parametrize("hero", ["Zoe", "", "ada"])
def test_a_hero_whom_nobody_knows(world, hero):
    with pytest.raises(InputError, match="Nobody in this world is called"):
        story(world, random.Random(0), hero)


def test_there_is_a_word_for_every_job_and_pet():
    assert stories._WORK.keys() == {*JOBS} and stories._CRIES.keys() == {*PETS}


def test_no_two_stories_are_alike(world):
    chance = random.Random(1)
    texts = [story(world, chance) for _ in range(2000)]
    assert len({*texts}) == 2000
    heroes = Counter(cast(world, text)[0].name for text in texts)
    assert set(heroes) == {*NAMES}
    friends = sum(
        hero.friend in (one.name for one in others) for hero, others in map(cast, [world] * 2000, texts)
    )
    assert 0.5 < friends / 2000 < 0.75
