"""Resume a translation without checks, so that every paragraph passes and is learnt.

    python -m benchmarks.unchecked SESSION

The output of the tiny model passes no check, and a paragraph that fails is not learnt.
"""

from __future__ import annotations

import sys

from templora_cli import runner
from templora_cli.prepare import Engine
from templora_cli.render.json_view import JsonView
from templora_cli.translation.kind import Translation


def main(session: str) -> None:
    """Resume the session, and print its events as JSON."""
    engine = Engine(kinds={"translation": Translation(check=lambda *_: [])})
    view = JsonView(sys.stdout)
    with runner.resume(session, notify=view.show, engine=engine) as run:
        for event in run.events():
            view.show(event)


if __name__ == "__main__":
    main(sys.argv[1])
