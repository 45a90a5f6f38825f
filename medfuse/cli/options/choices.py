"""Declare the choices and flags that several commands share."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Annotated

import typer

from medfuse.cli.options.values import known_method
from medfuse.errors import MethodError, SeriesError, WeightsError
from medfuse.gesenet.weights import require_weights
from medfuse.methods.names import GESENET, HOW_TO_NAME, ParsedName, parse_name, split_names
from medfuse.volume import PARTNER_LABELS, PARTNERS, TRAITS, modality_named

if TYPE_CHECKING:
    from medfuse import dicom


class Format(str, Enum):
    """Formats that `fuse` writes."""

    DICOM = "dicom"
    NIFTI = "nifti"
    BOTH = "both"


class CompressionName(str, Enum):
    """Compressions of DICOM pixels, all lossless."""

    NONE = "none"
    RLE = "rle"
    JPEG_2000 = "jpeg2000"
    JPEG_LS = "jpeg-ls"


@dataclass(frozen=True)
class DicomChoices:
    """What was asked of the output: how DICOM series are written, and what is written beside the fused one."""

    options: dicom.DicomOptions
    with_partner: bool = False
    as_media: bool = False
    report: bool = False
    attribution: bool = False


class Way(str, Enum):
    """Ways to align the partner without a registration file."""

    AUTO = "auto"
    HEADER = "header"
    RIGID = "rigid"
    AFFINE = "affine"
    DEFORMABLE = "deformable"


Force = Annotated[
    bool,
    typer.Option(
        "--force", help="Write even where the images show that it is not aligned, or cannot tell; results then say so."
    ),
]

FillGaps = Annotated[
    bool, typer.Option("--fill-gaps", help="Interpolate missing DICOM slices instead of refusing the series.")
]
AcceptCut = Annotated[
    bool, typer.Option("--accept-cut", help="Take what there is of a DICOM series whose headers speak of more slices.")
]
DifferentPatients = Annotated[
    bool, typer.Option("--different-patients", help="Accept headers that name different patients.")
]


MethodName = Annotated[
    str, typer.Option("--method", help=f"What fuses: {HOW_TO_NAME}.", metavar="NAME", callback=known_method)
]


def method_given(
    text: str, *, weights: str = "default", engine: str = "auto", join: JoinName | None = None
) -> ParsedName:
    """Take the name of one method, which is a known one, apart; a usage error where an option does not apply to it."""
    parsed = parse_name(text)
    is_gesenet = parsed.name == GESENET or parsed.weights is not None
    given = {"--weights": weights != "default", "--engine": engine != "auto"}
    useless = next((option for option, there in given.items() if there), None)
    if useless and not is_gesenet:
        raise typer.BadParameter(
            f"expected no {useless} with --method {text}, for it is of GeSeNet alone; leave it out, or take --method "
            f"{GESENET}."
        )
    if parsed.weights is not None:
        try:
            require_weights(parsed.weights)
        except WeightsError as error:
            raise typer.BadParameter(str(error), param_hint="'--method'") from None
    if parsed.weights is not None and weights != "default":
        raise typer.BadParameter(f"give the weights once: by --method {text}, or by --weights with --method {GESENET}.")
    if parsed.name == "blend" and join is JoinName.CHROMA:
        raise typer.BadParameter("expected no --join chroma with --method blend, which colours itself; leave it out.")
    return parsed


def methods_given(text: str, *, weights: str = "default") -> list[ParsedName]:
    """The same of several names, separated by commas; the weights are of ``gesenet`` among them."""
    try:
        names = split_names(text)
    except MethodError as error:
        raise typer.BadParameter(str(error), param_hint="'--method'") from None
    if weights != "default" and GESENET not in names:
        raise typer.BadParameter(
            f"expected no --weights without the method {GESENET}; name it in --method, or leave the weights out."
        )
    return [method_given(name) for name in names]


@contextmanager
def choosing(option: str) -> Iterator[None]:
    """Let an error that asks which series is meant name the command's own option for it."""
    from medfuse.dicom.scanning.choose import WhichSeriesError

    try:
        yield
    except WhichSeriesError as error:
        raise SeriesError(str(error.by(option))) from None


class PlaneName(str, Enum):
    """Planes whose slices can be fused."""

    NATIVE = "native"
    AXIAL = "axial"
    CORONAL = "coronal"
    SAGITTAL = "sagittal"


class JoinName(str, Enum):
    """Ways in which fused slices take the partner's colours."""

    OKLAB = "oklab"
    CHROMA = "chroma"


PartnerModality = Enum("PartnerModality", {name: name for name in PARTNERS}, type=str)  # type: ignore[misc]
"""Modalities of a partner study."""


def partner_named(name: str) -> PartnerModality:
    """Return the partner's modality of a DICOM code or a usual name; a usage error where it is none."""
    try:
        return PartnerModality(modality_named(name))
    except ValueError as error:  # StudyError is one
        raise typer.BadParameter(f"expected {PARTNER_LABELS} (or {', '.join(PARTNERS)}); found {name!r}.") from error


PARTNER_NAMES = "|".join(TRAITS[one].label for one in PARTNERS)

PartnerOption = Annotated[
    PartnerModality | None,
    typer.Option(help="The partner's modality; needed where it is NIfTI.", parser=partner_named, metavar=PARTNER_NAMES),
]
