"""``medfuse align``: where one study lies in the other, and whether that can be believed."""

from __future__ import annotations

import json
import sys
from functools import partial
from math import isfinite
from pathlib import Path
from typing import Annotated, cast

import typer
from rich.table import Table

import medfuse
from medfuse import dicom, nifti
from medfuse.cli.choices import DifferentPatients, FillGaps, Force, Way
from medfuse.cli.console import EXIT_CODES, Json, Overwrite, app, refusing, stdout, steps
from medfuse.load_study import require_one_patient
from medfuse.provenance import DISCLAIMER
from medfuse.registration import WRITTEN_SUFFIXES, Registration
from medfuse.report import figures
from medfuse.runtime.atomic_output import atomic_output, require_outside
from medfuse.volume import Modality, source_of

ITK_SUFFIXES = tuple(suffix for suffix in WRITTEN_SUFFIXES if suffix != ".txt")
SUFFIXES = (*WRITTEN_SUFFIXES, dicom.ALIGNMENT_SUFFIX)


@app.command(epilog=EXIT_CODES)
def align(
    fixed: Annotated[
        Path, typer.Argument(help="The study to align to, usually the MRI: DICOM or NIfTI.", show_default=False)
    ],
    moving: Annotated[Path, typer.Argument(help="The study to align, likewise.", show_default=False)],
    out: Annotated[Path, typer.Option("--out", help=f"Transform file: {', '.join(SUFFIXES)}.", show_default=False)],
    method: Annotated[Way, typer.Option(help="The highest rung to climb.")] = Way.AUTO,
    fixed_modality: Annotated[
        str | None, typer.Option(help="The fixed study's modality, where it is NIfTI and no MR.")
    ] = None,
    modality: Annotated[str | None, typer.Option(help="The moving study's modality, where it is NIfTI.")] = None,
    fixed_series: Annotated[str | None, typer.Option(help="Number or UID of the fixed series.")] = None,
    moving_series: Annotated[str | None, typer.Option(help="The same for the moving one.")] = None,
    fixed_volume: Annotated[int | None, typer.Option(help="Which volume of a 4-D NIfTI file, from 0.")] = None,
    moving_volume: Annotated[int | None, typer.Option(help="The same for the moving one.")] = None,
    fill_gaps: FillGaps = False,
    different_patients: DifferentPatients = False,
    force: Force = False,
    overwrite: Overwrite = False,
    as_json: Json = False,
) -> None:
    """Align MOVING to FIXED; write the map FIXED → MOVING to FILE, and a picture of it beside FILE."""
    if out.suffix not in SUFFIXES:
        raise typer.BadParameter(f"expected --out with one of {', '.join(SUFFIXES)}; found {out.suffix!r}.")
    if method is Way.DEFORMABLE and out.suffix not in ITK_SUFFIXES:
        raise typer.BadParameter(f"a deformation fits into {' or '.join(ITK_SUFFIXES)} only; found {out.suffix!r}.")
    picture = out.with_suffix(".png")
    with refusing(as_json), steps() as tell:

        def scored(share: float, score: float) -> None:
            tell("align", share, f"score {score:.3f}")

        for path in (out, picture):
            require_outside(path, [fixed, moving])
        usual = "MR" if nifti.is_nifti(fixed) else None
        read = partial(medfuse.load, fill_gaps=fill_gaps)
        here = read(
            fixed,
            _modality(fixed_modality or usual),
            fixed_series,
            volume=fixed_volume,
            progress=partial(tell, "fixed"),
        )
        there = read(moving, _modality(modality), moving_series, volume=moving_volume, progress=partial(tell, "moving"))
        require_one_patient(here, there, different_patients=different_patients)
        sources = source_of(here), source_of(there)
        if out.suffix == dicom.ALIGNMENT_SUFFIX:
            dicom.require_placed(*sources)
        # The picture first: where it is refused, nothing is written.
        with atomic_output(out, overwrite) as beside, atomic_output(picture, overwrite) as drawn:
            found = medfuse.register(here, there, method.value, force=force, progress=scored)
            drawn.write_bytes(figures.alignment_picture(here, there, found))
            if out.suffix == dicom.ALIGNMENT_SUFFIX:
                dicom.write_alignment(beside, mri=sources[0], partner=sources[1], registration=found.to_dict())
            else:
                found.save(beside)
    result = {"out": str(out), "picture": str(picture)} | found.to_dict() | {"disclaimer": DISCLAIMER}
    if as_json:
        sys.stdout.write(json.dumps(result, indent=2) + "\n")
        return
    _print(found, out, picture)


def _modality(name: str | None) -> Modality | None:
    return cast("Modality | None", name)


def _print(found: Registration, out: Path, picture: Path) -> None:
    table = Table(show_header=False, box=None)
    shift = " ".join(f"{length:.2f}" for length in found.translation_mm)
    for name, value in (
        ("transform", str(out)),
        ("picture", str(picture)),
        ("method", found.method),
        ("rotation", f"{found.rotation_deg:.2f}°"),
        ("shift", f"{shift} mm, RAS+"),
        ("verdict", str(found.verdict)),
        ("error", f"about {found.error_mm:.1f} mm" if isfinite(found.error_mm) else "not known"),
        ("seconds", f"{found.seconds:.1f}"),
    ):
        table.add_row(name, value)
    stdout.print(table, highlight=False, markup=False)
    stdout.print(DISCLAIMER, style="dim")
