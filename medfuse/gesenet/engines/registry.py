"""Run a trained GeSeNet fast: engines with one interface, whose results agree within a stated tolerance.

The pictures are the same from every engine; what differs is what is computed. `reference` computes everything, as
PyTorch would. The others run the folded network (`folded`) and, but for `half`, leave out the air around the head
(`air_crop`).
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path

import torch
from torch import Tensor, nn

from medfuse.errors import DeviceError
from medfuse.gesenet.architecture import Parts
from medfuse.gesenet.device import resolve_device
from medfuse.gesenet.engines.air_crop import Cropped
from medfuse.gesenet.engines.calibration import harsh_pairs, phantom_pairs
from medfuse.gesenet.engines.cuda_graph import Captured
from medfuse.gesenet.engines.folded import FoldedGeSeNet
from medfuse.gesenet.loading import load_network
from medfuse.gesenet.network import GeSeNet

log = logging.getLogger(__name__)

AUTO = "auto"

SLACK = 1e-3
"""How far pictures may leave [0, 1]: rounding of interpolation and of float16."""

ALL_PARTS = Parts()

Pair = tuple[Tensor, Tensor]
"""MRI and partner, (N, 1, H, W) each."""

Fuse = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True, eq=False)
class Engine:
    """A network ready to run; called like it: (N, 1, H, W) MRI and partner in [0, 1] → (N, 1, H, W) float32 in [0, 1].

    Parameters
    ----------
    name
        One of `ENGINES`.
    device
        Where it computes. Pictures may lie elsewhere; the fused ones come back to where the MRI lies.
    tolerance
        How far its fused pictures may be from the reference's at any pixel, in shares of the full range; but where the
        two logits of a spatial mask tie within rounding, a pixel may be decided differently.
    origin
        Name and SHA-256 of the weights.
    """

    name: str
    device: torch.device
    tolerance: float
    origin: Mapping[str, str]
    fuse: Fuse = field(repr=False)

    @torch.inference_mode()
    def __call__(self, mri: Tensor, partner: Tensor) -> Tensor:
        if mri.shape != partner.shape or mri.ndim != 4 or mri.shape[1] != 1 or not mri.numel():
            raise ValueError(
                f"expected two (N, 1, H, W) tensors of one shape; found {tuple(mri.shape)} and {tuple(partner.shape)}."
            )
        if not mri.is_floating_point() or not partner.is_floating_point():
            raise ValueError(
                f"expected floating point in [0, 1]; found {mri.dtype} and {partner.dtype}. Scale the slices first."
            )
        _require_unit(mri, partner)
        fused = self.fuse(*(side.to(self.device, torch.float32, non_blocking=True) for side in (mri, partner)))
        return fused.float() if mri.device == self.device else fused.float().to(mri.device)


def _require_unit(*sides: Tensor) -> None:
    """Raise `ValueError` where a picture leaves [0, 1] or is no number: engines would make different things of it."""
    for side in sides:
        if side.is_cuda:
            continue  # to look, the processor would have to wait for the device
        # NumPy looks by one thread. Torch would wake its others, which then wait busily, in the way of an engine's own.
        values = side.to("cpu", torch.float32).numpy()
        lowest, highest = float(values.min()), float(values.max())
        if not (lowest >= -SLACK and highest <= 1 + SLACK):  # NaN is not
            raise ValueError(f"expected values in [0, 1]; found {lowest:g} to {highest:g}. Scale the slices first.")


@dataclass(frozen=True)
class Kind:
    """What there is to know of an engine before it is made.

    ``needs`` are the Python packages that it imports, ``extra`` what installs them; ``build`` makes the call of it.
    """

    meaning: str
    tolerance: float
    build: Callable[[GeSeNet, Sequence[Pair] | None], Fuse]
    needs: tuple[str, ...] = ()
    extra: str = ""
    cpu_only: bool = True
    lacks: Callable[[], str] = lambda: ""
    """What this machine lacks for it beside packages, empty if nothing."""
    whole_only: bool = False
    """Whether it runs only networks that have all their `Parts`."""


def _reference(network: GeSeNet, _: Sequence[Pair] | None) -> Fuse:
    return network


def _masked(network: GeSeNet, _: Sequence[Pair] | None) -> Fuse:
    folded = FoldedGeSeNet(network, skip=True)
    return Cropped(folded, folded)


def _compiled(network: GeSeNet, _: Sequence[Pair] | None) -> Fuse:
    folded = FoldedGeSeNet(network)
    return Cropped(folded, torch.compile(folded, options={"freezing": True}))


def _half(network: GeSeNet, _: Sequence[Pair] | None) -> Fuse:
    # To find the air, the processor would have to wait for the device: that costs more than the air.
    folded = FoldedGeSeNet(network)
    run = Captured(folded, folded.device)
    whole = torch.ones(1, device=folded.device), torch.zeros(2, folded.channels, device=folded.device)
    return lambda mri, partner: run(mri, partner, *whole)[0]


def _openvino(network: GeSeNet, precision: str) -> Fuse:
    from medfuse.gesenet.engines import openvino_graph

    folded = FoldedGeSeNet(network)
    return Cropped(folded, openvino_graph.compile_graph(openvino_graph.float_graph(folded), precision, folded))


def _tiled(network: GeSeNet, _: Sequence[Pair] | None) -> Fuse:
    from medfuse.gesenet.engines.winograd.tiled import Tiled

    return Tiled(FoldedGeSeNet(network))


def _tiled_int16(network: GeSeNet, pairs: Sequence[Pair] | None) -> Fuse:
    from medfuse.gesenet.engines.winograd.tiled import Tiled

    return Tiled(FoldedGeSeNet(network), pairs or [*phantom_pairs()[2::5], *harsh_pairs()])


def _no_avx2() -> str:
    from medfuse.gesenet.engines.winograd import simd

    return "" if simd.has_avx2() else "a processor with AVX2"


def _no_compiler() -> str:
    return "" if any(map(shutil.which, ("c++", "g++", "clang++", "cl"))) else "a C++ compiler"


def _no_bfloat16() -> str:
    from medfuse.gesenet.engines import openvino_graph

    return "" if openvino_graph.has_bfloat16() else "a processor with bfloat16 arithmetic"


EXACT, INT16, HALF = 1e-4, 0.03, 0.05

ENGINES: dict[str, Kind] = {
    "reference": Kind("PyTorch, everything computed, float32", 0.0, _reference, cpu_only=False),
    "masked": Kind("PyTorch, redundant channels only where the masks ask for them, float32", EXACT, _masked),
    "tiled": Kind(
        "Numba, tile by tile what masks and air leave, Winograd's convolution, float32",
        EXACT,
        _tiled,
        ("numba",),
        "numba",
        whole_only=True,
    ),
    "tiled-int16": Kind(
        "the same in 16-bit integers, ranges from the phantom, noise and blocks",
        INT16,
        _tiled_int16,
        ("numba",),
        "numba",
        lacks=_no_avx2,
        whole_only=True,
    ),
    "compiled": Kind("torch.compile, float32; compiles for minutes", EXACT, _compiled, lacks=_no_compiler),
    "half": Kind("PyTorch, float16 and CUDA graphs; bfloat16 on a CPU", HALF, _half, cpu_only=False),
    "openvino": Kind(
        "OpenVINO, float32", EXACT, lambda network, _: _openvino(network, "f32"), ("openvino",), "openvino"
    ),
    "openvino-bf16": Kind(
        "OpenVINO, bfloat16",
        HALF,
        lambda network, _: _openvino(network, "bf16"),
        ("openvino",),
        "openvino",
        lacks=_no_bfloat16,
    ),
}
"""All engines by name."""

FASTEST_FIRST = {"cpu": ("tiled", "openvino", "masked"), "cuda": ("half",)}
"""What ``auto`` tries. On a CPU only what leaves the pictures as they are: bfloat16 moves scores, and is asked for by
name. Not `compiled`, whose compiler takes longer than a study."""


def load_engine(
    engine: str = AUTO,
    device: str = "cpu",
    weights: str | Path = "default",
    *,
    calibration: Sequence[Pair] | None = None,
) -> Engine:
    """Load weights into an engine, and run it once so that the first picture does not wait.

    Parameters
    ----------
    engine
        One of `ENGINES`, or ``auto`` for the fastest that is installed and fits the device. Its choice is the
        ``name`` of what is returned, and is logged.
    device
        ``cpu``, ``cuda``, ``cuda:N`` or ``auto``.
    weights
        ``default`` or a weights file; see `load_network`.
    calibration
        Pairs (N, 1, H, W) in [0, 1] from which ``tiled-int16``, and no other engine, takes the ranges of its integers;
        the built-in phantom's slices, noise and blocks if None.

    Returns
    -------
    Engine
        Called like the network.

    Raises
    ------
    DeviceError
        If there is no such engine or device, or the engine does not run here; says what would help.
    WeightsError
        If the weights are not GeSeNet's.
    """
    target = resolve_device(device)
    obstacle = "" if engine == AUTO else why_not(engine, target)
    if obstacle:
        raise DeviceError(obstacle)
    network = load_network(weights, str(target))
    if engine == AUTO:
        engine = next(name for name in FASTEST_FIRST[target.type] if not why_not(name, target, network.parts))
    obstacle = why_not(engine, target, network.parts)
    if obstacle:
        raise DeviceError(obstacle)
    kind = ENGINES[engine]
    ready = Engine(engine, target, kind.tolerance, network.origin, kind.build(network, calibration))
    ready(*torch.zeros(2, 1, 1, 32, 32, device=target).unbind())
    log.info("engine %s on %s: %s", engine, target, kind.meaning)
    return ready


def why_not(engine: str, device: torch.device, parts: Parts = ALL_PARTS) -> str:
    """Say in a sentence why an engine does not run here: on a device, a network of parts; empty if it does."""
    if engine not in ENGINES:
        return f"expected an engine of {AUTO}, {', '.join(ENGINES)}; found {engine!r}."
    kind = ENGINES[engine]
    if kind.cpu_only and device.type != "cpu":
        others = ", ".join(name for name, other in ENGINES.items() if not other.cpu_only)
        return f"the engine {engine} runs on the CPU only; for {device} use auto or one of {others}."
    missing = [package for package in kind.needs if find_spec(package) is None]
    if missing:
        return (
            f"the engine {engine} needs {' and '.join(missing)}, not installed here; install "
            f"medfuse[{kind.extra}], or use auto."
        )
    if kind.whole_only and parts != ALL_PARTS:
        return (
            f"the engine {engine} runs networks that have all their parts, and these weights leave some out; use auto."
        )
    lacking = kind.lacks()
    return f"the engine {engine} needs {lacking}, which is not here; use auto." if lacking else ""


def as_engine(network: nn.Module | Engine) -> Engine:
    """A network as it is, without folding or compiling, behind the interface of engines."""
    if isinstance(network, Engine):
        return network
    device = next(network.parameters()).device
    network.eval()
    return Engine("reference", device, 0.0, getattr(network, "origin", {}), network)
