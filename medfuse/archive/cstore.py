"""Send instances to a DICOM node by C-STORE (PS3.4 Annex B)."""

from __future__ import annotations

import ssl
from collections.abc import Callable

from pydicom import dcmread
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pynetdicom import AE, build_context
from pynetdicom.association import Association

from medfuse.archive.transfer import Options, Transfer

MOST_CONTEXTS = 128
"""An association offers no more (PS3.8 9.3.2.2)."""

DUPLICATE = 0x0111


class StoreTransport:
    """Opens an association a try, and stores what is open over it."""

    def __init__(self, host: str, port: int, aet: str, options: Options) -> None:
        self.host, self.port, self.aet, self.options = host, port, aet, options

    def store(self, transfers: list[Transfer], recorded: Callable[[Transfer], None]) -> None:
        """Store each transfer; stops where the connection is lost, and leaves the rest as failed."""
        for transfer in transfers:
            transfer.record("failed", "no association")
        association = self._associate(transfers)
        if not association.is_established:
            why = "rejected by the node" if association.is_rejected else "no connection"
            for transfer in transfers:
                transfer.record("failed", why)
            return
        try:
            for transfer in transfers:
                if not association.is_established:
                    transfer.record("failed", "the connection was cut")
                    continue
                _store(association, transfer)
                recorded(transfer)
        finally:
            if association.is_established:
                association.release()

    def _associate(self, transfers: list[Transfer]) -> Association:
        entity = AE(ae_title=self.options.calling_aet)
        entity.acse_timeout = entity.dimse_timeout = entity.network_timeout = self.options.timeout_s
        entity.connection_timeout = self.options.timeout_s
        # One context a syntax, each class in its own as well as in the default one: the node then chooses none for us.
        asked = dict.fromkeys((one.sop_class, one.transfer_syntax) for one in transfers)
        plain = dict.fromkeys(
            (kind, ImplicitVRLittleEndian) for kind, syntax in asked if syntax == ExplicitVRLittleEndian
        )
        contexts = [build_context(kind, [syntax]) for kind, syntax in asked | plain][:MOST_CONTEXTS]
        tls = None
        if self.options.tls:
            tls = (ssl.create_default_context(cafile=self.options.ca), self.host)
        return entity.associate(self.host, self.port, contexts=contexts, ae_title=self.aet, tls_args=tls)


def _store(association: Association, transfer: Transfer) -> None:
    try:
        answer = association.send_c_store(dcmread(transfer.path))
    except ValueError:  # no presentation context was accepted for it
        transfer.record("refused", "the node accepts neither this class nor this transfer syntax")
        return
    except (RuntimeError, OSError) as error:
        transfer.record("failed", type(error).__name__)
        return
    if "Status" not in answer:
        transfer.record("failed", "the connection was cut before the answer")
        return
    code = int(answer.Status)
    if code == 0:
        transfer.record("sent")
    elif code == DUPLICATE:
        transfer.record("sent", "it was there already")
    elif code & 0xF000 == 0xB000:
        transfer.record("sent", f"with the warning {code:04X}")
    elif code & 0xFF00 == 0xA700:  # out of resources: another time its memory may be free
        transfer.record("failed", f"out of resources ({code:04X})")
    else:
        transfer.record("refused", f"status {code:04X}")
