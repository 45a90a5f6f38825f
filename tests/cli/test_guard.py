"""What nobody foresaw, wrong usage, interruptions and lost output: one sentence, one JSON object, one exit code."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
import tempfile

import pytest
from typer.main import get_command
from typer.testing import CliRunner

from medfuse.cli import app
from medfuse.cli.options.command import CheckedCommand
from medfuse.runtime import cache_folders

SECRET = "Mueller^Hans 1951-03-07"


@pytest.fixture
def logs(monkeypatch, tmp_path):
    """The folder that logs go to."""
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    return tmp_path / "state" / "medfuse" / "log"


@pytest.fixture
def inspect_raising(monkeypatch):
    """Run ``medfuse inspect`` where it meets an error."""

    def run(error, *arguments):
        def scan(paths):
            raise error

        monkeypatch.setattr("medfuse.dicom.scan", scan)
        return CliRunner().invoke(app, ["inspect", *arguments])

    return run


class ChainedError(Exception):
    """An error whose message and cause quote a patient."""

    def __init__(self):
        super().__init__(SECRET)
        self.__cause__ = KeyError(SECRET)


UNFORESEEN = [
    ValueError(SECRET),
    ChainedError(),
    TypeError(SECRET),
    MemoryError(),
    RecursionError("maximum recursion depth exceeded"),
    EOFError(SECRET),
    BrokenPipeError(32, "Broken pipe", SECRET),
    ConnectionResetError(104, "Connection reset", SECRET),
    UnicodeDecodeError("utf-8", SECRET.encode(), 3, 4, "invalid"),
    AssertionError(SECRET),
    ImportError("no module", name="torch.absent"),
]


@pytest.mark.parametrize("error", UNFORESEEN, ids=lambda error: type(error).__name__)
def test_an_unforeseen_error_is_a_sentence_and_a_log_without_a_patient(logs, inspect_raising, error):
    done = inspect_raising(error, f"/archive/{SECRET}", "--json")
    assert done.exit_code == 70
    told = json.loads(done.stdout)["error"]
    assert (told["kind"], told["exit_code"]) == (type(error).__name__, 70)
    assert len(done.stderr.splitlines()) == 1
    assert "Traceback" not in done.output
    (log,) = logs.iterdir()
    assert told["log"] == str(log)
    assert str(log) in done.stderr
    assert stat.S_IMODE(log.stat().st_mode) == 0o600
    written = log.read_text()
    for part in SECRET.split():
        assert part not in written + done.output
    assert "command: medfuse inspect VALUE --json" in written
    assert f"{type(error).__name__}: " in written
    assert "medfuse/cli/inspect.py:" in written
    assert "found = dicom.scan(paths)" in written
    assert "torch 2" in written


def test_a_deep_recursion_leaves_a_log_of_readable_length(logs, monkeypatch):
    def scan(paths):
        return scan(paths)

    monkeypatch.setattr("medfuse.dicom.scan", scan)
    done = CliRunner().invoke(app, ["inspect", "."])
    assert done.exit_code == 70
    (log,) = logs.iterdir()
    assert "calls ..." in log.read_text()
    assert len(log.read_text().splitlines()) < 200


def test_memory_that_ran_out_says_what_helps(logs, inspect_raising):
    assert "--batch-size 1" in inspect_raising(MemoryError(), ".").stderr


def test_a_package_that_is_not_installed_is_named(logs, inspect_raising):
    missing = ModuleNotFoundError("No module named 'nosuchpackage.part'", name="nosuchpackage.part")
    assert "the package nosuchpackage is not installed here" in inspect_raising(missing, ".").stderr
    in_part = ModuleNotFoundError("No module named 'torch.absent'", name="torch.absent")
    assert "a fault of medfuse" in inspect_raising(in_part, ".").stderr


def test_the_log_goes_elsewhere_or_nowhere_where_its_folder_cannot_be_written(
    logs, inspect_raising, monkeypatch, tmp_path
):
    (tmp_path / "state").write_text("a file")
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    done = inspect_raising(ValueError(SECRET), ".", "--json")
    assert done.exit_code == 70
    assert json.loads(done.stdout)["error"]["log"].startswith(str(tmp_path / f"medfuse-{os.getuid()}" / "log"))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "absent"))
    done = inspect_raising(ValueError(SECRET), ".", "--json")
    assert done.exit_code == 70
    assert json.loads(done.stdout)["error"]["log"] is None
    assert "XDG_STATE_HOME" in done.stderr


def test_only_the_latest_logs_are_kept(logs, inspect_raising):
    logs.mkdir(parents=True)
    for day in range(10, 40):
        (logs / f"crash-200001{day}-000000-a.log").write_text("old")
    (logs / "mine.txt").write_text("mine")
    inspect_raising(ValueError(), ".")
    kept = sorted(path.name for path in logs.iterdir())
    assert len(kept) == 21
    assert "crash-20000139-000000-a.log" in kept
    assert "mine.txt" in kept


@pytest.mark.parametrize(
    ("platform", "variable", "folder"),
    [
        ("linux", "XDG_STATE_HOME", "medfuse/log"),
        ("win32", "LOCALAPPDATA", "medfuse/Logs"),
        ("darwin", "HOME", "Library/Logs/medfuse"),
    ],
)
def test_logs_lie_where_the_platform_keeps_them(monkeypatch, tmp_path, platform, variable, folder):
    monkeypatch.setattr(sys, "platform", platform)
    monkeypatch.setenv(variable, str(tmp_path))
    assert next(cache_folders.log_folders()) == tmp_path / folder


@pytest.mark.parametrize(
    ("error", "code"), [(OSError(28, "No space left on device"), 5), (PermissionError(13, "x"), 3)]
)
def test_what_the_system_refuses_is_no_fault_of_ours(logs, inspect_raising, error, code):
    error.filename = f"somewhere/{SECRET}/1.dcm"
    done = inspect_raising(error, "somewhere")
    assert done.exit_code == code
    assert "the system refuses somewhere:" in done.stderr
    assert not logs.exists()


USAGE = [
    (["inspect", "--json"], "Missing argument"),
    (["fuse", "a", "b", "--out", "o", "--nonsense", "--json"], "No such option: --nonsense"),
    (["fuse", "a", "b", "--json", "--out", "o", "--wndow", "3"], "--window"),
    (["fuse", "a", "b", "--json"], "Missing option '--out'. Expected --out (Folder for the results)."),
    (["fuse", "absent", "--json"], "there is no absent: check the path"),
    (["fuse", "--json"], "folder of both) and --out (Folder for the results)."),
    (["fuse", "a", "b", "--align", "ridgid", "--json"], "Did you mean 'rigid'?"),
    (["fuse", "a", "b", "--method", "gesnet", "--json"], "Did you mean 'gesenet'?"),
    (["fuse", "a", "b", "--out", "o", "--weights", "", "--json"], "found an empty path"),
    (["fuse", "a", "b", "--out", "o", "--align", "", "--json"], "there is no file ''"),
    (["fuse", "a", "b", "--out", "o", "--plane", "axail", "--json"], "found 'axail'. Did you mean 'axial'?"),
    (["fuse", "a", "b", "--out", "o", "--batch-size", "x", "--json"], "expected an integer; found 'x'"),
    (["fuse", "a", "b", "--out", "o", "--batch-size", "0", "--json"], "expected a number of at least 1; found '0'"),
    (["fuse", "a", "b", "--out", "o", "--align", "ridgid", "--json"], "Did you mean 'rigid'?"),
    (["fuse", "a", "b", "--out", "o", "--template", ".", "--identity", "PatientID=1", "--json"], "not both"),
    (["fuse", "a", "b", "--out", "o", "--json", "--batch-size"], "requires an argument"),
    (["fuse", "a", "b", "c", "--out", "o", "--json"], "argument(s) (c). Expected at most MRI PARTNER; put a path with"),
    (["warm-up", "c", "--json"], "argument(s) (c). Expected none;"),
    (["fuse", "a", "b", "--out", "o", "--dicomdir", "--format", "nifti", "--json"], "expected no --dicomdir with"),
    (["fuse", "a", "b", "--out", "o", "--compress", "rle", "--format", "nifti", "--json"], "expected no --compress"),
    (["fuse", "a", "b", "--out", "o", "--series-number", "0", "--format", "nifti", "--json"], "no --series-number"),
    (
        ["fuse", "a", "b", "--out", "o", "--identity", "PatientID=1", "--identity", "PatientID=2", "--json"],
        "one is given twice",
    ),
    (["fuse", "a", "b", "--out", "o", "--identity", "PatintName=x", "--json"], "Did you mean 'PatientName'?"),
    (["fuse", "a", "b", "--out", "o", "--identity", "StudyDate=1.1.2001", "--json"], "StudyDate"),
    (["fuse", "a", "b", "--out", "o", "--description", "", "--json"], "1 to 64 printable characters"),
    (["send", "a", "--to", "nowhere", "--json"], "HOST:PORT"),
    (["score", "a", "b", "c", "--scores", "nonsense", "--json"], "expected names of scores"),
    (["bench", "--coarsen", "nan", "--json"], "found 'nan'"),
    (["nonsense", "--json"], "No such command"),
    (["--json"], "--json"),
]


@pytest.mark.parametrize(
    ("arguments", "said"), USAGE, ids=lambda value: " ".join(value) if isinstance(value, list) else ""
)
def test_wrong_usage_is_one_json_object_and_a_text_for_people(arguments, said):
    done = CliRunner().invoke(app, arguments)
    told = json.loads(done.stdout)["error"]
    assert done.exit_code == told["exit_code"] == 2
    assert told["kind"] == "UsageError"
    assert said in told["message"]
    assert said in done.stderr
    assert "Value error" not in done.output


EMPTY = [
    ["fuse", "a", "b", "--out", ""],
    ["fuse", "a", "", "--out", "o"],
    ["fuse", "", "b"],
    ["fuse", "a", "b", "--out", "o", "--template="],
    ["figure", "a", "b", "--out", ""],
    ["align", "a", "b", "--out", ""],
    ["score", "a", "", "c"],
    ["score", "a", "b", "--method", "max", "--pictures", ""],
    ["inspect", ""],
    ["verify", ""],
    ["send", "", "--to", "localhost:104"],
    ["cohort", "plan", ""],
    ["cohort", "run", "a", "--out", ""],
    ["cohort", "status", ""],
    ["cohort", "page", ""],
    ["export", "onnx", ""],
    ["export", "bundle", ""],
    ["demo", "--out", ""],
    ["bench", "--out", ""],
    ["train", ""],
]


@pytest.mark.parametrize("arguments", EMPTY, ids=" ".join)
def test_an_empty_path_is_not_the_current_folder(monkeypatch, tmp_path, arguments):
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(app, arguments)
    assert (done.exit_code, done.stdout) == (2, "")
    assert "expected a path; found an empty one" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_help_is_shown_whatever_else_is_wrong():
    done = CliRunner().invoke(app, ["fuse", "", "--align", "", "--help"])
    assert done.exit_code == 0
    assert "Usage:" in done.stdout


def commands(group):
    for name, each in group.commands.items():
        yield from commands(each) if hasattr(each, "commands") else [(name, each)]


def test_every_command_reads_its_words_in_this_way():
    named = dict(commands(get_command(app)))
    assert {"fuse", "plan", "onnx"} <= named.keys()
    assert [name for name, each in named.items() if not isinstance(each, CheckedCommand)] == []


def test_without_json_wrong_usage_leaves_standard_output_empty():
    done = CliRunner().invoke(app, ["fuse", "a", "b", "--", "--json"])
    assert (done.exit_code, done.stdout) == (2, "")


def shell(command, **environment):
    """Run ``medfuse`` as a shell does, with its streams."""
    script = command.replace("medfuse ", f"{sys.executable} -m medfuse ")
    return subprocess.run(
        ["bash", "-c", script], capture_output=True, check=False, env=os.environ | environment, timeout=120
    )


@pytest.mark.parametrize(
    ("command", "code", "said"),
    [
        ("medfuse --help > /dev/full", 74, b"standard output cannot be written: No space left on device"),
        ("medfuse --help >&-", 0, b""),
        ("medfuse --help >&- 2>&-", 0, b""),
        ("medfuse --help | true; exit ${PIPESTATUS[0]}", 141, b""),
        ("medfuse fuse > /dev/full --json", 2, b"Missing argument"),
        ("medfuse fuse 2> /dev/full", 2, b""),
        ("medfuse fuse --json 2>&-", 2, b""),
        ("medfuse fuse --json <&- >&- 2>&-", 2, b""),
    ],
)
def test_streams_that_are_full_or_closed_leave_an_exit_code(command, code, said):
    done = shell(command)
    assert done.returncode == code, done.stderr
    assert said in done.stderr
    assert b"Traceback" not in done.stderr
    assert b"Exception ignored" not in done.stderr
    if not said:
        assert done.stderr == b""


def test_results_are_whole_where_their_listing_is_lost(tmp_path):
    import medfuse

    medfuse.phantom_study("PT", coarsen=5).write_dicom(tmp_path / "study")
    out = tmp_path / "out"
    asked = f"{tmp_path}/study/mri {tmp_path}/study/partner --align header --format nifti --json"
    done = shell(f"medfuse fuse {asked} --out {out} > /dev/full")
    assert done.returncode == 74, done.stderr
    assert medfuse.load(out / "fused.nii.gz", "MR", luma=True).shape == medfuse.load(tmp_path / "study" / "mri").shape
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "study"]


def test_terminals_without_our_characters_get_others(tmp_path):
    done = shell("medfuse send x --to foo", PYTHONIOENCODING="ascii")
    assert done.returncode == 2
    assert b"https://..., with a port" in done.stderr
    done = shell("medfuse fuse --help", PYTHONIOENCODING="ascii")
    assert done.returncode == 0
    assert b"Exit codes: 0 done - 2 usage" in b" ".join(done.stdout.split())


def test_names_that_are_no_text_are_told(tmp_path):
    done = shell("medfuse inspect $'no\\xff\\nwhere' --json")
    assert done.returncode == 3
    assert "no\udcff\nwhere" in json.loads(done.stdout)["error"]["message"]
    assert len(done.stderr.splitlines()) == 1
    assert b"no\\udcff\\nwhere" in done.stderr


INTERRUPTED = """
import os, signal, sys
from unittest import mock
import medfuse.dicom
from medfuse.cli import main
def scan(paths):
    os.kill(os.getpid(), getattr(signal, sys.argv.pop()))
    signal.pause()
with mock.patch("medfuse.dicom.scan", scan):
    main()
"""


@pytest.mark.parametrize(
    ("name", "code", "kind"),
    [("SIGINT", 130, "Interrupted"), ("SIGTERM", 143, "Terminated"), ("SIGHUP", 129, "Terminated")],
)
def test_signals_end_with_the_codes_of_shells(name, code, kind):
    command = [sys.executable, "-c", INTERRUPTED, "inspect", ".", "--json", name]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == code, done.stderr
    told = json.loads(done.stdout)["error"]
    assert (told["kind"], told["exit_code"]) == (kind, code)
    assert len(done.stderr.splitlines()) == 1
