"""Read what a person changed in a book from the file that they edited."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from templora_cli.documents.book import book_of_prose
from templora_cli.documents.registry import render_book
from templora_cli.errors import TemploraError
from templora_cli.events import in_words
from templora_cli.files import write_atomically
from templora_cli.novel.chapter_edits import ChapterEditor, Segment, segments_of, written_chapters_of
from templora_cli.novel.chapter_headings import heading_ranges
from templora_cli.novel.edited_file import Mark, merge, read_mark, without_title
from templora_cli.novel.plan import Plan, plan_text, read_plan
from templora_cli.novel.revised_chunks import ChunkReviser
from templora_cli.novel.revision import Revision, paragraphs, revise
from templora_cli.novel.shown import shown_in
from templora_cli.prompt_files import PromptFile
from templora_cli.sessions.book_file import path_key, synced_file
from templora_cli.sessions.kind import TaskKind
from templora_cli.sessions.store import Session
from templora_cli.sessions.versions import changes_of, chunks_before
from templora_cli.text import count_words

Values = Mapping[str, Any]
MIN_KNOWN, MIN_KEPT = 0.1, 0.5
"""The share of the book's words that a file of it must have, and the share below which a person is asked."""
MIN_WORDS = 50
"""Of a shorter book all words may have been changed."""
LAST_WORDS, LAST_CHARACTERS = 8, 400
"""A file that ends with as many words of a chunk ends with that chunk; they are among its last characters."""
SECTIONS = "sections"
EXCERPT = 40
"""Characters of a paragraph in an error."""


@dataclass(frozen=True)
class Edits:
    """What a person changed in a part of a book."""

    revision: Revision
    part: range
    """The chunks that were in the file."""
    text: str
    """The text of the file."""
    mark: Mark | None
    """That of the file, if it has one."""
    notices: tuple[str, ...] = ()
    question: str | None = None
    """What to ask the person before so much is taken away."""
    has_other_title: bool = False
    """Has the file a title that the book has not?"""
    lead: str = ""
    """The text before the first chapter, if there are `segments`."""
    segments: tuple[Segment, ...] = ()
    """The chapters of the file, if they are not those of the book, in their order and with their titles."""

    @property
    def summary(self) -> str:
        """What was changed, in words: "3 paragraphs changed, 1 deleted"."""
        counts = {
            "changed": self.revision.changed,
            "deleted": self.revision.deleted,
            "moved": self.revision.moved,
        }
        parts = [(count, did) for did, count in counts.items() if count]
        first = f"{in_words(parts[0][0], 'paragraphs')} {parts[0][1]}" if parts else "no paragraph changed"
        return ", ".join([first, *(f"{count:,} {did}" for count, did in parts[1:])])

    @property
    def is_whole_file(self) -> bool:
        """Has the book with these changes every word of the file, as it is spelt there?"""
        in_book, in_file = (
            [word.text for paragraph in paragraphs(text) for word in paragraph]
            for text in (self.revision.text, self.text)
        )
        return in_book == in_file and not self.has_other_title

    def applied(self, chunks: Sequence[Values], reviser: ChunkReviser) -> list[dict[str, Any]]:
        """The values of `chunk.json` of the book with the changes; `chunks` are those of the book now."""
        start, stop = self.part.start, self.part.stop
        revised = reviser.revised(chunks[start:stop], self.revision, chunks[:start])
        edited = [*chunks[:start], *revised, *chunks[stop:]]
        return [{**chunk, "index": index} for index, chunk in enumerate(edited)]


def mark_of(session: Session, chunks: Sequence[Values], chapter: int | None = None) -> Mark:
    """The mark of a file of the book as it is now."""
    return Mark(session.id, len(chunks), max(changes_of(session.path), default=0), chapter)


def text_for_editing(
    session: Session, kind: TaskKind, chunks: Sequence[Values], part: range, mark: Mark
) -> str:
    """The Markdown file of a book, or of a part of it, for a person to edit."""
    text = _text(chunks, part)
    if mark.chapter:
        book = book_of_prose(text, headings=list(heading_ranges(text, *plan_and_forms(session))))
    else:
        book = kind.book(session.path, session.manifest, text)
    return f"{mark}{render_book(book, Path('book.md')).decode('utf-8')}"


def part_of(
    session: Session, kind: TaskKind, chunks: Sequence[Values], chapter: int | None, command: str
) -> range:
    """The chunks of a chapter, from 1, or of the whole book.

    Raises TemploraError if there is no such chapter; `command` is that of the user, for the hint.
    """
    if chapter is None:
        return range(len(chunks))
    starts = kind.chapter_starts(chunks)
    if not starts:
        raise TemploraError(
            f"{session.id} has no chapters", f"leave out --chapter: templora {command} {session.id}"
        )
    if not 1 <= chapter <= len(starts):
        raise TemploraError(
            f"{session.id} has {in_words(len(starts), 'chapters')} so far, and no chapter {chapter}",
            f"templora {command} {session.id} --chapter {len(starts)}",
        )
    return range(starts[chapter - 1], [*starts, len(chunks)][chapter])


def read_edits(
    session: Session, kind: TaskKind, chunks: Sequence[Values], text: str, file_name: str
) -> Edits:
    """What a person changed in the `text` of a file; `chunks` are those of the book now.

    The book may have been changed since the file was made: both changes then come together. Raises
    TemploraError for a file of another book, and if both changed the same paragraphs.
    """
    mark, text = read_mark(text)
    if mark is not None and mark.session not in (session.id, *session.manifest.former_ids):
        raise TemploraError(
            f"{file_name} is of {mark.session}, not of {session.id}",
            f"templora sync {mark.session} {shlex.quote(file_name)}",
        )
    base: Sequence[Values] = chunks
    if mark is not None:
        if mark.changes < max(changes_of(session.path), default=0):
            base = chunks_before(session.path, mark.changes + 1)
        base = base[: mark.chunks]
    chapter = None if mark is None else mark.chapter
    of_base = part_of(session, kind, base, chapter, "edit")
    part = part_of(session, kind, chunks, chapter, "edit") if chapter else range(len(chunks))
    if mark is not None and chapter is None and base == chunks[: len(base)]:
        part = of_base
    was, now = _text(base, of_base), _text(chunks, part)
    title = ""
    synced = _synced_text(session, path_key(Path(file_name)) if mark is None else mark.file)
    was = was if synced is None else synced
    if chapter is None:
        book = kind.book(session.path, session.manifest, now)
        text, title = without_title(text, book.title, book.author, now)
    in_file = text
    if was != now:
        text = _merged(session, was, text, now, file_name)
    notices = []
    if title:
        notices.append(
            f"the title {title!r} is not taken: the title of the book is in its plan or its opening"
        )
    if mark is None and (missing := _chunks_not_in_file(chunks, text)):
        part = range(len(chunks) - missing)
        now = _text(chunks, part)
        last = (
            f"the last {in_words(missing, 'chunks')} of the book {'is' if missing == 1 else 'are'} not in it"
        )
        notices.append(f"{last} and will stay; to take them back: templora undo {session.id} {missing}")
    revision = revise(now, text)
    question = _question(session, revision, now, file_name)
    edits = Edits(revision, part, in_file, mark, tuple(notices), question, bool(title))
    if not kind.has_chapters or chapter is not None:
        return edits
    lead, segments = _chapters_in(session, [chunks[index] for index in part], text)
    return replace(edits, lead=lead, segments=tuple(segments))


def _chapters_in(session: Session, chunks: Sequence[Values], text: str) -> tuple[str, list[Segment]]:
    """The text before the first chapter of a file, and its chapters; none if they are those of the book."""
    plan, texts = plan_and_forms(session)
    _, chapters = written_chapters_of(chunks, plan, texts)
    lead, segments = segments_of(text, chapters)
    is_same = [each.chapter for each in segments] == list(range(len(chapters)))
    if is_same and all(each.title is None for each in segments):
        return "", []
    return lead, segments


def plan_and_forms(session: Session) -> tuple[Plan, PromptFile]:
    """The plan of a session, and the prompt file with the forms of its headings."""
    plan = shown_in(session).plan
    assert plan is not None, "a kind with chapters has a plan"
    return plan, PromptFile(SECTIONS, session.manifest.prompts[SECTIONS], "")


def edited_chapters(
    session: Session, chunks: Sequence[Values], edits: Edits, reviser: ChunkReviser
) -> tuple[list[dict[str, Any]], str]:
    """The chunks of a book with the chapters of the file, and the text of the plan that has them.

    Raises TemploraError if there can be no such plan, e.g. for two chapters with one title.
    """
    part = [chunks[index] for index in edits.part]
    plan, texts = plan_and_forms(session)
    edited, new_plan = ChapterEditor(reviser, plan, texts).edited(part, edits.lead, edits.segments)
    text = plan_text(new_plan)
    if read_plan(text) != new_plan:
        raise TemploraError(
            "these titles cannot be those of chapters", "give each chapter a short title of its own"
        )
    later = [{**chunk, "index": len(edited) + n} for n, chunk in enumerate(chunks[edits.part.stop :])]
    return [*edited, *later], text


def has_new_words(before: Sequence[Values], after: Sequence[Values]) -> bool:
    """Has a revised book words of a person that it did not have?"""
    known = {tuple(chunk["tokens"]) for chunk in before}
    changed = [chunk for chunk in after if tuple(chunk["tokens"]) not in known]
    return any(chunk["origin"] == "human" or chunk.get("human") for chunk in changed)


def keep_synced(session: Session, edits: Edits) -> None:
    """Keep the text of a file that was applied: what a person changes in it later is compared with that."""
    if edits.mark is not None:
        path = synced_file(session.path, edits.mark.file)
        path.parent.mkdir(exist_ok=True)
        number = max(changes_of(session.path), default=0)
        write_atomically(path, f"{number}\n{edits.text}")


def _synced_text(session: Session, key: str) -> str | None:
    """The text of a file as it was applied or set aside last; None if that was taken back since."""
    path = synced_file(session.path, key)
    if not path.is_file():
        return None
    text = path.read_text("utf-8")
    first, _, rest = text.partition("\n")
    if not first.isdecimal():
        return text  # of a file that was set aside
    later = [change.kind for number, change in changes_of(session.path).items() if number > int(first)]
    return None if {"undo", "restore"} & set(later) else rest


def _text(chunks: Sequence[Values], part: range) -> str:
    return "".join(chunks[index]["text"] for index in part)


def _merged(session: Session, base: str, mine: str, theirs: str, file_name: str) -> str:
    """The text of the book now with what was changed in a file of an earlier state of it."""
    text, conflicts = merge(base, mine, theirs)
    if conflicts:
        first = " ".join(conflicts[0].split())[:EXCERPT].rstrip()
        raise TemploraError(
            f"{file_name} is of an earlier state of {session.id}, and both changed "
            f"{in_words(len(conflicts), 'paragraphs')}, first “{first}…”",
            f"put your changes into the book as it is now: templora edit {session.id}",
        )
    return text


def _chunks_not_in_file(chunks: Sequence[Values], text: str) -> int:
    """How many chunks at the end of the book a file has nothing of: they were written since, or left out."""
    whole = _text(chunks, range(len(chunks)))
    end, at = _last_words(text), len(whole)
    for count, chunk in enumerate(reversed(chunks)):
        if _last_words(whole[max(0, at - LAST_CHARACTERS) : at]) == end:
            return count
        at -= len(chunk["text"])
    kept = [piece for piece in revise(whole, text).pieces if piece.start is not None and piece.text.strip()]
    last, at = max((piece.end for piece in kept), default=0), len(whole)
    for count, chunk in enumerate(reversed(chunks)):
        at -= len(chunk["text"])
        if last > at + len(chunk["text"]) - len(chunk["text"].lstrip()):
            return count
    return 0


def _last_words(text: str) -> list[str]:
    words = [word.key for paragraph in paragraphs(text[-LAST_CHARACTERS:]) for word in paragraph]
    return words[-LAST_WORDS:]


def _question(session: Session, revision: Revision, before: str, file_name: str) -> str | None:
    """What to ask if most of a book is gone. Raises TemploraError if the file is of another book."""
    old = count_words(before)
    kept = count_words(" ".join(piece.text for piece in revision.pieces if piece.start is not None))
    if old >= MIN_WORDS and kept < MIN_KNOWN * old:
        raise TemploraError(
            f"{file_name} does not look like {session.id}: hardly a sentence of it is in that book",
            "name the session of this file; to list all: templora sessions list",
        )
    if old >= MIN_WORDS and kept < MIN_KEPT * old:
        return (
            f"{file_name} has {kept:,} of the {old:,} words of {session.id}. Take the others out of the book?"
        )
    return None
