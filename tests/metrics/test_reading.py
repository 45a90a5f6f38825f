import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter

from medfuse.dicom.palettes import palette_table
from medfuse.errors import GeometryError
from medfuse.intensity.palette_join import join_uptake, violet_to_orange
from medfuse.methods import CLASSIC, average, blend, guided_filter, laplacian, maximum
from medfuse.metrics.excess import invented, overshoot
from medfuse.metrics.lesions import DIAMETERS_MM, insert_lesions, plan_lesions
from medfuse.metrics.read_back import clipped_share, read_by_legend, read_by_table
from medfuse.metrics.reading import lesions_by_class, read_pictures


def head(count=12, size=96, seed=4):
    """Smooth, independent MRI and uptake in an ellipse: (N, 1, H, W) float32 each."""
    generator = np.random.default_rng(seed)
    rows, columns = np.mgrid[-1 : 1 : size * 1j, -1 : 1 : size * 1j]
    inside = rows**2 / 0.8 + columns**2 / 0.6 < 1
    sides = []
    for sigma in (3, 6):
        values = gaussian_filter(generator.normal(size=(count, size, size)), (0, sigma, sigma))
        values = (0.45 + 0.15 * values / values.std()).clip(0.1, 0.9) * inside
        sides.append(torch.from_numpy(values[:, None]).float())
    return sides


def whole(side):
    return (side * 255).round().clamp(0, 255).to(torch.uint8)


def test_what_a_picture_holds_is_read_back_and_what_it_does_not_hold_is_not():
    mri, uptake = head()
    where = mri > 0
    joined = join_uptake(*(side.movedim(1, 0) for side in (mri, mri, uptake)), violet_to_orange()).movedim(0, 1)
    assert read_by_table(joined, uptake, where).spearman > 0.98
    assert read_by_table(joined, mri, where).mean_error < 0.02
    assert read_by_legend(joined, uptake, where, violet_to_orange()).spearman > 0.99
    grey = whole(mri)
    assert read_by_table(grey, mri, where).spearman > 0.98
    assert abs(read_by_table(grey, uptake, where).spearman) < 0.3
    assert clipped_share(joined, where) == 0
    assert clipped_share(whole(torch.cat((mri, mri, 2 * uptake), 1)), where) > 0.1


def test_the_table_is_learnt_on_other_slices_than_it_reads():
    mri, _ = head(count=4)
    where = mri > 0
    shown = whole(mri)
    shown[1::2] = 255 - shown[1::2]  # the same colours mean the opposite on the slices that are read
    assert read_by_table(shown, mri, where).spearman < -0.5
    with pytest.raises(GeometryError, match="needs two"):
        read_by_table(shown[:1], mri[:1], where[:1])
    with pytest.raises(GeometryError, match="found"):
        read_by_table(shown, mri[:, :, :-1], where)


def test_what_a_source_has_is_not_invented():
    mri, uptake = (whole(side).double() for side in head(count=3))
    where = mri > 0
    assert invented(mri, mri, uptake).max() == 0
    assert invented((2 * mri).clamp(max=255), mri, uptake).min() > 0.1
    assert overshoot(torch.maximum(mri, uptake), mri, uptake, where).max() == 0
    brighter = torch.maximum(mri, uptake) + 9
    torch.testing.assert_close(overshoot(brighter, mri, uptake, where), torch.ones(3, dtype=torch.float64))


@pytest.mark.parametrize("bright", [True, False])
def test_lesions_lie_in_tissue_have_their_contrast_and_size_and_leave_the_rest(bright):
    mri, uptake = head()
    lesions = plan_lesions(mri, uptake, "partner", bright=bright, pixel_mm=2.0, seed=1)
    assert len(lesions) > 8
    assert {lesion.diameter * 2 for lesion in lesions} <= set(DIAMETERS_MM)
    changed = insert_lesions(uptake, lesions, pixel_mm=2.0)
    for lesion in lesions:
        change = (changed - uptake)[lesion.index, 0]
        assert (change > 0.01).any() == bright
        rows, columns = np.nonzero(change.abs().numpy() > float(change.abs().max()) / 2)
        if lesion.diameter >= 5:
            assert np.ptp(rows) + 1 == pytest.approx(lesion.diameter, abs=1.5)
            assert change[lesion.row, lesion.column] == pytest.approx(lesion.contrast, abs=0.03)
        assert abs(rows.mean() - lesion.row) < 0.5
        assert abs(columns.mean() - lesion.column) < 0.5
        assert (mri[lesion.index, 0, lesion.row, lesion.column]) > 0
    untouched = sorted(set(range(len(uptake))) - {lesion.index for lesion in lesions})
    assert torch.equal(changed[untouched], uptake[untouched])


def test_a_method_that_shows_one_source_loses_the_lesions_of_the_other():
    mri, uptake = head()
    seen = lesions_by_class(lambda mri, _: whole(mri), mri, uptake, None)
    assert seen["MRI bright"].lost == seen["MRI dark"].lost == 0
    assert seen["partner bright"].lost == seen["partner dark"].lost == 1
    torch.testing.assert_close(seen["MRI dark"].kept.mean(), torch.tensor(1.0).double(), atol=0.02, rtol=0)
    assert seen["partner bright"].luma.max() == seen["partner bright"].colour.max() == 0
    half = lesions_by_class(lambda mri, uptake: whole(average(mri, uptake)), mri, uptake, None)
    for kind in half.values():
        assert kind.kept.mean() == pytest.approx(0.5, abs=0.03)
    assert half["MRI dark"].luma.median() < seen["MRI dark"].luma.median()


def test_an_observer_sees_a_lesion_less_in_noise():
    mri, uptake = head()
    calm = lesions_by_class(lambda mri, _: whole(mri), mri, uptake, None)["MRI bright"]
    noise = 0.3 * torch.randn(mri.shape, generator=torch.Generator().manual_seed(1))
    noisy = lesions_by_class(lambda mri, _: whole(mri + noise), mri, uptake, None)["MRI bright"]
    assert noisy.luma.mean() < 0.9 * calm.luma.mean()


def test_colour_shows_an_observer_what_luma_does_not():
    mri, uptake = head()

    def show(mri, uptake):
        return join_uptake(*(side.movedim(1, 0) for side in (mri, mri, uptake)), violet_to_orange()).movedim(0, 1)

    seen = lesions_by_class(show, mri, uptake, violet_to_orange())["partner bright"]
    assert seen.colour.median() > 2 * seen.luma.median()


def test_the_measures_of_a_blend_are_those_of_its_parts():
    mri, uptake = head()
    hot = palette_table("hot-iron")
    reading = read_pictures(whole(blend(mri, uptake, hot)), mri, uptake, hot, hot)
    assert reading.uptake.spearman > 0.95
    assert reading.clipped < 0.2
    assert reading.overshoot == 0
    plain = reading.to_dict()
    assert plain["mri"] == {"spearman": reading.mri.spearman, "mean_error": reading.mri.mean_error}
    grey = read_pictures(whole(maximum(mri, uptake)), mri, uptake, None, None)
    assert grey.uptake_by_legend is grey.clipped is None


def test_the_classic_methods_do_what_they_are_called():
    mri, uptake = head(count=2)
    for method in CLASSIC.values():
        torch.testing.assert_close(method(mri, mri), mri, atol=1e-5, rtol=0)
        assert method(mri, uptake).shape == mri.shape
    assert torch.equal(maximum(mri, uptake), torch.maximum(mri, uptake))
    detail = torch.zeros_like(uptake)
    detail[..., 40:44, 40:44] = 0.3
    # A detail of one source over a smooth place of the other is kept by both, and halved by the average.
    flat = torch.full_like(mri, 0.4)
    for method, kept in ((laplacian, 0.2), (guided_filter, 0.2), (average, 0.149)):
        changed = method(flat, 0.3 + detail) - method(flat, torch.full_like(flat, 0.3))
        assert changed[..., 41:43, 41:43].mean() > kept
