"""The losses: what they promise beside equality with TRL (tests/parity/test_trl.py), and their errors."""

import json
import math
import runpy
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import tinyphi
from tinyphi.data.packing import Batch, Example, collate, packed
from tinyphi.errors import InputError
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

MAKER = runpy.run_path(str(Path(__file__).with_name("make_trl_0_12_golden.py")))
GOLDEN = json.loads(MAKER["GOLDEN"].read_text(encoding="utf-8"))["losses"]
RATIOS = st.floats(-30, 30).map(lambda value: torch.tensor([value], dtype=torch.float64))


@pytest.fixture
def logits():
    torch.manual_seed(0)
    return torch.randn(2, 5, 7, dtype=torch.float64)


LABELS = torch.tensor([[-100, -100, 3, 6, 0], [-100, 4, -100, -100, -100]])


# --- next token ---


def test_the_loss_is_the_mean_over_all_targets_of_the_batch(logits):
    surprises = [
        -float(logits[row, column - 1].log_softmax(-1)[LABELS[row, column]])
        for row, column in ((0, 2), (0, 3), (0, 4), (1, 1))
    ]
    assert float(sft_loss(logits, LABELS)) == pytest.approx(sum(surprises) / 4)
    of_rows = (sum(surprises[:3]) / 3 + surprises[3]) / 2
    assert abs(sum(surprises) / 4 - of_rows) > 0.01  # a mean of the rows' means would be noticed


def test_losses_of_micro_batches_add_up_to_the_loss_of_the_step(logits):
    parts = [sft_loss(logits[row, None], LABELS[row, None], 0.1, count=4) for row in (0, 1)]
    torch.testing.assert_close(sum(parts), sft_loss(logits, LABELS, 0.1))


def test_a_micro_batch_without_targets_adds_nothing_to_a_step(logits):
    logits.requires_grad_()
    loss = sft_loss(logits, torch.full_like(LABELS, -100), count=4)
    loss.backward()
    assert float(loss.detach()) == 0
    assert not logits.grad.any()


def test_tokens_that_are_no_targets_have_log_probability_zero(logits):
    found = token_log_probabilities(logits, LABELS)
    assert found.shape == (2, 4)
    assert torch.equal(found != 0, LABELS[:, 1:] != -100)
    sums, counts = completion_log_probabilities(logits, LABELS)
    torch.testing.assert_close(sums, found.sum(1))
    assert counts.tolist() == [3, 1]


def test_an_impossible_token_that_is_no_target_does_no_harm(logits):
    logits[:, 2:] = -torch.inf  # of the second row, nothing there is counted
    assert bool(token_log_probabilities(logits[1:], LABELS[1:]).isfinite().all())
    assert bool(sft_loss(logits[1:], LABELS[1:]).isfinite())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"labels": torch.full((2, 5), -100)}, "Nothing to predict"),
        ({"labels": torch.tensor([[5, -100, -100, -100, -100]] * 2)}, "Nothing to predict"),
        ({"labels": LABELS[:, 1:]}, "unshifted; these are"),
        ({"labels": LABELS.int()}, "must be int64"),
        ({"labels": LABELS.masked_fill(LABELS == 6, 7)}, "The label 7 in row 0, column 3 is no token"),
        ({"labels": LABELS.masked_fill(LABELS == 6, -1)}, "The label -1 in row 0, column 3 is no token"),
        ({"logits": torch.zeros(5, 7)}, "axes"),
        ({"logits": torch.zeros(2, 5, 7).long()}, "torch.int64"),
        ({"label_smoothing": 1.0}, "label_smoothing is 1.0"),
        ({"label_smoothing": -0.1}, "label_smoothing is -0.1"),
        ({"count": 0}, "count is 0"),
    ],
)
def test_what_has_no_loss_is_refused(logits, change, message):
    with pytest.raises(InputError, match=message):
        sft_loss(**{"logits": logits, "labels": LABELS} | change)


def test_an_empty_completion_is_refused(logits):
    labels = LABELS.clone()
    labels[1] = -100
    with pytest.raises(InputError, match="Row 1 has no target, so its completion is empty"):
        completion_log_probabilities(logits, labels)


# --- preferences ---


@pytest.mark.parametrize("name", MAKER["CASES"])
def test_older_conventions_equal_trl_0_12(name):
    kind, _, label_smoothing, reference_free, beta = MAKER["CASES"][name]
    chosen, rejected, *references = MAKER["example"]()
    if reference_free:
        references = [None, None]
    for row, expected in enumerate(GOLDEN[name]):
        one = slice(row, row + 1)
        rows = [None if values is None else values[one] for values in (chosen, rejected, *references)]
        loss, _ = dpo_loss(*rows, beta, kind, label_smoothing)
        assert float(loss) == pytest.approx(expected, rel=1e-9, abs=1e-12)
    loss, _ = dpo_loss(chosen, rejected, *references, beta, kind, label_smoothing)
    assert float(loss) == pytest.approx(sum(GOLDEN[name]) / 8)


def test_swapped_signs_are_not_trl_0_12():
    chosen, rejected, *references = MAKER["example"]()
    for name, (kind, _, label_smoothing, reference_free, beta) in MAKER["CASES"].items():
        if not reference_free:
            loss, _ = dpo_loss(rejected, chosen, *references[::-1], beta, kind, label_smoothing)
            assert abs(float(loss) - sum(GOLDEN[name]) / 8) > 0.01


def rows(*values):
    return torch.tensor(values, dtype=torch.float64)


ZERO = rows(0)


def test_at_the_start_the_loss_is_log_2_and_the_accuracy_0():
    at_start = rows(-5, -80)
    loss, metrics = dpo_loss(at_start, at_start - 3, at_start, at_start - 3)
    assert loss.item() == pytest.approx(math.log(2))
    assert metrics["rewards/accuracies"] == 0
    assert metrics["rewards/margins"] == 0


def test_metrics_are_plain_numbers():
    _, metrics = dpo_loss(rows(-3, -4).requires_grad_(), rows(-5, -9), rows(-4, -2), rows(-5, -5), beta=0.5)
    assert metrics == pytest.approx(
        {
            "rewards/chosen": 0.5 * (1 - 2) / 2,
            "rewards/rejected": 0.5 * (0 - 4) / 2,
            "rewards/margins": 0.5 * (1 + 2) / 2,
            "rewards/accuracies": 1.0,
            "logps/chosen": -3.5,
            "logps/rejected": -7.0,
        }
    )
    assert {type(value) for value in metrics.values()} == {float}


@given(delta=RATIOS, beta=st.floats(0.01, 2))
def test_the_robust_loss_is_right_on_average(delta, beta):
    """If ε of the pairs are swapped, the mean of its two values is the loss of the pair that is not."""
    honest, swapped = (dpo_loss(one, other, None, None, beta, "robust", 0.2)[0] for one, other in (
        (delta, ZERO), (ZERO, delta)
    ))  # fmt: skip
    expected, _ = dpo_loss(delta, ZERO, None, None, beta)
    torch.testing.assert_close(0.8 * honest + 0.2 * swapped, expected)


@given(delta=RATIOS)
def test_conservative_dpo_stops_where_its_doubt_says(delta):
    """Its gradient vanishes where σ(βΔ) = 1 − ε, however much further plain DPO would go."""
    delta = delta.clone().requires_grad_()
    dpo_loss(delta, ZERO, None, None, 0.1, "cdpo", 0.2)[0].backward()
    expected = 0.1 * (torch.sigmoid(0.1 * delta) - 0.8)
    torch.testing.assert_close(delta.grad, expected.detach())


@given(length=st.integers(1, 50))
def test_the_target_of_ipo_is_per_token_and_that_of_ipo_sum_per_completion(length):
    lengths = (torch.tensor([length]), torch.tensor([3]))
    reached = rows(length / (2 * 0.1))  # the chosen completion gained 1/(2β) on every token
    assert float(dpo_loss(reached, ZERO, None, None, 0.1, "ipo", lengths=lengths)[0]) < 1e-20
    by_sum = float(dpo_loss(reached, ZERO, None, None, 0.1, "ipo_sum")[0])
    assert by_sum == pytest.approx((5 * length - 5) ** 2)


def test_simpo_does_not_care_for_length():
    """A completion ten times as long, as likely by token: DPO's loss changes, SimPO's does not."""
    short, long = rows(-4), rows(-40)
    assert dpo_loss(short, ZERO, None, None)[0] != dpo_loss(long, ZERO, None, None)[0]
    assert simpo_loss(short / 4, rows(-2))[0] == simpo_loss(long / 40, rows(-2))[0]


@pytest.mark.parametrize("log_probability", [-1e-9, -1e-3, -5.0, -80.0])
def test_log_odds_keep_their_digits_and_gradient(log_probability):
    value = rows(log_probability).requires_grad_()
    odds = losses._log_odds(value)
    odds.backward()
    one_minus = -math.expm1(log_probability)
    assert float(odds.detach()) == pytest.approx(log_probability - math.log(one_minus))
    assert float(value.grad) == pytest.approx(1 / one_minus)


def test_the_divergence_of_kto_has_no_gradient():
    mismatched = rows(2).requires_grad_()
    loss, metrics = kto_loss(rows(-2).requires_grad_(), rows(-3), torch.tensor([True]), mismatched)
    loss.backward()
    assert mismatched.grad is None
    assert metrics["kl"] == 2


PAIR = (rows(-1, -2), rows(-3, -4))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: dpo_loss(*PAIR, *PAIR, kind="rdpo"), "no kind 'rdpo' of DPO; there are sigmoid, cdpo"),
        (lambda: dpo_loss(*PAIR, *PAIR, beta=0), "beta is 0"),
        (lambda: dpo_loss(*PAIR, *PAIR, beta=math.nan), "beta is nan"),
        (
            lambda: dpo_loss(*PAIR, *PAIR, label_smoothing=0.1),
            'kind="sigmoid" has no label_smoothing; "cdpo"',
        ),
        (lambda: dpo_loss(*PAIR, *PAIR, kind="robust", label_smoothing=0.5), "label_smoothing is 0.5"),
        (lambda: dpo_loss(*PAIR, *PAIR, kind="ipo"), "give lengths="),
        (lambda: dpo_loss(*PAIR, *PAIR, kind="ipo", lengths=(rows(1, 0), rows(1, 1))), "1 or more each"),
        (lambda: dpo_loss(*PAIR, *PAIR, kind="ipo", lengths=(rows(1), rows(1))), "1 or more each"),
        (lambda: dpo_loss(*PAIR, rows(-1), PAIR[1]), "Give one number a completion"),
        (lambda: dpo_loss(PAIR[0], rows(-1), None, None), "Give one number a completion"),
        (lambda: dpo_loss(torch.zeros(0), torch.zeros(0), None, None), "b ≥ 1"),
        (lambda: dpo_loss(*PAIR, None, PAIR[1]), "One of the references is None"),
        (lambda: simpo_loss(*PAIR, beta=-1), "beta is -1"),
        (lambda: simpo_loss(PAIR[0], rows(-1)), "Give one number a completion"),
        (lambda: simpo_loss(*PAIR, label_smoothing=0.6), "label_smoothing is 0.6"),
        (lambda: orpo_loss(*PAIR, ZERO[0], beta=0), "beta is 0"),
        (lambda: orpo_loss(PAIR[0][:, None], PAIR[1], ZERO[0]), "Give one number a completion"),
        (lambda: kto_loss(*PAIR, torch.tensor([True]), rows(0)), "desirable must be a bool tensor"),
        (lambda: kto_loss(*PAIR, torch.tensor([1, 0]), rows(0)), "desirable must be a bool tensor"),
        (lambda: kto_loss(*PAIR, torch.tensor([True, False]), rows()), "b ≥ 1"),
        (lambda: preference_objective(kind="best"), "no kind 'best'"),
    ],
)
def test_what_no_preference_loss_can_mean_is_refused(call, message):
    with pytest.raises(InputError, match=message):
        call()


# --- objectives ---


@pytest.fixture
def batch():
    """Rows with several documents, prompts that are not counted, and padding."""
    torch.manual_seed(1)

    def example(length, prompt):
        ids = torch.randint(61, (length,)).tolist()
        return Example(ids, [place >= prompt for place in range(length)])

    return collate(packed([example(9, 3), example(5, 2), example(4, 0), example(8, 7)], 14), pad_id=0)


def pair_batch(batch, reference=None):
    """Its rows are the chosen ones; in the rejected ones every token is another."""
    other = (batch.ids + 1) % 61
    labels = torch.where(batch.labels == -100, -100, other)
    pairs = [(batch.ids, other), (batch.labels, labels), (batch.segments, batch.segments)]
    return PairBatch(Batch(*map(torch.cat, pairs)), reference)


def test_the_next_token_objective_is_the_sft_loss_of_all_logits(make_model, batch):
    model = make_model()
    whole = sft_loss(model(batch.ids, batch.segments), batch.labels)
    expected = torch.autograd.grad(whole, list(model.parameters()))
    loss, metrics = next_token_objective(model, batch)
    found = torch.autograd.grad(loss, list(model.parameters()))
    torch.testing.assert_close(loss, whole)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-6)
    hits = model(batch.ids, batch.segments)[:, :-1].argmax(-1) == batch.labels[:, 1:]
    assert metrics == pytest.approx({"mean_token_accuracy": int(hits.sum()) / batch.count})


def test_logits_are_computed_for_targets_only(make_model, batch, monkeypatch):
    model, shapes = make_model(), []
    head = model.logits
    monkeypatch.setattr(model, "logits", lambda hidden: (shapes.append(tuple(hidden.shape)), head(hidden))[1])
    next_token_objective(model, batch)
    preference_objective()(model, pair_batch(batch))
    assert shapes == [(batch.count, 48), (2 * batch.count, 48)]
    assert batch.count < batch.ids.numel()


def test_the_preference_objective_is_the_dpo_loss_of_all_logits(make_model, batch):
    model, before = make_model(), make_model(rms_norm_eps=1.0)
    pairs = pair_batch(batch)
    pairs = PairBatch(pairs.batch, reference_log_probabilities(before, pairs.batch))
    assert not pairs.reference.requires_grad
    halves = []
    for one in (model, before):
        logits = one(pairs.batch.ids, pairs.batch.segments)
        halves += completion_log_probabilities(logits, pairs.batch.labels)[0].chunk(2)
    expected, metrics = dpo_loss(*halves, beta=0.3, kind="cdpo", label_smoothing=0.1)
    nll = sft_loss(model(batch.ids, batch.segments), batch.labels)  # the chosen ones
    loss, logged = preference_objective(0.3, "cdpo", 0.1, sft_weight=2.0)(model, pairs)
    torch.testing.assert_close(loss, expected + 2 * nll)
    assert logged == pytest.approx(metrics | {"nll_loss": nll.item()}, rel=1e-4)


def test_the_reference_of_the_model_itself_makes_no_margin(make_model, batch):
    model, pairs = make_model(), pair_batch(batch)
    pairs = PairBatch(pairs.batch, reference_log_probabilities(model, pairs.batch))
    loss, metrics = preference_objective()(model, pairs)
    assert loss.item() == pytest.approx(math.log(2))
    assert metrics["rewards/margins"] == 0
    free, _ = preference_objective()(model, PairBatch(pairs.batch, None))
    assert abs(free.item() - math.log(2)) > 0.01


def test_pairs_count_and_move(batch):
    pairs = pair_batch(batch, torch.zeros(2 * len(batch.ids))).to("meta")
    assert pairs.count == len(batch.ids)
    assert pairs.batch.ids.device.type == pairs.reference.device.type == "meta"
    assert pair_batch(batch).tokens == 2 * batch.tokens
    assert pair_batch(batch).to("meta").reference is None


def test_batches_that_are_no_pairs_are_refused(batch):
    odd = Batch(batch.ids[:1], batch.labels[:1], batch.segments[:1])
    with pytest.raises(InputError, match="these are 1 rows and references None"):
        PairBatch(odd, None)
    with pytest.raises(InputError, match=r"and references \(1,\)"):
        pair_batch(batch, torch.zeros(1))


def test_objectives_refuse_what_has_no_target(make_model, batch):
    model = make_model()
    empty = Batch(batch.ids, torch.full_like(batch.labels, -100), batch.segments)
    with pytest.raises(InputError, match="Nothing to predict"):
        next_token_objective(model, empty)
    with pytest.raises(InputError, match="completion is empty"):
        preference_objective()(model, PairBatch(empty, None))
    beyond = Batch(batch.ids, batch.labels.masked_fill(batch.labels >= 0, 61), batch.segments)
    with pytest.raises(InputError, match="is no token: ids are 0 … 60"):
        next_token_objective(model, beyond)


def test_a_model_learns_its_batch_and_then_prefers(make_model, batch):
    """A few steps: the loss falls, and preferences turn around."""
    model = make_model()
    first, _ = next_token_objective(model, batch)
    take_steps(model, lambda: next_token_objective(model, batch)[0], 20)
    last, _ = next_token_objective(model, batch)
    assert last.item() < first.item() / 4
    pairs = pair_batch(batch)
    pairs = PairBatch(pairs.batch, reference_log_probabilities(model, pairs.batch))
    objective = preference_objective(0.5)
    take_steps(model, lambda: objective(model, pairs)[0], 5)
    loss, metrics = objective(model, pairs)
    assert loss < math.log(2) / 4
    assert metrics["rewards/accuracies"] == 1


def take_steps(model, loss, count):
    optimizer = torch.optim.AdamW(model.parameters(), 0.01)
    for _ in range(count):
        optimizer.zero_grad()
        loss().backward()
        optimizer.step()


def test_the_losses_are_reached_from_the_package():
    assert tinyphi.train.losses.sft_loss is sft_loss
