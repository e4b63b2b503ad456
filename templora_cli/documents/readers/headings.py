"""Detects chapter headings among lines of plain text; it misses some rather than report a wrong one."""

from __future__ import annotations

import re

_MAX_LINE_CHARS = 80
_MAX_TITLE_CHARS = 30
"""Limit for the title after a Chinese, Japanese or Korean number."""
_MAX_UNSEPARATED_CHARS = 12
"""The same limit without a blank or punctuation before the title."""
_PARTICLES = "的是里裡在中有写寫也都就のはがをにで은는이가을를에의"
"""Characters that continue a sentence: "第三章是……"."""

_DIVISION_WORDS = (
    "chapter part book volume act canto "
    "kapitel teil buch band chapitre partie livre tome capítulo capitulo parte libro capitolo "
    "hoofdstuk deel kapittel kapittel rozdział kapitola część fejezet luku bölüm chương bab "
    "глава часть книга том розділ частина κεφάλαιο μέρος"
)
NUMBER = (
    r"(?:\d{1,4}|[ivxlc]{1,8}|one|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|thirteen|fourteen"
    r"|fifteen|sixteen|seventeen|eighteen|nineteen|(?:twenty|thirty|forty|fifty)(?:-\w+)?|first|second|third|last"
    r"|the (?:first|second|third|fourth|fifth|sixth|seventh|eighth|ninth|tenth|last)"
    r"|eins|zwei|drei|erstes|zweites|drittes|premier|première|primero|primera|primo|prima|uno|un|une"
    r"|первая|вторая|третья|четвёртая|пятая|шестая|седьмая|восьмая|девятая|десятая)"
)
"""The number of a chapter or part: digits, a Roman numeral, or a word."""
_NUMBERED = re.compile(
    rf"(?:{'|'.join(_DIVISION_WORDS.split())})\s+{NUMBER}(?P<rest>(?!\w).*)", re.IGNORECASE
)
_NUMBER_FIRST = re.compile(
    r"(?:\d{1,4}|[ivxlc]{1,8})\.\s*(?:kapitel|teil|fejezet|rész|bölüm|kısım|luku|poglavlje|nodaļa|skyrius)"
    r"(?P<rest>(?!\w).*)",
    re.IGNORECASE,
)
_EAST_ASIAN = re.compile(
    r"第\s*[0-9０-９零〇一二三四五六七八九十百千两兩]{1,9}\s*[章節节回卷话話部集篇幕](?P<rest>.*)"
    r"|제?\s*\d{1,4}\s*[장화편부](?P<korean>(?:[\s:：.].*)?)"
)
_UNNUMBERED = re.compile(
    r"(?:prologue|epilogue|prelude|postlude|preface|foreword|introduction|afterword|interlude|prolog|epilog|vorwort|nachwort"
    r"|einleitung|avant-propos|prólogo|epílogo|prologo|epilogo|пролог|эпилог|предисловие|послесловие"
    r"|楔子|引子|序[章言幕]?|前言|尾声|尾聲|后记|後記|终章|終章|番外篇?|プロローグ|エピローグ|あとがき|幕間"
    r"|프롤로그|에필로그|서장|종장)[.:：]?",
    re.IGNORECASE,
)

_PART = re.compile(
    r"(?:part|book|volume|act|teil|buch|band|partie|livre|tome|parte|libro|deel|część|часть|книга|том|частина|μέρος)\b"
    r"|\d{1,2}\. (?:teil|rész|kısım)\b|第\s*\S{1,5}\s*[部卷集篇幕]|제?\s*\d{1,3}\s*부",
    re.IGNORECASE,
)


def is_chapter_heading(line: str) -> bool:
    """Whether a paragraph of plain text reads as a heading: "Chapter 12", "第十二章 …", "CHAPTER XII. …"."""
    line = line.strip(" *#=-_~【】[]")
    if not line or len(line) > _MAX_LINE_CHARS:
        return False
    if _UNNUMBERED.fullmatch(line):
        return True
    match = _NUMBERED.fullmatch(line) or _NUMBER_FIRST.fullmatch(line)
    if match is not None:
        return _is_title(match["rest"])
    match = _EAST_ASIAN.fullmatch(line)
    return match is not None and _is_east_asian_title(match["rest"] or match["korean"] or "")


def is_part_heading(line: str) -> bool:
    """Whether a chapter heading is that of a part of the book, which has chapters of its own: "Part Two"."""
    return _PART.match(line.strip(" *#=-_~【】[]")) is not None


def is_unnumbered(line: str) -> bool:
    """Whether a line is a heading that books do not number: "Prologue"."""
    return _UNNUMBERED.fullmatch(line.strip(" *#=-_~【】[]")) is not None


def is_untitled(line: str) -> bool:
    """Whether a heading has no title of its own: "Chapter 12", "第十二章", "Prologue"."""
    line = line.strip(" *#=-_~【】[]")
    if is_unnumbered(line):
        return True
    match = _NUMBERED.fullmatch(line) or _NUMBER_FIRST.fullmatch(line)
    if match is not None:
        return not match["rest"].strip(" .:—–-")
    match = _EAST_ASIAN.fullmatch(line)
    return match is not None and not (match["rest"] or match["korean"] or "").strip()


def _is_title(rest: str) -> bool:
    """Whether the text after the number is empty, or a title after punctuation or with a capital letter."""
    if re.match(r"\s*[.:—–-]", rest) or not rest.strip():
        return not re.match(r"\.\s*\w.*[,;]$", rest)
    title = rest.strip()
    return (title[0].isupper() or title[0].isdigit() or title[0] in "“\"'«(") and title[-1] not in ".!?,;"


def _is_east_asian_title(rest: str) -> bool:
    if not rest.strip():
        return True
    if len(rest.strip()) > _MAX_TITLE_CHARS:
        return False
    if rest[0].isspace() or rest[0] in ":：·、.．-—「『《（(":
        return not rest.endswith(("。", "，", "、"))
    is_sentence = re.search(r"[。，！？、；“”]", rest) or rest[0] in _PARTICLES
    return not is_sentence and len(rest) <= _MAX_UNSEPARATED_CHARS
