"""`templora eval` with the tiny model: results, resuming, output formats, errors."""

from __future__ import annotations

import csv
import io
import json
import math
import shutil
from pathlib import Path
from typing import Any

import pytest
from typer.testing import Result

from templora_cli.sessions.steps import committed_steps, read_chunks
from templora_cli.sessions.store import Store
from tests.commands.test_cli import message_of, templora
from tests.random_text import RANDOM_TEXT

TEXT = "The keeper went up the stairs. The keeper went down the stairs. " * 6


@pytest.fixture(autouse=True)
def book(tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text(
        RANDOM_TEXT + "[train]\noptimizer = 'adamw'\nrank = 4\nalpha = 4\n[human]\nlr = 1e-2\nepochs = 2\n"
    )
    Path("book.txt").write_text(TEXT)


def ppl(model: Path, *arguments: str | Path) -> Result:
    small = ("--chunk-tokens", "32", "--context-tokens", "48")
    return templora("eval", "ppl", "book.txt", "--model", model, *small, *arguments)


def rows_of(result: Result) -> list[dict[str, Any]]:
    assert result.exit_code == 0, result.stderr
    return list(json.loads(result.stdout)["rows"])


def test_perplexities_are_those_of_the_session(tiny_model: Path) -> None:
    first, total = rows_of(ppl(tiny_model, "--json"))
    chunks = read_chunks(Store().find(None) / "steps")
    tokens = sum(len(chunk["tokens"]) for chunk in chunks)
    assert total["tokens"] == tokens == len(TEXT) - 1, "the first token is the header"
    assert all(chunk["origin"] == "human" for chunk in chunks)
    for name, nll in (("base_ppl", "nll_base"), ("adapter_ppl", "nll_adapter")):
        mean = sum(chunk[nll] * len(chunk["tokens"]) for chunk in chunks) / tokens
        assert total[name] == pytest.approx(math.exp(mean))
    assert total["change"] < -5, "the repetitive text is learnt"
    assert first["depth"] == "0-25K"


def test_a_control_learns_as_much_of_another_author(tiny_model: Path) -> None:
    Path("other.txt").write_text("Quite other words, and none of them again: " + TEXT[::-1] * 2)
    _, total = rows_of(ppl(tiny_model, "--control", "other.txt", "--json"))
    assert total["change"] < total["control_change"], "the book teaches its own words best"
    plain = rows_of(ppl(tiny_model, "--json"))[-1]
    assert {**total, "control_ppl": None, "control_change": None} == plain
    again = ppl(tiny_model, "--control", "other.txt")
    assert again.stdout.splitlines()[0].split("\t")[-2:] == ["control PPL", "control %"]
    same = rows_of(ppl(tiny_model, "--control", "book.txt", "--json"))[-1]
    chunks = read_chunks(Store().find(None) / "steps")
    assert same["control_ppl"] != total["control_ppl"] and len(chunks) > 2
    Path("short.txt").write_text(TEXT[:100])
    short = ppl(tiny_model, "--control", "short.txt")
    assert short.exit_code == 2 and "fewer than the book" in message_of(short)


def test_a_stopped_run_is_resumed_with_the_same_results(tiny_model: Path) -> None:
    expected = rows_of(ppl(tiny_model, "--json", "--set", "session.keep_checkpoints=99"))
    session = Store().find(None)
    for step in committed_steps(session / "steps")[4:]:
        shutil.rmtree(step)
    again = ppl(tiny_model, "--json", "--set", "keep_checkpoints=99")
    assert rows_of(again) == expected
    assert len(list(Store().folder.iterdir())) == 1, "the same session"
    assert "so far: 4 chunks" in again.stderr


def test_a_resumed_evaluation_prints_its_table(tiny_model: Path) -> None:
    ppl(tiny_model)
    session = Store().find(None)
    shutil.rmtree(committed_steps(session / "steps")[-1])
    result = templora("resume")
    assert result.exit_code == 0, result.stderr
    assert result.stdout.splitlines()[0].split("\t")[-1] == "change %"
    longer = templora("resume", "--chunks", "2")
    assert longer.exit_code == 2 and "cannot be made longer" in longer.stderr


def test_other_settings_start_another_session(tiny_model: Path) -> None:
    slow, fast = (
        rows_of(ppl(tiny_model, "--json", "--set", f"lr={lr}"))[-1]["adapter_ppl"] for lr in ("1e-5", "1e-2")
    )
    assert fast < slow
    assert len(list(Store().folder.iterdir())) == 2


def test_each_book_has_a_new_adapter(tiny_model: Path) -> None:
    Path("again.txt").write_text(TEXT)
    result = ppl(tiny_model, "again.txt", "--csv", "--reference-averaging")
    table = list(csv.DictReader(io.StringIO(result.stdout)))
    assert {row["averaging"] for row in table} == {"tokens", "chunks"}
    values: dict[str, list[list[str]]] = {"book.txt": [], "again.txt": []}
    for row in table:
        values[row.pop("book")].append(list(row.values()))
    assert values["book.txt"] == values["again.txt"]


def test_the_base_alone(tiny_model: Path) -> None:
    row = rows_of(ppl(tiny_model, "--no-learn", "--json", "--limit-tokens", "100"))[-1]
    assert row["tokens"] == 100 and row["adapter_ppl"] is None and row["base_ppl"] > 1


def test_a_plot(tiny_model: Path) -> None:
    pytest.importorskip("matplotlib")
    assert ppl(tiny_model, "--plot", "ppl.svg", "-q").exit_code == 0
    assert "base + adapter" in Path("ppl.svg").read_text("utf-8")


BAD: dict[str, tuple[list[str], str]] = {
    "a missing file": (["nowhere.txt"], "there is no file nowhere.txt"),
    "a text shorter than a chunk": (["--limit-tokens", "10"], "less than a chunk of 32"),
    "a limit of 0": (["--limit-tokens", "0"], "--limit-tokens 0: must be at least 1"),
    "an unknown setting": (["--set", "speed=3"], "speed is not a setting"),
    "a misspelt setting": (["--set", "context_tokenz=3"], "context_tokenz is not a setting"),
    "a setting without a value": (["--set", "lr"], "has no value"),
    "a setting out of range": (["--set", "generated.lr=-1"], "--set generated.lr=-1: must be at least 0"),
    "a plot of another format": (["--plot", "a.gif"], "drawn as .png or .svg"),
    "two formats": (["--json", "--csv"], "cannot be combined"),
    "two comparisons": (
        ["--control", "book.txt", "--against", "window=64"],
        "--control and --against cannot",
    ),
    "two tables as CSV": (["--csv", "--against", "window=64"], "--csv prints one table"),
}


@pytest.mark.parametrize(("arguments", "message"), BAD.values(), ids=BAD.keys())
def test_bad_arguments(arguments: list[str], message: str, tiny_model: Path) -> None:
    result = ppl(tiny_model, *arguments)
    assert result.exit_code == 2
    assert message in message_of(result).replace("\n", " ")
    assert "hint: " in result.stderr and result.stdout == ""


# --- drift -------------------------------------------------------------------------------------------


def drift(model: Path, *arguments: str | Path) -> Result:
    small = ("--chunk-tokens", "16", "--context-tokens", "24", "--tokens", "48", "--seeds", "2")
    return templora("eval", "drift", "--premise", "A storm.", "--model", model, *small, *arguments)


def test_books_with_learning_and_without_are_measured(tiny_model: Path) -> None:
    rows = rows_of(drift(tiny_model, "--json", "--step", "16", "--probe", "book.txt"))
    assert [(row["books"], row["depth"]) for row in rows] == [
        (books, depth) for depth in (0, 16, 32) for books in ("learning", "off")
    ]
    assert all(row["tokens"] == 32 for row in rows), "two seeds of 16"
    learning, off = rows[::2], rows[1::2]
    for row in rows:
        assert row["nll_base"] > 0 and 0 <= row["repetition_in_book"] <= 1
    assert len({row["probe_ppl"] for row in learning}) == 3, "the adapter changes"
    assert len({round(row["probe_ppl"], 4) for row in off}) == 1, "the base does not"


def test_a_stopped_drift_is_resumed(tiny_model: Path) -> None:
    arguments = ("--set", "keep_checkpoints=99", "--json", "--probe", "book.txt")
    expected = rows_of(drift(tiny_model, *arguments))
    folders = list(Store().folder.iterdir())
    assert len(folders) == 4
    for folder in folders[:2]:
        shutil.rmtree(committed_steps(folder / "steps")[-1])
    assert rows_of(drift(tiny_model, *arguments)) == expected
    assert len(list(Store().folder.iterdir())) == 4


def test_a_drift_does_not_resume_a_book_with_the_same_settings(tiny_model: Path) -> None:
    small = ("--chunk-tokens", "16", "--context-tokens", "24", "--tokens", "48", "--seed", "0")
    templora("write", "--premise", "A storm.", "--model", tiny_model, *small)
    book = Store().find(None)
    shutil.rmtree(committed_steps(book / "steps")[-1])
    assert drift(tiny_model, "-q").exit_code == 0
    assert len(committed_steps(book / "steps")) == 2
    assert len(list(Store().folder.iterdir())) == 1 + 4


def test_a_drift_is_not_resumed_without_measuring(tiny_model: Path) -> None:
    drift(tiny_model, "-q")
    result = templora("resume")
    assert result.exit_code == 2 and "templora eval drift (with the same arguments)" in result.stderr


def test_a_drift_prints_only_its_table(tiny_model: Path) -> None:
    result = drift(tiny_model, "-q")
    lines = result.stdout.splitlines()
    assert result.exit_code == 0 and len(lines) == 3 and lines[0].startswith("depth\tbooks")
    assert result.stderr == ""


@pytest.mark.parametrize("arguments", [["--seeds", "0"], ["--step", "0"], ["--probe", "none.txt"]])
def test_bad_arguments_of_a_drift(arguments: list[str], tiny_model: Path) -> None:
    result = drift(tiny_model, *arguments)
    assert result.exit_code == 2 and result.stderr.startswith("error: ") and "hint: " in result.stderr


# --- against a longer window -------------------------------------------------------------------------


def test_comparison_with_a_longer_window(tiny_model: Path) -> None:
    plain = rows_of(ppl(tiny_model, "--json"))[-1]
    longer = rows_of(ppl(tiny_model, "--json", "--no-learn", "--set", "decode.context_tokens=96"))[-1]
    result = ppl(tiny_model, "--json", "--against", "window=96")
    assert rows_of(result)[-1] == plain
    ways = base, learning, _ = json.loads(result.stdout)["ways"]
    assert [way["way"] for way in ways] == ["base", "base + adapter", "base, window 96"]
    assert [way["context_tokens"] for way in ways] == [48, 48, 96]
    expected = [plain["base_ppl"], plain["adapter_ppl"], longer["base_ppl"]]
    assert [way["ppl"] for way in ways] == pytest.approx(expected)
    assert base["change"] == 0 and learning["change"] == pytest.approx(plain["change"], abs=1e-3)
    for way in ways:
        assert way["peak_bytes"] > 100e6 and 0 < way["read_seconds"] < way["write_seconds"]
    assert len(list(Store().folder.iterdir())) == 5, "sessions without costs are not used"
    again = ppl(tiny_model, "--json", "--against", "window=96")
    assert json.loads(again.stdout)["ways"] == ways, "the saved costs"


def test_the_peak_of_a_stopped_reading_is_saved(tiny_model: Path) -> None:
    arguments = ("--json", "--against", "window=96", "--set", "keep_checkpoints=99")
    before = json.loads(ppl(tiny_model, *arguments).stdout)["ways"]
    (learning,) = (path for path in Store().folder.iterdir() if list(path.glob("steps/*/adapter.*")))
    memory = learning / "memory.json"
    peaks = json.loads(memory.read_text())
    peaks["3"] = 10**12
    memory.write_text(json.dumps({index: peaks[index] for index in ("0", "1", "2", "3")}))
    (learning / "trial.json").unlink()
    for step in committed_steps(learning / "steps")[4:]:
        shutil.rmtree(step)
    after = json.loads(ppl(tiny_model, *arguments).stdout)["ways"]
    assert after[1]["peak_bytes"] == 10**12 and after[1]["ppl"] == before[1]["ppl"]
    (learning / "trial.json").write_text("{}")
    (learning / "memory.json").unlink()
    resumed = templora("resume", learning.name)
    assert resumed.exit_code == 2 and "templora eval ppl --against" in resumed.stderr


@pytest.mark.parametrize("value", ["window", "window=", "window=-1", "mirror=3", "window=99999999"])
def test_a_bad_value_of_against(value: str, tiny_model: Path) -> None:
    result = ppl(tiny_model, "--against", value)
    assert result.exit_code == 2 and value.split("=")[0] in result.stderr and "hint: " in result.stderr


# --- translations ------------------------------------------------------------------------------------

PAIRS = [(f"the lamp {n} is lit", f"die lampe {n} ist an") for n in range(12)]


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    path = Path("pairs.jsonl")
    path.write_text("\n".join(json.dumps({"source": source, "target": target}) for source, target in PAIRS))
    return path


def translate(model: Path, *arguments: str | Path) -> Result:
    options = ("--from", "en", "--to", "German", "--run-pairs", "3", "--step", "100", "--context-pairs", "2")
    return templora("eval", "translate", *arguments, "--model", model, *options)


def test_both_sides_are_scored(tiny_model: Path, pairs: Path) -> None:
    rows = rows_of(translate(tiny_model, pairs, "--json", "--out", "out.jsonl"))
    base, learning = rows[-2:]
    assert (base["side"], learning["side"], base["depth"]) == ("base", "adapter", "all")
    assert base["pairs"] == 12 and base["tokens"] == sum(len(f" {target}\n") for _, target in PAIRS)
    assert learning["ppl_change"] < -20, "the similar pairs are learnt"
    assert base["ppl_change"] is None and base["bleu"] >= 0 and learning["chrf"] >= 0
    first, second = rows[:2]
    assert first["depth"] == second["depth"] == "0-100"
    outputs = [json.loads(line) for line in Path("out.jsonl").read_text("utf-8").splitlines()]
    assert [(output["source"], output["target"]) for output in outputs] == PAIRS
    assert all(output["base"] == output["adapter"] for output in outputs[:3]), "nothing is learnt yet"
    nll = sum(output["nll_adapter"] for output in outputs)
    assert learning["ppl"] == pytest.approx(math.exp(nll / learning["tokens"]))


def test_a_stopped_translation_is_resumed(tiny_model: Path, pairs: Path) -> None:
    options = (pairs, "--json", "--set", "keep_checkpoints=99")
    for learn_from in ("reference", "output"):
        arguments = (*options, "--learn-from", learn_from, "--set", "generated.lr=1e-2")
        expected = rows_of(translate(tiny_model, *arguments))
        session = Store().find(None)
        for step in committed_steps(session / "steps")[1:]:
            shutil.rmtree(step)
        measured = json.loads((session / "measured.json").read_text())
        (session / "measured.json").write_text(json.dumps({n: measured[n] for n in ("0", "1")}))
        assert rows_of(translate(tiny_model, *arguments)) == expected
    assert len(list(Store().folder.iterdir())) == 2


def test_learning_from_output(tiny_base_model: Path, pairs: Path) -> None:
    arguments = (pairs, "--json", "--learn-from", "output", "--out", "out.jsonl")
    rows_of(translate(tiny_base_model, *arguments))
    outputs = [json.loads(line) for line in Path("out.jsonl").read_text("utf-8").splitlines()]
    chunks = read_chunks(Store().find(None) / "steps")
    assert {chunk["origin"] for chunk in chunks} == {"generated"}
    text = "".join(chunk["text"] for chunk in chunks)
    assert text == "".join(f"English: {pair['source']}\nGerman: {pair['adapter']}\n" for pair in outputs)


def test_only_scores(tiny_model: Path, pairs: Path) -> None:
    scored = rows_of(translate(tiny_model, pairs, "--json", "--score-only"))
    translated = rows_of(translate(tiny_model, pairs, "--json"))
    assert [row["ppl"] for row in scored] == [row["ppl"] for row in translated]
    assert all(row["bleu"] is None and row["chrf"] is None for row in scored)


def test_guofeng_has_languages_and_runs(tiny_base_model: Path) -> None:
    runs = [[{"zh": "灯", "en": "lamp"}] * 2, [{"zh": "海", "en": "sea"}]]
    items = [{"contexts": {"k1": []}, "inference": run} for run in runs]
    Path("novel.train").write_text(json.dumps(items))
    arguments = ("--model", tiny_base_model, "--score-only", "--limit-tokens", "7", "--json")
    rows = rows_of(templora("eval", "translate", "novel.train", *arguments))
    assert rows[-1]["pairs"] == 2, "the first run reaches the limit"
    chunks = read_chunks(Store().find(None) / "steps")
    assert chunks[0]["text"].startswith("Chinese: 灯\nEnglish: lamp\n")


def test_comet_is_a_separate_program(tiny_model: Path, pairs: Path) -> None:
    script = Path("comet-score")
    script.write_text(
        "#!/bin/sh\n"
        'test "$1 $3 $6" = "-s -t -r" && test $(wc -l < "$2") = 12 && test $(wc -l < "$5") = 12 || exit 3\n'
        'echo "$4\tscore: 0.5"; echo "$5\tscore: 0.625"\n'
    )
    script.chmod(0o755)
    rows = rows_of(translate(tiny_model, pairs, "--json", "--comet", "./comet-score"))
    assert [row["comet"] for row in rows[-2:]] == [0.5, 0.625]
    script.write_text("#!/bin/sh\necho no model >&2; exit 1\n")
    failed = translate(tiny_model, pairs, "--comet", "./comet-score", "--out", "out.jsonl")
    assert failed.exit_code == 2 and "failed: no model" in failed.stderr
    assert len(Path("out.jsonl").read_text().splitlines()) == 12, "nothing is lost"
    missing = translate(tiny_model, pairs, "--comet", "./nowhere")
    assert missing.exit_code == 2 and "pip install unbabel-comet" in missing.stderr


def test_a_file_is_not_overwritten(tiny_model: Path, pairs: Path) -> None:
    before = pairs.read_text()
    result = translate(tiny_model, pairs, "--out", pairs)
    assert result.exit_code == 2 and "exists and is not overwritten" in message_of(result)
    assert pairs.read_text() == before


def test_a_missing_measurement_is_an_error(tiny_model: Path, pairs: Path) -> None:
    translate(tiny_model, pairs, "-q")
    session = Store().find(None)
    measured = json.loads((session / "measured.json").read_text())
    del measured["1"]
    (session / "measured.json").write_text(json.dumps(measured))
    result = translate(tiny_model, pairs, "-q")
    assert result.exit_code == 2 and "no measurement of run 2" in result.stderr and "hint: " in result.stderr


def test_runs_that_are_too_long_for_the_model(tiny_model: Path, pairs: Path) -> None:
    long = "word " * 900
    pairs.write_text(json.dumps({"source": long, "target": long}))
    result = translate(tiny_model, pairs)
    assert result.exit_code == 2 and "reads at most 4096 tokens" in result.stderr
    assert "--run-pairs" in result.stderr


def test_languages_by_name_select_the_keys(tiny_base_model: Path) -> None:
    line = json.dumps({"zh": "灯", "en": "lamp", "note": "x"})
    Path("novel.jsonl").write_text(line)
    arguments = ("--from", "English", "--to", "Chinese", "--model", tiny_base_model, "--score-only", "--json")
    rows_of(templora("eval", "translate", "novel.jsonl", *arguments))
    text = read_chunks(Store().find(None) / "steps")[0]["text"]
    assert text == "English: lamp\nChinese: 灯\n"


BAD_TRANSLATIONS: dict[str, tuple[list[str], str]] = {
    "no languages": (["pairs.jsonl"], "does not name its languages"),
    "no such language": (["pairs.jsonl", "--from", "qqqq", "--to", "en"], "is not a language"),
    "one language": (["pairs.jsonl", "--from", "en", "--to", "English"], "both English"),
    "no tokenizer": (["pairs.jsonl", "--from", "en", "--to", "th"], "no tokenizer for Thai"),
    "nothing to learn from": (
        ["pairs.jsonl", "--score-only", "--learn-from", "output"],
        "cannot be combined",
    ),
    "nothing to write": (["pairs.jsonl", "--score-only", "--out", "a.jsonl"], "cannot be combined"),
    "another format": (["pairs.jsonl", "--out", "a.txt"], "must be a .jsonl file"),
    "no pairs in a run": (["pairs.jsonl", "--run-pairs", "0"], "--run-pairs 0: must be at least 1"),
    "a broken line": (["broken.jsonl", "--from", "en", "--to", "de"], "line 2 is not valid JSON"),
    "a missing side": (
        ["half.jsonl", "--from", "en", "--to", "de"],
        'half.jsonl, line 1 has no text "target"',
    ),
}


@pytest.mark.parametrize(("arguments", "message"), BAD_TRANSLATIONS.values(), ids=BAD_TRANSLATIONS.keys())
def test_bad_arguments_of_a_translation(
    arguments: list[str], message: str, tiny_model: Path, pairs: Path
) -> None:
    Path("broken.jsonl").write_text('{"source": "a", "target": "b"}\n{"source": "a"')
    Path("half.jsonl").write_text('{"source": "a", "target": " "}\n')
    result = templora("eval", "translate", *arguments, "--model", tiny_model)
    assert result.exit_code == 2, result.stderr
    assert message in message_of(result).replace("\n", " ")
    assert "hint: " in result.stderr and result.stdout == ""
