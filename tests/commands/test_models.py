"""`templora models`: list, pull and path."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from templora_cli.commands.models import app
from templora_cli.engine.models import catalog
from templora_cli.engine.models.catalog import ListedModel
from templora_cli.engine.models.model_names import SUGGESTED
from templora_cli.errors import TemploraError
from tests.commands.test_cli import templora

ROOT = Path(__file__).parents[2]
DOWNLOADED = ListedModel(
    "small", "Small", "chat", "Apache-2.0", "alias", "/models/small", 269_000_000, 90_000_000
)
MISSING = ListedModel("large-one", "Large", "base", "own terms", "alias", None, 0, 238_203_400)
FROM_HUB = ListedModel("org/x", "org/x", "", "", "hub", "/hub/x", 1000, None)
SUGGESTION = ListedModel("org/y", "org/y", "chat", "MIT", "hub", None, 0, 16_400_000_000)


@pytest.fixture
def listed(monkeypatch: pytest.MonkeyPatch) -> list[ListedModel]:
    models = [DOWNLOADED, MISSING, FROM_HUB, SUGGESTION]
    monkeypatch.setattr(catalog, "listing", lambda: models)
    return models


def test_list_prints_a_line_for_each_model(listed: list[ListedModel]) -> None:
    done = CliRunner().invoke(app, ["list"])
    assert done.exit_code == 0 and done.stderr == ""
    assert [line.split("\t") for line in done.stdout.splitlines()] == [
        ["model", "kind", "licence", "disk", "download"],
        ["small", "chat", "Apache-2.0", "269 MB", "-"],
        ["large-one", "base", "own terms", "-", "238 MB"],
        ["org/x", "-", "-", "1 kB", "-"],
        ["org/y", "chat", "MIT", "-", "16.4 GB"],
    ]


def test_list_can_print_json(listed: list[ListedModel]) -> None:
    done = CliRunner().invoke(app, ["list", "--json"])
    first, second, third, _ = json.loads(done.stdout)
    assert first == {
        "name": "small",
        "title": "Small",
        "kind": "chat",
        "licence": "Apache-2.0",
        "source": "alias",
        "path": "/models/small",
        "bytes": 269_000_000,
        "download_bytes": 90_000_000,
    }
    assert second["path"] is None and third["download_bytes"] is None


def test_a_new_machine_lists_the_models_to_download(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import huggingface_hub

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    done = CliRunner().invoke(app, ["list", "--json"])
    listed = {model["name"]: model for model in json.loads(done.stdout)}
    assert list(listed) == [*catalog.ALIASES, *(model.name for model in SUGGESTED)]
    for model in listed.values():
        assert model["path"] is None and model["download_bytes"] > 0 and model["licence"], model["name"]


def test_pull_prints_only_the_folder_on_standard_output(monkeypatch: pytest.MonkeyPatch) -> None:
    def pull(name: str, report: catalog.Report) -> Path:
        report(f"downloading {name}")
        return Path("/models") / name

    monkeypatch.setattr(catalog, "pull", pull)
    done = CliRunner().invoke(app, ["pull", "small"])
    assert (done.exit_code, done.stdout, done.stderr) == (0, "/models/small\n", "downloading small\n")


def test_path_prints_only_the_folder(tiny_model: Path) -> None:
    done = CliRunner().invoke(app, ["path", str(tiny_model)])
    assert (done.exit_code, done.stdout, done.stderr) == (0, f"{tiny_model}\n", "")


@pytest.mark.parametrize("command", ["pull", "path"])
def test_an_unknown_model_raises_an_error_with_a_suggestion(command: str) -> None:
    done = CliRunner().invoke(app, [command, "smollm2-134m"])
    assert isinstance(done.exception, TemploraError)
    assert done.exception.message == "unknown model 'smollm2-134m'; did you mean smollm2-135m?"
    assert done.exception.hint == "templora models pull smollm2-135m"


def test_a_missing_model_is_reported_with_a_hint() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "templora_cli", "models", "path", "smollm2-135m"],
        capture_output=True,
        text=True,
        cwd=ROOT,
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        "error: model smollm2-135m is not on this machine\nhint: templora models pull smollm2-135m\n"
    )


def test_list_loads_neither_torch_nor_transformers() -> None:
    script = (
        "import sys\n"
        "from templora_cli.commands.models import app\n"
        "app(['list'], standalone_mode=False)\n"
        "print(sorted({'torch', 'transformers', 'numpy'} & sys.modules.keys()))\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=ROOT)
    assert done.stdout.splitlines()[-1] == "[]", done


def test_part_of_a_name_is_completed_in_the_hint() -> None:
    for command in (
        ("models", "path", "Qwen3-8B"),
        ("write", "--premise", "A storm.", "--model", "Qwen3-8B"),
    ):
        done = templora(*command)
        error = done.exception if isinstance(done.exception, TemploraError) else None
        output = done.stderr if error is None else f"error: {error.message}\nhint: {error.hint}\n"
        assert output.endswith(
            "error: model Qwen/Qwen3-8B is not on this machine\nhint: templora models pull Qwen/Qwen3-8B\n"
        )
