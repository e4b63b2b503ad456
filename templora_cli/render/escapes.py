"""Untrusted text on a terminal: control characters are made visible."""

from __future__ import annotations

import json
import math
from typing import Any

_BIDI = (*range(0x202A, 0x202F), *range(0x2066, 0x206A))
"""Characters that change the direction of text: with them a name can look like another one."""
_LINE_ENDS = (0x2028, 0x2029)
_HARMLESS: dict[int, int | str] = {
    **{code: 0x2400 + code for code in range(32) if code != 10},
    **dict.fromkeys((*range(128, 160), *range(0xD800, 0xE000), *_BIDI), 0xFFFD),
    **dict.fromkeys(_LINE_ENDS, 0x2424),
    9: "    ",
    127: 0x2421,
}
_ONE_LINE = _HARMLESS | {10: 0x2424}
_IN_JSON = {
    code: f"\\u{code:04x}" for code in (*range(127, 160), *range(0xD800, 0xE000), *_BIDI, *_LINE_ENDS)
}


def harmless(text: str) -> str:
    """`text` with visible symbols in place of control characters, and spaces in place of tabs."""
    return text.translate(_HARMLESS)


def one_line(text: str) -> str:
    """As `harmless`, for a name or a cell of a table: line ends are made visible too."""
    return text.translate(_ONE_LINE)


def as_json(value: Any, *, indent: int | None = None) -> str:
    """JSON with readable text and escaped control characters; null for NaN and infinity."""
    written = json.dumps(_finite(value), ensure_ascii=False, allow_nan=False, indent=indent)
    return written.translate(_IN_JSON)  # these characters occur only in strings


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
