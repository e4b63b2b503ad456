"""The text of a ledger as people edit it: new entries are added below what is there."""

from __future__ import annotations

from collections.abc import Iterable

import tomlkit

from templora_cli.memory.ledger import KEYS, Entry, single_line
from templora_cli.term_proposals import Proposal

TEMPLATE = """\
# The ledger: what is so in the book. Entries that the text or the plan names are put into the prompt.
# An example; remove the first # of a line to use it:
#
# avoid = ["suddenly"]                # words that the book must not use, above all entries
#
# [[person]]                          # or [[place]], [[thing]], [[term]]
# name = "Mira Voss"
# aliases = ["Mira", "the Captain"]   # other names in the text
# gender = "she"
# speech = "curt, never a question"
# notes = "Lost her left hand in the fire. Does not know that Tom is her brother."
# always = true                       # in every prompt, also where the text does not name her
# avoid = ["Captain Voss"]            # words that the book must not use for her
"""
"""What an editor shows of a ledger without entries."""

STUBS = """\
# Names that the ledger lacks. Delete those that you do not need, change [[person]] to [[place]], [[thing]] or
# [[term]] where it must be, and then: {command}
"""


def entry_text(entry: Entry) -> str:
    """An entry as a table of TOML; what it lacks is left out."""
    table = tomlkit.table()
    for key in KEYS:
        value = getattr(entry, key)
        if value:
            table.add(key, list(value) if isinstance(value, tuple) else value)
    tables = tomlkit.aot()
    tables.append(table)
    document = tomlkit.document()
    document.append(entry.kind, tables)
    return tomlkit.dumps(document)


def with_added(text: str, addition: str) -> str:
    """A ledger's text with an `addition` at its end, after an empty line. The rest stays as it is."""
    before = f"{text.rstrip()}\n\n" if text.strip() else ""
    return f"{before}{addition.strip()}\n"


def stubs(proposals: Iterable[Proposal], command: str) -> str:
    """A ledger with an entry for each proposal, below its sentence. `command` adds the file to a ledger."""
    text = STUBS.format(command=command)
    for proposal in proposals:
        sentence = tomlkit.comment(single_line(f"{proposal.count}: {proposal.example}")).as_string()
        text += f"\n{sentence}\n{entry_text(Entry(proposal.source, 'person'))}"
    return text
