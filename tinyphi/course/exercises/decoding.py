"""Exercises of notebook 11: from scores to a text."""

import torch

from tinyphi.course.exercise import Exercise, fail_if, misconception, near, tensor_of

# ---------------------------------------------------------------------------------------------------------------
temperature = Exercise(
    "decoding.temperature",
    notebook="11_decoding",
    title="Temperature without logits",
    difficulty=1,
    minutes=10,
    task="""
    A service gives you probabilities instead of logits, and you want another temperature. Write
    `at_temperature(probabilities, temperature)`: probabilities `(v)` at temperature 1 in, probabilities `(v)` at the
    new temperature out. A token with probability 0 keeps 0.
    """,
    hints=[
        "Logits would be divided by T. What are the logits, up to a constant, if you know the probabilities?",
        "exp(log p / T) can be written without log and exp.",
        "The result must add up to 1 again.",
    ],
)


@temperature.stub
def at_temperature(probabilities, temperature):
    """(v), a number above 0 → (v)"""
    ...  # your code


@temperature.solution
def at_temperature(probabilities, temperature):
    powers = probabilities ** (1 / temperature)
    return powers / powers.sum()


@temperature.judge
def judge_temperature(f):
    for p in (torch.tensor([0.5, 0.3, 0.2]), torch.tensor([0.7, 0.2, 0.1, 0.0]), torch.randn(9).softmax(-1)):
        for t in (0.5, 1.0, 2.0):
            got = tensor_of(f(p.clone(), t), shape=p.shape, name="distribution")
            powers = p ** (1 / t)
            wanted = powers / powers.sum()
            fail_if(
                got.isnan().any(),
                "There is a nan in your result. A probability of 0 has the logarithm −∞; a power of 0 is harmless.",
            )
            fail_if(
                near(got, powers) and not near(powers, wanted),
                f"Your numbers add up to {got.sum():.3f}. A power of probabilities is no distribution yet.",
            )
            fail_if(
                t != 1 and (near(got, p) or near(got, p / t)),
                f"At temperature {t} you return the distribution you were given, or a multiple of it. Dividing "
                "*probabilities* by T and dividing by their sum cancels; it is the logits, the logarithms, that T divides.",
            )
            fail_if(
                near(got, (p / t).softmax(-1)),
                "You take the softmax of probabilities. It is made for logits; of numbers between 0 and 1 it makes "
                "something nearly uniform, and even at T = 1 the distribution changes.",
            )
            fail_if(
                t != 1 and near(got, p**t / (p**t).sum()),
                f"At temperature {t} yours is {'flatter' if t < 1 else 'sharper'} than before: it works the wrong way "
                "round. Below 1 the distribution must become sharper.",
            )
            fail_if(
                not near(got, wanted),
                f"For {[round(x, 2) for x in p.tolist()]} and T = {t} the result should begin with {wanted[0]:.3f}; "
                f"yours begins with {got[0]:.3f}.",
            )


@temperature.wrong("divides the probabilities", says="cancels")
def at_temperature(probabilities, temperature):
    scaled = probabilities / temperature
    return scaled / scaled.sum()


@temperature.wrong("softmax of probabilities", says="softmax of probabilities")
def at_temperature(probabilities, temperature):
    return torch.softmax(probabilities / temperature, dim=-1)


@temperature.wrong("the wrong way round", says="the wrong way")
def at_temperature(probabilities, temperature):
    powers = probabilities**temperature
    return powers / powers.sum()


@temperature.wrong("does not add up", says="no distribution yet")
def at_temperature(probabilities, temperature):
    return probabilities ** (1 / temperature)


@temperature.wrong("nan from the impossible", says="logarithm −∞")
def at_temperature(probabilities, temperature):
    logs = probabilities.log()
    logs = logs - logs.mean()
    return torch.softmax(logs / temperature, dim=-1)


# ---------------------------------------------------------------------------------------------------------------
top_p = Exercise(
    "decoding.top_p",
    notebook="11_decoding",
    title="The nucleus, in place",
    difficulty=2,
    minutes=15,
    task="""
    Write `nucleus(probabilities, p)`: probabilities `(v)` in any order and 0 < p ≤ 1 in, a mask `(v)` of bool out, in
    the same order: True for the smallest set of most probable tokens whose probabilities add up to at least p. At least
    one token stays, whatever p is.
    """,
    hints=[
        "`probabilities.sort(descending=True)` gives the values and `order`: place k of the sorted list came from "
        "place `order[k]`.",
        "A token stays if what is *before* it in the sorted list does not yet reach p. The running total without the "
        "token itself is `values.cumsum(0) - values`.",
        "Back to the old places: make an empty mask and write `mask[order] = stays`.",
    ],
)


@top_p.stub
def nucleus(probabilities, p):
    """(v), a number → (v) bool"""
    ...  # your code


@top_p.solution
def nucleus(probabilities, p):
    values, order = probabilities.sort(descending=True)
    mask = torch.zeros_like(probabilities, dtype=torch.bool)
    mask[order] = values.cumsum(0) - values < p
    return mask


def _masks(probabilities, p):
    """The right mask in place, the same in sorted order, without the crossing token, and of the least probable."""
    values, order = probabilities.double().sort(descending=True)
    before = values.cumsum(0) - values
    stays = before < p
    short = before + values <= p
    least = values.flip(0).cumsum(0) - values.flip(0) < p
    back = order.argsort()
    return stays[back], stays, short[back], least.flip(0)[back]


@top_p.judge
def judge_top_p(f):
    cases = [
        (torch.tensor([0.1, 0.4, 0.05, 0.25, 0.2]), 0.8),
        (torch.tensor([0.02, 0.9, 0.08]), 0.5),
        (torch.tensor([0.12, 0.16, 0.1, 0.14, 0.13, 0.15, 0.09, 0.11]), 0.4),
        (torch.tensor([0.25, 0.125, 0.5, 0.125]), 0.75),
        ((2 * torch.randn(40)).softmax(-1), 0.9),
    ]
    for probabilities, p in cases:
        got = tensor_of(f(probabilities.clone(), p), shape=probabilities.shape, dtype=torch.bool, name="mask")
        wanted, in_order, short, least = _masks(probabilities, p)
        where = f"For {[round(x, 3) for x in probabilities[:5].tolist()]}{' …' if len(probabilities) > 5 else ''} and p = {p}: "
        fail_if(
            not got.any(),
            where
            + "nothing stays. The most probable token alone already exceeds p, and it must be kept: from "
            "nothing, nothing can be drawn.",
        )
        fail_if(
            torch.equal(got, short) and not torch.equal(short, wanted),
            where + "your set does not reach p. The token that carries the total over p belongs to it.",
        )
        fail_if(
            torch.equal(got, in_order) and not torch.equal(in_order, wanted),
            where
            + "you keep the right number of tokens, but the mask is in sorted order. Token 0 is not the most "
            "probable one; put each answer back in its token's place.",
        )
        fail_if(
            torch.equal(got, least) and not torch.equal(least, wanted),
            where + "you begin with the *least* probable tokens. Sorting goes upwards unless told otherwise.",
        )
        fail_if(
            not torch.equal(got, wanted)
            and torch.equal(got, (probabilities >= 1 - p) | (probabilities == probabilities.max())),
            where
            + "you compare each probability with 1 − p. The nucleus is a matter of the running total, not of "
            "one token's size.",
        )
        fail_if(
            not torch.equal(got, wanted),
            where + f"you keep {int(got.sum())} tokens with {probabilities[got].sum():.2f} in total; "
            f"{int(wanted.sum())} with {probabilities[wanted].sum():.2f} are right.",
        )
    one = tensor_of(f(torch.tensor([1.0]), 1.0), shape=(1,), dtype=torch.bool, name="mask")
    fail_if(not one.all(), "With p = 1 and a single token, it must stay.")


@top_p.wrong("stops before p", says="does not reach p")
def nucleus(probabilities, p):
    values, order = probabilities.sort(descending=True)
    mask = torch.zeros_like(probabilities, dtype=torch.bool)
    mask[order] = values.cumsum(0) <= p
    mask[order[0]] = True
    return mask


@top_p.wrong("may keep nothing", says="nothing stays")
def nucleus(probabilities, p):
    values, order = probabilities.sort(descending=True)
    mask = torch.zeros_like(probabilities, dtype=torch.bool)
    crossed = (values.cumsum(0) >= p).int().argmax()
    mask[order[:crossed]] = True
    if crossed > 0:
        mask[order[crossed]] = True
    return mask


@top_p.wrong("left in sorted order", says="in sorted order")
def nucleus(probabilities, p):
    values, _ = probabilities.sort(descending=True)
    return values.cumsum(0) - values < p


@top_p.wrong("from the bottom", says="least")
def nucleus(probabilities, p):
    values, order = probabilities.sort()
    mask = torch.zeros_like(probabilities, dtype=torch.bool)
    mask[order] = values.cumsum(0) - values < p
    return mask


@top_p.wrong("compares single tokens", says="running total")
def nucleus(probabilities, p):
    mask = probabilities >= 1 - p
    mask[probabilities.argmax()] = True
    return mask


# ---------------------------------------------------------------------------------------------------------------
penalty = Exercise(
    "decoding.repetition_penalty",
    notebook="11_decoding",
    title="Less of the same",
    difficulty=2,
    minutes=10,
    task="""
    Write `penalise(logits, previous, penalty)`: logits `(v)`, `previous` a tensor `(n)` of the ids so far, which may
    contain an id several times, and a penalty above 1. Return new logits `(v)`: every token that occurred becomes less
    likely, by division if its logit is positive, by multiplication if it is negative, and once, however often it
    occurred. The tensor you were given stays as it is.
    """,
    hints=[
        "What does dividing −2 by 2 do to its place among the others?",
        "`torch.where(logits > 0, a, b)` chooses for each element.",
        "Take the penalised value only at `previous`: `new = logits.clone()`, then `new[previous] = …[previous]`. "
        "Writing the same value twice does no harm.",
    ],
)


@penalty.stub
def penalise(logits, previous, penalty):
    """(v), (n) ids, a number above 1 → (v)"""
    ...  # your code


@penalty.solution
def penalise(logits, previous, penalty):
    penalised = torch.where(logits > 0, logits / penalty, logits * penalty)
    result = logits.clone()
    result[previous] = penalised[previous]
    return result


@penalty.judge
def judge_penalty(f):
    empty = torch.empty(0, dtype=torch.int64)
    for logits, previous, by in (
        (torch.tensor([3.0, 1.0, -2.0, 0.5]), torch.tensor([0, 3]), 2.0),
        (torch.tensor([3.0, 1.0, -2.0, 0.5]), torch.tensor([0, 2]), 2.0),
        (torch.tensor([3.0, 1.0, -2.0, 0.5]), torch.tensor([0, 2, 0, 0]), 1.5),
        (torch.randn(20), torch.randint(0, 20, (15,)), 1.2),
        (torch.randn(5), empty, 1.3),
    ):
        got = tensor_of(f(logits.clone(), previous.clone(), by), shape=logits.shape, name="logits")
        wanted = logits.clone()
        wanted[previous] = torch.where(logits > 0, logits / by, logits * by)[previous]
        divided = logits.clone()
        divided[previous] = (logits / by)[previous]
        others = torch.ones_like(logits, dtype=torch.bool)
        others[previous] = False
        fail_if(
            near(got, divided) and not near(divided, wanted),
            "You divide negative logits too. −2 divided by 2 is −1: this token has become *more* likely for having "
            "occurred.",
        )
        fail_if(
            not near(got[others], logits[others]),
            "Tokens that never occurred have changed as well. Only the ids in `previous` are penalised.",
        )
        fail_if(
            not near(got, wanted) and near(got, _penalised_each_time(logits, previous, by)),
            "A token that occurred three times is penalised three times. Here it counts once.",
        )
        fail_if(
            not near(got, wanted),
            f"For logits {[round(x, 2) for x in logits[:4].tolist()]}, previous {previous[:4].tolist()} and penalty {by} "
            f"the result should begin {[round(x, 2) for x in wanted[:4].tolist()]}; yours begins "
            f"{[round(x, 2) for x in got[:4].tolist()]}.",
        )


def _penalised_each_time(logits, previous, by):
    result = logits.clone()
    for token in previous.tolist():
        result[token] = result[token] / by if result[token] > 0 else result[token] * by
    return result


@penalty.wrong("divides whatever the sign", says="*more* likely")
def penalise(logits, previous, penalty):
    result = logits.clone()
    result[previous] = logits[previous] / penalty
    return result


@penalty.wrong("once for each time", says="three times")
def penalise(logits, previous, penalty):
    result = logits.clone()
    for token in previous.tolist():
        result[token] = result[token] / penalty if result[token] > 0 else result[token] * penalty
    return result


@penalty.wrong("changes what it was given", says="changes a tensor")
def penalise(logits, previous, penalty):
    logits[previous] = torch.where(logits > 0, logits / penalty, logits * penalty)[previous]
    return logits


@penalty.wrong("everybody pays", says="never occurred")
def penalise(logits, previous, penalty):
    return torch.where(logits > 0, logits / penalty, logits * penalty)


# ---------------------------------------------------------------------------------------------------------------
drawing = Exercise(
    "decoding.draw",
    notebook="11_decoding",
    title="From one random number to a token",
    difficulty=2,
    minutes=15,
    task="""
    Write `draw(probabilities, u)`: probabilities `(v)` and `u` `(n)`, n random numbers with 0 ≤ u < 1, in; n ids `(n)`
    int64 out, one for each number. Lay the tokens side by side on the line from 0 to 1, token 0 first, each as wide as
    its probability: a number takes the token on whose piece it falls. A token's piece has its left end, not its right
    one, so a token with probability 0 is never drawn.
    """,
    hints=[
        "The right ends of the pieces are `probabilities.cumsum(0)`.",
        "u falls on token k if exactly k of the right ends are at most u.",
        "`torch.searchsorted(ends, u, right=True)` counts them; so does a comparison of `(n 1)` with `(v)` and a sum.",
    ],
)


@drawing.stub
def draw(probabilities, u):
    """(v), (n) → (n) int64"""
    ...  # your code


@drawing.solution
def draw(probabilities, u):
    return torch.searchsorted(probabilities.cumsum(0), u, right=True)


@drawing.judge
def judge_draw(f):
    cases = [
        (torch.tensor([0.5, 0.25, 0.25]), torch.tensor([0.1, 0.6, 0.9, 0.3])),
        (torch.tensor([0.125, 0.625, 0.25]), torch.tensor([0.0, 0.125, 0.7, 0.75, 0.99])),
        (torch.tensor([0.0, 0.5, 0.0, 0.5]), torch.tensor([0.0, 0.25, 0.5, 0.9])),
        (torch.tensor([0.25, 0.25, 0.25, 0.25]), torch.rand(30)),
    ]
    for probabilities, u in cases:
        got = tensor_of(f(probabilities.clone(), u.clone()), shape=u.shape, dtype=torch.int64, name="ids")
        ends = probabilities.cumsum(0)
        wanted = torch.searchsorted(ends, u, right=True)
        where = f"For probabilities {probabilities.tolist()}: "
        outside = got[(got < 0) | (got >= len(probabilities))].tolist()
        fail_if(
            outside,
            where
            + f"you return the id {outside[:1]}, which does not exist. How many right ends can there be to the left "
            "of a number below 1?",
        )
        if torch.equal(got, wanted):
            continue
        fail_if(
            torch.equal(got, torch.full_like(got, int(probabilities.argmax()))),
            where + "every number gets the most probable token. That is greedy; here the chance decides.",
        )
        fail_if(
            torch.equal(got, (u * len(probabilities)).long()),
            where
            + "all tokens come equally often with yours. Their pieces are as wide as their probabilities.",
        )
        number = int((got != wanted).int().argmax())
        fail_if(
            torch.equal(got, torch.searchsorted(ends, u)),
            where
            + f"with u = {u[number]:.3f}, exactly on a border, you take the token to the left of it. So a token "
            "with probability 0 can be drawn.",
        )
        misconception(
            where
            + f"u = {u[number]:.3f} falls on token {int(wanted[number])}, and you say {int(got[number])}. The "
            f"pieces end at {[round(end, 3) for end in ends.tolist()]}."
        )


@drawing.wrong("greedy", says="That is greedy")
def draw(probabilities, u):
    return probabilities.argmax().expand(len(u))


@drawing.wrong("all alike", says="equally often")
def draw(probabilities, u):
    return (u * len(probabilities)).long()


@drawing.wrong("the border belongs to the left", says="exactly on a border")
def draw(probabilities, u):
    return torch.searchsorted(probabilities.cumsum(0), u)


@drawing.wrong("sorted first", says="The pieces end at")
def draw(probabilities, u):
    return torch.searchsorted(probabilities.sort().values.cumsum(0), u, right=True)


# ---------------------------------------------------------------------------------------------------------------
stop = Exercise(
    "decoding.stop",
    notebook="11_decoding",
    title="A reply that ends",
    difficulty=1,
    minutes=10,
    task="""
    Write the loop. `reply(next_token, prompt, stop_ids, most)`: `next_token(ids)` gives the next id for a list of ids.
    Begin with the list `prompt`, and return the list of the *new* ids, without the stop id. End at any of the
    `stop_ids` (a tuple), or when there are `most` new ids. Call `next_token` no more often than needed.
    """,
    hints=[
        "`for _ in range(most):` ends by itself.",
        "`next_token` must see the prompt *and* what is new: `next_token(prompt + new)`.",
        "Look at the token before you append it: `if token in stop_ids: break`.",
    ],
)


@stop.stub
def reply(next_token, prompt, stop_ids, most):
    """a function, a list, a tuple, a number → the list of new ids"""
    ...  # your code


@stop.solution
def reply(next_token, prompt, stop_ids, most):
    new = []
    for _ in range(most):
        token = next_token(prompt + new)
        if token in stop_ids:
            break
        new.append(token)
    return new


class _Script:
    """A model that says fixed tokens, and remembers what it was asked."""

    def __init__(self, prompt, says):
        self.prompt, self.says, self.asked = prompt, says, []

    def __call__(self, ids):
        self.asked.append(list(ids))
        if len(self.asked) > len(self.says):
            misconception(
                "Your loop goes on after all that was expected of it: it neither stops at a stop id nor at `most`."
            )
        return self.says[len(self.asked) - 1]


@stop.judge
def judge_stop(f):
    long = list(range(20, 40))
    for prompt, says, stops, most, wanted in (
        ([5, 6], [7, 8, 9, *long], (0,), 3, [7, 8, 9]),
        ([5, 6], [7, 8, 0, *long], (0, 2), 10, [7, 8]),
        ([5, 6], [7, 8, 2, *long], (0, 2), 10, [7, 8]),
        ([5, 2, 6], [7, 0, *long], (2, 0), 10, [7]),
        ([5, 6], [0, *long], (0,), 4, []),
    ):
        model = _Script(prompt, says)
        given = list(prompt)
        got = f(model, given, stops, most)
        fail_if(
            not isinstance(got, list), f"The result should be a list of ids; yours is a {type(got).__name__}."
        )
        case = f"Prompt {prompt}, the model says {says[: len(wanted) + 2]} …, stop ids {stops}, most {most}: "
        fail_if(
            any(
                asked[: len(prompt)] != prompt or asked[len(prompt) :] != says[:number]
                for number, asked in enumerate(model.asked)
            ),
            case + "the model must see the prompt and all new tokens at every step; in your loop it saw "
            f"{model.asked[-1:]} in the end.",
        )
        fail_if(
            got == [*prompt, *wanted] and got != wanted,
            case + "you return the prompt as well. Only the new ids are asked for.",
        )
        fail_if(
            len(got) == len(wanted) + 1 and got[:-1] == wanted and got[-1] in stops,
            case
            + f"the stop id {got[-1:]} is in your reply. It would be shown to the user, or fed back in the next turn.",
        )
        fail_if(
            got != wanted and len(got) > len(wanted) and len(got) <= most,
            case
            + f"your reply goes on after {says[len(wanted) : len(wanted) + 1]}. *Any* of the stop ids ends it, not only the first.",
        )
        fail_if(
            got != wanted and len(got) > most,
            case + f"your reply has {len(got)} tokens, more than `most`.",
        )
        fail_if(got != wanted, case + f"the reply should be {wanted}; yours is {got}.")
        fail_if(
            len(model.asked) > min(len(wanted) + 1, most),
            case
            + f"you asked the model {len(model.asked)} times. What it says after the last token is thrown away, and "
            "each question costs a whole pass through the model.",
        )


@stop.wrong("only the first stop id", says="not only the first")
def reply(next_token, prompt, stop_ids, most):
    new = []
    for _ in range(most):
        token = next_token(prompt + new)
        if token == stop_ids[0]:
            break
        new.append(token)
    return new


@stop.wrong("keeps the stop id", says="is in your reply")
def reply(next_token, prompt, stop_ids, most):
    new = []
    while len(new) < most:
        new.append(next_token(prompt + new))
        if new[-1] in stop_ids:
            break
    return new


@stop.wrong("returns the prompt", says="the prompt as well")
def reply(next_token, prompt, stop_ids, most):
    ids = list(prompt)
    for _ in range(most):
        token = next_token(ids)
        if token in stop_ids:
            break
        ids.append(token)
    return ids


@stop.wrong("forgets the prompt", says="must see the prompt")
def reply(next_token, prompt, stop_ids, most):
    new = []
    for _ in range(most):
        token = next_token(new or prompt)
        if token in stop_ids:
            break
        new.append(token)
    return new


@stop.wrong("asks once too often", says="thrown away")
def reply(next_token, prompt, stop_ids, most):
    new = []
    token = next_token(list(prompt))
    while token not in stop_ids and len(new) < most:
        new.append(token)
        token = next_token(prompt + new)
    return new


@stop.wrong("one too many", says="more than `most`")
def reply(next_token, prompt, stop_ids, most):
    new = []
    while len(new) <= most:
        token = next_token(prompt + new)
        if token in stop_ids:
            break
        new.append(token)
    return new
