"""Figures of a study: letters from the geometry, positions, colour bars with their values."""

import itertools

import numpy as np
import pytest
import torch
from matplotlib.colors import to_rgb

import medfuse
from medfuse.dicom.palettes import palette_table
from medfuse.errors import ExportError
from medfuse.intensity import CT_WINDOWS_HU, Window
from medfuse.intensity.palette_join import legend
from medfuse.report.slice_view import Cut, letters_of
from medfuse.report.study_figure import Bar, Panel, Row, draw_study, ticks_of
from medfuse.volume import Grid, make_volume

# Where a bright corner lies: to the patient's right, in front and above.
TOWARDS = {"R": (1, 0, 0), "L": (-1, 0, 0), "A": (0, 1, 0), "P": (0, -1, 0), "S": (0, 0, 1), "I": (0, 0, -1)}

AXIS_ORDERS = [
    "".join(codes) for order in itertools.permutations(("RL", "AP", "SI")) for codes in itertools.product(*order)
]


def world_linear(axcodes, direction):
    """A volume on a grid with these axes, whose values rise along a direction of the world."""
    shape, spacing = (6, 7, 8), (2.0, 3.0, 4.0)
    affine = np.eye(4)
    for axis, code in enumerate(axcodes):
        affine[:3, axis] = np.array(TOWARDS[code]) * spacing[axis]
    affine[:3, 3] = 5, -7, 11
    grid = Grid(shape, affine)
    index = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), axis=-1)
    values = torch.from_numpy(grid.world(index.reshape(-1, 3)) @ np.array(direction, float)).reshape(shape)[None]
    return make_volume(values, grid, modality="MR")


@pytest.mark.parametrize("view", ["radiological", "neurological"])
@pytest.mark.parametrize("plane", ["axial", "coronal", "sagittal", "native"])
@pytest.mark.parametrize("axcodes", AXIS_ORDERS)
def test_letters_say_where_the_patient_lies(axcodes, plane, view):
    for letter, direction in TOWARDS.items():
        volume = world_linear(axcodes, direction)
        shown = Cut.of(volume, plane, view).view(volume, 2)
        rows, columns = shown.values[0].mean(1), shown.values[0].mean(0)
        # Values rise towards the letter: so does whichever edge bears it.
        assert (shown.right == letter) == bool(columns[-1] - columns[0] > 1)
        assert (shown.left == letter) == bool(columns[0] - columns[-1] > 1)
        assert (shown.bottom == letter) == bool(rows[-1] - rows[0] > 1)
        assert (shown.top == letter) == bool(rows[0] - rows[-1] > 1)


@pytest.mark.parametrize("axcodes", AXIS_ORDERS)
def test_the_usual_views(axcodes):
    volume = world_linear(axcodes, (1, 0, 0))
    for plane, edges in (("axial", "RLAP"), ("coronal", "RLSI"), ("sagittal", "APSI")):
        shown = Cut.of(volume, plane).view(volume, 0)
        assert "".join((shown.left, shown.right, shown.top, shown.bottom)) == edges
    for plane, edges in (("axial", "LRAP"), ("coronal", "LRSI"), ("sagittal", "APSI")):
        shown = Cut.of(volume, plane, "neurological").view(volume, 0)
        assert "".join((shown.left, shown.right, shown.top, shown.bottom)) == edges


@pytest.mark.parametrize("axcodes", AXIS_ORDERS)
def test_acquired_slices_are_seen_upright_and_keep_their_numbers(axcodes):
    volume = world_linear(axcodes, (1, 2, 3))
    cut = Cut.of(volume, "native")
    shown = cut.view(volume, 2)
    edges = {"S": "RLAP", "I": "RLAP", "A": "RLSI", "P": "RLSI", "L": "APSI", "R": "APSI"}[axcodes[2]]
    assert "".join((shown.left, shown.right, shown.top, shown.bottom)) == edges
    assert sorted(shown.values.flatten().tolist()) == sorted(volume[0, :, :, 2].flatten().tolist())
    point = volume.affine.numpy() @ (1, 4, 2, 1)
    assert cut.through(point[:3]) == 2
    x, y = cut.place(point[:3])
    rows, columns = shown.values.shape[1:]
    row, column = int(y / shown.size_mm[1] * rows), int(x / shown.size_mm[0] * columns)
    assert float(shown.values[0, row, column]) == pytest.approx(float(volume[0, 1, 4, 2]))


def test_oblique_directions_have_a_second_letter():
    turned = np.deg2rad(25)
    assert letters_of((np.cos(turned), np.sin(turned), 0)) == "RA"
    assert letters_of((0, -np.sin(turned), -np.cos(turned))) == "IP"
    assert letters_of((1, np.sin(np.deg2rad(5)), 0)) == "R"
    assert letters_of((-2.0, 0, 0)) == "L"


@pytest.mark.parametrize("axcodes", ["RAS", "LPS", "IRP"])
@pytest.mark.parametrize("view", ["radiological", "neurological"])
def test_a_point_is_marked_where_its_voxel_is_drawn(axcodes, view):
    volume = world_linear(axcodes, (1, 2, 3))
    point = volume.affine.numpy() @ (2, 3, 4, 1)
    cut = Cut.of(volume, "coronal", view)
    shown = cut.view(volume, cut.through(point[:3]))
    x, y = cut.place(point[:3])
    rows, columns = shown.values.shape[1:]
    row, column = int(y / shown.size_mm[1] * rows), int(x / shown.size_mm[0] * columns)
    assert float(shown.values[0, row, column]) == pytest.approx(float(point[:3] @ (1, 2, 3)))


def test_positions_are_of_the_slices_middle():
    volume = world_linear("RAS", (0, 0, 1))
    assert Cut.of(volume, "axial").view(volume, 3).position == "S 23.0 mm"
    assert Cut.of(volume, "coronal").view(volume, 0).position in ("A 11.0 mm", "P 7.0 mm")
    assert Cut.of(volume, "sagittal").view(volume, 0).position in ("R 15.0 mm", "R 5.0 mm")


def test_a_colour_bar_equals_palette_and_window():
    volume = world_linear("RAS", (1, 0, 0))
    shown = volume.clone().clamp_(0, 1)
    palette = palette_table("violet-to-orange")
    bar = Bar("activity, Bq/ml", Window(0.0, 8000.0), palette)
    figure = draw_study([Panel("PET", shown, bar)], [Row(Cut.of(shown, "axial"), 0)])
    axis = figure.axes[-1]
    assert axis.get_xlabel() == "activity, Bq/ml"
    np.testing.assert_allclose(np.asarray(axis.images[0].get_array())[0], palette, atol=1e-6)
    ticks = {
        float(text.get_text()): place for text, place in zip(axis.get_xticklabels(), axis.get_xticks(), strict=True)
    }
    assert len(ticks) >= 3
    for value, place in ticks.items():
        assert place == pytest.approx(value / 8000)


def test_a_long_label_stays_within_the_figure():
    shown = world_linear("RAS", (1, 0, 0)).clamp_(0, 1)
    bar = Bar("SUV, by lean body mass, over dark to bright MRI", Window(0.0, 8.0))
    figure = draw_study([Panel("PET", shown, bar)] * 3, [Row(Cut.of(shown, "axial"), 0)])
    figure.canvas.draw()
    for axis in figure.axes[-3:]:
        assert axis.get_xlabel().replace("\n", " ") == bar.label
        box = axis.xaxis.label.get_window_extent()
        assert box.x0 >= 0
        assert box.x1 <= figure.bbox.width
        assert box.y0 >= 0


def test_a_bar_of_a_tone_curve_has_ticks_where_it_bends():
    head = CT_WINDOWS_HU["head"]
    ticks = ticks_of(head)
    assert ticks[0] == head.lower
    assert ticks[-1] == head.upper
    assert 75.0 in ticks


@pytest.fixture(scope="module")
def fused():
    study = medfuse.phantom_study("PT", coarsen=4)
    return medfuse.fuse(study.mri, study.partner, align=medfuse.Registration(study.truth, "file", {}), force=True)


def test_a_study_draws_itself(fused):
    figure = fused.figure(2, plane="coronal")
    titles = [axis.get_title() for axis in figure.axes if axis.get_title()]
    assert titles == ["MRI", "PET, Bq/ml", "fused by GeSeNet"]
    *pictures, _, _, fused_bar = [axis for axis in figure.axes if axis.images]
    assert len(pictures) == 6
    colours = np.asarray(fused_bar.images[0].get_array())
    for row, grey in ((0, 0.0), (16, 0.5), (32, 1.0)):
        np.testing.assert_allclose(colours[row], legend(palette_table("violet-to-orange"), grey), atol=1e-6)
    letters = {text.get_text() for text in pictures[0].texts}
    assert {"R", "L", "S", "I"} <= letters
    assert any(text.endswith(" mm") and text[0] in "AP" for text in letters)
    assert "Research use only" in " ".join(figure._supxlabel.get_text().split("\n"))


def test_the_fused_column_holds_the_fused_voxels(fused):
    figure = fused.figure([3], plane="axial", columns=["fused"])
    cut = Cut.of(fused.image, "axial")
    drawn = np.asarray(figure.axes[0].images[0].get_array())
    np.testing.assert_allclose(drawn, cut.view(fused.image, 3).values.permute(1, 2, 0) / 255, atol=1e-6)


@pytest.mark.parametrize("suffix", ["png", "pdf", "svg"])
def test_figures_are_written_whole_with_text_as_text(fused, tmp_path, suffix):
    path = tmp_path / f"figure.{suffix}"
    fused.write_figure(path, fused.figure(1, dark=True), dpi=60)
    written = path.read_bytes()
    starts = {"png": b"\x89PNG", "pdf": b"%PDF", "svg": b"<?xml"}
    assert written.startswith(starts[suffix])
    if suffix == "svg":
        assert b">MRI</text>" in written
    with pytest.raises(ExportError, match=r"exists|taken"):
        fused.write_figure(path, fused.figure(1))
    fused.write_figure(path, fused.figure(1, dark=True), dpi=60, overwrite=True)
    assert path.read_bytes() == written


def test_wrong_choices_are_told(fused, tmp_path):
    with pytest.raises(ValueError, match="columns of mri, partner, fused; found 'pet'"):
        fused.figure(columns=["pet"])
    with pytest.raises(ValueError, match="slices from 0 to"):
        fused.figure([100000])
    with pytest.raises(ValueError, match="1 to 40 slices"):
        fused.figure(0)
    with pytest.raises(ValueError, match="point inside the MRI"):
        fused.figure(at=(0, 0, 1e6))
    with pytest.raises(ValueError, match="three finite numbers"):
        fused.figure(at=(0, 0, float("nan")))
    with pytest.raises(ValueError, match="a plane of"):
        fused.figure(plane="oblique")
    with pytest.raises(ValueError, match="a view of"):
        fused.figure(view="surgical")
    with pytest.raises(ExportError, match=r"to end in \.png, \.pdf, \.svg; found 'figure\.bmp'"):
        fused.write_figure(tmp_path / "figure.bmp", fused.figure(1))


def test_dark_and_light(fused):
    for dark, colour in ((True, "black"), (False, "white")):
        assert to_rgb(fused.figure(1, dark=dark).get_facecolor()) == to_rgb(colour)
