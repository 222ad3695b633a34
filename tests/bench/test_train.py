"""The command train on tiny models: same work on all sides, and what its tables say."""

from dataclasses import replace
from importlib.util import find_spec

import pytest
import torch

from tinyphi import bench
from tinyphi.bench import train, trainers
from tinyphi.bench.fresh import apart
from tinyphi.bench.trainers import Run, Work, difference
from tinyphi.config import PhiConfig

HERE = all(map(find_spec, ("trl", "transformers")))
SIDES = pytest.mark.skipif(not HERE, reason="needs trl and transformers, which the extra `test` brings")


@pytest.fixture(autouse=True)
def tiny(monkeypatch, config):
    """Small models and short rows, and no processes: one test starts one."""
    monkeypatch.setattr(
        train, "SIZES", {"tiny": (config, 2), "other": (replace(config, hidden_size=32, vocab_size=300), 2)}
    )
    monkeypatch.setattr(train, "TOKENS", 24)
    monkeypatch.setattr(train, "_PRODUCT", {"cpu": 64})
    monkeypatch.setattr(train, "apart", lambda work, *arguments: 123_000_000)


def work_of(works, name):
    return next(work for work in works if work.name.startswith(name))


@SIDES
def test_every_work_has_a_row_for_each_side(capsys, tmp_path, monkeypatch):
    monkeypatch.setattr(trainers, "PLAN", replace(trainers.PLAN, steps=2))
    monkeypatch.setattr(train, "PLAN", trainers.PLAN)
    file = tmp_path / "results.md"
    assert bench.main(["train", "--runs", "1", "--write", str(file)]) == 0
    output = capsys.readouterr().out
    assert "tinyphi bench train --runs 1 --device cpu" in file.read_text(encoding="utf-8")
    rows = [line for line in output.splitlines() if line.startswith("| ")]
    assert [row.split(" | ")[0] for row in rows if " | by | " in row] == ["| next-token loss", "| DPO"]
    assert len({line.count("|") for line in rows}) == 1
    assert sum("| tinyphi |" in line for line in rows) == 2 * 2 + 2 + 2 * (2 + 1)
    for side, times in (("transformers, loop", 6), ("transformers, Trainer", 6), ("TRL", 6)):
        measured = [line for line in rows if f"| {side} |" in line]
        assert len(measured) == times
        assert all(" × | " in line and "| 123 |" in line for line in measured)
    assert "not reported" not in output
    assert sum("bfloat16 |" in line for line in rows) == 4
    assert all(line.endswith("% |") for line in rows if "transformers" in line)


@SIDES
@pytest.mark.parametrize("bfloat16", [False, True])
@pytest.mark.parametrize("kinds", [train.NEXT_TOKEN, train.DPO, train.DPO_REFERENCE])
def test_all_sides_lose_the_same_in_every_step(kinds, bfloat16):
    works = train.next_token_works("cpu") if kinds is train.NEXT_TOKEN else train.preference_works("cpu")
    work = replace(work_of(works, "tiny"), bfloat16=bfloat16)
    found = {}
    for kind in kinds:
        side = kind(work)
        found[kind.name] = side.run()
        assert side.run().losses == found[kind.name].losses  # each run begins with the same weights
    losses = found["tinyphi"].losses
    assert len(losses) == trainers.PLAN.steps
    assert losses[-1] < losses[0] - 1e-3  # it trains
    assert difference(found) < (1e-2 if bfloat16 else 2e-5)


MISTAKES = {  # not clipping: Adam hardly feels the length of gradients
    "another learning rate": ("learning_rate", 1.1e-3),
    "other betas": ("betas", (0.9, 0.99)),
}


@SIDES
@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_side_that_does_something_else_is_not_reported(monkeypatch, mistake):
    class Different(trainers.Loop):
        def train(self, ticks):
            with monkeypatch.context() as patch:
                name, value = MISTAKES[mistake]
                patch.setattr(trainers, "PLAN", replace(trainers.PLAN, **{name: value}))
                return super().train(ticks)

    work = work_of(train.next_token_works("cpu"), "tiny")
    (line,) = train.rows(work, (trainers.Tinyphi, Different), 1, {})
    assert "not reported: losses differ by" in line


def test_losses_are_compared_in_every_step():
    assert difference({"a": Run(1, [2.0, 4.0]), "b": Run(1, [2.0, 5.0])}) == pytest.approx(0.2)
    assert difference({"a": Run(1, [2.0])}) == 0


def test_a_loss_that_is_no_number_is_not_reported(monkeypatch):
    class Broken(trainers.Tinyphi):
        name = "broken"

        def run(self):
            return Run(1.0, [float("nan")] * trainers.PLAN.steps)

    work = work_of(train.next_token_works("cpu"), "tiny")
    (line,) = train.rows(work, (trainers.Tinyphi, Broken), 1, {})
    assert "not reported" in line


def test_a_missing_peer_has_a_line(monkeypatch):
    monkeypatch.setattr(trainers, "find_spec", lambda name: None if name == "transformers" else name)
    work = work_of(train.next_token_works("cpu"), "tiny")
    lines = list(train.rows(work, train.NEXT_TOKEN, 1, {}))
    assert len(lines) == 3
    assert 'transformers, loop: not installed, pip install "tinyphi[reference]"' in lines[1]
    assert len({line.count("|") for line in lines}) == 1


def test_without_a_device_a_line_says_so(monkeypatch, capsys):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert bench.main(["train", "--device", "cuda"]) == 0
    assert "Not measured: torch finds no CUDA device here." in capsys.readouterr().out


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_on_a_device(monkeypatch, capsys):
    monkeypatch.setattr(train, "_PRODUCT", {"cuda": 512})
    assert bench.main(["train", "--runs", "1", "--device", "cuda"]) == 0
    assert "not reported" not in capsys.readouterr().out


def test_batches_are_as_told(config):
    full = train.full_rows(config, 3, 20, 0.4)
    assert full.tokens == full.ids.numel() == 60
    assert full.count == 24
    assert bool((full.labels[:, 12:] == full.ids[:, 12:]).all())
    everything = train.full_rows(config, 3, 20, 1.0)
    assert everything.count == 57  # no row's first token
    pairs = train.pairs(config, 4, 20)
    assert pairs.ids.shape == (8, 20)
    assert 8 * 12 <= pairs.tokens < 160
    assert torch.equal(pairs.ids[:4, :10], pairs.ids[4:, :10])  # a pair shares its prompt
    assert bool((pairs.labels[:, :10] == -100).all())
    assert not torch.equal(pairs.ids[:4, 10:], pairs.ids[4:, 10:])
    assert config.pad_token_id not in full.ids  # as a word it has no gradient in transformers


@SIDES
def test_a_word_whose_embedding_one_side_does_not_train_is_noticed(config):
    batch = train.full_rows(config, 2, 24, 1.0)
    batch.ids[0, 3] = batch.labels[0, 3] = config.pad_token_id
    (line,) = train.rows(Work("tiny", config, batch), (trainers.Tinyphi, trainers.Loop), 1, {})
    assert "not reported" in line


def test_a_tied_head_is_tied_on_the_other_side_too(config):
    tied = replace(config, tie_word_embeddings=True)
    theirs = Work("tied", tied, train.full_rows(tied, 2, 24, 1.0)).theirs()
    assert theirs.lm_head.weight is theirs.model.embed_tokens.weight
    ours = Work("tied", tied, train.full_rows(tied, 2, 24, 1.0)).model()
    assert torch.equal(theirs.lm_head.weight, ours.lm_head.weight)


def test_flops_of_a_known_shape():
    config = PhiConfig(
        vocab_size=100, hidden_size=8, intermediate_size=16, num_hidden_layers=3, num_attention_heads=2,
        num_key_value_heads=1, max_position_embeddings=64, original_max_position_embeddings=64,
        eos_token_id=2, pad_token_id=2,
    )  # fmt: skip
    batch = train.full_rows(config, 2, 10, 0.5)
    matrices = 3 * (8 * (8 + 4 + 4) + 8 * 8 + 8 * 32 + 16 * 8)
    norms = 7 * 8
    attention = 12 * 3 * 8 * 10
    assert train.model_flops(config, batch) == 20 * (6 * (matrices + norms) + attention) + 10 * 6 * 800


def test_memory_is_taken_in_a_process_of_its_own(config):
    work = Work("tiny", config, train.full_rows(config, 2, 24, 1.0))
    assert 0 <= apart(train.memory_of, trainers.Tinyphi, work) < 1 << 30
