"""Lists, headings, mark-up, thoughts in tags, and text after "The End"."""

from __future__ import annotations

import re
from collections.abc import Iterator

from templora_cli.novel.passage import Passage

Match = tuple[int, int, str]
"""Start and end of a fault in `Passage.text`, and the reason without an excerpt."""

MIN_ITEMS = 3
"""A list of bullets has at least this many items; a numbered one needs two numbers in a row."""

_BULLET = re.compile(r"([*•·●▪◦‣■◆▶►✓✔➤→+-]|–)\s+\S")
_NUMBER = re.compile(r"(?:\*\*)?[\[(（]?(\d{1,3})(?:[.)）:、]|\.\))(?:\*\*)?\s*[^\s\d.]")
_LETTER = re.compile(r"\(?([a-h])\)\s+\S")
_STEP = re.compile(
    r"(?i)\W*(?:step|tip|day|rule|option|question|part|point|第)\s*(\d{1,2})\s*(?:[:.：步条点]|[-–—]\s)"
)
_DASH_SPEECH = re.compile(r"(?m)^\s*-\s+\S")

_MARKUP = (
    (re.compile(r"(?m)^\s{0,3}#{1,6}\s+\S|^\s*#{2,6}\w"), "it has a heading in Markdown"),
    (re.compile(r"(?m)^\S[^\n]{0,80}\n(?:={3,}|-{4,})[ \t]*$"), "it has a heading in Markdown"),
    (
        re.compile(r"\*\*(?![\s*])[^*\n]{1,200}(?<!\s)\*\*(?!\*)|__(?![\s_])[^_\n]{2,80}(?<!\s)__"),
        "it has bold text",
    ),
    (
        re.compile(
            r"</?(?:p|div|br|b|i|u|em|strong|span|h[1-6]|a|ul|ol|li|table|tr|td|th|img|html|head|body|title|script|style"
            r"|blockquote|pre|code|section|article|hr|font|center|sub|sup|link|meta|xml|story|chapter|text|answer|response"
            r"|output|s)(?:\s[^<>\n]*)?/?>|<!--|<!DOCTYPE|&(?:nbsp|amp|lt|gt|quot|mdash|ndash|hellip|[lr][sd]quo|#\d{2,5});"
        ),
        "it has HTML",
    ),
    (re.compile(r"```|~~~\s*\w*\s*$"), "it has a block of code"),
    (
        re.compile(
            r"(?m)\\(?:begin|end|section\*?|chapter|textbf|textit|emph|frac|item|documentclass|usepackage|title|text"
            r"|mathbf|sqrt|sum|int|cdot|ldots)\b|\$\$|\\[(\[]|\$\\?\w+[\^_=][^$\n]{0,40}\$"
        ),
        "it has LaTeX",
    ),
    (
        re.compile(r"(?m)^[ \t]*\|[^\n]*\|[ \t]*$|\|\s*:?-{3,}|\|{2,}|(?:[^\s|][^|\n]{0,40}\|){3}"),
        "it has a table",
    ),
    (
        re.compile(r"(?i)\bhttps?://|\bwww\.\w|\b\w[\w.]+@\w+\.\w{2,}|\b\w+\.(?:com|org|net)\b"),
        "it has a web address",
    ),
    (
        re.compile(r"\[[^\]\n]{1,80}\]\([^)\s]{2,}\)|!\[|\[/?(?:b|i|u|url|img|quote|center)(?:=[^\]]*)?\]"),
        "it has mark-up",
    ),
    (
        re.compile(
            r"(?m)^\s*(?:def|class) \w+[(:]|^\s*(?:import|from) \w+(?:\.\w+)*(?: import \w+|\s*$)|[;{]\s*\n\s*\}"
        ),
        "it has code",
    ),
    (re.compile(r"(?m)^\s*[{\[]?\s*\"\w+\"\s*:\s*[\"\[{\d]"), "it has JSON"),
)
_THOUGHT = re.compile(
    r"(?i)</?\s*(?:seed:)?(?:think|thinking|thought|thoughts|reason|reasoning|reflection|scratchpad|analysis|cot|inner"
    r"[ _]monologue|plan|planning)\s*/?>|\[/?(?:think|thinking|thought|reasoning)\]|<\|[^<>\n|]{1,40}\|>|\[/?INST\]"
    r"|<<?/?SYS>?>|◁/?think▷|<(?:start|end)_of_turn>|</?s>"
)
_TITLE = (
    r"(?:chapter|part|book|volume|act|scene|episode|kapitel|teil|chapitre|partie|capítulo|parte|глава|часть)\s+"
    r"(?:\d{1,3}|[ivxlc]{1,7}|(?:the )?(?:one|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|thirteen|fourteen"
    r"|fifteen|twenty|first|second|third|last|eins|zwei|drei|vier|un|deux|trois|premier|uno|dos|tres|primero))\b"
)
_CHAPTER = re.compile(
    rf"(?im)^[ \t]*[*_\[(【]*(?:{_TITLE}(?=[\s\])】*_]*(?:$|[.:：—–-]))[^\n]{{0,80}}$|(?:prologue|epilogue|interlude|prolog|epilog"
    r"|épilogue|prólogo|epílogo)\W*$|第[一二三四五六七八九十百千零〇两\d]{1,8}[章回卷节部幕][^。\n]{0,30}$|(?:序章|楔子|尾声|后记|番外)"
    r"[^。\n]{0,20}$)"
)
_THE_END = re.compile(
    r"(?im)^[ \t]*[*_~\[(（【—-]*\s*(?:the end|fin|ende|fine|the\s+end\s+of\s+the\s+(?:story|book|novel)|end of (?:the )?(?:story|book"
    r"|novel|text)|終|终|完|剧终|全文完|全书完|全剧终|大结局|конец|el fin)\s*[.!。！]*\s*[*_~\])）】—-]*[ \t]*$"
)


def lists(passage: Passage) -> Iterator[Match]:
    """Lists: bullets, consecutive numbers or letters at the beginning of lines."""
    has_dash_speech = len(_DASH_SPEECH.findall(passage.before)) >= MIN_ITEMS
    bullets: list[int] = []
    number, letter, number_start = 0, "", 0
    for start, line in passage.lines():
        bullet = _BULLET.match(line)
        if bullet and not (bullet[1] == "-" and has_dash_speech):
            bullets.append(start)
            if len(bullets) >= MIN_ITEMS:
                yield bullets[0], start + len(line), "it has a list"
        elif not passage.is_wrapped:
            bullets = []
        if counted := _NUMBER.match(line) or _STEP.match(line):
            if number and int(counted[1]) == number + 1:
                yield number_start, start + len(line), "it has a numbered list"
            else:
                number_start = start
            number = int(counted[1])
        if lettered := _LETTER.match(line):
            if letter and ord(lettered[1]) == ord(letter) + 1:
                yield start, start + len(line), "it has a list"
            letter = lettered[1]


def markup(passage: Passage) -> Iterator[Match]:
    """Markdown, HTML, LaTeX, tables, code and web addresses."""
    for pattern, reason in _MARKUP:
        for match in pattern.finditer(passage.text):
            yield match.start(), match.end(), reason


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
