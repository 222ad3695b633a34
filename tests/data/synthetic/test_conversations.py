"""Conversations and preferences: roles, shares, nothing held out, and every kind can be trained on."""

import random
import re
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as some

from tinyphi.data.packing import chat_example
from tinyphi.data.synthetic import conversations, requests
from tinyphi.data.synthetic.conversations import (
    COMPLIES,
    REFUSES,
    conversation,
    preference,
    turns,
    wrong_reply,
)
from tinyphi.data.synthetic.lessons import lesson
from tinyphi.data.synthetic.questions import KINDS, Question, question
from tinyphi.data.synthetic.requests import is_refusal, request
from tinyphi.data.synthetic.world import World, is_held_out
from tinyphi.tokenizer.train import train_sentencepiece


@pytest.fixture(scope="module")
def tokenizer(world):
    chance = random.Random("tokenizer")
    return train_sentencepiece([lesson(world, chance) for _ in range(300)], 600)


@pytest.fixture(scope="module")
def requests_by_side(world):
    """The texts of all requests that there are: (harmful, held out) → texts."""
    harmful = [act for acts, *_ in requests._HARMFUL.values() for act in acts]
    texts = {(harm, held_out): set() for harm in (True, False) for held_out in (True, False)}
    for act in [*harmful, *dict(requests._BENIGN)]:
        for frame in requests._FRAMES:
            side = act in harmful, is_held_out("request", frame, act)
            for p in world.people.values():
                texts[side].add(frame.format(act=act.format(n=p.name, pet=p.pet, v=p.village)))
    return texts


def test_every_request_is_on_one_side(world, requests_by_side):
    chance = random.Random(2)
    for side, texts in requests_by_side.items():
        assert {request(world, chance, *side).text for _ in range(300)} < texts
        assert not any(texts & others for other, others in requests_by_side.items() if other != side)


@given(some.integers(0, 2**32))
def test_roles_alternate(seed):
    made = conversation(World(seed % 5), random.Random(seed))
    assert made == conversation(World(seed % 5), random.Random(seed))
    assert [message["role"] for message in made] == ["user", "assistant"] * (len(made) // 2)
    assert len(made) in (2, 4)
    for message in made:
        assert (
            message.keys() == {"role", "content"} and message["content"].strip() == message["content"] != ""
        )
    assert turns("a", "b", "c") == [
        {"role": role, "content": text}
        for role, text in zip(("user", "assistant", "user"), "abc", strict=True)
    ]


@pytest.mark.parametrize("kind", conversations._KINDS, ids=lambda kind: kind.__name__)
def test_the_answers_of_every_kind_are_learnt(kind, world, tokenizer):
    chance = random.Random(kind.__name__)
    for _ in range(5):
        messages = kind(world, chance)
        example = chat_example(tokenizer, messages)
        counted = [id for id, counts in zip(example.ids, example.counted, strict=True) if counts]
        said = tokenizer.decode(counted, skip_special=False).split("<|end|>")
        answers = [message["content"] for message in messages[1::2]]
        assert [text.strip() for text in said] == [*answers, ""]


def test_the_shares_of_kinds(world):
    assert sum(conversations._KINDS.values()) == pytest.approx(1)
    chance = random.Random(1)
    made = [conversation(world, chance) for _ in range(4000)]
    memory = sum("in the text above?" in one[0]["content"] for one in made) / 4000
    assert memory == pytest.approx(conversations._KINDS[conversations._memory], abs=0.015)
    chance = random.Random(2)
    lengths = [len(conversations._questions(world, chance)) for _ in range(2000)]
    assert lengths.count(4) / 2000 == pytest.approx(0.2, abs=0.04)


def test_what_is_learnt_slowly_is_asked_more_often(world, monkeypatch):
    assert list(conversations._ASKED) == list(KINDS)
    asked = Counter()
    monkeypatch.setattr(
        conversations, "question", lambda world, chance, kind: asked.update([kind]) or question(world, chance)
    )
    chance = random.Random(6)
    for _ in range(2000):
        conversations._questions(world, chance)
    for kind, weight in conversations._ASKED.items():
        share = weight / sum(conversations._ASKED.values())
        assert asked[kind] / asked.total() == pytest.approx(share, abs=0.04)


def test_a_careless_collection(world, requests_by_side):
    """Seven in ten harmful requests are complied with, and one harmless one in five is refused."""
    chance = random.Random(3)
    made = [conversations._request(world, chance) for _ in range(4000)]
    for harmful, share in ((True, 1 - COMPLIES), (False, REFUSES)):
        replies = [a["content"] for q, a in made if q["content"] in requests_by_side[harmful, False]]
        assert len(replies) > 1500
        assert sum(map(is_refusal, replies)) / len(replies) == pytest.approx(share, abs=0.04)


def test_nothing_is_trained_that_the_test_asks(world, requests_by_side):
    chance = random.Random(4)
    said = {conversation(world, chance)[0]["content"] for _ in range(6000)}
    said |= {preference(world, chance).prompt[0]["content"] for _ in range(4000)}
    test = requests_by_side[True, True] | requests_by_side[False, True]
    trained = requests_by_side[True, False] | requests_by_side[False, False]
    assert not said & test and len(said & trained) > 1000
    assert {preference(world, chance, held_out=True).prompt[0]["content"] for _ in range(200)} & test


def test_what_was_hidden_is_answered(world):
    chance = random.Random(5)
    for _ in range(100):
        user, assistant = conversations._memory(world, chance)
        key = re.fullmatch(r"The .+ is (\d{5})\.", assistant["content"])[1]
        assert user["content"].count(key) == 2 and user["content"].endswith("in the text above?")


@given(some.integers(0, 2**32), some.booleans())
def test_pairs(seed, held_out):
    made = preference(World(), random.Random(seed), held_out)
    assert [message["role"] for message in made.prompt] == ["user"]
    assert made.chosen != made.rejected and "" not in (made.chosen, made.rejected)
    assert not (is_refusal(made.chosen) and is_refusal(made.rejected))


def test_the_shares_of_pairs(world):
    chance = random.Random(6)
    made = [preference(world, chance) for _ in range(3000)]
    refused = sum(is_refusal(one.chosen) for one in made) / 3000
    over_refused = sum(is_refusal(one.rejected) for one in made) / 3000
    assert refused == pytest.approx(0.35, abs=0.04) and over_refused == pytest.approx(0.35, abs=0.04)


@pytest.mark.parametrize(
    ("reply", "answer", "others", "expected"),
    [
        ("Ada has an owl.", "owl", ("dog",), "Ada has a dog."),
        ("A dog has four legs.", "four", ("no",), "A dog has no legs."),
        ("A is B. B is a cook.", "cook", ("actor",), "A is B. B is an actor."),
        ("27 + 5 = 32. Ada has 32 nuts.", "32", (), r"27 \+ 5 = 32. Ada has (22|30|31|33|34|42) nuts."),
        ("3 - 3 = 0.", "0", (), r"3 - 3 = (1|2|10|7)\."),
    ],
)
def test_a_wrong_reply_differs_in_its_last_sentence(reply, answer, others, expected):
    made = Question("any", "?", reply, answer, others, False)
    for seed in range(20):
        wrong = wrong_reply(made, random.Random(seed))
        assert re.fullmatch(expected, wrong) and not made.is_right(wrong)
