"""The benchmark of long books: its translation learns every paragraph, without checks."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from benchmarks import unchecked
from templora_cli import cli
from templora_cli.sessions.steps import committed_steps, read_chunks


def test_without_checks_a_translation_learns_every_paragraph(
    tiny_model: Path, own_home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("book.txt").write_text("Der Turm steht am Meer.\n\nDas Meer ist still.\n", "utf-8")
    arguments = ["translate", "book.txt", "--from", "de", "--to", "en", "--attempts", "1", "--quiet"]
    arguments += ["--model", str(tiny_model), "--chunk-tokens", "64", "--set", "context_tokens=64"]
    assert CliRunner().invoke(cli.app, [*arguments, "--set", "gate.enabled=false"]).exit_code == 3
    (session,) = (own_home / "sessions").iterdir()
    checked = read_chunks(session / "steps")
    assert not any(chunk["train_losses"] for chunk in checked), "no paragraph passes its checks"
    for step in committed_steps(session / "steps"):
        shutil.rmtree(step)
    unchecked.main(session.name)
    events = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    chunks = [event for event in events if event["event"] == "chunk_committed"]
    assert len(chunks) == len(checked) == 2 and all(chunk["train_losses"] for chunk in chunks)
