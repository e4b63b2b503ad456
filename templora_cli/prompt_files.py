"""Every word that is sent to a model, from `prompts/*.toml` or a folder of the user's own."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

import tomli

from templora_cli.documents.text_input import checked_text
from templora_cli.errors import TemploraError

PACKAGED = resources.files("templora_cli.prompts")
OPTIONAL = frozenset(("source_language", "target_language"))
"""Placeholders that a prompt can do without: it may name the languages itself."""
_PLACEHOLDER = re.compile(r"\{([^\W\d]\w*)\}")


@dataclass(frozen=True)
class PromptFile:
    """The texts of one prompt file by table and key, and the hash that identifies them."""

    name: str
    texts: dict[str, dict[str, str]]
    sha256: str

    def text(self, table: str, key: str, **values: str) -> str:
        """A prompt with its `{placeholders}` filled in; other braces are left as they are."""
        text = self.texts[table][key]
        for name, value in values.items():
            text = text.replace("{" + name + "}", value)
        return text


def load_prompts(name: str, folder: str) -> PromptFile:
    """Prompt file `name` (such as "novel"): the one in `folder` if there is one, else the packaged one.

    Raises TemploraError where the folder is none or has no prompt file, or the file is no TOML, lacks a
    prompt or a placeholder, or has a placeholder that nothing is put in.
    """
    file = PACKAGED / f"{name}.toml"
    packaged = file.read_bytes()
    wanted = _parse(packaged, f"{name}.toml")
    own = Path(folder) / f"{name}.toml"
    if not folder or not _is_in(folder, own):
        return PromptFile(name, wanted, hashlib.sha256(packaged).hexdigest())
    content = own.read_bytes()
    texts = _parse(content, str(own))
    missing = [f"[{t}] {k}" for t, keys in wanted.items() for k in keys if k not in texts.get(t, {})]
    if missing:
        raise TemploraError(f"{own} lacks {', '.join(missing)}", f"copy them from {file}")
    _check_placeholders(str(own), texts, wanted)
    return PromptFile(name, texts, hashlib.sha256(content).hexdigest())


def _is_in(folder: str, own: Path) -> bool:
    """Is the file in the folder? Raises TemploraError where no prompt file is."""
    if not Path(folder).is_dir():
        raise TemploraError(f"prompts: there is no folder {folder}", "create it, or leave the setting out")
    names = sorted(file.name for file in PACKAGED.iterdir() if file.name.endswith(".toml"))
    if not any((Path(folder) / name).is_file() for name in names):
        raise TemploraError(f"prompts: {folder} has no {' and no '.join(names)}", f"copy one from {PACKAGED}")
    return own.is_file()


def _check_placeholders(
    source: str, texts: dict[str, dict[str, str]], packaged: dict[str, dict[str, str]]
) -> None:
    """Raise TemploraError where a text lacks a placeholder of the packaged one, or has another."""
    faults = []
    for table, keys in packaged.items():
        for key, text in keys.items():
            known = list(dict.fromkeys(_PLACEHOLDER.findall(text)))
            there = list(dict.fromkeys(_PLACEHOLDER.findall(texts[table][key])))
            found = [f"{{{name}}} is no placeholder here" for name in there if name not in known]
            found += [f"{{{name}}} is missing" for name in known if name not in {*there, *OPTIONAL}]
            if found:
                faults.append((f"[{table}] {key}", ", ".join(found), known))
    if faults:
        place, found_first, known = faults[0]
        more = f" (and {', '.join(place for place, _, _ in faults[1:])})" if faults[1:] else ""
        listed = " ".join(f"{{{name}}}" for name in known) or "none"
        raise TemploraError(f"{source}: {place}: {found_first}{more}", f"placeholders of {place}: {listed}")


def _parse(content: bytes, source: str) -> dict[str, dict[str, str]]:
    try:
        tables = tomli.loads(checked_text(content, source))
    except tomli.TOMLDecodeError as error:
        raise TemploraError(
            f"{source} is no TOML file: {error}", "mend that line, or move the file away"
        ) from None
    for table, prompts in tables.items():
        if not isinstance(prompts, dict) or not all(isinstance(text, str) for text in prompts.values()):
            raise TemploraError(
                f"{source}: [{table}] must be a table of texts", f"copy it from a file of {PACKAGED}"
            )
    return tables
