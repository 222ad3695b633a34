"""Questions: right answers are right, wrong ones wrong, programs print theirs, and the exam is kept apart."""

import contextlib
import io
import random
import re
from collections import Counter
from functools import cache

import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from tinyphi.data.synthetic import questions
from tinyphi.data.synthetic.conversations import _questions, _who_is, conversation, preference, wrong_reply
from tinyphi.data.synthetic.lessons import exercises_page, sums_page
from tinyphi.data.synthetic.questions import KINDS, Question, exam, is_exam_person, question
from tinyphi.data.synthetic.world import NAMES, World, is_held_out
from tinyphi.errors import InputError

seeds = some.integers(0, 2**32)
kinds = some.sampled_from([*KINDS])
WORLD = World()


def identity(one: Question) -> object:
    """What a question asks, whatever its wording; worked out from its text alone."""
    numbers = tuple(map(int, re.findall(r"\d+", one.text)))
    if one.kind == "arithmetic":
        return one.kind, numbers[::-1] if "Take" in one.text else numbers, "+" if _adds(one.text) else "-"
    if one.kind == "word problems":
        return one.kind, numbers, bool(re.search(r" more\.|evening", one.text))
    if one.kind == "python":
        return one.text.split("\n", 1)[1]
    if one.kind == "reading":
        who_and_what = re.findall(r"(\w+) (?:put|left|hid) the (\w+)", one.text)
        return tuple(who_and_what), one.answer
    if one.kind == "order":
        pairs = dict(re.findall(r"(\w+) is \w+ than (\w+)\.", one.text))
        top = next(name for name in pairs if name not in pairs.values())
        return top, pairs[top], pairs[pairs[top]]
    if one.kind == "nature":
        return one.reply
    return one.kind, named(one.text)


def named(text: str) -> str:
    """The first person in a text."""
    return next(word for word in re.findall(r"\w+", text) if word in WORLD.people)


def _adds(text: str) -> bool:
    return "+" in text or "plus" in text or "Add" in text


def printed(program: str) -> str:
    output = io.StringIO()
    with contextlib.redirect_stdout(output):
        exec(program, {})
    return output.getvalue().strip()


def false_steps(reply: str) -> list[str]:
    """The equations in a reply that do not hold."""
    equations = re.findall(r"(\d+) ([-+*]) (\d+) = (\d+)", reply)
    return [
        "{} {} {} = {}".format(*found) for found in equations if eval("".join(found[:3])) != int(found[3])
    ]


@cache
def large_exam() -> list[Question]:
    return exam(WORLD, 150)


def asks_of_the_exam(texts: list[str]) -> list[str]:
    """Those of the training texts that ask what the exam asks."""
    held_out = {made.text for made in large_exam()}
    return [text for text in texts if text in held_out]


@settings(max_examples=400)
@given(kinds, seeds, some.booleans())
def test_replies_are_right_and_wrong_replies_wrong(kind, seed, held_out):
    chance = random.Random(seed)
    made = question(World(seed % 5), chance, kind, held_out)
    assert (made.kind, made.held_out) == (kind, held_out)
    assert made.is_right(made.reply) and made.is_right(made.answer)
    wrong = wrong_reply(made, chance)
    assert not made.is_right(wrong) and wrong != made.reply
    assert made.answer not in made.others
    assert "{" not in made.text + made.reply and not re.search(r"\b[aA] [aeiou]", made.reply + wrong)
    for other in made.others:
        assert not made.is_right(f"{made.answer} or {other}") and not made.is_right(other)


@given(seeds)
def test_programs_print_the_answer(seed):
    made = question(WORLD, random.Random(seed), "python")
    program = made.text.split("\n", 1)[1]
    assert printed(program) == made.answer
    assert printed(program.replace("print(", "print(1, ")) != made.answer


@settings(max_examples=300)
@given(some.sampled_from(["arithmetic", "word problems", "python"]), seeds)
def test_steps_are_true(kind, seed):
    made = question(WORLD, random.Random(seed), kind)
    assert false_steps(made.reply) == []
    if kind != "python":
        assert len(re.findall("=", made.reply)) in (1, 2)
        _, numbers, adds = identity(made)
        assert int(made.answer) == (sum(numbers) if adds in (True, "+") else numbers[0] - numbers[1])


def test_a_false_step_is_noticed():
    assert false_steps("27 + 15: 27 + 10 = 37, 37 + 5 = 43.") == ["37 + 5 = 43"]
    assert questions.sum_in_steps(27, 15) == "27 + 15: 27 + 10 = 37, 37 + 5 = 42."
    assert questions.difference_in_steps(42, 15) == "42 - 15: 42 - 10 = 32, 32 - 5 = 27."
    assert (
        questions.sum_in_steps(27, 5) == "27 + 5 = 32." and questions.sum_in_steps(27, 10) == "27 + 10 = 37."
    )


WORDS = {
    "job": ("job", "living", "work"),
    "village": ("live", "village", "home"),
    "pet": ("pet", "animal"),
    "colour": ("colour",),
    "food": ("eat", "food"),
    "instrument": ("play",),
    "friend": ("Who", "name"),
}


def asked_attribute(text: str) -> str:
    """What a question about a person wants to know."""
    plain = re.sub(r"the best friend of \w+(?=[? ])|for a living", "", text) if "Who" not in text else text
    (found,) = [key for key, words in WORDS.items() if {*words} & {*re.findall(r"\w+", plain)}] or ["job"]
    return found


@given(seeds)
def test_facts_agree_with_the_world(seed):
    world = World(seed % 7)
    made = question(world, random.Random(seed), "facts", held_out=seed % 2 == 0)
    name = named(made.text)
    wanted = "friend" if "best friend" in made.text else asked_attribute(made.text)
    assert made.answer == getattr(world.people[name], wanted)
    assert made.reply.startswith(
        (f"{name} ", f"The favourite colour of {name}", f"The best friend of {name}")
    )


@given(seeds)
def test_two_steps_agree_with_the_world(seed):
    world = World(seed % 7)
    made = question(world, random.Random(seed), "two steps")
    name = named(made.text)
    friend = world.people[world.people[name].friend]
    assert made.answer == getattr(friend, asked_attribute(made.text))
    assert made.reply.startswith(f"The best friend of {name} is {friend.name}. {friend.name} ")


@given(seeds)
def test_reading_and_order_are_answered_by_their_text(seed):
    chance = random.Random(seed)
    text, answer = (made := question(WORLD, chance, "reading")).text, made.answer
    thing = re.search(r"the (\w+)\?$", text)[1]
    stays = re.findall(rf"(\w+) (?:put|left|hid|carried) the {thing} (?:into|in|to) the (\w+)", text)
    assert answer == (stays[-1][1] if "Where" in text else stays[0][0])
    assert len({who for who, _ in stays}) == 1
    made = question(WORLD, chance, "order")
    top, _, bottom = identity(made)
    least = made.text.endswith(("shortest?", "youngest?", "slowest?", "weakest?", "poorest?"))
    assert made.answer == (bottom if least else top)


@pytest.mark.parametrize(
    ("reply", "right"),
    [
        ("Ada is a baker.", True),
        ("BAKER", True),
        ("Ben is a cook. Ada is a baker.", True),
        ("Ada is a baker. Ben is a cook.", False),
        ("Ada is a cook or a baker.", False),
        ("Ada bakes.", False),
        ("", False),
        ("?!", False),
        ("a bakery", False),
    ],
)
def test_what_counts_as_right(reply, right):
    made = Question("facts", "What is the job of Ada?", "Ada is a baker.", "baker", ("cook", "miller"), False)
    assert made.is_right(reply) is right


@pytest.mark.parametrize(
    ("reply", "right"),
    [
        ("3 + 4 = 7.", True),
        ("7 apples", True),
        ("7. Or 8", False),
        ("17", False),
        ("seven", False),
        ("7, 8", False),
    ],
)
def test_what_counts_as_the_right_number(reply, right):
    assert Question("arithmetic", "What is 3 + 4?", "3 + 4 = 7.", "7", (), False).is_right(reply) is right


def test_the_exam():
    made = exam(WORLD, 40)
    assert Counter(one.kind for one in made) == dict.fromkeys(KINDS, 40)
    assert all(one.held_out for one in made) and len({one.text for one in made}) == len(made)
    assert exam(World(), 40) == made and exam(WORLD, 40, seed=1) != made
    assert exam(WORLD, 10) == [one for kind in KINDS for one in [m for m in made if m.kind == kind][:10]]
    counts = Counter(one.kind for one in exam(WORLD))
    assert counts == {**dict.fromkeys(KINDS, 50), "nature": 44}  # of nature there are not more


def test_no_training_question_is_in_the_exam():
    held_out = large_exam()
    keys = {identity(one) for one in held_out}
    texts = {one.text for one in held_out}
    chance = random.Random("training")
    trained = [question(WORLD, chance) for _ in range(50_000)]
    assert Counter(one.kind for one in trained).keys() == KINDS.keys()
    assert not any(one.held_out or one.text in texts or identity(one) in keys for one in trained)
    # The check would notice: what is drawn without regard to the side is in the exam now and then.
    careless = [make(WORLD, chance) for make in KINDS.values() for _ in range(1000)]
    kinds = {one.kind for one in careless if identity(one) in keys}
    assert kinds >= {"facts", "two steps", "nature", "arithmetic", "word problems"}


def test_the_exam_asks_about_its_own_people():
    people = {identity(one)[1] for one in large_exam() if one.kind == "facts"}
    assert people == {name for name in NAMES if is_exam_person(name)}
    assert 0.15 < len(people) / len(NAMES) < 0.35
    with_friends = {name for name in NAMES if name in people or WORLD.people[name].friend in people}
    assert {identity(one)[1] for one in large_exam() if one.kind == "two steps"} == with_friends


def test_lessons_ask_nothing_of_the_exam():
    chance = random.Random("pages")
    exercises = [exercises_page(WORLD, chance) for _ in range(2000)]
    asked = [
        text for page in exercises for text in re.findall(r"Exercise: (.*?)\nSolution: ", page, re.DOTALL)
    ]
    assert len(asked) == 6000 and asks_of_the_exam(asked) == []
    assert asks_of_the_exam([*asked, large_exam()[500].text]) == [large_exam()[500].text]
    lines = [line for _ in range(1000) for line in sums_page(WORLD, chance).splitlines()]
    sums = [re.match(r"(\d+) ([-+]) (\d+)(?::| =)", line).groups() for line in lines]
    assert len(sums) == 6000
    for first, sign, second in sums:
        numbers = sorted((int(first), int(second))) if sign == "+" else (first, second)
        assert not is_held_out("numbers", sign, *numbers)


def test_conversations_ask_nothing_of_the_exam():
    chance = random.Random("chats")
    said = [message["content"] for _ in range(4000) for message in conversation(WORLD, chance)[::2]]
    said += [preference(WORLD, chance).prompt[0]["content"] for _ in range(2000)]
    assert len({*said}) > 3000 and asks_of_the_exam(said) == []
    asked = [preference(WORLD, chance, held_out=True).prompt[0]["content"] for _ in range(500)]
    assert asks_of_the_exam(asked)


def test_no_conversation_asks_about_a_person_of_the_exam():
    chance = random.Random("people")
    attributes = (
        r"(?:What|Which|Where|Who|In which) .*\b(?:of|does|is|about) (?:the best friend of )?(\w+)\b.*\?"
    )
    said = [_questions(WORLD, chance)[0]["content"] for _ in range(4000)]
    asked = {found[1] for text in said if (found := re.fullmatch(attributes, text)) and found[1] in NAMES}
    who = {_who_is(WORLD, chance)[0]["content"].rstrip("?.").split()[-1] for _ in range(500)}
    assert asked | who <= {*NAMES} and len(asked) == len(who) == 29
    assert not any(is_exam_person(name) for name in asked | who)


@pytest.mark.parametrize("kind", ["", "fact", "Facts"])
def test_a_kind_that_there_is_not(kind):
    with pytest.raises(InputError, match=r"There are no questions of kind .* the kinds are facts, two steps"):
        question(WORLD, random.Random(0), kind)


def test_no_exam_answer_is_given_away_by_a_training_reply():
    """Neither a sum by the steps of a word problem, nor a fact by the second half of a two-step answer."""
    world, chance = World(), random.Random("replies")
    said = set()
    for _ in range(20_000):
        reply = question(world, chance).reply
        said |= {reply, *reply.split(". "), *(f"{part}." for part in reply.split(". "))}
    asked = [one for one in exam(world) if one.kind in ("facts", "arithmetic", "nature")]
    assert not [one.reply for one in asked if one.reply in said]
    problems = [one.reply.split(". ")[0] for one in exam(world) if one.kind == "word problems"]
    assert not [steps for steps in problems if steps in said or f"{steps}." in said]
