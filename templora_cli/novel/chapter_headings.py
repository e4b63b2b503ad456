"""The headings of the chapters of a plan: written into the book, and found in its text again."""

from __future__ import annotations

import re
from collections.abc import Iterator

from templora_cli.languages import language
from templora_cli.novel.plan import Plan
from templora_cli.prompt_files import PromptFile


def chapter_heading(plan: Plan, index: int, texts: PromptFile) -> str:
    """The heading of a chapter, in the language of the plan; `texts` is the prompt file with the forms."""
    base = language(plan.language).base if plan.language else "en"
    return _heading(plan, index, texts, base if base in texts.texts["headings"] else "en")


def part_heading(plan: Plan, index: int) -> str:
    """The heading of the part that begins with a chapter; "" if none does."""
    part = plan.chapters[index].part or ""
    return part if index == 0 or plan.chapters[index - 1].part != part else ""


def heading_ranges(text: str, plan: Plan, texts: PromptFile, start: int = 0) -> Iterator[tuple[int, int]]:
    """The ranges of the headings in the text of a book from `start` on, with those of parts, in order.

    They are found in every language: the plan may have got another one since they were written.
    """
    bases = [key for key in texts.texts["headings"] if not key.endswith("_titled")]
    for index in range(len(plan.chapters)):
        headings = dict.fromkeys(_heading(plan, index, texts, base) for base in bases)
        part = part_heading(plan, index)
        before = f"(?:^{re.escape(part)}\n\n)?" if part else ""
        pattern = rf"(?m){before}^(?:{'|'.join(map(re.escape, headings))})$"
        found = re.compile(pattern).search(text, start)
        if found is not None:  # otherwise it is not written yet, or its chunk is lost
            yield found.span()
            start = found.end()


def _heading(plan: Plan, index: int, texts: PromptFile, base: str) -> str:
    number, title = str(index + 1), plan.chapters[index].title
    if not title:
        return texts.text("headings", base, number=number)
    return texts.text("headings", f"{base}_titled", number=number, title=title)
