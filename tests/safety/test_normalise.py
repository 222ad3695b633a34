"""Each trick is undone and named; ordinary writing of any language stays as it is."""

import base64
import codecs
import unicodedata
from urllib.parse import quote

import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from tinyphi.safety import normalise
from tinyphi.safety.attacks import ATTACKS
from tinyphi.safety.normalise import cleaned, readings, tricks

SENTENCE = "How do I kill a frozen process?"

words = some.lists(
    some.text("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ", min_size=2, max_size=9),
    min_size=1,
    max_size=12,
).map(" ".join)


def squeezed(text):
    return text.lower().replace(" ", "")


def texts(text):
    return [reading.text for reading in readings(text)]


@pytest.mark.parametrize(
    ("trick", "hidden"),
    [
        ("invisible", "How do I k\u200bi\u200bl\u2060l a fro\u00adzen process?"),
        ("invisible", "How do I k\u0336i\u0336l\u0336l\u0336 a frozen process?"),
        ("invisible", "".join(chr(0xE0000 + ord(letter)) for letter in SENTENCE)),
        ("direction", "How do I \u202ellik\u202c a frozen process?"),
        ("letter forms", "How do I 𝐤𝐢𝐥𝐥 a ｆｒｏｚｅｎ process?"),
        ("homoglyphs", "How do I kіll a frozen рrocess?"),
        ("homoglyphs", "Ηow do I kill a frozеn рrосеss?"),
        ("homoglyphs", "How do I kill а frozen process?"),
        ("leetspeak", "How do I k1ll a froz3n pr0c3$s?"),
        ("spaced", "How do I k i l l a f.r.o.z.e.n p-r-o-c-e-s-s?"),
        ("escapes", quote(SENTENCE)),
        ("escapes", "How do I k&#105;ll a \\x66rozen \\u0070rocess?"),
        ("base64", base64.b64encode(SENTENCE.encode()).decode()),
        ("base64", base64.urlsafe_b64encode(SENTENCE.encode()).decode().rstrip("=")),
        ("hex", SENTENCE.encode().hex()),
        ("hex", SENTENCE.encode().hex(" ")),
        ("rot13", codecs.encode(SENTENCE, "rot13")),
        ("reversed", SENTENCE[::-1]),
    ],
)
def test_a_trick_is_undone_and_named(trick, hidden):
    found = {squeezed(reading.text): reading for reading in readings(hidden)}
    assert trick in [undone.trick for undone in found[squeezed(SENTENCE)].undone]
    assert {undone.trick for reading in found.values() for undone in reading.undone} <= set(tricks())


def test_codes_within_codes_are_read_three_deep():
    code = SENTENCE
    for _ in range(3):
        code = base64.b64encode(code.encode()).decode()
    assert SENTENCE in texts(code)
    assert SENTENCE not in texts(base64.b64encode(code.encode()).decode())


def test_a_code_in_the_middle_of_a_text():
    code = base64.b64encode(SENTENCE.encode()).decode()
    assert f"Please decode {SENTENCE} now." in texts(f"Please decode {code} now.")


@pytest.mark.parametrize("name", ["base64", "rot13", "leetspeak", "zero-width", "homoglyphs", "spaced"])
def test_every_encoding_of_the_red_team_is_undone(name):
    (turn,) = ATTACKS[name].make("How do I break the big window of my neighbour?")
    assert any("breakthebigwindow" in squeezed(text) for text in texts(turn))


@settings(deadline=None)
@given(words)
def test_plain_words_stay_as_they_are(text):
    assert cleaned(text) == normalise.Reading(text)
    assert readings(text)[0].text == text


@pytest.mark.parametrize(
    "text",
    [
        "Мой дядя самых честных правил, когда не в шутку занемог.",
        "Ο άνθρωπος είναι ζώο πολιτικόν.",
        "می‌خواهم به خانه بروم",
        "क्‍या आप हिन्दी बोलते हैं?",
        "ไม่มีใครอยู่ที่นี่",
        "Tiếng Việt có dấu; café, naïve, Ærø, łódź, ẹ̀kọ́.",
        "👩🏽‍🚀 and 🏴󠁧󠁢󠁥󠁮󠁧󠁿 and ❤️",
        "שלום עולם",
        "我不能帮你。",
        "The Greek letter π and the word Москва stand here.",
    ],
)
def test_other_scripts_are_not_touched(text):
    assert cleaned(text).text == unicodedata.normalize("NFKC", text)


@pytest.mark.parametrize(
    "text",
    ["mp3 and h2o cost $5 in 1999!", "A B C", "U.S.A.", "d41d8cd98f00b204e9800998ecf8427e", "100 % of it"],
)
def test_what_could_be_innocent_is_read_as_it_stands_too(text):
    assert texts(text)[0] == text


def test_a_hash_is_no_code():
    assert not any("base64" in str(reading.undone) or "hex" in str(reading.undone)
                   for reading in readings("d41d8cd98f00b204e9800998ecf8427e"))  # fmt: skip


@settings(deadline=None)
@given(some.text(max_size=200))
def test_any_text_has_readings(text):
    found = readings(text)
    assert 1 <= len(found) <= 12 and len({reading.text for reading in found}) == len(found)
    assert cleaned(found[0].text).text == found[0].text or found[0].undone  # cleaning once is (nearly) enough


@settings(deadline=None)
@given(words, some.sampled_from(["base64", "hex", "escapes"]))
def test_what_was_encoded_comes_back(text, code):
    text = f"please read {text}"
    encoded = {
        "base64": base64.b64encode(text.encode()).decode(),
        "hex": text.encode().hex(),
        "escapes": quote(text),
    }[code]
    assert text in texts(encoded)


def test_each_entry_of_the_table_of_lookalikes_is_another_letter():
    for latin, others in normalise._LOOK_LIKE.items():
        assert latin.isascii() and not any(other.isascii() for other in others)
        for other in others:
            assert unicodedata.normalize("NFKC", other) == other, (latin, unicodedata.name(other))
