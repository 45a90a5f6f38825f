"""``medfuse fuse``, and ``medfuse demo`` for those without a study at hand."""

from __future__ import annotations

import json
import shutil
import sys
import time
from functools import partial
from pathlib import Path
from typing import Annotated, Any, cast, get_args

import typer
from monai.data.meta_tensor import MetaTensor

import medfuse
from medfuse import dicom, nifti
from medfuse.cli.choices import (
    CompressionName,
    DicomChoices,
    DifferentPatients,
    FillGaps,
    Force,
    Format,
    PartnerModality,
    PlaneName,
    Way,
)
from medfuse.cli.console import EXIT_CODES, Json, Overwrite, Tell, app, describe, refusing, stdout, steps
from medfuse.gesenet.engines.registry import AUTO, ENGINES
from medfuse.intensity import CT_WINDOWS_HU
from medfuse.intensity.suv import to_suv
from medfuse.phantom import phantom_study
from medfuse.pipeline.fused_study import FusedStudy
from medfuse.provenance import DISCLAIMER
from medfuse.registration import READ_SUFFIXES, Align
from medfuse.runtime.atomic_output import atomic_entries, require_outside
from medfuse.volume import PALETTES, PARTNERS, grid_of, source_of
from medfuse.volume.planes import Plane

RESULTS = (
    *("dicom", "partner", "registration", "registration.h5", "registration.tfm", "blending", "media"),
    *("fused.nii.gz", "fused.json", "partner.nii.gz", "partner.json", "dataset_description.json"),
)


@app.command(epilog=EXIT_CODES)
def fuse(
    mri: Annotated[
        Path, typer.Argument(help="The MRI: a DICOM folder or archive, or a NIfTI file.", show_default=False)
    ],
    partner: Annotated[Path, typer.Argument(help="Its CT, PET or SPECT, likewise.", show_default=False)],
    out: Annotated[Path, typer.Option("--out", help="Folder for the results.", show_default=False)],
    format_: Annotated[Format, typer.Option("--format", help="What to write.")] = Format.BOTH,
    modality: Annotated[
        PartnerModality | None, typer.Option(help="The partner's modality; needed where it is NIfTI.")
    ] = None,
    align: Annotated[
        str,
        typer.Option(
            help=f"{', '.join(Way)}, or a registration FILE (.tfm, .h5, .mat, .txt, or DICOM).", metavar="HOW"
        ),
    ] = "auto",
    force: Force = False,
    window: Annotated[
        str | None,
        typer.Option(
            help=f"Partner values shown: LEVEL,WIDTH, a largest value, or, for CT, one of {', '.join(CT_WINDOWS_HU)}."
        ),
    ] = None,
    suv: Annotated[bool, typer.Option("--suv", help="PET as SUV (body weight); the window is in SUV, too.")] = False,
    palette: Annotated[
        str | None,
        typer.Option(help=f"Colours of the partner: {', '.join(PALETTES)}. PET and SPECT: hot-iron; CT: none."),
    ] = None,
    plane: Annotated[PlaneName, typer.Option(help="Slices to fuse and write.")] = PlaneName.NATIVE,
    weights: Annotated[str, typer.Option(help="default, or a weights file.", metavar="FILE")] = "default",
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    engine: Annotated[str, typer.Option(help=f"How the network is run: auto, {', '.join(ENGINES)}.")] = AUTO,
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
    luma: Annotated[bool, typer.Option("--luma", help="Read colours of NIfTI as their brightness.")] = False,
    fill_gaps: FillGaps = False,
    black_air: Annotated[
        bool,
        typer.Option("--black-air", help="Set what shows in neither source, around the head, to black."),
    ] = False,
    with_partner: Annotated[
        bool,
        typer.Option(
            "--with-partner",
            help="Also write the registered partner in its own unit, the alignment, and a blended view.",
        ),
    ] = False,
    description: Annotated[str | None, typer.Option(help="SeriesDescription of the fused series.")] = None,
    series_number: Annotated[int | None, typer.Option(help="Its SeriesNumber.", min=0)] = None,
    compress: Annotated[
        CompressionName, typer.Option(help="Pack the DICOM pixels without loss.")
    ] = CompressionName.NONE,
    bits: Annotated[int, typer.Option(help="8 or 16, of a grey picture; colour has 8.", metavar="BITS")] = 16,
    multiframe: Annotated[
        bool, typer.Option("--multiframe", help="One file for all fused slices, which fewer programs read.")
    ] = False,
    dicomdir: Annotated[
        bool, typer.Option("--dicomdir", help="Put the DICOM files into OUT/media, with a DICOMDIR, as for a disc.")
    ] = False,
    template: Annotated[
        Path | None,
        typer.Option(help="DICOM series whose patient, study and frame of reference a NIfTI MRI takes.", metavar="DIR"),
    ] = None,
    identity: Annotated[
        list[str] | None,
        typer.Option(help="The same by hand, as PatientID=17; once for each attribute.", metavar="KEYWORD=VALUE"),
    ] = None,
    deidentify: Annotated[
        bool,
        typer.Option("--deidentify", help="Write all results under a pseudonym: PS3.15 Basic Profile, dates shifted."),
    ] = False,
    different_patients: DifferentPatients = False,
    overwrite: Overwrite = False,
    as_json: Json = False,
) -> None:
    """Fuse MRI and PARTNER into OUT/dicom/*.dcm and OUT/fused.nii.gz with OUT/fused.json."""
    with refusing(as_json), steps() as tell:
        started = time.perf_counter()
        alignment = _alignment(align)
        hidden = dicom.Deidentifier()
        options = dicom.DicomOptions(
            identity=_identity(template, identity, hidden if deidentify else None),
            description=description,
            number=series_number,
            compression=compress.value,
            bits=_bits(bits),
            multiframe=multiframe,
        )
        choices = DicomChoices(options, with_partner, dicomdir and format_ is not Format.NIFTI)
        for entry in RESULTS:
            require_outside(out / entry, [mri, partner])
        with atomic_entries(out, overwrite, RESULTS) as folder:
            read = partial(medfuse.load, fill_gaps=fill_gaps)
            grey = luma and nifti.is_nifti(mri)
            loaded = read(mri, "MR", mri_series, volume=mri_volume, luma=grey, progress=partial(tell, "MRI"))
            other = read(
                partner,
                PARTNERS if modality is None else modality.value,
                partner_series,
                volume=partner_volume,
                luma=luma and nifti.is_nifti(partner),
                progress=partial(tell, "partner"),
            )
            other = to_suv(other) if suv else other
            if format_ is not Format.NIFTI:
                _refuse_early(loaded, other, plane.value, choices)
            study = medfuse.fuse(
                loaded,
                other,
                align=medfuse.Registration.load(alignment, loaded, other) if isinstance(alignment, Path) else alignment,
                force=force,
                window=window,
                palette=palette,
                plane=plane.value,
                weights=weights,
                device=device,
                engine=engine,
                batch_size=batch_size,
                black_air=black_air,
                different_patients=different_patients,
                lazy=True,
                progress=tell,
            )
            del loaded, other  # the study holds what it needs of them
            if deidentify:
                study = study.deidentified(hidden)
            _write(study, folder, format_, tell, choices)
            written = [entry.name for entry in folder.iterdir()]
        result = _summary(study, out, written) | {"seconds": round(time.perf_counter() - started, 2)}
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
    with refusing(as_json), steps() as tell, atomic_entries(out, overwrite, owned) as folder:
        tell("phantom", 0.0)
        phantom_study(partner.value).write_dicom(folder / "study")
        tell("phantom", 1.0)
        study = medfuse.fuse(
            medfuse.load(folder / "study" / "mri"), medfuse.load(folder / "study" / "partner"), progress=tell
        )
        _write(study, folder, Format.BOTH, tell, DicomChoices())
        study.write_picture(folder / "picture.png")
        written = [entry.name for entry in folder.iterdir()]
    result = _summary(study, out, written)
    _report(result, as_json)


def _alignment(align: str) -> Align | medfuse.Registration | Path:
    """A way, a map, or a DICOM registration, which is read when the studies are known that it joins."""
    if align in list(Way):
        return cast("Align", align)
    if not Path(align).exists():
        raise typer.BadParameter(f"expected {', '.join(Way)} or a registration file; there is no file {align!r}.")
    return medfuse.Registration.load(align) if Path(align).suffix in READ_SUFFIXES else Path(align)


def _refuse_early(mri: MetaTensor, partner: MetaTensor, plane: Plane, choices: DicomChoices) -> None:
    """Raise what the writers would after the minutes of fusion, as far as it is known before."""
    if plane == "native":
        columns, rows, _ = grid_of(mri).straightened().shape
        dicom.require_compressible(choices.options.compression, rows, columns)
    if choices.as_media:
        dicom.require_listable(choices.options.identity or dicom.Identity.of(mri, source_of(partner)))
    if choices.with_partner:
        dicom.require_measurable(partner)


def _bits(bits: int) -> dicom.Bits:
    if bits not in get_args(dicom.Bits):
        raise typer.BadParameter(f"a grey picture has 8 or 16 bits; found {bits}.")
    return cast("dicom.Bits", bits)


def _identity(
    template: Path | None, identity: list[str] | None, hidden: dicom.Deidentifier | None
) -> dicom.Identity | None:
    if template is not None and identity:
        raise typer.BadParameter("give --template or --identity, not both: each says whose the result is.")
    if template is not None:
        source = dicom.read_source(template)
        return dicom.Identity.of(source if hidden is None else hidden.source(source))
    if not identity:
        return None
    if hidden is not None:
        raise typer.BadParameter("give --identity or --deidentify, not both: a result is somebody's, or nobody's.")
    pairs = [text.partition("=") for text in identity]
    if not all(middle for _, middle, _ in pairs):
        raise typer.BadParameter("expected --identity KEYWORD=VALUE, such as PatientID=17; an equals sign is missing.")
    return dicom.Identity.given({keyword: value for keyword, _, value in pairs})


def _write(study: FusedStudy, folder: Path, format_: Format, tell: Tell, choices: DicomChoices) -> None:
    if format_ in (Format.DICOM, Format.BOTH):
        study.write_dicom(
            folder / "dicom",
            options=choices.options,
            keep=format_ is Format.BOTH,
            progress=partial(tell, "write"),
        )
    if choices.with_partner and format_ is Format.NIFTI:
        study.write_partner_nifti(folder / "partner.nii.gz")
        deforms = study.registration.warp is not None
        study.registration.save(folder / ("registration.h5" if deforms else "registration.tfm"))
    elif choices.with_partner:
        study.write_partner(
            folder / "partner", options=choices.options.for_partner(), progress=partial(tell, "measured")
        )
        if study.registration.warp is not None:  # which no DICOM object of ours holds
            study.registration.save(folder / "registration.h5")
        elif dicom.both_placed(*study.sources):
            study.write_alignment(folder / "registration")
        if dicom.unblendable(study.sources[0], folder / "partner") is None:
            study.write_blending(folder / "blending", folder / "partner")
    if choices.as_media:
        folders = [folder / name for name in RESULTS if (folder / name).is_dir()]
        dicom.write_media(folder / "media", folders)
        for entry in folders:
            shutil.rmtree(entry)
    if format_ in (Format.NIFTI, Format.BOTH):
        study.write_nifti(folder / "fused.nii.gz")
        (folder / "dataset_description.json").write_text(json.dumps(nifti.dataset_description(), indent=2) + "\n")


ENTRIES = {
    "dicom": "dicom",
    "partner": "partner",
    "alignment": "registration",
    "deformation": "registration.h5",
    "map": "registration.tfm",
    "partner_nifti": "partner.nii.gz",
    "blending": "blending",
    "media": "media",
    "nifti": "fused.nii.gz",
    "sidecar": "fused.json",
    "study": "study",
    "picture": "picture.png",
}
"""What `--json` calls the results, and where they lie."""


def _summary(study: FusedStudy, out: Path, written: list[str]) -> dict[str, Any]:
    places = {name: str(out / entry) for name, entry in ENTRIES.items() if entry in written}
    grid = study.slices.grid
    return (
        {"out": str(out)}
        | places
        | {"grid": describe(grid), "verdict": study.provenance.alignment, "provenance": study.provenance.to_dict()}
    )


def _report(result: dict[str, Any], as_json: bool) -> None:
    if as_json:
        sys.stdout.write(json.dumps(result, indent=2) + "\n")
        return
    for name in ENTRIES:
        if name in result:
            stdout.print(f"{name:9} {result[name]}", soft_wrap=True, highlight=False, markup=False)
    stdout.print(f"{'align':9} {result['verdict']}", highlight=False, markup=False, soft_wrap=True)
    stdout.print(f"{'engine':9} {result['provenance']['engine']}", highlight=False)
    stdout.print(DISCLAIMER, style="dim")
