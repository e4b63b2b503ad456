"""Chapters that a person moved, added, took away or renamed in the file of a book with a plan."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from templora_cli.errors import TemploraError
from templora_cli.novel.chapter_headings import chapter_heading, heading_ranges, part_heading
from templora_cli.novel.plan import Plan, PlannedChapter
from templora_cli.novel.plan_headings import split_number
from templora_cli.novel.revised_chunks import ChunkReviser
from templora_cli.novel.revision import Piece, Revision, key_of, paragraphs, revise
from templora_cli.prompt_files import PromptFile
from templora_cli.text import count_words, decode

Values = Mapping[str, Any]
SAME_CHAPTER = 0.5
"""The share of a chapter's phrases that a chapter with another heading must have to be the same one."""
GAP = "\n\n"
_LINE = re.compile(r"[^\n]*\S[^\n]*")
_MARK = re.compile(r"[^\S\n]*#{1,6}[^\S\n]+(?=\S)")

Key = tuple[str, ...]


@dataclass(frozen=True)
class WrittenChapter:
    """A chapter of a book with a plan, as it was written."""

    chunks: tuple[Values, ...]
    heading: str
    """Its heading, and that of a part which begins with it, with the white space around them."""
    body: str

    @property
    def keys(self) -> list[Key]:
        """Its heading for comparisons, a key for each line."""
        return [*map(key_of, paragraphs(self.heading))]

    @property
    def is_finished(self) -> bool:
        """Was it written to its end?"""
        return bool(self.chunks[-1]["record"]["chapter_end"])


@dataclass(frozen=True)
class Segment:
    """A chapter in the file of a person."""

    chapter: int | None
    """Which written chapter it is, by its index; None for a new one."""
    title: str | None
    """Its title if it is new or was renamed."""
    text: str


def written_chapters_of(
    chunks: Sequence[Values], plan: Plan, texts: PromptFile
) -> tuple[list[Values], list[WrittenChapter]]:
    """The chunks before the first chapter, and the chapters; `texts` has the forms of headings."""
    opening: list[Values] = []
    groups: list[list[Values]] = []
    for chunk in chunks:
        record = chunk["record"] if isinstance(chunk["record"], dict) else {}
        if "chapter" not in record:
            opening.append(chunk)
        elif groups and groups[-1][-1]["record"]["chapter"] == record["chapter"]:
            groups[-1].append(chunk)
        else:
            groups.append([chunk])
    whole, start = _text(chunks), len(_text(opening))
    headings = list(heading_ranges(whole, plan, texts, start))
    chapters = []
    for group in groups:
        text = _text(group)
        end = next((b - start for a, b in headings if start <= a < start + len(text)), 0)
        end += len(text[end:]) - len(text[end:].lstrip())
        chapters.append(WrittenChapter(tuple(group), text[:end], text[end:]))
        start += len(text)
    return opening, chapters


def _text(chunks: Sequence[Values]) -> str:
    return "".join(chunk["text"] for chunk in chunks)


def segments_of(text: str, chapters: Sequence[WrittenChapter]) -> tuple[str, list[Segment]]:
    """The text before the first chapter of a file, and its chapters in order.

    Raises TemploraError for a heading that is gone while its text is there, for a chapter without text, and
    if the last chapter is not finished and is no longer the last one.
    """
    in_book = {key_of(each) for chapter in chapters for each in paragraphs(chapter.body)}
    lines = [(line.start(), line.end(), _MARK.match(line[0]) is not None) for line in _LINE.finditer(text)]
    keys = [next(map(key_of, paragraphs(text[start:end])), ()) for start, end, _ in lines]
    found: list[tuple[int, int, int | None, str]] = []  # start and end of the heading, chapter, title
    known = dict(enumerate(chapter.keys for chapter in chapters))
    index = 0
    while index < len(lines):
        chapter = next(
            (n for n, heading in known.items() if keys[index : index + len(heading)] == heading), None
        )
        if chapter is not None:
            length = len(known.pop(chapter))
            found.append((lines[index][0], lines[index + length - 1][1], chapter, ""))
            index += length
            continue
        if lines[index][2] and keys[index] not in in_book:
            title = split_number(_MARK.sub("", text[lines[index][0] : lines[index][1]]).strip())[0]
            found.append((lines[index][0], lines[index][1], None, title))
        index += 1
    ends = [start for start, *_ in found[1:]] + [len(text)]
    segments = [
        Segment(chapter, title or None, text[end:stop].strip())
        for (_, end, chapter, title), stop in zip(found, ends, strict=True)
    ]
    segments = _with_renamed(segments, chapters, known)
    lead = text[: found[0][0]] if found else text
    _check_headings(lead, segments, chapters)
    return lead, segments


def _with_renamed(
    segments: Sequence[Segment], chapters: Sequence[WrittenChapter], missing: Mapping[int, Any]
) -> list[Segment]:
    """The segments, with those recognised that are written chapters under another title."""
    left = set(missing)
    result = []
    for segment in segments:
        if segment.chapter is None and left:
            best = max(left, key=lambda n: _shared(chapters[n].body, segment.text))
            if _shared(chapters[best].body, segment.text) >= SAME_CHAPTER:
                left.discard(best)
                segment = replace(segment, chapter=best)
        result.append(segment)
    return result


def _shared(old: str, new: str) -> float:
    """The share of the phrases of three words of `old` that `new` has."""
    one, other = (Counter(_phrases(text)) for text in (old, new))
    return (one & other).total() / max(1, one.total())


def _phrases(text: str) -> Iterator[Key]:
    words = [word.key for paragraph in paragraphs(text) for word in paragraph]
    return zip(words, words[1:], words[2:], strict=False)


def _check_headings(lead: str, segments: Sequence[Segment], chapters: Sequence[WrittenChapter]) -> None:
    there = {segment.chapter for segment in segments}
    for index, chapter in enumerate(chapters):
        texts = [lead, *(segment.text for segment in segments)]
        if index not in there and max(_shared(chapter.body, text) for text in texts) >= SAME_CHAPTER:
            name = " ".join(chapter.heading.split())
            raise TemploraError(
                f"the heading of a chapter is gone, and its text is still there: {name}",
                "put it back, or take its text out too",
            )
        if index not in there and not chapter.is_finished:
            raise TemploraError(
                f"chapter {index + 1} is not finished and cannot be taken out", "take it back: templora undo"
            )
    order = [segment.chapter for segment in segments]
    if chapters and not chapters[-1].is_finished and order and order[-1] != len(chapters) - 1:
        raise TemploraError(
            f"chapter {len(chapters)} is not finished and must stay the last one", "put it back to the end"
        )
    for segment in segments:
        if not segment.text:
            raise TemploraError(
                f"a chapter of the file has no text: {segment.title or 'chapter ' + str(segment.chapter)}",
                "write some, or take its heading out",
            )


@dataclass(frozen=True)
class ChapterEditor:
    """Makes the chunks and the plan of a book whose chapters a person has put in another order."""

    reviser: ChunkReviser
    plan: Plan
    texts: PromptFile
    """The prompt file with the forms of headings."""

    def edited(
        self, chunks: Sequence[Values], lead: str, segments: Sequence[Segment]
    ) -> tuple[list[dict[str, Any]], Plan]:
        """The chunks with the chapters of the file, and the plan that has them."""
        opening, chapters = written_chapters_of(chunks, self.plan, self.texts)
        plan = self._plan(segments, len(chapters))
        before = "".join(chunk["text"] for chunk in opening)
        new: list[Values] = list(self.reviser.revised(opening, revise(before, lead)) if opening else [])
        for number, segment in enumerate(segments):
            heading = self._heading(plan, number, new)
            if segment.chapter is None:
                new += self._added(chunks[-1], number, heading, segment.text, plan)
            else:
                at = chunks.index(chapters[segment.chapter].chunks[0])
                group = self._revised(chapters[segment.chapter], segment.text, chunks[:at])
                new += self._placed(group, number, heading, plan)
        return [{**chunk, "index": index} for index, chunk in enumerate(new)], plan

    def _plan(self, segments: Sequence[Segment], begun: int) -> Plan:
        planned: list[PlannedChapter] = []
        for segment in segments:
            if segment.chapter is None:
                part = planned[-1].part if planned else self.plan.chapters[0].part
                planned.append(PlannedChapter(segment.title or "", "", count_words(segment.text), part))
            else:
                old = self.plan.chapters[segment.chapter]
                planned.append(old if segment.title is None else replace(old, title=segment.title))
        return replace(self.plan, chapters=(*planned, *self.plan.chapters[begun:]))

    def _heading(self, plan: Plan, number: int, before: Sequence[Values]) -> tuple[list[int], str]:
        """The tokens of a heading after the chunks before it, and its text."""
        part, end = part_heading(plan, number), before[-1]["text"] if before else ""
        gap = "\n" * max(0, 2 - (len(end) - len(end.rstrip("\n")))) if before else ""
        text = f"{gap}{part + GAP if part else ''}{chapter_heading(plan, number, self.texts)}{GAP}"
        tokens = self.reviser.tokenizer.encode(text, add_special_tokens=False, split_special_tokens=True)
        return tokens, text

    def _revised(self, chapter: WrittenChapter, text: str, before: Sequence[Values]) -> list[dict[str, Any]]:
        revision = revise(chapter.heading + chapter.body, chapter.heading + text)
        return self.reviser.revised(chapter.chunks, revision, before)

    def _placed(
        self, group: Sequence[Values], number: int, heading: tuple[list[int], str], plan: Plan
    ) -> Iterator[Values]:
        """The chunks of a chapter with its number, title and heading in the plan."""
        tokens, text = heading
        for index, chunk in enumerate(group):
            record = {**chunk["record"], "chapter": number, "title": plan.chapters[number].title}
            if record.get("chapter_end"):
                record["digest"] = plan.chapters[number].digest
            old = chunk["record"]["body"] - chunk["record"]["heading"]
            record |= {"heading": 0, "body": len(tokens)}
            if index:
                yield {**chunk, "record": record}
                continue
            old_text = group[0]["text"][: self._length(chunk["tokens"][:old])]
            yield {
                **chunk,
                "tokens": [*tokens, *chunk["tokens"][old:]],
                "text": text + chunk["text"][len(old_text) :],
                "human": [[a + len(tokens) - old, b + len(tokens) - old] for a, b in chunk.get("human", ())],
                "unlearnt": [[0, len(tokens)]]
                + [[a + len(tokens) - old, b + len(tokens) - old] for a, b in chunk["unlearnt"] if a >= old],
                "record": record,
            }

    def _length(self, tokens: Sequence[int]) -> int:
        return len(decode(self.reviser.tokenizer, tokens))

    def _added(
        self, like: Values, number: int, heading: tuple[list[int], str], text: str, plan: Plan
    ) -> list[dict[str, Any]]:
        """The chunks of a chapter that a person has written; they are `like` another one otherwise."""
        tokens, title = heading
        planned = plan.chapters[number]
        record = {"chapter": number, "title": planned.title, "heading": 0, "body": len(tokens)}
        record |= {"chapter_end": True, "end": "paragraph", "digest": planned.digest}
        values: dict[str, Any] = {
            "tokens": tokens,
            "text": title,
            "record": record,
            "unlearnt": [[0, len(tokens)]],
            "human": [],
        }
        values |= {"origin": "generated", "rejection_reason": None, "proposed": False, "continues": False}
        body = GAP.join(text[each[0].start : each[-1].end] for each in paragraphs(text))
        pieces = (Piece(title, 0), Piece(body))
        return self.reviser.revised([{**like, **values}], Revision(pieces, 1, 0, 0, 0))
