"""Read single values of a header: finite numbers, and names that may stand in a message."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import numpy as np
from pydicom.datadict import dictionary_VR, tag_for_keyword
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.multival import MultiValue
from pydicom.tag import BaseTag
from pydicom.uid import (
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    MultiFrameGrayscaleByteSecondaryCaptureImageStorage,
    MultiFrameGrayscaleWordSecondaryCaptureImageStorage,
    MultiFrameTrueColorSecondaryCaptureImageStorage,
)

from medfuse.errors import SeriesError
from medfuse.runtime.silence import silence
from medfuse.volume import MODALITIES, TRAITS, Modality

ENHANCED: dict[str, Modality] = {uid: modality for modality in MODALITIES for uid in TRAITS[modality].enhanced_classes}
"""SOP classes whose frames are described by functional groups (PS3.3 C.7.6.16)."""

READABLE: dict[str, Modality] = {TRAITS[modality].sop_class: modality for modality in MODALITIES} | ENHANCED
"""SOP classes that are read, and the modality each means."""

MULTIFRAME_COLOUR = MultiFrameTrueColorSecondaryCaptureImageStorage
MULTIFRAME_GREY = {
    8: MultiFrameGrayscaleByteSecondaryCaptureImageStorage,
    16: MultiFrameGrayscaleWordSecondaryCaptureImageStorage,
}
"""Multi-frame Secondary Capture, grey by the number of bits (PS3.3 A.8.3 to A.8.5)."""

MULTIFRAME_PICTURES = (MULTIFRAME_COLOUR, *MULTIFRAME_GREY.values())

WRITTEN = frozenset({"AE", "AS", "CS", "DA", "DS", "DT", "IS", "LO", "PN", "SH", "TM", "UI"})
"""Value representations that files write out as text, several values joined by backslashes (PS3.5 6.2)."""


UNCOMPRESSED = (ImplicitVRLittleEndian, ExplicitVRLittleEndian, ExplicitVRBigEndian)
"""Transfer syntaxes whose pixels lie in the file as they are; the first two may be told apart by the bytes alone."""


@dataclass(frozen=True)
class PixelElement:
    """The element that holds a file's pixels, as its own bytes say, whatever the file's meta information claims.

    ``start`` is the byte where the value begins, ``length`` how many bytes it has, None where that is undefined, and
    ``available`` how many follow in the file; both counted after inflation where the file is ``deflated``. ``implicit``
    and ``little`` are how the data set was really encoded; ``kind`` is the value representation, empty if implicit.
    """

    start: int
    length: int | None
    available: int
    implicit: bool
    little: bool
    kind: str
    deflated: bool = False


@dataclass(frozen=True)
class Instance:
    """One file of a series: where it lies and its header without pixels.

    ``pixels`` says where in the file Pixel Data (7FE0,0010) lies, None where there is none; ``kept`` keeps an unpacked
    file there.
    """

    path: Path
    header: Dataset
    pixels: PixelElement | None = None
    kept: object = field(default=None, compare=False, repr=False)

    @property
    def number(self) -> str:
        """How messages name it: the InstanceNumber, never a file name, which may hold a patient's."""
        return short_text(self.header, "InstanceNumber") or "without number"

    @property
    def sop_class(self) -> str:
        return said(self.header, "SOPClassUID")

    @property
    def frames(self) -> int:
        """How many frames the file says that it holds; 1 where it does not say. `SeriesError` if it says no number."""
        count = said(self.header, "NumberOfFrames") or "1"
        if not count.isdecimal() or int(count) < 1:
            raise SeriesError(
                f"NumberOfFrames of instance {self.number} is no whole number from 1 on: how many slices it holds is "
                "unknown. Export the series again."
            )
        return int(count)


@cache
def _spelling(keyword: str) -> tuple[BaseTag, bool]:
    """The tag of a keyword, and whether the Standard writes its values as text."""
    tag = tag_for_keyword(keyword)
    if tag is None:
        raise KeyError(keyword)
    return BaseTag(tag), dictionary_VR(tag) in WRITTEN


def texts(header: Dataset, keyword: str) -> list[str]:
    """The values of an element as a file writes them, without padding; none where it is absent or empty.

    A scan asks thousands of headers for dozens of elements each: most of its time would go into pydicom's conversion of
    values that are only compared or shown. Text that is still as it was read is therefore taken as it is.
    """
    tag, written = _spelling(keyword)
    element = header.get_item(tag)
    if element is None:
        return []
    raw = written and isinstance(element, RawDataElement) and isinstance(element.value, bytes)
    # Some writers state another kind of value than the dictionary; those that are binary are left to pydicom.
    if raw and (element.VR in (None, "UN") or element.VR in WRITTEN):
        text = element.value.decode("latin-1").rstrip(" \0")
        return [one.strip() for one in text.split("\\")] if text else []
    value = header.get(keyword)
    if value is None or value == "":
        return []
    return [str(one) for one in (value if isinstance(value, MultiValue | list) else [value])]


def items(header: Dataset, keyword: str) -> Sequence[Dataset]:
    """The items of a sequence; none where it is absent, which needs no search through the dictionary."""
    tag, _ = _spelling(keyword)
    return () if header.get_item(tag) is None else header.get(keyword) or ()


def said(header: Dataset, keyword: str) -> str:
    """The values of an element joined as the Standard writes them; empty where it is absent or empty."""
    return "\\".join(texts(header, keyword))


def code_value(code: Dataset) -> str:
    """The value of a code, also where it is too long for CodeValue (PS3.3 8.1)."""
    return said(code, "CodeValue") or said(code, "LongCodeValue") or said(code, "URNCodeValue")


def transfer_syntax(instance: Instance) -> str:
    """As the file says; where it does not say, or says another uncompressed one than it is in, as it was parsed."""
    meta = getattr(instance.header, "file_meta", None)
    stated = str((meta.get("TransferSyntaxUID") if meta is not None else None) or "")
    if stated and (stated not in UNCOMPRESSED or instance.pixels is None):
        return stated
    pixels = instance.pixels
    implicit, little = (pixels.implicit, pixels.little) if pixels else instance.header.original_encoding
    if implicit:
        return ImplicitVRLittleEndian
    return ExplicitVRLittleEndian if little else ExplicitVRBigEndian


def series_name(instances: Sequence[Instance]) -> str:
    """How messages name a series: by its number and modality."""
    header = instances[0].header
    modality = short_text(header, "Modality") or "unknown modality"
    number = short_text(header, "SeriesNumber")
    return f"series {number} ({modality})" if number else f"the {modality} series without a number"


def short_text(header: Dataset, keyword: str) -> str:
    """A short value for a message; nothing where it is no plain code or number, for then it may be anything."""
    try:
        text = said(header, keyword)
    except Exception:  # pydicom converts values where they are first read, and raises many kinds on damaged ones
        return ""
    return text if text.isascii() and text.isalnum() and len(text) <= 12 else ""


def numbers(header: Dataset, keyword: str) -> list[float]:
    """The finite numbers an element holds; none where it is absent or holds anything else."""
    try:
        found = [float(text) for text in texts(header, keyword)]
    except Exception:  # as above
        return []
    return found if np.isfinite(found).all() else []


def named(keyword: str) -> str:
    """An element as messages name it: its keyword and tag."""
    tag, _ = _spelling(keyword)
    return f"{keyword} ({tag.group:04X},{tag.element:04X})"


def listed(values: Sequence[float]) -> str:
    """Numbers as DICOM writes them in a row."""
    return "\\".join(f"{value:.4g}" for value in values)


@contextmanager
def quiet() -> Iterator[None]:
    """Silence pydicom's remarks on ill-formed headers in this thread: they quote values, which may be a patient's."""
    with silence("pydicom"):
        yield
