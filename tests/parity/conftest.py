"""The same tiny model twice, ours and transformers', with weights that hide nothing."""

from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM, Phi3Config, Phi3ForCausalLM

from tinyphi.config import PhiConfig
from tinyphi.generation.decode import left_pad
from tinyphi.model.transformer import Phi3

BASE = {
    "vocab_size": 97,
    "hidden_size": 48,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 6,
    "num_key_value_heads": 6,
    "max_position_embeddings": 64,
    "original_max_position_embeddings": 64,
    "bos_token_id": None,
    "eos_token_id": None,
    "pad_token_id": None,
}
LONGROPE = {
    "original_max_position_embeddings": 8,
    "short_factor": (1.0, 1.1, 1.2, 1.3),
    "long_factor": (1.0, 2.0, 4.0, 8.0),
}


@dataclass(frozen=True)
class Case:
    """A model and a left-padded batch for it."""

    lengths: tuple[int, ...] = (12, 12)  # tokens of each row
    padding: int = 0  # columns of padding beyond what the longest row needs
    embedding: float = 1.0  # scale of the embeddings
    llama: bool = False
    changes: dict[str, Any] = field(default_factory=dict)  # to BASE


CASES = {
    "multi-head": Case(),
    "grouped": Case(changes={"num_key_value_heads": 2}),
    "one key/value head": Case(changes={"num_key_value_heads": 1}),
    "tied": Case(changes={"tie_word_embeddings": True}),
    "small activations": Case(embedding=1e-3),
    "partial rotation": Case(changes={"hidden_size": 96, "partial_rotary_factor": 0.75}),
    "past the window": Case(lengths=(20, 20), changes={"sliding_window": 6, "num_key_value_heads": 2}),
    "window, left-padded": Case(lengths=(20, 13, 4), changes={"sliding_window": 6}),
    "left-padded": Case(lengths=(12, 7, 1), changes={"num_key_value_heads": 2}),
    "LongRoPE, short": Case(lengths=(5, 5), changes=LONGROPE),
    "LongRoPE, exactly original": Case(lengths=(8, 8), changes=LONGROPE),
    "LongRoPE, one past": Case(lengths=(9, 9), changes=LONGROPE),
    "LongRoPE, far past": Case(lengths=(50, 50), changes=LONGROPE),
    "LongRoPE, one row past": Case(lengths=(12, 5), changes=LONGROPE),
    "LongRoPE, original with padding": Case(lengths=(8, 6), padding=2, changes=LONGROPE),
    "all at once": Case(
        lengths=(30, 22, 3),
        changes={
            **LONGROPE,
            "hidden_size": 96,
            "num_key_value_heads": 2,
            "partial_rotary_factor": 0.5,
            "rope_theta": 5e4,
            "rms_norm_eps": 1e-3,
            "sliding_window": 7,
            "tie_word_embeddings": True,
        },
    ),
    "llama": Case(
        lengths=(12, 7),
        llama=True,
        changes={"num_key_value_heads": 3, "rope_theta": 1e5, "tie_word_embeddings": True},
    ),
}


def parts_by_our_name(named: dict[str, Tensor]) -> dict[str, Tensor]:
    """Hugging Face's tensors under tinyphi's names; what is fused here is joined."""
    found: dict[str, list[Tensor]] = {}
    for name, tensor in named.items():
        name = name.removeprefix("model.").replace("self_attn", "attention")
        name = name.replace("input_layernorm", "attention_norm").replace(
            "post_attention_layernorm", "mlp_norm"
        )
        for part in ("q_proj", "k_proj", "v_proj"):
            name = name.replace(f".{part}", ".qkv_proj")
        for part in (".gate_proj", ".up_proj"):
            name = name.replace(part, ".gate_up_proj")
        found.setdefault(name, []).append(tensor)
    return {name: torch.cat(tensors) for name, tensors in found.items()}


class Twins:
    """`model` is ours, `reference` transformers'; `ids` and `segments` are the case's batch."""

    def __init__(self, case: Case, dtype: torch.dtype = torch.float32) -> None:
        self.case = case
        self.config = PhiConfig(**BASE | case.changes)
        self.reference = self._make_reference().eval()
        torch.manual_seed(5)
        with torch.no_grad():
            for name, parameter in self.reference.named_parameters():
                centre = 1.0 if "norm" in name else 0.0
                scale = case.embedding if "embed" in name else 1.0
                parameter.copy_(scale * (centre + 0.3 * torch.randn_like(parameter)))
                parameter.data = parameter.data.to(dtype)  # and not the buffers: .to() would round the RoPE's
        self.model = Phi3(self.config).eval().to(dtype)
        self.model.load_state_dict(
            {name: value.clone() for name, value in parts_by_our_name(self.reference.state_dict()).items()}
        )
        rows = [torch.randint(97, (length,)).tolist() for length in case.lengths]
        ids, segments = left_pad(rows)
        self.ids = torch.nn.functional.pad(ids, (case.padding, 0))
        self.segments = torch.nn.functional.pad(segments, (case.padding, 0))

    def _make_reference(self) -> Any:
        keys = self.config.to_hugging_face()
        if not self.case.llama:
            return Phi3ForCausalLM(Phi3Config(**keys))
        for phi_only in ("model_type", "original_max_position_embeddings", "partial_rotary_factor"):
            del keys[phi_only]
        del keys["sliding_window"], keys["architectures"]
        return LlamaForCausalLM(LlamaConfig(**keys))

    def their_logits(self) -> Tensor:
        """What transformers computes for the batch, with positions counted as its `generate` counts them."""
        positions = (self.segments.cumsum(1) - 1).clamp(min=0)
        return self.reference(
            self.ids, attention_mask=self.segments, position_ids=positions, use_cache=False
        ).logits.float()

    @torch.no_grad()
    def difference(self, **arguments: Any) -> float:
        """Largest difference of logits at real tokens, relative to the largest logit."""
        mine = self.model(self.ids, self.segments, **arguments)
        return relative_difference(mine[self.segments > 0], self.their_logits()[self.segments > 0])


def relative_difference(mine: Tensor, theirs: Tensor) -> float:
    return float((mine.double() - theirs.double()).abs().max() / theirs.double().abs().max())


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "case" in metafunc.fixturenames:
        metafunc.parametrize("case", CASES)


@pytest.fixture
def twins() -> Any:
    """Make the twins of a case by its name, or of a `Case`."""
    return lambda case, **arguments: Twins(CASES[case] if isinstance(case, str) else case, **arguments)


@pytest.fixture
def make_case() -> Any:
    return Case


@pytest.fixture
def by_our_name() -> Any:
    return parts_by_our_name


@pytest.fixture
def all_cases() -> set[str]:
    return set(CASES)


@pytest.fixture
def longrope() -> dict[str, Any]:
    return LONGROPE
