"""Read 8-bit pictures from files, whose sizes are looked at before anything is decoded."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from medfuse.errors import SeriesError
from medfuse.runtime.output.place import shown

FORMATS = ("PNG", "BMP", "TIFF", "JPEG")
"""What is decoded, whatever a file is called: other decoders of Pillow start programs or draw vectors."""

EIGHT_BIT = ("1", "L", "LA", "P", "PA", "RGB", "RGBA")
"""Pillow's modes that hold no more than 8 bits a channel, and mean a screen's grey or colours."""

MOST_PIXELS = 2**24
"""4096 × 4096: slices have less, and a file of a few bytes can claim any size."""


def read_picture(path: Path) -> tuple[Tensor, Tensor | None]:
    """Read a picture's BT.601 luma, (1, H, W) uint8, and its colours (3, H, W) where it has any.

    Raises
    ------
    SeriesError
        If there is no such file, it is none of `FORMATS`, is damaged, holds more than 8 bits a channel, several
        pictures or more pixels than `MOST_PIXELS`, or shows another picture on every background.
    """
    try:
        if not path.is_file():
            raise SeriesError(f"{shown(path)} is no readable picture: there is no such file; check the path.")
        _require_size(path, *_size_in_png(path))
        with Image.open(path, formats=FORMATS) as picture:
            _require_size(path, *picture.size)
            _require_one_of_8_bit(path, picture)
            rgba = picture.convert("RGBA")
            luma = torch.from_numpy(np.array(picture.convert("L")))[None]
    except SeriesError:
        raise
    except Exception as error:  # whatever decoders meet in bytes that are no picture
        raise SeriesError(
            f"{shown(path)} is no readable picture ({type(error).__name__}); give a whole file of {', '.join(FORMATS)}."
        ) from None
    channels = torch.from_numpy(np.array(rgba)).movedim(-1, 0)
    rgb, alpha = channels[:3], channels[3:]
    # On black, the background of all slices, what is transparent and black looks as it is stored.
    if ((alpha < 255) & (rgb > 0)).any():
        raise SeriesError(
            f"{shown(path)} is partly transparent, and so shows another picture on every background; save it opaque."
        )
    return luma, None if (rgb == rgb[:1]).all() else rgb.contiguous()


def _require_size(path: Path, width: int, height: int) -> None:
    if width * height > MOST_PIXELS:
        raise SeriesError(
            f"{shown(path)} says that it has {width} × {height} pixels; a picture of a slice has at most {MOST_PIXELS}."
            " Check that it is the file you mean."
        )


def _size_in_png(path: Path) -> tuple[int, int]:
    """Width and height as a PNG says at its start (PNG specification, 11.2.1); 0 and 0 for other files."""
    with path.open("rb") as stream:
        start = stream.read(24)
    named = start.startswith(b"\x89PNG\r\n\x1a\n") and len(start) == 24
    return struct.unpack(">II", start[16:]) if named else (0, 0)


def _require_one_of_8_bit(path: Path, picture: Image.Image) -> None:
    frames = getattr(picture, "n_frames", 1)
    if frames > 1:
        raise SeriesError(f"{shown(path)} holds {frames} pictures, of which one is expected; save the one as a file.")
    if picture.mode not in EIGHT_BIT:
        raise SeriesError(
            f"{shown(path)} holds {picture.mode} values; 8-bit grey or colour is expected, for others would be cut. "
            "Scale it to 8 bits, or give the studies themselves."
        )
