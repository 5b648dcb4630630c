"""Text out of a file, made harmless to a terminal, a log or a page: one line, no control characters, not too long."""

from __future__ import annotations

import unicodedata
from typing import Any

from edgekit.limits import MOST_NAME_CHARS

# Control characters (NUL, the escape of ANSI sequences), formats (text that turns round, that is not seen), halves of a pair, line ends.
ODD = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})
MOST_SHOWN = 120


def is_odd(text: str, but: str = "") -> bool:
    """True where a character cannot be shown as it is; `but`: characters that are let go."""
    if text.isascii() and text.isprintable():
        return False
    return any(unicodedata.category(c) in ODD and c not in but for c in text)


def shown(text: object, most: int = MOST_SHOWN) -> str:
    """The text with odd characters written as escapes, and its middle left out where it is longer than `most`."""
    said = str(text)
    if len(said) > most:
        said = f"{said[: most * 2 // 3]}[...{len(said)} characters]{said[-most // 6 :]}"
    return "".join(_escaped(c) if unicodedata.category(c) in ODD else c for c in said)


def one_line(text: object, most: int = 2 * MOST_NAME_CHARS) -> str:
    """An error as one line: line ends and tabs are blanks, all else as in shown."""
    return shown(" ".join(str(text).replace("\t", " ").split("\n")), most)


def find_odd(data: Any, but: str = "\n\t") -> str | None:
    """The first text in plain data (keys and values of JSON or TOML) that is_odd; None where there is none."""
    pending = [data]
    while pending:
        value = pending.pop()
        if isinstance(value, str):
            if is_odd(value, but):
                return value
        elif isinstance(value, dict):
            pending.extend(value.keys())
            pending.extend(value.values())
        elif isinstance(value, (list, tuple)):
            pending.extend(value)
    return None


def _escaped(c: str) -> str:
    code = ord(c)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
