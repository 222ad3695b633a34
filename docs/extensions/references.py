"""Turns what is written between backticks into links, in the Markdown of pages and notebooks.

`tinyphi.model.norm` and `tinyphi/model/norm.py` lead to the reference, `03_rmsnorm` to the notebook, and an
arXiv number to the paper. In the files themselves they stay plain, so that they read well anywhere.
"""

import re
from collections.abc import Collection
from typing import Any


def referred(text: str, notebooks: Collection[str], folder: str) -> str:
    """`text` with links. `notebooks`: the names of those that exist; `folder`: where they are from here."""
    parts = re.split(r"(^```.*?^```$)", text, flags=re.MULTILINE | re.DOTALL)  # code stays as it is

    def notebook(found: re.Match[str]) -> str:
        return f"[`{found[1]}`]({folder}{found[1]}.ipynb)" if found[1] in notebooks else found[0]

    for number in range(0, len(parts), 2):
        part = re.sub(r"(?<!\[)arXiv (\d{4}\.\d{5})", r"[arXiv \1](https://arxiv.org/abs/\1)", parts[number])
        part = re.sub(r"(?<![`\]}\[])`(tinyphi(?:\.\w+)+)`(?!`)", _name, part)
        part = re.sub(r"(?<![`\]}\[])`(tinyphi(?:/\w+)+)\.py`(?!`)", _file, part)
        parts[number] = re.sub(r"(?<![`\[}])`(\d\d_\w+)`(?!`)", notebook, part)
    return "".join(parts)


def _name(found: re.Match[str]) -> str:
    line = found.string[found.string.rfind("\n", 0, found.start()) + 1 :]
    in_a_table = line.startswith("|")  # where there is room for the last two parts only
    return f"{{py:obj}}`{'.'.join(found[1].split('.')[-2:]) if in_a_table else found[1]} <{found[1]}>`"


def _file(found: re.Match[str]) -> str:
    return f"{{py:obj}}`{found[1]}.py <{found[1].replace('/', '.')}>`"


def _refer(app: Any, page: str, source: list[str]) -> None:
    if not page.startswith(("notebooks/", "api/")):
        source[0] = referred(
            source[0].replace("](../notebooks/", "](notebooks/"), app.notebooks, "notebooks/"
        )


def setup(app: Any) -> dict[str, bool]:
    app.connect("source-read", _refer)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
