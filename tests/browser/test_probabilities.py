"""The bars of a distribution in a browser."""

from types import SimpleNamespace

import torch

from tinyphi.show import probabilities

STEP = SimpleNamespace(
    probabilities=torch.tensor([0.5, 0.25, 0.125, 0.1, 0.025, 0.0]),
    kept=torch.tensor([True, True, True, False, False, False]),
    cuts={"top_k": torch.tensor([False, False, False, True, True, True])},
    id=1,
)
IN_A_CELL = """import torch
from tinyphi.show import probabilities
probabilities(torch.tensor([0.5, 0.25, 0.25]), "abc".__getitem__)"""


def words(token):
    return [" the", "<b>", "é", "d", "e", "\n"][token]


def test_a_hover_says_id_bytes_gap_and_sum(static):
    page = static(probabilities(STEP, words))
    said = page.get_by_test_id("readout")
    page.get_by_test_id("bar").nth(2).hover()
    text = said.inner_text()
    for part in ("“é” · id 2 · bytes C3 A9", "12.5 %, rank 3 of 6; with all above it 87.5 %",
                 "1.39 below the best", "= 4.00", "drawn with 14.3 %"):  # fmt: skip
        assert part in text, text
    page.get_by_test_id("bar").nth(3).hover()
    assert "cut by top-k: it cannot be drawn" in said.inner_text()
    page.get_by_test_id("bar").nth(5).hover()
    assert "the softmax gives 0" in said.inner_text()
    page.get_by_test_id("bar").nth(0).hover()
    assert "the best" in said.inner_text() and "null" not in said.inner_text()


def test_the_arrow_keys_walk(static):
    page = static(probabilities(STEP, words))
    page.get_by_test_id("bar").nth(0).press("ArrowDown")
    assert "id 1" in page.get_by_test_id("readout").inner_text()


def test_the_logarithmic_scale_changes_the_bars(static):
    page = static(probabilities(STEP, words))
    width = "bar => bar.querySelector('.p').getBoundingClientRect().width"
    before = page.get_by_test_id("bar").nth(4).evaluate(width)
    page.get_by_test_id("logarithmic").check()
    assert page.get_by_test_id("bar").nth(4).evaluate(width) > 2 * before


def test_in_jupyterlab(lab):
    page = lab(IN_A_CELL)
    page.wait_for_selector("[data-testid=bar]")
    page.get_by_test_id("bar").nth(1).hover()
    assert "with all above it 75.0 %" in page.get_by_test_id("readout").inner_text()
