"""Output of commands on a terminal: tables fit its width, and control characters are removed."""

from __future__ import annotations

import io
import json
import shutil
from collections.abc import Sequence
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import pytest
import typer
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rich.cells import cell_len

from templora_cli.cli import app
from templora_cli.commands.terminal import print_table, say, usable_streams
from templora_cli.errors import TemploraError
from templora_cli.render.error_view import show_error
from tests.commands.test_cli import templora
from tests.random_text import RANDOM_TEXT
from tests.render.test_escapes import obeyed
from tests.test_render import Terminal

HOSTILE = (
    "\x1b[31mred",
    "\x1b]0;title\x07",
    "\x9b2J",
    "\x9d0;x\x9c",
    "\u202egnp.exe",
    "\u2066a",
    "\r\n\x08\x7f",
)
TEXTS = st.lists(st.one_of(st.sampled_from(HOSTILE), st.text(max_size=8)), max_size=5).map("".join)
NAMES = TEXTS.map(lambda text: "a" + "".join(c for c in text if c not in "/\x00")[:40]).filter(
    lambda name: not any("\ud800" <= char <= "\udfff" for char in name)
)


class Screen(io.StringIO):
    """A terminal without colours, so that the tool itself sends no control characters."""

    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def terminal_without_colours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "dumb")
    for name in ("COLUMNS", "FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(scope="module")
def written(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished book."""
    home = tmp_path_factory.mktemp("written")
    small = ("--chunk-tokens", "16", "--context-tokens", "24", "--set", "rank=2", "--set", "alpha=2")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TEMPLORA_HOME", str(home))
        patch.setenv("TEMPLORA_CONFIG", str(home / "config.toml"))
        (home / "config.toml").write_text(RANDOM_TEXT)
        result = templora(
            "write", "--premise", "A storm.", "--chunks", "2", "--model", tiny_model, *small, "-q"
        )
        assert result.exit_code == 0, result.stderr
    return next((home / "sessions").iterdir())


def output_of(*arguments: str) -> str:
    """The output of a command on a terminal."""
    screen = Screen()
    with redirect_stdout(screen), redirect_stderr(screen):
        try:
            app(arguments, standalone_mode=False)
        except TemploraError as error:
            show_error(screen, error)
        except typer.Exit:
            pass
    return screen.getvalue()


COMMANDS: dict[str, Sequence[str]] = {
    "list": ("sessions", "list"),
    "list as JSON": ("sessions", "list", "--json"),
    "show": ("sessions", "show"),
    "show as JSON": ("sessions", "show", "--json"),
    "path": ("sessions", "path"),
    "export": ("sessions", "export"),
    "export to the screen": ("sessions", "export", "--out", "-"),
    "resume": ("resume",),
    "resume with more": ("resume", "--chunks", "1"),
    "review": ("review",),
    "sync": ("sync",),
    "retry": ("retry",),
}


@pytest.mark.parametrize("command", COMMANDS.values(), ids=COMMANDS.keys())
@settings(max_examples=8, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(name=NAMES, text=TEXTS, other=TEXTS)
def test_control_characters_in_a_session_are_not_sent_to_a_terminal(
    command: Sequence[str], name: str, text: str, other: str, written: Path, own_home: Path
) -> None:
    folder = own_home / "sessions" / name
    shutil.rmtree(own_home, ignore_errors=True)
    shutil.copytree(written, folder)
    manifest = json.loads((folder / "session.json").read_text("utf-8"))
    manifest["request"]["premise"] = text
    manifest.update(model=text, folder=other, out=f"/{other}", device=other, quantize=text, opened=text)
    (folder / "session.json").write_text(json.dumps(manifest), "utf-8")
    output = output_of(*command)
    assert output and obeyed(output) <= {"\n"}, repr(output)


def test_a_premise_cannot_imitate_another_fact(written: Path, own_home: Path) -> None:
    shutil.copytree(written, own_home / "sessions" / "quiet")
    path = own_home / "sessions" / "quiet" / "session.json"
    manifest = json.loads(path.read_text("utf-8"))
    manifest["request"]["premise"] = "A storm.\nstate  damaged"
    path.write_text(json.dumps(manifest), "utf-8")
    for output in (output_of("sessions", "show"), templora("sessions", "show").stdout):
        assert not any(line.startswith("state  damaged") for line in output.splitlines())
        assert "damaged" in output


@pytest.mark.parametrize("columns", [40, 80, 120])
def test_a_list_and_a_session_fit_a_terminal(
    columns: int, written: Path, own_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(written, own_home / "sessions" / "a-fox-in-the-snow")
    monkeypatch.setenv("COLUMNS", str(columns))
    listed, session = output_of("sessions", "list"), output_of("sessions", "show")
    chunk = json.loads((written / "steps" / "000000" / "chunk.json").read_text("utf-8"))
    assert f"{chunk['nll_base']:.3f}" in session.split() and "a-fox-in-the-snow" in listed.split()
    for line in (listed + session).splitlines():
        is_command = line.strip().startswith("templora ")
        assert cell_len(line) <= columns or len(line.split()) <= 2 or is_command, line


def test_the_command_that_doctor_proposes_is_not_broken(
    tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    lines = output_of("doctor", "--model", str(tiny_model)).splitlines()
    command = lines[lines.index("To write with it:") + 1]
    assert command == f"templora write --premise-file premise.txt --model {tiny_model}"


def test_doctor_shows_at_once_that_it_works(tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm-256color")
    shown = output_of("doctor", "--model", str(tiny_model))
    assert shown.index("looking at this machine and the model") < shown.index("it fits")


def test_a_pipe_gets_tabs_and_a_terminal_a_table(capsys: pytest.CaptureFixture[str]) -> None:
    columns, rows = ["model", "title"], [["a", "one\n\x1b[2Jtwo"]]
    print_table(columns, rows, texts=("title",))
    assert capsys.readouterr().out == "model\ttitle\na\tone␤␛[2Jtwo\n"
    screen = Screen()
    with redirect_stdout(screen):
        print_table(columns, rows, texts=("title",))
    assert screen.getvalue().split() == ["model", "title", "─" * 18, "a", "one␤␛[2Jtwo"]


def test_a_line_is_unchanged_in_a_pipe_and_harmless_on_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    say("/a/\x1b[2J")
    say("\x9b", err=True)
    assert capsys.readouterr() == ("/a/\x1b[2J\n", "\ufffd\n")
    screen = Screen()
    with redirect_stdout(screen):
        say("/a/\x1b[2J")
        say("word " * 20)
    assert screen.getvalue() == f"/a/␛[2J\n{('word ' * 16).rstrip()}\n{('word ' * 4).rstrip()}\n"


def test_a_path_that_is_not_utf8_is_unchanged_in_a_pipe(tmp_path: Path) -> None:
    out, err = (tmp_path / "out").open("w"), (tmp_path / "err").open("w")
    with out, err, redirect_stdout(out), redirect_stderr(err), usable_streams():
        say("/a/\udcff")
        say("/a/\udcff", err=True)
    assert (tmp_path / "out").read_bytes() == b"/a/\xff\n"
    assert (tmp_path / "err").read_text("utf-8") == "/a/\ufffd\n"


def test_a_table_is_printed_below_the_messages_without_the_status(
    tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", "120")
    for name in ("one.txt", "two.txt"):
        Path(name).write_text("The lamp burned on and the sea was still. " * 5)
    small = ("--chunk-tokens", "64", "--context-tokens", "64", "--set", "rank=2", "--set", "alpha=2")
    terminal = Terminal()
    with redirect_stdout(terminal), redirect_stderr(terminal):
        app(("eval", "ppl", "one.txt", "two.txt", "--model", str(tiny_model), *small), standalone_mode=False)
    rows = terminal.screen(120)
    assert sum(row.startswith("session eval-") for row in rows) == 2
    assert [row.split()[0] for row in rows[-4:]] == ["one.txt"] * 2 + ["two.txt"] * 2
    assert not any(" chunk 1" in row or "memory" in row for row in rows)


def test_a_command_is_never_broken(monkeypatch: pytest.MonkeyPatch) -> None:
    class Screen(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setenv("COLUMNS", "40")
    command = "templora write --premise-file premise.txt --model Qwen/Qwen3-8B"
    with redirect_stdout(Screen()) as screen:
        say(command)
        say(f"Now you can write with it, if you like: {command}")
    lines = screen.getvalue().splitlines()
    assert lines[0] == command and lines[-1].strip() == command and len(lines) > 2
