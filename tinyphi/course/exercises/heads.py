"""Exercises of notebook 05: many heads, in groups."""

from dataclasses import replace

import torch
from einops import rearrange, repeat

from tinyphi.config import PhiConfig
from tinyphi.course.exercise import Exercise, fail_if, misconception, near, number_of, tensor_of

# ---------------------------------------------------------------------------------------------------------
ex = Exercise(
    "heads.split_heads",
    notebook="05_multi_head_and_gqa",
    title="Cut the fused product into heads",
    difficulty=1,
    minutes=10,
    task="""
    Write `split_heads(fused, heads, key_heads)`. `fused` is what the joined matrix gives, `(b t r)`, with
    r = (heads + 2 · key_heads) · c: first all queries, then all keys, then all values. Return three tensors:
    queries `(b heads t c)`, keys and values `(b key_heads t c)`.
    """,
    hints=[
        "Two steps: cut the last axis into parts of c channels, and bring the head axis before the tokens.",
        "`rearrange(fused, 'b t (heads c) -> b heads t c', heads=heads + 2 * key_heads)`.",
        "Then `torch.split(…, [heads, key_heads, key_heads], dim=1)`.",
    ],
)


@ex.stub
def split_heads(fused, heads, key_heads):
    """(b t r) → (b heads t c), (b key_heads t c), (b key_heads t c)."""
    ...  # your code


@ex.solution
def split_heads(fused, heads, key_heads):
    parts = rearrange(fused, "b t (heads c) -> b heads t c", heads=heads + 2 * key_heads)
    return torch.split(parts, [heads, key_heads, key_heads], dim=1)


@ex.judge
def judge(f):
    for heads, key_heads, channels, tokens in ((6, 2, 4, 5), (3, 3, 2, 4), (4, 1, 2, 1)):
        fused = torch.randn(2, tokens, (heads + 2 * key_heads) * channels)
        got = f(fused, heads, key_heads)
        fail_if(
            not isinstance(got, (tuple, list)) or len(got) != 3,
            f"Return three tensors: queries, keys, values. Yours is of type {type(got).__name__}.",
        )
        parts = rearrange(fused, "b t (heads c) -> b heads t c", heads=heads + 2 * key_heads)
        wanted = torch.split(parts, [heads, key_heads, key_heads], dim=1)
        swapped = [w.transpose(1, 2).shape == getattr(g, "shape", None) for g, w in zip(got, wanted)]
        fail_if(
            all(swapped) and tokens not in (heads, key_heads),
            "The axes are (b t heads c); bring the head axis before the tokens.",
        )
        for one, target, name in zip(got, wanted, ("queries", "keys", "values"), strict=True):
            tensor_of(one, shape=target.shape, name=name)
        if all(torch.equal(one, target) for one, target in zip(got, wanted, strict=True)):
            continue
        fail_if(
            torch.equal(got[0], wanted[0]) and torch.equal(got[1], wanted[2]),
            "Keys and values have changed places. In the joined matrix the keys come first.",
        )
        shuffled = fused.reshape(2, -1, tokens, channels)
        fail_if(
            torch.equal(got[0], shuffled[:, :heads]),
            "The shapes are right and the contents shuffled: a view to (b heads t c) cuts the numbers as "
            "they lie in memory, so pieces of different tokens land in one head. Cut first, then move the "
            "axis.",
        )
        within = rearrange(fused, "b t (c heads) -> b heads t c", c=channels)
        grouped = rearrange(fused, "b t (n g c) -> b n g t c", n=key_heads, c=channels)
        fail_if(
            torch.equal(got[2], grouped[:, :, -1]),
            "You take the heads group by group, each with its queries, key and value. Some models are stored so; here "
            "all queries come first, then all keys, then all values.",
        )
        fail_if(
            torch.equal(got[0], within[:, :heads]),
            "You take every n-th channel for a head. The channels of one head lie side by side.",
        )
        misconception("The shapes are right, but the numbers stand elsewhere. Try it on torch.arange.")


@ex.wrong("view to the end", says="they lie in memory")
def split_heads(fused, heads, key_heads):
    b, t, _ = fused.shape
    channels = fused.shape[-1] // (heads + 2 * key_heads)
    parts = fused.reshape(b, heads + 2 * key_heads, t, channels)
    return torch.split(parts, [heads, key_heads, key_heads], dim=1)


@ex.wrong("tokens first", says="before the tokens")
def split_heads(fused, heads, key_heads):
    parts = rearrange(fused, "b t (heads c) -> b t heads c", heads=heads + 2 * key_heads)
    return torch.split(parts, [heads, key_heads, key_heads], dim=2)


@ex.wrong("values before keys", says="the keys come first")
def split_heads(fused, heads, key_heads):
    parts = rearrange(fused, "b t (heads c) -> b heads t c", heads=heads + 2 * key_heads)
    queries, values, keys = torch.split(parts, [heads, key_heads, key_heads], dim=1)
    return queries, keys, values


@ex.wrong("group by group", says="Some models are stored so")
def split_heads(fused, heads, key_heads):
    parts = rearrange(fused, "b t (n g c) -> b n g t c", n=key_heads, g=heads // key_heads + 2)
    return parts[:, :, :-2].flatten(1, 2), parts[:, :, -2], parts[:, :, -1]


@ex.wrong("every n-th channel", says="lie side by side")
def split_heads(fused, heads, key_heads):
    parts = rearrange(fused, "b t (c heads) -> b heads t c", heads=heads + 2 * key_heads)
    return torch.split(parts, [heads, key_heads, key_heads], dim=1)


@ex.wrong("one tensor", says="Return three tensors")
def split_heads(fused, heads, key_heads):
    return rearrange(fused, "b t (heads c) -> b heads t c", heads=heads + 2 * key_heads)


# ---------------------------------------------------------------------------------------------------------
ex = Exercise(
    "heads.repeat_kv",
    notebook="05_multi_head_and_gqa",
    title="One key for several heads",
    difficulty=1,
    minutes=5,
    task="""
    Write `repeat_kv(keys, sharing)`: from `(b n s c)` make `(b h s c)` with h = n · sharing, so that query
    head i finds its key in place i. The query heads 0 … sharing − 1 share the first key head, and so on.
    """,
    hints=[
        "With 3 key heads and `sharing` 2, the new order is 0 0 1 1 2 2.",
        "einops: `repeat(keys, 'b n s c -> b (n g) s c', g=…)`. In brackets, the *right* letter runs faster.",
    ],
)


@ex.stub
def repeat_kv(keys, sharing):
    """(b n s c) → (b n·sharing s c)."""
    ...  # your code


@ex.solution
def repeat_kv(keys, sharing):
    return repeat(keys, "b n s c -> b (n g) s c", g=sharing)


@ex.judge
def judge(f):
    for heads, sharing in ((3, 2), (2, 4), (4, 1)):
        keys = torch.randn(2, heads, 5, 2)
        got = f(keys, sharing)
        shape = getattr(got, "shape", ())
        fail_if(
            sharing > 1 and tuple(shape) in ((2, heads, 5 * sharing, 2), (2, heads, 5, 2 * sharing)),
            f"You repeat along another axis and get {tuple(shape)}: only the number of heads may grow.",
        )
        tensor_of(got, shape=(2, heads * sharing, 5, 2))
        wanted = keys.repeat_interleave(sharing, dim=1)
        if torch.equal(got, wanted):
            continue
        fail_if(
            torch.equal(got, keys.repeat(1, sharing, 1, 1)),
            "Yours is the order 0 1 2 0 1 2. The shapes are right and nothing complains, but every query "
            "head but the first few gets the key of a stranger. Wanted is 0 0 1 1 2 2.",
        )
        used = [int((keys == got[:, i : i + 1]).all(-1).all(-1).all(0).float().argmax()) for i in range(2)]
        misconception(f"The heads are not in the right order: your first two are key heads {used}.")


@ex.wrong("tiled", says="key of a stranger")
def repeat_kv(keys, sharing):
    return keys.repeat(1, sharing, 1, 1)


@ex.wrong("tokens repeated", says="along another axis")
def repeat_kv(keys, sharing):
    return keys.repeat_interleave(sharing, dim=2)


@ex.wrong("a fifth axis", says="5 axes instead of 4")
def repeat_kv(keys, sharing):
    return keys[:, :, None].expand(-1, -1, sharing, -1, -1)


@ex.wrong("only the first", says="not in the right order")
def repeat_kv(keys, sharing):
    return keys[:, :1].repeat(1, keys.shape[1] * sharing, 1, 1)


# ---------------------------------------------------------------------------------------------------------
ex = Exercise(
    "heads.contributions",
    notebook="05_multi_head_and_gqa",
    title="Who wrote what",
    difficulty=2,
    minutes=15,
    task="""
    The output of attention is a sum over heads. Write `contributions(mixed, weight)`: from the mixed values
    `(b h t c)` and the weight of `o_proj`, `(d h·c)`, what each head adds to the stream, `(b h t d)`. Summed
    over the heads it is the output of attention.
    """,
    hints=[
        "`o_proj` computes `joined @ weight.T`, where `joined` puts the heads side by side: (b t h·c).",
        "So head i meets the *columns* i·c … (i+1)·c − 1 of the weight, and no others.",
        "`rearrange(weight, 'd (h c) -> h d c', h=…)`, then an einsum that sums over c only.",
    ],
)


@ex.stub
def contributions(mixed, weight):
    """(b h t c), (d h·c) → (b h t d)."""
    ...  # your code


@ex.solution
def contributions(mixed, weight):
    columns = rearrange(weight, "d (h c) -> h d c", h=mixed.shape[1])
    return torch.einsum("bhtc,hdc->bhtd", mixed, columns)


@ex.judge
def judge(f):
    for heads, channels in ((3, 4), (4, 2), (1, 3)):
        width = heads * channels
        mixed, weight = torch.randn(2, heads, 5, channels), torch.randn(width, width)
        columns = rearrange(weight, "d (h c) -> h d c", h=heads)
        wanted = torch.einsum("bhtc,hdc->bhtd", mixed, columns)
        got = f(mixed, weight)
        fail_if(
            tuple(getattr(got, "shape", ())) == (2, 5, width),
            "That is the whole output, already summed. Keep the head axis.",
        )
        tensor_of(got, shape=(2, heads, 5, width))
        if near(got, wanted):
            continue
        fail_if(
            near(got, torch.einsum("bhtc,hcd->bhtd", mixed, rearrange(weight, "(h c) d -> h c d", h=heads))),
            "You give each head its rows of the weight. A linear layer computes x @ weight.T: the inputs are "
            "the columns.",
        )
        fail_if(
            near(got, torch.einsum("bhtc,hdc->bhtd", mixed, rearrange(weight, "d (c h) -> h d c", h=heads))),
            "You give a head every h-th column. In the joined vector a head's channels lie side by side.",
        )
        fail_if(
            near(got, wanted / heads),
            "That is a mean. The heads' contributions are added up, nobody divides by their number.",
        )
        fail_if(
            near(got.sum(1), wanted.sum(1)),
            "Their sum is the output, but the shares of the single heads are wrong: does each head use "
            "its own columns only?",
        )
        misconception("Their sum over the heads is not the output of `o_proj`.")


@ex.wrong("summed", says="Keep the head axis")
def contributions(mixed, weight):
    return rearrange(mixed, "b h t c -> b t (h c)") @ weight.T


@ex.wrong("rows", says="the inputs are the columns")
def contributions(mixed, weight):
    rows = rearrange(weight, "(h c) d -> h c d", h=mixed.shape[1])
    return torch.einsum("bhtc,hcd->bhtd", mixed, rows)


@ex.wrong("every h-th column", says="every h-th column")
def contributions(mixed, weight):
    columns = rearrange(weight, "d (c h) -> h d c", h=mixed.shape[1])
    return torch.einsum("bhtc,hdc->bhtd", mixed, columns)


@ex.wrong("mean", says="nobody divides")
def contributions(mixed, weight):
    columns = rearrange(weight, "d (h c) -> h d c", h=mixed.shape[1])
    return torch.einsum("bhtc,hdc->bhtd", mixed, columns) / mixed.shape[1]


@ex.wrong("equal shares", says="shares of the single heads")
def contributions(mixed, weight):
    heads = mixed.shape[1]
    output = rearrange(mixed, "b h t c -> b t (h c)") @ weight.T
    return (output / heads)[:, None].repeat(1, heads, 1, 1)


# ---------------------------------------------------------------------------------------------------------
ex = Exercise(
    "heads.cache_bytes",
    notebook="05_multi_head_and_gqa",
    title="What a conversation weighs",
    difficulty=2,
    minutes=10,
    task="""
    Write `cache_bytes(config, tokens, bytes_per_number)`: the bytes that the keys and values of `tokens`
    tokens take in all layers of a model with this `PhiConfig`. Leave the sliding window out.
    """,
    hints=[
        "Which tensors are kept for later tokens: queries, keys, values?",
        "`config` has num_hidden_layers, num_attention_heads, num_key_value_heads and head_dim. One of the "
        "four is not needed.",
    ],
)


@ex.stub
def cache_bytes(config, tokens, bytes_per_number):
    """Bytes of the keys and values, a whole number."""
    ...  # your code


@ex.solution
def cache_bytes(config, tokens, bytes_per_number):
    numbers = 2 * config.num_hidden_layers * config.num_key_value_heads * config.head_dim
    return tokens * numbers * bytes_per_number


@ex.judge
def judge(f):
    medium = PhiConfig.preset("phi-3-medium-4k")
    for config, tokens, size in ((medium, 1000, 4), (replace(medium, num_key_value_heads=5), 7, 2)):
        right = 2 * config.num_hidden_layers * config.num_key_value_heads * config.head_dim * tokens * size
        got = number_of(f(config, tokens, size), name="number of bytes")
        sharing = config.num_attention_heads // config.num_key_value_heads
        case = f"For {config.num_attention_heads} query heads and {config.num_key_value_heads} key heads: "
        fail_if(
            got == right * sharing,
            case + "you count the query heads. That groups share a key is the whole point.",
        )
        fail_if(got == right / 2, case + "half of it is missing. Is it only the keys that are kept?")
        fail_if(
            got == right / config.num_hidden_layers,
            case + "that is one layer. Each layer has keys of its own.",
        )
        fail_if(
            got == right / size, case + "that is how many numbers there are. How many bytes has each of them?"
        )
        fail_if(
            got == right + right * sharing / 2,
            case + "the queries are in it as well. A query is used once, and no later token asks for it.",
        )
        fail_if(got != right, case + f"{tokens} tokens take {right:,} bytes; yours says {got:,.0f}.")


@ex.wrong("query heads", says="whole point")
def cache_bytes(config, tokens, bytes_per_number):
    return 2 * config.num_hidden_layers * config.hidden_size * tokens * bytes_per_number


@ex.wrong("keys only", says="half of it is missing")
def cache_bytes(config, tokens, bytes_per_number):
    row = config.num_key_value_heads * config.head_dim
    return config.num_hidden_layers * row * tokens * bytes_per_number


@ex.wrong("one layer", says="keys of its own")
def cache_bytes(config, tokens, bytes_per_number):
    return 2 * config.num_key_value_heads * config.head_dim * tokens * bytes_per_number


@ex.wrong("numbers, not bytes", says="How many bytes")
def cache_bytes(config, tokens, bytes_per_number):
    return 2 * config.num_hidden_layers * config.num_key_value_heads * config.head_dim * tokens


@ex.wrong("queries too", says="used once")
def cache_bytes(config, tokens, bytes_per_number):
    heads = config.num_attention_heads + 2 * config.num_key_value_heads
    return config.num_hidden_layers * heads * config.head_dim * tokens * bytes_per_number


# ---------------------------------------------------------------------------------------------------------
ex = Exercise(
    "heads.merge_kv",
    notebook="05_multi_head_and_gqa",
    title="From many key heads to few",
    difficulty=3,
    minutes=20,
    task="""
    Write `merge_kv(weight, groups, channels)`, the first step of making a grouped model from an ungrouped
    one. `weight` holds the rows of all key heads one after the other, `(n·c d)`. Replace each run of
    neighbouring heads by their mean, so that `groups` heads are left: `(groups·c d)`. It undoes what `copies`
    did above: `merge_kv(copies(rows), 3, 64)` are the rows that SmolLM2 came with.
    """,
    hints=[
        "Neighbouring heads share a key. So the n heads fall into `groups` runs of n / groups.",
        "`rearrange` or `reduce` with the pattern `'(groups sharing c) d -> …'`; channel 0 of a head is "
        "averaged with channel 0 of the others.",
    ],
)


@ex.stub
def merge_kv(weight, groups, channels):
    """(n·c d) → (groups·c d)."""
    ...  # your code


@ex.solution
def merge_kv(weight, groups, channels):
    heads = rearrange(weight, "(groups sharing c) d -> groups sharing c d", groups=groups, c=channels)
    return rearrange(heads.mean(1), "groups c d -> (groups c) d")


@ex.judge
def judge(f):
    for heads, groups, channels in ((6, 2, 4), (6, 3, 2), (4, 1, 3), (3, 3, 2)):
        weight = torch.randn(heads * channels, 5)
        got = tensor_of(f(weight, groups, channels), shape=(groups * channels, 5))
        blocks = rearrange(weight, "(g k c) d -> g k c d", g=groups, c=channels)
        wanted = blocks.mean(1).flatten(0, 1)
        if near(got, wanted):
            continue
        case = f"{heads} heads to {groups}: "
        fail_if(
            near(got, blocks[:, 0].flatten(0, 1)),
            case + "you keep one head of each group and drop the others. Their mean is wanted.",
        )
        fail_if(
            near(got, blocks.sum(1).flatten(0, 1)),
            case + "that is the sum. Equal heads should stay what they are.",
        )
        strided = rearrange(weight, "(k g c) d -> g k c d", g=groups, c=channels)
        fail_if(
            near(got, strided.mean(1).flatten(0, 1)),
            case
            + "you average heads that lie far apart (0 with 3, say). Those that share a key are neighbours.",
        )
        rows = rearrange(weight, "(r k) d -> r k d", r=groups * channels)
        fail_if(
            near(got, rows.mean(1)),
            case + "you average neighbouring rows, which are channels of one head. Average *heads*.",
        )
        misconception(case + "the shape is right, the numbers are not.")


@ex.wrong("the first of each", says="drop the others")
def merge_kv(weight, groups, channels):
    heads = rearrange(weight, "(g k c) d -> g k c d", g=groups, c=channels)
    return rearrange(heads[:, 0], "g c d -> (g c) d")


@ex.wrong("sum", says="Equal heads should stay")
def merge_kv(weight, groups, channels):
    heads = rearrange(weight, "(g k c) d -> g k c d", g=groups, c=channels)
    return rearrange(heads.sum(1), "g c d -> (g c) d")


@ex.wrong("far apart", says="lie far apart")
def merge_kv(weight, groups, channels):
    heads = rearrange(weight, "(k g c) d -> g k c d", g=groups, c=channels)
    return rearrange(heads.mean(1), "g c d -> (g c) d")


@ex.wrong("rows", says="channels of one head")
def merge_kv(weight, groups, channels):
    return rearrange(weight, "(r k) d -> r k d", r=groups * channels).mean(1)
