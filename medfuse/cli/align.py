"""Align one study to another and say whether the images confirm it: ``medfuse align``."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

import medfuse
from medfuse.cli.console import EXIT_CODES, Json, Overwrite, app, print_json, refusing, stdout, steps
from medfuse.cli.options.choices import AcceptCut, DifferentPatients, FillGaps, Force, Way, choosing
from medfuse.cli.options.command import CheckedCommand
from medfuse.cli.options.inputs import require_apart
from medfuse.cli.options.values import known_modality, that_is_there
from medfuse.provenance import DISCLAIMER
from medfuse.registration.files.suffixes import WRITTEN_SUFFIXES
from medfuse.runtime.output.atomic_output import atomic_files
from medfuse.runtime.output.own_results import require_own
from medfuse.runtime.progress import part_of
from medfuse.volume import MRI

if TYPE_CHECKING:
    from medfuse.registration import Registration, SegmentationReport
    from medfuse.volume import Modality

ITK_SUFFIXES = tuple(suffix for suffix in WRITTEN_SUFFIXES if suffix != ".txt")
DICOM_SUFFIX = ".dcm"
SUFFIXES = (*WRITTEN_SUFFIXES, DICOM_SUFFIX)


@app.command(cls=CheckedCommand, epilog=EXIT_CODES)
def align(
    fixed: Annotated[
        Path,
        typer.Argument(
            help="The study to align to, usually the MRI: DICOM or NIfTI.", metavar="FIXED", show_default=False
        ),
    ],
    moving: Annotated[
        Path, typer.Argument(help="The study to align, in the same forms.", metavar="MOVING", show_default=False)
    ],
    out: Annotated[Path, typer.Option("--out", help=f"Transform file: {', '.join(SUFFIXES)}.", show_default=False)],
    method: Annotated[Way, typer.Option(help="The most general kind of alignment to try.")] = Way.AUTO,
    fixed_modality: Annotated[
        str | None,
        typer.Option(help="The fixed study's modality, where it is NIfTI and not MR.", callback=known_modality),
    ] = None,
    modality: Annotated[
        str | None, typer.Option(help="The moving study's modality, where it is NIfTI.", callback=known_modality)
    ] = None,
    fixed_series: Annotated[str | None, typer.Option(help="Number or UID of the fixed series.")] = None,
    moving_series: Annotated[str | None, typer.Option(help="The same for the moving one.")] = None,
    fixed_volume: Annotated[int | None, typer.Option(help="Which volume of a 4-D NIfTI file, counted from 0.")] = None,
    moving_volume: Annotated[int | None, typer.Option(help="The same for the moving one.")] = None,
    fixed_segmentation: Annotated[
        Path | None,
        typer.Option(
            help="Structure drawn on FIXED: RT Structure Set, DICOM Segmentation or NIfTI mask.",
            metavar="FILE",
            callback=that_is_there,
        ),
    ] = None,
    moving_segmentation: Annotated[
        Path | None,
        typer.Option(
            help="The same structure drawn on MOVING, to be compared with.", metavar="FILE", callback=that_is_there
        ),
    ] = None,
    structure: Annotated[
        str | None, typer.Option(help="The structure's name, or its number in a label map.", metavar="NAME")
    ] = None,
    moving_structure: Annotated[
        str | None, typer.Option(help="Its name on MOVING, where that is another.", metavar="NAME")
    ] = None,
    fill_gaps: FillGaps = False,
    accept_cut: AcceptCut = False,
    different_patients: DifferentPatients = False,
    force: Force = False,
    overwrite: Overwrite = False,
    as_json: Json = False,
) -> None:
    """Align MOVING to FIXED; write the transform FIXED → MOVING to OUT, and a picture of it beside OUT.

    With a structure drawn on both, say how well the two agree before and after: Dice, Hausdorff 95 % and mean distance.
    """
    drawn_on = fixed_segmentation, moving_segmentation
    if (drawn_on[0] is None) != (drawn_on[1] is None):
        raise typer.BadParameter("expected --fixed-segmentation and --moving-segmentation together; found one of them.")
    if drawn_on[0] is None and (structure or moving_structure):
        raise typer.BadParameter("--structure names one of --fixed-segmentation, which is not given.")
    if out.suffix not in SUFFIXES:
        raise typer.BadParameter(f"expected --out with one of {', '.join(SUFFIXES)}; found {out.suffix!r}.")
    if method is Way.DEFORMABLE and out.suffix not in ITK_SUFFIXES:
        raise typer.BadParameter(f"a deformation fits into {' or '.join(ITK_SUFFIXES)} only; found {out.suffix!r}.")
    from medfuse import dicom, nifti
    from medfuse.load_study import require_one_patient, require_whole
    from medfuse.registration import compare_segmentations, read_segmentation
    from medfuse.report.alignment import alignment_picture
    from medfuse.volume import source_of

    picture = out.with_suffix(".png")
    with refusing(as_json), steps() as progress:
        inputs = {"FIXED": fixed, "MOVING": moving}
        segmented = {"--fixed-segmentation": fixed_segmentation, "--moving-segmentation": moving_segmentation}
        require_apart((out, picture), inputs | segmented)
        if overwrite:
            require_own([picture])  # which nobody named
        usual = MRI if nifti.is_nifti(fixed) else None
        kinds = [cast("Modality | None", name) for name in (fixed_modality or usual, modality)]
        halves = part_of(progress, 0, 0.5, "fixed"), part_of(progress, 0.5, 1, "moving")
        read = partial(medfuse.load, fill_gaps=fill_gaps, accept_cut=accept_cut)
        with choosing("--fixed-series"):
            here = read(fixed, kinds[0], fixed_series, volume=fixed_volume, progress=halves[0])
        with choosing("--moving-series"):
            there = read(moving, kinds[1], moving_series, volume=moving_volume, progress=halves[1])
        require_whole(here, there)
        require_one_patient(here, there, different_patients=different_patients)
        sources = source_of(here), source_of(there)
        if out.suffix == DICOM_SUFFIX:
            dicom.require_placed(*sources)
        structures = [
            read_segmentation(path, study, name, different_patients=different_patients)
            for path, study, name in zip(
                drawn_on, (here, there), (structure, moving_structure or structure), strict=True
            )
            if path is not None
        ]  # before the search: what is wrong with them need not wait for it
        with atomic_files((out, picture), overwrite) as (beside, drawn):
            found = medfuse.register(here, there, method.value, force=force, progress=progress)
            drawn.write_bytes(alignment_picture(here, there, found))
            if out.suffix == DICOM_SUFFIX:
                dicom.write_alignment(beside, mri=sources[0], partner=sources[1], registration=found.to_dict())
            else:
                found.save(beside)
        compared = compare_segmentations(structures[0], structures[1], found) if structures else None
    result = {"out": str(out), "picture": str(picture)} | found.to_dict() | {"disclaimer": DISCLAIMER}
    if compared is not None:
        result["segmentations"] = compared.to_dict()
    if as_json:
        print_json(result)
        return
    _print(found, out, picture, compared)


def _print(found: Registration, out: Path, picture: Path, compared: SegmentationReport | None) -> None:
    from rich.table import Table

    table = Table(show_header=False, box=None)
    shift = " ".join(f"{length:.2f}" for length in found.translation_mm)
    for name, value in (
        ("transform", str(out)),
        ("picture", str(picture)),
        ("method", found.method),
        *((("headers", found.headers),) if found.headers else ()),
        ("rotation", f"{found.rotation_deg:.2f}°"),
        ("shift", f"{shift} mm, RAS+"),
        *((("region", str(found.verdict.region)),) if found.verdict and found.verdict.region else ()),
        ("verdict", str(found.verdict)),
        ("error", f"about {found.error_mm:.1f} mm" if isfinite(found.error_mm) else "not known"),
        *(() if compared is None else _agreement_rows(compared)),
        ("seconds", f"{found.seconds:.1f}"),
    ):
        table.add_row(name, value)
    stdout.print(table, highlight=False, markup=False)
    stdout.print(DISCLAIMER, style="dim")


def _agreement_rows(compared: SegmentationReport) -> Iterator[tuple[str, str]]:
    yield "structures", f"{compared.fixed} and {compared.moving}"
    for name, one in (("before", compared.before), ("after", compared.after)):
        yield (
            name,
            f"Dice {one.dice:.3f}, Hausdorff 95 % {one.hausdorff95_mm:.1f} mm, "
            f"mean surface distance {one.mean_surface_distance_mm:.1f} mm",
        )
