"""Checks of a translated paragraph, which report text that is untranslated, missing or added.

They compare two strings, without a model. Their limits were set on the human translation of GuoFeng 102 and
tested on that of 161 (`docs/lab/checks.md`).
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

from templora_cli.languages import Language, detect_code, language, same_language
from templora_cli.scripts import (
    TAG,
    UNSPACED,
    latin_length,
    script_runs,
    scripts_of,
    units,
    without_tags,
    word_set,
)
from templora_cli.translation.loops import loop_in
from templora_cli.translation.numbers import missing_numbers
from templora_cli.translation.terminology import Glossary, Term, forbidden_in, is_name, is_used, misspelling

CheckName = Literal[
    "empty", "echo", "script", "language", "short", "long", "loop", "numbers", "glossary", "markup"
]

MIN_LENGTH_RATIO, MAX_LENGTH_RATIO = 0.3, 2.2
"""Bounds of the `latin_length` of a translation relative to that of its source."""
MIN_SOURCE_LENGTH = 30
"""A shorter source counts as this long: its translation may be "Hm?" or "What is the matter with you?"."""
EXTRA_LENGTH = 40
"""Latin letters that a translation may have beyond MAX_LENGTH_RATIO: short lines leave much unsaid."""
MIN_SENTENCE_LENGTH = 40
"""The language of a shorter sentence is not detected."""
MIN_PHRASE_WORDS = 4
"""Consecutive lower-case words in Latin letters that make a phrase; fewer may be part of a name."""

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
    """A check that a translated paragraph fails."""

    check: CheckName
    message: str
    """The reason in words, for reports."""


@dataclass(frozen=True)
class _Paragraph:
    """A paragraph with its translation, prepared for the checks."""

    source: str
    target: str
    languages: tuple[Language, Language]

    @cached_property
    def prose(self) -> tuple[str, str]:
        """Source and target without tags and addresses, which are not translated."""
        source, target = (_ADDRESS.sub(" ", without_tags(text)) for text in (self.source, self.target))
        return source, target

    @cached_property
    def units(self) -> tuple[list[str], list[str]]:
        return units(self.prose[0]), units(self.prose[1])

    @cached_property
    def scripts(self) -> tuple[frozenset[str], frozenset[str]]:
        return scripts_of(self.languages[0].code), scripts_of(self.languages[1].code)


def run_checks(
    source: str, target: str, languages: tuple[Language, Language], glossary: Sequence[Term]
) -> list[FailedCheck]:
    """The checks that `target` fails as the translation of `source`; both are one line, with numbered tags.

    Only the terms of `glossary` that occur in `source` are checked; `Glossary.occurring_in(source)` finds
    them faster in a large glossary. The result is deterministic and in the order of `CheckName`. Raises
    nothing.
    """
    paragraph = _Paragraph(source, target, languages)
    if not without_tags(target).strip():
        if without_tags(source).strip():
            return [FailedCheck("empty", "the paragraph has no translation")]
        return _run(_check_markup, paragraph)
    failed_checks = _run(_check_echo, paragraph)
    if not failed_checks:  # an echo is in the wrong language too, and is reported once
        failed_checks = _run(_check_script, paragraph) or _run(_check_language, paragraph)
    for check in (_check_length, _check_loop, _check_numbers):
        failed_checks += _run(check, paragraph)
    return failed_checks + _check_glossary(paragraph, glossary) + _run(_check_markup, paragraph)


def _run(check: Callable[[_Paragraph], FailedCheck | None], paragraph: _Paragraph) -> list[FailedCheck]:
    failed_check = check(paragraph)
    return [] if failed_check is None else [failed_check]


def _check_echo(paragraph: _Paragraph) -> FailedCheck | None:
    source_units, target_units = paragraph.units
    source, target = paragraph.languages
    if source.base == target.base or not must_change(paragraph.prose[0], *paragraph.scripts):
        return None
    if source_units == target_units:
        return FailedCheck("echo", f"the source was copied, not translated into {target.name}")
    shared = sum((Counter(source_units) & Counter(target_units)).values())
    total = len(target_units)
    if total >= 6 and shared >= 0.85 * max(len(source_units), total):
        return FailedCheck(
            "echo", f"{shared} of {total} words were copied, not translated into {target.name}"
        )
    return None


def must_change(text: str, source_scripts: frozenset[str], target_scripts: frozenset[str]) -> bool:
    """Whether a translation of `text` must differ from it, given the scripts of the two languages.

    It need not if `text` has no letters of the source language, or only names. Without a dictionary, names
    are words with capitals, or a few Chinese characters if both languages use them.
    """
    runs = list(script_runs(_ADDRESS.sub(" ", without_tags(text))))
    if source_scripts and not any(script in source_scripts for script, _ in runs):
        return False  # a quotation
    words: list[str] = []
    for script, run in runs:
        if script == "Latn" or (script in target_scripts and script not in UNSPACED):
            words.append(run)
        elif script not in target_scripts or len(run) > 4:
            return True
    if len({word.lower() for word in words}) == 1 and len(words[0]) <= 4:
        return False  # "Ha, ha!", "Hm"
    return any(
        (word[0].islower() and len(word) > 1 and word not in _PARTICLES) or word.lower() in _HEADINGS
        for word in words
    )


def _check_script(paragraph: _Paragraph) -> FailedCheck | None:
    source, target = paragraph.prose
    source_scripts, target_scripts = paragraph.scripts
    if not target_scripts:
        return None
    if "Hang" in target_scripts:  # Korean has Chinese characters only in brackets, to explain a word
        target, target_scripts = re.sub(r"[(（][^()（）]*[)）]", " ", target), frozenset({"Hang"})
    foreign = [
        run
        for script, run in script_runs(target)
        if script != "Latn"
        and script not in target_scripts
        and (script in source_scripts or run not in source)  # a quotation in a third script does not change
        and (len(run) > 1 or script in UNSPACED or script == "Hang")
    ]
    if foreign:
        name = paragraph.languages[1].name
        return FailedCheck("script", f"not in the script of {name}: {_shortened(foreign)}")
    if "Latn" in target_scripts:
        return None
    return _check_latin_phrases(source, target, source_scripts, paragraph.languages[1].name)


def _check_latin_phrases(
    source: str, target: str, source_scripts: frozenset[str], target_name: str
) -> FailedCheck | None:
    """Latin letters in a text of another script: names and abbreviations are usual, phrases are not."""
    for phrase in _LATIN_PHRASE.findall(target):
        words = [word for word in _LATIN.findall(phrase) if word[0].islower() and len(word) > 1]
        if len(words) >= MIN_PHRASE_WORDS and ("Latn" in source_scripts or phrase not in source):
            return FailedCheck("script", f"not in the script of {target_name}: {_shortened([phrase])}")
    lower = [word for word in _LATIN.findall(target) if word[0].islower() and len(word) > 1]
    latin = sum(len(run) for script, run in script_runs(target) if script == "Latn")
    if len(lower) >= 2 and latin > 0.5 * latin_length(target):
        return FailedCheck("script", f"most of it is in Latin letters, not in the script of {target_name}")
    return None


def _check_language(paragraph: _Paragraph) -> FailedCheck | None:
    text = paragraph.prose[1]
    source, target = paragraph.languages
    if same_language(source.base, target.base):
        return None
    if code := _wrong_language(text, target):
        return FailedCheck("language", f"should be {target.name}, but seems to be {language(code).name}")
    sentences = _SENTENCE_END.split(text)
    for sentence in sentences if len(sentences) > 1 else ():
        is_long = latin_length(sentence) >= MIN_SENTENCE_LENGTH
        if is_long and _wrong_language(sentence, target) == source.base:
            message = f"a sentence was left in {source.name}: {_shortened([sentence.strip()])}"
            return FailedCheck("language", message)
    return None


def _wrong_language(text: str, expected: Language) -> str | None:
    """The code of the language of `text` if it is certainly not the expected one."""
    detected = detect_code(text)
    if expected.base == "ja" and detected in (
        "zh",
        None,
    ):  # Japanese headings may lack kana; sentences do not
        scripts = {script for script, _ in script_runs(text)}
        return "zh" if scripts == {"Hani"} and latin_length(text) >= 60 else None
    return None if detected is None or same_language(detected, expected.base) else detected


def _check_length(paragraph: _Paragraph) -> FailedCheck | None:
    source_length, target_length = (latin_length(text) for text in paragraph.prose)
    if source_length < MIN_SOURCE_LENGTH:
        source_length = MIN_SOURCE_LENGTH
    elif target_length < MIN_LENGTH_RATIO * source_length:
        share = target_length / source_length
        return FailedCheck("short", f"{share:.0%} of the usual length: part of it may be missing")
    if target_length > MAX_LENGTH_RATIO * source_length + EXTRA_LENGTH:
        ratio = target_length / source_length
        return FailedCheck("long", f"{ratio:.1f} times the usual length: it may say more than the source")
    return None


def _check_loop(paragraph: _Paragraph) -> FailedCheck | None:
    message = loop_in(*paragraph.prose, *paragraph.units)
    return None if message is None else FailedCheck("loop", message)


def _check_numbers(paragraph: _Paragraph) -> FailedCheck | None:
    missing = missing_numbers(*paragraph.prose, paragraph.languages[1].base)
    if not missing:
        return None
    return FailedCheck("numbers", f"numbers of the source that are missing: {', '.join(missing[:5])}")


def _check_glossary(paragraph: _Paragraph, glossary: Sequence[Term]) -> list[FailedCheck]:
    source, target = paragraph.prose
    renderings = [term.target for term in glossary]
    failed_checks = []
    for term in Glossary(tuple(glossary)).occurring_in(source):
        problem = _term_problem(term, target, renderings)
        if problem is not None:
            failed_checks.append(
                FailedCheck("glossary", f"{term.source} should be “{term.target}”, {problem}")
            )
    return failed_checks


def _term_problem(term: Term, target: str, renderings: Sequence[str]) -> str | None:
    """The problem with the translation of `term` in `target`, as the end of a message; None without one.

    A name may be missing, because a pronoun can replace it: 7 and 15 % of the paragraphs with a name do so in
    human translations of two novels. For names only another spelling is a problem.
    """
    for form in forbidden_in(term, target):
        return f"not “{form}”, which is forbidden"
    if is_used(term, target):
        return None
    if is_name(term.target) or (is_name(term.source) and _PRONOUN.search(target)):
        other = misspelling(term, target, renderings)
        return None if other is None else f"not “{other}”"
    return "which is missing"


def _check_markup(paragraph: _Paragraph) -> FailedCheck | None:
    source_tags, target_tags = TAG.findall(paragraph.source), TAG.findall(paragraph.target)
    missing, added = Counter(source_tags) - Counter(target_tags), Counter(target_tags) - Counter(source_tags)
    parts = [f"missing tags: {' '.join(missing.elements())}"] if missing else []
    parts += [f"added tags: {' '.join(added.elements())}"] if added else []
    if parts:
        return FailedCheck("markup", ", ".join(parts))
    if _are_well_nested(source_tags) and not _are_well_nested(target_tags):
        return FailedCheck("markup", f"tags are not well nested: {' '.join(target_tags)}")
    return None


def _are_well_nested(tags: Sequence[str]) -> bool:
    open_tags: list[str] = []
    for tag in tags:
        if tag.startswith("</"):
            if not open_tags or open_tags.pop() != tag[2:-1]:
                return False
        elif not tag.endswith("/>"):
            open_tags.append(tag[1:-1])
    return not open_tags


def _shortened(parts: Sequence[str]) -> str:
    """The first of `parts` for a message, at most 60 characters."""
    text = " ".join(parts[:5])
    return text if len(text) <= 60 else f"{text[:59]}…"
