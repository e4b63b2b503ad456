"""What a model answered when it was asked for a title or a chapter of a plan."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from templora_cli.errors import TemploraError
from templora_cli.novel import plan_headings as headings
from templora_cli.novel.passage import Passage
from templora_cli.novel.plan import PlannedChapter
from templora_cli.novel.plan_markdown import clean, plain_text, read_blocks
from templora_cli.novel.sentence_end import ends_sentence
from templora_cli.novel.talk import assistant_talk
from templora_cli.text import sentences

MAX_TITLE_CHARS = 80
MAX_SENTENCES = 4

_LABEL = re.compile(
    r"(?:the )?(?:(?:chapter |book )?title|summary|plot|what happens|titel|zusammenfassung|titre|résumé"
    r"|título|resumen"
    r"|标题|標題|书名|章名|摘要|概要|内容|タイトル)\s*[:：]\s*",
    re.IGNORECASE,
)
_QUOTES = ('""', "''", "“”", "‘’", "„“", "«»", "»«", "《》", "「」", "『』", "〈〉")
_AFTER_TITLE = re.compile(r"\s*[:：]\s*|\s+[–—-]\s+|(?<=[.!?])\s+|(?<=[。！？])|\s*——\s*")


class Unusable(Exception):
    """An answer that is not what was asked for. The message says why, as in "the answer was empty"."""


def title_of(answer: str) -> str:
    """The title of a book from an answer. Raises Unusable."""
    return _checked_title(_title(_lines(answer.split("\n"))[0]))


def chapter_of(answer: str, number: int) -> PlannedChapter:
    """The chapter from an answer: its title, and at most `MAX_SENTENCES` sentences. Raises Unusable.

    What follows is ignored from a heading of the next chapter on.
    """
    first, *rest = _lines(_before_next_chapter(answer.split("\n"), number))
    title = _title(first)
    if not rest or len(title) > MAX_TITLE_CHARS:  # all in one line
        parts = _AFTER_TITLE.split(_unlabelled(first), maxsplit=1)
        title, rest = _title(parts[0]), [*parts[1:], *rest]
    return PlannedChapter(_checked_title(title), _summary(rest), None, None)


def _before_next_chapter(lines: Sequence[str], number: int) -> Sequence[str]:
    """The lines before the heading of the chapter after `number`."""
    following = re.compile(rf"[*_#>\s]*{number + 1}[.):]")
    has_begun = False
    for index, line in enumerate(lines):
        if has_begun and (following.match(line) or _number_of(line) == number + 1):
            return lines[:index]
        has_begun = has_begun or bool(line.strip())
    return lines


def _number_of(line: str) -> int | None:
    """The number of a line such as "Chapter 4"; None if it is another line or the number is a word."""
    digits = re.search(r"\d+", line) if headings.names_chapter(line.lstrip("#*_> ")) else None
    return int(digits[0]) if digits else None


def _lines(lines: Iterable[str]) -> list[str]:
    """The lines of an answer as inline Markdown, without those that only lead up to it. Raises Unusable."""
    try:
        raws = [block.raw for line in lines for block in read_blocks(line.strip())]
    except TemploraError:
        raise Unusable("the answer was not a title with sentences below it") from None
    raws = [raw for raw in raws if any(char.isalnum() for char in plain_text(raw))]
    while len(raws) > 1 and _leads_up(raws[0]):
        del raws[0]
    text = "\n".join(map(plain_text, raws))
    if not text:
        raise Unusable("the answer was empty")
    if any(assistant_talk(Passage.of(text, ""))):
        raise Unusable("the model talked about the question instead of answering it")
    if "\ufffd" in text:
        raise Unusable("it had characters that are no text")
    return raws


def _leads_up(raw: str) -> bool:
    """Is a line "Here is the plan:", "Title:" or a number?"""
    return plain_text(raw).endswith((":", "：")) or not _unlabelled(raw)


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
    return text if is_open else text.rstrip(":.。 ")


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


def _summary(lines: Iterable[str]) -> str:
    """The sentences of a summary that are complete, in one line. Raises Unusable if there is none."""
    parts: list[str] = []
    for raw in lines:
        text = _unquoted(_unlabelled(raw))
        if text and not headings.is_ellipsis(raw, is_heading=False):
            parts += sentences(text + " ")
    parts = parts[:MAX_SENTENCES]
    while parts and not ends_sentence(parts[-1]):  # the answer was cut, or it is a heading
        parts.pop()
    if not parts:
        raise Unusable("it did not say in a complete sentence what happens")
    return clean("".join(parts))
