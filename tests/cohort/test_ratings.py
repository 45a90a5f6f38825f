"""Ratings are read from what people and spreadsheets save, count for the result that was rated, and choose studies."""

import json

import pytest
from cohort_runs import NAMES, SETTINGS, results, run

from medfuse.cohort.running.ledger import History, Ledger
from medfuse.cohort.running.ratings import Only, read_ratings
from medfuse.cohort.running.status import read_status
from medfuse.errors import CohortError

HEAD = "study\trating\tcomment\tdigest\n"
DIGESTS = {"a": "a" * 64, "b": "b" * 64, "c": "c" * 64}
HISTORY = History(plan=("a", "b", "c", "line-9"), digests=DIGESTS)


def line(study, rating, comment="", digest=""):
    return f"{study}\t{rating}\t{comment}\t{digest or DIGESTS[study]}\n"


def read(tmp_path, content):
    path = tmp_path / "ratings.tsv"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return read_ratings(path, HISTORY)


def words(found):
    return {study: rating.word for study, rating in found.of.items()}


def test_ratings_count_for_the_result_that_was_rated(tmp_path):
    found = read(tmp_path, HEAD + line("a", "reject", "low") + line("b", "accept") + line("c", "accept", "", "0" * 64))
    assert words(found) == {"a": "reject", "b": "accept"}
    assert found.of["a"].comment == "low"
    assert found.outdated == ("c",)
    assert found.counts(HISTORY.plan) == {"accept": 1, "doubtful": 0, "reject": 1, "unrated": 2}
    assert found.faults == ()


def test_an_old_and_a_new_rating_of_one_study_are_no_contradiction(tmp_path):
    found = read(tmp_path, HEAD + line("a", "reject", "", "0" * 64) + line("a", "accept"))
    assert (words(found), found.outdated, found.faults) == ({"a": "accept"}, (), ())


TABLE = HEAD + line("a", "reject", '"said ""no"", twice"') + line("b", "Accepted", "'=HYPERLINK(1)") + line("c", "")


@pytest.mark.parametrize(
    "content",
    [
        TABLE.encode(),
        b"\xef\xbb\xbf" + TABLE.replace("\n", "\r\n").encode(),
        TABLE.encode("utf-16"),
        "﻿".encode() + TABLE.replace("study\t", "Study \t").replace("\n", "\r").encode(),
        TABLE.replace("\t", ";").encode(),
        HEAD.replace("comment", '"comment"').encode() + TABLE.removeprefix(HEAD).encode(),
    ],
    ids=["plain", "excel", "utf-16", "old-mac", "semicolons", "quoted-header"],
)
def test_what_spreadsheets_save_is_read(tmp_path, content):
    found = read(tmp_path, content)
    assert found.faults == ()
    assert words(found) == {"a": "reject", "b": "accept"}
    assert found.of["a"].comment == 'said "no", twice'
    assert found.of["b"].comment == "=HYPERLINK(1)"


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (line("a", "wonderful"), "expected a rating of accept, doubtful, reject"),
        ("Doe^Jane\treject\t\t" + "a" * 64 + "\n", "expected a study of this cohort"),
        (line("a", "reject", "", "1.2E+63"), "expected the digest"),
        (line("a", "reject") + line("a", "accept"), "another of the study in line 2, and neither counts"),
        ("a\treject\n", "expected 4 cells"),
        (line("a", "reject", '"never closed'), "a quote that is never closed"),
        ("a\treject\t\0\t" + "a" * 64 + "\n", "a NUL character"),
        (line("line-9", "reject", "", "-"), "expected the digest"),
    ],
)
def test_a_bad_row_is_one_sentence_and_stops_no_other(tmp_path, row, message):
    found = read(tmp_path, HEAD + row + line("b", "accept", "x"))
    assert words(found) == {"b": "accept"}
    (fault,) = found.faults
    assert message in fault
    assert "\n" not in fault
    assert fault.startswith("line ")
    assert "Doe" not in fault


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "expected one column study"),
        ("study\trating\n", "expected one column digest"),
        ("study\trating\trating\tdigest\n", "expected one column rating .*found several"),
        ("a\treject\t\t" + "a" * 64 + "\n", "expected one column study"),
        (b"\x89PNG\r\n\x1a\n\x00\x00", "expected one column study"),
    ],
)
def test_a_file_that_holds_no_ratings_is_refused(tmp_path, content, message):
    with pytest.raises(CohortError, match=message) as refused:
        read(tmp_path, content)
    assert len(str(refused.value).splitlines()) == 1


def test_what_is_no_file_is_refused_without_waiting_for_it(tmp_path):
    import os

    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path, tmp_path / "pipe"):
        with pytest.raises(CohortError, match="found something else"):
            read_ratings(path, HISTORY)
    with pytest.raises(CohortError, match="cannot be read"):
        read_ratings(tmp_path / "absent.tsv", HISTORY)


@pytest.mark.parametrize(
    ("rated", "path", "align", "message"),
    [
        (("rejectd",), None, "", "Did you mean 'rejected'"),
        (("rejected",), None, "ridgid", "Did you mean 'rigid'"),
        ((), None, "rigid", "add --only rejected"),
        ((), "r.tsv", "", "add --only rejected"),
    ],
)
def test_choices_that_are_none(rated, path, align, message):
    with pytest.raises(CohortError, match=message):
        Only.of(rated, path, align)


def test_nothing_is_chosen_from_ratings_that_cannot_all_be_read(tmp_path):
    path = tmp_path / "ratings.tsv"
    path.write_text(HEAD + line("a", "reject") + line("b", "rejct"))
    with pytest.raises(CohortError, match="cannot all be read: line 3"):
        Only.of(["rejected"], path, "").names(tmp_path, HISTORY)
    path.unlink()
    with pytest.raises(CohortError, match="found no such file"):
        Only.of(["rejected"], None, "").names(tmp_path, HISTORY)


def save(out, **rated):
    """Save ratings of the studies of a cohort as its page does, by numbers: ``n1="reject"``."""
    digests = Ledger(out).read().digests
    names = {f"n{number}": name for number, name in enumerate(NAMES, start=1)}
    lines = [f"{names[number]}\t{word}\t\t{digests[names[number]]}\n" for number, word in rated.items()]
    (out / "ratings.tsv").write_text(HEAD + "".join(lines))


def test_the_rejected_are_done_again_and_stay_so(in_process, cohort, out):
    """The whole way: rate, run the rejected with another alignment, and run all again."""
    save(out, n1="reject", n2="doubtful", n3="accept")
    before = {study["study"]: study["time"] for study in read_status(out).studies}
    in_process.asked.clear()
    found = run(cohort, out, only=Only.of(["rejected"], None, "rigid"))
    assert results(found) in ({NAMES[0]: "done"}, {NAMES[0]: "refused"})  # a tiny phantom may not be alignable
    assert {name for _, name in in_process.asked} == {NAMES[0]}
    status = read_status(out)
    assert sum(status.counts.values()) == status.planned == 3
    after = {study["study"]: study["time"] for study in status.studies}
    assert [name for name in NAMES if after[name] != before[name]] == [NAMES[0]]
    # Its rating was of the former result.
    assert status.ratings.outdated == (NAMES[0],)
    assert status.ratings.counts(NAMES) == {"accept": 1, "doubtful": 1, "reject": 0, "unrated": 1}
    assert run(cohort, out, only=Only.of(["rejected"], None, "rigid")) == {}
    # A run of all, with the settings as they were, keeps what was decided.
    again = results(run(cohort, out))
    assert again == {**dict.fromkeys(NAMES, "skipped"), NAMES[0]: "skipped" if found[NAMES[0]].complete else "refused"}
    # Another alignment in the settings is a new decision.
    from dataclasses import replace

    from medfuse.cohort.running.run import Shard

    in_process.asked.clear()
    changed = run(cohort, out, replace(SETTINGS, align="auto"), shard=Shard(1, 3))
    assert ("do", NAMES[0]) in in_process.asked
    assert len(changed) == 1


def test_a_study_that_died_anew_keeps_the_rating_of_its_result(in_process, cohort, out):
    save(out, n2="reject")
    in_process.dies[NAMES[1]] = "signal 9 (SIGKILL)"
    only = Only.of(["rejected"], None, "rigid")
    assert results(run(cohort, out, only=only)) == {NAMES[1]: "killed"}
    assert results(run(cohort, out, only=only)) == {NAMES[1]: "killed"}
    assert read_status(out).ratings.counts(NAMES)["reject"] == 1


def test_only_needs_a_cohort(in_process, cohort, tmp_path):
    with pytest.raises(CohortError, match="expected the ledger of a cohort"):
        run(cohort, tmp_path / "none", only=Only.of(["rejected"], None, ""))
    assert not (tmp_path / "none").exists()


def test_a_broken_file_in_the_folder_stops_no_status(out):
    (out / "ratings.tsv").write_text("nothing\n")
    status = read_status(out)
    assert status.complete
    assert "expected one column study" in status.ratings.faults[0]
    assert json.dumps(status.to_dict())
    with pytest.raises(CohortError):
        read_status(out, out / "ratings.tsv")
