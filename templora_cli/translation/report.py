"""What became of each paragraph of a translation: as text, JSON, and a page with both sides."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from html import escape
from typing import Any

from templora_cli.translation.terminology import TermUse

STATES = ("good", "retried", "corrected", "failed")


@dataclass(frozen=True)
class Line:
    """A paragraph and its translation."""

    paragraph: int
    """Its place in the document, from 0."""
    source: str
    target: str
    attempts: int
    failed_checks: tuple[dict[str, str], ...]
    """What its checks found: `check` and `message`; empty where it is good."""
    by: str = "model"
    """Whose it is: the model's, or a "person"'s."""
    relapses: tuple[str, ...] = ()
    """Corrections that came back wrong in it, in words."""
    number: str = ""
    """What a person calls it where that is not its place, from 1: "13.1" is a part of the 13th."""

    @property
    def told(self) -> str:
        """What a person calls it."""
        return self.number or str(self.paragraph + 1)

    @property
    def state(self) -> str:
        """ "good" at once, good after it was "retried", "corrected" or approved by a person, or "failed"."""
        if self.by == "person":
            return "corrected"
        return "failed" if self.failed_checks else "retried" if self.attempts > 1 else "good"


@dataclass(frozen=True)
class Report:
    """All paragraphs of a translation that are done, of those that it is to have."""

    title: str
    lines: Sequence[Line]
    paragraphs: int
    """How many there will be."""
    terms: Sequence[TermUse] = ()
    """How each term of the glossary was translated."""

    @property
    def counts(self) -> dict[str, int]:
        """Paragraphs by state."""
        counted = Counter(line.state for line in self.lines)
        return {state: counted[state] for state in STATES}

    @property
    def checks(self) -> dict[str, int]:
        """Failed paragraphs by the check that failed, the most frequent first; one may fail several."""
        return dict(
            Counter(failure["check"] for line in self.lines for failure in line.failed_checks).most_common()
        )

    def as_text(self) -> str:
        """The counts, and a line for each paragraph in which something is wrong."""
        counts = ", ".join(f"{number} {state}" for state, number in self.counts.items())
        told = [f"{self.title}: {len(self.lines)} of {self.paragraphs} paragraphs: {counts}"]
        for line in self.lines:
            why = [failure["message"] for failure in line.failed_checks] + list(line.relapses)
            if why:
                told.append(f"paragraph {line.told}: {'; '.join(why)}")
        for one in self.terms:
            others = ", ".join(f"{other} {count}" for other, count in one.others)
            uses = f"{one.used} of {one.occurrences}"
            told.append(f"{one.term.source} = {one.term.target}: {uses}{'; also ' if others else ''}{others}")
        return "\n".join(told) + "\n"

    def as_json(self) -> str:
        """All of it."""
        values = {
            "title": self.title,
            "paragraphs": self.paragraphs,
            "done": len(self.lines),
            **self.counts,
            "checks": self.checks,
            "terms": [asdict(one) for one in self.terms],
            "lines": [{"state": line.state, **asdict(line)} for line in self.lines],
        }
        return json.dumps(values, ensure_ascii=False, indent=1) + "\n"

    def as_html(self) -> str:
        """A page with source, translation and flags beside each other, that needs nothing else."""
        counts = " · ".join(f"{number} {state}" for state, number in self.counts.items())
        title = escape(self.title)
        head = f'<head>\n<meta charset="utf-8">\n<title>{title}</title>\n<style>{STYLE}</style>\n</head>'
        filter_box = '<label><input type="checkbox" id="only"> only those that failed</label>'
        return "".join(
            [
                f'<!DOCTYPE html>\n<html lang="en">\n{head}\n<body>\n<h1>{title}</h1>\n',
                f"<p>{len(self.lines)} of {self.paragraphs} paragraphs: {counts}</p>\n{filter_box}\n",
                "<table>\n<tr><th></th><th>Source</th><th>Translation</th><th>Checks</th></tr>\n",
                *map(_row, self.lines),
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


def _row(line: Line) -> str:
    said = [failure["message"] for failure in line.failed_checks] + list(line.relapses)
    failed_checks = "<br>".join(map(escape, said))
    attempts = f"{line.attempts} attempts" if line.attempts > 1 else ""
    flags = "<br>".join(part for part in (failed_checks, attempts) if part)
    cells = "".join(f"<td>{escape(text)}</td>" for text in (line.source, line.target))
    return f'<tr class="{line.state}"><td>{line.told}</td>{cells}<td>{flags}</td></tr>\n'


def lines_of(
    sources: Mapping[int, str], translated: Mapping[int, Any], numbers: Mapping[int, str]
) -> Iterator[Line]:
    """The paragraphs of a translation in order (`translation.best_of`); `sources` and `numbers` by place."""
    for place, one in sorted(translated.items()):
        failed_checks = tuple(one["failed_checks"])
        line = Line(place, sources[place], one["target"], one["attempts"], failed_checks, one["by"])
        yield replace(line, number=numbers[place])
