"""Read a table that people or spreadsheets wrote as records, so that a damaged line spoils none but itself."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from medfuse.errors import CohortError

MOST_BYTES = 2**28
"""A manifest of a hundred thousand fusions, each with its files listed, is smaller."""

FORMULA = ("=", "+", "-", "@", "\t", "\r", "'")
"""What text must not begin with in a cell: spreadsheets take it for a formula, or for the mark that it is none."""

NUMBERS = re.compile(r"[-+]?[0-9][0-9.,]*")

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


def read_table(path: Path, what: str) -> str:
    """Read a table's text; bytes that are no UTF-8 stay as lone surrogates, so that they spoil no more than their cell.

    Parameters
    ----------
    path
        UTF-8, or UTF-16 with its mark, as spreadsheets save it.
    what
        What the file is, for a message.

    Raises
    ------
    CohortError
        If it cannot be read, or is too large.
    """
    try:
        with path.open("rb") as stream:
            content = stream.read(MOST_BYTES + 1)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "its path holds a NUL character"
        raise CohortError(f"the {what} {path} cannot be read: {reason}; give a CSV or TSV file.") from None
    if len(content) > MOST_BYTES:
        raise CohortError(
            f"expected a {what} of at most {MOST_BYTES // 2**20} MiB, found a larger file, {path.name}; divide it."
        )
    if content[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return content.decode("utf-16", "replace")
    return content.removeprefix(b"\xef\xbb\xbf").decode("utf-8", "surrogateescape")


def without_mark(text: str) -> str:
    """A cell's text without the apostrophe by which `harmless` marked it."""
    return text[1:] if text[:1] == "'" and text[1:].startswith(FORMULA) else text


def harmless(text: str) -> str:
    """A text that no spreadsheet computes.

    >>> harmless("=1+1"), harmless("-2.5"), without_mark(harmless("=1+1"))
    ("'=1+1", '-2.5', '=1+1')
    """
    return f"'{text}" if text.startswith(FORMULA) and not NUMBERS.fullmatch(text) else text


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
