"""bit_microscope in a browser; and the browser rounds as the library does, bit by bit."""

import pytest
import torch

from tinyphi.quant.groupwise import quantize_int4, quantize_int8
from tinyphi.show.live import source

CODE = """
import torch
from tinyphi.quant.groupwise import quantize_int4
from tinyphi.show import bit_microscope
weight = 0.04 * torch.randn(1, 128, generator=torch.Generator().manual_seed(0))
given = quantize_int4(weight, 32)
bit_microscope(weight[0], given.codes[0], given.scales[0], group=1)
"""


@pytest.fixture
def round_there(page):
    """`rounded` of the view's script, run by the browser."""

    def run(weight, bits, size, minima):
        return page.evaluate(
            f"""([weight, bits, size, minima]) => {{
                {source("bit_microscope")}
                const made = rounded(new Float32Array(weight), bits, size, minima);
                return [made.codes, made.scales, made.minima || []].map((values) => Array.from(values));
            }}""",
            [weight.tolist(), bits, size, minima],
        )

    return run


def round_here(weight, bits, size, minima):
    """The rule of groupwise.py for any number of bits; a test below holds it to the library's 4 and 8."""
    groups = weight.reshape(-1, size)
    low = groups.amin(1).half() if minima else torch.zeros(len(groups)).half()
    top = 2**bits - 1 if minima else 2 ** (bits - 1) - 1
    reach = (groups.amax(1) - low.float()).clamp_min(0) if minima else groups.abs().amax(1)
    scales = (reach / top).half()
    scales = torch.where(scales.float() * (top + 0.5) < reach, scales + 2**-24, scales)
    step = scales.float().where(scales > 0, torch.ones(()))[:, None]
    codes = ((groups - low.float()[:, None]) / step).round().clamp(0 if minima else -top, top)
    zero = 0 if minima or bits == 8 else 2 ** (bits - 1)
    return [
        (codes + zero).flatten().long().tolist(),
        scales.float().tolist(),
        low.float().tolist() if minima else [],
    ]


def samples():
    """Windows of 128 weights: ordinary ones, and all that could trip a rounding."""
    generator = torch.Generator().manual_seed(1)
    normal = torch.randn(128, generator=generator)
    ties = torch.arange(128.0).remainder(15).sub(7).mul(0.5) * 2**-6
    ties[::16] = 7 * 2**-6
    return {
        "normal": 0.05 * normal,
        "one side": normal.abs() + 3,
        "ties": ties,
        "tiny": 1e-7 * normal,
        "smallest": normal * 1e-42,
        "largest": (normal / normal.abs().max() * 65504).clamp(-65504, 65504),
        "all the same": torch.full((128,), 2049.0),
        "zeros": torch.zeros(128),
        "outliers": normal * torch.exp(3 * torch.randn(128, generator=generator)),
        "bfloat16": (0.05 * normal).bfloat16().float(),
    }


@pytest.mark.parametrize("name", samples())
def test_the_rule_written_here_is_that_of_the_library(name):
    weight = samples()[name]
    for size in (16, 32, 64, 128):
        for minima in (False, True):
            library = quantize_int4(weight[None], size, symmetric=not minima)
            codes, scales, low = round_here(weight, 4, size, minima)
            assert library.codes[0].tolist() == codes and library.scales[0].tolist() == scales
            assert low == (library.minima[0].tolist() if minima else [])
    library = quantize_int8(weight[None])
    assert round_here(weight, 8, 128, False) == [library.codes[0].tolist(), library.scales[0].tolist(), []]


@pytest.mark.parametrize("name", samples())
def test_the_browser_rounds_as_the_library_does(round_there, name):
    weight = samples()[name]
    for bits in (2, 3, 4, 8):
        for size in (16, 32, 64, 128):
            for minima in (False, True):
                expected = round_here(weight, bits, size, minima)
                assert round_there(weight, bits, size, minima) == expected, (bits, size, minima)


def test_a_planted_mistake_in_rounding_is_noticed(page):
    """Half upward instead of to the even, as JavaScript's own rounding does it."""
    weight = samples()["ties"]
    wrong = source("bit_microscope").replace("near % 2 ? near - 1 : near", "false ? near - 1 : near")
    run = "return Array.from(rounded(new Float32Array(weight), 4, 16, false).codes);"
    codes = page.evaluate(f"(weight) => {{ {wrong}; {run} }}", weight.tolist())
    assert codes != round_here(weight, 4, 16, False)[0]


def test_hovering_says_the_arithmetic_of_a_weight(in_page):
    page = in_page(CODE)
    rows = page.get_by_test_id("rows")
    rows.hover(position={"x": 200, "y": 22})
    text = page.get_by_test_id("readout").inner_text()
    assert text.startswith(
        "Weight 32: code 7 = 0111₂ → (7 − 8) · 0.01949 = −0.01949, was −0.02454, error −21 %"
    )
    assert "low half of byte 16" in text
    rows.focus()
    page.keyboard.press("ArrowDown")
    text = page.get_by_test_id("readout").inner_text()
    assert text.startswith("Weight 33: code 8 = 1000₂") and "the high half of byte 16" in text
    byte = page.get_by_test_id("byte").nth(1)
    assert byte.inner_text() == "1001011197"
    byte.locator("[data-weight='35']").hover()
    assert page.get_by_test_id("readout").inner_text().startswith("Weight 35: code 9 = 1001₂")


def test_the_group_and_other_codes(in_page):
    page = in_page(CODE)
    table, levels = page.get_by_test_id("table"), page.get_by_test_id("levels")
    assert "as given\t4\t32\t72\t4.50\t10.3 %" in table.inner_text()
    pictures = [levels.inner_html()]
    page.get_by_test_id("group").fill("3")
    pictures.append(levels.inner_html())
    page.get_by_test_id("bits").select_option("3")
    assert "rounded\t3\t32\t56\t3.50" in table.inner_text()
    pictures.append(levels.inner_html())
    page.get_by_test_id("size").select_option("64")
    assert "rounded\t3\t64\t52\t3.25" in table.inner_text()
    assert page.get_by_test_id("byte").count() == 24
    page.get_by_test_id("minima").check()
    assert "rounded\t3\t64\t56\t3.50" in table.inner_text()
    page.get_by_test_id("rows").hover(position={"x": 200, "y": 60})
    assert " − 0." in page.get_by_test_id("readout").inner_text()  # plus a minimum below zero
    page.get_by_test_id("bits").select_option("8")
    assert "rounded\t8\t64\t136\t8.50" in table.inner_text()
    pictures.append(levels.inner_html())
    page.get_by_test_id("bits").select_option("given")
    assert "rounded" not in table.inner_text()
    assert len(set(pictures)) == 4


def test_the_plot_of_all_codes_tells_and_chooses(in_page):
    page = in_page(CODE)
    plot = page.get_by_test_id("trade")
    plot.hover(position={"x": 270, "y": 200})
    assert "8 bits, groups of 16, rounded: 144 bytes" in page.get_by_test_id("readout").inner_text()
    plot.click(position={"x": 270, "y": 200})
    assert "rounded\t8\t16\t144" in page.get_by_test_id("table").inner_text()
    assert (
        page.get_by_test_id("bits").input_value() == "8" and page.get_by_test_id("size").input_value() == "16"
    )


def test_codes_that_are_not_the_nearest_are_shown_as_given(static):
    from tinyphi.show import bit_microscope

    view = bit_microscope(torch.full((16,), 0.5), torch.full((16,), 3, dtype=torch.int8), torch.ones(1))
    page = static(view)
    page.get_by_test_id("rows").hover(position={"x": 200, "y": 60})
    assert (
        "code 3 = 00000011₂ → 3 · 1 = 3, was 0.5, error +500 %" in page.get_by_test_id("readout").inner_text()
    )
    assert page.get_by_test_id("group").is_hidden()


def test_many_weights_stay_fast(static, milliseconds):
    from tinyphi.show import bit_microscope

    weight = torch.randn(1, 512, generator=torch.Generator().manual_seed(0))
    given = quantize_int4(weight, 128)
    page = static(bit_microscope(weight[0], given.codes[0], given.scales[0]))
    milliseconds(page, "group", 1)
    assert milliseconds(page, "group", 2) < 100


def test_in_jupyterlab(lab):
    page = lab(CODE)
    page.get_by_test_id("rows").hover(position={"x": 200, "y": 22})
    assert "Weight 32: code 7" in page.get_by_test_id("readout").inner_text()
    before = page.get_by_test_id("levels").inner_html()
    page.get_by_test_id("bits").select_option("2")
    assert page.get_by_test_id("levels").inner_html() != before
