"""mlp_gates in a browser."""

CODE = """
import torch, tinyphi
from tinyphi.show import mlp_gates
trace, generator = tinyphi.Trace(), torch.Generator().manual_seed(0)
for layer in (2, 5):
    for part in ("gate", "up"):
        trace.record(f"layers.{layer}.mlp.{part}", torch.randn(1, 4, 50, generator=generator), "b t f")
mlp_gates(trace, ["a", " b", "c", "\\n"], layer=5)
"""


def test_hovering_says_the_arithmetic_of_a_channel(in_page):
    page = in_page(CODE)
    texts = []
    for number in (0, 5):
        page.get_by_test_id(f"channel-{number}").hover()
        texts.append(page.get_by_test_id("readout").inner_text())
        assert (
            "silu(gate) = gate × sigmoid(gate) =" in texts[-1] and "hidden = silu(gate) × up =" in texts[-1]
        )
    page.get_by_test_id("silu").hover(position={"x": 70, "y": 150})
    page.get_by_test_id("silu").focus()
    page.keyboard.press("ArrowRight")
    assert "Channel" in page.get_by_test_id("readout").inner_text()
    assert page.evaluate("document.activeElement.dataset.testid") == "silu"  # the focus stays
    page.get_by_test_id("counts").hover(position={"x": 200, "y": 60})
    texts.append(page.get_by_test_id("readout").inner_text())
    assert "of 50 gates lie between" in texts[-1]
    assert len(set(texts)) == 3


def test_the_sliders_and_the_map_change_the_picture(in_page):
    page = in_page(CODE)
    shares = page.get_by_test_id("shares")
    assert "Layer 5, token ↵" in shares.inner_text()
    curves = [page.get_by_test_id("curve").inner_html()]
    page.get_by_test_id("layer").fill("0")
    assert "Layer 2, token ↵" in shares.inner_text()
    curves.append(page.get_by_test_id("curve").inner_html())
    page.get_by_test_id("token").fill("0")
    assert "Layer 2, token a" in shares.inner_text()
    curves.append(page.get_by_test_id("curve").inner_html())
    page.get_by_test_id("map").focus()
    page.keyboard.press("ArrowDown")
    assert "Layer 2, ·b: " in page.get_by_test_id("readout").inner_text()
    page.keyboard.press("Enter")
    assert "Layer 2, token ·b" in shares.inner_text()
    curves.append(page.get_by_test_id("curve").inner_html())
    assert len(set(curves)) == 4


def test_a_long_trace_of_many_layers_stays_fast(static, milliseconds):
    import torch

    from tinyphi.model.trace import Trace
    from tinyphi.show import mlp_gates

    trace, generator = Trace(), torch.Generator().manual_seed(0)
    for layer in range(32):
        for part in ("gate", "up"):
            trace.record(f"layers.{layer}.mlp.{part}", torch.randn(1, 512, 256, generator=generator), "b t f")
    page = static(mlp_gates(trace, [" token"] * 512))
    assert "the first 64 of 512 tokens" in page.locator(".tinyphi-view").inner_text()
    milliseconds(page, "token", 3)
    assert milliseconds(page, "token", 50) < 100
    assert milliseconds(page, "layer", 30) < 100


def test_in_jupyterlab(lab):
    page = lab(CODE)
    page.get_by_test_id("channel-2").hover()
    assert "hidden = silu(gate) × up =" in page.get_by_test_id("readout").inner_text()
    before = page.get_by_test_id("curve").inner_html()
    page.get_by_test_id("layer").fill("0")
    assert page.get_by_test_id("curve").inner_html() != before
