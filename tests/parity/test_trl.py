"""The losses against TRL's own code; each comparison is shown to notice mistakes.

TRL computes its losses in methods of its trainers. The trainers are not built here: each method is called
with a stand-in for `self` that has the settings it reads, and with a model that gives prepared logits, or
with a real Phi3ForCausalLM. From the logits on, every number comes from the installed TRL. The fused head
that it puts on transformers' models computes in float32, so with prepared logits its `selective_log_softmax`
takes that place, in float64.
"""

import warnings
from collections import defaultdict
from types import SimpleNamespace

import pytest
import torch
from torch.nn import functional as F
from transformers.loss.loss_utils import ForCausalLMLoss
from transformers.trainer_pt_utils import LabelSmoother

from tinyphi.data.packing import Batch
from tinyphi.train import losses
from tinyphi.train.losses import (
    PairBatch,
    completion_log_probabilities,
    dpo_loss,
    kto_loss,
    next_token_objective,
    orpo_loss,
    preference_objective,
    reference_log_probabilities,
    sft_loss,
    simpo_loss,
    token_log_probabilities,
)

trl = pytest.importorskip("trl", reason="needs the extra `test`")
from trl.trainer.utils import FusedCausalLMOutput, add_fused_lm_head, selective_log_softmax  # noqa: E402

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # that these two are experimental
    from trl.experimental.cpo import CPOTrainer
    from trl.experimental.orpo import ORPOTrainer

PAIRS, TOKENS, VOCABULARY = 3, 9, 23
COMPLETIONS = [(2, 7), (3, 9), (4, 5), (2, 6), (5, 9), (3, 4)]  # where each row's starts and ends
EDGES = [
    "random",
    "as the reference",
    "ties",
    "chosen impossible",
    "rejected impossible",
    "impossible under both",
]
DPO = {
    "sigmoid": {},
    "robust": {"label_smoothing": 0.2},
    "hinge": {},
    "ipo": {},
}


class Prepared:
    """Random logits (2b t v) of a policy and a reference for one batch of pairs, in float64."""

    def __init__(self, edge="random", seed=0):
        torch.manual_seed(seed)
        shape = (2 * PAIRS, TOKENS)
        self.ids = torch.randint(VOCABULARY, shape)
        columns = torch.arange(TOKENS)
        self.completion = torch.stack([(start <= columns) & (columns < end) for start, end in COMPLETIONS])
        self.attention = torch.stack([columns < end for _, end in COMPLETIONS])
        self.labels = self.ids.masked_fill(~self.completion, -100)
        self.reference_logits = 2 * torch.randn(*shape, VOCABULARY, dtype=torch.float64)
        self.logits = self.reference_logits + torch.randn_like(self.reference_logits)
        if edge == "as the reference":
            self.logits = self.reference_logits.clone()
        if edge == "ties":  # the two completions of a pair are the same text, and so equally likely
            for values in (self.ids, self.completion, self.attention, self.labels):
                values[PAIRS:] = values[:PAIRS]
            for logits in (self.logits, self.reference_logits):
                logits[PAIRS:] = logits[:PAIRS]
        if (
            "impossible" in edge
        ):  # a token of one completion has probability 0; in both rows token 5 is a target
            row = 1 + PAIRS if edge == "rejected impossible" else 1
            self.logits[row, 4, self.ids[row, 5]] = -torch.inf
            if edge == "impossible under both":  # then the ratio is NaN; KTO leaves it out
                self.reference_logits[row, 4, self.ids[row, 5]] = -torch.inf
        self.logits.requires_grad_()

    def completions(self, reference=False):
        logits = self.reference_logits if reference else self.logits
        return completion_log_probabilities(logits, self.labels)

    def halves(self, rows):
        return rows[:PAIRS], rows[PAIRS:]


def model_with(logits):
    """A model for TRL that gives these logits, or their log-probabilities as TRL's fused head does."""

    def model(input_ids=None, attention_mask=None, use_cache=None, labels=None, fused_lm_head=False):
        if not fused_lm_head:
            return SimpleNamespace(logits=logits)
        following, mask = labels[:, 1:], labels[:, 1:] != -100
        log_probs = selective_log_softmax(logits[:, :-1], following.clamp(min=0)).masked_fill(~mask, 0)
        zeros = torch.zeros_like(log_probs)
        hits = (logits[:, :-1].argmax(-1) == following) & mask
        return FusedCausalLMOutput(
            loss=None, log_probs=log_probs, entropy=zeros, mean_logits=zeros, is_top1=hits, label_mask=mask
        )

    return model


def stand_in(**settings):
    """What the methods read of a trainer."""
    accelerator = SimpleNamespace(device=torch.device("cpu"), parallelism_config=None)
    accelerator.gather = accelerator.gather_for_metrics = lambda values: values
    return SimpleNamespace(
        accelerator=accelerator,
        model=SimpleNamespace(training=False),
        aux_loss_enabled=False,
        precompute_ref_logps=True,
        is_encoder_decoder=False,
        _metrics={"eval": defaultdict(list)},
        _total_train_tokens=0,
        **settings,
    )


def metrics_of(trainer):
    return {name: values[-1] for name, values in trainer._metrics["eval"].items()}


def difference(ours, theirs, logits):
    """The largest of loss, every metric of ours, and the gradient by the logits, relative where large.

    TRL counts accuracies in float32, so it is about 1e-8 where all is well.
    """
    (loss, metrics), (their_loss, their_metrics) = ours, theirs
    (gradient,) = torch.autograd.grad(loss, logits, retain_graph=True)
    (their_gradient,) = torch.autograd.grad(their_loss, logits)
    pairs = [(loss, their_loss), (gradient, their_gradient)]
    pairs += [(metrics[name], their_metrics[name]) for name in metrics]
    return max(_difference(*pair) for pair in pairs)


def _difference(mine, theirs):
    mine, theirs = (torch.as_tensor(values, dtype=torch.float64).detach() for values in (mine, theirs))
    if not torch.equal(mine.isnan(), theirs.isnan()) or not torch.equal(mine.isinf(), theirs.isinf()):
        return torch.inf
    mine, theirs = mine.nan_to_num(), theirs.nan_to_num()
    return float(((mine - theirs).abs() / theirs.abs().clamp(min=1)).max())


# --- DPO ---


def dpo_difference(edge, kind, seed=0, beta=0.1, label_smoothing=0.0, sft_weight=0.0):
    given = Prepared(edge, seed)
    reference = given.completions(reference=True)[0]
    sums, counts = given.completions()
    loss, metrics = dpo_loss(
        *given.halves(sums), *given.halves(reference), beta, kind, label_smoothing, given.halves(counts)
    )
    if sft_weight:
        loss = loss + sft_weight * sft_loss(given.logits[:PAIRS], given.labels[:PAIRS])
    trainer = stand_in(
        ld_alpha=None,
        f_divergence_type="reverse_kl",
        loss_types=[kind, "sft"] if sft_weight else [kind],
        loss_weights=[1.0, sft_weight] if sft_weight else [1.0],
        beta=beta,
        label_smoothing=label_smoothing,
        use_weighting=False,
    )
    inputs = {
        "input_ids": given.ids,
        "attention_mask": given.attention.long(),
        "completion_mask": given.completion.long(),
    }
    inputs["ref_chosen_logps"], inputs["ref_rejected_logps"] = _their_reference(given).chunk(2)
    theirs = trl.DPOTrainer._compute_loss(trainer, model_with(given.logits), inputs, return_outputs=False)
    return difference((loss, metrics), (theirs, metrics_of(trainer)), given.logits)


def _their_reference(given):
    output = model_with(given.reference_logits)(labels=given.labels, fused_lm_head=True)
    return output.log_probs.sum(1)


@pytest.mark.parametrize("beta", [0.1, 0.7])
@pytest.mark.parametrize("kind", DPO)
@pytest.mark.parametrize("edge", EDGES)
def test_dpo_equals_trl(edge, kind, beta):
    assert dpo_difference(edge, kind, beta=beta, **DPO[kind]) < 1e-7


@pytest.mark.parametrize("kind", DPO)
def test_dpo_equals_trl_on_more_random_numbers(kind):
    assert max(dpo_difference("random", kind, seed=seed, **DPO[kind]) for seed in range(1, 30)) < 1e-7


def test_dpo_with_an_sft_term_equals_trl():
    assert dpo_difference("random", "sigmoid", sft_weight=0.3) < 1e-7


def shifted_by_one(labels):
    """Each position is compared with its own token instead of the next one."""
    counted = labels[:, :-1] != -100
    return labels[:, :-1][counted], counted


def padding_counted(labels):
    counted = torch.ones_like(labels[:, 1:], dtype=torch.bool)
    return labels[:, 1:].clamp(min=0).flatten(), counted


def mean_of_tokens(log_probabilities, labels):
    counts = (labels[:, 1:] != -100).sum(1)
    return log_probabilities.sum(1) / counts, counts


MISTAKES = {
    "shifted by one": ("_targets", shifted_by_one),
    "padding and prompt counted": ("_targets", padding_counted),
    "mean instead of sum": ("_completions", mean_of_tokens),
    "swapped signs": ("_log_ratio", lambda name, policy, reference: reference - policy),
    "reference forgotten": ("_log_ratio", lambda name, policy, reference: policy),
}


@pytest.mark.parametrize("mistake", MISTAKES)
@pytest.mark.parametrize("kind", DPO)
def test_a_mistake_in_dpo_is_noticed(kind, mistake, monkeypatch):
    monkeypatch.setattr(losses, *MISTAKES[mistake])
    assert dpo_difference("random", kind, **DPO[kind]) > 1e-3


def test_ipo_on_sums_is_not_trls(monkeypatch):
    monkeypatch.setattr(losses, "_per_token", lambda chosen, rejected, lengths: (chosen, rejected))
    assert dpo_difference("random", "ipo") > 1e-3


# --- SimPO and ORPO ---


def pair_inputs(given):
    names = {"input_ids": given.ids, "labels": given.labels, "attention_mask": given.attention.long()}
    return {
        f"{half}_{name}": rows
        for name, values in names.items()
        for half, rows in zip(("chosen", "rejected"), given.halves(values), strict=True)
    }


def through(trainer_class, given, **settings):
    """(loss, metrics) of `get_batch_loss_metrics`."""
    trainer = stand_in(pad_token_id=0, padding_value=0, **settings)
    for name in ("concatenated_inputs", "get_batch_logps"):
        setattr(trainer, name, getattr(trainer_class, name))
    for name in ("concatenated_forward", "cpo_loss", "odds_ratio_loss"):
        if hasattr(trainer_class, name):
            setattr(trainer, name, getattr(trainer_class, name).__get__(trainer))
    logits = given.logits
    return trainer_class.get_batch_loss_metrics(
        trainer, lambda *arguments, **others: SimpleNamespace(logits=logits), pair_inputs(given)
    )


def simpo_difference(edge, beta=2.0, gamma=0.5, label_smoothing=0.0, seed=0):
    given = Prepared(edge, seed)
    sums, counts = given.completions()
    ours = simpo_loss(*given.halves(sums / counts), beta, gamma, label_smoothing)
    theirs = through(
        CPOTrainer,
        given,
        loss_type="simpo",
        cpo_alpha=0.0,
        alpha=0.0,
        beta=beta,
        simpo_gamma=gamma,
        label_smoothing=label_smoothing,
    )
    return difference(ours, theirs, given.logits)


# Not "impossible": TRL multiplies −inf by 0 where it masks, and all turns NaN.
@pytest.mark.parametrize("edge", EDGES[:3])
@pytest.mark.parametrize("settings", [{}, {"beta": 10.0, "gamma": 3.0}, {"label_smoothing": 0.1}])
def test_simpo_equals_trl(edge, settings):
    assert simpo_difference(edge, **settings) < 1e-7


def orpo_difference(edge, beta=0.1, seed=0):
    given = Prepared(edge, seed)
    sums, counts = given.completions()
    prompt_too = given.ids.masked_fill(~given.attention, -100)
    nll = sft_loss(given.logits[:PAIRS], prompt_too[:PAIRS])
    ours = orpo_loss(*given.halves(sums / counts), nll, beta)
    return difference(ours, through(ORPOTrainer, given, beta=beta), given.logits)


@pytest.mark.parametrize("edge", EDGES[:3])
@pytest.mark.parametrize("beta", [0.1, 1.0])
def test_orpo_equals_trl(edge, beta):
    assert orpo_difference(edge, beta) < 1e-6  # TRL computes the odds in float32


def test_a_mistake_in_simpo_or_orpo_is_noticed(monkeypatch):
    with monkeypatch.context() as patch:
        flipped = SimpleNamespace(logsigmoid=lambda x: F.logsigmoid(-x))
        patch.setattr(losses, "F", flipped)
        assert simpo_difference("random") > 1e-3
        assert orpo_difference("random") > 1e-3
    with monkeypatch.context() as patch:
        patch.setattr(losses, "_log_odds", lambda log_probability: log_probability)
        assert orpo_difference("random") > 1e-3
    for mistake in ("shifted by one", "padding and prompt counted"):
        with monkeypatch.context() as patch:
            patch.setattr(losses, *MISTAKES[mistake])
            assert simpo_difference("random") > 1e-3
            assert orpo_difference("random") > 1e-3


# --- KTO ---


def kto_difference(edge, desirable, kl=1.5, sign=1, **settings):
    settings = {"beta": 0.1, "desirable_weight": 1.0, "undesirable_weight": 1.0} | settings
    given, other = Prepared(edge), Prepared("random", seed=1)
    desirable = torch.tensor(desirable)
    policy, reference = given.completions()[0], given.completions(reference=True)[0]
    mismatched = (other.completions()[0] - other.completions(reference=True)[0]).detach()
    mismatched += kl - mismatched.mean()
    ours = kto_loss(policy, reference, desirable, sign * mismatched, **settings)
    trainer = stand_in(calculate_KL=True, loss_type="kto", **settings)
    trainer._compute_kl_logps = lambda model, batch: other.completions()[0]
    inputs = {
        "input_ids": given.ids,
        "attention_mask": given.attention.long(),
        "completion_mask": given.completion.long(),
        "label": desirable,
        "ref_logps": _their_reference(given),
        "ref_KL_logps": other.completions()[0] - mismatched,
    }
    theirs = trl.KTOTrainer._compute_loss(trainer, model_with(given.logits), inputs, return_outputs=False)
    return difference(ours, (theirs, metrics_of(trainer)), given.logits)


SORTS = [[True, False, True, True, False, False], [True] * 6, [False] * 6]


@pytest.mark.parametrize("edge", EDGES)
@pytest.mark.parametrize("desirable", SORTS, ids=["both", "all desirable", "none desirable"])
@pytest.mark.parametrize("settings", [{}, {"beta": 0.5, "desirable_weight": 1.33, "undesirable_weight": 0.7}])
def test_kto_equals_trl(edge, desirable, settings):
    assert kto_difference(edge, desirable, **settings) < 1e-7


def test_a_negative_estimate_of_the_divergence_counts_as_zero_as_in_trl():
    assert kto_difference("random", SORTS[0], kl=-2.0) < 1e-7


def test_a_mistake_in_kto_is_noticed(monkeypatch):
    assert kto_difference("random", SORTS[0], sign=-1) > 1e-3
    for mistake in ("shifted by one", "padding and prompt counted", "mean instead of sum"):
        with monkeypatch.context() as patch:
            patch.setattr(losses, *MISTAKES[mistake])
            assert kto_difference("random", SORTS[0]) > 1e-3


# --- SFT ---


def sft_difference(label_smoothing=0.0, count=None, seed=0):
    given = Prepared("random", seed)
    ours = sft_loss(given.logits, given.labels, label_smoothing, count)
    trainer = stand_in(
        label_smoother=LabelSmoother(label_smoothing) if label_smoothing else None,
        compute_loss_func=None,
        args=SimpleNamespace(loss_type="nll", average_tokens_across_devices=False),
    )
    inputs = {"input_ids": given.ids, "attention_mask": given.attention.long(), "labels": given.labels}

    def model(**inputs):
        output = model_with(given.logits)(**inputs)
        return output if inputs.get("fused_lm_head") else {"logits": output.logits}

    theirs = trl.SFTTrainer.compute_loss(trainer, model, inputs, num_items_in_batch=count)
    return difference((ours, {}), (theirs, {}), given.logits)


@pytest.mark.parametrize("count", [None, 50])
@pytest.mark.parametrize("seed", range(5))
def test_sft_equals_trl(seed, count):
    assert sft_difference(count=count, seed=seed) < 1e-7


@pytest.mark.parametrize("count", [None, 50])
@pytest.mark.parametrize("label_smoothing", [0.05, 0.3])
def test_label_smoothing_equals_transformers(label_smoothing, count):
    assert sft_difference(label_smoothing, count) < 1e-6  # whose LabelSmoother sums in float32


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_sft_is_computed_in_float32_as_in_transformers(dtype):
    given = Prepared()
    logits = given.logits.detach().to(dtype)
    theirs = ForCausalLMLoss(logits, given.labels, VOCABULARY)
    ours = sft_loss(logits, given.labels)
    assert ours.dtype == torch.float32
    torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("mistake", ["shifted by one", "padding and prompt counted"])
def test_a_mistake_in_sft_is_noticed(mistake, monkeypatch):
    monkeypatch.setattr(losses, *MISTAKES[mistake])
    assert sft_difference() > 1e-3


def test_a_sum_instead_of_a_mean_is_noticed(monkeypatch):
    monkeypatch.setattr(losses, "_some", lambda targets: 1)
    assert sft_difference() > 1e-3


def test_log_probabilities_of_tokens_equal_trl():
    given = Prepared("chosen impossible")
    theirs = model_with(given.logits)(labels=given.labels, fused_lm_head=True).log_probs
    ours = token_log_probabilities(given.logits, given.labels)
    assert _difference(ours, theirs) < 1e-12
    assert int(ours.isinf().sum()) == 1


# --- objectives: our model and the same weights in transformers' ---

ROWS = [(3, 9), (2, 12), (6, 8), (1, 10), (4, 12), (5, 6)]  # where each row's completion starts and ends


@pytest.fixture(scope="module")
def batch():
    torch.manual_seed(8)
    ids, columns = torch.randint(97, (6, 12)), torch.arange(12)
    completion = torch.stack([(start <= columns) & (columns < end) for start, end in ROWS])
    segments = torch.stack([columns < end for _, end in ROWS]).long()
    return Batch(ids, ids.masked_fill(~completion, -100), segments)


def same_gradients(model, reference, by_our_name):
    theirs = by_our_name({name: p.grad for name, p in reference.named_parameters()})
    ours = dict(model.named_parameters())
    assert ours.keys() == theirs.keys()
    for name, parameter in ours.items():
        error = (parameter.grad - theirs[name]).norm() / theirs[name].norm()
        assert error < 1e-4, name


def test_the_next_token_objective_equals_trl(twins, batch, by_our_name):
    pair = twins("grouped")
    loss, metrics = next_token_objective(pair.model, batch)
    loss.backward()
    trainer = stand_in(
        label_smoother=None,
        compute_loss_func=None,
        args=SimpleNamespace(loss_type="nll", average_tokens_across_devices=False),
    )
    add_fused_lm_head(pair.reference, outputs=("log_probs", "entropy", "is_top1"))
    inputs = {"input_ids": batch.ids, "attention_mask": batch.segments, "labels": batch.labels}
    theirs = trl.SFTTrainer.compute_loss(trainer, pair.reference, inputs)
    theirs.backward()
    torch.testing.assert_close(loss, theirs, rtol=1e-5, atol=0)
    assert metrics == pytest.approx({"mean_token_accuracy": metrics_of(trainer)["mean_token_accuracy"]})
    same_gradients(pair.model, pair.reference, by_our_name)


@pytest.mark.parametrize("kind", DPO)
def test_the_preference_objective_equals_trl(twins, batch, by_our_name, kind):
    before, after = twins("grouped"), twins("grouped")
    torch.manual_seed(9)
    with torch.no_grad():
        for name, parameter in after.reference.named_parameters():
            if "layernorm" in name:
                parameter.mul_(1 + 0.2 * torch.randn_like(parameter))
    after.model.load_state_dict(by_our_name(after.reference.state_dict()))
    objective = preference_objective(0.1, kind, sft_weight=0.5, **DPO[kind])
    loss, metrics = objective(after.model, PairBatch(batch, reference_log_probabilities(before.model, batch)))
    loss.backward()
    trainer = stand_in(
        ld_alpha=None,
        f_divergence_type="reverse_kl",
        loss_types=[kind, "sft"],
        loss_weights=[1.0, 0.5],
        beta=0.1,
        use_weighting=False,
        ref_model=before.reference,
        args=SimpleNamespace(gradient_checkpointing_kwargs=None),
        **{"label_smoothing": 0.0, **DPO[kind]},
    )
    trainer.precompute_ref_logps, trainer.model = False, after.reference
    add_fused_lm_head(after.reference, outputs=("log_probs", "entropy", "mean_logits", "is_top1"))
    add_fused_lm_head(before.reference)
    inputs = {
        "input_ids": batch.ids,
        "attention_mask": batch.segments,
        "completion_mask": (batch.labels != -100).long(),
    }
    theirs = trl.DPOTrainer._compute_loss(trainer, after.reference, inputs, return_outputs=False)
    theirs.backward()
    torch.testing.assert_close(loss, theirs, rtol=1e-4, atol=1e-5)
    logged = metrics_of(trainer)
    del metrics["nll_loss"]
    assert metrics == pytest.approx({name: logged[name] for name in metrics}, rel=1e-4, abs=1e-4)
    same_gradients(after.model, after.reference, by_our_name)
