"""Plain text files: paragraphs, headings, line ends."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from templora_cli.documents.inline import has_words
from tests.documents.fake import parse, shout, shout_all, texts

WRAPPED = """\
CHAPTER I. The Road

The road went down past the mill and over the bridge, where the boys
of the village fished for what they could get, and it did not stop at
all until it came to the place where the river runs into the old sea-
side. That was the end.

   O road, O road,
   where do you go?

"And what then?" asked the boy, who had never in his life seen so much
water as that in one place.
"""


def read_texts(text: str) -> list[str]:
    return texts(parse(text, ".txt"))


def test_wrapped_lines_are_joined() -> None:
    document = parse(WRAPPED, ".txt")
    assert texts(document) == [
        "CHAPTER I. The Road",
        "The road went down past the mill and over the bridge, where the boys of the village fished for "
        "what they could get, and it did not stop at all until it came to the place where the river runs "
        "into the old sea-side. That was the end.",
        "O road, O road,",
        "where do you go?",
        '"And what then?" asked the boy, who had never in his life seen so much water as that in one place.',
    ]
    out = document.render(shout_all(document), "de").decode()
    assert texts(parse(out, ".txt")) == [shout(text) for text in texts(document)]
    assert "\n\n   O ROAD, O ROAD,\n   WHERE DO YOU GO?\n\n" in out
    both = document.render({1: "Weg.", 2: "O Weg"}, "de", bilingual=True).decode()
    assert "side. That was the end.\n\nWeg.\n\n" in both and "   O road, O road,\n   O Weg\n   where" in both


def test_wrapped_chinese_lines_are_joined() -> None:
    lines = [
        "　　他走进房间的时候，灯已经熄了，屋里没有一点声音，",
        "只有窗外的雨还在下，下得很慢很慢，像是永远不会停下来的",
        "样子。",
    ]
    assert read_texts("\n".join([*lines, *lines])) == ["".join(lines).strip()] * 2


@pytest.mark.parametrize(
    "text",
    [
        "Hello there.\nHow are you?\n",
        "“Well,” she said, and looked at the long road behind her for a while.\n“Well what?” he asked.\n" * 3,
        "　　第一章　开始\r\n　　他走了进来。\r\n　　“你好。”\r\n",
        "Roses are red,\nViolets are blue,\nSugar is sweet,\nAnd so are you",
        "A line.\n\nAnother line.\n\n\n\nA third\n",
        "one\rtwo\rthree",
    ],
)
def test_each_line_is_a_paragraph_in_other_texts(text: str) -> None:
    document = parse(text, ".txt")
    assert texts(document) == [" ".join(line.split()) for line in text.splitlines() if line.strip()]
    assert document.render({}, "de") == text.encode()
    out = document.render(shout_all(document), "de").decode()
    assert out.replace("　开", " 开") == text.upper().replace("　开", " 开")


def test_indents_blank_lines_and_symbols_stay() -> None:
    text = "\n\n  One  \n\t* * *\n\n\n\tTwo\n1984\n"
    assert (
        parse(text, ".txt").render({0: "Eins", 1: "Zwei"}, "de")
        == b"\n\n  Eins  \n\t* * *\n\n\n\tZwei\n1984\n"
    )


def test_tags_in_the_source_are_text_and_invented_tags_are_removed() -> None:
    document = parse("Press <1>\n\nNow\n", ".txt")
    assert (
        document.render({0: "Drücke <1>", 1: "<1>Jetzt\n!</1>"}, "de").decode() == "Drücke <1>\n\nJetzt !\n"
    )


def test_bilingual_files_have_both_languages() -> None:
    text = "  One\r\n  Two\r\n\r\nThree"
    out = parse(text, ".txt").render({0: "Eins", 1: "Zwei", 2: "Drei"}, "de", bilingual=True)
    assert out.decode() == "  One\r\n  Eins\r\n  Two\r\n  Zwei\r\n\r\nThree\r\n\r\nDrei"


def test_a_byte_order_mark_stays_and_other_encodings_become_utf_8() -> None:
    assert parse(b"\xef\xbb\xbfOne\n", ".txt").render({0: "Eins"}, "de") == b"\xef\xbb\xbfEins\n"
    content = "Über\nallem".encode("utf-16")
    document = parse(content, ".txt")
    assert document.render({}, "de") == content
    assert document.render({1: "x"}, "de") == "Über\nx".encode()


def test_chapters_begin_at_headings() -> None:
    document = parse("Before.\nChapter 1\nOne.\nTwo.\nChapter 2: Home\nThree.\n", ".txt")
    assert [(c.title, c.first, c.end) for c in document.chapters] == [
        ("", 0, 1),
        ("Chapter 1", 1, 4),
        ("Chapter 2: Home", 4, 6),
    ]
    assert [p.kind for p in document.paragraphs].count("heading") == 2


def test_a_very_long_paragraph_stays_whole() -> None:
    text = "word " * 40_000
    assert len(read_texts(text)) == 1 and len(read_texts("字" * 200_000)) == 1


LINES = st.lists(
    st.sampled_from(
        ["", "  ", "One.", "　　二", "A long line that goes on for some fifty columns.", "7", "* *"]
    ),
    min_size=1,
    max_size=12,
)


@given(LINES, st.sampled_from(["\n", "\r\n", "\r"]))
def test_any_lines_read_back_as_the_translation(lines: list[str], line_end: str) -> None:
    text = line_end.join(["End.", *lines])
    document = parse(text, ".txt")
    assert document.render({}, "de") == text.encode()
    out = document.render(shout_all(document), "de").decode()
    assert [line for line in out.splitlines() if not has_words(line)] == [
        line for line in text.splitlines() if not has_words(line)
    ]
    assert texts(parse(out, ".txt")) == [shout(t) for t in texts(document)]
