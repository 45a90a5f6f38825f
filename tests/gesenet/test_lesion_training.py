import pytest
import torch

from medfuse.gesenet.training.config import TrainingConfig
from medfuse.gesenet.training.dataset import Pair
from medfuse.gesenet.training.lesions import CONTRASTS, with_lesions
from medfuse.gesenet.training.losses import lesion_loss
from medfuse.gesenet.training.patches import PatchSampler
from medfuse.gesenet.training.trainer import Trainer


def patches(count=40, size=32, seed=2):
    generator = torch.Generator().manual_seed(seed)
    return tuple(0.3 + 0.4 * torch.rand(count, 1, size, size, generator=generator) for _ in range(2))


def pair():
    mri, partner = (side[0] for side in patches(1, 64))
    return Pair("MRI-PET", "MRI-PET/1", mri, partner)


def test_each_copy_has_one_lesion_in_one_source():
    mri, partner = patches()
    changed = with_lesions(mri, partner, torch.Generator().manual_seed(1))
    of_mri, of_partner = changed.mri - mri, changed.partner - partner
    torch.testing.assert_close(of_mri + of_partner, changed.added)
    has = torch.stack([side.abs().amax((1, 2, 3)) > 0 for side in (of_mri, of_partner)])
    assert (has.sum(0) == 1).all()
    assert has.all(1).logical_not().all()  # now in this source, now in that
    signs = changed.added.sum((1, 2, 3)).sign()
    assert {-1.0, 1.0} == set(signs.tolist())
    strongest = changed.added.abs().amax((1, 2, 3))
    assert strongest.min() > CONTRASTS[0] / 2
    assert strongest.max() <= CONTRASTS[1] + 1e-6
    again = with_lesions(mri, partner, torch.Generator().manual_seed(1))
    assert torch.equal(again.added, changed.added)


def test_air_gets_no_lesion():
    air = torch.zeros(3, 1, 32, 32)
    assert with_lesions(air, air, torch.Generator().manual_seed(1)).added.abs().max() == 0


@pytest.mark.parametrize(("kept", "loss"), [(0.0, 1.0), (0.3, 0.5), (0.6, 0.0), (1.0, 0.0), (-0.6, 2.0)])
def test_the_loss_is_what_is_missing_of_the_wanted_contrast(kept, loss):
    mri, partner = patches()
    added = with_lesions(mri, partner, torch.Generator().manual_seed(1)).added
    fused = torch.cat((mri, mri + kept * added))
    assert lesion_loss(fused, added) == pytest.approx(loss, abs=1e-4)


def test_copies_stand_behind_the_patches_that_they_are_of_and_a_batch_stays_as_large():
    def sampler(share):
        return PatchSampler([pair()], [32], 32 * 32 * 10, 0.05, torch.Generator().manual_seed(3), lesion_share=share)

    plain, batch = sampler(0.0).draw(), sampler(0.3).draw()
    assert plain.lesions is None
    assert len(plain.mri) == len(batch.mri) == 10
    assert len(batch.lesions) == 3
    assert len(batch.tasks) == len(batch.classes) == len(batch.tints) == 10
    changes = batch.mri[-3:] - batch.mri[:3] + batch.partner[-3:] - batch.partner[:3]
    torch.testing.assert_close(changes, batch.lesions)
    assert torch.equal(batch.classes[-3:], batch.classes[:3])


def test_training_learns_to_keep_lesions(tmp_path):
    settings = {
        "steps": 40,
        "batch_pixels": 32 * 32 * 8,
        "patch_sizes": (32,),
        "validate_every": 20,
        "semantic_weight": 0.0,
        "learning_rate": 3e-3,
        "lesion_share": 0.5,
        "lesion_weight": 20.0,
    }
    trainer = Trainer(TrainingConfig(out=str(tmp_path / "run"), **settings), [pair()])
    trainer.run()
    first, last = (row["train_lesion"] for row in trainer.folder.rows())
    assert last < 0.8 * first
