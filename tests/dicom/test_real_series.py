"""Every series of the shared data folder: read as dcm2niix reads it, or refused with its reason."""

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
from dcm2niix_oracle import dcm2niix, differences, nearest, needs_dcm2niix

import medfuse
from medfuse.dicom import scan
from medfuse.dicom.reading.volume import read_series
from medfuse.errors import SeriesError
from medfuse.volume import grid_of

VOLUMES = {
    "dcm_qa_12bit/In": 3,
    "dcm_qa_enh/In/Philips": 2,
    "dcm_qa_enh/In/Siemens/XA10": 4,
    "dcm_qa_ts/In": 9,
    "dicom2nifti/failing/slicecount/001": 1,
    "dicom2nifti/failing/sliceorientation/001": 2,
    "dicom2nifti/ge/anatomical/001": 1,
    "dicom2nifti/ge/anatomical/001_implicit": 1,
    "dicom2nifti/generic/anatomical/001": 1,
    "dicom2nifti/generic/anatomical/001_implicit": 1,
    "dicom2nifti/generic/anatomical/002_non_isotropic": 1,
    "dicom2nifti/generic/compressed/001": 1,
    "dicom2nifti/generic/compressed_j2k/001": 1,
    "dicom2nifti/generic/compressed_jpeg/001": 1,
    "dicom2nifti/generic/compressed_jpegls/001": 1,
    "dicom2nifti/generic/compressed_rle/001": 1,
    "dicom2nifti/hitachi/anatomical/001": 1,
    "dicom2nifti/hitachi/anatomical/001_implicit": 1,
    "dicom2nifti/hyperfine/anatomical/001": 1,
    "dicom2nifti/philips_enhanced/anatomical/001": 1,
    "dicom2nifti/philips_enhanced/anatomical/001_implicit": 1,
    "dicom2nifti/siemens/anatomical/001": 1,
    "dicom2nifti/siemens/anatomical/001_implicit": 1,
    "dicom2nifti/siemens_multiframe/anatomical/001": 1,
    "pynemaiqpet/data/pet_recon_1": 1,
    "pynemaiqpet/data/pet_recon_2": 1,
}
"""Folders and the number of volumes in each."""

REFUSED = {
    "dicom2nifti/failing/notavolume/001": "lie at the same position",
    "dicom2nifti/failing/sliceincrement/001": "1 slice seems to be missing",
    "dicom2nifti/failing/sliceincrement/002": "1 slice seems to be missing",
    "dicom2nifti/generic/rgb/001": "is Secondary Capture Image Storage",
    "dicom2nifti/ge/anatomical/001_single_slice": "one slice only",
}
TILTED = "dicom2nifti/failing/gantrytilting/001"


def test_no_folder_is_left_out(shared_data):
    root = shared_data / "series"
    files = (path for path in root.rglob("*") if path.is_file() and not path.name.startswith("LICENSE"))
    folders = {
        path.parent.relative_to(root).as_posix()
        for path in files
        if not path.name.endswith((".nii", ".gz", ".json", ".png", ".bval", ".bvec"))
    }
    assert folders == {*VOLUMES, *REFUSED, TILTED}


@needs_dcm2niix
@pytest.mark.validator
@pytest.mark.parametrize("folder", VOLUMES)
def test_dcm2niix_reads_the_same(shared_data, tmp_path, folder):
    found = scan(shared_data / "series" / folder).series
    assert [series.problem for series in found] == [None] * VOLUMES[folder]
    judged = dcm2niix(shared_data / "series" / folder, tmp_path)
    for series in found:
        volume = read_series(series, shared_data / "series" / folder)
        apart, different = nearest(volume, judged)
        assert apart < 1e-3
        # dcm2niix stores slopes in single precision.
        assert different <= 2e-7 * float(volume.as_tensor().abs().max())


@pytest.mark.parametrize("folder", REFUSED)
def test_what_is_no_volume_is_refused_with_the_reason(shared_data, folder):
    with pytest.raises(SeriesError, match=REFUSED[folder]):
        medfuse.load(shared_data / "series" / folder)


def test_a_tilted_gantry_is_placed_slice_by_slice_as_simple_itk_places_it(shared_data):
    """dcm2niix resamples tilted series, and its affine of the stored slices is that of no slice but the first."""
    loaded = medfuse.load(shared_data / "series" / TILTED)
    grid = grid_of(loaded)
    assert grid.sheared
    for k, header in enumerate(loaded.meta["source"].headers):
        picture = sitk.ReadImage(header.filename)
        for i, j in ((0, 0), (511, 0), (37, 499)):
            lps = picture.TransformIndexToPhysicalPoint((i, j, 0))
            np.testing.assert_allclose(grid.world((i, j, k)) * (-1, -1, 1), lps, atol=1e-3)
        stored = sitk.GetArrayFromImage(picture)[0].T
        np.testing.assert_array_equal(loaded.as_tensor()[0, :, :, k].numpy(), stored)


def test_the_authors_reference_conversions_agree(shared_data):
    compared = 0
    for folder in VOLUMES:
        path = shared_data / "series" / f"{folder}_ground_truth.nii.gz"
        if path.exists():
            apart, different = differences(
                medfuse.load(shared_data / "series" / folder), nib.squeeze_image(nib.load(path))
            )
            assert (apart < 1e-3, different < 1e-3) == (True, True), folder
            compared += 1
    assert compared >= 15
