"""Read a Modality LUT: the table that turns stored numbers into values where no straight line does (PS3.3 C.11.1)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from pydicom.dataset import Dataset

from medfuse.dicom.frames.no_volume import NoVolumeError
from medfuse.dicom.header import ENHANCED, Instance, items, said
from medfuse.volume import TRAITS

WORD = 1 << 16
"""Descriptors have 16 bits, signed or not as the pixels are, and 0 stands for this many entries."""


MOST_HU = (1 << 15) - 1
"""Even the extended scale of CT, for metal, ends here; as unsigned entries (PS3.3 C.11.1.1), negative HU lie above."""


@dataclass(frozen=True, eq=False)
class ModalityLut:
    """A table of values: that of stored number ``first`` and of those above it; ``kind`` names the values' unit.

    Numbers below and above the table have its first and last value.
    """

    first: int
    values: npt.NDArray[np.int32]
    kind: str

    def __call__(self, stored: npt.NDArray[Any]) -> npt.NDArray[np.int32]:
        return self.values[np.clip(stored.astype(np.int64) - self.first, 0, len(self.values) - 1)]

    def same(self, other: ModalityLut | None) -> bool:
        """Whether both give equal values of one unit to all stored numbers."""
        return (
            other is not None
            and (self.first, self.kind) == (other.first, other.kind)
            and np.array_equal(self.values, other.values)
        )


def modality_lut(instance: Instance, name: str) -> ModalityLut | None:
    """Read the Modality LUT of a file; None where it has none.

    Raises
    ------
    NoVolumeError
        If it is damaged, if a rescale contradicts it, or if the unit of its values cannot be told: PET states its unit
        of rescaled numbers, NM has no such table, and enhanced files rescale each frame.
    """
    found = items(instance.header, "ModalityLUTSequence")
    if instance.header.get_item("ModalityLUTSequence") is None:
        return None
    try:
        if len(found) != 1:
            raise ValueError("ModalityLUTSequence has not one item")
        if any(said(instance.header, keyword) for keyword in ("RescaleSlope", "RescaleIntercept")):
            raise ValueError(
                "ModalityLUTSequence and RescaleSlope or RescaleIntercept both say what stored numbers mean"
            )
        if instance.sop_class in ENHANCED or instance.sop_class in (TRAITS["PT"].sop_class, TRAITS["NM"].sop_class):
            raise ValueError("ModalityLUTSequence has no place in this class, and the unit of its values is not said")
        return _table(
            found[0],
            bool(instance.header.get("PixelRepresentation")),
            instance.header.original_encoding[1] is not False,
        )
    except (ValueError, TypeError) as error:
        why = str(error) if isinstance(error, ValueError) else "ModalityLUTSequence cannot be interpreted"
        raise NoVolumeError(
            "no usable Modality LUT",
            f"in instance {instance.number} of {name}, {why}: what its values mean is unknown. Export the series "
            "again.",
        ) from error


def _table(item: Dataset, signed: bool, little: bool) -> ModalityLut:
    descriptor = item.get("LUTDescriptor")
    content: Any = item.get("LUTData")
    if descriptor is None or content is None or len(descriptor) != 3:
        raise ValueError("LUTDescriptor or LUTData of ModalityLUTSequence is absent or incomplete")
    count, first, bits = (int(number) for number in descriptor)
    count = count % WORD or WORD
    # Files state it unsigned for signed pixels, and the reverse.
    first = first % WORD
    first -= WORD if signed and first >= WORD // 2 else 0
    if not 8 <= bits <= 16:
        raise ValueError(f"LUTDescriptor of ModalityLUTSequence says {bits} bits, but entries have 8 to 16")
    if isinstance(content, bytes):
        byte_order = "<" if little else ">"
        wide = len(content) >= 2 * count
        values = np.frombuffer(content, f"{byte_order}u2" if wide else "u1", len(content) // (2 if wide else 1))
    else:
        values = np.atleast_1d(np.asarray(content))
    if not count <= len(values) <= count + 1:
        raise ValueError(f"LUTData of ModalityLUTSequence has {len(values)} entries, but LUTDescriptor says {count}")
    values = values[:count].astype(np.int32)
    if values.max() >= 1 << bits:
        raise ValueError(f"LUTData of ModalityLUTSequence holds {values.max()}, but LUTDescriptor says {bits} bits")
    kind = said(item, "ModalityLUTType")
    if kind == "HU" and values.max() > MOST_HU:
        raise ValueError(
            f"LUTData of ModalityLUTSequence holds {values.max()} HU, which no CT measures: entries are unsigned, and "
            "negative values in them are something else"
        )
    return ModalityLut(first, values, kind)
