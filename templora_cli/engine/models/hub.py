"""Models of the Hugging Face Hub: their description, their configuration, downloads and the local cache.

A model is downloaded at one commit, which is recorded, and stays at it until it is pulled again. The files
are in the cache of huggingface_hub. To keep imports of this module fast, that library is imported inside
functions.
"""

from __future__ import annotations

import logging
import re
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from templora_cli.engine.models.folders import (
    Report,
    cache_dir,
    checked,
    is_model,
    read_record,
    write_record,
)
from templora_cli.errors import TemploraError
from templora_cli.files import format_bytes

ALLOWED = ["*.safetensors", "*.json", "*.model", "*.tiktoken", "*.jinja", "*.txt", "LICENSE*", "README.md"]
"""The files that are needed to load a model, and its licence; no file that would have to be unpickled."""
IGNORED = ["original/*", "consolidated*", "onnx/*"]
"""A second copy of the weights in another layout, which some publishers add."""
TIMEOUT = 10
"""Seconds to wait for an answer of the Hub."""


def _info(name: str, api: Any = None) -> Any:
    from huggingface_hub import HfApi

    return (api or HfApi()).model_info(name, files_metadata=True, timeout=TIMEOUT)


def _file(name: str, file: str, **options: Any) -> str:
    from huggingface_hub import hf_hub_download

    path: str = hf_hub_download(name, file, **options)
    return path


def _snapshot(name: str, **options: Any) -> str:
    from huggingface_hub import snapshot_download

    folder: str = snapshot_download(name, **options)
    return folder


def _search(words: str, api: Any = None) -> list[str]:
    from huggingface_hub import HfApi

    api = api or HfApi()
    # Fails fast: list_models has no timeout, and without a network it retries for half a minute.
    api.model_info("HuggingFaceTB/SmolLM2-135M-Instruct", timeout=TIMEOUT)
    models = api.list_models(search=words, pipeline_tag="text-generation", sort="downloads", limit=5)
    return [model.id for model in models]


@dataclass(frozen=True)
class Hub:
    """Functions that access the Hub; tests replace them."""

    info: Callable[[str], Any] = _info
    """`huggingface_hub.HfApi.model_info`, with the sizes of the files."""
    file: Callable[..., str] = _file
    """`huggingface_hub.hf_hub_download`."""
    snapshot: Callable[..., str] = _snapshot
    """`huggingface_hub.snapshot_download`."""
    search: Callable[[str], list[str]] = _search
    """Ids of models with these words in their names, by number of downloads."""
    cache: Path | None = None
    """The cache folder, if it is not the default of huggingface_hub."""

    @property
    def folder(self) -> Path:
        """The cache folder."""
        from huggingface_hub import constants

        return self.cache or Path(constants.HF_HUB_CACHE)


@dataclass(frozen=True)
class PublishedModel:
    """A model as the Hub describes it."""

    name: str
    """Its id, as the Hub spells it."""
    revision: str
    """Its current commit, 40 hex digits."""
    licence: str
    """Empty if its page names none."""
    files: Mapping[str, int]
    """Bytes by file; 0 if the Hub does not report the size."""

    @property
    def downloads(self) -> dict[str, int]:
        """Bytes of the files that `pull` downloads."""
        return {file: size for file, size in self.files.items() if _is_downloaded(file)}

    @property
    def download_bytes(self) -> int:
        """Size of the download."""
        return sum(self.downloads.values())


def _is_downloaded(file: str) -> bool:
    return any(fnmatch(file, pattern) for pattern in ALLOWED) and not any(
        fnmatch(file, pattern) for pattern in IGNORED
    )


def is_hub_id(name: str) -> bool:
    """Does `name` look like a Hugging Face id, `owner/model`? Only such names become part of a path."""
    part = r"[A-Za-z0-9_](?:[A-Za-z0-9_.-]*[A-Za-z0-9_])?"
    return bool(re.fullmatch(f"{part}/{part}", name)) and not re.search(r"\.\.|--", name)


def published_model(name: str, hub: Hub, next_step: str = "") -> PublishedModel:
    """Ask the Hub for the description of a model. Raises TemploraError if it has none or cannot be reached.

    `next_step` is the hint for the time when the network works again; by default it is to pull the model.
    """
    with _readable_errors(name, next_step):
        info = hub.info(name)
    if not is_hub_id(str(info.id)) or not re.fullmatch(r"[0-9a-f]{40}", str(info.sha)):
        raise TemploraError(f"the Hugging Face Hub sent an unexpected answer for {name}", "try again later")
    files = {str(file.rfilename): int(getattr(file, "size", None) or 0) for file in info.siblings or ()}
    return PublishedModel(info.id, info.sha, _published_licence(info), files)


def configuration(name: str, hub: Hub) -> tuple[Path, PublishedModel]:
    """A folder with the config.json of a model that is not downloaded, and the model's description.

    No weights are downloaded. Raises TemploraError as `published_model` does, and if the model has no
    config.json or no safetensors weights.
    """
    next_step = (
        f"templora doctor --model {name}; without a network: --model FOLDER, a folder with its config.json"
    )
    model = published_model(name, hub, next_step)
    _require_weights(model)
    with _readable_errors(model.name, next_step):
        config = hub.file(model.name, "config.json", revision=model.revision, cache_dir=hub.cache)
    return Path(config).parent, model


def pull(name: str, report: Report, hub: Hub) -> Path:
    """Download the current version of a model; returns its folder.

    Raises TemploraError if the Hub does not provide it, it has no safetensors weights, or the disk is too
    small.
    """
    report(f"looking up {name} on the Hugging Face Hub")
    local = cached_folder(name, hub)
    try:
        model = published_model(name, hub)
    except TemploraError as error:
        if local is None or not is_model(local):
            raise
        report(f"{name} is already on this machine; could not check for a newer version: {error}")
        return local
    _require_weights(model)
    _require_disk_space(model, hub)
    with _readable_errors(model.name):
        snapshot = hub.snapshot(
            model.name,
            revision=model.revision,
            allow_patterns=ALLOWED,
            ignore_patterns=IGNORED,
            cache_dir=hub.cache,
        )
    folder = checked(Path(snapshot), name, f"templora models pull {name}")
    if folder == local:
        report(f"{name} is already on this machine")
    _record_pull(model)
    return folder


def _require_weights(model: PublishedModel) -> None:
    if any(file.endswith(".safetensors") for file in model.downloads):
        return
    if ggufs := sorted(file for file in model.files if file.endswith(".gguf")):
        raise TemploraError(
            f"{model.name} has GGUF files instead of safetensors, and one of them is enough",
            f"hf download {model.name} {_preferred_gguf(ggufs)} --local-dir . (or another of its files), "
            "then use --model with that file",
        )
    raise TemploraError(
        f"{model.name} has no safetensors weights; templora does not load pickled ones",
        "templora models list shows models that work",
    )


def _preferred_gguf(files: list[str]) -> str:
    """The file in Q4_K_M, the most popular format; the first file if there is none."""
    return next((file for file in files if "q4_k_m" in file.lower()), files[0])


def _require_disk_space(model: PublishedModel, hub: Hub) -> None:
    existing = hub.folder
    while not existing.exists() and existing != existing.parent:
        existing = existing.parent
    free = shutil.disk_usage(existing).free
    snapshot = hub.folder / _cache_entry(model.name) / "snapshots" / model.revision
    missing = sum(size for file, size in model.downloads.items() if not (snapshot / file).exists())
    if missing > free:
        raise TemploraError(
            f"{model.name} needs {format_bytes(missing)}, but {hub.folder} has only "
            f"{format_bytes(free)} free",
            "free disk space, or set the environment variable HF_HOME to another folder",
        )


# --- the local cache ---------------------------------------------------------------------------------


def cached_folder(name: str, hub: Hub) -> Path | None:
    """The cached folder of a model, perhaps incomplete: at the pulled commit, else at `main`, else None."""
    from huggingface_hub import try_to_load_from_cache

    pulled = str(read_record(_record_folder(name)).get("revision", ""))
    for revision in ([pulled] if re.fullmatch(r"[0-9a-f]{40}", pulled) else []) + ["main"]:
        config = try_to_load_from_cache(name, "config.json", cache_dir=hub.cache, revision=revision)
        if isinstance(config, str):
            return Path(config).parent
    return None


def newest_configuration(name: str, hub: Hub) -> Path | None:
    """The newest cached folder with a config.json of the model, with or without weights."""
    configs = (hub.folder / _cache_entry(name) / "snapshots").glob("*/config.json")
    newest = max(configs, key=lambda path: path.stat().st_mtime, default=None)
    return None if newest is None else newest.parent


def cached_models(hub: Hub) -> dict[str, Path]:
    """Folders of the cached models that can be loaded, by id."""
    names = [path.name[len("models--") :].replace("--", "/") for path in hub.folder.glob("models--*--*")]
    folders = {name: cached_folder(name, hub) for name in sorted(names) if is_hub_id(name)}
    return {name: folder for name, folder in folders.items() if folder is not None and is_model(folder)}


def licence_of(name: str, folder: Path) -> str:
    """The licence of a cached model: as recorded, or as in its README.md; empty if neither names one."""
    if recorded := read_record(_record_folder(name)).get("licence"):
        return str(recorded)
    try:
        page = (folder / "README.md").read_text("utf-8", errors="replace")
    except OSError:
        return ""
    front_matter = re.match(r"---\r?\n(.*?)\r?\n---", page, re.DOTALL)
    fields = dict(
        re.findall(r"^(license(?:_name)?): *([\w.+-]+) *\r?$", front_matter[1] if front_matter else "", re.M)
    )
    return str(fields.get("license_name") or fields.get("license") or "")


def _published_licence(info: Any) -> str:
    """The licence in the tags of a model's page, or the name that the page gives to a custom licence."""
    card = getattr(info, "card_data", None)
    custom = getattr(card, "license_name", None)
    tags = [str(tag).partition(":")[2] for tag in info.tags or () if str(tag).startswith("license:")]
    licence = str(custom or next(iter(tags), ""))
    return licence if re.fullmatch(r"[\w.+ -]{1,60}", licence) else ""


def _record_pull(model: PublishedModel) -> None:
    """Record the commit: another program may download a newer one into the same cache."""
    folder = _record_folder(model.name)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_record(folder, source=model.name, revision=model.revision, licence=model.licence)
    except OSError as error:
        raise TemploraError(
            f"cannot write {folder}: {error.strerror or error}",
            "set the environment variable TEMPLORA_CACHE to another folder",
        ) from error


def _record_folder(name: str) -> Path:
    """The folder of a model's record. The name must pass `is_hub_id`."""
    return cache_dir() / "hub" / name.replace("/", "--")


def _cache_entry(name: str) -> str:
    return f"models--{name.replace('/', '--')}"


# --- errors ------------------------------------------------------------------------------------------


@contextmanager
def _readable_errors(name: str, next_step: str = "") -> Iterator[None]:
    """Raise errors as a TemploraError, and hide library warnings; `next_step` as in `published_model`."""
    from huggingface_hub.utils import logging as hub_logging

    verbosity = hub_logging.get_verbosity()
    hub_logging.set_verbosity(logging.ERROR)
    try:
        yield
    except Exception as error:  # errors of several libraries, without a common base class
        pull_again = f"templora models pull {name} (it continues where it stopped)"
        raise _hub_error(name, error, next_step or pull_again) from error
    finally:
        hub_logging.set_verbosity(verbosity)


def is_missing(error: TemploraError) -> bool:
    """Was the error raised because the Hub has no model of that name?"""
    from huggingface_hub import errors

    cause = error.__cause__
    return isinstance(cause, errors.RepositoryNotFoundError) and not isinstance(cause, errors.GatedRepoError)


def search(words: str, hub: Hub) -> list[str]:
    """Ids that the Hub's search returns; none if it cannot be reached."""
    try:
        with _readable_errors(words):
            return [name for name in hub.search(words) if is_hub_id(name)]
    except TemploraError:
        return []


def _hub_error(name: str, error: Exception, next_step: str) -> TemploraError:
    from huggingface_hub import errors

    if isinstance(error, errors.GatedRepoError):
        accept = f"accept it on https://huggingface.co/{name}, then: hf auth login"
        return TemploraError(f"the licence of {name} must be accepted before the download", accept)
    if isinstance(error, errors.RepositoryNotFoundError):
        return TemploraError(
            f"the Hugging Face Hub has no model {name}, or it is private", "for a private one: hf auth login"
        )
    if isinstance(error, errors.OfflineModeIsEnabled):
        return TemploraError("HF_HUB_OFFLINE is set, so nothing is downloaded", "unset HF_HUB_OFFLINE")
    if isinstance(error, errors.RemoteEntryNotFoundError):
        return TemploraError(
            f"{name} has no config.json, so templora cannot load it",
            "templora models list shows models that work",
        )
    # A request that does not reach the Hub raises an error of its HTTP library, httpx or its successor.
    unreachable = type(error).__module__.startswith("httpx")
    if unreachable or isinstance(error, (errors.LocalEntryNotFoundError, ConnectionError, TimeoutError)):
        return TemploraError("cannot reach the Hugging Face Hub", f"check the network, then: {next_step}")
    first_line = next(iter(str(error).splitlines()), type(error).__name__)
    return TemploraError(f"cannot download {name}: {first_line}", next_step)
