"""weight_map in a browser."""

import pytest

CODE = """
import torch
from tinyphi.show import weight_map
weights = torch.randn({shape}, generator=torch.Generator().manual_seed(0))
weights[-1, -1] = -9
weight_map(weights)
"""


@pytest.mark.parametrize(
    ("shape", "place"),
    [("20, 30", "row 0, column 0: −"), ("500, 300", "rows 0 … 3, columns 0 … 2: root mean square")],
)
def test_hovering_says_place_and_value_and_the_slider_cuts_the_colours(in_page, shape, place):
    page = in_page(CODE.format(shape=shape))
    heat = page.get_by_test_id("map")
    heat.hover(position={"x": 1, "y": 1})
    assert place in page.get_by_test_id("readout").inner_text()
    picture = heat.evaluate("(canvas) => canvas.toDataURL()")
    page.get_by_test_id("clip").fill("-0.6")
    assert heat.evaluate("(canvas) => canvas.toDataURL()") != picture
    box = heat.bounding_box()
    heat.hover(position={"x": box["width"] - 3, "y": box["height"] - 3})
    assert "beyond the end of the colours" in page.get_by_test_id("readout").inner_text()


def test_hovering_the_histogram_counts(in_page):
    page = in_page(CODE.format(shape="20, 30"))
    page.get_by_test_id("histogram").hover(position={"x": 63, "y": 100})
    assert page.get_by_test_id("readout").inner_text().startswith("1 of 600 values lie between −9 and")


def test_a_large_matrix_stays_fast(static, milliseconds):
    import torch

    from tinyphi.show import weight_map

    page = static(weight_map(torch.randn(2000, 3000, generator=torch.Generator().manual_seed(0))))
    milliseconds(page, "clip", -0.1)
    assert milliseconds(page, "clip", -0.5) < 100


def test_in_jupyterlab(lab):
    page = lab(CODE.format(shape="20, 30"))
    heat = page.get_by_test_id("map")
    heat.hover(position={"x": 1, "y": 1})
    assert "row 0, column 0: " in page.get_by_test_id("readout").inner_text()
    picture = heat.evaluate("(canvas) => canvas.toDataURL()")
    page.get_by_test_id("clip").fill("-0.6")
    assert heat.evaluate("(canvas) => canvas.toDataURL()") != picture
