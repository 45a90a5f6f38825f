"""Write a volume as a DICOM series: geometry from its grid, identity from its sources' headers.

Colour becomes Secondary Capture with the Image Plane attributes (the only classic RGB form that viewers place), a
fused grey picture MR Image Storage at 16 bits, and measured values their modality's own kind with their unit.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt
import torch
from monai.data.meta_tensor import MetaTensor
from pydicom.dataset import Dataset

from medfuse.dicom.header import quiet
from medfuse.dicom.read.volume import DicomSource
from medfuse.dicom.write.classic_header import classic_header
from medfuse.dicom.write.compression import Compression, Stored
from medfuse.dicom.write.identity import Identity, identity
from medfuse.dicom.write.image_modules import (
    describe_colour,
    describe_grey,
    describe_measured,
    describe_picture,
    require_times,
)
from medfuse.dicom.write.instances import Draft
from medfuse.dicom.write.references import Contribution
from medfuse.dicom.write.rescale import choose_storage, describe_storage, describe_window
from medfuse.dicom.write.series_modules import Naming, begin_series, place, series_number
from medfuse.errors import ExportError, GeometryError, StudyError
from medfuse.intensity import Window
from medfuse.provenance import DISCLAIMER, Provenance
from medfuse.volume import MODALITIES, Source, grid_of, meta_of, plain, source_of
from medfuse.volume import like as on_grid_of
from medfuse.volume.grid import Grid
from medfuse.volume.planes import DISPLAY_AXES, Plane, turn_of

PARTNER_AFTER_FUSED = 1000
"""How far the registered partner's SeriesNumber lies after the numbers of fused series."""

Like = MetaTensor | Source | Identity

Bits = Literal[8, 16]


@dataclass(frozen=True)
class SliceStream:
    """A fused picture that comes slice by slice: it is written while it is made, and never held as a whole.

    Parameters
    ----------
    slices
        One for each index along the last axis of the grid, in order: (3, X, Y) uint8 RGB, or (1, X, Y) floats in
        [0, 1].
    grid
        Where they lie.
    channels
        3 or 1.
    source
        Where the MRI came from.
    """

    slices: Iterable[torch.Tensor]
    grid: Grid
    channels: Literal[1, 3]
    source: Source | None = None

    @classmethod
    def of(cls, volume: MetaTensor) -> SliceStream:
        """The slices of a volume that is there; shares memory."""
        values = plain(volume)
        slices = (values[..., k] for k in range(values.shape[-1]))
        return cls(slices, grid_of(volume), 3 if len(volume) == 3 else 1, source_of(volume))

    def turned(self, plane: Plane) -> Iterator[tuple[int, torch.Tensor]]:
        """The slices with their indices on the grid turned to a plane whose slices these are."""
        order, flipped, grid = turn_of(self.grid, plane)
        within = [1 + axis for axis in flipped if axis < 2]
        for k, values in enumerate(self.slices):
            turned = values.permute(0, 1 + order[0], 1 + order[1]).flip(within)
            yield grid.shape[2] - 1 - k if 2 in flipped else k, turned


def write_series(
    volume: MetaTensor | SliceStream | torch.Tensor | npt.NDArray[Any],
    out: str | Path,
    *,
    like: Like | None = None,
    partner: Source | None = None,
    provenance: Provenance | None = None,
    description: str | None = None,
    number: int | None = None,
    compression: Compression = "none",
    bits: Bits = 16,
    multiframe: bool = False,
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
        on its grid; (X, Y, Z) counts as one channel. A `SliceStream` is a fused picture.
    out
        Folder to appear, with the files ``0001.dcm`` and so on; one multi-frame file for NM, or where asked for.
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
    bits
        Of a grey picture: 16, or 8 as Secondary Capture, for MR Image Storage has no 8. Colour has 8 in each channel.
    multiframe
        Whether a picture becomes one file, multi-frame Secondary Capture, which fewer programs read.
    overwrite
        Whether a folder already there is replaced.
    progress
        Called with the share done, in (0, 1].

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
    image = volume if isinstance(volume, SliceStream) else _as_volume(volume, like)
    stream = image if isinstance(image, SliceStream) else SliceStream.of(image)
    base = _base_of(stream.source, like)
    header = header_of(base)
    plane = _display_plane(stream.grid, stream.source, base)
    grid = turn_of(stream.grid, plane)[2]
    contributions = _contributions(base if isinstance(base, Source) else None, partner, provenance, grid)
    encode: Callable[[Stored], Stored]
    with quiet():
        person = identity(header, header_of(partner))
        derivation = provenance.sentence() if provenance else f"Derived volume. {DISCLAIMER}"
        template = begin_series(person, contributions, derivation)
        name = provenance.marked(f"FUSED MR+{provenance.partner_modality} GeSeNet") if provenance else "DERIVED medfuse"
        Naming(description, number).apply(template, name, series_number(header))
        place(template, grid)
        if stream.channels == 3:
            describe_colour(template, multiframe)
            encode = _as_stored
        elif provenance is not None:
            encode = _describe_grey(template, base, bits, multiframe)
        else:
            encode = _describe_values(template, _measured(image, bits, multiframe), base, None)
    inputs = [one.path for one in (base, partner, stream.source) if isinstance(one, Source)]
    draft = Draft(grid, stream.turned(plane), template, contributions, encode, compression)
    draft.write(Path(out), inputs, overwrite, progress)


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
    base = mri if like is None else _base_of(partner, like)
    header = header_of(base)
    stream = SliceStream.of(volume)
    plane = _display_plane(stream.grid, mri, base)
    grid = turn_of(stream.grid, plane)[2]
    contributions = _contributions(None, partner, provenance, grid)
    with quiet():
        person = identity(header, header_of(partner))
        modality = provenance.partner_modality
        derivation = (
            f"{modality} resampled once onto the grid of the MR, linearly, values kept. Alignment: "
            f"{provenance.alignment}. {DISCLAIMER}"
        )
        template = begin_series(person, contributions, derivation)
        Naming(description, number).apply(
            template, provenance.marked(f"REGISTERED {modality} on MR"), series_number(header) + PARTNER_AFTER_FUSED
        )
        place(template, grid)
        encode = _describe_values(template, volume, partner, provenance.partner_window)
    inputs = [one.path for one in (base, mri, partner) if isinstance(one, Source)]
    draft = Draft(grid, stream.turned(plane), template, contributions, encode, compression)
    draft.write(Path(out), inputs, overwrite, progress)


def require_measurable(volume: MetaTensor) -> None:
    """Raise `ExportError` where `write_partner` would refuse a loaded partner, before minutes are spent on it."""
    source = source_of(volume)
    measured = source if isinstance(source, DicomSource) else None
    require_times(meta_of(volume)["modality"], measured)
    if measured is not None:
        classic_header(measured, 0)


def identity_of(mri: Source | None, partner: Source | None) -> Source | Identity:
    """Whose identity all series of one result share: the MRI's, or else one that holds what the partner knows."""
    if isinstance(mri, DicomSource):
        return mri
    with quiet():
        return Identity(identity(None, header_of(partner)))


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
    return storage.encode


def _describe_grey(
    template: Dataset, base: Source | Identity | None, bits: Bits, multiframe: bool
) -> Callable[[Stored], Stored]:
    """Describe a fused grey picture; returns how it is encoded, from [0, 1] to all of its bits."""
    if bits not in get_args(Bits):
        raise ExportError(f"a grey picture has 8 or 16 bits; found {bits}.")
    if bits == 16 and not multiframe:
        describe_grey(template, base if isinstance(base, DicomSource) else None)
    else:
        describe_picture(template, bits, multiframe)
    kind, white = ("u1", 255.0) if bits == 8 else ("<u2", 65535.0)
    return lambda values: np.rint(values * white).astype(kind)


def _measured(volume: MetaTensor | SliceStream, bits: Bits, multiframe: bool) -> MetaTensor:
    """Return a volume of measured values; `ExportError` where it is to take the form of a picture."""
    if isinstance(volume, SliceStream):
        raise ExportError(
            "a stream of slices is a fused picture and needs its provenance; measured values are scaled "
            "by the range of the whole volume. Give the volume."
        )
    if bits != 16 or multiframe:
        raise ExportError(
            "8 bits and one file for all slices are for fused pictures; measured values have 16 bits, and one file a "
            "slice. Leave these options out."
        )
    return volume


def _as_stored(values: Stored) -> Stored:
    return values


def header_of(source: Source | Identity | None) -> Dataset | None:
    """What says whose a series is; None where nothing does."""
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


def _base_of(origin: Source | None, like: Like | None) -> Source | Identity | None:
    """Whose identity a volume takes that came from ``origin``."""
    if like is None:
        return origin
    return source_of(like) if isinstance(like, MetaTensor) else like


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


def _display_plane(grid: Grid, origin: Source | None, base: Source | Identity | None) -> Plane:
    """The plane to turn to before writing: none where the grid is a DICOM series', made to be looked at as it is."""
    if isinstance(origin, DicomSource) or (isinstance(base, DicomSource) and base.grid.matches(grid)):
        return "native"
    axis = grid.axcodes[2]
    return next(plane for plane, axes in DISPLAY_AXES.items() if {axis} & set(_axis_pair(axes[2])))


def _axis_pair(code: str) -> str:
    return next(pair for pair in ("LR", "AP", "IS") if code in pair)
