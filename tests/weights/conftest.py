"""Tiny reference models of both architectures, and files made from them with the reference libraries."""

from pathlib import Path

import gguf
import numpy as np
import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM, Phi3Config, Phi3ForCausalLM

SIZES = {
    "vocab_size": 160,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 3,
}


def make_reference(architecture, **changes):
    """A random model in which no two weights are alike, the norms' included."""
    kind, settings = {"phi3": (Phi3ForCausalLM, Phi3Config), "llama": (LlamaForCausalLM, LlamaConfig)}[
        architecture
    ]
    torch.manual_seed(11)
    model = kind(settings(**{**SIZES, **changes})).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 1:
                parameter.uniform_(0.5, 1.5)
            else:
                parameter.normal_(std=0.2)
    return model


@pytest.fixture
def reference():
    return make_reference


def logits_differ(model, reference) -> float:
    """Largest difference of the logits, relative to their scale, on two rows of 40 tokens."""
    ids = torch.randint(SIZES["vocab_size"], (2, 40), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        mine, theirs = model(ids), reference(ids).logits.float()
    return float((mine - theirs).abs().max() / theirs.abs().max())


@pytest.fixture
def difference():
    return logits_differ


def to_llama_cpp(rows: np.ndarray, heads: int) -> np.ndarray:
    """The order of llama.cpp for the rows of Llama's queries and keys: the halves of a head take turns."""
    first, second = np.split(rows.reshape(heads, -1, rows.shape[1]), 2, axis=1)
    return np.stack((first, second), axis=2).reshape(rows.shape)


def gguf_metadata(writer, config, architecture) -> None:
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    rope = config.rope_parameters
    writer.add_rope_freq_base(rope["rope_theta"])
    share = rope.get("partial_rotary_factor", 1.0)
    writer.add_rope_dimension_count(int(config.hidden_size // config.num_attention_heads * share))
    if architecture == "phi3":
        writer.add_rope_scaling_orig_ctx_len(config.original_max_position_embeddings)
        writer.add_sliding_window(config.sliding_window or 0)
    writer.add_bos_token_id(config.bos_token_id)
    writer.add_eos_token_id(config.eos_token_id)
    writer.add_pad_token_id(config.pad_token_id)


def make_gguf(path: Path, reference, number_type=gguf.GGMLQuantizationType.F32):
    """Write a transformers model as llama.cpp's converter does; its matrices become what was stored."""
    config, architecture = reference.config, reference.config.model_type
    writer = gguf.GGUFWriter(path, architecture)
    gguf_metadata(writer, config, architecture)
    kind = {"phi3": gguf.MODEL_ARCH.PHI3, "llama": gguf.MODEL_ARCH.LLAMA}[architecture]
    names = gguf.get_tensor_name_map(kind, config.num_hidden_layers)
    heads = {"q_proj": config.num_attention_heads, "k_proj": config.num_key_value_heads}
    for name, parameter in reference.named_parameters():
        matrix = parameter.ndim > 1
        stored = number_type if matrix else gguf.GGMLQuantizationType.F32
        data = gguf.quants.quantize(parameter.detach().numpy(), stored)
        with torch.no_grad():
            parameter.copy_(torch.from_numpy(gguf.quants.dequantize(data, stored)))
        part = name.split(".")[-2]
        if architecture == "llama" and part in heads:
            data = to_llama_cpp(data, heads[part])
        writer.add_tensor(names.get_name(name, try_suffixes=(".weight",)), data, raw_dtype=stored)
    if config.rope_parameters.get("rope_type") == "longrope":
        for length in ("long", "short"):
            factors = np.array(config.rope_parameters[f"{length}_factor"], dtype=np.float32)
            writer.add_tensor(f"rope_factors_{length}.weight", factors)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


@pytest.fixture
def write_gguf():
    return make_gguf
