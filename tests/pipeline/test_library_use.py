"""medfuse inside other programs: the same results whatever these have set, and nothing of theirs is changed."""

import functools
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
import warnings
from contextlib import contextmanager

import numpy as np
import pytest
import torch
from global_state import unchanged

import medfuse
from medfuse import phantom_study
from medfuse.gesenet import load_engine
from medfuse.metrics import SCORES
from medfuse.pipeline.scoring import score_study

SMALL_SCORES = [name for name, each in SCORES.items() if each.smallest <= 24]


@pytest.fixture(scope="module")
def phantom():
    return phantom_study("PT", coarsen=6)


def results(mri, partner, engine="masked", align="header"):
    """What a program gets: the fused picture, the partner, the map, and all scores."""
    study = medfuse.fuse(mri, partner, align=align, force=True, engine=engine, device="cpu", black_air=True)
    # Through NumPy: what a test computes with torch would itself depend on the program's settings.
    values = [study.image, study.partner, study.registered()]
    scores = score_study(study, SMALL_SCORES, device="cpu")
    return [value.as_tensor().numpy() for value in values] + [
        study.registration.matrix,
        np.stack([each.numpy() for each in scores.values.values()]),
    ]


@pytest.fixture(scope="module")
def plain_results(phantom):
    return results(phantom.mri, phantom.partner)


@pytest.fixture(scope="module")
def plain_results_of(phantom):
    """The results of an engine, computed once for all situations."""
    return functools.cache(lambda engine: results(phantom.mri, phantom.partner, engine))


@pytest.fixture(scope="module")
def plain_matrix(phantom):
    return medfuse.register(phantom.mri, phantom.partner, "rigid", force=True).matrix


@pytest.fixture(scope="module")
def plain_bent_results(phantom):
    return results(phantom.mri, phantom.partner, align="deformable")


def same(found, expected):
    for one, other in zip(found, expected, strict=True):
        assert one.dtype == other.dtype
        np.testing.assert_array_equal(one, other)


@contextmanager
def default_dtype(dtype):
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(torch.float32)


@contextmanager
def default_device(device):
    torch.set_default_device(device)
    try:
        yield
    finally:
        torch.set_default_device(None)


@contextmanager
def threads(count):
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def deterministic():
    torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(False)


@contextmanager
def anomalies_found():
    with warnings.catch_warnings(), torch.enable_grad():
        warnings.simplefilter("ignore")  # torch says that it will be slow
        with torch.autograd.detect_anomaly():
            yield


SITUATIONS = {
    "no_grad": torch.no_grad,
    "inference_mode": torch.inference_mode,
    "anomalies": anomalies_found,
    "float64": lambda: default_dtype(torch.float64),
    "float16": lambda: default_dtype(torch.float16),
    "another device": lambda: default_device("meta"),
    "within a device": lambda: torch.device("meta"),
    "autocast": lambda: torch.autocast("cpu"),
    "deterministic": deterministic,
    "three threads": lambda: threads(3),
    "numpy raises": lambda: np.errstate(all="raise"),
}


@pytest.mark.parametrize("situation", SITUATIONS)
def test_fusing_and_scoring_give_the_same_in_every_situation(phantom, plain_results, situation):
    with SITUATIONS[situation](), unchanged():
        found = results(phantom.mri, phantom.partner)
    same(found, plain_results)


@pytest.mark.slow
@pytest.mark.parametrize("situation", SITUATIONS)
def test_aligning_gives_the_same_in_every_situation(phantom, plain_bent_results, situation):
    with SITUATIONS[situation](), unchanged():
        found = results(phantom.mri, phantom.partner, align="deformable")
    same(found, plain_bent_results)


@pytest.mark.parametrize("situation", ["inference_mode", "float64", "another device", "autocast", "numpy raises"])
def test_a_rigid_map_is_the_same(phantom, plain_matrix, situation):
    with SITUATIONS[situation](), unchanged():
        found = medfuse.register(phantom.mri, phantom.partner, "rigid", force=True).matrix
    np.testing.assert_array_equal(found, plain_matrix)


@pytest.mark.slow
@pytest.mark.parametrize("situation", SITUATIONS)
@pytest.mark.parametrize("engine", ["tiled", "reference", "half"])
def test_every_engine_gives_the_same_in_every_situation(phantom, plain_results_of, situation, engine):
    expected = plain_results_of(engine)
    with SITUATIONS[situation](), unchanged():
        found = results(phantom.mri, phantom.partner, engine)
    same(found, expected)


@pytest.mark.parametrize("situation", ["inference_mode", "float64", "another device", "autocast"])
def test_phantoms_are_the_same(phantom, situation):
    with SITUATIONS[situation](), unchanged():
        made = phantom_study("PT", coarsen=6)
    same([made.mri.as_tensor().numpy()], [phantom.mri.as_tensor().numpy()])
    same([made.partner.as_tensor().numpy()], [phantom.partner.as_tensor().numpy()])


def test_volumes_made_in_inference_mode_can_be_aligned_outside(phantom):
    with torch.inference_mode():
        made = phantom_study("PT", coarsen=6)
        moving = made.partner.clone()
    expected = medfuse.register(phantom.mri, phantom.partner, "rigid", force=True).matrix
    np.testing.assert_array_equal(medfuse.register(made.mri, moving, "rigid", force=True).matrix, expected)


def test_what_is_fused_can_be_used_with_gradients(phantom):
    image = load_engine("masked", "cpu")(*torch.rand(2, 1, 1, 32, 32).unbind())
    factor = torch.ones(1, requires_grad=True)
    (image * factor).sum().backward()
    image.mul_(0)
    assert factor.grad is not None


def test_files_are_read_and_written_without_a_trace(phantom, tmp_path):
    phantom.write_dicom(tmp_path / "study")
    with unchanged():
        mri, partner = (medfuse.load(tmp_path / "study" / name) for name in ("mri", "partner"))
        study = medfuse.fuse(mri, partner, align="header", engine="masked", device="cpu")
        study.write_dicom(tmp_path / "out" / "dicom")
        study.write_partner(tmp_path / "out" / "partner")
        study.write_nifti(tmp_path / "out" / "fused.nii.gz")
        study.write_picture(tmp_path / "out" / "picture.png")
        study.registration.save(tmp_path / "out" / "map.tfm")
        medfuse.Registration.load(tmp_path / "out" / "map.tfm")


def test_threads_of_the_program_fuse_at_the_same_time(phantom, plain_results):
    found = [None] * 3
    seen = []

    def work(place):
        found[place] = results(phantom.mri, phantom.partner)

    def look():
        while any(one is None for one in found) and working[0].is_alive():
            seen.append(torch.get_num_threads())
            time.sleep(0.01)

    with threads(2), unchanged():
        working = [threading.Thread(target=work, args=(place,)) for place in range(len(found))]
        for thread in working:
            thread.start()
        for _ in range(20):  # each new thread takes its number from the process
            watching = threading.Thread(target=lambda: seen.append(torch.get_num_threads()))
            watching.start()
            watching.join()
        for thread in working:
            thread.join()
    assert set(seen) == {2}
    for one in found:
        same(one, plain_results)


def test_warnings_of_other_threads_are_heard_while_files_are_read(phantom, tmp_path):
    phantom.write_dicom(tmp_path / "study")
    before = list(warnings.filters)
    reading = threading.Thread(target=lambda: [medfuse.load(tmp_path / "study" / "mri") for _ in range(3)])
    told = 0
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        reading.start()
        while reading.is_alive():
            warnings.warn(f"number {told}", UserWarning, stacklevel=1)
            told += 1
            time.sleep(0.001)
    heard = sum(str(one.message).startswith("number") for one in caught)
    assert told > 0
    assert heard == told
    assert warnings.filters == before


def fork(work, limit_s):
    """Run in a forked process: its exit code, or None where it had to be ended."""
    child = os.fork()
    if child == 0:
        try:
            os._exit(0 if work() else 1)
        except BaseException:
            os._exit(2)
    end = time.monotonic() + limit_s
    while time.monotonic() < end:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.05)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return None


FORKED = """
import os, signal, sys
import torch
import medfuse
from medfuse import phantom_study
sys.path.insert(0, {support!r})
sys.path.insert(0, {here!r})
from test_library_use import fork
torch.set_num_threads(2)
phantom = phantom_study("PT", coarsen=6)
torch.nn.functional.conv2d(torch.ones(4, 16, 256, 256), torch.ones(16, 16, 3, 3))  # its threads wait for work now
def work():
    study = medfuse.fuse(phantom.mri, phantom.partner, align={align!r}, force=True, engine={engine!r}, device="cpu")
    return study.image.as_tensor().numpy().tobytes() == expected and torch.get_num_threads() == 2
expected = b""
study = medfuse.fuse(phantom.mri, phantom.partner, align={align!r}, force=True, engine={engine!r}, device="cpu")
expected = study.image.as_tensor().numpy().tobytes()
sys.exit(fork(work, 120) or 0)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
@pytest.mark.parametrize(("engine", "align"), [("masked", "rigid"), ("tiled", "header")])
def test_a_forked_process_goes_on(engine, align):
    here = os.path.dirname(__file__)  # noqa: PTH120
    support = os.path.join(os.path.dirname(here), "support")  # noqa: PTH118, PTH120
    program = FORKED.format(support=support, here=here, engine=engine, align=align)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stderr[-2000:]


def _image(engine):
    made = phantom_study("PT", coarsen=6)
    return medfuse.fuse(made.mri, made.partner, align="header", engine=engine, device="cpu").image.as_tensor().numpy()


@pytest.mark.slow
@pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="this system does not fork")
def test_a_pool_of_forked_processes_works_after_use():
    expected = _image("masked")
    with threads(2), multiprocessing.get_context("fork").Pool(2) as pool:
        for found in pool.map_async(_image, ["masked"] * 2).get(120):
            np.testing.assert_array_equal(found, expected)
