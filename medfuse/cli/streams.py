"""Print to standard output and standard error, also where they are closed, full, or lack characters."""

from __future__ import annotations

import codecs
import errno
import os
import sys
from pathlib import Path
from typing import Any, TextIO, cast

from rich.console import Console

from medfuse.runtime.json_text import json_text

SPELLED = {"×": "x", "→": "->", "·": "-", "–": "-", "…": "...", "°": " deg", "─": "-", "━": "-", "│": "|", "┃": "|"}
"""How characters that medfuse prints are spelled where the terminal lacks them."""

BOX_DRAWING = range(0x2500, 0x2580)


class OutputLost(Exception):  # noqa: N818 - no error of medfuse: results are written, their listing is not
    """Standard output takes no more.

    Parameters
    ----------
    reason
        The system's own words; None where the reader has closed the pipe, which is no fault.
    """

    def __init__(self, reason: str | None) -> None:
        super().__init__(reason)
        self.reason = reason


class _Output:
    """A text stream that raises `OutputLost`, which no code takes for a fault of its own files.

    Parameters
    ----------
    stream
        What is written to.
    silent
        Raise nothing: messages for people are lost, and the exit code stays.
    """

    def __init__(self, stream: TextIO, silent: bool) -> None:
        self._stream, self._silent = stream, silent

    def write(self, text: str) -> int:
        try:
            return self._stream.write(text)
        except (OSError, ValueError) as error:
            return self._lost(error)

    def flush(self) -> None:
        try:
            self._stream.flush()
        except (OSError, ValueError) as error:
            self._lost(error)

    def _lost(self, error: OSError | ValueError) -> int:
        # What is buffered must not fail again as Python ends.
        if isinstance(error, OSError):
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self._stream.fileno())
            os.close(nowhere)
        if self._silent:
            return 0
        closed = isinstance(error, OSError) and error.errno == errno.EPIPE
        raise OutputLost(None if closed else getattr(error, "strerror", None) or "it is closed") from error

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def prepare_streams() -> None:
    """Make the standard streams of this process usable: for a program's start, before anything is printed.

    A stream that is closed becomes one that leads nowhere, so that no file opened later takes its number. Characters
    that the encoding lacks are spelled otherwise, and bytes of file names that are no text are printed as they are.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free, which is this one
    codecs.register_error("medfuse.spelled", _spelled)
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            stream = Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115 - open until the process ends
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="medfuse.spelled")
        setattr(sys, name, cast("TextIO", _Output(stream, silent=name == "stderr")))


def _spelled(error: UnicodeError) -> tuple[str | bytes, int]:
    """Replace one character that an encoding lacks, as an error handler of `codecs`."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    character = error.object[error.start]
    code = ord(character)
    after = error.start + 1
    if 0xDC80 <= code <= 0xDCFF:  # a byte of a file name that is no text (PEP 383)
        return bytes([code - 0xDC00]), after
    replaced = SPELLED.get(character) or ("+" if code in BOX_DRAWING else f"\\u{code:04x}")
    return replaced, after


class _Console(Console):
    """A console whose tables are drawn in what its stream can show."""

    @property
    def encoding(self) -> str:
        return (getattr(self.file, "encoding", None) or "utf-8").lower()


stdout = _Console()
stderr = _Console(stderr=True)


def say(message: str, style: str | None = "red") -> None:
    """Print one sentence for people on standard error, on one line."""
    stderr.print(printable(message), style=style, highlight=False, markup=False, soft_wrap=True)


def printable(text: str) -> str:
    """The text on one line: what a terminal would obey instead of showing is escaped, as are bytes that are no text."""
    return "".join(one if one.isprintable() else one.encode("unicode_escape").decode("ascii") for one in text)


def print_json(found: dict[str, Any]) -> None:
    """Print what a command found as one JSON object; numbers that JSON does not have become null."""
    sys.stdout.write(json_text(found, indent=2) + "\n")
    sys.stdout.flush()
