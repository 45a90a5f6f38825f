"""Put lesions into copies of patches, so that training sees whether fusion keeps them.

What a reader looks for is small, soft and often of one source only; no score of whole pictures notices if it is gone.
A patch and its copy are fused side by side, and the difference of both is what is left of the lesion.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

RADII = 1.5, 10.0
"""Pixels, smallest and largest; drawn evenly on a logarithmic scale."""

RIMS = 0.3, 1.5
"""Width of the soft rim, pixels."""

CONTRASTS = 0.1, 0.5
"""Of a source's range."""

TISSUE_LUMA = 0.1
"""Brightness of the brighter source above which a pixel may be a lesion's middle."""


class WithLesions(NamedTuple):
    """Copies of patches with a lesion each: (K, 1, H, W) of both sources, and what was added to one of them."""

    mri: Tensor
    partner: Tensor
    added: Tensor


def with_lesions(mri: Tensor, partner: Tensor, generator: torch.Generator) -> WithLesions:
    """Give each patch (K, 1, H, W) in [0, 1] a lesion in one of its sources, brighter or darker, as there is room."""
    sides = [mri.clone(), partner.clone()]
    added = torch.zeros_like(mri)
    for k in range(len(mri)):
        in_partner, brighter = (int(torch.randint(2, (), generator=generator)) for _ in range(2))
        source = sides[in_partner][k, 0]
        tissue = (torch.maximum(mri[k, 0], partner[k, 0]) > TISSUE_LUMA).nonzero()
        if not len(tissue):
            continue
        row, column = tissue[int(torch.randint(len(tissue), (), generator=generator))].tolist()
        radius = RADII[0] * (RADII[1] / RADII[0]) ** _uniform(generator)
        rim = RIMS[0] + (RIMS[1] - RIMS[0]) * _uniform(generator)
        contrast = CONTRASTS[0] + (CONTRASTS[1] - CONTRASTS[0]) * _uniform(generator)
        # Where there is no room for it, a lesion is the other way round.
        sign = 1.0 if (brighter and source[row, column] < 1 - contrast) or source[row, column] < contrast else -1.0
        rows, columns = torch.arange(source.shape[0])[:, None] - row, torch.arange(source.shape[1]) - column
        profile = torch.sigmoid((radius - (rows**2 + columns**2).sqrt()) / rim)
        changed = (source + sign * contrast * profile).clamp(0, 1)
        added[k, 0] = changed - source
        sides[in_partner][k, 0] = changed
    return WithLesions(sides[0], sides[1], added)


def _uniform(generator: torch.Generator) -> float:
    return float(torch.rand((), generator=generator))
