"""Names of sessions: words of any script that are easy to type and valid as folder names on every system."""

from __future__ import annotations

import unicodedata

from templora_cli.errors import TemploraError

MAX_BYTES = 64
"""Length limit of a name in UTF-8, so that file names derived from it suit every file system."""
MAX_GENERATED_BYTES = 40
"""Length limit of a generated name, without its random digits."""
SEARCHED_CHARACTERS = 1000
"""How many characters of a text are searched for a name."""
MAX_WORD, MAX_UNSPACED_WORD = 12, 6
"""Characters of a word in a generated name, and of a word in a script without spaces between words."""
MAX_SHORT_WORD = 3
"""Letters of words such as "the", which are skipped in scripts that have capitals."""

RESERVED = {"con", "prn", "aux", "nul", *(f"{port}{n}" for port in ("com", "lpt") for n in range(10))}
"""Names that Windows reserves."""
RULE = "a name has lower-case letters and digits of any script, with - or _ between them"
_INVISIBLE = {0x034F, 0x115F, 0x1160, 0x17B4, 0x17B5, *range(0x180B, 0x1810), *range(0xFE00, 0xFE10)}
"""Invisible letters and marks, which nobody could type."""
_AS_TYPED = (("\u0e4d\u0e32", "\u0e33"), ("\u0ecd\u0eb2", "\u0eb3"), ("i\u0307", "i"))
"""What NFKC and lower case make of a Thai vowel, a Lao vowel and the Turkish İ, and what people type."""
_UNSPACED = (
    *((0x0E00, 0x0FFF), (0x1000, 0x109F), (0x1780, 0x17FF), (0x2E80, 0x30FF), (0x3400, 0x9FFF)),
    *((0xF900, 0xFAFF), (0x20000, 0x3FFFF)),
)
"""Thai, Lao and Tibetan; Burmese; Khmer; Japanese and Chinese."""


def fold_name(name: str) -> str:
    """A name in the form for comparison: Unicode normalised, and without case."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())


def name_from_text(text: str, *, in_ascii: bool = False) -> str:
    """A name from the first two significant words of a text; "book" if it has none.

    `in_ascii` spells other scripts by the names of their letters, for file systems that reject them.
    """
    words = _slug(text[:SEARCHED_CHARACTERS]).replace("_", "-").split("-")
    if in_ascii:
        words = [spelt for word in words if (spelt := _spell_in_ascii(word))]
    for min_length in (MAX_SHORT_WORD + 1, 2, 1):
        if significant := [word for word in words if len(word) >= min_length or _is_caseless(word)]:
            return _truncated("-".join(map(_shortened, significant[:2])), MAX_GENERATED_BYTES)
    return "book"


def checked_name(name: str, hint: str) -> str:
    """A name from the user, in the form that is stored.

    Raises TemploraError if it is not valid; the `{}` in `hint` is replaced by a similar valid name.
    """
    slug, normalized = _slug(name), unicodedata.normalize("NFC", name)
    if slug and slug == normalized and slug not in RESERVED and len(slug.encode()) <= MAX_BYTES:
        return slug
    valid = _truncated(slug, MAX_BYTES) or "book"
    valid = f"{valid}-book" if valid in RESERVED else valid
    if not slug or slug != normalized:
        reason = RULE
    elif slug in RESERVED:
        reason = "Windows reserves this name"
    else:
        reason = f"it has {len(slug.encode())} bytes, the limit is {MAX_BYTES}"
    raise TemploraError(f'a session cannot be called "{name}": {reason}', hint.format(valid))


def _slug(text: str) -> str:
    """The words of a text in lower case, joined by single - or _ instead of all other characters."""
    text = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).lower())
    for decomposed, typed in _AS_TYPED:
        text = text.replace(decomposed, typed)
    characters: list[str] = []
    for character in text:
        in_word = bool(characters) and characters[-1] not in "-_"
        if ord(character) in _INVISIBLE or ord(character) > 0xE0000:
            continue
        if character.isalnum() or (in_word and unicodedata.category(character) in ("Mn", "Mc")):
            characters.append(character)
        elif in_word:
            characters.append("_" if character == "_" else "-")
    return "".join(characters).rstrip("-_")


def _is_caseless(word: str) -> bool:
    """Is the word in a script without capitals, where even one character may be a whole word?"""
    return word.upper() == word.lower() and any(map(str.isalpha, word))


def _shortened(word: str) -> str:
    unspaced = any(first <= ord(word[0]) <= last for first, last in _UNSPACED)
    return word[: MAX_UNSPACED_WORD if unspaced else MAX_WORD]


def _truncated(name: str, max_bytes: int) -> str:
    """The name cut to `max_bytes`, without - or _ at its end."""
    return name.encode()[:max_bytes].decode(errors="ignore").rstrip("-_")


def _spell_in_ascii(word: str) -> str:
    """The word in a to z and digits: each letter without its accents, or spelt by its Unicode name."""
    parts = []
    for letter in unicodedata.normalize("NFC", word.casefold()):
        bare = unicodedata.normalize("NFKD", letter)[:1]
        name = unicodedata.name(letter if "HANGUL" in unicodedata.name(letter, "") else bare, "")
        sound = name.rpartition(" LETTER ")[2] if " LETTER " in name else name.partition(" SYLLABLE ")[2]
        spelt = sound.removeprefix("SMALL ").partition(" ")[0].lower()
        parts.append(bare if bare.isascii() else spelt if spelt.isalpha() and "SIGN" not in sound else "")
    return "".join(parts)
