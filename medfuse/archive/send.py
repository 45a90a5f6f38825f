"""Send an export to an archive, and report the status of every instance.

C-STORE and STOW-RS share the work list, the journal by which a cut transfer is resumed, and the verdict: a series is
sent when the archive has confirmed each of its instances, and not before.
"""

from __future__ import annotations

import hashlib
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Any

from pydicom.misc import is_dicom
from pydicom.uid import MediaStorageDirectoryStorage

from medfuse.archive.destination import Destination
from medfuse.archive.journal import Journal
from medfuse.archive.transfer import Options, Transfer, Transport
from medfuse.dicom.encoding.deflated import read_bounded
from medfuse.dicom.header import quiet
from medfuse.errors import ExportError, SeriesError, counted
from medfuse.runtime.output.exchange import settle_under, without_staged
from medfuse.runtime.progress import Progress

LONGEST_WAIT_S = 30.0

MOST_UNANSWERED = 2.8
"""How many time limits a peer may keep us waiting without an answer, the pauses between included: 3 with all else."""

QUICK_SHARE = 0.1
"""Of the time limit: a peer that refuses or cuts within this is busy, not slow; the pauses then are ours."""


@dataclass
class Delivery:
    """What became of each instance."""

    to: str
    transfers: list[Transfer] = field(default_factory=list)

    @property
    def complete(self) -> bool:
        """Whether the archive has confirmed every instance."""
        return all(one.status == "sent" for one in self.transfers)

    def to_dict(self) -> dict[str, Any]:
        """The same as plain values for JSON, by series and by instance."""
        series: dict[str, dict[str, Any]] = {}
        for uid in dict.fromkeys(one.series for one in self.transfers):
            mine = [one.status for one in self.transfers if one.series == uid]
            arrived = mine.count("sent")
            series[uid] = {"sent": arrived == len(mine), "instances": len(mine), "arrived": arrived}
        kept = ("uid", "series", "number", "status", "detail")
        rows = [{key: value for key, value in asdict(one).items() if key in kept} for one in self.transfers]
        return {"to": self.to, "complete": self.complete, "series": series, "instances": rows}


def send(
    folder: str | Path,
    to: str,
    *,
    retries: int = 3,
    options: Options | None = None,
    progress: Progress | None = None,
    wait: Callable[[float], None] = time.sleep,
) -> Delivery:
    """Send all DICOM files under a folder.

    What was confirmed is noted in a journal beside the folder (``.NAME.sent``), which goes when all is sent; a later
    call goes on where this one ended. Redirects are not followed. Whatever the peer does, no more than three times
    ``options.timeout_s`` pass without an answer from it; the waits between tries come on top.

    Parameters
    ----------
    folder
        An export.
    to
        ``HOST:PORT``, ``HOST:PORT/AET`` for C-STORE, ``https://…`` for STOW-RS.
    retries
        How often what failed is tried again, each time after a longer wait.
    options
        Title, time limit, TLS.
    progress
        Called with the step ``send``: the share of instances confirmed.
    wait
        Called with seconds between tries.

    Returns
    -------
    Delivery
        Look at ``complete``: instances that could not be brought there do not raise.

    Raises
    ------
    SeriesError
        If there is no DICOM file, or one is damaged or doubled: nothing is sent then.
    ExportError
        If the destination is none, the extra ``send`` is not installed, credentials are refused, or the journal was
        changed.
    """
    destination = Destination.parse(to)
    options = options or Options()
    folder = Path(folder)
    delivery = Delivery(destination.text, list(_transfers(folder)))
    journal = Journal(folder, destination.text)
    done = journal.read()
    for transfer in delivery.transfers:
        if done.get(transfer.uid) == transfer.digest:
            transfer.record("sent", "in an earlier run")

    def recorded(transfer: Transfer) -> None:
        if transfer.status == "sent":
            journal.note(transfer.uid, transfer.digest)
            if progress:
                progress("send", sum(one.status == "sent" for one in delivery.transfers) / len(delivery.transfers))

    transport = _transport(destination, options)
    with quiet():
        _store_again(delivery, transport, recorded, retries, options.timeout_s, wait)
    if delivery.complete:
        journal.remove()
    return delivery


def _store_again(
    delivery: Delivery,
    transport: Transport,
    recorded: Callable[[Transfer], None],
    retries: int,
    timeout_s: float,
    wait: Callable[[float], None],
) -> None:
    """Try until all is settled, as often as asked, or until a peer has kept us waiting for too long."""
    unanswered_s, slow = 0.0, False
    for attempt in range(retries + 1):
        open_ones = [one for one in delivery.transfers if one.status in ("waiting", "failed")]
        if not open_ones:
            return
        if attempt:
            pause_s = min(2.0 ** (attempt - 1), LONGEST_WAIT_S)
            unanswered_s += pause_s if slow else 0.0
            if unanswered_s > (MOST_UNANSWERED - QUICK_SHARE) * timeout_s:
                return
            wait(pause_s)
        lost_s = transport.store(open_ones, recorded, MOST_UNANSWERED * timeout_s - unanswered_s)
        unanswered_s += lost_s
        slow = slow or lost_s > QUICK_SHARE * timeout_s


def _transport(destination: Destination, options: Options) -> Transport:
    try:
        if destination.web:
            from medfuse.archive.stow import StowTransport

            return StowTransport(destination.text, options)
        from medfuse.archive.cstore import StoreTransport

        return StoreTransport(destination.host, destination.port, destination.aet, options)
    except ImportError as error:
        raise ExportError(
            f"sending needs {error.name}, which is not installed; install it with: pip install 'medfuse[send]'."
        ) from error


def _transfers(folder: Path) -> Iterator[Transfer]:
    """Every DICOM file under a folder; raises before the first leaves if one cannot be sent as it is."""
    settle_under(folder)
    if not folder.is_dir():
        raise SeriesError(f"there is no folder {folder}; check the path.")
    found = []
    with quiet():
        for path in without_staged(folder, sorted(path for path in folder.rglob("*") if path.is_file())):
            try:
                if not is_dicom(path):
                    continue
                content = path.read_bytes()
                dataset = read_bounded(BytesIO(content))  # to its end: a file that was cut short must not leave
                if dataset.file_meta.get("MediaStorageSOPClassUID") == MediaStorageDirectoryStorage:
                    continue  # an index of files, which archives make for themselves
                uid, kind = str(dataset.SOPInstanceUID), str(dataset.SOPClassUID)
                series, number = str(dataset.SeriesInstanceUID), str(dataset.get("InstanceNumber") or "")
                syntax, digest = str(dataset.file_meta.TransferSyntaxUID), hashlib.sha256(content).hexdigest()
                study = str(dataset.StudyInstanceUID)
                found.append(Transfer(path, uid, kind, syntax, series, number, digest, study))
                if "Rows" in dataset and "PixelData" not in dataset:
                    raise ValueError("no pixels")
            except Exception as error:  # pydicom raises many kinds on hostile bytes
                raise SeriesError(
                    f"a DICOM file in {folder} is damaged or cut short ({type(error).__name__}); nothing was sent. "
                    "Write the export again."
                ) from error
    if not found:
        raise SeriesError(f"expected DICOM files in {folder}, found none; give the folder of an export.")
    doubled = sum(count > 1 for count in Counter(one.uid for one in found).values())
    if doubled:
        raise SeriesError(f"files in {folder} share a SOPInstanceUID ({counted(doubled, 'time')}); nothing was sent.")
    yield from found
