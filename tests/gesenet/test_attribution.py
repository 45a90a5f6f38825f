"""Attribution: the parts add up to the fused luma, a source gets what it brought, and masks are held."""

import pytest
import torch

from medfuse.gesenet import load_network
from medfuse.gesenet.attribution import attribute, held_masks
from medfuse.gesenet.masks import SpatialMask


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
    with torch.inference_mode():
        with held_masks(network) as hold:
            # After the holding hook, so that what is seen is what it gives.
            watching = mask.register_forward_hook(lambda _, __, output: seen.append(output))
            network(*pictures)
            hold()
            network(*(torch.zeros_like(side) for side in pictures))
        network(*(torch.zeros_like(side) for side in pictures))
        watching.remove()
    assert torch.equal(seen[0], seen[1])
    assert not torch.equal(seen[1], seen[2])


def test_at_least_one_step(network, pictures):
    with pytest.raises(ValueError, match="at least one step"):
        attribute(network, *pictures, steps=0)
