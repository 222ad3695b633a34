"""Exercises of notebook 07: the sliding window."""

import torch

from tinyphi.course.exercise import Exercise, fail_if, misconception, number_of, tensor_of

# ---------------------------------------------------------------------------------------------------------
ex = Exercise(
    "window.window_mask",
    notebook="07_sliding_window",
    title="The nearest few",
    difficulty=1,
    minutes=5,
    task="""
    Write `window_mask(tokens, window)`: `(tokens tokens)` bool, True where a query (row) may see a key
    (column). It sees itself and earlier tokens, `window` of them in all, as transformers counts.
    """,
    hints=[
        "The distance from query to key is the row's number minus the column's.",
        "Two conditions: not in the future, and not too far. What is the largest distance allowed with "
        "window 1?",
    ],
)


@ex.stub
def window_mask(tokens, window):
    """(tokens tokens) bool."""
    ...  # your code


@ex.solution
def window_mask(tokens, window):
    positions = torch.arange(tokens)
    distance = positions[:, None] - positions
    return (distance >= 0) & (distance < window)


@ex.judge
def judge(f):
    for tokens, window in ((8, 3), (5, 1), (4, 4), (3, 10), (1, 1)):
        got = tensor_of(f(tokens, window), shape=(tokens, tokens), dtype=torch.bool, name="mask")
        distance = torch.arange(tokens)[:, None] - torch.arange(tokens)
        wanted = (distance >= 0) & (distance < window)
        if torch.equal(got, wanted):
            continue
        case = f"With {tokens} tokens and a window of {window}: "
        fail_if(
            torch.equal(got, (distance >= 0) & (distance <= window)),
            case + "your tokens see one too many. The window counts the token itself.",
        )
        fail_if(
            torch.equal(got, (distance >= 0) & (distance < window - 1)),
            case + "your tokens see one too few. With a window of 1 a token would still see itself.",
        )
        fail_if(
            torch.equal(got, (distance > 0) & (distance <= window)),
            case + "your tokens do not see themselves.",
        )
        fail_if(
            torch.equal(got, distance < window),
            case + "the future is visible. Far enough away is one condition, earlier is another.",
        )
        fail_if(
            torch.equal(got, distance.abs() < window),
            case + "your window looks both ways.",
        )
        fail_if(torch.equal(got, wanted.T), case + "your tokens look forward: rows ask, columns answer.")
        fail_if(
            torch.equal(got, (distance >= 0) & ((distance // window) == 0) & _same_block(tokens, window)),
            case + "you cut the text into blocks. The window *slides*: it begins anew at every token.",
        )
        row, column = (got != wanted).nonzero()[0].tolist()
        misconception(case + f"row {row}, column {column} should be {bool(wanted[row, column])}.")


def _same_block(tokens, window):
    block = torch.arange(tokens) // window
    return block[:, None] == block


@ex.wrong("one too many", says="counts the token itself")
def window_mask(tokens, window):
    distance = torch.arange(tokens)[:, None] - torch.arange(tokens)
    return (distance >= 0) & (distance <= window)


@ex.wrong("one too few", says="still see itself")
def window_mask(tokens, window):
    distance = torch.arange(tokens)[:, None] - torch.arange(tokens)
    return (distance >= 0) & (distance < window - 1)


@ex.wrong("not itself", says="do not see themselves")
def window_mask(tokens, window):
    distance = torch.arange(tokens)[:, None] - torch.arange(tokens)
    return (distance > 0) & (distance <= window)


@ex.wrong("no causality", says="the future is visible")
def window_mask(tokens, window):
    return torch.arange(tokens)[:, None] - torch.arange(tokens) < window


@ex.wrong("both ways", says="looks both ways")
def window_mask(tokens, window):
    return (torch.arange(tokens)[:, None] - torch.arange(tokens)).abs() < window


@ex.wrong("blocks", says="cut the text into blocks")
def window_mask(tokens, window):
    block = torch.arange(tokens) // window
    return (block[:, None] == block) & torch.ones(tokens, tokens).tril().bool()


# ---------------------------------------------------------------------------------------------------------
ex = Exercise(
    "window.receptive_field",
    notebook="07_sliding_window",
    title="How far back can it reach?",
    difficulty=2,
    minutes=10,
    task="""
    Write `receptive_field(window, layers)`: how many tokens, itself included, can have an influence on what
    a model with that many layers and that window says after a token?
    """,
    hints=[
        "One layer: `window` tokens. The furthest of them is window − 1 away, and has itself seen tokens "
        "in the layer below.",
        "So every layer adds the same number of *new* tokens. What would window 1 have to give?",
    ],
)


@ex.stub
def receptive_field(window, layers):
    """A number of tokens."""
    ...  # your code


@ex.solution
def receptive_field(window, layers):
    return layers * (window - 1) + 1


@ex.judge
def judge(f):
    for window, layers in ((4, 3), (2, 5), (3, 1), (1, 7), (2047, 32)):
        right = layers * (window - 1) + 1
        got = number_of(f(window, layers), name="number of tokens")
        if got == right:
            continue
        case = f"With window {window} and {layers} layers: "
        fail_if(got == right - 1, case + "that is how far back it goes. The token itself counts as well.")
        fail_if(
            got == layers * window,
            case + "the windows of two layers overlap by one token: the last that a layer sees is the first "
            "of the window below.",
        )
        fail_if(got == window, case + "that is what one layer sees. What had the tokens in it seen?")
        fail_if(
            got == window**layers,
            case + "the windows do not multiply: the token before saw almost the same as you.",
        )
        misconception(case + f"{right:,} tokens, not {got:,.0f}. Draw it for window 2.")


@ex.wrong("without itself", says="counts as well")
def receptive_field(window, layers):
    return layers * (window - 1)


@ex.wrong("no overlap", says="overlap by one token")
def receptive_field(window, layers):
    return layers * window


@ex.wrong("one layer", says="what one layer sees")
def receptive_field(window, layers):
    return window


@ex.wrong("power", says="do not multiply")
def receptive_field(window, layers):
    return window**layers


# ---------------------------------------------------------------------------------------------------------
ex = Exercise(
    "window.sink_mask",
    notebook="07_sliding_window",
    title="A window with a memory of the beginning",
    difficulty=2,
    minutes=10,
    task="""
    Write `sink_mask(tokens, window, kept)`: a window as before, but the first `kept` tokens of the text stay
    visible to all that come after them. (It is called StreamingLLM.)
    """,
    hints=[
        "A pair is visible for one of two reasons, and one condition holds for both.",
        "The two reasons: near enough, or the *column* is below `kept`. The condition: not in the future.",
    ],
)


@ex.stub
def sink_mask(tokens, window, kept):
    """(tokens tokens) bool."""
    ...  # your code


@ex.solution
def sink_mask(tokens, window, kept):
    positions = torch.arange(tokens)
    distance = positions[:, None] - positions
    return (distance >= 0) & ((distance < window) | (positions < kept))


@ex.judge
def judge(f):
    positions = torch.arange(9)
    distance = positions[:, None] - positions
    fail_if(
        torch.equal(
            tensor_of(f(9, 5, 2), shape=(9, 9), dtype=torch.bool, name="mask"),
            (distance >= 0) & ((distance < 5 - 2) | (positions < 2)),
        ),
        "With a window of 5 and 2 kept, yours sees only the 3 nearest: you take what is kept out of the window. "
        "(The comparison above did so to be fair.) Here the window stays as wide as it was.",
    )
    for tokens, window, kept in ((9, 2, 4), (6, 3, 1), (5, 2, 0), (4, 1, 4), (1, 1, 1)):
        got = tensor_of(f(tokens, window, kept), shape=(tokens, tokens), dtype=torch.bool, name="mask")
        positions = torch.arange(tokens)
        distance = positions[:, None] - positions
        near, first = distance < window, positions < kept
        wanted = (distance >= 0) & (near | first)
        if torch.equal(got, wanted):
            continue
        case = f"With {tokens} tokens, window {window} and {kept} kept: "
        fail_if(
            torch.equal(got, ((distance >= 0) & near) | first),
            case + "the first tokens see each other's future. Being kept does not excuse a key from being "
            "earlier than its query.",
        )
        fail_if(
            torch.equal(got, (distance >= 0) & (near | (positions[:, None] < kept))),
            case + "the first tokens as *queries* see everything. The other axis: they should be seen.",
        )
        fail_if(
            torch.equal(got, (distance >= 0) & first),
            case + "only the first tokens are left; the window itself is missing.",
        )
        fail_if(
            torch.equal(got, (distance >= 0) & near),
            case + "that is the plain window; the first tokens fall out of it.",
        )
        row, column = (got != wanted).nonzero()[0].tolist()
        misconception(case + f"row {row}, column {column} should be {bool(wanted[row, column])}.")


@ex.wrong("future of the first", says="see each other's future")
def sink_mask(tokens, window, kept):
    distance = torch.arange(tokens)[:, None] - torch.arange(tokens)
    return ((distance >= 0) & (distance < window)) | (torch.arange(tokens) < kept)


@ex.wrong("the wrong axis", says="The other axis")
def sink_mask(tokens, window, kept):
    distance = torch.arange(tokens)[:, None] - torch.arange(tokens)
    return (distance >= 0) & ((distance < window) | (torch.arange(tokens)[:, None] < kept))


@ex.wrong("a smaller window", says="as wide as it was")
def sink_mask(tokens, window, kept):
    distance = torch.arange(tokens)[:, None] - torch.arange(tokens)
    return (distance >= 0) & ((distance < window - kept) | (torch.arange(tokens) < kept))


@ex.wrong("no window", says="the window itself is missing")
def sink_mask(tokens, window, kept):
    distance = torch.arange(tokens)[:, None] - torch.arange(tokens)
    return (distance >= 0) & (torch.arange(tokens) < kept)


@ex.wrong("plain window", says="fall out of it")
def sink_mask(tokens, window, kept):
    distance = torch.arange(tokens)[:, None] - torch.arange(tokens)
    return (distance >= 0) & (distance < window)


# ---------------------------------------------------------------------------------------------------------
ex = Exercise(
    "window.segments_mask",
    notebook="07_sliding_window",
    title="Several documents in one row",
    difficulty=3,
    minutes=20,
    task="""
    Write `segments_mask(segments, window)`. `segments` is `(b t)` int: 1, 2, … number the documents of a row,
    each in one piece and in any order, and 0 is padding. Return `(b t t)` bool: a token sees itself and
    earlier tokens of its own document, `window` of them in all. No row may be empty, for the softmax of
    nothing is NaN; so let padding see padding. This one rule serves padding, packing and the window; it is
    the one in `tinyphi/model/mask.py`.
    """,
    hints=[
        "Three conditions: the same number, not in the future, near enough.",
        "`segments[:, :, None] == segments[:, None, :]` is (b t t); the distances (t t) fit it as they are.",
        "Padding needs no special case: 0 equals 0.",
    ],
)


@ex.stub
def segments_mask(segments, window):
    """(b t) int → (b t t) bool."""
    ...  # your code


@ex.solution
def segments_mask(segments, window):
    positions = torch.arange(segments.shape[1])
    distance = positions[:, None] - positions
    same = segments[:, :, None] == segments[:, None, :]
    return same & (distance >= 0) & (distance < window)


@ex.judge
def judge(f):
    segments = torch.tensor([[0, 0, 1, 1, 1, 1, 1], [1, 1, 1, 2, 2, 0, 0], [2, 1, 1, 1, 3, 3, 3]])
    for window in (3, 100, 1):
        got = tensor_of(f(segments, window), shape=(3, 7, 7), dtype=torch.bool, name="mask")
        distance = torch.arange(7)[:, None] - torch.arange(7)
        within = (distance >= 0) & (distance < window)
        same = segments[:, :, None] == segments[:, None, :]
        real = segments > 0
        wanted = same & within
        fail_if(
            (~got.any(-1)).any(),
            f"With window {window} a row is empty: a token that sees nothing, not even itself. Its softmax "
            "is NaN, and one NaN spreads through the whole batch. Let padding see padding.",
        )
        if torch.equal(got[real], wanted[real]) and not (got & ~same).any():
            continue
        fail_if(
            torch.equal(got[real], within.expand(3, 7, 7)[real]),
            f"With window {window} your documents see each other, and the padding before them.",
        )
        fail_if(
            torch.equal(got[real], (same & (distance >= 0))[real]),
            f"With window {window} a token still sees its whole document: the window is missing.",
        )
        fail_if(torch.equal(got[real], (same & (distance.abs() < window))[real]), "The future is visible.")
        fail_if(
            torch.equal(got[real], (same & (distance >= 0) & (distance <= window))[real]),
            f"With window {window} a token sees one too many. The window counts the token itself.",
        )
        ordered = segments[:, :, None] >= segments[:, None, :]
        padded = (segments > 0)[:, None, :]
        fail_if(
            torch.equal(got[real], (ordered & within)[real])
            or torch.equal(got[real], (padded & within)[real]),
            f"With window {window} a token sees documents that came before its own. Another text is as "
            "invisible as the future.",
        )
        one, row, column = ((got != wanted) & (real[:, :, None] | ~same)).nonzero()[0].tolist()
        misconception(
            f"With window {window} and the segments {segments[one].tolist()}, row {row}, column {column} "
            f"should be {bool(wanted[one, row, column])}."
        )


@ex.wrong("no documents", says="documents see each other")
def segments_mask(segments, window):
    distance = torch.arange(segments.shape[1])[:, None] - torch.arange(segments.shape[1])
    return ((distance >= 0) & (distance < window)).repeat(segments.shape[0], 1, 1)


@ex.wrong("no window", says="the window is missing")
def segments_mask(segments, window):
    distance = torch.arange(segments.shape[1])[:, None] - torch.arange(segments.shape[1])
    return (segments[:, :, None] == segments[:, None, :]) & (distance >= 0)


@ex.wrong("one too many", says="sees one too many")
def segments_mask(segments, window):
    distance = torch.arange(segments.shape[1])[:, None] - torch.arange(segments.shape[1])
    return (segments[:, :, None] == segments[:, None, :]) & (distance >= 0) & (distance <= window)


@ex.wrong("padding hidden from itself", says="a row is empty")
def segments_mask(segments, window):
    distance = torch.arange(segments.shape[1])[:, None] - torch.arange(segments.shape[1])
    same = segments[:, :, None] == segments[:, None, :]
    return same & (distance >= 0) & (distance < window) & (segments > 0)[:, None, :]


@ex.wrong("earlier documents", says="as invisible as the future")
def segments_mask(segments, window):
    distance = torch.arange(segments.shape[1])[:, None] - torch.arange(segments.shape[1])
    return (segments[:, :, None] >= segments[:, None, :]) & (distance >= 0) & (distance < window)
