"""Paths that can never take output are refused with their reason, and what stands there stays."""

import os
import stat
from pathlib import Path

import pytest

from medfuse.errors import ExportError
from medfuse.runtime.output.atomic_output import atomic_entries, atomic_file, atomic_folder, require_outside
from medfuse.runtime.output.place import require_place, resolved


@pytest.fixture
def places(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("kept")
    (tmp_path / "circle").symlink_to("circle")
    (tmp_path / "there").symlink_to("back")
    (tmp_path / "back").symlink_to("there")
    os.mkfifo(tmp_path / "pipe")
    return tmp_path


@pytest.mark.parametrize("writer", [atomic_file, atomic_folder, atomic_entries])
@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("circle", "symbolic links"),
        ("circle/in/it", "symbolic links"),
        ("there", "symbolic links"),
        ("a" * 300, "too long"),
        ("new/" + "ä" * 200 + "/b", "400 bytes"),
        ("a/" * 3000, "too long"),
        ("a\0b", "NUL"),
        ("file/below", "Not a directory"),
        ("pipe", "never replaced"),
        ("-", "standard output"),
    ],
)
def test_where_nothing_can_be_written_is_refused_before_anything_is_done(places, writer, name, said):
    before = sorted(places.iterdir())
    with pytest.raises(ExportError, match=said) as refused, writer(Path(name), overwrite=True):
        pytest.fail("it was allowed")
    assert len(str(refused.value)) < 300
    assert sorted(places.iterdir()) == before
    assert stat.S_ISFIFO((places / "pipe").stat().st_mode)
    assert (places / "file").read_text() == "kept"


@pytest.mark.skipif(os.name == "nt", reason="Windows names the limit otherwise")
def test_a_name_that_is_too_long_is_not_called_a_lack_of_space(places):
    (places / "input").mkdir()
    (places / "out").mkdir()
    with pytest.raises(ExportError, match=r"too long\. Choose a shorter name\.$") as refused:
        require_outside(places / "out" / ("n" * 300) / "dicom", [places / "input"])
    assert len(str(refused.value)) < 300


def test_devices_are_never_replaced():
    for device in ("/dev/null", "/dev/full"):
        with pytest.raises(ExportError, match="never replaced"):
            require_place(Path(device))


def test_what_can_be_written_is_allowed(places):
    for name in ("file", "new", "new/below", "ä" * 100, "n" * 255):
        require_place(Path(name))


def test_inputs_in_a_circle_are_compared_too(places):
    require_outside(places / "out", [places / "circle"])
    assert resolved(places / "circle").name == "circle"
    with pytest.raises(ExportError, match="into the input"):
        require_outside(places / "circle", [places / "circle"])
