"""The small run of `killed_run` in several processes. Not a test by itself.

torchrun --nproc-per-node=2 distributed_run.py FOLDER until STEP     the run, told to stop after it
torchrun --nproc-per-node=2 distributed_run.py FOLDER variants       short runs beside it, and their errors
"""

import importlib.util
import json
import os
import signal
import sys
from dataclasses import replace
from pathlib import Path

import torch
import torch.distributed as dist
from torch.nn import functional as F

from tinyphi import TinyphiError
from tinyphi.train.distributed import ShardedTrainer, process_group

spec = importlib.util.spec_from_file_location("killed_run", Path(__file__).with_name("killed_run.py"))
small_run = importlib.util.module_from_spec(spec)
spec.loader.exec_module(small_run)


def whole_run(folder, step):
    def stop(row):
        """As torchrun does on Ctrl-C, the signal comes twice; here to one process only."""
        if row["step"] == step:
            os.kill(os.getpid(), signal.SIGINT)
            os.kill(os.getpid(), signal.SIGINT)

    small_run.make_quiet_trainer(folder, ShardedTrainer, watchers=[stop]).run()


def through_the_model(model, batch):
    """The objective by a call of the model itself, not of its parts."""
    logits = model(batch.ids, batch.segments)
    return F.cross_entropy(logits[:, :-1].flatten(0, 1), batch.labels[:, 1:].flatten()), {}


def short_run(change=lambda trainer: None, model=None, objective=None, **changes):
    """The rows of three steps, or the error."""
    plan = replace(small_run.PLAN, **changes)
    try:
        trainer = small_run.make_quiet_trainer(
            None, ShardedTrainer, plan, model=model, sample=None, watchers=[stop_after_three]
        )
        trainer.objective = objective or trainer.objective
        change(trainer)
        return trainer.run()
    except TinyphiError as error:
        return str(error)


def stop_after_three(row):
    if row["step"] == 3:
        signal.raise_signal(signal.SIGTERM)


def without_ranks(trainer):
    trainer.ranks = 1


def variants(folder):
    model, tied = small_run.make_quiet_trainer(None).model, small_run.tied_model()
    with torch.no_grad():
        model.norm.weight += dist.get_rank()
    told = {
        "model": short_run(objective=through_the_model),
        "tied": short_run(model=tied),
        "recomputing": short_run(gradient_checkpointing=True),
        "gradients not averaged": short_run(without_ranks),
        "other weights": short_run(model=model),
    }
    (folder / f"variants-{dist.get_rank()}.json").write_text(json.dumps(told))


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    with process_group() as device:
        assert device.type == "cpu" or torch.cuda.is_available()
        if sys.argv[2] == "until":
            whole_run(folder, int(sys.argv[3]))
        else:
            variants(folder)
