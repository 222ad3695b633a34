"""The training loop: predict, compare, change the weights a little, again.

    for each step:
        gradients   of the mean loss over all targets of the step's batches
        clip        them to a largest norm
        AdamW       moves each weight, at this step's learning rate
        tell        what happened: log, progress bar, evaluation, a sample of text
        save        now and then, so that nothing is lost

Everything in a step follows from the plan and the step's number: learning rate, batches, random numbers. So a
run that was stopped anywhere goes on from its last checkpoint with the same numbers, to the last bit on a CPU
(on a GPU, some kernels add in an order of their own). Steps count from 1.
"""

import math
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol, TypeAlias

import numpy as np
import torch
from filelock import FileLock, Timeout
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint as recomputed
from tqdm import tqdm

from tinyphi.errors import InputError, TrainingError
from tinyphi.model.transformer import Phi3
from tinyphi.train import checkpoint
from tinyphi.train.log import Log, LogRow


@dataclass(frozen=True)
class Plan:
    """How to train. Raises InputError for numbers that cannot be.

    steps: updates of the weights. learning_rate: the highest one, reached after `warmup_steps`, from where it
    falls along half a cosine to learning_rate * final_share. weight_decay, betas: AdamW's. clip_norm: the
    largest norm of all gradients together; None does not clip. bfloat16: multiply matrices in bfloat16
    (autocast); weights, norms and the loss stay in float32. gradient_checkpointing: keep only the input of
    each layer and compute the rest again for the gradients; a third more work, far less memory.
    evaluate_every, sample_every, save_every: steps between, and once at the end; None is never, but for the
    checkpoint at the end. seed: of everything random in the loop.
    """

    steps: int
    learning_rate: float
    warmup_steps: int = 0
    final_share: float = 0.1
    weight_decay: float = 0.1
    betas: tuple[float, float] = (0.9, 0.95)
    clip_norm: float | None = 1.0
    bfloat16: bool = False
    gradient_checkpointing: bool = False
    evaluate_every: int | None = None
    sample_every: int | None = None
    save_every: int | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        object.__setattr__(self, "betas", tuple(self.betas))
        every = (self.evaluate_every, self.sample_every, self.save_every)
        for right, what in (
            (self.steps >= 1, "steps must be at least 1"),
            (0 < self.learning_rate < math.inf, "learning_rate must be above 0 and finite"),
            (0 <= self.warmup_steps <= self.steps, "warmup_steps must lie between 0 and steps"),
            (0 <= self.final_share <= 1, "final_share must lie between 0 and 1"),
            (0 <= self.weight_decay < math.inf, "weight_decay must be 0 or more"),
            (
                len(self.betas) == 2 and all(0 <= beta < 1 for beta in self.betas),
                "betas must be two numbers from 0 and below 1",
            ),
            (self.clip_norm is None or self.clip_norm > 0, "clip_norm must be above 0, or None"),
            (all(one is None or one >= 1 for one in every), "the …_every must be at least 1, or None"),
            (self.seed >= 0, "seed must be 0 or more"),
        ):
            if not right:
                raise InputError(f"{what}; the plan is {self}.")


class TrainingBatch(Protocol):
    """What the loop needs to know of a batch; the rest is between the data and the objective."""

    @property
    def count(self) -> int:
        """What its loss is a mean over: targets, or pairs."""

    @property
    def tokens(self) -> int:
        """Tokens that are not padding."""

    def to(self, device: torch.device) -> "TrainingBatch":
        """The same on another device."""


Batches: TypeAlias = Callable[[int], Sequence[TrainingBatch]]  # step → its micro-batches
Metrics: TypeAlias = Mapping[str, "float | Tensor"]
Objective: TypeAlias = Callable[[Phi3, Any], tuple[Tensor, Metrics]]  # → mean loss over batch.count, metrics


def learning_rate_at(step: int, plan: Plan) -> float:
    """The learning rate of a step: it grows in a line, and then falls along half a cosine.

    Source: Loshchilov and Hutter 2017 (arXiv 1608.03983), eq. 5, without restarts;
    `get_cosine_with_min_lr_schedule_with_warmup` in transformers, which counts from 0 and so wastes its first
    step on a rate of 0.
    """
    if step < plan.warmup_steps:
        return plan.learning_rate * step / plan.warmup_steps
    progress = (step - plan.warmup_steps) / max(1, plan.steps - plan.warmup_steps)
    fall = 0.5 * (1 + math.cos(math.pi * progress))
    return plan.learning_rate * (plan.final_share + (1 - plan.final_share) * fall)


def parameter_groups(model: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Trained parameters in two groups for AdamW: matrices decay; embeddings, norms and biases do not."""
    # Small matrices overfit less; a norm's scale has no reason to go from 1 to 0; and of an embedding each
    # step has gradients for a few rows only, while rows of rare tokens would shrink in all the other steps.
    embeddings = {module.weight for module in model.modules() if isinstance(module, nn.Embedding)}
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    decays = [parameter.ndim >= 2 and parameter not in embeddings for parameter in parameters]
    return [
        {
            "params": [one for one, does in zip(parameters, decays, strict=True) if does is kind],
            "weight_decay": rate,
        }
        for kind, rate in ((True, weight_decay), (False, 0.0))
    ]


class Trainer:
    """Trains a model in place.

    batches: step → the micro-batches of that step. Their gradients add up to those of one batch of all.
    objective: (model, batch) → the mean loss over batch.count, and numbers to log.
    folder: for log.jsonl, log.csv and checkpoints; if there are some, `run` goes on from the newest. None
        keeps nothing.
    evaluate: model → numbers, logged with "eval_" before their names. sample: model → text, logged as
        "sample".
    watchers: called with each row of the log.
    After a run, or an interrupted one, `step` is the last step that is done.
    """

    ranks = 1  # processes that train together; more of them in tinyphi.train.distributed
    leads = True  # whether this one writes files and talks
    patient = False  # whether a second Ctrl-C changes nothing

    def __init__(
        self,
        model: Phi3,
        plan: Plan,
        batches: Batches,
        objective: Objective,
        folder: str | Path | None = None,
        evaluate: Callable[[Phi3], Mapping[str, float]] | None = None,
        sample: Callable[[Phi3], str] | None = None,
        watchers: Sequence[Callable[[LogRow], object]] = (),
    ) -> None:
        self.plan, self.batches, self.objective = plan, batches, objective
        self.evaluate, self.sample, self.watchers = evaluate, sample, watchers
        self.folder = None if folder is None else Path(folder)
        self.about_model = checkpoint.description(model)
        if not self.about_model["parameters"]:
            raise InputError("No parameter of the model is trained: all have requires_grad=False.")
        self.norms_at_start = checkpoint.norms(model)
        self.model = self._prepare(model)
        self.device = next(model.parameters()).device
        self.optimizer = torch.optim.AdamW(
            parameter_groups(self.model, plan.weight_decay), plan.learning_rate, plan.betas, fused=True
        )
        self.step, self.tokens = 0, 0
        self._saved: int | None = None  # the step of the newest checkpoint
        self.log = Log(self.folder if self.leads else None)

    def run(self) -> list[LogRow]:
        """Train to the end of the plan, or on from the newest checkpoint in the folder; return the log.

        A row holds step, loss, learning_rate, gradient_norm (before clipping), tokens (so far),
        tokens_per_second and the objective's metrics; some hold evaluations and a sample.
        Ctrl-C or SIGTERM lets the step end, saves, and returns; call `run` again to go on. A second Ctrl-C
        stops at once.
        Raises TrainingError if loss or gradients are not finite, before they change a weight; if the folder
        belongs to another plan or model, or to a process that is training now; or if a checkpoint cannot be
        written or read.
        """
        with ExitStack() as stack:
            stack.enter_context(self._locked_folder())
            stack.enter_context(torch.random.fork_rng([self.device] if self.device.type == "cuda" else []))
            stack.enter_context(_mode(self.model, training=True))
            if self.plan.gradient_checkpointing:
                stack.enter_context(recomputing(self.model))
            stopped = stack.enter_context(_stop_signals(self.patient))
            self._resume()
            bar = stack.enter_context(self._bar())
            while self.step < self.plan.steps and not self._any(bool(stopped)):
                row = self._train_step(self.step + 1)
                self.step += 1
                self._observe(row)
                bar.set_postfix(loss=f"{row['loss']:.3f}", refresh=False)
                bar.update()
                if _due(self.step, self.plan.save_every) or self.step == self.plan.steps:
                    self._keep()
            if self.step < self.plan.steps:
                self._stop_early()
        return self.log.rows

    def _train_step(self, step: int) -> LogRow:
        """One update of the weights, and its row of the log."""
        plan, started = self.plan, time.perf_counter()
        torch.manual_seed(_seed_of(plan.seed, step))
        batches = [batch.to(self.device) for batch in self.batches(step)]
        rate = learning_rate_at(step, plan)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.optimizer.zero_grad()
        loss, metrics, tokens = self._backward(step, batches)
        gradients = [one.grad for one in self.model.parameters() if one.grad is not None]
        total_norm = self._whole(torch.nn.utils.get_total_norm(gradients))
        norm = float(total_norm)
        if not (math.isfinite(loss) and math.isfinite(norm)):
            raise self._not_finite(step, rate, loss, norm)
        if plan.clip_norm is not None:
            torch.nn.utils.clip_grads_with_norm_(self.model.parameters(), plan.clip_norm, total_norm)
        self.optimizer.step()
        self.tokens += tokens
        seconds = time.perf_counter() - started
        return {
            "step": step, "loss": loss, "learning_rate": rate, "gradient_norm": norm, "tokens": self.tokens,
            "tokens_per_second": round(tokens / seconds, 1), **metrics,
        }  # fmt: skip

    def _backward(self, step: int, batches: Sequence[TrainingBatch]) -> tuple[float, dict[str, float], int]:
        """Add up the gradients of Σ loss · count / Σ count; return it, the metrics' means, and the tokens.

        That is the mean over all targets of the step, whichever micro-batch they stand in; a mean of means
        would favour the targets of short texts. Source: `num_items_in_batch` in transformers and TRL.
        """
        if not batches or any(batch.count < 1 for batch in batches):
            raise InputError(
                f"Step {step} has {len(batches)} batches, with {[batch.count for batch in batches]} targets. "
                "Each step needs a batch, and each batch a target: leave out documents without any."
            )
        total, tokens = self._sum(
            [float(sum(batch.count for batch in batches)), float(sum(batch.tokens for batch in batches))]
        )
        sums: dict[str, float] = {"loss": 0.0}
        for batch in batches:
            with torch.autocast(  # each matrix is used once, so its rounded copy is not worth keeping
                self.device.type, torch.bfloat16, enabled=self.plan.bfloat16, cache_enabled=False
            ):
                loss, metrics = self.objective(self.model, batch)
            share = batch.count / total
            (loss * (share * self.ranks)).backward()  # type: ignore[no-untyped-call]  # ranks: gradients are averaged
            for name, value in {"loss": loss, **metrics}.items():
                plain = value.detach() if isinstance(value, Tensor) else value
                sums[name] = sums.get(name, 0.0) + float(plain) * share
        sums = dict(zip(sums, self._sum(list(sums.values())), strict=True))
        return sums.pop("loss"), sums, int(tokens)

    def _observe(self, row: LogRow) -> None:
        """Evaluate and sample where the plan says so, and tell everyone."""
        last = self.step == self.plan.steps
        with _mode(self.model, training=False), torch.no_grad():
            every = self.plan.evaluate_every
            if self.evaluate is not None and every and (last or _due(self.step, every)):
                row |= {f"eval_{name}": float(value) for name, value in self.evaluate(self.model).items()}
            every = self.plan.sample_every
            if self.sample is not None and every and (last or _due(self.step, every)):
                row["sample"] = self.sample(self.model)
        self.log.append(row)
        if self.leads:
            for watcher in self.watchers:
                watcher(row)

    def _resume(self) -> None:
        """Go on from the newest checkpoint, if there is one, with the log as it was then."""
        found = checkpoint.checkpoints(self.folder) if self.folder else []
        if found:
            state = checkpoint.read_state(found[-1])
            self._check_same_run(found[-1], state)
            self._load(found[-1])
            self.step = self._saved = state["step"]
            self.tokens = state["tokens"]
            self.norms_at_start = state.get("norms_at_start", self.norms_at_start)
        self.log.go_back(self.step)

    def _check_same_run(self, path: Path, state: Mapping[str, Any]) -> None:
        """Raise TrainingError unless the checkpoint is of this plan and model."""
        now = self._state()
        told = ("plan", "model")
        different = checkpoint.differences(
            {key: state.get(key, {}) for key in told}, {key: now[key] for key in told}
        )
        # A model is given again as it was at the start, or (in a notebook) as it was when it was saved.
        known = [state[key] for key in ("norms_at_start", "norms") if key in state]
        if known and not any(checkpoint.same_weights(norms, self.norms_at_start) for norms in known):
            different.append("the weights that training starts from")
        if different:
            raise TrainingError(
                f"{path} is a checkpoint of another run. Different: {'; '.join(different[:6])}. To go on "
                "with that run, use its plan and the model that it began with; for a new one, take another "
                "folder, or delete this one."
            )

    def _state(self) -> dict[str, Any]:
        """What state.json says, apart from the weights as they are now."""
        plan = asdict(self.plan)
        for observed in ("evaluate_every", "sample_every", "save_every"):  # these change no weight
            del plan[observed]
        return {
            "step": self.step,
            "tokens": self.tokens,
            "plan": {**plan, "betas": list(self.plan.betas)},
            "model": self.about_model,
            "norms_at_start": self.norms_at_start,
        }

    def _not_finite(self, step: int, rate: float, loss: float, norm: float) -> TrainingError:
        found = checkpoint.checkpoints(self.folder) if self.folder else []
        last = f"The last good checkpoint is {found[-1]}" if found else "There is no checkpoint"
        return TrainingError(
            f"Step {step} has loss {loss} and gradient norm {norm}, at learning rate {rate:.3g}. It was not "
            f"applied: the weights are those after step {self.step}. {last}. Look at the batches of this "
            "step; then try a lower learning rate, more warm-up steps, a smaller clip_norm, or no bfloat16."
        )

    def _keep(self) -> None:
        """Save, unless there is no folder, or this step is saved already."""
        if self.folder and self._saved != self.step:
            self._save()
            self._saved = self.step

    def _stop_early(self) -> None:
        """Ctrl-C: keep what was reached, and say so."""
        self._keep()
        where = "Nothing was saved, for want of a folder; the model in memory is as it was then"
        if self.folder:
            where = f"It was saved to {self.folder}"
        if self.leads:
            tqdm.write(
                f"Stopped after step {self.step} of {self.plan.steps}. {where}. To go on, call run() again."
            )

    @contextmanager
    def _locked_folder(self) -> Iterator[None]:
        """Let no other process train into the folder. A lock dies with its process."""
        if self.folder is None or not self.leads:
            yield
            return
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with FileLock(self.folder / ".lock", timeout=0):
                yield
        except Timeout as error:
            raise TrainingError(
                f"Another process is training into {self.folder}. Wait, stop it, or take another folder."
            ) from error

    def _bar(self) -> Any:
        quiet = None if self.leads else True  # None: unless somebody watches a terminal
        return tqdm(total=self.plan.steps, initial=self.step, desc="training", leave=False, disable=quiet)

    # What is different with several processes

    def _prepare(self, model: Phi3) -> Phi3:
        """The model as it is trained."""
        return model

    def _sum(self, numbers: list[float]) -> list[float]:
        """Each number, over all processes."""
        return numbers

    def _any(self, here: bool) -> bool:
        """Whether it is true in any process."""
        return self._sum([float(here)])[0] > 0

    def _whole(self, number: Tensor) -> Tensor:
        """A number that processes may hold parts of."""
        return number

    def _save(self) -> None:
        assert self.folder is not None
        state = {**self._state(), "norms": checkpoint.norms(self.model)}
        checkpoint.save(self.folder, self.model, self.optimizer, state)

    def _load(self, path: Path) -> None:
        checkpoint.load(path, self.model, self.optimizer)


@contextmanager
def recomputing(model: Phi3) -> Iterator[None]:
    """Gradient checkpointing: in the block, layers keep their input only and compute again for gradients.

    The layers' names and weights stay what they are. Source: Chen et al. 2016 (arXiv 1604.06174), sec. 4.
    """
    for layer in model.layers:
        layer.forward = partial(recomputed, layer.forward, use_reentrant=False)
    try:
        yield
    finally:
        for layer in model.layers:
            del layer.forward  # the instance's; the class has its own


@contextmanager
def _mode(model: nn.Module, training: bool) -> Iterator[None]:
    """Training or evaluation mode within the block, and as before after it."""
    before = model.training
    model.train(training)
    try:
        yield
    finally:
        model.train(before)


@contextmanager
def _stop_signals(patient: bool) -> Iterator[list[int]]:
    """Within the block, Ctrl-C and SIGTERM are only noted, in the list; a second Ctrl-C interrupts.

    patient: it is only noted, too.
    """
    noted: list[int] = []

    def note(number: int, frame: object) -> None:
        if number == signal.SIGINT and number in noted and not patient:
            raise KeyboardInterrupt
        noted.append(number)

    if threading.current_thread() is not threading.main_thread():  # only the main thread is told of signals
        yield noted
        return
    before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield noted
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _due(step: int, every: int | None) -> bool:
    return every is not None and step % every == 0


def _seed_of(seed: int, step: int) -> int:
    """A seed for the random numbers of one step, unlike those of its neighbours."""
    return int(np.random.SeedSequence([seed, step]).generate_state(1, np.uint64)[0] >> 1)
