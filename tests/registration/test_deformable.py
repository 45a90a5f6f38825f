"""Deformations away from the head: known ones are found and told with their error, needless ones are left out."""

from __future__ import annotations

import numpy as np
import pytest
from limb import CENTRE, inside_body, inverse, limb, smooth
from monai.data.meta_tensor import MetaTensor

from medfuse.registration.deformable.deform import AROUND, deform
from medfuse.registration.deformable.lattice import LATTICE_MM, Splines, lattice_over
from medfuse.registration.deformable.observed import Observed, ranked
from medfuse.registration.pyramid import Pyramid
from medfuse.registration.search import Pair
from medfuse.registration.similarity import shared_share
from medfuse.volume import make_volume, plain
from medfuse.volume.grid import Grid, Points


def paired(fixed: MetaTensor, moving: MetaTensor) -> Pair:
    return Pair.of(Pyramid.of(fixed), Pyramid.of(moving), 20231)


def best_rigid(points: Points, there: Points) -> Points:
    """(4, 4) by Procrustes: what a perfect rigid search would find."""
    one, other = points.mean(axis=0), there.mean(axis=0)
    u, _, vt = np.linalg.svd((points - one).T @ (there - other))
    matrix = np.eye(4)
    matrix[:3, :3] = vt.T @ np.diag([1, 1, np.linalg.det(vt.T @ u.T)]) @ u.T
    matrix[:3, 3] = other - matrix[:3, :3] @ one
    return matrix


@pytest.mark.parametrize(("fixed", "moving"), [("MR", "CT"), ("MR", "PT"), ("CT", "PT")])
def test_a_known_deformation_is_brought_below_three_millimetres(fixed: str, moving: str) -> None:
    displacement = smooth(15.0, 5)
    points = inside_body()
    there = inverse(displacement, points)
    matrix = best_rigid(points, there)
    warp = deform(paired(limb(fixed), limb(moving, displacement, seed=2, shift=0.4)), matrix, head=False)
    assert warp is not None
    rigid = np.linalg.norm(points @ matrix[:3, :3].T + matrix[:3, 3] - there, axis=1)
    bent = np.linalg.norm(warp.moved(points) @ matrix[:3, :3].T + matrix[:3, 3] - there, axis=1)
    assert np.median(bent) < 3
    assert np.median(bent) < 0.7 * np.median(rigid)
    assert warp.least_jacobian > 0.2
    assert warp.error_mm is not None
    assert 0.2 < warp.error_mm < 3
    assert warp.to_dict()["error_mm"] == warp.error_mm


@pytest.mark.parametrize(("fixed", "moving"), [("MR", "CT"), ("CT", "PT")])
def test_what_needs_no_deformation_gets_none(fixed: str, moving: str) -> None:
    assert deform(paired(limb(fixed), limb(moving, seed=2, shift=0.4)), np.eye(4), head=False) is None


def test_noise_is_not_bent() -> None:
    mri = limb("MR")
    values = np.random.default_rng(3).normal(size=mri.shape).astype(np.float32)
    noise = make_volume(plain(mri).new_tensor(values), Grid(mri.shape[1:], mri.affine.numpy()), modality="CT")
    assert deform(paired(mri, noise), np.eye(4), head=False) is None


def test_nothing_is_bent_where_fields_hardly_meet() -> None:
    matrix = np.eye(4)
    matrix[2, 3] = 125.0
    assert deform(paired(limb("MR"), limb("CT")), matrix, head=False) is None


def test_tissue_that_slides_out_of_the_field_gains_nothing() -> None:
    """Points outside keep counting, so what is shared there is not more than in place."""
    pair = paired(limb("MR"), limb("CT", seed=2))
    seen = Observed.of(pair, np.eye(4), ranked(pair.moving.fine, pair.moving.coarse))
    here = seen.under(None, shared_share)
    for out in (30.0, 60.0, 90.0):
        moves = seen.samples.points.new_tensor([0.0, 0.0, out]).expand(len(seen.samples.points), 3)
        assert float(seen.shared(moves, shared_share)) < 0.8 * here
    halves = [len(seen.half(which).samples.points) for which in (0, 1)]
    assert sum(halves) == len(seen.samples.points)


@pytest.mark.parametrize("offset", [0.0, 0.5])
def test_splines_end_within_their_lattice(offset: float) -> None:
    pair = paired(limb("MR"), limb("CT"))
    grid = lattice_over(pair.fixed.coarse, AROUND * 64.0)
    assert np.linalg.norm(grid.centre - CENTRE) < 3 * LATTICE_MM
    for control_mm in (64.0, 32.0):
        splines = Splines.on(grid, control_mm, offset)
        assert splines.free.sum() > 0
        dense = splines.dense(splines.free.expand(3, *splines.free.shape)).numpy()
        for axis in range(1, 4):
            for face in (0, -1):
                assert np.abs(np.take(dense, face, axis=axis)).max() < 1e-6
        assert dense.max() <= 1 + 1e-5
