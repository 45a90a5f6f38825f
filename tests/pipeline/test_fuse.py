import base64
import json
import pickle
import re
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pydicom
import pytest
import torch
from monai.data.meta_tensor import MetaTensor
from monai.transforms.compose import Compose
from monai.transforms.intensity.dictionary import GaussianSmoothd
from monai.transforms.io.array import LoadImage, SaveImage
from PIL import Image
from synthetic import oblique_grid, world_linear, worst_linear_error
from torch import nn

import medfuse
from medfuse import Registration, phantom_study
from medfuse.errors import IntensityError, RegistrationError, StudyError
from medfuse.gesenet import load_engine, load_network
from medfuse.intensity import Window
from medfuse.metrics.read_back import read_by_legend
from medfuse.pipeline.transforms import (
    FuseSlicesd,
    JoinColourd,
    LoadStudyd,
    Registerd,
    Replaned,
    ResampleOntod,
    Scaled,
    SplitLumad,
    StudyReader,
)
from medfuse.volume import LazyVolume, grid_of, like, make_volume, plain
from medfuse.volume.grid import Grid


@pytest.fixture(scope="module", params=["PT", "CT", "NM"])
def phantom(request):
    return phantom_study(request.param, coarsen=4)


@pytest.fixture(scope="module")
def pet_phantom():
    return phantom_study("PT", coarsen=4)


def truth(phantom):
    return Registration(phantom.truth, "file", {})


def test_a_study_is_fused_on_the_grid_of_its_mri(phantom):
    study = medfuse.fuse(phantom.mri, phantom.partner, align=truth(phantom))
    assert grid_of(study.image).matches(grid_of(phantom.mri))
    assert grid_of(study.partner).matches(grid_of(phantom.mri))
    if phantom.partner.meta["modality"] == "CT":
        assert study.image.dtype == torch.float32
        assert len(study.image) == 1
    else:
        assert study.image.dtype == torch.uint8
        assert len(study.image) == 3
    assert study.mri.as_tensor().max() == 1


def test_both_modalities_show(phantom):
    study = medfuse.fuse(phantom.mri, phantom.partner, align=truth(phantom))
    luma = study.image.as_tensor().float().mean(0).flatten()
    for source in (study.mri, study.partner):
        assert np.corrcoef(luma, source.as_tensor().flatten())[0, 1] > 0.4


def test_the_lesion_lies_where_the_partner_saw_it(pet_phantom):
    study = medfuse.fuse(pet_phantom.mri, pet_phantom.partner, align=truth(pet_phantom))
    i, j, k = np.rint(grid_of(study.image).index(pet_phantom.landmarks["lesion"])).astype(int)
    red, _, blue = study.image.as_tensor().float()
    uptake = study.partner.as_tensor()[0]
    around = uptake[i - 1 : i + 2, j - 1 : j + 2, k - 1 : k + 2].max()
    assert around > torch.quantile(uptake, 0.98)
    assert red[i, j, k] >= blue[i, j, k]


def test_sources_are_left_unchanged(pet_phantom):
    before = pet_phantom.mri.as_tensor().clone(), pet_phantom.partner.as_tensor().clone()
    medfuse.fuse(pet_phantom.mri, pet_phantom.partner, align="header")
    assert torch.equal(before[0], pet_phantom.mri.as_tensor())
    assert torch.equal(before[1], pet_phantom.partner.as_tensor())


def test_a_study_goes_to_another_process_and_shares_no_memory_that_is_handed_out(pet_phantom):
    moved = make_volume(pet_phantom.mri.as_tensor().clone(), grid_of(pet_phantom.mri), modality="PT", unit="Bq/ml")
    for partner, align in ((pet_phantom.partner, truth(pet_phantom)), (moved, "header")):
        study = medfuse.fuse(pet_phantom.mri, partner, align=align, engine="reference", lazy=True)
        slices = next(iter(pickle.loads(pickle.dumps(study)).slices))
        assert torch.equal(slices, next(iter(study.slices)))
        before = partner.as_tensor().clone()
        shown = study.partner.as_tensor().clone()
        study.registered().mul_(0)
        assert torch.equal(partner.as_tensor(), before)
        assert torch.equal(study.partner.as_tensor(), shown)


def test_a_given_window_is_shown_without_a_look_at_the_values(pet_phantom, monkeypatch):
    monkeypatch.setattr(LazyVolume, "sample", None)
    study = medfuse.fuse(pet_phantom.mri, pet_phantom.partner, align="header", window="5000", lazy=True)
    assert study.slices.pair.partner_window == Window(0, 5000)


def test_two_runs_give_the_same_bytes(pet_phantom):
    first, second = (medfuse.fuse(pet_phantom.mri, pet_phantom.partner, align=truth(pet_phantom)) for _ in range(2))
    assert torch.equal(first.image.as_tensor(), second.image.as_tensor())
    assert first.sidecar() == second.sidecar()


def test_batch_size_does_not_change_the_result(pet_phantom):
    alone, together = (
        medfuse.fuse(pet_phantom.mri, pet_phantom.partner, align="header", batch_size=size) for size in (1, 7)
    )
    difference = alone.image.as_tensor().int() - together.image.as_tensor().int()
    assert difference.abs().max() <= 1


def test_planes_fuse_the_same_head(pet_phantom):
    native = medfuse.fuse(pet_phantom.mri, pet_phantom.partner, align=truth(pet_phantom))
    coronal = medfuse.fuse(pet_phantom.mri, pet_phantom.partner, align=truth(pet_phantom), plane="coronal")
    assert grid_of(coronal.image).axcodes == "LIP"
    point = np.array([[12.0, 9.0, 8.0], [20.0, 14.0, 15.0]])
    world = grid_of(native.image).world(point)
    for study in (native, coronal):
        i, j, k = np.rint(grid_of(study.mri).index(world)).astype(int).T
        np.testing.assert_allclose(
            study.mri.as_tensor()[0, i, j, k], native.mri.as_tensor()[0, [12, 20], [9, 14], [8, 15]]
        )


def test_a_study_shows_itself(pet_phantom, tmp_path):
    study = medfuse.fuse(pet_phantom.mri, pet_phantom.partner, align=truth(pet_phantom))
    html = study._repr_html_()
    picture = base64.b64decode(re.search(r"base64,([^\"]+)", html)[1])
    assert picture.startswith(b"\x89PNG")
    assert "FusedStudy(MR + PT, RGB" in repr(study)
    study.write_picture(tmp_path / "p.png")
    with Image.open(tmp_path / "p.png") as shown:
        pixels = np.asarray(shown.convert("RGB")).astype(int)
    legend, row = legend_in(pixels)
    for part in np.array_split(pixels[: row - 40], 3):
        mri, partner, fused = (np.ptp(column, axis=-1).max() for column in np.array_split(part, 3, axis=1))
        assert mri == 0
        assert min(partner, fused) > 100
    # Whoever has the picture alone can read the uptake by it.
    _, uptake = study.scaled()
    slices = range(0, uptake.shape[-1], 6)
    shown, true = (plain(side)[..., slices].permute(3, 0, 2, 1) for side in (study.image, uptake))
    read = read_by_legend(shown.contiguous(), true, true > 0.08, legend)
    assert read.spearman > 0.98
    assert read.mean_error < 0.03
    study = medfuse.fuse(pet_phantom.mri, pet_phantom.partner, align="header", join="chroma", palette="hot-iron")
    study.write_picture(tmp_path / "chroma.png")
    with Image.open(tmp_path / "chroma.png") as shown:
        other, _ = legend_in(np.asarray(shown.convert("RGB")).astype(int))
    assert np.abs(other[-5] - legend[-5]).max() > 0.1


def legend_in(pixels):
    """Find the legend at the foot of a picture: colours from left to right, (N, 3) in [0, 1], and its middle row."""
    last_column = pixels[:, -(pixels.shape[1] // 3) :]
    coloured = np.ptp(last_column, axis=-1) > 20
    rows = np.flatnonzero(coloured.mean(axis=1) > 0.6)
    rows = np.split(rows, np.flatnonzero(np.diff(rows) > 1) + 1)[-1]
    row = int(rows[len(rows) // 2])
    runs = np.flatnonzero(np.diff(np.pad(last_column[row].max(axis=-1) > 40, 1))).reshape(-1, 2)
    first, last = max(runs, key=lambda run: run[1] - run[0])
    return (last_column[row, first + 2 : last - 2] / 255).astype(np.float32), row


def test_provenance_says_what_was_done_and_that_it_is_for_research(pet_phantom):
    study = medfuse.fuse(pet_phantom.mri, pet_phantom.partner, align=truth(pet_phantom), window="10000,20000")
    sidecar = json.loads(json.dumps(study.sidecar()))
    assert sidecar["GeneratedBy"][0]["Name"] == "medfuse"
    assert sidecar["Medfuse"]["partner_window"] == {"lower": 0, "upper": 20000, "bends": []}
    np.testing.assert_allclose(sidecar["Medfuse"]["registration"]["matrix"], pet_phantom.truth)
    assert "Research use only" in sidecar["Description"]
    assert len(study.provenance.sentence()) <= 1024


@pytest.mark.parametrize("palette", ["hot-iron", None])
def test_lazy_slices_are_written_while_later_ones_are_fused(pet_phantom, tmp_path, palette):
    pair = pet_phantom if palette else phantom_study("CT", coarsen=4)
    network = load_network()
    written = []
    out = tmp_path / "lazy"

    def counting(mri, partner):
        written.append(len(list(tmp_path.rglob("*.dcm"))))
        return network(mri, partner)

    engine = replace(load_engine("reference"), fuse=counting)
    given = {"align": "header", "palette": palette, "engine": engine}
    study = medfuse.fuse(pair.mri, pair.partner, lazy=True, **given)
    assert not written
    study.write_dicom(out, keep=False)
    assert written[0] == 0
    assert written[-1] > 0
    calls = len(written)
    study.write_dicom(tmp_path / "kept")
    assert len(written) == 2 * calls
    eager = medfuse.fuse(pair.mri, pair.partner, **given)
    fused_so_far = len(written)
    assert torch.equal(study.image, eager.image)
    eager.write_dicom(tmp_path / "eager")
    assert len(written) == fused_so_far
    for one, other in zip(sorted(out.iterdir()), sorted((tmp_path / "eager").iterdir()), strict=True):
        assert np.array_equal(pydicom.dcmread(one).pixel_array, pydicom.dcmread(other).pixel_array)


def test_progress_names_the_steps(pet_phantom):
    told = []
    medfuse.fuse(pet_phantom.mri, pet_phantom.partner, align="header", progress=lambda *step: told.append(step))
    assert [step for step, _ in dict.fromkeys((step, 0) for step, *_ in told)] == ["align", "resample", "fuse"]
    for step in ("align", "resample", "fuse"):
        shares = [share for told_step, share, *_ in told if told_step == step]
        assert shares == sorted(shares)
        assert shares[-1] == 1


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"window": "bone"}, IntensityError, "in HU, but the PT volume"),
        ({"window": "wide"}, IntensityError, "LEVEL,WIDTH"),
        ({"palette": "rainbow"}, IntensityError, "hot-iron"),
    ],
)
def test_wrong_choices_are_refused_in_their_own_words(pet_phantom, change, error, message):
    with pytest.raises(error, match=message):
        medfuse.fuse(pet_phantom.mri, pet_phantom.partner, align="header", **change)


def test_studies_that_are_no_pair_are_refused(pet_phantom):
    with pytest.raises(StudyError, match="swap the two"):
        medfuse.fuse(pet_phantom.partner, pet_phantom.mri)
    with pytest.raises(StudyError, match="found another MR"):
        medfuse.fuse(pet_phantom.mri, pet_phantom.mri)
    bare = MetaTensor(pet_phantom.mri.as_tensor())
    with pytest.raises(StudyError, match="does not say its modality"):
        medfuse.fuse(bare, pet_phantom.partner)


def test_different_patients_are_refused_unless_told(tmp_path, pet_phantom):
    import pydicom

    pet_phantom.write_dicom(tmp_path)
    for path in (tmp_path / "partner").iterdir():
        dataset = pydicom.dcmread(path)
        dataset.PatientName, dataset.PatientID = "Other^One", "OTHER"
        dataset.save_as(path)
    mri, partner = medfuse.load(tmp_path / "mri"), medfuse.load(tmp_path / "partner")
    with pytest.raises(StudyError, match="different patients") as caught:
        medfuse.fuse(mri, partner, align="header")
    assert "Other" not in str(caught.value)
    medfuse.fuse(mri, partner, align="header", different_patients=True)


def test_an_empty_partner_cannot_be_aligned(pet_phantom):
    empty = like(torch.zeros(pet_phantom.partner.shape), pet_phantom.partner)
    with pytest.raises((RegistrationError, IntensityError)):
        medfuse.fuse(pet_phantom.mri, empty, align="rigid")


def test_every_step_keeps_world_positions():
    """The world-linear phantom through the whole line: what is linear in space stays so at its own place."""
    mri = world_linear(oblique_grid((14, 12, 10)))
    grid = oblique_grid((40, 42, 44), (1.3, 1.2, 1.6), turns=(3, 4, -9), origin=(0, 0, 0))
    around = grid.affine.copy()
    around[:3, 3] = grid_of(mri).centre - grid.centre
    grid = Grid(grid.shape, around)
    turn = np.eye(4)
    turn[:3, 3] = (1.5, -2.0, 0.75)
    data = {"mri": mri, "partner": world_linear(grid, "PT"), "registration": Registration(turn, "file", {})}
    line = Compose([Replaned("mri", "sagittal"), ResampleOntod("partner", onto="mri")])
    done = line(data)
    assert worst_linear_error(done["mri"]) < 1e-3
    shift = float(turn[:3, 3] @ (1, 2, 3))
    assert worst_linear_error(done["partner"], offset=-shift) < 1e-3
    window = medfuse.Window(float(mri.as_tensor().min()), float(mri.as_tensor().max()))
    scaled = Scaled(["mri", "partner"], window)(done)
    assert worst_linear_error(scaled["mri"], window.width, window.lower) < 1e-3

    class First(nn.Module):
        def __init__(self):
            super().__init__()
            self.parameter = nn.Parameter(torch.zeros(1))

        def forward(self, mri, partner):
            return mri + 0 * partner

    fused = FuseSlicesd("mri", "partner", network=First())(scaled)["fused"]
    assert worst_linear_error(fused, window.width, window.lower) < 1e-3


def test_a_users_own_transform_stands_between_two_of_ours(tmp_path, pet_phantom):
    pet_phantom.write_dicom(tmp_path)
    line = Compose(
        [
            LoadStudyd(["mri", "partner"]),
            Registerd("mri", "partner", "header"),
            ResampleOntod("partner", onto="mri"),
            Scaled(["mri", "partner"]),
            GaussianSmoothd("partner", sigma=1.0),
            SplitLumad("partner", "luma", "hot-iron"),
            FuseSlicesd("mri", "luma", "fused"),
            JoinColourd("fused", "partner", "hot-iron"),
        ]
    )
    done = line({"mri": tmp_path / "mri", "partner": tmp_path / "partner"})
    assert done["fused"].shape == (3, *done["mri"].shape[1:])
    assert grid_of(done["fused"]).matches(grid_of(done["mri"]))


def test_monai_loads_and_saves_through_our_reader_and_writers(tmp_path, pet_phantom):
    import nibabel as nib
    import pydicom

    from medfuse.pipeline.transforms import DicomSeriesWriter, NiftiWriter

    pet_phantom.write_dicom(tmp_path)
    loaded = LoadImage(reader=StudyReader(), ensure_channel_first=True, image_only=True)(tmp_path / "mri")
    ours = medfuse.load(tmp_path / "mri")
    assert torch.equal(loaded.as_tensor(), ours.as_tensor())
    np.testing.assert_allclose(loaded.affine, ours.affine)
    assert loaded.meta["modality"] == "MR"

    scaled = Scaled("mri")({"mri": ours})["mri"]
    options = {"output_dir": tmp_path / "saved", "separate_folder": False, "print_log": False, "output_dtype": None}
    SaveImage(writer=NiftiWriter, output_ext=".nii.gz", **options)(scaled, filename=tmp_path / "saved" / "a")
    np.testing.assert_allclose(nib.load(tmp_path / "saved" / "a.nii.gz").affine, ours.affine, atol=1e-4)
    SaveImage(writer=DicomSeriesWriter, output_ext="", **options)(scaled, filename=tmp_path / "saved" / "series")
    files = sorted((tmp_path / "saved" / "series").iterdir())
    assert len(files) == ours.shape[3]
    assert pydicom.dcmread(files[0]).StudyInstanceUID == ours.meta["source"].first.StudyInstanceUID


def test_metadata_survives_monai_copies(pet_phantom, tmp_path):
    pet_phantom.write_dicom(tmp_path)
    from copy import deepcopy

    volume = medfuse.load(tmp_path / "mri")
    assert deepcopy(volume).meta["source"] is volume.meta["source"]
    assert (volume * 2).meta["source"] is volume.meta["source"]


def test_make_volume_refuses_values_that_do_not_fill_the_grid():
    with pytest.raises(medfuse.GeometryError, match="do not fill"):
        make_volume(torch.zeros(1, 2, 3, 4), oblique_grid(), modality="MR")


def test_an_alignment_that_leaves_no_overlap_is_refused(pet_phantom):
    far = np.eye(4)
    far[0, 3] = 1000
    with pytest.raises(RegistrationError, match="do not overlap"):
        medfuse.fuse(pet_phantom.mri, pet_phantom.partner, align=Registration(far, "file", {}))


@pytest.mark.parametrize("change", [{"align": "rigidly"}, {"plane": "oblique"}, {"batch_size": 0}])
def test_unknown_choices_are_value_errors(pet_phantom, change):
    with pytest.raises(ValueError, match="must be"):
        medfuse.fuse(pet_phantom.mri, pet_phantom.partner, **change)


def test_colour_is_joined_only_on_one_grid(pet_phantom):
    study = medfuse.fuse(pet_phantom.mri, pet_phantom.partner, align="header")
    moved = study.partner.affine.clone()
    moved[0, 3] += 5
    elsewhere = MetaTensor(study.partner.as_tensor(), affine=moved)
    for odd in ("mri", "partner"):
        data = {"fused": study.mri, "mri": study.mri, "partner": study.partner} | {odd: elsewhere}
        with pytest.raises(medfuse.GeometryError):
            JoinColourd("fused", "partner", "hot-iron")(data)


def test_accepted_differences_of_identity_are_recorded(pet_phantom):
    study = medfuse.fuse(pet_phantom.mri, pet_phantom.partner, align="header", different_patients=True)
    assert study.sidecar()["Medfuse"]["different_patients"]
    assert "different patients" in study.provenance.sentence()


def test_an_input_file_is_never_replaced(tmp_path, pet_phantom):
    import nibabel as nib

    for name, volume in (("mri", pet_phantom.mri), ("partner", pet_phantom.partner)):
        image = nib.Nifti1Image(volume.as_tensor()[0].numpy(), np.asarray(volume.affine))
        nib.save(image, tmp_path / f"{name}.nii.gz")
    mri, partner = medfuse.load(tmp_path / "mri.nii.gz", "MR"), medfuse.load(tmp_path / "partner.nii.gz", "PT")
    study = medfuse.fuse(mri, partner, align="header")
    before = (tmp_path / "mri.nii.gz").read_bytes()
    with pytest.raises(medfuse.ExportError, match="input"):
        study.write_nifti(tmp_path / "mri.nii.gz", overwrite=True)
    assert (tmp_path / "mri.nii.gz").read_bytes() == before
    study.write_nifti(tmp_path / "fused.nii.gz")


@pytest.mark.parametrize(
    "given",
    [
        *("mri", Path("mri"), None, 5, np.zeros((4, 4, 4)), torch.zeros(1, 4, 4, 4), ["mri"], {"image": 1}),
        *(nib.Nifti1Image(np.zeros((4, 4, 4)), np.eye(4)), MetaTensor(torch.zeros(3, 4, 4, 4))),
    ],
    ids=lambda given: type(given).__name__,
)
def test_what_is_no_volume_is_answered_with_how_to_load_one(given):
    volume = medfuse.phantom_study("PT", coarsen=10).mri
    for call in (medfuse.fuse, medfuse.register):
        for arguments in ((given, volume), (volume, given)):
            with pytest.raises(StudyError, match=r"medfuse\.load\(path.*") as refused:
                call(*arguments)
            assert type(given).__name__ in str(refused.value) or "None" in str(refused.value)
