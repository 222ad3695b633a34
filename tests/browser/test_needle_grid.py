"""needle_grid in a browser: a cell tells question, truth and answer."""

CODE = """
from types import SimpleNamespace
from tinyphi.show import needle_grid
def trial(tokens, depth, score, answer): return SimpleNamespace(tokens=tokens, depth=depth, score=score, answer=answer, truth=("12345",), question="The pass key is")
trials = [trial(1000, 0, 1.0, " 12345."), trial(1000, 0, 0.0, " a key"), trial(2000, 50, 1.0, " 12345")]
needle_grid(SimpleNamespace(lengths=(1000, 2000), depths=(0, 50), trials=trials), trained=1500)
"""  # noqa: E501


def test_hovering_tells_what_was_answered(in_page):
    page = in_page(CODE)
    cells, readout = page.get_by_test_id("cell"), page.get_by_test_id("readout")
    assert cells.all_inner_texts() == ["50", "–", "–", "100"]
    cells.nth(0).hover()
    assert readout.inner_text().splitlines() == [
        "1000 tokens, needle at 0 %: 50.0 % found in 2 trials.",
        "The pass key is",
        "✓ answered “·12345.”",
        "✗ answered “·a·key”, true is 12345",
    ]
    cells.nth(1).hover()
    assert readout.inner_text() == "2000 tokens, needle at 0 %: not tried yet."
    assert "red line: trained on 1500 tokens" in page.locator(".tinyphi-view").inner_text()


def test_arrow_keys_walk(in_page):
    page = in_page(CODE)
    page.get_by_test_id("grid").focus()
    for key in ("ArrowDown", "ArrowDown", "ArrowRight", "ArrowRight"):
        page.keyboard.press(key)
    assert (
        page.get_by_test_id("readout")
        .inner_text()
        .startswith("2000 tokens, needle at 50 %: 100.0 % found in 1 trial.")
    )


def test_in_jupyterlab(lab):
    page = lab(CODE)
    page.get_by_test_id("cell").nth(3).hover()
    assert "✓ answered “·12345”" in page.get_by_test_id("readout").inner_text()
