"""The wheel has every module and prompt of the checkout."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.mark.slow
def test_the_wheel_contains_the_package_and_the_prompts(tmp_path: Path) -> None:
    build = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", str(tmp_path)]
    subprocess.run([*build, str(ROOT)], check=True)
    (wheel,) = tmp_path.glob("templora-*.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    modules = {path.relative_to(ROOT).as_posix() for path in (ROOT / "templora_cli").rglob("*.py")}
    prompts = {f"templora_cli/prompts/{path.name}" for path in (ROOT / "prompts").iterdir() if path.is_file()}
    assert modules | prompts | {"templora_cli/py.typed"} <= names
    assert not [name for name in names if name.startswith(("tests/", "benchmarks/"))]
