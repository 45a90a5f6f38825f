"""Register pairs whose alignment is known by medfuse, elastix, greedy, ANTs and plain SimpleITK, side by side.

    python benchmarks/registration.py [--mri DIR --partner DIR] [--programs medfuse,elastix,…] [--cases N] [--cache DIR]
    python benchmarks/registration.py --wrong N [--cache DIR]

Sixty phantom pairs (PET, CT and SPECT against MRI: turned by up to 45° and shifted by up to 80 mm, cut fields, half and
quarter turns), some in the fields that clinics have (a table and padding, a whole body, 1 mm throughout), and, with two
DICOM folders whose worlds coincide, every second slice of a real pair under rigid maps of up to 40° and 60 mm, three of
them with a half-turn, and the last three with the partner on a lattice of its own. Each
program runs each case in a process of its own, one after the other in one run. Prints the largest and the median error
over the head, seconds, the peak of memory, and what medfuse said of its result; then a table and one JSON object.
Nothing is asserted: figures depend on the machine and on what else it does. With ``--wrong``, medfuse alone gets pairs
that do not belong together, of N cases of each partner, and the table counts how many it refuses.

greedy gets what its documentation gives for hard poses, a random search of 1000 poses by normalised mutual information;
elastix its rigid default, which aligns the fields' centres; ANTs its rigid default from its own search of poses, on
voxels of 6 mm, for on finer ones it had not ended after four minutes; SimpleITK the usual recipe, Mattes' mutual
information by gradient descent from aligned moments.
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
from functools import partial
from itertools import islice, product
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk
from monai.data.meta_tensor import MetaTensor
from registration_cases import A_MODALITY, Case, Matrix, phantom_case, real_cases, wrong_pairs
from registration_fields import A_FIELD, in_a_body, on_a_table, whole_head
from study import register as usual_recipe

import medfuse
from medfuse.errors import RegistrationError
from medfuse.runtime.machine import peak_mib
from medfuse.volume import grid_of, plain
from medfuse.volume.grid import LPS_FROM_RAS


def image_of(volume: MetaTensor) -> sitk.Image:
    """SimpleITK image, LPS+."""
    grid = grid_of(volume)
    image = sitk.GetImageFromArray(plain(volume)[0].numpy().transpose(2, 1, 0))
    image.SetSpacing(grid.spacing)
    image.SetOrigin((LPS_FROM_RAS @ grid.affine)[:3, 3])
    image.SetDirection((LPS_FROM_RAS[:3, :3] @ grid.directions).ravel())
    return image


def ras(transform: sitk.Transform) -> Matrix:
    """(4, 4) of a linear ITK transform, fixed → moving, RAS+ mm."""
    corners = np.vstack([np.zeros(3), np.eye(3)])
    mapped = np.array([transform.TransformPoint(corner.tolist()) for corner in corners])
    matrix = np.eye(4)
    matrix[:3, :3], matrix[:3, 3] = (mapped[1:] - mapped[0]).T, mapped[0]
    return np.asarray(LPS_FROM_RAS @ matrix @ LPS_FROM_RAS)


def by_medfuse(case: Case) -> tuple[Matrix, dict[str, Any]]:
    found = medfuse.register(case.fixed, case.moving, "rigid", force=True)
    assert found.verdict is not None
    return found.matrix, {"verdict": found.verdict.opinion, "estimate_mm": found.error_mm}


def by_simpleitk(case: Case) -> tuple[Matrix, dict[str, Any]]:
    fixed, moving = (sitk.Cast(image_of(one), sitk.sitkFloat32) for one in (case.fixed, case.moving))
    return ras(usual_recipe(fixed, moving, sitk.CenteredTransformInitializerFilter.MOMENTS)), {}


def by_elastix(case: Case) -> tuple[Matrix, dict[str, Any]]:
    import itk

    with tempfile.TemporaryDirectory() as place:
        images = []
        for name, volume in (("fixed", case.fixed), ("moving", case.moving)):
            sitk.WriteImage(image_of(volume), f"{place}/{name}.mha")
            images.append(itk.imread(f"{place}/{name}.mha", itk.F))
    parameters = itk.ParameterObject.New()
    parameters.AddParameterMap(parameters.GetDefaultParameterMap("rigid"))
    _, found = itk.elastix_registration_method(*images, parameter_object=parameters, log_to_console=False)
    values = [float(value) for value in found.GetParameter(0, "TransformParameters")]
    centre = [float(value) for value in found.GetParameter(0, "CenterOfRotationPoint")]
    transform = sitk.Euler3DTransform(centre, *values[:3], values[3:])
    transform.SetComputeZYX(found.GetParameter(0, "ComputeZYX")[0] == "true")
    return ras(transform), {}


def by_greedy(case: Case) -> tuple[Matrix, dict[str, Any]]:
    from picsl_greedy import Greedy3D

    with tempfile.TemporaryDirectory() as place:
        for name, volume in (("fixed", case.fixed), ("moving", case.moving)):
            sitk.WriteImage(image_of(volume), f"{place}/{name}.nii.gz")
        Greedy3D().execute(
            f"-d 3 -a -dof 6 -i {place}/fixed.nii.gz {place}/moving.nii.gz -o {place}/out.mat -m NMI "
            "-ia-image-centers -search 1000 any 20 -n 100x50x10 -threads 2"
        )
        return np.loadtxt(f"{place}/out.mat"), {}


def by_ants(case: Case) -> tuple[Matrix, dict[str, Any]]:
    import ants

    with tempfile.TemporaryDirectory() as place:
        images = []
        for name, volume in (("fixed", case.fixed), ("moving", case.moving)):
            sitk.WriteImage(image_of(volume), f"{place}/{name}.nii.gz")
            images.append(ants.image_read(f"{place}/{name}.nii.gz"))
        coarse = (ants.resample_image(image, (6.0, 6.0, 6.0)) for image in images)
        start = ants.affine_initializer(*coarse, search_factor=30, radian_fraction=0.25, local_search_iterations=10)
        found = ants.registration(
            *images, type_of_transform="Rigid", aff_metric="mattes", initial_transform=start, random_seed=1
        )
        return ras(sitk.ReadTransform(found["fwdtransforms"][0])), {}


PROGRAMS: dict[str, Callable[[Case], tuple[Matrix, dict[str, Any]]]] = {
    "medfuse": by_medfuse,
    "elastix": by_elastix,
    "greedy": by_greedy,
    "ants": by_ants,
    "simpleitk": by_simpleitk,
}


FIELDS = {"table": (on_a_table, A_FIELD), "body": (in_a_body, A_FIELD), "whole": (whole_head, 1)}
"""What else there is beside `phantom_case`, and how many cases of each."""


def measured(program: str, make: Callable[[], Case]) -> dict[str, Any]:
    """One program on one case, in this process."""
    case = make()
    row: dict[str, Any] = {"program": program, "case": case.name, "kind": case.kind}
    began, processor = time.perf_counter(), time.process_time()
    try:
        matrix, more = PROGRAMS[program](case)
        row |= {"error_mm": case.error_mm(matrix), "median_error_mm": case.median_error_mm(matrix), **more}
    except (RegistrationError, RuntimeError) as error:
        row |= {"error_mm": float("inf"), "median_error_mm": float("inf"), "failed": type(error).__name__}
    seconds, processor = time.perf_counter() - began, time.process_time() - processor
    return row | {"seconds": seconds, "processor_seconds": processor, "peak_mib": peak_mib()}


def real_case(mri: str, partner: str, number: int) -> Case:
    return next(islice(real_cases(medfuse.load(mri, "MR"), medfuse.load(partner, "PT"), number + 1), number, None))


def summary(rows: list[dict[str, Any]]) -> str:
    """Table by class of case and program."""
    lines = [
        "| cases | program | n | median mm | worst mm | right | s | processor s | peak MiB |",
        "|---|---|--:|--:|--:|--:|--:|--:|--:|",
    ]
    classes = dict.fromkeys((row["case"].split("-")[0], row["kind"]) for row in rows)
    for name, kind in classes:
        for program in dict.fromkeys(row["program"] for row in rows):
            some = [
                row for row in rows if (row["case"].split("-")[0], row["kind"], row["program"]) == (name, kind, program)
            ]
            if some:
                right = sum(row["error_mm"] < (3 if name == "NM" else 2) for row in some)
                middle = {
                    key: statistics.median(row[key] or 0 for row in some)
                    for key in ("median_error_mm", "seconds", "processor_seconds", "peak_mib")
                }
                lines.append(
                    f"| {name} {kind} | {program} | {len(some)} | {middle['median_error_mm']:.2f} | "
                    f"{max(row['error_mm'] for row in some):.2f} | {right} | {middle['seconds']:.1f} | "
                    f"{middle['processor_seconds']:.1f} | {middle['peak_mib']:.0f} |"
                )
    return "\n".join(lines)


def refusals(count: int, cache: Path | None) -> str:
    """Table of how many wrong pairs are refused, by kind and method."""
    told: dict[tuple[str, str], list[bool]] = {}
    for number, modality in product(range(count), ("PT", "CT", "NM")):
        for kind, fixed, moving in wrong_pairs(modality, number, cache):
            for method in ("auto", "affine", "deformable"):
                try:
                    medfuse.register(fixed, moving, method)
                    refused = False
                except RegistrationError:
                    refused = True
                told.setdefault((kind, method), []).append(refused)
                print(json.dumps({"case": f"{modality}-{number}", "kind": kind, "method": method, "refused": refused}))
    lines = ["| wrong pairs | method | n | refused |", "|---|---|--:|--:|"]
    return "\n".join(lines + [f"| {kind} | {how} | {len(each)} | {sum(each)} |" for (kind, how), each in told.items()])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mri", help="DICOM folder; with --partner, whose world is the same")
    parser.add_argument("--partner")
    parser.add_argument("--programs", default=",".join(PROGRAMS))
    parser.add_argument("--cases", type=int, default=A_MODALITY, help="of each modality")
    parser.add_argument("--real", type=int, default=12, help="maps of the real pair")
    parser.add_argument("--fields", type=int, default=A_FIELD, help="cases with a table, and in a whole body")
    parser.add_argument("--only", help="names of cases, such as PT-14, separated by commas")
    parser.add_argument("--cache", type=Path, help="folder that keeps the rendered phantoms")
    parser.add_argument("--wrong", type=int, metavar="N", help="pairs that do not belong together instead")
    given = parser.parse_args()
    if given.wrong:
        print(refusals(given.wrong, given.cache))
        return
    cases: dict[str, Callable[[], Case]] = {}
    if given.mri:
        cases |= {
            f"real-{number}": partial(real_case, given.mri, given.partner, number) for number in range(given.real)
        }
    for name, (make, count) in FIELDS.items():
        for number in range(min(count, given.fields)):
            cases[f"{name}-{number}"] = partial(make, number, given.cache)
    for number, modality in product(range(given.cases), ("PT", "CT", "NM")):
        cases[f"{modality}-{number}"] = partial(phantom_case, modality, number, given.cache)
    rows = []
    for name in given.only.split(",") if given.only else cases:
        for program in given.programs.split(","):
            # A process of its own that inherits nothing large: its peak of memory is its own.
            with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
                rows.append(pool.submit(measured, program, cases[name]).result())
            print(json.dumps(rows[-1]), flush=True)
    print(summary(rows))


if __name__ == "__main__":
    main()
