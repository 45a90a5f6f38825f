"""What the network learns from: aligned picture pairs in memory, and augmented patches drawn from them."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from medfuse.errors import TrainingError
from medfuse.gesenet.training.semantic import TissueClasses
from medfuse.intensity.colour import split_luma, tint

MRI_HOT = 0.3
"""Of the patches with a hot blob, the share that has it in the MRI; the others have it in the partner."""

TISSUE_LUMA = 0.1
"""Mean brightness of the brighter source above which a patch counts as tissue."""


PAIR_COLUMNS = {"split", "task", "case", "mri", "partner"}


@dataclass(frozen=True)
class Pair:
    """One aligned picture pair.

    ``mri`` and ``partner`` are (1, H, W) luma, uint8 or float32 in [0, 1]; ``classes`` is (1, H, W) uint8. ``task`` is
    what is balanced, such as ``MRI-CT``; ``case`` names the patient as ``TASK/CASE``. ``colours`` are those that the
    partner is shown in, (3, H, W), uint8 or float32 in [0, 1]; None where it is grey.
    """

    task: str
    case: str
    mri: Tensor
    partner: Tensor
    classes: Tensor | None = None
    colours: Tensor | None = None


class Batch(NamedTuple):
    """What the network is shown at once, and what its result is judged by.

    MRI and partner (N, 1, H, W) float32 in [0, 1], tissue classes (N, H, W) int64, what the partner's colours add to
    luma, (N, 3, H, W) float32 in [-1, 1], and each one's task.
    """

    mri: Tensor
    partner: Tensor
    classes: Tensor
    tints: Tensor
    tasks: tuple[str, ...]

    def to(self, device: torch.device) -> Batch:
        """The same on a device."""
        placed: dict[str, Any] = {
            name: side.to(device) for name, side in self._asdict().items() if isinstance(side, Tensor)
        }
        return self._replace(**placed)


EIGHT_BIT = ("1", "L", "LA", "P", "PA", "RGB", "RGBA")
"""Pillow's modes that hold no more than 8 bits a channel, and mean a screen's grey or colours."""


def unit(luma: Tensor) -> Tensor:
    """Bring stored luma to float32 in [0, 1]."""
    return luma.float() / 255 if luma.dtype == torch.uint8 else luma


def read_picture(path: Path) -> tuple[Tensor, Tensor | None]:
    """Read a picture's BT.601 luma, (1, H, W) uint8, and its colours (3, H, W) where it has any."""
    try:
        with Image.open(path) as picture:
            if picture.mode not in EIGHT_BIT:
                raise TrainingError(
                    f"{path} holds {picture.mode} values; 8-bit grey or colour is expected, for others would be cut. "
                    "Train with the studies themselves, or scale the pictures to 8 bit."
                )
            rgb = torch.from_numpy(np.array(picture.convert("RGB"))).movedim(-1, 0)
            luma = torch.from_numpy(np.array(picture.convert("L")))[None]
            return luma, None if (rgb == rgb[:1]).all() else rgb
    except OSError as error:
        raise TrainingError(f"{path} is no readable picture ({type(error).__name__}); give PNG or TIFF.") from None


def read_pairs(index: Path, split: str = "train") -> list[Pair]:
    """Read every pair of one split into memory.

    Parameters
    ----------
    index
        A CSV file with the columns split, task, case, mri, partner; the last two are paths beside the file.

    Raises
    ------
    TrainingError
        If there is no such file, columns are missing, no row has the split, or the pictures of a pair differ in size.
    """
    if not index.is_file():
        raise TrainingError(f"expected a CSV file of picture pairs; there is no file {index}.")
    try:
        with index.open(newline="", encoding="utf-8-sig") as lines:
            reader = csv.DictReader(lines)
            missing = PAIR_COLUMNS - set(reader.fieldnames or ())
            if missing:
                raise TrainingError(
                    f"{index.name} must have the columns {', '.join(sorted(missing))}; they are missing."
                )
            rows = [row for row in reader if row["split"] == split]
            short = next((row for row in rows if any(row[name] is None for name in PAIR_COLUMNS)), None)
    except (UnicodeDecodeError, csv.Error) as error:
        raise TrainingError(
            f"{index.name} is no readable CSV file ({type(error).__name__}); save it with commas, in UTF-8."
        ) from None
    if short is not None:
        raise TrainingError(f"{index.name}: each row must fill all columns; a row of the split {split} is too short.")
    if not rows:
        raise TrainingError(f"{index.name} has no row whose split is {split!r}.")
    return [_read_pair(index.parent, row) for row in rows]


def _read_pair(folder: Path, row: dict[str, str]) -> Pair:
    (mri, _), (partner, colours) = (read_picture(folder / row[side]) for side in ("mri", "partner"))
    if mri.shape != partner.shape:
        sizes = " and ".join(f"{side.shape[-1]} × {side.shape[-2]}" for side in (mri, partner))
        raise TrainingError(f"{row['mri']} and {row['partner']} must have one size; found {sizes}.")
    return Pair(row["task"], f"{row['task']}/{row['case']}", mri, partner, colours=colours)


def with_classes(pairs: Sequence[Pair], seed: int) -> list[Pair]:
    """Add tissue classes, found once per task over all of its pictures."""
    classified = []
    for task in sorted({pair.task for pair in pairs}):
        own = [pair for pair in pairs if pair.task == task]
        find = TissueClasses([(unit(pair.mri), unit(pair.partner)) for pair in own], seed)
        classified += [replace(pair, classes=find(unit(pair.mri), unit(pair.partner))) for pair in own]
    return classified


class PatchSampler:
    """Draw augmented patch batches, tasks balanced but for those to draw twice as often, tissue preferred over air.

    Each batch has one patch size, drawn from ``sizes``, and as many patches as fit into ``pixels``: small ones bring
    many places into a batch, large ones bring the channel means of whole slices.
    """

    def __init__(
        self,
        pairs: Sequence[Pair],
        sizes: Sequence[int],
        pixels: int,
        air_share: float,
        generator: torch.Generator,
        drawn_twice: Sequence[str] = (),
        hot_share: float = 0.0,
    ) -> None:
        smallest = min(min(pair.mri.shape[-2:]) for pair in pairs)
        if max(sizes) > smallest:
            raise TrainingError(f"patches of {max(sizes)} pixels do not fit into pictures of {smallest}.")
        tasks = sorted({pair.task for pair in pairs})
        if not set(drawn_twice) <= set(tasks):
            raise TrainingError(
                f"expected tasks to draw twice among {', '.join(tasks)}; found {', '.join(drawn_twice)}."
            )
        self.by_task = [[pair for pair in pairs if pair.task == task] for task in [*tasks, *drawn_twice]]
        self.sizes = tuple(sizes)
        self.pixels = pixels
        self.air_share = air_share
        self.hot_share = hot_share
        self.generator = generator

    def draw(self) -> Batch:
        """Return the next patches."""
        size = self.sizes[self._integer(len(self.sizes))]
        count = max(1, self.pixels // size**2)
        tasks, patches = zip(*(self._patch(size) for _ in range(count)), strict=True)
        mri, partner, classes, tints = (torch.stack(side) for side in zip(*patches, strict=True))
        varied = self._jitter(mri), self._jitter(partner)
        # A colour that is shown darker or brighter keeps its hue and saturation, as far as the screen goes.
        brighter = varied[1] / partner.clamp(min=1 / 255)
        colours = ((partner + tints) * brighter).clamp(0, 1).movedim(1, 0)
        coloured = tints.flatten(1).any(1)[:, None, None, None]
        luma = torch.where(coloured, split_luma(colours).movedim(0, 1), varied[1])
        batch = Batch(varied[0], luma, classes[:, 0].long(), tint(colours).movedim(0, 1) * coloured, tasks)
        return self._heat(batch) if self.hot_share else batch

    def _patch(self, size: int) -> tuple[str, list[Tensor]]:
        pairs = self.by_task[self._integer(len(self.by_task))]
        pair = pairs[self._integer(len(pairs))]
        air_allowed = self._uniform() < self.air_share
        while True:
            top = self._integer(pair.mri.shape[-2] - size + 1)
            left = self._integer(pair.mri.shape[-1] - size + 1)
            window = (slice(None), slice(top, top + size), slice(left, left + size))
            mri, partner = unit(pair.mri[window]), unit(pair.partner[window])
            if air_allowed or torch.maximum(mri, partner).mean() > TISSUE_LUMA:
                break
            air_allowed = self._uniform() < 0.02  # a picture without tissue must not hold us for ever
        classes = torch.zeros_like(mri, dtype=torch.uint8) if pair.classes is None else pair.classes[window]
        tints = mri.new_zeros(3, size, size) if pair.colours is None else tint(unit(pair.colours[window]))
        turns, mirrored = self._integer(4), self._integer(2) == 1
        sides = [torch.rot90(side, turns, (-2, -1)) for side in (mri, partner, classes, tints)]
        return pair.task, [side.flip(-1) for side in sides] if mirrored else sides

    def _jitter(self, batch: Tensor) -> Tensor:
        """Vary gain and gamma of every second patch: clinical volumes are not as evenly windowed as atlas pictures."""
        shape = (len(batch), 1, 1, 1)
        gain = 0.4 + 0.8 * torch.rand(shape, generator=self.generator)
        gamma = torch.exp(0.8 * (torch.rand(shape, generator=self.generator) - 0.5))
        changed = torch.rand(shape, generator=self.generator) < 0.5
        return torch.where(changed, (batch.pow(gamma) * gain).clamp(0, 1), batch)

    def _heat(self, batch: Batch) -> Batch:
        """Bring one source of some patches to the top of its range in a blob, over bright tissue of the other.

        A hot lesion over white matter, or fluid in a T2 image over uptake: atlas pictures have next to none, clinical
        ones have, and a network that never saw both sources near their ends leaves no texture there.
        """
        mri, partner, tints = batch.mri.clone(), batch.partner.clone(), batch.tints.clone()
        for n in range(len(mri)):
            if self._uniform() >= self.hot_share:
                continue
            level = 0.8 + 0.2 * self._uniform()
            if self._uniform() < MRI_HOT:
                mri[n] += self._blob(partner[n]) * (level - mri[n])
                continue
            blob = self._blob(mri[n])
            brightest = (mri[n] * blob).amax().clamp(min=0.1)
            mri[n] = (mri[n] * ((0.5 + 0.5 * self._uniform()) / brightest)).clamp(0, 1)
            partner[n] += blob * (level - partner[n])
            tints[n] *= 1 - blob  # a hot palette is white where it ends
        return batch._replace(mri=mri, partner=partner, tints=tints)

    def _blob(self, tissue: Tensor) -> Tensor:
        """A disc of 1 with a soft rim, in 0, of random size and place, its middle in tissue (1, H, W) where any is."""
        height, width = tissue.shape[-2:]
        places = (tissue[0] > tissue.mean()).nonzero()
        at = places[self._integer(len(places))].tolist() if len(places) else (height // 2, width // 2)
        radius, rim = 4 + 20 * self._uniform(), 0.3 + 1.7 * self._uniform()
        rows, columns = torch.arange(height)[:, None] - at[0], torch.arange(width) - at[1]
        return torch.sigmoid((radius - (rows**2 + columns**2).sqrt()) / rim)[None]

    def _integer(self, below: int) -> int:
        return int(torch.randint(below, (), generator=self.generator))

    def _uniform(self) -> float:
        return float(torch.rand((), generator=self.generator))


def whole_pairs(pairs: Sequence[Pair]) -> Iterator[Batch]:
    """Yield pairs one by one, whole and as they are."""
    for pair in pairs:
        classes = torch.zeros_like(pair.mri, dtype=torch.uint8) if pair.classes is None else pair.classes
        mri, partner = unit(pair.mri), unit(pair.partner)
        tints = mri.new_zeros(3, *mri.shape[-2:]) if pair.colours is None else tint(unit(pair.colours))
        yield Batch(mri[None], partner[None], classes.long(), tints[None], (pair.task,))
