"""The command line: `tinyphi lab | chat | generate | quantize | train | eval | bench | list …`."""

import argparse
import os
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

import tinyphi
from tinyphi.errors import InputError, TinyphiError

if TYPE_CHECKING:
    from torch import Tensor

    from tinyphi.generation.chat import Conversation
    from tinyphi.generation.sampling import Greedy, Sampler
    from tinyphi.generation.speculative import Draft
    from tinyphi.model.transformer import Phi3
    from tinyphi.tokenizer import Tokenizer

MODEL = "smollm2-135m"
_ROWS, _ROW = 4, 512  # of a text that quantization is measured on: rows, and tokens of each


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; return its exit code. Errors of tinyphi become one line, not a traceback."""
    for stream in (sys.stdin, sys.stdout, sys.stderr):
        _never_fail_on_letters(stream)
    options, rest = _parser().parse_known_args(arguments)
    if rest and options.command not in (_longrope_search, _data, _train, _eval, _bench, _course):
        _parser().error(f"unrecognized arguments: {' '.join(rest)}")
    options.rest = rest
    try:
        code: int = options.command(options)
        sys.stdout.flush()  # here, where a reader that has left is noticed
    except TinyphiError as error:
        print(f"tinyphi: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(file=sys.stderr)
        return 130
    except BrokenPipeError:  # the reader of a pipe has left, as in `tinyphi list | head -1`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    return code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="tinyphi", description="Phi-3 from scratch, to be read.")
    parser.add_argument("--version", action="version", version=f"tinyphi {tinyphi.__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    lab = commands.add_parser("lab", help="open the notebooks in JupyterLab")
    lab.add_argument(
        "directory",
        nargs="?",
        type=Path,
        help="copy the notebooks here (default: ./tinyphi-notebooks; in a source checkout nothing is copied)",
    )
    lab.add_argument("--no-browser", action="store_true", help="only print the address")
    lab.set_defaults(command=_lab)

    chat = commands.add_parser("chat", help="talk with a model")
    chat.add_argument("question", nargs="?", help="answer this and leave; without it, a conversation")
    chat.add_argument("--system", help="instructions that stand before the conversation")
    _add_model_options(chat, max_tokens=512)
    chat.set_defaults(command=_chat)

    generate = commands.add_parser("generate", help="continue a text")
    generate.add_argument("prompt")
    generate.add_argument(
        "--stop", action="append", default=[], help="stop before this text (may be repeated)"
    )
    _add_model_options(generate, max_tokens=64)
    generate.set_defaults(command=_generate)

    quantize = commands.add_parser("quantize", help="store a model in fewer bits")
    quantize.add_argument("source", help="catalog name, directory, .gguf file or hub id")
    quantize.add_argument("--to", type=Path, required=True, help="a directory, or a file that ends in .gguf")
    quantize.add_argument(
        "--method",
        help="int4 (the default), int8, nf4, q8_0, q4_0, q4_1, q4_k, q6_k, awq, gptq; "
        "for a .gguf file q4_0 (the default), q4_1, q8_0, q4_k, q6_k, f16, bf16, f32",
    )
    quantize.add_argument("--group-size", type=int, default=32, help="weights that share a scale")
    quantize.add_argument("--asymmetric", action="store_true", help="int4: a minimum for each group as well")
    quantize.add_argument("--text", type=Path, help="measure the damage on this text; awq, gptq: calibrate")
    quantize.add_argument("--dtype", choices=["float32", "bfloat16"], default="float32")
    quantize.set_defaults(command=_quantize)

    extend = commands.add_parser("longrope-search", help="extend a model to longer texts", add_help=False)
    extend.set_defaults(command=_longrope_search)

    data = commands.add_parser("data", help="choose what a model reads", add_help=False)
    data.set_defaults(command=_data)
    train = commands.add_parser(
        "train", help="make a small model or a filter: nano, data-quality, …", add_help=False
    )
    train.set_defaults(command=_train)
    measure = commands.add_parser("eval", help="measure what a model can do", add_help=False)
    measure.set_defaults(command=_eval)
    get = commands.add_parser("get", help="fetch a model and print where it is")
    get.add_argument("name", nargs="?", default=MODEL)
    get.set_defaults(command=_get)

    commands.add_parser("list", help="the models, and what they need").set_defaults(command=_list)
    commands.add_parser("doctor", help="check this machine").set_defaults(command=_doctor)
    bench = commands.add_parser("bench", help="measure beside the reference", add_help=False)
    bench.set_defaults(command=_bench)
    course = commands.add_parser("course", help="exercises, progress, folders for a class", add_help=False)
    course.set_defaults(command=_course)
    return parser


def _add_model_options(parser: argparse.ArgumentParser, max_tokens: int) -> None:
    parser.add_argument("--model", default=MODEL, help="catalog name, directory, .gguf file or hub id")
    parser.add_argument("--dtype", choices=["float32", "bfloat16"], default="float32")
    parser.add_argument("--quantize", metavar="METHOD", help="int4, int8, …; as_stored: as in the .gguf file")
    parser.add_argument("--cache-bits", type=int, choices=[8], help="keep keys and values in 8 bits")
    parser.add_argument(
        "--draft",
        metavar="MODEL",
        help="for speed: a smaller model of the family that guesses ahead, or 'lookup' to copy from the text",
    )
    parser.add_argument("--max-tokens", type=int, default=max_tokens)
    parser.add_argument("--temperature", type=float, help="draw at random; without any of these: greedy")
    parser.add_argument("--top-k", type=int)
    parser.add_argument("--top-p", type=float)
    parser.add_argument("--min-p", type=float)
    parser.add_argument("--repetition-penalty", type=float)
    parser.add_argument("--seed", type=int)


def _sampler(options: argparse.Namespace) -> "Greedy | Sampler":
    names = ("temperature", "top_k", "top_p", "min_p", "repetition_penalty", "seed")
    given = {name: getattr(options, name) for name in names if getattr(options, name) is not None}
    return tinyphi.Sampler(**given) if given else tinyphi.Greedy()


def _load(options: argparse.Namespace) -> "tuple[Phi3, Tokenizer]":
    """The model that the options ask for, as fast as it can be."""
    import torch

    dtype = getattr(torch, options.dtype)
    model, tokenizer = tinyphi.load(options.model, dtype=dtype, quantize=options.quantize)
    _compile(model)
    return model, tokenizer


def _compile(model: "Phi3") -> None:
    """Compile a quantized model, or say why not: its layers compute the same, more slowly."""
    from tinyphi.quant.linear import QuantizedLinear

    if any(isinstance(part, QuantizedLinear) for part in model.modules()):
        try:
            model.compile()
        except InputError as error:
            print(f"tinyphi: {error}", file=sys.stderr)


def _chat(options: argparse.Namespace) -> int:
    from tinyphi.generation.chat import Conversation

    sampler = _sampler(options)
    model, tokenizer = _load(options)
    conversation = Conversation(
        model,
        tokenizer,
        system=options.system,
        sampler=sampler,
        max_new_tokens=options.max_tokens,
        draft=_draft(options),
        cache_bits=options.cache_bits,
    )
    if options.question is not None:
        _say(conversation, options.question)
        return 0
    print(f"{options.model}. Ctrl-C stops a reply; Ctrl-D, or Ctrl-C here, leaves.")
    while True:
        try:
            question = input("> ")
        except (EOFError, KeyboardInterrupt):
            print()
            return 0
        if not question.strip():
            continue
        try:
            _say(conversation, question)
        except KeyboardInterrupt:  # the conversation keeps what was said so far
            print(" …")
        except TinyphiError as error:  # and goes on without a message that was refused
            print(f"tinyphi: {error}", file=sys.stderr)


def _say(conversation: "Conversation", question: str) -> None:
    for piece in conversation.stream(question):
        print(piece, end="", flush=True)
    print()


def _generate(options: argparse.Namespace) -> int:
    sampler = _sampler(options)
    model, tokenizer = _load(options)
    draft = _draft(options)  # before the first word
    print(options.prompt, end="", flush=True)
    for step in tinyphi.stream(
        model,
        tokenizer.encode(options.prompt),
        tokenizer=tokenizer,
        max_new_tokens=options.max_tokens,
        sampler=sampler,
        stop_strings=options.stop,
        draft=draft,
        cache_bits=options.cache_bits,
    ):
        print(step.text, end="", flush=True)
    print()
    return 0


def _draft(options: argparse.Namespace) -> "Draft | None":
    import torch

    from tinyphi.generation.speculative import DraftModel, PromptLookup

    if options.draft is None:
        return None
    if options.draft == "lookup":
        return PromptLookup()
    dtype = getattr(torch, options.dtype)
    model = tinyphi.load_model(options.draft, dtype=dtype, quantize=options.quantize)
    _compile(model)
    return DraftModel(model)


def _quantize(options: argparse.Namespace) -> int:
    import torch

    from tinyphi.quant import quantize
    from tinyphi.weights.save import check_target

    if options.to.suffix == ".gguf":
        return _export(options)
    check_target(options.to)  # before the work, not after it
    model, tokenizer = tinyphi.load(options.source, dtype=getattr(torch, options.dtype))
    ids = None if options.text is None else _rows(options.text, tokenizer, model.config)
    method, symmetric = options.method or "int4", not options.asymmetric
    if options.asymmetric and method != "int4":
        raise InputError(f"--asymmetric is for int4; {method} has a form of its own.")
    print(quantize(model, method, group_size=options.group_size, symmetric=symmetric, ids=ids))
    tinyphi.save(model, tokenizer, options.to)
    print(f"saved to {options.to}")
    return 0


def _rows(path: Path, tokenizer: "Tokenizer", config: "tinyphi.PhiConfig") -> "Tensor":
    """The beginning of a text as a few rows of tokens."""
    import torch

    try:
        ids = tokenizer.encode(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeError) as error:
        raise InputError(f"The text {path} cannot be read: {error}.") from error
    length = min(_ROW, config.max_position_embeddings, len(ids))
    if length < 2:
        raise InputError(f"The text {path} has {len(ids)} tokens; to measure anything takes at least 2.")
    rows = min(_ROWS, len(ids) // length)
    return torch.tensor(ids[: rows * length]).view(rows, length)


def _export(options: argparse.Namespace) -> int:
    import torch

    from tinyphi.weights.export import export_gguf

    if options.text is not None or options.asymmetric or options.group_size != 32:
        raise InputError(
            "--text, --asymmetric and --group-size are for a directory: the formats of a GGUF file have "
            "their own groups, and it is written without being measured."
        )
    model, tokenizer = tinyphi.load(options.source, dtype=getattr(torch, options.dtype))
    exported = export_gguf(model, tokenizer, options.to, options.method or "q4_0")
    counts = ", ".join(f"{count} tensors {kind}" for kind, count in Counter(exported.types.values()).items())
    print(f"saved to {options.to}: {options.to.stat().st_size / 1e6:.1f} MB, {counts}")
    if exported.fallbacks:
        names = ", ".join(exported.fallbacks[:3]) + (", …" if len(exported.fallbacks) > 3 else "")
        print(f"not as asked, because their rows are not whole blocks: {len(exported.fallbacks)} ({names})")
    return 0


def _get(options: argparse.Namespace) -> int:
    from tinyphi.weights.fetch import resolve

    print(resolve(options.name))
    return 0


def _list(options: argparse.Namespace) -> int:
    import torch

    from tinyphi.weights.catalog import CATALOG, EMBEDDED
    from tinyphi.weights.directory import Directory
    from tinyphi.weights.fetch import is_fetched
    from tinyphi.weights.load import read_config

    print(f"{'name':20} {'parameters':>15} {'bf16':>8} {'4k cache':>9}  {'licence':11} {'here':5} from")
    models = [
        (name, read_config(Directory(path))[0], "Apache-2.0", True, "this package")
        for name, path in EMBEDDED.items()
    ]
    for entry in CATALOG.values():
        source = entry.package.name if entry.package else entry.repo
        models.append((entry.name, entry.config, entry.licence, is_fetched(entry), source))
    for name, config, licence, here, source in models:
        need = config.memory(torch.bfloat16, tokens=4096)
        size = f"{config.parameter_count():15,} {need.weights / 1e9:5.2f} GB {need.cache / 1e9:6.2f} GB"
        print(f"{name:20} {size}  {licence:11} {'yes' if here else 'no':5} {source}")
    return 0


def _doctor(options: argparse.Namespace) -> int:
    from tinyphi.doctor import examine

    return examine()


def _longrope_search(options: argparse.Namespace) -> int:
    from tinyphi.longcontext.command import main as longrope_search

    return longrope_search(options.rest)


def _data(options: argparse.Namespace) -> int:
    from tinyphi.data.command import main as data

    return data(options.rest)


def _train(options: argparse.Namespace) -> int:
    from tinyphi.train.command import main as train

    return train(options.rest)


def _eval(options: argparse.Namespace) -> int:
    from tinyphi.evaluate.command import main as evaluate

    return evaluate(options.rest)


def _bench(options: argparse.Namespace) -> int:
    from tinyphi.bench import main as bench

    return bench(options.rest)


def _course(options: argparse.Namespace) -> int:
    from tinyphi.course.command import main as course

    return course(options.rest)


def _lab(options: argparse.Namespace) -> int:
    from tinyphi.weights.fetch import resolve

    if find_spec("jupyterlab") is None:
        raise InputError('JupyterLab is not installed: pip install "tinyphi[lab]" brings it.')
    resolve(MODEL)  # so that the first cell of the first notebook does not have to wait
    command = [sys.executable, "-m", "jupyterlab", str(_notebooks(options.directory))]
    command += ["--no-browser"] * options.no_browser
    if hasattr(os, "geteuid") and os.geteuid() == 0:
        command.append("--allow-root")  # in many containers root is the only user
    with subprocess.Popen(command) as server:
        while True:
            try:
                return server.wait()
            except KeyboardInterrupt:  # JupyterLab got it as well: it asks whether to stop, and saves
                continue


def _notebooks(directory: Path | None) -> Path:
    """The notebooks of a source checkout, or a copy of those in the installed package."""
    from tinyphi.course.build import source_notebooks

    source = source_notebooks()
    if directory is None and (source.parent / "pyproject.toml").exists() and source.is_dir():
        return source
    target = directory or Path("tinyphi-notebooks")
    try:
        target.mkdir(parents=True, exist_ok=True)
        for notebook in sorted(source.glob("*.ipynb")):
            if not (target / notebook.name).exists():  # never over a learner's own work
                shutil.copy(notebook, target)
    except OSError as error:
        raise InputError(f"The notebooks cannot be copied ({error}). Name another directory.") from error
    print(f"The notebooks are in {target.resolve()}.")
    return target


def _never_fail_on_letters(stream: TextIO) -> None:
    """Letters that the terminal cannot show, or that it sent broken, become replacement signs."""
    if hasattr(stream, "reconfigure"):
        stream.reconfigure(errors="replace")


if __name__ == "__main__":
    raise SystemExit(main())
