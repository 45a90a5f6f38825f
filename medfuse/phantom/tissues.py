"""List the tissues of the head, with their contrast, and compute how layers of them share a voxel."""

from __future__ import annotations

import torch
from torch import Tensor

CONTRAST: dict[str, tuple[float, float, float, float]] = {
    # T1-weighted MR (arbitrary), CT (HU), FDG PET (Bq/ml), HMPAO SPECT (counts)
    "air": (4, -1000, 0, 0),
    "skin": (400, 40, 1800, 9),
    "fat": (860, -90, 900, 4),
    "muscle": (340, 55, 2400, 11),
    "compact_bone": (45, 1350, 700, 3),
    "marrow": (420, 700, 2600, 9),
    "dura": (300, 60, 2500, 12),
    "csf": (130, 8, 500, 2),
    "cortex": (470, 38, 21000, 110),
    "white_matter": (680, 28, 5250, 32),
    "deep_grey": (535, 40, 22500, 112),
    "cerebellar_cortex": (470, 39, 17500, 124),
    "brain_stem": (640, 30, 8500, 60),
    "vitreous": (115, 12, 600, 2),
    "lens": (300, 85, 800, 2),
    "marker": (960, 300, 0, 0),
}
"""Value of each tissue in the order of `MODALITIES`."""

TISSUES = tuple(CONTRAST)
"""Names of the tissues, in the order of the first axis of the fractions."""


class Layers:
    """Paint tissues front to back over ``count`` points; a later layer shows where the earlier ones do not cover."""

    def __init__(self, count: int) -> None:
        self.fractions = torch.zeros(len(TISSUES), count, dtype=torch.float32)
        self._uncovered = torch.ones(count, dtype=torch.float32)

    def paint(self, tissue: str, coverage: Tensor) -> None:
        """Lay ``tissue`` with an (N,) opacity in [0, 1] behind everything painted so far."""
        share = self._uncovered * coverage
        self.fractions[TISSUES.index(tissue)] += share
        self._uncovered -= share

    def fill(self, tissue: str) -> Tensor:
        """Give all that is left to ``tissue`` and return the (tissues, N) fractions, summing to 1."""
        self.fractions[TISSUES.index(tissue)] += self._uncovered
        return self.fractions
