"""stale_cache in a browser: the cosines at one key, and a query that leaves the stale keys behind."""

import math
import re

import pytest

CODE = """
from tinyphi.config import PhiConfig
from tinyphi.model.rope import inverse_frequencies
from tinyphi.show import stale_cache
phi = PhiConfig.preset("phi-3-mini-128k")
stale_cache(inverse_frequencies(phi, 4096), inverse_frequencies(phi, 4097), 4096)
"""
SMALL = "import torch\nfrom tinyphi.show import stale_cache\nstale_cache({}, {}, {})"


def numbers(text):
    return [float(found) for found in re.findall(r"-?\d+\.?\d*", text.replace("−", "-"))]


def test_the_map_says_the_cosines_of_a_pair_at_a_key(in_page):
    page = in_page(SMALL.format("torch.tensor([1.0, 0.1])", "torch.tensor([1.0, 0.02])", 8))
    readout = page.get_by_test_id("readout")
    page.get_by_test_id("map").focus()
    for key in ("ArrowRight",) * 5 + ("ArrowDown",):
        page.keyboard.press(key)
    right, stale = math.cos(0.02 * 3), math.cos(0.02 * 8 - 0.1 * 5)
    assert readout.inner_text() == (
        f"Pair 1, key at 5: cosine {right:.2f} if all is right, {stale:.2f} with the stale key. Its hand is "
        f"{0.4 / (2 * math.pi):.4g} turns from where it should be. "
        f"Mean error of keys 5 – 5: {right - stale:.2f}."
    )
    page.keyboard.press("ArrowUp")
    assert "Pair 0" in readout.inner_text() and readout.inner_text().endswith(": 0.00.")


def test_the_same_numbers_as_the_digest(in_page):
    from tinyphi.config import PhiConfig
    from tinyphi.model.rope import inverse_frequencies
    from tinyphi.show import stale_cache

    phi = PhiConfig.preset("phi-3-mini-128k")
    lines = stale_cache(
        inverse_frequencies(phi, 4096), inverse_frequencies(phi, 4097), 4096
    ).text.splitlines()
    page = in_page(CODE)
    assert numbers(page.get_by_test_id("summary").inner_text())[3] == numbers(lines[0])[2]
    by_distance = list(zip(*(numbers(line) for line in lines[-3:]), strict=True))
    plot, box = page.get_by_test_id("curves"), page.get_by_test_id("curves").bounding_box()
    compared = 0
    for distance, right, stale in by_distance:
        x = 52 + math.log(distance) / math.log(8192) * (box["width"] - 52 - 12)
        plot.hover(position={"x": x, "y": 100})
        near, key, *found = numbers(page.get_by_test_id("readout").inner_text())
        assert key == 4096 - near
        if near == distance:  # not all distances are drawn
            assert found == [right, stale]
            compared += 1
    assert compared >= 4
    assert by_distance[0][1] > 0.9 and by_distance[0][2] < 0.2


def test_the_query_leaves_the_stale_keys_behind(in_page):
    page = in_page(CODE)
    summary, readout = page.get_by_test_id("summary"), page.get_by_test_id("readout")
    before = summary.inner_text()
    assert before.startswith("The query stands at 4096; keys 0 – 4095 are stale, all of them.")
    assert "The nearest stale key, at distance 1: mean of all pairs 0.12, right would be 0.98." in before
    page.get_by_test_id("since").fill("5")
    assert summary.inner_text().startswith(
        "The query stands at 4112; keys 0 – 4095 are stale, the 16 after them"
    )
    assert "at distance 17" in summary.inner_text()
    plot = page.get_by_test_id("curves")
    plot.hover(position={"x": 60, "y": 100})
    assert readout.inner_text() == (
        "Distance 1, key at 4111: mean of all pairs 0.98. This key is right: it came after the boundary."
    )
    plot.hover(position={"x": 330, "y": 100})
    assert readout.inner_text().endswith("before the beginning of the text.")
    plot.hover(position={"x": 200, "y": 100})
    assert "with the stale key" in readout.inner_text()


def test_as_many_keys_are_right_as_came_after_the_boundary(in_page):
    page = in_page(SMALL.format("torch.tensor([1.0, 0.1])", "torch.tensor([1.0, 0.02])", 8))
    page.get_by_test_id("since").fill("2")  # two tokens
    page.get_by_test_id("curves").focus()
    page.keyboard.press("ArrowRight")
    assert page.get_by_test_id("readout").inner_text().startswith("Distance 2, key at 8: ")
    assert "This key is right" in page.get_by_test_id("readout").inner_text()
    page.keyboard.press("ArrowRight")
    assert page.get_by_test_id("readout").inner_text().startswith("Distance 3, key at 7: ")
    assert "with the stale key" in page.get_by_test_id("readout").inner_text()


@pytest.mark.parametrize(("pairs", "tokens"), [(1, 8), (3, 100), (1024, 131_072)])
def test_any_size_stays_fast(static, milliseconds, pairs, tokens):
    import torch

    from tinyphi.show import stale_cache

    speeds = 10_000.0 ** -(torch.arange(pairs) / pairs)
    page = static(stale_cache(speeds, speeds / 2, tokens))
    milliseconds(page, "since", 1)
    assert milliseconds(page, "since", 3) < 500
    assert page.get_by_test_id("map").bounding_box()["height"] < 460


def test_in_jupyterlab(lab):
    page = lab(CODE)
    page.get_by_test_id("since").fill("3")
    assert "at distance 5" in page.get_by_test_id("summary").inner_text()
    page.get_by_test_id("map").focus()
    page.keyboard.press("ArrowDown")
    assert "Pair 1, key at 31" in page.get_by_test_id("readout").inner_text()
