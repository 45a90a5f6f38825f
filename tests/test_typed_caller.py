"""A program that uses medfuse is checked as strictly as medfuse itself: what is public is typed, and mypy sees it."""

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

import medfuse

CALLER = '''"""Fuse a list of studies, and say which could not be."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from pathlib import Path

import torch
from matplotlib.figure import Figure

import medfuse
from medfuse.cohort import Plan, Settings
from medfuse.dicom import DicomOptions


class Brighter(torch.nn.Module):
    """A method of one's own."""

    def forward(self, mri: torch.Tensor, partner: torch.Tensor) -> torch.Tensor:
        return torch.maximum(mri, partner)


def fuse_one(study: Path, out: Path) -> medfuse.FusedStudy:
    mri = medfuse.load(study / "mri")
    pet = medfuse.load(study / "pet.nii.gz", modality="PET")
    found: medfuse.Registration = medfuse.register(mri, pet)
    window = medfuse.Window.from_level(40.0, 80.0)
    fused = medfuse.fuse(mri, pet, method=Brighter(), align=found, window=window, progress=told)
    fused.write_dicom(out / "dicom", options=DicomOptions(description="Mine", compression="rle"))
    fused.write_nifti(out / "fused.nii.gz")
    return fused


def told(step: str, share: float, note: str = "") -> None:
    print(f"{step}: {share:.0%} {note}")


def fuse_all(studies: Iterable[Path], out: Path) -> dict[str, str]:
    refused: dict[str, str] = {}
    for number, study in enumerate(studies):
        try:
            print(fuse_one(study, out / str(number)).provenance.alignment)
        except medfuse.MedfuseError as error:
            refused[str(number)] = str(error)
    return refused


VERSION: str = medfuse.__version__


def run_cohort(source: Path, out: Path) -> list[str]:
    plan: Plan = medfuse.cohort.plan(source)
    medfuse.cohort.write_manifest(plan, out / "plan.csv")
    told = [f"{row.name}: {row.reason}" for row in medfuse.cohort.read_manifest(out / "plan.csv").rows]
    return told + [f"{one.study}: {one.result}" for one in plan.run(out, settings=Settings(), workers=2)]


def draw(study: medfuse.FusedStudy, out: Path) -> str:
    figure: Figure = study.figure(3, plane="orthogonal", columns=("mri", "fused"), at=(1.0, 2.0, 3.0), dark=True)
    study.write_figure(out / "figure.pdf", figure, dpi=200)
    study.write_report(out / "report.html")
    study.write_attribution(out / "parts.nii.gz", study.attribution())
    study.deidentified().write_partner(out / "partner")
    return study.report()


def export(network: Brighter, out: Path) -> float | None:
    medfuse.export.write_bundle(out / "bundle", method=network)
    medfuse.export.write_program(out / "network.pt2", method=network, size=(64, 64))
    made = medfuse.export.write_onnx(out / "network.onnx", method=network)
    return made.difference


async def serve(studies: Iterable[Path], out: Path) -> AsyncIterator[medfuse.FusedStudy]:
    for number, study in enumerate(studies):
        yield await asyncio.to_thread(fuse_one, study, out / str(number))


def methods() -> list[medfuse.methods.FusionMethod]:
    try:
        return [medfuse.methods.load_method(name) for name in medfuse.methods.method_names()]
    except (medfuse.MethodError, medfuse.WeightsError):
        return [medfuse.methods.FusionMethod("mine", Brighter(), version="mine 1")]
'''

WRONG = (
    ("medfuse.load(3.5)", "arg-type"),
    ('medfuse.load("a", luma="yes")', "arg-type"),
    ('medfuse.Window("a", 2.0)', "arg-type"),
    ('medfuse.fuse(mri, mri, plane="oblique")', "arg-type"),
    ("medfuse.fused", "attr-defined"),
    ("fused.write_dicm('a')", "attr-defined"),
    ('fused.write_nifti("a").exists()', "attr-defined"),
    ('fused.figure(plane="oblique")', "arg-type"),
    ('medfuse.cohort.plan("a").rows[0].nam', "attr-defined"),
    ('medfuse.export.write_onnx("a.onnx", sizes=3)', "call-arg"),
    ('medfuse.methods.load_method("max").nam', "attr-defined"),
)
"""Mistakes that are to be found, with mypy's code of each: a name of type Any would let them pass."""


@pytest.mark.slow
def test_a_strictly_typed_caller_finds_the_types_of_medfuse(tmp_path):
    if find_spec("mypy") is None:
        pytest.skip("mypy (the extra lint) is not installed")
    package = Path(medfuse.__file__).parent
    assert (package / "py.typed").is_file()
    (tmp_path / "right.py").write_text(CALLER)
    head = 'import medfuse\n\nmri = medfuse.load("a")\nfused = medfuse.fuse(mri, mri)\n'
    (tmp_path / "wrong.py").write_text(head + "\n".join(line for line, _ in WRONG) + "\n")
    # Without the settings of this repository, and without a word about the package's own files.
    command = [sys.executable, "-m", "mypy", "--strict", "--config-file=", "--follow-imports=silent", "--no-pretty"]
    where = ["--cache-dir", str(tmp_path / "cache"), "right.py", "wrong.py"]
    done = subprocess.run(
        [*command, *where],
        cwd=tmp_path,
        env=os.environ | {"MYPYPATH": str(package.parent)},
        capture_output=True,
        text=True,
        check=False,
    )
    errors = [line for line in done.stdout.splitlines() if ": error:" in line]
    found = {(line.split(":")[0], int(line.split(":")[1]), line.rpartition("[")[2].rstrip("]")) for line in errors}
    first = head.count("\n") + 1
    assert found == {("wrong.py", first + n, code) for n, (_, code) in enumerate(WRONG)}, done.stdout + done.stderr
