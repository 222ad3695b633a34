"""benchmarks in a browser."""

CODE = """
from tinyphi.show import benchmarks
models = ("mini", "small", "medium")
rows = {"MMLU": (68.8, 75.7, 78.0), "MATH": (41.3, 34.6, 53.1), "GPQA": (32.8, 34.3, None)}
rows["done"] = (100, 99, 100)
scores = {name: dict(zip(models, row)) for name, row in rows.items()}
benchmarks(scores, {"MATH": "0 shots, chain of thought"})
"""


def order(page):
    return page.get_by_test_id("name").all_text_contents()


def test_a_row_tells_all_its_scores(in_page):
    page = in_page(CODE)
    chart, readout = page.get_by_test_id("chart"), page.get_by_test_id("readout")
    assert order(page) == ["MATH", "MMLU", "done", "GPQA"]
    chart.focus()
    page.keyboard.press("ArrowDown")
    assert readout.inner_text() == (
        "MATH (0 shots, chain of thought): mini 41.3, small 34.6, medium 53.1. "
        "+11.8 for medium; of what mini misses, it gets 20 %."
    )
    name = page.get_by_test_id("name").nth(2).bounding_box()
    page.mouse.move(name["x"] + 200, name["y"] + 6)
    assert readout.inner_text().endswith("0.0 for medium; of what mini misses, nothing is left.")
    chart.focus()
    page.keyboard.press("ArrowDown")
    assert readout.inner_text().endswith("medium –. One of the two has no score.")


def test_two_models_are_compared_sorted_and_filtered(in_page):
    page = in_page(CODE)
    summary = page.get_by_test_id("summary")
    assert summary.inner_text() == (
        "medium against mini: +7.0 on average of 3 benchmarks, ahead in 2, behind in 0."
    )
    page.get_by_test_id("second").select_option("1")
    assert (
        summary.inner_text()
        == "small against mini: +0.2 on average of 4 benchmarks, ahead in 2, behind in 2."
    )
    assert order(page) == ["MMLU", "GPQA", "done", "MATH"]
    page.get_by_test_id("sorting").select_option("given")
    assert order(page) == ["MMLU", "MATH", "GPQA", "done"]
    page.get_by_test_id("sorting").select_option("first")
    assert order(page) == ["done", "MMLU", "MATH", "GPQA"]
    page.get_by_test_id("least").fill("5")
    assert order(page) == ["MMLU", "MATH"]
    assert (
        summary.inner_text()
        == "small against mini: +0.1 on average of 2 benchmarks, ahead in 1, behind in 1."
    )
    page.get_by_test_id("chart").focus()
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowDown")
    assert (
        page.get_by_test_id("readout")
        .inner_text()
        .endswith("−6.7 for small; of what mini misses, it misses 11 % more.")
    )
    page.get_by_test_id("least").fill("20")
    assert order(page) == [] and "move the slider down" in page.get_by_test_id("readout").inner_text()


def test_intervals_are_drawn_and_sources_told(in_page):
    page = in_page(
        "from tinyphi.show import benchmarks\n"
        "scores = {'B': {'ours': (41.0, 34.5, 47.5), 'card': 37.3}}\n"
        "scores['A'] = {'ours': (60.0, 52.0, 65.0), 'card': 66.3}\n"
        "benchmarks(scores, sources={'ours': 'measured here', 'card': 'model card'})"
    )
    assert page.get_by_test_id("interval").count() == 2
    summary = page.get_by_test_id("summary").inner_text()
    assert summary.endswith("ahead in 1, behind in 1; in 1 the intervals meet.")
    page.get_by_test_id("sorting").select_option("name")
    assert order(page) == ["A", "B"]
    page.get_by_test_id("chart").focus()
    page.keyboard.press("ArrowDown")
    readout = page.get_by_test_id("readout")
    assert "ours 60.0 [52.0, 65.0] (measured here), card 66.3 (model card)" in readout.inner_text()
    assert "noise" not in readout.inner_text()
    page.keyboard.press("ArrowDown")
    assert readout.inner_text().endswith("The intervals meet: this may be noise.")


def test_in_jupyterlab(lab):
    page = lab(CODE)
    page.get_by_test_id("second").select_option("1")
    assert page.get_by_test_id("summary").inner_text().startswith("small against mini: +0.2")
    page.get_by_test_id("chart").focus()
    page.keyboard.press("ArrowDown")
    assert page.get_by_test_id("readout").inner_text().startswith("MMLU: mini 68.8, small 75.7")
