"""Show how far a cohort is: a table that changes in a terminal, one line a study elsewhere."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol

from rich.live import Live
from rich.table import Table

from medfuse.cli.streams import printable, say, stderr

if TYPE_CHECKING:
    from medfuse.cohort.running.run import Outcome

STYLES = {"done": "green", "skipped": "dim", "refused": "yellow", "failed": "red", "killed": "red"}

SHOWN = 5
"""Studies that are listed under the table: those that ended last and are not done."""


class Under(Protocol):
    """What says which studies are under way."""

    def running(self) -> Sequence[str]: ...


class Shown:
    """What is shown of a run."""

    def __init__(self, total: int, under: Under) -> None:
        self.total, self.under = total, under
        self.ended: list[Outcome] = []
        self.started = time.monotonic()

    def table(self) -> Table:
        """The table as of now."""
        table = Table("outcome", "studies", title=f"{len(self.ended)} of {self.total} studies", title_justify="left")
        for result, count in counted_by_result(self.ended).items():
            table.add_row(result, str(count), style=STYLES[result] if count else "dim")
        running = self.under.running()
        table.add_row("running", f"{len(running)}  {printable(', '.join(running[:3]))}" if running else "0")
        table.add_row("left", f"{self.total - len(self.ended) - len(running)}{self._estimate()}")
        table.add_section()
        for one in [one for one in self.ended if one.message and one.result != "skipped"][-SHOWN:]:
            table.add_row(f"{one.result}", printable(f"{one.study}: {one.message}"), style=STYLES[one.result])
        return table

    def _estimate(self) -> str:
        """How long the rest takes at the pace so far; what was skipped says nothing about it."""
        worked = sum(one.result != "skipped" for one in self.ended)
        left = self.total - len(self.ended)
        if not worked or not left:
            return ""
        seconds = (time.monotonic() - self.started) / worked * left
        return f"  about {seconds / 60:.0f} min" if seconds >= 90 else f"  about {seconds:.0f} s"


def counted_by_result(ended: Sequence[Outcome]) -> Mapping[str, int]:
    """How many there are of each result."""
    return {result: sum(one.result == result for one in ended) for result in STYLES}


@contextmanager
def showing(total: int, under: Under) -> Iterator[Shown]:
    """Show a run on standard error while its outcomes are appended to what is yielded with `tell`."""
    shown = Shown(total, under)
    if not stderr.is_terminal:
        yield shown
        return
    ended = threading.Event()
    with Live(shown.table(), console=stderr, auto_refresh=False, redirect_stdout=False) as live:

        def renew() -> None:
            while not ended.wait(1.0):
                live.update(shown.table(), refresh=True)

        thread = threading.Thread(target=renew, daemon=True)
        thread.start()
        try:
            yield shown
        finally:
            ended.set()
            thread.join()
            live.update(shown.table(), refresh=True)


def tell(shown: Shown, outcome: Outcome) -> None:
    """Take one outcome; where nothing else shows it, print a line."""
    shown.ended.append(outcome)
    if not stderr.is_terminal:
        log = f" (log: {outcome.log})" if outcome.log else ""
        message = f": {outcome.message}" if outcome.message else ""
        say(f"[{len(shown.ended)}/{shown.total}] {outcome.study} {outcome.result}{message}{log}", style=None)
