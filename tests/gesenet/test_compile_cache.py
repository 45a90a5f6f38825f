"""Compiled code is kept where it can be, read where it is, and nothing breaks where neither works."""

import json
import os
import pickle
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
import torch

pytest.importorskip("numba")

from network_pairs import framed, pair
from numba.core import event

from medfuse.gesenet import load_engine
from medfuse.gesenet.engines.winograd import compile_cache, convolution, interpreter, small_filters
from medfuse.gesenet.engines.winograd.compile_cache import entry_point, folder_of, telling
from medfuse.phantom import phantom_study

ENTRY_POINTS = (
    convolution.tiles_together,
    interpreter.run,
    *(small_filters.tiles_near, small_filters.grown, small_filters.listed, small_filters.copy_tiles),
)


def doubled(value):
    return 2 * value


@pytest.fixture
def kept_in(monkeypatch):
    """Which folders keep compiled code."""
    return lambda *folders: monkeypatch.setattr(compile_cache, "cache_folders", lambda *_, **__: iter(folders))


def test_code_is_written_to_the_first_folder_that_takes_it_and_read_from_any(kept_in, tmp_path):
    (tmp_path / "a file").write_text("")
    first, second = tmp_path / "a file" / "below", tmp_path / "second"
    kept_in(first, second)
    function = entry_point(doubled)
    assert function(3) == 6
    (file,) = second.iterdir()
    assert folder_of(function) == second
    assert file.stat().st_mode & 0o444 == 0o444 & ~_umask()
    kept_in(first, tmp_path / "named later", second)
    again = entry_point(doubled)
    assert again(3) == 6
    assert again.stats.cache_hits
    assert not again.stats.cache_misses
    assert again(3.5) == 7  # other numbers, another file
    # What the older folder had was copied.
    assert len(list((tmp_path / "named later").iterdir())) == 2
    assert len(list(second.iterdir())) == 1


def test_damaged_code_is_compiled_anew(kept_in, tmp_path):
    kept_in(tmp_path)
    assert entry_point(doubled)(3) == 6
    (file,) = tmp_path.iterdir()
    whole = file.read_bytes()
    for damaged in (b"", whole[: len(whole) // 2], pickle.dumps("")[:-1]):
        file.write_bytes(damaged)
        assert entry_point(doubled)(3) == 6
        assert file.read_bytes() != damaged


def test_without_any_folder_each_run_compiles_and_the_log_says_so(kept_in, caplog):
    kept_in()
    function = entry_point(doubled)
    assert function(3) == 6
    assert folder_of(function) is None
    assert "NUMBA_CACHE_DIR" in caplog.text


def test_compiling_is_logged_and_told(caplog):
    told = []
    with caplog.at_level("INFO", logger="medfuse"), telling(lambda *step: told.append(step)):
        assert not told
        for function in (interpreter.convolve, interpreter.run):
            with event.trigger_event("numba:compile", data={"dispatcher": function}):
                pass
        with event.trigger_event("numba:compile", data={"dispatcher": entry_point(doubled)}):
            pass  # somebody else's
    assert told[0] == ("compile", 0.0)
    assert told[-1] == ("compile", 1.0)
    assert len(told) == 4
    assert caplog.text.count("about 15 s") == 1


def test_loading_compiles_all_that_any_study_needs():
    engine = load_engine("tiled")
    before = torch.get_num_threads()
    for threads in (1, 3):
        torch.set_num_threads(threads)
        for sources in (pair(61, 70, 4), pair(1, 1), framed(150, 161, 60, 70, (11, 20)), pair(40, 30, 2)):
            engine(*sources)
            engine(*(side.mT for side in sources))
    torch.set_num_threads(before)
    assert [len(function.signatures) for function in ENTRY_POINTS] == [1] * len(ENTRY_POINTS)


@pytest.fixture
def somebody():
    """Called with arguments of Python: begins it as a user without name, home and rights to write.

    It begins in a temporary folder, for Pytest's own are closed to others, and reads whatever root has installed,
    wherever it lies.
    """
    if not (shutil.which("setpriv") and os.geteuid() == 0):
        pytest.skip("needs root and setpriv to become somebody else")
    with tempfile.TemporaryDirectory() as name:
        there = Path(name)
        there.chmod(0o1777)
        rights = "-all,+dac_read_search"
        become = ["setpriv", "--reuid", "54321", "--regid", "54321", "--clear-groups", "--inh-caps", rights]
        become += ["--ambient-caps", rights, "--bounding-set", rights, "env", "-i", f"PATH={os.environ['PATH']}"]
        become += [f"TMPDIR={there}", f"PYTHONPATH={Path(__file__).parents[2]}", sys.executable]

        def begin(*arguments):
            streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
            process = subprocess.Popen([*become, *arguments], cwd=there, **streams)
            process.folder = there
            return process

        if subprocess.run([*become, "-c", ""], check=False, cwd=there).returncode:
            pytest.skip("this system gives nobody such rights")
        yield begin


@pytest.mark.slow
def test_a_user_without_name_and_home_compiles_twice_at_once_and_then_fuses(somebody):
    both = [somebody("-m", "medfuse", "warm-up", "--json") for _ in range(2)]
    for process in both:
        out, err = process.communicate()
        assert json.loads(out)["cache"] == str(process.folder / "medfuse-54321")
        assert err.splitlines() == ["compiling the engine for this machine, once: about 15 s"]
    phantom_study("PT", coarsen=4).write_dicom(both[0].folder)
    given = ("mri", "partner", "--align", "header", "--out", "out", "--json")
    out, err = somebody("-m", "medfuse", "fuse", *given).communicate()
    assert not err
    assert json.loads(out)["provenance"]["engine"] == "tiled"


def _umask():
    before = os.umask(0)
    os.umask(before)
    return before
