"""The grid of the logit lens in a browser."""

import time

import torch

from tinyphi.show import logit_lens

TOY = torch.tensor([[0.5, 0.3, 0.2], [0.2, 0.5, 0.3], [0.1, 0.2, 0.7]]).log()[:, None]
TWO = torch.cat((TOY, TOY.flip(-1)), dim=1)
IN_A_CELL = """import torch
from tinyphi.show import logit_lens
logits = torch.tensor([[0.5, 0.3, 0.2], [0.2, 0.5, 0.3], [0.1, 0.2, 0.7]]).log()[:, None]
logit_lens(logits, [" x"], "abc".__getitem__)"""


def view():
    return logit_lens(TWO, [" x", "<b>"], "abc".__getitem__, names=["embed", "0", "1"])


def test_a_hover_lists_the_cell(static):
    page = static(view())
    said = page.get_by_test_id("readout")
    page.get_by_test_id("cell").nth(2).hover()  # layer 0 at the first token
    text = said.inner_text()
    for part in (
        "after ·x",
        "layer 0",
        "50.0 %",
        "30.0 %",
        "“c” is here at rank 2, with 30.0 %",
        "best from layer 1 on",
    ):
        assert part in text, text
    assert "entropy 1.49 bits" in text
    page.get_by_test_id("cell").nth(5).hover()
    assert "This is the model's answer" in said.inner_text() and "null" not in said.inner_text()


def test_another_colour_changes_the_picture(static):
    page = static(view())
    colours = "cells => cells.map(cell => cell.style.background)"
    seen = [page.get_by_test_id("cell").evaluate_all(colours)]
    for way in ("entropy", "rank"):
        page.get_by_test_id("colour").select_option(way)
        seen.append(page.get_by_test_id("cell").evaluate_all(colours))
    assert seen[0] != seen[1] != seen[2] != seen[0]
    ranks = page.get_by_test_id("cell").evaluate_all(colours)
    assert ranks[4] == ranks[5] == "rgb(8, 48, 107)"  # the last layer has the answer at rank 1


def test_the_arrow_keys_walk(static):
    page = static(view())
    page.locator("table.grid").press("ArrowUp")
    assert "layer 0" in page.get_by_test_id("readout").inner_text()
    assert "after <b>" in page.get_by_test_id("readout").inner_text()


def test_a_large_grid_stays_fast(static):
    large = torch.randn(65, 64, 500, generator=torch.Generator().manual_seed(0))
    page = static(logit_lens(large, ["w"] * 64, str))
    started = time.perf_counter()
    page.get_by_test_id("cell").nth(700).hover()
    page.get_by_test_id("colour").select_option("rank")
    assert time.perf_counter() - started < 2
    cell = page.get_by_test_id("cell").nth(900)
    timed = "cell => { const start = performance.now(); %s; return performance.now() - start; }"
    spent = cell.evaluate(timed % "cell.dispatchEvent(new PointerEvent('pointerenter'))")
    assert spent < 100


def test_in_jupyterlab(lab):
    page = lab(IN_A_CELL)
    page.wait_for_selector("[data-testid=cell]")
    page.get_by_test_id("cell").nth(0).hover()
    assert "“c” is here at rank 3" in page.get_by_test_id("readout").inner_text()
