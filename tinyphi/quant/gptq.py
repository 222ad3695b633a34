"""GPTQ: round one column of a matrix after the other, and let the columns to come make up for each error.

What counts is not the weight but the output. Over the calibration tokens, the error of an output is

    ‖ΔW X‖² = ½ n · tr(ΔW H ΔWᵀ),   H = (2/n) Σ x xᵀ   (i i), one for all rows of W

so a column's rounding error can be balanced by columns whose inputs are correlated with its own. For column
i, with the part of H that belongs to the columns not yet rounded, the best change of these is

    δ = −(w_i − q_i) / [H⁻¹]_ii · [H⁻¹]_i,:

and the Cholesky factor U of H⁻¹ = Uᵀ U holds all the inverses that this needs, one in each row.

Source: Frantar et al. 2022 (arXiv 2210.17323), alg. 1; `GPTQ.fasterquant` of AutoGPTQ 0.7.1.
"""

from functools import partial

import torch
from torch import Tensor

from tinyphi.errors import InputError
from tinyphi.model.transformer import Block, Phi3
from tinyphi.quant.calibration import Rows, check, convert_blocks, weight_of, widest
from tinyphi.quant.groupwise import Grouped
from tinyphi.quant.zeros import Grid, fit_grid, from_zeros, grids

DAMPING = 0.01  # share of the mean of H's diagonal that is added to it, so that it can be inverted


@torch.no_grad()
def gptq(
    model: Phi3, ids: Tensor, group_size: int = 128, act_order: bool = True, symmetric: bool = False
) -> None:
    """Round the linears of all blocks to 4 bits, in place. Embedding, norms and head stay as they are.

    ids: (b t) int64, text to calibrate with, at least as many tokens as a linear has inputs. The paper takes
        128 rows of 2048. Many rows are better than a long one: each begins with an attention sink, a token
        with inputs so large that H should not know them from a single row.
    group_size: weights that share a scale; it divides the inputs of every linear.
    act_order, symmetric: see `round_gptq`.
    An error or Ctrl-C leaves finished blocks rounded and all others as they were.
    Raises InputError for too few tokens, a group size that does not fit, a model that is quantized already,
    and inputs that are not finite or all zero.
    """
    check(model, ids, group_size, fewest=widest(model))
    convert = partial(_round_block, group_size=group_size, act_order=act_order, symmetric=symmetric)
    convert_blocks(model, ids, convert, "GPTQ")


def _round_block(
    block: Block, rows: Rows, group_size: int, act_order: bool, symmetric: bool
) -> dict[str, Grouped]:
    return {
        name: round_gptq(weight_of(block, name), matrix, group_size, act_order, symmetric)
        for name, matrix in hessians(rows).items()
    }


def hessians(rows: Rows) -> dict[str, Tensor]:
    """H = (2/n) Σ x xᵀ over the n tokens of all rows: the name of a linear → (i i)."""
    sums: dict[str, Tensor] = {}
    tokens = 0
    for inputs in rows:
        for name, x in inputs.items():
            sums[name] = x.T @ x if name not in sums else sums[name].addmm_(x.T, x)
        tokens += len(x)
    return {name: total.mul_(2 / tokens) for name, total in sums.items()}


def round_gptq(
    weight: Tensor, hessian: Tensor, group_size: int, act_order: bool = False, symmetric: bool = False
) -> Grouped:
    """Round a matrix (o i) to 4 bits, given the second moments (i i) of its inputs, as `hessians` makes them.

    The scale of a group is chosen when its first column is reached, for its weights as they are by then, with
    all that earlier columns have added to them. (AutoGPTQ 0.7.1 forgets the additions of the running block of
    128 columns when a group is smaller than that.)
    act_order: round the columns with the largest inputs first, while many others can still make up for them.
        The groups stay where they are, and all scales are chosen at the start ("static groups").
    symmetric: put the zero point of every group at code 8.
    Raises InputError for weights that are not finite, or a Hessian that cannot be inverted.
    """
    weight, hessian = _prepared(weight, hessian)
    columns = torch.arange(len(hessian), device=hessian.device)
    order = hessian.diagonal().argsort(descending=True) if act_order else columns
    factor = inverse_factor(hessian[order][:, order])
    scales, zeros = (part.squeeze(-1) for part in grids(weight, group_size, symmetric)[1])
    weight, codes = weight[:, order], torch.empty_like(weight)
    for start in range(0, len(hessian), group_size):
        part, rest = slice(start, start + group_size), slice(start + group_size, None)
        groups = order[part] // group_size
        if not act_order:  # all columns of this part are of one group
            scales[:, groups[:1]], zeros[:, groups[:1]] = fit_grid(weight[:, part], symmetric)
        grid = Grid(scales[:, groups], zeros[:, groups])
        codes[:, part], errors = _round_columns(weight[:, part], factor[part, part], grid)
        weight[:, rest] -= errors @ factor[part, rest]  # all errors at once: the same, and faster
    return from_zeros(codes[:, order.argsort()], scales, zeros)


def _round_columns(weight: Tensor, factor: Tensor, grid: Grid) -> tuple[Tensor, Tensor]:
    """Round columns (o k) one by one, each making up for those before it: codes, errors over U_ii (o k)."""
    codes, errors = torch.empty_like(weight), torch.empty_like(weight)
    for i in range(weight.shape[1]):
        column = Grid(grid.scales[:, i], grid.zeros[:, i])
        codes[:, i] = column.codes(weight[:, i])
        errors[:, i] = (weight[:, i] - column.numbers(codes[:, i])) / factor[i, i]
        weight[:, i:] -= torch.outer(errors[:, i], factor[i, i:])
    return codes, errors


def _prepared(weight: Tensor, hessian: Tensor) -> tuple[Tensor, Tensor]:
    """Copies: columns that no token used become 0, and the Hessian is damped."""
    weight, hessian = weight.detach().float().clone(), hessian.clone()
    dead = hessian.diagonal() == 0
    weight[:, dead] = 0
    hessian.diagonal()[dead] = 1
    hessian.diagonal().add_(DAMPING * hessian.diagonal().mean())
    return weight, hessian


def inverse_factor(matrix: Tensor) -> Tensor:
    """The upper triangular U with Uᵀ U = M⁻¹, for a symmetric positive definite M (i i).

    M = R Rᵀ with an upper triangular R, so U = R⁻¹, and M itself need never be inverted, which would square
    the rounding errors. torch factors into lower triangles; counting backwards makes them upper ones.
    """
    lower, failed = torch.linalg.cholesky_ex(matrix.flip(0, 1))
    if failed:
        raise InputError(
            "The second moments of a linear's inputs cannot be inverted. Calibrate with more, and more "
            "varied, text."
        )
    identity = torch.eye(len(matrix), dtype=matrix.dtype, device=matrix.device)
    factor: Tensor = torch.linalg.solve_triangular(lower.flip(0, 1), identity, upper=True)
    return factor
