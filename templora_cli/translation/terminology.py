"""Glossaries: the translations of a book's terms and names, and whether a text uses them."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from functools import cached_property, lru_cache

from templora_cli.scripts import UNSPACED, script_runs, without_tags


@dataclass(frozen=True)
class Term:
    """A term or name of the source and its translation."""

    source: str
    target: str
    note: str = ""
    """For the model and for people, such as "she, the captain's sister"."""
    forbidden: tuple[str, ...] = ()
    """Translations that must not be used."""


@dataclass(frozen=True)
class Glossary:
    """Terms with unique sources."""

    terms: tuple[Term, ...] = ()
    notices: tuple[str, ...] = ()
    """Messages about entries that were skipped when the file was read."""

    def occurring_in(self, text: str) -> list[Term]:
        """The terms that occur in `text`, in order and each once.

        Of overlapping terms the longest counts ("Iron Gate", not "Gate"). In scripts with spaces only whole
        words match. A lower-case term also matches in capitals. Time grows with the length of the text, not
        with the number of terms.
        """
        return list(dict.fromkeys(term for term, _, _ in self.matches(text)))

    def matches(self, text: str) -> Iterator[tuple[Term, int, int]]:
        """Each occurrence as (term, start, end); the offsets are those of `text` without its tags."""
        text = without_tags(text)
        folded, start = _fold(text), 0
        while start < len(text):
            two, one = folded[start : start + 2], folded[start]
            for length in self._lengths.get(two, ()) or self._lengths.get(one, ()):
                end = start + length
                same_letters = self._by_source.get(folded[start:end], ())
                terms = [term for term in same_letters if _matches_at(term, text, start, end)]
                if terms:
                    exact = [term for term in terms if term.source == text[start:end]]
                    yield (exact or terms)[0], start, end
                    start = end
                    break
            else:
                start += 1

    @cached_property
    def _by_source(self) -> dict[str, tuple[Term, ...]]:
        """Terms by their source in lower case, which "Rose" and "rose" share."""
        terms: dict[str, tuple[Term, ...]] = {}
        for term in self.terms:
            if term.source:
                key = _fold(term.source)
                terms[key] = (*terms.get(key, ()), term)
        return terms

    @cached_property
    def _lengths(self) -> dict[str, tuple[int, ...]]:
        """Lengths of the terms by their first two characters, or their only one; the longest first."""
        lengths: dict[str, set[int]] = {}
        for source in self._by_source:
            lengths.setdefault(source[:2], set()).add(len(source))
        for prefix, values in lengths.items():
            if len(prefix) == 2 and prefix[0] in lengths:
                values.add(1)
        return {prefix: tuple(sorted(values, reverse=True)) for prefix, values in lengths.items()}


def _fold(text: str) -> str:
    """`text` in lower case with the same length, so that offsets are valid in both."""
    lower = text.lower()
    if len(lower) == len(text):
        return lower
    return "".join(char.lower() if len(char.lower()) == 1 else char for char in text)


def _matches_at(term: Term, text: str, start: int, end: int) -> bool:
    """Whether the text from `start` to `end` is a whole word, with a capital if the term has one."""
    if term.source[0].isupper() and not text[start].isupper():
        return False
    # Korean particles are attached to the word before them.
    return not (
        _is_inside_word(text, start) or (_is_inside_word(text, end) and not "가" <= text[end] <= "힣")
    )


def _is_inside_word(text: str, offset: int) -> bool:
    """Whether the characters before and after `offset` belong to the same word."""
    if not 0 < offset < len(text):
        return False
    pair = text[offset - 1 : offset + 1]
    return all(char.isalnum() or char == "_" for char in pair) and not any(
        script in UNSPACED for script, _ in script_runs(pair)
    )


_WORD = re.compile(r"[^\W_]+(?:['’][^\W_]+)*")
_UMLAUTS = str.maketrans("äöü", "aou")


def is_used(term: Term, target_text: str) -> bool:
    """Whether `target_text` has the translation of `term`, inflected or not.

    Case and tags are ignored. A word may differ in its ending (Ritter, Rittern; city, cities; Haus, Häuser),
    so a few other words with the same beginning match too. In scripts without spaces only the exact term
    matches.
    """
    text = without_tags(target_text)
    pattern = _rendering_pattern(term.target)
    if pattern is None:
        return "".join(term.target.split()).lower() in "".join(text.split()).lower()
    return pattern.search(text.lower().translate(_UMLAUTS)) is not None


def forbidden_in(term: Term, target_text: str) -> tuple[str, ...]:
    """The forbidden translations of `term` in `target_text`, except inside of the right one."""
    if not term.forbidden:
        return ()
    text = without_tags(target_text)
    pattern = _rendering_pattern(term.target)
    if pattern is None:
        rest = text.replace(term.target, "|")
    else:
        rest = pattern.sub("|", text.lower().translate(_UMLAUTS))
    return tuple(form for form in term.forbidden if is_used(Term(term.source, form), rest))


@lru_cache(maxsize=4096)
def _rendering_pattern(target: str) -> re.Pattern[str] | None:
    """Matches `target` with any endings; None if its script has no spaces between words."""
    words = _WORD.findall(target.lower().translate(_UMLAUTS))
    if not words or any(script in UNSPACED for script, _ in script_runs(target)):
        return None
    return re.compile(r"\b" + r"[\W_]+".join(map(_inflected_pattern, words)) + r"(?!\w)")


def _inflected_pattern(word: str) -> str:
    """Matches `word` with other endings; a short word has fewer of them."""
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

MIN_SIMILARITY = 0.75
"""Minimum similarity (`difflib`) of two spellings of a name: "Mo Yan" for "Mo Yun", but not "Mo Xingyu"."""
MIN_NAME_LETTERS = 5
"""Shorter names may be similar by chance."""

_CAPITALS = re.compile(r"[^\W\d_]+(?:['’-][^\W\d_]+)*(?: [^\W\d_]+(?:['’-][^\W\d_]+)*)*")


def is_name(rendering: str) -> bool:
    """Whether all words of `rendering` have a capital: a name, which a pronoun can replace."""
    words = _WORD.findall(rendering)
    return bool(words) and all(word[0].isupper() for word in words)


def misspelling(term: Term, target_text: str, renderings: Iterable[str]) -> str | None:
    """A name in `target_text` that seems to be another spelling of the translation of `term`.

    None if there is none, or if the translation is not a name. The other `renderings` of the glossary do not
    count, nor does a part of the name ("Weber" for "Anna Weber").
    """
    expected_words = _WORD.findall(term.target)
    expected = "".join(expected_words).lower()
    if not is_name(term.target) or len(expected) < MIN_NAME_LETTERS:
        return None
    text = without_tags(target_text)
    for other in renderings:
        if other != term.target and is_name(other):
            text = re.sub(rf"(?<!\w){re.escape(other)}(?!\w)", "|", text)
    max_similarity, best = MIN_SIMILARITY, None
    for words in _capitalised_sequences(text):
        for count in range(max(1, len(expected_words) - 1), len(expected_words) + 2):
            for start in range(len(words) - count + 1):
                name = words[start : start + count]
                if set(name) <= set(expected_words):
                    continue
                similarity = _similarity("".join(name).lower(), expected)
                if similarity >= max_similarity:
                    max_similarity, best = similarity, " ".join(name)
    return best


def _capitalised_sequences(text: str) -> Iterator[list[str]]:
    """Sequences of words with capitals."""
    for match in _CAPITALS.finditer(text):
        words: list[str] = []
        for word in match.group().split(" "):
            stem = re.sub(r"['’]s?$", "", word)
            if word[0].isupper():
                words.append(stem)
            if not word[0].isupper() or stem != word:
                yield words
                words = []
        yield words


def _similarity(name: str, expected: str) -> float:
    if name[:1] != expected[:1] and name[-3:] != expected[-3:]:
        return 0.0
    return SequenceMatcher(None, name, expected, autojunk=False).ratio()


@dataclass(frozen=True)
class TermUse:
    """How often a term was translated as in the glossary."""

    term: Term
    occurrences: int
    """Number of paragraphs with the term in their source."""
    used: int
    """Number of those with the term's translation in their target."""
    alternatives: tuple[tuple[str, int], ...]
    """Probable other translations, each with its number of paragraphs: forbidden ones first, then names that
    are in paragraphs without the term's translation and hardly anywhere else."""


@dataclass(frozen=True)
class Consistency:
    """How consistently a book uses its glossary."""

    terms: tuple[TermUse, ...]
    """The terms that occur; those with the most misses first."""

    @property
    def share(self) -> float:
        """Share of the occurrences with the translation of the glossary; 1 if no term occurs."""
        occurrences = sum(use.occurrences for use in self.terms)
        return sum(use.used for use in self.terms) / occurrences if occurrences else 1.0


def consistency(pairs: Iterable[tuple[str, str]], glossary: Glossary) -> Consistency:
    """How often `pairs` of source and target paragraphs use the translation of each term."""
    occurrences: Counter[Term] = Counter()
    used: Counter[Term] = Counter()
    missed: dict[Term, list[str]] = {}
    names: Counter[str] = Counter()
    for source, target in pairs:
        names.update(_names_in(target))
        for term in glossary.occurring_in(source):
            occurrences[term] += 1
            if is_used(term, target):
                used[term] += 1
            else:
                missed.setdefault(term, []).append(target)
    renderings = [term.target for term in glossary.terms]
    uses = [
        TermUse(term, count, used[term], _alternatives(term, missed.get(term, ()), names, renderings))
        for term, count in occurrences.items()
    ]
    return Consistency(tuple(sorted(uses, key=lambda use: (use.used - use.occurrences, use.term.source))))


def _alternatives(
    term: Term, targets: Sequence[str], names: Counter[str], renderings: Sequence[str]
) -> tuple[tuple[str, int], ...]:
    """Probable translations of `term` in `targets`, all of which lack the one of the glossary.

    `names` counts the paragraphs of the book with each name.
    """
    forbidden = Counter(form for text in targets for form in forbidden_in(term, text))
    names_in_targets = Counter(name for text in targets for name in _names_in(text))
    guessed = [
        (name, count)
        for name, count in names_in_targets.most_common(20)
        if count >= 2
        and count >= 0.6 * names[name]
        and not any(name.lower() in rendering.lower() for rendering in renderings)
    ]
    return (*forbidden.most_common(), *guessed[:3])


_NAME = re.compile(r"(?<![.!?…“\"‘'»«:] )(?<!^)\b[^\W\d_a-z]\w+(?:[ -][^\W\d_a-z]\w+)*")


def _names_in(text: str) -> set[str]:
    """Words with capitals within sentences, which are names in many languages."""
    return {name for name in _NAME.findall(without_tags(text)) if name[0].isupper()}
