import csv

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.signal import convolve2d
from skimage.metrics import structural_similarity

from medfuse.errors import GeometryError
from medfuse.metrics import CORE, SCORES, eight_bit, score

# Judges: the same definitions, written as papers' evaluation programs write them, one picture at a time.


def plain_ssim(fused, mri, partner, **options):
    options = {"win_size": 7, "data_range": 255, **options}
    return sum(structural_similarity(fused, source, **options) for source in (mri, partner)) / 2


def plain_sd(fused, mri, partner):
    return fused.astype(float).std()


def plain_mi(fused, mri, partner):
    value = 0.0
    for source in (mri, partner):
        joint = np.histogram2d(fused.ravel(), source.ravel(), 256, [[0, 256]] * 2)[0] / fused.size
        apart = np.outer(joint.sum(1), joint.sum(0))
        value += (joint[joint > 0] * np.log2(joint[joint > 0] / apart[joint > 0])).sum()
    return value


def plain_vif(fused, mri, partner):
    return sum(plain_vifp(source.astype(float), fused.astype(float)) for source in (mri, partner))


def plain_vifp(source, fused):
    kept = there = 0.0
    for scale in range(1, 5):
        width = 2 ** (4 - scale + 1) + 1
        place = np.arange(width) - width // 2
        window = np.exp(-(place[:, None] ** 2 + place**2) / (2 * (width / 5) ** 2))
        window /= window.sum()
        if scale > 1:
            source, fused = (convolve2d(one, window, "valid")[::2, ::2] for one in (source, fused))
        mean, fused_mean = (convolve2d(one, window, "valid") for one in (source, fused))
        variance = (convolve2d(source**2, window, "valid") - mean**2).clip(0)
        fused_variance = (convolve2d(fused**2, window, "valid") - fused_mean**2).clip(0)
        covariance = convolve2d(source * fused, window, "valid") - mean * fused_mean
        gain = covariance / (variance + 1e-10)
        left = fused_variance - gain * covariance
        gain[variance < 1e-10] = 0
        left[variance < 1e-10] = fused_variance[variance < 1e-10]
        variance[variance < 1e-10] = 0
        gain[fused_variance < 1e-10] = 0
        left[fused_variance < 1e-10] = 0
        left[gain < 0] = fused_variance[gain < 0]
        gain[gain < 0] = 0
        left[left <= 1e-10] = 1e-10
        kept += np.log10(1 + gain**2 * variance / (left + 2)).sum()
        there += np.log10(1 + variance / 2).sum()
    return kept / there


def plain_scd(fused, mri, partner):
    fused, mri, partner = (one.astype(float).ravel() for one in (fused, mri, partner))
    return np.corrcoef(mri, fused - partner)[0, 1] + np.corrcoef(partner, fused - mri)[0, 1]


def plain_gradient(picture):
    right = np.array([[-1, 0, 1], [-2, 0, 2], [-1, 0, 1]], float)
    up = np.array([[1, 2, 1], [0, 0, 0], [-1, -2, -1]], float)
    x, y = (convolve2d(picture.astype(float), one, "same") for one in (right, up))
    direction = np.full_like(x, np.pi / 2)
    direction[x != 0] = np.arctan(y[x != 0] / x[x != 0])
    return np.sqrt(x**2 + y**2), direction


def plain_qabf(fused, mri, partner):
    strength, direction = plain_gradient(fused)
    kept = there = 0.0
    for source in (mri, partner):
        of_source, source_direction = plain_gradient(source)
        ratio = np.empty_like(strength)
        weaker, stronger = strength < of_source, strength > of_source
        ratio[weaker] = strength[weaker] / of_source[weaker]
        ratio[stronger] = of_source[stronger] / strength[stronger]
        ratio[strength == of_source] = strength[strength == of_source]
        angle = 1 - np.abs(direction - source_direction) / (np.pi / 2)
        share = 0.9994 / (1 + np.exp(-15 * (ratio - 0.5))) * 0.9879 / (1 + np.exp(-22 * (angle - 0.8)))
        kept += (share * of_source).sum()
        there += of_source.sum()
    return kept / there


PLAIN = {
    "ssim": plain_ssim,
    "sd": plain_sd,
    "mi": plain_mi,
    "vif": plain_vif,
    "scd": plain_scd,
    "qabf": plain_qabf,
}


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


@pytest.mark.parametrize("name", [name for name in SCORES if not SCORES[name].alone])
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


# Published figures.


def to_luma(rgb):
    """OpenCV's integer luma and chroma: the pictures behind scores.csv were coloured with it."""
    red, green, blue = (rgb[..., k].astype(int) for k in range(3))
    luma = (4899 * red + 9617 * green + 1868 * blue + 8192) >> 14
    chroma = [((one - luma) * weight + (128 << 14) + 8192) >> 14 for one, weight in ((red, 11682), (blue, 9241))]
    return luma, *(one.clip(0, 255) for one in chroma)


def to_rgb(luma, red_chroma, blue_chroma):
    red_chroma, blue_chroma = red_chroma - 128, blue_chroma - 128
    red = luma + ((22987 * red_chroma + 8192) >> 14)
    green = luma + ((-5636 * blue_chroma - 11698 * red_chroma + 8192) >> 14)
    blue = luma + ((29049 * blue_chroma + 8192) >> 14)
    return np.stack((red, green, blue), -1).clip(0, 255).astype(np.uint8)


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


@pytest.mark.parametrize("task", ["MRI-CT", "MRI-PET", "MRI-SPECT"])
@pytest.mark.parametrize(("method", "rule"), [("max", np.maximum), ("average", average)])
def test_classical_rules_get_their_published_scores(shared_data, published, task, method, rule):
    folder = shared_data / "harvard"
    with (folder / "pairs.csv").open() as lines:
        rows = [row for row in csv.DictReader(lines) if row["split"] == "test" and row["task"] == task]
    triples = []
    for row in rows:
        mri = np.asarray(Image.open(folder / row["mri"]).convert("L"))
        partner = Image.open(folder / row["partner"]).convert("RGB")
        luma, *chroma = to_luma(np.asarray(partner))
        fused = rule(mri.astype(int), luma)
        if task != "MRI-CT":  # written in colour, and read back as luma
            fused = np.asarray(Image.fromarray(to_rgb(fused, *chroma)).convert("L"))
        triples.append((fused.astype(np.uint8), mri, np.asarray(partner.convert("L"))))
    batch = [torch.from_numpy(np.stack(pictures))[:, None] for pictures in zip(*triples, strict=True)]
    printed = published[method, task]
    assert len(rows) == int(printed["n"])
    for name, values in score(*batch).items():
        column = {"scd": "SCD", "qabf": "Qabf"}.get(name, name.upper())
        # Four digits are printed; how the colours of PET were rounded moves the fourth of MI and SD.
        assert float(values.mean()) == pytest.approx(float(printed[column]), abs=2.1e-4), name
