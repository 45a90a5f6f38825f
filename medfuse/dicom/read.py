"""Read a DICOM series into a volume: stored values become quantities, headers stay beside them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from monai.data.meta_tensor import MetaTensor
from pydicom import dcmread
from pydicom.datadict import keyword_for_tag
from pydicom.dataset import Dataset
from pydicom.filereader import data_element_generator
from pydicom.pixels.decoders.base import get_decoder
from pydicom.pixels.utils import iter_pixels
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)

from medfuse.dicom.frames import Frame, group_of
from medfuse.dicom.header import READABLE, Instance
from medfuse.dicom.lattice import Stack
from medfuse.dicom.scan import choose, quiet
from medfuse.dicom.series import Series
from medfuse.errors import MedfuseError, SeriesError
from medfuse.grid import MOST_VOXELS, Grid
from medfuse.volume import Modality, Source, Unit, make_volume

PET_UNITS: dict[str, Unit] = {"BQML": "Bq/ml", "CNTS": "counts"}

UNCOMPRESSED = (ImplicitVRLittleEndian, ExplicitVRLittleEndian, ExplicitVRBigEndian)

MOST_COMPRESSED = 1000
"""No compressed series holds more bytes of pixels than this many times its files; what claims to is a bomb."""

SMALL_BYTES = 2**26
"""Volumes up to this size are harmless whatever their files claim: blank slices compress to nearly nothing."""


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


def read(
    path: str | Path,
    series: str | None = None,
    *,
    modalities: Collection[str] = (),
    fill_gaps: bool = False,
    progress: Callable[[float], None] | None = None,
) -> MetaTensor:
    """Read the one series under ``path``.

    Parameters
    ----------
    path
        A folder, a DICOMDIR, a zip archive, or one file.
    series
        SeriesInstanceUID or SeriesNumber, where the path holds several; with ``:2`` for the second volume of a series
        that holds several.
    modalities
        Modalities to choose from where the path holds several series and only one of these.
    fill_gaps
        Interpolate linearly where slices are missing or unevenly spaced, instead of refusing the series. The source
        says how many slices were made so.
    progress
        Called with the share of the slices read, in (0, 1].

    Returns
    -------
    MetaTensor
        (1, columns, rows, slices) float32 in the series' unit: HU, Bq/ml, counts, or arbitrary. MONOCHROME1 is a way of
        display and does not change the values; nor does padding, whose value ``meta["padding"]`` tells where the header
        does.

    Raises
    ------
    SeriesError
        If the files do not form one volume.
    """
    found = choose(path, series, modalities=modalities, fill_gaps=fill_gaps)
    return read_series(found, Path(path), progress)


def read_source(path: str | Path, series: str | None = None) -> DicomSource:
    """Read the headers of the one series under ``path`` and leave its pixels; raises as `read`."""
    found = choose(path, series)
    return _source_of(found, found.require_volume(), Path(path))


def read_series(series: Series, path: Path, progress: Callable[[float], None] | None = None) -> MetaTensor:
    """Read the pixels of a scanned series; see `read`."""
    found = series.require_volume()
    with quiet():
        try:
            _require_room(found, series.name)
            values = _read_pixels(found, series.name, progress or (lambda share: None))
            return _wrap(values, series, found, path)
        except (AttributeError, LookupError, NotImplementedError, ValueError, TypeError) as error:
            if isinstance(error, MedfuseError):
                raise
            raise SeriesError(
                f"the header of {series.name} cannot be interpreted ({type(error).__name__}). Export the series again."
            ) from error


def _wrap(values: npt.NDArray[np.float32], series: Series, found: Stack, path: Path) -> MetaTensor:
    first = found.frames[0]
    source = _source_of(series, found, path)
    volume = torch.from_numpy(values).permute(2, 1, 0)[None]
    more = _padding(first.instance.header, first)
    unit = _unit(first, source.modality)
    return make_volume(volume, found.grid, modality=source.modality, unit=unit, source=source, **more)


def _source_of(series: Series, found: Stack, path: Path) -> DicomSource:
    first = found.frames[0].instance.header
    places = {id(instance): place for place, instance in enumerate(series.instances)}
    origins = [(places[id(frame.instance)], frame.number) for frame in found.frames]
    return DicomSource(
        modality=READABLE[str(first.SOPClassUID)],
        frame_of_reference=str(first.get("FrameOfReferenceUID", "")) or None,
        references=(f"urn:oid:{series.uid}",),
        path=path.resolve(),
        filled_slices=found.filled,
        headers=tuple(instance.header for instance in series.instances),
        grid=found.grid,
        slices=tuple(tuple(origins[place] for place, _ in parts) for parts in found.slices),
    )


def _require_room(found: Stack, name: str) -> None:
    """Refuse sizes that the files cannot hold, before memory is asked for."""
    if np.prod(found.grid.shape, dtype=np.float64) > MOST_VOXELS:
        raise SeriesError(f"{name} claims {found.grid!r}: no study is so large. Export the series again.")
    compressed = stored = 0
    for instance in {id(frame.instance): frame.instance for frame in found.frames}.values():
        header = instance.header
        claimed = int(header.Rows) * int(header.Columns) * instance.frames * max(int(header.BitsAllocated) // 8, 1)
        size = instance.path.stat().st_size
        if _transfer_syntax(instance) not in UNCOMPRESSED:
            compressed, stored = compressed + claimed, stored + size
        elif claimed > size:
            raise SeriesError(
                f"instance {instance.number} of {name} claims {claimed} bytes of pixels and has {size} bytes in all: "
                "it is cut short or damaged. Export the series again."
            )
    if compressed > max(stored * MOST_COMPRESSED, SMALL_BYTES):
        raise SeriesError(
            f"{name} claims {compressed} bytes of pixels in {stored} bytes of compressed files: it is damaged, or made "
            "to exhaust the memory. Export the series again."
        )


def _read_pixels(found: Stack, name: str, report: Callable[[float], None]) -> npt.NDArray[np.float32]:
    """Decode frame by frame into the one array that the volume keeps."""
    columns, rows, slices = found.grid.shape
    targets: dict[int, list[tuple[int, float]]] = defaultdict(list)
    for k, parts in enumerate(found.slices):
        for place, weight in parts:
            targets[place].append((k, weight))
    # (X, Y, Z) is a view of it, so that a slice stays contiguous; sums need zeros to start from.
    filled = found.filled > 0
    values = (np.zeros if filled else np.empty)((slices, rows, columns), dtype=np.float32)
    files: dict[int, list[int]] = defaultdict(list)
    for place, frame in enumerate(found.frames):
        files[id(frame.instance)].append(place)
    done = 0
    for places in files.values():
        for place, stored in _decode(found.frames, places, name):
            frame = found.frames[place]
            for k, weight in targets[place]:
                if filled:
                    values[k] += np.float32(weight) * (stored * np.float32(frame.slope) + np.float32(frame.intercept))
                else:
                    np.multiply(stored, frame.slope, out=values[k], casting="unsafe")
                    values[k] += frame.intercept
            done += 1
            report(done / len(found.frames))
    return values


def _decode(frames: Sequence[Frame], places: Sequence[int], name: str) -> Iterator[tuple[int, npt.NDArray[Any]]]:
    """Stored values of the frames of one file, with their places; a mosaic is cut into its tiles."""
    instance = frames[places[0]].instance
    ordered = sorted(places, key=lambda place: frames[place].number or 0)
    try:
        if frames[ordered[0]].number is None:
            (picture,) = _pixels(instance, [0])
            for place in ordered:
                yield place, _tile(picture, frames[place])
        else:
            numbers = [(frames[place].number or 1) - 1 for place in ordered]
            yield from zip(ordered, _pixels(instance, numbers), strict=True)
    except Exception as error:  # Each decoder raises its own kinds.
        raise SeriesError(
            f"the pixels of instance {instance.number} of {name} cannot be decoded ({type(error).__name__}): the file "
            "is damaged, or its compression is not supported. Export the series again."
        ) from error


def _pixels(instance: Instance, indices: list[int]) -> Iterator[npt.NDArray[Any]]:
    """Decode frames by index from 0, (rows, columns) each, and hold no more than one at a time."""
    syntax = _transfer_syntax(instance)
    if instance.pixels_at is not None and instance.frames == 1 and syntax in UNCOMPRESSED:
        yield _plain_pixels(instance, instance.pixels_at, syntax)
        return
    # To decode all frames goes through a file once; to ask for each may look for it from the start.
    wanted = None if indices == list(range(instance.frames)) else indices
    if syntax == DeflatedExplicitVRLittleEndian:
        yield from iter_pixels(dcmread(instance.path), indices=wanted)
    else:
        yield from iter_pixels(instance.path, indices=wanted, transfer_syntax_uid=syntax)


def _plain_pixels(instance: Instance, start: int, syntax: str) -> npt.NDArray[Any]:
    """Decode the one uncompressed frame of a file whose header is known, without reading that again."""
    header = instance.header
    with instance.path.open("rb") as stream:
        stream.seek(start)
        element = next(data_element_generator(stream, *header.original_encoding))
    options: Any = {
        "pixel_keyword": keyword_for_tag(element.tag),
        "pixel_vr": element.VR or "OW",
        "rows": header.Rows,
        "columns": header.Columns,
        "number_of_frames": 1,
        "samples_per_pixel": header.get("SamplesPerPixel", 1),
        "photometric_interpretation": header.get("PhotometricInterpretation", "MONOCHROME2"),
        "bits_allocated": header.BitsAllocated,
        "bits_stored": header.get("BitsStored", header.BitsAllocated),
        "pixel_representation": header.get("PixelRepresentation", 0),
    }
    pixels, _ = get_decoder(syntax).as_array(element.value or b"", **options)
    return pixels


def _transfer_syntax(instance: Instance) -> str:
    """As the file says, or, where it lacks the part that says, as it was parsed."""
    meta = getattr(instance.header, "file_meta", None)
    said = meta.get("TransferSyntaxUID") if meta is not None else None
    if said:
        return str(said)
    implicit, little = instance.header.original_encoding
    if implicit:
        return ImplicitVRLittleEndian
    return ExplicitVRLittleEndian if little else ExplicitVRBigEndian


def _tile(picture: npt.NDArray[Any], frame: Frame) -> npt.NDArray[Any]:
    columns, rows = frame.shape
    if frame.tile is None:
        return picture.reshape(rows, columns)
    row, column = frame.tile
    return picture[row * rows : (row + 1) * rows, column * columns : (column + 1) * columns]


def _padding(header: Dataset, frame: Frame) -> dict[str, float]:
    """What voxels outside the field of view hold, in the volume's unit, where the header says (PS3.3 C.7.5.1.1.2)."""
    stored = header.get("PixelPaddingValue")
    if not isinstance(stored, int):
        return {}
    return {"padding": stored * frame.slope + frame.intercept}


def _unit(frame: Frame, modality: Modality) -> Unit:
    """What the values are measured in; nothing is guessed."""
    header = frame.instance.header
    values, mapping = (
        group_of(header, (frame.number or 1) - 1, keyword) if frame.number else Dataset()
        for keyword in ("PixelValueTransformationSequence", "RealWorldValueMappingSequence")
    )
    holder = values if "RescaleSlope" in values else header
    if modality == "CT":
        rescaled = "RescaleSlope" in holder and "RescaleIntercept" in holder
        return "HU" if rescaled and str(holder.get("RescaleType") or "HU") == "HU" else "arbitrary"
    if modality == "PT":
        if header.get("Units") == "GML" and str(header.get("SUVType") or "BW") == "BW":
            return "SUV"  # by default of body weight (PS3.3 C.8.9.1)
        said = str(header.get("Units") or "") or str(values.get("RescaleType") or "")
        return PET_UNITS.get(said, "Bq/ml" if _maps_to_activity(mapping, frame) else "arbitrary")
    return "counts" if modality == "NM" else "arbitrary"


def _maps_to_activity(mapping: Dataset, frame: Frame) -> bool:
    """Whether an enhanced PET's real-world mapping is its rescale and leads to Bq/ml (PS3.3 C.7.6.16.2.11)."""
    codes = mapping.get("MeasurementUnitsCodeSequence") or [Dataset()]
    same = (mapping.get("RealWorldValueSlope"), mapping.get("RealWorldValueIntercept"))
    return str(codes[0].get("CodeValue", "")).lower() == "bq/ml" and same == (frame.slope, frame.intercept)
