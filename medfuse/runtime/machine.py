"""Describe the machine that a benchmark runs on: memory, matrix products, and what is installed."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Iterator
from importlib.metadata import version
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch


def peak_mib() -> float | None:
    """The most memory this process has held, MiB; None where the system does not say."""
    status = Path("/proc/self/status")
    if status.exists():  # elsewhere than in `ru_maxrss`, Linux does not count what the parent process held
        held = [line.split()[1] for line in status.read_text().splitlines() if line.startswith("VmHWM:")]
        if held:
            return int(held[0]) / 2**10
    try:
        import resource
    except ImportError:  # Windows
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2**20 if platform.system() == "Darwin" else peak / 2**10


def forgot_peak() -> bool:
    """Let `peak_mib` begin anew; False where the system cannot."""
    try:
        Path("/proc/self/clear_refs").write_text("5")  # proc(5)
    except OSError:
        return False
    return True


def matmul_rates(device: torch.device, size: int = 1024) -> Iterator[tuple[torch.dtype, float]]:
    """The best rate of a square matrix product, in GFLOP per second of processor time on a CPU."""
    clock = time.process_time if device.type == "cpu" else time.perf_counter
    for kind in (torch.float32, torch.bfloat16):
        left, right = torch.rand((2, size, size), device=device).to(kind)
        times = [clock()]
        for _ in range(8):
            left @ right
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            times.append(clock())
        yield kind, 2 * size**3 / min(after - before for before, after in pairwise(times)) / 1e9


def environment(device: str) -> dict[str, Any]:
    """Machine, threads and versions, plain values for JSON."""
    packages = ("medfuse", "torch", "numba", "SimpleITK", "pydicom")
    return {
        "platform": platform.platform(),
        "processor": platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "load_average": list(os.getloadavg()) if hasattr(os, "getloadavg") else None,
        "device": torch.cuda.get_device_name(device) if device.startswith("cuda") else device,
        "python": platform.python_version(),
        "versions": {name: version(name) for name in packages if find_spec(name)},
    }
