"""List the series in a folder, with their geometry and problems: ``medfuse inspect``."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from medfuse.cli.console import EXIT_CODES, Json, app, describe, print_json, refusing, stdout
from medfuse.errors import MedfuseError, SeriesError
from medfuse.volume import MODALITIES

if TYPE_CHECKING:
    from medfuse import dicom

Row = dict[str, Any]


@app.command(epilog=EXIT_CODES)
def inspect(
    paths: Annotated[list[Path], typer.Argument(help="Folders, DICOMDIRs, zips or files.", show_default=False)],
    as_json: Json = False,
) -> None:
    """List the series under PATHS, their geometry, and what is wrong with them."""
    from medfuse import nifti

    with refusing(as_json):
        for path in paths:
            nifti.require_known_name(path)
        alone = len(paths) == 1 and nifti.is_nifti(paths[0])
        rows, ignored, damaged = _inspect_nifti(paths[0]) if alone else _inspect_dicom(paths)
    if as_json:
        found = {"path": [str(path) for path in paths] if len(paths) > 1 else str(paths[0]), "series": rows}
        print_json(found | {"ignored_files": ignored, "damaged_files": damaged})
        return
    _print_table(rows)
    if ignored:
        stdout.print(f"{_counted(ignored, 'other file')} ignored")
    if damaged:
        stdout.print(f"{_counted(damaged, 'DICOM file')} cannot be read: cut short, damaged or locked")


def _inspect_dicom(paths: list[Path]) -> tuple[list[Row], int, int]:
    from medfuse import dicom, nifti
    from medfuse.dicom.scan.find_files import places_named

    found = dicom.scan(paths)
    if not found.series:
        other = nifti.what_else(paths[0]) if len(paths) == 1 and not found.damaged else ""
        if other:
            raise SeriesError(other)
        files = _counted(found.ignored + found.damaged, "file")
        raise SeriesError(f"expected DICOM series in {places_named(paths)}, found none among {files}; check the path.")
    return [_row_of(series) for series in found.series], found.ignored, found.damaged


def _row_of(series: dicom.Series) -> Row:
    return {
        "number": series.number,
        "uid": series.uid,
        "modality": series.modality,
        "kind": series.kind,
        "files": len(series.instances),
        "copies": series.copies,
        "missing_slices": series.missing,
        "transfer_syntax": series.transfer_syntaxes,
        "traits": series.traits,
        "verdict": series.brief or "volume",
        "problem": series.problem,
    } | describe(series.grid)


def _inspect_nifti(path: Path) -> tuple[list[Row], int, int]:
    from medfuse import nifti

    row: Row = {"number": path.name, "uid": None, "modality": "not stated", "kind": "", "files": 1, "copies": 0}
    row |= {"missing_slices": 0, "transfer_syntax": ["NIfTI"], "traits": "", "verdict": "volume", "problem": None}
    grid = None
    try:
        grid = nifti.read_grid(path)
    except MedfuseError as error:
        row |= {"verdict": "see below", "problem": str(error)}
    return [row | describe(grid)], 0, 0


def _print_table(rows: Iterable[Row]) -> None:
    """Print what fits into 80 columns; the reason in full only of series that could be fused."""
    from rich.markup import escape
    from rich.table import Table

    table = Table("series", "what", "where", "stored as", "verdict", show_lines=True)
    reasons: list[str] = []
    for row in rows:
        what = f"{row['modality']} {row['kind']}".strip() + f"\n{_counted(row['files'], 'file')}"
        stored = "\n".join(map(_short, row["transfer_syntax"]))
        table.add_row(*map(escape, (str(row["number"]), what, _where(row), stored, _verdict(row, reasons))))
    stdout.print(table)
    for number, reason in enumerate(reasons, start=1):
        stdout.print(f"({number}) {reason}", highlight=False, markup=False, soft_wrap=True)


def _where(row: Row) -> str:
    """Voxels, spacing, the way the axes run, and the centre in RAS+ mm."""
    if row["shape"] is None:
        return ""
    spacing = " × ".join(f"{length:.3g}" for length in row["spacing_mm"])
    centre = ", ".join(f"{place:.0f}" for place in row["centre_mm"])
    return f"{' × '.join(map(str, row['shape']))}\n{spacing} mm\n{row['axes']} about ({centre})"


def _verdict(row: Row, reasons: list[str]) -> str:
    """A few words, with the number of the reason in full; adds that to ``reasons``."""
    more = [row["traits"]] if row["traits"] else []
    if row["copies"]:
        more.append(f"{_counted(row['copies'], 'copy', 'copies')} left out")
    said = "volume" if row["problem"] is None else f"no: {row['verdict']}"
    if row["problem"] is not None and row["modality"] in (*MODALITIES, "not stated"):
        reasons.append(row["problem"])
        said += f" ({len(reasons)})"
    return "; ".join((said, *more))


def _counted(number: int, one: str, several: str = "") -> str:
    return f"{number} {one if number == 1 else several or one + 's'}"


def _short(syntax: str) -> str:
    """The name of a transfer syntax without what every one of its kind says."""
    return re.split(r" Image Compression| VR Little Endian|,| \(", syntax)[0]
