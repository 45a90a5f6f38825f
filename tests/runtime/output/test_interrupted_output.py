"""Killed, out of room or locked out: a result is there whole, or not at all."""

import itertools
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pydicom
import pytest
from dying import CHANGES, dying

import medfuse
from medfuse.cli.options.choices import DicomChoices, Format
from medfuse.cli.output.results import RESULTS, write_results
from medfuse.dicom import DicomOptions
from medfuse.errors import ExportError
from medfuse.runtime.output.atomic_output import atomic_entries
from medfuse.runtime.output.exchange import settle
from medfuse.runtime.progress import silent

NOBODY = 65534


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("study")
    medfuse.phantom_study("PT", coarsen=4).write_dicom(folder)
    return folder


@pytest.fixture(scope="module")
def study(place):
    return medfuse.fuse(medfuse.load(place / "mri"), medfuse.load(place / "partner"), align="header")


def write(study, out, progress=silent):
    """What the command does with a fused study."""
    with atomic_entries(out, True, RESULTS) as folder:
        write_results(study, folder, Format.BOTH, progress, DicomChoices(DicomOptions()))


def in_a_child(work):
    """Start ``work`` in a copy of this process; returns its number."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            work()
            code = 0
        finally:
            os._exit(code)
    return child


def whole_result(study, out, hidden=False):
    """The series of the result, after a look at all of it; what is staged may be there and is no result."""
    there = {path.name for path in out.iterdir() if not (hidden and path.name.startswith(".medfuse-"))}
    assert there == {"dicom", "fused.nii.gz", "fused.json", "dataset_description.json"}
    files = [pydicom.dcmread(path) for path in sorted((out / "dicom").iterdir())]
    assert len(files) == study.image.shape[-1]
    assert all(file.pixel_array.any() or number for number, file in enumerate(files))
    json.loads((out / "fused.json").read_text())
    import nibabel as nib

    assert np.asarray(nib.load(out / "fused.nii.gz").dataobj).shape == study.image.shape[1:]
    return {str(file.SeriesInstanceUID) for file in files}


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
@pytest.mark.parametrize("before", ["absent", "empty"])
def test_a_kill_at_any_moment_leaves_all_or_nothing(study, tmp_path, before):
    started = time.monotonic()
    write(study, tmp_path / "first")
    longest = 1.3 * (time.monotonic() - started)
    moments = random.Random(7)
    finished = []
    for number in range(25):
        out = tmp_path / str(number) / "out"
        (out if before == "empty" else out.parent).mkdir(parents=True)
        child = in_a_child(lambda out=out: write(study, out))
        # The last one is left to finish: that both ends are seen does not hang on the machine's pace.
        if number < 24:
            time.sleep(moments.uniform(0, longest))
            os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        there = out.exists() and any(out.iterdir())
        if there:
            whole_result(study, out)
        finished.append(there)
    assert finished[-1]
    assert not all(finished)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_kill_while_replacing_leaves_no_half_and_no_mixture(study, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    (out / "mine.txt").write_text("mine")
    write(study, out)
    old = {path: path.stat().st_ino for path in out.iterdir()}
    moments = random.Random(3)
    for _ in range(15):
        child = in_a_child(lambda: write(study, out))
        time.sleep(moments.uniform(0, 2))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        settle(out)
        assert (out / "mine.txt").read_text() == "mine"
        there = {path: path.stat().st_ino for path in out.iterdir() if path.name in RESULTS}
        kept = [path for path, node in there.items() if old.get(path) == node]
        assert len(kept) in (0, len(there))  # of the run before, or of this one
        assert len(there) == 4
        assert len({str(pydicom.dcmread(path).SeriesInstanceUID) for path in (out / "dicom").iterdir()}) == 1
        assert len(list((out / "dicom").iterdir())) == study.image.shape[-1]
        old = there
    write(study, out)
    assert {path.name for path in out.iterdir()} == {"mine.txt", *(path.name for path in old)}


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_a_signal_at_any_rename_of_the_exchange_leaves_old_or_new_results(study, tmp_path, monkeypatch, how):
    out = tmp_path / "out"

    def work():
        if how == signal.SIGTERM:  # as the command does
            signal.signal(how, lambda number, _: sys.exit(128 + number))
        write(study, out)

    write(study, out)
    count = itertools.count()
    with monkeypatch.context() as patched:
        for name in CHANGES:
            call = getattr(os, name)
            patched.setattr(os, name, lambda *place, call=call, **more: (call(*place, **more), next(count))[0])
        write(study, out)
    calls, deleted = next(count), study.image.shape[-1]
    series, ended = whole_result(study, out), []
    # The old slices are deleted one by one in the end; before, staged files are renamed.
    for number in (*range(calls - deleted - 30, calls - deleted, 2), calls - 9, calls - 1):
        assert dying(work, number, how)
        if how == signal.SIGKILL:
            settle(out)
        found = whole_result(study, out, hidden=how == signal.SIGKILL)
        ended.append(found != series)
        series = found
    assert any(ended)
    assert not all(ended)


@pytest.mark.slow
def test_a_full_disk_leaves_nothing_and_is_told(place, study, tmp_path):
    may_mount = ["unshare", "-rm"]
    if subprocess.run([*may_mount, "true"], capture_output=True, check=False).returncode != 0:
        pytest.skip("no file system can be mounted here")
    write(study, tmp_path / "out")
    room = sum(path.stat().st_size for path in (tmp_path / "out").rglob("*"))
    sizes = [str(int(room * share)) for share in (0.05, 0.4, 0.9, 1.2, 20)]
    (tmp_path / "disk").mkdir()
    script = Path(__file__).parents[2] / "support" / "inside_full_disk.py"
    command = [*may_mount, sys.executable, script, place, tmp_path / "disk", *sizes]
    done = subprocess.run([str(one) for one in command], capture_output=True, text=True, check=False, timeout=500)
    assert done.returncode == 0, done.stderr[-2000:]
    *full, roomy = json.loads(done.stdout.splitlines()[-1])
    for one in full:
        assert (one["code"], one["left"]) == (5, [])
        assert "No space left on device" in one["message"]
        assert len(one["message"].strip().splitlines()) == 1
    assert roomy["code"] == 0
    assert "out/dicom/0001.dcm" in roomy["left"]


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
@pytest.mark.parametrize("when", ["before", "amid"])
def test_a_lost_permission_leaves_nothing_and_is_told(study, when):
    if os.getuid() != 0:
        pytest.skip("only root can become somebody else, whom permissions concern")
    with tempfile.TemporaryDirectory() as folder:
        place, said = Path(folder), Path(folder) / "said"
        (place / "mine").mkdir()
        os.chown(place / "mine", NOBODY, NOBODY)
        place.chmod(0o755)
        said.touch()
        said.chmod(0o666)

        def lose(step, share, note=""):
            (place / "mine").chmod(0o555)

        def work():
            os.setuid(NOBODY)
            if when == "before":
                lose("", 0.0)
            try:
                write(study, place / "mine" / "out", lose)
            except ExportError as error:
                said.write_text(str(error))

        os.waitpid(in_a_child(work), 0)
        assert "Permission denied" in said.read_text()
        assert not (place / "mine" / "out").exists()
        (place / "mine").chmod(0o755)
