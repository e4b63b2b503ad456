"""Languages by code or name, and language detection."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from difflib import get_close_matches
from functools import lru_cache
from typing import Any

from templora_cli.errors import TemploraError

MIN_PROBABILITY = 0.9
"""Results of the identifier with a lower probability are ignored. Above it, no result was wrong in 9,500
paragraphs of English (GuoFeng, PG-19) or 7,900 of 12 other languages (manual pages), long or short."""

MIN_LATIN_LENGTH = 20
"""A text with a smaller `scripts.latin_length` is too short to identify."""

SAMPLE_CHARACTERS = 4000
"""Characters of a longer text that are enough to identify it."""


_WITHOUT_SPACES = ("zh", "cmn", "yue", "wuu", "lzh", "ja", "th", "lo", "km", "my", "bo", "dz")

_NO_LANGUAGES = (None, "und", "mul", "mis")
"""Codes for texts in an undetermined language, in several, or in one without a code."""


@dataclass(frozen=True)
class Language:
    """A language with its code and name."""

    code: str
    """BCP 47, such as "zh" or "pt-BR"."""
    name: str
    """In English, such as "Chinese"; for prompts."""

    @property
    def has_spaces(self) -> bool:
        """Whether the language has spaces between words and sentences."""
        return self.base not in _WITHOUT_SPACES

    @property
    def base(self) -> str:
        """The code without script and region."""
        return self.code.split("-")[0]


def language(text: str) -> Language:
    """The language with the code or name `text`; the name may be in any language of the identifier.

    Raises TemploraError if there is none, with the nearest name.
    """
    import langcodes  # takes 0.05 s, which light commands avoid

    tag = None
    if langcodes.tag_is_valid(text):
        tag = langcodes.get(text)
        is_one = tag.is_valid() and tag.language not in _NO_LANGUAGES and tag.display_name()[:7] != "Unknown"
        tag = tag if is_one else None
    tag = tag or _named(text)
    if tag is None:
        near = _nearest_name(text)
        meant = f"; did you mean {near}?" if near else ""
        example = language(near) if near else Language("zh", "Chinese")
        raise TemploraError(
            f"{text!r} is not a language{meant}",
            f"languages are given by name or BCP 47 code: {example.name} or {example.code}",
        )
    return Language(tag.to_tag(), tag.display_name())


def _named(name: str) -> Any:
    """The tag of the language with this name in English, in itself or in a language of the identifier.

    Names in other languages are not taken: they look like misspelt English ("frensh" in Tok Pisin).
    """
    import langcodes

    try:
        tag = langcodes.find(name)
    except LookupError:
        return None
    for code in ("en", tag.language, *_identified()):
        try:
            return langcodes.find(name, code)
        except (LookupError, OSError):  # OSError: no names in that language
            continue
    return None


def _nearest_name(text: str) -> str | None:
    """The English name of a language of the identifier that `text` may stand for."""
    import langcodes

    names = {name.lower(): name for code in _identified() for name in [langcodes.get(code).display_name()]}
    return next((names[near] for near in get_close_matches(text.lower(), names, 1)), None)


def detect_language(text: str) -> Language | None:
    """The language of `text`; None if the text is too short or too mixed to be sure.

    Only the middle of a long text is read, because a book may begin with a licence in another language. The
    first call loads the identifier (0.6 s); a paragraph then takes about 0.3 ms.
    """
    start = max(0, (len(text) - SAMPLE_CHARACTERS) // 2)
    code = detect_code(text[start : start + SAMPLE_CHARACTERS])
    return None if code is None else language(code)


@lru_cache(maxsize=4096)  # the same texts come again when a paragraph is retried
def detect_code(text: str) -> str | None:
    """The code of the language of `text`, all of which is read; None if it is not sure."""
    from templora_cli.scripts import latin_length, without_tags

    text = without_tags(text)
    if latin_length(text) < MIN_LATIN_LENGTH:
        return None
    code, probability = _detect_by_script(text) or _identifier().classify(text)
    return str(code) if probability > MIN_PROBABILITY else None


def _detect_by_script(text: str) -> tuple[str, float] | None:
    """(code, probability) for Chinese, Japanese and Korean, whose characters decide it in shorter texts than
    the identifier needs; None for other languages.
    """
    from templora_cli.scripts import latin_length, script_runs

    letters: Counter[str] = Counter()
    for script, run in script_runs(text):
        letters[script] += len(run)
    kana, han, hangul = letters["Hira"] + letters["Kana"], letters["Hani"], letters["Hang"]
    length = latin_length(text)
    if 2 * (length - letters["Latn"]) < length:
        return None
    if hangul > han + kana:
        return "ko", 1.0
    if han + kana > sum(letters.values()) - han - kana - letters["Latn"]:
        return ("ja" if kana > 0.1 * han else "zh"), 1.0
    return None


@lru_cache(maxsize=1)
def _identifier() -> Any:
    """A separate identifier: other code could reconfigure the one behind the library's module functions."""
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)


def _identified() -> list[str]:
    """The codes of the languages that the identifier knows."""
    return [code for code in map(str, _identifier().nb_classes) if code != "zxx"]  # zxx: no language


def same_language(code: str, other: str) -> bool:
    """Whether two base codes are the same language, or so similar that the identifier confuses them."""
    return code == other or any(code in group and other in group for group in _SIMILAR_LANGUAGES)


_SIMILAR_LANGUAGES = (
    {"no", "nb", "nn", "da"},
    {"hr", "bs", "sr", "sh"},
    {"id", "ms"},
    {"zh", "yue", "wuu", "lzh"},
    {"fa", "prs"},
    {"tl", "fil"},
    {"gl", "pt"},
)
