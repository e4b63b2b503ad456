"""Markup inside a Markdown paragraph: from the tokens of markdown-it to marks, and back to Markdown."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from markdown_it.rules_inline import image

from templora_cli.documents.inline import Inline, Mark, number_markup

if TYPE_CHECKING:
    from markdown_it.rules_inline import StateInline
    from markdown_it.token import Token

FOOTNOTE = re.compile(r"(?<!\\)\[\^[^\]\s]+\]")
_TASK = re.compile(r"\[[ xX]\] ")
_MASK = str.maketrans("[^]", "\ue000\ue001\ue002")
"""Private characters for the brackets of a footnote, which CommonMark would read as a link."""
_UNMASK = str.maketrans("\ue000\ue001\ue002", "[^]")
_MASKED_FOOTNOTE = re.compile("\ue000\ue001[^\ue002]+\ue002")
_HTML_TAG = re.compile(r"<(/?)([A-Za-z][\w-]*)[^>]*?(/?)>")
_HTML_NAMES = {"*": "em", "_": "em", "**": "strong", "__": "strong", "~~": "s"}


def locate_image(state: StateInline, silent: bool) -> bool:
    """The image rule of the parser; it also records the offset and source of the image in its paragraph."""
    start = state.pos
    is_image = image(state, silent)
    if is_image and not silent:
        state.tokens[-1].meta.update(start=start, raw=state.src[start : state.pos])
    return is_image


def alt_text(token: Token) -> str:
    """The alt text of an image, without markup, which no reader sees."""
    words = []
    for child in token.children or ():
        if child.type == "image":
            words.append(alt_text(child))
        elif child.type in ("softbreak", "hardbreak"):
            words.append(" ")
        elif child.type != "html_inline":
            words.append(unmask_footnotes(child.content))
    return "".join(words)


def has_alt_as_label(token: Token) -> bool:
    """Whether the alt text is also the link label (`![alt]`, `![alt][]`), so that it must not change."""
    return str(token.meta["raw"])[len(token.content) + 3 :] in ("", "[]")


def number_tokens(tokens: list[Token]) -> Inline[str]:
    """The children of an inline token, with numbered markup."""
    return number_markup(_void_unpaired_tags(list(_pieces(tokens))))


def _pieces(tokens: list[Token]) -> Iterator[str | Mark[str]]:
    skip_to = 0
    links: list[Token] = []
    for index, token in enumerate(tokens):
        if index < skip_to:
            continue
        if token.type in ("text", "text_special"):
            yield from _text_pieces(token.content, first=index == 0)
        elif token.type == "softbreak":
            yield "\n"
        elif token.type == "link_open" and token.markup == "autolink":
            yield Mark("void", f"<{tokens[index + 1].content}>")
            skip_to = index + 3
        elif token.type == "link_open":
            links.append(token)
            yield Mark("open", "[", is_link=True)
        elif token.type == "link_close":
            attributes = links.pop().attrs
            yield Mark("close", f"]{_link_target(str(attributes['href']), attributes.get('title'))}")
        else:
            yield _mark(token)


def _text_pieces(text: str, *, first: bool) -> Iterator[str | Mark[str]]:
    end = 0
    task = _TASK.match(text) if first else None
    if task is not None:
        end = task.end()
        yield Mark("void", task[0])
    for match in _MASKED_FOOTNOTE.finditer(text, end):
        yield unmask_footnotes(text[end : match.start()])
        end = match.end() + (first and match.start() == 0 and text[match.end() :].startswith(":"))
        yield Mark("void", unmask_footnotes(text[match.start() : end]))
    yield unmask_footnotes(text[end:])


def _mark(token: Token) -> Mark[str]:
    """The mark of a token that is not text. HTML tags are not paired yet."""
    if token.type == "image":
        if not has_alt_as_label(token):
            return Mark("void", unmask_footnotes(token.meta["raw"]))
        alt = unmask_footnotes(token.content)
        return Mark("void", f"![{alt}]{_link_target(str(token.attrs['src']), token.attrs.get('title'))}")
    if token.type == "hardbreak":
        return Mark("void", "\\\n", is_optional=True)
    if token.type == "code_inline":
        content = unmask_footnotes(token.content)
        pad = " " if content[:1] in ("`", " ") or content[-1:] in ("`", " ") else ""
        return Mark("void", f"{token.markup}{pad}{content}{pad}{token.markup}")
    if token.type == "html_inline":
        return _html_mark(unmask_footnotes(token.content))
    assert token.nesting, f"an unknown token: {token.type}"
    return Mark("open" if token.nesting > 0 else "close", token.markup)


def _html_mark(raw: str) -> Mark[str]:
    match = _HTML_TAG.fullmatch(raw)
    if match is None:
        return Mark("void", raw, is_hidden=True)
    name = match[2].lower()
    if match[3] or name in ("br", "img", "hr", "wbr", "input"):
        return Mark("void", raw, is_optional=name in ("br", "wbr"))
    return Mark(
        "close" if match[1] else "open", raw, is_link=name == "a", is_anchor=" id" in raw or " name" in raw
    )


def _void_unpaired_tags(pieces: list[str | Mark[str]]) -> list[str | Mark[str]]:
    """`pieces` with each unpaired HTML tag as a void, because markdown-it pairs only Markdown."""
    stack: list[int] = []
    for index, piece in enumerate(pieces):
        if isinstance(piece, str) or piece.form == "void":
            continue
        if piece.form == "open":
            stack.append(index)
        elif not _is_html_tag(piece):
            while _is_html_tag(pieces[stack[-1]]):
                _make_void(pieces, stack.pop())
            stack.pop()
        elif stack and _html_tag_name(pieces[stack[-1]]) == _html_tag_name(piece):
            stack.pop()
        else:
            _make_void(pieces, index)
    for index in stack:
        _make_void(pieces, index)
    return pieces


def _make_void(pieces: list[str | Mark[str]], index: int) -> None:
    piece = pieces[index]
    assert isinstance(piece, Mark)
    pieces[index] = Mark("void", piece.raw)


def _is_html_tag(piece: str | Mark[str]) -> bool:
    return isinstance(piece, Mark) and piece.raw.startswith("<")


def _html_tag_name(piece: str | Mark[str]) -> str:
    match = _HTML_TAG.fullmatch(piece.raw) if isinstance(piece, Mark) else None
    return match[2].lower() if match else ""


def _link_target(href: str, title: object) -> str:
    """The end of a link in Markdown: `(href "title")`."""
    destination = f"<{href}>" if not href or re.search(r"[\s()<>]", href) else href
    if not title:
        return f"({destination})"
    escaped = re.sub(r'(["\\])', r"\\\1", unmask_footnotes(str(title)))
    return f'({destination} "{escaped}")'


def unmask_footnotes(text: str) -> str:
    """`text` with the footnotes of the file again."""
    return text.translate(_UNMASK)


def mask_footnotes(text: str) -> str:
    """`text`, of equal length, with footnotes hidden from the parser."""
    return FOOTNOTE.sub(lambda match: match[0].translate(_MASK), text)


def to_markdown(pieces: Iterable[str | Mark[str]], *, html: bool = False) -> str:
    """`pieces` as Markdown; with `html`, emphasis is written as tags, which work in any position."""
    out: list[str] = []
    for piece in pieces:
        if isinstance(piece, str):
            at_start = not out or out[-1].endswith("\n")
            out.append(_escape(piece.lstrip() if at_start else piece, at_start=at_start))
            continue
        if piece.form != "void" and html and piece.raw in _HTML_NAMES:
            name = _HTML_NAMES[piece.raw]
            out.append(f"<{name}>" if piece.form == "open" else f"</{name}>")
        else:
            if out and out[-1].endswith("!") and piece.raw.startswith("["):
                out[-1] = f"{out[-1][:-1]}\\!"
            out.append(piece.raw)
    return "".join(out)


def escape_alt(text: str) -> str:
    """`text` escaped for an alt text, also in a table cell.

    Backticks and ">" become entities. Escaped with a backslash, they could still end code or a tag that
    begins before the image.
    """
    text = _escape(text, at_start=False).replace("|", "\\|")
    return text.replace("\\`", "&#96;").replace(">", "&gt;")


def _escape(text: str, *, at_start: bool) -> str:
    """`text` escaped so that Markdown reads it as text."""
    text = re.sub(r"([\\`*\[\]<])", r"\\\1", text.replace("\n", " "))
    text = re.sub(r"(?<![^\W_])_|_(?![^\W_])", r"\\_", text).replace("~~", "\\~\\~")
    text = re.sub(r"&(?=#?\w+;)", r"\\&", text)
    if not at_start:
        return text
    text = re.sub(r"^(?=>|(?:#{1,6}|[+=-]+)(?:\s|$))", r"\\", text)
    return re.sub(r"^(\d{1,9})([.)])(?=\s|$)", r"\1\\\2", text)
