import numpy as np
import pytest
import torch

from medfuse.registration import resample
from medfuse.registration import resampling as module
from medfuse.volume import make_volume, plain
from medfuse.volume.grid import Grid
from tests.support.synthetic import world_linear

THICK_MM = 5.0


def skull(points):
    """A shell of bone (1000 HU) around brain (40 HU), soft over a millimetre: values at (..., 3) positions, mm."""
    radius = np.linalg.norm(points / np.array([1.0, 1.2, 1.0]), axis=-1)
    inside, outer = (np.clip(limit + 0.5 - radius, 0, 1) for limit in (64, 70))
    return -1000 * (1 - outer) + 1000 * (outer - inside) + 40 * inside


def grid(shape, spacing, centre, tilt=0.0):
    turn = np.radians(tilt)
    turned = np.array([[1, 0, 0], [0, np.cos(turn), -np.sin(turn)], [0, np.sin(turn), np.cos(turn)]])
    affine = np.eye(4)
    affine[:3, :3] = turned @ np.diag(spacing)
    affine[:3, 3] = centre - affine[:3, :3] @ ((np.array(shape) - 1) / 2)
    return Grid(shape, affine)


def scanned(where, samples=5):
    """The skull as a scanner measures it: each slice is a mean over its thickness."""
    index = np.stack(np.meshgrid(*map(np.arange, where.shape), indexing="ij"), -1).reshape(-1, 3).astype(float)
    offsets = (np.arange(samples) - (samples - 1) / 2) / samples
    values = np.mean([skull(where.world(index + np.array([0, 0, offset]))) for offset in offsets], axis=0)
    tensor = torch.from_numpy(values.reshape(1, *where.shape).astype(np.float32))
    return make_volume(tensor, where, modality="CT", unit="HU")


def linear(moving, onto, monkeypatch):
    with monkeypatch.context() as without:
        without.setattr(module, "thick_axis", lambda *_: None)
        return plain(resample(moving, onto, None, outside=-1024.0))


def zipper(values):
    """How much the strength of the skull changes with each slice, HU: what repeats in its brightest value by height."""
    strength = values[0, : values.shape[1] // 2].amax((0, 1)).numpy()
    wave = np.exp(-2j * np.pi * np.arange(len(strength)) / THICK_MM)
    return float(2 * np.abs(((strength - strength.mean()) * wave).mean()))


@pytest.mark.parametrize("tilt", [0.0, 12.0])
def test_a_leaning_skull_has_no_zipper_between_thick_slices(tilt, monkeypatch):
    thick = scanned(grid((150, 180, 14), (1, 1, THICK_MM), (0, 0, 35), tilt))
    onto = grid((150, 3, 40), (1, 1, 1), (0, 10, 35))
    ideal = plain(scanned(onto, samples=1))
    before = linear(thick, onto, monkeypatch)
    after = plain(resample(thick, onto, None, outside=-1024.0))
    assert zipper(after) < zipper(before) / 4
    assert (after - ideal).abs().mean() < 0.6 * (before - ideal).abs().mean()
    assert after.min() >= plain(thick).min() - 0.01
    assert after.max() <= plain(thick).max() + 0.01


def test_at_a_slice_the_values_are_its_own(monkeypatch):
    thick = scanned(grid((80, 90, 8), (2, 2, THICK_MM), (0, 0, 50)))
    fine = grid((80, 90, 36), (2, 2, 1), (0, 0, 50))
    after = plain(resample(thick, fine, None, outside=-1024.0))
    torch.testing.assert_close(after[..., ::5], plain(thick), atol=0.01, rtol=0)
    assert not torch.equal(after, linear(thick, fine, monkeypatch))


def test_what_is_linear_stays_linear_and_slices_do_not_depend_on_their_neighbours():
    where = grid((60, 50, 9), (1, 1.5, 6), (3, -4, 5), tilt=9)
    moving = world_linear(where)
    onto = grid((40, 30, 20), (1, 1, 1.3), (2, -3, 6), tilt=-4)
    expected = plain(world_linear(onto))
    lazy = module.resampled(moving, onto, None, outside=-1024.0)
    whole = lazy.slices(0, 20)
    torch.testing.assert_close(whole, expected, atol=0.02, rtol=0)
    assert torch.equal(lazy.slices(7, 9), whole[..., 7:9])


def test_thin_slices_and_coarse_grids_are_left_to_linear_interpolation(monkeypatch):
    for spacing, step in (((2, 2, 3), 1.0), ((1, 1, THICK_MM), 5.0)):
        moving = scanned(grid((70, 80, 12), spacing, (0, 0, 45)))
        onto = grid((40, 40, 8), (2, 2, step), (1.3, 0.4, 46))
        assert torch.equal(plain(resample(moving, onto, None, outside=-1024.0)), linear(moving, onto, monkeypatch))


def test_slices_that_have_nothing_in_common_are_not_followed_out_of_their_range(monkeypatch):
    generator = torch.Generator().manual_seed(5)
    where = grid((40, 40, 6), (1, 1, THICK_MM), (0, 0, 0))
    noise = make_volume(torch.rand((1, 40, 40, 6), generator=generator), where, modality="CT", unit="HU")
    onto = grid((30, 30, 20), (1, 1, 1), (0.3, 0, 0))
    for moving in (noise, make_volume(torch.ones(1, 40, 40, 6), where, modality="CT", unit="HU")):
        found = plain(resample(moving, onto, None, outside=-5.0))
        assert found.min() >= 0
        assert found.max() <= 1
