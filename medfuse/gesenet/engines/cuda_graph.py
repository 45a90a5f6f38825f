"""Run a network as one launch per shape: CUDA graphs where the device has them, plain calls where it has not."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor

from medfuse.gesenet.engines.air_crop import Run

MOST_SHAPES = 4
"""Graphs kept; each holds the memory of all its feature maps."""

WARM_UPS = 3
"""Runs before a capture, so that no library decides or allocates anything inside it."""


@dataclass(frozen=True)
class Recording:
    """A captured run and the places that it reads from and writes to."""

    graph: torch.cuda.CUDAGraph
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, Tensor]

    def replay(self, inputs: tuple[Tensor, ...]) -> tuple[Tensor, Tensor]:
        for place, given in zip(self.inputs, inputs, strict=True):
            place.copy_(given, non_blocking=True)
        self.graph.replay()
        # The next replay writes over them.
        return self.outputs[0].clone(), self.outputs[1].clone()


class CudaGraphs:
    """Run with half-precision convolutions, as one graph for each shape met.

    Parameters
    ----------
    run
        As `FoldedGeSeNet.forward`, without decisions that depend on values.
    device
        Where it runs. On CUDA arithmetic is float16 and runs are captured; on a CPU it is bfloat16 and they are not.
    """

    def __init__(self, run: Run, device: torch.device) -> None:
        self.run = run
        self.device = device
        self.half = torch.float16 if device.type == "cuda" else torch.bfloat16
        self._recordings: OrderedDict[tuple[torch.Size, ...], Recording] = OrderedDict()

    def __call__(self, *inputs: Tensor) -> tuple[Tensor, Tensor]:
        if self.device.type != "cuda":
            return self._in_half(*inputs)
        shapes = tuple(given.shape for given in inputs)
        recording = self._recordings.get(shapes) or self._record(inputs)
        self._recordings[shapes] = recording
        self._recordings.move_to_end(shapes)
        if len(self._recordings) > MOST_SHAPES:
            self._recordings.popitem(last=False)
        return recording.replay(inputs)

    def _in_half(self, *inputs: Tensor) -> tuple[Tensor, Tensor]:
        with torch.autocast(self.device.type, self.half):
            mri, partner, seen, unseen = inputs
            fused, gates = self.run(mri, partner, seen, unseen)
        return fused.float(), gates.float()

    def _record(self, inputs: tuple[Tensor, ...]) -> Recording:
        places = tuple(given.clone() for given in inputs)
        aside = cast("Any", torch.cuda).Stream(self.device)  # untyped in torch
        aside.wait_stream(torch.cuda.current_stream(self.device))
        with torch.cuda.stream(aside):
            for _ in range(WARM_UPS):
                self._in_half(*places)
        torch.cuda.current_stream(self.device).wait_stream(aside)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            outputs = self._in_half(*places)
        return Recording(graph, places, outputs)
