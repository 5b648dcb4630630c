"""A run in the terminal: the verdict, the tables and the notes, from 80 columns on."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgekit.report import words
from edgekit.report.data import Run
from edgekit.report.numbers import printable
from edgekit.report.table import Table
from edgekit.report.tables import all_tables
from edgekit.report.time_tables import NOT_ESTIMABLE

if TYPE_CHECKING:
    import rich.table
    from rich.console import Console

ROOMY = 108  # columns from which on the wide columns are shown too
NAME_WIDTH = 34  # the first column is not made narrower than this while a name needs it, and the others leave the room
MOST_ROWS = 60  # of one table
STYLES = {"": "", "good": "green", "bad": "bold red", "dim": "dim", "estimate": "italic"}


def show(run: Run, console: Console | None = None) -> None:
    """Print a run. Names come from files: none of their characters is taken for markup or a terminal's command."""
    from rich.console import Console
    from rich.text import Text

    console = console or Console(highlight=False)
    run = printable(run)
    console.print(Text(f"\n{run.name}", "bold"), Text(f"({run.family})", "dim"))
    for sentence in words.verdict(run):
        console.print(Text(sentence))
    for table in (t for t in all_tables(run) if not t.page_only):
        console.print()
        title = Text(f"{table.title}  ", "bold")
        kind = {"estimate": "ESTIMATE", "mixed": "kind at each number"}.get(table.kind, table.kind)
        console.print(title.append(kind, "dim not bold"))
        console.print(_drawn(table, console.width))
        if len(table.rows) > MOST_ROWS:
            console.print(Text(f"and {len(table.rows) - MOST_ROWS} more rows: see the page, or --markdown", "dim"))
        console.print(Text(table.caption, "dim"))
    for picture in run.pictures:
        console.print()
        console.print(Text(f"{picture.title}  ", "bold").append("picture", "dim not bold"))
        console.print(Text(f"{picture.caption}; on the page, and in train/{picture.file}", "dim"))
    remarks = words.notes(run)
    if remarks:
        console.print(Text("\nNotes", "bold"))
    for note in remarks:
        console.print(_hanging(note))
    console.print()


def _drawn(table: Table, width: int) -> rich.table.Table:
    from rich import box
    from rich.table import Table as RichTable
    from rich.text import Text

    kept = [i for i, c in enumerate(table.columns) if (width >= ROOMY or not c.wide) and c.only != "page"]
    gap = 1 if width >= ROOMY else 0  # beside the space that the box draws
    drawn = RichTable(box=box.SIMPLE_HEAD, padding=(0, gap, 0, 0), pad_edge=False, show_edge=False, header_style="dim")
    for n, i in enumerate(kept):
        column = table.columns[i]
        # Long names wrap rather than be cut: two rows must not look the same. Numbers never wrap.
        drawn.add_column(
            Text(column.head if column.is_text else column.head.replace(" ", "\n")),
            justify="left" if column.is_text else "right",
            no_wrap=n > 0 and column.head != "runtime" and not any(r[i].text == NOT_ESTIMABLE for r in table.rows),
            min_width=_first_width(table, kept, width, gap) if n == 0 else None,
            overflow="fold",
            vertical="bottom",
        )
    for row in table.rows[:MOST_ROWS]:
        drawn.add_row(*(Text(row[i].text, STYLES[row[i].tone]) for i in kept))
    return drawn


def _first_width(table: Table, kept: list[int], width: int, gap: int) -> int:
    """As wide as its longest name, but not above NAME_WIDTH, nor so wide that a number of the other columns has no room."""
    others = 0
    for i in kept[1:]:
        texts = [w for r in table.rows for w in (r[i].text.split(" ") if r[i].text == NOT_ESTIMABLE else [r[i].text])]
        others += max(map(len, [*texts, *table.columns[i].head.split(" ")])) + 1 + gap
    longest = max(len(r[kept[0]].text) for r in table.rows)
    return max(8, min(NAME_WIDTH, longest, width - others - gap))


def _hanging(note: str) -> rich.table.Table:
    from rich.table import Table as RichTable
    from rich.text import Text

    grid = RichTable.grid(padding=(0, 1, 0, 0))
    grid.add_row(Text("·"), Text(note, overflow="fold"))
    return grid
