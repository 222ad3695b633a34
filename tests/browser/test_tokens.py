"""The token strip in a browser."""

from tinyphi.show import tokens
from tinyphi.tokenizer import Piece

PIECES = [
    Piece(7, " the", b" the", 0, 4, "normal"),
    Piece(9, "é<b>", "é<b>".encode(), 4, 8, "normal"),
    Piece(243, "<0xF0>", b"\xf0", 8, 9, "byte"),
    Piece(7, " the", b" the", 9, 13, "normal"),
    Piece(2, "<|end|>", b"", 13, 20, "control"),
    Piece(0, "", b"", 20, 20, "unknown"),
]
IN_A_CELL = """import tinyphi
from tinyphi.show import tokens
from tinyphi.tokenizer import Piece
tokens(tinyphi.load_tokenizer("smollm2-135m").explain("the cat and the llama"))"""


def test_a_hover_says_id_bytes_place_and_kind(static):
    page = static(tokens(PIECES))
    said = page.get_by_test_id("readout")
    page.get_by_test_id("token").nth(1).hover()
    text = said.inner_text()
    for part in ("id 9", "letters 4–8", "5 bytes C3 A9 3C 62 3E = “é<b>”", "4 letters", "a piece from"):
        assert part in text, text
    page.get_by_test_id("token").nth(2).hover()
    assert "1 byte F0 = no whole letter" in said.inner_text()
    page.get_by_test_id("token").nth(4).hover()
    assert "control token" in said.inner_text() and "no bytes" in said.inner_text()


def test_the_same_token_stands_out(static):
    page = static(tokens(PIECES))
    page.get_by_test_id("token").nth(0).hover()
    classes = page.get_by_test_id("token").evaluate_all("boxes => boxes.map(box => box.className)")
    assert ["same" in name for name in classes] == [False, False, False, True, False, False]
    assert "2 times in the text" in page.get_by_test_id("readout").inner_text()


def test_the_arrow_keys_walk(static):
    page = static(tokens(PIECES))
    page.get_by_test_id("token").nth(0).press("ArrowRight")
    assert "id 9" in page.get_by_test_id("readout").inner_text()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowLeft")
    assert "token 1" in page.get_by_test_id("readout").inner_text()


def test_many_and_none(static):
    many = [Piece(i, f" w{i}", b" w", 3 * i, 3 * i + 3, "normal") for i in range(3000)]
    page = static(tokens(many))
    assert page.get_by_test_id("token").count() == 1000
    assert "the first 1000 of 3000 tokens" in page.inner_text("body")
    assert static(tokens([])).get_by_test_id("token").count() == 0


def test_in_jupyterlab(lab):
    page = lab(IN_A_CELL)
    page.wait_for_selector("[data-testid=strip]")
    page.get_by_test_id("token").nth(1).hover()
    assert "“·cat” · id 2644" in page.get_by_test_id("readout").inner_text()
