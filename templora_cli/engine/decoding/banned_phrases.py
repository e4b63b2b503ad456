"""Words and phrases that must not be in the prose, and finding them in a text that grows.

A phrase is found in the text, not in its tokens, because many sequences of tokens can write it. koboldcpp
("anti-slop", after Sam Paech's antislop-sampler) and ExLlamaV2 ("banned strings") do the same.

A phrase matches in any capitalisation and only as whole words: "art" is not in "start", but it is in "art's".
White space matches any white space, and straight quotes match typographic ones. In scripts without spaces
between words a phrase matches anywhere, and also in Korean, where particles follow words without a space.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import NamedTuple

from templora_cli.errors import TemploraError

MAX_PHRASES = 10_000
MAX_LENGTH = 100
"""The maximum number of characters of a phrase."""

_UNSPACED = re.compile(
    r"[\u0e00-\u0eff\u0f00-\u0fff\u1000-\u109f\u1100-\u11ff\u1780-\u17ff\u3040-\u30ff\u3130-\u318f"
    r"\u31f0-\u31ff\u3400-\u9fff\uac00-\ud7ff\uf900-\ufaff\U00020000-\U0003ffff]"
)
"""Thai, Lao, Tibetan, Burmese, Khmer, Chinese, Japanese and Korean."""
_SAME = {
    **dict.fromkeys("‘’ʼ′", "'"),
    **dict.fromkeys("“”„″", '"'),
    **dict.fromkeys("‐‑", "-"),
    "…": "...",
}
"""Characters that count as others."""
_COMMON_WORDS = {
    "English": "the an and of to in that it is was for you he be with as by at have are this not but had his "
    "they from she which or we her him my me so no if",
    "German": "der das und ist nicht ich sie er zu den dem mit ein eine es",
    "French": "le la les de des et un une est que il elle je ne pas",
    "Spanish": "el los las en se su lo",
    "Italian": "di che non gli",
    "Portuguese": "os do da em um uma não",
    "Dutch": "het een ik hij zij dat niet",
    "Russian": "не на что он она но это как",
    "Chinese": "的 了 是 不 我 一 在 他 她 你 有",
    "Japanese": "の に は を た が で て と も し い",
    "Korean": "이 가 는 은 을 를 에 다",
}
"""Words without which hardly a page is written, and that are no rarer word of another of these languages."""
_COMMON = frozenset(word for words in _COMMON_WORDS.values() for word in words.split())


def phrases_in(text: str, source: str) -> tuple[str, ...]:
    """The phrases of a file, one in each line; empty lines and lines that begin with "#" are skipped.

    `source` is its name in error messages. Raises TemploraError for a phrase that cannot be banned, and if
    there are none or too many.
    """
    lines = {f"{source}, line {number}": line.strip() for number, line in enumerate(text.split("\n"), 1)}
    phrases = {label: line for label, line in lines.items() if line and not line.startswith("#")}
    if not phrases:
        raise TemploraError(f"{source} has no phrases", "write one in each line")
    return _distinct(phrases, source)


def checked_phrases(phrases: Sequence[str], label: str = "banned phrase {number}") -> tuple[str, ...]:
    """The phrases without those that match the same texts as an earlier one.

    `label` names a phrase in error messages by its {number} or itself, {phrase}. Raises TemploraError for a
    phrase that cannot be banned, and if they are too many.
    """
    labels = {label.format(number=number, phrase=phrase): phrase for number, phrase in enumerate(phrases, 1)}
    return _distinct(labels, "the list of banned phrases")


def _distinct(phrases: Mapping[str, str], source: str) -> tuple[str, ...]:
    """The phrases, by their names in error messages, without those that match the same texts."""
    distinct: dict[str, str] = {}
    for label, phrase in phrases.items():
        if reason := _refusal(phrase):
            hint = "remove it" if len(phrase) > MAX_LENGTH else "remove it, or ban a longer phrase with it"
            raise TemploraError(f"{label}: {reason}", hint)
        distinct.setdefault(_folded(phrase), " ".join(phrase.split()))
    if len(distinct) > MAX_PHRASES:
        raise TemploraError(
            f"{source} has {len(distinct):,} phrases; at most {MAX_PHRASES:,} can be banned", "shorten it"
        )
    return tuple(distinct.values())


def _refusal(phrase: str) -> str | None:
    """Why a phrase cannot be banned, in words; None if it can."""
    if not phrase.strip():
        return "the phrase is empty"
    if not any(map(str.isalnum, phrase)):
        return f"“{phrase.strip()}” has no letter or digit"
    if len(phrase) > MAX_LENGTH:
        return f"the phrase has {len(phrase)} characters; at most {MAX_LENGTH} can be banned"
    if (folded := _folded(phrase)) in _COMMON or (len(folded) == 1 and _is_word(folded)):
        return f"“{phrase.strip()}” is so common that hardly anything can be written without it"
    return None


class _Node:
    """The phrases that begin with the same characters."""

    __slots__ = ("children", "phrase")

    def __init__(self) -> None:
        self.children: dict[str, _Node] = {}
        self.phrase: str | None = None
        """The phrase that ends here."""

    def after(self, chars: str) -> _Node | None:
        """The node that follows `chars`; None if no phrase goes on like that."""
        node: _Node | None = self
        for char in chars:
            node = node and node.children.get(char)
        return node


class Match(NamedTuple):
    """A phrase in the text."""

    start: int
    """The number of characters before it."""
    phrase: str


class Reading(NamedTuple):
    """The state after a text was read."""

    length: int = 0
    """Characters read."""
    last: str = ""
    """The last of them."""
    begun: tuple[tuple[int, _Node], ...] = ()
    """Phrases whose beginning is the end of the text: the number of characters before each, and its node."""
    whole: tuple[Match, ...] = ()
    """Phrases at the end of the text. They match unless a letter follows."""

    @property
    def start(self) -> int | None:
        """The number of characters before the first phrase that may match later; None if there is none."""
        return min((start for start, _ in (*self.begun, *self.whole)), default=None)


class BannedPhrases:
    """A set of phrases that are searched at once. It is false if there are none."""

    def __init__(self, phrases: Sequence[str] = ()) -> None:
        """`phrases` must have passed `checked_phrases`."""
        self.phrases = tuple(phrases)
        self._root = _Node()
        for phrase in self.phrases:
            node = self._root
            for char in _folded(phrase):
                node = node.children.setdefault(char, _Node())
            node.phrase = phrase

    def __bool__(self) -> bool:
        return bool(self.phrases)

    def read(self, reading: Reading, text: str) -> tuple[Reading, list[Match]]:
        """Read on with `text`: the state after it, and the matches that are certain now, the first first."""
        matches: list[Match] = []
        length, last, begun, whole = reading
        for char in text:
            folded = _fold(char)
            if folded and not folded == last == " ":
                joined = _is_word(last) and _is_word(char)
                matches += () if joined else whole
                starts = begun if joined else (*begun, (length, self._root))
                nodes = [(start, node) for start, at in starts if (node := at.after(folded)) is not None]
                begun = tuple(entry for entry in nodes if entry[1].children)
                whole = tuple(Match(start, node.phrase) for start, node in nodes if node.phrase is not None)
                last = folded if folded == " " else char
                if not _is_word(char):  # no letter can continue it
                    matches += whole
                    whole = ()
            length += 1
        return Reading(length, last, begun, whole), sorted(matches)


NO_PHRASES = BannedPhrases()


def _folded(phrase: str) -> str:
    """The phrase as it is compared."""
    text = "".join(map(_fold, unicodedata.normalize("NFC", phrase)))
    return re.sub(" +", " ", text).strip()


@lru_cache(maxsize=65_536)
def _fold(char: str) -> str:
    """A character as it is compared; "" if it does not count, as a soft hyphen."""
    if char.isspace():
        return " "
    return "" if unicodedata.category(char) == "Cf" else _SAME.get(char) or char.casefold()


@lru_cache(maxsize=65_536)
def _is_word(char: str) -> bool:
    """Is it part of a word in a script with spaces between words?"""
    is_letter = char.isalnum() or unicodedata.category(char or " ").startswith("M")
    return is_letter and not _UNSPACED.match(char)
