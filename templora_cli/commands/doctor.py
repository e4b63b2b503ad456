"""`templora doctor`: describe this machine, and plan the memory of a book."""

from __future__ import annotations

import os
import platform
import re
import shlex
from collections.abc import Iterator, Mapping
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Annotated, Any, Optional

import typer

from templora_cli import __version__
from templora_cli.commands import flags
from templora_cli.commands.settings import GivenSettings, flag_name, settings_of
from templora_cli.commands.terminal import (
    print_facts,
    print_json,
    print_table,
    say,
    say_command,
    working,
)
from templora_cli.errors import TemploraError
from templora_cli.files import format_bytes

if TYPE_CHECKING:
    from templora_cli.config import Config
    from templora_cli.engine.memory.machine import DeviceMemory
    from templora_cli.engine.memory.planner import Advice, Plan
    from templora_cli.engine.models.catalog import Described
    from templora_cli.engine.models.shape import Shape

STEPS = ("load", "write", "score", "learn")
"""The phases of a plan as heads of the table."""
UNITS = {"MB": 10**6, "GB": 10**9, "MIB": 1 << 20, "GIB": 1 << 30}
BYTES_PER_ENTRY = 100
"""Size of a tokenizer file per entry of the vocabulary: 72 to 134 bytes in SmolLM2, Qwen3,
Llama 3 and Gemma 3."""


@flags.takes_settings(
    *("model.name", "model.quantize", "model.device", "train.recipe", "train.learn"),
    *("decode.chunk_tokens", "decode.context_tokens", "decode.recall"),
    prefer="generated",
    task="novel",
    help={"decode.recall": "Plan for a book without earlier passages in the prompt."},
)
def doctor(
    *,
    settings: GivenSettings,
    memory: Annotated[
        Optional[str],
        typer.Option(metavar="SIZE", help="Plan for a device with this amount of memory, such as 8GB."),
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Describe this machine, and estimate whether a book with a model fits into its memory.

    `write` uses the same plan. The model need not be downloaded: for a Hugging Face model only its
    configuration is fetched, and a folder with only a config.json is enough. --device cuda --memory 8GB
    plans for another machine.
    """
    config = settings.resolve()
    size = None if memory is None else bytes_of(memory)
    with working("looking at this machine and the model"):
        estimate, facts, tips = _examine(settings, config, size)
    if json:
        print_json({**facts, **_figures(estimate), **tips})
        return
    say(_verdict(estimate))
    if tips["advice"] is not None:
        say_command(f"hint: {tips['advice']}")
    say()
    print_facts(facts)
    say()
    _print_parts(estimate)
    say()
    _print_tips(tips)


def _examine(
    settings: GivenSettings, config: Config, size: int | None
) -> tuple[Plan, dict[str, Any], dict[str, Any]]:
    """The plan, the facts about machine and model, and advice, commands and notes."""
    from templora_cli.engine.memory.planner import USUAL_HEADER, advice, plan
    from templora_cli.engine.models import catalog

    with catalog.described(config.model.name, lambda text: say(text, err=True)) as model:
        shape = _shape(model)
    device_memory = _device_memory(config, size)
    recalled = config.decode.recall_tokens if config.decode.recall else 0
    lengths = {"header": USUAL_HEADER + recalled, "passing": recalled}
    estimate = plan(shape, config, device_memory, **lengths)
    safe = estimate.fits and not estimate.is_tight
    suggestion = None if safe else advice(shape, config, device_memory, **lengths)
    too_long = _too_long(estimate.config, model)
    shorter = too_long.hint if too_long and too_long.hint and too_long.hint.startswith("--") else ""
    write = _command(settings, model, suggestion, shorter, is_imagined=size is not None)
    pull = f"templora models pull {model.name}" if write and model.download_bytes is not None else None
    notes = list(_notes(estimate, model, is_imagined=size is not None))
    if too_long is not None:
        notes.insert(0, f"{too_long.message}: {too_long.hint}")
    tips = {
        "advice": suggestion and suggestion.text,
        "commands": {"get": pull, "write": write},
        "notes": notes,
    }
    machine = _machine(estimate, is_imagined=size is not None)
    return estimate, {**machine, **_choices(estimate, model, shape.parameters)}, tips


def _print_tips(tips: Mapping[str, Any]) -> None:
    for label, command in zip(
        ("To download it:", "To write with it:"), tips["commands"].values(), strict=True
    ):
        if command is not None:
            say(label)
            say_command(command)
    for note in tips["notes"]:
        say(f"note: {note}")


def bytes_of(size: str) -> int:
    """Bytes of a size such as 8GB or 512 MiB. Raises TemploraError for anything else."""
    match = re.fullmatch(r"(\d{1,9}(?:\.\d{1,9})?)\s*([MG]i?B)", size.strip(), re.IGNORECASE)
    if match is None or not float(match[1]):
        raise TemploraError(f"--memory {size}: is not an amount of memory", "--memory 8GB")
    return int(float(match[1]) * UNITS[match[2].upper()])


def _shape(model: Described) -> Shape:
    """The sizes of the model; a missing tokenizer is estimated from the vocabulary."""
    from dataclasses import replace

    from templora_cli.engine.models.shape import shape_of

    shape = shape_of(model.folder, model.name)
    size = shape.tokenizer_bytes or model.tokenizer_bytes or BYTES_PER_ENTRY * shape.vocab_size
    return replace(shape, tokenizer_bytes=size)


def _device_memory(config: Config, size: int | None) -> DeviceMemory:
    from templora_cli.commands.obstacles import why_no_gpu
    from templora_cli.engine.memory import machine

    device = config.model.device
    if size is not None:
        return machine.imagined_device_memory(
            machine.measure_device_memory("auto").device if device == "auto" else device, size
        )
    try:
        return machine.measure_device_memory(device)
    except TemploraError:
        reason, to_do = why_no_gpu()
        raise TemploraError(
            reason, f"{to_do}; --device cuda --memory 8GB plans for another machine"
        ) from None
    except RuntimeError as error:  # raised by CUDA if a GPU exists but does not answer
        first = next(iter(str(error).splitlines()), "no reason given")
        raise TemploraError(
            f"the GPU does not answer: {first}", "close other programs that use it, or use --device cpu"
        ) from error


def _notes(estimate: Plan, model: Described, *, is_imagined: bool) -> Iterator[str]:
    """Why the model is large, then problems, each with its remedy."""
    from templora_cli.commands import obstacles
    from templora_cli.engine.models import catalog

    yield from estimate.notes
    if not model.is_here:
        yield "planned from config.json alone; weights and chat template are checked after the download"
    if is_imagined:
        return
    if estimate.device_memory.device == "cpu" and estimate.config.model.device == "auto":
        yield ": ".join(obstacles.why_no_gpu())
    if estimate.quantize != "none" and (reason := obstacles.why_not_quantized(estimate.device_memory.device)):
        yield reason
    count, each = _checkpoints(estimate)
    download = 0 if model.is_here else model.download_bytes or 0
    yield from obstacles.on_disk(count * each, download, catalog.SOURCES.hub.folder)


def _too_long(config: Config, model: Described) -> TemploraError | None:
    """The error with which `write` refuses settings that exceed the model's window; None if they fit."""
    from templora_cli.engine.memory.planner import USUAL_HEADER
    from templora_cli.engine.models.shape import most_tokens
    from templora_cli.prepare import require_window
    from templora_cli.sessions.new import NewSession

    recalled = config.decode.recall_tokens if config.decode.recall else 0
    book = NewSession(
        "novel",
        config,
        named_after="",
        goal=(1, "chunks"),
        header_tokens=USUAL_HEADER + recalled,
        passing_tokens=recalled,
    )
    try:
        require_window(most_tokens(model.folder), book)
    except TemploraError as error:
        return error
    return None


def _command(
    settings: GivenSettings,
    model: Described,
    suggestion: Advice | None,
    shorter: str,
    *,
    is_imagined: bool,
) -> str | None:
    """The `write` command that fits with a margin for errors of the plan; None if nothing fits.

    `shorter` are flags for a shorter window or chunk, if the model needs them.
    """
    if suggestion is not None and not (suggestion.changes and suggestion.learns):
        return None
    changed = {("model", "name"), *(suggestion.changes if suggestion else ())}
    changed |= {
        ("decode", key) for key in ("context_tokens", "chunk_tokens") if flag_name(("decode", key)) in shorter
    }
    if is_imagined:
        changed.add(("model", "device"))
    words = ["templora", "write", "--premise-file", "premise.txt", "--model", model.name]
    for setting, value in settings.flags.items():
        if setting not in changed:
            words += [flag_name(setting), *([] if isinstance(value, bool) else [str(value)])]
    for assignment in settings.assignments:
        if not changed & settings_of([assignment], prefer=settings.prefer).keys():
            words += ["--set", assignment]
    parts = [shlex.join(words), suggestion.flags if suggestion else "", shorter]
    return " ".join(part for part in parts if part)


def _machine(estimate: Plan, *, is_imagined: bool) -> dict[str, Any]:
    import torch

    device_memory = estimate.device_memory
    name = platform.machine() if device_memory.device == "cpu" else "a GPU"
    if device_memory.device == "cuda" and not is_imagined:
        name = torch.cuda.get_device_name()
    libraries = ("torch", "transformers", "peft", "bitsandbytes", "numba")
    versions = [f"{library} {_version(library)}" for library in libraries]
    cores = {"cores": f"{os.cpu_count()}, {torch.get_num_threads()} threads in use"}
    total, usable = f"{device_memory.total / 1e9:.2f} GB", f"{estimate.available / 1e9:.2f} GB"
    return {
        "device": f"{device_memory.device} ({name}), {device_memory.dtype}",
        **({} if is_imagined else cores),
        "memory": total if usable == total else f"{total}, of which {usable} can be used",
        "versions": ", ".join([f"templora {__version__}", f"Python {platform.python_version()}", *versions]),
    }


def _version(library: str) -> str:
    try:
        return version(library)
    except PackageNotFoundError:
        return "missing"


def _choices(estimate: Plan, model: Described, parameters: int) -> dict[str, Any]:
    from templora_cli.engine.memory.planner import in_billions

    config = estimate.config
    return {
        "model": f"{model.name}, {in_billions(parameters)} parameters{_download_note(model)}",
        "quantize": estimate.quantize,
        "backend": estimate.backend,
        "chunk_tokens": config.decode.chunk_tokens,
        "context_tokens": config.decode.context_tokens,
        "gradient_checkpointing": config.train.gradient_checkpointing,
        "disk": _disk(estimate),
    }


def _download_note(model: Described) -> str:

    if model.is_here:
        return ""
    if model.download_bytes is None:
        return "; its weights are missing"
    return f"; not downloaded ({format_bytes(model.download_bytes)})"


def _disk(estimate: Plan) -> str:
    """Disk space for the checkpoints of a long book."""
    count, each = _checkpoints(estimate)
    if not each:
        return "text only, as nothing is learnt"
    most = f"{count * each / 1e9:.1f} GB at most for a long book: {count} checkpoints of {each / 1e9:.2f} GB"
    return f"{most}; templora sessions shrink leaves one" if count > 1 else most


def _checkpoints(estimate: Plan) -> tuple[int, int]:
    """Maximum number of checkpoints of a long book, and the bytes of each."""
    each = sum(
        max(estimate.parts[name].values()) for name in ("adapter", "optimizer") if name in estimate.parts
    )
    session = estimate.config.session
    return session.keep_checkpoints + session.grid_checkpoints, each


def _figures(estimate: Plan) -> dict[str, Any]:
    from templora_cli.engine.memory.parts import PHASES

    return {
        "parts_bytes": estimate.parts,
        "phases_bytes": {phase: estimate.phase(phase) for phase in PHASES},
        "peak_bytes": estimate.peak,
        "available_bytes": estimate.available,
        "fits": estimate.fits,
    }


def _print_parts(estimate: Plan) -> None:
    from templora_cli.engine.memory.parts import IN_WORDS, PHASES

    def cells(sizes: list[int]) -> list[str]:
        return [f"{size / 1e9:.2f}" if size else "-" for size in sizes]

    rows = [
        [IN_WORDS.get(name, name), *cells([part.get(phase, 0) for phase in PHASES])]
        for name, part in estimate.parts.items()
    ]
    rows.append(["total", *cells([estimate.phase(phase) for phase in PHASES])])
    print_table(["GB to", *STEPS], rows, texts=("GB to",))


def _verdict(estimate: Plan) -> str:
    from templora_cli.engine.memory.planner import MARGIN

    needed, available = f"{estimate.peak / 1e9:.2f} GB", f"{estimate.available / 1e9:.2f} GB"
    if not estimate.fits:
        return f"it does not fit: it needs about {needed} of {available} available"
    tight = f"; that is tight, because plans have an error of up to {MARGIN:.0%}" if estimate.is_tight else ""
    return f"it fits: it needs about {needed} of {available} available{tight}"
