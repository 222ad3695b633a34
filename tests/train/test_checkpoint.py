"""Checkpoints: complete or not there, exact, and only for the run that they belong to."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from filelock import FileLock
from safetensors import safe_open

from tinyphi.errors import TrainingError
from tinyphi.quant import quantize
from tinyphi.train import checkpoint

DEATHS = ["step 5", "saving 2", "renaming 2", "removing 1", "logging 12"]


def losses(log):
    return [row["loss"] for row in log]


def names(folder):
    return sorted(path.name for path in folder.glob("step-*"))


@pytest.fixture(scope="module")
def expected(small_run):
    """The log of the run that nothing happens to."""
    return small_run.make_trainer(None).run()


@pytest.mark.slow
def test_a_run_that_is_killed_again_and_again_ends_the_same(small_run, expected, tmp_path):
    """Each process goes on where the one before it died, until it is killed itself, at another moment."""
    program, reached = Path(__file__).with_name("killed_run.py"), []
    for death in DEATHS:
        done = subprocess.run([sys.executable, program, tmp_path, death], capture_output=True, text=True)
        assert done.returncode == -9, done.stderr
        reached.append(names(tmp_path))
    assert reached == [
        ["step-00000003"],
        ["step-00000003", "step-00000006.partial"],
        ["step-00000003", "step-00000006", "step-00000009.partial"],
        ["step-00000003.old.partial", "step-00000006", "step-00000009"],
        ["step-00000003.old.partial", "step-00000006", "step-00000009"],
    ]
    assert not (tmp_path / "log.jsonl").read_bytes().endswith(b"\n")
    trainer = small_run.make_trainer(tmp_path)
    log = trainer.run()
    kept = [{name: value for name, value in row.items() if name != "tokens_per_second"} for row in log]
    assert kept == [{name: row[name] for name in row if name != "tokens_per_second"} for row in expected]
    whole = small_run.make_trainer(None)
    whole.run()
    for one, other in zip(trainer.model.parameters(), whole.model.parameters(), strict=True):
        assert torch.equal(one, other)
    assert names(tmp_path) == ["step-00000012", "step-00000014"]
    assert [json.loads(line)["step"] for line in (tmp_path / "log.jsonl").open()] == list(range(1, 15))


def killed_after(small_run, folder, step, **options):
    """A trainer whose run breaks off without saving, as if it had been killed."""

    def die(row):
        if row["step"] == step:
            raise RuntimeError("killed")

    trainer = small_run.make_trainer(folder, watchers=[die], **options)
    with pytest.raises(RuntimeError, match="killed"):
        trainer.run()


@pytest.mark.parametrize("forgotten", ["moments", "random numbers", "batches"])
def test_a_planted_mistake_in_resuming_is_noticed(small_run, expected, tmp_path, monkeypatch, forgotten):
    killed_after(small_run, tmp_path, 5)
    trainer = small_run.make_trainer(tmp_path)
    if forgotten == "moments":
        load = checkpoint.load
        monkeypatch.setattr(checkpoint, "load", lambda *given: load(*given) or given[-1].state.clear())
    elif forgotten == "random numbers":
        monkeypatch.setattr("tinyphi.train.loop._seed_of", lambda seed, step: seed)
    else:
        batches = trainer.batches
        trainer.batches = lambda step: batches(step - 3)
    log = losses(trainer.run())
    assert log[:3] == losses(expected)[:3] and log != losses(expected)


def test_what_a_checkpoint_holds(small_run, tmp_path):
    trainer = small_run.make_trainer(tmp_path)
    trainer.model.embed_tokens.requires_grad_(False)
    trainer = small_run.make_trainer(tmp_path, model=trainer.model)
    trainer.run()
    assert names(tmp_path) == ["step-00000012", "step-00000014"]
    trained = {name for name, _ in trainer.model.named_parameters()} - {"embed_tokens.weight"}
    with safe_open(tmp_path / "step-00000014/model.safetensors", "pt") as file:
        assert set(file.keys()) == trained
        assert all(torch.equal(file.get_tensor(name), trainer.model.get_parameter(name)) for name in trained)
    with safe_open(tmp_path / "step-00000014/optimizer.safetensors", "pt") as file:
        assert set(file.keys()) == {
            f"{name}.{kind}" for name in trained for kind in ("exp_avg", "exp_avg_sq", "step")
        }
    state = json.loads((tmp_path / "step-00000014/state.json").read_text())
    assert state["step"] == 14 and state["plan"]["learning_rate"] == 3e-3
    assert state["versions"]["torch"] == torch.__version__


def test_a_tied_head_is_stored_once_and_stays_tied(small_run, tmp_path):
    model = small_run.make_trainer(None).model
    config = replace(model.config, tie_word_embeddings=True)
    torch.manual_seed(1)
    models = [type(model)(config)]
    models.append(type(model)(config))
    models[1].load_state_dict(models[0].state_dict())
    killed_after(small_run, tmp_path, 5, model=models[0])
    log = small_run.make_trainer(tmp_path, model=models[1]).run()
    assert models[1].lm_head.weight is models[1].embed_tokens.weight
    with safe_open(tmp_path / "step-00000014/model.safetensors", "pt") as file:
        assert "lm_head.weight" not in file.keys()  # noqa: SIM118  # not a dict
    torch.manual_seed(1)
    assert losses(log) == losses(small_run.make_trainer(None, model=type(model)(config)).run())


# Another run's folder


def test_another_plan_is_refused_by_name(small_run, tmp_path):
    killed_after(small_run, tmp_path, 5)
    plan = replace(small_run.PLAN, learning_rate=1e-3, seed=9)
    with pytest.raises(
        TrainingError, match=r"plan\.learning_rate: 0\.003, now 0\.001; plan\.seed: 8, now 9"
    ) as raised:
        small_run.make_trainer(tmp_path, plan=plan).run()
    assert "another folder" in str(raised.value)


def test_how_often_to_look_and_save_may_change(small_run, expected, tmp_path):
    killed_after(small_run, tmp_path, 5)
    plan = replace(small_run.PLAN, save_every=1, evaluate_every=None, sample_every=7)
    assert losses(small_run.make_trainer(tmp_path, plan=plan).run()) == losses(expected)


def test_another_model_is_refused(small_run, tmp_path):
    killed_after(small_run, tmp_path, 5)
    model = small_run.make_trainer(None).model
    wider = type(model)(replace(model.config, intermediate_size=40))
    with pytest.raises(TrainingError, match=r"model\.config\.intermediate_size: 32, now 40"):
        small_run.make_trainer(tmp_path, model=wider).run()
    frozen = small_run.make_trainer(None).model
    frozen.norm.weight.requires_grad_(False)
    with pytest.raises(TrainingError, match=r"model\.parameters\.norm\.weight: \[24\], now None"):
        small_run.make_trainer(tmp_path, model=frozen).run()


def test_a_model_with_other_weights_is_refused(small_run, tmp_path):
    """A folder of an earlier try, and a model that was trained anew in the stage before."""
    killed_after(small_run, tmp_path, 5)
    other = small_run.make_trainer(None).model
    with torch.no_grad():
        other.layers[1].mlp.down_proj.weight[0] *= 1.1
    with pytest.raises(TrainingError, match="the weights that training starts from"):
        small_run.make_trainer(tmp_path, model=other).run()


def test_two_processes_cannot_train_into_one_folder(small_run, tmp_path):
    with FileLock(tmp_path / ".lock"), pytest.raises(TrainingError, match="Another process is training into"):
        small_run.make_trainer(tmp_path).run()


# Damage


@pytest.mark.parametrize("file", [checkpoint.MODEL, checkpoint.OPTIMIZER, checkpoint.STATE])
@pytest.mark.parametrize("damage", ["cut", "gone"])
def test_a_damaged_checkpoint_can_be_deleted(small_run, expected, tmp_path, file, damage):
    killed_after(small_run, tmp_path, 8)
    path = tmp_path / "step-00000006" / file
    if damage == "cut":
        path.write_bytes(path.read_bytes()[:-20])
    else:
        path.unlink()
    trainer = small_run.make_trainer(tmp_path)
    before = {name: weight.clone() for name, weight in trainer.model.state_dict().items()}
    with pytest.raises(TrainingError, match="Delete this directory to go on from the one before") as raised:
        trainer.run()
    assert str(path.parent) in str(raised.value)
    assert all(torch.equal(weight, before[name]) for name, weight in trainer.model.state_dict().items())
    for found in path.parent.iterdir():
        found.unlink()
    path.parent.rmdir()
    assert losses(small_run.make_trainer(tmp_path).run()) == losses(expected)


def test_tensors_of_another_model_are_noticed(small_run, tmp_path):
    killed_after(small_run, tmp_path, 5)
    path = tmp_path / "step-00000003"
    (path / checkpoint.MODEL).write_bytes((path / checkpoint.OPTIMIZER).read_bytes())
    with pytest.raises(TrainingError, match="its tensors are not those of the model"):
        small_run.make_trainer(tmp_path).run()


def test_a_full_disk_is_said_in_one_sentence(small_run, tmp_path, monkeypatch):
    def full(tensors, path):
        raise OSError(28, "No space left on device")

    killed_after(small_run, tmp_path, 5)
    monkeypatch.setattr(checkpoint, "save_file", full)
    with pytest.raises(
        TrainingError, match=r"step 6 cannot be written .* No space left on device. Make room"
    ):
        small_run.make_trainer(tmp_path).run()
    assert checkpoint.checkpoints(tmp_path) == [tmp_path / "step-00000003"]


# The parts


def test_differences_are_told_with_their_place():
    then = {"a": 1, "b": {"c": [1], "d": None}, "gone": 2}
    now = {"a": 1, "b": {"c": [2], "d": None}, "new": 3}
    assert checkpoint.differences(then, now) == ["b.c: [1], now [2]", "gone: 2, now None", "new: None, now 3"]


def test_only_complete_checkpoints_are_found(tmp_path):
    for name in ("step-00000009", "step-00000010", "step-00000011.partial", "step-x", "other"):
        (tmp_path / name).mkdir()
    (tmp_path / "step-00000012").touch()
    assert [path.name for path in checkpoint.checkpoints(tmp_path)] == ["step-00000009", "step-00000010"]
    assert checkpoint.checkpoints(tmp_path / "nowhere") == []


def test_norms_tell_models_apart(small_run):
    model = small_run.make_trainer(None).model
    before = checkpoint.norms(model)
    assert checkpoint.same_weights(before, checkpoint.norms(model))
    assert before["norm.weight"] == 24**0.5
    with torch.no_grad():
        model.layers[0].mlp.down_proj.weight[3] *= 1 + 1e-6  # another machine
    assert checkpoint.same_weights(before, checkpoint.norms(model))
    quantize(model, "int8", group_size=8)
    quantized = checkpoint.norms(model)
    assert not checkpoint.same_weights(before, quantized)
    assert {name.rpartition(".")[2] for name in quantized.keys() - before.keys()} == {"codes", "scales"}
