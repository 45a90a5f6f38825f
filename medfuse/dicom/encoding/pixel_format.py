"""Read how a file says that it stores its pixels, and refuse what says nothing, contradicts itself, or is colour.

PS3.5 8.1.1 describes the bits of a pixel, PS3.3 C.7.6.3 the elements that say which of them hold its value.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset

from medfuse.dicom.frames.no_volume import NoVolumeError
from medfuse.dicom.header import Instance, items, said

Words = npt.NDArray[np.integer]

ALLOCATED = (8, 16, 32)
"""Bits of the cells that hold measured values."""

GREY = ("MONOCHROME1", "MONOCHROME2")
COLOUR = ("COLOR", "MIXED", "TRUE_COLOR")
"""Values of PixelPresentation whose numbers are, or hold, places in a palette (PS3.3 C.8.16.2.1.1.4)."""


@dataclass(frozen=True)
class PixelFormat:
    """How a file stores its pixels.

    A value occupies the ``stored`` bits below and with bit ``high`` of a cell of ``allocated`` bits, in two's
    complement where ``signed``. ``overlays`` has a bit set for each that an overlay occupies, as old files embed them.
    """

    rows: int
    columns: int
    frames: int
    allocated: int
    stored: int
    high: int
    signed: bool
    overlays: int

    @property
    def pixels(self) -> int:
        """Of one frame."""
        return self.rows * self.columns

    @property
    def frame_bytes(self) -> int:
        """Of one frame, uncompressed."""
        return self.pixels * self.allocated // 8

    @property
    def unused_below(self) -> int:
        """Bits of a cell below the value: none, unless it is left-justified as in ACR-NEMA files."""
        return self.high + 1 - self.stored

    @property
    def range(self) -> tuple[int, int]:
        """The least and the greatest value that it can store."""
        half = 1 << (self.stored - 1)
        return (-half, half - 1) if self.signed else (0, 2 * half - 1)

    def stated(self, number: int) -> int:
        """A stored value as the header states it, which may do so signed for unsigned pixels or the reverse."""
        lowest, _ = self.range
        return (number - lowest) % (1 << self.stored) + lowest


def refusal(
    brief: str, instance: Instance, name: str, found: str, advice: str = "Export the series again."
) -> NoVolumeError:
    """What is wrong with the pixels of one file, in a sentence."""
    return NoVolumeError(brief, f"in instance {instance.number} of {name}, {found}. {advice}")


def pixel_format(instance: Instance, name: str) -> PixelFormat:
    """Read the elements that describe the pixels of a file.

    Raises
    ------
    NoVolumeError
        If they are absent, contradict each other, or say that the pixels are no measured values.
    """
    header = instance.header
    require_grey(instance, name)
    found = {
        keyword: _integer(header, keyword) for keyword in ("Rows", "Columns", "BitsAllocated", "PixelRepresentation")
    }
    for keyword, value in found.items():
        if value is None:
            raise refusal(
                "pixels not described",
                *(instance, name),
                f"{keyword} is absent or no number: how pixels are stored is unknown",
            )
    rows, columns, allocated, sign = (value or 0 for value in found.values())
    high, stored = _integer(header, "HighBit"), _integer(header, "BitsStored")
    stored = (high + 1 if high is not None else allocated) if stored is None else stored
    high = stored - 1 if high is None else high
    for sound, what in (
        (
            rows > 0 and columns > 0,
            f"Rows and Columns are {rows} and {columns}, but a picture has at least one of each",
        ),
        (allocated in ALLOCATED, f"BitsAllocated is {allocated}, but pixels of 8, 16 or 32 bits are read"),
        (0 < stored <= allocated, f"BitsStored is {stored}, but must be from 1 to BitsAllocated {allocated}"),
        (stored - 1 <= high < allocated, f"HighBit is {high}, which {stored} BitsStored of {allocated} cannot have"),
        (sign in (0, 1), f"PixelRepresentation is {sign}, but must be 0 (unsigned) or 1 (signed)"),
    ):
        if not sound:
            raise refusal("contradicting pixel description", instance, name, what)
    overlays = _embedded_overlays(header, allocated)
    if overlays & (((1 << stored) - 1) << (high + 1 - stored)):
        raise refusal(
            "overlay in the values",
            *(instance, name),
            "OverlayBitPosition (60xx,0102) puts an overlay into bits that BitsStored and HighBit give to the value",
        )
    return PixelFormat(rows, columns, _frames(instance, name), allocated, stored, high, bool(sign), overlays)


def stored_values(cells: Words, layout: PixelFormat, instance: Instance, name: str) -> Words:
    """Take the values out of cells, which are changed: bits that the value does not have are left out."""
    size = cells.dtype.itemsize * 8
    below = layout.unused_below
    if below:
        # Where it holds more than an overlay, the value is not where HighBit says.
        spare = np.array(((1 << below) - 1) & ~layout.overlays, dtype=f"u{cells.dtype.itemsize}")
        if np.bitwise_and(cells.view(spare.dtype), spare).any():
            raise refusal(
                "contradicting pixel description",
                *(instance, name),
                f"HighBit {layout.high} and BitsStored {layout.stored} put the value above the lowest {below} bits, "
                "but these are in use",
            )
    if size - 1 - layout.high:
        np.left_shift(cells, size - 1 - layout.high, out=cells)
    if size - layout.stored:
        np.right_shift(cells, size - layout.stored, out=cells)
    return cells


def _integer(header: Dataset, keyword: str) -> int | None:
    """The one whole number of an element; None where it has none."""
    element = header.get_item(keyword)
    # A scan asks this of thousands of files: what is still as it was read is not converted to an element first.
    if isinstance(element, RawDataElement) and element.VR in (None, "US") and len(element.value or b"") == 2:
        return int.from_bytes(element.value or b"", "little" if element.is_little_endian else "big")
    value = header.get(keyword)
    return value if isinstance(value, int) else None


def _frames(instance: Instance, name: str) -> int:
    count = said(instance.header, "NumberOfFrames") or "1"
    if not count.isdecimal() or int(count) < 1:
        raise refusal("NumberOfFrames is no number", instance, name, "NumberOfFrames is no whole number from 1 on")
    return int(count)


def require_grey(instance: Instance, name: str) -> None:
    """One value a pixel, and the value itself: no colour, and no place in a palette."""
    header = instance.header
    stated = said(header, "PhotometricInterpretation")
    presentations = {said(header, "PixelPresentation")}
    for groups in ("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence"):
        for group in items(header, groups):
            for kind in ("MRImageFrameTypeSequence", "CTImageFrameTypeSequence", "PETFrameTypeSequence"):
                presentations.update(said(frame, "PixelPresentation") for frame in items(group, kind))
    if said(header, "SamplesPerPixel") not in ("", "1"):
        what = "SamplesPerPixel says that each pixel has several"
    elif stated and stated.upper() not in GREY:
        what = "PhotometricInterpretation is not MONOCHROME1 or MONOCHROME2"
    elif not stated and header.get_item("RedPaletteColorLookupTableDescriptor") is not None:
        what = "PhotometricInterpretation is absent beside a palette"
    elif not presentations.isdisjoint(COLOUR):
        what = "PixelPresentation says that values are to be shown by a palette"
    else:
        return
    raise NoVolumeError(
        "colour pictures",
        f"{name} holds colour pictures ({what}); a volume of measured values is needed. Choose another series.",
    )


def _embedded_overlays(header: Dataset, allocated: int) -> int:
    """The bits of a cell that overlays occupy, as files of before 2004 could embed them (PS3.3 C.9.2)."""
    bits = 0
    tags = header.keys()
    for group in sorted({tag.group for tag in tags if tag.group >> 8 == 0x60 and not tag.group & 1}):
        # An overlay apart from the pixels has one bit allocated.
        element = header.get((group, 0x0100)), header.get((group, 0x0102))
        size, position = (one.value if one is not None else None for one in element)
        if size == allocated and isinstance(position, int) and 0 <= position < allocated:
            bits |= 1 << position
    return bits
