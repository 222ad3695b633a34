"""norms in a browser."""

CODE = """
import torch
from tinyphi.show import norms
x = torch.tensor([[3.0, 4.0, 0.0, 0.0], [0.0, 0.0, 300.0, 400.0]])
norms(x, x / x.square().mean(dim=1, keepdim=True).sqrt() * torch.tensor([1.0, 0.5, 1.0, 0.25]), ["a", " b"])
"""


def test_hovering_says_the_numbers_of_a_token_and_of_a_channel(in_page):
    page = in_page(CODE)
    page.get_by_test_id("lengths").hover(position={"x": 120, "y": 100})
    text = page.get_by_test_id("readout").inner_text()
    assert "Token 0 a: root mean square 2.5 before" in text and "divided by" in text
    page.get_by_test_id("channels-before").hover(position={"x": 190, "y": 60})
    assert "Channel 1 of a: 4 before" in page.get_by_test_id("readout").inner_text()
    assert (
        "After ÷ that = 0.5: in an RMSNorm, the learned weight" in page.get_by_test_id("readout").inner_text()
    )
    page.get_by_test_id("channels-after").focus()
    page.keyboard.press("ArrowRight")
    assert "Channel 1 of a" in page.get_by_test_id("readout").inner_text()


def test_the_slider_and_the_switch_change_the_channels(in_page):
    page = in_page(CODE)
    panels = page.get_by_test_id("channels")
    last = panels.inner_html()
    page.get_by_test_id("token").fill("0")
    first = panels.inner_html()
    page.get_by_test_id("shape").check()
    assert len({last, first, panels.inner_html()}) == 3
    assert "before: root mean square 1" in panels.inner_text()


def test_many_channels_stay_fast(static, milliseconds):
    import torch

    from tinyphi.show import norms

    x = torch.randn(300, 9000, generator=torch.Generator().manual_seed(0))
    page = static(norms(x, x / 2))
    assert "of 300 tokens" in page.locator(".tinyphi-view").inner_text()
    milliseconds(page, "token", 3)
    assert milliseconds(page, "token", 7) < 100


def test_in_jupyterlab(lab):
    page = lab(CODE)
    page.get_by_test_id("channels-before").hover(position={"x": 190, "y": 60})
    assert "Channel 1 of ·b: 0 before" in page.get_by_test_id("readout").inner_text()
    before = page.get_by_test_id("channels").inner_html()
    page.get_by_test_id("token").fill("0")
    assert page.get_by_test_id("channels").inner_html() != before
