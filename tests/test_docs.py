"""Links in the documentation work, and pages that the code names exist."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])
CODE = sorted(
    file for folder in ("templora_cli", "benchmarks", "tests") for file in ROOT.glob(f"{folder}/**/*.py")
)

_FENCED = re.compile(r"^```.*?^```$", re.DOTALL | re.MULTILINE)
_QUOTED = re.compile(r"`[^`\n]*`")
_LINK = re.compile(r"\]\(<?([^()\s>]+)>?(?: \"[^\"]*\")?\)|^\[[^\]\n]+\]: *(\S+)", re.MULTILINE)
_HEADING = re.compile(r"^#{1,6} +(.*?)(?: +#+)?$", re.MULTILINE)
_NAMED = re.compile(r"(?<![\w/.-])docs/[\w./-]*\.(?:md|svg)\b")


def links(text: str) -> Iterator[str]:
    """The targets of the links and images of a page, without those to other hosts."""
    for inline, reference in _LINK.findall(_QUOTED.sub("", _FENCED.sub("", text))):
        if not re.match(r"[a-z][a-z+.-]*:", target := inline or reference):
            yield target


def anchors(text: str) -> set[str]:
    """The anchors that GitHub makes of the headings of a page; a repeated heading ends in -1."""
    seen: Counter[str] = Counter()
    names = set()
    for heading in _HEADING.findall(_FENCED.sub("", text)):
        words = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).lower()
        name = re.sub(r"[^\w\- ]", "", words).replace(" ", "-")
        names.add(f"{name}-{seen[name]}" if seen[name] else name)
        seen[name] += 1
    return names


def broken_links(page: Path) -> list[str]:
    """The links of a page whose target does not exist."""
    broken = []
    for target in links(page.read_text("utf-8")):
        path, _, anchor = target.partition("#")
        linked = page.parent / path if path else page
        if not linked.exists() or (anchor and anchor not in anchors(linked.read_text("utf-8"))):
            broken.append(target)
    return broken


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_pages_have_no_open_marks_and_no_broken_links(page: Path) -> None:
    assert not re.search(r"@@|TODO|FIXME|XXX", page.read_text("utf-8"))
    assert broken_links(page) == []


def test_named_pages_exist() -> None:
    named = {(file, name) for file in (*PAGES, *CODE) for name in _NAMED.findall(file.read_text("utf-8"))}
    assert len(named) > 10
    assert [(str(file), name) for file, name in named if not (ROOT / name).exists()] == []


def test_every_page_of_the_laboratory_is_in_its_index() -> None:
    lab = ROOT / "docs" / "lab"
    listed = set(links((lab / "README.md").read_text("utf-8")))
    assert {page.name for page in lab.glob("*.md")} - {"README.md"} <= listed


@pytest.mark.full
def test_the_example_that_counts_alarms_runs(tmp_path: Path) -> None:
    (program,) = re.findall(
        r"```python\n(.*?)```", (ROOT / "docs" / "checks.md").read_text("utf-8"), re.DOTALL
    )
    pairs = tmp_path / "pairs.jsonl"
    source = "他在灯塔里住了七年。"
    both = ({"source": source, "target": target} for target in ("He lived there for seven years.", source))
    pairs.write_text("\n".join(map(json.dumps, both)), "utf-8")
    done = subprocess.run(
        [sys.executable, "-c", program, str(pairs), "zh", "en"],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        check=True,
        text=True,
    )
    assert done.stdout == "2 {'echo': 1}\n"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[there](other.md), [a part](other.md#two-words), ![picture](folder/a.svg)", []),
        ("[gone](gone.md) and [a\nbroken line](gone.svg)", ["gone.md", "gone.svg"]),
        ("[no such part](other.md#three)", ["other.md#three"]),
        ("[again](other.md#two-words-1) [and](other.md#two-words-2)", ["other.md#two-words-2"]),
        ("[punctuation](other.md#a-b_c-and-d)", []),
        ("[no heading](other.md#code)", ["other.md#code"]),
        ("# Here\n\n[here](#here) [not here](#there)", ["#there"]),
        ("[elsewhere](https://example.org/x.md) [mail](mailto:a@b.c)", []),
        ("```sh\n[code](gone.md)\n```\nand `[code](gone.md)`", []),
        ("[![picture](gone.svg)](gone.md)", ["gone.svg", "gone.md"]),
        ("[by reference][1]\n\n[1]: gone.md", ["gone.md"]),
    ],
)
def test_broken_links_are_found(tmp_path: Path, text: str, expected: list[str]) -> None:
    other = "# Two words\n\n## Two words\n\n## A `b_c`, [and](x.md) d!\n\n```sh\n# code\n```\n"
    (tmp_path / "other.md").write_text(other, "utf-8")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "a.svg").write_text("", "utf-8")
    page = tmp_path / "page.md"
    page.write_text(text, "utf-8")
    assert broken_links(page) == expected
