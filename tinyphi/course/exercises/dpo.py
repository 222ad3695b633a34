"""Exercises of notebook 24: log π of a completion, DPO's loss, how hard a pair pulls, the rewards within a policy."""

import torch
from torch.nn import functional as F

from tinyphi.course.exercise import Exercise, fail_if, misconception, near, number_of, tensor_of

# --------------------------------------------------------------------------------------------------------------
completion = Exercise(
    "dpo.completion",
    notebook="24_dpo",
    title="How likely is an answer?",
    difficulty=2,
    minutes=15,
    task="""
    `logits` `(b t v)` and `labels` `(b t)`: each row is a prompt, its completion, and padding. Labels stand where
    their tokens stand; prompt and padding have −100. Write `completion_log_probability(logits, labels)` → `(b)`:
    log π of each whole completion.
    """,
    hints=[
        "The logits at a token predict the one after it: `logits[:, :-1]` and `labels[:, 1:]` belong together.",
        "`log_softmax(-1)`, then `gather`. −100 is no place in the vocabulary: clamp it first, and count it as 0.",
        "The probability of a completion is the *product* of its tokens'. What does that make of the logarithms?",
    ],
)


@completion.stub
def completion_log_probability(logits, labels):
    """(b t v), (b t) → (b), in nats"""
    ...  # your code


@completion.solution
def completion_log_probability(logits, labels):
    targets = labels[:, 1:]
    own = logits[:, :-1].log_softmax(-1).gather(-1, targets.clamp(min=0)[..., None])[..., 0]
    return (own * (targets != -100)).sum(-1)


def _own(logits, targets):
    """log p of each target, (b t), a 0 where there is none."""
    own = logits.log_softmax(-1).gather(-1, targets.clamp(min=0)[..., None])[..., 0]
    return own * (targets != -100)


@completion.judge
def judge_completion(f):
    for rows, length, vocabulary in ((3, 8, 5), (2, 10, 7)):
        logits = 2 * torch.randn(rows, length, vocabulary)
        labels = torch.randint(1, vocabulary, (rows, length))
        for row in range(rows):
            labels[row, : 2 + row] = -100  # the prompt
            labels[row, length - 1 - row :] = -100  # padding
        got = tensor_of(f(logits.clone(), labels.clone()), shape=(rows,), name="result")
        each = _own(logits[:, :-1], labels[:, 1:])
        count = (labels[:, 1:] != -100).sum(1)
        right = each.sum(1)
        if near(got, right, 1e-4):
            continue
        everything = logits[:, :-1].log_softmax(-1).gather(-1, labels[:, 1:].clamp(min=0)[..., None])[..., 0]
        fail_if(
            near(got, everything.sum(1), 1e-4),
            "Prompt and padding are in the sum: their label −100 became the token 0. Then padding decides who wins.",
        )
        fail_if(
            near(got, _own(logits, labels).sum(1), 1e-4),
            "There is no shift: the logits at a token are about the next one.",
        )
        fail_if(
            near(got, _own(logits[:, 1:], labels[:, :-1]).sum(1), 1e-4),
            "You shift the wrong way: a label meets the logits of the token after it.",
        )
        fail_if(
            near(got, right / count, 1e-4),
            "That is the mean of a token. A completion's probability is the product of its tokens', so its "
            "logarithm is their sum.",
        )
        fail_if(near(got, -right, 1e-4), "The sign is wrong: a log-probability is never above 0.")
        picked = logits[:, :-1].gather(-1, labels[:, 1:].clamp(min=0)[..., None])[..., 0]
        fail_if(
            near(got, (picked * (labels[:, 1:] != -100)).sum(1), 1e-4),
            "You add up logits. They become log-probabilities by `log_softmax` only.",
        )
        misconception(f"For row 0 log π is {right[0]:.3f}; yours says {float(got[0]):.3f}.")


@completion.wrong("padding counts", says="padding decides who wins")
def completion_log_probability(logits, labels):
    targets = labels[:, 1:].clamp(min=0)
    return logits[:, :-1].log_softmax(-1).gather(-1, targets[..., None])[..., 0].sum(-1)


@completion.wrong("no shift", says="There is no shift")
def completion_log_probability(logits, labels):
    own = logits.log_softmax(-1).gather(-1, labels.clamp(min=0)[..., None])[..., 0]
    return (own * (labels != -100)).sum(-1)


@completion.wrong("the other way", says="You shift the wrong way")
def completion_log_probability(logits, labels):
    targets = labels[:, :-1]
    own = logits[:, 1:].log_softmax(-1).gather(-1, targets.clamp(min=0)[..., None])[..., 0]
    return (own * (targets != -100)).sum(-1)


@completion.wrong("the mean", says="the mean of a token")
def completion_log_probability(logits, labels):
    targets = labels[:, 1:]
    own = logits[:, :-1].log_softmax(-1).gather(-1, targets.clamp(min=0)[..., None])[..., 0]
    return (own * (targets != -100)).sum(-1) / (targets != -100).sum(-1)


@completion.wrong("no softmax", says="You add up logits")
def completion_log_probability(logits, labels):
    targets = labels[:, 1:]
    own = logits[:, :-1].gather(-1, targets.clamp(min=0)[..., None])[..., 0]
    return (own * (targets != -100)).sum(-1)


# --------------------------------------------------------------------------------------------------------------
loss = Exercise(
    "dpo.loss",
    notebook="24_dpo",
    title="The loss of DPO",
    difficulty=2,
    minutes=15,
    task="""
    Four tensors `(b)` hold log π of the chosen and rejected answers, under the policy and under the reference.
    Write `dpo(chosen, rejected, reference_chosen, reference_rejected, beta)` → one number, the mean loss. It must
    be finite even where a pair is wrong by hundreds of nats.
    """,
    hints=[
        "How much likelier has the chosen answer become since the reference? And how much the rejected one?",
        "Their difference times β is the margin: what the answer of the model is worth more than the other.",
        "`F.logsigmoid` of a very negative number is finite; `torch.sigmoid(…).log()` is not.",
    ],
)


@loss.stub
def dpo(chosen, rejected, reference_chosen, reference_rejected, beta):
    """four times (b), a number → a number"""
    ...  # your code


@loss.solution
def dpo(chosen, rejected, reference_chosen, reference_rejected, beta):
    gained, lost = chosen - reference_chosen, rejected - reference_rejected
    return -F.logsigmoid(beta * (gained - lost)).mean()


@loss.judge
def judge_loss(f):
    for pairs, beta, size in ((6, 0.1, 5.0), (4, 0.5, 2.0), (5, 1.0, 300.0)):
        chosen, rejected, reference_chosen, reference_rejected = -20 + size * torch.randn(4, pairs)
        if size > 100:
            chosen[0] = rejected[0] - 800  # a pair that is very wrong
        got = number_of(f(chosen, rejected, reference_chosen, reference_rejected, beta), name="loss")
        delta = (chosen - reference_chosen) - (rejected - reference_rejected)
        right = -F.logsigmoid(beta * delta).mean()
        if near(got, right, 1e-4):
            continue
        fail_if(
            got != got or got in (float("inf"), float("-inf")),
            "The loss is not finite. The sigmoid of −800 is 0, and its logarithm is −∞: use `F.logsigmoid`.",
        )
        fail_if(
            near(got, -F.logsigmoid(beta * (chosen - rejected)).mean(), 1e-4),
            "The reference is missing. What counts is how much the preference has *changed* since.",
        )
        fail_if(
            near(got, -F.logsigmoid(-beta * delta).mean(), 1e-4),
            "Chosen and rejected are exchanged: this loss teaches the rejected answers.",
        )
        fail_if(
            near(got, -F.logsigmoid(delta).mean(), 1e-4),
            "β is missing. It says how dear it is to move away from the reference.",
        )
        fail_if(
            near(got, -F.logsigmoid(beta * delta.mean()), 1e-4),
            "You take the mean of the margins first. A pair that is right already then makes up for one that is wrong.",
        )
        fail_if(
            near(got, -beta * F.logsigmoid(delta).mean(), 1e-4),
            "β stands outside the sigmoid. It belongs inside, where it scales the rewards.",
        )
        fail_if(
            near(got, -right, 1e-4),
            "The sign is wrong: a loss becomes smaller when the model becomes better.",
        )
        misconception(f"With β = {beta} the loss is {right:.4f}; yours is {got:.4f}.")


@loss.wrong("no reference", says="The reference is missing")
def dpo(chosen, rejected, reference_chosen, reference_rejected, beta):
    return -F.logsigmoid(beta * (chosen - rejected)).mean()


@loss.wrong("exchanged", says="teaches the rejected answers")
def dpo(chosen, rejected, reference_chosen, reference_rejected, beta):
    gained, lost = chosen - reference_chosen, rejected - reference_rejected
    return -F.logsigmoid(beta * (lost - gained)).mean()


@loss.wrong("no beta", says="β is missing")
def dpo(chosen, rejected, reference_chosen, reference_rejected, beta):
    gained, lost = chosen - reference_chosen, rejected - reference_rejected
    return -F.logsigmoid(gained - lost).mean()


@loss.wrong("the mean margin", says="mean of the margins first")
def dpo(chosen, rejected, reference_chosen, reference_rejected, beta):
    gained, lost = chosen - reference_chosen, rejected - reference_rejected
    return -F.logsigmoid(beta * (gained - lost).mean())


@loss.wrong("not finite", says="The loss is not finite")
def dpo(chosen, rejected, reference_chosen, reference_rejected, beta):
    gained, lost = chosen - reference_chosen, rejected - reference_rejected
    return -torch.sigmoid(beta * (gained - lost)).log().mean()


# --------------------------------------------------------------------------------------------------------------
pulling = Exercise(
    "dpo.pull",
    notebook="24_dpo",
    title="How hard a pair pulls",
    difficulty=2,
    minutes=10,
    task="""
    `delta` `(b)` holds Δ of each pair, how much more than the reference the policy prefers the chosen answer. The
    loss of a pair is −log σ(βΔ). Write `pull(delta, beta)` → `(b)`: by how much its loss *falls* for each nat that
    its chosen answer becomes likelier. Please without autograd.
    """,
    hints=[
        "Δ grows by one nat with log π of the chosen answer. So the derivative by Δ is asked, and its sign.",
        "The derivative of log σ(x) is σ(−x): 1/2 at 0, hardly anything where x is large.",
        "The chain rule brings one more factor: x is βΔ.",
    ],
)


@pulling.stub
def pull(delta, beta):
    """(b), a number → (b)"""
    ...  # your code


@pulling.solution
def pull(delta, beta):
    return beta * torch.sigmoid(-beta * delta)


@pulling.judge
def judge_pull(f):
    for beta in (0.1, 0.5, 2.0):
        delta = torch.tensor([-30.0, -4.0, -0.5, 0.0, 0.5, 4.0, 30.0]) + torch.rand(7)
        got = tensor_of(f(delta.clone(), beta), shape=delta.shape, name="result")
        right = beta * torch.sigmoid(-beta * delta)
        if near(got, right):
            continue
        fail_if(near(got, -right), "The sign is wrong: asked is by how much the loss *falls*.")
        fail_if(
            near(got, beta * torch.sigmoid(beta * delta)),
            "Pairs that are right already pull hardest. It is the other way round.",
        )
        fail_if(
            near(got, torch.sigmoid(-beta * delta)),
            "The factor β is missing: the chain rule.",
        )
        fail_if(
            near(got, beta * torch.sigmoid(-delta)),
            "β is missing inside the sigmoid: the preference is σ(βΔ).",
        )
        fail_if(
            near(got, -F.logsigmoid(beta * delta)),
            "That is the loss itself. Asked is its slope.",
        )
        fail_if(
            near(got, beta * torch.sigmoid(beta * delta) * torch.sigmoid(-beta * delta)),
            "That is the slope of σ, and you need that of log σ: divide by σ.",
        )
        misconception(
            f"At β = {beta} and Δ = {float(delta[0]):.2f} it is {right[0]:.4f}; yours is {float(got[0]):.4f}."
        )


@pulling.wrong("the right ones", says="the other way round")
def pull(delta, beta):
    return beta * torch.sigmoid(beta * delta)


@pulling.wrong("no chain rule", says="the chain rule")
def pull(delta, beta):
    return torch.sigmoid(-beta * delta)


@pulling.wrong("no beta inside", says="missing inside the sigmoid")
def pull(delta, beta):
    return beta * torch.sigmoid(-delta)


@pulling.wrong("the loss itself", says="That is the loss itself")
def pull(delta, beta):
    return -F.logsigmoid(beta * delta)


@pulling.wrong("the slope of the sigmoid", says="divide by σ")
def pull(delta, beta):
    return beta * torch.sigmoid(beta * delta) * torch.sigmoid(-beta * delta)


# --------------------------------------------------------------------------------------------------------------
implicit = Exercise(
    "dpo.rewards",
    notebook="24_dpo",
    title="The reward inside a policy",
    difficulty=3,
    minutes=15,
    task="""
    `policy` and `reference` `(p k)` hold log π and log π_ref of k answers to each of p prompts. Suppose the policy
    is the best one for some reward with this β. Write `rewards(policy, reference, beta)` → `(p k)`: that reward.
    It is determined only up to a constant for each prompt; choose the constants so that each prompt's rewards
    have mean 0.
    """,
    hints=[
        "The best policy is π_ref(y) · exp(r(y)/β) / Z. Take logarithms, and solve for r(y).",
        "r(y) = β log(π(y)/π_ref(y)) + β log Z. Z is the same for all answers to a prompt.",
        "What is left to do is to subtract a mean. Over which axis?",
    ],
)


@implicit.stub
def rewards(policy, reference, beta):
    """(p k), (p k), a number → (p k)"""
    ...  # your code


@implicit.solution
def rewards(policy, reference, beta):
    found = beta * (policy - reference)
    return found - found.mean(dim=1, keepdim=True)


@implicit.judge
def judge_rewards(f):
    for prompts, answers, beta in ((3, 5, 0.1), (4, 4, 2.0)):
        reference = torch.randn(prompts, answers, dtype=torch.float64).log_softmax(1)
        true = torch.randn(prompts, answers, dtype=torch.float64) + torch.arange(prompts)[:, None]
        policy = (reference + true / beta).log_softmax(1)
        got = tensor_of(f(policy.clone(), reference.clone(), beta), shape=true.shape, name="rewards")
        right = true - true.mean(1, keepdim=True)
        if near(got, right, 1e-4):
            continue
        ratio = policy - reference
        fail_if(
            near(got, ratio - ratio.mean(1, keepdim=True), 1e-4),
            "β is missing: a policy that may move far needs little reward for it.",
        )
        fail_if(
            near(got, (ratio - ratio.mean(1, keepdim=True)) / beta, 1e-4),
            "You divide by β. It was the reward that was divided by β; solve for it.",
        )
        fail_if(
            near(got, beta * (policy - policy.mean(1, keepdim=True)), 1e-4),
            "The reference is missing. An answer that was likely before needs no reward to be likely now.",
        )
        fail_if(
            near(got, beta * ratio, 1e-4),
            "The constant of each prompt, β log Z, is still in it: the means are not 0.",
        )
        fail_if(
            near(got, beta * (ratio - ratio.mean()), 1e-4) or near(got, beta * (ratio - ratio.mean(0)), 1e-4),
            "You subtract one mean for several prompts. Z belongs to a prompt, and so does its constant.",
        )
        fail_if(near(got, -right, 1e-4), "The sign is wrong: what became likelier has the larger reward.")
        misconception("These are not the rewards for which this policy is the best.")


@implicit.wrong("no beta", says="may move far needs little")
def rewards(policy, reference, beta):
    found = policy - reference
    return found - found.mean(dim=1, keepdim=True)


@implicit.wrong("divided", says="You divide by β")
def rewards(policy, reference, beta):
    found = (policy - reference) / beta
    return found - found.mean(dim=1, keepdim=True)


@implicit.wrong("no reference", says="likely before needs no reward")
def rewards(policy, reference, beta):
    found = beta * policy
    return found - found.mean(dim=1, keepdim=True)


@implicit.wrong("the constant stays", says="the means are not 0")
def rewards(policy, reference, beta):
    return beta * (policy - reference)


@implicit.wrong("one mean for all", says="You subtract one mean")
def rewards(policy, reference, beta):
    found = beta * (policy - reference)
    return found - found.mean()
