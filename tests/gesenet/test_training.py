import copy
import csv
import hashlib
import itertools
import json
import math
import os
import resource
import subprocess
import sys
from contextlib import contextmanager
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from global_state import unchanged
from hostile import limited_memory
from network_pairs import shuffled, silence
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file
from typer.testing import CliRunner

import medfuse
from medfuse.cli import app
from medfuse.errors import ExportError, IntensityError, TrainingError
from medfuse.gesenet import load_network
from medfuse.gesenet.architecture import Parts, Widths
from medfuse.gesenet.loading import save_network
from medfuse.gesenet.masks import CoupleMaskConvolutions, watch_masks, work_share
from medfuse.gesenet.network import GeSeNet
from medfuse.gesenet.training import losses as training_losses
from medfuse.gesenet.training.compact import compact_file, compacted, remaining, selected
from medfuse.gesenet.training.config import TrainingConfig
from medfuse.gesenet.training.dataset import read_pairs, read_picture, with_classes
from medfuse.gesenet.training.folds import fold_of
from medfuse.gesenet.training.losses import (
    FusionLoss,
    LossByTask,
    LossWeights,
    channel_mask_loss,
    complement_loss,
    content_loss,
    gradient_loss,
    headroom_loss,
    magnitude_loss,
    preservation_loss,
    semantic_loss,
    sobel,
    spatial_mask_loss,
    structure,
)
from medfuse.gesenet.training.patches import PatchSampler, whole_pairs
from medfuse.gesenet.training.pruning import Pruning
from medfuse.gesenet.training.semantic import TISSUES, SemanticModule, TissueClasses
from medfuse.gesenet.training.trainer import Trainer
from medfuse.pipeline.train import study_pairs, train


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


SETTINGS = {
    "steps": 6,
    "batch_pixels": 2 * 24 * 24,
    "patch_sizes": (24, 32),
    "validate_every": 3,
    "validate_share": 1.0,
    "validation_cases": ("MRI-CT/2",),
    "semantic_pretraining": 2,
    "device": "cpu",
}


def config(pairs, out, **more):
    return TrainingConfig(pairs=str(pairs), out=str(out), **(SETTINGS | more))


def trainer_of(settings):
    return Trainer(settings, read_pairs(Path(settings.pairs)))


def log(folder):
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]


def test_the_same_seed_trains_the_same_network(pairs, tmp_path):
    for name in "ab":
        trainer_of(config(pairs, tmp_path / name)).run()
    assert log(tmp_path / "a") == log(tmp_path / "b")
    trainer_of(config(pairs, tmp_path / "c", seed=1)).run()
    assert log(tmp_path / "c") != log(tmp_path / "a")


def test_training_leaves_random_numbers_and_threads_as_they_were(pairs, tmp_path):
    threads, state = torch.get_num_threads(), torch.get_rng_state()
    for name, drawn in (("a", 0), ("b", 3)):
        torch.rand(drawn)  # what the caller draws before and between changes nothing
        settings, seen = config(pairs, tmp_path / name, threads=threads + 1), []
        note = lambda rows, seen=seen: seen.append(torch.get_num_threads())  # noqa: E731
        trainer = Trainer(settings, read_pairs(pairs), recorded=note)
        assert torch.get_num_threads() == threads
        torch.rand(drawn)
        before = torch.get_rng_state()
        trainer.run()
        assert set(seen) == {threads + 1}
        assert torch.get_num_threads() == threads
        assert torch.equal(torch.get_rng_state(), before)
        assert torch.equal(before, state) == (not drawn)
    assert log(tmp_path / "a") == log(tmp_path / "b")


@contextmanager
def default(dtype=torch.float32, device=None):
    torch.set_default_dtype(dtype)
    torch.set_default_device(device)
    try:
        yield
    finally:
        torch.set_default_dtype(torch.float32)
        torch.set_default_device(None)


def test_what_a_program_has_set_for_torch_makes_no_difference_to_training(pairs, tmp_path):
    settings = partial(config, pairs, steps=2, validate_every=2)
    expected = load_file(train(settings(tmp_path / "plain")))
    situations = {
        "inference": torch.inference_mode,
        "double": lambda: default(torch.float64),
        "meta": lambda: default(device="meta"),
        "autocast": lambda: torch.autocast("cpu"),
    }
    for name, situation in situations.items():
        with situation(), unchanged():
            weights = train(settings(tmp_path / name))
        found = load_file(weights)
        assert found.keys() == expected.keys()
        for each in found:
            torch.testing.assert_close(found[each], expected[each], rtol=0, atol=0, msg=f"{each} {name}")


@pytest.mark.parametrize("share", [0.25, 1.0])
def test_pruning_leaves_a_share_of_the_channels_and_the_weights_hold_no_others(pairs, tmp_path, share):
    trainer = trainer_of(config(pairs, tmp_path / "run", kept_share=share, semantic_weight=0.0))
    trainer.run()
    trained = load_network(tmp_path / "run" / "best.safetensors")
    dense, edge = max(8, int(16 * share)), max(16, int(32 * share))
    half, whole = int(32 * share), int(64 * share)
    assert trained.widths == Widths(dense, dense, edge, half, half, whole, half, whole, half)
    sources = torch.rand(1, 1, 40, 40), torch.rand(1, 1, 40, 40)
    torch.testing.assert_close(trained(*sources), trainer.network.eval()(*sources), atol=2e-6, rtol=0)


def test_channels_that_are_gone_do_not_come_back(pairs, tmp_path):
    """A later stage trains a narrow network; its share is of the paper's channels, of which a half has gone before."""
    given = {"semantic_weight": 0.0, "steps": 3}
    trainer_of(config(pairs, tmp_path / "first", kept_share=0.5, **given)).run()
    start = str(tmp_path / "first" / "best.safetensors")
    half = load_network(start).widths
    assert half == Widths(8, 8, 16, 16, 16, 32, 16, 32, 16)
    for name, share, expected in (("next", 1.0, half), ("last", 0.25, Widths(8, 8, 16, 8, 8, 16, 8, 16, 8))):
        trainer = trainer_of(config(pairs, tmp_path / name, start=start, kept_share=share, **given))
        assert trainer.network.widths == half
        trainer.run()
        assert load_network(trainer.folder.best_weights).widths == expected


@pytest.mark.parametrize(
    "parts", [Parts(), *(replace(Parts(), **{name: name == "swapped"}) for name in asdict(Parts()))]
)
def test_a_compact_network_computes_the_same(parts):
    network = shuffled(parts, widths=Widths())
    for branch, many in ((network.mri, 21), (network.partner, 16)):
        if parts.edge:
            silence([branch.edge.dense.first], range(9))
            silence([branch.edge.dense.second], range(3, 11))
        if parts.edge and parts.region and not parts.swapped:
            silence([branch.edge.down, branch.edge.up, branch.region.body.collect], range(1, 1 + many))
        if parts.region:
            for layer in branch.region.body.convolutions:
                silence([layer], range(2, 2 + many // 2))
    if parts.refinement:
        scale, shift = network.refinement.scale, network.refinement.shift
        silence([scale[0]], [3, 9])
        silence([scale[2]], range(7, 40))
        silence([shift[0]], range(21))
        silence([network.refinement.merge, shift[2]], [0, 5, 63])
    silence([network.decoder[0]], range(4, 17))
    compact = compacted(network)
    if parts == Parts():
        assert compact.widths == Widths(8, 8, 16, 24, 30, 31, 11, 61, 19)
    assert compact.widths.decoder == 19
    mri, partner = torch.rand(2, 1, 33, 40), torch.rand(2, 1, 33, 40)
    torch.testing.assert_close(compact(mri, partner), network(mri, partner), atol=2e-6, rtol=0)
    for net in (network, compact):
        net.train().soften_masks(0.0)
    torch.testing.assert_close(compact(mri, partner), network(mri, partner), atol=2e-6, rtol=0)
    again = compacted(compact)
    assert again.widths == compact.widths
    assert all(torch.equal(value, again.state_dict()[name]) for name, value in compact.state_dict().items())


def test_a_weights_file_of_all_channels_is_made_compact(tmp_path):
    network = shuffled(widths=Widths())
    silence([network.decoder[0]], range(20))
    save_network(network, tmp_path / "old.safetensors", {"config": "{}"}, torch.float16)
    compact_file(tmp_path / "old.safetensors", tmp_path / "new.safetensors")
    with safe_open(tmp_path / "new.safetensors", "pt") as file:
        assert file.metadata()["config"] == "{}"
        assert json.loads(file.metadata()["widths"])["decoder"] == 12
        assert file.get_tensor("mri.stem.weight").dtype == torch.float16
    old, new = (load_network(tmp_path / f"{name}.safetensors") for name in ("old", "new"))
    sources = torch.rand(1, 1, 20, 22), torch.rand(1, 1, 20, 22)
    torch.testing.assert_close(new(*sources), old(*sources), atol=2e-6, rtol=0)


def test_weights_of_other_widths_have_no_mean(pairs, tmp_path):
    save_network(shuffled(), tmp_path / "odd.safetensors")
    with pytest.raises(TrainingError, match="must have the same numbers of channels; default has"):
        trainer_of(config(pairs, tmp_path / "run", averaged=("default", str(tmp_path / "odd.safetensors"))))


def test_pruning_keeps_the_channels_that_matter():
    torch.manual_seed(5)
    network = GeSeNet()
    pruning = Pruning(network, 0.5)
    trained = network.decoder[0].weight
    with torch.no_grad():
        network.decoder[2].weight[:, 1::2] = 0  # nobody reads these
    for _ in range(3):
        fused = network.eval()(torch.rand(1, 1, 24, 24), torch.rand(1, 1, 24, 24))
        network.zero_grad()
        fused.square().mean().backward()
        pruning.weigh()
    pruning.prune(1.0)
    assert torch.equal((trained != 0).flatten(1).any(1), torch.arange(32) % 2 == 0)


def test_a_run_that_was_cut_resumes_to_the_same_end(pairs, tmp_path):
    trainer_of(config(pairs, tmp_path / "whole")).run()
    cut = trainer_of(config(pairs, tmp_path / "cut"))
    original, cut._record = cut._record, lambda figures: (original(figures), (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        cut.run()
    assert len(log(tmp_path / "cut")) == 1
    # As one wrote it that knew fewer settings.
    state = torch.load(tmp_path / "cut" / "checkpoint.pt", weights_only=True)
    state["config"] = json.dumps(
        {name: value for name, value in json.loads(state["config"]).items() if name != "for_tasks"}
    )
    torch.save(state, tmp_path / "cut" / "checkpoint.pt")
    resumed = trainer_of(config(pairs, tmp_path / "cut"))
    assert resumed.step == 3
    resumed.run()
    assert log(tmp_path / "cut") == log(tmp_path / "whole")


SHORT = {"semantic_weight": 0.0, "steps": 2, "validate_every": 1}


class Cut(BaseException):
    """What ends a run at once."""


def test_a_run_that_is_cut_after_any_change_to_the_disk_resumes_to_the_same_end(pairs, tmp_path, monkeypatch):
    trainer_of(config(pairs, tmp_path / "whole", **SHORT)).run()
    weights = load_network(tmp_path / "whole" / "best.safetensors").state_dict()
    replace_file, left = os.replace, set()
    for number in itertools.count(1):
        out, done = tmp_path / str(number), itertools.count(1)

        def cutting(*paths, number=number, done=done):
            replace_file(*paths)
            if next(done) == number:
                raise Cut

        with monkeypatch.context() as patched:
            patched.setattr(os, "replace", cutting)
            try:
                trainer_of(config(pairs, out, **SHORT)).run()
            except Cut:
                pass
            else:
                break
        checkpoint = out / "checkpoint.pt"
        step = torch.load(checkpoint, weights_only=True)["step"] if checkpoint.exists() else 0
        lines = log(out) if (out / "log.jsonl").exists() else []
        assert all(row["step"] <= step for row in lines)
        left.add((step, len(lines)))
        trainer_of(config(pairs, out, **SHORT)).run()
        assert log(out) == log(tmp_path / "whole")
        for name, array in load_network(out / "best.safetensors").state_dict().items():
            assert torch.equal(array, weights[name])
        assert {path.name for path in out.iterdir()} == {path.name for path in (tmp_path / "whole").iterdir()}
    assert left == {(0, 0), (1, 0), (1, 1), (2, 1), (2, 2)}


def test_a_full_disk_leaves_a_run_that_resumes(pairs, tmp_path):
    """Out of space while the second validation is saved: what the first left stays whole."""
    train(config(pairs, tmp_path / "whole", **SHORT))
    out, limits, kept = tmp_path / "out", resource.getrlimit(resource.RLIMIT_FSIZE), {}

    def fill(stage, share):
        if stage == "train" and share > 0.6 and not kept:
            kept.update({path.name: path.read_bytes() for path in out.iterdir() if path.is_file()})
            resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))

    try:
        with pytest.raises(ExportError, match=r"cannot write .*File too large"):
            train(config(pairs, out, **SHORT), progress=fill)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert {path.name: path.read_bytes() for path in out.iterdir() if path.is_file()} == {
        name: content for name, content in kept.items() if name != ".lock"
    }
    assert len(log(out)) == 1
    load_network(out / "best.safetensors")
    train(config(pairs, out, **SHORT))
    assert log(out) == log(tmp_path / "whole")


def test_a_log_ahead_of_its_checkpoint_is_cut_to_it(pairs, tmp_path):
    """As one left it that wrote the log first, and no lines into the checkpoint."""
    trainer_of(config(pairs, tmp_path / "a")).run()
    whole, checkpoint = log(tmp_path / "a"), tmp_path / "a" / "checkpoint.pt"
    state = torch.load(checkpoint, weights_only=True)
    torch.save({name: value for name, value in state.items() if name != "rows"}, checkpoint)
    with (tmp_path / "a" / "log.jsonl").open("a") as lines:
        lines.write('{"step": 9, "train_total": 1.0}\n')
    trainer = trainer_of(config(pairs, tmp_path / "a"))
    assert log(tmp_path / "a") == whole == trainer.rows


def test_two_runs_do_not_train_in_one_folder(pairs, tmp_path):
    first, second = (trainer_of(config(pairs, tmp_path / "a")) for _ in range(2))
    with first.folder.held(), pytest.raises(TrainingError, match="another process trains in"):
        second.run()
    second.run()
    assert not (tmp_path / "a" / ".lock").exists()


def test_weights_to_start_from_are_not_replaced(pairs, tmp_path):
    trainer_of(config(pairs, tmp_path / "a")).run()
    best = tmp_path / "a" / "best.safetensors"
    os.link(best, tmp_path / "start.safetensors")
    for start in (best, tmp_path / "start.safetensors"):
        with pytest.raises(TrainingError, match="holds the weights to start from"):
            trainer_of(config(pairs, tmp_path / "a", start=str(start)))


def narrowing(pairs, out, **more):
    """A run that prunes; its network is cut after steps 3 and 6, and after the seventh, when all channels have gone."""
    given = {"steps": 12, "validate_every": 3, "kept_share": 0.25, "mask_speed": 100.0}
    return trainer_of(config(pairs, out, **(given | more)))


def test_channels_are_cut_out_while_a_run_prunes(pairs, tmp_path):
    trainer = narrowing(pairs, tmp_path / "run")
    widths, seen = [], []
    original = trainer._learn

    def learn():
        found = original()
        logits = trainer.network.mri.region.body.channel_logits
        seen.append((logits.shape[1], logits.requires_grad, logits.detach().clone()))
        widths.append(trainer.network.widths.merged)
        return found

    trainer._learn = learn
    trainer.run()
    assert widths == sorted(widths, reverse=True)
    assert widths[0] == 64
    assert widths[-1] == 16
    assert len(set(widths)) > 2  # more than once
    # Channel masks learn through the cuts.
    last = [logits for count, learns, logits in seen if count == seen[-1][0] and learns]
    assert not torch.equal(last[0], last[-1])
    assert load_network(trainer.folder.best_weights).widths == trainer.network.widths


def test_a_cut_changes_neither_the_picture_nor_what_was_learnt(pairs, tmp_path):
    trainer = narrowing(pairs, tmp_path / "run", steps=20, validate_every=20)
    with trainer.isolation.entered():
        for _ in range(9):
            trainer._learn()
            trainer.step += 1
    sources = torch.rand(1, 1, 40, 44), torch.rand(1, 1, 40, 44)
    wide, optimizer = trainer.network, trainer.optimizer
    before, left = wide.eval()(*sources), remaining(wide)
    worth = dict(zip(trainer.pruning.groups, trainer.pruning.worth, strict=True))
    trainer._leave_out()
    narrow = trainer.network
    assert narrow is not wide
    assert narrow.widths.merged < wide.widths.merged
    torch.testing.assert_close(narrow.eval()(*sources), before, atol=2e-6, rtol=0)
    for group, found in zip(trainer.pruning.groups, trainer.pruning.worth, strict=True):
        assert torch.equal(found, worth[group][left.places[group]])
    # The moments of a channel are still beside its weights.
    for kind in ("exp_avg", "exp_avg_sq"):
        joined = copy.deepcopy(wide)
        for mine, its in zip(joined.parameters(), wide.parameters(), strict=True):
            mine.data = optimizer.state[its][kind].clone()
        expected = selected(wide, joined.state_dict(), left)
        for name, value in narrow.named_parameters():
            assert torch.equal(trainer.optimizer.state[value][kind], expected[name]), name
            assert trainer.optimizer.state[value]["step"] == 9


AVERAGED = {"average_share": 0.4, "settled_share": 0.3}


@pytest.mark.parametrize(
    ("more", "validations"), [({}, 1), ({"learn_channel_masks": False}, 2), (AVERAGED, 2), (AVERAGED, 3)]
)
def test_a_run_that_prunes_resumes_to_the_same_weights_wherever_it_was_cut(pairs, tmp_path, more, validations):
    narrowing(pairs, tmp_path / "whole", **more).run()
    cut = narrowing(pairs, tmp_path / "cut", **more)
    original = cut._record

    def record(figures):
        original(figures)
        if cut.step == 3 * validations:
            raise KeyboardInterrupt

    cut._record = record
    with pytest.raises(KeyboardInterrupt):
        cut.run()
    resumed = narrowing(pairs, tmp_path / "cut", **more)
    assert resumed.step == 3 * validations
    assert resumed.network.widths == cut.network.widths
    resumed.run()
    assert log(tmp_path / "cut") == log(tmp_path / "whole")
    written = [load_file(tmp_path / name / "best.safetensors") for name in ("cut", "whole")]
    assert all(torch.equal(written[0][name], value) for name, value in written[1].items())


def test_the_weights_are_the_mean_of_the_last_steps(pairs, tmp_path):
    trainer = trainer_of(config(pairs, tmp_path / "run", average_share=0.5, stored_precision="float16"))
    states, original = [], trainer._learn

    def learn():
        found = original()
        states.append({name: value.clone() for name, value in trainer.network.state_dict().items()})
        return found

    trainer._learn = learn
    trainer.run()
    with safe_open(trainer.folder.best_weights, "pt") as file:
        assert {file.get_tensor(name).dtype for name in file.keys()} == {torch.float16}  # noqa: SIM118
        assert json.loads(file.metadata()["figures"]) == log(tmp_path / "run")[-1]
    kept = load_network(trainer.folder.best_weights)
    for name, value in kept.state_dict().items():
        mean = torch.stack([state[name] for state in states[3:]]).mean(0)
        torch.testing.assert_close(value, mean, atol=1e-3, rtol=1e-3)
        assert torch.equal(value, value.half().float())
    assert not torch.equal(kept.decoder[2].weight, trainer.network.decoder[2].weight)
    # What the log says is of the weights that are kept, rounded.
    validated = [pair for pair in read_pairs(pairs) if pair.case == "MRI-CT/2"]
    batch = next(whole_pairs(validated))
    total, _ = trainer.loss(kept(batch.mri, batch.partner), batch.mri, batch.partner, batch.tasks)
    assert log(tmp_path / "run")[-1]["validation_total"] == pytest.approx(total.item(), abs=1e-4)


def test_without_held_out_patients_the_longest_mean_is_kept(pairs, tmp_path):
    trainer = trainer_of(config(pairs, tmp_path / "run", average_share=0.7, validation_cases=(), validate_every=2))
    trainer.run()
    with safe_open(trainer.folder.best_weights, "pt") as file:
        assert json.loads(file.metadata()["figures"])["step"] == 6
    assert trainer.mean.count == 4


def test_channel_masks_settle_in_the_last_steps(pairs, tmp_path):
    trainer = trainer_of(config(pairs, tmp_path / "run", settled_share=0.5, hard_share=0.5))
    logits, seen, original = trainer.network.mri.region.body.channel_logits, [], trainer._learn
    trainer._learn = lambda: (original(), seen.append(logits.detach().clone()))[0]
    trainer.run()
    assert not torch.equal(seen[1], seen[2])
    assert torch.equal(seen[2], seen[5])
    with pytest.raises(TrainingError, match=r"settled_share must be at most hard_share, 0\.2; found 0\.5"):
        config(pairs, tmp_path / "none", settled_share=0.5, hard_share=0.2)


def test_folds_are_by_patient_and_cover_all_once(pairs, tmp_path):
    held = []
    for fold in (1, 2):
        trainer = trainer_of(config(pairs, tmp_path / str(fold), fold=fold, validation_cases=()))
        validated = {pair.case for pair in trainer.validation}
        assert not validated & {pair.case for pair in trainer.training}
        assert {case.split("/")[0] for case in validated} == {"MRI-CT", "MRI-PET"}
        held += validated
    assert sorted(held) == ["MRI-CT/1", "MRI-CT/2", "MRI-PET/1", "MRI-PET/2"]
    with pytest.raises(TrainingError, match="leave one of them empty"):
        config(pairs, tmp_path / "none", fold=1)


def test_a_patient_of_two_tasks_is_in_one_fold():
    atlas = [f"MRI-PET/{case}" for case in (25, 41)] + [f"MRI-CT/{case}" for case in (2, 20, 28, 32, 34, 37, 41)]
    atlas += [f"MRI-SPECT/{case}" for case in (10, 11, 15, 25, 28, 29, 3, 35, 4, 40)]
    folds = fold_of(atlas)
    assert folds == fold_of(atlas[::-1] * 2)
    assert folds["MRI-PET/25"] != folds["MRI-PET/41"]
    for number in ("25", "28", "41"):
        assert len({fold for case, fold in folds.items() if case.split("/")[1] == number}) == 1
    for task, least in (("MRI-CT", 3), ("MRI-SPECT", 5)):
        own = [fold for case, fold in folds.items() if case.startswith(task)]
        assert min(own.count(1), own.count(2)) >= least
    for cases, said in (
        (["MRI-PET/1", "MRI-CT/2", "MRI-CT/3"], "MRI-PET in both; it has 1"),
        (["MRI-CT/", "MRI-CT/1"], "names no case"),
    ):
        with pytest.raises(TrainingError, match=said):
            fold_of(cases)


def test_no_picture_and_no_patient_of_another_split_is_trained_on(pairs):
    text = pairs.read_text()
    for row, said in (
        ("test,MRI-CT,77,1,./MRI-CT-1-mri.png,other.png\n", "lists 1 picture under the split train and another"),
        ("validation,MRI-PET,2,9,a.png,b.png\n", "lists 1 patient "),
    ):
        pairs.write_text(text + row)
        with pytest.raises(TrainingError, match=said) as refused:
            read_pairs(pairs)
        assert "77" not in str(refused.value)
    pairs.write_text(text + "test,MRI-CT,,1,a.png,b.png\n")  # test pairs may have no name
    assert {pair.case for pair in read_pairs(pairs)} == {"MRI-CT/1", "MRI-CT/2", "MRI-PET/1", "MRI-PET/2"}


def test_the_papers_content_and_gradient_are_those_of_its_equations():
    fused, mri, partner = torch.rand(3, 1, 1, 24, 24, generator=torch.Generator().manual_seed(6)).unbind()
    both = (fused - mri).abs().mean() + (fused - partner).abs().mean()
    torch.testing.assert_close(content_loss(fused, mri, partner, "both"), both)
    strengths = [sobel(side).abs().sum(1) for side in (fused, mri, partner)]
    expected = (strengths[0] - torch.maximum(*strengths[1:])).abs().mean()
    torch.testing.assert_close(magnitude_loss(fused, mri, partner), expected)
    # It cannot tell a dark line from a bright one, as ours does.
    flat = torch.zeros_like(mri)
    assert magnitude_loss(1 - mri, mri, flat) == pytest.approx(0, abs=1e-6)
    loss = FusionLoss(LossWeights(1.0, 10.0, 0.5, 0.0), content_target="both", gradient_form="magnitudes")
    total, terms = loss(fused, mri, partner)
    assert total == pytest.approx((terms["content"] + 10 * terms["gradient"] + 0.5 * terms["ssim"]).item())


def test_terms_that_count_nothing_have_no_gradient(monkeypatch):
    fused = torch.rand(1, 1, 24, 24, requires_grad=True)
    seen = []
    monkeypatch.setattr(
        training_losses, "headroom_loss", lambda *_: seen.append(torch.is_grad_enabled()) or fused.mean()
    )
    for weight in (0.0, 1.0):
        FusionLoss(LossWeights(headroom=weight))(fused, torch.rand(1, 1, 24, 24), torch.rand(1, 1, 24, 24))
    assert seen == [False, True]


def test_patches_can_be_left_as_they_are(pairs):
    found = read_pairs(pairs)[:1]
    sampler = PatchSampler(
        found, (48,), 48 * 48 * 8, 1.0, torch.Generator().manual_seed(5), varied_share=0.0, turned=False
    )
    drawn = sampler.draw()
    assert all(torch.equal(each, found[0].mri.float() / 255) for each in drawn.mri)
    torch.testing.assert_close(drawn.partner[0], found[0].partner.float() / 255)


def test_masks_may_learn_as_the_weights_do(pairs, tmp_path):
    alike = trainer_of(config(pairs, tmp_path / "a", mask_speed=1.0, decay_masks=True, weight_decay=2e-4, warm_up=0))
    assert {(group["speed"], group["weight_decay"]) for group in alike.optimizer.param_groups} == {(1.0, 2e-4)}
    apart = trainer_of(config(pairs, tmp_path / "b", weight_decay=2e-4))
    assert [group["weight_decay"] for group in apart.optimizer.param_groups] == [2e-4, 0.0]
    assert [group["speed"] for group in apart.optimizer.param_groups] == [1.0, 10.0]


def test_validation_patients_are_not_trained_on(pairs, tmp_path):
    trainer = trainer_of(config(pairs, tmp_path / "a"))
    assert {pair.case for pair in trainer.training} == {"MRI-CT/1", "MRI-PET/1", "MRI-PET/2"}
    assert {pair.case for pair in trainer.validation} == {"MRI-CT/2"}


@pytest.mark.slow
def test_training_lowers_the_loss(pairs, tmp_path):
    trainer_of(config(pairs, tmp_path / "a", steps=120, validate_every=30)).run()
    rows = log(tmp_path / "a")
    assert rows[-1]["validation_total"] < 0.7 * rows[0]["validation_total"]


def test_weights_carry_their_origin_and_no_paths(pairs, tmp_path):
    trainer_of(config(pairs, tmp_path / "a")).run()
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


def test_settings_come_from_yaml_and_flags_go_first(tmp_path):
    (tmp_path / "a.yaml").write_text(
        "pairs: p.csv\nout: o\nsteps: 7\nlearning_rate: 1e-4\nvalidation_cases: [MRI-CT/1]\n"
    )
    read = TrainingConfig.from_yaml(tmp_path / "a.yaml", seed=4, steps=None)
    assert (read.steps, read.seed, read.learning_rate, read.validation_cases) == (7, 4, 1e-4, ("MRI-CT/1",))
    assert read.pairs == str(tmp_path / "p.csv")


def test_settings_by_their_old_names_are_taken_with_a_warning(tmp_path):
    old = {"drawn_twice": ["MRI-CT"], "room_from": 0.8, "compact": False, "seed": 3}
    old |= {"for_tasks": [{"task": "MRI-CT", "mri_must_exceed": 2.0, "room_weight": 5}]}
    (tmp_path / "a.yaml").write_text(json.dumps(old))
    with pytest.warns(FutureWarning) as said:
        read = TrainingConfig.from_yaml(tmp_path / "a.yaml", room_from=0.7)
    assert len(said) == 6
    assert any("the training setting room_weight is now headroom_weight" in str(each.message) for each in said)
    assert any("compact is no setting any more" in str(each.message) for each in said)
    assert (read.oversampled_tasks, read.headroom_from, read.seed) == (("MRI-CT",), 0.7, 3)
    own = read.for_task("MRI-CT")
    assert (own.mri_gradient_margin, own.headroom_weight) == (2.0, 5.0)


def test_flags_by_their_old_names_are_taken(pairs, tmp_path):
    (tmp_path / "a.yaml").write_text(json.dumps({"pairs": pairs.name, "out": "run"}))
    flags = ["--drawn-twice", "MRI-MR,MRI-CT", "--room-weight", "2", "--no-compact", "--patch-sizes", "24"]
    with pytest.warns(FutureWarning) as said:
        done = CliRunner().invoke(app, ["train", str(tmp_path / "a.yaml"), *flags])
    assert len(said) == 3
    assert done.exit_code == 3
    assert "found MRI-MR, MRI-CT" in " ".join(done.output.split())
    assert "--room-weight" not in CliRunner().invoke(app, ["train", "--help"]).output


def test_settings_are_read_without_pytorch():
    program = "import sys; import medfuse.gesenet.training.config; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", program], check=True)


def test_the_resolved_settings_read_back_the_same(pairs, tmp_path):
    settings = config(pairs, tmp_path / "a")
    trainer_of(settings)
    assert TrainingConfig.from_yaml(tmp_path / "a" / "config.yaml") == settings


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("step: 7\n", "unknown training settings: step"),
        ("steps: many\n", "the setting steps must be like 26000; found 'many'"),
        ("edge: 1\n", "the setting edge must be like True"),
        ("- 1\n", "must map settings to values"),
        ("a: [\n", "is not YAML"),
    ],
)
def test_settings_that_make_no_sense_are_refused(tmp_path, text, message):
    (tmp_path / "a.yaml").write_text(text)
    with pytest.raises(TrainingError, match=message):
        TrainingConfig.from_yaml(tmp_path / "a.yaml")


BOMB = "a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"{name}: &{name} [{','.join(['*' + before] * 9)}]\n" for before, name in zip("abcdefgh", "bcdefghi", strict=True)
)

YAML_OF_NO_USE = [
    ("out: ä".encode("latin-1"), "no text of UTF-8"),
    (b"steps: 5\0", "no text of UTF-8"),
    (b"\xff\xfe\x00", "no text of UTF-8"),
    (b"[" * 10_000, "nests"),
    (b"{a: " * 10_000, "nests"),
    (b"- " * 10_000, "nests"),
    (BOMB.encode(), "by its aliases"),
    (b"studies: &a [*a]", "alias of itself"),
    (b"a: &a {b: *a}", "alias of itself"),
    (b"steps: 1\nsteps: 2", r"gives 'steps' twice \(line 2\)"),
    (b"for_tasks: [{task: a, task: b}]", "gives 'task' twice"),
    (b"steps: " + b"9" * 5_000, "is not YAML"),
    (b"steps: 0x" + b"f" * 50_000, "a number of thousands of digits"),
    (b"learning_rate: " + b"9" * 400, "must be like 0.001"),
    (b"steps: .inf", "found inf"),
    (b"learning_rate: .nan", "found nan"),
    (b"steps: 2001-99-99", "is not YAML"),
    (b"steps: !!timestamp 5", "is not YAML"),
    (b"x: !!python/object:os.system {}", "is not YAML"),
    (b"? [a]\n: b", "is not YAML"),
    (b"null: 4", "unknown training settings: None"),
    (b"studies: 5", "must be a list"),
    (b'out: "a\\0b"', "the setting out"),
    (b'out: "\\uD800"', "the setting out"),
    (b"pairs: " + b"a" * 5_000, "the setting pairs"),
    (b"a: *b", "is not YAML"),
    (b"a: 1\n---\nb: 2", "is not YAML"),
    (b"x" * 2**21, "more than 1 MiB"),
]


@pytest.mark.parametrize(("content", "said"), YAML_OF_NO_USE, ids=lambda value: str(value)[:30])
def test_settings_are_read_within_bounds(tmp_path, content, said):
    (tmp_path / "a.yaml").write_bytes(content)
    with limited_memory(), pytest.raises(TrainingError, match=said) as refused:
        TrainingConfig.from_yaml(tmp_path / "a.yaml")
    assert len(str(refused.value)) < 1500


def test_settings_saved_by_editors_of_windows_are_read(tmp_path):
    for encoding in ("utf-8-sig", "utf-16"):
        (tmp_path / "a.yaml").write_bytes("steps: 7\r\nout: Müller\r\n".encode(encoding))
        read = TrainingConfig.from_yaml(tmp_path / "a.yaml")
        assert (read.steps, read.out) == (7, str(tmp_path / "Müller"))


def test_lists_of_pairs_are_read_within_bounds(tmp_path):
    head = "split,task,case,mri,partner\n"
    for content, said in {
        head.encode("utf-16"): "found UTF-16",
        (head + "train,a,1,\0,b\n").encode(): "NUL",
        (head + 'train,a,1,"x' + "y" * 200_000).encode(): "no readable CSV file after line 1",
        head.replace(",", ";").encode(): "separated by commas",
        b"split,split,task,case,mri,partner\n": "split is doubled",
        b"": "are missing",
        (head + f"train,a,1,{'m' * 300}.png,b.png\n").encode(): "is no readable picture",
    }.items():
        (tmp_path / "a.csv").write_bytes(content)
        with pytest.raises(TrainingError, match=said) as refused:
            read_pairs(tmp_path / "a.csv")
        assert len(str(refused.value)) < 400


def test_a_checkpoint_of_other_settings_is_not_continued(pairs, tmp_path):
    trainer_of(config(pairs, tmp_path / "a")).run()
    with pytest.raises(TrainingError, match=r"other settings \(learning_rate\)"):
        trainer_of(config(pairs, tmp_path / "a", learning_rate=0.1))


def test_a_folder_that_holds_something_else_is_left_as_it_is(pairs, tmp_path):
    own = tmp_path / "a" / "config.yaml"
    own.parent.mkdir()
    own.write_text("# mine\nsteps: 3\n")
    with pytest.raises(TrainingError, match=r"holds config\.yaml.*another folder"):
        trainer_of(config(pairs, tmp_path / "a"))
    assert own.read_text() == "# mine\nsteps: 3\n"
    (tmp_path / "b").write_text("")
    with pytest.raises(TrainingError, match="cannot be made"):
        trainer_of(config(pairs, tmp_path / "b" / "c"))


def test_a_run_cut_before_its_first_checkpoint_starts_again(pairs, tmp_path):
    trainer_of(config(pairs, tmp_path / "a")).run()
    whole = log(tmp_path / "a")
    (tmp_path / "a" / "checkpoint.pt").unlink()
    trainer_of(config(pairs, tmp_path / "a")).run()
    assert log(tmp_path / "a") == whole


@pytest.mark.parametrize(
    ("name", "damage", "message"),
    [
        ("checkpoint.pt", lambda path: path.write_bytes(path.read_bytes()[:1000]), "no readable checkpoint"),
        ("checkpoint.pt", lambda path: torch.save({"a": 1}, path), "no readable checkpoint"),
        ("checkpoint.pt", lambda path: torch.save(torch.load(path) | {"network": {}}, path), "state of this network"),
        ("log.jsonl", lambda path: path.write_text("begun\n"), "no log of a training"),
        ("log.jsonl", lambda path: path.write_bytes(b"\xff"), "no log of a training"),
    ],
)
def test_a_damaged_run_is_not_continued(pairs, tmp_path, name, damage, message):
    trainer_of(config(pairs, tmp_path / "a")).run()
    damage(tmp_path / "a" / name)
    with pytest.raises(TrainingError, match=message):
        trainer_of(config(pairs, tmp_path / "a"))


def test_hot_blobs_reach_the_top_over_bright_tissue(pairs):
    def drawn(hot_share):
        return PatchSampler(
            read_pairs(pairs), (48,), 48 * 48 * 16, 0.0, torch.Generator().manual_seed(5), hot_share=hot_share
        ).draw()

    plain, hot = drawn(0.0), drawn(1.0)
    changed = [(getattr(hot, side) - getattr(plain, side)).flatten(1).amax(1) > 0.02 for side in ("mri", "partner")]
    assert (changed[0] | changed[1]).all()
    assert changed[1].sum() > 3  # both kinds are drawn
    assert (~changed[1]).sum() > 1
    for side in (hot.mri, hot.partner):
        assert side.min() >= 0
        assert side.max() <= 1
    blobs = hot.partner[changed[1]] > 0.79
    assert ((hot.mri[changed[1]] * blobs).flatten(1).amax(1) > 0.45).all()


def test_a_run_stops_when_validation_no_longer_improves(pairs, tmp_path):
    settings = config(
        pairs, tmp_path / "a", steps=40, validate_every=1, learning_rate=0.0, final_learning_rate=0.0, patience=3
    )
    trainer_of(settings).run()
    assert len(log(tmp_path / "a")) == 4  # the first is the best, three are not better


def test_an_absent_validation_patient_is_named(pairs, tmp_path):
    with pytest.raises(TrainingError, match="MRI-CT/77"):
        trainer_of(config(pairs, tmp_path / "a", validation_cases=("MRI-CT/77",)))


def test_pairs_that_cannot_be_read_are_named(pairs, tmp_path):
    with pytest.raises(TrainingError, match="there is no file"):
        read_pairs(tmp_path / "absent.csv")
    with pytest.raises(TrainingError, match=r"absent\.png is no readable picture"):
        read_pairs(pairs, split="test")
    (tmp_path / "short.csv").write_text("split,task\n")
    with pytest.raises(TrainingError, match="columns case, mri, partner"):
        read_pairs(tmp_path / "short.csv")
    (tmp_path / "row.csv").write_text("split,task,case,mri,partner\ntrain,MRI-CT,1,a.png\n")
    with pytest.raises(TrainingError, match="too short"):
        read_pairs(tmp_path / "row.csv")
    (tmp_path / "latin.csv").write_bytes("split,task,case,mri,partner\ntrain,MRI-CT,Müller,a,b\n".encode("latin-1"))
    with pytest.raises(TrainingError, match="in UTF-8"):
        read_pairs(tmp_path / "latin.csv")


def test_pairs_saved_by_a_spreadsheet_are_read(pairs):
    pairs.write_bytes(b"\xef\xbb\xbf" + pairs.read_bytes())
    assert len(read_pairs(pairs)) == 4


def test_train_leaves_weights_log_curves_and_settings(pairs, tmp_path):
    stages = []
    weights = train(config(pairs, tmp_path / "a"), progress=lambda stage, share: stages.append((stage, share)))
    assert {path.name for path in weights.parent.iterdir()} == {
        "best.safetensors",
        "checkpoint.pt",
        "config.yaml",
        "curves.png",
        "log.jsonl",
    }
    assert stages[-1] == ("train", 1.0)
    assert stages[0][0] == "pretrain"


def test_weights_of_a_network_without_parts_say_so(pairs, tmp_path):
    trainer_of(config(pairs, tmp_path / "a", region=False, skip=False)).run()
    assert load_network(tmp_path / "a" / "best.safetensors").parts == Parts(region=False, skip=False)


@pytest.mark.parametrize("part", ["edge", "region", "refinement", "skip", "swapped", "none"])
def test_every_part_of_the_network_can_be_left_out(part):
    parts = Parts() if part == "none" else replace(Parts(), **{part: part == "swapped"})
    network = GeSeNet(parts)
    fused = network(torch.rand(2, 1, 33, 20), torch.rand(2, 1, 33, 20))
    assert fused.shape == (2, 1, 33, 20)
    fused.sum().backward()
    assert all(value.grad is not None for value in network.parameters())
    count = sum(value.numel() for value in network.parameters())
    assert (count < sum(value.numel() for value in GeSeNet().parameters())) == (part != "none")


def test_whole_studies_are_trained_on_as_they_are_fused(tmp_path):
    phantom = medfuse.phantom_study("CT")
    phantom.write_dicom(tmp_path / "study")
    study = {"mri": tmp_path / "study" / "mri", "partner": tmp_path / "study" / "partner", "case": "a"}
    found = list(study_pairs(study))
    assert {(pair.task, pair.case) for pair in found} == {("MRI-CT", "MRI-CT/a")}
    for pair in found:
        assert pair.mri.shape == pair.partner.shape
        assert pair.mri.dtype == torch.float32
        assert 0 <= pair.mri.min() <= pair.mri.max() <= 1
        assert pair.colours is None
    with pytest.raises(TrainingError, match="mri, partner and case"):
        list(study_pairs({"mri": "x"}))


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"palette": "nope"}, "palette of a study must be one of"),
        ({"align": "sideways"}, "align of a study must be one of"),
        ({"window": 5}, "window of a study must be"),
        ({"mri": 5}, "mri of a study must be text"),
    ],
)
def test_settings_of_a_study_are_checked_before_it_is_read(setting, message):
    with pytest.raises(TrainingError, match=message):
        list(study_pairs({"mri": "absent", "partner": "absent", "case": "a", **setting}))


def test_what_a_study_is_refused_for_arrives_as_it_is(tmp_path):
    medfuse.phantom_study("PT", coarsen=4).write_dicom(tmp_path / "study")
    study = {"mri": tmp_path / "study" / "mri", "partner": tmp_path / "study" / "partner", "case": "a"}
    with pytest.raises(IntensityError, match="bone"):
        list(study_pairs({**study, "window": "bone"}))


@pytest.mark.parametrize(
    "wrong",
    [
        {"steps": 0},
        {"validate_every": -3},
        {"validate_share": 0.0},
        {"seed": -1},
        {"threads": -1},
        {"hard_share": 7.0},
        {"kept_share": 0.0},
        {"learning_rate": -1.0},
        {"content_weight": math.nan},
        {"last_temperature": 0.0},
        {"patch_sizes": ()},
        {"patch_sizes": (2,)},
        {"patch_sizes": ("a",)},
        {"validation_cases": (1,)},
        {"precision": "foo"},
        {"stored_precision": "bfloat16"},
        {"content_target": "mean"},
        {"gradient_form": ""},
        {"fold": 3},
        {"average_share": 0.6, "kept_share": 0.5},
        {"settled_share": 0.7},
        {"for_tasks": ({"task": "MRI-CT", "ssim_weight": -1.0},)},
    ],
)
def test_settings_that_no_training_can_have_are_refused(pairs, tmp_path, wrong):
    named = "ssim_weight" if "for_tasks" in wrong else next(iter(wrong))
    with pytest.raises(TrainingError, match=named):
        trainer_of(config(pairs, tmp_path / "run", **wrong))


def test_a_run_whose_loss_is_no_number_stops_and_says_so(pairs, tmp_path, monkeypatch):
    trainer = trainer_of(config(pairs, tmp_path / "run"))
    monkeypatch.setattr(trainer, "_validate", lambda: {"validation_total": math.nan})
    with pytest.raises(TrainingError, match="no number any more at step 3"):
        trainer.run()
    assert not trainer.folder.best_weights.exists()


@pytest.mark.parametrize(("dtype", "mode"), [(np.uint16, "I;16"), (np.float32, "F")])
def test_pictures_of_more_than_8_bits_are_not_cut(tmp_path, dtype, mode):
    path = tmp_path / "deep.tif"
    Image.fromarray(np.linspace(0, 4095, 48 * 48).reshape(48, 48).astype(dtype)).save(path)
    with pytest.raises(TrainingError, match=f"holds {mode} values"):
        read_picture(path)


def test_patches_are_balanced_over_tasks_and_prefer_tissue(pairs):
    found = read_pairs(pairs)
    black = [replace(found[0], mri=torch.zeros_like(found[0].mri), partner=torch.zeros_like(found[0].mri))]
    sampler = PatchSampler(found[:1] + black * 9, (24,), 400 * 24 * 24, 0.0, torch.Generator().manual_seed(1))
    mri, partner, *_ = sampler.draw()
    with_tissue = (torch.maximum(mri, partner).mean((1, 2, 3)) > 0.05).float().mean()
    assert len(mri) == 400
    assert with_tissue > 0.05  # and it ends, though nine pictures of ten are black
    tasks = PatchSampler([*found[:1] * 30, *found[2:3]], (24,), 400 * 24 * 24, 0.0, torch.Generator().manual_seed(1))
    assert len(tasks.by_task) == 2
    with pytest.raises(TrainingError, match="patches of 64 pixels do not fit into pictures of 48"):
        PatchSampler(found, (64,), 4096, 0.0, torch.Generator())


def test_tasks_can_be_drawn_twice_as_often(pairs):
    found = read_pairs(pairs)
    told_apart = [replace(each, mri=torch.full_like(each.mri, 255 * (each.task == "MRI-CT"))) for each in found]
    shares = []
    for oversampled_tasks in ((), ("MRI-PET",)):
        generator = torch.Generator().manual_seed(4)
        batch = PatchSampler(told_apart, (24,), 900 * 24 * 24, 0.0, generator, oversampled_tasks).draw()
        shares.append(float((batch.mri.amax((1, 2, 3)) == 0).float().mean()))
        assert batch.tasks.count("MRI-PET") == round(900 * shares[-1])  # each patch says whose it is
    assert shares == pytest.approx([1 / 2, 2 / 3], abs=0.05)
    with pytest.raises(TrainingError, match="among MRI-CT, MRI-PET; found MRI-MR"):
        PatchSampler(found, (24,), 4096, 0.0, torch.Generator(), ("MRI-MR",))


def test_tissue_classes_separate_what_only_both_sources_show():
    mri, partner = torch.zeros(2, 1, 60, 60).unbind()
    mri[:, 10:50, 10:30], mri[:, 10:50, 30:50] = 0.3, 0.8
    partner[:, 10:30, 10:50] = 0.2
    partner[:, 40:50, 10:50] = 1.0
    classes = TissueClasses([(mri, partner)])(mri, partner)
    assert classes.dtype == torch.uint8
    assert classes[0, 2, 2] == TISSUES.index("air")
    assert classes[0, 46, 15] == TISSUES.index("bright in partner")
    assert classes[0, 20, 15] < classes[0, 20, 45]
    assert torch.equal(classes, TissueClasses([(mri, partner)])(mri, partner))
    with pytest.raises(TrainingError, match="black"):
        TissueClasses([(torch.zeros(1, 9, 9), torch.zeros(1, 9, 9))])


def test_classes_move_with_their_patch(pairs):
    found = with_classes(read_pairs(pairs), seed=1)
    sampler = PatchSampler(found[:1], (24,), 16 * 24 * 24, 0.0, torch.Generator().manual_seed(5))
    sampler._jitter = lambda batch: batch
    mri, partner, classes, *_ = sampler.draw()
    find = TissueClasses([(pair.mri.float() / 255, pair.partner.float() / 255) for pair in found[:2]], seed=1)
    inner = (slice(None), slice(1, -1), slice(1, -1))  # smoothing looks one pixel beyond
    for k in range(len(mri)):
        assert torch.equal(find(mri[k], partner[k])[inner].long(), classes[k : k + 1][inner])


def test_fused_patches_are_judged_as_a_screen_shows_them_in_the_partners_colours(pairs, tmp_path):
    path = pairs.parent / "MRI-PET-1-partner.png"
    grey = np.array(Image.open(path))
    colours = np.stack([grey, grey // 2, grey // 5], axis=-1)
    Image.fromarray(colours).save(path)
    red = read_pairs(pairs)[2]
    assert red.colours.shape == (3, 48, 48)
    assert read_pairs(pairs)[0].colours is None
    assert torch.equal(red.partner[0], torch.from_numpy(np.array(Image.fromarray(colours).convert("L"))))

    sampler = PatchSampler([red], (24,), 16 * 24 * 24, 0.0, torch.Generator().manual_seed(2))
    drawn = sampler.draw()
    assert drawn.tints.shape == (16, 3, 24, 24)
    shown = drawn.partner + drawn.tints
    # However a patch was turned, and darkened by gain or gamma, it has its colour where it has its brightness.
    lit = drawn.partner[:, 0] > 0.05
    assert torch.allclose((shown[:, 1] / shown[:, 0])[lit], torch.tensor(0.5), atol=0.05)
    assert torch.allclose((shown[:, 2] / shown[:, 0])[lit], torch.tensor(0.2), atol=0.05)

    assert -1 <= drawn.tints.min() < 0 < drawn.tints.max() <= 1
    assert shown.min() >= -1e-6
    assert shown.max() <= 1 + 1e-6  # what the screen cannot show is no target

    for name, coloured in (("seen", True), ("luma", False)):
        trainer_of(config(pairs, tmp_path / name, coloured=coloured, semantic_weight=0.0)).run()
    assert log(tmp_path / "seen") != log(tmp_path / "luma")
    Image.fromarray(grey).convert("RGB").save(path)
    assert read_pairs(pairs)[2].colours is None


def test_the_semantic_module_learns_what_it_is_shown():
    torch.manual_seed(0)
    module = SemanticModule(classes=2)
    optimizer = torch.optim.SGD(module.parameters(), 0.05, momentum=0.9)
    fused = torch.zeros(4, 1, 33, 40)
    fused[..., 16:] = 0.9
    classes = (fused[:, 0] > 0.5).long()
    losses = []
    for _ in range(30):
        main, subsidiary = module(fused)
        assert main.shape == subsidiary.shape == (4, 2, 33, 40)
        loss = semantic_loss(main, subsidiary, classes, 0.5)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0]
    assert semantic_loss(main, subsidiary, classes, 0.0) < loss


def test_sobel_measures_a_ramp():
    ramp = torch.arange(10.0).expand(1, 1, 6, 10) / 10
    assert torch.allclose(sobel(ramp)[:, :1, :, 1:-1].abs(), torch.tensor(0.8))
    assert torch.allclose(sobel(ramp)[:, 1:], torch.tensor(0.0), atol=1e-6)


def test_losses_are_zero_where_nothing_can_be_better():
    mri, partner = torch.zeros(2, 1, 1, 32, 32).unbind()
    mri[..., :16], partner[..., 20:] = 0.5, 0.9
    brighter = torch.maximum(mri, partner)
    assert content_loss(brighter, mri, partner) == 0
    assert gradient_loss(mri, mri, mri) == 0
    weights = LossWeights(complement=0)  # what is the same in both sources has no complement
    total, terms = FusionLoss(weights)(mri, mri, mri)
    assert total == pytest.approx(0, abs=1e-6)
    assert set(terms) == {"content", "gradient", "ssim", "complement", "preservation", "headroom"}
    assert FusionLoss()(1 - brighter, mri, partner)[0] > FusionLoss()(brighter, mri, partner)[0]


def test_tasks_may_be_judged_by_losses_of_their_own():
    fused, mri, partner = torch.rand(3, 6, 1, 24, 24, generator=torch.Generator().manual_seed(6)).unbind()
    tasks = ("CT", "PET", "CT", "SPECT", "PET", "CT")
    one, alike, other = FusionLoss(), FusionLoss(), FusionLoss(LossWeights(content=50.0), 2.0, 0.5, 3.0)
    whole, terms = one(fused, mri, partner)
    for losses in ({"CT": one, "PET": one, "SPECT": one}, {"CT": one, "PET": alike, "SPECT": alike}):
        total, found = LossByTask(losses)(fused, mri, partner, tasks)
        torch.testing.assert_close(total, whole)
        assert found == pytest.approx({name: term.item() for name, term in terms.items()}, rel=1e-5)
    total, _ = LossByTask({"CT": one, "PET": other, "SPECT": one})(fused, mri, partner, tasks)
    pet = [tasks.index("PET"), 4]
    rest = [index for index in range(6) if index not in pet]
    of_pet, of_rest = (
        loss(*(side[own] for side in (fused, mri, partner)))[0] for loss, own in ((other, pet), (one, rest))
    )
    torch.testing.assert_close(total, (2 * of_pet + 4 * of_rest) / 6)


def test_a_tasks_own_settings_reach_its_loss_alone(pairs, tmp_path):
    own = ({"task": "MRI-PET", "content_weight": "4e1", "partner_under_bright": 2.0},)
    trainer = trainer_of(config(pairs, tmp_path / "run", for_tasks=own))
    ct, pet = (trainer.loss.by_task[task] for task in ("MRI-CT", "MRI-PET"))
    assert (ct.weights.content, pet.weights.content) == (LossWeights.content, 40.0)
    assert (ct.under_bright, pet.under_bright) == ((1.0, 1.0), (1.0, 2.0))
    trainer.run()
    assert TrainingConfig.from_yaml(tmp_path / "run" / "config.yaml").for_tasks == own
    for wrong, said in (
        ({"task": "MRI-MR"}, "among MRI-CT, MRI-PET; found MRI-MR"),
        ({"task": "MRI-PET", "steps": 3}, "must have a task, and may have complement_weight"),
        ({"content_weight": 3}, "must have a task"),
        ("MRI-PET", "must have a task"),
        ({"task": "MRI-PET", "content_weight": "much"}, "content_weight must be like 0.0; found 'much'"),
    ):
        with pytest.raises(TrainingError, match=said):
            trainer_of(config(pairs, tmp_path / "none", for_tasks=(wrong,)))
    assert not (tmp_path / "none").exists()


def test_the_gradient_loss_tells_a_dark_line_from_a_bright_one():
    bright = torch.full((1, 1, 20, 20), 0.5)
    bright[..., 10] = 0.8
    dark = 1 - bright
    assert torch.allclose(sobel(bright).abs(), sobel(dark).abs(), atol=1e-6)
    assert gradient_loss(dark, bright, torch.zeros_like(bright)) > 0.05


def test_the_complement_loss_asks_for_both_sources():
    torch.manual_seed(0)
    mri, partner = torch.rand(2, 3, 1, 24, 24).unbind()
    assert complement_loss(mri + partner, mri, partner) == pytest.approx(0, abs=1e-3)
    assert complement_loss(torch.maximum(mri, partner), mri, partner) > 0.05
    flat = torch.zeros(1, 1, 24, 24)
    assert torch.isfinite(complement_loss(flat, flat, flat))


def test_the_preservation_loss_asks_for_the_edges_of_both_sources():
    mri, partner = torch.full((2, 1, 1, 40, 40), 0.3).unbind()
    mri[..., 10:20, :], partner[..., 25:] = 0.6, 0.9
    both, brighter = mri + partner - 0.3, torch.maximum(mri, partner)
    lost = [preservation_loss(fused, mri, partner).item() for fused in (both, brighter, mri, 1 - mri)]
    assert lost == sorted(lost)
    assert lost[0] < 0.1
    assert lost[-1] > 0.95  # an edge with its sides exchanged is none


def test_edges_under_the_bright_part_of_the_other_source_count_more():
    mri, partner = torch.full((2, 1, 1, 40, 40), 0.5).unbind()
    mri[..., 5:8, :] = mri[..., 32:35, :] = 0.7
    partner[..., 20:, :] = 1.0
    without_dim, without_bright = mri + partner - 0.5, mri + partner - 0.5
    without_dim[..., 3:10, :] = 0.5
    without_bright[..., 30:37, :] = 1.0
    assert preservation_loss(without_bright, mri, partner) > preservation_loss(without_dim, mri, partner) + 0.05
    alike = [preservation_loss(fused, mri, partner, mri_under_bright=0.0) for fused in (without_bright, without_dim)]
    torch.testing.assert_close(*alike, atol=1e-4, rtol=0)


def test_the_headroom_loss_asks_for_texture_below_white_where_both_are_bright():
    wave = 0.1 * torch.sin(torch.arange(64.0))[None, None, None].expand(1, 1, 64, -1)
    mri, hot = 0.7 + wave, torch.ones(1, 1, 64, 64)
    white, flat, textured = torch.ones_like(hot), torch.full_like(hot, 0.9), 0.9 + 0.8 * wave
    lost = [headroom_loss(fused, mri, hot).item() for fused in (white, flat, textured)]
    assert lost[0] > lost[1] > 5 * lost[2]
    exchanged = [headroom_loss(fused, hot, mri).item() for fused in (white, flat, textured)]
    assert exchanged == pytest.approx(lost)
    assert headroom_loss(hot, mri - 0.6, hot) == 0  # a dark MRI leaves white where it is
    assert headroom_loss(white, mri, hot - 0.4) == 0


def test_the_headroom_loss_pulls_out_of_saturation():
    mri, hot = (torch.full((1, 1, 32, 32), value) for value in (0.7, 1.0))
    logits = torch.full_like(mri, 4.0).requires_grad_()  # 0.9997 of the range
    headroom_loss(logits.tanh() / 2 + 0.5, mri, hot).backward()
    assert logits.grad.sum() > 0.05


def test_the_preservation_loss_has_a_slope_everywhere():
    flat, noise = torch.full((1, 1, 24, 24), 0.4), torch.rand(1, 1, 24, 24, generator=torch.Generator().manual_seed(2))
    for fused, mri, partner in ((flat, flat, flat), (noise, noise, noise), (flat, noise, flat)):
        fused = fused.clone().requires_grad_()
        preservation_loss(fused, mri, partner).backward()
        assert fused.grad.isfinite().all()


def test_structure_is_where_the_detail_is():
    image = torch.zeros(1, 1, 40, 40)
    image[..., 20:] = 0.6
    found = structure(image)
    assert found[..., 19:21].min() == 1
    assert found[..., :10].max() == found[..., 30:].max() == 0
    agreeing = torch.cat((1 - found, found), dim=1) * 20
    assert spatial_mask_loss(agreeing, image) < 1e-6
    full = torch.cat((-20 * torch.ones_like(image), 20 * torch.ones_like(image)), dim=1).requires_grad_()
    spatial_mask_loss(full, image).backward()
    assert full.grad[..., :10].abs().min() > 1e-4  # a mask that is full can still be emptied where nothing is


def test_channel_masks_are_asked_to_decide_and_to_stay_under_their_share():
    decided = torch.zeros(8, 4)
    decided[:2] = 1
    assert channel_mask_loss(decided, 0.25) == 0
    assert channel_mask_loss(decided, 0.1) == pytest.approx(0.15)
    assert channel_mask_loss(torch.full((8, 4), 0.5), 1.0) == pytest.approx(1.0)


def test_the_work_share_counts_multiplications():
    spatial = torch.zeros(1, 1, 4, 4)
    spatial[..., :2] = 1
    nothing, everything = torch.zeros(8, 4), torch.ones(8, 4)
    assert work_share(spatial, nothing, 8) == 0.5
    assert work_share(spatial, everything, 8) == 1
    half = torch.zeros(8, 4)
    half[:4] = 1
    # Layer 1: half of the outputs everywhere; layers 2 to 4: half of the outputs from half of the inputs.
    everywhere = (0.5 + 3 * 0.25) / 4
    assert work_share(spatial, half, 8) == pytest.approx(everywhere + (1 - everywhere) / 2)
    everywhere = (2 * 0.5 + 3 * 0.25) / 5  # twice as many channels enter layer 1
    assert work_share(spatial, half, 16) == pytest.approx(everywhere + (1 - everywhere) / 2)


def test_masks_can_be_watched():
    network = GeSeNet().eval()
    with watch_masks(network) as seen, torch.no_grad():
        network(torch.rand(2, 1, 16, 18), torch.rand(2, 1, 16, 18))
    assert [tuple(map(tuple, (each.spatial.shape, each.channels.shape, each.logits.shape))) for each in seen] == [
        ((2, 1, 16, 18), (32, 4), (2, 2, 16, 18))
    ] * 2
    with torch.no_grad():
        network(torch.rand(2, 1, 16, 18), torch.rand(2, 1, 16, 18))
    assert len(seen) == 2


def test_at_temperature_zero_training_draws_the_masks_of_inference():
    torch.manual_seed(0)
    network = GeSeNet()
    sources = torch.rand(1, 1, 16, 16), torch.rand(1, 1, 16, 16)
    with torch.no_grad():
        expected = network.eval()(*sources)
        network.train().soften_masks(0.0)
        torch.testing.assert_close(network(*sources), expected)
        network.soften_masks(1.0)
        assert not torch.equal(network(*sources), expected)


def test_settled_channels_are_computed_once():
    torch.manual_seed(0)
    body = CoupleMaskConvolutions(8, 8).train()
    features, spatial = torch.rand(2, 8, 12, 14), (torch.rand(2, 1, 12, 14) > 0.5).float()
    for mask in (torch.rand(8, 4) > 0.6, torch.ones(8, 4) > 0, torch.zeros(8, 4) > 0):
        expected = body(features, spatial, mask.float().requires_grad_())
        torch.testing.assert_close(body(features, spatial, mask.float()), expected)


def test_the_written_settings_mean_the_same_in_another_folder(tmp_path, monkeypatch):
    (tmp_path / "run").mkdir()
    monkeypatch.chdir(tmp_path)
    given = TrainingConfig(
        pairs="pairs.csv",
        out="run",
        averaged=("default", "a.safetensors"),
        studies=({"mri": "a/mri", "partner": "/b/pet", "case": "a"},),
    )
    (tmp_path / "run" / "config.yaml").write_text(given.to_yaml())
    monkeypatch.chdir("/")
    read = TrainingConfig.from_yaml(tmp_path / "run" / "config.yaml")
    assert (read.pairs, read.out) == (f"{tmp_path}/pairs.csv", f"{tmp_path}/run")
    assert read.averaged == ("default", f"{tmp_path}/a.safetensors")
    assert read.studies == ({"mri": f"{tmp_path}/a/mri", "partner": "/b/pet", "case": "a"},)


def test_the_command_trains_and_its_flags_go_before_the_file(pairs, tmp_path):
    lines = {name: list(value) if isinstance(value, tuple) else value for name, value in SETTINGS.items()}
    (tmp_path / "a.yaml").write_text(json.dumps(lines | {"pairs": pairs.name, "out": "run"}))
    flags = ["--steps", "3", "--patch-sizes", "24", "--no-skip", "--json"]
    done = CliRunner().invoke(app, ["train", str(tmp_path / "a.yaml"), *flags])
    assert done.exit_code == 0, done.output
    result = json.loads(done.stdout)
    assert result["last"]["step"] == 3
    assert Path(result["weights"]) == tmp_path / "run" / "best.safetensors"
    written = TrainingConfig.from_yaml(tmp_path / "run" / "config.yaml")
    assert (written.steps, written.patch_sizes, written.skip, written.batch_pixels) == (3, (24,), False, 2 * 24 * 24)


@pytest.mark.parametrize(
    ("text", "flags", "code", "sentence"),
    [
        ("out: run\n", [], 3, "expected picture pairs or studies to learn from"),
        ("pairs: p.csv\n", [], 3, "expected a folder for the results"),
        ("out: run\npairs: p.csv\n", [], 3, "there is no file"),
        ("out: run\npairs: p.csv\n", ["--steps", "many"], 2, "integer"),
        ("out: run\npairs: p.csv\n", ["--patch-sizes", "64,x"], 2, "expected whole numbers"),
        ("out: run\nstudies: [{mri: a}]\n", [], 3, "must have mri, partner and case"),
        ("out: run\naveraged: a.safetensors\n", [], 3, "the setting averaged must be a list; found"),
        ("out: run\nstart: a\n", ["--averaged", "b,c"], 3, "leave one of them empty"),
    ],
)
def test_what_cannot_be_trained_is_refused_in_a_sentence(tmp_path, text, flags, code, sentence):
    (tmp_path / "a.yaml").write_text(text)
    done = CliRunner().invoke(app, ["train", str(tmp_path / "a.yaml"), *flags])
    assert done.exit_code == code
    assert sentence in " ".join(done.output.split())
    assert not (tmp_path / "run").exists()


def test_training_can_start_from_weights(pairs, tmp_path):
    still = config(pairs, tmp_path / "a", start="default", learning_rate=0.0, final_learning_rate=0.0)
    trainer = trainer_of(still)
    trainer.run()
    first, last = load_network().state_dict(), load_network(tmp_path / "a" / "best.safetensors").state_dict()
    assert all(torch.equal(first[name], last[name]) for name in first)
    with pytest.raises(TrainingError, match="other parts"):
        trainer_of(config(pairs, tmp_path / "b", start="default", skip=False))


def test_training_can_start_from_the_mean_of_weights(pairs, tmp_path):
    for seed in (1, 2):
        trainer_of(config(pairs, tmp_path / str(seed), seed=seed)).run()
    one, two = (str(tmp_path / name / "best.safetensors") for name in "12")
    still = config(pairs, tmp_path / "a", averaged=(one, one, two), learning_rate=0.0, final_learning_rate=0.0)
    trainer_of(still).run()
    first, second, mean = (load_network(path).state_dict() for path in (one, two, tmp_path / "a" / "best.safetensors"))
    assert not all(torch.equal(first[name], second[name]) for name in first)
    for name, value in mean.items():
        assert torch.allclose(value, (2 * first[name] + second[name]) / 3, atol=1e-6), name
    with safe_open(tmp_path / "a" / "best.safetensors", "pt") as file:
        said = json.loads(file.metadata()["started_from"])
    hashes = [hashlib.sha256(Path(path).read_bytes()).hexdigest() for path in (one, one, two)]
    assert [each["sha256"] for each in said] == hashes
    with pytest.raises(TrainingError, match="other settings \\(averaged\\)"):
        trainer_of(replace(still, averaged=(one, two)))
    with pytest.raises(TrainingError, match="leave one of them empty"):
        replace(still, start="default")
    with pytest.raises(TrainingError, match="must be paths of weights"):
        replace(still, averaged=("",))


RECIPES = Path(__file__).parents[2] / "recipes"
SHIPPED = Path(medfuse.__file__).parent / "gesenet" / "weights" / "default.safetensors"
SMALL = {name: SETTINGS[name] for name in ("batch_pixels", "patch_sizes", "validation_cases", "device")}
SMALL |= {"steps": 2, "semantic_pretraining": 1, "validate_every": 1}


def test_the_shipped_weights_are_what_the_recipe_makes():
    """By what the file says of itself: its settings, seed and start, and the log that is kept of the run."""
    with safe_open(SHIPPED, "pt") as file:
        told = file.metadata()
    recipe = TrainingConfig.from_yaml(RECIPES / "default.yaml")
    settings = TrainingConfig.from_mapping(json.loads(told["config"]) | {"studies": [], "out": "run"})
    assert replace(settings, pairs="", out="", device="") == replace(recipe, pairs="", out="", device="")
    assert json.loads(told["started_from"]) == []
    lines = [json.loads(line) for line in (RECIPES / "default.jsonl").read_text().splitlines()]
    assert lines[-1]["step"] == recipe.steps
    assert json.loads(told["figures"]) in lines


def test_the_recipe_trains_from_nothing_to_narrow_weights_in_one_run(pairs, tmp_path):
    settings = TrainingConfig.from_yaml(
        RECIPES / "default.yaml",
        pairs=str(pairs),
        out=str(tmp_path / "run"),
        **(SMALL | {"steps": 5, "simulated_heads": 1}),
    )
    assert not settings.start
    assert not settings.averaged
    assert not settings.for_tasks
    assert settings.semantic_weight > 0
    weights = train(settings)
    narrow = load_network(weights)
    assert narrow.widths == Widths(8, 8, 16, 8, 8, 16, 8, 16, 8)
    with safe_open(weights, "pt") as file:
        assert file.get_tensor("decoder.0.weight").dtype == torch.float16
        assert json.loads(file.metadata()["figures"])["step"] == 5
    assert log(tmp_path / "run")[-1]["train_semantic"] > 0


def test_the_papers_recipe_is_its_sum_and_nothing_else(pairs, tmp_path):
    settings = TrainingConfig.from_yaml(
        RECIPES / "paper.yaml", pairs=str(pairs), out=str(tmp_path / "run"), **(SMALL | {"batch_pixels": 2304})
    )
    weights = settings.loss_weights
    assert (weights.gradient / weights.content, weights.ssim, weights.semantic, weights.subsidiary) == (
        10,
        0.5,
        0.3,
        0.5,
    )
    assert weights.complement == weights.preservation == weights.headroom == weights.mask == 0
    assert TrainingConfig.from_yaml(RECIPES / "paper.yaml").patch_sizes == (24,)
    assert settings.batch_pixels == 4 * 24 * 24
    trainer = trainer_of(settings)
    trainer.run()
    assert load_network(trainer.folder.best_weights).widths == Widths()
    row = log(tmp_path / "run")[-1]
    terms = {name: row[f"validation_{name}"] for name in ("content", "gradient", "ssim")}
    assert row["validation_total"] == pytest.approx(
        terms["content"] + 10 * terms["gradient"] + 0.5 * terms["ssim"], rel=1e-4
    )


def test_candidates_are_few_and_change_settings_of_the_recipe():
    files = sorted((RECIPES / "candidates").glob("*.yaml"))
    assert 2 <= len(files) <= 8
    recipe = yaml.safe_load((RECIPES / "default.yaml").read_text())
    seen = []
    for path in files:
        changes = yaml.safe_load(path.read_text())
        assert not {"pairs", "fold", "validation_cases", "steps", "seed"} & changes.keys()
        seen.append(TrainingConfig.from_mapping(recipe | changes))
    assert len(set(map(repr, seen))) == len(files)


def test_channel_masks_can_be_left_as_they_are(pairs, tmp_path):
    trainer = trainer_of(config(pairs, tmp_path / "a", learn_channel_masks=False, hard_share=1.0))
    before = {name: value.clone() for name, value in trainer.network.state_dict().items()}
    trainer.run()
    changed = {name for name, value in trainer.network.state_dict().items() if not torch.equal(value, before[name])}
    assert changed
    assert not any(name.endswith("channel_logits") for name in changed)
