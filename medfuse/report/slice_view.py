"""Cut a slice out of a volume as people look at it: turned to a view, with letters, position and size in mm."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from monai.data.meta_tensor import MetaTensor
from torch import Tensor

from medfuse.report.figure_names import View
from medfuse.volume import Grid, Plane, grid_of, plain, replane
from medfuse.volume.grid import Points
from medfuse.volume.planes import upright

LETTERS = (("R", "L"), ("A", "P"), ("S", "I"))
"""What people call the positive and negative ends of RAS+ axes; S and I for DICOM's H and F."""

SHOWS = 0.1
"""An MRI shows something where it is brighter than this, of [0, 1]."""

SECOND_LETTER = 0.2
"""An edge has a second letter where its direction leans at least this much (its sine, 12°) towards another axis."""


@dataclass(frozen=True)
class SliceView:
    """A slice as it is shown.

    Parameters
    ----------
    values
        (C, rows, columns).
    size_mm
        Width and height of the whole slice.
    left, right, top, bottom
        Which way the patient lies beyond each edge: ``"R"``, or ``"RA"`` where the slice is oblique.
    position
        Where the slice's middle lies along the axis that it crosses: ``"S 23.0 mm"``.
    """

    values: Tensor
    size_mm: tuple[float, float]
    left: str
    right: str
    top: str
    bottom: str
    position: str


@dataclass(frozen=True)
class Cut:
    """Which slices a figure shows, and from which side: a plane of a grid, seen in a view.

    Slices as they were acquired (``native``) keep their numbers and are turned upright: the usual view of the plane
    that is nearest to them.
    """

    plane: Plane
    grid: Grid
    flipped: bool

    @classmethod
    def of(cls, volume: MetaTensor, plane: Plane, view: View = "radiological") -> Cut:
        """Slices of a volume on a plane; a neurological view is flipped wherever left and right would be exchanged."""
        grid = grid_of(_turned(volume, plane))
        across = grid.directions[:, 0]
        leftwards = abs(across[0]) == np.abs(across).max() and across[0] < 0
        rightwards = abs(across[0]) == np.abs(across).max() and across[0] > 0
        return cls(plane, grid, leftwards if view == "neurological" else rightwards)

    @property
    def count(self) -> int:
        """How many slices there are."""
        return self.grid.shape[2]

    def turned(self, volume: MetaTensor) -> MetaTensor:
        """A volume (C, X, Y, Z) on the same grid, turned to the cut's: columns, rows and slices, not yet flipped."""
        return _turned(volume, self.plane)

    def through(self, point: npt.ArrayLike) -> int:
        """The slice nearest to a point, RAS+ mm."""
        return int(np.clip(round(float(self.grid.index(point)[2])), 0, self.count - 1))

    def view(self, volume: MetaTensor, k: int) -> SliceView:
        """Slice ``k`` of a volume (C, X, Y, Z) on the same grid."""
        values = plain(self.turned(volume))[..., k].mT.cpu()
        across, down, through = self.grid.directions.T
        columns, rows, _ = self.grid.shape
        if self.flipped:
            values, across = values.flip(-1), -across
        middle = self.grid.world([(columns - 1) / 2, (rows - 1) / 2, k])
        axis = int(np.abs(through).argmax())
        place = LETTERS[axis][0 if middle[axis] >= 0 else 1]
        return SliceView(
            values,
            (columns * self.grid.spacing[0], rows * self.grid.spacing[1]),
            left=letters_of(-across),
            right=letters_of(across),
            top=letters_of(-down),
            bottom=letters_of(down),
            position=f"{place} {abs(middle[axis]):.1f} mm",
        )

    def place(self, point: npt.ArrayLike) -> tuple[float, float]:
        """Where a point, RAS+ mm, lies in a slice: mm from its left and top edge."""
        column, row, _ = self.grid.index(point)
        if self.flipped:
            column = self.grid.shape[0] - 1 - column
        return (column + 0.5) * self.grid.spacing[0], (row + 0.5) * self.grid.spacing[1]


def _turned(volume: MetaTensor, plane: Plane) -> MetaTensor:
    return upright(volume) if plane == "native" else replane(volume, plane)


def letters_of(direction: Points) -> str:
    """Name a direction (3,) in RAS+: the letter of the axis that it follows most, and of a second one it leans to."""
    unit = np.asarray(direction, dtype=float) / np.linalg.norm(direction)
    order = np.argsort(-np.abs(unit), kind="stable")
    named = [order[0], *(axis for axis in order[1:2] if abs(unit[axis]) >= SECOND_LETTER)]
    return "".join(LETTERS[axis][0 if unit[axis] > 0 else 1] for axis in named)


def middle_of(mri: MetaTensor) -> Points:
    """World position of the middle of what an MRI in [0, 1] shows, mm."""
    share = [share_shown(mri, axis) for axis in range(3)]
    weights = [np.where(each > 0.25 * each.max(), each, 0) if each.max() > 0 else np.ones_like(each) for each in share]
    return grid_of(mri).world([np.average(np.arange(len(each)), weights=each) for each in weights])


def share_shown(mri: MetaTensor, axis: int) -> Points:
    """For each slice across an axis, the share of it where the MRI, or another volume in [0, 1], shows something."""
    others = tuple(other for other in range(3) if other != axis)
    return np.asarray((plain(mri)[0] > SHOWS).float().mean(others).numpy(), dtype=np.float64)
