"""Archives that drip, redirect, contradict themselves or never end, on this machine alone."""

from __future__ import annotations

import json
import select
import socket
import threading
import time
from contextlib import ExitStack, contextmanager, suppress

import pydicom
from pydicom.dataset import FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, SecondaryCaptureImageStorage, generate_uid

STOP_S = 8.0
"""After so many seconds the peers give up, so that a test that fails ends, too."""


def write_instances(folder, count=1):
    """Small pictures as files; their UIDs."""
    folder.mkdir()
    study, series, uids = generate_uid(), generate_uid(), []
    for number in range(count):
        dataset = pydicom.Dataset()
        dataset.file_meta = FileMetaDataset()
        dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        dataset.SOPClassUID = SecondaryCaptureImageStorage
        dataset.SOPInstanceUID = generate_uid()
        dataset.StudyInstanceUID, dataset.SeriesInstanceUID = study, series
        dataset.PatientName, dataset.PatientID = "Doe^Jane", "4711"
        dataset.InstanceNumber = number + 1
        dataset.Rows = dataset.Columns = 8
        dataset.BitsAllocated = dataset.BitsStored = 8
        dataset.HighBit, dataset.PixelRepresentation, dataset.SamplesPerPixel = 7, 0, 1
        dataset.PhotometricInterpretation = "MONOCHROME2"
        dataset.PixelData = bytes(range(64))
        dataset.save_as(folder / f"{number}.dcm", enforce_file_format=True)
        uids.append(str(dataset.SOPInstanceUID))
    return uids


@contextmanager
def listening(serve):
    """A port on which ``serve`` is called with each connection, in a thread of its own; at the end all are cut."""
    server = socket.create_server(("127.0.0.1", 0))
    connections, threads = [], []

    def accept():
        while True:
            try:
                connection, _ = server.accept()
            except OSError:
                return
            connections.append(connection)
            threads.append(threading.Thread(target=handle, args=(connection,)))
            threads[-1].start()

    def handle(connection):
        with suppress(OSError):
            serve(connection)
        cut(connection)

    accepting = threading.Thread(target=accept)
    accepting.start()
    try:
        yield server.getsockname()[1]
    finally:
        cut(server)
        accepting.join()
        server.close()
        for connection in connections:
            cut(connection)
        for thread in threads:
            thread.join()
        for connection in connections:
            connection.close()


def cut(connection):
    """End a connection both ways; who waits on it is woken."""
    with suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)


def say_nothing(connection):
    """Neither read nor write, until the connection is cut."""
    waiting = select.poll()
    waiting.register(connection, 0)
    waiting.poll(STOP_S * 1000)


@contextmanager
def deaf():
    """An address whose queue is full and never served, so that no connection to it comes about."""
    with socket.create_server(("127.0.0.1", 0), backlog=0) as full, ExitStack() as waiting:
        for _ in range(4):
            filler = waiting.enter_context(socket.socket())
            filler.setblocking(False)
            filler.connect_ex(full.getsockname())
        yield full.getsockname()


def read_request(connection):
    """Head and body of an HTTP request."""
    received = b""
    while b"\r\n\r\n" not in received:
        received += (piece := connection.recv(65536))
        if not piece:
            return received, b""
    head, _, body = received.partition(b"\r\n\r\n")
    lengths = [line for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:")]
    length = int(lengths[0].split(b":")[1]) if lengths else 0
    while len(body) < length:
        body += connection.recv(65536)
    return head, body


@contextmanager
def web(answer):
    """A web service; ``answer`` gets a request's head, and gives what goes back: bytes, or a function of the socket.

    Yields the address and the heads of all requests.
    """
    heads = []

    def serve(connection):
        head, _ = read_request(connection)
        if head:
            heads.append(head)
            found = answer(head)
            found(connection) if callable(found) else connection.sendall(found)

    with listening(serve) as port:
        yield f"http://127.0.0.1:{port}/dicom-web", heads


def response(code, content=b"", **headers):
    """An HTTP response, after which the connection ends."""
    if not isinstance(content, bytes):
        content = json.dumps(content).encode()
    lines = [f"HTTP/1.1 {code} Any", f"Content-Length: {len(content)}", "Connection: close"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode() + content


def item(uid, reason=None, warning=None):
    """An item of an answer's sequences."""
    found = {"00081155": {"vr": "UI", "Value": [uid]}}
    if reason is not None:
        found["00081197"] = {"vr": "US", "Value": [reason]}
    if warning is not None:
        found["00081196"] = {"vr": "US", "Value": [warning]}
    return found


def stored(*items):
    """An answer that names instances as stored."""
    return {"00081199": {"vr": "SQ", "Value": list(items)}}


def failed(*items):
    """An answer that names instances as failed."""
    return {"00081198": {"vr": "SQ", "Value": list(items)}}


def drip(connection, content, every_s=0.05):
    """Send a byte at a time, and go on with spaces when there is no more."""
    end = time.monotonic() + STOP_S
    for byte in content:
        connection.sendall(bytes([byte]))
        time.sleep(every_s)
    while time.monotonic() < end:
        connection.sendall(b" ")
        time.sleep(every_s)


@contextmanager
def between(port, change):
    """A port that passes a DICOM node's PDUs on; ``change`` gets each, its number, and the client's socket.

    It gives what is passed on, or None where it has sent what it wants itself.
    """

    def serve(client):
        with socket.create_connection(("127.0.0.1", port)) as node:
            forwarding = threading.Thread(target=forward, args=(client, node))
            forwarding.start()
            try:
                number = 0
                while head := exactly(node, 6):
                    pdu = head + exactly(node, int.from_bytes(head[2:6], "big"))
                    changed = change(pdu, number, client)
                    if changed is not None:
                        client.sendall(changed)
                    number += 1
            finally:
                cut(client)
                forwarding.join()

    with listening(serve) as own:
        yield own


def forward(source, target):
    with suppress(OSError):
        while piece := source.recv(65536):
            target.sendall(piece)
    cut(target)


def exactly(connection, count):
    received = b""
    while len(received) < count:
        piece = connection.recv(count - len(received))
        if not piece:
            return b""
        received += piece
    return received
