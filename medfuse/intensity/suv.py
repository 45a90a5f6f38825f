"""Convert PET to SUV: the uptake for each gram of body weight, which can be compared between patients."""

from __future__ import annotations

from monai.data.meta_tensor import MetaTensor

from medfuse.errors import IntensityError
from medfuse.volume import NO_DOSE, TRAITS, like, meta_of, plain, source_of


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
    if "SUV" not in TRAITS[meta["modality"]].units:
        raise IntensityError(f"an SUV is a measure of PET; found {meta['modality']}. Leave the SUV out.")
    if source is None:
        raise IntensityError(NO_DOSE)
    factor = source.suv_factor(meta["unit"], weight_kg)
    converted = plain(volume) * factor
    if "padding" in meta:
        return like(converted, volume, unit="SUV", padding=float(meta["padding"]) * factor)
    return like(converted, volume, unit="SUV")
