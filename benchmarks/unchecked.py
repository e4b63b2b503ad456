"""Goes on with a translation in which every paragraph passes its checks.

    python -m benchmarks.unchecked SESSION

The tiny model says nothing that passes one, and what fails is not learnt.
"""

from __future__ import annotations

import sys
from dataclasses import replace

from templora_cli import runner
from templora_cli.commands.resume import load_as_begun
from templora_cli.commands.terminal import open_view
from templora_cli.config import from_dict
from templora_cli.sessions.store import Store


def main(session: str) -> None:
    with open_view(json=True, quiet=False, prose=False) as view, Store().open(session) as book:
        model = load_as_begun(book, view)
        config = from_dict(book.manifest.config, str(book.path / "session.json"))
        task = replace(runner.translation_task(book, model, config), check=lambda *_: [])
        runner.run_session(book, model, view, task=task)


if __name__ == "__main__":
    main(sys.argv[1])
