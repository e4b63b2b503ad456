"""`templora doctor`: what this machine is, and what a book would take of it."""

from __future__ import annotations

import json as json_module
import os
import platform
import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Optional

import typer

from templora_cli import __version__
from templora_cli.commands import flags
from templora_cli.commands.settings import GivenSettings
from templora_cli.commands.terminal import print_table
from templora_cli.errors import TemploraError

if TYPE_CHECKING:
    from templora_cli.config import Config
    from templora_cli.engine.memory.machine import DeviceMemory
    from templora_cli.engine.memory.planner import Plan

UNITS = {"MB": 10**6, "GB": 10**9, "MIB": 1 << 20, "GIB": 1 << 30}


@flags.takes_settings(
    *("model.name", "model.quantize", "model.device", "train.recipe", "train.learn"),
    *("decode.chunk_tokens", "decode.context_tokens"),
    prefer="generated",
    task="novel",
)
def doctor(
    *,
    settings: GivenSettings,
    memory: Annotated[
        Optional[str],
        typer.Option(metavar="SIZE", help="Plan for a device with so much memory, such as 8GB."),
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False,
) -> None:
    """What this machine is, what a book with a model would take of its memory, and whether it fits.

    `write` goes by the same plan. --device cuda --memory 8GB plans for another machine, and a
    folder with nothing but the config.json of a model is enough for --model.
    """
    config = settings.resolve()
    size = None if memory is None else bytes_of(memory)
    folder = _folder(config.model.name)

    from templora_cli.engine.memory.planner import USUAL_HEADER, advice, plan
    from templora_cli.engine.models.shape import shape_of

    shape = shape_of(folder)
    device_memory = _device_memory(config, size)
    made = plan(shape, config, device_memory, header=USUAL_HEADER)
    help_ = None if made.fits else advice(shape, config, device_memory, header=USUAL_HEADER)
    facts = {
        **_machine(device_memory, imagined_device_memory=size is not None),
        **_chosen(made, shape.parameters),
    }
    if json:
        typer.echo(json_module.dumps({**facts, **_figures(made), "advice": help_}, indent=2))
        return
    for name, value in facts.items():
        typer.echo(f"{name:22} {value}")
    typer.echo()
    _print_parts(made)
    typer.echo(_verdict(made))
    if help_ is not None:
        typer.echo(f"hint: {help_}")


def bytes_of(size: str) -> int:
    """Bytes of a size such as 8GB or 512 MiB. Raises TemploraError for anything else."""
    found = re.fullmatch(r"(\d{1,9}(?:\.\d{1,9})?)\s*([MG]i?B)", size.strip(), re.IGNORECASE)
    if found is None or not float(found[1]):
        raise TemploraError(f"--memory {size}: is no size of a memory", "--memory 8GB")
    return int(float(found[1]) * UNITS[found[2].upper()])


def _folder(name: str) -> Path:
    from templora_cli.engine.models import catalog

    try:
        alone = Path(name).expanduser()
        if (alone / "config.json").is_file():
            return alone
    except (OSError, RuntimeError, ValueError):  # no path at all, or no such user
        pass
    return catalog.resolve(name, lambda text: typer.echo(text, err=True))


def _device_memory(config: Config, size: int | None) -> DeviceMemory:
    from templora_cli.engine.memory import machine

    if size is None:
        return machine.measure_device_memory(config.model.device)
    device = config.model.device
    return machine.imagined_device_memory(
        machine.measure_device_memory("auto").device if device == "auto" else device, size
    )


def _machine(device_memory: DeviceMemory, *, imagined_device_memory: bool) -> dict[str, Any]:
    from importlib.metadata import version

    import torch

    name = platform.machine() if device_memory.device == "cpu" else "a GPU"
    if device_memory.device == "cuda" and not imagined_device_memory:
        name = torch.cuda.get_device_name()
    libraries = ("torch", "transformers", "peft", "bitsandbytes", "numba")
    versions = [f"{library} {version(library)}" for library in libraries]
    return {
        "device": f"{device_memory.device} ({name}), {device_memory.dtype}",
        "cores": f"{os.cpu_count()}, {torch.get_num_threads()} threads in use",
        "memory": f"{device_memory.total / 1e9:.1f} GB, {device_memory.free / 1e9:.1f} GB free",
        "versions": ", ".join([f"templora {__version__}", f"Python {platform.python_version()}", *versions]),
    }


def _chosen(made: Plan, parameters: int) -> dict[str, Any]:
    config = made.config
    return {
        "model": f"{config.model.name}, {parameters / 1e6:,.0f} million parameters",
        "quantize": made.quantize,
        "backend": made.backend,
        "chunk_tokens": config.decode.chunk_tokens,
        "context_tokens": config.decode.context_tokens,
        "gradient_checkpointing": config.train.gradient_checkpointing,
        "disk": _disk(made),
    }


def _disk(made: Plan) -> str:
    """What the checkpoints of a long book take."""
    each = sum(max(made.parts[name].values()) for name in ("adapter", "optimizer") if name in made.parts)
    if not each:
        return "text only: nothing is learnt"
    kept = made.config.session
    most = kept.keep_checkpoints + kept.grid_checkpoints
    return f"{most * each / 1e9:.1f} GB at most: {most} checkpoints of {each / 1e9:.2f} GB"


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
    rows.append(["all", *cells([made.phase(phase) for phase in PHASES])])
    print_table(["GB", *PHASES], rows)


def _verdict(made: Plan) -> str:
    taken, there = f"{made.peak / 1e9:.2f} GB", f"{made.available / 1e9:.2f} GB"
    if not made.fits:
        return f"it does not fit: it takes about {taken} of the {there} that are there"
    tight = ", which is tight" if made.is_tight else ""
    return f"it fits: about {taken} of the {there} that are there{tight}"
