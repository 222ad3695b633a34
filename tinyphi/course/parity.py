"""Parity: hold a model against a reference, and find the first number that differs.

    mine = tinyphi.Trace()
    model(ids, trace=mine)
    print(parity.bisect(mine, parity.trace_transformers(reference, ids)))

What is printed names the first intermediate that differs, the place in it, and the likely causes.
"""

import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any
from unittest import mock

import torch
from torch import Tensor

from tinyphi.course.symptoms import Case, likely_causes
from tinyphi.errors import InputError
from tinyphi.model.trace import Trace


@dataclass(frozen=True)
class Finding:
    """Where two traces part. `name` is None if they do not."""

    name: str | None  # the first intermediate that differs
    compared: int  # intermediates compared, up to and including that one
    largest: float  # its largest difference (of all compared, if none differs), relative to the scale
    absolute: float  # the same, not relative
    place: tuple[int, ...]  # index of the largest difference
    axes: str  # what the indices count
    causes: list[str]  # likely causes, from the table of symptoms

    def __str__(self) -> str:
        if self.name is None:
            return f"no difference in {self.compared} intermediates (largest {self.largest:.1e} of the scale)"
        where = ", ".join(
            f"{axis}={index}" for axis, index in zip(self.axes.split(), self.place, strict=False)
        )
        causes = "".join(f"\n  likely: {cause}" for cause in self.causes) or "\n  no known symptom fits"
        return (
            f"first difference at {self.name} [{self.axes}], after {self.compared - 1} that agree:\n"
            f"  off by {self.absolute:.3g}, {self.largest:.2g} of the scale, most at {where}{causes}"
        )


def bisect(mine: Trace, reference: Trace, tolerance: float = 1e-4) -> Finding:
    """Compare two traces in the order of computation and report the first difference.

    tolerance: largest allowed difference, relative to the largest absolute value of the intermediate.
    Raises InputError if the traces have no name in common.
    """
    shared = [name for name in mine if name in reference]
    if not shared:
        raise InputError(
            "The two traces have no name in common; parity.trace_transformers makes a reference."
        )
    worst = 0.0
    for count, name in enumerate(shared, start=1):
        relative, absolute, place = _difference(mine[name], reference[name])
        if relative > tolerance:
            causes = likely_causes(Case(name, mine[name], reference[name], reference))
            return Finding(name, count, relative, absolute, place, mine.axes(name), causes)
        worst = max(worst, relative)
    return Finding(None, len(shared), worst, 0.0, (), "", [])


def _difference(mine: Tensor, theirs: Tensor) -> tuple[float, float, tuple[int, ...]]:
    """Largest difference relative and absolute, and where; NaN and different shapes count as infinite."""
    if mine.shape != theirs.shape:
        return float("inf"), float("inf"), ()
    mine, theirs = mine.detach().double(), theirs.detach().double()
    error = (mine - theirs).abs().nan_to_num(nan=torch.inf)
    absolute = float(error.max())
    scale = max(float(theirs.abs().max()), 1e-30)
    place = torch.unravel_index(error.argmax(), error.shape)
    return absolute / scale, absolute, tuple(int(index) for index in place)


def trace_transformers(reference: Any, ids: Tensor) -> Trace:
    """Run a transformers Phi3 or Llama model and record its intermediates under tinyphi's names.

    reference: `Phi3ForCausalLM` or `LlamaForCausalLM`; ids (b t) int64, without padding. It is run with its
    "eager" attention, whose steps can be seen, and left as it was.
    """
    trace = Trace()
    with ExitStack() as stack:
        stack.enter_context(_eager(reference))
        for hook in _hooks(reference, trace):
            stack.callback(hook.remove)
        _watch_functions(reference, trace, stack)
        with torch.no_grad():
            logits = reference(ids, use_cache=False).logits
    trace.record("logits", logits.float(), "b t v")
    return _ordered(trace)


@contextmanager
def _eager(reference: Any) -> Iterator[None]:
    before = reference.config._attn_implementation
    reference.set_attn_implementation("eager")
    try:
        yield
    finally:
        reference.set_attn_implementation(before)


def _hooks(reference: Any, trace: Trace) -> Iterator[Any]:
    """Forward hooks on the modules whose inputs or outputs have a name here."""

    def keep(place: Trace, name: str, axes: str) -> Callable[..., None]:
        return lambda module, inputs, output: place.record(
            name, output[0] if isinstance(output, tuple) else output, axes
        )

    def keep_input(place: Trace, name: str, axes: str) -> Callable[..., None]:
        return lambda module, inputs, output: place.record(name, inputs[0], axes)

    def keep_gate_up(place: Trace) -> Callable[..., None]:
        def hook(module: Any, inputs: Any, output: Tensor) -> None:
            for name, half in zip(("gate", "up"), output.chunk(2, dim=-1), strict=True):
                place.record(name, half, "b t f")

        return hook

    body = reference.model
    yield body.embed_tokens.register_forward_hook(keep(trace, "embedding", "b t d"))
    yield body.norm.register_forward_hook(keep(trace, "norm", "b t d"))
    for number, layer in enumerate(body.layers):
        here = trace.at(f"layers.{number}")
        attention, mlp = here.at("attention"), here.at("mlp")
        yield layer.input_layernorm.register_forward_hook(keep(here, "attention_norm", "b t d"))
        yield layer.post_attention_layernorm.register_forward_hook(keep(here, "mlp_norm", "b t d"))
        yield layer.post_attention_layernorm.register_forward_hook(
            keep_input(here, "after_attention", "b t d")
        )
        yield layer.self_attn.o_proj.register_forward_hook(keep(attention, "output", "b t d"))
        if hasattr(layer.mlp, "gate_up_proj"):
            yield layer.mlp.gate_up_proj.register_forward_hook(keep_gate_up(mlp))
        else:
            yield layer.mlp.gate_proj.register_forward_hook(keep(mlp, "gate", "b t f"))
            yield layer.mlp.up_proj.register_forward_hook(keep(mlp, "up", "b t f"))
        yield layer.mlp.down_proj.register_forward_hook(keep_input(mlp, "hidden", "b t f"))
        yield layer.mlp.down_proj.register_forward_hook(keep(mlp, "output", "b t d"))
        yield layer.register_forward_hook(keep(here, "output", "b t d"))


def _watch_functions(reference: Any, trace: Trace, stack: ExitStack) -> None:
    """Record what passes through the reference's two attention functions, which are not modules."""
    home = sys.modules[type(reference).__module__]
    rotate, attend = home.apply_rotary_pos_emb, home.eager_attention_forward
    waiting: list[tuple[Tensor, Tensor]] = []

    def watch_rotate(queries: Tensor, keys: Tensor, cos: Tensor, sin: Tensor, **more: Any) -> Any:
        pairs, batch = cos.shape[-1] // 2, queries.shape[0]  # transformers writes each angle twice
        trace.record("rope.cos", cos[..., :pairs].expand(batch, -1, -1), "b t r")
        trace.record("rope.sin", sin[..., :pairs].expand(batch, -1, -1), "b t r")
        waiting.append((queries, keys))
        return rotate(queries, keys, cos, sin, **more)

    def watch_attend(
        module: Any, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, **more: Any
    ) -> Any:
        mixed, weights = attend(module, query, key, value, attention_mask, **more)
        here = trace.at(f"layers.{module.layer_idx}.attention")
        queries, keys = waiting.pop()
        here.record("queries", queries, "b h t c")
        here.record("keys", keys, "b n t c")
        here.record("values", value, "b n t c")
        here.record("rotated_queries", query, "b h t c")
        here.record("rotated_keys", key, "b n t c")
        repeated = key.repeat_interleave(query.shape[1] // key.shape[1], dim=1)
        here.record("scores", query @ repeated.mT * module.scaling, "b h t s")
        here.record("weights", weights, "b h t s")
        here.record("mixed", mixed.transpose(1, 2), "b h t c")
        seen = torch.ones_like(weights[:, 0], dtype=torch.bool)
        trace.record("mask", seen if attention_mask is None else attention_mask[:, 0] == 0, "b t s")
        return mixed, weights

    stack.enter_context(mock.patch.object(home, "apply_rotary_pos_emb", watch_rotate))
    stack.enter_context(mock.patch.object(home, "eager_attention_forward", watch_attend))


def _ordered(trace: Trace) -> Trace:
    """The same trace with the mask before the layers, where tinyphi records it too."""
    ordered = Trace()
    first = [name for name in ("embedding", "rope.cos", "rope.sin", "mask") if name in trace]
    for name in [*first, *(name for name in trace if name not in first)]:
        ordered.record(name, trace[name], trace.axes(name))
    return ordered
