"""Languages by code or name."""

from __future__ import annotations

from dataclasses import dataclass

import langcodes

from templora_cli.errors import TemploraError


@dataclass(frozen=True)
class Language:
    """A language as people and libraries name it."""

    code: str
    """BCP 47, such as "zh" or "pt-BR"."""
    name: str
    """In English, such as "Chinese"; for prompts."""

    @property
    def base(self) -> str:
        """The code without script and region."""
        return self.code.split("-")[0]


def language(text: str) -> Language:
    """The language that `text` names, as a code or as a name in any language.

    Raises TemploraError where there is none.
    """
    known = None
    if langcodes.tag_is_valid(text):
        known = langcodes.get(text)
        known = known if known.is_valid() else None
    if known is None:
        try:
            known = langcodes.find(text)
        except LookupError:
            raise TemploraError(f"no language is called {text!r}", "a code or a name: zh, Chinese") from None
    return Language(known.to_tag(), known.display_name())
