"""Words, sentences, speech and names of prose in several scripts."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from templora_cli.documents.registry import parse_document
from templora_cli.evaluation.prose_text import (
    ProseChapter,
    chapters_of,
    joined,
    limited,
    name_counts,
    parse_paragraph,
    sentences_of,
    words_of,
)

WORDS = {
    "Don’t go, Anna's cat!": ["don't", "go", "anna's", "cat"],
    "Well-known 'tis — 3 o'clock.": ["well", "known", "tis", "3", "o'clock"],
    "Là-bas, l’été…": ["là", "bas", "l'été"],
    "e\u0301te\u0301": ["e\u0301te\u0301"],
    "हिन्दी की कहानी।": ["हिन्दी", "की", "कहानी"],
    "他在灯塔里。Tom 也在": ["他", "在", "灯", "塔", "里", "tom", "也", "在"],
    "カメラ": ["カ", "メ", "ラ"],
    "한국어 소설": ["한국어", "소설"],
    "ที่นี่": ["ที่", "นี่"],
    "_ — ... !": [],
}


@pytest.mark.parametrize(("text", "words"), WORDS.items())
def test_words(text: str, words: list[str]) -> None:
    assert words_of(text) == words


def test_words_of_scripts_without_spaces_are_joined_without_blanks() -> None:
    assert joined(("灯", "塔", "里")) == "灯塔里"
    assert joined(("the", "sea", "is")) == "the sea is"


SENTENCES = {
    "Mr. J. Smith came. He sat.": ["Mr. J. Smith came. ", "He sat."],
    '"Who?" he asked. "I!" "Who?" he said.': ['"Who?" he asked. ', '"I!" ', '"Who?" he said.'],
    "„Wer?“ Er ging. «Qui?» Il partit.": ["„Wer?“ ", "Er ging. ", "«Qui?» ", "Il partit."],
    "“No!” she cried.": ["“No!” she cried."],
    "他来了。“谁？”她问。": ["他来了。", "“谁？”", "她问。"],
    "वह आया। वह गया।": ["वह आया। ", "वह गया।"],
    "without an end": ["without an end"],
}


@pytest.mark.parametrize(("text", "sentences"), SENTENCES.items())
def test_sentences(text: str, sentences: list[str]) -> None:
    assert sentences_of(text) == sentences


@given(st.text("aA .?!。“”\"'’—1", max_size=60))
def test_nothing_of_a_paragraph_is_lost(text: str) -> None:
    assert "".join(sentences_of(text)) == text
    paragraph = parse_paragraph(text)
    assert sum(paragraph.sentence_words) == len(paragraph.words)
    assert 0 <= paragraph.spoken_words <= len(paragraph.words)
    assert paragraph.questions <= len(paragraph.sentence_words)


SPOKEN = {
    "“Go home,” she said. “Now.”": 3,
    '"Go home," she said. "Now."': 3,
    "“It goes on in the next paragraph.": 7,
    "‘I don’t know,’ he said of the boys’ boat.": 3,
    "'Don't go,' he said.": 2,
    "It's the boys' boat, and 'tis hers.": 0,
    "„Komm nach Hause“, sagte sie.": 3,
    "»Komm nach Hause«, sagte sie.": 3,
    "« Viens ici », dit-elle.": 2,
    "— Viens ici, dit-elle.": 4,
    "「行こう」と言った。": 3,
    "“走吧。”他说。": 2,
    "She said nothing.": 0,
}


@pytest.mark.parametrize(("text", "spoken"), SPOKEN.items())
def test_dialogue(text: str, spoken: int) -> None:
    assert parse_paragraph(text).spoken_words == spoken


def test_questions_are_sentences_with_a_question_mark() -> None:
    assert parse_paragraph("Why? “Who is it?” he asked. No one. Why not?!").questions == 3
    assert parse_paragraph("“谁？”他问。没有人。").questions == 1
    assert parse_paragraph("Τι κάνεις; Τίποτα.").questions == 1


def test_names() -> None:
    paragraphs = [
        "The keeper met Anna in Port Ellen. I'll go, said Anna's aunt. Nobody heard.",
        "“Tomorrow,” she said, and saw Mr. Tibbs. Anna left: The end. Will Anna come? He saw Will.",
        "He will.",
        "IN CAPITALS. Ellen is a port; what I saw was I.",
    ]
    assert name_counts(paragraphs) == {"anna": 4, "ellen": 2, "mr": 1, "tibbs": 1}


def test_there_are_no_names_without_capitals() -> None:
    assert name_counts(["他在灯塔里，Tom 也在。"]) is None


def test_chapters_are_those_of_the_document_without_headings() -> None:
    text = b"# A Book\n\nBy me.\n\n## One\n\nThe *sea*.\n\n| a | b |\n|---|---|\n| c | d |\n\n"
    text += b"## Two\n\n## Three\n\nEnd.\n"
    chapters = chapters_of(parse_document(text, ".md", "book.md"))
    assert chapters == [
        ProseChapter("A Book", ("By me.",)),
        ProseChapter("One", ("The sea.",)),
        ProseChapter("Three", ("End.",)),
    ]


@pytest.mark.parametrize(
    ("limit", "paragraphs"),
    [
        (1, [["A"]]),
        (2, [["A b."]]),
        (3, [["A b.", "C"]]),
        (5, [["A b.", "C d."], ["E"]]),
        (99, [["A b.", "C d."], ["E f."]]),
    ],
)
def test_the_first_words(limit: int, paragraphs: list[list[str]]) -> None:
    chapters = [ProseChapter("1", ("A b.", "C d.")), ProseChapter("2", ("E f.",))]
    assert [list(chapter.paragraphs) for chapter in limited(chapters, limit)] == paragraphs
