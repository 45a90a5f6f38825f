"""Read and write a manifest: a table of one row a fusion, as CSV or TSV, which a plan is, too."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from pathlib import Path

from medfuse.cohort.cells import ALIASES, COLUMNS, IGNORED_PREFIX, REQUIRED, CellError, parse_row, row_cells
from medfuse.cohort.planned import LeftOut, Plan, PlannedFusion, RowFault, fusion_name
from medfuse.cohort.records import Record, read_table, records_of
from medfuse.errors import CohortError, counted, did_you_mean
from medfuse.runtime.output.atomic_output import atomic_file

__all__ = ["LeftOut", "Plan", "PlannedFusion", "RowFault", "fusion_name", "read_manifest", "write_manifest"]


def read_manifest(path: str | Path, *, require_inputs: bool = False) -> Plan:
    """Read a manifest; a row that cannot be read is one fault of the plan, and stops none of the others.

    Parameters
    ----------
    path
        UTF-8, or UTF-16 with its mark; cells are separated by commas, semicolons or tabs. Paths in it are relative to
        its folder.
    require_inputs
        Whether a row whose files are not there is a fault, too; else nothing is looked up but the manifest.

    Raises
    ------
    CohortError
        If the file cannot be read, is too large, or has no header.
    """
    path = Path(path)
    records = records_of(read_table(path, "manifest"))
    header = next(records, None)
    if header is None or header.problem:
        raise CohortError(
            f"expected a table with the columns {', '.join(COLUMNS)} in its first line in {path.name}, found "
            f"{'no line' if header is None else header.problem}; give a CSV or TSV file."
        )
    columns = _columns(header.cells)
    if columns.keys().isdisjoint(REQUIRED):
        raise CohortError(
            f"expected a first line with the columns {', '.join(REQUIRED)} and others in {path.name}, found none of "
            "these; give a CSV or TSV file with a header."
        )
    folder = Path(path.absolute()).parent
    rows: list[PlannedFusion] = []
    faults: list[RowFault] = []
    taken: set[str] = set()
    for record in records:
        try:
            row = _row(record, header.cells, columns, folder, taken)
            if require_inputs:
                _require_inputs(row)
        except CellError as error:
            faults.append(RowFault(record.line, "", f"line {record.line}: {error}"))
            continue
        taken.add(row.name.casefold())
        rows.append(row)
    return Plan(tuple(rows), (), tuple(_named(faults, taken)), path.absolute())


def write_manifest(plan: Plan, path: str | Path, overwrite: bool = False) -> None:
    """Write the fusions of a plan as CSV, or as TSV where the path ends in ``.tsv``; the file appears whole or not.

    `read_manifest` returns equal rows. Paths below the file's folder are written relative to it, others absolute.
    Text that a spreadsheet would take for a formula begins with an apostrophe, which reading removes.

    Raises
    ------
    ExportError
        If the file is there already and is not to be replaced, or cannot be written.
    """
    path = Path(path)
    stream = io.StringIO()
    writer = csv.writer(stream, delimiter="\t" if path.suffix.lower() == ".tsv" else ",", lineterminator="\n")
    writer.writerow(COLUMNS)
    folder = Path(path.absolute()).parent
    for row in plan.rows:
        writer.writerow(row_cells(row, folder))
    content = stream.getvalue().encode("utf-8", "surrogateescape")
    with atomic_file(path, overwrite) as temporary:
        temporary.write_bytes(content)


def _columns(header: Sequence[str]) -> dict[str, list[int]]:
    """Where each column stands, by its name; one that is named twice stands at two places."""
    columns: dict[str, list[int]] = {}
    for place, cell in enumerate(header):
        name = cell.strip().lower()
        columns.setdefault(ALIASES.get(name, name), []).append(place)
    return columns


def _row(
    record: Record, header: Sequence[str], columns: dict[str, list[int]], folder: Path, taken: set[str]
) -> PlannedFusion:
    """The fusion of a line; `CellError` where it is none."""
    if record.problem:
        raise CellError(f"expected a line of a table, found {record.problem}; correct it.")
    if len(record.cells) != len(header):
        raise CellError(
            f"expected {counted(len(header), 'cell')} as in the header, found {len(record.cells)}; put cells that hold "
            "the separator into quotes."
        )
    cells: dict[str, str] = {}
    for name, places in columns.items():
        found = {record.cells[place].strip() for place in places} - {""}
        if not found or name.startswith(IGNORED_PREFIX):
            continue
        if name not in COLUMNS:
            raise CellError(
                f"expected a column of {', '.join(COLUMNS)}, found a value in one that is none of these, the "
                f"{_ordinal(places[0])}.{did_you_mean(name, COLUMNS)} Rename it, or begin its name with "
                f"'{IGNORED_PREFIX}' to have it ignored."
            )
        if len(found) > 1:
            raise CellError(f"expected one column {name}, found {len(places)} of different values; keep one.")
        (cells[name],) = found
    missing = [name for name in REQUIRED if name not in cells]
    if missing:
        raise CellError(f"expected a value for {' and '.join(missing)}, found none; fill it in, or remove the line.")
    return parse_row(cells, folder, taken)


def _require_inputs(row: PlannedFusion) -> None:
    """Raise `CellError` where a path leads to nothing; no path is repeated, for it may hold a patient's name."""
    for column, paths in (("mri", row.mri), ("partner", row.partner)):
        absent = sum(not _is_there(path) for path in paths)
        if absent:
            bad = " or its bytes are no UTF-8" if any(not str(path).isprintable() for path in paths) else ""
            raise CellError(
                f"expected {column} to lead to files or folders, found {counted(absent, 'path')} of {len(paths)} that "
                f"{'leads' if absent == 1 else 'lead'} to nothing{bad}; correct it, relative to the manifest's folder."
            )


def _is_there(path: Path) -> bool:
    try:
        return path.exists()
    except (OSError, ValueError):  # too long a name, or one that the system has not got
        return False


def _ordinal(place: int) -> str:
    return f"{place + 1}th" if place > 2 else ("first", "second", "third")[place]


def _named(faults: Sequence[RowFault], taken: set[str]) -> Iterator[RowFault]:
    """The faults, each with a name that no fusion and no other fault has."""
    for fault in faults:
        name = f"line-{fault.row}"
        while name in taken:
            name += "-fault"
        taken.add(name)
        yield RowFault(fault.row, name, fault.message)
