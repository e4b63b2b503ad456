"""Fixtures: a separate home for every test, and tiny models of real classes."""

from __future__ import annotations

import os
from pathlib import Path

import hypothesis
import pytest

import templora_cli.engine  # noqa: F401  # isort: skip  (sets torch's environment before torch is loaded)

import torch

if not torch.cuda.is_available():  # Triton reads it when transformers imports it
    os.environ.setdefault("TRITON_INTERPRET", "1")

from benchmarks.tiny_model import save_tiny_model
from tests.random_text import RANDOM_TEXT

USERS_CACHE = os.environ.get("TEMPLORA_CACHE")
"""The cache of the slow tests, which would otherwise download the embedded model every time."""


# The time of an example depends on other load of the machine.
# Each run draws other examples, so fewer of them in a run save time and lose little.
hypothesis.settings.register_profile("untimed", deadline=None, max_examples=50)
hypothesis.settings.load_profile("untimed")


@pytest.fixture(autouse=True)
def own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Keep sessions, models and settings of a test in its temporary folder. Returns `TEMPLORA_HOME`."""
    home = tmp_path / "home"
    monkeypatch.setenv("TEMPLORA_HOME", str(home))
    monkeypatch.setenv("TEMPLORA_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("TEMPLORA_CONFIG", str(tmp_path / "config.toml"))
    (tmp_path / "config.toml").write_text(RANDOM_TEXT)
    monkeypatch.delenv("TEMPLORA_DEBUG", raising=False)
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.chdir(work)
    return home


@pytest.fixture
def no_config() -> None:
    """Remove the settings for random models, for tests of the defaults."""
    Path(os.environ["TEMPLORA_CONFIG"]).unlink()


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a tiny chat model."""
    return save_tiny_model(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="session")
def tiny_base_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a tiny model without a chat template."""
    return save_tiny_model(tmp_path_factory.mktemp("tiny-base"), chat=False, seed=1)


FULL = """
    commands/ engine/decoding/cpu/ engine/decoding/cuda/ engine/decoding/test_sampling engine/kernels/
    engine/models/test_gguf engine/models/test_kinds engine/models/test_loading engine/test_heap evaluation/
    sessions/test_checkpoint sessions/test_exact sessions/test_history sessions/test_manifest
    test_api test_chunk_benchmark test_depth test_generated_docs test_generated_text test_prepare test_recipes
    test_runner test_startup test_task_kinds test_wheel translation/test_task
"""
"""Tests that start processes, compile kernels, write whole books or take long; `make quick` skips them."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests in `FULL`."""
    tests = Path(__file__).parent
    for item in items:
        if item.path.relative_to(tests).as_posix().startswith(tuple(FULL.split())):
            item.add_marker(pytest.mark.full)
