"""The benchmark of commands that load no model: its home, its measurements and its limit."""

from __future__ import annotations

import json
import os
import resource
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


def test_the_home_has_the_sessions_and_every_command_works_in_it(own_home: Path) -> None:
    novel, translation = startup.fill_home(own_home, 5, status_of)
    listed = json.loads(CliRunner().invoke(cli.app, ["sessions", "list", "--json"]).stdout)
    names = [row["session"] for row in listed]
    assert len(set(names)) == 5 and {novel, translation} < set(names)
    assert all(row["state"] == "finished" and row["chunks"] >= 3 for row in listed)
    for light in startup.light_commands(novel, translation).values():
        if list(light.command[: len(TEMPLORA)]) == TEMPLORA:
            result = CliRunner().invoke(cli.app, light.command[len(TEMPLORA) :])
            assert result.exit_code == light.status and result.output, light.command


def test_commands_take_turns_in_empty_folders_after_a_warm_up(tmp_path: Path) -> None:
    log = tmp_path / "log"
    commands = {
        name: startup.LightCommand(
            (sys.executable, "-c", f"open('x', 'x'); print({name!r}, end='', file=open({str(log)!r}, 'a'))")
        )
        for name in "ab"
    }
    usages = startup.measure(commands, os.environ, rounds=2)
    assert log.read_text() == "ababab" and {name: len(usages[name]) for name in "ab"} == {"a": 2, "b": 2}
    assert all(usage.cpu_seconds > 0 for of_command in usages.values() for usage in of_command)
    failing = startup.LightCommand((sys.executable, "-c", "raise SystemExit(3)"), status=2)
    with pytest.raises(subprocess.CalledProcessError, match="status 3"):
        startup.measure({"failing": failing}, os.environ, rounds=1)


def test_cpu_time_does_not_include_sleep() -> None:
    usage = usage_of([sys.executable, "-c", "import time; time.sleep(0.5); raise SystemExit(3)"], os.environ)
    assert usage.status == 3 and usage.seconds > 0.5 > usage.cpu_seconds > 0
    # Linux counts the pages of this process too, from before the child runs its own program.
    assert 1 << 20 < usage.peak_bytes < (1 << 30) + resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def test_a_command_over_the_limit_fails_the_benchmark(capsys: pytest.CaptureFixture[str]) -> None:
    def usages_of(*cpu_seconds: float) -> list[Usage]:
        return [Usage(0, 2 * cpu, cpu, 1 << 20) for cpu in cpu_seconds]

    usages = {
        "--help": usages_of(0.2, 0.3, 9),
        "sessions list": usages_of(0.1, 0.75, 0.9),
        "review": usages_of(0.5, 0.6, 0.6),
    }
    startup.judge(usages, limit=2.5)
    assert capsys.readouterr().out.splitlines()[-2:] == [
        "| sessions list | 0.750 | 0.100 to 0.900 | 1.500 | 2.50 |",
        "| review | 0.600 | 0.500 to 0.600 | 1.200 | 2.00 |",
    ]
    with pytest.raises(typer.Exit) as caught:
        startup.judge(usages, limit=2)
    assert caught.value.exit_code == 1
    message = capsys.readouterr().err
    assert message == "sessions list takes 2.50 times the CPU time of --help; the limit is 2\n"
