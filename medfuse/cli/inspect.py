"""List the series in a folder, with their geometry and problems: ``medfuse inspect``."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from medfuse.cli.console import EXIT_CODES, Json, app, describe, print_json, refusing, stdout
from medfuse.cli.options.command import CheckedCommand
from medfuse.errors import MedfuseError, SeriesError, counted
from medfuse.volume import MODALITIES, MRI

if TYPE_CHECKING:
    from medfuse import dicom

Row = dict[str, Any]

SHOWN_ERROR_MM = 0.02
"""Positions that are less off, by the last of their decimals, need no word."""


@app.command(cls=CheckedCommand, epilog=EXIT_CODES)
def inspect(
    paths: Annotated[
        list[Path], typer.Argument(help="Folders, DICOMDIRs, zips or files.", metavar="PATHS", show_default=False)
    ],
    as_json: Json = False,
) -> None:
    """List the series under PATHS, their geometry, and what is wrong with them."""
    from medfuse import nifti

    with refusing(as_json):
        for path in paths:
            nifti.require_known_name(path)
        alone = len(paths) == 1 and nifti.is_nifti(paths[0])
        rows, found = _inspect_nifti(paths[0]) if alone else _inspect_dicom(paths)
    if as_json:
        shown: Row = {"path": [str(path) for path in paths] if len(paths) > 1 else str(paths[0]), "series": rows}
        shown |= {"ignored_files": found.ignored if found else 0, "damaged_files": found.damaged if found else 0}
        shown |= {"incomplete_files": dict(found.incomplete) if found else {}}
        shown |= {"misencoded_files": found.misencoded if found else 0}
        print_json(shown | {"broken_links": len(found.broken_links) if found else 0})
        return
    _print_table(rows)
    if found is None:
        return
    for uid, name in {row["uid"]: _name_of(row) for row in rows}.items():
        stdout.print(f"UID of {name}: {uid}", highlight=False, markup=False, soft_wrap=True)
    if found.ignored:
        stdout.print(f"{counted(found.ignored, 'other file')} ignored")
    for complaint in found.complaints():
        stdout.print(complaint, highlight=False, markup=False, soft_wrap=True)


def _name_of(row: Row) -> str:
    from medfuse.dicom.scanning.series import NO_NUMBER

    number = str(row["number"]).split(":")[0]
    return f"the {row['modality']} series without a number" if number == NO_NUMBER else f"series {number}"


def _inspect_dicom(paths: list[Path]) -> tuple[list[Row], dicom.Scan]:
    from medfuse import dicom, nifti
    from medfuse.dicom.header import quiet
    from medfuse.dicom.scanning.find_files import places_named

    found = dicom.scan(paths)
    if not found.series:
        complaints = "; ".join(found.complaints())
        other = nifti.what_else(paths[0]) if len(paths) == 1 and not complaints else ""
        if other:
            raise SeriesError(other)
        reason = f": {complaints}. Export them again" if complaints else "; check the path"
        among = f" among {counted(found.ignored, 'other file')}" if found.ignored else ""
        raise SeriesError(f"expected DICOM series in {places_named(paths)}, found none{among}{reason}.")
    with quiet():
        return [_row_of(series) for series in found.series], found


def _row_of(series: dicom.Series) -> Row:
    return {
        "number": series.number,
        "uid": series.uid,
        "modality": series.modality,
        "kind": series.kind,
        "result": series.is_result,
        "description": series.description,
        "files": len(series.instances),
        "copies": series.copies,
        "missing_slices": series.missing,
        "transfer_syntax": series.transfer_syntaxes,
        "traits": series.traits,
        "verdict": series.brief or "volume",
        "problem": series.problem,
        "excerpt": series.excerpt or None,
        "position_error_mm": round(series.stack.deviation, 6) if series.stack else None,
    } | describe(series.grid)


def _inspect_nifti(path: Path) -> tuple[list[Row], None]:
    from medfuse import nifti
    from medfuse.volume import grid_of

    row: Row = {"number": path.name, "uid": None, "modality": "not stated", "kind": "", "files": 1, "copies": 0}
    row |= {"missing_slices": 0, "transfer_syntax": ["NIfTI"], "traits": "", "verdict": "volume", "problem": None}
    row |= {"result": False, "description": "", "position_error_mm": None, "excerpt": None}
    grid = None
    try:
        grid = grid_of(nifti.read(path, MRI))  # of any modality: what is wrong with the values is said, too
    except MedfuseError as error:
        row |= {"verdict": "see below", "problem": str(error)}
    return [row | describe(grid)], None


def _print_table(rows: Iterable[Row]) -> None:
    """Print what fits into 80 columns; the reason in full only of series that could be fused."""
    from rich.markup import escape
    from rich.table import Table

    table = Table("series", "what", "where", "stored as", "verdict", show_lines=True)
    reasons: list[str] = []
    for row in rows:
        what = f"{row['modality']} {row['kind']}".strip() + "\nby medfuse" * row["result"]
        what += f"\n{counted(row['files'], 'file')}"
        what += f"\n{row['description']}" if row["description"] else ""
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
        more.append(f"{counted(row['copies'], 'copy', 'copies')} left out")
    if row["position_error_mm"] and row["position_error_mm"] >= SHOWN_ERROR_MM:
        more.append(f"positions rounded, up to {row['position_error_mm']:.2f} mm off")
    if row["excerpt"]:
        reasons.append(f"{row['excerpt']}.")
        more.append(f"not whole ({len(reasons)})")
    said = "volume" if row["problem"] is None else f"no: {row['verdict']}"
    if row["problem"] is not None and row["modality"] in (*MODALITIES, "not stated"):
        reasons.append(row["problem"])
        said += f" ({len(reasons)})"
    return "; ".join((said, *more))


def _short(syntax: str) -> str:
    """The name of a transfer syntax without what every one of its kind says."""
    return re.split(r" Image Compression| VR Little Endian|,| \(", syntax)[0]
