"""Inputs that lie among the results of a command are refused before anything is read or written."""

import os
import shutil

import pytest
from typer.testing import CliRunner

import medfuse
from medfuse.cli import app


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    folder = tmp_path_factory.mktemp("study")
    medfuse.phantom_study("PT", coarsen=4).write_dicom(folder)
    return folder


@pytest.fixture
def run():
    return lambda *arguments: CliRunner().invoke(app, [str(argument) for argument in arguments])


def left(folder):
    return {str(path.relative_to(folder)): path.is_file() and path.read_bytes() for path in folder.rglob("*")}


NAMES = {"--align": "registration.tfm", "--template": "partner", "--weights": "fused.json", "MRI": "dicom"}
"""Where each input lies that a run would replace."""


def itself(there, tmp_path):
    return there


def by_a_link(there, tmp_path):
    (tmp_path / f"link{there.suffix}").symlink_to(there)
    return tmp_path / f"link{there.suffix}"


def by_a_linked_folder(there, tmp_path):
    (tmp_path / "outside").symlink_to(there.parent)
    return tmp_path / "outside" / there.name


def by_another_name_of_its_files(there, tmp_path):
    other = tmp_path / f"copy{there.suffix}"
    shutil.copytree(there, other, copy_function=os.link) if there.is_dir() else os.link(there, other)
    return other


def linked_from_the_results(there, tmp_path):
    """The results hold a link to where it really is."""
    other = tmp_path / f"moved{there.suffix}"
    there.rename(other)
    there.symlink_to(other)
    return other


@pytest.mark.parametrize(
    "named", [itself, by_a_link, by_a_linked_folder, by_another_name_of_its_files, linked_from_the_results]
)
@pytest.mark.parametrize("option", NAMES)
def test_an_input_among_the_results_is_refused(run, study, tmp_path, option, named):
    out = tmp_path / "out"
    there = out / NAMES[option]
    if there.suffix:
        there.parent.mkdir()
        there.write_text("of the user")
    else:
        shutil.copytree(study / "mri", there)
    path = named(there, tmp_path)
    before = left(tmp_path)
    more = [] if option == "MRI" else [option, path]
    mri = path if option == "MRI" else study / "mri"
    done = run("fuse", mri, study / "partner", "--out", out, "--overwrite", *more)
    assert done.exit_code == 2, done.output
    assert f"given as {option}" in " ".join(done.stderr.replace("│", "").split())
    assert left(tmp_path) == before


@pytest.mark.parametrize("earlier", [False, True])
def test_results_in_the_folder_that_is_read_are_refused_the_same_way_twice(run, study, tmp_path, earlier):
    """As of a CD's copy into which the results are to go: also where it holds those of an earlier run."""
    shutil.copytree(study / "mri", tmp_path / "cd" / "mri")
    shutil.copytree(study / "partner", tmp_path / "cd" / "partner")
    if earlier:
        shutil.copytree(study / "mri", tmp_path / "cd" / "out" / "dicom")
    before = left(tmp_path)
    (tmp_path / "link").symlink_to(tmp_path / "cd")
    for place in ("cd", "link"):
        done = run("fuse", tmp_path / "cd", "--out", tmp_path / place / "out", "--overwrite")
        assert done.exit_code == 5, done.output
        assert "would write into the input" in " ".join(done.stderr.split())
    (tmp_path / "link").unlink()
    assert left(tmp_path) == before


def test_a_sidecar_and_the_files_of_a_dicomdir_are_inputs_too(run, study, tmp_path):
    out = tmp_path / "out"
    medfuse.dicom.write_media(out / "media", [study / "mri"])
    medfuse.nifti.write_measured(medfuse.load(study / "partner"), out / "fused.nii", {})
    shutil.copy(out / "media" / "DICOMDIR", out / "DICOMDIR")
    for mri, partner, name in (
        (out / "media" / "DICOMDIR", study / "partner", "MRI"),
        (study / "mri", out / "fused.nii", "PARTNER"),
    ):
        before = left(out)
        done = run("fuse", mri, partner, "--out", out, "--overwrite")
        assert done.exit_code == 2, done.output
        assert f"given as {name}" in " ".join(done.stderr.replace("│", "").split())
        assert left(out) == before


@pytest.mark.parametrize("overwrite", [[], ["--overwrite"]])
def test_align_replaces_no_folder_and_no_input(run, study, tmp_path, overwrite):
    (tmp_path / "maps.tfm").mkdir()
    (tmp_path / "maps.tfm" / "mine").write_text("mine")
    done = run(
        "align", study / "mri", study / "partner", "--out", tmp_path / "maps.tfm", "--method", "header", *overwrite
    )
    assert done.exit_code == 5
    assert "expected a place for a file" in done.stderr
    shutil.copytree(study / "mri", tmp_path / "mri")
    first = sorted((tmp_path / "mri").iterdir())[0]
    done = run("align", tmp_path / "mri", study / "partner", "--out", first, "--method", "header", *overwrite)
    assert done.exit_code == 2
    assert (tmp_path / "maps.tfm" / "mine").read_text() == "mine"
    assert left(tmp_path / "mri").keys() == left(study / "mri").keys()


def test_align_leaves_a_picture_that_is_not_its_own(run, study, tmp_path):
    (tmp_path / "head.png").write_bytes(b"\x89PNG of the user")
    done = run(
        "align", study / "mri", study / "partner", "--out", tmp_path / "head.tfm", "--method", "header", "--overwrite"
    )
    assert done.exit_code == 5
    assert "head.png was not written by medfuse" in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["head.png"]


def test_bench_refuses_its_own_inputs_before_it_measures(run, tmp_path):
    for name in ("bench.png", "b.png"):
        (tmp_path / name).write_bytes(b"a picture")
    done = run("bench", "--pictures", tmp_path / "bench.png", tmp_path / "b.png", "--out", tmp_path, "--overwrite")
    assert done.exit_code == 2
    assert "given as --pictures MRI" in " ".join(done.stderr.replace("│", "").split())


@pytest.mark.parametrize("name", ["dicom/notes.txt", "fused.nii.gz", "dataset_description.json", "registration.tfm"])
def test_what_medfuse_did_not_write_is_not_replaced(run, study, tmp_path, name):
    out = tmp_path / "out"
    (out / name).parent.mkdir(parents=True)
    (out / name).write_text('{"Name": "my study"}')
    done = run("fuse", study / "mri", study / "partner", "--out", out, "--align", "header", "--overwrite")
    assert done.exit_code == 5
    assert f"{name} was not written by medfuse" in done.stderr
    assert [path for path in left(out) if "." in path] == [name]


@pytest.mark.slow
def test_all_that_medfuse_writes_is_replaced(run, study, tmp_path):
    """Each kind of result is known as its own again."""
    fused = ["fuse", study / "mri", study / "partner", "--out", tmp_path / "out", "--align", "header", "--overwrite"]
    for more in (
        ["--with-partner", "--compress", "rle"],
        ["--dicomdir", "--with-partner", "--deidentify"],
        ["--multiframe", "--format", "dicom"],
        ["--format", "nifti", "--with-partner"],
        ["--format", "nifti"],
    ):
        done = run(*fused, *more)
        assert done.exit_code == 0, done.stderr
    (tmp_path / "out" / ".DS_Store").write_text("")
    assert set(left(tmp_path / "out")) == {"fused.nii.gz", "fused.json", "dataset_description.json", ".DS_Store"}
    for suffix in (".tfm", ".txt", ".dcm"):
        arguments = ["align", study / "mri", study / "partner", "--out", tmp_path / f"a{suffix}", "--force"]
        for _ in range(2):
            assert run(*arguments, "--method", "header", "--overwrite").exit_code == 0


def test_luma_where_there_is_no_nifti_is_wrong_usage(study, run, tmp_path):
    done = run("fuse", study / "mri", study / "pet", "--out", tmp_path / "out", "--luma")
    assert done.exit_code == 2
    assert "--luma says how colours of NIfTI are read, but neither study is NIfTI" in " ".join(done.output.split())
    assert not (tmp_path / "out").exists()


def test_luma_where_nothing_has_colours_is_wrong_usage(run, tmp_path):
    phantom = medfuse.phantom_study("PT", coarsen=8)
    for name, volume in (("mri.nii", phantom.mri), ("pet.nii", phantom.partner)):
        medfuse.nifti.write_measured(volume, tmp_path / name, {})
    files = [tmp_path / "mri.nii", tmp_path / "pet.nii"]
    done = run("fuse", *files, "--modality", "PET", "--out", tmp_path / "out", "--luma")
    assert done.exit_code == 2, done.output
    assert "neither study holds colours" in " ".join(done.output.split())
    assert not (tmp_path / "out").exists()
    with pytest.raises(medfuse.SeriesError, match="no colours; leave luma out"):
        medfuse.load(files[0], "MR", luma=True)


def test_an_option_and_its_input_have_codes_of_their_own(run, study, tmp_path):
    """A value that no input could make right is wrong usage; a file of another kind is a refused input."""
    (tmp_path / "notes.safetensors").write_text("notes")
    pair = [study / "mri", study / "partner", "--out", tmp_path / "out"]
    for code, *more in (
        (2, "--weights", tmp_path / "absent.safetensors"),
        (3, "--weights", tmp_path / "notes.safetensors"),
        (2, "--template", tmp_path / "absent"),
        (3, "--template", tmp_path / "notes.safetensors"),
        (2, "--window", "brian"),
        (3, "--window", "bone"),
        (3, "--mri-series", "99"),
    ):
        done = run("fuse", *pair, *more)
        assert done.exit_code == code, (more, done.output)
        assert ("UsageError: " in done.stderr) == (code == 2)
