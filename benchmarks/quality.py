"""Score GeSeNet against other fusion methods, and write the tables and plots of the documentation's quality page.

    python benchmarks/quality.py --pairs PAIRS.csv [--peers SCORES.csv] [--published GeSeNet.pth] [--weights FILE]

PAIRS.csv lists aligned pictures as for training; its rows with the split ``test`` are scored. SCORES.csv (columns
method, task, n, SSIM, SD, MI, VIF, SCD, Qabf) adds methods that were scored elsewhere by the same definitions.

Pictures are scored as they are seen: with the partner's colours, at 8 bit. Where a colour would leave the range of the
screen it is cut off, and takes some of the fused luma with it.
"""

from __future__ import annotations

import argparse
import csv
import io
import json
from collections.abc import Collection, Sequence
from pathlib import Path

import numpy as np
import quality_reading
import torch
from compared_methods import OURS, Method, methods
from limits import crowded
from matplotlib.figure import Figure
from pictures import draw
from PIL import Image
from torch import Tensor

from medfuse.gesenet.training.dataset import Pair, read_pairs, unit
from medfuse.intensity.colour import tint
from medfuse.metrics import CORE, score

NAMES = (*CORE, "detail_mri", "detail_partner", "mef_ssim", "viff", "en", "sf", "ag")
COLUMNS = {"ssim": "SSIM", "sd": "SD", "mi": "MI", "vif": "VIF", "scd": "SCD", "qabf": "Qabf"}

RUN_HERE = {
    "max": "maximum",
    "average": "average",
    "guided-filter": "guided filter",
    "gesenet-eval": "published weights",
    "gesenet-bgmask": "published weights, black air",
}
"""Methods of scores.csv that are run here too, under a name that says more; one row of each is enough."""


SHORT = (OURS, "published weights, black air", "average", "maximum", "Laplacian pyramid", "guided filter")
"""Columns of the short table; in luma the average is the 50 % blend."""

BEST = 2
"""Of the methods that were scored elsewhere as many are in that table."""

ALSO_PUBLISHED = "gesenet-"
"""How the names of those begin that are the published weights, run in another way."""


def stacked(pairs: Sequence[Pair]) -> tuple[Tensor, Tensor]:
    return torch.stack([unit(pair.mri) for pair in pairs]), torch.stack([unit(pair.partner) for pair in pairs])


def as_written(fused: Tensor, pairs: list[Pair]) -> Tensor:
    """(N, 1, H, W) luma in [0, 1] → that of the coloured 8-bit pictures, (N, 1, H, W) uint8."""
    found = []
    for luma, pair in zip(fused, pairs, strict=True):
        rgb = luma.expand(3, -1, -1) if pair.colours is None else luma + tint(unit(pair.colours))
        rgb = (rgb.clamp(0, 1) * 255).round().byte()
        found.append(torch.from_numpy(np.array(Image.fromarray(rgb.permute(1, 2, 0).numpy()).convert("L"))))
    return torch.stack(found)[:, None]


def scores_of(fuse: Method, pairs: list[Pair]) -> dict[str, list[float]]:
    mri, partner = stacked(pairs)
    found = score(as_written(fuse(mri, partner), pairs), mri, partner, NAMES)
    return {name: values.tolist() for name, values in found.items()}


def read_peers(path: Path) -> dict[tuple[str, str], dict[str, float]]:
    """Mean scores by (method, task)."""
    with path.open(newline="") as lines:
        return {
            (row["method"], row["task"]): {name: float(row[column]) for name, column in COLUMNS.items()}
            for row in csv.DictReader(lines)
        }


def mean_ranks(means: dict[tuple[str, str], dict[str, float]]) -> dict[str, float]:
    """Mean over tasks and core scores of a method's rank among the methods that have the task; ties share a rank."""
    ranks: dict[str, list[float]] = {}
    for task in {task for _, task in means}:
        compared = {method: row for (method, its_task), row in means.items() if its_task == task}
        for name in CORE:
            for method, row in compared.items():
                above = sum(other[name] > row[name] for other in compared.values())
                level = sum(other[name] == row[name] for other in compared.values())
                ranks.setdefault(method, []).append(above + (level + 1) / 2)
    return {method: float(np.mean(values)) for method, values in ranks.items()}


def table(means: dict[tuple[str, str], dict[str, float]], task: str, names: tuple[str, ...], ranks: bool) -> str:
    rows = {method: row for (method, its_task), row in means.items() if its_task == task and set(names) <= row.keys()}
    overall = mean_ranks(means)
    best = {name: max(row[name] for row in rows.values()) for name in names}
    text = io.StringIO()
    heads = [COLUMNS.get(name, f"`{name}`") for name in names] + (["mean rank"] if ranks else [])
    text.write(f"| method | {' | '.join(heads)} |\n|---|{'---:|' * len(heads)}\n")
    for method in sorted(rows, key=overall.__getitem__):
        digits = {"sd": 1, "mi": 3, "en": 2, "sf": 1, "ag": 2}
        cells = [f"{rows[method][name]:.{digits.get(name, 4)}f}" for name in names]
        cells = [
            f"**{cell}**" if rows[method][name] == best[name] else cell for cell, name in zip(cells, names, strict=True)
        ]
        label = f"**{method}**" if method == OURS else method
        text.write(f"| {label} | {' | '.join(cells + ([f'{overall[method]:.1f}'] if ranks else []))} |\n")
    return text.getvalue()


def boxes(singles: dict[tuple[str, str], dict[str, list[float]]], path: Path) -> None:
    tasks = sorted({task for _, task in singles})
    compared = list(dict.fromkeys(method for method, _ in singles))
    figure = Figure(figsize=(11, 2.6 * len(tasks)), layout="constrained")
    axes = figure.subplots(len(tasks), len(CORE), squeeze=False)
    for row, task in zip(axes, tasks, strict=True):
        for axis, name in zip(row, CORE, strict=True):
            axis.boxplot([singles[method, task][name] for method in compared], widths=0.7, showfliers=False)
            axis.set_title(f"{task} · {COLUMNS[name]}", fontsize=8)
            axis.set_xticks(range(1, len(compared) + 1), compared, rotation=90, fontsize=6)
            axis.tick_params(axis="y", labelsize=6)
    figure.savefig(path, dpi=110, metadata={"Software": "medfuse"})


def short_table(means: dict[tuple[str, str], dict[str, float]], scored_elsewhere: Collection[str]) -> str:
    """One row for each task and score: ours, what it is compared with, and the two best of the others by mean rank."""
    ranks = mean_ranks(means)
    complete = [method for method in ranks if all((method, task) in means for _, task in means)]
    elsewhere = [one for one in complete if one in scored_elsewhere and not one.startswith(ALSO_PUBLISHED)]
    others = sorted((one for one in elsewhere if one not in RUN_HERE), key=ranks.__getitem__)
    columns = [name for name in SHORT if name in ranks] + others[:BEST]
    lines = [f"| | | {' | '.join(f'**{name}**' if name == OURS else name for name in columns)} |"]
    lines.append(f"|---|---|{'---:|' * len(columns)}")
    for task in sorted({task for _, task in means}):
        for place, name in enumerate(CORE):
            values = [means[method, task][name] for method in columns]
            cells = [f"{value:.{1 if name == 'sd' else 3}f}" for value in values]
            cells = [f"**{cell}**" if value == max(values) else cell for cell, value in zip(cells, values, strict=True)]
            lines.append(f"| {'' if place else task.replace('-', '–')} | {COLUMNS[name]} | {' | '.join(cells)} |")
    lines.append(f"| all | mean rank of {len(ranks)} | {' | '.join(f'{ranks[method]:.1f}' for method in columns)} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=Path, required=True)
    parser.add_argument("--peers", type=Path)
    parser.add_argument("--published")
    parser.add_argument("--weights", default="default")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent.parent / "docs" / "quality")
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    pairs = read_pairs(given.pairs, "test")
    tasks = sorted({pair.task for pair in pairs})
    singles: dict[tuple[str, str], dict[str, list[float]]] = {}
    for method, fuse in methods(given.weights, given.published).items():
        for task in tasks:
            singles[method, task] = scores_of(fuse, [pair for pair in pairs if pair.task == task])
            print(
                f"{method:30} {task:10}", *(f"{name} {np.mean(singles[method, task][name]):.4f}" for name in NAMES[:8])
            )
    run_here = {method for method, _ in singles}
    means = {key: {name: float(np.mean(values)) for name, values in row.items()} for key, row in singles.items()}
    scored_elsewhere = read_peers(given.peers) if given.peers else {}
    with_peers = means | {key: row for key, row in scored_elsewhere.items() if RUN_HERE.get(key[0]) not in run_here}
    for task in tasks:
        name = task.lower()
        (given.out / f"{name}.md").write_text(table(with_peers, task, CORE, ranks=True))
        (given.out / f"{name}-more.md").write_text(table(means, task, NAMES[len(CORE) :], ranks=False))
    (given.out / "scores.md").write_text(short_table(with_peers, {method for method, _ in scored_elsewhere}))
    boxes(singles, given.out / "boxes.png")
    compared = methods(given.weights, given.published)
    (given.out / "crowded.md").write_text(crowded(compared))
    ranks = mean_ranks(with_peers)
    (given.out / "scores.json").write_text(
        json.dumps(
            {
                "means": {
                    f"{method} · {task}": {k: round(v, 5) for k, v in row.items()}
                    for (method, task), row in means.items()
                },
                "mean_ranks": {
                    method: round(rank, 2) for method, rank in sorted(ranks.items(), key=lambda item: item[1])
                },
            },
            indent=1,
        )
        + "\n"
    )
    draw(given.weights, given.published, given.out)
    quality_reading.write(given.weights, given.published, given.out)
    for method, rank in sorted(ranks.items(), key=lambda item: item[1])[:8]:
        print(f"mean rank {rank:5.2f}  {method}")


if __name__ == "__main__":
    main()
