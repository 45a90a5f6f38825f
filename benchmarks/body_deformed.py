"""Put a known deformation on the moving study of pairs away from the head, and see how much of it is followed.

    python benchmarks/body_deformed.py FOLDER [--pairs CT-PET,MR-CT,MR-PET] [--most MM] [--patients first|second|all]

FOLDER is that of ``benchmarks/body.py``. The deformation is smooth: four Gaussian hills of 40 mm at random places of
the body, up to ``--most`` mm long within it. Each pair is registered twice by ``deformable``: as it is, and with the
moving study deformed. There is no exact truth for two scans of one patient, so the distance to it is told twice: to
where the known deformation leads after the *linear* map found without it, which has in it by how much tissue moved
between the scans anyway; and after *all* that was found without it, the deformation included, which is agreement with
oneself. Both are medians over the body inside both fields, mm; ``before`` is that of the linear map alone. One JSON
line a pair, then a table.
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch
from body import FOLDERS, PAIRS, body_points
from monai.data.meta_tensor import MetaTensor
from registration_cases import Matrix
from scipy import ndimage

import medfuse
from medfuse.registration.transform import Registration
from medfuse.volume import grid_of, like, plain

HILLS, WIDTH_MM = 4, 40.0
FIRST, SECOND = "first", "second"
EVERY_OTHER = {FIRST: slice(0, None, 2), SECOND: slice(1, None, 2), "all": slice(None)}

Displacement = Callable[[Matrix], Matrix]


def known(patient: str, pair: str, points: Matrix, most_mm: float) -> Displacement:
    """A smooth displacement of up to so many mm at the points of a body; the same on each run."""
    draw = np.random.default_rng([*f"{patient} {pair} deformed".encode()])
    middles, heights = points[draw.integers(len(points), size=HILLS)], draw.normal(size=(HILLS, 3))

    def displacement(places: Matrix) -> Matrix:
        away = ((places[:, None] - middles) ** 2).sum(axis=-1)
        return np.asarray(np.exp(-0.5 * away / WIDTH_MM**2) @ heights)

    heights *= most_mm / np.linalg.norm(displacement(points), axis=1).max()
    return displacement


def deformed(volume: MetaTensor, displacement: Displacement) -> MetaTensor:
    """What lies at p + displacement(p) is seen at p."""
    values, grid = plain(volume)[0].numpy(), grid_of(volume)
    found = np.empty_like(values)
    for x in range(len(values)):
        index = np.stack(np.meshgrid([x], *map(np.arange, values.shape[1:]), indexing="ij"), axis=-1).reshape(-1, 3)
        places = grid.world(index)
        there = grid.index(places + displacement(places))
        found[x] = ndimage.map_coordinates(values, there.T, order=1, mode="nearest").reshape(values.shape[1:])
    return like(torch.from_numpy(found)[None], volume)


def seen_at(displacement: Displacement, places: Matrix) -> Matrix:
    """Where the deformed study shows what lies at places of the study itself."""
    found = places
    for _ in range(40):
        found = places - displacement(found)
    return found


def followed(found: Registration, points: Matrix, *, linear: bool = False) -> Matrix:
    """(N, 3) where a registration takes points of the fixed study."""
    moved = points if linear or found.warp is None else found.warp.moved(points)
    return np.asarray(moved @ found.matrix[:3, :3].T + found.matrix[:3, 3])


def measured(folder: Path, patient: str, pair: str, most_mm: float) -> dict[str, Any]:
    """One pair, with and without the known deformation."""
    fixed, moving = (medfuse.load(folder / patient / FOLDERS[name] / "image") for name in pair.split("-"))
    displacement = known(patient, pair, body_points(moving), most_mm)
    without = medfuse.register(fixed, moving, "deformable", force=True)
    found = medfuse.register(fixed, deformed(moving, displacement), "deformable", force=True)
    points, grid = body_points(fixed), grid_of(moving)
    index = grid.index(followed(without, points, linear=True))
    points = points[((index >= 0) & (index <= np.array(grid.shape) - 1)).all(axis=1)]

    def apart(truth: Matrix, seen: Matrix) -> float:
        return float(np.median(np.linalg.norm(truth - seen, axis=1)))

    after_linear, after_all = (
        seen_at(displacement, followed(without, points, linear=linear)) for linear in (True, False)
    )
    verdict = found.verdict
    assert verdict is not None
    return {
        "patient": patient,
        "pair": pair,
        "before_mm": apart(after_linear, followed(found, points, linear=True)),
        "to_linear_mm": apart(after_linear, followed(found, points)),
        "to_all_mm": apart(after_all, followed(found, points)),
        "put_on_mm": apart(followed(without, points, linear=True), after_linear),
        "kept": found.warp is not None,
        "kept_without": without.warp is not None,
        "least_jacobian": 1.0 if found.warp is None else found.warp.least_jacobian,
        "estimate_mm": None if found.warp is None else found.warp.error_mm,
        "verdict": verdict.opinion,
    }


def summary(rows: list[dict[str, Any]]) -> str:
    """Table by pair."""
    lines = [
        "| pair | n | put on | before | after, to the linear map | under 3 mm | after, to all | under 3 mm "
        "| followed | least Jacobian |",
        "|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for pair in dict.fromkeys(row["pair"] for row in rows):
        some = [row for row in rows if row["pair"] == pair]
        put, before, linear, whole = (
            statistics.median(row[key] for row in some)
            for key in ("put_on_mm", "before_mm", "to_linear_mm", "to_all_mm")
        )
        below = [sum(row[key] < 3 for row in some) for key in ("to_linear_mm", "to_all_mm")]
        least = min(row["least_jacobian"] for row in some)
        lines.append(
            f"| {pair} | {len(some)} | {put:.1f} | {before:.1f} | {linear:.1f} | {below[0]} | {whole:.1f} | {below[1]} "
            f"| {sum(row['kept'] for row in some)} | {least:.2f} |"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--pairs", default=PAIRS)
    parser.add_argument("--most", type=float, default=15.0, help="length of the deformation, mm")
    parser.add_argument("--patients", choices=list(EVERY_OTHER), default="all", help="every other one, or all")
    given = parser.parse_args()
    patients = sorted(path.name for path in given.folder.iterdir() if (path / "CT").is_dir())
    if not patients:
        parser.error(f"no patient's folder with CT/image in {given.folder}; give the cohort's folder.")
    rows = []
    for pair, patient in product(given.pairs.split(","), patients[EVERY_OTHER[given.patients]]):
        rows.append(measured(given.folder, patient, pair, given.most))
        print(json.dumps(rows[-1]), flush=True)
    print(summary(rows))


if __name__ == "__main__":
    main()
