"""The journal of what was sent: what an archive has confirmed is resumed, and nothing else is believed."""

import resource
import signal

import pytest
from hostile_peers import item, response, stored, web, write_instances

from medfuse.archive.journal import Journal
from medfuse.archive.send import send
from medfuse.archive.transfer import Options
from medfuse.errors import ExportError

QUICK = {"retries": 0, "options": Options(timeout_s=5.0)}
TO = "http://127.0.0.1:1/dicom-web"
"""Where nobody listens."""


@pytest.fixture(autouse=True)
def own_key(tmp_path_factory, monkeypatch):
    """Where this test's own key is kept."""
    folder = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder))
    return folder


@pytest.fixture
def begun(tmp_path):
    """A folder of two instances of which one is confirmed: the folder, their UIDs, and the journal."""
    folder = tmp_path / "out"
    uids = write_instances(folder, 2)
    answers = [response(200, stored(item(uids[0])))]
    with web(lambda head: answers.pop() if answers else response(503)) as (url, _):
        delivery = send(folder, url, **QUICK)
    assert sorted(one.status for one in delivery.transfers) == ["failed", "sent"]
    return folder, uids, tmp_path / ".out.sent", url


def test_what_was_confirmed_is_not_sent_again(begun):
    folder, _, journal, url = begun
    assert url in journal.read_text()
    assert [one.status for one in send(folder, url, **QUICK).transfers] == ["sent", "failed"]
    assert "Doe" not in journal.read_text()
    assert {one.status for one in send(folder, TO, **QUICK).transfers} == {"failed"}


def test_a_file_that_changed_since_is_sent_again(begun):
    folder, _, _, url = begun
    path = folder / "0.dcm"
    path.write_bytes(path.read_bytes().replace(bytes(range(64)), bytes(64)))
    assert {one.status for one in send(folder, url, **QUICK).transfers} == {"failed"}


def test_what_an_interruption_cut_off_is_sent_again(begun):
    folder, _, journal, url = begun
    whole = journal.read_bytes()
    journal.write_bytes(whole[:-10])
    assert {one.status for one in send(folder, url, **QUICK).transfers} == {"failed"}
    journal.write_bytes(whole + whole[:30])
    assert [one.status for one in send(folder, url, **QUICK).transfers] == ["sent", "failed"]
    assert journal.read_bytes() == whole


def another_uid(line, uids):
    return line + line.replace(uids[0].encode(), uids[1].encode())


@pytest.mark.parametrize(
    "change",
    [
        another_uid,
        lambda line, uids: line.replace(uids[0].encode(), uids[1].encode()),
        lambda line, uids: line + line,
        lambda line, uids: line.replace(b"127.0.0.1", b"127.0.0.2"),
        lambda line, uids: b"\t".join(line.split(b"\t")[:2]) + b"\n",
        lambda line, uids: b"\t".join([*line.split(b"\t")[:3], b"0" * 64]) + b"\n",
        lambda line, uids: line + b"\n",
        lambda line, uids: line + b"caf\xe9\n",
        lambda line, uids: line + b"\0\n",
        lambda line, uids: b"\xff\xfe" + line.decode().encode("utf-16-le"),
        lambda line, uids: line + b"[" * 100_000 + b"\n",
        lambda line, uids: line.replace(b"\t", b" "),
    ],
)
def test_a_changed_journal_is_refused_in_a_sentence(begun, change):
    folder, uids, journal, url = begun
    journal.write_bytes(change(journal.read_bytes(), uids))
    with pytest.raises(ExportError, match=r"cannot be trusted: .*Delete it") as refused:
        send(folder, url, **QUICK)
    assert "\n" not in str(refused.value)
    journal.unlink()
    assert {one.status for one in send(folder, url, **QUICK).transfers} == {"failed"}


def test_a_journal_that_another_user_wrote_is_refused(begun, monkeypatch, tmp_path):
    folder, _, _, url = begun
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "another"))
    with pytest.raises(ExportError, match="another user"):
        send(folder, url, **QUICK)


@pytest.mark.parametrize("kind", ["link", "folder", "endless"])
def test_a_journal_that_is_no_file_is_refused(begun, kind, tmp_path):
    folder, _, journal, url = begun
    content = journal.read_bytes()
    journal.unlink()
    if kind == "folder":
        journal.mkdir()
    elif kind == "link":
        (tmp_path / "elsewhere").write_bytes(content)
        journal.symlink_to(tmp_path / "elsewhere")
    else:
        journal.symlink_to("/dev/zero")
    with pytest.raises(ExportError, match="no plain file"):
        send(folder, url, **QUICK)


def test_where_no_key_can_be_kept_everything_is_sent_again(begun, monkeypatch):
    folder, uids, journal, url = begun
    journal.unlink()
    monkeypatch.setattr("medfuse.archive.journal.cache_folders", lambda create: iter(()))
    own = Journal(folder, url)
    own.note(uids[0], "0" * 64)
    assert own.read() == {}


def test_a_key_that_others_can_read_is_not_used(begun, own_key):
    folder, _, _, url = begun
    key = own_key / "medfuse" / "journal.key"
    assert key.stat().st_mode & 0o077 == 0
    key.chmod(0o644)
    with pytest.raises(ExportError, match="another user"):
        send(folder, url, **QUICK)


def test_a_file_that_was_sent_again_counts_as_it_was_sent_last(begun):
    """Also where that run was cut, too."""
    folder, uids, _, url = begun
    path = folder / "0.dcm"
    path.write_bytes(path.read_bytes().replace(bytes(range(64)), bytes(64)))
    own = Journal(folder, url)
    digest = next(one.digest for one in send(folder, TO, **QUICK).transfers if one.uid == uids[0])
    own.note(uids[0], digest)
    assert own.read() == {uids[0]: digest}
    assert [one.status for one in send(folder, url, **QUICK).transfers] == ["sent", "failed"]


def test_a_full_disk_leaves_no_half_line(begun):
    folder, uids, journal, url = begun
    before = journal.read_bytes()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) + 20, limits[1]))
        Journal(folder, url).note(uids[1], "0" * 64)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, ignored)
    assert journal.read_bytes() == before


def test_a_folder_of_the_longest_name_is_sent_without_a_journal(tmp_path):
    folder = tmp_path / ("a" * 253)
    (uid,) = write_instances(folder, 1)
    with web(lambda head: response(200, stored(item(uid)))) as (url, _):
        assert send(folder, url, **QUICK).complete
