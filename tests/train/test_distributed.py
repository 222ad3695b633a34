"""Several processes compute what one computes, and each can go on where the others stopped."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch
import torch.distributed as dist
from safetensors.torch import load_file

import tinyphi
from tinyphi.errors import InputError, TrainingError
from tinyphi.train import checkpoint
from tinyphi.train.distributed import consolidate, process_group, share

PROGRAM = Path(__file__).with_name("distributed_run.py")
pytestmark = [pytest.mark.slow, pytest.mark.skipif(sys.platform != "linux", reason="torchrun with gloo")]


def torchrun(processes, *arguments, program=PROGRAM):
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [*command, program, *map(str, arguments)], capture_output=True, text=True, env=environment
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def numbers(rows):
    names = ("step", "loss", "gradient_norm", "learning_rate", "tokens", "mean_token_accuracy")
    return np.array([[row[name] for name in names] for row in rows])


def stop_at(step):
    return lambda row: row["step"] == step and signal.raise_signal(signal.SIGTERM)


@pytest.fixture(scope="module")
def reference(small_run):
    """A single process: the log, and the weights after steps 6 and 14."""
    weights = {}

    def keep(row):
        if row["step"] in (6, 14):
            named = trainer.model.named_parameters()
            weights[row["step"]] = {name: weight.detach().clone() for name, weight in named}

    trainer = small_run.make_quiet_trainer(None, watchers=[keep])
    return trainer.run(), weights


class Relay(NamedTuple):
    """What the processes left behind: a checkpoint of two, the same for one, the log and model at the end."""

    sharded: Path
    consolidated: Path
    log: list
    model: torch.nn.Module


@pytest.fixture(scope="module")
def relay(small_run, tmp_path_factory):
    """The same run by one process, then two, then one under torchrun, and then one on its own again."""
    folder, last = tmp_path_factory.mktemp("run"), tmp_path_factory.mktemp("last")
    small_run.make_quiet_trainer(folder, watchers=[stop_at(2)]).run()
    said = torchrun(2, folder, "until", 6)
    assert said.count("Stopped after step 6 of 14") == 1
    sharded = shutil.copytree(folder / "step-00000006", last / "after-6-in-two" / "step-00000006")
    consolidated = consolidate(sharded, last / "after-6")
    torchrun(1, folder, "until", 10)
    consolidate(folder / "step-00000010", last)
    (last / "log.jsonl").write_bytes((folder / "log.jsonl").read_bytes())
    trainer = small_run.make_quiet_trainer(last)
    return Relay(sharded, consolidated, trainer.run(), trainer.model)


def test_the_numbers_are_those_of_one_process(reference, relay):
    np.testing.assert_allclose(numbers(relay.log), numbers(reference[0]), rtol=2e-5)
    weights = reference[1][14]
    for name, weight in relay.model.named_parameters():
        torch.testing.assert_close(weight.detach(), weights[name], rtol=1e-4, atol=1e-5)


def test_a_consolidated_checkpoint_is_an_ordinary_one(small_run, reference, relay):
    loaded = load_file(relay.consolidated / checkpoint.MODEL)
    model = small_run.make_quiet_trainer(None).model
    model.load_state_dict(loaded)
    for name, weight in reference[1][6].items():
        torch.testing.assert_close(loaded[name], weight, rtol=1e-4, atol=1e-5)
    moments = load_file(relay.consolidated / checkpoint.OPTIMIZER)
    assert len(moments) == 3 * len(loaded) and all(
        float(value) == 6 for name, value in moments.items() if name.endswith(".step")
    )
    assert not torch.equal(loaded["norm.weight"], torch.ones(24))


def test_each_process_stores_its_half(relay):
    shards = [load_file(path) for path in sorted(relay.sharded.glob("shard-*"))]
    assert len(shards) == 2
    whole = load_file(relay.consolidated / checkpoint.MODEL)
    for name, weight in whole.items():
        assert torch.equal(torch.cat([shard[name] for shard in shards]), weight)
        assert all(abs(2 * len(shard[name]) - len(weight)) <= 1 for shard in shards)


def test_a_single_process_says_how_to_use_the_checkpoint_of_several(small_run, relay):
    with pytest.raises(TrainingError, match=r"written by several processes.*consolidate"):
        small_run.make_quiet_trainer(relay.sharded.parent).run()


def test_a_checkpoint_without_one_process_part_is_damaged(relay, tmp_path):
    copy = shutil.copytree(
        relay.sharded, tmp_path / "step-00000006", ignore=shutil.ignore_patterns("shard-00002*")
    )
    with pytest.raises(TrainingError, match=r"a part of .* is missing"):
        consolidate(copy, tmp_path / "to")
    shard = next(copy.glob("shard-*"))
    shard.write_bytes(shard.read_bytes()[:300])
    with pytest.raises(TrainingError, match="cannot be used"):
        consolidate(copy, tmp_path / "to")
    assert not (tmp_path / "to").exists()


def test_a_checkpoint_is_not_consolidated_onto_another(relay):
    with pytest.raises(TrainingError, match="cannot be written"):
        consolidate(relay.sharded, relay.consolidated.parent)


def test_variants(small_run, reference, tmp_path):
    """Through the model or through its parts, with gradient checkpointing; and mistakes are noticed."""
    torchrun(2, tmp_path, "variants")
    first, second = (json.loads((tmp_path / f"variants-{rank}.json").read_text()) for rank in (0, 1))
    expected = numbers(reference[0][:3])[:, :3]  # step, loss, gradient norm
    tied = small_run.make_quiet_trainer(None, model=small_run.tied_model(), watchers=[stop_at(3)])
    tied_expected = numbers(tied.run())[:, :3]
    assert not np.allclose(tied_expected, expected, rtol=1e-3)
    for told in (first, second):
        for kind in ("model", "tied", "recomputing"):
            found = np.array([[row["step"], row["loss"], row["gradient_norm"]] for row in told[kind]])
            np.testing.assert_allclose(found, tied_expected if kind == "tied" else expected, rtol=2e-5)
        wrong = [row["gradient_norm"] for row in told["gradients not averaged"]]
        np.testing.assert_allclose(wrong[0], expected[0, 2] / 2, rtol=2e-5)
        assert "different weights. Set the same seed" in told["other weights"]


def test_the_script_of_the_page_runs(make_model, tmp_path):
    """docs/scaling.md, with a model of two layers and fewer, shorter steps."""
    page = (Path(__file__).parents[2] / "docs/scaling.md").read_text(encoding="utf-8")
    script, _, back = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    script = script.replace("Plan(2000", "Plan(3").replace("warmup_steps=100", "warmup_steps=1")
    script = script.replace("capacity=1024", "capacity=24").replace("tinyphi.load(source)", "load(source)")
    tinyphi.save(make_model(), None, tmp_path / "model")
    letters = "class Letters:\n    bos_id, eos_id, adds_bos, special_tokens = None, 0, False, {}\n"
    letters += "    def encode(self, text):\n        return [ord(letter) % 61 for letter in text]\n"
    load = "def load(source):\n    return tinyphi.load_model(source), Letters()\n"
    script = script.replace("source, texts", f"{letters}{load}source, texts", 1)
    (tmp_path / "train.py").write_text(script, encoding="utf-8")
    (tmp_path / "texts").write_text("\n\n\n".join(["One text", "and another one.", "The third"] * 40))
    torchrun(2, tmp_path / "model", tmp_path / "texts", tmp_path / "run", program=tmp_path / "train.py")
    path = consolidate(tmp_path / "run/step-00000003", tmp_path / "whole")
    names = {"path": path, "source": tmp_path / "model", "tinyphi": tinyphi}
    back = back.replace("tinyphi.load(source)", "tinyphi.load_model(source), None")
    exec(back.replace('"trained"', "trained"), {**names, "trained": tmp_path / "trained"})
    trained = tinyphi.load_model(tmp_path / "trained")
    assert torch.equal(trained.norm.weight, load_file(path / checkpoint.MODEL)["norm.weight"])
    assert not torch.equal(trained.norm.weight, make_model().norm.weight)


def test_micro_batches_are_dealt_out_evenly(monkeypatch):
    monkeypatch.setattr(dist, "get_world_size", lambda: 3)
    monkeypatch.setattr(dist, "get_rank", lambda: 1)
    assert share(lambda step: [10 * step + number for number in range(6)])(2) == [21, 24]
    for wrong in ([], [1], [1, 2, 3, 4]):
        with pytest.raises(InputError, match="a multiple of 3"):
            share(lambda step, wrong=wrong: wrong)(1)


def test_a_process_on_its_own_is_told_how_to_start(monkeypatch):
    monkeypatch.delenv("LOCAL_RANK", raising=False)
    with pytest.raises(InputError, match="torchrun --nproc-per-node"), process_group():
        pass
