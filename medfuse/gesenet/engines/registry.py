"""Choose an engine by name, or the fastest that runs here, and load trained weights into it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from medfuse.errors import DeviceError, did_you_mean
from medfuse.gesenet.architecture import Parts
from medfuse.gesenet.engines import AUTO, ENGINE_NAMES
from medfuse.gesenet.engines.air_crop import AirCrop
from medfuse.gesenet.engines.cuda_graph import CudaGraphs
from medfuse.gesenet.engines.folded import FoldedGeSeNet
from medfuse.gesenet.loading import load_network
from medfuse.gesenet.masks import fuse_and_hold
from medfuse.gesenet.network import GeSeNet
from medfuse.methods.modules import Evaluated, device_of
from medfuse.runtime.device import resolve_device
from medfuse.runtime.progress import Progress
from medfuse.runtime.torch_settings import default_settings

log = logging.getLogger(__name__)

SLACK = 1e-3
"""How far pictures may leave [0, 1]: rounding of interpolation and of float16."""

ALL_PARTS = Parts()

GESENET = "GeSeNet"
"""What provenance calls the network of the engines here."""

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
    network
        What it runs, as provenance names it: GeSeNet where `load_engine` made it; None for an engine of other making,
        which is named by what it calls.
    """

    name: str
    device: torch.device
    tolerance: float
    origin: Mapping[str, str]
    fuse: Fuse = field(repr=False)
    network: str | None = None

    @default_settings()
    def __call__(self, mri: Tensor, partner: Tensor) -> Tensor:
        return self._run(self.fuse, mri, partner)

    @default_settings()
    def hold(self, mri: Tensor, partner: Tensor) -> tuple[Tensor, Fuse]:
        """Fuse pictures, and return besides what fuses others under the spatial masks that these led to.

        Others are of their size, and 0 wherever both of these are 0. An engine of other making, which has no masks,
        fuses them as any.
        """
        held: list[Fuse] = []

        def holding(mri: Tensor, partner: Tensor) -> Tensor:
            fused, fuse = _held(self.fuse, mri, partner)
            held.append(fuse)
            return fused

        fused = self._run(holding, mri, partner)
        return fused, partial(self._run, held[0])

    def _run(self, fuse: Fuse, mri: Tensor, partner: Tensor) -> Tensor:
        if mri.shape != partner.shape or mri.ndim != 4 or mri.shape[1] != 1 or not mri.numel():
            raise ValueError(
                f"expected two (N, 1, H, W) tensors of one shape; found {tuple(mri.shape)} and {tuple(partner.shape)}."
            )
        if not mri.is_floating_point() or not partner.is_floating_point():
            raise ValueError(
                f"expected floating point in [0, 1]; found {mri.dtype} and {partner.dtype}. Scale the slices first."
            )
        _require_unit(mri, partner)
        fused = fuse(*(side.to(self.device, torch.float32, non_blocking=True) for side in (mri, partner)))
        return fused.float() if mri.device == self.device else fused.float().to(mri.device)


@runtime_checkable
class Holding(Protocol):
    """What fuses pictures, and knows how to hold what they decided."""

    def hold(self, mri: Tensor, partner: Tensor) -> tuple[Tensor, Fuse]:
        """Fuse pictures, and return besides what fuses others under the spatial masks of these."""


def _held(fuse: Fuse, mri: Tensor, partner: Tensor) -> tuple[Tensor, Fuse]:
    """Fuse pictures, and return besides what fuses others under the spatial masks of these, as far as there are any."""
    if isinstance(fuse, Holding):
        return fuse.hold(mri, partner)
    network = fuse.module if isinstance(fuse, Evaluated) else fuse
    if isinstance(network, nn.Module):
        return fuse_and_hold(network, mri, partner, fuse)
    return fuse(mri, partner), fuse


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
class EngineKind:
    """What there is to know of an engine before it is made; ``build`` makes the call of it, and tells of compiling."""

    tolerance: float
    build: Callable[[GeSeNet, Progress | None], Fuse]
    cpu_only: bool = True
    compiled_by: str = ""
    """The package that compiles it."""
    whole_only: bool = False
    """Whether it runs only networks that have all their `Parts`."""


def _tiled(network: GeSeNet, progress: Progress | None) -> Fuse:
    from medfuse.gesenet.engines.winograd.tiled import Tiled

    tiled = Tiled(FoldedGeSeNet(network))
    tiled.compile(progress)
    return tiled


EXACT, HALF = 1e-4, 0.05

ENGINES: dict[str, EngineKind] = {
    "reference": EngineKind(0.0, lambda network, _: network, cpu_only=False),
    "masked": EngineKind(EXACT, lambda network, _: AirCrop(FoldedGeSeNet(network, skip=True))),
    "tiled": EngineKind(EXACT, _tiled, compiled_by="numba", whole_only=True),
    "half": EngineKind(HALF, lambda network, _: CudaGraphs(FoldedGeSeNet(network)), cpu_only=False),
}
"""All engines by name, in the order of `ENGINE_NAMES`."""

FASTEST_FIRST = {"cpu": ("tiled", "masked"), "cuda": ("half",)}
"""What ``auto`` tries. On a CPU only what leaves the pictures as they are: bfloat16 is asked for by name."""


@default_settings()
def load_engine(
    engine: str = AUTO, device: str = "cpu", weights: str | Path = "default", *, progress: Progress | None = None
) -> Engine:
    """Load weights into an engine, and run it once so that the first picture does not wait.

    ``tiled`` is compiled when it is first used on a machine, which takes about 15 s, is logged, and is kept on disk.

    Parameters
    ----------
    engine
        One of `ENGINES`, or ``auto`` for the fastest that runs here. Its choice is the ``name`` of what is returned,
        and is logged.
    device
        ``cpu``, ``cuda``, ``cuda:N`` or ``auto``.
    weights
        ``default`` or a weights file; see `load_network`.
    progress
        Called with ``"compile"`` and the share of it that is done, from 0 to 1, if there is something to compile.

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
    network = load_network(weights, str(target))
    if engine == AUTO:
        engine = next(name for name in FASTEST_FIRST[target.type] if not why_not(name, target, network.parts))
    obstacle = why_not(engine, target, network.parts)
    if obstacle:
        raise DeviceError(obstacle)
    kind = ENGINES[engine]
    ready = Engine(engine, target, kind.tolerance, network.origin, kind.build(network, progress), GESENET)
    ready(*torch.zeros(2, 1, 1, 32, 32, dtype=torch.float32, device=target).unbind())
    log.info("engine %s on %s: %s", engine, target, ENGINE_NAMES[engine])
    return ready


def why_not(engine: str, device: torch.device, parts: Parts = ALL_PARTS) -> str:
    """Say in a sentence why an engine does not run here: on a device, a network of parts; empty if it does."""
    if engine not in ENGINES:
        return f"expected an engine of {AUTO}, {', '.join(ENGINES)}; found {engine!r}.{did_you_mean(engine, ENGINES)}"
    kind = ENGINES[engine]
    if kind.cpu_only and device.type != "cpu":
        others = ", ".join(name for name, other in ENGINES.items() if not other.cpu_only)
        return f"the engine {engine} runs on the CPU only; for {device} use auto or one of {others}."
    if kind.compiled_by and not _imports(kind.compiled_by):
        return f"the engine {engine} needs {kind.compiled_by}, which cannot be imported here; install it, or use auto."
    if kind.whole_only and parts != ALL_PARTS:
        return (
            f"the engine {engine} runs networks that have all their parts, and these weights leave some out; use auto."
        )
    return ""


def compiled_code_folder(engine: str) -> Path | None:
    """Folder that keeps the compiled code of an engine that was loaded; None if it has none, or no folder took it."""
    if not ENGINES[engine].compiled_by:
        return None
    from medfuse.gesenet.engines.winograd.compile_cache import folder_of
    from medfuse.gesenet.engines.winograd.interpreter import run

    return folder_of(run)


def _imports(package: str) -> bool:
    """Whether a package is here and works; one that does not fit this Python or NumPy says so when it is imported."""
    try:
        import_module(package)
    except (ImportError, OSError) as error:  # OSError: llvmlite without its library
        log.debug("%s: %s", package, error)
        return False
    return True


def as_engine(network: nn.Module | Engine) -> Engine:
    """A network as it is, without folding or compiling, behind the interface of engines.

    An engine of such a network gets the origin of what that has learnt so far. A class of others that is made from
    GeSeNet's may compute something else, and does not count as GeSeNet.
    """
    if isinstance(network, Engine):
        runs = network.fuse.module if isinstance(network.fuse, Evaluated) else None
        return replace(network, origin=runs.origin) if isinstance(runs, GeSeNet) else network
    device = device_of(network)
    known = GESENET if type(network) is GeSeNet else None
    return Engine("reference", device, 0.0, getattr(network, "origin", {}), Evaluated(network, device), known)
