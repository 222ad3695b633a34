"""A saved model opens in transformers and in tinyphi with equal logits; saving damages no directory."""

import random
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

import tinyphi
from tinyphi.config import PhiConfig
from tinyphi.errors import FetchError, WeightsError
from tinyphi.model.norm import RMSNorm
from tinyphi.model.transformer import Phi3
from tinyphi.weights import save as module
from tinyphi.weights.fetch import resolve

BASE = {
    "vocab_size": 160,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
    "eos_token_id": 2,
    "pad_token_id": 2,
}
CONFIGS = {
    "plain": {"sliding_window": 9},
    "tied": {"tie_word_embeddings": True, "rms_norm_eps": 1e-6, "rope_theta": 1e5},
    "no special ids": {"bos_token_id": None, "eos_token_id": None, "pad_token_id": None},
    "longrope": {
        "original_max_position_embeddings": 16,
        "short_factor": tuple(1 + 0.1 * pair for pair in range(6)),
        "long_factor": tuple(1 + 0.9 * pair for pair in range(6)),
        "partial_rotary_factor": 0.75,
    },
}


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


def same_logits(model, path, dtype=torch.float32) -> bool:
    """Whether transformers computes the model's logits from the directory."""
    reference = AutoModelForCausalLM.from_pretrained(path, dtype="auto").eval()
    assert type(reference).__name__ == "Phi3ForCausalLM"
    assert reference.dtype == dtype
    ids = torch.randint(160, (2, 40), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        mine, theirs = model(ids), reference(ids).logits
    return bool((mine - theirs).abs().max() <= 1e-5 * theirs.abs().max())


@pytest.mark.parametrize("shard_bytes", [2_000_000_000, 50_000])
@pytest.mark.parametrize("name", CONFIGS)
def test_transformers_opens_it_with_equal_logits(tmp_path, name, shard_bytes):
    model = random_model(**CONFIGS[name])
    tinyphi.save(model, None, tmp_path / "saved", max_shard_bytes=shard_bytes)
    assert same_logits(model, tmp_path / "saved")
    again = tinyphi.load_model(tmp_path / "saved")
    assert again.config == model.config
    for parameter, copy in zip(model.parameters(), again.parameters(), strict=True):
        assert torch.equal(parameter, copy)
    for shard in (tmp_path / "saved").glob("*.safetensors"):
        tensors = load_file(shard).values()
        assert len(tensors) == 1 or sum(tensor.nbytes for tensor in tensors) <= shard_bytes
    assert [path.name for path in tmp_path.iterdir()] == ["saved"]


def test_a_planted_mistake_is_noticed(tmp_path):
    model = random_model()
    tinyphi.save(model, None, tmp_path / "saved")
    with torch.no_grad():
        gate_up = model.layers[1].mlp.gate_up_proj.weight
        gate_up.copy_(torch.cat(gate_up.chunk(2)[::-1]))
    assert not same_logits(model, tmp_path / "saved")


def test_the_dtype_is_kept(tmp_path):
    model = random_model().bfloat16()
    tinyphi.save(model, None, tmp_path / "saved")
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path / "saved", dtype="auto")
    assert loaded.dtype == torch.bfloat16
    assert torch.equal(loaded.lm_head.weight, model.lm_head.weight)


@pytest.mark.parametrize("architecture", ["llama", "phi3"])
def test_a_loaded_llama_model_becomes_phi3(tmp_path, reference, difference, architecture):
    theirs = reference(architecture)
    theirs.save_pretrained(tmp_path / "theirs")
    tinyphi.save(tinyphi.load_model(tmp_path / "theirs"), None, tmp_path / "mine")
    assert difference(tinyphi.load_model(tmp_path / "mine"), theirs) <= 1e-5
    assert same_logits(tinyphi.load_model(tmp_path / "mine"), tmp_path / "mine")


def test_the_tokenizer_and_its_stop_ids_go_along(tmp_path):
    try:
        tokenizer = tinyphi.load_tokenizer(resolve("smollm2-135m"))
    except FetchError as error:
        pytest.skip(f"the tokenizer is not here and cannot be fetched: {error}")
    model = random_model(vocab_size=tokenizer.vocab_size)
    tinyphi.save(model, tokenizer, tmp_path / "saved")
    again, tokenizer_again = tinyphi.load(tmp_path / "saved")
    theirs = AutoTokenizer.from_pretrained(tmp_path / "saved")
    letters = "aZ é世🌍 \n\t0123.,'<|im_end|>"
    source = random.Random(0)
    for _ in range(200):
        text = "".join(source.choices(letters, k=30))
        ids = tokenizer.encode(text, allow_special=True)
        assert tokenizer_again.encode(text, allow_special=True) == ids == theirs.encode(text)
    assert tokenizer_again.stop_ids == tokenizer.stop_ids
    generation = AutoModelForCausalLM.from_pretrained(tmp_path / "saved").generation_config
    assert tuple(generation.eos_token_id) == tokenizer.stop_ids
    assert again.config == model.config


def contents(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in directory.iterdir()}


def test_a_saved_model_is_replaced_whole(tmp_path):
    tinyphi.save(random_model(), None, tmp_path / "saved", max_shard_bytes=50_000)
    model = random_model(**CONFIGS["longrope"])
    tinyphi.save(model, None, tmp_path / "saved")
    assert sorted(contents(tmp_path / "saved")) == [
        "config.json",
        "generation_config.json",
        "model.safetensors",
    ]
    assert same_logits(model, tmp_path / "saved")
    assert [path.name for path in tmp_path.iterdir()] == ["saved"]


def test_a_model_can_be_saved_over_its_own_files(tmp_path):
    tinyphi.save(random_model(), None, tmp_path)
    before = contents(tmp_path)
    tinyphi.save(tinyphi.load_model(tmp_path), None, tmp_path)
    assert contents(tmp_path) == before


def test_other_files_are_never_replaced(tmp_path):
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(WeightsError, match=r"files that are not of a saved model \(thesis.tex\)"):
        tinyphi.save(random_model(), None, tmp_path)
    tinyphi.save(random_model(), None, tmp_path / "saved")
    (tmp_path / "saved" / "notes.md").write_text("mine")
    with pytest.raises(WeightsError, match=r"notes\.md"):
        tinyphi.save(random_model(), None, tmp_path / "saved")
    (tmp_path / "weights").mkdir()
    shutil.copy(tmp_path / "saved" / "model.safetensors", tmp_path / "weights")
    with pytest.raises(WeightsError, match=r"model\.safetensors"):
        tinyphi.save(random_model(), None, tmp_path / "weights")
    with pytest.raises(WeightsError, match="is a file"):
        tinyphi.save(random_model(), None, tmp_path / "thesis.tex")
    assert (tmp_path / "thesis.tex").read_text() == "years of work"


class FullDisk:
    """Fails as a full disk does, when the call `count` comes."""

    def __init__(self, function, count, error):
        self.function, self.left, self.error = function, count, error

    def __call__(self, *arguments, **more):
        self.left -= 1
        if self.left < 0:
            raise self.error
        return self.function(*arguments, **more)


@pytest.mark.parametrize("function", ["_write_json", "save_file"])
@pytest.mark.parametrize("count", [0, 1])
def test_a_failure_leaves_what_was_there(tmp_path, monkeypatch, function, count):
    target = tmp_path / "saved"
    tinyphi.save(random_model(), None, target)
    before = contents(target)
    full = FullDisk(getattr(module, function), count, OSError(28, "No space left on device"))
    monkeypatch.setattr(module, function, full)
    for directory in (target, tmp_path / "new"):
        full.left = count
        with pytest.raises(WeightsError, match=r"cannot be saved to .*No space left"):
            tinyphi.save(random_model(vocab_size=100), None, directory, max_shard_bytes=50_000)
    assert contents(target) == before
    assert [path.name for path in tmp_path.iterdir()] == ["saved"]


@pytest.mark.parametrize("error", [OSError("in use"), KeyboardInterrupt()])
def test_a_failed_replacement_puts_the_old_model_back(tmp_path, monkeypatch, error):
    target = tmp_path / "saved"
    tinyphi.save(random_model(), None, target)
    before = contents(target)
    rename = Path.rename

    def failing(self, to):
        if self.name.endswith(".partial"):
            raise error
        return rename(self, to)

    monkeypatch.setattr(Path, "rename", failing)
    with pytest.raises((WeightsError, KeyboardInterrupt)):
        tinyphi.save(random_model(vocab_size=100), None, target)
    assert contents(target) == before
    assert [path.name for path in tmp_path.iterdir()] == ["saved"]


def test_a_float64_model_comes_back_exactly(tmp_path):
    model = random_model().double()
    tinyphi.save(model, None, tmp_path / "exact")
    again = tinyphi.load_model(tmp_path / "exact", dtype=torch.float64)
    for mine, theirs in zip(again.parameters(), model.parameters(), strict=True):
        assert torch.equal(mine, theirs)
