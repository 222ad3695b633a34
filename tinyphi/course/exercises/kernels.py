"""Exercises of notebook 17: what limits speed, and how the fast kernel multiplies."""

import math

import torch

from tinyphi.course.exercise import Exercise, fail_if, misconception, near, number_of, tensor_of
from tinyphi.kernels import layout

# ---------------------------------------------------------------------------------------------------------------
ceiling = Exercise(
    "kernels.ceiling",
    notebook="17_a_fast_kernel",
    title="No faster than this",
    difficulty=1,
    minutes=10,
    task="""
    Each new token needs every weight once, and the keys and values of all tokens before it once. Write
    `most_tokens(weights, bits, group_size, cached, bandwidth)`: how many tokens a second are possible at most when
    memory is the limit. There are `weights` weights of `bits` bits; every `group_size` of them share a scale of 16 bits,
    and there are no minima. The cache holds `cached` bytes, and memory gives `bandwidth` bytes a second.
    """,
    hints=[
        "How many bytes must be read for one token? There are three parts: codes, scales, cache.",
        "A byte has eight bits. A scale has 2 bytes, and there are weights / group_size of them.",
        "Bytes a second, divided by bytes a token, are tokens a second.",
    ],
)


@ceiling.stub
def most_tokens(weights, bits, group_size, cached, bandwidth):
    """five numbers → tokens a second"""
    ...  # your code


@ceiling.solution
def most_tokens(weights, bits, group_size, cached, bandwidth):
    scales = weights / group_size * 2
    return bandwidth / (weights * bits / 8 + scales + cached)


@ceiling.judge
def judge_ceiling(f):
    for weights, bits, group_size, cached, bandwidth in (
        (4 * 10**9, 4, 32, 0, 20 * 10**9),
        (4 * 10**9, 4, 32, 10**9, 20 * 10**9),
        (10**9, 8, 64, 10**8, 50 * 10**9),
        (1.2e8, 4, 128, 3e7, 9e9),
    ):
        codes, scales = weights * bits / 8, weights / group_size * 2
        wanted = bandwidth / (codes + scales + cached)
        got = number_of(f(weights, bits, group_size, cached, bandwidth), name="number of tokens a second")
        if near(got, wanted):
            continue
        case = (
            f"{weights / 1e9:g} billion weights of {bits} bits in groups of {group_size}, {cached / 1e9:g} GB of "
            f"cache, {bandwidth / 1e9:g} GB/s: "
        )
        fail_if(
            near(got, 1 / wanted),
            case + "you return seconds for a token. Turn it round: how many tokens are there in a second?",
        )
        fail_if(near(got, bandwidth / (codes + cached)), case + "you forget the scales, which are read too.")
        fail_if(
            near(got, bandwidth / (codes + scales)),
            case + "you forget the cache: the token looks at all keys and values before it.",
        )
        fail_if(
            near(got, bandwidth / (weights * bits + scales + cached))
            or near(got, bandwidth / (weights * bits + 8 * scales + cached)),
            case + "you take bits for bytes, and so the model for eight times as heavy as it is.",
        )
        fail_if(
            near(got, bandwidth / (codes + 2 * weights + cached)),
            case + "you give each weight a scale of its own; a whole group shares one.",
        )
        misconception(
            case
            + f"{(codes + scales + cached) / 1e9:.4g} GB are read for each token, so {wanted:.4g} tokens a "
            f"second are possible; you say {got:.4g}."
        )


@ceiling.wrong("seconds", says="you return seconds")
def most_tokens(weights, bits, group_size, cached, bandwidth):
    return (weights * bits / 8 + weights / group_size * 2 + cached) / bandwidth


@ceiling.wrong("no scales", says="you forget the scales")
def most_tokens(weights, bits, group_size, cached, bandwidth):
    return bandwidth / (weights * bits / 8 + cached)


@ceiling.wrong("no cache", says="you forget the cache")
def most_tokens(weights, bits, group_size, cached, bandwidth):
    return bandwidth / (weights * bits / 8 + weights / group_size * 2)


@ceiling.wrong("bits for bytes", says="bits for bytes")
def most_tokens(weights, bits, group_size, cached, bandwidth):
    return bandwidth / (weights * bits + weights / group_size * 2 + cached)


@ceiling.wrong("a scale for each weight", says="a scale of its own")
def most_tokens(weights, bits, group_size, cached, bandwidth):
    return bandwidth / (weights * bits / 8 + weights * 2 + cached)


# ---------------------------------------------------------------------------------------------------------------
unsigned = Exercise(
    "kernels.unsigned",
    notebook="17_a_fast_kernel",
    title="The instruction takes no minus",
    difficulty=2,
    minutes=20,
    task="""
    The byte instructions of Intel's and AMD's processors multiply *unsigned* weights, 0 … 255, by signed activations. Codes
    of 4 bits are unsigned anyway. But 8-bit codes run from −128 to 127. Write `signed_dot(codes, q, dot)`: codes `(o i)`
    int8, rounded activations q `(i)` int8 from −127 to 127 → `(o)` int32, the sums Σ codes · q. Multiply only with
    `dot(u, q)`, which is that instruction: u `(o i)` or `(i)`, 0 … 255, of any integer type; q `(o i)` or `(i)`, −128 … 127
    → int32. It refuses all other numbers.
    """,
    hints=[
        "Work in `codes.int()` and `q.int()`: a byte cannot hold codes + 128, nor −(−128).",
        "One way: codes + 128 is never negative. What does `dot` then return too much? It is the same for all rows.",
        "Σ (c + 128) · q = Σ c · q + 128 · Σ q. So take 128 · Σ q away. (The other way: move the sign of c to q.)",
    ],
)


@unsigned.stub
def signed_dot(codes, q, dot):
    """(o i) int8, (i) int8, the instruction → (o) int32"""
    ...  # your code


@unsigned.solution
def signed_dot(codes, q, dot):
    return dot(codes.int() + 128, q) - 128 * q.sum(dtype=torch.int32)


def _instruction(u, q):
    for name, numbers, low, high in (("weights", u, 0, 255), ("activations", q, -128, 127)):
        whole = isinstance(numbers, torch.Tensor) and not numbers.is_floating_point()
        fail_if(not whole, f"`dot` takes tensors of whole numbers; the {name} are something else.")
        wrong = (numbers < low) | (numbers > high)
        fail_if(
            bool(wrong.any()),
            f"`dot` refuses the {name}: they must lie in {low} … {high}, and {int(wrong.sum())} do not, for example "
            f"{numbers[wrong][0] if wrong.any() else ''}.",
        )
    fail_if(u.shape[-1:] != q.shape[-1:], f"`dot` cannot pair {tuple(u.shape)} with {tuple(q.shape)}.")
    return (u.int() * q.int()).sum(-1, dtype=torch.int32)


@unsigned.judge
def judge_unsigned(f):
    for o, i in ((3, 4), (5, 32), (2, 64)):
        codes = torch.randint(-128, 128, (o, i)).to(torch.int8)
        codes[0, 0], codes[1, 1] = -128, 127
        q = torch.randint(-127, 128, (i,)).to(torch.int8)
        q[:2] = torch.tensor([127, -127])
        calls = []

        def dot(u, q, calls=calls):
            calls.append(None)
            return _instruction(u, q)

        got = tensor_of(f(codes.clone(), q.clone(), dot), name="tensor of sums")
        c, x = codes.int(), q.int()
        wanted = (c * x).sum(-1)
        fail_if(
            not calls, "You never call `dot`. The point is that this instruction must do the multiplying."
        )
        got = tensor_of(got, shape=(o,), dtype=torch.int32, name="tensor of sums")
        if torch.equal(got.long(), wanted):
            continue
        shifted = ((c + 128) * x).sum(-1)
        fail_if(
            torch.equal(got.long(), shifted),
            "You shift the codes by 128 and leave the shift in the result: every row is too large by the same "
            "number, 128 · Σ q.",
        )
        fail_if(
            torch.equal(got.long(), (c.abs() * x).sum(-1)),
            "You take the codes without their sign, and it is lost. It must go somewhere: where would a minus "
            "have the same effect?",
        )
        fail_if(
            torch.equal(got.long(), (c % 256 * x).sum(-1)),
            "You read the same bytes as unsigned. Then −1 counts as 255: every negative code is 256 too large, "
            "and the error differs from row to row.",
        )
        fail_if(
            torch.equal(got.long(), shifted - 128 * c.sum(-1)) or torch.equal(got.long(), shifted - 128 * i),
            "You shift by 128 and take the wrong thing away. Multiply out Σ (c + 128) · q: which sum is "
            "multiplied by 128?",
        )
        misconception(f"For {o} rows of {i} codes the sums are {wanted.tolist()}; yours are {got.tolist()}.")


@unsigned.wrong("shift stays", says="leave the shift in the result")
def signed_dot(codes, q, dot):
    return dot(codes.int() + 128, q)


@unsigned.wrong("sign lost", says="without their sign")
def signed_dot(codes, q, dot):
    return dot(codes.int().abs(), q)


@unsigned.wrong("bytes read as unsigned", says="−1 counts as 255")
def signed_dot(codes, q, dot):
    return dot(codes.view(torch.uint8), q)


@unsigned.wrong("sum of the codes", says="take the wrong thing away")
def signed_dot(codes, q, dot):
    return dot(codes.int() + 128, q) - 128 * codes.sum(-1, dtype=torch.int32)


@unsigned.wrong("codes as they are", says="refuses the weights")
def signed_dot(codes, q, dot):
    return dot(codes, q)


@unsigned.wrong("no instruction", says="never call")
def signed_dot(codes, q, dot):
    return (codes.int() * q.int()).sum(-1, dtype=torch.int32)


# ---------------------------------------------------------------------------------------------------------------
place = Exercise(
    "kernels.place",
    notebook="17_a_fast_kernel",
    title="Find the byte",
    difficulty=2,
    minutes=20,
    task="""
    Write `byte_of(row, column, inputs)`: where the 4-bit code of the weight in that row and column lies, if the matrix has
    `inputs` columns and its tiles are written one after the other: `to_tiles(codes).flatten()`. Return a pair of whole
    numbers: which byte, and which half of it (0 the low four bits, 1 the high ones). The axes of the tiles are
    `[rows/8][columns/32][4][8 rows][4]`; the low half of a byte has column 4c + k of its block of 32, the high half column
    16 + 4c + k.
    """,
    hints=[
        "Split the row: `tile, r = divmod(row, 8)`. Split the column into its block and the place inside, 0 … 31.",
        "Inside a block: the half is `inside // 16`, then `c, k = divmod(inside % 16, 4)`.",
        "The axes in order are tile, block, c, r, k. A block has 4 · 8 · 4 = 128 bytes, a tile as many blocks as a row has.",
    ],
)


@place.stub
def byte_of(row, column, inputs):
    """three whole numbers → (which byte, which half)"""
    ...  # your code


@place.solution
def byte_of(row, column, inputs):
    tile, r = divmod(row, 8)
    block, inside = divmod(column, 32)
    half, rest = divmod(inside, 16)
    c, k = divmod(rest, 4)
    return (tile * (inputs // 32) + block) * 128 + c * 32 + r * 4 + k, half


def _true_place(row, column, inputs):
    """Ask the layout itself: one code that is not zero."""
    codes = torch.zeros(row + 1, inputs, dtype=torch.uint8)
    codes[row, column] = 1
    bytes_ = layout.to_tiles(codes).flatten()
    (index,) = bytes_.nonzero()[0].tolist()
    return index, 0 if int(bytes_[index]) == 1 else 1


@place.judge
def judge_place(f):
    for row, column, inputs in (
        (0, 0, 64), (0, 3, 64), (0, 5, 64), (0, 20, 64), (3, 0, 64), (3, 22, 64), (0, 32, 64), (8, 0, 96), (13, 55, 96),
        (30, 95, 96),
    ):  # fmt: skip
        got = f(row, column, inputs)
        if not isinstance(got, (tuple, list)) or len(got) != 2:
            misconception("Return a pair: which byte, and which half of it.")
        index, half = (number_of(part, name=name) for part, name in zip(got, ("byte", "half"), strict=True))
        wanted = _true_place(row, column, inputs)
        if (index, half) == wanted:
            continue
        _explain_place(index, half, wanted, (row, column, inputs))


def _explain_place(index, half, wanted, where):
    row, column, inputs = where
    case = f"Row {row}, column {column} of {inputs}: "
    tile, r, block, inside = row // 8, row % 8, column // 32, column % 32
    c, k = inside % 16 // 4, inside % 4
    fail_if(
        (index, half) == (row * inputs // 2 + column // 2, column % 2),
        case
        + "you put one row after the other, and neighbours into one byte. That is how files store codes. Here eight "
        "rows lie beside each other.",
    )
    fail_if(
        (index, 1 - half) == wanted,
        case + "the byte is right and the half is not. Columns 0 … 15 of a block are in the low halves.",
    )
    in_block = c * 32 + r * 4 + k
    fail_if(
        half == wanted[1] and index == (tile + block) * 128 + in_block and index != wanted[0],
        case + f"a tile of eight rows has {inputs // 32} blocks, and all of them come before the next tile.",
    )
    fail_if(
        half == wanted[1] and index == (tile * (inputs // 32) + block) * 128 + r * 16 + c * 4 + k,
        case
        + "inside a block you take one row after the other. The axis of the rows comes after c: four columns of "
        "row 0, the same four of row 1, and so on.",
    )
    fail_if(
        half == wanted[1] and index == (tile * (inputs // 32) + block) * 256 + inside // 4 * 32 + r * 4 + k,
        case
        + "that would be right for codes of 8 bits. With 4 bits, columns 16 apart share a byte, so a block has 128 "
        "bytes.",
    )
    misconception(
        case + f"byte {wanted[0]}, half {wanted[1]} is right; you say byte {index:g}, half {half:g}."
    )


@place.wrong("row after row", says="how files store codes")
def byte_of(row, column, inputs):
    return row * inputs // 2 + column // 2, column % 2


@place.wrong("halves exchanged", says="the half is not")
def byte_of(row, column, inputs):
    block, inside = divmod(column, 32)
    index = (row // 8 * (inputs // 32) + block) * 128 + inside % 16 // 4 * 32 + row % 8 * 4 + inside % 4
    return index, 1 - inside // 16


@place.wrong("one block a tile", says="come before the next tile")
def byte_of(row, column, inputs):
    block, inside = divmod(column, 32)
    return (row // 8 + block) * 128 + inside % 16 // 4 * 32 + row % 8 * 4 + inside % 4, inside // 16


@place.wrong("rows outside", says="comes after c")
def byte_of(row, column, inputs):
    block, inside = divmod(column, 32)
    return (row // 8 * (inputs // 32) + block) * 128 + row % 8 * 16 + inside % 16, inside // 16


@place.wrong("as for 8 bits", says="codes of 8 bits")
def byte_of(row, column, inputs):
    block, inside = divmod(column, 32)
    index = (row // 8 * (inputs // 32) + block) * 256 + inside // 4 * 32 + row % 8 * 4 + inside % 4
    return index, inside // 16


# ---------------------------------------------------------------------------------------------------------------
overflow = Exercise(
    "kernels.overflow",
    notebook="17_a_fast_kernel",
    title="How many fit into 16 bits?",
    difficulty=3,
    minutes=15,
    task="""
    `maddubs` multiplies unsigned codes by signed activations and adds *two* neighbouring products into a signed number of 16
    bits. To widen it to 32 bits takes another instruction, so the kernel first adds several of these numbers in 16 bits. Write
    `sums_that_fit(bits)`: how many can be added for codes of `bits` bits, if activations lie in −127 … 127 and the sum must
    never leave the 16 bits, whatever the codes are. It is 0 when not even one is safe.
    """,
    hints=[
        "What is the largest code of `bits` bits, and the largest product with an activation?",
        "One result of maddubs holds two products. The largest signed number of 16 bits is 2¹⁵ − 1.",
        "Divide, and keep the whole part with `//`.",
    ],
)


@overflow.stub
def sums_that_fit(bits):
    """1 … 8 → a whole number"""
    ...  # your code


@overflow.solution
def sums_that_fit(bits):
    pair = 2 * (2**bits - 1) * 127
    return 32767 // pair


@overflow.judge
def judge_overflow(f):
    for bits in (4, 8, 6, 5, 3, 7, 2, 1):
        got = number_of(f(bits), name="number of sums")
        largest = (2**bits - 1) * 127
        wanted = 32767 // (2 * largest)
        if got == wanted:
            continue
        case = f"Codes of {bits} bits: "
        fail_if(
            got == 32767 // largest,
            case
            + "that is twice too many. maddubs has already added two products before you see anything; and as the "
            "sum has a sign, it ends at 32,767, not at 65,535.",
        )
        fail_if(
            got == math.ceil(32767 / (2 * largest)) or got == round(32767 / (2 * largest)),
            case
            + f"{got:g} · {2 * largest:,} = {got * 2 * largest:,.0f} is beyond 32,767. Round down: one too many is "
            "enough for a wrong result.",
        )
        fail_if(
            abs(got - 32767 / (2 * largest)) < 1e-6,
            case + f"{got:.3f} is no number of sums; how many whole ones fit?",
        )
        fail_if(
            got == 32767 // (2 * 2 ** (bits - 1) * 127),
            case
            + f"you take the codes as signed, at most {2 ** (bits - 1)}. They are unsigned: the largest is "
            f"{2**bits - 1}.",
        )
        fail_if(
            got == 32767 // (2 * 2**bits * 127),
            case + f"the largest code is not {2**bits}. With {bits} bits one counts from 0.",
        )
        misconception(
            case
            + f"one result of maddubs is at most 2 · {2**bits - 1} · 127 = {2 * largest:,}, so {wanted} fit into "
            f"32,767; you say {got:g}."
        )


@overflow.wrong("single products", says="twice too many")
def sums_that_fit(bits):
    return 32767 // ((2**bits - 1) * 127)


@overflow.wrong("one code too many", says="one counts from 0")
def sums_that_fit(bits):
    return 32767 // (2 * 2**bits * 127)


@overflow.wrong("rounded up", says="Round down")
def sums_that_fit(bits):
    return -(-32767 // (2 * (2**bits - 1) * 127))


@overflow.wrong("a fraction", says="no number of sums")
def sums_that_fit(bits):
    return 32767 / (2 * (2**bits - 1) * 127)


@overflow.wrong("signed codes", says="codes as signed")
def sums_that_fit(bits):
    return 32767 // (2 * 2 ** (bits - 1) * 127)
