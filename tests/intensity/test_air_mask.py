"""Air around the head turns black where it was asked for, and nothing that shows does."""

import numpy as np
import pytest
import torch
from synthetic import oblique_grid

import medfuse
from medfuse.intensity import Window
from medfuse.intensity.air_mask import MARGIN_MM, AirMask
from medfuse.volume import make_volume
from medfuse.volume.grid import Grid

UNIT = Window(0.0, 1.0)
RADIUS = 40.0
GRIDS = {
    "oblique, odd": oblique_grid(shape=(151, 118, 31), spacing=(0.9, 1.2, 4.5)),
    "thin and thick": oblique_grid(shape=(140, 150, 30), spacing=(1.0, 1.0, 5.0)),
    "thicker": oblique_grid(shape=(101, 107, 13), spacing=(1.3, 1.1, 9.0), turns=(0.0, 0.0, 0.0)),
    "coarse": oblique_grid(shape=(29, 31, 33), spacing=(5.0, 4.5, 4.0)),
}


def from_middle(grid: Grid, off=(0.0, 0.0, 0.0)) -> np.ndarray:
    """How far each voxel is from the middle of the grid, or from so many mm off it."""
    index = np.stack(np.meshgrid(*(np.arange(length) for length in grid.shape), indexing="ij"), axis=-1)
    middle = grid.world((np.array(grid.shape) - 1) / 2) + off
    return np.linalg.norm(grid.world(index) - middle, axis=-1)


def noisy(grid: Grid, values: np.ndarray, modality="MR", level=0.025):
    """A volume in noise such as air has in an MRI: 3 % on average, up to 15 %."""
    noise = np.random.default_rng(3).rayleigh(level, grid.shape)
    return make_volume(torch.from_numpy(np.maximum(values, noise).astype(np.float32))[None], grid, modality=modality)


def kept_everywhere(foreground: AirMask, volume) -> np.ndarray:
    return ~foreground.air(0, volume.shape[-1], torch.zeros(volume.shape)).numpy()


@pytest.mark.parametrize("grid", GRIDS.values(), ids=GRIDS)
def test_a_ball_keeps_its_margin_and_loses_the_noise_around(grid):
    distance = from_middle(grid, off=(3.0, -8.0, 5.0))
    # Hollow, as a skull is dark in an MRI: what is enclosed is no air.
    volume = noisy(grid, 0.6 * ((distance < RADIUS) & (distance > 25)))
    foreground = AirMask.of(volume, UNIT)
    kept = kept_everywhere(foreground, volume)
    sides = np.linalg.norm(grid.affine[:3, :3], axis=0) * foreground.sizes
    # Smooth borders cut the corners of blocks.
    assert kept[distance < RADIUS + MARGIN_MM - max(sides[:2]) / 2].all()
    far = distance > RADIUS + MARGIN_MM + 2 * np.linalg.norm(sides)
    assert far.mean() > 0.04
    # Blocks that the border cuts have fewer voxels, and coarse ones few: some noise shows there.
    assert kept[far].mean() < (0.2 if min(sides) > 7 else 0.03)


@pytest.mark.parametrize("slices", [1, 2, 9])
def test_what_a_head_encloses_is_kept_where_the_volume_ends_within_it(slices):
    grid = Grid((120, 100, slices), np.diag([1.0, 1.0, 3.0, 1.0]))
    across = np.linalg.norm(np.indices(grid.shape)[:2].T - (50, 55), axis=-1).T
    volume = noisy(grid, 0.6 * ((across < 40) & (across > 30)))  # a tube, open at both ends
    kept = kept_everywhere(AirMask.of(volume, UNIT), volume)
    assert kept[across < 40].all()
    assert not kept[:6, :6].any()


def test_what_is_no_number_is_not_hidden():
    grid = GRIDS["thicker"]
    head = 0.6 * (from_middle(grid) < RADIUS)
    broken = head.copy()
    broken[5, 5, 2] = np.nan
    for mri, partner in ((broken, head), (head, broken)):
        foreground = AirMask.of(noisy(grid, mri), UNIT)
        assert not foreground.air(0, 13, noisy(grid, partner, "PT").as_tensor())[5, 5, 2]


def test_slices_are_the_same_in_any_batches():
    grid = GRIDS["oblique, odd"]
    distance = from_middle(grid)
    foreground = AirMask.of(noisy(grid, 0.6 * (distance < RADIUS)), UNIT)
    partner = noisy(grid, 0.3 * (np.abs(distance - 65) < 3), "PT").as_tensor()
    whole = foreground.air(0, 31, partner)
    parts = [foreground.air(k, min(k + 4, 31), partner[..., k : k + 4]) for k in range(0, 31, 4)]
    assert torch.equal(torch.cat(parts, dim=-1), whole)
    assert whole.any()


def test_what_shows_in_air_stays_there():
    grid = GRIDS["thicker"]
    head = 0.6 * (from_middle(grid) < RADIUS)
    marker = np.zeros(grid.shape)
    marker[5, 5, 2] = 0.5  # one voxel, as of a marker
    faint = np.zeros(grid.shape)
    faint[85:95, 90:100, 6] = 0.12  # less than noise reaches, but everywhere: as of another measurement's ghost
    for mri, partner in ((head + marker + faint, head), (head, head + marker + faint)):
        sides = noisy(grid, mri), noisy(grid, partner, "PT")
        air = AirMask.of(sides[0], UNIT).air(0, 13, sides[1].as_tensor())
        assert not air[5, 5, 2]
        assert not air[85:95, 90:100, 6].any()
        assert air[5, 100, 2]
        assert air[5, 5, 10]


def test_fusing_with_black_air_leaves_the_head_and_says_so():
    grid = Grid((112, 96, 8), np.diag([1.0, 1.0, 3.0, 1.0]))
    box = np.zeros(grid.shape)
    box[12:40, 50:84, :] = 0.7
    mri, partner = noisy(grid, box, level=0.02), noisy(grid, box / 2, "PT", level=0.01)
    given = {"align": "header", "engine": "masked", "palette": "hot-iron", "window": "1"}
    plain, black = (medfuse.fuse(mri, partner, **given, black_air=asked) for asked in (False, True))
    air = np.ones(grid.shape, bool)
    air[:62, 28:] = False  # the box, its margin, and how far the network reaches
    before, after = (study.image.as_tensor().float().numpy() for study in (plain, black))
    assert before[:, air].max() > 10
    assert after[:, air].max() <= 2  # what the network makes of black
    assert np.abs(before - after)[:, 12:40, 50:84].max() <= 3
    assert all(side.as_tensor()[0].numpy()[air].max() == 0 for side in black.scaled())
    assert all(side.as_tensor()[0].numpy()[air].mean() > 0.005 for side in plain.scaled())
    assert not plain.provenance.black_air
    assert black.sidecar()["Medfuse"]["black_air"]
    assert "What shows in neither source set to black." in black.provenance.sentence()
    assert "black" not in plain.provenance.sentence()
