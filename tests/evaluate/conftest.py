"""A model of random weights that hide nothing, and a few questions of our own in the data sets' layouts."""

import pytest
import torch

import tinyphi
from tinyphi.train.recipes.data_quality import SMALLER


@pytest.fixture(scope="session")
def reader():
    """A small model whose opinions are strong and different for every token; it reads 256 tokens."""
    torch.manual_seed(4)
    model = tinyphi.Phi3(SMALLER).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.copy_((1.0 if "norm" in name else 0.0) + 0.15 * torch.randn_like(parameter))
    return model


@pytest.fixture(scope="session")
def arc_rows():
    stories = [
        ("What melts in the sun?", ["ice", "a stone", "an iron door", "the wind"], "A"),
        ("Which animal lays eggs and cannot fly over a mountain?", ["cow", "hen", "dog", "old cat"], "B"),
        ("What do plants need?", ["music", "darkness", "light and water"], "C"),
        ("How many legs has a spider?", ["two", "four", "six", "eight"], "4"),
        ("Where does rain come from?", ["from clouds above the sea", "a hat", "books", "bread"], "A"),
        ("Ice is made of", ["sand.", "water.", "wool.", "salt and more salt."], "2"),
    ]
    return [
        {
            "question": question,
            "choices": {
                "text": options,
                "label": list("1234" if right.isdigit() else "ABCD")[: len(options)],
            },
            "answerKey": right,
        }
        for question, options, right in stories
    ]


@pytest.fixture(scope="session")
def hellaswag_rows():
    return [
        {
            "activity_label": "Baking bread",
            "ctx_a": "A woman mixes flour and water.",
            "ctx_b": "she",
            "endings": [
                "puts the dough in the oven [substeps] and waits.",
                "sings to a [title] horse.",
                "flies  away.",
                "paints the wall with the dough, the oven and the window.",
            ],
            "label": "0",
        },
        {
            "activity_label": "How to swim",
            "ctx_a": "[header] Learn it [title] Go to a lake.",
            "ctx_b": "then",
            "endings": ["get into the water.", "buy a car.", "read the sea.", "sleep in a tree at noon."],
            "label": "1",
        },
        {
            "activity_label": "Rowing",
            "ctx_a": "Two men sit in a boat.",
            "ctx_b": "",
            "endings": ["they row.", "they eat the boat.", "they climb the moon.", "they fall up."],
            "label": "3",
        },
    ]


@pytest.fixture(scope="session")
def winogrande_rows():
    return [
        {
            "sentence": "Anna gave Mary a book because _ had read it.",
            "option1": "Anna",
            "option2": "Mary",
            "answer": "1",
        },
        {
            "sentence": "The cup did not fit into the bag because _ was too small.",
            "option1": "the cup",
            "option2": "the bag",
            "answer": "2",
        },
        {"sentence": "Tom asked Bill, but _ was silent.", "option1": "Tom", "option2": "Bill", "answer": "2"},
    ]


@pytest.fixture(scope="session")
def mmlu_rows():
    return [
        {
            "question": f" What is {a} plus {b}? ",
            "choices": [str(a + b + shift) for shift in (0, 1, 5, 9)],
            "answer": (a + b) % 4,
            "subject": subject,
        }
        for subject in ("small_sums", "large_sums")
        for a, b in ((1, 2), (3, 4), (5, 5), (2, 7))
    ]


@pytest.fixture(scope="session")
def truthful_rows():
    return [
        {
            "question": "Does the sun go around the earth?",
            "mc1_targets": {"choices": ["No, it does not", "Yes", "Only in winter"], "labels": [1, 0, 0]},
            "mc2_targets": {
                "choices": ["No, it does not", "The earth goes around the sun", "Yes", "Only in winter"],
                "labels": [1, 1, 0, 0],
            },
        },
        {
            "question": "Can pigs fly?",
            "mc1_targets": {"choices": ["No", "Yes"], "labels": [1, 0]},
            "mc2_targets": {"choices": ["No", "Yes", "On Sundays"], "labels": [1, 0, 0]},
        },
    ]
