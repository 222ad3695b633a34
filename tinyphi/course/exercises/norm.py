"""Exercises of notebook 03: RMSNorm."""

import torch

from tinyphi.course.exercise import Exercise, fail_if, near, tensor_of

ex = Exercise(
    "norm.rms_norm",
    notebook="03_rmsnorm",
    title="The norm from memory",
    difficulty=1,
    minutes=5,
    task="""
        Write `rms_norm(x, weight, eps)` without looking up: x (… d), weight (d) → (… d). Each vector is
        divided by its own root mean square, with `eps` under the root, then each channel is multiplied by
        its weight. A vector of zeros stays a vector of zeros.
        """,
    hints=[
        "Square, mean, root: over which axis?",
        "`keepdim=True` keeps the axis, so that the division finds its partner.",
        "`x * torch.rsqrt(mean_square + eps) * weight`",
    ],
)


@ex.stub
def rms_norm(x, weight, eps):
    """(… d), (d), a number → (… d)."""
    ...  # your code


@ex.solution
def rms_norm(x, weight, eps):
    return weight * x * torch.rsqrt(x.square().mean(-1, keepdim=True) + eps)


@ex.judge
def judge(f):
    torch.manual_seed(0)
    for shape, eps in (((8,), 1e-5), ((3, 6), 1e-5), ((2, 3, 4), 0.5)):
        x, weight = 2 * torch.randn(shape) + 1, torch.rand(shape[-1]) + 0.5
        square = x.square().mean(-1, keepdim=True)
        wanted = weight * x * torch.rsqrt(square + eps)
        got = tensor_of(f(x, weight, eps), shape=shape)
        centred = x - x.mean(-1, keepdim=True)
        fail_if(
            near(got, weight * centred * torch.rsqrt(centred.square().mean(-1, keepdim=True) + eps)),
            "You subtract the mean first. That is LayerNorm; RMSNorm leaves the mean in.",
        )
        fail_if(
            near(got, weight * x / (x.norm(dim=-1, keepdim=True) + eps), 1e-3)
            or near(got, weight * x * torch.rsqrt(x.square().sum(-1, keepdim=True) + eps)),
            "You divide by the length, the root of the *sum* of squares. The mean is meant: otherwise wide "
            "vectors come out with tiny numbers.",
        )
        fail_if(
            len(shape) > 1 and near(got, weight * x * torch.rsqrt(x.square().mean() + eps)),
            "One mean for all vectors together: then each token's length depends on the other tokens, later "
            "ones included. Take the mean over the last axis only.",
        )
        fail_if(
            eps > 0.1 and near(got, weight * x / (square.sqrt() + eps)),
            "Your eps is added after the root. It belongs under it; with 1e-5 one does not see the "
            "difference, with 0.5 one does.",
        )
        fail_if(
            near(got, x * torch.rsqrt(square + eps)),
            "The learned weight is not used.",
        )
        fail_if(
            near(got, weight * x / (square + eps)),
            "The root is missing: you divide by the mean square.",
        )
        fail_if(
            near(got, weight * x * (square + eps).sqrt()),
            "You multiply by the root mean square. Dividing takes the length away: `torch.rsqrt` is 1 / root.",
        )
        fail_if(
            len(shape) > 1 and near(got, weight * x * torch.rsqrt(x.square().mean(0, keepdim=True) + eps)),
            "Your mean runs over the first axis, over different vectors. Each vector has its own: the last axis.",
        )
        fail_if(
            eps < 0.1 and not near(got, wanted, 1e-4),
            "For a random vector the numbers differ. Try [3, -4, 5] from above by hand.",
        )
        zero = tensor_of(f(torch.zeros(shape), weight, eps), shape=shape)
        fail_if(
            zero.isnan().any(),
            "A vector of zeros gives NaN: it divides zero by zero. One NaN in the stream spreads to every "
            "later token, through attention.",
        )
        fail_if(not near(got, wanted, 1e-4), f"With eps = {eps} the numbers differ. Where did you put eps?")


@ex.wrong("LayerNorm", says="That is LayerNorm")
def rms_norm(x, weight, eps):
    x = x - x.mean(-1, keepdim=True)
    return weight * x * torch.rsqrt(x.square().mean(-1, keepdim=True) + eps)


@ex.wrong("length instead of mean", says="the root of the *sum*")
def rms_norm(x, weight, eps):
    return weight * x / (x.norm(dim=-1, keepdim=True) + eps)


@ex.wrong("no eps", says="A vector of zeros gives NaN")
def rms_norm(x, weight, eps):
    return weight * x / x.square().mean(-1, keepdim=True).sqrt()


@ex.wrong("eps after the root", says="added after the root")
def rms_norm(x, weight, eps):
    return weight * x / (x.square().mean(-1, keepdim=True).sqrt() + eps)


@ex.wrong("no root", says="The root is missing")
def rms_norm(x, weight, eps):
    return weight * x / (x.square().mean(-1, keepdim=True) + eps)


@ex.wrong("the first axis", says="over the first axis")
def rms_norm(x, weight, eps):
    return weight * x * torch.rsqrt(x.square().mean(0, keepdim=True) + eps)


@ex.wrong("one mean for all", says="One mean for all vectors")
def rms_norm(x, weight, eps):
    return weight * x * torch.rsqrt(x.square().mean() + eps)


ex = Exercise(
    "norm.bfloat16",
    notebook="03_rmsnorm",
    title="Round where Phi-3 rounds",
    difficulty=2,
    minutes=15,
    task="""
        Write `norm_in_bfloat16(x, weight, eps)` for x (… d) and weight (d), both bfloat16, so that every
        bit is Phi-3's: square, mean, root and division in float32, *then* back to bfloat16, then the
        weight, in bfloat16. For x in float32 it must work as well, and return float32.
        """,
    hints=[
        "`x.float()` at the beginning.",
        "The result of the division goes back with `.to(x.dtype)`, before the weight comes in.",
    ],
)


@ex.stub
def norm_in_bfloat16(x, weight, eps):
    """(… d), (d), a number → (… d), in the dtype of x."""
    ...  # your code


@ex.solution
def norm_in_bfloat16(x, weight, eps):
    full = x.float()
    full = full * torch.rsqrt(full.square().mean(-1, keepdim=True) + eps)
    return weight * full.to(x.dtype)


@ex.judge
def judge(f):
    torch.manual_seed(1)
    eps = 1e-5
    for dtype in (torch.bfloat16, torch.float32):
        x = (30 * torch.randn(4, 64)).to(dtype)
        weight = (torch.rand(64) + 0.5).to(dtype)
        full = x.float()
        normed = full * torch.rsqrt(full.square().mean(-1, keepdim=True) + eps)
        wanted = weight * normed.to(dtype)
        got = tensor_of(f(x, weight, eps), shape=x.shape)
        fail_if(
            got.dtype != dtype,
            f"x is {str(dtype).removeprefix('torch.')} and so must the result be; yours is "
            f"{str(got.dtype).removeprefix('torch.')}. The next matrix would refuse it.",
        )
        if dtype == torch.float32:
            fail_if(
                near(got, weight * normed.bfloat16()),
                "x is in float32, and you round to bfloat16 on the way all the same. Go back to the dtype of *x*, "
                "whatever that is.",
            )
            fail_if(not near(got, wanted), "In float32 the numbers differ from the norm of the notebook.")
            continue
        share = f"{(got != wanted).float().mean():.0%} of the numbers differ in the last bits"
        low = weight * x * torch.rsqrt(x.square().mean(-1, keepdim=True) + eps)
        also_low = weight * (x * torch.rsqrt(x.square().mean(-1, keepdim=True) + eps))
        fail_if(
            not torch.equal(got, wanted) and (torch.equal(got, low) or torch.equal(got, also_low)),
            f"Everything happens in bfloat16, the squares too: {share}. A sum of many squares needs more "
            "than 8 bits.",
        )
        fail_if(
            not torch.equal(got, wanted) and torch.equal(got, (weight.float() * normed).to(dtype)),
            f"You round once, after the weight. That is more precise, and {share}: the model was trained "
            "with the rounding before the weight.",
        )
        fail_if(not torch.equal(got, wanted), f"{share}. At which step do you go back to bfloat16?")


@ex.wrong("all in bfloat16", says="Everything happens in bfloat16")
def norm_in_bfloat16(x, weight, eps):
    return weight * x * torch.rsqrt(x.square().mean(-1, keepdim=True) + eps)


@ex.wrong("rounds once", says="You round once")
def norm_in_bfloat16(x, weight, eps):
    full = x.float()
    full = full * torch.rsqrt(full.square().mean(-1, keepdim=True) + eps)
    return (weight.float() * full).to(x.dtype)


@ex.wrong("always bfloat16", says="the dtype of *x*")
def norm_in_bfloat16(x, weight, eps):
    full = x.float()
    full = full * torch.rsqrt(full.square().mean(-1, keepdim=True) + eps)
    return weight * full.bfloat16()


@ex.wrong("stays in float32", says="The next matrix would refuse it")
def norm_in_bfloat16(x, weight, eps):
    full = x.float()
    return weight * (full * torch.rsqrt(full.square().mean(-1, keepdim=True) + eps))


ex = Exercise(
    "norm.fold_weight",
    notebook="03_rmsnorm",
    title="Fold the weight away",
    difficulty=2,
    minutes=10,
    task="""
        Write `fold_weight(weight, matrix)`: weight (d) of a norm, matrix (o d) of the linear layer behind
        it → a new matrix (o d) that gives the same result when the norm's weight is one: `normed @
        fold_weight(weight, matrix).T == (weight * normed) @ matrix.T`.
        """,
    hints=[
        "Output o is the sum over d of matrix[o, d] · weight[d] · normed[d]. Which number belongs to which?",
        "Broadcasting lines up the last axes: `(o d)` with `(d)`.",
    ],
)


@ex.stub
def fold_weight(weight, matrix):
    """(d), (o d) → (o d)."""
    ...  # your code


@ex.solution
def fold_weight(weight, matrix):
    return matrix * weight


@ex.judge
def judge(f):
    torch.manual_seed(2)
    for outputs, width in ((6, 6), (1, 4), (5, 3)):
        weight, matrix = torch.rand(width) + 0.5, torch.randn(outputs, width)
        got = tensor_of(f(weight, matrix), shape=(outputs, width))
        fail_if(
            outputs == width and near(got, matrix * weight[:, None]),
            "You scale the *rows*, which are outputs. The weight belongs to the inputs, the columns; only "
            "because this matrix is square did the shapes fit.",
        )
        fail_if(
            near(got, matrix / weight),
            "You divide by the weight. Nothing has to be undone: the weight moves from the vector into the "
            "matrix, as a factor.",
        )
        fail_if(
            near(got, matrix + weight),
            "You add the weight. It multiplied the channels before, so it must multiply the columns now.",
        )
        fail_if(
            not near(got, matrix * weight),
            f"For a matrix {(outputs, width)} the products differ. Multiply a vector with a single 1 in "
            "channel 0: what should come out?",
        )


@ex.wrong("rows", says="You scale the *rows*")
def fold_weight(weight, matrix):
    return matrix * weight[:, None]


@ex.wrong("divides", says="You divide by the weight")
def fold_weight(weight, matrix):
    return matrix / weight


@ex.wrong("adds", says="You add the weight")
def fold_weight(weight, matrix):
    return matrix + weight


ex = Exercise(
    "norm.gradient",
    notebook="03_rmsnorm",
    title="The way back",
    difficulty=3,
    minutes=30,
    task="""
        Training needs the gradient. For y = weight · x / rms, with rms = √(mean(x²) + eps), let `upstream`
        (… d) be the gradient of the loss with respect to y. Write `norm_gradient(x, weight, eps, upstream)`
        → (… d): the gradient with respect to x, without calling autograd.
        """,
    hints=[
        "x enters twice: in the numerator of its own channel, and in the rms of *every* channel.",
        "With g = upstream · weight: the first way gives g / rms. For the second, the derivative of 1/rms "
        "with respect to x is −x / (d · rms³).",
        "g / rms − x · mean(g · x) / rms³, the mean over the last axis.",
    ],
)


@ex.stub
def norm_gradient(x, weight, eps, upstream):
    """(… d), (d), a number, (… d) → (… d)."""
    ...  # your code


@ex.solution
def norm_gradient(x, weight, eps, upstream):
    rms = (x.square().mean(-1, keepdim=True) + eps).sqrt()
    g = upstream * weight
    return g / rms - x * (g * x).mean(-1, keepdim=True) / rms**3


@ex.judge
def judge(f):
    torch.manual_seed(3)
    for shape, eps in (((5,), 1e-5), ((2, 3, 8), 0.1), ((1, 4), 1e-5)):
        x, weight = torch.randn(shape), torch.rand(shape[-1]) + 0.5
        upstream = torch.randn(shape)
        rms = (x.square().mean(-1, keepdim=True) + eps).sqrt()
        g = upstream * weight

        def back(g, mean=lambda z: z.mean(-1, keepdim=True), rms=rms, x=x):
            return g / rms - x * mean(g * x) / rms**3

        wanted = back(g)
        try:
            with torch.no_grad():
                got = tensor_of(f(x, weight, eps, upstream), shape=shape)
        except Exception as error:
            fail_if(
                "does not require grad" in str(error),
                "You call autograd, which is switched off here: write the derivative yourself. (Autograd is a good "
                "witness when you test it.)",
            )
            raise
        fail_if(
            near(got, g / rms, 1e-4),
            "You treat the rms as a constant. But each x also changes the rms, and through it every channel. "
            "A sign of it: your gradient would make x longer, which cannot change y.",
        )
        fail_if(
            near(got, back(upstream), 1e-4),
            "The weight is missing: what arrives at the division is upstream times weight.",
        )
        fail_if(
            near(got, back(g, lambda z: z.sum(-1, keepdim=True)), 1e-4),
            "The second term is d times too large: the rms is a *mean* of squares, so each channel moves "
            "it by one d-th.",
        )
        fail_if(
            near(got, 2 * g / rms - wanted, 1e-4),
            "The second term has the wrong sign: a larger x makes the rms larger and so all outputs smaller.",
        )
        fail_if(
            not near(got, wanted, 1e-4),
            "The numbers differ from autograd's. Check with d = 1: y is then nearly ±weight whatever x is, "
            "so the gradient should nearly vanish.",
        )


@ex.wrong("rms is constant", says="treat the rms as a constant")
def norm_gradient(x, weight, eps, upstream):
    return upstream * weight / (x.square().mean(-1, keepdim=True) + eps).sqrt()


@ex.wrong("autograd", says="You call autograd")
def norm_gradient(x, weight, eps, upstream):
    x = x.detach().requires_grad_()
    y = weight * x * torch.rsqrt(x.square().mean(-1, keepdim=True) + eps)
    return torch.autograd.grad(y, x, upstream)[0]


@ex.wrong("no weight", says="upstream times weight")
def norm_gradient(x, weight, eps, upstream):
    rms = (x.square().mean(-1, keepdim=True) + eps).sqrt()
    return upstream / rms - x * (upstream * x).mean(-1, keepdim=True) / rms**3


@ex.wrong("sum instead of mean", says="d times too large")
def norm_gradient(x, weight, eps, upstream):
    rms = (x.square().mean(-1, keepdim=True) + eps).sqrt()
    g = upstream * weight
    return g / rms - x * (g * x).sum(-1, keepdim=True) / rms**3


@ex.wrong("wrong sign", says="has the wrong sign")
def norm_gradient(x, weight, eps, upstream):
    rms = (x.square().mean(-1, keepdim=True) + eps).sqrt()
    g = upstream * weight
    return g / rms + x * (g * x).mean(-1, keepdim=True) / rms**3
