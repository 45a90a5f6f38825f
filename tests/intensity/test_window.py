import numpy as np
import pytest
import torch
from synthetic import oblique_grid

from medfuse.errors import IntensityError
from medfuse.intensity import Window, choose_window, outside_value, parse_window, scale, to_unit
from medfuse.volume import make_volume


def volume_of(values, modality, unit="arbitrary"):
    grid = oblique_grid((10, 20, 30))
    return make_volume(
        torch.as_tensor(values, dtype=torch.float32).reshape(1, *grid.shape), grid, modality=modality, unit=unit
    )


def head(seed=1, bright=1000.0):
    """One third air with noise, the rest tissue."""
    generator = torch.Generator().manual_seed(seed)
    values = torch.rand(6000, generator=generator)
    return torch.where(torch.arange(6000) < 2000, values * 5, 300 + values * (bright - 300))


def test_mri_is_scaled_by_its_tissue_whatever_its_unit():
    window = choose_window(volume_of(head(), "MR"))
    assert 0 <= window.lower < 5
    assert 980 < window.upper < 1000
    thousandfold = choose_window(volume_of(head() * 1000, "MR"))
    assert thousandfold.upper == pytest.approx(1000 * window.upper, rel=1e-3)


def test_one_hot_voxel_does_not_darken_an_mri():
    values = head()
    values[3000] = 1e6
    calm = choose_window(volume_of(head(), "MR"))
    assert choose_window(volume_of(values, "MR")).upper < 1e6
    assert calm.upper < 1000


def test_every_slice_counts_for_the_range_however_many_there_are(monkeypatch):
    monkeypatch.setattr("medfuse.intensity.window.MAXIMUM_SAMPLES", 600)  # every tenth voxel: of 30 slices, three
    grid = oblique_grid((10, 20, 30))
    values = torch.ones(1, *grid.shape)
    values[..., 15] = 1000.0
    uptake = choose_window(make_volume(values, grid, modality="PT", unit="Bq/ml"))
    assert uptake.upper == 1000


@pytest.mark.parametrize("modality", ["PT", "NM"])
def test_uptake_without_a_value_above_0_is_refused(modality):
    with pytest.raises(IntensityError, match="values above 0; found none above -5"):
        choose_window(volume_of(torch.linspace(-1000, -5, 6000), modality))


def test_ct_in_hu_has_a_fixed_window_and_presets():
    values = torch.linspace(-1000, 2000, 6000)
    ct = volume_of(values, "CT", "HU")
    assert choose_window(ct) == choose_window(volume_of(values * 0.5 - 100, "CT", "HU"))
    assert choose_window(ct, "brain") == Window(0, 80)
    scaled = scale(ct, choose_window(ct, "40,80"))
    assert scaled.min() == 0
    assert scaled.max() == 1


def test_a_preset_in_hu_is_refused_for_other_units():
    with pytest.raises(IntensityError, match="in HU, but the CT volume is in arbitrary"):
        choose_window(volume_of(head(), "CT"), "bone")


def test_pet_starts_at_zero_and_takes_a_given_uptake():
    pet = volume_of(head(bright=20_000.0), "PT", "Bq/ml")
    window = choose_window(pet)
    assert window.lower == 0
    assert 19_000 < window.upper <= 20_000
    assert choose_window(pet, "5000,10000") == choose_window(pet, "10000") == Window(0, 10_000)


@pytest.mark.parametrize("text", ["bones", "40,80,2", "a,b", ""])
def test_a_window_that_is_none_is_refused(text):
    with pytest.raises(IntensityError, match="LEVEL,WIDTH"):
        parse_window(text)


def test_a_window_without_width_is_refused():
    for text in ("40,0", "0,-5", "0", "0,inf", "nan,nan", "5000,1e39"):
        with pytest.raises(IntensityError, match="positive width"):
            parse_window(text)


def test_a_constant_volume_is_refused():
    with pytest.raises(IntensityError, match="constant"):
        choose_window(volume_of(torch.zeros(6000), "PT"))


def test_outside_is_air():
    assert outside_value(volume_of(head() - 1000, "CT", "HU")) == -1024
    assert outside_value(volume_of(head() + 7, "CT")) == float((head() + 7).min())
    assert outside_value(volume_of(head(), "PT", "Bq/ml")) == 0


def test_scaling_is_one_linear_map_for_the_whole_volume():
    mri = volume_of(head(), "MR")
    window = choose_window(mri)
    scaled = scale(mri, window)
    inside = (mri.as_tensor() > window.lower) & (mri.as_tensor() < window.upper)
    expected = (mri.as_tensor() - window.lower) / window.width
    torch.testing.assert_close(scaled.as_tensor()[inside], expected[inside])
    assert scaled.meta["window"] == window


def test_the_default_ct_window_is_a_tone_curve_with_room_for_brain_blood_and_bone():
    ct = volume_of(torch.linspace(-1000, 2000, 6000), "CT", "HU")
    window = choose_window(ct)
    assert window == parse_window("head")
    points = torch.tensor([-1000.0, -10, 0, 28, 38, 75, 120, 400, 1350, 3000])
    shown = to_unit(points, window)
    assert (shown.diff() >= 0).all()
    assert shown[0] == shown[1] == 0
    assert shown[-1] == 1
    white_matter, cortex, blood = shown[3], shown[4], shown[5]
    assert cortex - white_matter > 0.04
    assert blood - cortex > 0.5
    assert shown[8] - shown[6] > 0.05
    expected = np.interp(points.numpy(), *zip(*window.points, strict=True))
    np.testing.assert_allclose(shown.numpy(), expected, atol=1e-6)
    assert scale(ct, window).meta["window"] == window
    assert window.linear == Window(-10, 75)


@pytest.mark.parametrize(
    "bends", [((0.0, 0.5), (0.0, 0.6)), ((50.0, 0.5), (40.0, 0.6)), ((50.0, 1.0),), ((90.0, 0.1),)]
)
def test_a_tone_curve_that_does_not_rise_is_refused(bends):
    with pytest.raises(IntensityError, match="must rise"):
        Window(-10, 80, bends)


@pytest.mark.parametrize("modality", ["PT", "NM"])
@pytest.mark.parametrize("share", [0.002, 0.01])
def test_a_bladder_does_not_stretch_the_range_of_uptake(modality, share):
    values = head(bright=900.0)
    calm = choose_window(volume_of(values, modality))
    hot = values.clone()
    hot[-int(share * len(hot)) :] = 50_000.0
    assert choose_window(volume_of(hot, modality)).upper == pytest.approx(calm.upper, rel=0.05)


def test_uptake_that_is_moderately_higher_in_a_small_place_is_within_the_range():
    values = head(bright=900.0)
    values[-60:] = 2500.0
    assert choose_window(volume_of(values, "PT")).upper == 2500


@pytest.mark.parametrize("text", ["100,-50", "100,0", "-5", "0", "nan", "inf", "1,nan", "1e40", "1e38,1"])
def test_a_window_that_is_none_is_quoted_as_typed(text):
    with pytest.raises(IntensityError, match=f"positive width.*found '{text}'"):
        parse_window(text)


def test_a_mistyped_preset_is_answered_with_the_name_that_is_most_like_it():
    with pytest.raises(IntensityError, match=r"found 'bnoe'\. Did you mean 'bone'\?"):
        parse_window("bnoe")


def test_a_window_says_its_limits_as_people_write_them():
    assert str(Window(0, 17358.4)) == "0 to 17360"
    assert str(Window(-10, 1500)) == "-10 to 1500"
    assert str(Window(0, 4.21234)) == "0 to 4.212"
    assert str(Window(0, 3e7)) == "0 to 3e+07"
