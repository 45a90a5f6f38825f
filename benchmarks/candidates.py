"""Choose a training recipe by patients that it was not trained on, without a look at any test pair.

    python benchmarks/candidates.py --pairs PAIRS.csv --runs FOLDER [--published GeSeNet.pth] [--only NAME,NAME]
        [--chosen NAME --page TABLE.md]

Each file in recipes/candidates changes some settings of recipes/default.yaml. Each is trained twice, holding out one
and then the other half of the training patients, for 2400 steps, and scored on the patients that were held
out: so every patient of the split ``train`` counts once. Pictures are scored as they are seen: with the partner's
colours by Eq. 5, at 8 bit. Lesions are put into the sources, too, and looked for in the fused luma.

Training goes on where it was cut; what is scored already is not scored again.
"""

from __future__ import annotations

import argparse
import hashlib
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
import yaml
from networks import Method, as_published, by_network
from scipy import stats
from torch import Tensor

from medfuse.gesenet.training.config import TrainingConfig
from medfuse.gesenet.training.dataset import Pair, read_pairs, unit
from medfuse.gesenet.training.folds import fold_of
from medfuse.intensity.colour import shown_luma, tint
from medfuse.metrics import CORE, score
from medfuse.metrics.lesions import CLASSES
from medfuse.metrics.reading import lesions_by_class
from medfuse.pipeline.train import train

RECIPES = Path(__file__).parent.parent / "recipes"

MOST = 8
"""Candidates: among more, the best is more likely to be best by chance."""

LENGTH = 0.15
"""Share of the recipe's steps."""

PUBLISHED = "published, black air"

LOST = "lost"

TITLES = ("SSIM", "SD", "MI", "VIF", "SCD", "Qabf")
"""Of `CORE`, in its order."""

FEW = 4
"""Patients below which there is no interval worth printing."""

Scores = dict[str, dict[str, float]]
"""Mean of each score, by patient."""


def candidates(folder: Path) -> dict[str, dict[str, object]]:
    """Changed settings by the candidate's name."""
    found = {path.stem: yaml.safe_load(path.read_text()) or {} for path in sorted(folder.glob("*.yaml"))}
    if len(found) > MOST:
        raise SystemExit(f"expected at most {MOST} candidates in {folder}; found {len(found)}.")
    return found


def settings_of(changes: dict[str, object], fold: int, pairs: Path, out: Path, length: float) -> TrainingConfig:
    """The recipe with a candidate's changes, one fold held out, at a share of its length."""
    recipe = yaml.safe_load((RECIPES / "default.yaml").read_text())
    config = TrainingConfig.from_mapping(recipe | {"validation_cases": []} | changes)
    steps = max(1, round(config.steps * length))
    # As often as the recipe: a fold holds half of all patients, and a look at it costs as much as a hundred steps.
    every = min(config.validate_every, steps)
    return replace(config, fold=fold, pairs=str(pairs), out=str(out), steps=steps, validate_every=every)


def finished(config: TrainingConfig) -> bool:
    log = Path(config.out) / "log.jsonl"
    rows = [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []
    return bool(rows) and rows[-1]["step"] == config.steps


def by_patient(fuse: Method, pairs: list[Pair]) -> Scores:
    """Mean scores of each patient's pairs."""
    found: Scores = {}
    for case in sorted({pair.case for pair in pairs}):
        own = [pair for pair in pairs if pair.case == case]
        mri, partner = (torch.stack([unit(getattr(pair, side)) for pair in own]) for side in ("mri", "partner"))
        shown = []
        for luma, pair in zip(fuse(mri, partner), own, strict=True):
            seen = luma if pair.colours is None else shown_luma(luma, tint(unit(pair.colours)))
            shown.append((seen.clamp(0, 1) * 255).round().byte())
        values = score(torch.stack(shown), mri, partner, CORE)
        found[case] = {name: float(each.mean()) for name, each in values.items()}
        found[case] |= lesions_lost(fuse, mri, partner)
    return found


def lesions_lost(fuse: Method, mri: Tensor, partner: Tensor) -> dict[str, float]:
    """Share of lesions inserted into a patient's pictures that lose over 75 % of their contrast in luma, by kind."""

    def show(*sides: Tensor) -> Tensor:
        return (fuse(*sides).clamp(0, 1) * 255).round().byte()

    seen = lesions_by_class(show, mri, partner, None)
    return {f"{LOST} {name}": each.lost for name, each in seen.items() if len(each.kept)}


def kept_scores(path: Path, key: str, fuse: Method, pairs: list[Pair]) -> Scores:
    """Scores from a file that holds those of the same weights and pairs, or scored now and written there."""
    kept = json.loads(path.read_text()) if path.exists() else {}
    if kept.get("key") != key:
        kept = {"key": key, "scores": by_patient(fuse, pairs)}
        beside = path.with_suffix(".new")
        beside.write_text(json.dumps(kept))
        beside.replace(path)
    scores: Scores = kept["scores"]
    return scores


def task_table(found: dict[str, Scores], task: str) -> str:
    """Mean over the task's patients; in brackets, on how many the published weights are behind."""
    lines = [f"| {task} | {' | '.join(CORE)} |", f"|---|{'---:|' * len(CORE)}"]
    reference = found.get(PUBLISHED)
    for name, scores in found.items():
        cases = [case for case in scores if case.startswith(f"{task}/")]
        cells = []
        for each in CORE:
            cell = f"{np.mean([scores[case][each] for case in cases]):.4f}"
            if reference and name != PUBLISHED:
                cell += f" ({sum(scores[case][each] > reference[case][each] for case in cases)}/{len(cases)})"
            cells.append(cell)
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def lesion_table(found: dict[str, Scores]) -> str:
    """Share of inserted lesions that are lost, mean over patients, by task and kind; and the mean of all."""
    tasks = sorted({case.split("/")[0] for scores in found.values() for case in scores})
    kinds = [f"{LOST} {name}" for name, _, _ in CLASSES]
    lines = [f"| lesions lost | {' | '.join(f'{task}, {name}' for task in tasks for name, _, _ in CLASSES)} | mean |"]
    lines.append(f"|---|{'---:|' * (len(tasks) * len(kinds) + 1)}")
    for name, scores in found.items():
        means = [
            float(np.mean([row[kind] for case, row in scores.items() if case.startswith(f"{task}/") and kind in row]))
            for task in tasks
            for kind in kinds
        ]
        lines.append(f"| {name} | {' | '.join(f'{mean:.2f}' for mean in means)} | {np.mean(means):.3f} |")
    return "\n".join(lines)


def task_means(found: dict[str, Scores]) -> dict[str, np.ndarray]:
    """The mean over each task's patients of each score, (tasks × scores,), by method."""
    tasks = sorted({case.split("/")[0] for scores in found.values() for case in scores})
    return {
        name: np.array(
            [
                np.mean([row[each] for case, row in scores.items() if case.startswith(f"{task}/")])
                for task in tasks
                for each in CORE
            ]
        )
        for name, scores in found.items()
    }


def summary(found: dict[str, Scores], reference: str) -> str:
    """Cells of task and score in which each method is ahead of the reference, and its mean rank among all methods.

    A cell counts as beyond noise where the mean difference over patients exceeds twice its standard error. Ranks do not
    depend on the scores' scales; equal ones share a rank.
    """
    tasks = sorted({case.split("/")[0] for case in found[reference]})
    table = task_means(found)
    every = np.stack(list(table.values()))
    lines = [f"| against {reference} | ahead | beyond noise | behind beyond noise | mean rank of {len(found)} |"]
    lines.append("|---|---:|---:|---:|---:|")
    for name, scores in found.items():
        means, errors = [], []
        for task in tasks:
            cases = [case for case in scores if case.startswith(f"{task}/")]
            for each in CORE:
                differences = np.array([scores[case][each] - found[reference][case][each] for case in cases])
                means.append(differences.mean())
                errors.append(differences.std(ddof=1) / len(cases) ** 0.5)
        mean, error = np.array(means), np.array(errors)
        counts = [int((mean > 0).sum()), int((mean > 2 * error).sum()), int((mean < -2 * error).sum())]
        rank = (every > table[name]).sum(0) + ((every == table[name]).sum(0) + 1) / 2
        cells = " | ".join(map(str, counts)) if name != reference else " | ".join("–" * 3)
        lines.append(f"| {name} | {cells} | {rank.mean():.2f} |")
    return "\n".join(lines)


def fold_table(ours: Scores, published: Scores) -> str:
    """Mean difference of each score over patients that the scored run had not seen, with its 95 % interval.

    Student's t over patients, who are independent; slices of one patient are not. Of two patients both are given.
    """
    tasks = sorted({case.split("/")[0] for case in ours})
    lines = ["| task | patients | " + " | ".join(TITLES) + " |", "|---|---:|" + "---:|" * len(TITLES)]
    for task in tasks:
        cases = [case for case in ours if case.startswith(f"{task}/")]
        cells = []
        for name in CORE:
            differences = np.array([ours[case][name] - published[case][name] for case in cases])
            digits = 2 if name == "sd" else 3
            mean = f"{differences.mean():+.{digits}f}"
            if len(cases) < FEW:
                cells.append(f"{mean} ({', '.join(f'{one:+.{digits}f}' for one in differences)})")
            else:
                spread = differences.std(ddof=1) / len(cases) ** 0.5 * stats.t.ppf(0.975, len(cases) - 1)
                beyond = abs(differences.mean()) > spread
                cell = f"{mean} ± {spread:.{digits}f}"
                cells.append(f"**{cell}**" if beyond and differences.mean() > 0 else cell)
        lines.append(f"| {task.replace('-', '–')} | {len(cases)} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=Path, required=True)
    parser.add_argument("--runs", type=Path, required=True)
    parser.add_argument("--candidates", type=Path, default=RECIPES / "candidates")
    parser.add_argument("--published", type=Path, help="GeSeNet.pth of the paper's authors, to compare with")
    parser.add_argument("--only", default="", help="names of the candidates to train, separated by commas")
    parser.add_argument("--length", type=float, default=LENGTH)
    parser.add_argument("--chosen", default="", help="name of the candidate whose table goes to --page")
    parser.add_argument("--page", type=Path, help="file for the differences to --published, patient by patient")
    parser.add_argument("--every", type=int, default=3, help="score every so many slices of a patient")
    given = parser.parse_args()
    given.runs.mkdir(parents=True, exist_ok=True)
    pairs = read_pairs(given.pairs, "train")
    folds = fold_of([pair.case for pair in pairs])
    sampled = [pair for case in folds for pair in [each for each in pairs if each.case == case][:: given.every]]
    found: dict[str, Scores] = {}
    for name, changes in candidates(given.candidates).items():
        configs = {n: settings_of(changes, n, given.pairs, given.runs / f"{name}-{n}", given.length) for n in (1, 2)}
        for config in configs.values():
            if not finished(config) and (not given.only or name in given.only.split(",")):
                print(f"training {config.out}", flush=True)
                train(config)
        if not all(map(finished, configs.values())):
            continue
        found[name] = {}
        for fold, config in configs.items():
            weights = Path(config.out) / "best.safetensors"
            own = [pair for pair in sampled if folds[pair.case] == fold]
            key = f"{hashlib.sha256(weights.read_bytes()).hexdigest()} {given.every}"
            found[name] |= kept_scores(Path(config.out) / "scores.json", key, by_network(str(weights)), own)
        print(f"scored {name}", flush=True)
    others: dict[str, Method] = {"max": torch.maximum}
    if given.published:
        others[PUBLISHED] = as_published(by_network(str(given.published)), black_air=True)
    for name, fuse in others.items():
        path = given.runs / f"{name.replace(', ', '-').replace(' ', '-')}.json"
        found[name] = kept_scores(path, f"{len(sampled)} {given.every}", fuse, sampled)
    for task in sorted({pair.task for pair in pairs}):
        print(f"\n{task_table(found, task)}")
    print(f"\n{lesion_table(found)}")
    for reference in others:
        print(f"\n{summary(found, reference)}")
    if given.chosen and given.page:
        given.page.write_text(fold_table(found[given.chosen], found[PUBLISHED]))


if __name__ == "__main__":
    main()
