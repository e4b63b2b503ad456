"""The texts of all prompts, from `prompts/*.toml` or a folder of the user."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

import tomli

from templora_cli.documents.text_input import checked_text
from templora_cli.errors import TemploraError
from templora_cli.files import expanded

PACKAGED = resources.files("templora_cli.prompts")
OPTIONAL = frozenset(("source_language", "target_language"))
"""Optional placeholders: a prompt may name the languages itself."""
_PLACEHOLDER = re.compile(r"\{([^\W\d]\w*)\}")


@dataclass(frozen=True)
class PromptFile:
    """The texts of one prompt file by table and key, and the hash that identifies them."""

    name: str
    texts: dict[str, dict[str, str]]
    sha256: str

    def text(self, table: str, key: str, **values: str) -> str:
        """A prompt with its `{placeholders}` filled in; other braces are left as they are."""
        return _PLACEHOLDER.sub(lambda match: values.get(match[1], match[0]), self.texts[table][key])


def load_prompts(name: str, folder: str) -> PromptFile:
    """Load prompt file `name` (such as "novel") from `folder` if it is there, else from the package.

    Raises TemploraError if the folder does not exist or has no prompt file, or if the file is not valid
    TOML, lacks a prompt or a placeholder, or has an unknown placeholder.
    """
    file = PACKAGED / f"{name}.toml"
    packaged = file.read_bytes()
    packaged_texts = _parse(packaged, f"{name}.toml")
    custom = expanded(folder) / f"{name}.toml"
    if not folder or not _is_in(custom.parent, custom):
        return PromptFile(name, packaged_texts, hashlib.sha256(packaged).hexdigest())
    content = custom.read_bytes()
    texts = _parse(content, str(custom))
    required = [(table, key) for table, keys in packaged_texts.items() for key in keys]
    missing = [f"[{table}] {key}" for table, key in required if key not in texts.get(table, {})]
    if missing:
        raise TemploraError(f"{custom} lacks {', '.join(missing)}", f"copy them from {file}")
    _check_placeholders(str(custom), texts, packaged_texts)
    return PromptFile(name, texts, hashlib.sha256(content).hexdigest())


def _is_in(folder: Path, file: Path) -> bool:
    """Is the file in the folder? Raises TemploraError if the folder has no prompt file at all."""
    if not folder.is_dir():
        raise TemploraError(f"prompts: there is no folder {folder}", "create it, or leave the setting out")
    names = sorted(entry.name for entry in PACKAGED.iterdir() if entry.name.endswith(".toml"))
    if not any((folder / name).is_file() for name in names):
        raise TemploraError(f"prompts: {folder} has no {' and no '.join(names)}", f"copy one from {PACKAGED}")
    return file.is_file()


def _check_placeholders(
    source: str, texts: dict[str, dict[str, str]], packaged: dict[str, dict[str, str]]
) -> None:
    """Raise TemploraError if the placeholders of a text differ from those of the packaged one."""
    faults = []
    for table, keys in packaged.items():
        for key, text in keys.items():
            expected = list(dict.fromkeys(_PLACEHOLDER.findall(text)))
            present = list(dict.fromkeys(_PLACEHOLDER.findall(texts[table][key])))
            reasons = [f"{{{name}}} is not a placeholder here" for name in present if name not in expected]
            reasons += [f"{{{name}}} is missing" for name in expected if name not in {*present, *OPTIONAL}]
            if reasons:
                faults.append((f"[{table}] {key}", ", ".join(reasons), expected))
    if faults:
        location, reasons_of_first, expected = faults[0]
        more = f" (and {', '.join(other for other, _, _ in faults[1:])})" if faults[1:] else ""
        listed = " ".join(f"{{{name}}}" for name in expected) or "none"
        message = f"{source}: {location}: {reasons_of_first}{more}"
        raise TemploraError(message, f"placeholders of {location}: {listed}")


def _parse(content: bytes, source: str) -> dict[str, dict[str, str]]:
    try:
        tables = tomli.loads(checked_text(content, source))
    except tomli.TOMLDecodeError as error:
        raise TemploraError(
            f"{source} is not valid TOML: {error}", "correct that line, or move the file away"
        ) from None
    for table, prompts in tables.items():
        if not isinstance(prompts, dict) or not all(isinstance(text, str) for text in prompts.values()):
            raise TemploraError(
                f"{source}: [{table}] must be a table of texts", f"copy it from a file of {PACKAGED}"
            )
    return tables
