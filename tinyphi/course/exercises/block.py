"""Exercises of notebook 09: SwiGLU and the block."""

import torch
from torch.nn import functional as F

from tinyphi.course.exercise import Exercise, fail_if, near, number_of, tensor_of

ex = Exercise(
    "block.silu",
    notebook="09_swiglu_and_block",
    title="SiLU",
    difficulty=1,
    minutes=5,
    task="""
        Write `silu(x)` with nothing but arithmetic and `torch.exp`: any shape → the same shape. It must
        also be right at x = 200 and x = −200.
        """,
    hints=[
        "The sigmoid is 1 / (1 + e^−x). And SiLU?",
        "exp(200) is too large for float32 and becomes infinite. 1 / infinite is 0, but infinite / infinite "
        "is NaN: write it so that only the first one can happen.",
    ],
)


@ex.stub
def silu(x):
    """Any shape → the same shape: x · sigmoid(x)."""
    ...  # your code


@ex.solution
def silu(x):
    return x / (1 + torch.exp(-x))


@ex.judge
def judge(f):
    for x in (torch.tensor([-3.0, -1.0, 0.0, 1.0, 3.0]), torch.tensor([[0.5]]), torch.linspace(-6, 6, 24)):
        got = tensor_of(f(x), shape=x.shape)
        fail_if(
            near(got, x.sigmoid()),
            "This is the sigmoid, the gate alone. SiLU is what passes through it: x times the gate.",
        )
        fail_if(
            x.numel() > 1 and near(got, x.relu()),
            "This is ReLU: it has a corner at 0 and lets nothing negative through. SiLU dips below zero.",
        )
        fail_if(
            near(got, x * (-x).sigmoid()),
            "The sign in the exponent is the other way round: your gate opens where x is negative.",
        )
        fail_if(
            near(got, F.gelu(x), 1e-3) or near(got, x * (1.702 * x).sigmoid(), 1e-3),
            "This is GELU, a sibling with a steeper gate. The model was not trained with it.",
        )
        fail_if(not near(got, F.silu(x)), f"At x = {x.flatten()[0]:.2f} yours gives {got.flatten()[0]:.4f}.")
    far = torch.tensor([-200.0, 200.0])
    got = tensor_of(f(far), shape=far.shape)
    fail_if(
        got.isnan().any(),
        "At ±200 there is a NaN: infinity divided by infinity. Gates of real models do reach large values.",
    )
    fail_if(
        not near(got, F.silu(far)), f"At -200 and 200 it should give 0 and 200; yours gives {got.tolist()}."
    )


@ex.wrong("sigmoid", says="the gate alone")
def silu(x):
    return 1 / (1 + torch.exp(-x))


@ex.wrong("ReLU", says="has a corner at 0")
def silu(x):
    return x * (x > 0)


@ex.wrong("overflow", says="infinity divided by infinity")
def silu(x):
    return x * torch.exp(x) / (1 + torch.exp(x))


@ex.wrong("sign", says="opens where x is negative")
def silu(x):
    return x / (1 + torch.exp(x))


ex = Exercise(
    "block.swiglu",
    notebook="09_swiglu_and_block",
    title="The fused matrix",
    difficulty=2,
    minutes=10,
    task="""
        Write `swiglu(x, gate_up, down)`: x (… d), `gate_up` (2f d) with the f gate rows first and the f up
        rows behind them, `down` (d f) → (… d).
        """,
    hints=[
        "One product `x @ gate_up.T` gives 2f numbers for each token.",
        "`chunk(2, dim=-1)` cuts the last axis into two halves.",
        "SiLU goes over one of the halves only, then the halves are multiplied, channel by channel.",
    ],
)


@ex.stub
def swiglu(x, gate_up, down):
    """(… d), (2f d), (d f) → (… d)."""
    ...  # your code


@ex.solution
def swiglu(x, gate_up, down):
    gate, up = (x @ gate_up.T).chunk(2, dim=-1)
    return (F.silu(gate) * up) @ down.T


@ex.judge
def judge(f):
    torch.manual_seed(0)
    for shape, width in (((2, 3, 4), 6), ((4,), 4), ((1, 5), 2)):
        d = shape[-1]
        x, gate_up, down = torch.randn(shape), torch.randn(2 * width, d), torch.randn(d, width)
        both = x @ gate_up.T
        gate, up = both.chunk(2, dim=-1)
        got = tensor_of(f(x, gate_up, down), shape=shape)

        def out(hidden, down=down):
            return hidden @ down.T

        fail_if(
            near(got, out(F.silu(up) * gate)),
            "You take the first half for `up` and gate with the second. In the file the gate rows come "
            "first; swapped, the shapes fit and the model is lost.",
        )
        fail_if(
            near(got, out(F.silu(both[..., ::2]) * both[..., 1::2])),
            "You take every other row. Here the two kinds lie one behind the other, not interleaved (as in "
            "Phi-3-small).",
        )
        fail_if(
            near(got, out(F.silu(gate) * F.silu(up))),
            "SiLU goes over the gate only. `up` carries the content and stays as it is.",
        )
        fail_if(
            near(got, out(F.silu(gate * up))),
            "SiLU comes *before* the product: first the gate is shaped, then it multiplies.",
        )
        fail_if(
            near(got, out(F.silu(gate) + up)),
            "The halves are added. A gate multiplies: where it is 0, nothing passes, whatever `up` says.",
        )
        fail_if(
            near(got, out(gate.sigmoid() * up)),
            "The gate goes through the sigmoid only (that is the older GLU). SwiGLU takes SiLU.",
        )
        fail_if(
            near(got, out(gate * up)),
            "Nothing bends: without a curve over the gate this is a mere product, and a large negative gate is as "
            "open as a large positive one.",
        )
        fail_if(
            near(got, out(F.relu(gate) * up)) or near(got, out(F.gelu(gate) * up), 1e-3),
            "Another curve than SiLU. The notebook tried ReLU and GELU: the model does not survive it.",
        )
        fail_if(
            not near(got, out(F.silu(gate) * up)),
            f"With x {tuple(shape)} and f = {width} the result differs. Compare gate, up and their product "
            "one after the other.",
        )


@ex.wrong("halves swapped", says="gate with the second")
def swiglu(x, gate_up, down):
    up, gate = (x @ gate_up.T).chunk(2, dim=-1)
    return (F.silu(gate) * up) @ down.T


@ex.wrong("interleaved", says="You take every other row")
def swiglu(x, gate_up, down):
    both = x @ gate_up.T
    return (F.silu(both[..., ::2]) * both[..., 1::2]) @ down.T


@ex.wrong("SiLU over both", says="SiLU goes over the gate only")
def swiglu(x, gate_up, down):
    gate, up = F.silu(x @ gate_up.T).chunk(2, dim=-1)
    return (gate * up) @ down.T


@ex.wrong("SiLU after the product", says="SiLU comes *before*")
def swiglu(x, gate_up, down):
    gate, up = (x @ gate_up.T).chunk(2, dim=-1)
    return F.silu(gate * up) @ down.T


@ex.wrong("no curve", says="Nothing bends")
def swiglu(x, gate_up, down):
    gate, up = (x @ gate_up.T).chunk(2, dim=-1)
    return (gate * up) @ down.T


@ex.wrong("GELU", says="Another curve than SiLU")
def swiglu(x, gate_up, down):
    gate, up = (x @ gate_up.T).chunk(2, dim=-1)
    return (F.gelu(gate) * up) @ down.T


@ex.wrong("sum", says="The halves are added")
def swiglu(x, gate_up, down):
    gate, up = (x @ gate_up.T).chunk(2, dim=-1)
    return (F.silu(gate) + up) @ down.T


ex = Exercise(
    "block.block_forward",
    notebook="09_swiglu_and_block",
    title="Two lines that make a layer",
    difficulty=2,
    minutes=10,
    task="""
        Write `block_forward(x, attention_norm, attention, mlp_norm, mlp)`: x (t d) and four functions (t d)
        → (t d). Return the stream after one Phi-3 layer.
        """,
    hints=[
        "Each half reads a normed copy and adds its result to the stream itself.",
        "What does the second half read: the stream before attention or after?",
    ],
)


@ex.stub
def block_forward(x, attention_norm, attention, mlp_norm, mlp):
    """(t d) and four functions (t d) → (t d) → the stream (t d) after the layer."""
    ...  # your code


@ex.solution
def block_forward(x, attention_norm, attention, mlp_norm, mlp):
    x = x + attention(attention_norm(x))
    return x + mlp(mlp_norm(x))


@ex.judge
def judge(f):
    torch.manual_seed(1)
    for tokens, width in ((3, 4), (1, 5)):
        x = 2 * torch.randn(tokens, width)
        matrices = torch.randn(2, width, width)
        weights = torch.rand(2, width) + 0.5
        n1, n2 = (lambda v, w=w: w * v * torch.rsqrt(v.square().mean(-1, keepdim=True)) for w in weights)
        a, m = (lambda v, matrix=matrix: torch.tanh(v @ matrix) for matrix in matrices)
        got = tensor_of(f(x, n1, a, n2, m), shape=x.shape)
        after, raw = x + a(n1(x)), x + a(x)
        normed_after = n1(x) + a(n1(x))
        post = n1(raw)
        mlp_first = x + m(n2(x))
        fail_if(
            near(got, n2(post + m(post))),
            "This is post-norm, the order of 2017: the norm stands *on* the stream and rescales it at every "
            "stop. In Phi-3 only the copy that a part reads is normed.",
        )
        fail_if(
            near(got, x + a(n1(x)) + m(n2(x))),
            "Your MLP reads the stream from *before* attention, so it cannot use what attention brought in. "
            "(Some models do this, to compute both at once; Phi-3 does not.)",
        )
        fail_if(
            near(got, normed_after + m(n2(normed_after)))
            or near(got, n2(normed_after) + m(n2(normed_after))),
            "You add to the normed copy. The stream itself must pass untouched, or its length is lost at "
            "every layer.",
        )
        fail_if(
            near(got, m(n2(a(n1(x))))),
            "Nothing is added: each half replaces the stream, and the token's own embedding is gone after "
            "the first layer.",
        )
        fail_if(
            near(got, mlp_first + a(n1(mlp_first))),
            "The MLP comes first here. It is attention, then the MLP.",
        )
        fail_if(
            near(got, after + m(after)) or near(got, raw + m(raw)) or near(got, raw + m(n2(raw))),
            "A norm is missing: both halves read a normed copy.",
        )
        fail_if(
            near(got, after + m(n1(after))),
            "The MLP reads through the norm of attention. Each half has a norm of its own, with its own weights.",
        )
        fail_if(
            near(got, x + n1(a(x)) + n2(m(x + n1(a(x))))),
            "You norm what each half *returns*. It is what a half reads that is normed.",
        )
        fail_if(
            near(got, x + m(n2(a(n1(x))))),
            "What attention found is read by the MLP and then lost: it must be added to the stream first.",
        )
        fail_if(
            not near(got, after + m(n2(after))), "The stream ends elsewhere. Write down what each half reads."
        )


@ex.wrong("post-norm", says="This is post-norm")
def block_forward(x, attention_norm, attention, mlp_norm, mlp):
    x = attention_norm(x + attention(x))
    return mlp_norm(x + mlp(x))


@ex.wrong("parallel", says="from *before* attention")
def block_forward(x, attention_norm, attention, mlp_norm, mlp):
    return x + attention(attention_norm(x)) + mlp(mlp_norm(x))


@ex.wrong("a norm is missing", says="A norm is missing")
def block_forward(x, attention_norm, attention, mlp_norm, mlp):
    x = x + attention(x)
    return x + mlp(mlp_norm(x))


@ex.wrong("one norm for both", says="a norm of its own")
def block_forward(x, attention_norm, attention, mlp_norm, mlp):
    x = x + attention(attention_norm(x))
    return x + mlp(attention_norm(x))


@ex.wrong("norms the results", says="what each half *returns*")
def block_forward(x, attention_norm, attention, mlp_norm, mlp):
    x = x + attention_norm(attention(x))
    return x + mlp_norm(mlp(x))


@ex.wrong("adds to the copy", says="add to the normed copy")
def block_forward(x, attention_norm, attention, mlp_norm, mlp):
    x = attention_norm(x)
    x = x + attention(x)
    x = mlp_norm(x)
    return x + mlp(x)


@ex.wrong("no stream", says="Nothing is added")
def block_forward(x, attention_norm, attention, mlp_norm, mlp):
    return mlp(mlp_norm(attention(attention_norm(x))))


@ex.wrong("MLP first", says="The MLP comes first here")
def block_forward(x, attention_norm, attention, mlp_norm, mlp):
    x = x + mlp(mlp_norm(x))
    return x + attention(attention_norm(x))


ex = Exercise(
    "block.flops",
    notebook="09_swiglu_and_block",
    title="What does a token cost?",
    difficulty=3,
    minutes=15,
    task="""
        Write `flops_per_token(d, f, h, n, c, layers, v, s)`: the floating-point operations for one new
        token that sees s tokens (itself included). A matrix (o d) times a vector costs 2·o·d: a
        multiplication and an addition each. Count the matrices of all layers, scores and mix in attention,
        and the head. Norms, softmax, rotation and gates are small: leave them out. The letters are those of
        the notebook: h query heads and n key/value heads of c channels.
        """,
    hints=[
        "qkv_proj is ((h + 2n)·c, d), o_proj (d, h·c), gate_up_proj (2f, d), down_proj (d, f), the head "
        "(v, d).",
        "Scores: each of h heads multiplies s keys of c channels with its query. The mix costs the same "
        "again.",
        "The embedding costs nothing: a look-up multiplies nothing.",
    ],
)


@ex.stub
def flops_per_token(d, f, h, n, c, layers, v, s):
    """Eight whole numbers → the operations for one token."""
    ...  # your code


@ex.solution
def flops_per_token(d, f, h, n, c, layers, v, s):
    attention = 2 * d * (h + 2 * n) * c + 2 * h * c * d + 4 * s * h * c
    mlp = 2 * 3 * d * f
    return layers * (attention + mlp) + 2 * v * d


@ex.judge
def judge(f):
    for d, wide, h, n, c, layers, v, s in (
        (576, 1536, 9, 3, 64, 30, 49152, 100),
        (3072, 8192, 32, 32, 96, 32, 32064, 4096),
        (8, 20, 2, 1, 4, 1, 50, 1),
    ):
        projections, mix = 2 * d * (h + 2 * n) * c + 2 * h * c * d, 4 * s * h * c
        mlp, head = 6 * d * wide, 2 * v * d
        wanted = layers * (projections + mix + mlp) + head
        got = number_of(f(d, wide, h, n, c, layers, v, s))
        mistakes = {
            "Exactly half: each product of two numbers is also *added* to a sum, which makes two "
            "operations.": [wanted / 2],
            "The head is missing: every token of the vocabulary is scored, v rows of d.": [wanted - head],
            "Your MLP has two matrices. A gated one has three: gate, up and down.": [
                wanted - layers * mlp // 3
            ],
            "You give keys and values as many heads as queries. There are only n of them.": [
                wanted + layers * 4 * d * (h - n) * c if n < h else wanted + 1
            ],
            "The embedding costs no operations: it looks up a row and multiplies nothing.": [wanted + head],
            "Scores and mix are missing, the only part that grows with the text.": [
                wanted - layers * mix,
                wanted - layers * mix // 2,
            ],
            "All layers do this, not only one.": [projections + mix + mlp + head if layers > 1 else -1],
            "The matrix behind the heads, o_proj, is missing.": [wanted - layers * 2 * h * c * d],
            "Scores and mix happen in each of the h *query* heads, not in the n key/value heads.": [
                wanted - layers * 4 * s * (h - n) * c if n < h else -1
            ],
            "The head comes once, behind the last layer, not in each.": [
                wanted + (layers - 1) * head if layers > 1 else -1
            ],
        }
        for message, values in mistakes.items():
            fail_if(any(got == value for value in values), message)
        fail_if(
            abs(got - wanted) > 0.5,
            f"For d={d}, f={wide}, h={h}, n={n}, c={c}, {layers} layers, v={v}, s={s} it should be "
            f"{wanted:,}; yours is {got:,.0f}. Count one matrix after the other.",
        )


@ex.wrong("half", says="Exactly half")
def flops_per_token(d, f, h, n, c, layers, v, s):
    return layers * (d * (h + 2 * n) * c + h * c * d + 2 * s * h * c + 3 * d * f) + v * d


@ex.wrong("no head", says="The head is missing")
def flops_per_token(d, f, h, n, c, layers, v, s):
    return layers * (2 * d * (h + 2 * n) * c + 2 * h * c * d + 4 * s * h * c + 6 * d * f)


@ex.wrong("two matrices", says="has two matrices")
def flops_per_token(d, f, h, n, c, layers, v, s):
    return layers * (2 * d * (h + 2 * n) * c + 2 * h * c * d + 4 * s * h * c + 4 * d * f) + 2 * v * d


@ex.wrong("no o_proj", says="o_proj, is missing")
def flops_per_token(d, f, h, n, c, layers, v, s):
    return layers * (2 * d * (h + 2 * n) * c + 4 * s * h * c + 6 * d * f) + 2 * v * d


@ex.wrong("no groups", says="as many heads as queries")
def flops_per_token(d, f, h, n, c, layers, v, s):
    return layers * (2 * d * 3 * h * c + 2 * h * c * d + 4 * s * h * c + 6 * d * f) + 2 * v * d


@ex.wrong("no scores", says="grows with the text")
def flops_per_token(d, f, h, n, c, layers, v, s):
    return layers * (2 * d * (h + 2 * n) * c + 2 * h * c * d + 6 * d * f) + 2 * v * d
