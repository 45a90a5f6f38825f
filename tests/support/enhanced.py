"""Enhanced multi-frame files, made from classic slices: functional groups instead of one header a slice."""

from __future__ import annotations

import copy
import random
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pydicom
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence as Items
from pydicom.uid import (
    EnhancedCTImageStorage,
    EnhancedMRImageStorage,
    EnhancedPETImageStorage,
    LegacyConvertedEnhancedCTImageStorage,
    LegacyConvertedEnhancedMRImageStorage,
    LegacyConvertedEnhancedPETImageStorage,
)

CLASSES = {"MR": EnhancedMRImageStorage, "CT": EnhancedCTImageStorage, "PT": EnhancedPETImageStorage}
LEGACY = {
    "MR": LegacyConvertedEnhancedMRImageStorage,
    "CT": LegacyConvertedEnhancedCTImageStorage,
    "PT": LegacyConvertedEnhancedPETImageStorage,
}
FRAME_TYPES = {"MR": "MRImageFrameTypeSequence", "CT": "CTImageFrameTypeSequence", "PT": "PETFrameTypeSequence"}

Change = Callable[[Dataset, int], object]
"""Edits the functional groups of a frame; told which of the volumes the frame is of."""


def one(**attributes: object) -> Items:
    item = Dataset()
    for keyword, value in attributes.items():
        setattr(item, keyword, value)
    return Items([item])


def enhance(
    folders: Sequence[Path],
    path: Path,
    change: Change | None = None,
    *,
    shuffled: bool = False,
    classes: Mapping[str, str] = CLASSES,
) -> Path:
    """Write the classic slices of several folders as one enhanced file; orientation and spacing are shared."""
    slices = [
        (volume, pydicom.dcmread(file)) for volume, folder in enumerate(folders) for file in sorted(folder.iterdir())
    ]
    if shuffled:
        random.Random(5).shuffle(slices)
    first = slices[0][1]
    modality = first.Modality
    whole = copy.deepcopy(first)
    for keyword in ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "SliceThickness"):
        delattr(whole, keyword)
    for keyword in ("RescaleSlope", "RescaleIntercept", "RescaleType", "Units", "SpacingBetweenSlices"):
        if keyword in whole:
            delattr(whole, keyword)
    whole.SOPClassUID = whole.file_meta.MediaStorageSOPClassUID = classes[modality]
    whole.ImageType = ["ORIGINAL", "PRIMARY", "VOLUME", "NONE"]
    whole.NumberOfFrames = len(slices)
    whole.SharedFunctionalGroupsSequence = one(
        PlaneOrientationSequence=one(ImageOrientationPatient=first.ImageOrientationPatient),
        PixelMeasuresSequence=one(PixelSpacing=first.PixelSpacing, SliceThickness=first.SliceThickness),
    )
    groups = []
    for number, (volume, header) in enumerate(slices):
        place = int(header.InstanceNumber)
        group = Dataset()
        group.FrameContentSequence = one(
            StackID="1",
            InStackPositionNumber=place,
            TemporalPositionIndex=volume + 1,
            DimensionIndexValues=[1, place, volume + 1],
            FrameAcquisitionNumber=number + 1,
        )
        group.PlanePositionSequence = one(ImagePositionPatient=header.ImagePositionPatient)
        group.PixelValueTransformationSequence = one(
            RescaleSlope=header.get("RescaleSlope", "1"),
            RescaleIntercept=header.get("RescaleIntercept", "0"),
            RescaleType={"CT": "HU", "MR": "US", "PT": "BQML"}[modality],
        )
        setattr(group, FRAME_TYPES[modality], one(FrameType=["ORIGINAL", "PRIMARY", "VOLUME", "NONE"]))
        if change:
            change(group, volume)
        groups.append(group)
    whole.PerFrameFunctionalGroupsSequence = Items(groups)
    whole.PixelData = np.stack([header.pixel_array for _, header in slices]).tobytes()
    path.parent.mkdir(parents=True, exist_ok=True)
    whole.save_as(path)
    return path
