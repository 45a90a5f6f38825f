"""What ``medfuse fuse --attribution`` writes beside the result, in either format, whole or not at all."""

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from typer.testing import CliRunner
from written_series import validate

from medfuse.cli import app


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pair")
    x, y, _ = np.meshgrid(*(np.arange(n) for n in (20, 24, 5)), indexing="ij")
    for name, values in (("mri", 100.0 * (x > 9)), ("pet", 8.0 * (y > 11))):
        nib.save(nib.Nifti1Image(values.astype(np.float32), np.diag([-2.0, -2.0, 3.0, 1.0])), folder / f"{name}.nii")
    return [str(folder / "mri.nii"), str(folder / "pet.nii"), "--modality", "PET", "--align", "header", "--force"]


def fuse(pair, out, *more):
    asked = ["fuse", *pair, "--out", str(out), "--method", "average", "--json", "--attribution", *more]
    done = CliRunner().invoke(app, asked)
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)


def test_both_formats(pair, tmp_path):
    told = fuse(pair, tmp_path / "out")
    assert told["attribution"].endswith("attribution")
    stored = nib.load(told["attribution_nifti"])
    assert stored.shape == (20, 24, 5, 3)
    mri, partner, neither = np.moveaxis(stored.get_fdata(), -1, 0)
    assert not neither.any()
    np.testing.assert_allclose(mri[15], 0.5, atol=1e-6)
    assert not mri[5].any()
    sidecar = json.loads((tmp_path / "out" / "attribution.json").read_text())
    assert sidecar["Volumes"] == ["mri", "partner", "neither"]
    assert "esearch use" in json.dumps(sidecar)
    files = sorted((tmp_path / "out" / "attribution").glob("*.dcm"))
    assert len(files) == 5
    dataset = pydicom.dcmread(files[2])
    assert dataset.SeriesDescription.startswith("ATTRIBUTION")
    assert "esearch use" in dataset.DerivationDescription
    assert (
        dataset.StudyInstanceUID == pydicom.dcmread(next((tmp_path / "out" / "dicom").glob("*.dcm"))).StudyInstanceUID
    )
    red, blue = dataset.pixel_array[..., 0], dataset.pixel_array[..., 2]
    assert set(np.unique(blue)) <= {0, 127, 128}  # half of 255 lies between two
    assert blue.max() >= 127
    assert np.abs(np.unique(red) / 255 - np.unique(partner.astype(np.float32))).max() < 0.003


def test_other_programs_read_both(pair, tmp_path):
    told = fuse(pair, tmp_path / "out")
    mri = sitk.ReadImage(pair[0])
    parts = sitk.ReadImage(told["attribution_nifti"])
    assert parts.GetSize() == (20, 24, 5, 3)
    first = sitk.Extract(parts, (20, 24, 5, 0), (0, 0, 0, 0))
    np.testing.assert_allclose(first.GetOrigin(), mri.GetOrigin(), atol=1e-4)
    np.testing.assert_allclose(first.GetSpacing(), mri.GetSpacing(), atol=1e-4)
    folder = told["attribution"]
    series = sitk.ReadImage(sitk.ImageSeriesReader.GetGDCMSeriesFileNames(folder))
    assert series.GetSize() == (20, 24, 5)
    for image in (first, series):
        # A place in the patient shows the same in both: the MRI's bright half, in blue.
        place = mri.TransformIndexToPhysicalPoint((15, 4, 2))
        value = image[image.TransformPhysicalPointToIndex(place)]
        assert (value[2] if image is series else value * 255) == pytest.approx(127.5, abs=0.6)
    for path in Path(folder).glob("*.dcm"):
        said = validate(["dciodvfy", "-new", path]).splitlines()
        assert "SCImage" in said
        # It warns of what NIfTI does not tell, such as whose it is.
        assert all(line == "SCImage" or line.startswith("Warning") for line in said)


def test_one_format_and_overwrite(pair, tmp_path):
    out = tmp_path / "out"
    fuse(pair, out, "--format", "nifti")
    assert {entry.name for entry in out.iterdir()} >= {"attribution.nii.gz", "attribution.json"}
    assert not (out / "attribution").exists()
    told = fuse(pair, out, "--format", "dicom", "--overwrite")
    assert "attribution_nifti" not in told
    assert not (out / "attribution.nii.gz").exists()
    assert (out / "attribution").is_dir()
