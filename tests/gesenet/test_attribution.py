"""Attribution: the parts add up to the fused luma, a source gets what it brought, and masks are held."""

import csv
import random

import numpy as np
import pytest
import torch
from network_pairs import framed
from PIL import Image

from medfuse.gesenet import Engine, load_engine, load_network
from medfuse.gesenet.attribution import attribute
from medfuse.gesenet.engines.registry import ENGINES, why_not
from medfuse.gesenet.masks import SpatialMask, fuse_and_hold


@pytest.fixture(scope="module")
def network():
    return load_network("default", "cpu")


@pytest.fixture(scope="module")
def pictures():
    draw = torch.Generator().manual_seed(5)
    smooth = torch.nn.functional.interpolate(torch.rand(4, 1, 6, 6, generator=draw), (48, 40), mode="bicubic")
    return smooth[:2].clamp(0, 1), smooth[2:].clamp(0, 1)


def blob(height=48, width=40):
    rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    return torch.exp(-((rows - 24) ** 2 + (columns - 20) ** 2) / 18)[None, None]


@pytest.mark.parametrize("steps", [1, 3])
def test_parts_add_up_to_the_fused_luma(network, pictures, steps):
    found = attribute(network, *pictures, steps=steps)
    with torch.inference_mode():
        fused = network(*pictures)
        black = network(*(torch.zeros_like(side) for side in pictures))
    torch.testing.assert_close(found.mri + found.partner + found.neither, fused, atol=1e-5, rtol=0)
    # Masks are held, and those of black are others: what black alone gives differs little.
    torch.testing.assert_close(found.neither, black.expand_as(found.neither), atol=0.02, rtol=0)


@pytest.mark.parametrize("side", ["mri", "partner"])
def test_a_blob_is_attributed_to_the_source_that_it_is_in(network, side):
    shown, dark = 0.8 * blob(), torch.zeros(1, 1, 48, 40)
    found = attribute(network, *((shown, dark) if side == "mri" else (dark, shown)))
    inside = blob() > 0.5
    own, other = (float(getattr(found, name)[inside].sum()) for name in (side, {"mri": "partner"}.get(side, "mri")))
    assert own > 0
    assert abs(other) < 0.1 * own


def test_a_blob_over_tissue_is_attributed_to_the_source_that_it_is_in(network, pictures):
    mri, partner = (0.3 * side[:1] for side in pictures)
    inside = blob() > 0.5
    before, after = attribute(network, mri, partner), attribute(network, mri, (partner + 0.6 * blob()).clamp(0, 1))
    gained = {name: float((getattr(after, name) - getattr(before, name))[inside].sum()) for name in ("mri", "partner")}
    assert gained["partner"] > 0.9 * (max(gained["mri"], 0) + gained["partner"])


def test_masks_are_held_and_let_go(network, pictures):
    seen = []
    mask = next(each for each in network.modules() if isinstance(each, SpatialMask))
    black = tuple(torch.zeros_like(side) for side in pictures)

    def run(mri, partner):
        # After the hook that holds, so that what is seen is what it gives.
        watching = mask.register_forward_hook(lambda _, __, output: seen.append(output))
        fused = network(mri, partner)
        watching.remove()
        return fused

    with torch.inference_mode():
        fused, held = fuse_and_hold(network, *pictures, run)
        assert torch.equal(fused, network(*pictures))
        held(*black)
        run(*black)
    assert torch.equal(seen[0], seen[1])
    assert not torch.equal(seen[1], seen[2])


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("name", ENGINES)
def test_every_engine_shares_out_alike(network, name, threads):
    obstacle = why_not(name, torch.device("cpu"))
    if obstacle:
        pytest.skip(obstacle)
    engine = load_engine(name)
    # Air around what shows, of which engines leave some out, and sizes that are no multiple of a tile.
    pair = framed(120, 131, 40, 50, (21, 30), count=3)
    torch.set_num_threads(threads)
    try:
        found, fused = attribute(engine, *pair), engine(*pair)
        again = engine(*pair)
    finally:
        torch.set_num_threads(1)
    assert torch.equal(fused, again)
    torch.testing.assert_close(sum(found), fused, atol=1e-5, rtol=0)
    for part, expected in zip(found, attribute(network, *pair), strict=True):
        torch.testing.assert_close(part, expected, atol=max(1e-5, engine.tolerance), rtol=0)


def test_held_engines_forget_for_the_next_picture():
    engine = load_engine("auto")
    one, other = framed(60, 64, 10, 12, (30, 40)), framed(60, 64, 20, 5, (30, 40))
    expected = engine(*other)
    _, held = engine.hold(*one)
    held(*(0.5 * side for side in one))
    assert torch.equal(engine(*other), expected)


def test_an_engine_of_other_making_is_shared_out_without_masks(pictures):
    engine = Engine("mean", torch.device("cpu"), 0.0, {}, lambda mri, partner: (mri + partner) / 2)
    found = attribute(engine, *pictures)
    torch.testing.assert_close(found.mri, pictures[0] / 2)
    torch.testing.assert_close(found.partner, pictures[1] / 2)
    assert not found.neither.any()


@pytest.mark.parametrize("task", ["MRI-CT", "MRI-PET", "MRI-SPECT"])
def test_parts_add_up_on_real_slices(shared_data, task):
    # Of training patients: the test pairs are for scores alone.
    folder = shared_data / "harvard"
    with (folder / "pairs.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if row["split"] == "train" and row["task"] == task]
    engine = load_engine("auto")
    for row in random.Random(task).sample(rows, 3):
        grey = (np.asarray(Image.open(folder / row[side]).convert("L"), np.float32) for side in ("mri", "partner"))
        mri, partner = (torch.from_numpy(side / 255)[None, None] for side in grey)
        found = attribute(engine, mri, partner)
        assert (sum(found) - engine(mri, partner)).abs().max() < 0.001


def test_at_least_one_step(network, pictures):
    with pytest.raises(ValueError, match="at least one step"):
        attribute(network, *pictures, steps=0)
