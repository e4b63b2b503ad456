"""A stopped and resumed book equals an unstopped one with DRY and banned phrases on."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest

from templora_cli import runner
from templora_cli.config import Config
from templora_cli.engine.decoding.banned_phrases import BannedPhrases, Reading, checked_phrases
from templora_cli.errors import TemploraError
from templora_cli.events import Event, Finished, TextDecoded
from templora_cli.novel.kind import NovelRequest
from templora_cli.novel.task import Goal
from templora_cli.sessions.steps import read_chunks
from tests.test_runner import config_of, first_committed, outcome, stopped

BOOK = NovelRequest("A storm.", opening="It rained.", goal=Goal(48, "tokens"), kind="drift")


def config_for(model: Path, backend: str) -> Config:
    return config_of(
        model, decode={"dry_multiplier": 2.0, "dry_allowed_length": 1, "backend": backend, "temperature": 0.6}
    )


def generated_text(session: Path) -> str:
    chunks = read_chunks(session / "steps")
    return "".join(chunk["text"] for chunk in chunks if chunk["origin"] == "generated")


def written(config: Config, request: NovelRequest) -> Path:
    with runner.begin(request, config) as run:
        assert isinstance(list(run.events())[-1], Finished)
    return run.session.path


def second_chunk(event: Event) -> bool:
    return isinstance(event, TextDecoded) and event.index == 2


@pytest.mark.parametrize("backend", ["int8", "eager"])
def test_a_stopped_book_equals_an_unstopped_one(backend: str, tiny_model: Path) -> None:
    config = config_for(tiny_model, backend)
    words = re.findall(r"[^\W_]{2,}", generated_text(written(config, BOOK)))
    request = replace(BOOK, banned=tuple(words))
    book = written(config, request)
    _, matches = BannedPhrases(checked_phrases(words)).read(Reading(), generated_text(book))
    assert words and not matches
    expected = outcome(book)
    with runner.begin(request, config) as run:
        stopped(run, first_committed)
    with runner.resume(run.session.id) as run:
        stopped(run, second_chunk)
    with runner.resume(run.session.id) as run:
        assert isinstance(list(run.events())[-1], Finished)
    assert outcome(run.session.path) == expected


def test_dry_changes_a_book(tiny_model: Path) -> None:
    config = config_for(tiny_model, "int8")
    without = replace(config, decode=replace(config.decode, dry_multiplier=0.0))
    assert outcome(written(config, BOOK)) != outcome(written(without, BOOK))


def test_a_ledger_bans_the_words_that_it_avoids(tiny_model: Path) -> None:
    config = config_for(tiny_model, "int8")
    ledger = 'avoid = ["suddenly"]\n[[person]]\nname = "Mira"\navoid = ["the Captain"]\n'
    with runner.begin(replace(BOOK, ledger=ledger, banned=("a tapestry of",)), config) as run:
        assert run.task.banned.phrases == ("a tapestry of", "suddenly", "the Captain")  # type: ignore[attr-defined]
        assert run.kind.facts(run.session.manifest)["banned"] == "1 phrase"
    with pytest.raises(TemploraError, match='the ledger: avoid = "the": “the” is so common'):
        runner.begin(replace(BOOK, ledger='avoid = ["the"]\n'), config)
