"""The tiled engine: what it leaves out changes no picture, and what it is built of computes what it says."""

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch

pytest.importorskip("numba")

from network_pairs import PLACES, framed, pair, shuffled

from medfuse.errors import DeviceError
from medfuse.gesenet.engines import registry
from medfuse.gesenet.engines.folded import FoldedGeSeNet
from medfuse.gesenet.engines.registry import ENGINES, load_engine, why_not
from medfuse.gesenet.engines.winograd.compile_network import CompiledNetwork
from medfuse.gesenet.engines.winograd.pack_weights import pack
from medfuse.gesenet.engines.winograd.simd import HAS_AVX512
from medfuse.gesenet.engines.winograd.tiled import Tiled, Workspace
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


def test_maps_that_keep_a_few_rows_make_the_same_pictures_in_less_memory():
    network = CompiledNetwork(FoldedGeSeNet(shuffled()))
    packed = pack(network.specs, network.small)
    few, some, every = (
        Workspace(network, packed, 131, 62, whole=whole, bands=bands)
        for whole, bands in ((False, 1), (False, 3), (True, 1))
    )
    assert 0.6 * len(every.arena) > len(few.arena)
    assert len(every.arena) > len(some.arena) > len(few.arena)
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
    network = CompiledNetwork(FoldedGeSeNet(shuffled()))
    picture = Workspace(network, pack(network.specs, network.small), 200, 160)
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
    assert "have all their parts" in why_not("tiled", torch.device("cpu"), parts)
    network = shuffled(parts)
    network.origin = {}
    monkeypatch.setattr(registry, "load_network", lambda *_: network)
    assert load_engine("auto").name == "masked"
    with pytest.raises(DeviceError, match="use auto"):
        load_engine("tiled")


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
from medfuse.gesenet.engines.winograd.simd import HAS_AVX512
from medfuse.gesenet.engines.registry import load_engine
assert not HAS_AVX512
torch.save(load_engine("tiled")(*pair(61, 70, 2)), sys.argv[1])
"""


@pytest.mark.slow
@pytest.mark.skipif(not HAS_AVX512, reason="needs AVX-512")
def test_a_processor_with_shorter_vectors_makes_the_same_pictures(tmp_path):
    told = ",".join(f"+{name}" for name in ("avx", "avx2", "fma", "sse4.2", "popcnt", "bmi", "bmi2", "f16c"))
    told += "".join(f",-avx512{name}" for name in ("f", "cd", "bw", "dq", "vl"))
    paths = os.pathsep.join([str(Path(__file__).parents[1] / "support"), *sys.path])
    older = os.environ | {"NUMBA_CPU_NAME": "haswell", "NUMBA_CPU_FEATURES": told, "PYTHONPATH": paths}
    subprocess.run([sys.executable, "-c", OLDER, tmp_path / "found.pt"], check=True, env=older)
    found = torch.load(tmp_path / "found.pt")
    assert float((load_engine("tiled")(*pair(61, 70, 2)) - found).abs().max()) < 2 * ENGINES["tiled"].tolerance
