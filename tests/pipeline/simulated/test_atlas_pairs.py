import sys

import numpy as np
import pytest
import torch

from medfuse.errors import TrainingError
from medfuse.gesenet.training.config import TrainingConfig
from medfuse.pipeline.simulated import atlas_pairs as module
from medfuse.pipeline.simulated.atlas_pairs import atlas_pairs
from medfuse.pipeline.train import train


@pytest.fixture
def small_atlas(monkeypatch):
    """A brain of a cortex around white matter, of a few voxels."""
    atlas, grid = module._atlas()
    small = module.Brain(*(values[::5, ::5, ::5] for values in atlas))
    spaced = grid.affine.copy()
    spaced[:3, :3] *= 5
    monkeypatch.setattr(module, "_atlas", lambda: (small, module.Grid(small.t1.shape, spaced)))
    return small


def test_the_atlas_is_a_brain_in_the_worlds_axes():
    brain, grid = module._atlas()
    assert grid.shape == brain.t1.shape == brain.grey.shape == brain.white.shape
    assert grid.spacing == pytest.approx((1, 1, 1))
    # About 1.9 litres of grey and white matter in this atlas, and more grey than white matter.
    assert 1.2e6 < (brain.grey + brain.white).sum() < 2.2e6
    assert brain.grey.sum() > brain.white.sum()


def test_each_head_gives_a_pet_and_a_spect_of_its_own(small_atlas):
    pairs = list(atlas_pairs(2, 3))
    assert {pair.case for pair in pairs} == {
        f"{task}/simulated-atlas-{n}" for task in ("MRI-PET", "MRI-SPECT") for n in (0, 1)
    }
    for pair in pairs:
        assert pair.simulated
        assert pair.mri.shape == pair.partner.shape
        assert pair.mri.dtype == pair.partner.dtype == torch.float32
        assert min(pair.mri.min(), pair.partner.min()) >= 0
        assert max(pair.mri.max(), pair.partner.max()) <= 1
        assert pair.colours is not None
    one, other = (next(pair for pair in pairs if pair.case.endswith(n)) for n in "01")
    assert not torch.equal(one.mri, other.mri)


def test_the_same_seed_gives_the_same_pairs(small_atlas):
    one, same, other = (next(atlas_pairs(1, seed)) for seed in (3, 3, 4))
    assert torch.equal(one.mri, same.mri)
    assert torch.equal(one.partner, same.partner)
    assert not torch.equal(one.partner, other.partner)


def test_uptake_is_higher_in_grey_matter_and_spect_is_blurrier(small_atlas):
    random = np.random.default_rng(1)
    uptake = module._uptake(small_atlas, random)
    assert np.median(uptake[small_atlas.grey > 0.8]) > 1.8 * np.median(uptake[small_atlas.white > 0.8])

    def sharpness(modality):
        taken = module._acquired(uptake, module.SCANNERS[modality]._replace(counts=(1e6, 1e6)), random)
        return np.abs(np.diff(taken, axis=0)).mean() / taken.mean()

    assert sharpness("PT") > 1.2 * sharpness("NM")


def test_values_have_as_many_steps_as_their_bits(monkeypatch):
    values = np.linspace(0, 7, 100_000)
    for bits in (12, 16):
        monkeypatch.setattr(module, "BITS", (bits,))
        assert len(np.unique(module._stored(values, np.random.default_rng(1)))) == min(2**bits, 100_000)


def test_without_nilearn_one_sentence_says_what_to_install(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "nilearn", None)
    with pytest.raises(TrainingError, match=r"pip install 'medfuse\[atlas\]'"):
        train(TrainingConfig(out=str(tmp_path / "run"), atlas_heads=1))
    assert not (tmp_path / "run").exists()
