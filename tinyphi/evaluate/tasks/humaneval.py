"""HumanEval: write the body of a Python function, whose hidden tests are then run.

Row: {"prompt": the head of the function, "test": def check(candidate): …, "entry_point"}. Source: Chen et al.
2021, arXiv 2107.03374; the stop strings are those of `humaneval` of lm-eval.
"""

from tinyphi.evaluate.tasks.base import CodeTask, Question, Row, Wording


def _program(row: Row, reply: str) -> str:
    return f"{row['prompt']}{reply}\n{row['test']}\ncheck({row['entry_point']})\n"


HUMANEVAL = CodeTask(
    name="humaneval",
    metrics=("pass@1",),
    wordings={
        "lm-eval": Wording(
            lambda row: Question((row["prompt"],), ("",)),
            delimiter="",
            stops=("\nclass", "\ndef", "\n#", "\nif", "\nprint"),
        )
    },
    program=_program,
    most=1024,
)
