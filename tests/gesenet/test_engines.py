"""Every engine makes the pictures of the network, whatever it leaves out."""

import logging
import sys

import pytest
import torch
from network_pairs import PLACES, framed, pair, shuffled
from torch.nn import functional

from medfuse.errors import DeviceError
from medfuse.gesenet import GeSeNet, load_engine, load_network
from medfuse.gesenet.architecture import Parts, Widths
from medfuse.gesenet.engines import ENGINE_NAMES
from medfuse.gesenet.engines.air_crop import REACH, AirCrop
from medfuse.gesenet.engines.cuda_graph import CudaGraphs
from medfuse.gesenet.engines.folded import RADIUS, FoldedGeSeNet
from medfuse.gesenet.engines.masked_tiles import TILE, add_in_tiles
from medfuse.gesenet.engines.registry import ENGINES, FASTEST_FIRST, as_engine, why_not

CPU = torch.device("cpu")
ROUNDING = 2e-6


@pytest.fixture(scope="module")
def engine_named():
    made = {}

    def get(name):
        obstacle = why_not(name, CPU)
        if obstacle:
            pytest.skip(obstacle)
        if name not in made:
            made[name] = load_engine(name)
        return made[name]

    return get


@pytest.mark.parametrize("name", ENGINES)
def test_every_engine_makes_the_same_pictures(engine_named, name):
    engine, network = engine_named(name), load_network()
    assert engine.name == name
    assert engine.origin == network.origin
    pictures = [pair(*size) for size in ((33, 47), (64, 64, 3), (2, 3), (1, 1), (1, 50, 2))]
    pictures.append(framed(120, 131, 40, 50, (21, 30), count=2))
    for sources in pictures:
        fused = engine(*sources)
        assert fused.shape == sources[0].shape
        assert fused.dtype == torch.float32
        assert (fused - network(*sources)).abs().max() <= engine.tolerance


@pytest.mark.parametrize("skip", [False, True])
@pytest.mark.parametrize(
    "parts", [Parts(), Parts(edge=False), Parts(region=False), Parts(refinement=False, skip=False), Parts(swapped=True)]
)
def test_folding_changes_no_picture(parts, skip):
    network = shuffled(parts)
    folded = FoldedGeSeNet(network, skip=skip)
    sources = pair(37, 50, count=2)
    fused, gates = folded(*sources, torch.ones(1), torch.zeros(2, folded.channels))
    assert gates.shape == (2, 2, folded.channels)
    torch.testing.assert_close(fused, network(*sources), atol=ROUNDING, rtol=0)


@pytest.mark.parametrize("principal", [0, 32])
@pytest.mark.parametrize("skip", [False, True])
def test_masks_that_are_all_of_one_kind(principal, skip):
    network = shuffled()
    logits = network.mri.region.body.channel_logits
    logits[..., 0], logits[..., 1] = 0.0, 1.0
    logits[:, :principal, :, 0] = 2.0
    folded = FoldedGeSeNet(network, skip=skip)
    sources = pair(20, 24)
    fused, _ = folded(*sources, torch.ones(1), torch.zeros(2, folded.channels))
    torch.testing.assert_close(fused, network(*sources), atol=ROUNDING, rtol=0)


def test_only_tiles_with_a_mark_are_convolved(monkeypatch):
    features, kernels = torch.randn(2, 5, 50, 37), torch.randn(7, 5, 3, 3)
    mask = torch.zeros(2, 1, 50, 37)
    mask[0, 0, 3, 3:20] = mask[1, 0, 49, 36] = 1
    sums = torch.ones(2, 7, 50, 37)
    convolved = []

    def watched(*given):
        convolved.append(len(given[0]))
        return torch.conv2d(*given)

    monkeypatch.setattr(functional, "conv2d", watched)
    add_in_tiles(sums, features, kernels, mask)
    assert convolved == [3]  # two tiles of 16 under the first mark, one under the second
    expected = 1 + mask * torch.conv2d(features, kernels, padding=1)
    torch.testing.assert_close(sums, expected, atol=1e-4, rtol=0)
    add_in_tiles(sums, features, kernels, torch.zeros_like(mask))
    assert convolved == [3]
    assert TILE == 16


@pytest.mark.parametrize(("size", "place", "inner"), PLACES)
@pytest.mark.parametrize("parts", [Parts(), Parts(region=False), Parts(swapped=True)])
def test_air_is_left_out_and_put_back(size, place, inner, parts):
    network = shuffled(parts)
    folded = FoldedGeSeNet(network)
    seen = []
    folded.register_forward_pre_hook(lambda _, given: seen.append(given[0].shape))
    sources = framed(*size, *place, inner, count=2)
    fused = AirCrop(folded)(*sources)
    assert seen[0][-2] * seen[0][-1] < 0.85 * size[0] * size[1]
    torch.testing.assert_close(fused, network(*sources), atol=ROUNDING, rtol=0)


def test_a_black_slice_costs_next_to_nothing():
    network = shuffled()
    folded = FoldedGeSeNet(network)
    black = torch.zeros(3, 1, 140, 121)
    seen = []
    folded.register_forward_pre_hook(lambda _, given: seen.append(given[0].shape[-2:].numel()))
    torch.testing.assert_close(AirCrop(folded)(black, black), network(black, black), atol=ROUNDING, rtol=0)
    assert seen == [256]


@pytest.mark.parametrize("parts", [Parts(), Parts(swapped=True)])
def test_the_reach_is_as_stated(parts):
    """One pixel changes nothing further away, attention kept apart; and does change something that far."""
    network = FoldedGeSeNet(shuffled(parts, widths=Widths()))
    size = 4 * REACH + 1
    mri, partner = pair(size, size)
    gates = torch.full((2, 1, network.channels), 0.7)
    before = network.after(network.before(mri, partner), gates)
    reached = 0
    for row, column in ((2 * REACH, 2 * REACH), (2 * REACH + 1, 2 * REACH), (2 * REACH, 2 * REACH + 1)):
        for side in (mri, partner):
            kept = side[0, 0, row, column].clone()
            side[0, 0, row, column] = 5 - 10 * kept
            changed = (network.after(network.before(mri, partner), gates) != before)[0, 0].nonzero()
            side[0, 0, row, column] = kept
            reached = max(reached, int((changed - torch.tensor([row, column])).abs().max()))
    assert RADIUS - 4 <= reached <= RADIUS <= REACH


def test_pictures_that_do_not_pair_are_refused():
    engine = as_engine(shuffled())
    with pytest.raises(ValueError, match=r"found \(1, 1, 4, 4\) and \(1, 1, 4, 5\)"):
        engine(torch.zeros(1, 1, 4, 4), torch.zeros(1, 1, 4, 5))
    with pytest.raises(ValueError, match=r"\(N, 1, H, W\)"):
        engine(torch.zeros(4, 4), torch.zeros(4, 4))


def test_unknown_and_absent_engines_say_what_to_do(monkeypatch):
    with pytest.raises(DeviceError, match=r"expected an engine of auto, reference, .*; found 'fast'\."):
        load_engine("fast")
    monkeypatch.setitem(sys.modules, "numba", None)
    with pytest.raises(DeviceError, match=r"needs numba, which cannot be imported here"):
        load_engine("tiled")
    assert "runs on the CPU only" in why_not("masked", torch.device("cuda"))


def test_auto_takes_the_first_that_is_here_and_says_so(monkeypatch, caplog):
    monkeypatch.setitem(sys.modules, "numba", None)
    with caplog.at_level(logging.INFO, logger="medfuse"):
        engine = load_engine("auto")
    assert engine.name == "masked"
    assert "engine masked on cpu" in caplog.text
    assert not why_not("half", torch.device("cuda"))
    assert set(FASTEST_FIRST["cpu"]) | set(FASTEST_FIRST["cuda"]) <= set(ENGINES)
    assert list(ENGINES) == list(ENGINE_NAMES)


def test_half_precision_keeps_the_interface_of_graphs():
    network = shuffled()
    folded = FoldedGeSeNet(network)
    sources = pair(30, 41)
    fused = CudaGraphs(folded)(*sources)
    assert fused.dtype == torch.float32
    assert (fused - network(*sources)).abs().mean() < 0.02


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("name", ["reference", "half", "auto"])
def test_cuda_engines_make_the_same_pictures(name):
    engine, network = load_engine(name, "cuda"), load_network()
    for size in ((33, 47), (64, 64, 3), (33, 47)):
        sources = pair(*size)
        fused = engine(*sources)
        assert fused.device.type == "cpu"
        assert (fused - network(*sources)).abs().max() <= max(engine.tolerance, 1e-3)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1.5, -0.2])
def test_pictures_out_of_range_are_refused_by_every_engine(value):
    mri, partner = pair(40, 40)
    partner[0, 0, 3, 4] = value
    for engine in (as_engine(GeSeNet()), load_engine("masked")):
        with pytest.raises(ValueError, match=r"in \[0, 1\]; found .*Scale"):
            engine(mri, partner)
