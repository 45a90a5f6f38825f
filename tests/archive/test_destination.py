"""Where to send: every form that is meant is read, all else is a usage error in one sentence."""

import pytest
from hostile_peers import write_instances
from typer.testing import CliRunner

from medfuse.archive.destination import Destination
from medfuse.archive.transfer import Options
from medfuse.cli import app
from medfuse.errors import ExportError


@pytest.mark.parametrize(
    ("text", "host", "port", "aet"),
    [
        ("archive.example:104", "archive.example", 104, "ANY-SCP"),
        ("pacs_1:11112/MY ARCHIVE", "pacs_1", 11112, "MY ARCHIVE"),
        ("[::1]:104/A/B", "::1", 104, "A/B"),
        ("::1:104", "::1", 104, "ANY-SCP"),
        ("10.0.0.1:65535/ABCDEFGHIJKLMNOP", "10.0.0.1", 65535, "ABCDEFGHIJKLMNOP"),
    ],
)
def test_nodes(text, host, port, aet):
    found = Destination.parse(text)
    assert (found.host, found.port, found.aet, found.web) == (host, port, aet, False)


@pytest.mark.parametrize("text", ["http://localhost:8042/dicom-web/", "https://[::1]:8443/x", "HTTPS://a.example"])
def test_services(text):
    assert Destination.parse(text).web


WRONG = [
    "",
    "archive",
    "archive:",
    ":104",
    "archive:0",
    "archive:65536",
    "archive:-1",
    "archive:1e3",
    "archive:²",
    "archive:١٠٤",
    "archive:99999999999999999999",
    "ar chive:104",
    "archive:104/",
    "archive:104/ ",
    "archive:104/ABCDEFGHIJKLMNOPQ",
    "archive:104/A\\B",
    "archive:104/Ä",
    "archive:104/A\tB",
    "arch\\ive:104",
    "me:secret@archive:104",
    "http://",
    "http://[::1",
    "http://[zz]/x",
    "http://::1/x",
    "http://archive:65536/x",
    "http://archive:0/x",
    "http://archive:port/x",
    "http://me:secret@archive/x",
    "https://secret@archive/x",
    "https://archive/x?secret=1",
    "https://archive/x#y",
    "https://archive/a b",
    "https://archive\n/x",
    "https://ar%63hive/x",
    "ftp://archive/x",
    "dicom://archive:104",
    "file:///etc/passwd",
    "https:/archive/x",
]


@pytest.mark.parametrize("text", WRONG)
def test_what_is_no_destination_is_a_usage_error(tmp_path, text):
    with pytest.raises(ExportError) as refused:
        Destination.parse(text)
    assert "secret@" not in str(refused.value)
    assert "\n" not in str(refused.value)
    write_instances(tmp_path / "out")
    done = CliRunner().invoke(app, ["send", str(tmp_path / "out"), "--to", text])
    assert done.exit_code == 2, done.output
    assert "Traceback" not in done.output


@pytest.mark.parametrize("title", ["", " ", "A\\B", "Ä", "ABCDEFGHIJKLMNOPQ", "A\nB", "A\0"])
def test_a_title_that_is_none_is_a_usage_error(tmp_path, title):
    with pytest.raises(ExportError, match="application entity title"):
        Options(title)
    done = CliRunner().invoke(app, ["send", str(tmp_path), "--to", "a:1", "--aet", title])
    assert done.exit_code == 2
    assert "Traceback" not in done.output


@pytest.mark.parametrize("seconds", [0.0, -1.0, float("nan"), float("inf"), 1e12])
def test_a_time_limit_that_is_none(seconds):
    with pytest.raises(ExportError, match="time limit"):
        Options(timeout_s=seconds)


def test_a_host_that_nobody_knows_fails_like_one_that_does_not_answer(tmp_path):
    from medfuse.archive.send import send

    write_instances(tmp_path / "out")
    for to in ("no-such-host.invalid:104", "http://no-such-host.invalid/x"):
        delivery = send(tmp_path / "out", to, retries=0, options=Options(timeout_s=5.0))
        assert {one.status for one in delivery.transfers} == {"failed"}
        assert all("no connection" in one.detail for one in delivery.transfers)


@pytest.mark.parametrize("content", [None, b"", b"no certificate", b"\xff\0", "folder"])
def test_authorities_that_are_none_are_a_usage_error(tmp_path, content):
    path = tmp_path / "ca.pem"
    if content == "folder":
        path.mkdir()
    elif content is not None:
        path.write_bytes(content)
    with pytest.raises(ExportError, match="certificate authorities"):
        Options(ca=path)
    done = CliRunner().invoke(app, ["send", str(tmp_path), "--to", "https://a/x", "--ca", str(path)])
    assert done.exit_code == 2
    assert "certificate authorities" in " ".join(done.output.split())
