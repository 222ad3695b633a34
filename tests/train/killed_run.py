"""A small run in a process of its own, which dies in the way that it is told to. Not a test by itself.

    python killed_run.py FOLDER WHEN

WHEN: "step 5" within that step; "saving 2", "renaming 2" and "removing 1" while the so-manieth checkpoint is
written, named and removed; "logging 3" in the middle of a line of the log; "never".
"""

import json
import os
import shutil
import signal
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from tinyphi.config import PhiConfig
from tinyphi.data.packing import Example, Rows, packed
from tinyphi.model.transformer import Phi3
from tinyphi.train import checkpoint, log
from tinyphi.train.loop import Plan, Trainer
from tinyphi.train.losses import next_token_objective

PLAN = Plan(14, 3e-3, warmup_steps=4, evaluate_every=5, sample_every=6, save_every=3, seed=8)


def make_trainer(folder, model=None, plan=PLAN, kind=Trainer, **options):
    """A trainer of a tiny model with noise in its loss, so that random numbers matter."""
    config = PhiConfig(
        vocab_size=31, hidden_size=24, intermediate_size=32, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=64, original_max_position_embeddings=64,
        bos_token_id=None, eos_token_id=None, pad_token_id=None,
    )  # fmt: skip
    if model is None:
        torch.manual_seed(3)
        model = Phi3(config)
    generator = np.random.default_rng(2)
    lengths = generator.integers(3, 15, 90)
    examples = [Example(generator.integers(1, 31, n).tolist(), [True] * int(n)) for n in lengths]
    batches = Rows(packed(examples, 20), batch_size=2, pad_id=0, accumulate=2, seed=1)

    def objective(model, batch):
        loss, metrics = next_token_objective(model, batch)
        return loss * (1 + 0.1 * torch.randn(())), metrics

    def evaluate(model):
        return {"noise": float(torch.randn(()))}

    options = {
        "evaluate": evaluate,
        "sample": lambda model: "zwölf\nTexte",
        "objective": objective,
        **options,
    }
    return kind(model, plan, batches, folder=folder, **options)


def tied_model():
    """A model of the same shape whose head is its embedding."""
    torch.manual_seed(3)
    return Phi3(replace(make_trainer(None).model.config, tie_word_embeddings=True))


def make_quiet_trainer(folder, kind=Trainer, plan=PLAN, **options):
    """The same without noise, which would be another one in each process."""
    return make_trainer(
        folder, plan=plan, kind=kind, objective=next_token_objective, evaluate=None, **options
    )


def die_at(trainer, when, number):
    """Arrange for the end of this process."""
    left = [number]

    def countdown(*_):
        left[0] -= 1
        if left[0] == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    def before(function, then=lambda *arguments: None, only=lambda *arguments: True):
        def wrapped(*arguments, **options):
            if only(*arguments):
                if left[0] == 1:
                    then(*arguments)
                countdown()
            return function(*arguments, **options)

        return wrapped

    def half_a_file(tensors, path):
        Path(path).write_bytes(b"\0" * 100)

    if when == "step":
        trainer.objective = before(trainer.objective, only=lambda *_: trainer.step + 1 >= number)
        left[0] = 2  # in the second of the micro-batches
    elif when == "saving":
        checkpoint.save_file = before(checkpoint.save_file, half_a_file)
    elif when == "renaming":
        os.rename = before(os.rename, only=lambda old, new: not str(new).endswith(".partial"))
    elif when == "removing":
        shutil.rmtree = before(
            shutil.rmtree,
            lambda path: (Path(path) / checkpoint.STATE).unlink(),
            only=lambda path: ".old" in Path(path).name,
        )
    elif when == "logging":
        log._line = before(log._line, lambda row: half_a_line(trainer, row))


def half_a_line(trainer, row):
    with (trainer.folder / "log.jsonl").open("ab") as file:
        file.write(json.dumps(row, ensure_ascii=False).encode()[:-7])


if __name__ == "__main__":
    trainer = make_trainer(Path(sys.argv[1]))
    when, _, number = sys.argv[2].partition(" ")
    die_at(trainer, when, int(number or 0))
    trainer.run()
