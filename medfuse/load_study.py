"""Load a volume from DICOM or NIfTI, and check that two volumes are a pair of one patient."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import cast

from monai.data.meta_tensor import MetaTensor

from medfuse import dicom, nifti
from medfuse.dicom.patient import name_different_patients
from medfuse.dicom.reading.volume import DicomSource
from medfuse.dicom.scanning.completeness import WHAT_TO_DO
from medfuse.dicom.scanning.find_files import Place, places_named
from medfuse.errors import SeriesError, StudyError
from medfuse.runtime.progress import Progress, step_of
from medfuse.runtime.torch_settings import default_settings
from medfuse.volume import (
    MODALITIES,
    PARTNER_LABELS,
    PARTNERS,
    TRAITS,
    Source,
    meta_of,
    modality_named,
    plain,
    source_of,
)

log = logging.getLogger(__name__)

LIKELY_CT_AIR = -500.0
"""An MRI has no reason to hold values this low; CT air does."""


def _place(path: Place) -> Place:
    """The place as it was given, one path out of a list of one; `SeriesError` where it is none, or empty."""
    if isinstance(path, str) and not path:  # as a path, it would be the current folder
        raise SeriesError("expected a path; found an empty text. Give the folder or the file of a study.")
    if isinstance(path, str | Path):
        return path
    paths = list(path) if isinstance(path, Iterable) and not isinstance(path, bytes) else [path]
    wrong = next((one for one in paths if not isinstance(one, str | Path)), "")
    if not isinstance(wrong, str):
        raise SeriesError(
            f"expected a path, or a list of paths, as str or pathlib.Path; found an object of type "
            f"{type(wrong).__name__}. Give the folder or the file of a study."
        )
    return paths[0] if len(paths) == 1 else paths


@default_settings()
def load(
    path: Place,
    modality: str | Sequence[str] | None = None,
    series: str | None = None,
    *,
    volume: int | None = None,
    luma: bool = False,
    fill_gaps: bool = False,
    accept_cut: bool = False,
    progress: Progress | None = None,
) -> MetaTensor:
    """Load one volume from DICOM files, or a NIfTI file.

    Parameters
    ----------
    path
        A folder that holds a DICOM series, a DICOMDIR, a zip archive, one DICOM file or a list of such; or a NIfTI
        file: .nii, .nii.gz, or .hdr with .img.
    modality
        MR, CT, PT or NM, or as people say MRI, PET or SPECT; or several that it may be. One is needed for NIfTI, which
        does not say. DICOM must agree with it; a folder with several series is searched for the only one of it.
    series
        SeriesInstanceUID or SeriesNumber, where a folder holds several series; with ``:2`` for the second volume of a
        series that holds several.
    volume
        Which volume of a 4-D NIfTI file, counted from 0.
    luma
        Read the colours of a NIfTI file (RGB24) as their brightness, 0 to 255, instead of refusing them; a file without
        colours is refused.
    fill_gaps
        Interpolate where slices of a DICOM series are missing or unevenly spaced, instead of refusing it; provenance
        says how many slices were.
    accept_cut
        Load what there is of a DICOM series whose headers speak of more slices, instead of refusing it; provenance says
        so. Slices from the middle of a PET series, without its first and its last, are loaded in any case, for their
        values can be measured; a warning is logged, and they are not fused unless this was given.
    progress
        Called with the step ``load``: the share of a DICOM series' slices read.

    Returns
    -------
    MetaTensor
        (1, X, Y, Z) float32 in the source's unit. ``affine`` is voxel index → RAS+ mm; ``meta`` holds ``modality``,
        ``unit`` and ``source``, which keeps the headers.

    Raises
    ------
    SeriesError
        If the files do not form exactly one volume.
    GeometryError
        If the volume's place in the patient is unknown.
    StudyError
        If the modality is missing or contradicts the header.
    """
    path = _place(path)
    one = isinstance(modality, str) or not isinstance(modality, Iterable)
    named: Iterable[str] = (cast("str", modality),) if one else cast("Iterable[str]", modality)
    wanted = tuple(map(modality_named, named)) if modality else MODALITIES
    if isinstance(path, str | Path):
        nifti.require_known_name(path)
    if isinstance(path, str | Path) and nifti.is_nifti(path):
        if len(wanted) != 1:
            raise StudyError(
                f"{path} is NIfTI, which does not say its modality; state it: --modality CT, PET or SPECT, in Python "
                'modality="MR", "CT", "PET" or "SPECT".'
            )
        if series is not None:
            raise StudyError(f"{path} is NIfTI and holds no series to choose from; leave the series out.")
        loaded = nifti.read(path, wanted[0], volume, luma=luma)
        step_of(progress, "load")(1.0)
        return loaded
    if luma:
        raise StudyError(f"{places_named(path)} is DICOM, whose colours are never measured values; leave luma out.")
    if volume is not None:
        raise StudyError(
            f"{places_named(path)} is DICOM, whose volumes are chosen by series; leave the volume out and name the "
            "series."
        )
    try:
        loaded = dicom.read(
            path,
            series,
            modalities=wanted if modality else (),
            fill_gaps=fill_gaps,
            accept_cut=accept_cut,
            progress=progress,
        )
    except SeriesError as error:
        raise _instead(path, error) from error
    source = source_of(loaded)
    if source is not None and source.excerpt:
        log.warning("%s.", source.excerpt)
    found = meta_of(loaded)["modality"]
    if found not in wanted:
        either = " or ".join(filter(None, (", ".join(wanted[:-1]), wanted[-1])))
        raise StudyError(
            f"expected {either} in {places_named(path)}, found {found}; give the other study, or swap the two."
        )
    return loaded


def _instead(path: Place, error: SeriesError) -> SeriesError:
    """What to say of a folder or an archive without DICOM images: what it holds instead; else the error itself."""
    if not isinstance(path, str | Path) or not Path(path).exists():
        return error
    other = nifti.what_else(path)
    if not other:
        return error
    found = dicom.scan(path)
    return error if found.series or found.damaged else SeriesError(other)


def require_pair(mri: MetaTensor, partner: MetaTensor, *, different_patients: bool = False) -> None:
    """Raise `StudyError` unless the first is an MRI and the second a CT, PET or SPECT of the same patient, both whole.

    Parameters
    ----------
    mri, partner
        Volumes as `load` returns them.
    different_patients
        Accept studies whose headers name different patients, such as exports that were de-identified separately.
    """
    require_whole(mri, partner)
    first, second = meta_of(mri), meta_of(partner)
    if first["modality"] in PARTNERS:
        hint = "give an MRI first" if second["modality"] in PARTNERS else "swap the two"
        raise StudyError(f"expected an MRI as the first study, found {first['modality']}; {hint}.")
    if second["modality"] not in PARTNERS:
        raise StudyError(f"expected a {PARTNER_LABELS} as the second study, found another MR; give the partner study.")
    if "HU" in TRAITS[second["modality"]].units and second["unit"] != "HU" and float(plain(mri).min()) < LIKELY_CT_AIR:
        raise StudyError("the MRI holds values as low as air in CT, and the CT does not; swap the two studies.")
    require_one_patient(mri, partner, different_patients=different_patients)


def require_whole(*volumes: MetaTensor) -> None:
    """Raise `StudyError` if a volume is an excerpt of a series, of which nobody said that no more is meant."""
    for volume in volumes:
        source = source_of(volume)
        if source is not None and source.excerpt:
            raise StudyError(f"{source.excerpt}. {WHAT_TO_DO}")


def require_one_patient(one: MetaTensor, two: MetaTensor, *, different_patients: bool = False) -> None:
    """Raise `StudyError` if two volumes are the same, or their headers name different patients; see `require_pair`."""
    source, other = source_of(one), source_of(two)
    if source is not None and other is not None:
        if source.path.resolve() == other.path.resolve() and source.references == other.references:
            raise StudyError(f"both studies are the same, {source.path}; give two studies of one patient.")
        if not different_patients and _of_different_patients(source, other):
            raise StudyError(
                "the headers of the two studies name different patients; give two studies of one patient, or say that "
                "the identities may differ (different_patients=True, --different-patients)."
            )


def _of_different_patients(source: Source, other: Source) -> bool:
    if not isinstance(source, DicomSource) or not isinstance(other, DicomSource):
        return False
    return name_different_patients(source.first, other.first)
