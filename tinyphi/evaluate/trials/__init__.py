"""The trials: three riddles, five coding problems and a game, asked in English or Korean, graded by rule.

    report = take(TRIALS, lambda prompt: tinyphi.chat(model, tokenizer, prompt), run_code=True)
    print(table(report))

Favourite questions are no benchmark: nine of them say little about a model, and many stand in texts that
models were trained on. What they are good for is to read the answers.
"""

from tinyphi.evaluate.trials.coding import CODING
from tinyphi.evaluate.trials.riddles import RIDDLES
from tinyphi.evaluate.trials.sitting import Answered, save, table, take
from tinyphi.evaluate.trials.snake import SNAKE
from tinyphi.evaluate.trials.trial import Grade, Trial

TRIALS = (*RIDDLES, *CODING, SNAKE)

__all__ = ["CODING", "RIDDLES", "SNAKE", "TRIALS", "Answered", "Grade", "Trial", "save", "table", "take"]
