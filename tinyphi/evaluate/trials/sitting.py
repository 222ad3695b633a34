"""Let a model take the trials, and write down what it said and how that was marked."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from tinyphi.errors import InputError
from tinyphi.evaluate.trials.trial import Grade, Trial
from tinyphi.files import write_text


@dataclass(frozen=True)
class Answered:
    """A trial, what was said to it, and the grade."""

    trial: Trial
    language: str
    reply: str
    grade: Grade


def take(
    trials: Sequence[Trial], answer: Callable[[str], str], *, language: str = "en", run_code: bool = False
) -> list[Answered]:
    """Ask every trial. answer: whatever turns a prompt into a reply, such as a model or a list of texts.

    Programs are run, in the sandbox, only if run_code is True; otherwise they have no score.
    """
    found = []
    for trial in tqdm(trials, desc="trials", leave=False, disable=None):
        reply = answer(trial.prompt(language))
        found.append(Answered(trial, language, reply, trial.grade(reply, run_code=run_code)))
    return found


def table(answered: Sequence[Answered]) -> str:
    """A line for each trial: its score and the first reason; and the sum."""
    lines = [f"{'trial':30} {'level':7} {'score':>6}  why"]
    for one in answered:
        score = "–" if one.grade.score is None else f"{one.grade.score:.0%}"
        why = one.grade.reasons[1] if len(one.grade.reasons) > 1 else one.grade.reasons[0]
        lines.append(f"{one.trial.name:30} {one.trial.level:7} {score:>6}  {' '.join(why.split())[:100]}")
    graded = [one for one in answered if one.grade.score is not None]
    passed = sum(one.grade.passed for one in graded)
    skipped = f", {len(answered) - len(graded)} not run" if len(graded) < len(answered) else ""
    return "\n".join([*lines, f"passed {passed} of {len(graded)}{skipped}"])


def save(answered: Sequence[Answered], model: str, path: Path) -> None:
    """Write prompts, replies, scores and reasons as JSON. Raises InputError if that cannot be written."""
    rows = [
        {
            "trial": one.trial.name,
            "level": one.trial.level,
            "prompt": one.trial.prompt(one.language),
            "reply": one.reply,
            "score": one.grade.score,
            "reasons": list(one.grade.reasons),
        }
        for one in answered
    ]
    report = {"model": model, "language": answered[0].language if answered else None, "trials": rows}
    try:
        write_text(path, json.dumps(report, ensure_ascii=False, indent=1) + "\n")
    except OSError as error:
        raise InputError(f"The report cannot be written to {path}: {error.strerror or error}.") from error
