"""Report how far a step is: one protocol for everything that takes a while."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Protocol

from medfuse.runtime.notebook.bars import BARS, notebook_shell


class Progress(Protocol):
    """What is called with the step under way, the share of it that is done, and a note where there is one.

    The steps of a study are ``load``, ``compile`` on a machine's first use, ``align``, ``resample``, ``fuse``,
    ``write``, ``measured``, which writes the partner in its own unit, ``attribute`` and ``report``; those of training
    are ``studies``, ``pretrain`` and ``train``; others are ``phantom``, ``colour``, ``score``, ``send`` and those of a
    benchmark. A share lies from 0 to 1, which ends the step.
    """

    def __call__(self, step: str, share: float, note: str = "") -> None: ...


def silent(step: str, share: float, note: str = "") -> None:
    """Take progress that nobody asks for."""


def told(progress: Progress | None) -> Progress:
    """Who is told of progress: whoever was given, else the notebook that this process runs, else nobody."""
    return progress or (BARS if notebook_shell() is not None else silent)


def step_of(progress: Progress | None, step: str) -> Callable[[float], None]:
    """What takes the share of one step."""
    return partial(told(progress), step)


def part_of(progress: Progress | None, start: float, stop: float, note: str = "") -> Progress:
    """What takes the progress of a part, which is its step's share from ``start`` to ``stop``."""
    own = note

    def tell(step: str, share: float, note: str = "") -> None:
        told(progress)(step, start + (stop - start) * share, note or own)

    return tell
