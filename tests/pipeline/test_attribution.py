"""Where each voxel came from: parts that add up, planted blobs, and edges that neither source has."""

import numpy as np
import pytest
import torch

import medfuse
from medfuse import Registration, phantom_study
from medfuse.errors import MethodError
from medfuse.intensity import Window
from medfuse.metrics.edges import sobel
from medfuse.metrics.excess import invented
from medfuse.volume import Grid, as_slices, grid_of, make_volume, plain

TASKS = ["CT", "PT", "NM"]


def truth(phantom):
    return Registration(phantom.truth, "file", {})


def study_of(modality, coarsen=8, **how):
    phantom = phantom_study(modality, coarsen=coarsen)
    return medfuse.fuse(phantom.mri, phantom.partner, align=truth(phantom), lazy=True, **how)


@pytest.fixture(scope="module", params=TASKS)
def study(request):
    return study_of(request.param)


def fused_luma(study):
    """What the method itself makes of all slices: (1, X, Y, Z)."""
    pairs = study.slices.pair.pairs(0, study.slices.grid.shape[2])
    return study.slices.shown_by(pairs.mri, pairs.luma).permute(1, 3, 2, 0)


def test_parts_add_up_to_the_fused_luma(study):
    found = study.attribution()
    expected = fused_luma(study)
    whole = plain(found.mri) + plain(found.partner) + plain(found.neither)
    assert (whole - expected).abs().max() < 0.001
    torch.testing.assert_close(plain(found.luma), expected, atol=1e-3, rtol=0)
    for part in (found.mri, found.partner, found.neither):
        assert part.dtype == torch.float32
        assert grid_of(part).matches(grid_of(study.image))
    if len(study.image) == 1:
        assert (whole - plain(study.image)).abs().max() < 0.001


@pytest.mark.parametrize("side", ["mri", "partner"])
@pytest.mark.parametrize(("modality", "unit"), [("CT", "HU"), ("PT", "SUV"), ("NM", "counts")])
def test_a_blob_planted_in_one_source_is_its_own(modality, unit, side):
    grid = Grid((40, 44, 6), np.diag([4.0, 4.0, 4.0, 1.0]))
    x, y = np.meshgrid(np.arange(40) - 19.5, np.arange(44) - 21.5, indexing="ij")
    weak = 0.05 * np.repeat((np.hypot(x, y) < 16)[..., None], 6, axis=2)
    # Ground is dark, for what is fused from it is of both.
    weak[..., :2] = 1  # what both show brightest, so that their windows are those of the range
    blob = np.exp(-(x**2 + y**2) / 20)[..., None] * np.array([0, 0, 0, 1, 1, 0])
    values = {name: weak + 0.9 * blob * (name == side) for name in ("mri", "partner")}
    mri, partner = (
        make_volume(torch.from_numpy(100 * values[name])[None].float(), grid, modality=kind, unit=of)
        for name, kind, of in (("mri", "MR", "arbitrary"), ("partner", modality, unit))
    )
    study = medfuse.fuse(mri, partner, align=Registration(np.eye(4), "file", {}), window=Window(0, 100), lazy=True)
    found, core = study.attribution(), torch.from_numpy(blob > 0.5)
    own, other = (float(plain(part)[0][core].sum()) for part in (found.mri, found.partner))
    own, other = (own, other) if side == "mri" else (other, own)
    assert own > 0.9 * (own + abs(other))
    assert float(plain(found.luma)[0][core].mean()) > 0.3


@pytest.mark.parametrize("method", ["max", "average", "laplacian", "guided-filter", "blend", "mine"])
def test_any_method_is_shared_out(method):
    study = study_of("PT", method=(lambda mri, luma: (mri * luma).sqrt()) if method == "mine" else method)
    found = study.attribution()
    whole = plain(found.mri) + plain(found.partner) + plain(found.neither)
    assert (whole - fused_luma(study)).abs().max() < 1e-5
    if method == "average":
        torch.testing.assert_close(plain(found.mri), plain(study.mri) / 2, atol=1e-6, rtol=0)
    if method in ("max", "mine"):
        assert float(plain(found.neither).abs().max()) == 0
    if method == "mine":  # neither does anything without the other: each has half
        torch.testing.assert_close(found.mri.as_tensor(), found.partner.as_tensor(), atol=1e-6, rtol=0)


def test_a_method_that_fails_on_black_is_named():
    def stretched(mri, luma):
        return (mri + luma) / (mri + luma).amax()

    study = study_of("CT", method=stretched)
    with pytest.raises(MethodError, match="not finite"):
        study.attribution()


def test_progress_ends(study):
    told = []
    study.attribution(progress=lambda step, share, note="": told.append((step, share)))
    assert told[-1] == ("attribute", 1.0)
    assert [share for _, share in told] == sorted(share for _, share in told)


def test_colours_say_which_source():
    study = study_of("PT", method=lambda mri, luma: mri)
    found = study.attribution()
    red, green, blue = plain(found.coloured()).float() / 255
    torch.testing.assert_close(blue[None], plain(study.mri), atol=0.003, rtol=0)
    assert not red.any()
    torch.testing.assert_close(green, blue / 2, atol=0.005, rtol=0)


@pytest.mark.parametrize("modality", TASKS)
def test_an_edge_planted_in_the_fused_picture_alone_is_found(modality):
    phantom = phantom_study(modality, coarsen=8)

    def planting(mri, luma):
        made = (0.5 * (mri + luma)).clone()
        made[:, :, 10:20, 6:16] = (made[:, :, 10:20, 6:16] + 0.5).clamp(max=1)
        return made

    plain_one, planted = (
        medfuse.fuse(phantom.mri, phantom.partner, align=truth(phantom), method=method, join="chroma")
        for method in ("average", planting)
    )
    before, after = plain_one.invented_structure(), planted.invented_structure()
    assert before.share < 0.02
    assert after.share > 5 * max(before.share, 0.01)
    edge = torch.zeros(planted.image.shape[1:], dtype=torch.bool)
    edge[5:17, 9:21] = True
    edge[8:14, 12:18] = False
    found = plain(after.map)[0]
    assert float((found[edge] ** 2).sum()) > 0.95 * float((found**2).sum())
    assert after.map.dtype == torch.float32
    assert grid_of(after.map).matches(grid_of(planted.image))


def test_the_share_is_that_of_the_score():
    study = study_of("CT")
    found = study.invented_structure()
    pairs = study.slices.pair.pairs(0, study.slices.grid.shape[2])
    stored = [side.mul(255).round().double() for side in (as_slices(plain(study.image)), pairs.mri, pairs.luma)]
    energies = sobel(stored[0]).strength.square().sum((1, 2, 3))
    expected = float((invented(*stored) * energies).sum() / energies.sum())
    assert found.share == pytest.approx(expected, abs=1e-9)


def test_a_picture_of_one_source_invents_nothing():
    found = study_of("CT", method=lambda mri, luma: mri).invented_structure()
    assert found.share == 0
    assert not plain(found.map).any()
