import io
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pydicom
import pytest
from enhanced import enhance
from rich.console import Console
from synthetic import acquired, oblique_grid
from typer.testing import CliRunner

import medfuse
from medfuse.cli import app
from medfuse.dicom.simulate import write_acquisition

HEADER = ["--align", "header"]

STEPS = {"load", "align", "resample", "fuse", "write"}


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    folder = tmp_path_factory.mktemp("study")
    medfuse.phantom_study("PT", coarsen=4).write_dicom(folder)
    return folder


@pytest.fixture
def run():
    def command(*arguments):
        return CliRunner().invoke(app, [str(argument) for argument in arguments])

    return command


def left(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def test_a_study_is_fused(run, study, tmp_path):
    done = run("fuse", study / "mri", study / "partner", "--out", tmp_path / "out", *HEADER, "--json")
    assert done.exit_code == 0, done.output
    result = json.loads(done.stdout)
    assert result["grid"]["shape"] == list(medfuse.load(study / "mri").shape[1:])
    assert result["provenance"]["partner_modality"] == "PT"
    assert done.stderr == ""
    files = left(tmp_path / "out")
    assert [name for name in files if not name.startswith("dicom/")] == [
        *("dataset_description.json", "dicom", "fused.json", "fused.nii.gz")
    ]
    assert len([name for name in files if name.endswith(".dcm")]) == result["grid"]["shape"][2]
    assert left(tmp_path) == ["out", *(f"out/{name}" for name in files)]


def test_a_terminal_shows_every_step_to_its_end(run, study, tmp_path, monkeypatch):
    shown = io.StringIO()
    monkeypatch.setattr("medfuse.cli.console.stderr", Console(file=shown, force_terminal=True, width=100))
    assert run("fuse", study / "mri", study / "partner", "--out", tmp_path / "out", *HEADER).exit_code == 0
    ends = {name for name in STEPS for line in shown.getvalue().splitlines() if name in line and "100%" in line}
    assert ends == STEPS


@pytest.mark.parametrize(
    ("format_", "names"), [("dicom", {"dicom"}), ("nifti", {"fused.nii.gz", "fused.json", "dataset_description.json"})]
)
def test_only_what_was_asked_for_is_written(run, study, tmp_path, format_, names):
    run("fuse", study / "mri", study / "partner", "--out", tmp_path / "out", *HEADER, "--format", format_)
    assert {path.name for path in (tmp_path / "out").iterdir()} == names


def test_nifti_in_gives_the_same_grid_out(run, study, tmp_path):
    import nibabel as nib

    for name in ("mri", "partner"):
        volume = medfuse.load(study / name)
        nib.save(nib.Nifti1Image(volume.as_tensor()[0].numpy(), np.asarray(volume.affine)), tmp_path / f"{name}.nii.gz")
    done = run(
        *("fuse", tmp_path / "mri.nii.gz", tmp_path / "partner.nii.gz", "--modality", "PT", *HEADER),
        *("--out", tmp_path / "out", "--plane", "coronal", "--palette", "pet"),
    )
    assert done.exit_code == 0, done.output
    assert "".join(nib.aff2axcodes(nib.load(tmp_path / "out" / "fused.nii.gz").affine)) == "LIP"


def test_black_air_is_asked_for_and_recorded(run, study, tmp_path):
    arguments = ("fuse", study / "mri", study / "partner", *HEADER, "--format", "nifti", "--json", "--out")
    for name, flags in (("plain", ()), ("black", ("--black-air",))):
        done = run(*arguments, tmp_path / name, *flags)
        assert json.loads(done.stdout)["provenance"]["black_air"] is bool(flags)
    files = (tmp_path / name / "fused.nii.gz" for name in ("plain", "black"))
    dark = [(medfuse.load(file, "MR", luma=True).as_tensor() < 1).sum() for file in files]
    assert dark[1] > 1.2 * dark[0] > 0


def test_a_saved_registration_is_used(run, study, tmp_path):
    matrix = np.eye(4)
    matrix[:3, 3] = (3, -2, 1)
    medfuse.Registration(matrix, "rigid", {}).save(tmp_path / "align.tfm")
    done = run(
        *("fuse", study / "mri", study / "partner", "--align", tmp_path / "align.tfm"),
        *("--out", tmp_path / "out", "--format", "nifti", "--json"),
    )
    np.testing.assert_allclose(json.loads(done.stdout)["provenance"]["registration"]["matrix"], matrix, atol=1e-6)


def test_results_are_replaced_only_when_told(run, study, tmp_path):
    arguments = ["fuse", study / "mri", study / "partner", "--out", tmp_path / "out", *HEADER, "--format", "nifti"]
    assert run(*arguments).exit_code == 0
    (tmp_path / "out" / "mine.txt").write_text("mine")
    before = (tmp_path / "out" / "fused.nii.gz").stat().st_mtime_ns
    again = run(*arguments)
    assert again.exit_code == 5
    assert "exists already" in again.stderr
    assert (tmp_path / "out" / "fused.nii.gz").stat().st_mtime_ns == before
    assert run(*arguments, "--overwrite").exit_code == 0
    assert (tmp_path / "out" / "fused.nii.gz").stat().st_mtime_ns > before
    assert (tmp_path / "out" / "mine.txt").read_text() == "mine"


@pytest.fixture
def wrong(study, tmp_path):
    """Inputs that are refused, by name."""
    for name in ("mri", "partner"):
        shutil.copytree(study / name, tmp_path / name)
    places = {
        name: tmp_path / name for name in ("mri", "partner", "absent", "empty", "text", "one", "gap", "two", "flat")
    }
    places["empty"].mkdir()
    places["text"].mkdir()
    (places["text"] / "a.txt").write_text("text")
    slices = sorted(places["mri"].iterdir())
    for name, kept in (("one", slices[:1]), ("gap", slices[:4] + slices[5:]), ("two", slices)):
        places[name].mkdir()
        for path in kept:
            shutil.copy(path, places[name])
    shutil.copytree(places["partner"], places["two"] / "partner")
    for path in sorted(places["mri"].iterdir())[:4]:
        repeated = pydicom.dcmread(path)
        repeated.SeriesInstanceUID += ".1"
        repeated.SeriesNumber = 77
        repeated.save_as(places["two"] / f"repeated-{path.name}")
    places["flat"] = tmp_path / "flat.nii"
    places["flat"].write_bytes(b"\0" * 348)
    return places


@pytest.mark.parametrize(
    ("mri", "partner", "code", "message"),
    [
        ("absent", "partner", 3, "there is no file or folder"),
        ("empty", "partner", 3, "found no file"),
        ("text", "partner", 3, "found 1 file but no DICOM image"),
        ("one", "partner", 3, "one slice only"),
        ("gap", "partner", 3, "1 slice seems to be missing"),
        ("two", "partner", 3, "expected one series"),
        ("flat", "partner", 3, "not a readable NIfTI"),
        ("partner", "mri", 3, "swap the two"),
        ("mri", "mri", 3, "no CT, PET or SPECT of this subject"),
    ],
)
def test_wrong_input_gets_one_sentence(run, wrong, tmp_path, mri, partner, code, message):
    before = left(tmp_path)
    done = run("fuse", wrong[mri], wrong[partner], "--out", tmp_path / "new" / "out", *HEADER)
    assert done.exit_code == code, done.output
    assert message in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert done.stdout == ""
    assert left(tmp_path) == before


def test_json_tells_errors_too(run, wrong, tmp_path):
    done = run("fuse", wrong["gap"], wrong["partner"], "--out", tmp_path / "out", "--json")
    assert json.loads(done.stdout)["error"]["kind"] == "SeriesError"
    assert json.loads(done.stdout)["error"]["exit_code"] == 3


@pytest.mark.parametrize(
    "arguments",
    [
        ["--format", "png"],
        ["--modality", "MR"],
        ["--plane", "oblique"],
        ["--batch-size", "0"],
        ["--device", "cuda:77"],
        ["--nonsense"],
    ],
)
def test_usage_errors_exit_with_2(run, study, tmp_path, arguments):
    done = run("fuse", study / "mri", study / "partner", "--out", tmp_path / "out", *HEADER, *arguments)
    assert done.exit_code == 2
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("arguments", "code"), [(["--window", "bone"], 3), (["--palette", "rainbow"], 2), (["--weights", "none.pth"], 2)]
)
def test_choices_that_do_not_fit_the_study_exit_with_3_and_those_that_are_none_with_2(
    run, study, tmp_path, arguments, code
):
    done = run("fuse", study / "mri", study / "partner", "--out", tmp_path / "out", *HEADER, *arguments)
    assert done.exit_code == code
    assert not (tmp_path / "out").exists()


def test_results_of_an_earlier_run_do_not_stay_beside_new_ones(run, study, tmp_path):
    arguments = ["fuse", study / "mri", study / "partner", "--out", tmp_path / "out", *HEADER]
    assert run(*arguments, "--format", "dicom").exit_code == 0
    assert run(*arguments, "--format", "nifti", "--overwrite").exit_code == 0
    assert not (tmp_path / "out" / "dicom").exists()


def test_an_existing_folder_on_another_disk_is_written(run, study, tmp_path):
    elsewhere = Path("/dev/shm")
    if not elsewhere.is_dir() or elsewhere.stat().st_dev == tmp_path.stat().st_dev:
        pytest.skip("there is no second file system")
    with tempfile.TemporaryDirectory(dir=elsewhere) as place:
        (tmp_path / "link").symlink_to(place)
        done = run("fuse", study / "mri", study / "partner", "--out", tmp_path / "link", *HEADER, "--format", "nifti")
        assert done.exit_code == 0, done.output
        assert (Path(place) / "fused.nii.gz").exists()


def test_an_alignment_that_is_no_file_is_a_usage_error(run, study, tmp_path):
    done = run("fuse", study / "mri", study / "partner", "--out", tmp_path / "out", "--align", "ridgid")
    assert done.exit_code == 2
    assert not (tmp_path / "out").exists()


def test_a_broken_registration_file_exits_with_4(run, study, tmp_path):
    (tmp_path / "a.txt").write_text("not a matrix")
    done = run("fuse", study / "mri", study / "partner", "--out", tmp_path / "out", "--align", tmp_path / "a.txt")
    assert done.exit_code == 4
    assert not (tmp_path / "out").exists()


def test_outputs_never_go_into_inputs(run, study):
    before = left(study)
    done = run("fuse", study / "mri", study / "partner", "--out", study / "mri", *HEADER, "--overwrite")
    assert done.exit_code == 5
    assert "input" in done.stderr
    assert left(study) == before


def test_a_read_only_place_is_told(study, tmp_path):
    (tmp_path / "locked").mkdir(mode=0o555)
    arguments = ["fuse", study / "mri", study / "partner", "--out", tmp_path / "locked" / "out", *HEADER]
    command = [sys.executable, "-m", "medfuse", *map(str, arguments)]
    if os.geteuid() == 0:
        if shutil.which("setpriv") is None:
            pytest.skip("root writes everywhere")
        command = ["setpriv", "--bounding-set=-dac_override", "--inh-caps=-dac_override", *command]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 5, done.stderr
    assert "Permission denied" in done.stderr
    assert left(tmp_path) == ["locked"]


def test_inspect_lists_series_and_what_is_wrong(run, wrong):
    done = run("inspect", wrong["two"], "--json")
    listed = json.loads(done.stdout)
    assert sorted(row["modality"] for row in listed["series"]) == ["MR", "MR", "PT"]
    assert listed["series"][0]["problem"] is None
    table = run("inspect", wrong["gap"])
    assert table.exit_code == 0
    assert "no: 1 slice" in table.stdout
    assert "slice spacing is not uniform" in table.stdout
    assert run("inspect", wrong["empty"]).exit_code == 3


def test_help_says_what_it_is_for_and_how_it_ends(run):
    shown = run("--help").stdout
    assert "Research use only" in " ".join(shown.split())
    assert "4 not aligned" in " ".join(run("fuse", "--help").stdout.split())


@pytest.mark.slow
def test_the_demo_leaves_a_study_and_its_fusion(run, tmp_path):
    done = run("demo", "--out", tmp_path / "demo")
    assert done.exit_code == 0, done.output
    assert {path.name for path in (tmp_path / "demo").iterdir()} == {
        *("study", "dicom", "fused.nii.gz", "fused.json", "dataset_description.json", "picture.png")
    }
    for name in ("dicom", "picture.png"):
        assert str(tmp_path / "demo" / name) in done.stdout


def test_an_enhanced_mri_with_a_gap_in_its_partner_is_fused(run, tmp_path):
    mri, _, _ = acquired(oblique_grid())
    ct, _, _ = acquired(oblique_grid(), "CT")
    write_acquisition(mri, tmp_path / "classic", study=1, series_number=4)
    enhance([tmp_path / "classic"], tmp_path / "mri" / "1.dcm", shuffled=True)
    write_acquisition(ct, tmp_path / "ct", study=1, series_number=5)
    sorted((tmp_path / "ct").iterdir())[4].unlink()
    arguments = ["fuse", tmp_path / "mri", tmp_path / "ct", "--out", tmp_path / "out", *HEADER, "--json"]
    refused = run(*arguments)
    assert refused.exit_code != 0
    assert "--fill-gaps" in json.loads(refused.stdout)["error"]["message"]
    done = run(*arguments, "--fill-gaps")
    assert done.exit_code == 0, done.output
    provenance = json.loads(done.stdout)["provenance"]
    assert (provenance["mri_filled_slices"], provenance["partner_filled_slices"]) == (0, 1)
    written = pydicom.dcmread(tmp_path / "out" / "dicom" / "0005.dcm")
    base, *partners = written.SourceImageSequence
    assert base.ReferencedSOPClassUID == pydicom.uid.EnhancedMRImageStorage
    assert "ReferencedFrameNumber" in base
    assert len(partners) == 2  # the two neighbours that the missing slice was made of
    assert "CT slices missing and interpolated: 1." in written.DerivationDescription


def test_the_volumes_of_one_series_are_listed(run, tmp_path):
    mri, _, _ = acquired(oblique_grid())
    write_acquisition(mri, tmp_path / "classic", study=1, series_number=4)
    enhance([tmp_path / "classic"] * 2, tmp_path / "mri" / "1.dcm")
    rows = json.loads(run("inspect", tmp_path / "mri", "--json").stdout)["series"]
    assert [(row["number"], row["traits"], row["problem"]) for row in rows] == [
        ("4:1", "TemporalPositionIndex 1", None),
        ("4:2", "TemporalPositionIndex 2", None),
    ]
    assert "4:2" in run("inspect", tmp_path / "mri").stdout
