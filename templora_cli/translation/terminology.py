"""Glossaries: how the terms and names of a book are to be translated, and whether they were."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from functools import cached_property, lru_cache

from templora_cli.translation.scripts import UNSPACED, script_runs, without_tags


@dataclass(frozen=True)
class Term:
    """A term or name of the source and its translation."""

    source: str
    target: str
    note: str = ""
    """For the model and for people: "she, the captain's sister"."""
    forbidden: tuple[str, ...] = ()
    """Translations that must not be used."""


@dataclass(frozen=True)
class Glossary:
    """Terms, each source once."""

    terms: tuple[Term, ...] = ()
    notices: tuple[str, ...] = ()
    """What was passed over when it was read, a line each."""

    def occurring_in(self, text: str) -> list[Term]:
        """The terms that stand in `text`, in the order in which they do, each once.

        Of terms that overlap the longest counts ("Iron Gate", not "Gate"), and in scripts with spaces only
        whole words do. A term that begins with a small letter is found in capitals too. Time grows with the
        length of the text, not with the number of terms.
        """
        return list(dict.fromkeys(term for term, _, _ in self.matches(text)))

    def matches(self, text: str) -> Iterator[tuple[Term, int, int]]:
        """Each occurrence in `text`, which is read without its tags: the term, its start and its end."""
        text = without_tags(text)
        folded, at = _fold(text), 0
        while at < len(text):
            for length in self._lengths.get(folded[at : at + 2], ()) or self._lengths.get(folded[at], ()):
                here = text[at : at + length]
                terms = self._by_source.get(folded[at : at + length], ())
                standing = [term for term in terms if _stands_alone(text, at, at + length, term)]
                if standing:
                    exact = [term for term in standing if term.source == here]
                    yield (exact or standing)[0], at, at + length
                    at += length
                    break
            else:
                at += 1

    @cached_property
    def _by_source(self) -> dict[str, tuple[Term, ...]]:
        """Terms by their source in small letters: "Rose" and "rose" may both be there."""
        terms: dict[str, tuple[Term, ...]] = {}
        for term in self.terms:
            if term.source:
                key = _fold(term.source)
                terms[key] = (*terms.get(key, ()), term)
        return terms

    @cached_property
    def _lengths(self) -> dict[str, tuple[int, ...]]:
        """The lengths of the terms that begin with two characters, longest first; a single one by itself."""
        lengths: dict[str, set[int]] = {}
        for source in self._by_source:
            lengths.setdefault(source[:2], set()).add(len(source))
        for start, found in lengths.items():
            if len(start) == 2 and start[0] in lengths:
                found.add(1)
        return {start: tuple(sorted(found, reverse=True)) for start, found in lengths.items()}


def _fold(text: str) -> str:
    """Lower case, character by character: places in it are places in `text`."""
    lower = text.lower()
    if len(lower) == len(text):
        return lower
    return "".join(char.lower() if len(char.lower()) == 1 else char for char in text)


def _stands_alone(text: str, start: int, end: int, term: Term) -> bool:
    """Whether `term` at that place is a whole word, and as capital as the glossary has it."""
    if term.source[0].isupper() and not text[start].isupper():
        return False
    return not (_joined(text, start) or (_joined(text, end) and not "가" <= text[end] <= "힣"))


def _joined(text: str, at: int) -> bool:
    """Whether the characters before and after a place belong to one word; Korean adds its particles."""
    if not 0 < at < len(text):
        return False
    pair = text[at - 1 : at + 1]
    return all(char.isalnum() or char == "_" for char in pair) and not any(
        script in UNSPACED for script, _ in script_runs(pair)
    )


_WORD = re.compile(r"[^\W_]+(?:['’][^\W_]+)*")
_UMLAUTS = str.maketrans("äöü", "aou")


def used(term: Term, target_text: str) -> bool:
    """Whether `target_text` has the translation of `term`, inflected or not.

    Case and tags do not count. A word may differ in its ending (Ritter, Rittern; city, cities; Haus, Häuser),
    so a few other words that begin like it pass too; in scripts without spaces the term must stand as it is.
    """
    text = without_tags(target_text)
    pattern = _rendering(term.target)
    if pattern is None:
        return "".join(term.target.split()).lower() in "".join(text.split()).lower()
    return pattern.search(text.lower().translate(_UMLAUTS)) is not None


def forbidden_in(term: Term, target_text: str) -> tuple[str, ...]:
    """The forbidden translations of `term` that `target_text` has, outside of the right one."""
    if not term.forbidden:
        return ()
    text = without_tags(target_text)
    pattern = _rendering(term.target)
    if pattern is None:
        rest = text.replace(term.target, "|")
    else:
        rest = pattern.sub("|", text.lower().translate(_UMLAUTS))
    return tuple(form for form in term.forbidden if used(Term(term.source, form), rest))


@lru_cache(maxsize=4096)
def _rendering(target: str) -> re.Pattern[str] | None:
    """Finds `target` with other endings; None where it has no words that are parted by spaces."""
    words = _WORD.findall(target.lower().translate(_UMLAUTS))
    if not words or any(script in UNSPACED for script, _ in script_runs(target)):
        return None
    return re.compile(r"\b" + r"[\W_]+".join(map(_inflected, words)) + r"(?!\w)")


def _inflected(word: str) -> str:
    """A pattern of `word` with other endings: the shorter the word, the fewer."""
    possessive = r"(?:['’]\w*)?"
    if not word.isalpha():
        return re.escape(word) + possessive
    if len(word) <= 3:
        return rf"{re.escape(word)}(?:e?s)?{possessive}"
    if len(word) >= 7:
        return rf"{re.escape(word[:-2])}\w{{0,5}}{possessive}"
    endings = r"\w{0,3}"
    if word[-1] in _VOWELS:  # city, cities; Anna, Annę; but not gate, gather
        return rf"{re.escape(word[:-1])}(?:[{_VOWELS}]{endings})?{possessive}"
    return rf"{re.escape(word)}{endings}{possessive}"


_VOWELS = "aeiouyáàâãåąæéèêëęíìîïıóòôõøœúùûůýаеёиоуыэюяіїє"

SIMILAR = 0.75
"""Likeness (`difflib`) from which a name is another spelling: "Mo Yan" for "Mo Yun", not "Mo Xingyu"."""
LETTERS_TO_COMPARE = 5
"""Names with fewer letters are alike by chance."""

_CAPITALS = re.compile(r"[^\W\d_]+(?:['’-][^\W\d_]+)*(?: [^\W\d_]+(?:['’-][^\W\d_]+)*)*")


def is_name(rendering: str) -> bool:
    """Whether all words of `rendering` have a capital: a name, which a pronoun may stand for."""
    words = _WORD.findall(rendering)
    return bool(words) and all(word[0].isupper() for word in words)


def misspelling(term: Term, target_text: str, renderings: Iterable[str]) -> str | None:
    """A name in `target_text` that seems to be the translation of `term` in another spelling.

    None where there is none, or where the translation is no name. The other `renderings` of the glossary are
    not taken for it, nor is a part of it ("Weber" for "Anna Weber").
    """
    own = _WORD.findall(term.target)
    wanted = "".join(own).lower()
    if not is_name(term.target) or len(wanted) < LETTERS_TO_COMPARE:
        return None
    text = without_tags(target_text)
    for other in renderings:
        if other != term.target and is_name(other):
            text = re.sub(rf"(?<!\w){re.escape(other)}(?!\w)", "|", text)
    best, found = SIMILAR, None
    for words in _capitalised_words(text):
        for count in range(max(1, len(own) - 1), len(own) + 2):
            for start in range(len(words) - count + 1):
                name = words[start : start + count]
                likeness = 0.0 if set(name) <= set(own) else _likeness("".join(name).lower(), wanted)
                if likeness >= best:
                    best, found = likeness, " ".join(name)
    return found


def _capitalised_words(text: str) -> Iterator[list[str]]:
    """Words with a capital that follow each other."""
    for match in _CAPITALS.finditer(text):
        words: list[str] = []
        for word in match.group().split(" "):
            bare = re.sub(r"['’]s?$", "", word)
            if word[0].isupper():
                words.append(bare)
            if not word[0].isupper() or bare != word:
                yield words
                words = []
        yield words


def _likeness(name: str, wanted: str) -> float:
    if name[:1] != wanted[:1] and name[-3:] != wanted[-3:]:
        return 0.0
    return SequenceMatcher(None, name, wanted, autojunk=False).ratio()


@dataclass(frozen=True)
class TermUse:
    """How a term was translated in a book."""

    term: Term
    occurrences: int
    """Paragraphs whose source has the term."""
    used: int
    """Of these, paragraphs whose translation has the term's."""
    others: tuple[tuple[str, int], ...]
    """What seems to stand there instead, and in how many paragraphs: forbidden translations first, then
    names that stand in paragraphs without the term's translation and hardly anywhere else."""


@dataclass(frozen=True)
class Consistency:
    """How a book keeps to its glossary."""

    terms: tuple[TermUse, ...]
    """Those that occur, the most neglected first."""

    @property
    def share(self) -> float:
        """Share of the occurrences that have the translation of the glossary; 1 where no term occurs."""
        occurrences = sum(use.occurrences for use in self.terms)
        return sum(use.used for use in self.terms) / occurrences if occurrences else 1.0


def consistency(pairs: Iterable[tuple[str, str]], glossary: Glossary) -> Consistency:
    """How often the translation of each term is used in `pairs` of source and target paragraphs."""
    occurrences: Counter[Term] = Counter()
    kept: Counter[Term] = Counter()
    missed: dict[Term, list[str]] = {}
    names: Counter[str] = Counter()
    for source, target in pairs:
        names.update(_names(target))
        for term in glossary.occurring_in(source):
            occurrences[term] += 1
            if used(term, target):
                kept[term] += 1
            else:
                missed.setdefault(term, []).append(target)
    renderings = [term.target for term in glossary.terms]
    uses = [
        TermUse(term, count, kept[term], _others(term, missed.get(term, ()), names, renderings))
        for term, count in occurrences.items()
    ]
    return Consistency(tuple(sorted(uses, key=lambda use: (use.used - use.occurrences, use.term.source))))


def _others(
    term: Term, targets: Sequence[str], names: Counter[str], renderings: Sequence[str]
) -> tuple[tuple[str, int], ...]:
    """What `targets`, which lack the translation of `term`, have in its place."""
    forbidden = Counter(form for text in targets for form in forbidden_in(term, text))
    here = Counter(name for text in targets for name in _names(text))
    guessed = [
        (name, count)
        for name, count in here.most_common(20)
        if count >= 2
        and count >= 0.6 * names[name]
        and not any(name.lower() in rendering.lower() for rendering in renderings)
    ]
    return (*forbidden.most_common(), *guessed[:3])


_NAME = re.compile(r"(?<![.!?…“\"‘'»«:] )(?<!^)\b[^\W\d_a-z]\w+(?:[ -][^\W\d_a-z]\w+)*")


def _names(text: str) -> set[str]:
    """Words with a capital within sentences: names, in languages that write them so."""
    return {name for name in _NAME.findall(without_tags(text)) if name[0].isupper()}
