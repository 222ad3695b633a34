"""Calibration: what the linear layers of a model are given when it reads a text.

AWQ and GPTQ choose the rounded weights by the error they make on real inputs. To know these, the model is run
one block at a time: a block is replaced before the next one runs, so that each is fitted to what it will
really be given, the outputs of rounded blocks.
"""

import math
from collections.abc import Callable, Iterator
from contextlib import suppress
from copy import deepcopy
from functools import partial
from typing import Any

from torch import Tensor, nn
from tqdm import tqdm

from tinyphi.errors import InputError
from tinyphi.model.linear import Linear
from tinyphi.model.transformer import Block, Phi3
from tinyphi.quant.groupwise import Grouped
from tinyphi.quant.linear import GroupedLinear

LINEARS = ("attention.qkv_proj", "attention.o_proj", "mlp.gate_up_proj", "mlp.down_proj")

Calls = list[tuple[Any, ...]]  # the arguments of a block, row by row of ids; the first is x (1 t d)
Rows = Iterator[dict[str, Tensor]]  # row by row of ids: the name of a linear → its inputs (t i), float32
Convert = Callable[[Block, Rows], dict[str, Grouped]]


def convert_blocks(model: Phi3, ids: Tensor, convert: Convert, name: str) -> None:
    """Let `convert` round the linears of every block, from the first to the last, in place.

    ids: (b t), text to calibrate with, all of it real tokens. It is run row by row, and what is kept between
        blocks is the residual stream (b t d).
    convert: given a block and the inputs of its linears, it returns the rounded weights, by name. The block
        is a copy, which it may change; the copy takes the block's place when all is done. So an error or
        Ctrl-C never leaves a block half done: finished blocks stay rounded, the others stay as they were.
    name: of the progress bar.
    Raises InputError for inputs that are not finite, or all zero.
    """
    calls = _first_calls(model, ids)
    for number in tqdm(range(len(model.layers)), desc=name, unit="block"):
        block = deepcopy(model.layers[number])
        assert isinstance(block, Block)
        for linear, weight in convert(block, linear_inputs(block, calls, f"layers.{number}")).items():
            parent, _, child = linear.rpartition(".")
            rounded = GroupedLinear(weight)
            rounded.bias = linear_of(block, linear).bias
            setattr(block.get_submodule(parent), child, rounded)
        model.layers[number] = block
        for row, call in enumerate(calls):
            calls[row] = (block(*call), *call[1:])


def check(model: Phi3, ids: Tensor, group_size: int, fewest: int) -> None:
    """Raise InputError unless every linear can be cut into groups and there are `fewest` tokens or more."""
    if not isinstance(ids, Tensor) or ids.ndim != 2:
        raise InputError("ids must be a tensor with axes (batch, tokens): one row for each piece of text.")
    if ids.numel() < fewest:
        raise InputError(
            f"ids holds {ids.numel()} tokens; this model needs at least {fewest} to be calibrated, better "
            "many more. Give more text."
        )
    for number, block in enumerate(model.layers):
        for name in LINEARS:
            linear = block.get_submodule(name)
            if not isinstance(linear, Linear):
                raise InputError(
                    f"layers.{number}.{name} is quantized already, a {type(linear).__name__}. Load the model "
                    "again first."
                )
    divisor = math.gcd(model.config.hidden_size, model.config.intermediate_size)
    if group_size < 2 or divisor % group_size:
        raise InputError(
            f"Groups of {group_size} do not fit: the group size must be at least 2 and divide {divisor}, so "
            "that it divides the inputs of all linears of this model."
        )


def widest(model: Phi3) -> int:
    """The number of inputs of the linear that has most."""
    return max(model.config.hidden_size, model.config.intermediate_size)


def linear_inputs(block: Block, calls: Calls, place: str) -> Rows:
    """Run a block and give the inputs of its linears, row by row; `place` is its name, for errors."""
    seen: dict[str, Tensor] = {}
    hooks = [
        block.get_submodule(name).register_forward_pre_hook(partial(_keep, seen, name)) for name in LINEARS
    ]
    silent = set(LINEARS)
    try:
        for call in calls:
            block(*call)
            for name, x in seen.items():
                if not x.isfinite().all():
                    raise InputError(
                        f"The inputs of {place}.{name} are not finite. In float16 large activations "
                        "overflow: load the model in bfloat16 or float32."
                    )
            silent -= {name for name in silent if seen[name].any()}
            yield seen
    finally:
        for hook in hooks:
            hook.remove()
    if silent:
        raise InputError(
            f"The inputs of {place}.{min(silent)} are zero for every token, so no rounding is better than "
            "another. Are the weights of this block right?"
        )


def weight_of(block: Block, name: str) -> Tensor:
    """The weight (o i) of a linear that is not yet rounded, as float32."""
    return linear_of(block, name).weight.detach().float()


def linear_of(block: Block, name: str) -> Linear:
    """A linear that is not yet rounded."""
    linear = block.get_submodule(name)
    assert isinstance(linear, Linear)
    return linear


def _keep(seen: dict[str, Tensor], name: str, _linear: nn.Module, inputs: tuple[Tensor]) -> None:
    seen[name] = inputs[0].flatten(0, -2).float()


def _first_calls(model: Phi3, ids: Tensor) -> Calls:
    """The arguments of the first block, row by row; the model is stopped as soon as it gets there."""
    calls: Calls = []

    def keep(_block: nn.Module, arguments: tuple[Any, ...]) -> None:
        calls.append(arguments)
        raise _Stop

    hook = model.layers[0].register_forward_pre_hook(keep)
    try:
        for row in ids[:, None]:
            with suppress(_Stop):
                model.hidden(row)
    finally:
        hook.remove()
    return calls


class _Stop(Exception):
    """Raised by a hook to end a forward pass whose rest is not needed."""
