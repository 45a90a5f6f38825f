"""Write the quality page's first table, how well fused slices can be read, and draw lesions at full size.

    python benchmarks/quality_reading.py [--weights FILE] [--published GeSeNet.pth] [--out FOLDER]

Of each phantom study (MRI with CT, PET, SPECT) every few slices are fused by each method, in the colours that its users
get: medfuse by its defaults, the others by Eq. 5 of the paper in the Standard's hot iron, the 50 % blend in hot iron.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor

import medfuse
from medfuse.methods import FusionMethod, load_method
from medfuse.metrics.lesions import CLASSES, TISSUE, insert_lesions, plan_lesions
from medfuse.pipeline.compare_methods import MethodScores, compare_methods
from medfuse.pipeline.scored_pairs import PairStack, ScoredPairs, pairs_of_paths

TASKS = {"CT": "MRI–CT", "PT": "MRI–PET", "NM": "MRI–SPECT"}
SIMPLE = {
    "blend": "50 % blend",
    "max": "maximum",
    "average": "average",
    "laplacian": "Laplacian pyramid",
    "guided-filter": "guided filter",
}
OURS, PUBLISHED = "medfuse", "published weights"
HOT = "hot-iron"

EVERY = 8
"""Slices of a phantom from one that is looked at to the next."""

PLACES = {"CT": ("blood", "oedema"), "PT": ("hot spot", "cold spot"), "NM": ("hot spot", "cold spot")}


class Compared(NamedTuple):
    """A method by the name that the page gives it."""

    title: str
    method: FusionMethod


def compared(weights: str, published: str | None) -> list[Compared]:
    found = [Compared(OURS, load_method(f"gesenet:{weights}" if weights != "default" else "gesenet"))]
    if published:
        found.append(Compared(PUBLISHED, load_method(f"gesenet:{published}")))
    return found + [Compared(title, load_method(name)) for name, title in SIMPLE.items()]


@cache
def phantom_pairs(modality: str) -> ScoredPairs:
    """Slices of a phantom study in medfuse's default colours, its headers trusted after a registration."""
    with tempfile.TemporaryDirectory() as place:
        medfuse.phantom_study(modality).write_dicom(place)
        return pairs_of_paths(f"{place}/mri", f"{place}/partner", every=EVERY)


def in_colours_of(title: str, pairs: ScoredPairs) -> ScoredPairs:
    """The same pairs in the colours that a method's users get; CT is grey in all."""
    if pairs.stacks[0].palette is None:
        return pairs
    if title == OURS:
        return replace(pairs, stacks=[replace(each, join="oklab") for each in pairs.stacks])
    changed = [replace(each, palette=HOT, join="chroma") for each in pairs.stacks]
    return replace(pairs, stacks=[each.changed(each.mri, each.uptake) for each in changed])


def measured(modality: str, methods: Sequence[Compared]) -> dict[str, MethodScores]:
    found = {}
    for title, method in methods:
        if modality == "CT" and title == "average":
            continue  # in grey the blend is the average
        found[title] = compare_methods(in_colours_of(title, phantom_pairs(modality)), [method], ())[0]
    return found


def read_back_table(found: dict[str, dict[str, MethodScores]]) -> str:
    """PET and SPECT: both sources read back, and what the picture adds. CT: what the picture adds."""
    heads = ("partner read back", "MRI read back", "by the legend", "clipped", "above both", "invented")
    lines = [f"| | method | {' | '.join(heads)} |", f"|---|---|{'---:|' * len(heads)}"]
    for modality, methods in found.items():
        for place, (title, one) in enumerate(methods.items()):
            reading = one.scores.reading
            assert reading is not None
            sides = (reading.uptake, reading.mri, reading.uptake_by_legend)
            cells = ["–" if side is None else f"{side.spearman:.3f} / {side.mean_error:.3f}" for side in sides]
            shares = (reading.clipped, reading.overshoot, reading.invented)
            cells += ["–" if share is None else f"{share:.1%}" for share in shares]
            lines.append(f"| {'' if place else TASKS[modality]} | {bold(title)} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def lesion_table(found: dict[str, dict[str, MethodScores]]) -> str:
    """Of each kind of lesion the share that is lost, and the observer's d′ in colour."""
    kinds = [name for name, _, _ in CLASSES]
    lines = [f"| | method | {' | '.join(kinds)} |", f"|---|---|{'---:|' * len(kinds)}"]
    for modality, methods in found.items():
        for place, (title, one) in enumerate(methods.items()):
            cells = []
            for name in kinds:
                seen = one.lesions[name].to_dict()
                cells.append("–" if seen["lost"] is None else f"{seen['lost']:.0%}, {seen['colour_dprime']:.1f}")
            lines.append(f"| {'' if place else TASKS[modality]} | {bold(title)} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def bold(title: str) -> str:
    return f"**{title}**" if title == OURS else title


class Panel(NamedTuple):
    """A picture (H, W, 1 or 3) uint8 with its title, and where an arrow points to: row and column."""

    title: str
    picture: Tensor
    mark: tuple[int, int] | None = None


def with_lesion(stack: PairStack, name: str) -> tuple[PairStack, tuple[int, int] | None]:
    """One slice with a lesion of 12 mm, and where; oedema is in the MRI, spots are in the partner.

    Blood is the CT phantom's own lesion, which needs no arrow.
    """
    if name == "blood":
        return stack.taken([stack.numbers.index(blood_slice(stack.numbers))]), None
    side, bright = ("mri", True) if name == "oedema" else ("partner", name != "cold spot")
    one = stack.taken([len(stack) // 2])
    lesions = plan_lesions(
        *(one.mri, one.uptake, side),
        bright=bright,
        pixel_mm=one.pixel_mm,
        seed=3,
        diameters_mm=(12.0,),
        contrasts=(0.25,),
    )
    changed = insert_lesions(one.mri if side == "mri" else one.uptake, lesions, one.pixel_mm)
    shown = one.changed(changed, one.uptake) if side == "mri" else one.changed(one.mri, changed)
    return shown, (lesions[0].row, lesions[0].column)


def blood_slice(numbers: Sequence[int]) -> int:
    """Of these slices the one nearest to the middle of the lesion that only the phantom's CT shows."""
    phantom = medfuse.phantom_study("CT", coarsen=4)
    place = np.append(phantom.landmarks["lesion"], 1)
    here = np.linalg.solve(np.asarray(phantom.mri.affine), place)[2] / phantom.mri.shape[-1]
    fine = medfuse.phantom_study("CT").mri.shape[-1]
    return min(numbers, key=lambda number: abs(number - here * fine))


def head_box(stack: PairStack) -> tuple[slice, slice]:
    """Rows and columns of a slice that show something, with a margin."""
    tissue = torch.maximum(stack.mri, stack.uptake)[0, 0] > TISSUE
    first, second = (torch.nonzero(tissue.any(axis))[:, 0] for axis in (1, 0))
    rows, columns = (slice(max(0, int(at.min()) - 4), int(at.max()) + 5) for at in (first, second))
    return rows, columns


def lesion_row(modality: str, name: str, methods: Sequence[Compared]) -> list[Panel]:
    """Both sources, and what each method makes of them."""
    row: list[Panel] = []
    for title, method in methods:
        stack, mark = with_lesion(in_colours_of(title, phantom_pairs(modality)).stacks[0], name)
        rows, columns = head_box(stack)
        place = None if mark is None else (mark[0] - rows.start, mark[1] - columns.start)
        if not row:
            names = f"MRI\n{TASKS[modality]}, {name}", TASKS[modality].removeprefix("MRI–")
            for side, its in zip(names, (stack.mri, stack.uptake), strict=True):
                row.append(Panel(side, (its * 255).round().byte()[0, :, rows, columns].movedim(0, -1), place))
        row.append(Panel(title, stack.show(method)[0, :, rows, columns].movedim(0, -1), place))
    return row


def draw_lesions(methods: Sequence[Compared], path: Path) -> None:
    """A row for each lesion, a column for each source and method."""
    sheet([lesion_row(modality, name, methods) for modality, names in PLACES.items() for name in names], path)


def sheet(rows: Sequence[Sequence[Panel]], path: Path, *, zoom: int = 2, dpi: int = 100) -> None:
    """Panels in rows and columns; a pixel of a slice is ``zoom`` wide."""
    height = max(panel.picture.shape[0] for row in rows for panel in row) * zoom / dpi + 0.4
    width = max(panel.picture.shape[1] for row in rows for panel in row) * zoom / dpi
    columns = max(map(len, rows))
    figure = Figure(figsize=(width * columns, height * len(rows)), facecolor="black", layout="constrained")
    for row, axes in zip(rows, figure.subplots(len(rows), columns, squeeze=False), strict=True):
        for axis in axes:
            axis.set_axis_off()
        for panel, axis in zip(row, axes, strict=False):
            grey = {"cmap": "gray", "vmin": 0, "vmax": 255} if panel.picture.shape[-1] == 1 else {}
            axis.imshow(panel.picture.squeeze(-1).numpy(), interpolation="nearest", **grey)
            axis.set_title(panel.title, color="white", fontsize=11)
            if panel.mark is not None:
                at, arrow = panel.mark[::-1], {"arrowstyle": "->", "color": "white", "lw": 1.2}
                axis.annotate("", (at[0] + 9, at[1]), (at[0] + 32, at[1]), arrowprops=arrow)
    figure.savefig(path, dpi=dpi, facecolor="black", metadata={"Software": "medfuse"})


def write(weights: str, published: str | None, out: Path, say: Callable[[str], None] = print) -> None:
    """Write ``reading.md``, ``lesions.md`` and ``lesions.png``."""
    methods = compared(weights, published)
    found = {}
    for modality in TASKS:
        found[modality] = measured(modality, methods)
        say(f"read {TASKS[modality]}")
    (out / "reading.md").write_text(read_back_table(found))
    (out / "lesions.md").write_text(lesion_table(found))
    draw_lesions([each for each in methods if each.title != "average"], out / "lesions.png")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--published")
    parser.add_argument("--weights", default="default")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent.parent / "docs" / "quality")
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    write(given.weights, given.published, given.out)


if __name__ == "__main__":
    main()
