"""The chunks of a book whose text a person has revised: only those that changed get new tokens."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import accumulate, islice, takewhile
from typing import Any, Literal

from templora_cli.errors import TemploraError
from templora_cli.novel.opening import with_opening_ended
from templora_cli.novel.revision import Piece, Revision
from templora_cli.text import TextStream, decode, sentences
from templora_cli.turn import mask_of, ranges_of

Values = Mapping[str, Any]
LEAD = 40
"""Characters before a text that are encoded with it."""
Scope = Literal["change", "sentence", "paragraph"]
RANGES = ("human", "unlearnt")
"""Values of a chunk that are ranges of its tokens."""
MODEL, HUMAN, UNLEARNT = "m", "h", "u"
"""Labels of characters: whose they are, or that they are neither scored nor learnt."""


@dataclass(frozen=True)
class _Part:
    """A part of the new text of a chunk."""

    text: str
    labels: str
    """A label for each character."""
    start: int | None = None
    """Where it stood in the text of the book; None if it is new, or stood in another place."""
    is_new: bool = False


@dataclass(frozen=True)
class _OldChunk:
    """A chunk of the book before, with what is known of its tokens."""

    values: Values
    start: int
    """Where it begins in the text of the book."""
    spans: tuple[tuple[int, int], ...]
    """For each token, its range of characters in the text of the chunk."""
    heading: int
    """Tokens of the heading with which it begins; 0 without one."""

    @property
    def tail(self) -> int:
        """Tokens at its end that are the beginning of a character; the next chunk has the rest of it."""
        return sum(1 for _ in takewhile(lambda span: span[0] == span[1], reversed(self.spans)))

    def with_first(self, tokens: Sequence[int]) -> _OldChunk:
        """The chunk with the tokens of an incomplete character before its own."""
        if not tokens:
            return self
        shifted = {
            name: [[a + len(tokens), b + len(tokens)] for a, b in self.values.get(name, ())]
            for name in RANGES
        }
        values = {**self.values, **shifted, "tokens": [*tokens, *self.values["tokens"]]}
        return replace(self, values=values, spans=((0, 0),) * len(tokens) + self.spans)

    def without_last(self, count: int) -> _OldChunk:
        """The chunk without its last `count` tokens, which have no text."""
        if not count:
            return self
        length = len(self.spans) - count
        kept = {
            name: [[a, min(b, length)] for a, b in self.values.get(name, ()) if a < length] for name in RANGES
        }
        values = {**self.values, **kept, "tokens": self.values["tokens"][:length]}
        return replace(self, values=values, spans=self.spans[:length])


@dataclass(frozen=True)
class ChunkReviser:
    """Makes the chunks of a revised book."""

    tokenizer: Any
    chunk_tokens: int
    """The maximum length of a chunk."""
    scope: Scope = "sentence"
    """What is learnt as a person's with the words that they changed: the sentence or paragraph with them."""

    def revised(
        self, chunks: Sequence[Values], revision: Revision, before: Sequence[Values] = ()
    ) -> list[dict[str, Any]]:
        """The values of `chunk.json` of the revised text that `chunks` had; `before` are those before it.

        What became too long is divided, and what became empty is left out. Raises TemploraError if a heading
        was changed.
        """
        old = list(self._read(chunks, before[-1:]))
        labels = "".join(map(_labels, old))
        divided = _by_chunk(revision.pieces, [*(each.start for each in old), len(labels)], labels)
        is_changed = [not _is_unchanged(each, parts) for each, parts in zip(old, divided, strict=True)]
        whole = _with_whole_characters(old, is_changed, self.chunk_tokens)
        revised: list[Values] = []
        space: list[_Part] = []  # left of chunks that are gone
        for (each, changed), parts in zip(whole, divided, strict=True):
            if not changed and not space:
                revised.append(each.values)
                continue
            if changed:
                _check_heading(each, parts)
            if each.heading and space and revised:
                revised[-1] = self._with_space(revised[-1], "".join(part.text for part in space))
                space = []
            if not each.heading:
                parts, space = [*space, *parts], []
            if (text := "".join(part.text for part in parts)).strip():
                revised += self._changed(each, text, parts, revised or before)
            else:
                space = parts
                _end_chapter_earlier(revised, each.values)
        if space and revised:
            revised[-1] = self._with_space(revised[-1], "".join(part.text for part in space))
        if any(
            changed for each, changed in zip(old, is_changed, strict=True) if each.values["origin"] == "human"
        ):
            revised = with_opening_ended(revised)
        return [{**chunk, "index": len(before) + index} for index, chunk in enumerate(revised)]

    def _read(self, chunks: Sequence[Values], before: Sequence[Values]) -> Iterator[_OldChunk]:
        past = [token for chunk in before for token in chunk["tokens"]]
        stream = TextStream(lambda tokens: decode(self.tokenizer, tokens), past)
        start, chapter = 0, None
        for chunk in before:
            chapter = chunk["record"].get("chapter") if isinstance(chunk["record"], dict) else None
        for chunk in chunks:
            ends = list(accumulate(len(stream.push(token)) for token in chunk["tokens"]))
            record = chunk["record"] if isinstance(chunk["record"], dict) else {}
            is_first = "chapter" in record and record["chapter"] != chapter
            chapter = record.get("chapter")
            heading = record["body"] - record["heading"] if is_first else 0
            yield _OldChunk(chunk, start, tuple(zip([0, *ends], ends, strict=False)), heading)
            start += len(chunk["text"])

    def _with_space(self, chunk: Values, space: str) -> Values:
        """A chunk with white space after it."""
        tokens = self._encoded(space, str(chunk["text"]))
        return {**chunk, "tokens": [*chunk["tokens"], *tokens], "text": chunk["text"] + space}

    def _encoded(self, text: str, before: str) -> list[int]:
        """The tokens of a text that follows another one.

        Some tokenizers put a space before a text, which in the middle of a book is one too many. So the end
        of the text before it is encoded too, and cut off.
        """
        lead = before[-LEAD:].lstrip().partition(" ")[2] or before[-LEAD:].strip()
        encode = partial(self.tokenizer.encode, add_special_tokens=False, split_special_tokens=True)
        known, whole = encode(lead), encode(lead + text)
        if whole[: len(known)] == known:
            return list(whole[len(known) :])
        return list(encode(text))

    def _changed(
        self, old: _OldChunk, text: str, parts: Sequence[_Part], before: Sequence[Values]
    ) -> Iterator[dict[str, Any]]:
        """The chunks in place of one whose text is now `text`, after the chunks `before` it."""
        chunk = old.values
        kept = max(old.heading, _tokens_before_change(old, text))
        start = old.spans[kept - 1][1] if kept else 0
        lead = text[:start] if start else "".join(chunk["text"] for chunk in before[-1:])
        rest = self._encoded(text[start:], lead)
        tokens = [*chunk["tokens"][:kept], *rest]
        stream = TextStream(lambda tokens: decode(self.tokenizer, tokens), chunk["tokens"][:kept])
        new_ends = accumulate((len(stream.push(token)) for token in rest), initial=start)
        ends = [*(end for _, end in old.spans[:kept]), *islice(new_ends, 1, None)]
        labels = _with_surroundings(text, parts, self.scope)
        marks = [_label_of(labels, begin, end) for begin, end in zip([0, *ends], ends, strict=False)]
        marks[: old.heading] = [UNLEARNT] * old.heading
        of_person = marks if chunk["origin"] != "human" else []
        cuts = _cuts(text, ends, self.chunk_tokens)
        for number, (begin, end) in enumerate(zip([0, *cuts[:-1]], cuts, strict=True), 1):
            yield {
                **chunk,
                "tokens": tokens[begin:end],
                "text": text[ends[begin - 1] if begin else 0 : ends[end - 1]],
                "human": [list(each) for each in ranges_of(mark == HUMAN for mark in of_person[begin:end])],
                "unlearnt": [list(each) for each in ranges_of(mark == UNLEARNT for mark in marks[begin:end])],
                "record": chunk["record"] if number == len(cuts) else _unfinished(chunk["record"]),
                "continues": number > 1 or bool(chunk.get("continues")),
            }


def accepted(chunk: Values) -> dict[str, Any]:
    """A chunk of the model once a person has accepted it."""
    origin = "accepted" if chunk["origin"] == "generated" else chunk["origin"]
    reason = None if origin == "accepted" else chunk["rejection_reason"]
    return {**chunk, "origin": origin, "proposed": False, "rejection_reason": reason}


def _labels(old: _OldChunk) -> str:
    """The label of each character of a chunk."""
    count = len(old.spans)
    human, unlearnt = (mask_of(old.values.get(name, ()), count) for name in RANGES)
    if old.values["origin"] == "human":
        human = (True,) * count
    return "".join(
        (UNLEARNT if unlearnt[index] else HUMAN if human[index] else MODEL) * (end - start)
        for index, (start, end) in enumerate(old.spans)
    )


def _with_whole_characters(
    old: Sequence[_OldChunk], changed: Sequence[bool], chunk_tokens: int
) -> Iterator[tuple[_OldChunk, bool]]:
    """The chunks, and whether their tokens change.

    A character between two chunks, of which one changes, is in the second one as a whole; that may become too
    long.
    """
    first: Sequence[int] = ()  # tokens of a character that began in the chunk before
    for index, each in enumerate(old):
        is_changed = changed[index] or len(first) + len(each.spans) > chunk_tokens
        follower = old[index + 1] if index + 1 < len(old) else None
        tail = 0
        if follower and not follower.heading and (is_changed or changed[index + 1]):
            tail = each.tail
        last = each.values["tokens"][len(each.spans) - tail :]
        yield each.without_last(tail).with_first(first), is_changed
        first = last


def _by_chunk(pieces: Sequence[Piece], starts: Sequence[int], labels: str) -> list[list[_Part]]:
    """The parts of each chunk; what is new belongs to the chunk before it."""
    parts: list[list[_Part]] = [[] for _ in starts[1:]]
    first = next((piece.start for piece in pieces if piece.start is not None and not piece.is_moved), 0)
    current = next((index for index, end in enumerate(starts[1:]) if first < end), 0)
    for piece in pieces:
        if piece.start is None:
            parts[current].append(_Part(piece.text, HUMAN * len(piece.text), is_new=True))
        elif piece.is_moved:
            parts[current].append(_Part(piece.text, labels[piece.start : piece.end]))
        else:
            at = piece.start
            while at < piece.end:
                while starts[current + 1] <= at:
                    current += 1
                end = min(piece.end, starts[current + 1])
                text = piece.text[at - piece.start : end - piece.start]
                parts[current].append(_Part(text, labels[at:end], at))
                at = end
    return parts


def _is_unchanged(old: _OldChunk, parts: Sequence[_Part]) -> bool:
    at = old.start
    for part in parts:
        if part.start != at:
            return False
        at += len(part.text)
    return at == old.start + len(old.values["text"])


def _check_heading(old: _OldChunk, parts: Sequence[_Part]) -> None:
    """Raise TemploraError if the heading of a changed chunk was changed."""
    chunk = old.values
    heading = chunk["text"][: old.spans[old.heading - 1][1]].rstrip() if old.heading else ""
    kept = parts[0].text if parts and parts[0].start == old.start else ""
    if not kept.startswith(heading):
        chapter = f"chapter {chunk['record']['chapter'] + 1}, {chunk['record']['title']},"
        raise TemploraError(
            f"the heading of {chapter} was changed or taken away",
            "put it back: titles and the order of chapters are in the plan",
        )


def _end_chapter_earlier(revised: list[Values], removed: Values) -> None:
    """Let a chapter whose last chunk was removed end with the chunk before it."""
    if not isinstance(removed["record"], dict) or not removed["record"].get("chapter_end") or not revised:
        return
    revised[-1] = {**revised[-1], "record": removed["record"]}


def _unfinished(record: Any) -> Any:
    """The record of a divided chunk for its parts before the last: its chapter does not end there."""
    if not isinstance(record, dict) or "chapter" not in record:
        return record
    return {key: value for key, value in record.items() if key not in ("end", "digest")} | {
        "chapter_end": False
    }


def _tokens_before_change(old: _OldChunk, text: str) -> int:
    """How many tokens of a chunk stand before the first change, up to the end of a word."""
    before = old.values["text"]
    same = next((index for index, (a, b) in enumerate(zip(before, text, strict=False)) if a != b), None)
    same = min(len(before), len(text)) if same is None else same
    for count in range(len(old.spans), 0, -1):
        start, end = old.spans[count - 1]
        if start < end <= same and text[end - 1 : end].strip() and text[end : end + 1].isspace():
            return count
    return 0


def _with_surroundings(text: str, parts: Sequence[_Part], scope: Scope) -> str:
    """The labels of a new text: what a person changed is theirs, with what `scope` adds around it."""
    labels = list("".join(part.labels for part in parts))
    places: list[tuple[int, int]] = []
    at = 0
    for part in parts:
        end = at + len(part.text)
        if part.is_new and (words := part.text.strip()):
            start = at + part.text.index(words)
            places.append((start, start + len(words)))
        elif part.is_new:  # words were taken away, or a paragraph was divided: nothing was said
            labels[at:end] = MODEL * (end - at)
            places += [(at, end)] if "\n" not in part.text else []
        at = end
    for start, end in () if scope == "change" else _units(text, scope):
        if any(start < last and first < end for first, last in places):
            labels[start:end] = [HUMAN if label == MODEL else label for label in labels[start:end]]
    return "".join(labels)


def _units(text: str, scope: Scope) -> Iterator[tuple[int, int]]:
    """The ranges of the paragraphs of a text, or of its sentences."""
    at = 0
    for line in text.splitlines(keepends=True):
        for unit in [line] if scope == "paragraph" else sentences(line):
            yield at, at + len(unit.rstrip())
            at += len(unit)


def _label_of(labels: str, start: int, end: int) -> str:
    """The label of a token; one that ends within a character has that of the next one."""
    own = labels[start : max(end, start + 1)]
    return HUMAN if HUMAN in own else UNLEARNT if own and set(own) == {UNLEARNT} else MODEL


def _cuts(text: str, ends: Sequence[int], size: int) -> list[int]:
    """The numbers of tokens at which a text is divided into chunks of at most `size`, with that of all.

    `ends` are the ends of the tokens in the text. It is divided where a paragraph ends, or else a sentence.
    """
    count = len(ends)
    cuts = [0]
    while count - cuts[-1] > size:
        parts = -(-(count - cuts[-1]) // size)
        ideal = cuts[-1] + (count - cuts[-1]) // parts
        allowed = range(
            max(cuts[-1] + 1, ideal - size // 4), min(cuts[-1] + size, ideal + size // 4, count - 1) + 1
        )
        cuts.append(min(allowed, key=lambda cut: (_break_at(text, ends[cut - 1]), abs(cut - ideal))))
    return [*cuts[1:], count]


def _break_at(text: str, end: int) -> int:
    """How bad a place to divide a text is: 0 after a paragraph, 1 a sentence, 2 a word, 3 anywhere else."""
    before, after = text[:end], text[end : end + 1]
    if before.endswith("\n") and after != "\n":
        return 0
    if before.rstrip().endswith((".", "!", "?", "”", '"', "。", "」")) and (
        after.isspace() or before[-1:].isspace()
    ):
        return 1
    return 2 if after.isspace() else 3
