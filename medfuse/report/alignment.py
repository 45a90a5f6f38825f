"""Draw how two studies fit: a checkerboard of both, contours of one on the other, and the estimated error."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from contourpy import contour_generator
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.patheffects import withStroke
from monai.data.meta_tensor import MetaTensor
from scipy import ndimage
from scipy.spatial import cKDTree

from medfuse.intensity import CT_WINDOWS_HU, Window, choose_window, outside_value, scale
from medfuse.intensity.colour import Palette, colourise
from medfuse.provenance import DISCLAIMER
from medfuse.registration import Registration, Warp, resample
from medfuse.registration.body.outline import Mask, body_mask, otsu
from medfuse.report.slice_view import Cut, middle_of
from medfuse.report.study_figure import Bar, Panel, Row, draw_study, png_of
from medfuse.volume import PLANES, Grid, grid_of, label_of, like, plain
from medfuse.volume.grid import Points

ERRORS_MM = Window(0.0, 10.0)
"""Limits of the colours of the estimated error, the same in every picture. What is larger has the last colour; its
number is written."""

BOARD_MM = 24.0
"""Side of a square of the checkerboard."""

SMOOTH_MM = 2.0
"""Standard deviation by which a slice is smoothed before its contours are drawn."""

LEAST_MM, LEAST_SURE_MM = 40.0, 10.0
"""A contour shorter than this is taken for noise; the second of what has little: bone of CT, and the body's outline, of
which a field may hold no more than a corner."""

THICK, THIN = 1.2, 0.5
"""Widths of contours, points: of what stands out, and of the outline."""

BONE_HU = 250.0
"""From where on CT is bone, between marrow and what contrast agents come to."""

MASK_MM = 2.5
"""Voxels, about, in which the body's outline is looked for."""

MOST_EIGHTHS = 8
"""So many errors or fewer are those of eighths of a body; more are those of blocks of a head."""

EDGE_MM = 5.0
"""No contour is drawn so near to where the field of a study ends: there is nothing but the end of the field."""

LEAST_MM2 = 150.0
"""What a slice must show of a block for its number to be written there."""

ARROW_MM = 12.0
"""Between the arrows that draw a deformation."""

RIM = [withStroke(linewidth=1.4, foreground="black")]


def alignment_picture(fixed: MetaTensor, moving: MetaTensor, registration: Registration) -> bytes:
    """Draw how two studies fit, in three planes through the middle of the fixed one.

    Parameters
    ----------
    fixed, moving
        (1, X, Y, Z) volumes in their own units.
    registration
        Fixed → moving. Where it was assessed, the body is coloured by the error of the block or eighth of it that a
        voxel lies in, and the errors are written in mm; what was not assessed stays grey.

    Returns
    -------
    bytes
        A PNG; a deformation as arrows, true to scale.
    """
    moved = resample(moving, grid_of(fixed), registration, outside=outside_value(moving))
    shown, other = (scale(volume, _window(volume)) for volume in (fixed, moved))
    body = body_of(fixed)
    seen = seen_in(grid_of(moving), grid_of(fixed), registration)
    names = label_of(fixed), label_of(moving)
    columns = [
        Panel(f"{names[0]} and {names[1]} in turns", _checkerboard(shown, other)),
        Panel(f"outlines of {names[1]} on {names[0]}", shown, over=Contours.of(moved, seen)),
        error_panel(shown, body, registration),
    ]
    if registration.warp is not None:
        columns.append(_deformation_panel(shown, body, registration.warp))
    through = middle_of(shown)
    cuts = [Cut.of(fixed, plane) for plane in PLANES if plane != "native"]
    note = f"{registration.method}: {registration.verdict or 'not assessed'}. {DISCLAIMER}"
    rows = [Row(cut, cut.through(through)) for cut in cuts]
    return png_of(draw_study(columns, rows, note=note, dark=True), dpi=150)


def _window(volume: MetaTensor) -> Window:
    """As the fused picture shows a study; but soft tissue of CT, whose skin and bones say where it lies."""
    return CT_WINDOWS_HU["soft-tissue"] if volume.meta.get("unit") == "HU" else choose_window(volume)


def _checkerboard(shown: MetaTensor, other: MetaTensor) -> MetaTensor:
    sides = zip(shown.shape[1:], grid_of(shown).spacing, strict=True)
    i, j, k = (torch.arange(size) * spacing // BOARD_MM for size, spacing in sides)
    turn = (i[:, None, None] + j[:, None] + k) % 2 == 0
    return like(torch.where(turn, plain(shown), plain(other)), shown)


def body_of(volume: MetaTensor) -> Mask:
    """Which voxels (X, Y, Z) are the patient; looked for in larger voxels, for its outline is all that is wanted."""
    grid = grid_of(volume)
    steps = _coarse_steps(grid)
    values = plain(volume)[0].cpu().numpy().astype(np.float32)
    coarse = values[:: steps[0], :: steps[1], :: steps[2]]
    found = body_mask(coarse, np.array(grid.spacing) * steps, hounsfield=volume.meta.get("unit") == "HU")
    return _refined(found, grid, steps)


def seen_in(field: Grid, grid: Grid, registration: Registration | None) -> Mask:
    """Which voxels (X, Y, Z) of a grid lie in the field of another study; the registration is grid → field.

    It is asked for in larger voxels, as `body_of` is.
    """
    steps = _coarse_steps(grid)
    sides = [np.arange(0, size, step) for size, step in zip(grid.shape, steps, strict=True)]
    found = np.empty([len(side) for side in sides], bool)
    for k, plane in enumerate(sides[2]):  # the places of all at once would take more memory than the study
        index = np.stack(np.meshgrid(sides[0], sides[1], [plane], indexing="ij"), axis=-1).reshape(-1, 3)
        points = grid.world(index)
        there = field.index(points if registration is None else registration.moved(points))
        inside = ((there >= -0.5) & (there <= np.array(field.shape) - 0.5)).all(axis=1)
        found[..., k] = inside.reshape(found.shape[:2])
    return _refined(found, grid, steps)


def _coarse_steps(grid: Grid) -> npt.NDArray[np.intp]:
    """Every how manieth voxel along each axis makes voxels of about `MASK_MM`."""
    return np.maximum(1, np.round(MASK_MM / np.array(grid.spacing))).astype(np.intp)


def _refined(coarse: Mask, grid: Grid, steps: npt.NDArray[np.intp]) -> Mask:
    """A mask of every so manieth voxel, for all voxels of a grid."""
    places = (np.arange(size) // step for size, step in zip(grid.shape, steps, strict=True))
    return coarse[np.ix_(*places)]


def _colours(name: str) -> Palette:
    return np.asarray(colormaps[name](np.arange(256))[:, :3], dtype=np.float32)


def error_panel(shown: MetaTensor, body: Mask, registration: Registration) -> Panel:
    """The map of the estimated error: colours of the body, by the block that a voxel lies in, and numbers."""
    verdict = registration.verdict
    title = "estimated error"
    if verdict is None or not len(verdict.places):
        return Panel(f"{title}: not assessed", shown)
    places, errors = verdict.places, verdict.errors_mm
    grey = plain(shown).expand(3, -1, -1, -1).clone()
    index = np.argwhere(body)
    distance, nearest = cKDTree(places).query(grid_of(shown).world(index))
    if len(places) > MOST_EIGHTHS:
        between = float(np.median(cKDTree(places).query(places, k=2)[0][:, 1]))
        near = distance <= between * np.sqrt(3) / 2  # half of a block's diagonal
        index, nearest = index[near], nearest[near]
    colours = _colours("cividis")
    unit = torch.from_numpy((errors[nearest] - ERRORS_MM.lower) / ERRORS_MM.width).float().clamp(0, 1)
    i, j, k = index.T
    # The tissue stays visible by its brightness: half of the colour's own.
    grey[:, i, j, k] = colourise(unit[None], colours) * (0.5 + 0.5 * grey[:, i, j, k])
    bar = Bar(f"error, mm; last colour: {ERRORS_MM.upper:g} or more", ERRORS_MM, colours)
    volume = like(grey.mul_(255).round_().to(torch.uint8), shown)
    blocks = torch.full_like(plain(shown), -1)
    blocks[0, i, j, k] = torch.from_numpy(nearest).to(blocks)
    return Panel(title, volume, bar, _Numbers(like(blocks, shown), errors))


@dataclass(frozen=True, eq=False)
class _Numbers:
    """Write the error of each block into what a slice shows of it.

    Parameters
    ----------
    blocks
        (1, X, Y, Z), the number of the block that a voxel lies in; -1 outside of all.
    errors
        (n,) mm.
    """

    blocks: MetaTensor
    errors: Points

    def __call__(self, axis: Axes, cut: Cut, k: int) -> None:
        view = cut.view(self.blocks, k)
        shown = view.values[0].numpy()
        side = np.array(view.size_mm[::-1]) / shown.shape
        for block, error in enumerate(self.errors):
            inside = np.argwhere(shown == block)
            if len(inside) * side.prod() < LEAST_MM2:
                continue
            y, x = (inside.mean(axis=0) + 0.5) * side
            axis.text(x, y, f"{error:.1f}", color="white", fontsize=5, ha="center", va="center", path_effects=RIM)


@dataclass(frozen=True, eq=False)
class Contours:
    """Draw where a study, on the grid of another, has its skin (thin) and what stands out in it (thick).

    Parameters
    ----------
    volume
        In its own unit.
    outline
        Its body, 1 inside and 0 outside; None where the whole field is body.
    level
        Between what stands out and the rest, in its unit: bone of CT; else by Otsu's method within the body.
    seen
        Its field, 1 inside and 0 outside, at whose end nothing is drawn; None where the field holds all of the grid.
    """

    volume: MetaTensor
    outline: MetaTensor | None
    level: float
    seen: MetaTensor | None = None

    @classmethod
    def of(cls, volume: MetaTensor, seen: Mask | None = None) -> Contours:
        """Choose the contours of a study on the grid of another; ``seen`` says where its own field lies."""
        body = body_of(volume)
        values = plain(volume)[0].cpu().numpy()
        inside = body if seen is None else body & seen
        level = BONE_HU if volume.meta.get("unit") == "HU" else otsu(values[inside if inside.any() else body])
        outline, field = (
            None if mask is None or mask.all() else like(torch.from_numpy(mask)[None].float(), volume)
            for mask in (body, seen)
        )
        return cls(volume, outline, level, field)

    def __call__(self, axis: Axes, cut: Cut, k: int) -> None:
        least = LEAST_SURE_MM if self.volume.meta.get("unit") == "HU" else LEAST_MM
        drawn = [(self.volume, self.level, THICK, least)]
        if self.outline is not None:
            drawn.append((self.outline, 0.5, THIN, LEAST_SURE_MM))
        for volume, level, width, shortest in drawn:
            view = cut.view(volume, k)
            values = view.values[0].numpy().astype(np.float64)
            side = np.array(view.size_mm[::-1]) / values.shape  # of a pixel: height, width
            smooth = ndimage.gaussian_filter(values, SMOOTH_MM / side, mode="nearest")
            known = np.ma.masked_array(smooth, self._near_the_end(cut, k, side))
            for line in contour_generator(z=known).lines(level):
                points = (np.asarray(line) + 0.5) * side[::-1]
                if np.linalg.norm(np.diff(points, axis=0), axis=1).sum() >= shortest:
                    axis.plot(*points.T, color="#ffb000", linewidth=width, path_effects=RIM, scalex=False, scaley=False)

    def _near_the_end(self, cut: Cut, k: int, side: Points) -> Mask | np.bool_:
        """Which pixels of a slice, ``side`` mm high and wide, lie outside the field or less than `EDGE_MM` within."""
        if self.seen is None:
            return np.ma.nomask
        seen = cut.view(self.seen, k).values[0].numpy() > 0
        if seen.all():
            return np.ma.nomask
        return np.asarray(ndimage.distance_transform_edt(seen, sampling=side) < EDGE_MM)


def _deformation_panel(shown: MetaTensor, body: Mask, warp: Warp) -> Panel:
    """Arrows within a slice from each point of the body to where it is looked for; colours say the whole length."""
    limits = Window(0.0, max(warp.largest_mm, 1.0))
    arrows = _Arrows(warp, like(torch.from_numpy(body)[None], shown), limits)
    # In grey of its own: the bar's colours are the arrows'.
    grey = (plain(shown) * (0.6 * 255)).round().to(torch.uint8).expand(3, -1, -1, -1).contiguous()
    return Panel("deformation", like(grey, shown), Bar("displacement, mm", limits, _colours("viridis")), arrows)


@dataclass(frozen=True, eq=False)
class _Arrows:
    """Draw a deformation, true to scale."""

    warp: Warp
    body: MetaTensor
    limits: Window

    def __call__(self, axis: Axes, cut: Cut, k: int) -> None:
        begin = self._begins(cut, k)
        if not len(begin):
            return
        end = self.warp.moved(begin)
        here, there = (np.array([cut.place(point) for point in points]) for points in (begin, end))
        axis.quiver(
            *here.T,
            *(there - here).T,
            np.linalg.norm(end - begin, axis=1),
            angles="xy",
            scale_units="xy",
            scale=1,
            cmap="viridis",
            clim=(self.limits.lower, self.limits.upper),
            width=0.006,
        )

    def _begins(self, cut: Cut, k: int) -> Points:
        """(n, 3) points of the body in a slice, RAS+ mm, `ARROW_MM` apart."""
        steps = [max(1, round(ARROW_MM / spacing)) for spacing in cut.grid.spacing[:2]]
        sides = (np.arange(step // 2, size, step) for step, size in zip(steps, cut.grid.shape[:2], strict=True))
        i, j = (each.ravel() for each in np.meshgrid(*sides, indexing="ij"))
        inside = plain(cut.turned(self.body))[0, ..., k].numpy()[i, j] > 0
        found: Points = cut.grid.world(np.stack([i, j, np.full_like(i, k)], axis=1)[inside])
        return found
