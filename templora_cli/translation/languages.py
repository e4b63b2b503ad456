"""Languages by code or name, and the language of a text."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from templora_cli.errors import TemploraError

SURE = 0.9
"""Probability from which the identifier is believed: above it, it was never wrong in 9,500 paragraphs of
English (GuoFeng, PG-19) nor in 7,900 of 12 other languages (manual pages), long or short."""

LETTERS_TO_IDENTIFY = 20
"""Below this, in letters of Latin script (see `scripts.weight`), a text is not identified."""

LETTERS_TO_READ = 4000
"""Of a longer text, this much is enough to tell."""


_WITHOUT_SPACES = ("zh", "cmn", "yue", "wuu", "lzh", "ja", "th", "lo", "km", "my", "bo", "dz")


@dataclass(frozen=True)
class Language:
    """A language as people and libraries name it."""

    code: str
    """BCP 47, such as "zh" or "pt-BR"."""
    name: str
    """In English, such as "Chinese"; for prompts."""

    @property
    def has_spaces(self) -> bool:
        """Does it put spaces between words and sentences?"""
        return self.base not in _WITHOUT_SPACES

    @property
    def base(self) -> str:
        """The code without script and region."""
        return self.code.split("-")[0]


def language(text: str) -> Language:
    """The language that `text` names, as a code or as a name in any language.

    Raises TemploraError where there is none.
    """
    import langcodes  # a twentieth of a second, which light commands need not spend

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


def detect_language(text: str) -> Language | None:
    """The language that `text` is written in; None where it is too short or too mixed to be sure.

    Of a long text the middle is read: before a book there may be a licence in another language. The first
    call loads the identifier (0.6 s); a paragraph then takes about 0.3 ms.
    """
    start = max(0, (len(text) - LETTERS_TO_READ) // 2)
    code = detect_code(text[start : start + LETTERS_TO_READ])
    return None if code is None else language(code)


@lru_cache(
    maxsize=4096
)  # the same paragraph is asked for whole and by its sentences, before and after a retry
def detect_code(text: str) -> str | None:
    """The code of `detect_language`."""
    from templora_cli.translation.scripts import weight, without_tags

    text = without_tags(text)
    if weight(text) < LETTERS_TO_IDENTIFY:
        return None
    code, probability = _by_script(text) or _identifier().classify(text)
    return str(code) if probability > SURE else None


def _by_script(text: str) -> tuple[str, float] | None:
    """Chinese, Japanese and Korean by their characters, which say it sooner than the identifier is sure."""
    from templora_cli.translation.scripts import script_runs, weight

    letters: Counter[str] = Counter()
    for script, run in script_runs(text):
        letters[script] += len(run)
    kana, han, hangul = letters["Hira"] + letters["Kana"], letters["Hani"], letters["Hang"]
    if 2 * (weight(text) - letters["Latn"]) < weight(text):
        return None
    if hangul > han + kana:
        return "ko", 1.0
    if han + kana > sum(letters.values()) - han - kana - letters["Latn"]:
        return ("ja" if kana > 0.1 * han else "zh"), 1.0
    return None


@lru_cache(maxsize=1)
def _identifier() -> Any:
    """An identifier of our own: that of the library's module functions is one that others can set."""
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)


def same_language(code: str, other: str) -> bool:
    """Whether two base codes are one language, or so near that the identifier cannot be trusted with them."""
    return code == other or any(code in group and other in group for group in _NEAR)


_NEAR = (
    {"no", "nb", "nn", "da"},
    {"hr", "bs", "sr", "sh"},
    {"id", "ms"},
    {"zh", "yue", "wuu", "lzh"},
    {"fa", "prs"},
    {"tl", "fil"},
    {"gl", "pt"},
)
