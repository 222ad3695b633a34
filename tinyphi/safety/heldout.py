"""The filter on texts it never saw, beside the packages that one would otherwise install.

For each category, on the test part of the labelled texts (`labelled`): precision, recall and F1 at the
policy's threshold, the area under the ROC curve with its interval, and the calibration error. Then "any
harm" on each set, where a package that has one score for everything competes on its own ground, and the
harmless look-alikes.

    alt-profanity-check   a linear SVM over words. Its makers trained it on Davidson's tweets and on comments
                          of Wikipedia, so it has seen those of our test, but no other source.
    retrained             the same recipe (its train_model.py), trained on the texts that our filter saw
    better-profanity      a list of words
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from tqdm import tqdm

from tinyphi.errors import InputError
from tinyphi.files import write_text
from tinyphi.safety.filter import SafetyFilter, Verdict
from tinyphi.safety.labelled import Example, all_examples
from tinyphi.safety.metrics import calibration, counts, roc_auc, roc_auc_interval, roc_auc_lead
from tinyphi.safety.policy import learnt_categories, lookalikes
from tinyphi.safety.sources import read_xstest

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]
Judge = Callable[[list[str]], Floats]


@dataclass(frozen=True)
class Row:
    """One line of the report: who judged what, and how well. Shares between 0 and 1; None: not defined."""

    judge: str
    task: str
    texts: int
    harmful: int
    precision: float
    recall: float
    f1: float
    false_positive_rate: float
    auc: float
    auc_interval: tuple[float, float]
    calibration_error: float | None
    lead: tuple[float, float, float] | None  # of tinyphi's area over this one, with its 95 % interval

    def __str__(self) -> str:
        low, high = self.auc_interval
        last = "" if self.calibration_error is None else f"{self.calibration_error:.3f}"
        if self.lead is not None:
            last = "tinyphi {:+.3f} [{:+.3f}, {:+.3f}]".format(*self.lead)
        return (
            f"{self.judge:20} {self.task:22} {self.texts:5} {self.harmful:5} {self.precision:6.3f} "
            f"{self.recall:6.3f} {self.f1:6.3f} {self.false_positive_rate:6.3f}  "
            f"{self.auc:.3f} [{low:.3f}, {high:.3f}] {last}"
        )


HEADER = (
    f"{'':20} {'':22} {'texts':>5} {'harm':>5} {'prec':>6} {'recall':>6} {'F1':>6} {'FPR':>6}  AUC [95 %]"
    "           ECE or lead"
)


def row(
    judge: str,
    task: str,
    labels: ArrayLike,
    scores: Floats,
    flagged: ArrayLike,
    ours: Floats | None = None,
) -> Row:
    """The metrics of one judge on one task. ours: tinyphi's scores, if the judge is another; only tinyphi's
    are probabilities, and have a calibration error."""
    truth = np.asarray(labels, bool)
    found = counts(truth, flagged)
    error = calibration(truth, scores)[0] if ours is None else None
    lead = None if ours is None else roc_auc_lead(truth, ours, scores)
    return Row(
        judge, task, len(truth), int(truth.sum()), found.precision, found.recall, found.f1,
        found.false_positive_rate, roc_auc(truth, scores), roc_auc_interval(truth, scores), error, lead,
    )  # fmt: skip


@dataclass(frozen=True)
class Judged:
    """Texts of the test, what the filter and the other judges said of each, and the filter's thresholds."""

    examples: list[Example]
    verdicts: list[Verdict]
    others: dict[str, Floats]
    thresholds: dict[str, float]

    def rows(self) -> list[Row]:
        """Each category on OpenAI's texts and on all others, then any harm on each source of both kinds."""
        found = []
        for name in learnt_categories():
            scores = np.array([verdict.scores[name] for verdict in self.verdicts])
            known = np.array([name in one.labels for one in self.examples])
            truth = np.array([one.labels.get(name, False) for one in self.examples])
            broad = np.array([one.source == "OpenAI" for one in self.examples])
            flagged = scores >= self.thresholds[name]
            found += self._task(f"{name}, OpenAI", known & broad, truth, scores, flagged)
            found += self._task(f"{name}, other", known & ~broad, truth, scores, flagged)
        harm = np.array([verdict.harm for verdict in self.verdicts])
        flagged = np.array([not verdict.allowed for verdict in self.verdicts])
        truth = np.array([one.is_harmful for one in self.examples])
        for source in _SETS:
            chosen = np.array([one.source == source for one in self.examples])
            found += self._task(f"any harm, {source}", chosen, truth, harm, flagged)
        return found

    def _task(self, task: str, chosen: Flags, truth: Flags, ours: Floats, flagged: Flags) -> list[Row]:
        """One row for each judge; none if the texts are all of one kind."""
        if len(set(truth[chosen])) < 2:
            return []
        others = [
            row(who, task, truth[chosen], said[chosen], said[chosen] > 0.5, ours[chosen])
            for who, said in self.others.items()
        ]
        return [row("tinyphi", task, truth[chosen], ours[chosen], flagged[chosen]), *others]


def other_judges(every: Sequence[Example], baselines: Sequence[str]) -> dict[str, Judge]:
    """The named `BASELINES`, on the training texts if they learn. Raises InputError for one not installed."""
    return {name: BASELINES[name]([one for one in every if one.part == "train"]) for name in baselines}


def judged(every: Sequence[Example], safety_filter: SafetyFilter, others: Mapping[str, Judge]) -> Judged:
    """What all judges say of the texts for the test."""
    examples = [one for one in every if one.part == "test"]
    texts = [one.text for one in examples]
    shown = tqdm(texts, desc="texts", disable=len(texts) < 1000)
    return Judged(
        examples,
        [safety_filter.check(text) for text in shown],
        {name: judge(texts) for name, judge in others.items()},
        safety_filter.thresholds,
    )


def report(data: Path, safety_filter: SafetyFilter, baselines: Sequence[str] = ()) -> dict[str, Any]:
    """Everything, ready for JSON: "rows", and the share of harmless look-alikes that were flagged.

    baselines: names of `BASELINES`. Raises InputError for one that is not installed.
    """
    every = all_examples(data)
    others = other_judges(every, baselines)
    rows = judged(every, safety_filter, others).rows()
    return {**as_report(rows), "false refusals": false_refusals(safety_filter, data, others)}


def as_report(rows: Sequence[Row]) -> dict[str, Any]:
    """The rows for JSON, and a text to print."""
    return {"rows": [asdict(one) for one in rows], "text": "\n".join([HEADER, *map(str, rows)])}


def false_refusals(
    safety_filter: SafetyFilter, data: Path | None = None, others: Mapping[str, Judge] | None = None
) -> dict[str, dict[str, float]]:
    """Of each judge: the share of the policy's look-alikes that it flags; with XSTest at hand, of its safe
    and of its unsafe prompts too."""
    sets = {"look-alikes": [text for _, text in lookalikes()]}
    prompts = read_xstest(data) if data is not None else []
    if prompts:
        sets["XSTest safe"] = [text for text, _, unsafe in prompts if not unsafe]
        sets["XSTest unsafe"] = [text for text, _, unsafe in prompts if unsafe]

    def ours(texts: list[str]) -> Floats:
        return np.array([float(not safety_filter.check(text).allowed) for text in texts])

    return {
        who: {name: float((judge(texts) > 0.5).mean()) for name, texts in sets.items()}
        for who, judge in {"tinyphi": ours, **(others or {})}.items()
    }


# Where harmful and harmless texts are drawn from one place, so that "any harm" is not told by the place.
_SETS = ("OpenAI", "Surge", "ConvAbuse", "talk pages", "Wikipedia", "tweets")


def write_report(file: Path, content: dict[str, Any]) -> None:
    """As JSON, without the lines that are printed."""
    kept = {name: part for name, part in content.items() if name != "text"}
    write_text(file, json.dumps(kept, indent=1) + "\n")


def _alt_profanity_check(_: Sequence[Example]) -> Judge:
    try:
        from profanity_check import predict_prob
    except ImportError as error:
        raise InputError("alt-profanity-check is not installed: pip install alt-profanity-check") from error
    return lambda texts: np.asarray(predict_prob(texts), np.float64)


def _retrained(trained: Sequence[Example]) -> Judge:
    try:
        from sklearn.calibration import CalibratedClassifierCV
        from sklearn.feature_extraction.text import TfidfVectorizer
        from sklearn.pipeline import make_pipeline
        from sklearn.svm import LinearSVC
    except ImportError as error:
        raise InputError("scikit-learn is not installed: pip install alt-profanity-check") from error
    words = TfidfVectorizer(stop_words="english", min_df=0.0001)
    machine = LinearSVC(class_weight="balanced", dual=False, tol=1e-2, max_iter=100_000)
    judge = make_pipeline(words, CalibratedClassifierCV(machine))
    judge.fit([one.text for one in trained], [one.is_harmful for one in trained])
    return lambda texts: np.asarray(judge.predict_proba(texts)[:, 1], np.float64)


def _better_profanity(_: Sequence[Example]) -> Judge:
    try:
        from better_profanity import profanity
    except ImportError as error:
        raise InputError("better-profanity is not installed: pip install better-profanity") from error

    def judge(texts: list[str]) -> Floats:
        shown = tqdm(texts, desc="better-profanity", disable=len(texts) < 1000)
        return np.array([float(profanity.contains_profanity(text)) for text in shown])

    return judge


# A name → what makes a judge of it, from the training texts.
BASELINES: dict[str, Callable[[Sequence[Example]], Judge]] = {
    "alt-profanity-check": _alt_profanity_check,
    "retrained": _retrained,
    "better-profanity": _better_profanity,
}
