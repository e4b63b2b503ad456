"""The Hugging Face Hub: what it says of a model, its configuration alone, all of it, and what is cached.

A model is fetched at one commit, which is noted, and stays at it until it is pulled again. The files lie in
the cache of huggingface_hub. Importing this module is quick: that library is imported where it is needed.
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
    in_words,
    is_model,
    read_record,
    record,
)
from templora_cli.errors import TemploraError

FILES = ["*.safetensors", "*.json", "*.model", "*.tiktoken", "*.jinja", "*.txt", "LICENSE*", "README.md"]
"""What a model needs to be loaded, and its licence; nothing that would have to be unpickled."""
SKIPPED = ["original/*", "consolidated*", "onnx/*"]
"""A second copy of the weights in another layout, which some publishers add."""
SECONDS = 10
"""How long the Hub may take to answer."""


def _info(name: str, api: Any = None) -> Any:
    from huggingface_hub import HfApi

    return (api or HfApi()).model_info(name, files_metadata=True, timeout=SECONDS)


def _file(name: str, file: str, **how: Any) -> str:
    from huggingface_hub import hf_hub_download

    path: str = hf_hub_download(name, file, **how)
    return path


def _snapshot(name: str, **how: Any) -> str:
    from huggingface_hub import snapshot_download

    folder: str = snapshot_download(name, **how)
    return folder


def _search(words: str, api: Any = None) -> list[str]:
    from huggingface_hub import HfApi

    api = api or HfApi()
    # Only this takes a time limit: without a network the search tries again for half a minute.
    api.model_info("HuggingFaceTB/SmolLM2-135M-Instruct", timeout=SECONDS)
    found = api.list_models(search=words, pipeline_tag="text-generation", sort="downloads", limit=5)
    return [model.id for model in found]


@dataclass(frozen=True)
class Hub:
    """How the Hub is asked; tests put something else in its place."""

    info: Callable[[str], Any] = _info
    """`huggingface_hub.HfApi.model_info`, with the sizes of the files."""
    file: Callable[..., str] = _file
    """`huggingface_hub.hf_hub_download`."""
    snapshot: Callable[..., str] = _snapshot
    """`huggingface_hub.snapshot_download`."""
    search: Callable[[str], list[str]] = _search
    """Ids of models with these words in their names, the most used first."""
    cache: Path | None = None
    """The cache of huggingface_hub, where it is not its own."""

    @property
    def folder(self) -> Path:
        """Where that cache lies."""
        from huggingface_hub import constants

        return self.cache or Path(constants.HF_HUB_CACHE)


@dataclass(frozen=True)
class Published:
    """What the Hub says of a model."""

    name: str
    """Its id, as the Hub writes it."""
    revision: str
    """The commit that it is at, 40 hex digits."""
    licence: str
    """Empty where the page names none."""
    files: Mapping[str, int]
    """Bytes of each of its files; 0 where the Hub does not say."""

    @property
    def fetched(self) -> dict[str, int]:
        """Those that `pull` fetches."""
        return {file: size for file, size in self.files.items() if _is_fetched(file)}

    @property
    def download_bytes(self) -> int:
        """What `pull` fetches."""
        return sum(self.fetched.values())


def _is_fetched(file: str) -> bool:
    return any(fnmatch(file, one) for one in FILES) and not any(fnmatch(file, one) for one in SKIPPED)


def is_hub_id(name: str) -> bool:
    """Can `name` be a Hugging Face id, `owner/model`? Nothing else may become part of a path."""
    part = r"[A-Za-z0-9_](?:[A-Za-z0-9_.-]*[A-Za-z0-9_])?"
    return bool(re.fullmatch(f"{part}/{part}", name)) and not re.search(r"\.\.|--", name)


def published(name: str, hub: Hub, then: str = "") -> Published:
    """Ask the Hub. Raises TemploraError where it cannot be reached or does not have the model.

    `then` is what to do when the network is there, where that is not to pull the model.
    """
    with _readable(name, then):
        found = hub.info(name)
    if not is_hub_id(str(found.id)) or not re.fullmatch(r"[0-9a-f]{40}", str(found.sha)):
        raise TemploraError(f"the Hugging Face Hub answers in an unknown way for {name}", "try again later")
    files = {str(file.rfilename): int(getattr(file, "size", None) or 0) for file in found.siblings or ()}
    return Published(found.id, found.sha, _licence_of(found), files)


def configuration(name: str, hub: Hub) -> tuple[Path, Published]:
    """A folder with the config.json of a model that is not here, and what the Hub says of the model.

    No weights are fetched. Raises TemploraError as `published` does, where the file cannot be had, and where
    there are no weights that templora loads.
    """
    then = f"templora doctor --model {name}; without a network, --model FOLDER with its config.json in it"
    offer = published(name, hub, then)
    _require_weights(offer)
    with _readable(offer.name, then):
        config = hub.file(offer.name, "config.json", revision=offer.revision, cache_dir=hub.cache)
    return Path(config).parent, offer


def pull(name: str, report: Report, hub: Hub) -> Path:
    """Fetch a model as it is on the Hub now; its folder.

    Raises TemploraError where it cannot be had, has no weights that templora loads, or the disk is too small.
    """
    report(f"asking the Hugging Face Hub for {name}")
    here = folder_of(name, hub)
    try:
        offer = published(name, hub)
    except TemploraError as error:
        if here is None or not is_model(here):
            raise
        report(f"{name} is already on this machine; whether there is a newer one is not known: {error}")
        return here
    _require_weights(offer)
    _require_room(offer, hub)
    with _readable(offer.name):
        snapshot = hub.snapshot(
            offer.name,
            revision=offer.revision,
            allow_patterns=FILES,
            ignore_patterns=SKIPPED,
            cache_dir=hub.cache,
        )
    folder = checked(Path(snapshot), name, f"templora models pull {name}")
    if folder == here:
        report(f"{name} is already on this machine")
    _note(offer)
    return folder


def _require_weights(offer: Published) -> None:
    if any(file.endswith(".safetensors") for file in offer.fetched):
        return
    if packed := sorted(file for file in offer.files if file.endswith(".gguf")):
        raise TemploraError(
            f"{offer.name} holds GGUF files, of which one is enough",
            f"hf download {offer.name} {_middle(packed)} --local-dir . (or another of its files), then "
            "--model with that file",
        )
    raise TemploraError(
        f"{offer.name} has no safetensors weights; templora does not load pickled ones",
        "templora models list shows models that work",
    )


def _middle(files: list[str]) -> str:
    """The one with 4 bits in its name, which most people take, else the first."""
    return next((file for file in files if "q4_k_m" in file.lower()), files[0])


def _require_room(offer: Published, hub: Hub) -> None:
    there = hub.folder
    while not there.exists() and there != there.parent:
        there = there.parent
    free = shutil.disk_usage(there).free
    snapshot = hub.folder / _cached_name(offer.name) / "snapshots" / offer.revision
    lacking = sum(size for file, size in offer.fetched.items() if not (snapshot / file).exists())
    if lacking > free:
        raise TemploraError(
            f"{offer.name} takes {in_words(lacking)}, and {in_words(free)} are free in {hub.folder}",
            "make room there, or name another folder in the environment variable HF_HOME",
        )


# --- what is here ------------------------------------------------------------------------------------


def folder_of(name: str, hub: Hub) -> Path | None:
    """The folder of a model in the cache, whole or not, or None: the commit that was pulled, else `main`."""
    from huggingface_hub import try_to_load_from_cache

    noted = str(read_record(_notes_of(name)).get("revision", ""))
    for revision in ([noted] if re.fullmatch(r"[0-9a-f]{40}", noted) else []) + ["main"]:
        config = try_to_load_from_cache(name, "config.json", cache_dir=hub.cache, revision=revision)
        if isinstance(config, str):
            return Path(config).parent
    return None


def any_configuration(name: str, hub: Hub) -> Path | None:
    """The newest folder in the cache with a config.json of the model, whatever else is in it."""
    found = (hub.folder / _cached_name(name) / "snapshots").glob("*/config.json")
    newest = max(found, key=lambda path: path.stat().st_mtime, default=None)
    return None if newest is None else newest.parent


def cached(hub: Hub) -> dict[str, Path]:
    """The models of the cache that can be loaded, by their ids, and their folders."""
    names = [path.name[len("models--") :].replace("--", "/") for path in hub.folder.glob("models--*--*")]
    folders = {name: folder_of(name, hub) for name in sorted(names) if is_hub_id(name)}
    return {name: folder for name, folder in folders.items() if folder is not None and is_model(folder)}


def licence_of(name: str, folder: Path) -> str:
    """Of a model in the cache: as it was noted, else as the page beside it says; empty where none does."""
    if noted := read_record(_notes_of(name)).get("licence"):
        return str(noted)
    try:
        page = (folder / "README.md").read_text("utf-8", errors="replace")
    except OSError:
        return ""
    front = re.match(r"---\r?\n(.*?)\r?\n---", page, re.DOTALL)
    said = dict(re.findall(r"^(license(?:_name)?): *([\w.+-]+) *\r?$", front[1] if front else "", re.M))
    return str(said.get("license_name") or said.get("license") or "")


def _licence_of(found: Any) -> str:
    """From the tags of a model's page, or its name for a licence of its own."""
    card = getattr(found, "card_data", None)
    named = getattr(card, "license_name", None)
    tags = [str(tag).partition(":")[2] for tag in found.tags or () if str(tag).startswith("license:")]
    said = str(named or next(iter(tags), ""))
    return said if re.fullmatch(r"[\w.+ -]{1,60}", said) else ""


def _note(offer: Published) -> None:
    """What was pulled, so that another program that fetches a newer one does not change it."""
    folder = _notes_of(offer.name)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        record(folder, source=offer.name, revision=offer.revision, licence=offer.licence)
    except OSError as error:
        raise TemploraError(
            f"cannot write {folder}: {error.strerror or error}",
            "the environment variable TEMPLORA_CACHE names another folder",
        ) from error


def _notes_of(name: str) -> Path:
    """Needs a name that `is_hub_id`."""
    return cache_dir() / "hub" / name.replace("/", "--")


def _cached_name(name: str) -> str:
    return f"models--{name.replace('/', '--')}"


# --- errors ------------------------------------------------------------------------------------------


@contextmanager
def _readable(name: str, then: str = "") -> Iterator[None]:
    """Errors in one line, and no warnings of the library on the way to them; `then` as in `published`."""
    from huggingface_hub.utils import logging as hub_logging

    verbosity = hub_logging.get_verbosity()
    hub_logging.set_verbosity(logging.ERROR)
    try:
        yield
    except Exception as error:  # several libraries' errors, of which only some have a common base
        raise _hub_error(
            name, error, then or f"templora models pull {name} (what has come is kept)"
        ) from error
    finally:
        hub_logging.set_verbosity(verbosity)


def is_missing(error: TemploraError) -> bool:
    """Is it that the Hub does not have a model of that name?"""
    from huggingface_hub import errors

    cause = error.__cause__
    return isinstance(cause, errors.RepositoryNotFoundError) and not isinstance(cause, errors.GatedRepoError)


def search(words: str, hub: Hub) -> list[str]:
    """Ids that the Hub finds; none where it cannot be asked."""
    try:
        with _readable(words):
            return [name for name in hub.search(words) if is_hub_id(name)]
    except TemploraError:
        return []


def _hub_error(name: str, error: Exception, then: str) -> TemploraError:
    from huggingface_hub import errors

    if isinstance(error, errors.GatedRepoError):
        accept = f"accept it on https://huggingface.co/{name}, then: hf auth login"
        return TemploraError(f"the licence of {name} has to be accepted before it is given out", accept)
    if isinstance(error, errors.RepositoryNotFoundError):
        return TemploraError(
            f"the Hugging Face Hub has no {name}, or it is private", "for a private one: hf auth login"
        )
    if isinstance(error, errors.OfflineModeIsEnabled):
        return TemploraError("HF_HUB_OFFLINE is set, so nothing is downloaded", "unset HF_HUB_OFFLINE")
    if isinstance(error, errors.RemoteEntryNotFoundError):
        return TemploraError(
            f"{name} has no config.json, so it is no language model that templora can load",
            "templora models list shows models that work",
        )
    # What did not get as far as the Hub is an error of its HTTP library, httpx or its successor.
    unreached = type(error).__module__.startswith("httpx")
    if unreached or isinstance(error, (errors.LocalEntryNotFoundError, ConnectionError, TimeoutError)):
        return TemploraError("cannot reach the Hugging Face Hub", f"check the network, then: {then}")
    first_line = next(iter(str(error).splitlines()), type(error).__name__)
    return TemploraError(f"cannot download {name}: {first_line}", then)
