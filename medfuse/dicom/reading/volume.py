"""Read a DICOM series into a volume: stored values become quantities, and the source keeps the headers."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from monai.data.meta_tensor import MetaTensor
from pydicom.dataset import Dataset

from medfuse.dicom.encoding.pixel_format import pixel_format
from medfuse.dicom.frames.frame import Frame
from medfuse.dicom.frames.quantities import Quantity, quantity_of
from medfuse.dicom.frames.stack import Stack
from medfuse.dicom.header import READABLE, quiet, said
from medfuse.dicom.reading.pet_elements import tracer_of
from medfuse.dicom.reading.pixels import read_pixels
from medfuse.dicom.reading.suv import uptake
from medfuse.dicom.scanning.choose import choose
from medfuse.dicom.scanning.find_files import Place, folder_of
from medfuse.dicom.scanning.series import Series
from medfuse.errors import MedfuseError, SeriesError
from medfuse.runtime.progress import Progress, step_of
from medfuse.volume import Source, SuvInputs, Unit, Uptake, make_volume
from medfuse.volume.grid import Grid


@dataclass(frozen=True)
class DicomSource(Source):
    """The headers of the series a volume was read from, in slice order and without pixels, and its grid.

    A multi-frame file has one header for all its frames. ``slices`` names for each slice what it was made of: places
    in ``headers`` and numbers of frames, counted from 1 and None in single-frame files; two where a gap was filled.
    """

    headers: tuple[Dataset, ...]
    grid: Grid
    slices: tuple[tuple[tuple[int, int | None], ...], ...]

    @property
    def first(self) -> Dataset:
        """The header of the first slice."""
        return self.headers[0]

    @property
    def first_frame(self) -> int | None:
        """The first slice's number in a multi-frame file, counted from 1; None in a single-frame one."""
        return self.slices[0][0][1]

    def header_of(self, k: int) -> Dataset:
        """The header of slice ``k``; of the lower neighbour where it was interpolated."""
        return self.headers[self.slices[k][0][0]]

    @property
    def tracer(self) -> str:
        return tracer_of(self.first)

    def uptake(self, unit: Unit, given: SuvInputs = SuvInputs()) -> Uptake:
        return uptake(self.headers, unit, given)


def read(
    path: Place,
    series: str | None = None,
    *,
    modalities: Collection[str] = (),
    fill_gaps: bool = False,
    accept_cut: bool = False,
    progress: Progress | None = None,
) -> MetaTensor:
    """Read the one series under ``path``.

    Parameters
    ----------
    path
        A folder, a DICOMDIR, a zip archive, one file, or a list of such.
    series
        SeriesInstanceUID or SeriesNumber, where the path holds several; with ``:2`` for the second volume of a series
        that holds several.
    modalities
        Modalities to choose from where the path holds several series and only one of these.
    fill_gaps
        Interpolate linearly where slices are missing or unevenly spaced, instead of refusing the series. The source
        says how many slices were made so.
    accept_cut
        Read what there is where headers speak of more: a part of a concatenation, or fewer slices than they count. The
        source says so.
    progress
        Called with the step ``load``: the share of the slices read.

    Returns
    -------
    MetaTensor
        (1, columns, rows, slices) float32 in the series' unit: HU, Bq/ml, counts, or arbitrary. MONOCHROME1 is a way of
        display and does not change the values; nor does padding, whose value ``meta["padding"]`` holds where the
        headers say one for all slices.

    Raises
    ------
    SeriesError
        If the files do not form one volume.
    """
    found = choose(path, series, modalities=modalities, fill_gaps=fill_gaps, accept_cut=accept_cut)
    return read_series(found, path, progress)


def read_source(path: Place, series: str | None = None) -> DicomSource:
    """Read the headers of the one series under ``path`` and leave its pixels; raises as `read`."""
    found = choose(path, series)
    return _source_of(found, found.require_volume(), path)


def read_series(series: Series, path: Place, progress: Progress | None = None) -> MetaTensor:
    """Read the pixels of a scanned series; see `read`."""
    found = series.require_volume()
    with quiet():
        try:
            values = read_pixels(found, series.name, step_of(progress, "load"))
            return _wrap(values, series, found, path)
        except (AttributeError, LookupError, NotImplementedError, ValueError, TypeError) as error:
            if isinstance(error, MedfuseError):
                raise
            raise SeriesError(
                f"the header of {series.name} cannot be interpreted ({type(error).__name__}). Export the series again."
            ) from error


def _wrap(values: npt.NDArray[np.float32], series: Series, found: Stack, path: Place) -> MetaTensor:
    source = _source_of(series, found, path)
    volume = torch.from_numpy(values).permute(2, 1, 0)[None]
    quantity = quantity_of(found.frames, source.modality, series.name)
    more = _padding(found.frames, series.name, quantity)
    if not quantity.unchanged:
        volume = quantity.of(volume)
    return make_volume(volume, found.grid, modality=source.modality, unit=quantity.unit, source=source, **more)


def _source_of(series: Series, found: Stack, path: Place) -> DicomSource:
    first = found.frames[0].instance.header
    places = {id(instance): place for place, instance in enumerate(series.instances)}
    origins = [(places[id(frame.instance)], frame.number) for frame in found.frames]
    return DicomSource(
        modality=READABLE[str(first.SOPClassUID)],
        frame_of_reference=said(first, "FrameOfReferenceUID") or None,
        references=(f"urn:oid:{series.uid}",),
        path=folder_of(path),
        filled_slices=found.filled,
        cut=bool(series.cut),
        excerpt=series.excerpt,
        position_error_mm=found.deviation,
        headers=tuple(instance.header for instance in series.instances),
        grid=found.grid,
        slices=tuple(tuple(origins[place] for place, _ in parts) for parts in found.slices),
    )


def _padding(frames: Sequence[Frame], name: str, quantity: Quantity) -> dict[str, float]:
    """What voxels outside the field of view hold, in the volume's unit, where the headers say (PS3.3 C.7.5.1.1.2).

    Nothing where slices do not agree: each slice of a PET has a slope of its own.
    """
    found: set[float] = set()
    formats: dict[int, float | None] = {}
    for frame in frames:
        instance = frame.instance
        if id(instance) not in formats:
            stated = instance.header.get("PixelPaddingValue")
            # Stated unsigned for signed pixels or the reverse, it is of the same bits.
            layout = pixel_format(instance, name) if isinstance(stated, int) else None
            formats[id(instance)] = layout.stated(stated) if layout is not None else None
        stored = formats[id(instance)]
        if stored is None:
            return {}
        value = float(frame.lut(np.array([stored]))[0]) if frame.lut else stored * frame.slope + frame.intercept
        found.add(value * quantity.scale + quantity.offset)
    return {"padding": found.pop()} if len(found) == 1 else {}
