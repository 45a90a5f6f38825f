"""Results as a File-set with a DICOMDIR."""

import gc
import json
import shutil

import numpy as np
import pydicom
import pytest
from archive_node import FAST, node
from synthetic import acquired, oblique_grid
from typer.testing import CliRunner
from written_series import sources, validate

from medfuse.archive.send import send
from medfuse.cli import app
from medfuse.dicom import Identity, require_listable, scan, write_media
from medfuse.dicom.simulate import write_acquisition
from medfuse.errors import ExportError
from medfuse.verify import verify

GRID = oblique_grid((40, 34, 7))


def fused(folder, *more):
    arguments = ["fuse", folder / "mri", folder / "partner", "--out", folder / "out", "--align", "header"]
    done = CliRunner().invoke(app, [*map(str, arguments), "--with-partner", "--format", "dicom", "--json", *more])
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)


@pytest.fixture
def study(tmp_path):
    sources(tmp_path, GRID)
    return tmp_path


@pytest.mark.validator
def test_a_fileset_holds_all_that_was_written(study):
    plain = fused(study)
    media = study / "disc"
    folders = [study / "out" / name for name in ("dicom", "partner", "registration", "blending")]
    assert set(plain) & {"dicom", "partner", "alignment", "blending"} == {"dicom", "partner", "alignment", "blending"}
    write_media(media, folders)
    assert validate(["dciodvfy", "-new", media / "DICOMDIR"]) == "BasicDirectory"
    assert validate(["dcmftest", media / "DICOMDIR"]) == f"yes: {media / 'DICOMDIR'}"
    written = {str((one := pydicom.dcmread(path)).SOPInstanceUID): one for f in folders for path in f.iterdir()}
    there = [path for path in media.rglob("*") if path.is_file() and path.name != "DICOMDIR"]
    assert len(there) == len(written) == 16
    for path in there:
        assert all(len(part) == 8 and part.isalnum() and part.upper() == part for part in path.relative_to(media).parts)
        copy = pydicom.dcmread(path)
        assert copy == written[str(copy.SOPInstanceUID)]
    listed = scan(media / "DICOMDIR").series
    assert sorted(len(one.instances) for one in listed) == [7, 7]
    assert {one.modality for one in listed} == {"OT", "PT"}


@pytest.mark.validator
@pytest.mark.parametrize("more", [(), ("--multiframe", "--compress", "jpeg-ls"), ("--deidentify",)])
def test_the_command_writes_one_that_verifies_and_is_sent(study, more):
    result = fused(study, "--dicomdir", *more)
    assert result["media"] == str(study / "out" / "media")
    assert [path.name for path in (study / "out").iterdir()] == ["media"]
    assert not {"dicom", "partner"} & result.keys()
    given = [] if more == ("--deidentify",) else [study / "mri", study / "partner"]
    assert verify(study / "out", given).faults == []
    with node() as (port, taken):
        delivery = send(study / "out", f"127.0.0.1:{port}", options=FAST)
    assert delivery.complete
    files = [path for path in (study / "out").rglob("*") if path.is_file() and path.name != "DICOMDIR"]
    assert len(taken) == len(files)


def test_verify_sees_files_that_are_not_listed_or_not_there(study):
    fused(study, "--dicomdir")
    files = sorted(path for path in (study / "out").rglob("*") if path.is_file() and path.name != "DICOMDIR")
    copy = shutil.copytree(study / "out", study / "more")
    stranger = pydicom.dcmread(files[0])
    stranger.SOPInstanceUID = stranger.file_meta.MediaStorageSOPInstanceUID = "2.25.1"
    stranger.save_as(copy / "media" / "STRANGER")
    assert any("lists 0 files that the folder lacks, and lacks 1 file" in one for one in verify(copy).faults)
    files[0].unlink()
    assert any("lists 1 file that the folder lacks, and lacks 0 files" in one for one in verify(study / "out").faults)


def test_what_an_index_cannot_say_is_refused_before_the_fusion(study):
    for path in (study / "mri").iterdir():
        dataset = pydicom.dcmread(path)
        dataset.PatientID = ""
        dataset.save_as(path)
    arguments = ["fuse", study / "mri", study / "partner", "--out", study / "out", "--dicomdir", "--align", "header"]
    refused = CliRunner().invoke(app, [*map(str, arguments), "--different-patients"])
    assert refused.exit_code == 5, refused.output
    assert "PatientID" in " ".join(refused.output.split())
    assert not (study / "out").exists()
    with pytest.raises(ExportError, match="PatientID"):
        require_listable(Identity.given())
    require_listable(Identity.given({"PatientID": "17"}))
    given = [*map(str, arguments), "--different-patients", "--identity", "PatientID=17", "--format", "dicom"]
    done = CliRunner().invoke(app, given)
    assert done.exit_code == 0, done.output
    assert "17" in str(pydicom.dcmread(study / "out" / "media" / "DICOMDIR").DirectoryRecordSequence[0].PatientID)


def test_nothing_is_left_where_it_fails(tmp_path):
    volume, _, _ = acquired(GRID)
    write_acquisition(volume, tmp_path / "mri", study=1, series_number=2)
    with pytest.raises(ExportError, match="found none"):
        write_media(tmp_path / "disc", [tmp_path / "mri", tmp_path / "none"])
    with pytest.raises(ExportError, match="input"):
        write_media(tmp_path / "mri" / "disc", [tmp_path / "mri"])
    assert [path.name for path in tmp_path.iterdir()] == ["mri"]
    gc.collect()  # a temporary folder that nobody removed warns here, and not in some later test
    write_media(tmp_path / "disc", [tmp_path / "mri"])
    with pytest.raises(ExportError, match="exists already"):
        write_media(tmp_path / "disc", [tmp_path / "mri"])
    first = pydicom.dcmread(next((tmp_path / "disc").rglob("IM000000")))
    assert np.array_equal(first.pixel_array, pydicom.dcmread(tmp_path / "mri" / "0001.dcm").pixel_array)
