"""The program that `gguf.convert_in_subprocess` runs to convert a model."""

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
    """Run `convert_gguf`, and report to the parent process as JSON lines on standard output."""

    def send(**facts: Any) -> None:
        print(json.dumps(facts), flush=True)

    def exit_with_parent() -> None:
        sys.stdin.buffer.read()  # returns when the parent exits for whatever reason
        os._exit(1)

    threading.Thread(target=exit_with_parent, daemon=True).start()
    try:
        chat = kind == "chat"
        licence = convert_gguf(
            Path(gguf), Path(folder), chat_template=chat, report=lambda text: send(doing=text)
        )
        send(licence=licence)
    except TemploraError as error:
        send(error=[error.message, error.hint])
