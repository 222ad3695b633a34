"""The benchmarks, one small file each; `TASKS` has them by name."""

from tinyphi.evaluate.tasks.arc import ARC_CHALLENGE, ARC_EASY
from tinyphi.evaluate.tasks.base import Task
from tinyphi.evaluate.tasks.bbh import BBH
from tinyphi.evaluate.tasks.boolq import BOOLQ
from tinyphi.evaluate.tasks.gsm8k import GSM8K
from tinyphi.evaluate.tasks.hellaswag import HELLASWAG
from tinyphi.evaluate.tasks.humaneval import HUMANEVAL
from tinyphi.evaluate.tasks.mbpp import MBPP
from tinyphi.evaluate.tasks.mmlu import MMLU
from tinyphi.evaluate.tasks.mt_bench import MT_BENCH
from tinyphi.evaluate.tasks.perplexity import PERPLEXITY
from tinyphi.evaluate.tasks.piqa import PIQA
from tinyphi.evaluate.tasks.triviaqa import TRIVIAQA
from tinyphi.evaluate.tasks.truthfulqa import TRUTHFULQA_MC1, TRUTHFULQA_MC2
from tinyphi.evaluate.tasks.winogrande import WINOGRANDE

_ALL: tuple[Task, ...] = (
    MMLU, ARC_EASY, ARC_CHALLENGE, HELLASWAG, PIQA, WINOGRANDE, BOOLQ, TRUTHFULQA_MC1, TRUTHFULQA_MC2, GSM8K,
    TRIVIAQA, BBH, HUMANEVAL, MBPP, MT_BENCH, PERPLEXITY,
)  # fmt: skip
TASKS: dict[str, Task] = {task.name: task for task in _ALL}
