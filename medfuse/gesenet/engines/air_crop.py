"""Leave the air around the head out of the computation, and put in what the network makes of it.

Where both sources are exactly 0 for further than the network reaches, every feature map has settled on the values that
black makes, which are known. Two things tie the air to the rest of the picture: the channel attention looks at means
over all of it, and what it decides changes how black comes out. Both are accounted for, so that the fused picture is
that of the whole picture up to rounding.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import lru_cache, partial
from typing import cast

import torch
from torch import Tensor

from medfuse.gesenet.engines.folded import RADIUS, Features, FoldedGeSeNet
from medfuse.gesenet.masks import Decided, hold_masks, record_masks

REACH = RADIUS + RADIUS % 2
"""The network's reach, rounded up to the pairs of pixels that its spatial masks are decided in."""

STEP = 16
"""Crops begin and end at multiples of it, so that few sizes are met: libraries plan for each."""

WORTHWHILE = 0.85
"""Crops that keep more than this share of a picture are not worth the copies."""


class AirCrop:
    """Run a folded network on the part of a picture that holds anything."""

    def __init__(self, network: FoldedGeSeNet) -> None:
        self.network = network
        self.device = network.device
        self._all_seen = torch.ones(1, dtype=torch.float32, device=self.device)
        self._none_unseen = torch.zeros(2, network.channels, dtype=torch.float32, device=self.device)
        self._black_means = lru_cache(maxsize=64)(self._means_of_black)

    def __call__(self, mri: Tensor, partner: Tensor) -> Tensor:
        """Fuse (N, 1, H, W) pictures on the network's device; the part is one for all of a batch."""
        return self._fuse(mri, partner, _shown(mri, partner), nullcontext)

    def hold(self, mri: Tensor, partner: Tensor) -> tuple[Tensor, Callable[[Tensor, Tensor], Tensor]]:
        """Fuse pictures, and return besides what fuses others under the masks of these, and on the same part.

        Others are of their size, and 0 wherever these are 0.
        """
        shown, decided = _shown(mri, partner), Decided()
        fused = self._fuse(mri, partner, shown, partial(record_masks, self.network, decided))
        return fused, lambda mri, partner: self._fuse(mri, partner, shown, partial(hold_masks, self.network, decided))

    @torch.no_grad()
    def _fuse(
        self, mri: Tensor, partner: Tensor, shown: Tensor, under: Callable[[], AbstractContextManager[None]]
    ) -> Tensor:
        """Fuse pictures that show something in the pixels (H, W) ``shown``, the network within a context."""
        height, width = mri.shape[-2:]
        reached = _around(shown.any(dim=1), REACH, 1), _around(shown.any(dim=0), REACH, 1)
        part = _around(shown.any(dim=1), 2 * REACH, STEP), _around(shown.any(dim=0), 2 * REACH, STEP)
        part_height, part_width = (extent.stop - extent.start for extent in part)
        share = part_height * part_width / (height * width)
        if share > WORTHWHILE:
            with under():
                fused, _ = self.network(mri, partner, self._all_seen, self._none_unseen)
            return cast("Tensor", fused)
        unseen = self._black_means(height, width) - share * self._black_means(part_height, part_width)
        window = ..., *part
        with under():
            inside, gates = self.network(mri[window], partner[window], share * self._all_seen, unseen)
        fused = self._black(gates, height, width)
        sides = zip(reached, part, strict=True)
        within = (slice(inner.start - outer.start, inner.stop - outer.start) for inner, outer in sides)
        fused[(..., *reached)] = inside[(..., *within)]
        return fused

    def _means_of_black(self, height: int, width: int) -> Tensor:
        """Means over a black picture of what the attention looks at: (2, channels)."""
        rows, columns = (_spread(length, self.device) for length in (height, width))
        weights = (torch.bincount(rows)[:, None] * torch.bincount(columns)).float() / (height * width)
        branches = self._features_of_black(weights.shape)
        means = [(collected[0] * weights).sum((1, 2))[: self.network.channels] for _, collected in branches]
        return torch.stack(means)

    def _black(self, gates: Tensor, height: int, width: int) -> Tensor:
        """What a black picture becomes under given gates: (N, 1, height, width)."""
        rows, columns = (_spread(length, self.device) for length in (height, width))
        features = self._features_of_black((int(rows.max()) + 1, int(columns.max()) + 1), gates.shape[1])
        return self.network.after(features, gates)[:, :, rows][..., columns]

    def _features_of_black(self, size: Sequence[int], count: int = 1) -> Features:
        black = torch.zeros((count, 1, *size), dtype=torch.float32, device=self.device)
        return self.network.before(black, black)


def _shown(mri: Tensor, partner: Tensor) -> Tensor:
    """(H, W) where any of a batch of pictures shows anything."""
    return ((mri != 0) | (partner != 0)).any(dim=0)[0]


def _around(shown: Tensor, margin: int, step: int) -> slice:
    """From the first to the last that is set, with a margin, rounded outwards to a step, within the whole."""
    places = shown.nonzero()[:, 0]
    first, last = (int(places[0]), int(places[-1])) if len(places) else (margin, -1 - margin)
    start = max(first - margin, 0) // step * step
    return slice(start, min(max(-(-(last + 1 + margin) // step), 1) * step, len(shown)))


def _spread(length: int, device: torch.device) -> Tensor:
    """Places in a small black picture that stand for those of a large one, along one axis: (length,).

    Features of black change within reach of the border only; further inside they repeat in pairs of pixels, for the
    spatial mask is decided at half resolution.
    """
    places = torch.arange(length, device=device)
    after = length - REACH - length % 2
    if after <= REACH + 2:
        return places
    middle = REACH + (places - REACH) % 2
    return torch.where(places < REACH, places, torch.where(places < after, middle, places - after + REACH + 2))
