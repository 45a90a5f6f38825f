"""The page of a study in Chromium, from the disk: nothing is asked for, the viewer is lit and tells the truth.

Needs Playwright (the extra ``viewer``) and Debian's Chromium; axe-core where MEDFUSE_AXE names its ``axe.min.js``.
"""

import io
import re

import numpy as np
import pytest
from browser import CHROMIUM, WITHOUT_WEBGL, chromium, faults_of_accessibility, opened
from PIL import Image

import medfuse
from medfuse.pipeline.report.notebook import InlinePage
from medfuse.volume import grid_of, plain

pytestmark = pytest.mark.slow

PANES = ("mri", "partner", "fused")
READY = "document.getElementById('viewer').dataset.ready === 'true'"
CROSSHAIRS = (
    """() => medfuseViewer.panes.map(({nv}) => Array.from(nv.frac2mm(nv.scene.crosshairPos, 0, true)).slice(0, 3))"""
)


@pytest.fixture(scope="module")
def study():
    phantom = medfuse.phantom_study("PT", coarsen=4)
    truth = medfuse.Registration(phantom.truth, "rigid", {})
    return medfuse.fuse(phantom.mri, phantom.partner, align=truth, force=True, method="average")


@pytest.fixture(scope="module")
def path(study, tmp_path_factory):
    path = tmp_path_factory.mktemp("page") / "report.html"
    study.write_report(path)
    return path


@pytest.fixture(scope="module")
def browser():
    with chromium() as browser:
        yield browser


@pytest.fixture(scope="module")
def viewed(browser, path):
    with opened(browser, path) as (page, told):
        page.wait_for_function(READY)
        yield page, told


def numbers(text):
    return [float(each) for each in re.findall(r"-?\d+(?:\.\d+)?", text)]


def shown(page, row="at-crosshair"):
    """Position, MRI and partner as the page's table has them."""
    cells = [page.inner_text(f"#{row} .{name}") for name in ("mm", "mri", "partner")]
    return numbers(cells[0]), numbers(cells[1])[0], numbers(cells[2])[0]


def value_at(volume, place):
    index = tuple(np.rint(grid_of(volume).index(place)).astype(int))
    return float(plain(volume)[(0, *index)])


def pixels(page, pane):
    return np.asarray(Image.open(io.BytesIO(page.locator(f"#canvas-{pane}").screenshot())).convert("RGB"))


def test_nothing_is_asked_for_and_nothing_fails(viewed):
    page, told = viewed
    assert told == []
    assert (
        page.evaluate("performance.getEntriesByType('resource').filter(e => !e.name.startsWith('data:')).length") == 0
    )


@pytest.mark.parametrize("pane", PANES)
def test_each_picture_is_lit(viewed, pane):
    seen = pixels(viewed[0], pane)
    assert (seen.max(axis=-1) > 60).mean() > 0.1
    assert (np.ptp(seen.astype(int), axis=-1).mean() > 5) == (pane != "mri")  # grey stays grey but for the crosshair


@pytest.mark.parametrize(
    ("pane", "across", "down"), [("mri", 0.45, 0.2), ("partner", 0.55, 0.55), ("fused", 0.5, 0.85)]
)
def test_a_click_moves_all_crosshairs_and_tells_the_volumes_values(viewed, study, pane, across, down):
    page, _ = viewed
    before = page.evaluate(CROSSHAIRS)
    box = page.locator(f"#canvas-{pane}").bounding_box()
    page.locator(f"#canvas-{pane}").click(position={"x": box["width"] * across, "y": box["height"] * down})
    after = np.array(page.evaluate(CROSSHAIRS))
    assert np.abs(after[0] - before[0]).max() > 1
    np.testing.assert_allclose(after, after[:1].repeat(3, axis=0), atol=1e-3)
    place, mri, partner = shown(page)
    np.testing.assert_allclose(place, after[0], atol=0.06)
    assert mri == pytest.approx(value_at(study.slices.pair.mri, after[0]), abs=0.51)
    assert partner == pytest.approx(value_at(study.registered(), after[0]), abs=5.1)


def test_the_pointer_reads_values_and_moves_nothing(viewed, study):
    page, _ = viewed
    before = page.evaluate(CROSSHAIRS)
    box = page.locator("#canvas-fused").bounding_box()
    page.mouse.move(box["x"] + box["width"] * 0.5, box["y"] + box["height"] * 0.18)
    place, mri, _ = shown(page, "at-pointer")
    assert page.evaluate(CROSSHAIRS) == before
    near = grid_of(study.slices.pair.mri).index(place)
    assert mri == pytest.approx(value_at(study.slices.pair.mri, place), abs=0.51) or np.abs(near % 1 - 0.5).min() < 0.1


def test_the_keyboard_moves_the_crosshair(viewed, study):
    page, _ = viewed
    spacing = grid_of(study.slices.pair.mri).spacing
    page.focus("#canvas-partner")
    for key, axis, by in (("ArrowRight", 0, -1), ("ArrowUp", 1, 1), ("PageUp", 2, 1), ("ArrowLeft", 0, 1)):
        before = np.array(page.evaluate(CROSSHAIRS))
        page.keyboard.press(key)
        moved = np.array(page.evaluate(CROSSHAIRS)) - before
        wanted = np.zeros(3)
        wanted[axis] = by * max(spacing if axis == 2 else spacing[:2])
        np.testing.assert_allclose(moved, wanted[None].repeat(3, axis=0), atol=0.6)  # the grid is oblique


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_no_fault(viewed, scheme):
    page, _ = viewed
    page.emulate_media(color_scheme=scheme)
    assert faults_of_accessibility(page) == []


def visible(page, layer):
    """Whether a layer of the first picture is seen, by the computed style."""
    return page.evaluate(f"getComputedStyle(document.querySelector('.stack .{layer}')).visibility") == "visible"


def test_pictures_lie_on_one_another_and_the_mode_says_which_is_seen(browser, path):
    with opened(browser, path, java_script_enabled=False, reduced_motion="reduce") as (page, told):
        # Without scripts: what is asked below is asked by the browser's own tools.
        page.locator("#see-contours").focus()
        first = page.locator(".stack").first
        looks = {}
        for mode in ("contours", "checker", "flicker", "curtain", "mri", "partner"):
            page.check(f"#see-{mode}")
            looks[mode] = np.asarray(Image.open(io.BytesIO(first.screenshot())).convert("RGB")).astype(int)
        assert told == []
    # What stands above differs by mode, and with it the part of a pixel by which the picture is moved.
    rows = min(len(look) for look in looks.values()) - 1
    looks = {mode: look[1:rows] for mode, look in looks.items()}
    own, other = looks["mri"], looks["partner"]
    apart = np.abs(own - other).max(axis=-1) > 30
    assert apart.mean() > 0.1
    width = own.shape[1]
    left, right = np.s_[:, : width // 2 - 2], np.s_[:, width // 2 + 2 :]
    assert np.abs(looks["curtain"] - own)[left].mean() < 8 < np.abs(looks["curtain"] - other)[left].mean()
    assert np.abs(looks["curtain"] - other)[right].mean() < 8 < np.abs(looks["curtain"] - own)[right].mean()
    of_mri = np.abs(looks["checker"] - own).max(axis=-1) < np.abs(looks["checker"] - other).max(axis=-1)
    assert 0.3 < of_mri[apart].mean() < 0.7
    nearest = np.minimum(np.abs(looks["checker"] - own), np.abs(looks["checker"] - other))
    assert nearest[apart].mean() < 16
    assert np.abs(looks["flicker"] - own).mean() < 8  # no motion where none is wished
    assert 0.002 < (np.abs(looks["contours"] - own).max(axis=-1) > 60).mean() < 0.3


def test_a_phone_scrolls_in_one_direction(browser, path):
    with opened(browser, path) as (page, _):
        page.set_viewport_size({"width": 390, "height": 844})
        page.wait_for_function(READY)
        assert page.evaluate("document.documentElement.scrollWidth") <= 390
        for mode in ("curtain", "flicker"):
            page.check(f"#see-{mode}")
            assert page.evaluate("document.documentElement.scrollWidth") <= 390


def test_figures_on_a_phone_are_wider_than_it_and_scroll_by_themselves(browser, path):
    with opened(browser, path) as (page, _):
        page.set_viewport_size({"width": 390, "height": 844})
        sizes = page.eval_on_selector_all(
            ".sheet", "all => all.map((one) => [one.clientWidth, one.scrollWidth, one.firstElementChild.clientWidth])"
        )
        assert len(sizes) == 4
        for shown, held, picture in sizes:
            assert shown <= 390 < 2 * 256 <= picture <= held
        page.emulate_media(media="print")
        boxes = [each.bounding_box() for each in page.locator(".sheet img").all()]
        assert all(box["x"] + box["width"] <= 390 for box in boxes)
        assert all(box["height"] <= 20 * 38 for box in boxes)  # less than a page


def test_the_viewer_works_in_the_frame_of_a_notebook(browser, study, tmp_path):
    outer = tmp_path / "notebook.html"
    outer.write_text(f"<!DOCTYPE html><title>A notebook</title>{InlinePage(study.report())._repr_html_()}")
    with opened(browser, outer) as (page, told):
        frame = next(each for each in page.frames if each.url == "about:srcdoc")
        frame.wait_for_function(READY)
        seen = np.asarray(Image.open(io.BytesIO(frame.locator("#canvas-fused").screenshot())).convert("RGB"))
        assert (seen.max(axis=-1) > 60).mean() > 0.1
        assert [line for line in told if line != "about:srcdoc"] == []


def test_paper_has_the_pictures_and_no_controls(browser, path):
    with opened(browser, path) as (page, _):
        page.check("#see-curtain")
        page.emulate_media(media="print")
        assert not page.is_visible(".modes")
        assert not page.is_visible("#viewer")
        assert all(visible(page, layer) for layer in ("mri", "partner", "contours"))
        boxes = [page.locator(f".stack .{layer}").first.bounding_box() for layer in ("mri", "partner", "contours")]
        assert boxes[0]["x"] + boxes[0]["width"] <= boxes[1]["x"] < boxes[2]["x"]
        assert len(page.pdf()) > 100_000


def test_without_webgl_a_sentence_stands_in_place_of_the_viewer(browser, path):
    without = browser.browser_type.launch(executable_path=CHROMIUM, args=WITHOUT_WEBGL)
    with opened(without, path) as (page, told):
        page.wait_for_selector("#viewer-absent", state="visible")
        assert not page.is_visible("#viewer")
        assert [line for line in told if line.startswith("error")] == []
    without.close()
