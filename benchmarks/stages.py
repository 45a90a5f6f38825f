"""Time each stage of one fusion on this machine, whole phantom study from DICOM to DICOM, and report shares and ratios.

Prints a table and one JSON object. Nothing is asserted: figures depend on the machine and on what else it does.
"""

from __future__ import annotations

import argparse
import json
import platform
import resource
import tempfile
import time
from pathlib import Path

import torch

import medfuse


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--partner", choices=("PT", "CT", "NM"), default="PT")
    parser.add_argument("--coarsen", type=float, default=1.0, help="factor on all voxel sizes of the phantom")
    parser.add_argument("--device", default="auto")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        seconds, slices = measure(Path(place), options)
    total = sum(seconds.values())
    for stage, spent in seconds.items():
        print(f"{stage:12} {spent:8.2f} s {spent / total:6.1%}  {1000 * spent / slices:8.1f} ms a slice")
    print(f"{'total':12} {total:8.2f} s, {slices} slices")
    environment = {"platform": platform.platform(), "torch": torch.__version__, "threads": torch.get_num_threads()}
    peak_mib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({"seconds": seconds, "slices": slices, "peak_mib": round(peak_mib), **environment}))


def measure(place: Path, options: argparse.Namespace) -> tuple[dict[str, float], int]:
    """Seconds by stage and the number of slices fused."""
    medfuse.phantom_study(options.partner, coarsen=options.coarsen).write_dicom(place)
    seconds: dict[str, float] = {}
    last = time.perf_counter()

    def lap(stage: str) -> None:
        nonlocal last
        now = time.perf_counter()
        seconds[stage] = now - last
        last = now

    mri, partner = medfuse.load(place / "mri"), medfuse.load(place / "partner")
    lap("load")
    registration = medfuse.register(mri, partner)
    lap("register")
    study = medfuse.fuse(mri, partner, align=registration, device=options.device)
    lap("fuse")
    study.write_dicom(place / "out")
    lap("write dicom")
    study.write_nifti(place / "out.nii.gz")
    lap("write nifti")
    return seconds, int(study.image.shape[3])


if __name__ == "__main__":
    main()
