import csv
import json

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors import safe_open

from medfuse.gesenet import load_network
from medfuse.gesenet.losses import FusionLoss, content_loss, gradient_loss, sobel_magnitude
from medfuse.gesenet.training import Trainer, TrainingConfig


@pytest.fixture
def pairs(tmp_path):
    """Two tasks, two patients each, one picture pair a patient, with something to see in both."""
    generator = np.random.default_rng(3)
    with (tmp_path / "pairs.csv").open("w", newline="") as lines:
        writer = csv.writer(lines)
        writer.writerow(["split", "task", "case", "slice", "mri", "partner"])
        for task in ("MRI-CT", "MRI-PET"):
            for case in (1, 2):
                for side in ("mri", "partner"):
                    values = generator.integers(40, 200, (12, 12), dtype=np.uint8).repeat(4, 0).repeat(4, 1)
                    Image.fromarray(values).save(tmp_path / f"{task}-{case}-{side}.png")
                writer.writerow(["train", task, case, 1, *(f"{task}-{case}-{side}.png" for side in ("mri", "partner"))])
        writer.writerow(["test", "MRI-CT", 9, 1, "absent.png", "absent.png"])
    return tmp_path / "pairs.csv"


def config(pairs, out, **more):
    settings = {"steps": 6, "batch_size": 2, "patch_size": 24, "validate_every": 3, "validation_cases": ("MRI-CT/2",)}
    return TrainingConfig(pairs=str(pairs), out=str(out), **(settings | more))


def log(folder):
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]


def test_the_same_seed_trains_the_same_network(pairs, tmp_path):
    for name in "ab":
        Trainer(config(pairs, tmp_path / name)).run()
    assert log(tmp_path / "a") == log(tmp_path / "b")
    Trainer(config(pairs, tmp_path / "c", seed=1)).run()
    assert log(tmp_path / "c") != log(tmp_path / "a")


def test_a_run_that_was_cut_resumes_to_the_same_end(pairs, tmp_path):
    Trainer(config(pairs, tmp_path / "whole")).run()
    cut = Trainer(config(pairs, tmp_path / "cut"))
    original, cut._record = cut._record, lambda figures: (original(figures), (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        cut.run()
    assert len(log(tmp_path / "cut")) == 1
    resumed = Trainer(config(pairs, tmp_path / "cut"))
    assert resumed.step == 3
    resumed.run()
    assert log(tmp_path / "cut") == log(tmp_path / "whole")


def test_validation_patients_are_not_trained_on(pairs, tmp_path):
    trainer = Trainer(config(pairs, tmp_path / "a"))
    assert {pair.case for pair in trainer.training} == {"MRI-CT/1", "MRI-PET/1", "MRI-PET/2"}
    assert {pair.case for pair in trainer.validation} == {"MRI-CT/2"}


@pytest.mark.slow
def test_training_lowers_the_loss(pairs, tmp_path):
    Trainer(config(pairs, tmp_path / "a", steps=120, validate_every=30)).run()
    rows = log(tmp_path / "a")
    assert rows[-1]["validation_total"] < 0.7 * rows[0]["validation_total"]


def test_weights_carry_their_origin_and_no_paths(pairs, tmp_path):
    Trainer(config(pairs, tmp_path / "a")).run()
    with safe_open(tmp_path / "a" / "best.safetensors", "pt") as file:
        metadata = file.metadata()
    assert json.loads(metadata["config"])["seed"] == config(pairs, "x").seed
    assert json.loads(metadata["training_cases"]) == ["MRI-CT/1", "MRI-PET/1", "MRI-PET/2"]
    assert str(tmp_path) not in json.dumps(metadata)
    network = load_network(tmp_path / "a" / "best.safetensors")
    assert network.origin["name"] == "best.safetensors"


def test_the_shipped_weights_say_what_made_them():
    from importlib.resources import as_file, files

    with as_file(files("medfuse.gesenet.weights") / "default.safetensors") as path, safe_open(path, "pt") as file:
        metadata = file.metadata()
    assert {"config", "training_cases", "figures"} <= metadata.keys()
    assert "/" not in json.loads(metadata["config"])["pairs"]


def test_settings_come_from_yaml_and_unknown_ones_are_refused(tmp_path):
    (tmp_path / "a.yaml").write_text("pairs: p.csv\nout: o\nsteps: 7\nvalidation_cases: [MRI-CT/1]\n")
    assert TrainingConfig.from_yaml(tmp_path / "a.yaml") == TrainingConfig("p.csv", "o", ("MRI-CT/1",), steps=7)
    (tmp_path / "b.yaml").write_text("pairs: p.csv\nout: o\nstep: 7\n")
    with pytest.raises(ValueError, match="unknown training settings: step"):
        TrainingConfig.from_yaml(tmp_path / "b.yaml")


def test_sobel_magnitude_measures_a_ramp():
    ramp = torch.arange(10.0).expand(1, 1, 6, 10) / 10
    assert torch.allclose(sobel_magnitude(ramp)[..., 1:-1], torch.tensor(0.8))


def test_losses_are_zero_where_nothing_can_be_better():
    mri, partner = torch.zeros(2, 1, 1, 32, 32).unbind()
    mri[..., :16], partner[..., 20:] = 0.5, 0.9
    brighter = torch.maximum(mri, partner)
    assert content_loss(brighter, mri, partner) == 0
    assert gradient_loss(mri, mri, mri) == 0
    total, terms = FusionLoss()(mri, mri, mri)
    assert total == pytest.approx(0, abs=1e-6)
    assert set(terms) == {"content", "gradient", "ssim"}
    assert FusionLoss()(1 - brighter, mri, partner)[0] > FusionLoss()(brighter, mri, partner)[0]
