"""Do studies in a process of its own, which is asked by lines of JSON on standard input and answers on standard output.

The network is loaded and compiled once for all studies. When the process that asks ends, however that comes, standard
input ends, and this one with it.
"""

from __future__ import annotations

import faulthandler
import json
import os
import queue
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any


def main() -> None:
    """Answer requests until standard input ends."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    # What libraries print must not end up among the answers, nor anywhere: it may name a file, and so a patient.
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for number in (1, 2):
        os.dup2(nowhere, number)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the process that asks decides
    with suppress(OSError):
        # Where memory runs out, the system is to end this process, and not the one that tells.
        Path("/proc/self/oom_score_adj").write_text("1000")
    questions: queue.SimpleQueue[str] = queue.SimpleQueue()
    threading.Thread(target=_listen, args=(questions,), daemon=True).start()
    from medfuse.cohort.study import perform  # noqa: F401 - seconds of imports, before the first question comes

    while True:
        question = json.loads(questions.get())
        answers.write(json.dumps(_answer(question)) + "\n")
        answers.flush()


def _listen(questions: queue.SimpleQueue[str]) -> None:
    for line in sys.stdin:
        questions.put(line)
    os._exit(0)


def _answer(question: dict[str, Any]) -> dict[str, Any]:
    from medfuse.cohort.running.request import Request
    from medfuse.cohort.study.perform import look, perform

    request = Request.from_dict(question["request"])
    try:
        if question["work"] == "look":
            return look(request, question["again"])
        with _faults_logged(request.folder / "logs" / f"{request.name}.fault.log"):
            return perform(request, question["again"])
    except Exception as error:  # the ledger cannot be written, or the lock not be taken
        return {"error": str(error) or type(error).__name__}


@contextmanager
def _faults_logged(path: Path) -> Iterator[None]:
    """Where the process is ended by a fault in native code, leave the lines of Python that led there in a file."""
    try:
        path.parent.mkdir(exist_ok=True)
        stream = path.open("w")
    except OSError:
        yield
        return
    with stream:
        faulthandler.enable(stream, all_threads=False)
        try:
            yield
        finally:
            faulthandler.disable()
            path.unlink(missing_ok=True)


if __name__ == "__main__":
    main()
