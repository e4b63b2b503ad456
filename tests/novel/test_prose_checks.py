"""Checks of generated prose. `python -m benchmarks prose` has their rates on whole books and all faults."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.prose_faults.corpus import SCRIPTS, FaultyChunk, faulty_chunks, good_prose
from benchmarks.prose_faults.measure import alarms_in, is_cut_well, rates
from templora_cli.novel.prose_checks import Fault, first_fault

PROSE = good_prose()
GOOD = [(language, text) for language, texts in PROSE.items() for text in texts]
ENGLISH = PROSE["en"][0]
LATIN = ("Latn",)


def kind_of(text: str, before: str = "", **options: bool) -> str | None:
    fault = first_fault(text, before, scripts=LATIN, **options)
    return fault.kind if fault else None


def spliced(fault: str, language: str = "en") -> FaultyChunk:
    """A fault between two halves of good prose."""
    paragraphs = PROSE[language][0].split("\n\n")
    before, after = "\n\n".join(paragraphs[:4]), "\n\n".join(paragraphs[4:])
    text = f"{before}\n\n{fault}\n\n{after}"
    sample = next(iter(faulty_chunks())).sample
    return FaultyChunk(sample, "middle", "", text, text.index(fault))


@pytest.mark.parametrize(("language", "text"), GOOD)
@pytest.mark.parametrize("line_end", ["\n\n", "\n"])
def test_good_prose_passes_wherever_a_chunk_begins_and_ends(language: str, text: str, line_end: str) -> None:
    text = text.replace("\n\n", line_end)
    for start in range(0, len(text) - 1, max(1, len(text) // 5)):
        for end in (len(text), (start + len(text)) // 2):
            for scripts in (SCRIPTS.get(language, LATIN), None):
                assert first_fault(text[start:end], text[:start], scripts=scripts) is None


def test_wrapped_lines_are_no_lines_of_a_few_words() -> None:
    words, lines, line = ENGLISH.replace("\n\n", " ¶ ").split(), [], ""
    for word in words:
        if word == "¶" or len(line) + len(word) > 60:
            lines += [line, ""] if word == "¶" else [line]
            line = "" if word == "¶" else word
        else:
            line = f"{line} {word}".strip()
    assert first_fault("\n".join(lines), scripts=LATIN) is None


@pytest.mark.parametrize(("line", "is_fault"), [("3763984", True), ("* 11034623.", True), ("1914", False)])
def test_a_line_of_digits_is_no_prose(line: str, is_fault: bool) -> None:
    assert (kind_of(spliced(line).text) == "markup") is is_fault


def test_rates_of_detection() -> None:
    tuned, held_out = rates(positions=("middle",))
    assert tuned["all"].found >= 0.98 * tuned["all"].chunks
    assert held_out["all"].found >= 0.95 * held_out["all"].chunks
    for kind, rate in held_out.items():
        assert rate.found >= 0.8 * rate.chunks and rate.cut >= 0.75 * rate.chunks, kind


KINDS = {
    "assistant": "Certainly! Here is the next part of the story:",
    "note": "Word count: 512",
    "heading": "Chapter 5",
    "markup": "## The Lamp",
    "list": "1. Trim the wick.\n2. Fill the lamp.",
    "thoughts": "<think>More tension here.</think>",
    "script": "She said тихо and went in.",
    "characters": "She said nooooooooooo and went in.",
    "lines": "Border.\nSnow.\nA camel.\nMidnight tea.\nLost papers.\nEast.\nForgiven.\nViolins.",
    "names": "Ardenholm, Little Sarn, Vesk, Old Morrow, Tamber, Quillan, Drey, Castle Umber, Tor, Penn, Ash.",
    "capitals": "THE LAMP IS OUT AND NOBODY CAME TO LIGHT IT AND A MAN SAID IT WAS ONLY OIL BUT WE ALL KNEW.",
    "spacing": "LampKeeperOrlaHarbourOfficeNightWatchmanBlueBoat",
    "sameness": " ".join(["She saw the hen again.", "She ran to the gate."] * 5),
    "run-on": " ".join(["and", "then", "we", "went"] * 50),
}


@pytest.mark.parametrize(("kind", "fault"), KINDS.items())
def test_each_kind_is_cut_at_the_end_of_the_paragraph_before(kind: str, fault: str) -> None:
    chunk = spliced(fault)
    found = first_fault(chunk.text, scripts=LATIN)
    assert found is not None and found.kind == kind
    assert found.start == chunk.start
    assert chunk.text[: found.start].rstrip() == "\n\n".join(ENGLISH.split("\n\n")[:4])
    assert "“" in found.reason and "\n" not in found.reason


def test_a_fault_in_the_first_paragraph_leaves_nothing() -> None:
    assert first_fault("went in. I hope this helps!\n\nShe slept.", "She", scripts=LATIN) == Fault(
        "assistant",
        "the model talks to a reader instead of telling the story: “I hope this helps! She slept.”",
        0,
    )


def test_a_fault_that_begins_before_the_chunk_is_found_at_its_beginning() -> None:
    assert first_fault("Lamp\n- rope\n- oil\n", "They had all they needed.\n\n- ", scripts=LATIN)
    fault = first_fault("language model, I cannot.\n\nShe slept.", "I'm sorry, but as an AI ", scripts=LATIN)
    assert fault and fault.start == 0


def test_a_fault_before_the_chunk_is_none_of_the_chunk() -> None:
    assert kind_of("She slept until noon.", "## The Lamp\n\n<think>\n\n") is None


@pytest.mark.parametrize(
    "speech",
    [
        "“Certainly! Here is the key,” he said. “I hope this helps.”",
        '"Let me know if you need anything," she said. "To be continued."',
        "„Ich hoffe, das hilft“, sagte er.",
        "« Voici une clef : »",
        "‘Let me know if you need any help,’ said the man.",
        "“好的，这是钥匙，希望对你有帮助。”",
    ],
)
def test_dialogue_may_say_what_an_assistant_says(speech: str) -> None:
    assert first_fault(speech, scripts=("Latn", "Hani")) is None


def test_a_language_model_is_no_character_even_in_dialogue() -> None:
    assert kind_of("“As an AI language model, I cannot love,” he said.") == "assistant"


@pytest.mark.parametrize(
    "break_", ["* * *", "***", "———", "—", "~", "#", "-----", "⁂", "=====", "…", "* * * * *", "_" * 30]
)
def test_scene_breaks_are_prose(break_: str) -> None:
    assert kind_of(f"She slept until noon.\n\n{break_}\n\nThe rain had stopped.") is None


@pytest.mark.parametrize(
    "text",
    [
        "She read the café's menu in naïve French: *déjà vu*, señor, Łódź.",
        "The word is “λόγος”, he said.",
        "A tattoo (любовь) on his arm.",
        "The angle α was small.",
    ],
)
def test_short_foreign_words_are_prose(text: str) -> None:
    assert kind_of(text) is None


def test_scripts_are_those_of_the_ledger_or_of_the_text_before() -> None:
    text = "Она ушла. Nobody spoke."
    assert kind_of(text) == "script"
    assert first_fault(text, scripts=("Latn", "Cyrl")) is None
    assert first_fault("他突然听见了。", ENGLISH) is not None
    assert first_fault("他突然听见了。", PROSE["zh"][0]) is None
    assert first_fault("雪はまだ降っている。", f"{'彼は小さな部屋で静かに暮らしていた、' * 20}。\n") is None
    assert first_fault(ENGLISH, PROSE["zh"][0]) is not None
    assert first_fault("他去了KTV，唱了一首Let It Be。", PROSE["zh"][0]) is None


def test_headings_are_allowed_on_request() -> None:
    text = "She slept.\n\nChapter 5\n\nTHE OTHER SIDE\n\nThe rain had stopped."
    assert kind_of(text) == "heading"
    assert kind_of(text, headings=True) is None
    assert kind_of(text.replace("Chapter", "## Chapter"), headings=True) == "markup"


def test_the_end_stays_and_what_follows_is_cut() -> None:
    text = "She slept.\n\nThe End\n\nOnce upon a time there was a fox."
    fault = first_fault(text, scripts=LATIN)
    assert fault and fault.kind == "after the end"
    assert text[: fault.start] == "She slept.\n\nThe End\n\n"
    assert kind_of("She slept.\n\nThe End\n") is None
    assert kind_of("\n\nA fox.", "She slept.\n\nThe End") == "after the end"
    assert kind_of(text, check_end=False) is None
    assert kind_of("It was the end of the road. She slept.") is None


def test_short_lines_after_long_paragraphs_are_a_fall() -> None:
    lines = "\n".join(
        f"The keeper walked to the {word} gate."
        for word in ["old", "new", "red", "far", "low", "top", "big", "wet"] * 2
    )
    long_lines = "\n".join(
        ["The keeper walked to the gate and looked at the boats until it was dark. " * 3] * 8
    )
    short_before = "\n".join(["She walked to the gate once more."] * 5)
    fallen = first_fault(lines.replace("The keeper", "Nobody"), f"{long_lines}\n", scripts=LATIN)
    assert fallen is not None
    assert first_fault(ENGLISH, short_before, scripts=LATIN) is None


def test_dialogue_of_short_lines_is_no_fall() -> None:
    talk = "\n\n".join(["“No.”", "“Why not?”", "“The snow.”", "“It melts.”", "“Not here.”"] * 5)
    assert kind_of(talk, ENGLISH) is None
    dashes = "\n".join(["—No.", "—¿Por qué?", "—La nieve.", "—Se derrite.", "—Aquí no."] * 5)
    assert kind_of(dashes) is None


def test_a_verse_is_prose() -> None:
    verse = (
        "The lamp is out, the boats are gone,\nThe gulls are on the wall,\nAnd nobody has seen the dawn,\n"
    )
    assert kind_of(f"She sang:\n\n{verse * 3}\nThen she slept.") is None


def test_a_shout_is_prose() -> None:
    assert kind_of("“Nooooo!!!” she cried. HAHA! “Aaah…… —— STOP!”") is None


@given(
    text=st.text(
        st.sampled_from('aA eE.,!?\n\n"“”*#-—|<>[]()1. 2)Chapter雪。、我א\ufffd\x1b') | st.characters(),
        max_size=400,
    ),
    before=st.text(st.sampled_from('aA .\n"雪。*-'), max_size=200),
)
@settings(max_examples=300, deadline=None)
def test_any_text_has_a_place_to_cut(text: str, before: str) -> None:
    fault = first_fault(text, before)
    if fault:
        assert 0 <= fault.start < max(1, len(text))
        assert fault.start == 0 or text[fault.start - 1].isspace() or fault.kind == "after the end"
        assert fault.reason.isprintable()


def test_alarms_count_human_chunks() -> None:
    alarms = alarms_in("\n\n".join([ENGLISH, "## Lamp", ENGLISH]), "en", 256)
    assert alarms.chunks == 6 and alarms.alarms == 1 and alarms.kinds == {"markup": 1}


def test_is_cut_well_allows_no_lost_paragraph_and_no_fault() -> None:
    chunk = spliced("## The Lamp")
    assert is_cut_well(chunk, Fault("markup", "", chunk.start))
    assert not is_cut_well(chunk, Fault("markup", "", 0))
    assert not is_cut_well(chunk, Fault("markup", "", chunk.start + 5))
