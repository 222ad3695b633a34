"""Phi3: token ids in, logits out. One class for the whole family, for training, prefill and decoding."""

from collections.abc import Callable, Sequence
from functools import cache as memoized
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from tinyphi.config import PhiConfig
from tinyphi.errors import InputError
from tinyphi.kernels import native
from tinyphi.model.attention import Attention
from tinyphi.model.blocksparse import block_sparse_mask, documents
from tinyphi.model.cache import KeyValueCache
from tinyphi.model.linear import Linear
from tinyphi.model.mask import Sight, first_seen, is_one_document, positions_within, visible
from tinyphi.model.mlp import MLP
from tinyphi.model.norm import make_norm
from tinyphi.model.rope import Rotation, rotation, uses_long_factors
from tinyphi.model.trace import NO_TRACE, Trace

_PIECE = 512  # tokens of each row: so many at once go into a cache, and through attention with a mask
_MOST_AT_ONCE = 512  # tokens for the compiled layers; beyond them torch's attention is the faster one


class Block(nn.Module):
    """One layer: attention moves information between tokens, the MLP works on each token alone.

    Each reads a normalised copy of the residual stream and adds its result back.
    """

    def __init__(self, config: PhiConfig, layer: int) -> None:
        super().__init__()
        self.attention_norm = make_norm(config)
        self.attention = Attention(config, layer)
        self.mlp_norm = make_norm(config)
        self.mlp = MLP(config)

    def forward(
        self,
        x: Tensor,
        cos: Tensor,
        sin: Tensor,
        sights: Sequence[Sight],
        cache: KeyValueCache | None,
        trace: Trace,
    ) -> Tensor:
        """x (b t d), cos and sin (b t r), who sees whom → (b t d)."""
        normed = self.attention_norm(x)
        trace.record("attention_norm", normed, "b t d")
        x = x + self.attention(normed, cos, sin, sights, cache, trace.at("attention"))
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
        self.norm = make_norm(config)
        self.lm_head = Linear(config.hidden_size, config.vocab_size)
        if config.tie_word_embeddings:
            self.lm_head.weight = self.embed_tokens.weight
        self.rotation: Rotation | None = None  # to try out another rule than tinyphi.model.rope's
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
        last: int | None = None,
    ) -> Tensor:
        """The residual stream after the last layer, normalised: (b t) → (b t d). Arguments: see `forward`.

        last: return only so many tokens at the end, (b last d), which is all that reading a prompt needs.
        """
        trace = NO_TRACE if trace is None else trace
        segments = self._check(ids, segments, cache)
        if last is not None and last < 1:
            raise InputError(f"last is {last}; it must be at least 1, or None for all tokens.")
        new = ids.shape[1]
        place = _place(self.config, ids, segments, cache)
        if cache is not None:
            again = cache.is_stale(place.long_factors)
            if again:
                trace.note(_recompute_event(cache, place.long_factors))
                ids = torch.cat((cache.ids, ids), dim=1)
                segments = torch.cat((cache.segments, segments), dim=1)
                place = _place(self.config, ids, segments, None)
            cache.begin(ids.shape[1], again)
        x = self._read(ids, place, cache, trace, new if last is None else min(last, new))
        if cache is not None:
            cache.commit(ids, segments, place.long_factors)
        normed: Tensor = self.norm(x)
        trace.record("norm", normed, "b t d")
        return normed

    def logits(self, hidden: Tensor, trace: Trace | None = None) -> Tensor:
        """Score every token of the vocabulary: (b t d) → (b t v) float32."""
        config = self.config
        logits: Tensor = self.lm_head(hidden).float()
        if config.mup_width_multiplier != 1:
            logits = logits / config.mup_width_multiplier
        if config.dummy_token_indices:
            dummies = torch.tensor(config.dummy_token_indices, device=logits.device)
            logits = logits.index_fill(-1, dummies, torch.finfo(logits.dtype).min)
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
        cache = KeyValueCache(self.config, batch, max_tokens, weight.dtype, weight.device, bits)
        cache.rotation = self.rotation
        return cache

    def compile(self) -> None:  # torch's own would compile with inductor
        """From now on, let one C call take the tokens of a single text through all layers.

        It computes what the layers compute, in float32. They keep all other work: several rows or documents,
        long prompts, a trace, gradients, no cache. Compile again after a layer or a norm was changed, or the
        model was moved.
        Raises InputError unless all matrices of the layers are quantized for the native kernel, which
        `tinyphi.quant.quantize` does, and for Phi-3-small, whose layers the kernel does not know.
        """
        if self.config.model_type == "phi3small":
            raise InputError(
                "The model cannot be compiled: the kernel knows no LayerNorm, GEGLU, biases or block-sparse "
                "attention. Use it as it is."
            )
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

    def _read(
        self, ids: Tensor, place: "_Place", cache: KeyValueCache | None, trace: Trace, last: int
    ) -> Tensor:
        """All tokens through all layers; the residual stream of the `last` ones, (b last d).

        A long text goes into a cache in pieces, each of which sees the earlier ones there: what a pass needs
        besides the cache then grows with the piece and not with the text.
        """
        tokens, kept = ids.shape[1], []
        for piece in _cut(slice(0, tokens), tokens if cache is None or trace else _PIECE):
            x = self._layers(ids, piece, place, cache, trace)
            if cache is not None:
                cache.advance(x.shape[1])
            if piece.stop > tokens - last:
                kept.append(x[:, max(0, tokens - last - piece.start) :])
        return torch.cat(kept, dim=1)

    def _layers(
        self, ids: Tensor, piece: slice, place: "_Place", cache: KeyValueCache | None, trace: Trace
    ) -> Tensor:
        """One piece of the tokens through all layers: ids (b t) → (b piece d)."""
        x: Tensor = self.embed_tokens(ids[:, piece])
        if self.config.mup_embedding_multiplier != 1:
            x = x * self.config.mup_embedding_multiplier
        positions, stored = place.positions[:, piece], 0 if cache is None else cache.visible_before()
        cos, sin = (self.rotation or rotation)(self.config, positions, place.longest, x.dtype)
        sights = _sights(self.config.sliding_window, place, piece, stored, whole=bool(trace))
        if trace:
            trace.record("embedding", x, "b t d")
            trace.record("rope.cos", cos, "b t r")
            trace.record("rope.sin", sin, "b t r")
            assert sights[0].mask is not None
            trace.record("mask", sights[0].mask(), "b t s")
        if self._decoder is not None and cache is not None and trace is NO_TRACE and place.one_document:
            few = ids.shape[1] <= _MOST_AT_ONCE and not torch.is_grad_enabled()
            slot = cache.in_place(ids.shape[1]) if few else None
            if slot is not None:
                return self._decoder.step(x, cos, sin, *slot)
        rule = self.config.block_sparse
        sparse = [] if rule is None else _sparse_sights(self.config, place, piece, stored, whole=bool(trace))
        for number, layer in enumerate(self.layers):
            seen = sparse if rule is not None and rule.rules(number) else sights
            x = layer(x, cos, sin, seen, cache, trace.at(f"layers.{number}"))
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
        if cache is not None and cache.rotation != self.rotation:
            raise InputError(
                "The model's rotation was changed after this cache was made, and its keys are turned by the "
                "old one. Make a new cache with model.new_cache()."
            )
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
    all_segments: Tensor  # (b s) of these tokens and of all before them
    all_positions: Tensor  # (b s)


def _place(config: PhiConfig, ids: Tensor, segments: Tensor, cache: KeyValueCache | None) -> _Place:
    """The place of new tokens that follow those of the cache."""
    everything = segments if cache is None else torch.cat((cache.segments, segments), dim=1)
    one_document = is_one_document(everything)
    if one_document:
        positions = torch.arange(everything.shape[1], device=ids.device).expand(ids.shape[0], -1)
    else:
        positions = positions_within(everything)
    longest, new = int(positions.max()) + 1, positions[:, -ids.shape[1] :]
    long_factors = uses_long_factors(config, longest)
    return _Place(new, longest, one_document, long_factors, everything, positions)


def _sights(window: int | None, place: _Place, piece: slice, stored: int, whole: bool) -> list[Sight]:
    """What the tokens of a piece see of themselves and of the `stored` tokens before them.

    Masks are for so few tokens that they stay small, and made again in each layer unless there is only one.
    whole: one mask for all, in any case.
    """
    new = piece.stop - piece.start
    # A single new token sees all that the cache still shows; several see all only if nothing is hidden.
    plain = new == 1 or (stored == 0 and (window is None or new <= window))
    if place.one_document and plain and not whole:
        return [Sight(slice(None), slice(None), None)]
    segments, positions = place.all_segments, place.all_positions
    start = segments.shape[1] - place.positions.shape[1] + piece.start  # the column of the first token
    sights = []
    for part in _cut(slice(start, start + new), new if whole else _PIECE):
        first = 0 if whole else first_seen(segments, positions, part.start, window)
        keys = slice(max(first, start - stored), part.stop)
        makes = partial(
            visible, segments[:, part], positions[:, part], segments[:, keys], positions[:, keys], window
        )
        sights.append(Sight(_shifted(part, start), _shifted(keys, start - stored), makes))
    return [sights[0]._replace(mask=memoized(makes))] if len(sights) == 1 else sights


def _sparse_sights(config: PhiConfig, place: _Place, piece: slice, stored: int, whole: bool) -> list[Sight]:
    """The same for block-sparse layers, whose rule differs by head: each document, or one mask for all."""
    if place.one_document and not whole:
        return [Sight(slice(None), slice(None), None)]
    segments, positions = place.all_segments, place.all_positions
    stop = segments.shape[1] - place.positions.shape[1] + piece.stop
    keys = slice(stop - (piece.stop - piece.start) - stored, stop)
    tokens = slice(keys.start + stored, stop)
    if not whole:
        return documents(segments[:, tokens], segments[:, keys])
    assert config.block_sparse is not None
    sides = positions[:, tokens], positions[:, keys]
    mask = visible(segments[:, tokens], sides[0], segments[:, keys], sides[1], None)[:, None]
    mask = mask & block_sparse_mask(config.block_sparse, config.num_attention_heads, *sides)
    return [Sight(slice(None), slice(None), lambda: mask)]


def _cut(whole: slice, size: int) -> list[slice]:
    """Pieces of that size. The first one is the shorter, so that what was read last can be rolled back."""
    stops = range(whole.stop, whole.start, -size)
    return [slice(max(whole.start, stop - size), stop) for stop in reversed(stops)]


def _shifted(part: slice, by: int) -> slice:
    return slice(part.start - by, part.stop - by)


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
    """Phi-3's start of training: normal weights with standard deviation 0.02, norms at one, biases at 0."""
    if isinstance(module, (nn.Linear, nn.Embedding)):
        nn.init.normal_(module.weight, std=0.02)
    if isinstance(module, nn.Linear) and module.bias is not None:
        nn.init.zeros_(module.bias)
