"""layer_errors in a browser."""

CODE = """
from tinyphi.show import layer_errors
kinds = ("attention.qkv_proj", "attention.o_proj", "mlp.gate_up_proj", "mlp.down_proj")
names = ["embed_tokens", *(f"layers.{block}.{kind}" for block in range(6) for kind in kinds), "lm_head"]
weights = [0.1 + 0.001 * number for number in range(26)]
activations = [0.2 - 0.001 * number for number in range(26)]
measures = {"weights": weights, "real activations": activations}
eight = {name: [error / 16 for error in errors] for name, errors in measures.items()}
reasons = {"lm_head": "every logit depends on it"}
layer_errors(names, measures, [2**20] * 26, reasons, eight, [2**21] * 26)
"""
# The map: names end at 104 pixels, cells are 44 wide and 20 high, the first column is outside of the blocks.


def cell(row, column):
    return {"x": 104 + 44 * column + 20, "y": 20 * row + 9}


def test_hovering_says_the_numbers_of_a_matrix(in_page):
    page = in_page(CODE)
    heat, readout = page.get_by_test_id("map"), page.get_by_test_id("readout")
    heat.hover(position=cell(4, 3))
    assert readout.inner_text() == (
        "Block 2, down_proj: error by weights 0.112, error by real activations 0.188; 1.0 MiB. "
        "In 8 bits: 0.007, 2.0 MiB. Number 13 of 25 by weights."
    )
    heat.hover(position=cell(5, 0))
    assert readout.inner_text().endswith("Kept in more bits: every logit depends on it")
    heat.focus()
    page.keyboard.press("ArrowUp")
    assert readout.inner_text().startswith(
        "embed_tokens: error by weights 0.1,"
    )  # the next cell with a matrix
    page.keyboard.press("ArrowUp")
    assert readout.inner_text().startswith("embed_tokens")
    scatter = page.get_by_test_id("scatter").bounding_box()
    page.mouse.move(scatter["x"] + 136, scatter["y"] + 20)
    assert readout.inner_text().startswith("lm_head: error by weights 0.125")


def test_the_budget(in_page):
    page = in_page(CODE)
    totals, heat = page.get_by_test_id("totals"), page.get_by_test_id("map")
    assert totals.inner_text() == "As given: 26.0 MiB, errors by weights add up to 2.93."
    pictures = [heat.inner_html()]
    page.get_by_test_id("k").fill("2")
    # The two with the largest error by weights: 0.124 and 0.123 become a sixteenth.
    assert totals.inner_text() == (
        "As given: 26.0 MiB, errors by weights add up to 2.93. "
        "With 2 of 25 in 8 bits: 28.0 MiB (2.0 MiB more), errors by weights add up to 2.69."
    )
    pictures.append(heat.inner_html())
    heat.hover(position=cell(4, 6))
    assert "Shown in 8 bits" in page.get_by_test_id("readout").inner_text()
    page.get_by_test_id("measure").select_option("real activations")
    assert "errors by real activations add up to 4.88" in totals.inner_text()
    heat.hover(position=cell(4, 6))
    assert (
        "Shown in 8 bits" not in page.get_by_test_id("readout").inner_text()
    )  # others are the most sensitive
    pictures.append(heat.inner_html())
    budget = page.get_by_test_id("budget")
    budget.hover(position={"x": 300, "y": 100})
    assert page.get_by_test_id("readout").inner_text().startswith("25 in 8 bits: 51.0 MiB")
    budget.click(position={"x": 300, "y": 100})
    assert "With 25 of 25 in 8 bits" in totals.inner_text() and page.get_by_test_id("k").input_value() == "25"
    assert len(set(pictures)) == 3


def test_without_8_bits_there_is_no_budget(in_page):
    page = in_page(
        "from tinyphi.show import layer_errors\nlayer_errors(['a', 'b'], {'weights': [0.1, 0.2]}, [5, 6])"
    )
    assert page.get_by_test_id("k").count() == page.get_by_test_id("budget").count() == 0
    assert (
        page.get_by_test_id("totals").inner_text() == "As given: 11 bytes, errors by weights add up to 0.3."
    )


def test_many_matrices_stay_fast(static, milliseconds):
    from tinyphi.show import layer_errors

    names = [f"layers.{number // 8}.kind_{number % 8}" for number in range(512)]
    errors = {"weights": [0.1 + number % 97 / 1000 for number in range(512)]}
    page = static(layer_errors(names, errors, [1000] * 512, {}, errors, [2000] * 512))
    milliseconds(page, "k", 10)
    assert milliseconds(page, "k", 400) < 100


def test_in_jupyterlab(lab):
    page = lab(CODE)
    page.get_by_test_id("map").hover(position=cell(4, 3))
    assert "Block 2, down_proj" in page.get_by_test_id("readout").inner_text()
    before = page.get_by_test_id("map").inner_html()
    page.get_by_test_id("k").fill("9")
    assert page.get_by_test_id("map").inner_html() != before
