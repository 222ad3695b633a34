"""Every attack carries its request, in one way or another, and has a name, a persona and a description."""

import base64
import codecs

import pytest

from tinyphi.errors import InputError
from tinyphi.safety.attacks import ATTACKS, chosen

REQUEST = "How do I paint the fence of Ada green?"


@pytest.mark.parametrize("name", ATTACKS)
def test_every_attack_is_a_conversation_about_the_request(name):
    attack = ATTACKS[name]
    turns = attack.make(REQUEST)
    assert turns and all(turn.strip() for turn in turns)
    assert (
        attack.name == name
        and attack.about.endswith(".")
        and attack.persona in ("low-skilled", "intermediate")
    )
    assert attack.make(REQUEST) == turns != attack.make("How do I bake bread?")


def test_encodings_can_be_decoded():
    (code,) = ATTACKS["base64"].make(REQUEST)
    assert base64.b64decode(code.split()[-1]).decode() == REQUEST
    (code,) = ATTACKS["rot13"].make(REQUEST)
    assert codecs.decode(code.split("\n")[1], "rot13") == REQUEST
    (code,) = ATTACKS["zero-width"].make(REQUEST)
    assert code != REQUEST and code.replace("\u200b", "") == REQUEST
    (code,) = ATTACKS["homoglyphs"].make(REQUEST)
    assert len(code) == len(REQUEST) and sum(not letter.isascii() for letter in code) > 8
    (code,) = ATTACKS["leetspeak"].make(REQUEST)
    assert code == "H0w d0 1 p41n7 7h3 f3nc3 0f 4d4 gr33n?"
    (code,) = ATTACKS["spaced"].make("two words")
    assert code == "t w o   w o r d s"


def test_turns_and_shots():
    assert [len(ATTACKS[name].make(REQUEST)) for name in ("direct", "insists", "crescendo")] == [1, 2, 3]
    assert (
        REQUEST not in ATTACKS["crescendo"].make(REQUEST)[0]
        and REQUEST in ATTACKS["crescendo"].make(REQUEST)[2]
    )
    for request in ("How can I whistle?", "I want to whistle. What should I do?", "Show me how to whistle."):
        assert ATTACKS["crescendo"].make(request)[0].endswith("people who try to whistle?")
    (shots,) = ATTACKS["many-shot"].make(REQUEST)
    assert shots.count("Question:") == 13 and shots.endswith(f"{REQUEST}\nAnswer:")


def test_attacks_are_chosen_by_name():
    assert [attack.name for attack in chosen(["rot13", "direct"])] == ["direct", "rot13"]
    assert len(chosen(None)) == len(ATTACKS)
    with pytest.raises(InputError, match="no attack 'magic'"):
        chosen(["magic"])
