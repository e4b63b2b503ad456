"""Books as Markdown."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from templora_cli.documents.book import Book, BookChapter, BookParagraph, SceneBreak, Span, book_of_prose
from templora_cli.documents.writers.markdown import write_markdown
from tests.documents.test_book import PROSE


@given(PROSE)
def test_every_line_of_prose_is_an_unchanged_paragraph(text: str) -> None:
    written = write_markdown(book_of_prose(text)).decode()
    assert written.endswith("\n")
    paragraphs = written[:-1].split("\n\n") if written != "\n" else []
    assert paragraphs == [line.strip() for line in text.split("\n") if line.strip()]


def test_markdown_in_prose_is_not_escaped() -> None:
    text = "# One\n\n*so* [1] <b>\n    `code`\n* * *\n"
    assert write_markdown(book_of_prose(text)) == b"# One\n\n*so* [1] <b>\n\n`code`\n\n* * *\n"


def chapter(title: str, *spans: Span) -> BookChapter:
    return BookChapter(title, (BookParagraph(spans),))


def test_a_book_with_title_author_chapters_and_scene_breaks() -> None:
    one = chapter("One", Span("It was "), Span("so", emphasis=True), Span(" dark."))
    two = BookChapter("Two", (BookParagraph((Span("a"),)), SceneBreak(), BookParagraph((Span("b"),), "\n")))
    assert write_markdown(Book("The Lamp", "A. Writer", "en", (one, two))).decode() == (
        "# The Lamp\n\nA. Writer\n\n## One\n\nIt was *so* dark.\n\n## Two\n\na\n\n* * *\n\nb\n"
    )
    untitled = write_markdown(Book("", "", "en", (chapter("One", Span("a")), chapter("", Span("b")))))
    assert untitled == b"# One\n\na\n\nb\n"


def words(*spans: Span) -> str:
    return write_markdown(Book("", "", "", (chapter("", *spans),))).decode().removesuffix("\n")


def em(text: str) -> Span:
    return Span(text, emphasis=True)


@pytest.mark.parametrize(
    ("spans", "markdown"),
    [
        ([em("so")], "*so*"),
        ([Span("so", strong=True)], "**so**"),
        ([Span("so", emphasis=True, strong=True)], "***so***"),
        ([Span("a"), em(" so "), Span("b")], "a *so* b"),
        ([Span("a"), em(" "), Span("b")], "a b"),
        ([em("a"), em("b"), Span(" c")], "*ab* c"),
        ([Span("un"), em("believ"), Span("able")], "un*believ*able"),
        ([em("“So!”"), Span(" he said")], "*“So!”* he said"),
        ([Span("他说"), em("“好。”"), Span("了")], "他说<em>“好。”</em>了"),
        ([em("a"), Span("b", strong=True)], "<em>a</em><strong>b</strong>"),
        ([em("a"), Span(" b", emphasis=True, strong=True)], "*a* ***b***"),
    ],
)
def test_emphasis_is_written_as_asterisks_or_tags(spans: list[Span], markdown: str) -> None:
    assert words(*spans) == markdown


def styles(spans: list[Span]) -> list[tuple[str, bool, bool]]:
    """The style of every visible character."""
    return [(c, s.emphasis, s.strong) for s in spans for c in s.text if not c.isspace()]


def read(markdown: str) -> list[Span]:
    """The spans of one paragraph, as a Markdown parser reads them."""
    (inline,) = MarkdownIt("commonmark").parseInline(markdown)
    spans, depth = [], {"em": 0, "strong": 0}
    for token in inline.children or ():
        if token.type in ("text", "softbreak"):
            spans.append(Span(token.content or "\n", depth["em"] > 0, depth["strong"] > 0))
        elif token.type == "html_inline":
            depth[token.content.strip("</>")] += -1 if token.content.startswith("</") else 1
        else:
            depth[token.tag] += token.nesting
    return spans


TEXT = st.text(alphabet=" ab7é說“”。!—(\u3000\xa0", max_size=4)


@given(st.lists(st.builds(Span, TEXT, st.booleans(), st.booleans()), max_size=6))
def test_emphasis_reads_back_unchanged(spans: list[Span]) -> None:
    assert styles(read(words(*spans))) == styles(spans)


def test_a_megabyte_is_written_in_linear_time() -> None:
    text = '"Where?" she asked, and went on along the wet road.\n' * 20_000
    start = time.perf_counter()
    assert write_markdown(book_of_prose(text)).decode() == text.replace("\n", "\n\n")[:-1]
    spans = (Span("word "), em("so")) * 100_000
    assert words(*spans).count("*so*") == 100_000
    for blank in (" ", "\n"):
        assert write_markdown(book_of_prose("a" + blank * 1_000_000 + "\nb")) == b"a\n\nb\n"
    assert time.perf_counter() - start < 10  # a second on an idle core; minutes if it were quadratic
