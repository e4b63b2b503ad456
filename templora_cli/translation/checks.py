"""Checks of a translated paragraph: nothing is silently left untranslated, lost or made up.

All of them compare two strings, without a model. Their limits were set on the human translation of
GuoFeng 102 and looked at on 161: see `docs/checks.md`.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

from templora_cli.translation.languages import Language, detect_code, same_language
from templora_cli.translation.loops import loop_in
from templora_cli.translation.numbers import missing_numbers
from templora_cli.translation.scripts import (
    TAG,
    UNSPACED,
    script_runs,
    scripts_of,
    units,
    weight,
    without_tags,
    word_set,
)
from templora_cli.translation.terminology import Glossary, Term, forbidden_in, is_name, misspelling, used

CheckName = Literal[
    "empty", "echo", "script", "language", "short", "long", "loop", "numbers", "glossary", "markup"
]

MIN_LENGTH_RATIO, MAX_LENGTH_RATIO = 0.3, 2.2
"""Bounds of the weight of a translation as a share of its source's."""
LETTERS_TO_MEASURE = 30
"""A source with less weight may become anything: "Hm?" or "What is the matter with you?"."""
SLACK = 40
"""Letters that a translation may have above LONGEST: what a short line leaves unsaid."""
SENTENCE_LETTERS = 40
"""A sentence with less weight is not identified by itself."""
LATIN_PHRASE = 4
"""Words in lower case in a row that make Latin letters in another script a phrase, not a name."""

_ADDRESS = re.compile(r"(?:https?://|www\.)\S+|\S+@\S+\.\w+")
_SENTENCE_END = re.compile(r"(?<=[.!?…][\s\"'”’»])|(?<=[。！？」』])")
_LATIN = re.compile(r"[A-Za-zÀ-ÖØ-öø-ɏ]+(?:['’][A-Za-zÀ-ÖØ-öø-ɏ]+)*")
_LATIN_PHRASE = re.compile(rf"{_LATIN.pattern}(?:[\s,;:'’\"-]+{_LATIN.pattern})*")
_PRONOUN = re.compile("[他她它您你我彼]|あなた|그는|그가|그녀")
_PARTICLES = word_set("von van der den de da del della di du la le al el bin ibn y e")
_HEADINGS = word_set(
    "chapter part book volume prologue epilogue preface contents foreword afterword "
    "kapitel teil band prolog epilog vorwort chapitre partie tome livre épilogue préface "
    "capítulo parte libro prólogo epílogo capitolo prologo epilogo"
)


@dataclass(frozen=True)
class FailedCheck:
    """What is wrong with a translated paragraph."""

    check: CheckName
    message: str
    """In words, for a report: what was expected and what was found."""


@dataclass(frozen=True)
class _Paragraph:
    """A paragraph with its translation, as the checks read them."""

    source: str
    target: str
    languages: tuple[Language, Language]

    @cached_property
    def plain(self) -> tuple[str, str]:
        """Both without tags and addresses, which nobody translates."""
        source, target = (_ADDRESS.sub(" ", without_tags(text)) for text in (self.source, self.target))
        return source, target

    @cached_property
    def units(self) -> tuple[list[str], list[str]]:
        return units(self.plain[0]), units(self.plain[1])

    @cached_property
    def scripts(self) -> tuple[frozenset[str], frozenset[str]]:
        return scripts_of(self.languages[0].code), scripts_of(self.languages[1].code)


def run_checks(
    source: str, target: str, languages: tuple[Language, Language], glossary: Sequence[Term]
) -> list[FailedCheck]:
    """What is wrong with `target` as the translation of `source`; both are one line, with numbered tags.

    Of `glossary`, the terms that occur in `source` are checked; of a large one, give what
    `Glossary.occurring_in(source)` returns. The same arguments give the same flaws, in the order of
    `CheckName`. Raises nothing.
    """
    paragraph = _Paragraph(source, target, languages)
    if not without_tags(target).strip():
        empty = bool(without_tags(source).strip())
        return (
            [FailedCheck("empty", "the paragraph has no translation")]
            if empty
            else _listed(_markup, paragraph)
        )
    failed_checks = _listed(_echo, paragraph)
    if not failed_checks:  # an echo is of the wrong language too: said once
        failed_checks = _listed(_script, paragraph) or _listed(_language, paragraph)
    for check in (_length, _loop, _numbers):
        failed_checks += _listed(check, paragraph)
    return failed_checks + _glossary(paragraph, glossary) + _listed(_markup, paragraph)


def _listed(check: Callable[[_Paragraph], FailedCheck | None], paragraph: _Paragraph) -> list[FailedCheck]:
    failure = check(paragraph)
    return [] if failure is None else [failure]


def _echo(paragraph: _Paragraph) -> FailedCheck | None:
    ours, theirs = paragraph.units
    source, target = paragraph.languages
    if source.base == target.base or not translatable(paragraph.plain[0], *paragraph.scripts):
        return None
    if ours == theirs:
        return FailedCheck("echo", f"the source was copied, not translated into {target.name}")
    shared = sum((Counter(ours) & Counter(theirs)).values())
    if len(theirs) >= 6 and shared >= 0.85 * max(len(ours), len(theirs)):
        return FailedCheck("echo", f"{shared} of {len(theirs)} words are the source's: not in {target.name}")
    return None


def translatable(text: str, ours: frozenset[str], theirs: frozenset[str]) -> bool:
    """Whether a translation of `text` must differ from it; `ours` and `theirs` are the languages' scripts.

    It need not where there are no letters of the source language, or only names, which a text without a
    dictionary shows as capitals (or as a few Chinese characters between languages that both write them).
    """
    runs = list(script_runs(_ADDRESS.sub(" ", without_tags(text))))
    if ours and not any(script in ours for script, _ in runs):
        return False  # a quotation
    words: list[str] = []
    for script, run in runs:
        if script == "Latn" or (script in theirs and script not in UNSPACED):
            words.append(run)
        elif script not in theirs or len(run) > 4:
            return True
    if len({word.lower() for word in words}) == 1 and len(words[0]) <= 4:
        return False  # "Ha, ha!", "Hm"
    return any(
        (word[0].islower() and len(word) > 1 and word not in _PARTICLES) or word.lower() in _HEADINGS
        for word in words
    )


def _script(paragraph: _Paragraph) -> FailedCheck | None:
    source, target = paragraph.plain
    ours, theirs = paragraph.scripts
    if not theirs:
        return None
    if "Hang" in theirs:  # Korean explains a word by its Chinese characters, in brackets, and else has none
        target, theirs = re.sub(r"[(（][^()（）]*[)）]", " ", target), frozenset({"Hang"})
    left = [
        run
        for script, run in script_runs(target)
        if script != "Latn"
        and script not in theirs
        and (script in ours or run not in source)  # a quotation in a third script stays as it is
        and (len(run) > 1 or script in UNSPACED or script == "Hang")
    ]
    if left:
        return FailedCheck("script", f"not in the script of {paragraph.languages[1].name}: {_some(left)}")
    if "Latn" in theirs:
        return None
    return _latin(source, target, ours, paragraph.languages[1])


def _latin(source: str, target: str, ours: frozenset[str], language: Language) -> FailedCheck | None:
    """Latin letters in a text of another script: names and abbreviations are usual, phrases are not."""
    for phrase in _LATIN_PHRASE.findall(target):
        words = [word for word in _LATIN.findall(phrase) if word[0].islower() and len(word) > 1]
        if len(words) >= LATIN_PHRASE and ("Latn" in ours or phrase not in source):
            return FailedCheck("script", f"not in the script of {language.name}: {_some([phrase])}")
    lower = [word for word in _LATIN.findall(target) if word[0].islower() and len(word) > 1]
    latin = sum(len(run) for script, run in script_runs(target) if script == "Latn")
    if len(lower) >= 2 and latin > 0.5 * weight(target):
        return FailedCheck("script", f"most of it is in Latin letters, not in the script of {language.name}")
    return None


def _language(paragraph: _Paragraph) -> FailedCheck | None:
    text = paragraph.plain[1]
    source, target = paragraph.languages
    if same_language(source.base, target.base):
        return None
    found = _wrong_language(text, target)
    if found:
        return FailedCheck("language", f"should be {target.name}, but the language seems to be {found}")
    sentences = _SENTENCE_END.split(text)
    for sentence in sentences if len(sentences) > 1 else ():
        if weight(sentence) >= SENTENCE_LETTERS and _wrong_language(sentence, target) == source.base:
            return FailedCheck(
                "language", f"a sentence was left in {source.name}: {_some([sentence.strip()])}"
            )
    return None


def _wrong_language(text: str, language: Language) -> str | None:
    """The code of the language that `text` surely is in, where it is not `language`."""
    found = detect_code(text)
    if language.base == "ja" and found in ("zh", None):  # a Japanese heading may have no kana, a sentence has
        scripts = {script for script, _ in script_runs(text)}
        return "zh" if scripts == {"Hani"} and weight(text) >= 60 else None
    return None if found is None or same_language(found, language.base) else found


def _length(paragraph: _Paragraph) -> FailedCheck | None:
    ours, theirs = (weight(text) for text in paragraph.plain)
    if ours < LETTERS_TO_MEASURE:
        ours = LETTERS_TO_MEASURE
    elif theirs < MIN_LENGTH_RATIO * ours:
        return FailedCheck("short", f"{theirs / ours:.0%} of the usual length: part of it may be missing")
    if theirs > MAX_LENGTH_RATIO * ours + SLACK:
        return FailedCheck(
            "long", f"{theirs / ours:.1f} times the usual length: it may say more than the source"
        )
    return None


def _loop(paragraph: _Paragraph) -> FailedCheck | None:
    found = loop_in(*paragraph.plain, *paragraph.units)
    return None if found is None else FailedCheck("loop", found)


def _numbers(paragraph: _Paragraph) -> FailedCheck | None:
    missing = missing_numbers(*paragraph.plain, paragraph.languages[1].base)
    if not missing:
        return None
    return FailedCheck("numbers", f"of the source, not in the translation: {', '.join(missing[:5])}")


def _glossary(paragraph: _Paragraph, glossary: Sequence[Term]) -> list[FailedCheck]:
    source, target = paragraph.plain
    renderings = [term.target for term in glossary]
    failed_checks = []
    for term in Glossary(tuple(glossary)).occurring_in(source):
        found = _instead(term, target, renderings)
        if found is not None:
            failed_checks.append(FailedCheck("glossary", f"{term.source} should be “{term.target}”{found}"))
    return failed_checks


def _instead(term: Term, target: str, renderings: Sequence[str]) -> str | None:
    """What stands in `target` in place of the translation of `term`, as the end of a message; None: all well.

    A name may be left out, since a pronoun stands for it: in people's translations of two novels, 7 and 15 %
    of the paragraphs with a name do so. Then only another spelling of it counts.
    """
    for form in forbidden_in(term, target):
        return f", not “{form}”, which is forbidden"
    if used(term, target):
        return None
    if is_name(term.target) or (is_name(term.source) and _PRONOUN.search(target)):
        other = misspelling(term, target, renderings)
        return None if other is None else f", not “{other}”"
    return ", which is not there"


def _markup(paragraph: _Paragraph) -> FailedCheck | None:
    ours, theirs = TAG.findall(paragraph.source), TAG.findall(paragraph.target)
    lost, added = Counter(ours) - Counter(theirs), Counter(theirs) - Counter(ours)
    parts = [f"lost {' '.join(lost.elements())}"] if lost else []
    parts += [f"added {' '.join(added.elements())}"] if added else []
    if parts:
        return FailedCheck("markup", f"tags {', '.join(parts)}")
    if _well_nested(ours) and not _well_nested(theirs):
        return FailedCheck("markup", f"tags in an order that does not nest: {' '.join(theirs)}")
    return None


def _well_nested(tags: Sequence[str]) -> bool:
    open_tags: list[str] = []
    for tag in tags:
        if tag.startswith("</"):
            if not open_tags or open_tags.pop() != tag[2:-1]:
                return False
        elif not tag.endswith("/>"):
            open_tags.append(tag[1:-1])
    return not open_tags


def _some(parts: Sequence[str]) -> str:
    """A few of `parts`, shortened, for a message."""
    text = " ".join(parts[:5])
    return text if len(text) <= 60 else f"{text[:59]}…"
