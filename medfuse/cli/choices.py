"""What is chosen by name on more than one command."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Annotated

import typer

from medfuse import dicom


class Format(str, Enum):
    """What `fuse` writes."""

    DICOM = "dicom"
    NIFTI = "nifti"
    BOTH = "both"


class CompressionName(str, Enum):
    """How DICOM pixels are packed; none loses anything."""

    NONE = "none"
    RLE = "rle"
    JPEG_2000 = "jpeg2000"
    JPEG_LS = "jpeg-ls"


@dataclass(frozen=True)
class DicomChoices:
    """What was asked of the DICOM output: how series are written, and what is written beside the fused one."""

    options: dicom.DicomOptions = dicom.DicomOptions()
    with_partner: bool = False
    as_media: bool = False


class Way(str, Enum):
    """How the partner is aligned, where no file says it."""

    AUTO = "auto"
    HEADER = "header"
    RIGID = "rigid"
    AFFINE = "affine"
    DEFORMABLE = "deformable"


Force = Annotated[
    bool,
    typer.Option(
        "--force", help="Write even where the pictures say it is not aligned; DICOM, JSON and pictures say so."
    ),
]

FillGaps = Annotated[
    bool, typer.Option("--fill-gaps", help="Interpolate missing DICOM slices instead of refusing the series.")
]
DifferentPatients = Annotated[
    bool, typer.Option("--different-patients", help="Accept headers that name different patients.")
]


class PlaneName(str, Enum):
    """Which slices are fused."""

    NATIVE = "native"
    AXIAL = "axial"
    CORONAL = "coronal"
    SAGITTAL = "sagittal"


class PartnerModality(str, Enum):
    """What the partner study is."""

    CT = "CT"
    PT = "PT"
    NM = "NM"
