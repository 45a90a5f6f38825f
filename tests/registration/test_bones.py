"""A CT's cortical bone in an MRI: where it lies, and what that says of a map."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
import torch
from limb import CENTRE, Displacement, limb, swollen
from monai.data.meta_tensor import MetaTensor

from medfuse.errors import RegistrationError
from medfuse.registration import register
from medfuse.registration.body.bones import Bones, seen_from_ct
from medfuse.registration.body.pair import BodyPair, BodyStudy
from medfuse.registration.body.verdict import assess_body, bones_fit_headers_better, only_parts_disagree
from medfuse.registration.pyramid import PyramidLevel
from medfuse.volume import grid_of, plain
from medfuse.volume.grid import Points


def paired(fixed: MetaTensor, moving: MetaTensor) -> BodyPair:
    return BodyPair.of(BodyStudy.of(fixed), BodyStudy.of(moving), 1)


def shifted(*millimetres: float) -> Points:
    matrix = np.eye(4)
    matrix[:3, 3] = millimetres
    return matrix


def level(volume: MetaTensor) -> PyramidLevel:
    return PyramidLevel(plain(volume)[None].float(), grid_of(volume).affine)


def bone_moved(millimetres: float) -> Displacement:
    """The bone moved across while the skin stays."""

    def displacement(points: Points) -> Points:
        away = points - CENTRE
        near = np.clip((45 - np.hypot(away[:, 0], away[:, 1])) / 20, 0, 1)
        return np.asarray(near[:, None] * np.array([-millimetres, 0.0, 0.0]))

    return displacement


@pytest.fixture(scope="module")
def thigh() -> BodyPair:
    return paired(limb("MR"), limb("CT", seed=2))


@pytest.mark.parametrize("fixed_is_ct", [False, True])
def test_bone_is_found_where_it_lies(fixed_is_ct: bool) -> None:
    bones = Bones(level(limb("CT", seed=2)), level(limb("MR")))
    for away in (0.0, 6.0, 8.0):
        found = bones.apart_mm(partial(seen_from_ct, fixed_is_ct=fixed_is_ct, matrix=shifted(away, 0, 0)))
        assert len(found) >= 2
        assert np.median(found) == pytest.approx(away, abs=2.1)


def test_bone_stands_out_most_where_it_lies(thigh: BodyPair) -> None:
    assert thigh.bones is not None
    here, near, far = thigh.bones.contrasts([thigh.from_ct(shifted(away, 0, 0)) for away in (0.0, 6.0, 14.0)])
    assert here > 0.5
    assert here > near + 0.05
    assert near > far


def test_nothing_is_said_of_bone_without_a_ct_beside_an_mri() -> None:
    for fixed, moving in (("CT", "PT"), ("MR", "PT"), ("MR", "MR"), ("CT", "CT")):
        pair = paired(limb(fixed), limb(moving, seed=2))
        assert pair.bones is None
    assert "bone_contrast" not in assess_body(pair, np.eye(4)).evidence


@pytest.mark.parametrize("slices", [1, 3])
def test_bone_is_looked_for_in_a_few_slices_too(slices: int) -> None:
    values = torch.full((1, 1, 40, 40, slices), -1000.0)
    values[..., 5:35, 5:35, :] = 40.0
    values[..., 14:24, 14:24, :] = 900.0
    mri = (values == 40.0).float() * 100
    bones = Bones(PyramidLevel(values, np.diag([2.0, 2.0, 2.0, 1.0])), PyramidLevel(mri, np.diag([2.0, 2.0, 2.0, 1.0])))
    assert len(bones.bone) == 100 * slices


def test_a_tables_edge_and_spongy_bone_are_no_cortex() -> None:
    values = torch.full((1, 1, 60, 60, 40), -1000.0)
    values[..., 10:50, 20:58, :] = 40.0
    values[..., 24:36, 34:46, :] = 350.0
    values[..., 24:26, 34:46, :] = values[..., 34:36, 34:46, :] = 1200.0
    values[..., :, 3:5, :] = 900.0  # a table
    affine = np.diag([2.0, 2.0, 2.0, 1.0])
    found = Bones(PyramidLevel(values, affine), PyramidLevel(values, affine))
    assert len(found.bone) == 2 * 2 * 12 * 40
    assert found.bone[:, 1].min() >= 2 * 34
    air = Bones(PyramidLevel(torch.full_like(values, -1000.0), affine), PyramidLevel(values, affine))
    assert not len(air.bone)
    assert not len(air.apart_mm(lambda places: places))
    assert air.contrasts([lambda places: places]) == []


def test_a_map_that_leaves_the_bone_behind_is_not_confirmed(thigh: BodyPair) -> None:
    moved = assess_body(paired(limb("MR"), limb("CT", bone_moved(8.0), seed=2)), np.eye(4))
    assert moved.opinion == "unconfirmed"
    assert any("bones disagree by" in reason for reason in moved.reasons)
    assert moved.evidence["bones_apart_mm"] == pytest.approx(8, abs=2.1)
    right = assess_body(thigh, np.eye(4))
    assert right.opinion == "aligned"
    assert right.evidence["bones_apart_mm"] <= 2
    assert bones_fit_headers_better(moved, right)
    assert not bones_fit_headers_better(right, right)
    assert not only_parts_disagree(right)


def test_a_map_by_which_bone_stands_out_less_than_under_the_headers_is_not_confirmed(thigh: BodyPair) -> None:
    found = assess_body(thigh, shifted(2.6, 0, 0))
    contrasts = found.evidence["bone_contrast_at_header"], found.evidence["bone_contrast"]
    assert contrasts[0] > contrasts[1] + 0.05
    assert found.opinion == "unconfirmed"
    assert any("where the headers put it" in reason for reason in found.reasons)


def test_a_refusal_says_by_how_much_each_tissue_disagrees_and_how_to_go_on() -> None:
    with pytest.raises(RegistrationError, match=r"bones agree to [0-3] mm") as caught:
        register(limb("MR"), limb("CT", swollen(12.0), seed=2), "rigid")
    said = str(caught.value)
    assert "the skin differs by" in said
    assert "(force=True, --force)" in said
    assert "--align deformable" in said
    assert caught.value.found is not None
    told = caught.value.found["tissues"]
    assert isinstance(told, dict)
    assert told["bone"]["median_mm"] <= 3
    assert told["skin"]["median_mm"] > 6
