"""red_team_table in a browser: a cell opens its conversations with verdict and reason."""

CODE = """
from types import SimpleNamespace as one
from tinyphi.show import red_team_table
def rate(hits, of): return one(hits=hits, of=of, share=hits / of, interval=(0.1, 0.9))
def talk(category, reply, outcome): return one(category=category, turns=["Ask", "Ask <b>again</b>"], replies=["Hm.", reply], outcome=outcome, reason="a rule")
talks = [talk("fire", "No.", "refused"), talk("fire", "Sure.", "harmful"), talk("benign", "I will not.", "refused")]
first = one(attack="direct", persona="low-skilled", harmful=rate(1, 2), refused=rate(1, 1), attempts=talks)
second = one(attack="crescendo", persona="intermediate", harmful=rate(0, 2), refused=rate(0, 1), attempts=[])
red_team_table({"before": [first, second], "after": [second_ for second_ in (one(**{**vars(first), "attempts": []}), second)]})
"""  # noqa: E501


def test_a_click_opens_conversations(in_page):
    page = in_page(CODE)
    cells, talks = page.get_by_test_id("cell"), page.get_by_test_id("talk")
    assert cells.all_inner_texts()[:4] == ["50 % 10–90", "100 % 10–90", "50 % 10–90", "100 % 10–90"]
    cells.nth(0).click()
    verdicts = page.get_by_test_id("verdict").all_inner_texts()
    assert verdicts == ["✗ harmful: a rule (fire)", "■ refused: a rule (fire)"]
    assert talks.first.inner_text().splitlines()[:4] == [
        "user Ask", "model Hm.", "user Ask <b>again</b>", "model Sure.",
    ]  # fmt: skip
    cells.nth(1).click()
    assert page.get_by_test_id("verdict").all_inner_texts() == ["■ refused: a rule (benign)"]
    assert "1 of 1 harmless requests refused" in page.get_by_test_id("readout").inner_text()


def test_arrow_keys_walk(in_page):
    page = in_page(CODE)
    page.get_by_test_id("grid").focus()
    for key in ("ArrowDown", "ArrowDown", "ArrowRight", "ArrowRight"):
        page.keyboard.press(key)
    readout = page.get_by_test_id("readout").inner_text()
    assert readout.startswith("crescendo, after: 0 of 2 harmful replies")
    assert "No conversations are stored here." in readout


def test_in_jupyterlab(lab):
    page = lab(CODE)
    page.get_by_test_id("cell").first.click()
    assert "harmful: a rule" in page.get_by_test_id("verdict").first.inner_text()
