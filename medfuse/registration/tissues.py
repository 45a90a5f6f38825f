"""Say by tissue how far two studies disagree under a map: near cortical bone, inside, and at the skin.

Tissue moves between two scans, and bone does not bend: a rigid map that fits the bones and not the skin is right about
something. Whether that is enough depends on what is looked at, so the figures are told and nothing is decided here.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt
import SimpleITK as sitk
import torch
from torch import Tensor
from torch.nn import functional

from medfuse.registration.assess import REACH_MM, local_errors
from medfuse.registration.pyramid import Pyramid, PyramidLevel
from medfuse.registration.search import SHARP_MM, Pair
from medfuse.registration.verdict import TissueError, TissueErrors
from medfuse.registration.warp import Warp
from medfuse.volume.grid import Points

BONE_HU, SKIN_HU = 250.0, -400.0
"""From where on a CT shows cortical bone, and half way between air and fat."""

NEAR_MM = 4.0
"""Voxels in which bone is looked for; what borders on one that holds some counts as near bone."""

SLAB_MM, LOOK_MM, STEP_MM = 40.0, 14.0, 2.0
"""Of bone that is looked for in the MRI by itself, how far, and in which steps."""

LEAST_BONE, MOST_BONE = 100, 2000
"""Voxels of bone in a slab; of more, about so many."""

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
    """(n,) how far from where the map puts it each slab of a CT's bone lies on the darkest MRI, mm.

    Cortical bone gives no signal. What is compared is the MRI on bone with the MRI around it, so that a dark corner of
    the field, or fat beside muscle, is not taken for bone.
    """
    if pair.moving.hounsfield == pair.fixed.hounsfield:
        return np.zeros(0)
    ct, other = (pair.fixed, pair.moving) if pair.fixed.hounsfield else (pair.moving, pair.fixed)
    if np.sort(other.fine.spacing)[1] > SHARP_MM:
        return np.zeros(0)
    bone, ring = _cortex(ct)
    found = []
    for slab in np.unique(np.round(bone[:, 2] / SLAB_MM)):
        parts = [part[np.round(part[:, 2] / SLAB_MM) == slab] for part in (bone, ring)]
        places = [
            _within(other.fine, _seen_from(pair, part[:: max(1, len(part) // MOST_BONE)], matrix, warp))
            for part in parts
        ]
        if min(map(len, places)) < LEAST_BONE:
            continue
        distance = _darkest(other.fine, *places)
        if distance is not None:
            found.append(distance)
    return np.array(found)


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


def _cortex(ct: Pyramid) -> tuple[Points, Points]:
    """(n, 3) places of bone, and (m, 3) of the tissue within 6 mm of it, RAS+ mm."""
    level = ct.stored.shrunk(2.0)
    values = level.values
    bone = values > BONE_HU
    wide = functional.max_pool3d(bone.float(), 7, 1, 3) > 0
    close = functional.max_pool3d(bone.float(), 3, 1, 1) > 0
    ring = wide & ~close & (values > SKIN_HU / 2)
    found = [level.world(np.argwhere(each[0, 0].numpy()).astype(np.float64)) for each in (bone, ring)]
    return found[0], found[1]


def _seen_from(pair: Pair, places: Points, matrix: Points, warp: Warp | None) -> Points:
    """Places in the CT's world → in the other study's."""
    if pair.fixed.hounsfield:
        places = places if warp is None else warp.moved(places)
        return np.asarray(places @ matrix[:3, :3].T + matrix[:3, 3])
    wanted = (places - matrix[:3, 3]) @ np.linalg.inv(matrix[:3, :3]).T
    found = wanted
    for _ in range(20 if warp is not None else 0):  # p + displacement(p) = wanted; a smooth deformation contracts
        found = wanted - (warp.moved(found) - found) if warp is not None else found
    return np.asarray(found)


def _within(level: PyramidLevel, places: Points) -> Points:
    """Those that lie in a field."""
    index = level.index(places)
    return places[((index >= 0) & (index <= level.extent)).all(axis=1)]


def _darkest(level: PyramidLevel, bone: Points, ring: Points) -> float | None:
    """How far across a bone it must be shifted to lie darkest against what is around it, mm; None where not within."""
    steps = np.arange(-LOOK_MM, LOOK_MM + 0.1, STEP_MM)
    across = np.linalg.svd(bone - bone.mean(axis=0), full_matrices=False)[2][1:]
    shifts = np.stack(np.meshgrid(steps, steps, indexing="ij"), axis=-1).reshape(-1, 2)
    to_unit = level.to_unit()
    means = []
    for places in (bone, ring):
        moved = places[None] + (shifts @ across)[:, None]
        unit = torch.from_numpy(moved @ to_unit[:3, :3].T + to_unit[:3, 3]).float()
        # Flattened, for `sample` takes points of one list.
        means.append(level.sample(unit.reshape(1, -1, 3)).reshape(len(shifts), -1).mean(dim=1))
    contrast = (means[1] - means[0]).numpy()
    best = shifts[int(contrast.argmax())]
    if contrast.max() <= 0 or np.abs(best).max() >= LOOK_MM - 1e-6:
        return None
    return float(np.linalg.norm(best))


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
