"""Goes on with a translation in which every paragraph passes its checks.

    python -m benchmarks.unchecked SESSION

The tiny model says nothing that passes one, and what fails is not learnt.
"""

from __future__ import annotations

import sys

from templora_cli import runner
from templora_cli.prepare import Engine
from templora_cli.render.json_view import JsonView
from templora_cli.translation.kind import Translation


def main(session: str) -> None:
    engine = Engine(kinds={"translation": Translation(check=lambda *_: [])})
    view = JsonView(sys.stdout)
    with runner.resume(session, notify=view.show, engine=engine) as run:
        for event in run.events():
            view.show(event)


if __name__ == "__main__":
    main(sys.argv[1])
