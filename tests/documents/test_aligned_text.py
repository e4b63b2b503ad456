"""Aligned texts: both layouts, and what is said of files that are neither."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from templora_cli.documents.aligned_text import AlignedPair, read_aligned
from templora_cli.errors import TemploraError


def write(path: Path, *lines: object) -> Path:
    path.write_text("\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines), "utf-8")
    return path


def test_json_lines_are_taken_in_runs(tmp_path: Path) -> None:
    lines = [{"source": f"s{n}", "target": f"t{n}", "note": 1} for n in range(5)]
    text = read_aligned(write(tmp_path / "a.jsonl", *lines, ""), run_pairs=2)
    assert [[pair.source for pair in run] for run in text.runs] == [["s0", "s1"], ["s2", "s3"], ["s4"]]
    assert text.languages is None


def test_guofeng_has_runs_and_languages_of_its_own(tmp_path: Path) -> None:
    items = [
        {"contexts": {}, "inference": [{"zh": "灯", "en": "lamp"}, {"en": "sea", "zh": "海"}]},
        {"contexts": {}, "inference": []},
        {"contexts": {}, "inference": [{"zh": "山", "en": "hill"}]},
    ]
    file = write(tmp_path / "a.train", items)
    text = read_aligned(file, run_pairs=9)
    assert text.runs == ((AlignedPair("灯", "lamp"), AlignedPair("海", "sea")), (AlignedPair("山", "hill"),))
    assert text.languages == ("zh", "en")
    back = read_aligned(file, run_pairs=9, languages=("en", "zh"))
    assert back.runs[1] == (AlignedPair("hill", "山"),) and back.languages == ("en", "zh")


def test_languages_that_are_no_keys_do_not_matter_where_the_sides_are_named(tmp_path: Path) -> None:
    file = write(tmp_path / "a.jsonl", {"target": "b", "source": "a"})
    assert read_aligned(file, run_pairs=1, languages=("de", "fr")).runs == ((AlignedPair("a", "b"),),)


@given(st.text(min_size=1), st.text(min_size=1))
def test_a_paragraph_is_one_line(source: str, target: str) -> None:
    if not (source.strip() and target.strip()):
        return
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "a.jsonl"
        file.write_text(json.dumps({"source": source, "target": target}), "utf-8")
        ((pair,),) = read_aligned(file, run_pairs=1).runs
    assert len(pair.source.splitlines()) <= 1 and len(pair.target.splitlines()) <= 1
    assert "".join(pair.source.split()) == "".join(source.split())


BAD = {
    "nothing": ([], "is empty|has no pairs"),
    "no JSON line": (['{"source": "a", "target": "b"}', "", "{"], r"line 3: is no JSON"),
    "no JSON list": (["[1,", "2"], r"line 2: is no JSON"),
    "a list of pairs": ([[{"source": "a", "target": "b"}]], r'item 1: has no list "inference"'),
    "a missing side": ([{"source": "a", "target": "b"}, {"source": "a"}], r'line 2: has no text "target"'),
    "an empty side": ([[{"inference": [{"zh": "a", "en": ""}]}]], r'item 1, pair 1: has no text "en"'),
    "half a character": (['{"source": "a", "target": "\\ud800"}'], 'line 1: "target" holds half'),
    "a number": ([{"source": "a", "target": 3}], r'line 1: has no text "target"'),
    "three languages": ([{"zh": "a", "en": "b", "de": "c"}], "which of its texts is the source"),
    "no object": (["3"], r'line 1: has no text "source"'),
}


@pytest.mark.parametrize(("lines", "message"), BAD.values(), ids=BAD.keys())
def test_what_is_no_aligned_text(lines: list[object], message: str, tmp_path: Path) -> None:
    with pytest.raises(TemploraError, match=message) as caught:
        read_aligned(write(tmp_path / "a.json", *lines), run_pairs=1)
    assert caught.value.hint and "a.json" in caught.value.message
