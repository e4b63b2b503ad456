"""What is written in the headings of a plan besides titles: numbers, lengths, and ellipses.

All functions take inline Markdown: a backslash before a character makes it part of the title.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from templora_cli.documents.readers.headings import NUMBER

MIN_WORDS, MAX_WORDS = 10, 50_000
"""The range of a chapter's length."""

_CHAPTER_WORD = (
    r"(?:chapter|chap\.|ch\.|kapitel|kap\.|chapitre|cap[ií]tulo|capitolo|hoofdstuk|kapittel|rozdział|kapitola"
    r"|fejezet|luku|bölüm|chương|bab|глава|розділ|κεφάλαιο)"
)
_PART_WORD = r"(?:part|book|volume|act|teil|buch|band|partie|livre|tome|parte|libro|deel|часть|книга|том)"
_CARDINAL = (
    r"(?:one|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|thirteen|fourteen|fifteen|sixteen"
    r"|seventeen|eighteen|nineteen|(?:twenty|thirty|forty|fifty|sixty|seventy|eighty|ninety)(?:[ -]\w+)?)"
)
_ROMAN = r"(?:(?=[ivxlc]{2}|[ivx](?!\w))(?:c{0,3})(?:xc|xl|l?x{0,3})(?:ix|iv|v?i{0,3}))"
_CHINESE_NUMBER = r"[０-９零〇一二三四五六七八九十百千两兩]{1,9}"
_EAST_ASIAN_NUMBER = rf"(?:\d{{1,4}}|{_CHINESE_NUMBER})"

_SEPARATOR = r"(?:\s*(?:[.:：)\]、．·|–—-]|-{2,3})+\s*|\s+)"
_WORD_FIRST = re.compile(
    rf"{_CHAPTER_WORD}(?:\s+(?:{NUMBER}|{_CARDINAL}|{_ROMAN})|\s*\d{{1,3}})(?!\w)", re.IGNORECASE
)
_WORD_LAST = re.compile(
    r"(?:\d{1,3}|[ivxlc]{1,8})\.?\s*(?:kapitel|fejezet|bölüm|luku|poglavlje|nodaļa|skyrius)(?!\w)",
    re.IGNORECASE,
)
_EAST_ASIAN = re.compile(rf"第\s*{_EAST_ASIAN_NUMBER}\s*[章節节回話话集篇幕]|제\s*\d{{1,4}}\s*[장화]")
_NUMBER_ALONE = re.compile(rf"(?:\d{{1,3}}|{_ROMAN}|{_CARDINAL}|{_CHINESE_NUMBER})[.):：]?", re.IGNORECASE)
_NUMBER_FIRST = re.compile(
    rf"(?:\d{{1,3}}|{_ROMAN})(?:[.):：](?:\s+|(?=[^\s\d]))|\s+[–—|-]+\s+|[、．]\s*)(?=\S)"
    r"|[零〇一二三四五六七八九十百]{1,5}[、．.]\s*(?=\S)",
    re.IGNORECASE,
)
_PART = re.compile(
    rf"{_PART_WORD}\s+(?:{NUMBER}|{_CARDINAL}|\d+)(?!\w)|第\s*{_EAST_ASIAN_NUMBER}\s*[部卷篇]", re.IGNORECASE
)

_COUNT = re.compile(r"\d{1,3}(?:[,.'’\s]\d{3})+|\d+")
_ABOUT = r"(?:(?:about|around|roughly|approx\.|approximately|circa|ca\.|c\.|etwa|environ|[~≈≃]|约|約)\s*)?"
_UNIT = (
    r"(?:words?|wörter|worten?|mots|palabras|palavras|parole|woorden|ord|słów|слов[ао]?|[個个文]?字|词|詞)"
)
_LENGTH = re.compile(rf"{_ABOUT}(?P<count>\d[\d.,'’\s]*?)[\s-]*{_UNIT}", re.IGNORECASE)
_OTHER_UNIT = r"(?:pages?|tokens?|characters?|lines?|paragraphs?|seiten|zeichen|zeilen|caractères|页|頁)"
_RESEMBLES_LENGTH = re.compile(
    rf"[^()]{{0,20}}\d[^()]{{0,12}}?(?<![^\W\d_]){_UNIT}|{_ABOUT}\d[\d.,'’\s]*{_OTHER_UNIT}"
    rf"|{_ABOUT}(?:a|{_CARDINAL})(?:[\s-](?:hundred|thousand))?[\s-]+(?:{_UNIT}|{_OTHER_UNIT})",
    re.IGNORECASE,
)
_OPEN, _CLOSE = r"[*_]*(?<!\\)[(\[（【]\s*", r"\s*[)\]）】][*_]*"
_IN_BRACKETS = re.compile(rf"(?P<before>.*?)\s*{_OPEN}(?P<length>[^()\[\]（）【】\\]+?){_CLOSE}")
_LABELLED = re.compile(
    r"(?:(?:target |planned )?length|words|word count|target|länge|umfang|longueur|字[数數]|[长長]度)"
    r"\s*[:：]\s*(?P<length>.+)",
    re.IGNORECASE,
)

_DOTS = r"(?:\.{3,}|…+|⋯+|。{3,}|\.(?:\s\.){2,})"
_AND_SO_ON = (
    r"(?:and so on|and so forth|etc\.?|et cetera|to be continued|usw\.?|und so weiter|et ainsi de suite|等等)"
)
_ELLIPSIS = re.compile(
    rf"[\s*_(\[（【]*(?:{_DOTS}\s*(?:{_AND_SO_ON})?|{_AND_SO_ON}\s*{_DOTS}?)[\s*_)\]）】]*", re.IGNORECASE
)
_LIMIT = rf"(?:\d{{1,3}}|{_CARDINAL}|{_ROMAN})"
_SPAN = r"\s*(?:[-–—~,&]|\.{2,3}|…|to|through|until|and|bis|und|à|et|a|y)\s*"
_RANGE = re.compile(
    rf"(?:chapters?|chaps?\.|chs?\.|kapitel|chapitres?|cap[ií]tulos?|capitoli)\s*{_LIMIT}{_SPAN}{_LIMIT}"
    rf"|第?\s*{_EAST_ASIAN_NUMBER}\s*章?\s*[-–—~～至到]+\s*第?\s*{_EAST_ASIAN_NUMBER}\s*章",
    re.IGNORECASE,
)
_AFTER_RANGE = re.compile(r"\s*(?:\Z|[.:：(\[–—-])")
_NUMBERS_ALONE = re.compile(r"(\d{1,3})\s*(?:[-–—]+|to)\s*(\d{1,3})\.?(?:\s*[:：].*)?")


@dataclass(frozen=True)
class Length:
    """A length that a person wrote."""

    text: str
    words: int | None
    """None if it is not a number of words, such as "2k words"."""


def split_length(raw: str) -> tuple[str, Length | None]:
    """A heading without the length in brackets at its end, and that length."""
    match = _IN_BRACKETS.fullmatch(raw.strip())
    length = None if match is None else _length(match["length"])
    return (raw.strip(), None) if match is None or length is None else (match["before"].strip(), length)


def length_line(raw: str) -> Length | None:
    """The length, if a line of text is nothing else: "(1,800 words)" or "Length: 1,800 words"."""
    before, length = split_length(raw)
    if length is not None:
        return None if before else length
    labelled = _LABELLED.fullmatch(re.sub(r"(?<!\\)[*_]+", "", raw).strip())
    if labelled is None:
        return None
    count = labelled["length"].strip()
    return Length(count, _count(count)) if _COUNT.fullmatch(count) else _length(count)


def _length(text: str) -> Length | None:
    """The length that `text` is, or seems to be."""
    match = _LENGTH.fullmatch(text)
    if match is not None:
        return Length(text, _count(match["count"].strip()))
    return Length(text, None) if _RESEMBLES_LENGTH.fullmatch(text) else None


def _count(text: str) -> int | None:
    return int(re.sub(r"\D", "", text)) if _COUNT.fullmatch(text) else None


def split_number(raw: str) -> tuple[str, bool]:
    """A heading without its chapter number, and whether it has one.

    Numbers are written as in "Chapter 3: The Storm", "2. The Boat", "IV" or "第一章".
    """
    for text in (raw, _without_first_emphasis(raw)):
        if _NUMBER_ALONE.fullmatch(text):
            return "", True
        for pattern in (_WORD_FIRST, _WORD_LAST, _EAST_ASIAN):
            match = pattern.match(text)
            if match is not None and (title := _title_after(text, match.end())) is not None:
                return title, True
        if match := _NUMBER_FIRST.match(text):
            return text[match.end() :], True
    return raw, False


def _title_after(text: str, end: int) -> str | None:
    """The title after a chapter number that ends at `end`; None if the heading goes on as a sentence."""
    separator = re.compile(_SEPARATOR).match(text, end)
    rest = text[separator.end() :] if separator else text[end:]
    if not rest:
        return ""
    if separator is None:
        return rest if ord(text[end - 1]) > 0x2E80 else None  # no space is needed after 章
    return None if separator[0].isspace() and rest[0].islower() else rest


def _without_first_emphasis(raw: str) -> str:
    """A heading without the emphasis at its beginning: "**Chapter 1:** The Storm"."""
    mark = re.match(r"\*{1,3}|_{1,3}", raw)
    return raw if mark is None else raw.replace(mark[0], "", 2)


def names_chapter(raw: str) -> bool:
    """Does a heading begin with "Chapter 3" or the like?"""
    text = _without_first_emphasis(raw)
    return any(pattern.match(text) for pattern in (_WORD_FIRST, _WORD_LAST, _EAST_ASIAN))


def names_part(raw: str) -> bool:
    """Does a heading begin with "Part Two" or the like?"""
    return bool(_PART.match(_without_first_emphasis(raw)))


def is_ellipsis(raw: str, *, is_heading: bool) -> bool:
    """Does a heading or a line of text stand for chapters that nobody wrote: "...", "Chapters 4–10:"?"""
    text = _without_first_emphasis(raw)
    if _ELLIPSIS.fullmatch(text):
        return True
    if span := _RANGE.match(text):
        rest = text[span.end() :]
        return bool(_AFTER_RANGE.match(rest)) if is_heading else rest.lstrip().startswith((":", "："))
    numbers = _NUMBERS_ALONE.fullmatch(text)
    return is_heading and numbers is not None and int(numbers[1]) < int(numbers[2])
