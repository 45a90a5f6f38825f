import pytest
import torch

from medfuse.gesenet.training.config import TrainingConfig
from medfuse.gesenet.training.dataset import Pair
from medfuse.gesenet.training.folds import held_out
from medfuse.pipeline.simulated import phantom_pairs, slices
from medfuse.pipeline.simulated.phantom_pairs import simulated_pairs
from medfuse.pipeline.train import train


@pytest.fixture(autouse=True)
def coarse(monkeypatch):
    monkeypatch.setattr(phantom_pairs, "COARSEN", 6.0)
    monkeypatch.setattr(slices, "EVERY", 5)


def test_each_head_gives_slices_of_every_partner_that_fit_together():
    pairs = list(simulated_pairs(2, 3))
    tasks = {"MRI-CT", "MRI-PET", "MRI-SPECT"}
    assert {pair.task for pair in pairs} == tasks
    assert {pair.case for pair in pairs} == {f"{task}/simulated-{n}" for task in tasks for n in (0, 1)}
    for pair in pairs:
        assert pair.simulated
        assert pair.mri.shape == pair.partner.shape
        assert pair.mri.dtype == pair.partner.dtype == torch.float32
        assert min(pair.mri.min(), pair.partner.min()) >= 0
        assert max(pair.mri.max(), pair.partner.max()) <= 1
        assert (pair.colours is None) == (pair.task == "MRI-CT")
        # Both show the same head: what one leaves black around it, the other does, too.
        head = pair.mri > 0.15
        assert pair.partner[~head].mean() < pair.partner[head].mean() + 0.05
    first = {pair.task: pair for pair in pairs if pair.case.endswith("0")}
    second = {pair.task: pair for pair in pairs if pair.case.endswith("1")}
    assert not any(torch.equal(first[task].mri, second[task].mri) for task in tasks)


def test_the_same_seed_gives_the_same_pairs():
    one, same, other = (next(simulated_pairs(1, seed)) for seed in (3, 3, 4))
    assert torch.equal(one.partner, same.partner)
    assert not torch.equal(one.partner, other.partner)


def test_heads_are_learnt_from_and_never_held_out(tmp_path):
    real = [Pair("MRI-PET", f"MRI-PET/{n}", *torch.rand(2, 1, 32, 32)) for n in (1, 2)]
    pairs = [*real, *simulated_pairs(1, 3)]
    assert held_out(TrainingConfig(fold=1), pairs) == {"MRI-PET/1"}
    weights = train(
        TrainingConfig(
            out=str(tmp_path / "run"),
            simulated_heads=1,
            steps=2,
            batch_pixels=16 * 16 * 2,
            patch_sizes=(16,),
            semantic_pretraining=1,
            validate_every=2,
        )
    )
    assert weights.exists()
