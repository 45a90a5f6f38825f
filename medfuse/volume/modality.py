"""Describe the modalities: one table of everything that differs between MR, CT, PET and SPECT."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from medfuse.errors import IntensityError, StudyError, did_you_mean, found_in_words

Modality = Literal["MR", "CT", "PT", "NM"]
MODALITIES: tuple[Modality, ...] = get_args(Modality)

MRI: Modality = "MR"

PARTNERS: tuple[Modality, ...] = MODALITIES[1:]
"""What an MRI is fused with."""

Unit = Literal["HU", "Bq/ml", "SUV", "SUVlbm", "SUVbsa", "counts", "arbitrary"]

SUV_UNITS: dict[Literal["bw", "lbm", "bsa"], Unit] = {"bw": "SUV", "lbm": "SUVlbm", "bsa": "SUVbsa"}
"""Units of uptake, by what the dose is divided by: body weight, lean body mass (Janmahasatian), body surface area."""

PaletteName = Literal["violet-to-orange", "hot-iron", "pet", "hot-metal-blue", "pet-20-step"]
PALETTES: tuple[PaletteName, ...] = get_args(PaletteName)
"""The palette made for fused pictures, and the Standard's well-known ones (PS3.6 Annex B)."""


def require_palette(name: str) -> None:
    """Raise `IntensityError` unless there is a palette of this name."""
    if not (isinstance(name, str) and name in PALETTES):
        hint = did_you_mean(name, PALETTES) if isinstance(name, str) else ""
        raise IntensityError(f"expected a palette of {', '.join(PALETTES)}; found {found_in_words(name)}.{hint}")


ColourJoin = Literal["oklab", "chroma"]
COLOUR_JOINS: tuple[ColourJoin, ...] = get_args(ColourJoin)
"""How a fused slice takes its colours: luma from both sources, hue and chroma from the uptake in OKLab; or Eq. 5 of the
paper, the fused luma with the partner's chroma."""


@dataclass(frozen=True, kw_only=True)
class Traits:
    """What sets a modality apart.

    Parameters
    ----------
    label
        Its name for people.
    outside
        What it measures where there is nothing, in its own unit: the value outside a field of view, and the value that
        a stored 0 means where that fits.
    top_share
        Share of the tissue's values that stay below 1 by default: in MRI fat and vessels outshine the brain, in PET hot
        spots count.
    starts_at_zero
        Whether its values are amounts, so that its default window begins at 0.
    palette
        Its colours by default; None for grey.
    units
        The units that its values may be in, the usual one first. With HU, windows have names.
    sop_class
        UID of the classic SOP class that its measured values are written as (PS3.4 B.5).
    enhanced_classes
        UIDs of the enhanced SOP classes that it is also read from, legacy conversions included.
    rescale
        What its classic image module holds to make values of stored numbers: a slope and an intercept, a slope whose
        intercept is 0, or nothing, so that RealWorldValueMappingSequence alone says it (PS3.3 C.8.2.1, C.8.9.4).
    emission
        Whether it measures the radiation of a tracer: when and with what must then come from a DICOM source, and codes
        say how the patient lies (PS3.3 C.8.4.6).
    """

    label: str
    outside: float = 0.0
    top_share: float = 0.998
    starts_at_zero: bool = False
    palette: PaletteName | None = None
    units: tuple[Unit, ...]
    sop_class: str
    enhanced_classes: tuple[str, ...] = ()
    rescale: Literal["none", "slope", "slope and intercept"] = "none"
    emission: bool = False


TRAITS: dict[Modality, Traits] = {
    "MR": Traits(
        label="MRI",
        top_share=0.995,
        units=("arbitrary",),
        sop_class="1.2.840.10008.5.1.4.1.1.4",
        enhanced_classes=("1.2.840.10008.5.1.4.1.1.4.1", "1.2.840.10008.5.1.4.1.1.4.4"),
    ),
    "CT": Traits(
        label="CT",
        outside=-1024.0,
        units=("HU", "arbitrary"),
        sop_class="1.2.840.10008.5.1.4.1.1.2",
        enhanced_classes=("1.2.840.10008.5.1.4.1.1.2.1", "1.2.840.10008.5.1.4.1.1.2.2"),
        rescale="slope and intercept",
    ),
    "PT": Traits(
        label="PET",
        starts_at_zero=True,
        palette="violet-to-orange",
        units=("Bq/ml", *SUV_UNITS.values(), "counts", "arbitrary"),
        sop_class="1.2.840.10008.5.1.4.1.1.128",
        enhanced_classes=("1.2.840.10008.5.1.4.1.1.130", "1.2.840.10008.5.1.4.1.1.128.1"),
        rescale="slope",
        emission=True,
    ),
    "NM": Traits(
        label="SPECT",
        starts_at_zero=True,
        palette="violet-to-orange",
        units=("counts", "Bq/ml", *SUV_UNITS.values(), "arbitrary"),
        sop_class="1.2.840.10008.5.1.4.1.1.20",
        emission=True,
    ),
}
"""The one table: a new partner modality is a row here, a reader and a writer."""

MODALITY_NAMES: dict[str, Modality] = {name.lower(): code for code in MODALITIES for name in (code, TRAITS[code].label)}
"""What a modality may be called where it is asked for: by its DICOM code or its label, in either case."""

PARTNER_LABELS = f"{', '.join(TRAITS[one].label for one in PARTNERS[:-1])} or {TRAITS[PARTNERS[-1]].label}"
"""What an MRI is fused with, for people."""


def modality_named(name: str) -> Modality:
    """Return the modality that a DICOM code or a usual name means: PT or PET, NM or SPECT, MR or MRI, CT.

    Raises
    ------
    StudyError
        If it means none.
    """
    code = MODALITY_NAMES.get(name.strip().lower()) if isinstance(name, str) else None
    if code is None:
        known = ", ".join(one if one == TRAITS[one].label else f"{one} ({TRAITS[one].label})" for one in MODALITIES)
        raise StudyError(f"expected a modality of {known}; found {name!r}.")
    return code
