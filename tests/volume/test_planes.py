import pytest
import torch
from synthetic import oblique_grid, world_linear, worst_linear_error

from medfuse.errors import GeometryError
from medfuse.volume import grid_of
from medfuse.volume.planes import replane, require_same_grid, slice_batch


@pytest.mark.parametrize(("plane", "axcodes"), [("axial", "LPS"), ("coronal", "LIP"), ("sagittal", "PIR")])
@pytest.mark.parametrize("turns", [(12, -7, 25), (100, 15, -80), (-95, 3, 178)])
def test_no_voxel_moves_when_the_plane_changes(plane, axcodes, turns):
    volume = world_linear(oblique_grid(turns=turns))
    turned = replane(volume, plane)
    assert grid_of(turned).axcodes == axcodes
    assert sorted(turned.shape[1:]) == sorted(volume.shape[1:])
    assert worst_linear_error(turned) < 1e-3


def test_native_leaves_the_volume_alone():
    volume = world_linear(oblique_grid())
    assert replane(volume, "native") is volume


def test_planes_are_right_handed():
    for plane in ("axial", "coronal", "sagittal"):
        directions = grid_of(replane(world_linear(oblique_grid(turns=(5, 5, 5))), plane)).directions
        assert torch.linalg.det(torch.from_numpy(directions)) == pytest.approx(1.0)


def test_slice_batches_are_rows_down_columns_across():
    volume = world_linear(oblique_grid())
    batch = slice_batch(volume, 2, 5)
    assert batch.shape == (3, 1, 22, 17)
    assert batch[1, 0, 20, 4] == volume[0, 4, 20, 3]


def test_different_grids_are_refused():
    with pytest.raises(GeometryError, match="resample the partner first"):
        require_same_grid(world_linear(oblique_grid()), world_linear(oblique_grid(origin=(0, 0, 1))))
