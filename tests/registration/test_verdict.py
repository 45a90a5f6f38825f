"""Whether an alignment is believed: right ones are, wrong ones are refused with the reason and the distance."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from monai.data.meta_tensor import MetaTensor

from medfuse.errors import RegistrationError
from medfuse.phantom import Head, default_grid, default_pose, render
from medfuse.phantom.scanner import rigid
from medfuse.registration import Registration, Verdict, assess_registration, register
from medfuse.registration.poses import closer, poses
from medfuse.registration.pyramid import Pyramid
from medfuse.registration.region import Region
from medfuse.registration.search import Pair, _best_apart, climb
from medfuse.registration.similarity import correlation_ratio
from medfuse.volume import Modality, Source, grid_of, like, make_volume, plain
from medfuse.volume.grid import Grid, Points

RADII = np.array([(x, y, z) for x in (-55, 55) for y in (-70, 70) for z in (-60, 60)], dtype=np.float64)


@pytest.fixture(scope="module")
def mri() -> MetaTensor:
    return render(Head(7), "MR", default_grid("MR", 2.5), seed=7)


def partner(modality: Modality, pose: Points, *, seed: int = 7, seen: slice = slice(None)) -> MetaTensor:
    """The head in another scanner, lying as ``pose`` says; only some of its slices."""
    usual = default_grid(modality, {"CT": 2.5, "PT": 1.5, "NM": 1.0}[modality])
    size = int(max(np.array(usual.shape) * usual.spacing) / usual.spacing[0])
    affine = np.diag([-usual.spacing[0], -usual.spacing[0], usual.spacing[0], 1])
    affine[:3, 3] = pose[:3] @ (0, -7, 2, 1) - affine[:3, :3] @ np.full(3, (size - 1) / 2)
    scan = render(Head(seed), modality, Grid((size, size, size), affine), pose, seed=seed + 1)
    kept = plain(scan)[..., seen].contiguous()
    first = range(size)[seen].start
    moved = np.array(affine)
    moved[:3, 3] += affine[:3, 2] * first
    return make_volume(
        kept, Grid((size, size, kept.shape[-1]), moved), modality=modality, unit=scan.meta["unit"], source=None
    )


def errors(found: Registration, pose: Points) -> Points:
    centre = default_pose("MR")[:3] @ (0, -7, 2, 1)
    truth = pose @ np.linalg.inv(default_pose("MR"))
    points = RADII + centre
    return np.asarray(np.linalg.norm(found.moved(points) - points @ truth[:3, :3].T - truth[:3, 3], axis=1))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("modality", "turns", "offset"),
    [
        ("PT", (25.0, -20.0, 30.0), (40.0, -30.0, 50.0)),
        ("PT", (180.0, 4.0, -6.0), (5.0, 10.0, -20.0)),
        ("CT", (3.0, 180.0, 5.0), (-12.0, 0.0, 30.0)),
        ("NM", (-5.0, 6.0, 180.0), (0.0, 20.0, 10.0)),
        ("CT", (90.0, 0.0, 8.0), (0.0, 0.0, 0.0)),
    ],
)
def test_hard_poses_are_found_and_believed(
    mri: MetaTensor, modality: Modality, turns: tuple[float, float, float], offset: tuple[float, float, float]
) -> None:
    pose = rigid(turns, offset)
    found = register(mri, partner(modality, pose))
    assert found.verdict is not None
    assert found.verdict.opinion == "aligned"
    assert errors(found, pose).max() < (3 if modality == "NM" else 2)
    assert found.error_mm < 3


@pytest.mark.slow
def test_a_cut_field_is_enough_and_a_sliver_is_not(mri: MetaTensor) -> None:
    pose = rigid((8.0, -5.0, 10.0), (10.0, 0.0, -15.0))
    upper = partner("CT", pose, seen=slice(52, None))
    found = register(mri, upper)
    assert errors(found, pose).max() < 2
    assert found.verdict is not None
    assert found.verdict.evidence["head_overlap"] < 0.75
    with pytest.raises(RegistrationError, match="too little is in both fields"):
        register(mri, partner("CT", pose, seen=slice(60, 65)))


@pytest.mark.slow
def test_a_tilted_head_is_found_in_a_whole_body(mri: MetaTensor) -> None:
    """The trunk has more places for a head than all turns can be tried at, and hotter ones than the brain."""
    pose = rigid((30.0, -25.0, 20.0), (15.0, 10.0, 30.0))
    scan = partner("PT", pose)
    grid = grid_of(scan)
    below = round(600 / grid.spacing[2])
    affine = grid.affine @ np.array([[1.0, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, -below], [0, 0, 0, 1]])
    size = grid.shape[2] + below
    x, y, z = np.meshgrid(*(np.linspace(-1, 1, length) for length in (*grid.shape[:2], below)), indexing="ij")
    brain = float(np.quantile(plain(scan).numpy(), 0.99))
    body = np.zeros((*grid.shape[:2], size), np.float32)
    body[..., :below] = np.where(x**2 / 0.7 + y**2 / 0.3 + z**2 < 1, 0.15 * brain, 0)
    for height, uptake in ((0.6, 0.6), (-0.7, 2.0)):
        body[..., :below] += np.where(x**2 + y**2 + 4 * (z - height) ** 2 < 0.1, uptake * brain, 0)
    body[..., below:] += plain(scan)[0].numpy()
    whole = make_volume(
        torch.from_numpy(body)[None], Grid(body.shape, affine), modality="PT", unit=scan.meta["unit"], source=None
    )
    found = register(mri, whole)
    assert errors(found, pose).max() < 2


def test_in_a_body_the_poses_that_are_tried_differ(mri: MetaTensor) -> None:
    """The best of a lattice along a body are all much the same; a head lies between its turns and places."""
    pair = Pair.of(Pyramid.of(mri), Pyramid.of(partner("PT", default_pose("PT"))), 1)
    starts = poses(pair.moving.coarse, pair.centre)
    scores = pair.scores(starts, "coarse")
    best = _best_apart(pair, starts, scores, 20)
    assert best[0] == scores.argmax()
    assert all(pair.apart(starts[best[:k]], starts[best[k]]).min() > 40 for k in range(1, 20))
    near = closer(starts[best[:1]], pair.centre)
    assert len(near) == 48
    turned = near[:, :3, :3] @ starts[best[0]][:3, :3].T
    degrees = np.degrees(np.arccos(np.clip((np.trace(turned, axis1=1, axis2=2) - 1) / 2, -1, 1)))
    assert set(degrees.round().astype(int)) == {0, 35}
    places = np.linalg.norm(near @ (*pair.centre, 1) - starts[best[0]] @ (*pair.centre, 1), axis=1)
    assert set(places.round().astype(int)) == {0, 25}


def mirrored(study: MetaTensor) -> MetaTensor:
    return like(plain(study).flip(1).contiguous(), study)


@pytest.mark.slow
@pytest.mark.parametrize("modality", ["PT", "CT"])
def test_a_mirrored_partner_is_named_as_such(mri: MetaTensor, modality: Modality) -> None:
    wrong = mirrored(partner(modality, rigid((5.0, 3.0, -4.0), (5.0, 0.0, 8.0))))
    with pytest.raises(RegistrationError, match="left and right seem exchanged") as caught:
        register(mri, wrong)
    assert json.loads(json.dumps(caught.value.found))["verdict"] == "not aligned"


@pytest.mark.slow
def test_another_head_is_refused(mri: MetaTensor) -> None:
    with pytest.raises(RegistrationError, match=r"parts of the two disagree by .* mm"):
        register(mri, partner("PT", rigid((5.0, 3.0, -4.0), (5.0, 0.0, 8.0)), seed=11))


def test_where_two_measures_disagree_the_answer_is_refused(mri: MetaTensor, monkeypatch: pytest.MonkeyPatch) -> None:
    pose = default_pose("MR")
    moving = partner("CT", pose)
    believed = register(mri, moving, "rigid")
    assert believed.verdict is not None
    assert believed.verdict.evidence["measures_apart_mm"] < 3
    assert believed.error_mm >= believed.verdict.evidence["measures_apart_mm"]

    def farther(pair: Pair, matrix: Points, level: str, **how: Any) -> Points:
        return (
            np.asarray(matrix @ rigid((0, 0, 0), (9.0, 0, 0)))
            if "measure" in how
            else climb(pair, matrix, level, **how)
        )

    monkeypatch.setattr("medfuse.registration.assess.climb", farther)
    with pytest.raises(
        RegistrationError, match="by another measure, the correlation ratio, the two fit best 9 mm away"
    ):
        register(mri, moving, "rigid")


def test_the_correlation_ratio_is_what_means_explain() -> None:
    draw = np.random.default_rng(2)
    rows = draw.integers(0, 8, 5000)
    columns = np.clip((rows - 3) ** 2 // 2 + draw.integers(0, 2, 5000), 0, 7)  # a function, and not a monotonic one
    histogram = np.histogram2d(rows, columns, bins=(8, 8), range=((0, 8), (0, 8)))[0]

    def explained(of: Points, by: Points) -> float:
        means = np.array([of[by == value].mean() if (by == value).any() else 0.0 for value in range(8)])
        return float(1 - (of - means[by]).var() / of.var())

    found = correlation_ratio(torch.from_numpy(histogram[None]).float())
    assert found.item() == pytest.approx(explained(columns, rows) + explained(rows, columns), abs=1e-4)
    assert correlation_ratio(torch.ones(1, 8, 8)).item() == pytest.approx(0, abs=1e-5)


def test_a_half_turned_partner_under_the_mris_own_frame_of_reference_is_found(mri: MetaTensor) -> None:
    pose = rigid((2.0, 176.0, -4.0), (5.0, 0.0, 8.0))
    studies = [in_one_frame(mri), in_one_frame(partner("PT", pose))]
    found = register(studies[0], studies[1])
    assert (found.method, errors(found, pose).max() < 2) == ("rigid", True)
    assert found.verdict is not None
    assert found.verdict.opinion == "aligned"


@pytest.mark.slow
def test_the_partner_may_be_the_fixed_study(mri: MetaTensor) -> None:
    pose = rigid((12.0, 8.0, -33.0), (25.0, 10.0, -18.0))
    study = partner("CT", pose)
    found, turned = register(study, mri), register(mri, study)
    np.testing.assert_allclose(found.matrix, np.linalg.inv(turned.matrix), atol=1e-9)
    assert errors(turned, pose).max() < 2
    assert found.verdict is not None
    assert found.verdict.opinion == "aligned"
    assert turned.verdict is not None
    np.testing.assert_allclose(found.moved(found.verdict.places), turned.verdict.places, atol=1e-6)


def in_one_frame(study: MetaTensor) -> MetaTensor:
    modality, unit = study.meta["modality"], study.meta["unit"]
    source = Source(modality, "1.2.3", (), Path(modality))
    return make_volume(plain(study), grid_of(study), modality=modality, unit=unit, source=source)


def test_the_error_grows_with_a_misalignment_that_is_given(mri: MetaTensor) -> None:
    pose = default_pose("PT")
    study = partner("PT", pose)
    truth = pose @ np.linalg.inv(default_pose("MR"))
    told = []
    for distance in (0.0, 3.0, 6.0):
        shifted = np.array(truth)
        shifted[:3, 3] += (distance, 0, 0)
        verdict = assess_registration(Registration(shifted, "file"), mri, study).verdict
        assert verdict is not None
        told.append(verdict.error_mm)
        assert verdict.opinion == ("aligned" if distance < 3 else "unconfirmed")
        assert len(verdict.places) == len(verdict.errors_mm) > 20
    assert told[0] < 1.5
    assert told[1] == pytest.approx(3, abs=1)
    assert told[2] > 4.5


def test_a_map_that_is_given_the_wrong_way_round_is_named_as_such(mri: MetaTensor) -> None:
    pose = rigid((20.0, -8.0, 12.0), (25.0, 10.0, -18.0))
    inverted = Registration(pose @ np.linalg.inv(default_pose("MR")), "file").inverse()
    verdict = assess_registration(inverted, mri, partner("PT", pose)).verdict
    assert verdict is not None
    assert verdict.opinion == "unconfirmed"
    assert "inverse" in verdict.reasons[-1]


def test_unrelated_pictures_are_refused(mri: MetaTensor) -> None:
    draw = np.random.default_rng(4)
    lattice = grid_of(mri)
    bars = np.zeros(lattice.shape, dtype=np.float32)
    bars[10:60:12, 20:80, 10:50] = 100
    bars += draw.normal(0, 5, lattice.shape)
    with pytest.raises(RegistrationError, match="not aligned"):
        register(mri, make_volume(torch.from_numpy(bars)[None], lattice, modality="PT", unit="counts", source=None))


@pytest.mark.parametrize(
    ("verdict", "doubtful"),
    [
        (Verdict("aligned", 7.0, evidence={"best_nearby_mm": 2.5}, region=Region("body", "pictures")), True),
        (Verdict("aligned", 7.0, evidence={"best_nearby_mm": 1.5}, region=Region("body", "pictures")), False),
        (Verdict("aligned", 2.9), False),
        (Verdict("aligned", 3.1), True),
        (Verdict("aligned", float("inf")), True),
        (Verdict("aligned", float("nan")), True),
        (Verdict("unconfirmed", 0.5), True),
        (Verdict("not aligned", 0.5, ("no",)), True),
        (Verdict("aligned", 6.0).of(Region("body", "pictures", "")), False),
        (Verdict("unconfirmed", 6.0).of(Region("body", "pictures", "")), True),
    ],
)
def test_what_somebody_should_look_at(verdict, doubtful):
    assert verdict.doubtful is doubtful
    assert verdict.to_dict()["doubtful"] is doubtful
