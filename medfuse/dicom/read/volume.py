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
from medfuse.dicom.frames.enhanced import EMPTY, group_of
from medfuse.dicom.frames.frame import Frame
from medfuse.dicom.frames.stack import Stack
from medfuse.dicom.header import READABLE, quiet
from medfuse.dicom.read.pixels import read_pixels
from medfuse.dicom.read.suv import suv_factor
from medfuse.dicom.scan.find_files import Place, folder_of
from medfuse.dicom.scan.scan import choose
from medfuse.dicom.scan.series import Series
from medfuse.errors import MedfuseError, SeriesError
from medfuse.runtime.progress import Progress, step_of
from medfuse.volume import TRAITS, Modality, Source, Unit, make_volume
from medfuse.volume.grid import Grid

PET_UNITS: dict[str, Unit] = {"BQML": "Bq/ml", "CNTS": "counts"}


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

    def suv_factor(self, unit: Unit, weight_kg: float | None = None) -> float:
        return suv_factor(self.headers, unit, weight_kg)


def read(
    path: Place,
    series: str | None = None,
    *,
    modalities: Collection[str] = (),
    fill_gaps: bool = False,
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
    found = choose(path, series, modalities=modalities, fill_gaps=fill_gaps)
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
    first = found.frames[0]
    source = _source_of(series, found, path)
    volume = torch.from_numpy(values).permute(2, 1, 0)[None]
    more = _padding(found.frames, series.name)
    unit = _unit(first, source.modality)
    return make_volume(volume, found.grid, modality=source.modality, unit=unit, source=source, **more)


def _source_of(series: Series, found: Stack, path: Place) -> DicomSource:
    first = found.frames[0].instance.header
    places = {id(instance): place for place, instance in enumerate(series.instances)}
    origins = [(places[id(frame.instance)], frame.number) for frame in found.frames]
    return DicomSource(
        modality=READABLE[str(first.SOPClassUID)],
        frame_of_reference=str(first.get("FrameOfReferenceUID", "")) or None,
        references=(f"urn:oid:{series.uid}",),
        path=folder_of(path),
        filled_slices=found.filled,
        headers=tuple(instance.header for instance in series.instances),
        grid=found.grid,
        slices=tuple(tuple(origins[place] for place, _ in parts) for parts in found.slices),
    )


def _padding(frames: Sequence[Frame], name: str) -> dict[str, float]:
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
        found.add(value)
    return {"padding": found.pop()} if len(found) == 1 else {}


def _unit(frame: Frame, modality: Modality) -> Unit:
    """What the values are measured in; nothing is guessed."""
    header = frame.instance.header
    values, mapping = (
        group_of(header, (frame.number or 1) - 1, keyword) if frame.number else EMPTY
        for keyword in ("PixelValueTransformationSequence", "RealWorldValueMappingSequence")
    )
    holder = values if "RescaleSlope" in values else header
    if frame.lut is not None:
        return "HU" if modality == "CT" and frame.lut.kind == "HU" else "arbitrary"
    if "HU" in TRAITS[modality].units:
        rescaled = "RescaleSlope" in holder and "RescaleIntercept" in holder
        return "HU" if rescaled and str(holder.get("RescaleType") or "HU") == "HU" else "arbitrary"
    if "SUV" in TRAITS[modality].units:
        if header.get("Units") == "GML" and str(header.get("SUVType") or "BW") == "BW":
            return "SUV"  # by default of body weight (PS3.3 C.8.9.1)
        said = str(header.get("Units") or "") or str(values.get("RescaleType") or "")
        return PET_UNITS.get(said, "Bq/ml" if _maps_to_activity(mapping, frame) else "arbitrary")
    return TRAITS[modality].units[0]


def _maps_to_activity(mapping: Dataset, frame: Frame) -> bool:
    """Whether an enhanced PET's real-world mapping is its rescale and leads to Bq/ml (PS3.3 C.7.6.16.2.11)."""
    codes = mapping.get("MeasurementUnitsCodeSequence") or [Dataset()]
    same = (mapping.get("RealWorldValueSlope"), mapping.get("RealWorldValueIntercept"))
    return str(codes[0].get("CodeValue", "")).lower() == "bq/ml" and same == (frame.slope, frame.intercept)
