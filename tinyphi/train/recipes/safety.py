"""The weights of the safety filter: logistic regressions for each category and for any harm, calibrated.

    labelled texts → hashed n-grams → five fits, each without a fifth of the texts, score that fifth
                                    → calibration on those scores → one fit on all → a file of about 1 MB

A category with few examples learns from its neighbours, and from any harm, of which every source has
examples: calibration gives each category a line over all log-odds, which starts as its own and is held near
that. What comes out is again linear in the n-grams.
"""

import argparse
import hashlib
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits
from tqdm import tqdm

from tinyphi.errors import InputError
from tinyphi.safety.classifier import COLUMNS, Classifier, features, save_classifier, weighted
from tinyphi.safety.filter import SafetyFilter
from tinyphi.safety.heldout import BASELINES, Judged, as_report, judged, other_judges, write_report
from tinyphi.safety.labelled import OWN, Example, all_examples
from tinyphi.safety.metrics import counts
from tinyphi.safety.policy import learnt_categories

_DECAY = 1e-5  # of the weights; 3e-6 and 1e-4 were no better on held-out fifths of the training texts
_NEAR = 2.0  # how strongly calibration is held to each category's own score
_FOLDS, _STEPS = 5, 100  # at 40 steps the fit had not converged

Floats = NDArray[np.float32]
Row = tuple[NDArray[np.int64], Floats]  # the columns of a text, and their values


def train_filter(examples: Sequence[Example], tell: Callable[[str], object] = print) -> Classifier:
    """Fit and calibrate on those of the examples that are for training.

    Raises InputError if a category has fewer than ten texts of either kind.
    """
    used = [one for one in examples if one.part == "train"]
    names = learnt_categories()
    truth = torch.tensor(
        [[*(float(one.labels.get(name, False)) for name in names), float(one.is_harmful)] for one in used]
    )
    known = torch.tensor([[*(float(name in one.labels) for name in names), 1.0] for one in used])
    sizes = zip((*names, "any harm"), known.sum(0).tolist(), (truth * known).sum(0).tolist(), strict=True)
    for name, of, harmful in sizes:
        tell(f"{name:12} {of:8,.0f} texts, {harmful:7,.0f} of them harmful")
        if harmful < 10 or of - harmful < 10:
            raise InputError(f"To learn {name!r} takes ten harmful and ten harmless texts; add more data.")
    counted = known * balance(used)
    rows = [features(one.text) for one in tqdm(used, desc="n-grams", disable=len(used) < 1000)]
    idf = inverse_frequency(rows)
    rows = [(column, weighted(column, counts, idf)) for column, counts in rows]
    fold = np.array([hashlib.sha256(one.text.encode()).digest()[5] % _FOLDS for one in used])
    scores = torch.zeros_like(truth)
    for number in tqdm(range(_FOLDS), desc="folds", disable=len(used) < 1000):
        inside, outside = np.flatnonzero(fold != number), np.flatnonzero(fold == number)
        weights, bias = fit(_sparse(rows, inside), truth[inside], counted[inside])
        scores[outside] = _sparse(rows, outside) @ weights + bias
    mix, shift = calibrate(scores, truth[:, :-1], known[:, :-1])
    for name, chances, real, is_known in zip(
        names, (scores @ mix.T + shift).sigmoid().T, truth.T, known.T.bool(), strict=False
    ):
        tell(f"{name:12} {best_threshold(real[is_known], chances[is_known])}, on held-out fifths")
    weights, bias = fit(_sparse(rows, np.arange(len(rows))), truth, counted)
    return Classifier(names, idf, *(part.numpy() for part in (weights.T.contiguous(), bias, mix, shift)))


def balance(examples: Sequence[Example]) -> Tensor:
    """(n 1) the root of how rare a text's source is: thousands of tweets shall not drown the others."""
    sizes = Counter(one.source for one in examples)
    most = max(sizes.values())
    return torch.tensor([[(most / sizes[one.source]) ** 0.5] for one in examples])


def inverse_frequency(rows: Sequence[Row]) -> Floats:
    """(column) √log((1 + texts) / (1 + texts that have it)): what every text has says nothing."""
    frequency = np.bincount(np.concatenate([column for column, _ in rows]), minlength=COLUMNS)
    found: Floats = np.sqrt(np.log((1 + len(rows)) / (1 + frequency))).astype(np.float32)
    return found


def fit(rows: Tensor, truth: Tensor, counted: Tensor) -> tuple[Tensor, Tensor]:
    """Logistic regressions, all at once. rows: (n column) sparse; truth: (n category) 0 or 1; counted:
    (n category) 0 where the truth is not known, else how much the text counts.

    Returns weights (column category) and bias (category). Rare harms count more, by the root of how rare they
    are. The gradient is written out: for a logistic loss it is rows^T (probability - truth), plus the decay.
    """
    harmful, of = (truth * counted).sum(0), counted.sum(0)
    share = counted * (1 + truth * ((of / harmful.clamp(min=1)).sqrt() - 1))
    share = share / share.sum(0).clamp(min=1)
    weights, bias = torch.zeros(rows.shape[1], truth.shape[1]), torch.zeros(truth.shape[1])
    turned = rows.transpose(0, 1).to_sparse_csr()
    search = torch.optim.LBFGS([weights, bias], max_iter=_STEPS, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        odds = rows @ weights + bias
        error = share * (odds.sigmoid() - truth)
        weights.grad, bias.grad = turned @ error + _DECAY * weights, error.sum(0)
        losses = binary_cross_entropy_with_logits(odds, truth, reduction="none")
        return (share * losses).sum() + _DECAY / 2 * weights.square().sum()

    search.step(loss)  # type: ignore[no-untyped-call]
    return weights, bias


def calibrate(scores: Tensor, truth: Tensor, known: Tensor) -> tuple[Tensor, Tensor]:
    """Held-out log-odds (n score), the categories' first → mix (category score) and shift (category), whose
    sigmoid(scores @ mix^T + shift) are probabilities. truth, known: (n category). Platt scaling that may look
    at the neighbours."""
    count = truth.shape[1]
    spread = scores.std(0).clamp(min=1e-3)
    inputs = (scores / spread).double()
    own = torch.eye(count, scores.shape[1]).double()
    mix, shift = own.clone().requires_grad_(), torch.zeros(count).double().requires_grad_()
    search = torch.optim.LBFGS([mix, shift], max_iter=200, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        search.zero_grad()
        losses = binary_cross_entropy_with_logits(inputs @ mix.T + shift, truth.double(), reduction="none")
        off = mix * (1 - own)  # a category may trust itself as much as it likes
        total: Tensor = (losses * known).sum() + _NEAR * off.square().sum()
        total.backward()  # type: ignore[no-untyped-call]
        return total

    search.step(loss)  # type: ignore[no-untyped-call]
    return (mix.detach() / spread).float(), shift.detach().float()


def best_threshold(truth: Tensor, chances: Tensor) -> str:
    """Which twentieth is the best threshold by F1, and what it is worth. Both (n)."""
    found = {twentieth / 20: counts(truth, chances >= twentieth / 20) for twentieth in range(1, 20)}
    best = max(found, key=lambda threshold: found[threshold].f1)
    return (
        f"best F1 {found[best].f1:.2f} from {best:.2f} on: precision {found[best].precision:.2f}, "
        f"recall {found[best].recall:.2f}"
    )


def run(data: Path, file: Path, tell: Callable[[str], object] = print) -> Classifier:
    """Train on the files of a folder and on requests from the small world; write the weights."""
    file.parent.mkdir(parents=True, exist_ok=True)
    examples = all_examples(data)
    classifier = train_filter(examples, tell)
    sources = sorted({one.source for one in examples})
    save_classifier(classifier, file, {"trained on": ", ".join(sources)})
    tell(f"{file}: {file.stat().st_size / 1e6:.2f} MB, trained on {', '.join(sources)}")
    return classifier


_FIFTHS = tuple(frozenset((first, first + 1)) for first in range(0, 10, 2))  # of the tenths of the texts


def crossed(data: Path, baselines: Sequence[str] = ()) -> dict[str, Any]:
    """A report as `tinyphi eval safety` makes it, on all texts of a folder in place of three tenths.

    Five times a filter is trained without a fifth of them and judges that fifth; so do baselines that learn.
    """
    found = []
    for tested in tqdm(_FIFTHS, desc="fifths"):
        every = all_examples(data, tested)
        judge = SafetyFilter(train_filter(every, tell=lambda _: None))
        public = [one for one in every if one.part == "train" or one.source not in OWN]
        found.append(judged(public, judge, other_judges(every, baselines)))
    return as_report(
        Judged(
            [example for one in found for example in one.examples],
            [verdict for one in found for verdict in one.verdicts],
            {name: np.concatenate([one.others[name] for one in found]) for name in baselines},
            found[0].thresholds,
        ).rows()
    )


def add_command(recipes: Any) -> None:
    """Add `safety` and `safety-crossed` to the parser of `tinyphi train`."""
    parser = recipes.add_parser("safety", help="the safety filter's weights, from labelled texts")
    parser.add_argument("--data", type=Path, required=True, help="folder of the labelled files")
    parser.add_argument("--to", type=Path, required=True, help="the .safetensors file to write")
    parser.set_defaults(run=_run)
    parser = recipes.add_parser(
        "safety-crossed", help="five such filters, each judged on a fifth it never saw"
    )
    parser.add_argument("--data", type=Path, required=True, help="folder of the labelled files")
    parser.add_argument("--to", type=Path, required=True, help="JSON file for the report")
    parser.add_argument("--beside", nargs="*", choices=list(BASELINES), default=[], help="other judges")
    parser.set_defaults(run=_run_crossed)


def _run(options: argparse.Namespace) -> int:
    run(options.data, options.to)
    return 0


def _run_crossed(options: argparse.Namespace) -> int:
    options.to.parent.mkdir(parents=True, exist_ok=True)
    found = crossed(options.data, options.beside)
    write_report(options.to, found)
    print(found["text"])
    return 0


def _sparse(rows: Sequence[Row], chosen: NDArray[np.int64]) -> Tensor:
    """Some rows as one sparse matrix: (n column)."""
    ends = np.cumsum([0] + [len(rows[place][0]) for place in chosen])
    columns = np.concatenate([rows[place][0] for place in chosen])
    values = np.concatenate([rows[place][1] for place in chosen])
    return torch.sparse_csr_tensor(
        torch.from_numpy(ends), torch.from_numpy(columns), torch.from_numpy(values), (len(chosen), COLUMNS)
    )
