"""``medfuse align``, and what ``medfuse fuse`` does with alignments that are given or forced."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from typer.testing import CliRunner, Result

import medfuse
from medfuse.cli import app


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.fixture(scope="module")
def phantom():
    return medfuse.phantom_study("PT", coarsen=2.5)


@pytest.fixture(scope="module")
def study(phantom, tmp_path_factory):
    folder = tmp_path_factory.mktemp("study")
    phantom.write_dicom(folder)
    return folder


@pytest.fixture(scope="module")
def mirrored(study, tmp_path_factory):
    """The PET's series, its pictures exchanged left for right."""
    folder = tmp_path_factory.mktemp("mirrored")
    for path in (study / "partner").iterdir():
        file = pydicom.dcmread(path)
        file.PixelData = np.ascontiguousarray(file.pixel_array[:, ::-1]).tobytes()
        file.save_as(folder / path.name)
    return folder


def test_the_map_the_picture_and_one_json_object(study, phantom, tmp_path):
    out = tmp_path / "map.tfm"
    done = run("align", study / "mri", study / "partner", "--out", out, "--json")
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    assert found["verdict"] == "aligned"
    assert 0 < found["error_mm"] < 3
    assert found["seconds"] > 0
    assert "research use only" in found["disclaimer"].lower()
    point = np.append(phantom.landmarks["left eye"], 1)
    np.testing.assert_allclose(np.array(found["matrix"]) @ point, phantom.truth @ point, atol=2)
    assert (tmp_path / "map.png").read_bytes().startswith(b"\x89PNG")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["map.png", "map.tfm"]
    lps = point[:3] * (-1, -1, 1)
    theirs = np.array(sitk.ReadTransform(str(out)).TransformPoint(lps)) * (-1, -1, 1)
    np.testing.assert_allclose(theirs, (np.array(found["matrix"]) @ point)[:3], atol=1e-6)
    again = run("align", study / "mri", study / "partner", "--out", out)
    assert again.exit_code == 5
    assert "overwrit" in again.output


def test_what_is_not_aligned_leaves_nothing(study, mirrored, tmp_path):
    done = run("align", study / "mri", mirrored, "--out", tmp_path / "map.tfm", "--json")
    assert done.exit_code == 4
    refused = json.loads(done.stdout)
    assert "left and right seem exchanged" in refused["error"]["message"]
    assert refused["refused"]["verdict"] == "not aligned"
    assert refused["refused"]["evidence"]["mirrored"] > 1.02
    assert list(tmp_path.iterdir()) == []
    refused = run("align", study / "mri", mirrored, "--out", tmp_path / "map.nii")
    assert refused.exit_code == 2


@pytest.mark.slow
@pytest.mark.parametrize("suffix", [".dcm", ".txt"])
def test_a_map_that_is_forced_is_marked(study, mirrored, tmp_path, suffix):
    out = tmp_path / f"map{suffix}"
    done = run("align", study / "mri", mirrored, "--out", out, "--force", "--json")
    assert done.exit_code == 0, done.output
    if suffix == ".txt":
        assert "NOT ALIGNED" in out.read_text().splitlines()[0]
        assert medfuse.Registration.load(out).matrix.shape == (4, 4)
    else:
        written = pydicom.dcmread(out)
        assert written.SeriesDescription == "ALIGNMENT PT to MR NOT ALIGNED"
        assert written.ContentDescription.endswith("NOT ALIGNED")


def test_two_patients_are_not_aligned_unless_it_is_said(study, tmp_path):
    other = tmp_path / "other"
    other.mkdir()
    for path in (study / "partner").iterdir():
        file = pydicom.dcmread(path)
        file.PatientName, file.PatientID = "Somebody^Else", "4711"
        file.save_as(other / path.name)
    out = tmp_path / "map.tfm"
    done = run("align", study / "mri", other, "--out", out)
    assert done.exit_code == 3
    assert "different patients" in done.output
    assert "4711" not in done.output
    assert not out.exists()
    done = run("align", study / "mri", other, "--out", out, "--different-patients")
    assert done.exit_code == 0, done.output
    assert run("align", study / "mri", study / "mri", "--out", tmp_path / "same.tfm").exit_code == 3


def test_a_volume_of_several_is_named(study, tmp_path):
    partner = medfuse.load(study / "partner")
    both = np.stack([np.zeros(partner.shape[1:]), partner[0].numpy()], axis=-1).astype(np.float32)
    nib.save(nib.Nifti1Image(both, partner.affine.numpy()), tmp_path / "both.nii")
    asked = ("align", study / "mri", tmp_path / "both.nii", "--modality", "PT", "--out", tmp_path / "map.tfm")
    done = run(*asked)
    assert done.exit_code == 3
    assert "--moving-volume" in done.output
    done = run(*asked, "--moving-volume", 1)
    assert done.exit_code == 0, done.output


@pytest.mark.slow
def test_a_partner_beside_nifti(study, tmp_path):
    out = tmp_path / "out"
    done = run("fuse", study / "mri", study / "partner", "--out", out, "--format", "nifti", "--with-partner", "--json")
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["partner_nifti"] == str(out / "partner.nii.gz")
    written, fused = nib.load(out / "partner.nii.gz"), nib.load(out / "fused.nii.gz")
    np.testing.assert_allclose(written.affine, fused.affine, atol=1e-5)
    stored = medfuse.load(study / "partner")
    assert written.get_data_dtype() == np.float32
    assert written.get_fdata().max() == pytest.approx(float(stored.max()), rel=0.2)
    assert json.loads((out / "partner.json").read_text())["Units"] == stored.meta["unit"]
    again = run(
        *("fuse", study / "mri", study / "partner", "--out", tmp_path / "again"),
        *("--format", "nifti", "--align", out / "registration.tfm"),
    )
    assert again.exit_code == 0, again.output


@pytest.mark.slow
def test_what_is_forced_is_marked(study, mirrored, tmp_path):
    out = tmp_path / "out"
    assert run("fuse", study / "mri", mirrored, "--out", out).exit_code == 4
    assert not out.exists()
    done = run("fuse", study / "mri", mirrored, "--out", out, "--force", "--with-partner", "--json")
    assert done.exit_code == 0, done.output
    assert "NOT ALIGNED" in json.loads(done.stdout)["verdict"]
    for part in ("dicom", "partner"):
        header = pydicom.dcmread(next((out / part).iterdir()), stop_before_pixels=True)
        assert header.SeriesDescription.endswith("NOT ALIGNED")
        assert "NOT ALIGNED, FORCED" in header.DerivationDescription
    assert json.loads((out / "fused.json").read_text())["Medfuse"]["registration"]["verdict"] == "not aligned"


def test_the_map_as_a_registration_object(study, tmp_path):
    out = tmp_path / "map.dcm"
    done = run("align", study / "mri", study / "partner", "--out", out, "--json")
    assert done.exit_code == 0, done.output
    assert sorted(path.name for path in tmp_path.iterdir()) == ["map.dcm", "map.png"]
    written = pydicom.dcmread(out)
    assert written.Modality == "REG"
    assert written.SeriesDescription == "ALIGNMENT PT to MR"
    mri, partner = medfuse.load(study / "mri"), medfuse.load(study / "partner")
    read = medfuse.Registration.load(out, mri, partner)
    np.testing.assert_allclose(read.matrix, json.loads(done.stdout)["matrix"], atol=1e-5)


def test_a_registration_object_needs_two_dicom_series(study, tmp_path):
    mri = medfuse.load(study / "mri")
    nib.save(nib.Nifti1Image(mri[0].numpy(), mri.affine.numpy()), tmp_path / "mri.nii")
    done = run("align", tmp_path / "mri.nii", study / "partner", "--out", tmp_path / "map.dcm")
    assert done.exit_code == 5
    assert "two DICOM series" in done.output
    assert [path.name for path in tmp_path.iterdir()] == ["mri.nii"]


@pytest.mark.slow
def test_a_registration_object_aligns_as_the_map_it_holds(study, tmp_path):
    first = tmp_path / "first"
    done = run("fuse", study / "mri", study / "partner", "--out", first, "--with-partner", "--json")
    assert done.exit_code == 0, done.output
    wanted = json.loads(done.stdout)["provenance"]["registration"]["matrix"]
    for name, given in (("file", first / "registration" / "0001.dcm"), ("folder", first / "registration")):
        done = run(
            *("fuse", study / "mri", study / "partner", "--out", tmp_path / name, "--align", given),
            *("--format", "nifti", "--json"),
        )
        assert done.exit_code == 0, done.output
        registration = json.loads(done.stdout)["provenance"]["registration"]
        assert registration["method"] == "file"
        assert registration["verdict"] == "aligned"
        np.testing.assert_allclose(registration["matrix"], wanted, atol=1e-5)
    absent = run("fuse", study / "mri", study / "partner", "--out", tmp_path / "no", "--align", Path("nowhere"))
    assert absent.exit_code == 2
