"""An abdomen, made of ellipses: CT and two kinds of MRI of one patient, in any pose, on any grid."""

from __future__ import annotations

import numpy as np
import torch
from monai.data.meta_tensor import MetaTensor
from scipy import ndimage

from medfuse.volume import Modality, Source, Unit, make_volume
from medfuse.volume.grid import Grid, Points

# centre and half axes, mm, RAS+; then the value in CT, T1 and T2
PARTS = (
    ((0, 0, 0), (160, 112, 900), (-100, 900, 500)),  # fat
    ((0, 0, 0), (142, 96, 900), (50, 320, 220)),  # muscle
    ((0, 16, 0), (128, 74, 900), (-90, 820, 460)),  # fat of the mesentery
    ((70, 22, 18), (54, 52, 62), (110, 420, 160)),  # liver, on the right
    ((-84, 4, 26), (26, 36, 40), (95, 300, 420)),  # spleen
    ((62, -40, -28), (26, 22, 48), (130, 280, 560)),  # kidneys
    ((-60, -38, -16), (26, 22, 48), (130, 280, 560)),
    ((-20, 44, -30), (52, 24, 34), (20, 240, 760)),  # bowel
    ((-14, -28, 0), (11, 11, 900), (160, 120, 90)),  # aorta
    ((0, -62, 0), (25, 20, 900), (220, 500, 330)),  # spine
    ((0, -84, 0), (8, 14, 900), (600, 150, 60)),
)
KINDS: dict[str, tuple[int, Modality, Unit]] = {
    "CT": (0, "CT", "HU"),
    "T1": (1, "MR", "arbitrary"),
    "T2": (2, "MR", "arbitrary"),
}


def turn(axis: str, degrees: float) -> Points:
    """(4, 4) turn about an axis through the origin."""
    one, other = {"x": (1, 2), "y": (2, 0), "z": (0, 1)}[axis]
    matrix = np.eye(4)
    cos, sin = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    matrix[[one, one, other, other], [one, other, one, other]] = cos, -sin, sin, cos
    return matrix


def abdomen(
    kind: str,
    pose: Points | None = None,
    *,
    spacing: tuple[float, float, float] = (4.0, 4.0, 5.0),
    source: Source | None = None,
    scale: float = 1.0,
    height: float = 200.0,
) -> MetaTensor:
    """The abdomen in a scanner: ``pose`` takes the patient's own points to the scanner's world."""
    place, modality, unit = KINDS[kind]
    pose = np.eye(4) if pose is None else pose
    extent = np.array((360.0, 280.0, height))
    centre = pose[:3, 3]
    shape = np.round(extent / spacing).astype(int)
    affine = np.diag([*spacing, 1.0])
    affine[:3, 3] = centre - affine[:3, :3] @ ((shape - 1) / 2)
    grid = Grid((int(shape[0]), int(shape[1]), int(shape[2])), affine)
    world = grid.world(np.stack(np.meshgrid(*map(np.arange, grid.shape), indexing="ij"), axis=-1))
    back = np.linalg.inv(pose)
    own = (world @ back[:3, :3].T + back[:3, 3]) / scale
    values = np.full(grid.shape, -1000.0 if kind == "CT" else 0.0)
    for middle, axes, shown in PARTS:
        values[(((own - middle) / axes) ** 2).sum(axis=-1) < 1] = shown[place]
    values = ndimage.gaussian_filter(values, 0.5)
    noise = np.random.default_rng(5 + place).normal(0, 12, grid.shape)
    values = values + noise if kind == "CT" else np.abs(values + noise)
    return make_volume(
        torch.from_numpy(values.astype(np.float32))[None], grid, modality=modality, unit=unit, source=source
    )
