"""Every example, and every Python block of the documentation, runs as a user would run it, in a folder of its own."""

import re
import runpy
import shlex
import shutil
import subprocess
import sys

import matplotlib as mpl
import nibabel as nib
import numpy as np
import pytest
from matplotlib import pyplot as plt
from pages import ROOT, Block, blocks_of

import medfuse
from medfuse.volume import grid_of

EXAMPLES = sorted((ROOT / "examples").glob("*.py"))
FOLDERS = ("tutorials", "how-to", "concepts")
PAGES = [
    page
    for page in (
        ROOT / "README.md",
        ROOT / "docs" / "index.md",
        *(page for folder in FOLDERS for page in sorted((ROOT / "docs" / folder).glob("*.md"))),
    )
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
    for name, volume in (("T1", phantom.mri), ("PET", phantom.partner)):
        for suffix in (".nii", ".nii.gz"):
            image = nib.nifti1.Nifti1Image(volume.as_tensor()[0].numpy(), grid_of(volume).affine)
            nib.save(image, folder / f"{name}{suffix}")
    return folder


NUMBER = re.compile(r"\d+(?:\.\d+)?")


def require_alike(printed, shown):
    """The same lines, but for UIDs, last digits, in which processors differ, and that the engine is compiled."""
    printed, shown = (
        [re.sub(r"2\.25\.\d+", "UID", line).rstrip() for line in text.splitlines() if not COMPILING.match(line)]
        for text in (printed, shown)
    )
    assert [NUMBER.sub("#", line) for line in printed] == [NUMBER.sub("#", line) for line in shown]
    found, expected = ([float(one) for one in NUMBER.findall("\n".join(lines))] for lines in (printed, shown))
    np.testing.assert_allclose(found, expected, rtol=0.01, atol=0.11)


COMPILING = re.compile("compiling the engine for this machine")


def test_there_are_examples_and_pages():
    assert EXAMPLES
    assert {page.parent.name for page in PAGES} == {*FOLDERS, "docs", ROOT.name}


@pytest.mark.slow
@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_runs_and_leaves_nothing_behind(path, workplace):
    runpy.run_path(str(path), run_name="__main__")
    assert not list(workplace.iterdir())


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_the_code_of_a_page_runs(page, workplace, studies, capsys):
    """And prints what the page shows: a block of text that follows a block of Python that prints is its output."""
    blocks = blocks_of(page)
    if not any('write_dicom("study")' in text for _, text in blocks):
        shutil.copytree(studies, workplace, dirs_exist_ok=True)
    names = {"__name__": page.stem}
    followed = [*blocks[1:], Block("", "")]
    for (language, text), (kind, shown) in zip(blocks, followed, strict=True):
        if language == "python":
            capsys.readouterr()
            exec(compile(text, page.name, "exec"), names)
            if kind == "text" and "print(" in text:
                require_alike(capsys.readouterr().out, shown)


@pytest.mark.slow
def test_the_commands_of_the_tutorial_print_what_it_shows(workplace):
    """A block of text that follows commands is what the last of them prints."""
    ended = None
    for language, text in blocks_of(ROOT / "docs" / "tutorials" / "first-fusion-command.md"):
        if language == "sh":
            for line in text.splitlines():
                program, *arguments = shlex.split(line)
                assert program == "medfuse"
                command = [sys.executable, "-m", "medfuse", *arguments]
                ended = subprocess.run(
                    command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, encoding="utf-8", check=False
                )
        elif language == "text":
            require_alike(ended.stdout, text)
    assert ended.returncode == 5, "the last command is one that is refused"
