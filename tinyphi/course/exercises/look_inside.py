"""Exercises of notebook 13: looking inside a real model."""

import torch

from tinyphi.course.exercise import Exercise, fail_if, near, tensor_of

# ---------------------------------------------------------------------------------------------------------------
induction = Exercise(
    "look_inside.induction_score",
    notebook="13_look_inside",
    title="How much is a head an induction head?",
    difficulty=1,
    minutes=10,
    task="""
    A text repeats itself after `period` tokens. At position i, with i ≥ `period`, the same token stood at i − `period`,
    and an induction head looks at the token *after* that one. Write `induction_score(weights, period)`: attention
    weights `(h t t)` in, one score per head `(h)` out: the mean weight on that token, over the positions of the
    repetition (i ≥ `period`) only.
    """,
    hints=[
        "Which column does row i look at? The earlier copy is at i − period, the token after it at i − period + 1.",
        "For all rows at once these are the cells of one diagonal, `period − 1` below the main one.",
        "`weights.diagonal(-k, dim1=-2, dim2=-1)` is `(h t−k)`. Its first entry belongs to row k: is that row "
        "already in the repetition?",
    ],
)


@induction.stub
def induction_score(weights, period):
    """weights (h t t), period: tokens after which the text repeats → (h)"""
    ...  # your code


@induction.solution
def induction_score(weights, period):
    return weights.diagonal(1 - period, dim1=-2, dim2=-1)[:, 1:].mean(-1)


@induction.judge
def judge_induction(f):
    for period, tokens in ((4, 8), (3, 9), (5, 8)):
        scores = 3 * torch.randn(2, tokens, tokens)
        weights = scores.masked_fill(torch.ones(tokens, tokens).triu(1).bool(), -torch.inf).softmax(-1)
        ideal = torch.eye(tokens).roll(period - 1, 0)
        ideal[:period] = torch.eye(tokens)[:period]
        weights = torch.cat((weights, ideal[None]))
        got = tensor_of(f(weights, period), shape=(3,), name="scores")
        cells = weights.diagonal(1 - period, dim1=-2, dim2=-1)
        copies = weights.diagonal(-period, dim1=-2, dim2=-1).mean(-1)
        fail_if(
            near(got, copies),
            "You measure the weight on the earlier copy of the token itself. An induction head looks one further, at "
            "what came after the copy: that is its guess for what comes now.",
        )
        fail_if(
            near(got, weights.diagonal(-period - 1, dim1=-2, dim2=-1).mean(-1)),
            "You measure the weight on the token before the earlier copy. After it, not before it, stands what "
            "is going to come.",
        )
        fail_if(
            near(got, cells.mean(-1)) and not near(got, cells[:, 1:].mean(-1)),
            "Your mean takes in row period − 1, which is still in the first round: nothing has been repeated there, "
            "and the cell on this diagonal is column 0.",
        )
        fail_if(
            near(got, cells[:, 1:].sum(-1) / tokens),
            "You divide by all rows of the text. Only the rows of the repetition can be right, so divide by their number.",
        )
        fail_if(
            near(got, cells[:, 1:].amax(-1)),
            "You take the largest weight. A head that is right once by chance gets a high score then: take the mean.",
        )
        fail_if(near(got, cells[:, 1:].sum(-1)), "This is the sum. Divide by the number of rows: the mean.")
        right = cells[:, 1:].mean(-1)
        fail_if(
            not near(got, right),
            f"With period {period} and {tokens} tokens, the scores of three heads should be "
            f"{[round(value, 3) for value in right.tolist()]}; yours are "
            f"{[round(value, 3) for value in got.tolist()]}. Which cells do you take, and which mean?",
        )


@induction.wrong("looks at the copy itself", says="copy of the token itself")
def induction_score(weights, period):
    return weights.diagonal(-period, dim1=-2, dim2=-1).mean(-1)


@induction.wrong("looks before the copy", says="before the earlier copy")
def induction_score(weights, period):
    return weights.diagonal(-period - 1, dim1=-2, dim2=-1).mean(-1)


@induction.wrong("the largest weight", says="You take the largest weight")
def induction_score(weights, period):
    return weights.diagonal(1 - period, dim1=-2, dim2=-1)[:, 1:].amax(-1)


@induction.wrong("one row too many", says="still in the first round")
def induction_score(weights, period):
    return weights.diagonal(1 - period, dim1=-2, dim2=-1).mean(-1)


@induction.wrong("divides by all rows", says="divide by all rows")
def induction_score(weights, period):
    return weights.diagonal(1 - period, dim1=-2, dim2=-1)[:, 1:].sum(-1) / weights.shape[-1]


# ---------------------------------------------------------------------------------------------------------------
lens = Exercise(
    "look_inside.logit_lens",
    notebook="13_look_inside",
    title="Read the stream early",
    difficulty=1,
    minutes=10,
    task="""
    Write `logit_lens(streams, norm, head)`. `streams` is a list of L residual streams, each `(t d)`; `norm` is the
    model's last norm, a function `(t d)` → `(t d)`; `head` is the weight of the output matrix, `(v d)`. Return the
    probabilities `(L t v)` that each layer would give if it were the last.
    """,
    hints=[
        "What happens to the stream after the last real layer? The same two steps belong here, and then a softmax.",
        "`head` is `(v d)`, so the logits of a normalised stream x are `x @ head.T`.",
        "Do it for each stream of the list, and `torch.stack` the results.",
    ],
)


@lens.stub
def logit_lens(streams, norm, head):
    """streams: L of (t d), norm: (t d) → (t d), head (v d) → (L t v) probabilities"""
    ...  # your code


@lens.solution
def logit_lens(streams, norm, head):
    return torch.stack([(norm(stream) @ head.T).softmax(-1) for stream in streams])


@lens.judge
def judge_lens(f):
    weight = torch.rand(6) + 0.5
    norm = lambda x: weight * x * torch.rsqrt(x.square().mean(-1, keepdim=True) + 1e-6)
    streams = [torch.randn(4, 6) * size for size in (0.1, 1.0, 30.0)]
    head = torch.randn(9, 6)
    got = tensor_of(f(streams, norm, head), shape=(3, 4, 9), name="result")
    logits = torch.stack([norm(stream) @ head.T for stream in streams])
    raw = torch.stack([stream @ head.T for stream in streams])
    fail_if(
        near(got, raw.softmax(-1)),
        "The last norm is missing. The stream's length differs by orders of magnitude between layers, so without it "
        "the early layers look undecided and the late ones certain, whatever they say.",
    )
    fail_if(near(got, logits), "These are logits. Probabilities need a softmax over the vocabulary.")
    fail_if(
        near(got, logits.log_softmax(-1)),
        "These are *logarithms* of probabilities: softmax, not log_softmax.",
    )
    fail_if(
        near(got, logits.softmax(0)) or near(got, logits.softmax(1)),
        "Your softmax runs along the wrong axis: the numbers of one layer and one token must add up to 1.",
    )
    fail_if(
        near(got, torch.stack([norm(x) for x in torch.stack(streams).cumsum(0)]) @ head.T)
        or near(got, (norm(torch.stack(streams).cumsum(0)) @ head.T).softmax(-1)),
        "You add the streams up. The residual stream after a layer already is the sum of all that was written so far.",
    )
    fail_if(not near(got, logits.softmax(-1)), "The numbers differ from softmax(head · norm(stream)).")


@lens.wrong("no norm", says="last norm is missing")
def logit_lens(streams, norm, head):
    return torch.stack([(stream @ head.T).softmax(-1) for stream in streams])


@lens.wrong("no softmax", says="These are logits")
def logit_lens(streams, norm, head):
    return torch.stack([norm(stream) @ head.T for stream in streams])


@lens.wrong("softmax over tokens", says="wrong axis")
def logit_lens(streams, norm, head):
    return torch.stack([(norm(stream) @ head.T).softmax(0) for stream in streams])


@lens.wrong("adds the streams up", says="You add the streams up")
def logit_lens(streams, norm, head):
    return (norm(torch.stack(streams).cumsum(0)) @ head.T).softmax(-1)


# ---------------------------------------------------------------------------------------------------------------
written = Exercise(
    "look_inside.what_is_written",
    notebook="13_look_inside",
    title="Not where it looks, but what it takes",
    difficulty=2,
    minutes=15,
    task="""
    A weight says how much of a token's value is taken, not how much that is. Write
    `what_is_written(weights, values, out)` for one head: `weights` `(t s)`, `values` `(s c)`, and `out` `(d c)`, the
    columns of the output matrix that belong to this head. Return `(t s)`: the length of the vector that each source
    token contributes to the residual stream of each query token.
    """,
    hints=[
        "Source token j contributes to query i the vector weights[i, j] · (out @ values[j]).",
        "The length of a vector times a positive number is the number times the length.",
        "So compute what each value becomes in the stream, `values @ out.T` `(s d)`, take the norms `(s)`, and multiply "
        "each row of weights by them.",
    ],
)


@written.stub
def what_is_written(weights, values, out):
    """weights (t s), values (s c), out (d c) → lengths (t s)"""
    ...  # your code


@written.solution
def what_is_written(weights, values, out):
    return weights * (values @ out.T).norm(dim=-1)


@written.judge
def judge_written(f):
    for tokens in (5, 1):
        weights = torch.randn(tokens, tokens).masked_fill(
            torch.ones(tokens, tokens).triu(1).bool(), -torch.inf
        )
        weights = weights.softmax(-1)
        values, out = torch.randn(tokens, 3), torch.randn(7, 3)
        got = tensor_of(f(weights, values, out), shape=(tokens, tokens), name="result")
        lengths = (values @ out.T).norm(dim=-1)
        if tokens > 1:
            fail_if(
                near(got, weights * values.norm(dim=-1)),
                "You take the length of the value inside the head. What reaches the stream has gone through the output "
                "matrix, which stretches some directions and drops others.",
            )
            fail_if(
                near(got, weights * lengths[:, None]),
                "The lengths belong to the source tokens, which are the columns; yours multiply the rows.",
            )
            fail_if(
                near(got, lengths.expand_as(weights)),
                "The weights are missing: this is what each token has to offer.",
            )
        fail_if(
            near(got, weights * (values @ out.T).square().sum(-1)) and not near(got, weights * lengths),
            "This is the square of the length. Take its root.",
        )
        fail_if(
            near(got, weights * (values @ out.T).abs().sum(-1)) and not near(got, weights * lengths),
            "You add up the absolute values. The length of a vector is the root of the sum of squares.",
        )
        fail_if(
            not near(got, weights * lengths), "The numbers differ from weights[i, j] · |out · values[j]|."
        )


@written.wrong("without the output matrix", says="inside the head")
def what_is_written(weights, values, out):
    return weights * values.norm(dim=-1)


@written.wrong("lengths along the rows", says="yours multiply the rows")
def what_is_written(weights, values, out):
    return weights * (values @ out.T).norm(dim=-1)[:, None]


@written.wrong("no weights", says="weights are missing")
def what_is_written(weights, values, out):
    return (values @ out.T).norm(dim=-1).expand(weights.shape)


@written.wrong("squared", says="square of the length")
def what_is_written(weights, values, out):
    return weights * (values @ out.T).square().sum(-1)


# ---------------------------------------------------------------------------------------------------------------
removed = Exercise(
    "look_inside.without_head",
    notebook="13_look_inside",
    title="Take one head out",
    difficulty=3,
    minutes=20,
    task="""
    To remove a head without touching the others, the output matrix must not read its channels. Write
    `without_head(out, head, head_dim, mean=None)`: `out` is `(d h·c)`; return a matrix and a vector `(matrix, bias)` such
    that `x @ matrix.T + bias` is the layer's output without head number `head`. The bias is zero `(d)`, unless `mean`
    `(c)` is given: then the head is replaced by its average output, so the bias is what that average would have written.
    """,
    hints=[
        "The channels of head k are the columns k·c … (k + 1)·c of `out`.",
        "Work on a copy: `out.clone()`. Set these columns to zero.",
        "What the average writes is the removed columns times `mean`: `(d c) @ (c)` → `(d)`.",
    ],
)


@removed.stub
def without_head(out, head, head_dim, mean=None):
    """out (d h·c), mean (c) or None → matrix (d h·c), bias (d)"""
    ...  # your code


@removed.solution
def without_head(out, head, head_dim, mean=None):
    columns = slice(head * head_dim, (head + 1) * head_dim)
    matrix = out.clone()
    matrix[:, columns] = 0
    bias = torch.zeros(out.shape[0]) if mean is None else out[:, columns] @ mean
    return matrix, bias


@removed.judge
def judge_removed(f):
    out, mean = torch.randn(6, 12), torch.randn(3)
    for head in (0, 2, 3):
        for average in (None, mean):
            got = f(out, head, 3, average) if average is not None else f(out, head, 3)
            fail_if(
                not isinstance(got, (tuple, list)) or len(got) != 2,
                "Return two things: the matrix and the bias, `return matrix, bias`.",
            )
            matrix = tensor_of(got[0], shape=(6, 12), name="matrix")
            bias = tensor_of(got[1], shape=(6,), name="bias")
            columns = slice(head * 3, head * 3 + 3)
            wanted = out.clone()
            wanted[:, columns] = 0
            strided = out.clone()
            strided[:, head::4] = 0
            fail_if(
                near(matrix, strided),
                "You removed every fourth channel. The heads are not interleaved: each has its channels side by side.",
            )
            rows = out.clone()
            rows[columns.start % 6 : columns.start % 6 + 3] = 0
            fail_if(
                near(matrix, rows) or (near(matrix[:, columns], out[:, columns]) and not near(matrix, out)),
                "You cleared rows or the wrong columns. Rows of `out` are channels of the stream; its columns are what the "
                "heads deliver.",
            )
            fail_if(near(matrix, out), "The matrix still reads this head: its columns are not zero.")
            fail_if(
                not near(matrix, wanted),
                "Exactly the columns of this head must be zero, and nothing else changed.",
            )
            if average is None:
                fail_if(
                    bool(bias.abs().max() > 0),
                    "Without `mean` nothing is put in its place: the bias is zero.",
                )
            else:
                fail_if(
                    near(bias, torch.zeros(6)),
                    "The average is not put in: with `mean`, the bias is what the head would have written on average. "
                    "(If you multiply by the columns after clearing them, nothing is left of them.)",
                )
                fail_if(
                    not near(bias, out[:, columns] @ mean),
                    "The bias is not the removed columns times `mean`.",
                )


@removed.wrong("interleaved heads", says="every fourth channel")
def without_head(out, head, head_dim, mean=None):
    matrix = out.clone()
    matrix[:, head :: out.shape[1] // head_dim] = 0
    return matrix, torch.zeros(out.shape[0])


@removed.wrong("rows instead of columns", says="cleared rows")
def without_head(out, head, head_dim, mean=None):
    matrix = out.clone()
    matrix[head * head_dim % 6 : head * head_dim % 6 + head_dim] = 0
    return matrix, torch.zeros(out.shape[0])


@removed.wrong("average of the cleared columns", says="average is not put in")
def without_head(out, head, head_dim, mean=None):
    columns = slice(head * head_dim, (head + 1) * head_dim)
    matrix = out.clone()
    matrix[:, columns] = 0
    bias = torch.zeros(out.shape[0]) if mean is None else matrix[:, columns] @ mean
    return matrix, bias


@removed.wrong("changes the model's own matrix", says="changes a tensor")
def without_head(out, head, head_dim, mean=None):
    out[:, head * head_dim : (head + 1) * head_dim] = 0
    return out, torch.zeros(out.shape[0])
