"""Every example, and every Python block of the documentation, runs as a user would run it, in a folder of its own."""

import re
import runpy
import shutil
from pathlib import Path

import matplotlib as mpl
import nibabel as nib
import pytest
from matplotlib import pyplot as plt

import medfuse
from medfuse.volume import grid_of

ROOT = Path(__file__).parents[1]
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))
FOLDERS = ("tutorials", "how-to", "concepts")
PYTHON = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
PAGES = [
    page
    for folder in FOLDERS
    for page in sorted((ROOT / "docs" / folder).glob("*.md"))
    if "```python\n" in page.read_text()
]


@pytest.fixture
def workplace(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(plt, "show", lambda: None)
    with mpl.rc_context({"backend": "agg"}):
        yield tmp_path
        plt.close("all")


@pytest.fixture(scope="session")
def studies(tmp_path_factory):
    """What the pages speak of: a DICOM study, and two NIfTI files."""
    folder = tmp_path_factory.mktemp("studies")
    phantom = medfuse.phantom_study("PT", coarsen=3)
    phantom.write_dicom(folder / "study")
    for name, volume in (("T1.nii", phantom.mri), ("PET.nii", phantom.partner)):
        nib.save(nib.nifti1.Nifti1Image(volume.as_tensor()[0].numpy(), grid_of(volume).affine), folder / name)
    return folder


def test_there_are_examples_and_pages():
    assert EXAMPLES
    assert {page.parent.name for page in PAGES} == set(FOLDERS)


@pytest.mark.slow
@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_runs_and_leaves_nothing_behind(path, workplace):
    runpy.run_path(str(path), run_name="__main__")
    assert not list(workplace.iterdir())


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_the_code_of_a_page_runs(page, workplace, studies):
    blocks = PYTHON.findall(page.read_text())
    if 'write_dicom("study")' not in "".join(blocks):
        shutil.copytree(studies, workplace, dirs_exist_ok=True)
    names = {"__name__": page.stem}
    for block in blocks:
        exec(compile(block, page.name, "exec"), names)
