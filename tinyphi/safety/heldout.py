"""The filter on texts it never saw, beside the packages that one would otherwise install.

For each category, on the test part of the labelled texts (`labelled`): precision, recall and F1 at the
policy's threshold, the area under the ROC curve with its interval, and the calibration error. Then "any
harm" on each set, where a package that has one score for everything competes on its own ground, and the
harmless look-alikes.

    alt-profanity-check   a linear SVM over words. Its makers trained it on Davidson's tweets among others, so
                          it has seen the tweets of our test; not OpenAI's samples and Surge's comments.
    better-profanity      a list of words
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from tqdm import tqdm

from tinyphi.errors import InputError
from tinyphi.files import write_text
from tinyphi.safety.filter import SafetyFilter
from tinyphi.safety.labelled import Example, everyday_examples, read_examples, read_xstest, world_examples
from tinyphi.safety.metrics import calibration, counts, roc_auc, roc_auc_interval
from tinyphi.safety.policy import learnt_categories, lookalikes

Floats = NDArray[np.float64]


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

    def __str__(self) -> str:
        low, high = self.auc_interval
        error = "" if self.calibration_error is None else f"{self.calibration_error:.3f}"
        return (
            f"{self.judge:20} {self.task:22} {self.texts:5} {self.harmful:5} {self.precision:6.3f} "
            f"{self.recall:6.3f} {self.f1:6.3f} {self.false_positive_rate:6.3f}  "
            f"{self.auc:.3f} [{low:.3f}, {high:.3f}] {error}"
        )


HEADER = (
    f"{'':20} {'':22} {'texts':>5} {'harm':>5} {'prec':>6} {'recall':>6} {'F1':>6} {'FPR':>6}  AUC [95 %]"
    "           ECE"
)


def row(judge: str, task: str, labels: Sequence[bool], scores: Floats, flagged: ArrayLike) -> Row:
    """The metrics of one judge on one task; scores that are no probabilities have no calibration error."""
    truth = np.asarray(labels, bool)
    found = counts(truth, flagged)
    error = calibration(truth, scores)[0] if judge == "tinyphi" else None
    return Row(
        judge, task, len(truth), int(truth.sum()), found.precision, found.recall, found.f1,
        found.false_positive_rate, roc_auc(truth, scores), roc_auc_interval(truth, scores), error,
    )  # fmt: skip


def report(data: Path, safety_filter: SafetyFilter, baselines: Sequence[str] = ()) -> dict[str, Any]:
    """Everything, ready for JSON: "rows", and the share of harmless look-alikes that were flagged.

    baselines: names of `BASELINES`. Raises InputError for one that is not installed.
    """
    examples = [
        one for one in (*read_examples(data), *world_examples(), *everyday_examples()) if one.part == "test"
    ]
    shown = tqdm(examples, desc="texts", disable=len(examples) < 1000)
    verdicts = [safety_filter.check(one.text) for one in shown]
    names = learnt_categories()
    table = np.array([[verdict.scores[name] for name in names] for verdict in verdicts])
    rows = []
    judged = {name: BASELINES[name]([one.text for one in examples]) for name in baselines}
    for number, name in enumerate(names):
        for source, chosen in _tasks(examples, name):
            truth = [examples[place].labels[name] for place in chosen]
            task, scores = f"{name}, {source}", table[chosen, number]
            rows.append(row("tinyphi", task, truth, scores, scores >= safety_filter.thresholds[name]))
            rows += [row(who, task, truth, said[chosen], said[chosen] > 0.5) for who, said in judged.items()]
    any_harm = np.array([verdict.harm for verdict in verdicts])
    flagged = np.array([not verdict.allowed for verdict in verdicts])
    for source, files in _SETS.items():
        chosen = [place for place, one in enumerate(examples) if one.source in files]
        truth = [examples[place].is_harmful for place in chosen]
        if len(set(truth)) == 2:
            task = f"any harm, {source}"
            rows.append(row("tinyphi", task, truth, any_harm[chosen], flagged[chosen]))
            rows += [row(who, task, truth, said[chosen], said[chosen] > 0.5) for who, said in judged.items()]
    return {
        "rows": [asdict(one) for one in rows],
        "text": "\n".join([HEADER, *map(str, rows)]),
        "false refusals": false_refusals(safety_filter, data, baselines),
    }


def false_refusals(
    safety_filter: SafetyFilter, data: Path | None = None, baselines: Sequence[str] = ()
) -> dict[str, dict[str, float]]:
    """Of each judge: the share of the policy's look-alikes that it flags; with XSTest at hand, of its safe
    and of its unsafe prompts too."""
    sets = {"look-alikes": [text for _, text in lookalikes()]}
    prompts = read_xstest(data) if data is not None else []
    if prompts:
        sets["XSTest safe"] = [text for text, _, unsafe in prompts if not unsafe]
        sets["XSTest unsafe"] = [text for text, _, unsafe in prompts if unsafe]
    judges: dict[str, Callable[[list[str]], Floats]] = {
        "tinyphi": lambda texts: np.array([float(not safety_filter.check(text).allowed) for text in texts])
    } | {name: BASELINES[name] for name in baselines}
    return {
        who: {name: float((judge(texts) > 0.5).mean()) for name, texts in sets.items()}
        for who, judge in judges.items()
    }


_BROAD = ("samples-1680", "openai_moderation_train")  # labelled for every kind of harm
_SETS = {"OpenAI": _BROAD, "Surge": ("toxicity_en",), "tweets": ("davidson_labeled_data",)}


def _tasks(examples: Sequence[Example], name: str) -> list[tuple[str, list[int]]]:
    """The tests of a category: on OpenAI's texts and on all others, where both kinds of text are there."""
    found = []
    for source, inside in (("OpenAI", True), ("other", False)):
        chosen = [
            place
            for place, one in enumerate(examples)
            if name in one.labels and (one.source in _BROAD) == inside
        ]
        if len({examples[place].labels[name] for place in chosen}) == 2:
            found.append((source, chosen))
    return found


def write_report(file: Path, content: dict[str, Any]) -> None:
    """As JSON, without the lines that are printed."""
    kept = {name: part for name, part in content.items() if name != "text"}
    write_text(file, json.dumps(kept, indent=1) + "\n")


def _alt_profanity_check(texts: list[str]) -> Floats:
    try:
        from profanity_check import predict_prob
    except ImportError as error:
        raise InputError("alt-profanity-check is not installed: pip install alt-profanity-check") from error
    return np.asarray(predict_prob(texts), np.float64)


def _better_profanity(texts: list[str]) -> Floats:
    try:
        from better_profanity import profanity
    except ImportError as error:
        raise InputError("better-profanity is not installed: pip install better-profanity") from error
    shown = tqdm(texts, desc="better-profanity", disable=len(texts) < 1000)
    return np.array([float(profanity.contains_profanity(text)) for text in shown])


BASELINES: dict[str, Callable[[list[str]], Floats]] = {
    "alt-profanity-check": _alt_profanity_check,
    "better-profanity": _better_profanity,
}
