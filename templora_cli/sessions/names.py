"""Names of sessions: words of any script, easily typed, one folder name on Linux, macOS and Windows alike."""

from __future__ import annotations

import unicodedata

from templora_cli.errors import TemploraError

MOST_BYTES = 64
"""Of a name, in UTF-8: that of a file made from it stays short enough for every file system."""
MOST_BYTES_OF_WORDS = 40
"""Of a name that is made from a text, before its random digits."""
READ = 1000
"""Characters of a text that its name is made from."""
LONGEST_WORD, LONGEST_UNSPACED = 12, 6
"""Characters of a word in a name, and of a run of a script that has no spaces between words."""
SHORT = 3
"""Letters of words such as "the", which say little where a script has capitals."""

RESERVED = {"con", "prn", "aux", "nul", *(f"{port}{n}" for port in ("com", "lpt") for n in range(10))}
"""Names that Windows keeps for itself."""
RULE = "a name has lower-case letters and digits of any script, with - or _ between them"
_INVISIBLE = {0x034F, 0x115F, 0x1160, 0x17B4, 0x17B5, *range(0x180B, 0x1810), *range(0xFE00, 0xFE10)}
"""Letters and marks that nobody could see, and so could not type."""
_UNSPACED = (
    *((0x0E00, 0x0FFF), (0x1000, 0x109F), (0x1780, 0x17FF), (0x2E80, 0x30FF), (0x3400, 0x9FFF)),
    *((0xF900, 0xFAFF), (0x20000, 0x3FFFF)),
)
"""Thai, Lao and Tibetan; Burmese; Khmer; Japanese and Chinese."""


def folded(name: str) -> str:
    """A name as names are compared: whichever way its accents are encoded, and however it is capitalised."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())


def name_of(text: str, *, in_ascii: bool = False) -> str:
    """A name from the first telling words of a text; "book" where it has none.

    `in_ascii` spells other scripts by the names of their letters, for a disk that takes no others.
    """
    words = _plain(text[:READ]).replace("_", "-").split("-")
    if in_ascii:
        words = [spelt for word in words if (spelt := _spelt(word))]
    for least in (SHORT + 1, 2, 1):
        if telling := [word for word in words if len(word) >= least or _is_never_short(word)]:
            return _fitting("-".join(map(_shortened, telling[:2])), MOST_BYTES_OF_WORDS)
    return "book"


def checked_name(name: str, hint: str) -> str:
    """The name that a person gives, in the form in which it is kept.

    Raises TemploraError where it is none, with a `hint` in which `{}` stands for one that would do.
    """
    plain, given = _plain(name), unicodedata.normalize("NFC", name)
    if plain and plain == given and plain not in RESERVED and len(plain.encode()) <= MOST_BYTES:
        return plain
    fitting = _fitting(plain, MOST_BYTES) or "book"
    fitting = f"{fitting}-book" if fitting in RESERVED else fitting
    if not plain or plain != given:
        reason = RULE
    elif plain in RESERVED:
        reason = "Windows takes no such folder"
    else:
        reason = f"it takes {len(plain.encode())} bytes of at most {MOST_BYTES}"
    raise TemploraError(f'a session cannot be called "{name}": {reason}', hint.format(fitting))


def _plain(text: str) -> str:
    """The words of a text in lower case, with one - where anything else stands between them, or one _."""
    text = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).lower())
    kept: list[str] = []
    for character in text:
        in_word = bool(kept) and kept[-1] not in "-_"
        if ord(character) in _INVISIBLE or ord(character) > 0xE0000:
            continue
        if character.isalnum() or (in_word and unicodedata.category(character) in ("Mn", "Mc")):
            kept.append(character)
        elif in_word:
            kept.append("_" if character == "_" else "-")
    return "".join(kept).rstrip("-_")


def _is_never_short(word: str) -> bool:
    """Is it of a script without capitals, where two characters say a lot?"""
    return word.upper() == word.lower() and any(map(str.isalpha, word))


def _shortened(word: str) -> str:
    unspaced = any(first <= ord(word[0]) <= last for first, last in _UNSPACED)
    return word[: LONGEST_UNSPACED if unspaced else LONGEST_WORD]


def _fitting(name: str, most: int) -> str:
    """As much of it as that many bytes hold, ending in a word."""
    return name.encode()[:most].decode(errors="ignore").rstrip("-_")


def _spelt(word: str) -> str:
    """In the letters a to z and digits: each letter as it is, without its accents, or by its Unicode name."""
    parts = []
    for letter in unicodedata.normalize("NFC", word.casefold()):
        bare = unicodedata.normalize("NFKD", letter)[:1]
        name = unicodedata.name(letter if "HANGUL" in unicodedata.name(letter, "") else bare, "")
        sound = name.rpartition(" LETTER ")[2] if " LETTER " in name else name.partition(" SYLLABLE ")[2]
        spelt = sound.removeprefix("SMALL ").partition(" ")[0].lower()
        parts.append(bare if bare.isascii() else spelt if spelt.isalpha() and "SIGN" not in sound else "")
    return "".join(parts)
