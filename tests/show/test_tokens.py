"""tokens: text, id and kind of each piece, in all four faces."""

import pytest

from tinyphi.errors import InputError
from tinyphi.show import tokens
from tinyphi.tokenizer import Piece


def piece(number, text, kind="normal"):
    return Piece(number, text, text.encode(), 0, len(text), kind)


KINDS = ("normal", "byte", "control", "unknown")
TEXTS = {
    "strange": lambda text: [piece(i, text(i), kind) for kind in KINDS for i in range(20)],
    "one": lambda text: [piece(1, "a")],
    "none": lambda text: [],
    "many": lambda text: [piece(i, text(i)) for i in range(2000)],
}


@pytest.mark.parametrize("name", TEXTS)
def test_its_faces(name, examine, strange):
    view = examine(lambda: tokens(TEXTS[name](strange)))
    assert "<b>&'" not in view.markup and "<script" not in view.markup
    assert view._repr_mimebundle_()[0]["text/html"] == view.markup  # what GitHub shows


def test_the_digest_and_the_markup_say_text_id_and_kind():
    pieces = [piece(7, " the"), Piece(243, "", b"\xf0", 4, 4, "byte"), piece(32007, "<|end|>", "control")]
    view = tokens(pieces)
    assert view.text == "3 tokens, 1 byte, 1 control\n·the 7 | <F0> 243 | <|end|> 32007"
    assert "&lt;|end|&gt;" in view.markup and "<|end|>" not in view.markup
    assert "letters 0–4, bytes 20 74 68 65" in view.markup


def test_long_texts_say_what_is_left_out(strange):
    view = tokens(TEXTS["many"](strange))
    assert "the first 128 of 2000 tokens" in view.text
    assert view.live.data["note"] == "the first 1000 of 2000 tokens"
    assert len(view.live.data["pieces"]) == 1000


def test_letters_count_once_and_control_tokens_not():
    pieces = [
        Piece(1, "a", b"a", 0, 1, "normal"),
        Piece(2, "<0xF0>", b"\xf0\x9f", 1, 2, "byte"),
        Piece(3, "<0x99>", b"\x99\x82", 1, 2, "byte"),
        Piece(4, "<|end|>", b"", 2, 9, "control"),
    ]
    data = tokens(pieces).live.data
    assert (data["letters"], data["bytes"], data["count"]) == (2, 5, 3)


@pytest.mark.parametrize("bad", ["a text", [1, 2], ["a"]])
def test_what_are_no_pieces_is_refused(bad):
    with pytest.raises(InputError, match=r"tokenizer\.explain"):
        tokens(bad)
