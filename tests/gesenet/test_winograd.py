"""The tiled engine: what it leaves out changes no picture, and what it is built of computes what it says."""

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch

pytest.importorskip("numba", reason="needs medfuse[numba]")

from network_pairs import PLACES, framed, pair, shuffled

from medfuse.errors import DeviceError
from medfuse.gesenet.engines import registry
from medfuse.gesenet.engines.folded import FoldedGeSeNet
from medfuse.gesenet.engines.registry import ENGINES, load_engine, why_not
from medfuse.gesenet.engines.winograd.compile_network import Program
from medfuse.gesenet.engines.winograd.pack_weights import LARGEST, pack, to_shorts
from medfuse.gesenet.engines.winograd.simd import WIDE
from medfuse.gesenet.engines.winograd.tiled import Picture, Tiled
from medfuse.gesenet.loading import load_network
from medfuse.gesenet.network import Parts

ROUNDING = 1e-5
"""Winograd's sums are rounded a little more than plain ones."""


@pytest.fixture
def threads():
    """Torch's number of threads, put back afterwards."""
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


def unlike(network, fused, sources):
    return float((fused - network(*sources)).abs().max())


@pytest.mark.parametrize("size", [(37, 50), (64, 64), (41, 39, 3), (2, 3), (1, 1), (1, 50, 2), (4, 44)])
def test_pictures_are_those_of_the_network(size):
    network = shuffled()
    sources = pair(*size)
    assert unlike(network, Tiled(FoldedGeSeNet(network))(*sources), sources) < ROUNDING


def test_maps_that_keep_a_few_rows_make_the_same_pictures_in_less_room():
    program = Program(FoldedGeSeNet(shuffled()))
    packed = pack(program.specs, program.small, None)
    few, some, every = (
        Picture(program, packed, 131, 62, whole=whole, bands=bands)
        for whole, bands in ((False, 1), (False, 3), (True, 1))
    )
    assert 0.6 * len(every.room) > len(few.room)
    assert len(every.room) > len(some.room) > len(few.room)
    for inner in (131, 9, 70):
        sources = [side[0, 0].numpy() for side in framed(131, 62, (131 - inner) // 2, 3, (inner, 40))]
        expected = every.fuse(*sources)
        assert np.array_equal(few.fuse(*sources), expected)
        with ThreadPoolExecutor(3) as workers:
            assert np.array_equal(some.fuse(*sources, workers), expected)


@pytest.mark.parametrize(("size", "place", "inner"), PLACES)
def test_air_is_left_out_and_put_back(size, place, inner):
    network = shuffled()
    sources = framed(*size, *place, inner, count=2)
    assert unlike(network, Tiled(FoldedGeSeNet(network))(*sources), sources) < ROUNDING


def test_only_tiles_within_reach_are_computed():
    program = Program(FoldedGeSeNet(shuffled()))
    picture = Picture(program, pack(program.specs, program.small, None), 200, 160)
    mri = np.zeros((200, 160), np.float32)
    mri[100, 80] = 1
    picture.fuse(mri, np.zeros_like(mri))
    # Three pixels around one, in tiles of four, are four to nine tiles; fifteen pixels, 64 to 81.
    assert 4 <= picture.sets[0].sum() <= 9
    assert 64 <= picture.sets[8].sum() <= 81
    picture.fuse(np.zeros_like(mri), np.zeros_like(mri))
    assert not any(tiles.any() for tiles in picture.sets[:9])


def test_one_engine_serves_many_sizes_and_pictures_in_any_order():
    """What one picture leaves behind in the feature maps does not show in the next."""
    network = shuffled()
    tiled = Tiled(FoldedGeSeNet(network))
    full, small, black = pair(90, 84), framed(90, 84, 30, 40, (9, 8)), tuple(torch.zeros(2, 1, 1, 90, 84).unbind())
    for sources in (full, small, black, pair(50, 60), pair(33, 34), small, full, black):
        assert unlike(network, tiled(*sources), sources) < ROUNDING


@pytest.mark.parametrize("count", [1, 2, 3])
def test_threads_share_one_picture_or_take_one_each(threads, count):
    network = shuffled()
    tiled = Tiled(FoldedGeSeNet(network))
    sources = pair(61, 70, count)
    alone = tiled(*sources)
    threads(2)
    torch.testing.assert_close(tiled(*sources), alone, atol=0, rtol=0)
    assert unlike(network, alone, sources) < ROUNDING


def test_more_threads_than_rows_share_one_picture(threads):
    network = shuffled()
    tiled = Tiled(FoldedGeSeNet(network))
    threads(5)
    for sources in (
        pair(9, 50),
        pair(1, 2),
        framed(40, 44, 18, 3, (3, 40)),
        tuple(torch.zeros(2, 1, 1, 30, 9).unbind()),
    ):
        assert unlike(network, tiled(*sources), sources) < ROUNDING


def test_masks_of_one_kind():
    for principal in (0, 32):
        network = shuffled()
        logits = network.mri.region.body.channel_logits
        logits[..., 0], logits[..., 1] = 0.0, 1.0
        logits[:, :principal, :, 0] = 2.0
        sources = pair(20, 24)
        assert unlike(network, Tiled(FoldedGeSeNet(network))(*sources), sources) < ROUNDING


def test_networks_without_a_part_are_refused_by_name_and_passed_over_by_auto(monkeypatch):
    parts = Parts(refinement=False)
    for name in ("tiled", "tiled-int16"):
        assert "have all their parts" in why_not(name, torch.device("cpu"), parts)
    network = shuffled(parts)
    network.origin = {}
    monkeypatch.setattr(registry, "load_network", lambda *_: network)
    assert not load_engine("auto").name.startswith("tiled")
    with pytest.raises(DeviceError, match="use auto"):
        load_engine("tiled")


def test_sixteen_bits_are_used_up_and_never_overflow():
    kernels = np.random.default_rng(3).normal(size=(36, 128, 16))
    peaks = np.random.default_rng(4).uniform(0.01, 9, size=(36, 128))
    shorts, inward, outward = to_shorts(kernels, peaks)
    assert np.abs(shorts).max() <= LARGEST
    assert (np.abs(shorts).sum(1) * LARGEST).max() < 2**31
    back = shorts * outward[:, None] * inward[:, :, None]
    worth = np.abs((back - kernels) * peaks[:, :, None]).sum(1) / np.abs(kernels * peaks[:, :, None]).sum(1)
    assert worth.max() < 1e-2


def test_thin_layers_are_computed_two_tiles_at_a_time():
    network = load_network("default")
    # An odd number of tiles in a row, so that one is left over; and one tile only.
    for size in ((36, 44), (3, 4), (50, 101)):
        sources = pair(*size)
        assert unlike(network, Tiled(FoldedGeSeNet(network))(*sources), sources) < ROUNDING


OLDER = """
import sys
import torch
from network_pairs import pair
from medfuse.gesenet.engines.winograd.simd import WIDE
from medfuse.gesenet.engines.registry import load_engine
assert not WIDE
torch.save([load_engine(name)(*pair(61, 70, 2)) for name in ("tiled", "tiled-int16")], sys.argv[1])
"""


@pytest.mark.slow
@pytest.mark.skipif(not WIDE, reason="needs AVX-512")
def test_a_processor_with_shorter_vectors_makes_the_same_pictures(tmp_path):
    told = ",".join(f"+{name}" for name in ("avx", "avx2", "fma", "sse4.2", "popcnt", "bmi", "bmi2", "f16c"))
    told += "".join(f",-avx512{name}" for name in ("f", "cd", "bw", "dq", "vl"))
    paths = os.pathsep.join([str(Path(__file__).parents[1] / "support"), *sys.path])
    older = os.environ | {"NUMBA_CPU_NAME": "haswell", "NUMBA_CPU_FEATURES": told, "PYTHONPATH": paths}
    subprocess.run([sys.executable, "-c", OLDER, tmp_path / "found.pt"], check=True, env=older)
    for name, found in zip(("tiled", "tiled-int16"), torch.load(tmp_path / "found.pt"), strict=True):
        assert float((load_engine(name)(*pair(61, 70, 2)) - found).abs().max()) < 2 * ENGINES[name].tolerance


@pytest.mark.slow
@pytest.mark.skipif(bool(why_not("tiled-int16", torch.device("cpu"))), reason="needs AVX2")
def test_sixteen_bits_stay_within_their_tolerance():
    network = shuffled()
    sources = pair(61, 70, 2)
    tiled = Tiled(FoldedGeSeNet(network), [pair(64, 64, seed=6)])
    assert unlike(network, tiled(*sources), sources) < ENGINES["tiled-int16"].tolerance
