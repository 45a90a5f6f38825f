"""Errors by tissue: bone, inside and skin, each by what the pictures show of it."""

from __future__ import annotations

import numpy as np
import pytest
from limb import CENTRE, limb, swollen

from medfuse.registration.pyramid import Pyramid
from medfuse.registration.search import Pair
from medfuse.registration.tissues import tissue_errors
from medfuse.registration.verdict import TissueErrors
from medfuse.registration.warp import Warp
from medfuse.volume.grid import Grid, Points


def shifted(*millimetres: float) -> Points:
    matrix = np.eye(4)
    matrix[:3, 3] = millimetres
    return matrix


@pytest.mark.parametrize(("fixed", "moving"), [("MR", "CT"), ("CT", "MR")])
def test_a_shift_is_told_at_the_bone(fixed: str, moving: str) -> None:
    pair = Pair.of(Pyramid.of(limb(fixed)), Pyramid.of(limb(moving, seed=2)), 1)
    right = tissue_errors(pair, np.eye(4))
    assert right.bone is not None
    assert right.bone.median_mm <= 2
    assert right.skin is not None
    assert right.skin.median_mm < 2
    off = tissue_errors(pair, shifted(8, 0, 0))
    assert off.bone is not None
    assert off.bone.median_mm == pytest.approx(8, abs=2.1)
    assert off.skin is not None
    assert off.skin.most_mm > 5


def test_bones_agree_and_the_skin_does_not() -> None:
    pair = Pair.of(Pyramid.of(limb("MR")), Pyramid.of(limb("CT", swollen(8.0), seed=2)), 1)
    found = tissue_errors(pair, np.eye(4))
    assert found.bone is not None
    assert found.bone.median_mm <= 2
    assert found.skin is not None
    assert 4 < found.skin.median_mm < 10
    assert "bones agree to" in str(found)
    assert "the skin differs by" in str(found)
    grid = Grid(
        (25, 25, 21),
        np.array([[8.0, 0, 0, CENTRE[0] - 96], [0, 8, 0, CENTRE[1] - 96], [0, 0, 8, CENTRE[2] - 80], [0, 0, 0, 1]]),
    )
    places = grid.world(np.stack(np.meshgrid(*map(np.arange, grid.shape), indexing="ij"), axis=-1).reshape(-1, 3))
    away = -swollen(8.0)(places)
    mended = tissue_errors(pair, np.eye(4), Warp(grid, away.T.reshape(3, *grid.shape).astype(np.float32)))
    assert mended.skin is not None
    assert mended.skin.median_mm < 0.6 * found.skin.median_mm
    assert mended.bone is not None
    assert mended.bone.median_mm <= 2


def test_what_the_pictures_do_not_show_is_not_told() -> None:
    pair = Pair.of(Pyramid.of(limb("MR")), Pyramid.of(limb("PT", seed=2)), 1)
    found = tissue_errors(pair, np.eye(4))
    assert found.bone is None
    assert found.to_dict()["bone"] is None
    assert "bones" not in str(found)
    assert str(TissueErrors(None, None, None)) == "no tissue could be compared by itself"
