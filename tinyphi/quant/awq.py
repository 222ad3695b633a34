"""AWQ: before rounding, make the columns larger that meet large inputs, and their inputs smaller in turn.

    W x = (W · s) (x / s)

The largest inputs of a linear are always in the same few channels. A column that is multiplied by s > 1 keeps
more of its digits when its group is rounded, and the other columns of the group lose only a few. Dividing x
costs nothing: the operation before the linear does it, a norm's weights or the rows of a matrix.

    the linear      takes its inputs from         so 1/s goes into
    qkv_proj        attention_norm                its weights
    o_proj          values, mixed by attention    the value rows of qkv_proj
    gate_up_proj    mlp_norm                      its weights
    down_proj       up · silu(gate)               the up rows of gate_up_proj

Source: Lin et al. 2023 (arXiv 2306.00978), eqs. 4 and 5; `AwqQuantizer` of AutoAWQ 0.2.8.
"""

from functools import partial
from typing import NamedTuple

import torch
from einops import einsum, rearrange, reduce, repeat
from torch import Tensor

from tinyphi.errors import InputError
from tinyphi.model.attention import Attention
from tinyphi.model.transformer import Block, Phi3
from tinyphi.quant.calibration import Rows, check, convert_blocks, weight_of
from tinyphi.quant.groupwise import Grouped
from tinyphi.quant.zeros import fit_grid, from_zeros, grids

STEPS = 20  # of both searches: the powers 0, 1/20, … 19/20, and the limits 1, 19/20, … 11/20
FEWEST_TOKENS = 128
SAMPLE = 512  # tokens by which rounded weights are judged


class Inputs(NamedTuple):
    """What is kept of the inputs of a linear."""

    mean: Tensor  # (i): the mean of |x| over all tokens
    sample: Tensor  # (t i): some of the tokens


@torch.no_grad()
def awq(model: Phi3, ids: Tensor, group_size: int = 128) -> None:
    """Round the linears of all blocks to 4 bits, in place. What comes before them takes up the scales.

    ids: (b t) int64, text to calibrate with, 128 tokens or more. The paper takes 16 rows of 512 or so.
    group_size: weights that share a scale; it divides the inputs of every linear.
    An error or Ctrl-C leaves finished blocks rounded and all others as they were.
    Raises InputError for too few tokens, a group size that does not fit, a model that is quantized already,
    inputs that are not finite or all zero, and Phi-3-small: scaling the rows of its up would not scale what
    the GEGLU makes of them.
    """
    if model.config.model_type == "phi3small":
        raise InputError("AWQ cannot move scales through Phi-3-small's GEGLU. Choose another method.")
    check(model, ids, group_size, FEWEST_TOKENS)
    every = max(1, ids.numel() // SAMPLE)
    convert_blocks(model, ids, partial(_round_block, group_size=group_size, every=every), "AWQ")


def _round_block(block: Block, rows: Rows, group_size: int, every: int) -> dict[str, Grouped]:
    """Scale all four linears of a block, then clip and round each of them."""
    samples, rounded = {}, {}
    for name, (mean, sample) in observe(rows, every).items():
        if name == "attention.o_proj":
            mean = share(mean, block.attention)
        scale = best_scale(weight_of(block, name), mean, sample, group_size)
        fold(block, name, scale)
        samples[name] = sample / scale
    for name, sample in samples.items():
        weight = clip(weight_of(block, name), sample, group_size)
        groups, grid = grids(weight, group_size)
        scales, zeros = (part.squeeze(-1) for part in grid)
        rounded[name] = from_zeros(grid.codes(groups).flatten(1), scales, zeros)
    return rounded


def observe(rows: Rows, every: int) -> dict[str, Inputs]:
    """Mean size and a sample, one token in `every`, of the inputs of each linear: its name → Inputs."""
    sums: dict[str, Tensor] = {}
    samples: dict[str, list[Tensor]] = {}
    tokens = 0
    for inputs in rows:
        for name, x in inputs.items():
            sums[name] = sums.get(name, 0) + x.abs().sum(0)
            samples.setdefault(name, []).append(x[::every].clone())
        tokens += len(x)
    return {name: Inputs(sums[name] / tokens, torch.cat(samples[name])) for name in sums}


def best_scale(weight: Tensor, mean: Tensor, sample: Tensor, group_size: int) -> Tensor:
    """The scale s (i) for the columns of a weight (o i) whose rounding changes its outputs least.

    Tried are s = mean^r for r = 0 (all ones: plain rounding), 1/20, … 19/20, where `mean` (i) is the mean
    size of the inputs. Each is divided by one number, so that the largest and the smallest scale multiply to
    1. The error is that of the outputs for `sample` (t i).
    """
    least, best = float("inf"), torch.ones_like(mean)
    for step in range(STEPS):
        scale = mean.pow(step / STEPS).clamp(min=1e-4)
        scale = scale / (scale.max() * scale.min()).sqrt()
        groups, grid = grids(weight * scale, group_size)
        change = grid.rounded(groups).flatten(1) / scale - weight
        error = (sample @ change.T).square().mean().item()
        if error < least:
            least, best = error, scale
    return best


def share(mean: Tensor, attention: Attention) -> Tensor:
    """One mean for all query heads of a group: (i) → (i), for the inputs of o_proj.

    They mix the same values, so the value rows that take up 1/s are the same for all of them.
    """
    queries, _, values = attention.head_counts
    shared = reduce(mean, "(n g c) -> n c", "mean", n=values, c=attention.head_dim)
    return repeat(shared, "n c -> (n g c)", g=queries // values)


def fold(block: Block, name: str, scale: Tensor) -> None:
    """Multiply the columns of a linear by scale (i), and what its inputs come from by 1/scale.

    The block then computes what it did before. For o_proj the scale must be one that all query heads of a
    group share; see `share`.
    """
    qkv, gate_up = block.attention.qkv_proj, block.mlp.gate_up_proj
    block.get_parameter(f"{name}.weight").mul_(scale)
    if name == "attention.qkv_proj":
        block.attention_norm.weight.div_(scale)
    elif name == "attention.o_proj":
        queries, _, values = block.attention.head_counts
        one_each = rearrange(scale, "(n g c) -> g n c", n=values, g=queries // values)[0].flatten()
        qkv.weight[-len(one_each) :].div_(one_each[:, None])
    elif name == "mlp.gate_up_proj":
        block.mlp_norm.weight.div_(scale)
    else:
        gate_up.weight[-len(scale) :].div_(scale[:, None])


def clip(weight: Tensor, sample: Tensor, group_size: int) -> Tensor:
    """Cut off the largest weights of a matrix (o i) where a finer scale for the rest is worth it.

    Tried for each group are the limits 1, 19/20, … 11/20 of its largest weight. The error is that of the
    group's share of the outputs for `sample` (t i).
    """
    groups = rearrange(weight, "o (n g) -> o n g", g=group_size)
    inputs = rearrange(sample, "t (n g) -> t n g", g=group_size)
    # An error of weights e costs Σ (e·x)² = eᵀ M e with M = Σ x xᵀ, whatever the number of tokens.
    moments = einsum(inputs, inputs, "t n g, t n k -> n g k")
    largest = groups.abs().amax(-1, keepdim=True)
    best, least = groups, torch.full_like(largest, float("inf"))
    for step in range(STEPS // 2):
        limit = largest * (1 - step / STEPS)
        clipped = groups.clamp(-limit, limit)
        change = fit_grid(clipped).rounded(clipped) - groups
        error = (einsum(change, moments, "o n g, n g k -> o n k") * change).sum(-1, keepdim=True)
        better = error < least
        best, least = torch.where(better, clipped, best), torch.where(better, error, least)
    return best.flatten(1)
