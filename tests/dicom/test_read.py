import json
import random
import shutil

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from synthetic import acquired, oblique_grid, world_linear, worst_linear_error
from typer.testing import CliRunner

import medfuse
from medfuse.cli import app
from medfuse.dicom import scan
from medfuse.dicom.simulate import write_acquisition
from medfuse.errors import MedfuseError, SeriesError
from medfuse.volume import grid_of, make_volume
from medfuse.volume.grid import Grid


def edit(folder, change):
    """Apply ``change(dataset, position)`` to every file; files sorted by name, which is along the normal."""
    for place, path in enumerate(sorted(folder.iterdir())):
        dataset = pydicom.dcmread(path)
        change(dataset, place)
        dataset.save_as(path)


@pytest.fixture
def series(tmp_path):
    """A folder with an oblique, anisotropic MR series."""
    volume, _, _ = acquired(oblique_grid())
    write_acquisition(volume, tmp_path / "mr", study=1, series_number=4)
    return tmp_path / "mr"


@pytest.mark.parametrize("modality", ["MR", "CT", "PT", "NM"])
@pytest.mark.parametrize("turns", [(12, -7, 25), (100, 15, -80), (-95, 3, 178)])
def test_every_voxel_is_where_the_header_says(tmp_path, modality, turns):
    volume, scale, offset = acquired(oblique_grid(turns=turns), modality)
    write_acquisition(volume, tmp_path / "series", study=1, series_number=4)
    loaded = medfuse.load(tmp_path / "series")
    assert worst_linear_error(loaded, scale, offset) < 0.02
    assert loaded.meta["modality"] == modality
    assert loaded.meta["unit"] == volume.meta["unit"]
    assert sorted(loaded.shape) == sorted(volume.shape)


def test_simple_itk_sees_the_same_place_and_values(series):
    loaded = medfuse.load(series)
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(series)))
    image = reader.Execute()
    index = (3, 17, 5)
    lps = np.array(image.TransformIndexToPhysicalPoint(index))
    np.testing.assert_allclose(grid_of(loaded).world(index) * (-1, -1, 1), lps, atol=1e-6)
    assert image.GetPixel(index) == loaded[0, 3, 17, 5]


def test_file_names_and_instance_numbers_do_not_matter(series):
    expected = medfuse.load(series)
    names = list(range(100, 113))
    random.Random(1).shuffle(names)

    def scramble(dataset, place):
        if place % 2:
            del dataset.InstanceNumber
        else:
            dataset.InstanceNumber = names[place]

    edit(series, scramble)
    for path, name in zip(sorted(series.iterdir()), names, strict=True):
        path.rename(series / f"{name}")
    (series / "notes.txt").write_text("not DICOM")
    (series / "deeper").mkdir()
    (series / "deeper" / "thumbs.db").write_bytes(b"\0" * 400)
    loaded = medfuse.load(series)
    assert loaded.as_tensor().equal(expected.as_tensor())
    assert grid_of(loaded).matches(grid_of(expected), 1e-9)
    assert scan(series).ignored == 2


def test_gantry_tilt_is_an_exact_shear(tmp_path):
    affine = oblique_grid(turns=(0, 0, 0)).affine.copy()
    affine[1, 2] = 2.7 * np.tan(np.radians(20))
    volume, scale, offset = acquired(Grid((17, 22, 13), affine), "CT")
    write_acquisition(volume, tmp_path / "ct", study=1, series_number=4)
    loaded = medfuse.load(tmp_path / "ct")
    assert grid_of(loaded).sheared
    assert worst_linear_error(loaded, scale, offset) < 0.02


def test_nm_frames_may_run_against_the_normal(tmp_path):
    volume, scale, offset = acquired(oblique_grid(), "NM")
    write_acquisition(volume, tmp_path / "nm", study=1, series_number=4)
    path = next((tmp_path / "nm").iterdir())
    dataset = pydicom.dcmread(path)
    last = volume.shape[3] - 1
    # The same voxels told the other way round: frames reversed, first position the last one's.
    dataset.PixelData = dataset.pixel_array[::-1].tobytes()
    dataset["PixelData"].VR = "OW"
    position = [float(value) for value in (grid_of(volume).world((0, 0, last)) * (-1, -1, 1))]
    dataset.DetectorInformationSequence[0].ImagePositionPatient = [f"{value:.10f}" for value in position]
    dataset.SpacingBetweenSlices = str(-float(dataset.SpacingBetweenSlices))
    dataset.save_as(path)
    loaded = medfuse.load(tmp_path / "nm")
    assert worst_linear_error(loaded, scale, offset) < 0.02


def test_monochrome1_does_not_turn_values_round(series):
    expected = medfuse.load(series)
    edit(series, lambda dataset, _: setattr(dataset, "PhotometricInterpretation", "MONOCHROME1"))
    assert medfuse.load(series).as_tensor().equal(expected.as_tensor())


def test_progress_follows_the_files(series):
    told = []
    medfuse.load(series, progress=lambda *step: told.append(step))
    assert told == [("load", k / 13) for k in range(1, 14)]


def refused(folder):
    with pytest.raises(SeriesError) as caught:
        medfuse.load(folder)
    return str(caught.value)


def test_a_missing_slice_is_named(series):
    sorted(series.iterdir())[5].unlink()
    message = refused(series)
    assert "2.70 mm, but 5.40 mm between instances 5 and 7 of series 4 (MR); 1 slice seems to be missing" in message


def test_a_duplicate_slice_is_named(series):
    def copy_position(dataset, place):
        if place == 6:
            dataset.ImagePositionPatient = pydicom.dcmread(sorted(series.iterdir())[5]).ImagePositionPatient

    edit(series, copy_position)
    assert "instances 6 and 7 of series 4 (MR) lie at the same position" in refused(series)


def test_mixed_orientations_and_sizes_are_named(series):
    edit(series, lambda dataset, k: k == 3 and setattr(dataset, "ImageOrientationPatient", [1, 0, 0, 0, 0, -1]))
    assert "mixes orientations" in refused(series)
    edit(series, lambda dataset, k: k == 3 and setattr(dataset, "Rows", 11))
    assert "mixes matrix sizes: 17 × 22, but instance 4 has 17 × 11" in refused(series)


def test_a_slice_off_its_place_is_named(series):
    def push(dataset, place):
        if place == 4:
            x, y, z = (float(value) for value in dataset.ImagePositionPatient)
            row = [float(value) for value in dataset.ImageOrientationPatient[:3]]
            dataset.ImagePositionPatient = [x + 2 * row[0], y + 2 * row[1], z + 2 * row[2]]

    edit(series, push)
    assert "instance 5 is 2.00 mm off its place" in refused(series)


def test_several_series_are_listed_and_one_can_be_chosen(series):
    volume, _, _ = acquired(oblique_grid((9, 8, 7)), "CT")
    write_acquisition(volume, series / "other", study=1, series_number=9)
    message = refused(series)
    assert "expected one series" in message
    assert "series 4 (MR), 13 slices; series 9 (CT), 7 slices" in message
    assert medfuse.load(series, series="9").meta["modality"] == "CT"
    assert len(scan(series).series) == 2


def test_one_slice_is_no_volume(series):
    for path in sorted(series.iterdir())[1:]:
        path.unlink()
    assert "one slice only" in refused(series)


def test_folders_without_a_series_are_refused(tmp_path):
    assert "found no file" in refused(tmp_path)
    (tmp_path / "a.txt").write_text("text")
    (tmp_path / "b").write_bytes(bytes(range(200)) * 5)
    assert "found 2 files but no DICOM image" in refused(tmp_path)
    assert "there is no file or folder" in refused(tmp_path / "absent")


@pytest.mark.parametrize("keyword", ["ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing"])
def test_absent_geometry_is_refused_not_invented(series, keyword):
    edit(series, lambda dataset, k: k == 2 and delattr(dataset, keyword))
    assert f"instance 3 of series 4 (MR) has no {keyword}" in refused(series)


def test_damaged_pixels_are_refused(series):
    def cut(dataset, place):
        if place == 2:
            dataset.PixelData = dataset.PixelData[:100]

    edit(series, cut)
    assert "Pixel Data has 100 bytes" in (message := refused(series))
    assert "instance 3 of series 4 (MR)" in message


def test_messages_name_no_patient(series, capsys, recwarn):
    def plant(dataset, place):
        dataset.PatientName, dataset.PatientID = "Secret^Sally", "ID-SECRET"
        if place == 4:
            dataset.PixelSpacing = [3, 3]

    edit(series, plant)
    secret_name = series.parent / "secret"
    shutil.move(series, secret_name)
    for path in sorted(secret_name.iterdir()):
        path.rename(secret_name / f"Sally_{path.name}")
    message = refused(secret_name)
    assert "mixes pixel spacings" in message
    assert "Sally" not in message
    assert "ID-SECRET" not in message
    assert not recwarn.list
    assert capsys.readouterr() == ("", "")


def test_a_wrong_modality_is_refused(series):
    with pytest.raises(MedfuseError, match=r"expected CT in .*, found MR"):
        medfuse.load(series, "CT")


def test_brainweb_is_read_in_place(shared_data):
    study = shared_data / "studies" / "brainweb06-mr-pet"
    mri, pet = (medfuse.load(study / f"brainweb_06_{name}_dcm") for name in ("t1", "osem"))
    assert (mri.meta["modality"], pet.meta["modality"]) == ("MR", "PT")
    assert grid_of(mri).matches(grid_of(pet))
    cropped = medfuse.load(study / "brainweb_06_t1_cropped.nii", "MR")
    # The cropped NIfTI was cut from the same voxels.
    assert cropped.as_tensor().max() <= mri.as_tensor().max()


def test_the_writer_for_phantoms_refuses_what_does_not_fit(tmp_path):
    volume = world_linear(oblique_grid())
    too_high = make_volume(volume.as_tensor() + 1e6, oblique_grid(), modality="MR")
    with pytest.raises(MedfuseError, match="16 bits"):
        write_acquisition(too_high, tmp_path / "x", study=1, series_number=1)
    assert not (tmp_path / "x").exists()


def test_a_damaged_file_does_not_shorten_the_volume(series):
    for path in sorted(series.iterdir())[-2:]:
        path.write_bytes(path.read_bytes()[:700])
    assert scan(series).damaged == 2
    assert "2 DICOM files cannot be read to the pixels" in refused(series)


@pytest.mark.parametrize("keyword", ["FrameOfReferenceUID", "StudyInstanceUID", "PatientID", "PatientName"])
def test_one_series_is_of_one_origin(series, keyword):
    edit(series, lambda dataset, k: k > 6 and setattr(dataset, keyword, "1.2.3"))
    message = refused(series)
    assert f"mixes different values of {keyword}, first in instance 8" in message
    assert "1.2.3" not in message


@pytest.mark.parametrize(
    ("keyword", "value"),
    [
        ("PixelSpacing", [1.0]),
        ("PixelSpacing", [0.0, 0.0]),
        ("PixelSpacing", [-1.0, 1.0]),
        ("PixelSpacing", ["1e38", 1.0]),
        ("PixelSpacing", ["1e-9", 1.0]),
        ("ImagePositionPatient", ["1e9", 0.0, 0.0]),
        ("ImageOrientationPatient", [2.0, 0.0, 0.0, 0.0, 2.0, 0.0]),
        ("ImageOrientationPatient", [1.0, 0.0, 0.0, 1.0, 0.0, 0.0]),
        ("ImagePositionPatient", [1.0, 2.0]),
        ("ImageOrientationPatient", [1.0, 0.0, 0.0, 0.0, 1.0]),
        ("Rows", 0),
        ("Columns", None),
    ],
)
def test_headers_without_sense_are_a_verdict_not_a_crash(series, keyword, value):
    edit(series, lambda dataset, _: setattr(dataset, keyword, value))
    (found,) = scan(series).series
    assert found.grid is None
    assert "series 4 (MR)" in found.problem
    refused(series)


def test_a_series_number_that_is_none_does_not_stop_the_scan(series):
    path = sorted(series.iterdir())[0]
    content = path.read_bytes()
    with path.open("wb") as file:  # IS "4 " of SeriesNumber becomes text
        file.write(content.replace(b"\x20\x00\x11\x00IS\x02\x004 ", b"\x20\x00\x11\x00IS\x02\x00ab"))
    assert scan(series).series


def test_a_ct_without_rescale_is_not_called_hu(tmp_path):
    volume, _, _ = acquired(oblique_grid(), "CT")
    write_acquisition(volume, tmp_path / "ct", study=1, series_number=4)

    def strip(dataset, _):
        for keyword in ("RescaleSlope", "RescaleIntercept", "RescaleType"):
            delattr(dataset, keyword)

    edit(tmp_path / "ct", strip)
    assert medfuse.load(tmp_path / "ct").meta["unit"] == "arbitrary"


def test_ill_formed_identifiers_are_not_quoted(series, capfd, recwarn):
    edit(series, lambda dataset, _: setattr(dataset, "StudyID", "x"))
    for path in series.iterdir():
        content = path.read_bytes()
        uid = pydicom.dcmread(path).StudyInstanceUID.encode()
        path.write_bytes(content.replace(uid, b"1.2.DOE^JOHN".ljust(len(uid), b"7")))
    medfuse.load(series)
    assert not recwarn.list
    assert "DOE" not in "".join(capfd.readouterr())


@pytest.mark.parametrize("keyword", ["SOPInstanceUID", "Rows", "Columns", "BitsAllocated"])
@pytest.mark.parametrize("of", [1, 13])
def test_an_element_that_images_lack_is_named_and_counted(series, keyword, of):
    edit(series, lambda dataset, k: delattr(dataset, keyword) if k < of else None)
    found = scan(series)
    assert (found.incomplete, found.damaged) == ({keyword: of}, 0)
    message = refused(series)
    assert f"{of} DICOM image{'s have' if of > 1 else ' has'} no {keyword} (00" in message
    assert "cut short" not in message
    done = CliRunner().invoke(app, ["inspect", str(series)])
    assert f"no {keyword} (00" in done.output
    assert done.exit_code == (3 if of == 13 else 0)
    told = CliRunner().invoke(app, ["inspect", str(series), "--json"])
    if of == 1:
        assert json.loads(told.output)["incomplete_files"] == {keyword: 1}


def test_an_empty_instance_uid_is_none(series):
    edit(series, lambda dataset, _: setattr(dataset, "SOPInstanceUID", ""))
    assert "13 DICOM images have no SOPInstanceUID (0008,0018)" in refused(series)


@pytest.mark.parametrize("keyword", ["SOPClassUID", "StudyInstanceUID", "SeriesInstanceUID"])
def test_a_series_without_what_identifies_it_is_told_which_element(series, keyword):
    edit(series, lambda dataset, _: delattr(dataset, keyword))
    assert f"has no {keyword} (00" in refused(series)
