"""Draw augmented patches, which the network learns from, from picture pairs in memory."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from medfuse.errors import TrainingError
from medfuse.gesenet.training.config import TrainingConfig
from medfuse.gesenet.training.dataset import Pair, unit
from medfuse.gesenet.training.lesions import TISSUE_LUMA, with_lesions
from medfuse.intensity.colour import split_luma, tint

MRI_HOT = 0.3
"""Of the patches with a hot blob, the share that has it in the MRI; the others have it in the partner."""


class Batch(NamedTuple):
    """What the network is shown at once, and what the loss sees of its result.

    MRI and partner (N, 1, H, W) float32 in [0, 1], tissue classes (N, H, W) int64, what the partner's colours add to
    luma, (N, 3, H, W) float32 in [-1, 1], and each one's task. ``lesions`` (K, 1, H, W) is what was added to a source
    of the last K, which are else copies of the first K; None where there are none.
    """

    mri: Tensor
    partner: Tensor
    classes: Tensor
    tints: Tensor
    tasks: tuple[str, ...]
    lesions: Tensor | None = None

    def to(self, device: torch.device) -> Batch:
        """The same on a device."""
        placed: dict[str, Any] = {
            name: side.to(device) for name, side in self._asdict().items() if isinstance(side, Tensor)
        }
        return self._replace(**placed)


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
        oversampled_tasks: Sequence[str] = (),
        hot_share: float = 0.0,
        *,
        lesion_share: float = TrainingConfig.lesion_share,
        varied_share: float = TrainingConfig.varied_share,
        turned: bool = TrainingConfig.turned,
    ) -> None:
        smallest = min(min(pair.mri.shape[-2:]) for pair in pairs)
        if max(sizes) > smallest:
            raise TrainingError(f"patches of {max(sizes)} pixels do not fit into pictures of {smallest}.")
        tasks = sorted({pair.task for pair in pairs})
        if not set(oversampled_tasks) <= set(tasks):
            raise TrainingError(
                f"expected tasks to draw twice among {', '.join(tasks)}; found {', '.join(oversampled_tasks)}."
            )
        self.by_task = [[pair for pair in pairs if pair.task == task] for task in [*tasks, *oversampled_tasks]]
        self.sizes = tuple(sizes)
        self.pixels = pixels
        self.air_share = air_share
        self.hot_share = hot_share
        self.lesion_share = lesion_share
        self.varied_share = varied_share
        self.turned = turned
        self.generator = generator

    def draw(self) -> Batch:
        """Return the next patches."""
        size = self.sizes[self._integer(len(self.sizes))]
        count = max(1, self.pixels // size**2)
        # Copies with lesions take the place of patches, so that a batch costs the same.
        copies = min(round(self.lesion_share * count), count // 2)
        tasks, patches = zip(*(self._patch(size) for _ in range(count - copies)), strict=True)
        mri, partner, classes, tints = (torch.stack(side) for side in zip(*patches, strict=True))
        varied = self._jitter(mri), self._jitter(partner)
        # A colour that is shown darker or brighter keeps its hue and saturation, as far as the screen goes.
        brighter = varied[1] / partner.clamp(min=1 / 255)
        colours = ((partner + tints) * brighter).clamp(0, 1).movedim(1, 0)
        coloured = tints.flatten(1).any(1)[:, None, None, None]
        luma = torch.where(coloured, split_luma(colours).movedim(0, 1), varied[1])
        batch = Batch(varied[0], luma, classes[:, 0].long(), tint(colours).movedim(0, 1) * coloured, tasks)
        if self.hot_share:
            batch = self._heat(batch)
        return self._with_lesions(batch, copies) if copies else batch

    def _with_lesions(self, batch: Batch, copies: int) -> Batch:
        """With copies of the first patches behind all others that have a lesion each."""
        changed = with_lesions(batch.mri[:copies], batch.partner[:copies], self.generator)
        return Batch(
            torch.cat((batch.mri, changed.mri)),
            torch.cat((batch.partner, changed.partner)),
            torch.cat((batch.classes, batch.classes[:copies])),
            torch.cat((batch.tints, batch.tints[:copies])),
            batch.tasks + batch.tasks[:copies],
            changed.added,
        )

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
        if not self.turned:
            return pair.task, [mri, partner, classes, tints]
        sides = [torch.rot90(side, turns, (-2, -1)) for side in (mri, partner, classes, tints)]
        return pair.task, [side.flip(-1) for side in sides] if mirrored else sides

    def _jitter(self, batch: Tensor) -> Tensor:
        """Vary gain and gamma of some patches: clinical volumes are not as evenly windowed as atlas pictures."""
        shape = (len(batch), 1, 1, 1)
        gain = 0.4 + 0.8 * torch.rand(shape, generator=self.generator)
        gamma = torch.exp(0.8 * (torch.rand(shape, generator=self.generator) - 0.5))
        changed = torch.rand(shape, generator=self.generator) < self.varied_share
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
