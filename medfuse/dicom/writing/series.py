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

from medfuse.dicom.header import quiet
from medfuse.dicom.reading.volume import DicomSource
from medfuse.dicom.writing.classic_header import classic_header
from medfuse.dicom.writing.compression import Stored
from medfuse.dicom.writing.identity import Identity, IdentityLike
from medfuse.dicom.writing.image_modules import (
    describe_colour,
    describe_grey,
    describe_measured,
    describe_picture,
    require_times,
)
from medfuse.dicom.writing.instances import Draft
from medfuse.dicom.writing.options import DicomOptions
from medfuse.dicom.writing.references import Contribution
from medfuse.dicom.writing.rescale import choose_storage, describe_storage, describe_window
from medfuse.dicom.writing.series_modules import begin_series, name_series, place, series_number
from medfuse.dicom.writing.slice_stream import SliceStream
from medfuse.errors import ExportError, GeometryError, StudyError, counted
from medfuse.intensity import Window
from medfuse.provenance import DISCLAIMER, Provenance
from medfuse.runtime.progress import Progress, step_of
from medfuse.volume import MODALITIES, Source, like, meta_of, plain, source_of
from medfuse.volume.grid import Grid
from medfuse.volume.plane_names import Plane
from medfuse.volume.planes import DISPLAY_AXES, turn_of

PARTNER_AFTER_FUSED, ATTRIBUTION_AFTER_FUSED = 1000, 2000
"""Added to the SeriesNumber of a fused series."""


def write_series(
    volume: MetaTensor | SliceStream | torch.Tensor | npt.NDArray[Any],
    folder: str | Path,
    *,
    options: DicomOptions = DicomOptions(),
    partner: Source | None = None,
    provenance: Provenance | None = None,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> None:
    """Write a volume as a new series, its slices numbered along the slice normal.

    Parameters
    ----------
    volume
        (3, X, Y, Z) uint8 RGB becomes Secondary Capture. (1, X, Y, Z) floating point is stored in its ``meta["unit"]``
        under the class of its ``meta["modality"]``, with what leads from stored numbers back to values; with
        ``provenance`` it is a fused picture in [0, 1] and becomes MR. A plain array needs a volume as its identity and
        lies on that volume's grid; (X, Y, Z) counts as one channel. A `SliceStream` is a fused picture.
    folder
        Folder to appear, with the files ``0001.dcm`` and so on; one multi-frame file for NM, or where asked for. A
        volume that does not come from DICOM is turned to the usual view first: it has no top and bottom of its own.
    options
        Identity, name, compression and form of the series.
    partner
        The other source of a fused picture, where there is one.
    provenance
        What was done, where medfuse fused; a partner needs it, for it holds the alignment.
    overwrite
        Whether a folder already there is replaced.
    progress
        Called with the step ``write``, slice by slice.

    Raises
    ------
    ExportError
        If the folder is taken, lies in an input, or cannot be written, nothing is left behind; or if measured values
        are to have 8 bits or one file.
    GeometryError
        If the slices cannot be placed, a plain array does not fill its grid, or a stream ends early.
    IntensityError
        If a value is not finite.
    """
    image = volume if isinstance(volume, SliceStream) else _as_volume(volume, options.identity)
    stream = image if isinstance(image, SliceStream) else SliceStream.of(image)
    identity = Identity.of(options.with_identity(stream.source).identity, partner)
    plane = _display_plane(stream.grid, stream.source, identity)
    grid = turn_of(stream.grid, plane)[2]
    contributions = _contributions(identity.source, partner, provenance, grid)
    encode: Callable[[Stored], Stored]
    with quiet():
        derivation = provenance.sentence() if provenance else f"Derived volume. {DISCLAIMER}"
        did = f"Fused the series by {provenance.fused_by}." if provenance else "Derived the series."
        template = begin_series(identity.elements(partner), contributions, derivation, did)
        name = provenance.series_name() if provenance else "DERIVED medfuse"
        name_series(template, options, name, series_number(identity.header))
        place(template, grid)
        if stream.channels == 3:
            describe_colour(template, options.multiframe)
            encode = np.asarray  # as they are
        elif provenance is not None:
            encode = _describe_grey(template, identity.source, options)
        else:
            encode = _describe_values(template, _measured(image, options), identity.source, None)
    draft = Draft(grid, stream.turned(plane), template, contributions, encode, options.compression)
    draft.write(Path(folder), _paths(identity.source, partner, stream.source), overwrite, step_of(progress, "write"))


def write_partner(
    volume: MetaTensor,
    folder: str | Path,
    *,
    mri: Source | None,
    provenance: Provenance,
    options: DicomOptions = DicomOptions(),
    overwrite: bool = False,
    progress: Progress | None = None,
) -> None:
    """Write the registered partner in its own unit, on the MRI's grid and in its study and frame of reference.

    Parameters
    ----------
    volume
        (1, X, Y, Z) in the unit of the partner, on the grid of the MRI.
    folder
        Folder to appear, as in `write_series`.
    mri
        Where the MRI came from; the identity is its own unless the options choose another.
    provenance
        What was done; it holds the alignment.
    options, overwrite
        As in `write_series`.
    progress
        Called with the step ``measured``, slice by slice.

    Raises
    ------
    ExportError
        As `write_series`; also for PET and SPECT from NIfTI, which do not say when and with what they were measured.
    """
    partner = source_of(volume)
    identity = Identity.of(options.with_identity(mri).identity, partner)
    stream = SliceStream.of(_measured(volume, options))
    plane = _display_plane(stream.grid, mri, identity)
    grid = turn_of(stream.grid, plane)[2]
    contributions = _contributions(None, partner, provenance, grid)
    with quiet():
        modality = provenance.partner_modality
        derivation = (
            f"{modality} resampled once onto the grid of the MR, linearly, values kept. Alignment: "
            f"{provenance.alignment}. {DISCLAIMER}"
        )
        template = begin_series(identity.elements(partner), contributions, derivation, "Resampled the series.")
        number = series_number(identity.header) + PARTNER_AFTER_FUSED
        name_series(template, options, provenance.marked(f"REGISTERED {modality} on MR"), number)
        place(template, grid)
        encode = _describe_values(template, volume, partner, provenance.partner_window)
    draft = Draft(grid, stream.turned(plane), template, contributions, encode, options.compression)
    draft.write(Path(folder), _paths(identity.source, mri, partner), overwrite, step_of(progress, "measured"))


def write_attribution(
    picture: MetaTensor,
    folder: str | Path,
    *,
    partner: Source | None,
    provenance: Provenance,
    options: DicomOptions = DicomOptions(),
    overwrite: bool = False,
) -> None:
    """Write a picture of which source each voxel comes from, as Secondary Capture in the study of the MRI.

    Parameters
    ----------
    picture
        (3, X, Y, Z) uint8, as `medfuse.methods.attribution.Attribution.coloured` makes it; its source is the MRI's.
    folder
        Folder to appear, as in `write_series`.
    partner
        Where the other source came from.
    provenance
        What was done.
    options, overwrite
        As in `write_series`.

    Raises
    ------
    ExportError
        As `write_series`.
    """
    mri = source_of(picture)
    identity = Identity.of(options.with_identity(mri).identity, partner)
    stream = SliceStream.of(picture)
    plane = _display_plane(stream.grid, mri, identity)
    grid = turn_of(stream.grid, plane)[2]
    contributions = _contributions(identity.source, partner, provenance, grid)
    with quiet():
        derivation = (
            f"Attribution of the fused luma: blue is the part of the MRI, red that of the partner, green their "
            f"mean, 0 to 255 for 0 to 1. {provenance.sentence()}"
        )
        template = begin_series(identity.elements(partner), contributions, derivation[:1024], "Attributed the series.")
        number = series_number(identity.header) + ATTRIBUTION_AFTER_FUSED
        name_series(template, options, provenance.marked(f"ATTRIBUTION MR+{provenance.partner_modality}"), number)
        place(template, grid)
        describe_colour(template, options.multiframe)
    draft = Draft(grid, stream.turned(plane), template, contributions, np.asarray, options.compression)
    draft.write(Path(folder), _paths(identity.source, mri, partner), overwrite, step_of(None, "write"))


def require_measurable(volume: MetaTensor) -> None:
    """Raise `ExportError` where `write_partner` would refuse a loaded partner, before minutes are spent on it."""
    source = source_of(volume)
    measured = source if isinstance(source, DicomSource) else None
    require_times(meta_of(volume)["modality"], measured)
    if measured is not None:
        classic_header(measured, 0)


def _paths(*sources: Source | None) -> list[Path]:
    """Where the sources lie, which nothing may be written into."""
    return [source.path for source in sources if source is not None]


def _describe_values(
    template: Dataset, volume: MetaTensor, source: Source | None, window: Window | None
) -> Callable[[Stored], Stored]:
    """Describe measured values of a modality; returns how they are encoded."""
    modality, unit = volume.meta.get("modality"), volume.meta.get("unit", "arbitrary")
    if modality not in MODALITIES:
        raise StudyError(f"the volume does not say its modality; make it with one of {', '.join(MODALITIES)}.")
    if len(volume) != 1:
        raise GeometryError(
            f"expected one channel of values or three of uint8 RGB; found {counted(len(volume), 'channel')}."
        )
    measured = source if isinstance(source, DicomSource) and source.modality == modality else None
    describe_measured(template, modality, unit, measured)
    values = plain(volume)
    storage = choose_storage(values, modality)
    describe_storage(template, storage, modality, unit)
    lower, upper = (window.linear.lower, window.linear.upper) if window else (float(values.min()), float(values.max()))
    describe_window(template, storage, modality, lower, upper)
    return storage.encode


def _describe_grey(template: Dataset, base: Source | None, options: DicomOptions) -> Callable[[Stored], Stored]:
    """Describe a fused grey picture; returns how it is encoded, from [0, 1] to all of its bits."""
    if options.bits == 16 and not options.multiframe:
        describe_grey(template, base if isinstance(base, DicomSource) else None)
    else:
        describe_picture(template, options.bits, options.multiframe)
    kind, white = ("u1", 255.0) if options.bits == 8 else ("<u2", 65535.0)
    return lambda values: np.rint(values * white).astype(kind)


def _measured(volume: MetaTensor | SliceStream, options: DicomOptions) -> MetaTensor:
    """Return a volume of measured values; `ExportError` where it is to take the form of a picture."""
    if isinstance(volume, SliceStream):
        raise ExportError(
            "a stream of slices is a fused picture and needs its provenance; measured values are scaled "
            "by the range of the whole volume. Give the volume."
        )
    if options.bits != 16 or options.multiframe:
        raise ExportError(
            "8 bits and one file for all slices are for fused pictures; measured values have 16 bits, and one file a "
            "slice. Leave these options out."
        )
    return volume


def _as_volume(volume: MetaTensor | torch.Tensor | npt.NDArray[Any], identity: IdentityLike | None) -> MetaTensor:
    """The volume itself, or a plain array on the grid of the volume whose identity it takes."""
    if isinstance(volume, MetaTensor):
        return volume
    if not isinstance(identity, MetaTensor):
        raise GeometryError(
            "a plain array has no place; give the loaded volume on whose grid it lies: DicomOptions(identity=volume)."
        )
    values = torch.as_tensor(np.ascontiguousarray(volume) if isinstance(volume, np.ndarray) else volume)
    values = values[None] if values.ndim == 3 else values
    return like(values if values.dtype == torch.uint8 and len(values) == 3 else values.float(), identity)


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


def _display_plane(grid: Grid, origin: Source | None, identity: Identity) -> Plane:
    """The plane to turn to before writing; none where the grid is that of a DICOM series, to be shown as it is."""
    base = identity.source
    if isinstance(origin, DicomSource) or (isinstance(base, DicomSource) and base.grid.matches(grid)):
        return "native"
    axis = next(pair for pair in ("LR", "AP", "IS") if grid.axcodes[2] in pair)
    return next(plane for plane, axes in DISPLAY_AXES.items() if axes[2] in axis)
