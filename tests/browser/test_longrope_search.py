"""longrope_search in a browser: the population of one generation, and the factors of one pair."""

CODE = """
from tinyphi.show import longrope_search
generations = [[12.0, 11.0, 9.5, 30.0], [9.4, 9.6], [], [9.1, 9.45, 9.2]]
baselines = {"NTK": 10.9, "YaRN": 9.3, "PI": 50.0}
longrope_search(generations, baselines, {"found": [1, 1.02, 1.5, 2.2], "YaRN": [1, 1, 1.33, 2]})
"""
LAST = (
    "Generation 3: 3 new candidates, from 9.1 to 9.45, the middle half from 9.15 to 9.325, median 9.2. "
    "Best so far 9.1, below NTK (10.9), YaRN (9.3), PI (50)."
)


def test_slider_pointer_and_keys_choose_a_generation(in_page):
    page = in_page(CODE)
    readout, plot = page.get_by_test_id("readout"), page.get_by_test_id("population")
    assert readout.inner_text() == LAST
    places = [page.get_by_test_id("strip").bounding_box()["x"]]
    page.get_by_test_id("generation").fill("0")
    assert readout.inner_text() == (
        "Generation 0: 4 new candidates, from 9.5 to 30, the middle half from 10.63 to 16.5, median 11.5. "
        "Best so far 9.5, below NTK (10.9), PI (50), not below YaRN (9.3)."
    )
    places.append(page.get_by_test_id("strip").bounding_box()["x"])
    plot.hover(position={"x": 130, "y": 100})
    assert readout.inner_text().startswith("Generation 1: 2 new candidates, from 9.4 to 9.6")
    assert page.get_by_test_id("generation").input_value() == "1"
    places.append(page.get_by_test_id("strip").bounding_box()["x"])
    plot.focus()
    page.keyboard.press("ArrowRight")
    assert readout.inner_text().startswith("Generation 2: no new candidates. Best so far 9.4, below")
    assert places[1] < places[2] < places[0]


def test_a_pair_has_a_factor_in_every_row(in_page):
    page = in_page(CODE)
    page.get_by_test_id("factors").focus()
    for _ in range(2):
        page.keyboard.press("ArrowRight")
    assert page.get_by_test_id("pairs").inner_text() == "Pair 2: found × 1.5; YaRN × 1.33."
    assert "✚ found" in page.locator(".tinyphi-view").inner_text()
    assert "▲ PI 50, above" in page.locator(".tinyphi-view").inner_text()


def test_one_candidate_is_enough(in_page):
    page = in_page("from tinyphi.show import longrope_search\nlongrope_search([[3.0]], {}, {'found': [1.0]})")
    assert page.get_by_test_id("readout").inner_text() == (
        "Generation 0: 1 new candidate, from 3 to 3, the middle half from 3 to 3, median 3. Best so far 3."
    )


def test_a_large_search_stays_fast(static, milliseconds):
    from tinyphi.show import longrope_search

    generations = [[10 + (7 * number + place) % 13 for place in range(20)] for number in range(1000)]
    page = static(longrope_search(generations, {}, {"found": [1.0 + pair for pair in range(1024)]}))
    milliseconds(page, "generation", 3)
    assert milliseconds(page, "generation", 500) < 300


def test_in_jupyterlab(lab):
    page = lab(CODE)
    assert page.get_by_test_id("readout").inner_text() == LAST
    page.get_by_test_id("generation").fill("2")
    assert "no new candidates" in page.get_by_test_id("readout").inner_text()
