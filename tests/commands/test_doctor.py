"""`templora doctor`, and that `write` goes by the same plan."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from transformers import LlamaConfig

from templora_cli.commands.doctor import bytes_of
from templora_cli.config import Config
from templora_cli.engine.decoding.protocols import Backend
from templora_cli.engine.memory import machine
from templora_cli.engine.models.loading import LanguageModel
from templora_cli.errors import TemploraError
from templora_cli.prepare import ENGINE, Engine
from templora_cli.sessions.manifest import load_manifest
from templora_cli.sessions.store import Store
from tests.commands.test_cli import message_of, only_session, small_adapter, templora, write

__all__ = ["small_adapter"]


def figures(*arguments: str | Path) -> dict[str, Any]:
    done = templora("doctor", *arguments, "--json")
    assert done.exit_code == 0, message_of(done)
    return dict(json.loads(done.stdout))


def test_it_shows_the_machine_the_parts_and_the_choice(tiny_model: Path) -> None:
    done = templora("doctor", "--model", tiny_model, "--chunk-tokens", "64")
    assert done.exit_code == 0 and done.stderr == ""
    lines = done.stdout.splitlines()
    for name in ("device", "cores", "memory", "versions", "model", "quantize", "backend", "disk"):
        assert any(line.startswith(f"{name} ") for line in lines), name
    assert "gradient_checkpointing off" in lines and "chunk_tokens           64" in lines
    assert "GB\tload\tdecode\tscore\ttrain" in lines
    assert next(line for line in lines if line.startswith("gradients")).split("\t")[1:4] == ["-"] * 3
    assert lines[-1].startswith("it fits: about ")


def test_json_has_the_bytes(tiny_model: Path) -> None:
    told = figures("--model", tiny_model, "--set", "rank=4")
    assert told["peak_bytes"] == max(told["phases_bytes"].values()) <= told["available_bytes"]
    assert told["fits"] and told["advice"] is None
    for phase, total in told["phases_bytes"].items():
        assert total == sum(part.get(phase, 0) for part in told["parts_bytes"].values())
    half = figures("--model", tiny_model, "--set", "rank=2")
    assert told["parts_bytes"]["adapter"]["load"] == 2 * half["parts_bytes"]["adapter"]["load"]


def test_would_it_fit_on_another_machine(tmp_path: Path) -> None:
    LlamaConfig().save_pretrained(tmp_path / "seven")  # Llama-2 7B; no weights are needed
    card = ("--model", tmp_path / "seven", "--device", "cuda", "--set", "rank=64")
    told = figures(*card, "--memory", "8GB")
    assert not told["fits"] and told["advice"] == "--set chunk_tokens=512 --set decode.context_tokens=1024"
    assert told["available_bytes"] == 8_000_000_000 - machine.CUDA_CONTEXT
    assert (told["quantize"], told["backend"], told["gradient_checkpointing"]) == ("nf4", "graph", "on")
    shorter = ("--set", "chunk_tokens=512", "--set", "decode.context_tokens=1024")
    assert figures(*card, "--memory", "8GB", *shorter)["fits"]
    large = figures(*card, "--memory", "80 GiB")
    assert large["fits"] and large["gradient_checkpointing"] == "off"
    done = templora("doctor", *card, "--memory", "8GB")
    assert done.stdout.splitlines()[-1] == "hint: --set chunk_tokens=512 --set decode.context_tokens=1024"


def test_sizes() -> None:
    assert [bytes_of(size) for size in ("8GB", "1.5 GiB", "512mb")] == [8 * 10**9, 3 << 29, 512 * 10**6]
    for size in ("8", "GB", "-1GB", "0GB", "8TB", "1e9GB"):
        with pytest.raises(TemploraError, match="is no size"):
            bytes_of(size)


def test_a_model_that_is_not_here() -> None:
    done = templora("doctor", "--model", "smollm2-135m")
    assert isinstance(done.exception, TemploraError)
    assert done.exception.hint == "templora models pull smollm2-135m"


# --- write --------------------------------------------------------------------------------------------


def little(free: int, **parts: Any) -> Engine:
    """On a machine that has only so many bytes beside what this process holds."""
    here = machine.measure_device_memory("cpu")
    return Engine(device_memory=lambda device: replace(here, free=free, held=here.libraries), **parts)


def only_just(model: Path, **parts: Any) -> Engine:
    """On one where a small book fits, and not by much."""
    peak = figures("--model", model, "--chunk-tokens", "16", "--context-tokens", "24")["peak_bytes"]
    return little(int(peak * 1.05) - machine.measure_device_memory("cpu").libraries, **parts)


def test_what_cannot_fit_is_refused_before_a_session_begins(tiny_model: Path) -> None:
    done = write(tiny_model, engine=little(0))
    first, second = done.stderr.splitlines()[-2:]
    assert done.exit_code == 2
    # How much hangs on what the tests before it have loaded into this process.
    assert re.match(r"error: not enough memory: to train takes \d\.\d\d GB", first)
    assert second.startswith("hint: ") and list(Store().manifests()) == []


def test_a_session_keeps_its_settings_where_the_memory_has_become_too_little(tiny_model: Path) -> None:
    assert write(tiny_model, "--chunks", "1").exit_code == 0
    done = templora("resume", "--chunks", "1", engine=little(0))
    name = only_session().name
    assert done.exit_code == 2 and "not enough memory" in done.stderr
    assert done.stderr.splitlines()[-1] == (
        f"hint: nothing is lost: close other programs, then templora resume {name}"
    )


def test_a_book_that_only_just_fits_is_told(tiny_model: Path) -> None:
    done = write(tiny_model, "--chunks", "1", engine=only_just(tiny_model))
    assert done.exit_code == 0 and re.search(r"memory is tight: about \d\.\d\d GB", done.stderr)
    assert load_manifest(only_session()).config["train"]["gradient_checkpointing"] == "on"


def test_a_session_holds_what_auto_came_to(tiny_model: Path) -> None:
    assert write(tiny_model, "--chunks", "1").exit_code == 0
    manifest = load_manifest(only_session())
    assert manifest.config["train"]["gradient_checkpointing"] == "off"
    assert manifest.config["model"]["quantize"] == "auto", "and what was asked for beside it"
    assert (manifest.quantize, manifest.backend) == ("none", "int8")


def test_a_resume_decodes_as_the_session_began(tiny_model: Path) -> None:
    assert write(tiny_model, "--chunks", "1").exit_code == 0
    asked: list[str] = []

    def backend(model: LanguageModel, name: str) -> Backend:
        asked.append(name)
        return ENGINE.backend(model, name)

    Path("templora.toml").write_text('[decode]\nbackend = "eager"\n')
    assert templora("resume", "--chunks", "1", engine=Engine(backend=backend)).exit_code == 0
    assert asked == ["int8"]


def test_a_resume_checkpoints_where_memory_has_become_scarce(tiny_model: Path) -> None:
    assert write(tiny_model, "--chunks", "1").exit_code == 0
    assert load_manifest(only_session()).config["train"]["gradient_checkpointing"] == "off"
    loaded: list[str] = []

    def load(folder: Path, config: Config) -> LanguageModel:
        loaded.append(config.train.gradient_checkpointing)
        return ENGINE.load(folder, config)

    scarce = only_just(tiny_model, load=load)
    assert templora("resume", "--chunks", "1", engine=scarce).exit_code == 0
    assert loaded == ["on"]


def test_the_same_command_goes_on_with_a_session_that_checkpoints(tiny_model: Path) -> None:
    Path("book.txt").write_text("The keeper went up the stairs. " * 3)
    small = ("--chunk-tokens", "16", "--context-tokens", "24", "-q")
    command = ("eval", "ppl", "book.txt", "--model", tiny_model, *small)
    assert templora(*command, engine=only_just(tiny_model)).exit_code == 0
    begun = only_session()
    assert load_manifest(begun).config["train"]["gradient_checkpointing"] == "on"
    assert templora(*command).exit_code == 0
    assert templora(*command, "--set", "rank=3").exit_code == 0
    others = [path for path in Store().folder.iterdir() if path != begun]
    assert [load_manifest(path).config["train"]["rank"] for path in others] == [3]
