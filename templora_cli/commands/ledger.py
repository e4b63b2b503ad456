"""`templora ledger`: the people, places, things and terms of a book."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Callable, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Optional

import typer

from templora_cli.commands.arguments import check_no_folder, check_writable
from templora_cli.commands.editor import find_editor, run_editor
from templora_cli.commands.help import HelpGroup
from templora_cli.commands.ledger_target import LedgerTarget, is_file_name, target_of
from templora_cli.commands.paths import expand_home
from templora_cli.commands.terminal import print_json, print_table, say
from templora_cli.errors import TemploraError
from templora_cli.files import expanded, write_atomically
from templora_cli.render.figures import count_of

if TYPE_CHECKING:
    from templora_cli.memory.ledger import Entry, Ledger

ACTIONS = ("show", "edit", "add", "check", "propose")


class SessionFirst(HelpGroup):
    """Commands that may come after their session: `ledger SESSION show` means `ledger show SESSION`."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """The command and its arguments; `show` for a session alone."""
        first, *rest = args
        if first not in self.commands:
            if not rest or rest[0].startswith("-"):
                args = ["show", *args]
            elif rest[0] in self.commands:
                args = [rest[0], first, *rest[1:]]
            else:
                near = get_close_matches(rest[0], ACTIONS, 1) or ["show"]
                raise TemploraError(
                    f"there is no command ledger {rest[0]}; possible are {', '.join(ACTIONS)}",
                    shlex.join(["templora", "ledger", first, *near]),
                )
        return super().resolve_command(ctx, args)


app = typer.Typer(
    cls=SessionFirst,
    help="The ledger of a book: its people, places, things and terms.\n\nThe session may come first, as in "
    "templora ledger SESSION edit. A .toml file can stand for it, such as one for a book that is not begun.",
    no_args_is_help=True,
)
Reference = Annotated[
    Optional[str],
    typer.Argument(help="Id of a session, or its first letters (default: the last one); or a .toml file."),
]


@app.command()
def show(
    session: Reference = None, json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False
) -> None:
    """Show the entries."""
    from dataclasses import asdict

    target = target_of(session)
    ledger = target.read()
    if json:
        print_json({"avoid": ledger.avoid, "entries": [asdict(entry) for entry in ledger.entries]})
        return
    if not ledger.entries and not ledger.avoid:
        say(f"the {target.label} is empty" if target.session else f"{target.label} is empty", err=True)
        say(f"to write it: {target.command('edit')}", err=True)
        return
    if ledger.entries:
        print_table(["name", "entry"], list(map(_row, ledger.entries)), texts=("name", "entry"))
    if ledger.avoid:
        say(f"words to avoid: {', '.join(ledger.avoid)}")


def _row(entry: Entry) -> list[str]:
    """The name, and the facts of the entry as one text."""
    facts = {
        "also": ", ".join(entry.aliases),
        "speech": entry.speech,
        "avoid": ", ".join(entry.avoid),
        "notes": entry.notes,
    }
    named = [f"{name}: {fact}" for name, fact in facts.items() if fact]
    always = ["in every prompt"] if entry.always else []
    return [entry.name, "; ".join([*filter(None, (entry.kind, entry.gender)), *always, *named])]


@app.command()
def check(session: Reference = None) -> None:
    """Say how many entries there are, or which line is wrong."""
    target = target_of(session)
    say(f"{target.label}: {_counts(target.read())}")


def _counts(ledger: Ledger) -> str:
    """The entries by kind: "3 entries: 2 people, 1 term"."""
    plurals = {"person": "people", "place": "places", "thing": "things", "term": "terms"}
    kinds = Counter(entry.kind for entry in ledger.entries)
    parts = [f"{count:,} {kind if count == 1 else plurals[kind]}" for kind, count in kinds.items()]
    number = len(ledger.entries)
    counted = f"{number:,} {'entry' if number == 1 else 'entries'}"
    words = f"; {count_of(len(ledger.avoid), 'word')} to avoid" if ledger.avoid else ""
    return f"{counted}{': ' if parts else ''}{', '.join(parts)}{words}"


@app.command()
def edit(session: Reference = None) -> None:
    """Open the ledger in your editor. A text with an error does not replace it.

    The text with the error is saved beside the ledger, and opened the next time.
    """
    from templora_cli.memory.ledger import ledger_text
    from templora_cli.memory.ledger_text import TEMPLATE

    target = target_of(session, must_exist=False)
    editor = find_editor()
    before = ledger_text(target.path)
    draft = _draft_path(target.path, before)
    if draft.exists():
        say(f"note: this is your last edit, which was not applied; to begin again, delete {draft}", err=True)
    else:
        write_atomically(draft, before or TEMPLATE)
    run_editor(editor, draft, remark=f"; your text is in {draft}", hint=target.command("edit"))
    text = ledger_text(draft)
    if text == (before or TEMPLATE):
        draft.unlink()
        target.parse(before)
        say("nothing was changed", err=True)
        return
    ledger = target.parse(text, remark=f"; the ledger has not changed, your text is in {draft}")
    if ledger_text(target.path) != before:
        raise TemploraError(
            f"the {target.label} was changed while you edited it; your text is in {draft}",
            f"to open the new one: {target.command('edit')}",
        )
    write_atomically(target.path, text)
    draft.unlink()
    say(f"{target.label}: {_counts(ledger)}")


def _draft_path(path: Path, text: str) -> Path:
    """The file for the editor. Its name depends on the edited text, so that no draft of another is opened."""
    from templora_cli.sessions.store import sha256_of

    return path.with_name(f"{path.stem}.draft-{sha256_of(text)[:8]}.toml")


@app.command()
def add(
    words: Annotated[
        list[str],
        typer.Argument(
            metavar="ENTRY",
            help="person, place, thing or term, and the name; or a .toml file with entries. A session may "
            "come before it.",
            show_default=False,
        ),
    ],
    alias: Annotated[
        Optional[list[str]], typer.Option(help="Another name in the text; can be used several times.")
    ] = None,
    gender: Annotated[str, typer.Option(help="Such as she, he, they or it.")] = "",
    speech: Annotated[str, typer.Option(help="How the person speaks.")] = "",
    notes: Annotated[str, typer.Option(help="Facts that the book must keep to.")] = "",
    always: Annotated[bool, typer.Option("--always", help="Put the entry into every prompt.")] = False,
    avoid: Annotated[
        Optional[list[str]],
        typer.Option(help="A word that the book must not use; can be used several times."),
    ] = None,
) -> None:
    """Add an entry below what is there; comments and layout stay as they are.

    Example: templora ledger add person "Mira Voss" --alias "the Captain" --gender she
    """
    from templora_cli.memory.ledger import Entry, ledger_text, single_line
    from templora_cli.memory.ledger_text import entry_text, with_added

    reference, kind, name = _add_arguments(words)
    target = target_of(reference, must_exist=False)
    before = ledger_text(target.path)
    ledger = target.parse(before)
    if kind is None:
        addition = _entries_of(Path(name), ledger)
    else:
        name, gender, speech, notes = map(single_line, (name, gender, speech, notes))
        aliases, avoided = (tuple(map(single_line, texts or ())) for texts in (alias, avoid))
        entry = Entry(name, kind, aliases, gender, speech, notes, always, avoided)
        _check_entry(entry, ledger, target)
        addition = entry_text(entry)
    text = with_added(before, addition)
    after = target.parse(text, remark="; nothing was added")
    write_atomically(target.path, text)
    for added in after.entries:
        if ledger.owner_of(added.name) is None:
            say(f"added: {added.line()}")


def _add_arguments(words: Sequence[str]) -> tuple[str | None, str | None, str]:
    """Session, kind and name; without a kind the name is that of a file."""
    from templora_cli.memory.ledger import KINDS

    if len(words) <= 2 and is_file_name(words[-1]):
        return (words[0] if len(words) == 2 else None), None, str(expanded(words[-1]))
    if len(words) in (2, 3) and words[-2] in KINDS:
        return (words[0] if len(words) == 3 else None), words[-2], words[-1]
    example = 'templora ledger add person "Mira Voss" --alias "the Captain"'
    positions = [index for index, word in enumerate(words[:2]) if word in KINDS]
    if positions and words[positions[0] + 1 :]:
        start = positions[0] + 1
        quoted = [*map(shlex.quote, words[:start]), shlex.quote(" ".join(words[start:]))]
        raise TemploraError("a name of several words needs quotes", f"templora ledger add {' '.join(quoted)}")
    if positions:
        raise TemploraError(f"the name of the {words[positions[0]]} is missing", example)
    kind = words[-2] if len(words) > 1 else words[0]
    raise TemploraError(f"{kind} is not a kind of entry: {', '.join(KINDS)}", example)


def _entries_of(file: Path, ledger: Ledger) -> str:
    """The text of a file of entries. Raises TemploraError if they cannot be added to `ledger`."""
    from templora_cli.memory.ledger import ledger_text, read_ledger

    if not file.exists():
        raise TemploraError(f"there is no file {file}", "check the path")
    text = ledger_text(file)
    added = read_ledger(text, str(file))
    if added.avoid:  # below other entries they would belong to the last one
        raise TemploraError(f"{file} has words to avoid, which cannot be added", "copy them with ledger edit")
    if not added.entries:
        raise TemploraError(f"{file} has no entries", 'write [[person]], and below it: name = "..."')
    for entry in added.entries:
        _check_names(entry, ledger, f"change it in {file}")
    return text


def _check_entry(entry: Entry, ledger: Ledger, target: LedgerTarget) -> None:
    """Raise TemploraError for an entry that the ledger cannot have: there are no lines yet to be named."""
    from templora_cli.memory.name_matcher import name_key

    texts = (*entry.names, *entry.avoid, entry.gender, entry.speech, entry.notes)
    for text in texts:
        if any("\ud800" <= char <= "\udfff" for char in text):  # bytes of an argument that are not UTF-8
            raise TemploraError(f"{text} is not UTF-8", "type it again")
    for name in entry.names:
        if not name_key(name):
            raise TemploraError(f"“{name}” is not a name", "use letters or digits")
    if not all(entry.avoid):
        raise TemploraError("--avoid is empty", "leave it out")
    _check_names(entry, ledger, f"to change it: {target.command('edit')}")


def _check_names(entry: Entry, ledger: Ledger, hint: str) -> None:
    """Raise TemploraError with `hint` if the ledger has a name of the entry already."""
    for name in entry.names:
        if (owner := ledger.owner_of(name)) is not None:
            raise TemploraError(f"“{name}” is already a name of the {owner.kind} {owner.name}", hint)


@app.command()
def propose(
    session: Reference = None,
    source: Annotated[
        Optional[Path],
        typer.Option(
            "--from",
            help="A text to search in place of the book: .txt, .md, .docx, .epub or .html.",
            callback=expand_home,
        ),
    ] = None,
    out: Annotated[
        Optional[Path],
        typer.Option(help="A .toml file to write, with an entry for each name.", callback=expand_home),
    ] = None,
    limit: Annotated[int, typer.Option(help="Maximum number of names.")] = 50,
) -> None:
    """List frequent names of the book that the ledger lacks, each with a sentence."""
    from templora_cli.memory.ledger_text import stubs
    from templora_cli.memory.name_proposals import propose_names

    if limit < 1:
        raise TemploraError(f"--limit {limit}: must be at least 1", "--limit 50")
    target = target_of(session)
    path = None if out is None else _stub_path(out)
    proposals = propose_names(_text_of(target, source), target.read(), limit=limit)
    if not proposals:
        say("no frequent names that the ledger lacks", err=True)
        return
    if path is not None:
        write_atomically(path, stubs(proposals, target.command(f"add {shlex.quote(str(out))}")))
        say(str(path))
        return
    rows = [[proposal.source, f"{proposal.count}", proposal.example] for proposal in proposals]
    print_table(["name", "times", "sentence"], rows, texts=("name", "sentence"))
    say(f"to add one: {target.command('add person NAME')}", err=True)


def _stub_path(out: Path) -> Path:
    check_no_folder(out, "names.toml")
    if not is_file_name(out.name):
        raise TemploraError(f"{out.name}: names are written as .toml", f"--out {shlex.quote(out.stem)}.toml")
    return check_writable(out)


def _text_of(target: LedgerTarget, source: Path | None) -> str:
    """The text in which names are searched. Raises TemploraError if there is none."""
    from templora_cli.documents.prose import read_prose
    from templora_cli.sessions.steps import readable_text

    note: Callable[[str], None] = lambda notice: say(f"note: {notice}", err=True)  # noqa: E731
    if source is not None:
        return read_prose(source, notify=note)
    if target.session is None:
        raise TemploraError(
            f"{target.label} has no book to search", f"{target.command('propose')} --from FILE"
        )
    text, problems = readable_text(target.session / "steps")
    for problem in problems:
        say(f"warning: {problem}", err=True)
    if not text.strip():
        name = target.session.name
        raise TemploraError(f"session {name} has no text yet", f"templora resume {name}")
    return text
