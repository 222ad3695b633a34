"""Exercises of notebook 31: read an answer, mark a program, know the rules of a game."""

from tinyphi.course.exercise import Exercise, fail_if, number_of

# ---------------------------------------------------------------------------------------------------------------
reading = Exercise(
    "trials.final_number",
    notebook="31_trials",
    title="Where the answer stands",
    difficulty=1,
    minutes=10,
    task="""
    Write `final_number(reply)`: the first number in the last line that begins with "Answer:", as a float. Small letters
    do as well. Without such a line, or without a number in it, return None: a number somewhere else is no answer.
    """,
    hints=[
        "`re.findall(pattern, reply, re.IGNORECASE | re.MULTILINE)` gives all matches, the last one at `[-1]`.",
        "With `re.MULTILINE`, `^answer:(.*)$` matches a whole line and keeps what follows the colon.",
        r"A number, perhaps negative, perhaps with decimals: `-?\\d+(?:\\.\\d+)?`.",
    ],
)


@reading.stub
def final_number(reply):
    """str → float or None"""
    ...  # your code


@reading.solution
def final_number(reply):
    import re

    lines = re.findall(r"^answer:(.*)$", reply, re.IGNORECASE | re.MULTILINE)
    numbers = re.findall(r"-?\d+(?:\.\d+)?", lines[-1]) if lines else []
    return float(numbers[0]) if numbers else None


@reading.judge
def judge_reading(f):
    got = number_of(f("5 shirts took 4 hours.\nAnswer: 4 hours"), name="number")
    fail_if(
        got == 5, "You read the first number of the whole reply. What comes before the answer is thinking."
    )
    fail_if(got != 4, f"In 'Answer: 4 hours' you read {got:g}.")
    got = f("answer: 16 hours\nNo, wait. They dry side by side.\nAnswer: 4 hours")
    fail_if(got == 16, "A reply may correct itself: of two such lines, the later one counts.")
    fail_if(got != 4, f"With a second line 'Answer: 4 hours' below the first you read {got}.")
    got = f("It depends.\nanswer: 4")
    fail_if(got is None, "You miss 'answer: 4'. Small letters should do.")
    fail_if(got != 4, f"In 'answer: 4' you read {got}.")
    got = f("It is 20 / 5 × 4 = 16.")
    fail_if(got is not None, f"Without a line 'Answer:' there is no answer; you found {got} somewhere else.")
    got = f("So 16 it is?\nAnswer: nobody knows")
    fail_if(got is not None, f"'Answer: nobody knows' holds no number; you found {got}.")
    got = f("Answer: -2.5 volts, not 3")
    fail_if(
        got in (2, 2.5, -2, 5),
        f"In 'Answer: -2.5 volts' you read {got}. Numbers have signs and decimals.",
    )
    fail_if(got != -2.5, f"In 'Answer: -2.5 volts, not 3' the first number is −2.5; you read {got}.")
    got = f("My answer: 7\nAnswer: 8\nThe answer: 9")
    fail_if(got != 8, f"Only 'Answer: 8' *begins* with the word; you read {got}.")


@reading.wrong("the first number anywhere", says="thinking.")
def final_number(reply):
    import re

    numbers = re.findall(r"-?\d+(?:\.\d+)?", reply)
    return float(numbers[0]) if numbers else None


@reading.wrong("the first such line", says="correct itself")
def final_number(reply):
    import re

    line = re.search(r"^answer:(.*)$", reply, re.IGNORECASE | re.MULTILINE)
    number = re.search(r"-?\d+(?:\.\d+)?", line[1]) if line else None
    return float(number[0]) if number else None


@reading.wrong("the last number when there is no line", says="there is no answer")
def final_number(reply):
    import re

    lines = re.findall(r"^answer:(.*)$", reply, re.IGNORECASE | re.MULTILINE)
    numbers = re.findall(r"-?\d+(?:\.\d+)?", lines[-1] if lines else reply)
    return float(numbers[-1 if not lines else 0]) if numbers else None


@reading.wrong("only a large A", says="Small letters should do")
def final_number(reply):
    import re

    lines = re.findall(r"^Answer:(.*)$", reply, re.MULTILINE)
    numbers = re.findall(r"-?\d+(?:\.\d+)?", lines[-1]) if lines else []
    return float(numbers[0]) if numbers else None


@reading.wrong("digits only", says="signs and decimals")
def final_number(reply):
    import re

    lines = re.findall(r"^answer:(.*)$", reply, re.IGNORECASE | re.MULTILINE)
    numbers = re.findall(r"\d+", lines[-1]) if lines else []
    return float(numbers[0]) if numbers else None


# ---------------------------------------------------------------------------------------------------------------
marking = Exercise(
    "trials.share_right",
    notebook="31_trials",
    title="Marks for a program",
    difficulty=2,
    minutes=15,
    task="""
    Write `share_right(function, cases)`: the share of cases, from 0 to 1, that a function gets right. A case is a pair:
    a tuple of arguments and the number that is wanted. A number may differ from it by 1e-9 of its size. A function that
    raises an exception, or that returns something else than a number, gets this case wrong, and the next case is tried.
    """,
    hints=[
        "`function(*arguments)` calls it with a tuple of arguments.",
        "`try:` … `except Exception:` around one case, not around the loop.",
        "`math.isclose(got, wanted, rel_tol=1e-9, abs_tol=1e-12)`, and `isinstance(got, (int, float))` before it.",
    ],
)


@marking.stub
def share_right(function, cases):
    """a function, a list of (tuple, number) → a number from 0 to 1"""
    ...  # your code


@marking.solution
def share_right(function, cases):
    import math

    right = 0
    for arguments, wanted in cases:
        try:
            got = function(*arguments)
        except Exception:
            continue
        if isinstance(got, (int, float)):
            right += math.isclose(got, wanted, rel_tol=1e-9, abs_tol=1e-12)
    return right / len(cases)


@marking.judge
def judge_marking(f):
    cases = [((1, 2), 0.5), ((3, 4), 0.75), ((1, 0), 0), ((6, 2), 3)]

    handed = []

    def divide(*given):
        handed.append(given)
        return given[0] / given[1]

    try:
        got = f(divide, cases)
    except Exception:
        got = "an exception"
    fail_if(
        any(len(given) == 1 for given in handed),
        "You hand over the tuple itself, as one argument. A star unpacks it: `function(*arguments)`.",
    )
    fail_if(
        got == "an exception",
        "The function failed at one case, and your marking ended with it. The others are still to be tried.",
    )
    got = number_of(got, name="share")
    fail_if(got == 0.5, "The cases after the one that raised an exception were not tried, or not counted.")
    fail_if(got == 1, "An exception is no right answer, whatever was wanted.")
    fail_if(got == 0, "You give all or nothing. Three of the four cases are right: that is 0.75.")
    fail_if(got == 3, "You count the right cases. The share is that, divided by the number of cases.")
    fail_if(abs(got - 0.75) > 1e-9, f"Three of four cases are right: 0.75; you say {got:g}.")
    got = number_of(f(lambda a, b: a + b, [((0.1, 0.2), 0.3), ((1, 1), 2)]), name="share")
    fail_if(
        got == 0.5, "0.1 + 0.2 is 0.30000000000000004 in every computer. Numbers that close are equal here."
    )
    fail_if(got != 1, f"0.1 + 0.2 and 1 + 1: both are right; you say {got:g}.")
    got = number_of(f(lambda a: a * (1 + 1e-4), [((1000,), 1000)]), name="share")
    fail_if(got != 0, "1000.1 is not 1000: your numbers may differ by too much.")
    try:
        got = f(lambda a: "no" if a else None, [((1,), 2), ((0,), 1), ((2,), 3)])
    except Exception:
        got = "an exception"
    fail_if(
        got == "an exception",
        "A function may return a text, or nothing: that case is wrong, and no accident of the marking.",
    )
    got = number_of(got, name="share")
    fail_if(got != 0, f"A function that returns texts has nothing right; you say {got:g}.")


@marking.wrong("ends at the first exception", says="your marking ended with it")
def share_right(function, cases):
    import math

    return sum(math.isclose(function(*given), wanted, rel_tol=1e-9) for given, wanted in cases) / len(cases)


@marking.wrong("one try around all", says="not tried, or not counted")
def share_right(function, cases):
    import math

    right = 0
    try:
        for given, wanted in cases:
            right += math.isclose(function(*given), wanted, rel_tol=1e-9)
    except Exception:
        pass
    return right / len(cases)


@marking.wrong("exactly equal", says="in every computer")
def share_right(function, cases):
    right = 0
    for given, wanted in cases:
        try:
            right += function(*given) == wanted
        except Exception:
            pass
    return right / len(cases)


@marking.wrong("all or nothing", says="all or nothing.")
def share_right(function, cases):
    import math

    try:
        return float(all(math.isclose(function(*given), wanted, rel_tol=1e-9) for given, wanted in cases))
    except Exception:
        return 0.0


@marking.wrong("a tuple as one argument", says="A star unpacks it")
def share_right(function, cases):
    right = 0
    for given, wanted in cases:
        try:
            right += abs(function(given) - wanted) < 1e-9
        except ZeroDivisionError:
            pass
    return right / len(cases)


@marking.wrong("a count", says="divided by the number")
def share_right(function, cases):
    import math

    right = 0
    for given, wanted in cases:
        try:
            right += math.isclose(function(*given), wanted, rel_tol=1e-9)
        except Exception:
            pass
    return right


# ---------------------------------------------------------------------------------------------------------------
rules = Exercise(
    "trials.snake_step",
    notebook="31_trials",
    title="One step of the snake",
    difficulty=2,
    minutes=20,
    task="""
    Write `snake_step(body, food, step, width, height)`. `body` is a list of cells (x, y), the head first, at least two;
    `food` is a cell; `step` is (1, 0), (-1, 0), (0, 1) or (0, -1). Return the new list, or None if the snake dies.

    - A step back onto its own neck is not taken; it goes straight on instead.
    - If the head reaches the food, the snake grows by one cell: its tail stays where it is.
    - It dies if the head leaves the board of width × height cells, or runs into the body as it is after the step. So
      the cell that the tail leaves is free.
    """,
    hints=[
        "Where would the head be? If that is `body[1]`, reverse the step.",
        "What stays of the body is `body` if it eats, and `body[:-1]` if it does not.",
        "`0 <= x < width`: the last column is width − 1.",
    ],
)


@rules.stub
def snake_step(body, food, step, width, height):
    """a list of cells, a cell, a pair, two numbers → a list of cells, or None"""
    ...  # your code


@rules.solution
def snake_step(body, food, step, width, height):
    (x, y), (dx, dy) = body[0], step
    if (x + dx, y + dy) == body[1]:
        dx, dy = -dx, -dy
    head = (x + dx, y + dy)
    rest = body if head == food else body[:-1]
    if head in rest or not (0 <= head[0] < width and 0 <= head[1] < height):
        return None
    return [head, *rest]


@rules.judge
def judge_rules(f):
    def cells(value):
        fail_if(not isinstance(value, list), f"Return a list of cells, not a {type(value).__name__}.")
        fail_if(
            not all(isinstance(cell, (tuple, list)) and len(cell) == 2 for cell in value),
            "Each cell of the list should be a pair (x, y).",
        )
        return [tuple(cell) for cell in value]

    given = [(4, 3), (3, 3), (2, 3)]
    got = f(given, (0, 0), (1, 0), 8, 6)
    fail_if(got is None, "On an empty board a step to the right ends the game with yours.")
    got = cells(got)
    fail_if(given != [(4, 3), (3, 3), (2, 3)], "You change the list that you were given. Make a new one.")
    fail_if(got == given, "The snake does not move: you return the body that you were given.")
    fail_if(len(got) > 3, "It grows without having eaten. When the head moves on, the tail follows.")
    fail_if(got != [(5, 3), (4, 3), (3, 3)], f"From {given}, a step to the right; yours leads to {got}.")
    got = f(given, (0, 0), (-1, 0), 8, 6)
    fail_if(got is None, "It turns round on the spot and bites its neck. Such a step is not taken.")
    fail_if(cells(got) == given, "It stands still when it is told to turn round. It should go straight on.")
    fail_if(cells(got) != [(5, 3), (4, 3), (3, 3)], f"Told to turn round, it goes to {cells(got)[:1]}.")
    got = f(given, (4, 2), (0, -1), 8, 6)
    fail_if(got is not None and len(cells(got)) == 3, "It reaches the food and stays as long as it was.")
    fail_if(
        got is None or cells(got) != [(4, 2), *given],
        f"After eating, {[(4, 2), *given]} is right, not {got}.",
    )
    for body, step in (
        ([(7, 3), (6, 3)], (1, 0)),
        ([(0, 3), (1, 3)], (-1, 0)),
        ([(3, 5), (3, 4)], (0, 1)),
        ([(3, 0), (3, 1)], (0, -1)),
    ):
        got = f(list(body), (9, 9), step, 8, 6)
        fail_if(
            got is not None,
            f"From {body[0]}, a step of {step} leaves the board of 8 × 6; yours lives on at {got and got[0]}.",
        )
    ring = [(3, 3), (3, 4), (2, 4), (2, 3)]
    got = f(list(ring), (0, 0), (-1, 0), 8, 6)
    fail_if(
        got is None, "It dies where its tail was. The tail moves on in the same step, and its cell is free."
    )
    fail_if(
        cells(got) != [(2, 3), (3, 3), (3, 4), (2, 4)], f"Following its tail from {ring}, yours is at {got}."
    )
    longer = [*ring, (2, 2)]
    got = f(list(longer), (0, 0), (-1, 0), 8, 6)
    fail_if(got is not None, f"{longer}, with a step to the left, runs into itself; yours goes through.")


@rules.wrong("grows at every step", says="without having eaten")
def snake_step(body, food, step, width, height):
    (x, y), (dx, dy) = body[0], step
    if (x + dx, y + dy) == body[1]:
        dx, dy = -dx, -dy
    head = (x + dx, y + dy)
    if head in body or not (0 <= head[0] < width and 0 <= head[1] < height):
        return None
    return [head, *body]


@rules.wrong("turns round and dies", says="bites its neck")
def snake_step(body, food, step, width, height):
    head = (body[0][0] + step[0], body[0][1] + step[1])
    rest = body if head == food else body[:-1]
    if head in rest or not (0 <= head[0] < width and 0 <= head[1] < height):
        return None
    return [head, *rest]


@rules.wrong("stands still", says="stands still")
def snake_step(body, food, step, width, height):
    head = (body[0][0] + step[0], body[0][1] + step[1])
    if head == body[1]:
        return list(body)
    rest = body if head == food else body[:-1]
    if head in rest or not (0 <= head[0] < width and 0 <= head[1] < height):
        return None
    return [head, *rest]


@rules.wrong("never grows", says="stays as long as it was")
def snake_step(body, food, step, width, height):
    (x, y), (dx, dy) = body[0], step
    if (x + dx, y + dy) == body[1]:
        dx, dy = -dx, -dy
    head = (x + dx, y + dy)
    if head in body[:-1] or not (0 <= head[0] < width and 0 <= head[1] < height):
        return None
    return [head, *body[:-1]]


@rules.wrong("the wall is one cell too far", says="leaves the board")
def snake_step(body, food, step, width, height):
    (x, y), (dx, dy) = body[0], step
    if (x + dx, y + dy) == body[1]:
        dx, dy = -dx, -dy
    head = (x + dx, y + dy)
    rest = body if head == food else body[:-1]
    if head in rest or not (0 <= head[0] <= width and 0 <= head[1] <= height):
        return None
    return [head, *rest]


@rules.wrong("bites the tail that leaves", says="where its tail was")
def snake_step(body, food, step, width, height):
    (x, y), (dx, dy) = body[0], step
    if (x + dx, y + dy) == body[1]:
        dx, dy = -dx, -dy
    head = (x + dx, y + dy)
    if head in body or not (0 <= head[0] < width and 0 <= head[1] < height):
        return None
    return [head, *(body if head == food else body[:-1])]


@rules.wrong("goes through itself", says="runs into itself")
def snake_step(body, food, step, width, height):
    (x, y), (dx, dy) = body[0], step
    if (x + dx, y + dy) == body[1]:
        dx, dy = -dx, -dy
    head = (x + dx, y + dy)
    if not (0 <= head[0] < width and 0 <= head[1] < height):
        return None
    return [head, *(body if head == food else body[:-1])]
