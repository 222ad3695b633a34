"""PhiConfig: every number that decides the shape and the arithmetic of a model.

One frozen dataclass describes the whole family, because its members differ only in numbers. The field names
are those of Hugging Face's `config.json`, so that a published file can be read beside this one. Phi-3-small
goes its own way in several parts; each has a field here, whose default is what all the others do.
"""

import math
import sys
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, NamedTuple

import torch

from tinyphi import longrope_factors
from tinyphi.errors import ConfigError

_LARGEST_COUNT = 2**31  # far above any model; it keeps the arithmetic on counts within floats


class Memory(NamedTuple):
    """Bytes that a model needs: its weights, and the keys and values of the tokens it remembers."""

    weights: int
    cache: int

    @property
    def total(self) -> int:
        return self.weights + self.cache


@dataclass(frozen=True)
class BlockSparse:
    """Attention that reads only some blocks of keys: those nearby, and every so many-th of the others.

    Source: Phi-3 technical report (arXiv 2404.14219), fig. 1; `blocksparse_*` in Phi-3-small's config.json.
    """

    block_size: int = 64  # tokens; queries and keys are cut into blocks of as many
    num_local_blocks: int = 16  # the nearest blocks, its own included, that a block of queries reads
    vert_stride: int = 8  # of the blocks further back, it reads every so many-th
    dense_attention_every_n_layers: int = 2  # the last of so many layers reads everything

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if not _is_whole(value) or not 1 <= value <= _LARGEST_COUNT:
                raise ConfigError(f"The block-sparse {name} is {value!r}; it must be a whole number above 0.")

    def rules(self, layer: int) -> bool:
        """Whether this layer, counted from 0, is sparse."""
        return (layer + 1) % self.dense_attention_every_n_layers != 0


@dataclass(frozen=True)
class PhiConfig:
    """The hyperparameters of one model. Made wrong, it raises `ConfigError` at once.

    Source: `Phi3Config` of Hugging Face transformers and the published config.json files.
    """

    vocab_size: int  # rows of the embedding and of the head (v); may exceed the tokenizer's tokens
    hidden_size: int  # width of the residual stream (d)
    intermediate_size: int  # width of the MLP (f)
    num_hidden_layers: int  # blocks
    num_attention_heads: int  # query heads (h)
    num_key_value_heads: int  # key/value heads (n); fewer than h is grouped-query attention
    max_position_embeddings: int  # the longest context the model is meant for, in tokens
    original_max_position_embeddings: int = 4096  # context before LongRoPE; beyond it the long factors rule
    rms_norm_eps: float = 1e-5  # added to the mean square before the root, against division by zero
    rope_theta: float = 10000.0  # base of RoPE's geometric row of frequencies
    partial_rotary_factor: float = 1.0  # share of each head's channels that is rotated
    short_factor: tuple[float, ...] | None = None  # LongRoPE: divides each frequency in short calls
    long_factor: tuple[float, ...] | None = None  # LongRoPE: divides each frequency in long calls
    short_mscale: float | None = None  # attention factor of short calls, where a checkpoint states it
    long_mscale: float | None = None  # and of long calls; None: the formula. transformers ignores both
    sliding_window: int | None = None  # a token sees this many tokens, itself included; None sees all
    tie_word_embeddings: bool = False  # the head reuses the embedding's weight
    bos_token_id: int | None = 1  # begins a text
    eos_token_id: int | None = 32000  # ends a text
    pad_token_id: int | None = 32000  # fills up short rows of a batch
    # What only Phi-3-small does
    layer_norm_epsilon: float | None = None  # LayerNorm with this epsilon and a bias; None: RMSNorm
    linear_bias: bool = False  # the layers' linears add a bias
    gegelu_limit: float | None = None  # the MLP is a GEGLU, its inputs clamped to this; None: SwiGLU
    block_sparse: BlockSparse | None = None  # None: all layers read all keys
    mup_embedding_multiplier: float = 1.0  # μP: the embeddings are multiplied by this,
    mup_width_multiplier: float = 1.0  # the logits divided by this,
    mup_attn_multiplier: float | None = None  # and the scores are q·k times this / c; None: q·k / √c
    dummy_token_indices: tuple[int, ...] = ()  # rows of the embedding without a token; never predicted

    def __post_init__(self) -> None:
        self._check_counts()
        self._check_rotation()
        self._check_small()

    def _check_counts(self) -> None:
        for name in (
            "vocab_size",
            "hidden_size",
            "intermediate_size",
            "num_hidden_layers",
            "num_attention_heads",
            "num_key_value_heads",
            "max_position_embeddings",
            "original_max_position_embeddings",
        ):
            value = getattr(self, name)
            if not _is_whole(value) or not 1 <= value <= _LARGEST_COUNT:
                raise ConfigError(
                    f"{name} is {value!r}; it must be a whole number from 1 to {_LARGEST_COUNT}."
                )
        if self.hidden_size % self.num_attention_heads:
            raise ConfigError(
                f"hidden_size {self.hidden_size} cannot be cut into {self.num_attention_heads} equal heads; "
                "choose a num_attention_heads that divides it."
            )
        if self.num_attention_heads % self.num_key_value_heads:
            raise ConfigError(
                f"{self.num_attention_heads} query heads cannot share {self.num_key_value_heads} key/value "
                "heads evenly; choose a num_key_value_heads that divides num_attention_heads."
            )
        window = self.sliding_window
        if window is not None and not (_is_whole(window) and 1 <= window <= _LARGEST_COUNT):
            raise ConfigError(f"sliding_window is {window!r}; it must be None or at least 1.")
        if not isinstance(self.tie_word_embeddings, bool):
            raise ConfigError(
                f"tie_word_embeddings is {self.tie_word_embeddings!r}; it must be true or false."
            )
        for name in ("bos_token_id", "eos_token_id", "pad_token_id"):
            token = getattr(self, name)
            if token is not None and not (_is_whole(token) and 0 <= token < self.vocab_size):
                raise ConfigError(
                    f"{name} is {token!r}; it must be None or an id below vocab_size {self.vocab_size}."
                )

    def _check_rotation(self) -> None:
        for name in ("rms_norm_eps", "rope_theta", "partial_rotary_factor"):
            value = getattr(self, name)
            if not _is_positive(value):
                raise ConfigError(f"{name} is {value!r}; it must be a positive number.")
        if self.partial_rotary_factor > 1:
            raise ConfigError(f"partial_rotary_factor is {self.partial_rotary_factor}; it must be at most 1.")
        if self.rotary_dim < 2 or self.rotary_dim % 2:
            raise ConfigError(
                f"partial_rotary_factor {self.partial_rotary_factor} rotates {self.rotary_dim} of "
                f"{self.head_dim} channels; RoPE turns pairs, so this must be even, from 2 to head_dim."
            )
        if (self.short_factor is None) != (self.long_factor is None):
            raise ConfigError("LongRoPE needs both short_factor and long_factor, or neither.")
        for name in ("short_factor", "long_factor"):
            factors = getattr(self, name)
            if factors is None:
                continue
            if not isinstance(factors, tuple) or not all(_is_positive(factor) for factor in factors):
                raise ConfigError(f"{name} must be a tuple of positive numbers.")
            if len(factors) != self.rotary_dim // 2:
                raise ConfigError(
                    f"{name} has {len(factors)} entries; with {self.rotary_dim} rotated channels it needs "
                    f"{self.rotary_dim // 2}, one for each pair."
                )
        for name in ("short_mscale", "long_mscale"):
            value = getattr(self, name)
            if value is not None and not (_is_positive(value) and self.long_factor is not None):
                raise ConfigError(f"{name} is {value!r}; None or, with LongRoPE, a positive number.")
        if self.long_factor is not None and self.original_max_position_embeddings < 2:
            raise ConfigError("LongRoPE needs an original_max_position_embeddings of at least 2.")

    def _check_small(self) -> None:
        for name in ("layer_norm_epsilon", "gegelu_limit", "mup_attn_multiplier"):
            value = getattr(self, name)
            if value is not None and not _is_positive(value):
                raise ConfigError(f"{name} is {value!r}; it must be None or a positive number.")
        for name in ("mup_embedding_multiplier", "mup_width_multiplier"):
            if not _is_positive(getattr(self, name)):
                raise ConfigError(f"{name} is {getattr(self, name)!r}; it must be a positive number.")
        if not isinstance(self.linear_bias, bool):
            raise ConfigError(f"linear_bias is {self.linear_bias!r}; it must be true or false.")
        if not isinstance(self.block_sparse, BlockSparse | None):
            raise ConfigError(f"block_sparse is {self.block_sparse!r}; it must be None or a BlockSparse.")
        if self.block_sparse is not None and self.sliding_window is not None:
            raise ConfigError("Attention is either block-sparse or has a sliding window; set one to None.")
        dummies = self.dummy_token_indices
        if not isinstance(dummies, tuple) or not all(
            _is_whole(token) and 0 <= token < self.vocab_size for token in dummies
        ):
            raise ConfigError(f"dummy_token_indices must be a tuple of ids below {self.vocab_size}.")

    @property
    def model_type(self) -> str:
        """Hugging Face's name for the architecture: "phi3small" for all that has parts of it, else "phi3"."""
        changed = any(getattr(self, name) != default for name, default in _SMALL_DEFAULTS.items())
        return "phi3small" if changed else "phi3"

    @property
    def head_dim(self) -> int:
        """Channels per head (c)."""
        return self.hidden_size // self.num_attention_heads

    @property
    def rotary_dim(self) -> int:
        """Channels of each head that RoPE rotates; the rest carry no position."""
        return int(self.head_dim * self.partial_rotary_factor)

    @property
    def query_scale(self) -> float:
        """What queries are multiplied by, before attention divides all scores by √c. μP divides by c instead.

        Source: Yang et al. 2022 (arXiv 2203.03466), sec. 4, definition 4.1.
        """
        return 1.0 if self.mup_attn_multiplier is None else self.mup_attn_multiplier * self.head_dim**-0.5

    @property
    def attention_factor(self) -> float:
        """LongRoPE's stretch of cos and sin, sqrt(1 + ln(s) / ln(L)) for an L-token model extended s times.

        It grows with the extension to keep attention sharp among more tokens, and it is on for short
        inputs too. Source: LongRoPE (arXiv 2402.13753); `_compute_longrope_parameters` in transformers.
        """
        scale = self.max_position_embeddings / self.original_max_position_embeddings
        if self.long_factor is None or scale <= 1:
            return 1.0
        return math.sqrt(1 + math.log(scale) / math.log(self.original_max_position_embeddings))

    def attention_factor_of(self, long_factors: bool) -> float:
        """The stretch of cos and sin in calls that use the long factors, or in those that use the short ones.

        It is `attention_factor`, unless the checkpoint states another: Phi-3-small-128k and Phi-3.5-MoE do.
        vLLM and ONNX Runtime read these; transformers ignores them and keeps to the formula.
        """
        stated = self.long_mscale if long_factors else self.short_mscale
        return self.attention_factor if stated is None else stated

    def parameter_count(self) -> int:
        """Trainable numbers in the model; a tied head counts once."""
        d, c = self.hidden_size, self.head_dim
        qkv = (self.num_attention_heads + 2 * self.num_key_value_heads) * c * d
        attention = qkv + d * d
        mlp = 3 * d * self.intermediate_size  # gate, up and down
        norm = d if self.layer_norm_epsilon is None else 2 * d  # LayerNorm has a bias
        biases = qkv // d + d + 2 * self.intermediate_size + d if self.linear_bias else 0
        layer = attention + mlp + biases + 2 * norm
        embeddings = self.vocab_size * d * (1 if self.tie_word_embeddings else 2)
        return embeddings + self.num_hidden_layers * layer + norm

    def memory(self, dtype: torch.dtype = torch.bfloat16, tokens: int = 0) -> Memory:
        """Bytes of the weights, and of the keys and values of `tokens` cached tokens, both in `dtype`."""
        per_token = 2 * self.num_hidden_layers * self.num_key_value_heads * self.head_dim
        return Memory(self.parameter_count() * dtype.itemsize, tokens * per_token * dtype.itemsize)

    @classmethod
    def preset(cls, name: str) -> "PhiConfig":
        """The published configuration of that name, for example "phi-3-mini-4k"."""
        if name not in PRESETS:
            raise ConfigError(f"There is no preset {name!r}. The presets are: {', '.join(PRESETS)}.")
        return PRESETS[name]

    @classmethod
    def from_hugging_face(cls, keys: Mapping[str, Any]) -> "PhiConfig":
        """Read the content of a `config.json` of model type `phi3`, `phi3small` or `llama`.

        Both spellings of the rotation are understood, `rope_scaling` (transformers 4) and `rope_parameters`
        (transformers 5), and LongRoPE's first name `su`. A key that is unknown, or that asks for something
        the architecture does not do, raises `ConfigError`.
        """
        _refuse_other_architectures(keys)
        small = keys["model_type"] == "phi3small"
        keys = {_SMALL_NAMES.get(key, key): value for key, value in keys.items()} if small else keys
        rope = _read_rope(keys)
        heads = _required(keys, "num_attention_heads")
        config = cls(
            vocab_size=_required(keys, "vocab_size"),
            hidden_size=_required(keys, "hidden_size"),
            intermediate_size=_required(keys, "intermediate_size"),
            num_hidden_layers=_required(keys, "num_hidden_layers"),
            num_attention_heads=heads,
            num_key_value_heads=_first(keys.get("num_key_value_heads"), heads),
            max_position_embeddings=_required(keys, "max_position_embeddings"),
            original_max_position_embeddings=_read_original_context(keys, rope),
            rms_norm_eps=keys.get("rms_norm_eps", 1e-6 if keys["model_type"] == "llama" else 1e-5),
            rope_theta=_first(rope.get("rope_theta"), keys.get("rope_theta"), 10000.0),
            partial_rotary_factor=_first(
                rope.get("partial_rotary_factor"), keys.get("partial_rotary_factor"), 1.0
            ),
            short_factor=_read_factors(rope, "short_factor"),
            long_factor=_read_factors(rope, "long_factor"),
            short_mscale=rope.get("short_mscale"),
            long_mscale=rope.get("long_mscale"),
            sliding_window=keys.get("sliding_window"),
            tie_word_embeddings=_first(keys.get("tie_word_embeddings"), small),
            bos_token_id=keys.get("bos_token_id"),
            eos_token_id=_first_id(keys.get("eos_token_id")),
            pad_token_id=keys.get("pad_token_id"),
            **(_read_small(keys) if small else {}),
        )
        _check_stated_scale(rope, config)
        stated_head_dim = _first(keys.get("head_dim"), config.head_dim)
        if stated_head_dim != config.head_dim:
            raise ConfigError(
                f"config.json states head_dim {stated_head_dim}, but hidden_size / num_attention_heads is "
                f"{config.head_dim}; tinyphi has only models in which the two are equal."
            )
        return config

    def to_hugging_face(self) -> dict[str, Any]:
        """The content of a `config.json` that transformers opens as `Phi3ForCausalLM`.

        For Phi-3-small it is what the published code of that model reads. Raises ConfigError for a mixture of
        the two architectures, which no file describes.
        """
        rope_scaling = None
        if self.short_factor is not None and self.long_factor is not None:
            rope_scaling = {
                "type": "longrope",
                "short_factor": list(self.short_factor),
                "long_factor": list(self.long_factor),
            }
            for name in ("short_mscale", "long_mscale"):
                if getattr(self, name) is not None:
                    rope_scaling[name] = getattr(self, name)
        if self.model_type == "phi3small":
            return _write_small(self, rope_scaling)
        return {
            "architectures": ["Phi3ForCausalLM"],
            "model_type": "phi3",
            "vocab_size": self.vocab_size,
            "hidden_size": self.hidden_size,
            "intermediate_size": self.intermediate_size,
            "num_hidden_layers": self.num_hidden_layers,
            "num_attention_heads": self.num_attention_heads,
            "num_key_value_heads": self.num_key_value_heads,
            "max_position_embeddings": self.max_position_embeddings,
            "original_max_position_embeddings": self.original_max_position_embeddings,
            "rms_norm_eps": self.rms_norm_eps,
            "rope_theta": self.rope_theta,
            "partial_rotary_factor": self.partial_rotary_factor,
            "rope_scaling": rope_scaling,
            "sliding_window": self.sliding_window,
            "tie_word_embeddings": self.tie_word_embeddings,
            "bos_token_id": self.bos_token_id,
            "eos_token_id": self.eos_token_id,
            "pad_token_id": self.pad_token_id,
            "hidden_act": "silu",
            "attention_bias": False,
        }


# Keys that say nothing about the arithmetic of a forward pass: provenance, training, and defaults that
# transformers writes into every config.json.
_SILENT_KEYS = frozenset(
    """_name_or_path architectures auto_map transformers_version torch_dtype dtype use_cache initializer_range
    id2label label2id problem_type return_dict output_hidden_states output_attentions chunk_size_feed_forward
    is_llama_config attn_implementation transformers.js_config embd_layer ff_layer _comment unsloth_version
    unsloth_fixed""".split()
)
# Keys whose only value that this architecture knows is given here.
_FIXED_KEYS: dict[str, tuple[Any, ...]] = {
    "hidden_act": ("silu",),
    "attention_bias": (False, None),
    "mlp_bias": (False, None),
    "lm_head_bias": (False, None),
    "rope_interleaved": (False, None),
    "is_encoder_decoder": (False,),
    "pretraining_tp": (1, None),
    "full_attn_mod": (1, None),
    "resid_pdrop": (0, None),  # Phi-3 was published without dropout
    "embd_pdrop": (0, None),
    "attention_dropout": (0, None),
}
_READ_KEYS = frozenset(
    """model_type vocab_size hidden_size intermediate_size num_hidden_layers num_attention_heads
    num_key_value_heads head_dim max_position_embeddings original_max_position_embeddings rms_norm_eps
    rope_theta partial_rotary_factor rope_scaling rope_parameters sliding_window tie_word_embeddings
    bos_token_id eos_token_id pad_token_id quantization_config""".split()
)
_ROPE_KEYS = frozenset(
    """type rope_type rope_theta partial_rotary_factor short_factor long_factor short_mscale long_mscale
    factor attention_factor original_max_position_embeddings""".split()
)

# Phi-3-small's config.json: names for what the others have too, and names of its own.
_SMALL_NAMES = {"ff_intermediate_size": "intermediate_size", "rope_embedding_base": "rope_theta"}
_SMALL_SPARSE = {
    "blocksparse_block_size": "block_size",
    "blocksparse_num_local_blocks": "num_local_blocks",
    "blocksparse_vert_stride": "vert_stride",
    "dense_attention_every_n_layers": "dense_attention_every_n_layers",
}
_SMALL_SCALARS = (
    *("layer_norm_epsilon", "gegelu_limit"),
    *("mup_embedding_multiplier", "mup_width_multiplier", "mup_attn_multiplier"),
)
_SMALL_FIXED_KEYS: dict[str, tuple[Any, ...]] = {
    "hidden_act": ("gegelu",),
    "blocksparse_homo_head_pattern": (False,),
    "mup_use_scaling": (True,),
    "ff_dim_multiplier": (None,),
    "rope_position_scale": (1.0,),
    "reorder_and_upcast_attn": (False,),
}
# The sizes of a kernel and of its padding; the dropout of training; a width that is padded only where none is
# given; and attention_bias, which says false although there are biases.
_SMALL_SILENT_KEYS = frozenset(
    """blocksparse_triton_kernel_block_size pad_sequence_to_multiple_of_64 embedding_dropout_prob
    ffn_dropout_prob attention_dropout_prob gegelu_pad_to_256 attention_bias""".split()
)
_SMALL_READ_KEYS = frozenset({*_SMALL_NAMES, *_SMALL_SPARSE, *_SMALL_SCALARS, "dummy_token_indices"}) | (
    _READ_KEYS
    - {"intermediate_size", "rope_theta", "rms_norm_eps", "sliding_window", "partial_rotary_factor"}
)
# Of the 100,352 rows of Phi-3-small's embedding, the ones for which its tokenizer has no token, or one that
# the model never saw. The published code takes them from the tokenizer.
_SMALL_DUMMIES = (100256, *range(100258, 100261), 100264, 100265, *range(100267, 100352))


def _read_small(keys: Mapping[str, Any]) -> dict[str, Any]:
    """The fields that only Phi-3-small has."""
    vocabulary = _required(keys, "vocab_size")
    dummies = [token for token in _SMALL_DUMMIES if _is_whole(vocabulary) and token < vocabulary]
    stated = _first(keys.get("dummy_token_indices"), dummies)
    return {name: _required(keys, name) for name in _SMALL_SCALARS} | {
        "linear_bias": True,
        "block_sparse": BlockSparse(**{field: _required(keys, key) for key, field in _SMALL_SPARSE.items()}),
        "dummy_token_indices": tuple(stated) if isinstance(stated, list) else stated,
    }


def _write_small(config: PhiConfig, rope_scaling: dict[str, Any] | None) -> dict[str, Any]:
    scalars = {name: getattr(config, name) for name in _SMALL_SCALARS}
    sparse = config.block_sparse
    if (
        sparse is None
        or None in scalars.values()
        or not config.linear_bias
        or config.partial_rotary_factor != 1
    ):
        raise ConfigError(
            "The model has some parts of Phi-3-small and some of the others; no config.json describes that. "
            "Set all fields of Phi-3-small, or none."
        )
    return {
        "architectures": ["Phi3SmallForCausalLM"],
        "model_type": "phi3small",
        "vocab_size": config.vocab_size,
        "hidden_size": config.hidden_size,
        "ff_intermediate_size": config.intermediate_size,
        "num_hidden_layers": config.num_hidden_layers,
        "num_attention_heads": config.num_attention_heads,
        "num_key_value_heads": config.num_key_value_heads,
        "max_position_embeddings": config.max_position_embeddings,
        "original_max_position_embeddings": config.original_max_position_embeddings,
        "rope_embedding_base": config.rope_theta,
        "rope_scaling": rope_scaling,
        **scalars,
        **{key: getattr(sparse, field) for key, field in _SMALL_SPARSE.items()},
        "dummy_token_indices": list(config.dummy_token_indices),
        "tie_word_embeddings": config.tie_word_embeddings,
        "bos_token_id": config.bos_token_id,
        "eos_token_id": config.eos_token_id,
        "pad_token_id": config.pad_token_id,
        **{key: known[0] for key, known in _SMALL_FIXED_KEYS.items()},
    }


def _refuse_other_architectures(keys: Mapping[str, Any]) -> None:
    model_type = keys.get("model_type")
    if model_type not in ("phi3", "phi3small", "llama"):
        raise ConfigError(
            f"config.json has model_type {model_type!r}; tinyphi reads 'phi3', 'phi3small' and 'llama'."
        )
    if keys.get("quantization_config"):
        raise ConfigError("config.json describes quantized weights; load the unquantized model instead.")
    fixed, understood = _FIXED_KEYS, _READ_KEYS | _SILENT_KEYS
    if model_type == "phi3small":
        fixed, understood = _SMALL_FIXED_KEYS, _SMALL_READ_KEYS | _SMALL_SILENT_KEYS | _SILENT_KEYS
    for key, known in fixed.items():
        if key in keys and keys[key] not in known:
            raise ConfigError(f"config.json sets {key} to {keys[key]!r}; tinyphi only has {known[0]!r}.")
    unknown = sorted(set(keys) - understood - set(fixed))
    if unknown:
        raise ConfigError(
            f"config.json has keys that tinyphi does not know: {', '.join(unknown)}. If they do not change "
            "the arithmetic, load a copy of the directory without them; else this is another architecture."
        )


def _read_rope(keys: Mapping[str, Any]) -> Mapping[str, Any]:
    """The one description of the rotation, checked; empty when it is plain RoPE."""
    if keys.get("rope_scaling") and keys.get("rope_parameters"):
        raise ConfigError("config.json has both rope_scaling and rope_parameters; keep one of them.")
    rope = keys.get("rope_scaling") or keys.get("rope_parameters") or {}
    if not isinstance(rope, Mapping):
        raise ConfigError(f"config.json describes the rotation with {rope!r}; expected an object or null.")
    kind = _first(rope.get("rope_type"), rope.get("type"), "default")
    if kind not in ("default", "longrope", "su"):
        raise ConfigError(f"config.json asks for rope type {kind!r}; tinyphi has 'default' and 'longrope'.")
    unknown = sorted(set(rope) - _ROPE_KEYS)
    if unknown:
        raise ConfigError(f"config.json's rotation has unknown keys: {', '.join(unknown)}.")
    if kind == "default" and ("short_factor" in rope or "long_factor" in rope):
        raise ConfigError("config.json has LongRoPE factors but a plain rope type; set it to 'longrope'.")
    if kind != "default" and None in (rope.get("short_factor"), rope.get("long_factor")):
        raise ConfigError("config.json asks for LongRoPE but lacks its short_factor or long_factor.")
    if kind != "default" and keys["model_type"] == "llama":
        raise ConfigError("config.json asks for LongRoPE in a llama model; only phi3 models have it.")
    for name in ("rope_theta", "partial_rotary_factor"):
        if None not in (rope.get(name), keys.get(name)) and rope[name] != keys[name]:
            raise ConfigError(f"config.json states two values of {name}: {keys[name]} and {rope[name]}.")
    return rope


def _check_stated_scale(rope: Mapping[str, Any], config: PhiConfig) -> None:
    """A file may state what follows from its other numbers, but not something else."""
    scale = config.max_position_embeddings / config.original_max_position_embeddings
    for name, implied in (("factor", scale), ("attention_factor", config.attention_factor)):
        stated = _first(rope.get(name), implied)
        if not _is_positive(stated) or not math.isclose(stated, implied, rel_tol=1e-6):
            raise ConfigError(f"config.json states a rope {name} of {stated!r}; its lengths imply {implied}.")


def _read_original_context(keys: Mapping[str, Any], rope: Mapping[str, Any]) -> int:
    here, there = (source.get("original_max_position_embeddings") for source in (keys, rope))
    if None not in (here, there) and here != there:
        raise ConfigError(f"config.json states two original context lengths: {here} and {there}.")
    default = 4096 if keys["model_type"] == "phi3" else _required(keys, "max_position_embeddings")
    original: int = _first(here, there, default)
    return original


def _read_factors(rope: Mapping[str, Any], name: str) -> tuple[float, ...] | None:
    factors = rope.get(name)
    if factors is None:
        return None
    if not isinstance(factors, list) or not all(_is_positive(factor) for factor in factors):
        raise ConfigError(f"config.json's {name} must be a list of positive numbers.")
    return tuple(float(factor) for factor in factors)


def _required(keys: Mapping[str, Any], name: str) -> Any:
    if keys.get(name) is None:
        raise ConfigError(f"config.json lacks the key {name!r}; fetch the file again.")
    return keys[name]


def _first(*candidates: Any) -> Any:
    """The first value that is not None."""
    return next(value for value in candidates if value is not None)


_SMALL_DEFAULTS = {
    field.name: field.default
    for field in fields(PhiConfig)
    if field.name in (*_SMALL_SCALARS, "linear_bias", "block_sparse", "dummy_token_indices")
}


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_positive(value: Any) -> bool:
    """Whether this is a number above 0 that a float can hold."""
    return (isinstance(value, float) or _is_whole(value)) and 0 < value <= sys.float_info.max


def _first_id(ids: Any) -> Any:
    """config.json may list several end tokens; the first one stands for them (stop ids: the tokenizer's)."""
    return ids[0] if isinstance(ids, list) and ids else ids


def _longrope(base: PhiConfig, factors: tuple[tuple[float, ...], ...], **changes: Any) -> PhiConfig:
    short, long = factors
    return replace(base, max_position_embeddings=131072, short_factor=short, long_factor=long, **changes)


_MINI_4K = PhiConfig(
    vocab_size=32064,
    hidden_size=3072,
    intermediate_size=8192,
    num_hidden_layers=32,
    num_attention_heads=32,
    num_key_value_heads=32,
    max_position_embeddings=4096,
    sliding_window=2047,
)
_MEDIUM_4K = replace(
    _MINI_4K,
    hidden_size=5120,
    intermediate_size=17920,
    num_hidden_layers=40,
    num_attention_heads=40,
    num_key_value_heads=10,
)

_SMALL_8K = PhiConfig(
    vocab_size=100352,
    hidden_size=4096,
    intermediate_size=14336,
    num_hidden_layers=32,
    num_attention_heads=32,
    num_key_value_heads=8,
    max_position_embeddings=8192,
    original_max_position_embeddings=8192,
    rope_theta=1000000.0,
    tie_word_embeddings=True,
    bos_token_id=100257,
    eos_token_id=100257,
    pad_token_id=None,
    layer_norm_epsilon=1e-5,
    linear_bias=True,
    gegelu_limit=20.0,
    block_sparse=BlockSparse(),
    mup_embedding_multiplier=10.0,
    mup_width_multiplier=8.0,
    mup_attn_multiplier=1.0,
    dummy_token_indices=_SMALL_DUMMIES,
)

PRESETS: dict[str, PhiConfig] = {
    "phi-3-mini-4k": _MINI_4K,
    "phi-3-mini-128k": _longrope(_MINI_4K, longrope_factors.PHI_3_MINI_128K_JUNE_2024, sliding_window=262144),
    "phi-3-mini-128k-april-2024": _longrope(
        _MINI_4K, longrope_factors.PHI_3_MINI_128K_APRIL_2024, sliding_window=262144
    ),
    "phi-3.5-mini": _longrope(_MINI_4K, longrope_factors.PHI_3_5_MINI, sliding_window=262144),
    "phi-3-small-8k": _SMALL_8K,
    "phi-3-medium-4k": _MEDIUM_4K,
    "phi-3-medium-128k": _longrope(
        _MEDIUM_4K, longrope_factors.PHI_3_MEDIUM_128K, sliding_window=131072, pad_token_id=None
    ),
    "smollm2-135m": PhiConfig(
        vocab_size=49152,
        hidden_size=576,
        intermediate_size=1536,
        num_hidden_layers=30,
        num_attention_heads=9,
        num_key_value_heads=3,
        max_position_embeddings=8192,
        original_max_position_embeddings=8192,
        rope_theta=100000.0,
        tie_word_embeddings=True,
        bos_token_id=1,
        eos_token_id=2,
        pad_token_id=2,
    ),
}
