"""Model folders on the disk: what makes one whole, how to tell them apart, and the cache of them.

A model folder holds config.json, safetensors and tokenizer files. The ones that templora makes lie in
`<cache>/models/<key>/`; each is made once, beside its place, and moved there in one step.
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

Report = Callable[[str], None]
"""Is told in a short line what is being done, where it can take a while."""

MIB = 1 << 20


def cache_dir() -> Path:
    """`TEMPLORA_CACHE`, or the platform's cache folder for templora. It need not exist."""
    if named := os.environ.get("TEMPLORA_CACHE"):
        return Path(named).expanduser().absolute()
    from platformdirs import user_cache_path

    return user_cache_path("templora")


def models_dir() -> Path:
    """Where the models of the cache lie. It need not exist."""
    return cache_dir() / "models"


PICKLED = ("*.bin", "*.pt", "*.pth")
"""Weights that templora does not load."""


def checked(folder: Path, shown: str, again: str = "get the model again") -> Path:
    """`folder`, if a model can be loaded from it.

    Raises TemploraError that names the folder as `shown` and says what it lacks; `again` is how one gets the
    model.
    """
    if not (folder / "config.json").is_file():
        ggufs = sorted(folder.glob("*.gguf"))
        hint = f"--model {ggufs[0]}" if ggufs else "templora models list"
        raise TemploraError(f"{shown} has no config.json, so it is not a model folder", hint)
    if missing := sorted(name for name in _shards(folder, shown) if not (folder / name).is_file()):
        raise TemploraError(f"{shown} is not whole: {missing[0]} is missing", again)
    if not any(folder.glob("*.safetensors")):
        why = "; templora does not load pickled ones" if has_weights(folder) else ""
        raise TemploraError(
            f"{shown} has no safetensors weights{why}", "templora models list shows models that work"
        )
    return folder


def _shards(folder: Path, shown: str) -> set[str]:
    """The weight files that the index names; empty for a model in one file."""
    index = folder / "model.safetensors.index.json"
    if not index.is_file():
        return set()
    try:
        return set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise TemploraError(f"{shown}: {index.name} is damaged", "get the model again") from error


def has_weights(folder: Path) -> bool:
    """Are there any, in whatever form?"""
    return any(True for kind in ("*.safetensors", *PICKLED) for _ in folder.glob(kind))


def writes_chats(folder: Path) -> bool:
    """Has the model in `folder` a chat template, so that it follows a premise?"""
    if (folder / "chat_template.jinja").is_file():
        return True
    try:
        return '"chat_template"' in (folder / "tokenizer_config.json").read_text("utf-8", errors="replace")
    except OSError:
        return False


def is_model(folder: Path) -> bool:
    """Whether a model can be loaded from `folder`."""
    try:
        checked(folder, "")
    except TemploraError:
        return False
    return True


def in_words(size: int) -> str:
    """Bytes as a person reads them: 93 MB, 16.4 GB."""
    return f"{size / 1e9:,.1f} GB" if size >= 10**9 else f"{max(1, round(size / 1e6))} MB"


def size_of(folder: Path) -> int:
    """Bytes of the files that lie directly in `folder`."""
    return sum(path.stat().st_size for path in folder.iterdir() if path.is_file())


def fingerprint(folder: Path) -> str:
    """16 hex digits that tell one model folder from another, without reading all of its weights.

    Of config.json and tokenizer.json the content counts, but for the version of transformers that wrote
    it; of each safetensors file its name, its size, and its first and last MiB. Raises TemploraError
    where `folder` is no model folder.
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
    """The size of a file in decimal, its first MiB and its last one."""
    size = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(MIB)
        file.seek(max(0, size - MIB))
        return str(size).encode(), head, file.read(MIB)


def add_to(digest: hashlib._Hash, *fields: bytes) -> None:
    """Feed `fields` to `digest` so that moving a byte from one to the next changes it."""
    for content in fields:
        digest.update(len(content).to_bytes(8, "big"))
        digest.update(content)


def made_once(key: str, make: Callable[[Path], Path], report: Report) -> Path:
    """The folder models/`key`; where it is missing, `make(work)` fills a folder that is moved there.

    Whoever comes second waits, and finds it. `key` is an alias or made of hex digits, never a name
    that was typed in.
    """
    target = models_dir() / key
    try:
        with _locked(key, report):
            if is_model(target):
                report(f"{key} is already on this machine")
                return target
            with _work_folder(key) as work:
                made = make(work)
                _flush(made)
                if target.exists():  # not a model any more: someone deleted from it
                    target.rename(work / "replaced")
                made.rename(target)
    except OSError as error:
        raise TemploraError(
            f"cannot write the model cache {models_dir()}: {error.strerror or error}",
            "the environment variable TEMPLORA_CACHE names another folder",
        ) from error
    return target


@contextmanager
def _locked(key: str, report: Report) -> Iterator[None]:
    from filelock import FileLock, Timeout

    lock = FileLock(_lock_path(key))
    try:
        lock.acquire(timeout=0)
    except Timeout:
        report(f"another templora is getting {key}; waiting for it")
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
    """A new folder on the file system of the cache, gone afterwards. Needs the lock of `key`."""
    models_dir().mkdir(parents=True, exist_ok=True)
    _sweep(key)
    work = Path(tempfile.mkdtemp(prefix=f".pull-{key}-", dir=models_dir()))
    try:
        yield work
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _sweep(key: str) -> None:
    """Remove the work folders that killed processes left: those whose lock nobody else holds."""
    from filelock import FileLock, Timeout

    for left in models_dir().glob(".pull-*"):
        owner = left.name[len(".pull-") :].rpartition("-")[0]
        if owner == key:
            shutil.rmtree(left, ignore_errors=True)
            continue
        try:
            with FileLock(_lock_path(owner), timeout=0):
                shutil.rmtree(left, ignore_errors=True)
        except Timeout:
            continue


def _flush(folder: Path) -> None:
    """Bring the files to the disk, so that a power cut does not leave empty ones under a good name."""
    for path in folder.iterdir():
        with path.open("rb+") as file:
            os.fsync(file.fileno())


def record(folder: Path, **facts: Any) -> None:
    """Say in the folder where it came from."""
    (folder / "templora.json").write_text(
        json.dumps({"format": 1, **facts}, indent=2) + "\n", encoding="utf-8"
    )


def read_record(folder: Path) -> dict[str, Any]:
    """What `record` said; empty where it said nothing."""
    try:
        read = json.loads((folder / "templora.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return read if isinstance(read, dict) else {}
