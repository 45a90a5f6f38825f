"""Say by tissue how far two studies disagree under a map: near cortical bone, inside, and at the skin.

Tissue moves between two scans, and bone does not bend: a rigid map that fits the bones and not the skin is right about
something. Whether that is enough depends on what is looked at, so the figures are told and nothing is decided here.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import numpy as np
import numpy.typing as npt
import SimpleITK as sitk
import torch
from torch import Tensor
from torch.nn import functional

from medfuse.registration.assess import REACH_MM, local_errors
from medfuse.registration.body.bones import BONE_HU, Bones, seen_from_ct
from medfuse.registration.pyramid import Pyramid, PyramidLevel
from medfuse.registration.search import Pair
from medfuse.registration.verdict import TissueError, TissueErrors
from medfuse.registration.warp import Warp
from medfuse.volume.grid import Points

SKIN_HU = -400.0
"""Half way between air and fat."""

NEAR_MM = 4.0
"""Voxels in which bone is looked for; what borders on one that holds some counts as near bone."""

LEAST_BLOCKS, LEAST_BONES, LEAST_OUTLINE = 3, 2, 100
"""Blocks of tissue, slabs of bone, and points of the outline, from which a figure is told."""

LEAST_AIR = 0.02
"""Share of a field that the air around a body takes; smaller dark parts lie in it."""

FARTHEST_MM = 25.0
"""Two outlines that are further apart are not of the same skin: one of them lies outside of the other field."""

BORDER = 2.0
"""Voxels from the border of a field within which an outline is a cut and not the skin."""


def tissue_errors(pair: Pair, matrix: Points, warp: Warp | None = None) -> TissueErrors:
    """Measure by tissue how far two studies disagree under a map.

    Parameters
    ----------
    pair
        The two studies.
    matrix
        (4, 4), fixed → moving, RAS+ mm.
    warp
        A deformation, applied before the matrix.
    """
    seen = pair if warp is None else pair.warped(warp)
    points = pair.fine.points.double().numpy() + pair.centre
    there = (seen.fine.points.double().numpy() + pair.centre) @ matrix[:3, :3].T + matrix[:3, 3]
    near_bone = np.zeros(len(points), dtype=bool)
    for study, places in ((pair.fixed, points), (pair.moving, there)):
        if study.hounsfield:
            near_bone |= _looked_up(_bone(study), places)
    depth = _depth(pair.fixed)
    at_skin = np.zeros(len(points), dtype=bool)
    if depth is not None:
        index = np.clip(np.rint(pair.fixed.fine.index(points)), 0, pair.fixed.fine.extent).astype(int)
        at_skin = depth[tuple(index.T)] > -2 * NEAR_MM
    inside = TissueError.of(_of_samples(seen, matrix, ~near_bone & ~at_skin), LEAST_BLOCKS)
    skin = np.zeros(0) if depth is None else _outlines_apart(pair, matrix, warp, depth)
    return TissueErrors(
        TissueError.of(_bones_apart(pair, matrix, warp), LEAST_BONES),
        inside if inside is not None and inside.median_mm < REACH_MM else None,
        TissueError.of(skin, LEAST_OUTLINE),
    )


def _bones_apart(pair: Pair, matrix: Points, warp: Warp | None) -> Points:
    """(n,) how far from where the map puts it each slab of a CT's bone lies on the darkest MRI, mm."""
    if pair.moving.hounsfield == pair.fixed.hounsfield:
        return np.zeros(0)
    ct, other = (pair.fixed, pair.moving) if pair.fixed.hounsfield else (pair.moving, pair.fixed)
    to_other = partial(seen_from_ct, fixed_is_ct=pair.fixed.hounsfield, matrix=matrix, warp=warp)
    return Bones(ct.stored, other.fine).apart_mm(to_other)


def _of_samples(pair: Pair, matrix: Points, which: npt.NDArray[np.bool_]) -> Points:
    """(n,) errors of blocks of some of the samples, mm."""
    if not which.any():
        return np.zeros(0)
    chosen = torch.from_numpy(which)
    some = replace(pair.fine, points=pair.fine.points[chosen], bins=pair.fine.bins[chosen])
    return local_errors(replace(pair, fine=some), matrix)[1]


def _bone(study: Pyramid) -> PyramidLevel:
    """A CT's voxels near cortical bone as 1, others as 0."""
    factors = [max(1, int(NEAR_MM / step + 0.01)) for step in study.stored.spacing]
    largest = functional.max_pool3d(study.stored.values, factors)
    to_middles = np.diag([*map(float, factors), 1.0])
    to_middles[:3, 3] = (np.array(factors) - 1) / 2
    near = functional.max_pool3d((largest > BONE_HU).float(), 3, 1, 1)
    return PyramidLevel(near, study.stored.affine @ to_middles)


def _looked_up(level: PyramidLevel, places: Points) -> npt.NDArray[np.bool_]:
    """(N,) whether the voxel is 1 that a place lies in; False outside."""
    index = np.rint(level.index(places)).astype(int)
    within = ((index >= 0) & (index <= level.extent)).all(axis=1)
    found = np.zeros(len(places), dtype=bool)
    found[within] = level.values[0, 0].numpy()[tuple(index[within].T)] > 0.5
    return found


def _depth(study: Pyramid) -> npt.NDArray[np.float32] | None:
    """(X, Y, Z) distance from the skin on the fine level, mm, below 0 in the body; None without air in the field."""
    values = study.fine.values
    if study.hounsfield:
        stored = study.stored.values.clamp(-1000, 1000)
        dark = functional.interpolate(stored, size=study.fine.shape, mode="area")[0, 0] < SKIN_HU
    else:
        some = values[values > 0.5 * values.mean()]
        dark = (values < 0.25 * some.median())[0, 0]
    opened = sitk.BinaryMorphologicalOpening(sitk.GetImageFromArray(dark.numpy().astype(np.uint8)), [2, 2, 2])
    parts = sitk.RelabelComponent(sitk.ConnectedComponent(opened), minimumObjectSize=int(LEAST_AIR * dark.numel()))
    air = sitk.GetArrayFromImage(parts) > 0
    if not air.any() or air.all():
        return None
    image = sitk.GetImageFromArray((~air).astype(np.uint8))
    image.SetSpacing(study.fine.spacing[::-1].tolist())
    return np.asarray(
        sitk.GetArrayFromImage(sitk.SignedMaurerDistanceMap(image, squaredDistance=False, useImageSpacing=True))
    )


def _outlines_apart(pair: Pair, matrix: Points, warp: Warp | None, depth: npt.NDArray[np.float32]) -> Points:
    """(n,) distance from the fixed body's outline to the moving one's, mm; without what a field cuts."""
    here, there = pair.fixed.fine, pair.moving.fine
    index = np.argwhere(depth == 0)
    index = index[((index >= BORDER) & (index <= here.extent - BORDER)).all(axis=1)]
    world = here.world(index.astype(np.float64))
    if warp is not None:
        world = warp.moved(world)
    places = there.index(world @ matrix[:3, :3].T + matrix[:3, 3])
    inside = ((places >= BORDER) & (places <= there.extent - BORDER)).all(axis=1)
    depths = _depth(pair.moving)
    if depths is None:
        return np.zeros(0)
    away = torch.from_numpy(depths)[None, None]
    unit = places[inside] * 2 / np.maximum(there.extent, 1) - 1
    found: Tensor = functional.grid_sample(
        away, torch.from_numpy(unit[:, ::-1].copy()).float()[None, :, None, None], align_corners=True
    )
    distances = found[0, 0, :, 0, 0].abs().double().numpy()
    return np.asarray(distances[distances <= FARTHEST_MM])
