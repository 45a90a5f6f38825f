"""Siemens mosaics: one picture that holds all slices as tiles, placed by a private header (CSA).

The public position is that of a slice as large as the whole mosaic (nibabel's documentation of the format describes
it); the private header says how many tiles are slices and to which side they are stacked.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
from pydicom.dataset import Dataset

from medfuse.dicom.header import texts
from medfuse.dicom.verdict import NoVolumeError

CSA_CREATOR = "SIEMENS CSA HEADER"
CSA_IMAGE_HEADER = 0x10
MOST_TAGS = 128
"""No CSA header holds more; what claims to is damaged."""


def is_mosaic(header: Dataset) -> bool:
    """Whether the file is a mosaic, as its ImageType says."""
    return "MOSAIC" in texts(header, "ImageType")


def mosaic_layout(header: Dataset, name: str) -> tuple[int, int, npt.NDArray[np.float64]]:
    """Read how a mosaic is laid out.

    Returns
    -------
    tuple
        The number of slices, the number of tiles along each side, and the unit vector along which the slices are
        stacked, LPS.

    Raises
    ------
    SeriesError
        If the private header is absent, as after some de-identification, or damaged.
    """
    try:
        block = header.private_block(0x0029, CSA_CREATOR)
        tags = dict(_csa_tags(bytes(block[CSA_IMAGE_HEADER].value)))
        slices = int(tags["NumberOfImagesInMosaic"][0])
        normal = np.array([float(text) for text in tags["SliceNormalVector"][:3]])
    except (KeyError, IndexError, ValueError, TypeError, struct.error) as error:
        raise NoVolumeError(
            "mosaic without its layout",
            f"{name} is a Siemens mosaic without a readable private header (0029,1010), which alone says how its tiles "
            "are stacked. Export it again with private elements, or as single slices.",
        ) from error
    side = int(np.ceil(np.sqrt(max(slices, 0))))
    if slices < 2 or header.Rows % side or header.Columns % side or abs(np.linalg.norm(normal) - 1) > 0.01:
        raise NoVolumeError(
            "mosaic without its layout",
            f"{name} is a Siemens mosaic of {header.Columns} × {header.Rows} whose private header names {slices} "
            "slices that do not fit into it. Export it again.",
        )
    return slices, side, normal / np.linalg.norm(normal)


def _csa_tags(content: bytes) -> Iterator[tuple[str, list[str]]]:
    """Go through a CSA header: 84 bytes a tag, then its items, each padded to four bytes.

    Its newer form begins with ``SV10`` and gives the length of an item as it is; the older one adds the number of items
    of the first tag to it (nibabel's documentation of the format).
    """
    newer = content[:4] == b"SV10"
    at = 8 if newer else 0
    count, mark = struct.unpack_from("<II", content, at)
    if mark not in (77, 205):
        raise ValueError("no CSA header")
    at += 8
    added: int | None = 0 if newer else None
    for _ in range(min(count, MOST_TAGS)):
        name, _, _, _, items, _ = struct.unpack_from("<64si4siii", content, at)
        at += 84
        added = items if added is None else added
        values = []
        for _ in range(items):
            first, second = struct.unpack_from("<2i", content, at)
            length = second if newer else first - added
            at += 16
            if not newer and not 0 <= length <= len(content) - at:
                break  # the older form claims more items than it writes
            if not 0 <= length <= len(content) - at:
                raise ValueError("a CSA item is longer than its header")
            values.append(content[at : at + length].split(b"\0")[0].decode("ascii", "replace").strip())
            at += -(-length // 4) * 4
        yield name.split(b"\0")[0].decode("ascii", "replace"), [value for value in values if value]
