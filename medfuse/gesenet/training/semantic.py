"""Find tissue classes in a source pair, and tell by a small network whether the fused slice still shows them.

The pairs carry no labels. Clustering both sources together gives classes that neither shows alone; the semantic module
(after Tang et al., "Image fusion in the loop of high-level vision tasks", 2022, doi:10.1016/j.inffus.2021.12.004) must
find them again in the fused slice, and what it cannot see there is what fusion lost.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from scipy.cluster.vq import kmeans2
from torch import Tensor, nn
from torch.nn import functional

from medfuse.errors import TrainingError

TISSUES = ("air", "dark in MRI", "medium in MRI", "bright in MRI", "bright in partner")
"""For a T1 head and its PET: air, fluid, grey matter, white matter, high uptake; for its CT, the last is bone."""

AIR_LUMA = 0.08
"""What is darker than this in both sources is air."""

SAMPLES = 40_000
"""Pixels that are clustered; more move the centres by less than a grey level."""


class TissueClasses:
    """Cluster centres in the plane of MRI and partner luma, found by k-means.

    Parameters
    ----------
    pairs
        MRI and partner of one task, each (1, H, W) in [0, 1].
    seed
        For the pixels and the first centres.
    """

    def __init__(self, pairs: Sequence[tuple[Tensor, Tensor]], seed: int = 0) -> None:
        random = np.random.default_rng(seed)
        drawn = []
        for pair in pairs:
            pixels = torch.cat([smoothed(side) for side in pair]).flatten(1).T.numpy()
            # Air is most of a head picture and known beforehand: it would take several centres for itself.
            tissue = pixels[pixels.max(1) > AIR_LUMA]
            if len(tissue):
                drawn.append(tissue[random.integers(len(tissue), size=-(-SAMPLES // len(pairs)))])
        if not drawn:
            raise TrainingError("no tissue classes can be found: every picture is black.")
        tissue = np.concatenate(drawn)
        centres, _ = kmeans2(tissue, len(TISSUES) - 1, minit="++", rng=random)
        by_partner = centres[np.argsort(centres[:, 1] - centres[:, 0])]
        by_mri = by_partner[:-1][np.argsort(by_partner[:-1, 0])]
        ordered = np.concatenate((np.zeros((1, 2)), by_mri, by_partner[-1:]))
        self.centres = torch.from_numpy(ordered).float()

    def __call__(self, mri: Tensor, partner: Tensor) -> Tensor:
        """Give every pixel of a (1, H, W) pair its nearest class: (1, H, W) uint8, an index into `TISSUES`."""
        pixels = torch.cat((smoothed(mri), smoothed(partner)))
        distances = (pixels - self.centres[:, :, None, None]).square().sum(1)
        return distances.argmin(0, keepdim=True).to(torch.uint8)


def smoothed(image: Tensor) -> Tensor:
    """Mean over 3×3 pixels, since noise is no tissue."""
    return functional.avg_pool2d(image, 3, stride=1, padding=1, count_include_pad=False)


def block(into: int, out: int, stride: int = 1, dilation: int = 1) -> nn.Sequential:
    """A 3×3 convolution with group norm, which unlike batch norm does not mix the pictures of a batch."""
    return nn.Sequential(
        nn.Conv2d(into, out, 3, stride, padding=dilation, dilation=dilation, bias=False),
        nn.GroupNorm(8, out),
        nn.ReLU(),
    )


class SemanticModule(nn.Module):
    """Find tissue classes in one fused slice, Eq. 4: low-level features at half, high-level ones at an eighth.

    ``(N, 1, H, W) -> (N, classes, H, W)`` twice: the logits of the main head, which sees both feature levels, and of
    the subsidiary head, which sees the high-level ones.
    """

    def __init__(self, classes: int = len(TISSUES)) -> None:
        super().__init__()
        self.low = nn.Sequential(block(1, 16, stride=2), block(16, 32))
        self.high = nn.Sequential(block(32, 48, stride=2), block(48, 64, stride=2), block(64, 64, dilation=2))
        self.context = nn.Sequential(nn.Conv2d(64, 64, 1), nn.Sigmoid())
        self.main = nn.Sequential(block(32 + 64, 32), nn.Conv2d(32, classes, 1))
        self.subsidiary = nn.Conv2d(64, classes, 1)

    def forward(self, fused: Tensor) -> tuple[Tensor, Tensor]:
        low = self.low(fused)
        high = self.high(low)
        high = high * self.context(high.mean((2, 3), keepdim=True))
        spread = functional.interpolate(high, size=low.shape[-2:], mode="bilinear", align_corners=False)
        heads = self.main(torch.cat((low, spread), dim=1)), self.subsidiary(high)
        main, subsidiary = (
            functional.interpolate(head, size=fused.shape[-2:], mode="bilinear", align_corners=False) for head in heads
        )
        return main, subsidiary
