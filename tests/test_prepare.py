"""What is settled before a session begins: the model, its memory and window, and which session goes on."""

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
from templora_cli.engine.models import loading
from templora_cli.engine.models.loading import LanguageModel
from templora_cli.errors import TemploraError
from templora_cli.events import Event, Notice, Working
from templora_cli.novel.kind import NovelRequest
from templora_cli.novel.task import Goal
from templora_cli.prepare import ENGINE, Engine, find_model, prepare, require_window
from templora_cli.sessions.manifest import FORMAT, load_manifest
from templora_cli.sessions.new import NewSession
from templora_cli.sessions.store import Store, sha256_of
from templora_cli.translation.aligned import PairsRequest
from templora_cli.translation.languages import language
from tests.test_runner import config_of

BOOK = NovelRequest("A storm.", "It rained.", Goal(32, "tokens"))


@pytest.fixture
def config(tiny_model: Path) -> Config:
    return config_of(tiny_model)


def device_memory(share: float) -> Engine:
    """A machine that holds this share of what a book takes."""
    here = measure_device_memory("cpu")

    def on(device: str) -> DeviceMemory:
        return replace(here, free=int(share * 1e9), held=here.libraries)

    return Engine(device_memory=on)


def test_it_loads_a_model_and_chooses_what_hangs_on_it(tiny_model: Path) -> None:
    config = config_of(tiny_model, human={"lr": 0.0}, generated={"lr": 0.0})
    loaded: list[tuple[Path, str]] = []

    def load(folder: Path, settled: Config) -> LanguageModel:
        loaded.append((folder, settled.train.gradient_checkpointing))
        return ENGINE.load(folder, settled)

    told: list[Event] = []
    prepared = prepare(BOOK, config, notify=told.append, engine=Engine(load=load))
    assert loaded == [(tiny_model, "off")] and prepared.folder == tiny_model
    assert prepared.new.config.generated == with_learning_rates(config, prepared.model.parameters).generated
    assert prepared.new.config.generated.lr > 0 and prepared.model.adapter
    assert told[0] == Working(f"loading {tiny_model}")
    assert not Store().folder.exists(), "there is no session yet"


def test_a_model_that_is_nowhere(config: Config) -> None:
    nowhere = replace(config, model=replace(config.model, name="nowhere/at-all"))
    with pytest.raises(TemploraError, match="nowhere/at-all"):
        prepare(BOOK, nowhere)
    with pytest.raises(TemploraError, match="nowhere/at-all"):
        find_model(nowhere)


def test_the_manifest_says_all_that_the_session_hangs_on(config: Config) -> None:
    prepared = prepare(BOOK, config)
    manifest, new = prepared.manifest(), prepared.new
    assert (manifest.format, manifest.task, manifest.parent, manifest.take) == (FORMAT, "novel", None, 0)
    assert manifest.request == {"premise": "A storm.", "opened": True}
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


def test_what_does_not_fit_is_refused_with_what_would_help(config: Config) -> None:
    with pytest.raises(TemploraError, match="not enough memory") as caught:
        prepare(BOOK, config, engine=device_memory(0))
    assert caught.value.hint and "a smaller --model" in caught.value.hint
    runs = [[AlignedPair("die lampe", "the lamp")]]
    pairs = PairsRequest(runs, (language("de"), language("en")), "pairs", "templora eval translate")
    with pytest.raises(TemploraError, match="not enough memory") as caught:
        prepare(pairs, config, engine=device_memory(0))
    assert caught.value.hint == "shorter runs (--run-pairs), --quantize nf4, or a smaller --model"


def test_what_only_just_fits_is_told_and_loaded_with_care(config: Config) -> None:
    told: list[Event] = []
    share = 0.001
    while True:  # the least with which it fits
        try:
            prepared = prepare(BOOK, config, notify=told.append, engine=device_memory(share))
            break
        except TemploraError:
            told.clear()
            share *= 1.2
    loading_, tight, again = told[:3]
    assert isinstance(tight, Notice) and tight.message.startswith("memory is tight: about ")
    assert loading_ == again == Working(f"loading {config.model.name}")
    assert prepared.new.config.train.gradient_checkpointing == "on"


# --- the window --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def short(tmp_path_factory: pytest.TempPathFactory) -> LanguageModel:
    """A model that reads 100 tokens."""
    config = config_of(save_tiny_model(tmp_path_factory.mktemp("short"), positions=100))
    return loading.load(Path(config.model.name), config.model, config.train, seed=0)


def new(context: int, header: int = 10, chunk: int = 16, **changes: Any) -> NewSession:
    config = config_of(Path("x"), decode={"chunk_tokens": chunk, "context_tokens": context})
    config = replace(config, **changes.pop("config", {}))
    return NewSession("novel", config, "x", (1, "tokens"), header, **changes)


DISTILLED = LearningConfig(objective="distill", teacher_context_tokens=80)


def test_a_window_that_the_model_can_read(short: LanguageModel) -> None:
    require_window(short, new(74))
    require_window(short, new(60, config={"generated": replace(DISTILLED, teacher_context_tokens=74)}))
    without_end = replace(short, max_positions=None)
    require_window(without_end, new(10_000))


@pytest.mark.parametrize(
    ("asked", "made", "hint"),
    [
        (new(75), "header 10 + context 75 + chunk 16 make 101", "--context-tokens 74"),
        (new(10, header=90), "header 90 + context 10 + chunk 16 make 116", "--context-tokens 0"),
        (
            new(60, config={"generated": DISTILLED}),
            "header 10 + context 80 + chunk 16 make 106",
            "teacher_context_tokens = 74",
        ),
        (new(60, chunk_tokens=64), "header 10 + context 60 + chunk 64 make 134", "--context-tokens 26"),
        (new(60, seen_tokens=40), "header 10 + context 60 + chunk 40 make 110", "--context-tokens 50"),
        (new(75, window_hint="shorter runs"), "make 101", "shorter runs"),
    ],
)
def test_a_window_that_it_cannot_is_refused_with_one_that_it_can(
    short: LanguageModel, asked: NewSession, made: str, hint: str
) -> None:
    with pytest.raises(TemploraError) as caught:
        require_window(short, asked)
    assert caught.value.message.startswith("this model reads at most 100 tokens; ")
    assert caught.value.message.endswith(made) and caught.value.hint == hint


def test_a_teacher_is_only_asked_where_something_is_learnt(short: LanguageModel) -> None:
    asked = new(60, config={"generated": DISTILLED})
    train = replace(asked.config.train, learn=False)
    require_window(short, replace(asked, config=replace(asked.config, train=train)))


def test_a_window_is_refused_before_there_is_a_session(tmp_path: Path) -> None:
    config = config_of(save_tiny_model(tmp_path / "short", positions=40))
    with pytest.raises(TemploraError, match="this model reads at most 40 tokens"):
        runner.begin(BOOK, config)
    assert not Store().folder.exists()


# --- which session goes on ---------------------------------------------------------------------------

OTHERS: dict[str, Any] = {
    "task": "drift",
    "request": {"premise": "A calm.", "opened": True},
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


def test_only_one_that_began_just_so_goes_on(config: Config) -> None:
    prepared = prepare(BOOK, config)
    with prepared.create(resume_same=True) as session:
        opened, settings = session.manifest.opened, session.manifest.config

    def goes_on() -> bool:
        with prepared.create(resume_same=True) as other:
            return other.id == session.id

    with Store().open(session.id) as again:  # what does not change the figures
        again.update(
            parent="calm-0000", header_tokens=99, model="another name", created="2020", opened="2099"
        )
        checkpointed = {**settings["train"], "gradient_checkpointing": "on"}
        again.update(config={**settings, "train": checkpointed})
    assert goes_on()
    assert opened < load_manifest(session.path).opened < "2099", "it is the last one now"
    begun = load_manifest(session.path)
    other_settings = {**settings, "train": {**settings["train"], "rank": 3}}
    for changed in [*({name: value} for name, value in OTHERS.items()), {"config": other_settings}]:
        replace(begun, **changed).save(session.path)
        assert not goes_on(), changed
        for folder in set(Store().folder.iterdir()) - {session.path}:  # the one that began instead
            shutil.rmtree(folder)
    begun.save(session.path)
    assert goes_on()
    with prepared.create(resume_same=False) as other:
        assert other.id != session.id


def test_one_that_is_damaged_is_passed_over(config: Config) -> None:
    prepared = prepare(BOOK, config)
    with prepared.create(resume_same=True) as session:
        (session.path / "session.json").write_text("{")
    with prepared.create(resume_same=True) as other:
        assert other.id != session.id
