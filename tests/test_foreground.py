"""Air around the head turns black where it was asked for, and nothing that shows does."""

import numpy as np
import pytest
import torch
from synthetic import oblique_grid

import medfuse
from medfuse.foreground import MARGIN_MM, Foreground
from medfuse.grid import Grid
from medfuse.intensity import Window
from medfuse.phantom import phantom_study
from medfuse.volume import make_volume

UNIT = Window(0.0, 1.0)
RADIUS = 40.0
GRIDS = {
    "oblique, odd": oblique_grid(shape=(151, 118, 31), spacing=(0.9, 1.2, 4.5)),
    "thick slices": oblique_grid(shape=(101, 107, 13), spacing=(1.3, 1.1, 9.0), turns=(0.0, 0.0, 0.0)),
    "coarse": oblique_grid(shape=(29, 31, 33), spacing=(5.0, 4.5, 4.0)),
}


def from_middle(grid: Grid) -> np.ndarray:
    """How far each voxel is from the middle of the grid, mm."""
    index = np.stack(np.meshgrid(*(np.arange(length) for length in grid.shape), indexing="ij"), axis=-1)
    middle = grid.world((np.array(grid.shape) - 1) / 2)
    return np.linalg.norm(grid.world(index) - middle, axis=-1)


def noisy(grid: Grid, values: np.ndarray, modality="MR"):
    """A volume in noise such as air has in an MRI: 3 % on average, up to 15 %."""
    noise = np.random.default_rng(3).rayleigh(0.025, grid.shape)
    return make_volume(torch.from_numpy(np.maximum(values, noise).astype(np.float32))[None], grid, modality=modality)


@pytest.mark.parametrize("grid", GRIDS.values(), ids=GRIDS)
def test_a_ball_keeps_its_margin_and_loses_the_noise_around(grid):
    distance = from_middle(grid)
    # Hollow, as a skull is dark in an MRI: what is enclosed is no air.
    volume = noisy(grid, 0.6 * ((distance < RADIUS) & (distance > 25)))
    foreground = Foreground.of(volume, UNIT)
    air = foreground.air(0, grid.shape[2], torch.zeros(volume.shape)).numpy()
    assert not air[distance < RADIUS + MARGIN_MM / 2].any()
    sides = np.linalg.norm(grid.affine[:3, :3], axis=0) * foreground.sizes
    far = distance > RADIUS + max(MARGIN_MM, *sides) + np.linalg.norm(sides)
    assert far.mean() > 0.1
    # Blocks that the border cuts have fewer voxels: some noise may show there.
    assert air[far].mean() > 0.97


def test_slices_are_the_same_in_any_batches():
    grid = GRIDS["oblique, odd"]
    distance = from_middle(grid)
    foreground = Foreground.of(noisy(grid, 0.6 * (distance < RADIUS)), UNIT)
    partner = noisy(grid, 0.3 * (np.abs(distance - 65) < 3), "PT").as_tensor()
    whole = foreground.air(0, 31, partner)
    parts = [foreground.air(k, min(k + 4, 31), partner[..., k : k + 4]) for k in range(0, 31, 4)]
    assert torch.equal(torch.cat(parts, dim=-1), whole)
    assert whole.any()


def test_what_shows_in_air_stays_there():
    grid = GRIDS["thick slices"]
    head = 0.6 * (from_middle(grid) < RADIUS)
    marker = np.zeros(grid.shape)
    marker[5, 5, 2] = 0.5  # one voxel, as of a marker
    faint = np.zeros(grid.shape)
    faint[85:95, 90:100, 6] = 0.12  # less than noise reaches, but everywhere: as of another measurement's ghost
    for mri, partner in ((head + marker + faint, head), (head, head + marker + faint)):
        sides = noisy(grid, mri), noisy(grid, partner, "PT")
        air = Foreground.of(sides[0], UNIT).air(0, 13, sides[1].as_tensor())
        assert not air[5, 5, 2]
        assert not air[85:95, 90:100, 6].any()
        assert air[5, 100, 2]
        assert air[5, 5, 10]


def test_fusing_with_black_air_changes_air_and_says_so():
    phantom = phantom_study("PT", coarsen=3)
    given = {"align": "header", "engine": "masked"}
    plain = medfuse.fuse(phantom.mri, phantom.partner, **given)
    black = medfuse.fuse(phantom.mri, phantom.partner, **given, black_air=True)
    slices = black.slices
    partner = slices.partner_window
    uptake = (slices.partner.volume().as_tensor() - partner.lower) / partner.width
    air = slices.foreground.air(0, slices.grid.shape[2], uptake.clamp(0, 1))
    assert 0.1 < air.float().mean() < 0.9
    before, after = (study.image.as_tensor().float() for study in (plain, black))
    # Next to air the network still sees what is kept; black is not quite 0.
    assert before[:, air].mean() > 1
    assert after[:, air].mean() < before[:, air].mean() / 3
    assert (before - after)[:, ~air].abs().mean() < 1
    assert not plain.provenance.black_air
    assert black.sidecar()["Medfuse"]["black_air"]
    assert "Air around the head set to black." in black.provenance.sentence()
    assert "Air" not in plain.provenance.sentence()
