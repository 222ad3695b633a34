"""layer_errors: which matrix stands where, which are the most sensitive, and what 8 bits would change."""

import math

import pytest
import torch

from tinyphi.errors import InputError
from tinyphi.show import layer_errors

KINDS = ("attention.qkv_proj", "attention.o_proj", "mlp.gate_up_proj", "mlp.down_proj")


def example(blocks=30, strange=None, wide=True, kept=True):
    names = [
        "embed_tokens",
        *(f"layers.{block}.{kind}" for block in range(blocks) for kind in KINDS),
        "lm_head",
    ]
    errors = 0.1 + 0.01 * torch.randn(len(names), generator=torch.Generator().manual_seed(0))
    measures = {"weights": errors, strange(3) if strange else "real activations": 2 * errors.flip(0)}
    bytes = [1000 * (1 + len(name) % 4) for name in names]
    more = {"errors_in_8_bits": {name: list(values / 16) for name, values in measures.items()}}
    more["bytes_in_8_bits"] = [2 * size for size in bytes]
    return layer_errors(
        names,
        {name: values.tolist() for name, values in measures.items()},
        bytes,
        {names[-1]: strange(4) if strange else "tied", names[1]: "first"} if kept else None,
        **(more if wide else {}),
    )


@pytest.mark.parametrize(("blocks", "wide", "kept"), [(30, True, True), (1, False, False), (120, True, True)])
def test_faces(examine, blocks, wide, kept, strange):
    view = examine(lambda: example(blocks, strange, wide, kept))
    assert len(view.live.data["names"]) == 4 * blocks + 2
    assert bool(view.live.data["wide"]) == wide


def test_one_matrix_all_kept_and_errors_of_zero_draw(examine):
    examine(lambda: layer_errors(["lm_head"], {"weights": [0.0]}, [10], {"lm_head": "it is small"}))
    examine(lambda: layer_errors(["a", "b"], {"weights": [0, 0]}, [1, 1], {}, {"weights": [0, 0]}, [2, 2]))
    one = {"weights": [0.1]}
    examine(lambda: layer_errors(["a"], one, [1], {"a": "all"}, one, [2]))


SMALL = ["layers.0.mlp.down_proj.weight", "layers.0.attention.o_proj", "layers.1.mlp.down_proj", "lm_head"]


def test_the_digest_says_kinds_ranks_and_sums():
    view = layer_errors(
        SMALL,
        {"weights": [0.1, 0.3, 0.2, 0.01]},
        [1000, 2000, 1000, 4096],
        {"lm_head": "tied to\nthe embedding"},
        {"weights": [0.01, 0.03, 0.02, 0.01]},
        [2000, 4000, 2000, 8192],
    )
    lines = view.text.splitlines()
    assert lines[0] == "4 matrices, 2 blocks, 7.9 KiB"
    assert lines[3].split() == ["down_proj", "2", "2.0", "KiB", "0.100", "0.100", "0.200"]
    assert lines[6] == (
        "most sensitive: layers.0.attention.o_proj 0.300, layers.1.mlp.down_proj 0.200, "
        "layers.0.mlp.down_proj.weight 0.100"
    )
    assert lines[7:10] == [
        "   0 most sensitive in 8 bits:    7.9 KiB, sum of errors 0.610",
        "   1 most sensitive in 8 bits:    9.9 KiB, sum of errors 0.340",
        "   3 most sensitive in 8 bits:   11.8 KiB, sum of errors 0.0700",
    ]
    assert lines[10] == "kept: lm_head: tied to the embedding"
    assert view.live.data["places"] == [(0, 0), (1, 0), (0, 1), (2, -1)]
    assert view.live.data["kept"] == [None, None, None, "tied to\nthe embedding"]


GOOD = {"names": ["a", "b"], "errors": {"weights": [0.1, 0.2]}, "bytes": [1, 2]}


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"names": []}, "1 to 512 names"),
        ({"names": ["a", "a"]}, "each once"),
        ({"names": [str(i) for i in range(513)]}, "these are 513"),
        ({"names": ["x.a", "y.a"]}, "same kind of matrix in the same block"),
        ({"errors": [0.1, 0.2]}, "maps the name of a measure"),
        ({"errors": {}}, "maps the name of a measure"),
        ({"errors": {"weights": [0.1]}}, r"errors\['weights'\] has 1 numbers for 2 names"),
        ({"errors": {"weights": [0.1, -0.1]}}, "0 or more"),
        ({"errors": {"weights": [0.1, math.nan]}}, "finite"),
        ({"errors": {"weights": ["x", "y"]}}, "not a list of numbers"),
        ({"bytes": [1, 0]}, "1 or more"),
        ({"kept": {"c": "why"}}, "'c', which is not among the names"),
        ({"bytes_in_8_bits": [2, 4]}, "go together"),
        ({"bytes_in_8_bits": [2, 4], "errors_in_8_bits": {"others": [0, 0]}}, "has the measures"),
    ],
)
def test_bad_input(wrong, message):
    with pytest.raises(InputError, match=message):
        layer_errors(**{**GOOD, **wrong})
