"""The prompt of a novel: instruction and premise, plan, ledger, recalled passages and the author's note."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from templora_cli.chat import as_plain_words, chat_ids, first_token
from templora_cli.config import DecodeConfig
from templora_cli.novel.chapter_headings import chapter_heading
from templora_cli.novel.memory import Span
from templora_cli.novel.plan import Plan
from templora_cli.prompt import Prompt, Section, build_prompt, window
from templora_cli.prompt_files import PromptFile

Texts = Mapping[str, Sequence[str]]
PlanLines = Sequence[tuple[int, bool, str]]
"""Lines of the plan: the index of the chapter, whether it comes before the one being written, the line."""


@dataclass(frozen=True)
class ChapterView:
    """The chapter that the next chunk belongs to."""

    index: int
    """Its index in the plan, from 0."""
    is_closing: bool = False
    """Is it to come to its end?"""
    spans: tuple[Span, ...] = ()
    """Where heading and text of each chapter so far begin."""


@dataclass(frozen=True)
class Memory:
    """Finds what the model is shown beside the window. Each function gets the recent text and the plan."""

    ledger: Callable[[str, str], Sequence[str]] | None = None
    """Lines of the ledger, the most important first."""
    recall: Callable[[Sequence[int], Sequence[Span], str], Sequence[str]] | None = None
    """Passages of the book that have left the window, the best first. It also gets the chapters."""


@dataclass(frozen=True)
class NovelPrompt:
    """Builds the prompt of each turn. The book follows it directly; for a chat model, as its answer."""

    tokenizer: Any
    texts: PromptFile
    section_texts: PromptFile
    premise: str
    has_opening: bool
    """Does the book begin with a human opening?"""
    decode: DecodeConfig
    plan: Plan | None = None
    memory: Memory = Memory()
    note: str = ""
    """The author's note for the text to come."""

    def __call__(self, book: Sequence[int], chapter: ChapterView | None = None) -> Prompt:
        """The prompt of the chunk that follows `book`, in a `chapter` of the plan."""
        recent = window(book, self.decode.context_tokens)
        order = [] if chapter is None else self._plan_lines(chapter)
        sections = (*self.sections, *self._passing(book, recent, chapter, order))
        return build_prompt(sections, partial(self.layout, plan=sorted(order)), recent)

    @property
    def sections(self) -> tuple[Section, ...]:
        """Instruction and premise, without length limits."""
        system = self.texts.text("chat", "system").strip() if self.tokenizer.chat_template else ""
        premise = self._plain("\n".join(filter(None, dict.fromkeys((self.premise, *self._facts)))))
        texts = (("instruction", system), ("premise", premise))
        return tuple(Section(name, (text,)) for name, text in texts if text)

    @property
    def max_sections(self) -> tuple[Section, ...]:
        """All sections that a prompt may have, with their budgets, for the planner and the window check."""
        closing = (self.section_texts.text("sections", "ending"),) if self.plan else ()
        sizes = {
            "plan": self.decode.plan_tokens if self.plan else 0,
            "ledger": self.decode.ledger_tokens if self.memory.ledger else 0,
            "recall": self.decode.recall_tokens if self.memory.recall else 0,
            "note": self.decode.note_tokens if self.note else 0,
        }
        budgets = tuple(Section(name, (), budget=size, passing=True) for name, size in sizes.items())
        return (*self.sections, Section("closing", closing, passing=True), *budgets)

    def heading(self, index: int) -> str:
        """The heading of a chapter, in the language of the plan."""
        assert self.plan is not None
        return chapter_heading(self.plan, index, self.section_texts)

    @property
    def _facts(self) -> tuple[str, ...]:
        if self.plan is None:
            return ()
        names = ("title", "point_of_view", "tense", "style", "language")
        facts = {name: str(getattr(self.plan, name)) for name in names}
        lines = [
            self.section_texts.text("sections", name, value=value) for name, value in facts.items() if value
        ]
        return (*([self.plan.premise] if self.plan.premise else []), *lines)

    def _passing(
        self, book: Sequence[int], recent: Sequence[int], chapter: ChapterView | None, order: PlanLines
    ) -> tuple[Section, ...]:
        """The sections that change from chunk to chunk."""
        decode, planned = self.decode, "" if chapter is None else self._planned(chapter.index)
        spans = () if chapter is None else chapter.spans
        items: dict[str, tuple[Sequence[str], int | None]] = {}
        if chapter is not None:
            items["plan"] = [line for _, _, line in order], decode.plan_tokens
            last = self.plan is not None and chapter.index == len(self.plan.chapters) - 1
            closing = self.section_texts.text("sections", "ending" if last else "closing")
            items["closing"] = [closing] if chapter.is_closing else [], None
        if self.memory.ledger is not None:
            text = str(self.tokenizer.decode(list(recent), skip_special_tokens=True))
            items["ledger"] = self.memory.ledger(text, planned), decode.ledger_tokens
        if self.memory.recall is not None:
            items["recall"] = self.memory.recall(book, spans, planned), decode.recall_tokens
        items["note"] = [self.note] if self.note else [], None
        return tuple(
            Section(name, tuple(self._plain(line) for line in lines), budget, passing=True)
            for name, (lines, budget) in items.items()
            if lines
        )

    def _plan_lines(self, chapter: ChapterView) -> PlanLines:
        """Lines of the plan, the most important first: this chapter, the next, then those before it."""
        assert self.plan is not None
        now, count = chapter.index, len(self.plan.chapters)
        order = [now, *([now + 1] if now + 1 < count else []), *range(now - 1, -1, -1)]
        keys = {index: "chapter" if index == now else "next_chapter" for index in (now, now + 1)}
        lines = []
        for index in order:
            key, summary = keys.get(index, "chapter_line"), self._summary(index)
            if not summary and index != now:
                continue
            key = key if summary else "chapter_without_summary"
            line = self.section_texts.text("sections", key, heading=self.heading(index), summary=summary)
            lines.append((index, index < now, self._plain(line)))
        return lines

    def _planned(self, index: int) -> str:
        """What the plan says of a chapter: it names people, places and things."""
        assert self.plan is not None
        return "\n".join((self.plan.chapters[index].title, self._summary(index)))

    def _summary(self, index: int) -> str:
        assert self.plan is not None
        return " ".join(self.plan.chapters[index].summary.split())

    def layout(self, sections: Texts, plan: PlanLines = ()) -> tuple[int, ...]:
        """The token ids of the sections, in the chat template if the model has one. Never empty.

        `plan` has the lines of the section "plan" in the order in which they are read.
        """
        premise = "\n\n".join(sections.get("premise", ()))
        blocks = "".join(f"{block}\n\n" for block in self._blocks(sections, plan))
        key = self._key(premise)
        if self.tokenizer.chat_template:
            user = self.texts.text("chat", key, premise=premise, sections=blocks).strip()
            return chat_ids(self.tokenizer, "\n\n".join(sections.get("instruction", ())), user)
        text = self.texts.text("plain", key, premise=premise, sections=blocks).lstrip()
        return tuple(self.tokenizer.encode(text)) or first_token(self.tokenizer)

    def _key(self, premise: str) -> str:
        if self.plan is not None:
            return "planned" if premise else "planned_alone"
        return (
            "premise" if premise and not self.has_opening else "premise_and_opening" if premise else "opening"
        )

    def _blocks(self, sections: Texts, plan: PlanLines) -> list[str]:
        """The texts of the sections that change, in the order in which they are read."""
        fitting = [(is_before, line) for _, is_before, line in plan if line in sections.get("plan", ())]
        before = [line for is_before, line in fitting if is_before]
        blocks = [self._listed("chapters_before", before)] if before else []
        blocks += [line for is_before, line in fitting if not is_before]
        blocks += [self._listed(name, sections[name]) for name in ("ledger", "recall") if sections.get(name)]
        blocks += sections.get("closing", ())
        blocks += [
            self.section_texts.text("sections", "note", note=note) for note in sections.get("note", ())
        ]
        return blocks

    def _plain(self, text: str) -> str:
        return str(as_plain_words(self.tokenizer, text))

    def _listed(self, key: str, lines: Sequence[str]) -> str:
        return self.section_texts.text(
            "sections", key, lines="\n".join(f"- {line}" for line in lines)
        ).strip()


def opening_tokens(tokenizer: Any, text: str) -> tuple[int, ...]:
    """Token ids of a human text; special tokens in it are read as plain text."""
    return tuple(tokenizer.encode(text, add_special_tokens=False, split_special_tokens=True))
