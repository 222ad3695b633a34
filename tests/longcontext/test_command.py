"""tinyphi longrope-search, as a user types it."""

import subprocess
import sys

import pytest
import torch
from transformers import AutoModelForCausalLM

import tinyphi
from tinyphi import cli
from tinyphi.longcontext.search import replay
from tinyphi.tokenizer.base import SpecialToken
from tinyphi.tokenizer.bytebpe import BYTE_TO_LETTER, ByteBPETokenizer

SMALL = "--population 4 --generations 1 --parents 2 --mutations 1 --crossovers 1 --dtype float32".split()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A model that reads 32 bytes, and two texts."""
    folder = tmp_path_factory.mktemp("search")
    letters = {letter: number for number, letter in enumerate(BYTE_TO_LETTER.values())}
    end = SpecialToken("<|endoftext|>", 256)
    tokenizer = ByteBPETokenizer(letters, [], [end], bos_id=None, eos_id=256, pad_id=256)
    config = tinyphi.PhiConfig(
        vocab_size=257,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=1,
        max_position_embeddings=32,
        original_max_position_embeddings=32,
        bos_token_id=None,
        eos_token_id=256,
        pad_token_id=256,
    )
    torch.manual_seed(5)
    model = tinyphi.Phi3(config)
    for parameter in model.parameters():
        parameter.data.add_(torch.randn_like(parameter) * 0.2)
    tinyphi.save(model, tokenizer, folder / "model")
    (folder / "one.txt").write_text("A text that is long enough to search on. " * 3)
    (folder / "two.txt").write_text("Another one, on which nothing is searched. " * 3)
    return folder


def run(folder, *more):
    texts = ["--text", str(folder / "one.txt"), "--held-out", str(folder / "two.txt")]
    return cli.main(["longrope-search", str(folder / "model"), "--length", "64", *texts, *SMALL, *more])


def test_it_searches_goes_on_and_saves_what_transformers_opens(folder, capsys):
    state, target = folder / "state.json", folder / "long"
    assert run(folder, "--state", str(state)) == 0
    first = capsys.readouterr().out
    for words in ("PI ", "NTK ", "YaRN ", "generation 1", "found", "on other texts:", "long_factor: 1"):
        assert words in first
    assert run(folder, "--state", str(state), "--to", str(target)) == 0  # now all answers are known
    again = capsys.readouterr().out
    assert again == first + f"saved to {target}\n"
    result = replay(state)
    config = tinyphi.load_model(str(target)).config
    assert config == result.config_with(result.config)
    assert (config.original_max_position_embeddings, config.max_position_embeddings) == (32, 64)
    ids = torch.arange(60)[None]
    with torch.no_grad():
        theirs = AutoModelForCausalLM.from_pretrained(target)(ids).logits
        torch.testing.assert_close(tinyphi.load_model(str(target))(ids), theirs, rtol=1e-4, atol=1e-4)


def test_from_extended_to_further_extended_and_back_to_short_texts(folder, capsys):
    """The recipe of docs/long_context.md, without the fine-tuning."""
    steps = [folder / name for name in ("model", "first", "further", "recovered")]
    texts = ["--text", str(folder / "one.txt")]
    for source, target, length in zip(steps, steps[1:], ("48", "96", "16"), strict=False):
        command = ["longrope-search", str(source), "--length", length, *texts, *SMALL, "--to", str(target)]
        assert cli.main(command) == 0
        assert f"{'long' if int(length) > 32 else 'short'}_factor: " in capsys.readouterr().out
    further, recovered = (tinyphi.load_model(str(path)).config for path in steps[2:])
    assert (further.original_max_position_embeddings, further.max_position_embeddings) == (32, 96)
    assert recovered.long_factor == further.long_factor
    assert further.short_factor == (1.0,) * 8
    assert recovered.short_factor is not None and recovered.attention_factor == further.attention_factor


def test_the_original_context_can_be_given(folder):
    state = folder / "from-16.json"
    assert run(folder, "--original", "16", "--state", str(state)) == 0
    assert replay(state).config.original_max_position_embeddings == 16


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (["--length", "20"], "reads 32 tokens"),
        (["--length", "500"], "the shortest of"),
        (["--text", "nowhere.txt"], "nowhere.txt"),
        (["--parents", "1"], "parents is 1"),
        (["--to", "."], "."),
    ],
)
def test_mistakes_are_one_line(folder, more, words, capsys):
    assert run(folder, *more) == 2
    error = capsys.readouterr().err
    assert words in error and "Traceback" not in error


def test_help():
    command = [sys.executable, "-m", "tinyphi.cli", "longrope-search", "--help"]
    assert "--held-out" in subprocess.check_output(command, text=True)
