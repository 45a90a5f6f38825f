"""Alignment away from the head: which region is shown, what is found near the headers, and what is believed."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from abdomen import abdomen, turn
from monai.data.meta_tensor import MetaTensor

from medfuse.errors import RegistrationError
from medfuse.phantom import Head, default_grid, render
from medfuse.registration import Registration, assess_registration, register
from medfuse.registration.body.measure import Parts
from medfuse.registration.body.outline import body_mask
from medfuse.registration.body.pair import BodyPair, BodyStudy
from medfuse.registration.body.verdict import assess_body
from medfuse.registration.region import region_of
from medfuse.volume import Source, grid_of, like, plain
from medfuse.volume.grid import Grid, Points

CORNERS = np.array([(x, y, z) for x in (-120, 120) for y in (-80, 80) for z in (-80, 80)], dtype=np.float64)
FRAME = Source("MR", "1.2.3", ("1.2.3.4",), Path("one"))


def pose(*turns: Points, shift: tuple[float, float, float] = (0, 0, 0)) -> Points:
    matrix = np.eye(4)
    for one in turns:
        matrix = matrix @ one
    matrix[:3, 3] = shift
    return matrix


def farthest(found: Registration, truth: Points) -> float:
    return float(np.linalg.norm(found.moved(CORNERS) - CORNERS @ truth[:3, :3].T - truth[:3, 3], axis=1).max())


def cut(volume: MetaTensor, *kept: slice) -> MetaTensor:
    """Some of the voxels, where they are."""
    grid = grid_of(volume)
    affine = np.array(grid.affine)
    affine[:3, 3] = grid.world(np.array([one.indices(n)[0] for one, n in zip(kept, grid.shape, strict=True)], float))
    values = plain(volume)[(slice(None), *kept)].contiguous()
    x, y, z = values.shape[1:]
    return like(values, volume, Grid((x, y, z), affine))


@pytest.fixture(scope="module")
def mri() -> MetaTensor:
    return abdomen("T1")


@pytest.mark.parametrize(
    ("kind", "truth"),
    [("CT", pose(turn("z", 6), turn("x", 3), shift=(25, -18, 40))), ("T2", pose(turn("z", 170), shift=(5, -8, 10)))],
)
def test_a_right_abdomen_is_found_and_believed(mri: MetaTensor, kind: str, truth: Points) -> None:
    found = register(mri, abdomen(kind, truth))
    assert farthest(found, truth) < 1.0
    assert found.verdict is not None
    assert found.verdict.opinion == "aligned"
    assert found.error_mm < 5
    told = found.to_dict()
    assert told["region"] == {"name": "body", "told_by": "pictures", "headers": ""}
    json.dumps(told, allow_nan=False)


def test_a_partner_of_another_scale_is_not_aligned_as_rigid(mri: MetaTensor) -> None:
    with pytest.raises(RegistrationError, match="another scale or shear") as caught:
        register(mri, abdomen("CT", scale=1.1), "rigid")
    assert "head" not in str(caught.value).replace("headers", "").replace("header", "")


@pytest.mark.parametrize("scale", [0.96, 1.04])
def test_a_scale_that_is_a_little_off_is_noticed(mri: MetaTensor, scale: float) -> None:
    right, scaled = (
        assess_body(BodyPair.of(BodyStudy.of(mri), BodyStudy.of(abdomen("CT", scale=one)), 1), np.eye(4))
        for one in (1.0, scale)
    )
    assert right.opinion == "aligned"
    assert scaled.opinion != "aligned"
    assert any("another scale" in reason for reason in scaled.reasons)


@pytest.mark.parametrize("scale", [-0.07, 0.05])
def test_a_scale_is_read_off_parts_whatever_their_common_shift(scale: float) -> None:
    noise = np.random.default_rng(5).normal(0, 1.0, CORNERS.shape)
    scaled = Parts(CORNERS + 7, scale * CORNERS + np.add(noise, (4, -3, 6))).scale()
    assert scaled.share == pytest.approx(scale, abs=0.01)
    assert scaled.certainty > 10
    shifted = Parts(CORNERS + 7, np.add(noise, (4, -3, 6))).scale()
    assert abs(shifted.share) < 0.01
    assert shifted.certainty < 4


def test_parts_that_move_along_one_axis_tell_how_far() -> None:
    found = Parts(CORNERS, CORNERS * (0, 0, 0.1)).scale()
    assert found.stretch_mm == pytest.approx(8.0)
    assert Parts(CORNERS[:3], CORNERS[:3]).scale() == (0, 0, 0)


def test_a_map_that_fits_better_nearby_is_doubtful(mri: MetaTensor) -> None:
    pair = BodyPair.of(BodyStudy.of(mri), BodyStudy.of(abdomen("CT")), 1)
    right, wrong = (assess_body(pair, pose(shift=(0, along, 0))) for along in (0, 4))
    assert right.evidence["best_nearby_mm"] < 1
    assert wrong.evidence["best_nearby_mm"] == pytest.approx(4, abs=1)


def test_noise_is_refused_without_a_word_of_a_head(mri: MetaTensor) -> None:
    partner = abdomen("CT")
    draw = torch.Generator().manual_seed(3)
    noise = like(300 * torch.randn(plain(partner).shape, generator=draw), partner)
    with pytest.raises(RegistrationError) as caught:
        register(mri, noise, "rigid")
    assert "head" not in str(caught.value).replace("headers", "").replace("header", "")


def test_a_shift_under_a_common_frame_of_reference_is_noticed(mri: MetaTensor) -> None:
    truth = pose(shift=(15, 0, 0))
    partner = abdomen("CT", truth, source=FRAME)
    found = register(like(plain(mri), mri, source=FRAME), partner)
    assert found.method == "rigid"
    assert farthest(found, truth) < 1.0
    assert "but the pictures fit" in found.headers


def test_the_place_of_a_common_frame_of_reference_is_kept_where_the_pictures_agree(mri: MetaTensor) -> None:
    found = register(like(plain(mri), mri, source=FRAME), abdomen("CT", source=FRAME))
    assert found.method == "identity"
    assert found.verdict is not None
    assert found.verdict.opinion == "aligned"


def test_where_the_pictures_cannot_tell_headers_are_trusted_or_it_is_refused(mri: MetaTensor) -> None:
    # A slab of muscle and fat beside the spine, the same at any height.
    inside = (slice(38, 52), slice(10, 20), slice(None))
    here, there = cut(abdomen("T1", source=FRAME), *inside), cut(abdomen("CT", source=FRAME), *inside)
    found = register(here, there)
    assert (found.method, found.verdict.opinion) == ("identity", "unconfirmed")  # type: ignore[union-attr]
    assert found.headers.endswith("the pictures cannot tell")
    apart = like(plain(here), here, source=None)
    with pytest.raises(RegistrationError) as caught:
        register(apart, there, "rigid")
    assert caught.value.found is not None


def test_the_answer_does_not_depend_on_where_the_headers_put_the_partner(mri: MetaTensor) -> None:
    partner = abdomen("CT")
    grid = grid_of(partner)
    moved = pose(turn("y", 5), turn("z", -6), shift=(9, -8, 9))
    first = register(mri, partner, "rigid")
    second = register(mri, like(plain(partner), partner, Grid(grid.shape, moved @ grid.affine)), "rigid")
    back = np.linalg.inv(moved) @ second.matrix
    assert np.linalg.norm(CORNERS @ (back - first.matrix)[:3, :3].T + (back - first.matrix)[:3, 3], axis=1).max() < 0.5


def test_a_ct_is_the_fixed_study_beside_uptake_whichever_way_it_is_asked(mri: MetaTensor) -> None:
    truth = pose(turn("z", 5), shift=(12, 6, -9))
    found = register(abdomen("CT", truth), mri, "rigid")
    assert farthest(found, np.linalg.inv(truth)) < 1.0


def test_a_given_map_is_assessed_and_never_refused(mri: MetaTensor) -> None:
    partner = abdomen("CT")
    right = assess_registration(Registration(np.eye(4), "file"), mri, partner)
    wrong = assess_registration(Registration(pose(shift=(0, 45, 0)), "file"), mri, partner)
    assert right.verdict is not None
    assert wrong.verdict is not None
    assert (right.verdict.opinion, wrong.verdict.opinion) == ("aligned", "unconfirmed")
    assert wrong.verdict.reasons


def test_pictures_tell_a_head_from_a_body_and_default_to_the_head(mri: MetaTensor) -> None:
    head = {one: render(Head(7), one, default_grid(one, 3.0), seed=7) for one in ("MR", "CT", "PT")}  # type: ignore[arg-type]
    assert region_of(head["MR"], head["CT"]).name == "head"
    assert region_of(head["MR"], head["PT"]).name == "head"
    assert str(region_of(head["MR"], head["MR"])) == "head (told by nothing)"
    assert region_of(mri, abdomen("T2")).name == "body"
    assert region_of(mri, abdomen("CT")).told_by == "pictures"


def test_a_limb_is_a_body_and_so_are_two() -> None:
    legs = np.zeros((90, 60, 60), np.float32)
    x, y = np.meshgrid(np.arange(90), np.arange(60), indexing="ij")
    for middle in (25, 65):
        legs[((x - middle) ** 2 + (y - 30) ** 2) < 15**2] = 300
    legs += np.abs(np.random.default_rng(2).normal(0, 4, legs.shape)).astype(np.float32)
    volume = like(torch.from_numpy(legs)[None], abdomen("T1"), Grid((90, 60, 60), np.diag([4.0, 4.0, 4.0, 1.0])))
    assert region_of(volume, volume).name == "body"
    narrow = cut(volume, slice(8, 40), slice(14, 46), slice(None))
    assert region_of(narrow, narrow).name == "body"


def test_the_outline_leaves_out_a_table_and_keeps_two_limbs() -> None:
    values = np.full((90, 60, 30), -1000.0, np.float32)
    values[10:35, 20:45], values[55:80, 20:45] = 40, 40
    values[:, 5:6] = 100  # a table
    values[18:24, 28:34] = -900  # what is enclosed
    mask = body_mask(values, np.full(3, 4.0), hounsfield=True)
    assert mask[20, 30].all()
    assert mask[60, 30].all()
    assert not mask[:, 5].any()


def test_without_air_the_whole_field_is_body() -> None:
    values = np.random.default_rng(1).uniform(100, 250, (30, 30, 30)).astype(np.float32)
    assert body_mask(values, np.full(3, 2.0), hounsfield=False).all()
