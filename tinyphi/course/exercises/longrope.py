"""Exercises of notebook 08: YaRN's factors, when the cache is stale, repairing keys, and a mutation."""

import math

import torch

from tinyphi.course.exercise import Exercise, fail_if, misconception, near, number_of, tensor_of
from tinyphi.model.rope import rotate as turned

# --------------------------------------------------------------------------------------------------------------
parts = Exercise(
    "longrope.yarn",
    notebook="08_longrope",
    title="Each pair as it deserves",
    difficulty=2,
    minutes=15,
    task="""
    Write `by_parts(turns, s)`, YaRN's factors: `turns` `(r)` says how often each pair turns round within the
    original context, `s` how many times longer the text may become. Return the factors `(r)`.

    - A pair with 32 turns or more keeps its frequency, one with a single turn or less is slowed `s` times.
    - In between, the share g that keeps its frequency rises in a straight line, from 0 at 1 turn to 1 at 32.
    - *Frequencies* are mixed: g of the old one and 1 − g of the slowed one. The factor is what the old
      frequency must be divided by to give the mixture.
    """,
    hints=[
        "First the share: 0 at 1 turn, 1 at 32, and `.clamp(0, 1)` beyond both.",
        "Call the old frequency 1. The slowed one is 1/s. What is the mixture?",
        "The factor is 1 divided by the mixture.",
    ],
)


@parts.stub
def by_parts(turns, s):
    """turns (r), s: number → factors (r)"""
    ...  # your code


@parts.solution
def by_parts(turns, s):
    kept = ((turns - 1) / 31).clamp(0, 1)
    return 1 / (kept + (1 - kept) / s)


@parts.judge
def judge_parts(f):
    for pairs, base, tokens, s in ((48, 1e4, 4096, 32.0), (32, 1e5, 8192, 4.0), (8, 1e4, 256, 2.0)):
        turns = tokens * base ** (-torch.arange(pairs) / pairs) / (2 * math.pi)
        got = tensor_of(f(turns, s), shape=(pairs,))
        free = (turns - 1) / 31
        kept = free.clamp(0, 1)
        right = 1 / (kept + (1 - kept) / s)
        if near(got, right):
            continue
        case = (
            f"With {pairs} pairs, of {float(turns[0]):.0f} to {float(turns[-1]):.2f} turns, and s = {s:.0f}: "
        )
        fail_if(
            near(got, kept + (1 - kept) * s),
            case
            + "you mix the factors. Frequencies are mixed, and a factor is one divided by what comes out.",
        )
        fail_if(
            near(got, 1 / (1 - kept + kept / s)),
            case + "the wrong pairs keep their speed. Those that turn often have shown the model all angles.",
        )
        fail_if(
            near(got, 1 / (free + (1 - free) / s)),
            case
            + f"the share that is kept goes from {float(free.min()):.2f} to {float(free.max()):.2f}. It lies "
            "between 0 and 1.",
        )
        fail_if(
            near(got, torch.full_like(turns, s)),
            case
            + "this is position interpolation. It slows down the fast pairs too, which tell neighbours apart.",
        )
        fail_if(
            near(got, 1 / right),
            case + "this is the mixture. What must a frequency be *divided* by to become it?",
        )
        worst = int((got - right).abs().argmax())
        misconception(
            case
            + f"pair {worst} should have the factor {float(right[worst]):.3f}; yours has {got[worst]:.3f}."
        )


@parts.wrong("mixes the factors", says="you mix the factors")
def by_parts(turns, s):
    kept = ((turns - 1) / 31).clamp(0, 1)
    return kept + (1 - kept) * s


@parts.wrong("the fast ones are slowed", says="the wrong pairs keep their speed")
def by_parts(turns, s):
    slowed = ((turns - 1) / 31).clamp(0, 1)
    return 1 / (1 - slowed + slowed / s)


@parts.wrong("no limits", says="It lies between 0 and 1")
def by_parts(turns, s):
    kept = (turns - 1) / 31
    return 1 / (kept + (1 - kept) / s)


@parts.wrong("position interpolation", says="this is position interpolation")
def by_parts(turns, s):
    return torch.full_like(turns, s)


@parts.wrong("the mixture itself", says="this is the mixture")
def by_parts(turns, s):
    kept = ((turns - 1) / 31).clamp(0, 1)
    return kept + (1 - kept) / s


# --------------------------------------------------------------------------------------------------------------
staleness = Exercise(
    "longrope.stale",
    notebook="08_longrope",
    title="May the cache be used?",
    difficulty=1,
    minutes=10,
    task="""
    A cache holds the keys of `cached` tokens, all turned by the factors that were right for so many. Now `new`
    more tokens come, in one call. Write `is_stale(cached, new, original)`: must the cached tokens be computed
    again? The long factors rule when a text has *more* than `original` tokens.
    """,
    hints=[
        "Were the long factors used for the cached ones? And are they used now?",
        "Stale is a cache whose factors are not those that rule now. Beyond the boundary they agree again.",
        "An empty cache holds nothing that could be wrong.",
    ],
)


@staleness.stub
def is_stale(cached, new, original):
    """three whole numbers of tokens → bool"""
    ...  # your code


@staleness.solution
def is_stale(cached, new, original):
    return 0 < cached <= original < cached + new


@staleness.judge
def judge_staleness(f):
    cases = [(c, n, 8) for c in (0, 1, 5, 7, 8, 9, 20) for n in (1, 2, 3, 12)]
    answers = {}
    for cached, new, original in cases:
        got = f(cached, new, original)
        fail_if(not isinstance(got, bool), f"Return True or False; yours is of type {type(got).__name__}.")
        answers[cached, new] = got
    if all(got == (0 < c <= 8 < c + n) for (c, n), got in answers.items()):
        return

    def same(rule):
        return all(got == rule(c, n) for (c, n), got in answers.items())

    fail_if(
        same(lambda c, n: c <= 8 < c + n),
        "With cached = 0 you compute again what was never computed. An empty cache is never stale.",
    )
    fail_if(
        same(lambda c, n: 0 < c and c + n > 8),
        "With 9 tokens cached and original = 8 you still say True: every further token would compute the whole "
        "text anew. Those keys were made with the long factors already.",
    )
    fail_if(
        same(lambda c, n: 0 < c < 8 <= c + n) or same(lambda c, n: 0 < c <= 8 <= c + n),
        "At cached + new = original = 8 you say True. With 8 tokens the text still fits; the ninth is the first "
        "that does not.",
    )
    fail_if(
        same(lambda c, n: c == 8),
        "You look only at a cache that is full to the boundary. A call may bring many tokens: 5 cached and 12 "
        "new cross it too.",
    )
    fail_if(
        same(lambda c, n: c > 8),
        "You ask whether the *cached* tokens are beyond the boundary. Those are the ones that are right.",
    )
    (c, n), got = next(((c, n), got) for (c, n), got in answers.items() if got != (0 < c <= 8 < c + n))
    misconception(f"With {c} cached, {n} new and original = 8 the answer is {not got}; yours is {got}.")


@staleness.wrong("the empty cache", says="An empty cache is never stale")
def is_stale(cached, new, original):
    return cached <= original < cached + new


@staleness.wrong("for ever", says="every further token")
def is_stale(cached, new, original):
    return cached > 0 and cached + new > original


@staleness.wrong("one too early", says="the ninth is the first")
def is_stale(cached, new, original):
    return 0 < cached < original <= cached + new


@staleness.wrong("token by token only", says="A call may bring many tokens")
def is_stale(cached, new, original):
    return cached == original


@staleness.wrong("the other side", says="Those are the ones that are right")
def is_stale(cached, new, original):
    return cached > original


# --------------------------------------------------------------------------------------------------------------
repairing = Exercise(
    "longrope.repair",
    notebook="08_longrope",
    title="Repair the keys",
    difficulty=3,
    minutes=20,
    task="""
    Instead of computing all again, could one not just turn the stale keys further? Write `repair(keys,
    positions, short, long)`: keys `(heads t c)` as the cache holds them, turned at `positions` `(t)` with the
    speeds `short` `(c/2)`; return them turned with the speeds `long` `(c/2)`. Channel i is paired with channel
    i + c/2. (cos and sin carry the same attention factor before and after, so it needs no attention.)

    When it works: in which layers of a model is that all there is to do? The hint knows.
    """,
    hints=[
        """
        The hand of pair i points to its start plus position · short. By which angle must it be turned further
        to point to its start plus position · long?
        """,
        "It is `rope.move` of notebook 06, with other angles: there the positions changed, here the speeds.",
        """
        In the first layer only. The keys of the others are made from what attention brought together before,
        with the old angles; no turning repairs that, and the values are wrong as well.
        """,
    ],
)


@repairing.stub
def repair(keys, positions, short, long):
    """keys (heads t c), positions (t), short and long (c/2) radians a token → (heads t c)"""
    ...  # your code


@repairing.solution
def repair(keys, positions, short, long):
    angles = positions[:, None] * (long - short)
    first, second = keys.chunk(2, dim=-1)
    cos, sin = angles.cos(), angles.sin()
    return torch.cat((first * cos - second * sin, second * cos + first * sin), dim=-1)


@repairing.judge
def judge_repairing(f):
    def turn(plain, angles):
        return turned(plain[None], angles.cos()[None], angles.sin()[None])[0]

    for heads, t, c, start in ((3, 5, 8, 0), (1, 1, 4, 7), (2, 6, 16, 20)):
        plain, positions = torch.randn(heads, t, c), torch.arange(t) + start
        short = 100 ** (-2 * torch.arange(c // 2) / c)
        long = short / (1.5 + 3 * torch.arange(c // 2))
        keys = turn(plain, positions[:, None] * short)
        got = tensor_of(f(keys, positions, short, long), shape=keys.shape)
        at = positions[:, None]
        if near(got, turn(plain, at * long), 1e-4):
            continue
        case = f"At positions {positions.tolist()}: "
        fail_if(near(got, keys), case + "the keys are as stale as before; nothing has been turned.")
        fail_if(
            near(got, turn(keys, at * long), 1e-4),
            case + "you turn by the new angle, on top of the old one. Turns add up; take the old one away.",
        )
        fail_if(
            near(got, turn(keys, at * (short - long)), 1e-4),
            case + "you turn by short − long, as far as needed but in the wrong direction.",
        )
        fail_if(
            near(got, turn(keys, -at * short), 1e-4),
            case + "these are the keys as if all stood at position 0. One step is missing.",
        )
        fail_if(
            near(got, turn(keys, (long - short).expand(t, -1)), 1e-4),
            case
            + "you turn every key by the same angle. The error of a key grows with its position: that is the trap.",
        )
        fail_if(
            near(got, turn(keys, at * (long / short)), 1e-4),
            case
            + "you divide the speeds. Angles are added and taken away; what is missing is their difference.",
        )
        misconception(case + "the keys are not what the long factors would have made of them.")


@repairing.wrong("on top of the old angle", says="Turns add up")
def repair(keys, positions, short, long):
    angles = positions[:, None] * long
    first, second = keys.chunk(2, dim=-1)
    cos, sin = angles.cos(), angles.sin()
    return torch.cat((first * cos - second * sin, second * cos + first * sin), dim=-1)


@repairing.wrong("in the wrong direction", says="in the wrong direction")
def repair(keys, positions, short, long):
    angles = positions[:, None] * (short - long)
    first, second = keys.chunk(2, dim=-1)
    cos, sin = angles.cos(), angles.sin()
    return torch.cat((first * cos - second * sin, second * cos + first * sin), dim=-1)


@repairing.wrong("only back", says="One step is missing")
def repair(keys, positions, short, long):
    angles = -positions[:, None] * short
    first, second = keys.chunk(2, dim=-1)
    cos, sin = angles.cos(), angles.sin()
    return torch.cat((first * cos - second * sin, second * cos + first * sin), dim=-1)


@repairing.wrong("the same for every key", says="grows with its position")
def repair(keys, positions, short, long):
    angles = (long - short).expand(len(positions), -1)
    first, second = keys.chunk(2, dim=-1)
    cos, sin = angles.cos(), angles.sin()
    return torch.cat((first * cos - second * sin, second * cos + first * sin), dim=-1)


@repairing.wrong("divides the speeds", says="what is missing is their difference")
def repair(keys, positions, short, long):
    angles = positions[:, None] * (long / short)
    first, second = keys.chunk(2, dim=-1)
    cos, sin = angles.cos(), angles.sin()
    return torch.cat((first * cos - second * sin, second * cos + first * sin), dim=-1)


# --------------------------------------------------------------------------------------------------------------
mutation = Exercise(
    "longrope.mutate",
    notebook="08_longrope",
    title="A mutation that keeps the rule",
    difficulty=2,
    minutes=15,
    task="""
    Write `mutate(factors, largest, change, draw)`, the search's mutation. `factors` is a list that never falls,
    from 1 to at most `largest`; `change` says for each pair whether it is drawn anew, and `draw` gives its lot
    between 0 and 1: 0 is the lowest factor that is allowed, 1 the highest. Go from left to right. Allowed is what
    lies between the neighbours *as they are then*; the first pair has 1 for its left neighbour, the last has
    `largest` for its right one.
    """,
    hints=[
        "With `row = [1.0, *factors, largest]` every pair has two neighbours.",
        "Between low and high: `low + lot * (high - low)`.",
        "When pair 3 has been changed, pair 4 must not fall below the *new* pair 3. So write into the row at once.",
    ],
)


@mutation.stub
def mutate(factors, largest, change, draw):
    """factors, change (bool) and draw (0 … 1): lists of r → list of r"""
    ...  # your code


@mutation.solution
def mutate(factors, largest, change, draw):
    row = [1.0, *factors, largest]
    for place in range(1, len(row) - 1):
        if change[place - 1]:
            low, high = row[place - 1], row[place + 1]
            row[place] = low + draw[place - 1] * (high - low)
    return row[1:-1]


def _mutated(factors, largest, change, draw, fresh=True, ends=(1.0, None)):
    """What `mutate` should do, or does wrong with old neighbours or other ends."""
    old = [ends[0], *factors, largest if ends[1] is None else ends[1]]
    row = list(old)
    for place in range(1, len(row) - 1):
        if change[place - 1]:
            low, high = (row if fresh else old)[place - 1], old[place + 1]
            row[place] = low + draw[place - 1] * (high - low)
    return row[1:-1]


@mutation.judge
def judge_mutation(f):
    cases = (
        ([1.0, 2.0, 4.0, 8.0], 10.0, [False, True, False, False], [0.5, 0.25, 0.5, 0.5]),
        ([2.0, 2.0, 4.0, 8.0], 10.0, [True, False, False, True], [0.5, 0.5, 0.5, 1.0]),
        ([1.0, 2.0, 4.0, 8.0], 10.0, [False, True, True, False], [0.5, 1.0, 0.0, 0.5]),
        ([1.5, 3.0, 3.0], 40.0, [True, True, True], [0.9, 0.4, 0.7]),
        ([5.0], 40.0, [True], [0.5]),
    )
    for factors, largest, change, draw in cases:
        got = f(list(factors), largest, list(change), list(draw))
        fail_if(got is None, "There is no result: it is None. Does every path `return` one?")
        kind = type(got).__name__
        fail_if(not isinstance(got, list | tuple), f"Return a list; yours is of type {kind}.")
        fail_if(len(got) != len(factors), f"For {len(factors)} factors you return {len(got)}; it is as many.")
        got = torch.tensor([number_of(one, name="factor") for one in got], dtype=torch.float64)
        right = torch.tensor(_mutated(factors, largest, change, draw), dtype=torch.float64)
        if near(got, right):
            continue
        case = f"factors {factors}, change {change}, draw {draw}: "

        def is_(*more, got=got, **ways):
            return near(got, torch.tensor(_mutated(*more, **ways), dtype=torch.float64))

        fail_if(
            is_(factors, largest, [True] * len(factors), draw),
            case + "you draw all pairs anew. Where `change` is False the factor stays.",
        )
        fail_if(
            is_(factors, largest, change, draw, fresh=False),
            case
            + "the left neighbour had been changed, and you look at its old factor. So the row may fall.",
        )
        fail_if(
            is_([1.0] * len(factors), largest, change, draw)
            or near(
                got,
                torch.tensor(
                    [
                        1 + lot * (largest - 1) if new else old
                        for old, new, lot in zip(factors, change, draw, strict=True)
                    ],
                    dtype=torch.float64,
                ),
            ),
            case
            + "you draw from all that is possible, and the row falls. Between its neighbours, no further.",
        )
        fail_if(
            is_(factors, largest, change, draw, ends=(factors[0], factors[-1])),
            case
            + f"the ends cannot move outwards. Left of the first stands 1, right of the last {largest:.0f}.",
        )
        falls = bool((got[1:] < got[:-1] - 1e-9).any())
        misconception(
            case
            + f"it should be {[round(x, 2) for x in right.tolist()]}; yours is {[round(x, 2) for x in got.tolist()]}"
            + (", which falls." if falls else ".")
        )


@mutation.wrong("all pairs", says="you draw all pairs anew")
def mutate(factors, largest, change, draw):
    row = [1.0, *factors, largest]
    for place in range(1, len(row) - 1):
        row[place] = row[place - 1] + draw[place - 1] * (row[place + 1] - row[place - 1])
    return row[1:-1]


@mutation.wrong("the old neighbours", says="you look at its old factor")
def mutate(factors, largest, change, draw):
    old = [1.0, *factors, largest]
    row = list(old)
    for place in range(1, len(row) - 1):
        if change[place - 1]:
            row[place] = old[place - 1] + draw[place - 1] * (old[place + 1] - old[place - 1])
    return row[1:-1]


@mutation.wrong("anywhere", says="you draw from all that is possible")
def mutate(factors, largest, change, draw):
    return [
        1 + lot * (largest - 1) if new else old for old, new, lot in zip(factors, change, draw, strict=True)
    ]


@mutation.wrong("no room at the ends", says="the ends cannot move outwards")
def mutate(factors, largest, change, draw):
    row = [factors[0], *factors, factors[-1]]
    for place in range(1, len(row) - 1):
        if change[place - 1]:
            row[place] = row[place - 1] + draw[place - 1] * (row[place + 1] - row[place - 1])
    return row[1:-1]
