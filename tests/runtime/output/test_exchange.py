"""Interrupted at every step, an exchange of results leaves the old ones or the new ones, and never a part of either."""

import errno
import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from dying import CHANGES, dying

from medfuse.errors import ExportError
from medfuse.runtime.output.atomic_output import atomic_entries, atomic_files, atomic_folder
from medfuse.runtime.output.exchange import PREFIX, settle, staging
from medfuse.runtime.output.signals import held_signals

OLD = {"dicom/1": "old", "dicom/deep/2": "old", "fused.json": "old", "partner/1": "old", "mine.txt": "mine"}
NEW = {"dicom/1": "new", "fused.json": "new", "fused.nii": "new", "registration/1": "new", "mine.txt": "mine"}

pytestmark = pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")


def put(folder, files):
    """Write files that say that medfuse wrote them."""
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        own = json.dumps({"GeneratedBy": [{"Name": "medfuse"}], "text": text})
        (folder / name).write_text(text if text == "mine" else own)


def seen(folder):
    """Which of the sets of files a folder shows; what is hidden is not shown."""
    found = {}
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        name = str(path.relative_to(folder))
        if not name.startswith(PREFIX):
            text = path.read_text()
            found[name] = json.loads(text)["text"] if text[:1] == "{" else text
    return found


def exchange(folder):
    with atomic_entries(folder, True, ("dicom", "partner", "fused.json")) as temporary:
        put(temporary, {name: text for name, text in NEW.items() if text == "new"})


def moments(work, how, make):
    """End work after each of its changes in turn; yields the folder as it is left."""
    for number in itertools.count(1):
        folder = make(number)
        if not dying(lambda folder=folder: work(folder), number, how):
            assert number > 10
            return
        yield folder


@pytest.fixture(autouse=True)
def no_wait_for_the_disk(monkeypatch):
    """The disk is waited for where a loss of power would matter: no test cuts it."""
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)


@pytest.fixture
def make(tmp_path):
    def made(number):
        folder = tmp_path / str(number) / "out"
        put(folder, OLD)
        return folder

    return made


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_that_asks_to_end_leaves_old_or_new_results_whole(make, how):
    left = [seen(folder) for folder in moments(exchange, how, make)]
    assert all(each in (OLD, NEW) for each in left)
    assert OLD in left
    assert NEW in left


def test_after_a_kill_whoever_looks_restores_or_completes(make):
    halves = 0
    for folder in moments(exchange, signal.SIGKILL, make):
        half = seen(folder) not in (OLD, NEW)
        halves += half
        settle(folder)
        assert seen(folder) in (OLD, NEW)
        assert not half or not any(folder.glob(PREFIX + "*"))
    assert halves > 3


def test_after_a_kill_the_next_run_restores_and_then_says_that_results_exist(make):
    for folder in moments(exchange, signal.SIGKILL, make):
        with pytest.raises(ExportError, match="exists already"), atomic_entries(folder):
            pass
        assert seen(folder) in (OLD, NEW)
        exchange(folder)
        assert seen(folder) == NEW
        assert not any(folder.glob(PREFIX + "*"))


def test_a_kill_of_what_restores_is_no_worse(make):
    cut = {}
    for folder in moments(exchange, signal.SIGKILL, make):
        if seen(folder) not in (OLD, NEW):
            for number in itertools.count(1):
                if not dying(lambda folder=folder: settle(folder), number, signal.SIGKILL):
                    break
            cut[folder] = number
            assert seen(folder) in (OLD, NEW)
    assert max(cut.values()) > 1


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
@pytest.mark.parametrize("form", ["folder", "pair"])
def test_folders_and_pairs_of_files_are_exchanged_alike(tmp_path, form, how):
    old, new = {"x/1": "old", "x/2": "old"}, {"x/1": "new"}
    if form == "pair":
        old, new = ({"x.nii": text, "x.json": text} for text in ("old", "new"))

    def make(number):
        put(tmp_path / str(number), old)
        return tmp_path / str(number)

    def work(folder):
        if form == "folder":
            with atomic_folder(folder / "x", True) as temporary:
                put(temporary.parent, new)
        else:
            with atomic_files((folder / "x.nii", folder / "x.json"), True) as temporary:
                put(temporary[0].parent, new)

    count = 0
    for folder in moments(work, how, make):
        if how == signal.SIGKILL:
            settle(folder / ("x" if form == "folder" else "x.nii"))
        assert seen(folder) in (old, new)
        count += 1
    assert count > 10


@pytest.mark.parametrize("lasting", [False, True])
@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EXDEV, errno.EACCES])
def test_a_disk_that_refuses_at_any_step_leaves_the_old_results(make, monkeypatch, code, lasting):
    """Once, or from then on, so that nothing can be put back before the disk is well again."""
    told = []
    for number in itertools.count(1):
        folder, count = make(number), itertools.count(1)

        def refusing(call, number=number, count=count):
            def called(*arguments, **options):
                now = next(count)
                if now == number or (lasting and now > number):
                    raise OSError(code, os.strerror(code))
                return call(*arguments, **options)

            return called

        with monkeypatch.context() as patched:
            for name in (*CHANGES, "fsync"):
                patched.setattr(os, name, refusing(getattr(os, name)))
            try:
                exchange(folder)
            except ExportError as error:
                told.append(str(error))
            else:
                told.append("")
        if next(count) <= number:
            break
        settle(folder)
        assert seen(folder) in (OLD, NEW)
        assert told[-1].count("\n") == 0
        assert not told[-1] or os.strerror(code) in told[-1]
    assert any("put back" in one for one in told) == lasting


def test_all_is_on_the_disk_before_what_makes_it_count(make, monkeypatch):
    """Staged files before the journal, the journal before an old entry goes, new entries before the journal goes."""
    folder, done = make(0), []

    def noted(call):
        def called(path, *arguments, **options):
            done.append(f"{Path(path).name} moves")
            return call(path, *arguments, **options)

        return called

    monkeypatch.setattr(
        os, "fsync", lambda descriptor: done.append(str(Path(f"/proc/self/fd/{descriptor}").readlink()))
    )
    for name in ("rename", "replace", "unlink"):
        monkeypatch.setattr(os, name, noted(getattr(os, name)))
    exchange(folder)
    place = next(path for path in done if path.endswith("new/dicom")).removesuffix("/new/dicom")
    begins, ends = done.index("exchange.part moves"), done.index("exchange.json moves")
    staged = {f"{place}/new/{name}" for name, text in NEW.items() if text == "new"}
    assert staged | {f"{place}/new/dicom", f"{place}/exchange.part"} <= set(done[:begins])
    assert done[begins + 1] == place
    assert done[begins + 2] == "dicom moves"
    assert {str(folder), f"{place}/old"} <= set(done[begins + 2 : ends])


def test_a_command_that_is_told_to_end_deletes_what_it_staged(make):
    def work(folder):
        signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
        exchange(folder)

    for folder in moments(work, signal.SIGTERM, make):
        assert seen(folder) in (OLD, NEW)
        assert {path.name for path in folder.glob(PREFIX + "*/*")} <= {"lock"}


def test_a_signal_that_is_ignored_stays_so_and_handlers_come_back(make):
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN), signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        exchange(make(0))
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGHUP, before[0])
        signal.signal(signal.SIGINT, before[1])


def raise_all(numbers, took):
    for number in numbers:
        signal.raise_signal(number)
    assert not took


def test_of_two_signals_both_take_effect_and_no_handler_stays():
    took = []

    def interrupt(number, frame):
        took.append(number)
        raise KeyboardInterrupt

    numbers = signal.SIGINT, signal.SIGTERM, signal.SIGHUP
    before = [signal.signal(number, interrupt) for number in numbers]
    try:
        with pytest.raises(KeyboardInterrupt), held_signals():
            raise_all(numbers, took)
        assert sorted(took) == sorted(numbers)
        assert {signal.getsignal(number) for number in numbers} == {interrupt}
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)


def test_two_processes_do_not_write_into_one_place(make):
    folder = make(0)
    program = "from pathlib import Path; from medfuse.runtime.output.atomic_output import atomic_entries as a"
    program += f"\nwith a(Path({str(folder)!r}), True): pass"
    with atomic_entries(folder, True) as temporary:
        put(temporary, {"dicom/1": "new"})
        other = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
        assert "another process of medfuse is writing" in other.stderr
        settle(folder)  # what is staged is no interrupted exchange
        assert temporary.is_dir()
    assert seen(folder)["dicom/1"] == "new"


def test_a_folder_deleted_meanwhile_is_told(make):
    folder = make(0)

    def work():
        with atomic_entries(folder, True) as temporary:
            shutil.rmtree(folder)
            (temporary / "fused.json").write_text("new")

    with pytest.raises(ExportError, match="No such file"):
        work()
    assert not folder.exists()


def test_what_somebody_put_there_after_the_interruption_is_kept(make):
    for folder in moments(exchange, signal.SIGKILL, make):
        if not (folder / "dicom").exists():
            break
    (folder / "dicom").mkdir()
    (folder / "dicom" / "theirs").write_text("theirs")
    with pytest.raises(ExportError, match="somebody else put dicom there"):
        exchange(folder)
    assert (folder / "dicom" / "theirs").read_text() == "theirs"
    (folder / "dicom").rename(folder.parent / "theirs")
    settle(folder)
    assert seen(folder) in (OLD, NEW)


def test_a_journal_that_names_other_places_moves_nothing(tmp_path):
    put(tmp_path, {"out/dicom/1": "old", "precious": "mine"})
    place = tmp_path / "out" / f"{PREFIX}0123456789ab"
    place.mkdir()
    for names in (["../precious"], ["/etc/passwd"], [".."], [3], "x", None):
        (place / "exchange.json").write_text(json.dumps({"old": names, "new": []}))
        if names != "x":
            with pytest.raises(ExportError, match="no journal"):
                settle(tmp_path / "out")
    assert (tmp_path / "precious").read_text() == "mine"
    assert seen(tmp_path / "out") == {"dicom/1": "old"}


def test_what_another_user_left_is_not_moved(make):
    if os.getuid() != 0:
        pytest.skip("only root can become somebody else")
    for folder in moments(exchange, signal.SIGKILL, make):
        if seen(folder) not in (OLD, NEW):
            break
    before = seen(folder)
    os.chown(next(folder.glob(PREFIX + "*")), 12345, 12345)
    with pytest.raises(ExportError, match="another user"):
        settle(folder)
    assert seen(folder) == before


@pytest.mark.parametrize("kind", ["link", "another user", "link to a lock", "link to nowhere"])
def test_a_staging_folder_that_somebody_else_planted_is_not_used(tmp_path, kind):
    """As in a folder where all may write: it would have files of ours deleted, or moved as its journal says."""
    put(tmp_path, {"precious/1": "mine", "result.json": "old"})
    with staging(tmp_path, "result.json") as staged:
        place = staged.place
    assert not place.exists()
    if kind == "link":
        place.symlink_to(tmp_path / "precious")
    elif kind == "another user":
        if os.getuid() != 0:
            pytest.skip("only root can become somebody else")
        (place / "old").mkdir(parents=True)
        (place / "exchange.json").write_text(json.dumps({"old": ["precious"], "new": []}))
        os.chown(place, 12345, 12345)
    else:
        place.mkdir()
        (place / "lock").symlink_to(tmp_path / ("precious/2" if kind == "link to a lock" else "absent/lock"))

    def everything():
        return {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}

    before = everything()
    with (
        pytest.raises(ExportError, match=r"another user made it|cannot write"),
        atomic_files([tmp_path / "result.json"], True) as (temporary,),
    ):
        temporary.write_text("new")
    assert everything() == before


def test_links_are_exchanged_and_what_they_point_to_stays(tmp_path):
    put(tmp_path, {"elsewhere/1": "old", "file.json": "old"})
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "dicom").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "out" / "fused.json").symlink_to(tmp_path / "file.json")
    exchange(tmp_path / "out")
    assert not (tmp_path / "out" / "dicom").is_symlink()
    assert seen(tmp_path / "elsewhere") == {"1": "old"}
    assert seen(tmp_path)["file.json"] == "old"
    assert seen(tmp_path / "out")["fused.json"] == "new"


@pytest.mark.parametrize("at", ["moved aside", "half in place", "all in place"])
def test_what_the_version_before_left_is_put_back(tmp_path, at):
    out = tmp_path / "out"
    put(out, {"mine.txt": "mine"})
    place = out / f"{PREFIX}k3j_9x2a"
    put(place, {"replaced-dicom/1": "old", "replaced-fused.json": "old"})
    (place / "out").mkdir()
    staged = out if at == "all in place" else place / "out"
    put(out if at != "moved aside" else staged, {"dicom/1": "new"})
    put(staged, {"fused.json": "new"})
    settle(out)
    text = "new" if at == "all in place" else "old"
    assert seen(out) == {"mine.txt": "mine", "dicom/1": text, "fused.json": text}


def test_a_staging_folder_of_a_killed_run_is_used_again(tmp_path):
    def cut():
        with staging(tmp_path, "x") as staged:
            (staged.new / "half").write_text("x" * 1000)
            os.kill(os.getpid(), signal.SIGKILL)

    assert dying(cut, 0, signal.SIGKILL)
    assert len(list(tmp_path.iterdir())) == 1
    with atomic_folder(tmp_path / "x") as temporary:
        assert list(temporary.parent.iterdir()) == []
        temporary.mkdir()
    assert [path.name for path in tmp_path.iterdir()] == ["x"]
