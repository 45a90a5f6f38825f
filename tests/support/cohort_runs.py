"""Make small cohorts of phantoms, and do their studies without processes of their own."""

import json
from typing import ClassVar

import pytest

import medfuse
from medfuse import nifti
from medfuse.cohort.manifest import read_manifest
from medfuse.cohort.running import children
from medfuse.cohort.running.children import ChildDiedError
from medfuse.cohort.running.run import run_plan
from medfuse.cohort.running.settings import Settings
from medfuse.cohort.running.where import Where
from medfuse.cohort.study import child

SETTINGS = Settings(align="header", engine="masked", report=False)
"""What takes a second on a phantom of large voxels, without a compiler."""


NAMES = ["sub-01_trc-FDG_pet", "sub-02_ct", "sub-03_trc-FDG_pet"]
"""The studies of `write_cohort`, as they are planned."""


def write_cohort(folder, kinds=("PT", "CT", "PT"), coarsen=8):
    """NIfTI files of phantoms, and the plan of their fusions; its path."""
    folder.mkdir(parents=True, exist_ok=True)
    lines = ["subject,tracer,mri,partner,modality"]
    for number, kind in enumerate(kinds, start=1):
        study = medfuse.phantom_study(kind, seed=number, coarsen=coarsen)
        nifti.write_measured(study.mri, folder / f"mri{number}.nii.gz", {})
        nifti.write_measured(study.partner, folder / f"partner{number}.nii.gz", {})
        tracer = "FDG" if kind == "PT" else ""
        lines.append(f"{number:02d},{tracer},mri{number}.nii.gz,partner{number}.nii.gz,{kind}")
    plan = folder / "plan.csv"
    plan.write_text("\n".join(lines) + "\n")
    return plan


def run(plan, out, settings=SETTINGS, **options):
    """Run a plan on this machine; the outcomes by study."""
    planned = read_manifest(plan)
    where = options.pop("where", Where(workers=2))
    found = run_plan(planned.rows, planned.faults, out, settings=settings, where=where, **options)
    return {outcome.study: outcome for outcome in found}


def results(outcomes):
    return {study: outcome.result for study, outcome in outcomes.items()}


class InProcess:
    """Stands for `medfuse.cohort.running.children.Child`: does what is asked in this process.

    ``dies`` names studies whose process is to end by a cause, after they have begun where it says so.
    """

    alive = True
    asked: ClassVar = []
    dies: ClassVar = {}

    def __init__(self, threads):
        pass

    def ask(self, question, limit):
        question = json.loads(json.dumps(question))
        name = question["request"]["name"]
        self.asked.append((question["work"], name))
        if question["work"] == "do" and name in self.dies:
            raise ChildDiedError(self.dies[name])
        return json.loads(json.dumps(child._answer(question)))

    def close(self):
        pass


@pytest.fixture
def in_process(monkeypatch):
    """Do studies in this process, and note what is asked; ``dies`` may be filled."""
    monkeypatch.setattr(InProcess, "asked", [])
    monkeypatch.setattr(InProcess, "dies", {})
    monkeypatch.setattr(children, "Child", InProcess)
    return InProcess


def tree(folder):
    """The bytes of all results, by their names; without what tells times."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.glob("sub-*/**/*"))
        if path.is_file() and not path.name.startswith(".")
    }
