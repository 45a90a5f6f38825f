"""Send instances to a DICOM node by C-STORE (PS3.4 Annex B)."""

from __future__ import annotations

import socket
import ssl
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from io import BytesIO
from typing import Any

from pydicom import dcmread
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pynetdicom import AE, build_context, evt
from pynetdicom.association import Association
from pynetdicom.pdu_primitives import A_P_ABORT
from pynetdicom.transport import AssociationSocket

from medfuse.archive.statuses import meaning
from medfuse.archive.transfer import TIME_LIMIT, Options, Transfer
from medfuse.archive.watchdog import Watchdog

MOST_CONTEXTS = 128
"""An association offers no more (PS3.8 9.3.2.2)."""

MOST_BYTES = 2**17
"""A node's part of an exchange, its answers to 128 contexts too, has a tenth; to take much more apart is slow."""

RELEASE_SHARE = 0.1
"""Of the time limit, for the node to say goodbye: everything is confirmed then."""


class StoreTransport:
    """Opens an association a try, and stores what is open over it."""

    def __init__(self, host: str, port: int, aet: str, options: Options) -> None:
        self.host, self.port, self.aet, self.options = host, port, aet, options

    def store(self, transfers: list[Transfer], recorded: Callable[[Transfer], None], patience_s: float) -> float:
        """Store each transfer; where the connection is lost, the rest is left as failed. See `Transport`."""
        watchdog = Watchdog()
        entity = _Entity(self.options, watchdog)
        began = time.monotonic()
        try:
            with watchdog.limit(min(self.options.timeout_s, patience_s)):
                association, why = self._associate(transfers, entity)
            if association is None:
                for transfer in transfers:
                    transfer.record("failed", why)
                return time.monotonic() - began
            answered = self._store_all(_Exchange(association), transfers, recorded, watchdog, began + patience_s)
            if not association.is_established:
                return time.monotonic() - (answered or began)
            with watchdog.limit(RELEASE_SHARE * self.options.timeout_s):
                association.release()
            return 0.0
        finally:
            entity.close()
            watchdog.close()

    def _store_all(
        self,
        exchange: _Exchange,
        transfers: list[Transfer],
        recorded: Callable[[Transfer], None],
        watchdog: Watchdog,
        end: float,
    ) -> float | None:
        """Store each while the association stands, the first until ``end``; return when the last answer came."""
        answered: float | None = None
        for transfer in transfers:
            if not exchange.association.is_established:
                transfer.record("failed", TIME_LIMIT if watchdog.passed else "the connection was cut")
                continue
            left_s = self.options.timeout_s if answered else max(end - time.monotonic(), 0.01)
            with watchdog.limit(min(self.options.timeout_s, left_s)):
                got_answer = exchange.store(transfer)
            if watchdog.passed and transfer.status != "sent":
                transfer.record("failed", TIME_LIMIT)
            elif got_answer:
                answered = time.monotonic()
            recorded(transfer)
        return answered

    def _associate(self, transfers: list[Transfer], entity: _Entity) -> tuple[Association | None, str]:
        """An association that stands, or why there is none."""
        # One context a syntax, each class in its own as well as in the default one: the node then chooses none for us.
        asked = dict.fromkeys((one.sop_class, one.transfer_syntax) for one in transfers)
        plain = dict.fromkeys(
            (kind, ImplicitVRLittleEndian) for kind, syntax in asked if syntax == ExplicitVRLittleEndian
        )
        contexts = [build_context(kind, [syntax]) for kind, syntax in asked | plain][:MOST_CONTEXTS]
        try:
            address = entity.connect(self.host, self.port)
        except OSError as error:
            if entity.watchdog.passed:
                return None, TIME_LIMIT
            return None, "no connection (gaierror)" if isinstance(error, socket.gaierror) else "no connection"
        association = entity.associate(*address, contexts=contexts, ae_title=self.aet)
        if association.is_established:
            return association, ""
        if entity.watchdog.passed:
            return None, TIME_LIMIT
        return None, "rejected by the node" if association.is_rejected else "no connection"


class _Exchange:
    """Stores over an association, and compares what a node answers with what it was asked."""

    def __init__(self, association: Association) -> None:
        self.association = association
        self.number = 0
        self.answers: list[Any] = []
        association.bind(evt.EVT_DIMSE_RECV, self._remember)
        # An association's own thread may take the word that all is over from whoever is about to wait for an answer.
        association.bind(evt.EVT_ABORTED, lambda event: association.dimse.msg_queue.put((None, None)))

    def _remember(self, event: Any) -> None:
        self.answers.append(event.message.command_set)

    def store(self, transfer: Transfer) -> bool:
        """Store one, and record what became of it; False where no answer came."""
        content = transfer.content()
        if content is None:
            return True
        self.number = self.number % 0xFFFF + 1
        self.association.dul.socket.received = 0
        early = len(self.answers) > 0
        try:
            answer = self.association.send_c_store(dcmread(BytesIO(content)), msg_id=self.number)
        except ValueError:  # no presentation context was accepted for it
            transfer.record("refused", "the node accepts neither this class nor this transfer syntax")
            return True
        except (RuntimeError, OSError) as error:
            transfer.record("failed", type(error).__name__)
            return False
        if "Status" not in answer:
            transfer.record("failed", "the connection was cut before the answer")
            _let_go(self.association)  # it may look established for a moment, and wait for the next answer in vain
            return False
        if early or not self._is_about(transfer.uid):
            transfer.record("failed", "the answer is to another message, or names another instance")
            self.association.abort()
            return True
        transfer.record(*meaning(int(answer.Status)))
        return True

    def _is_about(self, uid: str) -> bool:
        """Whether the one answer that came is to the message that was sent (PS3.7 9.3.1.2)."""
        if len(self.answers) != 1:
            return False
        command = self.answers.pop()
        named = str(command.get("AffectedSOPInstanceUID") or uid)
        return bool(command.get("MessageIDBeingRespondedTo") == self.number and named == uid)


class _Entity(AE):  # type: ignore[misc] # pynetdicom is not checked
    """An application entity with one connection, which is watched."""

    def __init__(self, options: Options, watchdog: Watchdog) -> None:
        super().__init__(ae_title=options.calling_aet)
        self.options, self.watchdog = options, watchdog
        self.connection: socket.socket | None = None
        self.association: Association | None = None
        # The watchdog comes first: these start anew with each byte, or with each part of an exchange.
        self.acse_timeout = self.dimse_timeout = self.network_timeout = 1.5 * options.timeout_s

    def connect(self, host: str, port: int) -> tuple[str, int]:
        """Connect, with the TLS handshake, and return the peer's address; `OSError` where that fails."""
        tls = ssl.create_default_context(cafile=self.options.ca) if self.options.tls else None
        self.connection = self.watchdog.connect(host, port)
        if tls is not None:
            self.connection = tls.wrap_socket(self.connection, server_hostname=host.strip("[]"))
        address, number, *_ = self.connection.getpeername()
        return address, number

    def close(self) -> None:
        """End the association's threads, and close the connection."""
        if self.association is not None:
            _let_go(self.association)
            self.watchdog.shut()
            # Neither waits for anything any more.
            if self.association.dul.is_alive():
                self.association.dul.join(self.options.timeout_s)
            if self.association.is_alive():
                self.association.join(self.options.timeout_s)
        if self.connection is not None:
            self.connection.close()

    def _create_socket(self, assoc: Association, address: Any, tls_args: Any) -> AssociationSocket:
        assoc.dul.daemon = True  # a node must not keep this program from ending
        self.association = assoc
        self.watchdog.tell(partial(_let_go, assoc))
        for thread in (assoc, assoc.dul):
            thread.run = partial(_run, thread.run, assoc)
        return _OpenSocket(assoc, address, self.connection)


def _run(run: Callable[[], None], association: Association) -> None:
    """Run a thread of an association to its end; where a node's bytes are none that pynetdicom can read, so ends it."""
    try:
        run()
    except Exception:
        _let_go(association)


def _let_go(association: Association) -> None:
    """End an association, and wake whoever waits for it in pynetdicom, as an abort of the peer would."""
    association.is_established = False
    association._kill = association._is_paused = True
    association._reactor_checkpoint.set()
    association.dul.kill_dul()
    if association.dul.socket is not None:
        association.dul.socket._ready.set()
    association.dul.to_user_queue.put(A_P_ABORT())
    association.dimse.msg_queue.put((None, None))


class _OpenSocket(AssociationSocket):  # type: ignore[misc] # pynetdicom is not checked
    """A connection that stands before its association, and reads no more than an exchange needs."""

    def __init__(self, assoc: Association, address: Any, connection: Any) -> None:
        self.connection = connection
        self.received = 0
        super().__init__(assoc, address=address)

    def _create_socket(self, address: Any) -> Any:
        return self.connection

    def connect(self, primitive: Any) -> None:
        """Tell the state machine that the connection stands (PS3.8 9.2.3, AE-1)."""
        self._is_connected = True
        primitive.result = "Evt2"
        self.provider_queue.put(primitive)
        self._ready.set()

    def recv(self, nr_bytes: int) -> bytearray:
        """Read as `AssociationSocket` does, which would wait for the 4 GiB that a PDU may claim."""
        self.received += nr_bytes
        if self.received > MOST_BYTES:
            raise ConnectionAbortedError("the node's answer is longer than any")
        found: bytearray = super().recv(nr_bytes)
        return found

    def _shutdown_socket(self) -> None:
        """Close it, too, where the peer has gone; `AssociationSocket` leaves it open then."""
        if self.socket is not None:
            with suppress(OSError):
                self.socket.shutdown(socket.SHUT_RDWR)
            self.socket.close()
