"""Describe the modalities: one table of everything that differs between MR, CT, PET and SPECT."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

Modality = Literal["MR", "CT", "PT", "NM"]
MODALITIES: tuple[Modality, ...] = get_args(Modality)

PARTNERS: tuple[Modality, ...] = MODALITIES[1:]
"""What an MRI is fused with."""

Unit = Literal["HU", "Bq/ml", "SUV", "counts", "arbitrary"]

PaletteName = Literal["hot-iron", "pet", "hot-metal-blue", "pet-20-step"]
PALETTES: tuple[PaletteName, ...] = get_args(PaletteName)
"""The Standard's well-known palettes (PS3.6 Annex B)."""


@dataclass(frozen=True)
class Traits:
    """What sets a modality apart.

    Parameters
    ----------
    label
        Its name for people.
    outside
        What it measures where there is nothing, in its own unit: the value outside a field of view.
    top_share
        Share of the tissue's values that stay below 1 by default: in MRI fat and vessels outshine the brain, in PET hot
        spots count.
    starts_at_zero
        Whether its values are amounts, so that its default window begins at 0.
    palette
        Its colours by default; None for grey.
    units
        The units that its values may be in.
    sop_class
        UID of the classic SOP class that its measured values are written as (PS3.4 B.5).
    """

    label: str
    outside: float
    top_share: float
    starts_at_zero: bool
    palette: PaletteName | None
    units: tuple[Unit, ...]
    sop_class: str


TRAITS: dict[Modality, Traits] = {
    "MR": Traits("MRI", 0.0, 0.995, False, None, ("arbitrary",), "1.2.840.10008.5.1.4.1.1.4"),
    "CT": Traits("CT", -1024.0, 0.998, False, None, ("HU", "arbitrary"), "1.2.840.10008.5.1.4.1.1.2"),
    "PT": Traits(
        "PET", 0.0, 0.998, True, "hot-iron", ("Bq/ml", "SUV", "counts", "arbitrary"), "1.2.840.10008.5.1.4.1.1.128"
    ),
    "NM": Traits("SPECT", 0.0, 0.998, True, "hot-iron", ("counts", "arbitrary"), "1.2.840.10008.5.1.4.1.1.20"),
}
"""The one table: a new partner modality is a row here, a reader and a writer."""
