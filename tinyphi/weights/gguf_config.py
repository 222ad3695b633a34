"""The configuration that a GGUF file describes, in its metadata and by the tensors that it has.

Source: `gguf/constants.py` and `convert_hf_to_gguf.py` in llama.cpp.
"""

import math
from dataclasses import replace
from typing import Any

import numpy as np

from tinyphi.config import PhiConfig
from tinyphi.errors import ConfigError, WeightsError
from tinyphi.weights.gguf import GGUFFile
from tinyphi.weights.names import ROPE_FACTORS


def config_from_gguf(file: GGUFFile) -> PhiConfig:
    """The configuration of a GGUF file of the architecture `llama` or `phi3`.

    Raises ConfigError for another architecture or an unknown kind of rotation, WeightsError for metadata that
    is missing or no number.
    """
    architecture = file.metadata.get("general.architecture")
    if architecture not in ("llama", "phi3"):
        raise ConfigError(
            f"{file.path} has the architecture {architecture!r}; tinyphi reads 'llama' and 'phi3'."
        )
    if "token_embd.weight" not in file.tensors:
        raise WeightsError(f"{file.path} has no tensor 'token_embd.weight', so it holds no language model.")
    heads, context = _number(file, "attention.head_count"), _number(file, "context_length")
    config = PhiConfig(
        vocab_size=file.tensors["token_embd.weight"].shape[0],
        hidden_size=_number(file, "embedding_length"),
        intermediate_size=_number(file, "feed_forward_length"),
        num_hidden_layers=_number(file, "block_count"),
        num_attention_heads=heads,
        num_key_value_heads=_number(file, "attention.head_count_kv", heads),
        max_position_embeddings=context,
        original_max_position_embeddings=_number(file, "rope.scaling.original_context_length", context),
        rms_norm_eps=_number(file, "attention.layer_norm_rms_epsilon"),
        rope_theta=_number(file, "rope.freq_base", 10000.0),
        sliding_window=_number(file, "attention.sliding_window", 0) or None,
        tie_word_embeddings="output.weight" not in file.tensors,
        bos_token_id=file.metadata.get("tokenizer.ggml.bos_token_id"),
        eos_token_id=file.metadata.get("tokenizer.ggml.eos_token_id"),
        pad_token_id=file.metadata.get("tokenizer.ggml.padding_token_id"),
    )
    return _with_rotation(config, file, architecture)


def _with_rotation(config: PhiConfig, file: GGUFFile, architecture: str) -> PhiConfig:
    """Add the share of rotated channels and LongRoPE's factors; refuse rotations that tinyphi lacks."""
    kind = file.metadata.get(f"{architecture}.rope.scaling.type", "none")
    if kind not in ("none", "longrope") or _number(file, "rope.scale_linear", 1.0) != 1:
        raise ConfigError(f"{file.path} scales its rotation ({kind!r}); tinyphi has only LongRoPE for that.")
    others = {"rope_freqs.weight"} | (set(ROPE_FACTORS) if architecture == "llama" else set())
    for name in sorted(others & file.tensors.keys()):
        raise ConfigError(
            f"{file.path} changes RoPE's frequencies by {name!r}; tinyphi has that for phi3 only."
        )
    share = _share(_number(file, "rope.dimension_count", config.head_dim), config.head_dim)
    config = replace(config, partial_rotary_factor=share)
    short, long = (_factors(file, name, config.rotary_dim // 2) for name in ROPE_FACTORS)
    config = replace(config, short_factor=short, long_factor=long)
    stated = _number(file, "rope.scaling.attn_factor", config.attention_factor)
    if not math.isclose(stated, config.attention_factor, rel_tol=1e-4):
        raise ConfigError(
            f"{file.path} states an attention factor of {stated}; its context lengths imply "
            f"{config.attention_factor:.6f}."
        )
    return config


def _number(file: GGUFFile, key: str, default: float | None = None) -> Any:
    """A number of the metadata, under its architecture's prefix."""
    value = file.metadata.get(f"{file.metadata['general.architecture']}.{key}", default)
    if type(value) is float:
        return _as_written(value)
    if type(value) is not int:
        raise WeightsError(
            f"{file.path}: the metadata {key} is {value!r}; expected a number. Fetch the file again."
        )
    return value


def _as_written(value: float) -> float:
    """The decimal that was meant: 1e-5 comes back from a float32 as 9.999999747378752e-06."""
    with np.errstate(over="ignore"):
        return float(str(np.float32(value)))


def _share(rotated: int, channels: int) -> float:
    """The partial_rotary_factor for which int(channels × factor) is `rotated`; division may fall short."""
    share = rotated / channels
    return share if int(channels * share) == rotated else math.nextafter(share, 2)


def _factors(file: GGUFFile, name: str, pairs: int) -> tuple[float, ...] | None:
    if name not in file.tensors:
        return None
    if file.tensors[name].shape != (pairs,):
        raise WeightsError(
            f"{file.path}: {name} is {file.tensors[name].shape}, expected ({pairs},), one a pair."
        )
    return tuple(_as_written(factor) for factor in file.read(name).tolist())
