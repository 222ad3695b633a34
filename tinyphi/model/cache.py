"""The key/value cache: what decoding remembers, so that each new token costs one token's work.

In long texts it outgrows the weights. Two remedies are here: dropping the tokens beyond a sliding window, and
8-bit numbers.
"""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from tinyphi.config import PhiConfig
from tinyphi.errors import InputError, MemoryShortage
from tinyphi.model.rope import Rotation

_SMALLEST = 64  # tokens that a growing cache first makes room for
_SLACK = 256  # tokens beyond the window, so that old ones are dropped in batches


@dataclass(frozen=True)
class CacheSnapshot:
    """How full a cache was at a moment, in tokens of each row. `show.cache_filling` draws a list of them."""

    tokens: int  # seen so far
    stored: int  # whose keys and values are still there: the last ones seen
    room: int  # that fit before the tensors must grow or old tokens be dropped
    bytes: int  # of keys and values, all layers and rows, spare room included
    window: int | None  # tokens that one token sees, itself included; None: all
    long_factors: bool  # whether the keys were turned with LongRoPE's long factors


class Slot(NamedTuple):
    """Keys and values of all layers (l b n room c), or their 8-bit codes and scales (l b n room 1)."""

    keys: tuple[Tensor, ...]
    values: tuple[Tensor, ...]
    stored: int  # tokens; new ones come behind them


class KeyValueCache:
    """Keys and values of the tokens seen so far, for each layer: two (b n room c) tensors.

    bits: None keeps them in the model's dtype. 8 rounds the key and the value of each token and head to 255
    levels with a scale of its own: c + 4 bytes instead of 4c in float32 or 2c in bfloat16. Attention reads
    the rounded numbers from the first pass on, so it does not matter how a text is cut into calls.
    With `max_tokens` the room is allocated at once and more is an error; without, it doubles when needed.
    In a model with a sliding window only the tokens that can still be seen are kept, so a long text takes
    no more room than the window. The ids and segments of all tokens stay known: they are what is needed
    when the keys must be computed again (LongRoPE changing its factors, or a call that was interrupted).

    Source: `DynamicCache` in transformers. For 2 bits, KIVI (arXiv 2402.02750, sec. 3) gives keys a scale per
    channel; for 8 a scale per token, which never changes when others come, is close enough.
    """

    def __init__(
        self,
        config: PhiConfig,
        batch: int,
        max_tokens: int | None,
        dtype: torch.dtype,
        device: torch.device,
        bits: int | None = None,
    ) -> None:
        for name, value in (("batch", batch), ("max_tokens", max_tokens)):
            if value is not None and (not isinstance(value, int) or value < 1):
                raise InputError(f"A cache's {name} is {value!r}; it must be a whole number of at least 1.")
        if bits not in (None, 8):
            raise InputError(f"A cache's bits are {bits!r}; they may be 8, or None for the model's dtype.")
        self.config = config
        self.max_tokens = max_tokens
        self.bits = bits
        self.ids = torch.empty(batch, 0, dtype=torch.int64, device=device)
        self.segments = torch.empty(batch, 0, dtype=torch.int64, device=device)
        self.long_factors = False  # which LongRoPE factors the keys were turned with
        self.rotation: Rotation | None = None  # the rule that turns them; None: tinyphi.model.rope's
        self._stored = 0  # tokens in the tensors, at their front
        self._before = 0  # tokens that the running forward pass builds on
        self._half_written = False
        heads = (config.num_hidden_layers, batch, config.num_key_value_heads, 0, config.head_dim)
        self._keys = self._values = self._packed(torch.empty(heads, dtype=dtype, device=device))
        self._make_room(min(max_tokens or _SMALLEST, self._most))

    @property
    def batch(self) -> int:
        return self.ids.shape[0]

    @property
    def tokens(self) -> int:
        """Tokens seen so far in each row, padding included."""
        return self.ids.shape[1]

    @property
    def bytes(self) -> int:
        """Bytes that the keys and values occupy, spare room included."""
        return sum(store.nbytes for store in (*self._keys, *self._values))

    @property
    def _most(self) -> int:
        """The room that is never exceeded."""
        window = self.config.sliding_window
        limits = [self.max_tokens, None if window is None else window + _SLACK]
        return min((limit for limit in limits if limit is not None), default=2**62)

    def snapshot(self) -> CacheSnapshot:
        """Numbers that stay as they are when the cache goes on."""
        window = self.config.sliding_window
        return CacheSnapshot(self.tokens, self._stored, self._room, self.bytes, window, self.long_factors)

    def visible_before(self) -> int:
        """How many of the stored tokens the next token may still see."""
        window = self.config.sliding_window
        return self._stored if window is None else min(self._stored, window - 1)

    def is_stale(self, long_factors: bool) -> bool:
        """Whether what is stored cannot be continued: turned with other factors, or incomplete."""
        return self._half_written or (self.tokens > 0 and self.long_factors != long_factors)

    def rollback(self, tokens: int) -> None:
        """Forget the last `tokens` tokens of each row, as if they had never been seen.

        That costs nothing, except in a model with a sliding window: where tokens were dropped that are
        visible again now, the next pass computes all keys anew. Up to 256 tokens of the last pass, but not
        its first, can always be taken back without that.
        """
        if not isinstance(tokens, int) or not 0 <= tokens <= self.tokens:
            raise InputError(f"The cache cannot forget {tokens!r} tokens: it holds {self.tokens}.")
        left = self.tokens - tokens
        window = self.config.sliding_window
        self.ids, self.segments = self.ids[:, :left], self.segments[:, :left]
        self._stored = max(0, self._stored - tokens)
        self._half_written |= self._stored < (left if window is None else min(left, window - 1))

    def begin(self, tokens: int, again: bool = False) -> None:
        """Prepare for a forward pass over `tokens` tokens in each row, which follow those stored.

        again: they start with those stored, whose keys and values are computed again. Their ids stay known
        until the pass ends, so that this pass may be interrupted as well.
        """
        before = 0 if again else self.tokens
        if self.max_tokens is not None and before + tokens > self.max_tokens:
            new = before + tokens - self.tokens
            raise InputError(
                f"The cache holds {self.tokens} tokens and was made for {self.max_tokens}; {new} more do "
                "not fit. Make a larger one with model.new_cache(batch, max_tokens=…); without max_tokens "
                "it grows."
            )
        self._half_written = True
        self._before, self._stored = before, 0 if again else self._stored
        if self._room < min(self._stored + tokens, self._most):
            self._make_room(min(max(self._stored + tokens, 2 * self._room), self._most))

    def update(self, layer: int, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Store one layer's new keys and values, (b n t c); return all that these tokens may see, (b n s c).

        What comes back carries no gradient: a cache is for inference.
        """
        return (
            self._append(self._keys, layer, keys.detach()),
            self._append(self._values, layer, values.detach()),
        )

    def in_place(self, tokens: int) -> "Slot | None":
        """Where a kernel may write new tokens of a single row by itself.

        None if old ones must move first, or if the cache is in half or double precision.
        """
        known = self._keys[0].dtype in (torch.float32, torch.bfloat16, torch.int8)
        if not known or self.batch > 1 or self._stored + tokens > self._room:
            return None
        return Slot(self._keys, self._values, self._stored)

    def advance(self, new: int) -> None:
        """Every layer has stored `new` tokens; what comes next in this pass follows them."""
        fits = self._stored + new <= self._room
        self._stored = self._stored + new if fits else min(self.visible_before() + new, self._kept(new))

    def commit(self, ids: Tensor, segments: Tensor, long_factors: bool) -> None:
        """End the forward pass that `begin` began: these are its tokens, all stored."""
        self.ids, self.segments = (
            torch.cat((old[:, : self._before], newer), dim=1)
            for old, newer in ((self.ids, ids), (self.segments, segments))
        )
        self.long_factors = long_factors
        self._half_written = False

    @property
    def _room(self) -> int:
        return self._keys[0].shape[3]

    def _kept(self, new: int) -> int:
        """Tokens that stay when the room is full: what the next one may see, were all but one of `new` taken
        back. Only windows fill up.
        """
        assert self.config.sliding_window is not None
        return min(self.config.sliding_window - 1 + new - 1, self._room)

    def _packed(self, x: Tensor) -> tuple[Tensor, ...]:
        """What is stored for keys or values (… c): themselves, or codes (… c) and scales (… 1)."""
        return (x,) if self.bits is None else to_int8(x)

    def _append(self, stores: tuple[Tensor, ...], layer: int, new: Tensor) -> Tensor:
        parts = zip(stores, self._packed(new), strict=True)
        visible = [self._joined(store[layer], part) for store, part in parts]
        return visible[0] if self.bits is None else from_int8(visible[0], visible[1], new.dtype)

    def _joined(self, store: Tensor, new: Tensor) -> Tensor:
        """Write (b n t ·) behind what one layer's store holds; return all that is visible, (b n s ·)."""
        start, end = self._stored - self.visible_before(), self._stored + new.shape[2]
        if end <= self._room:
            store[:, :, self._stored : end] = new
            return store[:, :, start:end]
        joined = torch.cat((store[:, :, start : self._stored], new), dim=2)
        kept = joined[:, :, max(0, joined.shape[2] - self._kept(new.shape[2])) :]
        store[:, :, : kept.shape[2]] = kept
        return joined

    def _make_room(self, room: int) -> None:
        try:
            self._keys, self._values = (self._enlarged(stores, room) for stores in (self._keys, self._values))
        except RuntimeError as error:  # torch's out-of-memory errors are RuntimeErrors
            raise MemoryShortage(
                f"There is not enough memory for a cache of {room} tokens; make a smaller one with "
                "model.new_cache(batch, max_tokens=…) or bits=8, or load the model in bfloat16."
            ) from error

    def _enlarged(self, stores: tuple[Tensor, ...], room: int) -> tuple[Tensor, ...]:
        with torch.inference_mode(False):  # so that the cache may be used in and outside of that mode
            grown = tuple(old.new_empty((*old.shape[:3], room, old.shape[4])) for old in stores)
        for new, old in zip(grown, stores, strict=True):
            new[:, :, :, : self._stored] = old[:, :, :, : self._stored]
        return grown


def to_int8(x: Tensor) -> tuple[Tensor, Tensor]:
    """Round to multiples of a scale, the largest being ±127: (… c) → int8 (… c), float32 scales (… 1)."""
    wide = x.float()
    scales = (wide.abs().amax(dim=-1, keepdim=True) / 127).clamp(min=torch.finfo(torch.float32).tiny)
    return (wide / scales).round().to(torch.int8), scales


def from_int8(codes: Tensor, scales: Tensor, dtype: torch.dtype) -> Tensor:
    """The numbers that `to_int8` rounded, each off by half a scale at most: (… c), (… 1) → (… c)."""
    return (codes * scales).to(dtype)
