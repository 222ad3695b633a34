"""sparse_mask in a browser: a head, all heads together, and who reads a cell."""

CODE = """
import torch
from tinyphi.show import sparse_mask
i, j, h = torch.arange(9)[:, None], torch.arange(9), torch.arange(4)[:, None, None]
sparse_mask((j <= i) & ((i - j < 2) | ((j + h + 1) % 3 == 0)), 4)
"""


def hover(page, row, column, count=9):
    """Point at a cell of the map and return what the view says."""
    cell = min(26, max(3, 420 // count))
    page.get_by_test_id("map").hover(position={"x": (column + 0.5) * cell, "y": (row + 0.5) * cell})
    return page.get_by_test_id("readout").inner_text()


def test_a_cell_tells_who_reads_it(in_page):
    page = in_page(CODE)
    assert hover(page, 6, 2) == (
        "Queries of block 6 (tokens 24–27), keys of block 2 (tokens 8–11): 4 blocks back, further back: a "
        "head reads some of those. Head 0 reads it. Read by 2 of 4 heads: 0, 3.\n"
        "Head 0 reads 3 of 7 blocks here, its own included."
    )
    assert "1 block back, one of the nearest, which every head reads. Head 0 reads it. All 4 heads" in hover(
        page, 6, 5
    )
    assert "in the future, 2 blocks ahead. Head 0 does not read it. No head reads it." in hover(page, 4, 6)
    assert "their own block" in hover(page, 3, 3)


def test_another_head_and_all_together(in_page):
    page = in_page(CODE)
    hover(page, 6, 2)
    page.get_by_test_id("head").fill("1")
    assert (
        "Head 1 does not read it. Read by 2 of 4 heads: 0, 3." in page.get_by_test_id("readout").inner_text()
    )
    share = page.get_by_test_id("share")
    assert share.inner_text().startswith("Head 1 reads 57.8 %") and "No other head" in share.inner_text()
    assert "read, nearby: the last 2 blocks" in page.get_by_test_id("legend").inner_text()
    page.get_by_test_id("together").check()
    assert share.inner_text().startswith("All heads together read 100.0 %")
    assert "Together the heads read 7 of 7 blocks" in page.get_by_test_id("readout").inner_text()
    page.get_by_test_id("head").fill("3")
    assert not page.get_by_test_id("together").is_checked()
    assert "These heads read the same: 0, 3." in share.inner_text()


def test_arrow_keys(in_page):
    page = in_page(CODE)
    hover(page, 4, 4)
    page.get_by_test_id("map").focus()
    page.keyboard.press("ArrowDown")
    assert (
        page.get_by_test_id("readout")
        .inner_text()
        .startswith("Queries of block 5 (tokens 20–23), keys of block 4")
    )


def test_phi_3_smalls_own_is_quick(in_page, milliseconds):
    page = in_page(
        CODE.replace("arange(9)", "arange(128)")
        .replace("arange(4)", "arange(32)")
        .replace("< 2", "< 16")
        .replace("% 3", "% 8")
    )
    assert milliseconds(page, "head", 7) < 1000
    assert "7, 15, 23, 31" in page.get_by_test_id("share").inner_text()


def test_in_jupyterlab(lab):
    page = lab(CODE)
    assert "Read by 2 of 4 heads: 0, 3." in hover(page, 6, 2)
