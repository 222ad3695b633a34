"""MBPP: short programs from a sentence and three tests; the tests are then run.

Row: {"text", "code", "test_list": [three or more], "test_setup_code"}. Source: Austin et al. 2021,
arXiv 2108.07732, whose prompt it is, with three solved examples, as in `mbpp` of lm-eval.
"""

from tinyphi.evaluate.tasks.base import CodeTask, Question, Row, Wording

# The first three tasks of its "prompt" part, with which Austin et al. asked.
EXAMPLES: tuple[Row, ...] = (
    {
        "text": "Write a function to find the similar elements from the given two tuple lists.",
        "code": "def similar_elements(test_tup1, test_tup2):\r\n"
        "  res = tuple(set(test_tup1) & set(test_tup2))\r\n  return (res) ",
        "test_list": [
            "assert similar_elements((3, 4, 5, 6),(5, 7, 4, 10)) == (4, 5)",
            "assert similar_elements((1, 2, 3, 4),(5, 4, 3, 7)) == (3, 4)",
            "assert similar_elements((11, 12, 14, 13),(17, 15, 14, 13)) == (13, 14)",
        ],
    },
    {
        "text": "Write a python function to identify non-prime numbers.",
        "code": "import math\r\ndef is_not_prime(n):\r\n    result = False\r\n"
        "    for i in range(2,int(math.sqrt(n)) + 1):\r\n        if n % i == 0:\r\n"
        "            result = True\r\n    return result",
        "test_list": [
            "assert is_not_prime(2) == False",
            "assert is_not_prime(10) == True",
            "assert is_not_prime(35) == True",
        ],
    },
    {
        "text": "Write a function to find the largest integers from a given list of numbers using heap queue "
        "algorithm.",
        "code": "import heapq as hq\r\ndef heap_queue_largest(nums,n):\r\n"
        "  largest_nums = hq.nlargest(n, nums)\r\n  return largest_nums",
        "test_list": [
            "assert heap_queue_largest( [25, 35, 22, 85, 14, 65, 75, 22, 58],3)==[85, 75, 65] ",
            "assert heap_queue_largest( [25, 35, 22, 85, 14, 65, 75, 22, 58],2)==[85, 75] ",
            "assert heap_queue_largest( [25, 35, 22, 85, 14, 65, 75, 22, 58],5)==[85, 75, 65, 58, 35]",
        ],
    },
)


def _ask(row: Row) -> Question:
    tests = "\n".join(row["test_list"][:3])
    text = (
        f"You are an expert Python programmer, and here is your task: {row['text']} Your code should pass "
        f"these tests:\n\n{tests}\n[BEGIN]\n"
    )
    return Question((text,), (f"{row['code']}\n[DONE]",))


def _program(row: Row, reply: str) -> str:
    return "\n".join((row.get("test_setup_code") or "", reply, *row["test_list"])) + "\n"


MBPP = CodeTask(
    name="mbpp",
    metrics=("pass@1",),
    wordings={"lm-eval": Wording(_ask, shots=3, delimiter="", stops=("[DONE]",))},
    examples=EXAMPLES,
    program=_program,
)
