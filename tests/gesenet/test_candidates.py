import csv
import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def program(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    for name in ("candidates", "networks"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    import candidates

    yield candidates
    for name in ("candidates", "networks"):
        sys.modules.pop(name, None)


@pytest.fixture
def pairs(tmp_path):
    """Three patients a task and a test pair whose pictures are not there."""
    generator = np.random.default_rng(3)
    with (tmp_path / "pairs.csv").open("w", newline="") as lines:
        writer = csv.writer(lines)
        writer.writerow(["split", "task", "case", "slice", "mri", "partner"])
        for task in ("MRI-CT", "MRI-PET"):
            for case in (1, 2, 3):
                for side in ("mri", "partner"):
                    shape = (48, 48, 3) if (task, side) == ("MRI-PET", "partner") else (48, 48)
                    values = generator.integers(40, 200, shape, dtype=np.uint8)
                    Image.fromarray(values).save(tmp_path / f"{task}-{case}-{side}.png")
                writer.writerow(["train", task, case, 1, *(f"{task}-{case}-{side}.png" for side in ("mri", "partner"))])
        writer.writerow(["test", "MRI-CT", "", 1, "absent.png", "absent.png"])
    return tmp_path / "pairs.csv"


def test_candidates_are_compared_on_the_patients_that_they_were_not_trained_on(
    program, pairs, tmp_path, monkeypatch, capsys
):
    (tmp_path / "candidates").mkdir()
    for name, weight in (("one", 0.1), ("two", 0.5)):
        (tmp_path / "candidates" / f"{name}.yaml").write_text(yaml.safe_dump({"semantic_weight": weight}))
    trained, fused = [], []

    def train(config):
        trained.append(config)
        folder = Path(config.out)
        folder.mkdir(parents=True)
        (folder / "log.jsonl").write_text(json.dumps({"step": config.steps}) + "\n")
        (folder / "best.safetensors").write_bytes(folder.name.encode())

    def by_network(weights):
        def fuse(mri, partner):
            fused.append((Path(weights).parent.name, len(mri)))
            return (mri + partner) / 2

        return fuse

    monkeypatch.setattr(program, "train", train)
    monkeypatch.setattr(program, "by_network", by_network)
    monkeypatch.setattr(program, "as_published", lambda network, black_air: torch.minimum)
    given = ["--pairs", str(pairs), "--runs", str(tmp_path / "runs"), "--candidates", str(tmp_path / "candidates")]
    monkeypatch.setattr(sys, "argv", ["candidates", *given, "--published", "GeSeNet.pth"])
    program.main()
    assert [(config.fold, config.semantic_weight) for config in trained] == [(1, 0.1), (2, 0.1), (1, 0.5), (2, 0.5)]
    assert {config.steps for config in trained} == {2400}
    assert not any(config.validation_cases for config in trained)
    # Each fold's weights fuse the patients that they were held out from, one pair each: two and one of a task. Once for
    # the scores, and without and with four kinds of lesions.
    assert [name for name, _ in fused].count("one-1") == 4 * 6
    assert [name for name, _ in fused].count("one-2") == 2 * 6
    first = capsys.readouterr().out
    row = next(line for line in first.splitlines() if line.startswith("| one"))
    assert row.count("/3)") == 6
    assert "| against published, black air |" in first
    assert "| against max |" in first
    program.main()
    assert len(trained) == 4
    assert len(fused) == 12 * 6  # scores are kept, too
    assert capsys.readouterr().out.splitlines()[-12:] == first.splitlines()[-12:]


def test_cells_count_as_beyond_noise_by_patients(program):
    cases = [f"MRI-CT/{n}" for n in range(4)]
    reference = {case: dict.fromkeys(program.CORE, 1.0 + 0.1 * n) for n, case in enumerate(cases)}

    def moved(by):
        return {
            case: {name: value + by[n] for name, value in row.items()}
            for n, (case, row) in enumerate(reference.items())
        }

    better, mixed = moved((0.05, 0.051, 0.052, 0.053)), moved((0.6, -0.1, -0.1, -0.1))
    lines = program.summary({"better": better, "mixed": mixed, "other": reference}, "other").splitlines()
    assert lines[2:] == [
        "| better | 6 | 6 | 0 | 2.00 |",
        "| mixed | 6 | 0 | 0 | 1.00 |",
        "| other | – | – | – | 3.00 |",
    ]


def test_more_candidates_than_can_be_told_apart_are_refused(program, tmp_path):
    for n in range(9):
        (tmp_path / f"{n}.yaml").write_text("{}")
    with pytest.raises(SystemExit, match="at most 8"):
        program.candidates(tmp_path)
