"""cache_filling in a browser."""

CODE = """
from tinyphi.model.cache import CacheSnapshot
from tinyphi.show import cache_filling
kept = lambda t: t if t <= 20 else 9 + (t - 20) % 11
snapshots = [CacheSnapshot(t, kept(t), 20, 20 * 1024, 10, t > 30) for t in range(1, 60)]
cache_filling(snapshots)
"""


def test_hovering_a_slot_says_what_it_holds(in_page):
    page = in_page(CODE)
    page.get_by_test_id("step").fill("11")  # 12 tokens, of which the next sees 9
    texts = []
    for slot in (1, 5, 15):
        page.get_by_test_id("slots").hover(position={"x": 13 * slot + 6, "y": 6})
        texts.append(page.get_by_test_id("readout").inner_text())
    assert "Slot 1: key and value of token 1" in texts[0] and "outside of the window" in texts[0]
    assert "Slot 5: key and value of token 5" in texts[1] and "the next token may look at it" in texts[1]
    assert "Slot 15: spare room" in texts[2]


def test_the_slider_goes_through_time(in_page):
    page = in_page(CODE)
    numbers, slots = page.get_by_test_id("numbers"), page.get_by_test_id("slots")
    assert (
        "seen 59 tokens · stored 15 · spare 5 · dropped 44 · memory 20.0 KiB · window 10"
        in numbers.inner_text()
    )
    picture = slots.evaluate("(canvas) => canvas.toDataURL()")
    page.get_by_test_id("step").fill("20")
    assert "seen 21 tokens · stored 10 · spare 10 · dropped 11" in numbers.inner_text()
    assert "11 tokens outside of the window were dropped" in page.get_by_test_id("readout").inner_text()
    assert slots.evaluate("(canvas) => canvas.toDataURL()") != picture
    page.get_by_test_id("step").fill("30")
    assert "LongRoPE changed its factors" in page.get_by_test_id("readout").inner_text()
    page.get_by_test_id("time").hover(position={"x": 60, "y": 60})
    assert int(page.get_by_test_id("step").input_value()) < 5


def test_playing_fills_the_cache(in_page):
    page = in_page(CODE)
    page.get_by_test_id("play").click()
    assert "■ stop" in page.get_by_test_id("play").inner_text()
    page.wait_for_function("document.querySelector('[data-testid=step]').value === '58'")
    page.wait_for_function("document.querySelector('[data-testid=play]').textContent === '▶ decode'")


def test_thousands_of_snapshots_stay_fast(static, milliseconds):
    from tinyphi.model.cache import CacheSnapshot
    from tinyphi.show import cache_filling

    snapshots = [CacheSnapshot(t, t, 8192, 8192 * 1024, None, False) for t in range(5000)]
    page = static(cache_filling(snapshots))
    milliseconds(page, "step", 3)
    assert milliseconds(page, "step", 1500) < 100


def test_in_jupyterlab(lab):
    page = lab(CODE)
    page.get_by_test_id("step").fill("11")
    assert "seen 12 tokens · stored 12 · spare 8" in page.get_by_test_id("numbers").inner_text()
    page.get_by_test_id("slots").hover(position={"x": 6, "y": 6})
    assert "Slot 0: key and value of token 0" in page.get_by_test_id("readout").inner_text()
