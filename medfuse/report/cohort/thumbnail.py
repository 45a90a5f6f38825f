"""Draw small pictures of a study: a fused volume, or a pair that was refused with one's outlines on the other."""

from __future__ import annotations

import io

import numpy as np
from monai.data.meta_tensor import MetaTensor
from PIL import Image

from medfuse.intensity import choose_window, outside_value, scale
from medfuse.provenance import DISCLAIMER
from medfuse.registration import resample
from medfuse.report.alignment import Contours, seen_in
from medfuse.report.slice_pictures import single_picture
from medfuse.report.slice_view import Cut, middle_of
from medfuse.report.study_figure import Panel, Row
from medfuse.volume import grid_of
from medfuse.volume.plane_names import Plane

SIDE = 88
"""Pixels of the longest edge that any of the three slices has."""

PLANES: tuple[Plane, ...] = ("axial", "coronal", "sagittal")

QUALITY = 80

FINER = 2
"""A pair with outlines has so many times the pixels, or the lines could not be told."""


def thumbnail(fused: MetaTensor, mri: MetaTensor) -> bytes:
    """Draw three planes of a fused volume through the middle of what the MRI shows, side by side and true to scale.

    Parameters
    ----------
    fused
        (3, X, Y, Z) uint8 RGB, or (1, X, Y, Z) grey in [0, 1].
    mri
        (1, X, Y, Z) in [0, 1] on the same grid.

    Returns
    -------
    bytes
        A JPEG of 3 × `SIDE` by at most `SIDE` pixels, in radiological view.
    """
    through = middle_of(mri)
    cuts = [Cut.of(fused, plane) for plane in PLANES]
    views = [cut.view(fused, cut.through(through)) for cut in cuts]
    mm = max(max(view.size_mm) for view in views) / SIDE
    sizes = [(max(1, round(view.size_mm[0] / mm)), max(1, round(view.size_mm[1] / mm))) for view in views]
    height = max(rows for _, rows in sizes)
    sheet = Image.new("RGB", (SIDE * len(PLANES), height))
    for number, (view, size) in enumerate(zip(views, sizes, strict=True)):
        values = view.values.float().numpy()
        values = values if fused.shape[0] == 3 else values.repeat(3, 0) * 255
        pixels = np.rint(values.clip(0, 255)).astype(np.uint8).transpose(1, 2, 0)
        picture = Image.fromarray(np.ascontiguousarray(pixels)).resize(size, Image.Resampling.BOX)
        sheet.paste(picture, (SIDE * number + (SIDE - size[0]) // 2, (height - size[1]) // 2))
    return _jpeg(sheet)


def pair_thumbnail(mri: MetaTensor, partner: MetaTensor) -> bytes:
    """Draw three planes of an MRI with the outlines of its partner where the headers put it.

    Parameters
    ----------
    mri, partner
        (1, X, Y, Z) in their own units, each on its own grid. Where the fields do not meet, no outline is drawn.

    Returns
    -------
    bytes
        A JPEG of the shape of `thumbnail`'s and `FINER` times its pixels, in radiological view.
    """
    placed = resample(partner, grid_of(mri), None, outside=outside_value(partner))
    shown = scale(mri, choose_window(mri))
    panel = Panel("", shown, over=Contours.of(placed, seen_in(grid_of(partner), grid_of(mri), None)))
    through = middle_of(shown)
    side = SIDE * FINER
    sheet = Image.new("RGB", (side * len(PLANES), side))
    for number, cut in enumerate(Cut.of(mri, plane) for plane in PLANES):
        picture = Image.open(io.BytesIO(single_picture(panel, Row(cut, cut.through(through)))))
        picture.thumbnail((side, side))
        sheet.paste(picture, (side * number + (side - picture.width) // 2, (side - picture.height) // 2))
    return _jpeg(sheet)


def _jpeg(sheet: Image.Image) -> bytes:
    buffer = io.BytesIO()
    sheet.save(buffer, format="JPEG", quality=QUALITY, optimize=True, comment=f"medfuse. {DISCLAIMER}")
    return buffer.getvalue()
