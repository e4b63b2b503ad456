"""Where the streams of a command go: one place or two."""

from __future__ import annotations

import io
import os
from pathlib import Path

from templora_cli.render.streams import have_same_destination, is_terminal, replacing_errors


def test_one_file_under_two_numbers_is_one_place(tmp_path: Path) -> None:
    with (tmp_path / "log").open("w") as one, os.fdopen(os.dup(one.fileno()), "w") as same:
        assert have_same_destination(one, same)
        with (tmp_path / "other").open("w") as other:
            assert not have_same_destination(one, other)
    assert not have_same_destination(one, same), "closed"


def test_one_pipe_is_one_place() -> None:
    reads, writes = os.pipe()
    with os.fdopen(reads), os.fdopen(writes, "w") as one, os.fdopen(os.dup(writes), "w") as same:
        assert have_same_destination(one, same)


def test_streams_without_a_file() -> None:
    stream = io.StringIO()
    assert have_same_destination(stream, stream) and not have_same_destination(stream, io.StringIO())
    stream.close()
    assert not is_terminal(stream)


def test_what_an_encoding_lacks_is_a_question_mark() -> None:
    content = io.BytesIO()
    stream = replacing_errors(io.TextIOWrapper(content, "ascii"))
    stream.write("a灯")
    stream.flush()
    assert content.getvalue() == b"a?"
