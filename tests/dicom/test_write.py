import json
import warnings

import numpy as np
import pydicom
import pytest
import torch
from synthetic import acquired, oblique_grid, world_linear, worst_linear_error
from written_series import CLEAN, GRIDS, at_world, fused_on, provenance, read_back, sources, validate

import medfuse
from medfuse.dicom import write_series
from medfuse.dicom.simulate import write_acquisition
from medfuse.errors import ExportError, GeometryError
from medfuse.volume import grid_of, like, make_volume
from medfuse.volume.grid import Grid
from medfuse.volume.planes import replane


@pytest.mark.parametrize("name", GRIDS)
@pytest.mark.parametrize("channels", [1, 3])
def test_simple_itk_finds_every_pixel_in_its_place(tmp_path, name, channels):
    mri, partner = sources(tmp_path, GRIDS[name])
    image = fused_on(mri, channels)
    write_series(image, tmp_path / "out", partner=partner.meta["source"], provenance=provenance())
    values, affine = read_back(tmp_path / "out")
    grid = grid_of(image)
    index = np.stack(np.meshgrid(*(np.arange(length) for length in grid.shape), indexing="ij"), -1).reshape(-1, 3)
    expected = image.as_tensor().movedim(0, -1).numpy()[tuple(index.T)]
    found = at_world(values, affine, grid.world(index)).reshape(expected.shape)
    np.testing.assert_array_equal(found, expected if channels == 3 else np.rint(expected * 65535.0))


@pytest.mark.parametrize("plane", ["axial", "coronal", "sagittal"])
def test_other_planes_keep_every_place(tmp_path, plane):
    mri, partner = sources(tmp_path, GRIDS["oblique"])
    linear = world_linear(grid_of(mri)).as_tensor()
    scaled = (linear - linear.min()) / (linear.max() - linear.min())
    image = replane(like(scaled, mri), plane)
    write_series(image, tmp_path / "out", partner=partner.meta["source"], provenance=provenance(palette=None))
    back = medfuse.load(tmp_path / "out")
    scale = float(linear.max() - linear.min()) / 65535
    assert worst_linear_error(back, scale, float(linear.min())) < 0.01
    assert grid_of(back).axcodes == grid_of(image).axcodes


def test_a_volume_without_headers_is_written_in_the_usual_view(tmp_path):
    grid = Grid((9, 11, 7), np.diag([-2.0, 2.0, 2.0, 1.0]))
    image = make_volume(torch.rand(1, 9, 11, 7), grid, modality="MR")
    write_series(image, tmp_path / "out", partner=None, provenance=provenance(palette=None))
    first = pydicom.dcmread(tmp_path / "out" / "0001.dcm")
    assert list(first.ImageOrientationPatient) == [1, 0, 0, 0, 1, 0]
    assert list(first.PatientOrientation) == ["L", "P"]
    assert (first.PatientName, first.PatientID) == ("", "")
    assert first.StudyInstanceUID.startswith("2.25.")


def test_identity_passes_and_nothing_else(tmp_path):
    volume, _, _ = acquired(oblique_grid())
    write_acquisition(volume, tmp_path / "mri", study=1, series_number=2)
    for path in (tmp_path / "mri").iterdir():
        dataset = pydicom.dcmread(path)
        dataset.PatientName, dataset.PatientID, dataset.AccessionNumber = "Müller^Jörg", "17-4", "A9"
        dataset.EchoTime = "2.980"
        dataset.InstitutionName, dataset.OperatorsName, dataset.PatientComments = "Clinic", "Op^Era", "secret"
        dataset.private_block(0x0019, "VENDOR", create=True).add_new(1, "LO", "private")
        dataset.save_as(path)
    mri = medfuse.load(tmp_path / "mri")
    write_series(fused_on(mri, 1), tmp_path / "out", partner=None, provenance=provenance(palette=None))
    written = pydicom.dcmread(tmp_path / "out" / "0003.dcm")
    source = mri.meta["source"].first
    for keyword in (
        "PatientName",
        "PatientID",
        "AccessionNumber",
        "StudyInstanceUID",
        "FrameOfReferenceUID",
        "StudyDate",
    ):
        assert written.get(keyword) == source.get(keyword)
    assert written["EchoTime"].value.original_string == "2.980"
    text = written.to_json()
    for secret in ("Clinic", "Op^Era", "secret", "private", "phantom^"):
        assert secret not in text
    assert written.SeriesInstanceUID != source.SeriesInstanceUID
    assert not [element for element in written if element.tag.is_private]


def test_references_name_the_slices_that_were_used(tmp_path):
    mri, partner = sources(tmp_path, GRIDS["oblique"], "NM")
    matrix = np.eye(4)
    matrix[2, 3] = 2.0
    write_series(
        fused_on(mri, 3), tmp_path / "out", partner=partner.meta["source"], provenance=provenance("NM", matrix=matrix)
    )
    headers = mri.meta["source"].headers
    written = pydicom.dcmread(tmp_path / "out" / "0005.dcm")
    base, moved = written.SourceImageSequence
    assert base.ReferencedSOPInstanceUID == headers[4].SOPInstanceUID
    assert base.SpatialLocationsPreserved == "YES"
    assert moved.SpatialLocationsPreserved == "NO"
    grid, other = grid_of(mri), grid_of(partner)
    corners = grid.world(np.array([(i, j, 4) for i in (0, 16) for j in (0, 21)])) + np.array((0, 0, 2))
    heights = other.index(corners)[:, 2].clip(0, 13)
    frames = list(np.atleast_1d(moved.ReferencedFrameNumber))
    assert frames == list(range(int(np.floor(heights.min())) + 1, int(np.ceil(heights.max())) + 2))
    assert len(written.ReferencedSeriesSequence) == 2


def test_grey_uses_all_16_bits_and_shows_them(tmp_path):
    mri, _ = sources(tmp_path, GRIDS["oblique"])
    image = like(torch.linspace(0, 1, 17 * 22 * 13).reshape(1, 17, 22, 13), mri)
    write_series(image, tmp_path / "out", partner=None, provenance=provenance(palette=None))
    files = [pydicom.dcmread(path) for path in sorted((tmp_path / "out").iterdir())]
    stored = np.stack([file.pixel_array for file in files])
    assert (stored.min(), stored.max()) == (0, 65535)
    shown = pydicom.pixels.apply_windowing(stored[:1], files[0])
    np.testing.assert_allclose(shown, stored[:1], atol=1)
    assert "VOILUTFunction" not in files[0]


def test_loss_in_a_source_is_inherited(tmp_path):
    mri, partner = sources(tmp_path, GRIDS["oblique"])
    partner.meta["source"].first.LossyImageCompression = "01"
    partner.meta["source"].first.LossyImageCompressionRatio = "12.5"
    write_series(fused_on(mri, 3), tmp_path / "out", partner=partner.meta["source"], provenance=provenance())
    written = pydicom.dcmread(tmp_path / "out" / "0001.dcm")
    assert written.LossyImageCompression == "01"
    assert float(written.LossyImageCompressionRatio) == 12.5


def test_every_value_passes_strict_validation(tmp_path, monkeypatch):
    monkeypatch.setattr(pydicom.config.settings, "writing_validation_mode", pydicom.config.RAISE)
    mri, partner = sources(tmp_path, GRIDS["oblique"])
    for channels in (1, 3):
        write_series(
            fused_on(mri, channels), tmp_path / str(channels), partner=partner.meta["source"], provenance=provenance()
        )


def test_two_runs_differ_in_identifiers_and_times_alone(tmp_path):
    mri, partner = sources(tmp_path, GRIDS["oblique"])
    for name in "ab":
        write_series(fused_on(mri, 3), tmp_path / name, partner=partner.meta["source"], provenance=provenance())
    a, b = (pydicom.dcmread(tmp_path / name / "0004.dcm") for name in "ab")
    different = {element.keyword for element in a if element != b[element.tag]}
    assert different <= {
        *("SOPInstanceUID", "SeriesInstanceUID", "SeriesDate", "SeriesTime", "ContentDate", "ContentTime"),
        *("InstanceCreationDate", "InstanceCreationTime"),
    }


def test_inputs_and_existing_folders_are_safe(tmp_path):
    mri, partner = sources(tmp_path, GRIDS["oblique"])
    image = fused_on(mri, 3)
    for place in ("mri", "mri/fused", "partner"):
        with pytest.raises(ExportError, match="input"):
            write_series(
                image, tmp_path / place, partner=partner.meta["source"], provenance=provenance(), overwrite=True
            )
    write_series(image, tmp_path / "out", partner=None, provenance=provenance())
    with pytest.raises(ExportError, match="exists already"):
        write_series(image, tmp_path / "out", partner=None, provenance=provenance())
    assert len(list((tmp_path / "mri").iterdir())) == 13


@pytest.mark.validator
@pytest.mark.parametrize("partner", ["PT", "CT", "NM"])
@pytest.mark.parametrize("channels", [1, 3])
def test_validators_have_nothing_to_say(tmp_path, partner, channels):
    mri, other = sources(tmp_path, GRIDS["oblique"], partner)
    write_series(
        fused_on(mri, channels), tmp_path / "out", partner=other.meta["source"], provenance=provenance(partner)
    )
    for path in sorted((tmp_path / "out").iterdir())[::6]:
        assert validate(["dciodvfy", "-new", path]) in CLEAN
    files = [path for folder in ("mri", "partner", "out") for path in sorted((tmp_path / folder).iterdir())]
    assert validate(["dcentvfy", *files]) == ""


@pytest.mark.validator
@pytest.mark.parametrize("name", GRIDS)
def test_dcm2niix_gives_the_base_affine_and_our_pixels(tmp_path, name):
    import nibabel as nib

    mri, partner = sources(tmp_path, GRIDS[name])
    image = fused_on(mri, 3)
    write_series(image, tmp_path / "out", partner=partner.meta["source"], provenance=provenance())
    (tmp_path / "converted").mkdir()
    validate(["dcm2niix", "-z", "n", "-b", "y", "-f", "x", "-o", tmp_path / "converted", tmp_path / "out"])
    converted = nib.load(tmp_path / "converted" / "x.nii")
    assert "MR" not in json.loads((tmp_path / "converted" / "x.json").read_text()).get("Modality", "")
    values = np.asarray(converted.dataobj)
    values = np.stack([values[channel] for channel in "RGB"], axis=-1)
    grid = grid_of(image)
    index = np.stack(np.meshgrid(*(np.arange(length) for length in grid.shape), indexing="ij"), -1).reshape(-1, 3)
    found = at_world(values, converted.affine, grid.world(index))
    np.testing.assert_array_equal(found, image.as_tensor().movedim(0, -1).numpy()[tuple(index.T)])


def test_slices_that_dicom_cannot_place_are_refused(tmp_path):
    affine = np.eye(4)
    affine[0, 1] = 0.15
    image = make_volume(torch.rand(1, 5, 6, 7), Grid((5, 6, 7), affine), modality="MR")
    with pytest.raises(GeometryError, match="perpendicular"):
        write_series(image, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_ill_formed_values_of_a_patient_are_kept_as_the_source_has_them(tmp_path):
    mri, partner = sources(tmp_path, GRIDS["oblique"])
    header = mri.meta["source"].first
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        header["PatientBirthDate"].value = "1950-01-01"
        header["PatientSex"].value = "male"
        write_series(fused_on(mri, 3), tmp_path / "out", partner=partner.meta["source"], provenance=provenance())
    written = pydicom.dcmread(tmp_path / "out" / "0001.dcm")
    assert written.get_item("PatientBirthDate").value == b"1950-01-01"
    assert written.get_item("PatientSex").value == b"male"


def test_burned_in_annotation_is_inherited(tmp_path):
    mri, _ = sources(tmp_path, GRIDS["oblique"])
    mri.meta["source"].first.BurnedInAnnotation = "YES"
    write_series(fused_on(mri, 1), tmp_path / "out")
    assert pydicom.dcmread(tmp_path / "out" / "0001.dcm").BurnedInAnnotation == "YES"


def test_a_series_number_that_is_none_does_not_stop_the_writer(tmp_path):
    mri, _ = sources(tmp_path, GRIDS["oblique"])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        mri.meta["source"].first.SeriesNumber = [2, 3]
        write_series(fused_on(mri, 1), tmp_path / "out")
    assert pydicom.dcmread(tmp_path / "out" / "0001.dcm").SeriesNumber == 9000
