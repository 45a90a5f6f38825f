"""Run a torch module of a caller as a fusion method, and leave it as it was."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from medfuse.runtime.device import resolve_device

AUTO_DEVICE = "auto"

STATE = "state_dict"
"""What provenance calls numbers of a module that are those of no file."""


@dataclass(frozen=True, eq=False)
class Evaluated:
    """A module in evaluation mode on a device while it is called, and as it was before in between.

    Nothing is copied: what the module learns later counts for slices that are fused later.
    """

    module: nn.Module
    device: torch.device

    def __call__(self, mri: Tensor, luma: Tensor) -> Tensor:
        with evaluated(self.module, self.device), torch.no_grad():
            fused: Tensor = self.module(mri, luma)
        return fused


@dataclass
class _State:
    callers: int
    training: list[tuple[nn.Module, bool]]
    device: torch.device | None


_states: WeakKeyDictionary[nn.Module, _State] = WeakKeyDictionary()
"""Modules that are being called: several threads may share one, and only the last gives it back."""

_lock = threading.Lock()


@contextmanager
def evaluated(module: nn.Module, device: torch.device) -> Iterator[None]:
    """Put a module into evaluation mode on a device, and give every part its mode and the module its device back."""
    with _lock:
        state = _states.get(module)
        if state is None:
            at = device_of(module)
            state = _State(0, [(part, part.training) for part in module.modules()], at if at != device else None)
            _states[module] = state
            module.eval()
            if state.device is not None:
                module.to(device)
        state.callers += 1
    try:
        yield
    finally:
        with _lock:
            state.callers -= 1
            if state.callers == 0:
                del _states[module]
                if state.device is not None:
                    module.to(state.device)
                for part, training in state.training:
                    part.training = training


def device_of(module: nn.Module) -> torch.device:
    """Where the parameters of a module lie, or its buffers; the CPU where it has neither."""
    return next((value.device for value in chain(module.parameters(), module.buffers())), torch.device("cpu"))


def device_for(module: nn.Module, device: str) -> torch.device:
    """The device asked for; with ``auto`` the module's own where that is no CPU, else the fastest that is there.

    Raises
    ------
    DeviceError
        If it is not there.
    """
    own = device_of(module)
    if device == AUTO_DEVICE and own.type != "cpu":
        return own
    wanted = resolve_device(device)
    return own if own.type == wanted.type and wanted.index is None else wanted


def weights_of(module: nn.Module) -> dict[str, str] | None:
    """Name and SHA-256 of what a module has learnt so far; None where it holds nothing."""
    digest = checksum(module)
    return {"name": STATE, "sha256": digest} if digest else None


def checksum(module: nn.Module) -> str | None:
    """SHA-256 of what a module has learnt: names, types, shapes and values; None where it holds nothing."""
    state = {name: value for name, value in module.state_dict().items() if isinstance(value, Tensor)}
    if not state:
        return None
    digest = hashlib.sha256()
    for name, value in sorted(state.items()):
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
        digest.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
