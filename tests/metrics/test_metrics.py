import csv

import numpy as np
import pytest
import torch
from PIL import Image
from plain_scores import PLAIN, plain_ssim
from stored_pictures import stored, to_luma

from medfuse.errors import GeometryError
from medfuse.gesenet import load_network
from medfuse.metrics import CORE, SCORES, eight_bit, flicker, score
from medfuse.metrics.features import thin_edges


def pictures(count=2, height=67, width=58, seed=3):
    """Smooth shapes with some noise and an air border, as uint8 (N, 1, H, W): fused, MRI, partner."""
    generator = np.random.default_rng(seed)
    y, x = np.mgrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j]
    sources = []
    for _ in range(2 * count):
        a, b, c, d = generator.uniform(1, 6, 4)
        inside = (x**2 + y**2 < 0.8) * (1 + np.sin(a * x + b * y) * np.cos(c * x * y + d)) * 110
        noise = generator.normal(0, 6, inside.shape) * (inside > 0)
        sources.append((inside + noise).clip(0, 255).astype(np.uint8))
    mri, partner = (torch.from_numpy(np.stack(sources[k::2]))[:, None] for k in (0, 1))
    fused = ((mri.float() + torch.maximum(mri, partner).float()) / 2).to(torch.uint8)
    return fused, mri, partner


def one_by_one(function, batch):
    return [function(*(picture[0].numpy() for picture in triple)) for triple in zip(*batch, strict=True)]


@pytest.mark.parametrize("name", PLAIN)
@pytest.mark.parametrize("size", [(67, 58), (41, 64)])
def test_scores_equal_a_plain_program(name, size):
    batch = pictures(3, *size)
    np.testing.assert_allclose(score(*batch, [name])[name], one_by_one(PLAIN[name], batch), rtol=1e-9)


def test_the_gaussian_window_is_that_of_wang():
    batch = pictures()
    expected = one_by_one(
        lambda *triple: plain_ssim(
            *triple, gaussian_weights=True, sigma=1.5, use_sample_covariance=False, win_size=None
        ),
        batch,
    )
    np.testing.assert_allclose(score(*batch, ["ssim_gaussian"])["ssim_gaussian"], expected, rtol=1e-9)


@pytest.mark.parametrize("name", SCORES)
def test_a_picture_alone_equals_the_same_in_a_batch(name):
    batch = pictures(5)
    together = score(*batch, [name], batch_size=3)[name]
    assert together.shape == (5,)
    for k in range(5):
        alone = score(*(picture[k : k + 1] for picture in batch), [name])[name]
        torch.testing.assert_close(together[k : k + 1], alone, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", SCORES)
@pytest.mark.parametrize("levels", [(0, 0, 0), (255, 255, 255), (7, 90, 255), (0, 255, 0)])
def test_constant_pictures_give_finite_numbers(name, levels):
    flat = [torch.full((2, 1, 45, 48), level, dtype=torch.uint8) for level in levels]
    assert score(*flat, [name])[name].isfinite().all()


@pytest.mark.parametrize("name", [name for name in SCORES if not SCORES[name].alone and "detail" not in name])
def test_the_sources_may_change_places(name):
    fused, mri, partner = pictures()
    torch.testing.assert_close(score(fused, mri, partner, [name]), score(fused, partner, mri, [name]))


def test_values_in_the_unit_range_are_those_of_the_stored_picture():
    batch = pictures()
    scaled = [picture.float() / 255 for picture in batch]
    for name, values in score(*scaled).items():
        torch.testing.assert_close(values, score(*batch)[name], rtol=0, atol=0)
    assert eight_bit(torch.tensor([[[[-0.1, 0.4999 / 255, 0.51 / 255, 1.2]]]])).flatten().tolist() == [0, 0, 1, 255]


def test_a_picture_is_most_like_itself():
    _, mri, _ = pictures()
    own = score(mri, mri, mri, [*CORE, "ssim_gaussian"])
    assert own["ssim"].tolist() == pytest.approx([1, 1])
    assert own["ssim_gaussian"].tolist() == pytest.approx([1, 1])
    assert own["vif"].tolist() == pytest.approx([2, 2], abs=1e-6)
    assert (own["qabf"] > 0.97).all()


@pytest.mark.parametrize(
    "shapes",
    [((2, 1, 50, 50), (2, 1, 50, 50), (2, 1, 50, 49)), ((50, 50),) * 3, ((2, 3, 50, 50),) * 3, ((0, 1, 50, 50),) * 3],
)
def test_pictures_that_do_not_match_are_refused(shapes):
    with pytest.raises(GeometryError, match="one size"):
        score(*(torch.zeros(shape) for shape in shapes))


def test_a_picture_too_small_for_a_score_is_refused_by_its_name():
    batch = pictures(1, 40, 60)
    with pytest.raises(GeometryError, match="the score vif needs pictures of at least 41 × 41; found 40 × 60"):
        score(*batch)
    assert score(*batch, ["ssim"])["ssim"].isfinite().all()


@pytest.mark.parametrize(
    ("name", "base", "factor"),
    [
        ("ssim_sum", "ssim", 2),
        ("sd_unit", "sd", 1 / 255),
        ("mi_mean", "mi", 1 / 2),
        ("mi_nats", "mi", np.log(2)),
        ("vif_mean", "vif", 1 / 2),
        ("sf_all_pixels", "sf", np.sqrt(49 / 50)),
    ],
)
def test_variants_differ_by_what_they_say(name, base, factor):
    batch = pictures(2, 50, 50)
    values = score(*batch, [name, base])
    torch.testing.assert_close(values[name], values[base] * factor)


def test_information_shared_with_itself_is_all_of_it():
    _, mri, _ = pictures()
    own = score(mri, mri, mri, ["nmi", "mi", "en", "fmi_pixel", "psnr", "psnr_mean", "scd"])
    assert own["nmi"].tolist() == pytest.approx([2, 2])
    torch.testing.assert_close(own["mi"], 2 * own["en"])
    assert own["fmi_pixel"].tolist() == [1, 1]
    assert own["psnr"].tolist() == own["psnr_mean"].tolist() == pytest.approx([58.92, 58.92], abs=0.01)
    assert own["scd"].tolist() == [0, 0]


def test_edges_are_one_pixel_wide():
    picture = torch.zeros((1, 1, 12, 15), dtype=torch.float64)
    picture[..., 7:] = 200
    edges = thin_edges(picture)
    assert edges.sum(-1).flatten().tolist() == [0, *(1,) * 10, 0]
    assert set(edges.nonzero()[:, 3].tolist()) == {7} or set(edges.nonzero()[:, 3].tolist()) == {6}


def test_detail_is_judged_where_the_other_source_is_bright():
    mri = torch.zeros((1, 1, 40, 60))
    mri[..., ::6] = 0.4
    partner = torch.zeros_like(mri)
    partner[..., :33] = 0.9  # its own edge lies between two lines of the MRI
    drowned = torch.maximum(mri, partner)  # the MRI is lost on the left alone
    mixed = (mri + partner) / 2
    lost, kept = (score(fused, mri, partner, ["detail_mri", "detail_mri_correlation"]) for fused in (drowned, mixed))
    assert lost["detail_mri"] < 0.05 < 0.3 < kept["detail_mri"]
    assert lost["detail_mri_correlation"] < 0.3 < 0.6 < kept["detail_mri_correlation"]
    inverted = score(1 - mri, mri, partner, ["detail_mri", "detail_mri_correlation"])
    assert inverted["detail_mri"] > 0.5
    assert inverted["detail_mri_correlation"] < -0.5
    swapped = score(mixed, partner, mri, ["detail_partner", "detail_partner_correlation"])
    assert swapped["detail_partner"] == kept["detail_mri"]
    assert swapped["detail_partner_correlation"] == kept["detail_mri_correlation"]


def test_flicker_is_what_fusion_adds():
    _, mri, partner = (picture.double() / 255 for picture in pictures(1))
    fading = torch.linspace(0.4, 1, 24)[:, None, None, None].double()
    wobble = 1 + 0.002 * torch.sin(torch.arange(24.0))[:, None, None, None]
    mri, partner = mri * fading * wobble, partner * fading.flip(0)
    steady = flicker((mri + partner) / 2, mri, partner)
    jumpy = torch.where(torch.arange(24)[:, None, None, None] % 2 == 0, 1.0, 0.9)
    assert steady.shape == ()
    assert steady == pytest.approx(0.5, abs=1e-6)
    assert flicker(mri, mri, partner) == pytest.approx(1)
    assert flicker((mri + partner) / 2 * jumpy, mri, partner) > 20
    assert flicker(mri * 0, mri * 0, partner * 0) == 0
    with pytest.raises(GeometryError, match="at least three slices"):
        flicker(mri[:2], mri[:2], partner[:2])


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")
@pytest.mark.parametrize("name", SCORES)
def test_devices_agree(name):
    batch = pictures()
    on_device = score(*(picture.cuda() for picture in batch), [name])[name]
    assert on_device.is_cuda
    torch.testing.assert_close(on_device.cpu(), score(*batch, [name])[name], rtol=1e-9, atol=1e-9)


# Published figures.


def average(mri, partner):
    mri, partner = (one.astype(np.float32) / np.float32(255) for one in (mri, partner))
    return ((mri + partner) / 2 * 255).round().astype(int)


@pytest.fixture(scope="module")
def published(shared_data):
    path = shared_data.parent / "peers" / "scores.csv"
    if not path.is_file():
        pytest.skip("the published scores are absent")
    with path.open() as lines:
        return {(row["method"], row["task"]): row for row in csv.DictReader(lines)}


@pytest.fixture(scope="module")
def test_pairs(shared_data):
    """MRI (luma), partner (RGB) of each pair of a task."""
    folder = shared_data / "harvard"
    with (folder / "pairs.csv").open() as lines:
        rows = [row for row in csv.DictReader(lines) if row["split"] == "test"]

    def pairs(task):
        return [
            (Image.open(folder / row["mri"]).convert("L"), Image.open(folder / row["partner"]).convert("RGB"))
            for row in rows
            if row["task"] == task
        ]

    return pairs


def as_batch(triples):
    return [
        torch.from_numpy(np.stack([np.asarray(one) for one in side]))[:, None] for side in zip(*triples, strict=True)
    ]


def column(name):
    return {"scd": "SCD", "qabf": "Qabf"}.get(name, name.upper())


@pytest.mark.parametrize("task", ["MRI-CT", "MRI-PET", "MRI-SPECT"])
@pytest.mark.parametrize(("method", "rule"), [("max", np.maximum), ("average", average)])
def test_classical_rules_get_their_published_scores(test_pairs, published, task, method, rule):
    triples = []
    for mri, partner in test_pairs(task):
        fused = rule(np.asarray(mri).astype(int), to_luma(np.asarray(partner))[0])
        triples.append((stored(fused, partner, task != "MRI-CT"), mri, partner.convert("L")))
    printed = published[method, task]
    assert len(triples) == int(printed["n"])
    for name, values in score(*as_batch(triples)).items():
        # Four digits are printed; how the colours of PET were rounded moves the fourth of MI.
        assert float(values.mean()) == pytest.approx(float(printed[column(name)]), abs=2e-4), name


PUBLISHED_VARIANTS = {
    "MRI-CT": {"mef_ssim": 0.948, "sd_saturating": 10.05, "viff": 0.71},
    "MRI-PET": {"mef_ssim": 0.953, "sd_saturating": 8.78, "viff": 0.77},
    "MRI-SPECT": {"mef_ssim": 0.976, "sd_saturating": 8.59, "viff": 0.96},
}
PRINTED_DIGITS = {"mef_ssim": 1.5e-3, "sd_saturating": 8e-3, "viff": 5e-3}


@pytest.mark.slow
@pytest.mark.parametrize("task", PUBLISHED_VARIANTS)
def test_published_weights_get_their_published_scores(test_pairs, published, shared_data, task):
    network = load_network(shared_data / "reference" / "GeSeNet.pth")
    triples = []
    for mri, partner in test_pairs(task):
        luma = to_luma(np.asarray(partner))[0]
        sources = [torch.from_numpy(np.asarray(one) / 255).float()[None, None] for one in (mri, luma)]
        fused = network(*sources)
        if task == "MRI-CT":  # the published program stretches what it writes; in colour, black and white are there
            fused = (fused - fused.min()) / (fused.max() - fused.min())
        fused = (fused[0, 0].numpy() * 255).astype(np.uint8).astype(int)
        triples.append((stored(fused, partner, task != "MRI-CT"), mri, partner.convert("L")))
    values = {
        name: float(one.mean()) for name, one in score(*as_batch(triples), [*CORE, *PUBLISHED_VARIANTS[task]]).items()
    }
    # In SPECT some grey levels of the published pictures are rounded otherwise.
    digits = 4e-3 if task == "MRI-SPECT" else 4e-4
    for name in CORE:
        assert values[name] == pytest.approx(float(published["gesenet-eval", task][column(name)]), abs=digits), name
    for name, printed in PUBLISHED_VARIANTS[task].items():
        assert values[name] == pytest.approx(printed, abs=PRINTED_DIGITS[name]), name
