"""Measure how well fused pictures can be read, by method: sources read back, lesions that survive, what is invented.

    python benchmarks/reading_measures.py MRI PARTNER [--modality PT] [--every 4] [--published GeSeNet.pth] [--lesions]

The two are aligned studies as `medfuse.load` takes them (--align auto registers them first). A table learns on every
second of the slices looked at, so that its colours are never those of the slice that is read.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable

import torch
from networks import by_network
from torch import Tensor

import medfuse
from medfuse.dicom.palettes import palette_table
from medfuse.intensity.colour import Palette, join_palette, palette_luma
from medfuse.intensity.palette_join import join_uptake
from medfuse.methods import CLASSIC, Method, blend
from medfuse.metrics.reading import Show, lesions_by_class, read_pictures
from medfuse.pipeline.prepare import prepare_pair

TISSUE = 0.05


def eight_bit(pictures: Tensor) -> Tensor:
    return (pictures.clamp(0, 1) * 255).round().to(torch.uint8)


def over_channels(join: Callable[..., Tensor], *sides: Tensor, palette: Palette) -> Tensor:
    """Call what takes (1, ...) on slabs (N, 1, H, W)."""
    return join(*(side.contiguous().movedim(1, 0) for side in sides), palette).movedim(0, 1)


def methods(published: str | None, coloured: bool) -> dict[str, tuple[Show, Palette | None]]:
    """How each method shows MRI and uptake, and the palette of the uptake."""
    ours, hot = palette_table("violet-to-orange"), palette_table("hot-iron")
    networks: dict[str, Method] = {"medfuse": by_network("default")}
    if published:
        networks["published weights"] = by_network(published)
    luma = networks | CLASSIC
    if not coloured:
        return {
            name: (lambda mri, partner, fuse=fuse: eight_bit(fuse(mri, partner)), None) for name, fuse in luma.items()
        }

    def seen(uptake: Tensor, palette: Palette) -> Tensor:
        return over_channels(palette_luma, uptake, palette=palette)

    def by_oklab(mri: Tensor, uptake: Tensor) -> Tensor:
        return over_channels(join_uptake, luma["medfuse"](mri, seen(uptake, ours)), mri, uptake, palette=ours)

    def by_chroma(fuse: Method) -> Show:
        return lambda mri, uptake: over_channels(join_palette, fuse(mri, seen(uptake, hot)), uptake, palette=hot)

    return {
        "medfuse, oklab": (by_oklab, ours),
        "blend": (lambda mri, uptake: eight_bit(blend(mri, uptake, hot)), hot),
        "blend, violet-to-orange": (lambda mri, uptake: eight_bit(blend(mri, uptake, ours)), ours),
        **{f"{name}, chroma": (by_chroma(fuse), hot) for name, fuse in luma.items()},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("mri")
    parser.add_argument("partner")
    parser.add_argument("--modality", default=None)
    parser.add_argument("--align", default="header")
    parser.add_argument("--every", type=int, default=4)
    parser.add_argument("--published", default=None)
    parser.add_argument("--lesions", action="store_true")
    given = parser.parse_args()
    mri = medfuse.load(given.mri, "MR")
    partner = medfuse.load(given.partner, given.modality or ("CT", "PT", "NM"))
    pair, _ = prepare_pair(mri, partner, align=given.align, force=True)
    pairs = [pair.pairs(k, k + 1) for k in range(0, pair.partner.grid.shape[2], given.every)]
    shown = [each for each in pairs if float((each.mri > TISSUE).float().mean()) > 0.1]
    sources = [torch.cat([getattr(each, side) for each in shown]) for side in ("mri", "uptake")]
    spacing = float(pair.partner.grid.spacing[0])
    print(f"{len(shown)} slices of {given.partner}, every {given.every}th")
    print("| method | uptake | MRI | by legend | clipped | overshoot | invented |")
    print("|---|---:|---:|---:|---:|---:|---:|")
    found = methods(given.published, pair.palette is not None)
    for name, (show, palette) in found.items():
        one = read_pictures(show(*sources), *sources, palette, palette)
        cells = [f"{each.spearman:.4f}, {each.mean_error:.4f}" for each in (one.uptake, one.mri)]
        cells.append("–" if one.uptake_by_legend is None else f"{one.uptake_by_legend.spearman:.4f}")
        cells.append("–" if one.clipped is None else f"{100 * one.clipped:.1f} %")
        print(f"| {name} | {' | '.join(cells)} | {100 * one.overshoot:.1f} % | {one.invented:.3f} |", flush=True)
    if not given.lesions:
        return
    print("\nLesions: share that loses over 75 % of its contrast in luma; median d′ in luma and in colour")
    for name, (show, palette) in found.items():
        classes = lesions_by_class(show, *sources, palette, pixel_mm=spacing)
        cells = [
            f"{each.lost:.2f}; {float(each.luma.median()):.1f}, {float(each.colour.median()):.1f}"
            for each in classes.values()
        ]
        if name == next(iter(found)):
            print(f"| method | {' | '.join(classes)} |\n|---|{'---:|' * len(classes)}")
        print(f"| {name} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
