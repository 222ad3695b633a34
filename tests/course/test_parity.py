"""Every symptom in the table is proved by planting its mistake and reading the diagnosis."""

import pytest
import torch
from einops import rearrange
from transformers import LlamaConfig, LlamaForCausalLM, Phi3Config, Phi3ForCausalLM

import tinyphi
from tinyphi.config import PhiConfig
from tinyphi.course import parity
from tinyphi.course.symptoms import SYMPTOMS
from tinyphi.course.traplab import traps
from tinyphi.errors import InputError
from tinyphi.model import attention as attention_module
from tinyphi.model import mask as mask_module
from tinyphi.model import transformer as transformer_module
from tinyphi.model.attention import Attention
from tinyphi.model.linear import Linear
from tinyphi.model.mlp import MLP
from tinyphi.model.norm import RMSNorm
from tinyphi.model.transformer import Phi3

LAYERS, HEADS, KEY_HEADS, CHANNELS = 2, 6, 2, 8
CONFIG = PhiConfig(
    vocab_size=97,
    hidden_size=HEADS * CHANNELS,
    intermediate_size=64,
    num_hidden_layers=LAYERS,
    num_attention_heads=HEADS,
    num_key_value_heads=KEY_HEADS,
    max_position_embeddings=64,
    original_max_position_embeddings=8,
    short_factor=(1.0, 1.1, 1.2, 1.3),
    long_factor=(1.0, 2.0, 4.0, 8.0),
    sliding_window=6,
    eos_token_id=2,
    pad_token_id=0,
)
IDS = torch.arange(11, 35).view(2, 12)


@pytest.fixture
def reference():
    torch.manual_seed(5)
    model = Phi3ForCausalLM(Phi3Config(**CONFIG.to_hugging_face())).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            centre = 1.0 if "norm" in name else 0.0
            parameter.copy_(centre + 0.3 * torch.randn_like(parameter))
    return model


@pytest.fixture
def model(reference):
    model = Phi3(CONFIG).eval()
    names = {
        name: name.removeprefix("model.")
        .replace("self_attn", "attention")
        .replace("input_layernorm", "attention_norm")
        .replace("post_attention_layernorm", "mlp_norm")
        for name in reference.state_dict()
    }
    model.load_state_dict({names[name]: value.clone() for name, value in reference.state_dict().items()})
    return model


def diagnose(model, reference):
    trace = tinyphi.Trace()
    with torch.no_grad():
        model(IDS, trace=trace)
    return parity.bisect(trace, parity.trace_transformers(reference, IDS))


def test_an_unspoilt_model_has_no_finding(model, reference):
    finding = diagnose(model, reference)
    assert finding.name is None
    assert finding.compared > 30
    assert "no difference" in str(finding)


def test_the_reference_is_left_as_it_was(model, reference):
    before = reference.config._attn_implementation
    logits = reference(IDS).logits
    diagnose(model, reference)
    assert reference.config._attn_implementation == before
    torch.testing.assert_close(reference(IDS).logits, logits)


def test_a_llama_reference_has_the_same_names():
    torch.manual_seed(0)
    llama = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=97,
            hidden_size=48,
            intermediate_size=64,
            num_hidden_layers=1,
            num_attention_heads=6,
            num_key_value_heads=2,
        )
    )
    mine = tinyphi.Trace()
    Phi3(CONFIG)(IDS, trace=mine)
    theirs = parity.trace_transformers(llama, IDS)
    assert {name for name in mine if "layers.1" not in name} == set(theirs)
    for name in theirs:
        assert theirs[name].ndim == len(theirs.axes(name).split())


def test_traces_without_a_common_name_are_refused():
    with pytest.raises(InputError, match="no name in common"):
        parity.bisect(tinyphi.Trace(), tinyphi.Trace())


def test_nan_is_a_difference(model, reference):
    with torch.no_grad():
        model.layers[1].mlp.down_proj.weight[3] = float("nan")
    finding = diagnose(model, reference)
    assert finding.name == "layers.1.mlp.output"
    assert finding.largest == float("inf")


# --- one plant for each symptom: (words of the cause, first name that differs, how to plant it) ---


def scaled_embedding(model, patch):
    with torch.no_grad():
        model.embed_tokens.weight *= 7


def no_attention_factor(model, patch):
    patch.setattr(PhiConfig, "attention_factor", 1.0)


def positions_from_one(model, patch):
    original = transformer_module.rotation
    patch.setattr(
        transformer_module,
        "rotation",
        lambda config, positions, *rest: original(config, positions + 1, *rest),
    )


def short_factors_only(model, patch):
    patch.setattr("tinyphi.model.rope.uses_long_factors", lambda config, longest: False)


def see_the_future(model, patch):
    patch.setattr(
        transformer_module, "visible", lambda s, p, ks, kp, window: (p[:, :, None] - kp[:, None]) < 6
    )


def wider_window(model, patch):
    original = mask_module.visible
    patch.setattr(transformer_module, "visible", lambda *places: original(*places[:4], places[4] + 1))


def norm_without_weight(model, patch):
    def forward(self, x):
        return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + self.eps)

    patch.setattr(RMSNorm, "forward", forward)


def norm_by_sum(model, patch):
    def forward(self, x):
        return self.weight * x * torch.rsqrt(x.square().sum(-1, keepdim=True) + self.eps)

    patch.setattr(RMSNorm, "forward", forward)


def interleaved_rows(model, patch):
    with torch.no_grad():
        for layer in model.layers:
            weight = layer.attention.qkv_proj.weight
            queries = weight[: HEADS * CHANNELS]
            weight[: HEADS * CHANNELS] = rearrange(
                queries, "(h half r) d -> (h r half) d", half=2, r=CHANNELS // 2
            )


def keys_and_values_swapped(model, patch):
    with torch.no_grad():
        for layer in model.layers:
            weight = layer.attention.qkv_proj.weight
            queries, keys, values = weight.clone().split([48, 16, 16])
            weight.copy_(torch.cat((queries, values, keys)))


def neighbours_rotated(model, patch):
    def rotate(x, cos, sin):
        cos, sin = cos.unsqueeze(1), sin.unsqueeze(1)
        even, odd = x[..., 0::2], x[..., 1::2]
        return torch.stack((even * cos - odd * sin, odd * cos + even * sin), dim=-1).flatten(-2)

    patch.setattr(attention_module, "rotate", rotate)


def rotated_backwards(model, patch):
    original = attention_module.rotate
    patch.setattr(attention_module, "rotate", lambda x, cos, sin: original(x, cos, -sin))


def never_rotated(model, patch):
    patch.setattr(attention_module, "rotate", lambda x, cos, sin: x)


def explicit_attention_with(patch, change):
    """Replace the explicit attention by one with a mistake in it."""

    def attend(queries, keys, values, mask, trace):
        groups = queries.shape[1] // keys.shape[1]
        keys, values = (x.repeat_interleave(groups, dim=1) for x in (keys, values))
        settings = {"keys": keys, "scale": queries.shape[-1] ** -0.5, "axis": -1, "masked": True}
        settings |= change(keys, groups)
        scores = queries @ settings["keys"].mT * settings["scale"]
        hidden = scores.masked_fill(~mask[:, None], float("-inf")) if settings["masked"] else scores
        weights = hidden.softmax(dim=settings["axis"])
        trace.record("scores", scores, "b h t s")
        trace.record("weights", weights, "b h t s")
        trace.record("mixed", weights @ values, "b h t c")
        return weights @ values

    patch.setattr(attention_module, "explicit_attention", attend)


def scale_by_channels(model, patch):
    explicit_attention_with(patch, lambda keys, groups: {"scale": 1 / CHANNELS})


def heads_tiled(model, patch):
    def tiled(keys, groups):
        return {"keys": keys[:, ::groups].repeat(1, groups, 1, 1)}

    explicit_attention_with(patch, tiled)


def softmax_over_queries(model, patch):
    explicit_attention_with(patch, lambda keys, groups: {"axis": -2})


def mask_forgotten(model, patch):
    explicit_attention_with(patch, lambda keys, groups: {"masked": False})


def mlp_with(patch, combine):
    def forward(self, x, trace):
        first, second = self.gate_up_proj(x).chunk(2, dim=-1)
        gate, up, hidden = combine(first, second)
        trace.record("gate", gate, "b t f")
        trace.record("up", up, "b t f")
        trace.record("hidden", hidden, "b t f")
        output = self.down_proj(hidden)
        trace.record("output", output, "b t d")
        return output

    patch.setattr(MLP, "forward", forward)


silu = torch.nn.functional.silu


def gate_and_up_swapped(model, patch):
    mlp_with(patch, lambda first, second: (second, first, first * silu(second)))


def gelu_instead(model, patch):
    mlp_with(patch, lambda gate, up: (gate, up, up * torch.nn.functional.gelu(gate)))


def silu_on_the_wrong_half(model, patch):
    mlp_with(patch, lambda gate, up: (gate, up, gate * silu(up)))


def block_without(patch, which):
    original_attention, original_mlp = Attention.forward, MLP.forward

    def forward(self, x, cos, sin, mask, cache, trace):
        normed = self.attention_norm(x)
        trace.record("attention_norm", normed, "b t d")
        attended = original_attention(self.attention, normed, cos, sin, mask, cache, trace.at("attention"))
        x = attended if which == "attention" else x + attended
        trace.record("after_attention", x, "b t d")
        normed = self.mlp_norm(x)
        trace.record("mlp_norm", normed, "b t d")
        changed = original_mlp(self.mlp, normed, trace.at("mlp"))
        x = changed if which == "mlp" else x + changed
        trace.record("output", x, "b t d")
        return x

    patch.setattr(transformer_module.Block, "forward", forward)


def attention_without_residual(model, patch):
    block_without(patch, "attention")


def mlp_without_residual(model, patch):
    block_without(patch, "mlp")


def bfloat16_in_between(model, patch):
    original = Linear.forward
    patch.setattr(Linear, "forward", lambda self, x: original(self, x.bfloat16().float()))


PLANTS = [
    ("embedding scaled", "embedding", scaled_embedding),
    ("attention factor missing", "rope.cos", no_attention_factor),
    ("positions off by one", "rope.cos", positions_from_one),
    ("wrong frequencies", "rope.cos", short_factors_only),
    ("the mask shows the future", "mask", see_the_future),
    ("mask off by one", "mask", wider_window),
    ("the norm's weight is missing", "layers.0.attention_norm", norm_without_weight),
    ("the norm's eps, mean or scale is wrong", "layers.0.attention_norm", norm_by_sum),
    ("q or k rows stand in another order", "layers.0.attention.queries", interleaved_rows),
    ("keys and values are swapped", "layers.0.attention.keys", keys_and_values_swapped),
    ("wrong rotation layout", "layers.0.attention.rotated_queries", neighbours_rotated),
    ("rotated the wrong way round", "layers.0.attention.rotated_queries", rotated_backwards),
    ("not rotated at all", "layers.0.attention.rotated_queries", never_rotated),
    ("softmax scale wrong", "layers.0.attention.scores", scale_by_channels),
    ("key/value heads tiled", "layers.0.attention.scores", heads_tiled),
    ("softmax over the wrong axis", "layers.0.attention.weights", softmax_over_queries),
    ("the mask is not applied", "layers.0.attention.weights", mask_forgotten),
    ("gate and up are swapped", "layers.0.mlp.gate", gate_and_up_swapped),
    ("another activation", "layers.0.mlp.hidden", gelu_instead),
    ("SiLU is on the wrong half", "layers.0.mlp.hidden", silu_on_the_wrong_half),
    ("the residual connection is missing", "layers.0.after_attention", attention_without_residual),
    ("the residual connection is missing", "layers.0.output", mlp_without_residual),
    ("bfloat16 rounding", "layers.0.attention.queries", bfloat16_in_between),
]


@pytest.mark.parametrize(("cause", "name", "plant"), PLANTS, ids=lambda value: getattr(value, "__name__", ""))
def test_a_planted_mistake_is_named(model, reference, monkeypatch, cause, name, plant):
    plant(model, monkeypatch)
    finding = diagnose(model, reference)
    assert finding.name == name
    assert finding.causes, str(finding)
    assert finding.causes[0].startswith(cause), str(finding)


def padded_traces(model, patch=None, mine_segments=None):
    segments = torch.ones_like(IDS)
    segments[1, :3] = 0
    reference, mine = tinyphi.Trace(), tinyphi.Trace()
    with torch.no_grad():
        model(IDS, segments=segments, trace=reference)
        if patch is not None:
            original = mask_module.visible
            patch.setattr(
                transformer_module,
                "visible",
                lambda s, p, ks, kp, window: (
                    original(s, p, ks, kp, window) | (ks == 0)[:, None].tile(12, 1).tril()
                ),
            )
            mine_segments = segments
        model(IDS, segments=mine_segments, trace=mine)
    return parity.bisect(mine, reference)


def test_forgotten_padding_is_named(model):
    finding = padded_traces(model)
    assert finding.name == "rope.cos"
    assert finding.causes[0].startswith("padding counted as text")


def test_visible_padding_is_named(model, monkeypatch):
    finding = padded_traces(model, monkeypatch)
    assert finding.name == "mask"
    assert finding.causes[0].startswith("padding is visible")


def test_every_symptom_in_the_table_is_planted_here():
    planted = {cause for cause, _, _ in PLANTS} | {"padding is visible", "padding counted as text"}
    planted |= {one.cause for one in traps() if one.cause}  # in test_traps.py
    for entry in SYMPTOMS:
        assert any(entry.cause.startswith(cause) for cause in planted), entry.cause
