"""What is said of files that medfuse does not read, and of those that are not there."""

import shutil
import zipfile

import pytest
from typer.testing import CliRunner

import medfuse
from medfuse.cli import app
from medfuse.errors import MedfuseError, SeriesError, StudyError
from medfuse.volume import modality_named

NAMED = [
    ("t1.mgz", "is MGH, which is not read; convert it to NIfTI"),
    ("T1.MGH", "is MGH"),
    ("a.nrrd", "is NRRD"),
    ("a.nhdr", "is NRRD"),
    ("a.mha", "is MetaImage"),
    ("a.mnc", "is MINC"),
    ("a+orig.HEAD", "is AFNI"),
    ("a.npy", "is NumPy"),
    ("a.nii.bz2", "packed as .bz2, which is not read; unpack it"),
    ("a.nii.zst", "packed as .zst"),
    ("a.tar.gz", "packed as .tar.gz"),
    ("a.tgz", "packed as .tgz"),
    ("a.dcm.gz", "packed as .gz"),
    ("a.7z", "packed as .7z"),
    ("a.png", "a picture, which says nothing of place and values"),
    ("a.img", r"no header \(.hdr\) beside"),
]


def refusals(path):
    """What loading with and without a modality, and inspecting, say; all three are refused."""
    for modality in ("MR", None):
        with pytest.raises(SeriesError) as caught:
            medfuse.load(path, modality)
        yield str(caught.value)
    done = CliRunner().invoke(app, ["inspect", str(path)])
    assert done.exit_code == 3
    yield " ".join(done.stderr.split()).removeprefix("SeriesError: ")


@pytest.mark.parametrize(("name", "said"), NAMED)
def test_a_format_that_is_not_read_is_named(tmp_path, name, said):
    (tmp_path / name).write_bytes(b"any bytes" * 30)
    for message in refusals(tmp_path / name):
        with pytest.raises(SeriesError, match=said):
            raise SeriesError(message)


@pytest.mark.parametrize("name", ["none.nii", "none.nii.gz", "NONE.NII", "none.hdr"])
def test_a_missing_nifti_file_is_missing(tmp_path, name):
    for message in refusals(tmp_path / name):
        assert message == f"there is no file {tmp_path / name}; check the path."


@pytest.mark.parametrize(
    "address", ["https://a.org/t1.nii.gz", "http://a.org/study", "s3://bucket/x", "HTTPS:/a.org/x"]
)
def test_an_address_is_not_a_file(address):
    for message in refusals(address):
        assert "addresses are not read; download the study" in message


@pytest.mark.parametrize("inner", ["sub/T1.nii.gz", "T1.nii", "T1.mgz"])
def test_what_a_folder_or_an_archive_holds_instead_is_said(tmp_path, inner):
    place = tmp_path / "in" / inner
    place.parent.mkdir(parents=True)
    place.write_bytes(b"any bytes")
    with zipfile.ZipFile(tmp_path / "in.zip", "w") as archive:
        archive.write(place, inner)
    for path, kind in ((tmp_path / "in", "folder"), (tmp_path / "in.zip", "archive")):
        for message in refusals(path):
            assert ("is MGH" if inner.endswith("mgz") else f"{kind} of") in message


def test_dicom_under_another_name_is_read(tmp_path):
    study = medfuse.phantom_study("PT", coarsen=14)
    study.write_dicom(tmp_path / "study")
    for number, path in enumerate(sorted((tmp_path / "study" / "mri").iterdir())):
        shutil.move(path, tmp_path / "study" / "mri" / f"{number}.img")
    (tmp_path / "study" / "mri" / "T1.nii").write_bytes(b"a conversion beside its source")
    assert medfuse.load(tmp_path / "study" / "mri").meta["modality"] == "MR"
    shutil.copy(tmp_path / "study" / "mri" / "1.img", tmp_path / "1.png")
    for single in (tmp_path / "1.png", tmp_path / "study" / "mri" / "1.img"):
        with pytest.raises(MedfuseError, match="one slice only"):
            medfuse.load(single)


def test_modalities_are_known_by_their_usual_names():
    names = ["MR", "MRI", "mri", "CT", "ct", "PT", "PET", "Pet", "NM", "SPECT", " spect "]
    assert [modality_named(name) for name in names] == ["MR"] * 3 + ["CT"] * 2 + ["PT"] * 3 + ["NM"] * 3
    with pytest.raises(StudyError, match=r"MR \(MRI\), CT, PT \(PET\), NM \(SPECT\); found 'US'"):
        modality_named("US")


@pytest.mark.parametrize("name", ["PET", "spect", "CT", "NM"])
def test_a_command_takes_them_too(tmp_path, name):
    arguments = [
        "fuse",
        str(tmp_path / "a.nii"),
        str(tmp_path / "b.nii"),
        "--modality",
        name,
        "--out",
        str(tmp_path / "o"),
    ]
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 3
    assert "there is no file" in done.stderr
    arguments[4] = "MRI"
    assert CliRunner().invoke(app, arguments).exit_code == 2
