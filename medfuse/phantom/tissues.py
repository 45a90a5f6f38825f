"""List the tissues of the head, and compute how layers of them share a voxel."""

from __future__ import annotations

import torch
from torch import Tensor

TISSUES = (
    "air",
    "skin",
    "fat",
    "muscle",
    "compact_bone",
    "marrow",
    "dura",
    "csf",
    "cortex",
    "white_matter",
    "deep_grey",
    "cerebellar_cortex",
    "brain_stem",
    "vitreous",
    "lens",
    "marker",
)
"""Names of the tissues, in the order of the first axis of the fractions."""


class Layers:
    """Paint tissues front to back over N points; a later layer shows only where the earlier ones do not cover.

    Parameters
    ----------
    count
        Number of points.
    """

    def __init__(self, count: int) -> None:
        self.fractions = torch.zeros(len(TISSUES), count)
        self._uncovered = torch.ones(count)

    def paint(self, tissue: str, coverage: Tensor) -> None:
        """Lay ``tissue`` with an (N,) opacity in [0, 1] behind everything painted so far."""
        share = self._uncovered * coverage
        self.fractions[TISSUES.index(tissue)] += share
        self._uncovered -= share

    def fill(self, tissue: str) -> Tensor:
        """Give all that is left to ``tissue`` and return the (tissues, N) fractions, summing to 1."""
        self.fractions[TISSUES.index(tissue)] += self._uncovered
        return self.fractions
