"""The report of a translation as text, as JSON, and as a page with source and translation side by side."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from html import escape
from typing import Any

from templora_cli.events import Origin
from templora_cli.translation.terminology import TermUse

STATES = ("good", "retried", "corrected", "failed")


@dataclass(frozen=True)
class ParagraphReport:
    """A paragraph and its translation."""

    paragraph: int
    """Its index in the document, from 0."""
    number: str
    """Its number for people: "13", or "13.1" for a part of the 13th paragraph."""
    source: str
    target: str
    attempts: int
    failed_checks: tuple[dict[str, str], ...]
    """Each with `check` and `message`; empty if the translation is good."""
    origin: Origin = "generated"
    """The author of the translation."""
    repeated_mistakes: tuple[str, ...] = ()
    """Earlier corrections that the translation ignores, in words."""

    @property
    def state(self) -> str:
        """ "good" at the first attempt, good after it was "retried", "corrected" or approved, or "failed"."""
        if self.origin == "human":
            return "corrected"
        return "failed" if self.failed_checks else "retried" if self.attempts > 1 else "good"

    @property
    def problems(self) -> list[str]:
        """Messages of the failed checks and the repeated mistakes."""
        return [failure["message"] for failure in self.failed_checks] + list(self.repeated_mistakes)


@dataclass(frozen=True)
class Report:
    """The paragraphs of a translation that are done."""

    title: str
    paragraphs: Sequence[ParagraphReport]
    total: int
    """Number of paragraphs of the finished translation."""
    terms: Sequence[TermUse] = ()
    """How each term of the glossary was translated."""

    @property
    def counts(self) -> dict[str, int]:
        """Number of paragraphs in each state."""
        counter = Counter(paragraph.state for paragraph in self.paragraphs)
        return {state: counter[state] for state in STATES}

    @property
    def checks(self) -> dict[str, int]:
        """Number of paragraphs that fail each check, the most frequent first."""
        failures = [failure for paragraph in self.paragraphs for failure in paragraph.failed_checks]
        return dict(Counter(failure["check"] for failure in failures).most_common())

    def as_text(self) -> str:
        """The counts, a line for each paragraph with problems, and one for each term."""
        counts = ", ".join(f"{number} {state}" for state, number in self.counts.items())
        lines = [f"{self.title}: {len(self.paragraphs)} of {self.total} paragraphs: {counts}"]
        for paragraph in self.paragraphs:
            if problems := paragraph.problems:
                lines.append(f"paragraph {paragraph.number}: {'; '.join(problems)}")
        for use in self.terms:
            alternatives = ", ".join(f"{other} {count}" for other, count in use.alternatives)
            also = f"; also {alternatives}" if alternatives else ""
            term = use.term
            lines.append(f"{term.source} = {term.target}: {use.used} of {use.occurrences}{also}")
        return "\n".join(lines) + "\n"

    def as_json(self) -> str:
        """The whole report."""
        values = {
            "title": self.title,
            "total": self.total,
            "done": len(self.paragraphs),
            **self.counts,
            "checks": self.checks,
            "terms": [asdict(use) for use in self.terms],
            "paragraphs": [{"state": paragraph.state, **asdict(paragraph)} for paragraph in self.paragraphs],
        }
        return json.dumps(values, ensure_ascii=False, indent=1) + "\n"

    def as_html(self) -> str:
        """A self-contained page with source, translation and problems side by side."""
        counts = " · ".join(f"{number} {state}" for state, number in self.counts.items())
        title = escape(self.title)
        head = f'<head>\n<meta charset="utf-8">\n<title>{title}</title>\n<style>{STYLE}</style>\n</head>'
        filter_box = '<label><input type="checkbox" id="only"> only those that failed</label>'
        return "".join(
            [
                f'<!DOCTYPE html>\n<html lang="en">\n{head}\n<body>\n<h1>{title}</h1>\n',
                f"<p>{len(self.paragraphs)} of {self.total} paragraphs: {counts}</p>\n{filter_box}\n",
                "<table>\n<tr><th></th><th>Source</th><th>Translation</th><th>Checks</th></tr>\n",
                *map(_row, self.paragraphs),
                "</table>\n</body>\n</html>\n",
            ]
        )


STYLE = """
body { font: 16px/1.5 Georgia, serif; margin: 2em auto; max-width: 70em; padding: 0 1em; }
table { border-collapse: collapse; width: 100%; }
td, th { border-top: 1px solid #ccc; padding: .5em; text-align: left; vertical-align: top; }
td:first-child, td:last-child { color: #666; font: 13px/1.5 sans-serif; }
tr.failed { background: #fdecea; } tr.retried { background: #fff8e1; }
body:has(#only:checked) tr.good, body:has(#only:checked) tr.retried { display: none; }
@media (prefers-color-scheme: dark) {
  body { background: #161616; color: #ddd; } td, th { border-color: #444; }
  tr.failed { background: #45201d; } tr.retried { background: #3d3519; }
}
"""


def _row(paragraph: ParagraphReport) -> str:
    notes = [escape(problem) for problem in paragraph.problems]
    if paragraph.attempts > 1:
        notes.append(f"{paragraph.attempts} attempts")
    cells = "".join(f"<td>{escape(text)}</td>" for text in (paragraph.source, paragraph.target))
    number, state = paragraph.number, paragraph.state
    return f'<tr class="{state}"><td>{number}</td>{cells}<td>{"<br>".join(notes)}</td></tr>\n'


def paragraph_reports(
    sources: Mapping[int, str], records: Mapping[int, Any], numbers: Mapping[int, str]
) -> Iterator[ParagraphReport]:
    """The paragraphs of a translation in order; all arguments are by index (`task.best_translations`)."""
    for index, record in sorted(records.items()):
        yield ParagraphReport(
            index,
            numbers[index],
            sources[index],
            record["target"],
            record["attempts"],
            tuple(record["failed_checks"]),
            record["origin"],
        )
