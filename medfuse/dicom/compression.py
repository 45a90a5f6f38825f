"""Pixels without loss in less room: the transfer syntaxes that are written, and the file itself."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Literal, get_args

from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import UID, ExplicitVRLittleEndian, JPEG2000Lossless, JPEGLSLossless, RLELossless

from medfuse.errors import ExportError

Compression = Literal["none", "rle", "jpeg2000", "jpeg-ls"]
COMPRESSIONS: tuple[Compression, ...] = get_args(Compression)

TRANSFER_SYNTAXES: Mapping[str, UID] = {
    "none": ExplicitVRLittleEndian,
    "rle": RLELossless,
    "jpeg2000": JPEG2000Lossless,
    "jpeg-ls": JPEGLSLossless,
}

LEAST_JPEG_2000 = 32
"""Rows and columns that OpenJPEG's usual six resolutions need."""


def require_compressible(compression: str, rows: int, columns: int) -> None:
    """Raise `ExportError` unless slices of this size can be written so, before the first one is."""
    if compression not in COMPRESSIONS:
        raise ExportError(f"expected a compression of {', '.join(COMPRESSIONS)}; found {compression!r}.")
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
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    try:
        if compression != "none":
            if compression == "jpeg2000" and dataset.SamplesPerPixel == 3:
                # Says to the encoder and to readers that the reversible colour transform was used (PS3.5 8.2.4).
                dataset.PhotometricInterpretation = "YBR_RCT"
            # Lossless: the pixels are the same, and so is the instance's UID (PS3.3 C.12.4 asks for new ones on loss).
            dataset.compress(TRANSFER_SYNTAXES[compression], generate_instance_uid=False)
        dataset.save_as(path, enforce_file_format=True)
    except (ValueError, TypeError, RuntimeError) as error:
        number = dataset.get("InstanceNumber")
        raise ExportError(f"instance {number} cannot be encoded ({type(error).__name__}).") from error
