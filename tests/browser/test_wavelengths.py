"""wavelengths in a browser: a pair's numbers, and an explorer that knows the methods as Python does."""

import pytest

from tinyphi.config import PhiConfig
from tinyphi.longcontext.extension import METHODS

CODE = """
from tinyphi.config import PhiConfig
from tinyphi.model.rope import inverse_frequencies
from tinyphi.show import wavelengths
mini, long = (PhiConfig.preset(f"phi-3-mini-{size}k") for size in (4, 128))
wavelengths({"plain": inverse_frequencies(mini, 1), "long": inverse_frequencies(long, 4097)}, context=4096)
"""


def rows(page):
    """What the table says: a list of words for each series, the explorer's last."""
    return [row.inner_text().split("\t") for row in page.get_by_test_id("row").all()]


def go_to(page, pair):
    page.get_by_test_id("turns").focus()
    for _ in range(48):
        page.keyboard.press("ArrowLeft")
    for _ in range(pair):
        page.keyboard.press("ArrowRight")
    assert page.get_by_test_id("readout").inner_text().startswith(f"Pair {pair}\t")


def test_pointer_and_keys_read_off_a_pair(in_page):
    page = in_page(CODE)
    box = page.get_by_test_id("factors").bounding_box()
    page.mouse.move(box["x"] + 70, box["y"] + 50)
    assert rows(page)[0][1:] == ["7.612", "× 1", "538.1"]  # pair 1
    go_to(page, 12)
    assert rows(page)[:2] == [
        ["● plain", "62.83", "× 1", "65.19"],
        ["■ long", "623.9", "× 9.93", "6.565"],
    ]


@pytest.mark.parametrize("method", ["PI", "NTK", "YaRN"])
@pytest.mark.parametrize("power", [0, 2.5, 5, 6])
def test_the_explorer_calculates_as_python_does(in_page, method, power):
    page = in_page(CODE)
    page.get_by_test_id("method").select_option(method)
    page.get_by_test_id("scale").fill(str(power))
    expected = METHODS[method](PhiConfig.preset("phi-3-mini-4k"), round(4096 * 2**power)).factors
    go_to(page, 0)
    for pair, factor in enumerate(expected):
        if pair in (0, 1, 15, 20, 30, 33, 34, 47):
            name, _, found, _ = rows(page)[-1]
            assert name == f"┅ yours: {method}"
            assert float(found.removeprefix("× ")) == pytest.approx(factor, rel=1e-3)
        page.keyboard.press("ArrowRight")


def test_the_explorer_says_what_a_method_costs(in_page):
    page = in_page(CODE)
    verdict = page.get_by_test_id("verdict")
    page.get_by_test_id("method").select_option("PI")
    assert verdict.inner_text() == (
        "32 of 48 pairs do not turn round within 4096 tokens; plain: 14. The fastest pair sees a neighbour "
        "at distance 0.03125. In a text of 131072 tokens, 0 of the 14 pairs that had not turned round in "
        "training meet angles that are new to them."
    )
    page.get_by_test_id("method").select_option("NTK")
    assert verdict.inner_text().startswith("23 of 48") and "at distance 1. " in verdict.inner_text()
    assert "13 of the 14 pairs" in verdict.inner_text()
    page.get_by_test_id("scale").fill("0")
    assert (
        verdict.inner_text().startswith("14 of 48") and "In a text of 4096 tokens, 0" in verdict.inner_text()
    )


def test_a_ramp_has_two_ends(in_page):
    page = in_page(CODE)
    assert not page.get_by_test_id("from").is_visible()
    page.get_by_test_id("method").select_option("NTK")
    ntk = page.get_by_test_id("factors").inner_html()
    page.get_by_test_id("method").select_option("a ramp")
    assert page.get_by_test_id("factors").inner_html() == ntk  # from the first pair to the last
    page.get_by_test_id("from").fill("10")
    page.get_by_test_id("to").fill("20")
    for pair, factor in ((10, "× 1"), (15, "× 5.657"), (20, "× 32"), (47, "× 32")):
        go_to(page, pair)
        assert rows(page)[-1][2] == factor
    page.get_by_test_id("to").fill("3")  # the ends crossed: a step
    go_to(page, 10)
    assert rows(page)[-1][2] == "× 1"
    page.keyboard.press("ArrowRight")
    assert rows(page)[-1][2] == "× 32"


def test_no_explorer_without_plain_speeds(in_page):
    page = in_page(CODE.replace('"plain": inverse_frequencies(mini, 1), ', ""))
    assert page.get_by_test_id("scale").count() == page.get_by_test_id("factors").count() == 0
    go_to(page, 0)
    assert rows(page) == [["● long", "6.723", "× 1", "609.3"]]


def test_a_thousand_pairs_stay_fast(static, milliseconds):
    import torch

    from tinyphi.show import wavelengths

    speeds = 10_000.0 ** -(torch.arange(1024) / 1024)
    page = static(wavelengths({str(number): speeds / (1 + number) for number in range(6)}, 4096))
    milliseconds(page, "scale", 3)
    assert milliseconds(page, "scale", 4) < 100


def test_in_jupyterlab(lab):
    page = lab(CODE)
    go_to(page, 12)
    before = page.get_by_test_id("verdict").inner_text()
    page.get_by_test_id("scale").fill("2")
    assert page.get_by_test_id("verdict").inner_text() != before
    assert rows(page)[1] == ["■ long", "623.9", "× 9.93", "6.565"]
