"""Commands that only read sessions, and errors that need no model, load no heavy library."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from templora_cli.novel.kind import PlannedRequest
from templora_cli.novel.plan import read_plan
from templora_cli.runner import begin
from tests.commands.test_cli import templora

ROOT = Path(__file__).parents[2]
SCRIPT = """
import sys
from templora_cli.cli import main
status = 0
try:
    main()
except SystemExit as end:
    status = end.code or 0
heavy = {"torch", "transformers", "peft", "bitsandbytes", "numba", "safetensors"} & sys.modules.keys()
print(status, *sorted(heavy), file=sys.stderr)
"""
LIGHT = {
    "--help": 0,
    "write --help": 0,
    "sessions list": 0,
    "sessions list --json": 0,
    "sessions show": 0,
    "sessions show {novel}": 0,
    "sessions show {novel} --json": 0,
    "sessions path": 0,
    "sessions export {novel} --out book.md": 0,
    "sessions export {novel} --out -": 0,
    "sessions export {translation}": 0,
    "sessions shrink {novel} --yes": 0,
    "sessions rename {novel} {translation}": 2,
    "sessions rename {novel} A/B": 2,
    "sessions rm nosuch --yes": 2,
    "models list": 0,
    "review {translation} --out review.txt": 0,
    "plan {novel}": 2,
    "plan {planned}": 0,
    "plan {planned} --edit": 0,
    "plan --chapters 3": 2,
    "plan --premise a --chapters 0": 2,
    "write": 2,
    "write --premise": 2,
    "write --premise a --words 0": 2,
    "write --premise a --out book.pdf": 2,
    "write --premise a --set top_p=7": 2,
    "write --premise a --set nothing=1": 2,
    "write --from nowhere.txt": 2,
    "write --premise a --name A/B": 2,
    "write --premise a --name {novel}": 2,
    "translate nowhere.txt --to en": 2,
    "translate book.txt --to nolanguage": 2,
    "translate book.txt --from de --to en --set decode.temperature=1": 2,
    "resume nosuch": 2,
    "resume {novel} --chunks 1 --model ./nowhere": 2,
    "resume {translation} --words 5": 2,
    "resume {novel}": 2,
    "review {novel}": 2,
    "sync {translation} nowhere.txt": 2,
    "retry {novel}": 2,
    "eval ppl nowhere.txt": 2,
    "eval drift": 2,
    "eval consistency nowhere.txt": 2,
    "eval consistency book.txt --distances 9": 2,
    "eval translate nowhere.json": 2,
    "eval prose {novel} book.txt": 0,
    "eval prose book.txt --reference book.txt --json": 0,
    "eval prose {translation} --json": 0,
    "eval prose nowhere.txt": 2,
    "glossary extract nowhere.txt": 2,
    "ledger {novel}": 0,
    "ledger {novel} check": 0,
    "ledger {novel} add person Mira": 0,
    "ledger {novel} add person Mira Voss": 2,
    "ledger {novel} propose": 0,
    "ledger nosuch edit": 2,
}
"""Commands with their exit status."""


@pytest.fixture(scope="module")
def written(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, str]]:
    """A folder that contains a home, and the names of a novel, a translation and a novel with a plan."""
    folder = tmp_path_factory.mktemp("light")
    (folder / "book.txt").write_text("Der Turm steht am Meer.\n\nDas Meer ist still.\n", "utf-8")
    small = ("--model", tiny_model, "--chunk-tokens", "64")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TEMPLORA_HOME", str(folder / "home"))
        patch.setenv("TEMPLORA_CONFIG", str(folder / "none.toml"))
        patch.chdir(folder)
        arguments = ("translate", "book.txt", "--from", "de", "--to", "en", "--attempts", "1", "--quiet")
        assert templora(*arguments, *small, "--set", "decode.context_tokens=64").exit_code in (0, 3)
        names = {"translation": next((folder / "home" / "sessions").iterdir()).name}
        novel = ("write", "--premise", "A storm.", "--chunks", "1", "--context-tokens", "64", "--quiet")
        no_gate = ("--set", "gate.enabled=false")  # random weights write no prose
        assert templora(*novel, *small, *no_gate, engine=None).exit_code == 0
        sessions = {path.name for path in (folder / "home" / "sessions").iterdir()}
        names["novel"] = (sessions - {names["translation"]}).pop()
        config = {"model": {"name": str(tiny_model)}, "decode": {"chunk_tokens": 64, "context_tokens": 64}}
        with begin(PlannedRequest(plan=read_plan("## The Storm\n")), config) as run:
            names["planned"] = run.session.id
    return folder, names


@pytest.mark.parametrize("command", LIGHT)
def test_no_heavy_library_is_loaded(command: str, written: tuple[Path, dict[str, str]]) -> None:
    folder, names = written
    environment = {
        **os.environ,
        "TEMPLORA_HOME": str(folder / "home"),
        "TEMPLORA_CACHE": str(folder / "cache"),
        "TEMPLORA_CONFIG": str(folder / "none.toml"),
        "HF_HOME": str(folder / "hub"),
        "PYTHONPATH": str(ROOT),
        "VISUAL": f"{shlex.quote(sys.executable)} -c pass",
    }
    arguments = command.format(**names).split()
    for leftover in ("book.md", "review.txt", f"{names['translation']}.txt"):
        (folder / leftover).unlink(missing_ok=True)
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, *arguments],
        env=environment,
        cwd=folder,
        capture_output=True,
        text=True,
    )
    assert done.stderr.splitlines()[-1] == str(LIGHT[command]), done.stderr[-600:]
