"""The scores as papers' evaluation programs compute them: one picture at a time, in numpy and scipy.

Checks for the tests and for the benchmark. All take uint8 (H, W) and return a number.
"""

import numpy as np
from scipy.fft import dctn
from scipy.signal import convolve2d
from scipy.stats import entropy
from skimage.metrics import structural_similarity


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


def plain_channels(source, fused):
    """Of each scale: gain, variance left, variance of the source."""
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
        yield gain, left, variance


def plain_vifp(source, fused):
    kept = there = 0.0
    for gain, left, variance in plain_channels(source, fused):
        kept += np.log10(1 + gain**2 * variance / (left + 2)).sum()
        there += np.log10(1 + variance / 2).sum()
    return kept / there


def plain_viff(fused, mri, partner, strongest=True, weights=(0.25, 0.25, 0.25, 0.25)):
    scales = zip(*(plain_channels(source.astype(float), fused.astype(float)) for source in (mri, partner)), strict=True)
    value = 0.0
    for weight, (first, second) in zip(weights, scales, strict=True):
        chosen = first[0] > second[0] if strongest else first[0] < second[0]
        gain, left, variance = (np.where(chosen, *both) for both in zip(first, second, strict=True))
        kept = (np.log(1 + gain**2 * variance / (left + 325.125)) + 1e-7).sum()
        value += weight * kept / (np.log(1 + variance / 325.125) + 1e-7).sum()
    return value


def plain_viff_program(fused, mri, partner):
    return plain_viff(fused, mri, partner, strongest=False, weights=np.array((1, 0, 0.15, 1)) / 2.15)


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


def plain_preserved(fused, source):
    strength, direction = plain_gradient(fused)
    of_source, source_direction = plain_gradient(source)
    ratio = np.empty_like(strength)
    weaker, stronger = strength < of_source, strength > of_source
    ratio[weaker] = strength[weaker] / of_source[weaker]
    ratio[stronger] = of_source[stronger] / strength[stronger]
    ratio[strength == of_source] = strength[strength == of_source]
    angle = 1 - np.abs(direction - source_direction) / (np.pi / 2)
    share = 0.9994 / (1 + np.exp(-15 * (ratio - 0.5))) * 0.9879 / (1 + np.exp(-22 * (angle - 0.8)))
    return share, of_source


def plain_qabf(fused, mri, partner):
    kept = there = 0.0
    for source in (mri, partner):
        share, strength = plain_preserved(fused, source)
        kept += (share * strength).sum()
        there += strength.sum()
    return kept / there


def plain_mef_ssim(fused, mri, partner):
    window = np.exp(-((np.arange(11) - 5) ** 2) / (2 * 1.5**2))
    window = np.outer(window, window) / window.sum() ** 2
    values = []
    for y in range(fused.shape[0] - 10):
        for x in range(fused.shape[1] - 10):
            patches = [one[y : y + 11, x : x + 11].astype(float) for one in (mri, partner, fused)]
            centred = [one - one.mean() for one in patches[:2]]
            strength = np.array([np.linalg.norm(one) + 0.001 for one in centred])
            alike = np.linalg.norm(sum(centred)) / max(sum(map(np.linalg.norm, centred)), 1e-16)
            power = min(np.tan(np.pi / 2 * min(alike, 1)), 10)
            weight = (strength / 11) ** power + 1e-16
            ideal = sum(
                w / weight.sum() * one / length for w, one, length in zip(weight, centred, strength, strict=True)
            )
            if np.linalg.norm(ideal) > 0:
                ideal *= strength.max() / np.linalg.norm(ideal)
            ideal = ideal - (window * ideal).sum()
            seen = patches[2] - (window * patches[2]).sum()
            contrast = (window * ideal**2).sum() + (window * seen**2).sum()
            values.append((2 * (window * ideal * seen).sum() + 58.5225) / (contrast + 58.5225))
    return np.mean(values)


def plain_fmi(fused, mri, partner):
    total = 0.0
    for source in (mri, partner):
        for y in range(fused.shape[0] - 2):
            for x in range(fused.shape[1] - 2):
                pair = [one[y : y + 3, x : x + 3].astype(float).ravel(order="F") for one in (fused, source)]
                total += 1.0 if (pair[0] == pair[1]).all() else plain_shared(*map(plain_share, pair))
    return total / 2 / (fused.shape[0] - 2) / (fused.shape[1] - 2)


def plain_share(values):
    values = values - values.min()
    values = values / values.max() if values.max() else values + 1
    return values / values.sum()


def plain_shared(first, second):
    place = np.arange(1, 10)
    spread = [np.sqrt(max((place**2 * one).sum() - (place * one).sum() ** 2, 0)) for one in (first, second)]
    a, b = first - first.mean(), second - second.mean()
    flat = max(a.max(), 0) < 1e-12 or max(b.max(), 0) < 1e-12
    correlation = 0.0 if flat else (a * b).sum() / np.sqrt((a**2).sum() * (b**2).sum())
    above, along = np.cumsum(first)[:, None], np.cumsum(second)[None]
    joint = np.minimum(above, along) if correlation >= 0 else np.maximum(above + along - 1, 0)
    covariance = (joint - above * along).sum()
    weight = 0.0
    if min(spread) > 1e-6 and covariance != 0:
        weight = correlation * spread[0] * spread[1] / covariance
    joint = np.diff(np.diff(np.pad(joint, ((1, 0), (1, 0))), axis=0), axis=1)
    joint = weight * joint + (1 - weight) * np.outer(first, second)

    apart = plain_information(first) + plain_information(second)
    return 2 * (apart - plain_information(joint)) / apart if apart > 0 else 0.0


def plain_information(share):
    share = share[share != 0]
    return -(share * np.log2(np.abs(share))).sum()


def plain_psnr(fused, mri, partner):
    errors = [((fused.astype(float) - source) ** 2).mean() for source in (mri, partner)]
    return 10 * np.log10(255**2 / np.mean(errors))


def plain_ag(fused, mri, partner):
    down, across = np.gradient(fused.astype(float))
    return np.sqrt((down**2 + across**2) / 2).mean()


def plain_sf(fused, mri, partner):
    return np.sqrt(sum((np.diff(fused.astype(float), axis=axis) ** 2).mean() for axis in (0, 1)))


def plain_sd_saturating(fused, mri, partner):
    rounded = np.floor(fused.astype(float) - fused.mean() + 0.5)
    clipped = np.clip(np.clip(rounded, 0, 255) ** 2, 0, 255)
    return np.sqrt(clipped.mean())


def plain_detail_mri(fused, mri, partner):
    share, strength = plain_preserved(fused, mri)
    inner = (slice(1, -1),) * 2
    bright = partner[inner] > partner.max() / 2
    return (share * strength)[inner][bright].sum() / strength[inner][bright].sum()


PLAIN = {
    "ssim": plain_ssim,
    "sd": plain_sd,
    "mi": plain_mi,
    "vif": plain_vif,
    "scd": plain_scd,
    "qabf": plain_qabf,
    "sd_saturating": plain_sd_saturating,
    "psnr": plain_psnr,
    "sf": plain_sf,
    "ag": plain_ag,
    "detail_mri": plain_detail_mri,
    "mef_ssim": plain_mef_ssim,
    "viff": plain_viff,
    "viff_program": plain_viff_program,
    "fmi_pixel": plain_fmi,
    "fmi_gradient": lambda *triple: plain_fmi(*(np.gradient(one.astype(float))[1] for one in triple)),
    "fmi_dct": lambda *triple: plain_fmi(*(dctn(one.astype(float), norm="ortho") for one in triple)),
    "en": lambda fused, *_: entropy(np.bincount(fused.ravel()), base=2),
    "cc": lambda fused, *sources: np.mean([np.corrcoef(fused.ravel(), one.ravel())[0, 1] for one in sources]),
}
