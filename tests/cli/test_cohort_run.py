"""Check what `medfuse cohort run` and `status` print, and that their exit codes say the same."""

import json

import pytest
from cohort_runs import in_process, write_cohort
from typer.testing import CliRunner

from medfuse.cli import app
from medfuse.cohort.running.ledger import Ledger

pytest.importorskip("distributed")
__all__ = ["in_process"]

NAMES = ["sub-01_trc-FDG_pet", "sub-02_ct"]


@pytest.fixture(scope="module")
def plan(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cohort")
    (folder / "settings.yaml").write_text("align: header\nengine: masked\nreport: false\n")
    return write_cohort(folder, ("PT", "CT"))


def command(*words):
    done = CliRunner().invoke(app, ["cohort", *map(str, words)])
    return done.exit_code, done.stdout, done.stderr


def run(plan, out, *more):
    return command("run", plan, "--out", out, "--workers", 2, "--settings", plan.parent / "settings.yaml", *more)


def test_a_run_says_what_became_of_each_study(in_process, plan, tmp_path):
    in_process.dies[NAMES[1]] = "signal 11 (SIGSEGV)"
    code, told, lines = run(plan, tmp_path / "out")
    assert code == 8
    assert "2 of 2 studies: 1 done, 1 killed" in told
    assert f"{NAMES[1]} killed: signal 11 (SIGSEGV)" in lines
    code, told, _ = command("status", tmp_path / "out")
    assert code == 8
    assert f"killed: {NAMES[1]}: signal 11 (SIGSEGV)" in told
    in_process.dies.clear()
    code, told, _ = run(plan, tmp_path / "out", "--json")
    said = json.loads(told)
    assert code == 0
    assert said["complete"]
    assert (said["planned"], said["counts"]["done"], said["counts"]["skipped"]) == (2, 1, 1)
    code, told, _ = command("status", tmp_path / "out", "--json")
    said = json.loads(told)
    assert (code, said["complete"], sum(said["counts"].values())) == (0, True, said["planned"])
    assert (said["runs"], said["damaged_lines"]) == (2, 0)


def test_status_after_a_crash_tells_what_was_under_way(tmp_path):
    Ledger(tmp_path).append(
        {"event": "run", "run": "r", "plan": NAMES}, {"event": "started", "run": "r", "study": NAMES[0]}
    )
    code, told, _ = command("status", tmp_path, "--json")
    said = json.loads(told)
    assert code == 8
    assert {state: count for state, count in said["counts"].items() if count} == {"interrupted": 1, "waiting": 1}


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (("--shard", "3/2"), 2, "expected a shard"),
        (("--memory", "much"), 2, "such as 8GiB"),
        (("--scheduler", "tcp://127.0.0.1:1"), 2, "not both"),
        (("--workers", "0", "--scheduler", "localhost"), 2, "as tcp://HOST:PORT; found 'localhost'"),
        (("--workers", "0", "--scheduler", "tcp://host:99999"), 2, "as tcp://HOST:PORT"),
        (("--workers", "0", "--scheduler", "http://host:8786"), 2, "as tcp://HOST:PORT"),
        (("--rules", "rules.yaml"), 2, "there is no rules.yaml"),
    ],
)
def test_options_that_cannot_be_are_refused_in_a_sentence(plan, tmp_path, words, code, message):
    ended, _, told = run(plan, tmp_path / "out", *words)
    assert ended == code
    assert message in " ".join(told.split())
    assert not (tmp_path / "out").exists()


def test_a_folder_without_a_cohort_has_no_status(tmp_path):
    code, _, told = command("status", tmp_path)
    assert code == 3
    assert "expected the ledger of a cohort" in told


@pytest.mark.parametrize("package", ["distributed", "psutil"])
def test_a_missing_package_is_named_with_what_installs_it(monkeypatch, tmp_path, package):
    from medfuse.cohort.running import run

    known = run.find_spec
    monkeypatch.setattr(run, "find_spec", lambda name: None if name == package else known(name))
    code, _, told = command("run", tmp_path, "--out", tmp_path / "out")
    assert code == 3
    assert f"no package `{package}`; install medfuse[cohort]" in " ".join(told.split())
    assert not (tmp_path / "out").exists()


def rated(out, study, word):
    digest = Ledger(out).read().digests[study]
    (out / "ratings.tsv").write_text(f"study\trating\tcomment\tdigest\n{study}\t{word}\tblurred\t{digest}\n")


def test_ratings_are_counted_and_the_rejected_run_again(in_process, plan, tmp_path):
    out = tmp_path / "out"
    assert run(plan, out)[0] == 0
    in_process.asked.clear()
    rated(out, NAMES[1], "reject")
    code, told, _ = command("status", out)
    assert code == 0
    assert f"reject: {NAMES[1]}: blurred" in told
    said = json.loads(command("status", out, "--ratings", out / "ratings.tsv", "--json")[1])
    assert said["ratings"]["counts"] == {"accept": 0, "doubtful": 0, "reject": 1, "unrated": 1}
    assert [study.get("rating") for study in said["studies"]] == [None, "reject"]
    in_process.dies[NAMES[1]] = "signal 9 (SIGKILL)"  # what comes of it is tested elsewhere
    code, told, _ = run(plan, out, "--only", "rejected", "--align", "rigid", "--json")
    said = json.loads(told)
    assert (code, said["planned"], [study["study"] for study in said["studies"]]) == (8, 1, [NAMES[1]])
    assert {name for _, name in in_process.asked} == {NAMES[1]}
    said = json.loads(command("status", out, "--json")[1])
    assert sum(said["counts"].values()) == said["planned"] == 2
    code, told, _ = run(plan, out, "--only", "accepted")
    assert (code, told.strip()) == (0, "0 of 0 studies: nothing to do")


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (("--align", "rigid"), 2, "add --only rejected"),
        (("--ratings", "r.tsv"), 2, "add --only rejected"),
        (("--only", "refused"), 2, "accepted, doubtful or rejected"),
        (("--only", "rejected"), 3, "expected the ledger of a cohort"),
    ],
)
def test_choices_by_rating_that_cannot_be_are_refused(plan, tmp_path, words, code, message):
    ended, _, told = run(plan, tmp_path / "out", *words)
    assert ended == code
    assert message in " ".join(told.replace("│", " ").split())
    assert not (tmp_path / "out").exists()


def test_the_page_is_written_anew(tmp_path):
    Ledger(tmp_path).append({"event": "run", "run": "r", "plan": NAMES})
    code, told, _ = command("page", tmp_path, "--json")
    assert (code, json.loads(told)) == (0, {"page": str(tmp_path / "index.html")})
    assert "waiting" in (tmp_path / "index.html").read_text()
    code, _, told = command("page", tmp_path / "none")
    assert code == 3
    assert "expected the ledger of a cohort" in told
    assert not (tmp_path / "none").exists()
