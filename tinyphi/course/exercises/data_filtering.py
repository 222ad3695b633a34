"""Exercises of notebook 26: repetition, a threshold, MinHash, and the curve of its bands."""

import random

import torch

from tinyphi.course.exercise import Exercise, fail_if, misconception, near, number_of, tensor_of

# --------------------------------------------------------------------------------------------------------------
repeated = Exercise(
    "data_filtering.repeated_share",
    notebook="26_data_filtering",
    title="How much has been said before?",
    difficulty=2,
    minutes=15,
    task="""
    Write `repeated_share(words, n)`: the share of a page's words that are in a run of `n` words which stands
    *earlier* on the page, too. The first time of a run is no repetition, and a word counts once, however many
    repeated runs it is in. The share of a page of less than `n` words is 0.
    """,
    hints=[
        "Go through the places at which a run begins. `tuple(words[i:i + n])` can be put into a set.",
        "Has this run been seen? Then all its n *places* are repeated: put i, i + 1, … into another set.",
        "`len(places) / len(words)`. An empty page has no words to divide by.",
    ],
)


@repeated.stub
def repeated_share(words, n):
    """a list of words, a whole number → a share from 0 to 1"""
    ...  # your code


@repeated.solution
def repeated_share(words, n):
    seen, places = set(), set()
    for i in range(len(words) - n + 1):
        run = tuple(words[i : i + n])
        if run in seen:
            places |= set(range(i, i + n))
        seen.add(run)
    return len(places) / max(len(words), 1)


def _shares(words, n):
    """The right share, and what comes of each mistake."""
    runs = [tuple(words[i : i + n]) for i in range(len(words) - n + 1)]
    later = [i for i, run in enumerate(runs) if run in runs[:i]]
    twice = [i for i, run in enumerate(runs) if runs.count(run) > 1]
    covered = {i + step for i in later for step in range(n)}
    whole = max(len(words), 1)
    return len(covered) / whole, {
        "the first time of a run is no repetition; count the later ones only.": len(
            {i + step for i in twice for step in range(n)}
        )
        / whole,
        "a word in two repeated runs counts twice. Runs overlap: collect places, not lengths.": n
        * len(later)
        / whole,
        "that is the share of runs. The share of the words that are in them is asked.": len(later)
        / max(len(runs), 1),
        "only the first word of each repeated run is counted; all n of them are repeated.": len(later)
        / whole,
        "only the last word of each repeated run is counted, or each run once, whatever its length. All n words "
        "are repeated.": len({i + n - 1 for i in later}) / whole,
        "runs are found only at every n-th word. A run may begin at any word.": _stepped(words, n),
    }


def _stepped(words, n):
    runs = [tuple(words[i : i + n]) for i in range(0, len(words) - n + 1, n)]
    return n * sum(run in runs[:i] for i, run in enumerate(runs)) / max(len(words), 1)


@repeated.judge
def judge_repeated(f):
    cases = [
        ("the cat sat on the mat and the cat sat on the sofa".split(), 3),
        ("buy now buy now buy now and save".split(), 2),
        ("a b c d e f".split(), 2),
        ("go go go go go".split(), 2),
        (["x"] + "one two three four".split() * 2, 4),
        (["short"], 3),
        ([], 2),
    ]
    for words, n in cases:
        got = number_of(f(list(words), n), name="share")
        right, mistakes = _shares(words, n)
        case = f"{' '.join(words) or 'An empty page'!r}, n = {n}: {got:.3g} instead of {right:.3g}; "
        if near(got, right):
            continue
        for says, value in mistakes.items():
            fail_if(near(got, value), case + says)
        misconception(case + "count the places of words in repeated runs, each once, by all words.")


@repeated.wrong("the first time too", says="the first time of a run is no repetition")
def repeated_share(words, n):
    runs = [tuple(words[i : i + n]) for i in range(len(words) - n + 1)]
    places = {i + step for i, run in enumerate(runs) if runs.count(run) > 1 for step in range(n)}
    return len(places) / max(len(words), 1)


@repeated.wrong("overlaps count twice", says="a word in two repeated runs counts twice")
def repeated_share(words, n):
    runs = [tuple(words[i : i + n]) for i in range(len(words) - n + 1)]
    return n * (len(runs) - len(set(runs))) / max(len(words), 1)


@repeated.wrong("share of runs", says="that is the share of runs")
def repeated_share(words, n):
    runs = [tuple(words[i : i + n]) for i in range(len(words) - n + 1)]
    return (len(runs) - len(set(runs))) / max(len(runs), 1)


@repeated.wrong("one word a run", says="only the first word")
def repeated_share(words, n):
    runs = [tuple(words[i : i + n]) for i in range(len(words) - n + 1)]
    return (len(runs) - len(set(runs))) / max(len(words), 1)


@repeated.wrong("every n-th word", says="runs are found only at every n-th word")
def repeated_share(words, n):
    runs = [tuple(words[i : i + n]) for i in range(0, len(words) - n + 1, n)]
    return n * (len(runs) - len(set(runs))) / max(len(words), 1)


@repeated.wrong("an empty page", says="ZeroDivisionError")
def repeated_share(words, n):
    seen, places = set(), set()
    for i in range(len(words) - n + 1):
        run = tuple(words[i : i + n])
        if run in seen:
            places |= set(range(i, i + n))
        seen.add(run)
    return len(places) / len(words)


# --------------------------------------------------------------------------------------------------------------
threshold = Exercise(
    "data_filtering.threshold",
    notebook="26_data_filtering",
    title="The threshold for a promise",
    difficulty=2,
    minutes=15,
    task="""
    You have promised that at least a share `precision` of the pages you keep is good. `scores` `(n)` and `good`
    `(n)`, of type bool, are of labelled pages; a page is kept if its score is *at least* the threshold. Write
    `threshold_for(scores, good, precision)`: the threshold, one of the scores, that keeps the promise and loses
    as few good pages as possible. If several lose equally few, take the highest. If none keeps the promise,
    return infinity.
    """,
    hints=[
        "Only the scores themselves need to be tried. What is kept at each of them?",
        "Of all thresholds that keep the promise, which finds most good pages? Precision may fall and rise again.",
        "Try the scores from high to low, and remember one only if it finds *more* good pages than the best so far.",
    ],
)


@threshold.stub
def threshold_for(scores, good, precision):
    """(n), (n) bool, a share → a number"""
    ...  # your code


@threshold.solution
def threshold_for(scores, good, precision):
    best, most = float("inf"), 0
    for limit in sorted(set(scores.tolist()), reverse=True):
        kept = scores >= limit
        found = int((kept & good).sum())
        if found >= precision * int(kept.sum()) and found > most:
            best, most = limit, found
    return best


def _limits(scores, good, precision):
    """The right threshold, and what comes of each mistake."""
    values = sorted(set(scores.tolist()))
    at = {limit: scores >= limit for limit in values}
    found = {limit: int((kept & good).sum()) for limit, kept in at.items()}
    fine = [limit for limit in values if found[limit] >= precision * int(at[limit].sum())]
    infinite = float("inf")
    most = max([found[limit] for limit in fine], default=0)
    level = [limit for limit in fine if found[limit] == most and most]
    right = max(level, default=infinite)
    stop = infinite
    for limit in reversed(values):
        if limit not in fine:
            break
        stop = limit
    recall = [limit for limit in values if found[limit] >= precision * int(good.sum())]
    above = {limit: scores > limit for limit in values}
    strict = [
        limit
        for limit, kept in above.items()
        if kept.any() and int((kept & good).sum()) >= precision * int(kept.sum())
    ]
    return right, {
        "as many good pages are found at a higher threshold, with fewer bad ones among them.": min(
            level, default=infinite
        ),
        "you stop where the promise is first broken, coming from above. Further down it is kept again.": stop,
        "that keeps the promise, and loses more good pages than it must: the lower the threshold, the more are "
        "found.": max(fine, default=infinite),
        "that is where this share of the *good* pages is found, which is recall. Precision is the share of the "
        "*kept* pages.": max(recall, default=infinite),
        "a page with exactly the score of the threshold is kept; you leave it out.": min(
            strict, default=infinite
        ),
    }


@threshold.judge
def judge_threshold(f):
    chance = random.Random(4)
    cases = [
        ([0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3], [1, 1, 0, 1, 1, 0, 0], 0.75),
        ([0.1, 0.95, 0.7, 0.6, 0.5, 0.9], [0, 0, 1, 1, 1, 1], 0.8),
        ([0.9, 0.8, 0.7], [1, 1, 0], 0.6),
        ([0.4, 0.3, 0.2], [0, 0, 1], 0.5),
        ([0.5, 0.5, 0.5, 0.2], [1, 1, 0, 1], 0.7),
    ]
    for _ in range(6):
        scores = [round(chance.random(), 1) for _ in range(14)]
        cases.append((scores, [chance.random() < 0.2 + 0.7 * score for score in scores], 0.8))
    for listed, labels, precision in cases:
        scores, good = torch.tensor(listed), torch.tensor(labels, dtype=torch.bool)
        got = number_of(f(scores.clone(), good.clone(), precision), name="threshold")
        right, mistakes = _limits(scores, good, precision)
        if got == right or near(got, right):
            continue
        signs = " ".join(f"{score:g}{'+' if label else '−'}" for score, label in zip(listed, labels))
        case = f"Scores {signs} (+ is good), precision {precision:g}: {got:.3g} instead of {right:.3g}; "
        for says, value in mistakes.items():
            fail_if(near(got, value), case + says)
        misconception(case + "check what is kept at your threshold, and how much of it is good.")


@threshold.wrong("recall", says="which is recall")
def threshold_for(scores, good, precision):
    for limit in sorted(set(scores.tolist()), reverse=True):
        if ((scores >= limit) & good).sum() >= precision * good.sum():
            return limit
    return float("inf")


@threshold.wrong("the highest", says="loses more good pages than it must")
def threshold_for(scores, good, precision):
    for limit in sorted(set(scores.tolist()), reverse=True):
        kept = scores >= limit
        if (kept & good).sum() >= precision * kept.sum():
            return limit
    return float("inf")


@threshold.wrong("the first break", says="Further down it is kept again")
def threshold_for(scores, good, precision):
    best = float("inf")
    for limit in sorted(set(scores.tolist()), reverse=True):
        kept = scores >= limit
        if (kept & good).sum() < precision * kept.sum():
            return best
        best = limit
    return best


@threshold.wrong("the lowest", says="found at a higher threshold")
def threshold_for(scores, good, precision):
    for limit in sorted(set(scores.tolist())):
        kept = scores >= limit
        if (kept & good).sum() >= precision * kept.sum():
            return limit
    return float("inf")


@threshold.wrong("above the threshold", says="you leave it out")
def threshold_for(scores, good, precision):
    for limit in sorted(set(scores.tolist())):
        kept = scores > limit
        if kept.any() and (kept & good).sum() >= precision * kept.sum():
            return limit
    return float("inf")


# --------------------------------------------------------------------------------------------------------------
minhash = Exercise(
    "data_filtering.minhash",
    notebook="26_data_filtering",
    title="A signature of minima",
    difficulty=2,
    minutes=15,
    task="""
    `shingles` `(n)` holds the numbers of a page's runs of five words, whole numbers below 2³¹ − 1. Numbering j
    sends x to (a[j] · x + b[j]) mod (2³¹ − 1). Write `signature(shingles, a, b)` → `(k)`: under each of the k
    numberings, the smallest number that a shingle of the page gets.
    """,
    hints=[
        "Compute all numbers at once: `a[:, None] * shingles` has the shape (k n).",
        "mod is `%`. It comes before the minimum: which number is the smallest depends on it.",
        "The minimum is over the shingles of the page, not over the numberings.",
    ],
)
PRIME = (1 << 31) - 1


@minhash.stub
def signature(shingles, a, b):
    """(n), (k), (k), all int64 → (k) int64"""
    ...  # your code


@minhash.solution
def signature(shingles, a, b):
    numbers = (a[:, None] * shingles + b[:, None]) % ((1 << 31) - 1)
    return numbers.min(1).values


@minhash.judge
def judge_minhash(f):
    for n, k in ((7, 4), (1, 5), (40, 64)):
        x = torch.randint(0, PRIME, (n,))
        a, b = torch.randint(1, PRIME, (k,)), torch.randint(0, PRIME, (k,))
        numbers = a[:, None] * x + b[:, None]
        got, case = f(x.clone(), a.clone(), b.clone()), f"{n} shingles, {k} numberings: "
        if isinstance(got, torch.Tensor) and got.shape == (n,) and n != k:
            misconception(f"{case}you have one number for each shingle; one for each numbering is asked.")
        got = tensor_of(got, shape=(k,), name="signature")
        if got.equal((numbers % PRIME).min(1).values):
            continue
        fail_if(
            got.equal((numbers % PRIME).max(1).values),
            f"{case}these are the largest numbers, not the smallest.",
        )
        fail_if(
            got.equal(numbers.min(1).values % PRIME) or got.equal(numbers.min(1).values),
            f"{case}the remainder comes too late, or not at all. Without it, every numbering has the shingles in "
            "the same order, and all minima come from the same one.",
        )
        fail_if(
            got.equal((a[:, None] * x % PRIME + b[:, None]).min(1).values),
            f"{case}the remainder is taken before b is added.",
        )
        fail_if(
            got.equal(x[(numbers % PRIME).argmin(1)]) or got.equal((numbers % PRIME).argmin(1)),
            f"{case}you say *which* shingle has the smallest number; the number itself is asked.",
        )
        misconception(
            f"{case}the first of your minima is {int(got[0])}, not {int((numbers % PRIME)[0].min())}."
        )


@minhash.wrong("over the numberings", says="one number for each shingle")
def signature(shingles, a, b):
    return ((a[:, None] * shingles + b[:, None]) % ((1 << 31) - 1)).min(0).values


@minhash.wrong("largest", says="the largest numbers")
def signature(shingles, a, b):
    return ((a[:, None] * shingles + b[:, None]) % ((1 << 31) - 1)).max(1).values


@minhash.wrong("remainder at last", says="the remainder comes too late")
def signature(shingles, a, b):
    return (a[:, None] * shingles + b[:, None]).min(1).values % ((1 << 31) - 1)


@minhash.wrong("b after the remainder", says="before b is added")
def signature(shingles, a, b):
    return (a[:, None] * shingles % ((1 << 31) - 1) + b[:, None]).min(1).values


@minhash.wrong("which shingle", says="which* shingle")
def signature(shingles, a, b):
    return shingles[((a[:, None] * shingles + b[:, None]) % ((1 << 31) - 1)).argmin(1)]


# --------------------------------------------------------------------------------------------------------------
bands = Exercise(
    "data_filtering.bands",
    notebook="26_data_filtering",
    title="The curve of the bands",
    difficulty=1,
    minutes=10,
    task="""
    A signature has `bands` · `rows` minima, cut into bands of `rows` each. Two pages are compared if *at least
    one* whole band of the two agrees. Each minimum agrees with probability s, their similarity, and on its own.
    Write `compared(s, bands, rows)`: the probability that they are compared.
    """,
    hints=[
        "With which probability do all rows of *one* band agree?",
        "At least one band: easier to ask for the probability that none does.",
    ],
)


@bands.stub
def compared(s, bands, rows):
    """a tensor of similarities, two whole numbers → a tensor of probabilities"""
    ...  # your code


@bands.solution
def compared(s, bands, rows):
    return 1 - (1 - s**rows) ** bands


@bands.judge
def judge_bands(f):
    s = torch.tensor([0.0, 0.3, 0.5, 0.8, 0.95, 1.0], dtype=torch.float64)
    for number, size in ((16, 8), (20, 5), (3, 1)):
        got = tensor_of(f(s.clone(), number, size), shape=s.shape, name="probability")
        if near(got, 1 - (1 - s**size) ** number):
            continue
        case = f"{number} bands of {size} rows, s = 0.8: {float(got[3]):.3g}; "
        for says, value in (
            ("bands and rows have changed places.", 1 - (1 - s**number) ** size),
            ("that is one band of the two. There are more of them.", s**size),
            ("that *no* band agrees. Take it from 1.", (1 - s**size) ** number),
            ("that *every* band agrees. One is enough.", s ** (size * number)),
            (
                "probabilities of several bands are not added: two of them may agree at once.",
                number * s**size,
            ),
            (
                "probabilities of several bands are not added: two of them may agree at once.",
                (number * s**size).clamp(max=1),
            ),
            (
                "one row of a band is not enough: all of them have to agree.",
                (1 - (1 - s) ** size) ** number,
            ),
        ):
            fail_if(near(got, value), case + says)
        misconception(case + f"it is {float(1 - (1 - s[3] ** size) ** number):.3g}.")


@bands.wrong("changed places", says="have changed places")
def compared(s, bands, rows):
    return 1 - (1 - s**bands) ** rows


@bands.wrong("added", says="are not added")
def compared(s, bands, rows):
    return bands * s**rows


@bands.wrong("no band", says="Take it from 1")
def compared(s, bands, rows):
    return (1 - s**rows) ** bands


@bands.wrong("every band", says="One is enough")
def compared(s, bands, rows):
    return s ** (rows * bands)
