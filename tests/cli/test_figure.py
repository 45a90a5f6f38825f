"""The command that draws figures: what it writes, and what it says of wrong options."""

import json

import pytest
from typer.testing import CliRunner

from medfuse import nifti, phantom_study
from medfuse.cli import app


def run(*arguments):
    return CliRunner().invoke(app, list(arguments))


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    study, folder = phantom_study("PT", coarsen=4), tmp_path_factory.mktemp("pair")
    nifti.write_measured(study.mri, folder / "t1.nii.gz", {})
    nifti.write_measured(study.partner, folder / "pet.nii.gz", {})
    return [str(folder / "t1.nii.gz"), str(folder / "pet.nii.gz"), "--modality", "PET", "--align", "header", "--force"]


def test_a_figure_is_drawn_and_not_overwritten_untold(pair, tmp_path):
    out = tmp_path / "figure.svg"
    done = run("figure", *pair, "--out", str(out), "--slices", "2", "--method", "max", "--json")
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["out"] == str(out)
    drawn = out.read_text()
    assert "fused by max" in drawn
    assert "Research use only" in drawn
    again = run("figure", *pair, "--out", str(out), "--method", "max")
    assert again.exit_code == 5
    assert not any(step in again.stderr for step in ("align", "fuse"))
    assert run("figure", *pair, "--out", str(out), "--method", "max", "--at", "0,0,0", "--overwrite").exit_code == 0
    assert out.read_text() != drawn


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--out", "f.bmp"], "expected --out with .png, .pdf, .svg"),
        (["--out", "f.png", "--slices", "many"], "expected --slices as a count"),
        (["--out", "f.png", "--slices", "9999,"], "slices from 0 to"),
        (["--out", "f.png", "--at", "1,2"], "expected --at as X,Y,Z"),
        (["--out", "f.png", "--at", "0,0,9999"], "point inside the MRI"),
        (["--out", "f.png", "--columns", "mri,pet"], "columns of mri, partner, fused; found 'pet'"),
        (["--out", "f.png", "--align", "nosuch"], "there is no file"),
    ],
)
def test_wrong_options_are_wrong_usage(pair, tmp_path, monkeypatch, options, told):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(
        "medfuse.fuse", lambda *_, **__: pytest.fail("the pair was aligned before the options were read")
    )
    done = run("figure", *pair, "--method", "max", *options)
    assert done.exit_code == 2
    assert told in " ".join(done.stderr.split())
    assert not list(tmp_path.iterdir())
