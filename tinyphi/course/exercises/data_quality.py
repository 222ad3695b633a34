"""Exercises of notebook 25: words that vote, what a filter keeps, an error bar, tokens that come again."""

import math
from collections import Counter

import torch

from tinyphi.course.exercise import Exercise, fail_if, misconception, near, number_of

# --------------------------------------------------------------------------------------------------------------
kept = Exercise(
    "data_quality.precision_recall",
    notebook="25_data_quality",
    title="Two ways to be wrong",
    difficulty=1,
    minutes=10,
    task="""
    A filter keeps a page if its score is *above* a threshold. Write
    `precision_recall(scores, good, threshold)`, two lists of equal length: the score of each page, and whether it
    is a good one. Return a pair: the *precision* is the share of good pages among those that are kept, the
    *recall* is the share of kept pages among those that are good. Some page is kept, and some page is good.
    """,
    hints=[
        "Three numbers are enough: how many are kept, how many are good, how many are both.",
        "`zip(scores, good)` goes through both lists at once.",
    ],
)


@kept.stub
def precision_recall(scores, good, threshold):
    """a list of numbers, a list of True and False, a number → a pair: precision, recall"""
    ...  # your code


@kept.solution
def precision_recall(scores, good, threshold):
    both = sum(score > threshold and is_good for score, is_good in zip(scores, good, strict=True))
    return both / sum(score > threshold for score in scores), both / sum(good)


@kept.judge
def judge_kept(f):
    for scores, good, threshold in (
        ([0.9, 0.8, 0.7, 0.2, 0.1, 0.05, 0.6], [True, True, False, True, False, True, True], 0.5),
        ([0.5, 0.9, 0.4, 0.3], [False, True, True, False], 0.5),
        ([0.9, 0.95, 0.7, 0.99, 0.2], [True, True, True, False, False], 0.8),
    ):
        pair = f(list(scores), list(good), threshold)
        if not isinstance(pair, (tuple, list)) or len(pair) != 2:
            misconception("Return a pair: the precision, then the recall.")
        got = [number_of(pair[0], name="precision"), number_of(pair[1], name="recall")]
        right = _precision_recall(scores, good, [score > threshold for score in scores])
        if near(got[0], right[0]) and near(got[1], right[1]):
            continue
        case = f"Threshold {threshold}, scores {scores}, good {good}: "
        fail_if(
            near(got[0], right[1]) and near(got[1], right[0]),
            case + "the two have changed places. Precision is about what was kept.",
        )
        with_equal = _precision_recall(scores, good, [score >= threshold for score in scores])
        fail_if(
            near(got[0], with_equal[0]) and near(got[1], with_equal[1]),
            case + "you keep pages with exactly the threshold, too. Above is more than that.",
        )
        right_pages = sum((score > threshold) == is_good for score, is_good in zip(scores, good, strict=True))
        fail_if(
            near(got[0], right_pages / len(good)),
            case + "your precision counts bad pages that were dropped as well. That is the accuracy.",
        )
        bad = [not is_good for is_good in good]
        of_bad = _precision_recall(scores, bad, [score > threshold for score in scores])
        fail_if(
            near(got[1], 1 - of_bad[1]),
            case + "your recall is the share of *bad* pages that were dropped.",
        )
        misconception(
            case + f"should be {right[0]:.3f} and {right[1]:.3f}; yours {got[0]:.3f} and {got[1]:.3f}."
        )


def _precision_recall(scores, good, keeps):
    both = sum(keep and is_good for keep, is_good in zip(keeps, good, strict=True))
    return both / max(1, sum(keeps)), both / max(1, sum(good))


@kept.wrong("changed places", says="have changed places")
def precision_recall(scores, good, threshold):
    both = sum(score > threshold and is_good for score, is_good in zip(scores, good, strict=True))
    return both / sum(good), both / sum(score > threshold for score in scores)


@kept.wrong("or equal", says="with exactly the threshold")
def precision_recall(scores, good, threshold):
    both = sum(score >= threshold and is_good for score, is_good in zip(scores, good, strict=True))
    return both / sum(score >= threshold for score in scores), both / sum(good)


@kept.wrong("accuracy", says="That is the accuracy")
def precision_recall(scores, good, threshold):
    both = sum(score > threshold and is_good for score, is_good in zip(scores, good, strict=True))
    right = sum((score > threshold) == is_good for score, is_good in zip(scores, good, strict=True))
    return right / len(scores), both / sum(good)


@kept.wrong("recall of the bad", says="*bad* pages that were dropped")
def precision_recall(scores, good, threshold):
    both = sum(score > threshold and is_good for score, is_good in zip(scores, good, strict=True))
    dropped = sum(score <= threshold and not is_good for score, is_good in zip(scores, good, strict=True))
    return both / sum(score > threshold for score in scores), dropped / (len(good) - sum(good))


# --------------------------------------------------------------------------------------------------------------
voting = Exercise(
    "data_quality.votes",
    notebook="25_data_quality",
    title="Each word has a vote",
    difficulty=2,
    minutes=20,
    task="""
    Write `votes(good, bad)`: two lists of pages, each page a list of words. Return a dict that has for every word of
    any page its vote, log P(word | good) − log P(word | bad). P(word | good) is the word's share of all words of
    the good pages, with one more of each word than was seen, so that nothing has the probability 0:
    (times seen + 1) / (all words + number of different words, good and bad pages together).
    """,
    hints=[
        "`Counter(word for page in good for word in page)` counts the words of all good pages.",
        "The different words are the keys of both counters together: `good_counts.keys() | bad_counts.keys()`.",
        "The bottom is `sum(good_counts.values()) + len(different)`: then the shares of all words add up to 1.",
    ],
)


@voting.stub
def votes(good, bad):
    """two lists of pages, a page is a list of words → a dict: word → vote"""
    ...  # your code


@voting.solution
def votes(good, bad):
    counts = [Counter(word for page in pages for word in page) for pages in (good, bad)]
    different = counts[0].keys() | counts[1].keys()
    a, b = (sum(counted.values()) + len(different) for counted in counts)
    return {
        word: math.log((counts[0][word] + 1) / a) - math.log((counts[1][word] + 1) / b) for word in different
    }


def _votes(good, bad, mistake=""):
    """The right votes, or those with a mistake."""
    each = set if mistake == "by pages" else list
    counts = [Counter(word for page in pages for word in each(page)) for pages in (good, bad)]
    different = counts[0].keys() | counts[1].keys()
    sizes = [sum(counted.values()) + len(different) for counted in counts]
    if mistake == "own words":
        sizes = [sum(counted.values()) + len(counted) for counted in counts]
    if mistake == "bottom":
        sizes = [sum(counted.values()) for counted in counts]
    if mistake == "no bottom":
        sizes = [1, 1]
    if mistake == "upside down":
        counts, sizes = counts[::-1], sizes[::-1]
    base = math.log(2) if mistake == "base 2" else 1.0
    return {
        word: (math.log((counts[0][word] + 1) / sizes[0]) - math.log((counts[1][word] + 1) / sizes[1])) / base
        for word in different
    }


_VOTES_SAY = {
    "upside down": "good and bad have changed places: words of good pages should have votes above 0.",
    "no bottom": "you compare counts, not shares. The kind with more words gets too many votes.",
    "bottom": "the words that you added at the top are missing at the bottom, and your shares add up to more than 1.",
    "own words": "each kind adds only its own different words at the bottom. But you add 1 for every word of both.",
    "by pages": "you count the pages that have a word. A word that stands five times on a page counts five times.",
    "base 2": "these are logarithms to the base 2; take natural ones.",
}


@voting.judge
def judge_voting(f):
    for good, bad in (
        (
            [["a", "cow", "moos"], ["a", "cow", "has", "four", "legs", "a", "tail"]],
            [["buy", "a", "cow", "buy"]],
        ),
        ([["red"]], [["blue", "blue"], ["blue", "red", "blue", "blue"]]),
    ):
        got = f([list(page) for page in good], [list(page) for page in bad])
        if not isinstance(got, dict):
            misconception(f"Return a dict from words to votes; yours is of type {type(got).__name__}.")
        right = _votes(good, bad)
        missing = sorted(right.keys() - got.keys(), key=str)
        fail_if(missing, f"{missing[0] if missing else ''!r} has no vote. Words of bad pages vote, too.")
        more = sorted(got.keys() - right.keys(), key=str)
        fail_if(more, f"{more[0] if more else ''!r} has a vote and stands on no page.")
        numbers = {word: number_of(got[word], name=f"vote of {word!r}") for word in right}
        if _same(numbers, right):
            continue
        for mistake, says in _VOTES_SAY.items():
            fail_if(
                _same(numbers, _votes(good, bad, mistake)), f"With good pages {good} and bad {bad}: {says}"
            )
        word = max(right, key=lambda word: abs(numbers[word] - right[word]))
        misconception(
            f"With good pages {good} and bad {bad} the vote of {word!r} should be {right[word]:.4f}; yours is "
            f"{numbers[word]:.4f}."
        )


def _same(some, others):
    return near(torch.tensor([some[word] for word in others]), torch.tensor(list(others.values())))


@voting.wrong("upside down", says="should have votes above 0")
def votes(good, bad):
    counts = [Counter(word for page in pages for word in page) for pages in (bad, good)]
    different = counts[0].keys() | counts[1].keys()
    a, b = (sum(counted.values()) + len(different) for counted in counts)
    return {
        word: math.log((counts[0][word] + 1) / a) - math.log((counts[1][word] + 1) / b) for word in different
    }


@voting.wrong("counts", says="you compare counts, not shares")
def votes(good, bad):
    counts = [Counter(word for page in pages for word in page) for pages in (good, bad)]
    different = counts[0].keys() | counts[1].keys()
    return {word: math.log((counts[0][word] + 1) / (counts[1][word] + 1)) for word in different}


@voting.wrong("nothing at the bottom", says="missing at the bottom")
def votes(good, bad):
    counts = [Counter(word for page in pages for word in page) for pages in (good, bad)]
    different = counts[0].keys() | counts[1].keys()
    a, b = (sum(counted.values()) for counted in counts)
    return {
        word: math.log((counts[0][word] + 1) / a) - math.log((counts[1][word] + 1) / b) for word in different
    }


@voting.wrong("own words", says="only its own different words")
def votes(good, bad):
    counts = [Counter(word for page in pages for word in page) for pages in (good, bad)]
    different = counts[0].keys() | counts[1].keys()
    a, b = (sum(counted.values()) + len(counted) for counted in counts)
    return {
        word: math.log((counts[0][word] + 1) / a) - math.log((counts[1][word] + 1) / b) for word in different
    }


@voting.wrong("by pages", says="counts five times")
def votes(good, bad):
    counts = [Counter(word for page in pages for word in set(page)) for pages in (good, bad)]
    different = counts[0].keys() | counts[1].keys()
    a, b = (sum(counted.values()) + len(different) for counted in counts)
    return {
        word: math.log((counts[0][word] + 1) / a) - math.log((counts[1][word] + 1) / b) for word in different
    }


@voting.wrong("good words only", says="Words of bad pages vote, too")
def votes(good, bad):
    counts = [Counter(word for page in pages for word in page) for pages in (good, bad)]
    different = counts[0].keys() | counts[1].keys()
    a, b = (sum(counted.values()) + len(different) for counted in counts)
    return {
        word: math.log((counts[0][word] + 1) / a) - math.log((counts[1][word] + 1) / b) for word in counts[0]
    }


# --------------------------------------------------------------------------------------------------------------
bar = Exercise(
    "data_quality.error_bar",
    notebook="25_data_quality",
    title="An error bar from three seeds",
    difficulty=2,
    minutes=15,
    task="""
    Write `error_bar(results)` for a list of three numbers, the results of three seeds. Return a pair: their mean, and
    by how much it may be off to either side, with 95 % confidence. That is 4.30 standard errors: with three results,
    Student's t distribution asks for so many, where a normal distribution would ask for 1.96. The standard error is
    the standard deviation over √3, and the standard deviation divides the sum of squares by two, not by three.
    """,
    hints=[
        "`statistics.stdev` is the standard deviation with n − 1; `statistics.pstdev` the one with n.",
        "Two roots are in the answer: one in the standard deviation, and that of 3.",
    ],
)


@bar.stub
def error_bar(results):
    """a list of three numbers → a pair: mean, how far off to either side"""
    ...  # your code


@bar.solution
def error_bar(results):
    mean = sum(results) / 3
    deviation = (sum((result - mean) ** 2 for result in results) / 2) ** 0.5
    return mean, 4.30 * deviation / 3**0.5


@bar.judge
def judge_bar(f):
    for results in ([0.52, 0.6, 0.53], [0.31, 0.29, 0.36], [4.0, 1.0, 7.0]):
        pair = f(list(results))
        if not isinstance(pair, (tuple, list)) or len(pair) != 2:
            misconception("Return a pair: the mean, and how far it may be off.")
        mean, half = number_of(pair[0], name="mean"), number_of(pair[1], name="error bar")
        right = sum(results) / 3
        squares = sum((result - right) ** 2 for result in results)
        deviation = (squares / 2) ** 0.5
        error, rough = 4.30 * deviation / 3**0.5, 1e-3  # so that 4.303 is right as well
        case = f"Of {results}: "
        fail_if(not near(mean, right), f"{case}the mean should be {right:.4f}; yours is {mean:.4f}.")
        if near(half, error, rough):
            continue
        fail_if(
            near(half, 4.30 * (squares / 3) ** 0.5 / 3**0.5, rough),
            f"{case}you divide the squares by three. The mean was fitted to these very numbers, so two are left.",
        )
        fail_if(
            near(half, 4.30 * deviation, rough),
            f"{case}that is for a single result. The mean of three is more certain, by √3.",
        )
        fail_if(
            near(half, 4.30 * deviation / 3, rough),
            f"{case}you divide by 3. The uncertainty of a mean falls with the root only.",
        )
        fail_if(
            near(half, 1.96 * deviation / 3**0.5, rough),
            f"{case}1.96 would do if you knew the true spread. From three results you do not: 4.30.",
        )
        fail_if(
            near(half, deviation / 3**0.5, rough),
            f"{case}that is one standard error. It is 4.30 of them that make 95 %.",
        )
        fail_if(
            near(half, 4.30 * squares / 2 / 3**0.5, rough),
            f"{case}the root of the sum of squares is missing.",
        )
        misconception(f"{case}should be {error:.4f} to either side; yours is {half:.4f}.")


@bar.wrong("by three", says="you divide the squares by three")
def error_bar(results):
    mean = sum(results) / 3
    deviation = (sum((result - mean) ** 2 for result in results) / 3) ** 0.5
    return mean, 4.30 * deviation / 3**0.5


@bar.wrong("of one result", says="that is for a single result")
def error_bar(results):
    mean = sum(results) / 3
    return mean, 4.30 * (sum((result - mean) ** 2 for result in results) / 2) ** 0.5


@bar.wrong("normal", says="1.96 would do")
def error_bar(results):
    mean = sum(results) / 3
    deviation = (sum((result - mean) ** 2 for result in results) / 2) ** 0.5
    return mean, 1.96 * deviation / 3**0.5


@bar.wrong("one standard error", says="that is one standard error")
def error_bar(results):
    mean = sum(results) / 3
    deviation = (sum((result - mean) ** 2 for result in results) / 2) ** 0.5
    return mean, deviation / 3**0.5


@bar.wrong("without its root", says="falls with the root only")
def error_bar(results):
    mean = sum(results) / 3
    return mean, 4.30 * (sum((result - mean) ** 2 for result in results) / 2) ** 0.5 / 3


# --------------------------------------------------------------------------------------------------------------
repeating = Exercise(
    "data_quality.worth",
    notebook="25_data_quality",
    title="What a second reading is worth",
    difficulty=2,
    minutes=15,
    task="""
    There are `unique` good tokens, and a model is trained on `tokens` of them, perhaps more than there are: then they
    come again. Write `worth(unique, tokens)`: so many *new* tokens would have taught it as much. By a formula fitted to
    hundreds of trainings (Muennighoff et al. 2023, arXiv 2305.16264), the first reading counts in full, and
    R repetitions of the whole count 15.4 · (1 − e^(−R / 15.4)) times `unique`. After two full readings, R is 1.
    """,
    hints=[
        "If `tokens` is at most `unique`, nothing comes again.",
        "R = `tokens / unique - 1`, and need not be whole.",
    ],
)


@repeating.stub
def worth(unique, tokens):
    """good tokens that there are, tokens of training → new tokens that would teach as much"""
    ...  # your code


@repeating.solution
def worth(unique, tokens):
    if tokens <= unique:
        return tokens
    return unique * (1 + 15.4 * (1 - math.exp(-(tokens / unique - 1) / 15.4)))


@repeating.judge
def judge_repeating(f):
    for unique, tokens in ((1000, 4000), (1000, 40_000), (1e6, 2.5e5), (5e6, 1e7), (300, 300)):
        got = number_of(f(unique, tokens), name="number of tokens")
        repeats = max(0.0, tokens / unique - 1)
        right = min(unique, tokens) + unique * 15.4 * (1 - math.exp(-repeats / 15.4))
        if near(got, right):
            continue
        case = f"{unique:,.0f} good tokens, {tokens:,.0f} of training: "
        fail_if(
            tokens < unique and near(got, unique),
            f"{case}you count tokens that it has never read.",
        )
        fail_if(
            tokens < unique,
            f"{case}nothing comes again, so they are worth what they are, {tokens:,.0f}; yours says {got:,.0f}.",
        )
        readings = unique * 15.4 * (1 - math.exp(-tokens / unique / 15.4))
        fail_if(
            near(got, unique + readings),
            f"{case}R counts the repetitions, and the first reading is none. You have one too many.",
        )
        fail_if(near(got, right - unique), f"{case}the first reading is missing.")
        fail_if(near(got, readings), f"{case}the first reading fades as well. It counts in full.")
        fail_if(
            near(got, tokens),
            f"{case}a token counts in full each time. The more often it came, the less is new.",
        )
        fail_if(near(got, unique), f"{case}a repetition counts nothing. The first few count almost in full.")
        misconception(f"{case}should be worth {right:,.0f} new ones; yours says {got:,.0f}.")


@repeating.wrong("one too many", says="You have one too many")
def worth(unique, tokens):
    if tokens <= unique:
        return tokens
    return unique * (1 + 15.4 * (1 - math.exp(-tokens / unique / 15.4)))


@repeating.wrong("repetitions only", says="the first reading is missing")
def worth(unique, tokens):
    if tokens <= unique:
        return tokens
    return unique * 15.4 * (1 - math.exp(-(tokens / unique - 1) / 15.4))


@repeating.wrong("all fade", says="It counts in full")
def worth(unique, tokens):
    if tokens <= unique:
        return tokens
    return unique * 15.4 * (1 - math.exp(-tokens / unique / 15.4))


@repeating.wrong("all count", says="a token counts in full each time")
def worth(unique, tokens):
    return tokens


@repeating.wrong("none counts", says="a repetition counts nothing")
def worth(unique, tokens):
    return min(unique, tokens)


@repeating.wrong("never read", says="nothing comes again")
def worth(unique, tokens):
    return unique * (1 + 15.4 * (1 - math.exp(-(tokens / unique - 1) / 15.4)))
