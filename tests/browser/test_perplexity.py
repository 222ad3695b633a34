"""perplexity in a browser: the lines are compared in a band."""

CODE = """
from types import SimpleNamespace
from tinyphi.show import perplexity
def bands(*values): return [SimpleNamespace(start=1000 * n, end=1000 * n + 1000, tokens=999, perplexity=value) for n, value in enumerate(values)]
perplexity({"as it is": bands(20.0, 15.25, float("inf")), "YaRN": bands(21.0, 16.0)}, trained=2000)
"""  # noqa: E501


def test_a_band_compares_the_lines(in_page):
    page = in_page(CODE)
    plot, readout = page.get_by_test_id("perplexity"), page.get_by_test_id("readout")
    box = plot.bounding_box()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + 50)
    assert readout.inner_text() == "Positions 1000 – 1999: as it is 15.25 (999 tokens); YaRN 16 (999 tokens)."
    page.keyboard.press("Tab")
    page.keyboard.press("ArrowRight")
    assert readout.inner_text() == (
        "Positions 2000 – 2999, beyond the training: as it is – (999 tokens); YaRN –."
    )
    line = page.get_by_test_id("trained").bounding_box()
    assert box["x"] + box["width"] / 2 < line["x"] < box["x"] + box["width"]


def test_in_jupyterlab(lab):
    page = lab(CODE)
    page.get_by_test_id("perplexity").focus()
    page.keyboard.press("ArrowLeft")
    assert "Positions 0 – 999: as it is 20" in page.get_by_test_id("readout").inner_text()
