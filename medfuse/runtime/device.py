"""Choose the device that the work runs on."""

from __future__ import annotations

import torch

from medfuse.errors import DeviceError, counted


def resolve_device(device: str) -> torch.device:
    """Turn ``auto``, ``cpu``, ``cuda`` or ``cuda:N`` into a device.

    Raises
    ------
    DeviceError
        If it is not there.
    """
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        resolved = torch.device(device)
    except RuntimeError:
        resolved = None
    if resolved is None or resolved.type not in ("cpu", "cuda"):
        raise DeviceError(f"expected a device auto, cpu or cuda; found {device!r}.")
    if resolved.type == "cuda" and (resolved.index or 0) >= torch.cuda.device_count():
        raise DeviceError(
            f"the device {device} was asked for, but this machine offers "
            f"{counted(torch.cuda.device_count(), 'CUDA device')}; use cpu or auto."
        )
    return resolved
