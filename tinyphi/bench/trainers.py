"""tinyphi's training, transformers' and TRL's behind one interface, so that all are measured alike.

What all have in common is in `Work` and `PLAN`: weights at the start, batch, dtype, AdamW (fused, with the
same groups), clipping. A run is a few steps on one batch, and tells its loss at each: if those agree to the
end, the sides did the same work.
"""

import time
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from importlib import import_module
from importlib.util import find_spec
from tempfile import TemporaryDirectory
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from tinyphi.config import PhiConfig
from tinyphi.data.packing import NO_TARGET, Batch
from tinyphi.model.transformer import Phi3
from tinyphi.train.loop import Objective, Plan, Trainer, TrainingBatch, parameter_groups
from tinyphi.train.losses import (
    PairBatch,
    next_token_objective,
    preference_objective,
    reference_log_probabilities,
)
from tinyphi.weights.names import LAYOUTS, places

PLAN = Plan(steps=4, learning_rate=1e-3, final_share=1.0)  # a constant rate
_BETA = 0.1  # of DPO


@dataclass(frozen=True)
class Work:
    """What is trained: the model's shape, one batch for all steps, dtype of products, device."""

    name: str
    config: PhiConfig
    batch: Batch
    bfloat16: bool = False
    device: str = "cpu"

    def model(self) -> Phi3:
        """The same weights whenever it is called."""
        torch.manual_seed(0)
        return Phi3(self.config).to(self.device)

    def theirs(self) -> Any:
        """The same weights in transformers, with torch's fused attention."""
        library = import_module("transformers")
        config = library.Phi3Config(**self.config.to_hugging_face())
        model = library.Phi3ForCausalLM._from_config(config, attn_implementation="sdpa")
        ours = self.model()
        names = places(self.config, LAYOUTS["phi3"])
        weights = {name: ours.get_parameter(place.parameter) for name, place in names.items()}
        if self.config.tie_word_embeddings:  # then its list of weights has the head all the same
            weights["lm_head.weight"] = weights["model.embed_tokens.weight"]
        model.load_state_dict(weights)
        return model.to(self.device).train()


class Run(NamedTuple):
    """What a run took."""

    seconds: float  # all steps but the first, in which the optimizer takes its memory
    losses: list[float]  # of all steps


class Side(ABC):
    """One who trains."""

    name: ClassVar[str]  # in tables
    module: ClassVar[str] = "tinyphi"  # that must be importable
    extra: ClassVar[str] = ""  # of tinyphi, which brings it

    def __init__(self, work: Work) -> None:
        self.work = work
        self.batch = work.batch.to(work.device)
        self.model: nn.Module = self.make_model()
        self.start = {name: value.clone() for name, value in self.model.state_dict().items()}

    @classmethod
    def problem(cls) -> str | None:
        """Why it cannot be measured here, or None."""
        if find_spec(cls.module) is None:
            return f'not installed, pip install "tinyphi[{cls.extra}]"'
        return None

    def run(self) -> Run:
        """`PLAN.steps` steps from the weights at the start."""
        self.model.load_state_dict(self.start)
        ticks: list[float] = []
        losses = self.train(ticks)
        return Run(ticks[-1] - ticks[0], losses)

    @abstractmethod
    def make_model(self) -> nn.Module: ...

    @abstractmethod
    def train(self, ticks: list[float]) -> list[float]:
        """Train; note `now` after each step, and return the losses."""

    def now(self) -> float:
        """The time, when all that was asked of the device is done."""
        if self.work.device != "cpu":
            torch.cuda.synchronize()
        return time.perf_counter()

    def autocast(self) -> AbstractContextManager[Any]:
        return torch.autocast(torch.device(self.work.device).type, torch.bfloat16, enabled=self.work.bfloat16)


class Tinyphi(Side):
    """`tinyphi.train.loop.Trainer` with the next-token loss; all that it checks and logs is timed."""

    name = "tinyphi"
    objective: Objective = staticmethod(next_token_objective)

    def make_model(self) -> Phi3:
        return self.work.model()

    def batches(self, step: int) -> Sequence[TrainingBatch]:
        return [self.batch]

    def train(self, ticks: list[float]) -> list[float]:
        assert isinstance(self.model, Phi3)
        plan = replace(PLAN, bfloat16=self.work.bfloat16)
        watchers = [lambda row: ticks.append(self.now())]
        rows = Trainer(self.model, plan, self.batches, self.objective, watchers=watchers).run()
        return [float(row["loss"]) for row in rows]


class TinyphiDPO(Tinyphi):
    """The same with DPO, the reference's log-probabilities given."""

    objective: Objective = staticmethod(preference_objective(_BETA))

    def __init__(self, work: Work) -> None:
        super().__init__(work)
        assert isinstance(self.model, Phi3)
        self.pairs = self.pairs_by(self.model)

    def pairs_by(self, reference: Phi3) -> PairBatch:
        with self.autocast():
            return PairBatch(self.batch, reference_log_probabilities(reference, self.batch))

    def batches(self, step: int) -> Sequence[TrainingBatch]:
        return [self.pairs]


class TinyphiDPOReference(TinyphiDPO):
    """The same, and the reference model reads the batch in each step."""

    def __init__(self, work: Work) -> None:
        super().__init__(work)
        self.reference = work.model()

    def batches(self, step: int) -> Sequence[TrainingBatch]:
        return [self.pairs_by(self.reference)]


class Loop(Side):
    """The loop that everybody writes around a model of transformers, and nothing more."""

    name = "transformers, loop"
    module = "transformers"
    extra = "reference"

    def make_model(self) -> nn.Module:
        model: nn.Module = self.work.theirs()
        return model

    def loss(self) -> Tensor:
        # Rows are full, so they need no mask: attention is then only causal, on both sides.
        loss: Tensor = self.model(input_ids=self.batch.ids, labels=self.batch.labels, use_cache=False).loss
        return loss

    def train(self, ticks: list[float]) -> list[float]:
        optimizer, losses = make_optimizer(self.model), []
        for _ in range(PLAN.steps):
            with self.autocast():
                loss = self.loss()
            loss.backward()  # type: ignore[no-untyped-call]
            assert PLAN.clip_norm is not None
            nn.utils.clip_grad_norm_(self.model.parameters(), PLAN.clip_norm)
            optimizer.step()
            optimizer.zero_grad()
            losses.append(loss.detach())
            ticks.append(self.now())
        return [float(loss) for loss in losses]


class TransformersTrainer(Loop):
    """`transformers.Trainer` itself, without saving."""

    name = "transformers, Trainer"

    def train(self, ticks: list[float]) -> list[float]:
        library = import_module("transformers")
        note = {"on_step_end": lambda *_, **__: ticks.append(self.now())}
        optimizer = make_optimizer(self.model)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1.0)
        rows = [
            {"input_ids": ids, "labels": labels}
            for ids, labels in zip(self.work.batch.ids, self.work.batch.labels, strict=True)
        ]
        with TemporaryDirectory(prefix="tinyphi-") as folder:
            trainer = library.Trainer(
                self.model,
                library.TrainingArguments(
                    **_arguments(self.work, folder), per_device_train_batch_size=len(rows),
                    train_sampling_strategy="sequential", max_steps=PLAN.steps, max_grad_norm=PLAN.clip_norm,
                    logging_steps=1, save_strategy="no", remove_unused_columns=False,
                ),
                train_dataset=rows * PLAN.steps,
                callbacks=[type("Ticks", (library.TrainerCallback,), note)()],
                optimizers=(optimizer, schedule),
            )  # fmt: skip
            trainer.remove_callback(library.PrinterCallback)
            trainer.train()
        return [row["loss"] for row in trainer.state.log_history if "loss" in row]


class TRL(Loop):
    """`compute_loss` of TRL's `DPOTrainer` in the same loop, the reference's log-probabilities given."""

    name = "TRL"
    module = "trl"
    extra = "test"
    precomputed = True

    def __init__(self, work: Work) -> None:
        super().__init__(work)
        self.trainer = self._make_trainer()
        self.inputs: dict[str, Tensor] = {
            "input_ids": self.batch.ids,
            "attention_mask": self.batch.segments,
            "completion_mask": (self.batch.labels != NO_TARGET).long(),
        }
        if self.precomputed:
            with self.autocast():
                references = self.trainer.compute_ref_log_probs(self.model, self.inputs)
            self.inputs |= dict(zip(("ref_chosen_logps", "ref_rejected_logps"), references, strict=True))

    def loss(self) -> Tensor:
        loss: Tensor = self.trainer.compute_loss(self.model, self.inputs)
        return loss

    def _make_trainer(self) -> Any:
        """A trainer whose own data is never used: a word, since it asks for some."""
        trl, datasets = import_module("trl"), import_module("datasets")
        datasets.disable_progress_bars()
        words = import_module("tokenizers").Tokenizer(
            import_module("tokenizers.models").WordLevel({"word": 0}, unk_token="word")
        )
        tokenizer = import_module("transformers").PreTrainedTokenizerFast(
            tokenizer_object=words, eos_token="word", pad_token="word"
        )
        with TemporaryDirectory(prefix="tinyphi-") as folder:
            return trl.DPOTrainer(
                self.model,
                None if self.precomputed else self.work.theirs(),
                trl.DPOConfig(
                    **_arguments(self.work, folder), beta=_BETA, precompute_ref_log_probs=self.precomputed,
                    gradient_checkpointing=False,  # TRL's default; it would compute everything twice
                ),
                train_dataset=datasets.Dataset.from_list([dict.fromkeys(_COLUMNS, "word")]),
                processing_class=tokenizer,
            )  # fmt: skip


class TRLReference(TRL):
    """The same, and the reference model reads the batch in each step."""

    precomputed = False


_COLUMNS = ("prompt", "chosen", "rejected")


def _arguments(work: Work, folder: str) -> dict[str, Any]:
    return {
        "output_dir": folder, "bf16": work.bfloat16, "use_cpu": work.device == "cpu", "report_to": "none",
        "disable_tqdm": True,
    }  # fmt: skip


def make_optimizer(model: nn.Module) -> torch.optim.AdamW:
    """The optimizer of `tinyphi.train.loop.Trainer`, for any model."""
    groups = parameter_groups(model, PLAN.weight_decay)
    return torch.optim.AdamW(groups, PLAN.learning_rate, PLAN.betas, fused=True)


def hush() -> None:
    """Let transformers say errors only."""
    if find_spec("transformers") is not None:
        import_module("transformers").utils.logging.set_verbosity_error()


def difference(found: Mapping[str, Run]) -> float:
    """The largest relative difference of the first side's loss from another's, over all steps."""
    first, *others = (run.losses for run in found.values())
    return max(
        (
            abs(mine - their) / abs(their)
            for losses in others
            for mine, their in zip(first, losses, strict=True)
        ),
        default=0.0,
    )
