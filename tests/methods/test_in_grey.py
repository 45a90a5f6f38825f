"""Grey pictures are nowhere much brighter than both sources; their parts still add up."""

from __future__ import annotations

import pytest
import torch

import medfuse
from medfuse.errors import MethodError
from medfuse.gesenet import load_network
from medfuse.methods import FusionMethod, load_method
from medfuse.methods.attribution import share_out

LIMIT = 8 / 255


@pytest.fixture(scope="module")
def sides() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(3)
    coarse = torch.rand((2, 2, 1, 12, 12), generator=generator)
    return tuple(torch.nn.functional.interpolate(side, (48, 48), mode="bilinear") for side in coarse)


def test_gesenet_in_grey_is_its_picture_cut_above_both_sources(sides: tuple[torch.Tensor, torch.Tensor]) -> None:
    method = load_method("gesenet")
    free, cut = method(*sides), method.in_grey()(*sides)
    ceiling = torch.maximum(*sides) + LIMIT
    assert (free > ceiling).any()
    torch.testing.assert_close(cut, torch.minimum(free, ceiling), atol=0, rtol=0)
    assert method.in_grey().to_dict() == method.to_dict()


def test_what_is_held_is_cut_too_and_the_parts_still_add_up(sides: tuple[torch.Tensor, torch.Tensor]) -> None:
    method = load_method("gesenet").in_grey()
    fused, held = method.holding(*sides)
    torch.testing.assert_close(fused, method(*sides), atol=1e-5, rtol=0)
    parts = share_out(fused, held, *sides, steps=8)
    black = held(*(torch.zeros_like(side) for side in sides))
    assert float((sum(parts) - fused).abs().max()) < 0.01 + float(black.abs().max())


def test_methods_of_others_and_simple_ones_are_left_as_they_are() -> None:
    theirs = FusionMethod("theirs", lambda mri, luma: torch.ones_like(mri))
    assert theirs.in_grey() is theirs
    laplacian = load_method("laplacian")
    assert laplacian.in_grey() is laplacian


def test_a_ct_is_fused_in_grey_and_a_pet_in_colour_is_not_cut() -> None:
    for modality, cut in (("CT", True), ("PT", False)):
        phantom = medfuse.phantom_study(modality, coarsen=4)
        fused = medfuse.fuse(phantom.mri, phantom.partner, lazy=True)
        assert (fused.slices.shown_by.grey_limit is None) is cut


def test_a_ct_of_a_network_that_has_learnt_since_is_refused() -> None:
    network = load_network()
    phantom = medfuse.phantom_study("CT", coarsen=4)
    fused = medfuse.fuse(phantom.mri, phantom.partner, method=network, lazy=True)
    with torch.no_grad():
        next(network.parameters()).add_(0.01)
    with pytest.raises(MethodError, match="have changed since"):
        fused.slices.keep()
