"""Draw training curves and timings."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure


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
