"""Phi-3-small in its published layout, against a slow second implementation that is written here.

transformers has no class for it. The reference follows `modeling_phi3_small.py` step by step, in float64,
with the file's own names and order of rows and with a dense mask for every layer.
"""

import json
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch.nn import functional as F

import tinyphi
from tinyphi.config import BlockSparse, PhiConfig
from tinyphi.errors import ConfigError, InputError, WeightsError
from tinyphi.generation.decode import left_pad
from tinyphi.model import mlp, norm
from tinyphi.model.trace import Trace
from tinyphi.quant.linear import GroupedLinear
from tinyphi.quant.quantize import quantize
from tinyphi.weights import names
from tinyphi.weights.export import export_gguf

CONFIG = PhiConfig(
    vocab_size=120,
    hidden_size=64,
    intermediate_size=96,
    num_hidden_layers=4,
    num_attention_heads=8,
    num_key_value_heads=2,
    max_position_embeddings=256,
    original_max_position_embeddings=256,
    rope_theta=1e6,
    tie_word_embeddings=True,
    bos_token_id=100,
    eos_token_id=100,
    pad_token_id=None,
    layer_norm_epsilon=1e-5,
    linear_bias=True,
    gegelu_limit=2.0,  # low enough to be reached
    block_sparse=BlockSparse(block_size=4, num_local_blocks=2, vert_stride=3),
    mup_embedding_multiplier=10.0,
    mup_width_multiplier=8.0,
    mup_attn_multiplier=1.0,
    dummy_token_indices=(7, 101, 119),
)
LONG = replace(
    CONFIG,
    original_max_position_embeddings=32,
    short_factor=(1.0, 1.1, 1.2, 1.3),
    long_factor=(1.0, 2.0, 4.0, 8.0),
    short_mscale=1.1,
    long_mscale=1.4,
)
SMALLEST = torch.finfo(torch.float32).min


def published(config):
    """Random tensors under the names and in the shapes of the published checkpoint."""
    d, f, c = config.hidden_size, config.intermediate_size, config.head_dim
    h, n = config.num_attention_heads, config.num_key_value_heads
    linears = {
        "self_attn.query_key_value": ((h + 2 * n) * c, d),
        "self_attn.dense": (d, d),
        "mlp.up_proj": (2 * f, d),
        "mlp.down_proj": (d, f),
    }
    shapes = {"model.embed_tokens.weight": (config.vocab_size, d)}
    for layer in range(config.num_hidden_layers):
        for name, (outputs, inputs) in linears.items():
            shapes[f"model.layers.{layer}.{name}.weight"] = (outputs, inputs)
            shapes[f"model.layers.{layer}.{name}.bias"] = (outputs,)
        for part in ("input_layernorm", "post_attention_layernorm"):
            for kind in ("weight", "bias"):
                shapes[f"model.layers.{layer}.{part}.{kind}"] = (d,)
    shapes |= {"model.final_layernorm.weight": (d,), "model.final_layernorm.bias": (d,)}
    torch.manual_seed(13)
    return {
        name: 0.3 * torch.randn(shape) + (1.0 if "layernorm.weight" in name else 0.0)
        for name, shape in shapes.items()
    }


def sees(config, layer, head, query, key):
    """The rule of the mask for two positions of a document, in the reference's words."""
    rule = config.block_sparse
    i, j = query // rule.block_size, key // rule.block_size
    if key > query or (layer + 1) % rule.dense_attention_every_n_layers == 0:
        return key <= query
    step = max(1, int(rule.vert_stride / config.num_attention_heads))
    return i - j < rule.num_local_blocks or (j + head * step + 1) % rule.vert_stride == 0


def reference(config, tensors, ids):
    """Logits of one document, (t) → (t v), straight from the published code."""
    w = {name: tensor.double() for name, tensor in tensors.items()}
    d, c, h, n = (
        config.hidden_size, config.head_dim, config.num_attention_heads, config.num_key_value_heads,
    )  # fmt: skip
    t, eps = len(ids), config.layer_norm_epsilon
    stretch, m = config.rope_theta ** (torch.arange(0, c, 2).double() / c), 1.0
    if config.long_factor:
        long = t > config.original_max_position_embeddings
        stretch = stretch * torch.tensor(config.long_factor if long else config.short_factor).double()
        m = config.long_mscale if long else config.short_mscale
    angles = torch.arange(t).double()[:, None] / stretch
    cos, sin = (m * torch.cat((part, part), -1) for part in (angles.cos(), angles.sin()))

    def turned(x):
        return x * cos + torch.cat((-x[..., c // 2 :], x[..., : c // 2]), -1) * sin

    x = w["model.embed_tokens.weight"][ids] * config.mup_embedding_multiplier
    for layer in range(config.num_hidden_layers):
        part = {
            name.removeprefix(f"model.layers.{layer}."): tensor
            for name, tensor in w.items()
            if name.startswith(f"model.layers.{layer}.")
        }

        def linear(x, name, part=part):
            return x @ part[f"{name}.weight"].T + part[f"{name}.bias"]

        def normed(x, name, part=part):
            return F.layer_norm(x, (d,), part[f"{name}.weight"], part[f"{name}.bias"], eps)

        fused = linear(normed(x, "input_layernorm"), "self_attn.query_key_value").view(t, n, h // n + 2, c)
        queries = turned(fused[:, :, :-2].reshape(t, h, c).transpose(0, 1))
        keys = turned(fused[:, :, -2].transpose(0, 1)).repeat_interleave(h // n, 0)
        values = fused[:, :, -1].transpose(0, 1).repeat_interleave(h // n, 0)
        mask = torch.tensor(
            [[[sees(config, layer, a, i, j) for j in range(t)] for i in range(t)] for a in range(h)]
        )
        scores = queries @ keys.mT * (config.mup_attn_multiplier / c)
        mixed = scores.masked_fill(~mask, float("-inf")).softmax(-1) @ values
        x = x + linear(mixed.transpose(0, 1).reshape(t, d), "self_attn.dense")
        both = linear(normed(x, "post_attention_layernorm"), "mlp.up_proj")
        gate = both[..., ::2].clamp(max=config.gegelu_limit)
        up = both[..., 1::2].clamp(-config.gegelu_limit, config.gegelu_limit)
        x = x + linear(gate * torch.sigmoid(1.702 * gate) * (up + 1), "mlp.down_proj")
    x = F.layer_norm(x, (d,), w["model.final_layernorm.weight"], w["model.final_layernorm.bias"], eps)
    logits = x @ w["model.embed_tokens.weight"].T / config.mup_width_multiplier
    logits[:, list(config.dummy_token_indices)] = SMALLEST
    return logits


def directory_of(path, config, tensors):
    path.mkdir()
    (path / "config.json").write_text(json.dumps(config.to_hugging_face()))
    save_file(tensors, path / "model.safetensors", metadata={"format": "pt"})
    return path


@pytest.fixture
def directory(tmp_path):
    return directory_of(tmp_path / "small", CONFIG, published(CONFIG))


def some_ids(*lengths):
    generator = torch.Generator().manual_seed(1)
    return [torch.randint(CONFIG.vocab_size, (length,), generator=generator).tolist() for length in lengths]


def difference(mine, theirs):
    """The largest difference of logits, relative to the largest; the dummies must be equal."""
    real = torch.tensor([token not in CONFIG.dummy_token_indices for token in range(CONFIG.vocab_size)])
    assert torch.equal(mine[..., ~real].double(), theirs[..., ~real])
    return float((mine[..., real].double() - theirs[..., real]).abs().max() / theirs[..., real].abs().max())


@pytest.mark.parametrize("config", [CONFIG, LONG], ids=["8k", "128k"])
@pytest.mark.parametrize("traced", [False, True])
def test_equals_the_second_implementation(tmp_path, config, traced):
    tensors = published(config)
    model = tinyphi.load_model(directory_of(tmp_path / "small", config, tensors), dtype=torch.float64)
    assert model.config == config
    for length in (1, 7, 32, 33, 75):
        (row,) = some_ids(length)
        with torch.no_grad():
            mine = model(torch.tensor([row]), trace=Trace() if traced else None)[0]
        assert difference(mine, reference(config, tensors, row)) < 1e-6, length  # logits come in float32


def test_padded_packed_and_cached_rows_too(directory):
    model, tensors = tinyphi.load_model(directory, dtype=torch.float64), published(CONFIG)
    rows = some_ids(50, 31, 3)
    theirs = [reference(CONFIG, tensors, row) for row in rows]
    ids, segments = left_pad(rows)
    with torch.no_grad():
        padded = model(ids, segments)
        cache = model.new_cache(3)
        cuts = [slice(0, 21), slice(21, 40), *(slice(i, i + 1) for i in range(40, 50))]
        cached = torch.cat([model(ids[:, cut], segments[:, cut], cache=cache) for cut in cuts], dim=1)
        packed = model(
            torch.tensor([[token for row in rows for token in row]]),
            torch.tensor([[number + 1 for number, row in enumerate(rows) for _ in row]]),
        )[0].split([50, 31, 3])
        traced = model(ids, segments, trace=Trace())
    for number, expected in enumerate(theirs):
        for name, mine in (("padded", padded), ("cached", cached), ("traced", traced)):
            assert difference(mine[number, -len(expected) :], expected) < 1e-6, name
        assert difference(packed[number], expected) < 1e-6


def read_as_it_lies(place, parameter, stored):
    stored.copy_into(place.of(parameter))


def without_bias(layer, x):
    return F.layer_norm(x, layer.weight.shape, layer.weight, None, layer.eps)


mlp_gegelu = mlp.gegelu
MISTAKES = {
    "rows of phi3 in place of groups": (names.Place, "fill", read_as_it_lies),
    "gelu without + 1": (mlp, "gegelu", lambda gate, up, limit: mlp_gegelu(gate, up - 1, limit)),
    "no limit": (mlp, "gegelu", lambda gate, up, limit: mlp_gegelu(gate, up, 1e9)),
    "a norm without its bias": (norm.LayerNorm, "forward", without_bias),
    "1/√c": (PhiConfig, "query_scale", 1.0),
    "all layers dense": (BlockSparse, "rules", lambda self, layer: False),
    "all layers sparse": (BlockSparse, "rules", lambda self, layer: True),
    "odd layers sparse": (BlockSparse, "rules", lambda self, layer: layer % 2 == 1),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_planted_mistake_is_noticed(directory, monkeypatch, mistake):
    monkeypatch.setattr(*MISTAKES[mistake])
    model, (row,) = tinyphi.load_model(directory, dtype=torch.float64), some_ids(60)
    with torch.no_grad():
        mine = model(torch.tensor([row]))[0]
    assert difference(mine, reference(CONFIG, published(CONFIG), row)) > 1e-3


def test_saving_writes_the_published_layout(tmp_path, directory):
    model = tinyphi.load_model(directory)
    tinyphi.save(model, None, tmp_path / "again", max_shard_bytes=30_000)
    stored = {}
    for shard in (tmp_path / "again").glob("*.safetensors"):
        stored |= load_file(shard)
    tensors = published(CONFIG)
    assert stored.keys() == tensors.keys()
    assert all(torch.equal(stored[name], tensor) for name, tensor in tensors.items())
    again = tinyphi.load_model(tmp_path / "again")
    assert again.config == CONFIG
    ids = torch.tensor(some_ids(40))
    with torch.no_grad():
        assert torch.equal(again(ids), model(ids))


def in_plain_torch(model):
    """The native kernel rounds what it is given to 8 bits, which would hide small mistakes."""
    for part in model.modules():
        if isinstance(part, GroupedLinear):
            part.use("reference")
    return model


@pytest.mark.parametrize("method", ["int8", "int4", "nf4", "q8_0", "q4_1"])
def test_quantizing_leaves_the_biases(tmp_path, directory, method):
    model, exact = tinyphi.load_model(directory), tinyphi.load_model(directory)
    ids = torch.tensor(some_ids(40))
    report = quantize(model, method, ids=ids, keep={} if method == "int8" else None)
    assert all(layer.output_error < 0.2 for layer in report.layers)
    rounded = tinyphi.load_model(directory)
    with torch.no_grad():
        for name, linear in model.named_modules():
            if hasattr(linear, "dequantize") and "layers" in name:
                assert torch.equal(linear.bias, exact.get_submodule(name).bias)
                rounded.get_submodule(name).weight.copy_(linear.dequantize())
        rounded.embed_tokens.weight.copy_(model.lm_head.dequantize())
        mine, theirs = in_plain_torch(model)(ids), rounded(ids)
        assert difference(mine, theirs.double()) < 1e-4
        tinyphi.save(model, None, tmp_path / "quantized")
        for again in (
            tinyphi.load_model(tmp_path / "quantized"),
            tinyphi.load_model(directory, quantize=method),
        ):
            assert difference(in_plain_torch(again)(ids), mine.double()) < 1e-4
        assert difference(model.double()(ids), mine.double()) < 1e-4
    assert model.layers[0].mlp.down_proj.bias.dtype == torch.float64


def test_gptq_works_and_awq_says_why_not(directory):
    ids = torch.tensor(some_ids(60, 60, 60))
    model = tinyphi.load_model(directory)
    report = quantize(model, "gptq", group_size=32, ids=ids)
    assert report.change.divergence < 0.1
    with pytest.raises(InputError, match="GEGLU"):
        quantize(tinyphi.load_model(directory), "awq", group_size=32, ids=ids)


def test_what_phi3_small_cannot_do_says_so(tmp_path, directory):
    model = tinyphi.load_model(directory)
    with pytest.raises(InputError, match="block-sparse"):
        model.compile()
    with pytest.raises(ConfigError, match="no architecture"):
        export_gguf(model, None, tmp_path / "small.gguf")


def test_a_missing_bias_is_named(tmp_path):
    tensors = published(CONFIG)
    del tensors["model.layers.2.mlp.up_proj.bias"]
    with pytest.raises(WeightsError, match=r"1 missing: 'model.layers.2.mlp.up_proj.bias'"):
        tinyphi.load_model(directory_of(tmp_path / "small", CONFIG, tensors))


def test_the_dummies_are_never_generated(directory):
    model = tinyphi.load_model(directory)
    with torch.no_grad():
        model.embed_tokens.weight[119] *= 50  # which would win often
    out = tinyphi.generate(model, some_ids(5)[0], max_new_tokens=30)
    assert not set(out.ids[0]) & set(CONFIG.dummy_token_indices)


def test_gradients_pass_through_the_sparse_layers(directory):
    model = tinyphi.load_model(directory, dtype=torch.float64)
    ids = torch.tensor(some_ids(60))
    model(ids)[..., 5].sum().backward()
    sparse = model.layers[0].attention.qkv_proj.weight.grad.clone()
    model.zero_grad()
    model(ids, trace=Trace())[..., 5].sum().backward()
    dense = model.layers[0].attention.qkv_proj.weight.grad
    torch.testing.assert_close(sparse, dense, rtol=1e-5, atol=1e-5 * float(dense.abs().max()))
