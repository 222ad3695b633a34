"""token_mask in a browser: hover and arrow keys read a token's target and loss."""

import pytest

CODE = """
import torch
from tinyphi.show import token_mask
ids, segments = torch.tensor([5, 6, 7, 8, 5, 9, 0]), torch.tensor([1, 1, 1, 1, 2, 2, 0])
labels = torch.tensor([-100, -100, 7, 8, -100, 9, -100])
token_mask(ids, labels, {0: "<pad>", 5: "<user>", 6: " Hi", 7: " there", 8: ".", 9: "!"}.__getitem__, segments, torch.full((7,), 0.6931472))
"""  # noqa: E501


def test_a_token_says_whether_it_counts_and_why(in_page):
    page = in_page(CODE)
    tokens, readout = page.get_by_test_id("token"), page.get_by_test_id("readout")
    tokens.nth(2).hover()
    assert readout.inner_text().splitlines() == [
        "token 2: “·there” · id 7 · target: 7",
        "After token 1, “·Hi”, the model has to say “·there”, and is taught to.",
        "Loss 0.6931 nats: the model gave it a probability of 50.0 %.",
    ]
    tokens.nth(2).click()
    said = []
    for _ in range(4):
        page.keyboard.press("ArrowRight")
        said.append(readout.inner_text())
    assert "begins a document" in said[1] and "Loss" not in said[1]
    assert "After token 4" in said[2] and "no token sees it" in said[3]
    page.keyboard.press("ArrowRight")
    for _ in range(5):
        page.keyboard.press("ArrowLeft")
    assert "its label is −100" in readout.inner_text()
    assert page.get_by_test_id("document").all_inner_texts() == [
        "document 1: 2 of 4 count, mean loss 0.6931", "document 2: 1 of 2 count, mean loss 0.6931",
        "padding: 1",
    ]  # fmt: skip


def test_in_jupyterlab(lab):
    page = lab(CODE)
    page.get_by_test_id("token").nth(5).hover()
    assert "token 5: “!”" in page.get_by_test_id("readout").inner_text()


@pytest.mark.parametrize("shade", ["0", "4"])
def test_letters_can_be_read_on_every_shade(in_page, shade):
    losses = "torch.tensor([0, 0, 0, 4.0, 0, 2.0, 0])"
    page = in_page(CODE.replace("torch.full((7,), 0.6931472)", losses))
    place = {"0": 2, "4": 3}[shade]
    look = (
        page.get_by_test_id("token")
        .nth(place)
        .evaluate("(box) => [getComputedStyle(box).color, getComputedStyle(box).backgroundColor]")
    )
    ink, ground = ([int(part) for part in colour[4:-1].split(",")] for colour in look)
    assert abs(sum(ink) - sum(ground)) > 350
