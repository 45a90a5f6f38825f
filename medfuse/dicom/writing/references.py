"""Refer to the source instances and frames that each fused slice was computed from, and to the machines used."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code

from medfuse.dicom.reading.volume import DicomSource
from medfuse.dicom.writing.identity import copy_elements
from medfuse.provenance import DISCLAIMER
from medfuse.volume.grid import Grid

SOURCE_IMAGE = Code("121322", "DCM", "Source image for image processing operation")
ACQUISITION_EQUIPMENT = Code("109101", "DCM", "Acquisition Equipment")
PROCESSING_EQUIPMENT = Code("109102", "DCM", "Processing Equipment")
SPATIAL_RESAMPLING: Code = codes.DCM.SpatialResampling


def item(**elements: object) -> Dataset:
    """An item of a sequence, its elements by keyword."""
    dataset = Dataset()
    for keyword, value in elements.items():
        setattr(dataset, keyword, value)
    return dataset


def coded(code: Code) -> list[Dataset]:
    """One code as a sequence of one item; more than 16 characters are a LongCodeValue (PS3.3 8.1)."""
    value = {"CodeValue" if len(code.value) <= 16 else "LongCodeValue": code.value}
    return [item(**value, CodingSchemeDesignator=code.scheme_designator, CodeMeaning=code.meaning)]


@dataclass(frozen=True)
class Contribution:
    """One source of a fused series.

    ``to_source`` maps points of the fused volume's world to the source's, RAS+ mm; ``preserved`` says whether that
    moves nothing.
    """

    source: DicomSource
    to_source: npt.NDArray[np.float64]
    preserved: bool

    def slices(self, grid: Grid, k: int) -> range:
        """Which slices of the source the fused slice ``k`` was interpolated from."""
        i, j, _ = grid.shape
        corners = np.array([(a, b, k) for a in (0, i - 1) for b in (0, j - 1)], dtype=np.float64)
        world = grid.world(corners) @ self.to_source[:3, :3].T + self.to_source[:3, 3]
        heights = self.source.grid.index(world)[:, 2]
        last = self.source.grid.shape[2] - 1
        # A slice that coincides with a stored one, but for rounding, was computed from that one alone.
        first_used = int(np.clip(np.floor(heights.min() + 1e-3), 0, last))
        last_used = int(np.clip(np.ceil(heights.max() - 1e-3), first_used, last))
        return range(first_used, last_used + 1)

    def source_images(self, grid: Grid, slices: list[int]) -> list[Dataset]:
        """Items of SourceImageSequence for the fused slices of one instance, one a file (PS3.3 C.7.6.1.1.4)."""
        files: dict[int, set[int]] = {}
        for used in sorted({used for k in slices for used in self.slices(grid, k)}):
            for header, frame in self.source.slices[used]:
                files.setdefault(header, set()).update(() if frame is None else (frame,))
        items = []
        for header, frames in files.items():
            image = reference(self.source.headers[header])
            image.PurposeOfReferenceCodeSequence = coded(SOURCE_IMAGE)
            image.SpatialLocationsPreserved = "YES" if self.preserved else "NO"
            if frames:
                image.ReferencedFrameNumber = sorted(frames)
            items.append(image)
        return items


def refer(dataset: Dataset, contributions: list[Contribution], grid: Grid, slices: list[int]) -> None:
    """Write what the slices of an instance were computed from into its dataset, sources of another study apart."""
    sources: list[Dataset] = []
    series: list[tuple[Dataset, list[Dataset]]] = []
    for contribution in contributions:
        images = contribution.source_images(grid, slices)
        sources.extend(images)
        series.append((contribution.source.first, [*map(_bare, images)]))
    if sources:
        dataset.SourceImageSequence = sources
    refer_to_series(dataset, series)


def refer_to_series(dataset: Dataset, series: Iterable[tuple[Dataset, list[Dataset]]]) -> None:
    """The Common Instance Reference module (PS3.3 C.12.2): series of this study, and of others apart.

    Each series comes as one of its headers and the references to its instances.
    """
    here: list[Dataset] = []
    elsewhere: list[Dataset] = []
    for header, references in series:
        one = item(SeriesInstanceUID=header.SeriesInstanceUID, ReferencedInstanceSequence=references)
        study = header.get("StudyInstanceUID")
        if study == dataset.StudyInstanceUID:
            here.append(one)
        elif study:
            elsewhere.append(item(StudyInstanceUID=study, ReferencedSeriesSequence=[one]))
    if here:
        dataset.ReferencedSeriesSequence = here
    if elsewhere:
        dataset.StudiesContainingOtherReferencedInstancesSequence = elsewhere


def reference(header: Dataset) -> Dataset:
    """The reference to an instance by its class and UID."""
    return item(ReferencedSOPClassUID=header.SOPClassUID, ReferencedSOPInstanceUID=header.SOPInstanceUID)


def _bare(image: Dataset) -> Dataset:
    """A reference without what it is referred to for."""
    return item(**{name: image[name].value for name in ("ReferencedSOPClassUID", "ReferencedSOPInstanceUID")})


def equipment(contributions: list[Contribution], software: str, did: str) -> list[Dataset]:
    """Scanners that acquired the sources, as far as they name a manufacturer, and medfuse and what it did.

    The items of ContributingEquipmentSequence (PS3.3 C.12.1).
    """
    items = []
    for contribution in contributions:
        header = contribution.source.first
        if header.get("Manufacturer"):
            acquired = f"Acquired the {contribution.source.modality} series"
            scanner = item(
                PurposeOfReferenceCodeSequence=coded(ACQUISITION_EQUIPMENT), ContributionDescription=acquired
            )
            copy_elements(header, scanner, ("Manufacturer", "ManufacturerModelName", "SoftwareVersions"))
            items.append(scanner)
    medfuse = item(
        PurposeOfReferenceCodeSequence=coded(PROCESSING_EQUIPMENT),
        Manufacturer="medfuse",
        ManufacturerModelName="medfuse",
        SoftwareVersions=software,
        ContributionDescription=f"{did} {DISCLAIMER}",
    )
    return [*items, medfuse]
