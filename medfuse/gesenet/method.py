"""Offer GeSeNet as a fusion method: an engine with its weights under the interface of all methods."""

from __future__ import annotations

from pathlib import Path

from medfuse.gesenet.engines.registry import GESENET, Engine, as_engine, load_engine
from medfuse.gesenet.network import GeSeNet
from medfuse.methods.method import FusionMethod
from medfuse.methods.names import GESENET as NAME
from medfuse.methods.origin import named_by, own_version
from medfuse.runtime.progress import Progress

GREY_LIMIT = 8 / 255
"""Brightness above both sources that an eye hardly tells from them; `medfuse.metrics` counts more as overshoot."""


def load(
    engine: str | Engine | GeSeNet, device: str, weights: str | Path = "default", progress: Progress | None = None
) -> FusionMethod:
    """Load GeSeNet as `medfuse.gesenet.load_engine` does, or take an engine or a network that was loaded before.

    An engine that somebody else made is named by what it calls, and its results are checked.
    """
    ready = load_engine(engine, device, weights, progress=progress) if isinstance(engine, str) else as_engine(engine)
    if ready.network == GESENET:
        return FusionMethod(
            NAME,
            ready,
            version=own_version(),
            source="medfuse.gesenet",
            weights=dict(ready.origin),
            engine=ready.name,
            device=ready.device,
            hold=ready.hold,
            grey_limit=GREY_LIMIT,
            own=True,
        )
    source = named_by(ready.fuse)
    return FusionMethod(
        source, ready, source=source, weights=dict(ready.origin) or None, engine=ready.name, device=ready.device
    )
