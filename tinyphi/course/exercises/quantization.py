"""Exercises of notebook 15: weights in four bits."""

import torch

from tinyphi.course.exercise import Exercise, fail_if, misconception, near, number_of, tensor_of

# ---------------------------------------------------------------------------------------------------------------
nibbles = Exercise(
    "quantization.nibbles",
    notebook="15_quantize_to_4_bits",
    title="The order of a GGUF file",
    difficulty=1,
    minutes=10,
    task="""
    We put neighbours into one byte. A GGUF file does not: in a block of 32 codes, byte j has code j in its low half and
    code j + 16 in its high half. Write `pack_block(codes)`: codes `(n 32)`, uint8 from 0 to 15, one row a block →
    `(n 16)` uint8. Whoever takes one order for the other reads all weights correctly and puts them in the wrong places.
    """,
    hints=[
        "Which columns go into the low halves of the 16 bytes, and which into the high ones?",
        "`codes[:, :16]` and `codes[:, 16:]`: the first sixteen codes and the last.",
        "`<< 4` moves a code into the high half, `|` puts both halves together.",
    ],
)


@nibbles.stub
def pack_block(codes):
    """(n 32) uint8 from 0 to 15 → (n 16) uint8"""
    ...  # your code


@nibbles.solution
def pack_block(codes):
    return codes[:, :16] | codes[:, 16:] << 4


@nibbles.judge
def judge_nibbles(f):
    for blocks in (1, 3):
        codes = torch.randint(0, 16, (blocks, 32), dtype=torch.uint8)
        low, high = codes[:, :16], codes[:, 16:]
        got = tensor_of(f(codes), shape=(blocks, 16), dtype=torch.uint8, name="tensor of bytes")
        fail_if(
            torch.equal(got, codes[:, ::2] | codes[:, 1::2] << 4),
            "Codes 0 and 1 share your first byte. That is the order of our own layer; in a GGUF block code 0 "
            "shares its byte with code 16.",
        )
        fail_if(
            torch.equal(got, high | low << 4),
            "The halves of each byte have changed places: code 0 belongs into the low half of byte 0.",
        )
        fail_if(
            torch.equal(got, low | high) or torch.equal(got, low + high),
            "Both codes lie in the same four bits, one upon the other. The second must be moved up first.",
        )
        wanted = low | high << 4
        if not torch.equal(got, wanted):
            block, byte = (got != wanted).nonzero()[0].tolist()
            first, second = int(low[block, byte]), int(high[block, byte])
            misconception(
                f"Byte {byte} should hold the codes {first:04b} (low half) and {second:04b} (high half), which is "
                f"{second:04b}{first:04b}; yours is {int(got[block, byte]):08b}."
            )


@nibbles.wrong("neighbours", says="share your first byte")
def pack_block(codes):
    return codes[:, ::2] | codes[:, 1::2] << 4


@nibbles.wrong("halves swapped", says="changed places")
def pack_block(codes):
    return codes[:, 16:] | codes[:, :16] << 4


@nibbles.wrong("not moved", says="one upon the other")
def pack_block(codes):
    return codes[:, :16] | codes[:, 16:]


@nibbles.wrong("three bits", says="should hold the codes")
def pack_block(codes):
    return codes[:, :16] | codes[:, 16:] << 3


# ---------------------------------------------------------------------------------------------------------------
eight = Exercise(
    "quantization.largest_at_minus_eight",
    notebook="15_quantize_to_4_bits",
    title="The recipe of Q4_0",
    difficulty=2,
    minutes=15,
    task="""
    Write `quantize_groups(groups)` for groups `(n g)`, float32, one row a group. Return a pair: codes `(n g)`, uint8 from
    0 to 15, and scales `(n)`, float32, so that `(codes - 8) * scale` is near the weight. The weight of largest magnitude
    gets code 0, which stands for −8: so the scale may be negative. All others get the nearest code there is. In a group
    of nothing but zeros the scale is 0 and each code 8.
    """,
    hints=[
        "`groups.abs().argmax(-1, keepdim=True)` says where the largest magnitude is, and `groups.gather(-1, …)` gets "
        "the weight from there, with its sign.",
        "`scale = peak / -8`: then the peak is −8 steps, whatever its sign.",
        "A weight almost as large as the peak, of the other sign, would be at +8; the last code stands for +7.",
        "Nothing can be divided by a scale of 0. `torch.where(scale == 0, 1, scale)` is a scale to divide by.",
    ],
)


@eight.stub
def quantize_groups(groups):
    """(n g) float32 → a pair: codes (n g) uint8 from 0 to 15, scales (n) float32"""
    ...  # your code


@eight.solution
def quantize_groups(groups):
    peak = groups.gather(-1, groups.abs().argmax(-1, keepdim=True))
    scale = peak / -8
    steps = (groups / torch.where(scale == 0, 1, scale)).round()
    return (steps + 8).clamp(0, 15).to(torch.uint8), scale[:, 0] + 0.0


@eight.judge
def judge_eight(f):
    for groups in (
        torch.tensor([[0.1, -0.8, 0.33, 0.62], [-0.1, 0.8, -0.33, -0.62]]),
        torch.tensor([[0.8, -0.79, 0.3, 0.12], [0.2, -0.4, 0.41, 0.06]]),
        torch.randn(4, 32),
        torch.stack((torch.zeros(8), torch.linspace(-0.9, 1, 8))),
    ):
        pair = f(groups)
        if not isinstance(pair, (tuple, list)) or len(pair) != 2:
            misconception("Return a pair: the codes, then the scales.")
        _judge_scales(groups, tensor_of(pair[1], shape=groups.shape[:1], name="tensor of scales"))
        _judge_codes(groups, tensor_of(pair[0], shape=groups.shape, name="tensor of codes"))


def _judge_scales(groups, got):
    peak = groups.gather(-1, groups.abs().argmax(-1, keepdim=True))[:, 0]
    if near(got, peak / -8):
        return
    group = int((~torch.isclose(got, peak / -8)).nonzero()[0])
    where = f"In a group whose largest weight is {peak[group]:.3g} your scale is {got[group]:.4g}: "
    fail_if(
        bool(got.isnan().any()) and not bool(peak.all()), "For a group of zeros your scale is not a number."
    )
    fail_if(
        near(got, peak.abs() / 8),
        where + "the sign is lost. A positive peak would land at +8, where there is no code.",
    )
    fail_if(
        near(got, peak / 8),
        where + "divided by +8, so the peak is +8 steps. It should be −8 steps, where there is a code.",
    )
    fail_if(
        near(got, peak / -7) or near(got, peak.abs() / 7),
        where + "seven steps to the peak, so one of the sixteen codes is never used.",
    )
    misconception(where + f"{peak[group] / -8:.4g} puts the peak at −8 steps.")


def _judge_codes(groups, got):
    peak = groups.gather(-1, groups.abs().argmax(-1, keepdim=True))
    zero = peak == 0
    wanted = torch.where(zero, 8.0, (groups / torch.where(zero, 1, peak / -8)).round() + 8)
    numbers = got.float()
    fail_if(
        bool((numbers[zero[:, 0]] != 8).any()),
        "A group of zeros does not come out as codes 8. What is 0 divided by a scale of 0?",
    )
    fail_if(
        near(numbers + 8, wanted.clamp(max=15)),
        "Your codes are the steps themselves, from −8 to 7. Four bits hold no sign: add 8.",
    )
    fail_if(
        bool(((wanted == 16) & (numbers == 16)).any()),
        "There is a code 16 among yours, and four bits end at 15: packed, it would spill into the neighbour.",
    )
    fail_if(
        bool(((wanted == 16) & (numbers == 0)).any()),
        "A weight that belongs near +7 steps has code 0, the other end of the scale.",
    )
    wanted = wanted.clamp(max=15)
    if near(numbers, wanted):
        tensor_of(got, dtype=torch.uint8, name="tensor of codes")
        return
    fail_if(
        near(numbers, (groups / torch.where(zero, 1, peak / -8) + 8).floor().clamp(max=15)),
        "Your codes are rounded down. The nearest code is what loses least.",
    )
    row, column = (numbers != wanted).nonzero()[0].tolist()
    misconception(
        f"The weight {groups[row, column]:.3g}, in a group whose largest is {peak[row, 0]:.3g}, should have code "
        f"{int(wanted[row, column])}; yours is {numbers[row, column]:g}."
    )


@eight.wrong("sign lost", says="the sign is lost")
def quantize_groups(groups):
    scale = groups.abs().amax(-1, keepdim=True) / 8
    steps = (groups / torch.where(scale == 0, 1, scale)).round()
    return (steps + 8).clamp(0, 15).to(torch.uint8), scale[:, 0]


@eight.wrong("plus eight", says="divided by +8")
def quantize_groups(groups):
    scale = groups.gather(-1, groups.abs().argmax(-1, keepdim=True)) / 8
    steps = (groups / torch.where(scale == 0, 1, scale)).round()
    return (steps + 8).clamp(0, 15).to(torch.uint8), scale[:, 0]


@eight.wrong("seven steps", says="is never used")
def quantize_groups(groups):
    scale = groups.abs().amax(-1, keepdim=True) / 7
    steps = (groups / torch.where(scale == 0, 1, scale)).round()
    return (steps + 8).to(torch.uint8), scale[:, 0]


@eight.wrong("no clamp", says="four bits end at 15")
def quantize_groups(groups):
    scale = groups.gather(-1, groups.abs().argmax(-1, keepdim=True)) / -8
    steps = (groups / torch.where(scale == 0, 1, scale)).round()
    return (steps + 8).to(torch.uint8), scale[:, 0]


@eight.wrong("around the end", says="the other end of the scale")
def quantize_groups(groups):
    scale = groups.gather(-1, groups.abs().argmax(-1, keepdim=True)) / -8
    steps = (groups / torch.where(scale == 0, 1, scale)).round()
    return (steps + 8).to(torch.uint8) & 15, scale[:, 0]


@eight.wrong("rounded down", says="rounded down")
def quantize_groups(groups):
    scale = groups.gather(-1, groups.abs().argmax(-1, keepdim=True)) / -8
    steps = groups / torch.where(scale == 0, 1, scale)
    return (steps + 8).clamp(0, 15).to(torch.uint8), scale[:, 0]


@eight.wrong("zero by zero", says="0 divided by a scale of 0")
def quantize_groups(groups):
    scale = groups.gather(-1, groups.abs().argmax(-1, keepdim=True)) / -8
    return ((groups / scale).round() + 8).clamp(0, 15).nan_to_num().to(torch.uint8), scale[:, 0]


# ---------------------------------------------------------------------------------------------------------------
budget = Exercise(
    "quantization.budget",
    notebook="15_quantize_to_4_bits",
    title="The finest groups that fit",
    difficulty=1,
    minutes=10,
    task="""
    A model of `weights` weights shall take at most `budget` *bytes*, in four bits a weight and with a scale of 16 bits
    for each group; with `minima=True` each group has a minimum of 16 bits as well. Groups may have 16, 32, 64, 128 or 256
    weights. Write `group_size(weights, budget, minima)`: the *smallest* groups that fit, because they lose least; 0 if
    none do. (`weights` is a multiple of 256.)
    """,
    hints=[
        "How many bytes do the codes alone take? Two of them are in a byte.",
        "How many groups are there, and how many bytes does each add? 2, or 4 with a minimum.",
        "Try the sizes from the smallest on, and return the first one that fits.",
    ],
)


@budget.stub
def group_size(weights, budget, minima):
    """two whole numbers, True or False → 16, 32, 64, 128, 256 or 0"""
    ...  # your code


_SIZES = (16, 32, 64, 128, 256)


def _smallest(weights, budget, each, codes=0.5):
    return next((size for size in _SIZES if weights * codes + weights // size * each <= budget), 0)


@budget.solution
def group_size(weights, budget, minima):
    for size in (16, 32, 64, 128, 256):
        if weights // 2 + weights // size * (4 if minima else 2) <= budget:
            return size
    return 0


@budget.judge
def judge_budget(f):
    mini = 3_821_079_552
    for weights, bytes, minima in (
        (mini, 2_390_000_000, False),
        (mini, 2_200_000_000, False),
        (mini, 2_100_000_000, True),
        (mini, 2_000_000_000, False),
        (mini, mini * 9 // 16, False),
        (mini, 1_930_000_000, True),
        (mini, 2_400_000_000, True),
        (mini, 9_000_000_000, True),
        (106_168_320, 60_000_000, False),
    ):
        each = 4 if minima else 2
        wanted = _smallest(weights, bytes, each)
        got = number_of(f(weights, bytes, minima), name="group size")
        if got == wanted:
            continue
        case = f"{weights:,} weights in {bytes:,} bytes, {'with' if minima else 'without'} minima: "
        fail_if(
            got == 16 and wanted != 16 and weights / 2 <= bytes < weights * 0.5625 + weights / 16,
            case + "you return 16 as if the scales took no room. With these groups there are "
            f"{weights // 16:,} of them.",
        )
        fail_if(minima and got == _smallest(weights, bytes, 2), case + "the minima take room too.")
        fail_if(
            got == 0 and 4 * weights > bytes,
            case + f"you say nothing fits. Four *bits* a weight are {weights // 2:,} bytes.",
        )
        fail_if(
            got == 256 and wanted in (16, 32, 64, 128),
            case + "groups of 256 fit, but smaller ones do as well, and they lose less.",
        )
        fail_if(
            wanted and got > wanted and weights * 0.5 + weights // wanted * each == bytes,
            case + f"groups of {wanted} take exactly this much. At most means that they fit.",
        )
        fail_if(
            got == _smallest(weights, bytes, 8 * each),
            case + "a scale has 16 *bits*, which are 2 bytes, not 16.",
        )
        fail_if(wanted == 0, case + f"none fit, so 0 is right; you say {got:g}.")
        misconception(case + f"{wanted} is right; you say {got:g}.")


@budget.wrong("free scales", says="scales took no room")
def group_size(weights, budget, minima):
    return 16 if weights // 2 <= budget else 0


@budget.wrong("free minima", says="the minima take room too")
def group_size(weights, budget, minima):
    for size in (16, 32, 64, 128, 256):
        if weights // 2 + weights // size * 2 <= budget:
            return size
    return 0


@budget.wrong("bits are bytes", says="you say nothing fits")
def group_size(weights, budget, minima):
    for size in (16, 32, 64, 128, 256):
        if weights * 4 + weights // size * (32 if minima else 16) <= budget:
            return size
    return 0


@budget.wrong("largest", says="they lose less")
def group_size(weights, budget, minima):
    for size in (256, 128, 64, 32, 16):
        if weights // 2 + weights // size * (4 if minima else 2) <= budget:
            return size
    return 0


@budget.wrong("less than", says="At most means")
def group_size(weights, budget, minima):
    for size in (16, 32, 64, 128, 256):
        if weights // 2 + weights // size * (4 if minima else 2) < budget:
            return size
    return 0


@budget.wrong("sixteen bytes", says="not 16")
def group_size(weights, budget, minima):
    for size in (16, 32, 64, 128, 256):
        if weights // 2 + weights // size * (32 if minima else 16) <= budget:
            return size
    return 0


# ---------------------------------------------------------------------------------------------------------------
clip = Exercise(
    "quantization.clip",
    notebook="15_quantize_to_4_bits",
    title="Give up the largest",
    difficulty=2,
    minutes=20,
    task="""
    Must the grid reach the largest weight of a group? A shorter one has finer steps for all others. Write
    `best_scales(groups, shares)`: groups `(n g)`, none of them all zeros, and a list of shares such as 1, 0.95, 0.9 … For
    each share s try the scale `s * largest / 7`, with steps from −7 to 7; what is beyond them becomes −7 or 7. Return the
    scales `(n)` with which each group, for itself, has the smallest sum of squared errors.
    """,
    hints=[
        "For one share: scales `(n 1)`, then steps `(n g)`, rounded and clamped to −7 … 7, and what they stand for.",
        "The sum of squared errors of each group is `(steps * scale - groups).square().sum(-1)`.",
        "Stack these sums for all shares, `(shares n)`; `argmin(0)` says which share is the best for each group.",
    ],
)


@clip.stub
def best_scales(groups, shares):
    """(n g), a list of numbers → (n)"""
    ...  # your code


@clip.solution
def best_scales(groups, shares):
    best = error = None
    for share in shares:
        scale = share * groups.abs().amax(-1) / 7
        steps = (groups / scale[:, None]).round().clamp(-7, 7)
        off = (steps * scale[:, None] - groups).square().sum(-1)
        better = torch.ones_like(off, dtype=torch.bool) if error is None else off < error
        best = scale if best is None else torch.where(better, scale, best)
        error = off if error is None else torch.where(better, off, error)
    return best


def _candidates(groups, shares, top=7.0):
    """All scales (s n), and the errors of all weights with each (s n g)."""
    scales = torch.tensor(shares)[:, None] * groups.abs().amax(-1) / 7
    steps = (groups / scales[..., None]).round().clamp(-top, top)
    return scales, steps * scales[..., None] - groups


@clip.judge
def judge_clip(f):
    shares = [1.0, 0.98, 0.96, 0.94, 0.92, 0.9, 0.87, 0.84, 0.8, 0.75, 0.7]
    for groups in (torch.randn(12, 32), torch.randn(40, 16) * torch.rand(40, 1)):
        scales, off = _candidates(groups, shares)
        got = tensor_of(f(groups, shares), shape=(len(groups),), name="tensor of scales")
        wanted = scales.gather(0, off.square().sum(-1).argmin(0)[None])[0]
        fail_if(
            near(got, scales[0]),
            "Each of your scales reaches the largest weight of its group: no other share was ever better?",
        )
        unclamped = _candidates(groups, shares, 1e9)[1].square().sum(-1).argmin(0)
        fail_if(
            near(got, scales.gather(0, unclamped[None])[0]),
            "You compare errors as if the grid went on beyond 7 steps, so what is cut off costs nothing.",
        )
        everywhere = scales[off.square().sum((-1, -2)).argmin()]
        fail_if(
            near(got, everywhere),
            "You take one share for all groups together. Each group may choose its own.",
        )
        worst = off.abs().amax(-1).argmin(0)
        fail_if(
            near(got, scales.gather(0, worst[None])[0]),
            "You minimise the largest error in a group. Then hardly anything is cut off; the sum of squares counts.",
        )
        chosen = torch.tensor(shares)[off.square().sum(-1).argmin(0)]
        fail_if(near(got, chosen), "You return the shares. The scale is the share times the largest, over 7.")
        group = int((got - wanted).abs().argmax())
        fail_if(
            not near(got, wanted),
            f"Group {group}: with your scale {got[group]:.4g} the sum of squared errors is "
            f"{_error(groups[group], got[group]):.4g}; with {wanted[group]:.4g} it is "
            f"{_error(groups[group], wanted[group]):.4g}.",
        )


def _error(group, scale):
    return float(((group / scale).round().clamp(-7, 7) * scale - group).square().sum())


@clip.wrong("reaches all", says="reaches the largest weight")
def best_scales(groups, shares):
    return groups.abs().amax(-1) / 7


@clip.wrong("no clamp", says="costs nothing")
def best_scales(groups, shares):
    scales = torch.stack([share * groups.abs().amax(-1) / 7 for share in shares])
    errors = (groups / scales[..., None]).round() * scales[..., None] - groups
    return scales.gather(0, errors.square().sum(-1).argmin(0)[None])[0]


@clip.wrong("one for all", says="one share for all groups")
def best_scales(groups, shares):
    scales = torch.stack([share * groups.abs().amax(-1) / 7 for share in shares])
    errors = (groups / scales[..., None]).round().clamp(-7, 7) * scales[..., None] - groups
    return scales[errors.square().sum((-1, -2)).argmin()]


@clip.wrong("largest error", says="the largest error in a group")
def best_scales(groups, shares):
    scales = torch.stack([share * groups.abs().amax(-1) / 7 for share in shares])
    errors = (groups / scales[..., None]).round().clamp(-7, 7) * scales[..., None] - groups
    return scales.gather(0, errors.abs().amax(-1).argmin(0)[None])[0]


@clip.wrong("shares", says="You return the shares")
def best_scales(groups, shares):
    scales = torch.stack([share * groups.abs().amax(-1) / 7 for share in shares])
    errors = (groups / scales[..., None]).round().clamp(-7, 7) * scales[..., None] - groups
    return torch.tensor(shares)[errors.square().sum(-1).argmin(0)]


# ---------------------------------------------------------------------------------------------------------------
multiply = Exercise(
    "quantization.multiply",
    notebook="15_quantize_to_4_bits",
    title="Multiply without unrounding",
    difficulty=3,
    minutes=25,
    task="""
    Our layer makes float weights of all codes, then multiplies. A fast kernel never does: within a group the scale is the
    same for all weights, so it comes after the sum. Write `product(x, packed, scales)` for one token x `(i)`: packed
    `(o i/2)` as in our layer, scales `(o n)` → `(o)`. In each group sum up codes times x, correct for the 8 that stands
    for zero, and only then multiply by the scale: one product and one sum fewer for each weight.
    """,
    hints=[
        "Write the sum of one group down: Σ (code − 8) · scale · x. What does not depend on the weight can go outside.",
        "It is scale · (Σ code · x − 8 · Σ x). The second sum is the same for all outputs.",
        "Unpacked codes, reshaped to (o n g), times x, reshaped to (n g), summed over g: (o n).",
        "Then multiply by the scales (o n) and sum over n.",
    ],
)


@multiply.stub
def product(x, packed, scales):
    """(i), (o i/2) uint8, (o n) → (o)"""
    ...  # your code


@multiply.solution
def product(x, packed, scales):
    outputs, groups = scales.shape
    codes = torch.stack((packed & 15, packed >> 4), dim=-1).view(outputs, groups, -1)
    x = x.view(groups, -1)
    sums = (codes * x).sum(-1) - 8 * x.sum(-1)
    return (sums * scales).sum(-1)


def _product(x, packed, scales, zero=8.0, swapped=False, apart=False, whole=False):
    """The product; the options are mistakes."""
    halves = (packed >> 4, packed & 15) if swapped else (packed & 15, packed >> 4)
    codes = torch.cat(halves, -1) if apart else torch.stack(halves, -1).flatten(1)
    group = codes.shape[1] // scales.shape[1]
    if whole:
        return (codes * x).view(*scales.shape, group).sum(-1).mul(scales).sum(-1) - zero * x.sum()
    return ((codes.float() - zero) * scales.repeat_interleave(group, 1)) @ x


@multiply.judge
def judge_multiply(f):
    for outputs, groups, size in ((3, 2, 4), (5, 4, 8), (4, 3, 32)):
        packed = torch.randint(0, 256, (outputs, groups * size // 2), dtype=torch.uint8)
        scales, x = torch.rand(outputs, groups) + 0.1, torch.randn(groups * size)
        got = tensor_of(f(x, packed, scales), shape=(outputs,), name="product")
        fail_if(
            near(got, _product(x, packed, scales, zero=0.0), 1e-4),
            "You take the codes as they are. Code 8 stands for zero, so 8 times the sum of x must go from each group.",
        )
        fail_if(
            near(got, _product(x, packed, scales, whole=True), 1e-4),
            "You subtract 8 times the sum of x at the end, when the scales have been multiplied already. It belongs "
            "to each group and gets the group's scale.",
        )
        fail_if(
            near(got, _product(x, packed, scales, swapped=True), 1e-4),
            "The two codes of each byte have changed places: the first is in the low half.",
        )
        fail_if(
            near(got, _product(x, packed, scales, apart=True), 1e-4),
            "You unpack all low halves, then all high ones. In our layer the two codes of a byte are neighbours.",
        )
        alternating = ((_codes(packed) - 8.0) * scales.repeat(1, size)) @ x
        fail_if(
            near(got, alternating, 1e-4),
            "Neighbours get different scales: yours go 0, 1, 2 … from column to column. A group is a run of columns.",
        )
        wanted = _product(x, packed, scales)
        fail_if(
            not near(got, wanted, 1e-4),
            f"With {groups} groups of {size} the first output should be {wanted[0]:.4g}; yours is {got[0]:.4g}.",
        )


def _codes(packed):
    return torch.stack((packed & 15, packed >> 4), -1).flatten(1)


@multiply.wrong("no zero", says="You take the codes as they are")
def product(x, packed, scales):
    outputs, groups = scales.shape
    codes = torch.stack((packed & 15, packed >> 4), dim=-1).view(outputs, groups, -1)
    return ((codes * x.view(groups, -1)).sum(-1) * scales).sum(-1)


@multiply.wrong("corrected at the end", says="at the end")
def product(x, packed, scales):
    outputs, groups = scales.shape
    codes = torch.stack((packed & 15, packed >> 4), dim=-1).view(outputs, groups, -1)
    return ((codes * x.view(groups, -1)).sum(-1) * scales).sum(-1) - 8 * x.sum()


@multiply.wrong("halves swapped", says="changed places")
def product(x, packed, scales):
    outputs, groups = scales.shape
    codes = torch.stack((packed >> 4, packed & 15), dim=-1).view(outputs, groups, -1)
    return (((codes - 8.0) * x.view(groups, -1)).sum(-1) * scales).sum(-1)


@multiply.wrong("halves apart", says="all low halves")
def product(x, packed, scales):
    outputs, groups = scales.shape
    codes = torch.cat((packed & 15, packed >> 4), dim=-1).view(outputs, groups, -1)
    return (((codes - 8.0) * x.view(groups, -1)).sum(-1) * scales).sum(-1)


@multiply.wrong("alternating scales", says="Neighbours get different scales")
def product(x, packed, scales):
    codes = torch.stack((packed & 15, packed >> 4), dim=-1).flatten(1)
    size = codes.shape[1] // scales.shape[1]
    return ((codes - 8.0) * scales.repeat(1, size)) @ x
