"""roofline in a browser."""

CODE = """
from tinyphi.show import roofline
points = {"float32": (1, 2e9, 4e9, 4.0), "int4 native": (1, 2e9, 5e8, 30.0)}
points["prefill 200"] = (200, 2e9, 4e9, 80.0)
roofline(points, 20.0, 200.0)
"""


def test_hovering_says_speed_and_share_of_the_roof(in_page):
    page = in_page(CODE)
    plot, readout = page.get_by_test_id("roofline"), page.get_by_test_id("readout")
    plot.focus()
    page.keyboard.press("ArrowRight")
    assert readout.inner_text() == (
        "float32: 4 tokens/s, 8 GFLOP/s, which is 80 % of the roof at 0.5 FLOP/byte, limited by memory. "
        "Each token takes 2 GFLOP; each step reads 4 GB, which alone takes 200 ms."
    )
    page.keyboard.press("ArrowRight")
    assert "int4 native: 30 tokens/s, 60 GFLOP/s, which is 75 % of the roof" in readout.inner_text()
    mark = plot.locator("path").last.bounding_box()
    page.mouse.move(mark["x"] + 8, mark["y"] + 8)
    assert readout.inner_text().startswith("prefill 200: 80 tokens/s")
    assert "limited by arithmetic" in readout.inner_text()


def test_more_tokens_at_once_move_a_point_along_the_roof(in_page):
    page = in_page(CODE)
    theory, dot = page.get_by_test_id("theory"), page.get_by_test_id("theoretical")
    assert theory.inner_text() == (
        "With the weights of float32, one token at once: 0.5 FLOP/byte, at most 5 tokens/s in all, 5 for "
        "each sequence; limited by memory. From 20 tokens at once, arithmetic is the limit."
    )
    places = [dot.bounding_box()]
    page.get_by_test_id("tokens").fill("4")
    assert "16 tokens at once: 8 FLOP/byte, at most 80 tokens/s in all, 5 for each" in theory.inner_text()
    places.append(dot.bounding_box())
    page.get_by_test_id("tokens").fill("5")
    assert (
        "32 tokens at once: 16 FLOP/byte, at most 100 tokens/s in all, 3.13 for each" in theory.inner_text()
    )
    assert "limited by arithmetic" in theory.inner_text()
    places.append(dot.bounding_box())
    assert places[0]["y"] > places[1]["y"] > places[2]["y"]  # upward, as long as there is a slope
    page.get_by_test_id("tokens").fill("10")
    assert dot.bounding_box()["y"] == places[2]["y"] and dot.bounding_box()["x"] > places[2]["x"]
    page.get_by_test_id("base").select_option("1")
    assert "With the weights of int4 native, 1024 tokens at once" in theory.inner_text()
    assert "From 3 tokens at once" in theory.inner_text()


def test_a_point_above_the_roof_is_questioned(in_page):
    page = in_page("from tinyphi.show import roofline\nroofline({'a': (1, 2e9, 1e9, 9.0)}, 10.0, 1.0)")
    page.get_by_test_id("roofline").focus()
    page.keyboard.press("ArrowLeft")
    assert "bandwidth or peak were measured too low" in page.get_by_test_id("readout").inner_text()
    assert "Always, arithmetic is the limit" in page.get_by_test_id("theory").inner_text()


def test_in_jupyterlab(lab):
    page = lab(CODE)
    page.get_by_test_id("roofline").focus()
    page.keyboard.press("ArrowRight")
    assert "float32: 4 tokens/s" in page.get_by_test_id("readout").inner_text()
    before = page.get_by_test_id("theory").inner_text()
    page.get_by_test_id("tokens").fill("6")
    assert page.get_by_test_id("theory").inner_text() != before
