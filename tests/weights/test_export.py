"""An exported GGUF file holds the model: for gguf's reader, for tinyphi, and for llama.cpp, which runs it."""

import os
from dataclasses import replace

import gguf
import numpy as np
import pytest
import torch

import tinyphi
from tinyphi.config import PhiConfig
from tinyphi.errors import ConfigError, FetchError, InputError, TokenizerError, WeightsError
from tinyphi.model.norm import RMSNorm
from tinyphi.model.transformer import Phi3
from tinyphi.quant.gguf_blocks import BLOCK_FORMATS, BlockLinear, to_grouped
from tinyphi.quant.groupwise import Grouped
from tinyphi.quant.linear import GroupedLinear, QuantizedEmbedding
from tinyphi.tokenizer import from_gguf
from tinyphi.tokenizer.bytebpe import BYTE_TO_LETTER
from tinyphi.tokenizer.chat import STYLES
from tinyphi.weights import export as module
from tinyphi.weights.export import export_gguf
from tinyphi.weights.fetch import resolve

BASE = {
    "vocab_size": 320,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
    "original_max_position_embeddings": 512,
    "eos_token_id": 290,
    "pad_token_id": 290,
}
CONFIGS = {
    "plain": {"sliding_window": 2047},
    "all heads": {"num_key_value_heads": 4, "rms_norm_eps": 1e-6, "rope_theta": 1e5},
    "tied": {"tie_word_embeddings": True},
    "partial": {"partial_rotary_factor": 0.75},
    "longrope": {
        "max_position_embeddings": 2048,
        "original_max_position_embeddings": 256,
        "short_factor": tuple(1 + 0.125 * pair for pair in range(8)),
        "long_factor": tuple(1 + 0.875 * pair for pair in range(8)),
    },
}
KINDS = ("f32", "f16", "bf16", *BLOCK_FORMATS)


def random_model(**changes):
    torch.manual_seed(7)
    model = Phi3(PhiConfig(**{**BASE, **changes})).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(0.2 * torch.randn_like(parameter))
        for part in model.modules():
            if isinstance(part, RMSNorm):
                part.weight.uniform_(0.5, 1.5)
    return model


def phi3_tokenizer(release="phi-3-mini"):
    """Byte pieces, a few letters and their merges, and Phi-3's special tokens: 299 of them."""
    letters = [*"▁abcdefghijklmnop", "▁a", "ab", "▁ab", "cd", "ef", "▁cd", "gh", "op"]
    special = "<|endoftext|> <|assistant|> <|system|> <|end|> <|user|>".split()
    tokens = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256)), *letters]
    tokens += [f"<|placeholder{number}|>" for number in range(290 - len(tokens))] + special
    return from_gguf(
        {
            "tokenizer.ggml.model": "llama",
            "tokenizer.ggml.tokens": tokens,
            "tokenizer.ggml.scores": [0.0] * 259 + [float(-id) for id in range(len(tokens) - 259)],
            "tokenizer.ggml.token_type": [2, 3, 3] + [6] * 256 + [1] * 25 + [3] * (len(tokens) - 284),
            "tokenizer.ggml.bos_token_id": 1,
            "tokenizer.ggml.eos_token_id": 290,
            "tokenizer.ggml.padding_token_id": 290,
            "tokenizer.ggml.add_bos_token": release == "phi-3-april-2024",
            "tokenizer.chat_template": STYLES[release].jinja,
        }
    )


def byte_bpe_tokenizer():
    """SmolLM2's kind: the 256 bytes and a few merges."""
    merges = ["a b", "ab c", "Ġ a", "Ġa b", "d e"]
    tokens = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", *BYTE_TO_LETTER.values()]
    tokens += [merge.replace(" ", "") for merge in merges]
    return from_gguf(
        {
            "tokenizer.ggml.model": "gpt2",
            "tokenizer.ggml.pre": "smollm",
            "tokenizer.ggml.tokens": tokens,
            "tokenizer.ggml.token_type": [3] * 3 + [1] * (len(tokens) - 3),
            "tokenizer.ggml.merges": merges,
            "tokenizer.ggml.bos_token_id": 1,
            "tokenizer.ggml.eos_token_id": 2,
            "tokenizer.ggml.padding_token_id": 2,
            "tokenizer.chat_template": STYLES["smollm2"].jinja,
        }
    )


TEXTS = [
    "ab abc  cd\n\nef 12 é世🌍",
    "<|user|>\nab<|end|>\n<|assistant|>\n cd<|end|>",
    "<|im_start|>user\nab<|im_end|>\n\t cd",
    " a</s>  b<unk> c<s> d<|endoftext|> e",
]


def decoded_by_gguf(path):
    """Name → (type, numbers in torch's shape), by gguf's own reader."""
    return {
        tensor.name: (
            tensor.tensor_type.name,
            gguf.quants.dequantize(tensor.data, tensor.tensor_type).reshape(tuple(reversed(tensor.shape))),
        )
        for tensor in gguf.GGUFReader(path).tensors
    }


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", CONFIGS)
def test_tinyphi_loads_the_model_again(tmp_path, name, kind):
    model, tokenizer = random_model(**CONFIGS[name]), phi3_tokenizer()
    report = export_gguf(model, tokenizer, tmp_path / "model.gguf", kind)
    again, _ = tinyphi.load(tmp_path / "model.gguf")
    assert again.config == model.config
    stored = decoded_by_gguf(tmp_path / "model.gguf")
    assert {name: type for name, (type, _) in stored.items()} == report.types
    for (name, mine), theirs in zip(again.named_parameters(), model.parameters(), strict=True):
        if kind == "f32" or mine.ndim == 1:
            assert torch.equal(mine, theirs), name
        else:
            assert (mine - theirs).norm() <= 0.1 * theirs.norm(), name
    for name, place in module.places(model.config, module.LAYOUTS["gguf phi3"]).items():
        np.testing.assert_array_equal(stored[name][1], again.get_parameter(place.parameter).detach())
    assert [path.name for path in tmp_path.iterdir()] == ["model.gguf"]


@pytest.mark.parametrize("kind", BLOCK_FORMATS)
def test_matrices_are_quantized_as_gguf_does(tmp_path, kind):
    model = random_model(hidden_size=256)
    report = export_gguf(model, phi3_tokenizer(), tmp_path / "model.gguf", kind)
    wanted = {"q4_k": {"Q4_K", "Q4_1", "F32"}, "q6_k": {"Q6_K", "Q8_0", "F32"}}
    assert set(report.types.values()) == wanted.get(kind, {kind.upper(), "F32"})
    # The rows of down_proj have 96 numbers, which are no whole blocks of 256.
    down = [f"blk.{layer}.ffn_down.weight" for layer in range(2)]
    assert report.fallbacks == (down if kind in wanted else [])
    for name, (type, numbers) in decoded_by_gguf(tmp_path / "model.gguf").items():
        place = module.places(model.config, module.LAYOUTS["gguf phi3"])[name]
        weight = model.get_parameter(place.parameter).detach()
        if type in ("Q8_0", "Q4_0", "Q4_1"):
            reference = gguf.GGMLQuantizationType[type]
            weight = gguf.quants.dequantize(gguf.quants.quantize(weight.numpy(), reference), reference)
            np.testing.assert_array_equal(numbers, weight)


def test_rows_of_odd_width_are_kept_in_float16(tmp_path):
    model = random_model(hidden_size=48, intermediate_size=96)
    report = export_gguf(model, phi3_tokenizer(), tmp_path / "model.gguf", "q4_k")
    assert set(report.types.values()) == {"F32", "F16", "Q4_1"}
    assert report.types["token_embd.weight"] == "F16"
    assert report.types["blk.0.ffn_down.weight"] == "Q4_1"
    assert len(report.fallbacks) == 2 + 2 * 4


@pytest.mark.parametrize("name", CONFIGS)
def test_the_metadata_are_those_of_the_specification(tmp_path, name):
    model = random_model(**CONFIGS[name])
    export_gguf(model, phi3_tokenizer(), tmp_path / "model.gguf")
    config, keys = model.config, gguf.Keys
    expected = {
        keys.General.ARCHITECTURE: "phi3",
        keys.General.NAME: "Phi-3",
        keys.General.QUANTIZATION_VERSION: gguf.GGML_QUANT_VERSION,
        keys.LLM.CONTEXT_LENGTH: config.max_position_embeddings,
        keys.LLM.EMBEDDING_LENGTH: config.hidden_size,
        keys.LLM.FEED_FORWARD_LENGTH: config.intermediate_size,
        keys.LLM.BLOCK_COUNT: config.num_hidden_layers,
        keys.Attention.HEAD_COUNT: config.num_attention_heads,
        keys.Attention.HEAD_COUNT_KV: config.num_key_value_heads,
        keys.Attention.LAYERNORM_RMS_EPS: float(np.float32(config.rms_norm_eps)),
        keys.Attention.SLIDING_WINDOW: config.sliding_window or 0,
        keys.Rope.DIMENSION_COUNT: config.rotary_dim,
        keys.Rope.FREQ_BASE: config.rope_theta,
        keys.Rope.SCALING_ORIG_CTX_LEN: config.original_max_position_embeddings,
        keys.Rope.SCALING_ATTN_FACTOR: float(np.float32(config.attention_factor)),
        keys.Tokenizer.ADD_BOS: False,
        keys.Tokenizer.BOS_ID: 1,
        keys.Tokenizer.EOS_ID: 290,
        keys.Tokenizer.PAD_ID: 290,
        keys.Tokenizer.UNK_ID: 0,
    }
    reader = gguf.GGUFReader(tmp_path / "model.gguf")
    for key, value in expected.items():
        assert reader.fields[key.format(arch="phi3")].contents() == value, key
    kinds = {"tokens": "STRING", "scores": "FLOAT32", "token_type": "INT32"}  # llama.cpp takes no others
    for list_name, kind in kinds.items():
        stored = reader.fields[f"tokenizer.ggml.{list_name}"]
        assert len(stored.contents()) == config.vocab_size
        assert [type.name for type in stored.types] == ["ARRAY", kind]
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.PHI3, config.num_hidden_layers)
    known = {names.get_name(f"{name}", try_suffixes=(".weight",)) for name in hugging_face_names(config)}
    extra = {"rope_factors_long.weight", "rope_factors_short.weight"} if config.long_factor else set()
    assert {tensor.name for tensor in reader.tensors} == known | extra
    for tensor in reader.tensors:
        if tensor.name in extra:
            factors = config.long_factor if "long" in tensor.name else config.short_factor
            assert tensor.data.tolist() == list(factors)


def hugging_face_names(config):
    return module.places(config, module.LAYOUTS["phi3"])


@pytest.mark.parametrize("kind", ["phi-3-mini", "phi-3-april-2024", "byte BPE"])
def test_the_tokenizer_comes_back(tmp_path, kind):
    tokenizer = byte_bpe_tokenizer() if kind == "byte BPE" else phi3_tokenizer(kind)
    export_gguf(random_model(), tokenizer, tmp_path / "model.gguf")
    again = tinyphi.load_tokenizer(tmp_path / "model.gguf")
    assert type(again) is type(tokenizer)
    for fact in "vocab_size bos_id eos_id pad_id stop_ids special_tokens adds_bos chat_template".split():
        assert getattr(again, fact) == getattr(tokenizer, fact), fact
    for text in TEXTS:
        for special in (True, False):
            assert again.encode(text, special) == tokenizer.encode(text, special)


# Quantized models


def with_layers(model, make):
    """Replace every linear layer by `make(weight)`; a tied head also serves the embedding."""
    for layer in model.layers:
        for part, name in (
            (layer.attention, "qkv_proj"),
            (layer.attention, "o_proj"),
            (layer.mlp, "down_proj"),
        ):
            setattr(part, name, make(getattr(part, name).weight.detach()))
    model.lm_head = make(model.lm_head.weight.detach())
    if model.config.tie_word_embeddings:
        model.embed_tokens = QuantizedEmbedding(model.lm_head, torch.float32)
    return model


def other_rounding(weight, kind):
    """Groups that no export would make of the weight: the scales are a third too large."""
    blocks = BLOCK_FORMATS[kind].quantize(weight)
    blocks[:, :2] = (blocks[:, :2].view(torch.float16) * 1.3).view(torch.uint8)
    return GroupedLinear(to_grouped(blocks, kind, tuple(weight.shape)))


@pytest.mark.parametrize("kind", ["q8_0", "q4_0", "q4_1"])
def test_groups_of_32_are_copied_code_by_code(tmp_path, kind):
    model = random_model(tie_word_embeddings=True)
    model = with_layers(model, lambda weight: other_rounding(weight, kind))
    report = export_gguf(model, phi3_tokenizer(), tmp_path / "model.gguf", kind)
    assert len(report.unchanged) == 2 * 3 + 1
    again = tinyphi.load_model(tmp_path / "model.gguf")
    for before, after in zip(model.layers, again.layers, strict=True):
        assert torch.equal(after.attention.qkv_proj.weight, before.attention.qkv_proj.dequantize())
        assert torch.equal(after.mlp.down_proj.weight, before.mlp.down_proj.dequantize())
    assert torch.equal(again.embed_tokens.weight, model.lm_head.dequantize())
    # In another type, the same numbers are quantized anew.
    other = "q4_1" if kind == "q4_0" else "q4_0"
    assert export_gguf(model, phi3_tokenizer(), tmp_path / "other.gguf", other).unchanged == []
    name = "blk.0.attn_output.weight"
    numbers = BLOCK_FORMATS[other].quantize(model.layers[0].attention.o_proj.dequantize())
    expected = BLOCK_FORMATS[other].dequantize(numbers).view(64, 64)
    np.testing.assert_array_equal(decoded_by_gguf(tmp_path / "other.gguf")[name][1], expected)


def test_blocks_are_copied_and_other_groups_are_not(tmp_path):
    def blocks(weight):
        return BlockLinear(BLOCK_FORMATS["q6_k"].quantize(1.1 * weight), "q6_k", tuple(weight.shape))

    model = with_layers(random_model(hidden_size=256, intermediate_size=256), blocks)
    report = export_gguf(model, phi3_tokenizer(), tmp_path / "model.gguf", "q6_k")
    assert len(report.unchanged) == 7
    again = tinyphi.load_model(tmp_path / "model.gguf")
    assert torch.equal(again.lm_head.weight, model.lm_head.dequantize())

    def wide_groups(weight):
        codes = torch.randint(16, weight.shape, dtype=torch.uint8)
        return GroupedLinear(Grouped(codes, torch.full((len(weight), weight.shape[1] // 64), 0.01).half()))

    model = with_layers(random_model(hidden_size=128, intermediate_size=128), wide_groups)
    assert export_gguf(model, phi3_tokenizer(), tmp_path / "wide.gguf", "q4_0").unchanged == []
    again = tinyphi.load_model(tmp_path / "wide.gguf")
    assert (again.lm_head.weight - model.lm_head.dequantize()).abs().max() <= 0.02


# What goes wrong


class Failing:
    """Fails like a full disk or an impatient user when the call `count` comes."""

    def __init__(self, function, count, error):
        self.function, self.left, self.error = function, count, error

    def __call__(self, *arguments):
        self.left -= 1
        if self.left < 0:
            raise self.error
        return self.function(*arguments)


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
@pytest.mark.parametrize("count", [0, 5])
def test_an_interrupted_export_leaves_what_was_there(tmp_path, monkeypatch, error, count):
    model, tokenizer = random_model(), phi3_tokenizer()
    export_gguf(model, tokenizer, tmp_path / "model.gguf")
    before = (tmp_path / "model.gguf").read_bytes()
    monkeypatch.setattr(module, "_as_bytes", Failing(module._as_bytes, count, error))
    expected = WeightsError if isinstance(error, OSError) else KeyboardInterrupt
    for name in ("model.gguf", "new.gguf"):
        module._as_bytes.left = count
        with pytest.raises(expected, match="cannot be exported" if expected is WeightsError else None):
            export_gguf(random_model(tie_word_embeddings=True), tokenizer, tmp_path / name)
    assert [path.name for path in tmp_path.iterdir()] == ["model.gguf"]
    assert (tmp_path / "model.gguf").read_bytes() == before


def test_what_cannot_be_exported_says_so(tmp_path):
    model, tokenizer, path = random_model(), phi3_tokenizer(), tmp_path / "model.gguf"
    with pytest.raises(InputError, match="no number type 'q5_0'; choose one of f32, "):
        export_gguf(model, tokenizer, path, "q5_0")
    with pytest.raises(WeightsError, match=r"must end in \.gguf"):
        export_gguf(model, tokenizer, tmp_path / "model.bin")
    with pytest.raises(TokenizerError, match="only 200 rows"):
        export_gguf(random_model(vocab_size=200, eos_token_id=2, pad_token_id=2), tokenizer, path)
    model.config = replace(model.config, rms_norm_eps=1e-60)
    with pytest.raises(ConfigError, match="rms_norm_eps"):
        export_gguf(model, tokenizer, path)
    pairs = (1.0,) * (model.config.rotary_dim // 2)
    model.config = replace(random_model().config, short_factor=pairs, long_factor=pairs, long_mscale=1.2)
    with pytest.raises(ConfigError, match="one attention factor"):
        export_gguf(model, tokenizer, path)
    model = random_model()
    with torch.no_grad():
        model.layers[1].mlp.down_proj.weight[3, 4] = 1e5
    with pytest.raises(
        InputError, match=r"blk\.1\.ffn_down\.weight cannot be stored as f16\. .*beyond 6\.55e\+04"
    ):
        export_gguf(model, tokenizer, path, "f16")
    with pytest.raises(InputError, match=r"blk\.1\.ffn_down\.weight cannot be stored as q4_0\. .*NaN"):
        export_gguf(model, tokenizer, path, "q4_0")
    assert list(tmp_path.iterdir()) == []
    path.mkdir()
    with pytest.raises(WeightsError, match="cannot be exported"):
        export_gguf(random_model(), tokenizer, path)
    assert list(tmp_path.iterdir()) == [path]


# llama.cpp


@pytest.fixture(scope="module")
def llama_cpp():
    """llama.cpp. Without it: skipped, but an error where it is promised."""
    try:
        import llama_cpp
    except (ImportError, OSError, RuntimeError) as error:
        reason = f"llama.cpp is not here ({error}); pip install llama-cpp-python"
        if os.environ.get("TINYPHI_NEED_LLAMACPP"):
            pytest.fail(reason)
        pytest.skip(reason)
    return llama_cpp


class Llama:
    """llama.cpp on one thread; its cache in float32, so that it computes what tinyphi computes."""

    def __init__(self, llama_cpp, path, context):
        self.llama = llama_cpp.Llama(
            str(path),
            n_ctx=context,
            n_threads=1,
            n_threads_batch=1,
            logits_all=True,
            type_k=llama_cpp.GGML_TYPE_F32,
            type_v=llama_cpp.GGML_TYPE_F32,
            verbose=False,
        )

    def logits(self, ids):
        self.llama.reset()
        self.llama.eval(ids)
        return np.array(self.llama.scores[: len(ids)])

    def greedy(self, ids, count):
        self.llama.reset()
        self.llama.eval(ids)
        for _ in range(count):
            ids = [*ids, int(self.llama.scores[len(ids) - 1].argmax())]
            self.llama.eval(ids[-1:])
        return ids

    def encode(self, text, special, adds_bos):
        return self.llama.tokenize(text.encode(), add_bos=adds_bos, special=special)


def greedy(model, ids, count):
    cache, new = model.new_cache(), torch.tensor([ids])
    with torch.no_grad():
        for _ in range(count):
            new = model(new, cache=cache)[:, -1:].argmax(-1)
            ids = [*ids, int(new)]
    return ids


def difference(model, llama, ids):
    """Largest difference of the logits, relative to their scale."""
    with torch.no_grad():
        mine = model(torch.tensor([ids]))[0].numpy()
    return float(np.abs(mine - llama.logits(ids)).max() / np.abs(mine).max())


def some_ids(count):
    return torch.randint(3, 284, (count,), generator=torch.Generator().manual_seed(0)).tolist()


# llama.cpp takes LongRoPE's long factors when its context (a multiple of 256) exceeds the original one.
CASES = [(name, 300, 512) for name in CONFIGS] + [("longrope", 200, 256)]


@pytest.mark.parametrize(("name", "tokens", "context"), CASES)
def test_llama_cpp_computes_the_same(tmp_path, llama_cpp, name, tokens, context):
    model = random_model(**CONFIGS[name])
    export_gguf(model, phi3_tokenizer(), tmp_path / "model.gguf", "f32")
    llama = Llama(llama_cpp, tmp_path / "model.gguf", context)
    assert difference(model, llama, some_ids(tokens)) <= 1e-4
    assert llama.greedy(some_ids(tokens), 40) == greedy(model, some_ids(tokens), 40)


@pytest.mark.parametrize("context", [256, 2048])
def test_nano_says_the_same_in_llama_cpp(tmp_path, llama_cpp, context):
    """Up to 256 tokens of context llama.cpp turns by the short factors, beyond by the long ones."""
    model, tokenizer = tinyphi.load("tinyphi-nano")
    export_gguf(model, tokenizer, tmp_path / "nano.gguf", "f32")
    llama = Llama(llama_cpp, tmp_path / "nano.gguf", context)
    story = " ".join(["Ada lost her key under the old bridge, and Ben found it in the evening."] * 20)
    texts = ["What is 27 + 15?", "Who is the best friend of Ada?", "Tell me a story about Ben."]
    for text in texts if context == 256 else [story]:
        ids = tokenizer.encode_chat([{"role": "user", "content": text}])
        assert (len(ids) > 256) == (context > 256)
        assert llama.greedy(ids, 60) == greedy(model, ids, 60)


PLANTED = {
    "short and long factors swapped": ("ROPE_FACTORS", module.ROPE_FACTORS[::-1]),
    "no attention factor": (
        "_metadata",
        lambda config, right=module._metadata: right(config) | {"phi3.rope.scaling.attn_factor": 1.0},
    ),
    "another base of the rotation": (
        "_metadata",
        lambda config, right=module._metadata: right(config) | {"phi3.rope.freq_base": 9000.0},
    ),
    "gate and up swapped": (
        "_as_bytes",
        lambda rows, kind, right=module._as_bytes: right(
            rows.roll(96, 0) if rows.shape == (192, 64) else rows, kind
        ),
    ),
}


@pytest.mark.parametrize("mistake", PLANTED)
def test_llama_cpp_notices_a_planted_mistake(tmp_path, monkeypatch, llama_cpp, mistake):
    model = random_model(**CONFIGS["longrope"])
    monkeypatch.setattr(module, *PLANTED[mistake])
    export_gguf(model, phi3_tokenizer(), tmp_path / "model.gguf", "f32")
    assert difference(model, Llama(llama_cpp, tmp_path / "model.gguf", 512), some_ids(300)) > 1e-2


@pytest.mark.parametrize("kind", KINDS[1:])
def test_llama_cpp_reads_every_number_type(tmp_path, llama_cpp, kind):
    """Only close: llama.cpp rounds what it multiplies blocks with to 8 bits, and half precision to that."""
    model = random_model(hidden_size=256, intermediate_size=256, tie_word_embeddings=True)
    with torch.no_grad():
        for layer in model.layers:  # sharp attention would turn small differences into large ones
            layer.attention.qkv_proj.weight *= 0.2
    export_gguf(model, phi3_tokenizer(), tmp_path / "model.gguf", kind)
    stored, llama = (
        tinyphi.load_model(tmp_path / "model.gguf"),
        Llama(llama_cpp, tmp_path / "model.gguf", 256),
    )
    close = difference(stored, llama, some_ids(50))
    assert close <= (0.06 if kind in BLOCK_FORMATS else 0.02)
    if kind in ("q4_0", "q4_1", "q4_k"):
        assert difference(model, llama, some_ids(50)) > 3 * close  # the rounding of the weights


@pytest.mark.parametrize("kind", ["phi-3-mini", "phi-3-april-2024", "byte BPE"])
def test_llama_cpp_encodes_the_same(tmp_path, llama_cpp, kind):
    tokenizer = byte_bpe_tokenizer() if kind == "byte BPE" else phi3_tokenizer(kind)
    export_gguf(random_model(), tokenizer, tmp_path / "model.gguf")
    llama = Llama(llama_cpp, tmp_path / "model.gguf", 256)
    for text in TEXTS:
        for special in (True, False):
            assert llama.encode(text, special, tokenizer.adds_bos) == tokenizer.encode(text, special)


@pytest.mark.slow
def test_smollm2_speaks_the_same_in_llama_cpp(tmp_path, llama_cpp):
    try:
        model, tokenizer = tinyphi.load(resolve("smollm2-135m"))
    except FetchError as error:
        pytest.skip(f"the model is not here and cannot be fetched: {error}")
    export_gguf(model, tokenizer, tmp_path / "model.gguf", "f32")
    llama = Llama(llama_cpp, tmp_path / "model.gguf", 256)
    for prompt in ("The capital of France is", "def fibonacci(n):\n"):
        ids = tokenizer.encode(prompt)
        assert llama.encode(prompt, False, False) == ids
        assert llama.greedy(ids, 32) == greedy(model, ids, 32)
