"""Send an export to an archive, and report the status of every instance.

C-STORE and STOW-RS share the work list, the journal by which a cut transfer is resumed, and the verdict: a series is
sent when the archive has confirmed each of its instances, and not before.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from pydicom import dcmread
from pydicom.misc import is_dicom
from pydicom.uid import MediaStorageDirectoryStorage

from medfuse.archive.transfer import Options, Transfer, Transport
from medfuse.dicom.header import quiet
from medfuse.errors import ExportError, SeriesError, counted
from medfuse.runtime.atomic_output import atomic_file
from medfuse.runtime.exchange import settle_under, without_staged
from medfuse.runtime.progress import Progress

LONGEST_WAIT_S = 30.0


@dataclass(frozen=True)
class Destination:
    """Where to: a DICOM node with its application entity title, or the base URL of a DICOMweb service."""

    text: str
    host: str = ""
    port: int = 0
    aet: str = "ANY-SCP"

    @property
    def web(self) -> bool:
        """Whether it is a DICOMweb service."""
        return not self.host

    @classmethod
    def parse(cls, text: str) -> Destination:
        """Read ``HOST:PORT``, ``HOST:PORT/AET`` or ``http(s)://…``.

        Raises
        ------
        ExportError
            If it is neither.
        """
        if text.startswith(("http://", "https://")):
            parts = urlsplit(text)
            if not parts.hostname or parts.username or parts.password:
                raise ExportError(
                    "expected a DICOMweb address such as https://host/dicom-web, without credentials in it; put them "
                    "into MEDFUSE_DICOMWEB_USER and MEDFUSE_DICOMWEB_PASSWORD, or MEDFUSE_DICOMWEB_TOKEN."
                )
            return cls(text.rstrip("/"))
        node, _, aet = text.partition("/")
        host, _, port = node.rpartition(":")
        if not host or not port.isdigit() or not 0 < int(port) < 65536 or len(aet) > 16:
            raise ExportError(
                f"expected a destination HOST:PORT, HOST:PORT/AET (at most 16 characters) or https://…; found {text!r}."
            )
        return cls(text, host.strip("[]"), int(port), aet or "ANY-SCP")


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
    call goes on where this one ended.

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
        If the destination is none, the extra ``send`` is not installed, or credentials are refused.
    """
    destination = Destination.parse(to)
    options = options or Options()
    if options.ca is not None and not options.ca.is_file():
        raise ExportError(f"there is no file {options.ca} of certificate authorities; check the path.")
    folder = Path(folder)
    delivery = Delivery(destination.text, list(_transfers(folder)))
    journal = _Journal(folder, destination.text)
    done = journal.read()
    for transfer in delivery.transfers:
        if transfer.uid in done:
            transfer.record("sent", "in an earlier run")

    def recorded(transfer: Transfer) -> None:
        if transfer.status == "sent":
            journal.note(transfer.uid)
            if progress:
                progress("send", sum(one.status == "sent" for one in delivery.transfers) / len(delivery.transfers))

    transport = _transport(destination, options)
    with quiet():
        for attempt in range(retries + 1):
            open_ones = [one for one in delivery.transfers if one.status in ("waiting", "failed")]
            if not open_ones:
                break
            if attempt:
                wait(min(2.0 ** (attempt - 1), LONGEST_WAIT_S))
            transport.store(open_ones, recorded)
    if delivery.complete:
        journal.remove()
    return delivery


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
                dataset = dcmread(path)  # to its end: a file that was cut short must not leave
                if dataset.file_meta.get("MediaStorageSOPClassUID") == MediaStorageDirectoryStorage:
                    continue  # an index of files, which archives make for themselves
                uid, kind = str(dataset.SOPInstanceUID), str(dataset.SOPClassUID)
                series, number = str(dataset.SeriesInstanceUID), str(dataset.get("InstanceNumber") or "")
                found.append(Transfer(path, uid, kind, str(dataset.file_meta.TransferSyntaxUID), series, number))
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


class _Journal:
    """What an archive has confirmed, one line an instance; it holds UIDs and the destination, no more."""

    def __init__(self, folder: Path, to: str) -> None:
        self.path = folder.resolve().parent / f".{folder.resolve().name}.sent"
        self.to = to

    def read(self) -> set[str]:
        """UIDs that this destination has confirmed."""
        if not self.path.is_file():
            return set()
        lines = [line.split("\t") for line in self.path.read_text().splitlines()]
        return {line[1] for line in lines if len(line) == 2 and line[0] == self.to}

    def note(self, uid: str) -> None:
        """Add one; a journal that cannot be kept costs the resuming, not the sending."""
        try:
            with self.path.open("a") as stream:
                stream.write(f"{self.to}\t{uid}\n")
        except OSError:
            return

    def remove(self) -> None:
        """Forget this destination; the file goes with the last."""
        if self.path.is_file():
            others = [line for line in self.path.read_text().splitlines() if line.split("\t")[0] != self.to]
            if others:
                with atomic_file(self.path, overwrite=True) as beside:
                    beside.write_text("\n".join(others) + "\n")
            else:
                self.path.unlink()
