"""Describe one instance on its way to an archive, and what carries it there."""

from __future__ import annotations

import hashlib
import os
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

from medfuse.errors import ExportError
from medfuse.runtime.output.place import shown

Status = Literal["waiting", "sent", "refused", "failed"]

CALLING_AET = "MEDFUSE"

MOST_SECONDS = 86_400
"""The longest time limit: nobody waits for a day, and threads cannot for much longer than some hundred years."""

TIME_LIMIT = "no answer within the time limit"


@dataclass
class Transfer:
    """One instance on its way. ``failed`` may be tried again; ``refused`` is the archive's last word.

    ``digest`` is the file's SHA-256 when all files were read; what is sent is what was read then.
    """

    path: Path
    uid: str
    sop_class: str
    transfer_syntax: str
    series: str
    number: str
    digest: str
    study: str = ""
    status: Status = "waiting"
    detail: str = ""

    def record(self, status: Status, detail: str = "") -> None:
        """Note what became of it."""
        self.status, self.detail = status, detail

    def content(self) -> bytes | None:
        """The file's bytes; None, and noted as refused, where they are not those that were read before."""
        try:
            content = self.path.read_bytes()
        except OSError as error:
            self.record("refused", f"the file can no longer be read ({type(error).__name__})")
            return None
        if hashlib.sha256(content).hexdigest() != self.digest:
            self.record("refused", "the file was changed while the folder was sent")
            return None
        return content


@dataclass(frozen=True)
class Options:
    """How to reach an archive; ``tls`` and ``ca`` (a PEM file of authorities) concern C-STORE, ``ca`` also https.

    ``timeout_s`` is how long it may take to connect and agree, and then to send one instance and get its answer.
    """

    calling_aet: str = CALLING_AET
    timeout_s: float = 30.0
    tls: bool = False
    ca: Path | None = None

    def __post_init__(self) -> None:
        require_title(self.calling_aet)
        if not 0 < self.timeout_s <= MOST_SECONDS:
            raise ExportError(
                f"expected a time limit above 0 s, and of {MOST_SECONDS} at most; found {self.timeout_s} s."
            )
        if self.ca is not None:
            _require_authorities(self.ca)


class Transport(Protocol):
    """One way to an archive: tries every transfer that waits or failed, and records what became of it.

    May give up where the connection is cut, and does where no answer came for ``patience_s``. `store` returns for how
    many seconds it waited for an answer that did not come; 0 where each was answered.
    """

    def store(self, transfers: list[Transfer], recorded: Callable[[Transfer], None], patience_s: float) -> float: ...


def _require_authorities(path: Path) -> None:
    """Raise `ExportError` where a file holds no certificates, which else looks like a peer that nobody trusts."""
    if not os.path.isfile(path):  # noqa: PTH113 - as for a name that is too long
        raise ExportError(f"there is no file {shown(path)} of certificate authorities; check the path.")
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(path)
    except (OSError, ValueError) as error:
        reason = error.strerror if not isinstance(error, ssl.SSLError) and isinstance(error, OSError) else None
        raise ExportError(
            f"expected a PEM file of certificate authorities; found {shown(path)}, which "
            f"{f'cannot be read: {reason}' if reason else 'holds none'}. Give another file."
        ) from None


def require_title(text: str) -> str:
    """Return an application entity title, or raise `ExportError` where it is none (PS3.5 6.2, AE)."""
    printable = all(" " <= letter <= "~" and letter != "\\" for letter in text)
    if not printable or not text.strip(" ") or len(text) > 16:
        shown = repr(text) if len(text) <= 40 else f"{len(text)} characters"
        raise ExportError(
            "expected an application entity title of 1 to 16 printable ASCII characters without a backslash; found "
            f"{shown}."
        )
    return text
