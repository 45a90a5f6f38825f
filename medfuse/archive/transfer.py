"""Describe one instance on its way to an archive, and what carries it there."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

Status = Literal["waiting", "sent", "refused", "failed"]

CALLING_AET = "MEDFUSE"


@dataclass
class Transfer:
    """One instance on its way. ``failed`` may be tried again; ``refused`` is the archive's last word."""

    path: Path
    uid: str
    sop_class: str
    transfer_syntax: str
    series: str
    number: str
    status: Status = "waiting"
    detail: str = ""

    def record(self, status: Status, detail: str = "") -> None:
        """Note what became of it."""
        self.status, self.detail = status, detail


@dataclass(frozen=True)
class Options:
    """How to reach an archive; ``tls`` and ``ca`` (a PEM file of authorities) concern C-STORE, ``ca`` also https."""

    calling_aet: str = CALLING_AET
    timeout_s: float = 30.0
    tls: bool = False
    ca: Path | None = None


class Transport(Protocol):
    """One way to an archive: tries every transfer that waits or failed, and records what became of it.

    May give up where the connection is cut.
    """

    def store(self, transfers: list[Transfer], recorded: Callable[[Transfer], None]) -> None: ...
