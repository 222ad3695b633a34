"""Exercises of notebook 20: blocks counted, blocks to keep, grouped rows, and documents in one row."""

import torch
from einops import rearrange

from tinyphi.course.exercise import Exercise, fail_if, identical, misconception, number_of, tensor_of

# --------------------------------------------------------------------------------------------------------------
count = Exercise(
    "block_sparse.count",
    notebook="20_phi3_small_block_sparse",
    title="How many blocks?",
    difficulty=1,
    minutes=10,
    task="""
    Write `blocks_read(i, head, near, stride)`: how many blocks of keys block `i` of the queries reads in a head.
    It reads the `near` nearest, its own included, and of those further back each j with (j + head + 1) divisible
    by `stride`. Nothing lies in the future or before block 0.
    """,
    hints=[
        "Two numbers added up: the nearest ones, and those further back. A block must not be in both.",
        "The nearest are `near`, unless the text does not have so many yet.",
        "Further back are the blocks of `range(i - near + 1)`. Count those in the head's stripes.",
    ],
)


@count.stub
def blocks_read(i, head, near, stride):
    """four whole numbers → a whole number"""
    ...  # your code


@count.solution
def blocks_read(i, head, near, stride):
    far = [j for j in range(i - near + 1) if (j + head + 1) % stride == 0]
    return min(i + 1, near) + len(far)


def _stripes(last, head, stride, direction=1):
    """How many of the blocks below `last` lie in the stripes of a head."""
    return sum((j + direction * head + (direction == 1)) % stride == 0 for j in range(last))


@count.judge
def judge_count(f):
    cases = [
        (i, head, near, stride)
        for near, stride in ((16, 8), (2, 3))
        for i in (0, 1, 2, 5, 15, 16, 17, 40, 127)
        for head in (0, 1, 6, 9)
    ]
    got = [number_of(f(*case), name="count") for case in cases]

    def same(rule):
        return all(mine == rule(*case) for mine, case in zip(got, cases, strict=True))

    if same(lambda i, h, near, s: min(i + 1, near) + _stripes(i - near + 1, h, s)):
        return
    fail_if(
        same(lambda i, h, near, s: near + _stripes(i - near + 1, h, s)),
        "With i = 0 you count more blocks than there are: the text has only one so far.",
    )
    fail_if(
        same(lambda i, h, near, s: min(i + 1, near) + _stripes(i + 1, h, s)),
        "You count some blocks twice: a block that is near is read already, whether or not it is in a stripe.",
    )
    fail_if(
        same(lambda i, h, near, s: min(i + 1, near) + max(0, i - near + 1) // s),
        "Your answer is the same for all heads. Their stripes start at other blocks, so some have one more.",
    )
    fail_if(
        same(lambda i, h, near, s: min(i + 1, near) + _stripes(i - near + 1, h, s, -1)),
        "Your stripes move to the right from head to head. By the rule head 0 starts at block stride − 1, and "
        "head 1 one block *earlier*.",
    )
    fail_if(
        same(lambda i, h, near, s: min(i + 1, near + 1) + _stripes(i - near, h, s)),
        "One block too many is near: `near` counts the query's own block.",
    )
    case, mine, right = next(
        (case, mine, right)
        for case, mine in zip(cases, got, strict=True)
        if mine != (right := min(case[0] + 1, case[2]) + _stripes(case[0] - case[2] + 1, case[1], case[3]))
    )
    i, head, near, stride = case
    misconception(
        f"With i = {i}, head {head}, {near} near and every {stride}th further back it is {right}; yours is {mine:g}."
    )


@count.wrong("always as many nearby", says="more blocks than there are")
def blocks_read(i, head, near, stride):
    return near + len([j for j in range(i - near + 1) if (j + head + 1) % stride == 0])


@count.wrong("some twice", says="some blocks twice")
def blocks_read(i, head, near, stride):
    return min(i + 1, near) + len([j for j in range(i + 1) if (j + head + 1) % stride == 0])


@count.wrong("all heads alike", says="the same for all heads")
def blocks_read(i, head, near, stride):
    return min(i + 1, near) + max(0, i - near + 1) // stride


@count.wrong("in the other direction", says="move to the right")
def blocks_read(i, head, near, stride):
    return min(i + 1, near) + len([j for j in range(i - near + 1) if j % stride == head % stride])


@count.wrong("without its own", says="counts the query's own block")
def blocks_read(i, head, near, stride):
    return min(i, near) + 1 + len([j for j in range(i - near) if (j + head + 1) % stride == 0])


# --------------------------------------------------------------------------------------------------------------
keeping = Exercise(
    "block_sparse.keep",
    notebook="20_phi3_small_block_sparse",
    title="What may be forgotten?",
    difficulty=2,
    minutes=15,
    task="""
    A key/value head serves several query heads, `heads`, a list of their numbers. While a text is written, the
    newest token is in block `i`. Write `keep(i, heads, near, stride)`: the blocks, as a list from the earliest
    to the latest, whose keys and values this key/value head must keep, for this token *and for all that will
    come*. All others can be thrown away for good.
    """,
    hints=[
        "Nothing can be forgotten that one of the heads still reads: one is enough.",
        "The nearest `near` blocks up to i are read by all. Further back only the stripes of the heads remain.",
        "Tokens that come later are further away from every old block, so they need no other old ones.",
    ],
)


@keeping.stub
def keep(i, heads, near, stride):
    """whole number, list of heads, two whole numbers → list of blocks"""
    ...  # your code


@keeping.solution
def keep(i, heads, near, stride):
    return [j for j in range(i + 1) if i - j < near or any((j + head + 1) % stride == 0 for head in heads)]


def _kept(i, heads, near, stride, enough=any):
    return [j for j in range(i + 1) if i - j < near or enough((j + head + 1) % stride == 0 for head in heads)]


@keeping.judge
def judge_keeping(f):
    for i, heads, near, stride in (
        (40, [0, 1, 2, 3], 16, 8),
        (127, [28, 29, 30, 31], 16, 8),
        (30, [1, 2], 4, 5),
        (9, [7], 3, 4),
        (3, [0, 1], 16, 8),
    ):
        got = f(i, list(heads), near, stride)
        fail_if(got is None, "There is no result: it is None. Does every path `return` one?")
        fail_if(not isinstance(got, list), f"Return a list; yours is of type {type(got).__name__}.")
        fail_if(
            not all(isinstance(j, int) for j in got), "The list holds the numbers of blocks, whole numbers."
        )
        right = _kept(i, heads, near, stride)
        if got == right:
            continue
        case = f"In block {i}, for heads {heads}, {near} near and every {stride}th: "
        fail_if(sorted(set(got)) == right, case + "the blocks are right; each once, and from early to late.")
        fail_if(
            got == _kept(i, heads, near, stride, all),
            case + "you keep what *all* heads read. What only one of them reads is needed, too.",
        )
        fail_if(
            got == _kept(i, heads[:1], near, stride),
            case + f"you keep what head {heads[0]} reads. Head {heads[-1]} has other stripes.",
        )
        fail_if(
            got == [j for j in right if i - j >= near],
            case + "you keep the stripes only; the nearest blocks are read by every head.",
        )
        fail_if(
            got == list(range(i + 1)),
            case + "you keep everything. Is there no old block that none of these heads reads?",
        )
        fail_if(
            got == _kept(i, heads, near + 1, stride),
            case + f"block {i - near} is kept although it is not near any more, its own block counted.",
        )
        lost = sorted(set(right) - set(got))
        misconception(
            case
            + (
                f"block {lost[0]} is lost and still read."
                if lost
                else f"block {min(set(got) - set(right))} is kept for nobody."
            )
        )


@keeping.wrong("what all read", says="What only one of them reads")
def keep(i, heads, near, stride):
    return [j for j in range(i + 1) if i - j < near or all((j + head + 1) % stride == 0 for head in heads)]


@keeping.wrong("one head", says="has other stripes")
def keep(i, heads, near, stride):
    return [j for j in range(i + 1) if i - j < near or (j + heads[0] + 1) % stride == 0]


@keeping.wrong("only the stripes", says="the stripes only")
def keep(i, heads, near, stride):
    return [j for j in range(i - near + 1) if any((j + head + 1) % stride == 0 for head in heads)]


@keeping.wrong("everything", says="you keep everything")
def keep(i, heads, near, stride):
    return list(range(i + 1))


@keeping.wrong("one block longer", says="not near any more")
def keep(i, heads, near, stride):
    return [j for j in range(i + 1) if i - j <= near or any((j + head + 1) % stride == 0 for head in heads)]


# --------------------------------------------------------------------------------------------------------------
splitting = Exercise(
    "block_sparse.split",
    notebook="20_phi3_small_block_sparse",
    title="Groups in one matrix",
    difficulty=2,
    minutes=15,
    task="""
    Phi-3-small's file has one matrix for queries, keys and values, in groups: the queries of the first
    key/value head, its key, its value, then those of the next. Write `split(rows, heads, groups)` for what
    the matrix gives: `rows` `(t, (heads + 2 · groups) · c)`. Return queries `(t heads c)`, keys `(t groups c)`
    and values `(t groups c)`. Query heads 0, 1, … belong to the first group, the next ones to the second.
    """,
    hints=[
        "Cut the last axis into groups first; each has heads // groups queries, one key, one value.",
        """
        `from einops import rearrange`, then
        `rearrange(rows, "t (n part c) -> t n part c", n=groups, part=heads // groups + 2)`.
        """,
        "The last two parts of each group are key and value; the others are queries, whose two axes become one.",
    ],
)


@splitting.stub
def split(rows, heads, groups):
    """(t, (heads + 2 groups) c) → queries (t heads c), keys (t groups c), values (t groups c)"""
    ...  # your code


@splitting.solution
def split(rows, heads, groups):
    parts = rearrange(rows, "t (n part c) -> t n part c", n=groups, part=heads // groups + 2)
    queries = rearrange(parts[:, :, :-2], "t n g c -> t (n g) c")
    return queries, parts[:, :, -2], parts[:, :, -1]


def _grouped(queries, keys, values):
    """The rows of a file: (t h c), (t n c), (t n c) → (t …)."""
    by_group = rearrange(queries, "t (n g) c -> t n g c", n=keys.shape[1])
    return rearrange(
        torch.cat((by_group, keys[:, :, None], values[:, :, None]), 2), "t n part c -> t (n part c)"
    )


@splitting.judge
def judge_splitting(f):
    for t, heads, groups, c in ((3, 8, 2, 4), (2, 6, 3, 2), (1, 32, 8, 2), (2, 4, 4, 3)):
        queries, (keys, values) = torch.randn(t, heads, c), torch.randn(2, t, groups, c)
        rows = _grouped(queries, keys, values)
        got = f(rows.clone(), heads, groups)
        fail_if(got is None, "There is no result: it is None. Does every path `return` one?")
        fail_if(
            not isinstance(got, tuple | list) or len(got) != 3,
            "Return three tensors: queries, keys and values.",
        )
        found = [
            tensor_of(part, shape=wanted.shape, name=name)
            for part, wanted, name in zip(
                got, (queries, keys, values), ("queries", "keys", "values"), strict=True
            )
        ]
        if all(identical(a, b) for a, b in zip(found, (queries, keys, values), strict=True)):
            continue
        case = f"With {heads} heads in {groups} groups: "
        flat = rearrange(rows, "t (part c) -> t part c", c=c)
        sizes = [heads, groups, groups]
        fail_if(
            all(identical(a, b) for a, b in zip(found, flat.split(sizes, 1), strict=True)),
            case
            + "you read the rows as Phi-3-mini has them: all queries, all keys, all values. Your query head "
            f"{heads // groups} is the first group's key.",
        )
        fail_if(
            identical(found[1], values) and identical(found[2], keys),
            case + "keys and values are exchanged: the value comes last.",
        )
        by_group = rearrange(flat, "t (n part) c -> t n part c", n=groups)
        fail_if(
            all(
                identical(a, b)
                for a, b in zip(found[1:], (by_group[:, :, 0], by_group[:, :, 1]), strict=True)
            ),
            case + "you take key and value from the front of a group. The queries stand there.",
        )
        fail_if(
            identical(found[0], rearrange(queries, "t (n g) c -> t (g n) c", n=groups)),
            case
            + "your queries are in the order of a pack of cards that was dealt: head 1 should be the second "
            "of the *first* group, whose key it shares.",
        )
        wrong = next(
            name
            for name, a, b in zip(("queries", "keys", "values"), found, (queries, keys, values), strict=True)
            if not identical(a, b)
        )
        misconception(case + f"the {wrong} are not those of the rows.")


@splitting.wrong("flat", says="as Phi-3-mini has them")
def split(rows, heads, groups):
    parts = rearrange(rows, "t (part c) -> t part c", part=heads + 2 * groups)
    return parts.split([heads, groups, groups], dim=1)


@splitting.wrong("values first", says="the value comes last")
def split(rows, heads, groups):
    parts = rearrange(rows, "t (n part c) -> t n part c", n=groups, part=heads // groups + 2)
    return rearrange(parts[:, :, :-2], "t n g c -> t (n g) c"), parts[:, :, -1], parts[:, :, -2]


@splitting.wrong("keys in front", says="from the front of a group")
def split(rows, heads, groups):
    parts = rearrange(rows, "t (n part c) -> t n part c", n=groups, part=heads // groups + 2)
    return rearrange(parts[:, :, 2:], "t n g c -> t (n g) c"), parts[:, :, 0], parts[:, :, 1]


@splitting.wrong("dealt out", says="a pack of cards")
def split(rows, heads, groups):
    parts = rearrange(rows, "t (n part c) -> t n part c", n=groups, part=heads // groups + 2)
    return rearrange(parts[:, :, :-2], "t n g c -> t (g n) c"), parts[:, :, -2], parts[:, :, -1]


# --------------------------------------------------------------------------------------------------------------
packed = Exercise(
    "block_sparse.documents",
    notebook="20_phi3_small_block_sparse",
    title="Two documents in a row",
    difficulty=3,
    minutes=20,
    task="""
    Several documents stand in one row, one after the other; `segments` `(t)` gives each token the number of
    its own: 1, 1, 1, 2, 2 … Write `documents_mask(segments, heads, size, near, stride)`: `(heads t t)` bool,
    True where a token (row) reads a token (column). Each document must be treated as if it stood alone: its
    blocks of `size` tokens count from *its* first token. A block reads the `near` nearest, its own included,
    and each further one, j, with (j + head + 1) divisible by `stride`. `heads` is at least `stride`.
    """,
    hints=[
        "First the position of each token in its own document. Where does the document begin?",
        """
        `earlier = (segments[:, None] == segments).tril()` says for each token which tokens of its document stand
        before it, itself included. How many are they? One more than its position.
        """,
        "From the positions the blocks, then the rule with a head axis in front, and at last `& earlier`.",
    ],
)


@packed.stub
def documents_mask(segments, heads, size, near, stride):
    """segments (t) int64, four whole numbers → (heads t t) bool"""
    ...  # your code


@packed.solution
def documents_mask(segments, heads, size, near, stride):
    earlier = (segments[:, None] == segments).tril()
    blocks = (earlier.sum(1) - 1) // size
    head = torch.arange(heads)[:, None, None]
    local = blocks[:, None] - blocks < near
    strided = (blocks + head + 1) % stride == 0
    return (local | strided) & earlier


def _masks(segments, heads, size, near, stride):
    """The right mask, and by the message those of known mistakes."""
    t, same = torch.arange(len(segments)), segments[:, None] == segments
    earlier, causal, head = (
        same.tril(),
        torch.ones(len(segments), len(segments)).tril().bool(),
        torch.arange(heads),
    )

    def rule(positions, seen, near=near, head=head, inner=True):
        block = positions // size
        read = (block[:, None] - block < near) | ((block + head[:, None, None] + 1) % stride == 0)
        in_time = seen if inner else same & (block[:, None] >= block)
        return read & in_time

    positions = earlier.sum(1) - 1
    return rule(positions, earlier), {
        "your blocks count from the start of the row. The second document is cut elsewhere than if it stood "
        "alone.": rule(t, earlier),
        "a document reads the one before it.": rule(positions, causal),
        "a token reads later tokens of its own block. Blocks decide what is fetched, not what lies in the "
        "future.": rule(positions, earlier, inner=False),
        "all heads read the same. Where is the head in your rule?": rule(
            positions, earlier, head=torch.zeros_like(head)
        ),
        "one block too many is near: `near` counts the query's own.": rule(positions, earlier, near=near + 1),
        "your positions begin at 1, so that the first block of a document is one token short.": rule(
            positions + 1, earlier
        ),
    }


@packed.judge
def judge_packed(f):
    for lengths, heads, size, near, stride in (
        ((20,), 3, 2, 2, 3),
        ((7, 18), 4, 3, 2, 3),
        ((5, 21, 9), 5, 2, 3, 4),
        ((1, 30), 8, 1, 2, 8),
    ):
        segments = torch.cat([torch.full((n,), 1 + number) for number, n in enumerate(lengths)])
        shape = (heads, len(segments), len(segments))
        got = tensor_of(
            f(segments.clone(), heads, size, near, stride), shape=shape, dtype=torch.bool, name="mask"
        )
        right, mistakes = _masks(segments, heads, size, near, stride)
        if torch.equal(got, right):
            continue
        case = f"Documents of {', '.join(map(str, lengths))} tokens, blocks of {size}: "
        for message, mask in mistakes.items():
            fail_if(torch.equal(got, mask), case + message)
        head, row, column = (got != right).nonzero()[0].tolist()
        misconception(
            case + f"in head {head}, row {row}, column {column} should be {bool(right[head, row, column])}."
        )


@packed.wrong("blocks of the row", says="count from the start of the row")
def documents_mask(segments, heads, size, near, stride):
    earlier = (segments[:, None] == segments).tril()
    blocks = torch.arange(len(segments)) // size
    head = torch.arange(heads)[:, None, None]
    return ((blocks[:, None] - blocks < near) | ((blocks + head + 1) % stride == 0)) & earlier


@packed.wrong("documents mixed", says="reads the one before it")
def documents_mask(segments, heads, size, near, stride):
    blocks = ((segments[:, None] == segments).tril().sum(1) - 1) // size
    head = torch.arange(heads)[:, None, None]
    read = (blocks[:, None] - blocks < near) | ((blocks + head + 1) % stride == 0)
    return read & torch.ones_like(read).tril()


@packed.wrong("a look ahead", says="later tokens of its own block")
def documents_mask(segments, heads, size, near, stride):
    same = segments[:, None] == segments
    blocks = (same.tril().sum(1) - 1) // size
    head = torch.arange(heads)[:, None, None]
    back = blocks[:, None] - blocks
    return ((back < near) | ((blocks + head + 1) % stride == 0)) & same & (back >= 0)


@packed.wrong("no heads", says="all heads read the same")
def documents_mask(segments, heads, size, near, stride):
    earlier = (segments[:, None] == segments).tril()
    blocks = (earlier.sum(1) - 1) // size
    mask = ((blocks[:, None] - blocks < near) | ((blocks + 1) % stride == 0)) & earlier
    return mask.expand(heads, -1, -1)


@packed.wrong("positions from 1", says="begin at 1")
def documents_mask(segments, heads, size, near, stride):
    earlier = (segments[:, None] == segments).tril()
    blocks = earlier.sum(1) // size
    head = torch.arange(heads)[:, None, None]
    return ((blocks[:, None] - blocks < near) | ((blocks + head + 1) % stride == 0)) & earlier
