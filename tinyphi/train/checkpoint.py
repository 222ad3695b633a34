"""Checkpoints: all that is needed to go on exactly where training stopped.

    run/step-00000200/model.safetensors       the parameters that are trained
                      optimizer.safetensors   AdamW's two moments and step count of each
                      state.json              step, plan, what the model is, versions

That is little, because everything else follows from the plan and the number of the step: the learning rate,
the batches, and the random numbers, whose seed is made of both. A checkpoint is written beside its place and
then renamed, which happens entirely or not at all. So a directory of that name is complete, whenever the
process dies.
"""

import json
import math
import os
import platform
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, is_dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

import tinyphi
from tinyphi.errors import TrainingError
from tinyphi.quant.linear import QuantizedLinear

MODEL, OPTIMIZER, STATE = "model.safetensors", "optimizer.safetensors", "state.json"
KEPT = 2  # the newest, and one more in case a disk has damaged it
_PREFIX, _UNFINISHED = "step-", ".partial"


def checkpoints(folder: Path) -> list[Path]:
    """The complete checkpoints in a folder, from the oldest to the newest."""
    found = folder.glob(f"{_PREFIX}*") if folder.is_dir() else ()
    return sorted(path for path in found if path.is_dir() and path.name[len(_PREFIX) :].isdecimal())


def save(folder: Path, model: nn.Module, optimizer: torch.optim.Optimizer, state: Mapping[str, Any]) -> Path:
    """Write a checkpoint of step state["step"], and remove all but the last two.

    Raises TrainingError if it cannot be written; then the older ones are as they were.
    """
    try:
        with committed(folder, state["step"]) as directory:
            save_file(trained(model), directory / MODEL)
            save_file(moments(model, optimizer), directory / OPTIMIZER)
            write_state(directory, state)
    except (OSError, SafetensorError) as error:
        raise TrainingError(
            f"The checkpoint of step {state['step']} cannot be written to {folder}: {error}. Make room "
            "there, and call run() again."
        ) from error
    return folder / directory_name(state["step"])


def load(path: Path, model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    """Put the weights and the optimizer's state back, bit by bit. Compare `read_state(path)` first.

    Raises TrainingError for damaged files; then the model is as it was.
    """
    if not (path / MODEL).exists() and any(path.glob("shard-*")):
        raise TrainingError(
            f"The checkpoint {path} was written by several processes. Go on with torchrun, or turn it into "
            "one for a single process with tinyphi.train.distributed.consolidate."
        )
    device = next(model.parameters()).device
    try:
        weights = load_file(path / MODEL, device=str(device))
        states = load_file(path / OPTIMIZER, device=str(device))
    except (OSError, SafetensorError) as error:
        raise damaged(path, error) from error
    parameters = trained(model)
    if weights.keys() != parameters.keys() or any(
        weights[name].shape != parameter.shape for name, parameter in parameters.items()
    ):
        raise damaged(path, "its tensors are not those of the model")
    with torch.no_grad():
        for name, parameter in parameters.items():
            parameter.copy_(weights[name])
    optimizer.state.clear()
    for key, value in states.items():
        name, _, kind = key.rpartition(".")
        optimizer.state[model.get_parameter(name)][kind] = value


def trained(model: nn.Module) -> dict[str, Tensor]:
    """The parameters that training changes, by name. One that two places share appears once."""
    return {name: weight.detach() for name, weight in model.named_parameters() if weight.requires_grad}


def moments(model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """AdamW's state of each parameter, as "name.exp_avg", "name.exp_avg_sq" and "name.step"."""
    return {
        f"{name}.{kind}": value
        for name, parameter in model.named_parameters()
        for kind, value in optimizer.state.get(parameter, {}).items()
    }


def directory_name(step: int) -> str:
    """What the checkpoint of a step is called."""
    return f"{_PREFIX}{step:08}"


def unfinished(folder: Path, step: int) -> Path:
    """Where the checkpoint of a step is while it is written."""
    return folder / f"{directory_name(step)}{_UNFINISHED}"


@contextmanager
def committed(folder: Path, step: int) -> Iterator[Path]:
    """A directory to write a checkpoint to. It gets its name when the block ends, if that goes well."""
    final, partial = folder / directory_name(step), unfinished(folder, step)
    for dead in folder.glob(
        f"{_PREFIX}*{_UNFINISHED}"
    ):  # left by a process that died while it wrote or removed
        shutil.rmtree(dead)
    partial.mkdir(parents=True)
    yield partial
    for path in (*sorted(partial.iterdir()), partial):
        _to_disk(path)  # or a power cut could leave the name and lose the contents
    os.rename(partial, final)
    _to_disk(folder)
    for old in checkpoints(folder)[:-KEPT]:
        doomed = old.with_name(f"{old.name}.old{_UNFINISHED}")
        os.rename(old, doomed)  # first, so that no half of a checkpoint ever has its name
        shutil.rmtree(doomed)


def _to_disk(path: Path) -> None:
    if os.name == "posix":  # elsewhere a directory cannot be opened
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def write_state(directory: Path, state: Mapping[str, Any]) -> None:
    """Write state.json, with the versions of what made it."""
    versions = {
        "tinyphi": tinyphi.__version__,
        "torch": torch.__version__,
        "python": platform.python_version(),
    }
    text = json.dumps({**state, "versions": versions}, indent=1)
    (directory / STATE).write_text(text + "\n", encoding="utf-8")


def read_state(path: Path) -> dict[str, Any]:
    """state.json of a checkpoint. Raises TrainingError if it is missing or damaged."""
    try:
        state = json.loads((path / STATE).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise damaged(path, error) from error
    if not isinstance(state, dict):
        raise damaged(path, "state.json holds no table")
    return state


def damaged(path: Path, why: object) -> TrainingError:
    """The error for a checkpoint that cannot be read."""
    return TrainingError(
        f"The checkpoint {path} cannot be used: {why}. Delete this directory to go on from the one before "
        "it; without another one, training starts anew."
    )


def description(model: nn.Module) -> dict[str, Any]:
    """What a model is, apart from its numbers: its configuration, and the shapes that are trained."""
    config = getattr(model, "config", None)
    told = {
        "config": asdict(config) if is_dataclass(config) and not isinstance(config, type) else None,
        "parameters": {name: list(weight.shape) for name, weight in trained(model).items()},
    }
    plain: dict[str, Any] = json.loads(json.dumps(told, default=str))  # as it comes back from a file
    return plain


def norms(model: nn.Module) -> dict[str, float]:
    """The length of every tensor of a model by name, frozen and quantized ones included.

    Enough to tell whether two models have the same weights. No hash of them: the random weights of one seed
    may differ in their last digits between machines.
    """
    tensors: dict[str, Tensor] = dict(model.named_parameters())
    for name, module in model.named_modules():
        if isinstance(module, QuantizedLinear):
            tensors |= {f"{name}.{part}": tensor for part, tensor in module.stored().items()}
    return {name: float(tensor.detach().double().norm()) for name, tensor in tensors.items()}


def same_weights(then: Mapping[str, float], now: Mapping[str, float]) -> bool:
    """Whether two results of `norms` can be of the same weights."""
    return then.keys() == now.keys() and all(
        math.isclose(then[name], now[name], rel_tol=1e-4, abs_tol=1e-9) for name in then
    )


def differences(then: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """What two nested tables disagree about, one line each: "plan.learning_rate: 0.001, now 0.002"."""
    lines = []
    for key in dict.fromkeys((*then, *now)):
        before, after = then.get(key), now.get(key)
        if isinstance(before, Mapping) and isinstance(after, Mapping):
            lines += [f"{key}.{line}" for line in differences(before, after)]
        elif before != after:
            lines.append(f"{key}: {before}, now {after}")
    return lines
