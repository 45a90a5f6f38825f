"""Write what a fusion gives into a folder, and say what was written where."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medfuse.cli.console import describe, print_json, stdout
from medfuse.cli.options.choices import DicomChoices, Format
from medfuse.provenance import DISCLAIMER
from medfuse.runtime.progress import Progress, part_of
from medfuse.volume.modality import TRAITS

if TYPE_CHECKING:
    from medfuse.pipeline.fused_study import FusedStudy

RESULTS = (
    *("dicom", "partner", "registration", "registration.h5", "registration.tfm", "blending", "media"),
    *("fused.nii.gz", "fused.json", "partner.nii.gz", "partner.json", "dataset_description.json", "report.html"),
    *("attribution", "attribution.nii.gz", "attribution.json"),
)


def write_results(study: FusedStudy, folder: Path, format_: Format, progress: Progress, choices: DicomChoices) -> None:
    """Write the results of a command into a folder."""
    from medfuse import dicom, nifti

    if format_ in (Format.DICOM, Format.BOTH):
        study.write_dicom(
            folder / "dicom",
            options=choices.options,
            keep=format_ is Format.BOTH or choices.report,
            progress=part_of(progress, 0, 0.9, "DICOM") if format_ is Format.BOTH else progress,
        )
    if choices.with_partner and format_ is Format.NIFTI:
        study.write_partner_nifti(folder / "partner.nii.gz", progress=progress)
        deforms = study.registration.warp is not None
        study.registration.save(folder / ("registration.h5" if deforms else "registration.tfm"))
    elif choices.with_partner:
        study.write_partner(folder / "partner", options=choices.options.for_partner(), progress=progress)
        if study.registration.warp is not None:  # which no DICOM object of ours holds
            study.registration.save(folder / "registration.h5")
        elif dicom.both_placed(*study.sources):
            study.write_alignment(folder / "registration")
        if dicom.unblendable(study.sources[0], folder / "partner") is None:
            study.write_blending(folder / "blending", folder / "partner")
    if choices.attribution:
        found = study.attribution(progress=progress)
        if format_ in (Format.DICOM, Format.BOTH):
            study.write_attribution(folder / "attribution", found, options=choices.options.for_partner())
        if format_ in (Format.NIFTI, Format.BOTH):
            study.write_attribution(folder / "attribution.nii.gz", found)
    if choices.as_media:
        folders = [folder / name for name in RESULTS if (folder / name).is_dir()]
        dicom.write_media(folder / "media", folders)
        for entry in folders:
            shutil.rmtree(entry)
    if format_ in (Format.NIFTI, Format.BOTH):
        study.write_nifti(folder / "fused.nii.gz", progress=progress)
        (folder / "dataset_description.json").write_text(json.dumps(nifti.dataset_description(), indent=2) + "\n")
    if choices.report:
        study.write_report(folder / "report.html", progress=progress)


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
    "report": "report.html",
    "attribution": "attribution",
    "attribution_nifti": "attribution.nii.gz",
    "study": "study",
    "picture": "picture.png",
}
"""What ``--json`` calls the results, and their names in the folder."""


def summary(study: FusedStudy, out: Path, written: list[str]) -> dict[str, Any]:
    """Say what was written where, and how it was made, in the words of ``--json``."""
    places = {name: str(out / entry) for name, entry in ENTRIES.items() if entry in written}
    provenance = study.provenance
    made = {"verdict": provenance.alignment, "window": provenance.partner_range, "provenance": provenance.to_dict()}
    return {"out": str(out)} | places | {"grid": describe(study.slices.grid)} | made


def print_result(result: dict[str, Any], as_json: bool) -> None:
    """Print what `summary` says, for people or as JSON."""
    if as_json:
        print_json(result)
        return
    for name in ENTRIES:
        if name in result:
            stdout.print(f"{name:9} {result[name]}", soft_wrap=True, highlight=False, markup=False)
    stdout.print(f"{'align':9} {result['verdict']}", highlight=False, markup=False, soft_wrap=True)
    made = result["provenance"]
    label = TRAITS[made["partner_modality"]].label
    stdout.print(f"{'window':9} {label} {result['window']}", highlight=False, markup=False, soft_wrap=True)
    for name, value in (("method", made["method"]["name"]), ("engine", made["engine"])):
        if value is not None:
            stdout.print(f"{name:9} {value}", highlight=False, markup=False, soft_wrap=True)
    stdout.print(DISCLAIMER, style="dim")
