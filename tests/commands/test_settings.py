"""Flags, `--set` and files to one configuration."""

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
from templora_cli.config import TASK_OVERRIDES, Config, resolve
from templora_cli.errors import TemploraError
from tests.commands.test_cli import message_of, templora
from tests.commands.test_flags import another, task_of, value_of


def given(
    *assignments: str,
    flags: Mapping[Setting, Any] | None = None,
    task: str = "novel",
    prefer: str = "generated",
) -> GivenSettings:
    return GivenSettings(flags or {}, assignments, task, prefer)


def test_without_anything_it_is_the_defaults() -> None:
    assert given().resolve() == Config()


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
    ],
)
def test_settings_are_read_as_in_a_file(assignment: str, setting: tuple[Any, Any]) -> None:
    assert settings_of([assignment], prefer="generated") == dict([setting])


@pytest.mark.parametrize(
    ("assignment", "complaint"),
    [
        ("speed=3", "speed is no setting"),
        ("lr", "lr has no value"),
        ("=3", "is no setting"),
        ("generated.=3", "is no setting"),
        ("model=3", "model is no setting"),
        ("seed.x=3", r"there is no table \[seed\]"),
        ("lr=1", r"lr is in \[human\] and \[generated\]"),
    ],
)
def test_settings_that_cannot_be_meant(assignment: str, complaint: str) -> None:
    with pytest.raises(TemploraError, match=complaint):
        settings_of([assignment], prefer="decode")


@pytest.mark.parametrize("setting", FIELDS, ids=dotted)
def test_every_setting_can_be_set(setting: Setting) -> None:
    value = another(setting)
    assignment = f"{dotted(setting)}={str(value).lower()}"
    config = given(assignment, task=task_of(setting)).resolve()
    assert value_of(config, setting) == value != FIELDS[setting].default


def test_set_wins_over_flags_and_flags_over_files() -> None:
    Path("templora.toml").write_text("seed = 1\n[decode]\ntop_k = 1\n[generated]\nlr = 0.1\n")
    config = given("top_k=3", flags={("decode", "top_k"): 2, ("", "seed"): 2}).resolve()
    assert (config.decode.top_k, config.seed, config.generated.lr) == (3, 2, 0.1)


def test_a_task_may_say_anew_which_table_is_meant() -> None:
    settings = given("lr=0.1", prefer="human")
    assert settings.resolve().human.lr == 0.1
    assert settings.resolve(prefer="generated").generated.lr == 0.1


def test_wrong_values_are_named_as_they_were_given() -> None:
    flags = {("train", "learn"): 3, ("model", "name"): 4, ("decode", "chunk_tokens"): 0}
    with pytest.raises(TemploraError) as caught:
        given("lr=2", "gate.colour=1", flags=flags).resolve()
    for place in (
        "--no-learn = 3",
        "--model = 4",
        "--chunk-tokens = 0: must be at least 8",
        "--set generated.lr = 2.0: must be at most 1",
        "--set gate.colour: unknown",
    ):
        assert place in caught.value.message


def test_the_users_file_lies_where_the_platform_has_such_files(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TEMPLORA_CONFIG")
    assert user_config_file().parts[-2:] == ("templora", "config.toml")


# --- settings without effect -------------------------------------------------------------------------

REFUSED = [
    (
        "translation",
        "decode.temperature=0.5",
        "translate draws by translation.temperature",
        "--set translation.temperature=0.5",
    ),
    (
        "translation",
        "decode.repetition_penalty = 1.2",
        "translate draws by translation.repetition_penalty",
        "--set translation.repetition_penalty=1.2",
    ),
    *(
        (
            task,
            "translation.attempts=2",
            "only translate goes by translation.attempts",
            "templora translate FILE --to en --set translation.attempts=2",
        )
        for task in ("novel", "ppl", "drift", "pairs")
    ),
    ("novel", "attempts=2", "only translate goes by translation.attempts", None),
    ("pairs", "context_pairs=5", "eval translate has a flag for it", "--context-pairs 5"),
    ("pairs", "temperature=1", "eval translate takes the likeliest token", "leave it out"),
    ("pairs", "chunk_tokens=100", "eval translate learns run by run", "--run-pairs 16"),
    ("drift", "learn=false", "eval drift writes with learning and without", "leave it out"),
    ("drift", "seed=3", "eval drift takes the seeds 0, 1, ...", "--seeds 3"),
]


@pytest.mark.parametrize(("task", "assignment", "reason", "hint"), REFUSED)
def test_what_has_no_effect_is_refused(task: str, assignment: str, reason: str, hint: str | None) -> None:
    with pytest.raises(TemploraError) as caught:
        given(assignment, task=task).resolve()
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
def test_what_has_an_effect_is_not(task: str, assignment: str) -> None:
    prefer = "translation" if task == "translation" else "generated"
    assert given(assignment, task=task, prefer=prefer).resolve() != resolve([], task)


def test_a_file_may_hold_what_is_for_other_tasks() -> None:
    Path("templora.toml").write_text("[decode]\ntemperature = 0.5\n[translation]\ntemperature = 0.25\n")
    assert given().resolve().decode.temperature == 0.5
    assert given(task="translation").resolve().decode.temperature == 0.25
    asked = given("temperature=0.75", task="translation", prefer="translation").resolve()
    assert asked.decode.temperature == asked.translation.temperature == 0.75


def test_the_tables_name_settings_that_there_are() -> None:
    named = [setting for refused in WITHOUT_EFFECT.values() for setting in refused]
    named += [setting for pairs in TASK_OVERRIDES.values() for pair in pairs.items() for setting in pair]
    assert named and set(named) <= FIELDS.keys()


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
def test_the_commands_refuse_it(command: Sequence[str], assignment: str) -> None:
    Path("book.txt").write_text("A book.\n")
    Path("pairs.jsonl").write_text('{"source": "one", "target": "eins"}\n')
    result = templora(*command, "--set", assignment)
    assert result.exit_code == 2 and result.stdout == ""
    assert message_of(result).startswith(f"error: --set {assignment}: ")
