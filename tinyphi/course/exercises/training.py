"""Exercises of notebook 22: the learning rate of each step, a budget, clipping, AdamW."""

import math

import torch

from tinyphi.course.exercise import Exercise, fail_if, misconception, near, number_of, tensor_of

# --------------------------------------------------------------------------------------------------------------
rate = Exercise(
    "training.rate_at",
    notebook="22_train_a_tiny_phi",
    title="Up in a line, down along a cosine",
    difficulty=1,
    minutes=10,
    task="""
    Write `rate_at(step, steps, warmup, highest)`, the learning rate of a step; steps count from 1 to `steps`. It
    grows in a line, so that step `warmup` is the first to have `highest`. Then it falls along half a cosine, and
    the last step has a tenth of `highest`. `warmup` may be 0: then there is only the fall, of which step 0 would
    be the beginning.
    """,
    hints=[
        "Two cases: `step < warmup`, and the others. In the first, which share of the way up is done?",
        "After the warm-up, which share of the fall is done? `(step - warmup) / (steps - warmup)`.",
        "`0.5 * (1 + math.cos(math.pi * share))` goes from 1 to 0. It has to go from 1 to 0.1.",
    ],
)


@rate.stub
def rate_at(step, steps, warmup, highest):
    """three whole numbers and the highest rate → the rate of that step"""
    ...  # your code


@rate.solution
def rate_at(step, steps, warmup, highest):
    if step < warmup:
        return highest * step / warmup
    share = (step - warmup) / (steps - warmup)
    return highest * (0.1 + 0.9 * 0.5 * (1 + math.cos(math.pi * share)))


def _rates(steps, warmup, highest, *, first=1, lowest=0.1, begin=None, half=1.0):
    """The right answer for all steps, or one of another first step, lowest share, begin of the fall."""
    begin, found = warmup if begin is None else begin, []
    for step in range(first, steps + first):
        share = (step - begin) / (steps - begin)
        fall = lowest + (1 - lowest) * 0.5 * (1 + math.cos(half * math.pi * share))
        found.append(highest * (step / warmup if step < warmup else fall))
    return torch.tensor(found)


@rate.judge
def judge_rate(f):
    for steps, warmup, highest in ((12, 4, 0.01), (9, 0, 1.0), (40, 10, 3e-3)):
        numbers = [number_of(f(step, steps, warmup, highest), name="rate") for step in range(1, steps + 1)]
        got, right = torch.tensor(numbers), _rates(steps, warmup, highest)
        if near(got, right):
            continue
        case = f"{steps} steps, {warmup} of them warm-up, highest rate {highest:g}: "
        fail_if(
            near(got, _rates(steps, warmup, highest, first=0)),
            f"{case}your steps count from 0, so the first one has a rate of {numbers[0]:g}.",
        )
        fail_if(
            near(got, _rates(steps, warmup, highest, lowest=0.0)),
            f"{case}it falls to 0. The last step should still have a tenth of the highest rate.",
        )
        fail_if(
            near(got, _rates(steps, warmup, highest, begin=0)),
            f"{case}your fall begins with the first step, so that step {warmup} does not have the highest rate. "
            "It begins where the warm-up ends.",
        )
        fail_if(
            near(got, _rates(steps, warmup, highest, half=2.0)),
            f"{case}the rate falls and then rises again to the highest one: that is a whole cosine.",
        )
        fail_if(
            warmup and near(got[warmup:], right[warmup:]),
            f"{case}the fall is right, the warm-up is not: step 1 should have {right[0]:g}, yours {numbers[0]:g}.",
        )
        line = highest * (1 - 0.9 * (torch.arange(1, steps + 1) - warmup) / (steps - warmup))
        fail_if(
            near(got[max(0, warmup - 1) :], line[max(0, warmup - 1) :]),
            f"{case}it falls in a line. A cosine is slow at both ends and fast in the middle.",
        )
        worst = int((got - right).abs().argmax())
        misconception(
            f"{case}step {worst + 1} should have {right[worst]:.4g}; yours has {numbers[worst]:.4g}."
        )


@rate.wrong("from 0", says="your steps count from 0")
def rate_at(step, steps, warmup, highest):
    if step - 1 < warmup:
        return highest * (step - 1) / warmup
    share = (step - 1 - warmup) / (steps - warmup)
    return highest * (0.1 + 0.9 * 0.5 * (1 + math.cos(math.pi * share)))


@rate.wrong("to zero", says="it falls to 0")
def rate_at(step, steps, warmup, highest):
    if step < warmup:
        return highest * step / warmup
    share = (step - warmup) / (steps - warmup)
    return highest * 0.5 * (1 + math.cos(math.pi * share))


@rate.wrong("over all steps", says="your fall begins with the first step")
def rate_at(step, steps, warmup, highest):
    if step < warmup:
        return highest * step / warmup
    return highest * (0.1 + 0.9 * 0.5 * (1 + math.cos(math.pi * step / steps)))


@rate.wrong("a whole cosine", says="a whole cosine")
def rate_at(step, steps, warmup, highest):
    if step < warmup:
        return highest * step / warmup
    share = (step - warmup) / (steps - warmup)
    return highest * (0.1 + 0.9 * 0.5 * (1 + math.cos(2 * math.pi * share)))


@rate.wrong("no warm-up", says="the warm-up is not")
def rate_at(step, steps, warmup, highest):
    if step < warmup:
        return highest
    share = (step - warmup) / (steps - warmup)
    return highest * (0.1 + 0.9 * 0.5 * (1 + math.cos(math.pi * share)))


@rate.wrong("in a line", says="it falls in a line")
def rate_at(step, steps, warmup, highest):
    if step < warmup:
        return highest * step / warmup
    return highest * (1 - 0.9 * (step - warmup) / (steps - warmup))


# --------------------------------------------------------------------------------------------------------------
size = Exercise(
    "training.best_size",
    notebook="22_train_a_tiny_phi",
    title="How large a model for this budget?",
    difficulty=1,
    minutes=10,
    task="""
    You may spend so many floating-point operations (`flops`) on training, once. Write `best_size(flops)`, which
    returns a pair by the two rules of thumb: parameters and tokens, so that training takes 6 · parameters ·
    tokens operations, and there are 20 tokens for each parameter.
    """,
    hints=[
        "Put tokens = 20 · parameters into the first rule. What is left to find?",
        "flops = 120 · parameters². Check your answer: multiply it out again.",
    ],
)


@size.stub
def best_size(flops):
    """floating-point operations → a pair: parameters, tokens"""
    ...  # your code


@size.solution
def best_size(flops):
    parameters = (flops / 120) ** 0.5
    return parameters, 20 * parameters


@size.judge
def judge_size(f):
    for flops in (5.88e23, 1.2e14, 1.2e20):
        pair = f(flops)
        if not isinstance(pair, (tuple, list)) or len(pair) != 2:
            misconception("Return a pair: the parameters, then the tokens.")
        parameters, tokens = (
            number_of(pair[0], name="number of parameters"),
            number_of(pair[1], name="tokens"),
        )
        right = (flops / 120) ** 0.5
        if near(parameters, right) and near(tokens, 20 * right):
            continue
        case = f"For {flops:.3g} operations you train {parameters:.3g} parameters on {tokens:.3g} tokens: "
        fail_if(
            near(parameters, 20 * right) and near(tokens, right),
            case + "the two have changed places. There are more tokens than parameters.",
        )
        fail_if(
            near(tokens, 20 * parameters) and near(parameters, flops / 120),
            case
            + "twice the operations do not pay for twice the parameters *and* twice the tokens. Take a root.",
        )
        fail_if(
            near(tokens, 20 * parameters) and near(2 * parameters * tokens, flops),
            case + "that is 2 operations for each parameter and token, which is the forward pass alone. The "
            "gradients take twice as much again.",
        )
        fail_if(
            near(6 * parameters * tokens, flops),
            case
            + f"the operations are right, but these are {tokens / parameters:.3g} tokens for each parameter.",
        )
        misconception(case + f"that takes {6 * parameters * tokens:.3g} operations.")


@size.wrong("forward only", says="the forward pass alone")
def best_size(flops):
    parameters = (flops / 40) ** 0.5
    return parameters, 20 * parameters


@size.wrong("no root", says="Take a root")
def best_size(flops):
    return flops / 120, flops / 6


@size.wrong("changed places", says="have changed places")
def best_size(flops):
    parameters = (flops / 120) ** 0.5
    return 20 * parameters, parameters


@size.wrong("as many as parameters", says="the operations are right")
def best_size(flops):
    parameters = (flops / 6) ** 0.5
    return parameters, parameters


@size.wrong("a root of the six only", says="that takes")
def best_size(flops):
    parameters = (flops / 6) ** 0.5
    return parameters, 20 * parameters


# --------------------------------------------------------------------------------------------------------------
clipping = Exercise(
    "training.clip",
    notebook="22_train_a_tiny_phi",
    title="A shorter step in the same direction",
    difficulty=2,
    minutes=15,
    task="""
    Write `clip(gradients, largest)` for a list of tensors of any shapes: the gradients of all parameters. If
    their norm, taken as *one* long vector, is above `largest`, make all of them smaller by the same factor, so that
    it is `largest`. Otherwise they stay as they are. Return the list of new tensors.
    """,
    hints=[
        "The norm of one long vector is the root of the sum of all squares, whichever tensor they are in.",
        "The factor is `largest / norm`. When must it not be used?",
    ],
)


@clipping.stub
def clip(gradients, largest):
    """a list of tensors, a number → a list of tensors of the same shapes"""
    ...  # your code


@clipping.solution
def clip(gradients, largest):
    norm = sum((gradient**2).sum() for gradient in gradients) ** 0.5
    factor = min(1.0, largest / float(norm))
    return [gradient * factor for gradient in gradients]


@clipping.judge
def judge_clipping(f):
    for sizes, largest in (((0.5, 4.0), 1.0), ((0.01, 0.02, 0.03), 1.0), ((3.0, 3.0, 0.1), 2.5)):
        given = [size * torch.randn(3, 2 + number) for number, size in enumerate(sizes)]
        norms = torch.stack([one.norm() for one in given])
        whole = norms.norm()
        got = f([one.clone() for one in given], largest)
        if not isinstance(got, (list, tuple)) or len(got) != len(given):
            misconception(f"Return a list of {len(given)} tensors, one for each that came.")
        for one, was in zip(got, given, strict=True):
            tensor_of(one, shape=was.shape, name="gradient")
        _judge_clipped(_long(got), given, norms, largest, f"norm {whole:.3g}, at most {largest:g}: ")


def _long(gradients):
    return torch.cat([one.flatten() for one in gradients])


def _judge_clipped(got, given, norms, largest, case):
    long, whole = _long(given), norms.norm()
    if near(got, long * min(1.0, float(largest / whole))):
        return
    fail_if(
        whole <= largest and near(got, long * largest / whole),
        f"{case}short gradients became longer. Clipping only shortens.",
    )
    fail_if(
        near(got, _long([one * min(1.0, float(largest / norm)) for one, norm in zip(given, norms)])),
        f"{case}each tensor is clipped on its own. Then the long ones shrink and the others do not, and the step "
        "has another direction.",
    )
    fail_if(
        near(got, long.clamp(-largest, largest)),
        f"{case}you cut single numbers off at ±{largest:g}. That changes the direction, and the norm may still be "
        "larger.",
    )
    fail_if(
        near(got, long * min(1.0, float(largest / norms.sum()))),
        f"{case}you added the norms of the tensors. Add their squares, and take the root.",
    )
    fail_if(
        near(got, long * min(1.0, float(largest / whole**2))),
        f"{case}you divide by the squared norm; the root is missing.",
    )
    fail_if(near(got, long), f"{case}nothing was clipped.")
    misconception(f"{case}your gradients have the norm {got.norm():.4g}.")


@clipping.wrong("each on its own", says="clipped on its own")
def clip(gradients, largest):
    return [gradient * min(1.0, float(largest / gradient.norm())) for gradient in gradients]


@clipping.wrong("single numbers", says="you cut single numbers off")
def clip(gradients, largest):
    return [gradient.clamp(-largest, largest) for gradient in gradients]


@clipping.wrong("always", says="Clipping only shortens")
def clip(gradients, largest):
    norm = sum((gradient**2).sum() for gradient in gradients) ** 0.5
    return [gradient * largest / norm for gradient in gradients]


@clipping.wrong("norms added", says="you added the norms")
def clip(gradients, largest):
    norm = sum(gradient.norm() for gradient in gradients)
    return [gradient * min(1.0, float(largest / norm)) for gradient in gradients]


@clipping.wrong("no root", says="the root is missing")
def clip(gradients, largest):
    norm = sum((gradient**2).sum() for gradient in gradients)
    return [gradient * min(1.0, float(largest / norm)) for gradient in gradients]


# --------------------------------------------------------------------------------------------------------------
optimizer = Exercise(
    "training.adamw",
    notebook="22_train_a_tiny_phi",
    title="AdamW, whole",
    difficulty=3,
    minutes=25,
    task="""
    Write `adamw(weight, gradient, mean, square, step, rate, decay)`, one update of a tensor. `mean` and `square`
    are the running means of the gradient and of its square, both 0 before the first step; steps count from 1.

    - `mean` keeps 0.9 of what it was, and takes 0.1 of the gradient; `square` keeps 0.95, and takes 0.05.
    - Both begin at 0 and so are too small at first: divide what you *use* of them by 1 − 0.9^step and by
      1 − 0.95^step. What you *return* is not divided.
    - The weight first shrinks to 1 − rate · decay of itself, and then moves by rate · mean / (√square + 1e-8),
      against the gradient.

    Return weight, mean and square, all three new.
    """,
    hints=[
        "Four lines: the new mean, the new square, the two as they are used, the new weight.",
        "`square` takes 0.05 · gradient². The root comes after the division by 1 − 0.95^step.",
        "The decay has nothing to do with mean and square: it must not pass through the gradient.",
    ],
)


@optimizer.stub
def adamw(weight, gradient, mean, square, step, rate, decay):
    """four tensors of one shape, a step from 1, two numbers → three tensors: weight, mean, square"""
    ...  # your code


@optimizer.solution
def adamw(weight, gradient, mean, square, step, rate, decay):
    mean = 0.9 * mean + 0.1 * gradient
    square = 0.95 * square + 0.05 * gradient**2
    used = mean / (1 - 0.9**step), square / (1 - 0.95**step)
    return weight * (1 - rate * decay) - rate * used[0] / (used[1].sqrt() + 1e-8), mean, square


def _update(weight, gradient, mean, square, step, rate, decay, *, mistake=""):
    """What torch.optim.AdamW does, or that with a mistake."""
    if mistake == "decay in the gradient":
        gradient = gradient + decay * weight
    keep, keep_square = (0.95, 0.9) if mistake == "swapped" else (0.9, 0.95)
    mean = keep * mean + (1 - keep) * gradient
    square = keep_square * square + (1 - keep_square) * gradient**2
    corrected = mistake != "not divided"
    m = mean / (1 - keep**step) if corrected else mean
    v = square / (1 - keep_square**step) if corrected else square
    shrink = {"decay in the gradient": 0.0, "decay without rate": decay, "no decay": 0.0}.get(
        mistake, rate * decay
    )
    direction = m / (v + 1e-8) if mistake == "no root" else m / (v.sqrt() + 1e-8)
    way = 1 if mistake == "uphill" else -1
    return weight * (1 - shrink) + way * rate * direction, mean, square


_SAYS = {
    "not divided": "mean and square are used as they are. They began at 0, so the first steps are not what they "
    "should be.",
    "decay in the gradient": "the decay passes through mean and square, where large gradients drown it. That is "
    "Adam with L2; the W of AdamW stands for keeping them apart.",
    "decay without rate": "the weight shrinks by the decay alone. It should be rate · decay, or it is gone in no "
    "time.",
    "no decay": "the weight does not shrink by its decay.",
    "no root": "you divide by the square itself, without its root.",
    "swapped": "0.9 and 0.95 have changed places.",
    "uphill": "the weight moves with the gradient, uphill.",
}


@optimizer.judge
def judge_optimizer(f):
    for shape, rate, decay in (((3, 4), 0.01, 0.1), ((5,), 0.1, 0.5)):
        weight = torch.randn(shape)
        state = (weight, torch.zeros(shape), torch.zeros(shape))
        for step in range(1, 5):
            gradient = torch.randn(shape) * (0.3 if step % 2 else 2.0)
            given = (state[0], gradient, *state[1:], step, rate, decay)
            got = f(*given)
            if not isinstance(got, (tuple, list)) or len(got) != 3:
                misconception("Return three tensors: weight, mean and square.")
            got = [tensor_of(one, shape=shape, name=name) for one, name in zip(got, _NAMES, strict=True)]
            _judge_update(got, given, f"Step {step}, rate {rate:g}, decay {decay:g}: ")
            state = (got[0], got[1], got[2])


_NAMES = ("weight", "mean", "square")


def _judge_update(got, given, case):
    right, mean, square = _update(*given)
    if near(got[0], right) and near(got[1], mean) and near(got[2], square):
        return
    for mistake, says in _SAYS.items():
        wrong = _update(*given, mistake=mistake)
        fail_if(all(near(one, other) for one, other in zip(got, wrong, strict=True)), case + says)
    fail_if(
        near(got[0], right),
        f"{case}the weight is right, but mean or square is not what the next step needs: return them undivided.",
    )
    name = _NAMES[
        [near(one, other) for one, other in zip(got, (right, mean, square), strict=True)].index(False)
    ]
    misconception(f"{case}the {name} is not what torch.optim.AdamW makes of it.")


@optimizer.wrong("not divided", says="used as they are")
def adamw(weight, gradient, mean, square, step, rate, decay):
    mean, square = 0.9 * mean + 0.1 * gradient, 0.95 * square + 0.05 * gradient**2
    return weight * (1 - rate * decay) - rate * mean / (square.sqrt() + 1e-8), mean, square


@optimizer.wrong("decay in the gradient", says="Adam with L2")
def adamw(weight, gradient, mean, square, step, rate, decay):
    gradient = gradient + decay * weight
    mean, square = 0.9 * mean + 0.1 * gradient, 0.95 * square + 0.05 * gradient**2
    used = mean / (1 - 0.9**step), square / (1 - 0.95**step)
    return weight - rate * used[0] / (used[1].sqrt() + 1e-8), mean, square


@optimizer.wrong("decay without rate", says="shrinks by the decay alone")
def adamw(weight, gradient, mean, square, step, rate, decay):
    mean, square = 0.9 * mean + 0.1 * gradient, 0.95 * square + 0.05 * gradient**2
    used = mean / (1 - 0.9**step), square / (1 - 0.95**step)
    return weight * (1 - decay) - rate * used[0] / (used[1].sqrt() + 1e-8), mean, square


@optimizer.wrong("no root", says="without its root")
def adamw(weight, gradient, mean, square, step, rate, decay):
    mean, square = 0.9 * mean + 0.1 * gradient, 0.95 * square + 0.05 * gradient**2
    used = mean / (1 - 0.9**step), square / (1 - 0.95**step)
    return weight * (1 - rate * decay) - rate * used[0] / (used[1] + 1e-8), mean, square


@optimizer.wrong("swapped", says="have changed places")
def adamw(weight, gradient, mean, square, step, rate, decay):
    mean, square = 0.95 * mean + 0.05 * gradient, 0.9 * square + 0.1 * gradient**2
    used = mean / (1 - 0.95**step), square / (1 - 0.9**step)
    return weight * (1 - rate * decay) - rate * used[0] / (used[1].sqrt() + 1e-8), mean, square


@optimizer.wrong("divided for good", says="return them undivided")
def adamw(weight, gradient, mean, square, step, rate, decay):
    mean = (0.9 * mean + 0.1 * gradient) / (1 - 0.9**step)
    square = (0.95 * square + 0.05 * gradient**2) / (1 - 0.95**step)
    return weight * (1 - rate * decay) - rate * mean / (square.sqrt() + 1e-8), mean, square


@optimizer.wrong("uphill", says="with the gradient, uphill")
def adamw(weight, gradient, mean, square, step, rate, decay):
    mean, square = 0.9 * mean + 0.1 * gradient, 0.95 * square + 0.05 * gradient**2
    used = mean / (1 - 0.9**step), square / (1 - 0.95**step)
    return weight * (1 - rate * decay) + rate * used[0] / (used[1].sqrt() + 1e-8), mean, square
