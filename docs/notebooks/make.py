"""Write the notebooks of the documentation, executed: ``python docs/notebooks/make.py [NAME]``."""

import sys
from pathlib import Path

import nbformat
from nbclient import NotebookClient

FOLDER = Path(__file__).parent
LIMIT_S = 1200

ONE_PATIENT = [
    """# One patient, from two volumes to a fused study

A phantom stands in for a patient here: a digital head, made anew by `medfuse.phantom_study`. With your own studies,
`medfuse.load("study/mri")` and `medfuse.load("study/pet")` give the two volumes. Research use only.""",
    """import medfuse

phantom = medfuse.phantom_study("PT", coarsen=4)
mri, pet = phantom.mri, phantom.partner
mri""",
    """A volume is a MONAI `MetaTensor`, and shows itself as a picture: letters say where the patient lies, and the bar how
long 50 mm are. The PET has its own grid, unit and colours:""",
    "pet",
    """The registration says how far the two studies are apart, and whether the pictures confirm it. Each dot is a part of the
head, in the colour of its estimated error.""",
    """registration = medfuse.register(mri, pet)
registration""",
    "fused = medfuse.fuse(mri, pet, align=registration)\nfused",
    """`fused.view()` opens the interactive viewer here, `fused.write_report("report.html")` writes the page that it is part
of, and `fused.write_dicom("fused")` a series that viewers open in the MRI's place. None of them is called here, so that this
notebook stays small.""",
]

COHORT = [
    """# A cohort

Three phantom patients stand in for a cohort here; a folder of many patients is planned alike. Nothing but the folder is
given: the rules choose what is fused with what, and say why. Research use only.""",
    """from pathlib import Path
from tempfile import TemporaryDirectory

import pydicom

import medfuse

temporary = TemporaryDirectory()
folder = Path(temporary.name)
for patient, (partner, seed) in {"one": ("PT", 1), "two": ("CT", 2), "three": ("PT", 3)}.items():
    medfuse.phantom_study(partner, seed=seed, coarsen=4).write_dicom(folder / "studies" / patient)
    for path in (folder / "studies" / patient).rglob("*.dcm"):  # phantoms have one number; here each gets its own
        dataset = pydicom.dcmread(path)
        dataset.PatientID = patient
        dataset.save_as(path)""",
    'plan = medfuse.cohort.plan(folder / "studies")\nplan',
    """Nothing is fused yet. `plan.run(out)` does each study once, in processes of its own, and yields what became of it;
another run goes on where the first stopped. Their alignment and method are settings of the whole run.""",
    """from medfuse.cohort.running.settings import Settings

settings = Settings(align="header", force=True, method="average")
[(outcome.study, outcome.result) for outcome in plan.run(folder / "fused", settings=settings, workers=1)]""",
    """What became of the cohort can be asked at any time. The folder also holds a page of all studies, worst first, on which
they are looked at and rated: `index.html`.""",
    """from medfuse.cohort.running.status import read_status

read_status(folder / "fused").counts""",
    """import csv

with (folder / "fused" / "cohort.tsv").open() as table:
    rows = list(csv.DictReader(table, delimiter="\\t"))
[(row["name"], row["modality"], row["verdict"]) for row in rows]""",
]

OWN_NETWORK = [
    """# Your own network

Anything that takes two batches of slices and returns one can fuse a study: a function, or a torch module. Registration,
windows, colours, DICOM and the report stay medfuse's. Research use only.""",
    """import torch

import medfuse

phantom = medfuse.phantom_study("PT", coarsen=4)
truth = medfuse.Registration(phantom.truth, "file")""",
    """The module gets the luma of MRI and partner, each of shape (B, 1, H, W) and in [0, 1], and returns the fused luma
likewise. This one weighs both sources by how much their surroundings vary:""",
    """class ByDetail(torch.nn.Module):
    def detail(self, picture):
        mean = torch.nn.functional.avg_pool2d(picture, 7, stride=1, padding=3)
        return torch.nn.functional.avg_pool2d((picture - mean) ** 2, 7, stride=1, padding=3).sqrt() + 1e-3

    def forward(self, mri, partner):
        one, other = self.detail(mri), self.detail(partner)
        return (one * mri + other * partner) / (one + other)""",
    "fused = medfuse.fuse(phantom.mri, phantom.partner, method=ByDetail(), align=truth, force=True)\nfused",
    """How much of the picture comes from which source, and which edges are in neither, can be asked of any method:""",
    """parts = fused.attribution()
shares = {name: float(getattr(parts, name).sum()) for name in ("mri", "partner", "neither")}
{name: f"{share / sum(shares.values()):.0%}" for name, share in shares.items()}, fused.invented_structure().share""",
]

NOTEBOOKS = {"one-patient": ONE_PATIENT, "cohort": COHORT, "your-own-network": OWN_NETWORK}


def built(cells):
    """A notebook of text, whose cells begin as sentences do, and code; without outputs."""
    made = nbformat.v4.new_notebook(metadata={"kernelspec": {"name": "python3", "display_name": "Python 3"}})
    for number, text in enumerate(cells):
        prose = text[0] in "#`" or text[0].isupper()
        cell = nbformat.v4.new_markdown_cell(text) if prose else nbformat.v4.new_code_cell(text)
        cell.id = f"cell-{number}"
        made.cells.append(cell)
    return made


def executed(notebook):
    """The same with what its cells give."""
    client = NotebookClient(notebook, timeout=LIMIT_S, kernel_name="python3")
    try:
        return client.execute()
    except AssertionError:
        if client.km is None:  # nbclient ends the kernel on a signal, such as that of `timeout`, and trips over it
            raise SystemExit("a signal ended this before the notebook was executed; give it more time") from None
        raise


def main(*names):
    """Write some of the notebooks, or all."""
    for name in names or NOTEBOOKS:
        done = executed(built(NOTEBOOKS[name]))
        for cell in done.cells:
            cell.metadata.pop("execution", None)
        nbformat.write(done, FOLDER / f"{name}.ipynb")


if __name__ == "__main__":
    main(*sys.argv[1:])
