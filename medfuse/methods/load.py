"""Make a fusion method ready to run: by name, or from a function or torch module of the caller."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from importlib import import_module, util
from pathlib import Path
from types import ModuleType
from typing import Protocol, TypeAlias, cast, runtime_checkable

import torch
from torch import nn

from medfuse.errors import MedfuseError, MethodError
from medfuse.methods.blend import overlay
from medfuse.methods.classic import CLASSIC, average
from medfuse.methods.method import FusionMethod, Method
from medfuse.methods.modules import STATE, Evaluated, device_for, weights_of
from medfuse.methods.names import BUILT_IN, GESENET, ParsedName, entry_named, package_version, parse_name
from medfuse.methods.origin import checksum_of, named_by, own_version, version_of
from medfuse.runtime.progress import Progress

DEFAULT, AUTO = "default", "auto"


@runtime_checkable
class ReadyEngine(Protocol):
    """An engine of `medfuse.gesenet` that was loaded before."""

    @property
    def name(self) -> str:
        """What provenance calls it."""

    @property
    def device(self) -> torch.device:
        """Where it computes."""

    @property
    def origin(self) -> Mapping[str, str]:
        """Name and SHA-256 of its weights."""


MethodLike: TypeAlias = "str | Method | nn.Module | FusionMethod | ReadyEngine"
"""What stands for a method: its name, a function of two slabs, a torch module, or what is ready to run."""


def load_method(
    method: MethodLike = GESENET,
    *,
    weights: str | Path = DEFAULT,
    engine: str | ReadyEngine = AUTO,
    device: str = AUTO,
    progress: Progress | None = None,
) -> FusionMethod:
    """Make a fusion method ready to run.

    Parameters
    ----------
    method
        ``gesenet``, ``max``, ``average``, ``laplacian``, ``guided-filter`` or ``blend``; ``gesenet:FILE`` with the
        weights of a file; a name that an installed package adds; ``FILE.py:NAME`` or ``package.module:NAME``, a
        function or class there; a callable of MRI and partner luma, both (B, 1, H, W) float32 in [0, 1], that returns
        the fused luma likewise; a torch module, called alike; or an engine of `medfuse.gesenet`. A class is made
        without arguments.
    weights, engine
        Of ``gesenet`` alone; see `medfuse.gesenet.load_engine`.
    device
        ``auto``, ``cpu`` or ``cuda``: where networks run. Callables get their slabs on the CPU.
    progress
        Called with ``compile`` where an engine is compiled.

    Raises
    ------
    MethodError
        If there is no such method, it cannot be loaded, or weights or an engine are given for one that has none.
    WeightsError, DeviceError
        As `medfuse.gesenet.load_engine`.
    """
    parsed = parse_name(method) if isinstance(method, str) else None
    if parsed is not None and parsed.name.partition(":")[0] == GESENET:
        if parsed.weights is not None and str(weights) != DEFAULT:
            raise MethodError(f"the weights are named twice, by {parsed.name!r} and by weights; give them once.")
        gesenet = import_module("medfuse.gesenet.method")  # by name: nothing else here needs the network
        return cast("FusionMethod", gesenet.load(engine, device, parsed.weights or weights, progress))
    # A network of GeSeNet itself has no name of its own, and is run as an engine.
    if isinstance(method, ReadyEngine) or type(method).__module__.startswith("medfuse.gesenet."):
        require_no_network("an engine that is loaded already", weights=weights, engine=engine)
        return cast("FusionMethod", import_module("medfuse.gesenet.method").load(method, device))
    require_no_network(parsed.name if parsed else "a method of your own", weights=weights, engine=engine)
    if parsed is None:
        return _from_object(method, device)
    if parsed.name in BUILT_IN:
        return _built_in(parsed.name)
    return _named(parsed, device)


def require_no_network(name: str, *, weights: str | Path, engine: str | ReadyEngine) -> None:
    """Raise `MethodError` where weights or an engine of GeSeNet are given beside another method."""
    given = "weights" if str(weights) != DEFAULT else "an engine" if engine != AUTO else None
    if given is not None:
        raise MethodError(
            f"{given} of GeSeNet cannot be used by {name}; leave that out (weights, --weights, engine, --engine), or "
            f"take the method {GESENET!r}."
        )


def _built_in(name: str) -> FusionMethod:
    fuse = average if name == "blend" else CLASSIC[name]
    shown = overlay if name == "blend" else None
    return FusionMethod(name, fuse, own_version(), named_by(shown or fuse), colour=shown, own=True)


def _named(parsed: ParsedName, device: str) -> FusionMethod:
    """A method of a package or of a file."""
    if parsed.module is None:
        entry = entry_named(parsed.name)
        with _told(f"the method {parsed.name!r} of {package_version(entry) or entry.value}"):
            found = entry.load()
        return _from_object(found, device, parsed.name, package_version(entry), entry.value)
    file = parsed.file
    with _told(f"the method {parsed.name[:200]!r}"):
        module = import_module(parsed.module) if file is None else _imported(file)
    if not hasattr(module, parsed.attribute):
        raise MethodError(
            f"expected {parsed.attribute!r} in {parsed.module[:200]}; there is nothing of this name. Give that of a "
            "function or class there."
        )
    # The name alone: the folders of a path may tell whose study lies there.
    source = f"{parsed.module if file is None else file.name}:{parsed.attribute}"
    version = version_of(source) if file is None else checksum_of(file)
    return _from_object(getattr(module, parsed.attribute), device, source, version, source)


def _from_object(
    found: object, device: str, name: str | None = None, version: str | None = None, source: str | None = None
) -> FusionMethod:
    """A function, class, torch module or ready method of others, under a name or that of its own."""
    if isinstance(found, FusionMethod):
        return _as_it_is_now(found)
    if isinstance(found, type):
        with _told(f"the method {name or named_by(found)!r}"):
            found = found()
    source = source or named_by(found)
    if not callable(found):
        raise MethodError(
            f"expected a method as a name, a callable or a torch module; found {type(found).__name__}. It is called "
            "with MRI and partner luma."
        )
    name, version = name or source, version or version_of(source)
    if not isinstance(found, nn.Module):
        return FusionMethod(name, found, version, source)
    there = device_for(found, device)
    return FusionMethod(name, Evaluated(found, there), version, source, weights_of(found), device=there)


def _as_it_is_now(method: FusionMethod) -> FusionMethod:
    """A ready method with the checksum of what its network holds now: it may have learnt since it was loaded."""
    if method.own and isinstance(method.fuse, ReadyEngine):
        ready = import_module("medfuse.gesenet.method").load(method.fuse, AUTO)
        return replace(method, weights=ready.weights)
    if isinstance(method.fuse, Evaluated) and method.weights and method.weights["name"] == STATE:
        return replace(method, weights=weights_of(method.fuse.module))
    return method


def require_as_loaded(method: FusionMethod) -> None:
    """Raise `MethodError` where a network has learnt since results were said to be fused by it."""
    if _as_it_is_now(method).weights != method.weights:
        raise MethodError(
            f"the weights of the method {method.name} have changed since fuse was called, and its results would name "
            "the earlier ones; call fuse again, or without lazy."
        )


def _imported(file: Path) -> ModuleType:
    """Run a Python file as a module; modules beside it can be imported by it while it runs, as by ``python FILE``."""
    spec = util.spec_from_file_location(f"medfuse_method_{file.stem}", file)
    if spec is None or spec.loader is None:
        raise MethodError(f"{file} is no Python file; give FILE.py:NAME.")
    module = util.module_from_spec(spec)
    folder = str(file.resolve().parent)
    sys.modules[module.__name__] = module  # dataclasses and pickle look there
    sys.path.insert(0, folder)
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[module.__name__]
        raise
    finally:
        sys.path.remove(folder)
    return module


@contextmanager
def _told(what: str) -> Iterator[None]:
    """Turn whatever code of others raises while it is loaded into one sentence."""
    try:
        yield
    except MedfuseError:
        raise
    except (Exception, SystemExit) as error:
        reason = " ".join(str(error).split())[:200]
        raise MethodError(
            f"{what} cannot be loaded: {type(error).__name__}: {reason}. Make it importable, and its class without "
            "arguments."
        ) from error
