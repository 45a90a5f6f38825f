import numpy as np
import pytest
import torch

from medfuse.dicom.palettes import palette_table
from medfuse.intensity.colour import LUMA_WEIGHTS
from medfuse.intensity.oklab import companded, from_oklab, largest_chroma, lightness, linear, to_oklab
from medfuse.intensity.palette_join import SHARES, Shares, join_uptake, legend, violet_to_orange
from medfuse.volume import PALETTES


def test_oklab_gives_the_published_values():
    # Ottosson's page: the space was fitted so that D65 white is lightness 1 without chroma; red as in CSS Color 4.
    known = torch.tensor([[1.0, 1, 1], [1, 0, 0], [0, 0, 0]], dtype=torch.float64).T
    expected = torch.tensor([[1.0, 0, 0], [0.62796, 0.22486, 0.12585], [0, 0, 0]], dtype=torch.float64).T
    torch.testing.assert_close(to_oklab(known), expected, atol=2e-5, rtol=0)


def test_oklab_and_back_is_the_identity():
    rgb = torch.rand(3, 500, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    torch.testing.assert_close(companded(from_oklab(to_oklab(rgb))), rgb, atol=1e-9, rtol=0)
    torch.testing.assert_close(companded(linear(rgb)), rgb)


def test_the_largest_chroma_is_on_the_border_of_what_a_screen_shows():
    generator = torch.Generator().manual_seed(3)
    bright, hue = 0.2 + 0.7 * torch.rand(200, generator=generator).double(), 6.3 * torch.rand(200).double()
    for factor, shown in ((1.0, True), (1.05, False)):
        chroma = largest_chroma(bright, hue) * factor
        light = from_oklab(torch.stack((bright, chroma * hue.cos(), chroma * hue.sin())))
        assert bool(((light > 0) & (light < 1)).all(0).all()) is shown


def test_the_default_palette_rises_in_lightness_and_ends_in_colour():
    _, green_red, blue_yellow = lab = to_oklab(torch.tensor(violet_to_orange().T, dtype=torch.float64))
    chroma = green_red.hypot(blue_yellow)
    assert lab[0, 0] == pytest.approx(0, abs=1e-6)
    assert (lab[0].diff() > 0).all()
    assert chroma[-1] > 0.17
    assert chroma[-1] >= chroma.max() - 1e-3
    turns = torch.atan2(blue_yellow, green_red)[8:].diff()
    assert ((turns < 0) | (turns > 3)).all()  # through ±180° once


def grid():
    """MRI along rows, uptake along columns: (1, 201, 201) each."""
    steps = torch.linspace(0, 1, 201)
    return steps[None, :, None].expand(1, 201, 201), steps[None, None].expand(1, 201, 201)


def test_mri_and_uptake_can_be_told_from_every_colour():
    mri, uptake = grid()
    joined = join_uptake(mri, mri, uptake, violet_to_orange())
    assert joined.dtype == torch.uint8
    bright, green_red, blue_yellow = to_oklab(joined.double() / 255)
    assert (bright.diff(dim=0) > -3e-3).all()  # rounding to 8 bits
    assert (bright[-1] - bright[0] > 0.25).all()
    # Nothing is clipped: every channel is short of its ends once anything is shown.
    inside = joined[:, 20:, :]
    assert inside.min() > 0
    assert inside.max() < 255
    # By hue alone, from a fifth of the range on.
    hue = torch.atan2(blue_yellow, green_red).rad2deg()[40:, 40:]
    turned = (hue - 315) % -360 + 360
    assert (turned.diff(dim=1) < 3).all()
    assert (turned.std(dim=0) < 4).all()


def test_the_luma_of_a_colour_is_the_shares_of_both_whatever_its_hue():
    mri, uptake = grid()
    joined = join_uptake(mri, mri, uptake, violet_to_orange())
    luma = torch.tensordot(torch.tensor(LUMA_WEIGHTS), joined.float() / 255, 1)
    expected = SHARES.mri * mri + SHARES.uptake * uptake - SHARES.both * mri * uptake
    assert (luma - expected[0]).abs().max() < 0.01


def test_without_uptake_the_mri_stays_grey():
    mri, _ = grid()
    joined = join_uptake(mri, mri, torch.zeros_like(mri), violet_to_orange()).int()
    assert (joined.amax(0) - joined.amin(0)).max() <= 1
    np.testing.assert_allclose(joined[0, :, 0] / 255, SHARES.mri * mri[0, :, 0], atol=0.006)


@pytest.mark.parametrize("palette", PALETTES)
def test_the_colour_of_a_slice_does_not_depend_on_its_neighbours_and_follows_the_fused_luma(palette):
    generator = torch.Generator().manual_seed(6)
    luma, mri, uptake = torch.rand((3, 1, 3, 40, 50), generator=generator)
    table = palette_table(palette)
    together = join_uptake(luma, mri, uptake, table)
    for k in range(3):
        assert torch.equal(join_uptake(luma[:, k], mri[:, k], uptake[:, k], table), together[:, k])
    brighter = join_uptake((luma + 0.3).clamp(max=1), mri, uptake, table)
    assert lightness_of(brighter).mean() > lightness_of(together).mean() + 0.01


def test_hot_spots_keep_their_colour_over_a_bright_mri():
    one = torch.ones(1, 1)
    lab = to_oklab(join_uptake(one, one, one, violet_to_orange()).double() / 255)[:, 0]
    assert lab[1:].norm() > 0.06
    whiter = to_oklab(join_uptake(one, one, one, violet_to_orange(), Shares(both=0.0)).double() / 255)[:, 0]
    assert whiter[1:].norm() < lab[1:].norm() - 0.03


def without_green_cones(rgb):
    """What a deuteranope sees of (3, N) sRGB: Viénot et al. 1999, equations 3 to 5."""
    to_cones = torch.tensor(
        [[17.8824, 43.5161, 4.11935], [3.45565, 27.1554, 3.86714], [0.0299566, 0.184309, 1.46709]], dtype=torch.float64
    )
    lost = torch.tensor([[1, 0, 0], [0.494207, 0, 1.24827], [0, 0, 1]], dtype=torch.float64)
    return companded(torch.linalg.inv(to_cones) @ lost @ to_cones @ linear(rgb.double()))


def test_the_default_palette_keeps_its_order_in_grey_print_and_without_green_cones():
    palette = torch.tensor(violet_to_orange().T)
    assert (lightness_of(palette * 255).diff() > 0).all()
    lab = to_oklab(without_green_cones(palette))
    assert (lab[0].diff() > 0).all()
    # An eighth of the range further, a colour looks different by more than is just seen.
    assert (lab[:, 32:] - lab[:, :-32]).norm(dim=0).min() > 0.03


def lightness_of(rgb):
    return to_oklab(rgb.double() / 255)[0]


def test_the_legend_is_what_a_slice_shows_over_an_even_mri():
    mri = torch.full((1, 256), 0.5)
    shown = join_uptake(mri, mri, torch.linspace(0, 1, 256)[None], violet_to_orange())
    np.testing.assert_allclose(legend(violet_to_orange()) * 255, shown.T.numpy(), atol=1e-4)


def test_lightness_of_greys_is_that_of_oklab():
    grey = torch.linspace(0, 1, 50, dtype=torch.float64)
    torch.testing.assert_close(lightness(grey), to_oklab(grey.expand(3, -1))[0], atol=1e-6, rtol=0)
