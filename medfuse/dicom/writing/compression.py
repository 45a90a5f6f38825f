"""Write DICOM files, compressed without loss where asked for, and spool the frames of one file on disk."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from threading import Lock
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.pixels.encoders.base import get_encoder
from pydicom.pixels.utils import as_pixel_options
from pydicom.uid import UID, ExplicitVRLittleEndian, JPEG2000Lossless, JPEGLSLossless, RLELossless

from medfuse.errors import ExportError

Stored = npt.NDArray[Any]

Compression = Literal["none", "rle", "jpeg2000", "jpeg-ls"]
COMPRESSIONS: tuple[Compression, ...] = get_args(Compression)

TRANSFER_SYNTAXES: Mapping[str, UID] = {
    "none": ExplicitVRLittleEndian,
    "rle": RLELossless,
    "jpeg2000": JPEG2000Lossless,
    "jpeg-ls": JPEGLSLossless,
}

ENCODERS = {"rle": "pydicom", "jpeg2000": "pylibjpeg-openjpeg", "jpeg-ls": "pyjpegls"}
"""The package that compresses; of pyjpegls there is no wheel for Python 3.14."""

LEAST_JPEG_2000 = 32
"""Rows and columns that OpenJPEG's usual six resolutions need."""

CODECS = Lock()
"""One slice is encoded at a time: pylibjpeg-openjpeg 2.6 corrupts the memory of two that are."""

LONGEST = 2**32 - 2
"""Bytes that an element of a stated length holds (PS3.5 7.1)."""

UNDEFINED = 2**32 - 1
PIXEL_DATA = bytes.fromhex("e07f1000")
ITEM, END = bytes.fromhex("feff00e0"), bytes.fromhex("feffdde0")
"""Tags as they stand in a little-endian file (PS3.5 7.5, A.4)."""


def require_encoder(compression: Compression) -> None:
    """Raise `ExportError` unless what compresses so is installed: not every platform has a wheel of it."""
    if compression != "none" and not get_encoder(TRANSFER_SYNTAXES[compression]).is_available:
        others = ", ".join(name for name in COMPRESSIONS if name != compression)
        raise ExportError(
            f"compression as {compression} needs {ENCODERS[compression]}, which is not installed. Install it, or "
            f"choose another compression: {others}."
        )


def require_compressible(compression: Compression, rows: int, columns: int) -> None:
    """Raise `ExportError` unless slices of this size can be compressed so, before the first one is."""
    if compression == "jpeg2000" and min(rows, columns) < LEAST_JPEG_2000:
        raise ExportError(
            f"JPEG 2000 needs slices of at least {LEAST_JPEG_2000} × {LEAST_JPEG_2000} pixels; found "
            f"{columns} × {rows}. Choose another compression, such as jpeg-ls."
        )


def save(dataset: Dataset, path: Path, compression: Compression = "none") -> None:
    """Write a dataset whose pixels are native, compressed without loss where that is asked for.

    Raises
    ------
    ExportError
        If a value cannot be encoded.
    """
    _begin_file(dataset)
    try:
        if compression != "none":
            _note_transform(dataset, compression)
            # Lossless: the pixels are the same, and so is the instance's UID (PS3.3 C.12.4 asks for new ones on loss).
            with CODECS:
                dataset.compress(TRANSFER_SYNTAXES[compression], generate_instance_uid=False)
        dataset.save_as(path, enforce_file_format=True)
    except (ValueError, TypeError, RuntimeError) as error:
        raise _unencodable(dataset, error) from error


class Spool:
    """The frames of one file, on disk, as they will be stored: they may come in any order and from several threads."""

    def __init__(self, path: Path, dataset: Dataset, compression: Compression) -> None:
        self.path, self.dataset, self.compression = path, dataset, compression
        if compression != "none":
            _note_transform(dataset, compression)
        self.places: dict[int, tuple[int, int]] = {}
        self._lock = Lock()

    def __enter__(self) -> Spool:
        self.stream = self.path.open("w+b")
        return self

    def __exit__(self, *_: object) -> None:
        self.stream.close()
        self.path.unlink()

    def add(self, place: int, stored: Stored) -> None:
        """Pack a (rows, columns[, channels]) frame, which goes to ``place`` in the file, counted from 0."""
        data = np.ascontiguousarray(stored).tobytes() if self.compression == "none" else self._packed(stored)
        with self._lock:
            self.places[place] = (self.stream.seek(0, 2), len(data))
            self.stream.write(data)

    def _packed(self, stored: Stored) -> bytes:
        options = {**as_pixel_options(self.dataset), "number_of_frames": 1}
        encoder = get_encoder(TRANSFER_SYNTAXES[self.compression])
        try:
            with CODECS:
                data = encoder.encode(np.squeeze(np.ascontiguousarray(stored)), **options)
        except (ValueError, TypeError, RuntimeError) as error:
            raise _unencodable(self.dataset, error) from error
        return data + b"\0" * (len(data) % 2)


def save_frames(dataset: Dataset, spool: Spool, path: Path) -> None:
    """Write a dataset and the frames of a spool after it, one at a time: PixelData is its last element.

    Raises
    ------
    ExportError
        If a value cannot be encoded, or native pixels need 4 GiB and more.
    """
    size = sum(length for _, length in spool.places.values())
    native = spool.compression == "none"
    if native and size >= LONGEST:
        raise ExportError(
            f"one file holds less than 4 GiB of native pixels (PS3.5 7.1); found {size} bytes. Choose a compression, "
            "or one file a slice."
        )
    _begin_file(dataset)
    dataset.file_meta.TransferSyntaxUID = TRANSFER_SYNTAXES[spool.compression]
    try:
        dataset.save_as(path, enforce_file_format=True)
    except (ValueError, TypeError, RuntimeError) as error:
        raise _unencodable(dataset, error) from error
    packed_as = b"OW" if native and dataset.BitsAllocated > 8 else b"OB"
    with path.open("ab") as target:
        length = size + size % 2 if native else UNDEFINED
        target.write(PIXEL_DATA + packed_as + bytes(2) + length.to_bytes(4, "little"))
        if not native:
            target.write(ITEM + bytes(4))  # the table of offsets, which may be empty (PS3.5 A.4)
        for _, (start, length) in sorted(spool.places.items()):
            if not native:
                target.write(ITEM + length.to_bytes(4, "little"))
            spool.stream.seek(start)
            target.write(spool.stream.read(length))
        target.write(bytes(size % 2) if native else END + bytes(4))


def _begin_file(dataset: Dataset) -> None:
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID


def _note_transform(dataset: Dataset, compression: Compression) -> None:
    """Say to the encoder and to readers that JPEG 2000's reversible colour transform is used (PS3.5 8.2.4)."""
    if compression == "jpeg2000" and dataset.SamplesPerPixel == 3:
        dataset.PhotometricInterpretation = "YBR_RCT"


def _unencodable(dataset: Dataset, error: Exception) -> ExportError:
    return ExportError(f"instance {dataset.get('InstanceNumber')} cannot be encoded ({type(error).__name__}).")
