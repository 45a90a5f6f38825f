"""Say where the studies of a plan are done: on workers of this machine, or of a Dask scheduler."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from medfuse.errors import CohortError

if TYPE_CHECKING:
    from distributed import Client

SCHEMES = ("", "tcp", "tls", "ucx", "ws", "wss")
"""How addresses of a Dask scheduler may begin, before ``://HOST:PORT``."""


@dataclass(frozen=True)
class Where:
    """Where studies are done.

    Parameters
    ----------
    client
        A Dask client of the caller's, which stays open.
    scheduler
        Address of a Dask scheduler, where no client is given.
    workers
        How many processes on this machine, where neither is given; 0 for as many as cores and memory allow.
    memory
        The most that a worker takes for studies, bytes; 0 for its share of the machine, or for its own limit.
    """

    client: Client | None = None
    scheduler: str = ""
    workers: int = 0
    memory: int = 0

    def __post_init__(self) -> None:
        """Raise `CohortError` where the address of the scheduler is none."""
        scheme, _, rest = self.scheduler.rpartition("://")
        if not self.scheduler or scheme == "inproc":
            return
        try:
            parts = urlsplit(f"//{rest}")
            stated = bool(parts.hostname and parts.port and parts.netloc == rest and " " not in rest)
        except ValueError:  # a port that is no number, or a bracket that is not closed
            stated = False
        if not stated or scheme not in SCHEMES:
            raise CohortError(
                f"expected the address of a Dask scheduler as tcp://HOST:PORT; found {self.scheduler[:60]!r}. The "
                "scheduler prints it when it starts."
            )
