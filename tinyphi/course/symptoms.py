"""What goes wrong when a transformer is rebuilt, and how each mistake looks in the numbers.

A symptom is asked only at the first intermediate that differs: everything before it is right, so the
reference's earlier values can be used to act out the mistake. If acting it out gives exactly what we have,
that is very likely what happened.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from einops import rearrange
from torch import Tensor

from tinyphi.model.rope import rotate
from tinyphi.model.trace import Trace


class Case(NamedTuple):
    """The first intermediate that differs: its name in both traces, and the two tensors."""

    name: str
    mine: Tensor
    theirs: Tensor
    reference: Trace

    def sibling(self, last: str) -> Tensor:
        """The reference's tensor beside this one: `case.sibling("up")` at `layers.0.mlp.gate`."""
        return self.reference[f"{self.name.rpartition('.')[0]}.{last}"]


class Symptom(NamedTuple):
    """A mistake, the intermediates at which it shows first, and a test for it."""

    cause: str
    shows_at: tuple[str, ...]
    fits: Callable[[Case], bool]


SYMPTOMS: list[Symptom] = []


def symptom(cause: str, *shows_at: str) -> Callable[[Callable[[Case], bool]], Callable[[Case], bool]]:
    """Enter a test into the table."""

    def enter(fits: Callable[[Case], bool]) -> Callable[[Case], bool]:
        SYMPTOMS.append(Symptom(cause, shows_at, fits))
        return fits

    return enter


def likely_causes(case: Case) -> list[str]:
    """The causes in the table whose test fits."""
    last = case.name.rpartition(".")[2]
    candidates = [entry for entry in SYMPTOMS if not entry.shows_at or last in entry.shows_at]
    if case.mine.shape != case.theirs.shape:
        return [_about_shapes(case)]
    return [entry.cause for entry in candidates if entry.fits(case)]


def _about_shapes(case: Case) -> str:
    letters = case.reference.axes(case.name).split()
    if case.mine.ndim == case.theirs.ndim == len(letters):
        pairs = zip(letters, case.mine.shape, case.theirs.shape, strict=True)
        if {letter for letter, mine, theirs in pairs if mine != theirs} <= {"t", "s"}:
            return (
                "the two calls ran over different numbers of tokens: other input, or one of them computed "
                "its cache again (see the events of both traces)"
            )
    return "the shapes differ: look at how heads are split, and at the numbers of heads in the config"


def close(a: Tensor, b: Tensor, tolerance: float = 1e-4) -> bool:
    """Equal up to `tolerance` of the largest value; nothing at all is not evidence."""
    if a.shape != b.shape or a.numel() == 0:
        return False
    scale = b.double().abs().max().clamp(min=1e-30)
    return bool((a.double() - b.double()).abs().max() <= tolerance * scale)


def constant_ratio(a: Tensor, b: Tensor, axes: tuple[int, ...]) -> bool:
    """Whether a / b is one number along `axes`, and not 1 (near-zero places are left out)."""
    ratio = (a.double() / b.double()).where(b.abs() > 1e-3 * b.abs().max(), torch.nan)
    centre = ratio.nanmean(dim=axes, keepdim=True)
    spread = (ratio / centre - 1).abs().nan_to_num(0).max()
    return bool(spread < 1e-2) and bool((centre.nan_to_num(1) - 1).abs().max() > 1e-3)


@symptom("embedding scaled: some families multiply it by a number, Phi-3-mini does not", "embedding")
def _embedding_scaled(case: Case) -> bool:
    return constant_ratio(case.mine, case.theirs, (0, 1, 2))


@symptom("attention factor missing: LongRoPE stretches cos and sin, in short calls too", "cos", "sin")
def _attention_factor(case: Case) -> bool:
    return constant_ratio(case.mine, case.theirs, tuple(range(case.mine.ndim)))


@symptom("positions off by one: the first token stands at position 0", "cos", "sin")
def _positions_shifted(case: Case) -> bool:
    mine, theirs = case.mine, case.theirs
    return close(mine[:, 1:], theirs[:, :-1]) or close(mine[:, :-1], theirs[:, 1:])


@symptom("padding counted as text: give `segments`, with 0 where padding stands", "cos")
def _padding_counted(case: Case) -> bool:
    mine, theirs = case.mine, case.theirs
    return close(mine, mine[:1].expand_as(mine)) and not close(theirs, theirs[:1].expand_as(theirs))


@symptom("positions rounded to bfloat16: 257 becomes 256; compute angles in float32", "cos", "sin")
def _positions_rounded(case: Case) -> bool:
    rounded = torch.arange(case.mine.shape[1]).bfloat16().long()
    known = rounded < case.mine.shape[1]
    return close(case.mine[:, known], case.theirs[:, rounded[known]])


@symptom("wrong frequencies: rope_theta, or LongRoPE's other list of factors", "cos")
def _frequencies(case: Case) -> bool:
    known = _padding_counted(case) or _positions_rounded(case)
    return close(case.mine[:, :1], case.theirs[:, :1]) and not known


@symptom("the mask shows the future: a token may not see later ones", "mask")
def _future(case: Case) -> bool:
    return bool((case.mine & ~case.theirs).triu(1).any())


@symptom("mask off by one: the window counts the token itself", "mask")
def _window_off_by_one(case: Case) -> bool:
    _, query, key = (case.mine != case.theirs).nonzero(as_tuple=True)
    return not _future(case) and len(set((query - key).tolist())) == 1  # all on one diagonal


@symptom("the window is ignored: tokens farther away than the window are visible", "mask")
def _window_ignored(case: Case) -> bool:
    extra = case.mine & ~case.theirs
    if _window_off_by_one(case) or not extra.any():
        return False
    nearest, farthest = _distances(extra).min(), _distances(case.theirs).max()
    return bool(nearest > farthest)


def _distances(mask: Tensor) -> Tensor:
    """How far apart query and key are, wherever the mask (b t s) is true."""
    _, query, key = mask.nonzero(as_tuple=True)
    return query - key


@symptom("padding is visible: a token may see only its own segment", "mask")
def _padding_visible(case: Case) -> bool:
    extra = bool((case.mine & ~case.theirs).any())
    return extra and not (_future(case) or _window_off_by_one(case) or _window_ignored(case))


@symptom(
    "the norm rounds at another place: the cast to bfloat16 comes before the weight",
    "attention_norm",
    "mlp_norm",
    "norm",
)
def _norm_rounding(case: Case) -> bool:
    if case.mine.dtype != case.theirs.dtype or case.mine.dtype not in (torch.bfloat16, torch.float16):
        return False
    last_bit = 2 * torch.finfo(case.mine.dtype).eps * case.theirs.double().abs()
    return bool(((case.mine.double() - case.theirs.double()).abs() <= last_bit).all())


@symptom("the norm's weight is missing", "attention_norm", "mlp_norm", "norm")
def _norm_weight(case: Case) -> bool:
    per_channel = constant_ratio(case.mine, case.theirs, (0, 1))
    return per_channel and not (constant_ratio(case.mine, case.theirs, (0, 1, 2)) or _norm_rounding(case))


@symptom(
    "the norm's eps, mean or scale is wrong: each token is off by a factor",
    "attention_norm",
    "mlp_norm",
    "norm",
)
def _norm_scale(case: Case) -> bool:
    return constant_ratio(case.mine, case.theirs, (2,)) and not _norm_rounding(case)


@symptom("q or k rows stand in another order: GGUF's llama layout interleaves them", "queries", "keys")
def _permuted_rows(case: Case) -> bool:
    interleaved = rearrange(case.theirs, "b h t (half r) -> b h t (r half)", half=2)
    halves = rearrange(case.theirs, "b h t (r half) -> b h t (half r)", half=2)
    return close(case.mine, interleaved) or close(case.mine, halves)


@symptom("keys and values are swapped in the fused matrix", "keys", "values")
def _keys_values_swapped(case: Case) -> bool:
    other = "values" if case.name.endswith("keys") else "keys"
    return close(case.mine, case.sibling(other))


@symptom("wrong rotation layout: neighbours turned together instead of halves", "rotated_queries")
def _interleaved_rotation(case: Case) -> bool:
    plain, cos, sin = case.sibling("queries"), case.reference["rope.cos"], case.reference["rope.sin"]
    channels = rearrange(torch.arange(2 * cos.shape[-1]), "(r half) -> (half r)", half=2).to(plain.device)
    acted = plain.clone()
    acted[..., channels] = rotate(plain[..., channels], cos, sin)
    return close(case.mine, acted)


@symptom("rotated the wrong way round: the signs of the sines are exchanged", "rotated_queries")
def _backwards(case: Case) -> bool:
    cos, sin = case.reference["rope.cos"], case.reference["rope.sin"]
    return close(case.mine, rotate(case.sibling("queries"), cos, -sin))


@symptom("not rotated at all", "rotated_queries", "rotated_keys")
def _not_rotated(case: Case) -> bool:
    return close(case.mine, case.sibling(case.name.rpartition("rotated_")[2]))


@symptom("softmax scale wrong: divide the scores by the root of the channels per head", "scores")
def _scale(case: Case) -> bool:
    return constant_ratio(case.mine, case.theirs, tuple(range(case.mine.ndim)))


@symptom("key/value heads tiled: each must serve neighbouring query heads (repeat, not tile)", "scores")
def _tiled_heads(case: Case) -> bool:
    queries, keys = case.sibling("rotated_queries"), case.sibling("rotated_keys")
    tiled = keys.repeat(1, queries.shape[1] // keys.shape[1], 1, 1)
    return close(case.mine, queries @ tiled.mT * queries.shape[-1] ** -0.5)


@symptom("the cache is stale: scores with cached tokens are wrong, those with the new ones right", "scores")
def _stale_cache(case: Case) -> bool:
    cached = case.mine.shape[-1] - case.mine.shape[-2]
    (old, new), (their_old, their_new) = (
        (scores[..., :cached], scores[..., cached:]) for scores in (case.mine, case.theirs)
    )
    return cached > 0 and close(new, their_new) and not close(old, their_old)


@symptom("softmax in bfloat16: take it in float32, even where its result is rounded", "weights")
def _softmax_rounded(case: Case) -> bool:
    hidden = case.sibling("scores").masked_fill(~case.reference["mask"][:, None], float("-inf"))
    return close(case.mine.float(), hidden.bfloat16().softmax(dim=-1).float(), 1e-6)


@symptom("softmax over the wrong axis: the weights of one query must add up to 1", "weights")
def _softmax_axis(case: Case) -> bool:
    totals = case.mine.float().sum(-1)
    return not close(totals, torch.ones_like(totals), 1e-2)


@symptom("the mask is not applied: weights fall on tokens that may not be seen", "weights")
def _mask_unused(case: Case) -> bool:
    hidden = ~case.reference["mask"][:, None]
    return bool((case.mine * hidden).abs().max() > 0)


@symptom("gate and up are swapped: the gate rows come first", "gate", "up")
def _gate_up_swapped(case: Case) -> bool:
    return close(case.mine, case.sibling("up" if case.name.endswith("gate") else "gate"))


@symptom("another activation: Phi-3 gates with SiLU", "hidden")
def _activation(case: Case) -> bool:
    gate, up = case.sibling("gate"), case.sibling("up")
    others = (torch.nn.functional.gelu(gate), torch.sigmoid(gate), gate.relu(), gate)
    return any(close(case.mine, up * acted) for acted in others)


@symptom("SiLU is on the wrong half: it belongs to the gate", "hidden")
def _silu_on_up(case: Case) -> bool:
    return close(case.mine, case.sibling("gate") * torch.nn.functional.silu(case.sibling("up")))


@symptom("the residual connection is missing: add the block's result to what came in", "after_attention")
def _no_attention_residual(case: Case) -> bool:
    return close(case.mine, case.sibling("attention.output"))


@symptom("the residual connection is missing: add the block's result to what came in", "output")
def _no_mlp_residual(case: Case) -> bool:
    return (
        ".mlp" not in case.name
        and ".attention" not in case.name
        and close(case.mine, case.sibling("mlp.output"))
    )


@symptom("bfloat16 rounding: the two agree to 8 bits, so one side computes with less precision")
def _rounding(case: Case) -> bool:
    if not case.mine.is_floating_point():
        return False
    error = (case.mine.double() - case.theirs.double()).abs()
    return bool((error <= 2**-7 * case.theirs.double().abs() + 2**-9 * case.theirs.abs().max()).all())
