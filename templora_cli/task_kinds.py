"""The kinds of tasks that a session can be: a row each. A new kind is a room of its own and a row here."""

from __future__ import annotations

from templora_cli.novel.kind import Novel
from templora_cli.reading import Reading
from templora_cli.sessions.kind import TaskKind
from templora_cli.translation.aligned import Pairs
from templora_cli.translation.kind import Translation

KINDS: dict[str, TaskKind] = {
    kind.name: kind
    for kind in (
        Novel("novel"),
        Translation("translation"),
        Reading("ppl"),
        # What evaluations read and write, each by a command that measures between the chunks.
        Reading("costs"),
        Novel("drift"),
        Pairs("pairs"),
    )
}
