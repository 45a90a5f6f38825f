"""A real viewer, OHIF in Chromium, opens a fused study beside its source: what it holds, and what it shows.

Archive, viewer and web server are set up, and the study is fused and sent, by the steps of the how-to guide as they
stand there. Needs Orthanc, nginx, Chromium, Playwright (the extra ``viewer``) and the unpacked ``@ohif/app``, whose
``dist`` the environment variable MEDFUSE_OHIF names. ``tox -e viewer`` runs it; with MEDFUSE_SCREENSHOT it leaves the
picture.
"""

import base64
import json
import os
import shutil
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pydicom
import pytest
from orthanc import beside_orthanc, require_orthanc
from pages import ROOT, steps_of
from PIL import Image

import medfuse

PAGE = ROOT / "docs" / "how-to" / "see-in-a-viewer.md"
SCREENSHOT = os.environ.get("MEDFUSE_SCREENSHOT")


def require_viewer():
    """Where OHIF lies; skips the test, with the reason, where it or what it needs is absent."""
    require_orthanc()
    if shutil.which("curl") is None or not Path("/usr/sbin/nginx").exists():
        pytest.skip("nginx or curl is not installed (Debian: nginx-light, curl)")
    if find_spec("playwright") is None or not Path("/usr/bin/chromium").exists():
        pytest.skip("Playwright (the extra viewer) or Debian's chromium is not installed")
    dist = Path(os.environ.get("MEDFUSE_OHIF", "absent"))
    if not (dist / "index.html").is_file():
        pytest.skip("MEDFUSE_OHIF does not name the dist folder of @ohif/app (npm pack @ohif/app@3.13.2)")
    return dist


@pytest.fixture(scope="module")
def viewed(tmp_path_factory):
    """The files of the MRI and of the fused series, what the viewer holds and shows of each, and its picture."""
    dist = require_viewer()
    folder, seen = tmp_path_factory.mktemp("viewer"), tmp_path_factory.mktemp("seen")
    phantom = medfuse.phantom_study("PT", coarsen=2)
    phantom.write_dicom(folder / "study")
    for name, called in (("mri", "MRI"), ("partner", "PET")):
        (folder / "study" / name).rename(folder / called)
    # Links, but for the one file that the steps write.
    shutil.copytree(
        dist, folder / "package" / "dist", copy_function=os.link, ignore=lambda _, names: {"app-config.js"} & set(names)
    )
    (folder / "steps.sh").write_text(steps_of(PAGE))
    beside_orthanc("inside_viewer.py", folder, folder / "steps.sh", seen, limit_s=1500)
    files = [[pydicom.dcmread(path) for path in sorted((folder / name).glob("*.dcm"))] for name in PANES]
    if SCREENSHOT:
        shutil.copy(seen / "ohif.png", SCREENSHOT)
    told = json.loads((seen / "viewer.json").read_text())
    screen = np.asarray(Image.open(seen / "ohif.png").convert("RGB"), dtype=np.float64)
    return files, told["held"], told["shown"], screen


PANES = ("MRI", "RESULTS/dicom")
BOTH = pytest.mark.parametrize("pane", [0, 1], ids=("mri", "fused"))


@pytest.mark.slow
@pytest.mark.receiver
@BOTH
def test_the_viewer_holds_every_pixel_in_its_place(viewed, pane):
    files, held, _, _ = viewed
    by_uid = {str(file.SOPInstanceUID): file for file in files[pane]}
    assert {one["uid"] for one in held[pane]} == by_uid.keys()
    for one in held[pane]:
        file = by_uid[one["uid"]]
        pixels = np.frombuffer(base64.b64decode(one["pixels"]), np.dtype(one["kind"].removesuffix("Array").lower()))
        np.testing.assert_array_equal(pixels.reshape(file.pixel_array.shape), file.pixel_array)
        np.testing.assert_allclose(one["position"], np.float64(file.ImagePositionPatient), atol=1e-9)
        along = np.float64(file.ImageOrientationPatient)
        np.testing.assert_allclose([*one["rows"], *one["columns"]], along, atol=1e-9)
        np.testing.assert_allclose(one["spacing"], np.float64(file.PixelSpacing), atol=1e-9)
        assert one["world"] == file.FrameOfReferenceUID


@pytest.mark.slow
@pytest.mark.receiver
def test_both_series_lie_at_the_same_places(viewed):
    _, held, shown, _ = viewed
    places = [sorted(tuple(np.round(one["position"], 6)) for one in series) for series in held]
    assert places[0] == places[1]
    at = [next(one["position"] for one in held[n] if one["uid"] == shown[n]["uid"]) for n in (0, 1)]
    np.testing.assert_allclose(at[0], at[1], atol=1e-6)


@pytest.mark.slow
@pytest.mark.receiver
@BOTH
def test_the_screen_is_lit_with_the_slice_where_it_belongs(viewed, pane):
    """At the screen's place of each bright voxel stands the colour that its file asks for."""
    files, _, shown, screen = viewed
    file = next(one for one in files[pane] if one.SOPInstanceUID == shown[pane]["uid"])
    wanted = file.pixel_array.astype(np.float64)
    if wanted.ndim == 2:
        wanted = (wanted - file.WindowCenter) / file.WindowWidth * 255 + 127.5
        wanted = np.repeat(wanted.clip(0, 255)[..., None], 3, axis=-1)
    # Away from edges, which the viewer smooths, and from the texts in the corners.
    rows, columns = wanted.shape[:2]
    windows = np.lib.stride_tricks.sliding_window_view(wanted, (3, 3), axis=(0, 1))
    even = np.zeros((rows, columns), bool)
    even[1:-1, 1:-1] = (np.ptp(windows, axis=(-1, -2)).max(-1) < 40) & (wanted[1:-1, 1:-1].max(-1) > 60)
    even[: rows // 5] = even[-rows // 5 :] = False
    j, i = np.nonzero(even)
    assert len(i) > 100
    origin, right, down = np.array(shown[pane]["corners"])
    x, y = origin[:, None] + np.outer(right - origin, i / (columns - 1)) + np.outer(down - origin, j / (rows - 1))
    lit = screen[np.rint(y).astype(int), np.rint(x).astype(int)]
    assert np.median(lit.max(-1)) > 60
    assert np.median(np.abs(lit - wanted[j, i])) < 6
    assert np.corrcoef(lit.ravel(), wanted[j, i].ravel())[0, 1] > 0.97
    assert (np.ptp(lit, axis=-1).mean() > 20) == (pane == 1)  # grey stays grey, and colour has colours
