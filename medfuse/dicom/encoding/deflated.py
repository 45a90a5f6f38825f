"""Read DICOM files as pydicom does, but none that is deflated and inflates to more than any file holds."""

from __future__ import annotations

import zlib
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO

from pydicom import dcmread
from pydicom.dataset import FileDataset
from pydicom.filereader import _read_file_meta_info, read_preamble
from pydicom.uid import DeflatedExplicitVRLittleEndian

MOST_INFLATED = 2**30
"""A deflated file holds one slice or one volume, and no more bytes than this."""


def read_bounded(source: Path | BytesIO, **options: Any) -> FileDataset:
    """As `pydicom.dcmread`, with its options; `ValueError` where the file inflates beyond `MOST_INFLATED`.

    pydicom inflates all of a file to read its header, and a thousandth of its size can ask for it.
    """
    if isinstance(source, BytesIO):
        is_deflated(source)
        source.seek(0)
    else:
        with source.open("rb") as stream:
            is_deflated(stream)
    return dcmread(source, **options)


def is_deflated(stream: BinaryIO) -> bool:
    """Whether a file is deflated (PS3.5 A.5), from its first byte on; `ValueError` where it inflates beyond the limit.

    The data set begins where pydicom finds it to begin, whatever the group length says.
    """
    read_preamble(stream, force=True)
    if _read_file_meta_info(stream).get("TransferSyntaxUID") != DeflatedExplicitVRLittleEndian:
        return False
    inflate, size = zlib.decompressobj(-zlib.MAX_WBITS), 0
    while (block := inflate.unconsumed_tail or stream.read(2**16)) and not inflate.eof:
        size += len(inflate.decompress(block, 2**22))
        if size > MOST_INFLATED:
            raise ValueError("the deflated file is too large")
    return True
