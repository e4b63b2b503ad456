"""The rooms: who may import whom, and what the command line must not load."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "templora_cli"
LEAVES = {"errors", "events", "config"}
LIBRARIES = {
    "torch",
    "transformers",
    "peft",
    "bitsandbytes",
    "gguf",
    "huggingface_hub",
    "psutil",
    "llvmlite",
    "numba",
    "numpy",
    "triton",
}
ROOMS: dict[str, tuple[set[str], set[str]]] = {
    # room: (rooms it may import besides itself, packages it may import besides the standard library)
    "errors": (set(), set()),
    "events": (set(), set()),
    "config": ({"errors"}, set()),
    "engine": (LEAVES, LIBRARIES | {"filelock", "platformdirs", "safetensors"}),
    "documents": (LEAVES, {"lxml", "markdown_it", "charset_normalizer"}),
    "tasks": (LEAVES | {"documents", "prompts"}, {"tomli", "langcodes", "py3langid"}),
    "temp_lora": ({"config", "events", "engine"}, {"torch"}),
    "sessions": (
        LEAVES | {"engine", "documents", "tasks", "temp_lora"},
        {"torch", "safetensors", "filelock", "platformdirs"},
    ),
    "evaluation": (
        LEAVES | {"engine", "documents", "tasks", "temp_lora", "sessions"},
        {"torch", "matplotlib", "sacrebleu", "psutil"},
    ),
    "render": ({"events", "errors"}, {"rich", "psutil"}),
}
"""`commands`, `cli`, `__main__` wire everything together and may import everything."""


def imports_of(file: Path) -> set[str]:
    """Dotted names of all imports in a file, those inside functions and under TYPE_CHECKING too."""
    names = set()
    for node in ast.walk(ast.parse(file.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: relative import"
            names.update(f"{node.module}.{alias.name}" for alias in node.names)
    return names


def room_of(file: Path) -> str:
    return file.relative_to(PACKAGE).parts[0].removesuffix(".py")


@pytest.mark.parametrize("file", sorted(PACKAGE.rglob("*.py")), ids=lambda f: str(f.relative_to(PACKAGE)))
def test_imports_point_up_the_table(file: Path) -> None:
    room = room_of(file)
    if room in ("commands", "cli", "__main__", "__init__"):
        return
    rooms, packages = ROOMS[room]
    for name in imports_of(file):
        top, *rest = name.split(".")
        if top == "templora_cli":
            assert rest[0] in rooms | {room, "__version__"}, f"{room} may not import {name}"
        else:
            assert top in sys.stdlib_module_names | packages, f"{room} may not import {name}"


def test_every_room_is_in_the_table() -> None:
    wiring = {"commands", "cli", "__main__", "__init__"}
    assert {room_of(file) for file in PACKAGE.rglob("*.py")} - wiring == ROOMS.keys()


def test_help_loads_neither_torch_nor_transformers() -> None:
    script = (
        "import sys; sys.argv = ['templora', '--help']\n"
        "from templora_cli.cli import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "heavy = {'torch', 'transformers', 'peft', 'numpy', 'huggingface_hub'} & sys.modules.keys()\n"
        "assert not heavy, heavy\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "write" in done.stdout and "resume" in done.stdout


def test_no_module_is_a_drawer() -> None:
    assert not list(PACKAGE.rglob("utils.py"))
