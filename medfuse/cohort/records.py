"""Split a table's text into records, so that a damaged line spoils none but itself."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

LINE_ENDS = re.compile(r"\r\n|\n|\r")

DELIMITERS = (",", "\t", ";")

MOST_JOINED = 20
"""Lines that a cell in quotes may run over; a quote that is open for longer was never closed."""


@dataclass(frozen=True)
class Record:
    """One record: the line where it begins, counted from 1, and its cells, or what is wrong with it."""

    line: int
    cells: tuple[str, ...] = ()
    problem: str = ""


def records_of(text: str) -> Iterator[Record]:
    """Split a text whose first line is a header; lines without any text are passed over.

    Cells are separated by what separates most cells of the header: a comma, a tab or a semicolon. A cell in quotes may
    run over several lines (RFC 4180), but a line that has as many cells as the header always begins a record: where
    somebody forgets to close a quote, the lines after it are read nevertheless.
    """
    lines = LINE_ENDS.split(text)
    start = next((number for number, line in enumerate(lines) if line.strip()), None)
    if start is None:
        return
    delimiter = max(DELIMITERS, key=lambda one: len(_cells([lines[start]], one) or ()))
    header = _cells([lines[start]], delimiter)
    if header is None:
        yield Record(start + 1, problem="a quote that is never closed")
        return
    yield Record(start + 1, header)
    number = start + 1
    while number < len(lines):
        taken, record = _record(lines, number, delimiter, len(header))
        number += taken
        if any(cell.strip() for cell in record.cells) or record.problem:
            yield record


def _record(lines: Sequence[str], start: int, delimiter: str, width: int) -> tuple[int, Record]:
    """The record that begins at a line, and over how many lines it runs."""
    line = start + 1
    alone = _cells([lines[start]], delimiter)
    if "\0" in lines[start]:
        return 1, Record(line, problem="a NUL character")
    if alone is not None:
        return 1, Record(line, alone)
    for stop in range(start + 2, min(start + MOST_JOINED, len(lines)) + 1):
        following = _cells([lines[stop - 1]], delimiter)
        if following is not None and len(following) == width:
            break
        joined = _cells(lines[start:stop], delimiter)
        if joined is not None and len(joined) == width:
            return stop - start, Record(line, joined)
    return 1, Record(line, problem="a quote that is never closed, or a cell longer than 128 KiB")


def _cells(lines: Sequence[str], delimiter: str) -> tuple[str, ...] | None:
    """The cells of one record, or None where its quotes do not close or a cell is too long."""
    try:
        found = list(csv.reader(["\n".join(lines)], delimiter=delimiter, strict=True))
    except csv.Error:
        return None
    return tuple(found[0]) if len(found) == 1 else ()
