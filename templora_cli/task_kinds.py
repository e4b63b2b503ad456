"""The table of the kinds of task. A new kind is a package of its own and a row here.

The package of a kind is imported when the kind is looked up, so that commands that list sessions stay fast.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from templora_cli.sessions.kind import TaskKind


def _novel(name: str) -> TaskKind:
    from templora_cli.novel.kind import Novel

    return Novel(name)


def _planned(name: str) -> TaskKind:
    from templora_cli.novel.kind import PlannedNovel

    return PlannedNovel(name)


def _drift(name: str) -> TaskKind:
    from templora_cli.novel.kind import Novel

    return Novel(name, whole_sentences=False)  # the compared books must have the same length


def _reading(name: str) -> TaskKind:
    from templora_cli.reading import Reading

    return Reading(name)


def _priming(name: str) -> TaskKind:
    from templora_cli.priming import Priming

    return Priming()


def _editing(name: str) -> TaskKind:
    from templora_cli.editing import Editing

    return Editing()


def _translation(name: str) -> TaskKind:
    from templora_cli.translation.kind import Translation

    return Translation(name)


def _pairs(name: str) -> TaskKind:
    from templora_cli.translation.aligned import Pairs

    return Pairs(name)


ROWS: dict[str, Callable[[str], TaskKind]] = {
    "novel": _novel,
    "planned novel": _planned,
    "translation": _translation,
    "prime": _priming,
    "ppl": _reading,
    # The kinds of evaluations: a command measures between the chunks.
    "costs": _reading,
    "drift": _drift,
    "consistency": _reading,
    "author": _reading,
    "editing": _editing,
    "pairs": _pairs,
}
"""Functions that create each kind, by its name in manifests."""


class Kinds(Mapping[str, TaskKind]):
    """The kinds of task by name, each created when it is looked up."""

    def __init__(self, rows: Mapping[str, Callable[[str], TaskKind]]) -> None:
        self._rows = rows

    def __getitem__(self, name: str) -> TaskKind:
        return self._rows[name](name)

    def __contains__(self, name: object) -> bool:
        return name in self._rows  # without creating it

    def __iter__(self) -> Iterator[str]:
        return iter(self._rows)

    def __len__(self) -> int:
        return len(self._rows)


KINDS = Kinds(ROWS)
