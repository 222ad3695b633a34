"""Exercises of notebook 16: rounding that looks at the inputs."""

import torch

from tinyphi.course.exercise import Exercise, fail_if, near, tensor_of

# ---------------------------------------------------------------------------------------------------------------
keep = Exercise(
    "calibrated.keep",
    notebook="16_awq_gptq_nf4",
    title="The few that count",
    difficulty=1,
    minutes=10,
    task="""
    `weight` and `rounded` are the same matrix `(o i)` before and after rounding, `x` `(t i)` are inputs that it gets.
    Write `keep_columns(weight, rounded, x, count)`: the rounded matrix, in which the `count` columns with the largest
    inputs have their exact weights. The size of an input is the mean of |x| over the tokens.
    """,
    hints=[
        "A column of a matrix (o i) belongs to an input: which axis of x is that?",
        "`x.abs().mean(0)` has one number for each column; `.topk(count).indices` says which are largest.",
        "`kept = rounded.clone()`, then `kept[:, columns] = weight[:, columns]`.",
    ],
)


@keep.stub
def keep_columns(weight, rounded, x, count):
    """(o i), (o i), (t i), a whole number → (o i)"""
    ...  # your code


@keep.solution
def keep_columns(weight, rounded, x, count):
    columns = x.abs().mean(0).topk(count).indices
    kept = rounded.clone()
    kept[:, columns] = weight[:, columns]
    return kept


@keep.judge
def judge_keep(f):
    for outputs, inputs, tokens, count in ((12, 10, 6, 2), (12, 16, 9, 3), (8, 8, 5, 1)):
        weight = torch.randn(outputs, inputs)
        rounded = weight + 0.1 * torch.rand(outputs, inputs) + 0.05  # no entry is equal by chance
        # Large inputs of both signs, one token that is large in one channel only, columns of many sizes.
        x = torch.randn(tokens, inputs) * torch.rand(inputs).add(0.1)
        big = torch.randperm(inputs)[:count]
        x[:, big] = 5 * torch.tensor([1.0, -1.0]).repeat(tokens)[:tokens, None] + 0.1 * torch.randn(
            tokens, count
        )
        got = tensor_of(f(weight, rounded, x, count), shape=weight.shape, name="matrix")
        exact, sizes = got == weight, x.abs().mean(0)
        whole = [int(n) for n in exact.all(0).nonzero()]
        fail_if(near(got, rounded), "Every weight is still rounded: nothing was kept.")
        fail_if(near(got, weight), "Every weight is exact: nothing is rounded any more.")
        fail_if(
            int(exact.all(1).sum()) == count and not whole,
            "You keep whole rows. A row belongs to an output; an input meets one column, W[:, i].",
        )
        wanted = sorted(sizes.topk(count).indices.tolist())
        fail_if(
            whole == sorted(weight.abs().mean(0).topk(count).indices.tolist()) and whole != wanted,
            "You keep the columns with the largest weights. The task asks for those with the largest inputs.",
        )
        fail_if(
            whole == sorted((-sizes).topk(count).indices.tolist()),
            "You keep the columns with the smallest inputs: their errors are multiplied by next to nothing.",
        )
        fail_if(
            whole == sorted(x.mean(0).topk(count).indices.tolist()) and whole != wanted,
            "You average x with its sign, and inputs that are large in both directions cancel out. Take |x| first.",
        )
        fail_if(
            len(whole) != count,
            f"{len(whole)} columns are exact, where {count} should be.",
        )
        right = rounded.clone()
        right[:, wanted] = weight[:, wanted]
        fail_if(
            not near(got, right), f"Columns {whole} are exact; those with the largest inputs are {wanted}."
        )


@keep.wrong("by weights", says="largest weights")
def keep_columns(weight, rounded, x, count):
    columns = weight.abs().mean(0).topk(count).indices
    kept = rounded.clone()
    kept[:, columns] = weight[:, columns]
    return kept


@keep.wrong("rows", says="whole rows")
def keep_columns(weight, rounded, x, count):
    places = x.abs().mean(0).topk(count).indices
    kept = rounded.clone()
    kept[places] = weight[places]
    return kept


@keep.wrong("with the sign", says="with its sign")
def keep_columns(weight, rounded, x, count):
    columns = x.mean(0).topk(count).indices
    kept = rounded.clone()
    kept[:, columns] = weight[:, columns]
    return kept


@keep.wrong("the smallest", says="smallest inputs")
def keep_columns(weight, rounded, x, count):
    columns = x.abs().mean(0).argsort()[:count]
    kept = rounded.clone()
    kept[:, columns] = weight[:, columns]
    return kept


# ---------------------------------------------------------------------------------------------------------------
fold = Exercise(
    "calibrated.fold",
    notebook="16_awq_gptq_nf4",
    title="Where the scale goes",
    difficulty=2,
    minutes=10,
    task="""
    The inputs of the down projection are `up * silu(gate)`, where `up` and `gate` are the outputs of `up_weight` and
    `gate_weight`, both `(f d)`; `down_weight` is `(d f)`. AWQ found a scale `(f)` for the columns of `down_weight`.
    Write `fold_down(gate_weight, up_weight, down_weight, scale)` → the three matrices, in this order, that compute what the
    old ones did, where the new `down_weight` has its columns multiplied by `scale`.
    """,
    hints=[
        "The columns of down are multiplied, so each input of down must be divided by the same number.",
        "An input of down is one row of up_weight times x, times silu of one row of gate_weight times x. One of the "
        "two may be divided without any harm.",
        "silu(z / s) is not silu(z) / s. So it is the rows of `up_weight`: `up_weight / scale[:, None]`.",
    ],
)


@fold.stub
def fold_down(gate_weight, up_weight, down_weight, scale):
    """(f d), (f d), (d f), (f) → (f d), (f d), (d f)"""
    ...  # your code


@fold.solution
def fold_down(gate_weight, up_weight, down_weight, scale):
    return gate_weight, up_weight / scale[:, None], down_weight * scale


def _mlp(gate_weight, up_weight, down_weight, x):
    return (torch.nn.functional.silu(x @ gate_weight.T) * (x @ up_weight.T)) @ down_weight.T


@fold.judge
def judge_fold(f):
    for width, features in ((4, 6), (8, 5), (4, 4)):
        gate, up = torch.randn(2, features, width)
        down, scale, x = torch.randn(width, features), torch.rand(features) * 2 + 0.3, torch.randn(9, width)
        result = f(gate, up, down, scale)
        fail_if(
            not isinstance(result, (tuple, list)) or len(result) != 3,
            "Return three matrices: gate_weight, up_weight, down_weight.",
        )
        new = [
            tensor_of(each, shape=old.shape, name=name)
            for each, old, name in zip(
                result, (gate, up, down), ("gate_weight", "up_weight", "down_weight"), strict=True
            )
        ]
        fail_if(
            near(new[2], down) and near(new[1], up) and near(new[0], gate),
            "That is the same network, but down_weight has not been scaled.",
        )
        fail_if(
            near(new[2], down / scale),
            "You divide the columns of down_weight by the scale. Important columns shall become larger, so that "
            "rounding hurts them less.",
        )
        fail_if(
            not near(new[2], down * scale),
            "down_weight must be down_weight * scale: (d f) times (f) multiplies column by column.",
        )
        fail_if(
            near(new[0], gate / scale[:, None]) and near(new[1], up / scale[:, None]),
            "You divide both gate and up: a product of two divided numbers is divided twice.",
        )
        fail_if(
            near(new[0], gate / scale[:, None]),
            "You divide the rows of gate_weight. But silu bends: silu(z / s) is not silu(z) / s, so the network "
            "computes something else now.",
        )
        fail_if(
            near(new[1], up) and near(new[0], gate),
            "The columns of down are larger, but its inputs are not smaller: nothing makes up for the scale.",
        )
        fail_if(
            near(new[1], up * scale[:, None]),
            "You multiply on both sides. The inputs of down must become smaller where its columns become larger.",
        )
        fail_if(
            width == features and near(new[1], up / scale),
            "You divide the columns of up_weight, that is by the channels of x. An input of down is an *output* "
            "of up, one of its rows.",
        )
        fail_if(
            not near(_mlp(*new, x), _mlp(gate, up, down, x), 1e-4),
            "The three matrices do not compute what the old ones did.",
        )


@fold.wrong("the gate", says="silu bends")
def fold_down(gate_weight, up_weight, down_weight, scale):
    return gate_weight / scale[:, None], up_weight, down_weight * scale


@fold.wrong("both", says="divided twice")
def fold_down(gate_weight, up_weight, down_weight, scale):
    return gate_weight / scale[:, None], up_weight / scale[:, None], down_weight * scale


@fold.wrong("one side only", says="makes up for the scale")
def fold_down(gate_weight, up_weight, down_weight, scale):
    return gate_weight, up_weight, down_weight * scale


@fold.wrong("the other way round", says="shall become larger")
def fold_down(gate_weight, up_weight, down_weight, scale):
    return gate_weight, up_weight * scale[:, None], down_weight / scale


# ---------------------------------------------------------------------------------------------------------------
shared = Exercise(
    "calibrated.shared",
    notebook="16_awq_gptq_nf4",
    title="One scale for three heads",
    difficulty=2,
    minutes=15,
    task="""
    `mean` `(i)` is the mean size of the inputs of o_proj, query head after query head, `channels` numbers each. Query
    heads that stand side by side share a key/value head: with 9 heads and `kv_heads` = 3, heads 0, 1, 2 share the first.
    Write `share_scale(mean, kv_heads, channels)` → `(i)`: every query head of a group gets the mean of its group, channel by
    channel, so that one division of the value rows can serve all of them.
    """,
    hints=[
        "Give the heads an axis of their own: `mean.view(kv_heads, -1, channels)` is (key/value head, query head of "
        "the group, channel). Which axis must become one?",
        "`.mean(1, keepdim=True)`: one number for each key/value head and channel.",
        "Bring it back to the old size: `.expand(...)` or `.repeat(1, group, 1)`, then `.flatten()`.",
    ],
)


@shared.stub
def share_scale(mean, kv_heads, channels):
    """(i), two whole numbers → (i)"""
    ...  # your code


@shared.solution
def share_scale(mean, kv_heads, channels):
    heads = mean.view(kv_heads, -1, channels)
    return heads.mean(1, keepdim=True).expand_as(heads).flatten()


@shared.judge
def judge_shared(f):
    for kv_heads, group, channels in ((3, 3, 4), (2, 4, 3), (2, 1, 5), (1, 3, 2)):
        mean = torch.rand(kv_heads * group * channels) + 0.1
        got = tensor_of(f(mean, kv_heads, channels), shape=mean.shape, name="result")
        heads = mean.view(kv_heads, group, channels)
        right = heads.mean(1, keepdim=True).expand_as(heads).flatten()
        if near(got, right):
            continue
        mixed = mean.view(group, kv_heads, channels).mean(0, keepdim=True).expand(group, -1, -1).flatten()
        fail_if(near(got, mean), "Nothing is shared: each query head still has its own numbers.")
        fail_if(
            near(got, mixed),
            "You share among heads 0, 3, 6 … Those of a group stand side by side: 0, 1, 2.",
        )
        fail_if(
            near(got, heads.mean((1, 2), keepdim=True).expand_as(heads).flatten()),
            "You average over the channels as well. Then all columns of a group are scaled alike, and the few with "
            "large inputs are no better off than before.",
        )
        fail_if(
            near(got, heads.mean((0, 1), keepdim=True).expand_as(heads).flatten()),
            "You share among all heads. Only those that read the same values must agree.",
        )
        fail_if(
            near(got, heads[:, :1].expand_as(heads).flatten()),
            "You take the first query head of each group and do not ask the others. Their large inputs count too.",
        )
        repeated = heads.mean(1).repeat(group, 1).flatten()
        fail_if(
            near(got, repeated),
            "The means are right, but they come back in the order 0, 1, 2, 0, 1, 2 … of key/value heads; the heads of "
            "a group stand side by side: 0, 0, 0, 1, 1, 1 …",
        )
        fail_if(True, "The result has the right shape and not the right numbers.")


@shared.wrong("not shared", says="Nothing is shared")
def share_scale(mean, kv_heads, channels):
    return mean


@shared.wrong("every third head", says="among heads 0, 3, 6")
def share_scale(mean, kv_heads, channels):
    heads = mean.view(-1, kv_heads, channels)
    return heads.mean(0, keepdim=True).expand_as(heads).flatten()


@shared.wrong("channels too", says="over the channels as well")
def share_scale(mean, kv_heads, channels):
    heads = mean.view(kv_heads, -1, channels)
    return heads.mean((1, 2), keepdim=True).expand_as(heads).flatten()


@shared.wrong("the first head only", says="do not ask the others")
def share_scale(mean, kv_heads, channels):
    heads = mean.view(kv_heads, -1, channels)
    return heads[:, :1].expand_as(heads).flatten()


@shared.wrong("repeated in the wrong order", says="The means are right")
def share_scale(mean, kv_heads, channels):
    heads = mean.view(kv_heads, -1, channels)
    return heads.mean(1).repeat(heads.shape[1], 1).flatten()


# ---------------------------------------------------------------------------------------------------------------
compensate = Exercise(
    "calibrated.compensate",
    notebook="16_awq_gptq_nf4",
    title="Make up for it",
    difficulty=3,
    minutes=20,
    task="""
    One step of GPTQ. Column 0 of a matrix `weight` `(o i)` becomes `rounded` `(o)`. Write
    `compensate_column(weight, rounded, inverse)`, where `inverse` `(i i)` is the inverse of H = Xᵀ X: the matrix `(o i)` whose
    column 0 is `rounded`, and whose other columns are changed such that the error of the outputs is as small as it can
    be. The best change of a row of weights is −(w₀ − q₀) / [H⁻¹]₀₀ · [H⁻¹]₀,:
    """,
    hints=[
        "One number for each row: `error = (weight[:, 0] - rounded) / inverse[0, 0]`.",
        "Every row changes by its own multiple of the same vector `inverse[0]`: an outer product.",
        "`weight - torch.outer(error, inverse[0])`. Look at what this makes of column 0.",
    ],
)


@compensate.stub
def compensate_column(weight, rounded, inverse):
    """(o i), (o), (i i) → (o i)"""
    ...  # your code


@compensate.solution
def compensate_column(weight, rounded, inverse):
    error = (weight[:, 0] - rounded) / inverse[0, 0]
    return weight - torch.outer(error, inverse[0])


@compensate.judge
def judge_compensate(f):
    for outputs, inputs in ((3, 4), (5, 6), (4, 4)):
        weight = torch.randn(outputs, inputs, dtype=torch.float64)
        x = torch.randn(5 * inputs, inputs, dtype=torch.float64)
        x[:, 1:] += x[:, :1] * torch.linspace(
            1, -1, inputs - 1, dtype=torch.float64
        )  # correlated with column 0
        inverse = (x.T @ x).inverse()
        rounded = weight[:, 0].round()
        error = weight[:, 0] - rounded
        got = tensor_of(f(weight, rounded, inverse), shape=weight.shape, name="matrix")
        right = weight - torch.outer(error / inverse[0, 0], inverse[0])
        if near(got, right, 1e-6):
            continue
        alone = weight.clone()
        alone[:, 0] = rounded
        fail_if(
            near(got, alone, 1e-6),
            "Column 0 is rounded, and the others do nothing about it: that is round-to-nearest.",
        )
        undivided = weight - torch.outer(error, inverse[0])
        fail_if(
            near(got[:, 1:], undivided[:, 1:], 1e-6),
            "You forget to divide by [H⁻¹]₀₀. Without it column 0 itself would not become `rounded`.",
        )
        wrong_way = weight + torch.outer(error / inverse[0, 0], inverse[0])
        fail_if(
            near(got[:, 1:], wrong_way[:, 1:], 1e-6),
            "The other columns move the wrong way: they add to the error instead of making up for it.",
        )
        matrix = inverse.inverse()
        direct = weight - torch.outer(error / matrix[0, 0], matrix[0])
        fail_if(
            near(got[:, 1:], direct[:, 1:], 1e-6),
            "You use H where H⁻¹ is needed. H says which inputs go together; H⁻¹ says how much of one can be replaced "
            "by all the others.",
        )
        fail_if(
            not near(got[:, 0], rounded, 1e-6),
            "Column 0 must be exactly `rounded`.",
        )
        best, mine = (float((x @ (each - weight).T).norm()) for each in (right, got))
        fail_if(True, f"The error of the outputs is {mine:.3f}, and {best:.3f} is possible.")


@compensate.wrong("nothing made up", says="round-to-nearest")
def compensate_column(weight, rounded, inverse):
    result = weight.clone()
    result[:, 0] = rounded
    return result


@compensate.wrong("not divided", says="forget to divide")
def compensate_column(weight, rounded, inverse):
    return weight - torch.outer(weight[:, 0] - rounded, inverse[0])


@compensate.wrong("the wrong way", says="the wrong way")
def compensate_column(weight, rounded, inverse):
    error = (weight[:, 0] - rounded) / inverse[0, 0]
    return weight + torch.outer(error, inverse[0])


@compensate.wrong("the Hessian itself", says="where H⁻¹ is needed")
def compensate_column(weight, rounded, inverse):
    hessian = inverse.inverse()
    error = (weight[:, 0] - rounded) / hessian[0, 0]
    return weight - torch.outer(error, hessian[0])
