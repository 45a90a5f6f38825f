import os

import pytest

from medfuse.errors import ExportError
from medfuse.runtime.atomic_output import atomic_entries, atomic_output, require_outside


def names(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def test_a_file_appears_with_its_parents(tmp_path):
    with atomic_output(tmp_path / "a" / "b" / "c.txt") as beside:
        beside.write_text("x")
        assert not (tmp_path / "a" / "b" / "c.txt").exists()
    assert names(tmp_path) == ["a", "a/b", "a/b/c.txt"]


@pytest.mark.parametrize("opener", [atomic_output, atomic_entries])
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
    (tmp_path / "b" / "old").write_text("old")
    with pytest.raises(ExportError, match="exists already"), atomic_output(tmp_path / "b"):
        pass
    with atomic_output(tmp_path / "b", overwrite=True) as beside:
        beside.mkdir()
        (beside / "new").write_text("new")
    assert names(tmp_path) == ["b", "b/new"]


def test_a_failed_replacement_keeps_the_old(tmp_path):
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "old").write_text("old")
    with pytest.raises(ExportError, match="cannot write"), atomic_output(tmp_path / "b", overwrite=True):
        pass  # nothing was written, so nothing can take the place
    assert names(tmp_path) == ["b", "b/old"]


def test_entries_move_into_a_folder_that_keeps_the_rest(tmp_path):
    (tmp_path / "b" / "dicom").mkdir(parents=True)
    (tmp_path / "b" / "dicom" / "old").write_text("old")
    (tmp_path / "b" / "mine").write_text("mine")
    with atomic_entries(tmp_path / "b", overwrite=True) as beside:
        (beside / "dicom").mkdir()
        (beside / "dicom" / "new").write_text("new")
    assert names(tmp_path) == ["b", "b/dicom", "b/dicom/new", "b/mine"]


def test_an_empty_folder_counts_as_free(tmp_path):
    (tmp_path / "b").mkdir()
    with atomic_output(tmp_path / "b") as beside:
        beside.mkdir()
        (beside / "new").write_text("new")
    assert names(tmp_path) == ["b", "b/new"]


def test_a_full_disk_is_told_in_a_sentence(tmp_path):
    with pytest.raises(ExportError, match="No space left on device"), atomic_output(tmp_path / "b"):
        raise OSError(28, os.strerror(28))
    assert names(tmp_path) == []


def test_a_file_in_the_way_of_a_folder_is_told(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(ExportError, match="cannot write"), atomic_output(tmp_path / "file" / "out"):
        pass


@pytest.mark.parametrize("target", ["study", "study/out", "."])
def test_inputs_are_never_written_into(tmp_path, target):
    (tmp_path / "study").mkdir()
    with pytest.raises(ExportError, match="input"):
        require_outside(tmp_path / target, [tmp_path / "study"])
    require_outside(tmp_path / "study-fused", [tmp_path / "study"])
