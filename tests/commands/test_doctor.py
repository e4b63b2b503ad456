"""`templora doctor`, and `write` uses the same plan."""

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


def test_it_shows_the_machine_the_parts_and_the_choice(tiny_model: Path) -> None:
    done = templora("doctor", "--model", tiny_model, "--chunk-tokens", "64")
    assert done.exit_code == 0 and done.stderr == ""
    lines = done.stdout.splitlines()
    for name in ("device", "cores", "memory", "versions", "model", "quantize", "backend", "disk"):
        assert any(line.startswith(f"{name} ") for line in lines), name
    assert "gradient_checkpointing off" in lines and "chunk_tokens           64" in lines
    (disk,) = (line for line in lines if line.startswith("disk "))
    assert "at most for a long book" in disk and disk.endswith("; templora sessions shrink leaves one")
    head = lines.index("GB to\tload\twrite\tscore\tlearn")
    assert next(line for line in lines if line.startswith("gradients")).split("\t")[1:4] == ["-"] * 3
    assert lines[-2].startswith("note: ") or lines[-1].startswith("note: "), "there is no GPU here"
    assert lines[0].startswith("it fits: it needs about "), "the verdict is above the table"
    names = [line.split("\t")[0] for line in lines[head + 1 :]]
    assert {"the model", "logits: scores of all next words", "gaps between blocks of memory"} <= {*names}
    assert not {"base", "heap fragmentation", "logits"} & {*names}
    command = f"templora write --premise-file premise.txt --model {tiny_model} --chunk-tokens 64"
    assert lines[lines.index("To write with it:") + 1] == command and "To download it:" not in lines


def test_json_has_the_bytes(tiny_model: Path) -> None:
    told = figures("--model", tiny_model, "--set", "rank=4")
    assert told["peak_bytes"] == max(told["phases_bytes"].values()) <= told["available_bytes"]
    assert told["fits"] and told["advice"] is None and told["commands"]["write"].endswith("--set rank=4")
    for phase, total in told["phases_bytes"].items():
        assert total == sum(part.get(phase, 0) for part in told["parts_bytes"].values())
    half = figures("--model", tiny_model, "--set", "rank=2")
    assert told["parts_bytes"]["adapter"]["load"] == 2 * half["parts_bytes"]["adapter"]["load"]


def test_would_it_fit_on_another_machine(tmp_path: Path) -> None:
    LlamaConfig(max_position_embeddings=4096).save_pretrained(
        tmp_path / "seven"
    )  # Llama-2 7B; no weights are needed
    card = ("--model", tmp_path / "seven", "--device", "cuda", "--set", "rank=64", "--set", "train.alpha=64")
    told = figures(*card, "--memory", "8GB")
    flags = "--set rank=32 --set alpha=32 --set chunk_tokens=512 --set decode.context_tokens=1024"
    assert not told["fits"] and told["advice"] == f"add to the command: {flags}"
    assert told["available_bytes"] == 8_000_000_000 - machine.CUDA_CONTEXT
    assert (told["quantize"], told["backend"], told["gradient_checkpointing"]) == ("nf4", "graph", "on")
    command = f"templora write --premise-file premise.txt --model {tmp_path / 'seven'} {flags}"
    assert told["commands"] == {"get": None, "write": command}, (
        "without what was said of the other machine, or is changed"
    )
    words = command.split()[command.split().index("--model") :]
    safe = figures(*words, "--device", "cuda", "--memory", "8GB")
    assert safe["peak_bytes"] * (1 + MARGIN) <= safe["available_bytes"] and safe["advice"] is None
    assert safe["commands"]["write"] == command
    large = figures(*card, "--memory", "80 GiB")
    assert large["fits"] and large["gradient_checkpointing"] == "off"
    done = templora("doctor", *card, "--memory", "8GB")
    lines = done.stdout.splitlines()
    assert lines[0].startswith("it does not fit: ") and lines[1] == f"hint: add to the command: {flags}"
    assert lines[-3:-1] == ["To write with it:", command]
    assert lines[-1].startswith("note: planned from config.json alone")
    assert not any(line.startswith("cores") for line in lines), "those of another machine are not known"


def test_a_window_that_write_would_refuse_is_mentioned(tmp_path: Path) -> None:
    LlamaConfig(max_position_embeddings=1024).save_pretrained(tmp_path / "short")
    told = figures(
        "--model", tmp_path / "short", "--chunk-tokens", "256", "--device", "cuda", "--memory", "80GB"
    )
    assert told["notes"][0].startswith("this model reads at most 1024 tokens; header 640 + context 2048")
    assert told["commands"]["write"].endswith("short --chunk-tokens 256 --no-recall --context-tokens 640")
    words = told["commands"]["write"].split()[5:]
    assert not any("reads at most" in note for note in figures("--model", *words)["notes"])
    both = figures(
        "--model", tmp_path / "short", "--context-tokens", "900", "--device", "cuda", "--memory", "80GB"
    )
    assert both["commands"]["write"].count("--context-tokens") == 1


@pytest.mark.parametrize("size", [(), ("--memory", "8GB"), ("--device", "cuda", "--memory", "8GB")])
def test_the_memory_of_the_machine_is_that_of_the_verdict(size: tuple[str, ...], tiny_model: Path) -> None:
    lines = templora("doctor", "--model", tiny_model, *size).stdout.splitlines()
    available = lines[0].partition(" of ")[2].partition(" available")[0]
    (memory,) = (line for line in lines if line.startswith("memory "))
    assert memory.removesuffix(" can be used").endswith(f" {available}")


def test_what_only_just_fits_is_advised_about(tmp_path: Path) -> None:
    LlamaConfig(max_position_embeddings=4096).save_pretrained(tmp_path / "seven")
    card = ("--model", tmp_path / "seven", "--device", "cuda")
    peak = figures(*card, "--memory", "80GB", "--set", "gradient_checkpointing=on")["peak_bytes"]
    tight = (*card, "--memory", f"{(peak * 1.05 + machine.CUDA_CONTEXT) / 1e9:.3f}GB")
    told = figures(*tight)
    assert (
        told["fits"]
        and "--set" in told["advice"]
        and told["advice"].rpartition(": ")[2] in told["commands"]["write"]
    )
    done = templora("doctor", *tight)
    assert "that is tight, because plans have an error of up to 15%" in done.stdout


def test_a_model_that_is_too_large_has_no_command(tmp_path: Path) -> None:
    LlamaConfig(max_position_embeddings=4096).save_pretrained(tmp_path / "seven")
    told = figures("--model", tmp_path / "seven", "--device", "cuda", "--memory", "4GB")
    assert told["commands"]["write"] is None and "--model Qwen/Qwen3-" in told["advice"]


def test_it_says_why_a_model_is_large_and_refuses_what_write_refuses(tmp_path: Path) -> None:
    save_tiny(tmp_path / "mixture", KINDS["qwen3_moe"]())
    asked = ("--model", tmp_path / "mixture", "--quantize", "int8")
    note = "the experts of this model, 0.0 of 0.0 billion weights, stay in 32 bits with int8"
    assert f"note: {note}" in templora("doctor", *asked).stdout.splitlines()
    assert note in figures(*asked)["notes"]
    assert note in write(*asked[1:], "--chunks", "1").stderr
    config = json.loads((tmp_path / "mixture" / "config.json").read_text())
    said = {**config, "quantization_config": {"quant_method": "awq"}}
    (tmp_path / "mixture" / "config.json").write_text(json.dumps(said))
    for refused in (templora("doctor", *asked), write(*asked[1:]), write(*asked[1:], "--no-learn")):
        assert "mixture comes quantised as AWQ; templora cannot train" in message_of(refused)


def test_sizes() -> None:
    assert [bytes_of(size) for size in ("8GB", "1.5 GiB", "512mb")] == [8 * 10**9, 3 << 29, 512 * 10**6]
    for size in ("8", "GB", "-1GB", "0GB", "8TB", "1e9GB"):
        with pytest.raises(TemploraError, match="is not an amount of memory"):
            bytes_of(size)


def test_an_alias_that_is_not_here_is_planned_all_the_same() -> None:
    done = templora("doctor", "--model", "SmolLM2-135M")
    assert done.exit_code == 0, message_of(done)
    (line,) = (line for line in done.stdout.splitlines() if line.startswith("model "))
    assert line.split(maxsplit=1)[1] == ("smollm2-135m, 135 million parameters; not downloaded (93 MB)")
    assert "To download it:\ntemplora models pull smollm2-135m\nTo write with it:\n" in done.stdout
    told = figures("--model", "gemma3-270m", "--device", "cuda", "--memory", "8GB")
    assert told["model"].startswith("gemma3-270m, 268 million parameters")


def test_a_name_of_nothing() -> None:
    done = templora("doctor", "--model", "smolm2-135m")
    assert isinstance(done.exception, TemploraError)
    assert done.exception.message == "unknown model 'smolm2-135m'; did you mean smollm2-135m?"


def test_a_tokenizer_that_is_not_here_is_reckoned(tiny_model: Path, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_bytes((tiny_model / "config.json").read_bytes())
    whole, alone = (figures("--model", folder, "--device", "cpu") for folder in (tiny_model, tmp_path))
    differ = whole["parts_bytes"]["libraries"]["load"] - alone["parts_bytes"]["libraries"]["load"]
    assert abs(differ) < 1_000_000
    assert whole["parts_bytes"]["base"] == alone["parts_bytes"]["base"]


def test_no_gpu_where_one_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    if torch.cuda.is_available():
        pytest.skip("there is one")
    done = templora("doctor", "--device", "cuda")
    assert isinstance(done.exception, TemploraError) and "GPU" in done.exception.message
    assert "--device cuda --memory 8GB" in str(done.exception.hint)


def test_a_home_that_cannot_be_written_is_a_note(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("TEMPLORA_HOME", str(tmp_path / "file" / "home"))
    notes = figures("--model", tiny_model)["notes"]
    (told,) = (note for note in notes if "TEMPLORA_HOME" in note)
    assert told.startswith(f"{tmp_path / 'file' / 'home'} cannot be written (")


# --- write --------------------------------------------------------------------------------------------


def little(free: int, **parts: Any) -> Engine:
    """On a machine that has only so many bytes beside what this process holds."""
    here = machine.measure_device_memory("cpu")
    return Engine(device_memory=lambda device: replace(here, free=free, in_use=here.libraries), **parts)


def only_just(model: Path, **parts: Any) -> Engine:
    """On one where a small book fits, and not by much."""
    peak = figures("--model", model, "--chunk-tokens", "16", "--context-tokens", "24")["peak_bytes"]
    return little(int(peak * 1.05) - machine.measure_device_memory("cpu").libraries, **parts)


def test_what_cannot_fit_is_refused_before_a_session_begins(tiny_model: Path) -> None:
    done = write(tiny_model, engine=little(0))
    first, second = done.stderr.splitlines()[-2:]
    assert done.exit_code == 2
    # How much hangs on what the tests before it have loaded into this process.
    assert re.match(r"error: not enough memory on cpu: training needs about \d\.\d\d GB", first)
    assert second.startswith("hint: ") and list(Store().manifests()) == []


def test_a_session_keeps_its_settings_where_the_memory_has_become_too_little(tiny_model: Path) -> None:
    assert write(tiny_model, "--chunks", "1").exit_code == 0
    done = templora("resume", "--chunks", "1", engine=little(0))
    name = only_session().name
    assert done.exit_code == 2 and "not enough memory" in done.stderr
    assert done.stderr.splitlines()[-1] == (
        f"hint: nothing is lost: close other programs, then: templora resume {name}"
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
