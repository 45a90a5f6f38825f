"""Place the frames of multi-frame Secondary Capture: one file for all slices of a picture (PS3.3 A.8.3 to A.8.5).

Fewer programs read it than single slices, and some ignore its position; so it is written on request only.
"""

from __future__ import annotations

from pydicom.dataset import Dataset
from pydicom.tag import Tag

from medfuse.dicom.writing.references import item

PLANE = ("ImageOrientationPatient", "PixelSpacing", "SliceThickness")
"""What `place` said of the whole, and frames say in groups of their own."""


def place_frames(dataset: Dataset, positions: list[list[str]]) -> None:
    """Say where each frame lies (PS3.3 C.7.6.16); ``positions`` are their ImagePositionPatient, in order.

    These classes have no group for what a frame alone was computed from: the sources are referred to by the whole file.
    """
    measures = item(PixelSpacing=dataset.PixelSpacing, SliceThickness=dataset.SliceThickness)
    orientation = item(ImageOrientationPatient=dataset.ImageOrientationPatient)
    for keyword in PLANE:
        del dataset[keyword]
    shared = item(PixelMeasuresSequence=[measures], PlaneOrientationSequence=[orientation])
    dataset.SharedFunctionalGroupsSequence = [shared]
    dataset.NumberOfFrames = len(positions)
    dataset.FrameIncrementPointer = Tag("PerFrameFunctionalGroupsSequence")
    dataset.PerFrameFunctionalGroupsSequence = [
        item(PlanePositionSequence=[item(ImagePositionPatient=position)]) for position in positions
    ]
