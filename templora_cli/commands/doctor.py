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
from templora_cli.commands.terminal import print_facts, print_json, print_table, say
from templora_cli.errors import TemploraError

if TYPE_CHECKING:
    from templora_cli.config import Config
    from templora_cli.engine.memory.machine import DeviceMemory
    from templora_cli.engine.memory.planner import Advice, Plan
    from templora_cli.engine.models.catalog import Described
    from templora_cli.engine.models.shape import Shape

UNITS = {"MB": 10**6, "GB": 10**9, "MIB": 1 << 20, "GIB": 1 << 30}
BYTES_PER_ENTRY = 100
"""Size of a tokenizer file per entry of the vocabulary: 72 to 134 bytes in SmolLM2, Qwen3,
Llama 3 and Gemma 3."""


@flags.takes_settings(
    *("model.name", "model.quantize", "model.device", "train.recipe", "train.learn"),
    *("decode.chunk_tokens", "decode.context_tokens"),
    prefer="generated",
    task="novel",
    command="doctor",
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

    from templora_cli.engine.memory.planner import USUAL_HEADER, advice, plan
    from templora_cli.engine.models import catalog

    with catalog.described(config.model.name, lambda text: say(text, err=True)) as model:
        shape = _shape(model)
    device_memory = _device_memory(config, size)
    estimate = plan(shape, config, device_memory, header=USUAL_HEADER)
    safe = estimate.fits and not estimate.is_tight
    suggestion = None if safe else advice(shape, config, device_memory, header=USUAL_HEADER)
    write = _command(settings, model, suggestion, is_imagined=size is not None)
    pull = f"templora models pull {model.name}" if write and model.download_bytes is not None else None
    notes = list(_notes(estimate, model, is_imagined=size is not None))
    tips = {
        "advice": suggestion and suggestion.text,
        "commands": {"get": pull, "write": write},
        "notes": notes,
    }
    facts = {
        **_machine(device_memory, is_imagined=size is not None),
        **_choices(estimate, model, shape.parameters),
    }
    if json:
        print_json({**facts, **_figures(estimate), **tips})
        return
    print_facts(facts)
    say()
    _print_parts(estimate)
    say(_verdict(estimate))
    _print_tips(tips)


def _print_tips(tips: Mapping[str, Any]) -> None:
    if tips["advice"] is not None:
        say(f"hint: {tips['advice']}")
    for label, command in zip(
        ("To download it:", "To write with it:"), tips["commands"].values(), strict=True
    ):
        if command is not None:
            say(label)
            say(command)  # on a line of its own, so that it can be copied
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


def _command(
    settings: GivenSettings, model: Described, suggestion: Advice | None, *, is_imagined: bool
) -> str | None:
    """The `write` command that fits with a margin for errors of the plan; None if nothing fits."""
    if suggestion is not None and not (suggestion.changes and suggestion.learns):
        return None
    changed = {("model", "name"), *(suggestion.changes if suggestion else ())}
    if is_imagined:
        changed.add(("model", "device"))
    words = ["templora", "write", "--premise-file", "premise.txt", "--model", model.name]
    for setting, value in settings.flags.items():
        if setting not in changed:
            words += [flag_name(setting), *([] if isinstance(value, bool) else [str(value)])]
    for assignment in settings.assignments:
        if not changed & settings_of([assignment], prefer=settings.prefer).keys():
            words += ["--set", assignment]
    return f"{shlex.join(words)}{f' {suggestion.flags}' if suggestion else ''}"


def _machine(device_memory: DeviceMemory, *, is_imagined: bool) -> dict[str, Any]:
    import torch

    name = platform.machine() if device_memory.device == "cpu" else "a GPU"
    if device_memory.device == "cuda" and not is_imagined:
        name = torch.cuda.get_device_name()
    libraries = ("torch", "transformers", "peft", "bitsandbytes", "numba")
    versions = [f"{library} {_version(library)}" for library in libraries]
    cores = {"cores": f"{os.cpu_count()}, {torch.get_num_threads()} threads in use"}
    usable = "can be used" if is_imagined else "are free"
    return {
        "device": f"{device_memory.device} ({name}), {device_memory.dtype}",
        **({} if is_imagined else cores),
        "memory": f"{device_memory.total / 1e9:.1f} GB, of which {device_memory.free / 1e9:.1f} GB {usable}",
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
    from templora_cli.engine.models.folders import in_words

    if model.is_here:
        return ""
    if model.download_bytes is None:
        return "; its weights are missing"
    return f"; not downloaded ({in_words(model.download_bytes)})"


def _disk(estimate: Plan) -> str:
    """Disk space for the checkpoints of a long book."""
    count, each = _checkpoints(estimate)
    if not each:
        return "text only, as nothing is learnt"
    return f"{count * each / 1e9:.1f} GB at most for a long book: {count} checkpoints of {each / 1e9:.2f} GB"


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
    from templora_cli.engine.memory.parts import PHASES

    def cells(sizes: list[int]) -> list[str]:
        return [f"{size / 1e9:.2f}" if size else "-" for size in sizes]

    rows = [[name, *cells([part.get(phase, 0) for phase in PHASES])] for name, part in estimate.parts.items()]
    rows.append(["total", *cells([estimate.phase(phase) for phase in PHASES])])
    print_table(["GB", *PHASES], rows, texts=("GB",))


def _verdict(estimate: Plan) -> str:
    from templora_cli.engine.memory.planner import MARGIN

    needed, available = f"{estimate.peak / 1e9:.2f} GB", f"{estimate.available / 1e9:.2f} GB"
    if not estimate.fits:
        return f"it does not fit: it needs about {needed} of {available} available"
    tight = f"; that is tight, because plans have an error of up to {MARGIN:.0%}" if estimate.is_tight else ""
    return f"it fits: it needs about {needed} of {available} available{tight}"
