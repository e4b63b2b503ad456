"""The program of the process in which `gguf.convert_apart` converts a model."""

from __future__ import annotations

import json
import os
import sys
import threading
from pathlib import Path
from typing import Any

from templora_cli.engine.models.gguf import convert_gguf
from templora_cli.errors import TemploraError


def convert_for_parent(gguf: str, folder: str, kind: str) -> None:
    """Run `convert_gguf` and report to the parent in lines of JSON on standard output."""

    def say(**facts: Any) -> None:
        print(json.dumps(facts), flush=True)

    def end_with_parent() -> None:
        sys.stdin.buffer.read()  # returns when the parent ends, however it ends
        os._exit(1)

    threading.Thread(target=end_with_parent, daemon=True).start()
    try:
        chat = kind == "chat"
        licence = convert_gguf(
            Path(gguf), Path(folder), chat_template=chat, report=lambda text: say(doing=text)
        )
        say(licence=licence)
    except TemploraError as error:
        say(error=[error.message, error.hint])
