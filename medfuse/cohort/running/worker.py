"""Do what a Dask worker does of a cohort: hand a study to a process of its own, and report how that ended."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from distributed import Worker, WorkerPlugin, get_worker
from distributed.system import MEMORY_LIMIT

from medfuse.cohort.running.children import ChildDiedError, RunEndedError, children, threads_said
from medfuse.cohort.running.ledger import Ledger

PLUGIN = "medfuse-cohort"

MEMORY = "medfuse_memory"
"""Dask's name for what a study takes and a worker has: bytes."""


class CohortPlugin(WorkerPlugin):  # type: ignore[misc]
    """Say how much memory a worker has for studies, and start its process for them.

    Parameters
    ----------
    memory
        In bytes; 0 for the worker's own limit.
    threads
        On which each study computes; 0 for what the environment says, and else one.
    """

    name = PLUGIN

    def __init__(self, memory: int = 0, threads: int = 0) -> None:
        self.memory, self.threads = memory, threads

    async def setup(self, worker: Worker) -> None:
        """Tell the scheduler what the worker has."""
        worker.cohort = self
        self.limit = self.memory or worker.memory_manager.memory_limit or MEMORY_LIMIT
        await worker.set_resources(**{MEMORY: float(self.limit)})
        children.start(worker.address, self.computes_on)

    @property
    def computes_on(self) -> int:
        """How many threads a study computes on."""
        return self.threads or threads_said() or 1

    def teardown(self, worker: Worker) -> None:
        """End its processes."""
        children.close(worker.address)


def do(work: str, request: dict[str, Any], again: bool) -> dict[str, Any]:
    """Look at a study or do it, as `medfuse.cohort.study.perform` says; where its process dies, it is ``killed``.

    Where the worker ended it, the answer is ``ended``, and the ledger has no result: the study was interrupted.
    """
    worker = get_worker()
    plugin: CohortPlugin = worker.cohort
    question = {"work": work, "request": request, "again": again}
    try:
        return children.ask(worker.address, plugin.computes_on, question, int(plugin.limit))
    except ChildDiedError as died:
        return {"result": _killed(request, str(died))}
    except RunEndedError:
        return {"ended": True}


def _killed(request: dict[str, Any], cause: str) -> dict[str, Any]:
    line = {"event": "result", "run": request["run"], "study": request["name"], "result": "killed", "message": cause}
    folder = Path(request["out"])
    log = folder / "logs" / f"{request['name']}.fault.log"
    if log.is_file():
        if log.stat().st_size:
            line["log"] = log.relative_to(folder).as_posix()
        else:
            log.unlink(missing_ok=True)
    return dict(Ledger(folder).settle(line))
