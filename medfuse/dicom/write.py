"""Write a volume as a DICOM series: geometry from its grid, identity from its sources' headers.

Colour becomes Secondary Capture with the Image Plane attributes (the only classic RGB form that viewers place), a
fused grey picture MR Image Storage at 16 bits, and measured values their modality's own kind with their unit.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from monai.data.meta_tensor import MetaTensor
from pydicom.dataset import Dataset

from medfuse.dicom.compression import Compression
from medfuse.dicom.identity import Identity, identity
from medfuse.dicom.instances import Draft, Stored
from medfuse.dicom.kinds import describe_colour, describe_grey, describe_measured, require_times
from medfuse.dicom.read import DicomSource
from medfuse.dicom.references import Contribution
from medfuse.dicom.scan import quiet
from medfuse.dicom.stored import choose_storage, describe_storage, describe_window
from medfuse.dicom.template import Naming, begin_series, place, series_number
from medfuse.errors import GeometryError, StudyError
from medfuse.grid import Grid
from medfuse.intensity import Window
from medfuse.provenance import DISCLAIMER, Provenance
from medfuse.slices import DISPLAY_AXES, Plane, replane
from medfuse.volume import MODALITIES, Source, grid_of, meta_of, plain, source_of
from medfuse.volume import like as on_grid_of

PARTNER_AFTER_FUSED = 1000
"""How far the registered partner's SeriesNumber lies after the numbers of fused series."""

Like = MetaTensor | Source | Identity


def write_series(
    volume: MetaTensor | torch.Tensor | npt.NDArray[Any],
    out: str | Path,
    *,
    like: Like | None = None,
    partner: Source | None = None,
    provenance: Provenance | None = None,
    description: str | None = None,
    number: int | None = None,
    compression: Compression = "none",
    overwrite: bool = False,
    progress: Callable[[float], None] | None = None,
) -> None:
    """Write a volume as a new series, its slices numbered along the slice normal.

    Parameters
    ----------
    volume
        (3, X, Y, Z) uint8 RGB becomes Secondary Capture. (1, X, Y, Z) floating point is stored in its ``meta["unit"]``
        under the class of its ``meta["modality"]``, with what leads from stored numbers back to values; with
        ``provenance`` it is a fused picture in [0, 1] and becomes MR. A plain array needs ``like`` a volume and lies
        on its grid; (X, Y, Z) counts as one channel.
    out
        Folder to appear, with the files ``0001.dcm`` and so on; one multi-frame file for NM.
    like
        Whose patient, study and frame of reference the series takes: a loaded volume, its source, or an `Identity`.
        By default the volume's own source. Without a DICOM source identity is empty and UIDs are fresh. A volume that
        does not come from DICOM is turned to the usual view first, for it knows no up and down of its own.
    partner
        The other source of a fused picture, where there is one.
    provenance
        What was done, where medfuse fused; a partner needs it, for it holds the alignment.
    description, number
        SeriesDescription and SeriesNumber; by default they begin with FUSED or DERIVED, and with 9000.
    compression
        ``none``, or without loss ``rle``, ``jpeg2000`` or ``jpeg-ls``.
    overwrite
        Whether a folder already there is replaced.
    progress
        Called with the share done, in (0, 1].

    Raises
    ------
    ExportError
        If the folder is taken, lies in an input, or cannot be written; nothing is left behind.
    GeometryError
        If the slices cannot be placed, or a plain array does not fill its grid.
    IntensityError
        If a value is not finite.
    """
    image = _as_volume(volume, like)
    base = _source_like(image, like)
    header = _header_of(base)
    image = _upright(image, source_of(image), base)
    contributions = _contributions(base if isinstance(base, Source) else None, partner, provenance, grid_of(image))
    encode: Callable[[Stored], Stored]
    with quiet():
        person = identity(header, _header_of(partner))
        derivation = provenance.sentence() if provenance else f"Derived volume. {DISCLAIMER}"
        template = begin_series(person, contributions, derivation)
        name = f"FUSED MR+{provenance.partner_modality} GeSeNet" if provenance else "DERIVED medfuse"
        Naming(description, number).apply(template, name, series_number(header))
        place(template, grid_of(image))
        if len(image) == 3:
            describe_colour(template)
            encode = _as_stored
        elif provenance is not None:
            describe_grey(template, base if isinstance(base, DicomSource) else None)
            encode = _as_picture
        else:
            encode = _describe_values(template, image, base, None)
    inputs = [one.path for one in (base, partner, source_of(image)) if isinstance(one, Source)]
    Draft(image, template, contributions, encode, compression).write(Path(out), inputs, overwrite, progress)


def write_partner(
    volume: MetaTensor,
    out: str | Path,
    *,
    mri: Source | None,
    provenance: Provenance,
    like: Like | None = None,
    description: str | None = None,
    number: int | None = None,
    compression: Compression = "none",
    overwrite: bool = False,
    progress: Callable[[float], None] | None = None,
) -> None:
    """Write the registered partner in its own unit, on the MRI's grid and in its study and frame of reference.

    Parameters
    ----------
    volume
        (1, X, Y, Z) in the unit of the partner, on the grid of the MRI.
    mri
        Where the MRI came from.
    provenance
        What was done; it holds the alignment.
    like
        Whose identity it takes, where that is not the MRI's, as in `write_series`.
    out, description, number, compression, overwrite, progress
        As in `write_series`.

    Raises
    ------
    ExportError
        As `write_series`; also for PET and SPECT from NIfTI, which do not say when and with what they were measured.
    """
    partner = source_of(volume)
    base = mri if like is None else _source_like(volume, like)
    header = _header_of(base)
    volume = _upright(volume, mri, base)
    contributions = _contributions(None, partner, provenance, grid_of(volume))
    with quiet():
        person = identity(header, _header_of(partner))
        modality = provenance.partner_modality
        derivation = (
            f"{modality} resampled once onto the grid of the MR, linearly, values kept. Alignment: "
            f"{provenance.registration['method']}. {DISCLAIMER}"
        )
        template = begin_series(person, contributions, derivation)
        Naming(description, number).apply(
            template, f"REGISTERED {modality} on MR", series_number(header) + PARTNER_AFTER_FUSED
        )
        place(template, grid_of(volume))
        encode = _describe_values(template, volume, partner, provenance.partner_window)
    inputs = [one.path for one in (base, mri, partner) if isinstance(one, Source)]
    Draft(volume, template, contributions, encode, compression).write(Path(out), inputs, overwrite, progress)


def require_measurable(volume: MetaTensor) -> None:
    """Raise `ExportError` where `write_partner` would refuse a loaded partner, before minutes are spent on it."""
    source = source_of(volume)
    require_times(meta_of(volume)["modality"], source if isinstance(source, DicomSource) else None)


def identity_of(mri: Source | None, partner: Source | None) -> Source | Identity:
    """Whose identity all series of one result share: the MRI's, or else one that holds what the partner knows."""
    if isinstance(mri, DicomSource):
        return mri
    with quiet():
        return Identity(identity(None, _header_of(partner)))


def _describe_values(
    template: Dataset, volume: MetaTensor, source: Source | Identity | None, window: Window | None
) -> Callable[[Stored], Stored]:
    """Describe measured values of a modality; returns how they are encoded."""
    modality, unit = volume.meta.get("modality"), volume.meta.get("unit", "arbitrary")
    if modality not in MODALITIES:
        raise StudyError(f"the volume does not say its modality; make it with one of {', '.join(MODALITIES)}.")
    if len(volume) != 1:
        raise GeometryError(f"expected one channel of values or three of uint8 RGB; found {len(volume)} channels.")
    measured = source if isinstance(source, DicomSource) and source.modality == modality else None
    describe_measured(template, modality, unit, measured)
    values = plain(volume)
    storage = choose_storage(values, modality)
    describe_storage(template, storage, modality, unit)
    lower, upper = (window.lower, window.upper) if window else (float(values.min()), float(values.max()))
    describe_window(template, storage, modality, lower, upper)
    if modality == "PT":
        template.NumberOfSlices = volume.shape[-1]
    return storage.encode


def _as_stored(values: Stored) -> Stored:
    return values


def _as_picture(values: Stored) -> Stored:
    """From [0, 1] to all of 16 bits."""
    return np.rint(values * 65535.0).astype("<u2")


def _header_of(source: Source | Identity | None) -> Dataset | None:
    if isinstance(source, Identity):
        return source.header
    return source.first if isinstance(source, DicomSource) else None


def _as_volume(volume: MetaTensor | torch.Tensor | npt.NDArray[Any], like: Like | None) -> MetaTensor:
    """The volume itself, or a plain array on the grid of what it is like."""
    if isinstance(volume, MetaTensor):
        return volume
    if not isinstance(like, MetaTensor):
        raise GeometryError("a plain array has no place; give like=, the loaded volume on whose grid it lies.")
    values = torch.as_tensor(np.ascontiguousarray(volume) if isinstance(volume, np.ndarray) else volume)
    values = values[None] if values.ndim == 3 else values
    return on_grid_of(values if values.dtype == torch.uint8 and len(values) == 3 else values.float(), like)


def _source_like(image: MetaTensor, like: Like | None) -> Source | Identity | None:
    if like is None or isinstance(like, MetaTensor):
        return source_of(image if like is None else like)
    return like


def _contributions(
    base: Source | None, partner: Source | None, provenance: Provenance | None, grid: Grid
) -> list[Contribution]:
    found = []
    if isinstance(base, DicomSource):
        # A template series shares the world, but need not share the voxels.
        found.append(Contribution(base, np.eye(4), preserved=base.grid.turns_onto(grid) is not None))
    if isinstance(partner, DicomSource) and provenance is not None:
        found.append(Contribution(partner, np.array(provenance.registration["matrix"]), preserved=False))
    return found


def _upright(volume: MetaTensor, origin: Source | None, base: Source | Identity | None) -> MetaTensor:
    """Turn a volume to the usual view unless its grid is that of a DICOM series, made to be looked at as it is."""
    grid = grid_of(volume)
    if isinstance(origin, DicomSource) or (isinstance(base, DicomSource) and base.grid.matches(grid)):
        return volume
    return replane(volume, _nearest_plane(grid))


def _nearest_plane(grid: Grid) -> Plane:
    axis = grid.axcodes[2]
    return next(plane for plane, axes in DISPLAY_AXES.items() if {axis} & set(_axis_pair(axes[2])))


def _axis_pair(code: str) -> str:
    return next(pair for pair in ("LR", "AP", "IS") if code in pair)
