"""What a model answered when it was asked for a title or a chapter of a plan."""

from __future__ import annotations

import re

from templora_cli.errors import TemploraError
from templora_cli.novel import plan_headings as headings
from templora_cli.novel.passage import Passage
from templora_cli.novel.plan import PlannedChapter
from templora_cli.novel.plan_markdown import plain_text, read_blocks
from templora_cli.novel.sentence_end import ends_sentence
from templora_cli.novel.talk import assistant_talk
from templora_cli.text import sentences

MAX_TITLE_CHARS = 80
MAX_SENTENCES = 4

_LABEL = re.compile(
    r"(?:(?:chapter |book )?title|summary|plot|what happens|titel|zusammenfassung|titre|résumé|título|resumen"
    r"|标题|標題|书名|章名|摘要|概要|内容|タイトル)\s*[:：]\s*",
    re.IGNORECASE,
)
_QUOTES = ('""', "''", "“”", "‘’", "„“", "«»", "»«", "《》", "「」", "『』", "〈〉")
_AFTER_TITLE = re.compile(r"\s*[:：]\s*|\s+[–—-]\s+|(?<=[.!?])\s+|(?<=[。！？])|\s*——\s*")


class Unusable(Exception):
    """An answer that is not what was asked for. The message says why, as in "the answer was empty"."""


def title_of(answer: str) -> str:
    """The title of a book from an answer. Raises Unusable."""
    lines = _lines(answer)
    return _checked_title(_title(lines[0]))


def chapter_of(answer: str, number: int) -> PlannedChapter:
    """The chapter from an answer: its title, and at most `MAX_SENTENCES` sentences. Raises Unusable.

    What follows is ignored from a heading of the next chapter on.
    """
    first, *rest = _lines(answer)
    title = _title(first)
    if not rest or len(title) > MAX_TITLE_CHARS:  # all in one line
        parts = _AFTER_TITLE.split(_unlabelled(first), maxsplit=1)
        title, rest = _title(parts[0]), [*parts[1:], *rest]
    title = _checked_title(title)
    summary = _summary(rest, number)
    return PlannedChapter(title, summary, None, None)


def _lines(answer: str) -> list[str]:
    """The lines of an answer as inline Markdown, without those that only lead up to it."""
    if any(assistant_talk(Passage.of(answer, ""))):
        raise Unusable("the model talked about the question instead of answering it")
    try:
        lines = [block.raw for line in answer.split("\n") for block in read_blocks(line.strip())]
    except TemploraError:
        raise Unusable("the answer was not a title with sentences below it") from None
    lines = [line for line in lines if any(char.isalnum() for char in plain_text(line))]
    while len(lines) > 1 and re.fullmatch(r"[^:：]*[:：]", plain_text(lines[0])):  # "Here is the plan:"
        del lines[0]
    if not lines:
        raise Unusable("the answer was empty")
    return lines


def _unlabelled(raw: str) -> str:
    """A line without a number and a label such as "Title:", as plain text."""
    raw, _ = headings.split_length(headings.split_number(raw)[0])
    text = plain_text(raw)
    while label := _LABEL.match(text):
        text = text[label.end() :]
    return text


def _title(raw: str) -> str:
    """A title without label, number, quotes and full stop."""
    text = _unquoted(_unlabelled(raw))
    text = _unquoted(headings.split_number(text)[0])
    is_open = text.endswith("...")
    return text if is_open else text.rstrip(":.。")


def _unquoted(text: str) -> str:
    text = text.strip()
    is_quoted = len(text) > 2 and f"{text[0]}{text[-1]}" in _QUOTES and text[0] not in text[1:-1]
    return text[1:-1].strip() if is_quoted else text


def _checked_title(title: str) -> str:
    """`title`, in one line. Raises Unusable if it is none."""
    if not any(char.isalnum() for char in title):
        raise Unusable("it had no title")
    if len(title) > MAX_TITLE_CHARS:
        raise Unusable(f"its title had more than {MAX_TITLE_CHARS} characters")
    if headings.is_ellipsis(title, is_heading=True):
        raise Unusable("it had an ellipsis in place of a title")
    return title


def _summary(lines: list[str], number: int) -> str:
    """The sentences of a summary that are complete, in one line. Raises Unusable if there is none."""
    paragraphs = []
    for raw in lines:
        if headings.names_chapter(raw) or re.match(rf"[*_#\s]*{number + 1}[.):]", raw):
            break
        if headings.is_ellipsis(raw, is_heading=False):
            continue
        text = _unquoted(_unlabelled(raw))
        if text:
            paragraphs.append(text)
    parts = [part.strip() for text in paragraphs for part in sentences(text)][:MAX_SENTENCES]
    while parts and not ends_sentence(parts[-1]):  # the answer was cut, or it is a heading
        parts.pop()
    if not parts:
        raise Unusable("it did not say in a complete sentence what happens")
    return " ".join(parts)
