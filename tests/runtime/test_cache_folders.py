"""Folders for what is kept from run to run: the order, and whom to trust."""

import getpass
import os
import tempfile

import pytest

from medfuse.runtime.cache_folders import cache_folders, provide_user


@pytest.fixture
def nowhere(monkeypatch, tmp_path):
    """A user without a home, and a temporary folder."""
    for name in ("HOME", "XDG_CACHE_HOME", "XDG_CONFIG_HOME", "MPLCONFIGDIR", "LOGNAME", "USER", "LNAME", "USERNAME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(os.path, "expanduser", lambda path: path)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def test_what_is_named_comes_first_and_the_temporary_folder_last(nowhere, monkeypatch):
    private = nowhere / f"medfuse-{os.getuid()}"
    assert list(cache_folders()) == []
    monkeypatch.setenv("XDG_CACHE_HOME", "relative/is/ignored")
    assert list(cache_folders(create=True)) == [private]
    assert private.stat().st_mode & 0o777 == 0o700
    monkeypatch.setenv("XDG_CACHE_HOME", "/cache")
    assert [str(folder) for folder in cache_folders("/named")] == ["/named/medfuse", "/cache/medfuse", str(private)]


def test_a_temporary_folder_that_others_may_write_is_refused(nowhere):
    private = nowhere / f"medfuse-{os.getuid()}"
    private.mkdir(mode=0o755)
    assert list(cache_folders(create=True)) == []
    private.rmdir()
    (nowhere / "elsewhere").mkdir(mode=0o700)
    private.symlink_to(nowhere / "elsewhere")
    assert list(cache_folders(create=True)) == []
    private.unlink()
    private.mkdir(mode=0o700)
    if os.getuid() == 0:
        os.chown(private, 54321, 54321)
        assert list(cache_folders(create=True)) == []


def test_libraries_find_a_name_and_a_home(nowhere, monkeypatch):
    monkeypatch.setattr(os, "getuid", lambda: 54321)

    def unknown():
        raise KeyError("uid not found")

    monkeypatch.setattr(getpass, "getuser", unknown)
    monkeypatch.setenv("LOGNAME", "put back behind the test")
    monkeypatch.setenv("MPLCONFIGDIR", "kept")
    provide_user()
    assert os.environ["LOGNAME"] == "uid-54321"
    assert os.environ["MPLCONFIGDIR"] == "kept"


def test_nothing_is_set_where_there_are_both(nowhere, monkeypatch):
    monkeypatch.setenv("LOGNAME", "somebody")
    for name in ("XDG_CACHE_HOME", "XDG_CONFIG_HOME"):
        monkeypatch.setenv(name, str(nowhere / "not" / "yet"))
    provide_user()
    assert os.environ["LOGNAME"] == "somebody"
    assert "MPLCONFIGDIR" not in os.environ
