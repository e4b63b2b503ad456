"""Every word that is sent to a model, from `prompts/*.toml` or a folder of the user's own."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

import tomli

from templora_cli.errors import TemploraError


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

    Raises TemploraError where the folder is none, or the file is no TOML or lacks a prompt.
    """
    packaged = (resources.files("templora_cli.prompts") / f"{name}.toml").read_bytes()
    wanted = _parse(packaged, f"{name}.toml")
    if not folder:
        return PromptFile(name, wanted, hashlib.sha256(packaged).hexdigest())
    if not Path(folder).is_dir():
        raise TemploraError(f"prompts: there is no folder {folder}", "create it, or leave the setting out")
    own = Path(folder) / f"{name}.toml"
    if not own.is_file():
        return PromptFile(name, wanted, hashlib.sha256(packaged).hexdigest())
    content = own.read_bytes()
    texts = _parse(content, str(own))
    missing = [f"[{t}] {k}" for t, keys in wanted.items() for k in keys if k not in texts.get(t, {})]
    if missing:
        raise TemploraError(f"{own} lacks {', '.join(missing)}", "copy them from the packaged file")
    return PromptFile(name, texts, hashlib.sha256(content).hexdigest())


def _parse(content: bytes, source: str) -> dict[str, dict[str, str]]:
    try:
        tables = tomli.loads(content.decode("utf-8"))
    except (tomli.TOMLDecodeError, UnicodeDecodeError) as error:
        raise TemploraError(
            f"{source} is no TOML file: {error}", "mend that line, or move the file away"
        ) from None
    for table, prompts in tables.items():
        if not isinstance(prompts, dict) or not all(isinstance(text, str) for text in prompts.values()):
            raise TemploraError(
                f"{source}: [{table}] must be a table of texts", "copy it from the packaged file"
            )
    return tables
