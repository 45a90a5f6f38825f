"""Draw the quality page's pictures from phantom studies: methods side by side, and the couple masks.

python benchmarks/pictures.py [--published GeSeNet.pth] [--weights FILE]
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

import torch
from matplotlib.figure import Figure
from rivals import methods
from torch import Tensor

import medfuse
from medfuse.gesenet import load_network
from medfuse.gesenet.masks import watch_masks, work_share
from medfuse.train import study_pairs

TASKS = {"CT": "MRI-CT", "PT": "MRI-PET", "NM": "MRI-SPECT"}


def middle_slice(modality: str) -> tuple[Tensor, Tensor]:
    """MRI and partner luma of a phantom study, (1, 1, H, W) in [0, 1]."""
    with tempfile.TemporaryDirectory() as place:
        medfuse.phantom_study(modality).write_dicom(place)
        pairs = list(study_pairs({"mri": f"{place}/mri", "partner": f"{place}/partner", "case": "phantom"}))
    pair = pairs[len(pairs) // 2]
    return pair.mri[None], pair.partner[None]


def sheet(rows: list[list[tuple[str, Tensor]]], path: Path) -> None:
    columns = len(rows[0])
    figure = Figure(figsize=(1.9 * columns, 2.3 * len(rows)), facecolor="black", layout="constrained")
    for row, axes in zip(rows, figure.subplots(len(rows), columns, squeeze=False), strict=True):
        for (title, image), axis in zip(row, axes, strict=True):
            axis.imshow(image[0, 0], cmap="gray", vmin=0, vmax=1, interpolation="nearest")
            axis.set_title(title, color="white", fontsize=7)
            axis.set_axis_off()
    figure.savefig(path, dpi=130, facecolor="black", metadata={"Software": "medfuse"})


def draw(weights: str, published: str | None, out: Path) -> None:
    """Write ``methods.png``, ``masks.png`` and ``masks.json``, the share of work that masks ask for."""
    network = load_network(weights)
    rivals = methods(weights, published)
    compared, masked, shares = [], [], {}
    for modality, task in TASKS.items():
        mri, partner = middle_slice(modality)
        sources = [("MRI", mri), (task.removeprefix("MRI-"), partner)]
        compared.append([*sources, *((name, fuse(mri, partner)) for name, fuse in rivals.items())])
        with torch.inference_mode(), watch_masks(network) as masks:
            fused = network(mri, partner)
        spatial = zip(("mask of the MRI", "mask of the partner"), (each.spatial for each in masks), strict=True)
        masked.append([*sources, ("medfuse", fused), *spatial])
        shares[task] = {
            "spatial": [round(float(each.spatial.mean()), 3) for each in masks],
            "work": [round(float(work_share(each.spatial, each.channels)), 3) for each in masks],
        }
    sheet(compared, out / "methods.png")
    sheet(masked, out / "masks.png")
    (out / "masks.json").write_text(json.dumps(shares, indent=1) + "\n")
