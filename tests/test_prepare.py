"""Preparing a session: its model, memory and window, and the search for an equal session."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from benchmarks.tiny_model import save_tiny_model
from templora_cli import runner
from templora_cli.config import Config, LearningConfig, with_learning_rates
from templora_cli.documents.aligned_text import AlignedPair
from templora_cli.engine.memory.machine import measure_device_memory
from templora_cli.engine.memory.planner import DeviceMemory
from templora_cli.engine.models.loading import LanguageModel
from templora_cli.engine.models.shape import most_tokens
from templora_cli.errors import TemploraError
from templora_cli.events import Event, Notice, Working
from templora_cli.languages import language
from templora_cli.novel.kind import NovelRequest
from templora_cli.novel.task import Goal
from templora_cli.prepare import ENGINE, Engine, find_model, prepare, require_window
from templora_cli.prompt_files import PACKAGED
from templora_cli.sessions.manifest import FORMAT, load_manifest
from templora_cli.sessions.new import HeaderPart, NewSession
from templora_cli.sessions.store import Store, sha256_of
from templora_cli.translation.aligned import PairsRequest
from tests.test_runner import config_of

BOOK = NovelRequest("A storm.", "It rained.", Goal(32, "tokens"))


@pytest.fixture
def config(tiny_model: Path) -> Config:
    return config_of(tiny_model)


def device_memory(share: float) -> Engine:
    """A machine with this share of the memory that a book needs."""
    here = measure_device_memory("cpu")

    def on(device: str) -> DeviceMemory:
        return replace(here, free=int(share * 1e9), in_use=here.libraries)

    return Engine(device_memory=on)


def test_prepare_loads_the_model_and_fills_in_settings(tiny_model: Path) -> None:
    config = config_of(tiny_model, human={"lr": 0.0}, generated={"lr": 0.0})
    loaded: list[tuple[Path, str]] = []

    def load(folder: Path, settled: Config) -> LanguageModel:
        loaded.append((folder, settled.train.gradient_checkpointing))
        return ENGINE.load(folder, settled)

    events: list[Event] = []
    prepared = prepare(BOOK, config, notify=events.append, engine=Engine(load=load))
    assert loaded == [(tiny_model, "off")] and prepared.folder == tiny_model
    assert (
        prepared.new.config.generated
        == with_learning_rates(config, prepared.model.parameters, prepared.model.model_type).generated
    )
    assert prepared.new.config.generated.lr > 0 and prepared.model.adapter
    assert events[0] == Working(f"loading {tiny_model}")
    assert not Store().folder.exists(), "no session exists yet"


def test_a_missing_model_is_refused(config: Config) -> None:
    nowhere = replace(config, model=replace(config.model, name="nowhere/at-all"))
    with pytest.raises(TemploraError, match="nowhere/at-all"):
        prepare(BOOK, nowhere)
    with pytest.raises(TemploraError, match="nowhere/at-all"):
        find_model(nowhere)


def test_the_manifest_is_complete(config: Config) -> None:
    prepared = prepare(BOOK, config)
    manifest, new = prepared.manifest(), prepared.new
    assert (manifest.format, manifest.task, manifest.parent, manifest.take) == (FORMAT, "novel", None, 0)
    chapter = {"title": "", "start": 0, "text_start": 0}
    assert manifest.request == {
        "premise": "A storm.",
        "opened": True,
        "opening_title": "",
        "opening_chapters": [chapter],
        "note": "",
        "volumes": [],
        "banned": [],
    }
    assert (manifest.goal_amount, manifest.goal_unit, manifest.out) == (32, "tokens", None)
    assert manifest.config == new.config.as_dict() and manifest.model == config.model.name
    assert manifest.header_tokens == new.header_tokens > len("A storm.")
    assert manifest.longest_chunk == config.decode.chunk_tokens
    assert "{premise}" in manifest.prompts["novel"]["chat"]["premise"], "the texts themselves"
    assert manifest.source_sha256 == sha256_of("It rained.")
    assert manifest.fingerprint == prepared.model.fingerprint and manifest.backend == "int8"
    assert {"torch", "transformers", "peft"} <= manifest.versions.keys()
    assert manifest.id.startswith("storm-") and manifest.id != prepared.manifest().id
    with prepared.create(resume_same=False) as session:
        assert load_manifest(session.path) == session.manifest
        assert session.opening() == tuple(b"It rained.")
        assert json.loads((session.path / "tokens.json").read_text()) == list(b"It rained.")


# --- memory ------------------------------------------------------------------------------------------


def test_too_little_memory_is_refused_with_a_remedy(config: Config) -> None:
    with pytest.raises(TemploraError, match="not enough memory") as caught:
        prepare(BOOK, config, engine=device_memory(0))
    assert caught.value.hint and "a smaller --model" in caught.value.hint
    runs = [[AlignedPair("die lampe", "the lamp")]]
    pairs = PairsRequest(runs, (language("de"), language("en")), "pairs", "templora eval translate")
    with pytest.raises(TemploraError, match="not enough memory") as caught:
        prepare(pairs, config, engine=device_memory(0))
    assert caught.value.hint == "shorter runs (--run-pairs), --quantize nf4, or a smaller --model"


def test_tight_memory_is_reported(config: Config) -> None:
    events: list[Event] = []
    share = 0.001
    while True:  # the smallest share with which it fits
        try:
            prepared = prepare(BOOK, config, notify=events.append, engine=device_memory(share))
            break
        except TemploraError:
            events.clear()
            share *= 1.2
    loading_, tight, again = events[:3]
    assert isinstance(tight, Notice) and tight.message.startswith("memory is tight: about ")
    assert loading_ == again == Working(f"loading {config.model.name}")
    assert prepared.new.config.train.gradient_checkpointing == "on"


# --- the window --------------------------------------------------------------------------------------


MAX_TOKENS = 100


def new(context: int, header: int = 10, chunk: int = 16, **changes: Any) -> NewSession:
    config = config_of(Path("x"), decode={"chunk_tokens": chunk, "context_tokens": context})
    config = replace(config, **changes.pop("config", {}))
    return NewSession("novel", config, "x", (1, "tokens"), header, **changes)


DISTILLED = LearningConfig(objective="distill", teacher_context_tokens=80)


def test_a_session_that_fits_the_window_is_accepted(tmp_path: Path) -> None:
    require_window(MAX_TOKENS, new(74))
    require_window(MAX_TOKENS, new(60, config={"generated": replace(DISTILLED, teacher_context_tokens=74)}))
    require_window(None, new(10_000))
    assert most_tokens(save_tiny_model(tmp_path, positions=MAX_TOKENS)) == MAX_TOKENS


@pytest.mark.parametrize(
    ("session", "lengths", "hint"),
    [
        (
            new(300, chunk=84),
            "header 10 + context 300 + chunk 84 make 394",
            "--chunk-tokens 19 --context-tokens 70",
        ),
        (
            new(10, header=90),
            "header 90 + context 10 + chunk 16 make 116",
            "choose a --model with a larger window",
        ),
        (
            new(60, config={"generated": DISTILLED}),
            "header 10 + context 80 + chunk 16 make 106",
            "--set generated.teacher_context_tokens=74",
        ),
        (new(0, chunk=200), "header 10 + context 0 + chunk 200 make 210", "--chunk-tokens 90"),
        (
            new(60, seen_tokens=40),
            "header 10 + context 60 + chunk 40 make 110",
            "--context-tokens 50",
        ),
        (new(75, window_hint="shorter runs"), "make 101", "shorter runs"),
    ],
)
def test_a_session_beyond_the_window_is_refused_with_a_remedy(
    session: NewSession, lengths: str, hint: str
) -> None:
    with pytest.raises(TemploraError) as caught:
        require_window(MAX_TOKENS, session)
    assert caught.value.message.startswith("this model reads at most 100 tokens; ")
    assert caught.value.message.endswith(lengths) and str(caught.value.hint).startswith(hint)


def test_a_smaller_window_is_proposed_while_it_holds_a_chunk() -> None:
    for max_tokens, hint in (
        (1026, "--context-tokens 1000"),
        (42, "--context-tokens 16"),
        (41, "choose a --model"),
    ):
        with pytest.raises(TemploraError) as caught:
            require_window(max_tokens, new(1001))
        assert str(caught.value.hint).startswith(hint)
    with pytest.raises(TemploraError) as caught:
        require_window(1026, new(1001, window_flag="--set decode.context_tokens="))
    assert caught.value.hint == "--set decode.context_tokens=1000"


def test_a_long_premise_is_refused_with_its_length_and_the_limit() -> None:
    premise = HeaderPart("the premise", 20_000, 15_000, "give it as --from")
    session = new(2048, 20_100, 1024, header_parts=(HeaderPart("the instruction", 60, 50), premise))
    with pytest.raises(TemploraError) as caught:
        require_window(8192, session)
    assert caught.value.message == (
        "the premise has 20,000 tokens, 14,980 too many: of the 8,192 that this model reads, "
        "the chunk takes 1,024, the window 2,048 and the rest of the prompt 100"
    )
    assert caught.value.hint == (
        "shorten it to about 3765 words, or give it as --from, or choose a --model with a larger window"
    )
    with pytest.raises(TemploraError) as caught:
        require_window(22_500, session)
    assert "672 too many" in caught.value.message and "or --context-tokens 1376, or" in str(caught.value.hint)


def test_the_teacher_context_is_checked_only_with_learning() -> None:
    session = new(60, config={"generated": DISTILLED})
    train = replace(session.config.train, learn=False)
    require_window(MAX_TOKENS, replace(session, config=replace(session.config, train=train)))


def test_the_window_is_checked_before_a_session_exists(tmp_path: Path) -> None:
    def load(folder: Path, settled: Config) -> LanguageModel:
        raise AssertionError("it is loaded")

    config = config_of(save_tiny_model(tmp_path / "short", positions=40))
    with pytest.raises(TemploraError, match="of the 40 that this model reads") as caught:
        runner.begin(BOOK, config, engine=Engine(load=load))
    assert caught.value.message.startswith("the instruction has "), "longer than the premise of two words"
    assert not Store().folder.exists()


def test_a_long_premise_is_measured_by_its_tokens(tmp_path: Path) -> None:
    config = config_of(save_tiny_model(tmp_path / "short", positions=1000))
    with pytest.raises(TemploraError) as caught:
        runner.begin(NovelRequest("A storm. " * 200), config)
    assert caught.value.message.startswith("the premise has 1,800 tokens, ")
    long = config_of(save_tiny_model(tmp_path / "long", positions=100_000))
    prepared = prepare(NovelRequest("A storm. " * 10_000), long)
    assert prepared.new.header_tokens > 90_000


def test_prompt_files_are_checked_before_the_model_is_searched(tmp_path: Path) -> None:
    packaged = (PACKAGED / "novel.toml").read_text("utf-8")
    (tmp_path / "novel.toml").write_text(packaged.replace("{premise}", "{story}"), "utf-8")
    with pytest.raises(TemploraError, match=r"\[chat\] premise: \{story\} is not a placeholder here"):
        prepare(BOOK, {"model": {"name": "nowhere/at-all"}, "prompts": str(tmp_path)})


# --- sessions with the same settings -----------------------------------------------------------------

OTHERS: dict[str, Any] = {
    "task": "drift",
    "request": {"premise": "A calm.", "opened": True, "opening_title": "", "opening_chapters": []},
    "source_sha256": sha256_of("It snowed."),
    "goal_amount": 33,
    "goal_unit": "words",
    "prompts": {"novel": {"chat": {"system": "Write badly."}}},
    "out": "/home/me/book.md",
    "fingerprint": "0",
    "quantize": "nf4",
    "device": "cuda",
    "hardware": "an abacus",
    "backend": "eager",
    "versions": {"torch": "1.0"},
    "threads": 99,
}


def test_only_a_session_with_the_same_settings_is_continued(config: Config) -> None:
    prepared = prepare(BOOK, config)
    with prepared.create(resume_same=True) as session:
        opened, settings = session.manifest.opened, session.manifest.config

    def goes_on() -> bool:
        with prepared.create(resume_same=True) as other:
            return other.id == session.id

    with Store().open(session.id) as again:  # values that do not change the book
        again.update(
            parent="calm-0000", header_tokens=99, model="another name", created="2020", opened="2099"
        )
        checkpointed = {**settings["train"], "gradient_checkpointing": "on"}
        again.update(config={**settings, "train": checkpointed})
    again = load_manifest(session.path)
    assert goes_on()
    assert (again.model, load_manifest(session.path).model) == ("another name", config.model.name)
    assert opened < load_manifest(session.path).opened < "2099", "it is the last one now"
    begun = load_manifest(session.path)
    other_settings = {**settings, "train": {**settings["train"], "rank": 3}}
    for changed in [*({name: value} for name, value in OTHERS.items()), {"config": other_settings}]:
        replace(begun, **changed).save(session.path)
        assert not goes_on(), changed
        for folder in set(Store().folder.iterdir()) - {session.path}:  # the new session
            shutil.rmtree(folder)
    begun.save(session.path)
    assert goes_on()
    with prepared.create(resume_same=False) as other:
        assert other.id != session.id


def test_a_damaged_session_is_skipped(config: Config) -> None:
    prepared = prepare(BOOK, config)
    with prepared.create(resume_same=True) as session:
        (session.path / "session.json").write_text("{")
    with prepared.create(resume_same=True) as other:
        assert other.id != session.id
