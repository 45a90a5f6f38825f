"""Give studies to the workers of a Dask cluster, each once, and yield the ledger's line about each as it ends."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any

from distributed import Client, Future, as_completed

from medfuse.cohort.running.children import said_of
from medfuse.cohort.running.ledger import Ledger
from medfuse.cohort.running.request import Request
from medfuse.cohort.running.worker import MEMORY, PLUGIN, CohortPlugin, do
from medfuse.errors import CohortError, ExportError

WORKER_SECONDS = 600
"""How long to wait for a first worker: queues of clusters are slow."""

PAUSE = 0.5
"""Seconds between two questions whether another process is through with a study."""

KNOWN_SECONDS = 5.0
"""How long what was said of the workers holds."""

MOST_ANSWERS_LOST = 3
"""Answers about one study that may be lost with their machines, or be cancelled, before it is given up."""

LOOK, DO = 0, 10
"""Priorities: what can be done is done before others are looked at."""

Line = Mapping[str, Any]


def distribute(
    client: Client, requests: Sequence[Request], ledger: Ledger, *, memory: int = 0, threads: int = 0
) -> Iterator[Line]:
    """Have studies done; their inputs are read, and their results written, by the workers alone.

    Parameters
    ----------
    client
        Of the cluster.
    requests
        What is to be done.
    ledger
        Takes what the workers cannot say themselves.
    memory, threads
        As for `medfuse.cohort.running.worker.CohortPlugin`.

    Raises
    ------
    CohortError
        If no worker comes, or the scheduler is lost.
    ExportError
        If the ledger cannot be written.
    """
    try:
        client.wait_for_workers(1, timeout=WORKER_SECONDS)
    except TimeoutError:
        raise CohortError(
            f"expected a worker within {WORKER_SECONDS // 60} minutes, found none; start workers at the scheduler."
        ) from None
    client.register_plugin(CohortPlugin(memory, threads))
    try:
        yield from _Run(client, requests, ledger).lines()
    finally:
        with suppress(Exception):  # the scheduler may be gone
            client.unregister_worker_plugin(PLUGIN)


class _Run:
    """The studies that are under way."""

    def __init__(self, client: Client, requests: Sequence[Request], ledger: Ledger) -> None:
        self.client, self.ledger = client, ledger
        self.requests = {request.name: request for request in requests}
        self.asked: dict[str, tuple[str, str]] = {}
        """The study and what is done with it, by the key of the task."""
        self.memory, self.known_until = 0.0, 0.0
        self.rounds = 0
        self.again: set[str] = set()
        """Those that another process held: it may have done them in the name of this run."""
        self.answers_lost: Counter[str] = Counter()
        self.pending = as_completed()

    def lines(self) -> Iterator[Line]:
        """The results, as they come."""
        for name in list(self.requests):
            self._submit("look", name)
        for future in self.pending:
            name, work = self.asked.pop(future.key)
            line = self._taken(future, name, work)
            future.release()
            if line is not None:
                del self.requests[name]
                yield line

    def _submit(self, work: str, name: str, *, memory: int = 0, priority: int = LOOK) -> None:
        request = self.requests[name]
        self.rounds += 1
        key = f"{work}-{request.run}-{self.rounds}"
        self.asked[key] = name, work
        self.pending.add(
            self.client.submit(
                do,
                work,
                request.to_dict(),
                name in self.again,
                key=key,
                pure=False,
                priority=priority,
                resources={MEMORY: float(memory)} if memory else None,
            )
        )

    def _taken(self, future: Future, name: str, work: str) -> Line | None:
        """The line that a task's end gives; None where the study goes on."""
        request = self.requests[name]
        if future.status != "finished":
            return self._lost(future, request)
        answer = future.result()
        if "error" in answer:
            raise ExportError(answer["error"])
        if "result" in answer:
            return dict(answer["result"])
        if "ended" in answer:  # its worker was ended, and not the run
            return self._asked_again(request)
        if "busy" in answer:
            self.again.add(name)
            if self.again.issuperset(other for other, _ in self.asked.values()):  # there is nothing else to do
                time.sleep(PAUSE)
            self._submit("look", name, priority=LOOK - 1)
            return None
        self.requests[name] = request.of_modality(answer["modality"])
        most = self._most_memory()
        if answer["memory"] > most:
            return self.ledger.settle(
                {
                    **_result(request, "refused"),
                    "message": f"expected a study of at most {said_of(most)}, which a worker has, found one that takes "
                    f"{said_of(answer['memory'])} by its headers; give workers more (--memory), or take fewer "
                    "(--workers).",
                }
            )
        self._submit("do", name, memory=answer["memory"], priority=DO)
        return None

    def _lost(self, future: Future, request: Request) -> Line | None:
        """The line of a study whose task Dask gave up; None where only the answer was lost, and it is asked again."""
        error = None
        with suppress(Exception):
            error = future.exception(timeout=10)
        if future.status in ("cancelled", "lost") or error is None:
            if self.client.status == "running":  # what had been answered was on a machine that is gone
                return self._asked_again(request)
            raise CohortError(
                "the Dask scheduler was lost, and studies that were under way are open; run the same command again, "
                "which goes on from there."
            )
        if type(error).__name__ == "KilledWorker":
            said = {**_result(request, "killed"), "message": "its Dask worker was lost: killed, or its machine is gone"}
        else:
            kind = type(error).__name__
            said = {
                **_result(request, "failed"),
                "message": f"the worker could not begin it ({kind}); check that it has the same medfuse",
            }
        return self.ledger.settle(said)

    def _asked_again(self, request: Request) -> Line | None:
        """Ask again about a study whose answer was lost; the line that gives it up where that happens too often."""
        self.answers_lost[request.name] += 1
        if self.answers_lost[request.name] > MOST_ANSWERS_LOST:
            message = "its answers were lost, or cancelled, again and again"
            return self.ledger.settle({**_result(request, "killed"), "message": message})
        self.again.add(request.name)
        self._submit("look", request.name)
        return None

    def _most_memory(self) -> float:
        """What the largest worker has; asked now and then, for the answer lists all workers."""
        if time.monotonic() > self.known_until:
            workers = self.client.scheduler_info(n_workers=-1)["workers"].values()
            self.memory = max((float(worker["resources"].get(MEMORY, 0)) for worker in workers), default=0.0)
            self.known_until = time.monotonic() + KNOWN_SECONDS
        return self.memory or float("inf")


def _result(request: Request, result: str) -> dict[str, Any]:
    return {"event": "result", "run": request.run, "study": request.name, "result": result}
