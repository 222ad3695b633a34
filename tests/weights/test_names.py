"""Names and rows are those of transformers and of the `gguf` package."""

import gguf
import pytest
import torch

from tinyphi.config import PhiConfig
from tinyphi.errors import WeightsError
from tinyphi.model.transformer import Phi3
from tinyphi.weights.names import LAYOUTS, match, places
from tinyphi.weights.storage import F32, TensorInfo

CONFIG = PhiConfig(
    vocab_size=50,
    hidden_size=24,
    intermediate_size=40,
    num_hidden_layers=2,
    num_attention_heads=6,
    num_key_value_heads=2,
    max_position_embeddings=64,
    eos_token_id=2,
    pad_token_id=2,
)


def stored_as(tensors):
    """What a file with tensors of these shapes would list."""
    return {name: TensorInfo(name, tuple(shape), F32, None, 0, 0) for name, shape in tensors.items()}


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("architecture", ["phi3", "llama"])
def test_names_and_shapes_of_transformers(reference, architecture, tied):
    theirs = reference(architecture, tie_word_embeddings=tied)
    config = PhiConfig.from_hugging_face(
        {**theirs.config.to_dict(), "model_type": architecture, "tie_word_embeddings": tied}
    )
    shapes = {name: parameter.shape for name, parameter in theirs.named_parameters()}
    mine = places(config, LAYOUTS[architecture])
    assert {name: place.shape for name, place in mine.items()} == shapes
    assert match(config, LAYOUTS[architecture], stored_as(shapes)) == mine


@pytest.mark.parametrize("architecture", ["phi3", "llama"])
def test_names_of_the_gguf_package(architecture):
    kind = {"phi3": gguf.MODEL_ARCH.PHI3, "llama": gguf.MODEL_ARCH.LLAMA}[architecture]
    names = gguf.get_tensor_name_map(kind, CONFIG.num_hidden_layers)
    theirs = {
        names.get_name(name, try_suffixes=(".weight",)): (place.parameter, place.shape, place.first_row)
        for name, place in places(CONFIG, LAYOUTS[architecture]).items()
    }
    mine = places(CONFIG, LAYOUTS[f"gguf {architecture}"])
    assert {name: place[:3] for name, place in mine.items()} == theirs


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_number_of_the_model_has_one_place(layout):
    painted = {name: torch.zeros(parameter.shape) for name, parameter in Phi3(CONFIG).named_parameters()}
    for place in places(CONFIG, LAYOUTS[layout]).values():
        target = place.of(painted[place.parameter])
        assert target.numel() == torch.Size(place.shape).numel()
        target += 1
    assert all(bool((parameter == 1).all()) for parameter in painted.values())


def test_interleaved_rows_are_put_back():
    layout = LAYOUTS["gguf llama"]
    joined = torch.zeros((6 + 2 + 2) * 4, 24)
    for name in ("blk.0.attn_q.weight", "blk.0.attn_k.weight", "blk.0.attn_v.weight"):
        place = places(CONFIG, layout)[name]
        numbers = torch.arange(place.shape[0], dtype=torch.float32)
        place.of(joined).copy_(numbers.unsqueeze(1).expand(place.shape).reshape(place.of(joined).shape))
    queries, keys, values = joined[:, 0].split((24, 8, 8))
    # A head of four rows is stored as 0 2 1 3, so row 1 of the head stands third in the file.
    assert queries.tolist() == [4 * head + row for head in range(6) for row in (0, 2, 1, 3)]
    assert keys.tolist() == [0, 2, 1, 3, 4, 6, 5, 7]
    assert values.tolist() == list(range(8))


@pytest.fixture
def shapes():
    return {name: place.shape for name, place in places(CONFIG, LAYOUTS["phi3"]).items()}


def test_old_buffers_and_a_stored_tied_head_are_left_alone(shapes):
    buffers = {f"model.layers.{layer}.self_attn.rotary_emb.inv_freq": (2,) for layer in range(2)}
    assert match(CONFIG, LAYOUTS["phi3"], stored_as(shapes | buffers)).keys() == shapes.keys()


def test_what_does_not_match_is_listed(shapes):
    layout = LAYOUTS["phi3"]
    missing = {name: shape for name, shape in shapes.items() if "mlp" not in name}
    with pytest.raises(WeightsError, match=r"4 missing: 'model.layers.0.mlp.gate_up_proj.weight', .*, …\."):
        match(CONFIG, layout, stored_as(missing))
    extra = shapes | {"model.layers.0.self_attn.qkv_proj.bias": (40,)}
    with pytest.raises(WeightsError, match=r"1 unexpected: 'model.layers.0.self_attn.qkv_proj.bias'\."):
        match(CONFIG, layout, stored_as(extra))
    turned = shapes | {"model.layers.1.mlp.down_proj.weight": (40, 24)}
    with pytest.raises(WeightsError, match=r"down_proj.weight is \(40, 24\), expected \(24, 40\)"):
        match(CONFIG, layout, stored_as(turned))
    with pytest.raises(WeightsError, match="2 layers, but there are only 1 tensors"):
        match(CONFIG, layout, stored_as({"x": (1,)}))
    with pytest.raises(WeightsError, match=r"missing.*unexpected"):
        match(CONFIG, LAYOUTS["llama"], stored_as(shapes))


def test_an_untied_model_without_its_head(shapes):
    del shapes["lm_head.weight"]
    with pytest.raises(WeightsError, match=r"1 missing: 'lm_head.weight'"):
        match(CONFIG, LAYOUTS["phi3"], stored_as(shapes))
