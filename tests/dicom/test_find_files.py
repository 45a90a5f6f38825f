"""Where studies come from: mixed folders, media with a DICOMDIR, and zip archives."""

import gc
import os
import shutil
import warnings
import zipfile
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.fileset import FileSet
from synthetic import acquired, oblique_grid
from typer.testing import CliRunner

import medfuse
from medfuse.cli import app
from medfuse.dicom import scan
from medfuse.dicom.scanning import find_files
from medfuse.dicom.simulate import write_acquisition
from medfuse.errors import SeriesError, StudyError


@pytest.fixture
def study(tmp_path):
    """A folder with one MR series and one PT series of a patient, and what is not DICOM between them."""
    for number, modality in enumerate(("MR", "PT"), start=4):
        volume, _, _ = acquired(oblique_grid(), modality)
        write_acquisition(volume, tmp_path / "study" / modality.lower(), study=1, series_number=number)
    (tmp_path / "study" / "readme.txt").write_text("no picture")
    return tmp_path / "study"


def same(one, other):
    np.testing.assert_array_equal(one.as_tensor(), other.as_tensor())
    np.testing.assert_array_equal(one.affine, other.affine)


def test_the_only_series_of_a_modality_is_meant(study):
    same(medfuse.load(study, "MR"), medfuse.load(study / "mr"))
    same(medfuse.load(study, ("CT", "PT", "NM")), medfuse.load(study / "pt"))


def test_without_a_modality_or_with_two_series_of_it_the_choice_is_the_users(study):
    with pytest.raises(SeriesError, match=r"expected one series in .* found 2 .*say which"):
        medfuse.load(study)
    volume, _, _ = acquired(oblique_grid())
    write_acquisition(volume, study / "mr2", study=1, series_number=9)
    with pytest.raises(SeriesError, match=r"found 2 .*series 4 \(MR\).*series 9 \(MR\)"):
        medfuse.load(study, "MR")
    same(medfuse.load(study, "MR", "9"), volume_of(study, "mr2"))


def volume_of(study, name):
    return medfuse.load(study / name)


def test_a_series_that_may_be_meant_but_is_no_volume_is_not_passed_over(study):
    volume, _, _ = acquired(oblique_grid())
    write_acquisition(volume, study / "mr2", study=1, series_number=9)
    sorted((study / "mr2").iterdir())[5].unlink()
    with pytest.raises(SeriesError, match="found 2"):
        medfuse.load(study, "MR")


def test_a_scout_needs_no_choice(study):
    volume, _, _ = acquired(oblique_grid())
    write_acquisition(volume, study / "scout", study=1, series_number=1)
    for place, path in enumerate(sorted((study / "scout").iterdir())):
        if place > 2:
            path.unlink()
            continue
        dataset = pydicom.dcmread(path)
        dataset.ImageType = ["ORIGINAL", "PRIMARY", "LOCALIZER"]
        dataset.ImageOrientationPatient = [[1, 0, 0, 0, 1, 0], [1, 0, 0, 0, 0, -1], [0, 1, 0, 0, 0, -1]][place]
        dataset.save_as(path)
    same(medfuse.load(study, "MR"), medfuse.load(study / "mr"))


def test_another_modality_alone_is_refused(study):
    with pytest.raises(StudyError, match=r"expected CT or NM in .*, found PT"):
        medfuse.load(study / "pt", ("CT", "NM"))


def test_one_folder_holds_both_sides_of_a_fusion(tmp_path):
    study = str(tmp_path / "study")
    medfuse.phantom_study("PT", coarsen=4).write_dicom(study)
    done = CliRunner().invoke(
        app,
        ["fuse", str(tmp_path / "study"), str(tmp_path / "study"), "--align", "header", "--out", str(tmp_path / "o")],
    )
    assert done.exit_code == 0, done.output
    assert sorted((tmp_path / "o" / "dicom").iterdir())


@pytest.fixture
def medium(study, tmp_path):
    """The study as it lies on a CD."""
    media = FileSet()
    for path in study.rglob("*.dcm"):
        media.add(path)
    media.write(tmp_path / "cd")
    del media
    with warnings.catch_warnings():  # pydicom leaves its own temporary folder to the collector
        warnings.simplefilter("ignore")
        gc.collect()
    return tmp_path / "cd"


def test_a_dicomdir_leads_to_its_files(medium, study):
    assert len(scan(medium / "DICOMDIR").series) == 2
    same(medfuse.load(medium / "DICOMDIR", "PT"), medfuse.load(study / "pt"))


def test_a_dicomdir_is_read_where_names_were_made_lower_case(medium, study):
    for path in sorted(medium.rglob("*"), reverse=True):
        if path.name != "DICOMDIR":
            path.rename(path.with_name(path.name.lower() + "~")).rename(path.with_name(path.name.lower()))
    same(medfuse.load(medium / "DICOMDIR", "MR"), medfuse.load(study / "mr"))


def test_an_incomplete_medium_is_refused(medium):
    victims = [path for path in medium.rglob("*") if path.is_file() and path.name != "DICOMDIR"][:2]
    for victim in victims:
        victim.unlink()
    with pytest.raises(SeriesError, match=r"2 of 26 files that .*DICOMDIR names cannot be found"):
        scan(medium / "DICOMDIR")


def test_a_dicomdir_that_points_outside_is_refused(medium, study):
    directory = pydicom.dcmread(medium / "DICOMDIR")
    record = next(one for one in directory.DirectoryRecordSequence if "ReferencedFileID" in one)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        record.ReferencedFileID = ["..", "study", "mr", next((study / "mr").iterdir()).name]
        directory.save_as(medium / "DICOMDIR")
    with pytest.raises(SeriesError, match="1 of 26 files"):
        scan(medium / "DICOMDIR")


def test_a_damaged_dicomdir_is_refused(medium):
    content = (medium / "DICOMDIR").read_bytes()
    (medium / "DICOMDIR").write_bytes(content[: len(content) // 2])
    with pytest.raises(SeriesError, match="DICOMDIR is damaged or cut short"):
        scan(medium / "DICOMDIR")


@pytest.fixture
def archive(study, tmp_path):
    return shutil.make_archive(tmp_path / "archive", "zip", study)


def test_a_zip_archive_is_read_and_leaves_nothing_behind(archive, study, tmp_path, monkeypatch):
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "tmp"))
    found = scan(archive)
    assert (len(found.series), found.ignored) == (2, 1)
    assert list((tmp_path / "tmp").iterdir())
    del found
    same(medfuse.load(archive, "MR"), medfuse.load(study / "mr"))
    gc.collect()
    assert not list((tmp_path / "tmp").iterdir())


def test_archives_that_cannot_be_unpacked_are_refused(archive, tmp_path, monkeypatch):
    content = bytearray(Path(archive).read_bytes())
    monkeypatch.setattr(find_files, "HARMLESS_BYTES", 0)
    (tmp_path / "bomb.zip").write_bytes(b"")
    with zipfile.ZipFile(tmp_path / "bomb.zip", "w", zipfile.ZIP_DEFLATED) as bomb:
        bomb.writestr("a", bytes(10_000_000))
    (tmp_path / "text.zip").write_text("no archive")
    (tmp_path / "cut.zip").write_bytes(content[: len(content) // 2])
    content[2000:2100] = bytes(100)
    (tmp_path / "hurt.zip").write_bytes(content)
    nameless = Path(archive).read_bytes().replace(b"readme.txt", bytes(10))  # found by fuzzing
    (tmp_path / "nameless.zip").write_bytes(nameless)
    for name, reason in (
        ("nameless", "no zip"),
        ("bomb", "far more than"),
        ("text", "no zip"),
        ("cut", "no zip"),
        ("hurt", "no zip"),
    ):
        with pytest.raises(SeriesError, match=reason):
            scan(tmp_path / f"{name}.zip")


def test_a_locked_archive_is_refused(archive, tmp_path):
    content = bytearray(Path(archive).read_bytes())
    for marker, place in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        start = content.find(marker)
        while start >= 0:
            content[start + place] |= 1
            start = content.find(marker, start + 4)
    (tmp_path / "locked.zip").write_bytes(content)
    with pytest.raises(SeriesError, match="password"):
        scan(tmp_path / "locked.zip")


def test_series_behind_links_are_found_once(study, tmp_path):
    whole = scan(study)
    shutil.move(study / "pt", tmp_path / "elsewhere")
    (study / "pt").symlink_to("../elsewhere")
    (study / "again").symlink_to(tmp_path / "elsewhere")
    (study / "mr" / "up").symlink_to("..")
    (study / "mr" / "here").symlink_to(".")
    found = scan(study)
    assert [(one.uid, one.frames, one.copies) for one in found.series] == [
        (one.uid, one.frames, 0) for one in whole.series
    ]
    same(medfuse.load(study, "PT"), medfuse.load(tmp_path / "elsewhere"))
    (tmp_path / "link").symlink_to(study)
    same(medfuse.load(tmp_path / "link", "MR"), medfuse.load(study / "mr"))
    first = sorted((study / "mr").glob("*.dcm"))[0]
    (study / "mr" / "copy.dcm").symlink_to(first)
    assert [one.copies for one in scan(study).series] == [1, 0]


@pytest.mark.parametrize("target", ["../gone", "loop", "mr/gone.dcm"])
def test_a_link_that_leads_nowhere_is_told(study, target, caplog):
    (study / "loop").symlink_to(target)
    (study / "mr" / ".#0001.dcm").symlink_to("somebody@somewhere.1234")
    assert len(scan(study).broken_links) == 1
    same(medfuse.load(study, "MR"), medfuse.load(study / "mr"))
    assert "series 4 (MR) is read" in caplog.text
    assert "was left out: 1 link to a file or folder that is not there" in caplog.text
    done = CliRunner().invoke(app, ["inspect", str(study)])
    assert "1 link to a file or folder that is not there" in done.output


def test_a_broken_link_among_the_slices_may_be_one_of_them(study):
    last = sorted((study / "mr").glob("*.dcm"))[-1]
    last.unlink()
    last.symlink_to("../.store/not-fetched")
    with pytest.raises(SeriesError, match=r"may be missing: 1 link to a file or folder that is not there"):
        medfuse.load(study, "MR")
    medfuse.load(study, "PT")


def strip(path, *keywords):
    header = pydicom.dcmread(path)
    for keyword in keywords:
        delattr(header, keyword)
    pydicom.dcmwrite(path, header)


def test_an_unusable_picture_of_another_series_is_left_out_and_told(study, caplog):
    first = sorted((study / "pt").glob("*.dcm"))[0]
    strip(first, "SOPInstanceUID")
    same(medfuse.load(study, "MR"), medfuse.load(study / "mr"))
    assert "was left out: 1 DICOM image has no SOPInstanceUID (0008,0018)" in caplog.text
    with pytest.raises(SeriesError, match=r"may be missing: 1 DICOM image has no SOPInstanceUID"):
        medfuse.load(study, "PT")
    strip(first, "SeriesInstanceUID", "Modality")  # of any series, for all that it says
    with pytest.raises(SeriesError, match=r"may be missing: 1 DICOM image has no SOPInstanceUID"):
        medfuse.load(study, "MR")


def test_an_empty_file_named_as_a_picture_may_be_a_slice(study):
    sorted((study / "mr").glob("*.dcm"))[-1].write_bytes(b"")
    with pytest.raises(SeriesError, match=r"may be missing: 1 DICOM file cannot be read"):
        medfuse.load(study, "MR")


def test_a_file_that_begins_with_the_mark_may_be_a_slice(study):
    last = sorted((study / "mr").glob("*.dcm"))[-1]
    last.write_bytes(last.read_bytes()[128:])
    with pytest.raises(SeriesError, match=r"may be missing: 1 DICOM file cannot be read"):
        medfuse.load(study, "MR")


def test_a_folder_that_cannot_be_opened_is_told(study, monkeypatch):
    whole = find_files.os.scandir

    def scandir(path):
        if Path(path).name == "pt":
            raise PermissionError(13, "Permission denied")
        return whole(path)

    monkeypatch.setattr(find_files.os, "scandir", scandir)
    with pytest.raises(SeriesError, match=r"a folder in .* cannot be opened \(Permission denied\)"):
        medfuse.load(study, "MR")


def test_a_pipe_is_refused_and_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(SeriesError, match="is a pipe"):
        scan(tmp_path / "pipe")
    assert not scan(tmp_path).series
