"""Phi3: token ids in, logits out. One class for the whole family, for training, prefill and decoding."""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from tinyphi.config import PhiConfig
from tinyphi.errors import InputError
from tinyphi.kernels import native
from tinyphi.model.attention import Attention
from tinyphi.model.cache import KeyValueCache
from tinyphi.model.linear import Linear
from tinyphi.model.mask import is_one_document, positions_within, visible
from tinyphi.model.mlp import MLP
from tinyphi.model.norm import RMSNorm
from tinyphi.model.rope import rotation, uses_long_factors
from tinyphi.model.trace import NO_TRACE, Trace

_MOST_AT_ONCE = 512  # tokens for the compiled layers; beyond them torch's attention is the faster one


class Block(nn.Module):
    """One layer: attention moves information between tokens, the MLP works on each token alone.

    Each reads a normalised copy of the residual stream and adds its result back.
    """

    def __init__(self, config: PhiConfig, layer: int) -> None:
        super().__init__()
        self.attention_norm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.attention = Attention(config, layer)
        self.mlp_norm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.mlp = MLP(config)

    def forward(
        self,
        x: Tensor,
        cos: Tensor,
        sin: Tensor,
        mask: Tensor | None,
        cache: KeyValueCache | None,
        trace: Trace,
    ) -> Tensor:
        """x (b t d), cos and sin (b t r), mask (b t s) bool or None → (b t d)."""
        normed = self.attention_norm(x)
        trace.record("attention_norm", normed, "b t d")
        x = x + self.attention(normed, cos, sin, mask, cache, trace.at("attention"))
        trace.record("after_attention", x, "b t d")
        normed = self.mlp_norm(x)
        trace.record("mlp_norm", normed, "b t d")
        x = x + self.mlp(normed, trace.at("mlp"))
        trace.record("output", x, "b t d")
        return x


class Phi3(nn.Module):
    """The decoder of the Phi-3 family; it also runs models of the Llama architecture.

    Source: Phi-3 technical report (arXiv 2404.14219), sec. 2; `Phi3ForCausalLM` in transformers.
    """

    def __init__(self, config: PhiConfig) -> None:
        super().__init__()
        self.config = config
        self.embed_tokens = nn.Embedding(config.vocab_size, config.hidden_size)
        self.layers = nn.ModuleList(Block(config, layer) for layer in range(config.num_hidden_layers))
        self.norm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.lm_head = Linear(config.hidden_size, config.vocab_size)
        if config.tie_word_embeddings:
            self.lm_head.weight = self.embed_tokens.weight
        self._decoder: native.Decoder | None = None  # see compile
        self.apply(_initialise)

    def forward(
        self,
        ids: Tensor,
        segments: Tensor | None = None,
        cache: KeyValueCache | None = None,
        trace: Trace | None = None,
    ) -> Tensor:
        """Predict the next token after each token: ids (b t) int64 → logits (b t v) float32.

        segments: (b t) int64; 0 marks padding, 1, 2, … the documents of a row. A token sees only its own
            segment, and positions count within it. None: each row is one document (with a cache: each row
            goes on with its last segment).
        cache: from `new_cache`; the tokens follow those it holds, and are added to it.
        trace: records every intermediate under its name. When a call has to compute the cached tokens again
            (LongRoPE), the layers hold all tokens, `norm` and `logits` the new ones.
        Raises InputError for wrong shapes, types or ids.
        """
        return self.logits(self.hidden(ids, segments, cache, trace), trace)

    def hidden(
        self,
        ids: Tensor,
        segments: Tensor | None = None,
        cache: KeyValueCache | None = None,
        trace: Trace | None = None,
    ) -> Tensor:
        """The residual stream after the last layer, normalised: (b t) → (b t d). Arguments: see `forward`."""
        trace = NO_TRACE if trace is None else trace
        segments = self._check(ids, segments, cache)
        new = ids.shape[1]
        place = _place(self.config, ids, segments, cache, bool(trace))
        if cache is not None:
            again = cache.is_stale(place.long_factors)
            if again:
                trace.note(_recompute_event(cache, place.long_factors))
                ids = torch.cat((cache.ids, ids), dim=1)
                segments = torch.cat((cache.segments, segments), dim=1)
                place = _place(self.config, ids, segments, None, bool(trace))
            cache.begin(ids.shape[1], again)
        x = self._layers(ids, place, cache, trace)
        if cache is not None:
            cache.commit(ids, segments, place.long_factors)
        normed: Tensor = self.norm(x[:, -new:])
        trace.record("norm", normed, "b t d")
        return normed

    def logits(self, hidden: Tensor, trace: Trace | None = None) -> Tensor:
        """Score every token of the vocabulary: (b t d) → (b t v) float32."""
        logits: Tensor = self.lm_head(hidden).float()
        if trace is not None:
            trace.record("logits", logits, "b t v")
        return logits

    def new_cache(
        self, batch: int = 1, max_tokens: int | None = None, bits: int | None = None
    ) -> KeyValueCache:
        """An empty cache for `batch` rows, with room for `max_tokens` (None: it grows).

        bits: 8 keeps keys and values as 8-bit numbers, None in the model's dtype.
        """
        weight = self.norm.weight
        return KeyValueCache(self.config, batch, max_tokens, weight.dtype, weight.device, bits)

    def compile(self) -> None:  # torch's own would compile with inductor
        """From now on, let one C call take the tokens of a single text through all layers.

        It computes what the layers compute, in float32. They keep all other work: several rows or documents,
        long prompts, a trace, gradients, no cache. Compile again after a layer or a norm was changed, or the
        model was moved.
        Raises InputError unless all matrices of the layers are quantized for the native kernel, which
        `tinyphi.quant.quantize` does.
        """
        layers = [_for_kernel(layer) for layer in self.layers]
        config = self.config
        self._decoder = native.Decoder(
            layers,
            config.num_attention_heads,
            config.num_key_value_heads,
            config.sliding_window,
            config.rms_norm_eps,
        )

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_decoder": None}  # a copy must be compiled for itself

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> "Phi3":
        self._decoder = None  # a model that is moved or converted leaves the addresses that it holds
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        return self

    def _layers(self, ids: Tensor, place: "_Place", cache: KeyValueCache | None, trace: Trace) -> Tensor:
        x: Tensor = self.embed_tokens(ids)
        cos, sin = rotation(self.config, place.positions, place.longest, x.dtype)
        if trace:
            trace.record("embedding", x, "b t d")
            trace.record("rope.cos", cos, "b t r")
            trace.record("rope.sin", sin, "b t r")
            assert place.mask is not None
            trace.record("mask", place.mask, "b t s")
        if self._decoder is not None and cache is not None and trace is NO_TRACE and place.one_document:
            few = ids.shape[1] <= _MOST_AT_ONCE and not torch.is_grad_enabled()
            slot = cache.in_place(ids.shape[1]) if few else None
            if slot is not None:
                return self._decoder.step(x, cos, sin, *slot)
        for number, layer in enumerate(self.layers):
            x = layer(x, cos, sin, place.mask, cache, trace.at(f"layers.{number}"))
        return x

    def _check(self, ids: Tensor, segments: Tensor | None, cache: KeyValueCache | None) -> Tensor:
        """Raise InputError for what cannot be run; return the segments, made up where none were given."""
        if not isinstance(ids, Tensor) or ids.dtype != torch.int64 or ids.ndim != 2 or ids.numel() == 0:
            raise InputError(
                f"ids must be an int64 tensor with axes (batch, tokens), neither empty; this is "
                f"{_described(ids)}. A single text is torch.tensor([tokenizer.encode(text)])."
            )
        low, high = (int(bound) for bound in ids.aminmax())
        if low < 0 or high >= self.config.vocab_size:
            raise InputError(
                f"ids must lie in 0 … {self.config.vocab_size - 1}, the rows of the embedding; found {low} … "
                f"{high}. Does the tokenizer belong to this model?"
            )
        if cache is not None and cache.batch != ids.shape[0]:
            raise InputError(f"The cache is for {cache.batch} rows, but ids has {ids.shape[0]}.")
        if segments is None:
            return _continued(ids, cache)
        if (
            not isinstance(segments, Tensor)
            or segments.shape != ids.shape
            or segments.dtype != torch.int64
            or int(segments.min()) < 0
        ):
            raise InputError(
                f"segments must be an int64 tensor of the shape of ids {tuple(ids.shape)} and not negative; "
                f"this is {_described(segments)}."
            )
        if cache is not None:
            known = torch.cat((cache.segments, segments), dim=1) > 0
            if bool((known[:, 1:] & ~known[:, :-1] & known[:, :-1].cumsum(1).bool()).any()):
                raise InputError("With a cache, padding must come first in a row: pad prompts on the left.")
        return segments


class _Place(NamedTuple):
    """Where the tokens of a call stand."""

    positions: Tensor  # (b t), counted within each segment
    longest: int  # length of the longest segment so far
    one_document: bool  # whether each row is one, without padding
    long_factors: bool  # whether LongRoPE uses its long factors
    mask: Tensor | None  # (b t s); None when every token sees all earlier ones


def _place(
    config: PhiConfig, ids: Tensor, segments: Tensor, cache: KeyValueCache | None, always_mask: bool
) -> _Place:
    """Positions and mask of new tokens that follow those of the cache."""
    new = ids.shape[1]
    everything = segments if cache is None else torch.cat((cache.segments, segments), dim=1)
    stored = 0 if cache is None else cache.visible_before()
    one_document = is_one_document(everything)
    if one_document:
        positions = torch.arange(everything.shape[1], device=ids.device).expand(ids.shape[0], -1)
        # A single new token sees all that the cache still shows; several see all only if nothing is hidden.
        window = config.sliding_window
        plain = new == 1 or (stored == 0 and (window is None or new <= window))
    else:
        positions, plain = positions_within(everything), False
    longest = int(positions.max()) + 1
    mask = None
    if always_mask or not plain:
        keys = slice(everything.shape[1] - stored - new, None)
        mask = visible(
            segments, positions[:, -new:], everything[:, keys], positions[:, keys], config.sliding_window
        )
    return _Place(positions[:, -new:], longest, one_document, uses_long_factors(config, longest), mask)


def _continued(ids: Tensor, cache: KeyValueCache | None) -> Tensor:
    """Segments for tokens that come without: one document, or the last segment of each cached row."""
    if cache is None or cache.tokens == 0:
        return torch.ones_like(ids)
    return cache.segments[:, -1:].expand_as(ids)


def _described(given: object) -> str:
    return f"{given.dtype} {tuple(given.shape)}" if isinstance(given, Tensor) else type(given).__name__


def _recompute_event(cache: KeyValueCache, long_factors: bool) -> str:
    if cache.long_factors != long_factors:
        kind, limit = ("long" if long_factors else "short"), cache.config.original_max_position_embeddings
        return (
            f"cache: computed {cache.tokens} tokens again with LongRoPE's {kind} factors; "
            f"the longest sequence crossed {limit} tokens"
        )
    return f"cache: computed {cache.tokens} tokens again after an interrupted call or a rollback"


def _for_kernel(layer: nn.Module) -> native.LayerWeights:
    """The layer's weights for `native.Decoder`."""
    if not isinstance(layer, Block):
        raise InputError(f"The model cannot be compiled: a layer is a {type(layer).__name__}, not a Block.")
    attention, mlp = layer.attention, layer.mlp
    linears = (attention.qkv_proj, attention.o_proj, mlp.gate_up_proj, mlp.down_proj)
    matrices: list[native.Matrix] = [
        matrix for linear in linears if (matrix := getattr(linear, "native_matrix", None)) is not None
    ]
    if len(matrices) < len(linears):
        problem = native.problem() or "a matrix of its layers is not in 4 or 8 bits for the native kernel."
        raise InputError(
            f"The model cannot be compiled: {problem} Quantize it with tinyphi.quant.quantize(model, …)."
        )
    qkv, out, gate_up, down = matrices
    norms = (layer.attention_norm.weight.detach(), layer.mlp_norm.weight.detach())
    return native.LayerWeights(norms[0], qkv, out, norms[1], gate_up, down)


def _initialise(module: nn.Module) -> None:
    """Phi-3's start of training: normal weights with standard deviation 0.02, norms at one."""
    if isinstance(module, (nn.Linear, nn.Embedding)):
        nn.init.normal_(module.weight, std=0.02)
