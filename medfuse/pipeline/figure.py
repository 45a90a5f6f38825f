"""Choose what a figure of a fused study shows: which slices, and the title and colour bar of each column."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from monai.data.meta_tensor import MetaTensor

from medfuse.dicom.palettes import palette_table
from medfuse.errors import did_you_mean
from medfuse.intensity import palette_join
from medfuse.intensity.colour import Palette, join_palette
from medfuse.pipeline.prepare import straighten
from medfuse.provenance import Provenance
from medfuse.report.figure_names import COLUMNS, FIGURE_PLANES, VIEWS, Column, FigurePlane, View
from medfuse.report.slice_view import Cut, middle_of, share_shown
from medfuse.report.study_figure import GREY, Bar, Panel, Row
from medfuse.volume import COLOUR_JOINS, MRI, PLANES, TRAITS, Plane, grid_of, label_of, replane
from medfuse.volume.grid import Points

BAR_ROWS = 33
"""Brightnesses, from black to white, over which a colour bar shows what colours of a fused picture mean."""

MOST_SLICES = 40
"""A figure has no more rows."""

QUANTITIES = {
    "HU": "CT number, HU",
    "Bq/ml": "activity, Bq/ml",
    "SUV": "SUV, by body weight",
    "SUVlbm": "SUV, by lean body mass",
    "SUVbsa": "SUV, by body surface",
    "counts": "counts",
    "arbitrary": "arbitrary units",
}
"""What a unit is called at a colour bar."""


def panels(
    mri: MetaTensor, partner: MetaTensor, fused: MetaTensor, provenance: Provenance, columns: Sequence[Column]
) -> list[Panel]:
    """The columns of a figure.

    Parameters
    ----------
    mri, partner
        (1, X, Y, Z) in [0, 1].
    fused
        (3, X, Y, Z) uint8, or (1, X, Y, Z) in [0, 1], on the same grid.
    provenance
        The windows, unit, palette and join that they were made with.
    columns
        Which of the three, in order.

    Raises
    ------
    ValueError
        If there is no such column, or none is asked for.
    """
    _require_columns(columns)
    quantity = QUANTITIES[provenance.partner_unit]
    palette = palette_table(provenance.palette) if provenance.palette else None
    own = Bar(quantity, provenance.partner_window, GREY if palette is None else palette)
    in_fused = None
    if palette is not None and provenance.colour_join in COLOUR_JOINS:
        over = np.stack([_legend(palette, provenance.colour_join, float(grey)) for grey in np.linspace(0, 1, BAR_ROWS)])
        below = TRAITS[MRI].label if provenance.colour_join == "oklab" else "fused luma"
        meaning = f"{quantity}, over dark to bright {below}"
        in_fused = Bar(meaning, provenance.partner_window, over[BAR_ROWS // 2], over)
    every = {
        "mri": Panel(TRAITS[MRI].label, mri, Bar("signal, arbitrary units", provenance.mri_window)),
        "partner": Panel(label_of(partner, unit=True), partner, own),
        "fused": Panel(f"fused by {provenance.fused_by}", fused, in_fused),
    }
    return [every[name] for name in columns]


def _legend(palette: Palette, join: str, grey: float) -> Palette:
    """The colours (256, 3) of uptake from 0 to 1 over one brightness: of the MRI, or by Eq. 5 of the fused luma."""
    if join == "oklab":
        return palette_join.legend(palette, grey)
    uptake = torch.linspace(0, 1, len(palette))[None]
    joined = join_palette(torch.full_like(uptake, grey), uptake, palette)
    return joined.T.numpy().astype(np.float32) / np.float32(255)


def rows_of(
    mri: MetaTensor, slices: int | Sequence[int], *, plane: FigurePlane, at: npt.ArrayLike | None, view: View
) -> list[Row]:
    """The rows of a figure; arguments and errors as for `FusedStudy.figure`."""
    if plane not in FIGURE_PLANES:
        raise ValueError(f"expected a plane of {', '.join(FIGURE_PLANES)}; found {plane!r}.")
    if view not in VIEWS:
        raise ValueError(f"expected a view of {', '.join(VIEWS)}; found {view!r}.")
    point = None if at is None else _inside(mri, at)
    if plane == "orthogonal":
        through = middle_of(mri) if point is None else point
        cuts = [Cut.of(mri, each, view) for each in PLANES if each != "native"]
        return [Row(cut, cut.through(through), point) for cut in cuts]
    cut = Cut.of(mri, plane, view)
    if point is not None:
        return [Row(cut, cut.through(point), point)]
    return [Row(cut, k) for k in _chosen(mri, plane, cut.count, slices)]


def require_shown(
    mri: MetaTensor,
    slices: int | Sequence[int],
    *,
    plane: FigurePlane,
    columns: Sequence[Column],
    at: npt.ArrayLike | None,
    view: View,
) -> None:
    """Raise `ValueError` where a figure of an MRI as it was read cannot be drawn, before the MRI is fused."""
    _require_columns(columns)
    rows_of(straighten(mri), slices, plane=plane, at=at, view=view)


def _require_columns(columns: Sequence[Column]) -> None:
    if not columns:
        raise ValueError(f"expected at least one column of {', '.join(COLUMNS)}; found none.")
    for name in columns:
        if name not in COLUMNS:
            raise ValueError(
                f"expected columns of {', '.join(COLUMNS)}; found {name!r}.{did_you_mean(str(name), COLUMNS)}"
            )


def _chosen(mri: MetaTensor, plane: Plane, count: int, slices: int | Sequence[int]) -> list[int]:
    if isinstance(slices, int):
        if not 1 <= slices <= MOST_SLICES:
            raise ValueError(f"expected 1 to {MOST_SLICES} slices in a figure; found {slices}.")
        share = share_shown(replane(mri, plane), 2)
        shown = np.flatnonzero(share > 0.25 * share.max()) if share.max() > 0 else np.arange(count)
        first, last = shown[0], shown[-1]
        # Evenly spaced, half a step from the ends, where there is little to see.
        return [round(float(first + (last - first) * (i + 0.5) / slices)) for i in range(slices)]
    numbers = list(slices)
    if not 1 <= len(numbers) <= MOST_SLICES:
        raise ValueError(f"expected 1 to {MOST_SLICES} slices in a figure; found {len(numbers)}.")
    for k in numbers:
        if not isinstance(k, int | np.integer) or not 0 <= k < count:
            raise ValueError(f"expected slices from 0 to {count - 1} in the {plane} plane; found {k!r}.")
    return numbers


def _inside(mri: MetaTensor, at: npt.ArrayLike) -> Points:
    grid = grid_of(mri)
    point = np.asarray(at, dtype=np.float64)
    if point.shape != (3,) or not np.isfinite(point).all():
        raise ValueError(f"expected a point as three finite numbers, x, y, z in mm, RAS+; found {at!r}.")
    index = grid.index(point)
    if (index < -0.5).any() or (index > np.array(grid.shape) - 0.5).any():
        lowest, highest = grid.corners().min(0), grid.corners().max(0)
        ranges = ", ".join(f"{name} {lowest[d]:.0f} to {highest[d]:.0f}" for d, name in enumerate("xyz"))
        found = ", ".join(f"{x:g}" for x in point)
        raise ValueError(f"expected a point inside the MRI ({ranges} mm, RAS+); found {found}.")
    return point
