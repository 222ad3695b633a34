"""The whole model against transformers: logits, gradients, rounding; each shown to notice mistakes."""

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

import tinyphi
from tinyphi.config import PhiConfig
from tinyphi.generation.decode import decode_one, prefill
from tinyphi.model import attention as attention_module
from tinyphi.model import transformer as transformer_module
from tinyphi.model.attention import fused_attention
from tinyphi.model.mask import visible
from tinyphi.model.mlp import MLP
from tinyphi.model.norm import RMSNorm

TOLERANCE = 1e-5  # of the largest logit, in float32


def test_logits_equal_the_reference(twins, case):
    pair = twins(case)
    assert pair.difference() <= TOLERANCE
    assert pair.difference(trace=tinyphi.Trace()) <= TOLERANCE  # the explicit path as well


@pytest.mark.parametrize("cached", [False, True])
def test_logits_in_pieces_equal_the_reference(twins, case, cached, monkeypatch):
    """As texts of more than 512 tokens are read: some tokens at a time, each with the keys it may see."""
    monkeypatch.setattr(transformer_module, "_PIECE", 3)
    pair = twins(case)
    cache = pair.model.new_cache(len(pair.ids)) if cached else None
    assert pair.difference(cache=cache) <= TOLERANCE


def test_the_weights_are_not_trivial(twins):
    """Attention far from uniform, norms far from one: a mistake in either has somewhere to show."""
    pair = twins("grouped")
    trace = tinyphi.Trace()
    pair.model(pair.ids, trace=trace)
    last = trace["layers.1.attention.weights"][:, :, -1]
    assert last.max() > 0.5
    assert last.std() > 0.1
    assert (pair.model.norm.weight - 1).abs().mean() > 0.1


# --- mistakes to plant: each takes the twins and pytest's monkeypatch ---


def interleaved_pairs(pair, patch):
    """GPT-J's layout: neighbours are a pair."""

    def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        cos, sin = cos.unsqueeze(1), sin.unsqueeze(1)
        turned, rest = x[..., : 2 * cos.shape[-1]], x[..., 2 * cos.shape[-1] :]
        even, odd = turned[..., ::2], turned[..., 1::2]
        both = torch.stack((even * cos - odd * sin, odd * cos + even * sin), dim=-1).flatten(-2)
        return torch.cat((both, rest), dim=-1)

    patch.setattr(attention_module, "rotate", rotate)


def all_channels_rotated(pair, patch):
    patch.setattr(PhiConfig, "rotary_dim", property(lambda config: config.head_dim))


def swapped_gate_and_up(pair, patch):
    for layer in pair.model.layers:
        layer.mlp.gate_up_proj.weight.data = layer.mlp.gate_up_proj.weight.data.roll(64, 0)


def window_one_too_wide(pair, patch):
    patch.setattr(
        transformer_module,
        "visible",
        lambda *arguments: visible(*arguments[:4], arguments[4] and arguments[4] + 1),
    )


def window_ignored(pair, patch):
    patch.setattr(transformer_module, "visible", lambda *arguments: visible(*arguments[:4], None))


def padding_visible(pair, patch):
    def see_all(segments, positions, key_segments, key_positions, window):
        columns = torch.arange(segments.shape[1]).expand_as(segments)
        return visible(torch.ones_like(segments), columns, torch.ones_like(segments), columns, window)

    patch.setattr(transformer_module, "visible", see_all)


def attention_factor_one(pair, patch):
    patch.setattr(PhiConfig, "attention_factor", 1.0)


def scale_by_model_width(pair, patch):
    c, d = pair.config.head_dim, pair.config.hidden_size
    patch.setattr(
        attention_module,
        "fused_attention",
        lambda queries, *rest: fused_attention(queries * (c / d) ** 0.5, *rest),
    )


def tiled_key_heads(pair, patch):
    def attention(queries: Tensor, keys: Tensor, values: Tensor, mask: Tensor | None) -> Tensor:
        groups = queries.shape[1] // keys.shape[1]
        return fused_attention(queries, keys.repeat(1, groups, 1, 1), values.repeat(1, groups, 1, 1), mask)

    patch.setattr(attention_module, "fused_attention", attention)


def wrong_eps(pair, patch):
    for module in pair.model.modules():
        if isinstance(module, RMSNorm):
            module.eps = 1e-6


def missing_norm_weight(pair, patch):
    pair.model.layers[1].mlp_norm.weight.data.fill_(1)


def untied_head(pair, patch):
    pair.model.lm_head.weight = torch.nn.Parameter(torch.randn_like(pair.model.lm_head.weight))


def long_factors_never_used(pair, patch):
    patch.setattr("tinyphi.model.rope.uses_long_factors", lambda config, longest: False)


def long_factors_from_original_on(pair, patch):
    """vLLM's off by one: position 4095, the last of the original context, counted as beyond it."""
    patch.setattr(
        "tinyphi.model.rope.uses_long_factors",
        lambda config, longest: longest >= config.original_max_position_embeddings,
    )


def each_row_its_own_factors(pair, patch):
    """Plausible, but not what transformers does: the longest row of a call decides for all."""
    original = transformer_module.rotation

    def rotation(config, positions, longest, dtype):
        rows = [original(config, row[None], int(row.max()) + 1, dtype) for row in positions]
        return tuple(torch.cat(parts) for parts in zip(*rows, strict=True))

    patch.setattr(transformer_module, "rotation", rotation)


def positions_off_by_one_in_padded_rows(pair, patch):
    patch.setattr(transformer_module, "positions_within", lambda segments: segments.cumsum(1))


def positions_count_padding(pair, patch):
    patch.setattr(
        transformer_module, "positions_within", lambda segments: torch.ones_like(segments).cumsum(1) - 1
    )


def wrong_rope_base(pair, patch):
    object.__setattr__(pair.model.config, "rope_theta", 1e4)


MISTAKES = [
    (interleaved_pairs, "multi-head"),
    (swapped_gate_and_up, "multi-head"),
    (scale_by_model_width, "multi-head"),
    (missing_norm_weight, "multi-head"),
    (tiled_key_heads, "grouped"),
    (scale_by_model_width, "one key/value head"),
    (untied_head, "tied"),
    (wrong_eps, "small activations"),
    (all_channels_rotated, "partial rotation"),
    (interleaved_pairs, "partial rotation"),
    (window_one_too_wide, "past the window"),
    (window_ignored, "past the window"),
    (window_one_too_wide, "window, left-padded"),
    (padding_visible, "left-padded"),
    (padding_visible, "window, left-padded"),
    (attention_factor_one, "LongRoPE, short"),
    (long_factors_from_original_on, "LongRoPE, exactly original"),
    (long_factors_never_used, "LongRoPE, one past"),
    (long_factors_never_used, "LongRoPE, far past"),
    (each_row_its_own_factors, "LongRoPE, one row past"),
    (positions_off_by_one_in_padded_rows, "LongRoPE, original with padding"),
    (positions_count_padding, "LongRoPE, original with padding"),
    (each_row_its_own_factors, "all at once"),
    (wrong_rope_base, "llama"),
]


@pytest.mark.parametrize(("mistake", "name"), MISTAKES, ids=lambda value: getattr(value, "__name__", value))
def test_a_planted_mistake_is_noticed(twins, monkeypatch, mistake, name):
    pair = twins(name)
    mistake(pair, monkeypatch)
    assert pair.difference() > 10 * TOLERANCE


def test_every_case_has_a_mistake_that_it_notices(all_cases):
    assert {name for _, name in MISTAKES} == all_cases


def test_short_regime_has_an_attention_factor(twins):
    assert twins("LongRoPE, short").config.attention_factor == pytest.approx(
        twins("LongRoPE, short").reference.model.rotary_emb.attention_scaling
    )
    assert twins("LongRoPE, short").config.attention_factor > 1.1


# --- packing ---


def packed_difference(pair) -> float:
    """Three documents in one row against three runs of the reference."""
    documents = [pair.ids[0, :7], pair.ids[1, :12], pair.ids[0, 7:12]]
    segments = torch.tensor([[1] * 7 + [2] * 12 + [3] * 5])
    mine = pair.model(torch.cat(documents)[None], segments)[0]
    theirs = torch.cat([pair.reference(document[None]).logits[0] for document in documents])
    return float((mine - theirs).abs().max() / theirs.abs().max())


@torch.no_grad()
@pytest.mark.parametrize("name", ["grouped", "past the window"])
def test_packed_documents_equal_separate_runs(twins, name):
    assert packed_difference(twins(name)) <= TOLERANCE


@torch.no_grad()
def test_packing_notices_documents_that_see_each_other(twins, monkeypatch):
    padding_visible(None, monkeypatch)
    assert packed_difference(twins("grouped")) > 10 * TOLERANCE


# --- single-token decoding past the window, step by step against the reference ---


@torch.no_grad()
def decoding_difference(pair) -> float:
    cache = pair.model.new_cache(2)
    past, worst = None, 0.0
    for column in pair.ids.split(1, dim=1):
        theirs = pair.reference(column, past_key_values=past, use_cache=True)
        past = theirs.past_key_values
        mine = pair.model(column, cache=cache)
        worst = max(worst, float((mine - theirs.logits).abs().max() / theirs.logits.abs().max()))
    return worst


@pytest.mark.parametrize("name", ["multi-head", "grouped", "past the window", "llama"])
def test_decoding_equals_the_reference_at_every_step(twins, make_case, name):
    pair = twins(name)
    pair.ids = torch.randint(97, (2, 20))
    assert decoding_difference(pair) <= TOLERANCE


def test_decoding_notices_a_window_off_by_one(twins, monkeypatch):
    pair = twins("past the window")
    cache = type(pair.model.new_cache())
    monkeypatch.setattr(cache, "visible_before", lambda self: min(self._stored, self.config.sliding_window))
    assert decoding_difference(pair) > 10 * TOLERANCE


# --- gradients ---


def gradient_differences(pair, by_our_name) -> dict[str, float]:
    """Of the next-token loss, relative to the largest entry of each parameter's gradient."""
    ids = pair.ids
    F.cross_entropy(pair.model(ids)[:, :-1].flatten(0, 1), ids[:, 1:].flatten()).backward()
    pair.reference(ids, labels=ids, use_cache=False).loss.backward()
    theirs = by_our_name({name: value.grad for name, value in pair.reference.named_parameters()})
    mine = {name: value.grad for name, value in pair.model.named_parameters()}
    assert mine.keys() == theirs.keys()
    return {name: float((mine[name] - theirs[name]).abs().max() / theirs[name].abs().max()) for name in mine}


@pytest.mark.parametrize(
    "name", ["multi-head", "grouped", "tied", "partial rotation", "past the window", "LongRoPE, far past"]
)
def test_gradients_equal_the_reference(twins, by_our_name, name):
    assert max(gradient_differences(twins(name), by_our_name).values()) <= 2e-5


def test_gradients_of_a_llama_equal_the_reference(twins, make_case, by_our_name):
    pair = twins(make_case(llama=True, changes={"num_key_value_heads": 2}))
    assert max(gradient_differences(pair, by_our_name).values()) <= 2e-5


def test_gradients_notice_a_detached_gate(twins, by_our_name, monkeypatch):
    """The logits stay right; only the gradient can tell."""

    def forward(self, x, trace):
        gate, up = self.gate_up_proj(x).chunk(2, dim=-1)
        return self.down_proj(up * F.silu(gate).detach())

    monkeypatch.setattr(MLP, "forward", forward)
    pair = twins("grouped")
    assert pair.difference() <= TOLERANCE
    wrong = {name for name, size in gradient_differences(pair, by_our_name).items() if size > 1e-3}
    assert "layers.1.mlp.gate_up_proj.weight" in wrong


# --- bfloat16: the same rounding points ---
# Measured with torch 2.13 on a CPU: no difference at all, in every case, of our explicit path from the
# reference's "eager" attention and of our fused path from its "sdpa". A kernel for other hardware may sum in
# another order, so two units in the last place of the largest logit are allowed. (The reference's own eager
# and sdpa attention differ by 4 to 12 such units, because sdpa does not round the weights.)

TWO_ULPS = 2 * 2**-8


def bfloat16_difference(pair, kind: str) -> float:
    pair.reference.set_attn_implementation(kind)
    return pair.difference(**({"trace": tinyphi.Trace()} if kind == "eager" else {}))


@pytest.mark.parametrize("kind", ["eager", "sdpa"])
def test_bfloat16_rounds_where_the_reference_rounds(twins, case, kind):
    assert bfloat16_difference(twins(case, dtype=torch.bfloat16), kind) <= TWO_ULPS


def norm_rounded_after_the_weight(pair, patch):
    def forward(self, x):
        full = x.float()
        root = torch.rsqrt(full.square().mean(-1, keepdim=True) + self.eps)
        return (self.weight.float() * full * root).to(x.dtype)

    patch.setattr(RMSNorm, "forward", forward)


def norm_in_bfloat16(pair, patch):
    patch.setattr(
        RMSNorm,
        "forward",
        lambda self, x: self.weight * x * torch.rsqrt(x.square().mean(-1, keepdim=True) + self.eps),
    )


def rotation_not_rounded(pair, patch):
    original = attention_module.rotate

    def rotate(x, cos, sin):
        return original(x.float(), cos.float(), sin.float()).to(x.dtype)

    patch.setattr(attention_module, "rotate", rotate)


def mlp_rounded_once(pair, patch):
    def forward(self, x, trace):
        gate, up = self.gate_up_proj(x).float().chunk(2, dim=-1)
        return self.down_proj((up * F.silu(gate)).to(x.dtype))

    patch.setattr(MLP, "forward", forward)


def weights_not_rounded(pair, patch):
    def attention(queries, keys, values, mask, trace):
        return fused_attention(queries, keys, values, mask)

    patch.setattr(attention_module, "explicit_attention", attention)


@torch.no_grad()
@pytest.mark.parametrize(
    "mistake",
    [
        norm_rounded_after_the_weight,
        norm_in_bfloat16,
        rotation_not_rounded,
        mlp_rounded_once,
        weights_not_rounded,
    ],
)
def test_bfloat16_notices_other_rounding(twins, monkeypatch, mistake):
    pair = twins("grouped", dtype=torch.bfloat16)
    mistake(pair, monkeypatch)
    assert bfloat16_difference(pair, "eager") > TWO_ULPS


@torch.no_grad()
def test_bfloat16_decoding_stays_close_to_prefill(twins):
    """One token at a time goes through matrix-vector products; their sums round elsewhere, no worse."""
    pair = twins("grouped", dtype=torch.bfloat16)
    ids = pair.ids[:1]
    exact = twins("grouped").model(ids)
    cache = pair.model.new_cache()
    stepwise = torch.cat([pair.model(column, cache=cache) for column in ids.split(1, dim=1)], dim=1)
    scale = exact.abs().max()
    at_once = (pair.model(ids) - exact).abs().max() / scale
    assert (stepwise - exact).abs().max() / scale <= 2 * at_once


# --- generation ---


@torch.no_grad()
def greedy_by_transformers(pair, new: int) -> list[list[int]]:
    out = pair.reference.generate(
        pair.ids, attention_mask=pair.segments, max_new_tokens=new, do_sample=False, pad_token_id=0
    )
    return out[:, pair.ids.shape[1] :].tolist()


@torch.no_grad()
def greedy_without_a_cache(pair, row: int, new: int) -> list[int]:
    ids = pair.ids[row : row + 1, -pair.case.lengths[row] :]
    for _ in range(new):
        ids = torch.cat((ids, pair.model(ids)[:, -1:].argmax(-1)), dim=1)
    return ids[0, -new:].tolist()


def our_greedy(pair, new: int) -> list[list[int]]:
    rows = [row[-length:].tolist() for row, length in zip(pair.ids, pair.case.lengths, strict=True)]
    return tinyphi.generate(pair.model, rows, max_new_tokens=new).ids


@pytest.mark.parametrize(
    "name", ["multi-head", "tied", "left-padded", "past the window", "window, left-padded", "llama"]
)
def test_greedy_text_equals_generate(twins, name):
    pair = twins(name)
    assert our_greedy(pair, 24) == greedy_by_transformers(pair, 24)


@pytest.mark.parametrize("name", ["LongRoPE, short", "LongRoPE, exactly original", "LongRoPE, far past"])
def test_greedy_text_across_the_longrope_boundary_equals_generate(twins, name):
    """`generate` throws its cache away at the boundary and reads everything again; so do we."""
    pair = twins(name)
    ours = our_greedy(pair, 10)
    assert ours == greedy_by_transformers(pair, 10)
    assert ours == [greedy_without_a_cache(pair, row, 10) for row in range(2)]


def test_generate_notices_a_stale_cache(twins, monkeypatch):
    """Keys turned with the short factors, continued with the long ones: vLLM's and llama.cpp's choice."""
    monkeypatch.setattr("tinyphi.model.cache.KeyValueCache.is_stale", lambda self, long_factors: False)
    pair = twins("LongRoPE, short")
    assert our_greedy(pair, 24) != greedy_by_transformers(pair, 24)


@torch.no_grad()
def boundary_difference(pair, bits=None, new=8) -> float:
    """Follow the text that `generate` writes, and compare its logits at every step."""
    written = pair.reference.generate(
        pair.ids, attention_mask=pair.segments, max_new_tokens=new, do_sample=False, pad_token_id=0,
        return_dict_in_generate=True, output_logits=True,
    )  # fmt: skip
    cache, prompt = pair.model.new_cache(len(pair.ids), bits=bits), pair.ids.shape[1]
    mine = [prefill(pair.model, pair.ids, cache, pair.segments)]
    for column in written.sequences[:, prompt:-1].T:
        mine.append(decode_one(pair.model, column, cache))
    return max(
        float((ours - theirs).abs().max() / theirs.abs().max())
        for ours, theirs in zip(mine, written.logits, strict=True)
    )


@pytest.mark.parametrize("lengths", [(7,), (8,), (9,), (7, 3), (3, 8, 5), (10, 2)], ids=str)
@pytest.mark.parametrize("piece", [3, 512])
def test_every_step_across_the_boundary_equals_generate(
    twins, make_case, longrope, monkeypatch, lengths, piece
):
    """In a batch the longest row decides for all, also for those that stay far below the boundary."""
    monkeypatch.setattr(transformer_module, "_PIECE", piece)
    pair = twins(make_case(lengths=lengths, changes=longrope))
    assert boundary_difference(pair) <= TOLERANCE
    assert boundary_difference(pair, bits=8) <= 0.1  # what 8 bits cost anywhere
    monkeypatch.setattr("tinyphi.model.cache.KeyValueCache.is_stale", lambda self, long_factors: False)
    if max(lengths) <= 8:
        assert boundary_difference(pair, bits=8) > 0.2
        assert boundary_difference(pair) > 0.2
