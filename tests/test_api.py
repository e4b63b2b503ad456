"""The example of docs/api.md runs, in a thread and in a separate process."""

from __future__ import annotations

import re
import subprocess
import sys
import threading
from pathlib import Path

import pytest

PAGE = Path(__file__).parents[1] / "docs" / "api.md"


@pytest.fixture
def example(tiny_model: Path) -> str:
    """The code of the page, with the tiny model instead of the embedded one."""
    (code,) = re.findall(r"```python\n(.*?)```", PAGE.read_text("utf-8"), re.DOTALL)
    assert 'smollm2-135m"' in code and '"chunk_tokens": 128' in code
    code = code.replace("smollm2-135m", str(tiny_model)).replace('"chunk_tokens": 128', '"chunk_tokens": 16')
    # The text of a random model is no prose.
    return code.replace('"decode": {', '"gate": {"prose": False, "stop": False}, "decode": {')


def assert_written(printed: str) -> None:
    lines = printed.splitlines()
    names = [line for line in lines if re.fullmatch(r"[A-Z][A-Za-z]+", line)]
    assert names[0] == "SessionOpened" and names[-1] == "Finished"
    assert 16 <= names.count("ChunkCommitted") <= 20, "to the end of a sentence, or 64 tokens beyond the goal"
    assert lines[-1].startswith("Finished "), "resumed, and one chunk longer"
    assert int(lines[-1].split()[1]) > 256


def test_the_example_runs_in_a_thread(example: str, capsys: pytest.CaptureFixture[str]) -> None:
    errors: list[BaseException] = []

    def run() -> None:
        try:
            exec(compile(example, str(PAGE), "exec"), {})
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert not errors, errors
    assert_written(capsys.readouterr().out)


def test_the_example_runs_in_a_separate_process(example: str) -> None:
    done = subprocess.run([sys.executable, "-c", example], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert_written(done.stdout)
