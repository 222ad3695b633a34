"""Exercises of notebook 30: the choice by likelihood, a ranking drawn anew, questions needed, a planted question."""

import math

from tinyphi.course.exercise import Exercise, fail_if, near, number_of

# ---------------------------------------------------------------------------------------------------------------
choosing = Exercise(
    "evaluation.choice",
    notebook="30_evaluation",
    title="The model's choice",
    difficulty=1,
    minutes=10,
    task="""
    `sums` has the log-probability of each answer, in nats, and `answers` their texts. Write
    `choice(sums, answers)`: the place of the answer that the model is said to choose under acc_norm. Of two that
    are equally good the first one counts.
    """,
    hints=[
        "acc takes the largest sum. acc_norm asks how likely an answer is per character.",
        "All sums are negative. Dividing one by a large number brings it nearer to 0.",
        "`max(range(len(sums)), key=…)` gives the first place of the largest.",
    ],
)


@choosing.stub
def choice(sums, answers):
    """list of floats, list of str → int"""
    ...  # your code


@choosing.solution
def choice(sums, answers):
    each = [total / len(answer) for total, answer in zip(sums, answers)]
    return max(range(len(each)), key=each.__getitem__)


@choosing.judge
def judge_choosing(f):
    sums, answers = [-12.0, -9.0, -14.0], ["snow on the hills", "sand", "a heavy iron door"]
    got = number_of(f(list(sums), list(answers)), name="place")
    fail_if(
        got == 1,
        "You take the largest sum. That is acc: it likes short answers, for each token costs something.",
    )
    fail_if(got not in (0, 2), f"Return a place, 0, 1 or 2; yours is {got:g}.")
    fail_if(
        got == 2,
        "You choose the smallest, or multiply by the length. The choice is the largest sum per character.",
    )
    got = number_of(f([-5.0, -6.0], ["a b c d e", "unbelievably heavyweight"]), name="place")
    fail_if(
        got == 0, "You divide by the number of words. Words are of all lengths; acc_norm counts characters."
    )
    got = number_of(f([-4.0, -2.0, -6.0], ["abcd", "ab", "abcdef"]), name="place")
    fail_if(got != 0, "All three have −1 nat per character: the first one counts.")


@choosing.wrong("acc", says="You take the largest sum")
def choice(sums, answers):
    return max(range(len(sums)), key=sums.__getitem__)


@choosing.wrong("the smallest", says="or multiply by the length")
def choice(sums, answers):
    each = [total * len(answer) for total, answer in zip(sums, answers)]
    return min(range(len(each)), key=each.__getitem__)


@choosing.wrong("per word", says="divide by the number of words")
def choice(sums, answers):
    each = [total / len(answer.split()) for total, answer in zip(sums, answers)]
    return max(range(len(each)), key=lambda place: (each[place], -place))


@choosing.wrong("the last of equals", says="the first one counts")
def choice(sums, answers):
    each = [total / len(answer) for total, answer in zip(sums, answers)]
    return max(range(len(each)), key=lambda place: (each[place], place))


# ---------------------------------------------------------------------------------------------------------------
flipping = Exercise(
    "evaluation.flips",
    notebook="30_evaluation",
    title="How often the ranking flips",
    difficulty=2,
    minutes=15,
    task="""
    `a` and `b` are lists of marks, 1 or 0, of two models for the same questions. `draws` is a list of draws, each a
    list of places with repetitions. Write `flips(a, b, draws)`: the share of the draws in which the model that is
    behind on all questions comes out ahead. A tie is no flip. If the two are equal on all questions, return None.
    """,
    hints=[
        "The same draw for both models: `sum(a[i] - b[i] for i in draw)` is by how much `a` leads in it.",
        "A flip: that lead, and the lead on all questions, have different signs.",
        "`whole * lead < 0` is True for a flip, for either leader, and False for ties.",
    ],
)


@flipping.stub
def flips(a, b, draws):
    """two lists of 0 and 1, a list of lists of places → a share, or None"""
    ...  # your code


@flipping.solution
def flips(a, b, draws):
    whole = sum(a) - sum(b)
    if whole == 0:
        return None
    return sum(whole * sum(a[i] - b[i] for i in draw) < 0 for draw in draws) / len(draws)


_A, _B = [1, 1, 0, 1, 0, 1], [1, 0, 0, 1, 1, 0]  # a leads by one
_DRAWS = [
    [0, 1, 2, 3, 4, 5],  # as it is: a leads
    [4, 4, 2, 3, 0, 0],  # b leads: a flip
    [4, 1, 2, 3, 0, 2],  # a tie
    [0, 0, 3, 2, 2, 2],  # a tie
    [1, 1, 5, 5, 0, 0],  # a leads
    [4, 2, 4, 1, 4, 2],  # b leads: a flip
    [0, 3, 3, 0, 0, 1],  # a leads
    [2, 2, 2, 5, 2, 2],  # a leads, though with less than its own score on all questions
]


@flipping.judge
def judge_flipping(f):
    got = number_of(f(list(_A), list(_B), [list(draw) for draw in _DRAWS]), name="share")
    fail_if(near(got, 2.0), "2 is how many draws flip. Divide by the number of draws.")
    fail_if(near(got, 4 / 8), "You count ties as flips. In a tie nobody is ahead.")
    fail_if(near(got, 6 / 8), "You count the draws in which the order stays.")
    whole = sum(_A) / len(_A)
    own = sum(sum(_A[i] for i in draw) / len(draw) < whole for draw in _DRAWS) / len(_DRAWS)
    fail_if(
        near(got, own), "You compare a model with its own score on all questions. Compare the two models."
    )
    fail_if(not near(got, 2 / 8), f"Of these 8 draws 2 flip, so 0.25; you get {got:g}.")
    got = number_of(f(list(_B), list(_A), [list(draw) for draw in _DRAWS]), name="share")
    fail_if(
        not near(got, 2 / 8),
        f"With `a` and `b` exchanged the same draws flip: 0.25; you get {got:g}. The leader may be either.",
    )
    fail_if(
        f([1, 0], [0, 1], [[0, 0], [1, 1]]) is not None,
        "Equal on all questions: nothing can flip. Return None.",
    )


@flipping.wrong("ties flip", says="You count ties as flips")
def flips(a, b, draws):
    whole = sum(a) - sum(b)
    if whole == 0:
        return None
    return sum(whole * sum(a[i] - b[i] for i in draw) <= 0 for draw in draws) / len(draws)


@flipping.wrong("a count", says="Divide by the number of draws")
def flips(a, b, draws):
    whole = sum(a) - sum(b)
    if whole == 0:
        return None
    return sum(whole * sum(a[i] - b[i] for i in draw) < 0 for draw in draws)


@flipping.wrong("a always leads", says="The leader may be either")
def flips(a, b, draws):
    if sum(a) == sum(b):
        return None
    return sum(sum(a[i] - b[i] for i in draw) < 0 for draw in draws) / len(draws)


@flipping.wrong("itself", says="with its own score on all questions")
def flips(a, b, draws):
    if sum(a) == sum(b):
        return None
    return sum(sum(a[i] for i in draw) / len(draw) < sum(a) / len(a) for draw in draws) / len(draws)


@flipping.wrong("nothing to lead", says="nothing can flip")
def flips(a, b, draws):
    whole = sum(a) - sum(b)
    return sum(whole * sum(a[i] - b[i] for i in draw) < 0 for draw in draws) / len(draws)


# ---------------------------------------------------------------------------------------------------------------
needing = Exercise(
    "evaluation.needed",
    notebook="30_evaluation",
    title="How many questions it takes",
    difficulty=2,
    minutes=15,
    task="""
    Two models answered the same `n` questions. `only_a` of them only the first one got right, `only_b` only the second
    one. Write `needed(only_a, only_b, n)`: how many such questions it takes, as a whole number rounded up, until the
    difference of the two shares is 1.96 of its standard errors. Return None if there is no difference.
    """,
    hints=[
        "The difference of the marks of one question is 1, −1 or 0. Its mean is (only_a − only_b) / n.",
        "Its variance is the mean square, (only_a + only_b) / n, minus the square of the mean.",
        "The standard error of N questions is √(variance / N). Set 1.96 of them equal to the mean and solve for N.",
    ],
)


@needing.stub
def needed(only_a, only_b, n):
    """three whole numbers → a whole number, or None"""
    ...  # your code


@needing.solution
def needed(only_a, only_b, n):
    import math

    mean = (only_a - only_b) / n
    if mean == 0:
        return None
    variance = (only_a + only_b) / n - mean**2
    return math.ceil(1.96**2 * variance / mean**2)


@needing.judge
def judge_needing(f):
    got = number_of(f(30, 20, 200), name="number")
    mean, square = 0.05, 0.25
    variance = square - mean**2
    fail_if(
        near(got, math.ceil(1.96 * variance / mean**2), 1e-3),
        "1.96 is not squared. Solving 1.96 · √(variance / N) = mean for N squares everything.",
    )
    fail_if(
        near(got, math.ceil(1.96**2 * variance / mean), 1e-3),
        "The mean is not squared; the difference counts twice.",
    )
    fail_if(
        near(got, math.ceil(variance / mean**2), 1e-3),
        "That is one standard error. It should be 1.96 of them.",
    )
    fail_if(
        near(got, math.ceil(1.96**2 * (0.15 * 0.85 + 0.1 * 0.9) / mean**2), 1e-3),
        "You add two variances, as for models that answer different questions. These answer the same ones.",
    )
    right = math.ceil(1.96**2 * variance / mean**2)
    fail_if(near(got, right / 200, 1e-2), "That is so many times 200. Return the questions.")
    fail_if(
        abs(got - right) < 1 and got != int(got) or got == right - 1,
        f"Half a question cannot be asked: round up, to {right}; you get {got:g}.",
    )
    fail_if(got != right, f"For needed(30, 20, 200) you get {got:g}; it should be {right}.")
    got = number_of(f(20, 30, 200), name="number")
    fail_if(got != right, f"With the models exchanged it is the same number, {right}; you get {got:g}.")
    fail_if(
        f(7, 7, 50) is not None,
        "For 7 and 7 there is no difference to be seen, however many are asked: None.",
    )


@needing.wrong("1.96 alone", says="1.96 is not squared")
def needed(only_a, only_b, n):
    import math

    mean = (only_a - only_b) / n
    return None if mean == 0 else math.ceil(1.96 * ((only_a + only_b) / n - mean**2) / mean**2)


@needing.wrong("mean alone", says="The mean is not squared")
def needed(only_a, only_b, n):
    import math

    mean = (only_a - only_b) / n
    return None if mean == 0 else math.ceil(1.96**2 * ((only_a + only_b) / n - mean**2) / abs(mean))


@needing.wrong("two variances", says="You add two variances")
def needed(only_a, only_b, n):
    import math

    a, b = only_a / n, only_b / n
    return None if a == b else math.ceil(1.96**2 * (a * (1 - a) + b * (1 - b)) / (a - b) ** 2)


@needing.wrong("rounded down", says="round up")
def needed(only_a, only_b, n):
    mean = (only_a - only_b) / n
    return None if mean == 0 else int(1.96**2 * ((only_a + only_b) / n - mean**2) / mean**2)


# ---------------------------------------------------------------------------------------------------------------
planting = Exercise(
    "evaluation.planted",
    notebook="30_evaluation",
    title="Is the question on this page?",
    difficulty=2,
    minutes=15,
    task="""
    Write `planted(page, question, n)`: whether the two texts have a run of `n` words in common. A word is letters and
    digits without anything between them; capitals and signs do not count: "Don't" is the words "don" and "t".
    """,
    hints=[
        r"`re.findall(r'\w+', text.lower())` gives the words.",
        "All runs of a text: `zip(words, words[1:], words[2:], …)`, or slices of n words as tuples.",
        "Two sets of tuples have one in common if `a & b` is not empty.",
    ],
)


@planting.stub
def planted(page, question, n):
    """str, str, int → bool"""
    ...  # your code


@planting.solution
def planted(page, question, n):
    import re

    def runs(text):
        words = re.findall(r"\w+", text.lower())
        return {tuple(words[i : i + n]) for i in range(len(words) - n + 1)}

    return bool(runs(page) & runs(question))


_QUESTION = "Which of these melts when it is left in the sun?"


@planting.judge
def judge_planting(f):
    def found(page, n=6):
        got = f(page, _QUESTION, n)
        fail_if(got is None, "There is no result: it is None. `return` True or False.")
        fail_if(
            not isinstance(got, (bool, int)), f"Return True or False; yours is of type {type(got).__name__}."
        )
        return bool(got)

    fail_if(
        not found(f"Homework. {_QUESTION} An ice cube."),
        "The whole question stands on the page, and you miss it.",
    )
    fail_if(
        found("In the sun it melts. Left of these is which? When?"),
        "All words are there, in another order: that is no run.",
    )
    fail_if(
        not found("Chalk melts when it is left in the sun, they say."),
        "'melts when it is left in the sun' are 8 words of the question, and 6 do. The whole question need not be there.",
    )
    fail_if(
        not found("We ask: what melts WHEN it is left, in the SUN?"),
        "You miss 'melts WHEN it is left, in the SUN?'. Neither capitals nor signs count.",
    )
    fail_if(found("It melts when it is left."), "5 words in common are fewer than 6.")
    fail_if(
        found("The snow melts when it is left inside."),
        "'in' is found in 'inside': you compare letters, not words.",
    )


@planting.wrong("the whole question", says="The whole question need not be there")
def planted(page, question, n):
    import re

    def plain(text):
        return " " + " ".join(re.findall(r"\w+", text.lower())) + " "

    middle = plain(question.split(" ", 2)[2])
    return middle in plain(page)


@planting.wrong("signs count", says="Neither capitals nor signs count")
def planted(page, question, n):
    def runs(text):
        words = text.lower().split()
        return {tuple(words[i : i + n]) for i in range(len(words) - n + 1)}

    return bool(runs(page) & runs(question))


@planting.wrong("a bag of words", says="that is no run")
def planted(page, question, n):
    import re

    return len(set(re.findall(r"\w+", page.lower())) & set(re.findall(r"\w+", question.lower()))) >= n


@planting.wrong("one too few", says="fewer than 6")
def planted(page, question, n):
    import re

    def runs(text):
        words = re.findall(r"\w+", text.lower())
        return {tuple(words[i : i + n - 1]) for i in range(len(words) - n + 2)}

    return bool(runs(page) & runs(question))


@planting.wrong("letters", says="you compare letters")
def planted(page, question, n):
    import re

    words = re.findall(r"\w+", question.lower())
    runs = [" ".join(words[i : i + n]) for i in range(len(words) - n + 1)]
    text = " ".join(re.findall(r"\w+", page.lower()))
    return any(run in text for run in runs)
