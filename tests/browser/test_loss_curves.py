"""loss_curves in a browser: hover, smoothing, the other axis; and in JupyterLab rows that come in."""

CODE = """
from tinyphi.show import loss_curves
def rows(count, loss): return [{"step": n, "loss": loss + n % 2, "learning_rate": 1 / n, "gradient_norm": 2.0, "tokens": 64 * n} | ({"eval_loss": 3.5, "eval_accuracy": 0.75} if n == 40 else {}) for n in range(1, count + 1)]
loss_curves({"filtered": rows(101, 1.0), "raw": rows(50, 3.0)})
"""  # noqa: E501

GROWING = """
from time import sleep
from tinyphi.show import loss_curves
chart = loss_curves()
display(chart)
for n in range(1, 8):
    chart.add({"step": n, "loss": 8.0 - n})
    sleep(0.2)
sleep(4)
chart.add({"step": 8, "loss": 0.25})
chart.add({"step": 9, "loss": 0.125})
"""


def test_all_numbers_of_a_step_can_be_read(in_page):
    page = in_page(CODE)
    readout = page.get_by_test_id("readout")
    box = page.get_by_test_id("gradient_norm").bounding_box()
    page.mouse.move(box["x"] + 58 + 51 / 105.04 * (box["width"] - 70), box["y"] + 50)
    assert readout.inner_text().splitlines() == [
        "filtered: step 51 (3,264 tokens), loss 2 (smoothed 1.527), learning rate 0.01961, gradient norm 2; "
        "held out in step 40: loss 3.5, accuracy 0.75.",
        "raw: no such step",
    ]
    page.get_by_test_id("smoothing").fill("0")
    page.get_by_test_id("loss").focus()
    page.keyboard.press("ArrowRight")
    assert "filtered: step 2 (128 tokens), loss 1, learning rate 0.5" in readout.inner_text()
    assert "raw: step 2 (128 tokens), loss 3" in readout.inner_text()
    page.get_by_test_id("by").select_option("tokens")
    assert "loss, nats a token by tokens" in page.get_by_test_id("loss").get_attribute("aria-label")
    assert page.get_by_test_id("line-loss").count() == 2


def test_a_run_without_tokens_or_rows(in_page):
    page = in_page("from tinyphi.show import loss_curves\nloss_curves()")
    assert page.get_by_test_id("readout").inner_text() == "No rows yet."
    assert not page.get_by_test_id("by").is_visible()


def test_it_follows_a_training_while_the_kernel_is_busy(lab):
    page = lab(GROWING)  # waits for the end of the cell, which shows what was held back
    page.get_by_text("training (9 rows)").wait_for()
    page.evaluate("() => { window.jupyterapp.commands.execute('notebook:run-all-cells'); }")
    page.get_by_text("training (7 rows)").wait_for()
    page.get_by_text("training (9 rows)").wait_for()
    page.get_by_test_id("loss").focus()
    page.keyboard.press("ArrowLeft")
    assert "step 1, loss 7" in page.get_by_test_id("readout").inner_text()
