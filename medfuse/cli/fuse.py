"""``medfuse fuse``, and ``medfuse demo`` for those without a study at hand."""

from __future__ import annotations

import json
import sys
import time
from enum import Enum
from functools import partial
from pathlib import Path
from typing import Annotated, Any, cast

import typer

import medfuse
from medfuse import dicom, nifti
from medfuse.cli.console import EXIT_CODES, Json, Overwrite, Tell, app, describe, refusing, stdout, steps
from medfuse.dicom.palettes import PALETTES
from medfuse.export import require_outside, whole_entries
from medfuse.fusion import Align, FusedStudy
from medfuse.intensity import CT_WINDOWS_HU
from medfuse.phantom import phantom_study
from medfuse.provenance import DISCLAIMER
from medfuse.volume import Modality, grid_of

RESULTS = ("dicom", "fused.nii.gz", "fused.json", "dataset_description.json")


class Format(str, Enum):
    """What `fuse` writes."""

    DICOM = "dicom"
    NIFTI = "nifti"
    BOTH = "both"


class PlaneName(str, Enum):
    """Which slices are fused."""

    NATIVE = "native"
    AXIAL = "axial"
    CORONAL = "coronal"
    SAGITTAL = "sagittal"


class PartnerModality(str, Enum):
    """What the partner study is."""

    CT = "CT"
    PT = "PT"
    NM = "NM"


@app.command(epilog=EXIT_CODES)
def fuse(
    mri: Annotated[Path, typer.Argument(help="The MRI: a DICOM folder or a NIfTI file.", show_default=False)],
    partner: Annotated[Path, typer.Argument(help="Its CT, PET or SPECT, likewise.", show_default=False)],
    out: Annotated[Path, typer.Option("--out", help="Folder for the results.", show_default=False)],
    format_: Annotated[Format, typer.Option("--format", help="What to write.")] = Format.BOTH,
    modality: Annotated[
        PartnerModality | None, typer.Option(help="The partner's modality; needed where it is NIfTI.")
    ] = None,
    align: Annotated[
        str, typer.Option(help="auto, header, rigid, or a registration FILE (.tfm, .txt).", metavar="HOW")
    ] = "auto",
    window: Annotated[
        str | None,
        typer.Option(
            help=f"Partner values shown: LEVEL,WIDTH, a largest value, or, for CT, one of {', '.join(CT_WINDOWS_HU)}."
        ),
    ] = None,
    palette: Annotated[
        str | None,
        typer.Option(help=f"Colours of the partner: {', '.join(PALETTES)}. PET and SPECT: hot-iron; CT: none."),
    ] = None,
    plane: Annotated[PlaneName, typer.Option(help="Slices to fuse and write.")] = PlaneName.NATIVE,
    weights: Annotated[str, typer.Option(help="default, or a weights file.", metavar="FILE")] = "default",
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    batch_size: Annotated[int, typer.Option(min=1, help="Slices at once; halved where memory runs out.")] = 4,
    mri_series: Annotated[
        str | None,
        typer.Option(
            help="Number or UID of the MRI series, where the folder holds several; NUMBER:2 for its second volume."
        ),
    ] = None,
    partner_series: Annotated[str | None, typer.Option(help="The same for the partner.")] = None,
    mri_volume: Annotated[int | None, typer.Option(min=0, help="Which volume of a 4-D NIfTI MRI, from 0.")] = None,
    partner_volume: Annotated[int | None, typer.Option(min=0, help="The same for the partner.")] = None,
    fill_gaps: Annotated[
        bool, typer.Option("--fill-gaps", help="Interpolate missing DICOM slices instead of refusing the series.")
    ] = False,
    different_patients: Annotated[
        bool, typer.Option("--different-patients", help="Accept headers that name different patients.")
    ] = False,
    overwrite: Overwrite = False,
    as_json: Json = False,
) -> None:
    """Fuse MRI and PARTNER into OUT/dicom/*.dcm and OUT/fused.nii.gz with OUT/fused.json."""
    with refusing(as_json), steps() as tell:
        started = time.perf_counter()
        alignment = _alignment(align)
        for entry in RESULTS:
            require_outside(out / entry, [mri, partner])
        with whole_entries(out, overwrite, RESULTS) as folder:
            loaded = medfuse.load(
                mri,
                "MR" if nifti.is_nifti(mri) else None,
                mri_series,
                volume=mri_volume,
                fill_gaps=fill_gaps,
                progress=partial(tell, "MRI"),
            )
            other = medfuse.load(
                partner,
                cast("Modality | None", modality and modality.value),
                partner_series,
                volume=partner_volume,
                fill_gaps=fill_gaps,
                progress=partial(tell, "partner"),
            )
            if format_ is not Format.NIFTI and plane is PlaneName.NATIVE:
                dicom.require_slices(grid_of(loaded))  # before the minutes of fusion, not after
            study = medfuse.fuse(
                loaded,
                other,
                align=alignment,
                window=window,
                palette=palette,
                plane=plane.value,
                weights=weights,
                device=device,
                batch_size=batch_size,
                different_patients=different_patients,
                progress=tell,
            )
            _write(study, folder, format_, tell)
        result = _summary(study, out, format_) | {"seconds": round(time.perf_counter() - started, 2)}
    _report(result, as_json)


@app.command(epilog=EXIT_CODES)
def demo(
    out: Annotated[Path, typer.Option("--out", help="Folder for study and results.")] = Path("medfuse-demo"),
    partner: Annotated[PartnerModality, typer.Option(help="Which partner to simulate.")] = PartnerModality.PT,
    overwrite: Overwrite = False,
    as_json: Json = False,
) -> None:
    """Make a phantom study, fuse it, and write DICOM, NIfTI and a picture into OUT."""
    owned = (*RESULTS, "study", "picture.png")
    with refusing(as_json), steps() as tell, whole_entries(out, overwrite, owned) as folder:
        tell("phantom", 0.0)
        phantom_study(partner.value).write_dicom(folder / "study")
        tell("phantom", 1.0)
        study = medfuse.fuse(
            medfuse.load(folder / "study" / "mri"), medfuse.load(folder / "study" / "partner"), progress=tell
        )
        _write(study, folder, Format.BOTH, tell)
        study.write_picture(folder / "picture.png")
    result = _summary(study, out, Format.BOTH)
    result |= {"study": str(out / "study"), "picture": str(out / "picture.png")}
    _report(result, as_json)


def _alignment(align: str) -> Align | medfuse.Registration:
    if align in ("auto", "header", "rigid"):
        return cast("Align", align)
    if not Path(align).is_file():
        raise typer.BadParameter(f"expected auto, header, rigid or a registration file; there is no file {align!r}.")
    return medfuse.Registration.load(Path(align))


def _write(study: FusedStudy, folder: Path, format_: Format, tell: Tell) -> None:
    if format_ in (Format.DICOM, Format.BOTH):
        study.write_dicom(folder / "dicom", progress=partial(tell, "write"))
    if format_ in (Format.NIFTI, Format.BOTH):
        study.write_nifti(folder / "fused.nii.gz")
        (folder / "dataset_description.json").write_text(json.dumps(nifti.dataset_description(), indent=2) + "\n")


def _summary(study: FusedStudy, out: Path, format_: Format) -> dict[str, Any]:
    grid = grid_of(study.image)
    written = {"out": str(out)}
    if format_ in (Format.DICOM, Format.BOTH):
        written["dicom"] = str(out / "dicom")
    if format_ in (Format.NIFTI, Format.BOTH):
        written |= {"nifti": str(out / "fused.nii.gz"), "sidecar": str(out / "fused.json")}
    return written | {"grid": describe(grid), "provenance": study.provenance.to_dict()}


def _report(result: dict[str, Any], as_json: bool) -> None:
    if as_json:
        sys.stdout.write(json.dumps(result, indent=2) + "\n")
        return
    for name in ("study", "dicom", "nifti", "sidecar", "picture"):
        if name in result:
            stdout.print(f"{name:8} {result[name]}", soft_wrap=True, highlight=False, markup=False)
    registration = result["provenance"]["registration"]
    stdout.print(f"{'align':8} {registration['method']}", highlight=False)
    stdout.print(DISCLAIMER, style="dim")
