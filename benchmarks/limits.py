"""Where fusion is hard: both sources near white, and patients by the dozen instead of one mean."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from compared_methods import OURS, Method
from scipy.ndimage import gaussian_filter
from torch import Tensor

from medfuse.gesenet.training.dataset import Pair
from medfuse.metrics import CORE

LEVELS = (0.5, 0.7, 0.8)
"""Of the textured source, under the other one at 1."""

TEXTURE = 0.08
"""Standard deviation of the texture, in shares of the range: that of white matter and gyri in a T1 image."""

WHITE = 0.995

JUDGED = (OURS, "published weights, black air", "average", "maximum")

EVERY = 4
"""Of the slices of the patients that were trained on."""

ScoresOf = Callable[[Method, list[Pair]], dict[str, list[float]]]


def crowded_pair(level: float) -> tuple[Tensor, Tensor, Tensor]:
    """A textured head of a level, another source at 0.3 with a disc at 1, (1, 1, 256, 256); and where the disc is."""
    texture = gaussian_filter(np.random.default_rng(0).normal(size=(256, 256)), 2)
    rows, columns = np.mgrid[:256, :256]

    def disc(column: int, radius: int) -> Tensor:
        return torch.from_numpy((rows - 128) ** 2 + (columns - column) ** 2 < radius**2)[None, None]

    head, hot, inner = disc(128, 100), disc(150, 30), disc(150, 26)
    textured = torch.from_numpy(level + TEXTURE * texture / texture.std()).float().clamp(0, 1) * head
    return textured, torch.where(hot, 1.0, 0.3 * head), inner


def crowded(compared: dict[str, Method]) -> str:
    """Table: share of a source's contrast that is left under the other one at 1, and how much of it is white."""
    cells = " | ".join(f"{hot} at 1, {other} at {level}" for hot, other in _roles() for level in LEVELS)
    lines = [f"| method | {cells} |", f"|---|{'---:|' * (2 * len(LEVELS))}"]
    for method in JUDGED:
        if method not in compared:
            continue
        row = []
        for hot, _ in _roles():
            for level in LEVELS:
                textured, other, inner = crowded_pair(level)
                sides = (textured, other) if hot == "partner" else (other, textured)
                seen = compared[method](*sides)[inner]
                row.append(f"{seen.std() / textured[inner].std():.2f} ({(seen > WHITE).float().mean():.0%})")
        lines.append(f"| {method} | {' | '.join(row)} |")
    return "\n".join(lines) + "\n"


def _roles() -> tuple[tuple[str, str], tuple[str, str]]:
    return ("partner", "MRI"), ("MRI", "partner")


def ahead(ours: Method, published: Method, pairs: Sequence[Pair], scores_of: ScoresOf) -> str:
    """Table by task: on how many patients ours has the higher mean, by how much in all, and on the worst patient."""
    lines = [f"| task | patients | {' | '.join(map(str.upper, CORE))} |", f"|---|---:|{'---:|' * len(CORE)}"]
    for task in sorted({pair.task for pair in pairs}):
        own = [pair for pair in pairs if pair.task == task]
        differences = {
            name: np.subtract(*pairs_of) for name, pairs_of in _both(ours, published, own, scores_of).items()
        }
        cases = np.array([pair.case for pair in own])
        row = []
        for name in CORE:
            by_patient = [differences[name][cases == case].mean() for case in sorted(set(cases))]
            won = sum(value > 0 for value in by_patient)
            row.append(f"{won} of {len(by_patient)}: {differences[name].mean():+.4f} ({min(by_patient):+.4f})")
        lines.append(f"| {task} | {len(set(cases))} | {' | '.join(row)} |")
    return "\n".join(lines) + "\n"


def _both(
    ours: Method, published: Method, pairs: list[Pair], scores_of: ScoresOf
) -> dict[str, tuple[list[float], list[float]]]:
    found = [scores_of(fuse, pairs) for fuse in (ours, published)]
    return {name: (found[0][name], found[1][name]) for name in CORE}
