"""What a header says, read without trust: numbers that are finite, names that can stand in a message."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

import numpy as np
from pydicom.dataset import Dataset
from pydicom.uid import (
    CTImageStorage,
    EnhancedCTImageStorage,
    EnhancedMRImageStorage,
    EnhancedPETImageStorage,
    LegacyConvertedEnhancedCTImageStorage,
    LegacyConvertedEnhancedMRImageStorage,
    LegacyConvertedEnhancedPETImageStorage,
    MRImageStorage,
    NuclearMedicineImageStorage,
    PositronEmissionTomographyImageStorage,
)

from medfuse.volume import Modality

ENHANCED: dict[str, Modality] = {
    EnhancedMRImageStorage: "MR",
    EnhancedCTImageStorage: "CT",
    EnhancedPETImageStorage: "PT",
    LegacyConvertedEnhancedMRImageStorage: "MR",
    LegacyConvertedEnhancedCTImageStorage: "CT",
    LegacyConvertedEnhancedPETImageStorage: "PT",
}
"""SOP classes whose frames are described by functional groups (PS3.3 C.7.6.16)."""

READABLE: dict[str, Modality] = {
    MRImageStorage: "MR",
    CTImageStorage: "CT",
    PositronEmissionTomographyImageStorage: "PT",
    NuclearMedicineImageStorage: "NM",
    **ENHANCED,
}
"""SOP classes that are read, and the modality each means."""


@dataclass(frozen=True)
class Instance:
    """One file of a series: where it lies and its header without pixels.

    ``pixels_at`` is the byte where the header ends and the pixels begin, where that is known; ``kept`` keeps an
    unpacked file there.
    """

    path: Path
    header: Dataset
    pixels_at: int | None = None
    kept: object = field(default=None, compare=False, repr=False)

    @property
    def number(self) -> str:
        """How messages name it: the InstanceNumber, never a file name, which may hold a patient's."""
        return short_text(self.header, "InstanceNumber") or "without number"

    @property
    def sop_class(self) -> str:
        return str(self.header.get("SOPClassUID", ""))

    @property
    def frames(self) -> int:
        """How many frames the file says that it holds; 1 where it does not say."""
        return int(self.header.get("NumberOfFrames") or 1)


def series_name(instances: Sequence[Instance]) -> str:
    """How messages name a series: by its number and modality."""
    header = instances[0].header
    modality = short_text(header, "Modality") or "unknown modality"
    number = short_text(header, "SeriesNumber")
    return f"series {number} ({modality})" if number else f"the {modality} series without a number"


def short_text(header: Dataset, keyword: str) -> str:
    """A short value for a message; nothing where it is no plain code or number, for then it may be anything."""
    try:
        text = str(header.get(keyword, "") or "") if header.get(keyword) != 0 else "0"
    except Exception:  # pydicom converts values where they are first read, and raises many kinds on damaged ones
        return ""
    return text if text.isascii() and text.isalnum() and len(text) <= 12 else ""


def numbers(header: Dataset, keyword: str) -> list[float]:
    """The finite numbers an element holds; none where it is absent or holds anything else."""
    try:
        value = header.get(keyword)
        found = [] if value is None else [float(number) for number in cast("Sequence[float]", value)]
    except Exception:  # as above
        return []
    return found if np.isfinite(found).all() else []


def listed(values: Sequence[float]) -> str:
    """Numbers as DICOM writes them in a row."""
    return "\\".join(f"{value:.4g}" for value in values)
