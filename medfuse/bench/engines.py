"""Time the engines on this machine, against the published program and against the machine itself.

Everything that is compared is timed in turns within one run: what else the machine does then slows all alike. Processor
time stands beside the time on the clock, for on a shared machine only the former is the program's own.
"""

from __future__ import annotations

import math
import multiprocessing
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode

from medfuse.bench.phantom_pair import phantom_pair
from medfuse.bench.published import as_published
from medfuse.errors import StudyError
from medfuse.gesenet.batches import fuse_slices
from medfuse.gesenet.engines.folded import FoldedGeSeNet
from medfuse.gesenet.engines.registry import ENGINES, Engine, load_engine, why_not
from medfuse.gesenet.loading import load_network
from medfuse.gesenet.network import GeSeNet
from medfuse.gesenet.training.dataset import read_picture, unit
from medfuse.intensity import Window
from medfuse.intensity.air_mask import AirMask
from medfuse.load_study import load
from medfuse.phantom import phantom_study
from medfuse.pipeline.fuse import fuse
from medfuse.pipeline.steps import blacken_air
from medfuse.runtime.device import resolve_device
from medfuse.runtime.machine import environment, forgot_peak, matmul_rates, peak_mib
from medfuse.runtime.progress import Progress, step_of
from medfuse.volume import Modality, make_volume
from medfuse.volume.grid import Grid

PUBLISHED = "published program"
"""The measure: 1×."""

SIDE = 256
"""Rows and columns of the slice that engines are compared on; as in the paper."""

SIDES = (128, 192, 256, 384)
BATCHES, BATCH_SIDE = (2, 4, 8), 128
STACKS, STACK_SIDE = (4, 16, 32), 192
"""Pictures, and slices of volumes, that growth is measured on."""

SETTLING = 0.1
"""Seconds between calls: the threads of the engine before spin for a while, which the next one would pay for."""


@dataclass(frozen=True)
class Timing:
    """Seconds for one call: the least and the median on the clock, and the least of processor time."""

    seconds: float
    median_seconds: float
    processor_seconds: float


def bench(
    engines: Sequence[str] | None = None,
    *,
    weights: str | Path = "default",
    device: str = "cpu",
    rounds: int = 5,
    coarsen: float = 2.0,
    pictures: tuple[Path, Path] | None = None,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Time engines on a slice, on growing slices and batches, and on a whole study.

    Parameters
    ----------
    engines
        Names of engines; all that run here if None.
    weights, device
        As for `load_engine`.
    rounds
        How often each is timed, in turns.
    coarsen
        Factor on the voxel sizes of the phantom whose study is fused from DICOM to DICOM.
    pictures
        An MRI and its partner, aligned, as the slice; one of a phantom whose air is noise if None.
    progress
        Called with the steps ``prepare``, ``slice``, ``growth``, ``stacks`` and ``study``.

    Returns
    -------
    dict
        ``matrix`` (rows and columns of the slice), ``slice``, ``black_air`` (the slice with its air set to black),
        ``growth``, ``stacks``, ``study``, ``work`` and ``environment``; plain values for JSON.

    Raises
    ------
    DeviceError
        If an engine or the device is not there.
    StudyError
        If the pictures differ in size.
    TrainingError
        If one cannot be read.
    """
    pair = picture_slice(*pictures) if pictures else head_slice(SIDE)
    target = resolve_device(device)
    chosen = list(engines) if engines else [name for name in ENGINES if not why_not(name, target)]
    network = load_network(weights, str(target))
    published = Engine(PUBLISHED, target, math.inf, network.origin, as_published(GeSeNet().to(target)))
    calls: dict[str, Callable[[Tensor, Tensor], Tensor]] = {PUBLISHED: published}
    preparation, prepared = {}, step_of(progress, "prepare")
    for place, name in enumerate(chosen):
        prepared(place / len(chosen))
        before = time.perf_counter()
        calls[name] = load_engine(name, device, weights, progress=progress)
        preparation[name] = time.perf_counter() - before
    prepared(1.0)
    reference = load_engine("reference", device, weights)
    exact = reference(*pair)
    slices = {}
    measured, black = in_turns(calls, [pair, with_black_air(*pair)], rounds, step_of(progress, "slice"))
    for name, timing in measured.items():
        slices[name] = asdict(timing)
        if name != PUBLISHED:
            difference = (calls[name](*pair) - exact).abs()
            slices[name] |= {
                "largest_difference": float(difference.max()),
                "mean_difference": float(difference.mean()),
                "preparation_seconds": preparation[name],
            }
    growth = _growth({name: calls[name] for name in calls if name != PUBLISHED}, rounds, step_of(progress, "growth"))
    stacks = _stacks(chosen, str(weights), device, step_of(progress, "stacks"))
    studies = _studies(chosen, str(weights), device, coarsen, step_of(progress, "study"))
    return {
        "matrix": list(pair[0].shape[-2:]),
        "slice": slices,
        "black_air": {name: asdict(timing) for name, timing in black.items()},
        "growth": growth,
        "stacks": stacks,
        "study": studies,
        "work": _work(published, reference, FoldedGeSeNet(network), FoldedGeSeNet(network, skip=True), pair),
        "environment": environment(device),
    }


def head_slice(side: int, count: int = 1) -> tuple[Tensor, Tensor]:
    """A slice of the phantom's MRI and PET through the brain, (count, 1, side, side): cut or framed in black."""
    mri, partner = phantom_pair()
    height, width = mri.shape[-2:]
    room = (side - width) // 2, -(-(side - width) // 2), (side - height) // 2, -(-(side - height) // 2)
    framed = (functional.pad(picture, room) for picture in (mri, partner))
    first, second = (picture.expand(count, -1, -1, -1).contiguous() for picture in framed)
    return first, second


def picture_slice(mri: Path, partner: Path) -> tuple[Tensor, Tensor]:
    """Two pictures' luma, (1, 1, H, W) each."""
    first, second = (unit(read_picture(path)[0])[None] for path in (mri, partner))
    if first.shape != second.shape:
        sizes = " and ".join(f"{side.shape[-1]} × {side.shape[-2]}" for side in (first, second))
        raise StudyError(f"the two pictures must have one size; found {sizes}. Give an MRI and its partner, aligned.")
    return first, second


def with_black_air(mri: Tensor, partner: Tensor) -> tuple[Tensor, Tensor]:
    """The same slice, (1, 1, H, W), as `medfuse.fuse` makes it with ``black_air`` of a volume of one slice, at 1 mm."""
    volume = mri[0].mT[..., None]
    grid = Grid((volume.shape[1], volume.shape[2], 1), np.eye(4))
    return blacken_air(mri, partner, AirMask.of(make_volume(volume, grid, modality="MR"), Window(0.0, 1.0)), 0)


def in_turns(
    calls: dict[str, Callable[[Tensor, Tensor], Tensor]],
    inputs: Sequence[tuple[Tensor, Tensor]],
    rounds: int,
    tell: Callable[[float], None],
) -> list[dict[str, Timing]]:
    """Time the calls on one input after the other, once a round each, after one round that is not counted.

    An engine makes itself ready for a size of pictures when it meets it, which is not what is timed.
    """
    clocks: list[dict[str, list[tuple[float, float]]]] = [{name: [] for name in calls} for _ in inputs]
    for place, (pair, turn) in enumerate(product(range(len(inputs)), range(rounds + 1))):
        for name, call in calls.items():
            time.sleep(SETTLING)
            started, worked = time.perf_counter(), time.process_time()
            with torch.inference_mode():
                call(*inputs[pair])
            if turn:
                clocks[pair][name].append((time.perf_counter() - started, time.process_time() - worked))
        tell((place + 1) / (len(inputs) * (rounds + 1)))
    return [{name: _timing(spent) for name, spent in by_name.items()} for by_name in clocks]


def _timing(spent: list[tuple[float, float]]) -> Timing:
    clock, processor = zip(*spent, strict=True)
    return Timing(min(clock), statistics.median(clock), min(processor))


def _growth(
    calls: dict[str, Callable[[Tensor, Tensor], Tensor]], rounds: int, tell: Callable[[float], None]
) -> list[dict[str, Any]]:
    """Processor seconds of each engine against the side of the matrix, and against the slices of a batch."""
    cases = [(side, 1) for side in SIDES] + [(BATCH_SIDE, count) for count in BATCHES]
    inputs = [head_slice(side, count) for side, count in cases]
    timings = in_turns(calls, inputs, min(rounds, 3), tell)
    return [
        {"side": side, "batch": count, "engine": name, **asdict(timing)}
        for (side, count), by_name in zip(cases, timings, strict=True)
        for name, timing in by_name.items()
    ]


def _apart(work: Callable[..., dict[str, Any]], *given: Any) -> dict[str, Any]:
    """Work in a process of its own, for the peak of its memory, with as many threads as here."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(work, *given, torch.get_num_threads()).result()


def _stacks(chosen: Sequence[str], weights: str, device: str, tell: Callable[[float], None]) -> list[dict[str, Any]]:
    """Volumes of more and more slices."""
    found = []
    pair = head_slice(STACK_SIDE)
    cases = [(name, slices) for name in chosen for slices in STACKS]
    for place, case in enumerate(cases):
        found.append(_apart(one_stack, pair, *case, weights, device))
        tell((place + 1) / len(cases))
    return found


def one_stack(
    pair: tuple[Tensor, Tensor], engine: str, slices: int, weights: str, device: str, threads: int
) -> dict[str, Any]:
    """Fuse a volume of one pair's copies: seconds, and the MiB it takes beside what goes in and comes out.

    MiB are None where the system does not tell the peak since the engine was ready.
    """
    torch.set_num_threads(threads)
    ready = load_engine(engine, device, weights)
    grid = Grid((STACK_SIDE, STACK_SIDE, slices), np.eye(4))
    modalities: tuple[Modality, Modality] = ("MR", "PT")
    mri, partner = (
        make_volume(side[0].mT[..., None].repeat(1, 1, 1, slices), grid, modality=modality)
        for side, modality in zip(pair, modalities, strict=True)
    )
    before = peak_mib() if forgot_peak() else None
    started, worked = time.perf_counter(), time.process_time()
    fused = fuse_slices(ready, mri, partner)
    spent = time.perf_counter() - started, time.process_time() - worked
    after = peak_mib()
    taken = None if before is None or after is None else after - before - fused.numel() * 4 / 2**20
    return {
        "engine": ready.name,
        "slices": slices,
        "seconds": spent[0],
        "processor_seconds": spent[1],
        "working_mib": taken,
    }


def _studies(
    chosen: Sequence[str], weights: str, device: str, coarsen: float, tell: Callable[[float], None]
) -> list[dict[str, Any]]:
    """A phantom study from DICOM to DICOM with each engine."""
    with tempfile.TemporaryDirectory() as place:
        phantom_study("PT", coarsen=coarsen).write_dicom(place)
        found = []
        for index, name in enumerate(chosen):
            found.append(_apart(one_study, f"{place}/mri", f"{place}/partner", name, weights, device))
            tell((index + 1) / len(chosen))
    return found


def one_study(
    mri: str, partner: str, engine: str, weights: str, device: str, threads: int, *, black_air: bool = False
) -> dict[str, Any]:
    """Fuse two DICOM folders to a third; seconds by stage, slices, and the peak of memory in MiB."""
    torch.set_num_threads(threads)
    seconds: dict[str, float] = {}
    last, worked = time.perf_counter(), time.process_time()

    def tell(step: str, share: float, note: str = "") -> None:
        nonlocal last
        now = time.perf_counter()
        # What happens before a step first speaks is its own beginning.
        seconds[step] = seconds.get(step, 0.0) + now - last
        last = now

    loaded = load(mri), load(partner)
    tell("load", 1.0)
    ready = load_engine(engine, device, weights)
    tell("prepare", 1.0)
    study = fuse(*loaded, engine=ready, black_air=black_air, lazy=True, progress=tell)
    del loaded
    with tempfile.TemporaryDirectory() as out:
        study.write_dicom(f"{out}/dicom", keep=False, progress=tell)
    return {
        "engine": ready.name,
        "slices": study.slices.grid.shape[2],
        "seconds": seconds,
        "total_seconds": sum(seconds.values()),
        "processor_seconds": time.process_time() - worked,
        "peak_mib": peak_mib(),
    }


def _work(
    published: Engine, network: Engine, folded: FoldedGeSeNet, skipping: FoldedGeSeNet, pair: tuple[Tensor, Tensor]
) -> dict[str, Any]:
    """GFLOP a slice of each form of the network, and GFLOP/s of this machine's matrix products."""
    given = [part.to(folded.device) for part in (*pair, torch.ones(1), torch.zeros(2, folded.channels))]
    forms: dict[str, Callable[[], object]] = {
        PUBLISHED: lambda: published(*pair),
        "dense": lambda: network(*pair),
        "folded": lambda: folded(*given),
        "folded, tiles": lambda: skipping(*given),
    }
    counted = {}
    for name, run in forms.items():
        with torch.inference_mode(), FlopCounterMode(display=False) as counter:
            run()
        counted[name] = counter.get_total_flops() / 1e9
    rates = {str(kind).removeprefix("torch."): rate for kind, rate in matmul_rates(folded.device)}
    return {"gflop": counted, "matmul_gflop_per_second": rates}
