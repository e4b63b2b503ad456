"""Markup inside a Markdown paragraph: from what markdown-it found to marks, and back to Markdown."""

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
"""For the signs of a footnote, which CommonMark would take for a link."""
_UNMASK = str.maketrans("\ue000\ue001\ue002", "[^]")
_MASKED = re.compile("\ue000\ue001[^\ue002]+\ue002")
_HTML_TAG = re.compile(r"<(/?)([A-Za-z][\w-]*)[^>]*?(/?)>")
_AS_HTML = {"*": "em", "_": "em", "**": "strong", "__": "strong", "~~": "s"}


def located_image(state: StateInline, silent: bool) -> bool:
    """The parser's rule of images, which also keeps where in its paragraph one stands, as it is there."""
    start = state.pos
    found = image(state, silent)
    if found and not silent:
        state.tokens[-1].meta.update(start=start, raw=state.src[start : state.pos])
    return found


def alt_of(token: Token) -> str:
    """What an image is said to show, without the markup in it, which nobody sees."""
    words = []
    for child in token.children or ():
        if child.type == "image":
            words.append(alt_of(child))
        elif child.type in ("softbreak", "hardbreak"):
            words.append(" ")
        elif child.type != "html_inline":
            words.append(unmasked(child.content))
    return "".join(words)


def is_named_by_alt(token: Token) -> bool:
    """Does the definition of an image go by its alt text (`![alt]`, `![alt][]`), which so must stay?"""
    return str(token.meta["raw"])[len(token.content) + 3 :] in ("", "[]")


def inline_of_tokens(tokens: list[Token]) -> Inline[str]:
    """The numbered paragraph of the children of an inline token."""
    return number_markup(_paired(list(_pieces(tokens))))


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
            yield Mark("close", f"]{target(str(attributes['href']), attributes.get('title'))}")
        else:
            yield _mark(token)


def _text_pieces(text: str, *, first: bool) -> Iterator[str | Mark[str]]:
    at = 0
    task = _TASK.match(text) if first else None
    if task is not None:
        at = task.end()
        yield Mark("void", task[0])
    for match in _MASKED.finditer(text, at):
        yield unmasked(text[at : match.start()])
        at = match.end() + (first and match.start() == 0 and text[match.end() :].startswith(":"))
        yield Mark("void", unmasked(text[match.start() : at]))
    yield unmasked(text[at:])


def _mark(token: Token) -> Mark[str]:
    """The mark of a token that is no text. Tags of HTML are not paired yet."""
    if token.type == "image":
        if not is_named_by_alt(token):
            return Mark("void", unmasked(token.meta["raw"]))
        alt = unmasked(token.content)
        return Mark("void", f"![{alt}]{target(str(token.attrs['src']), token.attrs.get('title'))}")
    if token.type == "hardbreak":
        return Mark("void", "\\\n", is_optional=True)
    if token.type == "code_inline":
        content = unmasked(token.content)
        pad = " " if content[:1] in ("`", " ") or content[-1:] in ("`", " ") else ""
        return Mark("void", f"{token.markup}{pad}{content}{pad}{token.markup}")
    if token.type == "html_inline":
        return _html_mark(unmasked(token.content))
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


def _paired(pieces: list[str | Mark[str]]) -> list[str | Mark[str]]:
    """`pieces` with each tag of HTML that has no partner as a void: markdown-it pairs only its own."""
    stack: list[int] = []
    for index, piece in enumerate(pieces):
        if isinstance(piece, str) or piece.form == "void":
            continue
        if piece.form == "open":
            stack.append(index)
        elif not _is_html(piece):
            while _is_html(pieces[stack[-1]]):
                _make_void(pieces, stack.pop())
            stack.pop()
        elif stack and _name(pieces[stack[-1]]) == _name(piece):
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


def _is_html(piece: str | Mark[str]) -> bool:
    return isinstance(piece, Mark) and piece.raw.startswith("<")


def _name(piece: str | Mark[str]) -> str:
    match = _HTML_TAG.fullmatch(piece.raw) if isinstance(piece, Mark) else None
    return match[2].lower() if match else ""


def target(href: str, title: object) -> str:
    """`(href "title")` as it stands behind the words of a link."""
    where = f"<{href}>" if not href or re.search(r"[\s()<>]", href) else href
    if not title:
        return f"({where})"
    escaped = re.sub(r'(["\\])', r"\\\1", unmasked(str(title)))
    return f'({where} "{escaped}")'


def unmasked(text: str) -> str:
    """`text` with its footnotes as they are in the file."""
    return text.translate(_UNMASK)


def masked(text: str) -> str:
    """`text`, as long as it was, with its footnotes hidden from the parser."""
    return FOOTNOTE.sub(lambda match: match[0].translate(_MASK), text)


def written(pieces: Iterable[str | Mark[str]], *, html: bool = False) -> str:
    """`pieces` as Markdown; `html` writes emphasis as tags, which Markdown takes in any place."""
    out: list[str] = []
    for piece in pieces:
        if isinstance(piece, str):
            at_start = not out or out[-1].endswith("\n")
            out.append(_escaped(piece.lstrip() if at_start else piece, at_start=at_start))
            continue
        if piece.form != "void" and html and piece.raw in _AS_HTML:
            name = _AS_HTML[piece.raw]
            out.append(f"<{name}>" if piece.form == "open" else f"</{name}>")
        else:
            if out and out[-1].endswith("!") and piece.raw.startswith("["):
                out[-1] = f"{out[-1][:-1]}\\!"
            out.append(piece.raw)
    return "".join(out)


def written_alt(text: str) -> str:
    """`text` as an alt text, in the cell of a table too.

    Nothing in it ends code or a tag that would begin before the image: no backslash helps there.
    """
    text = _escaped(text, at_start=False).replace("|", "\\|")
    return text.replace("\\`", "&#96;").replace(">", "&gt;")


def _escaped(text: str, *, at_start: bool) -> str:
    """`text` so that Markdown takes it for text."""
    text = re.sub(r"([\\`*\[\]<])", r"\\\1", text.replace("\n", " "))
    text = re.sub(r"(?<![^\W_])_|_(?![^\W_])", r"\\_", text).replace("~~", "\\~\\~")
    text = re.sub(r"&(?=#?\w+;)", r"\\&", text)
    if not at_start:
        return text
    text = re.sub(r"^(?=>|(?:#{1,6}|[+=-]+)(?:\s|$))", r"\\", text)
    return re.sub(r"^(\d{1,9})([.)])(?=\s|$)", r"\1\\\2", text)
