"""Faults of prose in tokens, and where decoding goes on after one."""

from __future__ import annotations

from functools import partial

import pytest

from benchmarks.tiny_model import byte_tokenizer
from templora_cli.novel.prose import FIRST_SCENE, Prose
from templora_cli.prompt_files import load_prompts
from templora_cli.scripts import script_runs
from templora_cli.text import decode

CHAT = byte_tokenizer()
GOOD = "The wind was in the west and the sea was grey.\n\nTom went down to the boat.\n\n"
SORRY = "I'm sorry, but as an AI language model I cannot write this story for you."


def prose(**fields: object) -> Prose:
    return Prose(partial(decode, CHAT), CHAT, load_prompts("sections", ""), **fields)  # type: ignore[arg-type]


def ids(text: str) -> list[int]:
    return list(CHAT.encode(text, add_special_tokens=False))


def test_the_good_tokens_end_with_the_last_good_paragraph() -> None:
    tokens = ids(f"{GOOD}{SORRY}")
    fault = prose().fault((), tokens)
    assert fault is not None and "as an AI" in fault.reason
    assert CHAT.decode(tokens[: fault.good]) == GOOD
    assert prose().fault((), ids(GOOD)) is None
    whole = prose().fault((), ids(SORRY))
    assert whole is not None and whole.good == 0


@pytest.mark.parametrize(
    "rest", ["", "\n\nOnce upon a time a king had three sons, and the eldest was a fool."]
)
def test_the_story_does_not_end_before_the_book(rest: str) -> None:
    tokens = ids(f"{GOOD}The End{rest}")
    fault = prose().fault((), tokens)
    assert fault is not None and "ends the story" in fault.reason
    assert CHAT.decode(tokens[: fault.good]).rstrip() == GOOD.rstrip()


def test_the_last_chapter_may_end_the_story() -> None:
    for end in ("The End", "The End\n\n"):
        assert prose().fault((), ids(f"{GOOD}{end}"), may_finish=True) is None
    rest = prose().fault((), ids(f"{GOOD}The End\n\nOnce upon a time there was a king."), may_finish=True)
    assert rest is not None, "no other story begins"


def test_a_recalled_passage_is_not_copied() -> None:
    passage = "She had rowed out at dawn, past the last of the buoys, to look for the bell that had sunk."
    recalled = (f"“{passage}”",)
    tokens = ids(f"{GOOD}Tom laughed. {passage.lower()} He slept.\n\nAnna went home.\n\n")
    fault = prose().fault((), tokens, recalled=recalled)
    assert fault is not None and "“she had rowed out at dawn, …”" in fault.reason
    assert CHAT.decode(tokens[: fault.good]) == GOOD
    assert prose().fault((), ids(f"{GOOD}She had rowed out at dawn.\n\n"), recalled=recalled) is None
    assert prose().fault((), tokens) is None


def test_headings_of_chapters_are_the_business_of_the_plan() -> None:
    tokens = ids(f"{GOOD}Chapter 5\n\nTom slept until noon, and the wind fell.\n\n")
    assert prose().fault((), tokens) is not None and prose(headings=True).fault((), tokens) is None


def test_scripts_of_the_language_and_the_ledger_are_allowed() -> None:
    tokens = ids(f"{GOOD}" + "ש" * 40 + "\n\n" + "שלום עולם " * 12)
    assert prose(language="en").fault((), tokens) is not None
    greek = ids(f"{GOOD}Tom read the name {'Ὀδυσσεύς ' * 12}on the stone and said nothing more that day.\n\n")
    assert prose(language="en").fault((), greek) is not None
    assert (
        prose(
            language="en",
            ledger_scripts=frozenset(script for script, _ in script_runs("Ὀδυσσεύς is a ship.")),
        ).fault((), greek)
        is None
    )


def test_the_third_attempt_begins_a_scene_in_the_language_of_the_book() -> None:
    book = ids(GOOD)
    assert prose().restart(book, 1, ()) == ()
    scenes = [CHAT.decode(list(prose().restart(book, n, ()))) for n in range(FIRST_SCENE, FIRST_SCENE + 4)]
    assert scenes == ["The next morning", "Outside, the", "When the door opened,", "The next morning"]
    german = CHAT.decode(list(prose(language="de").restart(book, FIRST_SCENE, ())))
    assert german == "Am nächsten Morgen"
    after_line = CHAT.decode(list(prose().restart(book, FIRST_SCENE, ids("He slept."))))
    assert after_line == "\n\nThe next morning"
    assert prose(language="tlh").restart(book, FIRST_SCENE, ()) == (), "no scenes in that language"
    assert prose().restart(ids("He was about to"), FIRST_SCENE, ()) == (), "a sentence goes on"
