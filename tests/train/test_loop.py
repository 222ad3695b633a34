"""The loop: equal to one around transformers' model, to one large batch, and to itself when interrupted."""

import csv
import itertools
import json
import math
import os
import signal
import threading
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn import functional as F

import tinyphi
from tinyphi.data.packing import NO_TARGET, Example, Rows, packed, padded
from tinyphi.errors import InputError, TrainingError
from tinyphi.train import loop
from tinyphi.train.loop import Plan, Trainer, learning_rate_at, parameter_groups
from tinyphi.train.losses import next_token_objective

PLAN = Plan(10, 2e-3, warmup_steps=3, final_share=0.05, clip_norm=0.5)


def examples(count=60, seed=0):
    generator = np.random.default_rng(seed)
    return [
        Example(generator.integers(1, 61, n).tolist(), (generator.random(n) < 0.6).tolist())
        for n in generator.integers(6, 20, count)
    ]


def rows(accumulate=1, batch_size=4):
    return Rows(packed(examples(), 24), batch_size, pad_id=0, accumulate=accumulate)


def trained(make_model, plan=PLAN, batches=None, **options):
    """The log and the weights after a run."""
    model = make_model()
    trainer = Trainer(model, plan, batches or rows(), next_token_objective, **options)
    return trainer.run(), {name: weight.detach() for name, weight in model.named_parameters()}


def losses(log):
    return [row["loss"] for row in log]


# Against other loops


def transformers_loop(folder, plan, count):
    """The losses, norms and rates of a plain loop around transformers' model, AdamW and schedule."""
    import transformers

    model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).train()
    plain = [weight for name, weight in model.named_parameters() if "norm" in name or "embed" in name]
    matrices = [weight for name, weight in model.named_parameters() if "proj" in name or "lm_head" in name]
    assert len(plain) + len(matrices) == len(list(model.parameters()))
    groups = [{"params": matrices, "weight_decay": plan.weight_decay}, {"params": plain, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, plan.learning_rate, plan.betas)
    schedule = transformers.get_cosine_with_min_lr_schedule_with_warmup(
        optimizer, plan.warmup_steps, plan.steps, min_lr_rate=plan.final_share
    )
    told = []
    for step in range(1, plan.steps + 1):
        schedule.step()  # theirs counts from 0
        batch = padded(examples(count, seed=step), 0)
        optimizer.zero_grad()
        loss = model(batch.ids, attention_mask=(batch.segments > 0).long(), labels=batch.labels).loss
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(model.parameters(), plan.clip_norm)
        optimizer.step()
        told.append((loss.item(), norm.item(), schedule.get_last_lr()[0]))
    return told


@pytest.mark.filterwarnings("ignore:Detected call of `lr_scheduler.step")
@pytest.mark.parametrize("changes", [{}, {"betas": (0.9, 0.999)}, {"weight_decay": 0.0}, {"clip_norm": 50.0}])
def test_the_run_is_that_of_a_loop_around_transformers(make_model, tmp_path, changes):
    pytest.importorskip("transformers")
    tinyphi.save(make_model(), None, tmp_path / "model")
    theirs = transformers_loop(tmp_path / "model", PLAN, count=6)
    plan = replace(PLAN, **changes)  # all but {} are planted mistakes
    log, _ = trained(make_model, plan, lambda step: [padded(examples(6, seed=step), 0)])
    mine = [(row["loss"], row["gradient_norm"], row["learning_rate"]) for row in log]
    assert max(norm for _, norm, _ in theirs) > PLAN.clip_norm
    np.testing.assert_allclose([rate for *_, rate in mine], [rate for *_, rate in theirs], rtol=1e-12)
    same = np.allclose(mine, theirs, rtol=2e-5, atol=0)
    assert same is (changes == {})


@pytest.mark.parametrize(("steps", "warmup", "share"), [(50, 7, 0.1), (9, 0, 0.0), (5, 5, 1.0), (1, 0, 0.3)])
def test_the_schedule_is_that_of_transformers(steps, warmup, share):
    transformers = pytest.importorskip("transformers")
    optimizer = torch.optim.AdamW([torch.nn.Parameter(torch.zeros(1))], 0.3)
    theirs = transformers.get_cosine_with_min_lr_schedule_with_warmup(
        optimizer, warmup, steps, min_lr_rate=share
    ).lr_lambdas[0]
    plan = Plan(steps, 0.3, warmup_steps=warmup, final_share=share)
    for step in range(1, steps + 1):
        assert math.isclose(learning_rate_at(step, plan), 0.3 * theirs(step), rel_tol=1e-12, abs_tol=1e-15)
    if warmup < steps:
        assert math.isclose(learning_rate_at(steps, plan), 0.3 * share, abs_tol=1e-15)


def test_a_step_is_bit_for_bit_torchs_own(make_model):
    """AdamW and clipping: nothing is added, nothing is left out."""
    log, weights = trained(make_model)
    model, source = make_model().train(), rows()
    optimizer = torch.optim.AdamW(parameter_groups(model, 0.1), betas=(0.9, 0.95), fused=True)
    for step in range(1, 11):
        (batch,) = source(step)
        optimizer.zero_grad()
        next_token_objective(model, batch)[0].backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 0.5)
        for group in optimizer.param_groups:
            group["lr"] = learning_rate_at(step, PLAN)
        optimizer.step()
    assert all(torch.equal(weights[name], weight) for name, weight in model.named_parameters())
    assert len(log) == 10


def test_only_matrices_decay(make_model):
    for tied in (False, True):
        model = make_model(tie_word_embeddings=tied)
        names = {weight: name for name, weight in model.named_parameters()}
        model.layers[1].mlp.down_proj.weight.requires_grad_(False)
        decaying, plain = parameter_groups(model, 0.3)
        assert (decaying["weight_decay"], plain["weight_decay"]) == (0.3, 0.0)
        assert {names[weight].split(".")[-2] for weight in decaying["params"]} == {
            "qkv_proj", "o_proj", "gate_up_proj", "down_proj", *([] if tied else ["lm_head"]),
        }  # fmt: skip
        assert all("norm" in names[weight] or "embed" in names[weight] for weight in plain["params"])
        assert len(decaying["params"]) + len(plain["params"]) == len(names) - 1


# Accumulation, precision, memory


def test_micro_batches_add_up_to_the_large_batch(make_model):
    small, weights = trained(make_model, batches=rows(accumulate=4, batch_size=2))
    large, expected = trained(make_model, batches=rows(batch_size=8))
    np.testing.assert_allclose(losses(small), losses(large), rtol=1e-5)
    np.testing.assert_allclose(
        [row["mean_token_accuracy"] for row in small],
        [row["mean_token_accuracy"] for row in large],
        atol=1e-6,
    )
    assert [row["tokens"] for row in small] == [row["tokens"] for row in large]
    for name, weight in weights.items():
        torch.testing.assert_close(weight, expected[name], rtol=1e-4, atol=2e-5)


def test_a_mean_of_means_would_be_another_loss(make_model):
    model, batches = make_model(), rows(accumulate=4, batch_size=2)(1)
    assert len({batch.count for batch in batches}) > 1
    with torch.no_grad():
        means = [next_token_objective(model, batch)[0].item() for batch in batches]
    (row,) = trained(make_model, Plan(1, 1e-3), rows(accumulate=4, batch_size=2))[0]
    weighted = np.average(means, weights=[batch.count for batch in batches])
    assert math.isclose(row["loss"], weighted, rel_tol=1e-6) and abs(np.mean(means) - weighted) > 1e-4


def test_gradient_checkpointing_computes_twice_and_changes_nothing(make_model, monkeypatch):
    calls = []
    attention = type(make_model().layers[0].attention)
    original = attention.forward
    monkeypatch.setattr(attention, "forward", lambda *inputs: calls.append(1) or original(*inputs))
    plain, weights = trained(make_model, batches=rows(accumulate=2))
    usual = len(calls)
    again, same = trained(make_model, replace(PLAN, gradient_checkpointing=True), rows(accumulate=2))
    assert len(calls) == 3 * usual  # those of the first run too
    assert losses(plain) == losses(again)
    assert all(torch.equal(weights[name], same[name]) for name in weights)


def test_gradient_checkpointing_leaves_names_and_layers_alone(make_model):
    model, names = make_model(), list(make_model().state_dict())
    with pytest.raises(RuntimeError), loop.recomputing(model):
        assert list(model.state_dict()) == names and "forward" in vars(model.layers[0])
        raise RuntimeError
    assert not any("forward" in vars(layer) for layer in model.layers)


def test_bfloat16_multiplies_roughly_and_adds_exactly(make_model):
    seen = set()

    def objective(model, batch):
        model.layers[0].mlp.down_proj.register_forward_hook(lambda _, __, output: seen.add(output.dtype))
        return next_token_objective(model, batch)

    model = make_model()
    log = Trainer(model, replace(PLAN, bfloat16=True), rows(), objective).run()
    exact, _ = trained(make_model)
    assert seen == {torch.bfloat16}
    assert all(weight.dtype == torch.float32 for weight in model.parameters())
    assert losses(log) != losses(exact)
    np.testing.assert_allclose(losses(log), losses(exact), rtol=0.03)


# The log


def test_rows_tell_what_happened(make_model, tmp_path):
    told, model = [], make_model()

    def evaluate(given):
        assert given is model and not model.training and not torch.is_grad_enabled()
        return {"loss": len(told) + 0.5}

    plan = replace(PLAN, evaluate_every=4, sample_every=5)
    trainer = Trainer(
        model, plan, rows(), next_token_objective, tmp_path / "run",
        evaluate, lambda _: 'ein,\n"Text"', [told.append],
    )  # fmt: skip
    log = trainer.run()
    assert log == told and trainer.step == 10 and not model.training
    assert [row["step"] for row in log] == list(range(1, 11))
    assert {row["step"]: row["eval_loss"] for row in log if "eval_loss" in row} == {4: 3.5, 8: 7.5, 10: 9.5}
    assert [row["step"] for row in log if "sample" in row] == [5, 10]
    tokens = [sum(batch.tokens for batch in rows()(step)) for step in range(1, 11)]
    assert [row["tokens"] for row in log] == list(itertools.accumulate(tokens))
    assert all(row["tokens_per_second"] > 0 and 0 <= row["mean_token_accuracy"] <= 1 for row in log)
    lines = (tmp_path / "run/log.jsonl").read_text(encoding="utf-8").splitlines()
    assert [json.loads(line) for line in lines] == log
    with (tmp_path / "run/log.csv").open(encoding="utf-8", newline="") as file:
        table = list(csv.DictReader(file))
    assert [{name: cell for name, cell in row.items() if cell} for row in table] == [
        {name: str(value) for name, value in row.items()} for row in log
    ]


def test_the_random_numbers_of_others_are_left_alone(small_run):
    torch.manual_seed(1)
    expected = torch.rand(3)
    torch.manual_seed(1)
    trainer = small_run.make_trainer(None, model=small_run.make_trainer(None).model)
    torch.manual_seed(1)
    trainer.run()
    assert torch.equal(torch.rand(3), expected)


# Interruptions


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("kept", [True, False], ids=["folder", "memory"])
def test_an_interrupted_run_goes_on_as_if_nothing_had_been(small_run, tmp_path, capsys, number, kept):
    expected = small_run.make_trainer(None).run()
    interrupted = small_run.make_trainer(
        tmp_path if kept else None,
        watchers=[lambda row: row["step"] == 4 and os.kill(os.getpid(), number)],
    )
    before = signal.getsignal(number)
    log = interrupted.run()
    assert [row["step"] for row in log] == [1, 2, 3, 4] and interrupted.step == 4
    assert signal.getsignal(number) is before
    said = capsys.readouterr().out
    assert "Stopped after step 4 of 14" in said and "call run() again" in said
    assert ("saved to" in said) is kept and ("Nothing was saved" in said) is not kept
    assert [path.name for path in tmp_path.glob("step-*")] == (
        ["step-00000003", "step-00000004"] if kept else []
    )
    again = small_run.make_trainer(tmp_path) if kept else interrupted
    assert losses(again.run()) == losses(expected)


def test_a_second_interrupt_stops_at_once(small_run, tmp_path):
    def impatient(row):
        if row["step"] == 4:
            signal.raise_signal(signal.SIGINT)
            signal.raise_signal(signal.SIGINT)

    trainer = small_run.make_trainer(tmp_path, watchers=[impatient])
    with pytest.raises(KeyboardInterrupt):
        trainer.run()
    assert losses(small_run.make_trainer(tmp_path).run()) == losses(small_run.make_trainer(None).run())


def test_a_model_that_was_interrupted_can_be_given_to_a_new_trainer(small_run, tmp_path):
    """The cell of a notebook, run again."""
    trainer = small_run.make_trainer(
        tmp_path, watchers=[lambda row: row["step"] == 4 and signal.raise_signal(signal.SIGINT)]
    )
    trainer.run()
    again = small_run.make_trainer(tmp_path, model=trainer.model)
    assert losses(again.run()) == losses(small_run.make_trainer(None).run())


def test_a_run_outside_of_the_main_thread_works(small_run):
    logs = []
    thread = threading.Thread(target=lambda: logs.append(small_run.make_trainer(None).run()))
    thread.start()
    thread.join()
    assert losses(logs[0]) == losses(small_run.make_trainer(None).run())


def test_a_finished_run_returns_its_log_and_weights(small_run, tmp_path):
    first = small_run.make_trainer(tmp_path)
    log = first.run()
    again = small_run.make_trainer(tmp_path)
    assert again.run() == log and again.step == 14
    for one, other in zip(first.model.parameters(), again.model.parameters(), strict=True):
        assert torch.equal(one, other)


# What goes wrong


def bad_objective(step, kind):
    """An objective whose loss, or gradient, is not finite in one step; two micro-batches a step."""
    calls = []

    def objective(model, batch):
        calls.append(1)
        loss, metrics = next_token_objective(model, batch)
        if len(calls) == 2 * step:
            weight = model.norm.weight
            loss = loss * {"nan": math.nan, "inf": math.inf}.get(kind, 1.0)
            loss = loss + ((weight * 0).sqrt().sum() if kind == "gradient" else 0)
        return loss, metrics

    return objective


@pytest.mark.parametrize("kind", ["nan", "inf", "gradient"])
def test_numbers_that_are_not_finite_change_no_weight(make_model, tmp_path, kind):
    model, source = make_model(), rows(accumulate=2)
    plan = replace(PLAN, save_every=3)
    trainer = Trainer(model, plan, source, bad_objective(5, kind), tmp_path)
    with pytest.raises(TrainingError, match=r"Step 5 has loss .* at learning rate 0\.00164") as raised:
        trainer.run()
    assert "weights are those after step 4" in str(raised.value)
    assert str(tmp_path / "step-00000003") in str(raised.value) and "lower learning rate" in str(raised.value)
    expected = make_model()
    reference = Trainer(
        expected, plan, source, next_token_objective,
        watchers=[lambda row: row["step"] == 4 and signal.raise_signal(signal.SIGINT)],
    )  # fmt: skip
    reference.run()
    for one, other in zip(model.parameters(), expected.parameters(), strict=True):
        assert torch.equal(one, other)
    assert [row["step"] for row in trainer.log.rows] == [1, 2, 3, 4]


def test_without_a_folder_the_error_says_that_there_is_no_checkpoint(make_model):
    with pytest.raises(TrainingError, match="There is no checkpoint"):
        Trainer(make_model(), PLAN, rows(accumulate=2), bad_objective(1, "nan")).run()


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"steps": 0}, "steps must be"),
        ({"learning_rate": 0.0}, "learning_rate must be"),
        ({"learning_rate": math.nan}, "learning_rate must be"),
        ({"warmup_steps": 11}, "warmup_steps must lie"),
        ({"final_share": 1.5}, "final_share must lie"),
        ({"weight_decay": -0.1}, "weight_decay must be"),
        ({"betas": (0.9, 1.0)}, "betas must be"),
        ({"betas": (0.9,)}, "betas must be"),
        ({"clip_norm": 0.0}, "clip_norm must be"),
        ({"save_every": 0}, "_every must be"),
        ({"seed": -1}, "seed must be"),
    ],
)
def test_impossible_plans_are_refused(changes, complaint):
    with pytest.raises(InputError, match=complaint):
        replace(PLAN, **changes)


def test_steps_need_targets(make_model):
    nothing = padded([Example([5, 6, 7], [False] * 3)], 0)
    assert (nothing.labels == NO_TARGET).all()
    for batches in ([], [nothing], [*rows()(1), nothing]):
        with pytest.raises(InputError, match="each batch a target"):
            Trainer(make_model(), PLAN, lambda step, batches=batches: batches, next_token_objective).run()


def test_something_must_be_trained(make_model):
    model = make_model().requires_grad_(False)
    with pytest.raises(InputError, match="No parameter of the model is trained"):
        Trainer(model, PLAN, rows(), next_token_objective)


def test_training_learns(make_model):
    """With a loss of one's own: the model comes to know a text by heart."""
    text = padded([Example(list(range(1, 30)), [True] * 29)], 0)

    def objective(model, batch):
        logits = model(batch.ids, batch.segments)[:, :-1].flatten(0, 1)
        return F.cross_entropy(logits, batch.labels[:, 1:].flatten()), {}

    log = Trainer(make_model(), Plan(40, 1e-2, warmup_steps=4), lambda step: [text], objective).run()
    assert log[0]["loss"] > 5 and log[-1]["loss"] < 0.1
