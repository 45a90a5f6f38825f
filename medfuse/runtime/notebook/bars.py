"""Show in a notebook how far a step is, where nobody else is told."""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass, field
from html import escape
from threading import Lock
from typing import Any

FIRST_SHOWN_S, BETWEEN_S = 0.5, 0.2
"""A step that ends sooner shows nothing; and how often a bar is drawn again, at most."""


def notebook_shell() -> Any:
    """The IPython shell of the notebook kernel that this process is; None in a terminal or a program."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    return shell if hasattr(shell, "kernel") else None


@dataclass
class NotebookBars:
    """One bar for the step under way; it goes when the step ends."""

    step: str = ""
    began: float = 0.0
    drawn: float = 0.0
    handle: Any = None
    lock: Lock = field(default_factory=Lock)

    def __call__(self, step: str, share: float, note: str = "") -> None:
        with self.lock:
            now = time.monotonic()
            if step != self.step:
                self._end()
                self.step, self.began = step, now
            if share >= 1:
                self._end()
            elif now - self.began >= FIRST_SHOWN_S and now - self.drawn >= BETWEEN_S:
                self.drawn = now
                self._draw(share, note)

    def _draw(self, share: float, note: str) -> None:
        from IPython.display import HTML, display

        label = escape(f"{self.step} {note}".strip())
        bar = HTML(f'{label} <progress max="1" value="{share:.3f}" aria-label="{label}"></progress> {share:.0%}')
        if self.handle is None:
            self.handle = display(bar, display_id=True)
        else:
            self.handle.update(bar)

    def _end(self) -> None:
        if self.handle is not None:
            from IPython.display import HTML

            self.handle.update(HTML(""))
        self.step, self.handle = "", None


BARS = NotebookBars()
"""The one of this process: a notebook runs one cell at a time."""
