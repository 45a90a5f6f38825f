"""Files whose pixels are stored in every way that files store them, and in ways that none should."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from io import BytesIO
from pathlib import Path

import numpy as np
import pydicom
from pydicom import uid
from pydicom.encaps import encapsulate
from pydicom.filewriter import write_file_meta_info
from pydicom.pixels import get_encoder
from pydicom.uid import UID
from synthetic import acquired, oblique_grid

from medfuse.dicom.simulate import write_acquisition


def series(
    folder: Path, change: Callable[[pydicom.Dataset, int], object] | None = None, modality="MR", shape=(9, 8, 4)
):
    """Write a small series, each file changed; return its stored values, (slices, rows, columns)."""
    write_acquisition(acquired(oblique_grid(shape), modality)[0], folder, study=1, series_number=4)
    stored = []
    for place, path in enumerate(sorted(folder.iterdir())):
        header = pydicom.dcmread(path)
        stored.append(header.pixel_array)
        if change is not None:
            change(header, place)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                header.save_as(path)
    return np.stack(stored)


def store(header: pydicom.Dataset, cells: np.ndarray, bits: int, high: int | None = None, signed: bool = False) -> None:
    """Give a header uncompressed pixels: whole cells, of which it says which bits hold values."""
    header.Rows, header.Columns = cells.shape
    header.BitsAllocated, header.BitsStored = cells.dtype.itemsize * 8, bits
    header.HighBit = bits - 1 if high is None else high
    header.PixelRepresentation = int(signed)
    header.PixelData = cells.astype(cells.dtype.newbyteorder("<")).tobytes() + b"\0" * (cells.nbytes % 2)
    header["PixelData"].VR = "OW"


ENCODERS = {uid.RLELossless: "pydicom", uid.JPEGLSLossless: "pyjpegls", uid.JPEG2000Lossless: "pylibjpeg"}


def codestream(cells: np.ndarray, syntax: UID, bits: int, signed: bool = False) -> bytes:
    """One frame compressed as samples of so many bits, which a header need not agree with."""
    return get_encoder(syntax).encode(
        cells,
        rows=cells.shape[0],
        columns=cells.shape[1],
        samples_per_pixel=1,
        number_of_frames=1,
        bits_allocated=cells.dtype.itemsize * 8,
        bits_stored=bits,
        pixel_representation=int(signed),
        photometric_interpretation="MONOCHROME2",
        encoding_plugin=ENCODERS[syntax],
    )


def compress(header: pydicom.Dataset, frames: Sequence[bytes], syntax: UID, *, has_bot: bool = True) -> None:
    """Give a header compressed pixels."""
    encapsulated(header, encapsulate(list(frames), has_bot=has_bot), syntax)


def encapsulated(header: pydicom.Dataset, content: bytes, syntax: UID) -> None:
    """Give a header fragments, whatever they hold."""
    header.PixelData = content
    header["PixelData"].VR = "OB"
    header["PixelData"].is_undefined_length = True
    header.file_meta.TransferSyntaxUID = syntax


def restate(path: Path, claimed: UID | None) -> None:
    """Have a file's meta information claim another transfer syntax, or leave it out, and change nothing else."""
    content = path.read_bytes()
    body = content[144 + int.from_bytes(content[140:144], "little") :]
    meta = pydicom.dcmread(path, stop_before_pixels=True).file_meta
    buffer = BytesIO()
    if claimed is not None:
        meta.TransferSyntaxUID = claimed
        buffer.write(bytes(128) + b"DICM")
        write_file_meta_info(buffer, meta)
    path.write_bytes(buffer.getvalue() + body)
