"""The benchmark of translations: which paragraphs are corrected, and which ones the table compares."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from typer.testing import CliRunner

from benchmarks import translation
from templora_cli.documents.aligned_text import AlignedPair

PAPERS = [f"Paper number {n} lay on the table of the captain." for n in range(12)]


def result_of_way(targets: list[str], corrected: set[int]) -> dict[str, Any]:
    origins = {True: "human", False: "generated"}
    lines = [
        {"paragraph": n, "source": "船长", "target": text, "origin": origins[n in corrected]}
        for n, text in enumerate(targets)
    ]
    counts = {"good": 12 - len(corrected), "retried": 0, "corrected": len(corrected), "failed": 0}
    return {"counts": counts, "checks": {}, "gated": [], "gain": [0.5], "lines": lines, "references": PAPERS}


def test_paragraphs_corrected_in_one_way_are_left_out_of_all(tmp_path: Path) -> None:
    wrong = [text.replace("captain", "cook") for text in PAPERS]
    (tmp_path / "off.json").write_text(json.dumps(result_of_way(wrong, {0})))
    corrected_result = result_of_way([PAPERS[0], PAPERS[1], *wrong[2:]], {0, 1})
    (tmp_path / "corrected.json").write_text(json.dumps(corrected_result))
    terms = tmp_path / "terms.csv"
    terms.write_text("source,target\n船长,captain\n", "utf-8")
    arguments = ["table", str(tmp_path), "--from", "zh", "--to", "en", "--terms", str(terms)]
    done = CliRunner().invoke(translation.app, arguments, catch_exceptions=False)
    rows = [line for line in done.stdout.splitlines() if line.startswith(("| all", "| off", "| corrected"))]
    off, corrected = (row.split(" | ") for row in rows[:2])
    assert off[2] == corrected[2] and "±" in off[2], "they differ only in corrected paragraphs"
    assert [row.split(" | ")[-1] for row in rows[2:]] == ["0 of 10 |"] * 2


def test_one_paragraph_in_ten_is_corrected(tmp_path: Path) -> None:
    synced: list[str] = []

    def templora(arguments: Sequence[str]) -> None:
        file = Path(arguments[-1])
        if arguments[0] == "review":
            file.write_text("".join(f"\n@{n + 1} [0] good\n< s\n> t{n}\n" for n in range(12)), "utf-8")
        else:
            synced.extend(line for line in file.read_text("utf-8").splitlines() if line.startswith(">"))

    book = [AlignedPair("s", text) for text in PAPERS]
    translation.correct("storm-1a2b", book, tmp_path / "review.txt", every=10, templora=templora)
    expected = [f"> t{n}" for n in range(12)]
    expected[0], expected[10] = f"> {PAPERS[0]}", f"> {PAPERS[10]}"
    assert synced == expected
