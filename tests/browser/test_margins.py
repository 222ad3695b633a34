"""margins in a browser: β changes rewards and loss as DPO's equations say, and a pair can be read."""

import math
import re

import pytest

CODE = """
import torch
from tinyphi.show import margins
log = [{"step": n, "rewards/accuracies": n / 10, "rewards/margins": n / 4} for n in range(1, 11)]
margins(torch.tensor([2.0, -4.0, 10.0]), torch.tensor([-2.0, -1.0, -30.0]), 0.1, log)
"""
DELTA = (4.0, -3.0, 40.0)


def loss(beta):
    return sum(math.log1p(math.exp(-beta * delta)) for delta in DELTA) / 3


@pytest.mark.parametrize("beta", [0.01, 0.1, 1.0, 10.0])
def test_beta_recomputes_the_loss(in_page, beta):
    page = in_page(CODE)
    page.get_by_test_id("beta").fill(str(math.log10(beta)))
    totals = page.get_by_test_id("totals").inner_text()
    assert "66.7 % prefer the chosen answer, at any β" in totals
    assert float(re.search(r"loss ([\d.]+)\.$", totals)[1]) == pytest.approx(loss(beta), rel=1e-3)
    assert float(re.search(r"mean margin ([\d.]+),", totals)[1]) == pytest.approx(beta * 41 / 3, rel=1e-3)
    page.get_by_test_id("trained").click()
    assert "At β = 0.1:" in page.get_by_test_id("totals").inner_text()


def test_pairs_and_steps_can_be_read(in_page):
    page = in_page(CODE)
    readout = page.get_by_test_id("readout")
    page.get_by_test_id("curve").focus()
    page.keyboard.press("ArrowLeft")  # the pair with the smallest margin
    assert readout.inner_text() == (
        "Pair 1: rewards −0.4 chosen, −0.1 rejected; margin −0.3, so σ(βΔ) = 42.6 %, loss 0.8544. "
        "It pulls with the weight β σ(−βΔ) = 0.05744."
    )
    page.get_by_test_id("beta").fill("0")
    assert "margin −3, so σ(βΔ) = 4.74 %, loss 3.049" in readout.inner_text()
    box = page.get_by_test_id("log-margin").bounding_box()
    page.mouse.move(box["x"] + box["width"] - 15, box["y"] + 40)
    assert page.get_by_test_id("log-readout").inner_text() == "Step 10: accuracy 100.0 %, margin 2.5."


def test_without_a_log_and_in_jupyterlab(lab):
    page = lab(CODE.replace(", 0.1, log)", ")"))
    page.get_by_test_id("beta").fill("1")
    assert "At β = 10:" in page.get_by_test_id("totals").inner_text()
    assert page.get_by_test_id("log-readout").count() == 0


def test_many_pairs_move_in_a_blink(in_page, milliseconds):
    page = in_page(
        "import torch\nfrom tinyphi.show import margins\nmargins(torch.randn(2000), torch.randn(2000))"
    )
    assert min(milliseconds(page, "beta", value) for value in (-1.5, 0, 0.5)) < 1000
