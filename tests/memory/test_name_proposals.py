"""Names that a ledger lacks, with their sentences."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from templora_cli.memory.ledger import Entry, Ledger
from templora_cli.memory.name_proposals import MAX_CHARACTERS, propose_names
from tests.test_term_proposals import chinese

BOOK = """
# The Iron Gate

MIRA VOSS AT SEA

It rained. Then Mira saw Captain Holm at the
gate. “Where,” asked Mira, “is Ur?” Nobody but Mira knew, and Mr. Pym was asleep.

In Ur the rain fell. They say Holm and Captain Holm are one. He went to Ur, and to Mr. Pym.
And Captain Holm waited for Mira, but Mr. Pym and Holm did not. Pymouth is far. They saw Mr. Pym.
"""


def test_the_most_frequent_name_comes_first_with_its_first_sentence() -> None:
    proposals = propose_names(BOOK, Ledger(), limit=9)
    assert [proposal.source for proposal in proposals][:1] == ["Holm"]
    assert [proposal.count for proposal in proposals] == sorted((p.count for p in proposals), reverse=True)
    sentences = {proposal.source: proposal.example for proposal in proposals}
    assert sentences["Mira"] == "Then Mira saw Captain Holm at the gate."
    assert sentences["Mr. Pym"].endswith("and Mr. Pym was asleep.")
    assert sentences["Ur"] == "“Where,” asked Mira, “is Ur?”"
    assert "Mr" not in sentences and "Iron Gate" not in sentences


def test_names_of_the_ledger_are_left_out() -> None:
    ledger = Ledger((Entry("Mira Voss", "person", ("mira",)), Entry("Ur", "place")))
    names = {proposal.source for proposal in propose_names(BOOK, ledger, limit=9)}
    assert names == {"Holm", "Captain Holm", "Mr. Pym"}
    assert len(propose_names(BOOK, ledger, limit=1)) == 1


def test_a_name_is_not_shown_within_another_word() -> None:
    text = "He is an Englishman. " + "She spoke English to him, and English to her. " * 3
    (proposal,) = propose_names(text, Ledger(), limit=5)
    assert proposal.example == "She spoke English to him, and English to her."


def test_a_long_sentence_is_cut_around_the_name() -> None:
    text = (
        f"{'so it was said ' * 30}that Mira slept {'and it rained ' * 30}. But Mira, they say, saw Mira.\n\n"
    )
    (proposal,) = propose_names(text, Ledger(), limit=5)
    assert len(proposal.example) <= MAX_CHARACTERS + 2
    assert "that Mira slept" in proposal.example
    assert proposal.example[0] == proposal.example[-1] == "…" and not proposal.example[1].isspace()


def test_chinese_names() -> None:
    book = "\n\n".join(chinese(["李青禾", "铁雁关", "韩墨"]))
    ledger = Ledger((Entry("铁雁关", "place"),))
    proposals = {proposal.source: proposal for proposal in propose_names(book, ledger, limit=9)}
    assert {"李青禾", "韩墨"} <= proposals.keys() and "铁雁关" not in proposals
    assert "李青禾" in proposals["李青禾"].example


@settings(max_examples=60)
@given(st.lists(st.text(max_size=30), max_size=6))
def test_any_text_can_be_searched(lines: list[str]) -> None:
    for proposal in propose_names("\n\n".join(lines * 4), Ledger(), limit=5):
        assert proposal.source in " ".join(lines).replace("\n", " ") or " " in proposal.source
