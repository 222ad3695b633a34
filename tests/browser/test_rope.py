"""rope_pairs in a browser: the relative-position proof, live."""

import re

CODE = """
import torch
from tinyphi.show import rope_pairs
speeds = 10_000.0 ** -(torch.arange(48) / 48)
rope_pairs(speeds, speeds / 4)
"""


def cosines(page):
    """The sum that the view shows, and the bars it is the sum of."""
    shown = re.search(r"cosines: (−?[\d.]+)", page.get_by_test_id("sum").inner_text()).group(1)
    return shown, page.get_by_test_id("pairs").inner_html()


def test_shifting_both_changes_no_cosine_and_the_distance_changes_them(in_page):
    page = in_page(CODE)
    before, dial = cosines(page), page.get_by_test_id("dial-3").inner_html()
    page.get_by_test_id("shift").fill("917")
    assert cosines(page) == before
    assert page.get_by_test_id("dial-3").inner_html() != dial
    page.get_by_test_id("query").fill("40")
    after = cosines(page)
    assert after[0] != before[0] and after[1] != before[1]
    assert "query at 957, key at 922: distance 35" in page.get_by_test_id("sum").inner_text()


def test_hovering_a_dial_says_its_angles(in_page):
    page = in_page(CODE)
    page.get_by_test_id("dial-0").hover()
    text = page.get_by_test_id("readout").inner_text()
    assert "Pair 0 turns 1 radians per token, once around in 6.283 tokens" in text
    assert "cos((12 − 5) × 1) = cos(7) = 0.7539" in text
    page.get_by_test_id("speeds").select_option("1")
    assert "Pair 0 turns 0.25 radians per token" in page.get_by_test_id("readout").inner_text()
    page.get_by_test_id("pairs").focus()
    page.keyboard.press("ArrowRight")
    assert "Pair 1" in page.get_by_test_id("readout").inner_text()


def test_playing_moves_both_and_stops(in_page):
    page = in_page(CODE)
    before = cosines(page)
    page.get_by_test_id("play-shift").click()
    page.wait_for_function("document.querySelector('[data-testid=shift]').value > 2")
    page.get_by_test_id("play-shift").click()
    stopped = page.get_by_test_id("shift").input_value()
    page.wait_for_timeout(300)
    assert page.get_by_test_id("shift").input_value() == stopped
    assert cosines(page) == before


def test_a_thousand_pairs_stay_fast(static, milliseconds):
    import torch

    from tinyphi.show import rope_pairs

    page = static(rope_pairs(10_000.0 ** -(torch.arange(1024) / 1024)))
    milliseconds(page, "query", 3)
    assert milliseconds(page, "query", 77) < 100


def test_in_jupyterlab(lab):
    page = lab(CODE)
    page.get_by_test_id("dial-0").hover()
    assert "Pair 0 turns 1 radians per token" in page.get_by_test_id("readout").inner_text()
    before = cosines(page)
    page.get_by_test_id("query").fill("40")
    assert cosines(page)[1] != before[1]
