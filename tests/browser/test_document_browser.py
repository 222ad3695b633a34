"""document_browser in a browser: the threshold judges again, documents by reason, marks in their text."""

CODE = """
from tinyphi.show import document_browser
texts = ["Water <b>boils</b> at 100.", "🙂 BUY NOW!!! BUY NOW!!!", "bleed the radiator lol", "All owls are fish."]
document_browser(texts, [0.9, 0.8, 0.2, 0.5], 0.5, ["", "repeated_lines", "", ""], [True, False, True, False], [[], [(2, 12), (13, 23)], [], []])
"""  # noqa: E501


def test_the_threshold_judges_again(in_page):
    page = in_page(CODE)
    totals, rows = page.get_by_test_id("totals"), page.get_by_test_id("row")
    assert totals.inner_text() == "2 of 4 documents kept: precision 50.0 %, recall 50.0 %; 4 in the list."
    assert [text[:6] for text in rows.all_inner_texts()] == ["✓ 0.90", "✗ 0.80", "✓ 0.50", "✗ 0.20"]
    page.get_by_test_id("threshold").fill("0.51")
    assert totals.inner_text() == "1 of 4 documents kept: precision 100.0 %, recall 50.0 %; 4 in the list."
    page.get_by_test_id("threshold").fill("0.1")
    assert totals.inner_text() == "3 of 4 documents kept: precision 66.7 %, recall 100.0 %; 4 in the list."
    page.get_by_test_id("threshold").fill("1")
    assert totals.inner_text() == "0 of 4 documents kept: precision –, recall 0 %; 4 in the list."


def test_documents_by_reason_with_their_text(in_page):
    page = in_page(CODE)
    head, body, rows = (page.get_by_test_id(name) for name in ("head", "body", "row"))
    assert body.inner_text() == "Water <b>boils</b> at 100."
    assert head.inner_text() == "kept, score 0.900, labelled good. Document 0, 26 letters."
    page.get_by_test_id("filter").select_option("rule:repeated_lines")
    assert rows.count() == 1 and head.inner_text().startswith("dropped by repeated_lines, score 0.800")
    assert page.get_by_test_id("mark").all_inner_texts() == ["BUY NOW!!!", "BUY NOW!!!"]  # past the emoji
    page.get_by_test_id("filter").select_option("good but dropped")
    assert body.inner_text() == "bleed the radiator lol"
    assert "dropped by its score" in head.inner_text() and "the filter is wrong" in head.inner_text()
    page.get_by_test_id("threshold").fill("0.2")
    assert rows.count() == 0 and head.inner_text() == "No document is of this kind."


def test_mouse_keys_and_order(in_page):
    page = in_page(CODE)
    body, rows = page.get_by_test_id("body"), page.get_by_test_id("row")
    rows.nth(2).click()
    assert body.inner_text() == "All owls are fish."
    page.keyboard.press("ArrowDown")
    assert body.inner_text() == "bleed the radiator lol"
    page.keyboard.press("ArrowDown")
    assert body.inner_text() == "bleed the radiator lol"
    page.get_by_test_id("order").select_option("reading")
    assert [text[:6] for text in rows.all_inner_texts()] == ["✓ 0.90", "✗ 0.80", "✗ 0.20", "✓ 0.50"]


def test_in_jupyterlab(lab):
    page = lab(CODE)
    page.get_by_test_id("threshold").fill("0.51")
    assert "1 of 4 documents kept" in page.get_by_test_id("totals").inner_text()


def test_many_documents_move_in_a_blink(in_page, milliseconds):
    page = in_page(
        "from tinyphi.show import document_browser\n"
        "document_browser(['some words ' * 180] * 400, [n / 400 for n in range(400)])"
    )
    assert min(milliseconds(page, "threshold", value) for value in (0.1, 0.4, 0.8)) < 1000
