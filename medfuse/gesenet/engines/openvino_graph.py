"""OpenVINO's view of the folded network: float32, or bfloat16 where the processor has it.

Imported only where OpenVINO is installed; see `medfuse.gesenet.engines.registry`.
"""

from __future__ import annotations

import sys
import warnings
from typing import Any, cast

import torch
from torch import Tensor

from medfuse.gesenet.engines.air_crop import Run
from medfuse.gesenet.engines.folded import FoldedGeSeNet

_reporting = "openvino_telemetry"

# OpenVINO reports each import and each conversion to Google Analytics unless its user has opted out, from processes
# that run the user's program anew. It goes without where what reports cannot be imported; what is None here cannot.
_free = _reporting not in sys.modules
if _free:
    sys.modules[_reporting] = cast("Any", None)

import openvino as ov  # noqa: E402

if _free:
    del sys.modules[_reporting]

LEAST_SIDE = 2
"""OpenVINO takes a doubled length for at least 2 even where it is cut again, and returns stale values for less."""


def has_bfloat16() -> bool:
    """Whether this processor multiplies in bfloat16 by itself."""
    return "BF16" in ov.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")


def float_graph(network: FoldedGeSeNet) -> ov.Model:
    """The network as OpenVINO's graph, for any batch, height and width."""
    pair = torch.zeros(2, 1, 1, 32, 32).unbind()
    example = (*pair, torch.ones(1), torch.zeros(2, network.channels))
    with torch.inference_mode(), warnings.catch_warnings():
        # The converter traces, which torch would rather have replaced; and tracing warns of every decision it freezes.
        warnings.simplefilter("ignore")
        graph = ov.convert_model(network, example_input=example)
    pictures = ov.PartialShape([-1, 1, -1, -1])
    graph.reshape({0: pictures, 1: pictures, 2: ov.PartialShape([1]), 3: ov.PartialShape([2, network.channels])})
    return graph


def compile_graph(graph: ov.Model, precision: str, network: FoldedGeSeNet) -> Run:
    """Compile for this processor and as many threads as torch uses."""
    settings: dict[str, Any] = {
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_PRECISION_HINT": precision,
        "INFERENCE_NUM_THREADS": torch.get_num_threads(),
        "ENABLE_CPU_PINNING": False,
    }
    request = ov.Core().compile_model(graph, "CPU", settings).create_infer_request()

    def run(*inputs: Tensor) -> tuple[Tensor, Tensor]:
        if min(inputs[0].shape[-2:]) < LEAST_SIDE:
            return cast("tuple[Tensor, Tensor]", network(*inputs))
        results = request.infer([part.contiguous().numpy() for part in inputs])
        if results[0].shape != tuple(inputs[0].shape):  # stale, where a graph does not fit a size
            raise RuntimeError(f"OpenVINO returned {results[0].shape} for {tuple(inputs[0].shape)}.")
        return torch.from_numpy(results[0]), torch.from_numpy(results[1])

    return run
