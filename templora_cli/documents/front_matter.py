"""Front and back matter: the parts of a book file that are not its prose."""

from __future__ import annotations

import re
from collections.abc import Sequence

from templora_cli.text import count_words, have_words

_NAMES = {
    "contents": (
        "contents|table of contents|list of contents|inhalt|inhaltsverzeichnis|sommaire"
        "|table des matières|índice|indice|sommario|inhoud|inhoudsopgave|spis treści|obsah"
        "|содержание|оглавление|зміст"
        "|目录|目錄|目次|もくじ|차례|목차"
    ),
    "cover": "cover|cover page|front cover|couverture|portada|copertina|titelbild|封面|表紙|표지",
    "title page": "title page|titlepage|half title|half title page|titelseite|page de titre|扉页|扉",
    "copyright": (
        "copyright|copyright page|copyright notice|copyright information|legal notice|legal"
        "|impressum|imprint|colophon|mentions légales|créditos|colofon|выходные данные"
        "|版权|版权页|版权信息|版權頁|奥付|판권"
    ),
    "licence": (
        "license|licence|the full project gutenberg license|start full license|full license"
        "|the full project gutenberg licence"
    ),
    "dedication": "dedication|widmung|dédicace|dedicatoria|dedica|посвящение|献词|献辞",
    "acknowledgements": (
        "acknowledgements?|acknowledgments?|danksagung|remerciements|agradecimientos|agradecimentos"
        "|ringraziamenti|dankwoord|благодарности|致谢|謝辞|감사의 말"
    ),
    "about the author": (
        "about the authors?|about the writer|author bio|author biography|über den autor|über die autorin"
        "|zum autor|zur autorin|à propos de l['’]auteur|sobre el autor|sobre la autora|sull['’]autore"
        "|об авторе|作者简介|关于作者|著者紹介|著者略歴|작가 소개"
    ),
    "other books": (
        r"(?:also|other books|more|books|more books) by .{1,60}|by the same author|du même auteur"
        r"|weitere bücher.{0,60}|von .{1,60} sind (?:auch )?erschienen|otros libros.{0,60}"
    ),
    "notes": "notes|footnotes|endnotes|anmerkungen|fußnoten|endnoten|notes de bas de page|notas|注释|註釋",
    "index": "index|register|sachregister|索引",
    "bibliography": "bibliography|works cited|references|literaturverzeichnis|bibliographie|参考文献",
}
_BY_TITLE = {matter: re.compile(names, re.IGNORECASE) for matter, names in _NAMES.items()}
_BY_TYPE = {
    "cover": "cover",
    "frontispiece": "cover",
    "titlepage": "title page",
    "title-page": "title page",
    "halftitlepage": "title page",
    "halftitle": "title page",
    "toc": "contents",
    "loi": "contents",
    "lot": "contents",
    "landmarks": "contents",
    "page-list": "contents",
    "copyright-page": "copyright",
    "copyright": "copyright",
    "imprint": "copyright",
    "colophon": "copyright",
    "imprimatur": "copyright",
    "dedication": "dedication",
    "acknowledgments": "acknowledgements",
    "acknowledgements": "acknowledgements",
    "contributors": "about the author",
    "other-credits": "about the author",
    "footnotes": "notes",
    "endnotes": "notes",
    "rearnotes": "notes",
    "notes": "notes",
    "index": "index",
    "bibliography": "bibliography",
}
"""Names of EPUB and DPUB-ARIA: of `epub:type`, `role` (without "doc-"), and the guide of EPUB 2."""
MAX_MATTER_WORDS = 3000
"""A longer section is prose, whatever its title says."""
_MAX_COPYRIGHT_WORDS = 500
_RIGHTS = re.compile(
    r"©|\(c\)\s*\d{4}|copyright\s+(?:©|\(c\)|\d{4}|by)|all rights reserved|alle rechte vorbehalten"
    r"|tous droits réservés|todos los derechos reservados|tutti i diritti riservati|\bISBN\b|版权所有|著作権"
    r"|все права защищены|無断転載",
    re.IGNORECASE,
)
_MAX_TITLE_PAGE_WORDS = 400
_MAX_PARAGRAPH_CHARS = 5000
_MAX_LINE_WORDS = 20
_SENTENCE_END = re.compile(r"[.!?…。！？][\"'”’»」』)]*$")
_AUTHOR = re.compile(r"(?:written\s+)?(?:by|von|par)\s", re.IGNORECASE)
_BYLINE = re.compile(
    r"(?:(?:written\s+)?by|von|par|de|di|door|av|автор:?)\s+(?-i:[^\W\d_a-zß-ÿ])[^!?;]{0,60}[^.!?;,]"
    r"|(?:a|an|ein|eine)?\s*(?:novel|novella|roman|novelle|memoir)|作者[:：].{1,30}|.{1,20}[\s\u3000]*著"
    r"|(?:approx\.?|approximately|about|word count:?)?\s*\d[\d,. ]*\s*words|\S+@\S+\.\w+"
    r"|produced by .{1,80}|(?:e-?text|transcribed|prepared) .{0,30}by .{1,80}",
    re.IGNORECASE,
)


def matter_of_title(title: str) -> str:
    """The front or back matter that has such a title; "" if it is none."""
    words = " ".join(title.split()).strip(" .:*#_-–—[]")
    return next((matter for matter, names in _BY_TITLE.items() if names.fullmatch(words)), "")


def matter_of_type(types: str) -> str:
    """The front or back matter of EPUB types or ARIA roles that are divided by blanks; "" if none."""
    names = [name.lower().removeprefix("doc-").removeprefix("other.") for name in types.split()]
    return next((_BY_TYPE[name] for name in names if name in _BY_TYPE), "")


def states_rights(paragraphs: Sequence[str]) -> bool:
    """Whether the paragraphs are a copyright page."""
    return not have_words(paragraphs, _MAX_COPYRIGHT_WORDS) and any(map(_RIGHTS.search, paragraphs))


def title_page_length(paragraphs: Sequence[str], title: str = "") -> int:
    """The number of `paragraphs` at the beginning of a book that are its title page; 0 without one.

    They are short, and one of them names the author, the rights, the length, or the `title` that is known.
    After the last of these only paragraphs that are not sentences count, unless all are short.
    """
    length = words = signs = 0
    for paragraph in paragraphs:
        lines = [line.strip() for line in paragraph.split("\n")]
        if len(paragraph) > _MAX_PARAGRAPH_CHARS:
            break
        words += count_words(paragraph)
        has_rights = _RIGHTS.search(paragraph) is not None
        is_short = max(map(count_words, lines)) <= _MAX_LINE_WORDS
        if not has_rights and not (is_short and words <= _MAX_TITLE_PAGE_WORDS):
            break
        length += 1
        is_title = bool(title) and title.casefold() in (line.casefold() for line in lines)
        if has_rights or is_title or any(map(_BYLINE.fullmatch, lines)):
            signs = length
    if not signs or length == len(paragraphs):
        return length if signs else 0
    while signs < length and not _SENTENCE_END.search(paragraphs[signs]):
        signs += 1
    return signs


def title_on_page(paragraphs: Sequence[str]) -> str:
    """The title of the book on its title page: the lines before the author; "" if that is unclear.

    Of several lines it is the first in capitals, or the last that does not say "a novel".
    """
    lines = [line.strip() for paragraph in paragraphs for line in paragraph.split("\n")]
    for index, line in enumerate(lines):
        if _AUTHOR.match(line) and _BYLINE.fullmatch(line):
            before = [text for text in lines[:index] if not _BYLINE.fullmatch(text) and len(text) <= 100]
            return next(filter(str.isupper, before), before[-1] if before else "")
    return ""
