"""Write down what `DPOTrainer.dpo_loss` of TRL 0.12.2 makes of a few log-probabilities.

python tests/train/make_trl_0_12_golden.py      needs pip's package index; writes trl_0_12_golden.json

Three conventions ended with that version: label smoothing of the sigmoid loss (cDPO), IPO on whatever it is
given, and the option `reference_free`. It does not run with today's transformers, so its wheel is fetched and
only the method is taken out of the source, with `self` standing in for a trainer.
"""

import ast
import json
import subprocess
import sys
import tempfile
import zipfile
from enum import Enum
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch.nn import functional as F

GOLDEN = Path(__file__).with_name("trl_0_12_golden.json")
VERSION = "0.12.2"
# name → kind of tinyphi, loss_type of TRL, label_smoothing, reference_free, beta
CASES = {
    "cDPO": ("cdpo", "sigmoid", 0.1, False, 0.1),
    "cDPO, many swapped": ("cdpo", "sigmoid", 0.4, False, 0.5),
    "cDPO without smoothing": ("cdpo", "sigmoid", 0.0, False, 0.1),
    "robust": ("robust", "robust", 0.2, False, 0.3),
    "IPO on sums": ("ipo_sum", "ipo", 0.0, False, 0.1),
    "IPO on sums, large beta": ("ipo_sum", "ipo", 0.0, False, 0.7),
    "sigmoid, reference-free": ("sigmoid", "sigmoid", 0.0, True, 0.1),
    "cDPO, reference-free": ("cdpo", "sigmoid", 0.1, True, 0.1),
    "hinge, reference-free": ("hinge", "hinge", 0.0, True, 0.1),
    "IPO on sums, reference-free": ("ipo_sum", "ipo", 0.0, True, 0.2),
}


def example():
    """Log-probabilities of chosen and rejected under the policy, then the reference: four times (b) float64.

    In the first pair nothing has changed since the reference; in the second the ratios tie at another value.
    """
    random = np.random.RandomState(11)
    rows = torch.tensor(-40 * random.random_sample((4, 8)), dtype=torch.float64)
    rows[2:, 0] = rows[:2, 0]
    rows[2:, 1] = rows[:2, 1] - 3
    rows[0, 2], rows[1, 2] = -400, -2
    return tuple(rows)


def the_method():
    """`DPOTrainer.dpo_loss` as a function, compiled from the wheel's source."""
    with tempfile.TemporaryDirectory() as folder:
        download = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "-d", folder]
        subprocess.run([*download, f"trl=={VERSION}"], check=True)
        (wheel,) = Path(folder).glob("*.whl")
        source = zipfile.ZipFile(wheel).read("trl/trainer/dpo_trainer.py").decode()
    trainer = next(node for node in ast.parse(source).body if getattr(node, "name", None) == "DPOTrainer")
    method = next(node for node in trainer.body if getattr(node, "name", None) == "dpo_loss")
    divergences = Enum(
        "FDivergenceType", {"ALPHA_DIVERGENCE": "alpha_divergence", "JS_DIVERGENCE": "js_divergence"}
    )
    names: dict[str, Any] = {"torch": torch, "F": F, "FDivergenceType": divergences}
    header = ast.parse("from typing import *").body
    exec(compile(ast.Module([*header, method], []), "dpo_trainer.py", "exec"), names)
    return names["dpo_loss"]


def main():
    dpo_loss, losses = the_method(), {}
    for name, (_, loss_type, label_smoothing, reference_free, beta) in CASES.items():
        trainer = SimpleNamespace(
            accelerator=SimpleNamespace(device="cpu"),
            f_divergence_type="reverse_kl",
            loss_type=loss_type,
            label_smoothing=label_smoothing,
            reference_free=reference_free,
            beta=beta,
        )
        losses[name] = dpo_loss(trainer, *example())[0].tolist()
    GOLDEN.write_text(json.dumps({"trl": VERSION, "losses": losses}, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
