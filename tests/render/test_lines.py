"""Lines of a screen: broken between words, whole in a pipe."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from templora_cli.render.lines import fact_lines, screen_lines, wrapped

TEXT = st.text(st.sampled_from("abc  12.,灯é\u202e\x1b"), max_size=120)


def test_a_command_is_not_broken() -> None:
    command = "templora sessions rename harbour quiet-harbour-in-the-north"
    message = f"session harbour has the same settings and is continued; to rename it: {command}"
    assert list(screen_lines(message, 40))[-2:] == ["and is continued; to rename it:", command]
    assert list(screen_lines(command, 40)) == [command]
    assert list(screen_lines("it is to be templora or another", 20)) == ["it is to be templora", "or another"]


@given(TEXT, st.integers(20, 200), st.integers(0, 8), st.integers(0, 8), st.booleans())
def test_words_are_whole_and_lines_fit(
    text: str, width: int, indent: int, hanging: int, breakable: bool
) -> None:
    lines = wrapped(text, width, " " * indent, hanging=" " * hanging, breakable=breakable)
    if breakable:
        assert "".join("".join(lines).split()) == "".join(text.split())
        assert all(cell_len(line) <= width for line in lines)
    else:
        assert " ".join(lines).split() == text.split()
        assert all(cell_len(line) <= width or len(line.split()) == 1 for line in lines)


def test_a_text_goes_on_below_itself() -> None:
    facts = {"premise": "A lighthouse keeper finds a door in the cellar.\nstate finished", "gain": None}
    assert list(fact_lines(facts, 40)) == [
        "premise    A lighthouse keeper finds a",
        "           door in the cellar.",
        "           state finished",
        "gain       -",
    ]
    assert list(fact_lines(facts, None)) == [
        "premise    A lighthouse keeper finds a door in the cellar.",
        "           state finished",
        "gain       -",
    ]


def test_values_without_room_beside_long_names() -> None:
    disk = "1.50 GB at most: 14 checkpoints of 0.11 GB"
    assert list(fact_lines({"gradient_checkpointing": True, "disk": disk}, 40)) == [
        "gradient_checkpointing: True",
        "disk: 1.50 GB at most: 14 checkpoints of",
        "  0.11 GB",
    ]


def test_a_path_is_whole() -> None:
    path = "/home/me/a folder with spaces/a book with a long name.txt"
    assert list(screen_lines(path, 20)) == [path]
    assert list(fact_lines({"path": path}, 40)) == [f"path       {path}"]


def test_a_list_that_begins_with_a_path_is_broken() -> None:
    model = {"model": "/models/tiny, 0.1 million parameters; its weights are missing"}
    assert list(fact_lines(model, 40)) == [
        "model      /models/tiny, 0.1 million",
        "           parameters; its weights are",
        "           missing",
    ]


def test_a_text_without_spaces_is_broken() -> None:
    assert list(screen_lines("灯" * 15, 20)) == ["灯" * 10, "灯" * 5]


def test_what_is_shown_is_harmless() -> None:
    assert list(screen_lines("a\x1b[2J\x9b1m\u202eb", 40)) == ["a␛[2J\ufffd1m\ufffdb"]
