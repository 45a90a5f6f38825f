"""Write a log of an unforeseen error for its report: place in the code, versions, and nothing of a patient."""

from __future__ import annotations

import errno
import linecache
import os
import platform
import sysconfig
import tempfile
import time
from collections.abc import Collection, Iterator, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import TracebackType

from medfuse.runtime.cache_folders import log_folders

MOST_LOGS = 20
"""Older logs than these are deleted."""

MOST_FRAMES = 40
"""Calls that are listed of the outer and of the inner end of a traceback."""

MOST_CAUSES = 8

PACKAGES = (
    *("medfuse", "torch", "monai", "numpy", "scipy", "numba", "pydicom", "nibabel", "SimpleITK", "safetensors"),
    *("pillow", "pyyaml", "rich", "typer", "pynetdicom", "requests"),
)


def write_crash_log(error: BaseException, arguments: Sequence[str], known: Collection[str] = ()) -> Path | None:
    """Write a log of an error that nobody foresaw.

    It holds the kinds of the errors, the lines of code that they passed, the versions of what is installed, and the
    command with its options. Their values and the messages of errors are left out, for they may quote a path, a header
    or a voxel's file, and so a patient; of the system's errors its own words are kept.

    Parameters
    ----------
    error
        What was raised.
    arguments
        Of the command, without its name.
    known
        Arguments, and values of options, that may be repeated: the command's own words.

    Returns
    -------
    Path or None
        The file, which only this user can read; None where no folder takes it. Nothing is raised.
    """
    text = crash_text(error, arguments, known)
    for folder in log_folders():
        try:
            return _write(folder, text)
        except (OSError, ValueError):
            continue
    return None


def crash_text(error: BaseException, arguments: Sequence[str], known: Collection[str] = ()) -> str:
    """What `write_crash_log` writes. Nothing is raised."""
    try:
        return "\n".join([*_head(arguments, known), *_chain(error)]) + "\n"
    except Exception:
        return f"{type(error).__name__}; the log could not be composed\n"


def _write(folder: Path, text: str) -> Path:
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    started = time.strftime("crash-%Y%m%d-%H%M%S-", time.gmtime())
    number, name = tempfile.mkstemp(".log", started, folder)  # readable by this user only
    os.close(number)
    Path(name).write_text(text, encoding="utf-8", errors="backslashreplace")
    for old in sorted(folder.glob("crash-*.log"))[:-MOST_LOGS]:
        old.unlink(missing_ok=True)
    return Path(name)


def _head(arguments: Sequence[str], known: Collection[str]) -> Iterator[str]:
    yield "medfuse met an error that it does not expect."
    yield "Left out, because they may tell who a patient is: values of arguments, paths, and the messages of errors."
    yield ""
    yield f"command: medfuse {' '.join(_without_values(arguments, known))}"
    yield f"time: {time.strftime('%Y-%m-%d %H:%M:%S', time.gmtime())} UTC"
    yield f"python: {platform.python_version()} on {platform.platform()}"
    yield f"packages: {', '.join(_versions())}"


def _without_values(arguments: Sequence[str], known: Collection[str]) -> Iterator[str]:
    """The words that are known; everything else as ``VALUE``."""
    for word in arguments:
        name, equals, value = word.partition("=")
        if equals and name in known:
            yield f"{name}={value if value in known else 'VALUE'}"
        else:
            yield word if word in known else "VALUE"


def _versions() -> Iterator[str]:
    for name in PACKAGES:
        try:
            yield f"{name} {version(name)}"
        except PackageNotFoundError:
            yield f"{name} absent"


def _chain(error: BaseException) -> Iterator[str]:
    """An error and what it arose from, each with its traceback; the first is the last that was raised."""
    current: BaseException | None = error
    seen: set[int] = set()
    while current is not None and id(current) not in seen and len(seen) < MOST_CAUSES:
        yield ""
        kind = f"{type(current).__module__}.{type(current).__qualname__}"
        yield f"{'because of ' if seen else ''}{kind}: {_detail(current)}"
        seen.add(id(current))
        yield from _frames(current.__traceback__)
        current = current.__cause__ or (None if current.__suppress_context__ else current.__context__)


def _detail(error: BaseException) -> str:
    """What of an error's message cannot tell who a patient is."""
    if isinstance(error, OSError) and error.errno is not None and error.errno in errno.errorcode:
        return f"{errno.errorcode[error.errno]}, {os.strerror(error.errno)}"
    if isinstance(error, ImportError) and error.name:
        return f"the module {error.name}"
    if isinstance(error, UnicodeDecodeError):
        return f"{error.encoding} at byte {error.start}"
    if isinstance(error, AttributeError) and isinstance(error.name, str) and error.name.isidentifier():
        return f"the attribute {error.name} of a {type(error.obj).__name__}"
    return "message left out"


def _frames(traceback: TracebackType | None) -> Iterator[str]:
    calls = []
    while traceback is not None:
        calls.append((traceback.tb_frame.f_code, traceback.tb_lineno))
        traceback = traceback.tb_next
    left_out = len(calls) - 2 * MOST_FRAMES
    for place, (code, number) in enumerate(calls):
        if left_out > 0 and MOST_FRAMES <= place < MOST_FRAMES + left_out:
            if place == MOST_FRAMES:
                yield f"  ... {left_out} calls ..."
            continue
        known = _place_of(code.co_filename)
        if known is None:  # somebody's own program: its names and lines are not ours to repeat
            yield "  outside of medfuse and its libraries"
            continue
        yield f"  {known}:{number} in {code.co_name}"
        yield f"    {linecache.getline(code.co_filename, number).strip()}"


def _place_of(file: str) -> str | None:
    """A file's path as its package has it; None where it is of no package that is installed."""
    path, package = Path(file), Path(__file__).parents[1]
    if path.is_relative_to(package):
        return path.relative_to(package.parent).as_posix()
    for name in ("purelib", "platlib", "stdlib"):
        root = sysconfig.get_path(name)
        if path.is_relative_to(root):
            return path.relative_to(root).as_posix()
    return None
