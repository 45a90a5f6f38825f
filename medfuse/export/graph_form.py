"""Give GeSeNet the form that exporters trace: decided masks, and the same operations whatever the size of a picture."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from medfuse.gesenet.engines.folded import FoldedGeSeNet
from medfuse.gesenet.masks import SpatialMask
from medfuse.gesenet.network import GeSeNet


class GraphGeSeNet(nn.Module):
    """GeSeNet in evaluation mode, up to the rounding of sums, as operations that hold for every height and width.

    Called as ``network(mri, partner)`` with two (N, 1, H, W) float32 tensors in [0, 1]; returns (N, 1, H, W) in [0, 1].
    The weights are copied.
    """

    def __init__(self, network: GeSeNet) -> None:
        super().__init__()
        self.folded = FoldedGeSeNet(network)
        for branch in (self.folded.mri, self.folded.partner):
            if branch.spatial is not None:
                branch.spatial = cast("SpatialMask", GraphMask(branch.spatial))
        self.register_buffer("seen", torch.ones(1, dtype=torch.float32))
        self.register_buffer("unseen", torch.zeros(2, self.folded.channels, dtype=torch.float32))
        self.eval().requires_grad_(False)

    def forward(self, mri: Tensor, partner: Tensor) -> Tensor:
        fused: Tensor = self.folded(mri, partner, self.seen, self.unseen)[0]
        return fused


class GraphMask(nn.Module):
    """`SpatialMask` in evaluation mode, whether a side is odd or not: (N, C, H, W) → (N, 1, H, W) of 0 or 1.

    A side that is odd is pooled with its last row repeated, which is the mean over the partial window; the transposed
    convolution makes one row more than needed where it is, and that is cut off.
    """

    def __init__(self, mask: SpatialMask) -> None:
        super().__init__()
        self.enter, self.middle, self.leave = mask.enter, mask.middle, mask.leave

    def forward(self, features: Tensor) -> Tensor:
        hidden: Tensor = self.enter(features).relu()
        hidden = functional.avg_pool2d(functional.pad(hidden, (0, 1, 0, 1), mode="replicate"), 2)
        hidden = self.middle(hidden).relu()
        logits = functional.conv_transpose2d(
            hidden, self.leave.weight, self.leave.bias, stride=2, padding=1, output_padding=1
        )
        decided = (logits[:, 1:] > logits[:, :1]).to(features.dtype)
        # By index: where a slice is taken, torch.export asks whether it is all there is, and binds the program to that.
        rows, columns = (torch.arange(side, device=features.device) for side in features.shape[2:])
        return decided.index_select(2, rows).index_select(3, columns)
