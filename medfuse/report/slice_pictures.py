"""Draw slices as single pictures of one size, which a page lays on one another."""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

from medfuse.report.study_figure import COLUMN_INCHES, GREY, Panel, Row, draw_slice, scale_bar, write_on

DOTS_PER_INCH = 180
"""A picture is 414 pixels wide: a slice of 256 columns loses none."""

TALLEST = 1.5
"""Height over width of a picture, at most; a taller slice is drawn smaller."""


@dataclass(frozen=True)
class SlicePicture:
    """A slice as pictures of one size.

    Parameters
    ----------
    position
        Where it lies: ``"S 23.0 mm"``.
    width, height
        Pixels.
    mri, partner
        PNG.
    contours
        PNG of the MRI with the outlines of the partner.
    """

    position: str
    width: int
    height: int
    mri: bytes
    partner: bytes
    contours: bytes


def slice_picture(mri: Panel, partner: Panel, lined: Panel, row: Row) -> SlicePicture:
    """Draw a slice of both, and of the MRI with the partner's outlines, as pictures that match pixel by pixel."""
    own, other, contours = (single_picture(panel, row) for panel in (mri, partner, lined))
    width, height = Image.open(io.BytesIO(own)).size
    return SlicePicture(row.cut.view(mri.volume, row.k).position, width, height, own, other, contours)


def single_picture(panel: Panel, row: Row) -> bytes:
    """Draw one slice of one volume as PNG, with letters, position and scale bar, and no margin."""
    view = row.cut.view(panel.volume, row.k)
    width, height = view.size_mm
    inches = COLUMN_INCHES * min(1, TALLEST * width / height)
    figure = Figure(figsize=(inches, inches * height / width), facecolor="black", dpi=DOTS_PER_INCH)
    canvas: Any = FigureCanvasAgg(figure)
    axis = figure.add_axes((0, 0, 1, 1))
    draw_slice(axis, view, panel.bar.colours if panel.bar else GREY)
    axis.set_aspect("auto")  # the figure has the slice's shape to a pixel, and leaves no line at an edge
    if panel.over is not None:
        panel.over(axis, row.cut, row.k)
    write_on(axis, 0.03, 0.97, view.position, ha="left", va="top")
    scale_bar(axis, view.size_mm)
    axis.set_xlim(0, width)
    axis.set_ylim(height, 0)
    canvas.draw()
    picture = Image.fromarray(np.ascontiguousarray(np.asarray(canvas.buffer_rgba())[..., :3]))
    red, green, blue = picture.split()
    grey = red.tobytes() == green.tobytes() == blue.tobytes()
    buffer = io.BytesIO()
    (red if grey else picture).save(buffer, format="PNG")
    return buffer.getvalue()
