"""Every view: what its digest says, that it draws without a warning, stays small, and refuses bad input."""

import math
import re
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from io import BytesIO
from types import SimpleNamespace

import pytest
import torch
from PIL import Image
from torch import Tensor

from tinyphi import show as views
from tinyphi.errors import InputError
from tinyphi.model.trace import Trace
from tinyphi.show import View


@dataclass
class Piece:
    id: int
    text: str
    bytes: bytes
    start: int
    end: int
    kind: str = "normal"


STRANGE = [
    " the",
    "\n",
    "$x$",
    "<b>&'\"",
    "日本",
    "\u05e9\u05dc",
    "🙂",
    "\x00",
    "a" * 60,
    "",
    "\\",
    "é\u0301",
]


def piece(number: int, text: str, kind: str = "normal") -> Piece:
    return Piece(number, text, text.encode(), 0, len(text), kind)


def strange(number: int) -> str:
    return STRANGE[number % len(STRANGE)]


def random_attention(*shape: int) -> Tensor:
    queries, sources = shape[-2:]
    scores = 2 * torch.randn(shape, generator=torch.Generator().manual_seed(0))
    future = torch.ones(queries, sources).triu(1 + sources - queries).bool()
    return scores.masked_fill(future, -math.inf).softmax(dim=-1)


def random_steps(count: int) -> SimpleNamespace:
    generator = torch.Generator().manual_seed(0)
    steps = []
    for number in range(count):
        values = torch.randn(500, generator=generator).mul(3).softmax(dim=0)
        kept = values >= values.sort(descending=True).values[number % 7]
        best = int(values.argmax())
        steps.append(
            SimpleNamespace(probabilities=values, kept=kept, id=best, cache_bytes=2000 * number, seconds=0.1)
        )
    return SimpleNamespace(steps=steps)


def random_trace(layers: int = 3, tokens: int = 5) -> Trace:
    trace, generator = Trace(), torch.Generator().manual_seed(0)
    state = torch.randn(2, tokens, 8, generator=generator)
    trace.record("embedding", state, "b t d")
    for layer in range(layers):
        trace.record(f"layers.{layer}.attention.output", state, "b t d")
        state = state + torch.randn(2, tokens, 8, generator=generator)
        trace.record(f"layers.{layer}.output", state, "b t d")
    trace.record("norm", state, "b t d")
    return trace


VIEWS: dict[str, Callable[[], View]] = {
    "tokens": lambda: views.tokens(
        [
            piece(i, text, kind)
            for kind in ("normal", "byte", "control", "unknown")
            for i, text in enumerate(STRANGE)
        ]
    ),
    "one token": lambda: views.tokens([piece(1, "a")]),
    "no tokens": lambda: views.tokens([]),
    "many tokens": lambda: views.tokens([piece(i, strange(i)) for i in range(2000)]),
    "probabilities": lambda: views.probabilities(random_steps(4).steps[3], strange),
    "two probabilities": lambda: views.probabilities(torch.tensor([1.0, 0.0]), strange),
    "large vocabulary": lambda: views.probabilities(torch.full((49152,), 1 / 49152), strange),
    "head": lambda: views.attention_head(random_attention(12, 12), STRANGE),
    "one token's head": lambda: views.attention_head(torch.ones(1, 1), ["a"]),
    "decoding head": lambda: views.attention_head(random_attention(1, 12), STRANGE),
    "long head": lambda: views.attention_head(random_attention(300, 300), STRANGE * 25),
    "heads": lambda: views.attention_heads(random_attention(9, 12, 12), STRANGE),
    "one head": lambda: views.attention_heads(random_attention(1, 3, 3)),
    "many long heads": lambda: views.attention_heads(random_attention(40, 100, 100)),
    "generation": lambda: views.generation(random_steps(10), strange),
    "one step": lambda: views.generation(random_steps(1), strange),
    "long generation": lambda: views.generation(random_steps(200), strange),
    "residual": lambda: views.residual_norms(random_trace()),
    "residual of one token": lambda: views.residual_norms(random_trace(40, 1)),
    "weights": lambda: views.weight_map(torch.randn(40, 60, generator=torch.Generator().manual_seed(0))),
    "large weights": lambda: views.weight_map(
        torch.randn(999, 70, generator=torch.Generator().manual_seed(0))
    ),
    "vector": lambda: views.weight_map(torch.linspace(0, 1, 100).bfloat16()),
    "constant": lambda: views.weight_map(torch.zeros(3, 3)),
}


@pytest.mark.parametrize("name", VIEWS)
def test_view(name: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # a missing glyph, say
        view, again = VIEWS[name](), VIEWS[name]()
        png = view.png()
    assert view.text == again.text and view.html() == again.html()  # the same twice
    assert sum(len(data) for data in view._repr_mimebundle_()[0].values()) < 40_000  # in a notebook
    assert len(view.text) < 9_000
    image = Image.open(BytesIO(png))
    assert image.convert("RGBA").getpixel((0, 0)) == (255, 255, 255, 255)
    assert image.width <= 1000 and image.height <= 1300
    assert view.alt and not re.search(r"-0\.0+\b", view.text)
    if view.markup is not None:
        assert "<b>&'" not in view.markup  # text from tokens is escaped
        assert not re.search(r"https?:|<script|<link", view.markup)


@pytest.mark.parametrize("name", VIEWS)
def test_a_bit_of_rounding_noise_does_not_change_a_digest(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another processor sums in another order: the last bits of the inputs differ, the digest should not."""
    text = VIEWS[name]().text
    randn, softmax = torch.randn, Tensor.softmax
    monkeypatch.setattr(torch, "randn", lambda *sizes, **more: randn(*sizes, **more) * (1 + 1e-7))
    monkeypatch.setattr(Tensor, "softmax", lambda *given, **more: softmax(*given, **more) * (1 + 1e-7))
    assert VIEWS[name]().text == text


def test_tokens_say_text_id_and_kind() -> None:
    pieces = [piece(7, " the"), Piece(243, "", b"\xf0", 4, 4, "byte"), piece(32007, "<|end|>", "control")]
    view = views.tokens(pieces)
    assert view.text == "3 tokens, 1 byte, 1 control\n·the 7 | <F0> 243 | <|end|> 32007"
    html = view.html()
    assert "&lt;|end|&gt;" in html and "<|end|>" not in html
    assert "letters 0–4, bytes 20 74 68 65" in html


def test_probabilities_say_what_was_cut_and_chosen() -> None:
    step = SimpleNamespace(
        probabilities=torch.tensor([0.125, 0.5, 0.25, 0.125]),
        kept=torch.tensor([False, True, True, False]),
        id=2,
    )
    text = views.probabilities(step, "abcd".__getitem__, top=3).text.splitlines()
    assert text[0] == "next token, 3 of 4 shown; entropy 1.75 bits; sampler kept 2, cut 0.250"
    assert text[1].split() == ["0.500", "1", "b"]
    assert text[2].split() == ["0.250", "2", "c", "←", "chosen"]
    assert text[3].split() == ["0.125", "cut", "0", "a"]
    assert text[4].split() == ["0.125", "all", "others"]


def test_attention_head_names_where_each_token_looks() -> None:
    weights = torch.tensor([[1.0, 0.0, 0.0], [0.5, 0.5, 0.0], [0.0, 0.75, 0.25]])
    lines = views.attention_head(weights, ["A", " b", "c"]).text.splitlines()
    assert lines[0].endswith("entropy 0.60 bits, to first token 0.500, token before 0.625, itself 0.583")
    assert lines[1:] == ["A → A 1.000", "·b → A 0.500, ·b 0.500", "c → ·b 0.750, c 0.250"]


def test_attention_of_a_decoding_step_belongs_to_the_last_label() -> None:
    lines = views.attention_head(torch.tensor([[0.0, 0.25, 0.75]]), ["a", "b", "c"]).text.splitlines()
    assert lines[1] == "c → c 0.750, b 0.250"
    assert "token before 0.250, itself 0.750" in lines[0]


def test_long_inputs_say_what_is_left_out() -> None:
    assert "the last 64 tokens shown" in VIEWS["long head"]().text
    assert "the last 32 tokens shown, the first 16 of 40 heads" in VIEWS["many long heads"]().text
    assert "the first 128 of 2000 tokens" in VIEWS["many tokens"]().text
    assert "the last 64 shown" in VIEWS["long generation"]().text


def test_generation_has_a_row_for_each_step() -> None:
    step = SimpleNamespace(
        probabilities=torch.tensor([0.25, 0.75]), kept=torch.tensor([False, True]), id=1, cache_bytes=3 * 1024
    )
    text = views.generation(SimpleNamespace(steps=[step, step]), "ab".__getitem__).text.splitlines()
    assert text[0] == "2 steps"
    assert text[3].split() == ["1", "0.750", "0.81", "0.250", "3.0", "KiB", "1", "b"]


def test_residual_norms_are_those_of_the_trace() -> None:
    trace = random_trace()
    lines = views.residual_norms(trace).text.splitlines()
    assert len(lines) == 2 + 4
    norms = trace["layers.2.output"][0].norm(dim=-1)
    last = lines[-1].split()
    assert last[0] == "2"
    shown = torch.tensor([float(number) for number in last[1:]])
    torch.testing.assert_close(
        shown, torch.stack([norms[0], norms[1:].median(), norms[1:].max()]), rtol=1e-3, atol=0
    )


def test_weight_map_counts_outliers() -> None:
    weights = torch.randn(64, 64, generator=torch.Generator().manual_seed(0))
    weights[3, 4] = 50
    assert views.weight_map(weights).text.endswith("beyond 6 standard deviations: 1 of 4096")


BAD: dict[str, Callable[[], View]] = {
    "logits for probabilities": lambda: views.probabilities(torch.randn(9), strange),
    "a batch of probabilities": lambda: views.probabilities(torch.ones(1, 1), strange),
    "kept of another size": lambda: views.probabilities(torch.ones(1), strange, kept=torch.ones(2).bool()),
    "all heads for one": lambda: views.attention_head(random_attention(1, 2, 3, 3), ["a"] * 3),
    "too few labels": lambda: views.attention_head(random_attention(3, 3), ["a"]),
    "too few labels for heads": lambda: views.attention_heads(random_attention(2, 3, 3), ["a"]),
    "more queries than sources": lambda: views.attention_head(random_attention(3, 3)[:, :2], ["a"] * 2),
    "one head for many": lambda: views.attention_heads(random_attention(3, 3)),
    "no steps": lambda: views.generation(SimpleNamespace(steps=[]), strange),
    "an empty trace": lambda: views.residual_norms(Trace()),
    "a cube of weights": lambda: views.weight_map(torch.ones(2, 2, 2)),
    "a list of weights": lambda: views.weight_map([1.0]),  # type: ignore[arg-type]
    "weights that are not finite": lambda: views.weight_map(torch.tensor([1.0, math.nan])),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_gets_a_clear_error(name: str) -> None:
    with pytest.raises(InputError):
        BAD[name]()


def test_importing_the_views_does_not_import_matplotlib() -> None:
    import subprocess
    import sys

    code = "import sys, tinyphi.show; assert not {'matplotlib', 'PIL'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
