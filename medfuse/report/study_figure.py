"""Draw slices of a study side by side as papers print them: letters, positions, a scale bar, and colour bars."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from textwrap import wrap
from typing import Any

import matplotlib as mpl
import numpy as np
import numpy.typing as npt
import torch
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure as Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.patheffects import withStroke
from matplotlib.ticker import MaxNLocator
from monai.data.meta_tensor import MetaTensor

from medfuse.errors import ExportError
from medfuse.intensity import Window, to_unit
from medfuse.intensity.colour import Palette, colourise
from medfuse.report.figure_names import SUFFIXES
from medfuse.report.slice_view import Cut, SliceView
from medfuse.volume.grid import Points

COLUMN_INCHES = 2.3
"""Width of one picture: three fill a printed page of A4."""

NOTE_LETTERS = 43
"""Letters of the note below that fit under one picture."""

LABEL_LETTERS = 40
"""Letters of a colour bar's label that fit under it."""

BAR_LENGTHS_MM = (1, 2, 5, 10, 20, 50, 100, 200)
MOST_OF_WIDTH = 0.3
"""A scale bar is the longest of these lengths that takes no more than this share of a picture's width."""

LEAST_TICKS_APART = 0.12
"""Share of a colour bar between its end and the tick before it, at least: what a number of four digits takes."""

BAR_INCHES = 0.14
"""Height of a colour bar without its numbers."""

GREY: Palette = np.repeat(np.linspace(0, 1, 256, dtype=np.float32)[:, None], 3, axis=1)


@dataclass(frozen=True)
class Bar:
    """What a picture's colours stand for.

    Parameters
    ----------
    label
        Quantity and unit.
    window
        The values that the bar runs through, a tone curve included.
    colours
        (256, 3) from its lower to its upper end.
    over
        (rows, 256, 3), if given: the same over a source from black, the first row, to white.
    """

    label: str
    window: Window
    colours: Palette = field(default_factory=lambda: GREY)
    over: npt.NDArray[np.float32] | None = None


@dataclass(frozen=True)
class Panel:
    """A column of a figure: one volume with its title and its bar.

    Parameters
    ----------
    title
        What it shows, for people.
    volume
        (1, X, Y, Z) in [0, 1], or (3, X, Y, Z) uint8 RGB.
    bar
        None where its colours stand for no value. A volume of one channel is drawn in its colours.
    over
        If given, called with the axis, the cut and the slice's number, to draw over each slice, in mm.
    """

    title: str
    volume: MetaTensor
    bar: Bar | None = None
    over: Callable[[Axes, Cut, int], None] | None = None


@dataclass(frozen=True)
class Row:
    """A row of a figure: slice ``k`` of a cut, with the point, RAS+ mm, that is marked in it, if any."""

    cut: Cut
    k: int
    marked: Points | None = None


def draw_study(panels: Sequence[Panel], rows: Sequence[Row], *, note: str = "", dark: bool = False) -> Figure:
    """Draw slices of some volumes on one grid.

    Parameters
    ----------
    panels
        The columns.
    rows
        Which slices.
    note
        A line below, in small type.
    dark
        White on black, for screens; else black on white.

    Returns
    -------
    Figure
        A matplotlib figure that no window shows; `save_figure` writes it with text as text.
    """
    ink, paper = ("white", "black") if dark else ("black", "white")
    views = [[row.cut.view(panel.volume, row.k) for panel in panels] for row in rows]
    heights = [max(view.size_mm[1] / view.size_mm[0] for view in each) for each in views]
    bars = max((len(_label_lines(panel.bar)) for panel in panels if panel.bar), default=0)
    lines = wrap(note, round(NOTE_LETTERS * len(panels)))
    figure = Figure(
        figsize=(
            COLUMN_INCHES * len(panels),
            COLUMN_INCHES * sum(heights) + 0.3 + (0.29 + BAR_INCHES + 0.11 * bars) * bool(bars) + 0.12 * len(lines),
        ),
        facecolor=paper,
        layout=ConstrainedLayoutEngine(w_pad=0.02, h_pad=0.02, wspace=0.01, hspace=0.01),
    )
    FigureCanvasAgg(figure)
    ratios = [*(COLUMN_INCHES * height for height in heights), *([BAR_INCHES] if bars else [])]
    grid = figure.add_gridspec(len(ratios), len(panels), height_ratios=ratios)
    for i, (row, each) in enumerate(zip(rows, views, strict=True)):
        for j, (panel, view) in enumerate(zip(panels, each, strict=True)):
            axis = figure.add_subplot(grid[i, j])
            draw_slice(axis, view, panel.bar.colours if panel.bar else GREY)
            if panel.over is not None:
                panel.over(axis, row.cut, row.k)
            if row.marked is not None:
                _mark(axis, row.cut.place(row.marked), view)
            if i == 0:
                # A method's name is no formula, whatever signs it has.
                axis.set_title(panel.title, color=ink, fontsize=9, parse_math=False)
            if j == 0:
                write_on(axis, 0.03, 0.97, view.position, ha="left", va="top")
                scale_bar(axis, view.size_mm)
    for j, panel in enumerate(panels):
        if panel.bar:
            _colour_bar(figure.add_subplot(grid[len(rows), j]), panel.bar, ink)
    if lines:
        figure.supxlabel("\n".join(lines), color=ink, fontsize=6.5)
    return figure


def draw_slice(axis: Axes, view: SliceView, colours: Palette = GREY) -> None:
    """Draw one slice into an axis whose unit is mm, with the letters at its edges."""
    width, height = view.size_mm
    axis.imshow(_rgb(view.values, colours), extent=(0, width, height, 0), interpolation="nearest")
    axis.set_xticks([])
    axis.set_yticks([])
    for side in axis.spines.values():
        side.set_visible(False)
    write_on(axis, 0.02, 0.5, view.left, ha="left", va="center")
    write_on(axis, 0.98, 0.5, view.right, ha="right", va="center")
    write_on(axis, 0.5, 0.985, view.top, ha="center", va="top")
    write_on(axis, 0.5, 0.015, view.bottom, ha="center", va="bottom")


def require_figure_suffix(path: Path) -> None:
    """Raise `ExportError` unless a path ends as a figure's does."""
    if path.suffix.lower() not in SUFFIXES:
        raise ExportError(f"expected a figure's path to end in {', '.join(SUFFIXES)}; found {path.name!r}.")


def save_figure(figure: Figure, path: Path, *, dpi: int = 300) -> None:
    """Write a figure as PNG, PDF or SVG by its suffix; text stays text, and no date is written."""
    suffix = path.suffix.lower()
    told: dict[str, Any] = {
        ".png": {"Software": "medfuse"},
        ".pdf": {"Creator": "medfuse", "Producer": "matplotlib", "CreationDate": None},
        ".svg": {"Creator": "medfuse", "Date": None},
    }
    with mpl.rc_context({"svg.fonttype": "none", "pdf.fonttype": 42, "svg.hashsalt": "medfuse"}):
        figure.savefig(
            path, format=suffix[1:], dpi=dpi, facecolor=figure.get_facecolor(), metadata=told[suffix], bbox_inches=None
        )


def png_of(figure: Figure, *, dpi: int) -> bytes:
    """A figure as PNG."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=dpi, facecolor=figure.get_facecolor(), metadata={"Software": "medfuse"})
    return buffer.getvalue()


def _rgb(values: torch.Tensor, colours: Palette) -> Points:
    if len(values) == 1:
        values = colourise(values.float(), colours)
    elif not values.dtype.is_floating_point:
        values = values.float() / 255
    return np.asarray(values.permute(1, 2, 0).numpy(), dtype=np.float64)


def write_on(axis: Axes, x: float, y: float, text: str, **place: Any) -> None:
    """White letters with a dark rim, which can be read on every picture."""
    axis.text(
        *(x, y, text),
        transform=axis.transAxes,
        color="white",
        fontsize=7.5,
        path_effects=[withStroke(linewidth=1.5, foreground="black")],
        **place,
    )


def scale_bar(axis: Axes, size_mm: tuple[float, float]) -> None:
    """Draw how long a round number of mm is into the lower left corner of an axis in mm, where one fits."""
    width, height = size_mm
    fitting = [length for length in BAR_LENGTHS_MM if length <= MOST_OF_WIDTH * width]
    if not fitting:
        return
    length, start, below = fitting[-1], 0.03 * width, 0.96 * height
    rim = [withStroke(linewidth=3.5, foreground="black")]
    axis.plot(
        [start, start + length], [below, below], color="white", linewidth=2, path_effects=rim, solid_capstyle="butt"
    )
    write_on(axis, 0.03, 0.06, f"{length} mm", ha="left", va="bottom")


def _mark(axis: Axes, place: tuple[float, float], view: SliceView) -> None:
    """Show where a point lies by ticks that leave it free."""
    (x, y), (width, height) = place, view.size_mm
    near, far = 0.03 * width, 0.08 * width
    rim = [withStroke(linewidth=2.2, foreground="black")]
    for dx, dy in ((-1, 0), (1, 0), (0, -1), (0, 1)):
        axis.plot(
            [x + near * dx, x + far * dx], [y + near * dy, y + far * dy], color="white", linewidth=1, path_effects=rim
        )
    axis.set_xlim(0, width)
    axis.set_ylim(height, 0)


def _colour_bar(axis: Axes, bar: Bar, ink: str) -> None:
    """The bar of a column; along a tone curve, equal lengths are equal steps of brightness."""
    colours = bar.colours[None] if bar.over is None else bar.over
    # Each colour as it is: colours that lie between two are none of the picture's.
    axis.imshow(colours, origin="lower", aspect="auto", extent=(0, 1, 0, 1), interpolation="nearest")
    values = np.array(ticks_of(bar.window))
    places = to_unit(torch.from_numpy(values).float(), bar.window).numpy()
    axis.set_xticks(places.tolist(), labels=[f"{value:g}" for value in values])
    axis.set_yticks([])
    for side in axis.spines.values():
        side.set_edgecolor(ink)
    axis.set_xlabel("\n".join(_label_lines(bar)), color=ink, fontsize=7)
    axis.tick_params(colors=ink, labelsize=6.5, length=2)


def _label_lines(bar: Bar) -> list[str]:
    """The label of a bar in lines that are no longer than the bar."""
    return wrap(bar.label, LABEL_LETTERS)


def ticks_of(window: Window) -> list[float]:
    """Values to write at a bar: round ones, or, along a tone curve, those at which it bends, as far as they fit."""
    if window.bends:
        *inner, last = window.points
        return [value for value, place in inner if last[1] - place > LEAST_TICKS_APART] + [last[0]]
    found = MaxNLocator(4, steps=[1, 2, 2.5, 5, 10]).tick_values(window.lower, window.upper)
    margin = 1e-6 * window.width
    return [float(value) for value in found if window.lower - margin <= value <= window.upper + margin]
