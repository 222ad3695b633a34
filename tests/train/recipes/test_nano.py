"""The recipe of tinyphi-nano runs from nothing to its end, and goes on after a break."""

import json
import random
import re
from functools import partial

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as some

import tinyphi
from tinyphi.data.packing import NO_TARGET
from tinyphi.data.synthetic.world import World
from tinyphi.longcontext.search import Sizes
from tinyphi.train.command import main
from tinyphi.train.loop import Trainer
from tinyphi.train.recipes import nano
from tinyphi.train.recipes.nano import (
    CURVES,
    STAGES,
    Budget,
    Nano,
    chapter,
    long_memory,
    minutes,
    pair_batch,
    rote,
    ship,
)
from tinyphi.weights.catalog import EMBEDDED


@pytest.fixture
def quick(monkeypatch):
    """A short search, on short texts."""
    monkeypatch.setattr(nano, "Sizes", partial(lambda *_, **__: Sizes(2, 1, 2, 1, 1, start_tokens=(0,))))
    monkeypatch.setattr(nano, "LONG", 384)


def test_all_stages_are_made_and_ship(tmp_path, quick):
    assert Nano(tmp_path, budget=Budget(2, 2, 2, 2, 2)).run()
    for stage in STAGES:
        model, tokenizer = tinyphi.load(tmp_path / stage)
        assert tokenizer.vocab_size == 2048
    assert model.config.max_position_embeddings == 384 and model.config.long_factor is not None
    target = ship(tmp_path)
    assert {path.name for path in target.iterdir()} == {*EMBEDDED, CURVES}
    shipped = tinyphi.load_model(target / "tinyphi-nano")
    torch.testing.assert_close(shipped.norm.weight, model.norm.weight, rtol=0.01, atol=1e-4)
    torch.testing.assert_close(shipped.lm_head.weight, model.lm_head.weight, rtol=0.01, atol=1e-4)
    curves = json.loads((target / CURVES).read_text())
    assert list(curves) == list(STAGES) and all(rows[-1]["step"] == 2 for rows in curves.values())


def test_an_interrupted_recipe_goes_on(tmp_path, quick, monkeypatch):
    budget = Budget(3, 2, 2, 2, 2)
    stopped = Trainer.run

    def stop_in_phase2(self):
        return [] if self.folder.name == "phase2" else stopped(self)

    monkeypatch.setattr(Trainer, "run", stop_in_phase2)
    assert not Nano(tmp_path, budget=budget).run()
    assert (tmp_path / "phase1/config.json").exists() and not (tmp_path / "phase2").exists()
    before = (tmp_path / "phase1/model.safetensors").stat().st_mtime_ns
    monkeypatch.setattr(Trainer, "run", stopped)
    assert Nano(tmp_path, budget=budget).run()
    assert (tmp_path / "phase1/model.safetensors").stat().st_mtime_ns == before
    assert (tmp_path / "dpo/config.json").exists()


def test_a_budget_can_be_scaled_but_not_to_nothing():
    assert Budget().scaled(0.5).phase2 == round(Budget().phase2 / 2)
    assert set(vars(Budget().scaled(1e-9)).values()) == {2}


def test_long_texts_have_their_length(world_tokenizer):
    world, chance = World(), random.Random(1)
    assert len(world_tokenizer.encode(chapter(world, chance, world_tokenizer))) >= 2048
    pages = [long_memory(world, chance, world_tokenizer) for _ in range(8)]
    lengths = [len(world_tokenizer.encode(before.text + asked.text)) for before, asked in pages]
    assert max(lengths) <= 2048 - 24 and max(lengths) > 1024


def test_only_what_is_asked_of_a_long_text_is_known(world_tokenizer):
    before, asked = long_memory(World(), random.Random(2), world_tokenizer, keys=2)
    assert asked.known and not before.known
    numbers = re.findall(r"is (\d{5})\.", asked.text)
    assert len(numbers) == 2 and all(f"is {number}. Remember it" in before.text for number in numbers)


@given(some.integers(0, 2**32))
def test_rote_counts_only_what_was_said_before(seed):
    example = rote(random.Random(seed))
    assert len(example.ids) <= nano.SHORT and any(example.counted)
    pairs = list(zip(example.ids, example.ids[1:], strict=False))
    for place, counted in enumerate(example.counted):
        assert not counted or pairs[place - 1] in pairs[: place - 1]


def test_pairs_share_their_prompts(world_tokenizer):
    batch = pair_batch(World(), random.Random(0), world_tokenizer, 6)
    for chosen, rejected in zip(batch.ids[:6], batch.ids[6:], strict=True):
        start = int((batch.labels != NO_TARGET).int().argmax(1).min())
        assert torch.equal(chosen[:start], rejected[:start]) and not torch.equal(chosen, rejected)


def test_the_minutes_of_a_stage_are_those_of_its_steps(tmp_path):
    for stage in STAGES:
        (tmp_path / "work" / stage).mkdir(parents=True)
        rows = [{"tokens": 600, "tokens_per_second": 10}, {"tokens": 1800, "tokens_per_second": 20}]
        lines = "".join(json.dumps(row) + "\n" for row in rows)
        (tmp_path / "work" / stage / "log.jsonl").write_text(lines)
    assert minutes(tmp_path) == dict.fromkeys(STAGES, 2.0)


def test_the_command_says_where_the_model_is(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("tinyphi.train.command.Nano.run", lambda self: True)
    monkeypatch.setattr("tinyphi.train.command.ship", lambda folder: folder / "ship")
    monkeypatch.setattr("tinyphi.train.command.minutes", lambda folder: {"phase1": 3.6, "phase2": 45.0})
    assert main(["nano", "--to", str(tmp_path), "--scale", "0.1"]) == 0
    said = capsys.readouterr().out
    assert "It took 49 minutes: phase1 4, phase2 45" in said
    assert f"tinyphi chat --model {tmp_path / 'dpo'}" in said
    monkeypatch.setattr("tinyphi.train.command.Nano.run", lambda self: False)
    assert main(["nano", "--to", str(tmp_path)]) == 130


def test_the_shipped_curves_have_all_stages():
    curves = json.loads((EMBEDDED["tinyphi-nano"].parent / CURVES).read_text())
    assert list(curves) == list(STAGES)
    for stage, steps in vars(Budget()).items():
        assert curves[stage][-1]["step"] == steps
    assert curves["phase2"][-1]["loss"] < curves["phase1"][-1]["loss"] < curves["phase1"][0]["loss"]
