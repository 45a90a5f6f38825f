"""Register pairs away from the head by medfuse, elastix, greedy and SimpleITK, from the headers and perturbed.

    python benchmarks/body.py FOLDER [--pairs CT-PET,MR-CT,MR-PET] [--programs …] [--patients N] [--rows FILE]

FOLDER holds a folder for each patient with ``MR_T1/image``, ``CT/image`` and ``PET/image`` (DICOM), as the IBSI
publishes the soft-tissue sarcoma cohort (doi:10.7937/K9/TCIA.2015.7GO2GSKS). There is no exact truth. So each program
runs twice: as the headers place the pair, and with the moving study turned by 8° about a random axis and shifted by
15 mm. Printed are, over the body: the median distance between both results, that of the result from the headers'
position, what medfuse says, processor time and the peak of memory. One line a case; with ``--rows`` runs that a file
already holds are not made again. Programs alternate within a case, each run in a process of its own, on one thread
where a program can be told. All start from the position in the headers: elastix with its rigid default, greedy by
normalised mutual information, SimpleITK by Mattes' mutual information and gradient descent.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import statistics
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk
from monai.data.meta_tensor import MetaTensor
from registration import image_of, ras
from registration_cases import Matrix, moved_world, shift, turn

import medfuse
from medfuse.errors import MedfuseError
from medfuse.runtime.machine import peak_mib
from medfuse.volume import grid_of, plain

FOLDERS = {"MR": "MR_T1", "CT": "CT", "PET": "PET"}
PAIRS = "CT-PET,MR-CT,MR-PET"
TURNED_DEG, SHIFTED_MM = 8.0, 15.0
STARTS = ("header", "perturbed")

Found = tuple[Matrix, dict[str, Any]]


def by_medfuse(fixed: MetaTensor, moving: MetaTensor) -> Found:
    found = medfuse.register(fixed, moving, "rigid", force=True)
    assert found.verdict is not None
    return found.matrix, {"verdict": found.verdict.opinion, "estimate_mm": found.error_mm}


def by_simpleitk(fixed: MetaTensor, moving: MetaTensor) -> Found:
    images = [sitk.Cast(image_of(one), sitk.sitkFloat32) for one in (fixed, moving)]
    centre = sitk.CenteredTransformInitializer(
        *images, sitk.Euler3DTransform(), sitk.CenteredTransformInitializerFilter.GEOMETRY
    )
    start = sitk.Euler3DTransform()
    start.SetCenter(sitk.Euler3DTransform(centre).GetCenter())
    method = sitk.ImageRegistrationMethod()
    method.SetMetricAsMattesMutualInformation(50)
    method.SetMetricSamplingStrategy(method.RANDOM)
    method.SetMetricSamplingPercentage(0.2, 1)
    method.SetInterpolator(sitk.sitkLinear)
    method.SetOptimizerAsGradientDescent(1.0, 200, 1e-6, 10)
    method.SetOptimizerScalesFromPhysicalShift()
    method.SetShrinkFactorsPerLevel([4, 2, 1])
    method.SetSmoothingSigmasPerLevel([4, 2, 0])
    method.SmoothingSigmasAreSpecifiedInPhysicalUnitsOn()
    method.SetInitialTransform(start, inPlace=True)
    method.SetNumberOfThreads(1)
    method.Execute(*images)
    return ras(start), {}


def by_elastix(fixed: MetaTensor, moving: MetaTensor) -> Found:
    import itk

    with tempfile.TemporaryDirectory() as place:
        images = []
        for name, volume in (("fixed", fixed), ("moving", moving)):
            sitk.WriteImage(image_of(volume), f"{place}/{name}.mha")
            images.append(itk.imread(f"{place}/{name}.mha", itk.F))
    parameters = itk.ParameterObject.New()
    rigid = parameters.GetDefaultParameterMap("rigid")
    rigid["AutomaticTransformInitialization"] = ["false"]
    parameters.AddParameterMap(rigid)
    _, found = itk.elastix_registration_method(*images, parameter_object=parameters, log_to_console=False)
    values = [float(value) for value in found.GetParameter(0, "TransformParameters")]
    centre = [float(value) for value in found.GetParameter(0, "CenterOfRotationPoint")]
    transform = sitk.Euler3DTransform(centre, *values[:3], values[3:])
    transform.SetComputeZYX(found.GetParameter(0, "ComputeZYX")[0] == "true")
    return ras(transform), {}


def by_greedy(fixed: MetaTensor, moving: MetaTensor) -> Found:
    from picsl_greedy import Greedy3D

    with tempfile.TemporaryDirectory() as place:
        for name, volume in (("fixed", fixed), ("moving", moving)):
            sitk.WriteImage(image_of(volume), f"{place}/{name}.nii.gz")
        Greedy3D().execute(
            f"-d 3 -a -dof 6 -i {place}/fixed.nii.gz {place}/moving.nii.gz -o {place}/out.mat -m NMI "
            "-ia-identity -n 100x50x10 -threads 1"
        )
        return np.loadtxt(f"{place}/out.mat"), {}


PROGRAMS: dict[str, Callable[[MetaTensor, MetaTensor], Found]] = {
    "medfuse": by_medfuse,
    "elastix": by_elastix,
    "greedy": by_greedy,
    "simpleitk": by_simpleitk,
}


def body_points(volume: MetaTensor) -> Matrix:
    """(N, 3) places of the fixed study that are brighter than half its mean above the least, RAS+ mm."""
    values = plain(volume)[0].numpy()
    values = values.clip(*np.percentile(values, (1, 99)))
    bright = np.argwhere(values - values.min() > 0.5 * (values - values.min()).mean())
    return grid_of(volume).world(bright[:: max(1, len(bright) // 5000)])


def perturbation(patient: str, pair: str, centre: Matrix) -> Matrix:
    """(4, 4) of 8° about a random axis through the middle, and 15 mm in a random direction; the same on each run."""
    draw = np.random.default_rng([*f"{patient} {pair}".encode()])
    axis, direction = draw.normal(size=(2, 3))
    about = shift(centre) @ turn(axis, TURNED_DEG) @ shift(-centre)
    return np.asarray(shift(SHIFTED_MM * direction / np.linalg.norm(direction)) @ about)


def measured(folder: str, patient: str, pair: str, start: str, program: str) -> dict[str, Any]:
    """One program on one pair from one start, in this process; ``matrix`` is as if the header were not changed."""
    fixed, moving = (medfuse.load(Path(folder, patient, FOLDERS[name], "image")) for name in pair.split("-"))
    moved = np.eye(4)
    if start == "perturbed":
        moved = perturbation(patient, pair, grid_of(moving).centre)
        moving = moved_world(moving, moved)
    row: dict[str, Any] = {"patient": patient, "pair": pair, "start": start, "program": program}
    processor = time.process_time()
    try:
        matrix, more = PROGRAMS[program](fixed, moving)
        row |= {"matrix": (np.linalg.inv(moved) @ matrix).tolist(), **more}
    except (MedfuseError, RuntimeError) as error:
        row |= {"matrix": None, "failed": type(error).__name__}
    return row | {"processor_seconds": time.process_time() - processor, "peak_mib": peak_mib()}


def compared(folder: Path, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """For each case and program both starts joined, with distances over the body, mm."""
    found = []
    for patient, pair, program in dict.fromkeys((row["patient"], row["pair"], row["program"]) for row in rows):
        two = {
            row["start"]: row
            for row in rows
            if (row["patient"], row["pair"], row["program"]) == (patient, pair, program)
        }
        if set(two) != set(STARTS):
            continue
        points = body_points(medfuse.load(folder / patient / FOLDERS[pair.split("-")[0]] / "image"))
        maps = [None if two[start]["matrix"] is None else np.array(two[start]["matrix"]) for start in STARTS]
        places = [None if one is None else points @ one[:3, :3].T + one[:3, 3] for one in maps]

        def apart(one: Matrix | None, other: Matrix | None) -> float:
            known = one is not None and other is not None
            return float(np.median(np.linalg.norm(one - other, axis=1))) if known else float("inf")

        found.append(
            {
                "patient": patient,
                "pair": pair,
                "program": program,
                "starts_apart_mm": apart(*places),
                "from_headers_mm": apart(places[1], points),
                "verdicts": [two[start].get("verdict", "") for start in STARTS],
                "processor_seconds": max(row["processor_seconds"] for row in two.values()),
                "peak_mib": max(row["peak_mib"] for row in two.values()),
            }
        )
    return found


def summary(cases: list[dict[str, Any]]) -> str:
    """Table by pair and program."""
    lines = [
        "| pair | program | n | starts apart, median mm | worst mm | within 2 mm | from headers, median mm | "
        "processor s | peak MiB |",
        "|---|---|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for pair, program in dict.fromkeys((case["pair"], case["program"]) for case in cases):
        some = [case for case in cases if (case["pair"], case["program"]) == (pair, program)]
        apart = [case["starts_apart_mm"] for case in some]
        away, seconds, peak = (
            statistics.median(case[key] for case in some)
            for key in ("from_headers_mm", "processor_seconds", "peak_mib")
        )
        lines.append(
            f"| {pair} | {program} | {len(some)} | {statistics.median(apart):.1f} | {max(apart):.1f} | "
            f"{sum(one <= 2 for one in apart)} | {away:.1f} | {seconds:.1f} | {peak:.0f} |"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--pairs", default=PAIRS)
    parser.add_argument("--programs", default=",".join(PROGRAMS))
    parser.add_argument("--patients", type=int, help="only so many")
    parser.add_argument("--rows", type=Path, help="file that keeps a line a run; what it holds is not run again")
    given = parser.parse_args()
    patients = sorted(path.name for path in given.folder.iterdir() if (path / "CT").is_dir())[: given.patients]
    if not patients:
        parser.error(f"no patient's folder with CT/image in {given.folder}; give the cohort's folder.")
    rows = []
    if given.rows and given.rows.exists():
        rows = [json.loads(line) for line in given.rows.read_text().splitlines()]
    known = {(row["patient"], row["pair"], row["start"], row["program"]) for row in rows}
    for patient, pair in product(patients, given.pairs.split(",")):
        for start, program in product(STARTS, given.programs.split(",")):
            if (patient, pair, start, program) in known:
                continue
            # A process of its own that inherits nothing large: its peak of memory is its own.
            with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
                rows.append(pool.submit(measured, str(given.folder), patient, pair, start, program).result())
            if given.rows:
                with given.rows.open("a") as kept:
                    kept.write(json.dumps(rows[-1]) + "\n")
        for case in compared(given.folder, [row for row in rows if (row["patient"], row["pair"]) == (patient, pair)]):
            print(json.dumps(case), flush=True)
    print(summary(compared(given.folder, rows)))


if __name__ == "__main__":
    main()
