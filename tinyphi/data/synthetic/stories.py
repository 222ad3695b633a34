"""Short stories about the people of the world: somebody wants something, it goes wrong, and is put right.

Every story is consistent: a baker bakes, a dog barks, who is "she" stays "she", and what was lost is found
where the story left it. Plots and sentences vary, so that no two stories are told alike.
"""

import random
from collections.abc import Mapping
from typing import NamedTuple

from tinyphi.data.synthetic.world import NAMES, Person, World, with_article

_THINGS = {
    "a silver key": "the silver key",
    "an old map": "the old map",
    "a red ball": "the red ball",
    "a warm hat": "the warm hat",
    "a small bell": "the small bell",
    "a round stone": "the round stone",
    "a golden ring": "the golden ring",
    "a letter": "the letter",
    "a paper boat": "the paper boat",
    "a blue cup": "the blue cup",
}
_PLACES = (
    "under the old bridge",
    "behind the mill",
    "in the tall grass",
    "at the bottom of the garden",
    "under the big tree",
    "in the hay",
    "behind the church",
    "next to the well",
    "behind the barn",
)
_WORK = {
    "baker": ("baked bread", "the oven"),
    "farmer": ("worked in the field", "the plough"),
    "teacher": ("taught the children", "the old bell of the school"),
    "doctor": ("looked after the sick", "the bag of medicine"),
    "painter": ("painted doors and walls", "the best brush"),
    "sailor": ("sailed from port to port", "the sail"),
    "miller": ("ground corn into flour", "the mill wheel"),
    "gardener": ("watered the flowers", "the spade"),
    "carpenter": ("made tables and chairs", "the saw"),
    "tailor": ("sewed shirts and coats", "the needle"),
    "shepherd": ("watched the sheep", "the gate of the field"),
    "potter": ("made pots and cups", "the wheel"),
    "cook": ("cooked soup for everybody", "the big pot"),
    "singer": ("sang in the square", "the little stage"),
    "nurse": ("cared for the old people", "the lamp"),
    "clockmaker": ("mended clocks", "the clock of the tower"),
}
_CRIES = {
    "dog": "barked",
    "cat": "meowed",
    "goat": "bleated",
    "hen": "clucked",
    "duck": "quacked",
    "rabbit": "looked up",
    "horse": "neighed",
    "sheep": "bleated",
    "mouse": "squeaked",
    "parrot": "laughed",
}
_WEATHER = (
    "The sun was shining.",
    "It was raining a little.",
    "The wind was cold.",
    "Snow lay on the roofs.",
    "It was a warm day.",
    "There was fog over the fields.",
)
_MORALS = (
    "It is good to have a friend.",
    "Whoever asks for help is not alone.",
    "A kind word costs nothing.",
    "Looking twice is better than crying once.",
    "Small helpers can do great things.",
    "Whoever tells the truth sleeps well.",
    "Patience is worth more than gold.",
)


class _Cast(NamedTuple):
    """Who and what a story is about."""

    hero: Person
    helper: Person
    thing: str  # that is lost, broken or given
    place: str  # where it is found


def story(world: World, chance: random.Random, hero: str | None = None) -> str:
    """One story of 70 to 130 words.

    hero: the name of whom it is about; None: anybody. Raises InputError for a name that nobody has.
    """
    person = world.person(chance.choice(NAMES) if hero is None else hero)
    helper = world.people[person.friend if chance.random() < 0.6 else chance.choice(_others(person.name))]
    cast = _Cast(person, helper, chance.choice(list(_THINGS)), chance.choice(_PLACES))
    plot = chance.choice((_lost, _broken, _gift, _animal, _truth, _journey))
    return " ".join([_opening(cast, chance), *plot(cast, chance), _ending(cast, chance)])


def _others(name: str) -> list[str]:
    return [other for other in NAMES if other != name]


def _pick(chance: random.Random, cast: _Cast, *wordings: str) -> str:
    """One of several wordings, with the cast filled in and a capital letter at the start."""
    text = chance.choice(wordings).format(**_words(cast))
    return text[0].upper() + text[1:]


def _words(cast: _Cast) -> Mapping[str, str]:
    """What may stand in braces in a wording; names with k before them are the helper's."""
    hero, helper = cast.hero, cast.helper
    did, tool = _WORK[hero.job]
    return {
        "h": hero.name,
        "he": hero.pronoun,
        "his": hero.possessive,
        "him": hero.object,
        "k": helper.name,
        "khe": helper.pronoun,
        "khis": helper.possessive,
        "khim": helper.object,
        "job": hero.job,
        "ajob": with_article(hero.job),
        "kjob": helper.job,
        "village": hero.village,
        "kvillage": helper.village,
        "pet": hero.pet,
        "apet": with_article(hero.pet),
        "kpet": helper.pet,
        "colour": hero.colour,
        "food": hero.food,
        "kfood": helper.food,
        "instrument": hero.instrument,
        "athing": cast.thing,
        "thething": _THINGS[cast.thing],
        "place": cast.place,
        "did": did,
        "tool": tool,
        "cried": _CRIES[hero.pet],
    }


def _opening(cast: _Cast, chance: random.Random) -> str:
    first = _pick(
        chance,
        cast,
        "Once upon a time there was {ajob} in {village}, whose name was {h}.",
        "{h} was {ajob} and lived in {village}.",
        "In {village} lived {h}, {ajob}.",
        "One day {h}, the {job} of {village}, got up very early.",
        "Long ago, in the village of {village}, there lived {ajob} called {h}.",
    )
    second = _pick(
        chance,
        cast,
        "Every day {he} {did}.",
        "{he} {did} and was happy.",
        "{he} had {apet} and liked to eat {food}.",
        "With {him} lived {apet}.",
        "{he} {did}, and in the evening {he} played the {instrument}.",
    )
    return f"{first} {second} {chance.choice(_WEATHER)}"


def _lost(cast: _Cast, chance: random.Random) -> list[str]:
    return [
        _pick(
            chance,
            cast,
            "That day {h} lost {athing}.",
            "But {h} could not find {athing} which {he} loved very much.",
        ),
        _pick(
            chance,
            cast,
            "{he} looked under the bed and behind the door, but it was not there.",
            "{he} looked everywhere and grew very sad.",
            '"Where can it be?" {he} said, and sat down on the floor.',
        ),
        _pick(
            chance,
            cast,
            'Then {k} came by. "What is the matter?" asked {k}.',
            "{h} went to {k} and told {khim} everything.",
            '"I will help you," said {k}, who was just passing.',
        ),
        _pick(
            chance,
            cast,
            "Together they looked in the whole village.",
            "They walked along the road and looked on both sides.",
            "They asked everybody whom they met.",
        ),
        _pick(
            chance,
            cast,
            "At last the {pet} ran ahead, and there it was: {thething} lay {place}.",
            "In the end {k} found {thething} {place}.",
            'Suddenly {k} called: "Come here!" There was {thething}, {place}.',
        ),
        _pick(chance, cast, '"Thank you!" said {h}.', "{h} laughed and thanked {k}.", "{h} was very happy."),
    ]


def _broken(cast: _Cast, chance: random.Random) -> list[str]:
    return [
        _pick(
            chance, cast, "But one morning {tool} was broken.", "Then something bad happened: {tool} broke."
        ),
        _pick(
            chance,
            cast,
            '"How shall I work now?" said {h}.',
            "{h} tried to mend it, but it broke again.",
            "{h} could not work any more and was sad.",
        ),
        _pick(
            chance,
            cast,
            "{he} walked to the house of {k} in {kvillage}.",
            "{he} asked {k}, the {kjob}, what to do.",
        ),
        _pick(
            chance,
            cast,
            '"Do not worry," said {k}. "Two can do more than one."',
            '"I have never done that," said {k}, "but I will try."',
        ),
        _pick(
            chance,
            cast,
            "They worked all day, and when the moon came up, everything was whole again.",
            "{k} held it, and {h} worked on it until it was as good as new.",
        ),
        _pick(
            chance,
            cast,
            "Then they ate {food} together.",
            "{h} gave {k} some {kfood}, because {k} liked it most.",
        ),
    ]


def _gift(cast: _Cast, chance: random.Random) -> list[str]:
    return [
        _pick(
            chance,
            cast,
            "It was the birthday of {k}, and {h} had no gift.",
            "{h} wanted to give {k} something.",
        ),
        _pick(
            chance,
            cast,
            "{he} had no money, so {he} thought for a long time.",
            "{he} asked the {pet}, but the {pet} only {cried}.",
        ),
        _pick(
            chance,
            cast,
            "Then {he} found {athing} {place}.",
            "Then {he} remembered {athing} which {he} had kept for years.",
        ),
        _pick(
            chance,
            cast,
            "{he} cleaned it, put it into a {colour} box and carried it to the house of {k}.",
            "{he} tied a {colour} ribbon around it and went to {k}.",
        ),
        _pick(
            chance,
            cast,
            '"Is this for me?" asked {k}, and {khis} eyes grew big.',
            "{k} opened it slowly and was silent for a while.",
        ),
        _pick(
            chance,
            cast,
            '"It is the best gift of all," said {k}.',
            '"Nobody has ever given me anything so nice," said {k}.',
        ),
    ]


def _animal(cast: _Cast, chance: random.Random) -> list[str]:
    return [
        _pick(chance, cast, "One night the {pet} of {h} ran away.", "In the morning the {pet} was gone."),
        _pick(
            chance,
            cast,
            "{h} called, but nothing moved.",
            "{h} took a lamp and went out to look for it.",
        ),
        _pick(
            chance,
            cast,
            'On the road {he} met {k}. "I heard something {place}," said {k}.',
            '{k} heard {him} and came out of the house. "Listen," said {k}, "there is something {place}!"',
        ),
        _pick(
            chance,
            cast,
            "They went there without a sound.",
            "They ran there as fast as they could.",
        ),
        _pick(
            chance,
            cast,
            "There sat the {pet}. It was cold and hungry, but it was safe.",
            "There was the {pet}, and beside it lay {athing}.",
        ),
        _pick(
            chance,
            cast,
            "{h} took it home and gave it something to eat.",
            "{h} brought it home, and {k} closed the door behind them.",
        ),
    ]


def _truth(cast: _Cast, chance: random.Random) -> list[str]:
    return [
        _pick(
            chance,
            cast,
            "One day {h} lost {athing} which belonged to {k}.",
            "{k} had lent {h} {athing}, and {h} lost it.",
        ),
        _pick(
            chance,
            cast,
            "{he} was afraid and hid behind the house.",
            "First {he} wanted to say nothing.",
        ),
        _pick(
            chance,
            cast,
            '"Where is it?" asked {k} in the evening.',
            "In the evening {k} came and asked for it.",
        ),
        _pick(
            chance,
            cast,
            '"It was my fault," said {h}, "and I am sorry."',
            "Then {h} told the truth, although it was hard.",
        ),
        _pick(
            chance,
            cast,
            '"I am glad that you told me," said {k}.',
            "{k} was not angry, because {h} had been honest.",
        ),
        _pick(
            chance,
            cast,
            "The next day they looked for it together and found it {place}.",
            "{h} worked for three days to make it good again.",
        ),
    ]


def _journey(cast: _Cast, chance: random.Random) -> list[str]:
    return [
        _pick(
            chance,
            cast,
            "{h} had never left {village}, and one day {he} wanted to see the world.",
            '"I want to see what is behind the hills," said {h}.',
        ),
        _pick(
            chance,
            cast,
            "{he} took some {food} and {athing} and set out with {his} {pet}.",
            "{he} packed a {colour} bag, and the {pet} came along.",
        ),
        _pick(
            chance,
            cast,
            "After three hours they came to a dark forest and did not know the way.",
            "Soon they came to a river without a bridge.",
        ),
        _pick(
            chance,
            cast,
            'There stood {k}, who knew every path. "Follow me," said {khe}.',
            "Luckily {k} was there too and showed them the way.",
        ),
        _pick(
            chance,
            cast,
            "In the evening they stood on the top of a hill and saw the lights of {village} far below.",
            "They walked on and on, and saw houses, ships and people whom they had never seen before.",
        ),
        _pick(
            chance,
            cast,
            '"The world is big," said {h}, "but at home it is best."',
            "{h} was tired, but {he} had never been so happy.",
        ),
    ]


def _ending(cast: _Cast, chance: random.Random) -> str:
    last = _pick(
        chance,
        cast,
        "From that day on {h} and {k} met every Sunday.",
        "That night {h} slept well.",
        "In the evening {h} played the {instrument}, and everybody danced.",
        "And the {pet} was happy, too.",
        "{h} never forgot that day.",
    )
    return f"{last} {chance.choice(_MORALS)}" if chance.random() < 0.5 else last
