"""Draw an alignment, training curves and timings."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import PathCollection
from matplotlib.figure import Figure
from matplotlib.quiver import Quiver
from monai.data.meta_tensor import MetaTensor

from medfuse.intensity import choose_window, outside_value, scale
from medfuse.provenance import DISCLAIMER
from medfuse.registration import Registration, Warp, resample
from medfuse.report.slice_view import middle_of
from medfuse.volume import grid_of, plain
from medfuse.volume.plane_names import PLANES, Plane
from medfuse.volume.planes import replane

ARROW_MM = 12.0
"""Between the arrows that draw a deformation."""

Pixels = npt.NDArray[np.float64]


def alignment_picture(fixed: MetaTensor, moving: MetaTensor, registration: Registration) -> bytes:
    """Draw how two studies fit: a checkerboard of both, the moving one's contours on the fixed one, and the errors.

    Parameters
    ----------
    fixed, moving
        (1, X, Y, Z) volumes in their own units.
    registration
        Fixed → moving; where it was assessed, blocks of the head within 24 mm of a slice show their errors.

    Returns
    -------
    bytes
        A PNG of three planes through the middle of the fixed head; a deformation as arrows, true to scale.
    """
    moved = resample(moving, grid_of(fixed), registration, outside=outside_value(moving))
    shown, other = (scale(volume, choose_window(volume)) for volume in (fixed, moved))
    planes = [plane for plane in PLANES if plane != "native"]
    figure = Figure(figsize=(10, 10.4), facecolor="black", layout="constrained")
    FigureCanvasAgg(figure)
    through = middle_of(shown)
    columns = 3 if registration.warp is None else 4
    figure.set_figwidth(10 * columns / 3)
    arrows = None
    for row, plane in zip(figure.subplots(len(planes), columns), planes, strict=True):
        (here, aspect), (there, _) = (_slice_through(volume, plane, through) for volume in (shown, other))
        _checkerboard(row[0], here, there, aspect)
        row[1].imshow(here, aspect=aspect)
        soft = there[..., 0]
        if soft.max() > soft.min():
            row[1].contour(
                soft, levels=np.quantile(soft[soft > 0.05 * soft.max()], (0.1, 0.5, 0.9)), cmap="autumn", linewidths=0.7
            )
        dots = _errors_near(row[2], here, aspect, shown, plane, through, registration)
        titles = ["checkerboard", "contours", "errors, mm"]
        if registration.warp is not None:
            arrows = _deformation(row[3], here, aspect, shown, plane, through, registration.warp)
            titles.append("deformation, mm")
        for axis, title in zip(row, titles, strict=True):
            axis.set_title(f"{title} · {plane}", color="white", fontsize=9)
            axis.set_axis_off()
    if dots is not None:
        _bar(figure, dots, row[2])
    if arrows is not None:
        _bar(figure, arrows, row[3])
    figure.suptitle(f"{registration.method}: {registration.verdict}. {DISCLAIMER}", color="0.7", fontsize=8, wrap=True)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110, facecolor="black", metadata={"Software": "medfuse"})
    return buffer.getvalue()


def _bar(figure: Figure, of: PathCollection | Quiver, below: Axes) -> None:
    bar = figure.colorbar(of, ax=below, orientation="horizontal", shrink=0.8)
    bar.ax.tick_params(colors="white", labelsize=7)


def _deformation(
    axis: Axes, here: Pixels, aspect: float, volume: MetaTensor, plane: Plane, point: Pixels, warp: Warp
) -> Quiver:
    """Arrows within a slice from each point to where it is looked for, true to scale; colours say the whole length."""
    axis.imshow(here * 0.6, aspect=aspect)
    grid = grid_of(replane(volume, plane))
    steps = [max(1, round(ARROW_MM / spacing)) for spacing in grid.spacing[:2]]
    across, down = (
        values.ravel()
        for values in np.meshgrid(
            *(np.arange(step // 2, size, step) for step, size in zip(steps, grid.shape, strict=False))
        )
    )
    depth = np.clip(round(float(grid.index(point)[2])), 0, grid.shape[2] - 1)
    begin = np.stack([across, down, np.full_like(across, depth)], axis=-1).astype(np.float64)
    world = grid.world(begin)
    moved = warp.moved(world)
    end = grid.index(moved)
    return axis.quiver(
        begin[:, 0],
        begin[:, 1],
        *(end - begin)[:, :2].T,
        np.linalg.norm(moved - world, axis=1),
        angles="xy",
        scale_units="xy",
        scale=1,
        cmap="viridis",
        clim=(0, max(warp.largest_mm, 1.0)),
        width=0.006,
    )


def _checkerboard(axis: Axes, here: Pixels, there: Pixels, aspect: float) -> None:
    rows, columns = (np.arange(length) * 8 // length for length in here.shape[:2])
    own = ((rows[:, None] + columns) % 2 == 0)[..., None]
    axis.imshow(np.where(own, here, there), aspect=aspect)


def _errors_near(
    axis: Axes, here: Pixels, aspect: float, volume: MetaTensor, plane: Plane, point: Pixels, registration: Registration
) -> PathCollection | None:
    """Blocks near a slice as dots in the colour of their error; None where nothing was assessed."""
    axis.imshow(here * 0.6, aspect=aspect)
    verdict = registration.verdict
    if verdict is None or not len(verdict.places):
        return None
    grid = grid_of(replane(volume, plane))
    index = grid.index(verdict.places)
    near = np.abs(index[:, 2] - grid.index(point)[2]) * grid.spacing[2] < 24
    return axis.scatter(
        index[near, 0], index[near, 1], c=verdict.errors_mm[near], cmap="RdYlGn_r", vmin=0, vmax=6, s=60
    )


def training_curves(rows: Sequence[Mapping[str, float]]) -> bytes:
    """Draw a training log, one panel a figure, training and validation together, as PNG.

    Parameters
    ----------
    rows
        Lines of the log, each with ``step`` and figures named ``train_NAME`` and ``validation_NAME``.
    """
    names = list(dict.fromkeys(key.split("_", 1)[1] for row in rows for key in row if "_" in key))
    figure = Figure(figsize=(10, 2.4 * ((len(names) + 2) // 3)), layout="constrained")
    FigureCanvasAgg(figure)
    for place, name in enumerate(names, start=1):
        axis = figure.add_subplot((len(names) + 2) // 3, 3, place)
        for kind, style in (("train", "--"), ("validation", "-")):
            points = [(row["step"], row[f"{kind}_{name}"]) for row in rows if f"{kind}_{name}" in row]
            if points:
                axis.plot(*zip(*points, strict=True), style, label=kind)
        axis.set_title(name, fontsize=9)
        axis.set_xlabel("step", fontsize=8)
        axis.tick_params(labelsize=7)
        axis.legend(fontsize=7)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110, metadata={"Software": "medfuse"})
    return buffer.getvalue()


def _slice_through(
    volume: MetaTensor, plane: Plane, point: npt.NDArray[np.float64]
) -> tuple[npt.NDArray[np.float64], float]:
    """The slice next to a point as (rows, columns, 3) in [0, 1], and its pixels' height over width."""
    turned = replane(volume, plane)
    grid = grid_of(turned)
    k = int(np.clip(round(float(grid.index(point)[2])), 0, grid.shape[2] - 1))
    values = plain(turned)[..., k].cpu()
    rgb = values.expand(3, -1, -1).permute(2, 1, 0).numpy()
    along_columns, along_rows, _ = grid.spacing
    return np.asarray(rgb, dtype=np.float64), along_rows / along_columns


def bench_picture(found: Mapping[str, Any]) -> bytes:
    """Draw what `medfuse.bench.engines.bench` found, as PNG: slices, growth with pixels and batch, a study."""
    figure = Figure(figsize=(11, 7), layout="constrained")
    FigureCanvasAgg(figure)
    (slices, study), (pixels, batches) = figure.subplots(2, 2)
    names = list(found["slice"])
    slices.barh(names, [1000 * row["processor_seconds"] for row in found["slice"].values()])
    slices.set(title="one slice of 256 × 256", xlabel="processor time, ms")
    left = np.zeros(len(found["study"]))
    rows = [row["engine"] for row in found["study"]]
    for stage in dict.fromkeys(stage for row in found["study"] for stage in row["seconds"]):
        spent = np.array([row["seconds"].get(stage, 0.0) for row in found["study"]])
        study.barh(rows, spent, left=left, label=stage)
        left += spent
    study.set(title="a study, DICOM to DICOM", xlabel="seconds")
    study.legend(fontsize="small", loc="upper left", bbox_to_anchor=(1, 1))
    for axis, label, key, value, counted in (
        (pixels, "rows and columns of a slice", "batch", 1, "side"),
        (batches, "slices of 128 × 128 in a batch", "side", 128, "batch"),
    ):
        for name in dict.fromkeys(row["engine"] for row in found["growth"]):
            own = [row for row in found["growth"] if row["engine"] == name and row[key] == value]
            axis.plot(
                [row[counted] for row in own], [1000 * row["processor_seconds"] for row in own], marker=".", label=name
            )
        axis.set(xlabel=label, ylabel="processor time, ms", xscale="log", yscale="log")
        marked = sorted({row[counted] for row in found["growth"] if row[key] == value})
        axis.set_xticks(marked, labels=[str(each) for each in marked])
        axis.set_xticks([], minor=True)
    batches.legend(fontsize="small", loc="upper left", bbox_to_anchor=(1, 1))
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=100, metadata={"Software": "medfuse"})
    return buffer.getvalue()
