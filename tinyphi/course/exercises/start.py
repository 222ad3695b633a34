"""Exercises of notebook 00: a first look at a whole model."""

import torch

from tinyphi.course.exercise import Exercise, fail_if, near, number_of, tensor_of

# --------------------------------------------------------------------------------------------------------------
grow = Exercise(
    "start.greedy",
    notebook="00_start_here",
    title="The loop of every chatbot",
    difficulty=1,
    minutes=10,
    task="""
    Write `greedy(model, ids, count, stop)`: `ids` is a list of token ids, and `model(tensor)` takes ids `(1 t)` and
    returns logits `(1 t v)`. Take the most probable next token, append it, and ask again, `count` times; but end as soon
    as the token `stop` has been appended. Return the whole list, the prompt included. Leave the caller's list as it is.
    """,
    hints=[
        "The cell under *From one token to a text* does nearly this. What must change?",
        "The logits of the next token stand at the last position: `model(torch.tensor([grown]))[0, -1]`.",
        "`grown = list(ids)` copies; inside the loop, after appending, `if grown[-1] == stop: break`.",
    ],
)


@grow.stub
def greedy(model, ids, count, stop):
    """ids: list of int → the list with up to `count` more ids, ending early after `stop`"""
    ...  # your code


@grow.solution
def greedy(model, ids, count, stop):
    grown = list(ids)
    for _ in range(count):
        grown.append(int(model(torch.tensor([grown]))[0, -1].argmax()))
        if grown[-1] == stop:
            break
    return grown


@grow.judge
def judge_grow(f):
    def model(ids):
        """The next token is the sum of all so far, modulo 11: it depends on the whole text."""
        fail_if(
            not isinstance(ids, torch.Tensor) or ids.ndim != 2,
            "The model takes a tensor `(1 t)`: a batch of one text. `torch.tensor([grown])` makes one.",
        )
        return torch.nn.functional.one_hot(ids.cumsum(1) % 11, 11).float()

    def wanted(ids, count, stop):
        grown = list(ids)
        for _ in range(count):
            grown.append(sum(grown) % 11)
            if grown[-1] == stop:
                break
        return grown

    class Watched(list):
        """A list that notices when it is written to: `check` hands out copies of plain lists."""

        written = False

        def append(self, value):
            self.written = True
            super().append(value)

        def extend(self, values):
            self.written = True
            super().extend(values)

        def __iadd__(self, values):
            self.written = True
            return super().__iadd__(values)

    given = Watched([3, 4])
    got = f(model, given, 5, 99)
    fail_if(
        given.written,
        "Your function writes into the caller's list: it grows by what you append. Begin with a copy, `list(ids)`.",
    )
    fail_if(
        got is None, "There is no result: it is None. Does every path through your function `return` one?"
    )
    fail_if(not isinstance(got, list), f"Return a list of ids; yours is of type {type(got).__name__}.")
    fail_if(
        any(isinstance(token, torch.Tensor) for token in got),
        "Your list holds tensors: argmax gives a tensor of one number. `int(…)` makes an id of it.",
    )
    right = wanted(given, 5, 99)
    fail_if(got == right[2:], "The prompt is missing: return the whole text, what was given included.")
    fail_if(
        got[:2] == given and got[2:] == [right[2]] * 5,
        "Every token is the same: you ask about the prompt each time instead of about the text that has grown.",
    )
    fail_if(len(got) == len(right) + 1, "One token too many: `count` new ones are wanted.")
    fail_if(
        got == right[:5],
        "Yours has `count` tokens with the prompt. `count` says how many *new* ones are wanted.",
    )
    fail_if(
        got[:2] == given and len(got) == len(right) and got[2] == (given[0] % 11),
        "You read the logits of the first position, or of all positions together. What comes next stands at the "
        "last one.",
    )
    fail_if(got != right, f"From {given} the text should grow to {right}; yours is {got}.")
    stopped = wanted([5, 2], 8, 6)
    got = f(model, [5, 2], 8, 6)
    fail_if(
        got == wanted([5, 2], 8, 99), "It goes on after the stop token. That is the reply that never ends."
    )
    fail_if(
        got == stopped[:-1],
        "The stop token itself should be in the list: it was appended, then the loop ends.",
    )
    fail_if(got != stopped, f"With stop 6, [5, 2] should grow to {stopped}; yours is {got}.")
    fail_if(
        f(model, [3, 6], 3, 6) == [3, 6],
        "A stop token in the prompt is not the end: in a conversation, each earlier turn ended with one.",
    )


@grow.wrong("asks about the prompt each time", says="Every token is the same")
def greedy(model, ids, count, stop):
    grown = list(ids)
    for _ in range(count):
        grown.append(int(model(torch.tensor([ids]))[0, -1].argmax()))
        if grown[-1] == stop:
            break
    return grown


@grow.wrong("never stops", says="goes on after the stop token")
def greedy(model, ids, count, stop):
    grown = list(ids)
    for _ in range(count):
        grown.append(int(model(torch.tensor([grown]))[0, -1].argmax()))
    return grown


@grow.wrong("returns only what is new", says="The prompt is missing")
def greedy(model, ids, count, stop):
    grown = list(ids)
    for _ in range(count):
        grown.append(int(model(torch.tensor([grown]))[0, -1].argmax()))
        if grown[-1] == stop:
            break
    return grown[len(ids) :]


@grow.wrong("writes into the caller's list", says="writes into the caller's list")
def greedy(model, ids, count, stop):
    for _ in range(count):
        ids.append(int(model(torch.tensor([ids]))[0, -1].argmax()))
        if ids[-1] == stop:
            break
    return ids


@grow.wrong("a list of tensors", says="Your list holds tensors")
def greedy(model, ids, count, stop):
    grown = list(ids)
    for _ in range(count):
        grown.append(model(torch.tensor([grown]))[0, -1].argmax())
        if grown[-1] == stop:
            break
    return grown


@grow.wrong("stops at an old stop token", says="A stop token in the prompt")
def greedy(model, ids, count, stop):
    grown = list(ids)
    while len(grown) < len(ids) + count and grown[-1] != stop:
        grown.append(int(model(torch.tensor([grown]))[0, -1].argmax()))
    return grown


# --------------------------------------------------------------------------------------------------------------
unsure = Exercise(
    "start.entropy",
    notebook="00_start_here",
    title="How open was the choice?",
    difficulty=1,
    minutes=10,
    task="""
    Write `entropy(probabilities)`: a distribution `(v)` in, its entropy in *bits* out, − Σ p · log₂ p. A token with
    probability 0 adds nothing.
    """,
    hints=[
        "`torch.log2` takes the logarithm of every number.",
        "What is 0 · log₂ 0 in floating point? Try it.",
        "Leave the zeros out before you take the logarithm: `p = probabilities[probabilities > 0]`.",
    ],
)


@unsure.stub
def entropy(probabilities):
    """(v) → a number, in bits"""
    ...  # your code


@unsure.solution
def entropy(probabilities):
    p = probabilities[probabilities > 0]
    return -(p * p.log2()).sum()


@unsure.judge
def judge_unsure(f):
    even, skewed = torch.full((8,), 0.125), torch.tensor([0.5, 0.25, 0.125, 0.125])
    got, more = number_of(f(even), name="entropy"), number_of(f(skewed), name="entropy")
    natural = 3 * torch.tensor(2.0).log().item()
    fail_if(
        near(got, natural), "This is in nats: you took the natural logarithm. One bit is ln 2 = 0.69 nats."
    )
    fail_if(near(got, -3.0), "The sign is wrong. Logarithms of probabilities are negative, entropy is not.")
    fail_if(
        near(got, 3 / 8) or near(got, 24.0),
        "Each surprise, −log₂ p, must be weighted with its probability and summed: a mean over what will happen.",
    )
    fail_if(not near(got, 3.0), f"Eight equal chances are 3 bits; yours says {got:.3f}.")
    fail_if(not near(more, 1.75), f"For ½, ¼, ⅛, ⅛ it should be 1.75 bits; yours says {more:.3f}.")
    sure = number_of(f(torch.tensor([0.0, 1.0, 0.0])), name="entropy")
    fail_if(
        sure != sure,
        "For the distribution 0, 1, 0 yours is nan: 0 · log₂ 0 is not 0 for a computer. Leave the zeros out.",
    )
    fail_if(not abs(sure) < 1e-4, f"Certainty has entropy 0; yours says {sure:.3f}.")


@unsure.wrong("natural logarithm", says="This is in nats")
def entropy(probabilities):
    p = probabilities[probabilities > 0]
    return -(p * p.log()).sum()


@unsure.wrong("forgets the zeros", says="0 · log₂ 0 is not 0")
def entropy(probabilities):
    return -(probabilities * probabilities.log2()).sum()


@unsure.wrong("forgets the sign", says="The sign is wrong")
def entropy(probabilities):
    p = probabilities[probabilities > 0]
    return (p * p.log2()).sum()


@unsure.wrong("does not weight", says="must be weighted")
def entropy(probabilities):
    p = probabilities[probabilities > 0]
    return -p.log2().sum()


# --------------------------------------------------------------------------------------------------------------
surprising = Exercise(
    "start.surprise",
    notebook="00_start_here",
    title="Which word is the surprise?",
    difficulty=2,
    minutes=10,
    task="""
    Write `surprise(logits, ids)`: `logits` `(t v)` are what the model returned for the text with the ids `(t)`. For each
    token but the first, return how surprised the model was: −log₂ of the probability it had given to that token, `(t−1)`.
    Then try it on *The cat sat on the moon*.
    """,
    hints=[
        "The logits at position i predict the token at position i + 1.",
        "So the last row of logits has no token to be compared with, and the first token has no prediction.",
        "`logits[:-1].softmax(-1)` `(t−1 v)` are the predictions, `ids[1:]` what came. Pick one number in each row.",
    ],
)


@surprising.stub
def surprise(logits, ids):
    """logits (t v), ids (t) → (t-1), in bits"""
    ...  # your code


@surprising.solution
def surprise(logits, ids):
    chances = logits[:-1].softmax(-1)
    return -chances[torch.arange(len(ids) - 1), ids[1:]].log2()


@surprising.judge
def judge_surprising(f):
    for tokens in (6, 2):
        logits, ids = 2 * torch.randn(tokens, 9), torch.randint(9, (tokens,))
        ids[-1] = (ids[-2] + 1) % 9
        every = -logits.log_softmax(-1)
        rows = torch.arange(tokens - 1)
        right = every[rows, ids[1:]] / torch.tensor(2.0).log()
        got = f(logits, ids)
        fail_if(
            isinstance(got, torch.Tensor) and got.shape == (tokens,),
            f"Of {tokens} tokens, the first one has no prediction: {tokens - 1} numbers are wanted.",
        )
        got = tensor_of(got, shape=(tokens - 1,), name="result")
        fail_if(
            near(got, every[rows, ids[:-1]] / torch.tensor(2.0).log())
            or near(got, every[rows + 1, ids[1:]] / torch.tensor(2.0).log()),
            "You ask each position about its own token. The logits at a position predict the token *after* it.",
        )
        fail_if(
            near(got, every[rows, ids[1:]]),
            "This is in nats. Divide by ln 2, or take the logarithm to base 2.",
        )
        fail_if(near(got, -right), "The sign is wrong: a probability below 1 is a positive surprise.")
        fail_if(
            near(got, 2**-right),
            "These are the probabilities. The surprise is −log₂ of them: the smaller, the larger.",
        )
        along_tokens = [-logits[: tokens - cut].log_softmax(0)[rows, ids[1:]] for cut in (0, 1)]
        fail_if(
            any(near(got, wrong / torch.tensor(2.0).log()) for wrong in along_tokens),
            "Your softmax runs along the tokens. For each token, the chances of all words must add up to 1: it "
            "belongs over the vocabulary, the last axis.",
        )
        fail_if(
            near(got, -logits[rows, ids[1:]]) or near(got, logits[rows, ids[1:]]),
            "These are logits, not probabilities: the softmax over the vocabulary is missing.",
        )
        fail_if(not near(got, right, 1e-4), "The numbers differ from −log₂ p(next token).")


@surprising.wrong("its own token", says="about its own token")
def surprise(logits, ids):
    chances = logits.softmax(-1)
    return -chances[torch.arange(len(ids) - 1), ids[:-1]].log2()


@surprising.wrong("in nats", says="This is in nats")
def surprise(logits, ids):
    return -logits[:-1].log_softmax(-1)[torch.arange(len(ids) - 1), ids[1:]]


@surprising.wrong("no softmax", says="softmax over the vocabulary is missing")
def surprise(logits, ids):
    return -logits[torch.arange(len(ids) - 1), ids[1:]]


@surprising.wrong("softmax over the tokens", says="runs along the tokens")
def surprise(logits, ids):
    chances = logits[:-1].softmax(0)
    return -chances[torch.arange(len(ids) - 1), ids[1:]].log2()


@surprising.wrong("one too many", says="has no prediction")
def surprise(logits, ids):
    chances = logits.softmax(-1)
    return -chances[torch.arange(len(ids)), ids].log2()


# --------------------------------------------------------------------------------------------------------------
faithful = Exercise(
    "start.previous_token",
    notebook="00_start_here",
    title="Which head looks back one step?",
    difficulty=3,
    minutes=20,
    task="""
    Write `most_faithful(weights)`: `weights` is a list with one tensor `(h t s)` for each layer (t = s). Find the head that
    gives the *previous* token the most weight, on average over the tokens that have one, and return `(layer, head)`. Then
    find it in SmolLM2, with the trace of a text of your own.
    """,
    hints=[
        "The weight of token i on token i − 1 stands one below the diagonal.",
        "`w.diagonal(-1, dim1=-2, dim2=-1)` of a tensor `(h t t)` is `(h t−1)`; its mean over the last axis is one score per head.",
        "Collect the scores of all layers in one tensor `(layers h)`; `divmod(int(scores.argmax()), heads)` gives the place back.",
    ],
)


@faithful.stub
def most_faithful(weights):
    """weights: for each layer (h t t) → (layer, head)"""
    ...  # your code


@faithful.solution
def most_faithful(weights):
    scores = torch.stack([layer.diagonal(-1, dim1=-2, dim2=-1).mean(-1) for layer in weights])
    return divmod(int(scores.argmax()), scores.shape[1])


@faithful.judge
def judge_faithful(f):
    def make(layers, heads, tokens, places):
        """Random heads, and for each shift in `places` one head that looks mostly there."""
        weights = [torch.rand(heads, tokens, tokens) * 0.1 for _ in range(layers)]
        for shift, (layer, head) in places.items():
            weights[layer][head] += torch.eye(tokens).roll(shift, 0) * 3
        decoy = weights[1][1]  # looks back with all its weight, once, and never again
        decoy[4], decoy[4, 3] = 0, 1
        future = torch.ones(tokens, tokens).triu(1).bool()
        return [(layer * ~future) / (layer * ~future).sum(-1, keepdim=True) for layer in weights]

    for layers, heads in ((3, 4), (5, 2)):
        places = {1: (2, 1), 0: (1, 0), 2: (0, 1)}
        weights = make(layers, heads, 9, places)
        got = f(weights)
        fail_if(
            got is None, "There is no result: it is None. Does every path through your function `return` one?"
        )
        fail_if(
            not isinstance(got, (tuple, list)) or len(got) != 2,
            f"Return two numbers, (layer, head); yours is of type {type(got).__name__}.",
        )
        got = tuple(number_of(part, name="place") for part in got)
        fail_if(
            got == places[0],
            "This head looks at the token itself: that is the diagonal. One below it lies the previous token.",
        )
        fail_if(got == places[2], "This head looks two tokens back.")
        fail_if(
            got == (1, 1),
            "This head gives the previous token all its weight *once*, and hardly any elsewhere. Take the mean over the "
            "tokens, not the largest weight.",
        )
        fail_if(got == (places[1][1], places[1][0]), "Layer and head are exchanged: the layer comes first.")
        fail_if(
            got != places[1],
            f"The most faithful head here is {places[1]}; yours is {tuple(map(int, got))}. Did you compare all layers, and "
            "the mean over the tokens?",
        )


@faithful.wrong("looks at the diagonal", says="the token itself")
def most_faithful(weights):
    scores = torch.stack([layer.diagonal(0, dim1=-2, dim2=-1).mean(-1) for layer in weights])
    return divmod(int(scores.argmax()), scores.shape[1])


@faithful.wrong("exchanges layer and head", says="exchanged")
def most_faithful(weights):
    scores = torch.stack([layer.diagonal(-1, dim1=-2, dim2=-1).mean(-1) for layer in weights], dim=1)
    return divmod(int(scores.argmax()), scores.shape[1])


@faithful.wrong("only the last layer", says="Did you compare all layers")
def most_faithful(weights):
    scores = weights[0].diagonal(-1, dim1=-2, dim2=-1).mean(-1)
    return 0, int(scores.argmax())


@faithful.wrong("the largest weight", says="*once*")
def most_faithful(weights):
    scores = torch.stack([layer.diagonal(-1, dim1=-2, dim2=-1).amax(-1) for layer in weights])
    return divmod(int(scores.argmax()), scores.shape[1])


@faithful.wrong("two tokens back", says="two tokens back")
def most_faithful(weights):
    scores = torch.stack([layer.diagonal(-2, dim1=-2, dim2=-1).mean(-1) for layer in weights])
    return divmod(int(scores.argmax()), scores.shape[1])
