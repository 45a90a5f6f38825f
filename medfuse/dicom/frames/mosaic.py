"""Place the tiles of pictures that hold all slices, by private elements: Siemens mosaics, United Imaging grids.

The public position of a mosaic is that of a slice as large as all of it (nibabel's documentation of the format
describes it); its private header (CSA) says how many tiles are slices and to which side they are stacked. A grid states
the position of each slice.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
from pydicom.dataset import Dataset
from pydicom.values import convert_SQ

from medfuse.dicom.frames.classic import CLASSIC_TRAITS
from medfuse.dicom.frames.frame import Frame, matrix_of, place_of, traits_of, usable_rescale
from medfuse.dicom.frames.no_volume import NoVolumeError
from medfuse.dicom.header import Instance, numbers, texts
from medfuse.errors import counted

CSA_CREATOR = "SIEMENS CSA HEADER"
CSA_IMAGE_HEADER = 0x10
UIH_CREATOR = "Image Private Header"
UIH_SLICES, UIH_FRAMES = 0x50, 0x51
MOST_TAGS = 128
"""No CSA header holds more; what claims to is damaged."""


def is_mosaic(instance: Instance) -> bool:
    """Whether the file is a mosaic, as its ImageType says."""
    return "MOSAIC" in texts(instance.header, "ImageType")


def mosaic_frames(instance: Instance, name: str) -> list[Frame]:
    """The slices of a mosaic, each a tile of its picture."""
    header = instance.header
    slices, side, normal = _mosaic_layout(header, name)
    position, row, column, spacing = place_of(header, header, header, f"instance {instance.number}", name)
    apart = float(header.get("SpacingBetweenSlices") or 0)
    if apart <= 0:
        raise NoVolumeError(
            "no geometry", f"{name} is a Siemens mosaic without SpacingBetweenSlices. Export it as single slices."
        )
    columns, rows = (length // side for length in matrix_of(header))
    # The position is stated as if one slice filled the whole mosaic about the same centre.
    position = position + row * spacing[1] * columns * (side - 1) / 2 + column * spacing[0] * rows * (side - 1) / 2
    slope, intercept = usable_rescale(name, header)
    traits = traits_of(header, CLASSIC_TRAITS)
    frames = []
    for index in range(slices):
        place = (position + index * apart * normal, row, column, spacing)
        frames.append(Frame(instance, None, divmod(index, side), (columns, rows), *place, slope, intercept, traits))
    return frames


def _mosaic_layout(header: Dataset, name: str) -> tuple[int, int, npt.NDArray[np.float64]]:
    """The number of slices of a mosaic, of tiles along each side, and the unit vector of the stack, LPS.

    `SeriesError` where the private header is absent, as after some de-identification, or damaged.
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
            f"{name} is a Siemens mosaic of {header.Columns} × {header.Rows} whose private header names "
            f"{counted(slices, 'slice')}, which its size does not fit. Export it again.",
        )
    return slices, side, normal / np.linalg.norm(normal)


def is_grid(instance: Instance) -> bool:
    """Whether the file is a grid of United Imaging, as its ImageType says."""
    return "VFRAME" in texts(instance.header, "ImageType") and (0x0065, 0x0010) in instance.header


def grid_frames(instance: Instance, name: str) -> list[Frame]:
    """The slices of a grid, each a tile of its picture."""
    header = instance.header
    positions, across, down = _grid_positions(header, name)
    _, row, column, spacing = place_of(header, header, header, f"instance {instance.number}", name)
    slope, intercept = usable_rescale(name, header)
    traits = traits_of(header, CLASSIC_TRAITS)
    columns, rows = matrix_of(header)
    tile = (columns // across, rows // down)
    return [
        Frame(instance, None, divmod(index, across), tile, position, row, column, spacing, slope, intercept, traits)
        for index, position in enumerate(positions)
    ]


def _grid_positions(header: Dataset, name: str) -> tuple[list[npt.NDArray[np.float64]], int, int]:
    """The position of each slice of a grid, LPS mm, and how many tiles lie across and down.

    `SeriesError` where the private sequence that holds the positions is absent or disagrees with the number of slices.
    """
    try:
        block = header.private_block(0x0065, UIH_CREATOR)
        count = int(float(block[UIH_SLICES].value))
        items = block[UIH_FRAMES].value
        if isinstance(items, bytes):  # of a kind that the file does not say: always little-endian and implicit
            items = convert_SQ(items, True, True)
        positions = [np.array(numbers(item, "ImagePositionPatient")) for item in items]
    except Exception:  # pydicom raises many kinds on damaged bytes
        count, positions = 0, []
    across = int(np.ceil(np.sqrt(max(count, 1))))
    down = -(-count // across)
    fits = count >= 2 and header.Columns % across == 0 and header.Rows % down == 0
    if not fits or len(positions) != count or any(len(position) != 3 for position in positions):
        raise NoVolumeError(
            "grid without its layout",
            f"{name} is a grid of {counted(count, 'slice')} (United Imaging) whose private elements (0065,1050) and "
            "(0065,1051) do not place each of them. Export it again with private elements, or as single slices.",
        )
    return positions, across, down


def _csa_tags(content: bytes) -> Iterator[tuple[str, list[str]]]:
    """Go through a CSA header: 84 bytes a tag, then its items, each padded to four bytes.

    Its newer form begins with ``SV10`` and gives the length of an item as it is; the older one adds the number of items
    of the first tag to it (nibabel's documentation of the format).
    """
    newer = content[:4] == b"SV10"
    at = 8 if newer else 0
    count, mark = struct.unpack_from("<II", content, at)
    if not newer and mark != 77:
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
