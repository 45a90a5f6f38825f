"""Every `medfuse` command that a page shows exists, with its options; those of the README run."""

import re
import shlex
import sys

import nibabel as nib
import numpy as np
import pytest
from pages import ROOT, blocks_of
from PIL import Image
from typer.main import get_command
from typer.testing import CliRunner

import medfuse
from medfuse.cli import app
from medfuse.volume import grid_of

PAGES = sorted(
    page
    for page in (ROOT / "README.md", *(ROOT / "docs").rglob("*.md"), *(ROOT / "integrations").rglob("*.md"))
    if "decisions" not in page.parts and "_build" not in page.parts and page.name != "command.md"  # which shows usage
)


def commands_of(page):
    """The words of every command of a page's shell blocks that calls medfuse, without what follows a pipe or ``&``."""
    for language, text in blocks_of(page):
        if language == "sh":
            for line in text.replace("\\\n", " ").splitlines():
                if re.match(r"(\S*/)?medfuse ", line.strip()):
                    words = shlex.split(line, comments=True)
                    ends = [place for place, word in enumerate(words) if word in {"|", "&&", "&", ">", ";"}]
                    yield words[1 : min(ends, default=len(words))]


COMMANDS = [(page, words) for page in PAGES for words in commands_of(page)]


VALUES = {("bench", "--pictures"): 2}
"""How many values an option takes, where that is not one."""


def require_known(words):
    """Raise `AssertionError` where a command or an option is not the program's, or there are too many arguments."""
    command, left = get_command(app), list(words)
    while hasattr(command, "commands"):
        name = left.pop(0)
        assert name in command.commands, f"there is no command {name!r}"
        command = command.commands[name]
    options = {name: each for each in command.params for name in each.opts}
    arguments = [each.nargs for each in command.params if each.param_type_name == "argument"]
    room = sys.maxsize if -1 in arguments else sum(arguments)
    while left:
        word = left.pop(0)
        if not word.startswith("--"):
            room -= 1
            continue
        assert word in options, f"there is no option {word}"
        if not options[word].is_flag:
            values = VALUES.get((command.name, word), 1)
            assert len(left) >= values, f"there is no value of {word}"
            del left[:values]
    assert room >= 0, "there are more arguments than the command takes"


def test_there_are_commands_and_a_wrong_one_is_found():
    assert len(COMMANDS) > 60
    for words in ("fuze A B", "fuse A --outt B", "fuse A B C --out D", "cohort rum A"):
        with pytest.raises(AssertionError):
            require_known(shlex.split(words))


@pytest.mark.parametrize("page", sorted({page for page, _ in COMMANDS}), ids=lambda page: page.stem)
def test_the_commands_of_a_page_exist(page):
    for words in commands_of(page):
        try:
            require_known(words)
        except AssertionError as error:
            pytest.fail(f"medfuse {shlex.join(words)}: {error}")


@pytest.mark.slow
def test_the_commands_of_the_readme_run(tmp_path, monkeypatch):
    """As they stand there, on a study in DICOM and in NIfTI; but for those that need a server."""
    monkeypatch.chdir(tmp_path)
    phantom = medfuse.phantom_study("PT", coarsen=4)
    phantom.write_dicom(tmp_path / "CD")
    for name, part, volume in (("MRI", "mri", phantom.mri), ("PET", "partner", phantom.partner)):
        (tmp_path / name).symlink_to(tmp_path / "CD" / part)
        file = f"{name.replace('MRI', 'T1')}.nii.gz"
        nib.save(nib.nifti1.Nifti1Image(volume.as_tensor()[0].numpy(), grid_of(volume).affine), file)
    slices = np.uint8(255 * phantom.mri.as_tensor()[0, :, :, 15:17].numpy() / phantom.mri.max().item())
    for name, moved in (("mri", slices), ("pet", np.roll(slices, 3, axis=0))):
        (tmp_path / "PAIRS" / name).mkdir(parents=True)
        for number in range(2):
            Image.fromarray(np.ascontiguousarray(moved[:, :, number])).save(tmp_path / "PAIRS" / name / f"{number}.png")
    written = next(text for language, text in blocks_of(ROOT / "README.md") if language == "python" and "class" in text)
    (tmp_path / "half.py").write_text(written.partition("\n\n\nmri, pet")[0].replace("\nmri, pet", "\n# "))
    ran = []
    for words in commands_of(ROOT / "README.md"):
        if words[0] != "send":
            more = ["--overwrite"] if "--out" in words else []
            done = CliRunner().invoke(app, [*words, *more])
            assert done.exit_code == 0, f"{shlex.join(words)}: {done.stderr[-500:]}"
            ran.append(words[0])
    assert set(ran) == {"fuse", "figure", "inspect", "score"}
    assert "half" in (tmp_path / "MINE" / "fused.json").read_text()
    sys.modules.pop("medfuse_method_half", None)
