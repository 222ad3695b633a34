"""Exercises of notebook 04: one attention head."""

import weakref

import torch
from torch.overrides import TorchFunctionMode

from tinyphi.course.exercise import Exercise, fail_if, misconception, near, tensor_of


class _Watch(TorchFunctionMode):
    """Notes the names of the torch functions that are called, and the size of the largest tensor they give."""

    def __init__(self):
        super().__init__()
        self.names, self.largest = set(), 0

    def __torch_function__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        self.names.add(getattr(function, "__name__", ""))
        if isinstance(result, torch.Tensor):
            self.largest = max(self.largest, result.numel())
        return result


# ---------------------------------------------------------------------------------------------------------
ex = Exercise(
    "attention.causal_mask",
    notebook="04_attention_one_head",
    title="Hide the future",
    difficulty=1,
    minutes=5,
    task="""
    Write `causal_mask(queries, keys)`: a bool tensor `(queries keys)`, True where a query may see a key.
    The queries are the *last* tokens of the text, the keys are all of it: with 2 queries and 5 keys, the
    queries are the tokens 3 and 4. (That is how a model is called when it remembers the first three.)
    """,
    hints=[
        "With as many queries as keys it is a triangle: row i sees the columns 0 … i.",
        "With fewer queries, row i is the token `keys - queries + i`. Which columns does it see?",
        "Compare two rows of numbers: `own[:, None] >= torch.arange(keys)`.",
    ],
)


@ex.stub
def causal_mask(queries, keys):
    """(queries keys) bool: True where the query may see the key."""
    ...  # your code


@ex.solution
def causal_mask(queries, keys):
    own = torch.arange(keys - queries, keys)
    return own[:, None] >= torch.arange(keys)


@ex.judge
def judge(f):
    for queries, keys in ((5, 5), (2, 2), (1, 1), (2, 5), (1, 4)):
        got = tensor_of(f(queries, keys), shape=(queries, keys), dtype=torch.bool, name="mask")
        own = torch.arange(keys - queries, keys)[:, None]
        wanted = own >= torch.arange(keys)
        if torch.equal(got, wanted):
            continue
        case = f"With {queries} queries and {keys} keys: "
        fail_if(
            torch.equal(got, own > torch.arange(keys)),
            case + "your tokens do not see themselves. The first token would then see nothing at all, and "
            "the softmax of nothing is NaN.",
        )
        fail_if(
            torch.equal(got, ~wanted),
            case + "True and False have changed places: True should mean 'may see'.",
        )
        fail_if(
            torch.equal(got, own <= torch.arange(keys)),
            case + "your tokens see the future and not the past. Rows ask, columns answer: which one must "
            "be the earlier?",
        )
        fail_if(
            torch.equal(got, torch.ones(queries, keys).tril().bool()),
            case + "your first query is token 0. But the queries are the last tokens of the text: the "
            "lower right corner of the triangle, not the upper left.",
        )
        row, column = (got != wanted).nonzero()[0].tolist()
        misconception(
            case + f"row {row}, column {column} should be {bool(wanted[row, column])}. Row {row} is the "
            f"token {keys - queries + row}."
        )


@ex.wrong("blind to itself", says="do not see themselves")
def causal_mask(queries, keys):
    return torch.ones(queries, keys).tril(keys - queries - 1).bool()


@ex.wrong("turned round", says="have changed places")
def causal_mask(queries, keys):
    return torch.ones(queries, keys).triu(keys - queries + 1).bool()


@ex.wrong("transposed", says="see the future and not the past")
def causal_mask(queries, keys):
    own = torch.arange(keys - queries, keys)
    return own[:, None] <= torch.arange(keys)


@ex.wrong("upper left corner", says="lower right corner")
def causal_mask(queries, keys):
    return torch.ones(queries, keys).tril().bool()


@ex.wrong("numbers", says="should be bool")
def causal_mask(queries, keys):
    return torch.ones(queries, keys).tril(keys - queries)


# ---------------------------------------------------------------------------------------------------------
ex = Exercise(
    "attention.stable_softmax",
    notebook="04_attention_one_head",
    title="A softmax that survives large scores",
    difficulty=2,
    minutes=10,
    task="""
    Write `stable_softmax(scores)`, without `torch.softmax`: for a tensor `(… s)`, the softmax over the last
    axis. Scores may be 1000 or −1000, and hidden ones are `-inf`. Each row holds at least one finite number.
    """,
    hints=[
        "`exp(1000)` is infinite, and infinity divided by infinity is NaN. Adding the same number to all "
        "scores of a row does not change its softmax.",
        "Which number makes the largest score of *each row* 0? Then no `exp` is larger than 1.",
        "`scores.amax(dim=-1, keepdim=True)`; the same `keepdim` helps when you divide by the sum.",
    ],
)


@ex.stub
def stable_softmax(scores):
    """(… s) → (… s): positive, each row adds up to 1."""
    ...  # your code


@ex.solution
def stable_softmax(scores):
    shifted = scores - scores.amax(dim=-1, keepdim=True)
    powers = shifted.exp()
    return powers / powers.sum(dim=-1, keepdim=True)


@ex.judge
def judge(f):
    small = torch.randn(2, 3, 5)
    with _Watch() as watch:
        got = f(small)
    fail_if(
        any(name.endswith("softmax") for name in watch.names),
        "You let torch compute the softmax. Write it with `exp`, a sum and a division.",
    )
    got = tensor_of(got, shape=(2, 3, 5))
    wanted = small.softmax(-1)
    if not near(got, wanted):
        sums = got.sum(-1)
        fail_if(
            near(got.sum(-2), torch.ones(2, 5)),
            "Your columns add up to 1 instead of your rows. The softmax runs over the last axis: each "
            "query shares out its own weight of 1.",
        )
        fail_if(
            near(got.sum(), 1.0),
            "All your weights together add up to 1. Every row has a 1 of its own: keep the row axis when "
            "you sum.",
        )
        fail_if(
            not near(sums, torch.ones(2, 3)),
            f"Your rows do not add up to 1; the first gives {float(sums[0, 0]):.4f}.",
        )
        misconception("The rows add up to 1, but the weights are not those of a softmax: exp, then divide.")
    large = torch.tensor([[1000.0, 999.0, -1000.0], [-1000.0, -1001.0, -1000.5]])
    got = f(large)
    fail_if(
        not got[0].isfinite().all(),
        "With scores of 1000 a row becomes NaN: exp(1000) is infinite. Subtract something first that "
        "the softmax does not feel.",
    )
    fail_if(
        not got[1].isfinite().all(),
        "A row whose scores are all near −1000 becomes NaN, because each exp is 0 there. The largest score "
        "of the whole tensor does not help it: which row's maximum does?",
    )
    fail_if(not near(got, large.softmax(-1), 1e-3), "With large scores the weights are wrong.")
    hidden = torch.tensor([[0.5, float("-inf"), 1.0], [3.0, float("-inf"), float("-inf")]])
    got = f(hidden)
    fail_if(
        not got.isfinite().all(),
        "With a hidden score (−inf) in a row you get NaN. What do you subtract? It must be finite.",
    )
    fail_if(
        not near(got, hidden.softmax(-1)) or (got[hidden.isneginf()] != 0).any(),
        "A hidden score (−inf) should get the weight 0 exactly.",
    )


@ex.wrong("plain", says="exp(1000) is infinite")
def stable_softmax(scores):
    return scores.exp() / scores.exp().sum(-1, keepdim=True)


@ex.wrong("one maximum for all", says="whole tensor does not help")
def stable_softmax(scores):
    powers = (scores - scores.max()).exp()
    return powers / powers.sum(-1, keepdim=True)


@ex.wrong("columns", says="columns add up to 1")
def stable_softmax(scores):
    powers = (scores - scores.amax(-2, keepdim=True)).exp()
    return powers / powers.sum(-2, keepdim=True)


@ex.wrong("torch's own", says="let torch compute")
def stable_softmax(scores):
    return scores.softmax(-1)


@ex.wrong("a little more than 0", says="0 exactly")
def stable_softmax(scores):
    powers = (scores - scores.amax(-1, keepdim=True)).exp() + 1e-8
    return powers / powers.sum(-1, keepdim=True)


@ex.wrong("one sum for all", says="weights together add up to 1")
def stable_softmax(scores):
    powers = (scores - scores.amax(-1, keepdim=True)).exp()
    return powers / powers.sum()


@ex.wrong("smallest instead of largest", says="must be finite")
def stable_softmax(scores):
    powers = (scores.double() - scores.mean(-1, keepdim=True)).clamp(max=700).exp()
    return (powers / powers.sum(-1, keepdim=True)).float()


# ---------------------------------------------------------------------------------------------------------
ex = Exercise(
    "attention.one_head",
    notebook="04_attention_one_head",
    title="A head in five lines",
    difficulty=2,
    minutes=15,
    task="""
    Write `one_head(queries, keys, values)` with queries `(t c)`, keys `(s c)` and values `(s v)`: the mixed
    values `(t v)` of one causal head. The queries are the last t of the s tokens. Use what torch offers, but
    do not look at `my_head`; see how much of it has stayed with you.
    """,
    hints=[
        "Five steps: scores, scale, mask, softmax, mix.",
        "Scores `(t s)` are `queries @ keys.T`, divided by the root of the number of channels c.",
        "Hide with `masked_fill(…, float('-inf'))` *before* `softmax(-1)`; then `weights @ values`.",
    ],
)


@ex.stub
def one_head(queries, keys, values):
    """(t c), (s c), (s v) → (t v)."""
    ...  # your code


@ex.solution
def one_head(queries, keys, values):
    scores = queries @ keys.T / queries.shape[-1] ** 0.5
    hidden = torch.ones_like(scores).triu(keys.shape[0] - queries.shape[0] + 1).bool()
    return scores.masked_fill(hidden, float("-inf")).softmax(-1) @ values


def _head(queries, keys, values, scale=None, hidden=None, axis=-1):
    scores = queries @ keys.T * (queries.shape[-1] ** -0.5 if scale is None else scale)
    if hidden is None:
        hidden = torch.ones_like(scores).triu(keys.shape[0] - queries.shape[0] + 1).bool()
    return scores.masked_fill(hidden, float("-inf")).softmax(axis) @ values


@ex.judge
def judge(f):
    torch.manual_seed(1)
    queries, keys, values = 2 * torch.randn(6, 4), torch.randn(6, 4), torch.randn(6, 3)
    got = tensor_of(f(queries, keys, values), shape=(6, 3))
    wanted = _head(queries, keys, values)
    if not near(got, wanted):
        fail_if(
            got.isnan().any(),
            "There are NaNs. Does a row of your softmax have nothing left to look at?",
        )
        fail_if(
            near(got, _head(queries, keys, values, scale=1.0)),
            "The scores are not scaled. With many channels they grow, and the softmax only ever picks one "
            "token.",
        )
        fail_if(
            near(got, _head(queries, keys, values, scale=1 / 4)),
            "You divide by c. The spread of q·k grows with the *root* of c, so divide by that.",
        )
        fail_if(
            any(near(got, _head(queries, keys, values, scale=n**-0.5)) for n in (3, 6)),
            "You divide by the root of another number: of the values' channels, or of the tokens. What spreads "
            "is a sum over the c channels of queries and keys.",
        )
        nothing = torch.zeros(6, 6, dtype=torch.bool)
        fail_if(
            near(got, _head(queries, keys, values, hidden=nothing)),
            "The future is visible: nothing is masked.",
        )
        late = (queries @ keys.T / 2).softmax(-1).tril() @ values
        fail_if(
            near(got, late),
            "You hide the future after the softmax. Then the rows no longer add up to 1, and the hidden "
            "scores still count in the denominator. Hide before, with −inf.",
        )
        future = torch.ones(6, 6).triu(1).bool()
        fail_if(
            near(got, (queries @ keys.T / 2).masked_fill(future, 0).softmax(-1) @ values),
            "You set the hidden scores to 0. exp(0) is 1, not 0: the hidden tokens still get weight.",
        )
        fail_if(
            near(got, _head(queries, keys, values, axis=0)),
            "Your softmax runs over the queries. Each *query* shares out a weight of 1: the last axis.",
        )
        misconception("The numbers are not right. Compare scores, weights and result with the cells above.")
    fewer = f(queries[-2:], keys, values)
    fail_if(
        not near(tensor_of(fewer, shape=(2, 3)), wanted[-2:]),
        "Right with as many queries as keys. But with 2 queries and 6 keys, the queries are tokens 4 and 5; "
        "yours see too little or too much.",
    )


@ex.wrong("no scale", says="not scaled")
def one_head(queries, keys, values):
    scores = queries @ keys.T
    hidden = torch.ones_like(scores).triu(1).bool()
    return scores.masked_fill(hidden, float("-inf")).softmax(-1) @ values


@ex.wrong("divided by c", says="You divide by c")
def one_head(queries, keys, values):
    scores = queries @ keys.T / queries.shape[-1]
    hidden = torch.ones_like(scores).triu(1).bool()
    return scores.masked_fill(hidden, float("-inf")).softmax(-1) @ values


@ex.wrong("root of the tokens", says="root of another number")
def one_head(queries, keys, values):
    scores = queries @ keys.T / keys.shape[0] ** 0.5
    hidden = torch.ones_like(scores).triu(1).bool()
    return scores.masked_fill(hidden, float("-inf")).softmax(-1) @ values


@ex.wrong("no mask", says="nothing is masked")
def one_head(queries, keys, values):
    return (queries @ keys.T / queries.shape[-1] ** 0.5).softmax(-1) @ values


@ex.wrong("hidden too late", says="after the softmax")
def one_head(queries, keys, values):
    return (queries @ keys.T / queries.shape[-1] ** 0.5).softmax(-1).tril() @ values


@ex.wrong("hidden with 0", says="exp(0) is 1")
def one_head(queries, keys, values):
    scores = queries @ keys.T / queries.shape[-1] ** 0.5
    return scores.tril().softmax(-1) @ values


@ex.wrong("softmax over queries", says="runs over the queries")
def one_head(queries, keys, values):
    scores = queries @ keys.T / queries.shape[-1] ** 0.5
    hidden = torch.ones_like(scores).triu(1).bool()
    return scores.masked_fill(hidden, float("-inf")).softmax(0) @ values


@ex.wrong("upper left corner", says="the queries are tokens 4 and 5")
def one_head(queries, keys, values):
    scores = queries @ keys.T / queries.shape[-1] ** 0.5
    hidden = torch.ones_like(scores).triu(1).bool()
    return scores.masked_fill(hidden, float("-inf")).softmax(-1) @ values


# ---------------------------------------------------------------------------------------------------------
ex = Exercise(
    "attention.one_pass",
    notebook="04_attention_one_head",
    title="One pass, and no room for the scores",
    difficulty=3,
    minutes=30,
    task="""
    A text of 100,000 tokens has 10 billion scores for each head. Nobody has room for them, and nobody needs
    them all at once. Write `one_pass(query, blocks)` for one query `(c)`. `blocks` yields pairs of keys
    `(s c)` and values `(s v)`, a few tokens at a time, *once*. Return the mixed values `(v)`. Remember no
    more than three things between two blocks. The scores may be in the hundreds.
    (FlashAttention, the kernel behind the fused attention of all large models, rests on this.)
    """,
    hints=[
        "Remember the largest score so far, the sum of the exponentials so far, and the sum of the "
        "exponentials times their values so far.",
        "Exponentials are taken relative to the largest score. When a block brings a larger one, everything "
        "remembered was relative to the old one: by which factor is it too large?",
        "`factor = (old - new).exp()` corrects the sum *and* the mixed values. Begin with a largest score of "
        "−inf and zeros; divide once, at the end.",
    ],
)


@ex.stub
def one_pass(query, blocks):
    """(c), pairs of (s c) and (s v) → (v)."""
    ...  # your code


@ex.solution
def one_pass(query, blocks):
    largest, total, mixed = torch.tensor(float("-inf")), 0.0, 0.0
    for keys, values in blocks:
        scores = keys @ query / query.shape[-1] ** 0.5
        new = torch.maximum(largest, scores.max())
        factor, powers = (largest - new).exp(), (scores - new).exp()
        total = total * factor + powers.sum()
        mixed = mixed * factor + powers @ values
        largest = new
    return mixed / total


class _Watched:
    """The blocks one by one, and once; notes when one lives on after two more were asked for."""

    def __init__(self, blocks):
        self.blocks, self.kept, self.begun = blocks, False, False

    def __iter__(self):
        fail_if(
            self.begun,
            "You go through the blocks a second time. They come once; the largest score must be found on the way.",
        )
        self.begun = True
        return self._each()

    def _each(self):
        earlier = []
        for keys, values in self.blocks:
            self.kept |= len(earlier) > 1 and earlier[-2]() is not None
            fresh = values.clone()
            earlier.append(weakref.ref(fresh))
            yield keys.clone(), fresh


@ex.judge
def judge(f):
    torch.manual_seed(2)
    query, keys, values = torch.randn(4), torch.randn(9, 4), torch.randn(9, 3)

    def mixed(query):
        return (keys @ query / 2).softmax(-1) @ values

    whole = tensor_of(f(query, [(keys, values)]), shape=(3,))
    fail_if(
        near(whole, (keys @ query).softmax(-1) @ values),
        "With a single block: the scores are not scaled by the root of c.",
    )
    fail_if(not near(whole, mixed(query)), "Already with a single block of 9 tokens the result is wrong.")
    blocks = [(keys[a:b], values[a:b]) for a, b in ((0, 2), (2, 6), (6, 9))]
    blocks.sort(key=lambda block: (block[0] @ query).max())  # so that the largest score rises
    watched = _Watched(blocks)
    got = tensor_of(f(query, watched), shape=(3,))
    fail_if(
        watched.kept and near(got, mixed(query), 1e-4),
        "The result is right, but you keep the blocks. Of 100,000 tokens there would be too many.",
    )
    means = torch.stack([(k @ query / 2).softmax(-1) @ v for k, v in blocks])
    fail_if(
        near(got, means.mean(0)),
        "That is the mean of the blocks' results. A block with large scores must count for more.",
    )
    fail_if(near(got, means[-1]), "Only the last block is left of it: the others are forgotten.")
    if not near(got, mixed(query), 1e-4):
        misconception(
            "Right for one block, wrong for three. When the largest score rises, what was remembered was "
            "computed relative to the old one. All of it?"
        )
    many = [(torch.randn(2, 4), torch.randn(2, 3)) for _ in range(100)]
    with _Watch() as watch:
        f(query, _Watched(many))
    fail_if(
        watch.largest >= 100,
        f"The result is right, but something grows with the text: of 100 blocks you have {watch.largest} numbers "
        "in one tensor. What is remembered must be as large after the last block as after the first.",
    )
    steep = f(200 * query, iter(blocks))
    fail_if(
        not steep.isfinite().all(),
        "With scores in the hundreds the result is not finite. Take the exponentials relative to the largest "
        "score so far.",
    )
    fail_if(not near(steep, mixed(200 * query), 1e-4), "With scores in the hundreds the result is wrong.")


@ex.wrong("mean of blocks", says="mean of the blocks' results")
def one_pass(query, blocks):
    results = [(keys @ query / query.shape[-1] ** 0.5).softmax(-1) @ values for keys, values in blocks]
    return torch.stack(results).mean(0)


@ex.wrong("sum not corrected", says="All of it?")
def one_pass(query, blocks):
    largest, total, mixed = torch.tensor(float("-inf")), 0.0, 0.0
    for keys, values in blocks:
        scores = keys @ query / query.shape[-1] ** 0.5
        new = torch.maximum(largest, scores.max())
        powers = (scores - new).exp()
        total = total + powers.sum()
        mixed = mixed * (largest - new).exp() + powers @ values
        largest = new
    return mixed / total


@ex.wrong("without the largest", says="relative to the largest score so far")
def one_pass(query, blocks):
    total, mixed = 0.0, 0.0
    for keys, values in blocks:
        powers = (keys @ query / query.shape[-1] ** 0.5).exp()
        total, mixed = total + powers.sum(), mixed + powers @ values
    return mixed / total


@ex.wrong("no scale", says="not scaled by the root of c")
def one_pass(query, blocks):
    keys, values = (torch.cat(parts) for parts in zip(*blocks, strict=True))
    return (keys @ query).softmax(-1) @ values


@ex.wrong("all at once", says="you keep the blocks")
def one_pass(query, blocks):
    keys, values = (torch.cat(parts) for parts in zip(*blocks, strict=True))
    return (keys @ query / query.shape[-1] ** 0.5).softmax(-1) @ values


@ex.wrong("joined as they come", says="grows with the text")
def one_pass(query, blocks):
    all_keys, all_values = torch.empty(0, query.shape[-1]), None
    for keys, values in blocks:
        all_keys = torch.cat((all_keys, keys))
        all_values = values if all_values is None else torch.cat((all_values, values))
    return (all_keys @ query / query.shape[-1] ** 0.5).softmax(-1) @ all_values


@ex.wrong("two passes", says="a second time")
def one_pass(query, blocks):
    largest = max((keys @ query).max() for keys, values in blocks) / query.shape[-1] ** 0.5
    total, mixed = 0.0, 0.0
    for keys, values in blocks:
        powers = (keys @ query / query.shape[-1] ** 0.5 - largest).exp()
        total, mixed = total + powers.sum(), mixed + powers @ values
    return mixed / total


@ex.wrong("last block only", says="the others are forgotten")
def one_pass(query, blocks):
    for keys, values in blocks:
        mixed = (keys @ query / query.shape[-1] ** 0.5).softmax(-1) @ values
    return mixed
