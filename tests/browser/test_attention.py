"""The explorer and the single head in a browser: hovers, sliders, lines, ranking, the kernel; how fast."""

import inspect
import re
import statistics

import pytest
import torch
from einops import repeat

from tinyphi.model.trace import Trace
from tinyphi.show import attention, attention_head
from tinyphi.show.live import source

WORDS = ["The", " keys", " on", " the", " piano", ".", " The", " keys", "<b>", "\n"]


def a_pass(layers, heads, groups, tokens, channels):
    """The trace of a forward pass on random queries and keys; all layers are alike but for the first."""
    trace, generator = Trace(), torch.Generator().manual_seed(0)
    mask = torch.ones(1, tokens, tokens).tril().bool()
    trace.record("mask", mask, "b t s")
    for layer in range(layers):
        part = trace.at(f"layers.{layer}.attention")
        if layer < 2:
            queries = 2 * torch.randn(1, heads, tokens, channels, generator=generator)
            keys = torch.randn(1, groups, tokens, channels, generator=generator)
            scores = queries @ repeat(keys, "b n s c -> b (n g) s c", g=heads // groups).mT * channels**-0.5
            weights = scores.masked_fill(~mask, float("-inf")).softmax(dim=-1)
        part.record("rotated_queries", queries, "b h t c")
        part.record("rotated_keys", keys, "b n t c")
        part.record("scores", scores, "b h t s")
        part.record("weights", weights, "b h t s")
    return trace


@pytest.fixture(scope="module")
def trace():
    return a_pass(layers=3, heads=6, groups=2, tokens=len(WORDS), channels=8)


@pytest.fixture(scope="module")
def long_view():
    labels = [f" word{number % 97}" for number in range(512)]
    return attention(a_pass(layers=30, heads=9, groups=3, tokens=512, channels=64), labels, layer=1, head=4)


def hover(page, row, column, count=10):
    """Point at a cell of the large heat map, whose cells end at the lower right corner of the canvas."""
    canvas = page.get_by_test_id("map")
    box = canvas.bounding_box()
    cell = min(34, max(11, 410 // count))
    x = box["width"] - 1 - (count - column - 0.5) * cell
    canvas.hover(position={"x": x, "y": box["height"] - 1 - (count - row - 0.5) * cell})


def said(page, testid="readout"):
    return page.get_by_test_id(testid).inner_text()


def weight_said(page):
    return float(re.search(r"weight ([\d.]+(?:e−\d+)?)\.$", said(page))[1].replace("−", "-"))


def picture(page, testid="map"):
    return page.get_by_test_id(testid).evaluate("canvas => canvas.toDataURL()")


def test_a_hovered_cell_shows_its_arithmetic(static, trace):
    page = static(attention(trace, WORDS, layer=1, head=4))
    hover(page, 9, 2)
    assert said(page).startswith("“↵” (9) → “·on” (2): q·k = ")
    score = trace["layers.1.attention.scores"][0, 4, 9, 2].item()
    dot, scaled = (
        float(x.replace("−", "-")) for x in re.search(r"q·k = (\S+), × \S+ = (\S+);", said(page)).groups()
    )
    assert scaled == pytest.approx(score, abs=0.02) and dot == pytest.approx(score * 8**0.5, abs=0.05)
    assert weight_said(page) == pytest.approx(
        trace["layers.1.attention.weights"][0, 4, 9, 2].item(), abs=2e-3
    )
    assert page.locator("[data-testid=arithmetic] rect").count() == 8  # a bar for each channel
    assert "1/√8 = 0.3536" in said(page, "steps")


def test_a_hidden_cell_has_weight_zero(static, trace):
    page = static(attention(trace, WORDS))
    hover(page, 2, 7)
    assert said(page).endswith("hidden by the mask, so exp(−∞) = 0: weight 0.")
    assert "hidden: in the future" in said(page, "steps")


def test_arrow_keys_move_like_the_pointer(static, trace):
    page = static(attention(trace, WORDS))
    hover(page, 5, 3)
    page.get_by_test_id("map").focus()
    page.keyboard.press("ArrowLeft")
    assert "→ “·on” (2)" in said(page)
    page.keyboard.press("ArrowDown")
    assert said(page).startswith("“·The” (6)")


def test_sliders_and_small_pictures_choose_the_head(static, trace):
    page = static(attention(trace, WORDS))
    before = picture(page)
    page.get_by_test_id("layer").fill("1")
    assert said(page, "title") == "layer 1, head 0" and picture(page) != before
    page.get_by_test_id("head-5").click()
    assert said(page, "title") == "layer 1, head 5" and page.get_by_test_id("head").input_value() == "5"
    hover(page, 9, 0)
    expected = trace["layers.1.attention.weights"][0, 5, 9, 0].item()
    assert weight_said(page) == pytest.approx(expected, abs=2e-3)


def test_the_ranking_jumps_to_a_head(static, trace):
    view = attention(trace, WORDS)
    page = static(view)
    page.get_by_test_id("pattern").select_option("previous")
    scores = torch.tensor(view.live.data["scores"]["previous"])
    layer, head = divmod(int(scores.argmax()), 6)
    assert said(page, "rank-0") == f"layer {layer}, head {head}\n{scores.max():.3f}"
    page.get_by_test_id("rank-0").click()
    assert said(page, "title") == f"layer {layer}, head {head}"
    page.get_by_test_id("pattern").select_option("sharp")
    lowest = torch.tensor(view.live.data["scores"]["entropy"]).min()
    assert said(page, "rank-0").endswith(f"{lowest:.2f} bits")


def test_lines_show_where_a_token_looks(static, trace):
    page = static(attention(trace, WORDS))
    page.get_by_test_id("lines").check()
    box = page.get_by_test_id("line-picture").bounding_box()
    step = box["height"] / len(WORDS)
    page.mouse.move(box["x"] + 80, box["y"] + 8.5 * step)
    weights = trace["layers.0.attention.weights"][0, 0, 8]
    best = int(weights.argmax())
    assert f"“<b>” (8) → “{WORDS[best].replace(' ', '·')}” ({best})" in said(page)
    assert f"{weights[best]:.2f}" in page.get_by_test_id("line-picture").text_content()
    page.get_by_test_id("line-picture").focus()
    page.keyboard.press("ArrowUp")
    assert said(page).startswith("“·keys” (7)")


def test_a_page_says_what_it_has_no_room_for(static, long_view):
    page = static(long_view)
    assert "16 bits" in said(page, "status")
    page.get_by_test_id("layer").fill("17")
    page.wait_for_function(
        "() => document.querySelector('[data-testid=status]').textContent.includes('no room')"
    )
    assert "of 270 heads exactly" in said(page, "status") and "the weight is at most" in said(page)


def test_the_frame_moves_over_a_long_text(static, long_view):
    page = static(long_view)
    assert "480–511" in page.inner_text(".tinyphi-view")
    before = picture(page)
    page.get_by_test_id("sources").fill("0")
    assert picture(page) != before and "0–31" in page.inner_text(".tinyphi-view")
    box = page.get_by_test_id("overview").bounding_box()
    page.mouse.click(box["x"] + 50, box["y"] + 150)
    assert page.get_by_test_id("queries").input_value() == str(round(150 / 200 * 512 - 16))
    last = round(150 / 200 * 512 - 16) + 31
    assert said(page).startswith(f"“·word{last % 97}” ({last}) → ")  # the numbers follow the frame


TIMES = """() => {
  const find = (name) => document.querySelector(`[data-testid=${name}]`);
  const view = document.querySelector('.tinyphi-view');
  const time = (act) => Array.from({ length: 25 }, (_, n) => {
    const from = performance.now();
    act(n);
    view.offsetHeight; // the layout belongs to it
    return performance.now() - from;
  });
  const slide = (name, by) => (n) => {
    const slider = find(name);
    slider.value = (+slider.value + by * (n + 1)) % (+slider.max + 1);
    slider.dispatchEvent(new Event('input'));
  };
  const point = (name, dx, dy) => (n) => {
    const box = find(name).getBoundingClientRect();
    const at = { clientX: box.right - dx, clientY: box.bottom - 6 - ((n * dy) % 370), bubbles: true };
    find(name).dispatchEvent(new PointerEvent('pointermove', at));
  };
  const times = {
    hover: time(point('map', 100, 12)), head: time(slide('head', 1)),
    sources: time(slide('sources', 37)), layer: time(slide('layer', 7)),
  };
  find('layer').value = 1;
  find('layer').dispatchEvent(new Event('input'));
  find('lines').click();
  return { ...times, lines: time(point('line-picture', 400, 15)), head_in_lines: time(slide('head', 1)) };
}"""


def test_a_trace_of_512_tokens_and_270_heads_stays_responsive(static, long_view):
    """Under 100 ms for each kind of interaction; a second try, for other work may disturb the first."""
    for _ in range(2):
        page = static(long_view)
        times = page.evaluate(TIMES)
        medians = {name: round(statistics.median(values), 1) for name, values in times.items()}
        print("\nmilliseconds, median:", medians, "largest:", {n: round(max(v), 1) for n, v in times.items()})
        if max(medians.values()) < 100:
            break
    assert max(medians.values()) < 100


def test_jupyterlab_fetches_exact_numbers_from_the_kernel(lab):
    page = lab(
        "import torch\nfrom einops import repeat\nfrom tinyphi.model.trace import Trace\n"
        "import tinyphi.show.attention\nfrom tinyphi.show import attention\n"
        f"{inspect.getsource(a_pass)}\n"
        "trace = a_pass(layers=4, heads=9, groups=3, tokens=300, channels=64)\n"
        "labels = [f' w{n % 50}' for n in range(300)]\n"
        "view = attention(trace, labels, layer=1, head=4)\n"
        "view.live.data['exact'].clear()\n"  # as if the page had had no room at all
        "view"
    )
    page.wait_for_selector(".tinyphi-view canvas")
    status = "document.querySelector('[data-testid=status]').textContent"
    page.wait_for_function(f"() => {status}.includes('float32')")
    page.get_by_test_id("layer").fill("0")
    page.wait_for_function(f"() => {status}.includes('float32')")
    trace = a_pass(layers=4, heads=9, groups=3, tokens=300, channels=64)
    hover(page, 31, 5, count=32)
    assert said(page).startswith("“·w49” (299) → “·w23” (273)")
    score = trace["layers.0.attention.scores"][0, 4, 299, 273].item()
    assert f" = {score:.2f};".replace("-", "−") in said(page)


def test_one_head_says_weight_and_sum(static):
    weights = torch.tensor([[1.0, 0.0, 0.0], [0.5, 0.5, 0.0], [0.1, 0.2, 0.4]])
    page = static(attention_head(weights, ["a", " b", "<c>"]))
    hover(page, 2, 1, count=3)
    assert "“<c>” → “·b”: weight 0.200. All weights of this row add up to 0.700." in said(page)
    hover(page, 0, 2, count=3)
    assert "“a” → “<c>”, which comes later: weight 0.000." in said(page)


def test_one_head_in_jupyterlab(lab):
    page = lab(
        "import torch\nfrom tinyphi.show import attention_head\n"
        "attention_head(torch.tensor([[1.0, 0.0], [0.25, 0.75]]), ['a', ' b'])"
    )
    page.wait_for_selector(".tinyphi-view canvas")
    hover(page, 1, 0, count=2)
    assert "“·b” → “a”: weight 0.250" in said(page)


def test_after_a_failure_the_kernel_is_asked_again(page, trace):
    live = attention(trace, WORDS).live
    page.evaluate(
        f"""([data, reply]) => {{
            {source("attention")}
            let count = 0;
            start(document.body, data, async () => {{ if (count++) return reply; throw new Error("busy"); }});
        }}""",
        [{**live.data, "exact": {}}, live.answer({"layer": 0, "head": 1})],
    )
    page.get_by_text("The kernel could not answer: busy").wait_for()
    page.get_by_test_id("head-1").click()
    page.get_by_text("Computed here from the kernel").wait_for()
