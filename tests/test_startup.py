"""The benchmark of commands that load no model: the home that it makes, what it measures, how it fails."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from benchmarks import startup
from benchmarks.command import TEMPLORA, Usage, usage_of
from templora_cli import cli


def status_of(arguments: list[str]) -> int:
    return CliRunner().invoke(cli.app, arguments).exit_code


def test_its_home_has_so_many_sessions_and_every_command_does_something_there(own_home: Path) -> None:
    novel, translation = startup.fill(own_home, 5, status_of)
    listed = json.loads(CliRunner().invoke(cli.app, ["sessions", "list", "--json"]).stdout)
    names = [row["session"] for row in listed]
    assert len(set(names)) == 5 and {novel, translation} < set(names)
    assert all(row["state"] == "finished" and row["chunks"] >= 3 for row in listed)
    for light in startup.light_commands(novel, translation).values():
        if list(light.command[: len(TEMPLORA)]) == TEMPLORA:
            result = CliRunner().invoke(cli.app, light.command[len(TEMPLORA) :])
            assert result.exit_code == light.status and result.output, light.command


def test_commands_take_turns_in_empty_folders_after_a_round_that_does_not_count(tmp_path: Path) -> None:
    log = tmp_path / "log"
    commands = {
        name: startup.Light(
            (sys.executable, "-c", f"open('x', 'x'); print({name!r}, end='', file=open({str(log)!r}, 'a'))")
        )
        for name in "ab"
    }
    found = startup.measure(commands, os.environ, rounds=2)
    assert log.read_text() == "ababab" and {name: len(found[name]) for name in "ab"} == {"a": 2, "b": 2}
    assert all(usage.cpu_seconds > 0 for usages in found.values() for usage in usages)
    failing = startup.Light((sys.executable, "-c", "raise SystemExit(3)"), status=2)
    with pytest.raises(subprocess.CalledProcessError, match="status 3"):
        startup.measure({"failing": failing}, os.environ, rounds=1)


def test_what_a_process_takes_is_not_the_time_that_it_sleeps() -> None:
    usage = usage_of([sys.executable, "-c", "import time; time.sleep(0.5); raise SystemExit(3)"], os.environ)
    assert usage.status == 3 and usage.seconds > 0.5 > usage.cpu_seconds > 0
    assert 1 << 20 < usage.peak_bytes < 1 << 30


def test_a_command_that_takes_too_many_times_what_help_does_fails_it(
    capsys: pytest.CaptureFixture[str],
) -> None:
    def took(*cpu_seconds: float) -> list[Usage]:
        return [Usage(0, 2 * cpu, cpu, 1 << 20) for cpu in cpu_seconds]

    found = {
        "--help": took(0.2, 0.3, 9),
        "sessions list": took(0.1, 0.75, 0.9),
        "review": took(0.5, 0.6, 0.6),
    }
    startup.judge(found, limit=2.5)
    assert capsys.readouterr().out.splitlines()[-2:] == [
        "| sessions list | 0.750 | 0.100 to 0.900 | 1.500 | 2.50 |",
        "| review | 0.600 | 0.500 to 0.600 | 1.200 | 2.00 |",
    ]
    with pytest.raises(typer.Exit) as ended:
        startup.judge(found, limit=2)
    assert ended.value.exit_code == 1
    said = capsys.readouterr().err
    assert said == "sessions list takes 2.50 times the CPU time of --help; the limit is 2\n"
