"""`templora doctor`, and the plan of memory in `write` and `resume`."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import LlamaConfig

from templora_cli.commands.doctor import bytes_of
from templora_cli.config import Config
from templora_cli.engine.decoding.protocols import Backend
from templora_cli.engine.memory import machine
from templora_cli.engine.memory.planner import MARGIN
from templora_cli.engine.models.loading import LanguageModel
from templora_cli.errors import TemploraError
from templora_cli.prepare import ENGINE, Engine
from templora_cli.sessions.manifest import load_manifest
from templora_cli.sessions.store import Store
from tests.commands.test_cli import message_of, only_session, small_adapter, templora, write
from tests.engine.models.tiny_kinds import KINDS, save_tiny

__all__ = ["small_adapter"]


def figures(*arguments: str | Path) -> dict[str, Any]:
    done = templora("doctor", *arguments, "--json")
    assert done.exit_code == 0, message_of(done)
    return dict(json.loads(done.stdout))


def test_doctor_shows_the_machine_the_plan_and_the_settings(tiny_model: Path) -> None:
    done = templora("doctor", "--model", tiny_model, "--chunk-tokens", "64")
    assert done.exit_code == 0 and done.stderr == ""
    lines = done.stdout.splitlines()
    for name in ("device", "cores", "memory", "versions", "model", "quantize", "backend", "disk"):
        assert any(line.startswith(f"{name} ") for line in lines), name
    assert "gradient_checkpointing off" in lines and "chunk_tokens           64" in lines
    assert "GB\tload\tdecode\tscore\ttrain" in lines
    assert next(line for line in lines if line.startswith("gradients")).split("\t")[1:4] == ["-"] * 3
    assert lines[-2].startswith("note: ") or lines[-1].startswith("note: "), "without a GPU there is a note"
    assert any(line.startswith("it fits: it needs about ") for line in lines)
    command = f"templora write --premise-file premise.txt --model {tiny_model} --chunk-tokens 64"
    assert lines[lines.index("To write with it:") + 1] == command and "To download it:" not in lines


def test_json_has_the_planned_bytes(tiny_model: Path) -> None:
    report = figures("--model", tiny_model, "--set", "rank=4")
    assert report["peak_bytes"] == max(report["phases_bytes"].values()) <= report["available_bytes"]
    assert (
        report["fits"] and report["advice"] is None and report["commands"]["write"].endswith("--set rank=4")
    )
    for phase, total in report["phases_bytes"].items():
        assert total == sum(part.get(phase, 0) for part in report["parts_bytes"].values())
    smaller = figures("--model", tiny_model, "--set", "rank=2")
    assert report["parts_bytes"]["adapter"]["load"] == 2 * smaller["parts_bytes"]["adapter"]["load"]


def test_a_plan_for_another_machine(tmp_path: Path) -> None:
    LlamaConfig().save_pretrained(tmp_path / "seven")  # Llama-2 7B; no weights are needed
    card = ("--model", tmp_path / "seven", "--device", "cuda", "--set", "rank=64", "--set", "train.alpha=64")
    report = figures(*card, "--memory", "8GB")
    flags = "--set rank=16 --set alpha=16"
    assert not report["fits"] and report["advice"] == f"add to the command: {flags}"
    assert report["available_bytes"] == 8_000_000_000 - machine.CUDA_CONTEXT
    assert (report["quantize"], report["backend"], report["gradient_checkpointing"]) == ("nf4", "graph", "on")
    command = f"templora write --premise-file premise.txt --model {tmp_path / 'seven'} {flags}"
    assert report["commands"] == {"get": None, "write": command}, (
        "without flags of the other machine or flags that the advice replaces"
    )
    words = command.split()[command.split().index("--model") :]
    safe = figures(*words, "--device", "cuda", "--memory", "8GB")
    assert safe["peak_bytes"] * (1 + MARGIN) <= safe["available_bytes"] and safe["advice"] is None
    assert safe["commands"]["write"] == command
    large = figures(*card, "--memory", "80 GiB")
    assert large["fits"] and large["gradient_checkpointing"] == "off"
    done = templora("doctor", *card, "--memory", "8GB")
    lines = done.stdout.splitlines()
    assert lines[-4:-1] == [f"hint: add to the command: {flags}", "To write with it:", command]
    assert lines[-1].startswith("note: planned from config.json alone")
    assert not any(line.startswith("cores") for line in lines), "the cores of another machine are unknown"


def test_a_tight_plan_has_advice(tmp_path: Path) -> None:
    LlamaConfig().save_pretrained(tmp_path / "seven")
    card = ("--model", tmp_path / "seven", "--device", "cuda")
    peak = figures(*card, "--memory", "80GB", "--set", "gradient_checkpointing=on")["peak_bytes"]
    tight = (*card, "--memory", f"{(peak * 1.05 + machine.CUDA_CONTEXT) / 1e9:.3f}GB")
    report = figures(*tight)
    assert (
        report["fits"]
        and "--set" in report["advice"]
        and report["advice"].rpartition(": ")[2] in report["commands"]["write"]
    )
    done = templora("doctor", *tight)
    assert "that is tight, because plans have an error of up to 15%" in done.stdout


def test_a_model_that_is_too_large_has_no_write_command(tmp_path: Path) -> None:
    LlamaConfig().save_pretrained(tmp_path / "seven")
    report = figures("--model", tmp_path / "seven", "--device", "cuda", "--memory", "4GB")
    assert report["commands"]["write"] is None and "--model Qwen/Qwen3-" in report["advice"]


def test_doctor_explains_large_models_and_refuses_the_same_models_as_write(tmp_path: Path) -> None:
    save_tiny(tmp_path / "mixture", KINDS["qwen3_moe"]())
    arguments = ("--model", tmp_path / "mixture", "--quantize", "int8")
    note = "the experts of this model, 0.0 of 0.0 billion weights, stay in 32 bits with int8"
    assert f"note: {note}" in templora("doctor", *arguments).stdout.splitlines()
    assert note in figures(*arguments)["notes"]
    assert note in write(*arguments[1:], "--chunks", "1").stderr
    config = json.loads((tmp_path / "mixture" / "config.json").read_text())
    prequantised = {**config, "quantization_config": {"quant_method": "awq"}}
    (tmp_path / "mixture" / "config.json").write_text(json.dumps(prequantised))
    for result in (
        templora("doctor", *arguments),
        write(*arguments[1:]),
        write(*arguments[1:], "--no-learn"),
    ):
        assert "mixture comes quantised as AWQ; templora cannot train" in message_of(result)


def test_sizes_of_memory_are_parsed() -> None:
    assert [bytes_of(size) for size in ("8GB", "1.5 GiB", "512mb")] == [8 * 10**9, 3 << 29, 512 * 10**6]
    for size in ("8", "GB", "-1GB", "0GB", "8TB", "1e9GB"):
        with pytest.raises(TemploraError, match="is not an amount of memory"):
            bytes_of(size)


def test_an_alias_can_be_planned_before_its_download() -> None:
    done = templora("doctor", "--model", "SmolLM2-135M")
    assert done.exit_code == 0, message_of(done)
    (line,) = (line for line in done.stdout.splitlines() if line.startswith("model "))
    assert line.split(maxsplit=1)[1] == ("smollm2-135m, 135 million parameters; not downloaded (93 MB)")
    assert "To download it:\ntemplora models pull smollm2-135m\nTo write with it:\n" in done.stdout
    report = figures("--model", "gemma3-270m", "--device", "cuda", "--memory", "8GB")
    assert report["model"].startswith("gemma3-270m, 268 million parameters")


def test_an_unknown_model_is_refused() -> None:
    done = templora("doctor", "--model", "smolm2-135m")
    assert isinstance(done.exception, TemploraError)
    assert done.exception.message == "unknown model 'smolm2-135m'; did you mean smollm2-135m?"


def test_the_size_of_a_missing_tokenizer_is_estimated(tiny_model: Path, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_bytes((tiny_model / "config.json").read_bytes())
    complete, config_only = (
        figures("--model", folder, "--device", "cpu") for folder in (tiny_model, tmp_path)
    )
    difference = (
        complete["parts_bytes"]["libraries"]["load"] - config_only["parts_bytes"]["libraries"]["load"]
    )
    assert abs(difference) < 1_000_000
    assert complete["parts_bytes"]["base"] == config_only["parts_bytes"]["base"]


def test_a_missing_gpu_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    done = templora("doctor", "--device", "cuda")
    assert isinstance(done.exception, TemploraError) and "GPU" in done.exception.message
    assert "--device cuda --memory 8GB" in str(done.exception.hint)


def test_a_home_that_cannot_be_written_is_reported(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("TEMPLORA_HOME", str(tmp_path / "file" / "home"))
    notes = figures("--model", tiny_model)["notes"]
    (problem,) = (note for note in notes if "TEMPLORA_HOME" in note)
    assert problem.startswith(f"{tmp_path / 'file' / 'home'} cannot be written (")


# --- write --------------------------------------------------------------------------------------------


def little(free: int, **parts: Any) -> Engine:
    """On a machine that has only so many bytes beside what this process holds."""
    here = machine.measure_device_memory("cpu")
    return Engine(device_memory=lambda device: replace(here, free=free, in_use=here.libraries), **parts)


def tight_engine(model: Path, **parts: Any) -> Engine:
    """An engine for a machine on which a small book just fits."""
    peak = figures("--model", model, "--chunk-tokens", "16", "--context-tokens", "24")["peak_bytes"]
    return engine_with(int(peak * 1.05) - machine.measure_device_memory("cpu").libraries, **parts)


def test_a_book_that_does_not_fit_is_refused_before_its_session_begins(tiny_model: Path) -> None:
    done = write(tiny_model, engine=engine_with(0))
    first, second = done.stderr.splitlines()[-2:]
    assert done.exit_code == 2
    # How much hangs on what the tests before it have loaded into this process.
    assert re.match(r"error: not enough memory on cpu: training needs about \d\.\d\d GB", first)
    assert second.startswith("hint: ") and list(Store().manifests()) == []


def test_a_resume_without_enough_memory_is_refused(tiny_model: Path) -> None:
    assert write(tiny_model, "--chunks", "1").exit_code == 0
    done = templora("resume", "--chunks", "1", engine=engine_with(0))
    name = only_session().name
    assert done.exit_code == 2 and "not enough memory" in done.stderr
    assert done.stderr.splitlines()[-1] == (
        f"hint: nothing is lost: close other programs, then: templora resume {name}"
    )


def test_tight_memory_is_reported(tiny_model: Path) -> None:
    done = write(tiny_model, "--chunks", "1", engine=tight_engine(tiny_model))
    assert done.exit_code == 0 and re.search(r"memory is tight: about \d\.\d\d GB", done.stderr)
    assert load_manifest(only_session()).config["train"]["gradient_checkpointing"] == "on"


def test_a_session_saves_the_choices_of_auto(tiny_model: Path) -> None:
    assert write(tiny_model, "--chunks", "1").exit_code == 0
    manifest = load_manifest(only_session())
    assert manifest.config["train"]["gradient_checkpointing"] == "off"
    assert manifest.config["model"]["quantize"] == "auto", "the requested setting is saved too"
    assert (manifest.quantize, manifest.backend) == ("none", "int8")


def test_a_resume_uses_the_original_backend(tiny_model: Path) -> None:
    assert write(tiny_model, "--chunks", "1").exit_code == 0
    requested: list[str] = []

    def backend(model: LanguageModel, name: str) -> Backend:
        requested.append(name)
        return ENGINE.backend(model, name)

    Path("templora.toml").write_text('[decode]\nbackend = "eager"\n')
    assert templora("resume", "--chunks", "1", engine=Engine(backend=backend)).exit_code == 0
    assert requested == ["int8"]


def test_a_resume_with_less_memory_uses_gradient_checkpointing(tiny_model: Path) -> None:
    assert write(tiny_model, "--chunks", "1").exit_code == 0
    assert load_manifest(only_session()).config["train"]["gradient_checkpointing"] == "off"
    loaded: list[str] = []

    def load(folder: Path, config: Config) -> LanguageModel:
        loaded.append(config.train.gradient_checkpointing)
        return ENGINE.load(folder, config)

    tight = tight_engine(tiny_model, load=load)
    assert templora("resume", "--chunks", "1", engine=tight).exit_code == 0
    assert loaded == ["on"]


def test_the_same_command_continues_a_session_with_gradient_checkpointing(tiny_model: Path) -> None:
    Path("book.txt").write_text("The keeper went up the stairs. " * 3)
    small = ("--chunk-tokens", "16", "--context-tokens", "24", "-q")
    command = ("eval", "ppl", "book.txt", "--model", tiny_model, *small)
    assert templora(*command, engine=tight_engine(tiny_model)).exit_code == 0
    first = only_session()
    assert load_manifest(first).config["train"]["gradient_checkpointing"] == "on"
    assert templora(*command).exit_code == 0
    assert templora(*command, "--set", "rank=3").exit_code == 0
    others = [path for path in Store().folder.iterdir() if path != first]
    assert [load_manifest(path).config["train"]["rank"] for path in others] == [3]
