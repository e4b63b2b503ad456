"""Flags, `--set` and files are merged into one configuration."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from templora_cli.commands.settings import (
    FIELDS,
    WITHOUT_EFFECT,
    GivenSettings,
    Setting,
    dotted,
    settings_of,
    user_config_file,
)
from templora_cli.config import TASK_OVERRIDES, Config
from templora_cli.config_layers import ALL_SETTINGS, from_dict, resolve
from templora_cli.errors import TemploraError
from tests.commands.test_cli import message_of, templora
from tests.commands.test_flags import WITH_SETTINGS, assignment_of, changed_value, task_of, value_of

pytestmark = pytest.mark.usefixtures("no_config")


def command_line(
    *assignments: str,
    flags: Mapping[Setting, Any] | None = None,
    task: str = "novel",
    prefer: str = "generated",
) -> GivenSettings:
    return GivenSettings(flags or {}, assignments, task, prefer)


def test_without_settings_the_defaults_are_used() -> None:
    assert command_line().resolve() == Config()


@pytest.mark.parametrize(
    ("assignment", "setting"),
    [
        ("lr=2e-4", (("generated", "lr"), 2e-4)),
        ("human.lr=2e-4", (("human", "lr"), 2e-4)),
        ("rank = 8", (("train", "rank"), 8)),
        ("learn=false", (("train", "learn"), False)),
        ("objective=distill", (("generated", "objective"), "distill")),
        ('objective="distill"', (("generated", "objective"), "distill")),
        ("model.name=a=b", (("model", "name"), "a=b")),
        ("temperature=1", (("decode", "temperature"), 1)),
        ("seed=3", (("", "seed"), 3)),
        ("prompts=folder", (("", "prompts"), "folder")),
        ("prompts=2024-01-01", (("", "prompts"), "2024-01-01")),
        ("model.name = 1984", (("model", "name"), "1984")),
        ("gradient_checkpointing=true", (("train", "gradient_checkpointing"), True)),
    ],
)
def test_settings_are_read_as_in_a_file(assignment: str, setting: tuple[Any, Any]) -> None:
    assert settings_of([assignment], prefer="generated") == dict([setting])


@pytest.mark.parametrize(
    ("assignment", "complaint"),
    [
        ("speed=3", "speed is not a setting"),
        ("lr", "lr has no value"),
        ("=3", "the name of the setting is missing"),
        ("generated.=3", "is not a setting"),
        ("model=3", "model is not a setting"),
        ("seed.x=3", r"there is no table \[seed\]"),
        ("lr=1", r"lr is in \[human\] and \[generated\]"),
    ],
)
def test_unknown_and_ambiguous_settings_are_refused(assignment: str, complaint: str) -> None:
    with pytest.raises(TemploraError, match=complaint):
        settings_of([assignment], prefer="decode")


@pytest.mark.parametrize(
    ("assignment", "message", "hint"),
    [
        (
            "rank=-1",
            "--set rank=-1: must be at least 1",
            "rank is a whole number from 1 to 4096; the default is 64",
        ),
        ("train.rank = x", "--set train.rank = x: must be a whole number", "the default is 64"),
        ("seed=-5", "--set seed=-5: must be at least 0", "seed is a whole number from 0 to"),
        (
            "recipe=hot",
            "--set recipe=hot: must be one of paper, default",
            "is one of paper, default; the default",
        ),
        (
            "top_p=2",
            "--set top_p=2: must be at most 1",
            "top_p is a number above 0, at most 1",
        ),
        ("learn=2", "--set learn=2: must be true or false", "learn is true or false; the default is true"),
        ("rnak=8", "--set rnak=8: rnak is not a setting", "--set rank=8"),
        ("training.rank=8", "--set training.rank=8: there is no table [training]", "--set train.rank=8"),
        ("context_token", "--set context_token: context_token is not a setting", "=VALUE"),
        (
            "colour=red",
            "--set colour=red: colour is not a setting",
            "tables model decode train human generated gate",
        ),
        ("seed", "--set seed: seed has no value", "--set seed=VALUE"),
        ("model=x", "--set model=x: model is not a setting", "--set model.name=x"),
    ],
)
def test_an_error_names_the_setting_as_typed(assignment: str, message: str, hint: str) -> None:
    with pytest.raises(TemploraError) as caught:
        command_line(assignment).resolve()
    assert caught.value.message == message and hint in str(caught.value.hint)


def test_a_settings_file_can_have_any_unicode_encoding() -> None:
    for encoding in ("utf-8-sig", "utf-16"):
        Path("templora.toml").write_bytes('prompts = "é"\r\nseed = 3\r\n'.encode(encoding))
        assert (command_line().resolve().seed, command_line().resolve().prompts) == (3, "é")
    Path("templora.toml").write_bytes(b"")
    assert command_line().resolve() == Config()


@pytest.mark.parametrize("setting", FIELDS, ids=dotted)
def test_every_setting_can_be_set(setting: Setting) -> None:
    value = changed_value(setting)
    config = command_line(assignment_of(setting), task=task_of(setting)).resolve()
    assert value_of(config, setting) == value != FIELDS[setting].default


def test_set_overrides_flags_and_flags_override_files() -> None:
    Path("templora.toml").write_text("seed = 1\n[decode]\ntop_k = 1\n[generated]\nlr = 0.1\n")
    config = command_line("top_k=3", flags={("decode", "top_k"): 2, ("", "seed"): 2}).resolve()
    assert (config.decode.top_k, config.seed, config.generated.lr) == (3, 2, 0.1)


def test_resolve_can_prefer_another_table() -> None:
    settings = command_line("lr=0.1", prefer="human")
    assert settings.resolve().human.lr == 0.1
    assert settings.resolve(prefer="generated").generated.lr == 0.1


def test_invalid_values_are_reported_with_their_flags() -> None:
    flags = {("train", "learn"): 3, ("model", "name"): 4, ("decode", "chunk_tokens"): 0}
    with pytest.raises(TemploraError) as caught:
        command_line("lr=2", "gate.colour=1", flags=flags).resolve()
    for text in (
        "--no-learn 3:",
        "--model 4:",
        "--chunk-tokens 0: must be at least 8",
        "--set lr=2: must be at most 1",
        "--set gate.colour=1: unknown",
    ):
        assert text in caught.value.message


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("top_p = 0.5", "templora.toml: top_p: unknown setting; it belongs in [decode]"),
        ("lr = 1", "templora.toml: lr: unknown setting; it belongs in [human] or [generated]"),
        ("[train]\nname = 'x'", "templora.toml: [train] name: unknown setting; it belongs in [model]"),
    ],
)
def test_a_setting_in_a_wrong_table_is_told_the_right_one(content: str, message: str) -> None:
    Path("templora.toml").write_text(content)
    with pytest.raises(TemploraError) as caught:
        command_line().resolve()
    assert caught.value.message == message


def test_the_users_file_is_in_the_config_folder_of_the_platform(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TEMPLORA_CONFIG")
    assert user_config_file().parts[-2:] == ("templora", "config.toml")


# --- settings without effect -------------------------------------------------------------------------

REFUSED = [
    (
        "translation",
        "decode.temperature=0.5",
        "translate samples with translation.temperature",
        "--set translation.temperature=0.5",
    ),
    (
        "translation",
        "decode.repetition_penalty = 1.2",
        "translate samples with translation.repetition_penalty",
        "--set translation.repetition_penalty=1.2",
    ),
    *(
        (
            task,
            "translation.attempts=2",
            "only translate uses translation.attempts",
            "templora translate FILE --to en --set translation.attempts=2",
        )
        for task in ("novel", "ppl", "drift", "pairs")
    ),
    ("novel", "attempts=2", "only translate uses translation.attempts", None),
    ("pairs", "context_pairs=5", "eval translate has a flag for it", "--context-pairs 5"),
    ("pairs", "temperature=1", "eval translate uses the most likely token", "leave it out"),
    ("pairs", "chunk_tokens=100", "eval translate learns run by run", "--run-pairs 16"),
    ("drift", "learn=false", "eval drift writes with and without learning", "leave it out"),
    ("drift", "seed=3", "eval drift uses the seeds 0, 1, ...", "--seeds 3"),
]


@pytest.mark.parametrize(("task", "assignment", "reason", "hint"), REFUSED)
def test_settings_without_effect_are_refused(
    task: str, assignment: str, reason: str, hint: str | None
) -> None:
    with pytest.raises(TemploraError) as caught:
        command_line(assignment, task=task).resolve()
    assert caught.value.message == f"--set {assignment}: {reason}"
    assert hint in (caught.value.hint, None)


@pytest.mark.parametrize(
    ("task", "assignment"),
    [
        ("translation", "temperature=0.5"),
        ("translation", "decode.context_tokens=9"),
        ("pairs", "generated.context_tokens=9"),
        ("ppl", "decode.temperature=0.5"),
        ("drift", "decode.temperature=0.5"),
    ],
)
def test_settings_with_an_effect_are_accepted(task: str, assignment: str) -> None:
    prefer = "translation" if task == "translation" else "generated"
    assert command_line(assignment, task=task, prefer=prefer).resolve() != resolve([], task)


def test_a_file_can_contain_settings_of_other_tasks() -> None:
    Path("templora.toml").write_text("[decode]\ntemperature = 0.5\n[translation]\ntemperature = 0.25\n")
    assert command_line().resolve().decode.temperature == 0.5
    assert command_line(task="translation").resolve().decode.temperature == 0.25
    translation = command_line("temperature=0.75", task="translation", prefer="translation").resolve()
    assert translation.decode.temperature == translation.translation.temperature == 0.75


def test_the_tables_of_exceptions_name_existing_settings() -> None:
    named = [setting for refused in WITHOUT_EFFECT.values() for setting in refused]
    named += [setting for pairs in TASK_OVERRIDES.values() for pair in pairs.items() for setting in pair]
    assert named and set(named) <= FIELDS.keys()


@pytest.mark.parametrize("name", WITH_SETTINGS)
def test_a_hint_gives_the_range_of_the_setting(name: str) -> None:
    Path("book.txt").write_text("A book.\n")
    Path("pairs.jsonl").write_text('{"source": "one", "target": "eins"}\n')
    needed = {
        "write": "--premise a",
        "translate": "book.txt --from de --to en",
        "eval ppl": "book.txt",
        "eval drift": "--premise a",
        "eval consistency": "book.txt",
        "eval author": "book.txt --control book.txt",
        "eval translate": "pairs.jsonl --from en --to de",
    }
    result = templora(*name.split(), *needed.get(name, "").split(), "--set", "rank=0")
    hint = "rank is a whole number from 1 to 4096; the default is 64; " + ALL_SETTINGS
    assert "--set rank=0: must be at least 1" in message_of(result)
    assert result.stderr.endswith(f"{hint}\n") or str(getattr(result.exception, "hint", "")).endswith(hint)


def test_invalid_settings_in_a_session_have_a_hint() -> None:
    with pytest.raises(TemploraError) as caught:
        from_dict({"train": {"rank": 0}}, "session.json")
    assert caught.value.hint == "restore the original session.json"


@pytest.mark.parametrize(
    ("command", "assignment"),
    [
        (["translate", "book.txt", "--to", "en"], "decode.temperature=0.5"),
        (["write", "--premise", "A storm."], "translation.attempts=2"),
        (["eval", "ppl", "book.txt"], "translation.attempts=2"),
        (["eval", "drift", "--premise", "A storm."], "seed=3"),
        (["eval", "translate", "pairs.jsonl", "--from", "en", "--to", "de"], "temperature=0.5"),
    ],
)
def test_commands_refuse_settings_without_effect(command: Sequence[str], assignment: str) -> None:
    Path("book.txt").write_text("A book.\n")
    Path("pairs.jsonl").write_text('{"source": "one", "target": "eins"}\n')
    result = templora(*command, "--set", assignment)
    assert result.exit_code == 2 and result.stdout == ""
    assert message_of(result).startswith(f"error: --set {assignment}: ")
