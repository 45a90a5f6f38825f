"""Read DICOM series beside other readers, each in a process of its own, alternating, and print the ratios.

    python benchmarks/reading.py SERIES... [--repeats 5]

A reader that is not installed is left out. Imports do not count; memory is what the process grew by at its peak.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median

READERS = {
    "medfuse": ("from medfuse import dicom", "dicom.read(folder)"),
    "medfuse scan": ("from medfuse import dicom", "dicom.scan(folder)"),
    "SimpleITK": (
        "import SimpleITK as sitk",
        "reader = sitk.ImageSeriesReader()\n"
        "reader.SetFileNames(reader.GetGDCMSeriesFileNames(folder))\n"
        "sitk.Cast(reader.Execute(), sitk.sitkFloat32)",
    ),
    "MONAI": ("from monai.data import PydicomReader", "reader = PydicomReader()\nreader.get_data(reader.read(folder))"),
}

PROGRAM = """
import json, resource, sys, time, warnings
warnings.simplefilter("ignore")
folder = sys.argv[1]
{imports}
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
before, started = peak(), time.perf_counter()
{work}
print(json.dumps([time.perf_counter() - started, peak() - before]))
"""

DCM2NIIX = """
import json, resource, subprocess, sys, time
started = time.perf_counter()
command = ["dcm2niix", "-z", "n", "-b", "n", "-f", "x", "-o", sys.argv[2], sys.argv[1]]
subprocess.run(command, check=True, capture_output=True)
seconds = time.perf_counter() - started
print(json.dumps([seconds, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024]))
"""


def measure(program: str, folder: Path) -> tuple[float, float] | None:
    """Seconds and MiB, or None where it fails."""
    with tempfile.TemporaryDirectory() as place:
        done = subprocess.run(
            [sys.executable, "-c", program, str(folder), place], capture_output=True, text=True, check=False
        )
    if done.returncode:
        return None
    seconds, mebibytes = json.loads(done.stdout.splitlines()[-1])
    return seconds, mebibytes


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("series", nargs="+", type=Path)
    parser.add_argument("--repeats", type=int, default=5)
    given = parser.parse_args()
    programs = {name: PROGRAM.format(imports=imports, work=work) for name, (imports, work) in READERS.items()}
    if shutil.which("dcm2niix"):
        programs["dcm2niix, written to disk"] = DCM2NIIX
    for number, folder in enumerate(given.series, start=1):
        found: dict[str, list[tuple[float, float]]] = {}
        for _ in range(given.repeats):
            for name, program in programs.items():
                one = measure(program, folder)
                if one:
                    found.setdefault(name, []).append(one)
        print(f"series {number}: {sum(1 for _ in folder.iterdir())} files")
        ours = median(seconds for seconds, _ in found["medfuse"])
        for name, ones in found.items():
            seconds, mebibytes = (median(values) for values in zip(*ones, strict=True))
            print(f"  {name:26} {seconds:7.3f} s  {seconds / ours:5.2f} × medfuse  {mebibytes:6.0f} MiB")
        for name in programs.keys() - found.keys():
            print(f"  {name:26} could not read it, or is not installed")


if __name__ == "__main__":
    main()
