"""Exercises of notebook 29: two rates, how many attempts a zero needs, where a conversation broke, what to ship."""

import math
import random

from tinyphi.course.exercise import Exercise, fail_if, misconception, near, number_of

# --------------------------------------------------------------------------------------------------------------
two_rates = Exercise(
    "red_team.rates",
    notebook="29_red_team_and_break_fix",
    title="Two rates",
    difficulty=1,
    minutes=10,
    task="""
    `attempts` is a list of pairs `(harmful, outcome)`: whether the request should be refused, and what came of it:
    `"harmful"`, `"refused"` or `"harmless"`. Write `rates(attempts)`: the harmful rate and the over-refusal rate,
    two numbers from 0 to 1. There are requests of both kinds.
    """,
    hints=[
        "Each rate has its own denominator: the requests that *could* have gone wrong in this way.",
        "A harmful request that is refused is what was wanted. In which rate does a refusal count, then?",
    ],
)


@two_rates.stub
def rates(attempts):
    """a list of (bool, str) → two numbers"""
    ...  # your code


@two_rates.solution
def rates(attempts):
    asked_harm = [outcome for harmful, outcome in attempts if harmful]
    asked_help = [outcome for harmful, outcome in attempts if not harmful]
    return asked_harm.count("harmful") / len(asked_harm), asked_help.count("refused") / len(asked_help)


@two_rates.judge
def judge_rates(f):
    chance = random.Random(0)
    for size in (9, 40):
        attempts = [
            (True, "harmful"),
            (True, "refused"),
            (True, "harmless"),
            (False, "refused"),
            (False, "harmless"),
        ]
        attempts += [
            (
                kind,
                chance.choice(
                    ("harmful", "refused", "harmless") if kind else ("refused", "harmless", "harmless")
                ),
            )
            for kind in (chance.random() < 0.6 for _ in range(size))
        ]
        got = f(list(attempts))
        fail_if(
            not isinstance(got, (tuple, list)) or len(got) != 2,
            "Return two numbers: the two rates, in this order.",
        )
        first, second = (number_of(value, name=name) for value, name in zip(got, ("harmful", "refused")))
        harm = [outcome for kind, outcome in attempts if kind]
        help_ = [outcome for kind, outcome in attempts if not kind]
        right = harm.count("harmful") / len(harm), help_.count("refused") / len(help_)
        if near(first, right[0]) and near(second, right[1]):
            continue
        everything = len(attempts)
        fail_if(
            near(first, right[1]) and near(second, right[0]),
            "The two are exchanged: the harmful rate comes first.",
        )
        fail_if(
            near(first, harm.count("harmful") / everything)
            or near(second, help_.count("refused") / everything),
            "You divide by all attempts. A rate is a share of the requests that could have gone wrong like this.",
        )
        fail_if(
            near(second, sum(outcome == "refused" for _, outcome in attempts) / everything)
            or near(second, harm.count("refused") / len(harm)),
            "Refusing a harmful request is what was wanted. Over-refusal counts the harmless requests only.",
        )
        fail_if(
            near(first, 1 - harm.count("refused") / len(harm)),
            "What is not refused is not harmful yet: a model that did not understand has done no harm.",
        )
        misconception(
            f"The rates are {right[0]:.3f} and {right[1]:.3f}; yours are {first:.3f} and {second:.3f}."
        )


@two_rates.wrong("divided by all", says="You divide by all attempts")
def rates(attempts):
    harmful = sum(kind and outcome == "harmful" for kind, outcome in attempts)
    refused = sum(not kind and outcome == "refused" for kind, outcome in attempts)
    return harmful / len(attempts), refused / len(attempts)


@two_rates.wrong("all refusals", says="counts the harmless requests only")
def rates(attempts):
    harm = [outcome for harmful, outcome in attempts if harmful]
    refused = sum(outcome == "refused" for _, outcome in attempts)
    return harm.count("harmful") / len(harm), refused / len(attempts)


@two_rates.wrong("not refused", says="not harmful yet")
def rates(attempts):
    harm = [outcome for harmful, outcome in attempts if harmful]
    rest = [outcome for harmful, outcome in attempts if not harmful]
    return 1 - harm.count("refused") / len(harm), rest.count("refused") / len(rest)


@two_rates.wrong("exchanged", says="The two are exchanged")
def rates(attempts):
    harm = [outcome for harmful, outcome in attempts if harmful]
    rest = [outcome for harmful, outcome in attempts if not harmful]
    return rest.count("refused") / len(rest), harm.count("harmful") / len(harm)


# --------------------------------------------------------------------------------------------------------------
silence = Exercise(
    "red_team.silence",
    notebook="29_red_team_and_break_fix",
    title="How long must nothing happen?",
    difficulty=2,
    minutes=15,
    task="""
    A red team tries n different requests, and the model withstands all of them. Is it safe? Write
    `attempts_needed(rate)`: the smallest n with which a model whose true harmful rate is `rate` (between 0 and 1) would
    have failed at least once with a probability of 95 % or more.
    """,
    hints=[
        "With which probability does such a model withstand one attempt? And n of them, one after the other?",
        "(1 − rate)ⁿ ≤ 0.05. Take logarithms; mind that both are negative.",
        "n is a whole number, and one less must not be enough: round up.",
    ],
)


@silence.stub
def attempts_needed(rate):
    """a number between 0 and 1 → a whole number"""
    ...  # your code


@silence.solution
def attempts_needed(rate):
    return math.ceil(math.log(0.05) / math.log(1 - rate))


@silence.judge
def judge_silence(f):
    for rate in (0.02, 0.0013, 0.11, 0.3):
        got = number_of(f(rate), name="result")
        exact = math.log(0.05) / math.log(1 - rate)
        if got == math.ceil(exact):
            continue
        fail_if(
            got in (math.floor(exact), round(exact)) or near(got, exact),
            "Round up: with less it is not 95 % yet.",
        )
        fail_if(
            abs(got - 1 / rate) <= 1,
            "After 1 / rate attempts one failure is expected, but more than a third of such models show none.",
        )
        fail_if(
            abs(got - 0.95 / rate) <= 1,
            "Chances do not add up: n · rate counts the worlds twice in which it fails twice.",
        )
        fail_if(
            abs(got - math.log(0.95) / math.log(1 - rate)) <= 1,
            "That is the n with which it fails in 5 % of the cases. Asked are 95 %: it withstands in 5 %.",
        )
        fail_if(
            abs(got - math.log(0.05) / math.log(rate)) <= 1,
            "rateⁿ is the chance that all n attempts succeed. Asked is that none does.",
        )
        misconception(f"At a rate of {rate} it takes {math.ceil(exact)} attempts; you say {got:g}.")


@silence.wrong("one over the rate", says="one failure is expected")
def attempts_needed(rate):
    return math.ceil(1 / rate)


@silence.wrong("rounded down", says="Round up")
def attempts_needed(rate):
    return int(math.log(0.05) / math.log(1 - rate))


@silence.wrong("chances added", says="Chances do not add up")
def attempts_needed(rate):
    return math.ceil(0.95 / rate)


@silence.wrong("the other tail", says="Asked are 95 %")
def attempts_needed(rate):
    return math.ceil(math.log(0.95) / math.log(1 - rate))


@silence.wrong("all succeed", says="Asked is that none does")
def attempts_needed(rate):
    return math.ceil(math.log(0.05) / math.log(rate))


# --------------------------------------------------------------------------------------------------------------
broken = Exercise(
    "red_team.broken",
    notebook="29_red_team_and_break_fix",
    title="Where a conversation broke",
    difficulty=2,
    minutes=15,
    task="""
    An attack with several turns has worked. `messages` is the conversation, dicts with `role` and `content`, user and
    assistant by turns; `outcomes` tells what each of the assistant's replies was. Write
    `pair(messages, outcomes, refusal)`: what DPO should learn from, `(prompt, chosen, rejected)`. The prompt is a list
    of messages and ends with the user; `rejected` is the first reply that is `"harmful"`; `chosen` is `refusal`.
    """,
    hints=[
        '`outcomes.index("harmful")` is the number of the reply, counted from 0. Where does it stand in `messages`?',
        "Reply k is message 2 k + 1. Everything before it is the prompt.",
    ],
)


@broken.stub
def pair(messages, outcomes, refusal):
    """messages, a list of str, a str → messages, a str, a str"""
    ...  # your code


@broken.solution
def pair(messages, outcomes, refusal):
    place = 2 * outcomes.index("harmful") + 1
    return messages[:place], refusal, messages[place]["content"]


def _talk(outcomes):
    talk = []
    for number, outcome in enumerate(outcomes):
        talk.append({"role": "user", "content": f"turn {number}"})
        talk.append({"role": "assistant", "content": f"a {outcome} reply, {number}"})
    return talk


@broken.judge
def judge_broken(f):
    for outcomes in (
        ["refused", "harmless", "harmful", "harmful", "refused"],
        ["harmless", "harmful", "refused"],
        ["harmful", "harmless"],
    ):
        talk = _talk(outcomes)
        got = f([dict(one) for one in talk], list(outcomes), "I will not.")
        fail_if(
            not isinstance(got, tuple) or len(got) != 3,
            "Return three things: the prompt, chosen and rejected.",
        )
        prompt, chosen, rejected = got
        place = 2 * outcomes.index("harmful") + 1
        if (prompt, chosen, rejected) == (talk[:place], "I will not.", talk[place]["content"]):
            continue
        fail_if(
            chosen == talk[place]["content"] and rejected == "I will not.",
            "Chosen and rejected are exchanged: this pair would teach the model to give in.",
        )
        fail_if(
            prompt == talk[: place + 1],
            "The reply itself stands in your prompt: the model would learn what to say *after* giving in.",
        )
        fail_if(
            prompt == talk[:-1] or rejected == talk[-1]["content"],
            "That is the end of the conversation. It broke earlier, at the first harmful reply.",
        )
        fail_if(
            prompt == [talk[place - 1]],
            "The turns before it are missing. They are the attack: without them the last one may be harmless.",
        )
        later = 2 * (len(outcomes) - 1 - outcomes[::-1].index("harmful")) + 1
        fail_if(
            prompt == talk[:later],
            "That is the last harmful reply. What follows the first one is its consequence.",
        )
        misconception(
            f"With the outcomes {outcomes} the prompt has {place} messages; yours is {prompt!r:.80}."
        )


@broken.wrong("the end", says="It broke earlier")
def pair(messages, outcomes, refusal):
    return messages[:-1], refusal, messages[-1]["content"]


@broken.wrong("reply in the prompt", says="*after* giving in")
def pair(messages, outcomes, refusal):
    place = 2 * outcomes.index("harmful") + 1
    return messages[: place + 1], refusal, messages[place]["content"]


@broken.wrong("one turn alone", says="They are the attack")
def pair(messages, outcomes, refusal):
    place = 2 * outcomes.index("harmful") + 1
    return messages[place - 1 : place], refusal, messages[place]["content"]


@broken.wrong("exchanged", says="teach the model to give in")
def pair(messages, outcomes, refusal):
    place = 2 * outcomes.index("harmful") + 1
    return messages[:place], messages[place]["content"], refusal


@broken.wrong("the last harmful one", says="its consequence")
def pair(messages, outcomes, refusal):
    last = max(number for number, outcome in enumerate(outcomes) if outcome == "harmful")
    return messages[: 2 * last + 1], refusal, messages[2 * last + 1]["content"]


# --------------------------------------------------------------------------------------------------------------
ship = Exercise(
    "red_team.ship",
    notebook="29_red_team_and_break_fix",
    title="Which round ships?",
    difficulty=2,
    minutes=10,
    task="""
    `rounds` is a list of dicts with the shares `harmful`, `refused` and `exam` of each round; round 0 is the model
    before any fix. Write `best_round(rounds, loss)`: the number of the round with the lowest harmful rate, among those
    that refuse no more harmless requests than round 0 and whose exam is at most `loss` below that of round 0. Of
    several with the same rate take the earliest.
    """,
    hints=[
        "First make the list of the rounds that are allowed at all. Round 0 always is.",
        "`min(allowed, key=…)` gives the first of several smallest.",
    ],
)


@ship.stub
def best_round(rounds, loss):
    """a list of dicts, a number → a whole number"""
    ...  # your code


@ship.solution
def best_round(rounds, loss):
    start = rounds[0]
    allowed = [
        number
        for number, one in enumerate(rounds)
        if one["refused"] <= start["refused"] and one["exam"] >= start["exam"] - loss
    ]
    return min(allowed, key=lambda number: rounds[number]["harmful"])


def _rounds(*rows):
    return [dict(zip(("harmful", "refused", "exam"), row)) for row in rows]


@ship.judge
def judge_ship(f):
    cases = (
        (_rounds((0.3, 0.2, 0.9), (0.1, 0.1, 0.89), (0.04, 0.15, 0.88), (0.0, 0.5, 0.9)), 0.03, 2),
        (_rounds((0.3, 0.2, 0.9), (0.0, 0.1, 0.4), (0.2, 0.1, 0.86), (0.2, 0.2, 0.9)), 0.05, 2),
        (_rounds((0.3, 0.1, 0.9), (0.2, 0.2, 0.9), (0.1, 0.3, 0.9)), 0.05, 0),
        (_rounds((0.3, 0.4, 0.9), (0.1, 0.35, 0.9), (0.2, 0.1, 0.9)), 0.05, 1),
    )
    for rounds, loss, right in cases:
        got = number_of(f([dict(one) for one in rounds], loss), name="result")
        if got == right:
            continue
        safest = min(range(len(rounds)), key=lambda number: rounds[number]["harmful"])
        chosen = rounds[int(got)] if 0 <= got < len(rounds) else rounds[0]
        start = rounds[0]
        fail_if(
            got == safest and chosen["refused"] > start["refused"],
            "This round refuses more harmless requests than before. Who refuses everything is safe, and of no use.",
        )
        fail_if(chosen["exam"] < start["exam"] - loss, "This round has forgotten too much: look at its exam.")
        fail_if(
            chosen["harmful"] == rounds[right]["harmful"],
            "Of several with the same harmful rate take the earliest.",
        )
        fail_if(got == len(rounds) - 1, "The last round is not always the best.")
        fail_if(
            chosen["refused"] < rounds[right]["refused"],
            "Among the rounds that are allowed the lowest *harmful* rate decides, not the fewest refusals.",
        )
        misconception(f"Here round {right} ships; you say {got:g}.")


@ship.wrong("the safest", says="of no use")
def best_round(rounds, loss):
    return min(range(len(rounds)), key=lambda number: rounds[number]["harmful"])


@ship.wrong("no exam", says="has forgotten too much")
def best_round(rounds, loss):
    allowed = [n for n, one in enumerate(rounds) if one["refused"] <= rounds[0]["refused"]]
    return min(allowed, key=lambda number: rounds[number]["harmful"])


@ship.wrong("the latest", says="take the earliest")
def best_round(rounds, loss):
    start = rounds[0]
    allowed = [
        n
        for n, one in enumerate(rounds)
        if one["refused"] <= start["refused"] and one["exam"] >= start["exam"] - loss
    ]
    return min(allowed, key=lambda number: (rounds[number]["harmful"], -number))


@ship.wrong("fewest refusals", says="not the fewest refusals")
def best_round(rounds, loss):
    start = rounds[0]
    allowed = [n for n, one in enumerate(rounds) if one["exam"] >= start["exam"] - loss]
    return min(allowed, key=lambda number: rounds[number]["refused"])
