"""Deformations: what they do to points and pictures, which files hold them, and that a known one is found again."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from synthetic import rotation, world_linear

from medfuse.dicom import write_alignment
from medfuse.errors import ExportError, RegistrationError
from medfuse.phantom import Head, default_grid, default_pose, render
from medfuse.registration import Registration, Warp, register, resample, resampled
from medfuse.volume import grid_of, make_volume, plain
from medfuse.volume.grid import Grid, Points

OUTSIDE = -5000.0


def lattice(spacing: float = 6.0) -> Grid:
    affine = np.diag([spacing, spacing, spacing, 1.0])
    affine[:3, 3] = (-60, -66, -54)
    return Grid((21, 23, 19), affine)


def bump(grid: Grid, height: tuple[float, float, float] = (5.0, -4.0, 3.0)) -> Warp:
    """A smooth hill of displacement in the middle of the lattice; nothing at its border."""
    points = grid.world(np.stack(np.meshgrid(*map(np.arange, grid.shape), indexing="ij"), axis=-1))
    hill = np.exp(-0.5 * (np.linalg.norm(points - grid.centre, axis=-1) / 18) ** 2)
    hill[np.linalg.norm(points - grid.centre, axis=-1) > 50] = 0
    return Warp(grid, np.stack([length * hill for length in height]).astype(np.float32))


def affine() -> Points:
    matrix = np.eye(4)
    matrix[:3, :3] = rotation(8, -5, 14) @ np.diag([1.05, 0.97, 1.0])
    matrix[:3, 3] = (4, -3, 2.5)
    return matrix


def test_a_warped_linear_world_shows_where_each_point_went() -> None:
    warp = bump(lattice())
    registration = Registration(affine(), "file", warp=warp)
    source_affine = np.eye(4)
    source_affine[:3, :3] = rotation(12, -21, 33) @ np.diag([2.5, 2.0, 3.0])
    source_affine[:3, 3] = (-120, -70, -80)
    source = world_linear(Grid((90, 95, 70), source_affine))
    onto_affine = np.eye(4)
    onto_affine[:3, :3] = rotation(3, 5, -8) @ np.diag([1.7, -1.9, 2.3])
    onto_affine[:3, 3] = (-30, 35, -30)
    onto = Grid((33, 37, 26), onto_affine)
    found = plain(resample(source, onto, registration, outside=OUTSIDE))[0].numpy()
    points = onto.world(np.stack(np.meshgrid(*map(np.arange, onto.shape), indexing="ij"), axis=-1)).reshape(-1, 3)
    moved = registration.moved(points)
    index = grid_of(source).index(moved)
    # The last half voxel repeats the outermost value; where the grid is strided, smoothing needs neighbours.
    inside = ((index > 2) & (index < np.array(grid_of(source).shape) - 3)).all(axis=1)
    assert inside.sum() > 10_000
    np.testing.assert_allclose(found.ravel()[inside], (moved @ (1.0, 2.0, 3.0))[inside], atol=1e-2, rtol=0)
    slices = resampled(source, onto, registration, outside=OUTSIDE).slices(7, 12)
    np.testing.assert_array_equal(slices[0].numpy(), found[..., 7:12])
    straight = points @ affine()[:3, :3].T + affine()[:3, 3]
    assert np.linalg.norm(moved - straight, axis=1).max() > 6


def test_fields_outside_the_partner_stay_outside() -> None:
    registration = Registration(np.eye(4), "file", warp=bump(lattice()))
    small = make_volume(torch.full((1, 6, 7, 8), 40.0), Grid((6, 7, 8), np.diag([2.0, 2, 2, 1])), modality="CT")
    onto = Grid((48, 7, 8), np.diag([0.6, 2.0, 2.0, 1]))
    found = plain(resample(small, onto, registration, outside=OUTSIDE))
    outside = found == OUTSIDE
    assert 0 < outside.sum() < outside.numel()
    np.testing.assert_allclose(found[~outside], 40.0, rtol=1e-6)


@pytest.mark.parametrize("suffix", [".h5", ".tfm"])
def test_itk_takes_points_where_we_do_and_files_come_back(tmp_path: Path, suffix: str) -> None:
    registration = Registration(affine(), "file", warp=bump(lattice()))
    path = registration.save(tmp_path / f"warp{suffix}")
    theirs = sitk.ReadTransform(str(path))
    points = np.random.default_rng(1).uniform(-50, 50, (40, 3))
    lps = points * (-1, -1, 1)
    moved = np.array([theirs.TransformPoint(point) for point in lps]) * (-1, -1, 1)
    np.testing.assert_allclose(registration.moved(points), moved, atol=1e-3)
    back = Registration.load(path)
    np.testing.assert_allclose(back.moved(points), moved, atol=1e-3)
    assert back.warp is not None
    with pytest.raises(ExportError, match="cannot hold a deformation"):
        registration.save(tmp_path / "warp.txt")


def test_a_b_spline_of_another_program_is_read(tmp_path: Path) -> None:
    spline = sitk.BSplineTransform(3)
    spline.SetTransformDomainOrigin((-80, -80, -80))
    spline.SetTransformDomainPhysicalDimensions((160, 160, 160))
    spline.SetTransformDomainMeshSize((8, 8, 8))
    spline.SetParameters(np.random.default_rng(2).normal(0, 1.5, len(spline.GetParameters())).tolist())
    turn = sitk.Euler3DTransform((3.0, 4.0, 5.0), 0.1, -0.2, 0.3, (7.0, 8.0, 9.0))
    sitk.WriteTransform(sitk.CompositeTransform([turn, spline]), str(tmp_path / "theirs.h5"))
    found = Registration.load(tmp_path / "theirs.h5")
    points = np.random.default_rng(3).uniform(-60, 60, (40, 3))
    theirs = sitk.ReadTransform(str(tmp_path / "theirs.h5"))
    moved = np.array([theirs.TransformPoint(point) for point in points * (-1, -1, 1)]) * (-1, -1, 1)
    np.testing.assert_allclose(found.moved(points), moved, atol=0.3)


def test_maps_compose() -> None:
    points = np.random.default_rng(4).uniform(-40, 40, (20, 3))
    first = Registration(np.eye(4), "file", warp=bump(lattice()))
    second = Registration(affine(), "file")
    both = first.then(second)
    np.testing.assert_allclose(both.moved(points), second.moved(first.moved(points)), atol=1e-4)
    np.testing.assert_allclose(second.then(second.inverse()).matrix, np.eye(4), atol=1e-12)
    with pytest.raises(RegistrationError, match="can only come first"):
        second.then(first)
    with pytest.raises(RegistrationError, match="no exact inverse"):
        first.inverse()


def test_what_folds_or_is_not_finite_is_refused() -> None:
    with pytest.raises(RegistrationError, match="folds"):
        bump(lattice(), (60.0, 0.0, 0.0))
    with pytest.raises(RegistrationError, match="three finite numbers"):
        Warp(lattice(), np.full((3, *lattice().shape), np.nan, dtype=np.float32))
    with pytest.raises(RegistrationError, match="three finite numbers"):
        Warp(lattice(), np.zeros((3, 4, 4, 4), dtype=np.float32))


def test_planes_that_overtake_their_neighbours_fold() -> None:
    grid = lattice()
    every_other = np.zeros((3, *grid.shape), np.float32)
    every_other[0, 4:16:2] = 0.8 * grid.spacing[0]
    assert Warp(grid, every_other).least_jacobian == pytest.approx(0.2, abs=1e-5)
    with pytest.raises(RegistrationError, match="folds"):
        Warp(grid, every_other * 1.4)
    flipped = Grid(grid.shape, grid.affine @ np.diag([-1.0, 1, 1, 1]))
    with pytest.raises(RegistrationError, match="folds"):
        Warp(flipped, every_other * 1.4)
    assert Warp(flipped, every_other * 0.5).least_jacobian == pytest.approx(0.6, abs=1e-5)


@pytest.mark.slow
def test_another_head_is_not_bent_into_place() -> None:
    mri = render(Head(6), "MR", default_grid("MR", coarsen=2.0), default_pose("MR"), seed=8)
    other = render(Head(5), "PT", default_grid("PT", coarsen=1.5), default_pose("PT"), seed=9)
    with pytest.raises(RegistrationError, match="not aligned"):
        register(mri, other, "deformable")


@pytest.mark.slow
def test_a_known_deformation_is_found_and_kept_only_if_better() -> None:
    """The MRI of a head that was squeezed by a known warp; the PET of the same head as it is."""
    head, pose = Head(7), default_pose("PT")
    moving = render(head, "PT", default_grid("PT", 1.2), seed=3)
    centre = pose[:3] @ (0, -7, 2, 1)
    usual = default_grid("MR", 1.6)
    affine = np.array(usual.affine)
    affine[:3, 3] += centre - usual.centre
    mri = render(head, "MR", Grid(usual.shape, affine), pose, seed=3)
    control = np.diag([8.0, 8, 8, 1])
    control[:3, 3] = centre - 8 * 14
    points = Grid((29, 29, 29), control).world(np.stack(np.meshgrid(*[np.arange(29)] * 3, indexing="ij"), axis=-1))
    hill = np.exp(-0.5 * (np.linalg.norm(points - centre - (0, 20, 10), axis=-1) / 32) ** 2)
    hill[np.linalg.norm(points - centre, axis=-1) > 108] = 0
    truth = Warp(Grid((29, 29, 29), control), np.stack([5 * hill, -4 * hill, 3 * hill]).astype(np.float32))
    squeezed = resample(mri, grid_of(mri), Registration(np.eye(4), "file", warp=truth), outside=0.0)
    rigid, found = (register(squeezed, moving, method, force=True) for method in ("rigid", "deformable"))  # type: ignore[arg-type]
    assert (rigid.method, found.method) == ("rigid", "deformable")
    where = centre + np.random.default_rng(5).uniform(-45, 45, (300, 3))
    true = truth.moved(where)
    before, after = (np.linalg.norm(one.moved(where) - true, axis=1) for one in (rigid, found))
    assert np.median(after) < 0.5 * np.median(before)
    assert found.warp is not None
    assert found.warp.least_jacobian > 0.2
    assert found.error_mm < rigid.error_mm
    with pytest.raises(ExportError, match="the alignment is a deformation"):
        write_alignment("nowhere", mri=None, partner=None, registration=provenance(found).registration)


def provenance(found: Registration) -> Any:
    return SimpleNamespace(registration=found.to_dict())
