"""The page of a study says what it should in its order, holds the volumes' own values, and nobody's identity."""

import base64
import gzip
import io
import json
import re
import zlib
from dataclasses import replace

import nibabel as nib
import numpy as np
import pydicom
import pytest
import torch
from PIL import Image
from planted_identity import DATES, SECRET, SECRET_ROOT, plant
from synthetic import oblique_grid, world_linear

import medfuse
from medfuse.errors import ExportError
from medfuse.intensity import Window
from medfuse.pipeline.report.facts import interval, opinion_of
from medfuse.registration import Registration, Verdict
from medfuse.registration.region import Region
from medfuse.report.study_figure import GREY
from medfuse.report.viewer_volumes import Shown, cropped, decimals_of, pack, step_of_values, thinned
from medfuse.volume import Grid, grid_of, make_volume

MOST_BYTES = 12_000_000

HEADINGS = [
    "What was fused with what",
    "Do they fit?",
    "Look at the alignment",
    "Where may it be off?",
    "The fused study",
    "Where the fused picture comes from",
    "Explore MRI, PET and fused picture",
    "How it was made",
]


def phantom(folder, modality="PT"):
    study = medfuse.phantom_study(modality, coarsen=4)
    study.write_dicom(folder)
    return study.truth


def fused_from(folder, truth):
    mri, partner = (medfuse.load(folder / name) for name in ("mri", "partner"))
    return medfuse.fuse(mri, partner, align=Registration(truth, "file", {}), force=True, method="average")


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    folder = tmp_path_factory.mktemp("study")
    return fused_from(folder, phantom(folder))


@pytest.fixture(scope="module")
def page(study, tmp_path_factory):
    path = tmp_path_factory.mktemp("page") / "report.html"
    study.write_report(path)
    assert path.stat().st_size < MOST_BYTES
    return path.read_text(encoding="utf-8")


def held(page):
    """The volumes of a page's viewer by name: what is said of them, and the NIfTI image."""
    data = json.loads(re.search(r'id="viewer-volumes">(.*?)</script>', page)[1])
    return {
        each["name"]: (each, nib.Nifti1Image.from_bytes(gzip.decompress(base64.b64decode(each["nifti"]))))
        for each in data["volumes"]
    }


def pictures(page):
    """Those of the page itself: the viewer's script has some of its own."""
    page = page.partition("<script")[0]
    return [Image.open(io.BytesIO(base64.b64decode(text))) for text in re.findall(r'webp;base64,([^"]+)"', page)]


def test_a_page_has_its_parts_in_order(page):
    assert [re.sub("<.*?>", "", text) for text in re.findall(r"<h2 .*?>(.*?)</h2>", page)] == HEADINGS
    assert "Research use only" in page
    verdict = re.search(r'<p class="verdict \w+">(.*?)</p>', page)[1]
    assert " mm" in verdict
    assert len(pictures(page)) == 27 + 1 + 2 + 1


def test_a_page_says_how_it_was_made_and_whose_viewer_it_has(page, study):
    rows = dict(re.findall(r'<th scope="row">(.*?)</th><td>(.*?)</td>', page))
    assert rows["method"] == "average"
    assert rows["software"] == study.provenance.software
    assert "files<br>" in rows["MRI"]
    assert rows["in time"] == "PET 2 h 30 min after the MRI."
    assert "BSD 2-Clause License" in page


def test_the_viewer_holds_the_volumes_values_in_their_places(page, study):
    volumes = held(page)
    for name, volume in (("mri", study.slices.pair.mri), ("partner", study.registered())):
        about, image = volumes[name]
        grid = medfuse.Grid(tuple(volume.shape[1:]), volume.affine.numpy())
        index = np.stack(np.meshgrid(*map(np.arange, image.shape), indexing="ij"), axis=-1).reshape(-1, 3)
        where = grid.index(nib.affines.apply_affine(image.affine, index))
        own = np.rint(where).astype(int)
        np.testing.assert_allclose(where, own, atol=1e-3)
        values = volume.as_tensor()[0].numpy()[tuple(own.T)]
        np.testing.assert_allclose(image.get_fdata().ravel(), values, atol=about["step"] * 0.501)
        assert about["step"] <= (about["upper"] - about["lower"]) / 1000


def test_no_identity_stands_on_a_page(tmp_path):
    """Planted in every element of the headers and in the paths; none in text, pictures or volumes."""
    folder = tmp_path / f"{SECRET}^Anna 19410612"
    truth = phantom(folder)
    plant(folder)
    for path in folder.rglob("*.dcm"):
        dataset = pydicom.dcmread(path)
        dataset.SeriesNumber = 73519284
        dataset.save_as(path)
    fused_from(folder, truth).write_report(tmp_path / "out.html")
    page = (tmp_path / "out.html").read_text(encoding="utf-8")
    texts = [page, *(str(picture.info) for picture in pictures(page))]
    texts += [str(dict(image.header)) for _, image in held(page).values()]
    for text in texts:
        # What stands in base64 are pictures and volumes, looked at by themselves.
        plain = re.sub(r"[A-Za-z0-9+/=]{200,}", "", text)
        for secret in (SECRET, SECRET_ROOT, "Anna", "73519284", *DATES.values(), "1941", "12 June", "2.25."):
            assert secret not in plain, secret


@pytest.mark.parametrize("modality", ["CT", "NM"])
def test_other_partners_have_a_page(modality):
    study = medfuse.phantom_study(modality, coarsen=4)
    fused = medfuse.fuse(
        study.mri, study.partner, align=Registration(study.truth, "file", {}), force=True, method="average"
    )
    page = fused.report()
    about = held(page)["partner"][0]
    assert about["unit"] == ("HU" if modality == "CT" else "counts")
    assert ("step" in held(page)["fused"][0]) == (modality == "CT")
    assert len(page) < MOST_BYTES
    if modality == "CT":
        assert about["step"] <= 2
        assert "made in memory" in page


def test_a_report_is_no_other_file_and_replaces_none(study, tmp_path):
    with pytest.raises(ExportError, match=r"to end in \.html"):
        study.write_report(tmp_path / "report.pdf")
    (tmp_path / "report.html").write_text("mine")
    with pytest.raises(ExportError, match="exists already"):
        study.write_report(tmp_path / "report.html")
    with pytest.raises(ExportError, match="into the input"):
        study.write_report(study.sources[0].path / "report.html")
    assert (tmp_path / "report.html").read_text() == "mine"


def test_a_partner_that_ends_within_the_mri_and_uptake_above_the_window_are_told():
    grid = Grid((40, 36, 24), np.diag([4.0, 4.0, 4.0, 1.0]))
    half = Grid((40, 36, 12), np.diag([4.0, 4.0, 4.0, 1.0]))
    draw = np.random.default_rng(0)
    mri = make_volume(torch.from_numpy(draw.uniform(50, 100, (1, *grid.shape))).float(), grid, modality="MR")
    values = torch.from_numpy(draw.uniform(1, 2, (1, *half.shape))).float()
    values[0, 20, 18, 6] = 16.25
    pet = make_volume(values, half, modality="PT", unit="SUV")
    page = medfuse.fuse(
        mri, pet, align=Registration(np.eye(4), "file", {}), window=Window(0, 5), method="average"
    ).report()
    assert "covers 50 % of what the MRI shows" in page
    assert "PET from 5 SUV on has the last colour; the largest value is 16.2 SUV." in page


def test_a_partner_that_covers_the_mri_is_not_said_to_end(page):
    assert "% of what the MRI shows" not in page


@pytest.mark.parametrize("suffix", ["png", "svg", "pdf"])
def test_no_identity_stands_in_a_figure_or_its_metadata(tmp_path, suffix):
    folder = tmp_path / f"{SECRET}^Anna 19410612"
    truth = phantom(folder)
    plant(folder)
    fused = fused_from(folder, truth)
    path = tmp_path / f"figure.{suffix}"
    fused.write_figure(path, fused.figure(1), dpi=60)
    content = path.read_bytes()
    # What PDF and PNG compress is looked at by itself.
    streams = re.findall(rb"stream\r?\n(.*?)endstream", content, re.DOTALL)
    texts = [content, *(zlib.decompressobj().decompress(each) for each in streams if each[:1] == b"x")]
    texts += [str(Image.open(io.BytesIO(content)).info).encode()] if suffix == "png" else []
    for text in texts:
        for secret in (SECRET, SECRET_ROOT, "Anna", *DATES.values(), "1941", "12 June", "2.25."):
            assert secret.encode() not in text, secret


@pytest.mark.parametrize("kept", [(1, 1, 1), (2, 1, 3), (5, 4, 2)])
def test_what_is_left_of_a_volume_stays_in_its_place(kept):
    grid = oblique_grid((11, 9, 8))
    volume = world_linear(grid)
    thin = thinned(grid, kept)
    values = volume.as_tensor()[0].numpy()[tuple(slice(each // 2, None, each) for each in kept)]
    assert values.shape == thin.shape
    x, y, z = thin.world(np.stack(np.meshgrid(*map(np.arange, thin.shape), indexing="ij"), axis=-1)).transpose(
        3, 0, 1, 2
    )
    np.testing.assert_allclose(values, x + 2 * y + 3 * z, atol=1e-3)


def test_air_around_what_is_shown_is_left_out_and_the_rest_stays_in_its_place():
    grid = Grid((60, 50, 40), oblique_grid((60, 50, 40)).affine)
    mri, partner = (make_volume(torch.zeros(1, *grid.shape), grid, modality="MR") for _ in range(2))
    mri[0, 30:40, 20:30, 12] = 1.0
    partner[0, 33:36, 25:44, 12] = 0.5
    mri[0, 5, 5, 5] = 1.0  # noise
    values = world_linear(grid)
    (kept,) = cropped([Shown("mri", "MRI", values, "", Window(0, 1000), GREY)], (mri, partner))
    inner = grid_of(kept.volume)
    first = np.rint(grid.index(inner.world((0, 0, 0)))).astype(int)
    last = first + np.array(inner.shape) - 1
    margin = np.ceil(10 / np.array(grid.spacing)).astype(int)
    np.testing.assert_array_equal(first, np.maximum(np.array([30, 20, 12]) - margin, 0))
    np.testing.assert_array_equal(last, np.minimum(np.array([39, 43, 12]) + margin, np.array(grid.shape) - 1))
    x, y, z = inner.world(np.stack(np.meshgrid(*map(np.arange, inner.shape), indexing="ij"), axis=-1)).transpose(
        3, 0, 1, 2
    )
    np.testing.assert_allclose(kept.volume.as_tensor()[0].numpy(), x + 2 * y + 3 * z, atol=1e-3)


def test_nothing_is_left_out_where_nothing_is_shown():
    grid = oblique_grid((11, 9, 8))
    empty = make_volume(torch.zeros(1, *grid.shape), grid, modality="MR")
    (kept,) = cropped([Shown("mri", "MRI", world_linear(grid), "", Window(0, 1000), GREY)], (empty, empty))
    assert grid_of(kept.volume).shape == grid.shape


def test_volumes_are_thinned_along_their_finest_axes_until_they_fit():
    rng = np.random.default_rng(0)
    noise = rng.normal(500, 200, (1, 64, 48, 20)).astype(np.float32)
    grid = Grid((64, 48, 20), np.diag([1.0, 1.0, 5.0, 1.0]))
    volume = make_volume(torch.from_numpy(noise), grid, modality="MR")
    packed = pack([Shown("mri", "MRI", volume, "", Window(0, 1000), GREY)], 40_000)
    assert packed.kept == (2, 2, 1)
    assert len(packed.volumes[0]["nifti"]) <= 40_000


@pytest.mark.parametrize(
    ("window", "largest", "step", "decimals"),
    [
        (Window(0, 10), 30, 0.01, 2),
        (Window(-10, 1500), 3071, 1, 0),
        (Window(0, 16370), 90_000, 10, 0),
        (Window(0, 5), 500, 0.02, 2),
        (Window(0, 1), 1, 0.001, 3),
    ],
)
def test_values_are_rounded_to_steps_that_people_read(window, largest, step, decimals):
    assert step_of_values(window, largest) == pytest.approx(step)
    assert decimals_of(step) == decimals


def test_a_verdict_is_a_sentence_with_its_error():
    def told(**verdict):
        return opinion_of(Registration(np.eye(4), "rigid", verdict=Verdict(**verdict)), "CT")

    assert told(opinion="aligned", error_mm=1.234).sentence.endswith("estimated error of 1.2 mm.")
    assert told(opinion="aligned", error_mm=1.234).level == "good"
    head = told(opinion="aligned", error_mm=4.2)
    assert (head.level, "estimated error of 4.2 mm, and it may be off by over 3 mm" in head.sentence) == (
        "unsure",
        True,
    )
    limb = told(opinion="aligned", error_mm=7.0, region=Region("body", "pictures"), evidence={"best_nearby_mm": 2.04})
    assert (limb.level, "fit best 2.04 mm (expected under 2 mm) away" in limb.sentence) == ("unsure", True)
    bad = told(opinion="not aligned", error_mm=9.0, reasons=("mirrored",))
    assert (bad.level, bad.reasons) == ("bad", ("mirrored",))
    assert "NOT ALIGNED" in bad.sentence
    assert "speak against it" in bad.sentence
    untold = told(opinion="not aligned", error_mm=8.0, reasons=("the pictures cannot tell: parts disagree",))
    assert "cannot tell where the CT lies" in untold.sentence
    assert told(opinion="unconfirmed").level == "unsure"
    assert "no error in mm" in told(opinion="unconfirmed").sentence
    assert opinion_of(Registration(np.eye(4), "file"), "CT").level == "unsure"


@pytest.mark.parametrize(
    ("mri", "pet", "said"),
    [
        (("20200131", "100000"), ("20200203", "090000"), "PET 3 days after the MRI."),
        (("20200131", "100000"), ("20200130", "093000"), "PET 24 h 30 min before the MRI."),
        (("20200131", "100000"), ("20200131", "100000.5"), "PET at the same time as the MRI."),
        (("20200131", ""), ("20200131", "100000"), "PET on the same day as the MRI."),
        (("20200131", "10"), ("20200201", ""), "PET 1 day after the MRI."),
        (("", ""), ("20200201", ""), "is unknown: a header has no date."),
        (("JOHN DOE", ""), ("20200201", ""), "is unknown: a header has no date."),
    ],
)
def test_dates_are_told_as_days_between(study, mri, pet, said):
    def source(date, time):
        header = pydicom.Dataset()
        header.add_new("AcquisitionDate", "LO", date)
        header.add_new("AcquisitionTime", "LO", time)
        return replace(study.sources[0], headers=(header,))

    assert said in interval(source(*mri), source(*pet), "PT")
