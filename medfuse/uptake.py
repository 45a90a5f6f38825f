"""PET in SUV: the uptake for each gram of body weight, which can be compared between patients."""

from __future__ import annotations

from monai.data.meta_tensor import MetaTensor

from medfuse import sidecar
from medfuse.dicom.read import DicomSource
from medfuse.dicom.suv import suv_factor
from medfuse.errors import IntensityError
from medfuse.nifti import NiftiSource
from medfuse.volume import like, meta_of, plain, source_of


def to_suv(volume: MetaTensor, *, weight_kg: float | None = None) -> MetaTensor:
    """Convert a PET volume to SUV, body weight (QIBA FDG-PET/CT profile).

    Parameters
    ----------
    volume
        (1, X, Y, Z) of modality PT as `medfuse.load` returns it, in Bq/ml, counts, or SUV already.
    weight_kg
        The patient's weight, where the source does not say it.

    Returns
    -------
    MetaTensor
        (1, X, Y, Z) float32, unit SUV: g/ml, on the same grid.

    Raises
    ------
    IntensityError
        If it is no PET, or its source does not say what an SUV is made of; the message names it.
    """
    meta, source = meta_of(volume), source_of(volume)
    if meta["modality"] != "PT":
        raise IntensityError(f"an SUV is a measure of PET; found {meta['modality']}. Leave the SUV out.")
    if isinstance(source, DicomSource):
        factor = suv_factor(source, meta["unit"], weight_kg)
    elif isinstance(source, NiftiSource):
        factor = sidecar.suv_factor(source.sidecar, meta["unit"], weight_kg)
    else:
        raise IntensityError("the PET has no source that tells dose and weight; load it from DICOM or NIfTI.")
    converted = plain(volume) * factor
    if "padding" in meta:
        return like(converted, volume, unit="SUV", padding=float(meta["padding"]) * factor)
    return like(converted, volume, unit="SUV")
