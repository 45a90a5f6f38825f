"""Where things come to lie, and in which direction; judged by phantoms whose value is their own position."""

from __future__ import annotations

import json
import pickle
from itertools import product
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import SimpleITK as sitk
import torch
from monai.data.meta_tensor import MetaTensor
from synthetic import rotation, world_linear

from medfuse.errors import ExportError, RegistrationError
from medfuse.phantom import Head, default_grid, default_pose, render
from medfuse.registration import Registration, register, resample, resampled
from medfuse.registration.pyramid import Pyramid, PyramidLevel
from medfuse.registration.search import Pair, _between_voxels, climb, polish
from medfuse.registration.similarity import MARGIN_MM, Samples, shared_information, unmoved
from medfuse.volume import Modality, Source, Unit, grid_of, make_volume, plain
from medfuse.volume.grid import LPS_FROM_RAS, Grid, Points

OUTSIDE = -5000.0


def rigid(angles: tuple[float, float, float], shift: tuple[float, float, float]) -> Points:
    """(4, 4) rotation about the origin, then shift."""
    matrix = np.eye(4)
    matrix[:3, :3], matrix[:3, 3] = rotation(*angles), shift
    return matrix


def grid(
    shape: tuple[int, int, int],
    spacing: tuple[float, float, float],
    *,
    angles: tuple[float, float, float] = (0, 0, 0),
    flip: tuple[int, int, int] = (1, 1, 1),
    shear: float = 0.0,
    centre: tuple[float, float, float] = (0, 0, 0),
) -> Grid:
    """A grid around ``centre``; ``shear`` tilts the third axis towards the second (a gantry)."""
    axes = rotation(*angles) @ np.diag(np.array(spacing) * flip)
    axes[:, 2] += shear * spacing[2] / spacing[1] * axes[:, 1]
    affine = np.eye(4)
    affine[:3, :3] = axes
    affine[:3, 3] = np.array(centre) - axes @ ((np.array(shape) - 1) / 2)
    return Grid(shape, affine)


def world_points(lattice: Grid) -> Points:
    return lattice.world(np.stack(np.meshgrid(*map(np.arange, lattice.shape), indexing="ij"), axis=-1))


def linear(points: Points) -> Points:
    return np.asarray(points @ (1.0, 2.0, 3.0))


def volume(
    values: npt.NDArray[np.floating], lattice: Grid, modality: Modality = "CT", unit: Unit = "arbitrary", **more: object
) -> MetaTensor:
    tensor = torch.from_numpy(np.ascontiguousarray(values, dtype=np.float32))[None]
    return make_volume(tensor, lattice, modality=modality, unit=unit, **more)  # type: ignore[arg-type]


def moved(points: Points, matrix: Points) -> Points:
    return np.asarray(points @ matrix[:3, :3].T + matrix[:3, 3])


GRIDS = {
    "anisotropic": grid((31, 40, 17), (1.1, 0.9, 2.5)),
    "oblique": grid((33, 28, 25), (1.5, 1.2, 2.0), angles=(12, -21, 33), centre=(5, -7, 11)),
    "flipped": grid((40, 36, 20), (1.2, 1.0, 2.2), angles=(3, 5, -8), flip=(-1, 1, -1)),
    "sheared": grid((38, 44, 18), (1.0, 1.0, 2.6), flip=(-1, -1, 1), shear=0.3, angles=(4, 0, 0)),
    "permuted": Grid((22, 34, 29), grid((34, 29, 22), (1.2, 1.4, 1.9), angles=(-6, 9, 2)).affine[:, [2, 0, 1, 3]]),
}
MAPS = {
    "none": None,
    "rigid": Registration(rigid((8, -5, 14), (4.0, -3.0, 2.5)), "file"),
    "affine": Registration(rigid((8, -5, 14), (4, -3, 2)) @ np.diag([1.05, 0.97, 1.1, 1]), "file"),
}


@pytest.mark.parametrize(
    ("moving", "onto", "registration"),
    # A grid onto itself is not interpolated, and has its own test.
    [case for case in product(GRIDS, GRIDS, MAPS) if case[0] != case[1] or case[2] != "none"],
)
def test_resample_puts_every_point_where_the_matrix_says(moving: str, onto: str, registration: str) -> None:
    source, target, chosen = GRIDS[moving], GRIDS[onto], MAPS[registration]
    matrix = np.eye(4) if chosen is None else chosen.matrix
    result = resample(world_linear(source), target, chosen, outside=OUTSIDE)
    found = plain(result)[0].numpy()
    points = moved(world_points(target), matrix)
    index = source.index(points)
    last = np.array(source.shape) - 1
    # Where the moving grid is strided (2.6 mm onto 1 mm and coarser), its smoothing needs neighbours on both sides.
    stride = 1 / np.linalg.norm(np.linalg.inv((np.linalg.inv(source.affine) @ matrix @ target.affine)[:3, :3]), axis=0)
    margin = np.where(stride > 1.5, 4.0, 0.0)
    within = ((index >= margin) & (index <= last - margin)).all(axis=-1)
    beyond = ((index < -0.5 - 1e-6) | (index > last + 0.5 + 1e-6)).any(axis=-1)
    assert within.sum() > 300
    np.testing.assert_allclose(found[within], linear(points)[within], atol=1e-3, rtol=0)
    assert (found[beyond] == OUTSIDE).all()
    assert (found[~beyond] != OUTSIDE).all()
    assert found.dtype == np.float32
    assert grid_of(result).matches(target)


@pytest.mark.parametrize("registration", ["none", "rigid", "affine"])
def test_slices_asked_for_one_by_one_are_those_of_the_whole(registration: str) -> None:
    target = GRIDS["oblique"]
    prepared = resampled(world_linear(GRIDS["sheared"]), target, MAPS[registration], outside=OUTSIDE)
    whole = plain(prepared.volume())
    assert whole.min() == OUTSIDE < whole.max()
    pieces = [prepared.slices(start, min(start + 3, target.shape[2])) for start in range(0, target.shape[2], 3)]
    torch.testing.assert_close(torch.cat(pieces, dim=-1), whole, atol=1e-3, rtol=0)


def test_a_sample_holds_evenly_spaced_slices_in_their_places() -> None:
    target = GRIDS["oblique"]
    prepared = resampled(world_linear(target), target, None, outside=OUTSIDE)
    voxels = int(np.prod(target.shape))
    assert grid_of(prepared.sample(voxels)).matches(target)
    sample = prepared.sample(voxels // 3)
    assert sample.shape[-1] in (target.shape[2] // 3, target.shape[2] // 3 + 1)
    np.testing.assert_allclose(plain(sample)[0].numpy(), linear(world_points(grid_of(sample))), atol=1e-3)
    assert prepared.sample(1).shape[-1] == 1


def test_edge_voxels_never_blend_with_the_outside() -> None:
    source = grid((6, 7, 8), (2.0, 2.0, 2.0))
    target = grid((48, 7, 8), (0.3, 2.0, 2.0))
    found = plain(resample(volume(np.full(source.shape, 40.0), source), target, None, outside=-1000.0))
    assert set(found.flatten().tolist()) == {-1000.0, 40.0}


def test_resample_keeps_meta_and_every_channel() -> None:
    source = Source("PT", "1.2.3", ("series",), Path("pet"))
    lattice = GRIDS["oblique"]
    values = torch.stack([torch.full(lattice.shape, 1.0), torch.full(lattice.shape, 2.0)])
    moving = make_volume(values, lattice, modality="PT", unit="Bq/ml", source=source)
    result = resample(moving, grid((5, 6, 7), (1.0, 1.0, 1.0), centre=(5, -7, 11)), None, outside=0)
    assert result.shape == (2, 5, 6, 7)
    assert set(plain(result)[0].flatten().tolist()) == {1.0}
    assert set(plain(result)[1].flatten().tolist()) == {2.0}
    assert (result.meta["modality"], result.meta["unit"], result.meta["source"]) == ("PT", "Bq/ml", source)


def test_matching_grids_are_not_interpolated() -> None:
    lattice = GRIDS["sheared"]
    noise = np.random.default_rng(3).normal(size=lattice.shape)
    noise[0, 0, 0] = np.nan
    moving = volume(noise, lattice)
    still = Registration(np.eye(4), "identity")
    for registration in (None, still):
        np.testing.assert_array_equal(plain(resample(moving, lattice, registration, outside=0)), plain(moving))
    matrix = rigid((8, -5, 14), (4, -3, 2))
    turned = Grid(lattice.shape, np.linalg.inv(matrix) @ lattice.affine)
    result = resample(moving, turned, Registration(matrix, "file"), outside=0)
    np.testing.assert_array_equal(plain(result), plain(moving))


def test_fine_noise_is_averaged_and_not_picked_when_the_grid_is_coarser() -> None:
    noise = np.random.default_rng(4).normal(size=(64, 64, 32))
    moving = volume(noise, grid((64, 64, 32), (0.5, 0.5, 2.0)))
    found = plain(resample(moving, grid((14, 14, 30), (2.0, 2.0, 2.0)), None, outside=0))
    assert float(found.std()) < 0.35  # linear interpolation alone would leave 0.7 or more


def test_direction_is_fixed_to_moving() -> None:
    # The moving head lies 10 mm further right (+x): the fixed point 0 is found at +10 of the moving world.
    lattice = grid((21, 9, 9), (2.0, 2.0, 2.0))
    dot = np.zeros(lattice.shape)
    dot[tuple(np.round(lattice.index((10, 0, 0))).astype(int))] = 1
    matrix = np.eye(4)
    matrix[0, 3] = 10
    registration = Registration(matrix, "file")
    found = plain(resample(volume(dot, lattice), lattice, registration, outside=0))[0].numpy()
    np.testing.assert_allclose(lattice.world(np.unravel_index(found.argmax(), found.shape)), (0, 0, 0), atol=1e-9)
    back = plain(resample(volume(dot, lattice), lattice, registration.inverse(), outside=0))[0].numpy()
    np.testing.assert_allclose(lattice.world(np.unravel_index(back.argmax(), back.shape)), (20, 0, 0), atol=1e-9)
    assert "fixed → moving" in repr(registration)


def test_registration_is_read_only_and_says_its_size() -> None:
    registration = Registration(rigid((0, 0, 30), (1, 2, 3)), "rigid", {"overlap": 1.0}, 2.0)
    assert registration.rotation_deg == pytest.approx(30)
    assert registration.translation_mm == (1, 2, 3)
    np.testing.assert_allclose(registration.inverse().matrix @ registration.matrix, np.eye(4), atol=1e-12)
    with pytest.raises(ValueError, match="read-only"):
        registration.matrix[0, 0] = 2
    kept = json.loads(json.dumps(registration.to_dict()))
    assert kept["scores"] == {"overlap": 1.0}
    np.testing.assert_array_equal(kept["matrix"], registration.matrix)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(registration)).matrix, registration.matrix)


@pytest.mark.parametrize("suffix", [".tfm", ".txt"])
@pytest.mark.parametrize("name", ["rigid", "affine"])
def test_saved_registrations_come_back(tmp_path: Path, suffix: str, name: str) -> None:
    registration = MAPS[name]
    assert registration is not None
    path = registration.save(tmp_path / f"map{suffix}")
    back = Registration.load(path)
    np.testing.assert_allclose(back.matrix, registration.matrix, atol=1e-12, rtol=0)
    assert back.method == "file"
    assert [entry.name for entry in tmp_path.iterdir()] == [path.name]
    with pytest.raises(ExportError, match="overwrite=True"):
        registration.save(path)
    registration.inverse().save(path, overwrite=True)
    np.testing.assert_allclose(Registration.load(path).matrix @ registration.matrix, np.eye(4), atol=1e-12)


def test_itk_reads_the_tfm_as_the_same_map(tmp_path: Path) -> None:
    registration = MAPS["rigid"]
    assert registration is not None
    transform = sitk.ReadTransform(str(registration.save(tmp_path / "map.tfm")))
    fixed_ras = np.array([11.0, -23.0, 37.0])
    moving_lps = LPS_FROM_RAS[:3, :3] @ moved(fixed_ras, registration.matrix)
    np.testing.assert_allclose(transform.TransformPoint((-11.0, 23.0, 37.0)), moving_lps, atol=1e-9)


def test_itks_own_rigid_transform_is_read(tmp_path: Path) -> None:
    transform = sitk.Euler3DTransform((3.0, 4.0, 5.0), 0.1, -0.2, 0.3, (7.0, 8.0, 9.0))
    sitk.WriteTransform(transform, str(tmp_path / "theirs.tfm"))
    matrix = Registration.load(tmp_path / "theirs.tfm").matrix
    x, y, z = transform.TransformPoint((-1.0, -2.0, 3.0))
    np.testing.assert_allclose(moved(np.array([1.0, 2.0, 3.0]), matrix), (-x, -y, z), atol=1e-9)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "4×4"),
        ("1 0 0\n0 1 0\n0 0 1\n", "4×4"),
        ("1 0 0 0\n0 1 0\n", "four rows"),
        ("a b c d\n" * 4, "four rows"),
        ("1 0 0 nan\n0 1 0 0\n0 0 1 0\n0 0 0 1\n", "finite"),
        ("1 0 0 0\n0 1 0 0\n0 0 1 0\n0 0 1 1\n", "last row"),
        ("1 0 0 0\n0 1 0 0\n0 0 0 0\n0 0 0 1\n", "flatten"),
        ("1 50 0 0\n0 1 0 0\n0 0 1 0\n0 0 0 1\n", "keep the patient's shape"),
        ("20 0 0 0\n0 0.05 0 0\n0 0 1 0\n0 0 0 1\n", "keep the patient's shape"),
        ("-1 0 0 0\n0 1 0 0\n0 0 1 0\n0 0 0 1\n", "must not mirror"),
    ],
)
def test_ill_formed_text_is_refused(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "map.txt"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(RegistrationError, match=message):
        Registration.load(path)


def test_foreign_files_are_refused(tmp_path: Path) -> None:
    (tmp_path / "junk.tfm").write_bytes(b"\x00\xffnot a transform")
    late = sitk.CompositeTransform([sitk.BSplineTransform(3), sitk.Euler3DTransform()])  # the turn comes first
    sitk.WriteTransform(late, str(tmp_path / "warp.tfm"))
    sitk.WriteTransform(sitk.Euler2DTransform(), str(tmp_path / "flat.tfm"))
    for name in ("junk.tfm", "warp.tfm", "flat.tfm", "absent.tfm", "absent.txt"):
        with pytest.raises(RegistrationError, match=r"could not be read|there is no registration file"):
            Registration.load(tmp_path / name)
    with pytest.raises(RegistrationError, match="suffix"):
        Registration.load(tmp_path / "map.xyz")
    with pytest.raises(ExportError, match="suffix"):
        Registration(np.eye(4), "file").save(tmp_path / "map.mat")


def head(points: Points) -> tuple[Points, Points]:
    """MRI-like and PET-like values of one head made of smooth ellipsoids, at (..., 3) points in its own world, mm."""

    def blob(centre: tuple[float, float, float], radii: tuple[float, float, float]) -> Points:
        distance = np.linalg.norm((points - np.array(centre)) / np.array(radii), axis=-1)
        return np.asarray(1 / (1 + np.exp((distance - 1) * min(radii) / 1.5)))

    scalp = blob((0, 0, 0), (72, 92, 84))
    brain = blob((0, -2, 4), (60, 78, 68))
    core = blob((0, 4, 8), (38, 52, 42))
    left, right = blob((-14, 8, 14), (8, 26, 10)), blob((16, 2, 12), (9, 22, 11))
    lesion, stem = blob((-30, -34, 26), (12, 9, 10)), blob((0, -30, -48), (16, 14, 26))
    nose = blob((0, 94, -30), (10, 14, 14))
    folds = brain * np.prod(np.sin(points / (7, 8, 7.5) + (1, 0, 2)), axis=-1)  # a head without any turns unseen
    mri = 90 * scalp - 25 * brain + 50 * core - 70 * (left + right) + 40 * lesion + 30 * stem + 80 * nose - 40 * folds
    pet = 4 * scalp + 60 * brain - 35 * core - 15 * (left + right) + 45 * lesion - 20 * stem + 4 * nose + 30 * folds
    return mri, pet


CORNERS = np.array([(x, y, z) for x in (-72, 72) for y in (-92, 92) for z in (-84, 84)], dtype=np.float64)


def pair(matrix: Points, *, shear: float = 0.0) -> tuple[MetaTensor, MetaTensor]:
    """MRI and PET of one head, which the PET's world shows displaced by ``matrix`` (fixed → moving)."""
    rng = np.random.default_rng(6)
    mri_grid = grid((82, 96, 70), (2.4, 2.5, 3.0), angles=(4, -3, 2), flip=(-1, -1, 1))
    pet_grid = grid((64, 68, 58), (3.6, 3.6, 3.9), shear=shear, centre=(4, -6, 3))
    mri = head(world_points(mri_grid))[0] + rng.normal(0, 3, mri_grid.shape)
    pet = head(moved(world_points(pet_grid), Registration(matrix, "file").inverse().matrix))[1] + rng.normal(
        0, 2, pet_grid.shape
    )
    return volume(mri, mri_grid, "MR"), volume(pet, pet_grid, "PT")


def head_error(found: Registration, matrix: Points) -> float:
    return float(np.linalg.norm(moved(CORNERS, found.matrix) - moved(CORNERS, matrix), axis=1).max())


def test_a_displaced_head_is_found_within_a_millimetre_and_the_same_way_each_time() -> None:
    truth = rigid((6, -8, 7), (10, -8, 8))
    assert Registration(truth, "file").rotation_deg == pytest.approx(12, abs=0.5)
    fixed, moving = pair(truth)
    told: list[tuple[str, float, str]] = []
    found = register(fixed, moving, progress=lambda step, share, note="": told.append((step, share, note)))
    assert head_error(found, truth) < 1
    assert found.method == "rigid"
    assert found.scores["normalized_mutual_information"] > found.scores["normalized_mutual_information_at_header"]
    assert found.scores["starts_agreeing"] >= 2
    assert 0.5 < found.scores["overlap"] <= 1
    assert {step for step, _, _ in told} == {"align"}
    shares = [share for _, share, _ in told]
    assert shares == sorted(shares)
    assert (shares[0], shares[-1]) == (0.0, 1.0)
    assert all(float(note.removeprefix("score ")) > 1.02 for _, share, note in told if share > 0.1)
    assert told[-1][2] == f"score {found.scores['normalized_mutual_information']:.3f}"
    np.testing.assert_array_equal(register(fixed, moving).matrix, found.matrix)


def test_roles_exchange_and_the_fixed_grid_may_be_sheared() -> None:
    truth = rigid((-7, 9, -12), (-12, 15, 4))
    fixed, moving = pair(truth, shear=0.25)
    assert grid_of(moving).sheared
    assert head_error(register(moving, fixed, "rigid").inverse(), truth) < 1


def test_shear_padding_and_nan_in_the_moving_volume_do_not_mislead() -> None:
    truth = rigid((5, 10, -6), (8, 12, -15))
    fixed, moving = pair(truth, shear=0.25)
    values = plain(moving)[0].numpy().copy()
    values[:4], values[-3:], values[:, :3] = -3024, np.nan, -2000
    found = register(fixed, volume(values, grid_of(moving), "PT"), "rigid")
    assert head_error(found, truth) < 1


@pytest.mark.parametrize(
    ("turned", "moved_mm", "exact"), [(0.0, (0, 0, 0), True), (2.5, (0, 0, 0), False), (0.0, (1.5, -1.0, 0.5), False)]
)
def test_voxels_are_laid_on_voxels_where_only_the_header_differs(
    turned: float, moved_mm: tuple[float, float, float], exact: bool
) -> None:
    lattice = grid((82, 96, 70), (2.0, 2.2, 2.6), angles=(4, -3, 2), flip=(-1, -1, 1))
    patient = rigid((turned, 0, 0), moved_mm)  # how the patient moved from one study to the other
    mri, _ = head(world_points(lattice))
    _, pet = head(moved(world_points(lattice), np.linalg.inv(patient)))
    pet += np.random.default_rng(6).normal(0, 2, pet.shape)
    # Stored in another order, under a header that knows nothing of the lattice.
    header = rigid((31, -12, 40), (30, -20, 45))
    stored = pet.transpose(2, 0, 1)[::-1, :, ::-1]
    index = np.eye(4)[:, [2, 0, 1, 3]] @ np.diag([-1.0, 1, -1, 1])  # stored index → that of the lattice
    index[:3, 3] = 0, lattice.shape[1] - 1, lattice.shape[2] - 1
    disguised = volume(stored, Grid(stored.shape, header @ lattice.affine @ index), "PT")
    found = register(volume(mri, lattice, "MR"), disguised, "rigid")
    assert head_error(found, header @ patient) < (1e-6 if exact else 0.7)
    assert found.verdict is not None
    assert found.verdict.opinion == "aligned"
    assert (head_error(found, header) < 1e-6) == exact


def framed(lattice: Grid, frame: str | None) -> MetaTensor:
    """A volume that says its frame of reference."""
    values = np.random.default_rng(1).normal(size=lattice.shape)
    return volume(values, lattice, "MR", source=Source("MR", frame, (), Path("mri")))


def in_frame(study: MetaTensor, frame: str | None) -> MetaTensor:
    modality = study.meta["modality"]
    return volume(plain(study)[0].numpy(), grid_of(study), modality, source=Source(modality, frame, (), Path("x")))


def test_one_frame_of_reference_is_trusted_where_the_pictures_agree() -> None:
    fixed, moving = (in_frame(study, "1.2.3") for study in pair(rigid((0.5, 0, 0), (0.5, 0, 0))))
    found = register(fixed, moving)
    assert (found.method, found.verdict.opinion) == ("identity", "aligned")  # type: ignore[union-attr]
    np.testing.assert_array_equal(found.matrix, np.eye(4))
    assert register(fixed, in_frame(moving, "9.9"), "header").method == "header"


def test_one_frame_of_reference_is_left_where_the_patient_moved() -> None:
    truth = rigid((4, -3, 6), (7, -6, 4))
    fixed, moving = (in_frame(study, "1.2.3") for study in pair(truth))
    found = register(fixed, moving)
    assert found.method == "rigid"
    assert head_error(found, truth) < 1


def test_a_template_space_is_kept_where_heads_differ_by_millimetres() -> None:
    """Images are normalised to a template with such errors; a frame of reference is where one patient lay."""
    small = rigid((0, 0, 0), (3.5, -2.5, 0))
    fixed, moving = pair(small)
    found = register(in_frame(fixed, "MNI152"), in_frame(moving, "MNI152"))
    assert found.method == "identity"
    np.testing.assert_array_equal(found.matrix, np.eye(4))
    assert found.headers == "both headers name the MNI152 space; normalised images are not registered"
    assert found.to_dict()["headers"] == found.headers
    left = register(in_frame(fixed, "1.2.3"), in_frame(moving, "1.2.3"))
    assert left.method == "rigid"
    assert left.headers.startswith("both headers name one frame of reference, but the pictures")
    apart = register(in_frame(fixed, "MNI152"), in_frame(moving, "Talairach"))
    assert (apart.method, apart.headers) == ("rigid", "")


def test_a_template_space_is_left_where_the_pictures_say_that_it_is_none() -> None:
    truth = rigid((4, -3, 6), (7, -16, 4))
    fixed, moving = (in_frame(study, "MNI152") for study in pair(truth))
    found = register(fixed, moving)
    assert found.method == "rigid"
    assert found.headers == "both headers name the MNI152 space, but the pictures disagree"
    assert head_error(found, truth) < 1


def test_one_frame_of_reference_is_no_excuse_for_noise() -> None:
    fixed, moving = (in_frame(study, "1.2.3") for study in pair(np.eye(4)))
    noise = np.random.default_rng(3).normal(size=moving.shape[1:])
    strange = volume(noise, grid_of(moving), "PT", source=Source("PT", "1.2.3", (), Path("x")))
    with pytest.raises(RegistrationError, match="not aligned"):
        register(fixed, strange)
    empty = volume(np.zeros(noise.shape), grid_of(moving), "PT", source=strange.meta["source"])
    with pytest.raises(RegistrationError, match="PT volume is constant"):
        register(fixed, empty)
    found = register(fixed, strange, "header")
    assert found.verdict is not None
    assert found.verdict.opinion == "unconfirmed"
    assert "share almost nothing" in str(found.verdict)


def test_one_frame_of_reference_is_kept_where_the_pictures_cannot_tell() -> None:
    fixed, moving = (in_frame(study, "1.2.3") for study in pair(np.eye(4)))
    few, affine = plain(moving)[0, :, :, 26:32].numpy(), np.array(grid_of(moving).affine)
    affine[:3, 3] = grid_of(moving).world(np.array([[0.0, 0.0, 26.0]]))[0]
    source = Source("PT", "1.2.3", (), Path("x"))
    found = register(fixed, volume(few, Grid(few.shape, affine), "PT", source=source))
    assert found.method == "identity"
    assert found.verdict is not None
    assert found.verdict.opinion == "unconfirmed"
    assert "too little is in both fields" in str(found.verdict)
    thin = framed(grid((30, 30, 2), (2, 2, 2)), "1.2.3")
    assert str(register(thin, thin).verdict).startswith("unconfirmed: a volume is constant or too thin")


def test_unknown_frames_are_not_one_frame() -> None:
    fixed, moving = (in_frame(study, None) for study in pair(rigid((0, 0, 0), (15, 0, 0))))
    assert register(fixed, moving).method == "rigid"


def test_overlap_is_the_covered_share_of_the_fixed_field() -> None:
    fixed = framed(grid((20, 20, 20), (2, 2, 2)), "1")
    half = framed(grid((20, 20, 20), (2, 2, 2), centre=(20, 0, 0)), "1")
    assert register(fixed, half, "header").scores["overlap"] == pytest.approx(0.5)


def test_what_cannot_be_aligned_is_said() -> None:
    lattice = grid((24, 25, 26), (4, 4, 4))
    noise = np.random.default_rng(2)
    fixed = volume(noise.normal(size=lattice.shape), lattice, "MR")
    constant = volume(np.full(lattice.shape, 7.0), lattice, "PT")
    with pytest.raises(RegistrationError, match=r"PT volume is constant.*found 7"):
        register(fixed, constant)
    with pytest.raises(RegistrationError, match="CT volume is constant"):
        register(volume(np.full(lattice.shape, -1000.0), lattice, "CT", "HU"), fixed)
    flat = grid((24, 25, 3), (4, 4, 4))
    with pytest.raises(RegistrationError, match=r"at least 4 voxels.*24, 25, 3"):
        register(fixed, volume(noise.normal(size=flat.shape), flat, "PT"))
    away = grid((24, 25, 26), (4, 4, 4), centre=(900, 0, 0))
    with pytest.raises(RegistrationError, match="do not overlap"):
        register(fixed, volume(noise.normal(size=away.shape), away, "PT"), "header")
    with pytest.raises(ValueError, match="'auto', 'header', 'rigid'"):
        register(fixed, fixed, "elastic")  # type: ignore[arg-type]


def test_noise_is_not_aligned_with_noise() -> None:
    lattice = grid((40, 41, 42), (4, 4, 4))
    noise = np.random.default_rng(5)
    fixed, moving = (volume(noise.normal(size=lattice.shape), lattice, modality) for modality in ("MR", "PT"))
    with pytest.raises(RegistrationError, match="share almost nothing"):
        register(fixed, moving)


def test_a_ct_is_laid_to_a_tenth_of_a_millimetre_by_its_own_voxels() -> None:
    head, pose = Head(7), default_pose("CT") @ rigid((9, -4, 6), (5.0, -8.0, 3.0))
    mri = render(head, "MR", default_grid("MR", 1.5), seed=1)
    ct = render(head, "CT", default_grid("CT", 1.5), pose, seed=2)
    for unknown in (mri, ct):
        plain(unknown)[0, :3] = float("nan")
    truth = pose @ np.linalg.inv(default_pose("MR"))
    start = truth @ rigid((0.5, -0.3, 0.4), (0.6, -0.8, 0.5))
    sides = Pyramid.of(mri), Pyramid.of(ct)
    assert [side.hounsfield for side in sides] == [False, True]
    for pair, begin, right in (
        (Pair.of(*sides, 3), start, truth),
        (Pair.of(*sides[::-1], 3), np.linalg.inv(start), np.linalg.inv(truth)),
    ):
        assert pair.apart(polish(pair, begin)[None], right)[0] < 0.15 < pair.apart(begin[None], right)[0]


def test_lattices_that_lie_on_each_other_are_told_along_any_axis() -> None:
    ct = PyramidLevel(torch.rand(1, 1, 40, 41, 42), grid((40, 41, 42), (1.5, 1.4, 2.0)).affine)
    mask = torch.ones(40, 41, 42, dtype=torch.bool)
    samples = Samples.of_voxels(ct, ct, mask, np.array([3.0, 4.0, 5.0]), 4000, 3)
    for spacing, matrix, locked in (
        ((1.5, 1.4, 2.0), np.eye(4), True),
        ((1.3, 1.1, 2.0), rigid((0, 0, 0), (0.4, 0.3, 0.7)), True),
        ((1.3, 1.1, 1.7), np.eye(4), False),
        ((1.5, 1.4, 2.0), rigid((7, 6, 9), (0, 0, 0)), False),
    ):
        other = PyramidLevel(torch.rand(1, 1, 50, 51, 52), grid((50, 51, 52), spacing).affine)
        assert samples.locked(other, matrix) == locked


def test_samples_on_voxels_show_what_is_stored_there() -> None:
    lattice = grid((40, 36, 20), (1.2, 1.0, 3.0), flip=(-1, 1, -1), angles=(3, 5, -8))
    numbered = torch.arange(40 * 36 * 20.0).reshape(1, 1, 40, 36, 20)
    stored = PyramidLevel(numbered, lattice.affine, (100.0, 20_100.0))
    coarse = stored.shrunk(6.0)
    mask = torch.zeros(coarse.shape, dtype=torch.bool)
    mask[1:3, 2, :] = True
    samples = Samples.of_voxels(stored, coarse, mask, np.array([1.0, 2.0, 3.0]), 5000, 3)
    index = lattice.index(samples.points.double().numpy() + samples.centre)
    nearest = np.rint(index)
    assert np.abs(index - nearest).max() < 1e-3
    x, y, z = nearest.astype(int).T
    assert {*x} == {*range(5, 15)}
    assert {*y} == {*range(12, 18)}
    assert len({*z}) == 20
    shares = ((numbered[0, 0, x, y, z] - 100) / 20_000).clamp(0, 1)
    assert torch.equal(samples.bins, (shares * 32).long().clamp(0, 31))


@pytest.mark.parametrize(("voxel", "as_stored"), [(1.5, True), (3.5, False)])
def test_small_voxels_are_looked_at_as_stored_in_all_of_the_field(voxel: float, as_stored: bool) -> None:
    lattice = grid((50, 46, 40), (1.2, 1.0, 1.4), flip=(-1, 1, -1), angles=(3, 5, -8))
    mri = world_linear(lattice)
    plain(mri)[:, :, :, 12:] = 0  # the head, brighter than the rest, in a part of the field
    pet = world_linear(grid((40, 36, 30), (voxel, voxel, voxel)))
    sides = [Pyramid.of(side) for side in (mri, pet)]
    samples, level = _between_voxels(Pair.of(sides[0], sides[1], 1))
    assert level is (sides[1].stored if as_stored else sides[1].fine)
    index = lattice.index(samples.points.double().numpy() + samples.centre)
    assert (len(index) > 500_000) == as_stored
    assert (index[:, 2].max() > 38) == as_stored
    assert (abs(index - index.round()) > 0.05).all(axis=1).mean() > 0.5
    if as_stored:
        counts = np.histogramdd(index, bins=(5, 5, 5), range=[(0, side - 1) for side in lattice.shape])[0]
        assert counts.min() > 0.7 * counts.mean()


def test_the_last_climb_looks_only_at_what_stays_in_the_field(monkeypatch: pytest.MonkeyPatch) -> None:
    # Bright blocks, the same in both studies, but the moving field ends within the head, where the fixed one is bright.
    values = torch.rand((12, 12, 12), generator=torch.Generator().manual_seed(8)).round()
    values = values.repeat_interleave(4, 0).repeat_interleave(4, 1).repeat_interleave(4, 2)
    values[:, :, 34:] += 1.5
    fixed = PyramidLevel(values[None, None] / 2.5, grid((48, 48, 48), (2, 2, 2)).affine)
    moving = PyramidLevel(
        fixed.values[..., 4:36], fixed.affine @ np.array([[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 4], [0, 0, 0, 1]])
    )
    samples = Samples.draw(fixed, torch.ones(48, 48, 48, dtype=torch.bool), np.zeros(3), 20_000, 3)
    inner = samples.staying(moving, np.eye(4))
    low, high = moving.world(np.zeros(3)), moving.world(moving.extent)
    ends = np.sort(np.stack([low, high]), axis=0)
    places = samples.points.numpy()
    expected = ((places > ends[0] + MARGIN_MM) & (places < ends[1] - MARGIN_MM)).all(axis=1)
    assert torch.equal(inner.points, samples.points[torch.from_numpy(expected)])
    assert len(inner.points) == len(inner.bins) < len(places)

    shifted = np.stack([rigid((0, 0, 0), (0, 0, z)) for z in (-2.0, -1.0, 0.0, 1.0, 2.0)])
    found = shared_information(inner, moving, unmoved(shifted, samples.centre))
    assert found.argmax() == 2
    assert torch.isfinite(found).all()

    # Too few of them, or an answer further off than they stay inside: what the coarser climb finds is kept.
    pyramid = Pyramid(fixed, fixed.shrunk(4.0), fixed.shrunk(8.0), fixed)
    pair = Pair.of(pyramid, pyramid, 1)
    start = rigid((0, 0, 0), (0, 0, 0.7))
    plain_climb = climb(pair, start, "fine")
    assert pair.apart(polish(pair, start)[None], np.eye(4))[0] < 0.1
    monkeypatch.setattr("medfuse.registration.search.LEAST_POINTS", 10**6)
    assert np.array_equal(polish(pair, start), plain_climb)
    monkeypatch.setattr("medfuse.registration.search.LEAST_POINTS", 0)
    monkeypatch.setattr("medfuse.registration.search.MARGIN_MM", 0.0)
    assert np.array_equal(polish(pair, start), plain_climb)

    # Four thin slices have no place that far inside: their middle half is left.
    thin = PyramidLevel(fixed.values[..., :4], fixed.affine)
    depth = samples.staying(thin, np.eye(4)).points[:, 2] - thin.world(np.zeros(3))[2]
    assert 1.4 < depth.min() < depth.max() < 4.6
