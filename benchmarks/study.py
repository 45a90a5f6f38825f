"""Time medfuse on a whole study against the straightforward composition of pydicom, SimpleITK and an eager network.

    python benchmarks/study.py [--mri DIR --partner DIR] [--engines auto,reference] [--weights FILE] [--every N]

Without folders, a phantom's study is written and fused: 258 slices of 256 × 256 at 1 mm, and its PET. Engines are timed
twice, with the air as it is, and set to black. Each program runs in a process of its own, one after the other;
the composition is the program that one writes without medfuse: sort slices, register by SimpleITK's usual recipe,
resample, scale, run the published program's network slice by slice, write. Prints seconds by stage, ratios, the peak of
memory, and one JSON object. With ``--every N`` the composition's network, whose time does not depend on the slice, runs
on every Nth slice, and its time is multiplied. Nothing is asserted: figures depend on the machine
and what else it does.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import SimpleITK as sitk
import torch
from pydicom.uid import generate_uid

from medfuse.bench.engines import one_study
from medfuse.bench.published import as_published
from medfuse.dicom.simulate import write_acquisition
from medfuse.gesenet import GeSeNet
from medfuse.phantom import Head, default_grid, render
from medfuse.runtime.machine import peak_mib
from medfuse.volume.grid import Grid

SHAPE, SEED = (256, 256, 258), 7


def read(folder: str) -> tuple[sitk.Image, list[pydicom.Dataset]]:
    """Every file by pydicom, sorted along the normal."""
    files = [pydicom.dcmread(path) for path in Path(folder).iterdir()]
    rows, columns = np.reshape([float(value) for value in files[0].ImageOrientationPatient], (2, 3))
    normal = np.cross(rows, columns)
    files.sort(key=lambda file: float(np.dot(normal, [float(value) for value in file.ImagePositionPatient])))
    stack = np.stack(
        [
            file.pixel_array * float(file.get("RescaleSlope", 1)) + float(file.get("RescaleIntercept", 0))
            for file in files
        ]
    )
    image = sitk.GetImageFromArray(stack.astype(np.float32))
    first, last = (np.array([float(value) for value in file.ImagePositionPatient]) for file in (files[0], files[-1]))
    down, across = (float(value) for value in files[0].PixelSpacing)
    image.SetSpacing((across, down, float(np.linalg.norm(last - first)) / (len(files) - 1)))
    image.SetOrigin(first.tolist())
    image.SetDirection(np.stack((rows, columns, normal), axis=1).ravel().tolist())
    return image, files


def register(
    fixed: sitk.Image, moving: sitk.Image, start: int = sitk.CenteredTransformInitializerFilter.GEOMETRY
) -> sitk.Transform:
    """SimpleITK's usual recipe for two modalities: mutual information, sampled, three resolutions."""
    method = sitk.ImageRegistrationMethod()
    method.SetMetricAsMattesMutualInformation(50)
    method.SetMetricSamplingStrategy(method.RANDOM)
    method.SetMetricSamplingPercentage(0.1, 7)
    method.SetInterpolator(sitk.sitkLinear)
    method.SetOptimizerAsGradientDescent(1.0, 100, 1e-6, 10)
    method.SetOptimizerScalesFromPhysicalShift()
    method.SetShrinkFactorsPerLevel([4, 2, 1])
    method.SetSmoothingSigmasPerLevel([2, 1, 0])
    centred = sitk.CenteredTransformInitializer(fixed, moving, sitk.Euler3DTransform(), start)
    method.SetInitialTransform(centred, inPlace=False)
    return method.Execute(fixed, moving)


def scaled(image: sitk.Image) -> torch.Tensor:
    values = sitk.GetArrayFromImage(image)
    low, high = np.percentile(values, (0.5, 99.5))
    return torch.from_numpy(np.clip((values - low) / (high - low), 0, 1).astype(np.float32))[:, None]


def straightforward(mri: str, partner: str, threads: int, every: int) -> dict[str, Any]:
    torch.set_num_threads(threads)
    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(threads)
    network = as_published(GeSeNet())
    seconds: dict[str, float] = {}
    clock, processor = time.perf_counter(), time.process_time()
    last = clock

    def lap(stage: str) -> None:
        nonlocal last
        now = time.perf_counter()
        seconds[stage] = now - last
        last = now

    (fixed, headers), (moving, _) = read(mri), read(partner)
    lap("load")
    transform = register(fixed, moving)
    lap("align")
    moved = sitk.Resample(moving, fixed, transform, sitk.sitkLinear, 0.0)
    one, other = scaled(fixed), scaled(moved)
    lap("resample")
    worked = time.process_time()
    fused = torch.zeros_like(one)
    with torch.no_grad():
        for k in range(0, len(one), every):
            fused[k] = network(one[k : k + 1], other[k : k + 1])[0]
    lap("fuse")
    left_out = len(one) / len(range(0, len(one), every)) - 1
    unspent, unworked = left_out * seconds["fuse"], left_out * (time.process_time() - worked)
    seconds["fuse"] += unspent
    series = generate_uid()
    with tempfile.TemporaryDirectory() as out:
        for number, (file, values) in enumerate(zip(headers, fused[:, 0].numpy(), strict=True), start=1):
            file.PixelData = (values * 65535).round().astype("<u2").tobytes()
            file.BitsAllocated = file.BitsStored = 16
            file.HighBit, file.PixelRepresentation = 15, 0
            file.SeriesInstanceUID, file.SOPInstanceUID = series, generate_uid()
            file.file_meta.MediaStorageSOPInstanceUID = file.SOPInstanceUID
            file.save_as(Path(out) / f"{number:04}.dcm")
    lap("write")
    return {
        "engine": "straightforward",
        "slices": len(fused),
        "seconds": seconds,
        "total_seconds": time.perf_counter() - clock + unspent,
        "processor_seconds": time.process_time() - processor + unworked,
        "peak_mib": peak_mib(),
    }


def write_study(folder: Path) -> None:
    """A phantom's MRI, as large as one of 1 mm that covers head and neck, with noise all around it; and its PET."""
    head, acquired = Head(SEED), default_grid("MR")
    affine = acquired.affine @ np.diag([*np.reciprocal(acquired.spacing), 1.0])
    middles = (grid.world((np.array(grid.shape) - 1) / 2) for grid in (acquired, Grid(SHAPE, affine)))
    affine[:3, 3] += np.subtract(*middles)
    mri, partner = render(head, "MR", Grid(SHAPE, affine), seed=SEED), render(head, "PT", seed=SEED)
    for number, (name, volume) in enumerate((("mri", mri), ("partner", partner)), start=1):
        write_acquisition(volume, folder / name, study=SEED, series_number=number, overwrite=False)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mri", help="DICOM folder; with --partner")
    parser.add_argument("--partner")
    parser.add_argument("--engines", default="auto")
    parser.add_argument("--weights", default="default", help="of medfuse")
    parser.add_argument("--every", type=int, default=1, help="run the composition's network on every Nth slice")
    given = parser.parse_args()
    threads = torch.get_num_threads()
    found = []
    with tempfile.TemporaryDirectory() as place:
        mri, partner = given.mri or f"{place}/mri", given.partner or f"{place}/partner"
        if not given.mri:
            write_study(Path(place))
        for name, black in (*product(given.engines.split(","), (False, True)), ("", False)):
            with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
                if name:
                    job = pool.submit(one_study, mri, partner, name, given.weights, "cpu", threads, black_air=black)
                else:
                    job = pool.submit(straightforward, mri, partner, threads, given.every)
                found.append(job.result() | {"black_air": black})
    slowest = found[-1]
    for row in found:
        stages = "  ".join(f"{stage} {spent:.1f}" for stage, spent in row["seconds"].items())
        print(
            f"{row['engine'] + ', black air' * row['black_air']:22} {row['total_seconds']:7.1f} s "
            f"({slowest['total_seconds'] / row['total_seconds']:.1f}×), "
            f"processor {row['processor_seconds']:6.1f} s "
            f"({slowest['processor_seconds'] / row['processor_seconds']:.1f}×), {row['slices']} slices, "
            f"peak {row['peak_mib'] or 0:.0f} MiB: {stages}"
        )
    print(json.dumps(found))


if __name__ == "__main__":
    main()
