"""The interactive face of a view: a script, the numbers it draws, and two places where it can run.

In a notebook the script runs in a widget and may ask the kernel for more; in a page of HTML the same script
runs on the same data, alone. Neither needs anything from another machine.
"""

import base64
import html
import json
import sys
import weakref
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

import torch
from torch import Tensor

from tinyphi.errors import TinyphiError

Answer = Callable[[dict[str, Any]], dict[str, Any]]
_PACKED = {
    "float32": torch.float32,
    "float16": torch.float16,
    "uint8": torch.uint8,
    "int32": torch.int32,
}


@dataclass(frozen=True)
class Live:
    """What the script `show/js/<script>.js` needs.

    data    JSON: numbers, texts, lists, and tensors through `pack`
    answer  what the kernel replies to the script's `view.ask(question)`; without a kernel the reply is null
    """

    script: str
    data: Mapping[str, Any]
    answer: Answer | None = None


def pack(tensor: Tensor, dtype: str = "float32") -> dict[str, Any]:
    """A tensor as JSON: its shape and its numbers in base64, little-endian, as `dtype`.

    float16 halves the bytes and keeps three digits; uint8 is for what is only coloured.
    """
    values = tensor.detach().to("cpu", _PACKED[dtype]).contiguous()
    raw = values.numpy().tobytes()
    return {"dtype": dtype, "shape": list(values.shape), "base64": base64.b64encode(raw).decode("ascii")}


@cache
def source(script: str) -> str:
    """The JavaScript of one view: what all views share, then its own `draw(view)`."""
    folder = files("tinyphi.show") / "js"
    return "\n".join((folder / f"{name}.js").read_text(encoding="utf-8") for name in ("common", script))


def page(live: Live, alt: str) -> str:
    """HTML that shows the view wherever it is put, and needs nothing else."""
    data = _json(live).replace("<", "\\u003c")  # no text in the data can end the script element
    return (
        f'<div class="tinyphi-place" role="group" aria-label="{html.escape(alt)}"></div>\n'
        f"<script>(() => {{\n{source(live.script)}\n"
        f"start(document.currentScript.previousElementSibling, {data}, async () => null);\n}})();</script>"
    )


def renew(widget: Any, live: Live) -> None:
    """Let a widget show the data as they are now. The kernel may be busy: nothing is awaited."""
    widget.data = _json(live)


def _json(live: Live) -> str:
    return json.dumps(live.data, ensure_ascii=False, separators=(",", ":"), allow_nan=False)


def widget(live: Live) -> Any:
    """An anywidget that runs the script in JupyterLab and lets it ask the kernel."""
    made = _widget_class()(_esm=source(live.script) + _IN_A_WIDGET, data=_json(live))
    if live.answer is not None:
        answer = live.answer

        def reply(widget: Any, message: Any, buffers: Any) -> None:
            content: dict[str, Any]
            try:
                content = {"reply": answer(message["question"])}
            except Exception as error:  # shown in the view: an error in a message handler is seen nowhere
                content = {"error": f"{type(error).__name__}: {error}"}
            widget.send({"number": message["number"], **content})

        made.on_msg(reply)
    return made


_IN_A_WIDGET = """
export default {
  render({ model, el }) {
    let count = 0;
    const waiting = new Map();
    const hear = (message) => {
      const asked = waiting.get(message.number);
      if (!asked) return;
      waiting.delete(message.number);
      if (message.error) asked.fail(new Error(message.error));
      else asked.done(message.reply);
    };
    model.on("msg:custom", hear);
    const ask = (question) => new Promise((done, fail) => {
      const number = ++count;
      waiting.set(number, { done, fail });
      model.send({ number, question });
      setTimeout(() => {
        const late = "it is busy, or was restarted; then run this cell again.";
        if (waiting.delete(number)) fail(new Error(late));
      }, 20000);
    });
    const data = () => JSON.parse(model.get("data"));
    const update = start(el, data(), ask), renew = () => update?.(data());
    model.on("change:data", renew);
    return () => { model.off("msg:custom", hear); model.off("change:data", renew); };
  },
};
"""


@cache
def _widget_class() -> Any:
    try:
        import anywidget
        import traitlets
    except ImportError as error:
        raise TinyphiError(
            "Live views need anywidget, which is not installed. Install it with: pip install 'tinyphi[lab]'"
        ) from error

    class LiveView(anywidget.AnyWidget):
        data = traitlets.Unicode("{}").tag(sync=True)

    return LiveView


def after_each_cell(action: Callable[[], None]) -> None:
    """In a notebook, call a bound method when a cell has run, as long as its object is used elsewhere."""
    if not has_kernel():
        return
    from IPython import get_ipython

    weak, events = weakref.WeakMethod(action), get_ipython().events

    def hear(result: Any) -> None:
        alive = weak()
        if alive is None:
            events.unregister("post_run_cell", hear)
        else:
            alive()

    events.register("post_run_cell", hear)


def has_kernel() -> bool:
    """Whether this runs in a Jupyter kernel, where widgets have somebody to talk to."""
    if "IPython" not in sys.modules:
        return False
    from IPython import get_ipython

    shell = get_ipython()
    return shell is not None and hasattr(shell, "kernel")
