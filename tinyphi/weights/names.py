"""What the parts of a model are called in files, and how they lie there.

Five layouts hold the same numbers: the Hugging Face and the GGUF naming, each of the Phi-3 and of the Llama
architecture, and the Hugging Face naming of Phi-3-small. They differ in three ways:

- names: `layers.0.mlp_norm` is `model.layers.0.post_attention_layernorm` or `blk.0.ffn_norm`;
- joints: Phi-3 stores the rows of queries, keys and values as one matrix, and those of gate and up as one;
  Llama stores them apart;
- order: GGUF's Llama stores the rows of a query or key head as 0, c/2, 1, c/2+1, …, so that the two channels
  which RoPE turns together are neighbours. Hugging Face and tinyphi keep 0 … c-1 and pair i with i + c/2.
  Phi-3-small joins its matrices in small groups: the queries of one key/value head, its key and its value,
  then those of the next; and a row of the gate, a row of up, the next of the gate.

Source: `modeling_phi3.py` and `modeling_llama.py` in transformers, `modeling_phi3_small.py` beside the
published weights; `gguf/constants.py` and `convert_hf_to_gguf.py` in llama.cpp.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import torch
from einops import rearrange
from torch import Tensor

from tinyphi.config import PhiConfig
from tinyphi.errors import WeightsError
from tinyphi.weights.storage import brief


@dataclass(frozen=True)
class Layout:
    """The names of one layout, without `.weight` or `.bias`; from `attention_norm` on they follow `layer`."""

    embedding: str
    norm: str
    head: str
    layer: str
    attention_norm: str
    qkv: tuple[str, ...]  # the parts of qkv_proj, in the order of its rows
    attention_output: str
    mlp_norm: str
    gate_up: tuple[str, ...]  # the parts of gate_up_proj
    down: str
    interleaved: bool = False  # query and key rows in GGUF's order for Llama
    grouped: bool = False  # the rows of joined matrices in Phi-3-small's order


ROPE_FACTORS = ("rope_factors_short.weight", "rope_factors_long.weight")
_HUGGING_FACE = ("model.embed_tokens", "model.norm", "lm_head", "model.layers.{}.", "input_layernorm")
_GGUF = ("token_embd", "output_norm", "output", "blk.{}.", "attn_norm")

LAYOUTS = {
    "phi3": Layout(
        *_HUGGING_FACE,
        qkv=("self_attn.qkv_proj",),
        attention_output="self_attn.o_proj",
        mlp_norm="post_attention_layernorm",
        gate_up=("mlp.gate_up_proj",),
        down="mlp.down_proj",
    ),
    "llama": Layout(
        *_HUGGING_FACE,
        qkv=("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
        attention_output="self_attn.o_proj",
        mlp_norm="post_attention_layernorm",
        gate_up=("mlp.gate_proj", "mlp.up_proj"),
        down="mlp.down_proj",
    ),
    "phi3small": Layout(
        "model.embed_tokens",
        "model.final_layernorm",
        *_HUGGING_FACE[2:],
        qkv=("self_attn.query_key_value",),
        attention_output="self_attn.dense",
        mlp_norm="post_attention_layernorm",
        gate_up=("mlp.up_proj",),
        down="mlp.down_proj",
        grouped=True,
    ),
    "gguf phi3": Layout(
        *_GGUF,
        qkv=("attn_qkv",),
        attention_output="attn_output",
        mlp_norm="ffn_norm",
        gate_up=("ffn_up",),
        down="ffn_down",
    ),
    "gguf llama": Layout(
        *_GGUF,
        qkv=("attn_q", "attn_k", "attn_v"),
        attention_output="attn_output",
        mlp_norm="ffn_norm",
        gate_up=("ffn_gate", "ffn_up"),
        down="ffn_down",
        interleaved=True,
    ),
}


class Place(NamedTuple):
    """Where a stored tensor belongs: some rows of one of tinyphi's parameters."""

    parameter: str
    shape: tuple[int, ...]  # as stored
    first_row: int = 0
    interleaved_heads: int = 0  # heads whose rows are stored in GGUF's order for Llama
    group: tuple[int, ...] = ()  # rows of each joined part that are stored next to each other; (): all

    def of(self, parameter: Tensor) -> Tensor:
        """The view of the parameter that holds the stored numbers, in the order of the file."""
        rows = parameter.detach()[self.first_row : self.first_row + self.shape[0]]
        if self.interleaved_heads:
            return rearrange(rows, "(h half i) d -> h i half d", h=self.interleaved_heads, half=2)
        return rows

    def fill(self, parameter: Tensor, stored: "Readable") -> None:
        """Read the stored tensor into its place."""
        stored.copy_into(self.of(parameter))
        if self.group:  # an order that no view has
            parameter[self.order()] = parameter.clone()

    def take(self, parameter: Tensor) -> Tensor:
        """What is to be stored of a parameter that is stored whole."""
        return parameter.detach()[self.order()] if self.group else parameter.detach()

    def order(self) -> Tensor:
        """For each stored row, the parameter's, where they are stored in groups."""
        count = self.shape[0] // sum(self.group)
        parts = torch.split(torch.arange(self.shape[0]), [count * rows for rows in self.group])
        return torch.cat([part.view(count, -1) for part in parts], dim=1).flatten()


class Readable(Protocol):
    """A stored tensor that can be read into memory."""

    def copy_into(self, target: Tensor) -> None: ...


def places(config: PhiConfig, layout: Layout) -> dict[str, Place]:
    """For each tensor that a file of this layout holds: name → place. A tied head is not stored.

    If norms or linears have biases, there is one for every norm, or for every linear of a layer.
    """
    d, f, c = config.hidden_size, config.intermediate_size, config.head_dim
    h, n = config.num_attention_heads, config.num_key_value_heads
    found = {layout.embedding: Place("embed_tokens", (config.vocab_size, d))}
    for number in range(config.num_hidden_layers):
        there, here = layout.layer.format(number), f"layers.{number}."
        found[there + layout.attention_norm] = Place(here + "attention_norm", (d,))
        found |= _joined(there, layout.qkv, here + "attention.qkv_proj", (h * c, n * c, n * c), d)
        if layout.interleaved:
            for part, count in zip(layout.qkv, (h, n), strict=False):
                found[there + part] = found[there + part]._replace(interleaved_heads=count)
        found[there + layout.attention_output] = Place(here + "attention.o_proj", (d, h * c))
        found[there + layout.mlp_norm] = Place(here + "mlp_norm", (d,))
        found |= _joined(there, layout.gate_up, here + "mlp.gate_up_proj", (f, f), d)
        found[there + layout.down] = Place(here + "mlp.down_proj", (d, f))
        if layout.grouped:
            for part, group in ((layout.qkv[0], (h // n * c, c, c)), (layout.gate_up[0], (1, 1))):
                found[there + part] = found[there + part]._replace(group=group)
    found[layout.norm] = Place("norm", (d,))
    if not config.tie_word_embeddings:
        found[layout.head] = Place("lm_head", (config.vocab_size, d))
    tensors = {}
    for name, place in found.items():
        tensors[f"{name}.weight"] = place._replace(parameter=f"{place.parameter}.weight")
        if _has_bias(config, place):
            bias = place._replace(parameter=f"{place.parameter}.bias", shape=place.shape[:1])
            tensors[f"{name}.bias"] = bias
    return tensors


def _has_bias(config: PhiConfig, place: Place) -> bool:
    if place.parameter in ("embed_tokens", "lm_head"):
        return False
    return config.linear_bias if len(place.shape) > 1 else config.layer_norm_epsilon is not None


def _joined(
    there: str, parts: tuple[str, ...], parameter: str, rows: tuple[int, ...], d: int
) -> dict[str, Place]:
    """A matrix stored whole, or cut into parts of so many rows."""
    if len(parts) == 1:
        return {there + parts[0]: Place(parameter, (sum(rows), d))}
    first_rows = (sum(rows[:part]) for part in range(len(parts)))
    return {
        there + part: Place(parameter, (count, d), first)
        for part, count, first in zip(parts, rows, first_rows, strict=True)
    }


class Shaped(Protocol):
    """What a file holds under a name."""

    @property
    def shape(self) -> tuple[int, ...]: ...


def match(config: PhiConfig, layout: Layout, stored: Mapping[str, Shaped]) -> dict[str, Place]:
    """The place of each stored tensor. Raises WeightsError unless names and shapes are those of the config.

    Left alone: LongRoPE's factors in a GGUF file, which belong to the configuration; buffers of RoPE's
    frequencies, which old files carry; the head of a model that ties it.
    """
    if config.num_hidden_layers > len(stored):  # said before a hostile count makes a long list
        raise WeightsError(
            f"The configuration has {config.num_hidden_layers} layers, but there are only {len(stored)} "
            "tensors. Fetch the configuration and the weights again, from the same place."
        )
    wanted = places(config, layout)
    ignored = {name for name in stored if name.endswith("rotary_emb.inv_freq")}
    ignored |= {f"{layout.head}.weight", *ROPE_FACTORS}
    missing = [brief(name) for name in wanted if name not in stored]
    unexpected = [brief(name) for name in sorted(stored.keys() - wanted.keys() - ignored)]
    misshapen = [
        f"{name} is {stored[name].shape}, expected {place.shape}"
        for name, place in wanted.items()
        if name in stored and stored[name].shape != place.shape
    ]
    found = (("missing", missing), ("unexpected", unexpected), ("of another shape", misshapen))
    problems = [_listed(what, names) for what, names in found if names]
    if problems:
        raise WeightsError(
            f"The tensors are not those of the configuration. {'; '.join(problems)}. Fetch the configuration "
            "and the weights again, from the same place."
        )
    return wanted


def _listed(what: str, names: list[str]) -> str:
    """What is wrong with how many tensors, and the first few of them."""
    more = ", …" if len(names) > 3 else ""
    return f"{len(names)} {what}: {', '.join(names[:3])}{more}"
