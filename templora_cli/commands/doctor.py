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
ENTRY = 100
"""Bytes that the file of a tokenizer has for each entry of the vocabulary: 72 to 134 in SmolLM2, Qwen3,
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
    made = plan(shape, config, device_memory, header=USUAL_HEADER)
    safe = made.fits and not made.is_tight
    help_ = None if safe else advice(shape, config, device_memory, header=USUAL_HEADER)
    write = _command(settings, model, help_, imagined_device_memory=size is not None)
    pull = f"templora models pull {model.name}" if write and model.download_bytes is not None else None
    notes = list(_notes(made, model, imagined_device_memory=size is not None))
    tips = {"advice": help_ and help_.text, "commands": {"get": pull, "write": write}, "notes": notes}
    facts = {
        **_machine(device_memory, imagined_device_memory=size is not None),
        **_chosen(made, model, shape.parameters),
    }
    if json:
        print_json({**facts, **_figures(made), **tips})
        return
    print_facts(facts)
    say()
    _print_parts(made)
    say(_verdict(made))
    _print_tips(tips)


def _print_tips(tips: Mapping[str, Any]) -> None:
    if tips["advice"] is not None:
        say(f"hint: {tips['advice']}")
    for label, command in zip(
        ("To download it:", "To write with it:"), tips["commands"].values(), strict=True
    ):
        if command is not None:
            say(label)
            say(command)  # in a line of its own, so that it can be copied whole
    for note in tips["notes"]:
        say(f"note: {note}")


def bytes_of(size: str) -> int:
    """Bytes of a size such as 8GB or 512 MiB. Raises TemploraError for anything else."""
    found = re.fullmatch(r"(\d{1,9}(?:\.\d{1,9})?)\s*([MG]i?B)", size.strip(), re.IGNORECASE)
    if found is None or not float(found[1]):
        raise TemploraError(f"--memory {size}: is not an amount of memory", "--memory 8GB")
    return int(float(found[1]) * UNITS[found[2].upper()])


def _shape(model: Described) -> Shape:
    """The sizes of the model; where its tokenizer is not here, that is reckoned by its vocabulary."""
    from dataclasses import replace

    from templora_cli.engine.models.shape import shape_of

    shape = shape_of(model.folder, model.name)
    size = shape.tokenizer_bytes or model.tokenizer_bytes or ENTRY * shape.vocab_size
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
    except RuntimeError as error:  # what CUDA says when a GPU is there and does not answer
        first = next(iter(str(error).splitlines()), "no reason given")
        raise TemploraError(
            f"the GPU does not answer: {first}", "close other programs that use it, or use --device cpu"
        ) from error


def _notes(made: Plan, model: Described, *, imagined_device_memory: bool) -> Iterator[str]:
    """What will stand in the way, each with what to do."""
    from templora_cli.commands import obstacles
    from templora_cli.engine.models import catalog

    if not model.is_here:
        yield "planned from config.json alone; weights and chat template are checked after the download"
    if imagined_device_memory:
        return
    if made.device_memory.device == "cpu" and made.config.model.device == "auto":
        yield ": ".join(obstacles.why_no_gpu())
    if made.quantize != "none" and (reason := obstacles.why_not_quantized(made.device_memory.device)):
        yield reason
    most, each = _checkpoints(made)
    download = 0 if model.is_here else model.download_bytes or 0
    yield from obstacles.on_disk(most * each, download, catalog.SOURCES.hub.folder)


def _command(
    settings: GivenSettings, model: Described, help_: Advice | None, *, imagined_device_memory: bool
) -> str | None:
    """The `write` that leaves room for what a plan may be wrong by; None where this model has none."""
    if help_ is not None and not (help_.changes and help_.learns):
        return None
    changed = {("model", "name"), *(help_.changes if help_ else ())}
    if imagined_device_memory:
        changed.add(("model", "device"))
    words = ["templora", "write", "--premise-file", "premise.txt", "--model", model.name]
    for setting, value in settings.flags.items():
        if setting not in changed:
            words += [flag_name(setting), *([] if isinstance(value, bool) else [str(value)])]
    for assignment in settings.assignments:
        if not changed & settings_of([assignment], prefer=settings.prefer).keys():
            words += ["--set", assignment]
    return f"{shlex.join(words)}{f' {help_.flags}' if help_ else ''}"


def _machine(device_memory: DeviceMemory, *, imagined_device_memory: bool) -> dict[str, Any]:
    import torch

    name = platform.machine() if device_memory.device == "cpu" else "a GPU"
    if device_memory.device == "cuda" and not imagined_device_memory:
        name = torch.cuda.get_device_name()
    libraries = ("torch", "transformers", "peft", "bitsandbytes", "numba")
    versions = [f"{library} {_version(library)}" for library in libraries]
    cores = {"cores": f"{os.cpu_count()}, {torch.get_num_threads()} threads in use"}
    usable = "can be used" if imagined_device_memory else "are free"
    return {
        "device": f"{device_memory.device} ({name}), {device_memory.dtype}",
        **({} if imagined_device_memory else cores),
        "memory": f"{device_memory.total / 1e9:.1f} GB, of which {device_memory.free / 1e9:.1f} GB {usable}",
        "versions": ", ".join([f"templora {__version__}", f"Python {platform.python_version()}", *versions]),
    }


def _version(library: str) -> str:
    try:
        return version(library)
    except PackageNotFoundError:
        return "missing"


def _chosen(made: Plan, model: Described, parameters: int) -> dict[str, Any]:
    from templora_cli.engine.memory.planner import in_billions

    config = made.config
    return {
        "model": f"{model.name}, {in_billions(parameters)} parameters{_not_here(model)}",
        "quantize": made.quantize,
        "backend": made.backend,
        "chunk_tokens": config.decode.chunk_tokens,
        "context_tokens": config.decode.context_tokens,
        "gradient_checkpointing": config.train.gradient_checkpointing,
        "disk": _disk(made),
    }


def _not_here(model: Described) -> str:
    from templora_cli.engine.models.folders import in_words

    if model.is_here:
        return ""
    if model.download_bytes is None:
        return "; its weights are missing"
    return f"; not downloaded ({in_words(model.download_bytes)})"


def _disk(made: Plan) -> str:
    """What the checkpoints of a long book take."""
    most, each = _checkpoints(made)
    if not each:
        return "text only, as nothing is learnt"
    return f"{most * each / 1e9:.1f} GB at most for a long book: {most} checkpoints of {each / 1e9:.2f} GB"


def _checkpoints(made: Plan) -> tuple[int, int]:
    """How many a long book keeps, and the bytes of each."""
    each = sum(max(made.parts[name].values()) for name in ("adapter", "optimizer") if name in made.parts)
    kept = made.config.session
    return kept.keep_checkpoints + kept.grid_checkpoints, each


def _figures(made: Plan) -> dict[str, Any]:
    from templora_cli.engine.memory.parts import PHASES

    return {
        "parts_bytes": made.parts,
        "phases_bytes": {phase: made.phase(phase) for phase in PHASES},
        "peak_bytes": made.peak,
        "available_bytes": made.available,
        "fits": made.fits,
    }


def _print_parts(made: Plan) -> None:
    from templora_cli.engine.memory.parts import PHASES

    def cells(sizes: list[int]) -> list[str]:
        return [f"{size / 1e9:.2f}" if size else "-" for size in sizes]

    rows = [[name, *cells([part.get(phase, 0) for phase in PHASES])] for name, part in made.parts.items()]
    rows.append(["total", *cells([made.phase(phase) for phase in PHASES])])
    print_table(["GB", *PHASES], rows, texts=("GB",))


def _verdict(made: Plan) -> str:
    from templora_cli.engine.memory.planner import MARGIN

    taken, there = f"{made.peak / 1e9:.2f} GB", f"{made.available / 1e9:.2f} GB"
    if not made.fits:
        return f"it does not fit: it needs about {taken} of {there} available"
    tight = f"; that is tight, because plans have an error of up to {MARGIN:.0%}" if made.is_tight else ""
    return f"it fits: it needs about {taken} of {there} available{tight}"
