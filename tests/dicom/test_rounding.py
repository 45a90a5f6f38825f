"""Positions that their writer rounded: the true lattice, or refused where a slice may be missing."""

import numpy as np
import pytest
from classic import edit, leave, small_series
from synthetic import oblique_grid, rotation

import medfuse
from medfuse.dicom.frames.rounding import fit_rounded
from medfuse.errors import SeriesError
from medfuse.volume import grid_of
from medfuse.volume.grid import Grid

NORMAL = np.array([0.0, 0.0, 1.0])


def upright(spacing, origin=77.25, slices=24):
    affine = np.diag([-1.1, -0.9, spacing, 1.0])
    affine[:3, 3] = 31.0, 14.5, origin
    return Grid((9, 8, slices), affine)


def stated(folder, decimals, *, spacing=None, floor=False):
    """Round the positions of a series as a writer does, and state its thickness or not."""

    def change(header, place):
        position = np.array([float(value) for value in header.ImagePositionPatient])
        rounded = np.floor(position * 10**decimals) / 10**decimals if floor else np.round(position, decimals)
        header.ImagePositionPatient = [f"{value:.{decimals}f}" for value in rounded]
        if "SpacingBetweenSlices" in header:
            del header.SpacingBetweenSlices
        header.SliceThickness = None if spacing is None else f"{spacing:g}"

    edit(folder, change)


@pytest.mark.parametrize(
    ("modality", "spacing", "decimals", "says", "floor"),
    [
        ("CT", 0.625, 1, True, False),
        ("CT", 0.625, 1, False, False),
        ("CT", 0.625, 1, True, True),
        ("MR", 0.65, 1, False, False),
        ("CT", 1.25, 1, False, False),
        ("CT", 0.125, 2, False, False),
        ("PT", 2.5, 0, True, False),
        ("PT", 3.27, 0, True, False),
        ("PT", 3.27, 1, False, False),
    ],
)
def test_evenly_spaced_slices_of_rounded_positions_are_a_volume(tmp_path, modality, spacing, decimals, says, floor):
    grid = upright(spacing)
    folder, _, _ = small_series(tmp_path / "series", modality, grid=grid)
    stated(folder, decimals, spacing=spacing if says else None, floor=floor)
    loaded = medfuse.load(folder)
    half = 0.5 * 10**-decimals
    there, true = grid_of(loaded), grid
    assert there.shape == true.shape
    assert there.spacing[2] == pytest.approx(spacing, abs=1e-6 if says else half / 10)
    ends = [(0, 0, 0), (0, 0, true.shape[2] - 1)]
    assert max(abs(there.world(end) - true.world(end)).max() for end in ends) <= 2 * half + 1e-6
    source = loaded.meta["source"]
    # Within the tolerance of unrounded series the line goes through the first and the last position as they are.
    assert 0 < source.position_error_mm <= max(half * 1.001, 0.02 * spacing, 0.01)
    assert medfuse.load(folder, fill_gaps=True).meta["source"].filled_slices == 0


def test_oblique_positions_are_rounded_in_three_numbers(tmp_path):
    grid = oblique_grid((9, 8, 30), (1.1, 0.9, 0.8))
    folder, _, _ = small_series(tmp_path / "series", "CT", grid=grid)
    stated(folder, 1, spacing=0.8)
    loaded = medfuse.load(folder)
    assert grid_of(loaded).shape == grid.shape
    assert abs(grid_of(loaded).world((0, 0, 29)) - grid.world((0, 0, 29))).max() < 0.11
    assert loaded.meta["source"].position_error_mm < 0.05 * np.sqrt(3) * 1.001


def test_a_tilted_gantry_keeps_its_shear(tmp_path):
    affine = np.diag([-1.1, -0.9, 1.0, 1.0])
    affine[:3, 2] = rotation(15, 0, 0) @ [0, 0, 0.7]
    folder, _, _ = small_series(tmp_path / "series", "CT", grid=upright(1.0, slices=24))

    def tilt(header, place):
        header.ImagePositionPatient = [f"{value:.1f}" for value in affine[:3, 2] * place]
        header.SliceThickness = None

    edit(folder, tilt)
    grid = grid_of(medfuse.load(folder))
    assert grid.sheared
    np.testing.assert_allclose(grid.affine[:3, 2] * (-1, -1, 1), affine[:3, 2], atol=0.005)


@pytest.mark.parametrize("missing", [(1,), (3, 4, 20)])
@pytest.mark.parametrize(("spacing", "decimals"), [(0.625, 1), (2.5, 0), (1.0, 0)])
def test_missing_slices_are_still_missed_and_only_they_are_made(tmp_path, spacing, decimals, missing):
    folder, _, _ = small_series(tmp_path / "series", "CT", grid=upright(spacing))
    stated(folder, decimals, spacing=spacing)
    leave(folder, tuple(place for place in range(24) if place not in missing))
    with pytest.raises(SeriesError, match=r"slices? seems? to be missing.*--fill-gaps"):
        medfuse.load(folder)
    filled = medfuse.load(folder, fill_gaps=True)
    assert grid_of(filled).shape[2] == 24
    assert [k for k, parts in enumerate(filled.meta["source"].slices) if len(parts) == 2] == list(missing)


@pytest.mark.parametrize("count", [3, 4, 5, 9, 40])
@pytest.mark.parametrize("quantum", [0.1, 1.0])
@pytest.mark.parametrize("spacing", [0.5, 0.625, 1.0, 1.25, 2.5, 3.0, 5.0])
def test_no_missing_slice_is_ever_taken_for_rounding(count, quantum, spacing):
    """Whatever was rounded how, and wherever one slice is left out."""
    for origin in np.linspace(0, quantum, 7):
        whole = np.round((origin + spacing * np.arange(count + 1)) / quantum) * quantum
        for left_out in range(1, count):
            heights = np.delete(whole, left_out)
            if np.diff(heights).min() <= 0.01:
                continue
            positions = np.stack([np.zeros(count), np.zeros(count), heights], axis=1)
            for said in ([], [spacing]):
                found = fit_rounded(positions, NORMAL, said)
                assert found is None or found.missing == 1 or (not said and _even(heights, quantum))


def _even(heights, quantum):
    """Whether the positions that are left are a lattice of their own, which nobody can tell from a whole one."""
    found = fit_rounded(np.stack([0 * heights, 0 * heights, heights], axis=1), NORMAL, [])
    return found is not None and np.ptp(np.diff(heights)) <= quantum * 1.001 and len(heights) == 3


@pytest.mark.parametrize("moved", [0.35, 1.3])
def test_a_slice_that_lies_elsewhere_is_no_rounding(tmp_path, moved):
    folder, _, _ = small_series(tmp_path / "series", "CT", grid=upright(2.5, slices=12))
    stated(folder, 1, spacing=2.5)

    def move(header, place):
        if place == 6:
            header.ImagePositionPatient = [
                *header.ImagePositionPatient[:2],
                float(header.ImagePositionPatient[2]) + moved,
            ]

    edit(folder, move)
    with pytest.raises(SeriesError, match=r"not uniform|regular lattice"):
        medfuse.load(folder)
