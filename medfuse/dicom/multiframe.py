"""One file for all slices of a picture: multi-frame Secondary Capture (PS3.3 A.8.3 to A.8.5).

Fewer programs read it than single slices, and some without its place; so it is written on request alone.
"""

from __future__ import annotations

from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.tag import Tag
from pydicom.uid import (
    MultiFrameGrayscaleByteSecondaryCaptureImageStorage,
    MultiFrameGrayscaleWordSecondaryCaptureImageStorage,
    MultiFrameTrueColorSecondaryCaptureImageStorage,
    generate_uid,
)

from medfuse.dicom.references import SPATIAL_RESAMPLING, Contribution, coded, refer_to_series, reference
from medfuse.grid import Grid

COLOUR = MultiFrameTrueColorSecondaryCaptureImageStorage
GREY = {
    8: MultiFrameGrayscaleByteSecondaryCaptureImageStorage,
    16: MultiFrameGrayscaleWordSecondaryCaptureImageStorage,
}
"""By the number of bits."""

MULTIFRAME_PICTURES = (COLOUR, *GREY.values())

PLANE = ("ImageOrientationPatient", "PixelSpacing", "SliceThickness")
"""What `place` said of the whole, and frames say in groups of their own."""


def place_frames(
    dataset: Dataset,
    grid: Grid,
    order: list[int],
    positions: list[list[str]],
    contributions: list[Contribution],
) -> None:
    """Say where each frame lies and what it was computed from (PS3.3 C.7.6.16, C.7.6.17).

    ``order`` are the slices of the grid in the order of frames, ``positions`` their ImagePositionPatient.
    """
    shared = Dataset()
    shared.PixelMeasuresSequence = _item(PixelSpacing=dataset.PixelSpacing, SliceThickness=dataset.SliceThickness)
    shared.PlaneOrientationSequence = _item(ImageOrientationPatient=dataset.ImageOrientationPatient)
    for keyword in PLANE:
        del dataset[keyword]
    dataset.SharedFunctionalGroupsSequence = Sequence([shared])
    dataset.NumberOfFrames = len(order)
    dataset.FrameIncrementPointer = Tag("PerFrameFunctionalGroupsSequence")
    organization = generate_uid(prefix=None)
    dataset.DimensionOrganizationSequence = _item(DimensionOrganizationUID=organization)
    dataset.DimensionOrganizationType = "3D"
    dataset.DimensionIndexSequence = _item(
        DimensionOrganizationUID=organization,
        DimensionIndexPointer=Tag("ImagePositionPatient"),
        FunctionalGroupPointer=Tag("PlanePositionSequence"),
        DimensionDescriptionLabel="Position along the slice normal",
    )
    groups = []
    for number, (k, position) in enumerate(zip(order, positions, strict=True), start=1):
        group = Dataset()
        group.FrameContentSequence = _item(StackID="1", InStackPositionNumber=number, DimensionIndexValues=[number])
        group.PlanePositionSequence = _item(ImagePositionPatient=position)
        sources = [image for one in contributions for image in one.source_images(grid, [k])]
        if sources:
            group.DerivationImageSequence = _item(
                DerivationCodeSequence=coded(SPATIAL_RESAMPLING), SourceImageSequence=Sequence(sources)
            )
        groups.append(group)
    dataset.PerFrameFunctionalGroupsSequence = Sequence(groups)
    refer_to_series(dataset, [(one.source.first, [*map(reference, _used(one, grid, order))]) for one in contributions])


def _used(contribution: Contribution, grid: Grid, order: list[int]) -> list[Dataset]:
    """The headers of a source that any frame was computed from, each once."""
    source = contribution.source
    places = {part[0] for k in order for used in contribution.slices(grid, k) for part in source.slices[used]}
    return [source.headers[place] for place in sorted(places)]


def _item(**attributes: object) -> Sequence:
    item = Dataset()
    for keyword, value in attributes.items():
        setattr(item, keyword, value)
    return Sequence([item])
