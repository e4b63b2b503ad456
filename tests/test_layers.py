"""The layers: which file may import which, and which modules the command line must not load."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "templora_cli"

TORCH = {"torch", "numpy"}
TABLE: dict[str, set[str]] = {
    # A layer (a module or package), and the libraries that it may import besides the standard library. A line
    # may import from the lines above it and from itself.
    "errors": set(),
    "interrupts": set(),
    "events": set(),
    "config": set(),
    "config_layers": set(),
    "files": set(),
    "text": set(),
    "scripts": {"langcodes"},
    "languages": {"langcodes", "py3langid"},
    "name_hints": set(),
    "term_proposals": set(),
    "documents.inline": set(),
    "documents.markup": set(),
    "documents.encoding": {"charset_normalizer"},
    "documents.signature": set(),
    "documents.text_input": set(),
    "documents.document": set(),
    "documents.manuscript_blocks": set(),
    "documents.front_matter": set(),
    "documents.aligned_text": set(),
    "documents.book": set(),
    "documents.readers": {"lxml", "markdown_it"},
    "documents.writers": set(),
    "documents.registry": set(),
    "documents.prose": set(),
    "documents": set(),
    "engine.determinism": {"torch"},
    "engine.kernels.families": set(),
    "engine.kernels.triton_kernels": {"triton"},
    "engine.kernels.nf4": {"torch", "bitsandbytes"},
    "engine.kernels": {"numpy", "numba", "llvmlite"},
    "engine.training": {"torch", "transformers", "peft", "bitsandbytes"},
    "engine.models.folders": {"filelock", "platformdirs"},
    "engine.models.wheels": set(),
    "engine.models.model_names": set(),
    "engine.models.aliases": set(),
    "engine.models.hub": {"huggingface_hub"},
    "engine.models.gguf": {"torch", "transformers", "gguf"},
    "engine.models.catalog": {"transformers", "huggingface_hub"},
    "engine.models.prequantized": set(),
    "engine.models.reasoning_tags": set(),
    "engine.models.language": {"transformers"},
    "engine.models.support": {"transformers"},
    "engine.models.adapter": {"torch", "transformers", "peft", "bitsandbytes"},
    "engine.models.measured": {"torch"},
    "engine.models.experts": {"torch", "transformers", "bitsandbytes"},
    "engine.models.quantizing": {"torch", "transformers"},
    "engine.models": {"torch", "transformers"},
    "engine.decoding.protocols": {"torch"},
    "engine.decoding.processors": TORCH,
    "engine.decoding.sampling": TORCH,
    "engine.decoding.transformer_blocks": {"torch"},
    "engine.decoding.banned_phrases": set(),
    "engine.decoding.rewinding": {"torch"},
    "engine.decoding.cached": {"torch"},
    "engine.decoding.cpu": TORCH | {"peft", "numba"},
    "engine.decoding.cuda": {"torch", "transformers", "peft"},
    "engine.decoding.eager": {"torch"},
    "engine.decoding.backends": {"torch"},
    "engine.decoding.choose": set(),
    "engine.decoding.runtime": {"torch", "llvmlite", "triton"},
    "engine.decoding": set(),
    "engine.memory.machine": {"torch", "psutil"},
    "engine.memory": set(),
    "engine": set(),
    "chat": set(),
    "prompt": set(),
    "prompt_files": {"tomli"},
    "ngrams": {"numpy"},
    "memory": {"tomli", "tomlkit", "numpy"},
    "turn": set(),
    "state": {"torch"},
    "learning": {"torch"},
    "gate": set(),
    "candidates": {"torch"},
    "temp_lora": set(),
    "sessions": {"torch", "safetensors", "filelock", "platformdirs"},
    "reading": set(),
    "priming": set(),
    "novel": {"markdown_it"},
    "translation": {"tomli"},
    "editing": set(),
    "task_kinds": set(),
    "evaluation": {"torch", "matplotlib", "sacrebleu", "psutil"},
    "render": {"rich", "psutil"},
    "prepare": set(),
    "reload": set(),
    "run": {"torch"},
    "runner": set(),
    "commands": {"torch", "typer", "rich", "tomli", "platformdirs"},
    "cli": {"typer"},
    "__main__": set(),
}
TASK_PACKAGES = ("reading", "novel", "translation")
"""The package of each kind of task; none of them may import another."""


def modules(folder: Path) -> dict[str, Path]:
    """The modules of a folder by their dotted names."""
    files = folder.rglob("*.py")
    return {
        ".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): file
        for file in files
    }


def imports_of(file: Path, files: dict[str, Path], *, typing_too: bool = True) -> set[str]:
    """The dotted names of all modules that a file imports, also inside functions.

    In `from a import b`, the name is `a.b` if that is one of `files`, and else `a`.
    """
    tree = ast.parse(file.read_text("utf-8"))
    for_typing = {
        id(node)
        for branch in ast.walk(tree)
        if isinstance(branch, ast.If) and "TYPE_CHECKING" in ast.unparse(branch.test)
        for inside in branch.body
        for node in ast.walk(inside)
    }
    names = set()
    for node in ast.walk(tree):
        if id(node) in for_typing and not typing_too:
            continue
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: relative import"
            module = node.module or ""
            parts = [f"{module}.{alias.name}" for alias in node.names]
            names.update(part if part in files else module for part in parts)
    return names


def line_of(module: str) -> str:
    """The line of the table that a module belongs to."""
    name = module.removeprefix("templora_cli.")
    matches = [line for line in TABLE if name == line or name.startswith(f"{line}.")]
    assert matches, f"{module} is in no line of the table"
    return max(matches, key=len)


OURS = modules(PACKAGE)
BENCHMARKS = modules(ROOT / "benchmarks")
EXEMPT = {"templora_cli", "templora_cli.prompts"}


@pytest.mark.parametrize("module", sorted(OURS.keys() - EXEMPT))
def test_imports_point_up_the_table(module: str) -> None:
    lines, line = list(TABLE), line_of(module)
    above = set(lines[: lines.index(line) + 1])
    if line in TASK_PACKAGES:
        above -= {package for package in TASK_PACKAGES if package != line}
    for name in imports_of(OURS[module], OURS):
        if name in EXEMPT:
            continue
        if name.startswith("templora_cli."):
            assert line_of(name) in above, f"{module} may not import {name}"
        else:
            assert name.split(".")[0] in sys.stdlib_module_names | TABLE[line], f"{module} imports {name}"


@pytest.mark.parametrize("files", [OURS, BENCHMARKS], ids=["templora_cli", "benchmarks"])
def test_imports_have_no_circles(files: dict[str, Path]) -> None:
    edges = {name: imports_of(file, files, typing_too=False) & files.keys() for name, file in files.items()}
    done: set[str] = set()

    def visit(name: str, path: tuple[str, ...]) -> None:
        assert name not in path, " -> ".join((*path[path.index(name) :], name))
        if name not in done:
            for imported in sorted(edges[name] - {name}):
                visit(imported, (*path, name))
            done.add(name)

    for name in edges:
        visit(name, ())


def test_benchmarks_do_not_import_tests() -> None:
    for name, file in BENCHMARKS.items():
        assert not {i for i in imports_of(file, BENCHMARKS) if i.split(".")[0] == "tests"}, name


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


def test_no_module_is_called_utils() -> None:
    assert not list(PACKAGE.rglob("utils.py"))
