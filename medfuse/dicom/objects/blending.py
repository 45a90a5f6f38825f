"""Write a Blending Softcopy Presentation State: how to view MRI and partner together (PS3.3 A.33.4).

No pixels: it names the slices of the MRI, in grey below, and those of the registered partner, in colours above, each in
the window that the fusion used. Both lie in one frame of reference, so that a viewer needs no registration.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.uid import BlendingSoftcopyPresentationStateStorage

from medfuse.dicom.decimals import decimals
from medfuse.dicom.frames.enhanced import group_of
from medfuse.dicom.frames.frame import rescale_of
from medfuse.dicom.header import quiet
from medfuse.dicom.palettes import describe_palette
from medfuse.dicom.reading.volume import DicomSource
from medfuse.dicom.writing.compression import save
from medfuse.dicom.writing.identity import Identity
from medfuse.dicom.writing.image_modules import srgb_profile
from medfuse.dicom.writing.options import DicomOptions
from medfuse.dicom.writing.references import item, reference
from medfuse.dicom.writing.series_modules import begin_object, name_series, series_number
from medfuse.errors import ExportError
from medfuse.provenance import Provenance
from medfuse.runtime.output.atomic_output import atomic_folder, require_outside
from medfuse.volume import Source

BLENDING_AFTER_FUSED = 3000
"""Added to the SeriesNumber of a fused series."""

PALETTE = "hot-iron"
"""Colours of a partner that was fused in grey."""

OPACITY = 0.5
"""The partner's share of each pixel."""


def write_blending(
    out: str | Path,
    *,
    mri: Source | None,
    partner: str | Path,
    provenance: Provenance,
    description: str | None = None,
    number: int | None = None,
    overwrite: bool = False,
) -> None:
    """Write the presentation state of an MRI and the registered partner into the partner's study.

    Parameters
    ----------
    out
        Folder to appear, with the file ``0001.dcm``.
    mri
        The source of the MRI.
    partner
        Folder that `write_partner` wrote.
    provenance
        What was done; it holds windows and palette.
    description, number, overwrite
        As in `DicomOptions` and `write_series`.

    Raises
    ------
    ExportError
        If `unblendable` says why; or if the folder is taken or cannot be written.
    """
    out, partner = Path(out), Path(partner)
    registered = _headers(partner)
    reason = unblendable(mri, partner)
    if reason is not None or not isinstance(mri, DicomSource):
        raise ExportError(f"{reason} Leave the presentation state out.")
    require_outside(out, [mri.path, partner])
    first = registered[0]
    with quiet():
        dataset = _header(first)
        name = f"BLENDING {provenance.partner_modality} over MR"
        options = DicomOptions(description=description, number=number)
        name_series(dataset, options, name, series_number(mri.first) + BLENDING_AFTER_FUSED)
        shown = provenance.mri_window.linear
        below = _item("UNDERLYING", mri.headers, _rescales(mri).pop(), "US", shown.level, shown.width)
        # NM has no rescale, and its window is one of stored numbers.
        rescale = float(first.get("RescaleSlope", 1)), float(first.get("RescaleIntercept", 0))
        window = float(first.WindowCenter), float(first.WindowWidth)
        above = _item("SUPERIMPOSED", registered, rescale, first.get("RescaleType", "US"), *window)
        dataset.BlendingSequence = [below, above]
        dataset.RelativeOpacity = OPACITY
        dataset.DisplayedAreaSelectionSequence = [_area(mri)]
        describe_palette(dataset, provenance.palette or PALETTE)
        dataset.ICCProfile = srgb_profile()
    with atomic_folder(out, overwrite) as folder, quiet():
        folder.mkdir()
        save(dataset, folder / "0001.dcm")


def unblendable(mri: Source | None, partner: str | Path) -> str | None:
    """Why an MRI and the registered partner in a folder cannot be blended, in a sentence; None where they can."""
    if not isinstance(mri, DicomSource):
        return "A presentation state shows DICOM series; the MRI is not one."
    if not mri.frame_of_reference or mri.frame_of_reference != _headers(Path(partner))[0].get("FrameOfReferenceUID"):
        return "MRI and registered partner share no frame of reference, so that no viewer can overlay them."
    if len({frame for parts in mri.slices for frame in parts}) < len(mri.slices):
        return "The MRI is a mosaic, whose slices a presentation state cannot name."
    if len(_rescales(mri)) > 1:
        return "The MRI's slices differ in their rescale, and a presentation state can hold one."
    return None


def _headers(partner: Path) -> list[Dataset]:
    with quiet():
        headers: list[Dataset] = [dcmread(path, stop_before_pixels=True) for path in sorted(partner.glob("*.dcm"))]
    if not headers:
        raise ExportError(f"expected the registered partner in {partner}, found no DICOM file; write it first.")
    return headers


def _rescales(mri: DicomSource) -> set[tuple[float, float]]:
    """Slope and intercept of the MRI's slices, each pair once."""
    found = set()
    for header, frame in {part for parts in mri.slices for part in parts}:
        whole_file = mri.headers[header]
        own = group_of(whole_file, frame - 1, "PixelValueTransformationSequence") if frame else whole_file
        found.add(rescale_of(own if "RescaleSlope" in own else whole_file))
    return found


def _header(partner: Dataset) -> Dataset:
    person = Identity(partner).elements()
    for keyword in ("FrameOfReferenceUID", "PositionReferenceIndicator", "PatientPosition"):
        person.pop(keyword, None)  # of images alone
    kind, description = BlendingSoftcopyPresentationStateStorage, "Registered partner over MR"
    dataset = begin_object(person, kind, "PresentationCreation", "BLENDING", description)
    dataset.Modality = "PR"
    return dataset


def _item(
    position: str, headers: Sequence[Dataset], rescale: tuple[float, float], kind: str, level: float, width: float
) -> Dataset:
    """One of the two sets of images (PS3.3 C.11.14), and how its stored numbers become grey.

    The latter replaces what the images say themselves (PS3.4 N.2).
    """
    images = [*map(reference, headers)]
    series = item(SeriesInstanceUID=headers[0].SeriesInstanceUID, ReferencedImageSequence=images)
    slope, intercept, centre, width_said = decimals([*rescale, level, width])
    return item(
        BlendingPosition=position,
        StudyInstanceUID=headers[0].StudyInstanceUID,
        ReferencedSeriesSequence=[series],
        RescaleSlope=slope,
        RescaleIntercept=intercept,
        RescaleType=kind,
        SoftcopyVOILUTSequence=[item(WindowCenter=centre, WindowWidth=width_said)],
    )


def _area(mri: DicomSource) -> Dataset:
    """All of each MR slice; spacings in mm (PS3.3 C.10.4)."""
    columns, rows, _ = mri.grid.shape
    along_columns, along_rows, _ = mri.grid.spacing
    return item(
        ReferencedImageSequence=[*map(reference, mri.headers)],
        DisplayedAreaTopLeftHandCorner=[1, 1],
        DisplayedAreaBottomRightHandCorner=[columns, rows],
        PresentationSizeMode="SCALE TO FIT",
        PresentationPixelSpacing=decimals([along_rows, along_columns]),
    )
