"""The same loop in several processes, each of which holds a part of every matrix.

    torchrun --nproc-per-node=4 script.py

    rank 0   ▓░░░   a quarter of every parameter, of its gradient and of AdamW's two moments
    rank 1   ░▓░░   before a layer computes, it gathers the other quarters, and drops them after it;
    rank 2   ░░▓░   its gradient is summed over the ranks, and each keeps its quarter
    rank 3   ░░░▓   each rank computes on micro-batches of its own

So memory falls with the number of processes, and the numbers stay what they are: the loss is a mean over the
targets of all ranks, and gradients are clipped to one norm for all. Sharding is torch's `fully_shard`
(FSDP2), checkpoints are torch's distributed ones, in safetensors files.

Source: Rajbhandari et al. 2020 (arXiv 1910.02054), sec. 5, stage 3; Zhao et al. 2023 (arXiv 2304.11277).
"""

import math
import os
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch
import torch.distributed as dist
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageReader, HuggingFaceStorageWriter
from torch.distributed.checkpoint.metadata import TensorStorageMetadata
from torch.distributed.checkpoint.state_dict_loader import load
from torch.distributed.checkpoint.state_dict_saver import save
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard, register_fsdp_forward_method
from torch.distributed.tensor import DTensor

from tinyphi.errors import InputError, TrainingError
from tinyphi.model.transformer import Phi3
from tinyphi.train import checkpoint
from tinyphi.train.loop import Batches, Trainer, TrainingBatch

_MOMENTS = ("exp_avg", "exp_avg_sq", "step")


@contextmanager
def process_group() -> Iterator[torch.device]:
    """Join the other processes that torchrun started; gives this one's device, a GPU if there are some.

    Raises InputError in a process that torchrun did not start.
    """
    if "LOCAL_RANK" not in os.environ:
        raise InputError(
            "This process has no companions. Start it with torchrun --nproc-per-node=2 script.py."
        )
    device = torch.device("cpu")
    if torch.cuda.is_available():
        device = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
        torch.cuda.set_device(device)
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
    try:
        yield device
    finally:
        dist.destroy_process_group()


def share(batches: Batches) -> Batches:
    """This process's micro-batches of each step: every n-th of n processes.

    Raises InputError where they cannot be dealt out evenly: all processes must compute equally often, because
    each waits for the others.
    """
    rank, ranks = dist.get_rank(), dist.get_world_size()

    def mine(step: int) -> Sequence[TrainingBatch]:
        every = batches(step)
        if not every or len(every) % ranks:
            raise InputError(
                f"Step {step} has {len(every)} micro-batches for {ranks} processes. Give as many to each: "
                f"make `accumulate` a multiple of {ranks}."
            )
        return every[rank::ranks]

    return mine


class ShardedTrainer(Trainer):
    """A `Trainer` within `process_group`, with the same arguments in every process.

    batches: of all processes; each takes its `share`. The folder must be one that all of them see. Only the
    first process logs, and calls watchers; all evaluate and sample, for none has the whole model.
    The model is sharded in place, on this process's device, and stays so; `consolidate` makes a whole one of
    a checkpoint. A run may go on with another number of processes, also from the checkpoint of a `Trainer`.
    Raises InputError unless all processes start with the same weights.
    """

    patient = True  # torchrun hands on the Ctrl-C that its processes have got from the terminal already

    def _prepare(self, model: Phi3) -> Phi3:
        self.ranks, self.leads = dist.get_world_size(), dist.get_rank() == 0
        self.batches = share(self.batches)
        everywhere: list[dict[str, float]] = [{} for _ in range(self.ranks)]
        dist.all_gather_object(everywhere, self.norms_at_start)
        if not all(checkpoint.same_weights(weights, self.norms_at_start) for weights in everywhere):
            raise InputError(
                "The processes have models with different weights. Set the same seed in each before making "
                "the model, or load it from the same file."
            )
        mesh = init_device_mesh("cuda" if dist.get_backend() == "nccl" else "cpu", (self.ranks,))
        for layer in model.layers:  # one after the other moves to this process's device, and keeps its part
            fully_shard(layer, mesh=mesh)
        fully_shard(model, mesh=mesh)
        for method in ("hidden", "logits"):  # objectives may call these instead of the model itself
            register_fsdp_forward_method(model, method)
        return model

    def _sum(self, numbers: list[float]) -> list[float]:
        totals = torch.tensor(numbers, dtype=torch.float64, device=self.device)
        dist.all_reduce(totals)
        return totals.tolist()

    def _whole(self, number: Tensor) -> Tensor:
        return number.full_tensor() if isinstance(number, DTensor) else number

    def _tensors(self) -> dict[str, Tensor]:
        return {**checkpoint.trained(self.model), **checkpoint.moments(self.model, self.optimizer)}

    def _save(self) -> None:
        assert self.folder is not None
        with _committed_together(self.folder, self.step) as directory:
            writer = HuggingFaceStorageWriter(str(directory), save_distributed=True)
            save(self._tensors(), storage_writer=writer)
            if self.leads:
                checkpoint.write_state(directory, self._state())

    def _load(self, path: Path) -> None:
        stored = _stored(path)
        self.optimizer.state.clear()
        for name, parameter in self.model.named_parameters():
            if f"{name}.step" in stored:
                state = self.optimizer.state[parameter]
                state["step"] = torch.zeros((), device=self.device)
                state["exp_avg"], state["exp_avg_sq"] = (
                    torch.zeros_like(parameter),
                    torch.zeros_like(parameter),
                )
        load(self._tensors(), storage_reader=HuggingFaceStorageReader(str(path)))


@contextmanager
def _committed_together(folder: Path, step: int) -> Iterator[Path]:
    """`checkpoint.committed` by the first process, which waits for the others before and after."""
    if dist.get_rank() == 0:
        with checkpoint.committed(folder, step) as directory:
            dist.barrier()
            yield directory
            dist.barrier()
        dist.barrier()
    else:
        dist.barrier()
        yield checkpoint.unfinished(folder, step)
        dist.barrier()
        dist.barrier()


def consolidate(path: str | Path, folder: str | Path) -> Path:
    """A checkpoint of several processes → an ordinary one in another folder, for a single process.

    path: the checkpoint, such as run/step-00000200. Its model.safetensors holds the whole trained parameters,
    and a `Trainer` with the other folder goes on from it. Needs no companions, and memory for all of it.
    Raises TrainingError for a damaged checkpoint, or if it is in that folder already.
    """
    path, folder = Path(path), Path(folder)
    state, stored = checkpoint.read_state(path), _stored(path)
    tensors = {name: torch.empty(about.size, dtype=about.properties.dtype) for name, about in stored.items()}
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "torch.distributed is disabled")  # it is meant to be
        load(tensors, storage_reader=HuggingFaceStorageReader(str(path)), no_dist=True)
    of_optimizer = {name for name in tensors if name.rpartition(".")[2] in _MOMENTS}
    try:
        with checkpoint.committed(folder, state["step"]) as directory:
            save_file(
                {name: tensors[name] for name in tensors.keys() - of_optimizer}, directory / checkpoint.MODEL
            )
            save_file({name: tensors[name] for name in of_optimizer}, directory / checkpoint.OPTIMIZER)
            checkpoint.write_state(directory, state)
    except OSError as error:
        raise TrainingError(f"The checkpoint cannot be written to {folder}: {error}.") from error
    return folder / checkpoint.directory_name(state["step"])


def _stored(path: Path) -> dict[str, TensorStorageMetadata]:
    """The tensors of a checkpoint by name. Raises TrainingError unless every part of each is there."""
    try:
        found = HuggingFaceStorageReader(str(path)).read_metadata().state_dict_metadata
    except (OSError, SafetensorError, CheckpointException) as error:
        raise checkpoint.damaged(path, error) from error
    tensors = {name: about for name, about in found.items() if isinstance(about, TensorStorageMetadata)}
    for name, shape in checkpoint.read_state(path)["model"]["parameters"].items():
        for key in (name, *(f"{name}.{kind}" for kind in _MOMENTS[:2] if f"{name}.step" in tensors)):
            parts = tensors[key].chunks if key in tensors else []
            if sum(math.prod(part.sizes) for part in parts) != math.prod(shape):
                raise checkpoint.damaged(path, f"a part of {key} is missing")
    return tensors
