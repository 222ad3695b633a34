"""roc_explorer in a browser: threshold and base rate change table and precision as their definitions say."""

import math
import re

import pytest

CODE = """
import torch
from tinyphi.show import roc_explorer
scores = {"hate": torch.tensor([.9, .8, .8, .6, .3, .2, .1, 0.]), "violence": torch.linspace(0, 1, 8)}
labels = {"hate": torch.tensor([1, 1, 0, 1, 0, 0, 0, 0]), "violence": torch.arange(8) > 3}
roc_explorer(scores, labels, {"hate": 0.7, "violence": 0.5}, 0.1)
"""


def numbers(page, testid):
    text = page.get_by_test_id(testid).inner_text().replace(",", "")
    return [float(number) for number in re.findall(r"\b[\d.]+\b", text.partition("flagged")[2])]


@pytest.mark.parametrize(
    ("threshold", "table"),
    [(0.7, [2, 1, 3, 1, 4, 5]), (0.0, [3, 5, 8, 0, 0, 0]), (1.0, [0, 0, 0, 3, 5, 8])],
)
def test_the_threshold_recounts(in_page, threshold, table):
    page = in_page(CODE)
    page.get_by_test_id("threshold").fill(str(threshold))
    assert numbers(page, "measured") == table
    hits, alarms = table[0] / 3, table[1] / 5
    totals = page.get_by_test_id("totals").inner_text()
    if hits:
        precision = 0.1 * hits / (0.1 * hits + 0.9 * alarms)
        assert f"At a base rate of 10.0 %: precision {100 * precision:.1f} %" in totals
    else:
        assert "precision –" in totals
    accuracy = 0.1 * hits + 0.9 * (1 - alarms)
    assert f"accuracy {100 * accuracy:.1f} %; to flag nothing would have 90.0 %." in totals


def test_the_base_rate_changes_what_is_expected(in_page):
    page = in_page(CODE)
    page.get_by_test_id("rate").fill(str(math.log10(0.01)))
    assert "precision 3.26 %" in page.get_by_test_id("totals").inner_text()
    assert numbers(page, "expected") == [67, 1980, 2047, 33, 7920, 7953]
    assert numbers(page, "measured") == [2, 1, 3, 1, 4, 5]


def test_points_and_categories_can_be_read(in_page):
    page = in_page(CODE)
    readout = page.get_by_test_id("readout")
    page.get_by_test_id("curve").focus()
    page.keyboard.press("ArrowRight")
    assert "hate: from 0.9 on, hits 33.3 %, false alarms 0 %" in readout.inner_text()
    page.get_by_test_id("category").select_option(label="violence")
    totals = page.get_by_test_id("totals").inner_text()
    assert totals.startswith("violence, flagged from 0.5 on: hits (recall) 100.0 %, false alarms 0 %.")
    box = page.get_by_test_id("curve").bounding_box()
    page.mouse.move(box["x"] + box["width"] - 14, box["y"] + 40)
    assert "violence: from 0 on, hits 100.0 %, false alarms 100.0 %" in readout.inner_text()


def test_one_category_in_jupyterlab(lab):
    page = lab(
        "import torch\nfrom tinyphi.show import roc_explorer\n"
        "roc_explorer({'x': torch.linspace(-1 / 3, 2 / 3, 9)}, {'x': torch.arange(9) > 4}, 0.0)"
    )
    page.get_by_test_id("threshold").focus()
    page.keyboard.press("Home")
    assert "hits (recall) 100.0 %, false alarms 100.0 %" in page.get_by_test_id("totals").inner_text()
    assert page.get_by_test_id("category").count() == 0


def test_many_texts_move_in_a_blink(in_page, milliseconds):
    page = in_page(
        "import torch\nfrom tinyphi.show import roc_explorer\n"
        "labels = {str(n): torch.rand(5000) < 0.2 for n in range(8)}\n"
        "roc_explorer({n: torch.rand(5000) for n in labels}, labels)"
    )
    assert min(milliseconds(page, "threshold", value) for value in (0.2, 0.5, 0.7)) < 1000
