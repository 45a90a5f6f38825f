"""Run a network as one launch per shape: CUDA graphs where the device has them, plain calls where it has not."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any, cast

import torch
from torch import Tensor

from medfuse.gesenet.engines.folded import FoldedGeSeNet
from medfuse.gesenet.masks import fuse_and_hold

MOST_SHAPES = 4
"""Graphs kept; each holds the memory of all its feature maps."""

WARM_UPS = 3
"""Runs before a capture, so that no library decides or allocates anything inside it."""


class CudaGraphs:
    """Run a folded network with half-precision convolutions, as one graph for each shape met.

    On CUDA arithmetic is float16 and runs are captured; on a CPU it is bfloat16 and they are not.

    Parameters
    ----------
    network
        One that does not skip, which would be a decision that depends on values.
    """

    def __init__(self, network: FoldedGeSeNet) -> None:
        self.network = network
        self.device = device = network.device
        self.half = torch.float16 if device.type == "cuda" else torch.bfloat16
        # To find the air, the processor would have to wait for the device: that costs more than the air.
        self._all_seen = (
            torch.ones(1, dtype=torch.float32, device=device),
            torch.zeros(2, network.channels, dtype=torch.float32, device=device),
        )
        self._recording = lru_cache(MOST_SHAPES)(self._record)

    def __call__(self, mri: Tensor, partner: Tensor) -> Tensor:
        """Fuse (N, 1, H, W) pictures on the network's device."""
        if self.device.type != "cuda":
            return self._in_half(mri, partner)
        graph, places, fused = self._recording(mri.shape)
        for place, given in zip(places, (mri, partner), strict=True):
            place.copy_(given, non_blocking=True)
        graph.replay()
        return fused.clone()  # the next replay writes over it

    @torch.no_grad()
    def hold(self, mri: Tensor, partner: Tensor) -> tuple[Tensor, Callable[[Tensor, Tensor], Tensor]]:
        """Fuse pictures, and return besides what fuses others under the masks of these; neither by a graph."""
        return fuse_and_hold(self.network, mri, partner, self._in_half)

    def _in_half(self, mri: Tensor, partner: Tensor) -> Tensor:
        with torch.autocast(self.device.type, self.half):
            fused, _ = self.network(mri, partner, *self._all_seen)
        return cast("Tensor", fused).float()

    def _record(self, shape: torch.Size) -> tuple[torch.cuda.CUDAGraph, tuple[Tensor, Tensor], Tensor]:
        """Capture a run: its graph, and the places that it reads from and writes to."""
        both = torch.zeros((2, *shape), dtype=torch.float32, device=self.device)
        places = both[0], both[1]
        aside = cast("Any", torch.cuda).Stream(self.device)  # untyped in torch
        aside.wait_stream(torch.cuda.current_stream(self.device))
        with torch.cuda.stream(aside):
            for _ in range(WARM_UPS):
                self._in_half(*places)
        torch.cuda.current_stream(self.device).wait_stream(aside)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            fused = self._in_half(*places)
        return graph, places, fused
