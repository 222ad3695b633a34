"""What training makes smaller: the next-token loss, and losses that learn from preferences.

Labels stand where their tokens stand, as in Hugging Face's libraries: `labels[:, i]` is the id of token i if
the model is to predict it, −100 if it is not (prompt, padding, the first token of a document). Token i is
predicted from those before it, so position i − 1 of the logits belongs to it; the functions here shift.

In the formulas, log π(y) is the log-probability of a whole completion y given its prompt, the sum over its
tokens. The reference, π_ref, is the model that training began with, and h(y) = log π(y) − log π_ref(y) says
how much likelier y has become. c is the chosen completion of a pair, r the rejected one; σ is the sigmoid.
Each loss equals that of TRL 1.16.0, or of the version named with it.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from tinyphi.data.packing import NO_TARGET, Batch
from tinyphi.errors import InputError
from tinyphi.model.transformer import Phi3

Metrics = dict[str, float]


def sft_loss(
    logits: Tensor, labels: Tensor, label_smoothing: float = 0.0, count: int | None = None
) -> Tensor:
    """The mean surprise about all targets of the batch: logits (b t v), labels (b t) → a scalar, in nats.

    L = −1/n Σ log p(token | those before it), over the n targets of all rows together: a mean over tokens,
    not over rows. Label smoothing ε asks for 1 − ε on the right token, and for ε shared among all v of them:
    (1 − ε) · surprise + ε · mean over the vocabulary of −log p.

    count: the number of targets in all micro-batches of a step, to divide by instead of n. The losses of the
        micro-batches then add up to the loss of the step, however unevenly the targets are spread.
    Computed in float32, or in float64 if the logits are.
    Raises InputError for wrong shapes, a label that is no token, and where there is nothing to predict.
    Source: `ForCausalLMLoss` and `LabelSmoother` in transformers; smoothing: arXiv 1512.00567, sec. 7.
    """
    _check_range("label_smoothing", label_smoothing, 0, 1)
    _check(logits, labels)
    targets, counted = _targets(labels)
    if count is None:
        count = _some(targets)
    elif count < 1:
        raise InputError(f"count is {count}; it must be the number of targets of the whole step, 1 or more.")
    log_probabilities = _log_softmax(logits[:, :-1][counted])
    total = -_pick(log_probabilities, targets).sum()
    if label_smoothing:
        everything = -log_probabilities.mean(-1).sum()
        total = (1 - label_smoothing) * total + label_smoothing * everything
    return total / count


def token_log_probabilities(logits: Tensor, labels: Tensor) -> Tensor:
    """log p of each target given the tokens before it: logits (b t v), labels (b t) → (b t−1).

    Column i holds the token i + 1. Where that is no target, there is a 0, so that a sum over a row is right.
    float32, or float64 if the logits are. Raises InputError for wrong shapes and a label that is no token.
    """
    _check(logits, labels)
    targets, counted = _targets(labels)
    return _spread(_pick(_log_softmax(logits[:, :-1][counted]), targets), counted)


def completion_log_probabilities(logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """log π of each row's targets, and how many they are: logits (b t v), labels (b t) → (b), (b).

    The sum, not the mean: a completion's probability is the product of its tokens'. Raises InputError for
    wrong shapes, a label that is no token, and a row without targets.
    """
    return _completions(token_log_probabilities(logits, labels), labels)


# --- losses of preferences: log-probabilities of completions in, (loss, metrics) out ---

_DPO: dict[str, Callable[[Tensor, float, float], Tensor]] = {
    "sigmoid": lambda delta, beta, _: -F.logsigmoid(beta * delta),
    "cdpo": lambda delta, beta, e: -(1 - e) * F.logsigmoid(beta * delta) - e * F.logsigmoid(-beta * delta),
    "robust": lambda delta, beta, e: (
        (-(1 - e) * F.logsigmoid(beta * delta) + e * F.logsigmoid(-beta * delta)) / (1 - 2 * e)
    ),
    "hinge": lambda delta, beta, _: F.relu(1 - beta * delta),
    "ipo": lambda delta, beta, _: (delta - 1 / (2 * beta)) ** 2,
    "ipo_sum": lambda delta, beta, _: (delta - 1 / (2 * beta)) ** 2,
}
_SMOOTHED = ("cdpo", "robust")


def dpo_loss(
    policy_chosen: Tensor,
    policy_rejected: Tensor,
    reference_chosen: Tensor | None,
    reference_rejected: Tensor | None,
    beta: float = 0.1,
    kind: str = "sigmoid",
    label_smoothing: float = 0.0,
    lengths: tuple[Tensor, Tensor] | None = None,
) -> tuple[Tensor, Metrics]:
    """Direct preference optimization: log π of the completions (b), four times → mean loss, metrics.

    Δ = h(c) − h(r) says how much more than the reference the policy prefers the chosen completion. With ε for
    `label_smoothing`, the share of pairs believed to be swapped, `kind` is one of

    - "sigmoid": −log σ(βΔ). DPO, arXiv 2305.18290, eq. 7
    - "cdpo": −(1 − ε) log σ(βΔ) − ε log σ(−βΔ). Conservative DPO, Mitchell 2023; TRL 0.12.2's "sigmoid" with
      `label_smoothing` (TRL 1.16.0 ignores that argument there)
    - "robust": [−(1 − ε) log σ(βΔ) + ε log σ(−βΔ)] / (1 − 2ε), unbiased if ε is right. arXiv 2403.00409
    - "hinge": max(0, 1 − βΔ). SLiC-HF, arXiv 2305.10425
    - "ipo": (h(c) / tokens of c − h(r) / tokens of r − 1/(2β))², as in TRL's trainers; needs `lengths`
    - "ipo_sum": (Δ − 1/(2β))², literally arXiv 2310.12036, eq. 17; `dpo_loss` of TRL 0.12.2, given sums

    reference_…: None, both of them, for no reference (`reference_free` of TRL 0.12.2): all log π_ref are 0.
    lengths: tokens of the chosen and of the rejected completions, (b) each.
    Metrics, means over the batch: the rewards β h of both, their margin, the share of pairs whose chosen
    reward is the larger (a tie does not count: 0 at the start), and log π of both.
    Raises InputError for wrong shapes, an unknown kind, and options out of range or that the kind lacks.
    """
    _check_dpo(beta, kind, label_smoothing)
    chosen = _log_ratio("chosen", policy_chosen, reference_chosen)
    rejected = _log_ratio("rejected", policy_rejected, reference_rejected)
    _check_rows(policy_chosen=policy_chosen, policy_rejected=policy_rejected)
    if (reference_chosen is None) != (reference_rejected is None):
        raise InputError("One of the references is None: give both, or neither for a loss without reference.")
    if kind == "ipo":
        by_token = _per_token(chosen, rejected, lengths)
        delta = by_token[0] - by_token[1]
    else:
        delta = chosen - rejected
    loss = _DPO[kind](delta, beta, label_smoothing).mean()
    return loss, _preference_metrics(beta * chosen, beta * rejected, policy_chosen, policy_rejected)


def simpo_loss(
    chosen: Tensor, rejected: Tensor, beta: float = 2.0, gamma: float = 1.0, label_smoothing: float = 0.0
) -> tuple[Tensor, Metrics]:
    """Preferences without a reference: mean log p of a token of each completion, (b), twice → loss, metrics.

    L = −log σ(β · (chosen − rejected) − γ): the mean instead of the sum takes away the reward for length,
    and γ is the margin by which the chosen one has to lead. With label smoothing ε: (1 − ε) of that, and ε of
    the loss of the swapped pair, −log σ of the negated argument.
    Metrics: see `dpo_loss`; rewards are β times the means. Raises InputError for wrong shapes and ranges.
    Source: SimPO, arXiv 2405.14734, eq. 6; TRL's `CPOTrainer` with loss_type="simpo", cpo_alpha=0.
    """
    _check_rows(chosen=chosen, rejected=rejected)
    _check_positive("beta", beta)
    _check_range("label_smoothing", label_smoothing, 0, 0.5)
    lead = beta * (chosen - rejected) - gamma
    losses = -(1 - label_smoothing) * F.logsigmoid(lead) - label_smoothing * F.logsigmoid(-lead)
    return losses.mean(), _preference_metrics(beta * chosen, beta * rejected, chosen, rejected)


def orpo_loss(chosen: Tensor, rejected: Tensor, nll: Tensor, beta: float = 0.1) -> tuple[Tensor, Metrics]:
    """SFT and preferences at once: mean log p of a token of each completion, (b), twice, and an SFT loss.

    L = nll − β · mean log σ(log odds(c) − log odds(r)), where odds(y) = P/(1 − P) and log P is the mean given
    here. Where P is near 1 the odds are far apart although the probabilities are not.

    nll: `sft_loss` of the chosen rows. TRL counts the prompt's tokens too in it, the paper does not.
    beta: λ in the paper. Metrics: see `dpo_loss`, and nll_loss, log_odds_ratio (log σ) and log_odds_chosen
    (its argument). Raises InputError for wrong shapes and ranges.
    Source: ORPO, arXiv 2403.07691, eq. 6 and 7; TRL's `ORPOTrainer`.
    """
    _check_rows(chosen=chosen, rejected=rejected)
    _check_positive("beta", beta)
    log_odds = _log_odds(chosen) - _log_odds(rejected)
    preferred = F.logsigmoid(log_odds).mean()
    metrics = _preference_metrics(beta * chosen, beta * rejected, chosen, rejected)
    names = ("nll_loss", "log_odds_ratio", "log_odds_chosen")
    return nll - beta * preferred, metrics | _floats(names, nll, preferred, log_odds.mean())


def kto_loss(
    policy: Tensor,
    reference: Tensor,
    desirable: Tensor,
    mismatched: Tensor,
    beta: float = 0.1,
    desirable_weight: float = 1.0,
    undesirable_weight: float = 1.0,
) -> tuple[Tensor, Metrics]:
    """Thumbs up or down instead of pairs: log π and log π_ref of completions (b), desirable (b) bool.

    L = mean of w_d · (1 − σ(β(h(y) − z))) where y is desirable, w_u · (1 − σ(β(z − h(y)))) where it is not.
    The point of reference z = max(0, mean of `mismatched`) estimates KL(π ‖ π_ref), and has no gradient.

    mismatched: (k) log π − log π_ref of completions behind prompts that they do not belong to.
    Metrics: kl (z); rewards and log π of each sort that occurs, and their margin if both do.
    As in TRL a completion that has −inf under both models, whose ratio is NaN, is left out of the loss.
    Raises InputError for wrong shapes and ranges. Source: KTO, arXiv 2402.01306; TRL's `KTOTrainer`.
    """
    _check_rows(policy=policy, reference=reference)
    _check_rows(mismatched=mismatched)
    if desirable.dtype != torch.bool or desirable.shape != policy.shape:
        raise InputError(f"desirable must be a bool tensor {tuple(policy.shape)}, one value a completion.")
    _check_positive("beta", beta)
    ratio = policy - reference
    kl = mismatched.detach().mean().clamp(min=0)
    gain = torch.where(desirable, ratio - kl, kl - ratio)
    missing = 1 - torch.sigmoid(beta * gain)
    loss = torch.where(desirable, desirable_weight * missing, undesirable_weight * missing).nanmean()
    metrics = _floats(("kl",), kl)
    for name, rows in (("chosen", desirable), ("rejected", ~desirable)):
        if bool(rows.any()):
            means = [values[rows].nansum() / rows.sum() for values in (beta * ratio, policy)]
            metrics |= _floats((f"rewards/{name}", f"logps/{name}"), *means)
    if {"rewards/chosen", "rewards/rejected"} <= metrics.keys():
        metrics["rewards/margins"] = metrics["rewards/chosen"] - metrics["rewards/rejected"]
    return loss, metrics


# --- objectives: a model and a batch in, (loss, metrics) out; what the trainer calls ---


@dataclass(frozen=True)
class PairBatch:
    """Preferences: 2b rows, first the b chosen completions, then the b rejected ones, each with its prompt.

    reference: (2b) their log π_ref, from `reference_log_probabilities`; None for a loss without reference.
    Raises InputError for an odd number of rows, or another number of references.
    """

    batch: Batch
    reference: Tensor | None

    def __post_init__(self) -> None:
        rows = len(self.batch.ids)
        if rows == 0 or rows % 2 or (self.reference is not None and self.reference.shape != (rows,)):
            shape = None if self.reference is None else tuple(self.reference.shape)
            raise InputError(
                f"Pairs need as many chosen as rejected rows, and one reference a row; these are {rows} rows "
                f"and references {shape}."
            )

    @property
    def count(self) -> int:
        """The number of pairs, over which the loss is a mean."""
        return len(self.batch.ids) // 2

    @property
    def tokens(self) -> int:
        """The number of tokens that are not padding."""
        return self.batch.tokens

    def to(self, device: torch.device | str) -> "PairBatch":
        """The same pairs on another device."""
        reference = None if self.reference is None else self.reference.to(device)
        return PairBatch(self.batch.to(device), reference)


def next_token_objective(model: Phi3, batch: Batch) -> tuple[Tensor, Metrics]:
    """`sft_loss` of the model on a batch, and the share of targets that it would have chosen itself.

    Logits are computed for the targets only: with a long vocabulary they are the largest tensor of training,
    and those of prompts and padding would be thrown away. Raises InputError as `sft_loss` does.
    """
    logits, targets, _ = _target_logits(model, batch)
    loss = -_pick(_log_softmax(logits), targets).sum() / _some(targets)
    hits = (logits.argmax(-1) == targets).float().mean()
    return loss, _floats(("mean_token_accuracy",), hits)


def preference_objective(
    beta: float = 0.1, kind: str = "sigmoid", label_smoothing: float = 0.0, sft_weight: float = 0.0
) -> Callable[[Phi3, PairBatch], tuple[Tensor, Metrics]]:
    """`dpo_loss` with these settings, as a function of a model and a `PairBatch`.

    sft_weight: α of loss + α · nll, where nll is the mean surprise about all tokens of the chosen
        completions, logged as nll_loss. It keeps them likely: DPO alone only asks that they gain on the
        rejected ones. Source: arXiv 2404.19733; TRL's loss_type=["sigmoid", "sft"], loss_weights=[1, α].
    Raises InputError for settings that `dpo_loss` does not take; the function also for an empty completion.
    """
    _check_dpo(beta, kind, label_smoothing)

    def objective(model: Phi3, batch: PairBatch) -> tuple[Tensor, Metrics]:
        sums, counts = _model_completions(model, batch.batch)
        (chosen, rejected), (of_chosen, of_rejected) = sums.chunk(2), counts.chunk(2)
        references = (None, None) if batch.reference is None else batch.reference.chunk(2)
        lengths = (of_chosen, of_rejected)
        loss, metrics = dpo_loss(
            chosen, rejected, references[0], references[1], beta, kind, label_smoothing, lengths
        )
        nll = -chosen.sum() / of_chosen.sum()
        return loss + sft_weight * nll, metrics | _floats(("nll_loss",), nll)

    return objective


@torch.no_grad()
def reference_log_probabilities(model: Phi3, batch: Batch) -> Tensor:
    """log π of each row's targets under the model as it is now: (b) float32.

    The reference of DPO never changes, so one pass over the pairs before training replaces a second model in
    memory. Raises InputError for a row without targets.
    """
    return _model_completions(model, batch)[0]


def _target_logits(model: Phi3, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
    """The logits that predict the n targets, the targets, and where they are: (n v), (n), (b t−1) bool."""
    _check_labels(batch.labels, model.config.vocab_size)
    targets, counted = _targets(batch.labels)
    hidden = model.hidden(batch.ids, batch.segments)
    return model.logits(hidden[:, :-1][counted]), targets, counted


def _model_completions(model: Phi3, batch: Batch) -> tuple[Tensor, Tensor]:
    """`completion_log_probabilities` of a model on a batch."""
    logits, targets, counted = _target_logits(model, batch)
    return _completions(_spread(_pick(_log_softmax(logits), targets), counted), batch.labels)


def _completions(log_probabilities: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """(b t−1), (b t) → sums (b), counts (b)."""
    counts = (labels[:, 1:] != NO_TARGET).sum(1)
    if bool((counts == 0).any()):
        row = int((counts == 0).nonzero()[0])
        raise InputError(
            f"Row {row} has no target, so its completion is empty. Leave such rows out. Was the text cut "
            "before its answer began?"
        )
    return log_probabilities.sum(1), counts


def _targets(labels: Tensor) -> tuple[Tensor, Tensor]:
    """The targets of all rows in order, and which predictions they belong to: (b t) → (n), (b t−1) bool."""
    following = labels[:, 1:]
    counted = following != NO_TARGET
    return following[counted], counted


def _log_softmax(logits: Tensor) -> Tensor:
    return logits.log_softmax(-1, dtype=torch.promote_types(logits.dtype, torch.float32))


def _pick(log_probabilities: Tensor, targets: Tensor) -> Tensor:
    """Each target's own: (n v), (n) → (n)."""
    return log_probabilities.gather(-1, targets[:, None]).squeeze(-1)


def _spread(values: Tensor, places: Tensor) -> Tensor:
    """The values (n) back at the n places of (b t) that are True, 0 elsewhere."""
    return values.new_zeros(places.shape).masked_scatter(places, values)


def _log_odds(log_probability: Tensor) -> Tensor:
    """log(P / (1 − P)) from log P. expm1 keeps the digits of 1 − P where P is near 1."""
    return log_probability - (-torch.expm1(log_probability)).log()


def _log_ratio(name: str, policy: Tensor, reference: Tensor | None) -> Tensor:
    if reference is None:
        return policy
    _check_rows(**{f"policy_{name}": policy, f"reference_{name}": reference})
    return policy - reference


def _per_token(
    chosen: Tensor, rejected: Tensor, lengths: tuple[Tensor, Tensor] | None
) -> tuple[Tensor, Tensor]:
    if lengths is None:
        raise InputError(
            'kind="ipo" divides by the number of tokens: give lengths=(chosen, rejected), (b) each, or take '
            'kind="ipo_sum".'
        )
    for length in lengths:
        if length.shape != chosen.shape or bool((length < 1).any()):
            raise InputError(
                f"lengths must be two tensors {tuple(chosen.shape)} of numbers of tokens, 1 or more each."
            )
    return chosen / lengths[0], rejected / lengths[1]


def _preference_metrics(
    chosen_rewards: Tensor, rejected_rewards: Tensor, chosen: Tensor, rejected: Tensor
) -> Metrics:
    """Under TRL's names; all arguments (b)."""
    names = ("rewards/chosen", "rewards/rejected", "rewards/margins", "rewards/accuracies")
    return _floats(
        (*names, "logps/chosen", "logps/rejected"),
        chosen_rewards.mean(),
        rejected_rewards.mean(),
        (chosen_rewards - rejected_rewards).mean(),
        (chosen_rewards > rejected_rewards).to(chosen.dtype).mean(),
        chosen.mean(),
        rejected.mean(),
    )


def _floats(names: tuple[str, ...], *values: Tensor) -> Metrics:
    """Scalars as numbers, with one wait for the device."""
    return dict(zip(names, torch.stack(values).detach().tolist(), strict=True))


# --- checks ---


def _check(logits: Tensor, labels: Tensor) -> None:
    if logits.ndim != 3 or logits.shape[:2] != labels.shape or not logits.is_floating_point():
        raise InputError(
            f"logits must have axes (b t v) and labels (b t), unshifted; these are {tuple(logits.shape)}, "
            f"{logits.dtype}, and {tuple(labels.shape)}."
        )
    _check_labels(labels, logits.shape[-1])


def _check_labels(labels: Tensor, vocabulary: int) -> None:
    if labels.dtype != torch.int64 or labels.ndim != 2:
        raise InputError(f"labels must be int64 (b t); these are {labels.dtype}, {tuple(labels.shape)}.")
    wrong = (labels != NO_TARGET) & ((labels < 0) | (labels >= vocabulary))
    if bool(wrong.any()):
        row, column = wrong.nonzero()[0].tolist()
        raise InputError(
            f"The label {int(labels[row, column])} in row {row}, column {column} is no token: ids are 0 … "
            f"{vocabulary - 1}, and {NO_TARGET} marks what is not to be predicted."
        )


def _some(targets: Tensor) -> int:
    """How many there are; an error for none."""
    if len(targets) == 0:
        raise InputError(
            f"Nothing to predict: every label after the first column is {NO_TARGET}. Was the text cut "
            "before its answer began?"
        )
    return len(targets)


def _check_rows(**tensors: Tensor) -> None:
    """All are (b), of one b that is not 0."""
    shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    shape = next(iter(shapes.values()))
    if len(shape) != 1 or shape == (0,) or any(other != shape for other in shapes.values()):
        raise InputError(
            f"Give one number a completion: (b), with the same b ≥ 1 everywhere. These are {shapes}."
        )


def _check_dpo(beta: float, kind: str, label_smoothing: float) -> None:
    if kind not in _DPO:
        raise InputError(f"There is no kind {kind!r} of DPO; there are {', '.join(_DPO)}.")
    _check_positive("beta", beta)
    _check_range("label_smoothing", label_smoothing, 0, 0.5)
    if label_smoothing and kind not in _SMOOTHED:
        raise InputError(f'kind="{kind}" has no label_smoothing; "cdpo" and "robust" have.')


def _check_positive(name: str, value: float) -> None:
    if not value > 0:
        raise InputError(f"{name} is {value}; it must be greater than 0.")


def _check_range(name: str, value: float, low: float, high: float) -> None:
    if not low <= value < high:
        raise InputError(f"{name} is {value}; it must be at least {low} and less than {high}.")
