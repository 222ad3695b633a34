"""GSM8K: word problems of primary school, solved in words before the answer ("chain of thought").

Row: {"question", "answer": "… #### 18"}. Source: Cobbe et al. 2021, arXiv 2110.14168; the eight solved
examples are those of Wei et al. 2022 (arXiv 2201.11903, table 20), as in `gsm8k_cot` of lm-eval. Its two ways
to find the answer in the text are here: "exact_match" wants "The answer is 18.", "flexible" takes the last
number that was written.
"""

import re

from tinyphi.evaluate.tasks.base import Question, Row, Score, TextTask, Wording

_NOTHING = "[invalid]"  # where no answer was found

EXAMPLES: tuple[Row, ...] = (
    {
        "question": "There are 15 trees in the grove. Grove workers will plant trees in the grove today. "
        "After they are done, there will be 21 trees. How many trees did the grove workers "
        "plant today?",
        "solution": "There are 15 trees originally. Then there were 21 trees after some more were "
        "planted. So there must have been 21 - 15 = 6. The answer is 6.",
    },
    {
        "question": "If there are 3 cars in the parking lot and 2 more cars arrive, how many cars are in "
        "the parking lot?",
        "solution": "There are originally 3 cars. 2 more cars arrive. 3 + 2 = 5. The answer is 5.",
    },
    {
        "question": "Leah had 32 chocolates and her sister had 42. If they ate 35, how many pieces do "
        "they have left in total?",
        "solution": "Originally, Leah had 32 chocolates. Her sister had 42. So in total they had 32 + 42 "
        "= 74. After eating 35, they had 74 - 35 = 39. The answer is 39.",
    },
    {
        "question": "Jason had 20 lollipops. He gave Denny some lollipops. Now Jason has 12 lollipops. "
        "How many lollipops did Jason give to Denny?",
        "solution": "Jason started with 20 lollipops. Then he had 12 after giving some to Denny. So he "
        "gave Denny 20 - 12 = 8. The answer is 8.",
    },
    {
        "question": "Shawn has five toys. For Christmas, he got two toys each from his mom and dad. How "
        "many toys does he have now?",
        "solution": "Shawn started with 5 toys. If he got 2 toys each from his mom and dad, then that is "
        "4 more toys. 5 + 4 = 9. The answer is 9.",
    },
    {
        "question": "There were nine computers in the server room. Five more computers were installed "
        "each day, from monday to thursday. How many computers are now in the server room?",
        "solution": "There were originally 9 computers. For each of 4 days, 5 more computers were added. "
        "So 5 * 4 = 20 computers were added. 9 + 20 is 29. The answer is 29.",
    },
    {
        "question": "Michael had 58 golf balls. On tuesday, he lost 23 golf balls. On wednesday, he lost "
        "2 more. How many golf balls did he have at the end of wednesday?",
        "solution": "Michael started with 58 golf balls. After losing 23 on tuesday, he had 58 - 23 = 35. "
        "After losing 2 more, he had 35 - 2 = 33 golf balls. The answer is 33.",
    },
    {
        "question": "Olivia has $23. She bought five bagels for $3 each. How much money does she have left?",
        "solution": "Olivia had 23 dollars. 5 bagels for 3 dollars each will be 5 x 3 = 15 dollars. So "
        "she has 23 - 15 dollars left. 23 - 15 is 8. The answer is 8.",
    },
)


def stated_answer(reply: str) -> str:
    """The number after "The answer is", or "[invalid]"."""
    found = re.search(r"The answer is (\-?[0-9\.\,]+).", reply)
    return found[1].strip() if found else _NOTHING


def last_number(reply: str) -> str:
    """The last number that was written, or "[invalid]"."""
    found = re.findall(r"-?[$0-9.,]{2,}|-?[0-9]+", reply)
    return found[-1].strip() if found else _NOTHING


def _plain(number: str) -> str:
    """As it is compared: without thousands, dollars and a full stop at the end."""
    return re.sub(r"\.$", "", number.replace(",", "").replace("$", "")).lower()


def _mark(row: Row, reply: str) -> dict[str, Score]:
    gold = _plain(row["answer"].split("####")[-1].strip())
    return {
        "exact_match": Score(float(_plain(stated_answer(reply)) == gold)),
        "flexible": Score(float(_plain(last_number(reply)) == gold)),
    }


def _answer(row: Row) -> str:
    return str(row.get("solution", row.get("answer", "")))


GSM8K = TextTask(
    name="gsm8k",
    metrics=("exact_match", "flexible"),
    wordings={
        "lm-eval": Wording(
            lambda row: Question((f"Q: {row['question']}\nA:",), (_answer(row),)),
            shots=8,
            stops=("Q:", "</s>", "<|im_end|>"),
        ),
        "report": Wording(
            lambda row: Question((f"Question:\n{row['question']}\nAnswer:",), (_answer(row),)),
            shots=8,
            stops=("Question:",),
        ),
    },
    examples=EXAMPLES,
    mark=_mark,
)
