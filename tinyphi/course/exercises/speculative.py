"""Exercises of notebook 18: guess several tokens, check them in one pass."""

import torch

from tinyphi.course.exercise import Exercise, fail_if, misconception, near, number_of, tensor_of

# ---------------------------------------------------------------------------------------------------------------
judging = Exercise(
    "speculative.judge",
    notebook="18_speculative_decoding",
    title="What one pass brings",
    difficulty=1,
    minutes=10,
    task="""
    The model has read its last token and t guesses in one pass. Write `gained(logits, guesses)`: `logits` `(t+1 v)` are
    those after the last token and after each guess, `guesses` is a list of t ids. Return the list of ids that the text
    gains when decoding is greedy: the guesses that are accepted, and one token more.
    """,
    hints=[
        "`own = logits.argmax(-1).tolist()` has t + 1 ids. `own[0]` is what the model wanted at the place of the first guess.",
        "Compare guess i with own[i], from the left, and stop at the first that differs.",
        "After n accepted guesses the model's own word for the next place is own[n]. It is there even when all were right.",
    ],
)


@judging.stub
def gained(logits, guesses):
    """(t+1 v), a list of t ids → a list of 1 to t+1 ids"""
    ...  # your code


@judging.solution
def gained(logits, guesses):
    own, right = logits.argmax(-1).tolist(), 0
    while right < len(guesses) and guesses[right] == own[right]:
        right += 1
    return [*guesses[:right], own[right]]


@judging.judge
def judge_judging(f):
    for own, guesses in (
        ([5, 3, 2, 7], [5, 3, 2]),
        ([5, 3, 2, 7], [5, 4, 2]),
        ([5, 3, 2, 7], [4, 3, 2]),
        ([1, 2, 3, 4], [2, 3, 4]),
        ([6, 1, 6, 1, 0], [6, 1, 1, 1]),
        ([3], []),
    ):
        logits = torch.randn(len(own), 8).clamp(-2, 2)
        logits[range(len(own)), own] = 3.0
        got = f(logits, list(guesses))
        if not isinstance(got, list):
            misconception(f"The result should be a list of ids; yours is of type {type(got).__name__}.")
        right = next((i for i, token in enumerate(guesses) if token != own[i]), len(guesses))
        wanted = [*guesses[:right], own[right]]
        if got == wanted:
            continue
        refused = guesses[right] if right < len(guesses) else None
        where = f"The guesses are {guesses}, the model's own words are {own}, and yours is {got}: "
        fail_if(
            got == guesses[:right],
            where
            + "one is missing. The pass has also said what follows the last accepted token: that one is free.",
        )
        fail_if(
            refused is not None and got[: right + 1] == guesses[: right + 1],
            where
            + f"the guess {refused} is wrong, and it stands in your text. The model's own word for this "
            f"place is {own[right]}.",
        )
        fail_if(
            len(got) > len(wanted) and got[: right + 1] == wanted,
            where
            + f"behind the first wrong guess nothing counts. These logits came from a text with {refused} in it, "
            "which is not the text any more.",
        )
        fail_if(
            got[:1] != own[:1],
            where
            + "what the model said *after* a guess is no judgement of that guess. own[0] judges the first one.",
        )
        misconception(where + f"{wanted} is right.")


@judging.wrong("no token of its own", says="that one is free")
def gained(logits, guesses):
    new = []
    for token, own in zip(guesses, logits.argmax(-1).tolist(), strict=False):
        if token != own:
            break
        new.append(token)
    return new


@judging.wrong("counts all that agree", says="nothing counts")
def gained(logits, guesses):
    own = logits.argmax(-1).tolist()
    same = sum(a == b for a, b in zip(guesses, own, strict=False))
    return own[: same + 1]


@judging.wrong("keeps the wrong guess", says="stands in your text")
def gained(logits, guesses):
    own, new = logits.argmax(-1).tolist(), []
    for token, right in zip(guesses, own, strict=False):
        new.append(token)
        if token != right:
            return new
    return [*new, own[-1]]


@judging.wrong("one place too late", says="no judgement of that guess")
def gained(logits, guesses):
    own, right = logits.argmax(-1).tolist(), 0
    if guesses == own[:-1]:
        return own
    while right < len(guesses) and guesses[right] == own[right + 1]:
        right += 1
    return own[1 : right + 2]


# ---------------------------------------------------------------------------------------------------------------
longest = Exercise(
    "speculative.lookup",
    notebook="18_speculative_decoding",
    title="The longest match",
    difficulty=2,
    minutes=15,
    task="""
    Three tokens must agree in our `lookup`; often more would be safer, and sometimes two are all there is. Write
    `longest_lookup(ids, most, count)` for a list `ids`: look for an earlier place with the same last `most` tokens; if
    there is none, for the last `most − 1`, and so on down to 1. At the first length that is found take the *latest* place,
    and return the tokens that follow it, at most `count`; fewer where the text ends. Without any place return `[]`.
    """,
    hints=[
        "Two loops: for the length n from `most` down to 1, and for the place `start` from the right to the left.",
        "`ids[start : start + n] == ids[-n:]` compares. The end of the text is equal to itself, so it must not be tried.",
        "The latest place that is not the end itself begins at `len(ids) - n - 1`.",
    ],
)


@longest.stub
def longest_lookup(ids, most, count):
    """a list of ids, two numbers → a list of at most `count` ids"""
    ...  # your code


@longest.solution
def longest_lookup(ids, most, count):
    for n in range(most, 0, -1):
        for start in range(len(ids) - n - 1, -1, -1):
            if ids[start : start + n] == ids[-n:]:
                return ids[start + n : start + n + count]
    return []


def _matches(ids, n):
    """Where the last n ids stand earlier, in order."""
    return [start for start in range(len(ids) - n) if ids[start : start + n] == ids[-n:]]


@longest.judge
def judge_longest(f):
    for ids, most, count in (
        ([1, 2, 3, 4, 1, 2, 3], 3, 2),
        ([1, 2, 3, 7, 1, 2, 3, 8, 9, 1, 2, 3], 3, 2),
        ([1, 2, 3, 7, 9, 3, 8, 6, 1, 2, 3], 3, 2),
        ([5, 6, 4, 9, 6, 7], 3, 3),
        ([5, 6, 4, 9, 6, 5, 6], 4, 3),
        ([7, 7, 7], 2, 4),
        ([1], 3, 2),
        ([1, 2, 3], 3, 2),
    ):
        got = f(list(ids), most, count)
        if not isinstance(got, list):
            misconception(f"The result should be a list of ids; yours is of type {type(got).__name__}.")
        found = next((n for n in range(most, 0, -1) if _matches(ids, n)), 0)
        start = _matches(ids, found)[-1] if found else 0
        wanted = ids[start + found :][:count] if found else []
        if got == wanted:
            continue
        where = f"In {ids}, with most = {most} and count = {count}, yours is {got}: "
        fail_if(
            found == 0,
            where + "none of these tokens comes again, so there is nothing to copy. Return [].",
        )
        others = [ids[place + found :][:count] for place in _matches(ids, found)]
        fail_if(
            got in others,
            where
            + f"you copy from the first place. What stood there last is {wanted}, and it is the better guess.",
        )
        fail_if(
            got == ids[start:][:count] or got == ids[start:][: found + count],
            where + "you copy the words that agree once more. Only what *follows* them is new.",
        )
        short = min(n for n in range(1, found + 1) if _matches(ids, n))
        latest = _matches(ids, short)[-1]
        fail_if(
            short < found and got == ids[latest + short :][:count],
            where
            + f"{found} tokens agree elsewhere, and you were content with {short}. Try the long ones first.",
        )
        fail_if(
            found < most and got == [],
            where + f"{most} tokens do not agree anywhere, but {found} do. Try the shorter ones as well.",
        )
        fail_if(
            got == [],
            where
            + f"{wanted} follows the same tokens earlier. Did you find the end of the text, which equals itself?",
        )
        misconception(where + f"{wanted} is right.")


@longest.wrong("finds itself", says="which equals itself")
def longest_lookup(ids, most, count):
    for n in range(most, 0, -1):
        for start in range(len(ids) - n, -1, -1):
            if ids[start : start + n] == ids[-n:]:
                return ids[start + n : start + n + count]
    return []


@longest.wrong("the first place", says="from the first place")
def longest_lookup(ids, most, count):
    for n in range(most, 0, -1):
        for start in range(len(ids) - n):
            if ids[start : start + n] == ids[-n:]:
                return ids[start + n : start + n + count]
    return []


@longest.wrong("only the longest", says="the shorter ones as well")
def longest_lookup(ids, most, count):
    for start in range(len(ids) - most - 1, -1, -1):
        if ids[start : start + most] == ids[-most:]:
            return ids[start + most : start + most + count]
    return []


@longest.wrong("short ones first", says="the long ones first")
def longest_lookup(ids, most, count):
    for n in range(1, most + 1):
        for start in range(len(ids) - n - 1, -1, -1):
            if ids[start : start + n] == ids[-n:]:
                return ids[start + n : start + n + count]
    return []


@longest.wrong("what agrees once more", says="Only what *follows*")
def longest_lookup(ids, most, count):
    for n in range(most, 0, -1):
        for start in range(len(ids) - n - 1, -1, -1):
            if ids[start : start + n] == ids[-n:]:
                return ids[start : start + count]
    return []


# ---------------------------------------------------------------------------------------------------------------
rule = Exercise(
    "speculative.rule",
    notebook="18_speculative_decoding",
    title="The rule, as two distributions",
    difficulty=2,
    minutes=15,
    task="""
    Write the rule without drawing anything: `acceptance(p, q)`, the model's probabilities and the draft's, both `(v)`.
    Return a pair: for each token the probability with which it is accepted *when it is proposed*, `(v)`; and the
    distribution from which another one is drawn after a rejection, `(v)`. Together they must give exactly p, and reject
    as seldom as possible. No token here has q = 0, and p and q are never the same.
    """,
    hints=[
        "A token that is proposed less often than it should be (q ≤ p) is always welcome.",
        "One that is proposed too often must come with probability p in the end. With q · chance = p, what is the chance?",
        "What is still lacking is p − q, where that is positive. Probabilities must add up to 1.",
    ],
)


@rule.stub
def acceptance(p, q):
    """(v), (v) → a pair of (v)"""
    ...  # your code


@rule.solution
def acceptance(p, q):
    lacking = (p - q).clamp(min=0)
    return (p / q).clamp(max=1), lacking / lacking.sum()


@rule.judge
def judge_rule(f):
    cases = [
        (torch.tensor([0.5, 0.25, 0.25]), torch.tensor([0.25, 0.25, 0.5])),
        (torch.tensor([0.125, 0.375, 0.0, 0.5]), torch.tensor([0.25, 0.25, 0.25, 0.25])),
        (torch.randn(9).softmax(0), torch.randn(9).softmax(0)),
    ]
    for p, q in cases:
        pair = f(p.clone(), q.clone())
        if not isinstance(pair, (tuple, list)) or len(pair) != 2:
            misconception(
                "Return a pair: the probabilities of acceptance, and the distribution to draw from again."
            )
        chance = tensor_of(pair[0], shape=p.shape, name="tensor of acceptances")
        again = tensor_of(pair[1], shape=p.shape, name="distribution to draw from again")
        shown = [[round(x, 3) for x in t[:4].tolist()] for t in (p, q)]
        where = f"For p = {shown[0]} and q = {shown[1]}{' …' if len(p) > 4 else ''}: "
        fail_if(
            near(chance, (q / p).clamp(max=1)),
            where
            + "your fraction stands on its head. A token that the draft proposes *too often* must be refused "
            "sometimes, and with yours it never is.",
        )
        fail_if(
            bool((chance > 1 + 1e-5).any() or (chance < 0).any()),
            where
            + f"an acceptance of {float(chance.max()):.2f} is no probability. Nothing is accepted more often than always.",
        )
        fail_if(
            bool((again < 0).any()),
            where
            + "the distribution to draw from has negative numbers. Tokens proposed too often lack nothing: 0.",
        )
        total = float(again.sum())
        fail_if(abs(total - 1) > 1e-4, where + f"the distribution to draw from adds up to {total:.3f}.")
        accepted = q * chance
        result = accepted + (1 - accepted.sum()) * again
        fail_if(
            near(again, p) and not near(result, p, 1e-4),
            where
            + "after a rejection you draw from p itself. But the accepted tokens have had their share already, so "
            "they come too often.",
        )
        fail_if(
            near(chance, torch.ones_like(p)),
            where + "you accept everything, and what comes out is q, the draft's distribution.",
        )
        fail_if(
            not near(result, p, 1e-4),
            where + f"what comes out is {[round(x, 3) for x in result[:4].tolist()]}, and it should be p.",
        )
        most = float(torch.minimum(p, q).sum())
        fail_if(
            float(accepted.sum()) < most - 1e-4,
            where
            + f"p comes out, but you accept only {float(accepted.sum()):.2f} of all proposals, and {most:.2f} is possible.",
        )


@rule.wrong("draws from p again", says="had their share already")
def acceptance(p, q):
    return (p / q).clamp(max=1), p


@rule.wrong("upside down", says="stands on its head")
def acceptance(p, q):
    lacking = (p - q).clamp(min=0)
    return (q / p).clamp(max=1), lacking / lacking.sum()


@rule.wrong("more than always", says="more often than always")
def acceptance(p, q):
    lacking = (p - q).clamp(min=0)
    return p / q, lacking / lacking.sum()


@rule.wrong("not a distribution", says="adds up to")
def acceptance(p, q):
    return (p / q).clamp(max=1), (p - q).clamp(min=0)


@rule.wrong("what is too much as well", says="and it should be p")
def acceptance(p, q):
    apart = (p - q).abs()
    return (p / q).clamp(max=1), apart / apart.sum()


@rule.wrong("accepts nothing", says="is possible")
def acceptance(p, q):
    return torch.zeros_like(p), p


@rule.wrong("accepts everything", says="the draft's distribution")
def acceptance(p, q):
    lacking = (p - q).clamp(min=0)
    return torch.ones_like(p), lacking / lacking.sum()


# ---------------------------------------------------------------------------------------------------------------
worth = Exercise(
    "speculative.speedup",
    notebook="18_speculative_decoding",
    title="Is it worth it?",
    difficulty=2,
    minutes=15,
    task="""
    A draft makes k guesses, one after the other, and each takes the time of `cost` passes of the model (a tenth of the
    weights: 0.1). Then the model checks all of them in one pass, as long as any other. A guess that the model gets to
    judge is right with probability a, 0 ≤ a ≤ 1. Write `speedup(a, k, cost)`: how many times as many tokens come in the
    same time as without a draft, on average.
    """,
    hints=[
        "Time first: k guesses and one pass of the model.",
        "Tokens: one always comes. The first guess is accepted with a; the second only if the first was, too: a².",
        "So 1 + a + a² + … + aᵏ tokens. A sum needs no formula, and no exception where a = 1.",
    ],
)


@worth.stub
def speedup(a, k, cost):
    """a probability, a whole number, passes a guess → a number"""
    ...  # your code


@worth.solution
def speedup(a, k, cost):
    return sum(a**i for i in range(k + 1)) / (1 + k * cost)


@worth.judge
def judge_speedup(f):
    for a, k, cost in (
        (0.5, 1, 0.0),
        (0.5, 4, 0.1),
        (0.0, 3, 0.25),
        (0.8, 5, 0.0),
        (0.9, 0, 0.1),
        (1.0, 4, 0.5),
    ):
        tokens, time = sum(a**i for i in range(k + 1)), 1 + k * cost
        where = f"a = {a}, k = {k}, cost = {cost}: "
        got = number_of(f(a, k, cost), name="speed-up")
        if near(got, tokens / time):
            continue
        fail_if(
            near(got, (tokens - 1) / time),
            where
            + "a pass brings one token of the model's own behind the accepted guesses, and you leave it out.",
        )
        fail_if(
            near(got, (1 + a * k) / time),
            where
            + "you count each guess by itself. But a guess behind a wrong one is lost, however good it is.",
        )
        fail_if(
            near(got, (1 + k * a**k) / time),
            where + "all or nothing? Two right guesses are taken even if the third is wrong.",
        )
        fail_if(
            near(got, tokens),
            where
            + f"that many tokens come in a round, but the round takes {time:.2f} times as long: the draft costs time.",
        )
        fail_if(
            near(got, tokens / (1 + cost)),
            where + f"the draft writes its {k} guesses one after another, so it needs {k} passes of its own.",
        )
        misconception(where + f"{tokens:.3f} tokens in the time of {time:.2f} passes; yours is {got:.3f}.")


@worth.wrong("no token of the model's own", says="you leave it out")
def speedup(a, k, cost):
    return sum(a**i for i in range(1, k + 1)) / (1 + k * cost)


@worth.wrong("each by itself", says="lost, however good")
def speedup(a, k, cost):
    return (1 + a * k) / (1 + k * cost)


@worth.wrong("all or nothing", says="Two right guesses")
def speedup(a, k, cost):
    return (1 + k * a**k) / (1 + k * cost)


@worth.wrong("free guesses", says="the draft costs time")
def speedup(a, k, cost):
    return sum(a**i for i in range(k + 1))


@worth.wrong("all guesses in one pass", says="one after another")
def speedup(a, k, cost):
    return sum(a**i for i in range(k + 1)) / (1 + cost)


@worth.wrong("the formula at its hole", says="float division by zero")
def speedup(a, k, cost):
    return (1 - a ** (k + 1)) / (1 - a) / (1 + k * cost)
