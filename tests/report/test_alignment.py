"""The picture of an alignment: nothing outside the body, one scale of colours, contours that are no noise."""

import io

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from PIL import Image

from medfuse.registration import Registration, Verdict, resample
from medfuse.report import alignment
from medfuse.report.alignment import ERRORS_MM, alignment_picture
from medfuse.report.slice_view import Cut
from medfuse.volume import Grid, grid_of, make_volume, plain

PLACES = np.array([[-20.0, -20.0, 0.0], [20.0, -20.0, 0.0], [0.0, 25.0, 0.0]])


def head(modality="MR", unit="arbitrary", noise=0.0):
    grid = Grid((50, 60, 40), np.array([[2.0, 0, 0, -49], [0, 2, 0, -59], [0, 0, 3, -58], [0, 0, 0, 1]]))
    x, y, z = np.meshgrid(*(np.arange(n) for n in grid.shape), indexing="ij")
    place = grid.world(np.stack([x, y, z], -1).reshape(-1, 3)).reshape(*grid.shape, 3)
    inside = np.linalg.norm(place / (40, 48, 50), axis=-1) < 1
    core = np.linalg.norm(place / (15, 18, 20), axis=-1) < 1
    values = 100.0 * inside + 400.0 * core
    if unit == "HU":
        values = np.where(inside, 40.0, -1000.0) + 600.0 * core
    values = values + noise * np.random.default_rng(1).normal(size=values.shape)
    return make_volume(torch.from_numpy(values)[None].float(), grid, modality=modality, unit=unit)


def assessed(errors=(1.0, 4.0, 30.0)):
    verdict = Verdict("aligned", 1.0, (), PLACES, np.array(errors))
    return Registration(np.eye(4), "rigid", {}, verdict=verdict)


def shown_panel():
    fixed = head()
    body = alignment.body_of(fixed)
    grey = make_volume(plain(fixed) / 500, Grid(fixed.shape[1:], np.asarray(fixed.affine)), modality="MR")
    return body, grey, alignment.error_panel(grey, body, assessed())


def test_nothing_outside_the_body_is_coloured():
    body, grey, panel = shown_panel()
    rgb = plain(panel.volume).float()
    coloured = (rgb.amax(0) - rgb.amin(0)) > 3
    assert coloured[torch.from_numpy(body)].float().mean() > 0.99
    assert not coloured[torch.from_numpy(~body)].any()
    # The head itself, and little more.
    inside = plain(grey)[0].numpy() > 0.1
    assert (body & inside).sum() > 0.98 * inside.sum()
    assert (body & ~inside).sum() < 0.15 * inside.sum()


def test_colours_have_one_scale_and_a_unit():
    _, _, panel = shown_panel()
    assert panel.bar.window is ERRORS_MM
    assert "mm" in panel.bar.label
    # Cividis rises in brightness, which grey print keeps.
    brightness = panel.bar.colours @ np.array([0.299, 0.587, 0.114])
    assert (np.diff(brightness) > -1e-3).all()
    assert brightness[-1] - brightness[0] > 0.5


def test_errors_are_written_where_their_blocks_are():
    _, grey, panel = shown_panel()
    axis = Figure().add_subplot()
    cut = Cut.of(grey, "axial")
    panel.over(axis, cut, cut.through([0, 0, 0]))
    told = {text.get_text(): text.get_position() for text in axis.texts}
    assert set(told) == {"1.0", "4.0", "30.0"}
    for text, place in zip(("1.0", "4.0", "30.0"), PLACES, strict=True):
        assert np.linalg.norm(np.subtract(told[text], cut.place(place))) < 20


def test_what_was_not_assessed_stays_grey():
    fixed = head()
    panel = alignment.error_panel(fixed, alignment.body_of(fixed), Registration(np.eye(4), "header", {}))
    assert panel.bar is None
    assert len(panel.volume) == 1


@pytest.mark.parametrize(("modality", "unit", "noise"), [("CT", "HU", 60.0), ("PT", "SUV", 40.0)])
def test_contours_follow_skin_and_core_through_noise(modality, unit, noise):
    moved = head(modality, unit, noise)
    contours = alignment.Contours.of(moved)
    axis = Figure().add_subplot()
    cut = Cut.of(moved, "axial")
    contours(axis, cut, cut.through([0, 0, 0]))
    assert len(axis.lines) == 2
    middle = np.array(cut.place([0, 0, 0]))
    for line, (width, height) in zip(axis.lines, ((15, 18), (40, 48)), strict=True):
        offset = (np.asarray(line.get_xydata()) - middle) / (width, height)
        np.testing.assert_allclose(np.linalg.norm(offset, axis=1), 1, atol=0.2)


@pytest.mark.parametrize("plane", ["axial", "sagittal"])
def test_no_contour_follows_the_end_of_a_field(plane):
    """A PET that ends within the head, turned: outside of it is nothing, and that is no skin."""
    fixed, whole = head(), head("PT", "SUV", 5.0)
    turn = np.deg2rad(20)
    affine = np.array([[3.0, 0, 0, 0], [0, 3 * np.cos(turn), -3 * np.sin(turn), 0], [0, 0, 0, 0], [0, 0, 0, 1.0]])
    affine[2, 1:3] = 3 * np.sin(turn), 3 * np.cos(turn)
    affine[:3, 3] = -affine[:3, :3] @ (7, 9, 11)
    field = Grid((15, 40, 22), affine)
    partner = resample(whole, field, None, outside=0.0)
    moved = resample(partner, grid_of(fixed), None, outside=0.0)
    seen = alignment.seen_in(field, grid_of(fixed), None)
    cut = Cut.of(fixed, plane)
    drawn = {}
    for name, contours in (("all", alignment.Contours.of(moved)), ("seen", alignment.Contours.of(moved, seen))):
        axis = Figure().add_subplot()
        contours(axis, cut, cut.through([0, 0, 0]))
        lines = [np.asarray(line.get_xydata()) for line in axis.lines]
        if cut.flipped:
            lines = [
                np.stack([cut.grid.shape[0] * cut.grid.spacing[0] - line[:, 0], line[:, 1]], axis=1) for line in lines
            ]
        index = np.concatenate([line / cut.grid.spacing[:2] - 0.5 for line in lines])
        place = cut.grid.world(np.column_stack([index, np.full(len(index), cut.through([0, 0, 0]))]))
        there = field.index(place)
        drawn[name] = np.minimum(there + 0.5, np.array(field.shape) - 0.5 - there).min(axis=1) * 3  # mm from a face
    assert (drawn["all"] < 2).any()
    assert drawn["seen"].min() > 2
    assert len(drawn["seen"]) > 20  # skin or core within the field are still there


@pytest.mark.parametrize(("modality", "unit", "count"), [("CT", "HU", 2), ("PT", "SUV", 1)])
def test_a_bit_of_skin_and_a_small_bone_are_drawn_and_a_small_spot_of_uptake_is_not(modality, unit, count):
    grid = Grid((15, 60, 8), np.diag([2.0, 2.0, 4.0, 1.0]))
    x, y = np.meshgrid(np.arange(15) * 2.0, np.arange(60) * 2.0, indexing="ij")
    air, tissue, bright = (-1000.0, 40.0, 900.0) if unit == "HU" else (0.0, 1.0, 9.0)
    values = (np.where(y > 60, tissue, air) + bright * (np.hypot(x - 14, y - 95) < 4.5))[..., None]
    volume = make_volume(torch.from_numpy(values.repeat(8, 2))[None].float(), grid, modality=modality, unit=unit)
    axis = Figure().add_subplot()
    alignment.Contours.of(volume)(axis, Cut.of(volume, "axial"), 4)
    lengths = [np.linalg.norm(np.diff(line.get_xydata(), axis=0), axis=1).sum() for line in axis.lines]
    assert sum(length < 40 for length in lengths) == count
    assert any(line.get_linewidth() == alignment.THIN for line in axis.lines)


def test_a_field_that_holds_all_changes_no_contour():
    moved = head("PT", "SUV", 40.0)
    assert alignment.seen_in(grid_of(moved), grid_of(moved), Registration(np.eye(4), "header", {})).all()
    assert alignment.Contours.of(moved, np.ones(moved.shape[1:], bool)).seen is None


def test_the_picture_names_both_studies():
    drawn = Image.open(io.BytesIO(alignment_picture(head(), head("PT", "SUV"), assessed())))
    assert drawn.width > 500
    assert drawn.info["Software"] == "medfuse"
