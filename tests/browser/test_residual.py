"""residual in a browser."""

CODE = """
import torch, tinyphi
from tinyphi.show import residual
from tinyphi.config import PhiConfig
from tinyphi.model.transformer import Phi3
size = dict(vocab_size=61, hidden_size=48, intermediate_size=64, num_attention_heads=6, num_key_value_heads=2)
ids = dict(bos_token_id=None, eos_token_id=None, pad_token_id=None)
model = Phi3(PhiConfig(num_hidden_layers=3, max_position_embeddings=64, **ids, **size))
trace = tinyphi.Trace()
logits = model(torch.tensor([[1, 2, 3, 4]]), trace=trace)
residual(trace, ["a", " b", "c", "d"])
"""


def test_hovering_says_what_a_layer_added_to_a_token(in_page):
    page = in_page(CODE)
    page.get_by_test_id("norms").hover(position={"x": 300, "y": 100})
    text = page.get_by_test_id("readout").inner_text()
    assert "After layer 0, token" in text and "Attention added" in text and "The MLP added" in text
    page.get_by_test_id("norms").hover(position={"x": 80, "y": 100})
    assert "Embedding of token" in page.get_by_test_id("readout").inner_text()
    page.get_by_test_id("cosine").focus()
    page.keyboard.press("ArrowRight")
    assert "After layer 1, token 1 ·b" in page.get_by_test_id("readout").inner_text()


def test_the_slider_changes_the_token(in_page):
    page = in_page(CODE)
    before = [page.get_by_test_id(name).inner_html() for name in ("norms", "added", "cosine")]
    page.get_by_test_id("token").fill("3")
    after = [page.get_by_test_id(name).inner_html() for name in ("norms", "added", "cosine")]
    assert all(old != new for old, new in zip(before, after, strict=True))
    assert "What each layer adds at token 3 d" in page.locator(".tinyphi-view").inner_text()


def test_clicking_keeps_the_token_that_the_pointer_is_on(in_page):
    page = in_page(CODE)
    page.get_by_test_id("norms").click(position={"x": 300, "y": 20})
    page.get_by_test_id("readout").hover()
    kept = page.get_by_test_id("token").input_value()
    assert f"token {kept} " in page.get_by_test_id("readout").inner_text()


def test_many_layers_and_tokens_stay_fast(static, milliseconds):
    import torch

    from tinyphi.model.trace import Trace
    from tinyphi.show import residual

    trace, x = Trace(), torch.randn(1, 512, 16, generator=torch.Generator().manual_seed(0))
    trace.record("embedding", x, "b t d")
    for layer in range(40):
        for name in ("attention.output", "after_attention", "mlp.output", "output"):
            trace.record(f"layers.{layer}.{name}", x * (layer + 1), "b t d")
    page = static(residual(trace))
    milliseconds(page, "token", 3)
    assert milliseconds(page, "token", 50) < 100


def test_in_jupyterlab(lab):
    page = lab(CODE)
    page.get_by_test_id("norms").hover(position={"x": 300, "y": 100})
    assert "After layer 0, token" in page.get_by_test_id("readout").inner_text()
    before = page.get_by_test_id("added").inner_html()
    page.get_by_test_id("token").fill("3")
    assert page.get_by_test_id("added").inner_html() != before
