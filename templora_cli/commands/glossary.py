"""`templora glossary`: the terms that should be translated the same way throughout a book."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Optional

import typer

from templora_cli.commands.paths import expand_home
from templora_cli.commands.terminal import say
from templora_cli.errors import TemploraError

app = typer.Typer(help="Terms and names of a book, for translate --glossary.", no_args_is_help=True)


@app.callback()
def _group() -> None:
    """Keep `glossary` a group although it has one command."""


@app.command()
def extract(
    file: Annotated[
        Path, typer.Argument(help="The book: .txt, .md, .html, .epub or .docx.", callback=expand_home)
    ],
    source: Annotated[
        str, typer.Option("--from", help="Language of the file, as code or name; auto detects it.")
    ] = "auto",
    out: Annotated[
        Optional[Path],
        typer.Option(help="The .csv file to write (default: FILE.terms.csv).", callback=expand_home),
    ] = None,
    known: Annotated[
        Optional[Path],
        typer.Option(help="A glossary whose terms are not proposed again.", callback=expand_home),
    ] = None,
    limit: Annotated[int, typer.Option(help="Maximum number of terms.")] = 100,
    encoding: Annotated[
        Optional[str],
        typer.Option(help="Encoding of a text file if detection is wrong: gb18030, big5, ..."),
    ] = None,
) -> None:
    """Propose frequent names and terms of a book. You fill in their translations."""
    from templora_cli.commands.arguments import check_no_folder, check_writable
    from templora_cli.commands.translate import source_language
    from templora_cli.documents.registry import read_document
    from templora_cli.term_proposals import propose_terms
    from templora_cli.translation.glossary_file import read_glossary, write_glossary
    from templora_cli.translation.terminology import Glossary

    if limit < 1:
        raise TemploraError(f"--limit {limit}: must be at least 1", "--limit 100")
    document = read_document(file, encoding=encoding, notify=lambda notice: say(f"note: {notice}", err=True))
    language = source_language(document, source)
    terms = () if known is None else read_glossary(known, [language.code]).terms
    existing = {term.source for term in terms}
    texts = [paragraph.text for paragraph in document.paragraphs]
    proposals = propose_terms(texts, language, existing=existing, limit=limit)
    if not proposals:
        raise TemploraError(
            f"{file} has no frequent names or terms to propose",
            "write a .csv with the header source,target by hand",
        )
    target = out or file.with_name(f"{file.stem}.terms.csv")
    check_no_folder(target, f"{file.stem}.terms.csv")
    if target.suffix.lower() != ".csv":
        raise TemploraError(f"{target.name}: proposals are written as .csv", f"--out {target.stem}.csv")
    path = check_writable(target)
    write_glossary(path, Glossary(()), proposals)
    say(str(path))
