"""Where fusion is hard: both sources near white."""

from __future__ import annotations

import numpy as np
import torch
from compared_methods import OURS, Method
from scipy.ndimage import gaussian_filter
from torch import Tensor

LEVELS = (0.5, 0.7, 0.8)
"""Of the textured source, under the other one at 1."""

TEXTURE = 0.08
"""Standard deviation of the texture, in shares of the range: that of white matter and gyri in a T1 image."""

WHITE = 0.995

JUDGED = (OURS, "published weights, black air", "average", "maximum")


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
