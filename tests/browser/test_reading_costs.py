"""reading_costs in a browser: the sides are compared at a length."""

CODE = """
from tinyphi.show import reading_costs
reading_costs({"mine": [(1024, 0.5, 12.0), (2048, 1.5, 18.0)], "theirs": [(1024, 1.0, 40.0)]})
"""


def test_a_length_compares_the_sides(in_page):
    page = in_page(CODE)
    plot, readout = page.get_by_test_id("seconds"), page.get_by_test_id("readout")
    box = plot.bounding_box()
    page.mouse.move(box["x"] + box["width"] - 20, box["y"] + 50)
    assert readout.inner_text() == (
        "2,048 tokens. mine: 1.5 s, 18 MB (3 × and 1.5 × those for 1,024); theirs: not measured."
    )
    page.get_by_test_id("memory").focus()
    page.keyboard.press("ArrowLeft")
    assert readout.inner_text() == "1,024 tokens. mine: 0.5 s, 12 MB; theirs: 1 s, 40 MB."


def test_in_jupyterlab(lab):
    page = lab(CODE)
    page.get_by_test_id("memory").focus()
    page.keyboard.press("ArrowRight")
    assert "2,048 tokens. mine: 1.5 s" in page.get_by_test_id("readout").inner_text()
