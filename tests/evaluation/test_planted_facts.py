"""Planted facts: invented, each once, asked for in other words, and the same from the same seed."""

from __future__ import annotations

import re
from itertools import chain, islice

from hypothesis import given, settings
from hypothesis import strategies as st

from templora_cli.evaluation.planted_facts import GROUP, KINDS, Fact, groups_of_facts
from templora_cli.memory.ledger import read_ledger

TEXT = "The silver key lay under the third step of the mill. Helen and Mara Tolm went to Helmarsh."
SEEDS = st.integers(0, 10**6).map(str)


def words(text: str) -> set[str]:
    return set(re.findall(r"[^\W_]+", text.lower()))


def spaced(text: str) -> str:
    """The words of a text with one blank before each and after the last."""
    return " ".join(["", *re.findall(r"[^\W_]+", text.lower()), ""])


def facts_of(seed: str, text: str = TEXT, groups: int = 24) -> list[Fact]:
    return list(chain.from_iterable(islice(groups_of_facts(seed, text), groups)))


@settings(max_examples=20)
@given(SEEDS)
def test_a_group_has_one_kind_and_different_answers(seed: str) -> None:
    groups = list(islice(groups_of_facts(seed, TEXT), 8))
    for group in groups:
        assert len(group) == GROUP and len({fact.kind for fact in group}) == 1
        assert len({fact.answer for fact in group}) == GROUP
    assert {group[0].kind for group in groups[:4]} == {group[0].kind for group in groups[4:]} == set(KINDS)


@settings(max_examples=20)
@given(SEEDS)
def test_the_question_has_the_subject_and_not_the_answer(seed: str) -> None:
    for fact in facts_of(seed):
        assert fact.sentence.lower().count(fact.answer.lower()) == 1
        assert fact.subject.lower() in fact.sentence.lower() and fact.subject.lower() in fact.cue.lower()
        assert not (words(fact.answer) - words("the of in at")) & words(fact.cue)
        assert not fact.sentence.startswith(fact.cue), "the question has other words than the fact"
        assert fact.sentence.endswith(".") and fact.sentence[0].isupper() and fact.cue[0].isupper()
        assert "{" not in fact.sentence + fact.cue + fact.entry


@settings(max_examples=10)
@given(SEEDS)
def test_subjects_and_answers_are_in_no_other_fact_and_not_in_the_text(seed: str) -> None:
    facts = facts_of(seed, groups=256)
    assert len(facts) > 4 * 240
    everything = spaced(" ".join(fact.sentence for fact in facts))
    for fact in facts:
        for name in (fact.answer, fact.subject.removeprefix("the ")):
            assert everything.count(spaced(name)) == 1 and spaced(name) not in spaced(TEXT)
    invented = re.findall(r"(?<!\. )\b[A-Z]\w+", " ".join(fact.answer for fact in facts))
    assert len(set(invented)) == len(invented), "no two people share a name"


def test_words_of_the_text_are_not_invented() -> None:
    before = facts_of("0")
    names = " ".join(fact.answer for fact in before if fact.kind != "object")
    after = facts_of("0", TEXT + names)
    assert not {fact.answer for fact in after if fact.kind != "object"} & set(names.split())
    assert not words(names) & words(" ".join(fact.answer for fact in after if fact.kind != "object"))


def test_the_seed_decides() -> None:
    assert facts_of("7") == facts_of("7") != facts_of("8")


@settings(max_examples=20)
@given(SEEDS)
def test_the_ledger_answers_each_question(seed: str) -> None:
    facts = facts_of(seed)
    ledger = read_ledger("\n".join(fact.entry for fact in facts))
    assert len(ledger.entries) == len(facts)
    for fact in facts:
        (entry,) = ledger.named_in("It rained.", f"{fact.cue}")
        assert fact.answer in entry.line()
