"""Draw slices as single pictures of one size, which a page lays on one another, and the map of the estimated error."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import PathCollection
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from monai.data.meta_tensor import MetaTensor
from PIL import Image

from medfuse.intensity import Window
from medfuse.registration import Verdict
from medfuse.registration.shown.drawing import MOST_ERROR_MM
from medfuse.report.slice_view import SHOWS, SliceView
from medfuse.report.study_figure import COLUMN_INCHES, GREY, Panel, Row, draw_slice, scale_bar, write_on
from medfuse.volume import grid_of, plain
from medfuse.volume.grid import Points

DOTS_PER_INCH = 180
"""A picture is 414 pixels wide: a slice of 256 columns loses none."""

TALLEST = 1.5
"""Height over width of a picture, at most; a taller slice is drawn smaller."""

CONTOUR_SHARES = (0.25, 0.5, 0.75)
"""Where contours lie between the lowest and the highest shown of a partner's values."""

CONTOUR_COLOURS = ("#56B4E9", "#F0E442", "#E69F00")
"""Of the palette by Okabe and Ito, which colour-blind people tell apart; each brighter than an MRI's grey around it."""

NEAR_MM = 24.0
"""Blocks whose middle is so near to a slice are drawn in it: half their length."""

AT_EDGE_MM = 5.0
"""A dot is drawn so far outside of what is shown, at most."""


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
        PNG of the MRI with lines of equal value of the partner.
    """

    position: str
    width: int
    height: int
    mri: bytes
    partner: bytes
    contours: bytes


def slice_picture(mri: Panel, partner: Panel, row: Row) -> SlicePicture:
    """Draw a slice of both, and the partner's contours on the MRI, as pictures that match pixel by pixel."""
    view = row.cut.view(mri.volume, row.k)
    lined = _drawn(mri, row)
    _contours(lined.axes[0], row.cut.view(partner.volume, row.k))
    own, other, contours = (_png(figure) for figure in (_drawn(mri, row), _drawn(partner, row), lined))
    width, height = Image.open(io.BytesIO(own)).size
    return SlicePicture(view.position, width, height, own, other, contours)


def single_picture(panel: Panel, row: Row) -> bytes:
    """Draw one slice of one volume as PNG, with letters, position and scale bar."""
    return _png(_drawn(panel, row))


def _contours(axis: Axes, view: SliceView) -> None:
    values = view.values[0].numpy()
    (width, height), (rows, columns) = view.size_mm, values.shape
    if values.max() <= CONTOUR_SHARES[0] or values.min() >= CONTOUR_SHARES[-1]:
        return
    across, down = (np.arange(columns) + 0.5) * width / columns, (np.arange(rows) + 0.5) * height / rows
    axis.contour(across, down, values, levels=CONTOUR_SHARES, colors=CONTOUR_COLOURS, linewidths=1.1)


def contour_values(window: Window) -> list[float]:
    """The values, in a volume's own unit, that `slice_picture` draws contours of."""
    values, places = zip(*window.points, strict=True)
    return [float(value) for value in np.interp(CONTOUR_SHARES, places, values)]


def _drawn(panel: Panel, row: Row) -> Figure:
    """A figure that is one slice, with no margin."""
    view = row.cut.view(panel.volume, row.k)
    tall = view.size_mm[1] / view.size_mm[0]
    inches = COLUMN_INCHES * min(1, TALLEST / tall)
    figure = Figure(figsize=(inches, inches * tall), facecolor="black")
    FigureCanvasAgg(figure)
    axis = figure.add_axes((0, 0, 1, 1))
    draw_slice(axis, view, panel.bar.colours if panel.bar else GREY)
    axis.set_aspect("auto")  # the figure has the slice's shape to a pixel, and leaves no line at an edge
    write_on(axis, 0.03, 0.97, view.position, ha="left", va="top")
    scale_bar(axis, view.size_mm)
    return figure


def _png(figure: Figure) -> bytes:
    """A figure as PNG with as few channels as it needs."""
    figure.set_dpi(DOTS_PER_INCH)
    canvas: Any = FigureCanvasAgg(figure)
    canvas.draw()
    picture = Image.fromarray(np.ascontiguousarray(np.asarray(canvas.buffer_rgba())[..., :3]))
    red, green, blue = picture.split()
    grey = red.tobytes() == green.tobytes() == blue.tobytes()
    buffer = io.BytesIO()
    (red if grey else picture).save(buffer, format="PNG")
    return buffer.getvalue()


def error_map(mri: Panel, rows: Sequence[Row], verdict: Verdict) -> Figure | None:
    """Draw where the alignment was assessed and how far off it seems there, on some slices of the MRI.

    Returns
    -------
    Figure
        White on black, with a colour bar in mm; None where nothing could be assessed in parts.
    """
    places, errors = within_shown(mri.volume, verdict)
    if not len(places):
        return None
    views = [row.cut.view(mri.volume, row.k) for row in rows]
    tall = max(view.size_mm[1] / view.size_mm[0] for view in views)
    figure = Figure(
        figsize=(COLUMN_INCHES * len(rows), COLUMN_INCHES * tall + 0.5),
        facecolor="black",
        layout=ConstrainedLayoutEngine(w_pad=0.02, h_pad=0.02, wspace=0.01, hspace=0.01),
    )
    FigureCanvasAgg(figure)
    axes = figure.subplots(1, len(rows), squeeze=False)[0]
    for axis, row, view in zip(axes, rows, views, strict=True):
        draw_slice(axis, view)
        axis.images[0].set_alpha(0.6)
        axis.set_facecolor("black")
        write_on(axis, 0.03, 0.97, view.position, ha="left", va="top")
        scale_bar(axis, view.size_mm)
        dots = draw_errors(axis, row, mri.volume, places, errors)
        axis.set_xlim(0, view.size_mm[0])
        axis.set_ylim(view.size_mm[1], 0)
    bar = figure.colorbar(dots, ax=list(axes), orientation="horizontal", extend="max", shrink=0.6, aspect=40)
    bar.set_label("estimated error, mm", color="white", fontsize=7)
    bar.outline.set_edgecolor("white")
    bar.ax.tick_params(colors="white", labelsize=6.5)
    return figure


def draw_errors(axis: Axes, row: Row, mri: MetaTensor, places: Points, errors_mm: Points) -> PathCollection:
    """Draw places near a slice as dots in the colour of their error, where the slice shows something at them."""
    grid = row.cut.grid
    index = grid.index(places)
    near = np.abs(index[:, 2] - row.k) * grid.spacing[2] < NEAR_MM
    index[:, 2] = row.k
    near &= _shown_near(mri, grid.world(index))
    near &= ((index[:, :2] > 0) & (index[:, :2] < np.array(grid.shape[:2]) - 1)).all(axis=-1)
    dots = np.array([row.cut.place(place) for place in places[near]]).reshape(-1, 2)
    return axis.scatter(
        dots[:, 0],
        dots[:, 1],
        c=errors_mm[near],
        cmap="viridis",
        vmin=0,
        vmax=MOST_ERROR_MM,
        s=46,
        edgecolors="white",
        linewidths=0.8,
    )


def within_shown(mri: MetaTensor, verdict: Verdict) -> tuple[Points, Points]:
    """The places of a verdict that lie where an MRI in [0, 1] shows something, and their errors."""
    if not len(verdict.places):
        return verdict.places, verdict.errors_mm
    shown = _shown_near(mri, verdict.places)
    return verdict.places[shown], verdict.errors_mm[shown]


def _shown_near(mri: MetaTensor, points: Points) -> npt.NDArray[np.bool_]:
    """Which of some points, (N, 3) RAS+ mm, have something shown within `AT_EDGE_MM`: the skin is not a voxel wide."""
    grid = grid_of(mri)
    around = np.stack(np.meshgrid(*[(-1.0, 0.0, 1.0)] * 3, indexing="ij"), axis=-1).reshape(-1, 3) * AT_EDGE_MM
    index = np.rint(grid.index(points[:, None] + around)).astype(int)
    inside = np.asarray(((index >= 0) & (index < np.array(grid.shape))).all(axis=-1))
    x, y, z = np.where(inside[..., None], index, 0).reshape(-1, 3).T
    values = plain(mri)[0].cpu()[torch.from_numpy(x), torch.from_numpy(y), torch.from_numpy(z)].numpy()
    return np.asarray(((values > SHOWS).reshape(inside.shape) & inside).any(axis=1))
