"""mask_map in a browser: a hover says the reason in words, sliders move over a long mask."""

import torch

from tinyphi.model.mask import positions_within, visible
from tinyphi.show import mask_map

WORDS = ["The", " cat", " sat", " on", " the", " mat", " and", " purred"]


def model_mask(segments, window=None):
    segments = torch.as_tensor(segments)[None]
    positions = positions_within(segments)
    return visible(segments, positions, segments, positions, window)[0]


def hover(page, row, column, count=8):
    """Point at a cell of the large heat map, whose cells end at the lower right corner of the canvas."""
    canvas = page.get_by_test_id("map")
    box = canvas.bounding_box()
    cell = min(34, max(8, 410 // count))
    x = box["width"] - 1 - (count - column - 0.5) * cell
    canvas.hover(position={"x": x, "y": box["height"] - 1 - (count - row - 0.5) * cell})
    return page.get_by_test_id("readout").inner_text()


def test_a_hover_says_why_the_window_hides_a_token(static):
    page = static(mask_map(model_mask(torch.ones(8), 4)))
    assert hover(page, 7, 2) == (
        "position 7 may not see position 2: it is 5 tokens back, and the window of 4 counts the token "
        "itself, so it reaches 3 back. It sees 4 tokens in all."
    )
    assert hover(page, 2, 7).startswith("position 2 may not see position 7: it comes 5 tokens later, ")
    assert hover(page, 3, 3) == "position 3 may see itself. It sees 4 tokens in all."
    assert hover(page, 5, 4) == "position 5 may see position 4, 1 token back. It sees 4 tokens in all."


def test_documents_padding_and_labels(static):
    segments = torch.tensor([0, 0, 1, 1, 1, 2, 2, 2])
    page = static(mask_map(model_mask(segments), WORDS, segments=segments))
    assert hover(page, 6, 3).startswith(
        "position 6 “·and” may not see position 3 “·on”: the one is in document 2, the other in document 1."
    )
    assert ": position 1 “·cat” is padding." in hover(page, 4, 1)
    assert "padding: 12" in page.get_by_test_id("legend").inner_text()


def test_what_breaks_the_rule_is_said(static):
    mask = model_mask(torch.ones(8), 4)
    mask[5, 0], mask[6, 5] = True, False
    page = static(mask_map(mask, window=4))
    assert "position 5 may see position 0, though it should not: it is 5 tokens back" in hover(page, 5, 0)
    assert "hides it, though it is an earlier token, 1 back" in hover(page, 6, 5)
    mask[6] = False
    assert "It sees nothing at all" in hover(static(mask_map(mask, window=4)), 6, 6)


def test_arrow_keys(static):
    page = static(mask_map(model_mask(torch.ones(8))))
    hover(page, 4, 4)
    page.get_by_test_id("map").focus()
    page.keyboard.press("ArrowRight")
    assert page.get_by_test_id("readout").inner_text().startswith("position 4 may not see position 5")


def test_a_frame_moves_over_a_long_mask(static):
    page = static(mask_map(model_mask(torch.ones(300), 100)))
    before = page.get_by_test_id("map").evaluate("canvas => canvas.toDataURL()")
    page.get_by_test_id("sources").fill("60")
    assert page.get_by_test_id("map").evaluate("canvas => canvas.toDataURL()") != before
    assert "position 299 may not see position 104: it is 195 tokens back" in hover(page, 47, 0, count=48)
    page.get_by_test_id("overview").click(position={"x": 100, "y": 100})
    assert page.get_by_test_id("queries").input_value() == "104"


def test_in_jupyterlab(lab):
    page = lab("import torch\nfrom tinyphi.show import mask_map\nmask_map(torch.ones(8, 8).tril().bool())")
    page.wait_for_selector(".tinyphi-view canvas")
    assert hover(page, 7, 2) == "position 7 may see position 2, 5 tokens back. It sees 8 tokens in all."
