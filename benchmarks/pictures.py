"""Draw the quality page's pictures from phantom studies: methods side by side, and the couple masks.

python benchmarks/pictures.py [--published GeSeNet.pth] [--weights FILE]
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import torch
from compared_methods import Method, methods
from matplotlib.figure import Figure
from torch import Tensor

import medfuse
from medfuse.gesenet import load_network
from medfuse.gesenet.masks import watch_masks
from medfuse.metrics import CORE, eight_bit, flicker, score
from medfuse.pipeline.train import study_pairs

JUDGED_IN_3D = ("medfuse", "published weights", "maximum")

TASKS = {"CT": "MRI-CT", "PT": "MRI-PET", "NM": "MRI-SPECT"}


def phantom_slices(modality: str, coarsen: float = 1.0) -> tuple[Tensor, Tensor]:
    """MRI and partner luma of a phantom study, (slices, 1, H, W) in [0, 1], finer than 8 bit."""
    with tempfile.TemporaryDirectory() as place:
        medfuse.phantom_study(modality, coarsen=coarsen).write_dicom(place)
        pairs = list(study_pairs({"mri": f"{place}/mri", "partner": f"{place}/partner", "case": "phantom"}))
    return torch.stack([pair.mri for pair in pairs]), torch.stack([pair.partner for pair in pairs])


def volume_row(fuse: Method, task: str, mri: Tensor, partner: Tensor) -> str:
    """Scores of a volume from 16-bit and from 8-bit sources, and the flicker of the volume."""
    fused = fuse(mri, partner)
    coarse = [(side * 255).round() / 255 for side in (mri, partner)]
    means = [
        {name: values.mean().item() for name, values in score(pictures, mri, partner, CORE).items()}
        for pictures in (fused, fuse(*coarse))
    ]
    cells = [f"{means[0][name]:.3f} ({means[1][name] - means[0][name]:+.3f})" for name in CORE]
    uneven = flicker(*(eight_bit(side) for side in (fused, mri, partner))).item()
    return f"{task} | {' | '.join(cells)} | {uneven:.2f} |"


def sheet(rows: list[list[tuple[str, Tensor]]], path: Path) -> None:
    columns = len(rows[0])
    figure = Figure(figsize=(1.9 * columns, 2.3 * len(rows)), facecolor="black", layout="constrained")
    for row, axes in zip(rows, figure.subplots(len(rows), columns, squeeze=False), strict=True):
        for (title, image), axis in zip(row, axes, strict=True):
            axis.imshow(image[0, 0], cmap="gray", vmin=0, vmax=1, interpolation="nearest")
            axis.set_title(title, color="white", fontsize=7)
            axis.set_axis_off()
    figure.savefig(path, dpi=130, facecolor="black", metadata={"Software": "medfuse"})


def shares_table(shares: dict[str, dict[str, list[float]]]) -> str:
    """Share of pixels that each branch's spatial mask marks, and of its masked convolutions' work that is left."""
    lines = ["| task | marked, MRI | marked, partner | work, MRI | work, partner |", "|---|---:|---:|---:|---:|"]
    for task, of in shares.items():
        lines.append(f"| {task} | {' | '.join(f'{share:.0%}' for share in of['spatial'] + of['work'])} |")
    return "\n".join(lines) + "\n"


def draw(weights: str, published: str | None, out: Path) -> None:
    """Write ``volumes.md``, ``methods.png``, ``masks.png``, and ``masks.md``, the share of work that masks ask for."""
    network = load_network(weights)
    named = methods(weights, published)
    compared, masked, shares = [], [], {}
    lines = [f"| method | task | {' | '.join(name.upper() for name in CORE)} | flicker |", f"|---|---|{'---:|' * 7}"]
    for modality, task in TASKS.items():
        volumes = phantom_slices(modality, coarsen=2)
        lines += [f"| {name} | {volume_row(named[name], task, *volumes)}" for name in named if name in JUDGED_IN_3D]
        mri, partner = (side[len(side) // 2][None] for side in phantom_slices(modality))
        sources = [("MRI", mri), (task.removeprefix("MRI-"), partner)]
        compared.append([*sources, *((name, fuse(mri, partner)) for name, fuse in named.items())])
        with torch.inference_mode(), watch_masks(network) as masks:
            fused = network(mri, partner)
        spatial = zip(("mask of the MRI", "mask of the partner"), (each.spatial for each in masks), strict=True)
        masked.append([*sources, ("medfuse", fused), *spatial])
        shares[task] = {
            "spatial": [float(each.spatial.mean()) for each in masks],
            "work": [float(each.work_share()) for each in masks],
        }
    (out / "volumes.md").write_text("\n".join(lines) + "\n")
    sheet(compared, out / "methods.png")
    sheet(masked, out / "masks.png")
    (out / "masks.md").write_text(shares_table(shares))
