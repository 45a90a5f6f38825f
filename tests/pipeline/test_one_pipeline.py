"""The printed Compose, `medfuse.fuse`, training on studies and scoring make the same voxels."""

import re

import numpy as np
import pytest
import torch
from monai.transforms.compose import Compose

import medfuse
from medfuse.gesenet import Engine
from medfuse.intensity.window import SAMPLED_VOXELS
from medfuse.pipeline import transforms
from medfuse.pipeline.prepare import prepare_pair
from medfuse.pipeline.scoring import score_study, score_volumes
from medfuse.pipeline.train import study_pairs
from medfuse.registration import Registration
from medfuse.volume import Grid, grid_of, make_volume

STEPS = re.search(r"Compose\(\[\n(.*?)\n    \]\)", transforms.__doc__ or "", re.S)[1]
"""The Compose that the documentation prints."""


def mean_of_both():
    """An engine that is quick: what is compared is all but the network."""
    return Engine("mean", torch.device("cpu"), 0.0, {"name": "mean", "sha256": "0" * 64}, lambda *sides: sum(sides) / 2)


def printed(*, black_air=False, align="auto", force=False, engine=None):
    """The printed transforms behind loading, with the two for black air put where the documentation says."""
    lines = [line.strip() for line in STEPS.splitlines() if "LoadStudyd" not in line]
    if black_air:
        place = next(place for place, line in enumerate(lines) if line.startswith("Scaled"))
        lines.insert(place, 'FindAird("mri", air="air"),')
        place = next(place for place, line in enumerate(lines) if line.startswith("SplitLumad"))
        lines.insert(place, 'BlackenAird("mri", "partner", air="air"),')
    steps = eval(" ".join(lines), vars(transforms))
    for step in steps:
        if isinstance(step, transforms.Registerd):
            step.method, step.force = align, force
        if isinstance(step, transforms.FuseSlicesd) and engine is not None:
            step.network = engine
    return Compose(list(steps))


def through(mri, partner, **how):
    return printed(**how)({"mri": mri, "partner": partner})["fused"].as_tensor()


@pytest.fixture(scope="module", params=["PT", "CT"])
def phantom(request):
    return medfuse.phantom_study(request.param, coarsen=3)


@pytest.fixture(scope="module")
def study(phantom):
    return medfuse.fuse(phantom.mri, phantom.partner)


def test_the_printed_compose_gives_the_voxels_of_fuse(phantom, study):
    assert torch.equal(through(phantom.mri, phantom.partner), study.image.as_tensor())


def test_so_it_does_with_black_air(phantom, study):
    align = study.registration
    black = medfuse.fuse(phantom.mri, phantom.partner, align=align, black_air=True)
    assert not torch.equal(black.image.as_tensor(), study.image.as_tensor())
    assert torch.equal(through(phantom.mri, phantom.partner, align=align, black_air=True), black.image.as_tensor())


def test_so_it_does_for_a_tilted_mri(phantom):
    grid = grid_of(phantom.mri)
    tilt = np.eye(4)
    tilt[1, 2] = 0.15
    mri = make_volume(phantom.mri.as_tensor(), Grid(grid.shape, tilt @ grid.affine), modality="MR")
    assert not grid_of(mri).upright
    how = {"align": Registration(phantom.truth, "file", {}), "force": True, "engine": mean_of_both()}
    tilted = medfuse.fuse(mri, phantom.partner, **how)
    assert tilted.provenance.mri_straightened
    assert torch.equal(through(mri, phantom.partner, **how), tilted.image.as_tensor())


@pytest.mark.slow
@pytest.mark.parametrize("modality", ["PT", "CT"])
@pytest.mark.parametrize("black_air", [False, True])
def test_so_it_does_where_a_window_is_chosen_by_a_sample(modality, black_air):
    """A grid above the voxels that are sampled, of an odd size, and a partner in unlike voxels."""
    phantom = medfuse.phantom_study(modality, coarsen=4)
    head = grid_of(phantom.mri)
    shape = (251, 203, 167)
    finer = np.diag([*(old / new for old, new in zip(head.shape, shape, strict=True)), 1.0])
    fine = Grid(shape, head.affine @ finer)
    assert np.prod(shape) > SAMPLED_VOXELS
    mri = medfuse.registration.resample(phantom.mri, fine, None, outside=0.0)
    partner = phantom.partner
    if modality == "CT":  # without a unit, so that its window comes from its values
        partner = make_volume(partner.as_tensor(), grid_of(partner), modality="CT")
    how = {"align": Registration(phantom.truth, "file", {}), "black_air": black_air, "engine": mean_of_both()}
    assert torch.equal(through(mri, partner, **how), medfuse.fuse(mri, partner, **how).image.as_tensor())


def test_slices_do_not_depend_on_which_are_asked_for_together(phantom, study):
    prepared, _ = prepare_pair(phantom.mri, phantom.partner, align=study.registration, black_air=True)
    whole = prepared.pairs(0, 11)
    parts = [prepared.pairs(start, min(start + 3, 11)) for start in range(0, 11, 3)]
    for side, pieces in zip(whole, zip(*parts, strict=True), strict=True):
        assert torch.equal(side, torch.cat(pieces))


def test_training_on_a_study_sees_the_slices_of_fuse(tmp_path, phantom):
    phantom.write_dicom(tmp_path)
    paths = {"mri": str(tmp_path / "mri"), "partner": str(tmp_path / "partner")}
    pair, _ = prepare_pair(*(medfuse.load(path) for path in paths.values()), align="header")
    whole = pair.pairs(0, pair.partner.grid.shape[2])
    seen = torch.maximum(whole.mri, whole.luma).mean((1, 2, 3)) > 0.02
    learnt = list(study_pairs({**paths, "case": "a", "align": "header"}))
    assert len(learnt) == int(seen.sum()) > 10
    assert torch.equal(torch.stack([pair.mri for pair in learnt]), whole.mri[seen])
    assert torch.equal(torch.stack([pair.partner for pair in learnt]), whole.luma[seen])


def test_scores_of_volumes_are_those_of_the_study(phantom, study):
    of_study = score_study(study, ["ssim"])
    of_volumes = score_volumes(study.image, phantom.mri, study.registered(), ["ssim"])
    assert torch.equal(of_study.values["ssim"], of_volumes.values["ssim"])
