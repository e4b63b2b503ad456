"""Lists, headings, mark-up, thoughts in tags, and text after "The End"."""

from __future__ import annotations

import re
from collections.abc import Iterator

from templora_cli.novel.passage import Passage

Match = tuple[int, int, str]
"""Start and end of a fault in `Passage.text`, and the reason without an excerpt."""

MIN_CHARACTERS = 200
"""A shorter text counts as this long where shares are compared."""
MIN_ITEMS = 3
"""A list of bullets has at least this many items; a numbered one needs two numbers in a row."""

_BULLET = re.compile(r"([*•·●▪◦‣■◆▶►✓✔➤→+-]|–)\s+\S")
_NUMBERS = {
    "digits": re.compile(r"(?:\*\*)?[\[(（]?(\d{1,3})(?:[.)）:、]|\.\))(?:\*\*)?\s*[^\s\d.]"),
    "steps": re.compile(
        r"(?i)\W*(?:step|tip|day|rule|option|question|part|point|第)\s*(\d{1,2})\s*(?:[:.：步条点]|[-–—]\s)"
    ),
    "letters": re.compile(r"\(?([a-hA-H])\)\s+\S"),
    "numerals": re.compile(r"[(（]?([一二三四五六七八])[、)）.．]\s*\S"),
}
_DASH_LINE = re.compile(r"(?m)^[ \t]*-[ \t]+\S")

_MARKUP: tuple[tuple[str, str, str], ...] = (
    ("#", "a heading in Markdown", r"(?m)^[ \t]{0,3}#{1,6}[ \t]+\S|^[ \t]*#{2,6}\w"),
    ("= -", "a heading in Markdown", r"(?m)^\S[^\n]{0,60}[^\s.!?…:,\"”'’。！？：，]\n(?:={3,}|-{3,})[ \t]*$"),
    ("* _", "bold text", r"\*\*(?![\s*])[^*\n]{1,200}(?<!\s)\*\*(?!\*)|__(?![\s_])[^_\n]{2,80}(?<!\s)__"),
    (
        "< &",
        "HTML",
        r"</?(?:p|div|br|b|i|u|em|strong|span|h[1-6]|a|ul|ol|li|table|tr|td|th|img|html|head|body|title"
        r"|script"
        r"|style|blockquote|pre|code|section|article|hr|font|center|sub|sup|link|meta|xml|story|chapter|text"
        r"|answer|response|output|s)(?:\s[^<>\n]*)?/?>|<!--|<!DOCTYPE"
        r"|&(?:nbsp|amp|lt|gt|quot|mdash|ndash|hellip|[lr][sd]quo|#\d{2,5});",
    ),
    ("``` ~~~", "a block of code", r"```|(?m:^~~~)"),
    (
        "\\ $",
        "LaTeX",
        r"\\(?:begin|end|section\*?|chapter|textbf|textit|emph|frac|item|documentclass|usepackage|title|text"
        r"|mathbf"
        r"|sqrt|sum|int|cdot|ldots)\b|\$\$|\\[(\[]|\$\\?\w+[\^_=][^$\n]{0,40}\$",
    ),
    ("|", "a table", r"(?m)^[ \t]*\|[^\n]*\|[ \t]*$|\|\s*:?-{3,}|\|{2,}|(?:[^\s|][^|\n]{0,40}\|){3}"),
    (
        "http www @ .com .org .net",
        "a web address",
        r"(?i)\bhttps?://|\bwww\.\w|\b\w[\w.]{0,40}@\w{1,40}\.\w{2,}|\b\w{1,40}\.(?:com|org|net)\b"
        r"|(?<!\w)@\w{4,}",
    ),
    (
        "[",
        "mark-up",
        r"\[[^\]\n]{1,80}\]\([^)\s]{2,}\)|!\[|\[/?(?:b|i|u|url|img|quote|center)(?:=[^\]]*)?\]",
    ),
    (
        "def class import from }",
        "code",
        r"(?m)^[ \t]*(?:def|class) \w+[(:]|^[ \t]*(?:import \w+(?:\.\w+)*\s*$|from \w+(?:\.\w+)* import )"
        r"|[;{]\s*\n\s*\}",
    ),
    ("0 1 2 3 4 5 6 7 8 9", "a line of digits", r"(?m)^[^\w\n]*\d{5,}[^\w\n]*$"),
    ('"', "JSON", r"(?m)^[ \t]*[{\[]?[ \t]*\"\w+\"\s*:\s*[\"\[{\d]"),
)
"""Signs of which a text with this mark-up has one, its name, and the pattern that decides."""
_COMPILED = tuple((signs.split(), f"it has {name}", re.compile(pattern)) for signs, name, pattern in _MARKUP)
MAX_SIGNS = 0.08
"""Share of signs that are not punctuation. The maximum in the human books is 0.04, of a file's own marks."""
MAX_DIGITS = 0.12
"""Share of digits. The maximum in the human books is 0.03."""
_SIGN = re.compile(r"[|<>{}\[\]\\^~=+#@$%&/]")
_DIGIT = re.compile(r"\d")

_THOUGHT = re.compile(
    r"(?i)</?\s*(?:seed:)?(?:think|thinking|thought|thoughts|reason|reasoning|reflection|scratchpad|analysis"
    r"|cot|inner"
    r"[ _]monologue|plan|planning)\s*/?>|\[/?(?:think|thinking|thought|reasoning)\]|<\|[^<>\n|]{1,40}\|>"
    r"|\[/?INST\]"
    r"|<<?/?SYS>?>|◁/?think▷|<(?:start|end)_of_turn>|</?s>"
)
_TITLE = (
    r"(?:chapter|part|book|volume|act|scene|episode|kapitel|teil|chapitre|partie|capítulo|parte|глава"
    r"|часть)\s+"
    r"(?:\d{1,3}|[ivxlc]{1,7}|(?:the )?(?:one|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve"
    r"|thirteen|fourteen"
    r"|fifteen|twenty|first|second|third|last|eins|zwei|drei|vier|un|deux|trois|premier|uno|dos|tres"
    r"|primero))\b"
)
_CHAPTER = re.compile(
    rf"(?im)^[ \t]*[*_\[(【]*(?:{_TITLE}(?=[\s\])】*_]*(?:$|[.:：—–-]))[^\n]{{0,80}}$|(?:prologue|epilogue"
    rf"|interlude|prolog|epilog"
    r"|épilogue|prólogo|epílogo)\W*$|第[一二三四五六七八九十百千零〇两\d]{1,8}[章回卷节部幕][^。\n]{0,30}$|(?:序章|楔子|尾声|后记|番外)"
    r"[^。\n]{0,20}$)"
)
_THE_END = re.compile(
    r"(?m)^[ \t]*(?:[*_~\[(（【—-]+[ \t]*)?"
    r"(?:(?i:the end|el fin|конец|(?:the )?end of (?:the )?(?:story|book|novel|text)"
    r"|終|终|完|剧终|全文完|全书完|全剧终|大结局)[ \t]{0,3}[.!。！]{0,3}"
    r"|F(?i:in|ine)|E(?i:nde))"  # without a full stop: "Fine." is also a thing that people say
    r"[ \t]{0,3}[*_~\])）】—-]{0,8}[ \t]*$"
)


def lists(passage: Passage) -> Iterator[Match]:
    """Lists: bullets, consecutive numbers or letters at the beginning of lines."""
    yield from _bullets(passage)
    previous: dict[str, tuple[int, int]] = {}
    for start, line in passage.lines():
        for style, pattern in _NUMBERS.items():
            if match := pattern.match(line):
                number = _value(match[1])
                before, first = previous.get(style, (0, 0))
                is_next = before and number == before + 1
                if is_next:
                    yield first, start + len(line), "it has a numbered list"
                previous[style] = (number, first if is_next else start)


def _bullets(passage: Passage) -> Iterator[Match]:
    """Consecutive lines with bullets; a dash is none if the book has dashes before its dialogue."""
    has_dash_speech = len(_DASH_LINE.findall(passage.before)) >= MIN_ITEMS
    starts: list[int] = []
    for start, line in passage.lines():
        bullet = _BULLET.match(line)
        if bullet and not (bullet[1] == "-" and has_dash_speech):
            starts.append(start)
            if len(starts) >= MIN_ITEMS:
                yield starts[0], start + len(line), "it has a list"
        elif not passage.is_wrapped:
            starts = []


def _value(number: str) -> int:
    """The value of a number in digits, of a letter or of a Chinese numeral."""
    return int(number) if number.isdigit() else 1 + "abcdefgh一二三四五六七八九十".index(number.lower()) % 8


def markup(passage: Passage) -> Iterator[Match]:
    """Markdown, HTML, LaTeX, tables, code and web addresses."""
    for signs, reason, pattern in _COMPILED:
        if any(sign in passage.text for sign in signs):
            for match in pattern.finditer(passage.text):
                yield match.start(), match.end(), reason
    for pattern, share, what in ((_SIGN, MAX_SIGNS, "signs"), (_DIGIT, MAX_DIGITS, "digits")):
        matches = list(pattern.finditer(passage.text, passage.offset))
        if len(matches) > share * max(MIN_CHARACTERS, len(passage.text) - passage.offset):
            yield matches[0].start(), matches[-1].end(), f"it is full of {what}"


def thoughts(passage: Passage) -> Iterator[Match]:
    """Tags of a model's reasoning, and tokens of its chat template."""
    for match in _THOUGHT.finditer(passage.text):
        yield match.start(), match.end(), "it has the model's thoughts or tags of a chat"


def headings(passage: Passage) -> Iterator[Match]:
    """Headings of chapters and parts."""
    for match in _CHAPTER.finditer(passage.text):
        yield match.start(), match.end(), "it begins a chapter of its own"


def after_end(passage: Passage) -> Iterator[Match]:
    """Text after "The End"; the match begins with that text."""
    for match in _THE_END.finditer(passage.text):
        rest = passage.text[match.end() :]
        if any(char.isalnum() for char in rest):
            yield (
                match.end() + len(rest) - len(rest.lstrip()),
                len(passage.text),
                "a story begins after “The End”",
            )


def story_end(text: str) -> tuple[int, int] | None:
    """Where the first line "The End" in a text begins and ends; None without one."""
    match = _THE_END.search(text)
    return None if match is None else match.span()
