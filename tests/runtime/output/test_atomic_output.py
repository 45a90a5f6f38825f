import os

import pytest

from medfuse.errors import ExportError
from medfuse.runtime.output.atomic_output import (
    atomic_entries,
    atomic_file,
    atomic_files,
    atomic_folder,
    require_outside,
)

OWN = '{"GeneratedBy": [{"Name": "medfuse"}]}'
"""What a file may say of itself."""


def names(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def test_a_file_appears_with_its_parents(tmp_path):
    with atomic_file(tmp_path / "a" / "b" / "c.txt") as beside:
        beside.write_text("x")
        assert not (tmp_path / "a" / "b" / "c.txt").exists()
    assert names(tmp_path) == ["a", "a/b", "a/b/c.txt"]


@pytest.mark.parametrize("opener", [atomic_folder, atomic_entries])
def test_a_failure_leaves_nothing_behind(tmp_path, opener):
    def half():
        with opener(tmp_path / "a" / "b") as beside:
            beside.mkdir(exist_ok=True)
            (beside / "half").write_text("x")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        half()
    assert names(tmp_path) == []


def test_what_is_there_stays_unless_told(tmp_path):
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "old").write_text(OWN)
    with pytest.raises(ExportError, match="exists already"), atomic_folder(tmp_path / "b"):
        pass
    with atomic_folder(tmp_path / "b", overwrite=True) as beside:
        beside.mkdir()
        (beside / "new").write_text("new")
    assert names(tmp_path) == ["b", "b/new"]


def test_a_failed_replacement_keeps_the_old(tmp_path):
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "old").write_text(OWN)
    with pytest.raises(ExportError, match="cannot write"), atomic_folder(tmp_path / "b", overwrite=True):
        pass  # nothing was written, so nothing can take the place
    assert names(tmp_path) == ["b", "b/old"]


def test_entries_move_into_a_folder_that_keeps_the_rest(tmp_path):
    (tmp_path / "b" / "dicom").mkdir(parents=True)
    (tmp_path / "b" / "dicom" / "old").write_text(OWN)
    (tmp_path / "b" / "mine").write_text("mine")
    with atomic_entries(tmp_path / "b", overwrite=True) as beside:
        (beside / "dicom").mkdir()
        (beside / "dicom" / "new").write_text("new")
    assert names(tmp_path) == ["b", "b/dicom", "b/dicom/new", "b/mine"]


def test_an_empty_folder_counts_as_free(tmp_path):
    (tmp_path / "b").mkdir()
    with atomic_folder(tmp_path / "b") as beside:
        beside.mkdir()
        (beside / "new").write_text("new")
    assert names(tmp_path) == ["b", "b/new"]


def test_a_full_disk_is_told_in_a_sentence(tmp_path):
    with pytest.raises(ExportError, match="No space left on device"), atomic_folder(tmp_path / "b"):
        raise OSError(28, os.strerror(28))
    assert names(tmp_path) == []


def test_a_file_in_the_way_of_a_folder_is_told(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(ExportError, match="cannot write"), atomic_folder(tmp_path / "file" / "out"):
        pass


@pytest.mark.parametrize("target", ["study", "study/out", "."])
def test_inputs_are_never_written_into(tmp_path, target):
    (tmp_path / "study").mkdir()
    with pytest.raises(ExportError, match="input"):
        require_outside(tmp_path / target, [tmp_path / "study"])
    require_outside(tmp_path / "study-fused", [tmp_path / "study"])


def test_an_input_is_known_by_every_name_that_it_has(tmp_path):
    (tmp_path / "study" / "deep").mkdir(parents=True)
    (tmp_path / "link").symlink_to(tmp_path / "study")
    for target in ("link", "link/out", "study/deep/../out"):
        with pytest.raises(ExportError, match="input"):
            require_outside(tmp_path / target, [tmp_path / "study"])
    (tmp_path / "a.nii").write_text("")
    os.link(tmp_path / "a.nii", tmp_path / "b.nii")
    with pytest.raises(ExportError, match="input"):
        require_outside(tmp_path / "b.nii", [tmp_path / "a.nii"])


@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize(
    ("opener", "there"), [(atomic_file, "folder"), (atomic_folder, "file"), (atomic_entries, "file")]
)
def test_a_folder_takes_no_file_s_place_nor_the_reverse(tmp_path, opener, there, overwrite):
    place = tmp_path / "x.tfm"
    place.mkdir() if there == "folder" else place.write_text(OWN)
    with pytest.raises(ExportError, match="expected a place for a"), opener(place, overwrite):
        pass
    assert names(tmp_path) == ["x.tfm"]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("notes.txt", b"of the medfuse run"),
        ("image.dcm", bytes(128) + b"DICM" + b"for medfuse"),
        ("picture.png", b"\x89PNG of medfuse"),
        ("volume.nii", bytes(100) + b"medfuse" + bytes(237) + b"n+1\0"),
        ("half.dcm", b"medfuse"),
        ("study.json", b'{"GeneratedBy": [{"Name": "medfuse"}, {"Name": "mine"}]}'),
        ("other.json", b'{"comment": "for medfuse"}'),
        ("cut.json", b'{"GeneratedBy": [{"Name": "medfuse"}'),
        ("nested.json", b'{"a": ' * 10**5),
        ("map.tfm", b"#Insight Transform File V1.0"),
        ("cut.nii.gz", b"\x1f\x8bmedfuse"),
        ("empty", b""),
    ],
)
@pytest.mark.parametrize("opener", [atomic_folder, atomic_entries])
def test_nothing_but_what_medfuse_wrote_is_replaced(tmp_path, opener, name, content):
    theirs = tmp_path / "out" / "dicom" / name
    theirs.parent.mkdir(parents=True)
    theirs.write_bytes(content)
    place, more = (tmp_path / "out", [("dicom",)]) if opener is atomic_entries else (theirs.parent, [])
    with pytest.raises(ExportError, match=f"{name} was not written by medfuse"), opener(place, True, *more):
        pass
    assert theirs.read_bytes() == content


def test_what_somebody_adds_meanwhile_is_not_replaced_either(tmp_path):
    (tmp_path / "dicom").mkdir()

    def work():
        with atomic_folder(tmp_path / "dicom", True) as temporary:
            temporary.mkdir()
            (tmp_path / "dicom" / "theirs").write_text("theirs")

    with pytest.raises(ExportError, match="theirs was not written by medfuse"):
        work()
    assert names(tmp_path) == ["dicom", "dicom/theirs"]


def test_files_that_belong_together_appear_together(tmp_path):
    scan, sidecar = tmp_path / "scan.nii", tmp_path / "scan.json"
    sidecar.write_text("old")
    with pytest.raises(ExportError, match=r"scan\.json exists already"), atomic_files((scan, sidecar)):
        pass
    with pytest.raises(ExportError, match="No such file"), atomic_files((scan, sidecar), True) as temporary:
        temporary[1].write_text("new")  # the other one is missing
    assert sidecar.read_text() == "old"
    assert names(tmp_path) == ["scan.json"]


@pytest.mark.parametrize("opener", [atomic_file, atomic_folder, atomic_entries])
def test_places_that_no_system_has_are_told(tmp_path, opener):
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    for place in (tmp_path / "loop", tmp_path / "loop" / "x", tmp_path / ("x" * 300), tmp_path / ("x" * 300) / "y"):
        with pytest.raises(ExportError), opener(place) as temporary:
            temporary.write_text("x")
    assert names(tmp_path) == ["loop"]
