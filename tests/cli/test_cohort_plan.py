"""``medfuse cohort plan``: what it prints, writes, refuses, and never touches."""

import json

import pytest
from cohorts import write_patient, write_series
from typer.testing import CliRunner

from medfuse.cli import app
from medfuse.cohort import plan, read_manifest


def run(*arguments):
    return CliRunner().invoke(app, ["cohort", "plan", *map(str, arguments)])


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cohort")
    write_patient(folder / "a", "SECRET1", "1.2.1", name="Secret^Ann", date="20260417")
    write_series(folder / "b", "CT", patient="SECRET2", name="Secret^Ben", study="1.2.2")
    (folder / "notes.txt").write_text("x")
    return folder


def test_it_tells_what_with_what_and_why(tree):
    done = run(tree)
    assert done.exit_code == 0
    told = " ".join(done.stdout.replace("│", " ").split())
    assert "2 fusions of 1 subject planned; 2 left out." in told
    assert "a/MR + a/CT" in told
    assert "series 1 (MR): T1" in told
    assert "no MRI of this subject" in told
    assert "Research use only" in told
    assert "SECRET" not in done.output.upper()
    assert "20260417" not in done.output


def test_json_holds_every_row_and_every_series_left_out(tree):
    found = json.loads(run(tree, "--json").stdout)
    assert found["counts"] == {"planned": 2, "left_out": 2, "faults": 0}
    assert {row["modality"] for row in found["planned"]} == {"CT", "PT"}
    assert all(row["reason"] and row["name"] for row in found["planned"])
    assert {one["modality"] for one in found["left_out"]} == {"CT", ""}
    assert all(one["reason"] for one in found["left_out"])
    assert "SECRET" not in json.dumps(found).upper()


def test_out_is_a_manifest_and_all_that_is_written(tree, tmp_path):
    before = sorted(tree.rglob("*"))
    out = tmp_path / "new" / "plan.csv"
    assert run(tree, "--out", out).exit_code == 0
    assert [path.name for path in tmp_path.rglob("*")] == ["new", "plan.csv"]
    assert sorted(tree.rglob("*")) == before
    assert read_manifest(out).rows == plan(tree).rows
    again = run(out, "--json")
    assert again.exit_code == 0
    assert json.loads(again.stdout)["planned"] == json.loads(run(tree, "--json").stdout)["planned"]
    assert run(tree, "--out", out).exit_code == 5
    assert run(tree, "--out", out, "--overwrite").exit_code == 0


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["{tree}", "--out", "{tmp}/plan.xlsx"], 2, "expected --out with one of .csv, .tsv"),
        (["{tree}", "--out", "{tree}/plan.csv"], 5, "would write into the input"),
        (["{tmp}/absent"], 3, "there is no file or folder"),
        (["{tree}", "--rules", "{tmp}/absent.yaml"], 2, "there is no"),
        (["{tree}", "--rules", "{tmp}/rules.yaml"], 3, "Did you mean 'days'"),
        (["{tmp}/bad.csv"], 6, "0 fusions of 0 subjects planned, 1 row that cannot be"),
        (["{tree}/b"], 6, "0 fusions of 0 subjects planned"),
        (["{tmp}/bad.csv", "--out", "{tmp}/bad.csv", "--overwrite"], 2, "expected inputs outside of the results"),
        ([], 2, "SOURCE"),
    ],
)
def test_each_end_has_its_exit_code(tree, tmp_path, arguments, code, message):
    (tmp_path / "rules.yaml").write_text("dayz: 3")
    (tmp_path / "bad.csv").write_text("subject,mri,partner\n1,,b\n")
    done = run(*(one.format(tree=tree, tmp=tmp_path) for one in arguments))
    assert done.exit_code == code
    assert message.casefold() in " ".join((done.output + done.stderr).split()).casefold()


def test_a_study_in_one_folder_is_fused_by_the_rules(tree, tmp_path):
    done = CliRunner().invoke(app, ["fuse", str(tree / "a"), "--out", str(tmp_path / "out")])
    assert done.exit_code == 3
    assert "Say which (modality=..., --modality)" in done.stderr
    done = CliRunner().invoke(app, ["fuse", str(tmp_path / "a.nii"), "--out", str(tmp_path / "out")])
    assert done.exit_code in (2, 3)
    assert not (tmp_path / "out").exists()
