"""The table of bad input names a test for each of its 50 cases; each of them exists."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest

TESTS = Path(__file__).parent
TABLE = (TESTS.parent / "docs" / "hostile_cases.md").read_text(encoding="utf-8")
ROWS = {int(row[1]): row for line in TABLE.splitlines() if (row := line.split("|")) and len(row) == 6 and row[1].strip().isdigit()}


@cache
def functions(file: str) -> set[str]:
    """The tests of a file, by its text: importing it may need what is not here."""
    return {n.name for n in ast.walk(ast.parse((TESTS / file).read_text(encoding="utf-8"))) if isinstance(n, ast.FunctionDef)}


@cache
def cases(file: str) -> tuple[str, ...]:
    """The names of a table of cases: first arguments, as text, of what is called case, raw, proto or Case there."""
    calls = [n for n in ast.walk(ast.parse((TESTS / file).read_text(encoding="utf-8"))) if isinstance(n, ast.Call) and n.args]
    made = [n for n in calls if isinstance(n.func, ast.Name) and n.func.id.lstrip("_") in ("case", "raw", "proto", "Case", "bundle", "npz", "toml", "large")]
    entries = [n.slice for n in ast.walk(ast.parse((TESTS / file).read_text(encoding="utf-8"))) if isinstance(n, ast.Subscript)]  # CASES["35 ..."] = ...
    return (*(_begin(n.args[0]) for n in made), *map(_begin, entries))


def _begin(node: ast.expr) -> str:
    """A text, or how an f-string begins."""
    if isinstance(node, ast.JoinedStr):
        return _begin(node.values[0])
    return str(node.value) if isinstance(node, ast.Constant) else ""


@pytest.mark.parametrize("number", range(1, 51))
def test_each_case_is_held_by_a_test_that_is_there(number: int, capsys: pytest.CaptureFixture[str]) -> None:
    _, _, case, python, native, _ = (cell.strip() for cell in ROWS[number])
    found = 0
    for place in re.findall(r"`([^`]+)`", f"{python} {native}"):
        file, test, name = *place.partition("::")[:2], place.partition("::")[2]
        if test:
            assert name in functions(file), place
            found += 1
            continue
        file, _, name = place.partition(": ")
        fits = [c for c in cases(file) if (re.match(rf"{name}[a-z]? ", c) if name.isdigit() else c == name)]
        assert fits, f"{place}: there are {cases(file)[:9]}..."
        found += len(fits)
    assert "`" in python and native and found
    with capsys.disabled():
        print(f"\n{number:2} {case[:70]}: {found} tests; in C++: {native.replace('`', '')[:90]}", end="")


def test_no_case_is_listed_twice_and_none_is_left_out() -> None:
    assert sorted(ROWS) == list(range(1, 51)) and TABLE.count("\n| ") == 51
