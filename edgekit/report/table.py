"""What a table of a report is: columns, cells as they are printed, and how its numbers are known."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from edgekit.report.numbers import NONE

Kind = Literal["counted", "compared", "measured", "imported", "estimate", "mixed"]  # mixed: each number says its own
Tone = Literal["", "good", "bad", "dim", "estimate"]


@dataclass(frozen=True)
class Column:
    """A column's head. wide: left out where there is little room."""

    head: str
    is_text: bool = False  # text is set left, numbers right
    wide: bool = False
    only: Literal["", "page", "terminal"] = ""  # where it is shown, when not everywhere


@dataclass(frozen=True)
class Cell:
    """One cell as it is printed; `-` is a missing number. value: what it is sorted by, where the text does not say it."""

    text: str
    tone: Tone = ""
    value: float | None = None


@dataclass(frozen=True)
class Table:
    """One table: how its numbers are known, and what a reader must know to read it."""

    title: str
    kind: Kind
    columns: tuple[Column, ...]
    rows: tuple[tuple[Cell, ...], ...]
    caption: str
    details: str = ""  # sources and limits; the page alone has room for them
    page_only: bool = False  # too much for a terminal


def cells(*values: str | Cell) -> tuple[Cell, ...]:
    """A row; a missing number is dim."""
    return tuple(v if isinstance(v, Cell) else Cell(v, "dim" if v == NONE else "") for v in values)


def without_empty(table: Table, heads: tuple[str, ...]) -> Table:
    """The table without those of the named columns that no row has anything in."""
    return _kept(table, [c.head not in heads or any(r[i].text not in (NONE, "") for r in table.rows) for i, c in enumerate(table.columns)])


def for_page(table: Table) -> Table:
    """The table without the columns that only a terminal shows."""
    return _kept(table, [c.only != "terminal" for c in table.columns])


def _kept(table: Table, which: Sequence[bool]) -> Table:
    columns = tuple(c for c, keep in zip(table.columns, which, strict=True) if keep)
    rows = tuple(tuple(c for c, keep in zip(row, which, strict=True) if keep) for row in table.rows)
    return dataclasses.replace(table, columns=columns, rows=rows)
