"""Declare the options of SUV, and gather them: how it is normalised, and what is given by hand."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Annotated, cast

import typer

from medfuse.cli.options.values import known_nuclide
from medfuse.errors import IntensityError
from medfuse.intensity.body_size import HEIGHTS_M, WEIGHTS_KG
from medfuse.volume.uptake import NORMALISATIONS, Normalisation, SuvInputs

if TYPE_CHECKING:
    from monai.data.meta_tensor import MetaTensor

NormalisationName = Enum("NormalisationName", {name: name for name in NORMALISATIONS}, type=str)  # type: ignore[misc]
"""What an SUV is normalised to."""


class SexName(str, Enum):
    """Sexes of which lean body mass is known."""

    F = "F"
    M = "M"


Suv = Annotated[bool, typer.Option("--suv", help="PET as SUV (body weight); the window is in SUV, too.")]
SuvBy = Annotated[
    NormalisationName | None,
    typer.Option(
        "--suv-by",
        help="PET as SUV by bw, body weight; lbm, lean body mass (Janmahasatian); or bsa, body surface (Du Bois).",
    ),
]
Dose = Annotated[
    float | None,
    typer.Option("--dose", help="For the SUV: activity injected, where the PET does not say it.", metavar="MBQ"),
]
InjectedAt = Annotated[
    str | None,
    typer.Option(
        "--injected-at",
        help="For the SUV: when, as YYYY-MM-DDTHH:MM:SS, or HH:MM[:SS] on the scan's day, by the scanner's clock.",
        metavar="WHEN",
    ),
]
Nuclide = Annotated[
    str | None, typer.Option("--nuclide", help="For the SUV: radionuclide, such as F-18.", callback=known_nuclide)
]
Weight = Annotated[
    float | None,
    typer.Option(
        "--weight", help="For the SUV: the patient's weight.", metavar="KG", min=WEIGHTS_KG[0], max=WEIGHTS_KG[1]
    ),
]
Height = Annotated[
    float | None,
    typer.Option(
        "--height", help="For --suv-by lbm and bsa: the height.", metavar="M", min=HEIGHTS_M[0], max=HEIGHTS_M[1]
    ),
]
SexOption = Annotated[SexName | None, typer.Option("--sex", help="For --suv-by lbm: F or M.")]


@dataclass(frozen=True)
class SuvChoices:
    """Whether and how a PET is shown as SUV."""

    by: Normalisation | None
    given: SuvInputs

    def convert(self, volume: MetaTensor) -> MetaTensor:
        """The volume in SUV, or as it is where no SUV was asked for."""
        from medfuse.intensity.suv import to_suv

        if self.by is None:
            return volume
        return to_suv(volume, normalisation=self.by, given=self.given)


def suv_choices(
    suv: bool,
    by: NormalisationName | None,
    *,
    dose: float | None,
    injected_at: str | None,
    nuclide: str | None,
    weight: float | None,
    height: float | None,
    sex: SexName | None,
) -> SuvChoices:
    """Gather the options; a value given by hand asks for an SUV, too.

    Raises
    ------
    typer.BadParameter
        If the time of injection is none.
    """
    from medfuse.intensity.decay import parse_injected_at

    try:
        moment = parse_injected_at(injected_at) if injected_at is not None else None
    except IntensityError as error:
        raise typer.BadParameter(str(error)) from None
    given = SuvInputs(
        dose_mbq=dose,
        injected_at=moment,
        nuclide=nuclide,
        weight_kg=weight,
        height_m=height,
        sex=sex.value if sex else None,
    )
    default: Normalisation | None = "bw" if suv or given.names else None
    return SuvChoices(cast("Normalisation", by.value) if by else default, given)
