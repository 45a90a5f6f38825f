"""Choose how uptake, MRI and fused luma share a colour, on training patients and digital heads.

    python benchmarks/colour_choice.py ATLAS [--step shares|stops|fused] [--heads 1] [--seed 1]

ATLAS holds pairs.csv and its pictures; only rows of the split `train` are read. The heads have seeds that no test uses.
Each setting is compared with a reader's alternative, the 50 % blend in hot-iron: by the errors of both sources read
back from the colours, and by the observer's median d′ in colour of inserted lesions. What counts is the worst of these
ratios over all groups of pictures. Of the settings that are worse than the blend in none by more than a hundredth, the
one that loses the smallest share of lesions in luma is chosen; where none is, the one with the best worst ratio.
"""

from __future__ import annotations

import argparse
import csv
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import numpy as np
import torch
from networks import by_network
from torch import Tensor

from medfuse.dicom.palettes import palette_table
from medfuse.intensity import outside_value
from medfuse.intensity.colour import Palette, palette_luma
from medfuse.intensity.oklab import to_oklab
from medfuse.intensity.palette_join import SHARES, STOPS, Shares, Stops, join_uptake, violet_to_orange
from medfuse.intensity.picture_files import read_picture
from medfuse.methods import blend
from medfuse.metrics.lesions import CLASSES, LOST, TISSUE, Lesion, Side, insert_lesions, observe, plan_lesions
from medfuse.metrics.reading import Show, observed_axes, read_pictures
from medfuse.phantom import phantom_study
from medfuse.pipeline.prepare import on_one_grid
from medfuse.registration import Registration, resample
from medfuse.volume import LazyVolume, Modality, grid_of

DIAMETERS_MM = (3.0, 6.0, 10.0, 15.0)
CONTRASTS = (0.06, 0.12, 0.25, 0.5)
"""Of a source's range; the faintest is just seen."""

FIRST_SEED = 4000
"""Of the heads: tests and training have lower ones."""

COARSEN = 1.5
EVERY = {"MRI-PET": 9, "MRI-SPECT": 6, "head": 10}
"""Slices from one that is looked at to the next."""

LEAST_LEGEND, MOST_CLIPPED, MOST_OVERSHOOT = 0.98, 0.01, 0.02
"""What a setting must keep in every group."""


@dataclass(frozen=True, eq=False)
class Group:
    """Slices of one kind: (N, 1, H, W) MRI and uptake in [0, 1], patient by patient."""

    name: str
    patients: list[tuple[Tensor, Tensor]]
    pixel_mm: float


def invert_palette(pictures: Tensor) -> Tensor:
    """(N, 3, H, W) uint8 in the colours of an unknown palette → (N, 1, H, W) its place in the palette, in [0, 1].

    The atlas shows uptake in few colours, each a little step from the next. Ordered from black, each after the one that
    lies nearest to where the last two lead, they are the palette.
    """
    flat = pictures.movedim(1, -1).reshape(-1, 3).numpy()
    colours, place = np.unique(flat, axis=0, return_inverse=True)
    left, order = list(range(1, len(colours))), [0]
    while left:
        last = colours[order[-1]].astype(float)
        ahead = last + 0.5 * (last - colours[order[-2 if len(order) > 1 else -1]])
        order.append(left.pop(int(np.linalg.norm(colours[left] - ahead, axis=1).argmin())))
    values = np.empty(len(colours), dtype=np.float32)
    values[order] = np.linspace(0, 1, len(colours))
    n, _, rows, columns = pictures.shape
    return torch.from_numpy(values[place.ravel()].reshape(n, 1, rows, columns))


def atlas_groups(root: Path) -> Iterator[Group]:
    """PET and SPECT of the training patients."""
    with (root / "pairs.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if row["split"] == "train"]
    for task in ("MRI-PET", "MRI-SPECT"):
        patients = []
        for case in sorted({row["case"] for row in rows if row["task"] == task}):
            own = [row for row in rows if row["task"] == task and row["case"] == case]
            coloured = torch.stack([_colours(root / row["partner"]) for row in own])
            uptake = invert_palette(coloured)[:: EVERY[task]]
            mri = torch.stack([read_picture(root / row["mri"])[0] for row in own])[:: EVERY[task]]
            patients.append(_cropped(mri.float() / 255, uptake))
        yield Group(f"patients {task[4:]}", patients, 1.0)


def _cropped(*sides: Tensor) -> tuple[Tensor, Tensor]:
    """Both without most of the air around the head."""
    rows, columns = (torch.maximum(*sides) > TISSUE).any(0)[0].nonzero(as_tuple=True)
    rows, columns = (slice(int(at.min()) // 8 * 8, -(-int(at.max() + 1) // 8) * 8) for at in (rows, columns))
    mri, uptake = (side[:, :, rows, columns].contiguous() for side in sides)
    return mri, uptake


def _colours(path: Path) -> Tensor:
    luma, colours = read_picture(path)
    return luma.expand(3, -1, -1) if colours is None else colours


def head_groups(heads: int) -> Iterator[Group]:
    """PET and SPECT of digital heads."""
    for modality, name in (("PT", "PET"), ("NM", "SPECT")):
        yield Group(f"heads {name}", [_head(modality, FIRST_SEED + k) for k in range(heads)], COARSEN)


def _head(modality: Modality, seed: int) -> tuple[Tensor, Tensor]:
    study = phantom_study(modality, seed=seed, coarsen=COARSEN)
    truth = Registration(study.truth, "file", {})
    moved = resample(study.partner, grid_of(study.mri), truth, outside=outside_value(study.partner))
    pair = on_one_grid(study.mri, LazyVolume.of(moved), window=None, palette="violet-to-orange")
    pairs = [pair.pairs(k, k + 1) for k in range(4, pair.partner.grid.shape[2] - 4, EVERY["head"])]
    return _cropped(*(torch.cat([getattr(each, side) for each in pairs]) for side in ("mri", "uptake")))


# --- methods --------------------------------------------------------------------------------------------------------

Luma = Callable[[Tensor, Tensor, Palette], Tensor]


def cached_network(weights: str) -> Luma:
    """The fused luma of a stack; the same stack is fused once."""
    network, known = by_network(weights), {}

    def fuse(mri: Tensor, uptake: Tensor, palette: Palette) -> Tensor:
        key = hash((mri.numpy().tobytes(), uptake.numpy().tobytes(), palette.tobytes()))
        if key not in known:
            known[key] = network(mri, palette_luma(uptake.movedim(1, 0), palette).movedim(0, 1))
        return known[key]

    return fuse


def show_joined(shares: Shares, stops: Stops, luma: Luma | None = None) -> Show:
    """How `join_uptake` shows both; without a network as if it gave the MRI back."""
    palette = violet_to_orange(stops)

    def show(mri: Tensor, uptake: Tensor) -> Tensor:
        fused = luma(mri, uptake, palette) if luma else mri
        return join_uptake(*(side.movedim(1, 0) for side in (fused, mri, uptake)), palette, shares).movedim(0, 1)

    return show


def show_blend(mri: Tensor, uptake: Tensor) -> Tensor:
    """The 50 % blend in hot-iron."""
    return (blend(mri, uptake, palette_table("hot-iron")).clamp(0, 1) * 255).round().to(torch.uint8)


# --- measures -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Found:
    """What one method reaches in one group."""

    uptake_error: float
    mri_error: float
    legend: float
    clipped: float
    overshoot: float
    seen: tuple[float, ...]
    """Median d′ in colour, of each class of lesions."""
    lost: tuple[float, ...]
    """Share of each class that loses most of its contrast in luma."""

    def ratios(self, other: Found) -> list[float]:
        """How many times better than another, in each measure."""
        errors = other.uptake_error / self.uptake_error, other.mri_error / self.mri_error
        return [*errors, *(mine / its for mine, its in zip(self.seen, other.seen, strict=True))]

    @property
    def allowed(self) -> bool:
        """Whether it keeps what every setting must."""
        kept = self.legend >= LEAST_LEGEND and self.clipped <= MOST_CLIPPED
        return kept and self.overshoot <= MOST_OVERSHOOT


def measure(show: Show, group: Group, palette: Palette, seed: int) -> Found:
    """Read both sources back and observe lesions."""
    read = [read_pictures(show(mri, up), mri, up, palette, palette) for mri, up in group.patients]
    seen: dict[str, list[Tensor]] = {name: [] for name, *_ in CLASSES}
    kept: dict[str, list[Tensor]] = {name: [] for name, *_ in CLASSES}
    for number, (mri, uptake) in enumerate(group.patients):
        tissue = torch.maximum(mri, uptake) > TISSUE
        without = observed_axes(show(mri, uptake))
        for name, side, bright in CLASSES:
            source = mri if side == "mri" else uptake
            lesions = _lesions(group, number, name, side, bright, seed)
            changed = insert_lesions(source, lesions, group.pixel_mm)
            inserted = observed_axes(show(changed, uptake) if side == "mri" else show(mri, changed))
            shown = (source, changed) if side == "mri" else (_luma(source, palette), _luma(changed, palette))
            observed = observe(without, inserted, shown, lesions, tissue)
            seen[name].append(observed.colour)
            kept[name].append(observed.kept)
    mean = [
        float(np.mean([pick(one) for one in read]))
        for pick in (
            lambda one: one.uptake.mean_error,
            lambda one: one.mri.mean_error,
            lambda one: one.uptake_by_legend.spearman,
            lambda one: one.clipped,
            lambda one: one.overshoot,
        )
    ]
    lost = tuple(float((torch.cat(each) < LOST).double().mean()) for each in kept.values())
    return Found(*mean, tuple(float(torch.cat(each).median()) for each in seen.values()), lost)


def _luma(uptake: Tensor, palette: Palette) -> Tensor:
    return palette_luma(uptake.movedim(1, 0), palette).movedim(0, 1)


@cache
def _lesions(group: Group, number: int, name: str, side: Side, bright: bool, seed: int) -> list[Lesion]:
    mri, uptake = group.patients[number]
    generator = np.random.default_rng((seed, number, [each[0] for each in CLASSES].index(name)))
    sizes, contrasts = (tuple(generator.permutation(each)) for each in (DIAMETERS_MM, CONTRASTS))
    return plan_lesions(
        mri,
        uptake,
        side,
        bright=bright,
        pixel_mm=group.pixel_mm,
        seed=int(generator.integers(1 << 30)),
        diameters_mm=sizes,
        contrasts=contrasts,
    )


# --- choice ---------------------------------------------------------------------------------------------------------

SHARES_TRIED = [
    Shares(mri, uptake, both)
    for mri, uptake, both in (
        (0.65, 0.25, 0.05),
        (0.65, 0.3, 0.1),
        (0.7, 0.2, 0.05),
        (0.7, 0.25, 0.1),
        (0.75, 0.2, 0.1),
        (0.75, 0.25, 0.15),
        (0.8, 0.2, 0.15),
        (0.8, 0.25, 0.2),
    )
]
STOPS_TRIED = [
    Stops(chroma_power=0.8),
    *(Stops(first_hue=hue, chroma_power=0.8) for hue in (300.0, 330.0)),
    *(Stops(last_hue=hue, chroma_power=0.8) for hue in (30.0, 60.0)),
    *(Stops(top_chroma=chroma, chroma_power=0.8) for chroma in (0.14, 0.22)),
    *(Stops(chroma_power=power) for power in (0.6, 1.0)),
]
FUSED_TRIED = (0.0, 0.2, 0.4, 0.6)

LEAST_CHROMA = 0.06
"""Of the highest uptake over the brightest MRI, in OKLab: else a hot spot there is white."""

ALIKE = 0.99
"""Ratio to the blend from which on a setting is not worse: other lesions would turn such differences round."""

HEAD = """| setting | group | uptake | MRI | legend | overshoot | d′ | ratios to the blend | lost |
|---|---|---:|---:|---:|---:|---|---|---|"""


def settings(step: str, luma: Luma) -> dict[str, tuple[Show, Palette, bool]]:
    """What is compared in a step: by name how it shows both, its palette, and whether hot spots keep their colour."""
    bare = replace(SHARES, fused=0.0)
    tried = {
        "shares": [(shares, STOPS, luma) for shares in SHARES_TRIED],
        "stops": [(bare, stops, None) for stops in STOPS_TRIED],
        "fused": [(replace(SHARES, fused=share), STOPS, luma) for share in FUSED_TRIED],
    }[step]
    found = {}
    for shares, stops, network in tried:
        palette = violet_to_orange(stops)
        one = torch.ones(1, 1)
        hottest = to_oklab(join_uptake(one, one, one, palette, shares).double() / 255)[1:, 0]
        name = " ".join(f"{field}={value:g}" for side in (shares, stops) for field, value in vars(side).items())
        found[name] = show_joined(shares, stops, network), palette, float(hottest.norm()) >= LEAST_CHROMA
    return found


def choose(tried: dict[str, tuple[Show, Palette, bool]], groups: Sequence[Group], seed: int) -> str:
    """Print how each setting compares with the blend, and return the chosen one's name."""
    blends = {group.name: measure(show_blend, group, palette_table("hot-iron"), seed) for group in groups}
    print(HEAD)
    scored: dict[str, tuple[float, float]] = {}
    for name, (show, palette, coloured) in tried.items():
        found = {group.name: measure(show, group, palette, seed) for group in groups}
        ratios = [ratio for group, one in found.items() for ratio in one.ratios(blends[group])]
        for group, one in found.items():
            numbers = f"{one.uptake_error:.4f} | {one.mri_error:.4f} | {one.legend:.4f} | {one.overshoot:.4f}"
            lists = one.seen, one.ratios(blends[group]), one.lost
            cells = " | ".join(" ".join(f"{each:.2f}" for each in values) for values in lists)
            print(f"| {name} | {group} | {numbers} | {cells} |", flush=True)
        allowed = coloured and all(one.allowed for one in found.values())
        lost = float(np.mean([one.lost for one in found.values()]))
        note = "" if allowed else ", not allowed"
        print(f"{name}: worst ratio {min(ratios):.3f}, lost {lost:.3f}{note}", flush=True)
        if allowed:
            scored[name] = min(ratios), lost
    better = [name for name, (worst, _) in scored.items() if worst >= ALIKE]
    if better:
        return min(better, key=lambda name: scored[name][1])
    return max(scored, key=lambda name: scored[name][0])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("atlas", type=Path)
    parser.add_argument("--step", choices=("shares", "stops", "fused"), default="shares")
    parser.add_argument("--heads", type=int, default=1)
    parser.add_argument("--seed", type=int, default=1, help="draws the lesions")
    given = parser.parse_args()
    groups = [*atlas_groups(given.atlas), *head_groups(given.heads)]
    print(f"chosen: {choose(settings(given.step, cached_network('default')), groups, given.seed)}")


if __name__ == "__main__":
    main()
