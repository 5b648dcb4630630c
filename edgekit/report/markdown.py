"""A run as Markdown: the verdict, the table of candidates and the notes, to paste into an issue or a README."""

from __future__ import annotations

import re

from edgekit.report import choice, numbers, tables, words
from edgekit.report.data import Run
from edgekit.report.table import Table, for_page

SPECIAL = re.compile(r"([\\`*_{}\[\]<>#|~!&$@])")  # a pipe ends a cell, the others are markup, links, mentions or HTML somewhere
MARKED = "**"  # around the name of a candidate on a front


def text(run: Run, pictures: bool = False) -> str:
    """The document, ending in a line break. Names are data: none of their characters is markup. pictures: link their files."""
    run = numbers.printable(run)
    told = [f"# {escaped(run.name)}", "", f"{_paragraph(run.family)}, {run.test_samples:,} test samples.", ""]
    told += [f"- {_paragraph(sentence)}" for sentence in words.verdict(run)]
    shown = [choice.table(run)] if run.candidates else list(tables.all_tables(run))
    for table in shown:
        told += ["", f"## {escaped(table.title)}", "", *_rows(for_page(table), bold=bool(run.candidates)), "", _paragraph(table.caption)]
    if run.candidates:
        told += ["", "Names in bold are on a front. A number without a word was measured here."]
    for picture in run.pictures if pictures else ():
        told += ["", f"## {escaped(picture.title)}", "", f"![{escaped(picture.title)}]({picture.file})", "", _paragraph(picture.caption)]
    remarks = words.notes(run)
    if remarks:
        told += ["", "## Notes", "", *(f"- {_paragraph(note)}" for note in remarks)]
    machine = ", ".join(f"{name} {value}" for name, value in (*run.machine.items(), *run.versions.items()))
    told += ["", f"Machine and versions: {escaped(machine)}."] if machine else []
    return "\n".join(told) + "\n"


def _rows(table: Table, bold: bool) -> list[str]:
    heads = [escaped(c.head) for c in table.columns]
    lines = [_line(heads), _line([":--" if c.is_text else "--:" for c in table.columns])]
    for row in table.rows:
        cells = [escaped(c.text) for c in row]
        if bold and row[1].text:
            cells[0] = f"{MARKED}{cells[0]}{MARKED}"
        lines.append(_line(cells))
    return lines


def _line(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


def escaped(value: str) -> str:
    """A text on one line with a backslash before every character that Markdown could take for its own."""
    line = re.sub(r"\s+", " ", value)
    return SPECIAL.sub(r"\\\1", line).replace("://", ":\\//").replace("www.", "www\\.")  # no address becomes a link


def _paragraph(value: str) -> str:
    """An escaped text whose beginning makes no list and no heading."""
    return re.sub(r"^(\d*)([-+.)=])", r"\1\\\2", escaped(value))
