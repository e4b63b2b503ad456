"""Model folders on the disk: checking, identifying and caching them.

A model folder holds config.json, safetensors and tokenizer files. Folders that templora creates are in
`<cache>/models/<key>/`; each is created once, under a temporary name, and then renamed.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from templora_cli.errors import TemploraError
from templora_cli.files import expanded

Report = Callable[[str], None]
"""Receives a short line about each step that can take a while."""

MIB = 1 << 20


def cache_dir() -> Path:
    """`TEMPLORA_CACHE`, or the platform's cache folder for templora. It need not exist."""
    if named := os.environ.get("TEMPLORA_CACHE"):
        return expanded(named).absolute()
    from platformdirs import user_cache_path

    return user_cache_path("templora")


def models_dir() -> Path:
    """The folder of the models in the cache. It need not exist."""
    return cache_dir() / "models"


PICKLED = ("*.bin", "*.pt", "*.pth")
"""Weights that templora does not load."""


def checked(folder: Path, label: str, hint_if_incomplete: str = "download the model again") -> Path:
    """`folder`, if a model can be loaded from it.

    Otherwise raises TemploraError that calls the folder `label` and says what it lacks.
    """
    if not (folder / "config.json").is_file():
        ggufs = sorted(folder.glob("*.gguf"))
        hint = f"--model {ggufs[0]}" if ggufs else "templora models list"
        raise TemploraError(f"{label} has no config.json, so it is not a model folder", hint)
    if missing := sorted(name for name in _shards(folder, label) if not (folder / name).is_file()):
        raise TemploraError(f"{label} is incomplete: {missing[0]} is missing", hint_if_incomplete)
    if not any(folder.glob("*.safetensors")):
        reason = "; templora does not load pickled ones" if has_weights(folder) else ""
        raise TemploraError(
            f"{label} has no safetensors weights{reason}", "templora models list shows models that work"
        )
    return folder


def _shards(folder: Path, label: str) -> set[str]:
    """The weight files that the index names; empty for a model in one file."""
    index = folder / "model.safetensors.index.json"
    if not index.is_file():
        return set()
    try:
        names = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
        # File names only: the index of a downloaded model must not refer to other folders.
        is_valid = all(re.fullmatch(r"[\w.-]{1,255}", name) for name in names)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        is_valid = False
    if not is_valid:
        raise TemploraError(f"{label}: {index.name} is damaged", "download the model again")
    return names


def has_weights(folder: Path) -> bool:
    """Does the folder hold weights in any format?"""
    return any(True for pattern in ("*.safetensors", *PICKLED) for _ in folder.glob(pattern))


def has_chat_template(folder: Path) -> bool:
    """Does the model in `folder` have a chat template, so that it can follow a premise?"""
    if (folder / "chat_template.jinja").is_file():
        return True
    try:
        return '"chat_template"' in (folder / "tokenizer_config.json").read_text("utf-8", errors="replace")
    except OSError:
        return False


def is_model(folder: Path) -> bool:
    """Can a model be loaded from `folder`?"""
    try:
        checked(folder, "")
    except TemploraError:
        return False
    return True


def folder_bytes(folder: Path) -> int:
    """Bytes of the files directly in `folder`."""
    return sum(path.stat().st_size for path in folder.iterdir() if path.is_file())


def fingerprint(folder: Path) -> str:
    """16 hex digits that identify the model in a folder, without reading all of its weights.

    They depend on the content of config.json and tokenizer.json, except for the version of transformers that
    wrote them, and on the name, the size, and the first and last MiB of each safetensors file. Raises
    TemploraError if `folder` is not a model folder.
    """
    checked(folder, str(folder))
    digest = hashlib.sha256()
    for name in ("config.json", "tokenizer.json"):
        if (folder / name).is_file():
            content = (folder / name).read_bytes()
            add_to(digest, name.encode(), re.sub(rb'"transformers_version": *"[^"]*"', b"", content))
    for weights in sorted(folder.glob("*.safetensors")):
        add_to(digest, weights.name.encode(), *size_and_ends(weights))
    return digest.hexdigest()[:16]


def size_and_ends(path: Path) -> tuple[bytes, bytes, bytes]:
    """The size of a file as decimal digits, its first MiB and its last MiB."""
    size = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(MIB)
        file.seek(max(0, size - MIB))
        return str(size).encode(), head, file.read(MIB)


def add_to(digest: hashlib._Hash, *fields: bytes) -> None:
    """Add `fields` to `digest`, with their lengths, so that the boundaries between fields count."""
    for content in fields:
        digest.update(len(content).to_bytes(8, "big"))
        digest.update(content)


def create_once(key: str, create: Callable[[Path], Path], report: Report) -> Path:
    """The folder models/`key`. If it is missing, the folder that `create(work)` returns is moved there.

    A second process waits for the first. `key` is an alias or consists of hex digits; it is never a name that
    was typed.
    """
    target = models_dir() / key
    try:
        with _locked(key, report):
            if is_model(target):
                report(f"{key} is already on this machine")
                return target
            with _work_folder(key) as work:
                folder = create(work)
                _flush(folder)
                if target.exists():  # incomplete: someone deleted files from it
                    target.rename(work / "replaced")
                folder.rename(target)
    except OSError as error:
        raise TemploraError(
            f"cannot write the model cache {models_dir()}: {error.strerror or error}",
            "set the environment variable TEMPLORA_CACHE to another folder",
        ) from error
    return target


@contextmanager
def _locked(key: str, report: Report) -> Iterator[None]:
    from filelock import FileLock, Timeout

    lock = FileLock(_lock_path(key))
    try:
        lock.acquire(timeout=0)
    except Timeout:
        report(f"waiting for another templora process that is downloading {key}")
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def _lock_path(key: str) -> Path:
    folder = cache_dir() / "locks"
    folder.mkdir(parents=True, exist_ok=True)
    return folder / f"{key}.lock"


@contextmanager
def _work_folder(key: str) -> Iterator[Path]:
    """A temporary folder on the file system of the cache. The caller holds the lock of `key`."""
    models_dir().mkdir(parents=True, exist_ok=True)
    _sweep(key)
    work = Path(tempfile.mkdtemp(prefix=f".pull-{key}-", dir=models_dir()))
    try:
        yield work
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _sweep(key: str) -> None:
    """Remove work folders of killed processes: those whose lock no other process holds."""
    from filelock import FileLock, Timeout

    for folder in models_dir().glob(".pull-*"):
        owner = folder.name[len(".pull-") :].rpartition("-")[0]
        if owner == key:
            shutil.rmtree(folder, ignore_errors=True)
            continue
        try:
            with FileLock(_lock_path(owner), timeout=0):
                shutil.rmtree(folder, ignore_errors=True)
        except Timeout:
            continue


def _flush(folder: Path) -> None:
    """Flush the files to the disk, so that a power cut leaves no empty files in a valid folder."""
    for path in folder.iterdir():
        with path.open("rb+") as file:
            os.fsync(file.fileno())


def write_record(folder: Path, **facts: Any) -> None:
    """Record the origin of a model in its folder."""
    (folder / "templora.json").write_text(
        json.dumps({"format": 1, **facts}, indent=2) + "\n", encoding="utf-8"
    )


def read_record(folder: Path) -> dict[str, Any]:
    """The facts that `write_record` recorded; empty if there are none."""
    try:
        record = json.loads((folder / "templora.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return record if isinstance(record, dict) else {}
