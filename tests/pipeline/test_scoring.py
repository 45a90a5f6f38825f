import json

import nibabel as nib
import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

import medfuse
from medfuse import dicom, nifti
from medfuse.cli import app
from medfuse.errors import IntensityError, SeriesError
from medfuse.metrics import SCORES, flicker
from medfuse.metrics import score as score_tensors
from medfuse.pipeline.scoring import score_files, score_study
from medfuse.registration import resample
from medfuse.volume import grid_of, plain


@pytest.fixture
def run():
    def command(*arguments):
        return CliRunner().invoke(app, ["score", *map(str, arguments)])

    return command


@pytest.fixture(scope="module")
def triple():
    """Fused, MRI and partner (3, 1, H, W) uint8."""
    generator = np.random.default_rng(4)
    y, x = np.mgrid[-1:1:60j, -1:1:53j]
    sources = [
        np.stack([(100 + 90 * np.sin(a * x + k) * np.cos(b * y) + generator.normal(0, 5, x.shape)) for k in range(3)])
        for a, b in ((3, 5), (7, 2))
    ]
    mri, partner = (torch.from_numpy(one.clip(0, 255).astype(np.uint8))[:, None] for one in sources)
    return torch.maximum(mri, partner), mri, partner


@pytest.fixture
def folders(triple, tmp_path):
    for name, pictures in zip(("fused", "mri", "partner"), triple, strict=True):
        (tmp_path / name).mkdir()
        for number, picture in enumerate(pictures):
            Image.fromarray(picture[0].numpy()).save(tmp_path / name / f"{number}.png")
    return [tmp_path / name for name in ("fused", "mri", "partner")]


@pytest.fixture(scope="module")
def study():
    phantom = medfuse.phantom_study("PT", coarsen=3)
    return medfuse.fuse(phantom.mri, phantom.partner, align="header")


@pytest.fixture(scope="module")
def volumes(study, tmp_path_factory):
    """A fused study in files, and both sources in their own units on its grid."""
    folder = tmp_path_factory.mktemp("volumes")
    phantom = medfuse.phantom_study("PT", coarsen=3)
    partner = resample(phantom.partner, grid_of(phantom.mri), None, outside=0.0)
    for name, volume in (("mri", phantom.mri), ("pet", partner)):
        nib.save(nib.nifti1.Nifti1Image(plain(volume)[0].numpy(), grid_of(volume).affine), folder / f"{name}.nii.gz")
    study.write_nifti(folder / "fused.nii.gz")
    study.write_dicom(folder / "dicom")
    return folder


def test_pictures_are_scored(run, folders, triple):
    done = run(*(folder / "1.png" for folder in folders), "--json")
    assert done.exit_code == 0, done.output
    assert done.stderr == ""
    result = json.loads(done.stdout)
    expected = score_tensors(*(pictures[1:2] for pictures in triple))
    assert result["kind"] == "picture"
    assert list(result["scores"]) == ["ssim", "sd", "mi", "vif", "scd", "qabf"]
    for name, values in expected.items():
        assert result["scores"][name]["mean"] == pytest.approx(float(values))


def test_a_window_is_refused_where_pictures_are_scored(run, folders):
    for way in (("--palette", "hot-iron"), ("--window", "40,80")):
        done = run(*(folder / "1.png" for folder in folders), *way)
        assert done.exit_code == 3
        assert "Leave both out" in done.stderr


def test_folders_are_paired_by_name(run, folders, triple):
    (folders[1] / "1.png").rename(folders[1] / "1.bmp")
    done = run(*folders, "--scores", "mi, cc,mi", "--json")
    result = json.loads(done.stdout)
    expected = score_tensors(*triple, ["mi", "cc"])
    assert result["scored"] == 3
    assert {name: one["each"] for name, one in result["scores"].items()} == {
        name: pytest.approx(values.tolist()) for name, values in expected.items()
    }
    table = run(*folders, "--scores", "all")
    assert table.exit_code == 0, table.output
    assert "3 pictures" in table.stdout
    assert all(name in table.stdout for name in SCORES)


def test_pictures_of_a_folder_may_differ_in_size(folders, triple):
    for folder, pictures in zip(folders, triple, strict=True):
        Image.fromarray(pictures[1, 0, 5:, 4:].numpy()).save(folder / "1.png")
    values = score_files(*folders, ["cc"]).values["cc"]
    expected = score_tensors(*(pictures[1:2, :, 5:, 4:] for pictures in triple), ["cc"])["cc"]
    assert values[1] == pytest.approx(float(expected))
    assert values[2] == pytest.approx(float(score_tensors(*triple, ["cc"])["cc"][2]))


def test_colour_is_read_as_luma(folders):
    before = score_files(*folders, ["cc"])
    for path in folders[2].iterdir():
        Image.open(path).convert("RGB").save(path)
    assert torch.equal(score_files(*folders, ["cc"]).values["cc"], before.values["cc"])


@pytest.mark.parametrize("form", ["fused.nii.gz", "dicom"])
def test_a_volume_is_scored_as_it_was_fused(run, volumes, study, form):
    arguments = (volumes / form, volumes / "mri.nii.gz", volumes / "pet.nii.gz", "--modality", "PT")
    done = run(*arguments, "--scores", "ssim,detail_mri", "--json")
    assert done.exit_code == 0, done.output
    result = json.loads(done.stdout)
    expected = score_study(study, ["ssim", "detail_mri"])
    assert result["kind"] == "volume"
    assert result["scored"] + result["left_out"] == study.image.shape[-1]
    assert 0 < expected.left_out < expected.count
    for name, values in expected.values.items():
        assert result["scores"][name]["each"] == pytest.approx(values.tolist(), abs=2e-3), name
    assert result["flicker"] == pytest.approx(expected.flicker, rel=1e-2)
    table = run(*arguments)
    assert f"{expected.count} slices; {expected.left_out} that show nothing left out" in table.stdout
    assert "flicker" in table.stdout


def test_a_study_is_scored_in_any_plane(study, volumes):
    phantom = medfuse.phantom_study("CT", coarsen=3)
    coronal = medfuse.fuse(phantom.mri, phantom.partner, align="header", plane="coronal", window="bone")
    coronal.write_nifti(volumes / "coronal.nii.gz")
    partner = resample(phantom.partner, grid_of(phantom.mri), None, outside=-1000.0)
    nib.save(nib.nifti1.Nifti1Image(plain(partner)[0].numpy(), grid_of(partner).affine), volumes / "ct.nii.gz")
    paths = [volumes / f"{name}.nii.gz" for name in ("coronal", "mri", "ct")]
    found = score_files(*paths, ["cc"], modality="CT", window="bone")
    torch.testing.assert_close(found.values["cc"], score_study(coronal, ["cc"]).values["cc"], atol=1e-3, rtol=0)
    assert found.flicker > 0


def test_fused_volumes_are_read_back(study, volumes):
    for read, path in ((nifti.read_fused, volumes / "fused.nii.gz"), (dicom.read_fused, volumes / "dicom")):
        back = read(path)
        assert torch.equal(plain(back), plain(study.image))
        assert grid_of(back).matches(grid_of(study.image))
    assert flicker(*(torch.rand(5, 1, 4, 4) for _ in range(3))) > 0


def test_grey_fused_volumes_are_read_back(tmp_path):
    phantom = medfuse.phantom_study("CT", coarsen=4)
    grey = medfuse.fuse(phantom.mri, phantom.partner, align="header")
    grey.write_nifti(tmp_path / "fused.nii")
    grey.write_dicom(tmp_path / "dicom")
    for read, path in ((nifti.read_fused, tmp_path / "fused.nii"), (dicom.read_fused, tmp_path / "dicom")):
        torch.testing.assert_close(plain(read(path)), plain(grey.image), atol=1e-5, rtol=0)


def test_what_is_no_fused_volume_is_refused(volumes, tmp_path):
    with pytest.raises(IntensityError, match=r"grey values in \[0, 1\]"):
        nifti.read_fused(volumes / "mri.nii.gz")
    medfuse.phantom_study("PT", coarsen=4).write_dicom(tmp_path)
    with pytest.raises(SeriesError, match="expected one fused series"):
        dicom.read_fused(tmp_path)


@pytest.fixture
def wrong(folders, volumes, tmp_path):
    places = dict(zip(("fused", "mri", "partner"), folders, strict=True))
    places |= {f"{name}.png": folder / "0.png" for name, folder in places.items()}
    places["absent"] = tmp_path / "absent"
    places["text.png"] = tmp_path / "text.png"
    places["text.png"].write_text("text")
    places["deep.png"] = tmp_path / "deep.png"
    Image.fromarray(np.zeros((60, 53), dtype=np.uint16)).save(places["deep.png"])
    places["small.png"] = tmp_path / "small.png"
    Image.fromarray(np.zeros((30, 30), dtype=np.uint8)).save(places["small.png"])
    places["odd"] = tmp_path / "odd"
    places["odd"].mkdir()
    Image.fromarray(np.zeros((60, 53), dtype=np.uint8)).save(places["odd"] / "other.png")
    places["fused.nii"], places["mri.nii"] = volumes / "fused.nii.gz", volumes / "mri.nii.gz"
    shifted = nib.load(volumes / "pet.nii.gz")
    affine = shifted.affine.copy()
    affine[0, 3] += 5
    places["shifted.nii"] = tmp_path / "shifted.nii"
    nib.save(nib.nifti1.Nifti1Image(shifted.get_fdata(dtype=np.float32), affine), places["shifted.nii"])
    return places


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (("absent", "mri.png", "partner.png"), "there is no file or folder"),
        (("fused.png", "mri", "partner"), "found a picture, a folder of pictures and a folder of pictures"),
        (("text.png", "mri.png", "partner.png"), "no readable picture"),
        (("deep.png", "mri.png", "partner.png"), "8-bit grey or colour"),
        (("small.png", "mri.png", "partner.png"), "found 30 × 30, 53 × 60, 53 × 60"),
        (("small.png", "small.png", "small.png"), "at least 41 × 41"),
        (("odd", "mri", "partner"), "with 0 names in all three"),
        (("fused.nii", "mri.nii", "shifted.nii"), "scores need one grid"),
    ],
)
def test_wrong_input_gets_one_sentence(run, wrong, names, message):
    done = run(*(wrong[name] for name in names), "--modality", "PT")
    assert done.exit_code == 3, done.output
    assert message in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert done.stdout == ""
    told = run(*(wrong[name] for name in names), "--modality", "PT", "--json")
    assert message in json.loads(told.stdout)["error"]["message"]


def test_a_nifti_partner_needs_its_modality(run, volumes):
    done = run(*(volumes / f"{name}.nii.gz" for name in ("fused", "mri", "pet")))
    assert done.exit_code == 3
    assert "--modality" in done.stderr


@pytest.mark.parametrize(
    "arguments", [["--scores", "ssim,beauty"], ["--scores", ","], ["--device", "cuda:77"], ["--nonsense"]]
)
def test_usage_errors_exit_with_2(run, folders, arguments):
    assert run(*folders, *arguments).exit_code == 2
