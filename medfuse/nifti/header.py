"""Open a NIfTI file: its names, its image, and its header as it is stored."""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import nibabel as nib
from nibabel.filebasedimages import ImageFileError
from nibabel.spatialimages import HeaderDataError

from medfuse.errors import MedfuseError, SeriesError
from medfuse.intensity.tracers import tracer_named
from medfuse.nifti.forms import require_usable, stated_header
from medfuse.nifti.pet_sidecar import uptake
from medfuse.runtime.output.exchange import settle
from medfuse.runtime.silence import silence
from medfuse.volume import Source, SuvInputs, Unit, Uptake

SUFFIXES = (".nii", ".nii.gz")

GZIP = b"\x1f\x8b"
"""How files begin that are compressed by gzip (RFC 1952)."""

PAIR_SUFFIXES = (".hdr", ".img", ".hdr.gz", ".img.gz")
"""Header and voxels in two files; read, never written."""


@dataclass(frozen=True)
class NiftiSource(Source):
    """The form code a volume was read with, so that the output can carry it on.

    ``forms_apart_mm`` is how far sform and qform put a corner of the volume from each other; 0 where one is not set,
    infinite where the qform is none.
    ``sidecar`` holds what the JSON sidecar of a PET says of dose, weight and times, under the names of BIDS and
    dcm2niix, and nothing else of it.
    """

    form_code: int
    forms_apart_mm: float = 0.0
    sidecar: Mapping[str, object] = field(default_factory=dict)

    @property
    def tracer(self) -> str:
        return tracer_named(*(self.sidecar.get(name) or "" for name in ("TracerName", "Radiopharmaceutical")))

    def uptake(self, unit: Unit, given: SuvInputs = SuvInputs()) -> Uptake:
        return uptake(self.sidecar, unit, given)


def is_nifti(path: str | Path) -> bool:
    """Whether the name ends as NIfTI's do, and is no folder's; an .img counts only with its .hdr."""
    path, name = Path(path), str(path).lower()
    if path.is_dir() or not name.endswith((*SUFFIXES, *PAIR_SUFFIXES)):
        return False
    return not name.removesuffix(".gz").endswith(".img") or header_file(path) != path


def header_file(path: Path) -> Path:
    """Where the header stands: beside an .img, where it is there, else in the file itself."""
    if not path.name.lower().removesuffix(".gz").endswith(".img"):
        return path
    beside = path.with_name(path.name.removesuffix(".gz").removesuffix(".GZ")).with_suffix(".hdr")
    return next((one for one in (beside, beside.with_name(f"{beside.name}.gz")) if one.is_file()), path)


def opened(path: Path) -> tuple[Any, Any]:
    """The file as nibabel's image, its voxels unread, and its header as it is stored, nothing repaired.

    Raises
    ------
    SeriesError
        If it is not there, not readable, or not NIfTI.
    GeometryError, IntensityError, SeriesError
        As `require_usable`.
    """
    settle(path)
    if not path.is_file():
        raise SeriesError(f"there is no file {path}; check the path.")
    try:
        with silence("nibabel.global"):  # it tells of repairs that are not used here
            stated = stated_header(header_file(path))
            if stated is not None:
                require_usable(stated, path)
            image = nib.load(path)
    except MedfuseError:
        raise
    except (ImageFileError, HeaderDataError, OSError, ValueError, EOFError, OverflowError, zlib.error) as error:
        if path.suffix.lower() != ".gz" and path.read_bytes()[:2] == GZIP:
            raise SeriesError(
                f"{path} is compressed by gzip, and its name does not say so; call it {path.name}.gz."
            ) from error
        raise SeriesError(
            f"{path} is not a readable NIfTI file ({type(error).__name__}); check that it is whole."
        ) from error
    if not isinstance(image, nib.nifti1.Nifti1Pair) or stated is None:
        raise SeriesError(
            f"{path} is not NIfTI but {type(image).__name__}, which has no full geometry; convert it first."
        )
    return image, stated
