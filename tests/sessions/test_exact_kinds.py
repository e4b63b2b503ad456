"""A stopped and resumed book equals an unstopped one with other architectures than Llama."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import transformers
from transformers import PreTrainedConfig

from templora_cli import runner
from templora_cli.events import Finished
from templora_cli.novel.kind import NovelRequest
from templora_cli.novel.task import Goal
from templora_cli.sessions.manifest import load_manifest
from tests.engine.models.tiny_kinds import KINDS, gemma3, save_tiny
from tests.test_runner import config_of, first_committed, outcome, stopped

BOOK = NovelRequest("A storm.", opening="It rained.", goal=Goal(32, "tokens"))


@pytest.mark.parametrize(
    ("make", "auto", "backend"),
    [
        (KINDS["mamba"], transformers.AutoModelForCausalLM, "eager"),
        (KINDS["jamba"], transformers.AutoModelForCausalLM, "eager"),
        (gemma3, transformers.AutoModelForImageTextToText, "int8"),
    ],
    ids=["mamba", "jamba", "gemma3 with vision"],
)
def test_a_stopped_book_equals_an_unstopped_one(
    make: Callable[[], PreTrainedConfig], auto: type, backend: str, tmp_path: Path
) -> None:
    save_tiny(tmp_path / "model", make(), auto)
    config = config_of(tmp_path / "model")
    with runner.begin(BOOK, config) as run:
        assert isinstance(list(run.events())[-1], Finished)
    expected = outcome(run.session.path)
    with runner.begin(BOOK, config) as run:
        stopped(run, first_committed)
    with runner.resume(run.session.id) as run:
        assert isinstance(list(run.events())[-1], Finished)
    assert outcome(run.session.path) == expected
    assert load_manifest(run.session.path).backend == backend
