"""Read what a NIfTI file's JSON sidecar says of a PET's uptake, under the names of BIDS and dcm2niix."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path

from medfuse.errors import IntensityError
from medfuse.volume import Unit

PET_FIELDS = (
    *("Units", "TracerRadionuclide", "InjectedRadioactivity", "InjectedRadioactivityUnits", "RadionuclideTotalDose"),
    *("RadionuclideHalfLife", "DecayCorrection", "ImageDecayCorrected", "ImageDecayCorrectionTime", "InjectionStart"),
    *("ScanStart", "FrameTimesStart", "FrameDuration", "PatientWeight"),
)
"""Fields of a PET's JSON sidecar that say what its values mean: BIDS 1.10 (PET), and those that dcm2niix adds."""

BECQUERELS = {"Bq": 1.0, "kBq": 1e3, "MBq": 1e6, "GBq": 1e9, "mCi": 37e6}


def sidecar_path(path: Path) -> Path:
    """The JSON file that belongs to a NIfTI file."""
    length = len(".nii.gz") if path.name.lower().endswith(".gz") else len(".nii")
    return path.with_name(path.name[:-length] + ".json")


def read_pet_sidecar(path: Path) -> dict[str, object]:
    """Read what the JSON sidecar of a PET says of its uptake; nothing where there is none."""
    sidecar = sidecar_path(path)
    if not sidecar.is_file():
        return {}
    try:
        said = json.loads(sidecar.read_text())
    except (OSError, ValueError) as error:
        raise IntensityError(f"{sidecar} is not readable JSON; correct or remove it.") from error
    return {name: said[name] for name in PET_FIELDS if name in said} if isinstance(said, dict) else {}


def is_activity(said: Mapping[str, object]) -> bool:
    """Whether the values are in Bq/ml, in the spelling of BIDS or of DICOM."""
    return str(said.get("Units", "")).replace("/", "").upper() == "BQML"


def suv_factor(said: Mapping[str, object], unit: Unit, weight_kg: float | None = None) -> float:
    """What a PET volume's values are multiplied by to become SUV (body weight), g/ml, by what its sidecar says.

    Raises
    ------
    IntensityError
        If the sidecar does not say what the factor is made of.
    """
    if unit != "Bq/ml":
        raise IntensityError("an SUV needs Units of Bq/mL in the JSON sidecar of the PET; leave the SUV out.")

    def needed(*names: str) -> float:
        for name in names:
            value = said.get(name)
            if isinstance(value, int | float) and math.isfinite(value):
                return float(value)
        raise IntensityError(f"an SUV needs {' or '.join(names)}, which the JSON sidecar of the PET lacks; add it.")

    dose = needed("RadionuclideTotalDose", "InjectedRadioactivity")
    if "RadionuclideTotalDose" not in said:
        becquerels = BECQUERELS.get(str(said.get("InjectedRadioactivityUnits")))
        if becquerels is None:
            raise IntensityError(f"an SUV needs InjectedRadioactivityUnits, one of {', '.join(BECQUERELS)}.")
        dose *= becquerels
    if said.get("DecayCorrection") != "ADMIN":
        if said.get("ImageDecayCorrected") is False or said.get("DecayCorrection") == "NONE":
            raise IntensityError("the PET is not corrected for decay; there is no SUV. Leave the SUV out.")
        names = ("ImageDecayCorrectionTime", *(("ScanStart",) if said.get("DecayCorrection") == "START" else ()))
        delay = needed(*names) - needed("InjectionStart")
        if delay < 0:
            raise IntensityError("the JSON file dates the injection after the scan; there is no SUV.")
        if delay > 0:
            dose *= 2.0 ** (-delay / needed("RadionuclideHalfLife"))
    weight = weight_kg if weight_kg and "PatientWeight" not in said else needed("PatientWeight")
    if min(dose, weight) <= 0:
        raise IntensityError("dose and weight of an SUV must be positive; correct the JSON file, or leave the SUV out.")
    return weight * 1000 / dose
