"""Sending to peers that redirect, drip, contradict themselves, or never end: nothing false is believed."""

import json
import socket
import threading
import time
from contextlib import ExitStack, contextmanager
from functools import partial

import pytest
from archive_node import node
from hostile_peers import (
    between,
    deaf,
    drip,
    failed,
    item,
    listening,
    read_request,
    response,
    say_nothing,
    stored,
    web,
    write_instances,
)

from medfuse.archive.send import send
from medfuse.archive.transfer import TIME_LIMIT, Options

LIMIT_S = 1.0
SHORT = Options(timeout_s=LIMIT_S)

START_S = 8.0
"""What a machine under load takes to start threads and servers, at most; who is kept waits for ever."""


@pytest.fixture
def one(tmp_path):
    """A folder with one instance, and its UID."""
    (uid,) = write_instances(tmp_path / "out")
    return tmp_path / "out", uid


@contextmanager
def in_time(limits=3.0):
    """Fail where a block takes much longer than so many time limits."""
    began = time.monotonic()
    yield
    assert time.monotonic() - began <= limits * LIMIT_S + START_S


def sent_alone(folder, to, **more):
    """The only transfer of a folder, tried once unless said otherwise."""
    delivery = send(folder, to, **{"retries": 0, "options": SHORT, "wait": lambda seconds: None} | more)
    (transfer,) = delivery.transfers
    return transfer


@pytest.mark.parametrize("code", [301, 302, 303, 307, 308])
@pytest.mark.parametrize("place", ["http://127.0.0.1:{}/dicom-web/studies", "//localhost:{}/x", "/elsewhere"])
def test_redirects_are_not_followed(one, monkeypatch, code, place):
    monkeypatch.setenv("MEDFUSE_DICOMWEB_TOKEN", "open-sesame")
    folder, uid = one
    with (
        web(lambda head: response(200, stored(item(uid)))) as (other, stolen),
        web(lambda head: response(code, Location=place.format(other.split(":")[2].split("/")[0]))) as (url, heads),
    ):
        transfer = sent_alone(folder, url, retries=2)
    assert transfer.status == "refused"
    assert f"HTTP {code}" in transfer.detail
    assert "127.0.0.1" in transfer.detail or "localhost" in transfer.detail
    assert len(heads) == 1
    assert stolen == []


def test_a_redirected_search_confirms_nothing(one):
    folder, uid = one
    found = [{"00080018": {"vr": "UI", "Value": [uid]}}]
    with web(lambda head: response(200, found)) as (other, stolen):

        def answer(head):
            return response(200) if head.startswith(b"POST") else response(307, Location=other)

        with web(answer) as (url, heads):
            transfer = sent_alone(folder, url)
    assert transfer.status == "failed"
    assert [head.split()[0] for head in heads] == [b"POST", b"GET"]
    assert stolen == []


def twice_named(*datasets):
    """One JSON object with the members of all, of which readers keep the last of a name."""
    return ("{" + ",".join(json.dumps(one)[1:-1] for one in datasets) + "}").encode()


@pytest.mark.parametrize("code", [200, 202, 409])
@pytest.mark.parametrize(
    "make",
    [
        lambda uid: stored(item(uid)) | failed(item(uid, 0x0110)),
        lambda uid: stored(item(uid)) | failed({"00081197": {"vr": "US", "Value": [0x0110]}}),
        lambda uid: stored(item(uid), item(uid)),
        lambda uid: stored(item(uid), item("1.2.3")),
        lambda uid: stored(item("1.2.3")),
        lambda uid: stored({}),
        lambda uid: stored(item(uid, warning=0xA700)),
        lambda uid: stored(item(uid, warning=0xC000)),
        lambda uid: failed(item(uid, 0xC000)),
        lambda uid: failed(item(uid)),
        lambda uid: failed(item("1.2.3", 0xA700)),
        lambda uid: {"0008119A": {"vr": "SQ", "Value": [{"00081197": {"vr": "US", "Value": [0x0110]}}]}},
        lambda uid: {"00081199": {"vr": "SQ", "Value": uid}},
        lambda uid: {"00081199": [item(uid)]},
        lambda uid: stored({"00081155": {"vr": "UI", "Value": [uid, "1.2.3"]}}),
        lambda uid: failed(item(uid, -1)),
        lambda uid: [stored(item(uid)), failed(item(uid, 0x0110))],
        lambda uid: uid,
        lambda uid: b"\xff\xfe{}",
        lambda uid: b"{" * 200_000,
        lambda uid: b"[" * 200_000 + b"]" * 200_000,
        lambda uid: b'{"a":' * 100_000 + b"1" + b"}" * 100_000,
        lambda uid: b" " * 2**21,
        lambda uid: twice_named(failed(item(uid, 0x0110)), {"00081198": {}}, stored(item(uid))),
        lambda uid: twice_named(stored(item("1.2.3")), stored(item(uid))),
    ],
)
def test_answers_that_contradict_or_cannot_be_read_confirm_nothing(one, code, make):
    folder, uid = one
    found = [{"00080018": {"vr": "UI", "Value": [uid]}}]  # a search must not save it

    def answer(head):
        return response(code, make(uid)) if head.startswith(b"POST") else response(200, found)

    with web(answer) as (url, _):
        assert sent_alone(folder, url, options=Options(timeout_s=5.0)).status in ("failed", "refused")


@pytest.mark.parametrize(
    ("warning", "detail"), [(None, ""), (0xB000, "with the warning B000"), (0x0116, "with the warning 0116")]
)
def test_a_plain_answer_confirms(one, warning, detail):
    folder, uid = one
    with web(lambda head: response(200, stored(item(uid, warning=warning)))) as (url, _):
        transfer = sent_alone(folder, url)
    assert (transfer.status, transfer.detail) == ("sent", detail)


@pytest.mark.parametrize("code", [200, 202, 409])
@pytest.mark.parametrize("reason", [0xA700, 0xA7FF, 0x0213])
def test_a_service_out_of_resources_is_tried_again(one, code, reason):
    folder, uid = one
    answers = [response(code, failed(item(uid, reason))), response(200, stored(item(uid)))]
    with web(lambda head: answers.pop(0)) as (url, _):
        assert sent_alone(folder, url, retries=1).status == "sent"
    with web(lambda head: response(code, failed(item(uid, reason)))) as (url, heads):
        assert sent_alone(folder, url, retries=2).status == "failed"
    assert len(heads) == 3


def test_a_compressed_answer_is_not_unpacked(one):
    import gzip

    folder, _ = one
    bomb = gzip.compress(b" " * 2**24)
    with web(lambda head: response(200, bomb, Content_Encoding="gzip")) as (url, heads):
        transfer = sent_alone(folder, url)
    assert transfer.status == "failed"
    assert "compressed" in transfer.detail
    assert b"Accept-Encoding: identity" in heads[0]


def endless_body(connection):
    connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
    while True:
        connection.sendall(b" " * 65536)


def endless_hundreds(connection):
    while True:
        connection.sendall(b"HTTP/1.1 100 Continue\r\n\r\n" * 100)


def endless_headers(connection):
    connection.sendall(b"HTTP/1.1 200 OK\r\n")
    while True:
        connection.sendall(b"X: y\r\n" * 1000)


CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


@pytest.mark.parametrize(
    "serve",
    [
        say_nothing,
        lambda connection: drip(connection, b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"),
        lambda connection: drip(connection, b"HTTP/1.1 200 OK\r\n\r\n{"),
        lambda connection: (connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n"), drip(connection, b"{}")),
        lambda connection: (connection.sendall(CHUNKED), drip(connection, b"1;" + b"x" * 200)),
        lambda connection: (connection.sendall(CHUNKED + b"2\r\n{}\r\n0\r\n"), drip(connection, b"X: y\r\n" * 50)),
        endless_body,
        endless_hundreds,
        endless_headers,
    ],
)
@pytest.mark.parametrize("retries", [0, 3])
def test_a_service_cannot_keep_us(one, serve, retries):
    folder, _ = one
    with web(lambda head: serve) as (url, _), in_time():
        assert sent_alone(folder, url, retries=retries).status == "failed"


def test_a_service_cannot_keep_us_by_its_answer_to_the_search(one):
    folder, _ = one

    def answer(head):
        return (
            response(200) if head.startswith(b"POST") else lambda connection: drip(connection, b"HTTP/1.1 200 OK\r\n")
        )

    with web(answer) as (url, _), in_time():
        assert sent_alone(folder, url).status == "failed"


def test_a_service_that_does_not_read_cannot_keep_us(tmp_path):
    write_instances(tmp_path / "out")
    path = tmp_path / "out" / "0.dcm"
    import pydicom

    dataset = pydicom.dcmread(path)
    dataset.Rows, dataset.Columns, dataset.PixelData = 4096, 4096, bytes(2**24)
    dataset.save_as(path)
    for to in ("http://127.0.0.1:{}/dicom-web", "127.0.0.1:{}"):
        with listening(say_nothing) as port, in_time(3.5):  # the file is read twice
            assert sent_alone(tmp_path / "out", to.format(port)).status == "failed"


@pytest.mark.parametrize("to", ["https://127.0.0.1:{}/dicom-web", "127.0.0.1:{}"])
@pytest.mark.parametrize("hello", [b"", b"\x16\x03\x03@\0"])
def test_a_handshake_cannot_keep_us(one, to, hello):
    folder, _ = one
    serve = partial(drip, content=hello) if hello else say_nothing
    with listening(serve) as port, in_time():
        transfer = sent_alone(folder, to.format(port), options=Options(timeout_s=LIMIT_S, tls=True))
    assert transfer.status == "failed"


def dripping_from(first):
    """Pass PDUs on until one, of which the head comes, and the rest a byte at a time."""

    def change(pdu, number, client):
        if number < first:
            return pdu
        drip(client, pdu[:2] + (2000).to_bytes(4, "big") + pdu[6:])
        return None

    return change


def endless_answers(pdu, number, client):
    """After the association, whole PDUs that begin a message and never end it."""
    if number == 0:
        return pdu
    fragment = b"\x00\x00\x10\x00\x01\x01" + bytes(4094)  # a piece of a command set, and not the last
    while True:
        client.sendall(b"\x04\x00" + len(fragment).to_bytes(4, "big") + fragment)


@pytest.mark.parametrize("first", [0, 1])
@pytest.mark.parametrize("retries", [0, 3])
def test_a_dripping_node_cannot_keep_us(one, first, retries):
    folder, _ = one
    with node() as (port, _), between(port, dripping_from(first)) as own, in_time():
        assert sent_alone(folder, f"127.0.0.1:{own}", retries=retries).status == "failed"


def test_a_node_that_never_releases_cannot_keep_us(one):
    folder, _ = one
    with node() as (port, _), between(port, dripping_from(2)) as own, in_time():
        assert sent_alone(folder, f"127.0.0.1:{own}").status == "sent"


def test_a_node_that_says_nothing_cannot_keep_us(one):
    folder, _ = one
    with listening(say_nothing) as port, in_time():
        assert sent_alone(folder, f"127.0.0.1:{port}", retries=3).status == "failed"


@pytest.mark.parametrize(
    "change",
    [
        lambda pdu, number, client: pdu if number == 0 else pdu[:2] + b"\xff\xff\xff\xff" + bytes(2**22),
        lambda pdu, number, client: pdu[:2] + b"\xff\xff\xff\xff" + bytes(2**22),
        endless_answers,
        lambda pdu, number, client: b"\x99" * 100,
    ],
)
def test_a_node_that_answers_without_end_is_left(one, change):
    folder, _ = one
    with node() as (port, _), between(port, change) as own, in_time():
        assert sent_alone(folder, f"127.0.0.1:{own}").status == "failed"


def grown(number_of, content):
    """Put more behind a PDU, or in its place where it is not the first."""

    def change(pdu, number, client):
        if number != number_of:
            return pdu
        body = (pdu[6:] if number == 0 else b"") + content
        return pdu[:2] + len(body).to_bytes(4, "big") + body

    return change


COMMAND = b"".join(b"\0\0" + tag.to_bytes(2, "little") + bytes(4) for tag in range(0, 65536, 2))


@pytest.mark.parametrize(
    "change",
    [
        grown(0, b"\x21\0\0\x08\x01\0\0\0\x40\0\0\0" * 80_000),  # answers to contexts
        grown(0, (b"\x50\0\xfa\0" + b"\x51\0\0\x04\0\0\x40\0" * 8_000) * 15),  # limits of length
        grown(1, b"\0\0\0\x02\x01\x01" * 160_000),  # pieces of a command, each empty
        grown(1, b"\0\0\0\x03\x01\x03\x08" * 140_000),  # and each the last
        grown(1, (len(COMMAND) + 2).to_bytes(4, "big") + b"\x01\x03" + COMMAND),
        grown(1, b"\0\0\0\x02\x01\x03"),  # a command without an element
        grown(1, b"\0\0\0\x02\xff\x03"),
        grown(1, b""),
    ],
)
def test_a_node_whose_answer_is_slow_to_read_or_none_cannot_keep_us(one, change):
    with node() as (port, _), between(port, change) as own, in_time():
        assert sent_alone(one[0], f"127.0.0.1:{own}", retries=3).status == "failed"


RESPONDED_TO = b"\x00\x00\x20\x01\x02\x00\x00\x00"


@pytest.mark.parametrize("wrong", ["message", "instance", "twice"])
def test_an_answer_to_something_else_confirms_nothing(tmp_path, wrong):
    uids = write_instances(tmp_path / "out", 3)

    def change(pdu, number, client):
        if RESPONDED_TO not in pdu or number != 1:
            return pdu
        if wrong == "twice":
            return pdu + pdu
        if wrong == "message":
            return pdu.replace(RESPONDED_TO + b"\x01\x00", RESPONDED_TO + b"\x07\x00")
        uid = next(uid.encode() for uid in uids if uid.encode() in pdu)
        return pdu.replace(uid, uid[:-1] + (b"1" if uid[-1:] != b"1" else b"2"))

    with node() as (port, taken), between(port, change) as own:
        options = Options(timeout_s=5.0)
        delivery = send(tmp_path / "out", f"127.0.0.1:{own}", retries=0, options=options)
    assert not delivery.complete
    # The first answer of two is believed where it is read before the second comes; from then on, nothing is sure.
    assert [one.status for one in delivery.transfers].count("sent") <= (1 if wrong == "twice" else 0)
    assert {one.uid for one in delivery.transfers if one.status == "sent"} <= taken.keys()


def test_credentials_of_other_programs_are_not_used(one, tmp_path, monkeypatch):
    folder, uid = one
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login somebody password else\n")
    (tmp_path / "netrc").chmod(0o600)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    with web(lambda head: response(200, stored(item(uid)))) as (url, heads):
        assert sent_alone(folder, url).status == "sent"
    assert b"authorization" not in heads[0].lower()


def test_what_arrives_is_the_file(one):
    folder, uid = one
    bodies = []

    def serve(connection):
        bodies.append(read_request(connection)[1])
        connection.sendall(response(200, stored(item(uid))))

    with listening(serve) as port:
        assert sent_alone(folder, f"http://127.0.0.1:{port}").status == "sent"
    content = (folder / "0.dcm").read_bytes()
    assert bodies[0].partition(b"\r\n\r\n")[2].rpartition(b"\r\n--")[0].removesuffix(b"\r\n") in (content,) or (
        content in bodies[0]
    )


@pytest.mark.parametrize("scheme", ["http://", ""])
def test_a_name_service_that_does_not_answer_cannot_keep_us(one, monkeypatch, scheme):
    asked = threading.Event()

    def never(*arguments, **named):
        asked.set()
        time.sleep(20 * LIMIT_S)
        raise socket.gaierror("too late")

    monkeypatch.setattr(socket, "getaddrinfo", never)
    with in_time():
        assert sent_alone(one[0], f"{scheme}archive.example:104", retries=3).detail == TIME_LIMIT
    assert asked.is_set()


@pytest.mark.parametrize("scheme", ["http://", ""])
def test_a_host_of_many_addresses_cannot_keep_us_at_each(one, monkeypatch, scheme):
    with deaf() as place:
        found = [(socket.AF_INET, socket.SOCK_STREAM, 0, "", place)] * 8
        monkeypatch.setattr(socket, "getaddrinfo", lambda *arguments, **named: found)
        with in_time():
            assert sent_alone(one[0], f"{scheme}archive.example:104").detail == TIME_LIMIT


@pytest.mark.parametrize("scheme", ["http://", ""])
def test_an_address_without_an_answer_leaves_time_for_the_next(one, monkeypatch, scheme):
    folder, uid = one
    looked_up = socket.getaddrinfo
    with deaf() as place, ExitStack() as stack:
        if scheme:
            url, _ = stack.enter_context(web(lambda head: response(200, stored(item(uid)))))
            port = int(url.split(":")[2].split("/")[0])
        else:
            port, _ = stack.enter_context(node())
        places = [place, ("127.0.0.1", port)]
        found = [(socket.AF_INET, socket.SOCK_STREAM, 0, "", one) for one in places]
        monkeypatch.setattr(
            socket,
            "getaddrinfo",
            lambda host, *more, **named: found if host == "two" else looked_up(host, *more, **named),
        )
        transfer = sent_alone(folder, f"{scheme}two:{port}", options=Options(timeout_s=8.0))
    assert transfer.status == "sent", transfer.detail


@pytest.mark.parametrize("first", [0, 1, 2])
def test_nothing_goes_on_behind_a_call(one, first):
    folder, _ = one
    with node() as (port, _), between(port, dripping_from(first)) as own:
        before = set(threading.enumerate())
        sent_alone(folder, f"127.0.0.1:{own}")
        # Of the threads here, those of the client alone are daemons, and the node's, which are named.
        ours = [thread for thread in set(threading.enumerate()) - before if thread.daemon]
        ours = [thread for thread in ours if "Acceptor" not in thread.name]
        for thread in ours:
            thread.join(0.5)  # a timer that was called off takes a moment
        assert not any(thread.is_alive() for thread in ours)


class Slow:
    """A transport that takes its share of the time limit, or all that it may have, and is never answered."""

    def __init__(self, share):
        self.share, self.lost_s = share, 0.0

    def store(self, transfers, recorded, patience_s):
        lost_s = min(self.share * LIMIT_S, patience_s)
        self.lost_s += lost_s
        for transfer in transfers:
            transfer.record("failed", "no connection")
        return lost_s


@pytest.mark.parametrize("share", [0.0, 0.01, 0.09, 0.11, 0.5, 1.0])
def test_many_tries_without_an_answer_take_no_longer_than_few(one, monkeypatch, share):
    slow, waited = Slow(share), []
    monkeypatch.setattr("medfuse.archive.cstore.StoreTransport", lambda *arguments: slow)
    assert sent_alone(one[0], "127.0.0.1:104", retries=200, wait=waited.append).status == "failed"
    assert slow.lost_s <= 2.9 * LIMIT_S
    # What is refused quickly is tried as often as asked, or as the time for it allows; all else a few times.
    assert len(waited) == {0.0: 200, 0.01: 200, 0.09: 30}.get(share, len(waited))
    assert share < 0.1 or slow.lost_s + sum(waited) <= 3 * LIMIT_S
