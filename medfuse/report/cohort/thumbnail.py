"""Draw a small picture of a fused volume, by which a study is recognised among many."""

from __future__ import annotations

import io

import numpy as np
from monai.data.meta_tensor import MetaTensor
from PIL import Image

from medfuse.provenance import DISCLAIMER
from medfuse.report.slice_view import Cut, middle_of
from medfuse.volume.plane_names import Plane

SIDE = 88
"""Pixels of the longest edge that any of the three slices has."""

PLANES: tuple[Plane, ...] = ("axial", "coronal", "sagittal")

QUALITY = 80


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
    buffer = io.BytesIO()
    sheet.save(buffer, format="JPEG", quality=QUALITY, optimize=True, comment=f"medfuse. {DISCLAIMER}")
    return buffer.getvalue()
