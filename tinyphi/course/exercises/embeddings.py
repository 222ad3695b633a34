"""Exercises of notebook 02: embeddings and the residual stream."""

import torch
from torch.nn import functional as F

from tinyphi.course.exercise import Exercise, fail_if, near, tensor_of

ex = Exercise(
    "embeddings.one_hot",
    notebook="02_embeddings_and_residual_stream",
    title="A look-up is a product",
    difficulty=1,
    minutes=5,
    task="""
        Write `one_hot(ids, vocabulary)`: ids (t) int64 → (t v) float32, one row for each token, so that
        `one_hot(ids, len(table)) @ table` is `table[ids]`.
        """,
    hints=[
        "How many rows has the product, and which number must each row multiply with which row of the table?",
        "Row t is zero everywhere but in one column. Which?",
        "Begin with `torch.zeros(len(ids), vocabulary)` and write the ones, or compare `ids[:, None]` with "
        "`torch.arange(vocabulary)`.",
    ],
)


@ex.stub
def one_hot(ids, vocabulary):
    """(t) int64 → (t v) float32: a one in the column of each token's id, zeros elsewhere."""
    ...  # your code


@ex.solution
def one_hot(ids, vocabulary):
    return (ids[:, None] == torch.arange(vocabulary)).float()


@ex.judge
def judge(f):
    for ids, vocabulary in (([2, 0, 2], 5), ([3], 4), ([0, 1, 2, 1], 4)):
        ids = torch.tensor(ids)
        wanted = F.one_hot(ids, vocabulary).float()
        got = f(ids, vocabulary)
        turned = isinstance(got, torch.Tensor) and got.shape == wanted.T.shape and torch.equal(got, wanted.T)
        fail_if(
            turned and got.shape != wanted.shape,
            "Yours is transposed: it has a column for each token. A product takes its rows from the left "
            "factor, and the result needs one row for each token.",
        )
        got = tensor_of(got, shape=(len(ids), vocabulary))
        fail_if(
            got.dtype in (torch.int64, torch.bool),
            f"These are {str(got.dtype).removeprefix('torch.')}s, but the table holds floats, and a matrix "
            "product takes both factors of one kind.",
        )
        got = tensor_of(got, dtype=torch.float32)
        fail_if(
            torch.equal(got, wanted.roll(-1, dims=1)) and not torch.equal(got, wanted),
            "Each one stands one column too far to the left. Ids count from 0: the first row of the table "
            "belongs to id 0.",
        )
        fail_if(
            len(ids) > 1 and torch.equal(got, wanted.sum(0).clamp(max=1).expand_as(wanted)),
            "All your rows are alike: each holds the ones of *all* tokens. The product would give every "
            "token the sum of all of them, and the order of the text would be lost.",
        )
        rows = (got != wanted).any(1).nonzero().flatten().tolist()
        fail_if(rows, f"Row {rows[:1]} is wrong: with the ids {ids.tolist()}, where should its only 1 stand?")


@ex.wrong("transposed", says="is transposed")
def one_hot(ids, vocabulary):
    return (torch.arange(vocabulary)[:, None] == ids).float()


@ex.wrong("whole numbers", says="the table holds floats")
def one_hot(ids, vocabulary):
    return F.one_hot(ids, vocabulary)


@ex.wrong("counts from one", says="Ids count from 0")
def one_hot(ids, vocabulary):
    return (ids[:, None] == torch.arange(1, vocabulary + 1) % vocabulary).float()


@ex.wrong("all ones in every row", says="All your rows are alike")
def one_hot(ids, vocabulary):
    rows = torch.zeros(len(ids), vocabulary)
    rows[:, ids] = 1
    return rows


ex = Exercise(
    "embeddings.nearest",
    notebook="02_embeddings_and_residual_stream",
    title="Neighbours",
    difficulty=2,
    minutes=10,
    task="""
        Write `nearest(table, row, count)`: the ids (count) int64 of the rows of `table` (v d) whose
        *direction* is nearest to that of row number `row`, the nearest first, the row itself left out.
        """,
    hints=[
        "Cosine: the product of two vectors, divided by both lengths.",
        "Divide all rows by their lengths once; then one product with the table gives all cosines.",
        "Before you sort, set the row's own cosine to something that can never win.",
    ],
)


@ex.stub
def nearest(table, row, count):
    """(v d), a row number, how many → (count) int64: the nearest other rows by cosine, best first."""
    ...  # your code


@ex.solution
def nearest(table, row, count):
    unit = table / table.norm(dim=-1, keepdim=True)
    cosines = unit @ unit[row]
    cosines[row] = -2
    return cosines.topk(count).indices


@ex.judge
def judge(f):
    torch.manual_seed(1)
    for rows, width, row, count in ((40, 6, 7, 5), (12, 3, 0, 4), (30, 4, 29, 1), (6, 4, 2, 5)):
        table = torch.randn(rows, width) * torch.linspace(0.2, 3, rows)[torch.randperm(rows)][:, None]
        table[(row + 3) % rows] = 2 * table[row]  # a twin of another length: as near as can be
        table[(row + 5) % rows] = -3 * table[row]  # and the opposite, as far as can be
        got = tensor_of(f(table, row, count), shape=(count,))
        fail_if(
            got.dtype != torch.int64,
            "Return the numbers of the rows (int64), not their cosines.",
        )
        fail_if(
            bool((got[:2] == row).any()),
            "The row itself is among your neighbours. Its cosine with itself is 1, so it always wins: leave "
            "it out before you choose.",
        )
        fail_if(
            bool((got == row).any()),
            "The row itself is still among your neighbours, if far down. Did you set its cosine to 0? The "
            "others go down to −1.",
        )
        unit = table / table.norm(dim=-1, keepdim=True)
        kinds = {
            "cosine": unit @ unit[row],
            "product": table @ table[row],
            "distance": -(table - table[row]).norm(dim=-1),
            "least": -(unit @ unit[row]),
            "size": (unit @ unit[row]).abs(),
        }
        best = {}
        for kind, scores in kinds.items():
            scores = scores.clone()
            scores[row] = float("-inf")
            best[kind] = scores.topk(count).indices
        if torch.equal(got, best["cosine"]):
            continue
        fail_if(
            torch.equal(got, best["product"]),
            "You rank by the plain product, and so a long row beats a near one. Divide by the lengths.",
        )
        fail_if(
            torch.equal(got, best["distance"]),
            "You rank by how far apart the *ends* of the vectors are. A row of the same direction and twice "
            "the length counts as far away then; only the directions should count.",
        )
        fail_if(
            torch.equal(got, best["least"]),
            "These are the rows that point the *other* way: a large cosine means near.",
        )
        fail_if(
            torch.equal(got, best["size"]),
            "You rank by the size of the cosine, without its sign. A cosine of −1 is the opposite direction, as far "
            "away as can be.",
        )
        fail_if(
            torch.equal(got.sort().values, best["cosine"].sort().values),
            "The right rows, but not the nearest first.",
        )
        fail_if(
            True,
            f"For row {row} of a table of {rows} rows you found {got.tolist()}; the cosines say "
            f"{best['cosine'].tolist()}. Does every product get divided by both lengths?",
        )


@ex.wrong("plain product", says="a long row beats a near one")
def nearest(table, row, count):
    scores = table @ table[row]
    scores[row] = float("-inf")
    return scores.topk(count).indices


@ex.wrong("itself", says="The row itself is among")
def nearest(table, row, count):
    unit = table / table.norm(dim=-1, keepdim=True)
    return (unit @ unit[row]).topk(count).indices


@ex.wrong("distance", says="how far apart the *ends*")
def nearest(table, row, count):
    distances = (table - table[row]).norm(dim=-1)
    distances[row] = float("inf")
    return distances.topk(count, largest=False).indices


@ex.wrong("farthest", says="point the *other* way")
def nearest(table, row, count):
    unit = table / table.norm(dim=-1, keepdim=True)
    cosines = unit @ unit[row]
    cosines[row] = 2
    return cosines.topk(count, largest=False).indices


@ex.wrong("without the sign", says="without its sign")
def nearest(table, row, count):
    cosines = F.cosine_similarity(table, table[row], dim=-1).abs()
    cosines[row] = -1
    return cosines.topk(count).indices


@ex.wrong("own cosine set to 0", says="go down to −1")
def nearest(table, row, count):
    cosines = F.cosine_similarity(table, table[row], dim=-1)
    cosines[row] = 0
    return cosines.topk(count).indices


@ex.wrong("cosines", says="not their cosines")
def nearest(table, row, count):
    unit = table / table.norm(dim=-1, keepdim=True)
    return (unit @ unit[row]).topk(count + 1).values[1:]


ex = Exercise(
    "embeddings.bus",
    notebook="02_embeddings_and_residual_stream",
    title="Everybody adds, nobody replaces",
    difficulty=1,
    minutes=10,
    task="""
        Write `bus(x, parts)`: x (t d) rides past a list of functions. Each reads the stream as it is
        *then*, and what it returns is added. Return the stream at the end, and leave the caller's `x` as it
        was.
        """,
    hints=[
        "A loop over `parts` with one line in it.",
        "`x += …` writes into the tensor of the caller; `x = x + …` makes a new one.",
    ],
)


@ex.stub
def bus(x, parts):
    """(t d), functions (t d) → (t d) → the stream (t d) after all of them have added to it."""
    ...  # your code


@ex.solution
def bus(x, parts):
    for part in parts:
        x = x + part(x)
    return x


@ex.judge
def judge(f):
    torch.manual_seed(2)
    for tokens, width, count in ((3, 4, 3), (1, 2, 1), (2, 5, 0)):
        x = torch.randn(tokens, width)
        matrices = [torch.randn(width, width) for _ in range(count)]
        parts = [lambda now, matrix=matrix: torch.tanh(now @ matrix) for matrix in matrices]
        wanted, replaced, at_once = x, x, x
        for part in parts:
            wanted, replaced, at_once = wanted + part(wanted), part(replaced), at_once + part(x)
        got = tensor_of(f(x, parts), shape=x.shape)
        fail_if(
            count and near(got, replaced) and not near(got, wanted),
            "Each part *replaces* the stream with its result. What the token was is gone after the first "
            "part, unless that part copies it: add instead.",
        )
        fail_if(
            count > 1 and near(got, at_once),
            "All your parts read the x of the beginning, so no part can build on what an earlier one wrote. "
            "Each must read the stream as it is when it is reached.",
        )
        fail_if(
            count and near(got, wanted - x),
            "This is the sum of what the parts added; the embedding itself, which stays in the stream to the "
            "end, is missing.",
        )
        fail_if(
            not near(got, wanted),
            f"With {count} parts the stream ends elsewhere. Follow the first token by hand: what does the "
            "second part read?",
        )


@ex.wrong("replaces", says="*replaces* the stream")
def bus(x, parts):
    for part in parts:
        x = part(x)
    return x


@ex.wrong("all read the beginning", says="read the x of the beginning")
def bus(x, parts):
    return x + sum(part(x) for part in parts)


@ex.wrong("forgets the embedding", says="which stays in the stream")
def bus(x, parts):
    stream = x
    for part in parts:
        stream = stream + part(stream)
    return stream - x


@ex.wrong("writes into x", says="changes a tensor that it was given")
def bus(x, parts):
    for part in parts:
        x += part(x)
    return x


ex = Exercise(
    "embeddings.contributions",
    notebook="02_embeddings_and_residual_stream",
    title="Who wrote Paris?",
    difficulty=3,
    minutes=20,
    task="""
        The stream of one token is a sum of parts (k d): the embedding and what each layer added. The final
        norm divides the *sum* by its root mean square and multiplies with `weight` (d); a logit is the
        product with one `row` (d) of the head. Write `contributions(parts, weight, eps, row)` → (k): how
        much of that logit each part brought in. Your k numbers must add up to the logit.
        """,
    hints=[
        "The logit is `row @ (weight * total / rms)`. What in it depends on the parts other than through the "
        "total?",
        "The rms is one number for the whole token. Compute it from the sum; then everything else is linear.",
        "`(parts / rms * weight) @ row`",
    ],
)


@ex.stub
def contributions(parts, weight, eps, row):
    """(k d), (d), a number, (d) → (k): the share of each part in the logit."""
    ...  # your code


@ex.solution
def contributions(parts, weight, eps, row):
    total = parts.sum(0)
    rms = (total.square().mean() + eps).sqrt()
    return (parts / rms * weight) @ row


@ex.judge
def judge(f):
    torch.manual_seed(3)
    for count, width, eps in ((4, 6, 1e-5), (1, 3, 1e-5), (3, 8, 2.0)):
        parts = torch.randn(count, width) * torch.arange(1.0, count + 1)[:, None]
        weight, row = torch.rand(width) + 0.5, torch.randn(width)
        total = parts.sum(0)
        rms = (total.square().mean() + eps).sqrt()
        wanted = (parts / rms * weight) @ row
        got = tensor_of(f(parts, weight, eps, row), shape=(count,))
        alone = (parts * torch.rsqrt(parts.square().mean(-1, keepdim=True) + eps) * weight) @ row
        fail_if(
            count > 1 and near(got, alone),
            "You norm each part on its own, so all of them count as equally long. The norm sees only the "
            "sum: a short part has little to say.",
        )
        fail_if(
            near(got, (parts / rms) @ row),
            "The learned weight of the final norm is missing: it scales each channel before the head reads "
            "it.",
        )
        fail_if(
            near(got, (parts * weight) @ row),
            "Nothing divides by the root mean square, so your numbers add up to far more than the logit.",
        )
        fail_if(
            near(got, (parts / (rms.square() - eps).sqrt() * weight) @ row) and not near(got, wanted, 1e-4),
            "Where is eps? It belongs under the root, and with an eps of 2 one sees that it is missing.",
        )
        fail_if(
            near(got, wanted.softmax(0)),
            "A softmax makes shares that are all positive. A part may also speak *against* a token, with a "
            "negative number.",
        )
        fail_if(
            not near(got, wanted, 1e-4),
            f"The numbers should be {[round(v, 3) for v in wanted.tolist()]}, which add up to the logit "
            f"{float(wanted.sum()):.3f}; yours add up to {float(got.sum()):.3f}.",
        )


@ex.wrong("each normed alone", says="norm each part on its own")
def contributions(parts, weight, eps, row):
    return (parts * torch.rsqrt(parts.square().mean(-1, keepdim=True) + eps) * weight) @ row


@ex.wrong("no weight", says="The learned weight")
def contributions(parts, weight, eps, row):
    rms = (parts.sum(0).square().mean() + eps).sqrt()
    return (parts / rms) @ row


@ex.wrong("no norm", says="Nothing divides by")
def contributions(parts, weight, eps, row):
    return (parts * weight) @ row


@ex.wrong("no eps", says="Where is eps?")
def contributions(parts, weight, eps, row):
    rms = parts.sum(0).square().mean().sqrt()
    return (parts / rms * weight) @ row
