"""Exercises of notebook 10: from the bytes of a file to the numbers of a model."""

import json
import struct

import torch

from tinyphi.course.exercise import Exercise, fail_if, misconception, near, tensor_of

# --------------------------------------------------------------------------------------------------------------
splitting = Exercise(
    "weights.split_qkv",
    notebook="10_load_real_weights",
    title="Three matrices in one",
    difficulty=1,
    minutes=10,
    task="""
    Write `split_qkv(joined, heads, kv_heads)`: the matrix `qkv_proj` `(rows d)` of a model with that many
    query heads and key/value heads → the three matrices of queries, keys and values, in this order. All heads
    are equally wide. Then take SmolLM2's apart, with 9 and 3, and Phi-3-mini's, with 32 and 32.
    """,
    hints=[
        "How wide is one head? Count all heads in the matrix: queries, keys and values.",
        "`width = len(joined) // (heads + 2 * kv_heads)`, and from there on it is slicing.",
        "`joined.split([a, b, c])` cuts the rows into parts of these sizes.",
    ],
)


@splitting.stub
def split_qkv(joined, heads, kv_heads):
    """joined ((heads + 2 kv_heads)·c, d) → queries, keys, values"""
    ...  # your code


@splitting.solution
def split_qkv(joined, heads, kv_heads):
    width = len(joined) // (heads + 2 * kv_heads)
    return joined.split([heads * width, kv_heads * width, kv_heads * width])


@splitting.judge
def judge_splitting(f):
    for heads, kv_heads, c, d in ((4, 4, 2, 3), (6, 2, 4, 5), (3, 1, 2, 1)):
        joined = torch.randn((heads + 2 * kv_heads) * c, d)
        got = f(joined, heads, kv_heads)
        fail_if(
            got is None, "There is no result: it is None. Does every path through your function `return` one?"
        )
        fail_if(
            not isinstance(got, (tuple, list)) or len(got) != 3,
            "Return three matrices: queries, keys, values.",
        )
        first, second = heads * c, (heads + kv_heads) * c
        right = joined[:first], joined[first:second], joined[second:]
        case = f"With {heads} query and {kv_heads} key/value heads: "
        shapes = [tuple(one.shape) if isinstance(one, torch.Tensor) else None for one in got]
        wanted = [tuple(one.shape) for one in right]
        fail_if(
            shapes == [tuple(one.shape) for one in joined.chunk(3)] and shapes != wanted,
            case
            + "three equal parts are wrong. That fits Phi-3-mini, where every query head has keys of its own.",
        )
        fail_if(
            shapes[1] == joined[first : 2 * first].shape and shapes != wanted,
            case + "you give keys and values as many heads as queries. Their number is `kv_heads`.",
        )
        q, k, v = (
            tensor_of(one, shape=shape, name=name)
            for one, shape, name in zip(got, wanted, ("queries", "keys", "values"), strict=True)
        )
        if all(torch.equal(a, b) for a, b in zip((q, k, v), right, strict=True)):
            continue
        fail_if(
            torch.equal(k, right[2]) and torch.equal(v, right[1]),
            case + "keys and values are exchanged: the keys come before the values.",
        )
        by_group = joined.view(kv_heads, -1, c, d)
        fail_if(
            torch.equal(v, by_group[:, -1].reshape(-1, d)),
            case
            + "you take the rows group by group, each with its queries, key and value. Some models are stored so; "
            "here all queries come first, then all keys, then all values.",
        )
        misconception(case + "the shapes are right, but some rows stand in the wrong matrix.")


@splitting.wrong("three equal parts", says="three equal parts are wrong")
def split_qkv(joined, heads, kv_heads):
    return joined.chunk(3)


@splitting.wrong("as many keys as queries", says="as many heads as queries")
def split_qkv(joined, heads, kv_heads):
    width = len(joined) // (heads + 2 * kv_heads)
    return joined[: heads * width], joined[heads * width : 2 * heads * width], joined[2 * heads * width :]


@splitting.wrong("values before keys", says="keys and values are exchanged")
def split_qkv(joined, heads, kv_heads):
    width = len(joined) // (heads + 2 * kv_heads)
    queries, values, keys = joined.split([heads * width, kv_heads * width, kv_heads * width])
    return queries, keys, values


@splitting.wrong("group by group", says="you take the rows group by group")
def split_qkv(joined, heads, kv_heads):
    d = joined.shape[1]
    width = len(joined) // (heads + 2 * kv_heads)
    groups = joined.view(kv_heads, -1, width, d)
    return groups[:, :-2].reshape(-1, d), groups[:, -2].reshape(-1, d), groups[:, -1].reshape(-1, d)


# --------------------------------------------------------------------------------------------------------------
nibbles = Exercise(
    "weights.q4_0",
    notebook="10_load_real_weights",
    title="Four bits and a half",
    difficulty=2,
    minutes=15,
    task="""
    Q4_0 is the plainer relative of Q4_1. A block of 18 bytes holds 32 numbers: a scale d (a 16-bit float, 2
    bytes), then 32 nibbles in 16 bytes, ordered as in Q4_1. There is no minimum; a nibble q from 0 to 15
    stands for d · (q − 8). Write `q4_0(blocks)`: uint8 `(n 18)` → float32 `(n 32)`.
    """,
    hints=[
        "`q4_1` above needs three changes: where the nibbles begin, how the scale is read, and what is added.",
        "`blocks[:, :2].contiguous().view(torch.float16)` is `(n 1)`: two bytes become one number.",
        "A nibble is uint8, and 3 − 8 in uint8 is 251. Make it a float first.",
    ],
)


@nibbles.stub
def q4_0(blocks):
    """uint8 (n 18) → float32 (n 32)"""
    ...  # your code


@nibbles.solution
def q4_0(blocks):
    scale = blocks[:, :2].contiguous().view(torch.float16).float()
    low, high = blocks[:, 2:] & 15, blocks[:, 2:] >> 4
    return scale * (torch.cat((low, high), dim=1).float() - 8)


@nibbles.judge
def judge_nibbles(f):
    for count in (3, 1):
        scale = (torch.rand(count, 1) + 0.1).half()
        packed = torch.randint(256, (count, 16)).to(torch.uint8)
        blocks = torch.cat((scale.view(torch.uint8), packed), dim=1)
        got = tensor_of(f(blocks), shape=(count, 32))
        low, high, d = packed & 15, packed >> 4, scale.float()
        q = torch.cat((low, high), dim=1).float()
        right = d * (q - 8)
        got = tensor_of(got, dtype=torch.float32)
        if near(got, right):
            continue
        fail_if(
            near(got, d * q),
            "No number is below zero: the 8 that lies in the middle of 0 to 15 is not taken away.",
        )
        fail_if(
            near(got, d * q - 8), "You take 8 from the finished number. It belongs to q, before the scale."
        )
        fail_if(
            near(got, d * (q - 8).to(torch.uint8).float()),
            "You take 8 away in uint8, where 3 − 8 is 251. Make the nibbles floats first.",
        )
        mixed = torch.stack((low, high), dim=2).flatten(1).float()
        fail_if(
            near(got, d * (mixed - 8)),
            "You put the two nibbles of a byte side by side. The low ones are the first 16 numbers, the high ones the "
            "other 16.",
        )
        swapped = torch.cat((high, low), dim=1).float()
        fail_if(
            near(got, d * (swapped - 8)),
            "Your halves are exchanged: the *low* nibbles (`& 15`) are the first 16 numbers.",
        )
        fail_if(
            near(got, (q - 8) * scale.view(torch.bfloat16).float()),
            "You read the scale as bfloat16. It is a float16: as wide, but with more digits and a smaller range.",
        )
        unshifted = torch.cat((low, packed & 240), dim=1).float()
        fail_if(
            near(got, d * (unshifted - 8)),
            "Your high nibbles are 16 times too large: `& 240` leaves them where they are. Move them down with `>> 4`.",
        )
        fail_if(
            near(got, right, 3e-3),
            "Nearly right: you calculate with 16-bit floats, which have 11 bits of precision. Make them float32 first.",
        )
        row, at = divmod(int((got - right).abs().argmax()), 32)
        misconception(
            f"Number {at} of block {row} should be {right[row, at]:.3f}; yours is {got[row, at]:.3f}. Is the scale the "
            "first two bytes?"
        )


def _few(values):
    return ", ".join(f"{value:.3f}" for value in values.flatten()[:4].tolist())


@nibbles.wrong("nothing below zero", says="No number is below zero")
def q4_0(blocks):
    scale = blocks[:, :2].contiguous().view(torch.float16).float()
    low, high = blocks[:, 2:] & 15, blocks[:, 2:] >> 4
    return scale * torch.cat((low, high), dim=1).float()


@nibbles.wrong("8 in bytes", says="in uint8, where")
def q4_0(blocks):
    scale = blocks[:, :2].contiguous().view(torch.float16).float()
    low, high = blocks[:, 2:] & 15, blocks[:, 2:] >> 4
    return scale * (torch.cat((low, high), dim=1) - 8).float()


@nibbles.wrong("side by side", says="side by side")
def q4_0(blocks):
    scale = blocks[:, :2].contiguous().view(torch.float16).float()
    low, high = blocks[:, 2:] & 15, blocks[:, 2:] >> 4
    return scale * (torch.stack((low, high), dim=2).flatten(1).float() - 8)


@nibbles.wrong("not shifted", says="16 times too large")
def q4_0(blocks):
    scale = blocks[:, :2].contiguous().view(torch.float16).float()
    low, high = blocks[:, 2:] & 15, blocks[:, 2:] & 240
    return scale * (torch.cat((low, high), dim=1).float() - 8)


@nibbles.wrong("in half precision", says="11 bits of precision")
def q4_0(blocks):
    scale = blocks[:, :2].contiguous().view(torch.float16)
    low, high = blocks[:, 2:] & 15, blocks[:, 2:] >> 4
    return (scale * (torch.cat((low, high), dim=1).half() - 8)).float()


@nibbles.wrong("high ones first", says="halves are exchanged")
def q4_0(blocks):
    scale = blocks[:, :2].contiguous().view(torch.float16).float()
    low, high = blocks[:, 2:] & 15, blocks[:, 2:] >> 4
    return scale * (torch.cat((high, low), dim=1).float() - 8)


@nibbles.wrong("the other 16-bit float", says="You read the scale as bfloat16")
def q4_0(blocks):
    scale = blocks[:, :2].contiguous().view(torch.bfloat16).float()
    low, high = blocks[:, 2:] & 15, blocks[:, 2:] >> 4
    return scale * (torch.cat((low, high), dim=1).float() - 8)


# --------------------------------------------------------------------------------------------------------------
ordering = Exercise(
    "weights.to_gguf",
    notebook="10_load_real_weights",
    title="The way there",
    difficulty=2,
    minutes=15,
    task="""
    `put_back` undid what llama.cpp's converter had done. Now be the converter: write `to_gguf(rows, heads)`,
    query or key rows in our order `(heads·c, d)` → the same rows in GGUF's order. In each head the c rows 0,
    1, … c − 1 become 0, c/2, 1, c/2 + 1, …, so that the two that RoPE turns together are neighbours.
    """,
    hints=[
        "Say it in axes: in our order a row's number is (head, half, i), in GGUF's it is (head, i, half).",
        "`rows.view(…)` to four axes, one `transpose`, and back to two with `reshape`.",
        "`put_back` views as (heads, i, half, d). From which view must you start?",
    ],
)


@ordering.stub
def to_gguf(rows, heads):
    """(heads·c, d) → (heads·c, d)"""
    ...  # your code


@ordering.solution
def to_gguf(rows, heads):
    return rows.view(heads, 2, -1, rows.shape[1]).transpose(1, 2).reshape(rows.shape)


@ordering.judge
def judge_ordering(f):
    for heads, c, d in ((2, 6, 3), (3, 8, 1), (1, 10, 4)):
        rows = torch.arange(heads * c * d, dtype=torch.float32).view(-1, d)
        got = tensor_of(f(rows, heads), shape=rows.shape)
        half = rows.view(heads, 2, c // 2, d)
        right = half.transpose(1, 2).reshape(rows.shape)
        if torch.equal(got, right):
            continue
        case = f"With {heads} heads of {c} rows: "
        fail_if(torch.equal(got, rows), case + "the order has not changed.")
        fail_if(
            torch.equal(got, rows.view(heads, c // 2, 2, d).transpose(1, 2).reshape(rows.shape)),
            case
            + "this is the way back, what `put_back` does: 0, 2, 4, … Done twice, the two are not the same thing.",
        )
        fail_if(
            heads > 1 and torch.equal(got, rows.view(2, -1, d).transpose(0, 1).reshape(rows.shape)),
            case + "you mix the rows of different heads. Each head is put in order by itself.",
        )
        fail_if(
            torch.equal(got, half.flip(1).transpose(1, 2).reshape(rows.shape)),
            case + "the second half comes first in each pair: c/2, 0, c/2 + 1, 1, …",
        )
        fail_if(
            torch.equal(got, half.flip(1).reshape(rows.shape)),
            case + "you exchange the halves. They must be interleaved, one row of each in turn.",
        )
        order = [int(row[0]) // d for row in got[:c]]
        misconception(
            case
            + f"the first head's rows should come as {[int(row[0]) // d for row in right[:c]]}, not {order}."
        )


@ordering.wrong("the way back", says="this is the way back")
def to_gguf(rows, heads):
    return rows.view(heads, -1, 2, rows.shape[1]).transpose(1, 2).reshape(rows.shape)


@ordering.wrong("across heads", says="rows of different heads")
def to_gguf(rows, heads):
    return rows.view(2, -1, rows.shape[1]).transpose(0, 1).reshape(rows.shape)


@ordering.wrong("the second half first", says="second half comes first")
def to_gguf(rows, heads):
    halves = rows.view(heads, 2, -1, rows.shape[1]).flip(1)
    return halves.transpose(1, 2).reshape(rows.shape)


@ordering.wrong("exchanges the halves", says="you exchange the halves")
def to_gguf(rows, heads):
    return rows.view(heads, 2, -1, rows.shape[1]).flip(1).reshape(rows.shape)


# --------------------------------------------------------------------------------------------------------------
reading = Exercise(
    "weights.safetensors",
    notebook="10_load_real_weights",
    title="A reader for safetensors",
    difficulty=3,
    minutes=25,
    task="""
    Write `read_tensor(raw, name)`: the bytes of a safetensors file and the name of a tensor of dtype `BF16`
    or `F32` → the tensor in float32, with its shape. The header's entry holds `dtype`, `shape` and
    `data_offsets`, where it begins and where it ends, counted in bytes from the end of the header. Then read
    `model.norm.weight` from `raw` above.
    """,
    hints=[
        "Three parts: 8 bytes with the header's length, the header, the data. The cell above reads the first two.",
        "`torch.frombuffer(bytearray(part), dtype=…)` makes numbers of bytes; `reshape` gives them their shape.",
        "A dictionary from the two names to `torch.bfloat16` and `torch.float32` does for the dtype; `.float()` at the end.",
    ],
)


@reading.stub
def read_tensor(raw, name):
    """raw: bytes of a file → float32, in the tensor's shape"""
    ...  # your code


@reading.solution
def read_tensor(raw, name):
    length = int.from_bytes(raw[:8], "little")
    entry = json.loads(raw[8 : 8 + length])[name]
    begin, end = (8 + length + offset for offset in entry["data_offsets"])
    dtype = {"BF16": torch.bfloat16, "F32": torch.float32}[entry["dtype"]]
    return torch.frombuffer(bytearray(raw[begin:end]), dtype=dtype).reshape(entry["shape"]).float()


_KINDS = {"BF16": torch.bfloat16, "F32": torch.float32, "F16": torch.float16}


def _file(tensors):
    """A safetensors file: name → tensor."""
    header, data = {}, b""
    for name, tensor in tensors.items():
        part = bytes(tensor.contiguous().view(torch.uint8).flatten().tolist())
        kind = next(key for key, dtype in _KINDS.items() if dtype == tensor.dtype)
        header[name] = {
            "dtype": kind,
            "shape": list(tensor.shape),
            "data_offsets": [len(data), len(data) + len(part)],
        }
        data += part
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text + data


@reading.judge
def judge_reading(f):
    tensors = {
        "first": torch.randn(7),
        "second": torch.randn(3, 4).bfloat16(),
        "third": torch.randn(2, 3),
        "last": torch.randn(5, 2, 2).bfloat16(),
    }
    raw = _file(tensors)
    length = int.from_bytes(raw[:8], "little")
    header = json.loads(raw[8 : 8 + length])

    def read_at(start, name, kind=None):
        """What a reader gets who counts from `start`, or who takes the bytes for another kind of number."""
        begin, end = (start + offset for offset in header[name]["data_offsets"])
        dtype = _KINDS[kind or header[name]["dtype"]]
        part = bytearray(raw[begin:end])
        return torch.frombuffer(part, dtype=dtype).float() if part else torch.zeros(0)

    for name, tensor in tensors.items():
        got, case = f(raw, name), f"The tensor {name!r}: "
        if isinstance(got, torch.Tensor) and got.shape != tensor.shape and got.numel() == tensor.numel():
            misconception(
                case + f"its shape is {tuple(tensor.shape)}; yours is {tuple(got.shape)}. The header says it."
            )
        got = tensor_of(got, shape=tensor.shape, dtype=torch.float32)
        if torch.equal(got, tensor.float()):
            continue
        flat = got.flatten()
        fail_if(
            _alike(flat, read_at(0, name)),
            case + "you count from the start of the file, where the header stands.",
        )
        fail_if(
            _alike(flat, read_at(length, name)),
            case + "you begin 8 bytes too early: the length of the header does not count those 8 bytes.",
        )
        fail_if(
            _alike(flat, read_at(8 + length, name, "F16")),
            case + "you read bfloat16 as float16. Both have 16 bits, but divide them in another way.",
        )
        backwards = tensor.float().flatten().reshape(tensor.shape[::-1]).permute(*range(tensor.ndim)[::-1])
        fail_if(
            torch.equal(got, backwards),
            case
            + "you fill it column by column. Here, other than in GGUF, the last axis of the shape runs fastest.",
        )
        misconception(case + f"it should begin {_few(tensor.float())}; yours begins {_few(got)}.")


def _alike(a, b):
    return a.shape == b.shape and torch.equal(a.nan_to_num(), b.nan_to_num())


@reading.wrong("from the start of the file", says="you count from the start of the file")
def read_tensor(raw, name):
    length = int.from_bytes(raw[:8], "little")
    entry = json.loads(raw[8 : 8 + length])[name]
    begin, end = entry["data_offsets"]
    dtype = {"BF16": torch.bfloat16, "F32": torch.float32}[entry["dtype"]]
    return torch.frombuffer(bytearray(raw[begin:end]), dtype=dtype).reshape(entry["shape"]).float()


@reading.wrong("8 bytes too early", says="8 bytes too early")
def read_tensor(raw, name):
    length = int.from_bytes(raw[:8], "little")
    entry = json.loads(raw[8 : 8 + length])[name]
    begin, end = (length + offset for offset in entry["data_offsets"])
    dtype = {"BF16": torch.bfloat16, "F32": torch.float32}[entry["dtype"]]
    return torch.frombuffer(bytearray(raw[begin:end]), dtype=dtype).reshape(entry["shape"]).float()


@reading.wrong("the other 16-bit float", says="bfloat16 as float16")
def read_tensor(raw, name):
    length = int.from_bytes(raw[:8], "little")
    entry = json.loads(raw[8 : 8 + length])[name]
    begin, end = (8 + length + offset for offset in entry["data_offsets"])
    dtype = {"BF16": torch.float16, "F32": torch.float32}[entry["dtype"]]
    return torch.frombuffer(bytearray(raw[begin:end]), dtype=dtype).reshape(entry["shape"]).float()


@reading.wrong("no shape", says="The header says it")
def read_tensor(raw, name):
    length = int.from_bytes(raw[:8], "little")
    entry = json.loads(raw[8 : 8 + length])[name]
    begin, end = (8 + length + offset for offset in entry["data_offsets"])
    dtype = {"BF16": torch.bfloat16, "F32": torch.float32}[entry["dtype"]]
    return torch.frombuffer(bytearray(raw[begin:end]), dtype=dtype).float()


@reading.wrong("column by column", says="you fill it column by column")
def read_tensor(raw, name):
    length = int.from_bytes(raw[:8], "little")
    entry = json.loads(raw[8 : 8 + length])[name]
    begin, end = (8 + length + offset for offset in entry["data_offsets"])
    dtype = {"BF16": torch.bfloat16, "F32": torch.float32}[entry["dtype"]]
    numbers = torch.frombuffer(bytearray(raw[begin:end]), dtype=dtype).float()
    return numbers.reshape(entry["shape"][::-1]).permute(*range(len(entry["shape"]))[::-1])
