"""Store measured values as 16-bit numbers, and describe the way back: rescale, real-world values, units."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, log2

import numpy as np
import numpy.typing as npt
from pydicom.dataset import Dataset
from pydicom.sr.coding import Code
from pydicom.valuerep import format_number_as_ds
from torch import Tensor

from medfuse.dicom.decimals import decimals
from medfuse.dicom.writing.references import coded, item
from medfuse.errors import IntensityError
from medfuse.volume import TRAITS, Modality, Unit

UNIT_CODES: dict[Unit, Code] = {
    "HU": Code("[hnsf'U]", "UCUM", "Hounsfield unit"),
    "Bq/ml": Code("Bq/ml", "UCUM", "Becquerels/milliliter"),
    "SUV": Code("g/ml{SUVbw}", "UCUM", "Standardized Uptake Value body weight"),
    "SUVlbm": Code("g/ml{SUVlbm(Janma)}", "UCUM", "Standardized Uptake Value lean body mass (Janma)"),
    "SUVbsa": Code("cm2/ml{SUVbsa}", "UCUM", "Standardized Uptake Value body surface area"),
    "counts": Code("{counts}", "UCUM", "Counts"),
    "arbitrary": Code("1", "UCUM", "no units"),
}


@dataclass(frozen=True)
class Storage:
    """How values become stored numbers: value = stored × slope + intercept.

    Slope and intercept are powers of two and their multiples where 16 characters hold them, so that every reader
    computes the same value to the last bit.
    """

    slope: float
    intercept: float
    signed: bool

    def encode(self, values: npt.NDArray[np.float32]) -> npt.NDArray[np.uint16] | npt.NDArray[np.int16]:
        """Return the stored numbers, rounded to the nearest."""
        stored = np.rint((values.astype(np.float64) - self.intercept) / self.slope)
        if self.signed:
            return np.clip(stored, -32768, 32767).astype("<i2")
        return np.clip(stored, 0, 65535).astype("<u2")


def choose_storage(values: Tensor, modality: Modality) -> Storage:
    """Choose slope and intercept for a whole volume: whole numbers exactly where they fit, else the full 16 bits.

    Raises
    ------
    IntensityError
        If a value is not finite.
    """
    if not bool(values.isfinite().all()):
        raise IntensityError("the volume holds values that are not finite, which DICOM cannot store; replace them.")
    lowest, highest = float(values.min()), float(values.max())
    traits = TRAITS[modality]
    no_intercept = traits.rescale == "slope"
    if bool((values == values.round()).all()):
        start = min(lowest, traits.outside)
        if highest - start <= 65535 and (start == 0 or not no_intercept):
            return Storage(1.0, start, signed=False)
    if no_intercept and lowest < 0:
        # The intercept of PET is 0 by the Standard (PS3.3 C.8.9.4), so that negative values need the sign.
        return Storage(_slope(max(-lowest, highest) / 32767), 0.0, signed=True)
    start = 0.0 if no_intercept else lowest
    slope = _slope((highest - start) / 65534)
    return Storage(slope, float(decimals([slope * np.floor(start / slope)])[0]), signed=False)


def _slope(least: float) -> float:
    """The power of two that is not below ``least``, as a decimal string can say it."""
    return float(format_number_as_ds(2.0 ** ceil(log2(least)))) if least > 0 else 1.0


def describe_pixels(dataset: Dataset, bits: int, *, signed: bool = False) -> None:
    """Grey pixels that use all of their bits (PS3.3 C.7.6.3)."""
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = bits, bits, bits - 1
    dataset.PixelRepresentation = int(signed)


def describe_storage(dataset: Dataset, storage: Storage, modality: Modality, unit: Unit) -> None:
    """Write the pixel description, the rescale and the unit (PS3.3 C.7.6.3, C.11.1, C.7.6.16.2.11)."""
    describe_pixels(dataset, 16, signed=storage.signed)
    if TRAITS[modality].rescale != "none":
        dataset.RescaleSlope = decimals([storage.slope])[0]
        dataset.RescaleIntercept = decimals([storage.intercept])[0]
    if "HU" in TRAITS[modality].units:
        dataset.RescaleType = "HU" if unit == "HU" else "US"
    mapping = item(
        LUTExplanation="Measured values",
        LUTLabel="VALUES",
        RealWorldValueSlope=storage.slope,
        RealWorldValueIntercept=storage.intercept,
        MeasurementUnitsCodeSequence=coded(UNIT_CODES[unit]),
    )
    ends = (-32768, 32767) if storage.signed else (0, 65535)
    for tag, end in zip((0x00409216, 0x00409211), ends, strict=True):
        mapping.add_new(tag, "SS" if storage.signed else "US", end)
    dataset.RealWorldValueMappingSequence = [mapping]


def describe_window(dataset: Dataset, storage: Storage, modality: Modality, lower: float, upper: float) -> None:
    """Write the window that shows ``lower`` as black and ``upper`` as white, in the units that viewers apply it to."""
    if TRAITS[modality].rescale == "none":
        lower, upper = ((end - storage.intercept) / storage.slope for end in (lower, upper))
    dataset.WindowCenter = decimals([(lower + upper) / 2])[0]
    dataset.WindowWidth = decimals([max(upper - lower, 1.0)])[0]
