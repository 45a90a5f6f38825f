"""Sending, against nodes and services that run in this process."""

import json
import shutil
import socket
import ssl
import subprocess
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from pathlib import Path

import numpy as np
import pydicom
import pytest
from archive_node import FAST, node
from typer.testing import CliRunner

from medfuse.archive.send import Destination, send
from medfuse.archive.transfer import Options
from medfuse.cli import app
from medfuse.dicom import scan
from medfuse.errors import ExportError, SeriesError


def same(taken, export):
    """Whether what arrived is what was written."""
    paths = sorted(export.rglob("*.dcm"))
    assert len(taken) == len(paths)
    for path in paths:
        written = pydicom.dcmread(path)
        arrived = taken[str(written.SOPInstanceUID)]
        assert arrived == written
        assert arrived.file_meta.TransferSyntaxUID == written.file_meta.TransferSyntaxUID
        np.testing.assert_array_equal(arrived.pixel_array, written.pixel_array)


def left_beside(export):
    return [path.name for path in export.parent.iterdir() if path.name.startswith(".")]


def test_a_node_gets_everything_as_it_was_written(export):
    told = []
    with node() as (port, taken):
        delivery = send(export, f"127.0.0.1:{port}/ARCHIVE", options=FAST, progress=lambda *step: told.append(step))
    assert delivery.complete
    assert told[-1] == ("send", 1.0)
    same(taken, export)
    assert left_beside(export) == []


def test_a_cut_line_is_taken_up_again(export):
    waited = []
    with node(lambda count: None if count in (4, 9) else 0) as (port, taken):
        delivery = send(export, f"127.0.0.1:{port}", options=FAST, wait=waited.append)
    assert delivery.complete
    assert waited == [1.0, 2.0]
    same(taken, export)


def test_a_later_call_sends_only_what_is_missing(export):
    with node(lambda count: None if count >= 6 else 0) as (port, taken):
        first = send(export, f"127.0.0.1:{port}", retries=0, options=FAST)
    assert not first.complete
    assert sum(one.status == "sent" for one in first.transfers) == len(taken) == 5
    assert left_beside(export) == [".out.sent"]
    assert not any(one["sent"] for one in first.to_dict()["series"].values())
    with node(port=port) as (_, rest):
        second = send(export, f"127.0.0.1:{port}", options=FAST)
    assert second.complete
    assert not taken.keys() & rest.keys()
    same(taken | rest, export)
    assert left_beside(export) == []


def test_a_refused_instance_leaves_its_series_not_sent(export):
    with node(lambda count: 0xA900 if count == 3 else 0) as (port, taken):
        delivery = send(export, f"127.0.0.1:{port}", options=FAST, wait=lambda seconds: None)
    assert not delivery.complete
    assert [one.status for one in delivery.transfers].count("refused") == 1
    assert sorted(one["sent"] for one in delivery.to_dict()["series"].values()) == [False, True]
    assert len(taken) == len(delivery.transfers) - 1


def test_a_full_node_is_tried_again_and_a_warning_is_told(export):
    with node(lambda count: {2: 0xA700, 5: 0xB000, 7: 0x0111}.get(count, 0)) as (port, _):
        delivery = send(export, f"127.0.0.1:{port}", options=FAST, wait=lambda seconds: None)
    assert delivery.complete
    details = {one.detail for one in delivery.transfers}
    assert {"with the warning B000", "it was there already"} <= details


def test_a_node_that_knows_one_class_alone(export):
    from pydicom.uid import SecondaryCaptureImageStorage

    with node(classes=[SecondaryCaptureImageStorage]) as (port, taken):
        delivery = send(export, f"127.0.0.1:{port}", options=FAST, wait=lambda seconds: None)
    assert len(taken) == 7
    assert {one.detail for one in delivery.transfers if one.status == "refused"} == {
        "the node accepts neither this class nor this transfer syntax"
    }


def test_nobody_there(export):
    with node() as (port, _):
        pass
    delivery = send(export, f"127.0.0.1:{port}", retries=1, options=FAST, wait=lambda seconds: None)
    assert {one.detail for one in delivery.transfers} == {"no connection"}


@contextmanager
def service(answer=lambda count: 200, headers=None, silent=False, tls=None):
    """A DICOMweb service; ``answer`` gives the HTTP status of the n-th store, or None to cut the line."""
    taken = {}
    counted = [0]

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_):
            pass

        def body(self):
            if self.headers.get("Transfer-Encoding") != "chunked":
                return self.rfile.read(int(self.headers["Content-Length"]))
            parts = []
            while size := int(self.rfile.readline(), 16):
                parts.append(self.rfile.read(size))
                self.rfile.readline()
            self.rfile.readline()
            return b"".join(parts)

        def reply(self, code, content=b"{}"):
            self.send_response(code)
            self.send_header("Content-Type", "application/dicom+json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def do_GET(self):
            uid = self.path.partition("SOPInstanceUID=")[2].partition("&")[0]
            self.reply(200, json.dumps([{"00080018": {"vr": "UI", "Value": [uid]}}] if uid in taken else []).encode())

        def do_POST(self):
            body = self.body()
            if headers is not None:
                headers.append(self.headers.get("Authorization"))
            counted[0] += 1
            code = answer(counted[0])
            if code is None:
                self.close_connection = True
                return
            if code != 200:
                self.reply(code)
                return
            start = body.index(b"\r\n\r\n") + 4
            dataset = pydicom.dcmread(BytesIO(body[start : body.rindex(b"\r\n--")]))
            taken[str(dataset.SOPInstanceUID)] = dataset
            stored = pydicom.Dataset()
            reference = pydicom.Dataset()
            reference.ReferencedSOPClassUID = dataset.SOPClassUID
            reference.ReferencedSOPInstanceUID = dataset.SOPInstanceUID
            stored.ReferencedSOPSequence = [reference]
            self.reply(200, b"{}" if silent else stored.to_json().encode())

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    if tls is not None:
        server.socket = tls.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    try:
        yield f"http{'s' if tls else ''}://127.0.0.1:{server.server_port}/dicom-web", taken
    finally:
        server.shutdown()
        server.server_close()


@pytest.mark.parametrize("silent", [False, True])
def test_a_service_gets_everything_as_it_was_written(export, silent):
    with service(silent=silent) as (url, taken):
        delivery = send(export, url, options=FAST)
    assert delivery.complete, {one.detail for one in delivery.transfers}
    same(taken, export)
    assert left_beside(export) == []


def test_a_service_that_stumbles_is_tried_again(export):
    with service(lambda count: {2: 503, 5: 429, 9: None}.get(count, 200)) as (url, taken):
        delivery = send(export, url, options=FAST, wait=lambda seconds: None)
    assert delivery.complete, {one.detail for one in delivery.transfers}
    same(taken, export)


def test_a_service_that_refuses_has_the_last_word(export):
    with service(lambda count: 409 if count == 3 else 200) as (url, _):
        delivery = send(export, url, options=FAST, wait=lambda seconds: None)
    assert [one.status for one in delivery.transfers].count("refused") == 1
    assert not delivery.complete


def test_credentials_come_from_the_environment_and_stay_on_safe_lines(export, monkeypatch):
    seen = []
    monkeypatch.setenv("MEDFUSE_DICOMWEB_TOKEN", "open-sesame")
    with service(headers=seen) as (url, _):
        send(export, url, options=FAST)
    assert set(seen) == {"Bearer open-sesame"}
    with pytest.raises(ExportError, match="https alone") as refused:
        send(export, "http://archive.example/dicom-web", options=FAST)
    assert "sesame" not in str(refused.value)
    with service(lambda count: 401) as (url, _), pytest.raises(ExportError, match="refuses the credentials"):
        send(export, url, options=FAST)


@pytest.fixture(scope="module")
def certified(tmp_path_factory):
    """A certificate that nobody has signed but itself, and the server's side of TLS with it."""
    if shutil.which("openssl") is None:
        pytest.skip("openssl, which makes the certificate, is not installed")
    folder = tmp_path_factory.mktemp("tls")
    certificate, key = folder / "certificate.pem", folder / "key.pem"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", "-subj", "/CN=archive"]
    command += ["-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(key), "-out", str(certificate)]
    subprocess.run(command, check=True, capture_output=True)
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(certificate, key)
    return certificate, tls


def test_a_node_behind_tls_gets_everything_if_it_is_trusted(export, certified):
    certificate, tls = certified
    with node(tls=tls) as (port, taken):
        delivery = send(export, f"127.0.0.1:{port}", options=Options(timeout_s=5.0, tls=True, ca=certificate))
    assert delivery.complete, {one.detail for one in delivery.transfers}
    same(taken, export)


def test_a_service_behind_tls_gets_everything_if_it_is_trusted(export, certified, monkeypatch):
    certificate, tls = certified
    seen = []
    monkeypatch.setenv("MEDFUSE_DICOMWEB_TOKEN", "open-sesame")
    with service(headers=seen, tls=tls) as (url, taken):
        delivery = send(export, url, options=Options(timeout_s=5.0, ca=certificate))
    assert delivery.complete, {one.detail for one in delivery.transfers}
    assert set(seen) == {"Bearer open-sesame"}
    same(taken, export)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
@pytest.mark.parametrize("web", [False, True])
def test_nobody_who_is_not_trusted_gets_anything(export, certified, monkeypatch, web):
    _, tls = certified
    seen = []
    monkeypatch.setenv("MEDFUSE_DICOMWEB_TOKEN", "open-sesame")
    with service(headers=seen, tls=tls) if web else node(tls=tls) as (where, taken):
        to = where if web else f"127.0.0.1:{where}"
        delivery = send(export, to, retries=0, options=Options(timeout_s=5.0, tls=True))
    assert {one.status for one in delivery.transfers} == {"failed"}
    assert taken == {}
    assert seen == []


@pytest.mark.parametrize(
    "text", ["archive", "archive:0", "archive:port", ":104", "a:1/ABCDEFGHIJKLMNOPQ", "https://me:pw@host", "https://"]
)
def test_what_is_no_destination_is_refused(text):
    with pytest.raises(ExportError) as refused:
        Destination.parse(text)
    assert "pw" not in str(refused.value)


def test_a_damaged_export_does_not_leave(export):
    path = next(iter(sorted(export.rglob("*.dcm"))))
    path.write_bytes(path.read_bytes()[:700])
    with node() as (port, taken), pytest.raises(SeriesError, match="nothing was sent"):
        send(export, f"127.0.0.1:{port}", options=FAST)
    assert taken == {}


def test_a_doubled_instance_does_not_leave(export):
    path = next(iter(sorted(export.rglob("*.dcm"))))
    Path(path.parent / "copy.dcm").write_bytes(path.read_bytes())
    with pytest.raises(SeriesError, match="share a SOPInstanceUID"):
        send(export, "127.0.0.1:1", options=FAST)


def test_the_command_tells_by_exit_code_and_json(export):
    with node() as (port, _):
        done = CliRunner().invoke(app, ["send", str(export), "--to", f"127.0.0.1:{port}/ARCHIVE", "--json"])
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["complete"] is True
    with node(lambda count: 0xA900 if count == 3 else 0) as (port, _):
        done = CliRunner().invoke(app, ["send", str(export), "--to", f"127.0.0.1:{port}"])
    assert done.exit_code == 7
    assert "not sent: 6 of 7 arrived" in " ".join(done.output.split())
    assert CliRunner().invoke(app, ["send", str(export), "--to", "nowhere"]).exit_code == 2
    assert CliRunner().invoke(app, ["send", str(export / "none"), "--to", "a:1"]).exit_code == 3


def test_what_failed_alike_is_said_once_for_a_series(export):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    done = CliRunner().invoke(app, ["send", str(export), "--to", f"127.0.0.1:{port}", "--retries", "0"])
    assert done.exit_code == 7
    failed = [line for line in done.output.splitlines() if line.startswith("failed: ")]
    assert len(failed) == len(scan(export).series)
    assert all(" 7 instances of " in line and line.endswith("no connection") for line in failed)
