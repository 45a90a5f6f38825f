"""Check that each study of a plan has one outcome, that it is the right one, and that only what changed is redone."""

import json
import re
import shutil
import subprocess
import threading
import time
from dataclasses import replace

import numpy as np
import pytest
from cohort_runs import NAMES, SETTINGS, results, run, tree
from PIL import Image

from medfuse.cohort.running.ledger import Ledger
from medfuse.cohort.running.page import write_page
from medfuse.cohort.running.run import Shard
from medfuse.cohort.running.settings import Settings
from medfuse.cohort.running.status import read_status
from medfuse.cohort.running.where import Where
from medfuse.cohort.study import perform
from medfuse.cohort.study.lock import held, study_lock
from medfuse.errors import CohortError, ExportError, IntensityError, RegistrationError

pytest.importorskip("distributed")


def worked(in_process):
    return sorted(name for work, name in in_process.asked if work == "do")


def test_results_lie_where_bids_has_them(done_once):
    names = set(tree(done_once))
    assert {
        "sub-01/pet/sub-01_trc-FDG_space-T1w_desc-fused_pet.nii.gz",
        "sub-01/pet/sub-01_trc-FDG_space-T1w_desc-registered_pet.json",
        "sub-01/pet/sub-01_trc-FDG_from-T1w_to-pet_mode-image_xfm.tfm",
        "sub-02/ct/sub-02_space-T1w_desc-fused_ct.nii.gz",
    } <= names
    table = (done_once / "cohort.tsv").read_text().splitlines()
    assert len(table) == 4
    rows = [dict(zip(table[0].split("\t"), line.split("\t"), strict=True)) for line in table[1:]]
    assert [row["name"] for row in rows] == NAMES
    assert {row["result"] for row in rows} == {"done"}
    assert all(float(row["seconds"]) > 0 and row["verdict"] == "unconfirmed" for row in rows)
    assert read_status(done_once).complete


def test_the_page_tells_what_the_ledger_tells_also_after_a_crash(out):
    page = (out / "index.html").read_text()
    assert page.count("data:image/jpeg;base64,") == 3
    assert re.findall(r"<b>(\d+)</b> (\w+)", page) == [("3", "done")]
    Ledger(out).append({"event": "started", "run": "r", "study": NAMES[1]})
    (out / "index.html").unlink()
    assert write_page(out) == out / "index.html"
    page = (out / "index.html").read_text()
    assert re.findall(r"<b>(\d+)</b> (\w+)", page) == [("2", "done"), ("1", "interrupted")]
    assert page.count("data:image/jpeg;base64,") == 2
    # A ledger that somebody altered leads to no file elsewhere.
    for said in ("../plan.csv", "/etc/passwd", 7, None):
        line = {"event": "result", "run": "r", "study": NAMES[1], "result": "done"}
        Ledger(out).append({**line, "row": {"thumbnail": said, "report": said}})
        write_page(out)
    assert "passwd" not in (out / "index.html").read_text()
    with pytest.raises(CohortError):
        write_page(out / "sub-01")
    assert not (out / "sub-01" / "index.html").exists()


def test_a_pair_refused_for_its_alignment_is_shown_with_outlines(in_process, cohort, tmp_path, monkeypatch):
    def refuse(*args, **settings):
        raise RegistrationError("parts of the two disagree by 9 mm.")

    monkeypatch.setattr(perform, "fuse", refuse)
    out = tmp_path / "out"
    assert results(run(cohort, out)) == dict.fromkeys(NAMES, "refused")
    drawn = sorted((out / "logs").glob("*.jpg"))
    assert [path.name.partition(".refused-")[0] for path in drawn] == NAMES
    for path in drawn:
        picture = np.asarray(Image.open(path).convert("RGB")).astype(int)
        assert picture.shape[1] == 3 * picture.shape[0]
        assert (picture[..., 0] - picture[..., 2] > 60).any()  # orange lines on grey
    for _ in range(2):  # also where it is refused again without another look
        assert (out / "index.html").read_text().count("data:image/jpeg;base64,") == 3
        assert results(run(cohort, out)) == dict.fromkeys(NAMES, "refused")
    # Another refusal, of other settings, replaces the picture; none is shown for another reason.
    run(cohort, out, replace(SETTINGS, window={"CT": "brain"}))
    assert len(list((out / "logs").glob("*.jpg"))) == 3
    monkeypatch.undo()
    assert "refused" not in results(run(cohort, out, replace(SETTINGS, black_air=True))).values()
    assert "refused-" not in (out / "index.html").read_text()


def test_the_dataset_is_clean_by_the_validator(out):
    validator = shutil.which("bids-validator-deno")
    if validator is None:
        pytest.skip("bids-validator-deno is absent")
    for kind in ("fused", "registered"):
        (out / f"sub-01/pet/sub-01_trc-FDG_space-T1w_desc-{kind}_dicom").mkdir()
        (out / f"sub-01/pet/sub-01_trc-FDG_space-T1w_desc-{kind}_dicom/1.dcm").write_text("x")
    (out / "sub-01/pet/sub-01_trc-FDG_space-T1w_desc-fused_report.html").write_text("x")
    (out / "ratings.tsv").write_text("study\trating\n")
    said = subprocess.run([validator, "--json", str(out)], capture_output=True, text=True, check=False)
    found = json.loads(said.stdout)["issues"]["issues"]
    assert [issue for issue in found if issue["severity"] == "error"] == []


def test_the_same_run_again_skips_all_and_a_touched_file_is_the_same(in_process, cohort, out):
    plan = cohort.parent / "mri1.nii.gz"
    plan.touch()
    assert results(run(cohort, out)) == dict.fromkeys(NAMES, "skipped")
    assert worked(in_process) == []


def test_a_setting_redoes_just_what_it_concerns(in_process, cohort, out):
    before = tree(out)
    changed = replace(SETTINGS, window={"CT": "brain"})
    expected = {**dict.fromkeys(NAMES, "skipped"), NAMES[1]: "done"}
    assert results(run(cohort, out, changed)) == expected
    assert worked(in_process) == [NAMES[1]]
    after = tree(out)
    assert [name for name in after if after[name] != before[name]] == [
        "sub-02/ct/sub-02_space-T1w_desc-fused_ct.json",
        "sub-02/ct/sub-02_space-T1w_desc-fused_ct.nii.gz",
        "sub-02/ct/sub-02_space-T1w_desc-fused_thumbnail.jpg",
        "sub-02/ct/sub-02_space-T1w_desc-registered_ct.json",
    ]


@pytest.mark.parametrize("damage", ["cut", "gone", "altered"])
def test_results_that_are_not_whole_are_made_again(in_process, cohort, out, damage):
    path = out / "sub-01/pet/sub-01_trc-FDG_space-T1w_desc-fused_pet.nii.gz"
    content = path.read_bytes()
    if damage == "gone":
        path.unlink()
    else:
        other = bytes([content[-9] ^ 1])  # than what is there
        path.write_bytes(content[:-9] if damage == "cut" else content[:-9] + other + content[-8:])
    assert results(run(cohort, out))[NAMES[0]] == "done"
    assert worked(in_process) == [NAMES[0]]
    assert path.read_bytes() == content


def test_an_input_that_changed_with_its_date_kept_is_noticed(in_process, cohort, out, tmp_path):
    import os

    plan = shutil.copytree(cohort.parent, tmp_path / "in") / "plan.csv"
    assert set(results(run(plan, out)).values()) == {"skipped"}  # copies of the same contents
    path = plan.parent / "partner2.nii.gz"
    about = path.stat()
    shutil.copy(plan.parent / "partner1.nii.gz", path)
    os.utime(path, ns=(about.st_atime_ns, about.st_mtime_ns))
    run(plan, out)
    assert worked(in_process) == [NAMES[1]]


def test_a_death_costs_one_study_once_with_its_cause(in_process, cohort, tmp_path):
    in_process.dies[NAMES[1]] = "signal 9 (SIGKILL)"
    found = run(cohort, tmp_path / "out")
    assert results(found) == {**dict.fromkeys(NAMES, "done"), NAMES[1]: "killed"}
    assert found[NAMES[1]].message == "signal 9 (SIGKILL)"
    assert worked(in_process).count(NAMES[1]) == 1
    assert not read_status(tmp_path / "out").complete
    in_process.dies.clear()
    assert results(run(cohort, tmp_path / "out")) == {**dict.fromkeys(NAMES, "skipped"), NAMES[1]: "done"}


def test_a_study_whose_answer_was_lost_is_not_done_again(in_process, cohort, tmp_path, monkeypatch):
    """As where a machine disappears between a study's end and its answer: Dask gives the task to another worker."""
    from medfuse.cohort.study import perform

    fused = []
    fuse = perform._fuse
    monkeypatch.setattr(perform, "_fuse", lambda *given: (fused.append(given[0].name), fuse(*given))[1])
    in_process_ask = in_process.ask

    def ask(self, question, limit):
        answer = in_process_ask(self, question, limit)
        return in_process_ask(self, question, limit) if question["work"] == "do" else answer

    monkeypatch.setattr(in_process, "ask", ask)
    assert results(run(cohort, tmp_path / "out")) == dict.fromkeys(NAMES, "done")
    assert sorted(fused) == NAMES
    lines = [line["study"] for line in Ledger(tmp_path / "out").lines() if line["event"] == "result"]
    assert sorted(lines) == NAMES


def test_a_page_without_space_hides_no_outcome(in_process, cohort, out, monkeypatch):
    from medfuse.cohort.running import run as module

    def full(folder):
        raise ExportError("no space")

    monkeypatch.setattr(module, "write_page", full)
    (out / "sub-02/ct/sub-02_space-T1w_desc-fused_ct.nii.gz").unlink()
    in_process.dies[NAMES[1]] = "signal 9 (SIGKILL)"
    assert results(run(cohort, out))[NAMES[1]] == "killed"
    with pytest.raises(ExportError, match="no space"):  # where nothing else would tell
        run(cohort, out, shard=Shard(1, 3))


def test_a_study_that_a_lost_worker_began_is_not_begun_again(in_process, cohort, tmp_path, monkeypatch):
    from medfuse.cohort.study import perform

    class LostError(BaseException):
        pass

    def lost(*arguments):
        raise LostError

    # As where a machine disappears: begun, and nothing said; then Dask gives the task to another worker.
    def ask(self, question, limit):
        try:
            return in_process_ask(self, question, limit)
        except LostError:
            return in_process_ask(self, question, limit)

    in_process_ask = in_process.ask
    monkeypatch.setattr(in_process, "ask", ask)
    monkeypatch.setattr(perform, "_fuse", lost)
    found = run(cohort, tmp_path / "out")
    assert results(found) == dict.fromkeys(NAMES, "killed")
    assert all("lost" in one.message for one in found.values())
    assert sum(line["event"] == "started" for line in Ledger(tmp_path / "out").lines()) == 3


def test_what_takes_too_much_memory_is_refused_before_it_starts(in_process, cohort, tmp_path):
    found = run(cohort, tmp_path / "out", where=Where(workers=2, memory=2**29))
    assert results(found) == dict.fromkeys(NAMES, "refused")
    assert "expected a study of at most 0.5 GiB" in found[NAMES[0]].message
    assert worked(in_process) == []


def test_an_allocation_that_fails_is_told_as_memory(in_process, cohort, tmp_path, monkeypatch):
    from medfuse.cohort.study import perform

    def fails(*arguments):
        raise MemoryError

    monkeypatch.setattr(perform, "_fuse", fails)
    found = run(cohort, tmp_path / "out")
    assert {one.result for one in found.values()} == {"killed"}
    assert found[NAMES[0]].message.startswith("memory")


def test_a_fault_of_ours_leaves_a_log_without_values(in_process, cohort, tmp_path, monkeypatch):
    from medfuse.cohort.study import perform

    def fails(*arguments):
        raise KeyError("DOE^JANE")

    monkeypatch.setattr(perform, "_fuse", fails)
    found = run(cohort, tmp_path / "out")
    assert {one.result for one in found.values()} == {"failed"}
    log = (tmp_path / "out" / found[NAMES[0]].log).read_text()
    assert "KeyError" in log
    assert "perform.py" in log
    assert "DOE" not in log + (tmp_path / "out" / "ledger.jsonl").read_text()


def test_bad_rows_are_refused_and_stop_no_other(in_process, cohort, tmp_path):
    folder = shutil.copytree(cohort.parent, tmp_path / "in")
    (folder / "broken.nii.gz").write_bytes(b"no image")
    with (folder / "plan.csv").open("a") as stream:
        stream.write("04,FDG,absent.nii.gz,partner1.nii.gz,PT\n")
        stream.write("05,FDG,mri1.nii.gz,broken.nii.gz,PT\n")
        stream.write("06,FDG,mri1.nii.gz,partner1.nii.gz,X-ray\n")
        stream.write("07,FDG,partner1.nii.gz,/dev/zero,PT\n")
    found = run(folder / "plan.csv", tmp_path / "out")
    assert [found[name].result for name in NAMES] == ["done"] * 3
    others = [one for name, one in found.items() if name not in NAMES]
    assert len(others) == 4
    assert all(one.result == "refused" and len(one.message.splitlines()) == 1 for one in others)
    assert sum(read_status(tmp_path / "out").counts.values()) == 7


def test_a_refusal_holds_until_something_changes(in_process, cohort, tmp_path):
    folder = shutil.copytree(cohort.parent, tmp_path / "in")
    (folder / "plan.csv").write_text("subject,mri,partner,modality\n1,mri1.nii.gz,mri1.nii.gz,CT\n")
    (folder / "plan.csv").write_text("subject,mri,partner,modality\n1,mri1.nii.gz,partner1.nii.gz,CT\n")
    (folder / "partner1.nii.gz").write_bytes((folder / "partner1.nii.gz").read_bytes()[:-40])
    assert results(run(folder / "plan.csv", tmp_path / "out")) == {"sub-1_ct": "refused"}
    assert worked(in_process) == ["sub-1_ct"]
    assert results(run(folder / "plan.csv", tmp_path / "out")) == {"sub-1_ct": "refused"}
    assert worked(in_process) == ["sub-1_ct"]
    shutil.copy(cohort.parent / "partner2.nii.gz", folder / "partner1.nii.gz")
    assert results(run(folder / "plan.csv", tmp_path / "out")) == {"sub-1_ct": "done"}


def test_two_rows_never_write_the_same_files(in_process, cohort, tmp_path):
    plan = cohort.parent / "alike.csv"
    plan.write_text(
        "name,subject,mri,partner,modality\na-b,1,mri1.nii.gz,partner2.nii.gz,CT\nab,1,mri1.nii.gz,partner2.nii.gz,CT\n"
    )
    found = run(plan, tmp_path / "out")
    assert results(found) == {"a-b": "done", "ab": "refused"}
    assert "as those of a-b" in found["ab"].message


def test_shards_are_parts_of_one_plan(in_process, cohort, tmp_path):
    first = run(cohort, tmp_path / "out", shard=Shard(1, 2))
    assert results(first) == {NAMES[0]: "done", NAMES[2]: "done"}
    assert read_status(tmp_path / "out").counts["waiting"] == 1
    second = run(cohort, tmp_path / "out", shard=Shard(2, 2))
    assert results(second) == {NAMES[1]: "done"}
    assert read_status(tmp_path / "out").complete


@pytest.mark.parametrize("text", ["0/2", "3/2", "1", "a/b", "1/0", "-1/2", "1/2/3", "²/3"])
def test_shards_that_are_none(text):
    with pytest.raises(CohortError, match="expected a shard"):
        Shard.parse(text)


def test_a_study_that_another_process_holds_is_waited_for(in_process, cohort, out):
    shutil.rmtree(out / "sub-01")

    def hold():
        with study_lock(out, NAMES[0]) as lock:
            assert lock is not None
            locked.set()
            time.sleep(1.5)

    locked = threading.Event()
    thread = threading.Thread(target=hold)
    thread.start()
    locked.wait()
    assert held(out, NAMES[0])
    assert results(run(cohort, out)) == {NAMES[0]: "done", NAMES[1]: "skipped", NAMES[2]: "skipped"}
    thread.join()
    assert not held(out, NAMES[0])


def test_an_undisturbed_run_elsewhere_gives_the_same_bytes(in_process, cohort, done_once, tmp_path):
    run(cohort, tmp_path / "out", where=Where(workers=1))
    assert tree(tmp_path / "out") == tree(done_once)


def test_dicom_series_lie_beside_on_request(in_process, cohort, out):
    found = run(cohort, out, SETTINGS.with_dicom(True), shard=Shard(2, 3))
    assert results(found) == {NAMES[1]: "done"}
    folder = out / "sub-02/ct/sub-02_space-T1w_desc-fused_dicom"
    assert len(list(folder.glob("*.dcm"))) > 10


def test_a_folder_of_somebody_else_is_left_alone(in_process, cohort, tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(ExportError, match="holds other files"):
        run(cohort, tmp_path)
    empty = tmp_path / "empty.csv"
    empty.write_text("subject,mri,partner\n")
    with pytest.raises(CohortError, match="at least one study"):
        run(empty, tmp_path / "out")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"alignn": "rigid"}, "Did you mean 'align'"),
        ({"align": "ridgid"}, "Did you mean 'rigid'"),
        ({"force": "yes"}, "true or false"),
        ({"batch_size": True}, "whole number"),
        ({"batch_size": 0}, "at least 1"),
        ({"window": {"XX": "1,2"}}, "mapping of"),
        ({"palette": {"PT": "rainbow"}}, "expected palettes"),
        ({3: 4}, "expected settings of"),
    ],
)
def test_settings_that_are_none(values, message):
    with pytest.raises(CohortError, match=message):
        Settings.of(values)


def test_windows_in_settings_are_read_before_anything_starts():
    with pytest.raises(IntensityError):
        Settings.of({"window": {"CT": "wide"}})


def test_settings_files_name_weights_relative_to_themselves(tmp_path):
    path = tmp_path / "settings.yaml"
    path.write_text("align: rigid\nweights: mine.safetensors\nwindow: {CT: brain, PT: 5}\n")
    settings = Settings.read(path)
    assert settings.weights == str(tmp_path / "mine.safetensors")
    assert settings.window == {"CT": "brain", "PT": "5"}


def test_one_map_deidentifies_the_whole_cohort(in_process, tmp_path):
    import pydicom

    import medfuse

    lines = ["subject,mri,partner,modality,tracer"]
    for tracer in ("A", "B"):
        medfuse.phantom_study("PT", coarsen=8).write_dicom(tmp_path / tracer)
        lines.append(f"1,{tracer}/mri,{tracer}/partner,PT,{tracer}")
    (tmp_path / "plan.csv").write_text("\n".join(lines) + "\n")
    original = pydicom.dcmread(next((tmp_path / "A" / "mri").iterdir()))
    settings = replace(SETTINGS, dicom=True, deidentify=True)
    assert set(results(run(tmp_path / "plan.csv", tmp_path / "out", settings)).values()) == {"done"}
    written = [pydicom.dcmread(next(folder.iterdir())) for folder in sorted((tmp_path / "out").rglob("*fused_dicom"))]
    assert len(written) == 2
    assert written[0].PatientID == written[1].PatientID != original.PatientID
    assert written[0].PatientID.startswith("ANON-")
    assert written[0].StudyDate == written[1].StudyDate != original.StudyDate
    assert written[0].StudyInstanceUID == written[1].StudyInstanceUID != original.StudyInstanceUID
    everything = b"".join(path.read_bytes() for path in (tmp_path / "out").rglob("*") if path.is_file())
    assert str(original.StudyInstanceUID).encode() not in everything
    assert (tmp_path / "out/.cohort/deidentify.key").stat().st_mode & 0o077 == 0


def test_another_method_is_named_in_the_results_and_an_unknown_one_refuses_its_study(in_process, cohort, tmp_path):
    lines = cohort.read_text().splitlines()
    plan = cohort.with_name("methods.csv")
    plan.write_text("\n".join([f"{lines[0]},method", f"{lines[1]},max", f"{lines[2]},nosuch", f"{lines[3]},"]) + "\n")
    found = run(plan, tmp_path / "out", replace(SETTINGS, method="average"))
    assert results(found) == dict(zip(NAMES, ("done", "refused", "done"), strict=True))
    assert "nosuch" in found[NAMES[1]].message
    assert [found[name].row["fused_by"] for name in (NAMES[0], NAMES[2])] == ["max", "average"]
    # Another method redoes only what took the cohort's.
    again = run(plan, tmp_path / "out", replace(SETTINGS, method="laplacian"))
    assert results(again) == dict(zip(NAMES, ("skipped", "refused", "done"), strict=True))
