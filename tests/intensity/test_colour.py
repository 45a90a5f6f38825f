import pytest
import torch

from medfuse.dicom.palettes import palette_table
from medfuse.errors import IntensityError
from medfuse.intensity.colour import (
    NEUTRAL_CHROMA,
    colourise,
    fuse_chroma,
    join_luma_chroma,
    join_palette,
    palette_luma,
    shown_luma,
    split_chroma,
    split_luma,
    tint,
)
from medfuse.volume import PALETTES


def test_luma_and_chroma_are_those_of_pillow():
    from PIL import Image

    rgb = torch.randint(0, 256, (3, 40, 50), generator=torch.Generator().manual_seed(3), dtype=torch.uint8)
    reference = torch.tensor(
        [list(pixel) for pixel in Image.fromarray(rgb.permute(1, 2, 0).numpy()).convert("YCbCr").get_flattened_data()]
    )
    ours = torch.cat((split_luma(rgb / 255), split_chroma(rgb / 255))).flatten(1).T * 255
    # Pillow's neutral chroma is 128, ours 127.5, and it rounds.
    assert (ours[:, 0] - reference[:, 0]).abs().max() <= 1
    assert (ours[:, 1:] + 0.5 - reference[:, 1:]).abs().max() <= 1.01


def test_joining_undoes_splitting():
    rgb = torch.rand((3, 6, 7), generator=torch.Generator().manual_seed(4))
    torch.testing.assert_close(join_luma_chroma(split_luma(rgb), split_chroma(rgb)), rgb)


def test_a_tint_has_no_luma_and_what_is_shown_is_cut_to_the_screen():
    rgb = torch.rand(3, 40, generator=torch.Generator().manual_seed(4))
    tints = tint(rgb)
    assert split_luma(tints).abs().max() < 1e-6
    assert torch.allclose(split_luma(rgb) + tints, rgb, atol=1e-6)
    luma = torch.rand(1, 40, generator=torch.Generator().manual_seed(5)).requires_grad_(True)
    shown = shown_luma(luma, tints)
    assert torch.allclose(shown, split_luma(join_luma_chroma(luma.detach(), split_chroma(rgb))), atol=1e-6)
    red = shown_luma(torch.tensor([0.9]), tint(torch.tensor([[1.0], [0.0], [0.0]])))
    assert red.item() == pytest.approx(0.299 + (1 - 0.299) * (0.9 - 0.299), abs=1e-6)
    shown.sum().backward()
    assert 0 <= luma.grad.min() < luma.grad.max() == pytest.approx(1)


def test_chroma_survives_a_grey_partner_and_stays_neutral_between_two():
    colour = torch.tensor([0.2, 0.7])[:, None]
    grey = torch.full((2, 1), NEUTRAL_CHROMA)
    torch.testing.assert_close(fuse_chroma(grey, colour), colour)
    torch.testing.assert_close(fuse_chroma(grey, grey), grey)


def test_chroma_follows_equation_5():
    first, second = torch.tensor([[0.9], [0.5]]), torch.tensor([[0.6], [0.1]])
    expected = torch.tensor([[(0.9 * 0.4 + 0.6 * 0.1) / 0.5], [0.1]])
    torch.testing.assert_close(fuse_chroma(first, second), expected)


@pytest.mark.parametrize("palette", PALETTES)
def test_palettes_hit_their_entries_exactly(palette):
    table = torch.tensor(palette_table(palette))
    shown = colourise(torch.linspace(0, 1, 256)[None], palette_table(palette))
    torch.testing.assert_close(shown.T, table, atol=1e-4, rtol=0)


def test_hot_iron_runs_from_black_to_white_with_growing_luma():
    luma = split_luma(colourise(torch.linspace(0, 1, 1000)[None], palette_table("hot-iron")))[0]
    assert luma[0] == 0
    assert luma[-1] == pytest.approx(1, abs=1e-3)
    assert (luma.diff() >= -1e-6).all()


@pytest.mark.parametrize("palette", PALETTES)
def test_luma_and_chroma_by_table_are_those_of_the_colours(palette):
    generator = torch.Generator().manual_seed(6)
    luma, uptake = torch.rand((2, 1, 3, 40, 50), generator=generator).unbind()
    uptake[..., :5] = torch.tensor([0.0, 1.0, 0.5, 1 / 255, 254 / 255])
    colours = colourise(uptake, palette_table(palette))
    torch.testing.assert_close(palette_luma(uptake, palette_table(palette)), split_luma(colours))
    grey = torch.full((2, *uptake.shape[1:]), NEUTRAL_CHROMA)
    expected = join_luma_chroma(luma, fuse_chroma(grey, split_chroma(colours))) * 255
    joined = join_palette(luma, uptake, palette_table(palette))
    assert joined.dtype == torch.uint8
    assert (joined.float() - expected).abs().max() < 0.501


def test_an_unknown_palette_is_refused_by_name():
    with pytest.raises(IntensityError, match=r"hot-iron.*found 'rainbow'"):
        palette_table("rainbow")
