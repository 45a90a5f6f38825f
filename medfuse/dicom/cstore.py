"""To a DICOM node by C-STORE (PS3.4 Annex B)."""

from __future__ import annotations

import ssl
from collections.abc import Callable

from pydicom import dcmread
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pynetdicom import AE, build_context
from pynetdicom.association import Association

from medfuse.dicom.send import Options, Parcel

MOST_CONTEXTS = 128
"""An association offers no more (PS3.8 9.3.2.2)."""

DUPLICATE = 0x0111


class StoreCarrier:
    """Opens an association a try, and stores what is open over it."""

    def __init__(self, host: str, port: int, aet: str, options: Options) -> None:
        self.host, self.port, self.aet, self.options = host, port, aet, options

    def carry(self, parcels: list[Parcel], settled: Callable[[Parcel], None]) -> None:
        """Store each parcel; stops where the line is cut, and leaves the rest as failed."""
        for parcel in parcels:
            parcel.settle("failed", "no association")
        association = self._associate(parcels)
        if not association.is_established:
            why = "rejected by the node" if association.is_rejected else "no connection"
            for parcel in parcels:
                parcel.settle("failed", why)
            return
        try:
            for parcel in parcels:
                if not association.is_established:
                    parcel.settle("failed", "the connection was cut")
                    continue
                _store(association, parcel)
                settled(parcel)
        finally:
            if association.is_established:
                association.release()

    def _associate(self, parcels: list[Parcel]) -> Association:
        entity = AE(ae_title=self.options.calling_aet)
        entity.acse_timeout = entity.dimse_timeout = entity.network_timeout = self.options.timeout_s
        entity.connection_timeout = self.options.timeout_s
        # One context a syntax, each class in its own as well as in the default one: the node then chooses none for us.
        asked = dict.fromkeys((one.sop_class, one.transfer_syntax) for one in parcels)
        plain = dict.fromkeys(
            (kind, ImplicitVRLittleEndian) for kind, syntax in asked if syntax == ExplicitVRLittleEndian
        )
        contexts = [build_context(kind, [syntax]) for kind, syntax in asked | plain][:MOST_CONTEXTS]
        tls = None
        if self.options.tls:
            tls = (ssl.create_default_context(cafile=self.options.ca), self.host)
        return entity.associate(self.host, self.port, contexts=contexts, ae_title=self.aet, tls_args=tls)


def _store(association: Association, parcel: Parcel) -> None:
    try:
        answer = association.send_c_store(dcmread(parcel.path))
    except ValueError:  # no presentation context was accepted for it
        parcel.settle("refused", "the node accepts neither this class nor this transfer syntax")
        return
    except (RuntimeError, OSError) as error:
        parcel.settle("failed", type(error).__name__)
        return
    if "Status" not in answer:
        parcel.settle("failed", "the connection was cut before the answer")
        return
    code = int(answer.Status)
    if code == 0:
        parcel.settle("sent")
    elif code == DUPLICATE:
        parcel.settle("sent", "it was there already")
    elif code & 0xF000 == 0xB000:
        parcel.settle("sent", f"with the warning {code:04X}")
    elif code & 0xFF00 == 0xA700:  # out of resources: another time it may have room
        parcel.settle("failed", f"out of resources ({code:04X})")
    else:
        parcel.settle("refused", f"status {code:04X}")
