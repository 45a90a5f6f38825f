import nibabel as nib
import numpy as np
import pytest
from synthetic import oblique_grid

from medfuse.errors import GeometryError
from medfuse.volume.grid import Grid


def test_index_undoes_world_on_an_oblique_grid():
    grid = oblique_grid()
    index = np.array([[0, 0, 0], [16, 21, 12], [3.25, 7.5, 1.125]])
    np.testing.assert_allclose(grid.index(grid.world(index)), index, atol=1e-12)


def test_spacing_is_per_axis():
    np.testing.assert_allclose(oblique_grid().spacing, (1.1, 0.9, 2.7))


@pytest.mark.parametrize("axcodes", ["RAS", "LPS", "PIR", "LIP", "ASL", "SLA"])
def test_axcodes_agree_with_nibabel(axcodes):
    affine = nib.orientations.inv_ornt_aff(nib.orientations.axcodes2ornt(axcodes), (5, 6, 7))
    turned = oblique_grid(turns=(9, -8, 11)).affine.copy()
    turned[:3, 3] = 0
    affine = turned @ affine
    assert Grid((5, 6, 7), affine).axcodes == "".join(nib.aff2axcodes(affine))


def test_axcodes_of_a_half_turned_grid_name_every_axis_once():
    grid = oblique_grid(spacing=(1, 1, 1), turns=(45, 35.26, 45))
    assert sorted("RAS".index(code) if code in "RAS" else "LPI".index(code) for code in grid.axcodes) == [0, 1, 2]


def test_corner_distance_sees_a_shift_and_a_turn():
    grid = oblique_grid()
    shifted = grid.affine.copy()
    shifted[:3, 3] += (0, 3, 4)
    assert grid.corner_distance(Grid(grid.shape, shifted)) == pytest.approx(5.0)
    assert not grid.matches(oblique_grid(turns=(12.0, -7.0, 25.1)))
    assert grid.matches(oblique_grid())


def test_shear_is_seen():
    affine = np.diag([1.0, 1.0, 3.0, 1.0])
    affine[1, 2] = 0.6
    assert Grid((4, 5, 6), affine).sheared
    assert not oblique_grid().sheared


@pytest.mark.parametrize(
    "affine", [np.diag([1.0, 0.0, 1.0, 1.0]), np.full((4, 4), np.nan), np.eye(3), np.diag([1.0, 1.0, 1.0, 2.0])]
)
def test_a_broken_affine_is_refused(affine):
    with pytest.raises(GeometryError):
        Grid((4, 5, 6), affine)


def test_an_empty_axis_is_refused():
    with pytest.raises(GeometryError, match="at least one voxel"):
        Grid((4, 0, 6), np.eye(4))


def test_the_affine_cannot_be_changed_behind_its_back():
    grid = oblique_grid()
    with pytest.raises(ValueError, match="read-only"):
        grid.affine[0, 0] = 5


@pytest.mark.parametrize(
    ("place", "value", "said"),
    [
        ((0, 0), 1e38, "within 10 m of the origin"),
        ((2, 2), 1e308, "within 10 m of the origin"),
        ((1, 3), -2e4, "corner 2e\\+04 mm away"),
        ((0, 0), 1e-3, "at least 0.005 mm apart; found spacings of 0.001 × 1 × 1 mm"),
        ((1, 1), 0.0, "singular"),
        ((0, 1), 4.0, "sheared further than any gantry tilts"),
        ((0, 1), np.nan, "finite"),
    ],
)
def test_an_affine_that_no_scanner_makes_is_refused(place, value, said):
    affine = np.eye(4)
    affine[place] = value
    with pytest.raises(GeometryError, match=said):
        Grid((9, 8, 7), affine)


def test_a_tilted_gantry_and_a_distant_table_are_none_of_these():
    affine = np.diag([0.4, 0.4, 5.0, 1.0])
    affine[1, 2], affine[2, 3] = 5 * np.tan(np.radians(30)), -2400
    assert Grid((512, 512, 40), affine).sheared
    assert Grid((512, 512, 40), np.diag([0.02, 0.02, 0.02, 1])).upright
