"""Fuse an MRI with its partner and write the results: ``medfuse fuse``."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

import medfuse
from medfuse.cli.console import EXIT_CODES, Json, Overwrite, app, refusing, refusing_options, steps
from medfuse.cli.options.choices import (
    AcceptCut,
    CompressionName,
    DicomChoices,
    DifferentPatients,
    FillGaps,
    Force,
    Format,
    JoinName,
    MethodName,
    PartnerOption,
    PlaneName,
    Way,
    method_given,
)
from medfuse.cli.options.command import CheckedCommand
from medfuse.cli.options.fusion import (
    AlignHow,
    Device,
    Join,
    MriPath,
    MriSeries,
    MriVolume,
    PaletteName,
    PartnerPath,
    PartnerSeries,
    PartnerVolume,
    Weights,
    WindowShown,
    alignment_given,
    alignment_of,
    load_pair,
)
from medfuse.cli.options.inputs import require_apart
from medfuse.cli.options.pair import chosen_pair
from medfuse.cli.options.suv import Dose, Height, InjectedAt, Nuclide, SexOption, Suv, SuvBy, Weight, suv_choices
from medfuse.cli.options.values import that_is_there
from medfuse.cli.output.results import RESULTS, print_result, summary, write_results
from medfuse.gesenet.engines import AUTO, ENGINE_NAMES
from medfuse.gesenet.weights import DEFAULT
from medfuse.methods.names import GESENET, ParsedName
from medfuse.runtime.output.atomic_output import atomic_entries

if TYPE_CHECKING:
    from monai.data.meta_tensor import MetaTensor

    from medfuse import dicom
    from medfuse.volume import Plane

MOST_BITS = 16

DICOM_ONLY = (
    *("--template", "--identity", "--multiframe", "--dicomdir", "--description", "--series-number"),
    *("--compress", "--bits"),
)
"""Options that say nothing where only NIfTI is written."""


@app.command(cls=CheckedCommand, epilog=EXIT_CODES)
def fuse(
    mri: MriPath,
    out: Annotated[Path, typer.Option("--out", help="Folder for the results.", show_default=False)],
    partner: PartnerPath = None,
    format_: Annotated[Format, typer.Option("--format", help="What to write.")] = Format.BOTH,
    modality: PartnerOption = None,
    align: AlignHow = "auto",
    force: Force = False,
    window: WindowShown = None,
    suv: Suv = False,
    suv_by: SuvBy = None,
    dose: Dose = None,
    injected_at: InjectedAt = None,
    nuclide: Nuclide = None,
    weight: Weight = None,
    height: Height = None,
    sex: SexOption = None,
    palette: PaletteName = None,
    join: Join = JoinName.OKLAB,
    plane: Annotated[PlaneName, typer.Option(help="Slices to fuse and write.")] = PlaneName.NATIVE,
    method: MethodName = GESENET,
    weights: Weights = "default",
    device: Device = "auto",
    engine: Annotated[str, typer.Option(help=f"How gesenet is run: auto, {', '.join(ENGINE_NAMES)}.")] = AUTO,
    batch_size: Annotated[int, typer.Option(min=1, help="Slices fused at once; halved where memory runs out.")] = 4,
    mri_series: MriSeries = None,
    partner_series: PartnerSeries = None,
    mri_volume: MriVolume = None,
    partner_volume: PartnerVolume = None,
    luma: Annotated[bool, typer.Option("--luma", help="Read colours of NIfTI as their brightness.")] = False,
    fill_gaps: FillGaps = False,
    accept_cut: AcceptCut = False,
    black_air: Annotated[
        bool,
        typer.Option("--black-air", help="Set the air around the head, where neither source shows anything, to black."),
    ] = False,
    with_partner: Annotated[
        bool,
        typer.Option(
            "--with-partner",
            help="Also write the registered partner in its own unit, the alignment, and a blended view.",
        ),
    ] = False,
    report: Annotated[
        bool, typer.Option("--report", help="Also write OUT/report.html, on which people see whether it is aligned.")
    ] = False,
    attribution: Annotated[
        bool,
        typer.Option(
            "--attribution", help="Also write how much of each voxel comes from which source; costs ten fusions more."
        ),
    ] = False,
    description: Annotated[str | None, typer.Option(help="SeriesDescription of the fused series.")] = None,
    series_number: Annotated[int | None, typer.Option(help="Its SeriesNumber.", min=0)] = None,
    compress: Annotated[
        CompressionName, typer.Option(help="Compress the DICOM pixels without loss.")
    ] = CompressionName.NONE,
    bits: Annotated[
        int, typer.Option(help="Bits of a grey picture, 8 or 16; colour has 8.", metavar="BITS")
    ] = MOST_BITS,
    multiframe: Annotated[
        bool, typer.Option("--multiframe", help="Write all fused slices into one file, which fewer programs read.")
    ] = False,
    dicomdir: Annotated[
        bool, typer.Option("--dicomdir", help="Write the DICOM files into OUT/media with a DICOMDIR, as on a disc.")
    ] = False,
    template: Annotated[
        Path | None,
        typer.Option(
            help="DICOM series whose patient, study and frame of reference a NIfTI MRI takes.",
            metavar="DIR",
            callback=that_is_there,
        ),
    ] = None,
    identity: Annotated[
        list[str] | None,
        typer.Option(
            help="The same attribute by attribute, such as PatientID=17; may be given several times.",
            metavar="KEYWORD=VALUE",
        ),
    ] = None,
    deidentify: Annotated[
        bool,
        typer.Option("--deidentify", help="Write all results under a pseudonym: PS3.15 Basic Profile, dates shifted."),
    ] = False,
    different_patients: DifferentPatients = False,
    overwrite: Overwrite = False,
    as_json: Json = False,
) -> None:
    """Fuse MRI and PARTNER into OUT/dicom/*.dcm and OUT/fused.nii.gz with OUT/fused.json.

    Where one folder holds both, the rules of medfuse cohort plan choose the two series, and it says why.
    """
    _require_usable(template, identity, deidentify, bits, luma_of=tuple(filter(None, (mri, partner))) if luma else ())
    chosen = method_given(method, weights=weights, engine=engine, join=join)
    uptake = suv_choices(
        suv, suv_by, dose=dose, injected_at=injected_at, nuclide=nuclide, weight=weight, height=height, sex=sex
    )
    asked = (template, identity, multiframe, dicomdir, description, series_number)
    _require_dicom_output(format_, (*asked, compress is not CompressionName.NONE, bits != MOST_BITS))
    from medfuse import dicom

    with refusing(as_json), steps() as progress:
        started = time.perf_counter()
        _require_inputs_apart(out, mri, partner, template, align, weights, chosen)
        alignment = alignment_given(align)
        hidden = dicom.Deidentifier()
        with refusing_options():
            options = dicom.DicomOptions(
                identity=_identity(template, identity, hidden if deidentify else None),
                description=description,
                number=series_number,
                compression=compress.value,
                bits=cast("dicom.Bits", bits),
                multiframe=multiframe,
            )
        choices = DicomChoices(options, with_partner, dicomdir, report, attribution)
        with atomic_entries(out, overwrite, RESULTS) as folder:
            named, accepted = modality and modality.value, (fill_gaps, accept_cut)
            pair = chosen_pair(mri, partner, mri_series, partner_series, named, accepted)
            loaded, other = load_pair(pair, named, (mri_volume, partner_volume), luma, accepted, progress)
            other = uptake.convert(other)
            _refuse_early(loaded, other, plane.value, format_, choices)
            study = medfuse.fuse(
                loaded,
                other,
                method=method,
                align=alignment_of(alignment, loaded, other),
                force=force,
                window=window,
                palette=palette,
                join=join.value,
                plane=plane.value,
                weights=weights,
                device=device,
                engine=engine,
                batch_size=batch_size,
                black_air=black_air,
                different_patients=different_patients,
                lazy=True,
                progress=progress,
            )
            del loaded, other  # the study holds what it needs of them
            if deidentify:
                study = study.deidentified(hidden)
            write_results(study, folder, format_, progress, choices)
            result = summary(study, out, [entry.name for entry in folder.iterdir()])
        result |= {"chosen": pair.reason} if pair.reason else {}
    print_result(result | {"seconds": round(time.perf_counter() - started, 2)}, as_json)


def _require_inputs_apart(
    out: Path, mri: Path, partner: Path | None, template: Path | None, align: str, weights: str, method: ParsedName
) -> None:
    """Raise a usage error where an input lies among the results that would be replaced."""
    given = {"MRI": mri, "PARTNER": partner, "--template": template, "--method": method.file}
    given |= {"--align": Path(align)} if align not in list(Way) else {}
    given |= {"--weights": Path(weights)} if weights != DEFAULT else {}
    require_apart([out / entry for entry in RESULTS], given)


def _refuse_early(mri: MetaTensor, partner: MetaTensor, plane: Plane, format_: Format, choices: DicomChoices) -> None:
    """Raise before the fusion what the writers of DICOM would raise after it, as far as it is known."""
    if format_ is Format.NIFTI:
        return
    from medfuse import dicom
    from medfuse.volume import grid_of, source_of

    if plane == "native":
        columns, rows, _ = grid_of(mri).straightened().shape
        dicom.require_compressible(choices.options.compression, rows, columns)
    if choices.as_media:
        dicom.require_listable(choices.options.identity or dicom.Identity.of(mri, source_of(partner)))
    if choices.with_partner:
        dicom.require_measurable(partner)


def _require_usable(
    template: Path | None, identity: list[str] | None, deidentify: bool, bits: int, luma_of: tuple[Path, ...]
) -> None:
    """Raise a usage error where options contradict each other, have no such value, or nothing to be used for."""
    if luma_of:
        from medfuse import nifti

        if not any(map(nifti.is_nifti, luma_of)):
            raise typer.BadParameter(
                "--luma says how colours of NIfTI are read, but neither study is NIfTI, and colours of DICOM are never "
                "measured values; leave it out."
            )
    if bits not in (8, 16):
        raise typer.BadParameter(f"a grey picture has 8 or 16 bits; found {bits}.")
    if template is not None and identity:
        raise typer.BadParameter("give --template or --identity, not both: each names the patient of the result.")
    if identity and deidentify:
        raise typer.BadParameter(
            "give --identity or --deidentify, not both: one names a patient, the other removes the name."
        )
    if not all("=" in text for text in identity or ()):
        raise typer.BadParameter("expected --identity KEYWORD=VALUE, such as PatientID=17; an equals sign is missing.")
    keywords = [text.split("=", 1)[0] for text in identity or ()]
    if len(set(keywords)) < len(keywords):
        raise typer.BadParameter("expected each keyword of --identity once; one is given twice. Leave one of them out.")


def _require_dicom_output(format_: Format, asked: tuple[object, ...]) -> None:
    """Raise a usage error where one of `DICOM_ONLY` was asked for, and no DICOM is written."""
    given = zip(DICOM_ONLY, asked, strict=True)
    of_no_use = [option for option, value in given if value is not None and value is not False and value != []]
    if of_no_use and format_ is Format.NIFTI:
        raise typer.BadParameter(
            f"expected no {of_no_use[0]} with --format nifti, which writes no DICOM; leave that out, or give "
            "--format both."
        )


def _identity(
    template: Path | None, identity: list[str] | None, hidden: dicom.Deidentifier | None
) -> dicom.Identity | None:
    from medfuse import dicom

    if template is not None:
        source = dicom.read_source(template)
        return dicom.Identity.of(source if hidden is None else hidden.source(source))
    if not identity:
        return None
    return dicom.Identity.given(dict(text.split("=", 1) for text in identity))
