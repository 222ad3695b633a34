"""Scores of the Phi-3 family as they were published: who printed which number, where, and when.

A number is only as good as what is known about it. The same model has two scores on the same benchmark if two
publications asked it in two ways (GPQA of the April mini: 32.8 and 23.7), so compare within a table, not
across tables. Nothing here was measured by tinyphi. The answers were judged in Microsoft's internal pipeline,
at temperature 0, and other pipelines get other numbers. None stands for what is not known: shots, dates, and
scores that were not printed. The report was read in full; the model cards only in a copy.

The names of the models say which weights were measured, since "Phi-3-mini" was exchanged in June 2024 for a
model of the same shape with another post-training. The hub has the June weights, the report the April scores.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

APRIL, JUNE = "phi-3-mini (April 2024)", "phi-3-mini (June 2024)"
SMALL, MEDIUM = "phi-3-small", "phi-3-medium"
MINI_128K_APRIL, MINI_128K_JUNE = "phi-3-mini-128k (April 2024)", "phi-3-mini-128k (June 2024)"
MINI_35, MOE_35 = "phi-3.5-mini", "phi-3.5-moe"


class Source(NamedTuple):
    """Where a table stands."""

    publication: str
    place: str  # the table or section
    date: str | None  # year and month of the scores; None where it is not known
    read: str  # in which form this project read it


class Row(NamedTuple):
    """One benchmark: the models' scores, and how they were asked, as far as that is known."""

    scores: tuple[float | None, ...]  # in the order of the table's models
    shots: int | None = None  # solved examples before the question
    chain_of_thought: bool | None = None  # whether the model was let to reason before its answer


@dataclass(frozen=True)
class Table:
    """Scores that may be compared with each other: the same questions, asked in the same way."""

    source: Source
    models: tuple[str, ...]
    rows: Mapping[str, Row]
    averages: tuple[float | None, ...] = ()  # as printed; see `means`
    highest: float = 100.0  # the best score there is
    outside: frozenset[str] = field(default=frozenset())  # rows that the printed averages leave out

    def scores(self) -> dict[str, dict[str, float | None]]:
        """benchmark → model → score."""
        return {
            benchmark: dict(zip(self.models, row.scores, strict=True)) for benchmark, row in self.rows.items()
        }

    def notes(self) -> dict[str, str]:
        """benchmark → how it was asked, such as "8 shots, chain of thought"; only where that is known."""
        said = {}
        for benchmark, row in self.rows.items():
            shots = [] if row.shots is None else [f"{row.shots} shot{'' if row.shots == 1 else 's'}"]
            said[benchmark] = ", ".join(shots + ["chain of thought"] * bool(row.chain_of_thought))
        return {benchmark: note for benchmark, note in said.items() if note}

    def means(self) -> tuple[float | None, ...]:
        """Each model's mean of the rows that its printed average is about; None where a score is missing."""
        counted = [row.scores for name, row in self.rows.items() if name not in self.outside]
        return tuple(_mean(scores) for scores in zip(*counted, strict=True))


def _mean(scores: tuple[float | None, ...]) -> float | None:
    known = [score for score in scores if score is not None]
    return sum(known) / len(known) if len(known) == len(scores) else None


_TITLE = "Phi-3 Technical Report, arXiv 2404.14219"
_READ = "the full text of its latest version"
_COPY = "a copy of the card on the hub (YinanWusoymilk/hf-readme)"

# The report's medium average, 76.7, is not the mean of its own 20 rows, which is 77.2; small's is off by 0.1.
REPORT = Table(
    Source(_TITLE, "the table of mini, small and medium", "2024-04", _READ),
    models=(APRIL, SMALL, MEDIUM),
    rows={
        "MMLU": Row((68.8, 75.7, 78.0), 5),
        "HellaSwag": Row((76.7, 77.0, 82.4), 5),
        "ANLI": Row((52.8, 58.1, 55.8), 7),
        "GSM8K": Row((82.5, 89.6, 91.0), 8, chain_of_thought=True),
        "MATH": Row((41.3, 34.6, 53.1), 0, chain_of_thought=True),
        "MedQA": Row((53.8, 65.4, 69.9), 2),
        "AGIEval": Row((37.5, 45.1, 50.2), 0),
        "TriviaQA": Row((64.0, 58.1, 73.9), 5),
        "ARC-C": Row((84.9, 90.7, 91.6), 10),
        "ARC-E": Row((94.6, 97.0, 97.7), 10),
        "PIQA": Row((84.2, 86.9, 87.9), 5),
        "SIQA": Row((76.6, 79.2, 80.2), 5),
        "BBH": Row((71.7, 79.1, 81.4), 3, chain_of_thought=True),
        "WinoGrande": Row((70.8, 81.5, 81.5), 5),
        "OBQA": Row((83.2, 88.0, 87.4), 10),
        "BoolQ": Row((77.2, 84.8, 86.5), 2),
        "CSQA": Row((80.2, 80.0, 82.8), 10),
        "TruthfulQA": Row((65.0, 70.2, 75.1), 10),
        "HumanEval": Row((58.5, 61.0, 62.2), 0),
        "MBPP": Row((70.0, 71.7, 75.2), 3),
        "GPQA": Row((32.8, 34.3, None), 2, chain_of_thought=True),
    },
    averages=(69.7, 73.6, 76.7),
    outside=frozenset({"GPQA"}),
)

MT_BENCH = Table(
    REPORT.source,
    models=REPORT.models,
    rows={"MT-Bench": Row((8.38, 8.70, 8.91))},
    highest=10.0,
)

REPORT_35 = Table(
    Source(_TITLE, "table 3", None, _READ),
    models=(MINI_35,),
    rows={
        "MMLU": Row((69.0,)),
        "MMLU-Pro": Row((47.5,)),
        "BBH": Row((69.0,), 0),
        "ARC-C": Row((84.6,)),
        "BoolQ": Row((78.0,)),
        "GPQA": Row((27.2,), 0),
        "HellaSwag": Row((69.4,)),
        "OBQA": Row((79.2,)),
        "PIQA": Row((81.0,)),
        "SIQA": Row((74.7,)),
        "TruthfulQA": Row((64.0,)),
        "WinoGrande": Row((68.5,)),
        "Multilingual MMLU": Row((55.4,)),
        "MGSM": Row((47.9,)),
        "GSM8K": Row((86.2,)),
        "MATH": Row((48.5,)),
        "Qasper": Row((41.9,)),
        "SQuALITY": Row((24.3,)),
        "HumanEval": Row((61.5,)),
        "MBPP": Row((68.6,)),
        "Arena-Hard": Row((37.0,)),
    },
    averages=(61.1,),
)

# The four scores in which the card of Phi-3.5-mini differs from the report; its average is 61.4.
CARD_35 = Table(
    Source("model card of Phi-3.5-mini-instruct", "benchmarks", None, _COPY),
    models=(MINI_35,),
    rows={
        "MMLU-Pro": Row((47.4,)),
        "GPQA": Row((30.4,)),
        "HumanEval": Row((62.8,)),
        "MBPP": Row((69.6,)),
    },
)

_CARD_4K = "model card of Phi-3-mini-4k-instruct"
_CARD_128K = "model card of Phi-3-mini-128k-instruct"
UPDATE = Table(
    Source(_CARD_4K, "what the update of June 2024 changed", "2024-06", _COPY),
    models=(APRIL, JUNE),
    rows={
        "MMLU": Row((68.8, 70.9)),
        "GPQA": Row((23.7, 30.6)),
        "Hard instructions": Row((24.6, 42.3)),
        "JSON output": Row((11.5, 52.3)),
        "XML output": Row((14.4, 49.8)),
    },
)

CARDS = Table(
    Source(f"{_CARD_4K}, {_CARD_128K}", "benchmarks", "2024-06", _COPY),
    models=(JUNE, MINI_128K_JUNE),
    rows={
        "MMLU": Row((70.9, 69.7)),
        "AGIEval": Row((39.0, 39.5)),
        "BBH": Row((73.5, 72.1)),
        "ANLI": Row((53.6, 52.3)),
        "HellaSwag": Row((75.3, 70.5)),
        "ARC-C": Row((86.3, 85.5)),
        "BoolQ": Row((78.1, 77.1)),
        "MedQA": Row((56.5, 56.4)),
        "OBQA": Row((82.2, 78.8)),
        "PIQA": Row((83.5, 80.1)),
        "GPQA": Row((30.6, 29.7)),
        "SIQA": Row((77.6, 74.7)),
        "TruthfulQA": Row((64.7, 64.8)),
        "WinoGrande": Row((71.6, 71.0)),
        "TriviaQA": Row((61.4, 57.8)),
        "GSM8K": Row((85.7, 85.3)),
        "HumanEval": Row((57.3, 60.4)),
        "MBPP": Row((69.8, 70.0)),
    },
    averages=(67.6, 66.4),
)

# RULER: the share of tasks that are solved, by the tokens of the text.
RULER = Table(
    Source(_CARD_128K, "RULER before and after the update of June 2024", "2024-06", _COPY),
    models=(MINI_128K_APRIL, MINI_128K_JUNE),
    rows={
        "4k": Row((86.7, 92.4)),
        "8k": Row((78.1, 91.1)),
        "16k": Row((75.6, 90.8)),
        "32k": Row((70.3, 87.9)),
        "64k": Row((58.9, 79.8)),
        "128k": Row((43.3, 65.6)),
    },
    averages=(68.8, 84.6),
)

RULER_35 = Table(
    Source(_TITLE, "the table of RULER", None, _READ),
    models=(MINI_35, MOE_35),
    rows={
        "4k": Row((94.3, 94.8)),
        "8k": Row((91.1, 93.0)),
        "16k": Row((90.7, 93.2)),
        "32k": Row((87.1, 91.6)),
        "64k": Row((78.0, 85.7)),
        "128k": Row((63.6, 64.2)),
    },
    averages=(84.1, 87.1),
)

TABLES = {
    "report": REPORT,
    "report MT-Bench": MT_BENCH,
    "report 3.5": REPORT_35,
    "card 3.5": CARD_35,
    "update": UPDATE,
    "cards": CARDS,
    "RULER": RULER,
    "RULER 3.5": RULER_35,
}
