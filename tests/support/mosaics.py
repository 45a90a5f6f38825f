"""Pictures that hold all slices as tiles, made from classic slices: Siemens' mosaic and UIH's grid."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pydicom
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence


def _slices(classic: Path) -> list[pydicom.FileDataset]:
    """In order along the normal."""
    headers = [pydicom.dcmread(path) for path in classic.iterdir()]
    orientation = np.array(headers[0].ImageOrientationPatient, dtype=float)
    normal = np.cross(orientation[:3], orientation[3:])
    return sorted(headers, key=lambda one: float(np.array(one.ImagePositionPatient, dtype=float) @ normal))


def _tiled(headers: list[pydicom.FileDataset], *, square: bool) -> tuple[pydicom.FileDataset, int]:
    """One file with all pictures side by side, and how many tiles a row has."""
    side = int(np.ceil(np.sqrt(len(headers))))
    down = side if square else -(-len(headers) // side)
    rows, columns = headers[0].pixel_array.shape
    picture = np.zeros((rows * down, columns * side), headers[0].pixel_array.dtype)
    for place, header in enumerate(headers):
        row, column = divmod(place, side)
        picture[row * rows : (row + 1) * rows, column * columns : (column + 1) * columns] = header.pixel_array
    whole = headers[0]
    whole.Rows, whole.Columns = picture.shape
    whole.PixelData = picture.tobytes()
    return whole, side


def siemens_mosaic(classic: Path, out: Path, *, older: bool = False) -> Path:
    """As Siemens writes it: placed as if one slice filled it, with the layout in a private header."""
    headers = _slices(classic)
    first, last = (np.array(headers[place].ImagePositionPatient, dtype=float) for place in (0, -1))
    orientation = np.array(headers[0].ImageOrientationPatient, dtype=float)
    rows, columns, spacing = headers[0].Rows, headers[0].Columns, [float(one) for one in headers[0].PixelSpacing]
    count = len(headers)
    whole, side = _tiled(headers, square=True)
    whole.Manufacturer = "SIEMENS"
    whole.ImageType = ["ORIGINAL", "PRIMARY", "M", "ND", "MOSAIC"]
    shift = (
        orientation[:3] * spacing[1] * columns * (side - 1) / 2 + orientation[3:] * spacing[0] * rows * (side - 1) / 2
    )
    whole.ImagePositionPatient = [f"{place:.9f}" for place in first - shift]
    step = (last - first) / (count - 1)
    whole.SpacingBetweenSlices = f"{np.linalg.norm(step):.9f}"
    normal = [f"{one:.9f}" for one in step / np.linalg.norm(step)]
    block = whole.private_block(0x0029, "SIEMENS CSA HEADER", create=True)
    block.add_new(0x10, "OB", csa_header({"NumberOfImagesInMosaic": [str(count)], "SliceNormalVector": normal}, older))
    return _save(whole, out)


def csa_header(tags: dict[str, list[str]], older: bool) -> bytes:
    """Siemens' private header in its newer form (SV10) or its older one."""
    content = b"" if older else b"SV10\x04\x03\x02\x01"
    content += struct.pack("<II", len(tags), 77)
    items = 6
    for name, values in tags.items():
        content += struct.pack("<64si4siii", name.encode(), len(values), b"FD", 4, items, 77)
        for place in range(items):
            text = values[place].encode() + b"\0" if place < len(values) else b""
            lengths = (len(text) + items, len(text), 77, len(text)) if older else (len(text), len(text), 77, len(text))
            content += struct.pack("<4i", *lengths) + text + bytes(-len(text) % 4)
    return content


def uih_grid(classic: Path, out: Path) -> Path:
    """As United Imaging writes it: the position of each slice stands in a private sequence."""
    headers = _slices(classic)
    positions = [header.ImagePositionPatient for header in headers]
    whole, _ = _tiled(headers, square=False)
    whole.Manufacturer = "UIH"
    whole.ImageType = ["ORIGINAL", "PRIMARY", "M", "VFRAME"]
    block = whole.private_block(0x0065, "Image Private Header", create=True)
    block.add_new(0x50, "DS", str(len(headers)))
    items = []
    for position in positions:
        item = Dataset()
        item.ImagePositionPatient = position
        items.append(item)
    block.add_new(0x51, "SQ", Sequence(items))
    return _save(whole, out)


def _save(whole: pydicom.FileDataset, out: Path) -> Path:
    out.mkdir(parents=True)
    whole.save_as(out / "1.dcm")
    return out / "1.dcm"
