"""``medfuse inspect``: what lies in a folder, before anything is fused."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from medfuse import dicom, nifti
from medfuse.cli.console import EXIT_CODES, Json, app, describe, refusing, stdout
from medfuse.errors import MedfuseError, SeriesError


@app.command(epilog=EXIT_CODES)
def inspect(
    path: Annotated[Path, typer.Argument(help="A folder, DICOMDIR or zip, or one file.", show_default=False)],
    as_json: Json = False,
) -> None:
    """List the series under PATH, their geometry, and what is wrong with them."""
    with refusing(as_json):
        rows, ignored, damaged = _inspect_nifti(path) if nifti.is_nifti(path) else _inspect_dicom(path)
    if as_json:
        sys.stdout.write(
            json.dumps(
                {"path": str(path), "series": rows, "ignored_files": ignored, "damaged_files": damaged}, indent=2
            )
            + "\n"
        )
        return
    table = Table("series", "modality", "files", "size", "spacing (mm)", "axes", "verdict")
    problems = []
    for row in rows:
        size = " × ".join(map(str, row["shape"] or ())) or "–"
        spacing = " × ".join(f"{length:.3g}" for length in row["spacing_mm"] or ()) or "–"
        verdict = f"volume ({row['traits']})" if row["traits"] else "volume"
        if row["problem"] is not None:
            problems.append(row["problem"])
            verdict = f"no volume ({len(problems)})"
        table.add_row(
            escape(str(row["number"])),
            escape(row["modality"]),
            str(row["files"]),
            size,
            spacing,
            row["axes"] or "–",
            escape(verdict),
        )
    stdout.print(table)
    for number, problem in enumerate(problems, start=1):
        stdout.print(f"({number}) {problem}", highlight=False, markup=False)
    if ignored:
        stdout.print(f"{ignored} other files ignored")
    if damaged:
        stdout.print(f"{damaged} DICOM files cannot be read: cut short, damaged or locked")


def _inspect_dicom(path: Path) -> tuple[list[dict[str, Any]], int, int]:
    found = dicom.scan(path)
    if not found.series:
        raise SeriesError(
            f"expected DICOM series in {path}, found none among {found.ignored + found.damaged} files; check the path."
        )
    rows = []
    for series in found.series:
        row = {
            "number": series.number,
            "uid": series.uid,
            "modality": series.modality,
            "files": len(series.instances),
            "traits": series.traits,
            "problem": series.problem,
        }
        rows.append(row | describe(series.grid))
    return rows, found.ignored, found.damaged


def _inspect_nifti(path: Path) -> tuple[list[dict[str, Any]], int, int]:
    row: dict[str, Any] = {"number": path.name, "uid": None, "modality": "not stated", "files": 1}
    row |= {"traits": "", "problem": None}
    grid = None
    try:
        grid = nifti.read_grid(path)
    except MedfuseError as error:
        row["problem"] = str(error)
    return [row | describe(grid)], 0, 0
