"""What the tests of this room share: the filter that ships, and small made-up data of mild sentences."""

import csv
import json
from pathlib import Path

import pytest

from tinyphi.safety.filter import SafetyFilter
from tinyphi.safety.policy import learnt_categories


@pytest.fixture(scope="session")
def safety_filter() -> SafetyFilter:
    return SafetyFilter.load()


@pytest.fixture(scope="session")
def made_up_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two of the files that the filter learns from, with sentences in which one made-up word is the harm."""
    folder = tmp_path_factory.mktemp("labelled")
    letters = ("S", "H", "V", "HR", "SH")
    words = ("zorpish", "grubbly", "smackish", "meanling", "hurtling")
    places = "garden kitchen river school market harbour station forest village tower".split()
    names = "Ada Ben Cora Dan Ella Finn Gina Hugo".split()
    with (folder / "samples-1680.jsonl").open("w", encoding="utf-8") as lines:
        for name in names:
            for place in places:
                for letter, word in zip(letters, words, strict=True):
                    labels = {other: int(other == letter) for other in letters}
                    text = f"{name} saw {word} {place}."
                    lines.write(json.dumps({"prompt": text, **labels}) + "\n")
                clean = f"{name} saw friendly {place}."
                lines.write(json.dumps({"prompt": clean, **dict.fromkeys(letters, 0)}) + "\n")
    with (folder / "davidson_labeled_data.csv").open("w", encoding="utf-8", newline="") as lines:
        table = csv.writer(lines)
        table.writerow(["class", "tweet"])
        for name in names:
            for place in places:
                table.writerow([1, f"{name} &amp; blimey {place}"])
                table.writerow([2, f"{name} &amp; lovely {place}"])
    assert len(learnt_categories()) == 7  # the others come from the small world
    return folder
