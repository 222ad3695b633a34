"""Exercises of notebook 28: hidden letters, the area under a ROC curve, choosing a threshold, the base rate."""

import unicodedata

import torch

from tinyphi.course.exercise import Exercise, fail_if, misconception, near, number_of

# --------------------------------------------------------------------------------------------------------------
unmasking = Exercise(
    "safety_filter.unmask",
    notebook="28_safety_filter",
    title="Letters in disguise",
    difficulty=1,
    minutes=10,
    task="""
    Write `unmask(text)`: the text without characters of Unicode's category `Cf` (format: they have no shape of
    their own), and with every styled letter as the plain one, by the normal form `NFKC`. Letters of other
    languages, capitals, digits and line breaks stay as they are.
    """,
    hints=[
        "`unicodedata.category(character)` names the category, `unicodedata.normalize(form, text)` the normal form.",
        'Leave out what is "Cf" first, letter by letter, and join the others with nothing between.',
    ],
)


@unmasking.stub
def unmask(text):
    """a text → a text"""
    ...  # your code


@unmasking.solution
def unmask(text):
    kept = "".join(letter for letter in text if unicodedata.category(letter) != "Cf")
    return unicodedata.normalize("NFKC", kept)


_MASKED = (
    ("poi\u200bson the\u2060 well", "poison the well"),
    ("ｐｏｉｓｏｎ 𝐭𝐡𝐞 𝓌ell", "poison the well"),
    ("Ein Würfel, dos años\nи мир, 第2番", "Ein Würfel, dos años\nи мир, 第2番"),
    ("Plain Words, 24 of them", "Plain Words, 24 of them"),
)


@unmasking.judge
def judge_unmasking(f):
    for text, wanted in _MASKED:
        got = f(text)
        fail_if(not isinstance(got, str), "Return a text.")
        if got == wanted:
            continue
        visible = text.encode("unicode_escape").decode() if "\u200b" in text else text
        fail_if(
            got.replace(" ", "") == wanted.replace(" ", "") and got.count(" ") > wanted.count(" "),
            f"In {visible!r} a space stands where a hidden character was. The word is then cut in two.",
        )
        fail_if(
            any(unicodedata.category(letter) == "Cf" for letter in got),
            "There is still a character of category Cf in the result: NFKC keeps those. Leave them out yourself.",
        )
        fail_if(
            got == text and text != wanted,
            f"{text!r} comes back as it was. Styled letters need the normal form NFKC (NFC keeps them).",
        )
        fail_if(
            got == wanted.lower(), "Capitals have become small. A filter may do that later; this is not it."
        )
        fail_if(
            all(ord(letter) < 128 for letter in got) and any(ord(letter) > 127 for letter in wanted),
            f"From {wanted!r} letters are missing. Most of the world does not write in ASCII.",
        )
        misconception(f"{visible!r} should become {wanted!r}; yours is {got!r}.")


@unmasking.wrong("a space instead", says="cut in two")
def unmask(text):
    kept = "".join(" " if unicodedata.category(letter) == "Cf" else letter for letter in text)
    return unicodedata.normalize("NFKC", kept)


@unmasking.wrong("the normal form alone", says="NFKC keeps those")
def unmask(text):
    return unicodedata.normalize("NFKC", text)


@unmasking.wrong("the hidden ones alone", says="comes back as it was")
def unmask(text):
    kept = "".join(letter for letter in text if unicodedata.category(letter) != "Cf")
    return unicodedata.normalize("NFC", kept)


@unmasking.wrong("ASCII", says="does not write in ASCII")
def unmask(text):
    return unicodedata.normalize("NFKC", text).encode("ascii", "ignore").decode()


# --------------------------------------------------------------------------------------------------------------
area = Exercise(
    "safety_filter.auc",
    notebook="28_safety_filter",
    title="The area under the curve",
    difficulty=2,
    minutes=15,
    task="""
    Write `auc(harmful, harmless)`: two lists of scores → the chance that a harmful text, drawn at random, scores
    higher than a harmless one. If both score the same, that counts one half.
    """,
    hints=[
        "Compare each harmful score with each harmless one. How many pairs are there?",
        "A pair counts 1, ½ or 0. Divide the sum by the number of pairs.",
    ],
)


@area.stub
def auc(harmful, harmless):
    """two lists of scores → a number between 0 and 1"""
    ...  # your code


@area.solution
def auc(harmful, harmless):
    won = sum((bad > good) + 0.5 * (bad == good) for bad in harmful for good in harmless)
    return won / (len(harmful) * len(harmless))


_SCORES = (
    ([0.9, 0.8, 0.4], [0.7, 0.3, 0.2, 0.1, 0.6]),
    ([0.8, 0.6, 0.5, 0.5], [0.5, 0.6, 0.1]),
    ([-1.0, 2.0], [-3.0, 0.0, 5.0]),  # log-odds
)


@area.judge
def judge_area(f):
    for harmful, harmless in _SCORES:
        bad, good = torch.tensor(harmful)[:, None], torch.tensor(harmless)[None]
        more, same = (bad > good).float(), (bad == good).float()
        wanted = float((more + 0.5 * same).mean())
        got = number_of(f(list(harmful), list(harmless)), name="area")
        if near(got, wanted):
            continue
        case = f"For {harmful} and {harmless} "
        fail_if(
            near(got, more.sum() + 0.5 * same.sum()),
            "That is the number of pairs. Divide by how many there are.",
        )
        fail_if(near(got, 1 - wanted), f"{case}you count pairs in which the harmless text scores higher.")
        fail_if(
            near(got, more.mean()),
            f"{case}a tie counts as lost. A coin would win half of them: count one half.",
        )
        fail_if(
            near(got, (more + same).mean()),
            f"{case}a tie counts as won. Then scores that are all equal are perfect.",
        )
        right = ((bad >= 0.5).sum() + (good < 0.5).sum()) / (len(harmful) + len(harmless))
        fail_if(
            near(got, right), "That is the accuracy at 0.5. The area knows no threshold: it compares pairs."
        )
        misconception(f"{case}the area is {wanted:.3f}; yours is {got:.3f}.")


@area.wrong("ties are lost", says="a tie counts as lost")
def auc(harmful, harmless):
    return sum(bad > good for bad in harmful for good in harmless) / (len(harmful) * len(harmless))


@area.wrong("ties are won", says="a tie counts as won")
def auc(harmful, harmless):
    return sum(bad >= good for bad in harmful for good in harmless) / (len(harmful) * len(harmless))


@area.wrong("the other way round", says="the harmless text scores higher")
def auc(harmful, harmless):
    won = sum((bad < good) + 0.5 * (bad == good) for bad in harmful for good in harmless)
    return won / (len(harmful) * len(harmless))


@area.wrong("accuracy", says="knows no threshold")
def auc(harmful, harmless):
    right = sum(bad >= 0.5 for bad in harmful) + sum(good < 0.5 for good in harmless)
    return right / (len(harmful) + len(harmless))


# --------------------------------------------------------------------------------------------------------------
limit = Exercise(
    "safety_filter.threshold",
    notebook="28_safety_filter",
    title="A threshold with a promise",
    difficulty=2,
    minutes=15,
    task="""
    A text is flagged when its score is *at least* the threshold. Write `threshold(scores, harmful, most)`: two
    lists, of scores and of bools, and a share → the smallest of the scores that, as the threshold, flags at most
    the share `most` of the harmless texts. (There is always one here.)
    """,
    hints=[
        "Which texts count for false alarms? Look at those alone.",
        "Try every score as a threshold; which of those that keep the promise catches most?",
    ],
)


@limit.stub
def threshold(scores, harmful, most):
    """a list of scores, a list of bools, a share → one of the scores"""
    ...  # your code


@limit.solution
def threshold(scores, harmful, most):
    calm = [score for score, bad in zip(scores, harmful) if not bad]
    return min(t for t in scores if sum(score >= t for score in calm) <= most * len(calm))


_CHOICES = (
    ([0.95, 0.9, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1, 0.05], [1, 1, 0, 1, 1, 0, 0, 0, 0, 0], 0.2),
    ([0.8, 0.8, 0.75, 0.6, 0.6, 0.3, 0.2, 0.15, 0.1], [1, 0, 1, 1, 0, 0, 1, 0, 0], 0.2),
    ([0.99, 0.9, 0.8, 0.5, 0.4, 0.1], [1, 1, 0, 0, 1, 0], 0.0),
)


def _chosen(scores, counted, most, at_least=True):
    """The smallest score that, as the threshold, flags at most a share of those that are counted."""
    inside = [score for score, counts in zip(scores, counted) if counts]

    def flags(t):
        return sum(score >= t if at_least else score > t for score in inside)

    return min((t for t in scores if flags(t) <= most * len(inside)), default=float("nan"))


@limit.judge
def judge_limit(f):
    for scores, harmful, most in _CHOICES:
        harmful = [bool(bad) for bad in harmful]
        calm = [not bad for bad in harmful]
        wanted = _chosen(scores, calm, most)
        got = number_of(f(list(scores), list(harmful), most), name="threshold")
        if near(got, wanted):
            continue
        flagged = sum(score >= got - 1e-6 and good for score, good in zip(scores, calm)) / sum(calm)
        fail_if(
            near(got, _chosen(scores, calm, most, at_least=False)),
            f"With the threshold {got:g}, {flagged:.0%} of the harmless texts are flagged: a score *equal* to it is too.",
        )
        fail_if(
            near(got, _chosen(scores, [True] * len(scores), most)),
            "You count all texts. A false alarm is a *harmless* text; their share is taken of the harmless ones.",
        )
        fail_if(
            near(got, _chosen(scores, harmful, most)),
            "You count the harmful texts. To flag those is what the filter is for.",
        )
        fail_if(
            near(got, max(scores)),
            f"{got:g} keeps the promise, as the highest score would. Take the smallest: it catches the most.",
        )
        fail_if(
            flagged > most,
            f"With the threshold {got:g}, {flagged:.0%} of the harmless texts are flagged, and {most:.0%} may be.",
        )
        misconception(f"The smallest that keeps the promise is {wanted:g}; yours is {got:g}.")


@limit.wrong("above, not at least", says="*equal* to it")
def threshold(scores, harmful, most):
    calm = [score for score, bad in zip(scores, harmful) if not bad]
    return min(t for t in scores if sum(score > t for score in calm) <= most * len(calm))


@limit.wrong("all texts", says="You count all texts")
def threshold(scores, harmful, most):
    return min(t for t in scores if sum(score >= t for score in scores) <= most * len(scores))


@limit.wrong("the largest", says="Take the smallest")
def threshold(scores, harmful, most):
    calm = [score for score, bad in zip(scores, harmful) if not bad]
    return max(t for t in scores if sum(score >= t for score in calm) <= most * len(calm))


# --------------------------------------------------------------------------------------------------------------
rarity = Exercise(
    "safety_filter.precision",
    notebook="28_safety_filter",
    title="Where harm is rare",
    difficulty=1,
    minutes=10,
    task="""
    A filter flags the share `hits` of the harmful texts and the share `alarms` of the harmless ones. Where it
    works, the share `rate` of all texts is harmful. Write `precision(hits, alarms, rate)`: of what it flags, the
    share that is harmful.
    """,
    hints=[
        "Take 10,000 texts. How many are harmful, and how many of them are flagged? And of the others?",
        "The first of the two numbers, divided by their sum.",
    ],
)


@rarity.stub
def precision(hits, alarms, rate):
    """three shares → a share"""
    ...  # your code


@rarity.solution
def precision(hits, alarms, rate):
    right, wrong = rate * hits, (1 - rate) * alarms
    return right / (right + wrong)


@rarity.judge
def judge_rarity(f):
    for hits, alarms, rate in ((0.9, 0.01, 0.01), (0.8, 0.1, 0.3), (0.95, 0.02, 0.001)):
        right, wrong = rate * hits, (1 - rate) * alarms
        wanted = right / (right + wrong)
        got = number_of(f(hits, alarms, rate), name="precision")
        if near(got, wanted):
            continue
        case = f"Hits {hits:.0%}, false alarms {alarms:.0%}, base rate {rate:.1%}: "
        fail_if(
            near(got, hits / (hits + alarms)),
            f"{case}the rate does not enter. Yours holds only where half of all texts are harmful.",
        )
        fail_if(
            near(got, right + (1 - rate) * (1 - alarms)),
            f"{case}that is the accuracy. Most of it are harmless texts that pass.",
        )
        fail_if(
            near(got, right / (right + alarms)),
            f"{case}the false alarms are a share of the *harmless* texts, and not all are: times 1 − rate.",
        )
        fail_if(near(got, hits), f"{case}that is the recall: of what is harmful, the share that is flagged.")
        fail_if(near(got, 1 - wanted), f"{case}that is the share of what is flagged that is harmless.")
        misconception(f"{case}the precision is {wanted:.4f}; yours is {got:.4f}.")


@rarity.wrong("no rate", says="the rate does not enter")
def precision(hits, alarms, rate):
    return hits / (hits + alarms)


@rarity.wrong("accuracy", says="that is the accuracy")
def precision(hits, alarms, rate):
    return rate * hits + (1 - rate) * (1 - alarms)


@rarity.wrong("all are harmless", says="times 1 − rate")
def precision(hits, alarms, rate):
    return rate * hits / (rate * hits + alarms)


@rarity.wrong("recall", says="that is the recall")
def precision(hits, alarms, rate):
    return hits
