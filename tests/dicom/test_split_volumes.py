"""What archives send in one series: repeated measurements, copies, overviews, headers that say too little."""

import json

import numpy as np
import pydicom
import pytest
from dcm2niix_oracle import dcm2niix, nearest, needs_dcm2niix
from enhanced import enhance, one
from synthetic import acquired, oblique_grid, worst_linear_error
from typer.testing import CliRunner

import medfuse
from medfuse.cli import app
from medfuse.dicom import scan
from medfuse.dicom.scanning import read_headers
from medfuse.dicom.simulate import write_acquisition
from medfuse.errors import SeriesError
from medfuse.volume import grid_of, like
from medfuse.volume.grid import Grid


def classic(folder, modality="MR", change=lambda values: values, grid=None, number=4):
    volume, scale, offset = acquired(grid or oblique_grid(), modality)
    write_acquisition(like(change(volume.as_tensor()), volume), folder, study=1, series_number=number)
    return folder, scale, offset


def edit(folder, change):
    """Apply ``change(dataset, place)`` to every file; files sorted by name, which is along the normal."""
    for place, path in enumerate(sorted(folder.iterdir())):
        dataset = pydicom.dcmread(path)
        change(dataset, place)
        dataset.save_as(path)


def again(folder, other):
    """Move the slices of another folder in beside those of the first, as different objects."""
    for path in sorted(other.iterdir()):
        header = pydicom.dcmread(path)
        header.SOPInstanceUID = header.file_meta.MediaStorageSOPInstanceUID = f"{header.SOPInstanceUID}.2"
        header.save_as(folder / f"again{path.name}")


@pytest.mark.parametrize("numbers", ["by volume", "by position"])
def test_volumes_that_only_their_order_tells_apart(tmp_path, numbers):
    folder, scale, offset = classic(tmp_path / "mr")
    other, _, _ = classic(tmp_path / "other", change=lambda values: values + 7)
    edit(folder, lambda header, k: setattr(header, "InstanceNumber", k + 1 if numbers == "by volume" else 2 * k + 1))
    edit(other, lambda header, k: setattr(header, "InstanceNumber", k + 14 if numbers == "by volume" else 2 * k + 2))
    again(folder, other)
    assert [series.traits for series in scan(folder).series] == ["order no. 1", "order no. 2"]
    assert worst_linear_error(medfuse.load(folder, series="4:1"), scale, offset) < 0.02
    second = medfuse.load(folder, series="4:2")
    assert worst_linear_error(like(second.as_tensor() - 7, second), scale, offset) < 0.02


def test_an_order_that_leaves_a_choice_is_refused(tmp_path):
    folder, _, _ = classic(tmp_path / "mr")
    other, _, _ = classic(tmp_path / "other", change=lambda values: values + 7)
    edit(other, lambda header, k: setattr(header, "InstanceNumber", (k * 5) % 13 + 10))
    again(folder, other)
    with pytest.raises(SeriesError, match="lie at the same position"):
        medfuse.load(folder)


def test_a_series_that_was_sent_twice_under_new_uids_counts_once(tmp_path):
    folder, scale, offset = classic(tmp_path / "ct", "CT")
    other, _, _ = classic(tmp_path / "other", "CT")
    edit(other, lambda header, k: setattr(header, "InstanceNumber", k + 101))
    again(folder, other)
    (series,) = scan(folder).series
    assert (series.copies, len(series.instances)) == (13, 13)
    assert worst_linear_error(medfuse.load(folder), scale, offset) < 0.02


def test_a_copy_in_another_transfer_syntax_counts_once(tmp_path):
    folder, scale, offset = classic(tmp_path / "ct", "CT")
    for path in sorted(folder.iterdir())[:3]:
        header = pydicom.dcmread(path)
        header.compress(pydicom.uid.RLELossless, generate_instance_uid=False)
        header.save_as(folder / f"packed{path.name}")
    assert scan(folder).series[0].copies == 3
    assert worst_linear_error(medfuse.load(folder), scale, offset) < 0.02


def test_a_projection_and_a_colour_picture_in_the_series_do_not_stand_in_the_way(tmp_path):
    folder, scale, offset = classic(tmp_path / "mr")
    header = pydicom.dcmread(sorted(folder.iterdir())[0])
    header.SOPInstanceUID, header.ImageType = "1.2.3", ["DERIVED", "SECONDARY", "PROJECTION IMAGE"]
    header.ImageOrientationPatient = [0, 1, 0, 0, 0, -1]
    header.save_as(folder / "projection.dcm")
    header.SOPInstanceUID, header.SamplesPerPixel = "1.2.4", 3
    header.save_as(folder / "colour.dcm")
    assert worst_linear_error(medfuse.load(folder), scale, offset) < 0.02
    assert sorted(series.brief for series in scan(folder).series) == ["", "colour pictures", "one slice only"]


def test_overviews_beside_the_series_need_no_choice(tmp_path):
    _, scale, offset = classic(tmp_path / "study" / "mr")
    classic(tmp_path / "study" / "mip")

    def project(header, place):
        header.SeriesInstanceUID, header.SeriesNumber = "1.2.3.4", 9
        header.ImageType = ["DERIVED", "PRIMARY", "PROJECTION IMAGE"]
        angle = np.radians(12 * place)
        header.ImageOrientationPatient = [f"{np.cos(angle):.6f}", f"{np.sin(angle):.6f}", 0, 0, 0, -1]

    edit(tmp_path / "study" / "mip", project)
    assert worst_linear_error(medfuse.load(tmp_path / "study", "MR"), scale, offset) < 0.02


def test_what_some_files_leave_out_does_not_divide_a_series(tmp_path):
    folder, scale, offset = classic(tmp_path / "ct", "CT")

    def bare(header, place):
        del header.PatientPosition, header.InstanceNumber
        header.AccessionNumber = None
        if place % 2:
            del header.RescaleType

    edit(folder, bare)
    assert worst_linear_error(medfuse.load(folder), scale, offset) < 0.02


def test_two_units_in_one_series_are_two_volumes(tmp_path):
    folder, _, _ = classic(tmp_path / "pt", "PT")
    edit(folder, lambda header, k: k > 6 and setattr(header, "Units", "CNTS"))
    with pytest.raises(SeriesError, match=r"found 2 .*Units BQML.*Units CNTS"):
        medfuse.load(folder)


@pytest.mark.parametrize("wrong", ["1,5", "no", "inf"])
def test_a_rescale_that_is_no_number_is_named(tmp_path, wrong):
    folder, _, _ = classic(tmp_path / "ct", "CT")

    def spoil(header, _):
        header["RescaleSlope"]._value = wrong  # as bytes from another program would be

    edit(folder, spoil)
    with pytest.raises(SeriesError, match=r"rescale of series 4 .* no usable number"):
        medfuse.load(folder)


def test_real_world_values_of_functional_groups_are_applied_where_there_is_no_rescale(tmp_path):
    folder, scale, offset = classic(tmp_path / "mr")

    def mapped(group, _):
        del group.PixelValueTransformationSequence
        group.RealWorldValueMappingSequence = one(RealWorldValueSlope=0.5, RealWorldValueIntercept=3.0)

    loaded = medfuse.load(enhance([folder], tmp_path / "enhanced" / "1.dcm", mapped))
    assert worst_linear_error(like((loaded.as_tensor() - 3) * 2, loaded), scale, offset) < 0.02


LYING = {
    "HFP": ([-1, 0, 0, 0, -1, 0], "HFP"),
    "HFDR": ([0, -1, 0, 1, 0, 0], "HFDR"),
    "HFDL": ([0, 1, 0, -1, 0, 0], "HFDL"),
    "FFS": ([-1, 0, 0, 0, 1, 0], "FFS"),
    "FFP": ([1, 0, 0, 0, -1, 0], "FFP"),
    "FFDR": ([0, -1, 0, -1, 0, 0], "FFDR"),
}


@needs_dcm2niix
@pytest.mark.validator
@pytest.mark.parametrize("position", LYING)
def test_dcm2niix_places_the_patient_alike_however_he_lies(tmp_path, position):
    orientation, said = LYING[position]
    row, column = np.array(orientation[:3]), np.array(orientation[3:])
    affine = np.eye(4)
    affine[:3, :3] = np.diag([-1, -1, 1]) @ np.stack([row * 0.9, column * 1.1, np.cross(row, column) * 2.5], axis=1)
    affine[:3, 3] = -31.0, 14.5, 77.25
    folder, scale, offset = classic(tmp_path / "ct", "CT", grid=Grid((17, 22, 13), affine))
    edit(folder, lambda header, _: setattr(header, "PatientPosition", said))
    loaded = medfuse.load(folder)
    assert worst_linear_error(loaded, scale, offset) < 0.02
    apart, different = nearest(loaded, dcm2niix(folder, tmp_path / "out"))
    assert apart < 1e-3
    assert different <= 2e-7 * float(loaded.as_tensor().abs().max())


def test_a_list_of_paths_is_one_place(tmp_path):
    folder, _, _ = classic(tmp_path / "study" / "mr")
    other, _, _ = classic(tmp_path / "study" / "ct", "CT", number=5)
    files = sorted(folder.iterdir())
    whole = medfuse.load(folder)
    for paths in (files, [*files, files[0]], [str(path) for path in files], [folder, files[2]], [folder]):
        loaded = medfuse.load(paths)
        assert loaded.as_tensor().equal(whole.as_tensor())
        assert grid_of(loaded).matches(grid_of(whole), 1e-9)
        assert loaded.meta["source"].path == folder
    assert len(scan([folder, other]).series) == 2
    with pytest.raises(SeriesError, match="expected at least one file"):
        medfuse.load([])
    with pytest.raises(SeriesError, match="1 slice seems to be missing"):
        medfuse.load([*files[:5], *files[6:]])


def test_headers_longer_than_what_is_fetched_ahead_are_read_on(tmp_path, monkeypatch):
    folder, _, _ = classic(tmp_path / "mr")
    whole = medfuse.load(folder)
    monkeypatch.setattr(read_headers, "HEAD_BYTES", 700)
    loaded = medfuse.load(folder)
    assert loaded.as_tensor().equal(whole.as_tensor())
    assert loaded.meta["source"].headers == whole.meta["source"].headers


def test_long_private_elements_are_not_kept(tmp_path):
    folder, _, _ = classic(tmp_path / "mr")

    def more(header, _):
        block = header.private_block(0x0029, "SOMEBODY", create=True)
        block.add_new(0x20, "OB", bytes(200_000))
        block.add_new(0x21, "LO", "kept")

    edit(folder, more)
    (series,) = scan(folder).series
    for instance in series.instances:
        block = instance.header.private_block(0x0029, "SOMEBODY")
        assert 0x20 not in block
        assert block[0x21].value == "kept"


def test_inspect_says_what_each_series_is(tmp_path):
    folder, _, _ = classic(tmp_path / "study" / "mr")
    missing, _, _ = classic(tmp_path / "study" / "ct", "CT", number=5)
    sorted(missing.iterdir())[5].unlink()
    for path in sorted(folder.iterdir())[:2]:
        (folder / f"copy{path.name}").write_bytes(path.read_bytes())
    done = CliRunner().invoke(app, ["inspect", str(folder), str(missing), "--json"])
    ct, mr = sorted(json.loads(done.output)["series"], key=lambda row: row["modality"])
    assert (mr["verdict"], mr["kind"], mr["files"], mr["copies"]) == ("volume", "original", 13, 2)
    assert mr["transfer_syntax"] == ["Explicit VR Little Endian"]
    np.testing.assert_allclose(mr["centre_mm"], grid_of(medfuse.load(folder)).centre, atol=1e-3)
    assert (ct["verdict"], ct["missing_slices"], ct["shape"]) == ("1 slice missing", 1, None)
    shown = CliRunner().invoke(app, ["inspect", str(tmp_path / "study")]).output
    assert "copies" in shown
    assert "no: 1 slice" in shown
    assert "(1) slice spacing is not uniform" in shown
    assert "17 × 22 × 13" in shown
