"""A translator that shouts, and archives made by hand."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping
from pathlib import Path

from templora_cli.documents.document import Document, Paragraph
from templora_cli.documents.inline import TAG
from templora_cli.documents.registry import parse_document

FIXTURES = Path(__file__).parent / "readers" / "fixtures"


def shouted(text: str) -> str:
    """`text` in capitals, with its tags."""
    at = 0
    pieces = []
    for match in TAG.finditer(text):
        pieces += [text[at : match.start()].upper(), match[0]]
        at = match.end()
    return "".join([*pieces, text[at:].upper()])


def shouting(document: Document) -> dict[int, str]:
    """A translation of every paragraph."""
    return {index: shouted(p.text) for index, p in enumerate(document.paragraphs)}


def parsed(content: bytes | str, suffix: str) -> Document:
    return parse_document(
        content.encode() if isinstance(content, str) else content, suffix, f"a book{suffix}"
    )


def texts(paragraphs: Document | list[Paragraph]) -> list[str]:
    return [p.text for p in (paragraphs if isinstance(paragraphs, list) else paragraphs.paragraphs)]


def zipped(entries: Mapping[str, str | bytes]) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in entries.items():
            stored = zipfile.ZIP_STORED if name == "mimetype" else zipfile.ZIP_DEFLATED
            archive.writestr(zipfile.ZipInfo(name), content, stored)
    return out.getvalue()


def unzipped(content: bytes) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


CONTAINER = (
    '<?xml version="1.0"?><container xmlns="urn:oasis:names:tc:opendocument:xmlns:container" version="1.0">'
    '<rootfiles><rootfile full-path="OEBPS/content.opf" media-type="application/oebps-package+xml"/>'
    "</rootfiles></container>"
)


def page(body: str, *, head: str = "<title>x</title>", lang: str = ' lang="en" xml:lang="en"') -> str:
    return (
        '<?xml version="1.0" encoding="utf-8"?>\n<!DOCTYPE html>\n'
        f'<html xmlns="http://www.w3.org/1999/xhtml" xmlns:epub="http://www.idpf.org/2007/ops"{lang}>'
        f"<head>{head}</head><body>{body}</body></html>\n"
    )


def opf(pages: list[str], *, metadata: str = "<dc:title>A Book</dc:title>", extra: str = "") -> str:
    items = "".join(
        f'<item id="p{i}" href="{path}" media-type="application/xhtml+xml"/>' for i, path in enumerate(pages)
    )
    spine = "".join(f'<itemref idref="p{i}"/>' for i in range(len(pages)))
    return (
        '<?xml version="1.0" encoding="utf-8"?>\n<package xmlns="http://www.idpf.org/2007/opf" version="3.0" '
        'unique-identifier="id"><metadata xmlns:dc="http://purl.org/dc/elements/1.1/">'
        f'<dc:identifier id="id">urn:x</dc:identifier><dc:language>en</dc:language>{metadata}'
        '<meta property="dcterms:modified">2024-01-01T00:00:00Z</meta></metadata>'
        f"<manifest>{items}{extra}</manifest><spine>{spine}</spine></package>"
    )


def epub(*bodies: str, entries: Mapping[str, str | bytes] | None = None, **of_opf: str) -> bytes:
    """An EPUB with a page of each body; `entries` are added or put in the place of others."""
    paths = [f"p{i}.xhtml" for i in range(len(bodies))]
    pages = {f"OEBPS/{path}": page(body) for path, body in zip(paths, bodies, strict=True)}
    made: dict[str, str | bytes] = {
        "mimetype": "application/epub+zip",
        "META-INF/container.xml": CONTAINER,
        "OEBPS/content.opf": opf(paths, **of_opf),
        **pages,
        **(entries or {}),
    }
    return zipped(made)


_W = 'xmlns:w="http://schemas.openxmlformats.org/wordprocessingml/2006/main"'
_R = 'xmlns:r="http://schemas.openxmlformats.org/officeDocument/2006/relationships"'
_WML = "application/vnd.openxmlformats-officedocument.wordprocessingml"
STYLES = (
    f'<w:styles {_W}><w:docDefaults><w:rPrDefault><w:rPr><w:lang w:val="en-US" w:eastAsia="ja-JP"/></w:rPr>'
    '</w:rPrDefault></w:docDefaults><w:style w:styleId="berschrift1"><w:name w:val="heading 1"/></w:style>'
    '<w:style w:styleId="Own"><w:name w:val="Chapter"/><w:basedOn w:val="berschrift1"/></w:style>'
    '<w:style w:styleId="V1"><w:name w:val="toc 1"/></w:style></w:styles>'
)


def docx(body: str, entries: Mapping[str, str | bytes] | None = None) -> bytes:
    """A Word document with `body`, and parts beside it: "word/footnotes.xml" and the like."""
    entries = {"word/styles.xml": STYLES, **(entries or {})}
    overrides = "".join(
        f'<Override PartName="/{part}" ContentType="{_WML}.{part[5:-4].rstrip("0123456789")}+xml"/>'
        for part in entries
        if part.startswith("word/") and part.endswith(".xml")
    )
    return zipped(
        {
            "[Content_Types].xml": '<Types xmlns="http://schemas.openxmlformats.org/package/2006/content-types">'
            f'<Override PartName="/word/document.xml" ContentType="{_WML}.document.main+xml"/>'
            f"{overrides}</Types>",
            "word/document.xml": f"<w:document {_W} {_R}><w:body>{body}</w:body></w:document>",
            **entries,
        }
    )


def part(root: str, content: str) -> str:
    return f"<w:{root} {_W}>{content}</w:{root}>"


def run(text: str, looks: str = "") -> str:
    rpr = f"<w:rPr>{looks}</w:rPr>" if looks else ""
    return f'<w:r>{rpr}<w:t xml:space="preserve">{text}</w:t></w:r>'


def p(*content: str, style: str = "") -> str:
    ppr = f'<w:pPr><w:pStyle w:val="{style}"/></w:pPr>' if style else ""
    return f"<w:p>{ppr}{''.join(content)}</w:p>"
