"""JSON and TOML of strangers as plain data: nothing nested without end, said twice, out of the range of JSON, or with control characters."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path
from typing import Any

from edgekit import limits
from edgekit.errors import Broken, EdgekitError
from edgekit.plain_text import find_odd, shown
from edgekit.sniff import read_plain

_PART = r"""(?:[\w-]++|"[^"\n]*+"|'[^'\n]*+')[ \t]*+\.[ \t]*+"""
DEEP_KEY = re.compile(rf"""(?<![\w"'-])(?:{_PART}){{{limits.MOST_TEXT_DEPTH}}}""")
LET_GO = "\n\t\u200c\u200d\u00ad\ufeff"  # lines of people; joiners, of which emoji are made


def parse_json(raw: bytes | str, where: str, do: str = "get it again") -> Any:
    """The data in UTF-8 bytes (or text); Broken, beginning with `where` and ending with what to `do`, for anything that is not plain JSON."""
    try:
        text = raw if isinstance(raw, str) else raw.decode()
        data = json.loads(text, object_pairs_hook=_once, parse_constant=_no_number, parse_float=_float)
    except (ValueError, RecursionError) as error:
        said = shown(error, 200) if isinstance(error, ValueError) else "nested too deep"
        raise Broken(f"{where}: not JSON ({said}); {do}") from None
    # Without a backslash the texts stand there as they are, so that most files need no look at each one.
    return _plain(data, where, do, "\\" not in text and text.isascii() and "\x7f" not in text)


def parse_toml(text: str, where: str) -> Any:
    """The data of a TOML text; EdgekitError, beginning with `where`."""
    if len(text) > limits.MOST_TOML_BYTES:
        raise EdgekitError(f"{where}: {len(text):,} characters, {limits.MOST_TOML_BYTES:,} are taken")
    if DEEP_KEY.search(text):  # Python's reader takes minutes for a key of 100,000 parts
        raise EdgekitError(f"{where}: a key of more than {limits.MOST_TEXT_DEPTH} tables in one another")
    try:
        data = tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        said = shown(error, 200) if isinstance(error, ValueError) else "nested too deep"
        raise EdgekitError(f"{where}: {said}") from None
    return _plain(data, where, "write it anew")


def read_text(path: Path, what: str) -> str:
    """The text of a plain UTF-8 file; EdgekitError for anything else. what: as in 'a recipe'."""
    try:
        return read_plain(path, limits.MOST_TEXT_BYTES, what).decode()
    except UnicodeDecodeError as error:
        raise EdgekitError(f"{path} is not {what}: it is no UTF-8 text ({error.reason})") from None


def _plain(data: Any, where: str, do: str, clean: bool = False) -> Any:
    """The data, once it is not too deep; clean: it is known to hold no odd text."""
    level, depth = [data], 1
    while level:
        if depth > limits.MOST_TEXT_DEPTH:
            raise Broken(f"{where}: nested more than {limits.MOST_TEXT_DEPTH} deep; {do}")
        below: list[Any] = []
        for value in level:
            if isinstance(value, dict):
                below.extend(value.values())
            elif isinstance(value, list):
                below.extend(value)
        level, depth = below, depth + 1
    odd = None if clean else find_odd(data, LET_GO)
    if odd is not None:
        raise Broken(f"{where}: the text '{shown(odd)}' has control characters; {do}")
    return data


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) != len(pairs):
        seen = set[str]()
        twice = next(k for k, _ in pairs if k in seen or seen.add(k))  # type: ignore[func-returns-value]
        raise ValueError(f"the key '{shown(twice)}' twice in one object")
    return made


def _no_number(text: str) -> Any:
    raise ValueError(f"{text} is no number of JSON")


def _float(text: str) -> float:
    value = float(text)
    if value in (float("inf"), float("-inf")):
        raise ValueError(f"{text[:40]} is larger than a double holds")
    return value
