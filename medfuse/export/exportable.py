"""Find the network of a fusion method, and what is to be said of it, for exporters."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from medfuse.errors import MethodError
from medfuse.gesenet.engines.registry import Engine
from medfuse.gesenet.loading import is_safetensors, load_network, weights_content
from medfuse.gesenet.network import GeSeNet
from medfuse.gesenet.weights import DEFAULT
from medfuse.methods import MethodLike, load_method
from medfuse.methods.method import FusionMethod, Method
from medfuse.methods.modules import Evaluated
from medfuse.methods.names import GESENET, parse_name
from medfuse.methods.origin import own_version
from medfuse.provenance import DISCLAIMER, software

CPU = torch.device("cpu")

INPUTS, OUTPUT = ("mri", "partner"), "fused"
"""What the tensors of exported files are called."""


@dataclass(frozen=True, eq=False)
class Exportable:
    """A network that can be traced, and what results say of it.

    Parameters
    ----------
    network
        Called with MRI and partner luma, (N, 1, H, W) float32 in [0, 1]; returns the fused luma likewise.
    name, version, source, weights
        As `medfuse.methods.FusionMethod` has them.
    content
        The file of weights as it was read, where it is a .safetensors file of GeSeNet.
    own_function
        Whether it is a function of medfuse's, without weights.
    method
        The same as a method that checks its results; None for GeSeNet.
    """

    network: nn.Module
    name: str
    version: str | None
    source: str | None
    weights: dict[str, str] | None
    content: bytes | None = None
    own_function: bool = False
    method: FusionMethod | None = None

    def facts(self) -> dict[str, Any]:
        """What every exported file says of itself."""
        return {
            "method": self.name,
            "version": self.version,
            "source": self.source,
            "weights": self.weights,
            "software": software(),
            "disclaimer": DISCLAIMER,
        }


class Clamped(nn.Module):
    """A method of others, whose values are cut to [0, 1] as `medfuse.methods.FusionMethod` does."""

    def __init__(self, fuse: Method) -> None:
        super().__init__()
        self.fuse = fuse

    def forward(self, mri: Tensor, partner: Tensor) -> Tensor:
        made: object = self.fuse(mri, partner)
        if not isinstance(made, Tensor):
            raise TypeError(f"it must return a tensor; found {type(made).__name__}")
        return made.clamp(0, 1)


def exportable(method: MethodLike = GESENET, weights: str | Path = DEFAULT) -> Exportable:
    """Load a method as `medfuse.methods.load_method` does, and take its network.

    Raises
    ------
    MethodError
        If there is no such method, or it holds no network that can be exported.
    WeightsError
        If the weights are not GeSeNet's.
    """
    if isinstance(method, str):
        parsed = parse_name(method)
        if parsed.name.partition(":")[0] == GESENET:
            if parsed.weights is not None and str(weights) != DEFAULT:
                raise MethodError(f"the weights are named twice, by {method!r} and by weights; give them once.")
            file = parsed.weights or weights
            network, content = load_network(file), weights_content(file)
            return _of_gesenet(network, content if is_safetensors(content[:16]) else None)
    found = load_method(method, weights=weights, device="cpu")
    if found.colour is not None:
        raise MethodError(
            f"the method {found.name} makes colours from colours, and it is luma that is exported; export the function "
            "or module that fuses luma."
        )
    fuse: Method = found.fuse
    if isinstance(fuse, Engine):
        fuse = fuse.fuse
    if isinstance(fuse, Evaluated):
        fuse = fuse.module
    if type(fuse) is GeSeNet:  # what is made from it may compute something else
        return _of_gesenet(fuse)
    if isinstance(found.fuse, Engine) and not isinstance(fuse, nn.Module):
        raise MethodError(
            f"the engine {found.engine} has compiled its network, which cannot be exported any more; give the weights, "
            "or a network of medfuse.gesenet.load_network."
        )
    learnt = dict(found.weights) if found.weights else None
    return Exportable(
        Clamped(fuse), found.name, found.version, found.source, learnt, own_function=found.own, method=found
    )


def _of_gesenet(network: GeSeNet, content: bytes | None = None) -> Exportable:
    return Exportable(network, GESENET, own_version(), "medfuse.gesenet", dict(network.origin), content)
