"""Mistakes inside of the forward pass. `parity.bisect` finds each when its input exposes it."""

from collections.abc import Iterator
from typing import Any

import torch
from einops import rearrange
from torch import Tensor
from torch.nn import functional as F

from tinyphi.config import PhiConfig
from tinyphi.course.traplab.lab import Change, Thread, current, enter
from tinyphi.model import attention, rope, transformer
from tinyphi.model.cache import KeyValueCache
from tinyphi.model.mlp import MLP
from tinyphi.model.norm import RMSNorm
from tinyphi.model.trace import Trace


@enter(
    mistake="When a text grows beyond the original context, LongRoPE changes its factors, but keys in the "
    "cache stay turned with the old ones.",
    happened=(
        Thread("huggingface/transformers", 33129, "[Phi-3] Bug on stale kv cache"),
        Thread("microsoft/onnxruntime-genai", 1161, "Recompute KV cache when switching factors"),
        Thread("ggml-org/llama.cpp", 24875, "Long/short rope factors by sequence length"),
    ),
    needs="LongRoPE, a cache, and a text that crosses the original context (4,096 tokens) while it is made",
    hides="prompts that are already longer, texts that stay shorter, and every call without a cache",
    shows="Good text up to token 4,096, garbled after it. A cached step after the crossing has right scores "
    "with its own token and wrong ones with those before.",
    cure="Throw the cache away at the crossing and compute its tokens again with the new factors.",
    first="scores",
    cause="the cache is stale",
    suspect=True,
)
def stale_longrope() -> Iterator[Change]:
    # What remains is the other reason for computing again: a call that was interrupted.
    yield Change(KeyValueCache, "is_stale", lambda self, long_factors: self._half_written)


@enter(
    mistake="LongRoPE's long factors are used for texts of every length.",
    happened=(
        Thread("lablup/mlxcel", 1580, "Select the LongRoPE table by whole-prompt position"),
        Thread("ggml-org/llama.cpp", 8995, "Phi-3 mini 128k degrades with kv size > 8k", "issues"),
    ),
    needs="LongRoPE and a text that fits the original context",
    hides="longer texts, where the long factors are right, and models without LongRoPE",
    shows="Short questions are answered a little worse, long documents well. The cosines differ.",
    cure="Choose the factors by the length of the longest text in the call.",
    first="cos",
    cause="wrong frequencies",
    suspect=True,
)
def long_factors_always() -> Iterator[Change]:
    for module in (rope, transformer):
        yield Change(module, "uses_long_factors", lambda config, longest: config.long_factor is not None)


@enter(
    mistake="LongRoPE's factors are used, but cosines and sines are not stretched by its attention factor.",
    happened=(
        Thread("ml-explore/mlx-examples", 799, "Phi-3 128K variants' su RoPE scaling", "issues"),
        Thread("lablup/mlxcel", 1358, "LongRoPE factors and mscale overrides", "issues"),
    ),
    needs="LongRoPE; any text, short ones too",
    hides="models without LongRoPE, such as Phi-3-mini-4k, where the factor is 1",
    shows="Attention is less sharp: scores are too small, 1.42 times in Phi-3-mini-128k. The cosines differ.",
    cure="Multiply cosines and sines by sqrt(1 + ln(s) / ln(L)), at every length.",
    first="cos",
    cause="attention factor missing",
    suspect=True,
)
def missing_attention_factor() -> Iterator[Change]:
    yield Change(PhiConfig, "attention_factor", 1.0)


@enter(
    mistake="A token sees one token more than the window: the token itself is not counted.",
    happened=(
        Thread("huggingface/transformers", 39408, "Off-by-one with a sliding window", "issues"),
        Thread("huggingface/transformers", 29623, "Attention sliding window implementation", "issues"),
        Thread("vllm-project/vllm", 4380, "Phi-3 4k sliding window temp. fix"),
    ),
    needs="a sliding window (2,047 tokens in Phi-3-mini-4k) and a prompt that is longer",
    hides="every text that fits the window; and most tests, which are shorter than 2,047 tokens",
    shows="Nothing that a reader would notice. The mask differs on one diagonal.",
    cure="distance < window, where a token's distance to itself is 0.",
    first="mask",
    cause="mask off by one",
    suspect=True,
)
def window_off_by_one() -> Iterator[Change]:
    original = current(transformer, "visible")

    def visible(*where: Any) -> Tensor:
        *places, window = where
        seen: Tensor = original(*places, window if window is None else window + 1)
        return seen

    yield Change(transformer, "visible", visible)


@enter(
    mistake="The sliding window is ignored: a token sees all tokens before it.",
    happened=(
        Thread("ggml-org/llama.cpp", 7709, "Phi-3 4K output broken after 2000~ tokens", "issues"),
        Thread("ggml-org/llama.cpp", 8627, "llama: use sliding window for phi3"),
        Thread("huggingface/transformers", 33586, "Phi3: fix attn for sliding window"),
    ),
    needs="a sliding window and a prompt that is longer",
    hides="every text that fits the window",
    shows="Good text up to about 2,000 tokens, broken after it. The mask has a corner too many.",
    cure="Mask what is farther away than the window.",
    first="mask",
    cause="the window is ignored",
    suspect=True,
)
def window_ignored() -> Iterator[Change]:
    original = current(transformer, "visible")
    yield Change(transformer, "visible", lambda *where: original(*where[:4], None))


@enter(
    mistake="RoPE turns neighbouring channels together, not channels of the two halves.",
    happened=(
        Thread("jzhang38/TinyLlama", 24, "Gibberish output on llama.cpp", "issues"),
        Thread("huggingface/transformers", 25199, "Rotary embedding differs from the official one", "issues"),
    ),
    needs="any text of two tokens or more",
    hides="the first token, which is not turned at all",
    shows="Gibberish, or text that goes round in circles. The rotated queries differ.",
    cure="Pair channel i with channel i + r, or put the rows of the weights into the other order.",
    first="rotated_queries",
    cause="wrong rotation layout",
    suspect=True,
)
def interleaved_rotation() -> Iterator[Change]:
    def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        pairs = cos.shape[-1]
        turned, rest = x[..., : 2 * pairs], x[..., 2 * pairs :]
        even, odd = turned[..., 0::2], turned[..., 1::2]
        cos, sin = cos.unsqueeze(1), sin.unsqueeze(1)
        mixed = torch.stack((even * cos - odd * sin, odd * cos + even * sin), dim=-1).flatten(-2)
        return torch.cat((mixed, rest), dim=-1)

    yield Change(attention, "rotate", rotate)


@enter(
    mistake="Positions are kept in bfloat16, which has 8 significant bits: 257 becomes 256.",
    happened=(
        Thread("huggingface/transformers", 29285, "RoPE loses precision for Llama / Gemma"),
        Thread("huggingface/candle", 3520, "qwen2: build RoPE cos/sin tables in fp32"),
        Thread("EleutherAI/gpt-neox", 1003, "RotaryEmbedding wrong in reduced precision", "issues"),
    ),
    needs="a text of more than 257 tokens",
    hides="all shorter texts: up to 256 every whole number is a bfloat16",
    shows="Neighbours share a position: 259, 260 and 261 are all at 260. The cosines differ from 257 on.",
    cure="Compute positions and angles in float32; only cosines and sines may be rounded.",
    first="cos",
    cause="positions rounded to bfloat16",
    suspect=True,
)
def bf16_positions() -> Iterator[Change]:
    original = current(transformer, "rotation")

    def rotation(config: PhiConfig, positions: Tensor, *rest: Any) -> tuple[Tensor, Tensor]:
        cos, sin = original(config, positions.bfloat16(), *rest)
        return cos, sin

    yield Change(transformer, "rotation", rotation)


@enter(
    mistake="Key/value heads are tiled (0 1 0 1 0 1) where each should serve neighbours (0 0 0 1 1 1).",
    happened=(
        Thread("onnx/onnx", 7274, "Attention: repeat interleave within repeat kv"),
        Thread("ekzhang/jax-js", 180, "Fix GQA semantics for attention heads"),
        Thread("apple/axlearn", 842, "Fix the changed GQA behavior"),
    ),
    needs="fewer key/value heads than query heads, and more than one (Phi-3-medium: 10 for 40)",
    hides="Phi-3-mini, which has as many of one as of the other",
    shows="Gibberish: most query heads ask keys that were not made for them. The scores differ.",
    cure="Query head j belongs to key/value head j // g, not j % n.",
    first="scores",
    cause="key/value heads tiled",
    suspect=True,
)
def kv_tiled() -> Iterator[Change]:
    explicit = current(attention, "explicit_attention")
    fused = current(attention, "fused_attention")

    def sorted_queries(queries: Tensor, keys: Tensor) -> Tensor:
        """Query heads in the order in which the library's grouping makes the mistake."""
        return rearrange(queries, "b (g n) t c -> b (n g) t c", n=keys.shape[1])

    def put_back(x: Tensor, keys: Tensor) -> Tensor:
        return rearrange(x, "b (n g) t x -> b (g n) t x", n=keys.shape[1])

    def tiled_explicit(queries: Tensor, keys: Tensor, values: Tensor, mask: Tensor, trace: Trace) -> Tensor:
        inner = Trace()
        mixed = explicit(sorted_queries(queries, keys), keys, values, mask, inner)
        for name in inner:
            trace.record(name, put_back(inner[name], keys), inner.axes(name))
        return put_back(mixed, keys)

    def tiled_fused(queries: Tensor, keys: Tensor, values: Tensor, mask: Tensor | None) -> Tensor:
        return put_back(fused(sorted_queries(queries, keys), keys, values, mask), keys)

    yield Change(attention, "explicit_attention", tiled_explicit)
    yield Change(attention, "fused_attention", tiled_fused)


@enter(
    mistake="The halves of the fused matrix are taken the wrong way round: the first as up.",
    happened=(
        Thread("ml-explore/mlx-lm", 767, "Fix swiglu parameter order"),
        Thread("flashinfer-ai/flashinfer", 4130, "Fused MoE: the packing order of gate and up"),
    ),
    needs="any text",
    hides="nowhere in the forward pass; but shapes, sizes and speed are all right",
    shows="Gibberish. Gate and up are exchanged.",
    cure="In Phi-3's files the gate rows come first.",
    first="gate",
    cause="gate and up are swapped",
    suspect=True,
)
def gate_up_swapped() -> Iterator[Change]:
    def forward(self: MLP, x: Tensor, trace: Trace) -> Tensor:
        up, gate = self.gate_up_proj(x).chunk(2, dim=-1)
        hidden = up * F.silu(gate)
        output: Tensor = self.down_proj(hidden)
        for name, value in (("gate", gate), ("up", up), ("hidden", hidden)):
            trace.record(name, value, "b t f")
        trace.record("output", output, "b t d")
        return output

    yield Change(MLP, "forward", forward)


@enter(
    mistake="The softmax is taken in bfloat16, not in float32.",
    happened=(
        Thread("huggingface/optimum-habana", 396, "Attention softmax in BF16 for llama"),
        Thread("apple/axlearn", 18, "torch: attention softmax as float32 for bf16"),
        Thread("oobabooga/textgen", 2987, "Option to not upcast attention: no harm measured", "issues"),
    ),
    needs="scores in float32",
    hides="explicit attention in a bfloat16 model, whose scores have lost these digits already",
    shows="Probabilities change in the third digit. The weights agree to 8 bits and no more.",
    cure="softmax(dim=-1, dtype=torch.float32), then back to the dtype of the queries.",
    first="weights",
    cause="softmax in bfloat16",
    suspect=True,
)
def bf16_softmax() -> Iterator[Change]:
    original = current(attention, "explicit_attention")

    def explicit(queries: Tensor, keys: Tensor, values: Tensor, mask: Tensor, trace: Trace) -> Tensor:
        inner = Trace()
        original(queries, keys, values, mask, inner)
        scores = inner["scores"]
        hidden = scores.masked_fill(~mask[:, None], float("-inf"))
        weights = hidden.bfloat16().softmax(dim=-1).to(queries.dtype)
        mixed = weights @ values.repeat_interleave(queries.shape[1] // values.shape[1], dim=1)
        for name, value in (("scores", scores), ("weights", weights)):
            trace.record(name, value, "b h t s")
        trace.record("mixed", mixed, "b h t c")
        return mixed

    def fused(queries: Tensor, keys: Tensor, values: Tensor, mask: Tensor | None) -> Tensor:
        tokens, sources = queries.shape[2], keys.shape[2]
        if mask is None:
            mask = torch.ones(1, tokens, sources, dtype=torch.bool, device=keys.device).tril(sources - tokens)
        return explicit(queries, keys, values, mask, Trace())

    yield Change(attention, "explicit_attention", explicit)
    yield Change(attention, "fused_attention", fused)


@enter(
    mistake="The norm multiplies by its weight first and rounds to bfloat16 after that.",
    happened=(
        Thread("NVIDIA/TransformerEngine", 1132, "RMSNorm precision differs from HF's", "issues"),
        Thread("huggingface/transformers", 25421, "Fix premature downcast in LlamaRMSNorm"),
        Thread("tinygrad/tinygrad", 5095, "Update llama model RMSNorm casting"),
    ),
    needs="a model in bfloat16 or float16",
    hides="float32, where there is no rounding in between",
    shows="The last bit of a quarter of the norm's numbers. It is more precise, and not what was trained.",
    cure="Return to the input's dtype, then multiply by the weight.",
    first="attention_norm",
    cause="the norm rounds at another place",
)
def norm_weight_first() -> Iterator[Change]:
    def forward(self: RMSNorm, x: Tensor) -> Tensor:
        full = x.float()
        normed = full * torch.rsqrt(full.square().mean(-1, keepdim=True) + self.eps)
        return (self.weight.float() * normed).to(x.dtype)

    yield Change(RMSNorm, "forward", forward)


@enter(
    mistake="Padding is not masked: tokens look at the padding before them.",
    happened=(
        Thread("Blaizzy/mlx-vlm", 1946, "A batched row's answer depends on its neighbour's length"),
        Thread("tloen/alpaca-lora", 107, "Attention mask counts padding tokens"),
    ),
    needs="a batch of texts of different lengths, padded on the left",
    hides="single texts, texts of one length, and padding on the right, which causality hides anyway",
    shows="The answer to a question depends on which other questions are in the batch. The mask differs.",
    cure="Mask every key that is padding; here: give `segments`, with 0 where padding stands.",
    first="mask",
    cause="padding is visible",
    suspect=True,
)
def unmasked_padding() -> Iterator[Change]:
    original = current(transformer, "visible")

    def visible(
        segments: Tensor, positions: Tensor, key_segments: Tensor, key_positions: Tensor, window: int | None
    ) -> Tensor:
        seen: Tensor = original(segments, positions, key_segments, key_positions, window)
        before = torch.ones_like(seen).tril(seen.shape[2] - seen.shape[1])
        return seen | ((key_segments == 0)[:, None] & before)

    yield Change(transformer, "visible", visible)


@enter(
    mistake="The prompt's positions leave padding out, but each new token's position is its column, padding "
    "included.",
    happened=(
        Thread("unslothai/unsloth", 4083, "Fix batched padded generation"),
        Thread("unslothai/unsloth", 4078, "Fix position_ids for batched left-padded generation"),
    ),
    needs="a batch of prompts of different lengths, and generating with a cache",
    hides="single prompts, prompts of one length, the longest of a batch, and reading without generating",
    shows="In a batch the shorter prompts get worse answers. The cosines differ in every cached step.",
    cure="Count positions within each text, in every call.",
    first="cos",
    cause="padding counted as text",
    suspect=True,
)
def padding_counted() -> Iterator[Change]:
    original = current(transformer, "_place")

    def place(config: Any, ids: Tensor, segments: Tensor, cache: KeyValueCache | None) -> Any:
        right = original(config, ids, segments, cache)
        if cache is None or cache.tokens == 0:
            return right
        columns = torch.arange(cache.tokens, cache.tokens + ids.shape[1], device=ids.device)
        return right._replace(positions=columns.expand_as(right.positions))

    yield Change(transformer, "_place", place)
